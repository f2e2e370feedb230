"""The one way in which every command that predicts builds its model and fills it from a checkpoint.

What takes part in the training alone is left out: the refinement of pseudo labels (dCRF wants a package) and a memory
bank of full size (0.65 GB with the settings of the released code of CSRM). So a checkpoint may lack that part, or hold
one of another size; every other tensor must be there.
"""

import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from mmengine.config import Config, ConfigDict
from mmengine.logging import print_log
from mmengine.model import BaseTTAModel
from mmengine.registry import init_default_scope
from mmseg.models.segmentors import BaseSegmentor, EncoderDecoder
from mmseg.registry import MODELS
from torch import Tensor, nn

from csrm_plugin.models.checkpoints.io import read_checkpoint, unwrap_state_dict
from csrm_plugin.models.segmentors import TeacherStudent, WSSSSegmentor
from csrm_plugin.utils import UserError
from csrm_plugin.utils.devices import choose_device
from csrm_plugin.utils.models import suit_memory_format

#: Keys of a config that say what weights begin with.
_INITIALISATION = ('init_cfg', 'pretrained')


class Misfits(NamedTuple):
    """Names of the tensors that keep a checkpoint from being one of a model.

    Attributes:
        missing (list[str]): Those that the model has and the checkpoint lacks; counters of batches do not count.
        unknown (list[str]): Those that only the checkpoint has.
        reshaped (list[str]): Those that both have, in two shapes.
    """

    missing: list[str]
    unknown: list[str]
    reshaped: list[str]


def load_model(cfg: Config, checkpoint: str, device: str | torch.device | None = 'cpu') -> BaseSegmentor:
    """Build the model of a config for predictions, with every one of its weights from the checkpoint.

    Args:
        cfg (mmengine.config.Config): With ``model``; stays as it is.
        checkpoint (str): File written by a run of that config or by ``tools/export_model.py``; or one of a whole plain
            network, as ``tools/convert_checkpoint.py`` writes it, which student and teacher are then both.
        device (str, optional): Where the model goes, see :func:`csrm_plugin.utils.devices.choose_device`.

    Returns:
        BaseSegmentor: In evaluation mode.

    Raises:
        MissingFileError: If there is no such file.
        UserError: If the file is broken, or lacks weights of this model, as that of another config does.
    """
    model = build_for_prediction(cfg)
    own, tensors = needed_tensors(model), tensors_for(model, read_tensors(checkpoint))
    misfits = find_misfits(own, tensors)
    wrong = {*misfits.missing, *misfits.reshaped}
    lacking = [name for name in own if name in wrong]  # in the order of the model
    if lacking:
        raise UserError(
            f'checkpoint `{checkpoint}` is not one of this config ({cfg.filename}): {len(lacking)} of its {len(own)} '
            f'tensors are not in it or have another shape, for example {lacking[0]}. Give the config that it was '
            'trained with, or convert it with `tools/convert_checkpoint.py`.'
        )
    model.load_state_dict(tensors, strict=False)
    note = getattr(model, 'weights_note', '')
    if note:
        text = f'{checkpoint}: the {model.predicting} predicts, for {note} that this checkpoint was written in.'
        print_log(text, logger='current', level=logging.WARNING)
    return suit_memory_format(model.to(choose_device(device)).eval())


def build_for_prediction(cfg: Config) -> nn.Module:
    """The model of a config with :func:`prediction_settings`, untrained, that keeps its training state when it loads.

    Raises:
        UserError: If the config has no model.
    """
    if not isinstance(cfg.get('model'), dict) or 'type' not in cfg.model:
        raise UserError(f'config `{cfg.filename}` has no model')
    init_default_scope(cfg.get('default_scope') or 'mmseg')
    model = MODELS.build(prediction_settings(cfg.model))
    keep_training_state(model)
    return model


