"""Whether what an earlier call made still counts."""

from collections.abc import Mapping

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
