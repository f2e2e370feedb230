import numpy as np
import pytest
from PIL import Image

from csrm_plugin.datasets.preparation import labels_from_masks
from csrm_plugin.datasets.preparation.common import read_mask, write_mask
from csrm_plugin.utils import MissingFileError, UserError


def save(path, rows, mode=None):
    image = Image.fromarray(np.array(rows, dtype=np.uint8))
    (image.convert(mode) if mode else image).save(path)


def test_labels(tmp_path):
    save(tmp_path / 'a.png', [[0, 1, 1], [255, 1, 2]])
    write_mask(str(tmp_path / 'b.png'), np.array([[0, 255]], dtype=np.uint8))
    assert labels_from_masks(['a', 'b'], ['cat', 'dog'], str(tmp_path)) == dict(a=['cat', 'dog'], b=[])
    assert labels_from_masks(['a'], ['cat', 'dog'], str(tmp_path), min_pixels=2) == dict(a=['cat'])


def test_errors_name_the_file(tmp_path):
    save(tmp_path / 'high.png', [[0, 3, 254, 255]])
    save(tmp_path / 'colour.png', [[0, 1]], mode='RGB')
    (tmp_path / 'broken.png').write_bytes((tmp_path / 'high.png').read_bytes()[:40])
    with pytest.raises(UserError, match=r'high\.png has the values \[3, 254\].*0 to 2, or 255'):
        labels_from_masks(['high'], ['cat', 'dog'], str(tmp_path))
    with pytest.raises(UserError, match=r'colour\.png holds RGB pixels'):
        labels_from_masks(['colour'], ['cat', 'dog'], str(tmp_path))
    with pytest.raises(UserError, match=r'broken\.png cannot be read'):
        labels_from_masks(['broken'], ['cat', 'dog'], str(tmp_path))
    with pytest.raises(MissingFileError, match=r'1 of 2 masks .* gone\.png'):
        labels_from_masks(['high', 'gone'], ['cat', 'dog'], str(tmp_path))


def test_masks_are_written_with_the_palette_of_voc(tmp_path):
    mask = np.array([[0, 1], [255, 20]], dtype=np.uint8)
    path = str(tmp_path / 'sub' / 'a.png')
    write_mask(path, mask)
    assert (read_mask(path) == mask).all()
    with Image.open(path) as image:
        assert image.mode == 'P'
        colours = np.array(image.convert('RGB'))
    assert colours[0, 1].tolist() == [128, 0, 0] and colours[1, 0].tolist() == [224, 224, 192]
