"""A stand-in for the W&B server, and an environment in which W&B's client finds it and nothing else."""

import importlib.util
import os
import sys
from pathlib import Path

import pytest

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
