"""One trial: a training in a process of its own, and the values that it logs."""

import glob
import json
import math
import os.path as osp
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from optuna.trial import Trial

from csrm_plugin.experiments.children import Child
from csrm_plugin.utils.processes import failure_reason, log_tail
from csrm_plugin.utils.spelling import nearest

#: Lines of a failed trial's log that are kept.
KEPT_LINES = 20


class ScalarReader:
    """Reads what MMEngine's local backend has written since the last look.

    Args:
        folder (str): Work directory of the run.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        #: Every name that was logged with a number.
        self.names: set[str] = set()
        self._offsets: dict[str, int] = {}

    def read(self, last: bool = False) -> list[dict]:
        """Lines that are new.

        Args:
            last (bool): Whether nothing more comes; a last line without an end is then read too, if it is whole.
        """
        lines = []
        for path in sorted(glob.glob(osp.join(glob.escape(self.folder), '*', 'vis_data', 'scalars.json'))):
            with open(path, 'rb') as file:
                file.seek(self._offsets.get(path, 0))
                text = file.read()
            end = len(text) if last else text.rfind(b'\n') + 1
            self._offsets[path] = self._offsets.get(path, 0) + end
            lines += [line for line in map(_parse, text[:end].splitlines()) if line is not None]
        for line in lines:
            self.names.update(name for name, value in line.items() if _is_number(value))
        return lines


def metric_values(lines: Iterable[Mapping], name: str) -> list[tuple[int | None, float]]:
    """Iteration and value of each line that holds a metric; the value may be NaN or infinite."""
    return [(_iteration(line), float(line[name])) for line in lines if _is_number(line.get(name))]


def outcome_of(
    status: int, values: Sequence[tuple[int, float]], metric: str, names: Iterable[str], log: str
) -> dict[str, Any]:
    """How a training ended.

    Args:
        status (int): Exit status, negative for a signal.
        values (Sequence[tuple[int, float]]): All iterations and values of the metric.
        metric (str): Its name.
        names (Iterable[str]): Everything that was logged.
        log (str): File with the output.

    Returns:
        dict: ``state`` (COMPLETE or FAIL), ``value`` (the last one, as W&B's summary has it), or ``why``, ``reason``
        and ``tail`` (the last lines of the log).
    """
    if status != 0:
        reason = failure_reason(log, status)
    elif not values:
        logged = sorted(name for name in names if name not in ('step', 'iter', 'epoch', 'time', 'data_time', 'memory'))
        what = f'it logged {", ".join(logged[:20])}' if logged else 'it logged no numbers at all'
        near = nearest(metric, logged)
        reason = f'`{metric}` was never logged; {what}' + (f'; did you mean `{near}`?' if near else '')
    elif not math.isfinite(values[-1][1]):
        reason = f'`{metric}` is {values[-1][1]} at iteration {values[-1][0]}'
    else:
        return dict(state='COMPLETE', value=values[-1][1])
    return dict(state='FAIL', why='failed', reason=reason, tail=log_tail(log)[-KEPT_LINES:])


def finished_outcome(folder: str, metric: str) -> dict[str, Any] | None:
    """How a training ended that nobody watched any more, if its record says that it came to its end.

    Args:
        folder (str): Work directory of the trial.
        metric (str): Name of the metric.

    Returns:
        dict | None: As :func:`outcome_of`; None if the training was cut off, or its folder is not here.
    """
    try:
        with open(osp.join(folder, 'record', 'run.json')) as file:
            run = json.load(file)
        if run['status'] != 'finished':
            return None
        seconds = run.get('cost', {}).get('seconds')
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    reader = ScalarReader(folder)
    values = metric_values(reader.read(last=True), metric)
    return {**outcome_of(0, values, metric, reader.names, osp.join(folder, 'trial.log')), 'seconds': seconds}


class TrialRun:
    """A running trial.

    Args:
        trial (optuna.trial.Trial): From :meth:`csrm_plugin.experiments.sweep.study.SharedStudy.claim`.
        folder (str): Its work directory.
        command (Sequence[str]): Program and arguments.
        environment (Mapping[str, str]): Variables beside those of this process.
        metric (str): Name of the metric.
        place (int): Number of the job slot that it fills.
    """

    def __init__(
        self,
        trial: Trial,
        folder: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        metric: str,
        place: int,
    ) -> None:
        self.trial, self.folder, self.metric, self.place = trial, folder, metric, place
        self.log = osp.join(folder, 'trial.log')
        self.beat = time.monotonic()
        #: Whether the study knows already how it ended.
        self.told = False
        self.values: list[tuple[int, float]] = []
        self._reader = ScalarReader(folder)
        self.child = Child(command, self.log, environment)

    @property
    def seconds(self) -> float:
        """Seconds since it began."""
        return round(self.child.seconds, 1)

    def poll(self) -> tuple[int | None, list[tuple[int, float]]]:
        """Exit status (None while it runs) and the values that are new."""
        status = self.child.poll()
        lines = self._reader.read(last=status is not None)
        new = []
        for iteration, value in metric_values(lines, self.metric):
            new.append((len(self.values) + 1 if iteration is None else iteration, value))
            self.values.append(new[-1])
        return status, new

    def outcome(self, status: int) -> dict[str, Any]:
        """See :func:`outcome_of`."""
        found = outcome_of(status, self.values, self.metric, self._reader.names, self.log)
        return {**found, 'seconds': self.seconds}


def _parse(line: str | bytes) -> dict | None:
    """A line of JSON; None for anything else."""
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _iteration(line: Mapping) -> int | None:
    for name in ('step', 'iter'):
        if _is_number(line.get(name)) and math.isfinite(line[name]):
            return int(line[name])
    return None
