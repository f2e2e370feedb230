import itertools
import math

import numpy as np
import pytest

from csrm_plugin.evaluation import average_precision, mean_average_precision
from csrm_plugin.evaluation.multi_label import chance_mean_average_precision


def ap(scores, labels):
    return average_precision(np.array(scores, dtype=float), np.array(labels, dtype=bool))


def test_worked_by_hand():
    # Hits at ranks 1 and 3: (1/1 + 2/3) / 2.
    assert ap([0.9, 0.8, 0.7, 0.1], [1, 0, 1, 0]) == pytest.approx(5 / 6)
    assert ap([0.1, 0.9, 0.8], [0, 1, 1]) == 1
    assert ap([0.9, 0.8, 0.1], [0, 0, 1]) == pytest.approx(1 / 3)


def test_ties_are_one_step_whatever_the_order():
    # Two of the three at 0.5 are hits, all at once: precision 2/3. Then one at 0.2: 3 hits of 4.
    expected = (2 * 2 / 3 + 3 / 4) / 3
    assert ap([0.5, 0.5, 0.5, 0.2], [1, 1, 0, 1]) == pytest.approx(expected)
    assert ap([0.2, 0.5, 0.5, 0.5], [1, 0, 1, 1]) == pytest.approx(expected)
    assert ap([0.5] * 4, [1, 0, 0, 0]) == 0.25


def test_no_positive_is_nan_and_left_out_of_the_mean():
    assert math.isnan(ap([0.5], [0]))
    scores = np.array([[0.9, 0.3, 0.1], [0.1, 0.4, 0.9]])
    labels = np.array([[1, 0, 1], [0, 0, 0]])
    assert mean_average_precision(scores, labels) == pytest.approx((1 + 0.5) / 2)
    assert math.isnan(mean_average_precision(scores, np.zeros((2, 3))))


def test_equals_slow_loop():
    rng = np.random.default_rng(0)
    scores, labels = rng.integers(0, 6, 40) / 6, rng.random(40) < 0.4
    total, recall = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        chosen = [bool(label) for score, label in zip(scores, labels) if score >= threshold]
        risen = sum(chosen) / labels.sum()
        total += (risen - recall) * sum(chosen) / len(chosen)
        recall = risen
    assert average_precision(scores, labels) == pytest.approx(total)


def test_chance_is_the_mean_over_all_orders():
    """Every ranking of the pictures is as likely as any other."""
    labels = np.array([[1, 1, 0, 0], [0, 1, 0, 1], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]])
    orders = list(itertools.permutations(range(len(labels))))
    expected = np.mean([ap(order, labels[:, c]) for c in (0, 1, 3) for order in orders])
    assert chance_mean_average_precision(labels) == pytest.approx(expected)
    assert chance_mean_average_precision(labels) > labels[:, [0, 1, 3]].mean(), 'more than a constant gets'
    assert math.isnan(chance_mean_average_precision(np.zeros((3, 2)))) and math.isnan(
        chance_mean_average_precision(np.zeros((0, 2)))
    )
    assert chance_mean_average_precision(np.ones((1, 2))) == 1
