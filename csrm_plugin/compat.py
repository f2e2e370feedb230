"""What the host packages need on today's Python and torch, and nothing else.

Each function mends one known trap, does nothing where the trap is absent, and may be called twice.
:func:`apply` runs them all; importing :mod:`csrm_plugin` calls it once.
"""

import contextlib
import functools
import importlib
import importlib.machinery
import importlib.metadata
import importlib.util
import inspect
import os.path as osp
import pickle
import sys
import types
from collections.abc import Callable

from packaging.specifiers import SpecifierSet
from packaging.version import Version

#: Host module -> versions that the plugin is known to work with.
SUPPORTED = {
    'torch': '>=2.0,<3',
    'mmengine': '>=0.10.4,<0.11',
    'mmcv': '>=2.0.1,<3',
    'mmseg': '>=1.2.0,<2',
}

#: What mmseg imports without declaring it.
UNDECLARED = ('ftfy', 'regex')


def check_host_versions(versions: dict[str, str] | None = None) -> None:
    """Raise if a host package is missing or outside the range in :data:`SUPPORTED`.

    Args:
        versions (dict[str, str], optional): Module name to version string. Defaults to the versions of the
            installed modules; given by tests.

    Raises:
        ImportError: Naming every package that is missing or out of range, what was found and what is supported.
    """
    problems = []
    for name, supported in SUPPORTED.items():
        try:
            found = _installed_version(name) if versions is None else versions.get(name)
        except AssertionError as error:  # how mmseg says that it does not go with this mmcv or mmengine
            problems.append(str(error))
            continue
        if found is None:
            problems.append(f'{name} is not installed (supported: {supported})')
        elif not SpecifierSet(supported, prereleases=True).contains(Version(found).base_version):
            problems.append(f'{name} {found} is outside the supported range {supported}')
    for name in UNDECLARED if versions is None else ():
        if importlib.util.find_spec(name) is None:
            problems.append(f'{name} is not installed, which mmseg imports without declaring it')
    if problems:
        raise ImportError(
            'csrm_plugin cannot run on these host packages: '
            + '; '.join(problems)
            + '. Mend: `make install` makes an environment with the tested versions of requirements.txt.'
        )


def _installed_version(name: str) -> str | None:
    """Version of the module ``name``, or None if it is not there."""
    try:
        return importlib.import_module(name).__version__
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        return None


class _MissingOps(types.ModuleType):
    """Stands in for ``mmcv._ext`` while ``mmcv.ops`` is imported: any name exists, calling it is an error."""

    def __getattr__(self, name: str) -> Callable:
        if name.startswith('__'):
            raise AttributeError(name)

        def missing_op(*args, **kwargs):
            raise RuntimeError(
                f'`mmcv._ext.{name}` was called, but mmcv-lite has no compiled operators. No model of csrm_plugin '
                'needs one; for models that do, install the full `mmcv` that fits your torch and CUDA.'
            )

        return missing_op


def import_mmcv_ops() -> None:
    """Make ``import mmcv.ops`` work with mmcv-lite.

    mmseg imports ``mmcv.ops`` at module level, and those modules look up ``mmcv._ext`` while they load. The
    placeholder is taken out of ``sys.modules`` again, because mmengine imports ``mmcv._ext`` to find out whether
    the full mmcv is there.
    """
    if 'mmcv.ops' in sys.modules or importlib.util.find_spec('mmcv._ext') is not None:
        return
    sys.modules['mmcv._ext'] = _MissingOps('mmcv._ext')
    try:
        importlib.import_module('mmcv.ops')
    finally:
        del sys.modules['mmcv._ext']
        mmcv = sys.modules['mmcv']
        if hasattr(mmcv, '_ext'):
            delattr(mmcv, '_ext')


#: Keeps what :func:`declare_torchvision_ops` has declared: it lasts as long as the object.
_TORCHVISION_OPS = []


