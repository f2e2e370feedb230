"""``config.py`` and ``model.pth``: an ``EncoderDecoder`` for programs that know only the host."""

import os.path as osp

import numpy as np
import torch
from mmcv.transforms import LoadAnnotations
from mmengine.config import Config
from mmseg.apis import inference_model
from mmseg.models.segmentors import EncoderDecoder
from mmseg.registry import TRANSFORMS
from torch import nn

from csrm_plugin.config.keys import find_classes
from csrm_plugin.datasets.transforms import PackWSSSInputs
from csrm_plugin.inference.export_model.comparison import largest_difference, verdict
from csrm_plugin.models.checkpoints.prediction import prediction_settings, without_initialisation
from csrm_plugin.utils import UserError

#: (H, W) of the random pictures, in pixels, before the test pipeline resizes them.
_PICTURES = ((75, 101), (120, 90))

#: Parts of an ``EncoderDecoder``; the other branches of a network are left out.
_PARTS = ('backbone', 'neck', 'decode_head')


def inference_pipeline(cfg: Config, config: str) -> list[dict]:
    """Steps of the test pipeline but those that load masks: what the host needs for a picture without truth."""
    steps = cfg.get('test_dataloader', {}).get('dataset', {}).get('pipeline') or cfg.get('test_pipeline')
    if not steps:
        raise UserError(f'config `{config}` has no test_pipeline')
    steps = [dict(without_initialisation(step)) for step in steps]
    return [step for step in steps if not _is_kind(step, LoadAnnotations)]


def plain_config(cfg: Config, config: str, is_branch: bool) -> Config:
    """Config of the plain model: no bases, no initialisation, and types of ours only where nothing else will do.

    Args:
        cfg (mmengine.config.Config): Config of the original.
        config (str): Its file, for messages.
        is_branch (bool): Whether the network is one of two in a model, with branches that are left out.

    Returns:
        mmengine.config.Config: ``default_scope``, ``model``, ``test_pipeline`` and, where one of these has a type
        that the host lacks, ``custom_imports``.
    """
    model = prediction_settings(cfg.model).to_dict()
    if is_branch:
        parts = {name: model[name] for name in ('data_preprocessor', *_PARTS) if model.get(name) is not None}
        model = dict(type='EncoderDecoder', **parts, test_cfg=dict(mode='whole'))
    pipeline = inference_pipeline(cfg, config)
    for step in pipeline:
        if _is_kind(step, PackWSSSInputs):
            step['type'] = 'PackSegInputs'
    plain = dict(default_scope='mmseg', model=model, test_pipeline=pipeline)
    imports = _needed_imports(plain, cfg)
    if imports:
        plain['custom_imports'] = dict(imports=imports, allow_failed_imports=False)
    return Config(plain)


def write_plain(folder: str, plain: Config, network: EncoderDecoder, meta: dict) -> None:
    """Write ``config.py`` and ``model.pth``.

    Args:
        folder (str): Where.
        plain (mmengine.config.Config): From :func:`plain_config`.
        network (EncoderDecoder): Whose weights are written; its other branches are not.
        meta (dict): Plain data for the checkpoint's ``meta``.
    """
    plain.dump(osp.join(folder, 'config.py'))
    parts = (*_PARTS, 'auxiliary_head')
    state = {name: value for name, value in network.state_dict().items() if name.split('.')[0] in parts}
    # Into an open file: given a path, torch writes its (temporary) name into the archive.
    with open(osp.join(folder, 'model.pth'), 'wb') as file:
        torch.save(dict(meta=meta, state_dict=state), file)


def compare_plain(original: nn.Module, exported: EncoderDecoder) -> dict:
    """Largest difference of the logits that the host's :func:`inference_model` gives for random pictures.

    Args:
        original (nn.Module): The model that was trained, with ``cfg.test_pipeline``.
        exported (EncoderDecoder): As from :func:`init_model`.

    Returns:
        dict: ``max_abs_diff`` (float), ``tolerance``, ``compared`` and ``sizes`` (H, W).

    Raises:
        UserError: If it is above the tolerance.
    """
    random, difference = np.random.default_rng(0), 0.0
    for size in _PICTURES:
        picture = random.integers(0, 256, (*size, 3), dtype=np.uint8)
        logits = [inference_model(model, picture).seg_logits.data for model in (original, exported)]
        difference = max(difference, largest_difference(*logits))
    return verdict('model.pth', difference, compared='seg_logits', sizes=_PICTURES)


def _is_kind(step, kind) -> bool:
    """Whether a step of a pipeline is of a class or one derived from it."""
    found = TRANSFORMS.get(step['type']) if isinstance(step['type'], str) else step['type']
    return isinstance(found, type) and issubclass(found, kind)


def _needed_imports(plain, cfg) -> list[str]:
    """Which of the config's ``custom_imports``, and whether ours, bring a type that ``plain`` names."""
    roots = {entry.__module__.partition('.')[0] for name in _types(plain) for entry in find_classes(name)}
    listed = cfg.get('custom_imports', {}).get('imports') or []
    listed = [listed] if isinstance(listed, str) else listed
    ours = __name__.partition('.')[0]
    return [name for name in dict.fromkeys([ours, *listed]) if name.partition('.')[0] in roots]


def _types(node):
    """Every ``type`` below ``node``."""
    if isinstance(node, dict):
        if isinstance(node.get('type'), str):
            yield node['type']
        node = list(node.values())
    if isinstance(node, (list, tuple)):
        for item in node:
            yield from _types(item)
