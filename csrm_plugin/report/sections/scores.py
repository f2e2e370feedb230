"""Scores of runs: key numbers, and the table of all scores, with what is published beside them."""

from collections.abc import Sequence
from typing import NamedTuple

from csrm_plugin.report.charts import swatch
from csrm_plugin.report.page import formats, layout
from csrm_plugin.report.page.formats import NONE, is_number, percent, score_name
from csrm_plugin.report.page.markup import Html, join, table, tag
from csrm_plugin.report.page.palette import run_variable
from csrm_plugin.report.runs.run import Run
from csrm_plugin.report.runs.validations import best_validation, scores_of
from csrm_plugin.report.sections.checkpoints import checkpoint_table
from csrm_plugin.report.sections.seeds import seed_statistics

#: Runs up to which key numbers are shown side by side.
_MANY = 6


class Figure(NamedTuple):
    """What is published for a run.

    Attributes:
        metric (str): Our name of the score.
        scores (dict[str, float]): Percent, by split.
        source (str): The table.
        note (str): How it was made, as far as it is said there.
    """

    metric: str
    scores: dict
    source: str
    note: str


class Beside(NamedTuple):
    """What is published for the runs of a report, to stand beside their scores.

    Attributes:
        heading (str | None): Of the column; None for no column.
        figures (dict[int, Figure]): By the ``style`` of the run.
        note (str): A sentence or more on them, or on why there are none.
    """

    heading: str | None = None
    figures: dict = {}
    note: str = ''


def metrics_of(runs: Sequence[Run]) -> list[str]:
    """Names of all scores of the runs' validations, the important ones first."""
    names = dict.fromkeys(key for run in runs for item in run.validations for key in scores_of(item['metrics']))
    order = list(formats.SCORE_NAMES)
    return sorted(names, key=lambda name: order.index(name) if name in order else len(order))


def key_numbers(runs: Sequence[Run]) -> list[Html]:
    """A card for each of the most important scores."""
    scored = [run for run in runs if run.validations]
    names = metrics_of(scored)[: 4 if len(runs) == 1 else 3]
    if len(runs) == 1:
        return [_single_card(runs[0], name) for name in names]
    return [_ranked_card(scored, name) for name in names] if len(scored) <= _MANY else []


def _single_card(run, metric):
    last = run.validations[-1]
    value, best = last['metrics'].get(metric), best_validation(run, metric)
    text = formats.score_context(metric, last['context'], last['metrics'])
    lines = [f'{text}. Iteration {formats.number(last["iteration"])}, seed {run.seed_text}.']
    if best and best[1] != last['iteration']:
        lines.append(f'Best: {percent(best[0])} at iteration {formats.number(best[1])}.')
    return layout.card(score_name(metric), percent(value), [line + ' ' for line in lines])


def _ranked_card(runs, metric):
    rows, contexts, iterations = [], [], []
    for run in runs:
        last = run.validations[-1]
        value = last['metrics'].get(metric)
        if not is_number(value):
            continue
        # What can differ between runs without being a difference of method has a place of its own.
        contexts.append(formats.score_context(metric, last['context'], {}))
        iterations.append(formats.number(last['iteration']))
        bar = tag('i', style=f'width:{min(max(value, 0), 100):.1f}%;background:var(--{run_variable(run.style)})')
        cells = [swatch(run.style), tag('span', run.label, cls='name'), tag('b', percent(value))]
        rows.append(tag('li', cells, tag('span', bar, cls='bar', aria_hidden='true')))
    same = len(set(contexts)) == 1
    text = contexts[0] if same else 'The runs were scored in different ways: see the table of scores'
    when = iterations[0] if len(set(iterations)) == 1 else f'{", ".join(iterations)} (in this order)'
    context = tag('p', f'{text}. Last validation, iteration {when}.', cls='context')
    return tag('div', tag('h2', score_name(metric)), tag('ul', rows, cls='ranks'), context, cls='card')


def score_section(runs: Sequence[Run], beside: Beside) -> layout.Section:
    """Final and best scores of every run with what they stand on, and scores of ``tools/test.py``.

    Args:
        runs (Sequence[Run]): At least one.
        beside (Beside): What is published for them.
    """
    metrics, alone = metrics_of(runs), len(runs) == 1
    column = [beside.heading] if beside.heading else []
    head = ['Score' if alone else 'Run', 'Final', 'Best', *column, 'The final number stands on']
    rows = []
    for metric in metrics:
        name = join(score_name(metric), ' ', tag('code', metric) if score_name(metric) != metric else None)
        rows += [] if alone else [name]
        for run in runs:
            rows += _score_rows(run, metric, name if alone else _name(run), beside)
    content = []
    if rows:
        caption = (
            'Scores of the validations during training, in percent. The best iteration of each score was chosen with '
            "the validation's masks, so that it is a little too good to be true."
        )
        content.append(table(head, rows, caption, numeric=range(1, len(head) - 1), cls='scores'))
        content.append(seed_statistics(runs, metrics))
        content.append(tag('p', beside.note, cls='note'))
    content.append(checkpoint_table(runs))
    return layout.Section('Scores', content)


def _score_rows(run, metric, name, beside):
    if not run.validations or all(metric not in item['metrics'] for item in run.validations):
        return []
    last = run.validations[-1]
    best = best_validation(run, metric)
    final = [percent(last['metrics'].get(metric)), _at(last['iteration'])]
    cells = [name, final, [percent(best[0]), _at(best[1])] if best else NONE]
    if beside.heading:
        figure, score = beside.figures.get(run.style), None
        if figure and figure.metric == metric:
            score = figure.scores.get(last['context'].get('split'))
        cells.append([percent(score), tag('span', figure.source, cls='context')] if score is not None else NONE)
    text = formats.score_context(metric, last['context'], last['metrics'])
    return [[*cells, tag('span', f'{text}, seed {run.seed_text}', cls='context')]]


def _at(iteration):
    return tag('span', f'iteration {formats.number(iteration)}', cls='context')


def _name(run):
    return tag('span', swatch(run.style), tag('span', run.label), cls='run')
