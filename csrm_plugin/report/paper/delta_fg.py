"""This project's Figure 2: how much the threshold of the foreground matters, with the method and with CAMs alone.

Figure 2 of CSRM (VISAPP 2025) compares the pseudo labels of CSRM with the class activation maps of the classifier, cut
at the same threshold: a flat curve needs no masks to choose the threshold with. It can be read in two ways: CSRM
trained with each delta_fg, or the segmentation of one trained CSRM cut at each threshold. Both are shown.
"""

import os.path as osp
import re
import statistics
from dataclasses import dataclass, field

from csrm_plugin.report import page
from csrm_plugin.report.charts import Series, swatch, threshold_chart
from csrm_plugin.report.formats import (
    NONE,
    count,
    is_number,
    number,
    percent,
    score_context,
    score_name,
    setting,
)
from csrm_plugin.report.markup import table, tag
from csrm_plugin.report.sources import CUT_CURVE, Run, load_record, split_of, threshold_curve
from csrm_plugin.tracking.record import is_run
from csrm_plugin.utils import UserError

#: End of the swept setting's key.
KEY = 'pseudo_label.fg_threshold'
_SAME = 1e-6
_CUT_NAME = 'Cut-segmentation mIoU of the best trial'
_CHECKPOINT = re.compile(r'(?P<kind>epoch|iter)_(?P<number>\d+)\.pth$')


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


def swept_key(sweep) -> str | None:
    """The key of delta_fg if the sweep varies it and nothing else."""
    keys = sweep.keys
    return keys[0] if len(keys) == 1 and keys[0].endswith(KEY) else None


def compare(sweep, reference=None) -> Comparison:
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
    _find_reference(found, sweep, reference)
    if found.validation:
        found.cam = threshold_curve(found.validation['metrics'])
        _compare_pictures(found, sweep)
    found.common = _common(found.method, found.cam)
    if found.method:
        _cut_best(found, sweep)
    return found


def spread(values) -> tuple[float, float]:
    """Range and standard deviation (of the sample) of at least two scores, in points."""
    return max(values) - min(values), statistics.stdev(values)


def verdict(found: Comparison, names: tuple[str, str]) -> tuple[str, str]:
    """Whether the method's curve is flatter than the CAM's: the numbers in words, and what follows from them.

    Args:
        found (Comparison): Both curves.
        names (tuple[str, str]): Of the method and of the classifier.
    """
    if len(found.common) < 2:
        text = f'Both curves have {count(len(found.common), "threshold")} in common.'
        return text, 'That is too few to say which is flatter.'
    thresholds, method, cam = zip(*found.common)
    (range_method, dev_method), (range_cam, dev_cam) = spread(method), spread(cam)
    text = (
        f'Over the {len(found.common)} thresholds that both have ({thresholds[0]:g} to {thresholds[-1]:g}), {names[0]} '
        f'lies between {percent(min(method))} and {percent(max(method))} (range {range_method:.1f} points, standard '
        f'deviation {dev_method:.1f}), and {names[1]} between {percent(min(cam))} and {percent(max(cam))} (range '
        f'{range_cam:.1f} points, standard deviation {dev_cam:.1f}).'
    )
    flatter = [range_method < range_cam, dev_method < dev_cam]
    if all(flatter):
        return text, f'{names[0]} is flatter by both measures.'
    if not any(flatter):
        return text, f'{names[0]} is not flatter: neither its range nor its standard deviation is smaller.'
    which = ('range', 'standard deviation') if flatter[0] else ('standard deviation', 'range')
    return text, f'The two measures disagree: {names[0]} has the smaller {which[0]}, but not the smaller {which[1]}.'


