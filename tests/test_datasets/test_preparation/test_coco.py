import builtins
import json
import os

import numpy as np
import pytest
from mmseg.registry import DATASETS
from PIL import Image

from csrm_plugin.datasets.preparation import check_data, prepare_coco
from csrm_plugin.datasets.preparation.common import read_mask
from csrm_plugin.utils import MissingFileError, UserError

pytest.importorskip('pycocotools', reason='painting COCO masks needs pycocotools')


def box(left, top, right, bottom):
    return [[left, top, right, top, right, bottom, left, bottom]]


def runs(mask):
    """Uncompressed run lengths, column by column, beginning with zeros."""
    counts, value, length = [], 0, 0
    for pixel in np.asarray(mask).T.ravel():
        if pixel != value:
            counts.append(length)
            value, length = pixel, 0
        length += 1
    return dict(size=list(np.shape(mask)), counts=[*counts, length])


@pytest.fixture
def coco(tmp_path):
    """Three pictures of 6x4: instances and a crowd, one small instance on a large one, nothing."""
    crowd = np.zeros((4, 6), dtype=int)
    crowd[:, 3:] = 1
    content = dict(
        categories=[dict(id=7, name='train'), dict(id=1, name='person'), dict(id=90, name='toothbrush')],
        images=[
            dict(id=index, file_name=f'COCO_train2014_{index:012d}.jpg', width=6, height=4) for index in (5, 9, 12)
        ],
        annotations=[
            dict(id=1, image_id=5, category_id=90, iscrowd=0, segmentation=box(0, 0, 4, 2)),
            dict(id=2, image_id=5, category_id=1, iscrowd=1, segmentation=runs(crowd)),
            # The small instance comes first in the file and must stay visible all the same.
            dict(id=3, image_id=9, category_id=7, iscrowd=0, segmentation=box(1, 1, 3, 2)),
            dict(id=4, image_id=9, category_id=1, iscrowd=0, segmentation=box(0, 0, 6, 3)),
        ],
    )
    images = tmp_path / 'train2014'
    images.mkdir()
    for image in content['images']:
        Image.new('RGB', (6, 4)).save(images / image['file_name'])
    annotations = tmp_path / 'instances.json'
    annotations.write_text(json.dumps(content))
    return dict(annotations=str(annotations), images=str(images), root=str(tmp_path / 'coco14'), split='train')


def mask_of(coco, index):
    return read_mask(os.path.join(coco['root'], 'SegmentationClass', f'COCO_train2014_{index:012d}.png')).tolist()


def test_conversion(coco):
    made = prepare_coco(**coco)
    assert made['classes'] == ['person', 'train', 'toothbrush'] and made['left_out'] == 1
    first, second = 'COCO_train2014_000000000005', 'COCO_train2014_000000000009'
    assert made['labels'] == {first: {'person', 'toothbrush'}, second: {'person', 'train'}}
    # The crowd covers 12 pixels, the brush 8, so the brush lies on top.
    assert mask_of(coco, 5) == [[3, 3, 3, 3, 1, 1], [3, 3, 3, 3, 1, 1], [0, 0, 0, 1, 1, 1], [0, 0, 0, 1, 1, 1]]
    assert mask_of(coco, 9) == [[1] * 6, [1, 2, 2, 1, 1, 1], [1] * 6, [0] * 6]
    with open(os.path.join(coco['root'], 'ImageSets/Segmentation/train.txt')) as file:
        assert file.read().split() == [first, second]
    with open(os.path.join(coco['root'], 'image_labels_train.json')) as file:
        assert json.load(file)['labels'] == {first: ['person', 'toothbrush'], second: ['person', 'train']}
    assert check_data(coco['root']).ok
    dataset = DATASETS.build(
        dict(type='ImageLabelDataset', data_root=coco['root'], ann_file='ImageSets/Segmentation/train.txt')
    )
    assert dataset[0]['image_labels'].tolist() == [1, 0, 1]


