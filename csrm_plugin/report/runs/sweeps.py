"""A sweep as it lies on disk, read and checked."""

import os
import os.path as osp
from dataclasses import dataclass

from csrm_plugin.report.page.formats import is_number, number, percent, score_context
from csrm_plugin.report.runs.records import load_record
from csrm_plugin.report.runs.run import Run
from csrm_plugin.report.runs.sources import SWEEP_FILE
from csrm_plugin.report.runs.validations import scores_of
from csrm_plugin.tracking.record import is_run, read_json
from csrm_plugin.utils import MissingFileError, UserError

#: States of trials that have a score to show.
SCORED = ('complete', 'pruned')
#: States of trials that are still to be run, or to end.
UNFINISHED = ('running', 'waiting')


@dataclass
class Sweep:
    """A sweep.

    Attributes:
        folder (str): With ``sweep.json`` and a folder per trial.
        content (dict): Of ``sweep.json``.
    """

    folder: str
    content: dict

    @property
    def trials(self) -> list[dict]:
        """All trials, by number."""
        return sorted(self.content['trials'], key=lambda trial: trial['number'])

    @property
    def scored(self) -> list[dict]:
        """Trials with a score, complete or pruned."""
        return [trial for trial in self.trials if trial['state'] in SCORED and is_number(trial.get('value'))]

    @property
    def complete(self) -> list[dict]:
        """Trials that ran to their end and have a score."""
        return [trial for trial in self.scored if trial['state'] == 'complete']

    @property
    def unfinished(self) -> int:
        """Number of trials that have not ended."""
        return sum(trial['state'] in UNFINISHED for trial in self.trials)

    @property
    def metric(self) -> str:
        """Name of the score."""
        return self.content['metric']['name']

    @property
    def maximized(self) -> bool:
        """Whether a higher score is better."""
        return self.content['metric'].get('goal') != 'minimize'

    @property
    def keys(self) -> list[str]:
        """Settings that vary, in the order of the YAML; those with one value are left out."""
        found = {}
        for trial in self.trials:
            for key, value in trial['params'].items():
                found.setdefault(key, []).append(value)
        order = [key for key in self.content.get('parameters') or {} if key in found]
        order += [key for key in found if key not in order]
        parameters = self.content.get('parameters') or {}
        return [
            key
            for key in order
            if any(value != found[key][0] for value in found[key]) or not is_constant(parameters.get(key))
        ]

    @property
    def best(self) -> dict | None:
        """The best complete trial."""
        trials = self.complete
        if not trials:
            return None
        return (max if self.maximized else min)(trials, key=lambda trial: trial['value'])

    def is_log(self, key: str) -> bool:
        """Whether a setting is searched on a logarithmic scale."""
        return 'log' in str((self.content.get('parameters') or {}).get(key, {}).get('distribution', ''))

    @property
    def ends(self) -> tuple[float, float]:
        """Poorest and best score of all trials that have one."""
        values = [trial['value'] for trial in self.scored]
        return (min(values), max(values)) if self.maximized else (max(values), min(values))

    def validation(self, trial: dict) -> dict | None:
        """Last validation of a trial, by the record of its run; None where there is none that says its context."""
        folder = osp.join(self.folder, str(trial.get('folder') or ''))
        validations = Run('', load_record(folder)).validations if trial.get('folder') and is_run(folder) else []
        return validations[-1] if validations and validations[-1]['context'] else None

    def context(self, trial: dict, threshold: bool = True) -> str | None:
        """What the score of a trial stands on, by the record of its run; None where there is none.

        Args:
            trial (dict): Of :attr:`trials`.
            threshold (bool): Whether to name the thresholds, which may be what varies.
        """
        last = self.validation(trial)
        if last is None:
            return None
        context, metrics = last['context'], last['metrics']
        if not threshold:
            source = {**(context.get('pseudo_label') or {}), 'threshold': None}
            context, metrics = {**context, 'pseudo_label': source}, {}
        return f'{score_context(self.metric, context, metrics)}, seed {context.get("seed", "not recorded")}'

    @property
    def axis_label(self) -> str:
        """Name of the score, with its unit."""
        return f'{self.metric}, %' if self._is_percent else self.metric

    def text(self, value: float | None) -> str:
        """A score in percent, or as a plain number where it is none (a loss)."""
        return percent(value) if self._is_percent else number(value)

    def short_name(self, key: str) -> str:
        """The last part of a key, or as many as it takes to be unique."""
        parts, others = key.split('.'), [other for other in self.keys if other != key]
        for depth in range(1, len(parts)):
            name = '.'.join(parts[-depth:])
            if not any(other == name or other.endswith(f'.{name}') for other in others):
                return name
        return key

    @property
    def _is_percent(self):
        return bool(scores_of({self.metric: 1.0}))


def read_sweep(folder: str | os.PathLike) -> Sweep:
    """Read the folder of a sweep.

    Raises:
        MissingFileError: If it has no ``sweep.json``.
        UserError: If that file is broken.
    """
    path = osp.join(folder, SWEEP_FILE)
    if not osp.isfile(path):
        raise MissingFileError(f'`{folder}` is no folder of a sweep: it has no {SWEEP_FILE}; tools/sweep.py makes one')
    mend = 'run tools/sweep.py again, which writes it from its study'
    content = read_json(path, mend)
    trials, metric = content.get('trials'), content.get('metric')
    if not isinstance(metric, dict) or not isinstance(metric.get('name'), str):
        raise UserError(f'`{path}`: `metric` must hold a `name`; {mend}')
    if not isinstance(trials, list):
        raise UserError(f'`{path}`: `trials` must be a list; {mend}')
    if not isinstance(content.get('parameters') or {}, dict):
        raise UserError(f'`{path}`: `parameters` must be an object; {mend}')
    for index, trial in enumerate(trials):
        wrong = _wrong_trial(trial)
        if wrong:
            raise UserError(f'`{path}`: trial {index}: {wrong}; {mend}')
    return Sweep(str(folder), content)


def is_constant(parameter: object) -> bool:
    """Whether a parameter of a YAML holds one value only."""
    if not isinstance(parameter, dict):
        return False
    return (
        'value' in parameter or parameter.get('distribution') == 'constant' or len(parameter.get('values') or ()) == 1
    )


def _wrong_trial(trial):
    if not isinstance(trial, dict):
        return 'is no object'
    if not is_number(trial.get('number')):
        return '`number` is missing'
    if not isinstance(trial.get('state'), str):
        return '`state` is missing'
    if not isinstance(trial.get('params'), dict):
        return '`params` must be an object'
    curve = trial.get('curve') or []
    if not isinstance(curve, list) or any(not isinstance(point, list) or len(point) != 2 for point in curve):
        return '`curve` must be a list of [iteration, value]'
    return None
