"""Weight initialisers of MMEngine's ``init_cfg`` that the host lacks."""

import copy
import logging
import os
import re
import socket
from collections import Counter
from http.client import HTTPException
from urllib.parse import urlparse

import mmengine
from mmengine.dist import broadcast, broadcast_object_list, get_dist_info
from mmengine.logging import print_log
from mmengine.model import BaseModule, initialize, update_init_info
from mmengine.registry import WEIGHT_INITIALIZERS
from torch import hub, nn

from csrm_plugin.models.checkpoints.convert import TIMM_KINDS, convert, detect_kind
from csrm_plugin.models.checkpoints.io import read_checkpoint, unwrap_state_dict
from csrm_plugin.utils import MissingFileError, UserError

#: Seconds without an answer after which a download is given up.
DOWNLOAD_TIMEOUT = 20

#: What the host's convolutional backbones (ResNet, ResNeSt, MobileNetV2, ...) do by themselves without ``init_cfg``.
DEFAULT_INIT = (
    dict(type='Kaiming', layer='Conv2d'),
    dict(type='Constant', val=1, layer=['_BatchNorm', 'GroupNorm']),
)


class _Unavailable(Exception):
    """The weights cannot be had; the message says why."""


@WEIGHT_INITIALIZERS.register_module()
class OptionalPretrained:
    """Load pretrained weights where they can be had, and start from random ones, with a warning, where not.

    Used as the only entry of ``init_cfg``::

        backbone=dict(type='ResNet', depth=50, init_cfg=dict(
            type='OptionalPretrained', checkpoint='{{$MSRC_WEIGHTS:none}}', hint='$MSRC_WEIGHTS'))

    The module first gets the initialisation that it would have without ``init_cfg``; then come the weights. Nothing
    overwrites them afterwards: MMEngine grants that to its own ``Pretrained`` only, so this one sees to it itself.

    In a distributed run the first process alone reads or fetches the weights, and all get its outcome and its
    tensors: none waits for a download that failed elsewhere, and a file need not be on every machine.

    Checkpoints with the original names of ResNeSt, MiT, Puzzle-CAM, P-NOC or CSRM are converted on the way, and for a
    :class:`~csrm_plugin.models.backbones.TimmBackbone` those of timm and of EfficientNet-Lite. Backbones that do their
    own loading in ``init_weights`` (the host's Swin, ViT) do not come here.

    Args:
        checkpoint (str): A file, ``http(s)://``, ``torchvision://NAME`` or ``open-mmlab://NAME``; '' or 'none' for
            random weights.
        prefix (str, optional): Load only the tensors under this prefix, for example ``backbone.``.
        hint (str): The variable or setting that names the file, for the messages.
    """

    def __init__(self, checkpoint: str | None, prefix: str | None = None, hint: str = '') -> None:
        self.checkpoint = '' if checkpoint is None else str(checkpoint).strip()
        self.prefix = f'{prefix.rstrip(".")}.' if prefix else ''
        self.setting = hint or 'init_cfg.checkpoint'

    def __call__(self, module: nn.Module) -> None:
        """Initialise ``module``.

        Args:
            module (nn.Module): The module whose ``init_cfg`` this is.

        Raises:
            UserError: On all processes, if the checkpoint is there but cannot be read, or fits no tensor of
                ``module``, or if ``init_cfg`` has other entries.
        """
        init_cfg = getattr(module, 'init_cfg', None)
        if isinstance(init_cfg, (list, tuple)) and len(init_cfg) > 1:
            raise UserError('`OptionalPretrained` must be the only entry of `init_cfg`: others would overwrite it.')
        _initialize_as_without_config(module)
        rank, world_size = get_dist_info()
        error = self._load(module) if rank == 0 else None
        if world_size > 1:
            outcome = [None if error is None else str(error)]
            broadcast_object_list(outcome)
            if outcome[0] is not None and error is None:
                error = UserError(outcome[0])
        if error is not None:
            raise error
        if world_size > 1:
            for tensor in module.state_dict().values():
                broadcast(tensor)

    def _load(self, module):
        """Load what there is; give the error, if any, so that the caller can tell the other processes."""
        try:
            state_dict = unwrap_state_dict(self._read())
            report, complete = self._copy(module, self._select(state_dict, module))
        except _Unavailable as reason:
            module.starts_from_scratch = True  # a likely cause, should it learn nothing
            print_log(
                f'{type(module).__name__} starts from scratch, with random weights: {reason}. Set {self.setting} to '
                'a checkpoint with pretrained weights. (`load_from` and `--resume`, if given, come after this.)',
                logger='current',
                level=logging.WARNING,
            )
        except Exception as error:  # every process must hear of it, or the others wait for ever
            return error
        else:
            print_log(report, logger='current', level=logging.INFO if complete else logging.WARNING)
            if hasattr(module, '_params_init_info'):
                update_init_info(module, init_info=f'OptionalPretrained: load from {self.checkpoint}')
        return None

    def _read(self):
        """Read the checkpoint, wherever it is."""
        if self.checkpoint.lower() in ('', 'none'):
            raise _Unavailable('no checkpoint is given')
        path = self.checkpoint
        if '://' in path:
            path = _fetch(_resolve_url(path))
        try:
            return read_checkpoint(path, setting=self.setting)
        except MissingFileError as error:
            raise _Unavailable(f'there is no file {path}') from error

    def _select(self, state_dict, module):
        """Bring the names to ours, and keep those under the prefix, without it."""
        rename = getattr(module, 'own_names', None)  # of a module that takes the names of another package
        try:
            kind = detect_kind(state_dict)
        except UserError:
            pass  # the host's names, or foreign ones, which fit no tensor
        else:
            if (rename is not None) == (kind in TIMM_KINDS):
                state_dict = convert(state_dict, kind).state_dict
                print_log(f'Converted the key names of {self.checkpoint} from those of {kind}.', logger='current')
        if self.prefix:
            selected = {k[len(self.prefix) :]: v for k, v in state_dict.items() if k.startswith(self.prefix)}
            if selected:
                return selected if rename is None else rename(selected)
        if rename is not None:
            state_dict = rename(state_dict)
        own = module.state_dict()
        prefixes = Counter(
            key[: dot.start()] for key in state_dict for dot in re.finditer(r'\.', key) if key[dot.end() :] in own
        )
        mend = f' Mend: init_cfg.prefix={prefixes.most_common(1)[0][0]}.' if prefixes else ''
        if self.prefix or not any(key in own and own[key].shape == state_dict[key].shape for key in state_dict):
            wanted = f'under the prefix `{self.prefix}` ' if self.prefix else ''
            raise UserError(
                f'The checkpoint {self.checkpoint} ({self.setting}) has no tensor {wanted}that fits '
                f'{type(module).__name__}.{mend} It has {_some(list(state_dict))}; the module has {_some(list(own))}.'
            )
        return state_dict

    def _copy(self, module, state_dict):
        """Copy what fits.

        Returns:
            tuple[str, bool]: A report, and whether every tensor of the module was there.
        """
        own = module.state_dict()
        misfits = [key for key in state_dict if key in own and own[key].shape != state_dict[key].shape]
        fitting = {key: tensor for key, tensor in state_dict.items() if key in own and key not in misfits}
        if not fitting:
            raise UserError(
                f'The checkpoint {self.checkpoint} ({self.setting}) fits no tensor of {type(module).__name__}: the '
                f'shapes of {_some(misfits)} differ.'
            )
        module.load_state_dict(fitting, strict=False)
        missing = [key for key in own if key not in state_dict and not key.endswith('num_batches_tracked')]
        unused = [key for key in state_dict if key not in own]
        report = [f'Loaded {len(fitting)} tensors of {type(module).__name__} from {self.checkpoint}.']
        if missing:
            report.append(f'Not in the checkpoint, so left at random: {_some(missing)}.')
        if misfits:
            report.append(f'Of another shape, so left at random: {_some(misfits)}.')
        if unused:
            report.append(f'Not in the module, so unused: {_some(unused)}.')
        return ' '.join(report), not (missing or misfits)


