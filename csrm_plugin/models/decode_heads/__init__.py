"""Heads that turn features into CAMs, segmentations, representations, affinities."""

from csrm_plugin.models.decode_heads.affinity_head import AffinityHead, AttentionAffinityHead
from csrm_plugin.models.decode_heads.cam_head import CAMHead
from csrm_plugin.models.decode_heads.context_head import ContextHead
from csrm_plugin.models.decode_heads.deeplabv2_head import DeepLabV2Head
from csrm_plugin.models.decode_heads.representation_head import RepresentationHead

__all__ = [
    'AffinityHead',
    'AttentionAffinityHead',
    'CAMHead',
    'ContextHead',
    'DeepLabV2Head',
    'RepresentationHead',
]
