"""Tracking of runs: their record on disk, Weights & Biases and TensorBoard, the HTML report."""

from .tensorboard_backend import OptionalTensorboardBackend
from .wandb_backend import WSSSWandbBackend

__all__ = ['OptionalTensorboardBackend', 'WSSSWandbBackend']
