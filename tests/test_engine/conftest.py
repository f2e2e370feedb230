"""A model, data set and metric small enough to train in a moment, with the config that names them."""

import os
import sys

import pytest

MODULE = """
import torch
from mmengine.dataset import BaseDataset
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.structures import PixelData
from mmseg.registry import DATASETS, METRICS, MODELS
from mmseg.structures import SegDataSample


@MODELS.register_module(force=True)
class ToyNet(BaseModel):
    def __init__(self, width=2, norm_cfg=None, init_cfg=None):
        super().__init__(init_cfg=init_cfg)
        self.conv = torch.nn.Conv2d(1, width, 1)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        logits = self.conv(torch.stack(inputs) if isinstance(inputs, list) else inputs)
        if mode == 'loss':
            return dict(loss=logits.square().mean())
        for sample, logit in zip(data_samples, logits):
            sample.pred_sem_seg = PixelData(data=logit.argmax(0, keepdim=True))
        return data_samples


@DATASETS.register_module(force=True)
class ToyData(BaseDataset):
    METAINFO = dict(classes=('background', 'thing'), palette=[(0, 0, 0), (9, 8, 7)])

    def __init__(self, length=8, **kwargs):
        self.length = length
        super().__init__(**kwargs)

    def load_data_list(self):
        return [dict(number=number) for number in range(self.length)]

    def prepare_data(self, index):
        sample = SegDataSample(metainfo=dict(img_path=f'pictures/p{index}.jpg'))
        return dict(inputs=torch.full((1, 4, 5), float(index)), data_samples=sample)


@METRICS.register_module(force=True)
class ToyMetric(BaseMetric):
    def process(self, data_batch, data_samples):
        self.results += [1.0] * len(data_samples)

    def compute_metrics(self, results):
        self.report = {'per_class': {'thing': float('nan')}, 'context': {'split': 'val'}}
        return {'seg/mIoU': 50.0, 'count': len(results)}
"""

CONFIG = """
custom_imports = dict(imports=['csrm_plugin', 'toy_parts'], allow_failed_imports=False)
default_scope = 'mmseg'
global_batch_size = 4
max_batch_per_process = None
model = dict(type='ToyNet', norm_cfg=dict(type='SyncBN', requires_grad=True))
train_dataloader = dict(
    batch_size=4, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=True), dataset=dict(type='ToyData'))
test_dataloader = dict(
    batch_size=2, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='ToyData', length=3))
test_evaluator = dict(type='ToyMetric')
test_cfg = dict()
train_cfg = dict(by_epoch=True, max_epochs=2)
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1), clip_grad=None)
param_scheduler = [dict(type='LinearLR', start_factor=1.0, end_factor=0.5, by_epoch=True, end=2)]
auto_scale_lr = dict(enable=False, base_batch_size=4)
default_hooks = dict(checkpoint=dict(type='CheckpointHook', interval=1), logger=dict(type='LoggerHook', interval=1))
custom_hooks = [dict(type='EmptyCacheHook')]
randomness = dict(seed=0, deterministic=False, diff_rank_seed=True)
load_from = None
resume = False
"""


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """Path of the toy config; its parts can be imported as `toy_parts`, also by child processes."""
    (tmp_path / 'toy_parts.py').write_text(MODULE)
    config = tmp_path / 'toy.py'
    config.write_text(CONFIG)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv('PYTHONPATH', str(tmp_path), prepend=os.pathsep)
    monkeypatch.chdir(tmp_path)
    yield str(config)
    sys.modules.pop('toy_parts', None)
