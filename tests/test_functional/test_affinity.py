import numpy as np
import pytest
import torch

from csrm_plugin import functional as F
from csrm_plugin.functional import (
    affinity_loss,
    neighbourhood,
    pair_labels,
    propagate,
    resize_affinity,
    transition_matrix,
)


def symmetric(batch, count, dtype=torch.float32):
    values = torch.rand(batch, count, count, dtype=dtype)
    return (values + values.transpose(1, 2)) / 2


def places(size):
    """Row and column of each position, in their order."""
    return [(row, column) for row in range(size[0]) for column in range(size[1])]


def slow_near(size, radius):
    rows = []
    for y, x in places(size):
        rows.append([radius is None or max(abs(y - v), abs(x - u)) <= radius for v, u in places(size)])
    return rows


def slow_transition(affinity, size, radius, power):
    matrix = torch.zeros_like(affinity)
    near = slow_near(size, radius)
    for b in range(len(affinity)):
        for i in range(affinity.shape[1]):
            weights = [float(a) ** power if near[i][j] else 0.0 for j, a in enumerate(affinity[b, i])]
            for j, weight in enumerate(weights):
                matrix[b, i, j] = weight / sum(weights) if sum(weights) > 0 else float(i == j)
    return matrix


class TestNeighbourhood:
    def test_worked_by_hand(self):
        # Positions 0 1 2 / 3 4 5: with radius 1 only the first and the last column are apart.
        near = neighbourhood((2, 3), 1)
        far = {(i, j) for i in range(6) for j in range(6) if not near[i, j]}
        assert near.dtype == torch.bool
        assert far == {(i, j) for i in (0, 3) for j in (2, 5)} | {(i, j) for i in (2, 5) for j in (0, 3)}

    @pytest.mark.parametrize('radius', [None, 1, 2, 3, 50])
    @pytest.mark.parametrize('size', [(1, 1), (1, 7), (5, 1), (4, 5)])
    def test_equals_slow_loop(self, size, radius):
        near = neighbourhood(size, radius)
        assert near.tolist() == slow_near(size, radius)
        assert near.equal(near.T) and near.diagonal().all()


class TestPairLabels:
    def test_worked_by_hand(self):
        pairs = pair_labels(torch.tensor([[[0, 2], [2, 255]]]))
        assert pairs.dtype == torch.int64
        assert pairs[0].tolist() == [[255, 0, 0, 255], [0, 255, 1, 255], [0, 1, 255, 255], [255, 255, 255, 255]]

    @pytest.mark.parametrize('radius', [None, 1, 2])
    def test_equals_slow_loop(self, radius):
        labels = torch.randint(0, 3, (2, 4, 3))
        labels[torch.rand(labels.shape) < 0.3] = 255
        pairs = pair_labels(labels, radius)
        near = slow_near((4, 3), radius)
        for b in range(2):
            flat = labels[b].flatten().tolist()
            for i in range(12):
                for j in range(12):
                    counts = i != j and near[i][j] and flat[i] != 255 and flat[j] != 255
                    assert pairs[b, i, j] == (int(flat[i] == flat[j]) if counts else 255)

    @pytest.mark.parametrize(('value', 'expected'), [(0, 1), (3, 1), (255, 255)])
    def test_one_class_only_or_nothing_certain(self, value, expected):
        pairs = pair_labels(torch.full((1, 2, 2), value))
        assert pairs[0, ~torch.eye(4, dtype=torch.bool)].eq(expected).all()
        assert pairs[0].diagonal().eq(255).all()

    def test_a_single_position_has_no_pair(self):
        assert pair_labels(torch.tensor([[[4]]])).tolist() == [[[255]]]


