"""Guesses at what a misspelt name was meant to be."""

import difflib
from collections.abc import Iterable


def nearest(word: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The known name that looks most like ``word``; None if none does.

    Args:
        word (str): As the user wrote it.
        known (Iterable[str]): What it may be.
        cutoff (float): How alike they must be at least, in 0..1; with 0 any name will do.

    Example:
        >>> nearest('methd', ['metric', 'method']), nearest('x', ['method'])
        ('method', None)
    """
    near = difflib.get_close_matches(str(word), list(known), n=1, cutoff=cutoff)
    return near[0] if near else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the nearest known one, or all of them.

    Example:
        >>> did_you_mean('methd', ['metric', 'method']), did_you_mean('x', ['metric', 'method'])
        ('; did you mean `method`?', '; known are metric, method')
    """
    known = list(known)
    near = nearest(word, known)
    return f'; did you mean `{near}`?' if near is not None else f'; known are {", ".join(known)}'
