import json

import pytest

from csrm_plugin.report import write_report, write_sweep_report
from csrm_plugin.report.page.formats import NONE
from csrm_plugin.report.runs.sweeps import read_sweep
from csrm_plugin.utils import UserError

KEY = 'model.pseudo_label.fg_threshold'


VALUES = {0.1: 37.0, 0.3: 38.5, 0.5: 36.0, 0.62: 35.0}


@pytest.fixture
def search(tmp_path, build):
    """A search over three settings, one of them a choice, with a pruned and a failed trial."""
    trials = [
        dict(params={'a.lr': lr, 'b.lr': 0.1 * lr, 'c.kind': kind, 'd.fixed': 3}, value=value)
        for lr, kind, value in ((0.1, 'SGD', 30.0), (0.01, 'AdamW', 42.25), (0.001, 'SGD', 20.0), (0.5, 'SGD', None))
    ]
    trials[2].update(state='pruned', reason='pruned at iteration 20: value 20.00')
    trials[3].update(state='failed', reason='killed by SIGKILL; memory full?')
    bounds = {'min': 0.001, 'max': 1.0, 'distribution': 'log_uniform_values'}
    parameters = {
        'a.lr': bounds,
        'b.lr': {'min': 0.0, 'max': 0.1},
        'c.kind': {'values': ['SGD', 'AdamW']},
        'd.fixed': {'value': 3},
    }
    return build['sweep'](
        tmp_path / 'search',
        trials,
        parameters,
        metric='seg/mIoU',
        notes=['A note.'],
        method='bayes',
        importances={'a.lr': 0.7, 'b.lr': 0.2, 'c.kind': 0.1},
    )


def test_a_sweep_under_way_says_so(tmp_path, build, read_page):
    trials = [dict(params={KEY: at}, value=at, state=state) for at, state in ((0.1, 'complete'), (0.2, 'complete'))]
    trials += [
        dict(params={KEY: 0.3}, value=9.0, state='running'),
        dict(params={KEY: 0.4}, value=None, state='waiting'),
    ]
    build['run'](tmp_path / 'cam')
    sweep = build['sweep'](tmp_path / 'sweep', trials, {KEY: {'values': [0.1, 0.2, 0.3, 0.4]}})
    page = read_page(write_sweep_report(sweep, reference=tmp_path / 'cam'))
    assert 'So far, with 2 trials not finished: Over the 2 thresholds' in page.text
    assert '2 trials not finished (1 running, 1 waiting)' in page.text
    assert page.table('What was varied')[1][1:] == ['0.1, 0.2, 0.3, 0.4', '0.1, 0.2, 0.3']


def test_search(search, read_page):
    page = read_page(write_sweep_report(search))
    assert 'Bayes search over 3 settings of mmcfg/csrm_demo.py, scored by seg/mIoU (higher is better' in page.text
    assert 'Trials: 2 complete, 1 pruned, 1 failed.' in page.text
    assert page.text.split('--cfg-options ')[1].startswith('a.lr=0.01 b.lr=0.001 c.kind=AdamW d.fixed=3 ')
    head, *rows = page.table('4 trials.')
    assert head == ['Trial', 'State', 'seg/mIoU', 'a.lr', 'b.lr', 'kind', 'Iteration', 'Seconds']
    assert rows[1] == ['1', 'complete', '42.2%', '0.01', '0.001', 'AdamW', '60', '31']
    assert rows[2][1:3] == ['prunedpruned at iteration 20: value 20.00', '20.0%']
    assert rows[3][1:3] == ['failedkilled by SIGKILL; memory full?', NONE]
    assert page.table('What was varied')[4] == ['d.fixed', '3, fixed', '3']
    titles = (
        'Importance of each setting',
        'Parallel coordinates',
        'Score over a.lr',
        'Scores through training',
        'A note.',
    )
    assert all(title in page.text for title in titles)
    assert 'importance (%): a.lr 70.0, b.lr 20.0, kind 10.0.' in page.text
    assert '3 trials over a.lr, b.lr, kind.' in page.text  # the failed one is absent
    assert 'Trial 3 failed: killed by SIGKILL; memory full?' in page.text
    assert 'Figure 2' not in page.text


def test_lower_can_be_better(search, build):
    content = json.loads((search / 'sweep.json').read_text())
    build['write'](search / 'sweep.json', {**content, 'metric': {'name': 'loss', 'goal': 'minimize'}})
    sweep = read_sweep(search)
    assert sweep.best['number'] == 0 and sweep.ends == (42.25, 20.0)  # the pruned one is not the best
    assert sweep.text(0.5) == '0.5' and sweep.axis_label == 'loss'


def test_what_the_best_score_stands_on(search, build, read_page):
    build['run'](search / 'trial_0001')
    text = read_page(write_sweep_report(search)).text
    assert 'trial 1, iteration 60: val, 48 pictures, no labels given, scale 1, no flip, no dCRF, teacher' in text


def test_a_reference_needs_a_sweep_of_delta_fg(search, tmp_path):
    with pytest.raises(UserError, match=r'varies a\.lr, b\.lr, c\.kind'):
        write_sweep_report(search, reference=tmp_path)


@pytest.mark.parametrize(
    'trials',
    [
        [],
        [dict(params={KEY: 0.1}, value=None, state='running')],
        [
            dict(params={KEY: 0.1}, value=None, state='failed', reason=None),
            dict(params={}, value=None, state='waiting'),
        ],
    ],
)
def test_a_sweep_without_a_complete_trial(tmp_path, build, read_page, trials):
    page = read_page(write_report(build['sweep'](tmp_path, trials, {KEY: {'values': [0.1]}})))
    assert 'No trial is complete, so there is no best one.' in page.text


def test_hostile_names_are_text(tmp_path, build, read_page):
    hostile = '<script>alert(1)</script>"&$x$'
    trials = [
        dict(params={f'{hostile}.a': 0.1 * index, 'b': hostile * index}, value=30.0 + index, reason=hostile)
        for index in range(4)
    ]
    more = dict(name=hostile, notes=[hostile], yaml=hostile, config=hostile, cfg_options={hostile: hostile})
    page = read_page(write_report(build['sweep'](tmp_path, trials, {}, metric=f'{hostile}/mIoU', **more)))
    assert page.source.count('<script>') == 1 and page.text.count(hostile) > 10
