"""Pictures with image-level labels: data sets, their preparation and checks, transforms."""

from csrm_plugin.datasets.image_label_dataset import ImageLabelDataset
from csrm_plugin.datasets.named_datasets import (
    COCO14WSSSDataset,
    MSRCDataset,
    VOC12WSSSDataset,
    VOCAnimalsDataset,
)
from csrm_plugin.datasets.synthetic_dataset import SyntheticWSSSDataset
from csrm_plugin.datasets.transforms import LoadOptionalAnnotations, LoadPseudoLabels, PackWSSSInputs

__all__ = [
    'COCO14WSSSDataset',
    'ImageLabelDataset',
    'LoadOptionalAnnotations',
    'LoadPseudoLabels',
    'MSRCDataset',
    'PackWSSSInputs',
    'SyntheticWSSSDataset',
    'VOC12WSSSDataset',
    'VOCAnimalsDataset',
]
