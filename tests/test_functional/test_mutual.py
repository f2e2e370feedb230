import math

import numpy as np
import pytest
import torch
from torch.distributions import Categorical, kl_divergence

from csrm_plugin.functional import (
    affinity_kl,
    comparable_cam,
    map_distance,
    mutual_affinity_kl,
    mutual_spatial_kl,
    normalize_cam,
    prototype_similarity,
    prototypes,
    shrink,
    spatial_kl,
)


def slow_kl(student, teacher):
    """KL(teacher || student) of two lists of probabilities, in plain Python."""
    return sum(t * math.log(t / s) for s, t in zip(student, teacher) if t > 0)


class TestShrink:
    def test_worked_by_hand(self):
        # Three columns become two: each touches the middle one.
        assert shrink(torch.tensor([[[[0.0, 2.0, 6.0]]]]), (1, 2)).tolist() == [[[[1.0, 4.0]]]]

    @pytest.mark.parametrize(('size', 'new'), [((7, 9), (3, 4)), ((8, 6), (4, 3)), ((5, 5), (1, 1)), ((2, 3), (4, 5))])
    def test_equals_torch(self, size, new):
        maps = torch.randn(2, 3, *size, requires_grad=True)
        expected = torch.nn.functional.interpolate(maps, new, mode='area')
        torch.testing.assert_close(shrink(maps, new), expected)
        weight = torch.randn(new)
        grads = [torch.autograd.grad((x * weight).sum(), maps)[0] for x in (shrink(maps, new), expected)]
        torch.testing.assert_close(*grads)

    @pytest.mark.parametrize('size', [(4, 4), (2, 2)])
    @pytest.mark.parametrize('dtype', [torch.bool, torch.float16, torch.bfloat16])
    def test_float32_whatever_comes_in(self, size, dtype):
        maps = (torch.rand(1, 1, 4, 4) < 0.5).to(dtype)
        with torch.autocast('cpu', dtype=torch.bfloat16):
            small = shrink(maps, size)
        assert small.dtype == torch.float32
        torch.testing.assert_close(small.mean(), maps.float().mean())

    def test_deterministic_backward_pass(self):
        # `interpolate(mode='area')` would be refused on CUDA, where its gradient is added up in any order.
        maps = torch.randn(1, 1, 6, 6, requires_grad=True)
        names, pending = set(), [shrink(maps, (2, 2)).grad_fn]
        while pending:
            node = pending.pop()
            names.add(type(node).__name__)
            pending.extend(parent for parent, _ in node.next_functions if parent is not None)
        assert not any('Pool' in name or 'Upsample' in name for name in names), names


class TestComparableCAM:
    def test_worked_by_hand(self):
        cam = torch.tensor([[[[-1.0, 2.0, 4.0]], [[0.5, -0.5, 0.25]], [[9.0, 9.0, 9.0]], [[-3.0, -1.0, 0.0]]]])
        result = comparable_cam(cam, torch.tensor([[1, 1, 0, 1]]))
        # A maximum below 1 stays what it is.
        assert result[0, :, 0].tolist() == [[0, 0.5, 1], [0.5, 0, 0.25], [0, 0, 0], [0, 0, 0]]

    def test_is_the_normalised_cam_where_maxima_are_at_least_1(self):
        cam, labels = torch.randn(2, 3, 4, 4), torch.tensor([[1, 0, 1], [0, 1, 1]])
        cam[..., 0, 0] = 2.5
        torch.testing.assert_close(comparable_cam(cam, labels), normalize_cam(cam, labels=labels))
        assert comparable_cam(cam.bfloat16(), labels.float()).dtype == torch.float32

    @pytest.mark.parametrize('scale', [0.0, 1e-30, 1e-3, 1.0, 1e3])
    def test_gradient_is_bounded(self, scale):
        cam = (scale * torch.randn(1, 2, 4, 4)).requires_grad_()
        result = comparable_cam(cam, torch.ones(1, 2))
        assert result.min() >= 0 and result.max() <= 1
        result.sum().backward()
        assert cam.grad.abs().max() <= 1 and cam.grad.isfinite().all()


