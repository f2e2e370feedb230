"""Contrastive learning of reliable and unreliable pixels: Section 3.2.5 of CSRM (VISAPP 2025).

Shape letters: B batch, K classes with background, C = K - 1 image classes, D embedding, h w pixels, P queries per
class, N negatives per query, M keys per class in the bank, n pixels or keys.
"""

import math
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from csrm_plugin.functional.collectives import gather, global_sum, rank, shared_generator, world_size
from csrm_plugin.functional.reduction import full_precision
from csrm_plugin.functional.reliability import entropy, split_by_entropy


class ContrastTerms(NamedTuple):
    """The contrastive loss and what it stood on.

    Attributes:
        loss (Tensor): Scalar.
        num_classes (Tensor): Scalar, float: classes that had queries and negatives.
        chance (Tensor): Scalar: the loss over log(1 + N), its value where all similarities are equal. Near 1 the
            representation tells nothing apart.
    """

    loss: Tensor
    num_classes: Tensor
    chance: Tensor


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


def info_nce(queries: Tensor, positives: Tensor, negatives: Tensor, temperature: float = 0.5) -> Tensor:
    """InfoNCE with cosine similarities: Eq. 13 of CSRM (VISAPP 2025).

    Args:
        queries (Tensor): (G, P, D), float: P queries of G classes.
        positives (Tensor): (G, D), float: one positive of each class.
        negatives (Tensor): (G, P, N, D), float: N negatives of each query.
        temperature (float): tau, above 0.

    Returns:
        Tensor: Scalar, in nats: the mean over classes and queries.

    Example:
        >>> queries, positives = torch.tensor([[[1.0, 0.0]]]), torch.tensor([[1.0, 0.0]])
        >>> negatives = torch.tensor([[[[0.0, 1.0]]]])
        >>> info_nce(queries, positives, negatives, temperature=0.5)  # log(1 + exp(-2))
        tensor(0.1269)
    """
    queries, positives, negatives = (F.normalize(full_precision(x), dim=-1) for x in (queries, positives, negatives))
    positive = _einsum('gpd,gd->gp', queries, positives)
    negative = _einsum('gpd,gpnd->gpn', queries, negatives)
    return _info_nce_terms(positive, negative, temperature).mean()


