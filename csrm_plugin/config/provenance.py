"""Where a result comes from: settings, hashes of settings and files, versions, git and host.

Nothing here names a host, a user or an absolute path beyond what the user gave, so that records can be compared across
machines.
"""

import hashlib
import json
import os
import os.path as osp
import platform
import subprocess
import sys
from importlib import metadata

from mmengine.config import Config

from csrm_plugin.config.keys import top_level_is_read
from csrm_plugin.utils import MissingFileError
from csrm_plugin.utils.processes import available_cores
from csrm_plugin.version import __version__

#: Settings that change no result, as dotted keys that stand for all below them: where things are read and written,
#: what is logged and drawn, how often is saved. (Starting weights are among the inputs of a stage.) Variables of a
#: config file that nothing reads are left out as well.
WITHOUT_EFFECT = (
    'custom_imports',
    'default_hooks.checkpoint.interval',
    'default_hooks.checkpoint.max_keep_ckpts',
    'default_hooks.logger',
    'default_hooks.pictures',
    'default_hooks.record',
    'default_hooks.timer',
    'default_hooks.visualization',
    'env_cfg.dist_cfg',
    'env_cfg.mp_cfg',
    'experiment_name',
    'filename',
    'launcher',
    'load_from',
    'log_level',
    'log_processor',
    'resume',
    'vis_backends',
    'visualizer',
    'work_dir',
)

#: Names of settings that change no result, wherever they are. What is below ``data_root`` and ``pseudo_label_dir``
#: does, and has places of its own on a card: ``data`` and ``inputs``.
NAMES_WITHOUT_EFFECT = {
    '_scope_',
    'data_root',
    'hint',
    'num_workers',
    'persistent_workers',
    'pin_memory',
    'prefetch_factor',
    'pseudo_label_dir',
    'workers',
}

#: Names of settings of a loader that say where it reads.
SOURCES = {'data_root', 'pseudo_label_dir'}

#: Names of settings that point to weights.
WEIGHTS = {'checkpoint', 'pretrained'}

#: Packages that can change a result: name of the module -> names under which it is distributed.
PACKAGES = {
    'torch': ('torch',),
    'numpy': ('numpy',),
    'mmengine': ('mmengine', 'onedl-mmengine'),
    'mmcv': ('mmcv', 'mmcv-lite', 'onedl-mmcv'),
    'mmseg': ('mmsegmentation', 'onedl-mmsegmentation'),
    'PIL': ('pillow', 'Pillow'),
    'cv2': ('opencv-python', 'opencv-python-headless', 'opencv-contrib-python'),
    'pydensecrf': ('pydensecrf2', 'pydensecrf'),
    'segment_anything': ('segment-anything',),
    'timm': ('timm',),
}

_PACKAGE_FOLDER = osp.dirname(osp.dirname(osp.abspath(__file__)))
_CHUNK = 1 << 20  # bytes read at a time


def config_settings(cfg: Config | dict) -> dict:
    """Every setting of a config that can change a result, flat.

    Left out is what :data:`WITHOUT_EFFECT` and :data:`NAMES_WITHOUT_EFFECT` list. A local file of weights is given by
    name and content, any other absolute path by its last part, so that the place of a file does not matter.

    Args:
        cfg (mmengine.config.Config | dict): Resolved, that is with all overrides merged.

    Returns:
        dict: Dotted key (list elements by index, where the list holds dicts) to plain JSON value.

    Example:
        >>> config_settings({'model': {'type': 'CSRM', 'crf': {'workers': 4}}, 'work_dir': 'here'})
        {'model.crf': {}, 'model.type': 'CSRM'}
    """
    content = cfg.to_dict() if isinstance(cfg, Config) else dict(cfg)
    flat = {}
    for name, value in content.items():
        if top_level_is_read(name) and _has_effect(name):
            _flatten(value, name, flat)
    return {key: _identified(key, value) for key, value in sorted(flat.items())}


def config_sources(cfg: Config) -> dict[str, str]:
    """Where a config reads from, flat: what :func:`config_settings` leaves out although it can change a result.

    Args:
        cfg (mmengine.config.Config): Resolved.

    Returns:
        dict[str, str]: Dotted key to path: ``data_root`` and ``pseudo_label_dir`` of each loader, and ``load_from``.
    """
    flat = {}
    for name in [name for name in cfg if name.endswith('_dataloader') and cfg[name]]:
        _flatten_all(cfg[name], name, flat)
    kept = {key: value for key, value in flat.items() if key.rsplit('.', 1)[-1] in SOURCES and value}
    return {**kept, **({'load_from': cfg.load_from} if cfg.get('load_from') else {})}


def config_hash(settings: dict) -> str:
    """SHA-256 of what :func:`config_settings` gives, in hex; 1 and 1.0 count as the same."""
    text = json.dumps(_canonical(settings), sort_keys=True, separators=(',', ':'))
    return hashlib.sha256(text.encode()).hexdigest()


