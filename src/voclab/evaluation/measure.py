"""One network on clean, perturbed, corrupted and attacked images: what ``voclab evaluate`` reports."""

import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import keras
import numpy as np
import pandas as pd
from scipy.special import expit, softmax

from voclab.attacks import FGSM, PGD, Attack, Bench, Network
from voclab.corruptions import CORRUPTIONS, NOISES, SEVERITIES, Setting, corrupted, perturbed
from voclab.data.base import Dataset
from voclab.errors import VoclabError
from voclab.files import read_json
from voclab.metrics import expected_calibration_error, precision_recall_f1, reliability
from voclab.models.saved import model_file
from voclab.training import load_model

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


@dataclass(frozen=True)
class Evaluation:
    """What :func:`evaluate` found.

    Attributes:
        table: a row a condition, the clean images first. Classifiers: ``accuracy`` (top class among the true
            ones), ``map`` (multi-label), ``precision``, ``recall``, ``f1`` (macro), ``ece``; segmenters:
            ``dice``, ``miou``. All: ``fooled``, the share of right answers (of Dice) that the condition
            takes, for an attack its success rate.
        reliability: condition -> what a reliability diagram shows; empty for segmenters.
    """

    table: pd.DataFrame
    reliability: dict[str, dict[str, np.ndarray]]


def attacks_at(steps=STEPS) -> dict[str, tuple[Attack, float]]:
    """Title -> (attack, epsilon): FGSM and PGD at bounds in steps of 1/255."""
    found = {}
    for e in steps:
        found |= {f"FGSM {e:g}/255": (FGSM(), e / 255), f"PGD {e:g}/255": (PGD(), e / 255)}
    return found


def evaluate(
    victim: Network,
    bench: Bench,
    settings: Mapping[str, Setting] = BATTERY,
    attacks: Mapping[str, tuple[Attack, float]] | None = None,
    seed: int = 0,
    threshold: float = 0.5,
    progress: Callable[[str], None] | None = None,
) -> Evaluation:
    """Measure a network under every condition, on the 8-bit images of ``bench``.

    Args:
        victim: the network with its task.
        bench: images with truth.
        settings: title -> perturbation; image k is perturbed with the seed (seed, k).
        attacks: title -> (attack, L∞ epsilon in pixels of [0, 1]); FGSM and PGD at 2 and 8 / 255 by default.
        seed: of what is random.
        threshold: probability from which a multi-label class counts as found.
        progress: receives a line a condition.
    """
    attacks = attacks_at() if attacks is None else attacks
    conditions: dict[str, Callable[[], np.ndarray]] = {CLEAN: lambda: bench.images}
    for title, setting in settings.items():
        conditions[title] = lambda setting=setting: _each(
            bench, lambda image, k: perturbed(image, setting.name, setting.strength, (seed, k))
        )
    for title, (attack, epsilon) in attacks.items():
        conditions[title] = lambda attack=attack, epsilon=epsilon: bench.attack(attack, victim, epsilon)[0]
    rows, diagrams = {}, {}
    for number, (title, images) in enumerate(conditions.items(), start=1):
        rows[title], diagram = _row(victim, bench, images(), threshold)
        if diagram is not None:
            diagrams[title] = diagram
        if progress:
            progress(f"{number}/{len(conditions)} {title}")
    return Evaluation(pd.DataFrame.from_dict(rows, orient="index").rename_axis("condition"), diagrams)


