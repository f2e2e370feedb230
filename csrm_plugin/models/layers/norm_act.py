"""Batch norm layers that are activations as well, put apart."""

from collections import OrderedDict

from torch import nn


def split_norm_act(network: nn.Module) -> None:
    """Replace each batch norm layer that also activates by a norm, ``norm``, and what comes after it, in place.

    The layers of timm are a ``BatchNorm2d`` with an activation in it. Whatever turns batch norm into SyncBN or back
    (MMEngine's Runner does, and torch) puts a plain layer in its place, and the activation is gone without a word.

    Args:
        network (nn.Module): It computes the same afterwards, with the same parameters. The name of one of them goes
            from ``bn1.weight`` to ``bn1.norm.weight``.

    Example:
        >>> layer = nn.BatchNorm2d(2)
        >>> layer.act = nn.ReLU()
        >>> network = nn.Sequential(layer)
        >>> split_norm_act(network)
        >>> [type(module).__name__ for module in network[0]]
        ['BatchNorm2d', 'ReLU']
    """
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d) and isinstance(getattr(child, 'act', None), nn.Module):
                after = [(key, getattr(child, key)) for key in ('drop', 'act') if hasattr(child, key)]
                setattr(parent, name, nn.Sequential(OrderedDict([('norm', _plain(child)), *after])))


def _plain(layer: nn.BatchNorm2d) -> nn.BatchNorm2d:
    """The norm alone, with the same parameters and statistics."""
    norm = nn.BatchNorm2d(layer.num_features, layer.eps, layer.momentum, layer.affine, layer.track_running_stats)
    norm.weight, norm.bias = layer.weight, layer.bias
    norm.running_mean, norm.running_var = layer.running_mean, layer.running_var
    norm.num_batches_tracked, norm.training = layer.num_batches_tracked, layer.training
    return norm
