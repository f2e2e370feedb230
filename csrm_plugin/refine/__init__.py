"""Refinement that looks at the picture."""

from .dense_crf import DenseCRF, dense_crf

__all__ = ['DenseCRF', 'dense_crf']
