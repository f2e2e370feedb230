"""Parameters of a sweep file: what they may hold, how they are drawn, and how they look on a command line."""

import itertools
import json
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from csrm_plugin.config.arguments import OptionsAction
from csrm_plugin.utils import UserError
from csrm_plugin.utils.spelling import did_you_mean

#: Distributions that are drawn here as W&B draws them: are they logarithmic, are the bounds exponents of e, is the
#: value rounded to a multiple of `q`?
RANGES = {
    'int_uniform': (False, False, False),
    'uniform': (False, False, False),
    'log_uniform': (True, True, False),
    'log_uniform_values': (True, False, False),
    'q_uniform': (False, False, True),
    'q_log_uniform': (True, True, True),
    'q_log_uniform_values': (True, False, True),
}
#: Distributions of W&B that Optuna does not have, with what to write instead.
REFUSED = {
    'categorical_w_probabilities': 'leave `probabilities` out; all values are then equally likely',
    'normal': 'use uniform with the bounds that matter',
    'q_normal': 'use q_uniform with the bounds that matter',
    'log_normal': 'use log_uniform_values with the bounds that matter',
    'q_log_normal': 'use q_log_uniform_values with the bounds that matter',
    'inv_log_uniform': 'use log_uniform_values',
    'inv_log_uniform_values': 'use log_uniform_values',
    'beta': 'use uniform',
    'q_beta': 'use q_uniform',
}
KEYS = ('value', 'values', 'min', 'max', 'distribution', 'q', 'mu', 'sigma', 'a', 'b', 'probabilities', 'parameters')
#: What W&B allows as the name of a parameter.
NAME = re.compile(r'[A-Za-z_][A-Za-z0-9_.-]*')


@dataclass(frozen=True)
class Parameter:
    """One parameter of a sweep.

    Args:
        name (str): Dotted key of the config.
        kind (str): ``constant``, ``categorical`` or one of :data:`RANGES`.
        values (tuple): All values of a constant (one) or categorical parameter.
        low (float): Lower bound of a range, never an exponent.
        high (float): Upper bound of a range.
        q (float, optional): The value is rounded to a multiple of it.
        spec (dict): As in the file.
    """

    name: str
    kind: str
    values: tuple = ()
    low: float = 0.0
    high: float = 0.0
    q: float | None = None
    spec: dict = field(default_factory=dict, compare=False)

    @property
    def log(self) -> bool:
        """Whether it is drawn on a logarithmic scale."""
        return self.kind in RANGES and RANGES[self.kind][0]

    @property
    def choices(self) -> tuple:
        """What Optuna stores for ``values``: they themselves where it can tell them apart, else their JSON text."""
        plain = all(value is None or isinstance(value, (bool, int, float, str)) for value in self.values)
        if plain and len(set(self.values)) == len(self.values):  # 1, 1.0 and True are the same to Python
            return self.values
        return tuple(_canonical(value) for value in self.values)

    def distribution(self) -> BaseDistribution | None:
        """The Optuna distribution; None for a constant. Rounding to ``q`` is left to :meth:`decode`, as W&B does it."""
        if self.kind == 'constant':
            return None
        if self.kind == 'categorical':
            return CategoricalDistribution(self.choices)
        if self.kind == 'int_uniform':
            return IntDistribution(int(self.low), int(self.high))
        return FloatDistribution(self.low, self.high, log=self.log)

    def decode(self, stored: Any) -> Any:
        """The value for the command line, from what Optuna stores."""
        if self.kind == 'constant':
            return self.values[0]
        if self.kind == 'categorical':
            return self.values[self.choices.index(stored)]
        if self.q is None:
            return stored
        rounded = round(stored / self.q) * self.q
        return int(rounded) if isinstance(self.q, int) else rounded

    def encode(self, value: Any) -> Any:
        """What Optuna stores for one of ``values``."""
        if self.kind != 'categorical':
            return value
        texts = [_canonical(item) for item in self.values]
        return self.choices[texts.index(_canonical(value))]

    def example(self) -> Any:
        """Some value that may be drawn."""
        return self.values[0] if self.values else self.decode(int(self.low) if self.kind == 'int_uniform' else self.low)

    def as_list(self) -> 'Parameter':
        """The same with all its values listed, in the order of W&B's grid search.

        Raises:
            UserError: If there are infinitely many.
        """
        return self if self.kind == 'constant' else replace(self, kind='categorical', values=tuple(self._all_values()))

    def _all_values(self) -> list:
        if self.values:
            return list({_grid_key(value): value for value in self.values}.values())
        if self.kind == 'int_uniform':
            return list(range(int(self.low), int(self.high) + 1))
        if self.kind == 'q_uniform':
            import numpy as np

            return np.arange(self.low, self.high, self.q).tolist()  # less `max`, as W&B has it
        raise UserError(
            f'parameter `{self.name}` has infinitely many values, which method grid cannot try; list `values`'
        )


