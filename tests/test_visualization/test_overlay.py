import numpy as np
import pytest

from csrm_plugin.visualization import overlay_cams, overlay_labels, tile_lines

PALETTE = [(0, 0, 0), (200, 0, 0), (0, 0, 200)]


def grey(height=12, width=16, value=120):
    return np.full((height, width, 3), value, dtype=np.uint8)


def test_labels_tint_dim_and_hatch():
    labels = np.zeros((12, 16), dtype=np.int64)
    labels[2:10, 2:8] = 1
    labels[:, 12:] = 255
    drawn = overlay_labels(grey(), labels, PALETTE, opacity=0.5)
    np.testing.assert_array_equal(drawn[5, 5], [160, 60, 60])  # half picture, half class colour
    np.testing.assert_array_equal(drawn[0, 0], [66, 66, 66])  # background is dimmed
    np.testing.assert_array_equal(drawn[2, 2], [255, 255, 255])  # the outline
    hatched = drawn[:, 12:]
    assert (hatched == hatched[..., :1]).all(), 'uncertain pixels are grey'
    assert len(np.unique(hatched)) == 2, 'in stripes'


def test_labels_leave_the_picture_alone():
    image = grey()
    overlay_labels(image, np.ones((12, 16), dtype=int), PALETTE)
    assert (image == 120).all()


def test_the_colour_of_the_picture_does_not_mix_into_that_of_the_class():
    labels = np.ones((12, 16), dtype=int)
    red, blue = (np.full((12, 16, 3), colour, dtype=np.uint8) for colour in ((240, 0, 0), (0, 0, 240)))
    np.testing.assert_array_equal(overlay_labels(red, labels, PALETTE), overlay_labels(blue, labels, PALETTE))


def test_cams_show_the_strongest_class_by_its_strength():
    probs = np.zeros((2, 12, 16), dtype=np.float32)
    probs[0, :, :4] = 1.0
    probs[1, :, :8] = 0.5
    drawn = overlay_cams(grey(), probs, PALETTE).astype(int)
    paper = drawn[0, 12]
    assert paper.std() == 0
    assert drawn[0, 0, 0] > drawn[0, 0, 2], 'class 1 in red where it is stronger'
    assert drawn[0, 6, 2] > drawn[0, 6, 0], 'class 2 in blue elsewhere'
    assert abs(drawn[0, 0] - paper).sum() > abs(drawn[0, 6] - paper).sum(), 'stronger is more'


def test_tile_lines_are_at_the_borders_of_the_tiles():
    drawn = tile_lines(grey(), 2)
    white = (drawn == 255).all(axis=2)
    assert white[5:7].all() and white[:, 7:9].all()
    assert white.sum() == 2 * 16 + 2 * 12 - 4


@pytest.mark.parametrize('draw', [overlay_labels, overlay_cams])
def test_other_sizes_are_refused(draw):
    maps = np.zeros((2, 6, 8)) if draw is overlay_cams else np.zeros((6, 8), dtype=int)
    with pytest.raises(ValueError, match=r'\(6, 8\)'):
        draw(grey(), maps, PALETTE)
