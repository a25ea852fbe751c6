"""How far to trust the probabilities of a network: temperature scaling and conformal sets."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from scipy.special import softmax

from voclab.attacks import Bench
from voclab.data.base import VOID, Dataset
from voclab.data.images import eight_bit
from voclab.data.splits import fit_validation
from voclab.errors import VoclabError
from voclab.evaluation.conditions import CLEAN, corrupted_images
from voclab.files import read_json
from voclab.metrics import (
    conformal,
    expected_calibration_error,
    fit_temperature,
    forecasts,
    negative_log_likelihood,
    probabilities,
    reliability,
)
from voclab.metrics.statistics import bootstrap_interval
from voclab.models.network import Network
from voclab.models.saved import model_file
from voclab.training.identity import ASKED, data_digest

SEVERITY = 3
SHIFTS = ("gaussian_noise", "defocus_blur", "fog", "jpeg_compression")  # one of each family of ImageNet-C
PROMISES = (0.8, 0.9, 0.95)
_PIXELS = 400  # of an image that temperature, ECE and NLL of a segmenter come from: its neighbours are alike
_SAMPLES = 1000  # of the bootstrap


@dataclass(frozen=True)
class Uncertainty:
    """What :func:`measure` found.

    Attributes:
        facts: model, data, task, size, seed, and what calibrated it.
        temperature: fitted on the calibration images.
        calibration: a row a condition; columns ``ece`` and ``nll``, and with the temperature ``ece scaled``
            and ``nll scaled``; ``gain``, by how much it lowers the NLL of an image, with its 95 % interval
            from ``low`` to ``high`` over images.
        reliability: of the clean test images, by ``"before"`` and ``"after"`` temperature scaling.
        promises: a row a condition and promised recall, with columns ``condition``, ``promised``,
            ``threshold``, ``recall`` with its 95 % interval from ``low`` to ``high`` over images, and
            ``size``: how many classes are named, of a segmenter the share of the valid pixels of an image.
    """

    facts: dict
    temperature: float
    calibration: pd.DataFrame
    reliability: dict[str, dict[str, np.ndarray]]
    promises: pd.DataFrame

    def as_dict(self) -> dict:
        """Everything as plain values for JSON."""
        calibration, promises = (
            table.astype(object).where(table.notna() & (table != -np.inf), None)  # JSON knows neither
            for table in (self.calibration, self.promises)
        )
        return {
            "facts": self.facts,
            "temperature": self.temperature,
            "calibration": calibration.to_dict("index"),
            "promises": promises.to_dict("records"),
        }


@dataclass(frozen=True)
class _Answers:
    """An entry an image: labels and logits (1 or m pixels, classes); scores, and those of what is there."""

    labels: list[np.ndarray]
    logits: list[np.ndarray]
    scores: list[np.ndarray]
    true_scores: list[np.ndarray]

    @property
    def together(self) -> tuple[np.ndarray, np.ndarray]:
        """Labels and logits of all."""
        return np.concatenate(self.labels), np.concatenate(self.logits)


def calibration_images(
    model: str | Path,
    test: Dataset,
    training: Callable[[], Dataset],
    share: float | None = None,
    seed: int = 0,
) -> tuple[Dataset, Dataset, str]:
    """Images to calibrate a network on, those to measure it on, and a sentence that says which they are.

    A run of ``voclab train`` is calibrated on the images that its epochs were chosen on and measured on the
    whole test set. Any other network may have seen all training images; then, or with a ``share``, a random
    part of the test images calibrates it and the rest is measured.

    Args:
        model: as for :func:`voclab.evaluation.open_network`.
        test: the test images.
        training: gives the training images.
        share: of the test images that calibrates; 0.5 where they must be divided and nothing else is said.
        seed: of the division.

    Raises:
        VoclabError: one part would be empty, the data is not that of the run, or the images to measure on are
            training images.
    """
    config = model_file(model).parent / "config.json"
    config = read_json(config, dict) if config.is_file() else {}
    asked = config.get(ASKED, {})
    if share is None and "validation" in asked:
        _, validation = fit_validation(training(), asked["validation"], asked["seed"])
        _require_same(config, validation, test)
        told = f"Calibrated on the {len(validation)} training images that the run chose its epoch on."
        return validation, test, told
    why = ", since the network may have seen all training images" if share is None else ""
    share = 0.5 if share is None else share
    count = round(share * len(test))
    if not 0 < count < len(test):
        raise VoclabError(
            f"A calibration share of {share:g} of {len(test)} images leaves one part empty; name more images"
            " or another share."
        )
    # Not stratified: the promise needs parts that differ by chance only.
    order = np.random.default_rng(seed).permutation(len(test))
    calibrating, measured = (np.sort(part) for part in (order[:count], order[count:]))
    told = (
        f"Calibrated on {count} of {len(test)} images ({test.split}), drawn by the seed, and measured on the"
        f" other {len(test) - count}{why}."
    )
    return test.subset(calibrating), test.subset(measured), told


def _require_same(config: dict, validation: Dataset, test: Dataset) -> None:
    """Refuse other images than those that the run chose its epoch on, or test images among them."""
    masks = config.get("task") == "segmentation"
    digest, known = data_digest(validation, masks=masks)[validation.split], config.get("data", {})
    if digest not in known.values():
        raise VoclabError(
            f"{validation.name} is not the data that the run was trained on, so its validation images are not"
            " known; name that data, or --calibration-share 0.5, which divides the test images."
        )
    if set(validation.ids) & set(test.ids):
        raise VoclabError(
            f"The images of {test.split} are training images of the run; measure on another split, such as"
            " test or val."
        )


def measure(
    network: Network,
    calibration: Dataset,
    test: Dataset,
    corruptions: Sequence[str] = SHIFTS,
    *,
    severity: int = SEVERITY,
    promised: Sequence[float] = PROMISES,
    seed: int = 0,
    progress: Callable[[str], None] = lambda line: None,
) -> Uncertainty:
    """Calibrate a network on clean images; measure it on others, clean and corrupted.

    Each image is seen once, at ``network.size``. A classifier names classes, by their probabilities; a
    segmenter names foreground pixels, by one minus the probability of the background, at the image's own
    size. These probabilities are not scaled: a temperature that was fitted on the calibration images would
    make these differ from the test images, and the promise needs images that are alike.

    Args:
        network: classifier or segmenter, whose classes are those of the data.
        calibration: images with truth, seen by no training.
        test: images with truth, none of them in ``calibration``.
        corruptions: of ImageNet-C; test image k is corrupted with the seed (seed, k).
        severity: 1 to 5.
        promised: shares of what is there that conformal sets are to hold.
        seed: of what is random.
        progress: receives a line a condition.
    """
    progress(f"calibration on {len(calibration)} images")
    known = _answers(network, bench := Bench(calibration, network.size), bench.images, seed)
    temperature = fit_temperature(*known.together, network.task)
    thresholds = {share: conformal.threshold(known.true_scores, share) for share in promised}
    bench = Bench(test, network.size)
    rows: dict[str, dict[str, float]] = {}
    promises, tables = [], {}
    for condition in (CLEAN, *corruptions):
        progress(f"{condition} test images")
        clean = condition == CLEAN
        images = bench.images if clean else corrupted_images(bench, condition, severity, seed)
        found = _answers(network, bench, images, seed)
        rows[condition] = _gain(found, temperature, network.task, seed)
        for suffix, t in (("", 1.0), (" scaled", temperature)):
            outcome = forecasts(*found.together, network.task, t)
            rows[condition] |= {
                f"ece{suffix}": expected_calibration_error(*outcome),
                f"nll{suffix}": negative_log_likelihood(*found.together, network.task, t),
            }
            if clean:
                tables["after" if suffix else "before"] = reliability(*outcome)
        for share, threshold in thresholds.items():
            row = {"condition": condition, "promised": share, "threshold": threshold}
            promises.append(row | _kept(found, threshold, network.task, seed))
    facts = {"model": network.weights, "data": f"{test.name} {test.split}", "task": network.task}
    facts |= {"size": network.size, "seed": seed, "severity": severity}
    facts |= {"calibration images": len(calibration), "images": len(test), "classes": len(test.class_names)}
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("condition")
    return Uncertainty(facts, temperature, table, tables, pd.DataFrame(promises))


def _gain(found: _Answers, temperature: float, task: str, seed: int) -> dict[str, float]:
    pairs = zip(found.labels, found.logits)
    likelihoods = [
        [negative_log_likelihood(*pair, task, t) for t in (1.0, temperature)]
        for pair in pairs
        if len(pair[0])
    ]
    gains = -np.diff(likelihoods)[:, 0]
    low, high = bootstrap_interval(lambda drawn: gains[drawn].mean(), len(gains), _SAMPLES, seed)
    return {"gain": float(gains.mean()), "low": float(low), "high": float(high)}


def _kept(found: _Answers, threshold: float, task: str, seed: int) -> dict[str, float]:
    """The recall that a threshold achieves, with its interval, and how much it names."""
    recalls = conformal.recalls(found.true_scores, threshold)
    recalls = recalls[~np.isnan(recalls)]
    low, high = bootstrap_interval(lambda drawn: recalls[drawn].mean(), len(recalls), _SAMPLES, seed)
    sizes = conformal.sizes(found.scores, threshold)
    if task == "segmentation":
        sizes = sizes / np.maximum(1, [len(scores) for scores in found.scores])
    mean = float(recalls.mean()) if len(recalls) else np.nan
    return {"recall": mean, "low": float(low), "high": float(high), "size": float(sizes.mean())}


def _answers(network: Network, bench: Bench, images: np.ndarray, seed: int) -> _Answers:
    dataset = bench.dataset
    if network.task != "segmentation":
        logits, labels = bench.answers(network, images).values, dataset.labels
        scores = probabilities(logits, network.task)
        true_scores = conformal.of_what_is_there(labels, scores)
        return _Answers(list(labels[:, None]), list(logits[:, None]), list(scores), true_scores)
    labels, logits, scores, true_scores = [], [], [], []
    for start in range(0, len(images), 8):
        for i, maps in enumerate(network.logits(eight_bit(images[start : start + 8])), start):
            truth = dataset.mask(i)
            large = cv2.resize(maps, truth.shape[::-1], interpolation=cv2.INTER_LINEAR)[truth != VOID]
            truth = truth[truth != VOID]
            foreground = 1 - softmax(large, axis=-1)[:, 0]
            scores.append(foreground)
            true_scores.append(foreground[truth > 0])
            few = np.random.default_rng((seed, i)).permutation(len(truth))[:_PIXELS]
            labels.append(np.eye(large.shape[1], dtype=np.uint8)[truth[few]])
            logits.append(large[few])
    return _Answers(labels, logits, scores, true_scores)
