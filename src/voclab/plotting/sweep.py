"""What a search for settings found: the score over the trials and over each setting."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from voclab.experiments.search import Range
from voclab.plotting.base import COLOURS, RIGHT, chart, grid_axes, remove_empty, styled

_COLUMNS = 3  # of settings
_DOT = {"ls": "", "marker": "o", "ms": 6, "mec": "white", "mew": 0.5}


@styled
def sweep_history(scores: pd.Series, label: str) -> Figure:
    """The score of each trial (index: its number; NaN where it failed), and the best so far."""
    figure, axis = chart(6.4, 3.2)
    axis.plot(scores.index, scores, color=COLOURS[0], label="trial", **_DOT)
    best = scores.cummax().ffill()
    axis.step(best.index, best, where="post", color=COLOURS[1], label="best so far")
    axis.set(xlabel="trial", ylabel=label)
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.legend()
    return figure


@styled
def sweep_settings(table: pd.DataFrame, searched: Mapping[str, Range | tuple], label: str) -> Figure:
    """The score over each setting, the best trial ringed; what is no number has a place for each value.

    Args:
        table: a row a trial, with the columns ``score`` and ``searched``.
        searched: name of a setting -> its range or choices.
        label: what the score is called.
    """
    columns = min(_COLUMNS, len(searched))
    figure, axes = grid_axes(-(-len(searched) // columns), columns, width=3.2, height=2.6)
    for axis, (name, values) in zip(axes.flat, searched.items()):
        at = _places(axis, table[name])
        axis.plot(at, table["score"], color=COLOURS[0], **_DOT)
        if table["score"].notna().any():
            best = int(np.nanargmax(table["score"]))
            axis.plot(at[best], table["score"].iloc[best], "o", ms=11, mfc="none", mec=RIGHT, mew=1.5)
        axis.set(xlabel=name, ylabel=label)
        if isinstance(values, Range) and values.log:
            axis.set(xscale="log", xlim=(values.low / 1.2, values.high * 1.2))
            axis.xaxis.set_major_formatter("{x:g}")
            axis.xaxis.set_minor_formatter(NullFormatter())
    remove_empty(axes)
    return figure


def _places(axis: Axes, values: pd.Series) -> np.ndarray:
    """Where values stand on the axis: numbers where they are, others side by side."""
    if pd.api.types.is_numeric_dtype(values):
        return values.to_numpy(float)
    names = sorted(map(str, values.unique()))
    axis.set_xticks(range(len(names)), names)
    axis.set_xlim(-0.5, len(names) - 0.5)
    return values.map(lambda value: names.index(str(value))).to_numpy(float)