def declare_torchvision_ops() -> None:
    """Make ``import torchvision`` work where its compiled part was built for another torch, as for CUDA beside a CPU's.

    It then goes without operators, but describes two of them to torch all the same, which fails where nobody has
    declared them. That would stop ``timm``, and MMEngine at the start of every training. Declared here, they are known
    by name, and torchvision itself says that they are missing when they are called.
    """
    spec = None if 'torchvision' in sys.modules else importlib.util.find_spec('torchvision')
    if spec is None or not spec.submodule_search_locations:
        return
    import torch

    loader = (importlib.machinery.ExtensionFileLoader, importlib.machinery.EXTENSION_SUFFIXES)
    compiled = importlib.machinery.FileFinder(spec.submodule_search_locations[0], loader).find_spec('_C')
    if compiled is not None:
        with contextlib.suppress(OSError):
            torch.ops.load_library(compiled.origin)  # as torchvision does when it is imported
    if not _TORCHVISION_OPS and not hasattr(torch.ops.torchvision, 'nms'):
        library = torch.library.Library('torchvision', 'FRAGMENT')
        for name in ('nms', 'qnms'):
            library.define(f'{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')
        _TORCHVISION_OPS.append(library)


class _ImportedWhenUsed(types.ModuleType):
    """Stands in for the module of its name, which is imported when something of it is asked for."""

    def __getattr__(self, name: str) -> object:
        return getattr(importlib.import_module(self.__name__), name)


def import_timm_when_used() -> None:
    """Let mmseg import ``timm``, which brings torchvision along, only for a model of it.

    mmseg has a wrapper of timm's models and imports timm at module level, which takes as long as all else together
    and is for nothing in nearly every command.
    """
    name = 'mmseg.models.backbones.timm_backbone'
    if 'timm' in sys.modules or name in sys.modules or importlib.util.find_spec('timm') is None:
        return
    sys.modules['timm'] = None  # not there, as far as mmseg can see
    try:
        importlib.import_module(name).timm = _ImportedWhenUsed('timm')
    finally:
        del sys.modules['timm']


def _find_module(package: str) -> importlib.machinery.ModuleSpec | None:
    """Spec of the module that a distribution or module called ``package`` brings, or None.

    MMEngine asks for ``mmsegmentation`` where it means the module ``mmseg``, which forks bring as well.
    """
    from mmengine.config.utils import MODULE2PACKAGE

    def candidates():
        yield package
        yield from (module for module, name in MODULE2PACKAGE.items() if name == package)
        yield from (module for module, found in importlib.metadata.packages_distributions().items() if package in found)

    specs = (importlib.util.find_spec(name) for name in candidates())
    return next((spec for spec in specs if spec is not None and spec.submodule_search_locations), None)


def _is_installed(package: str) -> bool:
    """Whether the distribution or module ``package`` is installed."""
    try:
        importlib.metadata.distribution(package)
        return True
    except importlib.metadata.PackageNotFoundError:
        return _find_module(package) is not None


def _get_installed_path(package: str) -> str:
    """Folder of the module of a distribution or module called ``package``."""
    spec = _find_module(package)
    if spec is None:
        raise RuntimeError(f'`{package}` is not installed; its configs cannot be inherited.')
    return osp.abspath(next(iter(spec.submodule_search_locations)))


def replace_pkg_resources() -> None:
    """Let ``mmseg::_base_/...`` inheritance work without ``pkg_resources``.

    setuptools 81 drops it; before that, importing it is slow and prints a deprecation warning at every start.
    """
    for name in (
        'mmengine.utils.package_utils',
        'mmengine.utils',
        'mmengine.config.config',
        'mmengine.config.utils',
        'mmengine.hub.hub',
        'mmengine.registry.utils',
    ):
        module = importlib.import_module(name)
        for attribute, function in (('is_installed', _is_installed), ('get_installed_path', _get_installed_path)):
            if hasattr(module, attribute):
                setattr(module, attribute, function)