class TestMapDistance:
    def test_worked_by_hand(self):
        # Means 1 and 3 of the large map against 0 and 5: distances 1 and 2.
        large, small = torch.tensor([[[[0.0, 2.0, 3.0, 3.0]]]]), torch.tensor([[[[0.0, 5.0]]]])
        assert map_distance(large, small).item() == 1.5
        assert map_distance(large, small, torch.tensor([False, True])).item() == 2

    def test_equals_torch_at_the_same_size(self):
        first, second = torch.randn(2, 2, 3, 4, 5)
        torch.testing.assert_close(map_distance(first, second), torch.nn.functional.l1_loss(first, second))
        assert map_distance(first, first).item() == 0

    def test_equals_slow_loop(self):
        large, small = torch.rand(2, 3, 4, 6), torch.rand(2, 3, 2, 3)
        mask = torch.rand(2, 3, 1, 1) < 0.6
        terms = []
        for b, c, y, x in np.ndindex(2, 3, 2, 3):
            if mask[b, c]:
                mean = sum(large[b, c, 2 * y + i, 2 * x + j].item() for i in (0, 1) for j in (0, 1)) / 4
                terms.append(abs(mean - small[b, c, y, x].item()))
        assert map_distance(large, small, mask).item() == pytest.approx(sum(terms) / len(terms), rel=1e-5)

    def test_nothing_counts(self):
        large, small = torch.rand(1, 2, 4, 4).requires_grad_(), torch.rand(1, 2, 2, 2).requires_grad_()
        loss = map_distance(large, small, torch.zeros(1, 2, 1, 1, dtype=torch.bool))
        loss.backward()
        assert loss.item() == 0 and large.grad.eq(0).all() and small.grad.eq(0).all()

    def test_both_views_learn(self):
        large, small = torch.rand(1, 2, 4, 4).requires_grad_(), torch.rand(1, 2, 2, 2).requires_grad_()
        map_distance(large, small).backward()
        assert large.grad.ne(0).all() and small.grad.ne(0).all()

    def test_gradcheck_and_half_precision(self):
        large, small = (torch.rand(1, 2, *size, dtype=torch.float64).requires_grad_() for size in ((5, 4), (2, 3)))
        assert torch.autograd.gradcheck(map_distance, (large, small))
        assert map_distance(large.bfloat16(), small.half()).dtype == torch.float32


class TestPrototypes:
    def test_worked_by_hand(self):
        features = torch.tensor([[[[1.0, 3.0]], [[0.0, 4.0]]]])  # two channels, two positions
        weights = torch.tensor([[[[1.0, 1.0]], [[0.5, 1.5]], [[0.0, 0.0]]]])
        assert prototypes(features, weights)[0].tolist() == [[2.0, 2.0], [2.5, 3.0], [0.0, 0.0]]

    def test_equals_slow_loop(self):
        features, weights = torch.randn(2, 4, 3, 2), torch.rand(2, 3, 3, 2)
        result = prototypes(features, weights)
        for b, c, d in np.ndindex(2, 3, 4):
            pairs = zip(weights[b, c].flatten().tolist(), features[b, d].flatten().tolist())
            expected = sum(w * f for w, f in pairs) / weights[b, c].sum().item()
            assert result[b, c, d].item() == pytest.approx(expected, rel=1e-4, abs=1e-6)

    def test_of_one_position_is_its_feature(self):
        features = torch.randn(1, 5, 2, 2)
        weights = torch.zeros(1, 1, 2, 2)
        weights[0, 0, 1, 0] = 0.2
        torch.testing.assert_close(prototypes(features, weights)[0, 0], features[0, :, 1, 0])

    def test_gradients_of_a_map_of_zeros_are_finite(self):
        features, weights = torch.randn(1, 3, 2, 2).requires_grad_(), torch.zeros(1, 2, 2, 2).requires_grad_()
        result = prototypes(features, weights)
        (1e12 * result.sum()).backward()  # as strong as a normalised vector of zeros asks for
        assert result.eq(0).all() and features.grad.eq(0).all() and weights.grad.isfinite().all()

    def test_gradcheck(self):
        features = torch.randn(2, 3, 2, 2, dtype=torch.float64).requires_grad_()
        weights = torch.rand(2, 2, 2, 2, dtype=torch.float64).requires_grad_()
        assert torch.autograd.gradcheck(prototypes, (features, weights))

    def test_sums_stay_exact_within_autocast(self):
        # A sum of 10000 features overflows float16 and has three digits in bfloat16.
        features, weights = torch.full((1, 2, 100, 100), 60.0), torch.ones(1, 1, 100, 100)
        for dtype in (torch.float16, torch.bfloat16):
            with torch.autocast('cpu', dtype=dtype):
                result = prototypes(features.to(dtype), weights)
            assert result.dtype == torch.float32
            torch.testing.assert_close(result, torch.full((1, 1, 2), 60.0), rtol=1e-4, atol=0)


