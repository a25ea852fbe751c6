"""Notebook 05: classifiers of small images that show one thing each, and what they get together."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import softmax

from voclab.data.base import Dataset
from voclab.experiments import averages
from voclab.experiments.averages import ensemble
from voclab.experiments.common import Profile, Sets
from voclab.experiments.options import asked
from voclab.metrics import (
    Chance,
    accuracy_low,
    confusion_matrix,
    expected_calibration_error,
    most_confused,
    reliability,
    single_label_report,
)
from voclab.metrics.statistics import bootstrap_interval, wilson
from voclab.models.pretrained import Weights
from voclab.text import markdown
from voclab.training import Run

ENSEMBLE, CHOSEN = "ensemble of all", "ensemble, chosen"


Asked = dict[str, Any]  # options of `voclab train`, see voclab.experiments.options


def small(model: str | None, augmentation: str, epochs: int, learning_rate: float, **others) -> Asked:
    """Options of a classifier of small images: SGD with the weight decay of a published 5e-4."""
    usual = {"optimizer": "sgd", "weight_decay": 5e-3}
    named = {"model": model, "augmentation": augmentation, "epochs": epochs, "learning_rate": learning_rate}
    return usual | named | others


@dataclass(slots=True)
class Settings:
    """What notebook 05 trains.

    Attributes:
        trainings: name -> options of `voclab train`, in the order of the table; without a model the one that
            pretrained weights are there for.
    """

    trainings: dict[str, Asked]


_ADAM: Asked = {"optimizer": "adam"}
_FULL = Settings(
    {
        "cnn": small("small_cnn", "none", 20, 1e-3, batch_size=128, **_ADAM),
        "cnn-augmented": small("small_cnn", "standard", 30, 1e-3, batch_size=128, **_ADAM),
        "resnet18": small("resnet18", "advanced", 30, 0.1, batch_size=128),
        "vgg": small("vgg", "standard", 30, 0.05, mixup=0.2, batch_size=128),
        "densenet": small("densenet", "standard", 30, 0.1, batch_size=128),
        "transfer": small(None, "standard", 10, 5e-4, batch_size=128, **_ADAM),
    }
)
_SETS = Sets(
    smoke=Settings(
        {
            "cnn": small("small_cnn", "none", 1, 1e-3, width=4, **_ADAM),
            "cnn-augmented": small("small_cnn", "standard", 1, 1e-3, width=4, **_ADAM),
            "vgg": small("vgg", "standard", 1, 0.05, width=2, mixup=0.2),
            "transfer": small(None, "standard", 1, 1e-3, **_ADAM),
        }
    ),
    demo=(
        Settings(
            {
                "cnn": small("small_cnn", "none", 12, 1e-3, **_ADAM),
                "cnn-augmented": small("small_cnn", "standard", 12, 1e-3, **_ADAM),
                "resnet8": small("resnet8", "standard", 12, 0.1),
                "vgg": small("vgg", "standard", 14, 0.05, width=16),
                "transfer": small(None, "standard", 6, 1e-3, **_ADAM),
            }
        ),
        # On CIFAR-10's 5,085 images or as many of the user's own, each within half an hour on two cores;
        # docs/decisions.md says how the recipes were found.
        Settings(
            {
                "cnn": small("small_cnn", "none", 30, 1e-3, **_ADAM),
                "cnn-augmented": small("small_cnn", "standard", 40, 1e-3, **_ADAM),
                "resnet8": small("resnet8", "advanced", 40, 0.1),
                "vgg": small("vgg", "standard", 60, 0.05, width=32, mixup=0.2),
                "transfer": small(None, "standard", 12, 5e-4, **_ADAM),
            }
        ),
    ),
    full=(_FULL, _FULL),
)


def settings(profile: Profile) -> Settings:
    """The settings of a profile: a copy, to be changed as one likes."""
    return deepcopy(_SETS.of(profile))


def trainings(
    settings: Settings, data: Path, weights: Weights, seed: int, validation: float
) -> dict[str, Asked]:
    """Name -> everything that is asked for; the transfer model on the backbone that ``weights`` are for.

    Args:
        settings: what is trained.
        data: folder of the images.
        weights: of the transfer model.
        seed: of everything.
        validation: share of the training images kept for every choice.
    """
    common = {"dataset": str(data), "validation": validation, "seed": seed}
    transfer = {"model": weights.backbone, "weights": weights.value}
    if weights.backbone == "cnn":
        transfer["model"] = "residual_cnn"
    return {
        name: asked(options | (transfer if options["model"] is None else {}) | common)
        for name, options in settings.trainings.items()
    }


def settings_table(trainings: Mapping[str, Asked]) -> pd.DataFrame:
    """What is trained: a row a run of :func:`trainings`, with what tells the runs apart."""
    columns = {
        "model": "network",
        "width": "width",
        "augmentation": "augmentation",
        "mixup": "mixup",
        "optimizer": "optimizer",
        "learning_rate": "learning rate",
        "weight_decay": "weight decay",
        "batch_size": "batch size",
        "epochs": "epochs",
        "seed": "seed",
    }
    rows = {
        name: {title: _cell(asked.get(key)) for key, title in columns.items()}
        for name, asked in trainings.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("run")


def _cell(value) -> str:
    return "–" if value is None else value if isinstance(value, str) else f"{value:g}"


def label(name: str, options: Asked) -> str:
    """What people call the classifier of those options."""
    title = _TITLES.get(options["model"], options["model"])
    if name.startswith("transfer"):
        title = f"{title}, transfer" if options["weights"] else f"{title}, random weights"
    return title if options["augmentation"] != "none" else f"{title}, no augmentation"


_TITLES = {
    "small_cnn": "plain CNN",
    "resnet8": "ResNet-8",
    "resnet10": "ResNet-10",
    "resnet20": "ResNet-20",
    "resnet18": "ResNet-18",
    "vgg": "VGG-11",
    "densenet": "DenseNet-BC",
    "residual_cnn": "residual CNN",
    "mobilenet_v2": "MobileNetV2",
    "efficientnet_b0": "EfficientNetB0",
    "efficientnet_v2_b0": "EfficientNetV2B0",
    "efficientnet_v2_s": "EfficientNetV2S",
}


def diagram(backbone: str) -> dict[str, list[tuple[str, bool]]]:
    """The kinds of networks for ``plotting.block_diagram``: name -> (box, whether it is trained)."""
    image, end = ("32 × 32", False), [("average", False), ("linear", True)]
    convolutions = {
        "plain CNN": ["conv", "pool, conv", "pool, conv"],
        "VGG": ["conv + BN", "pool, conv\n+ BN", "3 × (pool,\n2 conv + BN)"],
        "ResNet": ["conv + BN", "blocks of 2\nconv + sum", "2 or 3 more\nstages, /2"],
    }
    found = {name: [image, *((box, True) for box in boxes), *end] for name, boxes in convolutions.items()}
    early, late = (f"{backbone},\nearly stages", True), ("late stages", True)
    pooled = [("feature map", False), ("average +\nmaximum", False), ("linear", True)]
    return found | {"transfer": [("enlarged", False), early, late, *pooled]}


def probabilities(run: Run, part: str = "test") -> np.ndarray:
    """(n, classes) float64 softmax of the logits that a run kept of ``"test"`` or ``"validation"``."""
    return softmax(run.predictions()[part].astype(np.float64), axis=1)


def chosen_members(answers: Mapping[str, np.ndarray], truth: np.ndarray) -> list[str]:
    """:func:`averages.chosen_members`, those that are right most often; ``truth`` are (n,) classes."""
    return averages.chosen_members(answers, lambda shares: (shares.argmax(1) == truth).mean())


def results_table(
    runs: Mapping[str, Run], titles: Mapping[str, str], answers: Mapping[str, np.ndarray], scored: Dataset
) -> pd.DataFrame:
    """One row a classifier and one an ensemble, figures of the test images.

    Args:
        runs: name -> complete run.
        titles: name -> what people call it.
        answers: name -> (n, classes) probabilities, those of ensembles among them.
        scored: the test images.
    """
    truth, rows = scored.labels.argmax(1), {}
    for name, shares in answers.items():
        found = single_label_report(truth, shares.argmax(1), shares.shape[1])
        low, high = wilson(round(found["accuracy"] * len(truth)), len(truth))
        row = {"accuracy": found["accuracy"], "95 % interval": f"{low:.3f}–{high:.3f}"}
        row |= {key: found[f"{key}_macro"] for key in ("precision", "recall", "f1")}
        row |= {"ECE": calibration_error(truth, shares)}
        row |= {"validation": float("nan"), "epochs": "–", "training (s)": "–", "parameters": "–"}
        if name in runs:
            metrics = runs[name].metrics
            row |= {
                "validation": metrics["validation"]["accuracy"],
                "epochs": str(runs[name].history[-1]["epoch"]),
                "training (s)": str(round(metrics["seconds"])),
                "parameters": f"{metrics['parameters']:,}",
            }
        rows[titles.get(name, name)] = row
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("classifier").rename(columns={"f1": "F1"})


def calibration_error(truth: np.ndarray, shares: np.ndarray) -> float:
    """ECE of the top class's probability (Guo et al. 2017)."""
    return expected_calibration_error(*_top(truth, shares))


