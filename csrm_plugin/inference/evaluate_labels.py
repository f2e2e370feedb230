"""Scores of a folder of label maps, or of CAMs over background scores, against masks.

Pixels are counted by several processes into matrices of integers, and only their sum is looked at: the memory does not
depend on the number of pictures, the result on neither their order nor the number of processes.

Legend of shapes: H, W pixels, K segmentation classes with the background first, n classes of one picture, T background
scores. Confusion matrices have the truth in rows, the prediction in columns and, last, a column of what is uncertain.
"""

import contextlib
import json
import math
import os
import os.path as osp
import sys
import zipfile
import zlib
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from csrm_plugin.datasets import (
    COCO14WSSSDataset,
    MSRCDataset,
    SyntheticWSSSDataset,
    VOC12WSSSDataset,
    label_folder,
    voc_layout,
)
from csrm_plugin.evaluation.confusion import cam_confusion, mean_iou
from csrm_plugin.utils import MissingFileError, UserError
from csrm_plugin.utils.label_sources import CAM_SOURCES
from csrm_plugin.utils.processes import run_unordered
from csrm_plugin.utils.progress import track

#: Names for ``classes``; those of `tools/prepare_data.py` are understood as well.
KNOWN_CLASSES = {
    'voc': VOC12WSSSDataset.METAINFO['classes'],
    'coco': COCO14WSSSDataset.METAINFO['classes'],
    'msrc': MSRCDataset.METAINFO['classes'],
    'demo': SyntheticWSSSDataset.METAINFO['classes'],
}
_ALIASES = {'voc12': 'voc', 'coco14': 'coco', 'synthetic': 'demo'}

