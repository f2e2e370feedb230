import pytest
import torch

from csrm_plugin.models.decode_heads import CAMHead
from csrm_plugin.utils import UserError


def test_mean_of_the_cam_is_the_logit_of_the_pooled_features():
    head = CAMHead(6, 3)
    feature = torch.randn(2, 6, 4, 5)
    cam = head((torch.zeros(2, 1, 8, 10), feature))
    assert cam.shape == (2, 3, 4, 5)
    pooled = feature.mean(dim=(2, 3)) @ head.conv.weight.flatten(1).T
    torch.testing.assert_close(head.classify(cam), pooled)
    torch.testing.assert_close(head(feature), cam)


def test_in_index():
    head, features = CAMHead(6, 3, in_index=0), (torch.randn(1, 6, 4, 4), torch.randn(1, 9, 2, 2))
    torch.testing.assert_close(head(features), head.conv(features[0]))


def test_no_bias_and_small_weights():
    head = CAMHead(500, 40)
    head.init_weights()
    assert head.conv.bias is None and abs(head.conv.weight.std().item() - 0.01) < 0.001


def test_half_precision_is_pooled_in_float32():
    cam = torch.full((1, 1, 300, 300), 3.0, dtype=torch.float16)
    for pooling in ('avg', 'max'):
        logits = CAMHead(1, 1, pooling=pooling).classify(cam)
        assert logits.dtype == torch.float32 and logits.item() == 3


def test_max_pooling():
    cam = torch.tensor([[[[1.0, -2], [5, 0]], [[-3, -4], [-5, -1]]]])
    assert CAMHead(6, 2, pooling='max').classify(cam).tolist() == [[5, -1]]
    assert CAMHead(6, 2).classify(cam).tolist() == [[1, -3.25]]


def test_unknown_pooling():
    with pytest.raises(UserError, match="'avg' or 'max', but is 'sum'"):
        CAMHead(6, 2, pooling='sum')
