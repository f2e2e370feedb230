import json

import pytest

from csrm_plugin.datasets.preparation import resolve_classes, resolve_splits, write_labels, write_split_labels
from csrm_plugin.utils import MissingFileError, UserError


def test_resolve_classes(tmp_path, voc_folder):
    assert resolve_classes(None) is None
    assert resolve_classes(['cat', 'dog']) == ['cat', 'dog']
    assert resolve_classes(['background', 'cat']) == ['cat']
    assert len(resolve_classes(['coco14'])) == 80 and resolve_classes(['voc12'])[0] == 'aeroplane'
    (tmp_path / 'names.txt').write_text('cat\ntraffic light\n')
    assert resolve_classes([str(tmp_path / 'names.txt')]) == ['cat', 'traffic light']
    assert resolve_classes([voc_folder.path('image_labels.json')]) == ['cat', 'dog']
    with pytest.raises(UserError, match='must be different'):
        resolve_classes(['cat', 'cat'])


def test_resolve_splits(voc_folder, tmp_path):
    assert resolve_splits(voc_folder.root) == dict(train=['a', 'b', 'c'], val=['d'])
    assert resolve_splits(voc_folder.root, ['val']) == dict(val=['d'])
    with pytest.raises(MissingFileError, match=r'test\.txt does not exist'):
        resolve_splits(voc_folder.root, ['test'])
    (tmp_path / 'flat' / 'JPEGImages').mkdir(parents=True)
    with pytest.raises(MissingFileError, match='neither lists'):
        resolve_splits(str(tmp_path / 'flat'))
    (tmp_path / 'flat' / 'JPEGImages' / 'x.jpg').touch()
    assert resolve_splits(str(tmp_path / 'flat')) == {'': ['x']}


def test_write_split_labels(tmp_path):
    splits, labels = dict(train=['a'], val=['b']), dict(a={'dog', 'cat'}, b=[], c=['cat'])
    paths = write_split_labels(str(tmp_path), splits, ['cat', 'dog'], labels)
    assert paths['train'] == str(tmp_path / 'image_labels_train.json')
    assert json.loads((tmp_path / 'image_labels_train.json').read_text()) == dict(
        classes=['cat', 'dog'], labels=dict(a=['cat', 'dog'])
    )
    write_split_labels(str(tmp_path / 'all.json'), splits, ['cat', 'dog'], labels)
    assert json.loads((tmp_path / 'all.json').read_text())['labels'] == dict(a=['cat', 'dog'], b=[])
    assert write_split_labels(str(tmp_path / 'x'), {'': ['a']}, ['cat', 'dog'], labels)[''].endswith(
        'x/image_labels.json'
    )


def test_a_failing_write_keeps_the_old_file(tmp_path):
    path = tmp_path / 'labels.json'
    path.write_text('old')
    with pytest.raises(TypeError):
        write_labels(str(path), ['cat', object()], {})
    assert path.read_text() == 'old' and len(list(tmp_path.iterdir())) == 1
