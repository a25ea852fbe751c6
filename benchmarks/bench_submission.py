"""Submission: encoding, scoring and checking against the plain definitions.

The plain encoder builds the (20, H, W) stack, flattens it and takes differences; the plain scorer decodes
every row to a full array.
"""

import sys
import tempfile
from pathlib import Path

import common
import numpy as np
from masks import label_maps, shifted

from voclab.kaggle import check_submission, score_submission, write_submission

IMAGES = 750
TRACED = 40  # tracing slows everything down, and the peak does not depend on the count


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


class Files:
    """A truth and a guess of ``count`` images, and every way to handle them."""

    def __init__(self, count: int):
        self.masks = label_maps(count)
        self.guessed_masks = shifted(self.masks)
        self.labels = np.array([np.isin(np.arange(1, 21), m) for m in self.masks]).astype(np.uint8)
        self.guessed = self.labels ^ (np.random.default_rng(1).random(self.labels.shape) < 0.05)
        self.ids = range(count)
        self._folder = tempfile.TemporaryDirectory()
        self.truth, self.plain, self.pred = (
            Path(self._folder.name) / f"{name}.csv" for name in ("truth", "plain", "pred")
        )
        self.encode()
        write_submission(self.pred, self.ids, self.guessed, self.guessed_masks)

    def encode(self) -> None:
        write_submission(self.truth, self.ids, self.labels, self.masks)

    def encode_plainly(self) -> None:
        plain_write(self.plain, self.labels, self.masks)

    def score(self) -> float:
        return score_submission(self.pred, self.truth).mean

    def score_plainly(self) -> float:
        return plain_score(self.pred, self.truth, [mask.size for mask in self.masks])

    def check(self) -> None:
        check_submission(self.pred, self.ids, {i: mask.shape for i, mask in enumerate(self.masks)})


def encoding(factor: int):
    files = Files(IMAGES * factor)
    return files.encode, IMAGES * factor


def scoring(factor: int):
    files = Files(IMAGES * factor)
    return files.score, 2 * IMAGES * factor


def checking(factor: int):
    files = Files(IMAGES * factor)
    return files.check, 2 * IMAGES * factor


def measure(quick: bool) -> common.Report:
    count = 20 if quick else IMAGES
    files, few = Files(count), Files(TRACED)
    files.encode_plainly()
    assert files.truth.read_bytes() == files.plain.read_bytes(), "the two encoders disagree"
    assert abs(files.score() - files.score_plainly()) < 1e-12, "the two scorers disagree"
    rows = {"items": 2 * count, "unit": "row"}
    cases = [
        common.Case(
            f"encode and write {count} masks and label vectors",
            common.timed({"voclab": files.encode, "plain": files.encode_plainly}),
            target=8,
            peak_bytes={
                "voclab": common.traced_memory(few.encode),
                "plain": common.traced_memory(few.encode_plainly),
            },
            memory_target=0.1,
            note=f"The two files are equal byte for byte, {files.truth.stat().st_size / 1e6:.1f} MB.",
            **rows,
        ),
        common.Case(
            f"score {2 * count} rows",
            common.timed({"voclab": files.score, "plain": files.score_plainly}),
            target=1,
            peak_bytes={
                "voclab": common.traced_memory(few.score),
                "plain": common.traced_memory(few.score_plainly),
            },
            note="The two scores agree to 1e-12.",
            **rows,
        ),
        common.Case(f"check {2 * count} rows", common.timed({"voclab": files.check}), **rows),
    ]
    grown = [] if quick else [
        common.growth("submission: encode and write", "masks", encoding),
        common.growth("submission: score", "rows", scoring),
        common.growth("submission: check", "rows", checking),
    ]  # fmt: skip
    return common.Report(
        "submission",
        "Submission files",
        "Drawn masks of 375 × 500 with one to four ragged blobs each. Plain: stack twenty masks, flatten,"
        " compare with the neighbour; to score, decode every row to an array of full size. Memory: the most"
        f" that Python and numpy hold beyond the masks, with {TRACED} images.",
        cases,
        grown,
    )


if __name__ == "__main__":
    sys.exit(common.main(measure, __doc__))
