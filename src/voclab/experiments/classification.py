"""Notebook 01: from scratch against transfer, with and without augmentation."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.special import expit

from voclab.data.base import Dataset
from voclab.evaluation.explain import GradCam
from voclab.experiments.common import Profile, Sets
from voclab.metrics import (
    average_precision,
    decision_report,
    mean_average_precision,
    random_labels,
)
from voclab.metrics.statistics import bootstrap_interval
from voclab.models.pretrained import Weights
from voclab.training import Experiment, Recipe, Run
from voclab.training.classification import MultiLabelClassification

LABELS = {
    "scratch": "CNN from scratch",
    "scratch-augmented": "CNN from scratch, augmented",
    "head": "transfer, linear head",
    "head-augmented": "transfer, linear head, augmented",
    "finetuned": "transfer, fine-tuned",
    "finetuned-augmented": "transfer, fine-tuned, augmented",
}


@dataclass(slots=True)
class Settings:
    """Sizes and lengths of notebook 01.

    Attributes:
        batch_size: images a step, of all six.
        augmentation: of the augmented ones.
        cnn_width: channels of the first stage of the CNN from scratch.
        cnn_size: its input side, pixels.
        cnn_epochs: its longest training.
        cnn_learning_rate: its peak learning rate.
        transfer_size: input side of the transfer models, pixels.
        test_sizes: input sides whose predictions they average when they are measured.
        head_views: augmented views of each image whose features train the linear head.
        finetune_epochs: longest fine-tuning.
        finetune_learning_rate: its peak learning rate.
    """

    batch_size: int = 16
    augmentation: str = "advanced"
    cnn_width: int = 24
    cnn_size: int = 96
    cnn_epochs: int = 8
    cnn_learning_rate: float = 2e-3
    transfer_size: int = 128
    test_sizes: tuple[int, ...] = (128, 160)
    head_views: int = 4
    finetune_epochs: int = 4
    finetune_learning_rate: float = 2e-4


_DRAWN = Settings()
_PHOTOGRAPHS = Settings(
    augmentation="standard",
    cnn_width=32,
    cnn_size=128,
    cnn_epochs=30,
    transfer_size=320,
    test_sizes=(224, 320, 448),
    finetune_epochs=5,
    finetune_learning_rate=5e-5,
)
_SETS = Sets(
    smoke=replace(
        _DRAWN,
        cnn_width=8,
        cnn_size=48,
        cnn_epochs=2,
        transfer_size=48,
        test_sizes=(48,),
        head_views=1,
        finetune_epochs=1,
    ),
    demo=(_DRAWN, _PHOTOGRAPHS),
    full=(
        replace(
            _DRAWN,
            batch_size=32,
            cnn_size=128,
            cnn_epochs=60,
            finetune_epochs=20,
        ),
        replace(
            _PHOTOGRAPHS,
            cnn_width=48,
            cnn_size=224,
            cnn_epochs=150,
            transfer_size=384,
            test_sizes=(384, 480),
            head_views=8,
            finetune_epochs=20,
        ),
    ),
)


def settings(profile: Profile) -> Settings:
    """The settings of a profile: a copy, to be changed (``settings.epochs = 20``)."""
    return replace(_SETS.of(profile))


def experiments(settings: Settings, weights: Weights, seed: int) -> list[Experiment]:
    """The six classifiers of notebook 01: three ways to train, each with and without augmentation."""
    s = settings
    from_scratch = Recipe(
        s.cnn_size,
        "none",
        s.cnn_epochs,
        s.cnn_learning_rate,
        batch_size=s.batch_size,
        weight_decay=5e-3,
        patience=s.cnn_epochs,
        seed=seed,
    )
    transfer = Recipe(
        s.transfer_size,
        "none",
        s.finetune_epochs,
        s.finetune_learning_rate,
        batch_size=s.batch_size,
        patience=max(3, s.finetune_epochs // 2),
        seed=seed,
    )
    scratch = Experiment(
        "scratch", MultiLabelClassification(), "cnn", from_scratch, options={"width": s.cnn_width}
    )
    head = Experiment(
        "head",
        MultiLabelClassification(test_sizes=s.test_sizes),
        weights.backbone,
        transfer,
        weights=weights.value,
        frozen=True,
    )
    finetuned = replace(
        head, name="finetuned", task=replace(head.task, dropout=0.3), frozen=False, start="head"
    )
    listed = []
    for plain in (scratch, head, finetuned):
        views = s.head_views if plain is head else 0
        augmented = replace(
            plain,
            name=f"{plain.name}-augmented",
            task=replace(plain.task, views=views),
            recipe=replace(plain.recipe, augmentation=s.augmentation),
            start=plain.start and f"{plain.start}-augmented",
        )
        listed += [plain, augmented]
    return listed


def label(name: str) -> str:
    """What people call the run of that name."""
    chosen = name.removesuffix("-all")
    return LABELS[chosen] + (", all training images" if name != chosen else "")


def one_image_per_class(labels: np.ndarray, seed: int) -> list[int]:
    """For each class an image that shows it, with as few other classes as possible, none twice if possible.

    Args:
        labels: (n, classes), 0 or 1.
        seed: breaks ties.

    Returns:
        Indices, one for each class that occurs.
    """
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    by_labels = shuffled[np.argsort(labels[shuffled].sum(1), kind="stable")]
    chosen: list[int] = []
    for k in np.flatnonzero(labels.any(0)):
        having = [int(i) for i in by_labels if labels[i, k]]
        chosen.append(next((i for i in having if i not in chosen), having[0]))
    return chosen


def results_table(
    runs: Mapping[str, Run], part: str, train: Dataset, scored: Dataset, seed: int
) -> pd.DataFrame:
    """One row a classifier, the random baseline first; all figures are those of ``part``.

    Args:
        runs: name -> complete run; one that was not measured on ``part`` is left out.
        part: ``"test"`` or ``"validation"``.
        train: the images whose class frequencies the random baseline draws from.
        scored: the images of ``part``.
        seed: of the baseline.
    """
    labels, scores = random_labels(train.labels, len(scored), seed)
    baseline = decision_report(scored.labels, labels) | {
        "map": mean_average_precision(scored.labels, scores),
        "ece": float("nan"),
    }
    rows = {"random baseline": {**_figures(baseline), "training (s)": 0, "trained": "0", "parameters": "0"}}
    for name, run in runs.items():
        metrics = run.metrics
        if metrics.get(part) is None:
            continue
        rows[label(name)] = {
            **_figures(metrics[part]),
            "training (s)": round(metrics["seconds"]),
            "trained": f"{metrics['trained_parameters']:,}",
            "parameters": f"{metrics['parameters']:,}",
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("model")


def _figures(m: Mapping[str, float]) -> dict:
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
    }


def per_class(runs: Mapping[str, Run], part: str, scored: Dataset) -> dict[str, np.ndarray]:
    """Label of the model -> average precision of each class, (classes,)."""
    return {
        LABELS[name]: average_precision(scored.labels, run.predictions()[part]) for name, run in runs.items()
    }


def best_run(runs: Mapping[str, Run]) -> str:
    """Name of the run with the highest mAP on validation data: test data chooses nothing."""
    return max(runs, key=lambda name: runs[name].metrics["validation"]["map"])


@dataclass(frozen=True)
class Difference:
    """How much better one model is than another, with a 95 % interval over the images."""

    value: float
    low: float
    high: float

    @property
    def clear(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        interval = f"95 % interval {self.low:+.3f} to {self.high:+.3f}"
        if not self.clear:
            interval += ": within the noise of so few images"
        return f"{self.value:+.3f} mAP ({interval})"


def difference(
    truth: np.ndarray, ours: np.ndarray, theirs: np.ndarray, samples: int = 300, seed: int = 0
) -> Difference:
    """Difference in mAP, ``ours`` minus ``theirs``, with a paired bootstrap over images (Efron 1979).

    Args:
        truth: (n, classes), 0 or 1.
        ours: (n, classes) scores.
        theirs: (n, classes) scores of the same images.
        samples: resamplings.
        seed: of the resampling.
    """

    def gap(index) -> float:
        a, b = (mean_average_precision(truth[index], scores[index]) for scores in (ours, theirs))
        return a - b

    low, high = bootstrap_interval(gap, len(truth), samples, seed)
    return Difference(gap(slice(None)), float(low), float(high))


@dataclass(frozen=True)
class Mistake:
    """One wrong decision: image index, class index, its probability, and whether the class is there."""

    image: int
    k: int
    probability: float
    present: bool


def confident_mistakes(
    truth: np.ndarray, probabilities: np.ndarray, predicted: np.ndarray, n: int
) -> list[Mistake]:
    """The surest wrong decisions, at most one an image.

    First absent classes that were predicted, highest probability first; then present classes that
    were missed, lowest probability first.

    Args:
        truth: (images, classes), 0 or 1.
        probabilities: (images, classes) in [0, 1].
        predicted: (images, classes), 0 or 1: the decisions at the chosen thresholds.
        n: how many of each kind at most.
    """
    found, seen = [], set()
    for present in (0, 1):
        wrong = np.flatnonzero((truth == present) & (predicted != present))
        sureness = np.abs(probabilities.ravel()[wrong] - present)
        kind: list[Mistake] = []
        for flat in wrong[np.argsort(-sureness, kind="stable")]:
            i, k = divmod(int(flat), truth.shape[1])
            if i not in seen and len(kind) < n:
                seen.add(i)
                kind.append(Mistake(i, k, float(probabilities[i, k]), bool(present)))
        found += kind
    return found


@dataclass(frozen=True)
class Swap:
    """How often ``instead`` was predicted, without being there, where ``missed`` was missed."""

    missed: int
    instead: int
    times: int
    misses: int


def commonest_swap(truth: np.ndarray, predicted: np.ndarray) -> Swap | None:
    """The pair of classes most often confused, by count; ``None`` if there is none."""
    missed = ((truth == 1) & (predicted == 0)).astype(int)
    invented = ((truth == 0) & (predicted == 1)).astype(int)
    times = missed.T @ invented
    i, j = np.unravel_index(times.argmax(), times.shape)
    return None if times[i, j] == 0 else Swap(int(i), int(j), int(times[i, j]), int(missed[:, i].sum()))


def recall_by_size(dataset: Dataset, predicted: np.ndarray) -> dict[str, tuple[float, int]] | None:
    """Recall of class labels by how much of the image the class covers; ``None`` without masks.

    Args:
        dataset: images with labels and masks.
        predicted: (n, classes), 0 or 1.

    Returns:
        size -> (recall, number of labels); sizes are below 5 %, 5 to 20 % and over 20 % of the pixels.
    """
    if not dataset.has_masks:
        return None
    shares, hits = [], []
    for i in range(len(dataset)):
        counts = np.bincount(dataset.mask(i).ravel(), minlength=256)
        for k in np.flatnonzero(dataset.labels[i]):
            shares.append(counts[k + 1] / counts.sum())
            hits.append(predicted[i, k])
    bins = np.digitize(shares, [0.05, 0.2])
    hits = np.asarray(hits, dtype=float)
    names = ("under 5 %", "5 to 20 %", "over 20 %")
    return {
        n: (float(hits[bins == b].mean()), int((bins == b).sum()))
        for b, n in enumerate(names)
        if (bins == b).any()
    }


def right_and_wrong(truth: np.ndarray, probabilities: np.ndarray, n: int, seed: int) -> list[tuple[int, int]]:
    """(image, top class) of ``n`` images whose top class is right, then of ``n`` whose top class is wrong."""
    top = probabilities.argmax(1)
    right = truth[np.arange(len(truth)), top] == 1
    rng = np.random.default_rng(seed)
    chosen = []
    for group in (np.flatnonzero(right), np.flatnonzero(~right)):
        chosen += [(int(i), int(top[i])) for i in rng.permutation(group)[:n]]
    return chosen


def attention_rows(
    run: Run, dataset: Dataset, chosen: list[tuple[int, int]], probabilities: np.ndarray
) -> list:
    """Rows for ``plotting.heat_maps``: Grad-CAM of the top class and of one to compare it with.

    That is a class that is there where the top class is not, and otherwise the second most probable.
    """
    explain = GradCam(run.load_model(), run.config["experiment"]["recipe"]["size"])
    rows = []
    for i, k in chosen:
        image, truth = dataset.image(i), dataset.labels[i]
        if truth[k] or not truth.any():
            other, verb = int(np.argsort(-probabilities[i])[1]), "then"
        else:
            other, verb = int(np.flatnonzero(truth)[0]), "is"
        names = dataset.class_names
        rows.append(
            (
                image,
                [_heat(explain, image, c, names, bool(truth[c]), v) for c, v in ((k, "says"), (other, verb))],
            )
        )
    return rows


def _heat(explain, image, k, names, right, verb):
    mark, colour = ("✓", "#0a6b2d") if right else ("✗", "#b3261e")
    return f"{verb} {names[k]} {mark}", explain(image, k), colour


def probabilities(run: Run, part: str) -> np.ndarray:
    """Probabilities of ``part``, (n, classes) float64."""
    return expit(run.predictions()[part], dtype=np.float64)