class TestAffinityLoss:
    def test_worked_by_hand(self):
        # Alike: (1 - 0.9) + (1 - 0.7) = 0.4 over 2 + 1; different: 0.2 over 1 + 1; half of each.
        affinity = torch.tensor([[[0.9, 0.7], [0.2, 0.5]]])
        loss = affinity_loss(affinity, torch.tensor([[[1, 1], [0, 255]]]))
        assert loss.item() == pytest.approx((0.4 / 3 + 0.2 / 2) / 2)

    def test_equals_slow_loop(self):
        affinity = symmetric(2, 9)
        labels = torch.tensor([0, 1, 255])[torch.randint(0, 3, (2, 9, 9))]
        alike = [1 - a for a, label in zip(affinity.flatten().tolist(), labels.flatten().tolist()) if label == 1]
        other = [a for a, label in zip(affinity.flatten().tolist(), labels.flatten().tolist()) if label == 0]
        expected = (sum(alike) / (len(alike) + 1) + sum(other) / (len(other) + 1)) / 2
        assert affinity_loss(affinity, labels).item() == pytest.approx(expected, rel=1e-5)

    @pytest.mark.parametrize(('affinity', 'label', 'expected'), [(1, 1, 0), (0, 0, 0), (0, 1, 4 / 10), (1, 0, 4 / 10)])
    def test_affinities_of_exactly_0_and_1(self, affinity, label, expected):
        values = torch.full((1, 2, 2), float(affinity), requires_grad=True)
        loss = affinity_loss(values, torch.full((1, 2, 2), label))  # 4 pairs over 4 + 1
        loss.backward()
        assert loss.item() == pytest.approx(expected)
        torch.testing.assert_close(values.grad, torch.full((1, 2, 2), (-0.1, 0.1)[label == 0]))

    def test_nothing_certain_gives_zero_and_a_gradient_of_zero(self):
        affinity = torch.rand(2, 4, 4).requires_grad_()
        loss = affinity_loss(affinity, torch.full((2, 4, 4), 255))
        loss.backward()
        assert loss.item() == 0 and affinity.grad.eq(0).all()

    def test_uncertain_pairs_may_be_anything(self):
        affinity, labels = torch.rand(1, 4, 4), torch.randint(0, 2, (1, 4, 4))
        labels[:, 0] = 255
        loss = affinity_loss(affinity, labels)
        for value in (0.0, torch.nan, torch.inf):
            changed = affinity.clone()
            changed[:, 0] = value
            changed.requires_grad_()
            other = affinity_loss(changed, labels)
            other.backward()
            assert other.equal(loss) and changed.grad[:, 0].eq(0).all()

    def test_gradcheck(self):
        affinity = torch.rand(2, 4, 4, dtype=torch.float64).requires_grad_()
        labels = torch.tensor([0, 1, 255])[torch.randint(0, 3, (2, 4, 4))]
        assert torch.autograd.gradcheck(lambda x: affinity_loss(x, labels), affinity)

    @pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
    def test_half_precision_is_summed_in_float32(self, dtype):
        # 90000 pairs: their sum overflows float16, their count is not exact in either.
        loss = affinity_loss(torch.full((1, 300, 300), 0.5, dtype=dtype), torch.zeros(1, 300, 300, dtype=torch.long))
        assert loss.dtype == torch.float32 and loss.item() == pytest.approx(0.25, rel=1e-4)

    def test_shapes_that_differ(self):
        with pytest.raises(ValueError, match=r'`affinity` is \(1, 4, 4\), but `pair_labels` \(1, 9, 9\)'):
            affinity_loss(torch.zeros(1, 4, 4), torch.zeros(1, 9, 9))


