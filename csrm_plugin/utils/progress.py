"""Progress of long work: a bar on a terminal, a line now and then in a log file."""

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

T = TypeVar('T')

#: Seconds between two lines where there is no terminal.
LINE_INTERVAL = 30.0


def track(
    items: Iterable[T], total: int, description: str, unit: str = 'images', console: Console | None = None
) -> Iterator[T]:
    """Yield ``items`` while showing how many are done, how many per second and the time left.

    Args:
        items (Iterable): An item counts as done when the next one is asked for.
        total (int): How many there will be.
        description (str): What is being done.
        unit (str): What is counted, in the plural.
        console (rich.console.Console, optional): Where to print; standard error by default.
    """
    console = console or Console(stderr=True)
    if not console.is_terminal:
        yield from _lines(items, total, description, unit, console)
        return
    columns = (TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(), _Rate(unit), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(description, total=total)
        for item in items:
            yield item
            progress.advance(task)


class _Rate(ProgressColumn):
    """``3.1 images/s``."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        """Text of the column."""
        return Text('' if task.speed is None else f'{task.speed:.1f} {self.unit}/s')


def _lines(items: Iterable[T], total: int, description: str, unit: str, console: Console) -> Iterator[T]:
    begin = shown = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - shown >= LINE_INTERVAL or done == total:
            shown, rate = now, done / max(now - begin, 1e-9)
            console.print(
                f'{description}: {done}/{total} {unit}, {rate:.1f} {unit}/s, {(total - done) / rate:.0f} s left',
                highlight=False,
                soft_wrap=True,
            )
