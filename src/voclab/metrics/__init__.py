"""What a model is worth: the metrics of classifiers and of segmenters."""

from voclab.metrics.classification import (
    average_precision,
    choose_thresholds,
    classification_report,
    confused_instead,
    decision_report,
    expected_calibration_error,
    label_dice,
    mean_average_precision,
    precision_recall_f1,
    random_labels,
    reliability,
    sigmoid,
)
from voclab.metrics.segmentation import (
    SegmentationMetrics,
    boundary_f1,
    fill_void,
    image_scores,
    pixel_frequency,
    random_segmentation,
)

__all__ = [
    "SegmentationMetrics",
    "average_precision",
    "boundary_f1",
    "choose_thresholds",
    "classification_report",
    "confused_instead",
    "decision_report",
    "expected_calibration_error",
    "fill_void",
    "image_scores",
    "label_dice",
    "mean_average_precision",
    "pixel_frequency",
    "precision_recall_f1",
    "random_labels",
    "random_segmentation",
    "reliability",
    "sigmoid",
]
