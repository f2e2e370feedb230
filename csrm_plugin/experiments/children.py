"""Run programs as child processes, one or several at a time: the one way in which pipeline, sweep and repetition do it.

Everything happens in the thread that calls, for a child dies with the thread that started it. A stage that calls two
tools, one after the other::

    run_jobs([[Step('stage cams', 'labels', command, log), Step('stage cams', 'scores', command, log)]])

and three seeds, two at a time, each on GPUs of its own::

    gpus, cores = visible_gpus(), available_cores()
    run_jobs(map(steps_of, seeds), at_once=2, environment=lambda i: job_environment(i, 2, 1, gpus, cores, os.environ))
"""

import itertools
import os
import os.path as osp
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.text import Text

from csrm_plugin.config import provenance
from csrm_plugin.utils import UserError
from csrm_plugin.utils.processes import failure_reason, log_tail, start_logged

#: Seconds between asking a program to end and killing it.
GRACE = 10.0
#: Seconds between two looks at the programs that run.
PAUSE = 0.05
#: Seconds between two looks at their logs, for a terminal.
SHOWN = 1.0


class Child:
    """A program that runs, with its output in a log file. It dies with the thread that started it.

    Args:
        command (Sequence[str]): Program and arguments.
        log (str): File that gets stdout and stderr; missing parent folders are made, an old log is written over.
        environment (Mapping[str, str], optional): Variables beside those of this process, see
            :func:`project_path` and :func:`job_environment`.
    """

    def __init__(self, command: Sequence[str], log: str, environment: Mapping[str, str] | None = None) -> None:
        self.log = log
        #: Exit status, negative for a signal; None while it runs, or until :meth:`poll` or :meth:`wait` has seen it.
        self.status: int | None = None
        #: Peak memory in MiB of its largest process, itself or one that it waited for; 0 until its end was seen. Not
        #: below what this process had when it started it, which the system counts too.
        self.peak_mib = 0.0
        self._begin, self._end = time.monotonic(), None
        self._asked: float | None = None
        self._process = start_logged(command, log, dict(environment or {}))

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid

    @property
    def seconds(self) -> float:
        """How long it ran, or runs so far."""
        return (time.monotonic() if self._end is None else self._end) - self._begin

    def poll(self) -> int | None:
        """The exit status, or None while it runs; does not wait."""
        return self._collect(os.WNOHANG)

    def wait(self) -> int:
        """Wait for the end; gives the exit status."""
        return self._collect(0)

    def stop(self, at_once: bool = False) -> None:
        """Ask the program to end, or kill it if it was asked :data:`GRACE` seconds ago; does not wait.

        Args:
            at_once (bool): Kill it in any case.
        """
        if self.poll() is not None:
            return
        now = time.monotonic()
        if at_once or (self._asked is not None and now - self._asked > GRACE):
            os.kill(self.pid, signal.SIGKILL)
        elif self._asked is None:
            os.kill(self.pid, signal.SIGTERM)
        if self._asked is None:
            self._asked = now

    def last_line(self) -> str:
        """The last line of the log that is not empty, or what a progress bar wrote there; may be ''."""
        return (log_tail(self.log) or [''])[-1]

    def failure(self) -> str | None:
        """Why it failed, in one line that names the log; None while it runs, and if it went well."""
        return f'{failure_reason(self.log, self.status)}; its log is {self.log}' if self.status else None

    def _collect(self, options: int) -> int | None:
        """Take the exit status from the system, with what :mod:`subprocess` leaves out: the memory."""
        if self.status is None:
            pid, code, usage = os.wait4(self.pid, options)
            if pid:
                self.status = self._process.returncode = os.waitstatus_to_exitcode(code)
                self.peak_mib = usage.ru_maxrss / (1024 if sys.platform == 'linux' else 1024**2)
                self._end = time.monotonic()
        return self.status


def end_all(children: Iterable[Child]) -> None:
    """End programs: ask all of them, kill after :data:`GRACE` seconds, and wait until the last one is gone.

    A Ctrl-C meanwhile kills them at once.
    """
    children = list(children)
    try:
        while any(child.poll() is None for child in children):
            for child in children:
                child.stop()
            time.sleep(PAUSE)
    except BaseException:
        for child in children:
            child.stop(at_once=True)
        raise


@dataclass(frozen=True)
class Step:
    """One command of a job.

    Args:
        job (str): What it is part of, for messages: ``seed 0``, ``stage 03_labels``.
        name (str): What it does: ``train``.
        command (Sequence[str]): Program and arguments.
        log (str): See :class:`Child`.
        environment (Mapping[str, str]): Variables; those of the job's place come on top.
    """

    job: str
    name: str
    command: Sequence[str]
    log: str
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Ended:
    """A step that went well: how long it ran, and peak memory in MiB of its largest process."""

    step: Step
    seconds: float
    peak_mib: float


