"""Pseudo labels of a split from a trained model."""

import os.path as osp
from collections.abc import Iterable
from dataclasses import replace

from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS
from torch import nn

from csrm_plugin.config.load import load_config
from csrm_plugin.config.provenance import config_hash, config_settings, file_hash
from csrm_plugin.datasets.label_folder import claim_folder
from csrm_plugin.engine.testing import weights_of
from csrm_plugin.inference.predictor import MultiScalePredictor
from csrm_plugin.inference.pseudo_labels.settings import LabelSettings, crf_options, describe_labels, settings_for
from csrm_plugin.inference.pseudo_labels.work import LabelWork, label_pictures
from csrm_plugin.models.checkpoints.prediction import load_model
from csrm_plugin.utils import UserError
from csrm_plugin.utils.label_sources import NOTED_SOURCES
from csrm_plugin.utils.shards import take_shard


def make_pseudo_labels(
    config: str,
    checkpoint: str,
    out_dir: str,
    split: str = 'train',
    settings: dict | None = None,
    cfg_options: dict | None = None,
    save_cams: bool = False,
    crf_out: str | None = None,
    shard: tuple[int, int] = (0, 1),
    workers: int | None = None,
    device: str | None = None,
    tile: int | None = None,
    amp: bool = False,
    check: bool = False,
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
        check (bool): Whether files that are there already are read, and made again if they are damaged.

    Returns:
        dict: ``pictures``, ``made``, ``skipped``, ``seconds``, ``images_per_second``, ``tiled`` (names of pictures
        that were cut), ``split``, ``source``.

    Raises:
        UserError: For everything that the user can mend; files are whole or not there.
    """
    cfg = load_config(config, cfg_options)
    settings = settings_for(cfg, settings or {})
    folders = _folders(settings, out_dir, crf_out)
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
    work = LabelWork(cfg, predictor, folders, palette, save_cams, workers, check)
    done = label_pictures(infos, work, f'Labels of {split}')
    return dict(**done, split=split, source=settings.source)


def _folders(settings: LabelSettings, out_dir, crf_out) -> dict[str, LabelSettings]:
    """The folders to fill, and how; raises if they are one."""
    if crf_out is None:
        return {out_dir: settings}
    if osp.abspath(crf_out) == osp.abspath(out_dir):
        raise UserError(f'--crf-out must be another folder than --out, but both are `{out_dir}`')
    return {
        out_dir: replace(settings, crf=None),
        crf_out: replace(settings, crf=settings.crf or crf_options({})),
    }


def split_dataset(cfg: Config, split: str, with_labels: bool) -> BaseSegDataset:
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


def describe(
    cfg: Config, checkpoint: str, model: nn.Module, source: str, amp: bool = False, tile: int | None = None
) -> dict:
    """What the predictions of a source stand on, for ``labels.json``."""
    note = getattr(model, 'segmentation_note', None) if source in NOTED_SOURCES else None
    # Views that the model averages by itself, within each of those that it is shown.
    views = getattr(model, 'prediction_views', None) if source in NOTED_SOURCES else None
    return dict(
        config=osp.basename(cfg.filename),
        config_hash=config_hash(config_settings(cfg)),
        checkpoint=osp.basename(checkpoint),
        checkpoint_sha256=file_hash(checkpoint),
        weights=weights_of(model) or type(model).__name__,  # where there is one network only, its kind
        amp=amp,
        tile=tile,
        **({} if note is None else dict(segmentation=note)),
        **({} if views is None else dict(own_views=dict(scales=list(views[0]), flip=views[1]))),
    )


def refuse_source_folders(infos: Iterable[dict], folders: Iterable[str]) -> None:
    """Raise ``UserError`` if a folder to be written holds a picture that is read: PNG pictures would be overwritten."""
    sources = {osp.realpath(osp.dirname(info['img_path'])) for info in infos}
    for folder in folders:
        if osp.realpath(folder) in sources:
            raise UserError(f'--out: `{folder}` holds the pictures themselves; give another folder')
