import pytest

from csrm_plugin.report.runs.differences import (
    ABSENT,
    Making,
    compare,
    differences,
    making_of_card,
    making_of_run,
)
from csrm_plugin.report.runs.sources import load_runs


def making(**parts):
    base = dict(
        settings={'lr': 0.1},
        seed=0,
        versions={'torch': '2.13.0'},
        git={'revision': 'abc', 'dirty': False},
        code='c0',
        sources={},
    )
    return Making(**{**base, **parts})


@pytest.mark.parametrize(
    ('a', 'b', 'differ'),
    [
        (1, 1.0, False),
        (1, True, True),
        (True, 'True', True),
        ([1, 2], (1.0, 2), False),
        ([1], [True], True),
        ({'a': 1}, {'a': True}, True),
        (None, 0, True),
        (None, None, False),
    ],
)
def test_when_two_values_differ(a, b, differ):
    assert differences([{'key': a}, {'key': b}]) == ({'key': [a, b]} if differ else {})


def test_what_a_side_does_not_have_differs_from_any_value():
    assert differences([{'a': None}, {}]) == {'a': [None, ABSENT]}
    assert differences([{}, {}], ['a']) == {}


def test_more_than_two_sides_and_the_order_of_the_answer():
    sides = [{'b': 1, 'a': 1, 'c': 1}, {'b': 1, 'a': 1, 'c': 1}, {'b': 2, 'a': 2, 'c': 1}]
    assert list(differences(sides)) == ['a', 'b']
    assert differences(sides, ['b', 'c', 'a']) == {'b': [1, 1, 2], 'a': [1, 1, 2]}


def test_makings_that_are_alike():
    found = compare([making(), making(settings={'lr': 0.2})])
    assert found == ({}, [], [], [], [], frozenset())


@pytest.mark.parametrize(
    ('parts', 'name', 'values'),
    [
        (dict(seed=1), 'seed', [0, 1]),
        (dict(code='c1'), 'code', ['c0', 'c1']),
        (dict(git={'revision': 'def'}), 'revision', ['abc', 'def']),
        (dict(git={'revision': 'abc', 'dirty': True}), 'uncommitted', [False, True]),
        (
            dict(versions={'torch': '2.4.0', 'numpy': '2'}),
            'versions',
            {'numpy': [None, '2'], 'torch': ['2.13.0', '2.4.0']},
        ),
    ],
)
def test_each_part_that_differs_is_found_alone(parts, name, values):
    found = compare([making(), making(**parts)])
    assert getattr(found, name) == values
    assert [part for part in found._fields if getattr(found, part)] == [name]


@pytest.mark.parametrize(
    ('parts', 'names'),
    [
        (dict(seed=None), {'seed'}),
        (dict(code=None), {'code'}),
        (dict(git={}), {'revision'}),
        (dict(versions={}), {'versions'}),
        (dict(sources=None), {'sources'}),
    ],
)
def test_what_is_not_recorded_on_all_sides_is_unknown(parts, names):
    assert compare([making(), making(), making(**parts)]).unknown == names


def test_the_seed_is_no_setting_and_folders_and_starts_are(tmp_path, build):
    build['run'](tmp_path / 'run', seed=3, load_from='cam/epoch_1.pth')
    ((run,), _) = load_runs([tmp_path / 'run'])
    found = making_of_run(run)
    assert (found.seed, found.code) == (3, None) and 'randomness.seed' not in found.settings
    assert found.settings['train_dataloader.dataset.data_root'] == 'data/demo'
    assert found.settings['load_from'] == 'cam/epoch_1.pth' and found.settings['config'] == 'mmcfg/csrm_demo.py'
    assert found.versions == {'python': '3.11.7', 'torch': '2.13.0'} and found.git['revision'] == 'abcdef0123456789'


def test_a_card_says_the_same_of_its_stage():
    card = dict(
        config={'settings': {'lr': 0.1, 'randomness.seed': 5}},
        seed=5,
        key_parts={'code': 'c0'},
        git={'revision': 'abc'},
        versions=None,
    )
    assert making_of_card(card) == Making({'lr': 0.1}, 5, {}, {'revision': 'abc'}, 'c0', None)
    assert making_of_card({}) == Making({}, None, {}, {})
