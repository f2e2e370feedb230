import pytest
import torch
from mmseg.registry import MODELS

import csrm_plugin  # noqa: F401
from csrm_plugin.models.backbones import WSSSResNeSt

STRIDE_16 = dict(strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2))
SMALL = dict(base_channels=8, stem_channels=8)


@pytest.mark.parametrize(('depth', 'millions'), [(50, 27.5), (101, 48.3), (200, 70.2), (269, 110.9)])
def test_parameter_count_is_the_published_one(depth, millions):
    with torch.device('meta'):
        backbone = MODELS.build(dict(type='WSSSResNeSt', depth=depth, **STRIDE_16))
    classifier = 2048 * 1000 + 1000
    count = sum(parameter.numel() for parameter in backbone.parameters()) + classifier
    assert round(count / 1e6, 1) == millions


def test_stem_follows_the_depth_unless_it_is_given():
    with torch.device('meta'):
        channels = [WSSSResNeSt(depth).stem[6].out_channels for depth in (50, 101, 269)]
        given = WSSSResNeSt(101, stem_channels=64).stem[6].out_channels
    assert channels == [64, 128, 128]
    assert given == 64


def test_unknown_depth_names_the_known_ones():
    with pytest.raises(ValueError, match=r'50, 101, 152, 200, 269, but got 18'):
        WSSSResNeSt(18)


@pytest.mark.parametrize(
    ('strides', 'dilations', 'sides'),
    [((1, 2, 2, 1), (1, 1, 1, 2), (16, 8, 4, 4)), ((1, 2, 1, 1), (1, 1, 2, 4), (16, 8, 8, 8))],
)
def test_output_strides(strides, dilations, sides):
    backbone = WSSSResNeSt(50, strides=strides, dilations=dilations, **SMALL)
    backbone.eval()  # the host's returns None
    with torch.no_grad():
        outputs = backbone(torch.rand(1, 3, 64, 64))
    assert [tuple(output.shape) for output in outputs] == [
        (1, 32 * 2**stage, side, side) for stage, side in enumerate(sides)
    ]


def test_first_block_of_a_dilated_stage_keeps_the_dilation_before():
    backbone = WSSSResNeSt(50, strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4), **SMALL)
    assert [block.conv2.conv.dilation[0] for block in backbone.layer3] == [1, 2, 2, 2, 2, 2]
    assert [block.conv2.conv.dilation[0] for block in backbone.layer4] == [2, 4, 4]


def test_only_first_blocks_pool_and_a_dilated_stage_pools_with_stride_one():
    backbone = WSSSResNeSt(50, **STRIDE_16, **SMALL)
    stages = [backbone.layer1, backbone.layer2, backbone.layer3, backbone.layer4]
    assert [[block.avg_down_stride for block in stage] for stage in stages] == [
        [False, False, False],
        [True, False, False, False],
        [True, False, False, False, False, False],
        [True, False, False],
    ]
    assert [stage[0].avd_layer.stride for stage in stages[1:]] == [2, 2, 1]


def test_pooling_of_a_dilated_stage_changes_its_output_and_can_be_left_out():
    pooled = WSSSResNeSt(50, **STRIDE_16, **SMALL)
    plain = WSSSResNeSt(50, pool_dilated_stages=False, **STRIDE_16, **SMALL)
    plain.load_state_dict(pooled.state_dict())
    pooled.eval()
    plain.eval()
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        with_pooling, without = pooled(images), plain(images)
    assert torch.equal(with_pooling[2], without[2])
    assert not torch.allclose(with_pooling[3], without[3])
