"""What differs between two stages, in words."""

from collections.abc import Mapping, Sequence

#: Settings that are shown; the rest is counted.
SHOWN_SETTINGS = 8


def tell(finding: Mapping, parts: Sequence[str]) -> str:
    """What differs in ``parts``, as a part of a sentence."""
    return '; '.join(_TELL[part](finding[part]) for part in parts)


def setting_line(entry: Mapping) -> str:
    """``lr 0.2 against 0.1``, with ``not set`` for the side that has no entry."""
    values = [str(entry[side]) if side in entry else 'not set' for side in ('here', 'there')]
    return f'{entry["setting"]} {values[0]} against {values[1]}'


def listed(names: Sequence[str]) -> str:
    """``a, b and c``."""
    return ' and '.join(filter(None, [', '.join(names[:-1]), *names[-1:]]))


def number(value: float | None) -> str:
    """A score with one or two decimals."""
    if value is None:
        return '-'
    text = f'{value:.2f}'
    return text[:-1] if text.endswith('0') else text


def signed(score: Mapping) -> str:
    """A difference with its sign."""
    difference = score['difference']
    if difference is None:
        return ''
    return ('+' if difference > 0 else '') + number(difference)


def _tell_data(data):
    return 'data differ: ' + ', '.join(map(_data_line, data))


def _data_line(entry):
    if entry['here'] == entry['there']:
        return f'{entry["data"]} (as many pictures, but other names, order, sizes or labels)'
    return f'{entry["data"]} {_count(entry["here"])} against {_count(entry["there"])} pictures'


def _count(amount):
    return 'no' if amount is None else str(amount)


def _tell_settings(settings):
    shown = ', '.join(map(setting_line, settings[:SHOWN_SETTINGS]))
    more = f', and {len(settings) - SHOWN_SETTINGS} more' if len(settings) > SHOWN_SETTINGS else ''
    return f'{len(settings)} setting{"s differ" if len(settings) > 1 else " differs"}: {shown}{more}'


_TELL = {
    'data': _tell_data,
    'inputs': lambda stages: f'the outcome of {", ".join(stages)}, which it stands on, differs',
    'settings': _tell_settings,
    'code': lambda code: f'the code differs ({code["here"][:12]} against {code["there"][:12]})',
    'seed': lambda seed: f'the seed differs ({seed["here"]} against {seed["there"]})',
    'versions': lambda versions: (
        'versions differ: '
        + ', '.join(
            f'{entry["library"]} {entry["here"] or "none"} against {entry["there"] or "none"}' for entry in versions
        )
    ),
}
