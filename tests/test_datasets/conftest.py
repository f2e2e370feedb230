import json
import os

import numpy as np
import pytest
from mmengine.registry import init_default_scope
from PIL import Image


@pytest.fixture(autouse=True)
def _mmseg_scope():
    init_default_scope('mmseg')


class VOCFolder:
    """A tiny folder in VOC layout; pictures are 8 wide and 6 high."""

    def __init__(self, root):
        self.root = str(root)
        for folder in ('JPEGImages', 'SegmentationClass', 'ImageSets/Segmentation'):
            os.makedirs(self.path(folder), exist_ok=True)

    def path(self, *parts):
        return os.path.join(self.root, *parts)

    def add_picture(self, image_id, mask=None, suffix='.jpg', size=(8, 6)):
        Image.new('RGB', size, (90, 120, 30)).save(self.path('JPEGImages', image_id + suffix))
        if mask is not None:
            mask = np.broadcast_to(np.asarray(mask, dtype=np.uint8), size[::-1])
            Image.fromarray(np.ascontiguousarray(mask)).save(self.path('SegmentationClass', f'{image_id}.png'))

    def add_split(self, name, ids, text=None):
        with open(self.path('ImageSets/Segmentation', f'{name}.txt'), 'w', newline='') as file:
            file.write(text if text is not None else ''.join(f'{image_id}\n' for image_id in ids))

    def add_labels(self, name, classes, labels):
        with open(self.path(name), 'w') as file:
            json.dump(dict(classes=classes, labels=labels), file)
        return self.path(name)


@pytest.fixture
def voc_folder(tmp_path):
    """Two classes, splits train (a, b, c) and val (d), image_labels.json for all, masks that agree with it."""
    folder = VOCFolder(tmp_path / 'data')
    for image_id, mask in dict(a=[[1] * 8], b=[[0, 1, 2, 0, 0, 0, 255, 255]], c=[[0]], d=[[2] * 8]).items():
        folder.add_picture(image_id, mask)
    folder.add_split('train', ['a', 'b', 'c'])
    folder.add_split('val', ['d'])
    folder.add_labels('image_labels.json', ['cat', 'dog'], dict(a=['cat'], b=['dog', 'cat'], c=[], d=['dog']))
    return folder
