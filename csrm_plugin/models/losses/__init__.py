"""Losses as modules: options and weights around the equations of :mod:`csrm_plugin.functional`."""

from csrm_plugin.models.losses.classification_loss import MultiLabelSoftMarginLoss
from csrm_plugin.models.losses.consistency_loss import ActivationConsistencyLoss, SegmentationConsistencyLoss
from csrm_plugin.models.losses.mutual_losses import FeatureMutualLoss, InstanceMutualLoss, PixelMutualLoss
from csrm_plugin.models.losses.pixel_contrast_loss import PixelContrastLoss
from csrm_plugin.models.losses.pseudo_label_loss import PseudoLabelLoss

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
