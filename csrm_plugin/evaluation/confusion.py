"""Confusion matrices and what follows from them."""

from collections.abc import Sequence

import numpy as np

from csrm_plugin.utils import IGNORE_INDEX

#: Background scores at which CAMs are evaluated: 0.05, 0.10, ..., 0.95.
CAM_THRESHOLDS = tuple(round(0.05 * i, 2) for i in range(1, 20))


def confusion_matrix(prediction: np.ndarray, truth: np.ndarray, num_classes: int) -> np.ndarray:
    """Count pixels.

    Args:
        prediction (np.ndarray): (H, W), integer, 0..K-1.
        truth (np.ndarray): (H, W), integer, 0..K-1, 255 where the pixel is not counted.
        num_classes (int): K.

    Returns:
        np.ndarray: (K, K), int64: rows are the truth, columns the prediction.
    """
    counted = truth != IGNORE_INDEX
    index = truth[counted].astype(np.int64) * num_classes + prediction[counted]
    return np.bincount(index, minlength=num_classes**2).reshape(num_classes, num_classes)


def cam_confusion(cam_probs: np.ndarray, truth: np.ndarray, thresholds: Sequence[float] = CAM_THRESHOLDS) -> np.ndarray:
    """Confusion matrices of CAM labels at several background scores, from one pass over the picture.

    At threshold t the label is the class of the highest CAM where that is above t, background elsewhere (the
    background wins ties), as in :func:`csrm_plugin.functional.threshold_cams`.

    Args:
        cam_probs (np.ndarray): (C, H, W), float, in 0..1; zero for classes that are not in the image-level label.
        truth (np.ndarray): (H, W), integer, 0..C, 255 where the pixel is not counted.
        thresholds (Sequence[float]): T ascending background scores, in 0..1.

    Returns:
        np.ndarray: (T, C + 1, C + 1), int64: rows are the truth, columns the prediction.
    """
    num_classes = len(cam_probs) + 1
    counted = truth != IGNORE_INDEX
    best = cam_probs.argmax(axis=0)[counted]
    score = cam_probs.max(axis=0)[counted]
    # How many thresholds lie below the score: the pixel is foreground at exactly those.
    above = np.searchsorted(np.asarray(thresholds, dtype=score.dtype), score, side='left')
    steps = len(thresholds) + 1
    index = (above * num_classes + truth[counted].astype(np.int64)) * num_classes + best + 1
    counts = np.bincount(index, minlength=steps * num_classes**2).reshape(steps, num_classes, num_classes)
    foreground = counts[::-1].cumsum(axis=0)[::-1][1:]  # at threshold i: everything with more than i below it
    result = foreground.copy()
    result[:, :, 0] += counts.sum(axis=(0, 2))[None] - foreground.sum(axis=2)
    return result


def iou(matrix: np.ndarray) -> np.ndarray:
    """Intersection over union (..., K) of confusion matrices (..., K, K), in 0..1; NaN for absent classes."""
    hits = np.diagonal(matrix, axis1=-2, axis2=-1).astype(float)
    union = matrix.sum(axis=-1) + matrix.sum(axis=-2) - hits
    return np.divide(hits, union, out=np.full_like(hits, np.nan), where=union > 0)


def mean_iou(matrix: np.ndarray) -> np.floating | np.ndarray:
    """Mean over the classes that occur, in 0..1, of confusion matrices (..., K, K): (...)."""
    return np.nanmean(iou(matrix), axis=-1)


def background_mean_iou(matrix: np.ndarray) -> float:
    """:func:`mean_iou` of calling every pixel background, on the pixels of a confusion matrix (K, K), in 0..1."""
    alone = np.zeros_like(matrix)
    alone[:, 0] = matrix.sum(axis=1)
    return float(mean_iou(alone))
