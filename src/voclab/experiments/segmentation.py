"""Notebook 02: losses, skip connections and pretrained encoders for the label of every pixel."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from voclab.data.base import VOID, Dataset
from voclab.experiments.common import Profile, Sets
from voclab.experiments.overview import by_setting, repeated, setting
from voclab.metrics import Chance, dice_low, image_scores, pixel_frequency, random_segmentation
from voclab.metrics.statistics import Difference, bootstrap_interval
from voclab.models.prediction import TestTime
from voclab.models.pretrained import Weights
from voclab.training import Experiment, Recipe, Run
from voclab.training.segmentation import Segmentation, measure, predicted_masks

TUNED = "deeplab-tuned"
SCRATCH, PRETRAINED = "unet-both", "encoder-both"  # what the others of their family are compared with
LABELS = {
    "unet-ce": "U-Net, cross-entropy",
    "unet-dice": "U-Net, Dice",
    SCRATCH: "U-Net, both",
    "unet-noskip": "U-Net, both, no skips",
    "encoder-ce": "U-Net on frozen encoder, cross-entropy",
    "encoder-dice": "U-Net on frozen encoder, Dice",
    PRETRAINED: "U-Net on frozen encoder, both",
    "encoder-noskip": "U-Net on frozen encoder, both, no skips",
    "deeplab-frozen": "DeepLabV3+, frozen encoder",
    TUNED: "DeepLabV3+, fine-tuned",
}
_SHORT = {"cross_entropy": "ce", "dice": "dice", "cross_entropy_dice": "both"}
_FAMILIES = {"unet": "U-Net", "encoder": "U-Net on frozen encoder"}


@dataclass(slots=True)
class Settings:
    """Sizes and lengths of notebook 02.

    Attributes:
        width: channels of the U-Net from scratch after its stem.
        depth: how often it halves the resolution after that.
        size: its training size, pixels.
        test_size: longest side at which it is tested, pixels.
        augmentation: its augmentation.
        epochs: its training.
        learning_rate: its peak learning rate.
        batch_size: images a step, of this family and the next.
        losses: of the U-Nets from scratch: names in ``voclab.losses.LOSSES``, or losses of your own.
        encoder_losses: the same of those on the pretrained encoder. The sum of both is always trained.
        encoder_noskip: whether skips are compared on the pretrained encoder too.
        seeds: of every U-Net; their range is the yardstick of a difference.
        decoder_width: channels of the decoders on a pretrained encoder.
        encoder_size: training size of the U-Net on a frozen encoder, pixels.
        encoder_test_size: longest side at which it is tested, pixels.
        encoder_epochs: its training.
        encoder_learning_rate: its peak learning rate.
        deeplab_size: training size of DeepLabV3+, pixels.
        deeplab_batch_size: its images a step.
        deeplab_epochs: its training on the frozen encoder.
        deeplab_learning_rate: the peak learning rate of that.
        finetune_epochs: epochs of the whole network after that.
        finetune_learning_rate: their peak learning rate.
        test_sizes: longest sides averaged when it is tested, with mirror images.
        averaged: networks whose answers are averaged at most, the best on validation images.
        refit: whether the chosen model is trained once more on all training images, for its time again.
    """

    width: int = 24
    depth: int = 3
    size: int = 64
    test_size: int = 64
    augmentation: str = "none"
    epochs: int = 10
    learning_rate: float = 3e-3
    batch_size: int = 16
    losses: tuple = ("cross_entropy", "dice", "cross_entropy_dice")
    encoder_losses: tuple = ("cross_entropy_dice",)
    encoder_noskip: bool = False
    seeds: int = 2
    decoder_width: int = 128
    encoder_size: int = 96
    encoder_test_size: int = 128
    encoder_epochs: int = 4
    encoder_learning_rate: float = 3e-3
    deeplab_size: int = 96
    deeplab_batch_size: int = 16
    deeplab_epochs: int = 3
    deeplab_learning_rate: float = 3e-3
    finetune_epochs: int = 3
    finetune_learning_rate: float = 3e-4
    test_sizes: tuple[int, ...] = (128, 160)
    averaged: int = 3
    refit: bool = False


_DRAWN = Settings()
_PHOTOGRAPHS = Settings(
    size=128,
    test_size=160,
    augmentation="standard",
    epochs=30,
    batch_size=8,
    encoder_size=224,
    encoder_test_size=320,
    encoder_epochs=6,
    encoder_learning_rate=2e-3,
    deeplab_size=256,
    deeplab_epochs=8,
    deeplab_learning_rate=2e-3,
    finetune_epochs=16,
    finetune_learning_rate=3e-4,
    test_sizes=(320, 416),
)
_SETS = Sets(
    smoke=replace(
        _DRAWN,
        seeds=1,
        width=4,
        depth=2,
        size=32,
        epochs=1,
        decoder_width=16,
        encoder_size=32,
        encoder_test_size=64,
        encoder_epochs=1,
        deeplab_size=32,
        deeplab_epochs=1,
        finetune_epochs=1,
        test_sizes=(64,),
        averaged=2,
        refit=True,
    ),
    demo=(_DRAWN, _PHOTOGRAPHS),
    full=(
        replace(
            _DRAWN,
            width=32,
            size=128,
            test_size=160,
            augmentation="standard",
            epochs=40,
            seeds=3,
            encoder_losses=("cross_entropy", "dice", "cross_entropy_dice"),
            encoder_noskip=True,
            encoder_size=128,
            encoder_test_size=160,
            encoder_epochs=15,
            deeplab_size=128,
            deeplab_epochs=15,
            finetune_epochs=30,
            test_sizes=(128, 160, 192),
            refit=True,
        ),
        replace(
            _PHOTOGRAPHS,
            width=32,
            size=224,
            test_size=320,
            epochs=120,
            seeds=3,
            encoder_losses=("cross_entropy", "dice", "cross_entropy_dice"),
            encoder_noskip=True,
            encoder_size=320,
            encoder_test_size=448,
            encoder_epochs=15,
            decoder_width=192,
            deeplab_size=384,
            deeplab_epochs=10,
            finetune_epochs=40,
            finetune_learning_rate=1e-4,
            test_sizes=(384, 512, 640),
            refit=True,
        ),
    ),
)


def settings(profile: Profile) -> Settings:
    """The settings of a profile: a copy, to be changed (``settings.epochs = 20``)."""
    return replace(_SETS.of(profile))


def experiments(settings: Settings, weights: Weights, seed: int) -> list[Experiment]:
    """All segmenters of notebook 02, those that others start from first.

    Two families, a U-Net from scratch and a decoder on a frozen pretrained encoder. Within a family each
    differs from the reference in one thing: the loss, or the skips. Seeds after the first are named
    ``<name>-seed<k>``. Last comes DeepLabV3+ on the same encoder, first frozen, then trained with it.
    """
    p = settings
    scratch = Experiment(
        SCRATCH,
        Segmentation(TestTime((p.test_size,))),
        "unet",
        _recipe(p.size, p.augmentation, p.epochs, p.learning_rate, p.batch_size, seed),
        loss="cross_entropy_dice",
        options={"width": p.width, "depth": p.depth},
    )
    pretrained = replace(
        scratch,
        name=PRETRAINED,
        task=Segmentation(TestTime((p.encoder_test_size,))),
        recipe=_recipe(
            p.encoder_size, "standard", p.encoder_epochs, p.encoder_learning_rate, p.batch_size, seed
        ),
        backbone=weights.backbone,
        weights=weights.value,
        frozen=True,
        options={"width": p.decoder_width},
    )
    size, batch_size = p.deeplab_size, p.deeplab_batch_size
    deeplab = replace(
        pretrained,
        name="deeplab-frozen",
        task=Segmentation(TestTime(p.test_sizes)),
        model="deeplab",
        recipe=_recipe(size, "standard", p.deeplab_epochs, p.deeplab_learning_rate, batch_size, seed),
    )
    tuning = _recipe(size, "standard", p.finetune_epochs, p.finetune_learning_rate, batch_size, seed)
    tuned = replace(deeplab, name=TUNED, recipe=tuning, frozen=False, start=deeplab.name)
    return [
        *repeated(_family("unet", scratch, p.losses, noskip=True), p.seeds),
        *repeated(_family("encoder", pretrained, p.encoder_losses, p.encoder_noskip), p.seeds),
        deeplab,
        tuned,
    ]


def _recipe(
    size: int, augmentation: str, epochs: int, learning_rate: float, batch_size: int, seed: int
) -> Recipe:
    # Patience beyond any schedule: with a cosine to zero the last epochs are the good ones.
    return Recipe(
        size,
        augmentation,
        epochs,
        learning_rate,
        batch_size=batch_size,
        weight_decay=1e-3,
        patience=99,
        seed=seed,
    )


def _family(prefix: str, reference: Experiment, losses: Sequence, noskip: bool) -> list[Experiment]:
    """The reference, and what differs from it in the loss alone or in the skips alone."""
    named = {loss_name(loss): loss for loss in (*losses, "cross_entropy_dice")}
    members = [replace(reference, name=f"{prefix}-{name}", loss=loss) for name, loss in named.items()]
    if noskip:
        without = {**reference.options, "skips": False}
        members.append(replace(reference, name=f"{prefix}-noskip", options=without))
    return members


def loss_name(loss) -> str:
    """What a run is called by its loss: a name, or that of a loss of your own."""
    if isinstance(loss, str):
        return _SHORT.get(loss, loss)
    return str(getattr(loss, "__name__", type(loss).__name__))


def label(name: str) -> str:
    """What people call the run of that name."""
    chosen = setting(name.removesuffix("-all"))
    family, _, rest = chosen.partition("-")
    known = f"{_FAMILIES[family]}, {rest}" if family in _FAMILIES else chosen
    text = LABELS.get(chosen, known)
    return text + (", all training images" if name.endswith("-all") else "")


def by_loss(runs: Mapping[str, Run], family: str, part: str) -> dict[str, np.ndarray]:
    """Label -> (classes,) Dice of every loss that a family was trained with, means over seeds."""
    grouped = by_setting({n: r for n, r in runs.items() if n.startswith(f"{family}-") and "noskip" not in n})
    return {label(name): dice_by_class(group, part) for name, group in grouped.items()}


def at_chance(runs: Mapping[str, Run], part: str) -> tuple[set[str], str]:
    """Settings that are not clearly better than labels at random, and a sentence on them; see `Chance`."""
    grouped = by_setting(runs)
    counts = {n: np.mean([run.predictions()[part] for run in group], axis=0) for n, group in grouped.items()}
    chance = Chance.dice(next(iter(counts.values()))[:, 2].sum(0))
    lows = {name: dice_low(found) for name, found in counts.items()}
    found = {name for name, low in lows.items() if not chance.beaten(low)}
    return found, chance.note({label(name): low for name, low in lows.items()})


def findings(runs: Mapping[str, Run], part: str) -> dict[str, str]:
    """Question -> what the runs say to it, a Markdown list: losses, skips, the encoder, DeepLabV3+.

    A difference is called clear only where it is larger than the range over seeds and its interval leaves
    zero out; networks at chance are not compared.
    """
    grouped, (weak, _) = by_setting(runs), at_chance(runs, part)

    def said(ours: str, theirs: str) -> str:
        name = f"{label(ours)} against {label(theirs)}"
        if {ours, theirs} & weak:
            return f"- {name}: not compared, since not both are clearly better than chance."
        return f"- {name}: {compare(grouped, ours, theirs, part)}."

    def family(prefix: str, wanted: bool) -> list[str]:
        names = [n for n in grouped if n.startswith(f"{prefix}-") and ("noskip" in n) == wanted]
        return [n for n in names if not n.endswith(("-all", "-ce"))]

    losses, skips = [], []
    for prefix in _FAMILIES:
        if f"{prefix}-ce" in grouped:
            losses += [said(name, f"{prefix}-ce") for name in family(prefix, wanted=False)]
        skips += [said(f"{prefix}-both", name) for name in family(prefix, wanted=True)]
    return {
        "Which loss": "\n".join(losses),
        "What do skip connections add, at the same number of parameters": "\n".join(skips),
        "What does a pretrained encoder add": said(PRETRAINED, SCRATCH),
        "What does another decoder add": said("deeplab-frozen", PRETRAINED),
        "What does training the encoder add": said(TUNED, "deeplab-frozen"),
    }


@dataclass(frozen=True)
class Baseline:
    """What labels at random are worth: every pixel drawn with the training pixels' frequencies."""

    report: dict
    frequency: np.ndarray

    @classmethod
    def of(cls, train: Dataset, scored: Dataset, seed: int) -> "Baseline":
        """Measure it on ``scored`` with the pixel frequencies of ``train``."""
        frequency = pixel_frequency((train.mask(i) for i in range(len(train))), len(train.class_names) + 1)
        rng = np.random.default_rng(seed)
        drawn = (random_segmentation(frequency, scored.mask(i).shape, rng) for i in range(len(scored)))
        metrics, _ = measure(drawn, scored)
        return cls(metrics.report(), frequency)


