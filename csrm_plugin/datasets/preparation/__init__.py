from .check import Report, check_data
from .coco import prepare_coco
from .common import resolve_classes, resolve_splits, write_labels, write_split_labels
from .csv_labels import labels_from_csv
from .masks import labels_from_masks
from .voc_xml import labels_from_voc_xml

__all__ = [
    'Report',
    'check_data',
    'labels_from_csv',
    'labels_from_masks',
    'labels_from_voc_xml',
    'prepare_coco',
    'resolve_classes',
    'resolve_splits',
    'write_labels',
    'write_split_labels',
]
