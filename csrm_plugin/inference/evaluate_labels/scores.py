"""Scores that follow from confusion matrices, in percent.

Legend of shapes: K segmentation classes with the background first. Matrices have the truth in rows, the prediction in
columns and, last, a column of what is uncertain.
"""

from collections.abc import Sequence

import numpy as np

from csrm_plugin.evaluation.confusion import mean_iou
from csrm_plugin.utils import UserError
from csrm_plugin.utils.text import percent

_BY_CLASS = dict(iou='iou', precision='precision', recall='recall', fp_by_class='fp', fn_by_class='fn')

#: More classes than this, and the report leaves out the confusion matrix.
MAX_LISTED = 100


def score_confusion(matrix: np.ndarray, names: Sequence[str], ignored: int = 0) -> dict:
    """Scores that follow from a confusion matrix, in percent, rounded to 4 digits.

    ``fp`` and ``fn`` are the over- and under-activation rates of the literature (evaluation scripts of IRNet and
    Puzzle-CAM): false positives and false negatives over the union, so that ``iou + fp + fn`` of a class is 100.

    Args:
        matrix (np.ndarray): (K, K + 1), int64: rows are the truth, columns the prediction, the last one uncertain.
        names (Sequence[str]): K different names, the background first.
        ignored (int): Pixels that were not counted, for the report.

    Returns:
        dict: ``miou`` (mean over the classes that occur in truth or prediction), ``miou_foreground`` (the same without
        the background), ``miou_certain`` (over the pixels with a certain prediction; only where some have none),
        ``coverage`` (certain pixels), ``fp``, ``fn``, ``fp_foreground``, ``fn_foreground`` (means), ``iou``,
        ``precision``, ``recall``, ``fp_by_class``, ``fn_by_class`` (by name; None where undefined), ``pixels``
        (counts) and, up to 100 classes, ``confusion``.

    Raises:
        UserError: If no pixel is counted.
    """
    matrix = np.asarray(matrix)
    counted, uncertain = int(matrix.sum()), int(matrix[:, -1].sum())
    require_pixels(counted)
    rates = rates_of(matrix)
    report = {'miou': mean_percent(rates['iou']), 'miou_foreground': mean_percent(rates['iou'][1:])}
    if uncertain:
        report['miou_certain'] = percent(mean_iou(matrix[:, :-1])) if uncertain < counted else None
    report['coverage'] = percent(1 - uncertain / counted)
    for name in ('fp', 'fn'):
        report[name] = mean_percent(rates[name])
        report[f'{name}_foreground'] = mean_percent(rates[name][1:])
    for key, rate in _BY_CLASS.items():
        report[key] = {name: percent(value) for name, value in zip(names, rates[rate])}
    report['pixels'] = _pixels(matrix, names, ignored)
    if len(names) <= MAX_LISTED:
        report['confusion'] = matrix.tolist()
    return report


def require_pixels(counted: int) -> None:
    """Raise ``UserError`` if no pixel is counted."""
    if not counted:
        raise UserError('the masks hold nothing but 255, so no pixel is counted: check GT_DIR and --split-file')


def rates_of(matrix: np.ndarray) -> dict[str, np.ndarray]:
    """Arrays (..., K), in 0..1, NaN where undefined, from matrices (..., K, K + 1)."""
    hits = np.diagonal(matrix, axis1=-2, axis2=-1).astype(float)
    truth, predicted = matrix.sum(axis=-1), matrix[..., :-1].sum(axis=-2)
    union = truth + predicted - hits

    def over(part, whole):
        return np.divide(part, whole, out=np.full_like(hits, np.nan), where=whole > 0)

    return dict(
        iou=over(hits, union),
        precision=over(hits, predicted),
        recall=over(hits, truth),
        fp=over(predicted - hits, union),
        fn=over(truth - hits, union),
    )


def mean_percent(values: np.ndarray) -> float | None:
    """Mean of what is defined of (K,), in percent; None where nothing is."""
    values = values[~np.isnan(values)]
    return percent(values.mean()) if values.size else None


def _pixels(matrix, names, ignored):
    counted, truth, predicted = int(matrix.sum()), matrix.sum(axis=1), matrix[:, :-1].sum(axis=0)
    return dict(
        counted=counted,
        correct=int(np.trace(matrix)),
        ignored=int(ignored),
        uncertain=int(matrix[:, -1].sum()),
        truth=dict(zip(names, truth.tolist())),
        predicted=dict(zip(names, predicted.tolist())),
        foreground_truth=percent(truth[1:].sum() / counted),
        foreground_predicted=percent(predicted[1:].sum() / counted),
    )


def with_uncertain(matrix: np.ndarray) -> np.ndarray:
    """Matrices (..., K, K) of predictions that are all certain, as (..., K, K + 1)."""
    return np.concatenate([matrix, np.zeros_like(matrix[..., :1])], axis=-1)
