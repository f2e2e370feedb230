"""Pseudo labels of a split from a trained model: inference, restriction to the image labels, threshold, dCRF, files."""

import inspect
import os.path as osp
import time
import zipfile
import zlib
from dataclasses import asdict, dataclass, field, replace

import numpy as np
import torch
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS
from PIL import Image, ImageOps

from csrm_plugin.config.load import load_config
from csrm_plugin.config.provenance import config_hash, config_settings, file_hash
from csrm_plugin.datasets.label_folder import claim_folder, read_label_png
from csrm_plugin.engine.testing import weights_of
from csrm_plugin.functional import cam_pseudo_labels, check_thresholds, normalize_cam
from csrm_plugin.inference.predictor import MultiScalePredictor, load_model, view_loader, view_pipeline
from csrm_plugin.models.segmentors.label_recipe import recipe_of_config
from csrm_plugin.refine import DenseCRF, dense_crf
from csrm_plugin.utils import UserError, atomic_write
from csrm_plugin.utils.label_sources import CAM_SOURCES, NOTED_SOURCES, SOURCES
from csrm_plugin.utils.processes import available_cores, run_unordered
from csrm_plugin.utils.progress import track
from csrm_plugin.utils.shards import take_shard
from csrm_plugin.visualization import save_label_png

#: Sub-folder of the saved CAMs.
CAMS = 'cams'
#: File of the pictures that did not fit into the memory in one piece.
TILED = 'tiled.txt'
#: Which classes a picture may get.
RESTRICTIONS = ('labels', 'classifier', 'none')


@dataclass(frozen=True)
class LabelSettings:
    """How predictions become label maps.

    Attributes:
        source (str): ``'cam'``, ``'propagated'`` (CAMs that the model has propagated) or ``'seg'``. What is said of
            CAMs below goes for both kinds.
        scales (tuple[float, ...]): Factors of the size that the config tests at.
        flip (bool): Whether each scale is also seen mirrored.
        threshold (float | None): In 0..1. For CAMs the score of the background. For the segmentation, which has a
            background of its own, pixels whose highest probability is below become 255; None leaves all certain.
        bg_threshold (float | None): For CAMs: pixels that are foreground at this lower threshold only become 255
            (Eq. 6 of CSRM). None leaves all certain.
        crf (dict | None): Arguments of :class:`csrm_plugin.refine.DenseCRF`. CAMs are refined as hard labels with its
            ``label_confidence``, the segmentation as probabilities. None: no dCRF.
        restrict (str): ``'labels'``: a picture gets only classes of its image-level label; ``'classifier'`` (CAMs):
            only classes whose score is above ``score_threshold``; ``'none'`` (segmentation): any class.
        score_threshold (float): In 0..1, for ``'classifier'``.
    """

    source: str
    scales: tuple = (1.0,)
    flip: bool = False
    threshold: float | None = None
    bg_threshold: float | None = None
    crf: dict | None = None
    restrict: str = 'labels'
    score_threshold: float = 0.5

    def __post_init__(self):
        if self.source not in SOURCES:
            raise UserError(f'--source must be one of {", ".join(map(repr, SOURCES))}, but is {self.source!r}')
        if self.restrict not in RESTRICTIONS:
            raise UserError(f'`restrict` must be one of {", ".join(RESTRICTIONS)}, but is {self.restrict!r}')
        if not self.scales or any(not 0 < scale <= 8 for scale in self.scales):
            raise UserError(f'--scales must be factors above 0 and at most 8, but are {list(self.scales)}')
        for name in ('threshold', 'bg_threshold', 'score_threshold'):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise UserError(f'--{name.replace("_", "-")} must be in 0..1, but is {value}')
        self._check_source()

    def _check_source(self):
        if self.source in CAM_SOURCES:
            if self.threshold is None:
                raise UserError('--threshold (0..1, the score of the background) is needed to turn CAMs into labels')
            if self.bg_threshold is not None:
                check_thresholds(self.threshold, self.bg_threshold)
            if self.restrict == 'none':
                raise UserError('CAMs need a set of classes: image-level labels, or those that the classifier sees')
        elif self.bg_threshold is not None:
            raise UserError('--bg-threshold is for CAMs; the segmentation has a background of its own')
        elif self.restrict == 'classifier':
            raise UserError("--source seg is restricted to the 'labels' or to nothing ('none')")


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
    names = np.full(256, 255, dtype=np.uint8)
    names[: len(task.classes) + 1] = [0, *task.classes]
    return names[labels]


