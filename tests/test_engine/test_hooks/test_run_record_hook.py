"""The record of a run and its pictures, through a small real training that is interrupted and resumed."""

import json
import os.path as osp
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from PIL import Image

from csrm_plugin.engine.hooks.run_record_hook import RunRecordHook, merge_alarms, threshold_curve
from csrm_plugin.engine.training import find_latest_checkpoint, prepare_training, run_training
from csrm_plugin.evaluation.confusion import confusion_matrix, mean_iou
from csrm_plugin.experiments.demo import quick_options
from csrm_plugin.report.runs.sources import load_runs
from csrm_plugin.tracking.record import read_run
from csrm_plugin.utils import UserError

CONFIG = osp.join(osp.dirname(__file__), *[osp.pardir] * 3, 'mmcfg', 'csrm_demo.py')
STOP = 3


class Tracker:
    """What the W&B backend offers, written down."""

    def __init__(self):
        self.summary, self.curves, self.masks = {}, [], []

    def add_summary(self, values):
        self.summary.update(values)

    def add_curve(self, name, x_name, xs, y_name, ys, step):
        self.curves.append((name, step, xs, ys))

    def add_segmentation(self, name, picture, masks, classes, step, caption=''):
        self.masks.append((step, name, picture, masks, classes))

    def add_image(self, *args, **kwargs):
        pass

    add_config = add_graph = add_scalar = add_scalars = add_image

    def close(self):
        pass


class Stopper(Hook):
    """Ends the training as a crash would."""

    def __init__(self, at):
        self.at = at

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == self.at:
            raise FloatingPointError('the end')


def train(work_dir, tracker, resume=None, stop=None, **options):
    cfg = prepare_training(
        CONFIG, {**quick_options('csrm_demo', str(work_dir)), **options}, str(work_dir / 'run'), resume
    )

    class Tracked(Runner):
        def build_visualizer(self, *args, **kwargs):
            visualizer = super().build_visualizer(*args, **kwargs)
            visualizer._vis_backends['tracker'] = tracker
            return visualizer

    return run_training(cfg, Tracked, [Stopper(stop)] if stop else [])


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    """Records after a crash in the second epoch and after the resumed training, the tracker and the runner."""
    folder, tracker = tmp_path_factory.mktemp('record'), Tracker()
    with pytest.raises(FloatingPointError):
        train(folder, tracker, stop=STOP)
    crashed = read_run(folder / 'run')
    runner = train(folder, tracker, resume='auto')
    return crashed, read_run(folder / 'run'), tracker, runner


def test_a_crash_is_noted_with_its_reason(runs):
    crashed = runs[0]
    assert crashed.run['status'] == 'failed'
    assert 'the end' in crashed.run['reason']
    assert crashed.run['iteration'] == 2
    assert crashed.run['cost']['train_seconds'] > 0


def test_the_record_goes_on_after_a_resume(runs):
    crashed, record = runs[:2]
    assert record.run['status'] == 'finished'
    assert record.run['reason'] is None
    assert len(record.run['log_dirs']) == 2
    assert record.run['started'] == crashed.run['started']
    assert [entry['iteration'] for entry in record.validations] == [2, 4]
    assert record.run['checkpoint'] == 'epoch_2.pth'
    assert record.run['cost']['val_seconds'] > crashed.run['cost']['val_seconds'] > 0


def test_the_record_says_what_ran(runs):
    run = runs[1].run
    assert run['settings']['model.pseudo_label.fg_threshold'] == 0.1
    assert run['seed'] == 0
    assert run['config'] == 'mmcfg/csrm_demo.py'
    assert len(run['classes']) == len(run['palette']) == 7
    assert run['classes'][0] == 'background'
    assert run['iterations'] == run['iteration'] == 4
    model = runs[3].model
    assert run['cost']['parameters'] == sum(value.numel() for value in model.student.parameters())
    assert run['cost']['device'] == 'cpu'
    assert run['cost']['peak_memory_mib']['host'] > 50


