"""One of the machines that train together; ``two_machines.py DATA FOLDER`` leaves runs.

Two processes of one machine stand for two machines: each has its own ``TF_CONFIG`` and its own FOLDER.
"""

import sys
from contextlib import suppress
from pathlib import Path
from unittest.mock import patch

import keras

from voclab import backend, cli
from voclab.errors import VoclabError
from voclab.experiments.options import asked
from voclab.experiments.train import trained
from voclab.terminal import say

# No dropout: what is dropped is drawn by each device.
CLASSIFIER = {"model": "small_cnn", "width": 4, "epochs": 2, "batch_size": 8, "learning_rate": 0.01}
CLASSIFIER |= {"mixup": 0.2, "dropout": 0.0}
SEGMENTER = {"task": "segmentation", "model": "unet", "width": 4, "epochs": 2, "batch_size": 8, "size": 32}
TYPED = [f"--{name.replace('_', '-')}={value}" for name, value in CLASSIFIER.items()]


class Killed(BaseException):
    """Stands for a kill."""


def train(data: Path, folder: Path) -> None:
    """What one machine and two train alike: a classifier with mixup, a segmenter with batch norm."""
    command = ["train", "--dataset", str(data / "classes"), *TYPED, "--name", "classifier"]
    code = cli.main([*command, "--runs", str(folder)])
    assert code == 0
    trained(asked({"dataset": str(data / "voc"), **SEGMENTER}), "segmenter", folder)


def classifier(data: Path, folder: Path, name: str, **options) -> None:
    given = {"dataset": str(data / "classes"), **CLASSIFIER, **options}
    trained(asked(given), name, folder)


def killed_in_epoch_two(data: Path, folder: Path) -> None:
    """Both machines end as they keep the weights of the second epoch."""
    save, calls = keras.Model.save_weights, []

    def saved(model, path):
        calls.append(path)
        if len(calls) == 3:
            raise Killed
        save(model, path)

    with patch.object(keras.Model, "save_weights", saved), suppress(Killed):
        classifier(data, folder, "killed")


def main(data: Path, folder: Path) -> None:
    train(data, folder)
    classifier(data, folder, "classifier")  # read back
    killed_in_epoch_two(data, folder)
    classifier(data, folder, "killed")
    try:
        classifier(data, folder, "other", learning_rate=0.001 if backend.is_chief() else 0.002)
    except VoclabError as error:
        say(error)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
