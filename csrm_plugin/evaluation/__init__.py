from .confusion import CAM_THRESHOLDS, cam_confusion, confusion_matrix, iou, mean_iou
from .multi_label import average_precision, mean_average_precision
from .wsss_metric import WSSSMetric

__all__ = [
    'CAM_THRESHOLDS',
    'WSSSMetric',
    'average_precision',
    'cam_confusion',
    'confusion_matrix',
    'iou',
    'mean_average_precision',
    'mean_iou',
]
