"""Which keys a dict of a config may have: what its class, or whoever reads it, takes.

The answer is a set of names, or None where any name may be meant (free-form dicts, classes that take anything).
A registered class may say what the keys of a dict parameter are with a class attribute, which its subclasses inherit::

    SETTINGS = {'pseudo_label': PseudoLabelSettings, 'pseudo_label.crf': DenseCRF, 'test_cfg': ('network',)}

that is, the dotted name of the parameter to a callable whose parameters they are, or to the names themselves.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch
from mmengine import registry as mmengine_registry
from mmengine.runner import Runner
from mmseg import registry as mmseg_registry
from torch.utils.data import DataLoader

#: Top-level keys that the Runner, the host's tools or ours read beside the parameters of `Runner.__init__`.
TOP_LEVEL = {
    '_scope_',
    'activation_checkpointing',
    'auto_scale_lr',
    'compile',
    'custom_imports',
    'default_scope',
    'efficient_conv_bn_eval',
    'find_unused_parameters',
    'global_batch_size',
    'max_batch_per_process',
    'model_wrapper_cfg',
    'runner_type',
    'sync_bn',
    'tta_model',
    'tta_pipeline',
}

#: Keys that any dict of a config may have.
EVERYWHERE = {'type', '_scope_', '_delete_'}

#: Keys that the host takes out of a dict before it builds the class, by the name of the dict.
TAKEN_OUT = {
    'norm_cfg': {'requires_grad'},
    'init_cfg': {'override'},
    'override': {'name'},
    'param_scheduler': {'convert_to_iter_based'},
    'optim_wrapper': {'constructor', 'optimizer', 'paramwise_cfg'},
    'train_cfg': {'by_epoch'},
    'worker_init_fn': {'disable_subprocess_warning'},
}

#: Dicts whose keys are names that the user or another package chooses.
FREE_FORM = {
    'custom_keys',
    'metainfo',
    'init_kwargs',
    'meta',
    'backend_args',
    'file_client_args',
    'define_metric_cfg',
    'watch_kwargs',
    'dist_cfg',
    'compile',
    'efficient_conv_bn_eval',
    'extra',
    'override',
}

#: Dicts without a `type`, by name (or the name of the dict above and their own): the callable that takes them, or the
#: keys that are read.
READERS = {
    'auto_scale_lr': ('base_batch_size', 'enable'),
    'clip_grad': ('type', 'max_norm', 'norm_type', 'error_if_nonfinite', 'foreach', 'clip_value'),
    'custom_imports': ('imports', 'allow_failed_imports'),
    'data_prefix': ('img_path', 'seg_map_path'),
    'data_preprocessor.test_cfg': ('size', 'size_divisor'),
    'env_cfg': ('cudnn_benchmark', 'mp_cfg', 'dist_cfg', 'resource_limit'),
    'mp_cfg': ('mp_start_method', 'opencv_num_threads'),
    'paramwise_cfg': (
        'custom_keys',
        'bias_lr_mult',
        'bias_decay_mult',
        'norm_decay_mult',
        'flat_decay_mult',
        'dwconv_decay_mult',
        'dcn_offset_lr_mult',
        'bypass_duplicate',
    ),
    'randomness': Runner.set_randomness,
    'test_cfg': ('mode', 'crop_size', 'stride'),
    'tta_cfg': (),
}

#: Classes whose ``**kwargs`` go to something else than a base class: the callables or registered types they go to.
KWARGS_GO_TO = {
    'CheckpointHook': (Runner.save_checkpoint,),
    'EMAHook': ('ExponentialMovingAverage', 'MomentumAnnealingEMA', 'StochasticWeightAverage'),
    'RandomChoiceResize': ('Resize',),
    'RandomResize': ('Resize',),
}
#: The type that the host takes where a dict gives none, by name.
DEFAULT_TYPES = {
    'optim_wrapper': ('OptimWrapper',),
    'log_processor': ('LogProcessor',),
    'model_wrapper_cfg': ('MMDistributedDataParallel',),
    'visualizer': ('Visualizer',),
}
#: The same for the loops, which share their names with parameters of models.
LOOPS = {
    'train_cfg': ('EpochBasedTrainLoop', 'IterBasedTrainLoop'),
    'val_cfg': ('ValLoop',),
    'test_cfg': ('TestLoop',),
}
DEFAULT_CONSTRUCTOR = 'DefaultOptimWrapperConstructor'
DEFAULT_HOOKS = {'runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler', 'checkpoint', 'visualization'}
DATALOADER_EXTRAS = {'dataset', 'num_batch_per_epoch', 'worker_init_fn'}


def known_keys(path: list[str], merged: dict, original: Any) -> set[str] | None:
    """Names that the dict at ``path`` may have.

    Args:
        path (list[str]): Keys and indices from the top of the config to the dict.
        merged (dict): The whole config with the options applied: the ``type`` of the dict counts as it will be.
        original: What is at ``path`` without the options, or None; its keys are known in any case.

    Returns:
        set[str] | None: The names; None if any name may be meant.
    """
    present = set(original) | EVERYWHERE if isinstance(original, dict) else EVERYWHERE
    if not path:
        return present | _parameters(Runner.__init__)[0] | TOP_LEVEL
    trail = _walk(merged, path)
    node, parent = trail[-1], _dict_above(trail)
    name = (_names(path) or path)[-1]
    if name in FREE_FORM:
        return None
    if len(path) == 1 and name.endswith('_dataloader'):
        return present | DATALOADER_EXTRAS | _parameters(DataLoader)[0]
    if name == 'default_hooks':
        return (
            present | DEFAULT_HOOKS | {key for key, hook in node.items() if isinstance(hook, dict) and 'type' in hook}
        )
    if len(path) > 1 and path[-2] == 'custom_keys':
        return present | {'lr_mult', 'decay_mult'}
    default = _default_of(parent, name)
    types = _types(name, node, default, at_top=len(path) == 1)
    if types:
        names, is_open = _union(types)
        return None if is_open else present | names | TAKEN_OUT.get(name, set()) | set(default)
    reader = _reader(path, trail)
    if reader is not None:
        names, is_open = (set(reader), False) if isinstance(reader, (tuple, set, list)) else _parameters(reader)
        return None if is_open else present | names | set(default)
    return present | set(default) if default or (isinstance(original, dict) and original) else None


def top_level_is_read(name: str) -> bool:
    """Whether the host's Runner or a tool reads the top-level key ``name``, instead of only the config file itself."""
    return name in TOP_LEVEL or name in _parameters(Runner.__init__)[0]


