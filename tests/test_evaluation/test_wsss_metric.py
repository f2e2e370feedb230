import json

import numpy as np
import pytest
import torch
from mmengine.structures import LabelData, PixelData
from mmseg.evaluation import IoUMetric
from mmseg.structures import SegDataSample

from csrm_plugin.evaluation import WSSSMetric, cam_confusion, mean_iou
from csrm_plugin.evaluation.confusion import confusion_matrix
from csrm_plugin.functional import normalize_cam
from csrm_plugin.utils import UserError

CLASSES = ('background', 'cow', 'sheep', 'car')


def make_metric(source='cam', threshold=0.5, **options):
    """A metric for samples of a model whose labels are made so; :func:`packed` tells it."""
    metric = WSSSMetric(**options)
    metric.dataset_meta = dict(classes=CLASSES)
    metric.recipe = dict(source=source, threshold=threshold)
    return metric


def packed(metric, samples):
    """Samples as the evaluator gives them to the metric."""
    for sample in samples:
        sample.set_metainfo(dict(pseudo_label=getattr(metric, 'recipe', None)))
    return [sample.to_dict() for sample in samples]


def make_sample(truth=None, labels=None, cam=None, seg=None, scores=None, name='a.jpg', propagated=None, affinity=None):
    sample = SegDataSample(metainfo=dict(img_path=name, img_shape=(24, 32)))
    if propagated is not None:
        sample.set_field(PixelData(data=propagated), 'propagated_cam', dtype=PixelData)
    if affinity is not None:
        data, grid = affinity
        sample.set_field(PixelData(data=data, metainfo=dict(grid=grid)), 'affinity', dtype=PixelData)
    if truth is not None:
        sample.gt_sem_seg = PixelData(data=torch.as_tensor(truth)[None])
    if labels is not None:
        sample.set_field(LabelData(multi_hot=torch.tensor(labels).float()), 'gt_image_labels', dtype=LabelData)
    if cam is not None:
        sample.set_field(PixelData(data=cam), 'cam_logits', dtype=PixelData)
    if seg is not None:
        sample.seg_logits = PixelData(data=seg)
        sample.pred_sem_seg = PixelData(data=seg.argmax(dim=0, keepdim=True))
    if scores is not None:
        sample.set_field(LabelData(scores=torch.tensor(scores)), 'pred_image_labels', dtype=LabelData)
    return sample


def make_samples(count=4, **without):
    samples = []
    for number in range(count):
        size = (5 + number, 7)
        truth = torch.randint(0, 4, size)
        truth[0, :2] = 255
        labels = [float(c in truth) for c in (1, 2, 3)]
        labels[number % 3] = 0.0
        values = dict(
            truth=truth,
            labels=labels,
            cam=torch.randn(3, *size),
            seg=torch.randn(4, *size),
            scores=torch.rand(3).tolist(),
            propagated=torch.rand(3, *size),
        )
        samples.append(make_sample(**values | without, name=f'{number}.jpg'))
    return samples


def evaluate(metric, samples, batch=2):
    for start in range(0, len(samples), batch):
        metric.process(None, packed(metric, samples[start : start + batch]))
    return metric.evaluate(len(samples))


def test_seg_equals_the_hosts_metric():
    samples = make_samples()
    scores, metric = evaluate(make_metric(), samples), IoUMetric(ignore_index=255)
    metric.dataset_meta = dict(classes=CLASSES)
    host = evaluate(metric, samples)
    assert scores['seg/mIoU'] == pytest.approx(host['mIoU'], abs=0.006)  # the host rounds to two digits


def test_seg_with_a_class_that_does_not_occur_equals_the_hosts_metric():
    truth, seg = torch.zeros(4, 4, dtype=torch.long), torch.zeros(4, 4, 4)
    truth[:2], seg[0], seg[1, 0] = 1, 1, 2
    metric = IoUMetric(ignore_index=255)
    metric.dataset_meta = dict(classes=CLASSES)
    sample = make_sample(truth, [1, 0, 0], seg=seg)
    scores = evaluate(make_metric('seg'), [sample])
    assert scores['seg/mIoU'] == pytest.approx(evaluate(metric, [sample])['mIoU'], abs=0.006)
    assert scores['seg/mIoU'] == pytest.approx(100 * (8 / 12 + 4 / 8) / 2, abs=1e-3)
    assert scores['seg/foreground'] == 25
    assert scores['seg/largest'] == 75
    assert scores['seg/background_only'] == pytest.approx(100 * (8 / 16 + 0) / 2), 'of 16 pixels 8 are background'


