"""Tracking of runs: their record on disk, Weights & Biases and TensorBoard, the HTML report."""

from csrm_plugin.tracking.tensorboard_backend import OptionalTensorboardBackend
from csrm_plugin.tracking.wandb_backend import WSSSWandbBackend

__all__ = ['OptionalTensorboardBackend', 'WSSSWandbBackend']