def takes(type_name: str | type | None, name: str) -> bool:
    """Whether a class registered as ``type_name`` has a parameter called ``name``; False if nothing is."""
    return any(name in _parameters(entry)[0] for entry in find_classes(type_name))


def find_classes(type_name: str | type | None) -> list:
    """All classes and functions registered as ``type_name`` in MMSegmentation's and MMEngine's registries.

    Args:
        type_name (str | type, optional): As in a config, with or without the scope; classes are given back.

    Returns:
        list: Empty if there is none, for example because it is in a package that is not imported.
    """
    if not isinstance(type_name, str):
        return [type_name] if callable(type_name) else []
    scope, _, bare = type_name.rpartition('.')
    if scope not in ('', 'mmseg', 'mmengine'):
        return []
    found = []
    for registry in _registries():
        entry = registry.module_dict.get(bare)
        if entry is not None and entry not in found:
            found.append(entry)
    return found


@functools.cache
def _registries() -> tuple[mmengine_registry.Registry, ...]:
    """Every registry of MMSegmentation and MMEngine, filled."""
    found = []
    for module in (mmseg_registry, mmengine_registry):
        for registry in vars(module).values():
            if isinstance(registry, mmengine_registry.Registry) and registry not in found:
                registry.import_from_location()
                found.append(registry)
    return tuple(found)


