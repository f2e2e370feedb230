import math

import pytest
import torch
import torch.nn.functional as F

from csrm_plugin.functional import (
    activation_consistency_loss,
    confident_pixels,
    entropy,
    segmentation_consistency_loss,
)


def slow_cross_entropy(logits, labels, kept):
    """Mean over the kept pixels of -log softmax, in plain Python."""
    terms = []
    for b, y, x in kept.nonzero().tolist():
        row = [float(v) for v in logits[b, :, y, x]]
        top = max(row)
        log_sum = top + math.log(sum(math.exp(v - top) for v in row))
        terms.append(log_sum - row[int(labels[b, y, x])])
    return sum(terms) / len(terms) if terms else 0.0


class TestConfidentPixels:
    def test_strictly_above(self):
        probs = torch.tensor([[0.5, 0.5], [0.6, 0.4], [0.1, 0.9]]).T[None, :, None]
        assert confident_pixels(probs, 0.5).flatten().tolist() == [False, True, True]
        assert not confident_pixels(probs, 0.0, torch.zeros(1, 1, 3, dtype=torch.bool)).any()
        assert not confident_pixels(torch.ones(1, 2, 1, 1), 1.0).any()


class TestActivationConsistency:
    def test_worked_by_hand(self):
        # One pixel: background logit 0, CAM log 3; the teacher says class 1, whose probability is 3/4.
        cam, bg = torch.full((1, 1, 1, 1), math.log(3)), torch.zeros(1, 1, 1)
        teacher = torch.tensor([0.2, 0.8]).view(1, 2, 1, 1)
        assert activation_consistency_loss(cam, bg, teacher, 0.5).item() == pytest.approx(math.log(4 / 3))
        assert activation_consistency_loss(cam, bg, teacher, 0.8).item() == 0

    @pytest.mark.parametrize('align_corners', [False, True])
    def test_equals_slow_loop(self, align_corners):
        cam, bg = torch.randn(2, 3, 4, 5), torch.randn(2, 8, 10)
        teacher = torch.randn(2, 4, 8, 10).mul(2).softmax(dim=1)
        logits = torch.cat(
            [bg[:, None], F.interpolate(cam, (8, 10), mode='bilinear', align_corners=align_corners)], dim=1
        )
        expected = slow_cross_entropy(logits, teacher.argmax(dim=1), teacher.amax(dim=1) > 0.6)
        assert activation_consistency_loss(cam, bg, teacher, 0.6, align_corners).item() == pytest.approx(
            expected, rel=1e-5
        )

    def test_gradient_reaches_the_cam_only(self):
        cam, bg, logits = (torch.randn(shape, requires_grad=True) for shape in ((1, 2, 3, 3), (1, 6, 6), (1, 3, 6, 6)))
        activation_consistency_loss(cam, bg, logits.softmax(dim=1), 0.1).backward()
        assert cam.grad.abs().sum() > 0
        assert bg.grad is None and logits.grad is None

    def test_padding_does_not_count(self):
        cam, bg = torch.randn(1, 2, 4, 4), torch.randn(1, 4, 4)
        teacher = torch.randn(1, 3, 4, 4).softmax(dim=1)
        valid = torch.ones(1, 4, 4, dtype=torch.bool)
        valid[:, :, 2:] = False
        expected = activation_consistency_loss(cam[..., :2], bg[..., :2], teacher[..., :2], 0.2)
        torch.testing.assert_close(activation_consistency_loss(cam, bg, teacher, 0.2, valid=valid), expected)

    def test_half_precision_and_gradcheck(self):
        cam, bg = torch.randn(1, 2, 3, 3).half(), torch.randn(1, 6, 6).bfloat16()
        teacher = torch.randn(1, 3, 6, 6).softmax(dim=1)
        assert activation_consistency_loss(cam, bg, teacher.half(), 0.1).dtype == torch.float32
        cam = cam.double().requires_grad_()
        assert torch.autograd.gradcheck(lambda x: activation_consistency_loss(x, bg, teacher, 0.1), cam)


class TestSegmentationConsistency:
    def test_worked_by_hand(self):
        # Entropies rise from left to right; alpha 0.5 keeps the first two of three pixels.
        teacher = torch.tensor([[1.0, 0.0], [0.1, 0.9], [0.5, 0.5]]).T[None, :, None]
        student = torch.tensor([[math.log(3), 0.0], [0.0, math.log(3)], [99.0, -99.0]]).T[None, :, None]
        assert segmentation_consistency_loss(student, teacher, 0.5).item() == pytest.approx(math.log(4 / 3))

    def test_equals_cross_entropy_at_alpha_0(self):
        student, teacher = torch.randn(2, 4, 5, 6), torch.randn(2, 4, 5, 6).softmax(dim=1)
        torch.testing.assert_close(
            segmentation_consistency_loss(student, teacher, 0.0), F.cross_entropy(student, teacher.argmax(dim=1))
        )

    def test_equals_slow_loop(self):
        student, teacher = torch.randn(2, 4, 5, 6), torch.randn(2, 4, 5, 6).softmax(dim=1)
        uncertainty = entropy(teacher)
        ranked = sorted(uncertainty.flatten().tolist())
        position = 0.7 * (len(ranked) - 1)
        low = int(position)
        threshold = ranked[low] + (position - low) * (ranked[low + 1] - ranked[low])
        expected = slow_cross_entropy(student, teacher.argmax(dim=1), uncertainty <= threshold)
        assert segmentation_consistency_loss(student, teacher, 0.3).item() == pytest.approx(expected, rel=1e-5)

    def test_given_entropy_decides_which_pixels(self):
        student, teacher = torch.randn(1, 3, 1, 4), torch.randn(1, 3, 1, 4).softmax(dim=1)
        given = torch.tensor([[[9.0, 1.0, 9.0, 9.0]]])
        expected = F.cross_entropy(student[..., 0, 1], teacher[..., 0, 1].argmax(dim=1))
        torch.testing.assert_close(segmentation_consistency_loss(student, teacher, 1.0, given), expected)

    def test_all_padding_is_zero(self):
        student = torch.randn(1, 3, 2, 2, requires_grad=True)
        teacher = torch.randn(1, 3, 2, 2).softmax(dim=1)
        loss = segmentation_consistency_loss(student, teacher, 0.2, valid=torch.zeros(1, 2, 2, dtype=torch.bool))
        loss.backward()
        assert loss.item() == 0 and student.grad.eq(0).all()

    def test_no_gradient_reaches_the_teacher(self):
        student, logits = torch.randn(1, 3, 4, 4, requires_grad=True), torch.randn(1, 3, 4, 4, requires_grad=True)
        segmentation_consistency_loss(student, logits.softmax(dim=1), 0.2).backward()
        assert student.grad.abs().sum() > 0 and logits.grad is None

    def test_gradcheck(self):
        student = torch.randn(1, 3, 3, 3, dtype=torch.float64).requires_grad_()
        teacher = torch.randn(1, 3, 3, 3).softmax(dim=1)
        assert torch.autograd.gradcheck(lambda x: segmentation_consistency_loss(x, teacher, 0.3), student)
