import json

import numpy as np
import pytest
import torch
from mmseg.evaluation.metrics import IoUMetric
from PIL import Image
from rich.console import Console

from csrm_plugin.inference.evaluate_labels import (
    KNOWN_CLASSES,
    evaluate_label_folder,
    parse_thresholds,
    print_report,
    require_writable,
    score_confusion,
)
from csrm_plugin.utils import MissingFileError, UserError, write_json

NAMES = ['background', 'cat', 'dog', 'kite', 'tent']  # nothing is ever a kite
SIZES = [(7, 9), (5, 5), (8, 3), (6, 11), (1, 4)]


def save(path, labels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(labels, dtype=np.uint8)).save(path)


def save_cams(path, cams, classes):
    path.parent.mkdir(parents=True, exist_ok=True)
    cams, classes = np.asarray(cams, dtype=np.float16), np.asarray(classes, dtype=np.int64)
    np.savez_compressed(path, cams=cams, classes=classes)


class Folder:
    """Predictions, masks and a list of the pictures in a folder."""

    def __init__(self, path):
        self.pred, self.gt, self.split = path / 'pred', path / 'data' / 'masks', path / 'data' / 'some.txt'

    def add(self, name, truth, prediction=None, cams=None, classes=(), cam_folder='cams'):
        save(self.gt / f'{name}.png', truth)
        if prediction is not None:
            save(self.pred / f'{name}.png', prediction)
        if cams is not None:
            save_cams(self.pred / cam_folder / f'{name}.npz', cams, classes)
        known = self.split.read_text().split() if self.split.exists() else []
        self.split.write_text('\n'.join([*known, name]))

    def score(self, **settings):
        return evaluate_label_folder(str(self.pred), str(self.gt), str(self.split), **settings)


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path)


@pytest.fixture
def random_folder(folder):
    """Five pictures with label maps and CAMs, 255 in truth and label maps, CAMs that tie with thresholds."""
    rng = np.random.default_rng(3)
    folder.pictures = {}
    for index, size in enumerate(SIZES):
        truth = rng.choice([0, 1, 2, 4, 255], size)
        prediction = np.where(rng.random(size) < 0.5, truth, rng.choice([0, 1, 2, 255], size))
        classes = rng.permutation(4)[: index % 4]
        cams = rng.integers(0, 11, (len(classes), *size)) / 10
        folder.add(f'p{index}', truth, prediction, cams, classes)
        folder.pictures[f'p{index}'] = truth, prediction, cams.astype(np.float16), classes
    return folder


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
@pytest.mark.parametrize('thresholds', [None, '0:1:0.1'])
def test_neither_processes_nor_order_change_a_digit(random_folder, monkeypatch, classes, thresholds):
    monkeypatch.setattr('csrm_plugin.inference.evaluate_labels._CHUNK', 2)
    reports = [random_folder.score(classes=classes, thresholds=thresholds, workers=workers) for workers in (0, 1, 2)]
    random_folder.split.write_text('p3\np0\np4\np2\np1\n')
    reports.append(random_folder.score(classes=classes, thresholds=thresholds, workers=2))
    for report in reports[1:]:
        assert report == reports[0]


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


def test_class_names_from_everywhere(folder, tmp_path, capsys):
    folder.add('a', [[0, 1, 255]], [[2, 1, 3]])
    assert folder.score()['context']['classes'] == ['background', 'class_1', 'class_2', 'class_3']
    note = [line for line in capsys.readouterr().err.splitlines() if 'note' in line]
    assert len(note) == 1 and '4 classes' in note[0]
    write_json(folder.gt.parent / 'image_labels.json', dict(classes=['a', 'b', 'c'], labels={}))
    assert folder.score()['context']['classes'] == ['background', 'a', 'b', 'c']
    write_json(folder.gt.parent / 'image_labels_some.json', dict(classes=['d', 'e', 'f'], labels={}))
    assert folder.score()['context']['classes'] == ['background', 'd', 'e', 'f']
    write_json(folder.pred / 'labels.json', dict(classes=['ground', 'x', 'y', 'z'], palette=[[0, 0, 0]] * 4))
    assert folder.score()['context']['classes'] == ['ground', 'x', 'y', 'z']
    write_json(tmp_path / 'mine.json', dict(classes=['g', 'h', 'i']))
    assert folder.score(classes=str(tmp_path / 'mine.json'))['context']['classes'] == ['background', 'g', 'h', 'i']
    assert 'note' not in capsys.readouterr().err


