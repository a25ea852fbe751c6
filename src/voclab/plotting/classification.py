"""Images of labels and classifiers: frequencies, calibration, heat maps."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from voclab.plotting.base import COLOURS, fitted, grid_axes, look, panel_width, row_height, styled

_DASHES = ("-", (0, (6, 1.5)), (0, (4, 2)), (0, (2, 2)), (0, (1, 2)))


@styled
def class_frequency(counts: Mapping[str, np.ndarray], class_names: Sequence[str]) -> Figure:
    """Share of images that show each class, one bar a split.

    Args:
        counts: split -> (classes,) shares in [0, 1].
        class_names: the classes.
    """
    figure, axes = grid_axes(1, 1, width=9, height=3.6)
    axis = axes[0, 0]
    order = np.argsort(-next(iter(counts.values())))
    width = 0.8 / len(counts)
    for k, (split, share) in enumerate(counts.items()):
        x = np.arange(len(order)) + (k - (len(counts) - 1) / 2) * width
        axis.bar(x, 100 * share[order], width, label=split, color=COLOURS[k])
    axis.set_xticks(range(len(order)), [class_names[k] for k in order], rotation=45, ha="right")
    axis.set(ylabel="images with the class (%)", xlabel="class")
    axis.grid(axis="x", visible=False)
    figure.legend(loc="outside upper right", ncols=len(counts))
    return figure


@styled
def reliability_diagram(
    tables: Mapping[str, dict],
    eces: Mapping[str, float],
    xlabel: str = "predicted probability of a label",
    ylabel: str = "share of those labels that are true",
) -> Figure:
    """Frequency over predicted probability for each model; the diagonal is perfect calibration.

    Bins with fewer than ten forecasts are left out: their frequency says nothing.

    Args:
        tables: model -> what ``voclab.metrics.reliability`` gives.
        eces: model -> expected calibration error.
        xlabel: what is forecast.
        ylabel: what is counted.
    """
    figure, axes = grid_axes(1, 1, width=5.2, height=4.6)
    axis = axes[0, 0]
    axis.plot([0, 1], [0, 1], color="#888888", lw=1, label="perfect calibration")
    for k, (name, table) in enumerate(tables.items()):
        label = f"{name} (ECE {eces[name]:.3f})"
        filled = np.asarray(table["count"]) >= 10
        # Dashes let a curve be seen through one that is the same.
        style = look(k, 5) | {"ls": _DASHES[k % len(_DASHES)]}
        axis.plot(table["confidence"][filled], table["frequency"][filled], label=label, **style)
    axis.set(xlabel=xlabel, ylabel=ylabel, xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    figure.legend(loc="outside lower center", ncols=1)
    return figure


@styled
def heat_maps(rows: Sequence[tuple[np.ndarray, Sequence[tuple[str, np.ndarray, str]]]]) -> Figure:
    """Images with heat maps over them.

    Args:
        rows: an image (H, W, 3) uint8 and a list of (title, heat (H, W) in [0, 1], title colour).
    """
    pairs = 2 if len(rows) > 3 else 1
    panels = 1 + max(len(maps) for _, maps in rows)
    widths = [*[1] * panels, 0.15, *[1] * panels][: pairs * (panels + 1) - 1]  # a gap between the pairs
    side = panel_width(sum(widths))
    rows = [
        (image, [(fitted(title, side), heat, colour) for title, heat, colour in maps]) for image, maps in rows
    ]
    lines = max((title.count("\n") + 1 for _, maps in rows for title, *_ in maps), default=1)
    heights = [
        side * row_height([image for image, _ in rows[k : k + pairs]]) for k in range(0, len(rows), pairs)
    ]
    figure, axes = plt.subplots(
        len(heights),
        len(widths),
        figsize=(side * sum(widths), sum(heights) + (0.12 + 0.15 * lines) * len(heights) + 0.3),
        height_ratios=heights,
        width_ratios=widths,
        squeeze=False,
        layout="constrained",
    )
    for axis in axes.flat:
        axis.axis("off")
        axis.set_anchor("N")
    for k, (image, maps) in enumerate(rows):
        row = axes[k // pairs, (k % pairs) * (panels + 1) :]
        row[0].imshow(image)
        row[0].set_title("image", fontsize=9)
        for axis, (title, heat, colour) in zip(row[1:], maps):
            axis.imshow(image)
            axis.imshow(heat, cmap="inferno", alpha=0.55, vmin=0, vmax=1)
            axis.set_title(title, fontsize=9, color=colour)
    return figure
