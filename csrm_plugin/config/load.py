"""Read a config, apply ``--cfg-options`` to it, and refuse options that nothing would read."""

import difflib
import glob
import logging
import os
import os.path as osp
import re
from collections.abc import Sequence
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log

from csrm_plugin.config.keys import EVERYWHERE, known_keys, top_level_is_read
from csrm_plugin.config.renamed import refuse_renamed, refuse_renamed_options
from csrm_plugin.utils import MissingFileError, UserError
from csrm_plugin.utils.spelling import nearest

_ENV_VARIABLE = re.compile(r'^`(\w+)` cannot be found in `os.environ`')


def load_config(path: str, cfg_options: dict | None = None) -> Config:
    """Read a config file and override it.

    Every key of ``cfg_options`` must be present in the config or be a parameter of the registered class (or of
    the Runner) at that place; MMEngine itself merges a misspelt key without a word.

    Args:
        path (str): A config in Python, JSON or YAML.
        cfg_options (dict, optional): Dotted key to value, as ``--cfg-options`` gives it; a number in a key is
            the index of a list element, a value may be a dict, ``_delete_=True`` replaces a dict instead of
            merging into it.

    Returns:
        mmengine.config.Config: The overridden config.

    Raises:
        MissingFileError: If the file or one of its bases is not there.
        UserError: If the file cannot be read, or a key is unknown or has another name now; the message names the
            nearest known one, or the new one.
    """
    cfg = _read_config(path)
    refuse_renamed(cfg._cfg_dict, f'config `{path}`')
    if cfg_options:
        merge_options(cfg, cfg_options)
    return cfg


def merge_options(cfg: Config, cfg_options: dict) -> None:
    """Override ``cfg`` in place after checking the keys.

    Args:
        cfg (mmengine.config.Config): Changed in place.
        cfg_options (dict): See :func:`load_config`.

    Raises:
        UserError: If a key is unknown, has another name now, or cannot be merged at its place.
    """
    options = flatten(cfg_options)
    refuse_renamed_options(options, cfg._cfg_dict)
    merged = _merged(cfg, options)
    for key in options:
        check_key(key, cfg, merged, options)
    for key in options:
        name = key.split('.')[0]
        if not top_level_is_read(name):
            print_log(
                f'`{name}` in --cfg-options is a variable of the config file: what the file made of it is already '
                'fixed, so setting it changes nothing but itself. Set the keys that use it instead.',
                logger='current',
                level=logging.WARNING,
            )
    cfg._cfg_dict.clear()
    cfg._cfg_dict.update(merged)


def flatten(options: dict, prefix: str = '') -> dict:
    """Write nested dicts as dotted keys; empty dicts stay values.

    Example:
        >>> flatten({'model.bank': {'capacity': 8}, 'seed': 1})
        {'model.bank.capacity': 8, 'seed': 1}
    """
    flat = {}
    for key, value in options.items():
        if isinstance(value, dict) and value:
            flat.update(flatten(value, f'{prefix}{key}.'))
        else:
            flat[f'{prefix}{key}'] = value
    return flat


def check_key(key: str, cfg: Config, merged: dict, options: dict) -> None:
    """Raise unless something reads the setting ``key``.

    Args:
        key (str): Dotted key.
        cfg (mmengine.config.Config): The config before the options.
        merged (mmengine.config.ConfigDict): The config after them.
        options (dict): All options, flat: a ``type`` among them decides which parameters there are.

    Raises:
        UserError: Naming the nearest known key.
    """
    parts = key.split('.')
    original, node = cfg._cfg_dict, merged
    for depth, part in enumerate(parts):
        if f'{".".join([*parts[:depth], "_delete_"])}' in options:
            original = None
        if isinstance(node, (list, tuple)):
            _check_index(key, parts, depth, node)
        elif isinstance(node, dict):
            if part.isdigit() and part not in (original or ()):
                raise UserError(f'`{key}` in --cfg-options: `{".".join(parts[:depth])}` is no list in this config')
            known = known_keys(parts[:depth], merged, original)
            if known is not None and part not in known:
                raise UserError(_unknown_key_message(key, parts, depth, known, cfg))
        else:
            return
        node = _child(node, part)
        original = _child(original, part)


def _read_config(path: str) -> Config:
    """``Config.fromfile`` with errors that name the file and the mend."""
    if not osp.isfile(path):
        near = _near_files(path)
        hint = f'; did you mean {" or ".join(near)}?' if near else ''
        raise MissingFileError(f'config `{path}` does not exist{hint}')
    try:
        return Config.fromfile(path)
    except KeyError as error:
        variable = _ENV_VARIABLE.match(str(error.args[0]))
        if variable is None:
            raise UserError(f'config `{path}` cannot be read: KeyError: {error}') from error
        name = variable.group(1)
        state = 'empty' if name in os.environ else 'not set, and the config has no default for it'
        raise UserError(f'config `{path}`: the environment variable {name} is {state}; give it a value') from error
    except FileNotFoundError as error:
        raise MissingFileError(f'config `{path}` cannot be read: {error}') from error
    except Exception as error:
        raise UserError(f'config `{path}` cannot be read: {type(error).__name__}: {error}') from error


