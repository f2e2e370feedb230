"""What all charts are drawn on and in: sizes, axes, lines, small texts."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from csrm_plugin.report.page import palette
from csrm_plugin.report.page.formats import number
from csrm_plugin.report.page.palette import STAND_INS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


#: Size of a chart in a grid, in CSS pixels.
WIDTH, HEIGHT = 400, 225
#: Size of one that stands alone.
LARGE = (480, 290)
#: In CSS pixels.
TEXT_SIZE = 12
#: Points up to which each gets a marker.
FEW = 20
#: Left, right, below and above the axis of a chart in a grid.
_MARGINS = (54, 10, 42, 22)
#: Digits that ticks go up by.
_STEPS = (1, 2, 2.5, 5, 10)
_RC = {'svg.hashsalt': 'csrm', 'svg.fonttype': 'none', 'text.parse_math': False, 'font.size': TEXT_SIZE}


@contextlib.contextmanager
def drawing(width: float, height: float, fit: bool = True) -> Iterator[tuple['Figure', 'Axes']]:
    """A figure with one axis, to be drawn and written within the block.

    Args:
        width (float): In CSS pixels.
        height (float): In CSS pixels.
        fit (bool): Whether the margins fit the labels, or are the same for all charts.
    """
    # Imported here, for it takes a second; and without pyplot, which would look for a display and keep the figure.
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with rc_context(_RC):
        figure = Figure(figsize=(width / 72, height / 72), dpi=72, layout='constrained' if fit else None)
        FigureCanvasSVG(figure)
        figure.patch.set_visible(False)
        if not fit:  # twice as quick, and charts side by side are in line
            left, right, bottom, top = _MARGINS
            figure.subplots_adjust(left / width, bottom / height, 1 - right / width, 1 - top / height)
        axes = figure.add_subplot()
        axes.patch.set_visible(False)
        yield figure, axes


def plot_line(axes: 'Axes', xs: Sequence, ys: Sequence, style: int, hollow: bool = False) -> None:
    """Draw a line in the style of a run, with a marker at each point where they are few, else now and then."""
    every = 1 if len(xs) <= FEW else -(-len(xs) // 8)
    axes.plot(
        xs,
        ys,
        color=palette.run_colour(style),
        linestyle=palette.run_dash(style),
        linewidth=1.1 if hollow else 1.7,
        marker=palette.run_marker(style),
        markersize=4.5 if every == 1 else 4,
        markevery=every,
        markerfacecolor=STAND_INS['panel'] if hollow else palette.run_colour(style),
    )


def style_axes(axes: 'Axes', x_label: str, y_label: str, integer_x: bool = False, grid: str = 'y') -> None:
    """Set colours, grid, ticks and labels of an axis, after everything is drawn.

    Args:
        axes (matplotlib.axes.Axes): With its scale.
        x_label (str): Below.
        y_label (str): Above the vertical axis; empty for none.
        integer_x (bool): Whether ticks below are whole numbers.
        grid (str): The axis whose values have lines, ``'x'`` or ``'y'``.
    """
    from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

    for side in ('top', 'right', 'left'):
        axes.spines[side].set_visible(False)
    axes.spines['bottom'].set_color(STAND_INS['muted'])
    axes.grid(axis=grid, color=STAND_INS['line'], linewidth=1)
    axes.set_axisbelow(True)
    axes.tick_params(which='both', colors=STAND_INS['muted'], labelsize=TEXT_SIZE, length=3)
    axes.tick_params(axis='y' if grid == 'y' else 'x', length=0)
    axes.set_xlabel(x_label, color=STAND_INS['muted'], fontsize=TEXT_SIZE)
    if y_label:
        axes.set_title(y_label, loc='left', color=STAND_INS['muted'], fontsize=TEXT_SIZE)
    if axes.get_xscale() == 'linear':
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=integer_x, steps=_STEPS))
    else:  # Matplotlib would write powers as formulas
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:g}'))
        axes.xaxis.set_minor_formatter(NullFormatter())
    if grid == 'y':
        axes.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=_STEPS))
        # Without the factor that Matplotlib would write above the axis.
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(round(value, 12))))
    axes.margins(x=0.03, y=0.08)


def small_text(axes: 'Axes', x: float, y: float, text: str) -> None:
    """Write a small text to the right of a point."""
    axes.annotate(
        text,
        (x, y),
        (4, 0),
        textcoords='offset points',
        va='center',
        ha='left',
        fontsize=10.5,
        color=STAND_INS['muted'],
    )


def short(text: str, length: int) -> str:
    """The beginning and end of a long text."""
    return text if len(text) <= length else f'{text[: length // 2 - 1]}\u2026{text[-(length - length // 2) :]}'
