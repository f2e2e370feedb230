import numpy as np
import pytest
import torch
from mmseg.structures import SegDataSample

from csrm_plugin.evaluation import affinity_histograms, grid_classes, histogram_auc
from csrm_plugin.models.segmentors import CAMClassifier

TRUTH = np.array([[0, 0, 1, 1], [0, 0, 1, 255], [2, 2, 3, 3], [2, 2, 3, 3]])


def test_classes_at_the_centres():
    assert grid_classes(TRUTH, (2, 2), dict(img_shape=(8, 8))).tolist() == [0, 255, 2, 3]  # centres fall on (1, 3)
    assert grid_classes(TRUTH, (4, 4), dict(img_shape=(8, 8))).tolist() == TRUTH.ravel().tolist()
    # Another proportion than the mask's: rows of the grid may fall on one pixel.
    assert grid_classes(TRUTH[:1], (3, 4), dict(img_shape=(30, 8))).tolist() == TRUTH[0].tolist() * 3


@pytest.mark.parametrize(
    'meta, expected',
    [
        (dict(flip=True, flip_direction='horizontal'), TRUTH[:, ::-1]),
        (dict(flip=True, flip_direction='vertical'), TRUTH[::-1]),
        (dict(flip=True, flip_direction=None), TRUTH[:, ::-1]),
        (dict(flip=False, flip_direction='horizontal'), TRUTH),
    ],
)
def test_flips_are_undone(meta, expected):
    assert grid_classes(TRUTH, (4, 4), dict(img_shape=(16, 16), **meta)).tolist() == expected.ravel().tolist()


def test_padding_is_left_out():
    # 8 x 8 pixels of picture, two rows of padding above and four columns to the right: a grid of 5 x 6 cells of 2.
    meta = dict(img_shape=(8, 8), img_padding_size=(0, 4, 2, 0), padding_size=(9, 9, 9, 9))
    expected = np.full((5, 6), 255)
    expected[1:, :4] = TRUTH
    assert grid_classes(TRUTH, (5, 6), meta).tolist() == expected.ravel().tolist()
    expected[1:, :4] = TRUTH[:, ::-1]
    meta = dict(img_shape=(8, 8), padding_size=(0, 4, 2, 0), flip=True)
    assert grid_classes(TRUTH, (5, 6), meta).tolist() == expected.ravel().tolist()


def test_positions_are_those_that_maps_are_restored_to():
    """A map that is high at one position of the grid peaks, restored, on a pixel of that position's class."""
    model = CAMClassifier.__new__(CAMClassifier)  # of which nothing but a constant is used
    truth = np.arange(12 * 20).reshape(12, 20) % 251
    meta = dict(
        ori_shape=(12, 20), img_shape=(24, 40), img_padding_size=(0, 8, 0, 8), flip=True, flip_direction='horizontal'
    )
    classes = grid_classes(truth, (4, 6), meta).reshape(4, 6)
    assert (classes[3] == 255).all() and (classes[:, 5] == 255).all() and (classes[:3, :5] != 255).all()
    for row, column in np.ndindex(3, 5):
        maps = torch.zeros(1, 1, 32, 48)
        maps[0, 0, 8 * row + 3 : 8 * row + 5, 8 * column + 3 : 8 * column + 5] = 1
        restored = model.restore(maps, [SegDataSample(metainfo=meta)])[0][0].numpy()
        assert classes[row, column] in truth[restored > 0.9 * restored.max()]


def slow_histograms(affinity, classes, bins):
    counts = np.zeros((2, bins), dtype=np.int64)
    for i, a in enumerate(classes):
        for j, b in enumerate(classes):
            if i != j and a != 255 and b != 255:
                counts[int(a == b), min(int(affinity[i, j] * bins), bins - 1)] += 1
    return counts


def test_histograms_equal_a_slow_loop():
    rng = np.random.default_rng(0)
    affinity = rng.random((12, 12), dtype=np.float32)
    affinity[0, 1], affinity[2, 3] = 1, 0
    classes = rng.choice([0, 1, 2, 255], 12)
    for bins in (7, 1000):
        assert (affinity_histograms(affinity, classes, bins) == slow_histograms(affinity, classes, bins)).all()
    assert affinity_histograms(affinity, np.full(12, 255)).sum() == 0


def test_auc_equals_a_slow_loop_over_pairs():
    rng = np.random.default_rng(1)
    values = rng.integers(0, 10, (9, 9)) / 10 + 0.05  # many ties
    classes = rng.integers(0, 3, 9)
    pairs = [(values[i, j], classes[i] == classes[j]) for i in range(9) for j in range(9) if i != j]
    positive, negative = ([value for value, same in pairs if same is np.bool_(kind)] for kind in (True, False))
    wins = sum((p > n) + 0.5 * (p == n) for p in positive for n in negative)
    auc = histogram_auc(affinity_histograms(values, classes))
    assert auc == pytest.approx(wins / len(positive) / len(negative))


def test_auc_at_its_ends():
    same = np.array([0, 0, 1, 1])
    affinity = (same[:, None] == same[None]).astype(float)
    assert histogram_auc(affinity_histograms(affinity, same)) == 1
    assert histogram_auc(affinity_histograms(1 - affinity, same)) == 0
    assert histogram_auc(affinity_histograms(np.full((4, 4), 0.3), same)) == 0.5
    assert np.isnan(histogram_auc(affinity_histograms(affinity, np.zeros(4, int))))
