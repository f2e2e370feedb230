"""Whether what an earlier call made still counts, and where it goes if not: nothing that took time is deleted."""

import itertools
import os
import re
from collections.abc import Mapping
from datetime import datetime

#: What the parts of a key are called for people.
WORDS = {'code': 'code of the project'}


def why_again(finished: bool, old: Mapping, parts: Mapping) -> str | None:
    """Why something must be made, or made again; None if what is there was finished with the same key.

    Args:
        finished (bool): Whether what is there came to its end.
        old (Mapping): The parts of its key: hashes of settings, code, inputs and so on, by name.
        parts (Mapping): The same, as they are now.

    Returns:
        str | None: ``changed since: settings, code of the project``, or ``it was not finished``.

    Example:
        >>> why_again(True, {'code': 1, 'seed': 0}, {'code': 2, 'seed': 0})
        'changed since: code of the project'
    """
    changed = changed_parts(old, parts)
    if changed:
        return f'changed since: {", ".join(WORDS.get(name, name) for name in changed)}'
    return None if finished else 'it was not finished'


def changed_parts(old: Mapping, parts: Mapping) -> list[str]:
    """Names of the parts of a key that are not what they were."""
    return [name for name in parts if name not in old or old[name] != parts[name]]


def set_aside(folder: str | os.PathLike, why: str) -> str:
    """Rename a folder so that its name says when and why it was set aside.

    Args:
        folder (str | os.PathLike): Such as ``seed_0``.
        why (str): In a few words: ``changed since: code``.

    Returns:
        str: Where it is now: ``seed_0.set_aside_20260131_235959_changed_since_code``.
    """
    folder = os.fspath(folder).rstrip(os.sep)
    words = re.sub(r'[^a-z0-9]+', '_', why.lower()).strip('_')[:60]
    name = f'{folder}.set_aside_{datetime.now():%Y%m%d_%H%M%S}_{words}'
    for number in itertools.count(1):
        place = name if number == 1 else f'{name}_{number}'
        if not os.path.lexists(place):
            os.rename(folder, place)
            return place
    raise AssertionError
