import numpy as np
import torch
from mmengine.structures import LabelData
from mmseg.registry import TRANSFORMS


def results(**extra):
    return dict(
        img=np.arange(24, dtype=np.uint8).reshape(2, 4, 3),
        img_path='x/a.jpg',
        img_id='a',
        ori_shape=(2, 4),
        img_shape=(2, 4),
        flip=True,
        flip_direction='horizontal',
        scale_factor=(1.0, 1.0),
        reduce_zero_label=False,
        **extra,
    )


def pack(**extra):
    return TRANSFORMS.build(dict(type='PackWSSSInputs'))(results(**extra))


def test_training_sample():
    labels = np.array([0, 1, 1], dtype=np.float32)
    packed = pack(image_labels=labels)
    sample = packed['data_samples']
    assert packed['inputs'].shape == (3, 2, 4) and packed['inputs'].dtype == torch.uint8
    assert isinstance(sample.gt_image_labels, LabelData)
    assert sample.gt_image_labels.multi_hot.dtype == torch.float32
    assert sample.gt_image_labels.multi_hot.tolist() == [0, 1, 1]
    assert 'gt_sem_seg' not in sample
    expected = {
        'img_path',
        'img_id',
        'ori_shape',
        'img_shape',
        'flip',
        'flip_direction',
        'scale_factor',
        'reduce_zero_label',
    }
    assert set(sample.metainfo) == expected and sample.img_id == 'a'
    labels[:] = 5
    assert sample.gt_image_labels.multi_hot.tolist() == [0, 1, 1], 'the sample shares memory with the data set'


def test_mask_is_packed_where_there_is_one():
    mask = np.array([[0, 1, 2, 255]] * 2, dtype=np.uint8)
    sample = pack(image_labels=np.ones(2, np.float32), gt_seg_map=mask)['data_samples']
    assert sample.gt_sem_seg.data.dtype == torch.int64
    assert sample.gt_sem_seg.data.tolist() == [mask.tolist()]


def test_picture_without_labels():
    assert 'gt_image_labels' not in pack()['data_samples']


def test_samples_move_as_a_whole():
    sample = pack(image_labels=np.ones(2, np.float32))['data_samples'].to('meta')
    assert sample.gt_image_labels.multi_hot.device.type == 'meta'