def results_table(runs: Mapping[str, Run], part: str, baseline: Baseline) -> pd.DataFrame:
    """One row a setting, means over its seeds, the random baseline first; all figures are of ``part``."""
    rows = {
        "random labels": {**_figures([baseline.report]), "seeds": 1, "training (s)": 0, "parameters": "0"}
    }
    for name, group in by_setting(runs).items():
        reports = [run.metrics[part] for run in group if run.metrics.get(part)]
        if reports:
            rows[label(name)] = {
                **_figures(reports),
                "seeds": len(reports),
                "training (s)": round(np.mean([run.metrics["seconds"] for run in group])),
                "parameters": f"{group[0].metrics['parameters']:,}",
            }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("model")


def _figures(reports: Sequence[dict]) -> dict[str, float]:
    names = {
        "mean_iou": "mIoU",
        "mean_dice": "Dice",
        "image_dice": "competition Dice",
        "boundary_f1": "boundary F1",
        "pixel_accuracy": "pixel accuracy",
    }
    return {title: float(np.mean([r[key] for r in reports])) for key, title in names.items()}


def dice_table(runs: Mapping[str, Run], part: str, class_names: Sequence[str]) -> pd.DataFrame:
    """Dice of every foreground class (columns) and setting (rows), means over seeds."""
    return pd.DataFrame(
        {label(name): dice_by_class(group, part) for name, group in by_setting(runs).items()},
        index=list(class_names),
    ).T.rename_axis("model")


