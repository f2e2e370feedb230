"""Charts of the trials of a sweep, coloured by their scores."""

from collections.abc import Sequence

import numpy as np

from csrm_plugin.report.charts.canvas import LARGE, WIDTH, drawing, short, style_axes
from csrm_plugin.report.charts.svg import embed
from csrm_plugin.report.page import palette
from csrm_plugin.report.page.formats import is_number, number
from csrm_plugin.report.page.markup import Html, Ids
from csrm_plugin.report.page.palette import STAND_INS


def scatter_chart(
    ids: Ids,
    points: Sequence[tuple],
    ends: tuple[float, float],
    title: str,
    x_label: str,
    y_label: str,
    best_line: tuple[Sequence, Sequence] | None = None,
    log: bool = False,
) -> Html:
    """Scores over a setting or over the number of the trial, coloured by the score.

    Args:
        ids (Ids): Of the page.
        points (Sequence[tuple]): Setting (a number, or a text for a choice), score, state of the trial.
        ends (tuple[float, float]): Poorest and best score, the ends of the colours.
        title (str): For those who do not see the chart.
        x_label (str): Below.
        y_label (str): Above the vertical axis.
        best_line (tuple[Sequence, Sequence], optional): Best score up to each point, drawn as a stair.
        log (bool): Whether the setting is drawn on a logarithmic axis.
    """
    names = None if all(is_number(x) for x, _, _ in points) else list(dict.fromkeys(str(x) for x, _, _ in points))
    with drawing(WIDTH, 260, fit=False) as (figure, axes):
        if best_line:
            axes.step(*best_line, where='post', color=STAND_INS['muted'], linewidth=1.2, linestyle=(0, (4, 2)))
        for x, y, state in points:
            colour = palette.scale_colour(y, *ends)
            fill, edge = (colour, STAND_INS['panel']) if state == 'complete' else ('none', colour)
            axes.plot(
                [names.index(str(x)) if names else x],
                [y],
                'o',
                markersize=7.5,
                markeredgewidth=1.4,
                markerfacecolor=fill,
                markeredgecolor=edge,
            )
        if log and not names and min(x for x, _, _ in points) > 0:
            axes.set_xscale('log')
        style_axes(axes, x_label, y_label, integer_x=x_label == 'trial')
        if names:
            axes.set_xticks(range(len(names)), [short(name, 14) for name in names])
            axes.set_xlim(-0.5, len(names) - 0.5)
        words = ', '.join(f'{x if names else number(x)}: {number(y)}' for x, y, _ in points[:40])
        return embed(ids, figure, title, f'{y_label} by {x_label}. {words}')


def curves_chart(ids: Ids, curves: Sequence[tuple], ends: tuple[float, float], title: str, y_label: str) -> Html:
    """A score over the iteration for each trial, coloured by where it ended.

    Args:
        ids (Ids): Of the page.
        curves (Sequence[tuple]): Points ``[[iteration, value], ...]``, last value, state.
        ends (tuple[float, float]): Poorest and best score, the ends of the colours.
        title (str): For those who do not see the chart.
        y_label (str): Above the vertical axis.
    """
    with drawing(*LARGE, fit=False) as (figure, axes):
        for points, end, state in sorted(curves, key=lambda curve: palette.scale_step(curve[1], *ends)):
            xs, ys = zip(*points)
            colour = palette.scale_colour(end, *ends)
            dash, mark = ('-', 'o') if state == 'complete' else ((0, (3, 2)), 'x')
            axes.plot(xs, ys, color=colour, linestyle=dash, linewidth=1.6)
            axes.plot(xs[-1:], ys[-1:], mark, color=colour, markersize=6)
        style_axes(axes, 'iteration', y_label, integer_x=True)
        words = f'{len(curves)} trials; the last values lie between {number(ends[0])} and {number(ends[1])}.'
        return embed(ids, figure, title, words)


def parallel_chart(
    ids: Ids,
    axes_values: Sequence[tuple],
    scores: tuple[str, Sequence[float]],
    ends: tuple[float, float],
    states: Sequence[str],
    title: str,
) -> Html:
    """Parallel coordinates: one vertical axis per setting, the score as the last one.

    Args:
        ids (Ids): Of the page.
        axes_values (Sequence[tuple]): Label, values (one per trial; numbers, or texts for a choice), logarithmic.
        scores (tuple[str, Sequence[float]]): Label and values of the last axis.
        ends (tuple[float, float]): Poorest and best score, the ends of the colours.
        states (Sequence[str]): Of the trials; what is not complete is dashed.
        title (str): For those who do not see the chart.
    """
    label, values = scores
    columns = [*axes_values, (label, values, False)]
    with drawing(max(150 * len(columns), 480), 330) as (figure, axes):
        places = [_axis_places(*column[1:]) for column in columns]
        for trial in sorted(range(len(values)), key=lambda index: palette.scale_step(values[index], *ends)):
            colour = palette.scale_colour(values[trial], *ends)  # the best on top
            heights = [place[trial] for place, _ in places]
            dash = '-' if states[trial] == 'complete' else (0, (3, 2))
            axes.plot(range(len(columns)), heights, color=colour, linestyle=dash, linewidth=1.8)
        for index, ((name, _, _), (_, ticks)) in enumerate(zip(columns, places)):
            _draw_axis(axes, index, name, ticks)
        axes.set_xlim(-0.35, len(columns) - 0.55)
        axes.set_ylim(-0.06, 1.16)
        axes.axis('off')
        words = f'{len(values)} trials over {", ".join(name for name, _, _ in axes_values)}.'
        return embed(ids, figure, title, f'{words} The last axis is {label}.')


def _draw_axis(axes, place, name, ticks):
    """One of the parallel axes: a line with its name above and its ticks beside it."""
    ink = STAND_INS['ink']
    axes.axvline(place, color=STAND_INS['muted'], linewidth=1)
    for height, text in ticks:
        # On a patch of the panel's colour, for lines run below it.
        box = dict(facecolor=STAND_INS['panel'], edgecolor='none', pad=1.2)
        axes.text(place + 0.03, height, short(text, 14), fontsize=10.5, va='center', color=ink, bbox=box, zorder=6)
    axes.text(place, 1.09, short(name, 20), fontsize=11, ha='center', va='bottom', weight='bold', color=ink)


def _axis_places(values, log):
    """Heights 0..1 of the values on their axis, and its ticks as (height, text)."""
    if not all(is_number(value) for value in values):
        names = sorted({str(value) for value in values})
        height = {name: index / max(len(names) - 1, 1) for index, name in enumerate(names)}
        return [height[str(value)] for value in values], [(height[name], name) for name in names]
    numbers = np.asarray(values, dtype=float)
    log = log and numbers.min() > 0
    scaled = np.log(numbers) if log else numbers
    low, high = scaled.min(), scaled.max()
    if high == low:
        return [0.5] * len(numbers), [(0.5, number(numbers[0]))]
    distinct = sorted(set(numbers))
    if len(distinct) > 6:
        middle = np.linspace(low, high, 5)
        distinct = list(np.exp(middle) if log else middle)
    ticks = [(float(((np.log(tick) if log else tick) - low) / (high - low)), number(tick)) for tick in distinct]
    return [float(value) for value in (scaled - low) / (high - low)], ticks
