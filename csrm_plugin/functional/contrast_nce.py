"""InfoNCE with cosine similarities: Eq. 13 of CSRM (VISAPP 2025).

Shape letters: G classes, D embedding, P queries per class, N negatives per query.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from csrm_plugin.functional.reduction import full_precision


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
    positive = einsum('gpd,gd->gp', queries, positives)
    negative = einsum('gpd,gpnd->gpn', queries, negatives)
    return info_nce_terms(positive, negative, temperature).mean()


def einsum(equation: str, *operands: Tensor) -> Tensor:
    """:func:`torch.einsum` in the operands' own precision, which autocast would lower: sums over pixels overflow it."""
    with torch.autocast(operands[0].device.type, enabled=False):
        return torch.einsum(equation, *operands)


def info_nce_terms(positive: Tensor, negative: Tensor, temperature: float) -> Tensor:
    """(...) from similarities to the positive (...) and to the negatives (..., N)."""
    logits = torch.cat([positive[..., None], negative], dim=-1) / temperature
    return logits.logsumexp(dim=-1) - logits[..., 0]