def parse_parameter(name: Any, spec: Any) -> Parameter:
    """Read one entry below ``parameters``.

    Args:
        name (str): Its key.
        spec (dict): ``value``, ``values``, or ``min`` and ``max``, with or without ``distribution`` and ``q``.

    Raises:
        UserError: If it is malformed, or W&B would draw it in a way that Optuna cannot; without the name of the file.
    """
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise UserError(f'parameter `{name}`: a name is a dotted key of the config, of letters, digits and _ . -')
    if not isinstance(spec, dict):
        raise UserError(f'parameter `{name}` must hold `value`, `values`, or `min` and `max`, but is {spec!r}')
    for key in spec:
        if key not in KEYS:
            raise UserError(f'parameter `{name}`: unknown key `{key}`{did_you_mean(key, KEYS)}')
    kind = _kind(name, spec)
    if kind in ('constant', 'categorical'):
        _only(name, spec, 'value' if kind == 'constant' else 'values', 'distribution')
        values = (spec['value'],) if kind == 'constant' else spec['values']
        if not isinstance(values, (list, tuple)) or not values:
            raise UserError(f'parameter `{name}`: `values` must be a list of at least one value')
        for value in values:
            check_value(name, value)
        return Parameter(name, kind, tuple(values), spec=spec)
    _only(name, spec, 'min', 'max', 'distribution', *(['q'] if RANGES[kind][2] else []))
    return _range(name, kind, spec)


def grid_cells(parameters: Iterable[Parameter]) -> Iterator[dict[str, Any]]:
    """Yield every combination of a grid in W&B's order: parameters by name, the last one changing fastest.

    Args:
        parameters (Iterable[Parameter]): Of the sweep, with listed values (:meth:`Parameter.as_list`).

    Yields:
        dict: Name to value; constants are in it.
    """
    ordered = sorted(parameters, key=lambda parameter: parameter.name)
    for values in itertools.product(*(parameter.values for parameter in ordered)):
        yield {parameter.name: value for parameter, value in zip(ordered, values)}


def grid_size(parameters: Iterable[Parameter]) -> int:
    """Number of combinations of a grid."""
    return math.prod(len(parameter.values) for parameter in parameters)


def format_argument(name: str, value: Any) -> str:
    """``name=value`` as W&B's agent writes it."""
    return f'{name}={value}'


def check_value(name: str, value: Any) -> None:
    """Raise unless ``value`` can go through a command line.

    Raises:
        UserError: If it is no plain value, or `--cfg-options` would read something else.
    """
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f'parameter `{name}`: {value} is no value for a setting; leave it out')
    if isinstance(value, (list, dict)):
        plain = _is_plain(value)
    else:
        plain = value is None or isinstance(value, (bool, int, float, str))
    if not plain:
        raise UserError(f'parameter `{name}`: {value!r} is no number, text, list or dict; put a text in quotes')
    try:
        same = read_back(value) == value
    except ValueError as error:
        raise UserError(f'parameter `{name}`: {error}') from error
    if not same and not isinstance(value, str):
        raise UserError(
            f'parameter `{name}`: --cfg-options would read {value!r} as {read_back(value)!r}; '
            'write it as a text that --cfg-options takes'
        )


def read_back(value: Any) -> Any:
    """What ``tools/train.py`` reads when the agent writes ``value``."""
    return OptionsAction.parse_value(str(value))


