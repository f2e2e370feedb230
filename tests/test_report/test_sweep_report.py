import json
import statistics

import pytest

from csrm_plugin.report import write_report, write_sweep_report
from csrm_plugin.report.formats import NONE
from csrm_plugin.report.paper.delta_fg import Comparison, compare, spread, verdict
from csrm_plugin.report.sweep_data import read_sweep
from csrm_plugin.utils import MissingFileError, UserError

KEY = 'model.pseudo_label.fg_threshold'
NAMES = ('CSRM', 'CAM')
VALUES = {0.1: 37.0, 0.3: 38.5, 0.5: 36.0, 0.62: 35.0}


@pytest.fixture
def figure_2(tmp_path, build):
    """A sweep of delta_fg with one failed trial, and the classifier that it started from."""
    build['run'](tmp_path / 'cam', score=50.0)
    trials = [dict(params={KEY: threshold}, value=value) for threshold, value in VALUES.items()]
    trials.insert(2, dict(params={KEY: 0.4}, value=None, state='failed', reason='loss <is> nan', iteration=None))
    start = {'load_from': str(tmp_path / 'cam' / 'epoch_6.pth')}
    return build['sweep'](tmp_path / 'sweep', trials, {KEY: {'values': [*VALUES, 0.4]}}, cfg_options=start)


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


def test_delta_fg_stands_beside_the_classifiers_cam(figure_2, read_page):
    page = read_page(write_report(figure_2))
    cam = {row[0]: row[2] for row in page.table('The same as numbers')[1:]}
    method = {row[0]: row[1] for row in page.table('The same as numbers')[1:]}
    last = json.loads((figure_2.parent / 'cam' / 'record' / 'validation_0000060.json').read_text())['metrics']
    assert len(cam) == 20  # 19 thresholds of the classifier, and 0.62, which it lacks
    known = {float(key[9:]): value for key, value in last.items() if key.startswith('cam/mIoU@')}
    assert {float(at): value for at, value in cam.items() if value != NONE} == {
        at: f'{value:.1f}%' for at, value in known.items()
    }
    assert {float(at): value for at, value in method.items() if value != NONE} == {
        threshold: f'{value:.1f}%' for threshold, value in VALUES.items()
    }
    assert next(row[3] for row in page.table('The same as numbers') if row[0] == '0.3') == '-1.5'
    assert 'Over the 3 thresholds that both have (0.1 to 0.5)' in page.text
    assert 'Pseudo-label mIoU of the swept method is flatter by both measures.' in page.text
    assert 'Classifier: val, 48 pictures' in page.text


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


def test_spread_over_the_common_thresholds(figure_2):
    found = compare(read_sweep(figure_2))
    assert [point[:2] for point in found.common] == [(0.1, 37.0), (0.3, 38.5), (0.5, 36.0)]
    method, cam = ([point[index] for point in found.common] for index in (1, 2))
    assert spread(method) == (2.5, pytest.approx(statistics.stdev([37.0, 38.5, 36.0])))
    text, _ = verdict(found, NAMES)
    assert 'CSRM lies between 36.0% and 38.5% (range 2.5 points, standard deviation 1.3)' in text
    assert f'(range {max(cam) - min(cam):.1f} points, standard deviation {statistics.stdev(cam):.1f})' in text


@pytest.mark.parametrize(
    ('method', 'cam', 'expected'),
    [
        ((10, 11, 12), (10, 20, 30), 'CSRM is flatter by both measures.'),
        ((10, 20, 30), (10, 11, 12), 'CSRM is not flatter: neither'),
        ((10, 20, 10, 20), (10, 15, 15, 21), 'The two measures disagree: CSRM has the smaller range, but not'),
        ((1,), (2,), 'too few'),
    ],
)
def test_the_numbers_say_which_curve_is_flatter(method, cam, expected):
    common = [(0.1 * index, *pair) for index, pair in enumerate(zip(method, cam))]
    assert expected in verdict(Comparison([], common=common), NAMES)[1]


