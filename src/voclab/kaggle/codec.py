"""Run-length code: label vectors and label maps to text and back.

The code is pairs ``start length``, separated by single spaces, starts counted from 1 over the array
flattened in C order; the empty set of positions is the empty string. Inside the package runs are
an (n, 2) int64 array of half-open intervals ``[first, end)`` counted from 0, sorted and disjoint.
"""

import math
from collections.abc import Sequence
from functools import cache

import numpy as np

from voclab.data.base import VOC_CLASSES, VOID
from voclab.errors import VoclabError

_LARGEST = 10**15 - 1  # sums of a thousand of them stay exact in int64
_SHORT = 64  # numbers up to which str() beats the set-up of the digit tables


def rle_encode(array: np.ndarray) -> str:
    """Run-length code of the ones in an array of any shape that holds only 0 and 1.

    Raises ``VoclabError`` for any other value (scores, the -1 of the competition's test_set.csv).
    """
    flat = np.asarray(array).ravel()
    ones = flat == 1
    if not np.all(ones | (flat == 0)):
        raise VoclabError("Only an array of 0 and 1 has a run-length code; threshold the values first.")
    return _format_runs(_runs_of(ones))


def rle_decode(text: str, shape: tuple[int, ...]) -> np.ndarray:
    """The array of ``shape``, uint8 0/1, whose ones ``text`` encodes.

    Raises ``VoclabError`` for text that is malformed or reaches beyond the array.
    """
    array = np.zeros(shape, np.uint8)
    flat = array.reshape(-1)
    for first, end in parse_runs(
        text.encode("utf-8", "backslashreplace"), "Run-length code", flat.size
    ).tolist():
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
    if flat.size == 0:
        return ""
    bounds = np.concatenate(([0], np.flatnonzero(flat[1:] != flat[:-1]) + 1, [flat.size]))
    labels = flat[bounds[:-1]]
    order = np.argsort(labels, kind="stable")  # by class, and within a class by position
    labels = labels[order]
    foreground = slice(*np.searchsorted(labels, (1, classes + 1)))
    beyond = labels[foreground.stop :]
    if labels[0] < 0 or (beyond.size and (beyond[0] != VOID or beyond[-1] != VOID)):
        wrong = labels[(labels < 0) | ((labels > classes) & (labels != VOID))][0]
        raise VoclabError(f"A label map holds {wrong}; allowed are 0 to {classes}, and {VOID} for void.")
    order = order[foreground]
    layer = (labels[foreground].astype(np.int64) - 1) * flat.size
    first, end = bounds[order] + layer, bounds[order + 1] + layer
    apart = first[1:] != end[:-1]
    if not apart.all():
        first, end = first[np.append(True, apart)], end[np.append(apart, True)]
    return _format_runs(np.stack((first, end), axis=1))


def decode_segmentation(text: str, shape: tuple[int, int], classes: int = len(VOC_CLASSES)) -> np.ndarray:
    """The label map, shape (H, W), uint8, that ``encode_segmentation`` turned into ``text``.

    The code of a stack can give a pixel two classes, a label map cannot: such text is refused.

    Raises:
        VoclabError: ``text`` is malformed, reaches beyond the stack or gives a pixel two classes.
    """
    height, width = shape
    size = height * width
    runs = parse_runs(
        text.encode("utf-8", "backslashreplace"), "Run-length code of a segmentation", classes * size
    )
    label_map = np.zeros(size, np.uint8)
    for first, end in runs.tolist():
        while first < end:
            layer, pixel = divmod(first, size)
            stop = min(end, (layer + 1) * size)
            label_map[pixel : stop - layer * size] = layer + 1
            first = stop
    doubled = np.diff(runs).sum() - np.count_nonzero(label_map)
    if doubled:
        raise VoclabError(
            f"Run-length code of a segmentation: {doubled} pixels are given to a second class, which a label "
            f"map cannot hold; decode it with rle_decode(text, {(classes, height, width)})."
        )
    return label_map.reshape(shape)


def _bytes(text: str) -> bytes:
    return text.encode(
        "utf-8", "backslashreplace"
    )  # half a surrogate pair is refused later, as other letters


def parse_runs(code: bytes, where: str, size: int | None = None) -> np.ndarray:
    """Read run-length code into runs, (n, 2) int64 half-open intervals counted from 0.

    Runs that touch (``1 2 3 1``) are legal: they name a set of positions without ambiguity, and
    the scorer takes them; only ``rle_encode`` promises to merge them.

    Args:
        code: the text, ASCII digits and single spaces.
        where: what the text is, the beginning of an error message.
        size: number of positions there are; ``None`` leaves the upper end unchecked.

    Raises:
        VoclabError: not a number, an odd count, a start or length below 1, runs that overlap or are
            out of order, or beyond ``size``. The message names the first wrong number or run.
    """
    block = parse_block([code])
    if block is not None:
        runs, _ = block
        if size is None or not len(runs) or runs[-1, 1] <= size:
            return runs
    raise VoclabError(
        f"{where}: {_first_fault(code, size)}; expected are pairs 'start length', counted from 1, "
        "in rising order without overlap, separated by single spaces."
    )


