"""Which pixels of the teacher's prediction are reliable."""

import torch
from torch import Tensor

from csrm_plugin.functional.collectives import gather
from csrm_plugin.functional.reduction import full_precision
from csrm_plugin.utils import UserError


def entropy(probs: Tensor) -> Tensor:
    """Entropy of each pixel's class distribution in nats: Eq. 10 of CSRM (VISAPP 2025).

    Args:
        probs (Tensor): (B, K, H, W), float, in 0..1, summing to one over K.

    Returns:
        Tensor: (B, H, W), float32 (float64 for float64), in 0..log(K); a probability of zero counts zero.

    Example:
        >>> entropy(torch.tensor([[[[0.5, 0.9]], [[0.5, 0.1]]]]))  # log 2, and little
        tensor([[[0.6931, 0.3251]]])
    """
    probs = full_precision(probs)
    return -torch.xlogy(probs, probs).sum(dim=1)


def quantiles(values: Tensor, fractions: list[float]) -> Tensor:
    """Quantiles over the values of all processes, with linear interpolation.

    Equal to :func:`torch.quantile`, which refuses more than 2^24 elements and half precision.

    Args:
        values (Tensor): (n,), float; ``n`` may differ between processes.
        fractions (list[float]): In 0..1.

    Returns:
        Tensor: (len(fractions),), float32 (float64 for float64). NaN if there is no value at all.

    Example:
        >>> quantiles(torch.tensor([3.0, 0.0, 2.0, 1.0]), [0.5, 1.0])
        tensor([1.5000, 3.0000])
    """
    values = gather(full_precision(values)).sort().values
    if len(values) == 0:
        return values.new_full((len(fractions),), torch.nan)
    # In float64: a float32 cannot tell neighbours among millions of pixels apart.
    positions = torch.tensor(fractions, dtype=torch.float64, device=values.device) * (len(values) - 1)
    lower = positions.floor().long()
    upper = (lower + 1).clamp(max=len(values) - 1)
    return torch.lerp(values[lower], values[upper], (positions - lower).to(values))


def reliable_pixels(pixel_entropy: Tensor, alpha: float, valid: Tensor | None = None) -> Tensor:
    """Drop the share ``alpha`` of the pixels with the highest entropy: Eq. 11 of CSRM (VISAPP 2025).

    Args:
        pixel_entropy (Tensor): (B, H, W), float, in nats.
        alpha (float): Share that is dropped, in 0..1, of the valid pixels of the batch on all processes.
        valid (Tensor, optional): (B, H, W), bool, False at padding.

    Returns:
        Tensor: (B, H, W), bool: entropy at or below the (1 - ``alpha``) quantile.

    Example:
        >>> reliable_pixels(torch.tensor([[[0.1, 0.4, 0.2, 0.3]]]), alpha=0.5)
        tensor([[[ True, False,  True, False]]])
    """
    check_alpha(alpha)
    if valid is None:
        valid = torch.ones_like(pixel_entropy, dtype=torch.bool)
    (threshold,) = quantiles(pixel_entropy[valid], [1 - alpha])
    return (full_precision(pixel_entropy) <= threshold) & valid


def split_by_entropy(pixel_entropy: Tensor, alpha: float, valid: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The low- and the high-entropy group of the contrastive term (Section 3.2.5 of CSRM, VISAPP 2025).

    Args:
        pixel_entropy (Tensor): (B, H, W), float, in nats.
        alpha (float): In 0..1.
        valid (Tensor, optional): (B, H, W), bool, False at padding.

    Returns:
        tuple[Tensor, Tensor]: Two (B, H, W) bool masks: entropy below the ``alpha`` quantile, and at or above the
        (1 - ``alpha``) quantile, both over the valid pixels of the batch on all processes.

    Example:
        >>> split_by_entropy(torch.tensor([[[0.1, 0.4, 0.2, 0.3]]]), alpha=0.25)
        (tensor([[[ True, False, False, False]]]), tensor([[[False,  True, False, False]]]))
    """
    check_alpha(alpha)
    if valid is None:
        valid = torch.ones_like(pixel_entropy, dtype=torch.bool)
    low, high = quantiles(pixel_entropy[valid], [alpha, 1 - alpha])
    pixel_entropy = full_precision(pixel_entropy)
    return (pixel_entropy < low) & valid, (pixel_entropy >= high) & valid


def restrict_probs(probs: Tensor, labels: Tensor) -> Tensor:
    """Keep background and the picture's own classes, and let them sum to one again.

    Args:
        probs (Tensor): (B, K, H, W), float, in 0..1; class 0 is the background.
        labels (Tensor): (B, K - 1), 0/1.

    Returns:
        Tensor: (B, K, H, W), float32 (float64 for float64); zero for absent classes.

    Example:
        >>> restrict_probs(torch.tensor([0.5, 0.25, 0.25]).view(1, 3, 1, 1), labels=torch.tensor([[1, 0]])).flatten()
        tensor([0.6667, 0.3333, 0.0000])
    """
    present = torch.cat([torch.ones_like(labels[:, :1]), labels], dim=1).to(probs.device) > 0
    probs = full_precision(probs) * present[:, :, None, None]
    return probs / probs.sum(dim=1, keepdim=True).clamp(min=torch.finfo(probs.dtype).tiny)


def check_alpha(alpha: float) -> None:
    """Raise ``UserError`` unless ``alpha`` is in 0..1.

    Example:
        >>> check_alpha(0.2)
        >>> check_alpha(20)
        Traceback (most recent call last):
            ...
        csrm_plugin.utils.errors.UserError: `alpha` is a share of the pixels, in 0..1, but is 20.
    """
    if not 0 <= alpha <= 1:
        raise UserError(f'`alpha` is a share of the pixels, in 0..1, but is {alpha}.')
