"""Scores of multi-label classification."""

import numpy as np


def average_precision(scores: np.ndarray, labels: np.ndarray) -> float:
    """Area under the precision-recall curve of one class, as the sum of precision times rise of recall.

    Equal scores form one step of the curve, so the result does not depend on the order of the pictures.

    Args:
        scores (np.ndarray): (n,), float.
        labels (np.ndarray): (n,), bool.

    Returns:
        float: In 0..1; NaN where no picture has the class.
    """
    if not labels.any():
        return float('nan')
    order = np.argsort(-scores, kind='stable')
    scores, hits = scores[order], labels[order].cumsum()
    last_of_tie = np.append(scores[1:] != scores[:-1], True)
    hits, seen = hits[last_of_tie], (np.arange(len(scores)) + 1)[last_of_tie]
    return float(np.sum(hits / seen * np.diff(hits, prepend=0)) / hits[-1])


def mean_average_precision(scores: np.ndarray, labels: np.ndarray) -> float:
    """Mean over the classes that occur, in 0..1, for scores (n, C) and labels (n, C); NaN if none occurs."""
    values = [average_precision(scores[:, c], labels[:, c] > 0) for c in range(scores.shape[1])]
    values = [value for value in values if not np.isnan(value)]
    return float(np.mean(values)) if values else float('nan')


def chance_mean_average_precision(labels: np.ndarray) -> float:
    """What :func:`mean_average_precision` expects of scores that have nothing to do with the labels.

    For a class with m of n pictures that is (H_n + (m - 1) / (n - 1) (n - H_n)) / n with the harmonic number H_n: a
    little more than m / n, which is what a constant score gets.

    Args:
        labels (np.ndarray): (n, C).

    Returns:
        float: In 0..1; NaN if no class occurs.
    """
    number, present = len(labels), (labels > 0).sum(axis=0)
    present = present[present > 0]
    if not present.size:
        return float('nan')
    harmonic = (1 / np.arange(1, number + 1)).sum()
    others = (present - 1) / max(number - 1, 1)
    return float(np.mean((harmonic + others * (number - harmonic)) / number))
