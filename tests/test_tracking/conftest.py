"""A stand-in for the W&B server, and an environment in which W&B's client finds it and nothing else."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import VISBACKENDS

from csrm_plugin.tracking import wandb_files

#: A config as the Runner gives it to the backend.
SETTINGS = dict(
    model=dict(type='CSRM', pseudo_label=dict(fg_threshold=0.35, crf=None)),
    custom_hooks=[dict(type='WarmupHook', iters=5)],
    train_dataloader=dict(dataset=dict(scale=(64, 48))),
)

_SPEC = importlib.util.spec_from_file_location('wandb_server', Path(__file__).with_name('wandb_server.py'))
wandb_server = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(wandb_server)


@pytest.fixture
def server():
    """The stand-in; in the end it must have known every request."""
    with wandb_server.WandbServer() as running:
        yield running
    assert running.unknown == []


@pytest.fixture
def no_wandb(tmp_path, monkeypatch):
    """An environment without key, settings or login: the folder that is the home and the current one."""
    for name in list(os.environ):
        if name.startswith('WANDB') or name.lower() in ('http_proxy', 'https_proxy', 'all_proxy', 'no_proxy', 'netrc'):
            monkeypatch.delenv(name)
    settings = {
        'HOME': tmp_path,
        'WANDB_CACHE_DIR': tmp_path / 'cache',
        'WANDB_CONFIG_DIR': tmp_path / 'config',
        'WANDB_DATA_DIR': tmp_path / 'data',
        'WANDB__DISABLE_STATS': 'true',
        'WANDB_X_DISABLE_MACHINE_INFO': 'true',
        'WANDB_DISABLE_GIT': 'true',
        'WANDB_ERROR_REPORTING': 'false',
        'WANDB__GRAPHQL_RETRY_MAX': '1',
        'WANDB__FILE_STREAM_RETRY_MAX': '1',
        'WANDB__FILE_TRANSFER_RETRY_MAX': '1',
        'PATH': f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}',
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    if 'wandb' in sys.modules and sys.modules['wandb'] is not None:
        sys.modules['wandb'].teardown()


@pytest.fixture
def online(no_wandb, monkeypatch, server):
    """The same with a key and the stand-in as the server; code is not sent."""
    monkeypatch.setenv('WANDB_BASE_URL', server.url)
    monkeypatch.setenv('WANDB_API_KEY', wandb_server.KEY)
    monkeypatch.setenv('WANDB_DISABLE_CODE', 'true')
    return no_wandb


def start(folder='run', resume=False, timestamp='20260101_000000', settings=None, **arguments):
    """A backend in the folder of one start of a training."""
    save_dir = os.path.join(folder, timestamp, 'vis_data')
    backend = VISBACKENDS.build(dict(type='WSSSWandbBackend', save_dir=save_dir, **arguments))
    backend.add_config(Config({**(settings or SETTINGS), 'work_dir': folder, 'resume': resume}))
    return backend


def train(backend, first, last, interval=10):
    """Log rows as MMEngine does: training every so many iterations."""
    for step in range(first, last + 1, interval):
        backend.add_scalars({'loss': 1 / step, 'iter': step}, step=step, file_path='x.json')


def note(folder='run'):
    with open(os.path.join(folder, wandb_files.RUN_FILE)) as file:
        return json.load(file)


def steps(run):
    """W&B's steps of a run; each row has the iteration as its step."""
    assert all(row['_step'] == row['iteration'] for row in run['rows'])
    return [row['_step'] for row in run['rows']]


def sync(*folders):
    """What `wandb sync` prints."""
    command = [sys.executable, '-m', 'wandb', 'sync', *folders]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    return result.stderr


@pytest.fixture(name='start')
def give_start():
    """The function ``start``."""
    return start


@pytest.fixture(name='train')
def give_train():
    """The function ``train``."""
    return train


@pytest.fixture(name='note')
def give_note():
    """The function ``note``."""
    return note


@pytest.fixture(name='steps')
def give_steps():
    """The function ``steps``."""
    return steps


@pytest.fixture(name='sync')
def give_sync():
    """The function ``sync``."""
    return sync
