import math
from collections import Counter

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from csrm_plugin.functional import QUERY_RULES, contrastive_loss, contrastive_terms
from csrm_plugin.models.memory_bank import MemoryBank
from csrm_plugin.utils import UserError

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


def mean(values):
    return sum(values) / len(values)


class TestContrastiveLoss:
    @pytest.mark.parametrize('rule', QUERY_RULES)
    @pytest.mark.parametrize('present', [[3, 7], [0, 3, 7], list(range(10))])
    def test_every_present_class_gets_gradient_and_no_other(self, present, rule):
        batch, bank = make_batch(10, present), MemoryBank(10, DIM, 32)
        bank.enqueue(torch.randn(100, DIM), torch.arange(100) % 10)  # negatives of every class
        contrastive_loss(**batch, bank=bank, alpha=0.5, query_rule=rule).backward()
        touched = batch['student_rep'].grad.abs().sum(dim=1) > 0
        assert sorted(batch['pseudo_labels'][touched].unique().tolist()) == present
        assert touched.sum() > 5 * len(present)

    @pytest.mark.parametrize('rule', QUERY_RULES)
    def test_without_the_negatives_of_one_class_the_other_still_learns(self, rule):
        batch, bank = make_batch(10, [3, 7]), MemoryBank(10, DIM, 32)
        bank.enqueue(torch.randn(5, DIM), torch.full((5,), 7))
        terms = contrastive_terms(**batch, bank=bank, alpha=0.5, low_rank=0, high_rank=0, query_rule=rule)
        terms.loss.backward()
        touched = batch['student_rep'].grad.abs().sum(dim=1) > 0
        assert batch['pseudo_labels'][touched].unique().tolist() == [7] and terms.num_classes == 1

    @pytest.mark.parametrize('rule', QUERY_RULES)
    def test_one_class_alone_gives_zero_in_the_graph(self, rule):
        """Though it has queries and negatives; a single query of a second class changes that."""
        batch, bank = make_batch(10, [7]), MemoryBank(10, DIM, 32)
        bank.enqueue(torch.randn(100, DIM), torch.arange(100) % 10)
        terms = contrastive_terms(**batch, bank=bank, alpha=0.5, query_rule=rule)
        terms.loss.backward()
        assert terms.loss == 0 and batch['student_rep'].grad.eq(0).all()
        assert terms[1:] == (0, 0, 0, 0)
        batch['pseudo_labels'][0, 0, 0] = 3
        batch['teacher_probs'][0, :, 0, 0] = torch.nn.functional.one_hot(torch.tensor(3), 10)
        terms = contrastive_terms(**batch, bank=bank, alpha=0.5, query_rule=rule)
        assert terms.num_classes == 2 and terms.loss > 0 and terms.positive != 0 and terms.negative != 0

    def test_uncertain_pixels_are_no_queries_where_low_entropy_asks_for_a_label(self):
        batch, bank = make_batch(10, [0, 3, 7]), MemoryBank(10, DIM, 32)
        batch['pseudo_labels'][batch['pseudo_labels'] == 3] = 255
        contrastive_loss(**batch, bank=bank, alpha=0.5, query_rule='low_entropy').backward()
        touched = batch['student_rep'].grad.abs().sum(dim=1) > 0
        assert batch['pseudo_labels'][touched].unique().tolist() == [0, 7]

    def test_uncertain_pixels_are_queries_where_the_teacher_is_sure(self):
        batch, bank = make_batch(10, [0, 3, 7]), MemoryBank(10, DIM, 32)
        was_3 = batch['pseudo_labels'] == 3
        batch['pseudo_labels'][was_3] = 255
        contrastive_loss(**batch, bank=bank, alpha=0.5, num_queries=1000).backward()
        touched = batch['student_rep'].grad.abs().sum(dim=1) > 0
        assert touched[was_3][:5].any() and not touched[was_3].all()
        assert touched[batch['pseudo_labels'] == 0].any() and touched[batch['pseudo_labels'] == 7].any()

    @pytest.mark.parametrize('rule', QUERY_RULES)
    @pytest.mark.parametrize(('capacity', 'max_negative_confidence'), [(1000, 1.0), (7, 1.0), (1, 0.2)])
    def test_equals_slow_reimplementation(
        self, capacity, max_negative_confidence, rule, slow_candidates, slow_info_nce, cosine
    ):
        K, P, N = 6, 5, 9
        bank = MemoryBank(K, DIM, capacity)
        for step in range(3):  # later steps draw from what earlier ones left
            batch = make_batch(K, [0, 2, 5])
            batch['pseudo_labels'][:, 3:5] = 255
            valid = torch.rand(2, 8, 8) < 0.9
            before = [bank.keys(c) for c in range(K)]
            limits = dict(
                low_rank=2, high_rank=4, query_confidence=0.5, max_negative_confidence=max_negative_confidence
            )
            found = contrastive_terms(
                **batch,
                **limits,
                bank=bank,
                alpha=0.4,
                num_queries=P,
                num_negatives=N,
                temperature=0.3,
                query_rule=rule,
                generator=torch.Generator().manual_seed(step),
                valid=valid,
            )
            queries, positives, negatives = slow_candidates(batch, valid, 0.4, rule, **limits)

            # The same draws: one seed, then priorities of the keys, queries, negatives.
            seed = torch.randint(2**62, (1,), generator=torch.Generator().manual_seed(step)).item()
            draws = torch.Generator().manual_seed(seed)

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
            terms, to_positive, to_negative, used = [], [], [], 0
            for c in range(K):
                if not queries[c] or not banks[c]:
                    continue
                used += 1
                positive = sum(rep('teacher_rep', q) for q in positives[c]) / len(positives[c])
                rows = bank.features[c]  # draws go by slot
                for p in range(P):
                    query = rep('student_rep', queries[c][int(drawn_queries[c][p] * len(queries[c]))])
                    slots = [int(u * len(banks[c])) for u in drawn_keys[c][p * N : (p + 1) * N]]
                    terms.append(slow_info_nce(query, positive, rows[slots], 0.3))
                    to_positive.append(cosine(query, positive))
                    to_negative += [cosine(query, key) for key in rows[slots]]
            assert used >= 2
            expected = [mean(terms), used, mean(terms) / math.log(1 + N), mean(to_positive), mean(to_negative)]
            assert [value.item() for value in found] == pytest.approx(expected, rel=1e-4, abs=1e-6)

    def test_low_entropy_gives_the_former_results(self):
        """Values from before there was another rule; no generator of random numbers makes the inputs."""
        bank, found = MemoryBank(5, 4, 12), []
        for step in range(3):
            n = torch.arange(2 * 5 * 6 * 6, dtype=torch.float64).view(2, 5, 6, 6) + step * 0.37
            numbers = torch.arange(2 * 4 * 6 * 6, dtype=torch.float64).view(2, 4, 6, 6)
            student, teacher = (torch.sin(numbers * factor + step).float() for factor in (0.9, 1.3))
            probs = (3 * torch.sin(n * 1.7)).softmax(dim=1).float()
            pseudo = probs.argmax(dim=1)
            pseudo[:, ::3] = 255
            loss = contrastive_loss(
                student.requires_grad_(),
                teacher,
                probs,
                pseudo,
                torch.tensor([[1, 0, 1, 0], [0, 1, 1, 0]]),
                bank,
                0.4,
                low_rank=1,
                high_rank=3,
                num_queries=6,
                num_negatives=7,
                query_rule='low_entropy',
                generator=torch.Generator().manual_seed(step),
            )
            loss.backward()
            found += [loss.item(), student.grad.abs().sum().item(), bank.features.double().sum().item()]
        assert found == pytest.approx(
            [2.0661273, 2.9627972, 2.6977623, 2.2842059, 3.1161997, -0.3508493, 2.1274593, 2.1746864, 1.0426461],
            rel=1e-5,
        )

    def test_statistics_worked_by_hand(self):
        """Class 0 along x, class 1 along y, queries turned by 60 degrees; each class is the other's negative."""
        teacher = torch.tensor([[[[2.0, 0.0]], [[0.0, 3.0]]]])
        half, height = 0.5, math.sqrt(0.75)
        student = torch.tensor([[[[half, height]], [[height, half]]]], requires_grad=True)
        probs = torch.tensor([[[[0.6, 0.4]], [[0.4, 0.6]]]])
        terms = contrastive_terms(
            student,
            teacher,
            probs,
            torch.tensor([[[0, 1]]]),
            torch.tensor([[1]]),
            MemoryBank(2, 2, 4),
            0.1,
            num_queries=3,
            num_negatives=2,
        )
        assert terms.num_classes == 2
        assert terms.positive.item() == pytest.approx(half) and terms.negative.item() == pytest.approx(height)
        expected = math.log(1 + 2 * math.exp((height - half) / 0.5))
        assert terms.loss.item() == pytest.approx(expected)
        assert terms.chance.item() == pytest.approx(expected / math.log(3))
        assert [value.requires_grad for value in terms] == [True] + [False] * 4

    def test_unknown_rule(self):
        with pytest.raises(UserError, match=r"'low'; did you mean 'low_entropy'"):
            contrastive_loss(**make_batch(5, [0, 2]), bank=MemoryBank(5, DIM, 16), alpha=0.5, query_rule='low')

    def test_no_gradient_reaches_the_teacher(self):
        batch, bank = make_batch(5, [0, 2]), MemoryBank(5, DIM, 16)
        batch['teacher_rep'].requires_grad_()
        batch['teacher_probs'].requires_grad_()
        contrastive_loss(**batch, bank=bank, alpha=0.5).backward()
        assert batch['student_rep'].grad.abs().sum() > 0
        assert batch['teacher_rep'].grad is None and batch['teacher_probs'].grad is None
        assert not bank.features.requires_grad

    def test_alpha_0_leaves_the_certain_labels(self):
        batch = make_batch(5, [0, 2])
        for rule, some in (('low_entropy', False), ('reliable', True)):
            batch['student_rep'].grad = None
            loss = contrastive_loss(**batch, bank=MemoryBank(5, DIM, 16), alpha=0.0, query_rule=rule)
            loss.backward()
            assert (loss.item() > 0) == batch['student_rep'].grad.ne(0).any().item() == some
        batch['pseudo_labels'].fill_(255)
        assert contrastive_loss(**batch, bank=MemoryBank(5, DIM, 16), alpha=0.0).item() == 0

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
        """One percent, as the text has it, against the released code's 100: why the latter is the default.

        Of uncertain pixels, that is, and so with the rule that knows no others.
        """
        filled = []
        for bound in (0.01, 1.0):
            torch.manual_seed(0)
            bank = MemoryBank(10, DIM, 1000)
            contrastive_loss(
                **make_batch(10, [0, 2, 5]),
                bank=bank,
                alpha=0.2,
                max_negative_confidence=bound,
                query_rule='low_entropy',
            )
            filled.append(int(bank.sizes.sum()))
        assert filled[0] == 0 and filled[1] > 50

    @pytest.mark.parametrize('rule', QUERY_RULES)
    def test_padding_gives_neither_queries_nor_keys(self, rule):
        batch = make_batch(5, [0, 2])
        valid = torch.ones(2, 8, 8, dtype=torch.bool)
        valid[:, 5:] = valid[0, :, 6:] = False
        losses = []
        for padding in (0.0, 1e4):
            batch['teacher_rep'] = torch.where(valid[:, None], batch['teacher_rep'], padding)
            bank, generator = MemoryBank(5, DIM, 1000), torch.Generator().manual_seed(0)
            terms = contrastive_terms(**batch, bank=bank, alpha=0.4, valid=valid, generator=generator, query_rule=rule)
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
