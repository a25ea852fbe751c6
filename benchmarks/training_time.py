"""How the Dice on real images grows with training time: a U-Net from scratch, and on a pretrained encoder.

    python benchmarks/training_time.py VOC FOLDER [FIGURES]

VOC is a folder with a VOCdevkit of VOC 2009; runs go to FOLDER, and a killed one goes on. With FIGURES the
curve and its table are written there, for `voclab gallery`. Every length is a training of its own, so its
learning rate ends at zero. Settings are those of notebook 02 for photographs, but for the number of epochs.
"""

import sys
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from voclab import plotting
from voclab.data import load, test_split
from voclab.data.base import Dataset
from voclab.data.splits import fit_validation
from voclab.experiments import segmentation as study
from voclab.experiments.common import Profile
from voclab.experiments.segmentation import PRETRAINED, SCRATCH
from voclab.metrics.statistics import bootstrap_interval
from voclab.models.pretrained import resolve_weights
from voclab.reporting.page import Page
from voclab.revision import git_revision
from voclab.training import Parts, Run
from voclab.training.experiment import run

EPOCHS = {SCRATCH: (8, 30, 120), PRETRAINED: (1, 3, 9)}
BACKBONE = "efficientnet_lite0"
SEED = 0


def main(voc: str, folder: str, figures: str | None = None) -> None:
    """Train every length, print the table, and draw the curve."""
    train = load("voc2009", voc, "train")
    data = Parts(*fit_validation(train, 0.2, SEED), load("voc2009", voc, test_split("voc2009")))
    planned = {e.name: e for e in study.experiments(*_settings(), SEED)}
    rows, runs = [], {}
    for name, lengths in EPOCHS.items():
        for epochs in lengths:
            experiment = replace(
                planned[name],
                name=f"{name}-{epochs}-epochs",
                recipe=replace(planned[name].recipe, epochs=epochs),
            )
            done = run(experiment, data, Path(folder))
            runs[f"{study.label(name)}, {epochs} epochs"] = done
            counts = done.predictions()["test"]
            low, high = _interval(counts)
            rows.append(
                {
                    "model": study.label(name),
                    "epochs": epochs,
                    "minutes": round(done.metrics["seconds"] / 60, 1),
                    "validation Dice": done.metrics["validation"]["mean_dice"],
                    "test Dice": study.mean_dice(counts),
                    "low": float(low),
                    "high": float(high),
                    "mIoU": done.metrics["test"]["mean_iou"],
                }
            )
            print(pd.DataFrame(rows).round(3).to_string(index=False), flush=True)
    if figures:
        _publish(pd.DataFrame(rows), runs, Path(figures), data.test)


def _interval(counts):
    return bootstrap_interval(lambda index: study.mean_dice(counts[index]), len(counts), 300, SEED)


def _settings():
    return study.settings(Profile("demo", drawn=False)), resolve_weights("imagenet", BACKBONE, BACKBONE)


def curve(table: pd.DataFrame) -> Figure:
    """Test Dice over minutes of training, a line a model."""
    figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
    for model, part in table.groupby("model", sort=False):
        spread = [part["test Dice"] - part["low"], part["high"] - part["test Dice"]]
        axes.errorbar(part["minutes"], part["test Dice"], yerr=spread, marker="o", capsize=3, label=model)
    ticks = [0.3, 1, 3, 10, 30]
    axes.set_xscale("log")
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.set(xlabel="training (minutes, two CPU cores)", ylabel="mean foreground Dice", ylim=(0, 1))
    axes.legend()
    axes.grid(alpha=0.3)
    return figure


def _publish(table: pd.DataFrame, runs: dict[str, Run], folder: Path, test: Dataset) -> None:
    """Curves, classes and confusions as a chapter of the gallery: no image, no mask."""
    images, names = len(test), test.class_names
    page = Page(folder, "Data: PASCAL VOC 2009.")
    about = f"{images} test images; bars: 95 % interval over images. Each point is a training of its own."
    page.figure(
        curve(table),
        "training_time",
        title="Dice over training time",
        caption=about,
        alt="Line chart of the Dice over the minutes of training for both U-Nets",
    )
    page.table(table.set_index("model"), "training_time_table", title="The same in numbers", caption=about)
    page.figure(
        plotting.learning_curves(
            {title: done.history for title, done in runs.items()},
            metric="dice",
            metric_label="mean foreground Dice",
            loss_label="loss",
        ),
        "learning_curves",
        title="Learning curves of every length",
        caption="Scored on one view of each validation image at the training size.",
        alt="Training and validation loss and validation Dice over epochs",
    )
    longest = {
        title: done
        for title, done in runs.items()
        if int(title.split()[-2]) in {max(lengths) for lengths in EPOCHS.values()}
    }
    page.figure(
        plotting.per_class_scores(
            {title: study.dice_by_class([done], "test") for title, done in longest.items()}, names, "Dice"
        ),
        "dice_by_class",
        title="Dice of each class, longest trainings",
        caption=f"{images} test images.",
        alt="Dot plot of the Dice of each class for both U-Nets",
    )
    title, best = list(longest.items())[-1]
    page.figure(
        plotting.pixel_confusion(study.pixel_matrix(best, "test"), names),
        "pixel_confusion",
        title=f"Which label the pixels get ({title})",
        caption="Share of each true label's pixels by predicted label; rows add up to 100 %.",
        alt="Heat map of true against predicted labels of pixels",
    )
    page.close(
        {
            "question": "How does the Dice on real images grow with training time, from scratch and with a "
            "pretrained encoder?",
            "answer": "; ".join(
                f"{row['model']}, {row['minutes']:.1f} minutes: {row['test Dice']:.3f}"
                for _, row in table.iterrows()
            )
            + ".",
            "main_figure": "01_training_time",
            "key_numbers": {
                f"{model}, Dice": f"{row['test Dice']:.3f} ({row['epochs']} epochs, {row['minutes']:.1f} min;"
                f" {images} test images)"
                for model, row in table.groupby("model", sort=False).last().iterrows()
            },
            "data": "PASCAL VOC 2009",
            "dataset": "voc2009",
            "git": git_revision(),
        }
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
