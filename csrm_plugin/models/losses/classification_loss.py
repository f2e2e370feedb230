"""Multi-label classification loss."""

import torch
import torch.nn.functional as F
from mmseg.registry import MODELS
from torch import Tensor, nn

from csrm_plugin.utils import UserError


@MODELS.register_module()
class MultiLabelSoftMarginLoss(nn.Module):
    """Multi-label soft margin, the mean over classes and pictures: ``loss_c``, Eq. 5 of CSRM (VISAPP 2025).

    Args:
        label_smoothing (float): In 0..1: labels become ``y * (1 - s) + s / 2``. The paper has none, the released code
            of CSRM 0.1.
        loss_weight (float): Factor of the loss.
    """

    def __init__(self, label_smoothing: float = 0.0, loss_weight: float = 1.0) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise UserError(f'`label_smoothing` must be in 0..1, but is {label_smoothing}.')
        self.label_smoothing = label_smoothing
        self.loss_weight = loss_weight

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Scalar loss of logits (B, C), float, and labels (B, C), 0/1."""
        labels = labels.to(logits) * (1 - self.label_smoothing) + self.label_smoothing / 2
        return self.loss_weight * F.multilabel_soft_margin_loss(logits, labels)

    def chance(self, frequencies: Tensor) -> float:
        """Loss of the best constant prediction: that of a classifier which has learnt how often classes occur, no more.

        Args:
            frequencies (Tensor): (C,), float, in 0..1: share of the pictures that have each class.

        Returns:
            float: The entropy of the labels after smoothing, in nats, mean over the classes, times ``loss_weight``.
        """
        smooth = frequencies.double() * (1 - self.label_smoothing) + self.label_smoothing / 2
        return self.loss_weight * float((torch.special.entr(smooth) + torch.special.entr(1 - smooth)).mean())
