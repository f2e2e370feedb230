"""Reading checkpoint files without running code that they may hold."""

import os
import pickle
from typing import Any

import torch
from torch import Tensor, nn

from csrm_plugin.utils import MissingFileError, UserError

#: Wrappers around a state dict, the first that is there wins; a teacher is the better network.
_CONTAINERS = ('state_dict', 'teacher', 'ema', 'model_state_dict', 'model_state', 'model', 'network', 'net', 'student')


def read_checkpoint(path: str | os.PathLike, unsafe: bool = False, setting: str = '') -> Any:
    """Read a file written by ``torch.save``, or tensors in safetensors, onto the CPU.

    Args:
        path (str): The file.
        unsafe (bool): Whether to unpickle any object. That can run code that the file holds.
        setting (str): What names the file, for the message, for example ``$MSRC_WEIGHTS``.

    Returns:
        object: What was saved, mostly a dict.

    Raises:
        MissingFileError: If there is no such file.
        UserError: If it cannot be read, or holds objects that are unsafe to load.
    """
    path = os.path.expanduser(os.fspath(path))
    where = f'{path} ({setting})' if setting else path
    if not os.path.isfile(path):
        raise MissingFileError(f'There is no checkpoint file {where}.')
    if path.endswith('.safetensors'):
        return _read_safetensors(path, where)
    try:
        return torch.load(path, map_location='cpu', weights_only=not unsafe)
    except (
        RuntimeError,
        EOFError,
        pickle.UnpicklingError,
        OSError,
        ValueError,
        KeyError,
        AttributeError,
        ImportError,
    ) as error:
        first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if not unsafe and 'allowed global' in str(error):
            raise UserError(
                f'The checkpoint {where} holds Python objects besides tensors, and loading those can run code. If you '
                'trust its origin, save its tensors alone with '
                f'`python tools/convert_checkpoint.py --unsafe {path} OUT` (and `--kind keep` if its names are right).'
            ) from error
        raise UserError(
            f'The checkpoint {where} cannot be read: it is truncated, or not written by torch.save. Fetch or copy it '
            f'again. ({first_line})'
        ) from error


def _read_safetensors(path, where):
    """Tensors by name, in the format in which timm's and others' weights are published."""
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise UserError(f'The checkpoint {where} needs the package safetensors: `pip install safetensors`.') from error
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(
            f'The checkpoint {where} cannot be read as safetensors. Fetch or copy it again. ({error})'
        ) from error


def unwrap_state_dict(checkpoint: Any) -> dict[str, Tensor]:
    """Find the tensors in what a checkpoint file holds.

    Takes off wrappers (``{'state_dict': ...}``, ``{'teacher': ..., 'student': ...}``; of the latter the teacher is
    taken) and the prefix ``module.`` of DataParallel.

    Args:
        checkpoint (object): As read from a file.

    Returns:
        dict[str, Tensor]: Key names to tensors; what is not a tensor is left out.

    Raises:
        UserError: If there are no tensors with names.
    """
    while isinstance(checkpoint, dict):
        inner = next(
            (checkpoint[key] for key in _CONTAINERS if isinstance(checkpoint.get(key), (dict, nn.Module))), None
        )
        if inner is None:
            break
        checkpoint = inner
    if isinstance(checkpoint, nn.Module):
        checkpoint = checkpoint.state_dict()
    if isinstance(checkpoint, dict):
        tensors = {k: v.detach() for k, v in checkpoint.items() if torch.is_tensor(v) and isinstance(k, str)}
        while tensors and all(key.startswith('module.') for key in tensors):
            tensors = {key[len('module.') :]: value for key, value in tensors.items()}
        if tensors:
            return tensors
    found = ', '.join(list(map(str, checkpoint))[:8]) if isinstance(checkpoint, dict) else type(checkpoint).__name__
    raise UserError(f'The checkpoint holds no tensors with names; found: {found or "an empty dict"}.')
