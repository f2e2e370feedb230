"""Masked means whose denominators count the pixels of all processes."""

import torch
import torch.nn.functional as F
from torch import Tensor

from csrm_plugin.functional.collectives import global_sum, world_size
from csrm_plugin.utils import IGNORE_INDEX


def full_precision(values: Tensor) -> Tensor:
    """``values`` in float32; float64 stays float64, so that gradients can be checked numerically."""
    return values if values.dtype == torch.float64 else values.float()


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of ``values`` where ``mask`` holds, over the pixels of all processes; 0 where no pixel is kept.

    Each process returns its own share times the number of processes, so that the average over processes, which
    DistributedDataParallel takes of the gradients, is the mean over the global batch.

    Args:
        values (Tensor): Any shape, float.
        mask (Tensor): Same shape, bool.

    Returns:
        Tensor: Scalar.

    Example:
        >>> masked_mean(torch.tensor([1.0, 2.0, 9.0]), torch.tensor([True, True, False]))
        tensor(1.5000)
    """
    total = torch.where(mask, values, values.new_zeros(())).sum()
    count = global_sum(mask.sum(dtype=values.dtype))
    return total * world_size() / count.clamp(min=1)


def fraction(mask: Tensor, valid: Tensor | None = None) -> Tensor:
    """Share of the ``valid`` pixels of all processes where ``mask`` holds, in 0..1, without gradient.

    Example:
        >>> fraction(torch.tensor([True, False, True]), valid=torch.tensor([True, True, False]))
        tensor(0.5000)
    """
    if valid is None:
        valid = torch.ones_like(mask)
    counts = global_sum(torch.stack([(mask & valid).sum(), valid.sum()]).float())
    return counts[0] / counts[1].clamp(min=1)


def pixel_cross_entropy(logits: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """Cross-entropy averaged over the pixels in ``mask``, of all processes.

    Args:
        logits (Tensor): (B, K, H, W), float.
        labels (Tensor): (B, H, W), int64, 0..K-1 inside the mask; anything outside it.
        mask (Tensor): (B, H, W), bool.

    Returns:
        Tensor: Scalar, in nats; 0 (with a gradient of 0) where the mask is empty.

    Example:
        >>> logits = torch.zeros(1, 2, 1, 2)
        >>> pixel_cross_entropy(logits, torch.tensor([[[0, 255]]]), mask=torch.tensor([[[True, False]]]))  # log 2
        tensor(0.6931)
    """
    labels = torch.where(mask, labels, torch.full_like(labels, IGNORE_INDEX))
    # Pixels as rows: torch's loss over maps has no deterministic backward pass on CUDA.
    rows = full_precision(logits.permute(0, 2, 3, 1).flatten(0, 2))
    values = F.cross_entropy(rows, labels.flatten(), ignore_index=IGNORE_INDEX, reduction='none')
    return masked_mean(values, mask.flatten())
