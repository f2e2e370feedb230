import collections
import math

import numpy as np
import optuna
import pytest

from csrm_plugin.experiments.sweep.space import (
    format_argument,
    grid_cells,
    grid_size,
    option_text,
    parse_parameter,
    read_back,
)
from csrm_plugin.utils import UserError


def draw(parameter, count=4000):
    """Many values of a parameter, as a random search draws them."""
    sampler = optuna.samplers.RandomSampler(seed=1)
    return [
        parameter.decode(sampler.sample_independent(None, None, '', parameter.distribution())) for _ in range(count)
    ]


def test_kinds_are_inferred_as_wandb_does():
    kinds = {
        'constant': {'value': 3},
        'categorical': {'values': [1, 2]},
        'int_uniform': {'min': 1, 'max': 5},
        'uniform': {'min': 1, 'max': 5.0},
        'log_uniform_values': {'distribution': 'log_uniform_values', 'min': 1e-4, 'max': 1e-1},
    }
    for kind, spec in kinds.items():
        assert parse_parameter('a.b', spec).kind == kind
    assert parse_parameter('a', {'distribution': 'uniform', 'min': 1, 'max': 5}).kind == 'uniform'
    assert parse_parameter('a', {'distribution': 'constant', 'value': 5}).kind == 'constant'


def test_constant_is_not_drawn():
    constant = parse_parameter('a', {'value': [1, 2]})
    assert constant.distribution() is None and constant.decode(None) == [1, 2] and constant.example() == [1, 2]


def test_int_uniform_has_both_ends():
    counts = collections.Counter(draw(parse_parameter('a', {'min': 2, 'max': 4})))
    assert sorted(counts) == [2, 3, 4] and min(counts.values()) > 1200


def test_uniform():
    values = draw(parse_parameter('a', {'min': -1.0, 'max': 3}))
    assert min(values) >= -1 and max(values) <= 3 and abs(np.mean(values) - 1) < 0.1


@pytest.mark.parametrize(
    'spec',
    [
        {'distribution': 'log_uniform', 'min': math.log(1e-4), 'max': math.log(1.0)},  # exponents of e
        {'distribution': 'log_uniform_values', 'min': 1e-4, 'max': 1.0},
    ],
)
def test_log_uniform(spec):
    values = draw(parse_parameter('a', spec))
    assert min(values) >= 0.99e-4 and max(values) <= 1.001
    assert abs(np.median(values) - 1e-2) < 2e-3


def test_q_uniform_rounds_to_multiples_of_q_with_rare_ends():
    values = collections.Counter(
        draw(parse_parameter('a', {'distribution': 'q_uniform', 'min': 0, 'max': 1, 'q': 0.5}))
    )
    assert sorted(values) == [0.0, 0.5, 1.0]
    # W&B rounds a uniform number, so that the ends get half as much.
    assert abs(values[0.5] / 4000 - 0.5) < 0.05 and abs(values[0.0] / 4000 - 0.25) < 0.05
    whole = draw(parse_parameter('a', {'distribution': 'q_uniform', 'min': 0, 'max': 20, 'q': 5}), 20)
    assert all(type(value) is int and value % 5 == 0 for value in whole)


def test_q_log_uniform_rounds_a_logarithmic_number():
    spec = {'distribution': 'q_log_uniform_values', 'min': 1, 'max': 100, 'q': 1}
    values = draw(parse_parameter('a', spec))
    assert {type(value) for value in values} == {int} and min(values) == 1 and 90 < max(values) <= 100
    assert abs(np.median(values) - 10) <= 1


@pytest.mark.parametrize(
    'values', [[0.1, 0.3], ['a', None, True, 2], [1, 1.0, True], [[1, 2], [3]], [{'a': 1}, None], ['1', 1]]
)
def test_categories_survive_storage(values, tmp_path):
    parameter = parse_parameter('a', {'values': values})
    backend = optuna.storages.journal.JournalFileBackend(str(tmp_path / 'log'))
    study = optuna.create_study(storage=optuna.storages.JournalStorage(backend), study_name='s')
    for value in values:
        study.enqueue_trial({'a': parameter.encode(value)})
    found = []
    for _ in values:
        trial = study.ask()
        trial.suggest_categorical('a', parameter.choices)
        found.append(parameter.decode(trial.params['a']))
    assert [repr(value) for value in found] == [repr(value) for value in values]


