import json
import logging
import os
import pickle
import shutil

import numpy as np
import pytest
from mmengine.runner import Runner
from mmseg.registry import DATASETS
from PIL import Image

from csrm_plugin.datasets import ImageLabelDataset, image_label_dataset
from csrm_plugin.utils import MissingFileError, UserError
from csrm_plugin.utils.cli import describe_error

TRAIN = 'ImageSets/Segmentation/train.txt'
VAL = 'ImageSets/Segmentation/val.txt'


def build(folder, ann_file=TRAIN, **kwargs):
    return DATASETS.build(dict(type='ImageLabelDataset', data_root=folder.root, ann_file=ann_file, **kwargs))


def labels_of(dataset):
    return {info['img_id']: info['image_labels'].tolist() for info in map(dataset.get_data_info, range(len(dataset)))}


def test_classes_and_labels_come_from_the_label_file(voc_folder):
    dataset = build(voc_folder)
    assert dataset.metainfo['classes'] == ('background', 'cat', 'dog')
    assert dataset.metainfo['palette'] == [[0, 0, 0], [128, 0, 0], [0, 128, 0]]
    assert dataset.image_classes == ('cat', 'dog')
    assert labels_of(dataset) == dict(a=[1, 0], b=[1, 1], c=[0, 0])
    info = dataset.get_data_info(0)
    assert info['img_path'] == voc_folder.path('JPEGImages', 'a.jpg')
    assert info['image_labels'].dtype == 'float32'
    assert info['seg_fields'] == [] and info['label_map'] is None and info['reduce_zero_label'] is False
    assert dataset.get_cat_ids(1) == [0, 1]


def test_changing_ann_file_alone_changes_the_split(voc_folder):
    assert labels_of(build(voc_folder, VAL)) == dict(d=[0, 1])


def test_order_of_label_files(voc_folder):
    everything = dict(a=['cat'], b=['cat'], c=['cat'])
    voc_folder.add_labels('image_labels_train.json', ['cat', 'dog'], everything)
    assert labels_of(build(voc_folder)) == dict(a=[1, 0], b=[1, 0], c=[1, 0])
    explicit = voc_folder.add_labels('mine.json', ['cat', 'dog'], {key: ['dog'] for key in 'abc'})
    for label_file in (explicit, 'mine.json'):
        assert labels_of(build(voc_folder, label_file=label_file)) == dict(a=[0, 1], b=[0, 1], c=[0, 1])
    # The file of the split does not serve another split.
    assert labels_of(build(voc_folder, VAL)) == dict(d=[0, 1])


def test_label_file_relative_to_the_working_directory(voc_folder, tmp_path, monkeypatch):
    voc_folder.add_labels('../elsewhere.json', ['cat', 'dog'], {key: ['dog'] for key in 'abc'})
    monkeypatch.chdir(tmp_path)
    assert labels_of(build(voc_folder, label_file='elsewhere.json'))['a'] == [0, 1]


def test_missing_label_file_names_the_command(voc_folder):
    os.remove(voc_folder.path('image_labels.json'))
    classes = ('background', 'cat', 'dog')
    with pytest.raises(MissingFileError, match=r'prepare_data\.py masks --root .* --splits train'):
        build(voc_folder, metainfo=dict(classes=classes))
    with pytest.raises(MissingFileError, match=r'prepare_data\.py'):
        build(voc_folder)
    with pytest.raises(MissingFileError, match=r'image_labels_val\.json nor image_labels\.json'):
        build(voc_folder, VAL, test_mode=True, metainfo=dict(classes=classes))
    with pytest.raises(MissingFileError, match=r'gone\.json'):
        build(voc_folder, label_file='gone.json')


def test_id_without_label(voc_folder):
    voc_folder.add_labels('image_labels.json', ['cat', 'dog'], dict(a=[], c=[]))
    with pytest.raises(UserError, match=r'1 of 3 ids .*for example b.*prepare_data'):
        build(voc_folder)


def test_classes_that_differ(voc_folder):
    with pytest.raises(UserError, match=r'the data set alone has cow; the file alone has dog'):
        build(voc_folder, metainfo=dict(classes=('background', 'cat', 'cow')))
    with pytest.raises(UserError, match=r'first name of `metainfo\.classes` is the background'):
        build(voc_folder, metainfo=dict(classes=('cat', 'dog')))


