"""Tracking of runs: their record on disk, Weights & Biases and TensorBoard, the HTML report."""
