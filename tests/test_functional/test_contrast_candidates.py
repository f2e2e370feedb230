import pytest
import torch

from csrm_plugin.functional import (
    QUERY_RULES,
    check_query_rule,
    entropy,
    negative_candidates,
    pick_candidates,
    query_candidates,
    reliable_candidates,
    split_by_entropy,
)
from csrm_plugin.utils import UserError

NOWHERE = torch.zeros(1, 1, 1, dtype=torch.bool)


def pixels(*rows):
    """Probabilities (1, K, 1, n) of one row of pixels, from K values each."""
    return torch.tensor(rows).T[None, :, None]


class TestNegativeCandidates:
    def test_worked_by_hand(self):
        # Ranks of the classes 0..4 are 1 0 2 4 3. Image label: class 1. low_rank 2, high_rank 4.
        # Present: background and 1, ranks 1 and 0: no. Absent: 2 and 4, ranks 2 and 3: yes by (b); 3, rank 4: no.
        probs = torch.tensor([0.25, 0.4, 0.2, 0.05, 0.1]).view(1, 5, 1, 1)
        high = torch.ones(1, 1, 1, dtype=torch.bool)
        labels = torch.tensor([[1.0, 0, 0, 0]])

        def negatives(labels, **options):
            mask = negative_candidates(probs, high, labels, low_rank=2, high_rank=4, **options)
            return mask.flatten().nonzero().flatten().tolist()

        assert negatives(labels) == [2, 4]
        # An absent class that ranks first is one by (a); the background is never absent.
        assert negatives(torch.zeros(1, 4)) == [1, 2, 4]
        # A present class of middle rank is one by (b).
        assert negatives(torch.tensor([[1.0, 1, 1, 1]])) == [2, 4]
        assert negatives(labels, max_confidence=0.2) == [4]
        assert negatives(labels, max_confidence=0.01) == []
        assert not negative_candidates(probs, ~high, labels).any()

    def test_equals_slow_loop(self):
        probs, high = torch.randn(2, 7, 4, 5).softmax(dim=1), torch.rand(2, 4, 5) < 0.6
        labels = (torch.rand(2, 6) < 0.4).float()
        result = negative_candidates(probs, high, labels, 2, 5, 0.3)
        for b in range(2):
            present = [True] + [bool(v) for v in labels[b]]
            for y in range(4):
                for x in range(5):
                    row = probs[b, :, y, x].tolist()
                    for c in range(7):
                        rank = sum(other > row[c] for other in row)
                        hard = (rank < 2 and not present[c]) or 2 <= rank < 5
                        assert result[b, c, y, x] == (bool(high[b, y, x]) and row[c] < 0.3 and hard)

    def test_of_equal_probabilities_the_lower_class_ranks_first(self):
        probs = torch.full((1, 4, 1, 1), 0.25)
        mask = negative_candidates(probs, torch.ones(1, 1, 1, dtype=torch.bool), torch.zeros(1, 3), 2, 3)
        assert mask.flatten().tolist() == [False, True, True, False]


class TestQueryCandidates:
    def test_worked_by_hand(self):
        probs = torch.tensor([[0.7, 0.3], [0.1, 0.9], [0.2, 0.8], [0.4, 0.6], [0.1, 0.9]]).T[None, :, None]
        low = torch.tensor([[[True, True, False, True, True]]])
        pseudo = torch.tensor([[[0, 1, 1, 0, 255]]])
        assert query_candidates(probs, low, pseudo, 0.4).squeeze().tolist() == [
            [True, False, False, False, False],  # the fourth is not above 0.4
            [False, True, False, False, False],
        ]


