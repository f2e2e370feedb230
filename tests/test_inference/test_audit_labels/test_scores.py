import numpy as np
import pytest

from csrm_plugin.inference.audit_labels.scores import score_labels

NAMES = ('background', 'cat', 'dog')


def test_by_hand():
    #            bg cat dog unc
    matrix = [[50, 10, 0, 20], [5, 30, 15, 10], [10, 5, 20, 25]]
    scores = score_labels(np.array(matrix), NAMES)
    assert scores['coverage'] == pytest.approx(100 * 145 / 200)
    iou = {'background': 50 / 75, 'cat': 30 / 65, 'dog': 20 / 50}
    assert scores['iou'] == pytest.approx({name: 100 * value for name, value in iou.items()}, abs=1e-4)
    assert scores['miou'] == pytest.approx(100 * sum(iou.values()) / 3, abs=1e-4)
    assert scores['accuracy'] == pytest.approx(100 * 100 / 145, abs=1e-4)
    expected = dict(
        precision=50 / 80,
        precision_any=70 / 80,
        recall=50 / 120,
        recall_any=70 / 120,
        labelled=85 / 120,
        share=80 / 145,
    )
    assert scores['foreground'] == pytest.approx({name: 100 * value for name, value in expected.items()}, abs=1e-4)
    assert scores['background'] == pytest.approx(dict(precision=100 * 50 / 65, recall=100 * 50 / 80), abs=1e-4)
    assert scores['precision']['dog'] == pytest.approx(100 * 20 / 35, abs=1e-4)
    assert scores['recall']['dog'] == pytest.approx(100 * 20 / 60, abs=1e-4)


def test_a_class_without_a_labelled_pixel_counts_as_zero():
    """Or labelling none of a hard class would raise the score."""
    matrix = np.array([[10, 0, 0, 0], [0, 10, 0, 0], [0, 0, 0, 10]])
    scores = score_labels(matrix, NAMES)
    assert scores['miou'] == pytest.approx(200 / 3, abs=1e-4) and scores['iou']['dog'] == 0
    assert scores['precision']['dog'] is None and scores['recall']['dog'] == 0
    absent = score_labels(matrix * [[1], [1], [0]], NAMES)
    assert absent['miou'] == 100 and absent['iou']['dog'] is None, 'in neither masks nor labels'


def test_nothing_labelled():
    scores = score_labels(np.array([[0, 0, 0, 4], [0, 0, 0, 2], [0, 0, 0, 0]]), NAMES)
    assert scores['coverage'] == 0 and scores['miou'] == 0 and scores['accuracy'] is None
    assert scores['foreground']['precision'] is None and scores['foreground']['recall'] == 0
    empty = score_labels(np.zeros((3, 4), dtype=int), NAMES)
    assert empty['coverage'] is None and empty['miou'] is None
