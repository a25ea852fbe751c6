"""Images of robustness: measures under each perturbation with intervals, and the images themselves."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from voclab.plotting.base import (
    RIGHT,
    WRONG,
    chart,
    dot_height,
    dots,
    grid_axes,
    legend_below,
    look,
    remove_empty,
    styled,
)
from voclab.plotting.classification import image_grid

_COLUMNS = 4  # of images


@styled
def dots_with_intervals(
    tables: Mapping[str, pd.DataFrame], panels: Mapping[str, str], apart: int = 0, percent: bool = False
) -> Figure:
    """Measures of several networks, a line a condition, each a dot with its interval.

    ``tables`` have a row a condition and columns ``measure``, ``measure low`` and ``measure high``, which are
    NaN where no interval is known; ``panels`` are measure -> label of its axis. The last ``apart`` rows are
    no conditions like the others, e.g. their mean. With ``percent`` shares in [0, 1] are shown as 0 to 100.
    """
    rows = list(next(iter(tables.values())).index)
    lines = len(rows) * max(0.4, 0.14 * len(tables))
    figure, axes = grid_axes(1, len(panels), width=7.6 if len(panels) == 1 else 5.2, height=1.3 + lines)
    y = np.arange(len(rows))[::-1]
    factor = 100 if percent else 1
    for axis, (measure, label) in zip(axes[0], panels.items()):
        for k, (name, table) in enumerate(tables.items()):
            values = factor * table[[measure, f"{measure} low", f"{measure} high"]].to_numpy(float)
            # Rounding can put an end of a narrow interval on the wrong side of its mean.
            reach = np.clip(np.abs(values[:, :1] - values[:, 1:]), 0, None).T
            at = y + dot_height(k, len(tables))
            axis.errorbar(values[:, 0], at, xerr=reach, ls="", lw=1.4, capsize=2.5, label=name, **look(k))
        for row in y[:-1]:
            last = row == apart
            axis.axhline(row - 0.5, color="#777777" if last else "#dddddd", lw=1.2 if last else 0.6)
        axis.set_yticks(y, rows)
        axis.tick_params(axis="y", length=0)
        axis.grid(axis="y", visible=False)
        axis.set(xlabel=label, ylim=(-0.6, len(rows) - 0.4))
        if percent:
            axis.set_xlim(-2, 102)
    for axis in axes[0, 1:]:
        axis.set_yticklabels([])
    legend_below(figure)
    return figure


@styled
def share_distribution(shares: Mapping[str, np.ndarray], steps: int, marks: Mapping[str, float]) -> Figure:
    """For each network how many images keep which share of their answers under ``steps`` perturbations.

    ``shares`` are (images,) in [0, 1]; ``marks`` are shares that were published of one image, drawn as lines.
    """
    columns = 2 if len(shares) == 4 else min(len(shares), 3)
    rows = -(-len(shares) // columns)
    figure, axes = grid_axes(rows, columns, width=max(3.5, 7.0 / columns), height=3.1)
    highest = 0.0
    for k, (axis, (name, values)) in enumerate(zip(axes.flat, shares.items())):
        counts = np.bincount(np.rint(steps * np.asarray(values)).astype(int), minlength=steps + 1)
        heights = 100 * counts / counts.sum()
        highest = max(highest, heights.max())
        axis.bar(range(steps + 1), heights, 0.85, color=look(k)["color"])
        mean = float(np.mean(values))
        axis.axvline(steps * mean, color="black", ls="--", lw=1.4)
        title = f"{name}\nmean {100 * mean:.0f} % (dashed)"
        if name in marks:
            axis.axvline(steps * marks[name], color="#767676", ls=":", lw=1.8)
            title += f", published {100 * marks[name]:.0f} %"
        axis.set_title(title)
        axis.set_xticks(range(0, steps + 1, 2))
        axis.set_xlabel(f"answers kept, of {steps}")
        axis.grid(axis="x", visible=False)
    for axis in axes.flat[: len(shares)]:
        axis.set_ylim(0, 1.08 * highest)
    for axis in axes[:, 0]:
        axis.set_ylabel("images (%)")
    remove_empty(axes)
    return figure


def perturbed_versions(
    images: Sequence[np.ndarray], titles: Sequence[str], said: Sequence[str], kept: Sequence[bool]
) -> Figure:
    """An image (H, W, 3) uint8 and its perturbed versions, each with what a network says of it.

    The original is first; ``kept`` tells whether the answer is the same as for it.
    """
    texts = [f"{titles[0]}\n{said[0]}"]
    texts += [
        f"{title}\n{'kept' if same else 'now'}: {_short(answer)}"
        for title, answer, same in zip(titles[1:], said[1:], kept[1:], strict=True)
    ]
    colours = ["black", *(RIGHT if same else WRONG for same in kept[1:])]
    return image_grid(images, texts, min(_COLUMNS, len(images)), colours)


def _short(text: str, most: int = 22) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


@styled
def condition_scores(scores: Mapping[str, pd.Series], label: str) -> Figure:
    """A score in [0, 1] of networks under many conditions, a line each; the first is the clean one."""
    rows = list(next(iter(scores.values())).index)
    figure, axis = chart(7.6, 1.2 + 0.27 * len(rows))
    for k, series in enumerate(scores.values()):
        axis.axvline(series.iloc[0], color=look(k)["color"], lw=1, ls=":")
    dots(axis, rows, scores, 7)
    axis.set_xlabel(f"{label} (dotted: clean)")
    if len(scores) > 1:
        legend_below(figure)
    return figure


@styled
def severity_panels(panels: Mapping[str, Mapping[str, Sequence[float]]], label: str) -> Figure:
    """Error in [0, 1] over the severity of corruptions, a panel a family.

    ``panels`` are family -> line -> errors at severities 0 (clean), 1, and so on.
    """
    figure, axes = grid_axes(-(-len(panels) // 2), 2, width=4.6, height=3.1)
    same = len({tuple(lines) for lines in panels.values()}) == 1
    for number, (axis, (title, lines)) in enumerate(zip(axes.flat, panels.items())):
        for k, (name, values) in enumerate(lines.items()):
            axis.plot(range(len(values)), values, label=name, **look(k, 5))
        axis.set(title=title, xlabel="severity (0: clean)", ylim=(0, 1.02))
        axis.set_xticks(range(len(values)))
        if number % 2:
            axis.set_yticklabels([])
        else:
            axis.set_ylabel(label)
        if not same:
            axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)
    remove_empty(axes)
    if same:
        legend_below(figure)
    return figure
