"""A training whose teacher is frozen in the warm-up: validations and checkpoints are of the network that has learnt."""

import json
import os.path as osp

import pytest
from mmengine.config import Config

from csrm_plugin.engine.testing import prepare_testing, run_test
from csrm_plugin.engine.training import prepare_training, run_training
from csrm_plugin.experiments.demo import quick_options
from csrm_plugin.inference.pseudo_labels import make_pseudo_labels
from csrm_plugin.report import write_report
from csrm_plugin.tracking.record import full_name, read_run

CONFIG = osp.join(osp.dirname(__file__), osp.pardir, osp.pardir, 'mmcfg', 'csrm_demo.py')
STUDENT = 'student (the teacher is frozen in the warm-up)'


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """Options, folder and log of a training of two epochs of two iterations, three of which are the warm-up."""
    folder = tmp_path_factory.mktemp('frozen')
    options = quick_options('csrm_demo', str(folder))
    assert Config.fromfile(CONFIG).custom_hooks[3].type == 'MeanTeacherHook'
    options |= {'custom_hooks.0.iters': 3, 'custom_hooks.3.warmup_decay': 1.0, 'default_hooks.pictures.count': 1}
    runner = run_training(prepare_training(CONFIG, options, str(folder / 'run')))
    return options, folder / 'run', osp.join(runner.log_dir, f'{runner.timestamp}.log')


def scores(trained, epoch, out, **more):
    options = {key: value for key, value in trained[0].items() if key.startswith('test_')} | more
    cfg = prepare_testing(CONFIG, str(trained[1] / f'epoch_{epoch}.pth'), options, str(out / 'work'))
    run_test(cfg, json_path=str(out / 'result.json'))
    return json.loads((out / 'result.json').read_text())


def test_validations_say_whose_weights_they_measure(trained):
    _, folder, log = trained
    run = read_run(folder)
    first, second = run.validations
    assert (first['context']['weights'], second['context']['weights']) == (STUDENT, 'teacher')
    assert full_name('seg/mIoU', first).endswith(f', {STUDENT})')
    assert {entry['weights'] for entry in run.run['best'].values()} <= {STUDENT, 'teacher'}
    assert run.pictures['weights'] == 'teacher'
    with open(log) as file:
        said = [line.split(' - ')[-1].strip() for line in file if 'Whose weights' in line]
    assert said == [f'Whose weights: {STUDENT}.', 'Whose weights: teacher.']
    with open(write_report(str(folder))) as file:
        page = file.read()
    assert "student's weights (the teacher is frozen in the warm-up) up to iteration 2, then" in page.replace(
        '&#x27;', "'"
    )


def test_a_checkpoint_of_the_warmup_is_tested_as_it_was_validated(trained, tmp_path):
    found, wanted = scores(trained, 1, tmp_path), read_run(trained[1]).validations[0]['metrics']
    assert found['context']['weights'] == STUDENT
    (log,) = (tmp_path / 'work').rglob('*.log')
    assert f'Whose weights: {STUDENT}.' in log.read_text()
    assert {key: found[key] for key in wanted} == wanted
    student = scores(trained, 1, tmp_path, **{'model.test_cfg.network': 'student'})
    assert student['context']['weights'] == 'student' and student['cam/mIoU'] == found['cam/mIoU']
    assert scores(trained, 2, tmp_path)['context']['weights'] == 'teacher'


def test_labels_of_a_checkpoint_of_the_warmup_say_so(trained, tmp_path):
    options = {key: value for key, value in trained[0].items() if key.startswith('test_')}
    out = tmp_path / 'labels'
    checkpoint = str(trained[1] / 'epoch_1.pth')
    make_pseudo_labels(CONFIG, checkpoint, str(out), settings={}, cfg_options=options, workers=0, split='val')
    assert json.loads((out / 'labels.json').read_text())['settings']['weights'] == STUDENT
