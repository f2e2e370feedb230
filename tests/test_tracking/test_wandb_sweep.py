"""A sweep with the real `wandb sweep` and `wandb agent`, whose trials are the real tools/train.py on a toy."""

import re
import subprocess
import sys

import pytest
import yaml

pytest.importorskip('wandb')

PARTS = """
import torch
from mmengine.dataset import BaseDataset
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmseg.registry import DATASETS, HOOKS, METRICS, MODELS


@MODELS.register_module()
class Toy(BaseModel):
    def __init__(self, factor=1.0):
        super().__init__()
        self.factor, self.weight = factor, torch.nn.Parameter(torch.ones(1))

    def forward(self, inputs, data_samples=None, mode='tensor'):
        loss = self.factor * self.weight.square().mean()
        return dict(loss=loss) if mode == 'loss' else [dict() for _ in inputs]


@DATASETS.register_module()
class Four(BaseDataset):
    def load_data_list(self):
        return [dict(number=number) for number in range(4)]

    def prepare_data(self, index):
        return dict(inputs=torch.zeros(1), data_samples=None)


@METRICS.register_module()
class Score(BaseMetric):
    default_prefix = 'pseudo'

    def process(self, data_batch, data_samples):
        self.results.append(1.0)

    def compute_metrics(self, results):
        return dict(mIoU=50.0)


@HOOKS.register_module()
class Picture(Hook):
    def after_val_epoch(self, runner, metrics=None):
        runner.visualizer.add_image('sample', torch.zeros(4, 4, 3, dtype=torch.uint8).numpy(), step=runner.iter)
"""

CONFIG = """
custom_imports = dict(imports=['csrm_plugin', 'toy_trial'], allow_failed_imports=False)
default_scope = 'mmseg'
model = dict(type='Toy', factor=1.0)
train_dataloader = dict(batch_size=1, sampler=dict(type='DefaultSampler', shuffle=False), dataset=dict(type='Four'))
val_dataloader, val_evaluator, val_cfg = train_dataloader, dict(type='Score'), dict()
train_cfg = dict(by_epoch=True, max_epochs=2)
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1))
custom_hooks = [dict(type='Picture')]
default_hooks = dict(logger=dict(type='LoggerHook', interval=2, log_metric_by_epoch=False))
randomness = dict(seed=0)
visualizer = dict(type='SegLocalVisualizer', vis_backends=[dict(type='LocalVisBackend'), dict(type='WSSSWandbBackend')])
"""


def wandb(*arguments):
    """What a command of W&B prints."""
    result = subprocess.run(
        [sys.executable, '-m', 'wandb', *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        stdin=subprocess.DEVNULL,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout + result.stderr


def test_two_trials(online, server, root, monkeypatch):
    (online / 'toy_trial.py').write_text(PARTS)
    (online / 'toy.py').write_text(CONFIG)
    monkeypatch.setenv('PYTHONPATH', f'{root}:{online}')
    sweep = yaml.safe_load((root / 'sweeps' / 'delta_fg.yaml').read_text())
    sweep['parameters'] = {'model.factor': {'values': [0.5, 2.0]}, 'optim_wrapper.optimizer.lr': {'value': 0.01}}
    place = sweep['command'].index('tools/train.py')
    sweep['command'][place : place + 2] = [str(root / 'tools' / 'train.py'), 'toy.py']
    (online / 'sweep.yaml').write_text(yaml.safe_dump(sweep))

    printed = wandb('sweep', 'sweep.yaml')
    assert 'WARNING' not in printed and 'ERROR' not in printed
    name = re.search(r'wandb agent (\S+)', re.sub(r'\x1b\[[0-9;]*m', '', printed)).group(1)
    assert name == 'somebody/csrm/sweep1'
    printed = wandb('agent', '--count', '2', name)
    assert 'locked' not in printed

    assert {run['exit_code'] for run in server.runs.values()} == {0} and len(server.runs) == 2
    given = dict(server.sweeps['sweep1']['given'])
    for (run_id, run), factor in zip(sorted(server.runs.items()), (0.5, 2.0)):
        assert run['sweep'] == 'sweep1' and run['project']['name'] == 'csrm'
        assert given[run_id]['model.factor'] == run['config']['model.factor'] == factor
        assert run['config']['optim_wrapper.optimizer.lr'] == 0.01
        assert run['config']['train_cfg.max_epochs'] == 2
        assert [row['_step'] for row in run['rows']] == [2, 4, 6, 8]
        assert all(row['iteration'] == row['_step'] for row in run['rows'])
        assert [row['_step'] for row in run['rows'] if sweep['metric']['name'] in row] == [4, 8]
        assert run['summary']['pseudo/mIoU'] == 50
        assert run['rows'][0]['loss'] == pytest.approx(factor, rel=0.1)
        pictures = [row['sample']['path'] for row in run['rows'] if 'sample' in row]
        assert len(pictures) == 2 and all((run_id, path) in server.files for path in pictures)
    # Each trial has a work directory of its own.
    assert sorted(path.parent.name for path in (online / 'work_dirs').rglob('epoch_2.pth')) == sorted(server.runs)
