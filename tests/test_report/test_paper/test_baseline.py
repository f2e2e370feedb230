"""Gains over the plain baseline, at an equal budget."""

import pytest

from csrm_plugin.experiments.pipeline.recipes import load_recipe
from csrm_plugin.report.paper.baseline import gain_cell, gain_over, row_name
from csrm_plugin.report.paper.table import table_rows

CRF = dict(crf=dict(iterations=10))


def network(stage, labels, plain, crf, config='deeplabv2_r101_voc_pseudo', scales=(1, 2)):
    return dict(
        stage=stage,
        kind='verify',
        number=9,
        scores=dict(val={'seg/mIoU': plain, 'seg/mIoU ms crf': crf}),
        context=dict(labels=labels, scales=list(scales), flip=True, crf={}),
        config=dict(file=f'mmcfg/{config}.py'),
    )


@pytest.fixture
def tell(root):
    """Function: the table of cards, labels and networks by stage, and the notes."""

    def call(cards, name='msrc'):
        table = table_rows(load_recipe(name, str(root)), cards)
        rows = {row['stage']: row for row in (*table['labels'], *table['verification'])}
        return rows, ' '.join(table['notes'])

    return call


@pytest.fixture
def cards(label_card):
    """A classifier's CAMs and CSRM's labels, each without and with dCRF, and a network on either."""
    cam = dict(made_by='CAMClassifier', own='cam', threshold=0.3, threshold_chosen_on='val')
    found = [
        label_card('labels_cam', 4, 40.0, 42.0, **cam),
        label_card('labels_cam_crf', 5, 50.0, 48.0, 'refined', inputs=['labels_cam'], **{**cam, **CRF}),
        label_card('labels_csrm', 6, 45.0, 44.0),
        label_card('labels_csrm_crf', 7, 49.0, 54.0, 'refined', inputs=['labels_csrm'], **CRF),
        network('verify_cam', 'labels_cam_crf', 40.0, 44.0),
        network('verify_csrm', 'labels_csrm_crf', 42.0, 43.0),
        network('verify_masks', 'true masks', 60.0, 61.0),
    ]
    curve = [dict(threshold=value) for value in (0.2, 0.3)]
    found[0]['choice'] = dict(split='val', threshold=0.3, miou=42.0, pictures=7, curve=curve)
    return found


def test_each_row_is_compared_with_the_baseline_of_its_own_budget(cards, tell):
    rows, notes = tell(cards)
    assert [row_name(rows[name]) for name in ('labels_cam', 'labels_csrm')] == [
        'CAM of the classifier (plain baseline)',
        'CSRM',
    ]
    assert rows['labels_csrm']['over'] == 'labels_cam' and rows['labels_csrm_crf']['over'] == 'labels_cam_crf'
    assert rows['labels_csrm']['gain']['train'] == dict(points=5.0, ratio=1.125)
    assert rows['labels_csrm_crf']['gain']['train'] == dict(points=-1.0, ratio=0.98)
    assert gain_cell(rows['labels_csrm_crf'], 'val') == '+6.00 (x 1.12)'
    assert gain_cell(rows['labels_cam'], 'val') == 'baseline' and rows['labels_cam']['gain'] == {}
    assert 'threshold 0.3 is the best of 2 on val (7 pictures with masks; its CAMs have 42.00 there)' in notes
    assert rows['labels_cam_crf']['knowledge'] == ['image labels', 'masks of val for the threshold']
    assert rows['labels_csrm_crf']['knowledge'] == ['image labels']


@pytest.mark.parametrize('change', [dict(scales=[1]), dict(flip=False)])
def test_other_views_are_not_compared(cards, tell, change):
    cards[2]['context'] |= change
    rows, notes = tell(cards)
    assert rows['labels_csrm']['over'] is None and gain_cell(rows['labels_csrm'], 'val') == ''
    assert rows['labels_csrm_crf']['over'] == 'labels_cam_crf'
    assert 'No baseline of the same scales, flip, dCRF and SEPL for labels_csrm.' in notes


def test_networks_are_compared_with_the_same_network_on_the_baselines_labels(cards, tell):
    cards.append(network('verify_other', 'labels_csrm', 50.0, 50.0, config='deeplabv3plus_rs269_voc_pseudo'))
    cards.append(network('verify_views', 'labels_csrm', 50.0, 50.0, scales=[1]))
    cards.append(network('verify_plain', 'labels_cam', 39.0, 43.5))
    rows, _ = tell(cards)
    assert rows['verify_cam']['baseline'] and rows['verify_csrm']['over'] == 'verify_cam'  # the stronger of the two
    assert rows['verify_csrm']['gain'] == {
        'seg/mIoU': dict(points=2.0, ratio=1.05),
        'seg/mIoU ms crf': dict(points=-1.0, ratio=0.9773),
    }
    assert rows['verify_masks']['gain']['seg/mIoU']['points'] == 20.0
    assert rows['verify_masks']['knowledge'] == ['full masks']
    assert rows['verify_other']['over'] is rows['verify_views']['over'] is None


def test_a_method_of_one_training_is_compared_with_the_cams_of_its_own_network(label_card, tell):
    """Its own views count: one scale is shown to a model that sees three by itself."""
    own = dict(made_by='RML', own='propagated', weights='RML')
    three = dict(scales=[0.5, 1, 1.5], flip=True)
    cards = [
        label_card('labels_rml_cam', 3, 40.0, 39.0, threshold=0.3, **three, **own),
        label_card('labels_rml', 4, 50.0, 49.0, source='propagated', scales=[1], flip=False, own_views=three, **own),
    ]
    rows, notes = tell(cards, 'rml_voc')
    assert rows['labels_rml']['gain']['train'] == dict(points=10.0, ratio=1.25)
    assert 'In the place of a plain baseline: the CAM of the same network (RML)' in notes
    cards[1]['context']['own_views'] = dict(scales=[1], flip=True)
    assert tell(cards, 'rml_voc')[0]['labels_rml']['over'] is None


def test_cams_of_a_method_beside_a_classifier_are_no_baseline(cards, label_card, tell):
    cards.append(label_card('labels_csrm_cam', 8, 90.0, 90.0, made_by='CSRM', own='seg'))
    rows, _ = tell(cards)
    assert (rows['labels_csrm_cam']['what'], rows['labels_csrm_cam']['baseline']) == ('CAM of CSRM', None)
    assert rows['labels_csrm']['over'] == 'labels_cam'


def test_without_a_baseline_the_table_says_so(cards, tell):
    rows, notes = tell(cards[2:4])
    assert rows['labels_csrm']['over'] is None and 'No plain baseline: this run has no labels from the CAMs' in notes


def test_how_the_threshold_was_had_is_told(cards, tell):
    cards[0]['choice'] = dict(split='val', threshold=0.3, miou=None, pictures=None, curve=[])
    assert 'labels_cam: val has no masks, so its threshold is the fixed one' in tell(cards)[1]
    del cards[0]['choice']
    assert 'labels_cam: its threshold was fixed beforehand, not chosen with masks.' in tell(cards)[1]


def test_gains_of_scores_that_are_not_there_or_nothing():
    assert gain_over(None, 1.0) is gain_over(1.0, None) is None
    assert gain_over(2.0, 0.0) == dict(points=2.0, ratio=None)
    assert gain_cell(dict(gain=dict(val=gain_over(2.0, 0.0))), 'val') == '+2.00'