class TestTransitionMatrix:
    def test_worked_by_hand(self):
        # Squares 1, 0.25, 0.01 of a row of three; radius 1 leaves out the last.
        affinity = torch.tensor([[[1.0, 0.5, 0.1], [0.5, 0.5, 0.0], [0.1, 0.0, 0.0]]])
        torch.testing.assert_close(
            transition_matrix(affinity, (1, 3), radius=1)[0],
            torch.tensor([[0.8, 0.2, 0.0], [0.5, 0.5, 0.0], [0.0, 0.0, 1.0]]),
        )

    @pytest.mark.parametrize(('radius', 'power'), [(None, 2.0), (1, 1.0), (2, 3.0), (1, 0.5)])
    def test_equals_slow_loop(self, radius, power):
        affinity = symmetric(2, 12)
        affinity[0, 3] = affinity[0, :, 3] = 0  # has no neighbour, and stays with itself
        matrix = transition_matrix(affinity, (4, 3), radius, power)
        torch.testing.assert_close(matrix, slow_transition(affinity, (4, 3), radius, power))
        torch.testing.assert_close(matrix.sum(dim=2), torch.ones(2, 12))

    @pytest.mark.parametrize('value', [0.0, 1e-42, 1e-30, 1e-20, 1.0])
    def test_rows_sum_to_one_however_weak_the_affinities_are(self, value):
        matrix = transition_matrix(torch.full((1, 4, 4), value), (2, 2))
        torch.testing.assert_close(matrix.sum(dim=2), torch.ones(1, 4))
        expected = torch.full((1, 4, 4), 0.25) if value else torch.eye(4)[None]
        torch.testing.assert_close(matrix, expected)

    def test_power_of_zero_is_the_mean_of_the_neighbours(self):
        matrix = transition_matrix(symmetric(1, 5), (1, 5), radius=1, power=0)
        torch.testing.assert_close(matrix[0, 2], torch.tensor([0, 1, 1, 1, 0]) / 3)

    @pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
    def test_half_precision(self, dtype):
        affinity = symmetric(1, 6).to(dtype)
        matrix = transition_matrix(affinity, (2, 3))
        assert matrix.dtype == torch.float32
        torch.testing.assert_close(matrix, transition_matrix(affinity.float(), (2, 3)))

    def test_wrong_size(self):
        with pytest.raises(ValueError, match='does not belong to 2 x 2 positions'):
            transition_matrix(torch.zeros(1, 6, 6), (2, 2))


class TestPropagate:
    @pytest.mark.parametrize('steps', [0, 1, 3])
    def test_equals_slow_loop(self, steps):
        maps, affinity = torch.rand(2, 2, 2, 3), symmetric(2, 6)
        matrix = slow_transition(affinity, (2, 3), 1, 2.0)
        expected = maps.flatten(2)
        for _ in range(steps):
            before, expected = expected, torch.zeros_like(expected)
            for b, c, i, j in np.ndindex(2, 2, 6, 6):
                expected[b, c, i] += matrix[b, i, j] * before[b, c, j]
        result = propagate(maps, affinity, radius=1, steps=steps)
        torch.testing.assert_close(result, expected.view(2, 2, 2, 3))

    def test_no_affinity_changes_nothing(self):
        maps = torch.randn(1, 3, 2, 2)
        for affinity in (torch.zeros(1, 4, 4), torch.eye(4)[None]):
            torch.testing.assert_close(propagate(maps, affinity), maps)

    def test_stays_between_the_extremes_and_within_a_class(self):
        maps = torch.randn(2, 3, 4, 5)
        result = propagate(maps, symmetric(2, 20), radius=2, steps=4)
        low, high = maps.amin(dim=(2, 3), keepdim=True), maps.amax(dim=(2, 3), keepdim=True)
        assert (result >= low - 1e-6).all() and (result <= high + 1e-6).all()
        # Two halves that know nothing of each other: their means.
        side = torch.arange(20) % 5 < 2
        apart = (side[:, None] == side[None]).float()
        halves = propagate(maps, apart.expand(2, 20, 20)).flatten(2)
        for half in (side, ~side):
            mean = maps.flatten(2)[..., half].mean(dim=2, keepdim=True)
            torch.testing.assert_close(halves[..., half], mean.expand(2, 3, int(half.sum())))

    def test_stays_exact_within_autocast(self):
        maps, affinity = torch.rand(1, 2, 4, 4), symmetric(1, 16)
        exact = propagate(maps, affinity)
        with torch.autocast('cpu', dtype=torch.bfloat16):
            assert propagate(maps, affinity).equal(exact)
        assert propagate(maps.bfloat16(), affinity).dtype == torch.float32
        assert propagate(maps.double(), affinity.double()).dtype == torch.float64

    def test_gradcheck(self):
        maps = torch.rand(1, 2, 2, 2, dtype=torch.float64).requires_grad_()
        affinity = (torch.rand(1, 4, 4, dtype=torch.float64) + 0.1).requires_grad_()
        assert torch.autograd.gradcheck(lambda m, a: propagate(m, a, radius=1, steps=2), (maps, affinity))