def test_order_of_the_names_is_that_of_the_dataset(voc_folder):
    dataset = build(voc_folder, metainfo=dict(classes=('background', 'dog', 'cat')))
    assert labels_of(dataset)['a'] == [0, 1]


def test_missing_things_are_named(voc_folder):
    voc_folder.add_split('train', ['a', 'x', 'y'])
    with pytest.raises(MissingFileError, match=r'2 of 3 pictures .*x\.jpg.*`img_suffix`'):
        build(voc_folder)
    with pytest.raises(MissingFileError, match='the folder has the splits train, val'):
        build(voc_folder, 'ImageSets/Segmentation/test.txt')
    voc_folder.root = voc_folder.path('gone')
    with pytest.raises(MissingFileError, match=r'Data root .*gone does not exist'):
        build(voc_folder)


def test_empty_split(voc_folder):
    voc_folder.add_split('train', [], text='\n')
    with pytest.raises(UserError, match='empty'):
        build(voc_folder)


def test_number_of_unlabelled_pictures_is_logged(voc_folder, monkeypatch):
    messages = []
    monkeypatch.setattr(image_label_dataset, 'print_log', lambda message, **kwargs: messages.append(message))
    build(voc_folder, VAL)
    assert messages == []
    build(voc_folder)
    assert len(messages) == 1 and messages[0].startswith('1 of 3 pictures')


def test_training_names_no_mask_and_needs_no_mask_folder(voc_folder):
    dataset = build(voc_folder)
    assert all('seg_map_path' not in dataset.get_data_info(index) for index in range(len(dataset)))
    shutil.rmtree(voc_folder.path('SegmentationClass'))
    dataset = build(voc_folder)
    assert all('seg_map_path' not in dataset.get_data_info(index) for index in range(len(dataset)))


def test_masks_in_test_mode(voc_folder):
    assert build(voc_folder, VAL, test_mode=True).get_data_info(0)['seg_map_path'] == voc_folder.path(
        'SegmentationClass', 'd.png'
    )
    os.remove(voc_folder.path('SegmentationClass', 'b.png'))
    with pytest.raises(MissingFileError, match=r'1 of 3 masks .*b\.png.*with_masks=False'):
        build(voc_folder, test_mode=True)
    assert 'seg_map_path' not in build(voc_folder, test_mode=True, with_masks=False).get_data_info(0)
    with pytest.raises(MissingFileError, match='1 of 3 masks'):
        build(voc_folder, with_masks=True)


def test_test_split_with_neither_masks_nor_labels_can_be_predicted(voc_folder):
    voc_folder.add_picture('e')
    voc_folder.add_split('test', ['e'])
    info = build(voc_folder, 'ImageSets/Segmentation/test.txt', test_mode=True).get_data_info(0)
    assert 'seg_map_path' not in info and 'image_labels' not in info
    with pytest.raises(UserError, match='1 of 1 ids'):
        build(voc_folder, 'ImageSets/Segmentation/test.txt')
    with pytest.raises(MissingFileError, match='1 of 1 masks'):
        build(voc_folder, 'ImageSets/Segmentation/test.txt', test_mode=True, with_masks=True)


def test_other_suffix_and_no_list(voc_folder):
    voc_folder.add_picture('p', suffix='.png')
    voc_folder.add_labels('image_labels.json', ['cat', 'dog'], dict(p=['dog']))
    assert labels_of(build(voc_folder, ann_file='', img_suffix='.png')) == dict(p=[0, 1])
    with pytest.raises(MissingFileError, match=r'No \*\.bmp'):
        build(voc_folder, ann_file='', img_suffix='.bmp')


def test_lists_with_crlf(voc_folder):
    voc_folder.add_split('train', [], text='a \r\n\r\nc\r\n')
    assert list(labels_of(build(voc_folder))) == ['a', 'c']


def test_pictures_are_listed_once_and_not_looked_up_one_by_one(voc_folder, monkeypatch):
    def exists(path):
        assert not str(path).endswith('.jpg'), 'a picture was looked up'
        return original(path)

    original = os.path.exists
    monkeypatch.setattr(os.path, 'exists', exists)
    monkeypatch.setattr(os.path, 'isfile', exists)
    build(voc_folder)


