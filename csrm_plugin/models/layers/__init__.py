"""Layers that the host does not have."""

from csrm_plugin.models.layers.cpu_sync_batch_norm import CPUSyncBatchNorm, use_on_cpu

__all__ = ['CPUSyncBatchNorm', 'use_on_cpu']
