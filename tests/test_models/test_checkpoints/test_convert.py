"""Published key names are written out here by loops of their own, from the structure of the published networks."""

import argparse

import pytest
import torch
from mmseg.models.decode_heads import DepthwiseSeparableASPPHead
from torch import nn
from torch.nn import functional as F

from csrm_plugin.models.backbones import WSSSResNeSt
from csrm_plugin.models.checkpoints.convert import convert, detect_kind, to_original
from csrm_plugin.models.checkpoints.io import read_checkpoint, unwrap_state_dict
from csrm_plugin.models.decode_heads import CAMHead, RepresentationHead
from csrm_plugin.utils import MissingFileError, UserError

BLOCKS_50 = (3, 4, 6, 3)
WIDTH, STEM_WIDTH = 8, 4  # 64 and 32 in the released ResNeSt-50
OUT, LOW = 8 * WIDTH * 4, WIDTH * 4
ASPP, LOW_PROJECTED, CLASSES = 10, 6, 20


class Names(dict):
    """Collects random tensors under published names."""

    def conv(self, name, out, into, kernel, bias=False):
        self[f'{name}.weight'] = torch.randn(out, into, kernel, kernel) * (into * kernel**2) ** -0.5
        if bias:
            self[f'{name}.bias'] = torch.randn(out)

    def norm(self, name, channels, group_norm=False):
        self[f'{name}.weight'] = torch.rand(channels) + 0.5
        self[f'{name}.bias'] = torch.randn(channels) * 0.1
        if not group_norm:
            self[f'{name}.running_mean'] = torch.randn(channels) * 0.1
            self[f'{name}.running_var'] = torch.rand(channels) + 0.5
            self[f'{name}.num_batches_tracked'] = torch.tensor(7)


