"""The adversary, one pass forward and back through an encoder, against gradient attacks on two networks."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import functools
import statistics
import sys

import common
import keras
import numpy as np

from voclab.attacks import FGSM, PGD, Adversary, Network, Target, eight_bit
from voclab.models.classifiers import build_classifier
from voclab.models.generator import build_generator
from voclab.models.segmenters import build_segmenter

EPSILON = 8 / 255
OURS, PGD_20 = common.OURS, "PGD-20"


def classifier(images: np.ndarray) -> tuple[Network, Target]:
    rng = np.random.default_rng(0)
    labels = np.eye(20, dtype=np.uint8)[rng.integers(0, 20, len(images))]
    return Network(build_classifier("mobilenet_v2", 20), "multilabel", "MobileNetV2"), Target(labels)


def segmenter(images: np.ndarray) -> tuple[Network, Target]:
    maps = np.random.default_rng(0).integers(0, 21, images.shape[:3]).astype(np.uint8)
    network = build_segmenter("deeplab", "mobilenet_v2", 21)
    return Network(network, "segmentation", "DeepLabV3+ on MobileNetV2"), Target(maps)


def measure(quick: bool) -> common.Report:
    keras.utils.set_random_seed(0)
    batch, size = (2, 64) if quick else (16, 224)
    images = eight_bit(np.random.default_rng(1).integers(0, 256, (batch, size, size, 3)).astype(np.uint8))
    cases = []
    for build in (classifier,) if quick else (classifier, segmenter):
        victim, target = build(images)
        attacks = {
            OURS: Adversary(build_generator([victim], 20)),
            "FGSM": FGSM(),
            PGD_20: PGD(steps=20, early_stop=False),
        }
        given = (victim, images, target, EPSILON)
        ways = {name: functools.partial(attack, *given) for name, attack in attacks.items()}
        seconds = common.timed(ways, 1 if quick else common.REPETITIONS)
        pgd = statistics.median(seconds[PGD_20]) / statistics.median(seconds[OURS])
        note = f"PGD-20 takes {pgd:.0f} times as long as the adversary."
        cases.append(common.Case(victim.name, seconds, items=batch, unit="image", note=note))
    return common.Report(
        "adversary",
        "The adversary's time",
        "*voclab* is the trained adversary: one forward and one backward pass through the victim's encoder,"
        " and a decoder. FGSM, one gradient of the whole victim, and PGD, which takes all of its 20 steps,"
        f" are ours too. One batch of {batch} images at {size} × {size}; all networks have random weights, on"
        " which the cost does not depend.",
        cases,
        packages=("tensorflow", "keras"),
    )


if __name__ == "__main__":
    sys.exit(common.main(measure, __doc__))
