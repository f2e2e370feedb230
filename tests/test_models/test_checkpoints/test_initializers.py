import logging
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.model import BaseModule, Sequential
from mmseg.registry import MODELS
from torch import nn

import csrm_plugin  # noqa: F401
from csrm_plugin.models.checkpoints import initializers
from csrm_plugin.models.checkpoints.convert import to_original
from csrm_plugin.utils import UserError

REPO = Path(__file__).parents[3]
MOBILENET_WEIGHTS = REPO.parent / 'shared' / 'data' / 'weights' / 'mobilenetv2_imagenet.pth'

BACKBONES = {
    'ResNet-18': dict(type='ResNet', depth=18, base_channels=4, stem_channels=4),
    'ResNet-50': dict(type='ResNet', depth=50, base_channels=4, stem_channels=4),
    'ResNeSt': dict(type='WSSSResNeSt', depth=50, base_channels=8, stem_channels=8),
    'MobileNetV2': dict(type='MobileNetV2', widen_factor=0.25, out_indices=(1, 6)),
    'MiT': dict(type='MixVisionTransformer', embed_dims=8, num_layers=[1, 1, 1, 1], num_heads=[1, 1, 1, 1]),
}


@pytest.fixture
def logged():
    """The messages that reach MMEngine's logger."""
    records = []

    class Handler(logging.Handler):
        def emit(self, record):
            records.append(record)

    logger, handler = MMLogger.get_current_instance(), Handler()
    logger.addHandler(handler)
    yield records
    logger.removeHandler(handler)


def warnings_in(records):
    return [record.getMessage() for record in records if record.levelname == 'WARNING']


def build(backbone, checkpoint=None, seed=0, **options):
    """A backbone with weights set by `init_weights`: its own ones if no checkpoint is given."""
    init_cfg = {}
    if checkpoint is not None:
        init_cfg = dict(init_cfg=dict(type='OptionalPretrained', checkpoint=str(checkpoint), **options))
    torch.manual_seed(seed)
    module = MODELS.build(dict(**backbone, **init_cfg))
    module.init_weights()
    return module


def random_weights(backbone, seed=1):
    torch.manual_seed(seed)
    state_dict = MODELS.build(backbone).state_dict()
    return {k: torch.rand_like(v) if v.is_floating_point() else v for k, v in state_dict.items()}


def assert_same(actual, expected):
    assert actual.keys() == expected.keys()
    different = [key for key in expected if not torch.equal(actual[key], expected[key])]
    assert not different


@pytest.mark.parametrize('checkpoint', ['', 'none', 'None', '/nowhere/weights.pth'])
@pytest.mark.parametrize('name', BACKBONES)
def test_without_weights_the_initialisation_is_the_usual_one(name, checkpoint, logged):
    module = build(BACKBONES[name], checkpoint, hint='$MSRC_WEIGHTS')
    (message,) = warnings_in(logged)
    assert 'from scratch' in message
    assert '$MSRC_WEIGHTS' in message
    assert ('/nowhere/weights.pth' in message) == ('/nowhere' in checkpoint)
    assert_same(module.state_dict(), build(BACKBONES[name]).state_dict())


@pytest.mark.parametrize('name', BACKBONES)
@pytest.mark.parametrize('container', [lambda tensors: tensors, lambda tensors: dict(state_dict=tensors, meta={})])
def test_weights_are_loaded_and_stay(name, container, tmp_path, logged):
    weights = random_weights(BACKBONES[name])
    torch.save(container(weights), tmp_path / 'weights.pth')
    module = build(BACKBONES[name], tmp_path / 'weights.pth')
    assert_same(module.state_dict(), weights)
    assert not warnings_in(logged)
    assert any(f'Loaded {len(weights)} tensors' in record.getMessage() for record in logged)


@pytest.mark.parametrize('name', ['ResNet-50', 'MobileNetV2'])
def test_weights_stay_when_a_whole_model_is_initialised(name, tmp_path):
    weights = random_weights(BACKBONES[name])
    torch.save(weights, tmp_path / 'weights.pth')
    backbone = MODELS.build(
        dict(**BACKBONES[name], init_cfg=dict(type='OptionalPretrained', checkpoint=str(tmp_path / 'weights.pth')))
    )

    class Model(BaseModule):
        def __init__(self):
            super().__init__(dict(type='Constant', val=3, layer='Conv2d'))
            self.backbone = backbone

    model = Model()
    model.init_weights()
    assert_same(model.backbone.state_dict(), weights)
    model.init_weights()  # the host only warns
    assert_same(model.backbone.state_dict(), weights)


