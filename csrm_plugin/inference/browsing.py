"""Draw what a model really learns from: training batches after the pipeline, with what the model makes of them."""

import itertools
import logging
import os
import os.path as osp

import numpy as np
import torch
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.registry import init_default_scope
from mmengine.runner import Runner, load_checkpoint, set_random_seed
from mmseg.registry import MODELS
from torch.utils.data import DataLoader

from csrm_plugin import functional as F
from csrm_plugin.config.load import load_config
from csrm_plugin.engine.training import check_load_from, set_work_dir
from csrm_plugin.models.checkpoints.prediction import keep_training_state
from csrm_plugin.models.segmentors import WSSSSegmentor
from csrm_plugin.utils import IGNORE_INDEX, UserError
from csrm_plugin.utils.pictures import picture_id
from csrm_plugin.utils.quiet import quiet
from csrm_plugin.visualization import (
    Panel,
    draw_row,
    draw_sheet,
    overlay_cams,
    overlay_labels,
    save_picture,
    tile_lines,
)

#: Width of a panel in the pictures, and in the contact sheet, in pixels.
PANEL_WIDTH, SHEET_PANEL_WIDTH = 384, 256
SHEET_ROWS = 12


def browse(
    config: str,
    checkpoint: str | None = None,
    out_dir: str | None = None,
    count: int = 8,
    cfg_options: dict | None = None,
) -> list[str]:
    """Draw training pictures: one PNG per picture, and ``contact_sheet.png`` with the first of them.

    Args:
        config (str): Config file of a :class:`WSSSSegmentor`.
        checkpoint (str, optional): Weights; defaults to the config's ``load_from``.
        out_dir (str, optional): Defaults to ``browse`` in the work directory of the config.
        count (int): Number of pictures, at least 1; at most those of one epoch are drawn.
        cfg_options (dict, optional): Overrides, see :func:`csrm_plugin.config.load.load_config`.

    Returns:
        list[str]: Paths, the contact sheet's last.

    Raises:
        UserError: For what the user can mend.
    """
    if count < 1:
        raise UserError(f'--count must be at least 1, but is {count}')
    cfg = load_config(config, cfg_options)
    set_work_dir(cfg, config)
    if checkpoint is not None:
        cfg.load_from = checkpoint
    check_load_from(cfg)
    init_default_scope(cfg.get('default_scope') or 'mmseg')
    out_dir = out_dir or osp.join(cfg.work_dir, 'browse')
    set_random_seed(cfg.get('randomness', {}).get('seed') or 0)
    loader, model = _build(cfg)
    rows = itertools.islice(_rows(loader, model, loader.dataset.metainfo, bool(cfg.load_from)), count)

    legend = list(zip(loader.dataset.metainfo['classes'], loader.dataset.metainfo['palette']))[1:]
    paths, kept = [], []
    for index, (name, row) in enumerate(rows):
        paths.append(osp.join(out_dir, f'{index:03d}_{name.replace(os.sep, "_")}.png'))
        save_picture(paths[-1], draw_row(row, PANEL_WIDTH))
        if len(kept) < SHEET_ROWS:
            kept.append(row)
    paths.append(osp.join(out_dir, 'contact_sheet.png'))
    title = f'Training pictures of {config}\n{_settings(model, cfg.load_from)}'
    save_picture(paths[-1], draw_sheet(kept, title, legend, SHEET_PANEL_WIDTH))
    return paths


def _build(cfg: Config) -> tuple[DataLoader, WSSSSegmentor]:
    """Loader and model (on the CPU, with the weights of ``cfg.load_from`` if any)."""
    loader_cfg = cfg.train_dataloader.copy()
    loader_cfg.update(num_workers=0, persistent_workers=False)
    if (cfg.model.get('pseudo_label') or {}).get('crf') is not None:
        cfg.model.pseudo_label.crf.workers = 0
    loader = Runner.build_dataloader(loader_cfg, seed=0)
    model = MODELS.build(cfg.model)
    if not isinstance(model, WSSSSegmentor):
        raise UserError(
            f'`{type(model).__name__}` cannot be browsed: only models that learn from image-level labels can'
        )
    keep_training_state(model)  # of a memory bank nothing is drawn
    with quiet():
        model.init_weights()
        if cfg.load_from:
            load_checkpoint(model, cfg.load_from, map_location='cpu', logger='current')
    return loader, model.eval()


