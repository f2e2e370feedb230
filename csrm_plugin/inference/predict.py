"""A trained model on any pictures: label maps and overlays."""

import functools
import glob
import os
import os.path as osp
from collections.abc import Sequence

from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS

from csrm_plugin.config import provenance
from csrm_plugin.config.load import load_config
from csrm_plugin.datasets import voc_layout
from csrm_plugin.datasets.label_folder import claim_folder
from csrm_plugin.inference.predictor import MultiScalePredictor
from csrm_plugin.inference.pseudo_labels.make import describe, refuse_source_folders
from csrm_plugin.inference.pseudo_labels.maps import LabelTask, labels_of
from csrm_plugin.inference.pseudo_labels.settings import describe_labels, settings_for
from csrm_plugin.inference.pseudo_labels.work import LabelWork, label_pictures
from csrm_plugin.models.checkpoints.io import read_checkpoint
from csrm_plugin.models.checkpoints.prediction import load_model
from csrm_plugin.utils import MissingFileError, UserError
from csrm_plugin.utils.pictures import picture_id, read_rgb
from csrm_plugin.visualization import overlay_labels, save_label_png, save_picture

#: Endings of files that count as pictures in a folder.
SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp')
#: Sub-folder of the overlays.
OVERLAYS = 'overlays'


def predict_pictures(
    config: str,
    checkpoint: str,
    pictures: Sequence[str],
    out_dir: str,
    settings: dict | None = None,
    label_file: str | None = None,
    overlays: bool = True,
    cfg_options: dict | None = None,
    workers: int | None = None,
    device: str | None = None,
    tile: int | None = None,
    amp: bool = False,
    check: bool = False,
) -> dict:
    """Segment pictures and write ``<name>.png`` (palette PNG) and ``overlays/<name>.png`` for each.

    Args:
        config (str): Config file of a trained model.
        checkpoint (str): Its weights.
        pictures (list[str]): Folders, files or patterns.
        out_dir (str): Made if it is not there. Pictures that have their files already are skipped.
        settings (dict, optional): Fields of :class:`csrm_plugin.inference.pseudo_labels.LabelSettings`.
        label_file (str, optional): Image-level labels ``{"classes": [...], "labels": {name: [names]}}``; each picture
            then gets only classes of its label. Without it any class (segmentation), or those that the classifier
            sees (CAMs).
        overlays (bool): Whether to draw overlays.
        cfg_options (dict, optional): Overrides of the config.
        workers (int, optional): Processes that make the files beside the inference.
        device (str, optional): Default: CUDA where there is one.
        tile (int, optional): Side of tiles in pixels for larger views.
        amp (bool): Half precision on CUDA.
        check (bool): Whether label maps that are there already are read, and made again if they are damaged.

    Returns:
        dict: As of :func:`csrm_plugin.inference.pseudo_labels.work.label_pictures`.

    Raises:
        UserError: If a picture, a label or the checkpoint is missing or broken.
    """
    cfg = load_config(config, cfg_options)
    infos = find_pictures(pictures)
    refuse_source_folders(infos, [out_dir])
    classes, palette = classes_of(cfg, checkpoint)
    if label_file is not None:
        add_labels(infos, label_file, classes)
    settings = settings_for(cfg, dict(settings or {}, unrestricted=label_file is None))
    model = load_model(cfg, checkpoint, device)
    stands_on = describe(cfg, checkpoint, model, settings.source, amp, tile)
    labels_hash = None if label_file is None else provenance.file_hash(label_file)
    settings_there = {**describe_labels(settings), **stands_on, 'overlays': overlays, 'labels_sha256': labels_hash}
    claim_folder(out_dir, dict(classes=list(classes), palette=palette, settings=settings_there))
    work = LabelWork(
        cfg,
        MultiScalePredictor(model, settings.flip, tile, amp),
        {out_dir: settings},
        palette,
        workers=workers,
        check=check,
    )
    finish = functools.partial(finish_picture, overlays=overlays)
    return label_pictures(infos, work, 'Pictures', finish, newer=True)


def finish_picture(task: LabelTask, overlays: bool) -> None:
    """Write the label map of a picture, and its overlay before that: the label map says that a picture is done."""
    ((path, settings),) = task.outputs
    labels = labels_of(task, settings)
    if overlays:
        image = read_rgb(task.image)
        folder, name = osp.split(path)
        save_picture(osp.join(folder, OVERLAYS, name), overlay_labels(image, labels, task.palette))
    save_label_png(path, labels, task.palette)


def find_pictures(sources: Sequence[str]) -> list[dict]:
    """Data infos of pictures.

    Args:
        sources (list[str]): Folders (all pictures in them), files, or patterns such as ``photos/*.jpg``.

    Raises:
        MissingFileError: If a source has no pictures.
        UserError: If two pictures would have the same name in the output.
    """
    paths = []
    for source in sources:
        if osp.isdir(source):
            names = sorted(os.listdir(source))
            found = [osp.join(source, name) for name in names if name.lower().endswith(SUFFIXES)]
        else:
            found = [source] if osp.isfile(source) else sorted(glob.glob(source))
        if not found:
            raise MissingFileError(
                f'there are no pictures at `{source}`: give a folder, a file or a pattern ({", ".join(SUFFIXES)})'
            )
        paths += found
    names: dict[str, str] = {}
    for path in dict.fromkeys(paths):
        name = picture_id(dict(img_path=path))
        if name in names:
            raise UserError(f'`{names[name]}` and `{path}` have the same name, so one would overwrite the other')
        names[name] = path
    return [dict(img_path=path, img_id=name) for name, path in names.items()]


def classes_of(cfg: Config, checkpoint: str) -> tuple[list, list]:
    """Class names (background first) and colours of a model: those its checkpoint notes, else the config's.

    Raises:
        UserError: If neither says.
    """
    saved = read_checkpoint(checkpoint)
    meta = saved.get('meta') if isinstance(saved, dict) else None
    meta = (meta or {}).get('dataset_meta') or {}
    init_default_scope(cfg.get('default_scope') or 'mmseg')
    dataset = cfg.test_dataloader.dataset
    own = {**getattr(DATASETS.get(dataset.type), 'METAINFO', {}), **dataset.get('metainfo', {})}
    classes = meta.get('classes') or own.get('classes')
    if not classes:
        raise UserError(
            f'the classes of `{checkpoint}` are unknown: it does not note them, and the config names none; set '
            'test_dataloader.dataset.metainfo.classes'
        )
    palette = meta.get('palette') or own.get('palette') or voc_layout.voc_palette(len(classes))
    return list(classes), [list(map(int, colour)) for colour in palette]


def add_labels(infos: Sequence[dict], label_file: str, classes: Sequence[str]) -> None:
    """Put ``image_labels`` (C,) into the data infos.

    Raises:
        UserError: If a picture has no entry, or the file has other classes.
    """
    names, labels = voc_layout.read_image_labels(label_file)
    unknown = sorted(set(names) - set(classes[1:]))
    if unknown:
        raise UserError(f'`{label_file}` has classes that the model does not know: {voc_layout.shorten(unknown)}')
    missing = [info['img_id'] for info in infos if info['img_id'] not in labels]
    if missing:
        raise UserError(
            f'{len(missing)} of {len(infos)} pictures have no entry in `{label_file}`: {voc_layout.shorten(missing)}; '
            'labels go by the name of the picture without its ending'
        )
    for info in infos:
        info['image_labels'] = voc_layout.multi_hot(labels[info['img_id']], classes[1:])
