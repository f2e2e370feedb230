import importlib.util
import json
from pathlib import Path

import pytest

from csrm_plugin.experiments.pipeline.cards import write_card
from csrm_plugin.utils.cli import run_tool

TOOL = Path(__file__).parents[2] / 'tools' / 'doctor.py'


@pytest.fixture(scope='module')
def tool():
    spec = importlib.util.spec_from_file_location('doctor', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def write(tmp_path):
    """Writes a run of two stages with one score each, in percent, and gives its folder."""

    def write_run(name, classifier, csrm, dataset='msrc'):
        for number, (stage, score) in enumerate((('classifier', classifier), ('csrm', csrm)), start=1):
            if score is not None:
                card = dict(stage=stage, kind='train', run=dataset, number=number, status='done')
                write_card(tmp_path / name / stage, {**card, 'scores': {'train': {'pseudo/mIoU': score}}})
        return tmp_path / name

    return write_run


def run(tool, *arguments):
    """The exit status of the tool."""
    with pytest.raises(SystemExit) as info:
        run_tool(tool.main, tool.build_parser(), [str(argument) for argument in arguments])
    return info.value.code


def test_exit_status_table_sentence_and_json(tool, write, tmp_path, capsys):
    good, poor = write('good', 40.0, 50.0), write('poor', 40.2, 48.9)
    assert run(tool, good, poor) == 0
    out = capsys.readouterr().out
    assert out.rstrip().splitlines()[-1].startswith('Nothing is off')
    assert run(tool, poor, good, '--json', tmp_path / 'new' / 'out.json') == 1
    captured = capsys.readouterr()
    assert captured.err == ''
    assert (
        captured.out.rstrip()
        .splitlines()[-1]
        .startswith('First stage that is off: csrm: pseudo/mIoU train 48.9 against 50.0 (-1.1).')
    )
    assert 'pseudo/mIoU train' in captured.out.split('First stage')[0]
    found = json.loads((tmp_path / 'new' / 'out.json').read_text())
    assert (found['off'], found['tolerance'], found['reference']) == (True, 0.5, str(good))
    assert [finding['state'] for finding in found['findings']] == ['same', 'off']
    assert captured.out.rstrip().endswith(found['verdict'])
    assert run(tool, poor, good, '--tolerance', '1.2') == 0


def test_a_run_is_compared_with_its_plain_baseline_first(tool, tmp_path, capsys):
    for number, (stage, method, miou) in enumerate((('cam', 'CAMClassifier', 53.9), ('csrm', 'CSRM', 47.6)), start=1):
        context = dict(source='cam' if stage == 'cam' else 'seg', scales=[1], flip=True, crf=False)
        card = dict(stage=f'labels_{stage}', kind='labels', run='msrc', number=number, status='done', context=context)
        config = dict(file='x.py', settings={'model.type': method})
        write_card(tmp_path / 'run' / card['stage'], dict(card, config=config, scores=dict(train=dict(miou=miou))))
    out = tmp_path / 'out.json'
    assert run(tool, tmp_path / 'run', '--json', out) == 1
    said = capsys.readouterr().out
    assert said.startswith(
        "CSRM's labels are below the plain baseline, at the same scales, flip and dCRF: labels_csrm "
    )
    found = json.loads(out.read_text())
    assert (found['off'], found['reference'], found['findings']) == (True, None, [])
    assert found['baseline']['scores'][0]['difference'] == -6.3
    assert run(tool, tmp_path / 'run', tmp_path / 'run') == 1
    lines = capsys.readouterr().out.strip().splitlines()
    assert lines[0].startswith("CSRM's labels are below") and lines[-1].startswith('Nothing is off')
    assert run(tool, tmp_path / 'run', tmp_path / 'run', '--ignore-baseline') == 0
    assert 'baseline' not in capsys.readouterr().out
    assert run(tool, tmp_path / 'run', '--tolerance', '7') == 0


def test_missing_stages_can_be_left_out(tool, write, capsys):
    whole, part = write('whole', 40.0, 50.0), write('part', 40.0, None)
    assert run(tool, part, whole) == 1
    assert 'Not in this run: csrm.' in capsys.readouterr().out
    assert run(tool, part, whole, '--ignore-missing') == 0
    assert run(tool, whole, part) == 0


def test_paper_by_default(tool, write, capsys, monkeypatch):
    monkeypatch.setenv('COLUMNS', '200')  # a narrow terminal breaks the notes
    folder = write('voc', 59.9, 68.3, dataset='voc')
    assert run(tool, folder, '--ignore-missing') == 1
    out = capsys.readouterr().out
    assert 'First stage that is off: csrm: pseudo/mIoU train 68.3 against 71.8 (-3.5).' in out
    assert 'Table 1, row 4' in out
    assert run(tool, folder / 'classifier') == 0


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ((), 'give a REFERENCE'),
        (('paper',), 'instead of `paper`'),
        (('nowhere',), 'nowhere'),
        (('.', '--tolerance', '-1'), 'no card.json'),
    ],
)
def test_errors_are_one_line(tool, write, capsys, monkeypatch, tmp_path, options, message):
    folder = write('msrc', 40.0, 50.0)
    (tmp_path / 'empty').mkdir()
    monkeypatch.chdir(tmp_path / 'empty')
    assert run(tool, folder, *options) == 1
    captured = capsys.readouterr()
    assert captured.out == ''
    assert captured.err.startswith('error: ') and captured.err.count('\n') == 1 and message in captured.err


def test_help_says_units_and_exit_status(tool):
    text = ' '.join(tool.build_parser().format_help().split())
    assert 'in points of percent (default: 0.5)' in text
    assert 'Exit status: 0 if nothing is off, 1 if something is' in text
