"""Curves of a score over a setting. No display is needed."""

import os
import os.path as osp
from collections.abc import Sequence
from typing import TYPE_CHECKING

from csrm_plugin.utils import UserError, atomic_write

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Endings of pictures that can be written.
PLOT_FORMATS = ('.png', '.pdf', '.svg')


def require_plot_format(path: str | os.PathLike, setting: str) -> None:
    """Refuse an ending that no picture can be written in.

    Args:
        path (str): The file to be written.
        setting (str): Where it was asked for, for the message.

    Raises:
        UserError: If the ending is none of :data:`PLOT_FORMATS`.
    """
    if osp.splitext(path)[1].lower() not in PLOT_FORMATS:
        raise UserError(f'{setting}: `{path}` must end in one of {", ".join(PLOT_FORMATS)}')


def threshold_figure(
    curve: Sequence[dict], best: dict | None = None, fixed: dict | None = None, title: str = ''
) -> 'Figure':
    """Draw mIoU over the background threshold, as Figure 2 of CSRM (VISAPP 2025) has it.

    Args:
        curve (Sequence[dict]): Points with ``threshold`` (0..1) and ``miou`` (percent), at least one, ascending.
        best (dict, optional): The point of the highest score. It is marked as chosen with the ground truth.
        fixed (dict, optional): The point fixed beforehand.
        title (str): Above the curve.

    Returns:
        matplotlib.figure.Figure: With one axis; belongs to no window.

    Raises:
        ValueError: If there is no point.
    """
    # Imported here, for it takes a second; and without pyplot, which would look for a display and keep the figure.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if not curve:
        raise ValueError('`curve` must hold at least one point.')
    figure = Figure(figsize=(6, 4), dpi=150, layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    thresholds, scores = ([point[key] for point in curve] for key in ('threshold', 'miou'))
    axes.plot(thresholds, scores, color='tab:blue', marker='.', markersize=4, label='mIoU')
    marks = (('fixed', fixed, 's', 'tab:green'), ('best, chosen with the ground truth', best, '*', 'tab:red'))
    for name, point, marker, colour in marks:
        if point is None:
            continue
        axes.axvline(point['threshold'], color=colour, linestyle=':', linewidth=1)
        label = f'{name}: {point["miou"]:.2f} at {point["threshold"]:g}'
        size = 11 if marker == '*' else 6
        axes.plot(point['threshold'], point['miou'], marker, color=colour, markersize=size, label=label)
    # `$` and `_` of a folder's name are no formula.
    axes.set_title(title, fontsize='small', parse_math=False)
    axes.set(xlabel='background threshold', ylabel='mIoU (%)')
    axes.grid(alpha=0.3)
    axes.legend(fontsize='small')
    return figure


def save_threshold_curve(
    path: str | os.PathLike,
    curve: Sequence[dict],
    best: dict | None = None,
    fixed: dict | None = None,
    title: str = '',
) -> None:
    """Write :func:`threshold_figure`, by renaming a finished file.

    Args:
        path (str): Ends in one of :data:`PLOT_FORMATS`.
        curve (Sequence[dict]): See :func:`threshold_figure`, as for the rest.
        best (dict, optional): The point of the highest score.
        fixed (dict, optional): The point fixed beforehand.
        title (str): Above the curve.

    Raises:
        UserError: If the ending is another one.
        ValueError: If there is no point.
    """
    path = str(path)
    require_plot_format(path, 'plot')
    figure = threshold_figure(curve, best, fixed, title)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format=osp.splitext(path)[1][1:].lower())
