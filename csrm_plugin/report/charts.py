"""Charts as inline SVG, drawn by Matplotlib. Text stays text, and colours follow the theme of the page."""

import contextlib
import io
import re
import warnings
from typing import NamedTuple

import numpy as np

from csrm_plugin.report import palette
from csrm_plugin.report.formats import is_number, number
from csrm_plugin.report.markup import Html, Ids, tag
from csrm_plugin.report.palette import STAND_INS

#: Points of a line; of longer ones, neighbours are averaged.
MAX_POINTS = 300
#: Size of a chart in a grid, in CSS pixels.
WIDTH, HEIGHT = 400, 225
#: Size of one that stands alone.
_LARGE = (480, 290)
#: In CSS pixels.
TEXT_SIZE = 12
#: Points up to which each gets a marker.
FEW = 20

#: Left, right, below and above the axis of a chart in a grid.
_MARGINS = (54, 10, 42, 22)
#: Digits that ticks go up by.
_STEPS = (1, 2, 2.5, 5, 10)

_RC = {'svg.hashsalt': 'csrm', 'svg.fonttype': 'none', 'text.parse_math': False, 'font.size': TEXT_SIZE}


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
    xs: list
    ys: list
    style: int
    hollow: bool = False


def line_chart(ids: Ids, series, title: str, x_label: str = 'iteration', y_label: str = '', percent=False) -> Html:
    """Lines over a common axis.

    Args:
        ids (Ids): Of the page.
        series (Sequence[Series]): One per run.
        title (str): For those who do not see the chart.
        x_label (str): Below.
        y_label (str): Above the vertical axis.
        percent (bool): Whether values are percent.
    """
    with _drawing(WIDTH, HEIGHT, fit=False) as (figure, axes):
        for line in series:
            xs, ys = thin(line.xs, line.ys)
            _plot(axes, xs, ys, line.style)
        _style(axes, x_label, y_label, integer_x=x_label == 'iteration')
        return embed(ids, figure, title, describe(series, x_label, percent))


def threshold_chart(ids: Ids, series, marks, title: str, x_label='background threshold') -> Html:
    """Score over threshold, with points that are marked.

    Args:
        ids (Ids): Of the page.
        series (Sequence[Series]): Thresholds and scores in percent.
        marks (Sequence[tuple[float, float, str, int]]): Threshold, score, ``best`` or ``fixed``, number of the run.
        title (str): For those who do not see the chart.
        x_label (str): Below.
    """
    with _drawing(*_LARGE, fit=False) as (figure, axes):
        for line in series:
            _plot(axes, line.xs, line.ys, line.style, line.hollow)
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
        _style(axes, x_label, 'mIoU, %')
        return embed(ids, figure, title, describe(series, x_label, percent=True))


def bar_chart(ids: Ids, names, series, title: str, unit: str = '%', text=None, missing='absent', top=None) -> Html:
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
    with _drawing(WIDTH + 40, step * len(names) + 46) as (figure, axes):
        for index, line in enumerate(series):
            places = np.arange(len(names)) * step + (index - (len(series) - 1) / 2) * thick
            values = [value if is_number(value) else 0 for value in line.ys]
            axes.barh(places, values, height=thick - 2, color=palette.run_colour(line.style))
            for place, value in zip(places, line.ys):
                known = is_number(value)
                _small(axes, value if known else 0, place, text(value) if known else missing)
        axes.set_yticks(np.arange(len(names)) * step, [_short(str(name), 22) for name in names])
        axes.set_ylim(step * (len(names) - 0.5), -step / 2)
        largest = max((value for line in series for value in line.ys if is_number(value)), default=0)
        axes.set_xlim(0, (top or largest or 1) * 1.15)
        _style(axes, unit, '', grid='x')
        axes.tick_params(axis='y', length=0, labelcolor=STAND_INS['ink'])
        axes.spines['bottom'].set_visible(False)
        return embed(ids, figure, title, _describe_bars(names, series, unit, text, missing))


def scatter_chart(ids: Ids, points, ends, title: str, x_label: str, y_label: str, best_line=None, log=False) -> Html:
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
    with _drawing(WIDTH, 260, fit=False) as (figure, axes):
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
        _style(axes, x_label, y_label, integer_x=x_label == 'trial')
        if names:
            axes.set_xticks(range(len(names)), [_short(name, 14) for name in names])
            axes.set_xlim(-0.5, len(names) - 0.5)
        words = ', '.join(f'{x if names else number(x)}: {number(y)}' for x, y, _ in points[:40])
        return embed(ids, figure, title, f'{y_label} by {x_label}. {words}')


