import importlib.util
import json
import shutil
from pathlib import Path

import pytest

from csrm_plugin.experiments.pipeline.cards import write_card
from csrm_plugin.utils import write_json
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


@pytest.fixture
def pipeline(tmp_path):
    """The folder of a pipeline's run with label maps of the classifier and of CSRM."""
    folder = tmp_path / 'pipeline'
    for number, (stage, method, miou) in enumerate((('labels_cam', 'CAM', 41.25), ('labels_csrm', 'CSRM', 48.5)), 1):
        context = dict(source='seg', scales=[1], flip=False, crf=False, threshold=None, weights='teacher')
        card = dict(stage=stage, kind='labels', run='msrc', number=number, status='done', context=context)
        config = {'settings': {'model.type': method}}
        write_card(folder / stage, dict(card, config=config, scores=dict(val=dict(miou=miou)), inputs={}))
    summary = dict(name='msrc', dataset='msrc', seed=0, splits=['val'], stages=['labels_cam', 'labels_csrm'])
    write_json(folder / 'pipeline.json', summary)
    return folder


def test_table_of_a_pipeline(tool, pipeline, capsys):
    assert run(tool, pipeline, '--table', pipeline / 'table') == 0
    assert [row['scores'] for row in json.loads((pipeline / 'table' / 'table.json').read_text())['labels']] == [
        {'val': 41.25},
        {'val': 48.5},
    ]
    assert (
        '| CSRM |  |  | 48.50 | image labels | segmentation, teacher, scale 1'
        in (pipeline / 'table' / 'table.md').read_text()
    )
    assert not list(pipeline.rglob('*.html')) and capsys.readouterr().err == ''


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (('pipeline', 'one'), 'folder of one pipeline'),
        (('pipeline', '--out', 'page.html'), 'without --out and --reference'),
        (('pipeline', '--reference', 'one'), 'without --out and --reference'),
        (('one',), 'one` is no run of tools/pipeline.py: it has no pipeline.json'),
        (('gone',), 'the stage labels_csrm has no card; call tools/pipeline.py again'),
    ],
)
def test_errors_of_the_table_are_one_line(tool, make, pipeline, tmp_path, capsys, monkeypatch, arguments, message):
    make('one', 50.0)
    shutil.copytree(pipeline, tmp_path / 'gone')
    (tmp_path / 'gone' / 'labels_csrm' / 'card.json').unlink()
    monkeypatch.chdir(tmp_path)
    assert run(tool, *arguments, '--table', 'out') == 1
    captured = capsys.readouterr()
    assert captured.out == '' and captured.err.startswith('error: ') and captured.err.count('\n') == 1
    assert message in captured.err and not (tmp_path / 'out').exists()


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