def test_weights_stay_where_a_class_initialises_itself(tmp_path):
    """Such a class (as the host's transformers) never calls its children without `init_cfg`; the host does with it."""

    class Own(BaseModule):
        def __init__(self, init_cfg=None):
            super().__init__(init_cfg)
            self.child = Sequential(nn.Conv2d(1, 1, 1), init_cfg=dict(type='Constant', val=3, layer='Conv2d'))

        def init_weights(self):
            if self.init_cfg is None:
                nn.init.constant_(self.child[0].weight, 2)
            else:
                super().init_weights()

    def init(checkpoint):
        module = Own(dict(type='OptionalPretrained', checkpoint=str(checkpoint)))
        module.init_weights()
        return module.child[0].weight.item()

    torch.save({'child.0.weight': torch.full((1, 1, 1, 1), 5.0)}, tmp_path / 'weights.pth')
    assert init(tmp_path / 'weights.pth') == 5
    assert init('none') == 2


def test_incomplete_weights_are_reported_and_the_rest_is_usual(tmp_path, logged):
    weights = random_weights(BACKBONES['ResNet-50'])
    del weights['layer1.0.bn3.weight']
    weights['conv1.weight'] = torch.zeros(1, 2, 3)
    weights['fc.weight'] = torch.zeros(4)
    torch.save(weights, tmp_path / 'weights.pth')
    module = build(BACKBONES['ResNet-50'], tmp_path / 'weights.pth')
    (message,) = warnings_in(logged)
    assert f'Loaded {len(weights) - 2} tensors' in message
    assert re.search(r'Not in the checkpoint[^.]*: layer1\.0\.bn3\.weight\.', message)
    assert re.search(r'another shape[^.]*: conv1\.weight\.', message)
    assert re.search(r'unused: fc\.weight\.', message)
    usual = build(BACKBONES['ResNet-50']).state_dict()
    loaded = module.state_dict()
    assert torch.equal(loaded['conv1.weight'], usual['conv1.weight'])
    assert not loaded['layer1.0.bn3.weight'].any()  # the zero initialisation of residual blocks
    assert torch.equal(loaded['layer4.0.conv1.weight'], weights['layer4.0.conv1.weight'])


@pytest.mark.parametrize('prefix', ['backbone', 'backbone.'])
def test_prefix(prefix, tmp_path):
    weights = random_weights(BACKBONES['ResNet-18'])
    torch.save({f'backbone.{key}': tensor for key, tensor in weights.items()}, tmp_path / 'weights.pth')
    assert_same(build(BACKBONES['ResNet-18'], tmp_path / 'weights.pth', prefix=prefix).state_dict(), weights)


@pytest.mark.parametrize('kind', ['resnest', 'p-noc'])
def test_original_names_are_converted(kind, tmp_path):
    weights = random_weights(BACKBONES['ResNeSt'])
    if kind == 'resnest':
        original, prefix = to_original(weights, kind), None
    else:
        ours = {f'backbone.{key}': tensor for key, tensor in weights.items()}
        original, prefix = to_original({**ours, 'cam_head.conv.weight': torch.ones(2, 4, 1, 1)}, kind), 'backbone'
    torch.save(original, tmp_path / 'weights.pth')
    assert_same(build(BACKBONES['ResNeSt'], tmp_path / 'weights.pth', prefix=prefix).state_dict(), weights)


def test_foreign_weights_are_an_error_with_a_mend(tmp_path):
    path = tmp_path / 'weights.pth'
    torch.save({'encoder.weight': torch.ones(3)}, path)
    with pytest.raises(UserError, match=r'weights\.pth \(\$W\) has no tensor that fits ResNet.*encoder\.weight'):
        build(BACKBONES['ResNet-18'], path, hint='$W')
    weights = random_weights(BACKBONES['ResNet-18'])
    torch.save({f'student.backbone.{key}': tensor for key, tensor in weights.items()}, path)
    with pytest.raises(UserError, match=r'Mend: init_cfg\.prefix=student\.backbone\.'):
        build(BACKBONES['ResNet-18'], path)
    with pytest.raises(UserError, match='under the prefix `backbone'):
        build(BACKBONES['ResNet-18'], path, prefix='backbone')


def test_damaged_weights_are_an_error(tmp_path):
    path = tmp_path / 'weights.pth'
    torch.save(random_weights(BACKBONES['ResNet-18']), path)
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(UserError, match=r'weights\.pth \(\$W\) cannot be read: it is truncated'):
        build(BACKBONES['ResNet-18'], path, hint='$W')


def test_must_be_the_only_entry(tmp_path):
    init_cfg = [dict(type='OptionalPretrained', checkpoint=''), dict(type='Kaiming', layer='Conv2d')]
    with pytest.raises(UserError, match='only entry'):
        MODELS.build(dict(**BACKBONES['ResNet-18'], init_cfg=init_cfg)).init_weights()


@pytest.fixture
def no_network(tmp_path, monkeypatch):
    """An empty cache, no proxy, and a server that takes connections but never answers."""
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))
    monkeypatch.setenv('no_proxy', '*')
    monkeypatch.setattr(initializers, 'DOWNLOAD_TIMEOUT', 0.2)
    with socket.socket() as server:
        server.bind(('127.0.0.1', 0))
        server.listen()
        yield server.getsockname()[1]


