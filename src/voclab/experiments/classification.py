"""Notebook 01: from scratch against transfer, with and without augmentation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.special import expit

from voclab import text
from voclab.data.base import Dataset
from voclab.evaluation.explain import GradCam
from voclab.experiments.common import Profile, Sets
from voclab.experiments.overview import by_setting, setting
from voclab.metrics import (
    Chance,
    average_precision,
    decision_report,
    mean_average_precision,
    random_labels,
)
from voclab.metrics.statistics import Difference, bootstrap_interval
from voclab.models.pretrained import Weights
from voclab.training import Experiment, Recipe, Run
from voclab.training.classification import MultiLabelClassification

LABELS = {
    "scratch": "CNN from scratch",
    "scratch-augmented": "CNN from scratch, augmented",
    "head": "transfer, linear head",
    "head-augmented": "transfer, linear head, augmented",
    "finetuned-augmented": "transfer, fine-tuned, augmented",
}


@dataclass(slots=True)
class Settings:
    """Sizes and lengths of notebook 01.

    Attributes:
        batch_size: images a step, of all.
        seeds: seeds of every network that is trained by gradient steps.
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
    seeds: int = 2
    augmentation: str = "standard"
    cnn_width: int = 24
    cnn_size: int = 64
    cnn_epochs: int = 36
    cnn_learning_rate: float = 3e-3
    transfer_size: int = 128
    test_sizes: tuple[int, ...] = (192,)
    head_views: int = 2
    finetune_epochs: int = 4
    finetune_learning_rate: float = 2e-4


