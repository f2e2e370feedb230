import math

import pytest
import torch

from csrm_plugin.functional import info_nce


class TestInfoNCE:
    def test_worked_by_hand(self):
        # Similarity 1 to the positive, 0 and -1 to the negatives, temperature 0.5: logits 2, 0, -2.
        query, positive = torch.tensor([[[2.0, 0.0]]]), torch.tensor([[5.0, 0.0]])
        negatives = torch.tensor([[[[0.0, 3.0], [-0.1, 0.0]]]])
        expected = math.log(1 + math.exp(-2) + math.exp(-4))
        assert info_nce(query, positive, negatives).item() == pytest.approx(expected, rel=1e-6)

    def test_equals_slow_loop(self, slow_info_nce):
        queries, positives, negatives = torch.randn(3, 4, 5), torch.randn(3, 5), torch.randn(3, 4, 7, 5)
        terms = [slow_info_nce(queries[g, p], positives[g], negatives[g, p], 0.2) for g in range(3) for p in range(4)]
        result = info_nce(queries, positives, negatives, temperature=0.2)
        assert result.item() == pytest.approx(sum(terms) / len(terms), rel=1e-5)

    def test_equals_cross_entropy(self):
        queries, positives, negatives = torch.randn(2, 3, 4), torch.randn(2, 4), torch.randn(2, 3, 5, 4)
        keys = torch.cat([positives[:, None, None].expand(-1, 3, -1, -1), negatives], dim=2)
        logits = torch.cosine_similarity(queries[:, :, None], keys, dim=-1).flatten(0, 1) / 0.5
        expected = torch.nn.functional.cross_entropy(logits, torch.zeros(6, dtype=torch.long))
        torch.testing.assert_close(info_nce(queries, positives, negatives), expected)

    def test_length_of_vectors_does_not_matter(self):
        queries, positives, negatives = torch.randn(2, 3, 4), torch.randn(2, 4), torch.randn(2, 3, 5, 4)
        torch.testing.assert_close(
            info_nce(queries * 1e4, positives * 1e-4, negatives * 7), info_nce(queries, positives, negatives)
        )

    def test_half_precision_zeros_and_small_temperature(self):
        zeros = torch.zeros(1, 1, 4, dtype=torch.float16)
        loss = info_nce(zeros, zeros[0], torch.zeros(1, 1, 3, 4, dtype=torch.float16), temperature=1e-4)
        assert loss.dtype == torch.float32 and loss.item() == pytest.approx(math.log(4))

    def test_autocast_does_not_lower_the_precision(self):
        queries, positives, negatives = torch.randn(2, 3, 64), torch.randn(2, 64), torch.randn(2, 3, 5, 64)
        expected = info_nce(queries, positives, negatives)
        with torch.autocast('cpu', dtype=torch.bfloat16):
            assert info_nce(queries, positives, negatives).equal(expected)

    def test_gradcheck(self):
        queries, positives, negatives = (
            torch.randn(shape, dtype=torch.float64).requires_grad_() for shape in ((2, 3, 4), (2, 4), (2, 3, 5, 4))
        )
        assert torch.autograd.gradcheck(info_nce, (queries, positives, negatives))
