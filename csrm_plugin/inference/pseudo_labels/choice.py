"""A threshold of CAMs that was chosen with the masks of a split, as the best of a curve, and is then used for all."""

import json

from csrm_plugin.utils import MissingFileError, UserError
from csrm_plugin.utils.label_sources import CAM_SOURCES


def chosen_threshold(path: str, source: str, threshold: float | None = None) -> dict:
    """The threshold that scores best on the split of a curve, with what is to be said about it.

    Args:
        path (str): What ``tools/evaluate_labels.py --thresholds A:B:C --json`` wrote of a split with masks.
        source (str): What the labels are made from.
        threshold (float, optional): A threshold that was given as well, which is refused.

    Returns:
        dict: ``threshold`` (float, 0..1) and ``threshold_chosen_on`` (str, name of the split).

    Raises:
        MissingFileError: If there is no such file.
        UserError: If it holds no curve, or a threshold has no place here.
    """
    if source not in CAM_SOURCES:
        raise UserError(f'--threshold-from is for CAMs, not for --source {source}, which has a background of its own')
    if threshold is not None:
        raise UserError(f'--threshold {threshold:g} and --threshold-from `{path}` are both given; give one of them')
    report = read_curve(path)
    return dict(threshold=float(report['best']['threshold']), threshold_chosen_on=report['context']['split'])


def read_curve(path: str) -> dict:
    """The JSON of ``tools/evaluate_labels.py --thresholds``, checked.

    Args:
        path (str): The file.

    Returns:
        dict: With ``curve`` (points with ``threshold`` and, in percent, ``miou``, ``fp``, ``fn``), ``best`` and
        ``context``, as :func:`csrm_plugin.inference.evaluate_labels.evaluate_label_folder` gives them.

    Raises:
        MissingFileError: If there is no such file.
        UserError: If it holds no curve.
    """
    make = 'make it with `tools/evaluate_labels.py --thresholds 0.05:0.95:0.05 --json FILE`'
    try:
        with open(path, encoding='utf-8') as file:
            report = json.load(file)
        split, best = report['context']['split'], report['best']['threshold']
        right = bool(report['curve']) and isinstance(split, str) and 0 <= best <= 1
    except FileNotFoundError as error:
        raise MissingFileError(f'--threshold-from: `{path}` does not exist; {make}') from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f'--threshold-from: `{path}` holds no curve over thresholds; {make}') from error
    if not right:
        raise UserError(f'--threshold-from: `{path}` holds no curve over thresholds; {make}')
    return report