def calibration(truth: np.ndarray, shares: np.ndarray) -> dict[str, np.ndarray]:
    """What a reliability diagram shows of the top class's probability."""
    return reliability(*_top(truth, shares))


def _top(truth, shares):
    return (shares.argmax(1) == truth)[:, None].astype(np.uint8), shares.max(1, keepdims=True)


def per_class_table(truth: np.ndarray, predicted: np.ndarray, names: Sequence[str]) -> pd.DataFrame:
    """Precision, recall, F1 and number of images of each class."""
    found = single_label_report(truth, predicted, len(names))
    table = {key: found[key] for key in ("precision", "recall", "f1")}
    table["images"] = found["support"]
    return pd.DataFrame(table, index=pd.Index(names, name="class")).rename(columns={"f1": "F1"})


def surest_mistakes(truth: np.ndarray, shares: np.ndarray, n: int) -> list[int]:
    """Indices of at most ``n`` wrong answers, those given with the highest probability first."""
    wrong = np.flatnonzero(shares.argmax(1) != truth)
    return [int(i) for i in wrong[np.argsort(-shares.max(1)[wrong], kind="stable")][:n]]


def agreement(answers: Mapping[str, np.ndarray], truth: np.ndarray) -> dict[str, float]:
    """How the members' mistakes lie to each other.

    Args:
        answers: member -> (n, classes) probabilities.
        truth: (n,) classes.

    Returns:
        Shares of images: ``all`` members right, ``none``, and ``some``, where an ensemble can win or lose.
    """
    right = np.stack([shares.argmax(1) == truth for shares in answers.values()])
    every, none = float(right.all(0).mean()), float((~right).all(0).mean())
    return {"all": every, "some": 1 - every - none, "none": none}