def test_trials_of_one_threshold_are_averaged(tmp_path, build):
    trials = [dict(params={KEY: at}, value=value) for at, value in ((0.3, 30.0), (0.3, 34.0), (0.1, 20.0))]
    trials.append(dict(params={KEY: 0.1}, value=5.0, state='pruned'))  # stopped early: no score of that threshold
    found = compare(read_sweep(build['sweep'](tmp_path, trials, {KEY: {'values': [0.1, 0.3]}})))
    assert found.method == [(0.1, 20.0), (0.3, 32.0)] and found.cam == []
    assert 'The trials started from no checkpoint; give the classifier with --reference' in found.notes[0]


def test_reference_of_ones_own(figure_2, tmp_path, build, read_page):
    other = build['run'](tmp_path / 'other_cam', score=80.0)
    page = read_page(write_sweep_report(figure_2, tmp_path / 'out.html', reference=other))
    assert {row[0]: row[2] for row in page.table('The same as numbers')}['0.3'] == '64.0%'
    with pytest.raises(MissingFileError, match='nowhere'):
        write_sweep_report(figure_2, reference=tmp_path / 'nowhere')
    log = other / '20261122_101112' / 'vis_data' / 'scalars.json'
    log.write_text(json.dumps({'step': 1, 'seg/mIoU': 3.0}) + '\n')
    for path in (other / 'record').glob('validation*'):
        path.unlink()
    with pytest.raises(UserError, match='other_cam` has no CAM scores per threshold'):
        write_sweep_report(figure_2, reference=other)


