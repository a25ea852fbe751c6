"""What a classifier is worth: average precision, precision/recall/F1, Dice, calibration, thresholds.

Other shapes than these say, truth or decisions other than 0 and 1, and probabilities outside [0, 1] are a
``ValueError``.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import expit, logit

_BINS = 15  # of a reliability diagram
_SHRINKAGE = 20.0  # positives at which a class gets half of its own threshold
_ROUNDING = 1e-6  # by which a mean of float32 probabilities may leave [0, 1]


def average_precision(truth: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Average precision of every class: precision summed over the steps of recall, no interpolation.

    Equal scores form one step. VOC's own numbers come out slightly different: 2009 interpolates
    precision at 11 recalls, later years take the area under its monotone envelope.

    Args:
        truth: (n, classes), 0 or 1.
        scores: (n, classes), higher means more certain; NaN is a ``ValueError``.

    Returns:
        (classes,) float64 in [0, 1]; NaN for a class without a positive.
    """
    truth, scores = _labelled(truth, scores)
    scores = scores.astype(np.float64)
    if np.isnan(scores).any():
        raise ValueError(f"{int(np.isnan(scores).sum())} of {scores.size} scores are NaN, which has no rank")
    result = np.full(truth.shape[1], np.nan)
    for k in range(truth.shape[1]):
        positives = truth[:, k].sum()
        if positives == 0:
            continue
        order = np.argsort(-scores[:, k], kind="stable")
        ranked, hits = scores[order, k], truth[order, k]
        step = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)  # last index of each run of ties
        found = np.cumsum(hits)[step]
        result[k] = np.sum(np.diff(found, prepend=0) * found / (step + 1)) / positives
    return result


def mean_average_precision(truth: np.ndarray, scores: np.ndarray) -> float:
    """mAP: the mean of :func:`average_precision` over the classes that have a positive."""
    per_class = average_precision(truth, scores)
    return float(np.nanmean(per_class)) if np.isfinite(per_class).any() else float("nan")


