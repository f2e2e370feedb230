"""What a run leaves behind: its record on disk, Weights & Biases, TensorBoard."""

from csrm_plugin.tracking.tensorboard_backend import OptionalTensorboardBackend
from csrm_plugin.tracking.wandb_backend import WSSSWandbBackend

__all__ = ['OptionalTensorboardBackend', 'WSSSWandbBackend']