_DRAWN = Settings()
_PHOTOGRAPHS = Settings(
    cnn_width=32,
    cnn_size=96,
    cnn_epochs=60,
    cnn_learning_rate=2e-3,
    transfer_size=320,
    test_sizes=(224, 320, 448),
    head_views=4,
    finetune_epochs=5,
    finetune_learning_rate=5e-5,
)
_SETS = Sets(
    smoke=replace(
        _DRAWN,
        seeds=1,
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
            head_views=4,
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
    """The classifiers of notebook 01, those that others start from first.

    A CNN from scratch and a linear head on a frozen backbone, each without and with augmentation, and the
    second head fine-tuned. Seeds after the first are named ``<name>-seed<k>``; heads have one seed.
    """
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
    scratch_augmented, head_augmented = _augmented(scratch, s), _augmented(head, s, s.head_views)
    finetuned = replace(
        head_augmented,
        name="finetuned-augmented",
        task=MultiLabelClassification(dropout=0.3, test_sizes=s.test_sizes),
        frozen=False,
        start=head_augmented.name,
    )
    heads = [head, head_augmented]
    return [
        *_seeded(scratch, s.seeds),
        *_seeded(scratch_augmented, s.seeds),
        *heads,
        *_seeded(finetuned, s.seeds),
    ]


def _augmented(plain: Experiment, settings: Settings, views: int = 0) -> Experiment:
    recipe = replace(plain.recipe, augmentation=settings.augmentation)
    return replace(
        plain, name=f"{plain.name}-augmented", task=replace(plain.task, views=views), recipe=recipe
    )


def _seeded(first: Experiment, seeds: int) -> list[Experiment]:
    return [
        replace(
            first,
            name=f"{first.name}-seed{k}" if k else first.name,
            recipe=replace(first.recipe, seed=first.recipe.seed + k),
        )
        for k in range(seeds)
    ]


def label(name: str) -> str:
    """What people call the setting of the run of that name; a run of your own is called by its name."""
    chosen = name.removesuffix("-all")
    called = LABELS.get(setting(chosen), setting(chosen))
    return called + (", all training images" if name != chosen else "")


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
    """One row a setting, means over its seeds, the random baseline first; all figures are of ``part``.

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
    nothing = {"mAP range": 0.0, "seeds": 1, "training (s)": 0, "trained": "0", "parameters": "0"}
    rows = {"random baseline": {**_figures([baseline]), **nothing}}
    for name, group in by_setting(runs).items():
        reports = [run.metrics[part] for run in group if run.metrics.get(part)]
        if reports:
            values = [report["map"] for report in reports]
            rows[label(name)] = {
                **_figures(reports),
                "mAP range": max(values) - min(values),
                "seeds": len(reports),
                "training (s)": round(np.mean([run.metrics["seconds"] for run in group])),
                "trained": f"{group[0].metrics['trained_parameters']:,}",
                "parameters": f"{group[0].metrics['parameters']:,}",
            }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("model")


def _figures(reports: Sequence[Mapping[str, float]]) -> dict[str, float]:
    names = {
        "map": "mAP",
        "dice": "Dice",
        "precision_micro": "P micro",
        "recall_micro": "R micro",
        "f1_micro": "F1 micro",
        "precision_macro": "P macro",
        "recall_macro": "R macro",
        "f1_macro": "F1 macro",
        "exact_match": "exact match",
        "hamming": "Hamming",
        "ece": "ECE",
    }
    return {title: float(np.mean([report[key] for report in reports])) for key, title in names.items()}


def per_class(runs: Mapping[str, Run], part: str, scored: Dataset) -> dict[str, np.ndarray]:
    """Label of the setting -> average precision of each class, (classes,), mean over its seeds."""
    return {
        label(name): np.mean([average_precision(scored.labels, r.predictions()[part]) for r in group], axis=0)
        for name, group in by_setting(runs).items()
    }


def best_run(runs: Mapping[str, Run]) -> str:
    """Name of the run with the highest mAP on validation data: test data chooses nothing."""
    return max(runs, key=lambda name: runs[name].metrics["validation"]["map"])


def difference(
    truth: np.ndarray,
    ours: Sequence[np.ndarray],
    theirs: Sequence[np.ndarray],
    samples: int = 300,
    seed: int = 0,
) -> Difference:
    """Difference in mAP, ``ours`` minus ``theirs``, with a paired bootstrap over images (Efron 1979).

    Args:
        truth: (n, classes), 0 or 1.
        ours: (n, classes) scores of each seed.
        theirs: the same of the other setting.
        samples: resamplings.
        seed: of the resampling.
    """

    def gap(index) -> float:
        a, b = (
            np.mean([mean_average_precision(truth[index], scores[index]) for scores in side])
            for side in (ours, theirs)
        )
        return float(a - b)

    low, high = bootstrap_interval(gap, len(truth), samples, seed)
    ranges = [
        np.ptp([mean_average_precision(truth, scores) for scores in side])
        for side in (ours, theirs)
        if len(side) > 1
    ]
    spread = float(max(ranges, default=np.nan))
    return Difference(gap(slice(None)), float(low), float(high), spread, "mAP")


def chance_note(runs: Mapping[str, Run], part: str, scored: Dataset) -> tuple[set[str], str]:
    """(settings that are clearly better than chance, a sentence on those that are not)."""
    truth, lows = scored.labels, {}
    for name, group in by_setting(runs).items():
        seeds = [run.predictions()[part] for run in group]

        def score(index, seeds=seeds):
            return np.mean([mean_average_precision(truth[index], logits[index]) for logits in seeds])

        lows[name] = float(bootstrap_interval(score, len(truth), 200)[0])
    chance = Chance.average_precision(truth)
    note = chance.note({label(name): low for name, low in lows.items()})
    return {name for name, low in lows.items() if chance.beaten(low)}, note


def comparisons(runs: Mapping[str, Run], part: str, scored: Dataset) -> str:
    """What the runs say about transfer and augmentation, in Markdown; only networks above chance count.

    Every setting that was added is compared with the linear head.
    """
    grouped, (good, note) = by_setting(runs), chance_note(runs, part, scored)
    asked = [("head", "scratch"), ("finetuned-augmented", "head-augmented")]
    asked += [("scratch-augmented", "scratch"), ("head-augmented", "head")]
    asked += [(name, "head") for name in grouped if name not in LABELS]
    lines = []
    for ours, theirs in asked:
        if {ours, theirs} <= good:
            sides = [[run.predictions()[part] for run in grouped[name]] for name in (ours, theirs)]
            found = difference(scored.labels, sides[0], sides[1])
            lines.append(f"- {text.markdown(label(ours))} against {text.markdown(label(theirs))}: {found}.")
    return "\n".join(lines) + (f"\n\n{text.markdown(note)}" if note else "")


def summary(runs: Mapping[str, Run], best: str, table: pd.DataFrame, on: str) -> str:
    """The answer in a sentence or two, for the first page.

    Args:
        runs: name -> complete run.
        best: the chosen one.
        table: from :func:`results_table`.
        on: the images, in words.
    """
    reports = runs[best].metrics
    reached = (reports.get("test") or reports["validation"])["map"]
    text = f"The best network, {label(best)}, reaches a mean average precision of {reached:.3f} on {on}."
    others = [name for name in ("head", "scratch-augmented") if name in runs and name != best]
    found = "; ".join(f"{label(name)} {table.loc[label(name), 'mAP']:.3f}" for name in others)
    return f"{text} Beside it: {found}." if others else text


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
