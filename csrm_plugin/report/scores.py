"""Scores of runs: key numbers, the table of all scores, and the paper's figures beside them."""

import os.path as osp
import statistics
from typing import NamedTuple

from csrm_plugin.report import formats, page
from csrm_plugin.report.charts import swatch
from csrm_plugin.report.formats import NONE, is_number, percent, score_name
from csrm_plugin.report.markup import join, table, tag
from csrm_plugin.report.palette import run_variable
from csrm_plugin.report.paper import published
from csrm_plugin.report.paper.doctor import DATASET_TYPES
from csrm_plugin.report.paper.table import network_name
from csrm_plugin.report.sources import best_validation, checkpoint_folder, scores_of, split_of

#: Losses that the rows of the paper's Table 1 name.
_LOSSES = ('s', 's2c', 'u', 'm')
#: What a card of a verification stage calls labels that no model made.
_TRUE_MASKS = 'true masks'
#: Runs up to which key numbers are shown side by side.
_MANY = 6


class Figure(NamedTuple):
    """What the paper gives for a run.

    Attributes:
        metric (str): Our name of the score.
        scores (dict[str, float]): Percent, by split.
        source (str): The table.
        note (str): How it was made, as far as the paper says.
    """

    metric: str
    scores: dict
    source: str
    note: str


def dataset_of(run) -> str | None:
    """Name of a run's data set (``voc``, ``coco``, ``msrc``, ``demo``), or None where it is none of ours."""
    known = DATASET_TYPES.get(run.settings.get('train_dataloader.dataset.type'))
    return known or run.card.get('dataset')


def published_figure(run) -> Figure | None:
    """The paper's figure for a run, by what its settings say; None where the paper has none."""
    dataset, settings = dataset_of(run), run.settings
    if dataset not in published.DATASETS or not settings:
        return None
    if network_of(run):
        return _verification_figure(dataset, network_of(run), labels_of(run))
    if dataset != 'voc':
        return None
    row = None
    if settings.get('model.type') == published.CSRM_SETTINGS['model.type']:
        losses = tuple(loss for loss in _LOSSES if f'model.loss_{loss}.type' in settings)
        row = next((row for row in published.TABLE_1 if row['losses'] == losses), None)
    elif settings.get('model.type') in published.CLASSIFIERS:
        row = published.TABLE_2[0]
    return _figure('pseudo/mIoU', row, published.TTA_NOTE) if row else None


def network_of(run) -> str | None:
    """The verification network of the paper that a run trains, by the name of its config; else None."""
    network = network_name(run.info.get('config') or '')
    return network if network in published.NETWORKS else None


def labels_of(run) -> str | None:
    """The labels that a verification network of a pipeline learnt from: ``true masks`` or a stage; else None."""
    return (run.card.get('context') or {}).get('labels')


def _verification_figure(dataset, network, labels):
    """The row of the same supervision: F for true masks, I for labels by CSRM; None for others and unknown ones."""
    supervision = 'F' if labels == _TRUE_MASKS else 'I' if labels in published.CSRM_LABELS else None
    rows = published.TABLE_3 if dataset == 'voc' else published.TABLE_4
    row = next((row for row in rows if (row['network'], row['supervision']) == (network, supervision)), None)
    trained_on = 'true masks' if supervision == 'F' else 'labels by CSRM'
    note = f'trained on {trained_on}; the paper does not state scales, flip and dCRF'
    return _figure('seg/mIoU', row, note) if row else None


def _lacks_labels(run):
    return dataset_of(run) in published.DATASETS and bool(network_of(run)) and not labels_of(run)


def _figure(metric, row, note):
    scores = {split: row[split] for split in ('train', 'val', 'test') if split in row}
    return Figure(metric, scores, row['source'], note)


def metrics_of(runs) -> list[str]:
    """Names of all scores of the runs' validations, the important ones first."""
    names = dict.fromkeys(key for run in runs for item in run.validations for key in scores_of(item['metrics']))
    order = list(formats.SCORE_NAMES)
    return sorted(names, key=lambda name: order.index(name) if name in order else len(order))


