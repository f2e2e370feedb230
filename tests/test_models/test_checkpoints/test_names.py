"""The released transformer is written out here, names and computation, from the paper's description of its layers."""

import pytest
import torch
from torch.nn import functional as F

from csrm_plugin.models.backbones import AttentionMixVisionTransformer
from csrm_plugin.models.checkpoints.convert import convert, detect_kind
from csrm_plugin.utils import UserError

DIMS, DEPTHS, HEADS, RATIOS = (4, 8), (1, 2), (1, 2), (2, 1)
PATCHES, STRIDES = (7, 3), (4, 2)


def released_mit(dims=DIMS, depths=DEPTHS, patches=PATCHES, ratios=RATIOS, with_head=True):
    """Random tensors under the released names."""
    tensors, into = {}, 3

    def layer(name, *shape):
        tensors[f'{name}.weight'] = torch.randn(shape) * (shape[0] / torch.Size(shape).numel()) ** 0.5
        tensors[f'{name}.bias'] = torch.randn(shape[0]) * 0.1

    def norm(name, width):
        tensors[f'{name}.weight'], tensors[f'{name}.bias'] = torch.rand(width) + 0.5, torch.randn(width) * 0.1

    for stage, (width, depth, patch, ratio) in enumerate(zip(dims, depths, patches, ratios), start=1):
        layer(f'patch_embed{stage}.proj', width, into, patch, patch)
        norm(f'patch_embed{stage}.norm', width)
        for index in range(depth):
            name = f'block{stage}.{index}'
            norm(f'{name}.norm1', width)
            norm(f'{name}.norm2', width)
            layer(f'{name}.attn.q', width, width)
            layer(f'{name}.attn.kv', 2 * width, width)
            layer(f'{name}.attn.proj', width, width)
            if ratio > 1:
                layer(f'{name}.attn.sr', width, width, ratio, ratio)
                norm(f'{name}.attn.norm', width)
            layer(f'{name}.mlp.fc1', 4 * width, width)
            layer(f'{name}.mlp.dwconv.dwconv', 4 * width, 1, 3, 3)
            layer(f'{name}.mlp.fc2', width, 4 * width)
        norm(f'norm{stage}', width)
        into = width
    if with_head:
        layer('head', 1000, into)
    return tensors


