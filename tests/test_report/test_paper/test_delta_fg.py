import statistics

import pytest

from csrm_plugin.report.paper.delta_fg import compare, spread
from csrm_plugin.report.paper.delta_fg_page import verdict
from csrm_plugin.report.runs.sweeps import read_sweep

KEY = 'model.pseudo_label.fg_threshold'
NAMES = ('CSRM', 'CAM')


def test_spread_over_the_common_thresholds(figure_2):
    found = compare(read_sweep(figure_2))
    assert [point[:2] for point in found.common] == [(0.1, 37.0), (0.3, 38.5), (0.5, 36.0)]
    method, cam = ([point[index] for point in found.common] for index in (1, 2))
    assert spread(method) == (2.5, pytest.approx(statistics.stdev([37.0, 38.5, 36.0])))
    text, _ = verdict(found, NAMES)
    assert 'CSRM lies between 36.0% and 38.5% (range 2.5 points, standard deviation 1.3)' in text
    assert f'(range {max(cam) - min(cam):.1f} points, standard deviation {statistics.stdev(cam):.1f})' in text


def test_trials_of_one_threshold_are_averaged(tmp_path, build):
    trials = [dict(params={KEY: at}, value=value) for at, value in ((0.3, 30.0), (0.3, 34.0), (0.1, 20.0))]
    trials.append(dict(params={KEY: 0.1}, value=5.0, state='pruned'))  # stopped early: no score of that threshold
    found = compare(read_sweep(build['sweep'](tmp_path, trials, {KEY: {'values': [0.1, 0.3]}})))
    assert found.method == [(0.1, 20.0), (0.3, 32.0)] and found.cam == []
    assert 'The trials started from no checkpoint; give the classifier with --reference' in found.notes[0]
