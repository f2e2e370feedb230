import numpy as np
import pytest
import torch

from csrm_plugin.functional import cam_pseudo_labels
from csrm_plugin.refine import PixelAdaptiveRefinement
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


class TestRefinementOfScores:
    """With an object that refines soft scores, as pixel-adaptive refinement."""

    class Recorder:
        def __init__(self, factors=None):
            self.factors = factors

        def refine_scores(self, images, scores):
            self.images, self.scores = images, scores
            return scores if self.factors is None else scores * torch.tensor(self.factors)

    image = np.zeros((1, 1, 4, 3), dtype=np.uint8)

    def test_worked_by_hand(self):
        # Two pixels of one colour, then two of another. Without noise of the colours, a pixel becomes the mean of its
        # neighbours of its colour: of eight 3, 3 and 2 are to the left, to the right and the pixel itself (clamped).
        image = np.array([0, 0, 255, 255], dtype=np.uint8)[None, None, :, None].repeat(3, axis=3)
        par = PixelAdaptiveRefinement(dilations=(1,), iterations=1, position_weight=0)
        # Columns 0 and 1: 5/8 * 1 + 3/8 * 0.2 = 0.7 and (3 * 1 + 2 * 0.2) / 5 = 0.68; columns 2 and 3:
        # (2 * 0.7 + 3 * 0) / 5 = 0.28 and (3 * 0.7 + 5 * 0) / 8 = 0.2625.
        values = [[0.0, 0.0, 0.0, 0.0], [1.0, 0.2, 0.7, 0.0]]
        assert label(values, [0, 1], fg=0.69, bg=0.27, crf=par, images=image) == [2, 255, 255, 0]
        assert label(values, [0, 1], fg=0.5, bg=0.5, crf=par, images=image) == [2, 2, 0, 0]
        # Thresholds first and refinement afterwards, as with dCRF, would give other labels.
        assert label(values, [0, 1], fg=0.69, bg=0.27) == [2, 0, 2, 0]

    def test_scores_are_soft_and_of_the_own_classes(self):
        recorder = self.Recorder()
        values = [[0.9, 0.4, 0.1, 0.6], [0.5] * 4, [0.2, 0.1, 0.0, 0.7]]
        assert label(values, [1, 0, 1], crf=recorder, images=self.image) == [1, 255, 0, 3]
        expected = torch.tensor([[0.5] * 4, [0.2] * 4, values[0], values[2]])
        assert recorder.scores.equal(expected[None, :, None])

    def test_both_thresholds_are_refined_alike(self):
        """All scores grow by the same factor, whatever it is in a pixel."""
        recorder = self.Recorder([[[[2.0, 0.5, 1.0, 3.0]]]])
        values = [[0.9, 0.4, 0.1, 0.6], [0.2, 0.1, 0.0, 0.7]]
        assert label(values, [1, 1], crf=recorder, images=self.image) == [1, 255, 0, 2]

    def test_background_and_first_class_win_ties(self):
        par = PixelAdaptiveRefinement()
        assert label([[0.5] * 4], [1], fg=0.5, bg=0.3, crf=par, images=self.image) == [255] * 4
        assert label([[0.35] * 4], [1], fg=0.35, bg=0.35, crf=par, images=self.image) == [0] * 4
        assert label([[0.0] * 4], [1], fg=0.35, bg=0.0, crf=par, images=self.image) == [0] * 4
        assert label([[0.8] * 4, [0.8] * 4], [1, 1], crf=par, images=self.image) == [1] * 4

    def test_batch_equals_slow_loop_over_pictures(self):
        """Pictures with none, one, some and all of the classes."""
        cams, images = torch.rand(4, 5, 6, 7), torch.randint(0, 256, (4, 6, 7, 3), dtype=torch.uint8)
        labels = torch.zeros(4, 5)
        labels[1, 4] = labels[2, 1] = labels[2, 3] = 1
        labels[3] = 1
        par = PixelAdaptiveRefinement(dilations=(1, 2), iterations=1)
        result = cam_pseudo_labels(images, cams, labels, 0.53, 0.5, par)
        assert result.dtype == torch.int64 and not result[0].any()
        assert set(result[1].unique().tolist()) == {0, 5, 255} and set(result[2].unique().tolist()) == {0, 2, 4, 255}
        for image, cam, label_row, got in zip(images, cams, labels, result):
            own = label_row.nonzero()[:, 0]
            hard = []
            for threshold in (0.53, 0.5):
                scores = torch.cat([torch.full((1, 6, 7), threshold), cam[own]])[None]
                hard.append(par(image.permute(2, 0, 1)[None], scores)[0].argmax(dim=0))
            expected = torch.cat([torch.zeros(1).long(), own + 1])[hard[0]]
            expected[(hard[0] == 0) & (hard[1] != 0)] = 255
            assert got.equal(expected)

    def test_arrays_and_precisions(self):
        cams, images = torch.rand(2, 3, 6, 7), torch.randint(0, 256, (2, 6, 7, 3), dtype=torch.uint8)
        labels, par = torch.ones(2, 3), PixelAdaptiveRefinement(iterations=1)
        expected = cam_pseudo_labels(images, cams, labels, 0.55, 0.5, par)
        mirrored = np.ascontiguousarray(images.numpy()[..., ::-1])[..., ::-1]
        result = cam_pseudo_labels(mirrored, cams.numpy(), labels.numpy(), 0.55, 0.5, par)
        assert isinstance(result, torch.Tensor) and result.equal(expected)
        assert cam_pseudo_labels(images, cams.double(), labels, 0.55, 0.5, par).equal(expected)
        cams = cams.bfloat16()
        expected = cam_pseudo_labels(images, cams.float(), labels, 0.5, 0.5, par)
        assert cam_pseudo_labels(images, cams, labels, 0.5, 0.5, par).equal(expected)

    def test_nothing_to_refine(self):
        recorder = self.Recorder()
        assert label([[0.9] * 4], [0], crf=recorder, images=self.image) == [0] * 4
        empty = cam_pseudo_labels(self.image[:0], torch.zeros(0, 2, 1, 4), torch.zeros(0, 2), 0.5, 0.2, recorder)
        assert empty.shape == (0, 1, 4) and not hasattr(recorder, 'scores')

    def test_pictures_are_needed(self):
        for images in (None, np.zeros((1, 3, 4, 3), dtype=np.uint8)):
            with pytest.raises(ValueError, match=r'`images` must be \(B, H, W, 3\)'):
                label([[0.9] * 4], [1], crf=PixelAdaptiveRefinement(), images=images)