class TestPrototypeSimilarity:
    @pytest.mark.parametrize('factor', [1.0, -1.0])
    def test_same_and_opposite_prototypes_of_two_classes(self, factor):
        vector = torch.randn(5)
        values = torch.stack([vector, 3 * factor * vector])[None]
        assert prototype_similarity(values, torch.ones(1, 2)).item() == pytest.approx(factor)

    def test_is_not_constant(self):
        """The known defect is a cosine over an axis of length one: always 1."""
        found = {round(prototype_similarity(torch.randn(2, 4, 6), torch.ones(2, 4)).item(), 4) for _ in range(5)}
        assert len(found) == 5 and all(-1 <= value <= 1 for value in found)

    def test_pairs_of_one_class_do_not_count(self):
        # Class 0 in both pictures, equal; class 1 in the second, orthogonal to it.
        values = torch.tensor([[[1.0, 0.0], [9.0, 9.0]], [[1.0, 0.0], [0.0, 1.0]]])
        assert prototype_similarity(values, torch.tensor([[1, 0], [1, 1]])).item() == 0
        assert prototype_similarity(values, torch.tensor([[1, 0], [1, 0]])).item() == 0

    def test_equals_slow_loop_over_the_whole_batch(self):
        values = torch.randn(3, 4, 5)
        present = torch.tensor([[1, 0, 1, 0], [0, 1, 1, 0], [1, 1, 1, 1]])
        entries = [(b, c) for b in range(3) for c in range(4) if present[b, c]]
        cosines = []
        for i, (b, c) in enumerate(entries):
            for a, k in entries[i + 1 :]:
                if c != k:
                    cosines.append(torch.nn.functional.cosine_similarity(values[b, c], values[a, k], dim=0).item())
        for kind in (torch.float32, torch.bool, torch.long):
            assert prototype_similarity(values, present.to(kind)).item() == pytest.approx(np.mean(cosines), abs=1e-6)

    @pytest.mark.parametrize('present', [[[0, 0, 0]], [[0, 1, 0]]])
    def test_less_than_two_classes(self, present):
        values = torch.randn(1, 3, 4, requires_grad=True)
        loss = prototype_similarity(values, torch.tensor(present))
        loss.backward()
        assert loss.item() == 0 and values.grad.eq(0).all()

    def test_a_class_whose_cam_is_zero_does_not_count_and_gives_no_nan(self):
        features = torch.randn(2, 5, 3, 3, requires_grad=True)
        weights = torch.rand(2, 3, 3, 3).requires_grad_()
        gone = torch.ones(2, 3, 1, 1)
        gone[0, 1] = 0
        loss = prototype_similarity(prototypes(features, weights * gone), torch.ones(2, 3))
        loss.backward()
        torch.testing.assert_close(loss, prototype_similarity(prototypes(features, weights), gone[..., 0, 0]))
        assert features.grad.isfinite().all() and weights.grad.isfinite().all()
        assert features.grad.abs().sum() > 0 and features.grad.abs().max() < 10

    def test_training_on_it_moves_classes_apart(self):
        features = torch.rand(2, 4, 3, 3).requires_grad_()
        weights, present = torch.rand(2, 3, 3, 3), torch.ones(2, 3)
        values = []
        for _ in range(5):
            loss = prototype_similarity(prototypes(features, weights), present)
            (gradient,) = torch.autograd.grad(loss, features)
            values.append(loss.item())
            features = (features - gradient).detach().requires_grad_()
        assert values == sorted(values, reverse=True) and values[-1] < values[0] - 0.05

    def test_gradcheck_and_autocast(self):
        values = torch.randn(2, 3, 4, dtype=torch.float64).requires_grad_()
        present = torch.tensor([[1, 1, 0], [1, 0, 1]])
        assert torch.autograd.gradcheck(lambda x: prototype_similarity(x, present), values)
        exact = prototype_similarity(values.float(), present)
        with torch.autocast('cpu', dtype=torch.bfloat16):
            assert prototype_similarity(values.float(), present).equal(exact)
        assert prototype_similarity(values.half(), present).dtype == torch.float32


