"""Segmentation pseudo labels from class activation maps."""

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from csrm_plugin.utils import IGNORE_INDEX, UserError


def check_thresholds(fg_threshold: float, bg_threshold: float) -> None:
    """Raise ``UserError`` unless 0 <= ``bg_threshold`` <= ``fg_threshold`` <= 1.

    Example:
        >>> check_thresholds(fg_threshold=0.5, bg_threshold=0.3)
        >>> check_thresholds(fg_threshold=0.3, bg_threshold=0.5)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        csrm_plugin.utils.errors.UserError: `bg_threshold` (0.5) must not be above `fg_threshold` (0.3), ...
    """
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

    Example:
        >>> threshold_cams(np.array([[[0.9, 0.3, 0.1]], [[0.2, 0.5, 0.0]]]), threshold=0.4)
        array([[1, 2, 0]], dtype=uint8)
    """
    background = np.full((1, *cams.shape[1:]), threshold, dtype=cams.dtype)
    return np.concatenate([background, cams]).argmax(axis=0).astype(np.uint8)


class LabelRefinement(Protocol):
    """Refines hard labels; :class:`csrm_plugin.refine.DenseCRF` is one."""

    def refine_labels(
        self, images: np.ndarray | Tensor, labels: list[np.ndarray], num_labels: list[int]
    ) -> list[np.ndarray]:
        """Refine the maps (T, H, W), integer, of each of the pictures (B, H, W, 3), uint8."""


class ScoreRefinement(Protocol):
    """Refines soft scores; :class:`csrm_plugin.refine.PixelAdaptiveRefinement` is one."""

    def refine_scores(self, images: np.ndarray | Tensor, scores: Tensor) -> Tensor:
        """Refine (B, K, H, W), float, each of the K maps for itself, by the pictures (B, H, W, 3), uint8."""


def cam_pseudo_labels(
    images: np.ndarray | Tensor | None,
    cam_probs: np.ndarray | Tensor,
    labels: np.ndarray | Tensor,
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

    Example:
        >>> cam_probs = torch.tensor([[[[0.9, 0.4, 0.1]], [[1.0, 1.0, 1.0]]]])
        >>> cam_pseudo_labels(None, cam_probs, labels=torch.tensor([[1, 0]]), fg_threshold=0.5, bg_threshold=0.3)
        tensor([[[  1, 255,   0]]])
    """
    _check_shapes(images, cam_probs, labels, crf)
    cams, labels = _to_tensor(cam_probs), _to_tensor(labels).to(_to_tensor(cam_probs).device)
    classes, present = own_classes(labels)
    own = gather_classes(cams, classes).masked_fill(~present[..., None, None], 0)
    return own_class_pseudo_labels(images, own, classes, present, fg_threshold, bg_threshold, crf)


def own_classes(labels: Tensor) -> tuple[Tensor, Tensor]:
    """The classes of each picture, in ascending order, as one table for the batch.

    Args:
        labels (Tensor): (B, C), 0/1: image-level labels.

    Returns:
        tuple[Tensor, Tensor]: (B, n), int64, class indices 0..C-1, where n is the largest number of classes of a
        picture; (B, n), bool, False where a picture has fewer (the index there is that of an absent class).

    Example:
        >>> classes, present = own_classes(torch.tensor([[0, 1, 0, 1], [0, 0, 1, 0]]))
        >>> classes[present]
        tensor([1, 3, 2])
        >>> present
        tensor([[ True,  True],
                [ True, False]])
    """
    there = labels > 0
    most = int(there.sum(dim=1).max()) if there.numel() else 0
    classes = there.byte().sort(dim=1, descending=True, stable=True).indices[:, :most]
    return classes, there.gather(1, classes)


def gather_classes(maps: Tensor, classes: Tensor) -> Tensor:
    """The maps of each picture's own classes: (B, n, h, w) of maps (B, C, h, w) by indices (B, n).

    Example:
        >>> maps = torch.arange(6.0).reshape(1, 3, 1, 2)
        >>> gather_classes(maps, torch.tensor([[2]]))
        tensor([[[[4., 5.]]]])
    """
    return maps.gather(1, classes[..., None, None].expand(-1, -1, *maps.shape[2:]))


