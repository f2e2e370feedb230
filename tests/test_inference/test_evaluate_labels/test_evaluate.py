import json

import numpy as np
import pytest
import torch
from mmseg.evaluation.metrics import IoUMetric

from csrm_plugin.utils import MissingFileError, UserError, write_json


def slow_labels(cams, classes, threshold):
    """Label of each pixel, one at a time: the highest CAM, of equal ones the lower class, if above the threshold."""
    labels = np.zeros(cams.shape[1:], dtype=np.uint8)
    for y, x in np.ndindex(*labels.shape):
        best = threshold
        for score, label in sorted(zip(cams[:, y, x].tolist(), classes.tolist()), key=lambda item: item[1]):
            if score > best:
                labels[y, x], best = label + 1, score
    return labels


def slow_scores(pairs, num_classes):
    """Means of IoU, FP / union and FN / union in percent, from one set of pixels per class."""
    rates = []
    for label in range(num_classes):
        hit = wrong = missed = 0
        for prediction, truth in pairs:
            counted = truth != 255
            hit += ((prediction == label) & (truth == label)).sum()
            wrong += ((prediction == label) & (truth != label) & counted).sum()
            missed += ((prediction != label) & (truth == label)).sum()
        if hit + wrong + missed:
            rates.append(np.array([hit, wrong, missed]) / (hit + wrong + missed))
    return 100 * np.mean(rates, axis=0)


NAMES = ['background', 'cat', 'dog', 'kite', 'tent']  # nothing is ever a kite


def test_every_figure_worked_by_hand(folder):
    folder.add('a', truth=[[0, 0, 1], [1, 2, 255]], prediction=[[0, 1, 1], [255, 1, 2]])
    report = folder.score(classes=['background', 'cat', 'dog', 'kite'])
    # Background: 1 of 2 found, union 2. Cat: 1 of 2 found, 1 uncertain, 2 false, union 4. Dog: missed, union 1. The
    # prediction on the ignored pixel is nobody's.
    assert report['confusion'] == [[1, 1, 0, 0, 0], [0, 1, 0, 0, 1], [0, 1, 0, 0, 0], [0, 0, 0, 0, 0]]
    assert report['iou'] == {'background': 50.0, 'cat': 25.0, 'dog': 0.0, 'kite': None}
    assert report['precision'] == {'background': 100.0, 'cat': 33.3333, 'dog': None, 'kite': None}
    assert report['recall'] == {'background': 50.0, 'cat': 50.0, 'dog': 0.0, 'kite': None}
    assert report['fp_by_class'] == {'background': 0.0, 'cat': 50.0, 'dog': 0.0, 'kite': None}
    assert report['fn_by_class'] == {'background': 50.0, 'cat': 25.0, 'dog': 100.0, 'kite': None}
    assert (report['miou'], report['fp'], report['fn']) == (25.0, 16.6667, 58.3333)
    assert (report['miou_foreground'], report['fp_foreground'], report['fn_foreground']) == (12.5, 25.0, 62.5)
    # Over the 4 certain pixels: background 1/2, cat 1/3, dog 0.
    assert report['miou_certain'] == 27.7778 and report['coverage'] == 80.0
    assert report['pixels'] == dict(
        counted=5,
        correct=2,
        ignored=1,
        uncertain=1,
        truth={'background': 2, 'cat': 2, 'dog': 1, 'kite': 0},
        predicted={'background': 1, 'cat': 3, 'dog': 0, 'kite': 0},
        foreground_truth=60.0,
        foreground_predicted=60.0,
    )


def test_context_says_what_the_numbers_stand_on(folder):
    folder.add('a', [[0, 1]], [[0, 1]])
    settings = dict(
        source='seg', scales=[1.0, 1.5], flip=True, crf=False, threshold=None, weights='teacher', sepl=dict(masks='sam')
    )
    write_json(folder.pred / 'labels.json', dict(classes=['background', 'cat'], settings=settings, config='c.py'))
    report = folder.score()
    assert report['miou'] == 100 and report['coverage'] == 100 and 'miou_certain' not in report
    expected = dict(
        settings,
        pred_dir=str(folder.pred),
        gt_dir=str(folder.gt),
        split='some',
        split_file=str(folder.split),
        pictures=1,
        classes=['background', 'cat'],
        config='c.py',
        checkpoint=None,
        bg_threshold=None,
        restricted=None,
        scores_of='label maps',
        unit='percent',
        settings=settings,
    )
    assert {key: report['context'][key] for key in expected} == expected
    assert '255' in report['context']['uncertain'] and 'labels.json' in report['context']['classes_from']
    json.dumps(report, allow_nan=False)


