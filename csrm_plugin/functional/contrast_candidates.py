"""Which pixels are queries, positives and negatives of the contrastive term: Section 3.2.5 of CSRM (VISAPP 2025).

Shape letters: B batch, K classes with background, C = K - 1 image classes.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from csrm_plugin.functional.reliability import restrict_probs
from csrm_plugin.utils import IGNORE_INDEX, UserError
from csrm_plugin.utils.spelling import nearest

#: Which pixels are queries, positives and negatives; :func:`pick_candidates` says what each rule does.
QUERY_RULES = ('reliable', 'low_entropy')


class ContrastCandidates(NamedTuple):
    """Pixels that may be drawn for each class.

    Attributes:
        queries (Tensor): (B, K, H, W), bool.
        positives (Tensor): (B, K, H, W), bool: whose mean is the positive of the class; holds all queries.
        negatives (Tensor): (B, K, H, W), bool.
    """

    queries: Tensor
    positives: Tensor
    negatives: Tensor


def pick_candidates(
    probs: Tensor,
    low_entropy: Tensor,
    high_entropy: Tensor,
    pseudo_labels: Tensor,
    labels: Tensor,
    query_rule: str = 'reliable',
    *,
    low_rank: int = 3,
    high_rank: int = 6,
    query_confidence: float = 0.3,
    max_negative_confidence: float = 1.0,
) -> ContrastCandidates:
    """Pixels that may be queries, make up the positive, and may be negatives of each class.

    - ``'reliable'``: queries of c are the pixels of :func:`reliable_candidates` whose probability of c is above
      ``query_confidence``; its positive comes from all of them; negatives are those of :func:`negative_candidates`
      among uncertain pixels and among certain ones of another class.
    - ``'low_entropy'``, the paper's words taken literally: queries of c are the pixels of :func:`query_candidates`,
      which ask for low entropy *and* pseudo label c; its positive comes from the same; only uncertain pixels are
      negatives. The lowest entropies are nearly all background, so hardly any other class has queries.

    Args:
        probs (Tensor): (B, K, H, W), float, in 0..1: the teacher's, not restricted to the image's classes.
        low_entropy (Tensor): (B, H, W), bool; False at padding.
        high_entropy (Tensor): (B, H, W), bool; False at padding.
        pseudo_labels (Tensor): (B, H, W), int64, 0..K-1, 255 uncertain and at padding.
        labels (Tensor): (B, C), 0/1, without background.
        query_rule (str): One of :data:`QUERY_RULES`.
        low_rank (int): gamma_l.
        high_rank (int): gamma_h.
        query_confidence (float): In 0..1.
        max_negative_confidence (float): In 0..1.

    Raises:
        UserError: If the rule is another one.

    Example:
        >>> probs = torch.tensor([[[[0.6, 0.1]], [[0.4, 0.9]]]])  # the class is missed in the first pixel
        >>> low_entropy = torch.tensor([[[False, True]]])
        >>> pseudo_labels, labels = torch.tensor([[[1, 255]]]), torch.tensor([[1]])
        >>> found = pick_candidates(probs, low_entropy, ~low_entropy, pseudo_labels, labels)
        >>> found.queries[0, 1], found.negatives[0, 0]  # certain and sure ones; certain to be other
        (tensor([[True, True]]), tensor([[ True, False]]))
    """
    check_query_rule(query_rule)
    ranks = low_rank, high_rank, max_negative_confidence
    if query_rule == 'low_entropy':
        queries = query_candidates(probs, low_entropy, pseudo_labels, query_confidence)
        return ContrastCandidates(queries, queries, negative_candidates(probs, high_entropy, labels, *ranks))
    reliable = reliable_candidates(probs, low_entropy, pseudo_labels, labels)
    negatives = negative_candidates(probs, high_entropy, labels, *ranks, pseudo_labels)
    return ContrastCandidates(reliable & (probs > query_confidence), reliable, negatives)


def negative_candidates(
    probs: Tensor,
    high_entropy: Tensor,
    labels: Tensor,
    low_rank: int = 3,
    high_rank: int = 6,
    max_confidence: float = 1.0,
    pseudo_labels: Tensor | None = None,
) -> Tensor:
    """Pixels that are hard negatives of each class: uncertain, or certain to be other, and easily mistaken for it.

    A pixel of high entropy whose probability of class c is below ``max_confidence`` is a negative of c if c (a) ranks
    before ``low_rank`` although the image-level label lacks c, or (b) ranks from ``low_rank`` up to before
    ``high_rank``. With pseudo labels, so is a pixel whose certain pseudo label is another class, if c ranks before
    ``low_rank``. Ranks start at 0, the most probable, and count all K classes; the background is always present.

    Args:
        probs (Tensor): (B, K, H, W), float, in 0..1: the teacher's, not restricted to the image's classes.
        high_entropy (Tensor): (B, H, W), bool.
        labels (Tensor): (B, C), 0/1, without background.
        low_rank (int): gamma_l.
        high_rank (int): gamma_h.
        max_confidence (float): In 0..1, of uncertain pixels. The paper says 0.01, its released code 1.0.
        pseudo_labels (Tensor, optional): (B, H, W), int64, 0..K-1, 255 uncertain and at padding.

    Returns:
        Tensor: (B, K, H, W), bool.

    Example:
        >>> probs = torch.tensor([0.2, 0.5, 0.3]).view(1, 3, 1, 1)
        >>> high_entropy, labels = torch.ones(1, 1, 1, dtype=torch.bool), torch.tensor([[1, 0]])
        >>> # The background ranks behind `low_rank`, and class 2, which ranks before it, is not in the picture.
        >>> negative_candidates(probs, high_entropy, labels, low_rank=2, high_rank=3).flatten()
        tensor([ True, False,  True])
    """
    ranks = probs.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    present = torch.cat([torch.ones_like(labels[:, :1]), labels], dim=1).to(probs.device) > 0
    absent = ~present[:, :, None, None]
    hard = ((ranks < low_rank) & absent) | ((ranks >= low_rank) & (ranks < high_rank))
    negatives = hard & (probs < max_confidence) & high_entropy[:, None]
    if pseudo_labels is None:
        return negatives
    other = (pseudo_labels != IGNORE_INDEX)[:, None] & ~_one_hot(pseudo_labels, probs)
    return negatives | (other & (ranks < low_rank))


def query_candidates(probs: Tensor, low_entropy: Tensor, pseudo_labels: Tensor, min_confidence: float = 0.3) -> Tensor:
    """Queries of the rule ``'low_entropy'``: pseudo label c, low entropy, probability of c above a minimum.

    Args:
        probs (Tensor): (B, K, H, W), float, in 0..1.
        low_entropy (Tensor): (B, H, W), bool.
        pseudo_labels (Tensor): (B, H, W), int64, 0..K-1, 255 uncertain (never a candidate).
        min_confidence (float): In 0..1.

    Returns:
        Tensor: (B, K, H, W), bool.

    Example:
        >>> probs = torch.tensor([[[[0.1, 0.8]], [[0.9, 0.2]]]])
        >>> low_entropy, pseudo_labels = torch.ones(1, 1, 2, dtype=torch.bool), torch.tensor([[[1, 1]]])
        >>> query_candidates(probs, low_entropy, pseudo_labels)[0, :, 0]  # a row for each class
        tensor([[False, False],
                [ True, False]])
    """
    return _one_hot(pseudo_labels, probs) & low_entropy[:, None] & (probs > min_confidence)


def reliable_candidates(probs: Tensor, low_entropy: Tensor, pseudo_labels: Tensor, labels: Tensor) -> Tensor:
    """Pixels whose class is known: by a certain pseudo label, or, where there is none, by a sure teacher.

    A pixel is reliable for class c if its pseudo label is c, whatever its entropy; or if its pseudo label is uncertain,
    its entropy low, and c the teacher's most probable among the background and the classes of the image-level label.

    Args:
        probs (Tensor): (B, K, H, W), float, in 0..1: the teacher's, not restricted to the image's classes.
        low_entropy (Tensor): (B, H, W), bool; False at padding.
        pseudo_labels (Tensor): (B, H, W), int64, 0..K-1, 255 uncertain and at padding.
        labels (Tensor): (B, C), 0/1, without background.

    Returns:
        Tensor: (B, K, H, W), bool; of each pixel at most one class.

    Example:
        >>> probs = torch.tensor([[[[0.1, 0.2, 0.2]], [[0.2, 0.1, 0.1]], [[0.7, 0.7, 0.7]]]])  # class 2 leads ...
        >>> pseudo_labels, labels = torch.tensor([[[1, 255, 255]]]), torch.tensor([[1, 0]])  # ... but is not there
        >>> low_entropy = torch.tensor([[[False, True, False]]])
        >>> reliable_candidates(probs, low_entropy, pseudo_labels, labels)[0, :, 0]  # a row for each class
        tensor([[False,  True, False],
                [ True, False, False],
                [False, False, False]])
    """
    surest = restrict_probs(probs, labels).argmax(dim=1)
    taken = torch.where((pseudo_labels == IGNORE_INDEX) & low_entropy, surest, pseudo_labels)
    return _one_hot(taken, probs)


def check_query_rule(query_rule: str, setting: str = 'query_rule') -> None:
    """Raise ``UserError`` unless ``query_rule`` is one of :data:`QUERY_RULES`; ``setting`` is named in the message.

    Example:
        >>> check_query_rule('reliable')
        >>> check_query_rule('low entropy')
        Traceback (most recent call last):
            ...
        csrm_plugin.utils.errors.UserError: `query_rule` is 'low entropy'; did you mean 'low_entropy'? (or 'reliable')
    """
    if query_rule not in QUERY_RULES:
        near = nearest(query_rule, QUERY_RULES, cutoff=0.0)
        others = ' or '.join(repr(rule) for rule in QUERY_RULES if rule != near)
        raise UserError(f'`{setting}` is {query_rule!r}; did you mean {near!r}? (or {others})')


def _one_hot(pseudo_labels: Tensor, probs: Tensor) -> Tensor:
    """(B, K, H, W), bool: which class each label names; none for 255."""
    return pseudo_labels[:, None] == torch.arange(probs.shape[1], device=probs.device)[:, None, None]