def test_the_speed_is_pictures_over_the_time_that_the_timer_logged(runs):
    record, hook = runs[1], next(hook for hook in runs[3].hooks if type(hook) is RunRecordHook)
    assert hook._seen == 16  # the resumed epoch: two batches of eight
    assert record.run['cost']['images_per_second'] == pytest.approx(16 / hook._train_seconds, rel=1e-3)


def test_a_validation_has_classes_context_and_pictures(runs):
    report = runs[1].validations[-1]
    assert report['metrics'] == {
        key: value for key, value in runs[1].val[-1].items() if key in report['metrics']
    }  # as logged
    assert report['metrics']['seg/mIoU'] == report['parts']['seg']['mIoU']
    assert set(report['parts']['cam']['iou']) == set(runs[1].run['classes'])
    assert report['context']['split'] == 'val'
    assert report['context']['weights'] == 'teacher'
    assert report['context']['scales'] == [1.0]
    assert [entry['id'] for entry in report['pictures']] == [f'val_{index:04d}' for index in range(4)]


def test_scores_of_a_picture_are_those_of_a_slow_count(runs):
    runner, report = runs[3], runs[1].validations[-1]
    item = runner.val_dataloader.dataset[2]
    runner.model.eval()
    with torch.no_grad():
        sample = runner.model.test_step({'inputs': [item['inputs']], 'data_samples': [item['data_samples']]})[0]
    truth = sample.gt_sem_seg.data[0].numpy()
    by_hand = []
    for name in range(7):
        ours, theirs = sample.pred_sem_seg.data[0].numpy() == name, truth == name
        if (ours | theirs).any():
            by_hand.append((ours & theirs).sum() / (ours | theirs).sum())
    assert report['pictures'][2]['seg'] == pytest.approx(100 * np.mean(by_hand), abs=1e-3)
    metric = runner.val_evaluator.metrics[0]
    labels = metric.pseudo_labels(sample)
    assert set(np.unique(labels)) <= {0, *(np.flatnonzero(sample.gt_image_labels.multi_hot) + 1)}
    matrix = confusion_matrix(labels, truth, 7)
    assert report['pictures'][2]['pseudo'] == pytest.approx(100 * mean_iou(matrix), abs=1e-3)


def test_backends_get_full_names_best_scores_and_the_curve(runs):
    record, tracker = runs[1], runs[2]
    last = record.validations[-1]['metrics']
    assert tracker.summary['seg/mIoU'] == last['seg/mIoU']
    assert tracker.summary['seg/mIoU (val, scale 1, no flip, no CRF, teacher)'] == last['seg/mIoU']
    assert tracker.summary['whose weights'] == record.run['best']['seg/mIoU']['weights'] == 'teacher'
    best = max(entry['metrics']['cam/mIoU'] for entry in record.validations)
    assert tracker.summary['best/cam/mIoU'] == record.run['best']['cam/mIoU']['value'] == best
    for part in ('cam', 'pseudo'):
        curves = [curve for name, *curve in tracker.curves if name == f'{part}/threshold_curve']
        assert [step for step, *_ in curves] == [2, 4]
        assert tuple(curves[-1][1:]) == threshold_curve(last, part)
        if part == 'cam':
            assert max(curves[-1][2]) == last['cam/mIoU']


def test_the_same_pictures_are_drawn_at_each_validation(runs):
    record, tracker = runs[1:3]
    assert list(record.samples) == [f'val_{index:04d}' for index in range(4)]
    assert [step for step, _ in record.samples['val_0001']] == [2, 4]
    with Image.open(record.samples['val_0001'][-1][1]) as picture:
        assert picture.width == 5 * 256 + 6 * 8  # input, CAM, pseudo label, prediction, truth, and margins
    step, name, picture, masks, classes = tracker.masks[-1]
    assert (step, name) == (4, 'masks/val_0003')
    assert list(masks) == ['training label', 'prediction', 'truth']
    assert all(mask.shape == picture.shape[:2] for mask in masks.values())
    assert classes[0] == 'background'