def option_text(key: str, value: Any) -> str:
    """``key=text`` that ``--cfg-options`` reads back as ``value``.

    Raises:
        UserError: If there is no such text.
    """
    for text in (str(value), f'"{value}"', json.dumps(value, default=str)):
        try:
            found = OptionsAction.parse_value(text)
        except ValueError:
            continue
        if found == value and type(found) is type(value):
            return f'{key}={text}'
    raise UserError(f'--cfg-options {key}: {value!r} cannot be handed on to a trial; set it in a config file')


def _kind(name: str, spec: dict) -> str:
    """The distribution, inferred as W&B does where none is given."""
    if 'parameters' in spec:
        raise UserError(
            f'parameter `{name}`: nested parameters are not supported; write `{name}.KEY` on the upper level'
        )
    if 'probabilities' in spec:
        raise UserError(f'parameter `{name}`: {REFUSED["categorical_w_probabilities"]}')
    kind = spec.get('distribution')
    if kind in REFUSED:
        raise UserError(f'parameter `{name}`: Optuna cannot draw distribution `{kind}` as W&B does; {REFUSED[kind]}')
    kinds = ('constant', 'categorical', *RANGES)
    if kind is not None and kind not in kinds:
        raise UserError(f'parameter `{name}`: unknown distribution `{kind}`{did_you_mean(kind, kinds)}')
    given = [key for key in ('value', 'values', 'min') if key in spec or (key == 'min' and 'max' in spec)]
    if len(given) != 1:
        raise UserError(f'parameter `{name}` must hold one of `value`, `values`, or `min` and `max`')
    if kind is None:
        whole = all(_is_int(spec.get(key)) for key in ('min', 'max'))
        return {'value': 'constant', 'values': 'categorical', 'min': 'int_uniform' if whole else 'uniform'}[given[0]]
    needed = {'constant': 'value', 'categorical': 'values'}.get(kind, 'min')
    if needed != given[0]:
        what = '`min` and `max`' if needed == 'min' else f'`{needed}`'
        raise UserError(f'parameter `{name}`: distribution {kind} needs {what}, not `{given[0]}`')
    return kind


def _range(name: str, kind: str, spec: dict) -> Parameter:
    """A parameter between two bounds."""
    log, exponents, quantized = RANGES[kind]
    bounds = []
    for key in ('min', 'max'):
        bound = spec.get(key)
        if isinstance(bound, bool) or not isinstance(bound, (int, float)) or not math.isfinite(bound):
            text = f', but is the text {bound!r} (YAML wants 1.0e-3, not 1e-3)' if isinstance(bound, str) else ''
            raise UserError(f'parameter `{name}`: `{key}` must be a number{text}')
        if kind == 'int_uniform' and not _is_int(bound):
            raise UserError(f'parameter `{name}`: `{key}` of int_uniform must be whole, but is {bound}')
        bounds.append(math.exp(bound) if exponents else bound)
    low, high = bounds
    if low > high or (low == high and kind != 'int_uniform'):
        raise UserError(f'parameter `{name}`: `min` must be below `max`, but they are {spec["min"]} and {spec["max"]}')
    if log and low <= 0:
        raise UserError(f'parameter `{name}`: `min` of {kind} must be above 0, but is {spec["min"]}')
    q = spec.get('q', 1.0) if quantized else None
    if quantized and (isinstance(q, bool) or not isinstance(q, (int, float)) or not q > 0):
        raise UserError(f'parameter `{name}`: `q` must be above 0, but is {q!r}')
    return Parameter(name, kind, (), low, high, q, spec)


def _only(name: str, spec: dict, *allowed: str) -> None:
    for key in spec:
        if key not in allowed:
            raise UserError(
                f'parameter `{name}`: `{key}` does not go with {", ".join(k for k in spec if k in allowed)}'
            )


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_plain(value: Any) -> bool:
    """Whether a value is made of what JSON knows."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(item) for key, item in value.items())
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (bool, int, float, str))


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _grid_key(value: Any) -> str:
    """What W&B tells the values of a grid apart by: 3.0 and 3 are one, 1 and true are two."""
    return _canonical(int(value) if isinstance(value, float) and value.is_integer() else value)
