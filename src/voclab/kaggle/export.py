"""Writes any data set in the competition's layout: a CSV of labels, one .npy an image.

The competition has no void label: an exported mask has background where VOC has void.
"""

import hashlib
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np

from voclab.data.base import VOC_CLASSES, VOID, Dataset
from voclab.data.competition import MANIFEST, TEST_CSV, TRAIN_CSV, TRUTH_CSV
from voclab.data.tables import HEADER
from voclab.errors import VoclabError
from voclab.files import TEMPORARY, atomic_path, make_folder, read_json, write_json, write_text


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
    truth_root = None if truth_root is None else Path(truth_root)
    _require_voc(train, truth=True)
    _require_voc(test, truth=truth_root is not None)
    manifest = {"format": 1, "train": _fingerprint(train), "test": _fingerprint(test)}
    files: dict[Path, Callable[[], bytes]] = {}
    for i in range(len(train)):
        files[root / "train" / "img" / f"train_{i}.npy"] = lambda i=i: _npy(train.image(i))
        files[root / "train" / "seg" / f"train_{i}.npy"] = lambda i=i: _npy(_without_void(train, i))
    for i in range(len(test)):
        files[root / "test" / "img" / f"test_{i}.npy"] = lambda i=i: _npy(test.image(i))
    tables = {
        root / "train" / TRAIN_CSV: _table(train.labels),
        root / "test" / TEST_CSV: _table(np.full((len(test), len(VOC_CLASSES)), -1)),
    }
    _claim(root, manifest)
    if truth_root is not None:
        if truth_root.resolve() == root.resolve():
            raise VoclabError(f"{root} is also named for the truth; name a folder apart from the images.")
        _claim(truth_root, manifest)
        for i in range(len(test)):
            files[truth_root / "seg" / f"test_{i}.npy"] = lambda i=i: _npy(_without_void(test, i))
        tables[truth_root / TRUTH_CSV] = _table(test.labels)

    from tqdm import tqdm

    missing = {path: content for path, content in files.items() if not path.exists()}
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


def _claim(folder: Path, manifest: dict) -> None:
    """Mark a new or empty folder as this export's; refuse one that is another's."""
    path = make_folder(folder) / MANIFEST
    if path.exists():
        if read_json(path) != manifest:
            raise VoclabError(f"{folder} holds the export of other images; name an empty folder.")
    elif any(not entry.name.startswith(TEMPORARY) for entry in folder.iterdir()):
        raise VoclabError(f"{folder} is not empty, and holds no export; name an empty folder.")
    else:
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
