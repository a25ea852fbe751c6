"""One of the machines that train together; ``two_machines.py DATA FOLDER`` leaves runs and a report.

Two processes of one machine stand for two machines: each has its own ``TF_CONFIG`` and its own FOLDER.
"""

import sys
from pathlib import Path

from voclab import cli
from voclab.experiments.options import asked
from voclab.experiments.train import trained

CLASSIFIER = (
    "--model resnet8 --width 4 --epochs 2 --batch-size 8 --learning-rate 0.01 --mixup 0.2 --dropout 0"
)
SEGMENTER = {"task": "segmentation", "model": "unet", "width": 4, "epochs": 2, "batch_size": 8, "size": 32}


def segmenter(data: Path, folder: Path, name: str, **options):
    return trained(asked({"dataset": str(data), **SEGMENTER}), name, folder, **options)


def main(data: Path, folder: Path) -> None:
    command = ["train", "--dataset", str(data / "classes"), *CLASSIFIER.split()]
    assert cli.main([*command, "--name", "classifier", "--runs", str(folder)]) == 0
    segmenter(data / "voc", folder, "segmenter")
    segmenter(data / "voc", folder, "segmenter")  # read back


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