def test_equals_the_metric_of_the_host(random_folder):
    report = random_folder.score(classes=NAMES)
    metric = IoUMetric(iou_metrics=['mIoU', 'mFscore'])
    metric.dataset_meta = dict(classes=NAMES)
    for truth, prediction, *_ in random_folder.pictures.values():
        truth, prediction = (torch.as_tensor(labels.astype(np.int64))[None] for labels in (truth, prediction))
        metric.process({}, [dict(pred_sem_seg=dict(data=prediction), gt_sem_seg=dict(data=truth))])
    areas = [sum(column) for column in zip(*metric.results)]
    host = IoUMetric.total_area_to_metrics(*areas, metrics=['mIoU', 'mFscore'])
    for name, key in (('IoU', 'iou'), ('Precision', 'precision'), ('Recall', 'recall')):
        ours = [np.nan if value is None else value for value in report[key].values()]
        np.testing.assert_allclose(ours, 100 * host[name], atol=1e-3)
    assert report['iou']['kite'] is None and report['pixels']['uncertain'] > 0 and report['pixels']['ignored'] > 0
    assert round(report['miou'], 2) == metric.compute_metrics(metric.results)['mIoU']


def test_iou_and_the_rates_of_both_errors_add_up(random_folder):
    report = random_folder.score(classes=NAMES)
    sums = [
        sum(values)
        for values in zip(
            *(
                [value for value in report[key].values() if value is not None]
                for key in ('iou', 'fp_by_class', 'fn_by_class')
            )
        )
    ]
    assert sums == pytest.approx([100] * 4, abs=1e-3)
    pairs = [(prediction, truth) for truth, prediction, *_ in random_folder.pictures.values()]
    expected = slow_scores(pairs, 5)
    np.testing.assert_allclose([report['miou'], report['fp'], report['fn']], expected, atol=1e-4)


@pytest.mark.parametrize('classes', [NAMES, None])
def test_curve_equals_labels_made_one_threshold_at_a_time(random_folder, classes):
    report = random_folder.score(classes=classes, thresholds='0:1:0.1', threshold=0.345)
    curve = report['curve']
    assert [point['threshold'] for point in curve] == [index / 10 for index in range(11)]
    for point in [*curve, report['fixed']]:
        pairs = [(slow_labels(*rest, point['threshold']), truth) for truth, _, *rest in random_folder.pictures.values()]
        miou, fp, fn = slow_scores(pairs, 5)
        assert point['miou'] == pytest.approx(miou, abs=1e-4)
        if 'fp' in point:
            assert (point['fp'], point['fn']) == pytest.approx((fp, fn), abs=1e-4)
    best = max(curve, key=lambda point: point['miou'])
    assert report['best'] == dict(threshold=best['threshold'], miou=best['miou'], chosen_with='ground truth')
    assert report['fixed']['threshold'] == 0.345 and report['fixed']['chosen_with'] == '--threshold'
    assert report['miou'] == random_folder.score(classes=NAMES)['miou'], 'the scores are those of the label maps'


@pytest.mark.parametrize('cam_folder', ['cams', '.'])
def test_cams_alone(folder, cam_folder):
    # At 0.5 one pixel of two; at 0.2 both. The dog's map comes first, the cat's belongs to class 1.
    folder.add('a', [[1, 2, 0]], cams=[[[0.1, 0.5, 0.0]], [[0.6, 0.0, 0.1]]], classes=[1, 0], cam_folder=cam_folder)
    folder.add('b', [[0, 255, 0]], cams=np.zeros((0, 1, 3)), cam_folder=cam_folder)
    write_json(
        folder.pred / 'labels.json',
        dict(settings=dict(source='seg', crf=True, bg_threshold=0.1, sepl={'masks': 'sam'})),
    )
    best = folder.score(thresholds='0.2:0.5:0.3')
    assert best['confusion'] == [[3, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]] and best['miou'] == 100
    assert best['fixed'] is None and best['best']['threshold'] == 0.2
    assert best['context']['threshold_chosen_with'] == 'ground truth' and best['context']['threshold'] == 0.2
    assert best['context']['scores_of'] == 'CAMs' and best['pixels']['ignored'] == 1
    said = {key: best['context'][key] for key in ('source', 'crf', 'bg_threshold', 'sepl')}
    assert said == dict(source='cam', crf=False, bg_threshold=None, sepl=None), 'CAMs are saved before all that'
    fixed = folder.score(thresholds='0.2:0.2:0.3', threshold=0.5)
    assert fixed['confusion'] == [[3, 0, 0, 0], [0, 1, 0, 0], [1, 0, 0, 0]]
    assert fixed['context']['threshold_chosen_with'] == '--threshold' and fixed['context']['threshold'] == 0.5
    assert [point['threshold'] for point in fixed['curve']] == [0.2], 'the fixed one is not on the grid'
    write_json(folder.pred / 'labels.json', dict(settings=dict(threshold=0.5)))
    again = folder.score(thresholds='0.2:0.2:0.3')
    assert again['miou'] == fixed['miou'] and again['context']['threshold_chosen_with'] == 'labels.json'


