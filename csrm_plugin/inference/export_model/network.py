"""The network to export: built from its config, filled from a checkpoint, with the names of its classes."""

import os
import os.path as osp

from mmengine.config import Config
from mmseg.models.segmentors import EncoderDecoder
from mmseg.registry import DATASETS
from torch import nn

from csrm_plugin.datasets.voc_layout import shorten, voc_palette
from csrm_plugin.models.checkpoints.prediction import (
    build_for_prediction,
    find_misfits,
    read_tensors_and_meta,
    tensors_for,
)
from csrm_plugin.models.segmentors import TeacherStudent, WSSSSegmentor
from csrm_plugin.utils import UserError


def build_original(
    cfg: Config, config: str, network: str | None = None
) -> tuple[nn.Module, EncoderDecoder, str | None]:
    """Build the model of a config, with untrained weights, and choose the network to export.

    Args:
        cfg (mmengine.config.Config): The config.
        config (str): Its file, for messages.
        network (str, optional): See :func:`export_model`.

    Returns:
        tuple[nn.Module, EncoderDecoder, str | None]: The model, the network in it, and its name there; the model
        itself and None for a plain ``EncoderDecoder``.

    Raises:
        UserError: If the model has no segmentation branch, or no such network.
    """
    model = build_for_prediction(cfg)
    if isinstance(model, TeacherStudent) and isinstance(model.predictor, EncoderDecoder):
        if network is not None:
            model.test_cfg['network'] = network
        return model, model.predictor, model.test_cfg['network']
    if type(model) is not EncoderDecoder:
        raise UserError(_no_network(model, cfg.model['type'], config))
    if network is not None:
        raise UserError(f'--network {network}: `{config}` is a plain EncoderDecoder, without teacher and student')
    return model, model, None


def _no_network(model, kind, config) -> str:
    """Why a model has no plain network to write, and what else there is."""
    if type(model).encode_decode is WSSSSegmentor.encode_decode:
        lacks, mend = 'has no segmentation branch', 'give the config and checkpoint of a model that has one'
    else:
        lacks = 'segments without a decoder, by what it does with its CAMs, so that there is no `EncoderDecoder`'
        mend = 'use it as it is (tools/predict.py, init_model), or export a network that learnt from its labels'
    return f'`{config}` is a {kind}, which {lacks} to export; {mend}'


def load_weights(original: nn.Module, module: nn.Module, path: str, prefix: str, config: str) -> dict:
    """Load the tensors of a checkpoint that begin with ``prefix`` into a module; each must be there, and no other.

    Args:
        original (nn.Module): The whole model, which knows the names.
        module (nn.Module): The part of it that gets the weights.
        path (str): The checkpoint, read without running code that it may hold.
        prefix (str): For example ``teacher.``.
        config (str): For the message.

    Returns:
        dict: ``epoch``, ``iter`` and ``dataset_meta`` of the checkpoint's ``meta``, as far as they are there.

    Raises:
        MissingFileError: If there is no such file.
        UserError: If it cannot be read, or is not of this model, or its teacher has not learnt yet.
    """
    state, meta = read_tensors_and_meta(path)
    state = tensors_for(original, state)
    if prefix == 'teacher.' and state['teacher_frozen']:
        raise UserError(
            f'checkpoint `{path}` is of a warm-up in which the teacher is frozen, so that nothing has trained its '
            'branches; give `--network student`, or a checkpoint from after the warm-up'
        )
    state = {name[len(prefix) :]: value for name, value in state.items() if name.startswith(prefix)}
    own = module.state_dict()
    misfits = find_misfits(own, state)
    wrong = [
        f'{len(names)} {what} ({shorten(prefix + name for name in names)})'
        for what, names in zip(('are missing', 'are unknown', 'have another shape'), misfits)
        if names
    ]
    if wrong:
        raise UserError(
            f'checkpoint `{path}` does not fit `{config}`: of {len(own)} tensors {"; ".join(wrong)}. Give the config '
            'that it was trained with, and the same --cfg-options.'
        )
    module.load_state_dict(state, strict=False)
    kept = {name: meta[name] for name in ('epoch', 'iter', 'dataset_meta') if name in meta}
    return dict(kept, source=osp.basename(os.fspath(path)))


def class_names(meta: dict, cfg: Config, network: EncoderDecoder, config: str) -> dict:
    """Names and colours of the classes: the checkpoint's, else those of the config's test data.

    Args:
        meta (dict): With the checkpoint's ``dataset_meta``, where it has one.
        cfg (mmengine.config.Config): The config.
        network (EncoderDecoder): How many classes there must be.
        config (str): For the message.

    Returns:
        dict: ``classes`` (list of K str) and ``palette`` (K lists of RGB, 0..255; VOC's where none is given).

    Raises:
        UserError: If there are no names, or not as many as the network has classes.
    """
    dataset = cfg.get('test_dataloader', {}).get('dataset', {})
    kind = DATASETS.get(dataset['type']) if isinstance(dataset.get('type'), str) else None
    candidates = (meta.get('dataset_meta'), dataset.get('metainfo'), getattr(kind, 'METAINFO', None))
    found = next((item for item in candidates if item and item.get('classes')), None)
    count = network.decode_head.num_classes
    if found is None or len(found['classes']) != count:
        what = 'nobody names its classes' if found is None else f'the data has {len(found["classes"])}'
        raise UserError(
            f'the network of `{config}` has {count} classes, but {what}; set '
            'test_dataloader.dataset.metainfo.classes, or give the checkpoint of this config'
        )
    palette = found.get('palette') or voc_palette(count)
    return dict(
        classes=[str(name) for name in found['classes']],
        palette=[[int(value) for value in colour] for colour in palette],
    )
