"""The metric of weakly supervised segmentation: CAMs, segmentation, pseudo labels and classification at once."""

from collections.abc import Sequence

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger
from mmseg.registry import METRICS
from mmseg.structures import SegDataSample
from prettytable import PrettyTable

from csrm_plugin.evaluation.affinity import affinity_histograms, grid_classes, histogram_auc
from csrm_plugin.evaluation.confusion import (
    CAM_THRESHOLDS,
    background_mean_iou,
    cam_confusion,
    confusion_matrix,
    iou,
    mean_iou,
)
from csrm_plugin.evaluation.multi_label import chance_mean_average_precision, mean_average_precision
from csrm_plugin.functional import normalize_cam, restrict_probs, threshold_cams
from csrm_plugin.utils import IGNORE_INDEX, UserError
from csrm_plugin.utils.pictures import picture_id
from csrm_plugin.utils.text import cell, percent

#: Where the maps of each source are in a data sample.
_FIELDS = {'cam': 'cam_logits', 'seg': 'seg_logits', 'propagated': 'propagated_cam'}
#: What is kept of a picture beside counts of pixels.
ASIDE = ('cls', 'recipe')


@METRICS.register_module()
class WSSSMetric(BaseMetric):
    """``cam/mIoU``, ``seg/mIoU``, ``pseudo/mIoU``, ``cls/mAP`` and ``affinity/AUC``, in percent, with their context.

    - ``cam/mIoU``: CAMs (Eq. 2) restricted to the image-level labels, no CRF, at the best of the thresholds 0.05 to
      0.95. The best one is chosen with the masks; ``cam/threshold`` says which.
    - ``seg/mIoU``: argmax of the segmentation branch over all classes.
    - ``pseudo/mIoU``: labels as the model says (``model.test_cfg.pseudo_label``, which comes with each prediction; the
      segmentation, of a model that says nothing), restricted to the image-level labels, at a fixed threshold. For
      labels from the segmentation also ``pseudo/mIoU@t``: foreground where the probability of its class is above t,
      as a CAM is cut at t (how little t matters there is what Figure 2 of CSRM shows); for labels from propagated CAMs
      as well: what they score at threshold t, to be compared with ``cam/mIoU@t``.
    - ``cls/mAP``: mean average precision of the classifier.
    - What a network that has learnt nothing gets on the same pictures, to judge the others by: ``cls/chance``, the mAP
      of scores without meaning, and ``seg/background_only`` and ``cam/background_only``, the mIoU of background
      everywhere. ``seg/foreground`` and ``seg/largest`` (``cam/...`` at the best threshold) are the shares of pixels
      predicted as objects, and as the most frequent class.
    - ``affinity/AUC``: how often two positions of one class have more affinity than two of different classes: area
      under the ROC curve over all pairs within a picture, see :mod:`csrm_plugin.evaluation.affinity`. Masks only.

    Pictures without a mask count for ``cls/mAP`` only; parts that a model does not predict are left out. The last
    result with its per-class scores and its context is kept in :attr:`report`, that of each picture in
    :attr:`pictures`.

    Args:
        thresholds (Sequence[float]): Ascending background scores for ``cam/mIoU`` and the curves.
        scales (Sequence[float]), flip (bool): What the test pipeline does; part of the context.
        collect_device (str): ``'cpu'`` or ``'gpu'``.
        prefix (str, optional): Put before each name.
    """

    default_prefix = ''  # the names say what they belong to

    def __init__(
        self,
        thresholds: Sequence[float] = CAM_THRESHOLDS,
        scales: Sequence[float] = (1.0,),
        flip: bool = False,
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.thresholds = tuple(thresholds)
        self.scales, self.flip = tuple(scales), flip
        self.report: dict = {}
        self.pictures: list[dict] = []

    @torch.no_grad()
    def process(self, data_batch: object, data_samples: Sequence[dict]) -> None:
        """Count the pixels of a batch; ``data_samples`` are dicts with predictions, labels and masks."""
        for sample in data_samples:
            result = {'recipe': recipe_of(sample)}
            labels = sample['gt_image_labels']['multi_hot'].cpu() if 'gt_image_labels' in sample else None
            if labels is not None and 'pred_image_labels' in sample:
                scores = sample['pred_image_labels']['scores']
                result['cls'] = (scores.float().cpu().numpy(), labels.numpy())
            if 'gt_sem_seg' in sample and 'data' in sample['gt_sem_seg']:
                truth = sample['gt_sem_seg']['data'].squeeze(0).cpu().numpy()
                result.update(self._pixel_counts(sample, labels, truth))
            packed = {name: _pack(value) if name not in ASIDE else value for name, value in result.items()}
            self.results.append({'id': picture_id(sample), **packed})

    def _pixel_counts(self, sample, labels, truth) -> dict:
        counts = {}
        self._check_truth(truth, sample)
        num_classes = len(self.dataset_meta['classes'])
        source, threshold = recipe_of(sample)
        if 'affinity' in sample:
            affinity = sample['affinity']['data'].squeeze(0).float().cpu().numpy()
            classes = grid_classes(truth, sample['affinity']['grid'], sample)
            counts['affinity'] = affinity_histograms(affinity, classes)
        if 'seg_logits' in sample:
            logits = sample['seg_logits']['data'].float()
            counts['seg'] = confusion_matrix(logits.argmax(dim=0).cpu().numpy(), truth, num_classes)
            if source == 'seg' and labels is not None:
                probs = restrict_probs(logits.softmax(dim=0)[None], labels[None])[0]
                counts['pseudo'] = confusion_matrix(probs.argmax(dim=0).cpu().numpy(), truth, num_classes)
                counts['cut'] = cam_confusion(probs[1:].cpu().numpy(), truth, self.thresholds)
        if 'cam_logits' in sample and labels is not None:
            cams = sample['cam_logits']['data']
            probs = normalize_cam(cams[None], labels=labels[None])[0].cpu().numpy()
            counts['cam'] = cam_confusion(probs, truth, self.thresholds)
            if source == 'cam':
                counts['pseudo'] = cam_confusion(probs, truth, [threshold])[0]
        if source == 'propagated' and 'propagated_cam' in sample and labels is not None:
            probs = normalize_cam(sample['propagated_cam']['data'][None], labels=labels[None])[0].cpu().numpy()
            counts['pseudo'] = cam_confusion(probs, truth, [threshold])[0]
            counts['cut'] = cam_confusion(probs, truth, self.thresholds)
        return counts

    @torch.no_grad()
    def pseudo_labels(self, sample: SegDataSample | dict) -> np.ndarray | None:
        """The pseudo labels that are scored, of one picture.

        Args:
            sample (SegDataSample | dict): A prediction, at the original size of its picture, with image-level labels.

        Returns:
            np.ndarray | None: (H, W), int64, 0..K-1; None where the model predicts nothing to make them from.
        """
        source, threshold = recipe_of(sample)
        if _FIELDS[source] not in sample or 'gt_image_labels' not in sample:
            return None
        labels = _get(sample, 'gt_image_labels', 'multi_hot').cpu()[None]
        maps = _get(sample, _FIELDS[source], 'data').float().cpu()[None]
        if source == 'seg':
            return restrict_probs(maps.softmax(dim=1), labels)[0].argmax(dim=0).numpy()
        return threshold_cams(normalize_cam(maps, labels=labels)[0].numpy(), threshold).astype(np.int64)

    def _check_truth(self, truth, sample) -> None:
        classes = len(self.dataset_meta['classes'])
        wrong = truth[(truth >= classes) & (truth != IGNORE_INDEX)]
        if wrong.size:
            raise UserError(
                f'The mask of `{sample.get("img_path")}` holds class {int(wrong[0])}, but the data set has classes 0 '
                f'to {classes - 1} (and {IGNORE_INDEX}). Check it with `tools/prepare_data.py check`.'
            )

    def compute_metrics(self, results: list[dict]) -> dict:
        """Scores over all pictures, in percent."""
        metrics, report = {}, {'context': self._context(results)}
        classes = self.dataset_meta['classes']
        total = {
            name: _packed_sum([r[name] for r in results if name in r])
            for name in ('cam', 'seg', 'pseudo', 'cut', 'affinity')
            if any(name in r for r in results)
        }
        self._score_affinity(total, metrics, report['context'])
        if 'cam' in total:
            curve = 100 * mean_iou(total['cam'])
            best = int(curve.argmax())
            metrics['cam/mIoU'] = curve[best]
            metrics['cam/threshold'] = self.thresholds[best]
            for threshold, value in zip(self.thresholds, curve):
                metrics[f'cam/mIoU@{threshold:.2f}'] = value
            total['cam'] = total['cam'][best]
        if 'cut' in total:
            for threshold, value in zip(self.thresholds, 100 * mean_iou(total.pop('cut'))):
                metrics[f'pseudo/mIoU@{threshold:.2f}'] = value
        self.pictures = [_picture_scores(result, best if 'cam' in total else None) for result in results]
        for name in ('seg', 'pseudo'):
            if name in total:
                metrics[f'{name}/mIoU'] = 100 * mean_iou(total[name])
        for name in ('cam', 'seg'):
            if name in total:
                metrics.update(_signs_of_collapse(name, total[name]))
        scored = [r['cls'] for r in results if 'cls' in r]
        if scored:
            scores, labels = (np.stack(column) for column in zip(*scored))
            metrics['cls/mAP'] = 100 * mean_average_precision(scores, labels)
            metrics['cls/chance'] = 100 * chance_mean_average_precision(labels)
        metrics = {name: round(float(value), 4) for name, value in metrics.items()}
        for name, matrix in total.items():
            report[name] = {
                'mIoU': metrics[f'{name}/mIoU'],
                'iou': {c: percent(value) for c, value in zip(classes, iou(matrix))},
            }
        report['metrics'] = metrics
        self.report = report
        self._log_table(report, classes)
        return metrics

    @staticmethod
    def _score_affinity(total, metrics, context) -> None:
        """Take the pairs out of ``total``: their score goes into ``metrics``, what it stands on into ``context``."""
        pairs = total.pop('affinity', None)
        if pairs is None:
            return
        different, same = pairs.sum(axis=1).tolist()
        context['affinity_pairs'] = {'same_class': same, 'different_class': different, 'bins': pairs.shape[1]}
        if same and different:
            metrics['affinity/AUC'] = 100 * histogram_auc(pairs)

    def _context(self, results) -> dict:
        return {
            'pictures': len(results),
            'pictures_with_masks': sum(bool(r.keys() - {'cls', 'id', 'recipe'}) for r in results),
            'scales': list(self.scales),
            'flip': self.flip,
            'crf': False,
            'cam_thresholds': list(self.thresholds),
            'cam_threshold_chosen_with_masks': True,
            'pseudo_label': dict(zip(('source', 'threshold'), results[0]['recipe'] if results else ('seg', None))),
        }

    @staticmethod
    def _log_table(report, classes) -> None:
        parts = [name for name in ('cam', 'pseudo', 'seg') if name in report]
        if not parts:
            return
        table = PrettyTable(['class'] + [f'{part} IoU' for part in parts])
        for name in classes:
            table.add_row([name] + [cell(report[part]['iou'][name]) for part in parts])
        table.add_row(['mean'] + [cell(report[part]['mIoU']) for part in parts])
        MMLogger.get_current_instance().info('per class, percent:\n' + table.get_string())


def recipe_of(sample: SegDataSample | dict) -> tuple[str, float | None]:
    """Source and threshold of a picture's pseudo labels, as the model says; the segmentation where it says nothing."""
    meta = sample if isinstance(sample, dict) else sample.metainfo
    recipe = meta.get('pseudo_label') or {}
    return recipe.get('source', 'seg'), recipe.get('threshold')


def _get(sample, name, part):
    """Part of an entry of a data sample, which the evaluator gives as a dict."""
    entry = sample[name] if isinstance(sample, dict) else getattr(sample, name)
    return entry[part] if isinstance(entry, dict) else getattr(entry, part)


def _signs_of_collapse(name, matrix) -> dict:
    """What tells a prediction from none, in percent, for the confusion matrix of a part."""
    columns = matrix.sum(axis=0) / max(matrix.sum(), 1)
    return {
        f'{name}/foreground': 100 * columns[1:].sum(),
        f'{name}/largest': 100 * columns.max(),
        f'{name}/background_only': 100 * background_mean_iou(matrix),
    }


def _picture_scores(result, best) -> dict:
    """Mean IoU of one picture, in percent, over the classes in its mask or its prediction.

    Args:
        result (dict): What :meth:`WSSSMetric.process` kept of the picture.
        best (int | None): Index of the CAM threshold that counts.
    """
    scores = {'id': result['id']}
    for name in ('cam', 'pseudo', 'seg'):
        if name in result:
            matrix = _packed_sum([result[name]])
            matrix = matrix[best] if name == 'cam' else matrix
            scores[name] = percent(mean_iou(matrix)) if matrix.any() else None
    return scores


def _pack(counts: np.ndarray):
    """Shape, flat index and value of what is not zero: dense, the matrices of 40000 COCO pictures take 40 GB."""
    index = np.flatnonzero(counts)
    values = counts.ravel()[index]
    small = not values.size or values.max() <= np.iinfo(np.int32).max
    return counts.shape, index.astype(np.int32), values.astype(np.int32) if small else values


def _packed_sum(packed) -> np.ndarray:
    total = np.zeros(packed[0][0], dtype=np.int64)
    for _, index, values in packed:
        total.reshape(-1)[index] += values
    return total
