"""Curves of runs over the iteration, and scores over the threshold."""

import itertools
import re
from collections.abc import Sequence

from csrm_plugin.report.charts import MAX_POINTS, Series, line_chart, swatch, threshold_chart
from csrm_plugin.report.page import layout
from csrm_plugin.report.page.formats import SCORE_NAMES, count, is_number, number, percent, score_name
from csrm_plugin.report.page.markup import Html, Ids, join, tag
from csrm_plugin.report.runs.run import Run
from csrm_plugin.report.runs.validations import CAM_CURVE, CUT_CURVE, scores_of, threshold_curve
from csrm_plugin.utils.label_sources import SOURCES

#: Groups of training values: title, what it is, pattern of the keys. The first that fits takes a key.
GROUPS = (
    ('Losses', 'As they were minimised, that is with their weights.', re.compile(r'loss')),
    ('Reliable pixels', 'Share of pixels (0 to 1) that each loss trusts.', re.compile(r'^reliable/')),
    (
        'Schedules',
        'What changes with the iteration by plan.',
        re.compile(r'(^|[/._])((base_)?lr\d*|alpha|sigma|momentum|decay|ema|weight|ramp|temperature)([/._\d]|$)'),
    ),
    ('Memory bank', 'How full it is (0 to 1) and how old its entries are (iterations).', re.compile(r'^bank/')),
    (
        'Contrast',
        'How many classes take part in the contrastive term, its loss over that of equal similarities, and the mean '
        'cosine of queries with their positives and with their negatives (-1 to 1; both alike tell nothing apart).',
        re.compile(r'^(contrast|queries)/'),
    ),
    ('Foreground', 'Share of pixels (0 to 1) that are taken for objects; 0 is a collapse.', re.compile(r'foreground$')),
    ('Speed and memory', 'Seconds per iteration; memory of the GPU in MiB.', re.compile(r'^(time|data_time|memory)$')),
)
OTHER = ('Other values', 'Whatever else the run logged.')

#: Keys that count, and so are no curves.
_COUNTERS = {'step', 'iter', 'epoch', 'eta'}
_VAL_SPEED = {'time', 'data_time'}
#: What the alarm judges scores by: as good as constant, or seen in others.
_FOR_THE_ALARM = ('/chance', '/largest', '/background_only')

_MEANINGS = {
    'loss': 'Sum of all losses',
    'lr': 'Learning rate',
    'alpha': 'Share of pixels dropped as unreliable',
    'cam/threshold': 'Best threshold of the CAMs, chosen with the masks',
    'seg/foreground': 'Pixels that the segmentation calls objects, in percent',
    'cam/foreground': 'Pixels that the CAMs call objects at their best threshold, in percent',
    'time': 'Seconds per iteration',
    'data_time': 'of which seconds waiting for data',
    'bank/age': 'Age of the entries, in iterations',
    'bank/fill': 'Filled share of the bank',
    'queries/classes': 'Classes that take part',
    'contrast/chance': 'Loss over that of equal similarities',
    'contrast/positive': 'Cosine of queries with their positives',
    'contrast/negative': 'Cosine of queries with their negatives',
}


def curve_section(ids: Ids, runs: Sequence[Run]) -> layout.Section:
    """Scores of the validations, then the training values in groups, all over the iteration."""
    content = [legend(runs, sticky=True)]
    charts = _validation_charts(ids, runs)
    if charts:
        content += [tag('h3', 'Validation'), tag('div', charts, cls='grid')]
    for (title, text), keys in group_keys(runs).items():
        charts = [_training_chart(ids, runs, key) for key in keys]
        content += [tag('h3', title), tag('p', text, cls='note'), tag('div', charts, cls='grid')]
    if len(content) == 1:
        return layout.Section('Curves', [])
    longest = max(len(run.record.train) for run in runs)
    if longest > MAX_POINTS:
        text = f'Each point is the mean of up to {-(-longest // MAX_POINTS)} lines of the log.'
        content.insert(1, tag('p', text, cls='note'))
    return layout.Section('Curves', content)


def group_keys(runs: Sequence[Run]) -> dict[tuple[str, str], list[str]]:
    """Training values by group: (title, what it is) to keys, in the order of the groups."""
    keys = dict.fromkeys(
        key
        for run in runs
        for line in run.record.train
        for key, value in line.items()
        if key not in _COUNTERS and isinstance(value, (int, float))
    )
    if 'lr' in keys and all(_same_rate(run) for run in runs):
        keys.pop('base_lr', None)
    groups = {(title, text): [] for title, text, _ in GROUPS} | {OTHER: []}
    for key in keys:
        groups[next(((title, text) for title, text, pattern in GROUPS if pattern.search(key)), OTHER)].append(key)
    return {group: sorted(names, key=_key_order) for group, names in groups.items() if names}


