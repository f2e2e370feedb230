import numpy as np
import pytest
import torch

from csrm_plugin.functional import cam_pseudo_labels
from csrm_plugin.utils import UserError


def label(values, labels, fg=0.5, bg=0.2, crf=None, images=None):
    """Labels of one picture of one row; ``values`` has one list per class."""
    cams = torch.tensor(values, dtype=torch.float32)[None, :, None, :]
    return cam_pseudo_labels(images, cams, torch.tensor([labels]), fg, bg, crf).flatten().tolist()


def test_worked_by_hand():
    # Above 0.5: foreground; up to 0.2: background; in between: uncertain. Of two classes the higher one wins.
    values = [[0.9, 0.4, 0.1, 0.6], [0.2, 0.1, 0.0, 0.7], [0.0, 0.3, 0.2, 1.0]]
    assert label(values, [1, 1, 0]) == [1, 255, 0, 2]
    assert label(values, [0, 0, 1]) == [0, 255, 0, 3]


def test_background_wins_ties():
    assert label([[0.5, 0.25, 0.50001]], [1], fg=0.5, bg=0.25) == [255, 0, 1]


def test_thresholds_are_compared_in_the_precision_of_the_cams():
    # float32(0.35) is above the double 0.35: a comparison in double would call the tie foreground.
    assert label([[0.35]], [1], fg=0.35, bg=0.35) == [0]


def test_first_of_equal_classes_wins():
    assert label([[0.8], [0.8]], [1, 1]) == [1]


def test_picture_without_classes_is_background():
    assert label([[0.9, 0.8]], [0]) == [0, 0]


def test_equal_thresholds_leave_nothing_uncertain():
    assert label([[0.1, 0.3, 0.31, 0.9]], [1], fg=0.3, bg=0.3) == [0, 0, 1, 1]


@pytest.mark.parametrize(('fg', 'bg'), [(0.1, 0.2), (1.1, 0.2), (0.5, -0.1), (float('nan'), 0.1)])
def test_thresholds_out_of_order_or_range(fg, bg):
    with pytest.raises(UserError, match=f'`bg_threshold` \\({bg}\\).*`fg_threshold` \\({fg}\\)'):
        label([[0.5]], [1], fg, bg)


def test_equals_slow_loop():
    cams, labels = torch.rand(4, 5, 6, 7), (torch.rand(4, 5) < 0.5).float()
    labels[0] = 0
    result = cam_pseudo_labels(None, cams, labels, 0.7, 0.4)
    for b in range(4):
        for y in range(6):
            for x in range(7):
                own = [(float(cams[b, c, y, x]), c + 1) for c in range(5) if labels[b, c]]
                score, best = max(own) if own else (0.0, 0)
                expected = best if score > 0.7 else (0 if score <= 0.4 else 255)
                assert result[b, y, x] == expected


def test_refines_with_both_thresholds_over_own_classes_only():
    class Recorder:
        def refine_labels(self, images, labels, num_labels):
            self.labels, self.num_labels = labels, num_labels
            return [1 - pair if count == 2 else pair for pair, count in zip(labels, num_labels)]

    crf, image = Recorder(), np.zeros((1, 1, 4, 3), dtype=np.uint8)
    values = [[0.9] * 4, [0.9, 0.4, 0.1, 0.6]]
    # The toy refinement swaps background and the own class, here class 2: (1, 0, 0, 1) -> (0, 1, 1, 0) and
    # (1, 1, 0, 1) -> (0, 0, 1, 0). Foreground stays where the first says so, whatever the second says.
    assert label(values, [0, 1], crf=crf, images=image) == [0, 2, 2, 0]
    assert crf.num_labels == [2]
    assert crf.labels[0].tolist() == [[[1, 0, 0, 1]], [[1, 1, 0, 1]]]


def test_uncertain_after_refinement():
    class Shift:
        def refine_labels(self, images, labels, num_labels):
            return [np.array([[[1, 0, 0, 1]], [[0, 0, 1, 1]]], dtype=np.uint8) for _ in labels]

    image = np.zeros((1, 1, 4, 3), dtype=np.uint8)
    assert label([[0.9] * 4], [1], crf=Shift(), images=image) == [1, 0, 255, 1]


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_and_arrays(dtype):
    cams = torch.tensor([[[[0.75, 0.25, 0.125]]]])
    expected = [[[1, 255, 0]]]
    assert cam_pseudo_labels(None, cams.to(dtype), torch.ones(1, 1), 0.5, 0.2).tolist() == expected
    result = cam_pseudo_labels(None, cams.numpy(), np.ones((1, 1)), 0.5, 0.2)
    assert result.tolist() == expected and result.dtype == torch.int64


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match=r'`labels` \(B, C\)'):
        cam_pseudo_labels(None, torch.zeros(1, 2, 3, 3), torch.zeros(1, 3), 0.5, 0.2)
    for images in (None, np.zeros((1, 3, 4, 3), dtype=np.uint8)):
        with pytest.raises(ValueError, match=r'`images` must be \(B, H, W, 3\)'):
            cam_pseudo_labels(images, torch.zeros(1, 2, 3, 3), torch.zeros(1, 2), 0.5, 0.2, crf=object())
