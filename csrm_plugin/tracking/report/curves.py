"""Curves of runs over the iteration, and scores over the threshold of the CAMs."""

import re

from . import page
from .charts import MAX_POINTS, Series, line_chart, swatch, threshold_chart
from .formats import SCORE_NAMES, count, is_number, number, percent, score_name
from .markup import Html, join, tag
from .sources import scores_of, threshold_curve

#: Groups of training values: title, what it is, pattern of the keys. The first that fits takes a key.
GROUPS = (
    ('Losses', 'As they were minimised, that is with their weights.', re.compile(r'loss')),
    ('Reliable pixels', 'Share of pixels (0 to 1) that each loss trusts.', re.compile(r'^reliable/')),
    (
        'Schedules', 'What changes with the iteration by plan.',
        re.compile(r'(^|[/._])((base_)?lr\d*|alpha|sigma|momentum|decay|ema|weight|ramp|temperature)([/._\d]|$)')),
    ('Memory bank', 'How full it is (0 to 1) and how old its entries are (iterations).', re.compile(r'^bank/')),
    ('Foreground', 'Share of pixels (0 to 1) that are taken for objects; 0 is a collapse.', re.compile(r'foreground$')),
    ('Speed and memory', 'Seconds per iteration; memory of the GPU in MiB.', re.compile(r'^(time|data_time|memory)$')),
)  # fmt: skip
OTHER = ('Other values', 'Whatever else the run logged.')

#: Keys that count, and so are no curves.
_COUNTERS = {'step', 'iter', 'epoch', 'eta'}
_VAL_SPEED = {'time', 'data_time'}

_MEANINGS = {
    'loss': 'Sum of all losses',
    'lr': 'Learning rate',
    'alpha': 'Share of pixels dropped as unreliable',
    'cam/threshold': 'Best threshold of the CAMs, chosen with the masks',
    'seg/foreground': 'Pixels that the segmentation calls objects, in percent',
    'time': 'Seconds per iteration',
    'data_time': 'of which seconds waiting for data',
    'bank/age': 'Age of the entries, in iterations',
    'bank/fill': 'Filled share of the bank',
}


def curve_section(ids, runs) -> page.Section:
    """Scores of the validations, then the training values in groups, all over the iteration."""
    content = [legend(runs, sticky=True)]
    charts = _validation_charts(ids, runs)
    if charts:
        content += [tag('h3', 'Validation'), tag('div', charts, cls='grid')]
    for (title, text), keys in group_keys(runs).items():
        charts = [_training_chart(ids, runs, key) for key in keys]
        content += [tag('h3', title), tag('p', text, cls='note'), tag('div', charts, cls='grid')]
    if len(content) == 1:
        return page.Section('Curves', [])
    longest = max(len(run.record.train) for run in runs)
    if longest > MAX_POINTS:
        text = f'Each point is the mean of up to {-(-longest // MAX_POINTS)} lines of the log.'
        content.insert(1, tag('p', text, cls='note'))
    return page.Section('Curves', content)


def group_keys(runs) -> dict[tuple[str, str], list[str]]:
    """Training values by group: (title, what it is) to keys, in the order of the groups."""
    keys = dict.fromkeys(
        key for run in runs for line in run.record.train for key, value in line.items()
        if key not in _COUNTERS and isinstance(value, (int, float))
    )  # fmt: skip
    if 'lr' in keys and all(_same_rate(run) for run in runs):
        keys.pop('base_lr', None)
    groups = {(title, text): [] for title, text, _ in GROUPS} | {OTHER: []}
    for key in keys:
        groups[next(((title, text) for title, text, pattern in GROUPS if pattern.search(key)), OTHER)].append(key)
    return {group: sorted(names, key=_key_order) for group, names in groups.items() if names}


def legend(runs, sticky: bool = False) -> Html | None:
    """Which line is which run; nothing for a single run."""
    if len(runs) < 2:
        return None
    entries = [tag('li', swatch(run.style), tag('span', run.label)) for run in runs]
    return tag('ul', entries, cls='keys sticky' if sticky and len(runs) <= 6 else 'keys', aria_label='Runs')


