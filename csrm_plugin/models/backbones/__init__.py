"""Backbones that the host does not have."""

from .mix_transformer import AttentionMixVisionTransformer
from .resnest import WSSSResNeSt

__all__ = ['AttentionMixVisionTransformer', 'WSSSResNeSt']
