"""A study shared by processes: who runs which trial, what is tried again, and that nothing is lost or done twice.

Wanted trials are *slots*, all queued at the start (a grid with its values, else empty). Taking one from the queue is
atomic in Optuna; taking, ending and queueing again happen under a lock besides, where there is one. Without one two
processes may queue the same attempt of a slot: the one with the lower number stands, the other is dropped when it is
taken.
"""

import hashlib
import itertools
import json
import os.path as osp
import time
import uuid
import warnings
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, Trial, TrialState

from csrm_plugin.experiments.sweep.definition import STARTUP, Sweep
from csrm_plugin.experiments.sweep.ownership import Watcher, identity
from csrm_plugin.experiments.sweep.pruner import HyperbandRule
from csrm_plugin.experiments.sweep.rows import Row, due_again, finished_slots, folder_name, latest, read_rows
from csrm_plugin.experiments.sweep.space import Parameter, grid_cells, grid_size
from csrm_plugin.experiments.sweep.storage import file_lock, lock_path, open_storage
from csrm_plugin.experiments.sweep.trial import finished_outcome
from csrm_plugin.utils import UserError

SETTING = 'setting'
#: Most combinations of a grid that are queued without --trials.
LARGE_GRID = 10000


class SharedStudy:
    """A study of a sweep.

    Args:
        sweep (Sweep): The sweep file.
        folder (str): The sweep's folder.
        name (str): Of the study.
        setting (dict): What the study belongs to, JSON; see :meth:`bind`.
        trials (int, optional): Wanted trials.
        retries (int): How often a trial that failed by itself is tried again.
        seed (int, optional): Default: that of the study, 0 for a new one.
        storage (str, optional): URL of a database.
    """

    def __init__(
        self,
        sweep: Sweep,
        folder: str,
        name: str,
        setting: dict,
        trials: int | None = None,
        retries: int = 0,
        seed: int | None = None,
        storage: str | None = None,
    ) -> None:
        self.sweep, self.folder, self.retries, self.name = sweep, folder, retries, name
        self._lock = lock_path(folder, storage)
        backend = open_storage(folder, storage)
        direction = 'maximize' if sweep.metric.maximize else 'minimize'
        rule = sweep.early_terminate
        pruner = HyperbandRule(**rule) if rule else optuna.pruners.NopPruner()
        with self.lock():
            _refuse_other_direction(backend, name, direction)
            self.study = optuna.create_study(
                storage=backend, study_name=name, direction=direction, load_if_exists=True, pruner=pruner
            )
            self.seed = self.bind(setting, seed)
        self.wanted = wanted_trials(sweep, trials)
        self.owner, self._watcher = {**identity(), 'id': uuid.uuid4().hex}, Watcher()
        self._mine: set[int] = set()

    def lock(self) -> AbstractContextManager[None]:
        """Lock the study against other processes, where the file system can."""
        return file_lock(self._lock)

    def bind(self, setting: dict, seed: int | None) -> int:
        """Tie a new study to a setting, or check that it belongs to the same.

        Returns:
            int: The seed.

        Raises:
            UserError: Naming the first difference.
        """
        there = self.study.user_attrs.get(SETTING)
        if there is None:
            if self.study.get_trials(deepcopy=False):
                raise UserError(
                    f'study `{self.name}` in that storage was not made by tools/sweep.py; give another --name'
                )
            there = {**setting, 'seed': seed or 0}
            self.study.set_user_attr(SETTING, there)
        difference = first_difference(there, {**there, **setting, **({} if seed is None else {'seed': seed})})
        if difference is not None:
            key, old, new = difference
            raise UserError(
                f'study `{self.name}` has another `{key}`: {_short(old)} there, {_short(new)} now; '
                'give another --name (and --work-dir), or what it has'
            )
        return there['seed']

    def rows(self) -> list[Row]:
        """All trials, see :func:`csrm_plugin.experiments.sweep.rows.read_rows`."""
        trials = self.study.get_trials(deepcopy=False)
        return read_rows(trials, self.sweep.parameters, datetime.now())

    def fill(self) -> None:
        """Queue every slot that has no trial yet, and every one that must be tried again."""
        with self.lock():
            rows = self.rows()
            there = {row.slot for row in rows}
            if any(slot not in there for slot in range(self.wanted)):
                cells = grid_cells(self.sweep.parameters) if self.sweep.method == 'grid' else itertools.repeat({})
                for slot, cell in zip(range(self.wanted), cells):
                    if slot not in there:
                        values = {p.name: p.encode(cell[p.name]) for p in self.sweep.searched if p.name in cell}
                        self._queue(slot, 1, values)
            self._queue_again(rows)

    def recover(self) -> list[Row]:
        """End the trials of dead processes, and queue them again.

        Returns:
            list[Row]: Those that were ended.
        """
        found = []
        for trial in self._running_elsewhere():
            owner = trial.user_attrs.get('owner')
            lost = owner == self.owner  # a race without a lock: whoever runs it says otherwise at once
            if lost or self._watcher.is_dead(trial.number, owner, _beat(trial)):
                found.append(trial.number)
        if found:
            with self.lock():
                for trial in self._running_elsewhere():
                    if trial.number in found:
                        self._end(trial._trial_id, self._left_by(trial))
                self._queue_again(self.rows())
        return [row for row in self.rows() if row.number in found]

    def _left_by(self, trial: FrozenTrial) -> dict:
        """How the trial of a dead process ended."""
        folder = osp.join(self.folder, folder_name(trial.number))
        return (
            trial.user_attrs.get('outcome')
            or finished_outcome(folder, self.sweep.metric.name)
            or dict(state='FAIL', why='killed', reason='its process was killed')
        )

    def claim(self) -> Trial | None:
        """Take the next trial from the queue.

        Returns:
            optuna.trial.Trial | None: It has all its parameters; None if there is none to take.
        """
        with self.lock():
            trial_id = self._pop()
        if trial_id is None:
            return None
        frozen = self.study._storage.get_trial(trial_id)
        self._mine.add(frozen.number)
        # A study of its own: Optuna keeps what a sampler has seen of the trials until the next `ask`.
        study = optuna.load_study(
            study_name=self.name,
            storage=self.study._storage,
            pruner=self.study.pruner,
            sampler=make_sampler(self.sweep.sampler, self.seed, frozen.user_attrs['slot']),
        )
        trial = optuna.trial.Trial(study, trial_id)
        for parameter in self.sweep.searched:
            _suggest(trial, parameter)
        return trial

    def values(self, trial: Trial) -> dict[str, Any]:
        """All parameters of a claimed trial with their values, constants too."""
        return {
            parameter.name: parameter.decode(None if parameter.kind == 'constant' else trial.params[parameter.name])
            for parameter in self.sweep.parameters
        }

    def finish(self, trial: Trial, outcome: dict) -> bool:
        """End a trial of this process.

        Args:
            trial (optuna.trial.Trial): From :meth:`claim`.
            outcome (dict): ``state`` (COMPLETE, PRUNED or FAIL), ``value``, ``why``, ``reason``, ``seconds``, ``tail``.

        Returns:
            bool: False if another process took this one for dead and ended the trial before.
        """
        with self.lock():
            ended = self._end(trial._trial_id, outcome)
            if outcome['state'] == 'FAIL':
                self._queue_again(self.rows())
        self._mine.discard(trial.number)
        return ended

    def beat(self, trial: Trial) -> bool:
        """Show that the process of a trial is alive; False if another one has ended the trial."""
        return self._set(trial._trial_id, 'beat', time.time())

    def report(self, trial: Trial, iteration: int, value: float) -> bool:
        """Store a value of the metric; False if another process has ended the trial."""
        try:
            trial.report(value, step=iteration)
        except UpdateFinishedTrialError:
            return False
        return True

    def finished(self, rows: Sequence[Row] | None = None) -> int:
        """Number of wanted trials that are done."""
        return len(finished_slots(self.rows() if rows is None else rows, self.retries))

    def target_row(self, rows: Sequence[Row]) -> Row | None:
        """The first trial that logged the target, if there is one."""
        for row in rows:
            counts = row.state in ('complete', 'pruned', 'running')
            if counts and any(self.sweep.metric.reached(value) for _, value in row.curve):
                return row
        return None

    def _pop(self) -> int | None:
        """Mark the first waiting trial as running and as one of this process."""
        trials = self.study.get_trials(deepcopy=False)
        rows = read_rows(trials, self.sweep.parameters)
        finished = set(finished_slots(rows, self.retries))
        busy = {row.slot for row in rows if row.state == 'running'} - finished
        if len(finished) + len(busy) >= self.wanted:
            return None
        for trial in trials:
            if trial.state != TrialState.WAITING or trial.user_attrs.get('slot', self.wanted) >= self.wanted:
                continue
            if not self._take(trial._trial_id):
                continue
            if self._is_double(trial):
                self._end(trial._trial_id, dict(state='FAIL', why='void', reason='queued twice'))
                continue
            return trial._trial_id
        return None

    def _take(self, trial_id: int) -> bool:
        """Make a waiting trial one of this process, unless another one is quicker."""
        # The owner comes first, so that a kill in between leaves no running trial without one; and once more, since
        # without a lock a slower process may have written its own in between.
        self._set(trial_id, 'owner', self.owner)
        try:
            if not self.study._storage.set_trial_state_values(trial_id, state=TrialState.RUNNING):
                return False
        except UpdateFinishedTrialError:
            return False
        self._set(trial_id, 'owner', self.owner)
        return self._set(trial_id, 'beat', time.time())

    def _is_double(self, trial: FrozenTrial) -> bool:
        """Whether the same attempt of the same slot was queued before."""
        mine = _key(trial)
        return any(
            _key(other) == mine and other.number < trial.number for other in self.study.get_trials(deepcopy=False)
        )

    def _queue(self, slot: int, attempt: int, params: dict) -> None:
        self.study.enqueue_trial(params, user_attrs=dict(slot=slot, attempt=attempt))

    def _queue_again(self, rows: Sequence[Row]) -> None:
        """Queue the slots whose last attempt was killed, interrupted, or failed with retries left."""
        for slot, row in latest(rows).items():
            if row.state == 'failed' and due_again(rows, slot, self.retries):
                self._queue(slot, row.attempt + 1, row.stored)

    def _end(self, trial_id: int, outcome: dict) -> bool:
        """Write how a trial ended, then its state."""
        if not self._set(trial_id, 'outcome', outcome):
            return False
        values = None if outcome.get('value') is None else [float(outcome['value'])]
        try:
            self.study._storage.set_trial_state_values(trial_id, TrialState[outcome['state']], values)
        except UpdateFinishedTrialError:
            return False
        return True

    def _set(self, trial_id: int, key: str, value: Any) -> bool:
        try:
            self.study._storage.set_trial_user_attr(trial_id, key, value)
        except UpdateFinishedTrialError:
            return False
        return True

    def _running_elsewhere(self) -> list[FrozenTrial]:
        trials = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return [trial for trial in trials if trial.number not in self._mine]


