"""Notebook 04: which networks are measured, and how they compare."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from voclab.corruptions import SEVERITIES
from voclab.data.base import Dataset
from voclab.errors import VoclabError
from voclab.evaluation import uncertainty, unknown
from voclab.evaluation.conditions import CLEAN
from voclab.evaluation.consistency import ALL
from voclab.evaluation.robustness import Measured
from voclab.evaluation.uncertainty import Uncertainty
from voclab.evaluation.unknown import Unknown
from voclab.experiments import classification, segmentation
from voclab.experiments.cifar10 import Asked, small
from voclab.experiments.common import Profile, Sets
from voclab.metrics import mean_corruption_error
from voclab.metrics.statistics import wilson
from voclab.models.network import Network
from voclab.models.pretrained import Weights
from voclab.terminal import say
from voclab.training import Parts, Run
from voclab.training.experiment import run_chain

FAMILIES = {
    "noise": ("gaussian_noise", "shot_noise", "impulse_noise"),
    "blur": ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    "weather": ("snow", "frost", "fog", "brightness"),
    "digital": ("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
}  # as Hendrycks & Dietterich 2019 sort them


@dataclass(slots=True)
class Settings:
    """Sizes and lengths of notebook 04.

    Attributes:
        classifiers: runs of notebook 01 that are measured, the baseline first.
        segmenters: runs of notebook 02, likewise.
        images: images that they are measured on, spread over the test set; 0 for all.
        attacked: of these, images for the attacks.
        standard: options of the small classifier that adversarial training is compared with.
        hardened: of the same, adversarially trained.
        small_images: small images that both are measured on.
        worst_images: of these, images for the worst case over attacks; 0 for all.
        worst: arguments of :func:`voclab.attacks.worst_case.group`.
        epsilons: bounds of the attacks on them, steps of 1/255.
    """

    classifiers: tuple[str, ...]
    segmenters: tuple[str, ...]
    images: int
    attacked: int
    standard: Asked
    hardened: Asked
    small_images: int
    worst_images: int
    worst: dict[str, int]
    epsilons: tuple[int, ...]


_SMALL = small("vgg", "standard", 14, 0.05, width=16, weight_decay=2e-3, dropout=0.0)
_PLAIN = small("small_cnn", "standard", 30, 0.05, weight_decay=2e-3, dropout=0.0)
_ADVERSARIAL: Asked = {"augmentation": "adversarial", "steps": 2}
_ON_RESNET = small("resnet18", "standard", 30, 0.1, batch_size=128)
_DRAWN = Settings(
    classifiers=("scratch", "scratch-augmented", "head", "finetuned-augmented"),
    segmenters=("encoder-both", "deeplab-tuned"),
    images=128,
    attacked=32,
    standard=_SMALL,
    # At 8/255 it stays at guessing on the drawn images, however long; docs/decisions.md.
    hardened=_SMALL | _ADVERSARIAL | {"epochs": 20, "patience": 20, "epsilon": 4.0},
    small_images=256,
    worst_images=128,
    worst={"steps": 20, "targets": 3, "queries": 300},
    epsilons=(1, 2, 4, 8, 16),
)
_PHOTOGRAPHS = replace(
    _DRAWN,
    classifiers=("scratch", "scratch-augmented", "head", "finetuned-augmented"),
    images=96,
    attacked=24,
    standard=_PLAIN,
    hardened=_PLAIN | _ADVERSARIAL | {"epochs": 60, "patience": 60},
    small_images=512,
)
_FULL = replace(
    _DRAWN,
    images=400,
    attacked=128,
    standard=_ON_RESNET,
    hardened=_ON_RESNET | _ADVERSARIAL | {"steps": 7, "patience": 30},
    small_images=1000,
    worst_images=0,
    worst={"steps": 100, "targets": 9, "queries": 5000},
)
_SETS = Sets(
    smoke=replace(
        _DRAWN,
        classifiers=("scratch", "finetuned-augmented"),
        segmenters=("deeplab-tuned",),
        images=8,
        attacked=4,
        standard=small("small_cnn", "standard", 1, 0.05, width=4),
        hardened=small("small_cnn", "adversarial", 1, 0.05, width=4, steps=1),
        small_images=16,
        worst={"steps": 2, "targets": 2, "queries": 3},
        epsilons=(4, 8),
    ),
    demo=(_DRAWN, _PHOTOGRAPHS),
    full=(
        replace(_FULL, hardened=_FULL.hardened | {"epsilon": _DRAWN.hardened["epsilon"]}),
        replace(_FULL, classifiers=_PHOTOGRAPHS.classifiers),
    ),
)


def settings(profile: Profile) -> Settings:
    """The settings of a profile: a copy, to be changed as one likes."""
    return deepcopy(_SETS.of(profile))


def trained(
    settings: Settings, profile: Profile, weights: Weights, seed: int, data: Parts, folder: Path, **options
) -> dict[str, list[Run]]:
    """The networks of notebooks 01 and 02 that notebook 04 measures; what is missing is trained now.

    Args:
        settings: name them.
        profile: of those notebooks.
        weights: that they are pretrained on.
        seed: of their training.
        data: that they are trained, chosen and measured on.
        folder: of the runs.
        options: ``cache_mb`` and ``progress``, see :func:`voclab.training.experiment.run`.

    Returns:
        ``"classifiers"`` and, where there are masks, ``"segmenters"``: complete runs, the baseline first.
    """
    kinds = {"classifiers": (classification, settings.classifiers)}
    if data.fit.has_masks:
        kinds["segmenters"] = (segmentation, settings.segmenters)
    found = {}
    for kind, (study, names) in kinds.items():
        known = {e.name: e for e in study.experiments(study.settings(profile), weights, seed)}
        found[kind] = [run_chain(name, known, data, folder, **options) for name in names]
    return found


@dataclass(frozen=True)
class Overview:
    """All networks of one task in a table, with what could not be computed.

    Attributes:
        table: a row a network; of one that is not clearly better than chance only its score on clean images.
        baseline: the network that mCE is relative to.
        notes: sentences on what is left out, and why.
    """

    table: pd.DataFrame
    baseline: str
    notes: tuple[str, ...]


def ranked(measured: Mapping[str, Measured]) -> dict[str, Measured]:
    """The networks that are clearly better than chance, which alone are compared; all, if none is."""
    return {name: m for name, m in measured.items() if m.above_chance} or dict(measured)


def chance_note(measured: Mapping[str, Measured]) -> str:
    """A sentence on the networks of one task that are not clearly better than chance; empty without any."""
    chance = next(iter(measured.values())).chance
    return chance.note({name: m.low for name, m in measured.items()})


def overview(measured: Mapping[str, Measured], baseline: str | None = None) -> Overview:
    """Compare networks of one task.

    Args:
        measured: name -> what was measured.
        baseline: whose errors 100 % mCE are; without it the first network that is above chance.

    Raises:
        VoclabError: networks of several tasks, or a baseline that is none of them.
    """
    first = baseline or next(iter(ranked(measured)))
    if first not in measured:
        raise VoclabError(f"The baseline {first} is not among {', '.join(measured)}; name one of them.")
    if len({m.segmenter for m in measured.values()}) > 1:
        raise VoclabError("Classifiers and segmenters are measured in other units; compare them apart.")
    base, rows, notes = measured[first], {}, [note] if (note := chance_note(measured)) else []
    for name, m in measured.items():
        score = m.scores
        noisy = score[[c for c in score.index if "oise" in c or "pepper" in c]]
        rows[name] = row = {"Dice" if m.segmenter else "accuracy": score[CLEAN]}
        if not m.above_chance:
            continue
        row["under noise"] = noisy.mean()
        row["blurred"] = score[[c for c in score.index if "blur" in c]].mean()
        row |= {c: score[c] for c in score.index if c.startswith(("FGSM", "PGD"))}
        for title, clean in (("mCE (%)", ()), ("relative mCE (%)", (m.clean_error, base.clean_error))):
            try:
                row[title] = mean_corruption_error(m.errors, base.errors, *clean)
            except VoclabError as error:
                row[title] = float("nan")
                notes.append(f"{title} is left out: {error}")
        if not m.segmenter:
            eces = m.conditions["ece"]
            row |= {"ECE": eces[CLEAN], "worst ECE": eces.max()}
            row["answers kept"] = m.consistency.loc[ALL, "kept"]
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("network")
    return Overview(table, first, tuple(dict.fromkeys(notes)))


def severity_panels(measured: Mapping[str, Measured]) -> dict[str, dict[str, list[float]]]:
    """Family -> network -> mean error over its corruptions at severities 0 (clean) to 5."""
    return {
        family: {
            name: [m.clean_error, *np.mean([m.errors[c] for c in members], axis=0)]
            for name, m in measured.items()
        }
        for family, members in FAMILIES.items()
    }


def corruption_panels(m: Measured) -> dict[str, dict[str, list[float]]]:
    """Family -> corruption -> error of one network at severities 0 (clean) to 5."""
    return {
        family: {c.replace("_", " "): [m.clean_error, *m.errors[c]] for c in members}
        for family, members in FAMILIES.items()
    }


def error_table(m: Measured) -> pd.DataFrame:
    """Error of one network: a row a corruption, a column a severity, and their mean."""
    rows = {c.replace("_", " "): [*m.errors[c], float(np.mean(m.errors[c]))] for c in m.errors}
    columns = [*(f"severity {s}" for s in SEVERITIES), "mean"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("corruption")


def text(name: str, m: Measured) -> str:
    """What was found of one network, from its numbers; of one at chance first of all that it is."""
    score, what = m.scores, "Its mean foreground Dice" if m.segmenter else "Its top class is right in"
    clean, others = score[CLEAN], score.drop(CLEAN)
    plain = others[[c for c in others.index if not c.startswith(("FGSM", "PGD"))]]
    worst, family = plain.idxmin(), severity_panels({name: m})
    means = {k: float(np.mean(v[name][1:])) for k, v in family.items()}
    hardest = max(means, key=means.get)
    number = (lambda x: f"{x:.3f}") if m.segmenter else (lambda x: f"{x:.1%}")
    is_, of = ("is", "") if m.segmenter else ("", " of the images")
    pgd = f"{number(score['PGD 8/255'])} (of {m.conditions.loc['PGD 8/255', 'images']} images)"
    lines = [
        f"{what} {is_} {number(clean)}{of}, and {number(plain[worst])} under {worst}, the worst of these"
        f" perturbations. PGD at 8/255 leaves {pgd}. Of ImageNet-C's families, *{hardest}* has the largest"
        f" mean error: {means[hardest]:.1%} over severities, {m.clean_error:.1%} on clean images."
    ]
    if m.consistency is not None:
        row, one, eces = m.consistency.loc[ALL], m.one_image, m.conditions["ece"]
        lines.append(
            f"Under the ten perturbations of the consistency study it keeps {row['kept']:.1%} of its answers"
            f" (95 % interval {row['kept low']:.1%} to {row['kept high']:.1%}); nine of ten images keep"
            f" between {one['low']:.0%} and {one['high']:.0%}. Its calibration error is {eces[CLEAN]:.3f} on"
            f" clean images and at most {eces.max():.3f}, under {eces.idxmax()}."
        )
    return "\n\n".join(([] if m.above_chance else [m.chance.note({name: m.low})]) + lines)


def conclusions(measured: Mapping[str, Mapping[str, Measured]]) -> str:
    """What notebook 04 finds of the large networks, in Markdown.

    Only networks above chance are compared, and one is called better only where the 95 % intervals of the two
    leave each other out.

    Args:
        measured: ``"classifiers"`` and, where there are masks, ``"segmenters"``: name -> what was measured.
    """
    parts = [_hurts(measured["classifiers"])]
    if "segmenters" in measured:
        parts.append(_segmenters_hurt(measured["segmenters"]))
    parts += [_kept(measured["classifiers"]), _calibrated(measured["classifiers"])]
    return "\n\n".join(part for part in parts if part)


def best(measured: Mapping[str, Measured]) -> str:
    """The network with the best score on clean images."""
    return max(measured, key=lambda name: measured[name].scores[CLEAN])


def perturbed_scores(m: Measured) -> pd.Series:
    """Its scores under perturbations: without the clean images and without the attacks."""
    return m.scores[[c for c in m.scores.index if c != CLEAN and not c.startswith(("FGSM", "PGD"))]]


def _hurts(measured: Mapping[str, Measured]) -> str:
    title, note = "**Which corruptions and attacks hurt?** ", chance_note(measured)
    good = {name: m for name, m in measured.items() if m.above_chance}
    if not good:
        return f"{title}{note}"
    name = best(good)
    m, rows = good[name], perturbed_scores(good[name])
    worst, clean = rows.idxmin(), _share(good[name], CLEAN)
    text = f"On clean images the top class of {name} is right in {_written(clean)}"
    text += f", under the perturbations in {rows.mean():.1%} on average, and"
    if _share(m, worst)[2] < clean[1]:
        text += f" least often under {worst}: {_written(_share(m, worst))}."
    else:
        text += (
            f" under {worst}, the worst of them, in {_written(_share(m, worst))}: these images do not decide"
        )
        text += " whether any of them hurts."
    attacks = [c for c in m.scores.index if c.startswith("PGD")]
    noise = [c for c in rows.index if "oise" in c or "pepper" in c]
    text += f" {attacks[-1]} leaves {_written(_share(m, attacks[-1]))}, of {_images(m, attacks[-1])} images."
    for plain in good:
        if (other := f"{plain}-augmented") in good:
            text += " " + _compared(plain, other, good, noise)
    return " ".join(part for part in (title + text, note) if part)


def _compared(plain: str, other: str, measured: Mapping[str, Measured], noise: list[str]) -> str:
    """Whether augmentation helps under noise."""
    # The mean over several kinds of noise varies less than one of them, so this interval is on the wide side.
    shares = {}
    for name in (plain, other):
        n, mean = _images(measured[name], CLEAN), measured[name].scores[noise].mean()
        shares[name] = mean, *wilson(round(mean * n), n)
    both = f"{_written(shares[plain])} without and {_written(shares[other])} with it"
    if _apart(shares[plain], shares[other]):
        verb = "raises" if shares[other][0] > shares[plain][0] else "lowers"
        return f"Augmentation {verb} the accuracy of {plain} under noise: {both}."
    return f"Whether augmentation helps {plain} under noise is not decided by so few images: {both}."


def _segmenters_hurt(measured: Mapping[str, Measured]) -> str:
    rows = [
        f"{name} has a Dice of {m.scores[CLEAN]:.3f} on clean images (95 % interval from {m.low:.3f}),"
        f" {perturbed_scores(m).mean():.3f} on average under the perturbations, least under"
        f" {perturbed_scores(m).idxmin()} ({perturbed_scores(m).min():.3f}), and {m.scores['PGD 8/255']:.3f}"
        " under PGD 8/255"
        for name, m in measured.items()
        if m.above_chance
    ]
    found = [f"{'; '.join(rows)}."] if rows else []
    note = chance_note(measured)
    return "**Segmenters.** " + " ".join(found + ([note] if note else []))


def _kept(measured: Mapping[str, Measured]) -> str:
    kept = {
        name: tuple(m.consistency.loc[ALL, ["kept", "kept low", "kept high"]])
        for name, m in measured.items()
        if m.above_chance
    }
    if not kept:
        return ""
    order = sorted(kept, key=lambda name: -kept[name][0])
    text = "**How consistent are the answers?** Under ten changes that leave the content alone, the networks"
    text += (
        f" keep this share of their answers: {'; '.join(f'{name} {_written(kept[name])}' for name in order)}."
    )
    if len(order) > 1 and _apart(kept[order[0]], kept[order[-1]]):
        text += f" {order[0]} keeps more than {order[-1]}."
    elif len(order) > 1:
        text += " The intervals overlap, so this does not rank them."
    one = measured[order[0]].one_image
    text += (
        f" Of single images, nine in ten keep between {one['low']:.0%} and {one['high']:.0%} with {order[0]}"
    )
    return text + ": a study of one image could report any of these."


def _calibrated(measured: Mapping[str, Measured]) -> str:
    good = {name: m for name, m in measured.items() if m.above_chance}
    if not good:
        return ""
    name = best(good)
    eces = good[name].conditions["ece"]
    return (
        f"**Is the model calibrated?** The expected calibration error of {name} is {eces[CLEAN]:.3f} on clean"
        f" images and largest, {eces.max():.3f}, under {eces.idxmax()}. It has no interval here, so"
        " differences of a few hundredths say nothing."
    )


def _share(m: Measured, condition: str) -> tuple[float, float, float]:
    """Accuracy under a condition with its 95 % interval."""
    n, share = _images(m, condition), float(m.scores[condition])
    return share, *wilson(round(share * n), n)


def _images(m: Measured, condition: str) -> int:
    return int(m.conditions.loc[condition, "images"])


def _written(share: tuple[float, float, float]) -> str:
    return "{:.1%} (95 % interval {:.1%} to {:.1%})".format(*share)


def _apart(a: tuple[float, float, float], b: tuple[float, float, float]) -> bool:
    """Whether two 95 % intervals leave each other out."""
    return a[1] > b[2] or b[1] > a[2]


def trust(
    network: Network,
    file: Path,
    scored: Dataset,
    far: Mapping[str, Dataset],
    seed: int,
    progress: Callable[[str], None] = say,
) -> tuple[Uncertainty, dict[str, Unknown]]:
    """Calibration, promised recall and unknown images of a classifier, as by ``voclab uncertainty``.

    Half of the images calibrates, the other half is measured. Two classes are left out where enough images
    show nothing else; unknown images are not measured at all where there are too few of any kind.

    Args:
        network: the classifier.
        file: its model file or run.
        scored: images with truth that no choice was made on.
        far: title -> images from elsewhere.
        seed: of the halves, and of what else is random.
        progress: receives lines of text.
    """
    halves = uncertainty.calibration_images(file, scored, lambda: scored, 0.5, seed)
    calibrating, held, told = halves
    found = uncertainty.measure(network, calibrating, held, seed=seed, progress=progress)
    found = replace(found, facts=found.facts | {"calibrated on": told})
    if min(map(len, (calibrating, held, *far.values()))) < unknown.FEWEST:
        return found, {}
    left_out = unknown.lone_classes(calibrating.labels, calibrating.class_names)
    left_out = left_out if unknown.enough(calibrating, held, left_out) else []
    return found, unknown.measure(network, calibrating, held, far, left_out, seed=seed, progress=progress)