def _parameters(entry: Callable) -> tuple[set[str], bool]:
    """Names that a class or function takes, and whether it takes any others.

    ``**kwargs`` of an ``__init__`` are followed to the base class that names them.

    Returns:
        tuple[set[str], bool]: The names, and True if ``**kwargs`` lead nowhere that could be looked up.
    """
    if not inspect.isclass(entry):
        return _signature(entry)
    names, is_open = set(), False
    for cls in entry.__mro__:
        # The `**kwargs` of torch's Module only serve multiple inheritance: it takes nothing.
        if cls in (object, torch.nn.Module):
            break
        if '__init__' in vars(cls):
            more, is_open = _signature(cls.__init__)
            names |= more
            if not is_open:
                break
    return names, is_open


def _signature(function: Callable) -> tuple[set[str], bool]:
    """Parameter names of a function without ``self``, and whether it has ``**kwargs``."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # built-in classes and functions may have no signature
        return set(), True
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    names = {parameter.name for parameter in parameters if parameter.kind not in variable} - {'self'}
    return names, any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters)


def _union(types):
    """Parameters of all classes called so; open if there is none or one of them is."""
    names, is_open, found = set(), False, False
    for entry in (entry for type_name in types for entry in find_classes(type_name)):
        more, entry_open = _parameters(entry)
        forwarded = KWARGS_GO_TO.get(getattr(entry, '__name__', None))
        if forwarded:
            targets = [target for name in forwarded for target in find_classes(name)]
            more, entry_open = more.union(*(_parameters(target)[0] for target in targets)), False
        names, is_open, found = names | more, is_open or entry_open, True
    return names, is_open or not found


def _types(name, node, default, at_top):
    """Names of the types that the dict may have: its own, its default's or the host's."""
    own = node.get('type') if isinstance(node, dict) else None
    own = own or default.get('type')
    if name == 'clip_grad':
        return ()
    if own is not None:
        return (own,)
    if at_top and name in LOOPS:
        return LOOPS[name]
    return DEFAULT_TYPES.get(name, ()) if at_top else ()


def _reader(path, trail):
    """The callable or the names that say which keys the untyped dict at ``path`` has; None if nobody says."""
    name, parent = (_names(path) or path)[-1], _dict_above(trail)
    if name == 'paramwise_cfg' and parent.get('constructor', DEFAULT_CONSTRUCTOR) != DEFAULT_CONSTRUCTOR:
        return None
    for depth in range(len(trail) - 2, 0, -1):
        if isinstance(trail[depth], dict) and 'type' in trail[depth]:
            setting = '.'.join(_names(path[depth:]))
            for entry in find_classes(trail[depth]['type']):
                for cls in entry.__mro__ if inspect.isclass(entry) else ():
                    if setting in vars(cls).get('SETTINGS', {}):
                        return vars(cls)['SETTINGS'][setting]
            break
    return READERS.get('.'.join(_names(path)[-2:]), READERS.get(name))


def _names(path):
    """The parts of ``path`` that are no list indices."""
    return [part for part in path if not part.isdigit()]


def _default_of(parent, name):
    """The default of the parameter ``name`` of the parent's class where it is a dict, else an empty dict."""
    for entry in find_classes(parent['type']) if 'type' in parent else ():
        for cls in entry.__mro__ if inspect.isclass(entry) else (entry,):
            function = vars(cls).get('__init__') if inspect.isclass(cls) else cls
            if function is None or function is object.__init__:
                continue
            try:
                parameter = inspect.signature(function).parameters.get(name)
            except (TypeError, ValueError):
                continue
            if parameter is not None:
                return parameter.default if isinstance(parameter.default, dict) else {}
    return {}


def _walk(node, path):
    """The nodes from ``node`` down ``path``, with ``node`` itself first."""
    trail = [node]
    for part in path:
        node = node[int(part)] if isinstance(node, (list, tuple)) else node[part]
        trail.append(node)
    return trail


def _dict_above(trail):
    """The nearest dict above the last node; an empty one if there is none."""
    return next((node for node in reversed(trail[:-1]) if isinstance(node, dict)), {})
