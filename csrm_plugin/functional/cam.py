"""Class activation maps (CAM) as probabilities."""

import torch
import torch.nn.functional as F
from torch import Tensor

from csrm_plugin.functional.reduction import full_precision


def normalize_cam(
    cam: Tensor, size: tuple[int, int] | None = None, labels: Tensor | None = None, align_corners: bool = False
) -> Tensor:
    """Turn class activation maps into maps of 0..1: upscale, ReLU, divide by each map's own maximum.

    Eq. 2 of CSRM (VISAPP 2025). A map without a positive value stays zero.

    Args:
        cam (Tensor): (B, C, h, w), float, any range; no background class.
        size (tuple[int, int], optional): Height and width (H, W) in pixels to upscale to, bilinearly, before the
            division. Defaults to (h, w).
        labels (Tensor, optional): (B, C), 0/1. The maps of absent classes are set to zero.
        align_corners (bool): As in :func:`torch.nn.functional.interpolate`.

    Returns:
        Tensor: (B, C, H, W), float32 (float64 for float64), in 0..1.

    Example:
        >>> normalize_cam(torch.tensor([[[[-1., 2.], [4., 0.]]]]))
        tensor([[[[0.0000, 0.5000],
                  [1.0000, 0.0000]]]])
    """
    if cam.ndim != 4:
        raise ValueError(f'`cam` must be (B, C, h, w), but has shape {tuple(cam.shape)}.')
    cam = full_precision(cam)
    if size is not None and tuple(size) != tuple(cam.shape[2:]):
        cam = F.interpolate(cam, tuple(size), mode='bilinear', align_corners=align_corners)
    cam = cam.relu()
    peak = cam.amax(dim=(2, 3), keepdim=True)
    # Not a tiny number in place of zero: its reciprocal would make the gradient NaN.
    cam = cam / torch.where(peak > 0, peak, torch.ones_like(peak))
    if labels is not None:
        if labels.shape != cam.shape[:2]:
            raise ValueError(f'`labels` must be (B, C) = {tuple(cam.shape[:2])}, but has shape {tuple(labels.shape)}.')
        # `where`, not a product: the map of an absent class may hold infinities.
        cam = torch.where(labels.to(cam.device)[:, :, None, None] > 0, cam, cam.new_zeros(()))
    return cam


def relative_cam(cam: Tensor, labels: Tensor) -> Tensor:
    """CAMs in units of their own maximum, for losses: what :func:`normalize_cam` gives where it is positive.

    The maximum that a map is divided by is a constant, and at least 1, or a map that is zero almost everywhere would
    get a gradient without bound. There is no ReLU: where a map is negative, it still gets a gradient.

    Args:
        cam (Tensor): (B, C, h, w), float, before ReLU.
        labels (Tensor): (B, C), 0/1. The maps of absent classes are set to zero.

    Returns:
        Tensor: (B, C, h, w), float32 (float64 for float64), at most 1.

    Example:
        >>> relative_cam(torch.tensor([[[[4.0, -1.0]], [[0.5, 0.1]]]]), labels=torch.tensor([[1, 1]]))[0, :, 0]
        tensor([[ 1.0000, -0.2500],
                [ 0.5000,  0.1000]])
    """
    # `where`, not a product: the map of an absent class may hold infinities.
    cam = full_precision(cam)
    cam = torch.where((labels > 0).to(cam.device)[:, :, None, None], cam, cam.new_zeros(()))
    return cam / cam.detach().amax(dim=(2, 3), keepdim=True).clamp(min=1)
