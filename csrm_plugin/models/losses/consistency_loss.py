"""Consistency between teacher and student."""

import torch
from mmseg.registry import MODELS
from torch import Tensor, nn

from csrm_plugin.functional import activation_consistency_loss, relative_cam, segmentation_consistency_loss
from csrm_plugin.utils import UserError


@MODELS.register_module()
class ActivationConsistencyLoss(nn.Module):
    """The student's CAM against the teacher's segmentation: ``loss_s2c``, Eq. 8 and 9 of CSRM (VISAPP 2025).

    As the paper has it, CAMs stand as logits beside the background's, and the term changes their scale: the threshold
    at which they fit best wanders, while ``pseudo_label.fg_threshold`` stays. With ``background`` they are compared as
    the pseudo labels are made, each in units of its own maximum, with a constant: a CAM whose maximum is at least 1 has
    the same loss when it is multiplied by a number above 1. It is no cure: see ``docs/voc_animals.md``.

    Args:
        align_corners (bool): For upscaling the CAM.
        background (float, optional): Score of the background beside CAMs in units of their maximum, in 0..1, such as
            the mean of the two thresholds of ``model.pseudo_label``. None is the paper's: the student's background
            logit beside the CAM as it is.
        temperature (float): What both are divided by where there is a ``background``, above 0.
        loss_weight (float): lambda_s2c.
    """

    def __init__(
        self,
        align_corners: bool = False,
        background: float | None = None,
        temperature: float = 0.1,
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        if background is not None and not 0 <= background <= 1:
            raise UserError(f'`model.loss_s2c.background` is a score in 0..1, or None, but is {background}.')
        if not temperature > 0:
            raise UserError(f'`model.loss_s2c.temperature` must be above 0, but is {temperature}.')
        self.align_corners = align_corners
        self.background, self.temperature = background, temperature
        self.loss_weight = loss_weight

    def forward(
        self, cam: Tensor, bg_logits: Tensor, teacher_probs: Tensor, sigma: float, valid: Tensor, labels: Tensor
    ) -> Tensor:
        """Scalar loss; arguments as in :func:`csrm_plugin.functional.activation_consistency_loss`.

        ``labels`` (B, C), 0/1, are the image-level labels, looked at where there is a ``background``.
        """
        if self.background is not None:
            cam = relative_cam(cam, labels) / self.temperature
            bg_logits = torch.full_like(bg_logits, self.background / self.temperature)
        return self.loss_weight * activation_consistency_loss(
            cam, bg_logits, teacher_probs, sigma, self.align_corners, valid
        )


@MODELS.register_module()
class SegmentationConsistencyLoss(nn.Module):
    """The student's segmentation against the teacher's on reliable pixels: ``loss_u``, Eq. 11, 12 of CSRM.

    Args:
        loss_weight (float): lambda_u.
    """

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, logits: Tensor, teacher_probs: Tensor, alpha: float, entropy: Tensor, valid: Tensor) -> Tensor:
        """Scalar loss; arguments as in :func:`csrm_plugin.functional.segmentation_consistency_loss`."""
        return self.loss_weight * segmentation_consistency_loss(logits, teacher_probs, alpha, entropy, valid)