def delta_fg_section(ids, sweep, reference=None) -> page.Section:
    """The section on delta_fg; empty for a sweep of something else.

    Raises:
        UserError: See :func:`compare`.
    """
    title = 'Figure 2: how much delta_fg matters'
    if swept_key(sweep) is None:
        return page.Section(title, [])
    found = compare(sweep, reference)
    if not found.method:
        return page.Section(title, [])
    names = (f'{score_name(sweep.metric)} of the swept method', 'CAM mIoU of the classifier')
    content = [tag('p', _intro(found))]
    if found.cam and found.alike:
        so_far = f'So far, with {count(sweep.unfinished, "trial")} not finished: ' if sweep.unfinished else ''
        readings = [(found, names), *([(found.cut, (_CUT_NAME, names[1]))] if found.cut else [])]
        for reading, words in readings:
            numbers, conclusion = verdict(reading, words)
            content.append(tag('p', so_far, numbers, ' ', tag('strong', conclusion)))
    content += [tag('p', note, cls='note') for note in found.notes]
    return page.Section(title, [*content, _figure(ids, found, names, sweep), _numbers(found, names)])


def _intro(found):
    """What the curves are, and the two ways to read the figure of the paper."""
    first = 'Each point of the first curve is one training, with its own delta_fg.'
    if found.cam:
        first += f' The second curve is {found.who}: its class activation maps, cut at that threshold.'
    shown = ' (the last curve)' if found.cut else ''
    return (
        'Figure 2 of the paper can be read in two ways: the method is trained with each delta_fg, or one trained model '
        'is taken and its segmentation is cut at each threshold, foreground where the probability of its class is '
        f'above it{shown}. {first}'
    )


def _figure(ids, found, names, sweep):
    series = [Series(names[0], *map(list, zip(*found.method)), 0)]
    keys = [tag('li', swatch(0), tag('span', f'{names[0]} ({sweep.metric})'))]
    if found.cam:
        series.append(Series(names[1], *map(list, zip(*found.cam)), 1))
        keys.append(tag('li', swatch(1), tag('span', f'{names[1]} ({found.reference.label})')))
    if found.cut:
        series.append(Series(_CUT_NAME, *map(list, zip(*found.cut.method)), 2))
        keys.append(tag('li', swatch(2), tag('span', f'{found.cut.who} ({CUT_CURVE}@t)')))
    curves = (found.method, found.cam, found.cut.method if found.cut else [])
    lines = [(style, line) for style, line in enumerate(curves) if line]
    marks = [(*max(line, key=lambda point: point[1]), 'best', style) for style, line in lines]
    chart = threshold_chart(ids, series, marks, 'Score over delta_fg', x_label='delta_fg (threshold of the foreground)')
    contexts = (_method_context(sweep), _cam_context(found), _cut_context(found))
    notes = [tag('p', line, cls='note') for line in contexts if line]
    star = tag('p', 'Star: the best threshold, chosen with the masks.', cls='note')
    return tag('figure', tag('ul', keys, cls='keys'), chart, tag('figcaption', notes, star), cls='medium')


def _method_context(sweep):
    """What the trials' scores stand on; all trials are scored alike, so the first that has a record tells it."""
    found = next(filter(None, (sweep.context(trial, threshold=False) for trial in sweep.complete)), None)
    return f'Trials: {found or "what their scores stand on was not recorded"}; last validation of each.'


def _cam_context(found):
    if not found.validation:
        return None
    text = score_context('cam/mIoU', found.validation['context'], {})
    seed = 'not recorded' if found.reference.seed is None else found.reference.seed
    return f'Classifier: {text}, seed {seed}, iteration {number(found.validation["iteration"])}.'


def _cut_context(found):
    if not found.cut:
        return None
    last = found.cut.validation
    text = score_context(CUT_CURVE, last['context'], {})
    seed = last['context'].get('seed', 'not recorded')
    return f'Cut segmentation: {text}, seed {seed}, iteration {number(last["iteration"])}.'


def _numbers(found, names):
    cam = {round(at, 6): value for at, value in found.cam}
    method = {round(at, 6): value for at, value in found.method}
    cut = {round(at, 6): value for at, value in (found.cut.method if found.cut else ())}
    rows = [
        [
            f'{at:g}',
            percent(method.get(at)),
            percent(cam.get(at)),
            _gap(method.get(at), cam.get(at)),
            *([percent(cut.get(at))] if cut else []),
        ]
        for at in sorted({*method, *cam, *cut})
    ]
    caption = f'The same as numbers, in percent. {NONE} stands for a threshold that was not tried.'
    head = ['delta_fg', names[0], names[1], 'Difference', *(['Segmentation, cut'] if cut else [])]
    return table(head, rows, caption, numeric=range(1, len(head)), cls='compact')


