"""Public data sets with their class names. What they do is in :class:`ImageLabelDataset`."""

from collections.abc import Sequence

from mmseg.datasets import PascalVOCDataset
from mmseg.registry import DATASETS

from csrm_plugin.datasets.image_label_dataset import ImageLabelDataset
from csrm_plugin.datasets.voc_layout import BACKGROUND, voc_palette

COCO_CLASSES = (
    'person',
    'bicycle',
    'car',
    'motorcycle',
    'airplane',
    'bus',
    'train',
    'truck',
    'boat',
    'traffic light',
    'fire hydrant',
    'stop sign',
    'parking meter',
    'bench',
    'bird',
    'cat',
    'dog',
    'horse',
    'sheep',
    'cow',
    'elephant',
    'bear',
    'zebra',
    'giraffe',
    'backpack',
    'umbrella',
    'handbag',
    'tie',
    'suitcase',
    'frisbee',
    'skis',
    'snowboard',
    'sports ball',
    'kite',
    'baseball bat',
    'baseball glove',
    'skateboard',
    'surfboard',
    'tennis racket',
    'bottle',
    'wine glass',
    'cup',
    'fork',
    'knife',
    'spoon',
    'bowl',
    'banana',
    'apple',
    'sandwich',
    'orange',
    'broccoli',
    'carrot',
    'hot dog',
    'pizza',
    'donut',
    'cake',
    'chair',
    'couch',
    'potted plant',
    'bed',
    'dining table',
    'toilet',
    'tv',
    'laptop',
    'mouse',
    'remote',
    'keyboard',
    'cell phone',
    'microwave',
    'oven',
    'toaster',
    'sink',
    'refrigerator',
    'book',
    'clock',
    'vase',
    'scissors',
    'teddy bear',
    'hair drier',
    'toothbrush',
)

MSRC_CLASSES = (
    'aeroplane',
    'bicycle',
    'bird',
    'boat',
    'body',
    'book',
    'car',
    'cat',
    'chair',
    'cow',
    'dog',
    'face',
    'flower',
    'sheep',
    'sign',
)

#: The six classes of VOC 2012 that the small set keeps.
VOC_ANIMALS_CLASSES = ('cat', 'cow', 'dog', 'horse', 'person', 'sheep')


def _metainfo(image_classes: Sequence[str]) -> dict:
    return dict(classes=(BACKGROUND, *image_classes), palette=voc_palette(len(image_classes) + 1))


@DATASETS.register_module()
class VOC12WSSSDataset(ImageLabelDataset):
    """PASCAL VOC 2012: background and 20 classes; splits train, train_aug, val, test."""

    METAINFO = dict(classes=PascalVOCDataset.METAINFO['classes'], palette=PascalVOCDataset.METAINFO['palette'])
    ROOT_VARIABLE = 'VOC_ROOT'
    LABEL_SOURCE = 'voc-xml'


@DATASETS.register_module()
class COCO14WSSSDataset(ImageLabelDataset):
    """COCO 2014 as ``prepare_data coco-json`` lays it out: background and 80 classes; splits train and val."""

    METAINFO = _metainfo(COCO_CLASSES)
    ROOT_VARIABLE = 'COCO_ROOT'
    LABEL_SOURCE = 'coco-json'


@DATASETS.register_module()
class MSRCDataset(ImageLabelDataset):
    """MSRC v2 in VOC layout: background (with all stuff) and 15 object classes."""

    METAINFO = _metainfo(MSRC_CLASSES)
    ROOT_VARIABLE = 'MSRC_ROOT'
    LABEL_SOURCE = 'masks --classes msrc'


@DATASETS.register_module()
class VOCAnimalsDataset(ImageLabelDataset):
    """Pictures of VOC 2012 that show a cat, cow, dog, horse, person or sheep, in VOC layout; all else is 255."""

    METAINFO = _metainfo(VOC_ANIMALS_CLASSES)
    ROOT_VARIABLE = 'VOC_ANIMALS_ROOT'
    LABEL_SOURCE = 'masks --classes voc_animals'
