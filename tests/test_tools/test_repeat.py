"""The command; what it does is tested in tests/test_experiments/test_repetition.py."""

import importlib.util
import json

import pytest
from rich.console import Console

from csrm_plugin.experiments.demo import quick_options
from csrm_plugin.experiments.repetition import repeat
from csrm_plugin.utils.cli import run_tool


@pytest.fixture(scope='module')
def tool(request):
    path = request.config.rootpath / 'tools' / 'repeat.py'
    spec = importlib.util.spec_from_file_location('repeat_tool', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['mmcfg/cam_demo.py', '--seeds', '1', '1'], '--seeds must be different'),
        (['mmcfg/cam_demo.py', '--seeds', '0', '--cfg-options', 'load_from=nowhere.pth'], 'nowhere.pth'),
        (['mmcfg/nothing.py', '--seeds', '0'], 'mmcfg/nothing.py'),
    ],
)
def test_errors_are_one_line(tool, capsys, tmp_path, root, monkeypatch, arguments, message):
    monkeypatch.chdir(root)
    with pytest.raises(SystemExit) as end:
        run_tool(tool.main, tool.build_parser(), [*arguments, '--work-dir', str(tmp_path)])
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert end.value.code == 1 and error.startswith('error: ') and message in error


@pytest.mark.long
def test_two_seeds_of_a_real_training(root, tmp_path):
    options = [f'{key}={value}' for key, value in quick_options('cam_demo', str(tmp_path)).items()]
    result = repeat(
        str(root / 'mmcfg/cam_demo.py'), [0, 1], str(root), Console(), options, str(tmp_path / 'work'), ['train', 'val']
    )
    values = result['splits']['val']['cam/mIoU']['values']
    assert len(values) == 2 and values[0] != values[1]
    report = json.loads((tmp_path / 'work/seed_1/test_val.json').read_text())
    assert report['cam/mIoU'] == values[1]
    assert report['context']['seed'] == 1