def dice_by_class(group: Sequence[Run], part: str) -> np.ndarray:
    """(classes,) Dice of the foreground classes over ``part``, mean over runs; NaN where undefined."""
    return np.mean([run.metrics[part]["dice"][1:] for run in group], axis=0)


def mean_dice(counts: np.ndarray) -> float:
    """Mean foreground Dice from pixel counts (n, 3, labels) as ``measure`` gives them."""
    hits, predicted, true = counts.sum(0)[:, 1:].astype(float)
    either = predicted + true
    return float(np.mean(2 * hits[either > 0] / either[either > 0]))


def difference(
    ours: Sequence[Run],
    theirs: Sequence[Run],
    part: str,
    spread: float,
    samples: int = 300,
    seed: int = 0,
) -> Difference:
    """Difference in mean foreground Dice, ``ours`` minus ``theirs``, with a paired bootstrap over images.

    Args:
        ours: runs that differ in their seed alone.
        theirs: the same for the other setting, measured on the same images.
        part: ``"test"`` or ``"validation"``.
        spread: what :func:`seed_spread` gives for the reference.
        samples: resamplings of the images (Efron 1979).
        seed: of the resampling.
    """
    sides = [[run.predictions()[part] for run in group] for group in (ours, theirs)]

    def gap(index) -> float:
        a, b = (np.mean([mean_dice(counts[index]) for counts in side]) for side in sides)
        return float(a - b)

    low, high = bootstrap_interval(gap, len(sides[0][0]), samples, seed)
    return Difference(gap(slice(None)), float(low), float(high), spread, "Dice")


