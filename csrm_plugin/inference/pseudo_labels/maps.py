"""From the prediction of one picture to its files: the maps of its classes, label maps, saved CAMs."""

import os.path as osp
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from csrm_plugin.functional import cam_pseudo_labels, normalize_cam
from csrm_plugin.inference.predictor import Prediction
from csrm_plugin.inference.pseudo_labels.settings import LabelSettings
from csrm_plugin.refine import DenseCRF, dense_crf
from csrm_plugin.utils import IGNORE_INDEX, UserError, atomic_write
from csrm_plugin.utils.label_sources import CAM_SOURCES
from csrm_plugin.utils.pictures import read_rgb
from csrm_plugin.visualization import save_label_png

#: Sub-folder of the saved CAMs.
CAMS = 'cams'


@dataclass
class LabelTask:
    """One picture on its way to its label maps; sent to a worker process.

    Attributes:
        image (str): The picture's path.
        classes (np.ndarray): (n,), int64: segmentation labels (from 1) of the ``maps`` but the background.
        maps (np.ndarray): CAMs (n, H, W) in 0..1, or probabilities (n + 1, H, W) with the background first.
        outputs (list[tuple[str, LabelSettings]]): Label maps to write, and how to make each of them.
        palette (list): K colours.
        cams (np.ndarray | None): (m, H, W), float16: CAMs to save beside the first output.
        cam_classes (np.ndarray | None): (m,), int64, from 0: their image classes.
    """

    image: str
    classes: np.ndarray
    maps: np.ndarray
    outputs: list
    palette: list = field(repr=False)
    cams: np.ndarray | None = None
    cam_classes: np.ndarray | None = None


def make_task(
    prediction: Prediction,
    info: dict,
    outputs: list[tuple[str, LabelSettings]],
    palette: list,
    with_cams: bool = False,
) -> LabelTask:
    """Choose the classes of a picture and prepare its maps for :func:`finish_label`.

    Args:
        prediction (Prediction): Averages over the views.
        info (dict): Data info with ``img_path`` and, where labels restrict, ``image_labels`` (C,).
        outputs (list[tuple[str, LabelSettings]]): Files to write, and how; the settings differ in dCRF only.
        palette (list): K colours.
        with_cams (bool): Whether to save CAMs, of the classes that the picture may get: those that labels are made
            from; the plain ones where labels are made from the segmentation.

    Raises:
        UserError: If the model does not predict what is asked for.
    """
    settings = outputs[0][1]
    _check_prediction(prediction, settings.source)
    raw = prediction.propagated if settings.source == 'propagated' else prediction.cam
    if with_cams and raw is None:
        raise UserError('--save-cams: this model gives no CAMs')
    own = _own_classes(prediction, info, settings)
    cams = None
    if with_cams or settings.source in CAM_SOURCES:
        cams = normalize_cam(raw[own][None])[0].numpy()
    if settings.source in CAM_SOURCES:
        maps = cams
    else:
        maps = prediction.probs[np.concatenate([[0], own + 1])]
        maps = (maps / maps.sum(dim=0, keepdim=True).clamp(min=torch.finfo(maps.dtype).tiny)).numpy()
    saved = (cams.astype(np.float16), own) if with_cams else (None, None)
    return LabelTask(info['img_path'], own + 1, maps, outputs, palette, *saved)


def _check_prediction(prediction, source) -> None:
    """Raise ``UserError`` if the model does not predict the source of the labels; names what it does predict."""
    given = {'cam': prediction.cam, 'seg': prediction.probs, 'propagated': prediction.propagated}
    if given[source] is None:
        others = ' or '.join(f'--source {name}' for name, maps in given.items() if maps is not None)
        lacks = {'cam': 'gives no CAMs', 'seg': 'has no segmentation branch', 'propagated': 'propagates no CAMs'}
        raise UserError(f'--source {source}: this model {lacks[source]}' + (f'; use {others}' if others else ''))


def _own_classes(prediction, info, settings) -> np.ndarray:
    """Image classes (from 0) that a picture may get."""
    if settings.restrict == 'labels':
        return np.flatnonzero(info['image_labels'] > 0)
    if settings.restrict == 'classifier':
        return np.flatnonzero(prediction.scores.numpy() > settings.score_threshold)
    return np.arange(len(prediction.probs) - 1)


def finish_label(task: LabelTask) -> None:
    """Turn maps into label maps and write them, and the CAMs if asked for."""
    if task.cams is not None:
        save_cams(cam_path(task.outputs[0][0]), task.cams, task.cam_classes)
    for path, settings in task.outputs:
        save_label_png(path, labels_of(task, settings), task.palette)


def labels_of(task: LabelTask, settings: LabelSettings) -> np.ndarray:
    """The label map (H, W), uint8, 0..K-1, 255 uncertain, that ``settings`` make of a task's maps."""
    image = None
    if settings.crf is not None:
        image = read_rgb(task.image)
    maps = task.maps.astype(np.float32)
    labels = (labels_from_cams if settings.source in CAM_SOURCES else labels_from_probs)(image, maps, settings)
    names = np.full(256, IGNORE_INDEX, dtype=np.uint8)
    names[: len(task.classes) + 1] = [0, *task.classes]
    return names[labels]


def labels_from_cams(image: np.ndarray | None, cams: np.ndarray, settings: LabelSettings) -> np.ndarray:
    """Labels (H, W), 0 or i + 1 for ``cams[i]``, 255 uncertain, from CAMs (n, H, W) and the picture (for dCRF)."""
    crf = None if settings.crf is None else _label_crf(settings)
    low = settings.threshold if settings.bg_threshold is None else settings.bg_threshold
    images = None if crf is None else image[None]
    return cam_pseudo_labels(images, cams[None], np.ones((1, len(cams))), settings.threshold, low, crf)[0].numpy()


def labels_from_probs(image: np.ndarray | None, probs: np.ndarray, settings: LabelSettings) -> np.ndarray:
    """Labels (H, W), indices of ``probs`` (n + 1, H, W), 255 uncertain, refined with the picture where dCRF is on."""
    refine = settings.crf is not None and len(probs) > 1
    if refine and settings.crf['unary'] == 'probs':
        left_out = ('workers', 'label_confidence', 'unary')
        probs = dense_crf(image, probs, **{key: value for key, value in settings.crf.items() if key not in left_out})
    labels = probs.argmax(axis=0)
    if refine and settings.crf['unary'] == 'labels':
        labels = _label_crf(settings).refine_labels([image], [labels[None]], [len(probs)])[0][0]
    if settings.threshold is not None:
        labels = np.where(probs.max(axis=0) < settings.threshold, IGNORE_INDEX, labels)
    return labels


def _label_crf(settings) -> DenseCRF:
    """What refines hard labels, in the calling process."""
    return DenseCRF(**{**{key: value for key, value in settings.crf.items() if key != 'unary'}, 'workers': 0})


def label_path(out_dir: str, image_id: str) -> str:
    """File of a picture's label map."""
    return osp.join(out_dir, f'{image_id}.png')


def cam_path(label_path: str) -> str:
    """Where the CAMs of a label map are saved."""
    folder, name = osp.split(label_path)
    return osp.join(folder, CAMS, osp.splitext(name)[0] + '.npz')


def save_cams(path: str, cams: np.ndarray, classes: Sequence[int]) -> None:
    """Write CAMs as a compressed ``.npz``: ``cams`` (n, H, W), float16, in 0..1, and ``classes`` (n,), from 0."""
    with atomic_write(path) as temporary:
        np.savez_compressed(temporary, cams=cams.astype(np.float16), classes=np.asarray(classes, dtype=np.int64))
