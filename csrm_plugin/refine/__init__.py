"""Refinement of labels by the picture: dense CRF, PAR, masks of Segment Anything."""

from csrm_plugin.refine.build import build_refinement, refinement_title
from csrm_plugin.refine.dense_crf import DenseCRF, dense_crf
from csrm_plugin.refine.pixel_adaptive import PixelAdaptiveRefinement
from csrm_plugin.refine.sam import enhance_labels, read_masks, write_masks

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
