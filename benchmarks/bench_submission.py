"""Submission: encoding, checking and scoring against the plain definitions, in one process.

    python benchmarks/bench_submission.py [--images 750] [--data VOCDEVKIT_YEAR] [--json FILE]

The plain encoder builds the (20, H, W) stack, flattens it and takes differences; the plain scorer
decodes every row to a full array. Both ways see the same masks in the same order, repetition by
repetition in turn, after one warm-up; times are medians with the range over the repetitions.
Memory is the peak of what Python and numpy allocate (tracemalloc) on top of the given masks.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from voclab.submission import check_submission, score_submission, write_submission

MEMORY_IMAGES = 40  # tracing slows everything down, and the peak does not depend on the count


def synthetic_masks(count: int, shape: tuple[int, int] = (375, 500), seed: int = 0) -> list[np.ndarray]:
    """Label maps like VOC's: one to four ragged blobs of random classes, each with a void border."""
    rng = np.random.default_rng(seed)
    angles = np.linspace(0, 2 * np.pi, 90, endpoint=False)
    masks = []
    for _ in range(count):
        mask = np.zeros(shape, np.uint8)
        for _ in range(rng.integers(1, 5)):
            waves = sum(
                rng.normal(0, 0.25 / k) * np.cos(k * angles + rng.uniform(0, 6.3)) for k in range(1, 12)
            )
            radius = rng.uniform(30, 130) * np.clip(1 + waves, 0.15, None)
            centre = rng.uniform(0.15, 0.85, 2) * shape[::-1]
            outline = np.stack((radius * np.cos(angles), radius * np.sin(angles)), 1) + centre
            points = [outline.round().astype(np.int32)]
            cv2.fillPoly(mask, points, int(rng.integers(1, 21)))
            cv2.polylines(mask, points, isClosed=True, color=255, thickness=5)
        masks.append(mask)
    return masks


def real_masks(root: Path, count: int) -> list[np.ndarray]:
    """The first masks of a VOCdevkit year folder, repeated if there are fewer than ``count``."""
    files = sorted((root / "SegmentationClass").glob("*.png"))[:count]
    masks = [np.array(Image.open(file)) for file in files]
    return [masks[i % len(masks)] for i in range(count)]


def plain_code(flat: np.ndarray) -> str:
    padded = np.concatenate([[0], flat, [0]])
    bounds = np.flatnonzero(padded[1:] != padded[:-1]) + 1
    bounds[1::2] -= bounds[::2]
    return " ".join(map(str, bounds.tolist()))


def plain_write(path: Path, labels: np.ndarray, masks: list[np.ndarray]) -> None:
    with open(path, "w") as file:
        file.write("Id,Predicted\n")
        for i, (vector, mask) in enumerate(zip(labels, masks)):
            stack = np.stack([mask == k for k in range(1, 21)]).astype(np.uint8)
            file.write(f"{i}_classification,{plain_code(vector)}\n")
            file.write(f"{i}_segmentation,{plain_code(stack.flatten())}\n")


def plain_decode(text: str, size: int) -> np.ndarray:
    array = np.zeros(size, bool)
    numbers = list(map(int, text.split()))
    for start, length in zip(numbers[::2], numbers[1::2]):
        array[start - 1 : start - 1 + length] = True
    return array


def plain_score(pred: Path, truth: Path, sizes: list[int]) -> float:
    rows = [dict(line.split(",") for line in path.read_text().splitlines()[1:]) for path in (pred, truth)]
    dice = []
    for name, text in rows[1].items():
        image_id, kind = name.split("_")
        size = 20 if kind == "classification" else 20 * sizes[int(image_id)]
        a, b = plain_decode(rows[0][name], size), plain_decode(text, size)
        total = np.count_nonzero(a) + np.count_nonzero(b)
        dice.append(2 * np.count_nonzero(a & b) / total if total else 1.0)
    return float(np.mean(dice))


