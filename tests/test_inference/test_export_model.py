import json
import subprocess
import sys
from pathlib import Path

import mmcv
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmseg.apis import inference_model, init_model
from mmseg.registry import MODELS

from csrm_plugin.datasets.synthetic_dataset import SyntheticWSSSDataset
from csrm_plugin.inference import export_model as export
from csrm_plugin.utils import MissingFileError, UserError

ROOT = Path(__file__).parents[2]
METAINFO = SyntheticWSSSDataset.METAINFO

#: A segmentation network with parts of ours, SyncBN and weights that are not there.
PLAIN = """
custom_imports = dict(imports=['csrm_plugin', 'unused_package'], allow_failed_imports=True)
norm_cfg = dict(type='SyncBN', requires_grad=True)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(type='SegDataPreProcessor', mean=[100, 110, 120], std=[50, 60, 70], bgr_to_rgb={rgb}),
    pretrained=None,
    backbone=dict(
        type='{backbone}', depth={depth}, base_channels=8, stem_channels=8, norm_cfg=norm_cfg,
        init_cfg=dict(type='OptionalPretrained', checkpoint='nowhere.pth', hint='--')),
    decode_head=dict(
        type='FCNHead', in_channels={channels}, in_index=3, channels=8, num_convs=1, num_classes=7, norm_cfg=norm_cfg),
)
test_pipeline = [
    dict(type='LoadImageFromFile'), dict(type='Resize', scale=(64, 48), keep_ratio=True),
    dict(type='LoadAnnotations'), dict(type='PackWSSSInputs', meta_keys=('img_path', 'ori_shape', 'img_shape'))]
test_dataloader = dict(dataset=dict(type='SyntheticWSSSDataset', pipeline=test_pipeline))
"""
RESNEST = dict(backbone='WSSSResNeSt', depth=50, channels=256, rgb=True)
RESNET = dict(backbone='ResNetV1c', depth=18, channels=64, rgb=False)


def save_trained(cfg, path, **meta):
    """Save random weights of the config's model, with BatchNorm statistics as after a training."""
    settings = Config(dict(model=export._settings(cfg))).model
    with MODELS.switch_scope_and_registry('mmseg') as models:
        model = models.build(settings)
    state = model.state_dict()
    for name, value in state.items():
        if name.endswith('running_mean'):
            value.normal_(std=0.1)
        elif name.endswith('running_var'):
            value.uniform_(0.5, 1.5)
        elif name.endswith('conv_seg.weight'):
            value.normal_(std=0.5)
        elif name.startswith('teacher.') and value.is_floating_point():
            value.mul_(1.1)
    torch.save(dict(state_dict=state, meta=meta, optimizer=dict(param_groups=[])), path)


@pytest.fixture(scope='module')
def csrm(tmp_path_factory):
    """Config and checkpoint of a CSRM whose teacher and student differ."""
    torch.manual_seed(0)
    config, checkpoint = ROOT / 'mmcfg' / 'csrm_demo.py', tmp_path_factory.mktemp('csrm') / 'epoch_3.pth'
    dataset_meta = dict(METAINFO, label_map=None, reduce_zero_label=False)
    save_trained(Config.fromfile(config), checkpoint, epoch=3, iter=30, dataset_meta=dataset_meta)
    return str(config), str(checkpoint)


@pytest.fixture
def plain(tmp_path):
    """Make config and checkpoint of a plain network; the checkpoint names no classes."""

    def make(**settings):
        config, checkpoint = tmp_path / 'plain.py', tmp_path / 'plain.pth'
        config.write_text(PLAIN.format(**settings))
        save_trained(Config.fromfile(config), checkpoint)
        return str(config), str(checkpoint)

    return make


@pytest.fixture
def picture():
    return np.random.default_rng(7).integers(0, 256, (50, 70, 3), dtype=np.uint8)


def logits_of(model, picture):
    return inference_model(model, picture).seg_logits.data