def key_numbers(runs) -> list:
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
    lines = [f'{text}. Iteration {formats.number(last["iteration"])}, seed {_seed(run)}.']
    if best and best[1] != last['iteration']:
        lines.append(f'Best: {percent(best[0])} at iteration {formats.number(best[1])}.')
    return page.card(score_name(metric), percent(value), [line + ' ' for line in lines])


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


def score_section(runs) -> page.Section:
    """Final and best scores of every run with what they stand on, and scores of ``tools/test.py``."""
    metrics = metrics_of(runs)
    figures = {run.style: published_figure(run) for run in runs}
    # A network of the paper has the column, if only with a dash.
    paper = any(figures.values()) or any(dataset_of(run) in published.DATASETS and network_of(run) for run in runs)
    alone = len(runs) == 1
    head = ['Score' if alone else 'Run', 'Final', 'Best', *(['Paper'] if paper else []), 'The final number stands on']
    rows = []
    for metric in metrics:
        name = join(score_name(metric), ' ', tag('code', metric) if score_name(metric) != metric else None)
        rows += [] if alone else [name]
        for run in runs:
            rows += _score_rows(run, metric, name if alone else _name(run), figures[run.style], paper)
    content = []
    if rows:
        caption = (
            'Scores of the validations during training, in percent. The best iteration of each score was chosen with '
            "the validation's masks, so that it is a little too good to be true."
        )
        content.append(table(head, rows, caption, numeric=range(1, len(head) - 1), cls='scores'))
        content.append(_seed_statistics(runs, metrics))
        content.append(tag('p', _paper_sentence(runs, figures), cls='note'))
    content.append(_test_table(runs))
    return page.Section('Scores', content)


def _score_rows(run, metric, name, figure, paper):
    if not run.validations or all(metric not in item['metrics'] for item in run.validations):
        return []
    last = run.validations[-1]
    best = best_validation(run, metric)
    final = [percent(last['metrics'].get(metric)), _at(last['iteration'])]
    cells = [name, final, [percent(best[0]), _at(best[1])] if best else NONE]
    if paper:
        score = None
        if figure and figure.metric == metric:
            score = figure.scores.get(last['context'].get('split'))
        cells.append([percent(score), tag('span', figure.source, cls='context')] if score is not None else NONE)
    text = formats.score_context(metric, last['context'], last['metrics'])
    return [[*cells, tag('span', f'{text}, seed {_seed(run)}', cls='context')]]


def _at(iteration):
    return tag('span', f'iteration {formats.number(iteration)}', cls='context')


def _name(run):
    return tag('span', swatch(run.style), tag('span', run.label), cls='run')


def _paper_sentence(runs, figures):
    notes = dict.fromkeys(f'{figure.source}: {figure.note}' for figure in figures.values() if figure)
    parts = [f'Paper: DOI {published.DOI}. {". ".join(notes)}.'] if notes else []
    without = [run for run in runs if not figures[run.style]]
    if not without:
        return ' '.join(parts)
    if any(not run.settings for run in without):
        parts.append('Without recorded settings it is not known whether the paper has a figure for the run.')
    elif any(dataset_of(run) in published.DATASETS for run in without):
        unknown = [run for run in without if _lacks_labels(run)]
        if unknown:
            parts.append(
                'The figure of a network depends on the labels that it learnt from, which are not known here: '
                f'{", ".join(run.label for run in unknown)}.'
            )
        names = ', '.join(run.label for run in without if run not in unknown)
        if names:
            parts.append(f'No published figure: the paper has none for the settings of {names}.')
    else:
        names = ', '.join(dict.fromkeys(dataset_of(run) or 'this data set' for run in without))
        parts.append(f'No published figure for {names}: the paper reports VOC 2012 and COCO 2014.')
    return ' '.join(parts)


