import base64
import io

import numpy as np
import pytest
from PIL import Image

from csrm_plugin.report import pictures
from csrm_plugin.report.markup import Ids
from csrm_plugin.report.sources import load_runs
from csrm_plugin.utils import UserError


def decode(uri):
    head, data = uri.split(',', 1)
    return head, Image.open(io.BytesIO(base64.b64decode(data)))


def test_photos_are_scaled_down_and_flat_pictures_stay_exact(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (60, 640, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / 'photo.png')
    head, photo = decode(pictures.data_uri(tmp_path / 'photo.png', 320))
    assert head == 'data:image/jpeg;base64' and photo.size == (320, 30)
    flat = np.zeros((30, 40, 3), np.uint8)
    flat[10:, 5:] = (128, 0, 0)
    Image.fromarray(flat).save(tmp_path / 'flat.png')
    head, same = decode(pictures.data_uri(tmp_path / 'flat.png', 320))
    assert head == 'data:image/png;base64' and np.array_equal(np.asarray(same), flat)


def test_missing_and_broken_pictures_are_named(tmp_path):
    with pytest.raises(UserError, match=r'gone\.png` does not exist'):
        pictures.data_uri(tmp_path / 'gone.png', 10)
    (tmp_path / 'broken.png').write_text('no picture')
    with pytest.raises(UserError, match=r'broken\.png` cannot be read'):
        pictures.data_uri(tmp_path / 'broken.png', 10)


def test_a_cut_picture_is_no_traceback(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (9, 12, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / 'whole.png')
    content = (tmp_path / 'whole.png').read_bytes()
    read = []
    for size in range(len(content)):
        (tmp_path / 'cut.png').write_bytes(content[:size])
        try:
            read.append(pictures.data_uri(tmp_path / 'cut.png', 12) and size)
        except UserError as error:
            assert 'cut.png` cannot be read' in str(error)
    assert all(size > len(content) - 40 for size in read), len(content)  # the end marks alone can be missing


def test_samples_are_spread_evenly_with_the_first_and_the_last():
    assert pictures._spread([1, 2, 3], 5) == [1, 2, 3]
    assert pictures._spread(list(range(101)), 5) == [0, 25, 50, 75, 100]


def test_a_long_run_shows_some_of_its_samples(tmp_path, build):
    folder = build['pictures'](build['run'](tmp_path), steps=range(10, 510, 10), samples=('a', 'b', 'c', 'd'))
    text = ''.join(pictures.sample_section(Ids(), load_runs([folder])[0]).content)
    assert text.count('<img ') <= pictures.MAX_FRAMES
    assert 'Shown: 3 of 4 pictures, 18 of 50 validations, evenly spread.' in text
    assert text.count(' hidden>') == text.count('<img ') - 3 + 1  # and the control, without its script
