"""What follows from the counts of one setting, in percent."""

from collections.abc import Sequence

import numpy as np

from csrm_plugin.evaluation.confusion import iou
from csrm_plugin.utils.text import percent


def score_labels(matrix: np.ndarray, names: Sequence[str]) -> dict:
    """Scores of labels of which some are uncertain; all in percent, rounded to 4 digits, None where not defined.

    Of the pixels that are counted (truth not 255), *labelled* are those whose label is not 255.

    Args:
        matrix (np.ndarray): (K, K + 1), int64: rows are the truth, columns the label, the last one uncertain.
        names (Sequence[str]): K names, the background first.

    Returns:
        dict: ``coverage``, labelled of all counted pixels; ``miou``, over the labelled pixels, the mean over the
        classes that occur in masks or labels (0 for one of which no pixel is labelled); ``accuracy``, right ones of the
        labelled. ``foreground``: ``precision``, of the pixels labelled with a class, those whose truth is that class,
        ``precision_any``, those whose truth is any class; ``recall`` and ``recall_any``, the same pixels over all whose
        truth is a class, labelled or not; ``labelled``, share of those pixels that have a label, right or wrong;
        ``share``, pixels labelled with a class among all labelled. ``background``: ``precision``, ``recall``. ``iou``,
        ``precision``, ``recall``: by name of the class, the background too; IoU and precision over the labelled pixels,
        recall over all of the class.
    """
    certain, truth = matrix[:, :-1], matrix.sum(axis=1)
    hits, predicted = np.diagonal(certain), certain.sum(axis=0)
    of_class = iou(certain)
    of_class[np.isnan(of_class) & (truth > 0)] = 0
    precision, recall = _over(hits, predicted), _over(hits, truth)
    labelled_fg, true_fg, any_fg = predicted[1:].sum(), truth[1:].sum(), certain[1:, 1:].sum()
    occurring = of_class[~np.isnan(of_class)]
    return dict(
        coverage=percent(_over(certain.sum(), matrix.sum())),
        miou=percent(occurring.mean()) if len(occurring) else None,
        accuracy=percent(_over(hits.sum(), certain.sum())),
        foreground=dict(
            precision=percent(_over(hits[1:].sum(), labelled_fg)),
            precision_any=percent(_over(any_fg, labelled_fg)),
            recall=percent(_over(hits[1:].sum(), true_fg)),
            recall_any=percent(_over(any_fg, true_fg)),
            labelled=percent(_over(certain[1:].sum(), true_fg)),
            share=percent(_over(labelled_fg, certain.sum())),
        ),
        background=dict(precision=percent(precision[0]), recall=percent(recall[0])),
        iou=_named(of_class, names),
        precision=_named(precision, names),
        recall=_named(recall, names),
    )


def _over(part, whole) -> np.ndarray:
    """Quotient, NaN where ``whole`` is zero."""
    part, whole = np.asarray(part, dtype=float), np.asarray(whole)
    return np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0)


def _named(values, names) -> dict[str, float | None]:
    return {name: percent(value) for name, value in zip(names, values)}
