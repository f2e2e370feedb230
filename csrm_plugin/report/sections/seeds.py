"""Mean and deviation of the scores of runs that differ in their seeds alone."""

import statistics
from collections.abc import Sequence

from csrm_plugin.report.page import formats
from csrm_plugin.report.page.formats import is_number, percent, score_name
from csrm_plugin.report.page.markup import Html, join, table, tag
from csrm_plugin.report.runs.differences import SEED
from csrm_plugin.report.runs.run import Run
from csrm_plugin.report.sections.settings import code_differences, differing_settings, unknown_parts


def seed_statistics(runs: Sequence[Run], metrics: Sequence[str]) -> Html | None:
    """Mean and standard deviation over runs that differ in their seeds alone; None for others.

    Args:
        runs (Sequence[Run]): At least one.
        metrics (Sequence[str]): Names of the scores.
    """
    seeds = [run.seed for run in runs]
    if len(runs) < 2 or len(set(seeds)) < len(seeds) or any(not run.settings for run in runs):
        return None
    if set(differing_settings(runs)) - {SEED} or not all(run.validations for run in runs):
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
