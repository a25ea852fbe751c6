"""Classifiers of several families on VOC 2009 under corruptions and attacks.

    python benchmarks/real_families.py VOC RUNS MOBILENET_V2

VOC is a folder with a VOCdevkit of VOC 2009, MOBILENET_V2 a file with the network's ImageNet weights without
top, or the word imagenet. Trains notebook 01's CNN from scratch and its linear head on three backbones, with
its settings for photographs, and measures them beside the network that comes with the package: `voclab
robustness` on 96 of the test images, 24 of them for the attacks. Runs and page go to RUNS; a killed call goes
on.
"""

import sys
from pathlib import Path

from voclab import cli
from voclab.data import load, test_split
from voclab.data.splits import fit_validation
from voclab.experiments import classification
from voclab.experiments.common import Profile
from voclab.models.pretrained import resolve_weights
from voclab.training import Parts
from voclab.training.experiment import run

SEED = 0
IMAGES, ATTACKED = 96, 24


def main(voc: str, folder: str, mobilenet_v2: str) -> int | str | None:
    """Train what is measured, and measure it."""
    fit_set, validation = fit_validation(load("voc2009", voc, "train"), 0.2, SEED)
    data = Parts(fit_set, validation, load("voc2009", voc, test_split("voc2009")))
    settings, trained = classification.settings(Profile("demo", drawn=False)), []
    for backbone, weights in (
        ("mobilenet_v2", mobilenet_v2),
        ("efficientnet_lite0", "imagenet"),
        ("efficientnet_lite2", "imagenet"),
    ):
        found = resolve_weights(weights, backbone, backbone)
        planned = {e.name: e for e in classification.experiments(settings, found, SEED)}
        names = ("scratch-augmented", "head") if not trained else ("head",)
        trained += [run(planned[name], data, Path(folder) / backbone).folder for name in names]
    models = [*map(str, trained), "ready"]
    measured = ["--images", str(IMAGES), "--attacked", str(ATTACKED), "--baseline", "scratch-augmented"]
    return cli.main(
        ["robustness", "--data", voc, "--model", *models, *measured, "--to", str(Path(folder) / "report")]
    )


if __name__ == "__main__":
    if len(sys.argv) != 4:
        raise SystemExit(__doc__)
    raise SystemExit(main(*sys.argv[1:]))
