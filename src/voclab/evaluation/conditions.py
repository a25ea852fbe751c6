"""One network on clean, perturbed, corrupted and attacked images: what ``voclab evaluate`` reports."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from voclab.attacks import FGSM, PGD, Adversary, Attack, Bench, Noise, handled, swapped
from voclab.attacks.worst_case import Group, group, require_classifier, worst_case
from voclab.corruptions import CORRUPTIONS, NOISES, SEVERITIES, Setting, corrupted, perturbed
from voclab.data.base import Dataset
from voclab.errors import VoclabError
from voclab.evaluation.networks import open_network
from voclab.metrics import (
    Chance,
    accuracy_low,
    dice_low,
    expected_calibration_error,
    forecasts,
    mean_average_precision,
    precision_recall_f1,
    reliability,
)
from voclab.metrics.statistics import wilson
from voclab.models import ready
from voclab.models.generator import BOUNDS
from voclab.models.network import Network
from voclab.training.segmentation import measure

CLEAN = "clean"
BATTERY = {
    "Gaussian noise 0.05": Setting("gaussian_noise", 0.05),
    "Gaussian noise 0.1": Setting("gaussian_noise", 0.1),
    "Gaussian noise 0.2": Setting("gaussian_noise", 0.2),
    "shot noise 0.1": Setting("shot_noise", 0.1),
    "salt and pepper 0.05": Setting("salt_and_pepper", 0.05),
    "uniform noise 0.1": Setting("uniform_noise", 0.1),
    "occlusion 0.3": Setting("occlusion", 0.3),
    "Gaussian blur 1": Setting("gaussian_blur", 1.0),
    "Gaussian blur 2": Setting("gaussian_blur", 2.0),
    "brightness 0.2": Setting("brightness", 0.2),
    "contrast 0.5": Setting("contrast", 0.5),
    "JPEG, quality 30": Setting("jpeg", 70),
}  # row of the report -> perturbation
STEPS = (2, 8)  # bounds of the attacks, steps of 1/255
_TURNING = ("rotation", "horizontal_flip", "vertical_flip")
WORST = "worst"
ATTACKS: dict[str, tuple[str, Attack | Group]] = {
    "noise": ("noise", Noise()),
    "fgsm": ("FGSM", FGSM()),
    "pgd2": ("PGD-2", PGD(steps=2, step=0.5, random_start=False)),
    "pgd": ("PGD", PGD()),
    WORST: ("worst case", group()),  # has a row for each of its attacks
}  # name -> what rows call it, and the attack; on the networks that come with voclab also:
GENERATOR = "generator"
_SLOW = ("pgd2", "pgd", WORST)  # these take several gradients an image, the others one or less
_JPEG = "JPEG, quality 75"
Attacks = dict[str, tuple[Attack | Group, float]]  # row -> attack (or several), epsilon in pixels of [0, 1]
Then = Callable[[np.ndarray, np.ndarray], np.ndarray]  # (attacked images, clean ones) -> images


@dataclass(frozen=True)
class Evaluation:
    """What :func:`evaluate` found.

    Attributes:
        table: a row a condition, the clean images first. Classifiers: ``accuracy`` (top class among the true
            ones), ``map`` (multi-label), ``precision``, ``recall``, ``f1`` (macro), ``ece``; segmenters:
            ``dice``, ``miou``. All: ``success``, the share of right answers (of Dice) that the condition
            takes: the success rate of an attack. With intervals also its 95 % interval from ``low`` to
            ``high``, and ``images``, how many it was measured on; for classifiers the 95 % Wilson interval
            of ``accuracy`` too, from ``accuracy_low`` to ``accuracy_high``.
        reliability: condition -> what a reliability diagram shows; empty for segmenters.
        by_square_alone: worst case over attacks -> how many images Square alone finds, see
            :class:`voclab.attacks.worst_case.WorstCase`.
    """

    table: pd.DataFrame
    reliability: dict[str, dict[str, np.ndarray]]
    by_square_alone: dict[str, int] = field(default_factory=dict)

    def joined(self, others: "Evaluation", images: int) -> "Evaluation":
        """Both in one, with the conditions of another that was measured on so many of the images."""
        of = f"{CLEAN}, the {images} attacked"
        table = pd.concat([self.table, others.table.rename(index={CLEAN: of})])
        diagrams = {of if title == CLEAN else title: found for title, found in others.reliability.items()}
        alone = {**self.by_square_alone, **others.by_square_alone}
        return Evaluation(table, {**self.reliability, **diagrams}, alone)


def attacks_at(steps=STEPS) -> Attacks:
    """Title -> (attack, epsilon): FGSM and PGD at bounds in steps of 1/255."""
    found: Attacks = {}
    for e in steps:
        found |= {f"FGSM {e:g}/255": (FGSM(), e / 255), f"PGD {e:g}/255": (PGD(), e / 255)}
    return found


def named_attacks(
    names: Sequence[str], steps: Sequence[float], network: str, seed: int = 0
) -> tuple[Attacks, Attacks, dict[str, dict[str, Then]]]:
    """Attacks of these names at bounds in steps of 1/255.

    Args:
        names: keys of :data:`ATTACKS`, or :data:`GENERATOR`.
        steps: the bounds.
        network: what is under attack, one of :data:`voclab.models.ready.NAMES` if by the generator.
        seed: of the worst case over attacks.

    Returns:
        The attacks that take one gradient an image or less, those that take more, and what else is measured
        of the images that they make, as for :func:`evaluate`.

    Raises:
        VoclabError: the generator was not trained on this network or for such a bound, or its files are
            missing or damaged.
    """
    run = {**ATTACKS, WORST: (ATTACKS[WORST][0], group(seed=seed))}
    if GENERATOR in names:
        ready.require_victim(network)
        if max(steps) > BOUNDS[1]:
            raise VoclabError(
                f"The generator was trained for bounds up to {BOUNDS[1]:g}/255, not {max(steps):g}/255; name"
                " smaller ones, or other attacks."
            )
        run[GENERATOR] = (GENERATOR, Adversary(ready.load_generator(), (network,)))
    quick: Attacks = {}
    slow: Attacks = {}
    for name in names:
        title, attack = run[name]
        (slow if name in _SLOW else quick).update({f"{title} {e:g}/255": (attack, e / 255) for e in steps})
    return quick, slow, {title: then for title, then in _AFTERWARDS.items() if title in quick}


# What the generator's perturbations survive, and how much of their effect one made for another image has.
_AFTERWARDS: dict[str, dict[str, Then]] = {
    f"{GENERATOR} 8/255": {f"{GENERATOR} 8/255, {_JPEG}": lambda attacked, clean: handled(attacked, _JPEG)},
    f"{GENERATOR} 4/255": {f"{GENERATOR} 4/255 of another image": swapped},
}


def evaluate(
    network: Network,
    bench: Bench,
    settings: Mapping[str, Setting] = BATTERY,
    attacks: Attacks | None = None,
    seed: int = 0,
    progress: Callable[[str], None] = lambda line: None,
    *,
    afterwards: Mapping[str, Mapping[str, Then]] | None = None,
    intervals: bool = False,
) -> Evaluation:
    """Measure a network under every condition, on the 8-bit images of ``bench``.

    Args:
        network: classifier or segmenter.
        bench: images with truth.
        settings: title -> perturbation; image k is perturbed with the seed (seed, k).
        attacks: title -> (attack, L∞ epsilon in pixels of [0, 1]); FGSM and PGD at 2 and 8 / 255 by default.
            A group of attacks, for classifiers, gives the rows of its :func:`worst_case`.
        seed: of what is random.
        progress: receives a line a condition, and in a long attack how much time is left.
        afterwards: title of an attack -> title -> what is done to its images, measured as another condition.
        intervals: whether ``success``, and the accuracy of a classifier, get their intervals.
    """
    attacks = attacks_at() if attacks is None else attacks
    afterwards = afterwards or {}
    rows, diagrams, by_square_alone = {}, {}, {}
    titles = [CLEAN, *settings, *attacks]

    def measured(title: str, images: np.ndarray) -> None:
        rows[title], diagram = _row(network, bench, images, intervals)
        if diagram is not None:
            diagrams[title] = diagram

    for number, title in enumerate(titles, start=1):
        if title in attacks:
            attack, epsilon = attacks[title]
            if isinstance(attack, dict):
                found, at = worst_case(bench, network, attack, epsilon, progress), f"{255 * epsilon:g}/255"
                by_square_alone[f"{found.worst} {at}"] = found.by_square_alone
                made = {f"{row} {at}": images for row, images in list(found.images.items())[1:]}
            else:
                told = _now_and_then(progress, title)
                made = {title: bench.attack(attack, network, epsilon, progress=told)[0]}
        elif title in settings:
            images = bench.changed(
                lambda x, k, setting=settings[title]: perturbed(x, setting.name, setting.strength, (seed, k))
            )
            made = {title: images}
        else:
            made = {title: bench.images}
        for row, images in made.items():
            measured(row, images)
        for further, then in afterwards.get(title, {}).items():
            measured(further, then(made[title], bench.images))
        progress(f"{number}/{len(titles)} {title}")
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("condition")
    return Evaluation(table, diagrams, by_square_alone)


def _now_and_then(progress: Callable[[str], None], title: str) -> Callable[[str], None]:
    """Receives lines about a condition, and passes on one in five seconds."""
    last = time.monotonic()

    def told(line: str) -> None:
        nonlocal last
        if (now := time.monotonic()) - last >= 5:
            last = now
            progress(f"{title}: {line}")

    return told


def battery(
    network: Network, bench: Bench, seed: int = 0, progress: Callable[[str], None] = lambda line: None
) -> pd.Series:
    """Accuracy (mean Dice) of a network clean and under each perturbation, without attacks."""
    table = evaluate(network, bench, attacks={}, seed=seed, progress=progress).table
    return table[score_of(network.task)]


def score_of(task: str) -> str:
    """The column of a table of conditions that says how good the answers are."""
    return "dice" if task == "segmentation" else "accuracy"


def standing(network: Network, bench: Bench) -> tuple[Chance, float]:
    """What guessing scores on the images of ``bench``, and where the 95 % interval of the network begins.

    The network is clearly better than chance where ``chance.beaten(low)``; see :class:`Chance`.
    """
    answers = bench.clean(network)
    if answers.counts is not None:
        return Chance.dice(answers.counts[:, 2].sum(0)), dice_low(answers.counts)
    accuracy = bench.effect_of(network, answers)["accuracy"]
    return Chance.accuracy(bench.dataset.labels), accuracy_low(accuracy, len(bench))


def corrupted_images(bench: Bench, name: str, severity: int, seed: int = 0) -> np.ndarray:
    """The images of ``bench`` under one of ImageNet-C's corruptions; image k with the seed (seed, k)."""
    return bench.changed(lambda image, k: corrupted(image, name, severity, (seed, k)))


