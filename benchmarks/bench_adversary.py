"""The adversary's forward pass against gradient attacks, per photo at the same batch size, in one process.

    python benchmarks/bench_adversary.py [--batch 16] [--size 224] [--json FILE]

Victims are a MobileNetV2 classifier and DeepLabV3+ on MobileNetV2, with random weights: the cost does not
depend on them. The adversary has the size of the notebook's on photos (width 32, four blocks). PGD takes all
of its 20 steps (no early stop). All attacks get the same batch, repetition by repetition in turn, after one
warm-up that traces the graphs; times are medians with the range over the repetitions.
"""

import argparse
import json
import platform
import statistics
import sys
import time
from pathlib import Path

import keras
import numpy as np

from voclab.attacks import FGSM, PGD, Adversary, Attack, Target, Victim
from voclab.models.classifiers import build_classifier
from voclab.models.generator import build_generator
from voclab.models.segmenters import build_segmenter
from voclab.profiles import profile_for

EPSILON = 8 / 255


def victims(batch: int, size: int) -> dict[str, tuple[Victim, Target]]:
    rng = np.random.default_rng(0)
    labels = np.eye(20, dtype=np.uint8)[rng.integers(0, 20, batch)]
    maps = rng.integers(0, 21, (batch, size, size)).astype(np.uint8)
    classifier = Victim(build_classifier("mobilenet_v2", 20), "multilabel", "classifier")
    segmenter = Victim(build_segmenter("deeplab", "mobilenet_v2", 21), "segmentation", "segmenter")
    return {"MobileNetV2": (classifier, Target(labels)), "DeepLabV3+": (segmenter, Target(maps))}


def timed(attack: Attack, victim: Victim, images: np.ndarray, target: Target) -> float:
    started = time.perf_counter()
    attack(victim, images, target, EPSILON)
    return 1000 * (time.perf_counter() - started) / len(images)


def measure(batch: int, size: int, repetitions: int) -> dict:
    keras.utils.set_random_seed(0)
    p = profile_for("demo", "voc2009").adversary
    images = np.random.default_rng(1).integers(0, 256, (batch, size, size, 3)).astype(np.float32) / 255
    attacks = {
        "adversary": Adversary(build_generator(width=p.width, blocks=p.blocks)),
        "FGSM": FGSM(),
        "PGD-20": PGD(steps=20, early_stop=False),
    }
    report = {"batch": batch, "size": size, "repetitions": repetitions, "machine": platform.platform()}
    for name, (victim, target) in victims(batch, size).items():
        taken = {attack: [] for attack in attacks}
        for repetition in range(repetitions + 1):
            for attack, call in attacks.items():
                ms = timed(call, victim, images, target)
                if repetition:
                    taken[attack].append(ms)
        report[name] = taken
    return report


def as_markdown(report: dict) -> str:
    lines = [
        f"Milliseconds a photo, batches of {report['batch']} at {report['size']} px, median (range) of "
        f"{report['repetitions']}:",
        "",
        "| victim | adversary | FGSM | PGD-20 | PGD-20 / adversary |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for victim, taken in report.items():
        if isinstance(taken, dict):
            median = {name: statistics.median(values) for name, values in taken.items()}
            cells = [f"{median[n]:.1f} ({min(v):.1f}–{max(v):.1f})" for n, v in taken.items()]
            ratio = median["PGD-20"] / median["adversary"]
            lines.append(f"| {victim} | {' | '.join(cells)} | {ratio:.0f} × |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--size", type=int, default=224, help="side of the photos in pixels")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--json", type=Path, help="also write every measurement to this file")
    options = parser.parse_args()
    report = measure(options.batch, options.size, options.repetitions)
    print(as_markdown(report))
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
