from .classification_loss import MultiLabelSoftMarginLoss
from .consistency_loss import ActivationConsistencyLoss, SegmentationConsistencyLoss
from .mutual_losses import FeatureMutualLoss, InstanceMutualLoss, PixelMutualLoss
from .pixel_contrast_loss import PixelContrastLoss
from .pseudo_label_loss import PseudoLabelLoss

__all__ = [
    'ActivationConsistencyLoss',
    'FeatureMutualLoss',
    'InstanceMutualLoss',
    'MultiLabelSoftMarginLoss',
    'PixelContrastLoss',
    'PixelMutualLoss',
    'PseudoLabelLoss',
    'SegmentationConsistencyLoss',
]
