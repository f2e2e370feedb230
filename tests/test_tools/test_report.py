import importlib.util
import json
from pathlib import Path

import pytest

from csrm_plugin.utils.cli import run_tool

TOOL = Path(__file__).parents[2] / 'tools' / 'report.py'


@pytest.fixture(scope='module')
def tool():
    spec = importlib.util.spec_from_file_location('report', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def make(tmp_path):
    """Makes a run of two lines, whose CAM has 40 + ``score`` percent at the threshold 0.3, and gives its folder."""

    def make_run(name, score):
        log = tmp_path / name / '20261122_101112' / 'vis_data' / 'scalars.json'
        log.parent.mkdir(parents=True)
        lines = [
            dict(step=10, iter=10, lr=0.1, loss=1.0),
            {'step': 10, 'seg/mIoU': score, 'cam/mIoU@0.30': 40.0 + score},
        ]
        log.write_text(''.join(json.dumps(line) + '\n' for line in lines))
        return tmp_path / name

    return make_run


def run(tool, *arguments):
    """The exit status of the tool."""
    with pytest.raises(SystemExit) as info:
        run_tool(tool.main, tool.build_parser(), [str(argument) for argument in arguments])
    return info.value.code


def test_one_run_and_several(tool, make, tmp_path, capsys):
    one, two = make('one', 51.26), make('two', 47.0)
    assert run(tool, one) == 0
    assert capsys.readouterr().out == f'Report: {one / "report.html"}\n'
    assert '51.3%' in (one / 'report.html').read_text()
    out = tmp_path / 'new' / 'both.html'
    assert run(tool, one, two, '--out', out) == 0
    assert '51.3%' in out.read_text() and '47.0%' in out.read_text()


def test_a_sweep_with_its_reference(tool, make, tmp_path, capsys):
    trials = [dict(number=0, state='complete', params={'model.pseudo_label.fg_threshold': 0.3}, value=33.0)]
    sweep = dict(metric={'name': 'pseudo/mIoU', 'goal': 'maximize'}, trials=trials, parameters={})
    cam, folder = make('cam', 1.5), tmp_path / 'sweep'
    folder.mkdir()
    (folder / 'sweep.json').write_text(json.dumps(sweep))
    assert run(tool, folder) == 0
    assert '41.5%' not in (folder / 'report.html').read_text()
    assert run(tool, folder, '--reference', cam) == 0
    assert '41.5%' in (folder / 'report.html').read_text()


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (('nowhere',), 'nowhere` does not exist'),
        (('empty',), 'empty` holds no run'),
        (('one', 'one'), 'is given twice'),
        (('one', 'empty', '--reference', 'one'), 'one sweep'),
        (('one', '--reference', 'one'), 'no folder of a sweep'),
    ],
)
def test_errors_are_one_line(tool, make, tmp_path, capsys, monkeypatch, arguments, message):
    make('one', 50.0)
    (tmp_path / 'empty').mkdir()
    monkeypatch.chdir(tmp_path)
    assert run(tool, *arguments) == 1
    captured = capsys.readouterr()
    assert captured.out == '' and captured.err.startswith('error: ')
    assert captured.err.count('\n') == 1 and message in captured.err
    assert not list(tmp_path.rglob('*.html'))


def test_help_says_units_and_defaults(tool):
    text = ' '.join(tool.build_parser().format_help().split())
    assert 'percent' in text and '(default: report.html in the first WORK_DIR)' in text
