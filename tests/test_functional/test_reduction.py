import pytest
import torch
import torch.nn.functional as F

from csrm_plugin.functional import fraction, masked_mean, pixel_cross_entropy


def test_masked_mean_worked_by_hand():
    values = torch.tensor([1.0, 2.0, 4.0, torch.nan], requires_grad=True)
    loss = masked_mean(values, torch.tensor([True, False, True, False]))
    loss.backward()
    assert loss.item() == 2.5
    assert values.grad.tolist() == [0.5, 0, 0.5, 0]


def test_masked_mean_of_nothing_is_zero_with_zero_gradient():
    values = torch.tensor([3.0, torch.inf], requires_grad=True)
    loss = masked_mean(values, torch.zeros(2, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0 and values.grad.tolist() == [0, 0]


def test_fraction_worked_by_hand():
    mask = torch.tensor([True, True, False, True])
    assert fraction(mask).item() == 0.75
    assert fraction(mask, torch.tensor([True, False, True, False])).item() == 0.5
    assert fraction(mask, torch.zeros(4, dtype=torch.bool)).item() == 0


class TestPixelCrossEntropy:
    def test_equals_torch(self):
        logits, labels = torch.randn(2, 5, 4, 3), torch.randint(5, (2, 4, 3))
        mask = torch.rand(2, 4, 3) < 0.6
        expected = F.cross_entropy(logits, labels.masked_fill(~mask, 255), ignore_index=255)
        torch.testing.assert_close(pixel_cross_entropy(logits, labels, mask), expected)

    def test_worked_by_hand(self):
        # Two pixels with logits (0, log 3): class 0 has probability 1/4.
        logits = torch.tensor([0.0, 3.0]).log().nan_to_num(neginf=0)  # 0, log 3
        logits = logits.view(1, 2, 1, 1).expand(1, 2, 1, 2)
        labels = torch.tensor([[[0, 1]]])
        loss = pixel_cross_entropy(logits, labels, torch.ones_like(labels, dtype=torch.bool))
        assert loss.item() == pytest.approx((torch.tensor(4.0).log() + torch.tensor(4 / 3).log()).item() / 2)

    def test_labels_outside_the_mask_may_be_anything(self):
        logits = torch.randn(1, 3, 1, 3, requires_grad=True)
        mask = torch.tensor([[[True, False, False]]])
        loss = pixel_cross_entropy(logits, torch.tensor([[[2, 255, -7]]]), mask)
        loss.backward()
        torch.testing.assert_close(loss, F.cross_entropy(logits[:, :, 0, 0], torch.tensor([2])))
        assert logits.grad[..., 1:].eq(0).all() and logits.grad[..., 0].ne(0).all()

    def test_empty_mask(self):
        logits = torch.randn(1, 3, 2, 2, requires_grad=True)
        loss = pixel_cross_entropy(logits, torch.full((1, 2, 2), 255), torch.zeros(1, 2, 2, dtype=torch.bool))
        loss.backward()
        assert loss.item() == 0 and logits.grad.eq(0).all()

    def test_extreme_logits(self):
        logits = torch.tensor([1e4, -1e4]).view(1, 2, 1, 1)
        mask = torch.ones(1, 1, 1, dtype=torch.bool)
        assert pixel_cross_entropy(logits, torch.zeros(1, 1, 1, dtype=torch.long), mask).item() == 0
        assert pixel_cross_entropy(logits, torch.ones(1, 1, 1, dtype=torch.long), mask).item() == 2e4

    @pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
    def test_half_precision_is_summed_in_float32(self, dtype):
        logits = torch.zeros(1, 2, 300, 300, dtype=dtype)  # a float16 sum of 90000 x log 2 is not the truth
        labels = torch.zeros(1, 300, 300, dtype=torch.long)
        loss = pixel_cross_entropy(logits, labels, labels == 0)
        assert loss.dtype == torch.float32 and loss.item() == pytest.approx(0.6931472, rel=1e-6)

    def test_gradcheck(self):
        logits = torch.randn(2, 3, 2, 2, dtype=torch.float64).requires_grad_()
        labels, mask = torch.randint(3, (2, 2, 2)), torch.rand(2, 2, 2) < 0.7
        assert torch.autograd.gradcheck(lambda x: pixel_cross_entropy(x, labels, mask), logits)
