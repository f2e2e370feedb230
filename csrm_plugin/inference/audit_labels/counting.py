"""Labels of one picture by every setting, counted against its mask.

The hard labels at one threshold give both roles, fg and bg, of every pair that has it, and each map is refined for
itself: with T different thresholds a picture costs T refinements, however many pairs there are.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from mmseg.structures import SegDataSample

from csrm_plugin.functional import threshold_cams
from csrm_plugin.inference.audit_labels.network import LabelSource
from csrm_plugin.inference.audit_labels.settings import Plan
from csrm_plugin.refine import DenseCRF, PixelAdaptiveRefinement
from csrm_plugin.utils import IGNORE_INDEX


class Maps(NamedTuple):
    """Hard labels of one picture, from the same CAM and by the same refinement.

    Attributes:
        maps (np.ndarray): (T, h, w), uint8: 0 background, i + 1 for the i-th own class, at T thresholds.
        crf (DenseCRF | None): What is still to refine them.
        rows (tuple[tuple[int, int, int], ...]): Index of a setting, and the places of its fg and bg in ``maps``.
    """

    maps: np.ndarray
    crf: DenseCRF | None
    rows: tuple


class PictureTask(NamedTuple):
    """One picture on its way to its counts; sent to a worker process.

    Attributes:
        groups (list[Maps]): Labels of every setting.
        picture (np.ndarray | None): (h, w, 3), uint8, RGB, where one is refined with dCRF.
        own (np.ndarray): (n,), int64, from 1: labels of the picture's own classes.
        truth (np.ndarray): (H, W), uint8, 255 not counted.
        box (tuple[float, float, float, float]): Top, bottom, left and right of the picture in its padded input, as
            shares of that, in 0..1.
        settings (int): How many there are.
    """

    groups: list
    picture: np.ndarray | None
    own: np.ndarray
    truth: np.ndarray
    box: tuple
    settings: int


def make_task(source: LabelSource, plan: Plan, batch: dict) -> PictureTask:
    """Labels of one picture before dCRF, by every setting of the plan; inference happens here."""
    truth = batch['data_samples'][0].gt_sem_seg.data[0].numpy().astype(np.uint8)
    inputs, samples = source.prepare(batch)
    own = np.flatnonzero(samples[0].gt_image_labels.multi_hot.cpu().numpy() > 0) + 1
    cams = {views: source.cams(inputs, samples, views) for views in plan.all_views}
    refined = any(refinement is not None for refinement in plan.refinements.values())
    picture = source.model.pictures(inputs, source.size(inputs)).cpu() if refined else None
    groups = []
    for views, refine in dict.fromkeys(setting[:2] for setting in plan.settings):
        rows = [(i, setting) for i, setting in enumerate(plan.settings) if setting[:2] == (views, refine)]
        thresholds = sorted({value for _, setting in rows for value in setting[2:]})
        places = tuple((i, *(thresholds.index(value) for value in setting[2:])) for i, setting in rows)
        refinement = plan.refinements[refine]
        if hasattr(refinement, 'refine_scores'):
            groups.append(Maps(_from_refined_scores(picture, cams[views], thresholds, refinement), None, places))
        else:
            scores = cams[views].cpu().numpy()
            maps = np.stack([threshold_cams(scores, threshold) for threshold in thresholds])
            groups.append(Maps(maps, refinement, places))
    seen = None if picture is None else picture[0].numpy()
    return PictureTask(groups, seen, own, truth, picture_box(inputs.shape[2:], samples[0]), len(plan.settings))


def _from_refined_scores(
    picture: torch.Tensor, cams: torch.Tensor, thresholds: Sequence[float], refinement: PixelAdaptiveRefinement
) -> np.ndarray:
    """Hard labels (T, h, w) of scores [thresholds | CAMs] that are refined before they are compared, as in training."""
    if not len(cams):
        return np.zeros((len(thresholds), *cams.shape[1:]), dtype=np.uint8)
    backgrounds = cams.new_tensor(thresholds)[:, None, None].expand(-1, *cams.shape[1:])
    scores = refinement.refine_scores(picture.to(cams.device), torch.cat([backgrounds, cams])[None])[0]
    best, winners = scores[len(thresholds) :].max(dim=0)
    return torch.where(best > scores[: len(thresholds)], winners + 1, 0).to(torch.uint8).cpu().numpy()


def picture_box(size: Sequence[int], sample: SegDataSample) -> tuple[float, float, float, float]:
    """Where the picture is in its padded input of ``size`` (H, W): top, bottom, left, right, as shares in 0..1."""
    meta = sample.metainfo
    left, right, top, bottom = meta.get('img_padding_size', meta.get('padding_size', (0, 0, 0, 0)))
    height, width = size
    return top / height, 1 - bottom / height, left / width, 1 - right / width


def count_picture(task: PictureTask) -> tuple[np.ndarray, np.ndarray]:
    """Pixels of one picture by truth and label, for the few classes only that it has; runs in a worker process.

    Labels are enlarged to the size of the mask with nearest neighbours, as those of a validation are.

    Returns:
        tuple[np.ndarray, np.ndarray]: Classes (m,), the background first; matrices (S, m, m + 1), int64, of the S
        settings: rows are the truth, columns the label, the last one uncertain.
    """
    found = np.flatnonzero(np.bincount(task.truth.ravel(), minlength=256)[:IGNORE_INDEX])
    classes = np.concatenate([[0], task.own, np.setdiff1d(found, [0, *task.own])]).astype(np.intp)
    place = np.zeros(256, dtype=np.intp)
    place[classes] = np.arange(len(classes))  # of the own classes: what the maps have for them
    counted = task.truth != IGNORE_INDEX
    columns = len(classes) + 1
    offset = place[task.truth[counted]] * columns
    matrices = np.zeros((task.settings, len(classes), columns), dtype=np.int64)
    for group in task.groups:
        maps = group.maps
        if group.crf is not None:
            (maps,) = group.crf.refine_labels([task.picture], [maps], [len(task.own) + 1])
        maps = enlarge(maps, task.truth.shape, task.box)[:, counted]
        for index, high, low in group.rows:
            labels = np.where((maps[high] == 0) & (maps[low] != 0), columns - 1, maps[high])
            counts = np.bincount(offset + labels, minlength=matrices[index].size)
            matrices[index] = counts.reshape(len(classes), columns)
    return classes, matrices


def enlarge(maps: np.ndarray, size: tuple[int, int], box: tuple[float, float, float, float]) -> np.ndarray:
    """Maps (T, h, w) of a padded input as (T, H, W) of the picture of ``size``: what lies at the centre of each pixel.

    Args:
        maps (np.ndarray): Of any dtype.
        size (tuple[int, int]): Height and width (H, W) of the picture.
        box (tuple[float, float, float, float]): From :func:`picture_box`.

    Example:
        >>> enlarge(np.array([[[1, 2]]]), (1, 4), (0, 1, 0, 1))
        array([[[1, 1, 2, 2]]])
    """
    indices = []
    for axis, length in enumerate(size):
        begin, end = box[2 * axis : 2 * axis + 2]
        centres = begin + (np.arange(length) + 0.5) / length * (end - begin)
        indices.append((centres * maps.shape[axis + 1]).astype(np.intp).clip(max=maps.shape[axis + 1] - 1))
    return maps[:, indices[0]][:, :, indices[1]]
