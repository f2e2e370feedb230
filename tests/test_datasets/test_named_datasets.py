import json
import os

import numpy as np
import pytest
from mmengine.config import Config
from mmseg.registry import DATASETS

from csrm_plugin.utils import MissingFileError


def load(root, name, monkeypatch, **environment):
    for key, value in environment.items():
        monkeypatch.setenv(key, str(value))
    return Config.fromfile(root / 'mmcfg' / '_base_' / 'datasets' / f'{name}.py')


@pytest.mark.parametrize(
    ('name', 'num_classes'),
    [
        ('VOC12WSSSDataset', 20),
        ('COCO14WSSSDataset', 80),
        ('MSRCDataset', 15),
        ('VOCAnimalsDataset', 6),
        ('SyntheticWSSSDataset', 6),
    ],
)
def test_classes_and_palettes(name, num_classes):
    metainfo = DATASETS.get(name).METAINFO
    assert metainfo['classes'][0] == 'background'
    assert len(set(metainfo['classes'])) == len(metainfo['palette']) == num_classes + 1


@pytest.mark.parametrize('name', ['voc12_wsss', 'coco14_wsss', 'msrc', 'voc_animals', 'demo'])
def test_base_configs(root, name, monkeypatch):
    config = load(root, name, monkeypatch)
    train, val = config.train_dataloader, config.val_dataloader
    assert train.sampler.type == 'DefaultSampler' and train.sampler.shuffle and train.drop_last
    assert all('Annotations' not in step.type for step in train.dataset.pipeline)
    assert not train.dataset.get('test_mode') and val.dataset.test_mode
    steps = [step.type for step in val.dataset.pipeline]
    assert steps.index('Resize') < steps.index('LoadOptionalAnnotations')
    assert val.batch_size == 1 and not val.sampler.shuffle
    config.merge_from_dict({'test_dataloader.dataset.ann_file': 'other'})
    assert config.val_dataloader.dataset.ann_file.endswith('val.txt')


@pytest.mark.parametrize(
    ('name', 'variable', 'command'),
    [
        ('voc12_wsss', 'VOC_ROOT', 'voc-xml --root'),
        ('coco14_wsss', 'COCO_ROOT', 'coco-json --root'),
        ('msrc', 'MSRC_ROOT', 'masks --classes msrc --root'),
        ('voc_animals', 'VOC_ANIMALS_ROOT', 'masks --classes voc_animals --root'),
    ],
)
def test_environment_names_the_root_and_errors_name_both(root, name, variable, command, monkeypatch, voc_folder):
    config = load(root, name, monkeypatch, **{variable: voc_folder.path('gone')})
    with pytest.raises(MissingFileError, match=f'gone does not exist.*{variable}'):
        DATASETS.build(config.train_dataloader.dataset)
    config = load(root, name, monkeypatch, **{variable: voc_folder.root})
    os.remove(voc_folder.path('image_labels.json'))
    dataset = dict(config.train_dataloader.dataset, ann_file='ImageSets/Segmentation/train.txt')
    with pytest.raises(MissingFileError, match=command):
        DATASETS.build(dataset)


def test_msrc(root, shared, monkeypatch):
    config = load(root, 'msrc', monkeypatch, MSRC_ROOT=shared / 'data' / 'msrc')
    train = DATASETS.build(config.train_dataloader.dataset)
    val = DATASETS.build(config.val_dataloader.dataset)
    assert (len(train), len(val)) == (301, 98)
    sample = val[0]['data_samples']
    assert sample.ori_shape == tuple(sample.gt_sem_seg.data.shape[1:]) == (213, 320)
    shown = np.unique(sample.gt_sem_seg.data)
    expected = 1 + sample.gt_image_labels.multi_hot.nonzero()[:, 0].numpy()
    assert set(shown) - {0, 255} == set(expected)


def test_voc_mini(root, shared, monkeypatch):
    voc_root = shared / 'data' / 'voc12_mini' / 'VOCdevkit' / 'VOC2012'
    config = load(root, 'voc12_wsss', monkeypatch, VOC_ROOT=voc_root)
    sample = DATASETS.build(config.train_dataloader.dataset)[0]
    assert sample['inputs'].shape == (3, 512, 512)
    assert sample['data_samples'].gt_image_labels.multi_hot.nonzero()[:, 0].tolist() == [4, 14]
    assert len(DATASETS.build(config.val_dataloader.dataset)) == 1


def test_real_voc_splits(root, shared, monkeypatch, voc_folder):
    """The real lists and labels, with empty files in place of the pictures."""
    source = shared / 'data' / 'voc12'
    sizes = dict(train=1464, train_aug=10582, val=1449, test=1456)
    for split in sizes:
        with open(source / f'{split}.txt') as file:
            ids = file.read().split()
        voc_folder.add_split(split, ids)
        for image_id in ids if split != 'train' else ():  # they are all in train_aug
            os.mknod(voc_folder.path('JPEGImages', f'{image_id}.jpg'))
    os.remove(voc_folder.path('image_labels.json'))
    os.symlink(source / 'image_labels.json', voc_folder.path('image_labels.json'))
    with open(source / 'image_labels.json') as file:
        labels = json.load(file)['labels']
    config = load(root, 'voc12_wsss', monkeypatch, VOC_ROOT=voc_folder.root)
    for split, size in sizes.items():
        dataset = DATASETS.build(
            dict(config.val_dataloader.dataset, ann_file=f'ImageSets/Segmentation/{split}.txt', pipeline=[])
        )
        assert len(dataset) == size
        info = dataset.get_data_info(size - 1)
        if split == 'test':
            assert 'image_labels' not in info
        else:
            names = [dataset.image_classes[index] for index in dataset.get_cat_ids(size - 1)]
            assert sorted(names) == sorted(labels[info['img_id']])


def test_voc_animals(root, shared, monkeypatch):
    config = load(root, 'voc_animals', monkeypatch, VOC_ANIMALS_ROOT=shared / 'data' / 'voc_animals')
    train, val = (DATASETS.build(config[f'{split}_dataloader'].dataset) for split in ('train', 'val'))
    assert (len(train), len(val)) == (1464, 223)
    assert train[0]['inputs'].shape == (3, 224, 224) and 'gt_sem_seg' not in train[0]['data_samples']
    for index in (0, 100):
        sample = val[index]['data_samples']
        shown = set(np.unique(sample.gt_sem_seg.data)) - {0, 255}
        assert shown == {1 + c for c in np.flatnonzero(sample.gt_image_labels.multi_hot)}
