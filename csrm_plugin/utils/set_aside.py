"""Moving what is in the way out of it: renamed so that its name says when and why, never deleted."""

import itertools
import os
import re
from datetime import datetime

_MARK = re.compile(r'\.set_aside_\d{8}_\d{6}(_|$)')


def set_aside(path: str | os.PathLike, why: str = '') -> str:
    """Rename a file or folder so that its name says when and why it was set aside.

    Args:
        path (str | os.PathLike): Such as ``run/csrm``.
        why (str): In a few words: ``code changed``.

    Returns:
        str: Where it is now: ``run/csrm.set_aside_20260131_235959_code_changed``.

    Raises:
        FileNotFoundError: If there is nothing at ``path``.
    """
    path = os.fspath(path).rstrip(os.sep)
    words = re.sub(r'[^a-z0-9]+', '_', why.lower()).strip('_')[:60].rstrip('_')
    name = f'{path}.set_aside_{datetime.now():%Y%m%d_%H%M%S}' + (f'_{words}' if words else '')
    place = next(place for place in _names(name) if not os.path.lexists(place))
    os.rename(path, place)
    return place


def is_set_aside(name: str | os.PathLike) -> bool:
    """Whether a file or folder was set aside, by the last part of its path.

    Example:
        >>> is_set_aside('run/csrm.set_aside_20260131_235959_code_changed'), is_set_aside('run/csrm')
        (True, False)
    """
    return _MARK.search(os.path.basename(os.fspath(name).rstrip(os.sep))) is not None


def set_aside_of(path: str | os.PathLike) -> list[str]:
    """What was set aside from ``path``, oldest first."""
    folder, name = os.path.split(os.fspath(path).rstrip(os.sep))
    if not os.path.isdir(folder or os.curdir):
        return []
    names = (entry for entry in os.listdir(folder or os.curdir) if is_set_aside(entry))
    return [os.path.join(folder, entry) for entry in sorted(names) if _MARK.split(entry)[0] == name]


def _names(name: str):
    """``name``, ``name_2``, ``name_3``, ..."""
    yield name
    yield from (f'{name}_{number}' for number in itertools.count(2))
