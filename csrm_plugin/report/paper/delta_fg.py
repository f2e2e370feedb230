"""This project's Figure 2: how much the threshold of the foreground matters, with the method and with CAMs alone.

Figure 2 of CSRM (VISAPP 2025) compares the pseudo labels of CSRM with the class activation maps of the classifier, cut
at the same threshold: a flat curve needs no masks to choose the threshold with. It can be read in two ways: CSRM
trained with each delta_fg, or the segmentation of one trained CSRM cut at each threshold. Both are shown.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from csrm_plugin.report.page.formats import is_number, setting
from csrm_plugin.report.paper.delta_fg_reference import find_reference
from csrm_plugin.report.runs.run import Run
from csrm_plugin.report.runs.sweeps import Sweep
from csrm_plugin.report.runs.validations import CUT_CURVE, split_of, threshold_curve

#: End of the swept setting's key.
KEY = 'pseudo_label.fg_threshold'
_SAME = 1e-6


@dataclass
class Comparison:
    """Both curves.

    Attributes:
        method (list[tuple[float, float]]): delta_fg and score in percent, ascending; means where one was run twice.
        cam (list[tuple[float, float]]): Threshold and CAM mIoU in percent of the classifier, ascending; may be empty.
        common (list[tuple[float, float, float]]): Threshold, method's score, CAM's score, where both have one.
        reference (Run | None): The classifier.
        validation (dict | None): That of the classifier's validations that the curve is from.
        who (str): What the classifier is, in words.
        notes (list[str]): Why something is not there.
        alike (bool): Whether both were scored on as many pictures of the same split, as far as it is known.
        cut (Comparison | None): The same classifier and the segmentation of the best trial, which is ``validation``
            there, cut at each threshold; ``common`` holds the thresholds from the lowest to the highest delta_fg.
    """

    method: list
    cam: list = field(default_factory=list)
    common: list = field(default_factory=list)
    reference: Run | None = None
    validation: dict | None = None
    who: str = ''
    notes: list = field(default_factory=list)
    alike: bool = True
    cut: 'Comparison | None' = None


def swept_key(sweep: Sweep) -> str | None:
    """The key of delta_fg if the sweep varies it and nothing else."""
    keys = sweep.keys
    return keys[0] if len(keys) == 1 and keys[0].endswith(KEY) else None


def compare(sweep: Sweep, reference: str | None = None) -> Comparison:
    """Put the scores of the trials beside the classifier's.

    Args:
        sweep (Sweep): Of delta_fg alone.
        reference (str, optional): Work directory of the classifier; by default the folder of the ``load_from`` that
            the trials started from. Of a classifier that they started from, the validation of that checkpoint counts,
            where it is recorded; of another one the last.

    Raises:
        UserError: If the reference that was asked for has no CAM scores per threshold.
    """
    key, scores = swept_key(sweep), {}
    for trial in sweep.complete:
        if is_number(trial['params'].get(key)):
            scores.setdefault(float(trial['params'][key]), []).append(trial['value'])
    found = Comparison(sorted((threshold, statistics.mean(values)) for threshold, values in scores.items()))
    start = find_reference(sweep, reference)
    found.reference, found.validation, found.who, found.notes = start.run, start.validation, start.who, [*start.notes]
    if found.validation:
        found.cam = threshold_curve(found.validation['metrics'])
        _compare_pictures(found, sweep)
    found.common = _common(found.method, found.cam)
    if found.method:
        _cut_best(found, sweep)
    return found


def spread(values: Sequence[float]) -> tuple[float, float]:
    """Range and standard deviation (of the sample) of at least two scores, in points."""
    return max(values) - min(values), statistics.stdev(values)


def _common(method, cam):
    """Threshold, method's score and CAM's score, where both have one."""
    return [(at, score, value) for at, score in method for other, value in cam if abs(other - at) < _SAME]


def _cut_best(found, sweep):
    """Put the segmentation of the best trial, cut at each threshold, into the comparison, or a note without it."""
    last = sweep.validation(sweep.best)
    points = threshold_curve(last['metrics'], CUT_CURVE) if last else []
    name = f'the best trial (delta_fg = {setting(sweep.best["params"].get(swept_key(sweep)))}, chosen with the masks)'
    if not points:
        found.notes.append(
            f'The run of {name} did not record its segmentation cut at each threshold ({CUT_CURVE}@t), so only the '
            'first way to read Figure 2 is shown.'
        )
        return
    low, high = found.method[0][0] - _SAME, found.method[-1][0] + _SAME
    within = [point for point in _common(points, found.cam) if low <= point[0] <= high]
    who = f'Segmentation of {name}, cut at that threshold'
    found.cut = Comparison(points, found.cam, within, found.reference, last, who)


def _compare_pictures(found, sweep):
    """Note where the trials and the classifier were scored on different pictures, or where that is not known."""
    contexts = [item['context'] for item in map(sweep.validation, sweep.complete) if item]
    unknown = [] if contexts else ['what the trials were scored on']
    contexts.append(found.validation['context'])
    for name, values in (
        ('split', [split_of(context) for context in contexts]),
        ('number of pictures', [context.get('pictures') for context in contexts]),
    ):
        known = {value for value in values if value is not None}
        if len(known) > 1:
            found.alike = False
            found.notes.append(
                f'The trials and the classifier were not scored on the same pictures: the {name} differs '
                f'({" and ".join(sorted(map(str, known)))}). So nothing is said on which curve is flatter.'
            )
        elif None in values:
            unknown.append(f'the {name}')
    if unknown:
        found.notes.append(
            f'Not recorded for all: {", ".join(unknown)}. The two curves may stand on different pictures.'
        )
