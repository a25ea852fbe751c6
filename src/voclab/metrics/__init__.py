"""What a model is worth: the metrics of classifiers and of segmenters."""

from voclab.metrics.calibration import fit_temperature, forecasts, negative_log_likelihood, probabilities
from voclab.metrics.chance import Chance, accuracy_low, dice_low
from voclab.metrics.classification import (
    average_precision,
    choose_thresholds,
    classification_report,
    confused_instead,
    confusion_matrix,
    decision_report,
    expected_calibration_error,
    label_dice,
    mean_average_precision,
    most_confused,
    precision_recall_f1,
    random_labels,
    reliability,
    single_label_report,
)
from voclab.metrics.corruption import mean_corruption_error
from voclab.metrics.segmentation import (
    SegmentationMetrics,
    boundary_f1,
    image_scores,
    pixel_frequency,
    random_segmentation,
)

__all__ = [
    "Chance",
    "SegmentationMetrics",
    "accuracy_low",
    "average_precision",
    "boundary_f1",
    "choose_thresholds",
    "classification_report",
    "confused_instead",
    "confusion_matrix",
    "decision_report",
    "dice_low",
    "expected_calibration_error",
    "fit_temperature",
    "forecasts",
    "image_scores",
    "label_dice",
    "mean_average_precision",
    "mean_corruption_error",
    "most_confused",
    "negative_log_likelihood",
    "pixel_frequency",
    "precision_recall_f1",
    "probabilities",
    "random_labels",
    "random_segmentation",
    "reliability",
    "single_label_report",
]