def allow_mmengine_checkpoints() -> None:
    """Let ``torch.load(weights_only=True)`` read what mmengine writes into a checkpoint.

    From torch 2.6 on that mode is the default, and from there on MMEngine is held to it. A training checkpoint of
    mmengine holds its ``HistoryBuffer`` and NumPy arrays, which are harmless data; naming them keeps the protection
    against everything else.
    """
    import numpy as np
    import torch
    from mmengine.logging import HistoryBuffer

    if Version(torch.__version__) < Version('2.6'):
        return  # that mode is not the default there, and knows no names for what is allowed
    core = importlib.import_module('numpy._core' if hasattr(np, '_core') else 'numpy.core')
    multiarray = importlib.import_module(core.__name__ + '.multiarray')
    allowed = [HistoryBuffer, np.ndarray, np.dtype, (_statistic_of_history_buffer, 'builtins.getattr')]
    # NumPy 1 and 2 pickle under different module names; a checkpoint may come from either.
    for prefix in ('numpy.core.multiarray', 'numpy._core.multiarray'):
        allowed += [(multiarray._reconstruct, f'{prefix}._reconstruct'), (multiarray.scalar, f'{prefix}.scalar')]
    allowed += [
        type(np.dtype(kind)) for kind in ('f8', 'f4', 'f2', 'i8', 'i4', 'i2', 'i1', 'u8', 'u4', 'u2', 'u1', '?')
    ]
    torch.serialization.add_safe_globals(allowed)
    keep_loading_safe()


def keep_loading_safe() -> None:
    """Let no loader of MMEngine run what a checkpoint brings along, see :func:`read_data_only`."""
    importlib.import_module('mmengine.runner.checkpoint')
    for name, module in list(sys.modules.items()):
        if name.startswith('mmengine.') and name.rpartition('.')[2] in ('checkpoint', 'hub'):
            read_data_only(module)


def read_data_only(module: types.ModuleType) -> None:
    """Make all that a module of MMEngine loads through torch go through ``torch.load(weights_only=True)``.

    Three traps are mended: downloads ask for the unsafe mode, whatever torch's default is; MMEngine's main branch
    (0.11, not released) does so in all its loaders; and ``onedl-mmengine`` runs a checkpoint that is not plain data
    after a warning, and takes its own list of harmless names away after each load, and ours with it. Nobody but the
    module sees a changed torch.

    Args:
        module (types.ModuleType): Changed in place.
    """
    if 'torch' in vars(module):
        module.torch = _TorchThatReadsData('torch')
    if 'load_url' in vars(module):
        module.load_url = _reading_data_only(inspect.unwrap(module.load_url))
    if '_safe_torch_load' in vars(module):
        module._safe_torch_load = module.torch.load


class _TorchThatReadsData(_ImportedWhenUsed):
    """Torch as it is, but for :meth:`load`."""

    @property
    def load(self) -> Callable:
        """``torch.load``, which runs nothing whatever it is told."""
        return _reading_data_only(importlib.import_module('torch').load)


def _reading_data_only(function: Callable) -> Callable:
    """``function`` with ``weights_only=True``, even where its caller says otherwise."""

    @functools.wraps(function)
    def read(*args, **kwargs):
        return function(*args, **{**kwargs, 'weights_only': True})

    return read


def _statistic_of_history_buffer(owner: object, name: str) -> Callable:
    """What ``getattr`` may do in a checkpoint: name a statistic of ``HistoryBuffer``, which pickles its methods so."""
    from mmengine.logging import HistoryBuffer

    if owner is not HistoryBuffer or name not in ('min', 'max', 'current', 'mean'):
        raise pickle.UnpicklingError(f'the checkpoint asks for `{name}` of {owner!r}, which no checkpoint needs')
    return getattr(owner, name)


def apply() -> None:
    """Check the hosts and mend all known traps. Raises ``ImportError`` for unsupported hosts."""
    declare_torchvision_ops()
    check_host_versions()
    import_mmcv_ops()
    import_timm_when_used()
    replace_pkg_resources()
    allow_mmengine_checkpoints()