def load(folder):
    """The exported model, as the host loads it."""
    return init_model(str(folder / 'config.py'), str(folder / 'model.pth'), device='cpu')


def test_exported_teacher_is_a_plain_model_that_predicts_like_csrm(csrm, picture, tmp_path):
    report = export.export_model(*csrm, tmp_path / 'new' / 'out')
    assert sorted(path.name for path in (tmp_path / 'new').rglob('*')) == [
        'config.py',
        'export.json',
        'model.pth',
        'out',
    ]
    assert report == json.loads((tmp_path / 'new' / 'out' / 'export.json').read_text()) | {
        'model.pth': report['model.pth']
    }
    assert report['network'] == 'teacher' and report['classes'] == list(METAINFO['classes'])
    assert 0 <= report['model.pth']['max_abs_diff'] <= 1e-5

    model = load(tmp_path / 'new' / 'out')
    assert type(model).__name__ == 'EncoderDecoder'
    assert model.dataset_meta == dict(classes=list(METAINFO['classes']), palette=[list(c) for c in METAINFO['palette']])
    mmcv.imwrite(picture, str(tmp_path / 'picture.png'))
    ours = init_model(*csrm, device='cpu')
    expected = logits_of(ours, str(tmp_path / 'picture.png'))
    torch.testing.assert_close(logits_of(model, str(tmp_path / 'picture.png')), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(logits_of(model, picture), expected, rtol=0, atol=1e-5)
    assert expected.shape == (7, 50, 70) and expected.std() > 0.01

    meta = torch.load(tmp_path / 'new' / 'out' / 'model.pth', weights_only=True)['meta']
    assert {name: meta[name] for name in ('epoch', 'iter', 'network', 'source')} == dict(
        epoch=3, iter=30, network='teacher', source='epoch_3.pth'
    )


def test_host_alone_understands_config_and_checkpoint(csrm, tmp_path):
    export.export_model(*csrm, tmp_path / 'out')
    text = (tmp_path / 'out' / 'config.py').read_text()
    assert '_base_' not in text and 'csrm' not in text.lower() and 'WSSS' not in text
    state = torch.load(tmp_path / 'out' / 'model.pth', weights_only=True)['state_dict']
    assert {name.split('.')[0] for name in state} == {'backbone', 'decode_head'}
    code = f"""
import importlib.util, sys
import numpy as np
# What the host needs on this Python and torch, without the package around it.
spec = importlib.util.spec_from_file_location('compat', {str(ROOT / 'csrm_plugin' / 'compat.py')!r})
compat = importlib.util.module_from_spec(spec)
spec.loader.exec_module(compat)
compat.apply()
from mmseg.apis import inference_model, init_model
model = init_model('config.py', 'model.pth', device='cpu')
assert inference_model(model, np.zeros((20, 30, 3), np.uint8)).pred_sem_seg.data.shape == (1, 20, 30)
assert not [name for name in sys.modules if name.startswith('csrm_plugin')]
"""
    subprocess.run([sys.executable, '-W', 'ignore', '-c', code], check=True, cwd=tmp_path / 'out')


def test_student_is_another_network_and_the_config_may_ask_for_it(csrm, picture, tmp_path):
    student = export.export_model(*csrm, tmp_path / 'a', network='student')
    option = export.export_model(*csrm, tmp_path / 'b', cfg_options={'model.test_cfg.network': 'student'})
    teacher = export.export_model(*csrm, tmp_path / 'c', 'teacher', cfg_options={'model.test_cfg.network': 'student'})
    assert [report['network'] for report in (student, option, teacher)] == ['student', 'student', 'teacher']
    state = torch.load(csrm[1], weights_only=True)['state_dict']
    for folder, name in (('a', 'student'), ('b', 'student'), ('c', 'teacher')):
        exported = torch.load(tmp_path / folder / 'model.pth', weights_only=True)['state_dict']
        assert all(torch.equal(value, state[f'{name}.{key}']) for key, value in exported.items())
    student, teacher = (logits_of(load(tmp_path / folder), picture) for folder in 'ac')
    assert (student - teacher).abs().max() > 0.01


def test_plain_model_keeps_its_parts_of_ours_and_names_the_package(plain, picture, tmp_path):
    config, checkpoint = plain(**RESNEST)
    report = export.export_model(config, checkpoint, tmp_path / 'out')
    assert report['network'] is None and report['classes'] == list(METAINFO['classes'])  # the data set's
    cfg = Config.fromfile(tmp_path / 'out' / 'config.py')
    assert cfg.custom_imports.imports == ['csrm_plugin']
    assert cfg.model.backbone.type == 'WSSSResNeSt' and cfg.model.backbone.norm_cfg.type == 'BN'
    assert 'init_cfg' not in cfg.model.backbone and cfg.model.test_cfg == dict(mode='whole')
    assert [step.type for step in cfg.test_pipeline] == ['LoadImageFromFile', 'Resize', 'PackSegInputs']
    assert cfg.test_pipeline[-1].meta_keys == ('img_path', 'ori_shape', 'img_shape')
    again = export.export_model(tmp_path / 'out' / 'config.py', tmp_path / 'out' / 'model.pth', tmp_path / 'again')
    assert again['model.pth'] == report['model.pth']
    assert (tmp_path / 'again' / 'config.py').read_text() == (tmp_path / 'out' / 'config.py').read_text()
    with pytest.raises(UserError, match=r'--network student: .* is a plain EncoderDecoder'):
        export.export_model(config, checkpoint, tmp_path / 'no', network='student')


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
        probs = export.ProbabilityGraph(model)(images)
    torch.testing.assert_close(probs, expected)
    assert probs.std() > 0.01


def test_onnx_gives_the_probabilities_of_the_teacher_at_any_size(csrm, tmp_path):
    onnxruntime, onnx = pytest.importorskip('onnxruntime'), pytest.importorskip('onnx')
    pytest.importorskip('onnxscript')
    report = export.export_model(*csrm, tmp_path / 'out', onnx=True, size=(48, 64))
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

    monkeypatch.setattr(export, 'ONNX_PACKAGES', ())
    monkeypatch.setattr(export, '_trace', trace)
    monkeypatch.setattr(export, '_tidy', lambda *_: None)
    monkeypatch.setattr(export, '_onnx_difference', lambda path, original, shape: 0 if shape[1:] == (48, 48) else 0.5)
    report = export.export_model(*plain(**RESNET), tmp_path / 'out', onnx=True)
    assert calls == [((48, 48), ('batch', 'height', 'width')), ((48, 48), ('batch',))]
    assert report['model.onnx']['free'] == ['batch']
    assert report['model.onnx']['sizes'] == [(1, 48, 48), (2, 48, 48)]

    monkeypatch.setattr(export, '_onnx_difference', lambda *_: float('nan'))
    with pytest.raises(
        UserError, match=r'model\.onnx gives other probs than the original .* up to nan, more than 0\.001'
    ):
        export.export_model(*plain(**RESNET), tmp_path / 'no', onnx=True)
    monkeypatch.setattr(export, '_trace', lambda *_: 1 / 0)
    with pytest.raises(UserError, match=r'cannot take this network \(division by zero\)'):
        export.export_model(*plain(**RESNET), tmp_path / 'no', onnx=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['out', 'plain.pth', 'plain.py']


def test_what_onnx_cannot_do_is_told(plain, tmp_path, monkeypatch):
    config, checkpoint = plain(**RESNET)
    monkeypatch.setattr(export, 'ONNX_PACKAGES', ('json', 'no_such_package'))
    with pytest.raises(UserError, match=r'--onnx needs no_such_package, not installed here: `pip install .*\[onnx\]'):
        export.export_model(config, checkpoint, tmp_path / 'out', onnx=True)
    monkeypatch.setattr(export, 'ONNX_PACKAGES', ())
    options = {'model.data_preprocessor.test_cfg': dict(size_divisor=32)}
    with pytest.raises(UserError, match='pads the pictures, which the graph cannot'):
        export.export_model(config, checkpoint, tmp_path / 'out', onnx=True, cfg_options=options)


def test_an_output_that_differs_leaves_nothing_behind(csrm, tmp_path, monkeypatch):
    write_plain = export.write_plain

    def write_wrong(folder, plain, network, meta):
        with torch.no_grad():
            network.decode_head.conv_seg.bias[0] += 1e-3
            write_plain(folder, plain, network, meta)
            network.decode_head.conv_seg.bias[0] -= 1e-3

    monkeypatch.setattr(export, 'write_plain', write_wrong)
    with pytest.raises(UserError, match=r'model\.pth gives other seg_logits .* by up to 0\.001, more than 1e-05'):
        export.export_model(*csrm, tmp_path / 'out')
    assert list(tmp_path.iterdir()) == []


def test_models_and_checkpoints_that_do_not_fit_are_told(csrm, plain, tmp_path):
    config, checkpoint = csrm
    classifier = str(ROOT / 'mmcfg' / 'cam_demo.py')
    with pytest.raises(UserError, match=r'cam_demo\.py` is a CAMClassifier, which has no segmentation branch'):
        export.export_model(classifier, checkpoint, tmp_path / 'out')
    plain_config, plain_checkpoint = plain(**RESNET)
    with pytest.raises(UserError, match=r'plain\.pth` does not fit .* are missing \(teacher\.backbone'):
        export.export_model(config, plain_checkpoint, tmp_path / 'out')
    with pytest.raises(UserError, match=r'are unknown \((student|teacher|bank)\.'):
        export.export_model(plain_config, checkpoint, tmp_path / 'out')
    options = {'model.decode_head.num_classes': 6, 'model.cam_head.num_classes': 5}
    with pytest.raises(
        UserError, match=r'of \d+ tensors 3 have another shape \(teacher\.decode_head\.conv_seg\.weight'
    ):
        export.export_model(config, checkpoint, tmp_path / 'out', cfg_options=options)
    with pytest.raises(MissingFileError, match='There is no checkpoint file nowhere'):
        export.export_model(config, 'nowhere.pth', tmp_path / 'out')
    content = Path(checkpoint).read_bytes()
    (tmp_path / 'cut.pth').write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r'cut\.pth cannot be read: it is truncated'):
        export.export_model(config, str(tmp_path / 'cut.pth'), tmp_path / 'out')
    torch.save([1, 2], tmp_path / 'list.pth')
    with pytest.raises(UserError, match=r'list\.pth`: The checkpoint holds no tensors'):
        export.export_model(config, str(tmp_path / 'list.pth'), tmp_path / 'out')
    with pytest.raises(UserError, match=r'plain\.py` has 7 classes, but the data has 1;'):
        export.export_model(
            plain_config,
            plain_checkpoint,
            tmp_path / 'out',
            cfg_options={'test_dataloader.dataset.metainfo': dict(classes=['x'])},
        )
    assert not (tmp_path / 'out').exists()
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out' / 'mine.txt').touch()
    with pytest.raises(UserError, match='exists and is not an empty folder'):
        export.export_model(config, checkpoint, tmp_path / 'out')


def test_sizes():
    assert export.parse_size('48x640') == (48, 640)
    for text in ('48', '0x3', '4x5x6', '-1x2', 'axb'):
        with pytest.raises(UserError, match='--size must be HxW'):
            export.parse_size(text)
    assert export.default_size([dict(type='Resize', scale=(128, 96), keep_ratio=False)]) == (96, 128)
    assert export.default_size([dict(type='Resize', scale=(2048, 512), keep_ratio=True)]) == (512, 512)
    assert export.default_size([dict(type='LoadImageFromFile')]) == (512, 512)
