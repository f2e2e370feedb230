"""Segmentation pseudo labels from class activation maps."""

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from csrm_plugin.functional.reduction import IGNORE_INDEX
from csrm_plugin.utils import UserError


def check_thresholds(fg_threshold: float, bg_threshold: float) -> None:
    """Raise ``UserError`` unless 0 <= ``bg_threshold`` <= ``fg_threshold`` <= 1."""
    if not 0 <= bg_threshold <= fg_threshold <= 1:
        raise UserError(
            f'`bg_threshold` ({bg_threshold}) must not be above `fg_threshold` ({fg_threshold}), both in 0..1. '
            'Pixels between the two become 255 (uncertain).'
        )


def threshold_cams(cams: np.ndarray, threshold: float) -> np.ndarray:
    """Hard label: argmax of [constant ``threshold`` | ``cams``]; the background (0) wins ties.

    Args:
        cams (np.ndarray): (n, H, W), float, in 0..1: the maps of the picture's own classes.
        threshold (float): Score of the background, in 0..1.

    Returns:
        np.ndarray: (H, W), uint8, 0 for background, i + 1 where ``cams[i]`` wins.
    """
    background = np.full((1, *cams.shape[1:]), threshold, dtype=cams.dtype)
    return np.concatenate([background, cams]).argmax(axis=0).astype(np.uint8)


class LabelRefinement(Protocol):
    """Refines hard labels; :class:`csrm_plugin.refine.DenseCRF` is one."""

    def refine_labels(self, images, labels: list[np.ndarray], num_labels: list[int]) -> list[np.ndarray]:
        """Refine the maps (T, H, W), integer, of each of the pictures (B, H, W, 3), uint8."""


class ScoreRefinement(Protocol):
    """Refines soft scores; :class:`csrm_plugin.refine.PixelAdaptiveRefinement` is one."""

    def refine_scores(self, images, scores: Tensor) -> Tensor:
        """Refine (B, K, H, W), float, each of the K maps for itself, by the pictures (B, H, W, 3), uint8."""


def cam_pseudo_labels(
    images,
    cam_probs,
    labels,
    fg_threshold: float,
    bg_threshold: float,
    crf: LabelRefinement | ScoreRefinement | None = None,
) -> Tensor:
    """Pseudo labels from CAMs with two thresholds and a refinement: Eq. 6 of CSRM (VISAPP 2025), and RML's labels.

    For each picture, a label over background and the picture's own classes is made twice, with ``fg_threshold`` and
    with ``bg_threshold`` as the score of the background, which wins ties. Foreground is where the first says so,
    background where both say background, 255 (uncertain) elsewhere. How the picture is looked at depends on what
    ``crf`` can do:

    - ``refine_labels``, as dCRF: the hard labels are made first and each is refined, as CSRM's released code does it.
      This is NumPy's work, on the CPU. Read literally, Eq. 6 is one soft dCRF that is thresholded afterwards.
    - ``refine_scores``, as pixel-adaptive refinement: the soft scores [``fg_threshold`` | ``bg_threshold`` | CAMs] are
      smoothed, each map for itself, and the hard labels are made afterwards. The whole batch goes through at once, on
      the device of ``cam_probs``, with as many maps as the picture with the most classes needs.

    Args:
        images (Tensor | np.ndarray): (B, H, W, 3), uint8, RGB. Looked at by ``crf`` only; may be None without it.
        cam_probs (Tensor | np.ndarray): (B, C, H, W), float, in 0..1 (Eq. 2); classes without background.
        labels (Tensor | np.ndarray): (B, C), 0/1: the classes of each picture. A picture without any is all background.
        fg_threshold (float): delta_fg, in 0..1.
        bg_threshold (float): delta_bg, in 0..1, at most ``fg_threshold``.
        crf (LabelRefinement | ScoreRefinement, optional): A :class:`csrm_plugin.refine.DenseCRF` or
            :class:`csrm_plugin.refine.PixelAdaptiveRefinement`; None leaves the hard labels as they are.

    Returns:
        Tensor: (B, H, W), int64, on the device of ``cam_probs``; 0 background, c + 1 for class c, 255 uncertain.

    Raises:
        UserError: If the thresholds are out of order or range.
        ValueError: If shapes do not fit.
    """
    check_thresholds(fg_threshold, bg_threshold)
    _check_shapes(images, cam_probs, labels, crf)
    # Equal thresholds give one label map, which is then refined once.
    thresholds = (fg_threshold,) if fg_threshold == bg_threshold else (fg_threshold, bg_threshold)
    if hasattr(crf, 'refine_scores'):
        return _labels_of_refined_scores(images, cam_probs, labels, thresholds, crf)
    return _refined_labels(images, cam_probs, labels, thresholds, crf)