def error(network: Network, bench: Bench, images: np.ndarray | None = None) -> float:
    """Error rate on the images of ``bench``, or on (n, H, W, 3) uint8 versions of them.

    That of a classifier is the share of images whose top class is not among the true ones; that of a
    segmenter is 1 - Dice.
    """
    answers = bench.clean(network) if images is None else bench.answers(network, images)
    return 1 - bench.effect_of(network, answers)[score_of(network.task)]


def _row(
    network: Network, bench: Bench, images: np.ndarray, intervals: bool = False
) -> tuple[dict[str, float], dict | None]:
    answers = bench.answers(network, images)
    effect = bench.effect_of(network, answers)
    success = {"success": effect["success"]}
    if intervals:
        low, high = (0.0, 0.0) if images is bench.images else bench.interval(network, answers)
        success |= {"low": low, "high": high, "images": len(bench)}
    if network.task == "segmentation":
        return {"dice": effect["dice"], "miou": answers.metrics.mean_iou(), **success}, None
    logits, labels = answers.values, bench.dataset.labels
    calibration = forecasts(labels, logits, network.task)
    if network.task == "multilabel":
        said = calibration[1] >= 0.5
    else:
        said = np.eye(logits.shape[1])[logits.argmax(1)]
    figures = precision_recall_f1(labels, said.astype(np.uint8))
    row = {"accuracy": effect["accuracy"]}
    if intervals:
        low, high = wilson(round(effect["accuracy"] * len(bench)), len(bench))
        row |= {"accuracy_low": low, "accuracy_high": high}
    row |= {"map": effect["map"]} if "map" in effect else {}
    row |= {key: figures[f"{key}_macro"] for key in ("precision", "recall", "f1")}
    row |= {"ece": expected_calibration_error(*calibration), **success}
    return row, reliability(*calibration)


