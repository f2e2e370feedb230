import logging
import os.path as osp

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner

from csrm_plugin.engine.training import (
    check_load_from,
    enable_amp,
    enable_auto_scale_lr,
    find_latest_checkpoint,
    prepare_training,
    set_resume,
    set_work_dir,
)
from csrm_plugin.utils import MissingFileError, UserError


def start(work_dir, load_from=None, resume=False, asked=None):
    """What a run starts from: (resume, load_from)."""
    cfg = Config(dict(work_dir=str(work_dir), load_from=load_from, resume=resume))
    set_resume(cfg, asked)
    return cfg.resume, cfg.load_from


def test_resume_looks_in_the_work_directory_before_load_from(tmp_path, logged):
    assert start(tmp_path, 'cam.pth') == (False, 'cam.pth')
    assert start(tmp_path, 'cam.pth', asked='auto') == (False, 'cam.pth')
    assert 'Nothing to resume' in logged[-1]
    newest = tmp_path / 'epoch_2.pth'
    torch.save({}, newest)
    assert start(tmp_path, 'cam.pth', asked='auto') == (True, str(newest))
    assert start(tmp_path, 'cam.pth', resume=True) == (True, str(newest))
    assert start(tmp_path, 'cam.pth') == (False, 'cam.pth')


def test_resume_from_a_path(tmp_path):
    given = tmp_path / 'given.pth'
    with pytest.raises(MissingFileError, match=r'--resume: there is no checkpoint at .*given\.pth'):
        start(tmp_path / 'work', asked=str(given))
    given.touch()
    assert start(tmp_path / 'work', 'cam.pth', asked=str(given)) == (True, str(given))
    with pytest.raises(MissingFileError, match='no checkpoint'):
        start(tmp_path / 'work', asked=str(tmp_path))
    torch.save({}, tmp_path / 'iter_7.pth')
    assert start(tmp_path / 'work', asked=str(tmp_path)) == (True, str(tmp_path / 'iter_7.pth'))


def test_latest_checkpoint(tmp_path):
    assert find_latest_checkpoint(tmp_path / 'nowhere') is None
    for name in ('epoch_9.pth', 'epoch_10.pth', 'best_seg_epoch_11.pth'):
        torch.save({}, tmp_path / name)
    assert find_latest_checkpoint(tmp_path) == str(tmp_path / 'epoch_10.pth')
    (tmp_path / 'last_checkpoint').write_text('/before/it/was/moved/epoch_9.pth')
    assert find_latest_checkpoint(tmp_path) == str(tmp_path / 'epoch_9.pth')
    (tmp_path / 'last_checkpoint').write_text('/gone/epoch_12.pth')
    assert find_latest_checkpoint(tmp_path) == str(tmp_path / 'epoch_10.pth')
    # What a run that was killed while saving leaves.
    newest = tmp_path / 'epoch_10.pth'
    newest.write_bytes(newest.read_bytes()[:200])
    assert find_latest_checkpoint(tmp_path) == str(tmp_path / 'epoch_9.pth')


def test_load_from_is_checked_before_anything_is_built(tmp_path):
    with pytest.raises(MissingFileError, match=r'load_from: there is no checkpoint at `nowhere\.pth`'):
        check_load_from(Config(dict(load_from='nowhere.pth')))
    cfg = Config(dict(load_from=''))
    check_load_from(cfg)
    assert cfg.load_from is None
    check_load_from(Config(dict(load_from='https://x/y.pth')))


def test_work_dir():
    for given, in_config, expected in [(None, None, './work_dirs/c'), (None, 'w', 'w'), ('a', 'w', 'a')]:
        cfg = Config(dict(work_dir=in_config))
        set_work_dir(cfg, 'mmcfg/c.py', given)
        assert cfg.work_dir == expected


def test_learning_rate_scales_with_what_an_update_sees():
    cfg = Config(dict(global_batch_size=32, optim_wrapper=dict(accumulative_counts=4)))
    enable_auto_scale_lr(cfg)
    # The host divides the pictures of one step (8) by the base.
    assert cfg.auto_scale_lr == dict(enable=True, base_batch_size=8)
    with pytest.raises(UserError, match='base_batch_size'):
        enable_auto_scale_lr(Config(dict(optim_wrapper=dict())))


def test_amp_is_refused_for_other_wrappers():
    with pytest.raises(UserError, match='ApexOptimWrapper'):
        enable_amp(Config(dict(optim_wrapper=dict(type='ApexOptimWrapper'))))


@pytest.fixture
def quiet():
    yield
    for handler in logging.getLogger('mmengine').handlers[:]:
        handler.close()


@pytest.mark.skipif(torch.cuda.is_available(), reason='about machines without a GPU')
def test_a_run_trains_with_amp_and_goes_on(toy, tmp_path, quiet):
    cfg = prepare_training(toy, dict(experiment_name='amp', max_batch_per_process=2), amp=True, auto_scale_lr=True)
    runner = Runner.from_cfg(cfg)
    seen = []
    runner.model.conv.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    runner.train()
    assert set(seen) == {torch.bfloat16}
    assert runner.model.conv.weight.dtype == torch.float32
    assert runner.optim_wrapper._accumulative_counts == 2
    # Two steps of two pictures make the batch of four that the rate belongs to: unscaled, halved by the schedule.
    assert runner.optim_wrapper.get_lr()['lr'] == [pytest.approx(0.05)]

    cfg = prepare_training(toy, {'experiment_name': 'more', 'train_cfg.max_epochs': 3}, resume='auto')
    runner = Runner.from_cfg(cfg)
    runner.train()
    assert runner.epoch == 3
    assert runner.iter == 8 + 2


def test_each_trial_of_a_sweep_has_a_work_directory_of_its_own(toy, monkeypatch):
    plain = prepare_training(toy, work_dir='here').work_dir
    monkeypatch.setenv('WANDB_SWEEP_ID', 's1')
    assert prepare_training(toy, work_dir='here').work_dir == plain == 'here'
    monkeypatch.setenv('WANDB_RUN_ID', 'r1')
    assert prepare_training(toy, work_dir='here').work_dir == osp.join('here', 'sweep_s1', 'r1')
    assert prepare_training(toy).work_dir.endswith(osp.join('toy', 'sweep_s1', 'r1'))
