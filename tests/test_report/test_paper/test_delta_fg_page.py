import json

import pytest

from csrm_plugin.report import write_report, write_sweep_report
from csrm_plugin.report.page.formats import NONE
from csrm_plugin.report.paper.delta_fg import Comparison, compare
from csrm_plugin.report.paper.delta_fg_page import verdict
from csrm_plugin.report.runs.sweeps import read_sweep

KEY = 'model.pseudo_label.fg_threshold'


NAMES = ('CSRM', 'CAM')


VALUES = {0.1: 37.0, 0.3: 38.5, 0.5: 36.0, 0.62: 35.0}


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