def test_the_pseudo_label_drawn_is_the_one_that_the_model_would_learn_from(runs):
    runner, tracker = runs[3], runs[2]
    _, _, picture, masks, _ = tracker.masks[-1]
    item = runner.val_dataloader.dataset[3]
    runner.model.eval()
    with torch.no_grad():
        sample = runner.model.test_step({'inputs': [item['inputs']], 'data_samples': [item['data_samples']]})[0]
    expected = runner.model.training_labels(picture, sample.cam_logits.data, sample.gt_image_labels.multi_hot)
    assert np.array_equal(masks['training label'], expected.numpy())


def test_the_best_median_and_worst_pictures_are_kept(runs):
    record = runs[1]
    scores = {entry['id']: entry['seg'] for entry in record.validations[-1]['pictures']}
    items = {item['role']: item for item in record.pictures['items']}
    assert record.pictures['score'] == 'seg'
    assert items['best']['score'] == scores[items['best']['id']] == max(scores.values())
    assert items['worst']['score'] == scores[items['worst']['id']] == min(scores.values())
    assert [panel['name'] for panel in items['best']['panels']] == [
        'input',
        'CAM',
        'training label',
        'prediction',
        'truth',
    ]
    for panel in items['best']['panels']:
        assert osp.isfile(osp.join(record.folder, 'record', panel['file']))
    assert items['best']['labels']


def test_a_fresh_start_begins_a_record_and_sets_the_one_before_aside(tmp_path):
    train(tmp_path, Tracker())
    stray = tmp_path / 'run' / 'record' / 'validation_0000099.json'
    stray.write_text('{}')
    first = {path.name: path.read_bytes() for path in (tmp_path / 'run').glob('epoch_*.pth')}
    train(tmp_path, Tracker(), **{'train_cfg.max_epochs': 1, 'load_from': str(tmp_path / 'run' / 'epoch_1.pth')})
    record = read_run(tmp_path / 'run')
    assert not stray.exists()
    assert [entry['iteration'] for entry in record.validations] == [2]
    assert len(record.run['log_dirs']) == 1
    # What the first run made is all there, the checkpoint that the second was started from included.
    (old,) = (tmp_path / 'run').glob('record.set_aside_*')
    assert {'run.json', 'validation_0000004.json', 'validation_0000099.json'} <= {path.name for path in old.iterdir()}
    for name, content in first.items():
        (checkpoint,) = (tmp_path / 'run').glob(f'{name}.set_aside_*')
        assert checkpoint.read_bytes() == content
    logs = [path.read_text() for path in (tmp_path / 'run').glob('*/*.log')]
    assert sum('it is set aside: record.set_aside_' in text for text in logs) == 1
    # Nor is a resumed run offered the checkpoints of the run before, or a report its record.
    assert find_latest_checkpoint(str(tmp_path / 'run')).endswith('epoch_1.pth')
    assert [run.record.run['iteration'] for run in load_runs([tmp_path])[0]] == [2]


def test_a_run_that_is_resumed_elsewhere_takes_nothing_of_the_one_that_is_there(tmp_path):
    train(tmp_path / 'one', Tracker(), **{'train_cfg.max_epochs': 1, 'randomness.seed': 9})
    train(tmp_path / 'two', Tracker())
    first = {path.name: path.read_bytes() for path in (tmp_path / 'two' / 'run').glob('epoch_*.pth')}
    train(tmp_path / 'two', Tracker(), resume=str(tmp_path / 'one' / 'run' / 'epoch_1.pth'))
    run = read_run(tmp_path / 'two' / 'run')
    assert [entry['iteration'] for entry in run.validations] == [4] and len(run.run['log_dirs']) == 1
    for name, content in first.items():
        (checkpoint,) = (tmp_path / 'two' / 'run').glob(f'{name}.set_aside_*')
        assert checkpoint.read_bytes() == content
    assert len(list((tmp_path / 'two' / 'run').glob('record.set_aside_*'))) == 1