@dataclass(frozen=True)
class Report:
    """An :class:`Evaluation` with what it was measured on, as text, JSON and image.

    ``note`` is a sentence where the network is not clearly better than chance, else empty.
    """

    facts: dict
    evaluation: Evaluation
    corruptions: dict[str, list[float]]
    clean_error: float | None
    note: str = ""

    def as_dict(self) -> dict:
        """Everything as plain values for JSON."""
        table = self.evaluation.table.astype(object)
        table = table.where(table.notna(), None).to_dict("index")  # JSON knows no NaN
        diagrams = {
            condition: {key: np.asarray(values).tolist() for key, values in diagram.items()}
            for condition, diagram in self.evaluation.reliability.items()
        }
        found = {**self.facts, "note": self.note, "conditions": table, "reliability": diagrams}
        if self.evaluation.by_square_alone:
            found |= {"by_square_alone": self.evaluation.by_square_alone}
        if self.corruptions:
            found |= {"corruption_errors": self.corruptions, "clean_error": self.clean_error}
        return found

    def text(self) -> str:
        """Tables for people."""
        lines = [f"{key:9s} {_told(value)}" for key, value in self.facts.items()]
        lines += ["", self.note] if self.note else []
        lines += ["", self.evaluation.table.to_string(float_format="{:.3f}".format)]
        for title, images in self.evaluation.by_square_alone.items():
            lines += ["", f"{title}: {images} found by Square alone, without gradients"]
        if self.corruptions:
            rows = pd.DataFrame.from_dict(self.corruptions, orient="index", columns=SEVERITIES)
            rows = rows.rename_axis("corruption").rename_axis("severity", axis=1)
            lines += ["", f"Errors under corruption (clean {self.clean_error:.3f})"]
            lines += [rows.to_string(float_format="{:.3f}".format)]
        return "\n".join(lines)


