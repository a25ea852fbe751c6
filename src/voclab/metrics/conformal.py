"""Conformal sets: which classes, or pixels, to name so that a promised share of what is there is among them.

Angelopoulos et al., "Conformal Risk Control", 2022. The promise holds on average over calibration and test
images if these are exchangeable, whatever the network; it is void where test images are of another kind.
"""

from collections.abc import Sequence

import numpy as np

from voclab.errors import VoclabError

_ROUNDING = 1e-9  # of sums of weights


def threshold(true_scores: Sequence[np.ndarray], promised: float) -> float:
    """The highest score from which on to name a class so that the expected recall is as promised.

    The risk of an image is the share of its true classes (or foreground pixels) whose score is below the
    threshold t. Chosen is the largest t with (n R(t) + 1) / (n + 1) ≤ 1 - promised, where R is the mean risk
    of n calibration images. It is found exactly, since R changes at scores of true classes only. Where each
    image has one class this is split conformal prediction with the score 1 - p (LAC, Sadinle et al. 2019).

    Args:
        true_scores: for each calibration image the scores of what is there, see :func:`of_what_is_there`.
            Those of images without anything are left out: they have no recall.
        promised: recall, between 0 and 1.

    Returns:
        The threshold: what has this score or a higher one is named. Minus infinity, all classes, if there are
        fewer than promised / (1 - promised) images.

    Raises:
        VoclabError: another promise, or no image that shows anything.
    """
    if not 0 < promised < 1:
        raise VoclabError(f"A recall of {promised:g} cannot be promised; choose one between 0 and 1.")
    kept = [scores for scores in true_scores if len(scores)]
    if not kept:
        raise VoclabError("No calibration image shows any class; name images with labels.")
    budget = (1 - promised) * (len(kept) + 1) - 1  # how many images may be missed in sum
    if budget < -_ROUNDING:
        return -np.inf
    scores = np.concatenate(kept)
    order = np.argsort(scores)
    weights = np.repeat([1 / len(s) for s in kept], [len(s) for s in kept])[order]
    # What is missed if the threshold is the score at this place; of equal scores the first says it right.
    missed = np.cumsum(weights) - weights
    return float(scores[order][missed <= budget + _ROUNDING].max())


def of_what_is_there(labels: np.ndarray, scores: np.ndarray) -> list[np.ndarray]:
    """For each image the scores of its true classes; labels (n, classes), 0 or 1, and scores (n, classes)."""
    return [row[there > 0] for there, row in zip(labels, scores, strict=True)]


def recalls(true_scores: Sequence[np.ndarray], threshold: float) -> np.ndarray:
    """For each image the share of what is there that is named: float64, NaN where nothing is there."""
    return np.array([np.mean(s >= threshold) if len(s) else np.nan for s in true_scores])


def sizes(scores: Sequence[np.ndarray], threshold: float) -> np.ndarray:
    """How many classes (or pixels) of each image are named, of the scores of all: (n,) int64."""
    return np.array([np.count_nonzero(s >= threshold) for s in scores])