def test_the_record_is_plain_json(runs):
    with open(osp.join(runs[1].folder, 'record', 'run.json')) as file:
        json.load(file, parse_constant=lambda name: pytest.fail(name))


def test_what_was_scored_after_the_checkpoint_that_is_resumed_from_is_forgotten(tmp_path):
    train(tmp_path, Tracker(), **{'train_cfg.max_epochs': 3})
    folder = tmp_path / 'run' / 'record'
    run = json.loads((folder / 'run.json').read_text())
    (folder / 'run.json').write_text(json.dumps({**run, 'load_from': 'the/start.pth'}))
    last = json.loads((folder / 'validation_0000006.json').read_text())
    last['metrics']['seg/mIoU'] = 99.0
    (folder / 'validation_0000006.json').write_text(json.dumps(last))
    tracker = Tracker()
    train(tmp_path, tracker, resume=str(tmp_path / 'run' / 'epoch_2.pth'), **{'train_cfg.max_epochs': 3})
    record = read_run(tmp_path / 'run')
    assert record.run['best']['seg/mIoU']['value'] < 99
    assert tracker.summary['best/seg/mIoU'] < 99
    assert [entry['iteration'] for entry in record.validations] == [2, 4, 6]
    assert record.run['load_from'] == 'the/start.pth'
    # What the first run made after that checkpoint is not lost.
    (checkpoint,) = (tmp_path / 'run').glob('epoch_3.pth.set_aside_*')
    (validation,) = folder.glob('validation_0000006.json.set_aside_*')
    assert json.loads(validation.read_text())['metrics']['seg/mIoU'] == 99.0 and checkpoint.stat().st_size > 0
    # Resumed once more there is nothing left to do, and nothing is lost.
    items = record.pictures['items']
    train(tmp_path, Tracker(), resume='auto', **{'train_cfg.max_epochs': 3})
    assert read_run(tmp_path / 'run').pictures['items'] == items != []


def test_a_failure_before_the_first_validation_has_its_cost(tmp_path):
    with pytest.raises(FloatingPointError):
        train(tmp_path, Tracker(), stop=2)
    run = read_run(tmp_path / 'run').run
    assert run['status'] == 'failed'
    assert run['cost']['train_seconds'] > 0
    assert run['iteration'] == 1


def test_time_between_validations_is_no_training_time():
    class Clock:
        now = 100.0

    hook = RunRecordHook()
    hook._main = False
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('csrm_plugin.engine.hooks.run_record_hook.time.monotonic', lambda: Clock.now)

        def step(load, work):
            Clock.now += load
            hook.before_train_iter(None, 0)
            Clock.now += work
            hook.after_train_iter(None, 0, {'inputs': [0, 0]})

        hook.before_train_epoch(None)
        step(5, 1)  # the loaders start: not counted
        step(0.5, 1)
        hook.before_val_epoch(None)
        Clock.now += 50
        step(0.5, 1)
        step(0.25, 1)
    assert hook._train_seconds == 1 + 1.5 + 1 + 1.25
    assert hook._seen == 8


def test_an_interval_of_nothing_is_refused():
    with pytest.raises(UserError, match='interval'):
        RunRecordHook(interval=0)


def test_alarms_of_all_parts_of_a_run_are_kept():
    def alarm(kind, first, last):
        return dict(kind=kind, first=first, last=last)

    runner = SimpleNamespace(hooks=[object(), SimpleNamespace(alarms=[alarm('a', 40, 50), alarm('b', 45, 45)])])
    before = [alarm('a', 10, 20), alarm('c', 5, 5)]
    assert merge_alarms(before, runner) == [alarm('a', 10, 50), alarm('c', 5, 5), alarm('b', 45, 45)]
    assert merge_alarms([], SimpleNamespace()) == []
