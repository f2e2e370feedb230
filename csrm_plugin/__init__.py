"""CSRM and RML for weakly supervised semantic segmentation, as a plugin of MMSegmentation.

Importing this package is all it takes: it checks the host packages, mends what they need on today's Python and
torch, and registers every component in the registries of :mod:`mmseg`. Configs do it with
``custom_imports = dict(imports=['csrm_plugin'], allow_failed_imports=False)``.
"""

from csrm_plugin import compat
from csrm_plugin.version import __version__

compat.apply()

from csrm_plugin import datasets, engine, evaluation, models, tracking  # noqa: E402, F401  (must come after `compat.apply`)

__all__ = ['__version__']