def wanted_trials(sweep: Sweep, trials: int | None = None) -> int:
    """How many trials a study is to have.

    Raises:
        UserError: If neither --trials nor the file says it and there is no grid.
    """
    if trials is not None and trials < 1:
        raise UserError(f'--trials must be at least 1, but is {trials}')
    limits = [limit for limit in (trials, sweep.run_cap) if limit is not None]
    if sweep.method == 'grid':
        size = grid_size(sweep.parameters)
        if not limits and size > LARGE_GRID:
            raise UserError(f'sweep file `{sweep.path}`: the grid has {size} combinations; give --trials')
        return min([*limits, size])
    if not limits:
        raise UserError(f'method {sweep.method} has no end; give --trials N (or `run_cap` in {sweep.path})')
    return min(limits)


def make_sampler(kind: str, seed: int, slot: int) -> optuna.samplers.BaseSampler:
    """The sampler of one trial.

    It is seeded by the study's seed and the slot, so that no two processes draw the same, and a random search draws
    the same points however many processes share it.

    Args:
        kind (str): ``random``, ``gp`` or ``tpe``.
        seed (int): Of the study.
        slot (int): Of the trial.
    """
    digest = hashlib.sha256(f'{seed} {slot}'.encode()).digest()
    number = int.from_bytes(digest[:4], 'big')
    samplers = optuna.samplers
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # both were experimental before Optuna 5
        if kind == 'gp':
            return samplers.GPSampler(seed=number, n_startup_trials=STARTUP['gp'])
        if kind == 'tpe':
            return samplers.TPESampler(seed=number, n_startup_trials=STARTUP['tpe'], constant_liar=True)
    return samplers.RandomSampler(seed=number)


