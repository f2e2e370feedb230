"""A sweep of delta_fg."""

import pytest

KEY = 'model.pseudo_label.fg_threshold'


VALUES = {0.1: 37.0, 0.3: 38.5, 0.5: 36.0, 0.62: 35.0}


@pytest.fixture
def figure_2(tmp_path, build):
    """A sweep of delta_fg with one failed trial, and the classifier that it started from."""
    build['run'](tmp_path / 'cam', score=50.0)
    trials = [dict(params={KEY: threshold}, value=value) for threshold, value in VALUES.items()]
    trials.insert(2, dict(params={KEY: 0.4}, value=None, state='failed', reason='loss <is> nan', iteration=None))
    start = {'load_from': str(tmp_path / 'cam' / 'epoch_6.pth')}
    return build['sweep'](tmp_path / 'sweep', trials, {KEY: {'values': [*VALUES, 0.4]}}, cfg_options=start)