def _check_shapes(images, cam_probs, labels, crf):
    size, label_size = tuple(cam_probs.shape), tuple(labels.shape)
    if len(size) != 4 or label_size != size[:2]:
        raise ValueError(
            f'`cam_probs` must be (B, C, H, W) and `labels` (B, C), but have shapes {size} and {label_size}.'
        )
    if crf is not None and (images is None or tuple(images.shape) != (size[0], *size[2:], 3)):
        raise ValueError(
            f'`images` must be (B, H, W, 3) with the size of `cam_probs` {size}, but has shape '
            f'{None if images is None else tuple(images.shape)}.'
        )


def _refined_labels(images, cam_probs, labels, thresholds, crf) -> Tensor:
    """Threshold first, then refine the hard labels, if at all; (B, H, W)."""
    device = cam_probs.device if isinstance(cam_probs, Tensor) else torch.device('cpu')
    images, cam_probs, labels = (_to_numpy(value) for value in (images, cam_probs, labels))
    own_classes = [np.flatnonzero(row > 0) for row in labels]
    hard = []  # one (1 or 2, H, W) per picture: by fg_threshold, by bg_threshold
    for probs, own in zip(cam_probs, own_classes):
        hard.append(np.stack([threshold_cams(probs[own], threshold) for threshold in thresholds]))
    if crf is not None:
        hard = crf.refine_labels(images, hard, [len(own) + 1 for own in own_classes])

    output = np.empty((len(hard), *cam_probs.shape[2:]), dtype=np.int64)
    for row, maps, own in zip(output, hard, own_classes):
        by_fg, by_bg = maps[0], maps[-1]
        class_ids = np.concatenate([[0], own + 1])
        row[:] = class_ids[by_fg]
        row[(by_fg == 0) & (by_bg != 0)] = IGNORE_INDEX
    return torch.from_numpy(output).to(device)


@torch.no_grad()
def _labels_of_refined_scores(images, cam_probs, labels, thresholds, refinement) -> Tensor:
    """Refine the soft scores first, then threshold; (B, H, W)."""
    cams, labels, images = (_to_tensor(value) for value in (cam_probs, labels, images))
    own = labels.to(cams.device) > 0
    most = int(own.sum(dim=1).max()) if own.numel() else 0
    if most == 0:
        return torch.zeros((len(cams), *cams.shape[2:]), dtype=torch.int64, device=cams.device)
    # Each picture's own classes in their order; pictures with fewer are filled up with maps of zeros, which never win.
    classes = own.byte().sort(dim=1, descending=True, stable=True).indices[:, :most]
    present = own.gather(1, classes)
    cams = cams.gather(1, classes[..., None, None].expand(-1, -1, *cams.shape[2:]))
    cams = cams.masked_fill(~present[..., None, None], 0)
    # In the precision of the CAMs, so that a CAM equal to a threshold is a tie.
    backgrounds = [torch.full_like(cams[:, :1], threshold) for threshold in thresholds]
    scores = torch.cat([*backgrounds, cams], dim=1)
    scores = scores if scores.dtype == torch.float64 else scores.float()
    scores = refinement.refine_scores(images.to(cams.device), scores)

    best, winners = scores[:, len(thresholds) :].max(dim=1)
    class_ids = (classes + 1)[..., None, None].expand(-1, -1, *cams.shape[2:]).gather(1, winners[:, None])[:, 0]
    uncertain = class_ids.new_full((), IGNORE_INDEX)
    below_fg = torch.where(best > scores[:, len(thresholds) - 1], uncertain, 0)
    return torch.where(best > scores[:, 0], class_ids, below_fg)


def _to_numpy(value):
    if not isinstance(value, Tensor):
        return value
    value = value.detach().cpu()
    return (value.float() if value.dtype == torch.bfloat16 else value).numpy()  # NumPy has no bfloat16


def _to_tensor(value) -> Tensor:
    # PyTorch takes neither mirrored arrays nor, without a warning, read-only ones.
    return value if isinstance(value, Tensor) else torch.from_numpy(np.require(value, requirements='CW'))