def test_lazy_init_and_pickle(voc_folder):
    dataset = pickle.loads(pickle.dumps(build(voc_folder, lazy_init=True)))
    assert dataset.metainfo['classes'][1:] == ('cat', 'dog')
    dataset.full_init()
    assert labels_of(pickle.loads(pickle.dumps(dataset))) == dict(a=[1, 0], b=[1, 1], c=[0, 0])


def test_indices(voc_folder):
    assert list(labels_of(build(voc_folder, indices=2))) == ['a', 'b']


def test_epochs_through_worker_processes(voc_folder):
    shutil.rmtree(voc_folder.path('SegmentationClass'))
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='Resize', scale=(16, 12)),
        dict(type='RandomFlip', prob=0.5),
        dict(type='PackWSSSInputs'),
    ]
    loader = Runner.build_dataloader(
        dict(
            batch_size=2,
            num_workers=2,
            persistent_workers=True,
            sampler=dict(type='DefaultSampler', shuffle=True),
            dataset=dict(type='ImageLabelDataset', data_root=voc_folder.root, ann_file=TRAIN, pipeline=pipeline),
        ),
        seed=0,
    )
    for _ in range(2):
        samples = [sample for batch in loader for sample in batch['data_samples']]
        found = {sample.img_id: sample.gt_image_labels.multi_hot.tolist() for sample in samples}
        assert found == dict(a=[1, 0], b=[1, 1], c=[0, 0])
        assert all('gt_sem_seg' not in sample for sample in samples)


def test_subclass_can_be_trained_on_some_of_its_classes(voc_folder):
    class Pets(ImageLabelDataset):
        METAINFO = dict(classes=('background', 'cat', 'dog'))

    dataset = Pets(data_root=voc_folder.root, ann_file=TRAIN, metainfo=dict(classes=('background', 'dog')))
    assert labels_of(dataset) == dict(a=[0], b=[1], c=[0])
    assert dataset.get_data_info(0)['label_map'] == {0: 0, 1: 255, 2: 1}


@pytest.fixture
def label_maps(voc_folder, tmp_path):
    """A folder with a label map for each training picture: none of them is the mask."""
    folder = tmp_path / 'labels'
    folder.mkdir()
    for image_id in 'abc':
        Image.fromarray(np.full((6, 8), 2, dtype=np.uint8)).save(folder / f'{image_id}.png')
    return folder


@pytest.fixture
def lines(monkeypatch):
    """What is logged: pairs of level and text."""
    found = []
    monkeypatch.setattr(
        image_label_dataset,
        'print_log',
        lambda message, logger=None, level=logging.INFO: found.append((level, message)),
    )
    return found


def maps_of(dataset):
    return [info.get('seg_map_path') for info in map(dataset.get_data_info, range(len(dataset)))]


def test_label_maps_take_the_place_of_masks_in_training(voc_folder, label_maps, lines):
    shutil.rmtree(voc_folder.path('SegmentationClass'))
    dataset = build(voc_folder, pseudo_label_dir=str(label_maps))
    assert maps_of(dataset) == [str(label_maps / f'{image_id}.png') for image_id in 'abc']
    info = dataset.get_data_info(0)
    assert info['num_classes'] == 3 and info['label_map'] is None
    assert labels_of(dataset)['a'] == [1, 0]
    assert [level for level, text in lines if str(label_maps) in text] == [logging.INFO]
    assert not any('fully supervised' in text for _, text in lines)
    # In test mode, too: scores against the labels of another model.
    assert maps_of(build(voc_folder, pseudo_label_dir=str(label_maps), test_mode=True)) == maps_of(dataset)


def test_label_maps_need_image_labels_unless_told_otherwise(voc_folder, label_maps):
    os.remove(voc_folder.path('image_labels.json'))
    settings = dict(pseudo_label_dir=str(label_maps), metainfo=dict(classes=('background', 'cat', 'dog')))
    for test_mode in (False, True):
        with pytest.raises(MissingFileError, match='prepare_data'):
            build(voc_folder, test_mode=test_mode, **settings)
    dataset = build(voc_folder, with_labels=False, **settings)
    assert len(maps_of(dataset)) == 3 and 'image_labels' not in dataset.get_data_info(0)


