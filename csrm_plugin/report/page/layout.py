"""The page itself: head, contents, sections."""

import os
from collections.abc import Sequence
from typing import NamedTuple

from csrm_plugin.report.page.markup import Html, Ids, tag
from csrm_plugin.report.page.style import SCRIPT, style_sheet
from csrm_plugin.utils import atomic_write
from csrm_plugin.version import __version__

#: Name of the file of a report, in the folder that it is about.
REPORT = 'report.html'

#: Nothing may be fetched from anywhere.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


class Section(NamedTuple):
    """A part of a page.

    Attributes:
        title (str): Heading, and entry of the contents.
        content (Sequence): What is below it; a section without content is left out.
    """

    title: str
    content: list


def render(ids: Ids, kicker: str, title: str, lead: str | Html, intro: Sequence, sections: Sequence[Section]) -> str:
    """A whole page.

    Args:
        ids (Ids): Of the page.
        kicker (str): What kind of report it is.
        title (str): What it is about.
        lead (str | Html): A sentence or two on it.
        intro (Sequence): Warnings and key numbers.
        sections (Sequence[Section]): The rest.
    """
    sections = [(ids('part'), section) for section in sections if any(section.content)]
    links = [tag('li', tag('a', section.title, href=f'#{name}')) for name, section in sections]
    header = tag(
        'header',
        tag('p', kicker, cls='kicker'),
        tag('h1', title),
        tag('p', lead, cls='lead'),
        tag('nav', tag('ul', links), aria_label='Contents') if links else None,
    )
    parts = [tag('section', tag('h2', part.title), part.content, id=name) for name, part in sections]
    footer = tag(
        'footer', tag('p', f'Made by csrm_plugin {__version__}. This file needs nothing else, and no network.')
    )
    body = tag(
        'body',
        tag('a', 'Skip to the content', href='#content', cls='skip'),
        header,
        tag('main', intro, parts, id='content'),
        footer,
        tag('script', Html(SCRIPT)),
    )
    head = tag(
        'head',
        tag('meta', charset='utf-8'),
        tag('meta', name='viewport', content='width=device-width, initial-scale=1'),
        tag('meta', http_equiv='Content-Security-Policy', content=_POLICY),
        tag('link', rel='icon', href='data:,'),
        tag('title', f'{title} \u2013 {kicker}'),
        tag('style', Html(style_sheet())),
    )
    return f'<!DOCTYPE html>\n{tag("html", head, body, lang="en")}\n'


def write(path: str | os.PathLike, text: str) -> str:
    """Write a page by renaming a finished file; gives the path."""
    path = str(path)
    with atomic_write(path) as temporary, open(temporary, 'w', encoding='utf-8', errors='replace') as file:
        file.write(text)
    return path


def card(title: str, value: str | Html, context: str | Sequence | None = None, text: bool = False) -> Html:
    """A key number with what it stands on below it.

    Args:
        title (str): What it is.
        value (str | Html): The number.
        context (str | Sequence, optional): What it stands on.
        text (bool): Whether the value is words, which are set smaller.
    """
    shown = tag('div', value, cls='value text' if text else 'value')
    return tag('div', tag('h2', title), shown, tag('p', context, cls='context') if context else None, cls='card')


def state(word: str, known: Sequence[str]) -> Html:
    """The state of a stage or a trial, coloured where it is one of the ``known``."""
    return tag('span', word, cls=f'state {word if word in known else ""}'.strip())


def warnings(lines: Sequence) -> Html | None:
    """A box of warnings; None where there are none."""
    if not lines:
        return None
    return tag(
        'div', tag('h2', 'To be noted'), tag('ul', [tag('li', line) for line in lines]), cls='alert', role='note'
    )
