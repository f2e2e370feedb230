from . import backbones, decode_heads, initializers, losses, segmentors  # noqa: F401  (registers)
from .memory_bank import MemoryBank

__all__ = ['MemoryBank']
