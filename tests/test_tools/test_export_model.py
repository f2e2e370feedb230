import importlib.util
import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmseg.registry import MODELS

from csrm_plugin.inference.export_model import onnx_graph
from csrm_plugin.utils.cli import run_tool

TOOL = Path(__file__).parents[2] / 'tools' / 'export_model.py'
CONFIG = """
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(type='SegDataPreProcessor', bgr_to_rgb=True),
    backbone=dict(type='ResNetV1c', depth=18, base_channels=8, stem_channels=8, norm_cfg=dict(type='BN')),
    decode_head=dict(
        type='FCNHead', in_channels=64, in_index=3, channels=8, num_convs=1, num_classes=2, norm_cfg=dict(type='BN')),
    test_cfg=dict(mode='whole'),
)
test_pipeline = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=(64, 48)), dict(type='PackSegInputs')]
"""


@pytest.fixture(scope='module')
def tool():
    spec = importlib.util.spec_from_file_location('export_model_tool', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def trained(tmp_path):
    """Config and checkpoint of a plain network."""
    (tmp_path / 'net.py').write_text(CONFIG)
    with MODELS.switch_scope_and_registry('mmseg') as models:
        model = models.build(Config.fromfile(tmp_path / 'net.py').model)
    meta = dict(dataset_meta=dict(classes=('background', 'cow')))
    torch.save(dict(state_dict=model.state_dict(), meta=meta), tmp_path / 'net.pth')
    return str(tmp_path / 'net.py'), str(tmp_path / 'net.pth')


def run(tool, *arguments):
    """The exit status of the tool."""
    with pytest.raises(SystemExit) as info:
        run_tool(tool.main, tool.build_parser(), [str(argument) for argument in arguments])
    return info.value.code


def test_writes_a_folder_and_tells_the_difference(tool, trained, tmp_path, capsys):
    assert run(tool, *trained, '--out', tmp_path / 'out') == 0
    out = capsys.readouterr().out
    assert f'wrote {tmp_path / "out"}: {trained[0]}, 2 classes' in out
    assert 'model.pth: seg_logits differ by at most 0 from the original' in out and 'onnx' not in out
    report = json.loads((tmp_path / 'out' / 'export.json').read_text())
    assert report['model.pth']['max_abs_diff'] == 0 and report['checkpoint'] == trained[1]


@pytest.mark.parametrize('is_free', [True, False])
def test_size_reaches_onnx_and_what_it_takes_is_said(tool, trained, tmp_path, capsys, monkeypatch, is_free):
    def trace(path, graph, size, free):
        assert size == (40, 72)
        if not is_free and 'height' in free:
            raise RuntimeError

    monkeypatch.setattr(onnx_graph, 'ONNX_PACKAGES', ())
    monkeypatch.setattr(onnx_graph, '_trace', trace)
    monkeypatch.setattr(onnx_graph, '_tidy', lambda *_: None)
    monkeypatch.setattr(onnx_graph, '_onnx_difference', lambda *_: 2e-6)
    assert run(tool, *trained, '--out', tmp_path / 'out', '--onnx', '--size', '40x72') == 0
    out = capsys.readouterr().out
    assert 'model.onnx: probs differ by at most 2e-06' in out
    said = 'pictures of any size' if is_free else 'only of 40 x 72 pixels (height x width): the exporter fixed the size'
    assert said in out


def test_mistakes_are_one_line(tool, trained, tmp_path, capsys):
    config, checkpoint = trained
    for arguments, message in (
        ((config, checkpoint, '--size', '40x72'), '--size is for ONNX'),
        ((config, checkpoint, '--size', '40', '--onnx'), '--size must be HxW'),
        ((config, config), 'cannot be read'),
        ((config, checkpoint, '--network', 'teacher'), 'without teacher and student'),
        ((config, checkpoint, '--cfg-options', 'model.decode_hed=1'), 'did you mean `model.decode_head`'),
    ):
        assert run(tool, *arguments, '--out', tmp_path / 'out') == 1
        error = capsys.readouterr().err.strip()
        assert error.startswith('error: ') and message in error and '\n' not in error
    assert not (tmp_path / 'out').exists()