def _some(keys, count=4):
    """A few of the keys, and how many there are."""
    more = f', ... ({len(keys)} in all)' if len(keys) > count else ''
    return ', '.join(keys[:count]) + more


def _initialize_as_without_config(module):
    """Give a module the weights that it would have if ``init_cfg`` were None, and keep MMEngine from going on.

    MMEngine initialises the children of a module after the module itself; here that is done at once, and the children
    are marked as done.
    """
    if getattr(type(module), 'init_weights', BaseModule.init_weights) is not BaseModule.init_weights:
        init_cfg, module.init_cfg = module.init_cfg, None
        try:
            module.init_weights()
        finally:
            module.init_cfg = init_cfg
    else:
        initialize(module, copy.deepcopy(list(DEFAULT_INIT)))
        for child in module.children():
            if hasattr(child, 'init_weights') and not getattr(child, 'is_init', False):
                child.init_weights()
        if getattr(module, 'zero_init_residual', False):
            _zero_residuals(module)
    for child in module.children():
        if isinstance(child, BaseModule):
            child._is_init = True
        elif hasattr(child, 'init_weights'):
            child.is_init = True


def _zero_residuals(module):
    """The host's ResNet starts the last norm layer of each block at zero, but only without ``init_cfg``."""
    from mmseg.models.backbones.resnet import BasicBlock, Bottleneck

    last_norms = {BasicBlock: 'norm2', Bottleneck: 'norm3'}
    for block in module.modules():
        if type(block) in last_norms and module.block is type(block):
            initialize(block, dict(type='Constant', val=0, override=dict(name=last_norms[type(block)])))