def severities(
    victim: Network,
    bench: Bench,
    corruptions=CORRUPTIONS,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> dict[str, list[float]]:
    """Corruption -> error rates at severities 1 to 5, for ``mean_corruption_error``; see :func:`error`."""
    errors = {}
    for number, name in enumerate(corruptions, start=1):
        errors[name] = [
            error(victim, bench, _each(bench, partial(_corrupted, name, s, seed))) for s in SEVERITIES
        ]
        if progress:
            progress(f"{number}/{len(corruptions)} {name}")
    return errors


def _corrupted(name, severity, seed, image, k):
    return corrupted(image, name, severity, (seed, k))


def error(victim: Network, bench: Bench, images: np.ndarray) -> float:
    """Error rate on (n, H, W, 3) uint8 versions of the images of ``bench``.

    That of a classifier is the share of images whose top class is not among the true ones; that of a
    segmenter is 1 - Dice.
    """
    found = bench.effect(victim, images)
    return 1 - found["dice" if victim.task == "segmentation" else "accuracy"]


def _each(bench: Bench, change: Callable[[np.ndarray, int], np.ndarray]) -> np.ndarray:
    return np.stack([change(image, k) for k, image in enumerate(bench.images)])


def _row(victim, bench, images, threshold) -> tuple[dict[str, float], dict | None]:
    answers = bench.answers(victim, images)
    effect = bench.effect_of(victim, answers)
    if victim.task == "segmentation":
        row = {"dice": effect["dice"], "miou": answers.metrics.mean_iou(), "fooled": effect["fooled"]}
        return row, None
    logits, labels = answers.values, bench.dataset.labels
    if victim.task == "multilabel":
        shares = expit(logits, dtype=np.float64)
        said = shares >= threshold
        calibration = labels, shares
    else:
        shares = softmax(logits, axis=1)
        top = logits.argmax(1)
        said = np.eye(logits.shape[1])[top]
        right = labels[np.arange(len(labels)), top]
        # Guo et al. 2017: of a network that gives one answer, that answer's confidence is what counts.
        calibration = right[:, None], shares.max(1, keepdims=True)
    figures = precision_recall_f1(labels, said.astype(np.uint8))
    row = {"accuracy": effect["accuracy"]} | ({"map": effect["map"]} if "map" in effect else {})
    row |= {key: figures[f"{key}_macro"] for key in ("precision", "recall", "f1")}
    row |= {"ece": expected_calibration_error(*calibration), "fooled": effect["fooled"]}
    return row, reliability(*calibration)


@dataclass(frozen=True)
class Report:
    """An :class:`Evaluation` with what it was measured on, as text, JSON and image."""

    facts: dict
    evaluation: Evaluation
    corruptions: dict[str, list[float]]
    clean_error: float | None

    def as_dict(self) -> dict:
        """Everything as plain values for JSON."""
        table = {k: dict(row) for k, row in self.evaluation.table.iterrows()}
        diagrams = {
            condition: {key: np.asarray(values).tolist() for key, values in diagram.items()}
            for condition, diagram in self.evaluation.reliability.items()
        }
        found = {**self.facts, "conditions": table, "reliability": diagrams}
        if self.corruptions:
            found |= {"corruption_errors": self.corruptions, "clean_error": self.clean_error}
        return found

    def text(self) -> str:
        """Tables for people."""
        lines = [f"{key:9s} {value}" for key, value in self.facts.items()]
        lines += ["", self.evaluation.table.to_string(float_format="{:.3f}".format)]
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
    attacks: bool = True,
    corruptions: bool = False,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> Report:
    """Load a model and evaluate it.

    Args:
        model: a run's folder or a ``.keras`` file.
        dataset: images with truth.
        size: side of the images, pixels; without it that of the run's training.
        images: at most so many images, spread evenly.
        noise: a single perturbation, by its name or a key of ``voclab.corruptions.NOISES``, instead of
            :data:`BATTERY` and of the attacks.
        level: its strength.
        attacks: whether FGSM and PGD are run.
        corruptions: whether ImageNet-C's corruptions are.
        seed: of what is random.
        progress: receives lines of text.

    Raises:
        VoclabError: no such model, a model of other classes than the data, no truth, no size.
    """
    notes: list[str] = []
    path, network, size = opened(model, dataset, size, notes.append)
    maps = len(network.output_shape) == 4
    dataset = dataset.spread(images or 0)
    settings = BATTERY
    if noise is not None:
        settings, attacks = {f"{noise} {level:g}": Setting(NOISES.get(noise, noise), level)}, False
    victim = Network(network, "segmentation" if maps else dataset.task, path.parent.name)
    bench = Bench(dataset, size)
    found = evaluate(victim, bench, settings, None if attacks else {}, seed, progress=progress)
    facts = {"model": str(path), "data": f"{dataset.name} {dataset.split}", "images": len(dataset)}
    facts |= {"size": size, "task": victim.task, "seed": seed}
    facts |= {"classes": " ".join(notes) or "matched by name"}
    errors = severities(victim, bench, seed=seed, progress=progress) if corruptions else {}
    return Report(facts, found, errors, error(victim, bench, bench.images) if corruptions else None)


def opened(
    model: str | Path,
    dataset: Dataset,
    size: int | None = None,
    progress: Callable[[str], None] | None = None,
) -> tuple[Path, keras.Model, int]:
    """A model that fits a data set, with the side of its images in pixels.

    Args:
        model: a run's folder or a ``.keras`` file.
        dataset: images with truth; the outputs of the model come in the order of its classes.
        size: side of the images, pixels; without it that of the run's training.
        progress: receives what :func:`matched` says.

    Raises:
        VoclabError: no such model, a model of another task or other classes than the data, no truth, no size.
    """
    path, config = located(Path(model))
    network = load_model(path)
    size = size or trained_size(config)
    if size is None:
        raise VoclabError(f"{path} does not say at what size it was trained; add --size, in pixels.")
    dataset.require_truth()
    return path, matched(network, config, dataset, path, progress), size


def matched(
    network: keras.Model,
    config: dict,
    dataset: Dataset,
    path: str | Path,
    progress: Callable[[str], None] | None = None,
) -> keras.Model:
    """A model whose outputs are the classes of a data set in that order; it shares its layers with the given.

    Args:
        network: gives (B, classes) logits, or (B, H, W, classes + 1) with the background first.
        config: of its run, which names its classes and its task; empty where that is not known.
        dataset: has the classes.
        path: of the model, for messages.
        progress: receives a sentence where classes are put in another order or only the order is trusted.

    Raises:
        VoclabError: another task, or other classes; the first that differs is named.
    """
    shape, ours = network.output_shape, dataset.class_names
    maps = isinstance(shape, tuple) and len(shape) == 4
    if not isinstance(shape, tuple) or len(shape) not in (2, 4):
        raise VoclabError(f"{path} is neither a classifier nor a segmenter; name one of their runs.")
    if maps and not dataset.has_masks:
        raise VoclabError(f"{path} is a segmenter, and {dataset.name} has no masks; name other data.")
    task, theirs = recorded(config, "task"), recorded(config, "class_names")
    if not maps and task in _PER_IMAGE and task != dataset.task:
        raise VoclabError(
            f"{path} was trained to give {_PER_IMAGE[task]}, and images of {dataset.name} have"
            f" {_PER_IMAGE[dataset.task]}; name data of its kind."
        )
    tell, count = progress or (lambda line: None), shape[-1] - maps
    if count != len(ours):
        raise VoclabError(
            f"{path} tells {count} classes apart, {dataset.name} has {len(ours)}; name the data it was"
            " trained on."
        )
    if theirs is None:
        tell(f"{path} does not name its classes: they are taken to be those of {dataset.name}, in its order.")
        return network
    if not isinstance(theirs, list | tuple) or len(theirs) != count:
        many = f"{len(theirs)} classes" if isinstance(theirs, list | tuple) else "no list of classes"
        raise VoclabError(
            f"The config.json of {path} names {many}, and the model tells {count} apart; keep a run's files"
            " together."
        )
    # One letter with an accent is two code points on one system and one on another.
    theirs, ours = ([unicodedata.normalize("NFC", str(name)) for name in names] for names in (theirs, ours))
    if theirs == ours:
        return network
    for names, others, owner, other in (
        (theirs, ours, path, dataset.name),
        (ours, theirs, dataset.name, path),
    ):
        for name in names:
            if names.count(name) != others.count(name):
                raise VoclabError(
                    f"{owner} has the class {name}, which {other} has not; name the data that it was trained"
                    " on, or a model of these classes."
                )
    tell(f"{path} has the classes of {dataset.name} in another order; they are matched by name.")
    order = [0] * maps + [maps + theirs.index(name) for name in ours]
    return keras.Model(network.inputs, keras.ops.take(network.outputs[0], order, axis=-1), name=network.name)


_PER_IMAGE = {"multiclass": "one class each", "multilabel": "any number of classes"}


def located(model: Path) -> tuple[Path, dict]:
    """(the .keras file, the configuration of its run, empty without one).

    Raises:
        VoclabError: there is no such file.
    """
    path = model_file(model)
    config = path.parent / "config.json"
    return path, read_json(config, dict) if config.is_file() else {}


def recorded(config: dict, key: str):
    """An entry of a run's configuration, wherever it keeps it, the outermost of several; ``None`` without."""
    layer = [config]
    while layer:
        for part in layer:
            if key in part:
                return part[key]
        layer = [value for part in layer for value in part.values() if isinstance(value, dict)]
    return None


def trained_size(config: dict) -> int | None:
    """The side of a run's training images, wherever its configuration keeps the recipe."""
    recipe = recorded(config, "recipe")
    size = recipe.get("size") if isinstance(recipe, dict) else None
    return size if isinstance(size, int) and size > 0 else None


def calibration(found: Report) -> tuple[dict[str, dict], dict[str, float]]:
    """Reliability tables and ECEs of the clean images and of the condition that harms calibration most.

    Raises:
        VoclabError: a segmenter has none.
    """
    tables = found.evaluation.reliability
    if not tables:
        raise VoclabError("A reliability diagram is drawn for classifiers; this model is a segmenter.")
    eces = found.evaluation.table["ece"]
    worst = eces.drop(CLEAN).idxmax() if len(eces) > 1 else CLEAN
    chosen = dict.fromkeys([CLEAN, worst])
    return {k: tables[k] for k in chosen}, {k: float(eces[k]) for k in chosen}
