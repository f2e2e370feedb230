"""A backbone, configs and batches small enough to train in a moment."""

import copy

import pytest
import torch
from mmengine.structures import LabelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import nn

NUM_CLASSES = 4


@MODELS.register_module(force=True)
class TinyBackbone(nn.Module):
    """Two stages: 8 channels at a quarter and 16 at an eighth of the size."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 4, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.stage = nn.Sequential(nn.Conv2d(8, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU())

    def forward(self, inputs):
        low = self.stem(inputs)
        return low, self.stage(low)


HEAD = dict(
    in_channels=16,
    in_index=1,
    channels=8,
    dilations=(1, 2),
    c1_in_channels=8,
    c1_channels=4,
    norm_cfg=dict(type='BN'),
    align_corners=False,
)
DECODE_HEAD = dict(type='DepthwiseSeparableASPPHead', num_classes=NUM_CLASSES + 1, dropout_ratio=0, **HEAD)
PREPROCESSOR = dict(
    type='SegDataPreProcessor',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    bgr_to_rgb=True,
    size=(32, 32),
    pad_val=0,
    seg_pad_val=255,
)
CAM = dict(
    backbone=dict(type='TinyBackbone'),
    cam_head=dict(type='CAMHead', in_channels=16, num_classes=NUM_CLASSES),
    loss_c=dict(type='MultiLabelSoftMarginLoss'),
    data_preprocessor=PREPROCESSOR,
)
CONFIGS = dict(
    CAMClassifier=dict(type='CAMClassifier', **CAM),
    PuzzleCAM=dict(type='PuzzleCAM', **CAM),
    EncoderDecoder=dict(type='EncoderDecoder', backbone=dict(type='TinyBackbone'), decode_head=DECODE_HEAD),
    CSRM=dict(
        type='CSRM',
        **CAM,
        decode_head=DECODE_HEAD,
        representation_head=dict(type='RepresentationHead', embed_dims=6, **HEAD),
        loss_s=dict(type='PseudoLabelLoss'),
        loss_s2c=dict(type='ActivationConsistencyLoss'),
        loss_u=dict(type='SegmentationConsistencyLoss'),
        loss_m=dict(type='PixelContrastLoss', query_confidence=0.1),
        pseudo_label=dict(fg_threshold=0.6, bg_threshold=0.3, crf=None),
        reliability=dict(alpha=0.5, sigma_s2c=0.1),
        bank_capacity=16,
    ),
)


@pytest.fixture
def build():
    """Build a model by the name of its type, with other settings where given."""

    def build_model(name, **changes):
        # The host's base class builds the preprocessor from MMEngine's registry, in the scope that a Runner sets.
        with MODELS.switch_scope_and_registry('mmseg') as models:
            return models.build(copy.deepcopy(CONFIGS[name] | changes))

    return build_model


@pytest.fixture
def make_batch():
    """Make what a data loader gives: raw BGR pictures of the given sizes, with image-level labels."""

    def make(*sizes):
        sizes = sizes or ((32, 32),) * 4
        samples = []
        for number, size in enumerate(sizes):
            multi_hot = torch.zeros(NUM_CLASSES)
            multi_hot[[number % NUM_CLASSES, (number + 1) % NUM_CLASSES]] = 1
            sample = SegDataSample(metainfo=dict(img_path=f'{number}.jpg', ori_shape=size, img_shape=size))
            sample.set_field(LabelData(multi_hot=multi_hot), 'gt_image_labels', dtype=LabelData)
            samples.append(sample)
        inputs = [torch.randint(0, 256, (3, *size), dtype=torch.uint8) for size in sizes]
        return dict(inputs=inputs, data_samples=samples)

    return make
