"""Notebook 05: classifiers of small images that show one thing each, and what they get together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import softmax

from voclab.data.base import Dataset
from voclab.experiments.common import Profile, Sets
from voclab.experiments.options import asked
from voclab.metrics import expected_calibration_error, reliability, single_label_report
from voclab.metrics.statistics import wilson
from voclab.models.pretrained import Weights
from voclab.training import Run

ENSEMBLE, CHOSEN = "ensemble of all", "ensemble, chosen"


Asked = dict[str, Any]  # options of `voclab train`, see voclab.experiments.options


def small(model: str | None, augmentation: str, epochs: int, learning_rate: float, **others) -> Asked:
    """Options of a classifier of small images: SGD with the weight decay of a published 5e-4."""
    usual = {"optimizer": "sgd", "weight_decay": 5e-3}
    named = {"model": model, "augmentation": augmentation, "epochs": epochs, "learning_rate": learning_rate}
    return usual | named | others


@dataclass(frozen=True)
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
    """The settings of a profile, to be changed with ``dataclasses.replace``."""
    return _SETS.of(profile)


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


def label(name: str, options: Asked) -> str:
    """What people call the classifier of those options."""
    title = _TITLES.get(options["model"], options["model"])
    if name.startswith("transfer"):
        title = f"{title}, transfer" if options["weights"] else f"{title}, random weights"
    return title if options["augmentation"] != "none" else f"{title}, no augmentation"


_TITLES = {
    "small_cnn": "plain CNN",
    "resnet8": "ResNet-8",
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


def probabilities(run: Run, part: str = "test") -> np.ndarray:
    """(n, classes) float64 softmax of the logits that a run kept of ``"test"`` or ``"validation"``."""
    return softmax(run.predictions()[part].astype(np.float64), axis=1)


def ensemble(members: Sequence[np.ndarray]) -> np.ndarray:
    """Mean of the members' probabilities, (n, classes): no weights, so nothing is chosen."""
    return np.mean(members, axis=0)


def chosen_members(answers: Mapping[str, np.ndarray], truth: np.ndarray) -> list[str]:
    """The best k networks, with the k whose average is right most often; of equal ones the fewest.

    Args:
        answers: network -> (n, classes) probabilities on validation images.
        truth: (n,) classes.
    """
    order = sorted(answers, key=lambda name: -(answers[name].argmax(1) == truth).mean())
    right = [
        (ensemble([answers[name] for name in order[:k]]).argmax(1) == truth).mean()
        for k in range(1, len(order) + 1)
    ]
    return order[: int(np.argmax(right)) + 1]


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
