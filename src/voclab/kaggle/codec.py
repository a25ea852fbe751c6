"""Run-length code: label vectors and label maps to text and back.

The code is pairs ``start length``, separated by single spaces, starts counted from 1 over the array
flattened in C order; the empty set of positions is the empty string. Inside the package runs are
an (n, 2) int64 array of half-open intervals ``[first, end)`` counted from 0, sorted and disjoint.
"""

import numpy as np

from voclab.data.base import VOC_CLASSES, VOID
from voclab.errors import VoclabError

_DIGITS = 15  # of the largest number: sums of a thousand such numbers are exact in int64


def rle_encode(array: np.ndarray) -> str:
    """Run-length code of the ones in an array of any shape; other values than 0 and 1 are refused."""
    flat = np.asarray(array).ravel()
    ones = flat == 1
    if not np.all(ones | (flat == 0)):
        raise VoclabError("Only an array of 0 and 1 has a run-length code; threshold the values first.")
    edges = np.flatnonzero(np.diff(ones, prepend=False, append=False))
    return _text(edges[::2], edges[1::2])


def rle_decode(text: str, shape: tuple[int, ...]) -> np.ndarray:
    """The array of ``shape``, uint8 0/1, whose ones ``text`` encodes; see :func:`parse_runs` for errors."""
    array = np.zeros(shape, np.uint8)
    flat = array.reshape(-1)
    for first, end in parse_runs(text, "Run-length code", flat.size).tolist():
        flat[first:end] = 1
    return array


def encode_classification(labels: np.ndarray) -> str:
    """Run-length code of one image's labels, shape (20,), 0 or 1, in VOC's class order."""
    labels = np.asarray(labels)
    if labels.shape != (len(VOC_CLASSES),):
        raise VoclabError(
            f"Labels have shape {labels.shape}; give one 0 or 1 for each of the {len(VOC_CLASSES)} classes."
        )
    return rle_encode(labels)


def encode_segmentation(label_map: np.ndarray, classes: int = len(VOC_CLASSES)) -> str:
    """Run-length code of a label map: that of the stack of its binary masks, class 1 first.

    Runs go on across row ends and from the last pixel of one class to the first of the next, as the
    flattened (classes, H, W) stack has them; the stack is never built, memory is O(H·W).

    Args:
        label_map: (H, W), any integer type: 0 background, 1 to ``classes``, 255 void, which counts
            as background.
        classes: number of foreground classes, at most 254.

    Raises:
        VoclabError: ``label_map`` is not an integer matrix or holds another value.
    """
    label_map = np.asarray(label_map)
    if label_map.ndim != 2 or not np.issubdtype(label_map.dtype, np.integer):
        raise VoclabError(
            "A label map has shape (H, W) and an integer type, "
            f"this one is {label_map.shape} {label_map.dtype}; take the argmax over the classes first."
        )
    flat = label_map.ravel()
    if not flat.size:
        return ""
    first = np.flatnonzero(np.append(True, flat[1:] != flat[:-1]))
    end = np.append(first[1:], flat.size)
    label = flat[first].astype(np.int64)
    wrong = label[(label < 0) | ((label > classes) & (label != VOID))]
    if wrong.size:
        raise VoclabError(f"A label map holds {wrong[0]}; allowed are 0 to {classes}, and {VOID} for void.")
    # In the stack class by class, and within a class by position.
    order = np.argsort(label, kind="stable")
    order = order[(label[order] > 0) & (label[order] <= classes)]
    layer = (label[order] - 1) * flat.size
    return _text(first[order] + layer, end[order] + layer)


def decode_segmentation(text: str, shape: tuple[int, int], classes: int = len(VOC_CLASSES)) -> np.ndarray:
    """The label map, shape (H, W), uint8, that ``encode_segmentation`` turned into ``text``.

    The code of a stack can give a pixel two classes, a label map cannot: such text is refused.
    """
    stack = rle_decode(text, (classes, *shape))
    doubled = np.count_nonzero(stack.sum(0) > 1)
    if doubled:
        raise VoclabError(
            f"Run-length code of a segmentation gives {doubled} pixels more than one class, which a label map"
            f" cannot hold; decode it with rle_decode(text, {stack.shape})."
        )
    return np.where(stack.any(0), stack.argmax(0) + 1, 0).astype(np.uint8)


def parse_runs(code: str, where: str, size: int | None = None) -> np.ndarray:
    """Read run-length code into runs, (n, 2) int64 half-open intervals counted from 0.

    Runs that touch (``1 2 3 1``) are legal: they name a set of positions without ambiguity, and
    the scorer takes them; only the encoders promise to merge them.

    Args:
        code: the text, ASCII digits and single spaces.
        where: what the text is, the beginning of an error message.
        size: number of positions there are; ``None`` leaves the upper end unchecked.

    Raises:
        VoclabError: it names the first number or run that is wrong, out of order or beyond ``size``.
    """
    if not code:
        return np.empty((0, 2), np.int64)
    tokens = code.split(" ")
    for number, token in enumerate(tokens, 1):
        if not token:
            raise _faulty(where, f"there is a space too many before number {number}")
        if not (token.isascii() and token.isdigit() and len(token) <= _DIGITS):
            shown = repr(token if len(token) <= 24 else token[:20] + "…")
            raise _faulty(where, f"number {number} is {shown}, not a whole number of up to {_DIGITS} digits")
    if len(tokens) % 2:
        raise _faulty(where, f"the count of numbers, {len(tokens)}, is odd")
    numbers = np.array(list(map(int, tokens)), np.int64).reshape(-1, 2)
    first, end = numbers[:, 0] - 1, numbers.sum(1) - 1
    below = (numbers < 1).any(1)
    early = first < np.append(0, end[:-1])
    beyond = end > (np.inf if size is None else size)
    for k in np.flatnonzero(below | early | beyond):
        said = f"is out of range, as there are {size} positions"
        if below[k]:
            said = "has a start or a length below 1"
        elif early[k]:
            said = f"begins before run {k} ends"
        raise _faulty(where, f"run {k + 1} ('{numbers[k, 0]} {numbers[k, 1]}') {said}")
    return np.stack((first, end), axis=1)


def _faulty(where: str, reason: str) -> VoclabError:
    return VoclabError(
        f"{where}: {reason}; expected are pairs 'start length', counted from 1, in rising order without"
        " overlap, separated by single spaces."
    )


def _text(first: np.ndarray, end: np.ndarray) -> str:
    """The code of sorted, disjoint runs; those that touch become one."""
    if not first.size:
        return ""
    apart = first[1:] != end[:-1]
    first, end = first[np.append(True, apart)], end[np.append(apart, True)]
    return " ".join(map(str, np.stack((first + 1, end - first), axis=1).ravel().tolist()))
