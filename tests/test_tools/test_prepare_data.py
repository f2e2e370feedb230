import importlib.util
import json
import os

import pytest
from PIL import Image

from csrm_plugin.datasets.synthetic import ensure_synthetic
from csrm_plugin.utils.cli import run_tool


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """A synthetic set that no test changes."""
    root = str(tmp_path_factory.mktemp('data') / 'demo')
    ensure_synthetic(root, image_size=(64, 48), num_train=6, num_val=3)
    return root


@pytest.fixture
def tool(root, capsys):
    """Run the tool; gives exit status, stdout and stderr."""
    spec = importlib.util.spec_from_file_location('prepare_data', root / 'tools' / 'prepare_data.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def run(*arguments):
        with pytest.raises(SystemExit) as end:
            run_tool(module.main, module.build_parser(), [str(argument) for argument in arguments])
        return end.value.code, *capsys.readouterr()

    return run


def labels_of(path):
    with open(path) as file:
        return json.load(file)['labels']


def test_masks(tool, data, tmp_path):
    status, out, _ = tool('masks', '--root', data, '--out', tmp_path)
    assert status == 0 and ('everything is in order' in out or '0 errors' in out)
    assert f'label_file={tmp_path}' in out and "split 'train': 6 pictures; with masks" in out
    for split in ('train', 'val'):
        name = f'image_labels_{split}.json'
        assert labels_of(tmp_path / name) == labels_of(os.path.join(data, name))


def test_existing_files_are_kept(tool, data, tmp_path):
    before = labels_of(os.path.join(data, 'image_labels_train.json'))
    status, _, err = tool('masks', '--root', data, '--min-pixels', 10**6)
    assert status == 1 and err.startswith('error: ') and '--overwrite' in err and len(err.splitlines()) == 1
    assert labels_of(os.path.join(data, 'image_labels_train.json')) == before
    tool('masks', '--root', data, '--out', tmp_path / 'all.json')
    status, *_ = tool('masks', '--root', data, '--out', tmp_path / 'all.json', '--min-pixels', 10**6, '--overwrite')
    assert status == 0 and not any(labels_of(tmp_path / 'all.json').values())


def test_csv(tool, data, tmp_path):
    labels = labels_of(os.path.join(data, 'image_labels_val.json'))
    table = tmp_path / 'table.csv'
    table.write_text('id,labels\n' + ''.join(f'{key},{";".join(names)}\n' for key, names in labels.items()))
    arguments = ('csv', '--root', data, '--csv', table, '--out', tmp_path, '--classes', 'synthetic')
    assert tool(*arguments, '--splits', 'val')[0] == 0
    assert labels_of(tmp_path / 'image_labels_val.json') == labels
    status, _, err = tool(*arguments, '--splits', 'train')
    assert status == 1 and 'no row for 6 ids of train, for example train_0000' in err


def test_voc_xml(tool, shared, tmp_path):
    root = shared / 'data' / 'voc12_mini' / 'VOCdevkit' / 'VOC2012'
    status, out, _ = tool('voc-xml', '--root', root, '--out', tmp_path, '--splits', 'train')
    assert status == 0 and '2011_000006 (label lacks chair, sofa)' in out
    assert labels_of(tmp_path / 'image_labels_train.json')['2011_000006'] == ['person']


def test_coco_json(tool, tmp_path):
    pytest.importorskip('pycocotools', reason='painting COCO masks needs pycocotools')
    (tmp_path / 'annotations').mkdir()
    for split, index in (('train', 1), ('val', 2)):
        (tmp_path / f'{split}2014').mkdir()
        Image.new('RGB', (4, 4)).save(tmp_path / f'{split}2014' / f'{index}.jpg')
        content = dict(
            categories=[dict(id=3, name='car')],
            images=[dict(id=index, file_name=f'{index}.jpg', width=4, height=4)],
            annotations=[dict(id=1, image_id=index, category_id=3, segmentation=[[0, 0, 2, 0, 2, 2, 0, 2]])],
        )
        (tmp_path / 'annotations' / f'instances_{split}2014.json').write_text(json.dumps(content))
    status, out, _ = tool('coco-json', '--root', tmp_path)
    assert status == 0 and 'everything is in order' in out
    assert labels_of(tmp_path / 'image_labels_val.json') == {'2': ['car']}
    status, _, err = tool('coco-json', '--root', tmp_path, '--images', tmp_path / 'train2014')
    assert status == 1 and 'belong to one split' in err


def test_check_fails_on_errors(tool, tmp_path):
    root = str(tmp_path / 'demo')
    assert tool('synthetic', '--root', root, '--size', 64, 48, '--num-train', 2, '--num-val', 1)[0] == 0
    assert tool('check', '--root', root)[0] == 0
    os.remove(os.path.join(root, 'JPEGImages', 'train_0001.jpg'))
    status, out, _ = tool('check', '--root', root, '--quick')
    assert status == 1 and 'error: ' in out and 'train_0001.jpg' in out


def test_unknown_classes_and_missing_root(tool, tmp_path):
    status, _, err = tool('check', '--root', tmp_path / 'gone', '--debug')
    assert status == 1 and 'Traceback' in err and 'Data root' in err.splitlines()[-1]
    root = str(tmp_path / 'demo')
    ensure_synthetic(root, image_size=(64, 48), num_train=1, num_val=1)
    for split in ('train', 'val'):
        os.remove(os.path.join(root, f'image_labels_{split}.json'))
    status, _, err = tool('masks', '--root', root)
    assert status == 1 and '--classes' in err
    assert tool('masks', '--root', root, '--classes', 'synthetic')[0] == 0
    assert os.path.isfile(os.path.join(root, 'image_labels_train.json'))
