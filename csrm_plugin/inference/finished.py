"""What an earlier call has made: a command that is called again skips it.

Files are written under another name and renamed when they are whole, so one that is there is whole; it is enough to
look at the list of the folder. Reading the files, for those who do not trust their disk, is ``--check``.
"""

import os
import os.path as osp
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from rich.console import Console

from csrm_plugin.utils.processes import run_unordered
from csrm_plugin.utils.progress import track


def present_files(folder: str | os.PathLike, names: Iterable[str]) -> dict[str, float]:
    """Which of the files are in a folder and not empty, by one listing of each of its sub-folders that is named.

    Args:
        folder (str): Where to look; need not exist.
        names (Iterable[str]): Names relative to it, which may hold sub-folders (``a/b.png``).

    Returns:
        dict[str, float]: The names of those that are there, with the time of the last change in seconds.
    """
    wanted: dict[str, set[str]] = {}
    for name in names:
        parent, base = osp.split(name)
        wanted.setdefault(parent, set()).add(base)
    found = {}
    for parent, bases in wanted.items():
        place = osp.join(folder, parent)
        if not osp.isdir(place):
            continue
        with os.scandir(place) as entries:
            for entry in entries:
                if entry.name in bases and (status := entry.stat()).st_size:
                    found[osp.join(parent, entry.name)] = status.st_mtime
    return found


def find_damaged(
    read: Callable[[Any], str | None], tasks: Sequence[Any], workers: int = 0, console: Console | None = None
) -> list[Any]:
    """Read files that are there, with a progress bar, and say on standard output which are damaged.

    Args:
        read (Callable[[object], str | None]): Reads the files of a task: what is wrong with them, in a sentence
            without its stop, or None. Importable by name, for it runs in other processes.
        tasks (Sequence): What to call it with.
        workers (int): Processes; 0 works in this one.
        console (rich.console.Console, optional): Where progress goes; standard error by default.

    Returns:
        list: The tasks whose files are to be made again, in their order.
    """
    numbered = ((read, index, task) for index, task in enumerate(tasks))
    damaged = []
    for index, problem in track(run_unordered(_read, numbered, workers), len(tasks), 'Checking', console=console):
        if problem is not None:
            print(f'{problem}; it is made again', flush=True)
            damaged.append(index)
    return [tasks[index] for index in sorted(damaged)]


def _read(work) -> tuple[int, str | None]:
    """Index of a task and what is wrong with its files; runs in another process."""
    read, index, task = work
    return index, read(task)