def test_shares_of_a_cam_are_those_at_its_best_threshold():
    truth, cam = torch.tensor([[0, 0, 1, 1]]), torch.tensor([[[0.0, 0.0, 1.0, 0.7]], [[9.0] * 4], [[9.0] * 4]])
    scores = evaluate(make_metric(), [make_sample(truth, [1, 0, 0], cam)])
    assert (scores['cam/mIoU'], scores['cam/foreground'], scores['cam/largest']) == (100, 50, 50)
    empty = evaluate(make_metric(), [make_sample(truth, [1, 0, 0], -cam)])
    assert empty['cam/mIoU'] == empty['cam/background_only'] == 25 and empty['cam/foreground'] == 0


def test_cam_is_the_best_of_the_thresholds():
    metric, samples = make_metric(threshold=0.3), make_samples()
    scores = evaluate(metric, samples)
    total = 0
    for sample in samples:
        labels = sample.gt_image_labels.multi_hot
        probs = normalize_cam(sample.cam_logits.data[None], labels=labels[None])[0].numpy()
        total = total + cam_confusion(probs, sample.gt_sem_seg.data[0].numpy())
    curve = 100 * mean_iou(total)
    assert scores['cam/mIoU'] == pytest.approx(curve.max(), abs=1e-3)
    assert scores['cam/threshold'] == pytest.approx(0.05 * (curve.argmax() + 1))
    for index in range(19):
        assert scores[f'cam/mIoU@{0.05 * (index + 1):.2f}'] == pytest.approx(curve[index], abs=1e-3)
    assert scores['pseudo/mIoU'] == pytest.approx(curve[5], abs=1e-3), 'at the fixed threshold 0.3'


def test_pseudo_labels_worked_by_hand():
    truth = torch.tensor([[0, 1, 1, 2]])
    cam = torch.tensor([[[1.0, 4.0, 2.0, 0.0]], [[9.0, 9.0, 9.0, 9.0]], [[0.0, 0.0, 0.0, 0.0]]])
    seg = torch.tensor([[[0.5, 0, 0, 0]], [[0.0, 1, 2, 0.1]], [[9.0, 9, 9, 9]], [[0.0, 0, 0, 0]]])
    sample = make_sample(truth, [1, 0, 0], cam, seg)
    # The map of class 1, the only one of the picture, is 0.25 1 0.5 0; its tie with 0.5 is background: 0 1 0 0.
    # IoU: background 1 of 3, class 1 1 of 2, class 2 none.
    scores = evaluate(make_metric('cam', 0.5), [sample])
    assert scores['pseudo/mIoU'] == pytest.approx(100 * (1 / 3 + 1 / 2 + 0) / 3, abs=1e-3)
    # Restricted to background and class 1 the segmentation says 0 1 1 1; unrestricted it says 2 everywhere.
    scores = evaluate(make_metric('seg', None), [sample])
    assert scores['pseudo/mIoU'] == pytest.approx(100 * (1 + 2 / 3 + 0) / 3, abs=1e-3)
    assert scores['seg/mIoU'] == pytest.approx(100 * (0 + 0 + 1 / 4) / 3, abs=1e-3)


