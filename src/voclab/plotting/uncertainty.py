"""Figures of uncertainty: promised and achieved recall, and which unknown images pass as known."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from voclab.plotting.base import fitted, grid_axes, legend_below, look, remove_empty, spread, styled

_APART = 0.003  # of the recalls of several conditions at one promise


@styled
def promised_recall(promises: pd.DataFrame, size: str) -> Figure:
    """Achieved over promised recall, and how much is named for it; a line a condition, in percent.

    ``promises`` is the table of :class:`voclab.evaluation.uncertainty.Uncertainty`; ``size`` says what its
    sizes count. On or above the diagonal the promise is kept.
    """
    figure, (axes,) = grid_axes(1, 2, width=4.6, height=4.0)
    figure.get_layout_engine().set(wspace=0.08)
    conditions = list(dict.fromkeys(promises["condition"]))
    ends = np.array([promises["promised"].min(), promises["promised"].max()])
    axes[0].plot(100 * ends, 100 * ends, color="#888888", lw=1, label="target")
    for k, condition in enumerate(conditions):
        rows = promises[promises["condition"] == condition]
        x = 100 * (rows["promised"] + spread(k, len(conditions), _APART))
        reach = 100 * np.array([rows["recall"] - rows["low"], rows["high"] - rows["recall"]]).clip(0)
        style = {"label": condition.replace("_", " "), **look(k)}
        axes[0].errorbar(x, 100 * rows["recall"], yerr=reach, lw=1.2, capsize=2.5, **style)
        axes[1].plot(x, rows["size"], lw=1.2, **style)
    for axis in axes:
        axis.set_xticks(100 * promises["promised"].unique())
        axis.set_xlabel("target recall (%)")
    axes[0].set_ylabel("achieved recall (%)")
    axes[1].set(ylabel=size, ylim=(0, None))
    legend_below(figure)
    return figure


@styled
def known_and_unknown(panels: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]]) -> Figure:
    """ROC curves: the share of known images over that of unknown images that pass as known.

    ``panels`` are set of unknown images -> score -> (share of unknown, share of known images) over all
    thresholds. The dotted line is where 95 % of the known images pass.
    """
    columns = 2 if len(panels) == 4 else min(3, len(panels))
    figure, axes = grid_axes(-(-len(panels) // columns), columns, width=3.4, height=3.5)
    for number, (axis, (title, curves)) in enumerate(zip(axes.flat, panels.items())):
        axis.plot([0, 1], [0, 1], color="#888888", lw=1, label="chance")
        axis.axhline(0.95, color="#888888", lw=1, ls=":")
        for k, (name, (unknown, known)) in enumerate(curves.items()):
            step = max(1, len(unknown) // 6)
            axis.plot(unknown, known, lw=1.4, label=name, markevery=(k, step), **look(k, 5))
        axis.set_title(fitted(title, 3.2, 11))
        axis.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal", xlabel="unknown that pass (share)")
        if number % columns == 0:
            axis.set_ylabel("known that pass (share)")
    remove_empty(axes)
    legend_below(figure)
    return figure