@torch.no_grad()
def own_class_pseudo_labels(
    images: Tensor | np.ndarray | None,
    cams: Tensor,
    classes: Tensor,
    present: Tensor,
    fg_threshold: float,
    bg_threshold: float,
    crf: LabelRefinement | ScoreRefinement | None = None,
) -> Tensor:
    """As :func:`cam_pseudo_labels`, from the maps of each picture's own classes alone.

    What is thresholded stays on the device of ``cams``; a refinement of hard labels gets uint8 maps and nothing else.

    Args:
        images (Tensor | np.ndarray | None): As there.
        cams (Tensor): (B, n, H, W), float, in 0..1; maps of zeros where ``present`` is False.
        classes (Tensor): (B, n), int64, 0..C-1, see :func:`own_classes`.
        present (Tensor): (B, n), bool.
        fg_threshold (float): As there.
        bg_threshold (float): As there.
        crf (LabelRefinement | ScoreRefinement, optional): As there.

    Returns:
        Tensor: (B, H, W), int64, on the device of ``cams``; 0 background, c + 1 for class c, 255 uncertain.

    Example:
        >>> cams = torch.tensor([[[[0.9, 0.4, 0.1]]]])
        >>> own_class_pseudo_labels(None, cams, torch.tensor([[6]]), torch.tensor([[True]]), 0.5, 0.2)
        tensor([[[  7, 255,   0]]])
    """
    check_thresholds(fg_threshold, bg_threshold)
    # Equal thresholds give one label map, which is then refined once.
    thresholds = (fg_threshold,) if fg_threshold == bg_threshold else (fg_threshold, bg_threshold)
    if cams.shape[1] == 0:
        return torch.zeros((len(cams), *cams.shape[2:]), dtype=torch.int64, device=cams.device)
    if hasattr(crf, 'refine_scores'):
        maps = _maps_of_refined_scores(images, cams, thresholds, crf)
    else:
        maps = _label_maps(*cams.max(dim=1), cams, thresholds)
        if crf is not None:
            maps = _refined_maps(images, maps, present, crf)
    by_fg, by_bg = maps[:, 0], maps[:, -1]
    class_ids = torch.cat([torch.zeros_like(classes[:, :1]), classes + 1], dim=1)
    labels = class_ids.gather(1, by_fg.flatten(1).long()).reshape(by_fg.shape)
    return labels.masked_fill((by_fg == 0) & (by_bg != 0), IGNORE_INDEX)


def _check_shapes(images, cam_probs, labels, crf) -> None:
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


def _label_maps(best: Tensor, winners: Tensor, like: Tensor, thresholds) -> Tensor:
    """Hard labels (B, T, H, W), uint8, 0 or the place of the winning class from 1; the background wins ties."""
    # In the precision of the CAMs, so that a CAM equal to a threshold is a tie.
    above = [best > like.new_tensor(threshold) for threshold in thresholds]
    return torch.stack([torch.where(wins, winners + 1, 0).to(torch.uint8) for wins in above], dim=1)


def _refined_maps(images, maps: Tensor, present: Tensor, crf: LabelRefinement) -> Tensor:
    """Refine hard labels (B, T, H, W) on the CPU, each picture with its own number of labels."""
    counts = (present.sum(dim=1) + 1).tolist()
    refined = crf.refine_labels(_to_numpy(images), list(maps.cpu().numpy()), counts)
    return torch.from_numpy(np.stack(refined)).to(maps.device)


def _maps_of_refined_scores(images, cams: Tensor, thresholds, refinement: ScoreRefinement) -> Tensor:
    """Refine the soft scores [thresholds | CAMs] first, then threshold; (B, T, H, W), uint8."""
    # In the precision of the CAMs, so that a CAM equal to a threshold is a tie.
    backgrounds = [torch.full_like(cams[:, :1], threshold) for threshold in thresholds]
    scores = torch.cat([*backgrounds, cams], dim=1)
    scores = scores if scores.dtype == torch.float64 else scores.float()
    scores = refinement.refine_scores(_to_tensor(images).to(cams.device), scores)
    best, winners = scores[:, len(thresholds) :].max(dim=1)
    above = [best > scores[:, place] for place in range(len(thresholds))]
    return torch.stack([torch.where(wins, winners + 1, 0).to(torch.uint8) for wins in above], dim=1)


def _to_numpy(value):
    return value.detach().cpu().numpy() if isinstance(value, Tensor) else value


def _to_tensor(value) -> Tensor:
    # PyTorch takes neither mirrored arrays nor, without a warning, read-only ones.
    return value if isinstance(value, Tensor) else torch.from_numpy(np.require(value, requirements='CW'))
