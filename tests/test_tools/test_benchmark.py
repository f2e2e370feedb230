import importlib.util
import json
from pathlib import Path

import pytest

from csrm_plugin.utils.cli import run_tool

ROOT = Path(__file__).parents[2]
TOOL = ROOT / 'tools' / 'benchmark.py'


@pytest.fixture(scope='module')
def tool():
    spec = importlib.util.spec_from_file_location('benchmark', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(tool, *arguments):
    """The exit status of the tool."""
    with pytest.raises(SystemExit) as info:
        run_tool(tool.main, tool.build_parser(), [str(argument) for argument in arguments])
    return info.value.code


def test_inference_prints_a_table_and_writes_everything(tool, tmp_path, capsys):
    arguments = ['--size', 48, 64, '--repeats', 1, '--device', 'cpu', '--json', tmp_path / 'out.json']
    assert run(tool, 'inference', ROOT / 'mmcfg' / 'rml_demo.py', ROOT / 'mmcfg' / 'cam_demo.py', *arguments) == 0
    report = json.loads((tmp_path / 'out.json').read_text())
    assert [row['name'] for row in report['rows']] == ['rml_demo', 'rml_demo', 'cam_demo']
    assert report['context']['repeats'] == 1
    out = capsys.readouterr().out
    for row in report['rows']:
        assert f'{row["multiply_adds"] / 1e9:.2f}' in out
    assert 'ratio' in out and 'Measured with device cpu' in out and 'Parameters of cam_demo: backbone' in out


def test_refinement(tool, tmp_path, capsys):
    pytest.importorskip('pydensecrf')
    assert run(tool, 'refinement', '--size', 32, 40, '--classes', 2, '--repeats', 1, '--json', tmp_path / 'o.json') == 0
    assert json.loads((tmp_path / 'o.json').read_text())['context']['classes'] == 2
    out = capsys.readouterr().out
    assert 'dCRF' in out and 'PAR' in out


def test_errors_are_one_line_and_leave_no_file(tool, tmp_path, capsys):
    arguments = ['--repeats', 1, '--json', tmp_path / 'out.json']
    assert run(tool, 'inference', 'mmseg::no/such.py', *arguments) == 1
    assert capsys.readouterr().err.count('\n') == 1
    assert run(tool, 'refinement', '--size', 8, 8, *arguments) == 1
    assert capsys.readouterr().err.startswith('error: --size must be at least 32')
    assert not (tmp_path / 'out.json').exists()


def test_help_says_units_and_defaults(tool, capsys):
    for command in ('inference', 'refinement'):
        with pytest.raises(SystemExit):
            tool.build_parser().parse_args([command, '--help'])
        out = ' '.join(capsys.readouterr().out.split())
        assert 'in pixels (default: 375 500' in out and 'default: 5' in out
