import importlib.util
import json

import numpy as np
import pytest
from PIL import Image

from csrm_plugin.utils.cli import run_tool


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Two pictures with label maps (one pixel of four wrong), CAMs and masks; the tests run in their folder."""
    monkeypatch.chdir(tmp_path)
    for name in ('pred', 'cams', 'masks'):
        (tmp_path / name).mkdir()
    for image_id in 'ab':
        Image.fromarray(np.array([[0, 1]], dtype=np.uint8)).save(tmp_path / 'masks' / f'{image_id}.png')
        labels = np.array([[0, int(image_id == 'a')]], dtype=np.uint8)
        Image.fromarray(labels).save(tmp_path / 'pred' / f'{image_id}.png')
        cams = np.array([[[0.2, 0.4]]], dtype=np.float16)
        np.savez_compressed(tmp_path / 'cams' / f'{image_id}.npz', cams=cams, classes=np.array([0]))
    (tmp_path / 'train.txt').write_text('a\nb\n')
    (tmp_path / 'empty.txt').write_text('\n')
    (tmp_path / 'nothing').mkdir()
    return tmp_path


@pytest.fixture
def tool(root, capsys, data):
    """Run the tool; gives exit status, stdout and stderr."""
    spec = importlib.util.spec_from_file_location('evaluate_labels', root / 'tools' / 'evaluate_labels.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def run(*arguments, pred='pred', gt='masks', split='train.txt'):
        given = [pred, gt, '--split-file', split, '--workers', '0', *arguments]
        with pytest.raises(SystemExit) as end:
            run_tool(module.main, module.build_parser(), given)
        return end.value.code, *capsys.readouterr()

    return run


def test_label_maps(tool, data):
    status, out, err = tool('--classes', 'msrc', '--json', 'new/scores.json')
    assert status == 0, err
    report = json.loads((data / 'new' / 'scores.json').read_text())
    # Background: 2 of a union of 3; aeroplane: 1 of 2.
    assert report['miou'] == 58.3333 and report['iou']['aeroplane'] == 50 and report['iou']['dog'] is None
    assert report['context']['pictures'] == 2 and report['context']['pred_dir'] == 'pred'
    assert '58.33' in out and 'aeroplane' in out and 'wrote new/scores.json' in out and 'threshold of' not in out


def test_curve(tool, data):
    (data / 'pred' / 'labels.json').write_text('{"settings": {"threshold": 0.1}}')
    (data / 'cams').rename(data / 'pred' / 'cams')
    arguments = ['--classes', 'demo', '--thresholds', '0.1:0.3:0.1', '--json', 'scores.json', '--plot', 'curve.png']
    status, out, err = tool(*arguments)
    assert status == 0, err
    report = json.loads((data / 'scores.json').read_text())
    assert report['miou'] == 58.3333 and [point['miou'] for point in report['curve']] == [25, 100, 100]
    assert report['best']['threshold'] == 0.2 and report['fixed'] == dict(
        threshold=0.1, miou=25, chosen_with='labels.json'
    )
    assert 'not a result that one could have had without masks' in out
    assert Image.open(data / 'curve.png').width > 500


def test_processes(tool, data):
    for workers in '02':
        status, _, err = tool('--classes', 'msrc', '--workers', workers, '--json', f'{workers}.json')
        assert status == 0, err
    assert (data / '0.json').read_text() == (data / '2.json').read_text()


def test_help_names_units_and_defaults(root, capsys, tool):
    status, out, _ = tool('--help')
    assert status == 0
    for word in ('percent', '0 to 1', 'default', 'voc, coco, msrc, demo', '255', 'A:B:C'):
        assert word in out


@pytest.mark.parametrize(
    'places, arguments, message',
    [
        (dict(split='none.txt'), [], 'none.txt'),
        (dict(split='empty.txt'), [], 'empty.txt is empty'),
        (dict(split='masks'), [], '`masks` is no file'),
        (dict(split='masks/a.png'), [], 'no text file'),
        (dict(pred='nothing'), [], '2 of 2 predictions are not in `nothing`: a.png, b.png'),
        (dict(gt='nothing'), [], '2 of 2 masks'),
        (dict(pred='none'), [], 'folder `none` does not exist'),
        (dict(gt='none'), [], 'folder `none` does not exist'),
        (dict(pred='nothing'), ['--thresholds', '0:1:0.1'], '2 of 2 CAMs'),
        (dict(pred='cams'), [], '--thresholds'),
        ({}, ['--classes', 'pets'], 'pets'),
        (dict(pred='cams'), ['--thresholds', '0:2:0.1'], '0:2:0.1'),
        (dict(pred='cams'), ['--thresholds', '1:2'], '1:2'),
        (dict(pred='cams'), ['--thresholds', '0:1:0.1', '--threshold', '7'], '--threshold'),
        ({}, ['--threshold', '0.3'], '--thresholds'),
        ({}, ['--plot', 'x.png'], '--thresholds'),
        (dict(pred='cams'), ['--thresholds', '0:1:0.1', '--plot', 'x.gif'], '.png'),
        ({}, ['--json', 'train.txt/x.json'], '--json'),
        ({}, ['--json', 'nothing'], '--json'),
        (dict(pred='cams'), ['--thresholds', '0:1:0.1', '--plot', 'train.txt/x.png'], '--plot'),
        ({}, ['--workers', '-1'], '--workers'),
    ],
)
def test_errors_are_one_line(tool, data, places, arguments, message):
    before = sorted(data.rglob('*'))
    status, out, err = tool(*arguments, **places)
    lines = [line for line in err.splitlines() if line.startswith('error: ')]
    assert status == 1 and not out and 'Traceback' not in err
    assert len(lines) == 1 and message in lines[0] and err.splitlines()[-1] == lines[0]
    assert sorted(data.rglob('*')) == before
