"""Other sizes of pictures, maps and masks."""

import torch
import torch.nn.functional as F
from torch import Tensor

from csrm_plugin.functional.reduction import full_precision


def upscale(maps: Tensor, size: tuple[int, int] | None, align_corners: bool = False) -> Tensor:
    """Resize maps (B, X, h, w), float, to ``size`` (H, W), bilinearly, in float32 (float64 for float64).

    Example:
        >>> import torch
        >>> upscale(torch.tensor([[[[0.0, 1.0]]]]), (1, 4))
        tensor([[[[0.0000, 0.2500, 0.7500, 1.0000]]]])
    """
    maps = full_precision(maps)
    if size is None or tuple(maps.shape[2:]) == tuple(size):
        return maps
    if maps.shape[1] == 0:  # no picture of the batch has a class; torch refuses to interpolate nothing
        return maps.new_zeros((*maps.shape[:2], *size))
    return F.interpolate(maps, tuple(size), mode='bilinear', align_corners=align_corners)


def shrink_nearest(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize maps (B, H, W) of labels or a mask, of any dtype, to ``size`` (h, w) with nearest neighbours.

    Example:
        >>> import torch
        >>> shrink_nearest(torch.tensor([[[1, 1, 2, 255]]]), (1, 2))
        tensor([[[1, 2]]])
    """
    if tuple(maps.shape[1:]) == tuple(size):
        return maps
    return F.interpolate(maps[:, None].float(), tuple(size), mode='nearest')[:, 0].to(maps.dtype)


def shrink(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize (B, X, H, W), float or bool, to ``size`` (h, w) by the mean of the area that each position covers.

    What :func:`torch.nn.functional.interpolate` does with ``mode='area'``, whose backward pass on CUDA is not
    deterministic. float32 (float64 for float64), within autocast too.

    Example:
        >>> shrink(torch.tensor([[[[1.0, 3.0]]]]), size=(1, 1))
        tensor([[[[2.]]]])
    """
    maps = full_precision(maps)
    if tuple(maps.shape[2:]) == tuple(size):
        return maps
    rows, columns = (area_means(*lengths).to(maps) for lengths in zip(maps.shape[2:], size))
    with torch.autocast(maps.device.type, enabled=False):
        return rows @ (maps @ columns.T)


def area_means(length: int, new_length: int) -> Tensor:
    """Weights (``new_length``, ``length``), float64, that take the mean of what each new position touches."""
    new, old = torch.arange(new_length)[:, None], torch.arange(length)
    touched = (old >= new * length // new_length) & (old * new_length < (new + 1) * length)
    return touched / touched.sum(dim=1, keepdim=True, dtype=torch.float64)


def inside(valid: Tensor, size: tuple[int, int]) -> Tensor:
    """Positions (B, h, w), bool, of which at least half is no padding; ``valid`` is (B, H, W), bool.

    Of a picture smaller than half a position, those that it covers most: each picture has some.

    Example:
        >>> import torch
        >>> inside(torch.tensor([[[True, True, True, False, False, False]]]), (1, 3))
        tensor([[[ True,  True, False]]])
    """
    shares = shrink(valid[:, None].float(), tuple(size))[:, 0]
    return shares >= shares.amax(dim=(1, 2), keepdim=True).clamp(max=0.5)


def masked(maps: Tensor, valid: Tensor) -> Tensor:
    """``maps`` (B, X, h, w) with zeros where ``valid`` (B, h, w), bool, does not hold.

    Example:
        >>> import torch
        >>> masked(torch.tensor([[[[3.0, 4.0]]]]), torch.tensor([[[True, False]]]))
        tensor([[[[3., 0.]]]])
    """
    return maps.masked_fill(~valid[:, None], 0)


def scale_pictures(pictures: Tensor, scale: float) -> Tensor:
    """Resize (B, 3, H, W), float, to ``scale`` times its size, rounded: edge upon edge, so that maps of all scales fit.

    Example:
        >>> import torch
        >>> scale_pictures(torch.zeros(1, 3, 10, 15), 0.5).shape
        torch.Size([1, 3, 5, 8])
    """
    size = tuple(max(round(length * scale), 1) for length in pictures.shape[2:])
    return F.interpolate(pictures, size, mode='bilinear', align_corners=False)