def test_threshold_is_no_float16(folder):
    # float16 has 0.35009766 beside 0.35: above it, though not above float16(0.35).
    folder.add('a', [[1, 0]], cams=[[[0.35, 0]]], classes=[0])
    assert folder.score(thresholds=[0.35], classes=['cat'])['miou'] == 100


def test_some_label_maps_beside_all_cams(folder, capsys):
    for name in 'ab':
        folder.add(name, [[1, 0]], [[0, 0]] if name == 'a' else None, [[[0.9, 0]]], [0])
    assert folder.score(thresholds=[0.5], classes=['cat'])['context']['scores_of'] == 'CAMs'
    assert '1 of 2 label maps are not in' in capsys.readouterr().err


def test_cams_are_there_but_not_asked_for(folder):
    folder.add('a', [[0, 1]], cams=[[[0.1, 0.9]]], classes=[0])
    with pytest.raises(MissingFileError, match='There are CAMs, though: --thresholds'):
        folder.score(classes=['cat'])


@pytest.mark.parametrize(
    'settings, message',
    [
        (dict(classes='vco'), 'vco.*voc, coco, msrc, voc_animals, demo'),
        (dict(classes=['a', 'a']), 'different'),
        (dict(classes=[]), 'list of names'),
        (dict(classes='data/some.txt'), 'no JSON'),
        (dict(threshold=0.5), 'give --thresholds'),
        (dict(thresholds='0:1:0.5', threshold=1.5), '--threshold.*1.5'),
        (dict(thresholds='0:1:0.5', threshold=float('nan')), '--threshold.*nan'),
        (dict(thresholds='0:1:0.5'), 'CAMs are not in.*--save-cams'),
        (dict(workers=-1), '--workers'),
        (dict(suffix='.tif'), '1 of 1 predictions.*--suffix'),
        (dict(gt_suffix='.tif'), '1 of 1 masks.*--gt-suffix'),
    ],
)
def test_errors_of_settings(folder, monkeypatch, tmp_path, settings, message):
    monkeypatch.chdir(tmp_path)
    folder.add('a', [[0, 1]], [[0, 1]])
    with pytest.raises(UserError, match=message):
        folder.score(**settings)


def test_errors_of_the_manifest(folder):
    folder.add('a', [[0, 1]], [[0, 1]], [[[0.1, 0.9]]], [0])
    for content, message in (
        (dict(settings=dict(threshold='high')), 'threshold.*labels.json.*high'),
        (dict(settings=[1]), 'settings.*labels.json'),
        (dict(classes=3), 'labels.json.*list of names'),
    ):
        write_json(folder.pred / 'labels.json', content)
        with pytest.raises(UserError, match=message):
            folder.score(thresholds=[0.5])


def test_nothing_to_count(folder):
    folder.add('a', [[255, 255]], [[0, 1]], [[[0.1, 0.9]]], [0])
    for settings in ({}, dict(thresholds=[0.5])):
        with pytest.raises(UserError, match='nothing but 255'):
            folder.score(classes=['cat'], **settings)


def test_the_split_that_chose_the_threshold_is_told_as_long_as_it_is_that_threshold(folder):
    folder.add('a', [[0, 1]], [[0, 1]], cams=[[[0.1, 0.9]]], classes=[0])
    settings = dict(source='cam', threshold=0.5, threshold_chosen_on='val')
    write_json(folder.pred / 'labels.json', dict(classes=['background', 'cat'], settings=settings))
    assert folder.score()['context']['threshold_chosen_on'] == 'val'
    (folder.pred / 'a.png').unlink()  # so the scores are those of the CAMs
    assert folder.score(thresholds='0:1:0.5')['context']['threshold_chosen_on'] == 'val'
    assert folder.score(thresholds='0:1:0.5', threshold=0.3)['context']['threshold_chosen_on'] is None
