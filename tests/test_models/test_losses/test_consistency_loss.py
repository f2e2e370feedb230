import math

import pytest
import torch

from csrm_plugin import functional as F
from csrm_plugin.models.losses import ActivationConsistencyLoss, SegmentationConsistencyLoss
from csrm_plugin.utils import UserError

LABELS = torch.tensor([[1, 0, 1], [0, 1, 1]])


def test_activation_consistency_equals_the_function():
    cam, bg, probs = torch.randn(2, 3, 4, 4), torch.randn(2, 8, 8), torch.randn(2, 4, 8, 8).softmax(dim=1)
    valid = torch.rand(2, 8, 8) < 0.7
    for align_corners in (False, True):
        expected = F.activation_consistency_loss(cam, bg, probs, 0.4, align_corners, valid)
        loss = ActivationConsistencyLoss(align_corners=align_corners, loss_weight=2)(cam, bg, probs, 0.4, valid, LABELS)
        torch.testing.assert_close(loss, 2 * expected)


def test_activation_consistency_with_a_threshold_worked_by_hand():
    """Two positions, CAM 4 and 1, that is 1 and 0.25 of the maximum; background 0.5, temperature 0.25."""
    cam, bg = torch.tensor([[[[4.0, 1.0]]]]), torch.randn(1, 1, 2)
    probs, valid = torch.tensor([[[[0.1, 0.8]], [[0.9, 0.2]]]]), torch.ones(1, 1, 2, dtype=torch.bool)
    loss = ActivationConsistencyLoss(background=0.5, temperature=0.25)
    # Logits 2 | 4 with target 1, and 2 | 1 with target 0.
    expected = (math.log(1 + math.exp(-2)) + math.log(1 + math.exp(-1))) / 2
    one = torch.ones(1, 1)
    assert loss(cam, bg, probs, 0.5, valid, one).item() == pytest.approx(expected)
    assert loss(3 * cam, bg, probs, 0.5, valid, one).item() == pytest.approx(expected)
    plain = ActivationConsistencyLoss()
    assert plain(3 * cam, bg, probs, 0.5, valid, one).item() != pytest.approx(
        plain(cam, bg, probs, 0.5, valid, one).item()
    )


def test_activation_consistency_with_a_threshold_teaches_own_classes_only():
    cam, bg = torch.randn(2, 3, 4, 4, requires_grad=True), torch.randn(2, 8, 8, requires_grad=True)
    probs = F.restrict_probs(torch.randn(2, 4, 8, 8).softmax(dim=1), LABELS)
    loss = ActivationConsistencyLoss(background=0.3)
    loss(cam, bg, probs, 0.0, torch.ones(2, 8, 8, dtype=torch.bool), LABELS).backward()
    assert bg.grad is None
    assert (cam.grad.abs().sum(dim=(2, 3)) > 0).int().equal(LABELS.int())
    assert (cam.grad[cam < 0] != 0).any()  # no ReLU before the term


@pytest.mark.parametrize('wrong', [dict(background=1.5), dict(background=-0.1), dict(background=0.3, temperature=0)])
def test_settings_are_checked(wrong):
    with pytest.raises(UserError, match=r'`model\.loss_s2c\.(background|temperature)`'):
        ActivationConsistencyLoss(**wrong)


def test_segmentation_consistency_equals_the_function():
    logits, probs = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8).softmax(dim=1)
    entropy, valid = torch.rand(2, 8, 8), torch.rand(2, 8, 8) < 0.7
    expected = F.segmentation_consistency_loss(logits, probs, 0.3, entropy, valid)
    loss = SegmentationConsistencyLoss(loss_weight=0.5)(logits, probs, 0.3, entropy, valid)
    torch.testing.assert_close(loss, 0.5 * expected)
