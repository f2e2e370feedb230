import logging
import pathlib
import warnings

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmengine.runner import load_checkpoint
from mmseg.models.backbones import MixVisionTransformer
from mmseg.registry import MODELS
from torch import nn

from csrm_plugin.models.backbones import AttentionMixVisionTransformer
from csrm_plugin.models.backbones.mix_transformer import attention_logits
from csrm_plugin.utils import UserError

HOST_CONFIG = 'segformer_mit-b1_8xb2-160k_ade20k-512x512.py'
SMALL = dict(
    embed_dims=8, num_layers=(1, 1, 1, 2), num_heads=(1, 2, 5, 4), strides=(4, 2, 2, 1), sr_ratios=(8, 4, 2, 1)
)


def small(**options):
    torch.manual_seed(0)
    backbone = MODELS.build(dict(type='AttentionMixVisionTransformer', **{**SMALL, **options}))
    backbone.init_weights()
    return backbone.eval()


@pytest.fixture
def images():
    return torch.randn(2, 3, 64, 48, generator=torch.Generator().manual_seed(1))


def test_features_are_those_of_the_host_to_the_last_digit(images):
    ours, host = small(), MixVisionTransformer(**SMALL).eval()
    host.load_state_dict(ours.state_dict())
    features, _ = ours.forward_with_attention(images)
    assert [tuple(feature.shape) for feature in features] == [
        (2, 8, 16, 12),
        (2, 16, 8, 6),
        (2, 40, 4, 3),
        (2, 32, 4, 3),
    ]
    for with_maps, plain, theirs in zip(features, ours(images), host(images)):
        assert torch.equal(with_maps, plain) and torch.equal(plain, theirs)


def test_softmax_of_the_logits_is_what_the_network_attends_to(images, monkeypatch):
    backbone, weights = small(), []
    plain = nn.MultiheadAttention.forward

    def spy(self, query, key, value, **kwargs):
        output = plain(self, query, key, value, need_weights=True, average_attn_weights=False)
        weights.append(output[1])
        return output

    monkeypatch.setattr(nn.MultiheadAttention, 'forward', spy)
    _, logits = backbone.forward_with_attention(images)
    assert logits.shape == (2, 2 * 4, 12, 12) and logits.dtype == torch.float32
    assert logits.std() > 1e-3 and logits.min() < 0  # not yet probabilities
    torch.testing.assert_close(logits.softmax(dim=-1), torch.cat(weights[-2:], dim=1))
    _, last = small(attention_blocks=1).forward_with_attention(images)
    torch.testing.assert_close(last, logits[:, 4:])


def test_logits_of_a_pair_by_hand():
    backbone = small(qkv_bias=False)
    block = backbone.layers[-1][1][0]
    assert block.attn.attn.in_proj_bias is None
    x = torch.randn(1, 3, 32)
    logits = attention_logits(block, x)
    query, key, _ = block.attn.attn.in_proj_weight.split(32)
    normed = block.norm1(x)[0]
    expected = (query @ normed[2])[8:16] @ (key @ normed[1])[8:16] / 8**0.5  # second head
    torch.testing.assert_close(logits[0, 1, 2, 1], expected)


@pytest.mark.parametrize('with_cp', [False, True])
def test_gradients_reach_queries_and_keys_alone(images, with_cp):
    backbone = small(with_cp=with_cp).train()
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # the host leaves the choice of reentrance to torch
        _, logits = backbone.forward_with_attention(images)
    logits.square().mean().backward()
    first, last = (block.attn.attn.in_proj_weight.grad for block in backbone.layers[-1][1])
    assert all(part.abs().sum() > 0 for part in first.split(32))  # its output is what the last block sees
    query, key, value = last.split(32)
    assert query.abs().sum() > 0 and key.abs().sum() > 0 and not value.any()