def first_difference(old: Mapping, new: Mapping, prefix: str = '') -> tuple[str, Any, Any] | None:
    """Key, old and new value of the first difference between two nested dicts; None if they are the same."""
    for key in sorted({*old, *new}, key=str):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            found = first_difference(before, after, f'{prefix}{key}.')
            if found is not None:
                return found
        elif json.dumps(before, sort_keys=True) != json.dumps(after, sort_keys=True):
            return f'{prefix}{key}', before, after
    return None


def _refuse_other_direction(storage: optuna.storages.BaseStorage, name: str, direction: str) -> None:
    """Say what Optuna would say without naming the mend."""
    try:
        there = optuna.load_study(study_name=name, storage=storage).direction.name.lower()
    except KeyError:
        return
    if there != direction:
        raise UserError(
            f'study `{name}` has another `metric.goal`: {there} there, {direction} now; '
            'give another --name (and --work-dir)'
        )


def _suggest(trial: Trial, parameter: Parameter) -> None:
    if parameter.kind == 'categorical':
        trial.suggest_categorical(parameter.name, parameter.choices)
    elif parameter.kind == 'int_uniform':
        trial.suggest_int(parameter.name, int(parameter.low), int(parameter.high))
    else:
        trial.suggest_float(parameter.name, parameter.low, parameter.high, log=parameter.log)


def _key(trial: FrozenTrial) -> tuple:
    """Slot and attempt; None for what was dropped as a double."""
    if trial.user_attrs.get('outcome', {}).get('why') == 'void' or 'slot' not in trial.user_attrs:
        return (None, trial.number)
    return trial.user_attrs['slot'], trial.user_attrs.get('attempt', 1)


def _beat(trial: FrozenTrial) -> float | None:
    """Wall time of the last sign of life."""
    started = trial.datetime_start
    return trial.user_attrs.get('beat') or (started.timestamp() if started is not None else None)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f'{text[:57]}...'
