"""CIFAR-10: its binary format, read and written, and its Python distribution, read without executing pickle.

Binary (Krizhevsky 2009): records of 3,073 bytes, a label from 0 to 9 and then the red, green and blue planes
of a 32 × 32 image, row by row; any number of records a file.
"""

import io
import pickle
import pickletools
from pathlib import Path
from typing import NamedTuple

import numpy as np

from voclab.datasets.base import Dataset
from voclab.errors import VoclabError
from voclab.files import atomic_path, write_text

CIFAR10_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
SIDE = 32
RECORD = 1 + 3 * SIDE * SIDE
SPLITS = ("train", "test")
BATCHES = (*(f"data_batch_{k}" for k in range(1, 6)), "test_batch")  # of the published archive
BINARY, PYTHON = "cifar-10-batches-bin", "cifar-10-batches-py"
_NAMES = "batches.meta.txt"


def tree(root: str | Path) -> Path | None:
    """The folder of the batches: ``root`` or one of the published names in it; ``None`` without any."""
    for folder in (Path(root), Path(root) / BINARY, Path(root) / PYTHON):
        if _batches(folder, "train"):
            return folder
    return None


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
        batch = "data_batch_1" if split == "train" else "test_batch"
        raise VoclabError(
            f"{root} holds no {batch} of CIFAR-10; run `voclab data fetch cifar10` or name the folder."
        )
    parts = [read_batch(path) for path in files]
    images = np.concatenate([part.images for part in parts])
    labels = np.concatenate([part.labels for part in parts])
    ids = [
        f"{path.stem}/{k}" for path, part in zip(files, parts, strict=True) for k in range(len(part.labels))
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
        source=f"{len(files)} batch files of CIFAR-10's format in {folder}",
    )


class Batch(NamedTuple):
    """(n, 32, 32, 3) uint8 RGB images and (n,) uint8 labels from 0 to 9."""

    images: np.ndarray
    labels: np.ndarray


def read_batch(path: str | Path) -> Batch:
    """A batch in the binary format (``.bin``) or of the Python distribution.

    Raises:
        VoclabError: the file is cut off or damaged, a label is not one of 0 to 9, or its pickle asks for
            anything but numbers, text and arrays of bytes.
    """
    path = Path(path)
    if path.suffix != ".bin":
        return _read_python(path)
    try:
        data = np.fromfile(path, np.uint8)
    except FileNotFoundError as error:
        raise VoclabError(f"{path} is missing; fetch CIFAR-10 again.") from error
    except OSError as error:
        raise VoclabError(f"{path} cannot be read ({error.strerror}); check file and disk.") from error
    if not data.size or data.size % RECORD:
        raise VoclabError(
            f"{path} has {data.size} bytes, which are not whole records of {RECORD}; fetch CIFAR-10 again."
        )
    records = data.reshape(-1, RECORD)
    return _batch(path, records[:, 1:], records[:, 0])


def write_batch(path: str | Path, images: np.ndarray, labels: np.ndarray) -> Path:
    """Write (n, 32, 32, 3) uint8 RGB images with their labels (0 to 9) in the binary format, atomically."""
    images, labels = np.asarray(images), np.asarray(labels)
    if images.dtype != np.uint8 or images.shape != (len(labels), SIDE, SIDE, 3):
        raise VoclabError(
            f"{path} needs uint8 images of 32 × 32 × 3, one a label; these have shape {images.shape} and"
            f" type {images.dtype}."
        )
    if not np.isin(labels, range(10)).all():
        raise VoclabError(f"{path} needs labels from 0 to 9; convert yours.")
    planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    with atomic_path(path) as temporary:
        # Not ndarray.tofile, which reports a full disk without its error number.
        temporary.write_bytes(np.concatenate([labels.astype(np.uint8)[:, None], planes], axis=1).tobytes())
    return Path(path)


def write_class_names(folder: str | Path, names: tuple[str, ...]) -> None:
    """Write ``batches.meta.txt``, one class a line."""
    write_text(Path(folder) / _NAMES, "\n".join(names) + "\n")


