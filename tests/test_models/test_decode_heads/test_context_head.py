import pytest
import torch
from mmseg.registry import MODELS
from torch.nn import functional as F

from csrm_plugin.models.decode_heads import ContextHead
from csrm_plugin.utils import UserError


def stages(*channels):
    return tuple(torch.randn(2, width, 16 // 2**index, 12 // 2**index) for index, width in enumerate(channels))


def test_all_stages_at_the_finest_size():
    head = MODELS.build(dict(type='ContextHead', in_channels=[4, 6, 8])).eval()
    features = stages(4, 6, 8)
    context = head(features)
    assert context.shape == (2, 15, 16, 12) and context.min() == 0
    weight = head.fuse.conv.weight
    assert weight.shape == (15, 18, 1, 1) and head.fuse.conv.bias is None
    total = 0
    for feature, part in zip(features, weight.split([4, 6, 8], dim=1)):
        total += F.interpolate(F.conv2d(feature, part), (16, 12), mode='bilinear', align_corners=False)
    torch.testing.assert_close(context, (total / (1 + 1e-5) ** 0.5).relu())  # a fresh norm divides by sqrt(1 + eps)


def test_some_stages_in_any_order():
    head, features = ContextHead([8, 6], channels=3, in_index=(2, 1)).eval(), stages(4, 6, 8)
    assert head(features).shape == (2, 3, 8, 6)
    shuffled = (torch.zeros(1), features[1], features[2])  # the first is not looked at
    assert torch.equal(head(shuffled), head(features))


def test_norm_is_that_of_the_config():
    head = ContextHead([4], channels=6, norm_cfg=dict(type='GN', num_groups=2))
    assert isinstance(head.fuse.norm, torch.nn.GroupNorm)
    assert isinstance(ContextHead([4]).fuse.norm, torch.nn.BatchNorm2d)


def test_stages_that_do_not_fit_are_one_line():
    with pytest.raises(
        UserError, match=r'stages of \[4, 6\] channels, but `model\.context_head\.in_channels` is \[4, 8\]'
    ):
        ContextHead([4, 8])(stages(4, 6))
    with pytest.raises(UserError, match='one entry for each stage, but have 2 and 1'):
        ContextHead([4, 8], in_index=[0])