def read_rgb(path) -> np.ndarray:
    """A picture (H, W, 3), uint8, RGB, turned as its camera says, as the pipelines of the host read it."""
    with Image.open(path) as picture:
        return np.array(ImageOps.exif_transpose(picture).convert('RGB'))


def labels_from_cams(image, cams, settings) -> np.ndarray:
    """Labels (H, W), 0 or i + 1 for ``cams[i]``, 255 uncertain, from CAMs (n, H, W) and the picture (for dCRF)."""
    crf = None if settings.crf is None else DenseCRF(**{**settings.crf, 'workers': 0})
    low = settings.threshold if settings.bg_threshold is None else settings.bg_threshold
    images = None if crf is None else image[None]
    return cam_pseudo_labels(images, cams[None], np.ones((1, len(cams))), settings.threshold, low, crf)[0].numpy()


def labels_from_probs(image, probs, settings) -> np.ndarray:
    """Labels (H, W), indices of ``probs`` (n + 1, H, W), 255 uncertain, refined with the picture where dCRF is on."""
    if settings.crf is not None and len(probs) > 1:
        options = {key: value for key, value in settings.crf.items() if key not in ('workers', 'label_confidence')}
        probs = dense_crf(image, probs, **options)
    labels = probs.argmax(axis=0)
    if settings.threshold is not None:
        labels = np.where(probs.max(axis=0) < settings.threshold, 255, labels)
    return labels


def cam_path(label_path: str) -> str:
    """Where the CAMs of a label map are saved."""
    folder, name = osp.split(label_path)
    return osp.join(folder, CAMS, osp.splitext(name)[0] + '.npz')


def save_cams(path, cams, classes) -> None:
    """Write CAMs as a compressed ``.npz``: ``cams`` (n, H, W), float16, in 0..1, and ``classes`` (n,), from 0."""
    with atomic_write(path) as temporary:
        np.savez_compressed(temporary, cams=cams.astype(np.float16), classes=np.asarray(classes, dtype=np.int64))


def make_task(prediction, info, outputs, palette, with_cams=False) -> LabelTask:
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
    _check_source(prediction, settings.source)
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


def _check_source(prediction, source) -> None:
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


def make_pseudo_labels(
    config,
    checkpoint,
    out_dir,
    split='train',
    settings: dict | None = None,
    cfg_options=None,
    save_cams=False,
    crf_out=None,
    shard=(0, 1),
    workers=None,
    device=None,
    tile=None,
    amp=False,
) -> dict:
    """Write the label map of every picture of a split that has none yet.

    Args:
        config (str): Config file of a trained model.
        checkpoint (str): Its weights.
        out_dir (str): Gets ``<id>.png``, ``labels.json`` and, where asked for, ``cams/<id>.npz``.
        split (str): Name of a list in ``ImageSets/Segmentation``.
        settings (dict, optional): Fields of :class:`LabelSettings`; what is not given comes from the config's
            ``model.test_cfg.pseudo_label``.
        cfg_options (dict, optional): Overrides of the config.
        save_cams (bool): Whether to save the CAMs as well.
        crf_out (str, optional): Folder for the same labels refined with dCRF, from the same inference; those of
            ``out_dir`` are then without. dCRF has the settings given, or its defaults.
        shard (tuple[int, int]): Part ``i`` of ``n``.
        workers (int, optional): Processes that make labels (dCRF, files) beside the inference. Default: one for each
            core but one, at least 1 and at most 8. 0 does it in this process.
        device (str, optional): Default: CUDA where there is one.
        tile (int, optional): See :class:`MultiScalePredictor`.
        amp (bool): Half precision on CUDA.

    Returns:
        dict: ``pictures``, ``made``, ``skipped``, ``seconds``, ``images_per_second``, ``tiled`` (names of pictures
        that were cut), ``split``, ``source``.

    Raises:
        UserError: For everything that the user can mend; files are whole or not there.
    """
    cfg = load_config(config, cfg_options)
    settings = settings_for(cfg, settings or {})
    folders = {out_dir: settings}
    if crf_out is not None:
        if osp.abspath(crf_out) == osp.abspath(out_dir):
            raise UserError(f'--crf-out must be another folder than --out, but both are `{out_dir}`')
        folders = {
            out_dir: replace(settings, crf=None),
            crf_out: replace(settings, crf=settings.crf or crf_options({})),
        }
    dataset = split_dataset(cfg, split, with_labels=settings.restrict == 'labels')
    model = load_model(cfg, checkpoint, device)
    _check_classes(cfg, dataset)
    predictor = MultiScalePredictor(model, settings.flip, tile, amp)
    classes, palette = dataset.metainfo['classes'], [list(colour) for colour in dataset.metainfo['palette']]
    stands_on = describe(cfg, checkpoint, model, settings.source, amp, tile)
    for folder, how in folders.items():
        claim_folder(
            folder, dict(classes=list(classes), palette=palette, settings={**describe_labels(how), **stands_on})
        )

    infos = [dataset.get_data_info(index) for index in range(len(dataset))]
    refuse_source_folders(infos, folders)
    infos = take_shard(infos, shard)
    work = LabelWork(cfg, predictor, folders, palette, save_cams, workers)
    done = label_pictures(infos, work, f'Labels of {split}')
    return dict(**done, split=split, source=settings.source)