def test_classes_of_the_data_sets(folder):
    folder.add('a', [[0, 1]], [[0, 1]])
    counts = {name: len(folder.score(classes=name)['iou']) for name in KNOWN_CLASSES}
    assert counts == dict(voc=21, coco=81, msrc=16, demo=7)
    assert folder.score(classes='voc12') != folder.score(classes='coco14')


def test_large_matrices_are_left_out():
    names = [str(index) for index in range(101)]
    assert 'confusion' not in score_confusion(np.eye(101, 102, dtype=np.int64), names)
    assert 'confusion' in score_confusion(np.eye(100, 101, dtype=np.int64), names[:100])


def test_all_uncertain():
    report = score_confusion(np.array([[0, 0, 3], [0, 0, 2]]), ['background', 'cat'])
    assert (report['miou'], report['fn'], report['coverage'], report['miou_certain']) == (0, 100, 0, None)


@pytest.mark.parametrize(
    'text, values',
    [
        ('0.1:0.3:0.1', (0.1, 0.2, 0.3)),
        ('0:1:0.25', (0, 0.25, 0.5, 0.75, 1)),
        ('0.5:0.5:1', (0.5,)),
        ('.2:.35:.1', (0.2, 0.3)),
        ([0.3, 0.1, 0.3], (0.1, 0.3)),
    ],
)
def test_thresholds(text, values):
    assert parse_thresholds(text) == values


def test_the_usual_thresholds():
    from csrm_plugin.evaluation import CAM_THRESHOLDS

    assert parse_thresholds('0.05:0.95:0.05') == CAM_THRESHOLDS
    assert len(parse_thresholds('0:1:0.01')) == 101


@pytest.mark.parametrize(
    'text',
    [
        '',
        '0.1',
        '0.1:0.2',
        'a:b:c',
        '0:1:0',
        '0:1:-0.1',
        '0.5:0.1:0.1',
        '0:1.1:0.1',
        '-0.1:1:0.1',
        'nan:1:0.1',
        '0:1:nan',
        '0:1:1e-9',
        '0:1:1e-320',
        '0:0.1:0.1:0.1',
        (),
        [0.5, 1.5],
    ],
)
def test_malformed_thresholds(text):
    with pytest.raises(UserError, match='--thresholds'):
        parse_thresholds(text)


def test_report_is_readable(random_folder):
    console = Console(record=True, width=100, file=open('/dev/null', 'w'))  # noqa: SIM115
    report = random_folder.score(classes=['background', '[red]cat', 'dog', 'kite', 'tent'], thresholds='0:1:0.5')
    print_report(report, console)
    text = console.export_text()
    assert '[red]cat' in text and f'{report["iou"]["dog"]:.2f}' in text and 'mean without background' in text
    assert f'mIoU {report["miou"]:.2f} % (label maps)' in text
    assert 'split: some' in text and '5 pictures' in text and 'weights: not known' in text and 'coverage' in text
    assert 'chosen with the ground truth, and is not a result that one could have had without masks' in text
    assert 'No threshold was fixed beforehand' in text


@pytest.mark.parametrize('workers', [0, 2])
def test_errors_of_a_file_name_it(folder, workers):
    for name in 'abc':
        folder.add(name, [[0, 1]], [[0, 1]], [[[0.1, 0.9]]], [0])

    def fails(kind=UserError, **settings):
        with pytest.raises(kind) as caught:
            folder.score(**{'classes': ['cat'], 'workers': workers, **settings})
        return str(caught.value)

    save(folder.pred / 'b.png', [[0, 1, 1]])
    message = fails()
    assert f'{folder.pred}/b.png` has 3 x 1' in message and f'{folder.gt}/b.png` has 2 x 1' in message
    save(folder.pred / 'b.png', [[0, 2]])
    assert 'b.png` holds class 2' in fails()
    (folder.pred / 'b.png').write_bytes((folder.pred / 'a.png').read_bytes()[:45])
    assert 'b.png` cannot be read' in fails()
    (folder.pred / 'b.png').unlink()
    assert 'b.png' in fails(MissingFileError) and '1 of 3 predictions' in fails(MissingFileError)
    save(folder.pred / 'b.png', [[0, 1]])
    save(folder.gt / 'c.png', np.zeros((1, 2, 3)))
    assert f'{folder.gt}/c.png` has the mode RGB' in fails()
    save(folder.gt / 'c.png', [[0, 7]])
    assert f'{folder.gt}/c.png` holds class 7' in fails()
    (folder.gt / 'c.png').unlink()
    assert '1 of 3 masks' in fails(MissingFileError)


