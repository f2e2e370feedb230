"""Panels with captions, put together in rows and sheets. No display is needed."""

import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from csrm_plugin.utils import atomic_write

FONT_SIZE = 14  # pixels
LINE = 18  # pixels from one line of text to the next
MARGIN = 8  # pixels
PAPER = (255, 255, 255)
INK = (20, 20, 20)


class Panel(NamedTuple):
    """A picture with the text below it.

    Attributes:
        picture (np.ndarray): (H, W, 3), uint8, RGB.
        caption (str): Wrapped to the width of the panel; newlines are kept.
    """

    picture: np.ndarray
    caption: str = ''


def draw_row(panels: Sequence[Panel], width: int = 256) -> np.ndarray:
    """Put panels side by side.

    Args:
        panels (Sequence[Panel]): At least one.
        width (int): Width of each panel in pixels; pictures are scaled to it.

    Returns:
        np.ndarray: (H, W, 3), uint8, RGB.
    """
    if not panels:
        raise ValueError('`panels` must hold at least one panel.')
    return np.asarray(_stack([_draw_panel(panel, width) for panel in panels], horizontal=True))


def draw_sheet(
    rows: Sequence[Sequence[Panel]], title: str = '', legend: Sequence[tuple] = (), width: int = 256
) -> np.ndarray:
    """Put rows of panels below each other, with a title and a legend of colours above.

    Args:
        rows (Sequence[Sequence[Panel]]): At least one row.
        title (str): Wrapped to the width of the sheet; newlines are kept.
        legend (Sequence[tuple[str, Sequence[int]]]): Names and colours (RGB, 0..255).
        width (int): Width of each panel in pixels.

    Returns:
        np.ndarray: (H, W, 3), uint8, RGB.
    """
    if not rows:
        raise ValueError('`rows` must hold at least one row of panels.')
    body = _stack([Image.fromarray(draw_row(row, width)) for row in rows], horizontal=False)
    parts = [body]
    if legend:
        parts.insert(0, _draw_legend(legend, body.width))
    if title:
        parts.insert(0, _draw_text(title, body.width))
    return np.asarray(_stack(parts, horizontal=False, margin=0))


def save_picture(path: str | os.PathLike, picture: np.ndarray) -> None:
    """Write (H, W, 3), uint8, RGB, by renaming a finished file."""
    with atomic_write(path) as temporary:
        Image.fromarray(picture).save(temporary)


def _draw_panel(panel, width):
    picture = Image.fromarray(np.asarray(panel.picture))
    height = max(round(picture.height * width / picture.width), 1)
    # Whole factors keep the pixels of label maps crisp.
    whole = width % picture.width == 0
    picture = picture.resize((width, height), Image.NEAREST if whole else Image.BICUBIC)
    return _stack([picture, _draw_text(panel.caption, width, margin=2)], horizontal=False, margin=0)


def _draw_legend(legend, width):
    """Squares in the colours of the legend with the names beside them, in as many lines as it takes."""
    font = _font()
    places, x, y = [], MARGIN, 0
    for name, _ in legend:
        needed = LINE + 4 + font.getlength(name) + 2 * MARGIN
        if x > MARGIN and x + needed > width:
            x, y = MARGIN, y + LINE + 4
        places.append((x, y))
        x += needed
    strip = Image.new('RGB', (width, y + LINE + 6), PAPER)
    draw = ImageDraw.Draw(strip)
    for (name, colour), (x, y) in zip(legend, places):
        draw.rectangle((x, y + 2, x + LINE - 4, y + LINE - 2), fill=tuple(int(value) for value in colour), outline=INK)
        draw.text((x + LINE + 2, y + 1), name, INK, font)
    return strip


def _draw_text(text, width, margin=MARGIN):
    lines = wrap(text, width - 2 * margin)
    block = Image.new('RGB', (width, LINE * len(lines) + (6 if lines else 0)), PAPER)
    draw = ImageDraw.Draw(block)
    for index, line in enumerate(lines):
        draw.text((margin, 2 + LINE * index), line, INK, _font())
    return block


def wrap(text: str, width: float) -> list[str]:
    """Break a text at blanks into lines of at most ``width`` pixels; longer words stand alone, cut in the middle."""
    font, lines = _font(), []
    for paragraph in text.split('\n') if text else []:
        line = ''
        for word in paragraph.split(' '):
            longer = f'{line} {word}' if line else word
            if line and font.getlength(longer) > width:
                lines.append(line)
                longer = word
            line = _shorten(longer, width, font)
        lines.append(line)
    return lines


def _shorten(word, width, font):
    """The word, or its two ends with an ellipsis between them where it is wider than ``width``."""
    if font.getlength(word) <= width:
        return word
    kept = len(word) - 1
    while kept > 2 and font.getlength(f'{word[: kept // 2]}...{word[-(kept - kept // 2) :]}') > width:
        kept -= 1
    return f'{word[: kept // 2]}...{word[-(kept - kept // 2) :]}'


def _font():
    return ImageFont.load_default(size=FONT_SIZE)


def _stack(pictures, horizontal, margin=MARGIN):
    """Pictures side by side or below each other, on paper, with a margin around each."""
    wide = [picture.width for picture in pictures]
    high = [picture.height for picture in pictures]
    if horizontal:
        size = (sum(wide) + margin * (len(wide) + 1), max(high) + 2 * margin)
    else:
        size = (max(wide) + 2 * margin, sum(high) + margin * (len(high) + 1))
    paper = Image.new('RGB', size, PAPER)
    x = y = margin
    for picture in pictures:
        paper.paste(picture, (x, y))
        if horizontal:
            x += picture.width + margin
        else:
            y += picture.height + margin
    return paper