class TestResizeAffinity:
    def test_worked_by_hand(self):
        # Four positions in a row become two: the mean of each 2 x 2 block.
        affinity = torch.arange(16.0).view(1, 4, 4)
        assert resize_affinity(affinity, (1, 4), (1, 2)).tolist() == [[[2.5, 4.5], [10.5, 12.5]]]

    @pytest.mark.parametrize(
        ('size', 'new_size'), [((4, 6), (2, 3)), ((5, 4), (2, 3)), ((3, 3), (1, 1)), ((1, 1), (1, 1)), ((3, 5), (2, 2))]
    )
    def test_equals_slow_loop(self, size, new_size):
        count, new_count = size[0] * size[1], new_size[0] * new_size[1]
        affinity = symmetric(2, count)
        result = resize_affinity(affinity, size, new_size)
        assert result.shape == (2, new_count, new_count)
        covered = []  # of each new position, the old ones that it touches
        for v, u in places(new_size):
            rows = range(v * size[0] // new_size[0], -(-(v + 1) * size[0] // new_size[0]))
            columns = range(u * size[1] // new_size[1], -(-(u + 1) * size[1] // new_size[1]))
            covered.append([y * size[1] + x for y in rows for x in columns])
        for b, i, j in np.ndindex(2, new_count, new_count):
            block = [affinity[b, p, q].item() for p in covered[i] for q in covered[j]]
            assert result[b, i, j].item() == pytest.approx(sum(block) / len(block), rel=1e-5)
        torch.testing.assert_close(result, result.transpose(1, 2))

    def test_equals_torch(self):
        affinity = symmetric(2, 35)
        maps = torch.nn.functional.interpolate(affinity.view(2, 35, 7, 5), (3, 2), mode='area').flatten(2)
        maps = torch.nn.functional.interpolate(maps.transpose(1, 2).unflatten(2, (7, 5)), (3, 2), mode='area')
        torch.testing.assert_close(resize_affinity(affinity, (7, 5), (3, 2)), maps.flatten(2).transpose(1, 2))

    def test_same_size_changes_nothing(self):
        affinity = symmetric(1, 6)
        torch.testing.assert_close(resize_affinity(affinity, (2, 3), (2, 3)), affinity)

    def test_stays_exact_within_autocast(self):
        affinity = symmetric(1, 16)
        exact = resize_affinity(affinity, (4, 4), (2, 2))
        with torch.autocast('cpu', dtype=torch.bfloat16):
            assert resize_affinity(affinity, (4, 4), (2, 2)).equal(exact)
        assert resize_affinity(affinity.bfloat16(), (4, 4), (2, 2)).dtype == torch.float32

    def test_gradcheck(self):
        affinity = torch.rand(1, 6, 6, dtype=torch.float64).requires_grad_()
        assert torch.autograd.gradcheck(lambda a: resize_affinity(a, (2, 3), (1, 2)), affinity)


def test_labels_of_a_map_made_of_its_own_affinity_cost_nothing():
    """An affinity that knows the classes has a loss of 0, keeps the maps within each class, and its opposite costs."""
    labels = torch.tensor([[[0, 0, 1], [0, 1, 1]]])
    flat = labels.flatten(1)
    affinity = (flat[:, :, None] == flat[:, None]).float()
    pairs = F.pair_labels(labels)
    assert affinity_loss(affinity, pairs).item() == 0
    # 12 ordered pairs of one class and 18 of two: (12 / 13 + 18 / 19) / 2.
    assert affinity_loss(1 - affinity, pairs).item() == pytest.approx((12 / 13 + 18 / 19) / 2)
    noisy = torch.tensor([[[[1.0, 0.0, 0.0], [0.5, 0.0, 0.3]]]])
    expected = torch.tensor([[[[0.5, 0.5, 0.1], [0.5, 0.1, 0.1]]]])
    torch.testing.assert_close(propagate(noisy, affinity), expected)
