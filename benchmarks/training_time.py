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

from voclab.data import load, test_split
from voclab.data.splits import fit_validation
from voclab.experiments import segmentation as study
from voclab.experiments.common import Profile
from voclab.experiments.segmentation import PRETRAINED, SCRATCH
from voclab.metrics.statistics import bootstrap_interval
from voclab.models.pretrained import resolve_weights
from voclab.reporting.page import Page
from voclab.revision import git_revision
from voclab.training import Parts
from voclab.training.experiment import run

EPOCHS = {SCRATCH: (8, 30, 120), PRETRAINED: (1, 3, 9)}
BACKBONE = "efficientnet_lite0"
SEED = 0


def main(voc: str, folder: str, figures: str | None = None) -> None:
    """Train every length, print the table, and draw the curve."""
    train = load("voc2009", voc, "train")
    data = Parts(*fit_validation(train, 0.2, SEED), load("voc2009", voc, test_split("voc2009")))
    planned = {e.name: e for e in study.experiments(*_settings(), SEED)}
    rows = []
    for name, lengths in EPOCHS.items():
        for epochs in lengths:
            experiment = replace(
                planned[name],
                name=f"{name}-{epochs}-epochs",
                recipe=replace(planned[name].recipe, epochs=epochs),
            )
            done = run(experiment, data, Path(folder))
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
            print(pd.DataFrame(rows).round(3).to_markdown(index=False), flush=True)
    if figures:
        _publish(pd.DataFrame(rows), Path(figures), len(data.test))


def _interval(counts):
    return bootstrap_interval(lambda index: study.mean_dice(counts[index]), len(counts), 300, SEED)


def _settings():
    return study.settings(Profile("demo", drawn=False)), resolve_weights("imagenet", BACKBONE, BACKBONE)


def _publish(table: pd.DataFrame, folder: Path, images: int) -> None:
    """The curve and the table as a chapter of the gallery."""
    page = Page(folder, "Data: PASCAL VOC 2009.")
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for model, part in table.groupby("model", sort=False):
        spread = [part["test Dice"] - part["low"], part["high"] - part["test Dice"]]
        axes.errorbar(part["minutes"], part["test Dice"], yerr=spread, marker="o", capsize=3, label=model)
    axes.set(
        xscale="log", xlabel="training (minutes, two CPU cores)", ylabel="mean foreground Dice", ylim=(0, 1)
    )
    axes.set_title("Dice over training time: from scratch and on a pretrained encoder")
    axes.legend()
    axes.grid(alpha=0.3)
    about = f"{images} test images; bars: 95 % interval over images. Each point is a training of its own."
    page.figure(
        figure,
        "training_time",
        title="Dice over training time",
        caption=about,
        alt="Line chart of the Dice over the minutes of training for both U-Nets",
    )
    page.table(table.set_index("model"), "training_time_table", title="The same in numbers", caption=about)
    page.close(
        {
            "question": "How does the Dice on real images grow with training time, from scratch and with a "
            "pretrained encoder?",
            "answer": "; ".join(
                f"{row['model']}, {row['minutes']:.1f} minutes: {row['test Dice']:.3f}"
                for _, row in table.iterrows()
            )
            + ".",
            "data": "PASCAL VOC 2009",
            "git": git_revision(),
        }
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
