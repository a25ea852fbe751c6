"""Random numbers for whole images: bits in bulk, and whole numbers of any distribution by table."""

import math
from collections.abc import Sequence

import cv2
import numpy as np

from voclab.errors import VoclabError

# OpenCV looks up 16 bits from 4.13 on, in two thirds of numpy's time.
_OPENCV_LOOKS_UP = tuple(int(part) for part in cv2.__version__.split(".")[:2]) >= (4, 13)
_UNSURE = np.iinfo(np.int16).min  # in a table: the cell holds more than one number


def generator(seed: int | Sequence[int] | np.random.SeedSequence) -> np.random.Generator:
    """A generator whose bits take 0.6 of the time of numpy's default one's; seeds are spread the same way."""
    return np.random.Generator(np.random.SFC64(seed))


def bits(rng: np.random.Generator, shape: tuple[int, ...], kind: type[np.unsignedinteger]) -> np.ndarray:
    """Independent numbers of an unsigned type (16 or 32 bits), each as likely as any other: ``shape``.

    Raises:
        VoclabError: the generator stands on MT19937, whose words have 32 bits; all others of numpy have 64.
    """
    if isinstance(rng.bit_generator, np.random.MT19937):
        raise VoclabError(
            "MT19937 gives too few bits at a time; make the generator with np.random.default_rng."
        )
    count, parts = math.prod(shape), 8 // np.dtype(kind).itemsize
    words = rng.bit_generator.random_raw(-(-count // parts))
    return words.view(kind)[:count].reshape(shape)


def uniform(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Independent draws from -1 to 1: ``shape``, float32."""
    return np.multiply(bits(rng, shape, np.uint32).view(np.int32), 2**-31, dtype=np.float32)


class Table:
    """Whole numbers drawn by inverting their distribution, exactly, with a look-up for nearly all of them.

    The unit interval is cut into 2^b cells. Sixteen random bits choose one; where all of it belongs to one
    number, that is the draw. Where it does not, more random bits say which part of the cell is meant. So a
    draw is as exact as double precision, and the same bits give a draw further out of a wider distribution.

    Args:
        lowest: the smallest number.
        cumulative: (k,) or, for several distributions, (n, k) probabilities, each at least the one before:
            entry i is that of ``lowest + i`` or less. What is left belongs to ``lowest + k``.
        cell_bits: b, at most 16.
    """

    def __init__(self, lowest: int, cumulative: np.ndarray, cell_bits: int = 16):
        cumulative = np.atleast_2d(cumulative)
        (rows, self._steps), self._lowest, self._bits = cumulative.shape, lowest, cell_bits
        ends = cumulative * 2.0**cell_bits
        first = np.ceil(ends).astype(np.int64)  # the first cell that begins at or beyond each step
        lengths = np.diff(first, axis=1, prepend=0, append=2**cell_bits)
        numbers = np.arange(lowest, lowest + self._steps + 1, dtype=np.int16)
        self._cells = np.repeat(np.tile(numbers, rows), lengths.ravel())
        starts = np.arange(rows)[:, None] << cell_bits
        self._cells[(starts + first - 1)[first != ends]] = _UNSURE
        self._ends = (starts + ends).ravel()

    def draw(
        self, rng: np.random.Generator, shape: tuple[int, ...], rows: np.ndarray | None = None
    ) -> np.ndarray:
        """Independent draws: ``shape``, int16.

        Args:
            rng: source of the bits.
            shape: of the result.
            rows: of that shape, whole numbers: which of the distributions; the first without it.
        """
        chosen = bits(rng, shape, np.uint16)
        if self._bits < 16:
            chosen >>= 16 - self._bits
        if rows is not None:
            chosen = chosen | (rows.astype(np.uint32) << self._bits)
        if rows is None and len(self._cells) == 2**16 and _OPENCV_LOOKS_UP:
            drawn = cv2.LUT(chosen, self._cells).reshape(shape)
        else:
            drawn = self._cells.take(chosen, out=np.empty(shape, np.int16), mode="clip")
        unsure = np.flatnonzero(drawn == _UNSURE)
        cell = chosen.ravel()[unsure]
        steps = self._ends.searchsorted(cell + rng.random(len(unsure)), "right")
        if rows is not None:
            steps = np.minimum(steps - (cell >> self._bits) * np.int64(self._steps), self._steps)
        drawn.ravel()[unsure] = steps + self._lowest
        return drawn
