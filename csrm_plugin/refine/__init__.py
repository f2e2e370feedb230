"""Refinement that looks at the picture."""

from .dense_crf import DenseCRF, dense_crf
from .sam import enhance_labels, read_masks, write_masks

__all__ = ['DenseCRF', 'dense_crf', 'enhance_labels', 'read_masks', 'write_masks']
