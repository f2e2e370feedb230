"""Contrastive learning of reliable and unreliable pixels: Section 3.2.5 of CSRM (VISAPP 2025).

Shape letters: B batch, K classes with background, C = K - 1 image classes, D embedding, h w pixels, P queries per
class, N negatives per query, M keys per class in the bank, n pixels or keys.
"""

import math
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from csrm_plugin.functional.collectives import global_sum, shared_generator, world_size
from csrm_plugin.functional.contrast_candidates import pick_candidates
from csrm_plugin.functional.contrast_draws import collect_keys, draw_queries
from csrm_plugin.functional.contrast_nce import einsum, info_nce_terms
from csrm_plugin.functional.reduction import full_precision
from csrm_plugin.functional.reliability import entropy, split_by_entropy
from csrm_plugin.utils import IGNORE_INDEX


class ContrastTerms(NamedTuple):
    """The contrastive loss and what it stood on.

    Attributes:
        loss (Tensor): Scalar.
        num_classes (Tensor): Scalar, float: classes that took part, having queries and negatives; 0 where the loss
            is zero because fewer than two classes have queries.
        chance (Tensor): Scalar: the loss over log(1 + N), its value where all similarities are equal. Near 1 the
            representation tells nothing apart.
        positive (Tensor): Scalar, in -1..1: mean cosine of the drawn queries and their positives, over the classes
            that took part in any process; 0 without any.
        negative (Tensor): Scalar, in -1..1: the same of the drawn queries and their drawn negatives.
    """

    loss: Tensor
    num_classes: Tensor
    chance: Tensor
    positive: Tensor
    negative: Tensor