@dataclass
class LabelWork:
    """Everything that turns pictures into files, but the pictures.

    Attributes:
        cfg (mmengine.config.Config): Its test pipeline reads the pictures.
        predictor (MultiScalePredictor): With the trained model.
        folders (dict[str, LabelSettings]): Folders to fill, and how; the settings differ in dCRF only.
        palette (list): K colours.
        save_cams (bool): Whether CAMs are saved in the first folder.
        workers (int | None): Processes beside the inference; None: see :func:`make_pseudo_labels`.
    """

    cfg: object
    predictor: MultiScalePredictor
    folders: dict
    palette: list
    save_cams: bool = False
    workers: int | None = None


def label_pictures(infos, work: LabelWork, description: str, finish=finish_label, newer=False) -> dict:
    """Predict the pictures that have no files yet, and write those.

    Args:
        infos (list[dict]): Data infos with ``img_path``, ``img_id`` and, where labels restrict, ``image_labels``.
        work (LabelWork): What to do.
        description (str): Shown beside the progress.
        finish (Callable[[LabelTask], None]): Writes the files of one picture; runs in worker processes.
        newer (bool): Whether files count as done only if they are newer than their picture.

    Returns:
        dict: ``pictures``, ``made``, ``skipped``, ``seconds``, ``images_per_second``, ``tiled`` (names of pictures
        that were cut).
    """
    begin = time.monotonic()
    workers = min(max(available_cores() - 1, 1), 8) if work.workers is None else work.workers
    todo = [info for info in infos if not is_done(work.folders, info, len(work.palette), work.save_cams, newer)]
    first = next(iter(work.folders))
    settings = next(iter(work.folders.values()))
    loader = view_loader(
        todo,
        view_pipeline(work.cfg.test_dataloader.dataset.pipeline, settings.scales),
        min(work.cfg.test_dataloader.get('num_workers', 0), len(todo)),
    )

    def tasks():
        """Tasks for the workers; inference happens here, between two of them."""
        for info, batch in zip(todo, loader):
            prediction = work.predictor(batch['inputs'], batch['data_samples'][0].ori_shape[:2])
            if prediction.tile is not None:
                note_tiled(first, info['img_id'], prediction.tile)
            outputs = [(label_path(folder, info['img_id']), how) for folder, how in work.folders.items()]
            yield make_task(prediction, info, outputs, work.palette, work.save_cams)

    for _ in track(run_unordered(finish, tasks(), workers), len(todo), description):
        pass
    seconds = time.monotonic() - begin
    noted = read_tiled(first)
    tiled = [info['img_id'] for info in infos if info['img_id'] in noted]
    return dict(
        pictures=len(infos),
        made=len(todo),
        skipped=len(infos) - len(todo),
        seconds=round(seconds, 1),
        images_per_second=round(len(todo) / seconds, 3),
        tiled=tiled,
    )


def settings_for(cfg, given: dict) -> LabelSettings:
    """Complete the settings from the config: its ``model.test_cfg.pseudo_label`` names a source and a threshold."""
    own = recipe_of_config(cfg.model).as_dict()
    given = {key: value for key, value in given.items() if value is not None}
    source = given.get('source') or own['source']
    if source in CAM_SOURCES and own['source'] == source:
        given.setdefault('threshold', own['threshold'])
    if given.pop('unrestricted', False):
        given['restrict'] = 'classifier' if source in CAM_SOURCES else 'none'
    if 'crf' in given:
        given['crf'] = crf_options(given['crf'])
    return LabelSettings(**{**given, 'source': source, 'scales': tuple(given.get('scales', (1.0,)))})


