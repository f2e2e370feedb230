from .affinity import affinity_histograms, grid_classes, histogram_auc
from .confusion import CAM_THRESHOLDS, cam_confusion, confusion_matrix, iou, mean_iou
from .label_folders import (
    KNOWN_CLASSES,
    evaluate_label_folder,
    parse_thresholds,
    print_report,
    require_writable,
    score_confusion,
)
from .multi_label import average_precision, mean_average_precision
from .wsss_metric import WSSSMetric

__all__ = [
    'CAM_THRESHOLDS',
    'KNOWN_CLASSES',
    'WSSSMetric',
    'affinity_histograms',
    'average_precision',
    'cam_confusion',
    'confusion_matrix',
    'evaluate_label_folder',
    'grid_classes',
    'histogram_auc',
    'iou',
    'mean_average_precision',
    'mean_iou',
    'parse_thresholds',
    'print_report',
    'require_writable',
    'score_confusion',
]
