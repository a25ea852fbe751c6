"""Is an image of a kind that the network knows? Scores, high where it is, and how well they separate.

Scores come from logits (n, classes) alone, or from features (n, d) and those of images that are known.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from voclab.metrics.calibration import probabilities
from voclab.metrics.statistics import bootstrap_interval

_RECALL = 0.95  # of known images at which unknown ones are counted


def scores_of(logits: np.ndarray, task: str) -> dict[str, np.ndarray]:
    """Title -> (n,) float64 scores of (n, classes) logits.

    The baseline is the largest probability (Hendrycks & Gimpel 2017); the others are the largest logit
    (Hendrycks et al. 2022), and minus the energy: log Σ exp of the logits (Liu et al. 2020), for multi-label
    networks Σ log(1 + exp) (*joint energy*, Wang et al. 2021). These have no largest probability of their
    own: it gives the order of the largest logit.
    """
    z = np.asarray(logits, np.float64)
    if task == "multilabel":
        return {"largest logit": z.max(1), "joint energy": np.logaddexp(0, z).sum(1)}
    scores = {"largest probability": probabilities(z, task).max(1), "largest logit": z.max(1)}
    return {**scores, "energy": logsumexp(z, axis=1)}


def nearness(known: np.ndarray, features: np.ndarray, k: int = 10) -> np.ndarray:
    """Minus the distance to the k-th nearest of the known features, all of length 1 (Sun et al. 2022).

    Args:
        known: (m, d) features of images that are known, none of which is scored.
        features: (n, d).
        k: which neighbour; with fewer known images the farthest.

    Returns:
        (n,) float64.
    """
    from sklearn.neighbors import NearestNeighbors
    from sklearn.preprocessing import normalize

    search = NearestNeighbors(n_neighbors=min(k, len(known))).fit(normalize(known))
    return -search.kneighbors(normalize(features))[0][:, -1]


@dataclass(frozen=True)
class Separation:
    """How well a score tells known images from unknown ones, each figure with its 95 % bootstrap interval.

    Attributes:
        auroc: probability that a known image has a higher score than an unknown one: (value, low, high).
        fpr: share of the unknown images that are taken for known where 95 % of the known ones are.
    """

    auroc: tuple[float, float, float]
    fpr: tuple[float, float, float]


def separation(known: np.ndarray, unknown: np.ndarray, samples: int = 500, seed: int = 0) -> Separation:
    """Measure scores of images of both kinds, (n,) and (m,), both resampled for the intervals."""

    def figures(of_known, of_unknown):
        return np.array(_separated(known[of_known], unknown[of_unknown]))

    value = _separated(known, unknown)
    low, high = bootstrap_interval(figures, (len(known), len(unknown)), samples, seed)
    auroc, fpr = ((float(v), float(a), float(b)) for v, a, b in zip(value, low, high))
    return Separation(auroc, fpr)


def roc(known: np.ndarray, unknown: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ROC curve: share of unknown and of known images at or above every threshold."""
    from sklearn.metrics import roc_curve

    truth = np.repeat([1, 0], [len(known), len(unknown)])
    return roc_curve(truth, np.concatenate([known, unknown]))[:2]


def _separated(known: np.ndarray, unknown: np.ndarray) -> tuple[float, float]:
    """AUROC, and the share of unknown images at or above the score that 95 % of the known ones reach."""
    reached = np.sort(known)[int((1 - _RECALL) * len(known) + 1e-9)]
    # The Mann-Whitney statistic, ties counted half: the bootstrap needs it often, and scikit-learn is slower.
    order = np.sort(unknown)
    below = sum(np.searchsorted(order, known, side=side).mean() for side in ("left", "right")) / 2
    return float(below / len(unknown)), float(np.mean(unknown >= reached))
