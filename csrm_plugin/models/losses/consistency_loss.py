"""Consistency between teacher and student."""

from mmseg.registry import MODELS
from torch import Tensor, nn

from csrm_plugin.functional import activation_consistency_loss, segmentation_consistency_loss


@MODELS.register_module()
class ActivationConsistencyLoss(nn.Module):
    """The student's CAM against the teacher's segmentation: ``loss_s2c``, Eq. 8 and 9 of CSRM (VISAPP 2025).

    Args:
        align_corners (bool): For upscaling the CAM.
        loss_weight (float): lambda_s2c.
    """

    def __init__(self, align_corners: bool = False, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.align_corners = align_corners
        self.loss_weight = loss_weight

    def forward(self, cam: Tensor, bg_logits: Tensor, teacher_probs: Tensor, sigma: float, valid: Tensor) -> Tensor:
        """Scalar loss; arguments as in :func:`csrm_plugin.functional.activation_consistency_loss`."""
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
