from .image_label_dataset import ImageLabelDataset
from .named_datasets import COCO14WSSSDataset, MSRCDataset, VOC12WSSSDataset
from .synthetic_dataset import SyntheticWSSSDataset
from .transforms import LoadOptionalAnnotations, PackWSSSInputs

__all__ = [
    'COCO14WSSSDataset',
    'ImageLabelDataset',
    'LoadOptionalAnnotations',
    'MSRCDataset',
    'PackWSSSInputs',
    'SyntheticWSSSDataset',
    'VOC12WSSSDataset',
]