def released_resnest(blocks=BLOCKS_50, width=WIDTH, stem_width=STEM_WIDTH, with_fc=True):
    """The tensors of a ResNeSt release: deep stem, radix 2, one group, average pooling before the shortcut."""
    names = Names()
    names.conv('conv1.0', stem_width, 3, 3)
    names.norm('conv1.1', stem_width)
    names.conv('conv1.3', stem_width, stem_width, 3)
    names.norm('conv1.4', stem_width)
    names.conv('conv1.6', 2 * stem_width, stem_width, 3)
    names.norm('bn1', 2 * stem_width)
    into = 2 * stem_width
    for stage, count in enumerate(blocks):
        planes = width * 2**stage
        attention = max(planes * 2 // 4, 32)
        for block in range(count):
            name = f'layer{stage + 1}.{block}'
            names.conv(f'{name}.conv1', planes, into, 1)
            names.norm(f'{name}.bn1', planes)
            names.conv(f'{name}.conv2.conv', 2 * planes, planes // 2, 3)
            names.norm(f'{name}.conv2.bn0', 2 * planes)
            names.conv(f'{name}.conv2.fc1', attention, planes, 1, bias=True)
            names.norm(f'{name}.conv2.bn1', attention)
            names.conv(f'{name}.conv2.fc2', 2 * planes, attention, 1, bias=True)
            names.conv(f'{name}.conv3', 4 * planes, planes, 1)
            names.norm(f'{name}.bn3', 4 * planes)
            if block == 0:
                names.conv(f'{name}.downsample.1', 4 * planes, into, 1)
                names.norm(f'{name}.downsample.2', 4 * planes)
            into = 4 * planes
    if with_fc:
        names['fc.weight'], names['fc.bias'] = torch.randn(1000, into), torch.randn(1000)
    return names


def released_resnet(blocks=BLOCKS_50, width=WIDTH):
    """The tensors of torchvision's ResNet with bottlenecks, without its classifier."""
    names = Names()
    names.conv('conv1', width, 3, 7)
    names.norm('bn1', width)
    into = width
    for stage, count in enumerate(blocks):
        planes = width * 2**stage
        for block in range(count):
            name = f'layer{stage + 1}.{block}'
            for layer, (channels, inputs, kernel) in enumerate(
                [(planes, into, 1), (planes, planes, 3), (4 * planes, planes, 1)], start=1
            ):
                names.conv(f'{name}.conv{layer}', channels, inputs, kernel)
                names.norm(f'{name}.bn{layer}', channels)
            if block == 0:
                names.conv(f'{name}.downsample.0', 4 * planes, into, 1)
                names.norm(f'{name}.downsample.1', 4 * planes)
            into = 4 * planes
    return names


def with_prefix(names, prefix):
    return {prefix + name: tensor for name, tensor in names.items()}


def published(kind, body=None, **options):
    """A checkpoint of the given kind around a backbone."""
    body = released_resnest(with_fc=kind == 'resnest') if body is None else body
    if kind == 'resnest':
        return body
    classifier = {'classifier.weight': torch.randn(CLASSES, OUT, 1, 1)}
    if kind == 'p-noc':
        return {**with_prefix(body, 'backbone.'), **classifier}
    if kind == 'csrm':
        return {**with_prefix(body, 'backbone.'), **classifier, **csrm_heads(**options)}
    copies = {}  # the stages are views of the same modules: stem, norm, ReLU, pooling; then one stage each
    for name, tensor in body.items():
        if name.startswith('layer'):
            copies[f'stage{int(name[5]) + 1}.0{name[6:]}'] = tensor
        elif name.startswith('conv1'):
            copies[f'stage1.0{name[5:]}'] = tensor
        else:
            copies[f'stage1.1{name[3:]}'] = tensor
    return {**with_prefix(body, 'model.'), **copies, **classifier}


def csrm_heads(group_norm=True, represent=True):
    """ASPP, projection of the low-level features, decoder and representation branch of the published CSRM."""
    names = Names()
    for branch, kernel in enumerate((1, 3, 3, 3), start=1):
        names.conv(f'aspp.aspp{branch}.atrous_conv', ASPP, OUT, kernel)
        names.norm(f'aspp.aspp{branch}.bn', ASPP, group_norm)
    names.conv('aspp.global_avg_pool.1', ASPP, OUT, 1)
    names.norm('aspp.global_avg_pool.2', ASPP, group_norm)
    names.conv('aspp.conv1', ASPP, 5 * ASPP, 1)
    names.norm('aspp.bn1', ASPP, group_norm)
    names.conv('project.0', LOW_PROJECTED, LOW, 1)
    names.norm('project.1', LOW_PROJECTED, group_norm)
    names.conv('decoder.0', ASPP, ASPP + LOW_PROJECTED, 3)
    names.norm('decoder.1', ASPP, group_norm)
    names.conv('decoder.4', ASPP, ASPP, 3)
    names.norm('decoder.5', ASPP, group_norm)
    names.conv('decoder.8', CLASSES + 1, ASPP, 1, bias=True)
    if represent:
        names.conv('representation.0', ASPP, ASPP + LOW_PROJECTED, 3)
        names.norm('representation.1', ASPP, group_norm)
        names.conv('representation.3', 16, ASPP, 1, bias=True)
    return names


class Network(nn.Module):
    """The names that a classifier or the network of CSRM has here."""

    def __init__(self, backbone, **heads):
        super().__init__()
        self.backbone = backbone
        self.cam_head = CAMHead(OUT, CLASSES)
        for name, head in heads.items():
            self.add_module(name, head)


def our_resnest(**options):
    return WSSSResNeSt(
        50, base_channels=WIDTH, stem_channels=2 * STEM_WIDTH, strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2), **options
    )


def our_heads(group_norm):
    settings = dict(
        in_channels=OUT,
        in_index=3,
        channels=ASPP,
        c1_in_channels=LOW,
        c1_channels=LOW_PROJECTED,
        norm_cfg=dict(type='GN', num_groups=2) if group_norm else dict(type='BN'),
    )
    return dict(
        decode_head=DepthwiseSeparableASPPHead(num_classes=CLASSES + 1, **settings),
        representation_head=RepresentationHead(embed_dims=16, **settings),
    )


def reference_resnest(weights, x):
    """A plain forward pass of ResNeSt-50 at output stride 16 from the published names, as its authors define it."""

    def conv(name, x, **options):
        return F.conv2d(x, weights[f'{name}.weight'], weights.get(f'{name}.bias'), **options)

    def norm(name, x):
        mean, var = weights[f'{name}.running_mean'], weights[f'{name}.running_var']
        return F.batch_norm(x, mean, var, weights[f'{name}.weight'], weights[f'{name}.bias'])

    x = norm('conv1.1', conv('conv1.0', x, stride=2, padding=1)).relu()
    x = norm('conv1.4', conv('conv1.3', x, padding=1)).relu()
    x = norm('bn1', conv('conv1.6', x, padding=1)).relu()
    x = F.max_pool2d(x, 3, stride=2, padding=1)
    outputs = []
    for stage, (count, stride) in enumerate(zip(BLOCKS_50, (1, 2, 2, 1)), start=1):
        for block in range(count):
            name = f'layer{stage}.{block}'
            dilation = 2 if stage == 4 and block > 0 else 1
            y = norm(f'{name}.bn1', conv(f'{name}.conv1', x)).relu()
            y = conv(f'{name}.conv2.conv', y, padding=dilation, dilation=dilation, groups=2)
            first, second = norm(f'{name}.conv2.bn0', y).relu().chunk(2, dim=1)
            z = (first + second).mean(dim=(2, 3), keepdim=True)
            z = norm(f'{name}.conv2.bn1', conv(f'{name}.conv2.fc1', z)).relu()
            z = torch.stack(conv(f'{name}.conv2.fc2', z).chunk(2, dim=1)).softmax(dim=0)
            y = z[0] * first + z[1] * second
            if block == 0 and stage > 1:
                y = F.avg_pool2d(y, 3, stride=stride, padding=1)
            y = norm(f'{name}.bn3', conv(f'{name}.conv3', y))
            if block == 0:
                x = F.avg_pool2d(x, stride, stride=stride, ceil_mode=True, count_include_pad=False)
                x = norm(f'{name}.downsample.2', conv(f'{name}.downsample.1', x))
            x = (x + y).relu()
        outputs.append(x)
    return outputs


def assert_same(actual, expected):
    assert actual.keys() == expected.keys()
    assert all(torch.equal(actual[key], expected[key]) for key in expected)


def test_released_resnest_computes_the_same_here():
    release = released_resnest()
    backbone = our_resnest()
    backbone.eval()
    backbone.load_state_dict(convert(release).state_dict)  # strict
    images = torch.randn(1, 3, 70, 64)
    with torch.no_grad():
        expected, actual = reference_resnest(release, images), backbone(images)
    for ours, theirs in zip(actual, expected):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_full_size_names_and_shapes():
    with torch.device('meta'):
        backbone = WSSSResNeSt(269)
        release = released_resnest((3, 30, 48, 8), width=64, stem_width=64)
    result = convert(release)
    assert (result.kind, result.family, result.depth, result.num_classes) == ('resnest', 'ResNeSt', 269, None)
    assert {k: v.shape for k, v in result.state_dict.items()} == {k: v.shape for k, v in backbone.state_dict().items()}
    assert set(result.dropped) == {'fc.weight', 'fc.bias'}


@pytest.mark.parametrize('kind', ['puzzle-cam', 'p-noc'])
@pytest.mark.parametrize('family', ['ResNeSt', 'ResNet'])
def test_classifiers_load_strictly(kind, family):
    if family == 'ResNeSt':
        body, backbone = released_resnest(with_fc=False), our_resnest()
    else:
        from mmseg.models.backbones import ResNet

        body, backbone = released_resnet(), ResNet(50, base_channels=WIDTH, stem_channels=WIDTH)
    checkpoint = published(kind, body)
    result = convert(checkpoint)
    assert (result.kind, result.family, result.depth, result.num_classes) == (kind, family, 50, CLASSES)
    network = Network(backbone)
    network.load_state_dict(result.state_dict)
    assert torch.equal(network.cam_head.conv.weight, checkpoint['classifier.weight'])
    stem = ('stem.0', 'conv1.0') if family == 'ResNeSt' else ('conv1', 'conv1')
    assert torch.equal(result.state_dict[f'backbone.{stem[0]}.weight'], body[f'{stem[1]}.weight'])
    reasons = {'second copy of model.*'} if kind == 'puzzle-cam' else set()
    assert set(result.dropped.values()) == reasons


@pytest.mark.parametrize('kind', ['resnest', 'puzzle-cam', 'p-noc', 'csrm'])
def test_round_trip(kind):
    checkpoint = published(kind)
    result = convert(checkpoint)
    back = to_original(result.state_dict, kind)
    lost = {key for key, reason in result.dropped.items() if 'second copy' not in reason}
    assert_same(back, {key: tensor for key, tensor in checkpoint.items() if key not in lost})
    again = convert(back, kind)
    assert_same(again.state_dict, result.state_dict)


@pytest.mark.parametrize('group_norm', [True, False])
def test_csrm_heads(group_norm):
    checkpoint = published('csrm', group_norm=group_norm)
    result = convert(checkpoint)
    assert result.norm == ('gn' if group_norm else 'bn')
    network = Network(our_resnest(), **our_heads(group_norm))
    missing, unexpected = network.load_state_dict(result.state_dict, strict=False)  # raises for a wrong shape
    assert not unexpected
    separable = ('aspp_modules.1', 'aspp_modules.2', 'aspp_modules.3', 'sep_bottleneck')
    assert {key.split('.', 1)[0] for key in missing} == {'decode_head', 'representation_head'}
    assert all(key.split('.', 1)[1].startswith(separable) for key in missing)
    for head in (network.decode_head, network.representation_head):
        filled = {key for key in head.state_dict() if not key.startswith(separable)}
        assert filled == {key.split('.', 1)[1] for key in result.state_dict if key.startswith('decode_head.')}
    assert set(result.dropped) == {
        key
        for key in checkpoint
        if key.startswith(('aspp.aspp2', 'aspp.aspp3', 'aspp.aspp4', 'decoder.', 'representation.'))
        and not key.startswith(('decoder.8', 'representation.3'))
    }
    assert all('3x3' in reason for reason in result.dropped.values())
    assert torch.equal(network.decode_head.conv_seg.weight, checkpoint['decoder.8.weight'])
    assert torch.equal(network.representation_head.conv_seg.bias, checkpoint['representation.3.bias'])


def test_layer_behind_the_aspp_computes_the_same():
    checkpoint = published('csrm')
    head = our_heads(group_norm=True)['decode_head']
    head.load_state_dict(
        {
            key.removeprefix('decode_head.'): tensor
            for key, tensor in convert(checkpoint).state_dict.items()
            if key.startswith('decode_head.')
        },
        strict=False,
    )
    pooled, *branches = (torch.randn(2, ASPP, 5, 6) for _ in range(5))
    expected = F.conv2d(torch.cat([*branches, pooled], dim=1), checkpoint['aspp.conv1.weight'])
    actual = head.bottleneck.conv(torch.cat([pooled, *branches], dim=1))
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


def test_csrm_without_heads_or_without_representation():
    bare = convert(published('csrm'), heads=False)
    assert {key.split('.')[0] for key in bare.state_dict} == {'backbone', 'cam_head'}
    assert 'unknown' not in bare.dropped.values()
    no_representation = convert(published('csrm', represent=False))
    assert not any(key.startswith('representation_head') for key in no_representation.state_dict)


def test_unknown_keys_are_reported_not_lost():
    checkpoint = {**published('p-noc'), 'surprise.weight': torch.zeros(1)}
    result = convert(checkpoint)
    assert result.dropped == {'surprise.weight': 'unknown'}
    assert ('dropped: unknown', 1, 'surprise.weight') in result.groups()
    assert sum(count for _, count, _ in result.groups()) == len(checkpoint)


def test_differing_copies_are_an_error():
    checkpoint = published('puzzle-cam')
    checkpoint['stage3.0.0.conv1.weight'] = checkpoint['stage3.0.0.conv1.weight'] + 1
    with pytest.raises(UserError, match=r'stage3\.0\.0\.conv1\.weight and model\.layer2\.0\.conv1\.weight'):
        convert(checkpoint)


@pytest.mark.parametrize(
    ('checkpoint', 'hint'),
    [
        ({'encoder.weight': 0}, 'resnest, puzzle-cam, p-noc, csrm.*first keys: encoder.weight'),
        ({'fc_edge1.0.weight': 0, 'backbone.conv1.0.weight': 0}, 'affinity network'),
        ({'backbone.stem.0.weight': 0, 'cam_head.conv.weight': 0}, 'our own names'),
        ({'student.backbone.conv1.weight': 0, 'student.cam_head.conv.weight': 0}, 'our own names'),
        ({'conv1.weight': 0, 'layer1.0.conv1.weight': 0, 'fc.weight': 0}, 'needs no conversion'),
        ({'classifier.weight': 0, 'backbone.patch_embed1.proj.weight': 0}, 'no known kind'),
    ],
)
def test_foreign_checkpoints(checkpoint, hint):
    with pytest.raises(UserError, match=hint):
        detect_kind(checkpoint)


def test_wrong_kind_and_depth():
    with pytest.raises(UserError, match='not of kind csrm'):
        convert(published('resnest'), kind='csrm')
    with pytest.raises(UserError, match='`kind` must be auto, keep or one of resnest'):
        convert(published('resnest'), kind='nonsense')
    with pytest.raises(UserError, match='depth 269 was asked for'):
        convert(published('resnest'), depth=269)


@pytest.mark.parametrize(
    'wrap',
    [
        lambda tensors: tensors,
        lambda tensors: {'state_dict': tensors, 'epoch': 3},
        lambda tensors: {'model': with_prefix(tensors, 'module.'), 'optimizer': {'state': {}}},
        lambda tensors: {'student': {'x': torch.zeros(1)}, 'teacher': tensors},
    ],
)
def test_wrappers(wrap):
    tensors = {'conv1.weight': torch.ones(2)}
    assert_same(unwrap_state_dict(wrap(tensors)), tensors)


@pytest.mark.parametrize('content', [{'epoch': 3}, {}, [1, 2], {'state_dict': {'a': 1}}])
def test_no_tensors(content):
    with pytest.raises(UserError, match='no tensors with names'):
        unwrap_state_dict(content)


def test_reading_files(tmp_path):
    path = tmp_path / 'weights.pth'
    with pytest.raises(MissingFileError, match=r'weights\.pth \(\$WEIGHTS\)'):
        read_checkpoint(path, setting='$WEIGHTS')
    torch.save({'state_dict': {'a': torch.ones(1000)}}, path)
    assert read_checkpoint(path)['state_dict']['a'].sum() == 1000
    path.write_bytes(path.read_bytes()[:1500])
    with pytest.raises(UserError, match='cannot be read: it is truncated'):
        read_checkpoint(path)
    path.write_text('<html>not found</html>')
    with pytest.raises(UserError, match='cannot be read: it is truncated'):
        read_checkpoint(path)


def test_objects_are_not_unpickled_unless_asked_for(tmp_path):
    path = tmp_path / 'weights.pth'
    torch.save({'state_dict': {'a': torch.ones(1)}, 'args': argparse.Namespace(lr=0.1)}, path)
    with pytest.raises(UserError, match=r'objects besides tensors.*--unsafe'):
        read_checkpoint(path)
    assert 'a' in unwrap_state_dict(read_checkpoint(path, unsafe=True))
