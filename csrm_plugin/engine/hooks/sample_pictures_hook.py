"""Draw a few fixed pictures through a training, and the best, median and worst ones at its end."""

import contextlib
import os.path as osp
import re
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from mmseg.structures import SegDataSample

from csrm_plugin.engine.testing import weights_of
from csrm_plugin.functional import normalize_cam
from csrm_plugin.tracking import record
from csrm_plugin.utils import UserError, write_json
from csrm_plugin.utils.models import unwrap
from csrm_plugin.utils.pictures import picture_id, read_rgb
from csrm_plugin.utils.text import whose_weights
from csrm_plugin.visualization import Panel, draw_row, overlay_cams, overlay_labels, save_picture

#: Width of a panel, in pixels.
PANEL_WIDTH = 256


@HOOKS.register_module()
class SamplePicturesHook(Hook):
    """Draw validation pictures: input, CAMs, pseudo label, prediction, truth, as far as the model gives them.

    At each validation the same few pictures, evenly spread over the split, go to the visualizer's backends, so that
    one can scrub through time; backends with ``add_segmentation`` get them with class masks. At the end the best, the
    median and the worst pictures of the last validation go to ``record/pictures`` of the work directory. Masks of the
    validation split are drawn, those of the training split are never read. Only the main process draws.

    Args:
        count (int): Fixed pictures; 0 draws none.
        extremes (int): Pictures of each kind (best, median, worst) at the end; 0 draws none.
        interval (int): Validations between two drawings of the fixed pictures.
    """

    priority = 'VERY_LOW'  # after the record, whose last validation it reads

    def __init__(self, count: int = 4, extremes: int = 2, interval: int = 1) -> None:
        if min(count, extremes) < 0 or interval < 1:
            raise UserError('SamplePicturesHook: `count` and `extremes` must be at least 0, `interval` at least 1.')
        self.count, self.extremes, self.interval = count, extremes, interval
        self._validations = 0

    def before_train(self, runner: Runner) -> None:
        """Choose nothing yet; note that this is a training."""
        self._training = is_main_process()

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Draw the fixed pictures."""
        if not getattr(self, '_training', False):
            return
        if self._validations % self.interval == 0:
            with _no_harm(runner):
                self._draw_fixed(runner)
        self._validations += 1

    def after_train(self, runner: Runner) -> None:
        """Draw the best, median and worst pictures."""
        if not self._training or not self.extremes or runner.val_loop is None:
            return
        pictures = [entry for metric in runner.val_evaluator.metrics for entry in getattr(metric, 'pictures', ())]
        if pictures:  # a run that was finished before it was resumed validates nothing
            with _no_harm(runner):
                self._draw_extremes(runner, pictures)

    def _draw_fixed(self, runner: Runner) -> None:
        for index in spread(len(runner.val_dataloader.dataset), self.count):
            sample = predict(runner, index)
            name, row = re.sub(r'[^\w.-]', '_', picture_id(sample)), list(draw(runner, sample).values())
            runner.visualizer.add_image(f'sample_{name}', draw_row(row, PANEL_WIDTH), step=runner.iter)
            self._send_masks(runner, sample, name)

    def _draw_extremes(self, runner: Runner, pictures: list[dict]) -> None:
        score = next((name for name in ('seg', 'pseudo', 'cam') if any(name in entry for entry in pictures)), None)
        items = []
        for role, index in extremes([entry.get(score) for entry in pictures], self.extremes):
            sample = predict(runner, index)
            if picture_id(sample) != pictures[index]['id']:
                raise RuntimeError(
                    f'picture {index} is {picture_id(sample)}, but {pictures[index]["id"]} was scored in its place; '
                    'the sampler of val_dataloader must not shuffle'
                )
            items.append(self._save(runner, role, sample, pictures[index][score]))
        path = record.record_path(runner.work_dir, record.PICTURES_FILE)
        whose = {'weights': weights_of(runner.model)}
        write_json(path, {'iteration': runner.iter, 'score': score, **whose, 'items': items})

    def _save(self, runner: Runner, role: str, sample: SegDataSample, score: float | None) -> dict:
        """Write the panels of one picture; gives its entry in ``pictures.json``."""
        classes, name = runner.val_dataloader.dataset.metainfo['classes'], picture_id(sample)
        entry = {'role': role, 'id': name, 'score': score, 'labels': [], 'panels': []}
        if 'gt_image_labels' in sample:
            present = sample.gt_image_labels.multi_hot.cpu().numpy() > 0
            entry['labels'] = [label for label, there in zip(classes[1:], present) if there]
        for title, panel in draw(runner, sample).items():
            stem = re.sub(r'[^\w.-]', '_', f'{role}_{name}_{title}')
            file = f'pictures/{stem}.png'
            save_picture(record.record_path(runner.work_dir, *file.split('/')), panel.picture)
            entry['panels'].append({'name': title, 'file': file})
        return entry

    def _send_masks(self, runner: Runner, sample: SegDataSample, name: str) -> None:
        backends = [value for value in runner.visualizer._vis_backends.values() if hasattr(value, 'add_segmentation')]
        if backends:
            picture, maps = _picture(sample), label_maps(runner, sample)
            for backend in backends:
                classes = list(runner.val_dataloader.dataset.metainfo['classes'])
                backend.add_segmentation(f'masks/{name}', picture, maps, classes, step=runner.iter)


@contextlib.contextmanager
def _no_harm(runner: Runner) -> Iterator[None]:
    """Let no picture end a training: what goes wrong is a warning."""
    try:
        yield
    except Exception as error:
        runner.logger.warning(f'Pictures could not be drawn ({type(error).__name__}: {error}); the training goes on.')


def spread(length: int, count: int) -> list[int]:
    """``count`` indices, evenly spread over 0..length - 1, ascending; all where there are no more."""
    return sorted({round(index) for index in np.linspace(0, length - 1, min(count, length))}) if length else []


def extremes(scores: Sequence[float | None], count: int) -> list[tuple[str, int]]:
    """Roles and indices of the best, median and worst of ``scores``, at most ``count`` of each and none twice.

    Args:
        scores (Sequence[float | None]): None where a picture has no score.
        count (int): At least 1.

    Example:
        >>> extremes([10, None, 50, 30], 1)
        [('best', 2), ('median', 3), ('worst', 0)]
    """
    order = [index for index, score in enumerate(scores) if score is not None]
    order.sort(key=lambda index: (-scores[index], index))
    if len(order) < 3 * count:
        count = max(len(order) // 3, min(len(order), 1))
    middle = max((len(order) - count) // 2, 0)
    chosen = [('best', order[:count]), ('median', order[middle : middle + count]), ('worst', order[-count:][::-1])]
    seen, result = set(), []
    for role, indices in chosen:
        for index in indices if count else ():
            if index not in seen:
                seen.add(index)
                result.append((role, index))
    return result


@torch.no_grad()
def predict(runner: Runner, index: int) -> SegDataSample:
    """Data sample of one validation picture with the model's predictions, at the picture's own size."""
    model, item = unwrap(runner.model), runner.val_dataloader.dataset[index]
    training = model.training
    model.eval()
    try:
        return model.test_step({'inputs': [item['inputs']], 'data_samples': [item['data_samples']]})[0].cpu()
    finally:
        model.train(training)


def label_maps(runner: Runner, sample: SegDataSample) -> dict[str, np.ndarray]:
    """Label maps (H, W), int64, 255 uncertain, by name, as far as there are.

    ``training label`` is what the model would learn from; for a model that learns from no pseudo labels,
    ``pseudo label`` is what is scored as ``pseudo/mIoU``. Then come ``prediction`` and ``truth``.
    """
    maps, made = {}, None
    if 'gt_image_labels' in sample and 'cam_logits' in sample:
        make = getattr(unwrap(runner.model), 'training_labels', None)
        made = make and make(_picture(sample), sample.cam_logits.data, sample.gt_image_labels.multi_hot)
    scored = [
        metric.pseudo_labels(sample) for metric in runner.val_evaluator.metrics if hasattr(metric, 'pseudo_labels')
    ]
    if made is not None:
        maps['training label'] = np.asarray(made)
    elif scored and scored[0] is not None:
        maps['pseudo label'] = scored[0]
    for name, key in (('prediction', 'pred_sem_seg'), ('truth', 'gt_sem_seg')):
        if key in sample and 'data' in getattr(sample, key):
            maps[name] = getattr(sample, key).data.squeeze(0).cpu().numpy()
    return maps


def draw(runner: Runner, sample: SegDataSample) -> dict[str, Panel]:
    """Panels of a picture by name: input, CAM, propagated CAM, training or pseudo label, prediction, truth."""
    meta, picture = runner.val_dataloader.dataset.metainfo, _picture(sample)
    names = ''
    panels = {}
    if 'gt_image_labels' in sample:
        labels = sample.gt_image_labels.multi_hot.cpu()
        names = ', '.join(name for name, there in zip(meta['classes'][1:], labels) if there > 0)
        for name, key in (('CAM', 'cam_logits'), ('propagated CAM', 'propagated_cam')):
            if key in sample:
                maps = getattr(sample, key).data[None].float()
                cams = overlay_cams(picture, normalize_cam(maps, labels=labels[None])[0].numpy(), meta['palette'])
                panels[name] = Panel(cams, f'{name}, strongest class of the labels')
    title = f'{picture_id(sample)}, iteration {runner.iter}'
    if getattr(unwrap(runner.model), 'weights_note', ''):
        title += f', {whose_weights(weights_of(runner.model))}'
    title += f': {names}' if names else ''
    for name, labels in label_maps(runner, sample).items():
        panels[name] = Panel(overlay_labels(picture, labels, meta['palette']), name)
    return {'input': Panel(picture, title), **panels}


def _picture(sample: SegDataSample) -> np.ndarray:
    """The picture of a data sample as it is on disk: (H, W, 3), uint8, RGB."""
    if not osp.isfile(sample.img_path):
        raise UserError(f'picture `{sample.img_path}` is gone')
    return read_rgb(sample.img_path)
