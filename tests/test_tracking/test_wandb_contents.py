from types import SimpleNamespace

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.logging import MessageHub

from csrm_plugin.tracking import wandb_contents
from csrm_plugin.tracking.wandb_contents import (
    curve_picture,
    define_metrics,
    keep_checkpoint,
    record_code,
    record_config,
)
from csrm_plugin.utils import UserError


class Run:
    """Keeps what is asked of it."""

    def __init__(self, **settings):
        self.defined, self.artifacts, self.code, self.settings = [], [], [], SimpleNamespace(**settings)
        self.config, self.sweep_id = {}, None

    def define_metric(self, name, **more):
        self.defined.append((name, more))

    def log_artifact(self, artifact, aliases):
        self.artifacts.append((artifact, aliases))

    def log_code(self, folder, **more):
        self.code.append(more['name'])


class Configuration(dict):
    """A run's config, which may be changed if that is allowed."""

    def update(self, values, allow_val_change=False):
        assert allow_val_change
        super().update(values)


@pytest.mark.parametrize(
    ('given', 'expected'),
    [
        (None, []),
        ({'seg/mIoU': 'max'}, [('seg/mIoU', {'summary': 'max'})]),
        ([dict(name='loss', summary='min', goal='minimize')], [('loss', {'summary': 'min', 'goal': 'minimize'})]),
    ],
)
def test_the_iteration_is_the_x_axis_of_all_metrics(given, expected):
    run = Run()
    define_metrics(run, given)
    assert run.defined == [('iteration', {}), ('*', {'step_metric': 'iteration'}), *expected]


def test_what_a_sweep_has_set_is_locked():
    config = Config(dict(model=dict(type='CSRM', mix_prob=0.5), load_from='a.pth'), filename=None)
    run = Run()
    run.config = Configuration({'model.mix_prob': 0.25})
    record_config(run, config, 'work')
    assert run.config['model.mix_prob'] == 0.5 and run.config['model.type'] == 'CSRM'
    assert (run.config['load_from'], run.config['work_dir']) == ('a.pth', 'work') and 'config' not in run.config
    run.config, run.sweep_id = Configuration({'model.mix_prob': 0.25}), 's'
    record_config(run, config, 'work')
    assert run.config['model.mix_prob'] == 0.25 and run.config['model.type'] == 'CSRM'


@pytest.mark.parametrize(
    ('variable', 'settings', 'kept'),
    [('', {}, True), ('true', {}, False), ('', {'disable_code': True}, False), ('', {'disable_code': False}, True)],
)
def test_code_is_kept_unless_that_is_forbidden(monkeypatch, variable, settings, kept):
    monkeypatch.setenv('WANDB_DISABLE_CODE', variable)
    monkeypatch.setattr(wandb_contents, 'copy_code', lambda folder: 0)
    run = Run(**settings)
    record_code(run)
    assert run.code == (['source-csrm_plugin'] if kept else [])


def test_the_checkpoint_that_was_asked_for_is_the_artifact(tmp_path):
    files = {}

    class Artifact:
        def __init__(self, name, **more):
            self.name, self.more = name, more

        def add_file(self, path, policy):
            files[path] = policy

    for name in ('best', 'last'):
        (tmp_path / f'{name}.pth').write_bytes(b'weights')
    hub = MessageHub.get_instance('keeps_a_checkpoint')
    hub.update_info('best_ckpt', str(tmp_path / 'gone.pth'))
    hub.update_info('last_ckpt', str(tmp_path / 'last.pth'))
    run, wandb = Run(), SimpleNamespace(Artifact=Artifact)
    keep_checkpoint(wandb, run, 'last', str(tmp_path / 'a run'), 40)
    ((artifact, aliases),) = run.artifacts
    assert (artifact.name, aliases, artifact.more['metadata']) == ('a_run-last', ['last'], {'iteration': 40})
    assert files == {str(tmp_path / 'last.pth'): 'immutable'}
    with pytest.raises(UserError, match='there is no best checkpoint'):
        keep_checkpoint(wandb, run, 'best', str(tmp_path), 40)


def test_a_curve_is_a_picture():
    picture = curve_picture('threshold', [0.1, 0.2], 'mIoU', [30.0, float('nan')])
    assert picture.shape == (340, 500, 3) and picture.dtype == np.uint8 and 0 < (picture < 255).mean() < 0.3