def negative_candidates(
    probs: Tensor,
    high_entropy: Tensor,
    labels: Tensor,
    low_rank: int = 3,
    high_rank: int = 6,
    max_confidence: float = 1.0,
) -> Tensor:
    """Pixels that are hard negatives of each class: uncertain, and easily mistaken for it.

    A pixel of high entropy whose probability of class c is below ``max_confidence`` is a negative of c if c (a) ranks
    before ``low_rank`` although the image-level label lacks c, or (b) ranks from ``low_rank`` up to before
    ``high_rank``. Ranks start at 0, the most probable, and count all K classes; the background is always present.

    Args:
        probs (Tensor): (B, K, H, W), float, in 0..1: the teacher's, not restricted to the image's classes.
        high_entropy (Tensor): (B, H, W), bool.
        labels (Tensor): (B, C), 0/1, without background.
        low_rank (int): gamma_l.
        high_rank (int): gamma_h.
        max_confidence (float): In 0..1. The paper says 0.01, its released code 1.0.

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
    return hard & (probs < max_confidence) & high_entropy[:, None]


def query_candidates(probs: Tensor, low_entropy: Tensor, pseudo_labels: Tensor, min_confidence: float = 0.3) -> Tensor:
    """Pixels whose class is confidently known: pseudo label c, low entropy, probability of c above a minimum.

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
    classes = torch.arange(probs.shape[1], device=probs.device)[:, None, None]
    return (pseudo_labels[:, None] == classes) & low_entropy[:, None] & (probs > min_confidence)


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
    generator: torch.Generator | None = None,
) -> Tensor:
    """The whole contrastive term of CSRM (VISAPP 2025, Section 3.2.5): fill the bank, draw, InfoNCE (Eq. 13).

    The mean is over the classes, background included, that have queries in the batch and keys in the bank. Queries
    are drawn from the pixels of all processes; each process computes the part of the loss whose queries it holds,
    times the number of processes, so that averaged gradients are those of the global batch.

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
        query_confidence (float): In 0..1, see :func:`query_candidates`.
        max_negative_confidence (float): In 0..1, see :func:`negative_candidates`.
        generator (torch.Generator, optional): Source of all draws.

    Returns:
        Tensor: Scalar; 0, still part of the graph, where no class has both queries and negatives.

    Example:
        >>> from csrm_plugin.models import MemoryBank
        >>> rep = torch.tensor([[[[1.0, 0.0]], [[0.0, 1.0]]]])  # two pixels at right angles
        >>> probs = torch.tensor([[[[0.05, 0.5]], [[0.95, 0.5]]]])  # a sure one and an unsure one
        >>> pseudo_labels, labels = torch.tensor([[[1, 255]]]), torch.tensor([[1]])
        >>> bank = MemoryBank(num_classes=2, dim=2, capacity=4)
        >>> options = dict(alpha=0.5, low_rank=0, high_rank=2, num_queries=1, num_negatives=1)
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
    generator: torch.Generator | None = None,
    valid: Tensor | None = None,
) -> ContrastTerms:
    """:func:`contrastive_loss` with its statistics; ``valid`` (B, h, w) bool is False at padding.

    Example:
        >>> from csrm_plugin.models import MemoryBank
        >>> rep = torch.tensor([[[[1.0, 0.0]], [[0.0, 1.0]]]])
        >>> probs = torch.tensor([[[[0.05, 0.5]], [[0.95, 0.5]]]])
        >>> pseudo_labels, labels = torch.tensor([[[1, 255]]]), torch.tensor([[1]])
        >>> bank = MemoryBank(num_classes=2, dim=2, capacity=4)
        >>> options = dict(alpha=0.5, low_rank=0, high_rank=2, num_queries=1, num_negatives=1)
        >>> terms = contrastive_terms(rep, rep, probs, pseudo_labels, labels, bank, **options)
        >>> terms.num_classes, terms.chance  # one class had queries; log(1 + exp(-2)) / log 2
        (tensor(1.), tensor(0.1831))
    """
    student_rep, probs = full_precision(student_rep), full_precision(teacher_probs.detach())
    teacher_rep = teacher_rep.detach().to(student_rep)
    generator = shared_generator(generator, student_rep.device)
    low, high = split_by_entropy(entropy(probs), alpha, valid)
    queries_BKhw = query_candidates(probs, low, pseudo_labels, query_confidence)
    negatives_BKhw = negative_candidates(probs, high, labels, low_rank, high_rank, max_negative_confidence)

    positives_KD = _class_means(teacher_rep, queries_BKhw)
    bank.enqueue(*_collect_keys(teacher_rep, negatives_BKhw, bank.capacity, generator))

    pixels_KP, own_KP, has_queries_K = _draw_queries(queries_BKhw, num_queries, generator)
    rows_nD = student_rep.permute(0, 2, 3, 1).flatten(0, 2)
    queries_KPD = F.normalize(rows_nD[pixels_KP], dim=-1)
    positive_KP = _einsum('kpd,kd->kp', queries_KPD, F.normalize(positives_KD, dim=-1))
    # Similarities to the whole bank first, the draw after it: P x N keys of D values each are never copied.
    to_bank_KPM = _einsum('kpd,kmd->kpm', queries_KPD, F.normalize(bank.features.to(student_rep), dim=-1))
    drawn_KPN = bank.draw(num_queries * num_negatives, generator).view(-1, num_queries, num_negatives)
    terms_KP = _info_nce_terms(positive_KP, to_bank_KPM.gather(2, drawn_KPN), temperature)

    used_K = has_queries_K & (bank.sizes > 0)
    terms_KP = torch.where(used_K[:, None] & own_KP, terms_KP, terms_KP.new_zeros(()))
    num_classes = used_K.sum()
    loss = terms_KP.sum() * world_size() / (num_classes * num_queries).clamp(min=1)
    chance = global_sum(loss) / (world_size() * math.log(1 + num_negatives))
    return ContrastTerms(loss, num_classes.float(), chance)


def _einsum(equation: str, *operands: Tensor) -> Tensor:
    """:func:`torch.einsum` in the operands' own precision, which autocast would lower: sums over pixels overflow it."""
    with torch.autocast(operands[0].device.type, enabled=False):
        return torch.einsum(equation, *operands)


