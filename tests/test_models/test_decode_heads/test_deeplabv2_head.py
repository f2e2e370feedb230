import pytest
import torch
import torch.nn.functional as F
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

from csrm_plugin.models.decode_heads import DeepLabV2Head


def make(**changes):
    return MODELS.build(
        {'type': 'DeepLabV2Head', 'in_channels': 6, 'num_classes': 5, 'dilations': (1, 2, 6), **changes}
    )


def samples(labels):
    found = []
    for row in labels:
        sample = SegDataSample()
        sample.gt_sem_seg = PixelData(data=row[None])
        found.append(sample)
    return found


def test_is_the_sum_of_dilated_convolutions():
    head, feature = make(), torch.randn(2, 6, 7, 9)
    maps = head((torch.zeros(2, 3, 14, 18), feature))
    assert isinstance(head, DeepLabV2Head) and maps.shape == (2, 5, 7, 9)
    state = head.state_dict()
    expected = sum(
        F.conv2d(feature, state[f'conv_seg.{i}.weight'], state[f'conv_seg.{i}.bias'], padding=d, dilation=d)
        for i, d in enumerate((1, 2, 6))
    )
    torch.testing.assert_close(maps, expected)
    assert len(state) == 6  # and nothing else: no normalisation, no second classifier


def test_a_single_position_sees_neighbours_at_the_dilations_alone():
    head = make(in_channels=1, num_classes=3, dilations=(2, 3))
    feature = torch.zeros(1, 1, 9, 9)
    feature[..., 4, 4] = 1
    with torch.no_grad():
        for conv in head.conv_seg:
            conv.weight.fill_(1)
            conv.bias.zero_()
    reached = head((feature,))[0, 0].nonzero().tolist()
    square = {(4 + d * y, 4 + d * x) for d in (2, 3) for y in (-1, 0, 1) for x in (-1, 0, 1)}
    assert {tuple(position) for position in reached} == square


def test_default_is_aspp_l_and_starts_small():
    head = make(in_channels=64, num_classes=21, dilations=(6, 12, 18, 24))
    assert [conv.dilation[0] for conv in DeepLabV2Head(8, 21).conv_seg] == [6, 12, 18, 24]
    head.init_weights()
    for conv in head.conv_seg:
        assert abs(conv.weight.std().item() - 0.01) < 0.001 and abs(conv.weight.mean().item()) < 0.001
        assert not conv.bias.any()


def test_loss_reaches_every_parameter_and_ignores_255():
    head = make(loss_decode=dict(type='CrossEntropyLoss', avg_non_ignore=True))
    feature = torch.randn(2, 6, 4, 4, requires_grad=True)
    labels = torch.randint(0, 5, (2, 16, 16))
    labels[:, 8:] = 255
    losses = head.loss((feature,), samples(labels), None)
    logits = F.interpolate(head((feature,)), (16, 16), mode='bilinear', align_corners=False)
    torch.testing.assert_close(losses['loss_ce'], F.cross_entropy(logits, labels, ignore_index=255))
    losses['loss_ce'].backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in head.parameters())
    assert feature.grad.any()


def test_predicts_at_the_size_of_the_input():
    maps = make().predict((torch.randn(1, 6, 4, 5),), [dict(img_shape=(32, 40))], {})
    assert maps.shape == (1, 5, 32, 40)


def test_dropout_is_off_unless_asked_for():
    feature = (torch.ones(1, 6, 4, 4),)
    head = make()
    assert head.dropout is None
    torch.testing.assert_close(head.train()(feature), head.eval()(feature))
    head = make(dropout_ratio=0.5)
    assert not torch.equal(head.train()(feature), head.eval()(feature))


@pytest.mark.parametrize('dilations', [(), (0, 6)])
def test_wrong_dilations_are_refused(dilations):
    with pytest.raises(ValueError, match='`dilations`'):
        DeepLabV2Head(6, 5, dilations=dilations)