def crf_options(given: dict) -> dict:
    """All settings of dCRF that decide on the result, the default where ``given`` has none.

    Raises:
        UserError: If ``given`` has a setting that :class:`csrm_plugin.refine.DenseCRF` does not know.
    """
    parameters = inspect.signature(DenseCRF).parameters
    known = {name: parameter.default for name, parameter in parameters.items() if name != 'workers'}
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise UserError(f'--crf-options: `{unknown[0]}` is no setting of dCRF; known: {", ".join(known)}')
    return {**known, **given}


def split_dataset(cfg, split, with_labels):
    """The config's test data set on another split, without masks.

    Args:
        cfg (mmengine.config.Config): With ``test_dataloader.dataset``.
        split (str): Name of the list, beside the one that the config has.
        with_labels (bool): Whether each picture must have an image-level label.
    """
    init_default_scope(cfg.get('default_scope') or 'mmseg')
    dataset = cfg.test_dataloader.dataset.copy()
    dataset.ann_file = osp.join(osp.dirname(dataset.get('ann_file', '')), f'{split}.txt')
    dataset.update(test_mode=True, with_masks=False, with_labels=with_labels, pipeline=[], lazy_init=False)
    return DATASETS.build(dataset)


def _check_classes(cfg, dataset):
    """Raise if the model's classes cannot be those of the data set."""
    heads = (('decode_head', 0), ('cam_head', 1))
    for name, offset in heads:
        count = (cfg.model.get(name) or {}).get('num_classes')
        if count is not None and count + offset != len(dataset.metainfo['classes']):
            raise UserError(
                f'model.{name}.num_classes is {count}, but the data set has {len(dataset.metainfo["classes"]) - 1} '
                'classes and the background'
            )


def describe_labels(settings: LabelSettings) -> dict:
    """How the labels are made from the predictions, for ``labels.json``."""
    values = asdict(settings)
    values['crf'] = False if settings.crf is None else settings.crf
    values['restricted'] = values.pop('restrict')
    if settings.restrict != 'classifier':
        del values['score_threshold']
    return values


def describe(cfg, checkpoint, model, source, amp=False, tile=None) -> dict:
    """What the predictions of a source stand on, for ``labels.json``."""
    note = getattr(model, 'segmentation_note', None) if source in NOTED_SOURCES else None
    return dict(
        config=osp.basename(cfg.filename),
        config_hash=config_hash(config_settings(cfg)),
        checkpoint=osp.basename(checkpoint),
        checkpoint_sha256=file_hash(checkpoint),
        weights=weights_of(model) or type(model).__name__,  # where there is one network only, its kind
        amp=amp,
        tile=tile,
        **({} if note is None else dict(segmentation=note)),
    )


def label_path(out_dir, image_id) -> str:
    """File of a picture's label map."""
    return osp.join(out_dir, f'{image_id}.png')


def is_done(folders, info, num_classes, with_cams=False, newer=False) -> bool:
    """Whether a picture has its files already in all of the folders (the CAMs in the first), and whole ones."""
    paths = [label_path(folder, info['img_id']) for folder in folders]
    wanted = [*paths, *([cam_path(paths[0])] if with_cams else [])]
    if not all(map(osp.exists, wanted)):
        return False
    if newer and osp.getmtime(info['img_path']) > osp.getmtime(paths[0]):
        return False
    try:
        for path in paths:
            read_label_png(path, num_classes)
        if with_cams:
            with np.load(wanted[-1]) as saved:
                saved['cams'], saved['classes']
    except (UserError, OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        print(f'{error}; it is made again', flush=True)
        return False
    return True


def refuse_source_folders(infos, folders) -> None:
    """Raise ``UserError`` if a folder to be written holds a picture that is read: PNG pictures would be overwritten."""
    sources = {osp.realpath(osp.dirname(info['img_path'])) for info in infos}
    for folder in folders:
        if osp.realpath(folder) in sources:
            raise UserError(f'--out: `{folder}` holds the pictures themselves; give another folder')


def note_tiled(folder, image_id, tile) -> None:
    """Remember beside the labels that a picture was cut; one line each, so that calls and shards may share the file."""
    with open(osp.join(folder, TILED), 'a') as file:
        file.write(f'{image_id} {tile}\n')


def read_tiled(folder) -> set[str]:
    """Ids of the pictures of a folder that were cut into tiles."""
    path = osp.join(folder, TILED)
    if not osp.isfile(path):
        return set()
    with open(path) as file:
        return {line.rsplit(' ', 1)[0] for line in file}