class TestNegativesOfCertainPixels:
    """Of two pixels with the same probabilities, ranks 1 0 2 3 of the classes 0..3; class 1 is in the picture."""

    probs = pixels([0.3, 0.4, 0.2, 0.1], [0.3, 0.4, 0.2, 0.1])

    def negatives(self, pseudo, **options):
        options = dict(low_rank=2, high_rank=2) | options
        high = torch.zeros(1, 1, 2, dtype=torch.bool)
        labels = torch.tensor([[1.0, 0, 0]])
        mask = negative_candidates(self.probs, high, labels, pseudo_labels=torch.tensor([[pseudo]]), **options)
        return [mask[0, :, 0, x].nonzero().flatten().tolist() for x in range(2)]

    def test_worked_by_hand(self):
        # Certain to be 1: of 0, which ranks before 2. Certain to be 0: of 1. Never of their own class.
        assert self.negatives([1, 0]) == [[0], [1]]
        # A class that ranks behind is easily told apart, whether the picture has it or not.
        assert self.negatives([1, 0], low_rank=3) == [[0, 2], [1, 2]]
        assert self.negatives([3, 2], low_rank=1) == [[1], [1]]
        assert self.negatives([1, 0], low_rank=0) == [[], []]

    def test_uncertain_and_padded_pixels_are_none(self):
        assert self.negatives([255, 1]) == [[], [0]]

    def test_the_bound_of_uncertain_pixels_and_the_middle_ranks_are_not_theirs(self):
        assert self.negatives([1, 0], max_confidence=0.01) == [[0], [1]]
        assert self.negatives([1, 0], high_rank=4) == [[0], [1]]

    def test_both_kinds_together(self):
        high = torch.tensor([[[False, True]]])
        labels, pseudo = torch.tensor([[1.0, 0, 0]]), torch.tensor([[[1, 255]]])
        mask = negative_candidates(self.probs, high, labels, 2, 3, pseudo_labels=pseudo)
        # The first is certain: of 0. The second is uncertain: of 2, which ranks in the middle.
        assert mask[0, :, 0].T.tolist() == [[True, False, False, False], [False, False, True, False]]


class TestReliableCandidates:
    labels = torch.tensor([[1, 0]])

    def reliable(self, probs, low, pseudo):
        """For each pixel the classes that it is reliable for."""
        mask = reliable_candidates(probs, torch.tensor([[low]]), torch.tensor([[pseudo]]), self.labels)
        return [mask[0, :, 0, x].nonzero().flatten().tolist() for x in range(len(low))]

    def test_certain_labels_whatever_the_entropy_and_the_teacher(self):
        probs = pixels([0.9, 0.05, 0.05], [0.9, 0.05, 0.05], [0.3, 0.3, 0.4])
        assert self.reliable(probs, [True, False, False], [1, 1, 0]) == [[1], [1], [0]]

    def test_uncertain_pixels_of_low_entropy_by_the_teacher_among_the_classes_of_the_picture(self):
        probs = pixels([0.1, 0.8, 0.1], [0.8, 0.1, 0.1], [0.1, 0.2, 0.7], [0.2, 0.1, 0.7])
        # The last two: class 2 leads, but the picture does not have it.
        assert self.reliable(probs, [True] * 4, [255] * 4) == [[1], [0], [1], [0]]
        assert self.reliable(probs, [False] * 4, [255] * 4) == [[]] * 4

    def test_background_where_the_teacher_sees_nothing_of_the_picture(self):
        assert self.reliable(pixels([0.0, 0.0, 1.0]), [True], [255]) == [[0]]


