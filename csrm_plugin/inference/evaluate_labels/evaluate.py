"""The report of a folder of label maps, of CAMs, or of both."""

import os.path as osp
import sys
from collections.abc import Iterable, Sequence

import numpy as np

from csrm_plugin.datasets import (
    label_folder,
    voc_layout,
)
from csrm_plugin.inference.evaluate_labels.classes import find_classes, numbered
from csrm_plugin.inference.evaluate_labels.counting import count_pictures, make_plan
from csrm_plugin.inference.evaluate_labels.scores import (
    mean_percent,
    rates_of,
    require_pixels,
    score_confusion,
    with_uncertain,
)
from csrm_plugin.inference.evaluate_labels.thresholds import fixed_threshold, parse_thresholds
from csrm_plugin.utils import MissingFileError, UserError
from csrm_plugin.utils.label_sources import CAM_SOURCES

#: What a number stands on, taken from the settings in `labels.json`; None where it is not known.
CONTEXT_KEYS = (
    'source',
    'scales',
    'flip',
    'crf',
    'threshold',
    'threshold_chosen_on',
    'bg_threshold',
    'own_views',
    'restricted',
    'sepl',
    'weights',
    'segmentation',
    'config',
    'checkpoint',
)

UNCERTAIN_POLICY = (
    'a pixel predicted as 255 is a miss of its true class and no false positive of any class; '
    'a pixel whose truth is 255 is not counted'
)

FROM_TRUTH = 'ground truth'


def evaluate_label_folder(
    pred_dir: str,
    gt_dir: str,
    split_file: str,
    classes: str | Sequence[str] | None = None,
    thresholds: str | Iterable[float] | None = None,
    threshold: float | None = None,
    workers: int = 0,
    suffix: str = '.png',
    gt_suffix: str = '.png',
) -> dict:
    """Score the pictures of a split.

    With ``thresholds``, ``pred_dir`` or ``pred_dir/cams`` holds ``<id>.npz`` with ``cams``, (n, H, W) float16 in 0..1,
    and ``classes``, (n,) int64, image classes from 0. A pixel's label is the class of the highest CAM where that is
    above the background score, else background. Where label maps of all pictures are there too, the scores are theirs
    and the CAMs give the curve; otherwise the scores are those of the CAMs at ``threshold``, or else at the best one.

    Args:
        pred_dir (str): Folder of label maps ``<id>.png``, 0..K-1, 255 uncertain.
        gt_dir (str): Folder of masks ``<id>.png``, 0..K-1, 255 not counted.
        split_file (str): Text file with one id per line.
        classes (str | Sequence[str], optional): One of :data:`KNOWN_CLASSES`, a JSON file with ``classes``, or the
            names. By default those of ``pred_dir/labels.json``, else of the label file beside ``gt_dir``; else the
            classes are numbered up to the highest value found.
        thresholds (str | Sequence[float], optional): Background scores in 0..1, as ``start:stop:step`` or one by one.
        threshold (float, optional): The background score fixed beforehand, in 0..1; by default that of `labels.json`.
        workers (int): Number of processes; 0 works in this one.
        suffix (str): Ending of the label maps.
        gt_suffix (str): Ending of the masks.

    Returns:
        dict: ``miou``, ``iou``, ``precision``, ``recall``, ``fp``, ``fn``, ... as in :func:`score_confusion`, with
        ``curve``, ``best`` and ``fixed`` where there are thresholds, and ``context``: what the numbers stand on.

    Raises:
        MissingFileError: If predictions, masks or lists are missing.
        UserError: If a file cannot be read or does not fit, or a setting is out of range.
    """
    ids = _read_ids(split_file)
    grid = None if thresholds is None else parse_thresholds(thresholds)
    manifest = label_folder.read_manifest(pred_dir) or {}
    settings = _settings(manifest, pred_dir)
    fixed = fixed_threshold(threshold, settings, grid, pred_dir)
    names, classes_from = find_classes(classes, manifest, pred_dir, gt_dir, split_file)
    plan = make_plan(pred_dir, gt_dir, ids, grid, fixed, names, suffix, gt_suffix)
    counts = count_pictures(plan, ids, workers)
    if names is None:
        names = numbered(counts)
        print(
            f'note: class names are not known, so there are {len(names)} classes up to the highest value found '
            '(--classes names them)',
            file=sys.stderr,
        )
    require_pixels(counts.counted)
    curve = _curve_report(plan, counts, grid, fixed) if grid else {}
    matrix, chosen = _main_matrix(plan, counts, len(names), curve, settings['source'])
    context = dict(
        pred_dir=str(pred_dir),
        gt_dir=str(gt_dir),
        split=voc_layout.split_name(str(split_file)),
        split_file=str(split_file),
        pictures=len(ids),
        classes=list(names),
        classes_from=classes_from,
        unit='percent',
        uncertain=UNCERTAIN_POLICY,
        settings=manifest.get('settings'),
        **{**settings, **chosen},
    )
    return {**score_confusion(matrix, names, counts.ignored), **curve, 'context': context}