class TestSpatialKL:
    def test_worked_by_hand(self):
        # Softmaxes (1/2, 1/2) and (1/4, 3/4): KL(teacher || student) either way.
        even, steep = torch.zeros(1, 1, 1, 2), torch.tensor([[[[0.0, math.log(3)]]]])
        assert spatial_kl(even, steep, 1.0).item() == pytest.approx(slow_kl((0.5, 0.5), (0.25, 0.75)))
        assert spatial_kl(steep, even, 1.0).item() == pytest.approx(slow_kl((0.25, 0.75), (0.5, 0.5)))
        # Half the temperature doubles the logits.
        assert spatial_kl(even, steep / 2, 0.5).item() == pytest.approx(slow_kl((0.5, 0.5), (0.25, 0.75)))

    @pytest.mark.parametrize('temperature', [0.05, 1.0])
    def test_equals_torch(self, temperature):
        student, teacher = torch.rand(2, 2, 3, 4, 5)
        pairs = [Categorical(logits=maps.flatten(2) / temperature) for maps in (teacher, student)]
        expected = kl_divergence(*pairs).mean()
        torch.testing.assert_close(spatial_kl(student, teacher, temperature), expected)

    def test_equal_maps_cost_nothing_and_none_is_negative(self):
        """The known defect hands probabilities where log-probabilities belong: negative, and not 0 for equal maps."""
        for _ in range(10):
            first, second = torch.rand(2, 2, 3, 4, 4)
            assert spatial_kl(first, first).item() == 0
            assert spatial_kl(first, first + 5).item() == pytest.approx(0, abs=1e-4), 'a softmax sees no shift'
            assert spatial_kl(first, second).item() > 0
            assert mutual_spatial_kl(first, second).item() > 0

    def test_valid_positions_only(self):
        student, teacher = torch.rand(2, 2, 3, 2, 4)
        valid = torch.ones(2, 2, 4, dtype=torch.bool)
        valid[0, :, 2:] = False
        each = [spatial_kl(student[:1, ..., :2], teacher[:1, ..., :2]), spatial_kl(student[1:], teacher[1:])]
        loss = spatial_kl(student, teacher, valid=valid)
        torch.testing.assert_close(loss, sum(each) / 2)
        for value in (1e4, -1e4, torch.nan, torch.inf):  # padding may hold anything
            changed = [torch.where(valid[:, None], maps, value).requires_grad_() for maps in (student, teacher)]
            other = spatial_kl(*changed, valid=valid)
            other.backward()
            assert other.equal(loss) and changed[0].grad.isfinite().all()
            assert changed[0].grad.masked_select(~valid[:, None]).eq(0).all()

    def test_a_picture_without_valid_positions_does_not_count(self):
        student, teacher = torch.rand(2, 2, 3, 2, 2)
        student.requires_grad_()
        valid = torch.tensor([True, False])[:, None, None].expand(2, 2, 2)
        loss = spatial_kl(student, teacher, valid=valid)
        torch.testing.assert_close(loss, spatial_kl(student[:1], teacher[:1]))
        loss = spatial_kl(student, teacher, valid=torch.zeros_like(valid))
        loss.backward()
        assert loss.item() == 0 and student.grad.eq(0).all()

    def test_extreme_values(self):
        student = torch.tensor([[[[0.0, 1e4]]]], requires_grad=True)
        loss = spatial_kl(student, student.detach().flip(3))
        loss.backward()
        assert loss.item() == pytest.approx(2e5) and student.grad.isfinite().all()

    def test_one_position_says_nothing(self):
        assert spatial_kl(torch.randn(2, 3, 1, 1), torch.randn(2, 3, 1, 1)).item() == 0

    def test_gradcheck_of_the_student(self):
        student, teacher = torch.randn(2, 2, 2, 2, 3, dtype=torch.float64)
        valid = torch.rand(2, 2, 3) < 0.7
        student.requires_grad_()
        assert torch.autograd.gradcheck(lambda x: spatial_kl(x, teacher, 0.5), student)
        assert torch.autograd.gradcheck(lambda x: spatial_kl(x, teacher, 0.5, valid), student)

    def test_teacher_gets_no_gradient(self):
        student, teacher = (torch.rand(1, 2, 3, 3).requires_grad_() for _ in range(2))
        spatial_kl(student, teacher).backward()
        assert student.grad.abs().sum() > 0 and teacher.grad is None

    @pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
    def test_half_precision(self, dtype):
        student, teacher = torch.rand(2, 1, 2, 20, 20).to(dtype)
        valid = torch.rand(1, 20, 20) < 0.8
        with torch.autocast('cpu', dtype=torch.bfloat16):
            loss = spatial_kl(student, teacher, valid=valid)
        assert loss.dtype == torch.float32
        torch.testing.assert_close(loss, spatial_kl(student.float(), teacher.float(), valid=valid))