def _near_files(path: str) -> list[str]:
    """Up to three existing configs whose names resemble ``path``: beside it, in ``mmcfg/`` here, in the project's."""
    project = osp.dirname(osp.dirname(osp.dirname(osp.abspath(__file__))))
    found = {}
    for pattern in (
        osp.join(osp.dirname(path), '*.py'),
        osp.join('mmcfg', '**', '*.py'),
        osp.join(project, 'mmcfg', '**', '*.py'),
    ):
        for name in glob.glob(pattern, recursive=True):
            if f'{osp.sep}_base_{osp.sep}' not in name:
                found.setdefault(osp.basename(name), name)
    stem = osp.splitext(osp.basename(path))[0] + '.py'
    return [found[name] for name in difflib.get_close_matches(stem, found, n=3, cutoff=0.6)]


def _merged(cfg: Config, options: dict) -> dict:
    """The config dict after the options, leaving ``cfg`` as it is."""
    options = dict(options)
    for key in list(options):
        parts = key.split('.')
        node = cfg._cfg_dict
        for depth, part in enumerate(parts):
            if f'{".".join([*parts[:depth], "_delete_"])}' in options:
                break
            if isinstance(node, (list, tuple)):
                _check_index(key, parts, depth, node)
            if depth > 0 and node is None:
                # MMEngine refuses to merge a dict into None, though `clip_grad=None` is how configs say "none".
                options['.'.join([*parts[:depth], '_delete_'])] = True
                break
            if depth > 0 and not isinstance(node, (dict, list, tuple)):
                above = '.'.join(parts[:depth])
                if above in options:
                    break
                raise UserError(f'`{key}` in --cfg-options: `{above}` is {node!r}, which has no settings of its own')
            if isinstance(node, dict) and part not in node:
                break
            node = _child(node, part)
    copy = Config(cfg._cfg_dict.copy())
    try:
        copy.merge_from_dict(options)
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f'--cfg-options cannot be merged: {error.args[0]}') from error
    return copy._cfg_dict


def _check_index(key: str, parts: list[str], depth: int, elements: Sequence) -> None:
    """Raise unless the part of ``key`` at ``depth`` is an index of the list ``elements``."""
    if not parts[depth].isdigit() or int(parts[depth]) >= len(elements):
        what = f'an index from 0 to {len(elements) - 1}' if elements else 'left out: there is nothing in it'
        raise UserError(
            f'`{key}` in --cfg-options: `{".".join(parts[:depth])}` is a list of {len(elements)}, so `{parts[depth]}` '
            f'must be {what}'
        )


def _child(node: Any, step: str) -> Any:
    """The element of a dict or list, or None."""
    if isinstance(node, dict):
        return node.get(step)
    if isinstance(node, (list, tuple)) and str(step).isdigit() and int(step) < len(node):
        return node[int(step)]
    return None


def _unknown_key_message(key: str, parts: list[str], depth: int, known: set[str], cfg: Config) -> str:
    """The error for an unknown key, with the nearest known one."""
    read = {name: value for name, value in cfg._cfg_dict.items() if top_level_is_read(name)}
    present = _all_keys(read) | {f'randomness.{name}' for name in ('seed', 'deterministic')}
    known = known - EVERYWHERE

    def complete(name):
        """The key with ``name`` in place of the unknown part, as far down as the config has it; None without one."""
        if name is None:
            return None
        whole = '.'.join([*parts[:depth], name, *parts[depth + 1 :]])
        return whole if whole in present else '.'.join([*parts[:depth], name])

    near = (
        complete(nearest(parts[depth], known, cutoff=0.7))
        # A forgotten `model.` is a likelier slip than a name that merely looks alike.
        or nearest(key, [name for name in present if name.endswith(f'.{key}')], cutoff=0.0)
        or nearest(key, [name for name in present if _last(name) == parts[-1]], cutoff=0.5)
        or complete(nearest(parts[depth], known, cutoff=0.0))
        or nearest(key, present, cutoff=0.0)
    )
    return f'unknown setting `{key}` in --cfg-options' + (f'; did you mean `{near}`?' if near else '')


def _last(key: str) -> str:
    """The last part of a dotted key."""
    return key.rsplit('.', 1)[-1]


def _all_keys(node: Any, prefix: str = '') -> set[str]:
    """Every dotted key below ``node``."""
    if isinstance(node, dict):
        items = node.items()
    elif isinstance(node, (list, tuple)):
        items = enumerate(node)
    else:
        return set()
    keys = set()
    for name, value in items:
        keys.add(f'{prefix}{name}')
        keys |= _all_keys(value, f'{prefix}{name}.')
    return keys