def test_failed_downloads_give_the_warning_soon(no_network, logged):
    timeout = socket.getdefaulttimeout()
    for url in (f'http://127.0.0.1:{no_network}/silent-1234abcd.pth', 'http://127.0.0.1:1/refused.pth'):
        build(BACKBONES['ResNet-18'], url)
        assert re.search(f'from scratch.*{re.escape(url)} could not be fetched', warnings_in(logged).pop())
    assert socket.getdefaulttimeout() == timeout


@pytest.mark.parametrize('name', ['torchvision://resnet18', 'open-mmlab://resnet18_v1c', 'https://x.org/a/r18.pth'])
def test_downloads_come_from_the_cache_and_names_are_resolved(name, no_network, monkeypatch):
    fetched, weights = [], random_weights(BACKBONES['ResNet-18'])

    def download(url, path, sha256, progress):
        fetched.append((url, sha256))
        torch.save(weights, path)

    monkeypatch.setattr(initializers.hub, 'download_url_to_file', download)
    for _ in range(2):
        assert_same(build(BACKBONES['ResNet-18'], name).state_dict(), weights)
    ((url, sha256),) = fetched
    assert url.startswith('http')
    assert url.endswith('.pth')
    assert (sha256 is None) == ('x.org' in url)


@pytest.mark.parametrize('name', ['torchvision://nonsense', 'open-mmlab://nonsense', 'ftp://x.org/a.pth'])
def test_misspelt_names(name, no_network, logged):
    if name.startswith('torchvision'):
        pytest.importorskip('torchvision')
    with pytest.raises(UserError, match=r'has no such model|come from a file'):
        build(BACKBONES['ResNet-18'], name)


WORKER = """
import sys
import torch, torch.distributed as dist
import csrm_plugin
from csrm_plugin.models import initializers
from mmseg.registry import MODELS

rank, folder = int(sys.argv[1]), sys.argv[2]
dist.init_process_group('gloo', init_method=f'file://{folder}/group', rank=rank, world_size=2)

def first_weight(checkpoint):
    torch.manual_seed(rank)
    module = MODELS.build(dict(type='ResNet', depth=18, base_channels=4, stem_channels=4,
                               init_cfg=dict(type='OptionalPretrained', checkpoint=checkpoint)))
    try:
        module.init_weights()
    except ValueError as error:
        return type(error).__name__
    return round(module.conv1.weight.double().sum().item(), 6)

# A download that fails, a file that only the first process sees, and a foreign file.
results = [first_weight('http://127.0.0.1:1/refused.pth'),
           first_weight(f'{folder}/weights.pth' if rank == 0 else '/nowhere.pth'),
           first_weight(f'{folder}/foreign.pth' if rank == 0 else '/nowhere.pth')]
print('RESULTS', *results)
dist.destroy_process_group()
"""


def test_processes_agree_and_none_waits_for_a_failed_download(tmp_path):
    weights = random_weights(BACKBONES['ResNet-18'])
    torch.save(weights, tmp_path / 'weights.pth')
    torch.save({'encoder.weight': torch.ones(3)}, tmp_path / 'foreign.pth')
    env = dict(os.environ, OMP_NUM_THREADS='1', no_proxy='*', TORCH_HOME=str(tmp_path / 'torch'))
    env['PYTHONPATH'] = os.pathsep.join([str(REPO), env.get('PYTHONPATH', '')])
    processes = [
        subprocess.Popen(
            [sys.executable, '-c', WORKER, str(rank), str(tmp_path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=env,
        )
        for rank in range(2)
    ]
    try:
        outputs = [process.communicate(timeout=100) for process in processes]
    finally:
        for process in processes:
            process.kill()
    results = [re.findall('RESULTS (.*)', stdout) for stdout, _ in outputs]
    assert results[0], outputs[0][1]
    assert results[0] == results[1]
    scratch, loaded, foreign = results[0][0].split()
    assert float(loaded) == round(weights['conv1.weight'].double().sum().item(), 6)
    assert float(scratch) != float(loaded)
    assert foreign == 'UserError'
    assert 'from scratch' in ''.join(outputs[0])
    assert 'from scratch' not in ''.join(outputs[1])


@pytest.mark.skipif(not MOBILENET_WEIGHTS.is_file(), reason=f'{MOBILENET_WEIGHTS.name} is not at hand')
def test_real_mobilenet(logged):
    mobilenet = dict(
        type='MobileNetV2',
        norm_cfg=dict(type='BN'),
        strides=(1, 2, 2, 2, 1, 1, 1),
        dilations=(1, 1, 1, 1, 1, 2, 2),
        out_indices=(1, 6),
    )
    module = build(mobilenet, MOBILENET_WEIGHTS)
    weights = torch.load(MOBILENET_WEIGHTS, map_location='cpu', weights_only=True)['state_dict']
    loaded = {key: tensor for key, tensor in module.state_dict().items() if key in weights}
    assert len(loaded) > 250
    assert_same(loaded, {key: weights[key] for key in loaded})
    assert not warnings_in(logged)
    module.eval()
    with torch.no_grad():
        low, high = module(torch.zeros(1, 3, 64, 96))
    assert (low.shape, high.shape) == ((1, 24, 16, 24), (1, 320, 4, 6))
