"""Reads the competition's layout (CSV of labels, one .npy an image), and writes any data set in it.

The competition has no void label: an exported mask has background where VOC has void.
"""

import hashlib
import io
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from voclab.data import masks
from voclab.data.base import VOC_CLASSES, VOID, Dataset, refusal
from voclab.data.decoding import load_image, read_array
from voclab.data.tables import HEADER, read_table
from voclab.errors import VoclabError
from voclab.files import TEMPORARY, atomic_path, make_folder, read_json, write_json, write_text

TRAIN_CSV, TEST_CSV, TRUTH_CSV = "train_set.csv", "test_set.csv", "truth_set.csv"
MANIFEST = "export.json"


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
    return root and (root, "the competition's layout")


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


def export(
    train: Dataset,
    test: Dataset,
    root: str | Path,
    truth_root: str | Path | None = None,
    progress: bool = True,
) -> Path:
    """Write two data sets in the competition's layout; Ids are 0, 1, ... in the order of the lists.

    Each file appears whole or not at all and the tables come last, so a run that was killed or met a
    full disk is taken up by the next one. ``export.json`` beside them keeps the original names.

    Args:
        train: images with labels and masks; void becomes background.
        test: images to predict; its table is filled with -1.
        root: an empty or new folder, or one that an earlier run of the same export left.
        truth_root: where the truth of ``test`` goes (``truth_set.csv``, ``seg/``), if anywhere.
        progress: show a bar.

    Returns:
        ``root``.

    Raises:
        VoclabError: the folder holds something else or cannot be written, the disk is full, a data set
            has other classes than VOC or no truth where it is needed.
    """
    root = Path(root)
    _require_voc(train, truth=True)
    _require_voc(test, truth=truth_root is not None)
    manifest = {"format": 1, "train": _fingerprint(train), "test": _fingerprint(test)}
    files: dict[Path, Callable[[], bytes]] = {}
    truth_files: dict[Path, Callable[[], bytes]] = {}
    for i in range(len(train)):
        files[root / "train" / "img" / f"train_{i}.npy"] = lambda i=i: _npy(train.image(i))
        files[root / "train" / "seg" / f"train_{i}.npy"] = lambda i=i: _npy(_without_void(train, i))
    for i in range(len(test)):
        files[root / "test" / "img" / f"test_{i}.npy"] = lambda i=i: _npy(test.image(i))
    tables = {
        root / "train" / TRAIN_CSV: _table(train.labels),
        root / "test" / TEST_CSV: _table(np.full((len(test), len(VOC_CLASSES)), -1)),
    }
    _claim(root, manifest, {*files, *tables}, apart=truth_root)
    if truth_root is not None:
        truth_root = Path(truth_root)
        for i in range(len(test)):
            truth_files[truth_root / "seg" / f"test_{i}.npy"] = lambda i=i: _npy(_without_void(test, i))
        truth_table = {truth_root / TRUTH_CSV: _table(test.labels)}
        _claim(truth_root, manifest, {*truth_files, *truth_table})
        tables |= truth_table

    from tqdm import tqdm

    missing = {path: content for path, content in (files | truth_files).items() if not path.exists()}
    for path, content in tqdm(missing.items(), "export", disable=not progress, unit="file", leave=False):
        data = content()
        with atomic_path(path) as temporary:
            temporary.write_bytes(data)
    for path, text in tables.items():
        write_text(path, text)
    return root


def _require_voc(dataset: Dataset, truth: bool) -> None:
    if dataset.class_names != VOC_CLASSES:
        raise VoclabError(
            f"Data with other classes than VOC's twenty has no competition layout ({dataset.source}); name"
            " other data."
        )
    if truth and (dataset.labels is None or dataset.read_mask is None):
        raise VoclabError(
            f"{dataset.name} {dataset.split} has no labels or no masks to export; choose a split with truth."
        )


def _fingerprint(dataset: Dataset) -> dict:
    """What tells an earlier run of the same export from another one; also the original names."""
    labels = b"" if dataset.labels is None else dataset.labels.tobytes()
    return {
        "name": dataset.name,
        "split": dataset.split,
        "labels_sha256": hashlib.sha256(labels).hexdigest(),
        "first_image_sha256": hashlib.sha256(dataset.image(0).tobytes()).hexdigest(),
        "ids": list(dataset.ids),
    }


def _claim(folder: Path, manifest: dict, files: set[Path], apart: str | Path | None = None) -> None:
    """Refuse a folder that holds anything but this export; then mark it as this export's."""
    make_folder(folder)
    path = folder / MANIFEST
    apart = None if apart is None else Path(apart).resolve()
    if apart == folder.resolve():
        raise VoclabError(f"{folder} is also named for the truth; name a folder apart from the images.")
    ours = path.exists()
    if ours and read_json(path) != manifest:
        raise VoclabError(f"{folder} holds the export of other images; name an empty folder.")
    for entry in folder.rglob("*") if ours else folder.iterdir():
        if apart is not None and apart in (real := Path(os.path.realpath(entry)), *real.parents):
            continue
        if entry.name.startswith(TEMPORARY) and (ours or entry.name.endswith(f"-{MANIFEST}")):
            entry.unlink()  # what a killed run was writing
        elif not ours or (not entry.is_dir() and entry != path and entry not in files):
            raise VoclabError(
                f"{folder} holds {entry.relative_to(folder)}, not of this export; name an empty folder."
            )
    if not ours:
        write_json(path, manifest)


def _without_void(dataset: Dataset, i: int) -> np.ndarray:
    mask = dataset.mask(i)
    if mask is None:
        raise VoclabError(f"{dataset.name} has no mask of {dataset.ids[i]}; export a segmentation split.")
    return np.where(mask == VOID, np.uint8(0), mask)


def _npy(array: np.ndarray) -> bytes:
    # In memory first: numpy's own writing reports a full disk without its error number.
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.ascontiguousarray(array), allow_pickle=False)
    return buffer.getvalue()


def _table(labels: np.ndarray) -> str:
    rows = (",".join(map(str, (i, *row))) for i, row in enumerate(labels.tolist()))
    return "\n".join([",".join(HEADER), *rows]) + "\n"
