"""Small real trainings: what learns nothing raises the alarm, in log, record and report; what learns does not."""

import os.path as osp
from pathlib import Path

import numpy as np
import pytest

from csrm_plugin.datasets.synthetic import ensure_synthetic
from csrm_plugin.engine.training import prepare_training, run_training
from csrm_plugin.experiments.demo import quick_options
from csrm_plugin.models.segmentors import NonFiniteLossError
from csrm_plugin.report import write_report
from csrm_plugin.tracking.record import read_run
from csrm_plugin.visualization import save_label_png

CONFIGS = osp.join(osp.dirname(__file__), osp.pardir, osp.pardir, 'mmcfg')


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """Folder that the trainings share the pictures in."""
    return tmp_path_factory.mktemp('collapse')


def train(name, data, folder, lr, epochs, grace, **more):
    """Work directory of a training of 4 iterations an epoch, validated at its end."""
    options = quick_options(name, str(data)) | {'optim_wrapper.optimizer.lr': lr, 'train_dataloader.batch_size': 4}
    options |= {'train_cfg.max_epochs': epochs, 'train_cfg.val_interval': epochs}
    options |= {'default_hooks.checkpoint.interval': epochs, 'default_hooks.pictures.count': 0}
    options |= {'default_hooks.alarm.grace_iters': grace, 'default_hooks.alarm.window': 5, **more}
    if 'pseudo' in name:  # its pipeline loads labels before it resizes
        options = {key: value for key, value in options.items() if 'pipeline' not in key}
    run_training(prepare_training(osp.join(CONFIGS, f'{name}.py'), options, str(folder)))
    return folder


def alarms_in_log(folder):
    (path,) = folder.glob('*/*.log')
    return [line.split('COLLAPSE ALARM, ')[1] for line in path.read_text().splitlines() if 'COLLAPSE ALARM' in line]


@pytest.mark.parametrize('name', ['cam_demo', 'rml_demo'])
def test_a_classifier_with_an_absurd_learning_rate(data, tmp_path, name):
    folder = train(name, data, tmp_path / 'run', 20.0, 4, 15)
    said = [line.split('. ')[0] for line in alarms_in_log(folder)]
    assert said[0] == 'iteration 15: the classifier learns nothing'
    assert 'end of the training: the classifier learns nothing' in said
    alarms = read_run(folder).run['alarms']
    assert (alarms[0]['kind'], alarms[0]['first'], alarms[0]['at_end']) == ('the classifier learns nothing', 15, True)
    assert '`optim_wrapper.optimizer.lr` is 20' in alarms[0]['text']
    page = Path(write_report(str(folder))).read_text(encoding='utf-8')
    assert 'collapse alarm since iteration 15 and at the end: the classifier learns nothing.' in page


def test_a_classifier_that_learns(data, tmp_path):
    folder = train('cam_demo', data, tmp_path / 'run', 0.05, 15, 50)
    run = read_run(folder)
    assert alarms_in_log(folder) == run.run['alarms'] == []
    metrics = run.validations[-1]['metrics']
    assert metrics['cls/mAP'] > metrics['cls/chance'] and metrics['cam/mIoU'] > metrics['cam/background_only']


@pytest.fixture
def empty_labels(data, tmp_path, monkeypatch):
    """Label maps of the training pictures that hold nothing but background."""
    ensure_synthetic(str(data / 'data_quick'), image_size=(64, 64), num_train=16, num_val=4, seed=0)
    for path in (data / 'data_quick' / 'JPEGImages').iterdir():
        save_label_png(str(tmp_path / 'labels' / f'{path.stem}.png'), np.zeros((64, 64), np.uint8), [[0, 0, 0]] * 7)
    monkeypatch.setenv('PSEUDO_LABELS', str(tmp_path / 'labels'))


def test_a_network_on_label_maps_without_objects(data, tmp_path, empty_labels):
    folder = train('deeplabv2_r18_demo_pseudo', data, tmp_path / 'run', 0.002, 3, 6)
    said = alarms_in_log(folder)
    assert said[0].startswith('iteration 12: the segmentation predicts background only. 0.0% of the pixels are ')
    assert '`train_dataloader.dataset.pseudo_label_dir`' in said[0] and said[1].startswith('end of the training')


def test_a_network_on_label_maps_whose_weights_burst(data, tmp_path, empty_labels):
    with pytest.raises(NonFiniteLossError, match='and by now neither are the weights; the run stops at iteration'):
        train('deeplabv2_r18_demo_pseudo', data, tmp_path / 'run', 1e30, 3, 6)
    assert read_run(tmp_path / 'run').run['status'] == 'failed'
    assert not list((tmp_path / 'run').glob('*.pth')), 'no checkpoint holds what is broken'
