"""Refinement of soft maps by the picture, without a graph over all pixels: pixel-adaptive refinement (PAR)."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from csrm_plugin.utils import UserError

DILATIONS = (1, 2, 4, 8, 12, 24)

#: Of the eight neighbours at distance 1: rows down, columns to the right.
_DIRECTIONS = tuple((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx)
#: Keeps the quotient finite where all neighbours have one colour.
_EPS = 1e-8


def check_refinement(dilations: object, iterations: object, bandwidth: object, position_weight: object) -> None:
    """Raise ``UserError`` unless these are settings of :func:`pixel_adaptive_refinement`.

    Example:
        >>> check_refinement((1, 2), iterations=10, bandwidth=0.3, position_weight=0.01)
        >>> check_refinement((1, 2), iterations=-1, bandwidth=0.3, position_weight=0.01)
        Traceback (most recent call last):
            ...
        csrm_plugin.utils.errors.UserError: `iterations` must be a whole number of at least 0, but is -1.
    """
    is_list = isinstance(dilations, Sequence) and not isinstance(dilations, str) and len(dilations)
    if not is_list or any(not _is_whole(dilation) or dilation < 1 for dilation in dilations):
        raise UserError(
            f'`dilations` must be a list of whole numbers of pixels, each at least 1, but is {dilations!r}.'
        )
    if not _is_whole(iterations) or iterations < 0:
        raise UserError(f'`iterations` must be a whole number of at least 0, but is {iterations!r}.')
    if not _is_real(bandwidth) or not 0 < bandwidth < math.inf:
        raise UserError(f'`bandwidth` must be a number above 0, but is {bandwidth!r}.')
    if not _is_real(position_weight) or not 0 <= position_weight < math.inf:
        raise UserError(f'`position_weight` must be a number of at least 0, but is {position_weight!r}.')


@torch.no_grad()
def pixel_adaptive_refinement(
    images: np.ndarray | Tensor,
    masks: np.ndarray | Tensor,
    dilations: Sequence[int] = DILATIONS,
    iterations: int = 10,
    bandwidth: float = 0.3,
    position_weight: float = 0.01,
) -> np.ndarray | Tensor:
    """Smooth masks within what has one colour: PAR of AFA (Ru et al., CVPR 2022, https://arxiv.org/abs/2203.02664).

    In each iteration a pixel takes the weighted sum of its neighbours' values; a pixel's neighbours n are the eight
    around it at each dilation, those outside the picture being the nearest pixel at the border. The weights do not
    change between iterations::

        weight = softmax_n(-mean_c((|I_n - I| / (bandwidth * std_n(I_n)))^2))
                 + position_weight * softmax_n(-(distance_n / (bandwidth * std_n(distance)))^2)

    with the colour I per channel c, standard deviations over the neighbours (unbiased, plus 1e-8) and distances in
    pixels (the dilation, times sqrt 2 on diagonals). Weights sum to 1 + ``position_weight``, so each iteration
    multiplies a constant mask by that.

    Works in float32, or float64 where the masks are, without gradients. Beside the weights, eight per dilation and
    pixel (of one picture at a time on the CPU), it needs memory for a few copies of pictures and masks only.

    Args:
        images (Tensor | np.ndarray): (B, 3, H, W), uint8 or float, in 0..255; H and W of at least 1.
        masks (Tensor | np.ndarray): (B, K, h, w), float (others become float32): scores of any range. Resized to
            (H, W) first, bilinearly with aligned corners.
        dilations (Sequence[int]): Distances to the neighbours in pixels, each at least 1.
        iterations (int): At least 0.
        bandwidth (float): w1, above 0: width of both kernels in standard deviations.
        position_weight (float): w2, at least 0: weight of the kernel over distances.

    Returns:
        Tensor | np.ndarray: (B, K, H, W) of the dtype of ``masks``; a tensor on their device if they are one.

    Raises:
        UserError: If a setting is out of range.
        ValueError: If shapes do not fit.

    Example:
        >>> masks = torch.tensor([[[[0.0, 1.0, 1.0, 1.0]]]])
        >>> images = torch.tensor([[[[0, 0, 255, 255]]]]).expand(1, 3, 1, 4)
        >>> pixel_adaptive_refinement(images, masks, dilations=(1,), iterations=1, position_weight=0)
        tensor([[[[0.3750, 0.4000, 1.0000, 1.0000]]]])
    """
    check_refinement(dilations, iterations, bandwidth, position_weight)
    dilations = tuple(dilations)
    scores = _to_tensor(masks)
    dtype = torch.float64 if scores.dtype == torch.float64 else torch.float32
    given, scores = scores.dtype, scores.to(dtype)
    images = _to_tensor(images).to(scores.device, dtype).contiguous()  # pictures often come as (B, H, W, 3), permuted
    _check_shapes(images, scores)

    if scores.shape[2:] != images.shape[2:]:
        scores = torch.nn.functional.interpolate(scores, images.shape[2:], mode='bilinear', align_corners=True)
    if iterations and scores.numel():
        # What a CPU's cache holds of one picture it does not hold of a batch; a GPU wants much work at once.
        size = 1 if scores.device.type == 'cpu' else len(scores)
        parts = zip(images.split(size), scores.split(size))
        scores = torch.cat([_refine(*part, dilations, iterations, bandwidth, position_weight) for part in parts])
    scores = scores.to(given) if given.is_floating_point else scores
    return scores if isinstance(masks, Tensor) else scores.numpy()


def _refine(images: Tensor, scores: Tensor, dilations, iterations, bandwidth, position_weight) -> Tensor:
    """Scores (B, K, H, W) after all iterations, by pictures (B, 3, H, W) of the same dtype."""
    weights = _colour_weights(images, dilations, bandwidth)
    weights += position_weight * _position_weights(dilations, bandwidth).to(weights)[:, None, None]
    for _ in range(iterations):
        scores = _weighted_sum(scores, weights, dilations)
    return scores


def _colour_weights(images: Tensor, dilations, bandwidth) -> Tensor:
    """Softmax over the N neighbours of their likeness to the pixel in (B, 3, H, W), as (B, N, H, W)."""
    count = len(_DIRECTIONS) * len(dilations)
    padded = _pad(images, dilations)
    # Two passes over differences to the pixel: sums of colours or of squares would round off what is nearly equal.
    mean, square = torch.zeros_like(images), torch.zeros_like(images)
    for neighbour in _neighbours(padded, dilations):
        mean += neighbour - images
    mean /= count
    for neighbour in _neighbours(padded, dilations):
        difference = (neighbour - images).sub_(mean)
        square.addcmul_(difference, difference)
    scale = square.div_(count - 1).sqrt_().add_(_EPS).mul_(bandwidth)

    weights = images.new_empty(len(images), count, *images.shape[2:])
    for index, neighbour in enumerate(_neighbours(padded, dilations)):
        torch.mean(neighbour.sub(images).div_(scale).square_(), dim=1, out=weights[:, index])
    weights.neg_()
    # `softmax` would hold the largest of all tensors twice.
    weights -= weights.amax(dim=1, keepdim=True)
    weights.exp_()
    weights /= weights.sum(dim=1, keepdim=True)
    return weights


def _position_weights(dilations, bandwidth) -> Tensor:
    """Softmax over the N neighbours of their nearness, (N,), float64, on the CPU."""
    distances = [dilation * math.hypot(*direction) for dilation in dilations for direction in _DIRECTIONS]
    distances = torch.tensor(distances, dtype=torch.float64)
    scaled = distances / (bandwidth * (distances.std() + _EPS))
    return (-scaled.square()).softmax(dim=0)


def _weighted_sum(scores: Tensor, weights: Tensor, dilations) -> Tensor:
    """Sum over the neighbours of (B, K, H, W), weighted by (B, N, H, W)."""
    total = torch.zeros_like(scores)
    for index, neighbour in enumerate(_neighbours(_pad(scores, dilations), dilations)):
        total.addcmul_(neighbour, weights[:, index : index + 1])
    return total


def _pad(maps: Tensor, dilations) -> Tensor:
    return torch.nn.functional.pad(maps, (max(dilations),) * 4, mode='replicate')


def _neighbours(padded: Tensor, dilations) -> Iterator[Tensor]:
    """Views (B, X, H, W) of what :func:`_pad` gave, each shifted to one of the neighbours."""
    reach = max(dilations)
    height, width = (length - 2 * reach for length in padded.shape[2:])
    for dilation in dilations:
        for dy, dx in _DIRECTIONS:
            top, left = reach + dy * dilation, reach + dx * dilation
            yield padded[..., top : top + height, left : left + width]


def _check_shapes(images, masks) -> None:
    if images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape[2:]:
        raise ValueError(f'`images` must be (B, 3, H, W), but has shape {tuple(images.shape)}.')
    if masks.ndim != 4 or len(masks) != len(images) or 0 in masks.shape[2:]:
        raise ValueError(
            f'`masks` must be (B, K, h, w) with B = {len(images)} as `images`, but has shape {tuple(masks.shape)}.'
        )


def _to_tensor(value) -> Tensor:
    # PyTorch takes neither mirrored arrays nor, without a warning, read-only ones.
    return value if isinstance(value, Tensor) else torch.from_numpy(np.require(value, requirements='CW'))


def _is_whole(value) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _is_real(value) -> bool:
    return _is_whole(value) or isinstance(value, (float, np.floating))
