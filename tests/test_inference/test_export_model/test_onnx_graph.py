import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmseg.apis import init_model

from csrm_plugin.datasets.synthetic_dataset import SyntheticWSSSDataset
from csrm_plugin.inference.export_model import export_model, onnx_graph
from csrm_plugin.utils import UserError

METAINFO = SyntheticWSSSDataset.METAINFO


ROOT = Path(__file__).parents[3]


RESNET = dict(backbone='ResNetV1c', depth=18, channels=64, rgb=False)


@pytest.mark.parametrize('rgb', [True, False])
def test_graph_takes_rgb_whatever_the_network_takes(plain, rgb):
    config, checkpoint = plain(**RESNET | dict(rgb=rgb))
    options = {f'model.{part}.norm_cfg.type': 'BN' for part in ('backbone', 'decode_head')}
    model = init_model(config, checkpoint, device='cpu', cfg_options=options)
    images = torch.randint(0, 256, (2, 3, 40, 56)).float()
    inputs = images if rgb else images[:, [2, 1, 0]]
    inputs = (inputs - torch.tensor([100, 110, 120]).view(3, 1, 1)) / torch.tensor([50, 60, 70]).view(3, 1, 1)
    with torch.no_grad():
        logits = model.decode_head(model.backbone(inputs))
        expected = torch.nn.functional.interpolate(logits, (40, 56), mode='bilinear').softmax(dim=1)
        probs = onnx_graph.ProbabilityGraph(model)(images)
    torch.testing.assert_close(probs, expected)
    assert probs.std() > 0.01


def test_onnx_gives_the_probabilities_of_the_teacher_at_any_size(csrm, tmp_path):
    onnxruntime, onnx = pytest.importorskip('onnxruntime'), pytest.importorskip('onnx')
    pytest.importorskip('onnxscript')
    report = export_model(*csrm, tmp_path / 'out', onnx=True, size=(48, 64))
    entry = report['model.onnx']
    assert entry['free'] == ['batch', 'height', 'width'] and entry['max_abs_diff'] <= 1e-3
    assert entry['sizes'] == [(1, 48, 64), (2, 48, 64), (1, 37, 81)]

    teacher = init_model(*csrm, device='cpu').teacher
    session = onnxruntime.InferenceSession(tmp_path / 'out' / 'model.onnx', providers=['CPUExecutionProvider'])
    assert [(item.name, item.shape) for item in session.get_inputs()] == [('images', ['batch', 3, 'height', 'width'])]
    for shape in ((1, 3, 48, 64), (3, 3, 41, 59)):
        images = torch.randint(0, 256, shape).float()
        (probs,) = session.run(['probs'], {'images': images.numpy()})
        with torch.no_grad():
            logits = teacher.decode_head(teacher.backbone((images - 127.5) / 63.75))
            expected = torch.nn.functional.interpolate(logits, shape[2:], mode='bilinear').softmax(dim=1)
        np.testing.assert_allclose(probs, expected.numpy(), atol=1e-5)
        assert probs.std() > 0.01

    content = (tmp_path / 'out' / 'model.onnx').read_bytes()
    assert str(ROOT).encode() not in content and b'site-packages' not in content
    properties = {item.key: item.value for item in onnx.load(tmp_path / 'out' / 'model.onnx').metadata_props}
    assert json.loads(properties['classes']) == list(METAINFO['classes'])


@pytest.mark.parametrize('trouble', ['exporter', 'numbers'])
def test_where_the_size_cannot_be_left_open_it_is_fixed_and_said(plain, tmp_path, monkeypatch, trouble):
    calls = []

    def trace(path, graph, size, free):
        calls.append((size, free))
        if trouble == 'exporter' and 'height' in free:
            raise RuntimeError('cannot')

    monkeypatch.setattr(onnx_graph, 'ONNX_PACKAGES', ())
    monkeypatch.setattr(onnx_graph, '_trace', trace)
    monkeypatch.setattr(onnx_graph, '_tidy', lambda *_: None)
    monkeypatch.setattr(
        onnx_graph, '_onnx_difference', lambda path, original, shape: 0 if shape[1:] == (48, 48) else 0.5
    )
    report = export_model(*plain(**RESNET), tmp_path / 'out', onnx=True)
    assert calls == [((48, 48), ('batch', 'height', 'width')), ((48, 48), ('batch',))]
    assert report['model.onnx']['free'] == ['batch']
    assert report['model.onnx']['sizes'] == [(1, 48, 48), (2, 48, 48)]

    monkeypatch.setattr(onnx_graph, '_onnx_difference', lambda *_: float('nan'))
    with pytest.raises(
        UserError, match=r'model\.onnx gives other probs than the original .* up to nan, more than 0\.001'
    ):
        export_model(*plain(**RESNET), tmp_path / 'no', onnx=True)
    monkeypatch.setattr(onnx_graph, '_trace', lambda *_: 1 / 0)
    with pytest.raises(UserError, match=r'cannot take this network \(division by zero\)'):
        export_model(*plain(**RESNET), tmp_path / 'no', onnx=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['out', 'plain.pth', 'plain.py']


def test_what_onnx_cannot_do_is_told(plain, tmp_path, monkeypatch):
    config, checkpoint = plain(**RESNET)
    monkeypatch.setattr(onnx_graph, 'ONNX_PACKAGES', ('json', 'no_such_package'))
    with pytest.raises(UserError, match=r'--onnx needs no_such_package, not installed here: `pip install .*\[onnx\]'):
        export_model(config, checkpoint, tmp_path / 'out', onnx=True)
    monkeypatch.setattr(onnx_graph, 'ONNX_PACKAGES', ())
    options = {'model.data_preprocessor.test_cfg': dict(size_divisor=32)}
    with pytest.raises(UserError, match='pads the pictures, which the graph cannot'):
        export_model(config, checkpoint, tmp_path / 'out', onnx=True, cfg_options=options)


def test_the_size_to_trace_is_that_of_the_test_pipeline():
    assert onnx_graph.default_size([dict(type='Resize', scale=(128, 96), keep_ratio=False)]) == (96, 128)
    assert onnx_graph.default_size([dict(type='Resize', scale=(2048, 512), keep_ratio=True)]) == (512, 512)
    assert onnx_graph.default_size([dict(type='LoadImageFromFile')]) == (512, 512)
