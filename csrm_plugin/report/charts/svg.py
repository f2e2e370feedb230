"""Figures of Matplotlib as inline SVG: text stays text, and colours follow the theme of the page."""

import io
import re
import warnings
from typing import TYPE_CHECKING

from csrm_plugin.report.page import palette
from csrm_plugin.report.page.markup import Html, Ids, tag
from csrm_plugin.report.page.palette import STAND_INS

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def embed(ids: Ids, figure: 'Figure', title: str, description: str) -> Html:
    """The SVG of a figure, fit to stand in a page among others.

    Ids are made unique, colours become variables of the page, and what would reach beyond the chart is taken out: the
    style sheet that Matplotlib puts into each file, metadata, and namespaces.

    Args:
        ids (Ids): Of the page.
        figure (matplotlib.figure.Figure): Drawn in the stand-ins of the page's colours, see :func:`.canvas.drawing`.
        title (str): For those who do not see the chart.
        description (str): What it shows, in words.
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


def swatch(index: int, hollow: bool = False) -> Html:
    """A short line in the colour, dash and marker of a run, for legends.

    Args:
        index (int): Number of the run.
        hollow (bool): Whether it stands for the second curve of its run, see :class:`.series.Series`.
    """
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


def _font(match):
    weight = f'font-weight: {match[1]}; ' if match[1] else ''
    return f'{weight}font-size: {match[2]}px'


def _unique_ids(body, prefix):
    """Drop ids that nothing refers to, and put a prefix before the others."""
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', body))
    body = re.sub(r' id="([^"]*)"', lambda match: f' id="{prefix}-{match[1]}"' if match[1] in used else '', body)
    return re.sub(r'(href="#|url\(#)', rf'\g<1>{prefix}-', body)
