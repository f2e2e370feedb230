import numpy as np
import pytest
import torch

from csrm_plugin.inference.sam_masks.geometry import crop_boxes, is_cut, point_grid, stability_scores, suppress_boxes


def test_point_grid():
    assert point_grid(1).tolist() == [[0.5, 0.5]]
    assert point_grid(2).tolist() == [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]


def test_crop_boxes():
    assert crop_boxes(30, 40, 0) == [(0, 0, 40, 30)]
    # overlap 10: crops of 25 x 20
    assert crop_boxes(30, 40, 1) == [(0, 0, 40, 30), (0, 0, 25, 20), (0, 10, 25, 30), (15, 0, 40, 20), (15, 10, 40, 30)]
    boxes = crop_boxes(333, 500, 2)
    assert len(boxes) == 1 + 4 + 16
    for first, last in ((1, 5), (5, 21)):
        seen = np.zeros((333, 500), dtype=int)
        for left, top, right, bottom in boxes[first:last]:
            assert 0 <= left < right <= 500 and 0 <= top < bottom <= 333
            seen[top:bottom, left:right] += 1
        assert seen.min() >= 1 and seen.max() == 4


def test_cut_masks():
    whole, crop = (0, 0, 400, 300), (0, 0, 250, 200)
    assert not is_cut((0, 0, 400, 300), whole, (300, 400))
    assert not is_cut((0, 0, 200, 150), crop, (300, 400))  # at the border of the picture only
    assert is_cut((100, 50, 131, 20), crop, (300, 400))  # ends at 230, 20 pixels from 250
    assert not is_cut((100, 50, 130, 20), crop, (300, 400))
    assert is_cut((10, 100, 20, 95), crop, (300, 400))
    assert is_cut((100, 50, 131, 20), (0, 0, 245, 200), (300, 400))
    assert not is_cut((100, 50, 131, 20), (0, 0, 245, 200), (300, 250))  # ends near the border of the picture, too


def slow_suppression(boxes, scores, max_iou):
    kept = []
    for index in sorted(range(len(boxes)), key=lambda i: (-scores[i], i)):
        x0, y0, x1, y1 = boxes[index]
        for other in kept:
            a0, b0, a1, b1 = boxes[other]
            shared = max(0, min(x1, a1) - max(x0, a0)) * max(0, min(y1, b1) - max(y0, b0))
            if shared > max_iou * ((x1 - x0) * (y1 - y0) + (a1 - a0) * (b1 - b0) - shared):
                break
        else:
            kept.append(index)
    return kept


@pytest.mark.parametrize('max_iou', [0, 0.3, 0.7, 1])
def test_suppression_equals_a_slow_loop(max_iou):
    rng = np.random.default_rng(0)
    corners = rng.integers(0, 12, (80, 2))
    boxes = np.concatenate([corners, corners + rng.integers(0, 9, (80, 2))], axis=1)
    scores = rng.integers(0, 20, 80) / 20
    kept = suppress_boxes(boxes, scores, max_iou)
    assert kept == slow_suppression(boxes.tolist(), scores.tolist(), max_iou)
    assert max_iou == 1 or len(kept) < 80
    assert suppress_boxes([], []) == []


def test_stability_scores():
    logits = torch.tensor([[[2.0, 0.5, -0.5, -2.0]], [[-3.0, -3.0, -3.0, -3.0]], [[2.0, 3.0, -9.0, -9.0]]])
    assert stability_scores(logits).tolist() == pytest.approx([1 / 3, 0, 1])