def timed(functions: dict[str, Callable], repetitions: int) -> dict[str, list[float]]:
    """Seconds of each repetition of each function, taken in turn, after one warm-up of all."""
    seconds = {name: [] for name in functions}
    for repetition in range(repetitions + 1):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            if repetition:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def peak_memory(function: Callable) -> int:
    function()
    tracemalloc.start()
    function()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def measure(masks: list[np.ndarray], repetitions: int, folder: Path) -> dict:
    rng = np.random.default_rng(1)
    count = len(masks)
    labels = np.array([np.isin(np.arange(1, 21), mask) for mask in masks]).astype(np.uint8)
    predicted = [np.roll(mask, tuple(rng.integers(-15, 16, 2)), (0, 1)) for mask in masks]
    guessed = labels ^ (rng.random(labels.shape) < 0.05)
    sizes = [mask.size for mask in masks]
    shapes = {i: mask.shape for i, mask in enumerate(masks)}
    truth, plain, pred = folder / "truth.csv", folder / "plain.csv", folder / "pred.csv"

    def encode(n=count):
        write_submission(truth, range(n), labels[:n], masks[:n])

    encoding = {"voclab": encode, "plain": lambda: plain_write(plain, labels, masks)}
    results = {"encode and write": {"seconds": timed(encoding, repetitions)}}
    assert truth.read_bytes() == plain.read_bytes(), "the two encoders disagree"
    code_bytes = truth.stat().st_size

    write_submission(pred, range(count), guessed, predicted)
    scoring = {
        "voclab": lambda: score_submission(pred, truth).mean,
        "plain": lambda: plain_score(pred, truth, sizes),
    }
    mean = scoring["voclab"]()
    assert abs(mean - scoring["plain"]()) < 1e-12, "the two scorers disagree"
    results["score"] = {"seconds": timed(scoring, repetitions)}
    checking = {"voclab": lambda: check_submission(pred, range(count), shapes)}
    results["check"] = {"seconds": timed(checking, repetitions)}

    n = min(count, MEMORY_IMAGES)
    results["encode and write"]["peak_bytes"] = {
        "voclab": peak_memory(lambda: encode(n)),
        "plain": peak_memory(lambda: plain_write(plain, labels[:n], masks[:n])),
    }
    write_submission(pred, range(n), guessed[:n], predicted[:n])
    encode(n)
    results["score"]["peak_bytes"] = {name: peak_memory(function) for name, function in scoring.items()}
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} CPU cores",
        "versions": {"python": platform.python_version(), "numpy": np.__version__},
        "images": count,
        "rows": 2 * count,
        "repetitions": repetitions,
        "csv_bytes": code_bytes,
        "score_mean": mean,
        "results": results,
    }


def as_markdown(report: dict) -> str:
    def spread(seconds):
        return f"{statistics.median(seconds):.3f} ({min(seconds):.3f}–{max(seconds):.3f})"

    def ratio(pair, value):
        return f"{value(pair['plain']) / value(pair['voclab']):.1f} ×" if "plain" in pair else "–"

    lines = [
        f"{report['images']} images, {report['rows']} rows, {report['csv_bytes'] / 1e6:.1f} MB of CSV; "
        f"{report['repetitions']} repetitions; {report['machine']}; "
        + ", ".join(f"{name} {version}" for name, version in report["versions"].items()),
        "",
        "| | voclab, s | plain, s | faster | voclab, MB | plain, MB | smaller |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, result in report["results"].items():
        seconds, peak = result["seconds"], result.get("peak_bytes", {})
        cells = [name, spread(seconds["voclab"]), spread(seconds["plain"]) if "plain" in seconds else "–"]
        cells += [ratio(seconds, statistics.median)]
        cells += [f"{peak[way] / 1e6:.2f}" if way in peak else "–" for way in ("voclab", "plain")]
        cells += [ratio(peak, float)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=750)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--data", type=Path, help="a VOCdevkit year folder; without it, masks are made up")
    parser.add_argument("--json", type=Path, help="also write every measurement to this file")
    options = parser.parse_args()
    masks = real_masks(options.data, options.images) if options.data else synthetic_masks(options.images)
    with tempfile.TemporaryDirectory() as folder:
        report = measure(masks, options.repetitions, Path(folder))
    print(as_markdown(report))
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
