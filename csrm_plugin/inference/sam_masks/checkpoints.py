"""Segment Anything models of ``transformers``: found in a folder, in the local cache or on the hub, and loaded."""

import hashlib
import os.path as osp
import re
from types import ModuleType
from typing import Any

import numpy as np
from torch import nn

from csrm_plugin.datasets import voc_layout
from csrm_plugin.inference.sam_masks.settings import SUPERPIXELS
from csrm_plugin.utils import MissingFileError, UserError

#: ``model_type`` of the configurations whose models are known to work here.
SAM_TYPES = ('sam', 'sam_hq')

#: What a complete checkpoint of the hub has: one of each of these.
_HUB_FILES = (
    ('config.json',),
    ('model.safetensors', 'model.safetensors.index.json', 'pytorch_model.bin', 'pytorch_model.bin.index.json'),
    ('preprocessor_config.json', 'processor_config.json'),
)


def load_sam(checkpoint: str) -> tuple[Any, Any]:
    """Load a Segment Anything model of ``transformers`` (SAM or SAM-HQ) and its image processor, on the CPU.

    A folder, and whatever looks like a path, is never looked up on the network; a hub name only if it is not in the
    local cache.

    Args:
        checkpoint (str): Folder with ``config.json``, weights and the processor's settings, or ``owner/name``.

    Returns:
        tuple[PreTrainedModel, BaseImageProcessor]: float32.

    Raises:
        MissingFileError: If it does not exist.
        UserError: If it is another model, damaged or incomplete, or the hub cannot be reached.
    """
    transformers = import_transformers()
    source, offline = _locate(checkpoint)
    config = _load(checkpoint, transformers.AutoConfig, source, offline)
    if config.model_type not in SAM_TYPES:
        raise UserError(
            f'checkpoint `{checkpoint}` is a model of type {config.model_type}, but must be Segment Anything: '
            f'{" or ".join(SAM_TYPES)}'
        )
    factory = transformers.AutoModelForMaskGeneration
    model, info = _load(checkpoint, factory, source, offline, output_loading_info=True)
    absent = sorted(map(str, [*info['missing_keys'], *info['mismatched_keys']]))
    if absent:
        raise UserError(
            f'the weights of checkpoint `{checkpoint}` lack {len(absent)} tensors or have them in another shape '
            f'({voc_layout.shorten(absent)}): it is incomplete, download it again'
        )
    return model.float(), _load(checkpoint, transformers.AutoImageProcessor, source, offline)


def weights_hash(model: nn.Module) -> str:
    """16 hexadecimal digits that stand for the names and values of a model's tensors."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(tensor.detach().cpu().numpy()))
    return digest.hexdigest()[:16]


def import_transformers() -> ModuleType:
    """The package, or one line on how to get it."""
    try:
        import transformers
    except ImportError as error:
        raise UserError(
            f'Segment Anything needs the package transformers, which cannot be imported ({error}). Mend: `pip install '
            f'transformers`, or the word `{SUPERPIXELS}` as checkpoint, to show the mechanism only'
        ) from error
    return transformers


def _locate(checkpoint):
    """What to give to ``from_pretrained``, and whether it must stay off the network."""
    if osp.isdir(checkpoint):
        if not osp.isfile(osp.join(checkpoint, 'config.json')):
            raise MissingFileError(
                f'checkpoint folder `{checkpoint}` has no config.json; it must be as `save_pretrained` of transformers '
                'writes it'
            )
        return osp.abspath(checkpoint), True
    if osp.isfile(checkpoint):
        raise UserError(
            f'checkpoint `{checkpoint}` is a file; give the folder of a model of transformers (config.json, '
            'model.safetensors, preprocessor_config.json), or a hub name such as facebook/sam-vit-huge'
        )
    is_name = re.fullmatch(r'\w[\w.-]*/\w[\w.-]*', checkpoint) and not osp.isdir(checkpoint.split('/')[0])
    if not is_name:
        raise MissingFileError(
            f'checkpoint `{checkpoint}` does not exist; give a folder, a hub name such as facebook/sam-vit-huge, or '
            f'the word `{SUPERPIXELS}`'
        )
    return checkpoint, _is_cached(checkpoint)


def _is_cached(name):
    """Whether a model of the hub is in the local cache; if not, make sure that the hub has it and can be reached."""
    import huggingface_hub

    def cached(file):
        return isinstance(huggingface_hub.try_to_load_from_cache(name, file), str)

    if all(any(map(cached, files)) for files in _HUB_FILES):
        return True
    try:
        # Asked once: transformers would try again for half a minute.
        huggingface_hub.HfApi().model_info(name, timeout=10)
    except Exception as error:  # what the network raises differs between versions of its packages
        text = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f'checkpoint `{name}` is no folder, not in the local cache, and cannot be had from the Hugging Face hub '
            f'({text}): download it where there is a network, and give its folder'
        ) from error
    return False


def _load(checkpoint, factory, source, offline, **options):
    """``factory.from_pretrained`` with errors that fit on one line."""
    import transformers

    transformers.utils.logging.disable_progress_bar()
    try:
        return factory.from_pretrained(source, local_files_only=offline, **options)
    except MemoryError:
        raise
    except Exception as error:  # safetensors, JSON, missing files, unknown models: each has a type of its own
        text = ' '.join(str(error).split())[:300] or type(error).__name__
        raise UserError(f'checkpoint `{checkpoint}` cannot be loaded: {text}') from error