def _resolve_url(name):
    """Turn a name of the model zoos into a URL or a path."""
    scheme, _, rest = name.partition('://')
    if scheme in ('http', 'https'):
        return name
    if scheme in ('torchvision', 'modelzoo'):
        urls = mmengine.load(os.path.join(mmengine.__path__[0], 'hub', 'torchvision_0.12.json'))
        if rest not in urls:
            from mmengine.runner.checkpoint import get_torchvision_models

            try:
                urls = get_torchvision_models()
            except ImportError as error:
                raise _Unavailable(f'`{name}` needs torchvision, which is not installed') from error
    elif scheme in ('open-mmlab', 'openmmlab'):
        urls = mmengine.load(os.path.join(mmengine.__path__[0], 'hub', 'openmmlab.json'))
    else:
        raise UserError(
            f'`{name}`: checkpoints come from a file, http(s)://, torchvision:// or open-mmlab://, not {scheme}://.'
        )
    if rest not in urls:
        raise UserError(f'`{name}`: {scheme} has no such model. Known are {_some(sorted(urls), 8)}.')
    return urls[rest]


def _fetch(url):
    """Give the path of the file behind a URL, from torch's cache or the network."""
    if '://' not in url:
        return url
    name = os.path.basename(urlparse(url).path)
    path = os.path.join(hub.get_dir(), 'checkpoints', name)
    if os.path.isfile(path):
        return path
    os.makedirs(os.path.dirname(path), exist_ok=True)
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT)
    try:
        # Model zoos end a name with the start of the file's SHA-256; eight digits alone are more likely a date.
        sha256 = re.search(r'-(?!\d+\.)([0-9a-f]{8,})\.\w+$', name)
        hub.download_url_to_file(url, path, sha256 and sha256[1], progress=False)
    except (OSError, HTTPException, RuntimeError, ValueError) as error:
        raise _Unavailable(f'{url} could not be fetched ({error})') from error
    finally:
        socket.setdefaulttimeout(timeout)
    return path
