"""Transforms that the host does not have: they read labels and pack them."""

from csrm_plugin.datasets.transforms.load_optional_annotations import LoadOptionalAnnotations
from csrm_plugin.datasets.transforms.load_pseudo_labels import LoadPseudoLabels
from csrm_plugin.datasets.transforms.pack_wsss_inputs import PackWSSSInputs

__all__ = ['LoadOptionalAnnotations', 'LoadPseudoLabels', 'PackWSSSInputs']
