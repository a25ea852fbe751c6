"""The competition's score: mean Dice coefficient over rows, computed on runs, without any array."""

import os
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from voclab.errors import VoclabError
from voclab.kaggle import rows
from voclab.kaggle.codec import parse_block, parse_runs

_BLOCK = 32  # rows parsed and compared at once; more is no faster and takes more memory


@dataclass(frozen=True, eq=False)
class Score:
    """What a submission scores against the truth.

    Attributes:
        mean: the competition's score, the mean of ``dice``.
        classification: mean over the classification rows; ``None`` if there are none.
        segmentation: mean over the segmentation rows; ``None`` if there are none.
        rows: names of the rows (``{Id}_{kind}``), in the order of the truth.
        dice: (rows,) float64, the Dice coefficient of each row, in [0, 1].
    """

    mean: float
    classification: float | None
    segmentation: float | None
    rows: tuple[str, ...]
    dice: np.ndarray


def score_submission(pred_path: str | os.PathLike, truth_path: str | os.PathLike) -> Score:
    """Score one submission file against another that holds the truth.

    Rows are matched by name, in whatever order they stand; a few rows of each file are in memory at
    a time. Both files need the same rows, of one kind or both.

    Raises:
        VoclabError: a row that only one of the files has, is doubled, or cannot be read.
    """
    predicted, truth = rows.index_rows(pred_path), rows.index_rows(truth_path)
    for name in truth:
        if name not in predicted:
            raise VoclabError(f"{pred_path} lacks row '{name}' of {truth_path}; write it with the same ids.")
    for name, place in predicted.items():
        if name not in truth:
            raise rows.fault(pred_path, place.line, "Id", f"row '{name}' is not in {truth_path}")
    names = tuple(truth)
    with rows.opened(pred_path) as pred_file, rows.opened(truth_path) as truth_file:
        dice = np.concatenate(
            [
                _dice(
                    _runs(pred_path, pred_file, [predicted[name] for name in block]),
                    _runs(truth_path, truth_file, [truth[name] for name in block]),
                    len(block),
                )
                for block in (names[start : start + _BLOCK] for start in range(0, len(names), _BLOCK))
            ]
        )
    kinds = np.array([rows.split_name(name)[1] for name in names])
    classification, segmentation = (
        float(dice[kinds == kind].mean()) if kind in kinds else None for kind in rows.KINDS
    )
    return Score(float(dice.mean()), classification, segmentation, names, dice)


def _runs(path: str | os.PathLike, file: BinaryIO, places: list[rows.Place]) -> tuple[np.ndarray, np.ndarray]:
    """Runs of the rows at these places, and for each run the index of its row."""
    codes = [rows.row_at(path, file, place).code for place in places]
    block = parse_block(codes)
    if block is None:
        for place, code in zip(places, codes):
            parse_runs(code, f"{path}, line {place.line}, column Predicted")
        raise AssertionError("a block of rows was refused though each of them is sound")
    return block


def _dice(a: tuple[np.ndarray, np.ndarray], b: tuple[np.ndarray, np.ndarray], count: int) -> np.ndarray:
    """2·|A∩B| / (|A|+|B|) for each of ``count`` rows, given their runs; 1 when both are empty.

    The rows are laid one behind the other on one axis. For each end of a run of A the number of
    positions of B below it is found by a binary search; differences give what a run of A shares.
    """
    (a_runs, a_row), (b_runs, b_row) = a, b
    total = _sum_by_row(a_row, np.diff(a_runs).ravel(), count) + _sum_by_row(
        b_row, np.diff(b_runs).ravel(), count
    )
    if not len(a_runs) or not len(b_runs):
        return np.where(total, 0.0, 1.0)
    stride = max(a_runs[:, 1].max(), b_runs[:, 1].max())
    edges = (a_runs + a_row[:, None] * stride).ravel()
    first, length = b_runs[:, 0] + b_row * stride, np.diff(b_runs).ravel()
    complete = np.cumsum(length) - length  # positions of B before each of its runs
    run = np.maximum(np.searchsorted(first, edges, side="right") - 1, 0)  # the last that has begun
    below = complete[run] + np.clip(edges - first[run], 0, length[run])
    common = _sum_by_row(a_row, below[1::2] - below[::2], count)
    return np.divide(2 * common, total, out=np.ones(count), where=total > 0)


def _sum_by_row(row: np.ndarray, values: np.ndarray, count: int) -> np.ndarray:
    sums = np.zeros(count, np.int64)
    np.add.at(sums, row, values)
    return sums
