import numpy as np
import pytest
from PIL import Image

from csrm_plugin.visualization import save_label_png

PALETTE = [(0, 0, 0), (128, 0, 0), (0, 128, 0)]


def test_pixels_are_class_indices_and_colours_those_of_the_palette(tmp_path):
    labels = np.array([[0, 1], [2, 255]])
    save_label_png(tmp_path / 'x.png', labels, PALETTE)
    picture = Image.open(tmp_path / 'x.png')
    assert picture.mode == 'P'
    np.testing.assert_array_equal(np.asarray(picture), labels)
    colours = np.asarray(picture.convert('RGB')).reshape(-1, 3).tolist()
    assert colours == [[0, 0, 0], [128, 0, 0], [0, 128, 0], [224, 224, 192]]


@pytest.mark.parametrize('labels', [np.array([[0, 3]]), np.array([[-1, 0]]), np.zeros((1, 2, 2), dtype=int)])
def test_what_is_no_label_map_is_refused(tmp_path, labels):
    with pytest.raises(ValueError, match='from 0 to 2 or 255'):
        save_label_png(tmp_path / 'x.png', labels, PALETTE)
    assert not list(tmp_path.iterdir())