def legend(runs: Sequence[Run], sticky: bool = False) -> Html | None:
    """Which line is which run; nothing for a single run."""
    if len(runs) < 2:
        return None
    entries = [tag('li', swatch(run.style), tag('span', run.label)) for run in runs]
    return tag('ul', entries, cls='keys sticky' if sticky and len(runs) <= 6 else 'keys', aria_label='Runs')


def threshold_section(ids: Ids, runs: Sequence[Run]) -> layout.Section:
    """Scores over the threshold: CAMs, and what the labels are made from where it was cut alike, last validation."""
    series, marks, words, kinds = [], [], [], set()
    for run, metric in itertools.product(runs, (CAM_CURVE, CUT_CURVE)):
        last = next((item for item in reversed(run.validations) if threshold_curve(item['metrics'], metric)), None)
        if last is None:
            continue
        kind = 'cam' if metric == CAM_CURVE else 'propagated' if _source_of(last) == 'propagated' else 'seg'
        points, kinds = threshold_curve(last['metrics'], metric), {*kinds, kind}
        name = f'{run.label}: {SOURCES[kind]}' + (', cut at t' if kind == 'seg' else '')
        series.append(Series(name, *map(list, zip(*points)), run.style, kind != 'cam'))
        found, text = _threshold_marks(run, last, points, kind)
        marks += found
        words.append(f'{name}: {text}')
    if not series:
        return layout.Section('Thresholds', [])
    chart = threshold_chart(ids, series, marks, 'mIoU over the threshold', x_label='threshold t')
    swatches = [swatch(line.style, line.hollow) if len(series) > 1 else None for line in series]
    items = [tag('li', mark, tag('span', text)) for mark, text in zip(swatches, words)]
    figure = tag('figure', chart, tag('figcaption', tag('ul', items)), cls='medium')
    return layout.Section('Thresholds', [tag('p', _threshold_words(kinds)), figure])


def _source_of(validation) -> str | None:
    """What the pseudo labels of a validation are made from, where it is known."""
    source = (validation['context'].get('pseudo_label') or {}).get('source')
    return source if source in SOURCES else None


def _threshold_words(kinds):
    """What the curves over the threshold are; ``kinds`` holds what they are of, keys of :data:`SOURCES`."""
    words = []
    if 'cam' in kinds:
        words.append('CAM: mIoU of the class activation maps, against the score t that the background is given.')
    if 'propagated' in kinds:
        words.append(
            'Propagated CAM (thin line, open markers): the same of the maps that the model has propagated, from which '
            'its pseudo labels are made.'
        )
    if 'seg' in kinds:
        words.append(
            'Segmentation (thin line, open markers): mIoU of its pseudo labels when they are cut as a CAM is, '
            'foreground where the probability of its class is above t.'
        )
    words.append('Classes are restricted to the image labels. A flat curve means that the threshold matters little.')
    starred = bool(kinds - {'seg'})
    if starred:
        of_cams = ' of the CAMs' if 'seg' in kinds else ''
        words.append(f'The best threshold{of_cams} (star) was chosen with the masks; a fixed one (cross) was not.')
    if 'seg' in kinds:
        no_star = ', which has no star,' if starred else ''
        words.append(f'The best threshold of the segmentation{no_star} was chosen with the masks too.')
    return ' '.join(words)


def _threshold_marks(run, validation, points, kind):
    """Marked points of a curve, and the same in words; one of the segmentation gets no marks."""
    threshold, best = max(points, key=lambda point: point[1])
    marks = [] if kind == 'seg' else [(threshold, best, 'best', run.style)]
    context, metrics = validation['context'], validation['metrics']
    text = f'best {percent(best)} at {threshold:g}'
    source = context.get('pseudo_label') or {}
    if kind == _source_of(validation) and is_number(source.get('threshold')):
        # The pseudo labels are these maps at the config's own threshold.
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
        key
        for _, items in lines
        for _, metrics in items
        for key, value in metrics.items()
        if key not in _COUNTERS | _VAL_SPEED and '@' not in key and is_number(value)
        if not key.endswith(_FOR_THE_ALARM)
    )
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