def report(
    model: str | Path,
    dataset: Dataset,
    *,
    size: int | None = None,
    images: int | None = None,
    noise: str | None = None,
    level: float | None = None,
    settings: Mapping[str, Setting] = BATTERY,
    attacks: Sequence[str] | None = None,
    epsilons: Sequence[float] = STEPS,
    attacked: int | None = None,
    corruptions: bool = False,
    seed: int = 0,
    progress: Callable[[str], None] = lambda line: None,
) -> Report:
    """Load a model and evaluate it.

    The table is of one view of each image, at ``size``. A network that was measured by several, as its run
    says, is measured so once more: ``all views``.

    Args:
        model: a run's folder or a ``.keras`` file.
        dataset: images with truth.
        size: side of the images, pixels; without it that of the run's training.
        images: at most so many images, spread evenly.
        noise: a single perturbation, by its name or a key of ``voclab.corruptions.NOISES``, instead of
            ``settings`` and of the attacks.
        level: its strength.
        settings: title -> perturbation, as for :func:`evaluate`.
        attacks: names as for :func:`named_attacks`; then there are intervals. FGSM and PGD by default.
        epsilons: bounds of the attacks, steps of 1/255.
        attacked: at most so many of the images, spread evenly, are attacked. Attacks that were named and
            take one gradient an image or less run on all.
        corruptions: whether ImageNet-C's corruptions are.
        seed: of what is random.
        progress: receives lines of text.

    Raises:
        VoclabError: no such model, a model of other classes than the data, no truth, no size, a segmenter for
            the worst case over attacks.
    """
    notes: list[str] = []
    network = open_network(model, dataset, size, progress=notes.append)
    if WORST in (attacks or ()):
        require_classifier(network)
    dataset = dataset.spread(images or 0)
    if network.task == "segmentation" and noise in _TURNING:
        raise VoclabError(
            f"{noise} moves what is in the image, and the masks of {network.name} would stay where they are;"
            " name another perturbation, or a classifier."
        )
    if noise is not None:
        settings, attacks = {f"{noise} {level:g}": Setting(NOISES.get(noise, noise), level)}, ()
    if attacks is None:
        quick, slow, afterwards = {}, attacks_at(epsilons), {}
    else:
        quick, slow, afterwards = named_attacks(attacks, epsilons, network.weights, seed)
    if len(dataset) < 2:
        afterwards = {}  # there is no other image
    bench, few = Bench(dataset, network.size), dataset.spread(attacked or 0)
    conditions = partial(evaluate, network, seed=seed, progress=progress, intervals=bool(attacks))
    if slow and len(few) < len(dataset):
        found = conditions(bench, settings, quick, afterwards=afterwards)
        found = found.joined(conditions(Bench(few, network.size), {}, slow), len(few))
    else:
        found = conditions(bench, settings, quick | slow, afterwards=afterwards)
    facts = {"model": network.weights, "data": f"{dataset.name} {dataset.split}", "images": len(dataset)}
    facts |= {"size": network.size, "task": network.task, "seed": seed}
    facts |= {"classes": " ".join(notes) or "matched by name"}
    shown = network.test_time
    if shown and (shown.sizes, shown.flip) != ((network.size,), False):
        facts["all views"] = all_views(network, dataset, progress)
    errors = {}
    for number, name in enumerate(CORRUPTIONS if corruptions else (), start=1):
        images = (corrupted_images(bench, name, severity, seed) for severity in SEVERITIES)
        errors[name] = [error(network, bench, x) for x in images]
        progress(f"{number}/{len(CORRUPTIONS)} {name}")
    chance, low = standing(network, bench)
    clean_error = error(network, bench) if corruptions else None
    return Report(facts, found, errors, clean_error, chance.note({network.name: low}))