def _seed_statistics(runs, metrics):
    """Mean and standard deviation over runs that differ in their seeds alone."""
    from csrm_plugin.report.settings import code_differences, differing_settings, unknown_parts

    seeds = [run.seed for run in runs]
    if len(runs) < 2 or len(set(seeds)) < len(seeds) or any(not run.settings for run in runs):
        return None
    if set(differing_settings(runs)) - {'randomness.seed'} or not all(run.validations for run in runs):
        return None
    iterations = {run.validations[-1]['iteration'] for run in runs}
    if len(iterations) > 1:
        return None
    rows = []
    for metric in metrics:
        values = [run.validations[-1]['metrics'].get(metric) for run in runs]
        if all(map(is_number, values)):
            rows.append(
                [
                    score_name(metric),
                    percent(statistics.mean(values)),
                    f'{statistics.stdev(values):.2f}',
                    f'{percent(min(values))} to {percent(max(values))}',
                ]
            )
    numbers, code = ', '.join(map(str, seeds)), code_differences(runs)
    how = f'seeds ({numbers}) and in {" and ".join(code)}' if code else f'seeds alone ({numbers})'
    caption = (
        f'The {len(runs)} runs differ in their {how}. Scores at iteration {formats.number(iterations.pop())}; standard '
        'deviation of the sample, in points.'
    )
    if not rows:
        return None
    notes = ' '.join(unknown_parts(runs))
    shown = table(['Score', 'Mean', 'Std. dev.', 'Range'], rows, caption, numeric=(1, 2, 3))
    return join(shown, tag('p', notes, cls='note') if notes else None)


def _test_table(runs):
    """Scores of ``tools/test.py``: a row for each score and what it stands on, a column for each run."""
    rows = {}
    for run in runs:
        for name, test in [] if run.card else run.tests:  # a pipeline's tests are on its cards
            for metric, value in scores_of(test).items():
                text = _test_context(run, metric, test)
                cell = _test_cell(run, metric, value, test)
                # Two files may differ in what they do not say, such as --cfg-options.
                if rows.get((metric, text), {}).get(run.style, cell) != cell:
                    text = f'{text}, {name}'
                rows.setdefault((metric, text), {})[run.style] = cell
    if not rows:
        return None
    shown = [run for run in runs if any(run.style in cells for cells in rows.values())]
    head = ['Score', *(run.label if len(runs) > 1 else 'Value' for run in shown), 'Stands on']
    body = [
        [score_name(metric), *(cells.get(run.style, NONE) for run in shown), tag('span', text, cls='context')]
        for (metric, text), cells in rows.items()
    ]
    caption = 'Scores of finished checkpoints, by tools/test.py, in percent.'
    return table(head, body, caption, numeric=range(1, len(head) - 1))


def _test_context(run, metric, test):
    """What a score of ``tools/test.py`` stands on, with the checkpoint, and whether it is the run's last one."""
    context = {'split': split_of(test['context']), **test['context']}
    parts = [formats.score_context(metric, context, {})]
    parts += ['test-time augmentation'] if context.get('tta') else []
    checkpoint, last = str(context.get('checkpoint') or ''), run.info.get('checkpoint')
    if not _is_own(run, test):
        parts.append(f'checkpoint {checkpoint}, of another folder')
    else:
        parts.append(f'checkpoint {osp.basename(checkpoint)}')
        if last and osp.basename(checkpoint) != last:
            parts.append(f'not the last one, {last}')
    text = ', '.join(parts)
    return f'{text}; best threshold of each, chosen with the masks' if _has_best_threshold(metric, test) else text


def _is_own(run, test):
    """Whether the checkpoint that was tested lay in a folder of the run's name, or it is not said where it lay."""
    return checkpoint_folder(test) in ('', osp.basename(osp.abspath(run.folder)))


def _test_cell(run, metric, value, test):
    # The seed of the training decides on the score; that of the test is its config's.
    parts = [f'seed {_seed(run) if _is_own(run, test) else "not recorded"}']
    if _has_best_threshold(metric, test):
        parts.insert(0, f'at {test["cam/threshold"]:g}')
    return [percent(value), tag('span', ', '.join(parts), cls='context')]


def _has_best_threshold(metric, test):
    return metric.startswith('cam/') and is_number(test.get('cam/threshold'))


def _seed(run):
    return 'not recorded' if run.seed is None else run.seed
