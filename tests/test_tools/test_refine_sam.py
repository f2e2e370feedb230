import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from csrm_plugin.datasets.label_folder import read_label_png
from csrm_plugin.utils import MissingFileError
from csrm_plugin.utils.cli import run_tool
from csrm_plugin.visualization import save_label_png

TOOL = Path(__file__).parents[2] / 'tools' / 'refine_sam.py'
LABELS = np.array([[0, 1, 1, 0, 2, 0]], dtype=np.uint8)


@pytest.fixture(scope='module')
def tool():
    spec = importlib.util.spec_from_file_location('refine_sam', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def arguments(tmp_path):
    """Two pictures; masks as arrays, which need no pycocotools."""
    mask = np.array([[[1, 1, 1, 0, 0, 0]]], dtype=bool)
    (tmp_path / 'masks').mkdir()
    for name in 'ab':
        save_label_png(tmp_path / 'labels' / f'{name}.png', LABELS, [[0, 0, 0], [9, 0, 0], [0, 9, 0]])
        np.savez(tmp_path / 'masks' / f'{name}.npz', masks=mask if name == 'a' else mask[:0])
    (tmp_path / 'list.txt').write_text('a\nb\n')
    return [tmp_path / 'labels', tmp_path / 'masks', '--out', tmp_path / 'out', '--split-file', tmp_path / 'list.txt']


def run(tool, *arguments):
    """The exit status of the tool."""
    with pytest.raises(SystemExit) as info:
        run_tool(tool.main, tool.build_parser(), [str(argument) for argument in arguments])
    return info.value.code


def test_enhances_and_sums_up(tool, arguments, tmp_path, capsys):
    assert run(tool, *arguments, '--workers', 0) == 0
    assert read_label_png(tmp_path / 'out' / 'a.png').tolist() == [[1, 1, 1, 0, 2, 0]]
    assert read_label_png(tmp_path / 'out' / 'b.png').tolist() == LABELS.tolist()
    out = capsys.readouterr().out.splitlines()
    assert out == [
        '2 pictures (2 made now, 0 were there already): 0.5 masks per picture, 8.33 % of the pixels changed, 1 '
        'pictures without masks (their labels are unchanged)'
    ]
    (tmp_path / 'out' / 'a.png').write_bytes(b'cut')
    assert run(tool, *arguments) == 0
    assert '0 made now, 2 were there already' in capsys.readouterr().out
    assert run(tool, *arguments, '--check') == 0
    assert '1 made now, 1 were there already' in capsys.readouterr().out


def test_options_arrive(tool, arguments, tmp_path):
    options = ('--min-mask-overlap', '0.7', '--min-label-coverage', '1', '--shard', '1/2', '--workers', '1')
    assert run(tool, *arguments, *options) == 0
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == ['b.png', 'labels.json']
    sepl = json.loads((tmp_path / 'out' / 'labels.json').read_text())['settings']['sepl']
    assert sepl == dict(min_mask_overlap=0.7, min_label_coverage=1.0, masks='unknown')


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (('--min-mask-overlap', '1.5'), '`min_mask_overlap` must be a fraction from 0 to 1, but is 1.5'),
        (('--min-label-coverage', '-1'), '`min_label_coverage` must be a fraction'),
        (('--shard', '2/2'), '--shard must be i/n'),
        (('--workers', '-1'), '--workers must be at least 0'),
        (('--split-file', 'nothing.txt'), 'Split list nothing.txt does not exist'),
    ],
)
def test_errors_are_one_line(tool, arguments, tmp_path, capsys, options, message):
    assert run(tool, *arguments, *options) == 1
    error = capsys.readouterr().err.strip()
    assert error.startswith('error: ') and message in error and '\n' not in error
    assert not (tmp_path / 'out').exists()


def test_missing_masks_are_one_line(tool, arguments, tmp_path, capsys):
    (tmp_path / 'masks' / 'b.npz').unlink()
    assert run(tool, *arguments) == 1
    assert '1 of 2 pictures have no masks' in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()
    with pytest.raises(MissingFileError):
        tool.main(tool.build_parser().parse_args([str(argument) for argument in arguments]))
