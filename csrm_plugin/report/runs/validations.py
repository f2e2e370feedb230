"""What a validation or a test says: which of its entries are scores, at thresholds or not, and of which split."""

import os.path as osp
import re
from collections.abc import Mapping

from csrm_plugin.report.page.formats import is_number
from csrm_plugin.report.runs.run import Run

#: Keys of a validation that are scores, all in percent and the higher the better.
_SCORE = re.compile(r'(iou|map|acc|auc|dice|f1)(?![a-z])', re.IGNORECASE)
_AT_THRESHOLD = re.compile(r'^(?P<part>.+)@(?P<threshold>\d*\.?\d+)$')
#: Metrics of the curves over the threshold: CAMs, and the pseudo labels of another source, cut as CAMs are.
CAM_CURVE, CUT_CURVE = 'cam/mIoU', 'pseudo/mIoU'


def is_score(key: str) -> bool:
    """Whether an entry of a validation is a score: IoU, AP, accuracy, AUC, Dice or F1, higher is better."""
    return bool(_SCORE.search(key))


def scores_of(metrics: Mapping) -> dict[str, float]:
    """The scores among the entries of a validation, in percent, without those at single thresholds."""
    return {
        key: value
        for key, value in metrics.items()
        if is_score(key) and not _AT_THRESHOLD.match(key) and is_number(value)
    }


def threshold_curve(metrics: Mapping, metric: str = CAM_CURVE) -> list[tuple[float, float]]:
    """Threshold (0..1) and mIoU (percent) of a validation's ``<metric>@t``, ascending in the threshold.

    Other scores at thresholds are none of it.

    Args:
        metrics (dict): Of the validation.
        metric (str): ``cam/mIoU``, or ``pseudo/mIoU`` for the source of the pseudo labels, cut at t as well.
    """
    points = []
    for key, value in metrics.items():
        match = _AT_THRESHOLD.match(key)
        if match and match['part'] == metric and is_number(value):
            points.append((float(match['threshold']), value))
    return sorted(points)


def best_validation(run: Run, metric: str) -> tuple[float, int] | None:
    """Highest value of a score and its iteration (the first that has it); None where there is no value."""
    values = [(item['metrics'].get(metric), item['iteration']) for item in run.validations]
    known = [pair for pair in values if is_number(pair[0])]
    return max(known, key=lambda pair: pair[0]) if known else None


def checkpoint_folder(test: Mapping) -> str:
    """Name of the folder of the checkpoint that was tested; empty where it is not said."""
    return osp.basename(osp.dirname(str(test['context'].get('checkpoint') or '')))


def split_of(context: Mapping) -> str | None:
    """Name of the split of a validation or a test, by the name of its list where it is not said."""
    name = str(context.get('ann_file') or '').rsplit('/', 1)[-1]
    return context.get('split') or name.rsplit('.', 1)[0] or None
