"""How runs differ in what they were made with: the one comparer, of two stages or of many runs side by side.

What was not recorded is unknown, which is neither the same nor different: whoever asks must say so.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from csrm_plugin.report.runs.run import Run

#: The setting that is a part of its own.
SEED = 'randomness.seed'


class _Absent:
    def __repr__(self) -> str:
        return 'ABSENT'


#: Stands for what a side does not have; None is a value.
ABSENT = _Absent()


class Making(NamedTuple):
    """What a run, or a stage of one, was made with.

    Attributes:
        settings (dict): Flat, without the seed; empty where they were not recorded.
        seed (int | None): None where there is none.
        versions (dict[str, str]): Of libraries; empty where they were not recorded.
        git (dict): ``revision`` and ``dirty`` of the code, as far as they are known.
        code (str | None): Hash of the code.
        sources (dict | None): Where the data are from; None where that was not recorded.
    """

    settings: dict
    seed: int | None
    versions: dict
    git: dict
    code: str | None = None
    sources: dict | None = None


class Comparison(NamedTuple):
    """How several makings differ, beside their settings; a list holds one value for each, and none if all are the same.

    Attributes:
        versions (dict[str, list]): Libraries that differ: versions, None where there is none.
        seed (list): Seeds.
        code (list): Hashes of the code.
        revision (list): Revisions of the code.
        uncommitted (list): Whether the code had changes that are not committed.
        unknown (frozenset[str]): What not all of them have: ``versions``, ``seed``, ``code``, ``revision`` or
            ``sources``.
    """

    versions: dict
    seed: list
    code: list
    revision: list
    uncommitted: list
    unknown: frozenset


def making_of_card(card: Mapping) -> Making:
    """What a stage was made with, by its card."""
    settings = (card.get('config') or {}).get('settings') or {}
    code = (card.get('key_parts') or {}).get('code')
    versions, git = card.get('versions') or {}, card.get('git') or {}
    return Making(_without_seed(settings), card.get('seed'), versions, git, code)


def making_of_run(run: Run) -> Making:
    """What a run was made with, by its record.

    Where the data are and what a run starts from is no setting of the config's alone, but decides on the result, so
    that it counts as one; so does the config's name.
    """
    info = run.info
    beside = {**(info.get('sources') or {}), **{key: info.get(key) for key in ('config', 'load_from')}}
    settings = {**run.settings, **{key: value for key, value in beside.items() if value is not None}}
    versions, git = info.get('versions') or {}, info.get('git') or {}
    return Making(_without_seed(settings), run.seed, versions, git, sources=info.get('sources'))


def compare(makings: Sequence[Making]) -> Comparison:
    """Compare what runs were made with, beside their settings, of which not all may count: see :func:`differences`.

    Args:
        makings (Sequence[Making]): At least one.
    """
    parts = dict(
        seed=[making.seed for making in makings],
        code=[making.code for making in makings],
        revision=[making.git.get('revision') or None for making in makings],
    )
    unknown = {name for name, values in parts.items() if None in values}
    if not all(making.versions for making in makings):
        unknown.add('versions')
    if any(making.sources is None for making in makings):
        unknown.add('sources')
    versions = differences([making.versions for making in makings])
    return Comparison(
        versions={name: [None if value is ABSENT else value for value in found] for name, found in versions.items()},
        uncommitted=_unlike([bool(making.git.get('dirty')) for making in makings]),
        unknown=frozenset(unknown),
        **{name: _unlike(values) for name, values in parts.items()},
    )


def differences(sides: Sequence[Mapping], keys: Iterable[str] | None = None) -> dict[str, list]:
    """Keys whose values are not the same on all sides; 1 and 1.0 are the same, 1 and true are not.

    Args:
        sides (Sequence[Mapping]): One per run, for example its settings.
        keys (Iterable[str], optional): What to compare, in the order of the answer; by default all, sorted.

    Returns:
        dict[str, list]: Key to one value per side, :data:`ABSENT` where a side has none, which differs from any value.
    """
    keys = sorted(set().union(*sides)) if keys is None else keys
    values = {key: [side.get(key, ABSENT) for side in sides] for key in keys}
    return {key: found for key, found in values.items() if _unlike(found)}


def _without_seed(settings):
    return {key: value for key, value in settings.items() if key != SEED}


def _unlike(values):
    """The values, if they are not all the same; else none."""
    first = _comparable(values[0])
    return values if any(_comparable(value) != first for value in values[1:]) else []


def _comparable(value):
    """The same for values that are equal; lists and tuples are alike."""
    if isinstance(value, bool):
        return (bool, value)
    if isinstance(value, (list, tuple)):
        return [_comparable(item) for item in value]
    if isinstance(value, dict):
        return {key: _comparable(item) for key, item in value.items()}
    return value