@pytest.mark.parametrize('record', [True, False])
@pytest.mark.parametrize('reference', [True, False])  # naming its folder changes nothing
@pytest.mark.parametrize(
    ('checkpoint', 'step'),
    [
        ('epoch_2.pth', 20),
        ('iter_40.pth', 40),
        ('best_cam_mIoU_epoch_4.pth', 40),
        ('epoch_3.pth', None),
        ('latest.pth', None),
    ],
)
def test_the_curve_is_that_of_the_checkpoint(figure_2, build, record, reference, checkpoint, step):
    cam = figure_2.parent / 'start'
    build['run'](cam, record=record)
    log = cam / '20261122_101112' / 'vis_data' / 'scalars.json'
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    # An epoch has 10 iterations, and what is logged is not its end.
    lines = [
        {**line, 'epoch': line['step'] // 10, 'step': line['step'] - 2} if 'lr' in line else line for line in lines
    ]
    log.write_text('\n'.join(map(json.dumps, lines)) + '\n')
    content = json.loads((figure_2 / 'sweep.json').read_text())
    build['write'](figure_2 / 'sweep.json', {**content, 'cfg_options': {'load_from': str(cam / checkpoint)}})
    found = compare(read_sweep(figure_2), str(cam) if reference else None)
    assert found.validation['iteration'] == step or (step is None and found.validation['iteration'] == 60)
    assert dict(found.cam)[0.3] == found.validation['metrics']['cam/mIoU@0.30']
    started = 'the classifier that the trainings started from' in found.who
    assert started == (step is not None)
    assert any(f'started from {checkpoint}' in note for note in found.notes) == (step is None)


def test_the_text_names_a_classifier_of_ones_own(figure_2, tmp_path, build, read_page):
    start = figure_2.parent / 'cam' / 'epoch_6.pth'
    assert (
        f'The second curve is the classifier that the trainings started from ({start})'
        in read_page(write_sweep_report(figure_2)).text
    )
    other = build['run'](tmp_path / 'other_cam')
    text = read_page(write_sweep_report(figure_2, reference=other)).text
    assert f'The second curve is the classifier in {other}, at its last validation' in text
    assert 'that the trainings started from' not in text


@pytest.mark.parametrize(
    ('change', 'name'),
    [({'split': 'train'}, 'split differs (train and val)'), ({'pictures': 7}, 'number of pictures differs (48 and 7)')],
)
def test_curves_on_other_pictures_have_no_verdict(figure_2, build, read_page, change, name):
    trial = build['run'](figure_2 / 'trial_0001')
    assert 'is flatter by both' in read_page(write_sweep_report(figure_2)).text
    assert compare(read_sweep(figure_2)).alike
    path = trial / 'record' / 'validation_0000060.json'
    content = json.loads(path.read_text())
    content['context'].update(change)
    build['write'](path, content)
    text = read_page(write_sweep_report(figure_2)).text
    assert 'flatter by' not in text and f'the {name}' in text
    del content['context'][next(iter(change))], content['context']['ann_file']
    build['write'](path, content)
    text = read_page(write_sweep_report(figure_2)).text
    assert 'is flatter by both' in text and 'Not recorded for all: the ' in text


#: Of the best trial, 0.3: cut at each threshold. Those from 0.1 to 0.62, the lowest to the highest delta_fg, count.
CUTS = {0.05: 20.0, 0.1: 60.0, 0.2: 62.0, 0.3: 64.0, 0.62: 9.0, 0.7: 10.0}


def cut_trial(build, sweep, cuts):
    """The run of the best trial, with those scores in its last validation and others before."""
    trial = build['run'](sweep / 'trial_0001')
    for step in (40, 60):
        path = trial / 'record' / f'validation_{step:07d}.json'
        content = json.loads(path.read_text())
        content['context']['pseudo_label'] = {'source': 'seg', 'threshold': None}
        content['metrics'] |= {f'pseudo/mIoU@{at:.2f}': value + 60 - step for at, value in cuts.items()}
        build['write'](path, content)
    return path


def test_the_cut_segmentation_of_the_best_trial_is_judged_too(figure_2, build, read_page):
    cut_trial(build, figure_2, CUTS)
    found = compare(read_sweep(figure_2))
    cam = dict(found.cam)
    assert found.cut.method == list(CUTS.items()) and found.notes == []
    # 0.62 is cut but no threshold of the classifier; 0.05 and 0.7 were not tried.
    assert found.cut.common == [(at, CUTS[at], cam[at]) for at in (0.1, 0.2, 0.3)]
    assert [at for at, *_ in found.common] == [0.1, 0.3, 0.5]  # the first reading stays as it was
    page = read_page(write_report(figure_2))
    # The mean of 60, 62, 64 is 62, so the deviation is sqrt((4 + 0 + 4) / 2) = 2.
    text = 'of the best trial lies between 60.0% and 64.0% (range 4.0 points, standard deviation 2.0)'
    assert f'Over the 3 thresholds that both have (0.1 to 0.3), Cut-segmentation mIoU {text}' in page.text
    # 40 * exp(-(t - 0.3)^2 / 0.08) at 0.1, 0.2 and 0.3: 24.26, 35.30 and 40.
    assert 'between 24.3% and 40.0% (range 15.7 points, standard deviation 8.1)' in page.text
    assert 'Cut-segmentation mIoU of the best trial is flatter by both measures.' in page.text
    assert 'Pseudo-label mIoU of the swept method is flatter by both measures.' in page.text
    assert 'Segmentation of the best trial (delta_fg = 0.3, chosen with the masks), cut at that threshold' in page.text
    assert 'Cut segmentation: val, 48 pictures, from the segmentation' in page.text
    head, *rows = page.table('The same as numbers')
    shown = {float(row[0]): row[head.index('Segmentation, cut')] for row in rows}
    assert {at: value for at, value in shown.items() if value != NONE} == {
        at: f'{value:.1f}%' for at, value in CUTS.items()
    }
    assert 'is above it (the last curve).' in page.text


def test_a_cut_segmentation_that_is_not_flatter(figure_2, build, read_page):
    cut_trial(build, figure_2, {0.1: 10.0, 0.2: 40.0, 0.3: 70.0})
    text = read_page(write_report(figure_2)).text
    assert '(range 60.0 points, standard deviation 30.0)' in text
    assert 'Cut-segmentation mIoU of the best trial is not flatter: neither' in text


def test_without_the_keys_a_note_says_so(figure_2, build, read_page):
    note = 'The run of the best trial (delta_fg = 0.3, chosen with the masks) did not record its segmentation cut at'
    for _ in range(2):  # without a record, then with an old one
        page = read_page(write_report(figure_2))
        assert note in page.text and 'Cut-segmentation' not in page.text and 'last curve' not in page.text
        assert len(page.table('The same as numbers')[0]) == 4 and compare(read_sweep(figure_2)).cut is None
        if not (figure_2 / 'trial_0001').is_dir():
            cut_trial(build, figure_2, {})


def test_a_cut_segmentation_on_other_pictures_has_no_verdict(figure_2, build, read_page):
    path = cut_trial(build, figure_2, CUTS)
    content = json.loads(path.read_text())
    content['context']['pictures'] = 7
    build['write'](path, content)
    page = read_page(write_report(figure_2))
    assert 'flatter by' not in page.text and 'number of pictures differs (48 and 7)' in page.text
    assert '64.0%' in {row[-1] for row in page.table('The same as numbers')}


def test_a_cut_segmentation_without_a_classifier(figure_2, build, read_page):
    cut_trial(build, figure_2, CUTS)
    content = json.loads((figure_2 / 'sweep.json').read_text())
    build['write'](figure_2 / 'sweep.json', {**content, 'cfg_options': {}})
    page = read_page(write_report(figure_2))
    assert '64.0%' in {row[-1] for row in page.table('The same as numbers')}
    assert 'flatter by' not in page.text and 'started from no checkpoint' in page.text


def test_reference_from_the_record_of_a_trial(figure_2, build):
    content = json.loads((figure_2 / 'sweep.json').read_text())
    build['write'](figure_2 / 'sweep.json', {**content, 'cfg_options': {}})
    build['run'](figure_2 / 'trial_0001', load_from=str(figure_2.parent / 'cam' / 'epoch_6.pth'))
    found = compare(read_sweep(figure_2))
    assert len(found.cam) == 19 and len(found.notes) == 1 and 'did not record' in found.notes[0]
    assert found.who == f'the classifier that the trainings started from ({figure_2.parent / "cam" / "epoch_6.pth"})'
    build['write'](figure_2 / 'sweep.json', {**content, 'cfg_options': {'load_from': 'gone/epoch_1.pth'}})
    assert 'gone is no work directory here' in compare(read_sweep(figure_2)).notes[0]


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


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ('{', 'is no JSON'),
        ('[]', 'must hold a JSON object'),
        ('{"trials": []}', '`metric` must hold a `name`'),
        ('{"metric": {"name": "a"}, "trials": 3}', '`trials` must be a list'),
        ('{"metric": {"name": "a"}, "trials": [3]}', 'trial 0: is no object'),
        ('{"metric": {"name": "a"}, "trials": [{"number": 0, "state": "complete"}]}', 'trial 0: `params` must be'),
        (
            '{"metric": {"name": "a"}, "trials": [{"number": 0, "state": "x", "params": {}, "curve": [3]}]}',
            '`curve` must',
        ),
    ],
)
def test_a_broken_sweep_is_named(tmp_path, content, message):
    (tmp_path / 'sweep.json').write_text(content)
    with pytest.raises(UserError, match=r'sweep\.json') as info:
        write_report(tmp_path)
    assert message in str(info.value) and not list(tmp_path.glob('*.html'))


def test_hostile_names_are_text(tmp_path, build, read_page):
    hostile = '<script>alert(1)</script>"&$x$'
    trials = [
        dict(params={f'{hostile}.a': 0.1 * index, 'b': hostile * index}, value=30.0 + index, reason=hostile)
        for index in range(4)
    ]
    more = dict(name=hostile, notes=[hostile], yaml=hostile, config=hostile, cfg_options={hostile: hostile})
    page = read_page(write_report(build['sweep'](tmp_path, trials, {}, metric=f'{hostile}/mIoU', **more)))
    assert page.source.count('<script>') == 1 and page.text.count(hostile) > 10


def test_no_folder_of_a_sweep(tmp_path):
    with pytest.raises(MissingFileError, match=r'has no sweep\.json'):
        write_sweep_report(tmp_path)
