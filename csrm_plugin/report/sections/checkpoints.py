"""Scores of finished checkpoints, by ``tools/test.py``."""

import os.path as osp
from collections.abc import Sequence

from csrm_plugin.report.page import formats
from csrm_plugin.report.page.formats import NONE, is_number, percent, score_name
from csrm_plugin.report.page.markup import Html, table, tag
from csrm_plugin.report.runs.run import Run
from csrm_plugin.report.runs.validations import checkpoint_folder, scores_of, split_of


def checkpoint_table(runs: Sequence[Run]) -> Html | None:
    """Scores of ``tools/test.py``, or None: a row for each score and what it stands on, a column for each run."""
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
    parts = [f'seed {run.seed_text if _is_own(run, test) else "not recorded"}']
    if _has_best_threshold(metric, test):
        parts.insert(0, f'at {test["cam/threshold"]:g}')
    return [percent(value), tag('span', ', '.join(parts), cls='context')]


def _has_best_threshold(metric, test):
    return metric.startswith('cam/') and is_number(test.get('cam/threshold'))