@pytest.mark.parametrize(
    ('spec', 'words'),
    [
        ({'values': [1, 2], 'probabilities': [0.1, 0.9]}, 'leave `probabilities` out'),
        ({'distribution': 'normal', 'mu': 0, 'sigma': 1}, 'use uniform'),
        ({'distribution': 'q_normal'}, 'use q_uniform'),
        ({'distribution': 'inv_log_uniform_values', 'min': 1, 'max': 2}, 'use log_uniform_values'),
        ({'distribution': 'beta'}, 'use uniform'),
        ({'parameters': {'b': {'value': 1}}}, 'write `a.KEY` on the upper level'),
        ({'distribution': 'unifrom', 'min': 1, 'max': 2}, 'did you mean `uniform`'),
        ({'value': 1, 'values': [1]}, 'one of `value`'),
        ({'min': 1}, '`max` must be a number'),
        ({'values': []}, 'at least one'),
        ({'vlaues': [1]}, 'did you mean `values`'),
        ({'distribution': 'log_uniform_values', 'min': 0, 'max': 1}, 'above 0'),
        ({'min': 2, 'max': 1.0}, 'below `max`'),
        ({'min': '1e-3', 'max': 1.0}, 'YAML wants 1.0e-3'),
        ({'distribution': 'int_uniform', 'min': 0.5, 'max': 1}, 'whole'),
        ({'min': 1, 'max': 2, 'q': 1}, '`q` does not go with'),
        ({'distribution': 'categorical', 'min': 1, 'max': 2}, 'needs `values`'),
        ({'values': [float('nan')]}, 'no value'),
        ({'values': [['a b']]}, 'would read'),
        ({'values': ['{x']}, 'neither JSON'),
        (3, 'must hold'),
    ],
)
def test_what_cannot_be_done_is_refused_with_the_mend(spec, words):
    with pytest.raises(UserError, match='parameter `a`') as error:
        parse_parameter('a', spec)
    assert words in str(error.value) and '\n' not in str(error.value)


def test_grid_has_the_order_of_wandb():
    # Parameters by name; the last one changes fastest; doubles once; ranges as numpy.arange and range have them.
    specs = {
        'b': {'values': [2, 1, 2.0]},
        'a': {'values': ['x', 'y']},
        'c': {'value': 7},
        'd': {'distribution': 'q_uniform', 'min': 0.1, 'max': 0.6, 'q': 0.25},
        'B': {'min': 0, 'max': 1},
    }
    parameters = [parse_parameter(name, spec).as_list() for name, spec in specs.items()]
    cells = list(grid_cells(parameters))
    expected = [
        dict(B=big, a=letter, b=number, c=7, d=step)
        for big in (0, 1)
        for letter in ('x', 'y')
        for number in (2, 1)
        for step in (0.1, 0.35)
    ]
    assert cells == expected and grid_size(parameters) == len(expected) == 16
    assert all(parameters[3].decode(parameters[3].encode(value)) == value for value in (0.1, 0.35))
    with pytest.raises(UserError, match='infinitely many'):
        parse_parameter('a', {'min': 0.0, 'max': 1.0}).as_list()


@pytest.mark.parametrize(
    'value', [1, 0.3, 1e-05, True, None, 'abc', 'a b', [1, 2], ['a', 'b'], [[1, 2], [3]], {'a': None}]
)
def test_values_are_written_as_the_agent_does_and_read_back(value):
    assert format_argument('a.b', value) == f'a.b={value}'
    found = read_back(value)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize('value', ['a,b', "it's", (1, 2), 'x', 0.25, {'a': [1, None]}, [True], None])
def test_fixed_settings_keep_their_type(value):
    from csrm_plugin.config.arguments import OptionsAction

    key, _, text = option_text('k', value).partition('=')
    found = OptionsAction.parse_value(text)
    assert key == 'k' and found == value and type(found) is type(value)


def test_a_fixed_setting_without_a_text_is_refused():
    with pytest.raises(UserError, match='--cfg-options k'):
        option_text('k', '[1]')
