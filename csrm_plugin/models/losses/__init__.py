from .classification_loss import MultiLabelSoftMarginLoss
from .consistency_loss import ActivationConsistencyLoss, SegmentationConsistencyLoss
from .pixel_contrast_loss import PixelContrastLoss
from .pseudo_label_loss import PseudoLabelLoss

__all__ = [
    'ActivationConsistencyLoss',
    'MultiLabelSoftMarginLoss',
    'PixelContrastLoss',
    'PseudoLabelLoss',
    'SegmentationConsistencyLoss',
]