@pytest.mark.parametrize(
    'content, message',
    [
        (dict(cams=np.zeros((1, 1, 3)), classes=np.array([0])), '3 x 1'),
        (dict(cams=np.zeros((1, 2)), classes=np.array([0])), 'n, H, W'),
        (dict(cams=np.zeros((2, 1, 2)), classes=np.array([0])), 'n, H, W'),
        (dict(cams=np.zeros((1, 1, 2), dtype=np.uint8), classes=np.array([0])), 'uint8'),
        (dict(cams=np.zeros((1, 1, 2)), classes=np.array([1])), r'\[1\]'),
        (dict(cams=np.zeros((1, 1, 2)), classes=np.array([-1])), r'\[-1\]'),
        (dict(cams=np.zeros((2, 1, 2)), classes=np.array([0, 0])), r'\[0, 0\]'),
        (dict(cams=np.full((1, 1, 2), 1.5), classes=np.array([0])), '1.5'),
        (dict(cams=np.full((1, 1, 2), np.nan), classes=np.array([0])), 'nan'),
        (dict(cams=np.zeros((1, 1, 2))), 'classes'),
        (dict(cams=np.zeros((1, 1, 2)), classes=np.array([None])), 'cannot be read'),
        (b'PK\x03\x04 nothing', 'cannot be read'),
        (b'', 'cannot be read'),
        (b'\x93NUMPY', 'cannot be read'),
    ],
)
def test_errors_of_cams_name_the_file(folder, content, message):
    folder.add('a', [[0, 1]], cams=[[[0.1, 0.9]]], classes=[0])
    path = folder.pred / 'cams' / 'a.npz'
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.savez(path, **content)
    with pytest.raises(UserError, match=message) as caught:
        folder.score(classes=['cat'], thresholds=[0.5])
    assert str(path) in str(caught.value)


def test_an_array_that_is_no_npz(folder):
    folder.add('a', [[0, 1]], cams=[[[0.1, 0.9]]], classes=[0])
    with open(folder.pred / 'cams' / 'a.npz', 'wb') as file:
        np.save(file, np.zeros(3))
    with pytest.raises(UserError, match=r'a\.npz` cannot be read'):
        folder.score(classes=['cat'], thresholds=[0.5])


def test_truncated_npz(folder):
    folder.add('a', [[0, 1]], cams=[[[0.1, 0.9]]], classes=[0])
    path = folder.pred / 'cams' / 'a.npz'
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r'a\.npz'):
            folder.score(classes=['cat'], thresholds=[0.5])
    damaged = bytearray(whole)
    damaged[60:80] = bytes(20)
    path.write_bytes(damaged)
    with pytest.raises(UserError, match=r'a\.npz'):
        folder.score(classes=['cat'], thresholds=[0.5])


@pytest.mark.parametrize(
    'settings, message',
    [
        (dict(classes='vco'), 'vco.*voc, coco, msrc, demo'),
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


def test_cams_are_there_but_not_asked_for(folder):
    folder.add('a', [[0, 1]], cams=[[[0.1, 0.9]]], classes=[0])
    with pytest.raises(MissingFileError, match='There are CAMs, though: --thresholds'):
        folder.score(classes=['cat'])


def test_require_writable(tmp_path):
    (tmp_path / 'file').write_text('')
    require_writable(tmp_path / 'new' / 'x.json', '--json')
    require_writable(tmp_path / 'file', '--json')
    assert not (tmp_path / 'new').exists()
    for path, message in ((tmp_path, 'is a folder'), (tmp_path / 'file' / 'x.json', 'is no folder')):
        with pytest.raises(UserError, match=f'--json.*{message}'):
            require_writable(path, '--json')
