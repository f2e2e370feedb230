"""From XML, JSON, masks or a table to image-level labels, and what is wrong with a data set."""

from csrm_plugin.datasets.preparation.check import Report, check_data
from csrm_plugin.datasets.preparation.coco import prepare_coco
from csrm_plugin.datasets.preparation.common import (
    resolve_classes,
    resolve_splits,
    write_labels,
    write_split_labels,
)
from csrm_plugin.datasets.preparation.csv_labels import labels_from_csv
from csrm_plugin.datasets.preparation.masks import labels_from_masks
from csrm_plugin.datasets.preparation.voc_xml import labels_from_voc_xml

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
