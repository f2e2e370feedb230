"""Refinement that looks at the picture."""

from .build import build_refinement, refinement_title
from .dense_crf import DenseCRF, dense_crf
from .pixel_adaptive import PixelAdaptiveRefinement
from .sam import enhance_labels, read_masks, write_masks

__all__ = [
    'DenseCRF',
    'PixelAdaptiveRefinement',
    'build_refinement',
    'dense_crf',
    'enhance_labels',
    'read_masks',
    'refinement_title',
    'write_masks',
]
