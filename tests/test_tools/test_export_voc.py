import importlib.util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from csrm_plugin.utils.cli import run_tool

TOOL = Path(__file__).parents[2] / 'tools' / 'export_voc.py'


@pytest.fixture(scope='module')
def tool():
    spec = importlib.util.spec_from_file_location('export_voc_tool', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(tool, *arguments):
    """The exit status of the tool."""
    with pytest.raises(SystemExit) as info:
        run_tool(tool.main, tool.build_parser(), [str(argument) for argument in arguments])
    return info.value.code


@pytest.fixture
def voc(tmp_path):
    (tmp_path / 'preds').mkdir()
    for name in 'ab':
        Image.fromarray(np.full((4, 3), 20, dtype=np.uint8)).save(tmp_path / 'preds' / f'{name}.png')
    (tmp_path / 'test.txt').write_text('a\nb\n')
    return tmp_path


def test_writes_and_checks(tool, voc, capsys):
    split = ('--split-file', voc / 'test.txt')
    assert run(tool, voc / 'preds', *split, '--out', voc / 'r.tgz', '--competition', 'comp5') == 0
    out = capsys.readouterr().out
    assert f'wrote {voc / "r.tgz"}: 2 label maps in results/VOC2012/Segmentation/comp5_test_cls/' in out
    assert '2 grey label maps got the palette' in out
    assert 'note: ' in out and '1456' in out and '--pictures DIR' in out

    assert run(tool, '--check', voc / 'r.tgz', *split, '--competition', 'comp5') == 0
    assert 'is good: 2 label maps' in capsys.readouterr().out
    assert run(tool, '--check', voc / 'r.tgz', *split) == 1
    out = capsys.readouterr().out
    assert 'problem: 2 files are in the wrong folder' in out and 'is good' not in out


def test_mistakes_are_one_line(tool, voc, capsys):
    split = ('--split-file', voc / 'test.txt')
    (voc / 'preds' / 'b.png').write_bytes(b'')
    assert run(tool, voc / 'preds', *split, '--out', voc / 'r.tgz') == 1
    assert run(tool, voc / 'preds', *split) == 1
    assert run(tool, voc / 'preds', *split, '--check', voc / 'r.tgz') == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if 'reading label maps' not in line]
    assert len(lines) == 3 and all(line.startswith('error: ') for line in lines)
    assert '1 files are truncated or no PNG: b.png' in lines[0]
    assert 'give PRED_DIR and --out' in lines[1]
    assert '--check takes neither' in lines[2]
    assert not (voc / 'r.tgz').exists()