def test_checkpointed_activations_give_the_same_gradients(images):
    gradients = []
    for with_cp in (False, True):
        backbone = small(with_cp=with_cp, drop_path_rate=0.3).train()
        torch.manual_seed(3)
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            features, logits = backbone.forward_with_attention(images)
        (features[-1].square().mean() + features[0].sum() + logits.square().mean()).backward()
        gradients.append({name: parameter.grad for name, parameter in backbone.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, msg=name)


def test_half_precision_keeps_the_logits_in_float32(images):
    backbone = small()
    plain = backbone.forward_with_attention(images)[1]
    with torch.autocast('cpu', dtype=torch.bfloat16):
        features, logits = backbone.forward_with_attention(images)
    assert features[-1].dtype == torch.bfloat16 and logits.dtype == torch.float32
    torch.testing.assert_close(logits, plain, rtol=0.1, atol=0.1)


def test_nothing_stays_behind_after_a_pass(images):
    backbone = small()
    backbone.forward_with_attention(images)
    with pytest.raises(RuntimeError):
        backbone.forward_with_attention(images[:, :2])
    assert not any(module._forward_pre_hooks for module in backbone.modules())


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(sr_ratios=(8, 4, 2, 2)), r'`model\.backbone\.sr_ratios` must end in 1 .* but ends in 2'),
        (dict(attention_blocks=3), r'`model\.backbone\.attention_blocks` must be 1 to 2 .* but is 3'),
        (dict(attention_blocks=0), r'`model\.backbone\.attention_blocks` must be 1 to 2 .* but is 0'),
        (dict(out_indices=(0, 1)), r'`model\.backbone\.out_indices` must name the last stage, 3.*\(0, 1\)'),
    ],
)
def test_impossible_settings_are_one_line(options, message):
    with pytest.raises(UserError, match=message):
        AttentionMixVisionTransformer(**{**SMALL, **options})


def test_full_size_fits_the_checkpoints_of_the_host():
    import mmseg

    path = next(pathlib.Path(mmseg.__file__).parent.rglob(f'segformer/{HOST_CONFIG}'))
    backbone = Config.fromfile(path).model.backbone
    backbone.pop('init_cfg')
    host = MODELS.build(backbone)
    ours = MODELS.build({**backbone, 'type': 'AttentionMixVisionTransformer', 'strides': (4, 2, 2, 1)})
    shapes = [{name: tensor.shape for name, tensor in module.state_dict().items()} for module in (host, ours)]
    assert shapes[0] == shapes[1]
    assert round(sum(parameter.numel() for parameter in ours.parameters()) / 1e6, 1) == 13.2  # 13.7 with classifier


@pytest.mark.parametrize('kind', ['Pretrained', 'OptionalPretrained'])
def test_pretrained_backbone_loads(kind, tmp_path):
    host = MixVisionTransformer(**SMALL)
    host.init_weights()
    torch.save({'state_dict': host.state_dict()}, tmp_path / 'mit.pth')
    backbone = small(init_cfg=dict(type=kind, checkpoint=str(tmp_path / 'mit.pth')))
    assert all(torch.equal(tensor, host.state_dict()[name]) for name, tensor in backbone.state_dict().items())


def test_whole_segformer_loads_and_its_decoder_is_reported(tmp_path, caplog):
    host = MixVisionTransformer(**SMALL)
    host.init_weights()
    tensors = {f'backbone.{name}': tensor for name, tensor in host.state_dict().items()}
    torch.save({'state_dict': {**tensors, 'decode_head.conv_seg.weight': torch.ones(2)}}, tmp_path / 'segformer.pth')
    network = nn.Module()
    network.backbone = small()
    load_checkpoint(network, str(tmp_path / 'segformer.pth'), logger=logging.getLogger('of_this_test'))
    assert 'unexpected key in source state_dict: decode_head.conv_seg.weight' in caplog.text
    assert 'missing keys' not in caplog.text
    for name, tensor in network.backbone.state_dict().items():
        assert torch.equal(tensor, host.state_dict()[name])
    prefixed = small(
        init_cfg=dict(type='OptionalPretrained', checkpoint=str(tmp_path / 'segformer.pth'), prefix='backbone')
    )
    assert torch.equal(prefixed.layers[3][2].weight, host.layers[3][2].weight)


def test_norm_layers_can_be_fixed_and_the_optimiser_takes_the_rest(caplog):
    init_default_scope('mmseg')
    network = nn.Module()
    network.backbone = small(norm_cfg=dict(type='LN', eps=1e-6, requires_grad=False))
    fixed = {name for name, parameter in network.named_parameters() if not parameter.requires_grad}
    norms = {
        f'{name}.{which}'
        for name, module in network.named_modules()
        if isinstance(module, nn.LayerNorm)
        for which in ('weight', 'bias')
    }
    # Each patch embedding and stage has one, each block two, and a third where it shrinks its keys.
    assert fixed == norms and len(norms) == 2 * (4 * 2 + 5 * 2 + 3)
    settings = dict(
        type='OptimWrapper',
        constructor='TrainableOptimWrapperConstructor',
        optimizer=dict(type='AdamW', lr=6e-5, weight_decay=0.01),
        paramwise_cfg=dict(custom_keys=dict(cam_head=dict(lr_mult=10))),
    )
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        optimizer = build_optim_wrapper(network, settings).optimizer
    given = {id(parameter) for group in optimizer.param_groups for parameter in group['params']}
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    assert given == {id(parameter) for parameter in trained}
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
