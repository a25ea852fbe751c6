"""Reads a batch of CIFAR-10's Python distribution, which is a pickle, without executing it.

Pickles of Python 2 and 3, of NumPy 1 and 2 and of every protocol are known, as people save batches again.
"""

import io
import os
import pickle
import pickletools
import re

import numpy as np

from voclab.data.base import refusal
from voclab.data.decoding import read_bytes
from voclab.errors import VoclabError

SIDE = 32  # pixels
PLANES = 3 * SIDE * SIDE
_KINDS = re.compile(r"[iu][1248]|f[48]")  # of numbers; nothing else is made into an array


def read_pickle(path: str | os.PathLike) -> tuple[np.ndarray, np.ndarray]:
    """(n, 3072) uint8 planes and (n,) uint8 labels of a batch of the Python distribution.

    Raises:
        VoclabError: the file is damaged, no such batch, or asks for anything but numbers, text and arrays.
    """
    try:
        packed = read_bytes(path)
        _refuse_bombs(packed)
        content = _Restricted(io.BytesIO(packed), encoding="bytes").load()
        # Text of Python 2 is bytes here, that of Python 3 is text.
        content = {k.decode("latin1") if isinstance(k, bytes) else k: value for k, value in content.items()}
        if "fine_labels" in content:
            raise ValueError("it is one of CIFAR-100")
        planes, labels = _planes(content["data"]), _labels(content["labels"])
        if len(planes) != len(labels) or not len(labels):
            raise ValueError(f"it has {len(planes)} images and {len(labels)} labels")
        return planes, labels
    except VoclabError:
        raise
    except Exception as error:  # a damaged pickle can raise anything
        reason = f"it has no {error}" if isinstance(error, KeyError) else str(error).split("\n")[0]
        what = f"is no batch of CIFAR-10's Python distribution ({reason})"
        raise refusal(path, what, "fetch it again, or take the binary one") from error


class _Stored:
    """Stands for an array, a number or a dtype of NumPy in a pickle: keeps what it is given, does nothing."""

    def __init__(self, *arguments):
        self.arguments, self.state = arguments, ()

    def __setstate__(self, state):
        self.state = state


class _Reconstructed(_Stored):
    """An array whose shape, type and bytes come as its state (protocols up to 4)."""

    def array(self) -> np.ndarray:
        _, shape, dtype, by_columns, raw = self.state
        return _array(raw, dtype, shape, by_columns)


class _FromBuffer(_Stored):
    """An array of protocol 5."""

    def array(self) -> np.ndarray:
        raw, dtype, shape, order, *axes = self.arguments
        array = _array(raw, dtype, shape, order == "F")
        return array.transpose(*axes) if order == "K" else array


class _Number(_Stored):
    """One number of NumPy."""

    def array(self) -> np.ndarray:
        dtype, raw = self.arguments
        return _array(raw, dtype, (), False)


def _array(raw: bytes, dtype: _Stored, shape: tuple[int, ...], by_columns: bool) -> np.ndarray:
    kind = dtype.arguments[0]
    kind = kind.decode("ascii") if isinstance(kind, bytes) else kind
    if not _KINDS.fullmatch(kind):
        raise ValueError(f"it holds values of type {kind}")
    order = ">" if dtype.state[1] in (b">", ">") else "<"
    return np.frombuffer(raw, order + kind).reshape(shape, order="F" if by_columns else "C")


def _latin1(text, encoding):
    """What Python 3 writes for bytes in an old protocol."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes in {encoding}")
    return text.encode("latin1")


_STAND_INS = {
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): _Stored,
    ("_codecs", "encode"): _latin1,
}
for _core in ("numpy.core", "numpy._core"):  # of NumPy 1 and 2
    _STAND_INS[f"{_core}.multiarray", "_reconstruct"] = _Reconstructed
    _STAND_INS[f"{_core}.multiarray", "scalar"] = _Number
    _STAND_INS[f"{_core}.numeric", "_frombuffer"] = _FromBuffer


class _Restricted(pickle.Unpickler):
    """Knows arrays and numbers, which become :class:`_Stored`, and nothing else: no name is ever imported."""

    def find_class(self, module, name):
        if (module, name) not in _STAND_INS:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return _STAND_INS[module, name]


def _refuse_bombs(data: bytes) -> None:
    """A few bytes of a pickle can ask for gigabytes: a memo of any size, or an array not yet filled."""
    for done, (opcode, argument, _) in enumerate(pickletools.genops(data)):
        if opcode.name.endswith("PUT") and int(argument) > done:
            raise pickle.UnpicklingError(f"it stores its object number {done} as number {argument}")


def _planes(stored: _Stored) -> np.ndarray:
    """(n, 3072) uint8: red, green and blue of each image."""
    data = stored.array()
    if data.ndim == 4 and data.shape[1:] == (SIDE, SIDE, 3):  # as images, by whoever saved them again
        data = data.transpose(0, 3, 1, 2)
    if data.ndim == 4 and data.shape[1:] == (3, SIDE, SIDE):
        data = data.reshape(len(data), -1)
    if data.ndim != 2 or data.shape[1] != PLANES or data.dtype.kind == "f" or not _are_bytes(data):
        raise ValueError(f"its data are not (n, {PLANES}) bytes")
    return data.astype(np.uint8)


def _labels(stored) -> np.ndarray:
    """(n,) uint8 of a list, a tuple or an array, of numbers of Python or of NumPy."""
    if isinstance(stored, list | tuple):
        # One by one: a list of lists that share their parts can be larger than memory.
        stored = [label.array()[()] if isinstance(label, _Number) else label for label in stored]
        if not all(
            type(label) is not bool and isinstance(label, int | np.integer) and 0 <= label < 256
            for label in stored
        ):
            raise ValueError("its labels are not whole numbers from 0 to 255")
        labels = np.array(stored, np.uint8)
    else:
        labels = stored.array()
        labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if labels.ndim != 1 or not _are_bytes(labels):
        raise ValueError("its labels are not whole numbers from 0 to 255")
    return labels.astype(np.uint8)


def _are_bytes(array: np.ndarray) -> bool:
    """Whether all values are whole numbers from 0 to 255."""
    return not array.size or bool(
        array.min() >= 0
        and array.max() <= 255
        and (array.dtype.kind != "f" or (array == np.rint(array)).all())
    )
