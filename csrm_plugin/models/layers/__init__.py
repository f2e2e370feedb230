"""Layers that the host does not have."""

from csrm_plugin.models.layers.cpu_sync_batch_norm import CPUSyncBatchNorm, use_on_cpu
from csrm_plugin.models.layers.norm_act import split_norm_act

__all__ = ['CPUSyncBatchNorm', 'split_norm_act', 'use_on_cpu']
