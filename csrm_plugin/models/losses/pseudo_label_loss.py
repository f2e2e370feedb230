"""Cross-entropy against pseudo labels."""

from mmseg.registry import MODELS
from torch import Tensor, nn

from csrm_plugin.functional import IGNORE_INDEX, pixel_cross_entropy


@MODELS.register_module()
class PseudoLabelLoss(nn.Module):
    """Cross-entropy over the pixels whose pseudo label is certain: ``loss_s``, Eq. 7 of CSRM (VISAPP 2025).

    Args:
        loss_weight (float): Factor of the loss.
    """

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, logits: Tensor, pseudo_labels: Tensor) -> Tensor:
        """Scalar loss of logits (B, K, H, W), float, and labels (B, H, W), int64, 0..K-1, 255 uncertain."""
        return self.loss_weight * pixel_cross_entropy(logits, pseudo_labels, pseudo_labels != IGNORE_INDEX)
