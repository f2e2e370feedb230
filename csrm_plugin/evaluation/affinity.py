"""How well affinities tell pairs of the same class from other pairs, against masks.

Legend of shapes: (h, w) the grid of positions, n = h * w, row by row.
"""

import numpy as np

from csrm_plugin.utils import IGNORE_INDEX

#: Bins of equal width over 0..1. Two affinities in one bin count as a tie.
AFFINITY_BINS = 1000


def grid_classes(truth: np.ndarray, grid: tuple[int, int], meta: dict) -> np.ndarray:
    """Class of the mask below the centre of each position of the network's grid.

    Args:
        truth (np.ndarray): (H, W), integer, at the picture's original size; 255 is not counted.
        grid (tuple[int, int]): (h, w): positions that lie evenly over the network's input, padding included.
        meta (dict): Of the data sample: ``img_shape`` (height and width of the resized picture in the input),
            ``img_padding_size`` or ``padding_size`` (left, right, top, bottom, in pixels), ``flip``,
            ``flip_direction``. They are undone as :meth:`WSSSSegmentor.restore` does it.

    Returns:
        np.ndarray: (n,), int64, 255 where the centre lies in the padding or on a pixel that is not counted.
    """
    left, right, top, bottom = meta.get('img_padding_size', meta.get('padding_size', (0, 0, 0, 0)))
    height, width = meta['img_shape'][:2]
    mirrored = meta.get('flip') and (meta.get('flip_direction') or 'horizontal') == 'horizontal'
    upside_down = meta.get('flip') and not mirrored
    rows = _pixels(grid[0], top, height, bottom, truth.shape[0], upside_down)
    columns = _pixels(grid[1], left, width, right, truth.shape[1], mirrored)
    classes = np.full(tuple(grid), IGNORE_INDEX, dtype=np.int64)
    inside = np.ix_(rows >= 0, columns >= 0)
    classes[inside] = truth[np.ix_(rows[rows >= 0], columns[columns >= 0])]
    return classes.ravel()


def _pixels(count: int, before: int, length: int, after: int, pixels: int, turned: bool) -> np.ndarray:
    """Pixel of the mask below the centre of each of ``count`` positions along an axis, -1 in the padding."""
    centres = (np.arange(count) + 0.5) * (before + length + after) / count - before
    share = centres / length
    inside = (share >= 0) & (share < 1)
    share = np.where(inside, 1 - share if turned else share, 0)
    return np.where(inside, np.minimum((share * pixels).astype(np.int64), pixels - 1), -1)


def affinity_histograms(affinity: np.ndarray, classes: np.ndarray, bins: int = AFFINITY_BINS) -> np.ndarray:
    """Affinities of all pairs of two different positions, counted apart by whether their classes are the same.

    Args:
        affinity (np.ndarray): (n, n), float, in 0..1.
        classes (np.ndarray): (n,), integer, 255 for positions that are not counted.
        bins (int): Number of bins of equal width over 0..1.

    Returns:
        np.ndarray: (2, bins), int64: pairs of different classes, pairs of the same class. The pair (i, j) and the pair
        (j, i) count both.
    """
    counted = np.flatnonzero(classes != IGNORE_INDEX)
    values, classes = affinity[np.ix_(counted, counted)], classes[counted]
    index = np.clip((values * bins).astype(np.int64), 0, bins - 1)
    same = classes[:, None] == classes[None]
    pairs = ~np.eye(len(counted), dtype=bool)
    return np.bincount((same * bins + index)[pairs], minlength=2 * bins).reshape(2, bins)


def histogram_auc(counts: np.ndarray) -> float:
    """Area under the ROC curve, in 0..1: how often a pair of one class has more affinity than one of two classes.

    Args:
        counts (np.ndarray): (2, bins), from :func:`affinity_histograms`, perhaps summed over pictures.

    Returns:
        float: Ties count half; NaN where there are no pairs of one kind.
    """
    negative, positive = np.asarray(counts, dtype=float)
    if not negative.sum() or not positive.sum():
        return float('nan')
    below = np.cumsum(negative) - negative
    return float((positive * (below + negative / 2)).sum() / (positive.sum() * negative.sum()))
