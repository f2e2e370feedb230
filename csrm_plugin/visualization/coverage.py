"""What labels are worth over how many pixels have one. No display is needed."""

import os
import os.path as osp
from collections.abc import Sequence
from typing import TYPE_CHECKING

from csrm_plugin.utils import atomic_write
from csrm_plugin.utils.text import cell
from csrm_plugin.visualization.curves import require_plot_format

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def coverage_figure(
    panels: Sequence[dict], least: float | None = None, title: str = '', marks: Sequence[dict] = ()
) -> 'Figure':
    """Draw mIoU over coverage: a line for each fg, a point for each bg; precision and recall of fg are in the legend.

    Args:
        panels (list[dict]): One column each: ``title`` (str) and ``points``, dicts with ``fg``, ``bg`` (0..1),
            ``coverage``, ``miou``, ``precision`` and ``recall`` (of foreground, which bg has no part in); percent, None
            where not defined.
        least (float, optional): Coverage below which nothing is recommended, in percent.
        title (str): Above all.
        marks (list[dict]): Points of their own: ``panel`` (place in ``panels``), ``label``, ``marker`` (Matplotlib's),
            and the keys of a point.

    Returns:
        matplotlib.figure.Figure: One row of axes; belongs to no window.

    Raises:
        ValueError: If there is no panel.
    """
    # Imported here, for it takes a second; and without pyplot, which would look for a display and keep the figure.
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if not panels:
        raise ValueError('`panels` must hold at least one panel.')
    figure = Figure(figsize=(5.5 * len(panels) + 0.5, 6.5), dpi=130, layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(panels), squeeze=False, sharex=True, sharey=True)[0]
    fgs = sorted({point['fg'] for panel in panels for point in panel['points']})
    # The last colours of the map are too bright for lines on white.
    colours = dict(
        zip(fgs, matplotlib.colormaps['viridis']([0.85 * i / max(len(fgs) - 1, 1) for i in range(len(fgs))]))
    )
    for column, (place, panel) in enumerate(zip(axes, panels)):
        _draw(place, panel['points'], colours)
        for mark in marks:
            if mark['panel'] == column and mark['miou'] is not None:
                style = dict(markersize=13, markerfacecolor='none', markeredgewidth=1.6, linestyle='none')
                place.plot(
                    mark['coverage'], mark['miou'], mark['marker'], color='tab:red', label=mark['label'], **style
                )
        if least is not None:
            place.axvline(least, color='grey', linestyle=':', linewidth=1)
        place.grid(alpha=0.3)
        place.set(xlabel='pixels with a label (%)', ylabel='' if column else 'mIoU on the labelled pixels (%)')
        place.set_title(panel['title'], fontsize='medium', parse_math=False)
        place.legend(fontsize='small', loc='upper center', bbox_to_anchor=(0.5, -0.12), frameon=False)
    # `$` and `_` of a name are no formula.
    figure.suptitle(title, fontsize='small', parse_math=False)
    return figure


def _draw(place, points, colours) -> None:
    """A line for each fg, with its bg beside each point."""
    for fg, colour in colours.items():
        own = sorted((p for p in points if p['fg'] == fg and p['miou'] is not None), key=lambda point: point['bg'])
        if not own:
            continue
        coverage, scores = ([point[name] for point in own] for name in ('coverage', 'miou'))
        about = ', '.join(f'{name} {cell(own[0][name])} %' for name in ('precision', 'recall'))
        place.plot(coverage, scores, color=colour, marker='o', markersize=4, linewidth=1.2, label=f'fg {fg:g}: {about}')
        for point in own:
            place.annotate(
                f'{point["bg"]:g}',
                (point['coverage'], point['miou']),
                textcoords='offset points',
                xytext=(4, 4),
                fontsize=7,
                color=colour,
            )


def save_coverage_plot(
    path: str | os.PathLike,
    panels: Sequence[dict],
    least: float | None = None,
    title: str = '',
    marks: Sequence[dict] = (),
) -> None:
    """Write :func:`coverage_figure`, by renaming a finished file.

    Args:
        path (str): Ends in one of :data:`csrm_plugin.visualization.curves.PLOT_FORMATS`.
        panels (list[dict]): See :func:`coverage_figure`, as for the rest.
        least (float, optional): Coverage below which nothing is recommended, in percent.
        title (str): Above all.
        marks (list[dict]): Points of their own.

    Raises:
        UserError: If the ending is another one.
        ValueError: If there is no panel.
    """
    path = str(path)
    require_plot_format(path, 'plot')
    figure = coverage_figure(panels, least, title, marks)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format=osp.splitext(path)[1][1:].lower())