def prediction_settings(model: Mapping) -> ConfigDict:
    """Settings of a model that only predicts, on any device.

    Without initialisation, for the weights are trained; with BN for SyncBN, which needs GPUs and predicts the same;
    and without what the class says takes part in the training alone (:meth:`WSSSSegmentor.prediction_settings`), also
    for a model within test-time augmentation.

    Args:
        model (Mapping): ``model`` of a config; stays as it is.

    Returns:
        ConfigDict: A copy.
    """
    settings = without_initialisation(model)
    kind = settings.get('type')
    kind = MODELS.get(kind) if isinstance(kind, str) else kind
    if isinstance(kind, type):
        if issubclass(kind, BaseTTAModel) and isinstance(settings.get('module'), dict):
            settings['module'] = prediction_settings(settings['module'])
        elif issubclass(kind, WSSSSegmentor):
            settings = kind.prediction_settings(settings)
        elif issubclass(kind, EncoderDecoder):
            settings['test_cfg'] = settings.get('test_cfg') or dict(mode='whole')  # the host needs one
    return Config(dict(model=settings)).model


def without_initialisation(node: Any) -> Any:
    """Copy of a part of a config made of plain dicts, without ``init_cfg`` and ``pretrained``, with BN for SyncBN."""
    if isinstance(node, Mapping):
        node = {key: without_initialisation(value) for key, value in node.items() if key not in _INITIALISATION}
        if node.get('type') == 'SyncBN':
            node['type'] = 'BN'
        return node
    return type(node)(map(without_initialisation, node)) if isinstance(node, (list, tuple)) else node


def keep_training_state(model: nn.Module) -> None:
    """Let parts that take part in the training alone (``training_only``) pass over what a checkpoint holds of them.

    They keep their own values, whether the checkpoint has none or some of another shape, and nothing is reported.
    """
    for module in model.modules():
        if getattr(module, 'training_only', False):
            module._register_load_state_dict_pre_hook(_put_own_values, with_module=True)


def _put_own_values(module, state_dict, prefix, *_) -> None:
    """Replace everything below ``prefix`` in a state dict by what the module has already."""
    for name in [name for name in state_dict if name.startswith(prefix)]:
        del state_dict[name]
    state_dict.update(module.state_dict(prefix=prefix))


def needed_tensors(model: nn.Module) -> dict[str, Tensor]:
    """The state dict of a model without the parts that take part in the training alone."""
    unused = _training_prefixes(model)
    return {name: value for name, value in model.state_dict().items() if not name.startswith(unused)}


def _training_prefixes(model) -> tuple[str, ...]:
    """What the names of the tensors begin with that :func:`keep_training_state` is about, such as ``bank.``."""
    return tuple(f'{name}.' for name, module in model.named_modules() if getattr(module, 'training_only', False))


def read_tensors(checkpoint: str) -> dict[str, Tensor]:
    """The tensors of a checkpoint file by name; ``UserError`` naming the file if there are none."""
    return read_tensors_and_meta(checkpoint)[0]


def read_tensors_and_meta(checkpoint: str) -> tuple[dict[str, Tensor], dict]:
    """As :func:`read_tensors`, and what the checkpoint notes about itself, as far as it does (``epoch``, ``iter``)."""
    content = read_checkpoint(checkpoint)
    try:
        tensors = unwrap_state_dict(content)
    except UserError as error:
        raise UserError(f'checkpoint `{checkpoint}`: {error}') from error
    meta = content.get('meta') if isinstance(content, dict) else None
    return tensors, meta if isinstance(meta, dict) else {}


def tensors_for(model: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a checkpoint that count for a prediction, by the names that they have in the model.

    Args:
        model (nn.Module): Of student and teacher, a checkpoint of one whole plain network is both.
        tensors (Mapping[str, Tensor]): From :func:`read_tensors`.

    Returns:
        dict[str, Tensor]: Without those of parts that take part in the training alone. Of student and teacher, with
        ``teacher_frozen``, which older checkpoints do not have: their teacher predicts.
    """
    if isinstance(model, TeacherStudent):
        if not find_misfits(model.student.state_dict(), tensors).missing:
            networks = ('student', 'teacher')
            tensors = {f'{network}.{name}': value for network in networks for name, value in tensors.items()}
        tensors = {'teacher_frozen': torch.zeros((), dtype=torch.int64), **tensors}
    unused = _training_prefixes(model)
    return {name: value for name, value in tensors.items() if not name.startswith(unused)}


def find_misfits(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> Misfits:
    """Compare the state dict of a model with the tensors of a checkpoint."""
    return Misfits(
        [name for name in own if name not in tensors and not name.endswith('num_batches_tracked')],
        [name for name in tensors if name not in own],
        [name for name in tensors if name in own and own[name].shape != tensors[name].shape],
    )
