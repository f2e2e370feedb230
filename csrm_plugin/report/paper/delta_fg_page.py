"""This project's Figure 2 in a page: the curves, what they say, and the same as numbers."""

from csrm_plugin.report.charts import Series, swatch, threshold_chart
from csrm_plugin.report.page import layout
from csrm_plugin.report.page.formats import NONE, count, is_number, number, percent, score_context, score_name
from csrm_plugin.report.page.markup import Ids, table, tag
from csrm_plugin.report.paper.delta_fg import Comparison, compare, spread, swept_key
from csrm_plugin.report.runs.sweeps import Sweep
from csrm_plugin.report.runs.validations import CUT_CURVE

_CUT_NAME = 'Cut-segmentation mIoU of the best trial'


def delta_fg_section(ids: Ids, sweep: Sweep, reference: str | None = None) -> layout.Section:
    """The section on delta_fg; empty for a sweep of something else.

    Raises:
        UserError: See :func:`compare`.
    """
    title = 'Figure 2: how much delta_fg matters'
    if swept_key(sweep) is None:
        return layout.Section(title, [])
    found = compare(sweep, reference)
    if not found.method:
        return layout.Section(title, [])
    names = (f'{score_name(sweep.metric)} of the swept method', 'CAM mIoU of the classifier')
    content = [tag('p', _intro(found))]
    if found.cam and found.alike:
        so_far = f'So far, with {count(sweep.unfinished, "trial")} not finished: ' if sweep.unfinished else ''
        readings = [(found, names), *([(found.cut, (_CUT_NAME, names[1]))] if found.cut else [])]
        for reading, words in readings:
            numbers, conclusion = verdict(reading, words)
            content.append(tag('p', so_far, numbers, ' ', tag('strong', conclusion)))
    content += [tag('p', note, cls='note') for note in found.notes]
    return layout.Section(title, [*content, _figure(ids, found, names, sweep), _numbers(found, names)])


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
    seed = found.reference.seed_text
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