def compare(grouped: Mapping[str, Sequence[Run]], ours: str, theirs: str, part: str) -> Difference:
    """:func:`difference` of two settings by name; the yardstick is the spread of their family's reference.

    The larger of the two, where they are of different families.
    """
    references = {SCRATCH if name.startswith("unet") else PRETRAINED for name in (ours, theirs)}
    spreads = [seed_spread(grouped[name], part) for name in references]
    spread = max((known for known in spreads if not np.isnan(known)), default=float("nan"))
    return difference(grouped[ours], grouped[theirs], part, spread)


def seed_spread(group: Sequence[Run], part: str) -> float:
    """Largest minus smallest mean foreground Dice over runs that differ in their seed alone; NaN for one."""
    values = [run.metrics[part]["mean_dice"] for run in group]
    return max(values) - min(values) if len(values) > 1 else float("nan")


@dataclass(frozen=True)
class RarityEffect:
    """Whom a change helps: mean gain of the rarest and the commonest third of the classes.

    Attributes:
        rare: mean gain in Dice of the rarest third, by share of pixels.
        common: that of the commonest third.
        correlation: Spearman's rank correlation of gain and share of pixels; below 0, rare classes gain more.
        p_value: of that correlation.
    """

    rare: float
    common: float
    correlation: float
    p_value: float