def reference(tensors, x):
    """Outputs of the stages, computed from the released names alone."""

    def get(name):
        return tensors[f'{name}.weight'], tensors[f'{name}.bias']

    def norm(name, x):
        return F.layer_norm(x, x.shape[-1:], *get(name), eps=1e-6)

    def as_map(x, size):
        return x.transpose(1, 2).unflatten(2, size)

    def attend(name, x, size, heads, ratio):
        query, source = F.linear(x, *get(f'{name}.q')), x
        if ratio > 1:
            source = F.conv2d(as_map(x, size), *get(f'{name}.sr'), stride=ratio).flatten(2).transpose(1, 2)
            source = F.layer_norm(source, source.shape[-1:], *get(f'{name}.norm'), eps=1e-6)
        key, value = F.linear(source, *get(f'{name}.kv')).chunk(2, dim=-1)
        parts = []
        for q, k, v in zip(*(part.chunk(heads, dim=-1) for part in (query, key, value))):
            parts.append((q @ k.transpose(1, 2) / q.shape[-1] ** 0.5).softmax(dim=-1) @ v)
        return F.linear(torch.cat(parts, dim=-1), *get(f'{name}.proj'))

    outputs = []
    for stage in range(1, len(DIMS) + 1):
        x = F.conv2d(x, *get(f'patch_embed{stage}.proj'), stride=STRIDES[stage - 1], padding=PATCHES[stage - 1] // 2)
        size, x = x.shape[2:], x.flatten(2).transpose(1, 2)
        x = norm(f'patch_embed{stage}.norm', x)
        for index in range(DEPTHS[stage - 1]):
            name = f'block{stage}.{index}'
            x = x + attend(f'{name}.attn', norm(f'{name}.norm1', x), size, HEADS[stage - 1], RATIOS[stage - 1])
            hidden = as_map(F.linear(norm(f'{name}.norm2', x), *get(f'{name}.mlp.fc1')), size)
            hidden = F.conv2d(hidden, *get(f'{name}.mlp.dwconv.dwconv'), padding=1, groups=hidden.shape[1])
            x = x + F.linear(F.gelu(hidden).flatten(2).transpose(1, 2), *get(f'{name}.mlp.fc2'))
        x = as_map(norm(f'norm{stage}', x), size)
        outputs.append(x)
    return outputs


def our_mit():
    return AttentionMixVisionTransformer(
        embed_dims=4,
        num_stages=2,
        num_layers=DEPTHS,
        num_heads=HEADS,
        patch_sizes=PATCHES,
        strides=STRIDES,
        sr_ratios=RATIOS,
        out_indices=(0, 1),
    ).eval()


def test_converted_weights_compute_what_the_released_network_does():
    release, backbone, images = released_mit(), our_mit(), torch.rand(2, 3, 32, 24)
    result = convert(release)
    assert (result.kind, result.family, result.depth, result.num_classes) == ('mit', 'MiT', None, None)
    assert set(result.dropped) == {'head.weight', 'head.bias'}
    backbone.load_state_dict(result.state_dict)
    with torch.no_grad():
        for ours, theirs in zip(backbone(images), reference(release, images)):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_full_size_names_and_shapes():
    with torch.device('meta'):
        release = released_mit((64, 128, 320, 512), (2, 2, 2, 2), (7, 3, 3, 3), (8, 4, 2, 1))
    # The host's cannot be built without storage.
    backbone = AttentionMixVisionTransformer(
        embed_dims=64, num_layers=(2, 2, 2, 2), num_heads=(1, 2, 5, 8), strides=(4, 2, 2, 1)
    )
    converted = convert(release).state_dict
    assert {k: v.shape for k, v in converted.items()} == {k: v.shape for k, v in backbone.state_dict().items()}


def test_every_source_is_accounted_for():
    release = {f'backbone.{key}': tensor for key, tensor in released_mit().items()}
    release['decode_head.linear_c1.proj.weight'] = torch.ones(1)
    result = convert(release)
    sources = [source for sources in result.mapped.values() for source in sources.split(' + ')]
    assert sorted([*sources, *result.dropped]) == sorted(release)
    assert result.dropped['decode_head.linear_c1.proj.weight'] == 'not of the backbone'
    our_mit().load_state_dict({key.removeprefix('backbone.'): value for key, value in result.state_dict.items()})
    assert all(key.startswith('backbone.layers.') for key in result.state_dict)
    (name, count, example), *dropped = result.groups()
    assert (name, count) == ('backbone', len(result.state_dict)) and 'patch_embed1.proj.weight -> ' in example
    assert dropped == [
        ('dropped: classifier of ImageNet', 2, 'backbone.head.weight'),
        ('dropped: not of the backbone', 1, 'decode_head.linear_c1.proj.weight'),
    ]


@pytest.mark.parametrize('prefix', ['', 'backbone.', 'encoder.'])
def test_kind_is_told_by_the_names(prefix):
    assert detect_kind({prefix + key: tensor for key, tensor in released_mit().items()}) == 'mit'


def test_wrong_kind_or_depth_is_one_line():
    with pytest.raises(UserError, match=r'not of kind mit\. Its first keys: conv1\.weight'):
        convert({'conv1.weight': torch.ones(1)}, kind='mit')
    with pytest.raises(UserError, match='A MiT has no depth'):
        convert(released_mit(), depth=50)


def test_released_weights_start_a_backbone(tmp_path):
    release = released_mit()
    torch.save(release, tmp_path / 'mit.pth')
    backbone = our_mit()
    backbone.init_cfg = dict(type='OptionalPretrained', checkpoint=str(tmp_path / 'mit.pth'))
    backbone.init_weights()
    assert torch.equal(backbone.layers[1][2].weight, release['norm2.weight'])
    assert torch.equal(backbone.layers[0][1][0].attn.attn.in_proj_weight[4:], release['block1.0.attn.kv.weight'])
