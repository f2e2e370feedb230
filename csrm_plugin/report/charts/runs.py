"""Charts of runs: lines over the iteration or over a threshold, and bars."""

from collections.abc import Callable, Sequence

import numpy as np

from csrm_plugin.report.charts.canvas import HEIGHT, LARGE, WIDTH, drawing, plot_line, short, small_text, style_axes
from csrm_plugin.report.charts.series import Series, describe, thin
from csrm_plugin.report.charts.svg import embed
from csrm_plugin.report.page import palette
from csrm_plugin.report.page.formats import is_number
from csrm_plugin.report.page.markup import Html, Ids
from csrm_plugin.report.page.palette import STAND_INS


def line_chart(
    ids: Ids,
    series: Sequence[Series],
    title: str,
    x_label: str = 'iteration',
    y_label: str = '',
    percent: bool = False,
) -> Html:
    """Lines over a common axis.

    Args:
        ids (Ids): Of the page.
        series (Sequence[Series]): One per run.
        title (str): For those who do not see the chart.
        x_label (str): Below.
        y_label (str): Above the vertical axis.
        percent (bool): Whether values are percent.
    """
    with drawing(WIDTH, HEIGHT, fit=False) as (figure, axes):
        for line in series:
            xs, ys = thin(line.xs, line.ys)
            plot_line(axes, xs, ys, line.style)
        style_axes(axes, x_label, y_label, integer_x=x_label == 'iteration')
        return embed(ids, figure, title, describe(series, x_label, percent))


def threshold_chart(
    ids: Ids, series: Sequence[Series], marks: Sequence[tuple], title: str, x_label: str = 'background threshold'
) -> Html:
    """Score over threshold, with points that are marked.

    Args:
        ids (Ids): Of the page.
        series (Sequence[Series]): Thresholds and scores in percent.
        marks (Sequence[tuple[float, float, str, int]]): Threshold, score, ``best`` or ``fixed``, number of the run.
        title (str): For those who do not see the chart.
        x_label (str): Below.
    """
    with drawing(*LARGE, fit=False) as (figure, axes):
        for line in series:
            plot_line(axes, line.xs, line.ys, line.style, line.hollow)
        for threshold, score, kind, style in marks:
            shape, size = ('*', 15) if kind == 'best' else ('X', 10)
            axes.plot(
                [threshold],
                [score],
                shape,
                markersize=size,
                color=palette.run_colour(style),
                markeredgecolor=STAND_INS['panel'],
                markeredgewidth=1,
                zorder=5,
            )
        style_axes(axes, x_label, 'mIoU, %')
        return embed(ids, figure, title, describe(series, x_label, percent=True))


def bar_chart(
    ids: Ids,
    names: Sequence[str],
    series: Sequence[Series],
    title: str,
    unit: str = '%',
    text: Callable[[float], str] | None = None,
    missing: str = 'absent',
    top: float | None = None,
) -> Html:
    """Horizontal bars, several side by side for each name.

    Args:
        ids (Ids): Of the page.
        names (Sequence[str]): One group of bars each, from the top.
        series (Sequence[Series]): ``ys`` holds one value per name; ``xs`` is not used.
        title (str): For those who do not see the chart.
        unit (str): Of the values.
        text (Callable[[float], str], optional): Writes a value beside its bar.
        missing (str): What stands where a value is None.
        top (float, optional): End of the axis.
    """
    text = text or (lambda value: f'{value:.1f}')
    thick = 15 if len(series) == 1 else 11
    step = thick * len(series) + 9
    with drawing(WIDTH + 40, step * len(names) + 46) as (figure, axes):
        for index, line in enumerate(series):
            places = np.arange(len(names)) * step + (index - (len(series) - 1) / 2) * thick
            values = [value if is_number(value) else 0 for value in line.ys]
            axes.barh(places, values, height=thick - 2, color=palette.run_colour(line.style))
            for place, value in zip(places, line.ys):
                known = is_number(value)
                small_text(axes, value if known else 0, place, text(value) if known else missing)
        axes.set_yticks(np.arange(len(names)) * step, [short(str(name), 22) for name in names])
        axes.set_ylim(step * (len(names) - 0.5), -step / 2)
        largest = max((value for line in series for value in line.ys if is_number(value)), default=0)
        axes.set_xlim(0, (top or largest or 1) * 1.15)
        style_axes(axes, unit, '', grid='x')
        axes.tick_params(axis='y', length=0, labelcolor=STAND_INS['ink'])
        axes.spines['bottom'].set_visible(False)
        return embed(ids, figure, title, _describe_bars(names, series, unit, text, missing))


def _describe_bars(names, series, unit, text, missing):
    parts = []
    for line in series:
        values = ', '.join(
            f'{name} {text(value)}' if is_number(value) else f'{name} {missing}' for name, value in zip(names, line.ys)
        )
        parts.append(f'{line.name} ({unit}): {values}')
    return '. '.join(parts) + '.'
