from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmseg.registry import MODELS

from csrm_plugin.datasets.synthetic_dataset import SyntheticWSSSDataset
from csrm_plugin.models.checkpoints.prediction import without_initialisation

ROOT = Path(__file__).parents[3]


METAINFO = SyntheticWSSSDataset.METAINFO


#: A segmentation network with parts of ours, SyncBN and weights that are not there.
PLAIN = """
custom_imports = dict(imports=['csrm_plugin', 'unused_package'], allow_failed_imports=True)
norm_cfg = dict(type='SyncBN', requires_grad=True)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(type='SegDataPreProcessor', mean=[100, 110, 120], std=[50, 60, 70], bgr_to_rgb={rgb}),
    pretrained=None,
    backbone=dict(
        type='{backbone}', depth={depth}, base_channels=8, stem_channels=8, norm_cfg=norm_cfg,
        init_cfg=dict(type='OptionalPretrained', checkpoint='nowhere.pth', hint='--')),
    decode_head=dict(
        type='FCNHead', in_channels={channels}, in_index=3, channels=8, num_convs=1, num_classes=7, norm_cfg=norm_cfg),
)
test_pipeline = [
    dict(type='LoadImageFromFile'), dict(type='Resize', scale=(64, 48), keep_ratio=True),
    dict(type='LoadAnnotations'), dict(type='PackWSSSInputs', meta_keys=('img_path', 'ori_shape', 'img_shape'))]
test_dataloader = dict(dataset=dict(type='SyntheticWSSSDataset', pipeline=test_pipeline))
"""


def save_trained(cfg, path, **meta):
    """Save random weights of the config's model, with BatchNorm statistics as after a training."""
    settings = Config(dict(model=without_initialisation(cfg.model))).model
    with MODELS.switch_scope_and_registry('mmseg') as models:
        model = models.build(settings)
    state = model.state_dict()
    for name, value in state.items():
        if name.endswith('running_mean'):
            value.normal_(std=0.1)
        elif name.endswith('running_var'):
            value.uniform_(0.5, 1.5)
        elif name.endswith('conv_seg.weight'):
            value.normal_(std=0.5)
        elif name.startswith('teacher.') and value.is_floating_point():
            value.mul_(1.1)
    torch.save(dict(state_dict=state, meta=meta, optimizer=dict(param_groups=[])), path)


@pytest.fixture(scope='module')
def csrm(tmp_path_factory):
    """Config and checkpoint of a CSRM whose teacher and student differ."""
    torch.manual_seed(0)
    config, checkpoint = ROOT / 'mmcfg' / 'csrm_demo.py', tmp_path_factory.mktemp('csrm') / 'epoch_3.pth'
    dataset_meta = dict(METAINFO, label_map=None, reduce_zero_label=False)
    save_trained(Config.fromfile(config), checkpoint, epoch=3, iter=30, dataset_meta=dataset_meta)
    return str(config), str(checkpoint)


@pytest.fixture
def plain(tmp_path):
    """Make config and checkpoint of a plain network; the checkpoint names no classes."""

    def make(**settings):
        config, checkpoint = tmp_path / 'plain.py', tmp_path / 'plain.pth'
        config.write_text(PLAIN.format(**settings))
        save_trained(Config.fromfile(config), checkpoint)
        return str(config), str(checkpoint)

    return make


@pytest.fixture
def picture():
    return np.random.default_rng(7).integers(0, 256, (50, 70, 3), dtype=np.uint8)
