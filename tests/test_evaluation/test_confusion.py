import numpy as np
import pytest
import torch

from csrm_plugin.evaluation import CAM_THRESHOLDS, cam_confusion, confusion_matrix, iou, mean_iou
from csrm_plugin.functional import normalize_cam, threshold_cams


def slow_confusion(prediction, truth, num_classes):
    matrix = np.zeros((num_classes, num_classes), dtype=np.int64)
    for p, t in zip(prediction.flat, truth.flat):
        if t != 255:
            matrix[t, p] += 1
    return matrix


def test_confusion_matrix_worked_by_hand():
    truth = np.array([[0, 1, 1], [2, 255, 0]], dtype=np.uint8)
    prediction = np.array([[0, 1, 2], [2, 1, 1]])
    assert confusion_matrix(prediction, truth, 3).tolist() == [[1, 1, 0], [0, 1, 1], [0, 0, 1]]


def test_iou_worked_by_hand():
    matrix = np.array([[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 0], [0, 0, 0, 0]])
    np.testing.assert_allclose(iou(matrix), [1 / 2, 1 / 3, 1 / 2, np.nan])
    assert mean_iou(matrix) == pytest.approx((1 / 2 + 1 / 3 + 1 / 2) / 3)
    assert mean_iou(np.stack([matrix, np.eye(4)])).tolist() == pytest.approx([4 / 9, 1])


def test_class_that_is_only_predicted_counts_as_zero():
    assert iou(np.array([[3, 1], [0, 0]])).tolist() == [0.75, 0]


def test_thresholds():
    assert len(CAM_THRESHOLDS) == 19 and CAM_THRESHOLDS[0] == 0.05 and CAM_THRESHOLDS[-1] == 0.95
    np.testing.assert_allclose(np.diff(CAM_THRESHOLDS), 0.05)


def test_cam_confusion_equals_labels_made_one_threshold_at_a_time():
    rng = torch.Generator().manual_seed(0)
    cam = torch.randn(1, 4, 9, 11, generator=rng)
    labels = torch.tensor([[1, 0, 1, 1]])
    probs = normalize_cam(cam, labels=labels)[0].numpy()
    # Scores on the thresholds themselves, where the background wins.
    probs[0, 0, :] = np.float32(0.35)
    probs[2, 1, :] = np.float32(0.95)
    truth = torch.randint(0, 5, (9, 11), generator=rng).numpy().astype(np.uint8)
    truth[3:5] = 255
    result = cam_confusion(probs, truth)
    assert result.shape == (19, 5, 5) and (result.sum(axis=(1, 2)) == 77).all()
    for threshold, matrix in zip(CAM_THRESHOLDS, result):
        expected = slow_confusion(threshold_cams(probs, threshold), truth, 5)
        np.testing.assert_array_equal(matrix, expected)


def test_cam_confusion_of_a_picture_without_classes():
    truth = np.zeros((2, 2), dtype=np.uint8)
    result = cam_confusion(np.zeros((3, 2, 2), dtype=np.float32), truth, [0.0, 0.5])
    assert (result[:, 0, 0] == 4).all() and result.sum() == 8


def test_nothing_to_count():
    result = cam_confusion(np.ones((2, 3, 3), dtype=np.float32), np.full((3, 3), 255, dtype=np.uint8))
    assert result.shape == (19, 3, 3) and not result.any()