def curves_chart(ids: Ids, curves, ends, title: str, y_label: str) -> Html:
    """A score over the iteration for each trial, coloured by where it ended.

    Args:
        ids (Ids): Of the page.
        curves (Sequence[tuple]): Points ``[[iteration, value], ...]``, last value, state.
        ends (tuple[float, float]): Poorest and best score, the ends of the colours.
        title (str): For those who do not see the chart.
        y_label (str): Above the vertical axis.
    """
    with _drawing(*_LARGE, fit=False) as (figure, axes):
        for points, end, state in sorted(curves, key=lambda curve: palette.scale_step(curve[1], *ends)):
            xs, ys = zip(*points)
            colour = palette.scale_colour(end, *ends)
            dash, mark = ('-', 'o') if state == 'complete' else ((0, (3, 2)), 'x')
            axes.plot(xs, ys, color=colour, linestyle=dash, linewidth=1.6)
            axes.plot(xs[-1:], ys[-1:], mark, color=colour, markersize=6)
        _style(axes, 'iteration', y_label, integer_x=True)
        words = f'{len(curves)} trials; the last values lie between {number(ends[0])} and {number(ends[1])}.'
        return embed(ids, figure, title, words)


def parallel_chart(ids: Ids, axes_values, scores, ends, states, title: str) -> Html:
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
    with _drawing(max(150 * len(columns), 480), 330) as (figure, axes):
        places = [_axis_places(*column[1:]) for column in columns]
        for trial in sorted(range(len(values)), key=lambda index: palette.scale_step(values[index], *ends)):
            colour = palette.scale_colour(values[trial], *ends)  # the best on top
            heights = [place[trial] for place, _ in places]
            dash = '-' if states[trial] == 'complete' else (0, (3, 2))
            axes.plot(range(len(columns)), heights, color=colour, linestyle=dash, linewidth=1.8)
        for index, ((name, _, _), (_, ticks)) in enumerate(zip(columns, places)):
            axes.axvline(index, color=STAND_INS['muted'], linewidth=1)
            for height, text in ticks:
                # On a patch of the panel's colour, for lines run below it.
                box = dict(facecolor=STAND_INS['panel'], edgecolor='none', pad=1.2)
                axes.text(
                    index + 0.03,
                    height,
                    _short(text, 14),
                    fontsize=10.5,
                    va='center',
                    color=STAND_INS['ink'],
                    bbox=box,
                    zorder=6,
                )
            axes.text(
                index,
                1.09,
                _short(name, 20),
                fontsize=11,
                ha='center',
                va='bottom',
                weight='bold',
                color=STAND_INS['ink'],
            )
        axes.set_xlim(-0.35, len(columns) - 0.55)
        axes.set_ylim(-0.06, 1.16)
        axes.axis('off')
        words = f'{len(values)} trials over {", ".join(name for name, _, _ in axes_values)}.'
        return embed(ids, figure, title, f'{words} The last axis is {label}.')