def conclusion(
    runs: Mapping[str, Run], titles: Mapping[str, str], members: Sequence[str], scored: Dataset, images: int
) -> str:
    """What notebook 05 finds, in Markdown; networks at chance are left out of every comparison.

    Args:
        runs: name -> complete run.
        titles: name -> what people call it.
        members: of the chosen ensemble.
        scored: the test images.
        images: number of images that the networks were trained on.
    """
    truth, chance = scored.labels.argmax(1), Chance.accuracy(scored.labels)
    answers = {name: probabilities(run) for name, run in runs.items()}
    shares = {name: float((found.argmax(1) == truth).mean()) for name, found in answers.items()}
    lows = {titles[name]: accuracy_low(share, len(truth)) for name, share in shares.items()}
    good = [name for name in runs if chance.beaten(lows[titles[name]])]
    parts, note = [], chance.note(lows)
    # The order is that of the validation images, on which the choice was made.
    order = sorted(good, key=lambda name: -runs[name].metrics["validation"]["accuracy"])
    scratch = [name for name in order if not name.startswith("transfer")]
    if scratch:
        reached = "; ".join(f"{titles[name]} {shares[name]:.1%}" for name in scratch)
        text = f"**Which network?** From scratch on {images} images: {reached}."
        if len(scratch) > 1:
            text += f" {difference(scratch[0], scratch[1], titles, answers, truth)}"
        if {"cnn", "cnn-augmented"} <= set(good):
            text += f" Augmentation: {difference('cnn-augmented', 'cnn', titles, answers, truth)}"
        parts.append(text)
    for name in (name for name in order if name.startswith("transfer")):
        text = f"**What does pretraining contribute?** {titles[name]} reaches {shares[name]:.1%}."
        if scratch:
            text += f" {difference(name, scratch[0], titles, answers, truth)}"
        parts.append(text)
    if order:
        names = scored.class_names
        matrix = confusion_matrix(truth, answers[order[0]].argmax(1), len(names))
        wrong = "; ".join(
            f"*{markdown(c.truth)}* predicted as *{markdown(c.predicted)}* ({c.count} images, {c.share:.0%})"
            for c in most_confused(matrix, names, 3)
        )
        parts.append(f"**Which classes are confused?** The commonest errors of {titles[order[0]]}: {wrong}.")
        parts.append(_together(order[0], members, titles, answers, truth))
    return "\n\n".join([*parts, note] if note else parts)


def difference(
    one: str, other: str, titles: Mapping[str, str], answers: Mapping[str, np.ndarray], truth: np.ndarray
) -> str:
    """How much more often one network is right than another, in a sentence, and whether that is decided.

    The interval is that of a paired bootstrap over the test images.
    """
    gap = (answers[one].argmax(1) == truth).astype(float) - (answers[other].argmax(1) == truth)
    low, high = bootstrap_interval(lambda drawn: gap[drawn].mean(), len(gap), 2000)
    text = f"{titles.get(one, one)} against {titles.get(other, other)}: {100 * gap.mean():+.1f} points"
    text += f" (95 % interval {100 * low:+.1f} to {100 * high:+.1f}"
    return text + (")." if low > 0 or high < 0 else "), which does not decide between them.")


def _together(best: str, members: Sequence[str], titles, answers, truth) -> str:
    title = "**Does an ensemble help?** "
    if list(members) == [best]:
        return (
            f"{title}On validation images no average of several networks was right more often than"
            f" {titles[best]} alone, so the chosen ensemble is that network."
        )
    both = {CHOSEN: ensemble([answers[name] for name in members]), best: answers[best]}
    alike = agreement({name: answers[name] for name in members}, truth)
    return (
        f"{title}{difference(CHOSEN, best, titles, both, truth)} All its members are right on"
        f" {alike['all']:.0%} of the images and none on {alike['none']:.0%}: only on the rest can an average"
        " change anything."
    )
