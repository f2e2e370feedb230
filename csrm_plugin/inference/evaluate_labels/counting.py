"""Pixels of many pictures, counted by several processes into matrices of integers.

Only their sum is looked at: the memory does not depend on the number of pictures, the result on neither their order nor
the number of processes.
"""

import contextlib
import math
import os.path as osp
import sys
import zipfile
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from csrm_plugin.datasets import (
    label_folder,
    voc_layout,
)
from csrm_plugin.evaluation.confusion import cam_confusion
from csrm_plugin.utils import UserError
from csrm_plugin.utils.processes import run_unordered
from csrm_plugin.utils.progress import track

#: Pictures that a process counts before it reports. Any number gives the same sums.
_CHUNK = 32


class Plan(NamedTuple):
    """What is read and counted: the same for all pictures."""

    pred_dir: str
    gt_dir: str
    suffix: str
    gt_suffix: str
    use_labels: bool
    cam_dir: str | None
    thresholds: tuple  # T, ascending, the fixed one among them
    num_classes: int | None


class Counts:
    """Pixels of some pictures. Sums of integers: the order in which they are added does not matter.

    Attributes:
        labels (np.ndarray): (256, 256), int64: rows are the truth, columns the label map, both with 255.
        curve (np.ndarray): (T, S, S), int64: of the CAMs; S is K where it is known, else what was needed so far.
        pictures, counted, ignored (int): Pictures, and pixels whose truth is not 255 and 255.
    """

    def __init__(self, plan: Plan) -> None:
        size = plan.num_classes or 1
        self.labels = np.zeros((256, 256), np.int64)
        self.curve = np.zeros((len(plan.thresholds), size, size), np.int64)
        self.pictures = self.counted = self.ignored = 0

    def add(self, other: 'Counts') -> None:
        """Add the counts of other pictures."""
        self.labels += other.labels
        self.add_curve(np.arange(other.curve.shape[1]), other.curve)
        self.pictures += other.pictures
        self.counted += other.counted
        self.ignored += other.ignored

    def add_curve(self, classes: np.ndarray, matrices: np.ndarray) -> None:
        """Add matrices (T, n, n) of the classes (n,), and make room for them."""
        more = max(int(classes.max()) + 1 - self.curve.shape[1], 0)
        if more:
            self.curve = np.pad(self.curve, ((0, 0), (0, more), (0, more)))
        self.curve[np.ix_(range(len(matrices)), classes, classes)] += matrices


def make_plan(
    pred_dir: str,
    gt_dir: str,
    ids: Sequence[str],
    grid: Sequence[float] | None,
    fixed: tuple[float, str] | None,
    names: Sequence[str] | None,
    suffix: str,
    gt_suffix: str,
) -> Plan:
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
    return Plan(pred_dir, gt_dir, suffix, gt_suffix, use_labels, cam_dir, thresholds, num_classes)


def _cam_folder(pred_dir, ids):
    """Where the CAMs are, and how many are missing there."""
    folders = [folder for folder in (osp.join(pred_dir, 'cams'), pred_dir) if osp.isdir(folder)] or [pred_dir]
    missing = [len(voc_layout.missing_files(folder, ids, '.npz')) for folder in folders]
    best = int(np.argmin(missing))
    return folders[best], missing[best]


def count_pictures(plan: Plan, ids: Sequence[str], workers: int) -> Counts:
    """Count all pictures, in ``workers`` processes."""
    size = max(1, min(_CHUNK, math.ceil(len(ids) / max(workers, 1))))
    tasks = [(plan, ids[start : start + size]) for start in range(0, len(ids), size)]
    total = Counts(plan)

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
    counts = Counts(plan)
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
        # Opened here: NumPy leaves a file open that is no archive.
        with open(path, 'rb') as file, np.load(file) as content:
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