def _gap(method, cam):
    return f'{method - cam:+.1f}' if is_number(method) and is_number(cam) else NONE


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


def _last(run):
    return next((item for item in reversed(run.validations) if threshold_curve(item['metrics'])), None)


def _find_reference(found, sweep, reference):
    """Put the classifier's run and validation into the comparison, or a note why there is none."""
    start = str((sweep.content.get('cfg_options') or {}).get('load_from') or _recorded_start(sweep) or '')
    folder = osp.dirname(start)
    if reference is not None:
        run = Run(osp.basename(osp.abspath(reference)), load_record(reference))
        if _last(run) is None:
            raise UserError(
                f'--reference: `{reference}` has no CAM scores per threshold (cam/mIoU@...); give the work directory '
                'of the classifier that the trials started from'
            )
        if start and osp.realpath(reference) == osp.realpath(folder):
            _take_start(found, run, start)
        else:
            found.reference, found.validation = run, _last(run)
            found.who = f'the classifier in {reference}, at its last validation'
        return
    hint = 'give the classifier with --reference WORK_DIR to have its curve here'
    if not start:
        found.notes.append(f'The trials started from no checkpoint; {hint}.')
    elif not is_run(folder):
        found.notes.append(f'The trials started from {start}, but {folder or "."} is no work directory here; {hint}.')
    else:
        run = Run(osp.basename(osp.abspath(folder)), load_record(folder))
        if _last(run) is None:
            found.notes.append(f'The trials started from {start}, but its log has no CAM scores per threshold; {hint}.')
        else:
            _take_start(found, run, start)


def _take_start(found, run, start):
    """Take the classifier as it was in the checkpoint that the trials started from, as far as that is recorded."""
    name = osp.basename(start)
    found.reference, found.validation = run, _validation_of(run, name)
    found.who = f'the classifier that the trainings started from ({osp.join(run.folder, name)})'
    if found.validation is None:
        found.validation = _last(run)
        found.who = f'the classifier in {run.folder}, at its last validation'
        found.notes.append(
            f'The trainings started from {name} of that folder. No validation of that checkpoint with CAM scores per '
            f'threshold is recorded, so the curve is that of iteration {number(found.validation["iteration"])}.'
        )


def _validation_of(run, checkpoint):
    """The validation of a checkpoint ``epoch_<N>.pth`` or ``iter_<N>.pth`` (1-based); None where there is none."""
    match = _CHECKPOINT.search(checkpoint)
    if not match:
        return None
    number = int(match['number'])
    for item in run.validations:
        if match['kind'] == 'iter':
            found = item['iteration'] == number
        elif is_number(item.get('epoch')):
            found = item['epoch'] == number
        else:
            found = _ends_epoch(run, item['iteration'], number)
        if found and threshold_curve(item['metrics']):
            return item
    return None


def _ends_epoch(run, step, number):
    """Whether epoch ``number`` of a run without a record ended at iteration ``step``.

    Its validations have no epoch, but its training lines do: they tell how many iterations an epoch has.
    """
    lines = [(line['step'], line['epoch']) for line in run.record.train if is_number(line.get('epoch'))]
    fits = [
        ending
        for ending in (number - 1, number, number + 1)
        if ending > 0 and step % ending == 0 and all(-(-at * ending // step) == epoch for at, epoch in lines)
    ]
    return bool(lines) and fits == [number]


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


def _recorded_start(sweep):
    for trial in sweep.trials:
        folder = osp.join(sweep.folder, str(trial.get('folder') or ''))
        if trial.get('folder') and is_run(folder):
            start = load_record(folder).run.get('load_from')
            if start:
                return start
    return None