def rarity_effect(gain: np.ndarray, share: np.ndarray) -> RarityEffect:
    """Relate the gain in Dice of every class to its share of the pixels, both (classes,)."""
    known = np.isfinite(gain)
    gain, share = gain[known], share[known]
    order, third = np.argsort(share), max(1, len(share) // 3)
    if len(set(gain)) < 2:  # nothing to rank
        return RarityEffect(float(gain.mean()), float(gain.mean()), 0.0, 1.0)
    found = spearmanr(share, gain)
    rare, common = gain[order[:third]].mean(), gain[order[-third:]].mean()
    return RarityEffect(float(rare), float(common), float(found.statistic), float(found.pvalue))


def loss_and_rarity(by_loss: Mapping[str, np.ndarray], share: np.ndarray) -> str:
    """A sentence on whether Dice loss helps rare classes more; empty where one of the two losses is missing.

    Args:
        by_loss: label -> (classes,) Dice, as :func:`by_loss` gives it for the U-Net from scratch.
        share: (classes,) share of the pixels.
    """
    both = [label(f"unet-{loss}") for loss in ("dice", "ce")]
    if not set(both) <= set(by_loss):
        return ""
    found = rarity_effect(by_loss[both[0]] - by_loss[both[1]], share)
    verdict = ": not decided by this experiment" if found.p_value >= 0.05 else ""
    return (
        f"Dice loss against cross-entropy: {found.rare:+.3f} in the rarest third of the classes,"
        f" {found.common:+.3f} in the commonest; rank correlation of gain and share of pixels"
        f" {found.correlation:+.2f} (p = {found.p_value:.2f}){verdict}."
    )


def recall_by_area(run: Run, part: str) -> dict[str, tuple[float, int]]:
    """Share of a class' pixels in an image that are found, by how much of the image they cover.

    Returns:
        size -> (mean recall, number of image-class pairs); under 2 %, 2 to 10 % and over 10 % of the pixels.
    """
    counts = run.predictions()[part].astype(float)
    hits, true = counts[:, 0, 1:], counts[:, 2, 1:]
    there = true > 0
    share = (true / counts[:, 2].sum(1)[:, None])[there]
    found = hits[there] / true[there]
    bins = np.digitize(share, [0.02, 0.1])
    names = ("under 2 %", "2 to 10 %", "over 10 %")
    return {
        name: (float(found[bins == b].mean()), int((bins == b).sum()))
        for b, name in enumerate(names)
        if (bins == b).any()
    }


def image_dice(run: Run, part: str) -> np.ndarray:
    """(n,) Dice of each image as the competition scores it, from the stored pixel counts."""
    hits, predicted, true = np.moveaxis(run.predictions()[part][:, :, 1:].sum(2), 1, 0)
    return np.where(predicted + true == 0, 1.0, 2.0 * hits / np.maximum(predicted + true, 1))


def best_median_worst(scores: np.ndarray, each: int) -> list[tuple[str, int]]:
    """(``"best"``, index), …: ``each`` images from the top, the middle and the bottom of the ranking."""
    order = np.argsort(-scores, kind="stable")
    middle = (len(order) - each) // 2
    return [
        (title, int(i))
        for title, part in (
            ("best", order[:each]),
            ("median", order[middle : middle + each]),
            ("worst", order[-each:]),
        )
        for i in part
    ]


Box = tuple[int, int, int, int]


def fine_details(
    scored: Dataset, n: int, window: float = 0.55, among: Sequence[int] | None = None
) -> list[tuple[int, Box]]:
    """Places with much outline but not the most, chosen by the truth alone: edges close up.

    The very longest outlines (a wheel's spokes) are finer than any of the models; so the images are taken
    from below the longest tenth.

    Args:
        scored: images with masks and labels.
        n: how many images.
        window: side of the place as a share of the image's shorter side.
        among: images to choose from; ``None`` for all.

    Returns:
        (image, (y0, y1, x0, x1)), longer outlines first, at most one of each set of classes.
    """
    found = []
    for i in range(len(scored)) if among is None else among:
        mask = scored.mask(i)
        inside = (mask > 0) & (mask != VOID)
        edge = np.zeros(mask.shape, np.float32)
        edge[:, 1:] += inside[:, 1:] != inside[:, :-1]
        edge[1:] += inside[1:] != inside[:-1]
        side = min(max(8, round(window * min(mask.shape))), *mask.shape)
        sums = np.pad(edge.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
        boxes = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
        y, x = np.unravel_index(boxes.argmax(), boxes.shape)
        found.append((boxes[y, x] / side, int(i), (int(y), int(y) + side, int(x), int(x) + side)))
    ranked = sorted(found, key=lambda entry: (-entry[0], entry[1]))
    chosen, seen = [], set()
    for _, i, box in ranked[len(ranked) // 10 :]:
        key = tuple(np.flatnonzero(scored.labels[i]))
        if key not in seen and len(chosen) < n:
            seen.add(key)
            chosen.append((i, box))
    return chosen


def prediction_rows(runs: Mapping[str, Run], part: str, scored: Dataset, chosen: Sequence[tuple[str, int]]):
    """Rows for ``plotting.prediction_rows``: image, truth, and every model's map with its Dice."""
    labels = len(scored.class_names) + 1
    stored = {label(name): predicted_masks(run, part) for name, run in runs.items()}
    rows = []
    for title, i in chosen:
        truth = scored.mask(i)
        predictions = []
        for name, masks in stored.items():
            predicted = masks[scored.ids[i]]
            predictions.append((name, predicted, f"Dice {image_scores(truth, predicted, labels):.2f}"))
        rows.append((title, scored.image(i), truth, predictions))
    return rows


def closeup_rows(runs: Mapping[str, Run], part: str, scored: Dataset, places):
    """Rows for ``plotting.edge_closeups`` of the places that :func:`fine_details` found."""
    return [
        (
            scored.image(i),
            scored.mask(i),
            [(label(name), predicted_masks(run, part)[scored.ids[i]]) for name, run in runs.items()],
            box,
        )
        for i, box in places
    ]


def pixel_matrix(run: Run, part: str) -> np.ndarray:
    """(labels, labels) pixel counts, truth in rows."""
    return run.predictions()[f"{part}_matrix"]


@dataclass(frozen=True)
class Confusion:
    """Two foreground classes of which one is often labelled as the other."""

    true: int
    predicted: int
    share: float


def commonest_confusion(matrix: np.ndarray) -> Confusion | None:
    """The pair with the largest share of a class' pixels that got another object's label."""
    share = matrix[1:, 1:] / np.maximum(matrix[1:].sum(1, keepdims=True), 1)
    np.fill_diagonal(share, 0)
    i, j = np.unravel_index(share.argmax(), share.shape)
    return Confusion(int(i), int(j), float(share[i, j])) if share[i, j] > 0 else None


def labels_from_masks(masks, n: int, classes: int, least: float) -> np.ndarray:
    """Which classes a predicted map shows on at least a share ``least`` of its pixels: (n, classes) uint8."""
    labels = np.zeros((n, classes), np.uint8)
    for row, mask in zip(labels, masks, strict=True):
        counts = np.bincount(mask.ravel(), minlength=classes + 1)[1 : classes + 1]
        row[counts >= least * mask.size] = 1
    return labels


def best_run(runs: Mapping[str, Run]) -> str:
    """Name of the run with the highest mean foreground Dice on validation data."""
    return max(runs, key=lambda name: runs[name].metrics["validation"]["mean_dice"])
