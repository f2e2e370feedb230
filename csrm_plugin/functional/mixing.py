"""ClassMix (Olsson et al. 2021): paste the pixels of some classes of one picture onto another."""

import torch
from torch import Tensor

from csrm_plugin.utils import IGNORE_INDEX


def class_mix(labels: Tensor, partners: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Choose what each picture's partner pastes onto it: half, rounded up, of the partner's foreground classes.

    Args:
        labels (Tensor): (B, H, W), int64; 0 background, 255 uncertain; neither is ever pasted.
        partners (Tensor): (B,), int64 in 0..B-1. A picture that is its own partner receives nothing.
        generator (torch.Generator, optional): On the CPU; draws the classes.

    Returns:
        Tensor: (B, H, W), bool: where the pixel is to be taken from the partner.

    Example:
        >>> labels = torch.tensor([[[0, 1, 1]], [[2, 0, 255]]])
        >>> class_mix(labels, partners=torch.tensor([1, 0]))[:, 0]
        tensor([[ True, False, False],
                [False,  True,  True]])
    """
    partners = partners.to(labels.device)
    present = _classes_in(labels)[partners]
    # A random order of the present classes: absent ones get scores behind all of them.
    scores = torch.rand(present.shape, generator=generator, device=generator.device if generator else 'cpu')
    scores = scores.to(labels.device) + (~present) * 2
    ranks = scores.argsort(dim=1).argsort(dim=1)
    chosen = present & (ranks < (present.sum(dim=1, keepdim=True) + 1) // 2)
    chosen &= (partners != torch.arange(len(labels), device=labels.device))[:, None]
    partner_labels = labels[partners]
    return chosen.gather(1, partner_labels.flatten(1)).view_as(labels)


def drop_small_classes(labels: Tensor, min_area: float) -> Tensor:
    """Mark foreground classes that cover less than a share of their picture as uncertain.

    Args:
        labels (Tensor): (B, H, W), int64; 0 background, 255 uncertain.
        min_area (float): In 0..1; 0 keeps every class.

    Returns:
        Tensor: (B, H, W), int64.

    Example:
        >>> drop_small_classes(torch.tensor([[[1, 2, 2, 2]]]), min_area=0.5)
        tensor([[[255,   2,   2,   2]]])
    """
    if min_area <= 0:
        return labels
    flat = labels.flatten(1)
    counts = torch.zeros(len(labels), 256, device=labels.device).scatter_add_(1, flat, torch.ones_like(flat).float())
    small = (counts < min_area * flat.shape[1]).gather(1, flat) & (flat != 0)
    return torch.where(small, torch.full_like(flat, IGNORE_INDEX), flat).view_as(labels)


def pasted_classes(labels: Tensor, partners: Tensor, paste: Tensor, num_classes: int) -> Tensor:
    """Image-level labels of what ``paste`` brings along.

    Args:
        labels (Tensor): (B, H, W), int64, before mixing.
        partners (Tensor): (B,), int64.
        paste (Tensor): (B, H, W), bool, from :func:`class_mix`.
        num_classes (int): Number C of classes without background.

    Returns:
        Tensor: (B, C), bool.

    Example:
        >>> labels, partners = torch.tensor([[[0, 1, 1]], [[2, 0, 255]]]), torch.tensor([1, 0])
        >>> pasted_classes(labels, partners, class_mix(labels, partners), num_classes=2)
        tensor([[False,  True],
                [ True, False]])
    """
    pasted = torch.where(paste, labels[partners.to(labels.device)], torch.zeros_like(labels))
    return _classes_in(pasted)[:, 1 : num_classes + 1]


def mix(values: Tensor, partners: Tensor, paste: Tensor) -> Tensor:
    """Take the pixels in ``paste`` from the partner; ``paste`` is resized with nearest neighbours where sizes differ.

    Args:
        values (Tensor): (B, H, W) or (B, X, H, W), any dtype.
        partners (Tensor): (B,), int64.
        paste (Tensor): (B, H', W'), bool.

    Returns:
        Tensor: Same shape as ``values``.

    Example:
        >>> values = torch.tensor([[[1, 1]], [[2, 2]]])
        >>> paste = torch.tensor([[[True, False]], [[False, False]]])
        >>> mix(values, torch.tensor([1, 0]), paste)[:, 0]
        tensor([[2, 1],
                [2, 2]])
    """
    size = values.shape[-2:]
    if paste.shape[-2:] != size:
        paste = torch.nn.functional.interpolate(paste[:, None].float(), size, mode='nearest')[:, 0] > 0
    if values.ndim == 4:
        paste = paste[:, None]
    return torch.where(paste, values[partners.to(values.device)], values)


def _classes_in(labels: Tensor) -> Tensor:
    """(B, 256) bool: which foreground classes occur in each (H, W) map."""
    found = torch.zeros(len(labels), 256, dtype=torch.bool, device=labels.device)
    found.scatter_(1, labels.flatten(1), True)
    found[:, 0] = found[:, IGNORE_INDEX] = False
    return found
