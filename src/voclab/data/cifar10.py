"""CIFAR-10: its binary format and its Python distribution, read without executing pickle.

Binary (Krizhevsky 2009): records of 3,073 bytes, a label from 0 to 9 and then the red, green and blue planes
of a 32 × 32 image, row by row; any number of records a file.
"""

import re
from pathlib import Path

import numpy as np

from voclab.data.base import Dataset, refusal
from voclab.data.cifar_pickle import PLANES, SIDE, read_pickle
from voclab.data.decoding import read_bytes
from voclab.data.labelmap import read_text
from voclab.data.listing import counted, subfolders
from voclab.errors import VoclabError

CIFAR10_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
RECORD = 1 + PLANES  # bytes
SPLITS = ("train", "test")
BATCHES = (*(f"data_batch_{k}" for k in range(1, 6)), "test_batch")  # of the published archive
BINARY, PYTHON = "cifar-10-batches-bin", "cifar-10-batches-py"
_NAMES = "batches.meta.txt"
_FETCH = "fetch CIFAR-10 again"
TOY_MANIFEST = "toycifar.json"
_CIFAR100 = (("train.bin", "test.bin", "fine_label_names.txt"), ("train", "test", "meta"))


def tree(root: str | Path) -> Path | None:
    """The folder of the batches: ``root`` or one of the published names in it; ``None`` without any."""
    for folder in (Path(root), Path(root) / BINARY, Path(root) / PYTHON):
        if _batches(folder, "train"):
            return folder
    return None


def locate(folder: Path) -> Path | None:
    """``folder`` or the first folder in it that holds batches of CIFAR-10 which are not ToyCIFAR's."""
    if not folder.is_dir() or (folder / TOY_MANIFEST).is_file():
        return None
    for root in (folder, *subfolders(folder)):
        if not (root / TOY_MANIFEST).is_file() and tree(root):
            return root
    return None


def recognise(folder: Path) -> tuple[Path, str] | None:
    """Where batches of CIFAR-10 are in a folder, and these words; CIFAR-100 is refused."""
    root = locate(folder)
    if root is None:
        _refuse_cifar100(folder)
    return (root, "the batches of CIFAR-10") if root else None


def _refuse_cifar100(root: Path) -> None:
    """CIFAR-100 has other records and a hundred classes."""
    for folder in (root, root / "cifar-100-binary", root / "cifar-100-python"):
        if any(all((folder / name).is_file() for name in names) for names in _CIFAR100):
            remedy = "run `voclab data fetch cifar10`, or sort its images into a folder a class"
            raise refusal(folder, "holds CIFAR-100, which is not read here", remedy)


def read(root: str | Path, split: str, name: str = "cifar10") -> Dataset:
    """The training or the test images, ids like ``data_batch_1/17``.

    Args:
        root: folder with the batches, or that holds ``cifar-10-batches-bin`` or ``cifar-10-batches-py``.
        split: ``"train"`` or ``"test"``.
        name: of the data set.

    Raises:
        VoclabError: no batches, a damaged file, or one that holds more than numbers and text.
    """
    if split not in SPLITS:
        raise VoclabError(f"CIFAR-10 in {root} has no split {split!r}; choose train or test.")
    folder = tree(root)
    files = _batches(folder, split) if folder else []
    if not files:
        _refuse_cifar100(Path(root))
        batch = "data_batch_1" if split == "train" else "test_batch"
        remedy = "run `voclab data fetch cifar10` or name the folder"
        raise refusal(root, f"holds no {batch} of CIFAR-10", remedy)
    batches = [read_batch(path) for path in files]
    images, labels = map(np.concatenate, zip(*batches, strict=True))
    ids = [
        f"{path.stem}/{k}"
        for path, (_, labels_there) in zip(files, batches, strict=True)
        for k in range(len(labels_there))
    ]
    return Dataset(
        name=name,
        split=split,
        task="multiclass",
        ids=tuple(ids),
        class_names=class_names(folder),
        labels=np.eye(10, dtype=np.uint8)[labels],
        read_image=lambda i: images[i],
        read_mask=None,
        source=f"{counted(len(files), 'batch file')} in the format of CIFAR-10 in {folder.name}"
        + (_absent(files) if name == "cifar10" else ""),
    )


def read_batch(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """(n, 32, 32, 3) uint8 RGB and (n,) uint8 labels of a binary batch (``.bin``) or a Python one.

    Raises:
        VoclabError: the file is cut off or damaged, a label is not one of 0 to 9, or its pickle asks for
            anything but numbers, text and arrays of bytes.
    """
    path = Path(path)
    if path.suffix != ".bin":
        planes, labels = read_pickle(path)
        return _batch(path, planes, labels)
    data = np.frombuffer(read_bytes(path), np.uint8)
    if not data.size or data.size % RECORD:
        what = f"whole records of {RECORD}"
        if data.size and data.size % (RECORD + 1) == 0:
            what += f" but of {RECORD + 1}, as CIFAR-100 has them"
        raise refusal(path, f"has {data.size} bytes, which are not {what}", _FETCH)
    records = data.reshape(-1, RECORD)
    return _batch(path, records[:, 1:], records[:, 0])


def _batches(folder: Path, split: str) -> list[Path]:
    """The batch files of a split; ``data_batch_1 (1).bin``, a second download, is none."""
    stem = r"data_batch_\d+" if split == "train" else "test_batch"
    names = [path for path in folder.glob("*_batch*") if path.is_file()]
    binary = [path for path in names if re.fullmatch(rf"{stem}\.bin", path.name)]
    found = binary or [path for path in names if re.fullmatch(stem, path.name)]
    return sorted(found, key=lambda path: (len(path.name), path.name))


def _absent(files: list[Path]) -> str:
    """What the sentence on the data says of batches of the published archive that are not there."""
    split = files[0].stem.rstrip("0123456789")
    there = {path.stem for path in files}
    absent = [name for name in BATCHES if name.startswith(split) and name not in there]
    return f"; without {', '.join(absent)}" if absent else ""


def class_names(folder: str | Path) -> tuple[str, ...]:
    """The classes named in ``batches.meta.txt``; CIFAR-10's where there is no such file."""
    path = Path(folder) / _NAMES
    if not path.is_file():
        return CIFAR10_CLASSES
    names = tuple(line.strip() for line in read_text(path).splitlines() if line.strip())
    if len(names) != 10 or len(set(names)) < 10:
        raise refusal(path, f"names {len(set(names))} classes, not 10", _FETCH)
    return names


def _batch(path: Path, planes: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if labels.max() > 9:
        raise refusal(path, f"has the label {labels.max()}, above 9", _FETCH)
    images = planes.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), labels.astype(np.uint8)