@torch.no_grad()
def _rows(loader, model, metainfo, has_weights):
    """Yield (img_id, panels) for the pictures of one epoch."""
    warned = has_weights
    for batch in loader:
        batch = model.data_preprocessor(batch, True)
        inputs, data_samples = batch['inputs'], batch['data_samples']
        view = model.training_view(inputs, data_samples)
        if not warned and view is not None and view.pseudo_labels is not None:
            text = 'No --checkpoint and no load_from: CAMs and pseudo labels are of a CAM head with random weights.'
            print_log(text, logger='current', level=logging.WARNING)
            warned = True
        rows = _view_rows(model, view, inputs, data_samples, metainfo, has_weights)
        for sample, row in zip(data_samples, rows):
            yield picture_id(sample), row


def _view_rows(model, view, inputs, data_samples, metainfo, has_weights):
    """Per picture: input and, as far as the model makes them, CAM, pseudo label, mixed picture and mixed label."""
    labels, palette = model.image_labels(data_samples, inputs.device), metainfo['palette']
    pictures, size = model.pictures(inputs).numpy(), inputs.shape[2:]
    # CAMs of random weights show something only where labels are made from them.
    shown = view is not None and (has_weights or view.pseudo_labels is not None)
    probs = F.normalize_cam(view.cam, size, labels, model.align_corners).numpy() if shown else None
    mixed_rows = _mixed_rows(model, view, inputs, labels, metainfo) if view is not None and view.mixed else None
    for i, sample in enumerate(data_samples):
        caption = f'input {sample.metainfo.get("img_id", "")}\nlabels: {_names(labels[i] > 0, metainfo)}'
        picture = pictures[i]
        if view is not None and view.tiles:
            picture = tile_lines(picture, view.tiles)
            caption += f'\nwhite lines: the {view.tiles} x {view.tiles} tiles'
        row = [Panel(picture, caption)]
        if probs is not None:
            whose = view.whose if has_weights else 'CAM of RANDOM weights'
            row.append(Panel(overlay_cams(pictures[i], probs[i], palette), f'{whose}, strongest class of the labels'))
        if view is not None and view.pseudo_labels is not None:
            made = _to_size(view.pseudo_labels[i], size)
            text = f'pseudo label: {view.how}; {_shares(made)}'
            row.append(Panel(overlay_labels(pictures[i], made, palette), text))
        yield row + (next(mixed_rows) if mixed_rows else [])


def _mixed_rows(model, view, inputs, labels, metainfo):
    """Per picture: the mixed picture and its pseudo label."""
    mixed, palette = view.mixed, metainfo['palette']
    pictures = model.pictures(mixed.inputs).numpy()
    for i, picture in enumerate(pictures):
        own, pasted = labels[i] > 0, (mixed.labels[i] > 0) & ~(labels[i] > 0)
        new = 'nothing pasted'
        if (inputs[i] != mixed.inputs[i]).any():
            new = (
                f'own: {_names(own, metainfo)}; pasted: {_names(pasted, metainfo) if pasted.any() else "no new class"}'
            )
        made = _to_size(mixed.pseudo_labels[i], inputs.shape[2:])
        text = f'mixed pseudo label: {_names(mixed.labels[i] > 0, metainfo)}; {_shares(made)}'
        yield [
            Panel(picture, f'mixed picture (what the student sees)\n{new}'),
            Panel(overlay_labels(picture, made, palette), text),
        ]


def _to_size(labels, size) -> np.ndarray:
    """Label map (h, w) at the picture's size (H, W): `pseudo_label.stride` may have made it smaller."""
    return torch.nn.functional.interpolate(labels[None, None].float(), size, mode='nearest')[0, 0].long().numpy()


def _settings(model, load_from) -> str:
    """What the pictures were made with, in one line."""
    weights = f'weights: {load_from or "random (no checkpoint)"}'
    return f'{weights}, {model.training_note}' if model.training_note else weights


def _names(present, metainfo) -> str:
    """Names of the image classes in ``present`` (C,), bool."""
    return ', '.join(name for name, there in zip(metainfo['classes'][1:], present) if there) or 'none'


def _shares(labels) -> str:
    """Shares of the pixels of a label map (H, W) that are foreground and uncertain."""
    uncertain = labels == IGNORE_INDEX
    return f'{np.mean((labels > 0) & ~uncertain):.0%} foreground, {np.mean(uncertain):.0%} uncertain'