def test_propagated_cams_are_cut_as_cams_are():
    """Labels from the same maps, under either name, have the same scores, at the fixed threshold and at each other."""
    samples = make_samples()
    metric = make_metric('propagated', 0.3)
    scores = evaluate(metric, samples)
    context = metric.report['context']
    assert context['pseudo_label'] == dict(source='propagated', threshold=0.3)
    plain = make_metric('cam', 0.3)
    for sample in samples:
        sample.cam_logits = sample.propagated_cam
    of_plain = evaluate(plain, samples)
    assert scores['pseudo/mIoU'] == of_plain['pseudo/mIoU'] and metric.report['pseudo'] == plain.report['pseudo']
    for threshold in plain.thresholds:
        assert scores[f'pseudo/mIoU@{threshold:.2f}'] == of_plain[f'cam/mIoU@{threshold:.2f}']
    assert (metric.pseudo_labels(samples[0]) == plain.pseudo_labels(samples[0])).all()
    assert not any(name.startswith('pseudo/mIoU@') for name in of_plain)
    json.dumps(metric.report)


def test_a_model_that_propagates_nothing_has_no_such_labels():
    samples = make_samples(propagated=None)
    metric = make_metric('propagated', 0.3)
    scores = evaluate(metric, samples)
    assert 'cam/mIoU' in scores and not any(name.startswith('pseudo') for name in scores)
    assert metric.pseudo_labels(samples[0]) is None


def test_affinity_auc_is_over_the_pairs_of_all_pictures():
    truth = torch.tensor([[0, 1], [2, 2], [255, 1]])
    generator = torch.Generator().manual_seed(0)
    samples, pairs = [], []
    for number in range(3):
        affinity = torch.rand(6, 6, generator=generator)
        samples.append(make_sample(truth, [1, 1, 0], affinity=(affinity[None], (3, 2)), name=f'{number}.jpg'))
        classes = truth.flatten().tolist()
        for i in range(6):
            for j in range(6):
                if i != j and 255 not in (classes[i], classes[j]):
                    pairs.append((min(int(affinity[i, j] * 1000), 999), classes[i] == classes[j]))
    positive, negative = ([value for value, same in pairs if same == kind] for kind in (True, False))
    wins = sum((p > n) + 0.5 * (p == n) for p in positive for n in negative)
    metric = make_metric()
    scores = evaluate(metric, samples)
    assert scores == {'affinity/AUC': pytest.approx(100 * wins / len(positive) / len(negative), abs=1e-3)}
    found = metric.report['context']['affinity_pairs']
    assert found == dict(same_class=len(positive), different_class=len(negative), bins=1000)
    json.dumps(metric.report)


def test_affinity_without_pairs_of_both_kinds_has_no_score():
    truth = torch.zeros(2, 2, dtype=torch.long)
    metric = make_metric()
    assert evaluate(metric, [make_sample(truth, [0, 0, 0], affinity=(torch.rand(1, 4, 4), (2, 2)))]) == {}
    assert metric.report['context']['affinity_pairs']['same_class'] == 12


def test_map_worked_by_hand():
    samples = [
        make_sample(labels=[1, 0, 0], scores=[0.9, 0.2, 0.3]),
        make_sample(labels=[0, 1, 0], scores=[0.95, 0.8, 0.3]),
    ]
    # Of two pictures one is in front by chance half of the time: (1 + 1/2) / 2.
    assert evaluate(make_metric(), samples) == {'cls/mAP': 75.0, 'cls/chance': 75.0}


def test_pictures_without_masks_count_for_the_classifier_only():
    samples = make_samples()
    expected = evaluate(make_metric(), samples)
    blind = make_samples(2, truth=None, scores=[0.5, 0.5, 0.5])
    metric = make_metric()
    scores = evaluate(metric, [*samples, *blind])
    of_pixels = [{k: v for k, v in found.items() if not k.startswith('cls/')} for found in (scores, expected)]
    assert of_pixels[0] == of_pixels[1]
    assert scores['cls/mAP'] != expected['cls/mAP']
    assert metric.report['context']['pictures'] == 6 and metric.report['context']['pictures_with_masks'] == 4


def test_nothing_but_pictures():
    metric = make_metric()
    assert evaluate(metric, [make_sample(cam=torch.randn(3, 4, 4), scores=[0.1, 0.2, 0.3])]) == {}
    json.dumps(metric.report)


def test_order_and_batches_do_not_matter():
    samples = make_samples(5)
    assert evaluate(make_metric(), samples) == evaluate(make_metric(), samples[::-1], batch=1)


