import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from csrm_plugin.refine import read_masks
from csrm_plugin.utils.cli import run_tool

pytest.importorskip('pycocotools')

TOOL = Path(__file__).parents[2] / 'tools' / 'sam_masks.py'


@pytest.fixture(scope='module')
def tool():
    spec = importlib.util.spec_from_file_location('sam_masks', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def pictures(tmp_path):
    (tmp_path / 'pictures').mkdir()
    for name in 'abc':
        image = np.zeros((40, 30, 3), dtype=np.uint8)
        image[10:30, 5:20] = 255
        Image.fromarray(image).save(tmp_path / 'pictures' / f'{name}.png')
    return tmp_path / 'pictures'


def run(tool, *arguments):
    """The exit status of the tool."""
    with pytest.raises(SystemExit) as info:
        run_tool(tool.main, tool.build_parser(), [str(argument) for argument in arguments])
    return info.value.code


def test_superpixels(tool, pictures, tmp_path, capsys):
    pytest.importorskip('skimage')
    out = tmp_path / 'out'
    options = ('--suffix', '.png', '--min-mask-area', '50', '--shard', '0/2')
    assert run(tool, 'superpixels', pictures, '--out', out, *options) == 0
    line = capsys.readouterr().out.strip()
    assert line.startswith('2 pictures (2 made now, 0 were there already): ')
    assert line.endswith('masks per picture, 0 without masks; by superpixels (felzenszwalb), mechanism only')
    assert sorted(path.name for path in out.iterdir()) == ['a.json', 'c.json', 'masks.json']
    assert (read_masks(out, 'a', (40, 30)).sum(axis=(1, 2)) >= 50).all()
    manifest = json.loads((out / 'masks.json').read_text())
    assert manifest['generator'] == 'superpixels (felzenszwalb), mechanism only'
    assert manifest['settings']['min_mask_area'] == 50 and manifest['settings']['scales'] == [50, 150, 400]


def test_settings_of_sam_arrive(tool, pictures, monkeypatch, capsys):
    from csrm_plugin.inference import sam_masks

    seen = {}

    def record(*args, **options):
        seen.update(options, args=args)
        return dict(pictures=0, made=0, skipped=0, origin='sam x')

    monkeypatch.setattr(sam_masks, 'make_masks', record)
    options = ('--points-per-side=5', '--points-per-batch=7', '--pred-iou-thresh=0.1', '--stability-score-thresh=0.2')
    assert run(tool, 'own/er', pictures, '--out', 'o', *options, '--crop-layers', 2, '--device', 'cpu', '--check') == 0
    assert seen['args'] == ('own/er', str(pictures), 'o')
    assert seen['settings'] == sam_masks.SamSettings(5, 0.1, 0.2, 2) and seen['check'] is True
    assert (seen['points_per_batch'], seen['device'], seen['workers'], seen['shard']) == (7, 'cpu', 0, (0, 1))


def test_help_says_that_superpixels_are_not_sam(tool, capsys):
    assert run(tool, '--help') == 0
    text = ' '.join(capsys.readouterr().out.split())
    assert 'NOT Segment Anything' in text and 'not SAM, mechanism only' in text


@pytest.mark.parametrize(
    ('checkpoint', 'options', 'message'),
    [
        ('no/such/folder', (), 'checkpoint `no/such/folder` does not exist'),
        ('superpixels', ('--suffix', '.gif'), 'holds no pictures that end in .gif'),
        ('superpixels', ('--points-per-side', 8), '--points-per-side is for Segment Anything'),
        ('superpixels', ('--pred-iou-thresh', 2), '--pred-iou-thresh must be from 0 to 1'),
        ('superpixels', ('--min-mask-area', -3), '--min-mask-area must be at least 0'),
        ('superpixels', ('--shard', '3'), '--shard must be i/n'),
        ('no/such/folder', ('--workers', 2), '--workers is for superpixels'),
        ('no/such/folder', ('--device', 'gpu'), '--device gpu: there is no such device'),
    ],
)
def test_errors_are_one_line(tool, pictures, tmp_path, capsys, checkpoint, options, message):
    if checkpoint != 'superpixels':
        pytest.importorskip('transformers')
    else:
        pytest.importorskip('skimage')
    assert run(tool, checkpoint, pictures, '--out', tmp_path / 'out', '--suffix', '.png', *options) == 1
    error = capsys.readouterr().err.strip()
    assert error.startswith('error: ') and message in error and '\n' not in error
    assert not (tmp_path / 'out').exists()
