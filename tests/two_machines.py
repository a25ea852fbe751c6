"""One of the machines that train together; ``two_machines.py DATA FOLDER`` leaves runs and a report.

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

CLASSIFIER = (
    "--model resnet8 --width 4 --epochs 2 --batch-size 8 --learning-rate 0.01 --mixup 0.2 --dropout 0"
)
SEGMENTER = {"task": "segmentation", "model": "unet", "width": 4, "epochs": 2, "batch_size": 8, "size": 32}


class Killed(BaseException):
    """Stands for a kill."""


def segmenter(data: Path, folder: Path, name: str, *progress, **options):
    given = asked({"dataset": str(data / "voc"), **SEGMENTER, **options})
    return trained(given, name, folder, *progress)


def killed_in_epoch_two(data: Path, folder: Path) -> None:
    """Both machines end as they keep the weights of the second epoch."""
    save, calls = keras.Model.save_weights, []

    def saved(model, path):
        calls.append(path)
        if len(calls) == 3:
            raise Killed
        save(model, path)

    with patch.object(keras.Model, "save_weights", saved), suppress(Killed):
        segmenter(data, folder, "killed")


def main(data: Path, folder: Path) -> None:
    command = ["train", "--dataset", str(data / "classes"), *CLASSIFIER.split()]
    code = cli.main([*command, "--name", "classifier", "--runs", str(folder)])
    assert code == 0
    segmenter(data, folder, "segmenter")
    segmenter(data, folder, "segmenter")  # read back
    killed_in_epoch_two(data, folder)
    segmenter(data, folder, "killed")
    try:
        segmenter(data, folder, "other", learning_rate=0.001 if backend.is_chief() else 0.002)
    except VoclabError as error:
        say(error)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