class TestMutualSpatialKL:
    def test_is_the_sum_of_both_directions_at_the_smaller_size(self):
        first, second = torch.rand(2, 3, 7, 5), torch.rand(2, 3, 3, 2)
        valid = torch.rand(2, 3, 2) < 0.8
        small = torch.nn.functional.interpolate(first, (3, 2), mode='area')
        expected = spatial_kl(small, second, 0.2, valid) + spatial_kl(second, small, 0.2, valid)
        torch.testing.assert_close(mutual_spatial_kl(first, second, 0.2, valid), expected)

    def test_each_view_learns_as_student_only(self):
        """The gradient of each is that of its own direction: what it teaches adds exactly nothing."""
        first, second = (torch.rand(1, 2, 3, 3, dtype=torch.float64).requires_grad_() for _ in range(2))
        both = torch.autograd.grad(mutual_spatial_kl(first, second, 0.3), (first, second))
        assert both[0].equal(torch.autograd.grad(spatial_kl(first, second.detach(), 0.3), first)[0])
        assert both[1].equal(torch.autograd.grad(spatial_kl(second, first.detach(), 0.3), second)[0])
        # Without the stop, the first direction alone would have a gradient for the second map.
        assert torch.autograd.grad(spatial_kl(first, second, 0.3), second, allow_unused=True) == (None,)


