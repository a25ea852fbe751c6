"""Reads the competition's layout: a CSV of labels, one .npy an image; its masks have no void label."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from voclab.data import masks
from voclab.data.base import VOC_CLASSES, Dataset, refusal
from voclab.data.decoding import load_image, read_array
from voclab.data.tables import read_table
from voclab.errors import VoclabError

TRAIN_CSV, TEST_CSV, TRUTH_CSV = "train_set.csv", "test_set.csv", "truth_set.csv"
MANIFEST = "export.json"  # of voclab's own exports


def locate(folder: Path) -> Path | None:
    """The first folder in the competition's layout, ``folder`` itself or up to two levels below.

    Hidden folders do not count: the half of an archive that a killed process left is in one.
    """
    for above in ("", "[!.]*/", "[!.]*/[!.]*/"):
        for table in sorted(folder.glob(f"{above}train/{TRAIN_CSV}")):
            return table.parent.parent
    return None


def recognise(folder: Path) -> tuple[Path, str] | None:
    """Where the competition's layout is in a folder, and these words; an unfinished export is refused."""
    root = locate(folder)
    if root is None and (folder / MANIFEST).is_file():
        what = f"holds data that `voclab data export --to {folder}` did not finish"
        raise refusal(folder, what, "give that command again")
    return (root, "the competition's layout") if root else None


def read(root: str | Path, split: str, truth_root: str | Path | None = None) -> Dataset:
    """The training or the test images of the competition.

    Args:
        root: the folder that holds ``train/`` and ``test/``.
        split: ``"train"`` or ``"test"``.
        truth_root: where the test set's truth was exported to; without it the test set has no masks,
            and no labels where its table is filled with -1, with 0 or not at all.

    Raises:
        VoclabError: a table or file is missing, the table's columns or values are wrong. Images and
            masks are checked when they are read.
    """
    root = Path(root)
    if split not in ("train", "test"):
        raise VoclabError(f"The competition in {root} has no split {split!r}; choose train or test.")
    table = root / split / (TRAIN_CSV if split == "train" else TEST_CSV)
    ids, labels = read_table(table, unknown=split == "test")
    images = root / split / "img"
    _require(table, images, split, ids)
    seg_root = root / "train"
    if split == "test":
        seg_root = None if truth_root is None else Path(truth_root)
    if split == "test" and seg_root is not None:
        truth_ids, labels = read_table(seg_root / TRUTH_CSV)
        if truth_ids != ids:
            what = f"has other Ids than {table}"
            raise refusal(seg_root / TRUTH_CSV, what, "name the truth that belongs to it")
    if seg_root is not None:
        _require(table, seg_root / "seg", split, ids)

    def read_image(i: int) -> np.ndarray:
        return load_image(images / f"{split}_{ids[i]}.npy")

    def read_mask(i: int) -> np.ndarray:
        name = f"{split}_{ids[i]}.npy"
        mask = load_mask(seg_root / "seg" / name)
        height, width = read_array(images / name).shape[:2]
        if mask.shape != (height, width):
            what = f"is {mask.shape[1]} × {mask.shape[0]} pixels, but its image is {width} × {height}"
            raise refusal(seg_root / "seg" / name, what, "restore the mask that belongs to the image")
        return mask

    return Dataset(
        name="kaggle",
        split=split,
        task="multilabel",
        ids=ids,
        class_names=VOC_CLASSES,
        labels=labels,
        read_image=read_image,
        read_mask=None if seg_root is None else read_mask,
        source=f"{len(ids)} images of the competition's {split}/{table.name}; "
        + ("without truth" if labels is None else "labels from the table"),
    )


def _require(table: Path, folder: Path, split: str, ids: Iterable[str]) -> None:
    there = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
    for image in ids:
        if f"{split}_{image}.npy" not in there:
            what = f"names the Id {image}, but {folder / f'{split}_{image}.npy'} is missing"
            raise refusal(table, what, "restore the file or take the row out")


def load_mask(path: str | Path) -> np.ndarray:
    """A mask file: (H, W) uint8 of 0–20; (H, W, 1) and whole-numbered floats are taken.

    Raises:
        VoclabError: other types, shapes and values.
    """
    array = masks.whole_numbers(path, read_array(path))
    wrong = (array < 0) | (array > len(VOC_CLASSES))
    if wrong.any():
        what = f"has the value {array[wrong][0]}, but the competition's masks hold 0–{len(VOC_CLASSES)}"
        raise refusal(path, what)
    return np.array(array, dtype=np.uint8, order="C")
