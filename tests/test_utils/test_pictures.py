import numpy as np
import pytest
from mmseg.structures import SegDataSample
from PIL import Image

from csrm_plugin.utils import MissingFileError, UserError
from csrm_plugin.utils.pictures import picture_id, picture_size, read_rgb


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)


def test_pixels_are_rgb_of_every_mode(pixels, tmp_path):
    Image.fromarray(pixels).save(tmp_path / 'a.png')
    np.testing.assert_array_equal(read_rgb(tmp_path / 'a.png'), pixels)
    Image.fromarray(pixels[..., 0]).save(tmp_path / 'grey.png')
    np.testing.assert_array_equal(read_rgb(tmp_path / 'grey.png'), np.repeat(pixels[..., :1], 3, axis=2))


@pytest.mark.parametrize('orientation', [1, 3, 6, 8])
def test_pictures_are_turned_as_the_camera_says(pixels, tmp_path, orientation):
    picture = Image.fromarray(pixels)
    exif = picture.getexif()
    exif[0x0112] = orientation
    picture.save(tmp_path / 'a.png', exif=exif)
    quarters = {1: 0, 3: 2, 6: 3, 8: 1}[orientation]  # counter-clockwise
    seen = read_rgb(tmp_path / 'a.png')
    np.testing.assert_array_equal(seen, np.rot90(pixels, quarters))
    assert picture_size(tmp_path / 'a.png') == seen.shape[:2]


@pytest.mark.parametrize('read', [read_rgb, picture_size])
def test_broken_and_missing_pictures_are_named(tmp_path, read):
    (tmp_path / 'a.jpg').write_bytes(b'no picture')
    with pytest.raises(UserError, match=r'picture `.*a\.jpg` cannot be read .* truncated or no picture'):
        read(tmp_path / 'a.jpg')
    with pytest.raises(MissingFileError, match=r'picture `.*b\.jpg` does not exist'):
        read(tmp_path / 'b.jpg')


def test_a_picture_is_called_by_its_id_or_else_its_file():
    assert picture_id(dict(img_id='x', img_path='a/b.c.jpg')) == 'x'
    assert picture_id(dict(img_path='a/b.c.jpg')) == 'b.c'
    assert picture_id(SegDataSample(metainfo=dict(img_id=3))) == '3'
    assert picture_id(SegDataSample(metainfo=dict(img_path='/x/y.png'))) == 'y'