def test_crowd_as_ignored(coco):
    made = prepare_coco(**coco, crowd='ignore')
    assert made['labels']['COCO_train2014_000000000005'] == {'toothbrush'}
    ignored = [3, 3, 3, 3, 255, 255]
    assert mask_of(coco, 5) == [ignored, ignored, [0, 0, 0, 255, 255, 255], [0, 0, 0, 255, 255, 255]]


def test_ignored_crowd_never_hides_an_instance(coco):
    with open(coco['annotations']) as file:
        content = json.load(file)
    content['annotations'][0]['segmentation'] = box(0, 0, 6, 4)
    with open(coco['annotations'], 'w') as file:
        json.dump(content, file)
    prepare_coco(**coco, crowd='ignore')
    assert mask_of(coco, 5) == [[3] * 6] * 4


def test_crowd_left_out(coco):
    prepare_coco(**coco, crowd='skip')
    assert mask_of(coco, 5) == [[3, 3, 3, 3, 0, 0]] * 2 + [[0] * 6] * 2


@pytest.mark.parametrize(('link', 'is_link'), [('symlink', True), ('hardlink', False), ('copy', False)])
def test_pictures_and_unlabelled_ones(coco, link, is_link):
    made = prepare_coco(**coco, link=link, keep_unlabelled=True)
    assert made['left_out'] == 0 and made['labels']['COCO_train2014_000000000012'] == set()
    path = os.path.join(coco['root'], 'JPEGImages', 'COCO_train2014_000000000005.jpg')
    assert os.path.islink(path) == is_link
    assert Image.open(path).size == (6, 4)
    assert mask_of(coco, 12) == [[0] * 6] * 4


def test_links_inside_the_root_survive_a_move(coco, tmp_path):
    coco['root'] = str(tmp_path)
    prepare_coco(**coco)
    os.rename(tmp_path, f'{tmp_path}_moved')
    assert check_data(f'{tmp_path}_moved').ok
    os.rename(f'{tmp_path}_moved', tmp_path)


def test_files_are_not_overwritten_unasked(coco):
    prepare_coco(**coco)
    with pytest.raises(UserError, match=r'image_labels_train\.json exists already: give --overwrite'):
        prepare_coco(**coco)
    prepare_coco(**coco, overwrite=True)


def test_labels_need_no_pycocotools(coco, monkeypatch):
    def refuse(name, *args, **kwargs):
        if name.startswith('pycocotools'):
            raise ImportError(name)
        return original(name, *args, **kwargs)

    original = builtins.__import__
    monkeypatch.setattr(builtins, '__import__', refuse)
    with pytest.raises(UserError, match=r'pip install pycocotools.*--no-masks'):
        prepare_coco(**coco)
    assert len(prepare_coco(**coco, with_masks=False)['labels']) == 2


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda content: content.pop('categories'), "no list 'categories'"),
        (lambda content: content['annotations'][0].update(category_id=4), 'annotation 1 has the unknown category_id 4'),
        (lambda content: content['annotations'][0].update(image_id=4), 'annotation 1 has the unknown image_id 4'),
        (lambda content: content['annotations'].clear(), 'no picture with objects'),
    ],
)
def test_bad_annotations(coco, change, message):
    with open(coco['annotations']) as file:
        content = json.load(file)
    change(content)
    with open(coco['annotations'], 'w') as file:
        json.dump(content, file)
    with pytest.raises(UserError, match=message):
        prepare_coco(**coco)


def test_missing_things(coco):
    with pytest.raises(MissingFileError, match='--images'):
        prepare_coco(**dict(coco, images='gone'))
    with pytest.raises(MissingFileError, match='--annotations'):
        prepare_coco(**dict(coco, annotations='gone.json'))
    with pytest.raises(UserError, match='`crowd` must be one of'):
        prepare_coco(**coco, crowd='keep')