def precision_recall_f1(truth: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Micro and macro precision, recall and F1 of 0/1 decisions.

    Micro counts all decisions together; macro is the mean over classes, where a class that is never
    predicted has precision 0 and a class that never occurs has recall 0 (scikit-learn's
    ``zero_division=0``). Truth and decisions are (n, classes).
    """
    truth, predicted = _decisions(truth, predicted)
    hit = (truth * predicted).sum(0).astype(float)
    said, there = predicted.sum(0).astype(float), truth.sum(0).astype(float)
    f1 = _ratio(2 * hit, said + there)
    return {
        "precision_micro": float(_ratio(hit.sum(), said.sum())),
        "recall_micro": float(_ratio(hit.sum(), there.sum())),
        "f1_micro": float(_ratio(2 * hit.sum(), said.sum() + there.sum())),
        "precision_macro": float(_ratio(hit, said).mean()),
        "recall_macro": float(_ratio(hit, there).mean()),
        "f1_macro": float(f1.mean()),
    }


def label_dice(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """The competition's Dice of the classification row of every image: (n,), 1 where both are empty."""
    truth, predicted = _decisions(truth, predicted)
    hit, both = (truth * predicted).sum(1), truth.sum(1) + predicted.sum(1)
    return np.where(both == 0, 1.0, 2.0 * hit / np.maximum(both, 1))


def expected_calibration_error(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """ECE (Guo et al. 2017): mean |frequency - probability| of :func:`reliability`, weighted by bin."""
    table = reliability(truth, probabilities)
    weight = table["count"] / table["count"].sum()
    return float(np.sum(weight * np.abs(table["frequency"] - table["confidence"])))


def reliability(truth: np.ndarray, probabilities: np.ndarray) -> dict[str, np.ndarray]:
    """What a reliability diagram shows: count, mean probability and frequency of the non-empty bins.

    Each of the n × classes probabilities is one binary forecast; the 15 bins are equally wide.
    """
    truth, probabilities = _forecast(truth, probabilities)
    forecast, outcome = probabilities.ravel(), truth.ravel().astype(float)
    index = np.clip((forecast * _BINS).astype(int), 0, _BINS - 1)
    count = np.bincount(index, minlength=_BINS).astype(float)
    filled = count > 0
    return {
        "count": count[filled],
        "confidence": np.bincount(index, forecast, _BINS)[filled] / count[filled],
        "frequency": np.bincount(index, outcome, _BINS)[filled] / count[filled],
    }


def classification_report(
    truth: np.ndarray, probabilities: np.ndarray, thresholds: np.ndarray
) -> dict[str, float]:
    """All figures of the results table for one multi-label classifier.

    Args:
        truth: (n, classes), 0 or 1.
        probabilities: (n, classes) in [0, 1].
        thresholds: (classes,) or a number; a class is predicted where its probability reaches it.
    """
    truth, probabilities = _forecast(truth, probabilities)
    return decision_report(truth, probabilities >= thresholds) | {
        "map": mean_average_precision(truth, probabilities),
        "ece": expected_calibration_error(truth, probabilities),
    }


def decision_report(truth: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """The figures that need 0/1 decisions only: P/R/F1, exact match, Hamming accuracy, Dice."""
    truth, predicted = _decisions(truth, predicted)
    return {
        **precision_recall_f1(truth, predicted),
        "exact_match": float((truth == predicted).all(1).mean()),
        "hamming": float((truth == predicted).mean()),
        "dice": float(label_dice(truth, predicted).mean()),
    }


def choose_thresholds(truth: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Per-class thresholds that maximise the competition's Dice on *validation* data.

    First the best threshold common to all classes; then, class by class, the one that raises the
    mean Dice most, in rounds until nothing improves. A class with few positives cannot support a
    threshold of its own, so each moves only n / (n + 20) of the way from the common one, in logits, n
    being its positives.

    Truth and probabilities are (n, classes); the thresholds are (classes,) float64.
    """
    truth, probabilities = _forecast(truth, probabilities)
    grid = np.linspace(0.02, 0.9, 45)
    common = grid[np.argmax([label_dice(truth, probabilities >= t).mean() for t in grid])]
    thresholds = np.full(truth.shape[1], common)
    best = label_dice(truth, probabilities >= thresholds).mean()
    improved = True
    while improved:
        improved = False
        for k in range(truth.shape[1]):
            predicted = (probabilities >= thresholds).astype(np.int64)
            others = predicted.sum(1) - predicted[:, k]
            hits = (truth * predicted).sum(1) - truth[:, k] * predicted[:, k]
            for candidate in grid:
                own = probabilities[:, k] >= candidate
                both = truth.sum(1) + others + own
                dice = np.where(both == 0, 1.0, 2.0 * (hits + truth[:, k] * own) / np.maximum(both, 1)).mean()
                if dice > best + 1e-9:
                    best, thresholds[k], improved = dice, candidate, True
    positives = truth.sum(0)
    share = positives / (positives + _SHRINKAGE)
    return expit(share * logit(thresholds) + (1 - share) * logit(common))


def random_labels(train_labels: np.ndarray, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The random baseline: labels drawn independently with the class frequencies of the training set.

    Returns:
        (labels (n, classes) uint8, scores (n, classes) float64 that carry no information).
    """
    rng = np.random.default_rng(seed)
    frequency = np.asarray(train_labels).mean(0)
    labels = (rng.random((n, len(frequency))) < frequency).astype(np.uint8)
    return labels, rng.random((n, len(frequency)))


def confused_instead(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Which class is predicted where another is missed, for multi-label decisions.

    Entry (i, j), i ≠ j: of the images that show class i without its being predicted, the share in
    which class j is predicted although it is not there. The diagonal is the recall of class i.

    Returns:
        (classes, classes) float64; NaN rows off the diagonal for classes never missed.
    """
    truth, predicted = _decisions(truth, predicted)
    missed = (truth == 1) & (predicted == 0)
    invented = (truth == 0) & (predicted == 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        matrix = (missed.T.astype(float) @ invented.astype(float)) / missed.sum(0)[:, None]
        np.fill_diagonal(matrix, (truth * predicted).sum(0) / truth.sum(0))
    return matrix


def single_label_report(truth: np.ndarray, predicted: np.ndarray, classes: int) -> dict:
    """The figures of one classifier of single-label images (CIFAR-10), as scikit-learn defines them.

    A class that is never predicted has precision 0, one that never occurs recall 0, and both enter the means.

    Args:
        truth: (n,) class of each image, from 0.
        predicted: (n,) class, from 0.
        classes: number of classes.

    Returns:
        ``accuracy``, ``precision_macro``, ``recall_macro`` and ``f1_macro`` (floats), and for each class
        ``precision``, ``recall``, ``f1`` ((classes,) float64) and ``support`` ((classes,) int64 images).
    """
    from sklearn.metrics import accuracy_score, precision_recall_fscore_support

    precision, recall, f1, support = precision_recall_fscore_support(
        truth, predicted, labels=range(classes), zero_division=0
    )
    return {
        "accuracy": float(accuracy_score(truth, predicted)),
        "precision_macro": float(precision.mean()),
        "recall_macro": float(recall.mean()),
        "f1_macro": float(f1.mean()),
        "precision": precision,
        "recall": recall,
        "f1": f1,
        "support": support,
    }


def confusion_matrix(truth: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """(classes, classes) int64 for single-label images: entry (i, j) counts class i predicted as class j."""
    from sklearn.metrics import confusion_matrix

    return confusion_matrix(truth, predicted, labels=range(classes))


class Confusion(NamedTuple):
    """One class taken for another: their names, how many images, and their share of the true class."""

    truth: str
    predicted: str
    count: int  # type: ignore[assignment]  # tuples have a method of that name
    share: float


def most_confused(matrix: np.ndarray, names: Sequence[str], n: int = 5) -> list[Confusion]:
    """At most ``n`` mistakes of a :func:`confusion_matrix`, in one direction each, commonest first."""
    mistakes = matrix - np.diag(np.diag(matrix))
    order = np.argsort(-mistakes, axis=None, kind="stable")[:n]
    pairs = [(i, j) for i, j in zip(*np.unravel_index(order, matrix.shape)) if mistakes[i, j] > 0]
    return [
        Confusion(names[i], names[j], int(matrix[i, j]), float(matrix[i, j] / matrix[i].sum()))
        for i, j in pairs
    ]


def _labelled(truth, values) -> tuple[np.ndarray, np.ndarray]:
    truth, values = np.asarray(truth), np.asarray(values)
    if truth.ndim != 2 or truth.shape != values.shape or not truth.size:
        raise ValueError(f"shapes {truth.shape} and {values.shape} differ, are not (n, classes) or are empty")
    return _zeros_and_ones("true labels", truth), values


def _decisions(truth, predicted) -> tuple[np.ndarray, np.ndarray]:
    truth, predicted = _labelled(truth, predicted)
    return truth, _zeros_and_ones("decisions", predicted)


def _forecast(truth, probabilities) -> tuple[np.ndarray, np.ndarray]:
    truth, probabilities = _labelled(truth, probabilities)
    low, high = probabilities.min(), probabilities.max()
    if not (low >= -_ROUNDING and high <= 1 + _ROUNDING):  # false for NaN too
        raise ValueError(f"probabilities reach from {low:g} to {high:g}, expected [0, 1]; pass no logits")
    return truth, probabilities


def _zeros_and_ones(what: str, values: np.ndarray) -> np.ndarray:
    wrong = (values != 0) & (values != 1)
    if wrong.any():
        raise ValueError(f"{what} hold {values[wrong][0]}, expected 0 and 1")
    return values.astype(np.int64)


def _ratio(numerator, denominator):
    denominator = np.asarray(denominator, dtype=float)
    return np.where(denominator > 0, numerator / np.maximum(denominator, 1e-12), 0.0)
