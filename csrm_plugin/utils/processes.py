"""Work shared by several processes of this machine."""

import contextlib
import ctypes
import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from csrm_plugin.utils import UserError

#: Set for tools that other tools start: they, and what they start (torchrun's processes), must not outlive those.
DIE_WITH_PARENT = 'CSRM_DIE_WITH_PARENT'

#: Lines at the end of a log that are looked at for the cause of a failure.
LOG_TAIL = 40


def start_pool(workers: int) -> ProcessPoolExecutor:
    """A pool whose processes leave Ctrl-C to the parent and die with it, even if it is killed.

    Args:
        workers (int): Number of processes, at least 1.
    """
    # `fork` starts in milliseconds; the functions given to it must not touch CUDA.
    method = 'fork' if sys.platform == 'linux' else None
    return ProcessPoolExecutor(workers, multiprocessing.get_context(method), _prepare_worker, (os.getpid(),))


def available_cores() -> int:
    """Cores that this process may use (fewer than the machine has, under Slurm or in a container)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def run_unordered(function: Callable[[Any], Any], tasks: Iterable, workers: int = 0) -> Iterator:
    """Call ``function(task)`` for each task and yield the results as they come.

    At most ``4 * workers`` tasks are waiting at a time, so a long iterator of large tasks does not fill the memory.
    When the generator is closed or an error is raised, what has not begun is dropped.

    Args:
        function (Callable): Importable by name, for it runs in other processes.
        tasks (Iterable): What to call it with.
        workers (int): Number of processes; 0 works in this one, in order.

    Yields:
        What ``function`` returns.

    Raises:
        UserError: If a process was killed, most often for memory. Errors of ``function`` come as they are.
    """
    if workers < 0:
        raise UserError(f'--workers must be at least 0 (0: no processes of their own), but is {workers}')
    if workers == 0:
        yield from map(function, tasks)
        return
    tasks, running = iter(tasks), set()
    pool = start_pool(workers)
    try:
        with explain_broken_pool(workers):
            while True:
                running |= {pool.submit(function, task) for task in itertools.islice(tasks, 4 * workers - len(running))}
                if not running:
                    return
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextlib.contextmanager
def explain_broken_pool(workers: int) -> Iterator[None]:
    """Turn the error of a pool whose process was killed into one that says what to do."""
    try:
        yield
    except BrokenProcessPool as error:
        raise UserError(
            f'One of the {workers} worker processes was killed, most likely because the memory is full. Nothing is '
            'lost: call again with fewer --workers.'
        ) from error


def die_with_parent() -> None:
    """Let this process end when its parent does, even if that is killed. Linux only; elsewhere nothing happens."""
    if sys.platform == 'linux':
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


def start_logged(command: Sequence[str], log: str, env: Mapping[str, str] | None = None) -> subprocess.Popen:
    """Start a program that writes its output to a file and dies with the thread that started it.

    Args:
        command (Sequence[str]): Program and arguments.
        log (str): File that gets stdout and stderr; missing parent folders are made.
        env (Mapping[str, str], optional): Variables beside those of this process.
    """
    os.makedirs(os.path.dirname(os.path.abspath(log)), exist_ok=True)
    with open(log, 'w') as output:
        return subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **(env or {}), DIE_WITH_PARENT: '1'},
            preexec_fn=die_with_parent,
        )


def log_tail(log: str) -> list[str]:
    """The last lines of a log that are not empty; what a progress bar wrote over is kept."""
    with open(log, 'rb') as file:
        file.seek(max(os.path.getsize(log) - 20000, 0))
        text = file.read().decode(errors='replace')
    return [line for line in text.replace('\r', '\n').splitlines() if line.strip()][-LOG_TAIL:]


def failure_reason(log: str, status: int) -> str:
    """Why a program failed, in one line: its error line, else the signal that ended it, else its last line.

    Args:
        log (str): Its output.
        status (int): Its exit status; negative for a signal, as :mod:`subprocess` has it.
    """
    lines = log_tail(log)
    errors = [line for line in lines if line.startswith('error: ')]
    if errors:
        return errors[-1][len('error: ') :]
    if status < 0:
        name = signal.Signals(-status).name if -status in set(signal.Signals) else f'signal {-status}'
        return f'it was killed by {name}' + (' (memory full?)' if status == -signal.SIGKILL else '')
    return lines[-1] if lines else f'exit status {status}'


def _prepare_worker(parent: int) -> None:
    """Leave Ctrl-C to the parent, and die with it, even if it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    die_with_parent()
    if sys.platform == 'linux' and os.getppid() != parent:
        os._exit(1)
    if 'torch' in sys.modules:
        # Its threads were not copied by the fork; a second one would be waited for, for ever.
        sys.modules['torch'].set_num_threads(1)