def _read_ids(split_file):
    if not osp.isfile(split_file):
        raise MissingFileError(f'--split-file: `{split_file}` is no file; it should hold one picture id per line')
    try:
        return voc_layout.read_split(str(split_file))
    except UnicodeDecodeError as error:
        raise UserError(f'--split-file: `{split_file}` is no text file with one picture id per line') from error


def _settings(manifest, pred_dir):
    """What `labels.json` says about how the labels were made; None for what it does not say."""
    settings = manifest.get('settings', {})
    if not isinstance(settings, dict):
        raise UserError(f'`settings` in `{osp.join(pred_dir, label_folder.MANIFEST)}` must be a JSON object')
    return {key: settings.get(key, manifest.get(key)) for key in CONTEXT_KEYS}


def _curve_report(plan, counts, grid, fixed):
    rates = rates_of(with_uncertain(counts.curve))
    exact = dict(zip(plan.thresholds, np.nanmean(rates['iou'], axis=1)))
    points = {
        threshold: dict(
            threshold=threshold,
            miou=mean_percent(rates['iou'][t]),
            fp=mean_percent(rates['fp'][t]),
            fn=mean_percent(rates['fn'][t]),
        )
        for t, threshold in enumerate(plan.thresholds)
    }
    best = max(grid, key=exact.get)  # the lowest of equally good ones
    return dict(
        curve=[points[threshold] for threshold in grid],
        best=dict(threshold=best, miou=points[best]['miou'], chosen_with=FROM_TRUTH),
        fixed=fixed and dict(threshold=fixed[0], miou=points[fixed[0]]['miou'], chosen_with=fixed[1]),
    )


def _main_matrix(plan, counts, num_classes, curve, source):
    """The matrix (K, K + 1) that the scores are from, and what is to be said about it in the context."""
    if plan.use_labels:
        columns = [*range(num_classes), voc_layout.IGNORE_INDEX]
        return counts.labels[:num_classes, columns], dict(scores_of='label maps')
    chosen = curve['fixed'] or curve['best']
    matrix = counts.curve[plan.thresholds.index(chosen['threshold'])]
    # CAMs are saved before dCRF, SEPL and the making of labels by two thresholds, whatever the label maps went through.
    # Beside labels from the segmentation they are the plain ones.
    said = dict(source=source) if source in CAM_SOURCES else dict(source='cam', segmentation=None)
    said |= dict(
        scores_of='CAMs',
        crf=False,
        sepl=None,
        bg_threshold=None,
        threshold=chosen['threshold'],
        threshold_chosen_with=chosen['chosen_with'],
    )
    if chosen['chosen_with'] != label_folder.MANIFEST:
        said['threshold_chosen_on'] = None
    return with_uncertain(matrix), said
