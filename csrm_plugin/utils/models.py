"""What is the same for every model."""

import torch
from torch import nn


def unwrap(model: nn.Module) -> nn.Module:
    """The model itself, without DistributedDataParallel or test-time augmentation around it."""
    while hasattr(model, 'module'):
        model = model.module
    return model


def suit_memory_format(model: nn.Module) -> nn.Module:
    """On a CPU, lay out convolutions channels-last, which MobileNets and ResNets run a quarter to a half faster in.

    In place; sums are taken in another order, so results move by the rounding of float32. Elsewhere nothing happens:
    whether it helps a GPU depends on the network and the precision.
    """
    if all(parameter.device.type == 'cpu' for parameter in model.parameters()):
        model.to(memory_format=torch.channels_last)
    return model
