from .image_label_dataset import ImageLabelDataset
from .named_datasets import COCO14WSSSDataset, MSRCDataset, VOC12WSSSDataset
from .synthetic_dataset import SyntheticWSSSDataset
from .transforms import LoadOptionalAnnotations, LoadPseudoLabels, PackWSSSInputs

__all__ = [
    'COCO14WSSSDataset',
    'ImageLabelDataset',
    'LoadOptionalAnnotations',
    'LoadPseudoLabels',
    'MSRCDataset',
    'PackWSSSInputs',
    'SyntheticWSSSDataset',
    'VOC12WSSSDataset',
]
