"""Backbones that the host does not have."""

from csrm_plugin.models.backbones.mix_transformer import AttentionMixVisionTransformer
from csrm_plugin.models.backbones.resnest import WSSSResNeSt
from csrm_plugin.models.backbones.timm_backbone import TimmBackbone

__all__ = ['AttentionMixVisionTransformer', 'TimmBackbone', 'WSSSResNeSt']
