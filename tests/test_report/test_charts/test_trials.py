import re

import pytest

from csrm_plugin.report.charts.trials import _axis_places, curves_chart, parallel_chart, scatter_chart
from csrm_plugin.report.page.markup import Ids


def test_places_on_an_axis_of_numbers():
    places, ticks = _axis_places([1.0, 2.0, 5.0], log=False)
    assert places == pytest.approx([0, 0.25, 1])
    assert [(round(height, 6), text) for height, text in ticks] == [(0, '1'), (0.25, '2'), (1, '5')]


def test_places_on_a_logarithmic_axis():
    places, ticks = _axis_places([0.001, 0.1, 0.01], log=True)
    assert places == pytest.approx([0, 1, 0.5]) and [text for _, text in ticks] == ['0.001', '0.01', '0.1']
    assert _axis_places([0.0, 1.0, 4.0], log=True)[0] == pytest.approx([0, 0.25, 1])  # zero has no logarithm


def test_many_values_have_five_ticks():
    _, ticks = _axis_places([float(value) for value in range(11)], log=False)
    assert [(height, text) for height, text in ticks] == [(0, '0'), (0.25, '2.5'), (0.5, '5'), (0.75, '7.5'), (1, '10')]


def test_places_of_choices_and_of_one_value():
    assert _axis_places(['b', 'a', 'b'], log=False) == ([1, 0, 1], [(0, 'a'), (1, 'b')])
    assert _axis_places([3, 3], log=False) == ([0.5, 0.5], [(0.5, '3')])


def test_trials_that_were_pruned_look_otherwise():
    points = [(1, 30.0, 'complete'), (2, 40.0, 'pruned')]
    svg = scatter_chart(Ids(), points, (30, 40), 'title', 'trial', 'y')
    assert 'fill: none' in svg and 'trial. 1: 30, 2: 40' in svg
    lines = [([[1, 2], [2, 3]], 3, state) for state in ('complete', 'pruned')]
    whole, both = (curves_chart(Ids(), lines[:count], (3, 3), 'title', 'y') for count in (1, 2))
    assert 'stroke-dasharray' in both and both.count('stroke-dasharray') > whole.count('stroke-dasharray')


def test_every_axis_of_parallel_coordinates_has_its_name_and_ends():
    axes = [('lr', [0.1, 0.001], True), ('kind', ['a', 'b'], False)]
    svg = parallel_chart(Ids(), axes, ('score', [1.0, 2.0]), (1, 2), ['complete', 'pruned'], 'title')
    texts = set(re.findall(r'>([^<]+)</text>', svg))
    assert {'lr', 'kind', 'score', '0.001', '0.1', 'a', 'b', '1', '2'} <= texts
    assert '2 trials over lr, kind. The last axis is score.' in svg
