"""Everything that is trained: segmentors, backbones, heads, losses, the memory bank, checkpoints.

Importing this package registers it in the registries of :mod:`mmseg`.
"""

from csrm_plugin.models import backbones, decode_heads, layers, losses, segmentors  # noqa: F401  (registers)
from csrm_plugin.models.checkpoints import initializers  # noqa: F401  (registers)
from csrm_plugin.models.memory_bank import MemoryBank

__all__ = ['MemoryBank']