def threshold_section(ids, runs) -> page.Section:
    """CAM mIoU of the last validation over the threshold of the background."""
    series, marks, words = [], [], []
    for run in runs:
        last = next((item for item in reversed(run.validations) if threshold_curve(item['metrics'])), None)
        if last is None:
            continue
        points = threshold_curve(last['metrics'])
        series.append(Series(run.label, *map(list, zip(*points)), run.style))
        found, text = _threshold_marks(run, last, points)
        marks += found
        words.append(tag('li', swatch(run.style) if len(runs) > 1 else None, tag('span', f'{run.label}: {text}')))
    if not series:
        return page.Section('CAM threshold', [])
    text = (
        'mIoU of the class activation maps, classes restricted to the image labels, against the score that the '
        'background is given. A flat curve means that the threshold matters little. The best threshold (star) was '
        'chosen with the masks; a fixed one (cross) was not.'
    )
    chart = threshold_chart(ids, series, marks, 'CAM mIoU over the threshold')
    figure = tag('figure', chart, tag('figcaption', tag('ul', words)), cls='medium')
    return page.Section('CAM threshold', [tag('p', text), figure])


def _threshold_marks(run, validation, points):
    """Marked points of a run, and the same in words."""
    threshold, best = max(points, key=lambda point: point[1])
    marks = [(threshold, best, 'best', run.style)]
    context, metrics = validation['context'], validation['metrics']
    text = f'best {percent(best)} at {threshold:g}'
    source = context.get('pseudo_label') or {}
    if source.get('source') == 'cam' and is_number(source.get('threshold')):
        # The pseudo labels are these CAMs at the config's own threshold.
        fixed = next(
            (score for at, score in points if abs(at - source['threshold']) < 1e-6), metrics.get('pseudo/mIoU')
        )
        if is_number(fixed):
            marks.append((source['threshold'], fixed, 'fixed', run.style))
            text += f', fixed {percent(fixed)} at {source["threshold"]:g}'
    split = context.get('split') or 'split not recorded'
    return marks, f'{text} ({split}, iteration {number(validation["iteration"])})'


def _same_rate(run):
    return all(line.get('base_lr', line.get('lr')) == line.get('lr') for line in run.record.train)


def _key_order(key):
    # Totals before their parts.
    return (key != 'loss', key != 'lr', key)


def _validation_charts(ids, runs):
    lines = [(run, [(item['iteration'], item['metrics']) for item in run.validations]) for run in runs]
    known = dict.fromkeys(
        key for _, items in lines for _, metrics in items for key, value in metrics.items()
        if key not in _COUNTERS | _VAL_SPEED and '@' not in key and is_number(value)
    )  # fmt: skip
    scores = set().union(*(scores_of(metrics) for _, items in lines for _, metrics in items)) if known else set()
    charts = []
    order = list(SCORE_NAMES)
    for key in sorted(known, key=lambda key: (key not in scores, order.index(key) if key in order else len(order))):
        series = [
            Series(run.label, [step for step, _ in items], [metrics.get(key) for _, metrics in items], run.style)
            for run, items in lines
            if any(key in metrics for _, metrics in items)
        ]
        unit = key in scores or key.endswith('foreground')
        charts.append(_chart(ids, key, series, unit, len(runs)))
    return charts


def _training_chart(ids, runs, key):
    series = []
    for run in runs:
        lines = [line for line in run.record.train if key in line]
        if lines:
            series.append(Series(run.label, [line['step'] for line in lines], [line[key] for line in lines], run.style))
    return _chart(ids, key, series, False, len(runs))


def _chart(ids, key, series, unit, runs):
    """A chart with its key as heading and the last values below."""
    name = score_name(key) if score_name(key) != key else _MEANINGS.get(key)
    heading = tag('h4', join(name, ' ', tag('code', key)) if name else tag('code', key))
    ends = []
    for line in series:
        value = next((y for y in reversed(line.ys) if is_number(y)), None)
        shown = percent(value) if unit else number(value)
        words = f'last {shown}' if runs == 1 else shown
        gaps = sum(not is_number(y) for y in line.ys)
        words += f' ({count(gaps, "value")} not a number)' if gaps else ''
        ends.append(tag('li', swatch(line.style) if runs > 1 else None, words))
    svg = line_chart(ids, series, f'{name or key} over the iteration', y_label='%' if unit else '', percent=unit)
    return tag('figure', heading, svg, tag('figcaption', tag('ul', ends)))
