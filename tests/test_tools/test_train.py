"""Training as a person starts it: `tools/train.py` and `tools/test.py` on a few synthetic pictures."""

import importlib.util
import json
import shutil

import pytest
import torch

from csrm_plugin.datasets.synthetic import ensure_synthetic
from csrm_plugin.utils.cli import run_tool

#: Four small pictures a step, two steps an epoch, every loss from the first step on.
SMALL = ['train_dataloader.batch_size=4', 'train_cfg.max_epochs=1', 'train_cfg.val_interval=9']
for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
    SMALL += [f'{loader}.num_workers=0', f'{loader}.persistent_workers=False']
CSRM = ['custom_hooks.0.iters=0', 'custom_hooks.0.ramp_iters=0', 'model.pseudo_label.crf.workers=0']
DATA = dict(image_size=(64, 48), num_train=8, num_val=4)


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A folder of synthetic pictures that the demo configs use."""
    folder = tmp_path / 'data'
    ensure_synthetic(str(folder), seed=0, **DATA)
    monkeypatch.setenv('DEMO_ROOT', str(folder))
    settings = []
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        settings += [f'{loader}.dataset.image_size=64,48']
        settings += [f'{loader}.dataset.{name}={DATA[name]}' for name in ('num_train', 'num_val')]
    return folder, settings


def run(root, tool, *arguments):
    """Exit status of a tool that is run in this process."""
    spec = importlib.util.spec_from_file_location(f'{tool}_tool', root / 'tools' / f'{tool}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with pytest.raises(SystemExit) as end:
        run_tool(module.main, module.build_parser(), [str(argument) for argument in arguments])
    return end.value.code


def test_csrm_trains_without_any_mask_and_is_scored_with_them(root, tmp_path, data):
    folder, settings = data
    work_dir, masks = tmp_path / 'run', tmp_path / 'masks'
    shutil.move(folder / 'SegmentationClass', masks)
    config = root / 'mmcfg' / 'csrm_demo.py'
    assert run(root, 'train', config, '--work-dir', work_dir, '--cfg-options', *SMALL, *CSRM, *settings) == 0
    assert not (folder / 'SegmentationClass').exists()  # nobody made them again
    checkpoint = work_dir / 'epoch_1.pth'
    state = torch.load(checkpoint, weights_only=True, map_location='cpu')['state_dict']
    assert {name.split('.')[0] for name in state} == {'student', 'teacher', 'teacher_frozen', 'bank'}
    assert state['bank.steps'] == 2  # all five losses were at work in both iterations

    shutil.move(masks, folder / 'SegmentationClass')
    report = tmp_path / 'report.json'
    assert run(root, 'test', config, checkpoint, '--json', report, '--cfg-options', *SMALL, *settings) == 0
    report = json.loads(report.read_text())
    for name in ('cam/mIoU', 'seg/mIoU', 'pseudo/mIoU', 'cls/mAP'):
        assert 0 <= report[name] <= 100
    assert report['context']['weights'] == 'teacher' and report['context']['ann_file'].endswith('val.txt')

    # Test-time augmentation says so in the context.
    augmented = tmp_path / 'tta.json'
    assert run(root, 'test', config, checkpoint, '--tta', '--json', augmented, '--cfg-options', *SMALL, *settings) == 0
    context = json.loads(augmented.read_text())['context']
    assert context['scales'] == [0.5, 1.0, 1.5, 2.0] and context['flip'] is True


def test_resume_goes_on_where_the_run_stopped(root, tmp_path, data):
    _, settings = data
    config, work_dir = root / 'mmcfg' / 'csrm_demo.py', tmp_path / 'run'
    options = ['--work-dir', work_dir, '--resume', '--cfg-options', *SMALL, *CSRM, *settings]
    assert run(root, 'train', config, *options) == 0
    assert run(root, 'train', config, *options, 'train_cfg.max_epochs=2') == 0
    message = torch.load(work_dir / 'epoch_2.pth', weights_only=True, map_location='cpu')
    assert message['meta']['iter'] == 4
    assert message['state_dict']['bank.steps'] == 4  # the bank went on, too


def test_a_loss_that_is_not_finite_ends_the_run_in_one_line(root, tmp_path, data, capsys):
    _, settings = data
    options = [*SMALL, *settings, 'optim_wrapper.optimizer.lr=1e30', 'train_cfg.max_epochs=4']
    assert run(root, 'train', root / 'mmcfg' / 'cam_demo.py', '--work-dir', tmp_path, '--cfg-options', *options) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith('error:')]
    assert len(errors) == 1 and 'not finite (loss_c)' in errors[0] and 'optim_wrapper.optimizer.lr' in errors[0]


def test_gradient_accumulation_and_amp_reach_a_checkpoint(root, tmp_path, data):
    _, settings = data
    options = [*SMALL, *CSRM, *settings, 'optim_wrapper.accumulative_counts=2']
    config = root / 'mmcfg' / 'csrm_demo.py'
    assert run(root, 'train', config, '--amp', '--work-dir', tmp_path, '--cfg-options', *options) == 0
    state = torch.load(tmp_path / 'epoch_1.pth', weights_only=True, map_location='cpu')['state_dict']
    assert all(torch.isfinite(value).all() for value in state.values())