def run_jobs(
    jobs: Iterable[Iterable[Step]],
    at_once: int = 1,
    environment: Callable[[int], Mapping[str, str]] | None = None,
    console: Console | None = None,
    on_end: Callable[[Ended], object] | None = None,
) -> list[Ended]:
    """Run jobs, several at a time, each of which is a list of commands that run one after the other.

    The first failure, or Ctrl-C, starts nothing further and ends what runs.

    Args:
        jobs (Iterable[Iterable[Step]]): A job may be a generator: what it does between two steps is done between them,
            in this thread, and an error that it raises counts as a failure. The next job is asked for when its turn
            comes.
        at_once (int): Jobs at a time, at least 1.
        environment (Callable[[int], Mapping[str, str]], optional): Variables for the place of a job, a number from 0
            to ``at_once - 1`` that no two jobs have at the same time; see :func:`job_environment`.
        console (rich.console.Console, optional): If it is a terminal, it shows the last line of each log meanwhile.
        on_end (Callable[[Ended], object], optional): Called with each step that went well, before its job goes on.

    Returns:
        list[Ended]: All steps, in the order in which they ended.

    Raises:
        UserError: If a step fails: ``<job> failed at <name>: <why>; its log is <log>``.
    """
    waiting = iter(jobs)
    running: dict[int, tuple[Iterator[Step], Step, Child]] = {}
    ended: list[Ended] = []

    def advance(place: int, steps: Iterator[Step]) -> None:
        step = next(steps, None)
        if step is not None:
            variables = {**step.environment, **(environment(place) if environment else {})}
            running[place] = steps, step, Child(step.command, step.log, variables)

    with _Display(console) as display:
        try:
            while True:
                while len(running) < at_once and (job := next(waiting, None)) is not None:
                    advance(min(set(range(at_once)) - set(running)), iter(job))
                if not running:
                    return ended
                display.update([(step, child) for _, step, child in running.values()])
                time.sleep(PAUSE)
                for place, (steps, step, child) in list(running.items()):
                    if child.poll() is None:
                        continue
                    if child.status:
                        raise UserError(f'{step.job} failed at {step.name}: {child.failure()}')
                    del running[place]
                    ended.append(Ended(step, child.seconds, child.peak_mib))
                    if on_end is not None:
                        on_end(ended[-1])
                    advance(place, steps)
        except BaseException:
            end_all(child for _, _, child in running.values())
            raise


class _Display:
    """On a terminal: the last line of the log of each program that runs."""

    def __init__(self, console: Console | None) -> None:
        self._status = console.status('') if console is not None and console.is_terminal else None
        self._shown = -SHOWN

    def __enter__(self) -> '_Display':
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(self, *_) -> None:
        if self._status is not None:
            self._status.stop()

    def update(self, running: Sequence[tuple[Step, Child]]) -> None:
        """Show what runs, not more often than every :data:`SHOWN` seconds."""
        if self._status is None or time.monotonic() - self._shown < SHOWN:
            return
        self._shown = time.monotonic()
        names = [step.name if len(running) == 1 else f'{step.job} {step.name}' for step, _ in running]
        lines = [f'{name}  {child.last_line()[-100:]}' for name, (_, child) in zip(names, running)]
        self._status.update(Text('\n'.join(lines)))  # a log may hold what the console would take for markup


def project_path(root: str) -> dict[str, str]:
    """``PYTHONPATH`` with the project in front, so that its tools find its package from anywhere.

    Args:
        root (str): Folder of the project.
    """
    return {'PYTHONPATH': os.pathsep.join(filter(None, [root, os.environ.get('PYTHONPATH')]))}


def new_log(path: str) -> str:
    """A log of its own for each start, so that what is resumed keeps that of its first part.

    Args:
        path (str): Such as ``train.log``; ``train_2.log`` where that is there, and so on.
    """
    stem, ending = osp.splitext(path)
    names = (path if number == 1 else f'{stem}_{number}{ending}' for number in itertools.count(1))
    return next(name for name in names if not osp.exists(name))


def train_command(root: str, config: str, arguments: Sequence[str], processes: int = 1) -> list[str]:
    """A training: ``tools/train.py``, started by torchrun where it has several processes.

    Args:
        root (str): Folder of the project.
        config (str): Config file.
        arguments (Sequence[str]): What comes behind it.
        processes (int): At least 1.
    """
    tool = os.path.join(root, 'tools', 'train.py')
    if processes == 1:
        return [sys.executable, tool, config, *arguments]
    return [sys.executable, *torchrun(processes), tool, config, '--launcher', 'pytorch', *arguments]


def torchrun(processes: int) -> list[str]:
    """What comes between the interpreter and a tool that is to run in several processes of this machine."""
    return ['-m', 'torch.distributed.run', '--standalone', f'--nproc_per_node={processes}']


def visible_gpus() -> list[str]:
    """Devices that jobs can be shared out to, as ``CUDA_VISIBLE_DEVICES`` names them."""
    visible = os.environ.get('CUDA_VISIBLE_DEVICES')
    if visible is not None:
        return [part.strip() for part in visible.split(',') if part.strip() and part.strip() != '-1']
    return [str(index) for index in range(len(provenance.host()['gpus']))]


def job_environment(
    place: int, jobs: int, processes: int, gpus: Sequence[str], cores: int, environ: Mapping[str, str]
) -> dict[str, str]:
    """Variables that keep jobs at the same time apart: each gets its share of the GPUs, in turn, and of the cores.

    Args:
        place (int): Which of the jobs, from 0.
        jobs (int): Jobs at a time.
        processes (int): Processes of one job, each with a GPU of its own.
        gpus (Sequence[str]): Devices as in ``CUDA_VISIBLE_DEVICES``, see :func:`visible_gpus`; where a job has more
            processes, or none is there, nothing is said about devices.
        cores (int): That this process may use.
        environ (Mapping[str, str]): What is set already.

    Returns:
        dict[str, str]: Empty for one job.

    Example:
        >>> job_environment(1, 2, 1, ['4', '6'], 8, {})
        {'OMP_NUM_THREADS': '4', 'CUDA_VISIBLE_DEVICES': '6'}
    """
    if jobs == 1:
        return {}
    found = {}
    if 'OMP_NUM_THREADS' not in environ:
        found['OMP_NUM_THREADS'] = str(max(cores // (jobs * processes), 1))
    if gpus and processes <= len(gpus):
        first = place * processes
        found['CUDA_VISIBLE_DEVICES'] = ','.join(gpus[(first + i) % len(gpus)] for i in range(processes))
    return found