def file_hash(path: str) -> str:
    """SHA-256 of the content of a file, in hex.

    Raises:
        MissingFileError: If there is no such file.
    """
    digest = hashlib.sha256()
    try:
        with open(path, 'rb') as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except FileNotFoundError as error:
        raise MissingFileError(f'file `{path}` does not exist') from error
    return digest.hexdigest()


def versions() -> dict:
    """Versions of Python, of this package and of the installed ones of :data:`PACKAGES`, by name of the module."""
    found = {'python': platform.python_version(), 'csrm_plugin': __version__}
    for module, names in PACKAGES.items():
        version = getattr(sys.modules.get(module), '__version__', None) or _distributed_version(names)
        if version is not None:
            found[module] = str(version)
    return found


def git_revision(folder: str | None = None) -> dict | None:
    """Revision of the code, where it comes from a git checkout.

    Args:
        folder (str, optional): A folder of the checkout. By default that of this package, provided that git tracks it
            (an environment may lie inside a checkout of something else).

    Returns:
        dict | None: ``revision`` (hex) and ``dirty`` (bool, whether a tracked file was changed); None without git, in
        no checkout, or before the first commit.
    """
    if folder is None:
        folder = _PACKAGE_FOLDER
        if _git(folder, 'ls-files', '--error-unmatch', '__init__.py') is None:
            return None
    revision = _git(folder, 'rev-parse', '--verify', 'HEAD')
    status = _git(folder, 'status', '--porcelain', '--untracked-files=no')
    if not revision or status is None:
        return None
    return {'revision': revision, 'dirty': bool(status)}


def host() -> dict:
    """What a run could use of its machine: ``cpus`` (int) and ``gpus`` (list of names)."""
    # Not through torch, which would begin to use the first GPU and could then fork no more workers.
    text = _output(['nvidia-smi', '--query-gpu=name', '--format=csv,noheader']) or ''
    gpus = [line.strip() for line in text.splitlines() if line.strip()]
    visible = os.environ.get('CUDA_VISIBLE_DEVICES')
    if visible is not None:
        indices = [part.strip() for part in visible.split(',') if part.strip()]
        if all(index.isdigit() for index in indices):
            gpus = [gpus[int(index)] for index in indices if int(index) < len(gpus)]
    return {'cpus': available_cores(), 'gpus': gpus}


def _flatten(value, key, flat):
    """Put the settings below ``key`` into ``flat``."""
    if isinstance(value, dict):
        kept = {f'{key}.{name}': item for name, item in value.items() if _has_effect(f'{key}.{name}')}
        if not kept:  # `crf=dict(workers=4)` is something else than none
            flat[key] = {}
        for name, item in kept.items():
            _flatten(item, name, flat)
    elif isinstance(value, (list, tuple)) and _holds_dict(value):
        for index, item in enumerate(value):
            _flatten(item, f'{key}.{index}', flat)
    else:
        flat[key] = _plain(value)


def _flatten_all(value, key, flat):
    """Put every setting below ``key`` into ``flat``, less those in lists."""
    for name, item in value.items():
        if isinstance(item, dict):
            _flatten_all(item, f'{key}.{name}', flat)
        else:
            flat[f'{key}.{name}'] = item


def _holds_dict(value):
    """Whether there is a dict in nested lists."""
    return isinstance(value, dict) or (isinstance(value, (list, tuple)) and any(map(_holds_dict, value)))


def _plain(value):
    """A setting as JSON knows it; classes and functions by their full names."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted(map(_plain, value), key=str)
    if hasattr(value, '__qualname__'):
        return f'{value.__module__}.{value.__qualname__}'
    return str(value)


def _has_effect(key):
    """Whether the setting can change a result."""
    return key not in WITHOUT_EFFECT and key.rsplit('.', 1)[-1] not in NAMES_WITHOUT_EFFECT


def _identified(key, value):
    """A path as what it points to: weights by name and content, anything else by name."""
    if not isinstance(value, str):
        return value
    if key.rsplit('.', 1)[-1] in WEIGHTS and '://' not in value and value.strip().lower() not in ('', 'none'):
        # Whether the file is there matters as well: some initialisers start at random without it.
        content = f'sha256 {file_hash(value)[:16]}' if osp.isfile(value) else 'not there'
        return f'{osp.basename(value)} ({content})'
    return osp.basename(osp.normpath(value)) if osp.isabs(value) else value


def _canonical(value):
    """The same for values that are equal."""
    if isinstance(value, dict):
        return {key: _canonical(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _distributed_version(names):
    """Version of the first installed distribution of ``names``, or None."""
    for name in names:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None


def _git(folder, *arguments):
    """What git prints about ``folder``, or None."""
    return _output(['git', '-C', folder, *arguments])


def _output(command):
    """What a command prints, without blanks around it; None if it fails, hangs or is not there."""
    # Inside a git hook such variables point to another repository.
    environment = {name: value for name, value in os.environ.items() if not name.startswith('GIT_')}
    try:
        result = subprocess.run(
            command, capture_output=True, text=True, timeout=20, env=environment, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return result.stdout.strip() if result.returncode == 0 else None
