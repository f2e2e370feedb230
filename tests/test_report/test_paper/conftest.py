"""A sweep of delta_fg, and cards of a pipeline."""

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


def label_card(stage, number, train, val, kind='labels', made_by='CSRM', own='seg', inputs=(), **context):
    base = dict(
        source='cam' if 'cam' in stage else 'seg',
        crf=False,
        scales=[0.5, 1, 1.5, 2],
        flip=True,
        threshold=None,
        weights='teacher',
        restricted='labels',
    )
    config = {'settings': {'model.type': made_by, 'model.test_cfg.pseudo_label.source': own}}
    return dict(
        stage=stage,
        kind=kind,
        number=number,
        scores=dict(train=dict(miou=train), val=dict(miou=val)),
        config=config if kind == 'labels' else None,
        inputs=dict.fromkeys(('data', *inputs), 'key'),
        context={**base, **context},
    )


@pytest.fixture
def cards():
    cam = label_card('labels_cam', 4, 59.9, 59.8, made_by='PuzzleCAM', own='cam', threshold=0.35, weights=None)
    cam['scores']['train'] |= dict(best_miou=60.5, best_threshold=0.3)
    verify = dict(
        stage='verify_csrm',
        kind='verify',
        number=8,
        scores=dict(val={'seg/mIoU': 66.6, 'seg/mIoU ms flip crf': 68.0}),
        context=dict(labels='labels_csrm_crf', scales=[1, 2], flip=True, crf={}),
        config=dict(file='mmcfg/deeplabv2_r101_voc_pseudo.py'),
    )
    masks = dict(stage='masks', kind='masks', number=7, scores={}, context=dict(masks='superpixels'))
    return [cam, label_card('labels_csrm', 6, 70.0, 68.0), masks, verify]


@pytest.fixture(name='label_card')
def give_label_card():
    return label_card