def test_missing_label_maps_are_counted_before_training(voc_folder, label_maps):
    os.remove(label_maps / 'b.png')
    with pytest.raises(MissingFileError, match=r'1 of 3 label maps .*b\.png.*tools/pseudo_labels\.py .*--split train'):
        build(voc_folder, pseudo_label_dir=str(label_maps))
    with pytest.raises(
        MissingFileError, match=r'gone` does not exist.*tools/pseudo_labels\.py CONFIG CHECKPOINT --out'
    ):
        build(voc_folder, pseudo_label_dir=str(label_maps / 'gone'))


@pytest.mark.parametrize('classes', [['background', 'cat', 'cow'], ['background', 'dog', 'cat'], ['cat', 'dog']])
def test_label_maps_of_other_classes_are_refused(voc_folder, label_maps, classes):
    (label_maps / 'labels.json').write_text(json.dumps(dict(classes=['background', 'cat', 'dog'], settings={})))
    assert len(build(voc_folder, pseudo_label_dir=str(label_maps))) == 3
    (label_maps / 'labels.json').write_text(json.dumps(dict(classes=classes, settings={})))
    with pytest.raises(UserError, match=f'{", ".join(classes)}, but the data set has background, cat, dog'):
        build(voc_folder, pseudo_label_dir=str(label_maps))


def test_training_on_the_true_masks_is_a_warning(voc_folder, lines, tmp_path):
    link = tmp_path / 'link'
    link.symlink_to(voc_folder.path('SegmentationClass'))
    for folder in (voc_folder.path('SegmentationClass'), str(link)):
        lines.clear()
        assert maps_of(build(voc_folder, pseudo_label_dir=folder))[0] == os.path.join(folder, 'a.png')
        warnings = [text for level, text in lines if level == logging.WARNING]
        assert len(warnings) == 1 and warnings[0].startswith('fully supervised: training reads the true masks of')
        assert voc_folder.path('SegmentationClass') in warnings[0]
    lines.clear()
    build(voc_folder, VAL, pseudo_label_dir=str(link), test_mode=True)
    assert all(level != logging.WARNING for level, _ in lines)


def test_label_maps_of_some_classes_are_numbered_like_them_and_masks_like_all(voc_folder, label_maps):
    class Pets(ImageLabelDataset):
        METAINFO = dict(classes=('background', 'cat', 'dog'))

    settings = dict(data_root=voc_folder.root, ann_file=TRAIN, metainfo=dict(classes=('background', 'dog')))
    made = Pets(pseudo_label_dir=str(label_maps), **settings).get_data_info(0)
    assert made['num_classes'] == 2 and made['label_map'] is None
    masks = Pets(pseudo_label_dir=voc_folder.path('SegmentationClass'), **settings).get_data_info(0)
    assert masks['num_classes'] == 3 and masks['label_map'] == {0: 0, 1: 255, 2: 1}


def test_label_maps_follow_the_picture_through_the_pipeline(voc_folder, label_maps):
    labels = np.zeros((6, 8), dtype=np.uint8)
    labels[:, :4] = 1
    for image_id in 'abc':
        Image.fromarray(labels).save(label_maps / f'{image_id}.png')
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='LoadPseudoLabels'),
        dict(type='Resize', scale=(16, 12)),
        dict(type='RandomFlip', prob=1.0),
        dict(type='PackWSSSInputs'),
    ]
    loader = Runner.build_dataloader(
        dict(
            batch_size=3,
            num_workers=1,
            sampler=dict(type='DefaultSampler', shuffle=False),
            dataset=dict(
                type='ImageLabelDataset',
                data_root=voc_folder.root,
                ann_file=TRAIN,
                pipeline=pipeline,
                pseudo_label_dir=str(label_maps),
            ),
        ),
        seed=0,
    )
    (batch,) = loader
    for sample in batch['data_samples']:
        found = sample.gt_sem_seg.data[0]
        assert found.shape == (12, 16) and (found[:, 8:] == 1).all() and (found[:, :8] == 0).all()

    Image.fromarray(labels + 2).save(label_maps / 'b.png')
    with pytest.raises(UserError) as error:
        list(loader)
    line = describe_error(error.value)
    assert 'b.png' in line and 'holds class 3' in line and '\n' not in line
