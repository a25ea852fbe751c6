"""The competition's score: mean Dice coefficient over rows, computed on runs, without any array."""

import os
from dataclasses import dataclass

import numpy as np

from voclab.errors import VoclabError
from voclab.kaggle.codec import parse_runs
from voclab.kaggle.rows import KINDS, Row, fault, read_rows


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

    Rows are matched by name, in whatever order they stand. Both files need the same rows, of one kind
    or both; a row that only one of them has, or that cannot be read, is a ``VoclabError``.
    """
    predicted, truth = read_rows(pred_path), read_rows(truth_path)
    for name in truth:
        if name not in predicted:
            raise VoclabError(f"{pred_path} lacks row '{name}' of {truth_path}; write it with the same ids.")
    for row in predicted.values():
        if row.name not in truth:
            raise fault(pred_path, row.line, "Id", f"row '{row.name}' is not in {truth_path}")
    pairs = ((_runs(pred_path, predicted[name]), _runs(truth_path, row)) for name, row in truth.items())
    dice = np.array([_dice(*pair) for pair in pairs])
    kinds = np.array([row.kind for row in truth.values()])
    means = {kind: float(dice[kinds == kind].mean()) if kind in kinds else None for kind in KINDS}
    return Score(mean=float(dice.mean()), **means, rows=tuple(truth), dice=dice)


def _runs(path: str | os.PathLike, row: Row) -> np.ndarray:
    return parse_runs(row.code, f"{path}, line {row.line}, column Predicted")


def _dice(a: np.ndarray, b: np.ndarray) -> float:
    """2·|A∩B| / (|A|+|B|) of two sets of positions, given their runs; 1 when both are empty."""
    total = np.diff(a).sum() + np.diff(b).sum()
    if not total:
        return 1.0
    # Along the positions each run's first adds one cover and its end takes one away: two are in both.
    edges = np.concatenate((a, b)).ravel()
    order = np.argsort(edges, kind="stable")
    covers = np.cumsum(np.tile((1, -1), edges.size // 2)[order])
    common = np.diff(edges[order])[covers[:-1] == 2].sum()
    return float(2 * common / total)
