"""The adversary on MobileNetV2 beside the one that comes with the package, and what transfers.

    python benchmarks/real_adversary.py VOC RUNS MOBILENET_V2

VOC is a folder with a VOCdevkit of VOC 2009, MOBILENET_V2 a file with the network's ImageNet weights without
top, or the word imagenet. Trains, with the notebooks' settings for photographs, a linear head on MobileNetV2,
a CNN from scratch, a U-Net on a frozen EfficientNet-Lite0, DeepLabV3+ on a frozen MobileNetV2, and notebook
03's adversary against the head alone. Prints what attacks do to the head on all test images, and a matrix of
who fools whom: attacks made on the head or on the classifier that comes with the package, tested on all of
them. All images have 224 px. Runs go to RUNS; a killed call goes on.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd

from voclab.attacks import FGSM, PGD, Adversary, Bench, Network, Noise, visibility
from voclab.data import load, test_split
from voclab.data.splits import fit_validation
from voclab.evaluation import open_network
from voclab.experiments import adversary, classification, segmentation
from voclab.experiments.common import Profile
from voclab.files import write_text
from voclab.models import ready
from voclab.models.pretrained import resolve_weights
from voclab.training import Parts
from voclab.training.experiment import run, run_chain

SEED, SIZE, BOUNDS = 0, 224, (2, 4, 8)
ATTACKED, CROSSED = 64, 128  # images for PGD on the head, and for the matrix
HEAD = "MobileNetV2, head"


def networks(voc: str, folder: Path, mobilenet_v2: str, data: Parts) -> dict[str, Network]:
    """What attacks are made or tested on, by what tables call it; the head is trained first."""
    profile, found = Profile("demo", drawn=False), {}
    settings = classification.settings(profile), segmentation.settings(profile)
    for title, module, own, backbone, weights, name in (
        (HEAD, classification, settings[0], "mobilenet_v2", mobilenet_v2, "head"),
        ("CNN from scratch", classification, settings[0], "mobilenet_v2", mobilenet_v2, "scratch-augmented"),
        ("U-Net on EfficientNet-Lite0", segmentation, settings[1], "efficientnet_lite0", "imagenet",
         "encoder-both"),
        ("DeepLabV3+ on MobileNetV2", segmentation, settings[1], "mobilenet_v2", mobilenet_v2,
         "deeplab-frozen"),
    ):  # fmt: skip
        known = {
            e.name: e for e in module.experiments(own, resolve_weights(weights, backbone, backbone), SEED)
        }
        done = run_chain(name, known, data, folder / backbone)
        found[title] = replace(open_network(done.folder, data.test, SIZE), name=title)
    for title, name in (("ready", ready.CLASSIFIER), ("ready-segmenter", ready.SEGMENTER)):
        found[title] = replace(open_network(name, data.test, SIZE), name=title)
    return found


def main(voc: str, folder: str, mobilenet_v2: str) -> None:
    """Train, attack, print."""
    fit_set, validation = fit_validation(load("voc2009", voc, "train"), 0.2, SEED)
    data = Parts(fit_set, validation, load("voc2009", voc, test_split("voc2009")))
    known = networks(voc, Path(folder), mobilenet_v2, data)
    settings = adversary.settings(Profile("demo", drawn=False))
    experiment = adversary.generator(settings, SEED, (adversary.CLASSIFIER,))
    victims = {adversary.CLASSIFIER: replace(known[HEAD], name=adversary.CLASSIFIER)}
    trained = run(experiment, data, Path(folder), networks=victims)
    own, shipped = Adversary.of(trained), Adversary(ready.load_generator(), (ready.CLASSIFIER,))

    bench, few = Bench(data.test, SIZE), Bench(data.test.spread(ATTACKED), SIZE)
    pgd2 = PGD(steps=2, step=0.5, random_start=False)
    attacks = {"generator": own, "sign noise": Noise(), "FGSM": FGSM(), "PGD-2": pgd2, "PGD-20": PGD()}
    rows = {}
    for name, attack in attacks.items():
        for steps in BOUNDS:
            on = few if isinstance(attack, PGD) else bench
            images, _ = on.attack(attack, known[HEAD], steps / 255)
            answers = on.answers(known[HEAD], images)
            low, high = on.interval(known[HEAD], answers)
            row = {"success": on.effect_of(known[HEAD], answers)["success"], "low": low, "high": high}
            rows[f"{name} {steps}/255"] = {**row, "images": len(on), **visibility(images, on.images)}
            print(f"{name} {steps}/255", row, flush=True)
    print(pd.DataFrame.from_dict(rows, orient="index").round(3).to_string())

    crossed = Bench(data.test.spread(CROSSED), SIZE)
    momentum = PGD(steps=10, step=0.25, momentum=1.0, random_start=False, early_stop=False)
    sources = {("noise", "ready"): Noise()}
    for title, generator in ((HEAD, own), ("ready", shipped)):
        sources |= {("generator", title): generator, ("momentum PGD", title): momentum}
    matrix = {"clean: accuracy or Dice": {n: _score(crossed, network) for n, network in known.items()}}
    for (name, title), attack in sources.items():
        images, _ = crossed.attack(attack, known[title], 8 / 255)
        of = name if name == "noise" else f"{name}, on {title}"
        matrix[of] = {n: crossed.effect(network, images)["success"] for n, network in known.items()}
        print(of, matrix[of], flush=True)
    print(pd.DataFrame.from_dict(matrix, orient="index").round(3).to_string())
    write_text(Path(folder) / "adversary.json", json.dumps({"head": rows, "matrix": matrix}, indent=1))


def _score(bench: Bench, network: Network) -> float:
    found = bench.effect_of(network, bench.clean(network))
    return found["dice" if network.task == "segmentation" else "accuracy"]


if __name__ == "__main__":
    if len(sys.argv) != 4:
        raise SystemExit(__doc__)
    main(*sys.argv[1:])
