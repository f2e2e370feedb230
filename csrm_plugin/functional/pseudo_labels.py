"""Segmentation pseudo labels from class activation maps."""

import numpy as np
import torch
from torch import Tensor

from ..utils import UserError
from .reduction import IGNORE_INDEX


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


def cam_pseudo_labels(images, cam_probs, labels, fg_threshold: float, bg_threshold: float, crf=None) -> Tensor:
    """Pseudo labels from CAMs with two thresholds and dCRF: Eq. 6 of CSRM (VISAPP 2025), as the released code does it.

    For each picture, the hard label over background and the picture's own classes is made and refined twice, with
    ``fg_threshold`` and with ``bg_threshold`` as the score of the background. Foreground is where the first says so,
    background where both say background, 255 (uncertain) elsewhere. Read literally, Eq. 6 is one soft dCRF that is
    thresholded afterwards.

    Args:
        images (Tensor | np.ndarray): (B, H, W, 3), uint8, RGB. Looked at by dCRF only; may be None without it.
        cam_probs (Tensor | np.ndarray): (B, C, H, W), float, in 0..1 (Eq. 2); classes without background.
        labels (Tensor | np.ndarray): (B, C), 0/1: the classes of each picture. A picture without any is all background.
        fg_threshold (float): delta_fg, in 0..1.
        bg_threshold (float): delta_bg, in 0..1, at most ``fg_threshold``.
        crf (csrm_plugin.refine.DenseCRF, optional): Refines the hard labels; None leaves them as they are.

    Returns:
        Tensor: (B, H, W), int64, on the device of ``cam_probs``; 0 background, c + 1 for class c, 255 uncertain.

    Raises:
        UserError: If the thresholds are out of order or range.
        ValueError: If shapes do not fit.
    """
    check_thresholds(fg_threshold, bg_threshold)
    device = cam_probs.device if isinstance(cam_probs, Tensor) else torch.device('cpu')
    images, cam_probs, labels = (_to_numpy(value) for value in (images, cam_probs, labels))
    if cam_probs.ndim != 4 or labels.shape != cam_probs.shape[:2]:
        raise ValueError(
            '`cam_probs` must be (B, C, H, W) and `labels` (B, C), but have shapes '
            f'{cam_probs.shape} and {labels.shape}.'
        )
    if crf is not None and (images is None or images.shape != (len(cam_probs), *cam_probs.shape[2:], 3)):
        raise ValueError(
            f'`images` must be (B, H, W, 3) with the size of `cam_probs` {cam_probs.shape}, but has shape '
            f'{None if images is None else images.shape}.'
        )

    own_classes = [np.flatnonzero(row > 0) for row in labels]
    # Equal thresholds give one label map, which dCRF then refines once.
    thresholds = (fg_threshold,) if fg_threshold == bg_threshold else (fg_threshold, bg_threshold)
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


def _to_numpy(value):
    if not isinstance(value, Tensor):
        return value
    value = value.detach().cpu()
    return (value.float() if value.dtype == torch.bfloat16 else value).numpy()  # NumPy has no bfloat16
