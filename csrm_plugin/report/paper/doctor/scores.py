"""Scores of two cards of one stage."""

from csrm_plugin.report.page.formats import is_number
from csrm_plugin.report.runs.validations import is_score


def compare_scores(here: dict, there: dict, tolerance: float) -> list[dict]:
    """Compare the scores of each split: IoU, AP, accuracy, AUC, Dice and F1, not those at every threshold.

    Args:
        here (dict): ``scores`` of the run's card: split to metric to percent.
        there (dict): The same of the reference.
        tolerance (float): Points that a score may be below the reference's.

    Returns:
        list[dict]: ``split``, ``metric``, ``here``, ``there``, ``difference`` (points) and ``off``.
    """
    scores = []
    for split in {**there, **here}:
        mine, other = (side.get(split) if isinstance(side.get(split), dict) else {} for side in (here, there))
        for metric in {**other, **mine}:
            a, b = (side.get(metric) if is_number(side.get(metric)) else None for side in (mine, other))
            if (a is None and b is None) or '@' in metric or not is_score(metric):
                continue
            difference = None if a is None or b is None else round(a - b, 6)
            # A score that is there but not a number (a diverged run) is off, too.
            off = b is not None and (metric in mine if difference is None else difference < -tolerance - 1e-9)
            scores.append(dict(split=split, metric=metric, here=a, there=b, difference=difference, off=off))
    return scores
