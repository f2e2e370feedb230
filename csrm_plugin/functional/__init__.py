"""The equations: pure functions of tensors, without state, configuration or device names.

Labels are int64 with 255 = uncertain, 0 = background; probabilities are float in 0..1; pictures are uint8 RGB.
"""

from csrm_plugin.functional.affinity import (
    affinity_loss,
    neighbourhood,
    pair_labels,
    propagate,
    resize_affinity,
    transition_matrix,
)
from csrm_plugin.functional.cam import normalize_cam, relative_cam
from csrm_plugin.functional.collectives import gather, global_sum, rank, shared_generator, world_size
from csrm_plugin.functional.consistency import (
    activation_consistency_loss,
    confident_pixels,
    segmentation_consistency_loss,
)
from csrm_plugin.functional.contrast import (
    ContrastTerms,
    KeyBank,
    contrastive_loss,
    contrastive_terms,
)
from csrm_plugin.functional.contrast_candidates import (
    QUERY_RULES,
    ContrastCandidates,
    check_query_rule,
    negative_candidates,
    pick_candidates,
    query_candidates,
    reliable_candidates,
)
from csrm_plugin.functional.contrast_nce import info_nce
from csrm_plugin.functional.mixing import class_mix, drop_small_classes, mix, pasted_classes
from csrm_plugin.functional.mutual import (
    affinity_kl,
    comparable_cam,
    map_distance,
    mutual_affinity_kl,
    mutual_spatial_kl,
    prototype_similarity,
    prototypes,
    spatial_kl,
)
from csrm_plugin.functional.pseudo_labels import (
    cam_pseudo_labels,
    check_thresholds,
    gather_classes,
    own_class_pseudo_labels,
    own_classes,
    threshold_cams,
)
from csrm_plugin.functional.reduction import fraction, masked_mean, pixel_cross_entropy
from csrm_plugin.functional.refinement import check_refinement, pixel_adaptive_refinement
from csrm_plugin.functional.reliability import (
    check_alpha,
    entropy,
    quantiles,
    reliable_pixels,
    restrict_probs,
    split_by_entropy,
)
from csrm_plugin.functional.resizing import inside, masked, scale_pictures, shrink, shrink_nearest, upscale
from csrm_plugin.functional.windows import look_through, random_windows
from csrm_plugin.utils import IGNORE_INDEX

__all__ = [
    'IGNORE_INDEX',
    'QUERY_RULES',
    'ContrastCandidates',
    'ContrastTerms',
    'KeyBank',
    'activation_consistency_loss',
    'affinity_kl',
    'affinity_loss',
    'cam_pseudo_labels',
    'check_alpha',
    'check_query_rule',
    'check_refinement',
    'check_thresholds',
    'class_mix',
    'comparable_cam',
    'confident_pixels',
    'contrastive_loss',
    'contrastive_terms',
    'drop_small_classes',
    'entropy',
    'fraction',
    'gather',
    'gather_classes',
    'global_sum',
    'info_nce',
    'inside',
    'look_through',
    'map_distance',
    'masked',
    'masked_mean',
    'mix',
    'mutual_affinity_kl',
    'mutual_spatial_kl',
    'negative_candidates',
    'neighbourhood',
    'normalize_cam',
    'own_class_pseudo_labels',
    'own_classes',
    'pair_labels',
    'pasted_classes',
    'pick_candidates',
    'pixel_adaptive_refinement',
    'pixel_cross_entropy',
    'propagate',
    'prototype_similarity',
    'prototypes',
    'quantiles',
    'query_candidates',
    'random_windows',
    'rank',
    'relative_cam',
    'reliable_candidates',
    'reliable_pixels',
    'resize_affinity',
    'restrict_probs',
    'scale_pictures',
    'segmentation_consistency_loss',
    'shared_generator',
    'shrink',
    'shrink_nearest',
    'spatial_kl',
    'split_by_entropy',
    'threshold_cams',
    'transition_matrix',
    'upscale',
    'world_size',
]
