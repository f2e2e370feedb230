"""Trials of a study as plain data.

What Optuna has no place for is in user attributes of a trial:

- ``slot``: which of the wanted trials it is, from 0 (in a grid: which combination);
- ``attempt``: from 1;
- ``owner``, ``beat``: who runs it (see :mod:`csrm_plugin.experiments.sweep.ownership`), and when that was last alive;
- ``outcome``: how it ended. It is written before the state, so that a kill in between loses nothing.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from optuna.trial import FrozenTrial

from csrm_plugin.experiments.sweep.space import Parameter

#: Why a trial ended that does not count: another one stands for it.
NOT_COUNTED = ('void', 'killed', 'interrupted')
#: How often a slot is tried whose process is killed.
MOST_KILLS = 3

STATES = {'COMPLETE': 'complete', 'PRUNED': 'pruned', 'FAIL': 'failed', 'RUNNING': 'running', 'WAITING': 'waiting'}


@dataclass(frozen=True)
class Row:
    """One trial.

    Args:
        number (int): In the study; the folder is named after it.
        slot (int): Which of the wanted trials it is.
        attempt (int): From 1.
        state (str): complete, pruned, failed, running or waiting.
        params (dict): All parameters with their values, constants too; what is not drawn yet is missing.
        stored (dict): The same as Optuna has them, less constants.
        curve (list[tuple[int, float]]): Iteration and value of the metric.
        value (float, optional): The last value.
        why (str, optional): Of a failed trial: ``failed`` (by itself), or one of :data:`NOT_COUNTED`.
        reason (str, optional): The same for people.
        seconds (float, optional): How long it took, or takes so far.
        outcome (dict): As stored.
    """

    number: int
    slot: int
    attempt: int
    state: str
    params: dict[str, Any]
    stored: dict[str, Any]
    curve: list[tuple[int, float]]
    value: float | None
    why: str | None
    reason: str | None
    seconds: float | None
    outcome: dict

    @property
    def folder(self) -> str:
        """Name of its folder."""
        return folder_name(self.number)

    @property
    def iteration(self) -> int | None:
        """Iteration of the last value."""
        return self.curve[-1][0] if self.curve else None


def folder_name(number: int) -> str:
    """Name of a trial's folder, for example ``trial_0003``."""
    return f'trial_{number:04d}'


def superseded(trial: FrozenTrial) -> bool:
    """Whether another trial stands for this one."""
    return trial.state.name == 'FAIL' and trial.user_attrs.get('outcome', {}).get('why') in NOT_COUNTED


def read_rows(trials: Iterable[FrozenTrial], parameters: Sequence[Parameter], now: datetime | None = None) -> list[Row]:
    """Trials as rows, by number; of an attempt that was queued twice by mistake, the second is left out.

    Args:
        trials (Iterable[optuna.trial.FrozenTrial]): Of the study.
        parameters (Sequence[Parameter]): Of the sweep.
        now (datetime, optional): Local time, for the seconds of running trials.
    """
    rows = [_row(trial, parameters, now) for trial in trials if 'slot' in trial.user_attrs]
    first: dict = {}
    for row in sorted(rows, key=lambda row: row.number):
        if row.why != 'void':
            first.setdefault((row.slot, row.attempt), row)
    return list(first.values())


def latest(rows: Iterable[Row]) -> dict[int, Row]:
    """The last attempt of each slot."""
    found: dict[int, Row] = {}
    for row in rows:
        if row.slot not in found or row.attempt > found[row.slot].attempt:
            found[row.slot] = row
    return dict(sorted(found.items()))


def due_again(rows: Sequence[Row], slot: int, retries: int) -> bool:
    """Whether a slot must be tried again: its process was killed (not too often), or it failed and may do so.

    Args:
        rows (Sequence[Row]): All.
        slot (int): Which.
        retries (int): How often a failed trial is tried again.
    """
    last = latest(row for row in rows if row.slot == slot)[slot]
    if last.state != 'failed':
        return False
    times = sum(row.why == last.why for row in rows if row.slot == slot and row.state == 'failed')
    if last.why == 'interrupted':
        return True
    return times < MOST_KILLS + retries if last.why == 'killed' else times <= retries


def finished_slots(rows: Sequence[Row], retries: int) -> list[int]:
    """Slots that are done: complete, pruned, or failed for good."""
    return [
        slot
        for slot, row in latest(rows).items()
        if row.state in ('complete', 'pruned') or (row.state == 'failed' and not due_again(rows, slot, retries))
    ]


def best_row(rows: Iterable[Row], maximize: bool) -> Row | None:
    """The complete trial with the best last value; the first of equals."""
    complete = [row for row in rows if row.state == 'complete']
    sign = -1 if maximize else 1
    return min(complete, key=lambda row: (sign * row.value, row.number), default=None)


def _row(trial: FrozenTrial, parameters: Sequence[Parameter], now: datetime | None) -> Row:
    attributes = trial.user_attrs
    stored = {**trial.system_attrs.get('fixed_params', {}), **trial.params}  # a waiting trial has the first alone
    outcome = attributes.get('outcome') or {}
    state = STATES[trial.state.name]
    curve = [(int(step), value) for step, value in sorted(trial.intermediate_values.items())]
    ended = state in ('complete', 'pruned', 'failed')
    value = trial.value if state == 'complete' else (curve[-1][1] if curve else None)
    seconds = outcome.get('seconds') if ended else None
    if state == 'running' and now is not None and trial.datetime_start is not None:
        seconds = max((now - trial.datetime_start).total_seconds(), 0.0)
    return Row(
        number=trial.number,
        slot=attributes['slot'],
        attempt=attributes.get('attempt', 1),
        state=state,
        params=_params(stored, parameters),
        stored=stored,
        curve=curve,
        value=value if value is None or math.isfinite(value) else None,
        why=outcome.get('why', 'failed') if state == 'failed' else None,
        reason=outcome.get('reason') if ended else None,
        seconds=seconds,
        outcome=outcome,
    )


def _params(stored: Mapping[str, Any], parameters: Sequence[Parameter]) -> dict:
    """All parameters with their values."""
    found = {}
    for parameter in parameters:
        if parameter.kind == 'constant':
            found[parameter.name] = parameter.values[0]
        elif parameter.name in stored:
            found[parameter.name] = parameter.decode(stored[parameter.name])
    return found