def test_report_is_json_with_its_context():
    metric = make_metric('seg', None, scales=(0.5, 1.0), flip=True)
    scores = evaluate(metric, make_samples())
    report = json.loads(json.dumps(metric.report))
    assert report['metrics'] == scores
    assert all(type(value) is float for value in scores.values())
    for part in ('cam', 'seg', 'pseudo'):
        assert list(report[part]['iou']) == list(CLASSES)
        assert report[part]['mIoU'] == scores[f'{part}/mIoU']
        values = [value for value in report[part]['iou'].values() if value is not None]
        assert np.mean(values) == pytest.approx(report[part]['mIoU'], abs=1e-3)
    context = report['context']
    assert context['scales'] == [0.5, 1.0] and context['flip'] is True and context['crf'] is False
    assert context['pseudo_label'] == dict(source='seg', threshold=None)


def test_class_that_does_not_occur_is_null():
    metric = make_metric('seg', None)
    seg = torch.zeros(4, 2, 2)
    seg[0] = 1
    evaluate(metric, [make_sample(torch.zeros(2, 2, dtype=torch.long), [0, 0, 0], seg=seg)])
    assert metric.report['seg']['iou'] == {'background': 100.0, 'cow': None, 'sheep': None, 'car': None}
    assert json.dumps(metric.report, allow_nan=False)


def test_class_out_of_range_is_named():
    with pytest.raises(UserError, match=r'mask of `5\.jpg` holds class 4.*0 to 3.*prepare_data\.py check'):
        evaluate(make_metric(), [make_sample(torch.full((2, 2), 4), [0, 0, 0], name='5.jpg')])


def test_a_model_that_says_nothing_stands_for_its_segmentation():
    metric = WSSSMetric()
    metric.dataset_meta = dict(classes=CLASSES)
    samples = make_samples()
    for batch in samples:
        metric.process(None, [batch.to_dict()])
    scores = metric.evaluate(len(samples))
    assert metric.report['context']['pseudo_label'] == dict(source='seg', threshold=None)
    assert scores['pseudo/mIoU'] == evaluate(make_metric('seg', None), samples)['pseudo/mIoU']


def test_results_of_a_picture_are_small_with_many_classes():
    """Dense matrices of 81 classes at 19 thresholds are a megabyte a picture; COCO has tens of thousands."""
    metric = make_metric()
    metric.dataset_meta = dict(classes=tuple(str(c) for c in range(81)))
    sample = make_sample(
        torch.randint(0, 3, (40, 40)), [1.0] * 3 + [0.0] * 77, torch.randn(80, 40, 40), scores=[0.5] * 80
    )
    metric.process(None, packed(metric, [sample]))

    def size(value):
        if isinstance(value, np.ndarray):
            return value.nbytes
        if isinstance(value, dict):
            value = value.values()
        return sum(map(size, value)) if hasattr(value, '__iter__') and not isinstance(value, str) else 8

    assert size(metric.results) < 20_000


def test_segmentation_cut_at_thresholds_equals_a_slow_loop():
    metric, samples = make_metric('seg', None), make_samples()
    scores = evaluate(metric, samples)
    for threshold in (0.05, 0.3, 0.95):
        total = 0
        for sample in samples:
            labels, truth = sample.gt_image_labels.multi_hot, sample.gt_sem_seg.data[0].numpy()
            probs = sample.seg_logits.data.softmax(dim=0).numpy()
            probs = probs * np.array([1, *labels])[:, None, None]
            probs = probs / probs.sum(axis=0)
            label = np.zeros_like(truth)
            for place in np.ndindex(truth.shape):
                best = probs[(slice(1, None), *place)].argmax()
                label[place] = best + 1 if probs[(best + 1, *place)] > threshold else 0
            total = total + confusion_matrix(label, truth, len(CLASSES))
        assert scores[f'pseudo/mIoU@{threshold:.2f}'] == pytest.approx(100 * mean_iou(total), abs=1e-3)
    assert not any(name.startswith('pseudo/mIoU@') for name in evaluate(make_metric('cam', 0.3), samples))
    assert 'cut' not in metric.report and 'cut' not in metric.pictures[0]