class TestContrastCandidates:
    def test_queries_need_confidence_and_positives_do_not(self):
        # Certain of 1 at 0.4 and 0.2; uncertain, of low entropy, led by 1 at 0.6 and by the absent 2, then 1 at 0.25.
        probs = pixels([0.6, 0.4, 0.0], [0.8, 0.2, 0.0], [0.4, 0.6, 0.0], [0.1, 0.25, 0.65])
        low, pseudo = torch.tensor([[[False, False, True, True]]]), torch.tensor([[[1, 1, 255, 255]]])
        found = pick_candidates(probs, low, torch.zeros_like(low), pseudo, torch.tensor([[1, 0]]))
        assert found.positives[0, 1, 0].tolist() == [True, True, True, True]
        assert found.queries[0, 1, 0].tolist() == [True, False, True, False]
        assert not found.positives[0, [0, 2]].any()
        found = pick_candidates(probs, low, torch.zeros_like(low), pseudo, torch.tensor([[1, 0]]), query_confidence=0.2)
        assert found.queries[0, 1, 0].tolist() == [True, False, True, True], 'above, and not at, the bound'

    def test_low_entropy_asks_for_a_label_and_knows_no_certain_negatives(self):
        probs = pixels([0.6, 0.4], [0.2, 0.8], [0.2, 0.8])
        low, pseudo = torch.tensor([[[False, True, True]]]), torch.tensor([[[1, 1, 255]]])
        options = dict(query_rule='low_entropy', low_rank=2, high_rank=3)
        found = pick_candidates(probs, low, ~low, pseudo, torch.tensor([[1]]), **options)
        assert (
            found.queries[0, :, 0].tolist() == found.positives[0, :, 0].tolist() == [[False] * 3, [False, True, False]]
        )
        assert not found.negatives.any(), 'both classes are in the picture and rank before `low_rank`'

    @pytest.mark.parametrize('rule', QUERY_RULES)
    def test_equals_a_loop_over_the_pixels(self, rule, slow_candidates):
        probs = torch.randn(2, 7, 6, 5).mul(2).softmax(dim=1)
        pseudo = torch.where(torch.rand(2, 6, 5) < 0.4, probs.argmax(dim=1), torch.randint(0, 7, (2, 6, 5)))
        pseudo[torch.rand(2, 6, 5) < 0.4] = 255
        labels = (torch.rand(2, 6) < 0.5).long()
        valid = torch.rand(2, 6, 5) < 0.8
        options = dict(low_rank=2, high_rank=4, query_confidence=0.25, max_negative_confidence=0.2)
        batch = dict(teacher_probs=probs, pseudo_labels=pseudo, labels=labels)
        expected = slow_candidates(batch, valid, 0.4, rule, **options)
        low, high = split_by_entropy(entropy(probs), 0.4, valid)
        found = pick_candidates(probs, low, high, pseudo.masked_fill(~valid, 255), labels, rule, **options)
        for mask, positions in zip(found, expected):
            assert [[tuple(at) for at in mask[:, c].nonzero().tolist()] for c in range(7)] == positions
            assert sum(map(len, positions)) > 5

    def test_every_class_with_confident_certain_pixels_has_queries(self):
        """Which low entropy alone does not give: those pixels are the background's."""
        pseudo = torch.arange(7).repeat_interleave(10).view(1, 7, 10)
        own = torch.nn.functional.one_hot(pseudo, 7).movedim(-1, 1)
        logits = own * torch.where(pseudo == 0, 9.0, 2.0)[:, None] + 0.1 * torch.rand(1, 7, 7, 10)
        probs, labels = logits.softmax(dim=1), torch.ones(1, 6)
        assert (probs * own).sum(dim=1).min() > 0.3
        low, high = split_by_entropy(entropy(probs), 0.1)
        counts = {
            rule: pick_candidates(probs, low, high, pseudo, labels, rule).queries.sum(dim=(0, 2, 3)).tolist()
            for rule in QUERY_RULES
        }
        assert counts['reliable'] == [10] * 7
        assert counts['low_entropy'][0] > 5 and counts['low_entropy'][1:] == [0] * 6

    def test_an_unknown_rule_is_met_with_the_nearest(self):
        with pytest.raises(UserError, match="`query_rule` is 'reliabel'; did you mean 'reliable'"):
            pick_candidates(pixels([0.5, 0.5]), NOWHERE, NOWHERE, NOWHERE.long(), torch.tensor([[1]]), 'reliabel')
        with pytest.raises(UserError, match=r"`model\.loss_m\.queries` is 'entropy'; did you mean 'low_entropy'"):
            check_query_rule('entropy', 'model.loss_m.queries')
        with pytest.raises(UserError, match='`query_rule` is None'):
            check_query_rule(None)
