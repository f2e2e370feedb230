import pytest

from csrm_plugin.report.runs.validations import (
    checkpoint_folder,
    is_score,
    scores_of,
    split_of,
    threshold_curve,
)


def test_scores_and_curve_of_a_validation(build):
    metrics = build['validation'](20, 50.0, other=3.0)['metrics']
    assert scores_of(metrics) == {'cam/mIoU': 40.0, 'seg/mIoU': 50.0, 'pseudo/mIoU': 45.0, 'cls/mAP': 95.0}
    curve = threshold_curve(metrics)
    assert [threshold for threshold, _ in curve] == pytest.approx([0.05 * step for step in range(1, 20)])
    assert max(curve, key=lambda point: point[1]) == (0.3, 40.0)
    others = {'seg/mIoU@0.5': 1.0, 'pseudo/mIoU@0.05': 2.0, 'cls/mAP@5': 3.0, 'cam/acc@0.1': 4.0}
    assert threshold_curve({**others, **metrics}) == curve and threshold_curve(others) == []
    assert threshold_curve({**others, **metrics}, 'pseudo/mIoU') == [(0.05, 2.0)]
    assert scores_of(others) == {}
    assert scores_of({'mIoU': 1.0, 'aAcc': 2.0, 'time': 3.0, 'seg/mIoU': None}) == {'mIoU': 1.0, 'aAcc': 2.0}


def test_what_is_a_score():
    names = ('seg/mIoU', 'aAcc', 'cls/mAP', 'affinity/AUC', 'mDice', 'boundary/F1', 'miou', 'seg/mIoU@0.5')
    assert all(map(is_score, names))
    assert not any(map(is_score, ('loss', 'time', 'cam/threshold', 'seg/foreground', 'mapping', 'accumulated')))


def test_split_and_checkpoint_of_a_test():
    assert split_of({'split': 'val', 'ann_file': 'lists/train.txt'}) == 'val'
    assert split_of({'ann_file': 'ImageSets/Segmentation/train_aug.txt'}) == 'train_aug'
    assert split_of({}) is None
    assert checkpoint_folder({'context': {'checkpoint': 'work_dirs/csrm/iter_9.pth'}}) == 'csrm'
    assert checkpoint_folder({'context': {}}) == ''
