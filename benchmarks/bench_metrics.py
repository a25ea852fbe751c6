"""Metrics: the segmentation figures of a confusion matrix against scikit-learn and torchmetrics."""

import sys

import common
import numpy as np
from masks import label_maps, shifted

from voclab.metrics.segmentation import SegmentationMetrics

IMAGES = 574
CLASSES = 21
VOID = 255


def pairs(count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    truths = label_maps(count)
    return [(t, np.where(p == VOID, 0, p).astype(np.uint8)) for t, p in zip(truths, shifted(truths))]


def figures(matrix: np.ndarray) -> np.ndarray:
    """IoU and Dice of every label, pixel accuracy: what the ways must agree on."""
    hits, either = np.diag(matrix), matrix.sum(0) + matrix.sum(1).astype(float)
    either[either == 0] = np.nan
    return np.concatenate([hits / (either - hits), 2 * hits / either, [hits.sum() / matrix.sum()]])


def ours(data) -> np.ndarray:
    metrics = SegmentationMetrics(CLASSES, boundaries=False)
    for truth, predicted in data:
        metrics.update(truth, predicted)
    return np.concatenate([metrics.iou(), metrics.dice(), [metrics.pixel_accuracy()]])


def sklearns(data) -> np.ndarray:
    from sklearn.metrics import confusion_matrix

    matrix = np.zeros((CLASSES, CLASSES), np.int64)
    for truth, predicted in data:
        valid = truth != VOID
        matrix += confusion_matrix(truth[valid], predicted[valid], labels=range(CLASSES))
    return figures(matrix)


def torchmetrics_way(data) -> np.ndarray:
    import torch
    from torchmetrics.classification import MulticlassConfusionMatrix

    metric = MulticlassConfusionMatrix(CLASSES, ignore_index=VOID, validate_args=False)
    for truth, predicted in data:
        metric.update(torch.from_numpy(predicted).long()[None], torch.from_numpy(truth).long()[None])
    return figures(metric.compute().numpy())


def grown(factor: int):
    data = pairs(IMAGES // 2 * factor)
    return lambda: ours(data), len(data)


def measure(quick: bool) -> common.Report:
    data = pairs(10 if quick else IMAGES)
    ways = {"voclab": ours, "scikit-learn": sklearns}
    if common.version("torchmetrics"):
        ways["torchmetrics"] = torchmetrics_way
    truth = ours(data)
    for name, way in ways.items():
        assert np.allclose(way(data), truth, rtol=0, atol=1e-9, equal_nan=True), f"{name} disagrees"
    seconds = common.timed({name: lambda way=way: way(data) for name, way in ways.items()})
    case = common.Case(
        f"IoU, Dice and pixel accuracy of {len(data)} masks",
        seconds,
        items=len(data),
        unit="mask",
        target=5,
        note="All ways agree to 1e-9. Ours also checks every label, and gathers each image's own Dice.",
    )
    return common.Report(
        "metrics",
        "Segmentation metrics",
        "Drawn masks of 375 × 500 with void borders, 21 labels; torchmetrics does not check its arguments.",
        [case],
        [] if quick else [common.growth("metrics: confusion matrix", "masks", grown)],
        ("opencv-python-headless", "scikit-learn", "torch", "torchmetrics"),
    )


if __name__ == "__main__":
    sys.exit(common.main(measure, __doc__))