def _info_nce_terms(positive: Tensor, negative: Tensor, temperature: float) -> Tensor:
    """(...) from similarities to the positive (...) and to the negatives (..., N)."""
    logits = torch.cat([positive[..., None], negative], dim=-1) / temperature
    return logits.logsumexp(dim=-1) - logits[..., 0]


def _class_means(rep: Tensor, mask_BKhw: Tensor) -> Tensor:
    """(K, D): mean of ``rep`` (B, D, h, w) over each class's pixels, of all processes; zero for an empty class."""
    mask = mask_BKhw.to(rep)
    sums = global_sum(_einsum('bkhw,bdhw->kd', mask, rep))
    return sums / global_sum(mask.sum(dim=(0, 2, 3))).clamp(min=1)[:, None]


def _collect_keys(rep: Tensor, mask_BKhw: Tensor, limit: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Keys (n, D) and classes (n,) of the masked pixels of all processes, at most ``limit`` of each class.

    A picture of 128 x 128 positions has more candidates than a bank holds. Pushing all of them would leave those of
    the last picture; a random choice among all pictures is pushed instead, in raster order.
    """
    classes, picture, row, column = mask_BKhw.transpose(0, 1).nonzero(as_tuple=True)
    if world_size() > 1:
        # Never send more than the bank can hold.
        kept = _at_most(classes, limit, torch.Generator().manual_seed(generator.initial_seed() + 1 + rank()))
        classes, picture, row, column = (index[kept] for index in (classes, picture, row, column))
        keys, classes = gather(rep[picture, :, row, column]), gather(classes)
        order = classes.argsort(stable=True)  # by class, then by process and raster: as one process would have them
        keys, classes = keys[order], classes[order]
        kept = _at_most(classes, limit, generator)
        return keys[kept], classes[kept]
    kept = _at_most(classes, limit, generator)
    return rep[picture[kept], :, row[kept], column[kept]], classes[kept]


def _at_most(classes: Tensor, limit: int, generator: torch.Generator) -> Tensor:
    """Indices, ascending, of a random choice of at most ``limit`` entries of each class; ``classes`` (n,) ascending."""
    priority = torch.rand(len(classes), generator=generator, dtype=torch.float64).to(classes.device)
    order = (classes + priority).argsort()
    sizes = torch.bincount(classes, minlength=1)
    start = sizes.cumsum(0) - sizes
    position = torch.arange(len(classes), device=classes.device) - start[classes]
    return order[position < limit].sort().values


def _draw_queries(mask_BKhw: Tensor, num_queries: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Draw pixels of each class from the candidates of all processes, with replacement.

    Returns:
        tuple[Tensor, Tensor, Tensor]: (K, P) int64 index into the pixels (B h w) of this process; (K, P) bool, whether
        the drawn pixel is on this process; (K,) bool, whether the class has candidates anywhere.
    """
    mask_Kn = mask_BKhw.transpose(0, 1).flatten(1)
    running_Kn = mask_Kn.cumsum(dim=1, dtype=torch.int32)
    counts_RK = gather(running_Kn[None, :, -1].long())
    total_K = counts_RK.sum(dim=0)
    before_K = counts_RK[: rank()].sum(dim=0)
    uniform = torch.rand(len(mask_Kn), num_queries, generator=generator, dtype=torch.float64).to(mask_Kn.device)
    drawn_KP = (uniform * total_K[:, None]).long() - before_K[:, None]
    own_KP = (drawn_KP >= 0) & (drawn_KP < counts_RK[rank()][:, None])
    # The j-th candidate is where the running count reaches j + 1.
    pixels_KP = torch.searchsorted(running_Kn, (drawn_KP.clamp(min=0) + 1).int())
    return pixels_KP.clamp(max=mask_Kn.shape[1] - 1), own_KP, total_K > 0
