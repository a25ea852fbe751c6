"""Random numbers for whole photos: bits in bulk, and whole numbers of any distribution by table."""

import math
from collections.abc import Sequence

import numpy as np

_UNSURE = np.iinfo(np.int16).min  # in a table: the cell holds more than one number


def generator(seed: int | Sequence[int] | np.random.SeedSequence) -> np.random.Generator:
    """A generator whose bits take half the time of numpy's default one; seeds are spread in the same way."""
    return np.random.Generator(np.random.SFC64(seed))


def bits(rng: np.random.Generator, shape: tuple[int, ...], kind: type[np.unsignedinteger]) -> np.ndarray:
    """Independent numbers of an unsigned type (16 or 32 bits), each as likely as any other: ``shape``."""
    count, parts = math.prod(shape), 8 // np.dtype(kind).itemsize
    words = rng.integers(0, 2**64, -(-count // parts), np.uint64)
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
        self._lowest, self._shift = lowest, 16 - cell_bits
        self._rows, self._steps = cumulative.shape
        cells = 2**cell_bits
        # One sorted list for all rows: row r lies in [r, r + 1].
        self._cumulative = (cumulative + np.arange(self._rows)[:, None]).ravel()
        ends = cumulative * cells
        first = np.ceil(ends).astype(np.int64)  # the first cell that begins at or beyond each step
        lengths = np.diff(first, axis=1, prepend=0, append=cells)
        numbers = np.arange(lowest, lowest + self._steps + 1, dtype=np.int16)
        self._cells = np.repeat(np.tile(numbers, self._rows), lengths.ravel())
        row, step = np.nonzero(first != ends)
        self._cells[row * cells + first[row, step] - 1] = _UNSURE

    def draw(
        self, rng: np.random.Generator, shape: tuple[int, ...], rows: np.ndarray | None = None
    ) -> np.ndarray:
        """Independent draws: ``shape``, int16.

        Args:
            rng: source of the bits.
            shape: of the result.
            rows: of that shape, whole numbers: which of the distributions; the first without it.
        """
        chosen = bits(rng, shape, np.uint16) >> self._shift if self._shift else bits(rng, shape, np.uint16)
        if rows is not None:
            chosen = chosen + rows.astype(np.int32) * 2 ** (16 - self._shift)
        drawn = self._cells.take(chosen, out=np.empty(shape, np.int16), mode="clip")
        unsure = np.flatnonzero(drawn == _UNSURE)
        if len(unsure):
            # The row is the whole part of the cell's place in the sorted list.
            place = (chosen.ravel()[unsure] + rng.random(len(unsure))) / 2 ** (16 - self._shift)
            row = place.astype(np.int64)
            step = np.searchsorted(self._cumulative, place, side="right") - row * self._steps
            drawn.ravel()[unsure] = self._lowest + np.minimum(step, self._steps)
        return drawn
