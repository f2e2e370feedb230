"""Plots of a sweep. Failed trials have no score and are in none of them."""

from csrm_plugin.report.charts import Series, bar_chart, curves_chart, parallel_chart, scatter_chart
from csrm_plugin.report.page import layout
from csrm_plugin.report.page.formats import is_number, score_name, setting
from csrm_plugin.report.page.markup import Ids, scrolling, tag
from csrm_plugin.report.page.palette import SCALE_STEPS
from csrm_plugin.report.runs.sweeps import Sweep

#: Settings up to which a plot of the score over each is drawn.
MAX_SLICES = 12


def _scale(sweep, trials):
    """Legend of the colours."""
    steps = [tag('i', style=f'background:var(--scale-{index})') for index in range(SCALE_STEPS)]
    low, high = map(sweep.text, sweep.ends)
    hint = 'Hollow or dashed: pruned.' if any(trial['state'] == 'pruned' for trial in trials) else ''
    bar = tag('span', steps, aria_hidden='true')
    return tag('div', f'{score_name(sweep.metric)}: ', tag('span', low, bar, high), hint, cls='scale')


def search_section(ids: Ids, sweep: Sweep) -> layout.Section:
    """Score over the number of the trial with the best so far, and how much each setting matters."""
    trials = sweep.scored
    charts = [_history(ids, sweep, trials)] if len(trials) > 1 else []
    charts += [_importances(ids, sweep)]
    content = [_scale(sweep, trials) if len(trials) > 1 else None, tag('div', charts, cls='grid wide')]
    return layout.Section('The search', content if any(charts) else [])


def _history(ids, sweep, trials):
    points = [(trial['number'], trial['value'], trial['state']) for trial in trials]
    better, numbers, best = max if sweep.maximized else min, [], []
    for trial in sweep.complete:
        numbers.append(trial['number'])
        best.append(better([*best[-1:], trial['value']]))
    stair = (numbers, best) if best else None
    chart = scatter_chart(ids, points, sweep.ends, 'Score of each trial', 'trial', sweep.axis_label, stair)
    caption = tag('figcaption', 'The dashed stair is the best complete trial so far. Failed trials are not shown.')
    return tag('figure', tag('h3', 'Score of each trial'), chart, caption)


def _importances(ids, sweep):
    title = 'Importance of each setting'
    known = {key: value for key, value in (sweep.content.get('importances') or {}).items() if is_number(value)}
    if not known and len(sweep.keys) < 2:
        return None
    if not known:
        return tag('figure', tag('h3', title), tag('p', 'Not known: too few trials are complete.', cls='note'))
    names = sorted(known, key=known.get, reverse=True)
    series = Series('importance', [], [100 * known[name] for name in names], 0)
    chart = bar_chart(ids, [sweep.short_name(name) for name in names], [series], title, '%', top=100)
    text = 'Share of the variation between trials that a setting accounts for, as estimated from the complete trials.'
    return tag('figure', tag('h3', title), chart, tag('figcaption', text))


def slices_section(ids: Ids, sweep: Sweep) -> layout.Section:
    """Score over each setting."""
    trials, keys = sweep.scored, sweep.keys
    if len(trials) < 2 or not keys:
        return layout.Section('Score over each setting', [])
    charts = []
    for key in keys[:MAX_SLICES]:
        points = [
            (_coordinate(trial['params'][key]), trial['value'], trial['state'])
            for trial in trials
            if key in trial['params']
        ]
        if not points:
            continue
        title = f'Score over {key}'
        chart = scatter_chart(
            ids, points, sweep.ends, title, sweep.short_name(key), sweep.axis_label, log=sweep.is_log(key)
        )
        charts.append(tag('figure', tag('h3', tag('code', key)), chart))
    return layout.Section('Score over each setting', [_scale(sweep, trials), tag('div', charts, cls='grid')])


def _coordinate(value):
    """A number, or the text of a choice (booleans are choices)."""
    return value if is_number(value) else setting(value)


def parallel_section(ids: Ids, sweep: Sweep) -> layout.Section:
    """Parallel coordinates of all trials that have a score."""
    keys = sweep.keys
    trials = [trial for trial in sweep.scored if all(key in trial['params'] for key in keys)]
    if len(keys) < 2 or len(trials) < 2:
        return layout.Section('Parallel coordinates', [])
    axes = [
        (sweep.short_name(key), [_coordinate(trial['params'][key]) for trial in trials], sweep.is_log(key))
        for key in keys
    ]
    scores = (sweep.metric, [trial['value'] for trial in trials])
    chart = parallel_chart(ids, axes, scores, sweep.ends, [trial['state'] for trial in trials], 'Parallel coordinates')
    text = 'Each line is a trial; it crosses every axis at the value of that setting, and the last axis at its score.'
    figure = tag('figure', scrolling(chart, 'Parallel coordinates'))
    return layout.Section('Parallel coordinates', [tag('p', text), _scale(sweep, trials), figure])


def curves_section(ids: Ids, sweep: Sweep) -> layout.Section:
    """Score over the iteration of each trial."""
    trials = [trial for trial in sweep.scored if len(trial.get('curve') or ()) > 1]
    curves = []
    for trial in trials:
        points = [point for point in trial['curve'] if all(map(is_number, point))]
        if points:
            curves.append((points, trial['value'], trial['state']))
    if not curves:
        return layout.Section('Scores through training', [])
    chart = curves_chart(ids, curves, sweep.ends, 'Scores through training', sweep.axis_label)
    caption = tag('figcaption', 'A cross ends a trial that was pruned. Failed trials are not shown.')
    figure = tag('figure', chart, caption, cls='medium')
    return layout.Section('Scores through training', [_scale(sweep, trials), figure])
