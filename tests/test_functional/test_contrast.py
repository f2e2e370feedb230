import math
from collections import Counter

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from csrm_plugin.functional import (
    contrastive_loss,
    contrastive_terms,
    entropy,
    info_nce,
    negative_candidates,
    query_candidates,
)
from csrm_plugin.models.memory_bank import MemoryBank

DIM = 6


def make_batch(num_classes, present, size=8, batch=2, sharpness=4.0):
    """Random batch whose pseudo labels are the ``present`` classes in equal shares.

    In the left half of each picture the teacher is sure of the pseudo label, in the right half it is uncertain.
    """
    pseudo = torch.tensor(present)[torch.arange(batch * size * size) % len(present)].view(batch, size, size)
    logits = torch.randn(batch, num_classes, size, size)
    logits[..., : size // 2] += (
        sharpness * torch.nn.functional.one_hot(pseudo, num_classes).movedim(-1, 1)[..., : size // 2]
    )
    labels = torch.zeros(batch, num_classes - 1)
    labels[:, [c - 1 for c in present if c > 0]] = 1
    student, teacher = torch.randn(2, batch, DIM, size, size)
    return dict(
        student_rep=student.requires_grad_(),
        teacher_rep=teacher,
        teacher_probs=logits.softmax(dim=1),
        pseudo_labels=pseudo,
        labels=labels,
    )


def cosine(a, b):
    dot = sum(float(x) * float(y) for x, y in zip(a, b))
    return dot / math.sqrt(sum(float(x) ** 2 for x in a) * sum(float(y) ** 2 for y in b))


def slow_info_nce(query, positive, negatives, temperature):
    terms = [math.exp(cosine(query, key) / temperature) for key in [positive, *negatives]]
    return -math.log(terms[0] / sum(terms))


class TestInfoNCE:
    def test_worked_by_hand(self):
        # Similarity 1 to the positive, 0 and -1 to the negatives, temperature 0.5: logits 2, 0, -2.
        query, positive = torch.tensor([[[2.0, 0.0]]]), torch.tensor([[5.0, 0.0]])
        negatives = torch.tensor([[[[0.0, 3.0], [-0.1, 0.0]]]])
        expected = math.log(1 + math.exp(-2) + math.exp(-4))
        assert info_nce(query, positive, negatives).item() == pytest.approx(expected, rel=1e-6)

    def test_equals_slow_loop(self):
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


class TestContrastiveLoss:
    @pytest.mark.parametrize('present', [[3, 7], [0, 3, 7], [7], list(range(10))])
    def test_every_present_class_gets_gradient_and_no_other(self, present):
        batch, bank = make_batch(10, present), MemoryBank(10, DIM, 32)
        bank.enqueue(torch.randn(100, DIM), torch.arange(100) % 10)  # negatives of every class
        contrastive_loss(**batch, bank=bank, alpha=0.5).backward()
        touched = batch['student_rep'].grad.abs().sum(dim=1) > 0
        assert sorted(batch['pseudo_labels'][touched].unique().tolist()) == present
        assert touched.sum() > 5 * len(present)

    def test_without_the_negatives_of_one_class_the_other_still_learns(self):
        batch, bank = make_batch(10, [3, 7]), MemoryBank(10, DIM, 32)
        bank.enqueue(torch.randn(5, DIM), torch.full((5,), 7))
        terms = contrastive_terms(**batch, bank=bank, alpha=0.5, low_rank=0, high_rank=0)
        terms.loss.backward()
        touched = batch['student_rep'].grad.abs().sum(dim=1) > 0
        assert batch['pseudo_labels'][touched].unique().tolist() == [7] and terms.num_classes == 1

    def test_uncertain_pixels_are_no_queries(self):
        batch, bank = make_batch(10, [3, 7]), MemoryBank(10, DIM, 32)
        batch['pseudo_labels'][batch['pseudo_labels'] == 3] = 255
        contrastive_loss(**batch, bank=bank, alpha=0.5).backward()
        touched = batch['student_rep'].grad.abs().sum(dim=1) > 0
        assert batch['pseudo_labels'][touched].unique().tolist() == [7]

    @pytest.mark.parametrize(('capacity', 'max_negative_confidence'), [(1000, 1.0), (7, 1.0), (1, 0.2)])
    def test_equals_slow_reimplementation(self, capacity, max_negative_confidence):
        K, P, N = 6, 5, 9
        bank = MemoryBank(K, DIM, capacity)
        for step in range(3):  # later steps draw from what earlier ones left
            batch = make_batch(K, [0, 2, 5])
            before = [bank.keys(c) for c in range(K)]
            loss = contrastive_loss(
                **batch,
                bank=bank,
                alpha=0.4,
                low_rank=2,
                high_rank=4,
                num_queries=P,
                num_negatives=N,
                temperature=0.3,
                query_confidence=0.5,
                max_negative_confidence=max_negative_confidence,
                generator=torch.Generator().manual_seed(step),
            )

            # The same draws: one seed, then priorities of the keys, queries, negatives.
            seed = torch.randint(2**62, (1,), generator=torch.Generator().manual_seed(step)).item()
            draws = torch.Generator().manual_seed(seed)
            uncertainty = entropy(batch['teacher_probs'])
            low_limit, high_limit = torch.quantile(uncertainty, torch.tensor([0.4, 0.6])).tolist()
            positions = [(b, y, x) for b in range(2) for y in range(8) for x in range(8)]
            negatives, queries = [[] for _ in range(K)], [[] for _ in range(K)]
            for b, y, x in positions:
                row = batch['teacher_probs'][b, :, y, x].tolist()
                for c in range(K):
                    rank = sum(other > row[c] for other in row)
                    absent = c > 0 and not batch['labels'][b, c - 1]
                    hard = (rank < 2 and absent) or 2 <= rank < 4
                    if hard and row[c] < max_negative_confidence and uncertainty[b, y, x] >= high_limit:
                        negatives[c].append((b, y, x))
                    if batch['pseudo_labels'][b, y, x] == c and row[c] > 0.5 and uncertainty[b, y, x] < low_limit:
                        queries[c].append((b, y, x))

            def rep(name, position, reps=batch):
                b, y, x = position
                return reps[name][b, :, y, x].detach()

            priorities = torch.rand(sum(map(len, negatives)), generator=draws, dtype=torch.float64).tolist()
            banks = []
            for c in range(K):
                own, priorities = priorities[: len(negatives[c])], priorities[len(negatives[c]) :]
                chosen = sorted(sorted(range(len(own)), key=own.__getitem__)[:capacity])
                banks.append([*before[c], *(rep('teacher_rep', negatives[c][i]) for i in chosen)][-capacity:])
                assert torch.equal(bank.keys(c), torch.stack(banks[c]) if banks[c] else torch.zeros(0, DIM))
            drawn_queries = torch.rand(K, P, generator=draws, dtype=torch.float64).tolist()
            drawn_keys = torch.rand(K, P * N, generator=draws, dtype=torch.float64).tolist()
            terms, used = [], 0
            for c in range(K):
                if not queries[c] or not banks[c]:
                    continue
                used += 1
                positive = sum(rep('teacher_rep', q) for q in queries[c]) / len(queries[c])
                rows = bank.features[c]  # draws go by slot
                for p in range(P):
                    query = rep('student_rep', queries[c][int(drawn_queries[c][p] * len(queries[c]))])
                    slots = [int(u * len(banks[c])) for u in drawn_keys[c][p * N : (p + 1) * N]]
                    terms.append(slow_info_nce(query, positive, rows[slots], 0.3))
            assert used >= 2
            assert loss.item() == pytest.approx(sum(terms) / len(terms), rel=1e-4)

    def test_no_gradient_reaches_the_teacher(self):
        batch, bank = make_batch(5, [0, 2]), MemoryBank(5, DIM, 16)
        batch['teacher_rep'].requires_grad_()
        batch['teacher_probs'].requires_grad_()
        contrastive_loss(**batch, bank=bank, alpha=0.5).backward()
        assert batch['student_rep'].grad.abs().sum() > 0
        assert batch['teacher_rep'].grad is None and batch['teacher_probs'].grad is None
        assert not bank.features.requires_grad

    def test_alpha_0_gives_zero_in_the_graph(self):
        batch = make_batch(5, [0, 2])
        loss = contrastive_loss(**batch, bank=MemoryBank(5, DIM, 16), alpha=0.0)
        loss.backward()
        assert loss.item() == 0 and batch['student_rep'].grad.eq(0).all()

    def test_alpha_out_of_range(self):
        with pytest.raises(ValueError, match=r'`alpha`.*1\.5'):
            contrastive_loss(**make_batch(5, [0, 2]), bank=MemoryBank(5, DIM, 16), alpha=1.5)

    def test_keys_are_stored_as_given(self):
        batch, bank = make_batch(5, [0, 2]), MemoryBank(5, DIM, 1000)
        batch['teacher_rep'] *= 37
        contrastive_loss(**batch, bank=bank, alpha=0.3)
        given = {tuple(row) for row in batch['teacher_rep'].movedim(1, -1).flatten(0, 2).tolist()}
        stored = [tuple(row) for c in range(5) for row in bank.keys(c).tolist()]
        assert len(stored) > 50 and set(stored) <= given

    def test_keys_are_pushed_before_drawing(self):
        bank = MemoryBank(5, DIM, 16)
        assert contrastive_loss(**make_batch(5, [0, 2]), bank=bank, alpha=0.5).item() > 0

    def test_capacity_1(self):
        bank = MemoryBank(5, DIM, 1)
        batch = make_batch(5, [0, 2])
        loss = contrastive_loss(**batch, bank=bank, alpha=0.5)
        loss.backward()
        assert loss.item() > 0 and batch['student_rep'].grad.isfinite().all()
        assert bank.sizes.max() == 1

    def test_more_negatives_than_capacity_are_a_choice_among_all_pictures(self):
        batch, bank = make_batch(4, [0, 1, 2, 3], batch=4, size=16), MemoryBank(4, DIM, 40)
        picture = torch.arange(4.0).view(4, 1, 1, 1).expand(4, DIM, 16, 16)
        batch['teacher_rep'] = picture.contiguous()
        contrastive_loss(**batch, bank=bank, alpha=0.5)
        full = bank.sizes == 40
        assert full.any()
        for c in full.nonzero().flatten().tolist():
            assert bank.keys(c)[:, 0].unique().tolist() == [0, 1, 2, 3]

    def test_bound_of_the_paper_leaves_the_bank_almost_empty(self):
        """One percent, as the text has it, against the released code's 100: why the latter is the default."""
        filled = []
        for bound in (0.01, 1.0):
            torch.manual_seed(0)
            bank = MemoryBank(10, DIM, 1000)
            contrastive_loss(**make_batch(10, [0, 2, 5]), bank=bank, alpha=0.2, max_negative_confidence=bound)
            filled.append(int(bank.sizes.sum()))
        assert filled[0] == 0 and filled[1] > 50

    def test_padding_gives_neither_queries_nor_keys(self):
        batch = make_batch(5, [0, 2])
        valid = torch.ones(2, 8, 8, dtype=torch.bool)
        valid[:, 5:] = valid[0, :, 6:] = False
        losses = []
        for padding in (0.0, 1e4):
            batch['teacher_rep'] = torch.where(valid[:, None], batch['teacher_rep'], padding)
            bank, generator = MemoryBank(5, DIM, 1000), torch.Generator().manual_seed(0)
            terms = contrastive_terms(**batch, bank=bank, alpha=0.4, valid=valid, generator=generator)
            losses.append(terms.loss)
        terms.loss.backward()
        assert terms.num_classes == 2 and bank.sizes.sum() > 0 and bank.features.abs().max() < 100
        assert batch['student_rep'].grad.abs().sum(dim=1)[~valid].eq(0).all()
        assert losses[0].equal(losses[1]) and losses[0] > 0

    def test_reproducible_by_generator(self):
        batch = make_batch(5, [0, 2])

        def run(seed):
            generator = torch.Generator().manual_seed(seed)
            bank = MemoryBank(5, DIM, 8)
            losses = [contrastive_loss(**batch, bank=bank, alpha=0.5, generator=generator).item() for _ in range(2)]
            return losses, bank.features

        state = torch.get_rng_state()
        (first, bank), (again, same_bank), (other, _) = run(1), run(1), run(2)
        assert first == again and bank.equal(same_bank) and first != other
        assert first[0] != first[1], 'each step draws anew'
        assert state.equal(torch.get_rng_state())

    def test_gradcheck(self):
        batch = make_batch(4, [0, 2], size=4, batch=1)
        rep = batch.pop('student_rep').detach().double().requires_grad_()

        def loss(student_rep):
            return contrastive_loss(
                student_rep,
                **batch,
                bank=MemoryBank(4, DIM, 8),
                alpha=0.5,
                num_queries=4,
                num_negatives=3,
                generator=torch.Generator().manual_seed(0),
            )

        assert loss(rep).item() > 0
        assert torch.autograd.gradcheck(loss, rep)

    def test_autocast_does_not_lower_the_precision(self):
        batch = make_batch(5, [0, 2])
        batch['teacher_rep'] += 3  # a mean of values of one sign, which bfloat16 sums would spoil

        def loss():
            generator = torch.Generator().manual_seed(0)
            return contrastive_loss(**batch, bank=MemoryBank(5, DIM, 8), alpha=0.5, generator=generator)

        expected = loss()
        with torch.autocast('cpu', dtype=torch.bfloat16):
            assert loss().equal(expected)

    def test_half_precision_inputs(self):
        batch = make_batch(5, [0, 2], size=32)
        rep = batch['student_rep'].detach().half().requires_grad_()
        # The sum over the query pixels is far beyond what float16 holds.
        batch.update(student_rep=rep, teacher_rep=batch['teacher_rep'].half() + 1000)
        loss = contrastive_loss(**batch, bank=MemoryBank(5, DIM, 8), alpha=0.5)
        loss.backward()
        assert loss.dtype == torch.float32 and loss.isfinite() and rep.grad.isfinite().all()

    def test_host_does_not_wait_once_per_class(self):
        """Reading a number on the host, or the size of a selection, stalls a GPU: a fixed number of times a step."""

        class Count(TorchDispatchMode):
            def __init__(self):
                super().__init__()
                self.calls = Counter()

            def __torch_dispatch__(self, func, types, args=(), kwargs=None):
                self.calls[func.overloadpacket.__name__] += 1
                return func(*args, **(kwargs or {}))

        counts = []
        for num_classes in (8, 24):
            batch, bank = make_batch(num_classes, list(range(num_classes)), size=16), MemoryBank(num_classes, DIM, 8)
            with Count() as mode:
                contrastive_loss(**batch, bank=bank, alpha=0.5)
            counts.append(mode.calls)
        waits = ('_local_scalar_dense', 'nonzero', 'masked_select', 'item', 'unique', '_unique2', 'bincount')
        assert {name: counts[0][name] for name in waits} == {name: counts[1][name] for name in waits}
        assert counts[0]['nonzero'] >= 1, 'the counter sees something'
        assert sum(counts[0].values()) == sum(counts[1].values()), 'no loop over classes at all'