def _told(fact) -> str:
    """A fact of :func:`report` as text."""
    if not isinstance(fact, dict):
        return str(fact)
    figures = [f"{key} {value:.3f}" for key, value in fact.items() if isinstance(value, float)]
    sides = " + ".join(map(str, fact["sizes"]))
    return f"{', '.join(figures)} ({sides} px{', mirrored too' if fact['flip'] else ''})"


def all_views(network: Network, dataset: Dataset, progress: Callable[[str], None]) -> dict:
    """Dice and mIoU, or mAP, of a network that is shown each image as when its run was measured."""
    shown = network.test_time
    progress(f"all views: {', '.join(map(str, shown.sizes))} px{', mirrored' if shown.flip else ''}")
    images = (dataset.image(i) for i in range(len(dataset)))
    if network.task == "segmentation":
        metrics, _ = measure(network.label_maps(images), dataset, boundaries=False)
        found = {"dice": metrics.mean_dice(), "miou": metrics.mean_iou()}
    else:
        logits = np.stack(list(network.all_views(images)))
        found = {"map": mean_average_precision(dataset.labels, logits)}
    return {**found, "sizes": list(shown.sizes), "flip": shown.flip}


def calibration(found: Report) -> tuple[dict[str, dict], dict[str, float]]:
    """Reliability tables and ECEs of the clean images and of the condition that harms calibration most.

    Raises:
        VoclabError: a segmenter has none.
    """
    tables = found.evaluation.reliability
    if not tables:
        raise VoclabError("A reliability diagram is drawn for classifiers; this model is a segmenter.")
    eces = found.evaluation.table["ece"]
    harmed = eces[[not condition.startswith(CLEAN) for condition in eces.index]]
    worst = harmed.idxmax() if len(harmed) else CLEAN
    chosen = dict.fromkeys([CLEAN, worst])
    return {k: tables[k] for k in chosen}, {k: float(eces[k]) for k in chosen}
