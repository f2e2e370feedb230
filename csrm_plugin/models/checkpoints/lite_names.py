"""Key names of EfficientNet-Lite in its PyTorch port, and how they map to timm's ``tf_efficientnet_lite0`` to `4`.

The port numbers its blocks from the first to the last, ``_blocks.5._project_conv.weight``, where timm counts within
stages, ``blocks.3.0.conv_pwl.weight``. The blocks of a stage have the same number of output channels, and another one
than those of the stage before, so that the tensors themselves tell where a stage begins. The first block does not
expand its channels: there timm has other names for the same layers.
"""

import re
from collections.abc import Container, Mapping

from torch import Tensor

#: Layers outside the blocks -> timm's.
_OUTSIDE = {
    '_conv_stem': 'conv_stem',
    '_bn0': 'bn1',
    '_conv_head': 'conv_head',
    '_bn1': 'bn2',
    '_fc': 'classifier',
}
#: Layers of a block -> timm's.
_BLOCK = {
    '_expand_conv': 'conv_pw',
    '_bn0': 'bn1',
    '_depthwise_conv': 'conv_dw',
    '_bn1': 'bn2',
    '_project_conv': 'conv_pwl',
    '_bn2': 'bn3',
}
#: Layers of a block without ``_expand_conv`` -> timm's.
_NARROW_BLOCK = {'_depthwise_conv': 'conv_dw', '_bn1': 'bn1', '_project_conv': 'conv_pw', '_bn2': 'bn2'}

_BLOCK_KEY = re.compile(r'_blocks\.(\d+)\.(\w+)\.(\w+)')


def has_lite_names(keys: Container[str]) -> bool:
    """Whether ``keys`` are those of an EfficientNet-Lite; the larger EfficientNets also have layers for attention."""
    wanted = '_conv_stem.weight', '_blocks.0._depthwise_conv.weight', '_blocks.1._expand_conv.weight'
    return all(key in keys for key in wanted) and '_blocks.0._se_reduce.weight' not in keys


def rename(state_dict: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str], dict[str, str]]:
    """Map an EfficientNet-Lite to timm's names.

    Args:
        state_dict (dict[str, Tensor]): Of a whole checkpoint, see :func:`has_lite_names`.

    Returns:
        tuple[dict[str, Tensor], dict[str, str], dict[str, str]]: The network with its classifier under timm's names;
        those names to the source's; source keys without a counterpart to the reason.
    """
    tensors, mapped, dropped = {}, {}, {}
    places = _places(state_dict)
    for key, tensor in state_dict.items():
        target = _timm_name(key, places, state_dict)
        if target is None:
            dropped[key] = 'unknown'
        else:
            tensors[target], mapped[target] = tensor, key
    return tensors, mapped, dropped


def _places(state_dict):
    """Number of each block -> its stage, and its number there."""
    places, stage, index, width = {}, -1, 0, None
    while (weight := state_dict.get(f'_blocks.{len(places)}._project_conv.weight')) is not None:
        stage, index = (stage, index + 1) if weight.shape[0] == width else (stage + 1, 0)
        width = weight.shape[0]
        places[len(places)] = stage, index
    return places


def _timm_name(key, places, state_dict):
    """The name of a tensor in timm, or None."""
    block = _BLOCK_KEY.fullmatch(key)
    if block is None:
        layer, _, kind = key.rpartition('.')
        return f'{_OUTSIDE[layer]}.{kind}' if layer in _OUTSIDE else None
    number, layer, kind = int(block[1]), block[2], block[3]
    layers = _BLOCK if f'_blocks.{number}._expand_conv.weight' in state_dict else _NARROW_BLOCK
    if number not in places or layer not in layers:
        return None
    stage, index = places[number]
    return f'blocks.{stage}.{index}.{layers[layer]}.{kind}'
