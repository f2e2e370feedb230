"""What a sweep leaves: sweep.json, trials.csv, and its best settings in one line."""

import csv
import os.path as osp
import shlex
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import optuna

from csrm_plugin.experiments.sweep.definition import Sweep
from csrm_plugin.experiments.sweep.rows import Row, best_row
from csrm_plugin.experiments.sweep.space import option_text
from csrm_plugin.utils import atomic_write, write_json

FORMAT = 1
#: Complete trials from which on importances are worked out.
ENOUGH = 10
#: Last columns of trials.csv, behind the value of the metric.
ENDS = ('iteration', 'seconds', 'attempt', 'folder', 'reason')


def sweep_content(
    sweep: Sweep,
    name: str,
    config: str,
    options: Mapping[str, Any],
    rows: Sequence[Row],
    importances: Mapping[str, float] | None = None,
) -> dict:
    """Content of ``sweep.json``.

    Args:
        sweep (Sweep): The sweep file.
        name (str): Of the study.
        config (str): Config file.
        options (Mapping[str, Any]): Fixed settings.
        rows (Sequence[Row]): All trials.
        importances (Mapping[str, float], optional): From :func:`importances_of`.
    """
    best = best_row(rows, sweep.metric.maximize)
    return dict(
        format=FORMAT,
        name=name,
        yaml=sweep.path,
        config=config,
        cfg_options=options,
        method=sweep.method,
        metric=dict(name=sweep.metric.name, goal=sweep.metric.goal),
        parameters=sweep.content['parameters'],
        notes=list(sweep.notes),
        trials=[_trial(row) for row in rows],
        best=None if best is None else dict(number=best.number, params=best.params, value=best.value),
        importances=importances,
    )


def write_result(folder: str, content: Mapping) -> None:
    """Write ``sweep.json`` and ``trials.csv``; hold the study's lock meanwhile, so that no older one wins."""
    write_json(osp.join(folder, 'sweep.json'), content)
    names = list(content['parameters'])
    with atomic_write(osp.join(folder, 'trials.csv')) as temporary, open(temporary, 'w', newline='') as file:
        writer = csv.writer(file)
        writer.writerow(['number', 'state', *names, content['metric']['name'], *ENDS])
        for trial in content['trials']:
            params = [trial['params'].get(name, '') for name in names]
            ends = [trial[key] for key in ('value', *ENDS)]
            writer.writerow([trial['number'], trial['state'], *params, *('' if end is None else end for end in ends)])


def best_options(row: Row, options: Mapping[str, Any]) -> str:
    """The ``--cfg-options`` of the best trial, ready for a shell.

    Args:
        row (Row): The trial.
        options (Mapping[str, Any]): Fixed settings of the sweep.
    """
    settings = [option_text(key, value) for key, value in options.items()]
    return shlex.join(['--cfg-options', *settings, *(f'{name}={value}' for name, value in row.params.items())])


def importances_of(study: optuna.Study, rows: Sequence[Row]) -> tuple[dict | None, str | None]:
    """Share of each parameter in what makes a trial one of the best quarter (PED-ANOVA).

    Args:
        study (optuna.Study): The study.
        rows (Sequence[Row]): All trials.

    Returns:
        tuple: Name to share in 0..1, adding up to 1; or None and why there are none.
    """
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    complete = [row for row in rows if row.state == 'complete']
    if len(complete) < ENOUGH:
        return None, f'no importances: they need {ENOUGH} complete trials, and there are {len(complete)}'
    if len(complete[0].stored) < 2:
        return None, 'no importances: there is one parameter only'
    if len({row.value for row in complete}) == 1:
        return None, 'no importances: all trials have the same value'
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        try:
            evaluator = PedAnovaImportanceEvaluator(target_quantile=0.25)
        except TypeError:  # before Optuna 5
            evaluator = PedAnovaImportanceEvaluator(baseline_quantile=0.25)
        found = get_param_importances(study, evaluator=evaluator)
    return {name: float(value) for name, value in found.items()}, None


def _trial(row: Row) -> dict:
    return dict(
        number=row.number,
        state=row.state,
        params=row.params,
        value=row.value,
        iteration=row.iteration,
        curve=[list(point) for point in row.curve],
        reason=row.reason,
        seconds=None if row.seconds is None else round(row.seconds, 1),
        folder=row.folder,
        attempt=row.attempt,
        tail=row.outcome.get('tail'),
    )
