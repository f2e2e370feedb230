import torch

from csrm_plugin import functional as F
from csrm_plugin.models.losses import ActivationConsistencyLoss, SegmentationConsistencyLoss


def test_activation_consistency_equals_the_function():
    cam, bg, probs = torch.randn(2, 3, 4, 4), torch.randn(2, 8, 8), torch.randn(2, 4, 8, 8).softmax(dim=1)
    valid = torch.rand(2, 8, 8) < 0.7
    for align_corners in (False, True):
        expected = F.activation_consistency_loss(cam, bg, probs, 0.4, align_corners, valid)
        loss = ActivationConsistencyLoss(align_corners=align_corners, loss_weight=2)(cam, bg, probs, 0.4, valid)
        torch.testing.assert_close(loss, 2 * expected)


def test_segmentation_consistency_equals_the_function():
    logits, probs = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8).softmax(dim=1)
    entropy, valid = torch.rand(2, 8, 8), torch.rand(2, 8, 8) < 0.7
    expected = F.segmentation_consistency_loss(logits, probs, 0.3, entropy, valid)
    loss = SegmentationConsistencyLoss(loss_weight=0.5)(logits, probs, 0.3, entropy, valid)
    torch.testing.assert_close(loss, 0.5 * expected)
