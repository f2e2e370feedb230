"""What a chart draws: lines of runs, made shorter where they are long, and what they show, in words."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from csrm_plugin.report.page.formats import is_number, number

#: Points of a line; of longer ones, neighbours are averaged.
MAX_POINTS = 300


class Series(NamedTuple):
    """A line of a chart.

    Attributes:
        name (str): Of the run.
        xs (Sequence[float]): Ascending.
        ys (Sequence[float | None]): A value that is None or not finite leaves a gap.
        style (int): Number of the run, which decides on colour, dash and marker.
        hollow (bool): Whether it is the second curve of its run: a thinner line, with open markers.
    """

    name: str
    xs: Sequence
    ys: Sequence
    style: int
    hollow: bool = False


def thin(xs: Sequence, ys: Sequence, limit: int = MAX_POINTS) -> tuple[list[float], list[float]]:
    """Average neighbouring points until there are at most ``limit``; None and NaN become NaN, a gap.

    Args:
        xs (Sequence[float]): Ascending.
        ys (Sequence[float | None]): As many.
        limit (int): Points that are left at most.
    """
    xs = np.asarray(xs, dtype=float)
    ys = np.asarray([value if is_number(value) else np.nan for value in ys], dtype=float)
    if len(xs) <= limit:
        return list(xs), list(ys)
    group = -(-len(xs) // limit)
    parts = [slice(start, start + group) for start in range(0, len(xs), group)]
    # The mean of a group with a gap is a gap: it must not vanish.
    return [float(xs[part].mean()) for part in parts], [float(ys[part].mean()) for part in parts]


def describe(series: Sequence[Series], x_label: str, percent: bool = False) -> str:
    """What a chart of lines shows, in words: first, last, lowest and highest value of each.

    Args:
        series (Sequence[Series]): The lines.
        x_label (str): What is on the horizontal axis.
        percent (bool): Whether values are percent.
    """
    unit = '%' if percent else ''
    parts = []
    for line in series:
        known = [(x, y) for x, y in zip(line.xs, line.ys) if is_number(y)]
        if not known:
            parts.append(f'{line.name}: no values')
            continue
        (first_x, first), (last_x, last) = known[0], known[-1]
        low, high = min(y for _, y in known), max(y for _, y in known)
        parts.append(
            f'{line.name}: {number(first)}{unit} at {x_label} {number(first_x)}, {number(last)}{unit} at '
            f'{number(last_x)}, between {number(low)}{unit} and {number(high)}{unit}'
        )
    return '. '.join(parts) + '.'
