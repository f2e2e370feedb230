import math

import pytest
import torch
from mmengine.structures import LabelData, PixelData
from mmseg.structures import SegDataSample

from csrm_plugin.engine.training_watch import ClassifierWatch, as_number, labelled_share, not_finite


def batch(labels=(), maps=()):
    samples = []
    for row in labels:
        samples.append(SegDataSample())
        samples[-1].set_field(LabelData(multi_hot=torch.tensor(row).float()), 'gt_image_labels', dtype=LabelData)
    samples += [SegDataSample(gt_sem_seg=PixelData(data=torch.tensor(rows)[None])) for rows in maps]
    return dict(inputs=[], data_samples=samples)


def test_frequencies_are_those_of_all_pictures_seen():
    watch = ClassifierWatch(window=3)
    assert watch.frequencies is None and watch.loss is None
    watch.update(1.0, batch([[1, 0], [1, 1]]))
    watch.update(0.0, batch([[1, 0], [0, 0]]))
    assert watch.frequencies.tolist() == [0.75, 0.25]
    assert watch.loss == 0.5
    watch.update(math.nan, batch([[1, 1]]))
    assert watch.loss == 0.5, 'not finite: that is another alarm'
    for _ in range(3):
        watch.update(0.75, None)
    assert watch.loss == 0.75, 'over the last three'
    assert watch.frequencies.tolist() == [0.75, 0.25]


def test_the_lowest_ratio_counts_from_a_full_window_on():
    watch = ClassifierWatch(window=2)
    watch.update(1.0, None)
    watch.note_ratio(0.1)
    assert watch.best_ratio is None
    watch.update(1.0, None)
    for ratio in (0.9, 0.4, 0.7):
        watch.note_ratio(ratio)
    assert watch.best_ratio == 0.4


def test_share_of_objects_in_label_maps():
    assert labelled_share(batch(maps=[[[0, 0, 255]], [[0, 3, 255]]])) == pytest.approx(1 / 4)
    assert labelled_share(batch(maps=[[[255, 255]]])) is None
    assert labelled_share(batch([[1.0]])) is None and labelled_share(None) is None


def test_numbers():
    assert as_number(torch.tensor(2.0, requires_grad=True)) == as_number(2) == 2.0
    values = {'a': torch.tensor(math.nan), 'b': 1.0, 'c': math.inf, 'd': torch.tensor([1.0, -math.inf])}
    assert not_finite(values) == ['a', 'c', 'd']
