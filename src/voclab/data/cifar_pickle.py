"""Reads a batch of CIFAR-10's Python distribution, which is a pickle, without executing it.

Known is what the archive holds, of every protocol and as NumPy 1 and 2 write it: a dict with ``data``, an
array of (n, 3072) bytes, and ``labels``, a list of whole numbers or an array of them.
"""

import io
import os
import pickle
import pickletools
import re

import numpy as np

from voclab.data.base import refusal
from voclab.data.decoding import read_bytes

SIDE = 32  # pixels
PLANES = 3 * SIDE * SIDE
_KINDS = re.compile(r"[iu][1248]")  # of numbers; nothing else is made into an array


def read_pickle(path: str | os.PathLike) -> tuple[np.ndarray, np.ndarray]:
    """(n, 3072) uint8 planes and (n,) uint8 labels of a batch of the Python distribution.

    Raises:
        VoclabError: the file is damaged, no such batch, or asks for anything but numbers, text and arrays.
    """
    packed = read_bytes(path)
    try:
        _refuse_bombs(packed)
        content = _Restricted(io.BytesIO(packed), encoding="bytes").load()
        # Text of Python 2 is bytes here, that of Python 3 is text.
        content = {k.decode("latin1") if isinstance(k, bytes) else k: value for k, value in content.items()}
        if "fine_labels" in content:
            raise ValueError("it is one of CIFAR-100")
        planes, labels = content["data"].array(), content["labels"]
        if planes.shape[1:] != (PLANES,) or planes.dtype != np.uint8:
            raise ValueError(f"its data are not (n, {PLANES}) bytes")
        # One by one: a list of lists that share their parts can be larger than memory.
        labels = labels if isinstance(labels, list) else list(labels.array())
        whole = all(type(label) is not bool and isinstance(label, int | np.integer) for label in labels)
        if not whole or not all(0 <= label < 256 for label in labels):
            raise ValueError("its labels are not whole numbers from 0 to 255")
        if len(planes) != len(labels) or not labels:
            raise ValueError(f"it has {len(planes)} images and {len(labels)} labels")
        return planes, np.array(labels, np.uint8)
    except Exception as error:  # a damaged pickle can raise anything
        reason = f"it has no {error}" if isinstance(error, KeyError) else str(error).split("\n")[0]
        what = f"is no batch of CIFAR-10's Python distribution ({reason})"
        raise refusal(path, what, "fetch it again, or take the binary one") from error


class _Stored:
    """Stands for an array or a dtype of NumPy in a pickle: keeps what it is given, does nothing."""

    def __init__(self, *arguments):
        self.arguments, self.state = arguments, ()

    def __setstate__(self, state):
        self.state = state

    def array(self) -> np.ndarray:
        """The array that this stands for."""
        if self.state:  # protocols up to 4
            _, shape, dtype, by_columns, raw = self.state
        else:
            raw, dtype, shape, order = self.arguments
            by_columns = order == "F"
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
    _STAND_INS[f"{_core}.multiarray", "_reconstruct"] = _Stored
    _STAND_INS[f"{_core}.numeric", "_frombuffer"] = _Stored


class _Restricted(pickle.Unpickler):
    """Knows arrays, which become :class:`_Stored`, and nothing else: no name is ever imported."""

    def find_class(self, module, name):
        if (module, name) not in _STAND_INS:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return _STAND_INS[module, name]


def _refuse_bombs(data: bytes) -> None:
    """A few bytes of a pickle can ask for gigabytes: a memo of any size, or an array not yet filled."""
    for done, (opcode, argument, _) in enumerate(pickletools.genops(data)):
        if opcode.name.endswith("PUT") and int(argument) > done:
            raise pickle.UnpicklingError(f"it stores its object number {done} as number {argument}")
