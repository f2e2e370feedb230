"""The two consistency losses between teacher and student."""

import torch
import torch.nn.functional as F
from torch import Tensor

from csrm_plugin.functional.reduction import full_precision, pixel_cross_entropy
from csrm_plugin.functional.reliability import entropy as pixel_entropy
from csrm_plugin.functional.reliability import reliable_pixels


def confident_pixels(teacher_probs: Tensor, threshold: float, valid: Tensor | None = None) -> Tensor:
    """Where the teacher's highest probability is above ``threshold``: Eq. 8 of CSRM (VISAPP 2025).

    Args:
        teacher_probs (Tensor): (B, K, H, W), float, in 0..1.
        threshold (float): sigma_s2c, in 0..1.
        valid (Tensor, optional): (B, H, W), bool, False at padding.

    Returns:
        Tensor: (B, H, W), bool.

    Example:
        >>> probs = torch.tensor([[[[0.9, 0.6]], [[0.1, 0.4]]]])
        >>> confident_pixels(probs, threshold=0.8)
        tensor([[[ True, False]]])
    """
    confident = teacher_probs.amax(dim=1) > threshold
    return confident if valid is None else confident & valid


def activation_consistency_loss(
    cam_logits: Tensor,
    bg_logits: Tensor,
    teacher_probs: Tensor,
    threshold: float,
    align_corners: bool = False,
    valid: Tensor | None = None,
) -> Tensor:
    """Supervise the student's CAM with the teacher's segmentation: Eq. 8 and 9 of CSRM (VISAPP 2025).

    Cross-entropy of [background logit | upscaled CAM] against the teacher's argmax, over the pixels where the
    teacher's probability exceeds ``threshold``. No gradient reaches the background logit or the teacher.

    Args:
        cam_logits (Tensor): (B, C, h, w), float: the student's CAM before ReLU.
        bg_logits (Tensor): (B, H, W), float: the background map of the student's segmentation, before softmax.
        teacher_probs (Tensor): (B, C + 1, H, W), float, in 0..1, background first.
        threshold (float): sigma_s2c, in 0..1.
        align_corners (bool): For upscaling the CAM to (H, W).
        valid (Tensor, optional): (B, H, W), bool, False at padding.

    Returns:
        Tensor: Scalar, in nats; 0 where no pixel is confident enough.

    Example:
        >>> teacher_probs = torch.tensor([0.1, 0.9]).view(1, 2, 1, 1)
        >>> cam_logits, bg_logits = torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1)
        >>> activation_consistency_loss(cam_logits, bg_logits, teacher_probs, threshold=0.5)  # log 2
        tensor(0.6931)
    """
    teacher_probs = teacher_probs.detach()
    cam = F.interpolate(full_precision(cam_logits), bg_logits.shape[1:], mode='bilinear', align_corners=align_corners)
    logits = torch.cat([bg_logits.detach().to(cam)[:, None], cam], dim=1)
    kept = confident_pixels(teacher_probs, threshold, valid)
    return pixel_cross_entropy(logits, teacher_probs.argmax(dim=1), kept)


def segmentation_consistency_loss(
    student_logits: Tensor,
    teacher_probs: Tensor,
    alpha: float,
    entropy: Tensor | None = None,
    valid: Tensor | None = None,
) -> Tensor:
    """Weak-to-strong consistency on the reliable pixels: Eq. 11 and 12 of CSRM (VISAPP 2025).

    Args:
        student_logits (Tensor): (B, K, H, W), float, before softmax.
        teacher_probs (Tensor): (B, K, H, W), float, in 0..1. Their argmax is the target.
        alpha (float): Share of the pixels, those of highest entropy, that is left out, in 0..1.
        entropy (Tensor, optional): (B, H, W), float, in nats; by default the entropy of ``teacher_probs``.
        valid (Tensor, optional): (B, H, W), bool, False at padding.

    Returns:
        Tensor: Scalar, in nats: the mean over the kept pixels. (The released code has an extra factor of all pixels
        over kept pixels.)

    Example:
        >>> teacher_probs = torch.tensor([[[[0.9, 0.5]], [[0.1, 0.5]]]])  # the second pixel is left out
        >>> student_logits = torch.tensor([[[[0.0, 9.0]], [[0.0, 0.0]]]])
        >>> segmentation_consistency_loss(student_logits, teacher_probs, alpha=0.5)  # log 2
        tensor(0.6931)
    """
    teacher_probs = teacher_probs.detach()
    if entropy is None:
        entropy = pixel_entropy(teacher_probs)
    kept = reliable_pixels(entropy.detach(), alpha, valid)
    return pixel_cross_entropy(student_logits, teacher_probs.argmax(dim=1), kept)