def thin(xs, ys, limit: int = MAX_POINTS) -> tuple[list, list]:
    """Average neighbouring points until there are at most ``limit``; None and NaN become NaN, a gap."""
    xs = np.asarray(xs, dtype=float)
    ys = np.asarray([value if is_number(value) else np.nan for value in ys], dtype=float)
    if len(xs) <= limit:
        return list(xs), list(ys)
    group = -(-len(xs) // limit)
    parts = [slice(start, start + group) for start in range(0, len(xs), group)]
    # The mean of a group with a gap is a gap: it must not vanish.
    return [float(xs[part].mean()) for part in parts], [float(ys[part].mean()) for part in parts]


def describe(series, x_label: str, percent: bool = False) -> str:
    """What a chart of lines shows, in words."""
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


def swatch(index: int, hollow: bool = False) -> Html:
    """A short line in the colour, dash and marker of a run, for legends; see :class:`Series` for ``hollow``."""
    dash = palette.run_dash(index)
    pattern = None if dash == '-' else ' '.join(f'{length * 1.6:g}' for length in dash[1])
    colour = f'var(--{palette.run_variable(index)})'
    width = '1.4' if hollow else '2.2'
    stroke = tag('path', d='M1 7H33', stroke=colour, stroke_width=width, fill='none', stroke_dasharray=pattern)
    look = dict(fill='var(--panel)', stroke=colour, stroke_width='1.4') if hollow else dict(fill=colour)
    shape = {
        'o': tag('circle', cx='17', cy='7', r='4', **look),
        's': tag('rect', x='13.4', y='3.4', width='7.2', height='7.2', **look),
        '^': tag('path', d='M17 2.4L21.4 10.6H12.6Z', **look),
        'D': tag('path', d='M17 2L22 7L17 12L12 7Z', **look),
        'v': tag('path', d='M17 11.6L21.4 3.4H12.6Z', **look),
        'P': tag('path', d='M15.4 2.6h3.2v2.8h2.8v3.2h-2.8v2.8h-3.2v-2.8h-2.8v-3.2h2.8z', **look),
    }[palette.run_marker(index)]
    return tag('svg', stroke, shape, cls='swatch', viewBox='0 0 34 14', width='34', height='14', aria_hidden='true')


def embed(ids: Ids, figure, title: str, description: str) -> Html:
    """The SVG of a figure, fit to stand in a page among others.

    Ids are made unique, colours become variables of the page, and what would reach beyond the chart is taken out: the
    style sheet that Matplotlib puts into each file, metadata, and namespaces.
    """
    buffer = io.StringIO()
    with warnings.catch_warnings():
        # Letters that Matplotlib's own font lacks: text stays text, and the page's fonts have them.
        warnings.filterwarnings('ignore', r'Glyph \d+ .* missing from', UserWarning)
        figure.savefig(buffer, format='svg', metadata={'Date': None})
    text = buffer.getvalue()
    body = text[text.index('>', text.index('<svg')) + 1 : text.rindex('</svg>')]
    body = re.sub(r'<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->', '', body, flags=re.DOTALL)
    body = body.replace('xlink:href', 'href')
    # Text is set in the page's own type; only its size is the chart's.
    body = re.sub(r'font: (?:(\d+) )?([\d.]+)px [^;"]*', _font, body)
    for name, colour in STAND_INS.items():
        body = body.replace(colour, f'var(--{name})')
    body = _unique_ids(body, ids('chart'))
    body = re.sub(r'>\s+<', '><', body.strip())
    width, height = (round(72 * inches, 1) for inches in figure.get_size_inches())
    name, more = ids('title'), ids('desc')
    head = tag('title', title, id=name) + tag('desc', description, id=more)
    return tag(
        'svg',
        Html(head + body),
        cls='chart',
        viewBox=f'0 0 {width:g} {height:g}',
        role='img',
        aria_labelledby=f'{name} {more}',
        style=f'max-width:{1.5 * width:g}px',
    )


def _font(match):
    weight = f'font-weight: {match[1]}; ' if match[1] else ''
    return f'{weight}font-size: {match[2]}px'


def _unique_ids(body, prefix):
    """Drop ids that nothing refers to, and put a prefix before the others."""
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', body))
    body = re.sub(r' id="([^"]*)"', lambda match: f' id="{prefix}-{match[1]}"' if match[1] in used else '', body)
    return re.sub(r'(href="#|url\(#)', rf'\g<1>{prefix}-', body)


@contextlib.contextmanager
def _drawing(width, height, fit=True):
    """A figure of ``width`` x ``height`` CSS pixels with one axis, whose margins fit its labels, or are fixed."""
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


def _plot(axes, xs, ys, style, hollow=False):
    """A line in the style of a run, with a marker at each point where they are few, else now and then."""
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


def _style(axes, x_label, y_label, integer_x=False, grid='y'):
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


def _small(axes, x, y, text):
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


def _short(text, length):
    """The beginning and end of a long text."""
    return text if len(text) <= length else f'{text[: length // 2 - 1]}\u2026{text[-(length - length // 2) :]}'


def _describe_bars(names, series, unit, text, missing):
    parts = []
    for line in series:
        values = ', '.join(
            f'{name} {text(value)}' if is_number(value) else f'{name} {missing}' for name, value in zip(names, line.ys)
        )
        parts.append(f'{line.name} ({unit}): {values}')
    return '. '.join(parts) + '.'


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
