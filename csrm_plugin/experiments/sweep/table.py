"""What a sweep shows while it runs: a line per event, and on a terminal a table below that changes."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from csrm_plugin.experiments.sweep.definition import Sweep
from csrm_plugin.experiments.sweep.rows import Row, best_row, finished_slots
from csrm_plugin.experiments.sweep.space import Parameter

STYLES = {'complete': 'green', 'running': 'cyan', 'pruned': 'yellow', 'failed': 'red', 'waiting': 'dim'}


class Display:
    """Prints events and, on a terminal, keeps the table of trials up to date.

    Args:
        console (rich.console.Console): Where to print.
        sweep (Sweep): The sweep file.
        wanted (int): Number of wanted trials.
        retries (int): As for the sweep.
    """

    def __init__(self, console: Console, sweep: Sweep, wanted: int, retries: int) -> None:
        self.console, self.sweep, self.wanted, self.retries = console, sweep, wanted, retries
        self._live = None

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """Show the table meanwhile, if this is a terminal."""
        if not self.console.is_terminal:
            yield
            return
        with Live(console=self.console, refresh_per_second=2, transient=True) as self._live:
            yield
        self._live = None

    def event(self, text: str, style: str | None = None) -> None:
        """Print a line."""
        self.console.print(escape(text), style=style, highlight=False, soft_wrap=True)

    def update(self, rows: Sequence[Row]) -> None:
        """Draw the table anew."""
        if self._live is not None:
            height = max(self.console.size.height - 8, 4)
            self._live.update(trials_table(rows, self.sweep, self.wanted, self.retries, height))


def trials_table(rows: Sequence[Row], sweep: Sweep, wanted: int, retries: int, height: int = 1000) -> Table:
    """The table of trials: what runs, and the last of the others; those that wait are counted below.

    Args:
        rows (Sequence[Row]): All trials.
        sweep (Sweep): The sweep file.
        wanted (int): Number of wanted trials.
        retries (int): How often a failed trial is tried again.
        height (int): Most lines.
    """
    table = Table(caption=summary_line(rows, sweep, wanted, retries), caption_justify='left')
    names = short_names([parameter.name for parameter in sweep.searched])
    for heading in ('trial', 'state', *names.values(), sweep.metric.name, 'iteration', 'time'):
        table.add_column(heading, justify='left' if heading == 'state' else 'right')
    running = [row for row in rows if row.state == 'running'][:height]
    ended = [row for row in rows if row.state not in ('running', 'waiting')]
    shown = running + ended[max(len(ended) - (height - len(running)), 0) :]
    for row in sorted(shown, key=lambda row: row.number):
        table.add_row(
            str(row.number),
            row.state,
            *(format_value(row.params.get(name)) for name in names),
            format_value(row.value),
            '' if row.iteration is None else str(row.iteration),
            format_time(row.seconds),
            style=STYLES[row.state],
        )
    return table


def summary_line(rows: Sequence[Row], sweep: Sweep, wanted: int, retries: int) -> str:
    """How far the sweep is, in a line."""
    count = {state: sum(row.state == state for row in rows) for state in STYLES}
    best = best_row(rows, sweep.metric.maximize)
    parts = [f'{len(finished_slots(rows, retries))} of {wanted} done']
    parts += [f'{count[state]} {state}' for state in ('running', 'pruned', 'failed') if count[state]]
    if best is not None:
        parts.append(f'best: trial {best.number}, {sweep.metric.name} {format_value(best.value)}')
    return ', '.join(parts)


def short_names(names: Sequence[str]) -> dict[str, str]:
    """The shortest ends of dotted names that tell them apart.

    Example:
        >>> short_names(['model.loss_u.loss_weight', 'model.loss_m.loss_weight', 'lr'])
        {'model.loss_u.loss_weight': 'loss_u.loss_weight', 'model.loss_m.loss_weight': 'loss_m.loss_weight', 'lr': 'lr'}
    """
    found = {}
    for name in names:
        parts = name.split('.')
        ends = ['.'.join(parts[-count:]) for count in range(1, len(parts) + 1)]
        alone = (end for end in ends if sum(f'.{other}'.endswith(f'.{end}') for other in names) == 1)
        found[name] = next(alone, name)
    return found


def format_params(params: Mapping[str, Any], searched: Sequence[Parameter]) -> str:
    """The searched parameters in a line."""
    names = short_names([parameter.name for parameter in searched])
    return ' '.join(f'{short}={format_value(params[name])}' for name, short in names.items() if name in params)


def format_value(value: Any) -> str:
    """A number with four digits, anything else as it is."""
    if value is None:
        return ''
    return f'{value:.4g}' if isinstance(value, float) else str(value)


def format_time(seconds: float | None) -> str:
    """``35 s``, ``12.5 min`` or ``3.1 h``."""
    if seconds is None:
        return ''
    if seconds < 90:
        return f'{seconds:.0f} s'
    return f'{seconds / 60:.1f} min' if seconds < 5400 else f'{seconds / 3600:.1f} h'
