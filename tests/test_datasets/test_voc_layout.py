import json

import numpy as np
import pytest
from mmseg.datasets import PascalVOCDataset

from csrm_plugin.datasets import voc_layout
from csrm_plugin.utils import MissingFileError, UserError


def test_palette_is_that_of_voc():
    assert voc_layout.voc_palette(21) == [list(colour) for colour in PascalVOCDataset.METAINFO['palette']]
    assert voc_layout.voc_palette(256)[255] == [224, 224, 192]
    assert len({tuple(colour) for colour in voc_layout.voc_palette(256)}) == 256


def test_read_split_takes_what_editors_leave_behind(tmp_path):
    path = tmp_path / 'train.txt'
    path.write_bytes(b'\xef\xbb\xbfa 1\r\n\r\n  b  \r\n\t\nc')
    assert voc_layout.read_split(str(path)) == ['a 1', 'b', 'c']


def test_read_split_errors(tmp_path):
    folder = tmp_path / 'ImageSets'
    folder.mkdir()
    (folder / 'val.txt').write_text('a\nb\na\n')
    (folder / 'train.txt').write_text('\n \n')
    with pytest.raises(MissingFileError, match=r'trian\.txt does not exist; the folder has the splits train, val'):
        voc_layout.read_split(str(folder / 'trian.txt'))
    with pytest.raises(UserError, match=r'train\.txt is empty'):
        voc_layout.read_split(str(folder / 'train.txt'))
    with pytest.raises(UserError, match=r'1 ids more than once: a'):
        voc_layout.read_split(str(folder / 'val.txt'))


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ('{"classes": ["a"]', 'not valid JSON'),
        ('[1]', 'its top level is list'),
        ({'labels': {}}, 'its top level is'),
        ({'classes': 'cat', 'labels': {}}, 'no list of names'),
        ({'classes': ['a', 'a'], 'labels': {}}, 'different names'),
        ({'classes': [], 'labels': {}}, 'different names'),
        ({'classes': ['cat'], 'labels': {'x': 'cat'}}, 'labels of x'),
        (
            {'classes': ['cat', 'dog'], 'labels': {'x': ['dgo']}},
            r"x has the unknown class 'dgo' \(nearest: dog\)",
        ),
    ],
)
def test_bad_label_files(tmp_path, content, message):
    path = tmp_path / 'labels.json'
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(UserError, match=message) as error:
        voc_layout.read_image_labels(str(path))
    assert str(path) in str(error.value)


def test_background_among_the_classes_is_dropped(tmp_path):
    path = tmp_path / 'labels.json'
    path.write_text(json.dumps({'classes': ['background', 'cat'], 'labels': {'x': ['cat']}}))
    assert voc_layout.read_image_labels(str(path)) == (['cat'], {'x': ['cat']})


def test_missing_files_looks_into_sub_folders(tmp_path):
    (tmp_path / 'sub').mkdir()
    for name in ('a.jpg', 'sub/b.jpg', 'c.png'):
        (tmp_path / name).touch()
    missing = voc_layout.missing_files(str(tmp_path), ['a', 'sub/b', 'c', 'sub/a', 'gone/a'], '.jpg')
    assert missing == ['c', 'sub/a', 'gone/a']


def test_multi_hot():
    vector = voc_layout.multi_hot(['dog', 'cow'], ['cat', 'dog', 'cow'])
    assert vector.dtype == np.float32
    assert vector.tolist() == [0, 1, 1]
