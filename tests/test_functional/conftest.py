"""What several tests of the contrastive term compare with."""

import math

import numpy as np
import pytest


def cosine_of(a, b):
    dot = sum(float(x) * float(y) for x, y in zip(a, b))
    return dot / math.sqrt(sum(float(x) ** 2 for x in a) * sum(float(y) ** 2 for y in b))


def loop_over_keys(query, positive, negatives, temperature):
    terms = [math.exp(cosine_of(query, key) / temperature) for key in [positive, *negatives]]
    return -math.log(terms[0] / sum(terms))


def loop_over_pixels(
    batch,
    valid,
    alpha,
    rule,
    low_rank=3,
    high_rank=6,
    query_confidence=0.3,
    max_negative_confidence=1.0,
):
    """Queries, positives and negatives of each class: three lists of K lists of (picture, row, column), in order.

    Section 3.2.5 in loops, without anything of `csrm_plugin`; `batch` holds the arguments of `contrastive_loss`.
    """
    probs, pseudo, labels = (np.asarray(batch[name]) for name in ('teacher_probs', 'pseudo_labels', 'labels'))
    valid = np.asarray(valid)
    K = probs.shape[1]
    entropy = np.zeros(pseudo.shape)
    for b, y, x in np.ndindex(pseudo.shape):
        entropy[b, y, x] = -sum(p * np.log(p) for p in probs[b, :, y, x].astype(float) if p > 0)
    low_limit, high_limit = np.quantile(entropy[valid], [alpha, 1 - alpha])
    queries, positives, negatives = ([[] for _ in range(K)] for _ in range(3))
    for b, y, x in np.ndindex(pseudo.shape):
        if not valid[b, y, x]:
            continue
        row = probs[b, :, y, x]
        present = [True, *(label > 0 for label in labels[b])]
        low, high = entropy[b, y, x] < low_limit, entropy[b, y, x] >= high_limit
        certain = pseudo[b, y, x] != 255
        own = pseudo[b, y, x]
        if rule == 'low_entropy':
            known = certain and low and row[own] > query_confidence
        else:
            known = certain or low
            if not certain:
                own = max((c for c in range(K) if present[c]), key=lambda c: row[c])
        if known:
            positives[own].append((b, y, x))
            if row[own] > query_confidence:
                queries[own].append((b, y, x))
        for c in range(K):
            rank = sum(other > row[c] for other in row)
            hard = (rank < low_rank and not present[c]) or low_rank <= rank < high_rank
            uncertain_one = high and row[c] < max_negative_confidence and hard
            certain_one = rule == 'reliable' and certain and pseudo[b, y, x] != c and rank < low_rank
            if uncertain_one or certain_one:
                negatives[c].append((b, y, x))
    return queries, positives, negatives


@pytest.fixture
def slow_candidates():
    return loop_over_pixels


@pytest.fixture
def slow_info_nce():
    return loop_over_keys


@pytest.fixture
def cosine():
    return cosine_of
