import numpy as np
import pytest
from mmseg.structures import SegDataSample

from csrm_plugin.inference.audit_labels.counting import Maps, PictureTask, count_picture, enlarge, picture_box

WHOLE = (0.0, 1.0, 0.0, 1.0)


class Turned:
    """Stands for dCRF: turns each map upside down, and notes what it was given."""

    def __init__(self):
        self.calls = []

    def refine_labels(self, images, labels, num_labels):
        self.calls.append((len(images), labels[0].shape, num_labels))
        return [label[:, ::-1] for label in labels]


def test_every_pair_from_one_map_for_each_threshold():
    """bg, fg, uncertain by hand; the picture has class 5, its mask also class 2, and a pixel that is not counted."""
    low, high = np.array([[1, 1], [0, 1]]), np.array([[1, 0], [0, 0]])
    truth = np.array([[5, 2], [0, 255]], dtype=np.uint8)
    maps = np.stack([low, high]).astype(np.uint8)
    rows = ((0, 0, 0), (1, 1, 0), (2, 1, 1))
    task = PictureTask([Maps(maps, None, rows)], None, np.array([5]), truth, WHOLE, 3)
    classes, matrices = count_picture(task)
    assert classes.tolist() == [0, 5, 2]
    # Rows and columns: background, class 5, class 2; the last column is uncertain.
    expected = [
        [[1, 0, 0, 0], [0, 1, 0, 0], [0, 1, 0, 0]],
        [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]],
        [[1, 0, 0, 0], [0, 1, 0, 0], [1, 0, 0, 0]],
    ]
    assert matrices.tolist() == expected


def test_all_thresholds_are_refined_at_once():
    crf, picture = Turned(), np.zeros((2, 1, 3), dtype=np.uint8)
    maps = np.array([[[1], [0]], [[2], [0]], [[0], [0]]], dtype=np.uint8)
    task = PictureTask(
        [Maps(maps, crf, ((0, 1, 0), (1, 2, 0)))], picture, np.array([3, 4]), np.array([[0], [4]], np.uint8), WHOLE, 2
    )
    classes, matrices = count_picture(task)
    assert crf.calls == [(1, (3, 2, 1), [3])], 'one call for three thresholds and two pairs'
    assert classes.tolist() == [0, 3, 4]
    assert matrices[0].tolist() == [[1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0]]
    assert matrices[1].tolist() == [[1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]]


def test_refinement_may_find_foreground_at_the_higher_threshold_alone():
    """As Eq. 6: foreground is where fg says so, whatever bg says."""
    maps = np.array([[[0]], [[1]]], dtype=np.uint8)
    task = PictureTask([Maps(maps, None, ((0, 1, 0),))], None, np.array([1]), np.array([[1]], np.uint8), WHOLE, 1)
    assert count_picture(task)[1].tolist() == [[[0, 0, 0], [0, 1, 0]]]


def test_a_picture_without_classes_is_background():
    task = PictureTask(
        [Maps(np.zeros((1, 1, 1), np.uint8), None, ((0, 0, 0),))], None, np.array([], int), np.zeros((2, 3)), WHOLE, 1
    )
    classes, matrices = count_picture(task._replace(truth=task.truth.astype(np.uint8)))
    assert classes.tolist() == [0] and matrices.tolist() == [[[6, 0]]]


def test_enlarging_takes_what_is_at_the_centre():
    maps = np.array([[[1, 2, 3], [4, 5, 6]]])
    assert enlarge(maps, (2, 3), WHOLE).tolist() == maps.tolist()
    assert enlarge(maps, (1, 6), WHOLE).tolist() == [[[4, 4, 5, 5, 6, 6]]]
    # The picture is the first two columns of its padded input.
    assert enlarge(maps, (2, 4), (0, 1, 0, 2 / 3)).tolist() == [[[1, 1, 2, 2], [4, 4, 5, 5]]]


@pytest.mark.parametrize('key', ['img_padding_size', 'padding_size'])
def test_the_box_of_a_padded_picture(key):
    sample = SegDataSample(metainfo={key: (0, 16, 8, 24)})  # left, right, top, bottom
    assert picture_box((64, 64), sample) == (0.125, 0.625, 0, 0.75)
    assert picture_box((4, 4), SegDataSample()) == WHOLE
