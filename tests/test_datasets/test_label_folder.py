import gc

import numpy as np
import pytest
from PIL import Image

from csrm_plugin.datasets import voc_layout
from csrm_plugin.datasets.label_folder import claim_folder, read_label_png, read_manifest, require_files
from csrm_plugin.utils import MissingFileError, UserError
from csrm_plugin.visualization import save_label_png

LABELS = np.array([[0, 1, 255], [2, 2, 0]], dtype=np.uint8)


@pytest.fixture
def png(tmp_path):
    save_label_png(tmp_path / 'a.png', LABELS, voc_layout.voc_palette(3))
    return tmp_path / 'a.png'


def test_what_was_written_is_read(png):
    assert (read_label_png(png, 3, (2, 3)) == LABELS).all()
    Image.fromarray(LABELS).save(png)  # grey without a palette
    assert (read_label_png(png) == LABELS).all()


def test_each_defect_has_its_message(png, tmp_path):
    with pytest.raises(MissingFileError, match=r'`.*b\.png` does not exist'):
        read_label_png(tmp_path / 'b.png')
    with pytest.raises(UserError, match='holds class 2, but there are classes 0 to 1'):
        read_label_png(png, 2)
    with pytest.raises(UserError, match=r'3 x 2 pixels .* but 3 x 3 are expected'):
        read_label_png(png, 3, (3, 3))
    Image.fromarray(np.zeros((2, 3, 3), np.uint8)).save(tmp_path / 'rgb.png')
    with pytest.raises(UserError, match='mode RGB'):
        read_label_png(tmp_path / 'rgb.png')
    Image.fromarray(np.full((2, 3), 300, np.uint16)).save(tmp_path / 'deep.png')
    with pytest.raises(UserError, match='holds 300'):
        read_label_png(tmp_path / 'deep.png')


def test_a_truncated_file_is_said_to_be_one(tmp_path):
    save_label_png(tmp_path / 'a.png', np.random.default_rng(0).integers(0, 3, (40, 50)), voc_layout.voc_palette(3))
    whole = (tmp_path / 'a.png').read_bytes()
    for length in (0, 10, len(whole) // 2):
        (tmp_path / 'cut.png').write_bytes(whole[:length])
        with pytest.raises(UserError, match=r'cut\.png` cannot be read .* truncated or no PNG'):
            read_label_png(tmp_path / 'cut.png')


def test_missing_files_are_counted_and_named(png, tmp_path):
    require_files(tmp_path, ['a'], 'label maps')
    with pytest.raises(MissingFileError, match=r'2 of 3 label maps are not in .*: b\.png, c\.png\. Make them\.'):
        require_files(tmp_path, ['a', 'b', 'c'], 'label maps', hint='Make them.')
    with pytest.raises(MissingFileError, match=r'folder `.*nowhere` does not exist'):
        require_files(tmp_path / 'nowhere', ['a'], 'label maps')


def test_a_folder_belongs_to_one_setting(tmp_path):
    claim_folder(tmp_path / 'out', dict(classes=['a'], settings=dict(scales=(0.5, 1), threshold=0.4)))
    claim_folder(tmp_path / 'out', dict(classes=['a'], settings=dict(scales=(0.5, 1), threshold=0.4)))
    with pytest.raises(UserError, match=r'made with other settings \(threshold: 0.4 there, 0.5 now\)'):
        claim_folder(tmp_path / 'out', dict(classes=['a'], settings=dict(scales=(0.5, 1), threshold=0.5)))
    assert read_manifest(tmp_path / 'out')['settings'] == dict(scales=[0.5, 1], threshold=0.4)
    assert read_manifest(tmp_path) is None
    (tmp_path / 'masks').mkdir()
    (tmp_path / 'masks' / 'a.png').write_bytes(b'a mask')
    with pytest.raises(UserError, match=r'holds PNG files, but no labels\.json'):
        claim_folder(tmp_path / 'masks', dict(settings={}))
    (tmp_path / 'labels.json').write_text('{"a": ')
    with pytest.raises(UserError, match='is no JSON'):
        read_manifest(tmp_path)


def test_no_listing_of_the_folder_is_left_open(tmp_path, recwarn):
    for index in range(3):
        (tmp_path / f'{index}.png').write_bytes(b'x')
    with pytest.raises(UserError, match='holds PNG files, but no'):
        claim_folder(tmp_path, dict(settings={}))
    gc.collect()
    assert not [warning for warning in recwarn if warning.category is ResourceWarning]
