"""Notebook 01: from scratch against transfer, with and without augmentation."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from voclab.config import Profile
from voclab.datasets.base import Dataset
from voclab.explain import GradCam
from voclab.metrics import (
    average_precision,
    decision_report,
    mean_average_precision,
    random_labels,
    sigmoid,
)
from voclab.training import Recipe, Run
from voclab.training.classification import Experiment
from voclab.training.source import CNN_OPTIONS, Weights

LABELS = {
    "scratch": "CNN from scratch",
    "scratch-augmented": "CNN from scratch, augmented",
    "head": "transfer, linear head",
    "head-augmented": "transfer, linear head, augmented",
    "finetuned": "transfer, fine-tuned",
    "finetuned-augmented": "transfer, fine-tuned, augmented",
}


def experiments(profile: Profile, weights: Weights, seed: int) -> list[Experiment]:
    """The six classifiers of notebook 01: three ways to train, each with and without augmentation."""
    cnn = {"width": profile.cnn_width}
    transferred = CNN_OPTIONS if weights.backbone == "cnn" else {}
    scratch = Recipe(
        size=profile.cnn_size,
        policy="none",
        epochs=profile.cnn_epochs,
        rate=profile.cnn_rate,
        batch_size=profile.batch_size,
        weight_decay=5e-3,
        patience=profile.cnn_epochs,
        seed=seed,
    )
    transfer = Recipe(
        size=profile.transfer_size,
        policy="none",
        epochs=profile.finetune_epochs,
        rate=profile.finetune_rate,
        batch_size=profile.batch_size,
        patience=max(3, profile.finetune_epochs // 2),
        seed=seed,
    )
    listed = []
    for suffix, policy in (("", "none"), ("-augmented", "standard")):
        pretrained = {
            "backbone": weights.backbone,
            "weights": weights.value,
            "options": transferred,
            "test_sizes": profile.test_sizes,
            "recipe": _with(transfer, policy),
        }
        listed += [
            Experiment("scratch" + suffix, "scratch", "cnn", _with(scratch, policy), options=cnn),
            Experiment("head" + suffix, "head", views=profile.head_views if suffix else 0, **pretrained),
            Experiment("finetuned" + suffix, "finetune", start="head" + suffix, dropout=0.3, **pretrained),
        ]
    return sorted(listed, key=lambda e: list(LABELS).index(e.name))


def _with(recipe: Recipe, policy: str) -> Recipe:
    return Recipe(**{**vars(recipe), "policy": policy})


def results_table(
    runs: Mapping[str, Run], part: str, train: Dataset, scored: Dataset, seed: int
) -> pd.DataFrame:
    """One row a classifier, the random baseline first; all figures are those of ``part``.

    Args:
        runs: name -> complete run.
        part: ``"heldout"`` or ``"validation"``.
        train: the photos whose class frequencies the random baseline draws from.
        scored: the photos of ``part``.
        seed: of the baseline.
    """
    labels, scores = random_labels(train.labels, len(scored), seed)
    baseline = decision_report(scored.labels, labels) | {
        "map": mean_average_precision(scored.labels, scores),
        "ece": float("nan"),
    }
    rows = {"random baseline": _row(baseline, 0.0, 0)}
    for name, run in runs.items():
        metrics = run.metrics
        rows[LABELS[name]] = _row(metrics[part], metrics["seconds"], metrics["parameters"]["total"])
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("model")


def _row(m: Mapping[str, float], seconds: float, parameters: int) -> dict:
    return {
        "mAP": m["map"],
        "Dice": m["dice"],
        "P micro": m["precision_micro"],
        "R micro": m["recall_micro"],
        "F1 micro": m["f1_micro"],
        "P macro": m["precision_macro"],
        "R macro": m["recall_macro"],
        "F1 macro": m["f1_macro"],
        "exact match": m["exact_match"],
        "Hamming": m["hamming"],
        "ECE": m["ece"],
        "training (s)": round(seconds),
        "parameters": f"{parameters:,}",
    }


def per_class(runs: Mapping[str, Run], part: str, scored: Dataset) -> dict[str, np.ndarray]:
    """Label of the model -> average precision of each class, (classes,)."""
    return {
        LABELS[name]: average_precision(scored.labels, run.predictions()[part]) for name, run in runs.items()
    }


def best_run(runs: Mapping[str, Run]) -> str:
    """Name of the run with the highest mAP on validation data: held-out data chooses nothing."""
    return max(runs, key=lambda name: runs[name].metrics["validation"]["map"])


@dataclass(frozen=True)
class Difference:
    """How much better one model is than another, with a 95 % interval over the photos."""

    value: float
    low: float
    high: float

    @property
    def clear(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        verdict = "" if self.clear else ", which is within the noise of so few photos"
        return f"{self.value:+.3f} mAP (95 % interval {self.low:+.3f} to {self.high:+.3f}{verdict})"


def difference(
    truth: np.ndarray, ours: np.ndarray, theirs: np.ndarray, samples: int = 300, seed: int = 0
) -> Difference:
    """Difference in mAP, ``ours`` minus ``theirs``, with a paired bootstrap over photos (Efron 1979).

    Args:
        truth: (n, classes), 0 or 1.
        ours: (n, classes) scores.
        theirs: (n, classes) scores of the same photos.
        samples: resamplings.
        seed: of the resampling.
    """
    rng = np.random.default_rng(seed)
    value = mean_average_precision(truth, ours) - mean_average_precision(truth, theirs)
    drawn = []
    for _ in range(samples):
        index = rng.integers(0, len(truth), len(truth))
        drawn.append(
            mean_average_precision(truth[index], ours[index])
            - mean_average_precision(truth[index], theirs[index])
        )
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Difference(value, float(low), float(high))


@dataclass(frozen=True)
class Mistake:
    """One wrong decision: image index, class index, its probability, and whether the class is there."""

    image: int
    k: int
    probability: float
    present: bool


def confident_mistakes(truth: np.ndarray, probabilities: np.ndarray, n: int) -> list[Mistake]:
    """The ``n`` surest wrong decisions, at most one an image: absent classes with the highest
    probability, and present ones with the lowest."""
    wrong = np.where(truth == 1, 1.0 - probabilities, probabilities)
    found, seen = [], set()
    for flat in np.argsort(-wrong, axis=None):
        i, k = divmod(int(flat), truth.shape[1])
        if i not in seen:
            seen.add(i)
            found.append(Mistake(i, k, float(probabilities[i, k]), bool(truth[i, k])))
        if len(found) == n:
            break
    return found


def right_and_wrong(truth: np.ndarray, probabilities: np.ndarray, n: int, seed: int) -> list[tuple[int, int]]:
    """(image, top class) of ``n`` images whose top class is right, then of ``n`` whose top class is wrong."""
    top = probabilities.argmax(1)
    right = truth[np.arange(len(truth)), top] == 1
    rng = np.random.default_rng(seed)
    chosen = []
    for group in (np.flatnonzero(right), np.flatnonzero(~right)):
        chosen += [(int(i), int(top[i])) for i in rng.permutation(group)[:n]]
    return chosen


def attention_rows(model, dataset: Dataset, chosen: list[tuple[int, int]], size: int) -> list:
    """Rows for ``figures.heat_maps``: Grad-CAM of the predicted class, and of a true one where it differs."""
    explain = GradCam(model, size)
    rows = []
    for i, k in chosen:
        photo, truth = dataset.image(i), dataset.labels[i]
        maps = [_heat(explain, photo, k, dataset.class_names, bool(truth[k]), "says")]
        if not truth[k]:
            true = int(np.flatnonzero(truth)[0])
            maps.append(_heat(explain, photo, true, dataset.class_names, True, "is"))
        rows.append((photo, maps))
    return rows


def _heat(explain, photo, k, names, right, verb):
    return f"{verb} {names[k]}", explain(photo, k), "#0a6b2d" if right else "#b3261e"


def probabilities(run: Run, part: str) -> np.ndarray:
    """Probabilities of ``part``, (n, classes) float64."""
    return sigmoid(run.predictions()[part])
