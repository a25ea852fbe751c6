"""Memory and speed of the `full` profile's input on VOC's number of images, in a process of its own.

    python benchmarks/bench_memory.py [--images 749] [--steps 6] [--data VOCDEVKIT_ROOT] [--json FILE]

Images are drawn (ToyVOC at 500 pixels, JPEG) unless a VOCdevkit is named. One epoch of the batches of
DeepLabV3+ (384 pixels, 16 images with masks) fills the cache and is what memory holds beside a GPU; a second
one, from the cache, gives the rate. Then the profile's U-Net is trained for some steps as `voclab` trains it:
here its activations are in memory too, which on a GPU they are not. Memory is the peak of the process
(resident set size) after each part.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

IMAGES_SIZE = 500  # longest side in pixels, as in VOC
PROFILE = ("full", "voc2009")


def peak_mb() -> float:
    """Of this process, MiB; the unit of ``ru_maxrss`` is bytes on macOS and KiB elsewhere."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def measure(root: Path, images: int, steps: int) -> dict:
    import keras

    from voclab.data import load
    from voclab.data.batches import DecodedCache, steps_per_epoch, training_batches
    from voclab.experiments import common, segmentation
    from voclab.experiments.common import Profile
    from voclab.losses import get_loss
    from voclab.models.segmenters import build_unet

    profile = Profile.of(*PROFILE)
    p = segmentation.settings(profile)
    data = load("voc2009", root, "train")
    data = data.subset(range(min(images, len(data))), "fit")
    cache = DecodedCache(data, common.settings(profile).cache_mb)
    report = {"images": len(data), "libraries loaded": peak_mb()}
    common = {"augmentation": "standard", "target": "masks", "seed": 0, "epochs": 2, "cache": cache}
    batches = training_batches(data, size=p.deeplab_size, batch_size=p.deeplab_batch_size, **common)
    count = steps_per_epoch(len(data), p.deeplab_batch_size)
    started, taken = time.perf_counter(), []
    for k, _ in enumerate(batches):
        if k + 1 in (count, 2 * count):
            taken.append(time.perf_counter() - started)
            report.setdefault("epoch of batches", peak_mb())
            started = time.perf_counter()
    first, second = (count * p.deeplab_batch_size / seconds for seconds in taken)
    report |= {"cache": cache.used / 2**20, "decoding": first, "from the cache": second}

    batches = iter(training_batches(data, size=p.size, batch_size=p.batch_size, **common))
    model = build_unet(len(data.class_names) + 1, width=p.width, depth=p.depth)
    model.compile(keras.optimizers.AdamW(p.learning_rate), get_loss("cross_entropy_dice"), jit_compile=False)
    waited = stepped = 0.0
    for step in range(steps):
        started = time.perf_counter()
        pixels, masks = next(batches)
        arrived = time.perf_counter()
        model.train_on_batch(pixels, masks)
        if step:  # the first one traces the graph
            waited, stepped = waited + arrived - started, stepped + time.perf_counter() - arrived
    report |= {"training": peak_mb(), "waiting share": waited / max(waited + stepped, 1e-9)}
    return report


def as_markdown(report: dict) -> str:
    p = {name: f"{report[name]:,.0f}" for name in report if isinstance(report[name], float)}
    return "\n".join(
        [
            f"{report['images']} images, profile `full`, {report['cores']} cores:",
            "",
            "| | |",
            "| --- | ---: |",
            f"| peak memory with the libraries loaded | {p['libraries loaded']} MiB |",
            f"| after an epoch of batches, {p['cache']} MiB of them cache | {p['epoch of batches']} MiB |",
            f"| after training the U-Net on the CPU | {p['training']} MiB |",
            f"| images a second, decoded | {p['decoding']} |",
            f"| images a second, from the cache | {p['from the cache']} |",
            f"| share of the training's time spent waiting for batches | {report['waiting share']:.1%} |",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=749)
    parser.add_argument("--steps", type=int, default=6, help="of the U-Net's training")
    parser.add_argument("--data", type=Path, help="folder of a VOCdevkit to take instead of drawn images")
    parser.add_argument("--json", type=Path, help="also write every measurement to this file")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(options.data, options.images, options.steps)))
        return
    with tempfile.TemporaryDirectory() as folder:
        root = options.data
        if root is None:
            from toyvoc.voc import make_toyvoc

            root = make_toyvoc(Path(folder), train=options.images, val=1, test=1, size=IMAGES_SIZE)
        # Drawing takes memory too: what is measured runs alone.
        command = [sys.executable, __file__, "--child", "--data", str(root)]
        command += ["--images", str(options.images), "--steps", str(options.steps)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    report = json.loads(done.stdout.splitlines()[-1])
    report |= {"cores": os.cpu_count(), "machine": platform.platform()}
    print(as_markdown(report))
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
