import json
import multiprocessing
import os
import socket
import subprocess
import sys

import pytest
import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.model import MMDistributedDataParallel
from mmengine.runner import Runner

from csrm_plugin.engine.launch import prepare_distributed, set_global_batch
from csrm_plugin.engine.training import prepare_training
from csrm_plugin.utils import UserError


def config(total=32, limit=None, **optim_wrapper):
    return Config(
        dict(
            global_batch_size=total,
            max_batch_per_process=limit,
            train_dataloader=dict(batch_size=1),
            optim_wrapper=dict(type='OptimWrapper', **optim_wrapper),
        )
    )


@pytest.mark.parametrize(
    ('total', 'world_size', 'limit', 'expected'),
    [
        (32, 1, None, (32, 1)),
        (32, 4, None, (8, 1)),
        (32, 1, 8, (8, 4)),
        (32, 2, 5, (4, 4)),
        (12, 1, 5, (4, 3)),
        (7, 1, 6, (1, 7)),
        (32, 4, 100, (8, 1)),
    ],
)
def test_every_update_sees_the_global_batch(total, world_size, limit, expected):
    cfg = config(total, limit)
    assert set_global_batch(cfg, world_size) == expected
    size, steps = cfg.train_dataloader.batch_size, cfg.optim_wrapper.get('accumulative_counts', 1)
    assert (size, steps) == expected
    assert size * steps * world_size == total


def test_accumulation_of_the_config_is_replaced_and_of_the_user_kept():
    cfg = config(32, None, accumulative_counts=4)
    assert set_global_batch(cfg) == (32, 1)
    assert cfg.optim_wrapper.accumulative_counts == 1
    cfg = config(32, None, accumulative_counts=4)
    assert set_global_batch(cfg, 2, {'optim_wrapper.accumulative_counts': 4}) == (4, 4)
    with pytest.raises(UserError, match='accumulative_counts 5 does not divide the 32 pictures'):
        set_global_batch(config(32, None, accumulative_counts=5), 1, {'optim_wrapper.accumulative_counts': 5})


def test_impossible_shares_are_refused():
    with pytest.raises(UserError, match='global_batch_size 32 cannot be shared by 3 processes'):
        set_global_batch(config(32), 3)
    with pytest.raises(UserError, match='max_batch_per_process must be at least 1'):
        set_global_batch(config(32, -1))


def test_batch_size_of_the_user_wins_and_is_told(logged):
    cfg = config(32)
    cfg.train_dataloader.batch_size = 6
    assert set_global_batch(cfg, 2, {'train_dataloader.batch_size': 6}) is None
    assert cfg.train_dataloader.batch_size == 6
    said = ' '.join(logged)
    assert 'the global batch is 12 instead of 32' in said
    assert '--auto-scale-lr' in said


def test_configs_of_others_are_left_alone():
    cfg = Config(dict(train_dataloader=dict(batch_size=3), optim_wrapper=dict()))
    assert set_global_batch(cfg, 2) is None
    assert cfg.train_dataloader.batch_size == 3


def test_launcher_and_environment_must_agree(monkeypatch):
    for name in ('RANK', 'WORLD_SIZE', 'TORCHELASTIC_RUN_ID'):
        monkeypatch.delenv(name, raising=False)
    cfg = Config(dict())
    assert prepare_distributed(cfg, 'none') == 1
    assert cfg.launcher == 'none'
    with pytest.raises(UserError, match='needs torchrun'):
        prepare_distributed(cfg, 'pytorch')
    monkeypatch.setenv('WORLD_SIZE', '2')
    monkeypatch.setenv('TORCHELASTIC_RUN_ID', 'x')
    with pytest.raises(UserError, match='torchrun started 2 processes, but --launcher is none'):
        prepare_distributed(cfg, 'none')


@pytest.mark.skipif(torch.cuda.is_available(), reason='about machines without a GPU')
def test_without_a_gpu_only_torchrun_goes():
    with pytest.raises(UserError, match='slurm needs CUDA'):
        prepare_distributed(Config(dict()), 'slurm')


@pytest.mark.skipif(torch.cuda.is_available(), reason='about machines without a GPU')
def test_seeds_by_rank_are_for_several_processes(monkeypatch):
    """On one, MMEngine would shuffle by a number drawn from NumPy in place of the seed."""
    for name in ('RANK', 'WORLD_SIZE', 'TORCHELASTIC_RUN_ID'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(dist, 'is_initialized', lambda: True)
    for launcher, world_size, expected in (('none', None, False), ('pytorch', 1, False), ('pytorch', 2, True)):
        if world_size:
            monkeypatch.setenv('RANK', '0')
            monkeypatch.setenv('WORLD_SIZE', str(world_size))
        cfg = Config(dict(randomness=dict(seed=3, diff_rank_seed=True)))
        assert prepare_distributed(cfg, launcher) == (world_size or 1)
        assert cfg.randomness == dict(seed=3, diff_rank_seed=expected)


def _train_as(rank, toy, port):
    """One of two processes, as torchrun would have started it."""
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE='2', MASTER_ADDR='127.0.0.1', MASTER_PORT=port)
    torch.set_num_threads(1)
    cfg = prepare_training(toy, launcher='pytorch')
    runner = Runner.from_cfg(cfg)
    runner.train()
    gathered = [torch.empty_like(runner.model.module.conv.weight) for _ in range(2)]
    dist.all_gather(gathered, runner.model.module.conv.weight.detach())
    assert torch.equal(*gathered)
    assert isinstance(runner.model, MMDistributedDataParallel)
    assert runner.iter == 4
    dist.destroy_process_group()


def _free_port():
    with socket.socket() as listener:
        listener.bind(('127.0.0.1', 0))
        return str(listener.getsockname()[1])


@pytest.mark.skipif(torch.cuda.is_available(), reason='about machines without a GPU')
def test_two_processes_share_a_batch_and_agree_on_the_weights(toy, tmp_path):
    context = multiprocessing.get_context('fork')
    port = _free_port()
    processes = [context.Process(target=_train_as, args=(rank, toy, port)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    written = Config.fromfile(tmp_path / 'work_dirs' / 'toy' / 'toy.py')
    assert written.model.norm_cfg.type == 'SyncBN'  # a config for GPUs as well: it is the model that is adapted
    assert written.randomness.diff_rank_seed is True
    assert written.train_dataloader.batch_size == 2


def torchrun(script, *arguments, **environment):
    """Run a tool in two processes on the CPU."""
    command = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', '2', str(script)]
    return subprocess.run(
        [*command, *arguments, '--launcher', 'pytorch'],
        env={**os.environ, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': '-1', **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.long
def test_torchrun_trains_and_tests_on_the_cpu(toy, tmp_path, root):
    done = torchrun(root / 'tools' / 'train.py', toy, '--work-dir', 'work')
    assert done.returncode == 0, done.stderr[-2000:]
    assert 'Global batch 4 = 2 processes x 2 pictures x 1 steps' in done.stdout + done.stderr
    done = torchrun(root / 'tools' / 'test.py', toy, 'work/epoch_2.pth', '--work-dir', 'work', '--json', 'out.json')
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads((tmp_path / 'out.json').read_text())
    assert report['count'] == 3
    assert 'destroy_process_group' not in done.stderr


@pytest.mark.long
def test_every_process_fails_on_an_error_of_the_user(toy, root):
    done = torchrun(root / 'tools' / 'train.py', toy, '--cfg-options', 'model.widht=3')
    assert done.returncode != 0
    assert 'error: unknown setting `model.widht` in --cfg-options; did you mean `model.width`?' in done.stderr
    assert 'UserError' not in done.stderr
