import pytest
import torch
from mmseg.registry import MODELS

from csrm_plugin.models.decode_heads import AffinityHead, AttentionAffinityHead
from csrm_plugin.utils import UserError


def test_a_pair_by_hand():
    head = AffinityHead(2)
    with torch.no_grad():
        head.conv.weight.copy_(torch.tensor([2.0, -1]).view(1, 2, 1, 1))
        head.conv.bias.fill_(0.5)
    logits = torch.tensor([[[[1.0, 3], [5, 0]], [[2.0, 1], [-1, 4]]]])
    affinity = head((), logits)
    # pair (0, 1): maps of both directions 3, 5 and 1, -1; their means are 4 and 0
    expected = torch.sigmoid(torch.tensor([[[2 * 1 - 2 + 0.5, 2 * 4 - 0 + 0.5], [2 * 4 - 0 + 0.5, 2 * 0 - 4 + 0.5]]]))
    torch.testing.assert_close(affinity, expected)


def test_symmetric_in_range_and_the_mean_at_the_start():
    head = MODELS.build(dict(type='AffinityHead', num_maps=16))
    head.init_weights()
    logits = torch.randn(2, 16, 9, 9) * 3
    affinity = head((), logits)
    assert affinity.shape == (2, 9, 9) and affinity.dtype == torch.float32
    assert torch.equal(affinity, affinity.transpose(1, 2))
    assert affinity.min() >= 0 and affinity.max() <= 1
    symmetric = ((logits + logits.transpose(2, 3)) / 2).mean(dim=1)
    torch.testing.assert_close(affinity, symmetric.sigmoid())


def test_half_precision_gives_float32():
    head, logits = AffinityHead(4), torch.full((1, 4, 3, 3), 12.0, dtype=torch.float16)
    head.init_weights()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        affinity = head((), logits)
        features = torch.randn(1, 6, 2, 2, dtype=torch.bfloat16)
        own = AttentionAffinityHead(6, 8, 2)((features,))
    assert affinity.dtype == own.dtype == torch.float32
    assert (affinity < 1).all()  # 1 in half precision
    torch.testing.assert_close(affinity, torch.full_like(affinity, 12.0).sigmoid())


def test_gradients_reach_maps_and_weights():
    head, logits = AffinityHead(3), torch.randn(1, 3, 4, 4, requires_grad=True)
    head((), logits).square().sum().backward()
    assert logits.grad.abs().sum() > 0 and head.conv.weight.grad.abs().sum() > 0


def test_maps_that_do_not_fit_are_one_line():
    head = AffinityHead(16)
    assert head.needs_attention
    with pytest.raises(UserError, match=r'needs a backbone with attention maps.*AttentionAffinityHead'):
        head((torch.zeros(1, 2, 2, 2),))
    with pytest.raises(UserError, match=r'gives 8 attention maps .* `model\.affinity_head\.num_maps` is 16'):
        head((), torch.zeros(1, 8, 4, 4))
    with pytest.raises(UserError, match='`num_maps` of AffinityHead must be 1 or more, but got 0'):
        AffinityHead(0)
    with pytest.raises(UserError, match=r'`num_heads` of AttentionAffinityHead must divide `embed_dims`.*3 and 8'):
        AttentionAffinityHead(6, 8, 3)


def test_own_attention_is_that_of_a_loop():
    torch.manual_seed(0)
    head = MODELS.build(dict(type='AttentionAffinityHead', in_channels=6, embed_dims=8, num_heads=2, in_index=1))
    head.init_weights()
    assert not head.needs_attention
    with torch.no_grad():
        head.conv.weight.copy_(torch.tensor([3.0, -2]).view(1, 2, 1, 1))
    feature = torch.randn(1, 6, 2, 3) * 4
    affinity = head((torch.zeros(1, 5, 4, 6), feature, torch.zeros(1, 7, 1, 1)), None)
    assert affinity.shape == (1, 6, 6)
    positions = feature[0].flatten(1).T
    normed = (positions - positions.mean(1, keepdim=True)) / (
        positions.var(1, unbiased=False, keepdim=True) + 1e-5
    ).sqrt()
    query = normed @ head.query.weight[:, :, 0, 0].T + head.query.bias
    key = normed @ head.key.weight[:, :, 0, 0].T + head.key.bias
    for a in range(6):
        for b in range(6):
            value = 0
            for index, weight in enumerate((3.0, -2.0)):
                part = slice(4 * index, 4 * index + 4)
                value += weight * (query[a, part] @ key[b, part] + query[b, part] @ key[a, part]) / 2 / 4**0.5
            torch.testing.assert_close(affinity[0, a, b], value.sigmoid())


def test_own_attention_teaches_features_queries_and_keys():
    head, feature = AttentionAffinityHead(6, 8, 2), torch.randn(1, 6, 2, 2, requires_grad=True)
    head.init_weights()
    head((feature,)).square().sum().backward()
    for tensor in (feature, head.query.weight, head.key.weight, head.norms[0].weight, head.conv.weight):
        assert tensor.grad.abs().sum() > 0


def test_several_stages_meet_at_the_finest():
    head = AttentionAffinityHead([4, 6], 8, 2, in_index=[0, 2])
    features = (torch.randn(2, 4, 4, 6), torch.randn(2, 5, 4, 6), torch.randn(2, 6, 2, 3, requires_grad=True))
    affinity = head(features)
    assert head.grid(features) == (4, 6) and affinity.shape == (2, 24, 24)
    affinity.sum().backward()
    assert features[2].grad.abs().sum() > 0 and head.norms[0].weight.grad.abs().sum() > 0
    # The coarse stage alone would give the same at positions that it does not tell apart.
    flat = torch.randn(1, 6, 1, 1).expand(1, 6, 2, 3)
    other = AttentionAffinityHead([6, 6], 8, 2, in_index=[0, 1])
    same = other((flat.repeat(1, 1, 2, 2), flat))
    torch.testing.assert_close(same, same[:, :1, :1].expand_as(same))


def test_as_many_channels_as_stages():
    with pytest.raises(UserError, match=r'in_channels.*in_index.*2 and 1'):
        AttentionAffinityHead([4, 6], 8, 2, in_index=[0])
