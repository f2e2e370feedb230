"""The equations: pure functions of tensors, without state, configuration or device names.

Labels are int64 with 255 = uncertain, 0 = background; probabilities are float in 0..1; pictures are uint8 RGB.
"""

from .cam import normalize_cam
from .collectives import gather, global_sum, rank, shared_generator, world_size
from .consistency import activation_consistency_loss, confident_pixels, segmentation_consistency_loss
from .contrast import (
    ContrastTerms,
    contrastive_loss,
    contrastive_terms,
    info_nce,
    negative_candidates,
    query_candidates,
)
from .mixing import class_mix, drop_small_classes, mix, pasted_classes
from .pseudo_labels import cam_pseudo_labels, check_thresholds, threshold_cams
from .reduction import IGNORE_INDEX, fraction, masked_mean, pixel_cross_entropy
from .reliability import check_alpha, entropy, quantiles, reliable_pixels, restrict_probs, split_by_entropy

__all__ = [
    'IGNORE_INDEX',
    'ContrastTerms',
    'activation_consistency_loss',
    'cam_pseudo_labels',
    'check_alpha',
    'check_thresholds',
    'class_mix',
    'confident_pixels',
    'contrastive_loss',
    'contrastive_terms',
    'drop_small_classes',
    'entropy',
    'fraction',
    'gather',
    'global_sum',
    'info_nce',
    'masked_mean',
    'mix',
    'negative_candidates',
    'normalize_cam',
    'pasted_classes',
    'pixel_cross_entropy',
    'quantiles',
    'query_candidates',
    'rank',
    'reliable_pixels',
    'restrict_probs',
    'segmentation_consistency_loss',
    'shared_generator',
    'split_by_entropy',
    'threshold_cams',
    'world_size',
]