class KeyBank(Protocol):
    """Where keys of earlier batches are; :class:`csrm_plugin.models.memory_bank.MemoryBank` is one.

    Attributes:
        capacity (int): M, keys that the list of a class holds at most.
        features (Tensor): (K, M, D), float: the keys.
        sizes (Tensor): (K,), int64: how many of the M are in use.
    """

    capacity: int
    features: Tensor
    sizes: Tensor

    def enqueue(self, features: Tensor, classes: Tensor) -> None:
        """Take in keys (n, D) of ``classes`` (n,), int64."""

    def draw(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Indices (K, n), int64, of keys of each class."""


def contrastive_loss(
    student_rep: Tensor,
    teacher_rep: Tensor,
    teacher_probs: Tensor,
    pseudo_labels: Tensor,
    labels: Tensor,
    bank: KeyBank,
    alpha: float,
    *,
    low_rank: int = 3,
    high_rank: int = 6,
    num_queries: int = 50,
    num_negatives: int = 256,
    temperature: float = 0.5,
    query_confidence: float = 0.3,
    max_negative_confidence: float = 1.0,
    query_rule: str = 'reliable',
    generator: torch.Generator | None = None,
) -> Tensor:
    """The whole contrastive term of CSRM (VISAPP 2025, Section 3.2.5): fill the bank, draw, InfoNCE (Eq. 13).

    The mean is over the classes, background included, that have queries in the batch and keys in the bank. Where
    fewer than two classes have queries the loss is zero, with either rule: pulling all queries to one positive would
    only collapse the representation. Queries are drawn from the pixels of all processes; each process computes the
    part of the loss whose queries it holds, times the number of processes, so that averaged gradients are those of the
    global batch.

    Args:
        student_rep (Tensor): (B, D, h, w), float: where gradients go.
        teacher_rep (Tensor): (B, D, h, w), float. No gradient.
        teacher_probs (Tensor): (B, K, h, w), float, in 0..1, not restricted to the image's classes. No gradient.
        pseudo_labels (Tensor): (B, h, w), int64, 0..K-1, 255 uncertain.
        labels (Tensor): (B, C), 0/1: image-level labels; mixed, if the pictures are.
        bank (csrm_plugin.models.memory_bank.MemoryBank): K classes, D values; receives this batch's negatives.
        alpha (float): Share of pixels in the low- and in the high-entropy group, in 0..1.
        low_rank (int): gamma_l of :func:`negative_candidates`.
        high_rank (int): gamma_h of :func:`negative_candidates`.
        num_queries (int): P, per class, drawn with replacement.
        num_negatives (int): N, per query, drawn with replacement.
        temperature (float): tau.
        query_confidence (float): In 0..1: a query's least probability of its class.
        max_negative_confidence (float): In 0..1, see :func:`negative_candidates`.
        query_rule (str): ``'reliable'`` or ``'low_entropy'``, the paper's words taken literally: which pixels are
            queries, positives and negatives, see :func:`pick_candidates`.
        generator (torch.Generator, optional): Source of all draws.

    Returns:
        Tensor: Scalar; 0, still part of the graph, where fewer than two classes have queries or none of them has
        negatives.

    Raises:
        UserError: If there is no such rule, or ``alpha`` is out of range.

    Example:
        >>> from csrm_plugin.models import MemoryBank
        >>> rep = torch.tensor([[[[1.0, 0.0]], [[0.0, 1.0]]]])  # two pixels at right angles
        >>> probs = torch.tensor([[[[0.9, 0.4]], [[0.1, 0.6]]]])
        >>> pseudo_labels, labels = torch.tensor([[[0, 1]]]), torch.tensor([[1]])  # each is the other's negative
        >>> bank = MemoryBank(num_classes=2, dim=2, capacity=4)
        >>> options = dict(alpha=0.2, num_queries=1, num_negatives=1)
        >>> contrastive_loss(rep, rep, probs, pseudo_labels, labels, bank, **options)  # log(1 + exp(-2))
        tensor(0.1269)
    """
    return contrastive_terms(
        student_rep,
        teacher_rep,
        teacher_probs,
        pseudo_labels,
        labels,
        bank,
        alpha,
        low_rank=low_rank,
        high_rank=high_rank,
        num_queries=num_queries,
        num_negatives=num_negatives,
        temperature=temperature,
        query_confidence=query_confidence,
        max_negative_confidence=max_negative_confidence,
        query_rule=query_rule,
        generator=generator,
    ).loss


def contrastive_terms(
    student_rep: Tensor,
    teacher_rep: Tensor,
    teacher_probs: Tensor,
    pseudo_labels: Tensor,
    labels: Tensor,
    bank: KeyBank,
    alpha: float,
    *,
    low_rank: int = 3,
    high_rank: int = 6,
    num_queries: int = 50,
    num_negatives: int = 256,
    temperature: float = 0.5,
    query_confidence: float = 0.3,
    max_negative_confidence: float = 1.0,
    query_rule: str = 'reliable',
    generator: torch.Generator | None = None,
    valid: Tensor | None = None,
) -> ContrastTerms:
    """:func:`contrastive_loss` with its statistics; ``valid`` (B, h, w) bool is False at padding.

    Example:
        >>> from csrm_plugin.models import MemoryBank
        >>> rep = torch.tensor([[[[1.0, 0.0]], [[0.0, 1.0]]]])
        >>> probs = torch.tensor([[[[0.9, 0.4]], [[0.1, 0.6]]]])
        >>> pseudo_labels, labels = torch.tensor([[[0, 1]]]), torch.tensor([[1]])
        >>> bank = MemoryBank(num_classes=2, dim=2, capacity=4)
        >>> options = dict(alpha=0.2, num_queries=1, num_negatives=1)
        >>> terms = contrastive_terms(rep, rep, probs, pseudo_labels, labels, bank, **options)
        >>> terms.num_classes, terms.chance  # log(1 + exp(-2)) / log 2
        (tensor(2.), tensor(0.1831))
        >>> terms.positive, terms.negative  # cosines
        (tensor(1.), tensor(0.))
    """
    student_rep, probs = full_precision(student_rep), full_precision(teacher_probs.detach())
    teacher_rep = teacher_rep.detach().to(student_rep)
    generator = shared_generator(generator, student_rep.device)
    low, high = split_by_entropy(entropy(probs), alpha, valid)
    if valid is not None:
        pseudo_labels = pseudo_labels.masked_fill(~valid, IGNORE_INDEX)
    candidates = pick_candidates(
        probs,
        low,
        high,
        pseudo_labels,
        labels,
        query_rule,
        low_rank=low_rank,
        high_rank=high_rank,
        query_confidence=query_confidence,
        max_negative_confidence=max_negative_confidence,
    )
    positives_KD = _class_means(teacher_rep, candidates.positives)
    bank.enqueue(*collect_keys(teacher_rep, candidates.negatives, bank.capacity, generator))

    pixels_KP, own_KP, has_queries_K = draw_queries(candidates.queries, num_queries, generator)
    rows_nD = student_rep.permute(0, 2, 3, 1).flatten(0, 2)
    queries_KPD = F.normalize(rows_nD[pixels_KP], dim=-1)
    positive_KP = einsum('kpd,kd->kp', queries_KPD, F.normalize(positives_KD, dim=-1))
    # Similarities to the whole bank first, the draw after it: P x N keys of D values each are never copied.
    to_bank_KPM = einsum('kpd,kmd->kpm', queries_KPD, F.normalize(bank.features.to(student_rep), dim=-1))
    drawn_KPN = bank.draw(num_queries * num_negatives, generator).view(-1, num_queries, num_negatives)
    negative_KPN = to_bank_KPM.gather(2, drawn_KPN)

    # One class alone has nothing to be told apart from.
    used_K = has_queries_K & (bank.sizes > 0) & (has_queries_K.sum() >= 2)
    values_3KP = torch.stack(
        [info_nce_terms(positive_KP, negative_KPN, temperature), positive_KP, negative_KPN.mean(dim=2)]
    )
    values_3KP = torch.where(used_K[:, None] & own_KP, values_3KP, values_3KP.new_zeros(()))
    num_classes = used_K.sum()
    loss, *parts = values_3KP.sum(dim=(1, 2)) / (num_classes * num_queries).clamp(min=1)
    mean, positive, negative = global_sum(torch.stack([loss, *parts]))
    chance = mean / math.log(1 + num_negatives)
    return ContrastTerms(loss * world_size(), num_classes.float(), chance, positive, negative)


def _class_means(rep: Tensor, mask_BKhw: Tensor) -> Tensor:
    """(K, D): mean of ``rep`` (B, D, h, w) over each class's pixels, of all processes; zero for an empty class."""
    mask = mask_BKhw.to(rep)
    sums = global_sum(einsum('bkhw,bdhw->kd', mask, rep))
    return sums / global_sum(mask.sum(dim=(0, 2, 3))).clamp(min=1)[:, None]
