"""Backbones that the host does not have."""

from csrm_plugin.models.backbones.mix_transformer import AttentionMixVisionTransformer
from csrm_plugin.models.backbones.resnest import WSSSResNeSt

__all__ = ['AttentionMixVisionTransformer', 'WSSSResNeSt']
