import math

import pytest
import torch

from csrm_plugin.functional import entropy, quantiles, reliable_pixels, restrict_probs, split_by_entropy
from csrm_plugin.utils import UserError


def maps(values):
    """One picture of one row."""
    return torch.tensor([[values]], dtype=torch.float32)


class TestEntropy:
    def test_worked_by_hand(self):
        probs = torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.25, 0.75]]).T[None, :, None]
        expected = [0, math.log(2), -0.25 * math.log(0.25) - 0.75 * math.log(0.75)]
        assert entropy(probs).flatten().tolist() == pytest.approx(expected)

    def test_equals_torch_distributions(self):
        probs = torch.randn(2, 5, 3, 4).mul(3).softmax(dim=1)
        expected = torch.distributions.Categorical(probs=probs.permute(0, 2, 3, 1)).entropy()
        torch.testing.assert_close(entropy(probs), expected)

    @pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
    def test_half_precision_is_summed_in_float32(self, dtype):
        probs = torch.full((1, 64, 1, 1), 1 / 64, dtype=dtype)
        result = entropy(probs)
        assert result.dtype == torch.float32
        assert result.item() == pytest.approx(math.log(64), rel=1e-6)

    def test_gradcheck(self):
        probs = torch.rand(1, 3, 2, 2, dtype=torch.float64).add(0.1).requires_grad_()
        assert torch.autograd.gradcheck(entropy, probs)


class TestQuantiles:
    def test_worked_by_hand(self):
        values = torch.tensor([30.0, 10.0, 20.0, 40.0])  # sorted: positions 0..3
        assert quantiles(values, [0, 0.5, 0.8, 1]).tolist() == pytest.approx([10, 25, 34, 40])

    @pytest.mark.parametrize('n', [1, 2, 7, 100, 1001])
    def test_equals_torch_quantile(self, n):
        values = torch.randn(n)
        for fraction in (0.0, 0.05, 1 / 3, 0.5, 0.8, 0.99, 1.0):
            expected = torch.quantile(values.double(), fraction).float()
            torch.testing.assert_close(quantiles(values, [fraction])[0], expected)

    def test_ties_give_exactly_the_tied_value(self):
        value = torch.tensor(0.1)
        assert (quantiles(value.repeat(1000), [0.123, 0.5, 0.877]) == value).all()

    def test_half_precision(self):
        values = torch.tensor([1.0, 2.0], dtype=torch.float16)
        result = quantiles(values, [0.3])
        assert result.dtype == torch.float32 and result.item() == pytest.approx(1.3)

    def test_no_values(self):
        assert quantiles(torch.empty(0), [0.1, 0.9]).isnan().all()

    @pytest.mark.long
    def test_more_values_than_torch_quantile_takes(self):
        n = 2**24 + 3
        values = torch.randperm(n, dtype=torch.int32).double()
        with pytest.raises(RuntimeError):
            torch.quantile(values, 0.5)
        fractions = [0.0, 0.2, 0.8, 1.0]
        assert quantiles(values, fractions).tolist() == pytest.approx([f * (n - 1) for f in fractions], abs=1e-6)

    def test_positions_are_exact_for_many_values(self):
        # Zeros up to some place and ones from there on: a position in float32, odd and above 2^24, misses the step.
        n = 2**24 + 9
        zeros = 2**24 + 3
        values = torch.zeros(n)
        values[zeros:] = 1
        low, high = quantiles(values, [(zeros - 1) / (n - 1), zeros / (n - 1)]).tolist()
        assert low == pytest.approx(0, abs=1e-6) and high == pytest.approx(1, abs=1e-6)


class TestReliablePixels:
    def test_worked_by_hand(self):
        # The 0.75 quantile of 1 2 3 4 5 is 4; the pixel on the threshold is kept.
        assert reliable_pixels(maps([5, 1, 4, 2, 3]), 0.25).flatten().tolist() == [False, True, True, True, True]

    def test_ties_at_the_threshold_are_kept(self):
        assert reliable_pixels(maps([1, 1, 1, 1]), 0.5).all()

    def test_alpha_0_keeps_all_and_1_only_the_lowest(self):
        values = torch.rand(2, 4, 5)
        assert reliable_pixels(values, 0).all()
        assert reliable_pixels(values, 1).equal(values == values.min())

    def test_padding_neither_counts_nor_is_kept(self):
        values, valid = maps([1, 2, 3, 9, 9, 9]), torch.tensor([[[1, 1, 1, 0, 0, 0]]]).bool()
        assert reliable_pixels(values, 0.5, valid).flatten().tolist() == [True, True, False, False, False, False]
        assert not reliable_pixels(values, 0.5, torch.zeros_like(valid)).any()

    @pytest.mark.parametrize('alpha', [-0.1, 1.1, float('nan')])
    def test_alpha_out_of_range(self, alpha):
        with pytest.raises(UserError, match=f'`alpha`.*{alpha}'):
            reliable_pixels(maps([1]), alpha)


class TestSplitByEntropy:
    def test_worked_by_hand(self):
        # Quantiles 0.25 and 0.75 of 1 2 3 4 5 are 2 and 4: below 2, at or above 4.
        low, high = split_by_entropy(maps([5, 1, 4, 2, 3]), 0.25)
        assert low.flatten().tolist() == [False, True, False, False, False]
        assert high.flatten().tolist() == [True, False, True, False, False]

    def test_quantiles_are_over_the_whole_batch(self):
        values = torch.stack([torch.full((2, 2), 1.0), torch.full((2, 2), 5.0)])
        low, high = split_by_entropy(values, 0.5)
        assert low[0].all() and not low[1].any() and high[1].all() and not high[0].any()

    def test_alpha_0_has_no_low_group(self):
        low, high = split_by_entropy(torch.rand(2, 3, 3), 0.0)
        assert not low.any() and high.sum() == 1

    def test_padding_neither_counts_nor_is_chosen(self):
        values, valid = maps([1, 2, 3, -9, 99]), torch.tensor([[[1, 1, 1, 0, 0]]]).bool()
        low, high = split_by_entropy(values, 0.5, valid)
        assert low.flatten().tolist() == [True, False, False, False, False]
        assert high.flatten().tolist() == [False, True, True, False, False]


class TestRestrictProbs:
    def test_worked_by_hand(self):
        probs = torch.tensor([0.2, 0.5, 0.3]).view(1, 3, 1, 1)
        result = restrict_probs(probs, torch.tensor([[0, 1]])).flatten().tolist()
        assert result == pytest.approx([0.4, 0.0, 0.6])

    def test_sums_to_one_and_keeps_the_order(self):
        probs, labels = torch.randn(3, 6, 4, 4).softmax(dim=1), (torch.rand(3, 5) < 0.5).float()
        result = restrict_probs(probs.half(), labels)
        assert result.dtype == torch.float32
        torch.testing.assert_close(result.sum(dim=1), torch.ones(3, 4, 4))
        for b in range(3):
            assert result[b, 1:][labels[b] == 0].eq(0).all()

    def test_all_classes_present_changes_nothing(self):
        probs = torch.randn(2, 4, 3, 3).softmax(dim=1)
        torch.testing.assert_close(restrict_probs(probs, torch.ones(2, 3)), probs)

    def test_nothing_left_is_not_nan(self):
        assert restrict_probs(torch.tensor([0.0, 1.0]).view(1, 2, 1, 1), torch.zeros(1, 1)).eq(0).all()
