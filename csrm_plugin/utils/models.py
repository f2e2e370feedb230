"""What is the same for every model."""

from torch import nn


def unwrap(model: nn.Module) -> nn.Module:
    """The model itself, without DistributedDataParallel or test-time augmentation around it."""
    while hasattr(model, 'module'):
        model = model.module
    return model
