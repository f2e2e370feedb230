"""HTML as text that is safe by default: whatever is not marked as HTML is escaped."""

import html
import itertools
from collections.abc import Iterable, Sequence

#: Elements without content.
_VOID = {'br', 'hr', 'img', 'input', 'link', 'meta'}


class Html(str):
    """Text that is HTML already and goes into a page as it is."""

    __slots__ = ()


class Ids:
    """Gives ids that are unique in one page, the same each time that the page is built."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)

    def __call__(self, prefix: str) -> str:
        """A new id such as ``chart-12``."""
        return f'{prefix}-{next(self._numbers)}'


def tag(name: str, /, *children: object, **attributes: object) -> Html:
    """Write one element.

    Args:
        name (str): Of the element.
        *children: Strings (escaped unless they are :class:`Html`), numbers, lists of these, or None (left out).
        **attributes: Escaped. ``cls`` stands for ``class``, an underscore for a hyphen; True gives a bare attribute,
            None and False none.

    Example:
        >>> tag('p', 'a < b', cls='note')
        '<p class="note">a &lt; b</p>'
    """
    # By identity: 0 is a value.
    kept = {key: value for key, value in attributes.items() if value is not None and value is not False}
    text = ''.join(_attribute(key, value) for key, value in kept.items())
    if name in _VOID:
        return Html(f'<{name}{text}>')
    return Html(f'<{name}{text}>{join(*children)}</{name}>')


def join(*children: object) -> Html:
    """Put strings, numbers and lists of these together, escaped as :func:`tag` does it."""
    return Html(''.join(_child(child) for child in children))


def table(
    head: Sequence,
    rows: Iterable,
    caption: str,
    numeric: Iterable[int] = (),
    cls: str | None = None,
    row_heads: bool = True,
) -> Html:
    """Write a table that scrolls within its own box where the screen is narrow.

    Args:
        head (Sequence): Cells of the head.
        rows (Iterable): Sequences of cells, one per row; or a single cell, a heading over the rows that follow.
        caption (str): What the table holds.
        numeric (Iterable[int]): Columns that are set flush right.
        cls (str, optional): Class of the table; ``compact`` makes it no wider than it needs to be.
        row_heads (bool): Whether the first cell of a row is its heading.
    """
    numeric = set(numeric)
    aligned = ['num' if index in numeric else None for index in range(len(head))]
    first = tag('tr', [tag('th', cell, scope='col', cls=kind) for cell, kind in zip(head, aligned)])
    body = []
    for row in rows:
        if isinstance(row, str):
            body.append(tag('tr', tag('th', row, scope='rowgroup', colspan=len(head)), cls='group'))
            continue
        cells = [
            tag('th', cell, scope='row', cls=kind) if index == 0 and row_heads else tag('td', cell, cls=kind)
            for index, (cell, kind) in enumerate(zip(row, aligned))
        ]
        body.append(tag('tr', cells))
    content = tag('table', tag('caption', tag('span', caption)), tag('thead', first), tag('tbody', body), cls=cls)
    # A box that scrolls must be reachable by keyboard.
    box = 'scroll fit' if cls == 'compact' else 'scroll'
    return tag('div', content, cls=box, tabindex='0', role='region', aria_label=caption)


def scrolling(content: object, label: str) -> Html:
    """Put wide content into a box that scrolls sideways, also by keyboard, where the screen is narrow."""
    return tag('div', content, cls='pan', tabindex='0', role='region', aria_label=label)


def details(summary: object, *content: object, open_: bool = False) -> Html:
    """Write a part that is folded away until it is asked for."""
    return tag('details', tag('summary', summary), *content, open=open_)


def _attribute(key, value):
    name = 'class' if key == 'cls' else key.rstrip('_').replace('_', '-')
    return f' {name}' if value is True else f' {name}="{html.escape(str(value), quote=True)}"'


def _child(child):
    if child is None:
        return ''
    if isinstance(child, Html):
        return str(child)
    if isinstance(child, (list, tuple)):
        return ''.join(map(_child, child))
    return html.escape(str(child), quote=False)