class TestAffinityKL:
    def test_worked_by_hand(self):
        # Rows (1/2, 1/2) and (1/4, 3/4), whatever they sum to.
        student = torch.tensor([[[0.2, 0.2], [0.4, 0.4]]])
        teacher = torch.tensor([[[0.3, 0.9], [0.5, 0.5]]])
        assert affinity_kl(student, teacher).item() == pytest.approx(slow_kl((0.5, 0.5), (0.25, 0.75)) / 2, rel=1e-5)

    def test_equals_torch(self):
        student, teacher = torch.rand(2, 2, 9, 9) * 0.9 + 0.05
        expected = kl_divergence(Categorical(probs=teacher), Categorical(probs=student)).mean()
        torch.testing.assert_close(affinity_kl(student, teacher), expected, rtol=1e-5, atol=1e-6)

    def test_valid_positions_only(self):
        student, teacher = torch.rand(2, 2, 6, 6)
        valid = torch.tensor([True, True, False, True, False, True]).expand(2, 6)
        part = [maps[:, valid[0]][:, :, valid[0]] for maps in (student, teacher)]
        loss = affinity_kl(student, teacher, valid)
        torch.testing.assert_close(loss, affinity_kl(*part), rtol=1e-3, atol=1e-4)
        kept = valid[:, :, None] & valid[:, None]
        for value in (0.0, 1.0, 1e4):  # padding may hold anything
            changed = [torch.where(kept, maps, value).requires_grad_() for maps in (student, teacher)]
            other = affinity_kl(*changed, valid)
            assert other.equal(loss)
            (gradient,) = torch.autograd.grad(other, changed[0])
            assert gradient.masked_select(~kept).eq(0).all() and gradient.isfinite().all()

    def test_nothing_valid(self):
        student = torch.rand(1, 4, 4).requires_grad_()
        loss = affinity_kl(student, torch.rand(1, 4, 4), torch.zeros(1, 4, dtype=torch.bool))
        loss.backward()
        assert loss.item() == 0 and student.grad.eq(0).all()

    def test_equal_rows_cost_nothing_and_none_is_negative(self):
        for _ in range(10):
            first, second = torch.rand(2, 2, 5, 5)
            assert affinity_kl(first, first).item() == 0
            assert affinity_kl(first, second).item() > 0 and mutual_affinity_kl(first, second).item() > 0
        assert affinity_kl(torch.rand(2, 1, 1), torch.rand(2, 1, 1)).item() == 0

    @pytest.mark.parametrize(('student', 'teacher'), [(0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0)])
    def test_affinities_of_exactly_0_and_1(self, student, teacher):
        rows = [torch.eye(3)[None] * (1 - value) + value * (1 - torch.eye(3)) for value in (student, teacher)]
        first, second = (row.clone().requires_grad_() for row in rows)
        loss = mutual_affinity_kl(first, second)
        loss.backward()
        assert loss.isfinite() and (loss > 1) == (student != teacher)
        assert first.grad.isfinite().all() and second.grad.isfinite().all()

    def test_gradcheck_of_the_student(self):
        student, teacher = torch.rand(2, 2, 4, 4, dtype=torch.float64) * 0.9 + 0.05
        valid = torch.tensor([[True, True, True, False], [True, True, True, True]])
        student.requires_grad_()
        assert torch.autograd.gradcheck(lambda x: affinity_kl(x, teacher), student)
        assert torch.autograd.gradcheck(lambda x: affinity_kl(x, teacher, valid), student)

    def test_mutual_is_both_directions_and_the_teaching_side_gets_no_gradient(self):
        first, second = (torch.rand(1, 4, 4, dtype=torch.float64).requires_grad_() for _ in range(2))
        one, other = affinity_kl(first, second), affinity_kl(second, first)
        torch.testing.assert_close(mutual_affinity_kl(first, second), one + other)
        both = torch.autograd.grad(mutual_affinity_kl(first, second), (first, second))
        assert both[0].equal(torch.autograd.grad(one, first, retain_graph=True)[0])
        assert both[1].equal(torch.autograd.grad(other, second, retain_graph=True)[0])
        assert torch.autograd.grad(one, second, allow_unused=True) == (None,)
        assert torch.autograd.grad(other, first, allow_unused=True) == (None,)

    @pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
    def test_half_precision(self, dtype):
        student, teacher = torch.rand(2, 1, 40, 40).to(dtype)
        with torch.autocast('cpu', dtype=torch.bfloat16):
            loss = affinity_kl(student, teacher)
        assert loss.dtype == torch.float32
        torch.testing.assert_close(loss, affinity_kl(student.float(), teacher.float()))