def parse_block(codes: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray] | None:
    """Runs of several codes, read in one go: ``parse_runs`` without its overhead for each code.

    Returns:
        (n, 2) int64 runs of all codes, one code after the other, and (n,) the index of the code that
        each run comes from; ``None`` if any code is faulty (``parse_runs`` tells how).
    """
    filled = [index for index, code in enumerate(codes) if code]
    if not filled:
        return np.empty((0, 2), np.int64), np.empty(0, np.int64)
    text = b" 0 ".join([codes[index] for index in filled])  # no sound code holds a 0: it marks the borders
    if text[0] == 0x20 or text[-1] == 0x20 or b"  " in text or text.translate(None, b"0123456789 "):
        return None
    # Text mode of fromstring, which is not the deprecated one; numbers beyond int64 saturate.
    numbers = np.fromstring(text, np.int64, sep=" ")
    borders = np.flatnonzero(numbers == 0)
    counts = np.diff(borders, prepend=-1, append=numbers.size) - 1
    if len(counts) != len(filled) or np.any(counts % 2) or numbers.max() > _LARGEST:
        return None
    runs = np.delete(numbers, borders).reshape(-1, 2)
    runs[:, 0] -= 1
    runs[:, 1] += runs[:, 0]
    source = np.repeat(filled, counts // 2)
    if not np.all((runs[1:, 0] >= runs[:-1, 1]) | (source[1:] != source[:-1])):
        return None
    return runs, source


def _first_fault(code: bytes, size: int | None) -> str:
    """Why ``parse_runs`` refused ``code``: the plain reading, one number after the other."""
    tokens = code.decode("utf-8", "backslashreplace").split(" ")
    for number, token in enumerate(tokens, 1):
        if token == "":
            return f"there is a space too many before number {number}"
        if not (token.isascii() and token.isdigit()):
            return f"number {number} is {_shortened(token)!r}, not a whole number written in digits"
        if len(token.lstrip("0")) > len(str(_LARGEST)):
            return f"number {number}, {_shortened(token)}, is too large"
    if len(tokens) % 2:
        return f"the count of numbers, {len(tokens)}, is odd"
    previous = end = 1
    for run, (start, length) in enumerate(zip(map(int, tokens[::2]), map(int, tokens[1::2])), 1):
        name = f"run {run} ('{start} {length}')"
        if start < 1:
            return f"{name} starts below 1"
        if length < 1:
            return f"{name} has a length below 1"
        if start < end:
            return f"{name} {'overlaps' if start >= previous else 'begins before'} run {run - 1}"
        if size is not None and start + length - 1 > size:
            return f"{name} is out of range, as there are {size} positions"
        previous, end = start, start + length
    raise AssertionError("run-length code was refused without a fault")


def _shortened(token: str) -> str:
    return token if len(token) <= 24 else token[:20] + "…"


def _runs_of(ones: np.ndarray) -> np.ndarray:
    """Runs of the true values of a flat boolean array."""
    if ones.size == 0:
        return np.empty((0, 2), np.int64)
    bounds = np.flatnonzero(ones[1:] != ones[:-1]) + 1
    edges = (np.zeros(int(ones[0]), np.int64), bounds, np.full(int(ones[-1]), ones.size))
    return np.concatenate(edges).reshape(-1, 2)


def _format_runs(runs: np.ndarray) -> str:
    numbers = np.empty(runs.shape, np.int64)
    numbers[:, 0] = runs[:, 0] + 1
    numbers[:, 1] = runs[:, 1] - runs[:, 0]
    return _join(numbers.ravel())


def _join(numbers: np.ndarray) -> str:
    """``" ".join(map(str, numbers))`` for positive integers, six times as fast.

    Every number is cut into groups of four decimal digits, each group looked up as four ASCII
    bytes; what would be a leading zero is a NUL, and all NULs are dropped from the bytes at once.
    """
    if numbers.size <= _SHORT:
        return " ".join(map(str, numbers.tolist()))
    bare_and_padded, space = _digit_tables()
    groups = math.ceil(len(str(numbers.max())) / 4)
    words = np.empty((numbers.size, groups + 1), np.uint32)
    words[:, groups] = space
    rest = numbers.astype(np.uint32) if groups <= 2 else numbers  # half the time of int64
    for group in reversed(range(groups)):
        higher = rest // 10_000
        words[:, group] = bare_and_padded[rest - higher * 10_000 + (higher > 0) * 10_000]
        rest = higher
    return words.tobytes().translate(None, b"\0")[:-1].decode("ascii")


@cache
def _digit_tables() -> tuple[np.ndarray, np.uint32]:
    """Four ASCII bytes for 0 to 9999 without, then with leading zeros, as (20000,) uint32; and a space.

    0 without leading zeros is nothing at all: it only ever stands above a number's first digit.
    """
    padded = b"".join(b"%04d" % number for number in range(10_000))
    bare = b"".join((b"%d" % number if number else b"").rjust(4, b"\0") for number in range(10_000))
    return np.frombuffer(bare + padded, np.uint32), np.frombuffer(b" \0\0\0", np.uint32)[0]