def _batches(folder: Path, split: str) -> list[Path]:
    stem = "data_batch_*" if split == "train" else "test_batch"
    found = sorted(folder.glob(f"{stem}.bin"))
    return found or sorted(path for path in folder.glob(stem) if not path.suffix and path.is_file())


def class_names(folder: str | Path) -> tuple[str, ...]:
    """The classes named in ``batches.meta.txt``; CIFAR-10's where there is no such file."""
    path = Path(folder) / _NAMES
    if not path.is_file():
        return CIFAR10_CLASSES
    try:
        names = tuple(path.read_text(encoding="utf-8").split())
    except (OSError, UnicodeDecodeError) as error:
        raise VoclabError(f"{path} is no text ({error}); fetch CIFAR-10 again.") from error
    if len(names) != 10:
        raise VoclabError(f"{path} names {len(names)} classes, not 10; fetch CIFAR-10 again.")
    return names


def _batch(path: Path, planes: np.ndarray, labels: np.ndarray) -> Batch:
    if labels.max() > 9:
        raise VoclabError(f"{path} has the label {labels.max()}, above 9; fetch CIFAR-10 again.")
    images = planes.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)
    return Batch(np.ascontiguousarray(images), labels.astype(np.uint8))


# --- the Python distribution ---


class _Bytes:
    """Stands for a NumPy array (or its dtype) in a pickle: keeps the state that it is given, does nothing."""

    def __init__(self, *arguments):
        self.arguments, self.state = arguments, ()

    def __setstate__(self, state):
        self.state = state


def _latin1(text, encoding):
    """What Python 3 writes for bytes in an old protocol."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes in {encoding}")
    return text.encode("latin1")


_STAND_INS = {
    ("numpy.core.multiarray", "_reconstruct"): _Bytes,
    ("numpy._core.multiarray", "_reconstruct"): _Bytes,
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): _Bytes,
    ("_codecs", "encode"): _latin1,
}


class _Restricted(pickle.Unpickler):
    """Knows arrays, which become :class:`_Bytes`, and nothing else: no name in a file is ever imported."""

    def find_class(self, module, name):
        if (module, name) not in _STAND_INS:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return _STAND_INS[module, name]


def _refuse_bombs(data: bytes) -> None:
    """A few bytes of a pickle can ask for gigabytes: a memo of any size, or an array not yet filled."""
    for done, (opcode, argument, _) in enumerate(pickletools.genops(data)):
        if opcode.name.endswith("PUT") and int(argument) > done:
            raise pickle.UnpicklingError(f"it stores its object number {done} as number {argument}")


def _read_python(path: Path) -> Batch:
    try:
        packed = path.read_bytes()
        _refuse_bombs(packed)
        content = _Restricted(io.BytesIO(packed), encoding="bytes").load()
        data, labels = content[b"data"], content[b"labels"]
        _, shape, dtype, by_columns, raw = data.state
        if dtype.arguments[0] not in (b"u1", "u1") or by_columns or shape != (len(labels), RECORD - 1):
            raise ValueError("its data are not (n, 3072) bytes")
        planes = np.frombuffer(raw, np.uint8).reshape(shape)
        # Before NumPy sees them: a list of lists that share their parts can be larger than memory.
        if type(labels) is not list or not all(type(label) is int and 0 <= label < 256 for label in labels):
            raise ValueError("its labels are not whole numbers from 0 to 255")
        labels = np.array(labels, np.uint8)
        if not len(labels):
            raise ValueError("it holds no images")
    except FileNotFoundError as error:
        raise VoclabError(f"{path} is missing; fetch CIFAR-10 again.") from error
    except Exception as error:  # a damaged pickle can raise anything
        raise VoclabError(
            f"{path} is no batch of CIFAR-10's Python distribution ({error}); fetch it again, or take the"
            " binary one."
        ) from error
    return _batch(path, planes, labels)
