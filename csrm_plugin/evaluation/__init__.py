"""From tensors to scores: IoU, average precision, affinity, the metric of a validation."""

from csrm_plugin.evaluation.affinity import affinity_histograms, grid_classes, histogram_auc
from csrm_plugin.evaluation.confusion import CAM_THRESHOLDS, cam_confusion, confusion_matrix, iou, mean_iou
from csrm_plugin.evaluation.multi_label import average_precision, mean_average_precision
from csrm_plugin.evaluation.wsss_metric import WSSSMetric

__all__ = [
    'CAM_THRESHOLDS',
    'WSSSMetric',
    'affinity_histograms',
    'average_precision',
    'cam_confusion',
    'confusion_matrix',
    'grid_classes',
    'histogram_auc',
    'iou',
    'mean_average_precision',
    'mean_iou',
]