#: What a number stands on, taken from the settings in `labels.json`; None where it is not known.
CONTEXT_KEYS = (
    'source',
    'scales',
    'flip',
    'crf',
    'threshold',
    'bg_threshold',
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
_BY_CLASS = dict(iou='iou', precision='precision', recall='recall', fp_by_class='fp', fn_by_class='fn')
#: More classes than this, and the report leaves out the confusion matrix.
MAX_LISTED = 100
#: Finer steps only cost memory: one matrix is kept for each.
MAX_THRESHOLDS = 1001
#: Pictures that a process counts before it reports. Any number gives the same sums.
_CHUNK = 32
_FROM_TRUTH = 'ground truth'


def evaluate_label_folder(
    pred_dir,
    gt_dir,
    split_file,
    classes=None,
    thresholds=None,
    threshold=None,
    workers=0,
    suffix='.png',
    gt_suffix='.png',
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
    fixed = _fixed_threshold(threshold, settings, grid, pred_dir)
    names, classes_from = _find_classes(classes, manifest, pred_dir, gt_dir, split_file)
    plan = _plan(pred_dir, gt_dir, ids, grid, fixed, names, suffix, gt_suffix)
    counts = _count(plan, ids, workers)
    if names is None:
        names = _numbered(counts)
        print(
            f'note: class names are not known, so there are {len(names)} classes up to the highest value found '
            '(--classes names them)',
            file=sys.stderr,
        )
    _require_pixels(counts.counted)
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


def score_confusion(matrix: np.ndarray, names, ignored: int = 0) -> dict:
    """Scores that follow from a confusion matrix, in percent, rounded to 4 digits.

    ``fp`` and ``fn`` are the over- and under-activation rates of the literature (evaluation scripts of IRNet and
    Puzzle-CAM): false positives and false negatives over the union, so that ``iou + fp + fn`` of a class is 100.

    Args:
        matrix (np.ndarray): (K, K + 1), int64: rows are the truth, columns the prediction, the last one uncertain.
        names (Sequence[str]): K different names, the background first.
        ignored (int): Pixels that were not counted, for the report.

    Returns:
        dict: ``miou`` (mean over the classes that occur in truth or prediction), ``miou_foreground`` (the same without
        the background), ``miou_certain`` (over the pixels with a certain prediction; only where some have none),
        ``coverage`` (certain pixels), ``fp``, ``fn``, ``fp_foreground``, ``fn_foreground`` (means), ``iou``,
        ``precision``, ``recall``, ``fp_by_class``, ``fn_by_class`` (by name; None where undefined), ``pixels``
        (counts) and, up to 100 classes, ``confusion``.

    Raises:
        UserError: If no pixel is counted.
    """
    matrix = np.asarray(matrix)
    counted, uncertain = int(matrix.sum()), int(matrix[:, -1].sum())
    _require_pixels(counted)
    rates = _rates(matrix)
    report = {'miou': _mean(rates['iou']), 'miou_foreground': _mean(rates['iou'][1:])}
    if uncertain:
        report['miou_certain'] = _percent(mean_iou(matrix[:, :-1])) if uncertain < counted else None
    report['coverage'] = _percent(1 - uncertain / counted)
    for name in ('fp', 'fn'):
        report[name] = _mean(rates[name])
        report[f'{name}_foreground'] = _mean(rates[name][1:])
    for key, rate in _BY_CLASS.items():
        report[key] = {name: _percent(value) for name, value in zip(names, rates[rate])}
    report['pixels'] = _pixels(matrix, names, ignored)
    if len(names) <= MAX_LISTED:
        report['confusion'] = matrix.tolist()
    return report


def _require_pixels(counted):
    if not counted:
        raise UserError('the masks hold nothing but 255, so no pixel is counted: check GT_DIR and --split-file')


def _rates(matrix):
    """Arrays (..., K), in 0..1, NaN where undefined, from matrices (..., K, K + 1)."""
    hits = np.diagonal(matrix, axis1=-2, axis2=-1).astype(float)
    truth, predicted = matrix.sum(axis=-1), matrix[..., :-1].sum(axis=-2)
    union = truth + predicted - hits

    def over(part, whole):
        return np.divide(part, whole, out=np.full_like(hits, np.nan), where=whole > 0)

    return dict(
        iou=over(hits, union),
        precision=over(hits, predicted),
        recall=over(hits, truth),
        fp=over(predicted - hits, union),
        fn=over(truth - hits, union),
    )


def _mean(values):
    """Mean of what is defined of (K,), in percent; None where nothing is."""
    values = values[~np.isnan(values)]
    return _percent(values.mean()) if values.size else None


def _percent(value):
    return None if np.isnan(value) else round(100 * float(value), 4)


def _pixels(matrix, names, ignored):
    counted, truth, predicted = int(matrix.sum()), matrix.sum(axis=1), matrix[:, :-1].sum(axis=0)
    return dict(
        counted=counted,
        correct=int(np.trace(matrix)),
        ignored=int(ignored),
        uncertain=int(matrix[:, -1].sum()),
        truth=dict(zip(names, truth.tolist())),
        predicted=dict(zip(names, predicted.tolist())),
        foreground_truth=_percent(truth[1:].sum() / counted),
        foreground_predicted=_percent(predicted[1:].sum() / counted),
    )


def parse_thresholds(thresholds) -> tuple[float, ...]:
    """Background scores from ``start:stop:step``, the stop included, or from numbers.

    Args:
        thresholds (str | Sequence[float]): In 0..1.

    Returns:
        tuple[float, ...]: Ascending, each once.

    Raises:
        UserError: If the text has another form or a score is out of range.

    Example:
        >>> parse_thresholds('0.1:0.3:0.1')
        (0.1, 0.2, 0.3)
    """
    values = sorted({float(value) for value in (_grid(thresholds) if isinstance(thresholds, str) else thresholds)})
    wrong = [value for value in values if not 0 <= value <= 1]
    if wrong or not values:
        raise UserError(f'--thresholds must be background scores from 0 to 1, but {wrong or "there is none"}')
    if len(values) > MAX_THRESHOLDS:
        raise UserError(f'--thresholds asks for {len(values)} scores; at most {MAX_THRESHOLDS} are evaluated')
    return tuple(values)


def _grid(text):
    try:
        start, stop, step = (float(part) for part in text.split(':'))
    except ValueError:
        start = stop = step = math.nan
    if not (0 <= start <= stop <= 1 and 0 < step < math.inf):
        raise UserError(
            f'--thresholds must be start:stop:step with 0 <= start <= stop <= 1 and step > 0, for example '
            f'0.05:0.95:0.05, but is `{text}`'
        )
    # The tolerance keeps the stop, which a sum of steps may miss by a rounding error.
    steps = (stop - start) / step + 1e-6
    if steps >= MAX_THRESHOLDS:
        raise UserError(f'--thresholds: the step of `{text}` is too fine, for at most {MAX_THRESHOLDS} are evaluated')
    return [min(round(start + index * step, 10), 1.0) for index in range(math.floor(steps) + 1)]


def _fixed_threshold(threshold, settings, grid, pred_dir):
    """The background score fixed beforehand, and where it is from; None without one."""
    origin = '--threshold'
    if threshold is not None and grid is None:
        raise UserError('--threshold is the fixed background score of a curve: give --thresholds start:stop:step too')
    if grid is None:
        return None
    if threshold is None:
        threshold, origin = settings['threshold'], label_folder.MANIFEST
    if threshold is None:
        return None
    number = isinstance(threshold, (int, float, np.number)) and not isinstance(threshold, bool)
    if not number or not 0 <= threshold <= 1:
        where = origin if origin == '--threshold' else f'`threshold` in `{osp.join(pred_dir, origin)}`'
        raise UserError(f'{where} must be a background score from 0 to 1, but is {threshold!r}')
    return float(threshold), origin


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


def _find_classes(classes, manifest, pred_dir, gt_dir, split_file):
    """The K names and where they are from; (None, text) where nothing names them."""
    if classes is not None and not isinstance(classes, str):
        return _check_names(list(classes), '`classes`'), 'given'
    if classes is not None:
        name = _ALIASES.get(classes, classes)
        if name in KNOWN_CLASSES:
            return tuple(KNOWN_CLASSES[name]), f'--classes {classes}'
        if not osp.isfile(classes):
            raise MissingFileError(
                f'--classes: `{classes}` is neither one of {", ".join(KNOWN_CLASSES)} nor a JSON file with "classes"'
            )
        return _check_names(_read_classes(classes), f'--classes {classes}'), f'--classes {classes}'
    if 'classes' in manifest:
        path = osp.join(pred_dir, label_folder.MANIFEST)
        return _check_names(manifest['classes'], f'`{path}`', manifest.get('palette')), path
    root = osp.dirname(osp.abspath(gt_dir))
    path = voc_layout.find_label_file(root, voc_layout.split_name(str(split_file)))
    if path is not None:
        return _check_names(_read_classes(path), f'`{path}`'), path
    return None, 'numbered up to the highest value found'


def _read_classes(path):
    try:
        with open(path, encoding='utf-8-sig') as file:
            content = json.load(file)
    except ValueError as error:
        raise UserError(f'`{path}` is no JSON: {error}; it should hold {{"classes": [names]}}') from error
    if not isinstance(content, dict) or 'classes' not in content:
        raise UserError(f'`{path}` should hold {{"classes": [names]}}, but has no "classes"')
    return content['classes']


def _check_names(names, where, palette=None):
    """The names with the background first, which label files leave out."""
    if not isinstance(names, (list, tuple)) or not names or not all(isinstance(name, str) for name in names):
        raise UserError(f'{where}: "classes" must be a list of names, but is {names!r}')
    # With a colour for each name the background is among them, whatever it is called.
    complete = isinstance(palette, list) and len(palette) == len(names)
    if names[0] != voc_layout.BACKGROUND and not complete:
        names = [voc_layout.BACKGROUND, *names]
    if len(set(names)) != len(names) or len(names) > 255:
        raise UserError(f'{where}: "classes" must be at most 255 different names, the background among them')
    return tuple(names)


class _Plan(NamedTuple):
    """What is read and counted: the same for all pictures."""

    pred_dir: str
    gt_dir: str
    suffix: str
    gt_suffix: str
    use_labels: bool
    cam_dir: str | None
    thresholds: tuple  # T, ascending, the fixed one among them
    num_classes: int | None


class _Counts:
    """Pixels of some pictures. Sums of integers: the order in which they are added does not matter.

    Attributes:
        labels (np.ndarray): (256, 256), int64: rows are the truth, columns the label map, both with 255.
        curve (np.ndarray): (T, S, S), int64: of the CAMs; S is K where it is known, else what was needed so far.
        pictures, counted, ignored (int): Pictures, and pixels whose truth is not 255 and 255.
    """

    def __init__(self, plan):
        size = plan.num_classes or 1
        self.labels = np.zeros((256, 256), np.int64)
        self.curve = np.zeros((len(plan.thresholds), size, size), np.int64)
        self.pictures = self.counted = self.ignored = 0

    def add(self, other):
        """Add the counts of other pictures."""
        self.labels += other.labels
        self.add_curve(np.arange(other.curve.shape[1]), other.curve)
        self.pictures += other.pictures
        self.counted += other.counted
        self.ignored += other.ignored

    def add_curve(self, classes, matrices):
        """Add matrices (T, n, n) of the classes (n,), and make room for them."""
        more = max(int(classes.max()) + 1 - self.curve.shape[1], 0)
        if more:
            self.curve = np.pad(self.curve, ((0, 0), (0, more), (0, more)))
        self.curve[np.ix_(range(len(matrices)), classes, classes)] += matrices


def _plan(pred_dir, gt_dir, ids, grid, fixed, names, suffix, gt_suffix):
    """Look for all files before the first is read."""
    pred_dir, gt_dir = str(pred_dir), str(gt_dir)
    label_folder.require_files(gt_dir, ids, 'masks', gt_suffix, 'Check GT_DIR, --gt-suffix and --split-file.')
    use_labels, cam_dir, thresholds = True, None, ()
    if grid is None:
        hint = 'Check PRED_DIR, --suffix and --split-file, or make them with `tools/pseudo_labels.py`.'
        if _cam_folder(pred_dir, ids)[1] == 0:
            hint = 'There are CAMs, though: --thresholds start:stop:step scores them.'
        label_folder.require_files(pred_dir, ids, 'predictions', suffix, hint)
    else:
        cam_dir, missing = _cam_folder(pred_dir, ids)
        if missing or not osp.isdir(cam_dir):
            label_folder.require_files(cam_dir, ids, 'CAMs', '.npz', '`tools/pseudo_labels.py --save-cams` makes them.')
        lacking = len(voc_layout.missing_files(pred_dir, ids, suffix))
        use_labels = not lacking
        if 0 < lacking < len(ids):
            print(
                f'note: {lacking} of {len(ids)} label maps are not in {pred_dir}; the scores are those of the CAMs',
                file=sys.stderr,
            )
        thresholds = tuple(sorted({*grid, fixed[0]} if fixed else grid))
    num_classes = None if names is None else len(names)
    return _Plan(pred_dir, gt_dir, suffix, gt_suffix, use_labels, cam_dir, thresholds, num_classes)


def _cam_folder(pred_dir, ids):
    """Where the CAMs are, and how many are missing there."""
    folders = [folder for folder in (osp.join(pred_dir, 'cams'), pred_dir) if osp.isdir(folder)] or [pred_dir]
    missing = [len(voc_layout.missing_files(folder, ids, '.npz')) for folder in folders]
    best = int(np.argmin(missing))
    return folders[best], missing[best]


def _count(plan, ids, workers):
    """Count all pictures, in ``workers`` processes."""
    size = max(1, min(_CHUNK, math.ceil(len(ids) / max(workers, 1))))
    tasks = [(plan, ids[start : start + size]) for start in range(0, len(ids), size)]
    total = _Counts(plan)

    def counted():
        for part in run_unordered(_count_chunk, tasks, min(workers, len(tasks))):
            total.add(part)
            yield from range(part.pictures)

    # Closing it stops the processes at once where something goes wrong here.
    with contextlib.closing(counted()) as pictures:
        for _ in track(pictures, len(ids), 'scoring'):
            pass
    return total


def _count_chunk(task):
    """Counts of a few pictures; runs in another process."""
    plan, ids = task
    counts = _Counts(plan)
    for image_id in ids:
        _count_picture(plan, image_id, counts)
    return counts


def _count_picture(plan, image_id, counts):
    """Add the pixels of a picture to ``counts``."""
    mask_path = osp.join(plan.gt_dir, image_id + plan.gt_suffix)
    truth = label_folder.read_label_png(mask_path, plan.num_classes)
    if plan.use_labels:
        path = osp.join(plan.pred_dir, image_id + plan.suffix)
        prediction = label_folder.read_label_png(path, plan.num_classes)
        _check_size(path, prediction.shape, mask_path, truth.shape)
        index = truth.astype(np.intp) * 256 + prediction
        counts.labels += np.bincount(index.ravel(), minlength=256 * 256).reshape(256, 256)
    if plan.cam_dir is not None:
        path = osp.join(plan.cam_dir, image_id + '.npz')
        cams, labels = _read_cams(path, plan.num_classes)
        _check_size(path, cams.shape[1:], mask_path, truth.shape)
        counts.add_curve(*_cam_counts(cams, labels, truth, plan.thresholds))
    counts.pictures += 1
    counts.ignored += np.count_nonzero(truth == voc_layout.IGNORE_INDEX)
    counts.counted += np.count_nonzero(truth != voc_layout.IGNORE_INDEX)


def _check_size(path, size, mask_path, mask_size):
    if tuple(size) != tuple(mask_size):
        raise UserError(
            f'`{path}` has {size[1]} x {size[0]} pixels (width x height), but its mask `{mask_path}` has '
            f'{mask_size[1]} x {mask_size[0]}: one of them belongs to another picture, or was scaled'
        )


def _read_cams(path, num_classes):
    """Maps (n, H, W), float32, and the labels (n,) that they stand for, ascending, from 1."""
    try:
        with np.load(path) as content:
            cams, classes = content['cams'], content['classes']
    except KeyError as error:
        raise UserError(f'CAMs `{path}` must hold `cams` and `classes`, but: {error.args[0]}') from error
    except (OSError, ValueError, EOFError, TypeError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f'CAMs `{path}` cannot be read ({error}); truncated or no npz: make them again') from error
    if cams.ndim != 3 or cams.dtype.kind != 'f' or classes.shape != cams.shape[:1] or classes.dtype.kind not in 'iu':
        raise UserError(
            f'CAMs `{path}` must hold `cams` (n, H, W) of floats and `classes` (n,) of integers, but hold '
            f'{cams.shape} {cams.dtype} and {classes.shape} {classes.dtype}'
        )
    # float32 holds each float16 exactly, so that a score is compared with the threshold and not with its float16.
    cams, highest = cams.astype(np.float32), (num_classes or 255) - 2
    if cams.size and not (cams.min() >= 0 and cams.max() <= 1):  # also refuses NaN
        raise UserError(f'CAMs `{path}` must be scores from 0 to 1, but go from {cams.min()} to {cams.max()}')
    if len(set(classes.tolist())) != len(classes) or any(not 0 <= value <= highest for value in classes):
        raise UserError(
            f'CAMs `{path}` are of the image classes {classes.tolist()}, which must be different and from 0 to '
            f'{highest}: they belong to another data set, or the classes given are not theirs'
        )
    order = np.argsort(classes)
    return cams[order], classes[order].astype(np.intp) + 1


def _cam_counts(cams, labels, truth, thresholds):
    """Confusion matrices of one picture, for the few classes only that it has, as a CAM or in its mask.

    Args:
        cams (np.ndarray): (n, H, W), float32, in 0..1.
        labels (np.ndarray): (n,), ascending, from 1: the classes of the maps.
        truth (np.ndarray): (H, W), uint8, 255 not counted.
        thresholds (Sequence[float]): T ascending background scores.

    Returns:
        tuple[np.ndarray, np.ndarray]: The classes (m,), the background first, and the matrices (T, m, m), int64.
    """
    found = np.flatnonzero(np.bincount(truth.ravel(), minlength=256)[: voc_layout.IGNORE_INDEX])
    others = np.setdiff1d(found, [0, *labels])
    classes = np.concatenate([[0], labels, others]).astype(np.intp)
    if len(classes) == 1:
        return classes, np.full((len(thresholds), 1, 1), np.count_nonzero(truth == 0), np.int64)
    # A class without a CAM has the score 0, which is above no threshold: it is never predicted.
    maps = np.concatenate([cams, np.zeros((len(others), *truth.shape), np.float32)])
    place = np.full(256, voc_layout.IGNORE_INDEX, np.uint8)
    place[classes] = np.arange(len(classes))
    return classes, cam_confusion(maps, place[truth], thresholds)


def _numbered(counts):
    """Names of the classes up to the highest value seen."""
    seen = counts.labels[:, :255].any(axis=0) | counts.labels[:255].any(axis=1)
    highest = max(int(np.flatnonzero(seen).max(initial=0)), counts.curve.shape[1] - 1)
    return (voc_layout.BACKGROUND, *(f'class_{index}' for index in range(1, highest + 1)))


def _with_uncertain(matrix):
    """Matrices (..., K, K) of predictions that are all certain, as (..., K, K + 1)."""
    return np.concatenate([matrix, np.zeros_like(matrix[..., :1])], axis=-1)


def _curve_report(plan, counts, grid, fixed):
    rates = _rates(_with_uncertain(counts.curve))
    exact = dict(zip(plan.thresholds, np.nanmean(rates['iou'], axis=1)))
    points = {
        threshold: dict(
            threshold=threshold, miou=_mean(rates['iou'][t]), fp=_mean(rates['fp'][t]), fn=_mean(rates['fn'][t])
        )
        for t, threshold in enumerate(plan.thresholds)
    }
    best = max(grid, key=exact.get)  # the lowest of equally good ones
    return dict(
        curve=[points[threshold] for threshold in grid],
        best=dict(threshold=best, miou=points[best]['miou'], chosen_with=_FROM_TRUTH),
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
    return _with_uncertain(matrix), said


def require_writable(path, setting: str) -> None:
    """Say before the work, not after it, that a result could not be written.

    Args:
        path (str): The file that is to be written; missing parent folders will be made.
        setting (str): Where it was asked for, for the message.

    Raises:
        UserError: If it is a folder, or the folder to write to is none or is write-protected.
    """
    if osp.isdir(path):
        raise UserError(f'{setting}: `{path}` is a folder: give the name of a file')
    folder = osp.dirname(osp.abspath(path))
    while not osp.lexists(folder):
        folder = osp.dirname(folder)
    if not osp.isdir(folder) or not os.access(folder, os.W_OK | os.X_OK):
        reason = 'is write-protected' if osp.isdir(folder) else 'is no folder'
        raise UserError(f'{setting}: `{path}` cannot be written, for `{folder}` {reason}')


def print_report(report: dict, console: Console) -> None:
    """Print what :func:`evaluate_label_folder` found: a table of classes, what it stands on, and the curve."""
    console.print(_class_table(report))
    for line in _context_lines(report):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if 'curve' in report:
        console.print(_curve_table(report))
        for line in _curve_lines(report):
            console.print(line, markup=False, highlight=False, soft_wrap=True)


def _class_table(report):
    table = Table()
    table.add_column('class, percent')
    columns = dict(IoU='iou', precision='precision', recall='recall', FP='fp_by_class', FN='fn_by_class')
    for title in columns:
        table.add_column(title, justify='right')
    for name in report['context']['classes']:
        table.add_row(escape(name), *(_cell(report[key][name]) for key in columns.values()))
    table.add_section()
    for name, end in (('mean', ''), ('mean without background', '_foreground')):
        table.add_row(name, _cell(report[f'miou{end}']), '', '', _cell(report[f'fp{end}']), _cell(report[f'fn{end}']))
    return table


def _context_lines(report):
    context, pixels = report['context'], report['pixels']
    yield f'mIoU {_cell(report["miou"])} % ({context["scores_of"]})'
    yield f'split: {context["split"]} ({context["split_file"]}), {context["pictures"]} pictures'
    yield f'predictions: {context["pred_dir"]}; masks: {context["gt_dir"]}'
    chosen = context.get('threshold_chosen_with')
    threshold = _said(context['threshold']) + (f' (from {chosen})' if chosen else '')
    yield (
        f'source: {_said(context["source"])}, scales: {_said(context["scales"])}, flip: {_said(context["flip"])}, '
        f'CRF: {_said(context["crf"])}, threshold: {threshold}, weights: {_said(context["weights"])}'
    )
    if context['segmentation']:
        yield f'segmentation: {context["segmentation"]}'
    if context['sepl']:
        yield f'SEPL: {context["sepl"]}'
    yield f'config: {_said(context["config"])}, checkpoint: {_said(context["checkpoint"])}'
    yield (
        f'pixels: {pixels["counted"]} counted, {pixels["ignored"]} with truth 255 ignored, foreground '
        f'{_cell(pixels["foreground_predicted"])} % predicted, {_cell(pixels["foreground_truth"])} % true'
    )
    if pixels['uncertain']:
        yield (
            f'uncertain (255): {pixels["uncertain"]} pixels, counted as misses; coverage '
            f'{_cell(report["coverage"])} %, mIoU over the certain pixels {_cell(report["miou_certain"])} %'
        )


def _curve_table(report):
    table = Table()
    for title in ('threshold of the CAMs', 'mIoU', 'FP', 'FN'):
        table.add_column(title, justify='right')
    for point in report['curve']:
        table.add_row(f'{point["threshold"]:g}', *(_cell(point[key]) for key in ('miou', 'fp', 'fn')))
    return table


def _curve_lines(report):
    best, fixed = report['best'], report['fixed']
    yield 'curve: CAMs of the classes that are saved, without CRF; percent'
    yield (
        f'best threshold {best["threshold"]:g}: mIoU {_cell(best["miou"])} %. It was chosen with the ground truth, and '
        'is not a result that one could have had without masks.'
    )
    if fixed is None:
        yield 'No threshold was fixed beforehand; --threshold gives one.'
    else:
        yield f'fixed threshold {fixed["threshold"]:g} (from {fixed["chosen_with"]}): mIoU {_cell(fixed["miou"])} %'


def _said(value):
    if value is None:
        return 'not known'
    return ('no', 'yes')[value] if isinstance(value, bool) else str(value)


def _cell(value):
    return '-' if value is None else f'{value:.2f}'
