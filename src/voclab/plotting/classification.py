"""Figures of classifiers: images, frequencies, curves, scores of classes, calibration, heat maps."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from voclab.plotting.base import (
    COLOURS,
    chart,
    curve,
    curve_look,
    dots,
    fitted,
    grid_axes,
    heat_map,
    image_axes,
    legend_below,
    look,
    most_lines,
    panel_width,
    row_heights,
    spread,
    styled,
)

_DASHES = ("-", (0, (6, 1.5)), (0, (4, 2)), (0, (2, 2)), (0, (1, 2)))


@styled
def image_grid(
    images: Sequence[np.ndarray], titles: Sequence[str], columns: int, colours: Sequence[str] | None = None
) -> Figure:
    """Images (H, W, 3) uint8 in rows, each with a title, in its own colour if given."""
    side = panel_width(columns)
    size = 9 if side > 1.6 else 8
    titles = [fitted(title, side, size) for title in titles]
    heights = [side * height for height in row_heights(images, columns)]
    starts = range(0, len(images), columns)
    titled = sum(0.17 * (most_lines(titles[k : k + columns]) + 0.5) for k in starts)
    figure, axes = image_axes(heights, side * columns, columns, more=titled + 0.3)
    for axis in axes.flat:
        axis.axis("off")
        axis.set_anchor("N")  # titles of a row stand in one line
    for k, (axis, image, title) in enumerate(zip(axes.flat, images, titles)):
        axis.imshow(image)
        axis.set_title(title, fontsize=size, color="black" if colours is None else colours[k])
    return figure


@styled
def class_frequency(counts: Mapping[str, np.ndarray], class_names: Sequence[str]) -> Figure:
    """Shares (classes,) in [0, 1] of the images that show each class, a bar for each split."""
    figure, axis = chart(9, 3.6)
    order = np.argsort(-next(iter(counts.values())))
    x, width = np.arange(len(order)), 0.8 / len(counts)
    for k, (split, share) in enumerate(counts.items()):
        at = x + spread(k, len(counts), width)
        axis.bar(at, 100 * share[order], width, label=split, color=COLOURS[k])
    axis.set_xticks(x, [class_names[k] for k in order], rotation=45, ha="right")
    axis.set(ylabel="images with the class (%)", xlabel="class")
    axis.grid(axis="x", visible=False)
    figure.legend(loc="outside upper right", ncols=len(counts))
    return figure


@styled
def learning_curves(
    histories: Mapping[str, list[dict]],
    levels: Mapping[str, float] | None = None,
    *,
    metric: str = "map",
    metric_label: str = "mAP",
    loss_label: str = "binary cross-entropy",
) -> Figure:
    """Loss and a metric of all runs over epochs; runs without epochs as horizontal lines.

    ``histories`` are run -> entries with ``epoch``, the metric on validation data and, where they are known,
    ``loss``, ``validation_loss`` and ``training_`` + the metric. ``levels`` are run -> validation metric of a
    model that has no epochs.
    """
    figure, axes = grid_axes(1, 2, width=4.9, height=3.7)
    left, right = axes[0]
    seen = f"training_{metric}"
    entries = [e for history in histories.values() for e in history]
    trained, validated = (any(key in e for e in entries) for key in (seen, "validation_loss"))
    dashes = {"ls": "--", "lw": 1.2}  # mean validation wherever both are drawn
    for k, (name, history) in enumerate(histories.items()):
        style = curve_look(k, history, 4.5)
        curve(left, history, "loss", **style)
        curve(left, history, "validation_loss", **style, **dashes)
        curve(right, history, seen, **style)
        curve(right, history, metric, label=name, **style, **(dashes if trained else {}))
        best = max((e for e in history if metric in e), key=lambda e: e[metric])
        right.plot(best["epoch"], best[metric], **{**look(k, 8), "mec": "black", "mew": 1, "zorder": 3})
    for k, (name, level) in enumerate((levels or {}).items(), start=len(histories)):
        right.axhline(level, color=look(k)["color"], ls=":", lw=1.8, label=name)
    for axis in (left, right):
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    both = "training (solid), validation (dashed)"
    left.set(xlabel="epoch", ylabel=loss_label, title=f"Loss: {both}" if validated else "Training loss")
    title = f"{metric_label[0].upper()}{metric_label[1:]}: {both}"
    right.set(xlabel="epoch", ylabel=metric_label, title=title, ylim=(0, None))
    if not trained:
        right.set_title(f"Validation {metric_label}, best epoch outlined")
    legend_below(figure)
    return figure


@styled
def per_class_scores(
    scores: Mapping[str, np.ndarray],
    class_names: Sequence[str],
    label: str,
    *,
    order: Sequence[int] | None = None,
    notes: Sequence[str] | None = None,
) -> Figure:
    """One score (classes,) of each model, as dots on a line a class; NaN is left out.

    Classes stand in ``order`` from top to bottom, else from the best model's best to its worst. ``notes`` are
    written behind their names.
    """
    figure, axis = chart(7.6, 6.2)
    if order is None:
        best = max(scores, key=lambda name: np.nanmean(scores[name]))
        order = np.argsort(np.nan_to_num(scores[best], nan=-1))[::-1]
    stacked = np.stack(list(scores.values()))[:, list(order)]
    known = ~np.isnan(stacked).all(0)
    y = np.arange(len(order))[::-1]
    span = np.nanmin(stacked[:, known], 0), np.nanmax(stacked[:, known], 0)
    axis.hlines(y[known], *span, color="#bbbbbb", lw=1.5)
    for row in y[~known]:
        axis.text(0.01, row, "does not occur", color="#767676", fontsize=8, va="center")
    names = class_names if notes is None else [f"{n} ({note})" for n, note in zip(class_names, notes)]
    keys = [f"{name} (mean {np.nanmean(values):.2f})" for name, values in zip(scores, stacked)]
    dots(axis, [names[k] for k in order], dict(zip(keys, stacked)))
    axis.set_xlabel(label)
    legend_below(figure)
    return figure


@styled
def confusion(
    matrix: np.ndarray,
    class_names: Sequence[str],
    xlabel: str,
    ylabel: str,
    row_names: Sequence[str] | None = None,
    outlined: Sequence[tuple[int, int]] = (),
) -> Figure:
    """A (classes, classes) matrix of shares in [0, 1] as a heat map, entries over 5 % written; NaN is 0.

    ``row_names`` are ``class_names`` unless given; ``outlined`` entries, as (row, column), get a frame.
    """
    figure, axis = chart(8.4, 7.2)
    image = heat_map(axis, np.nan_to_num(matrix), row_names or class_names, class_names, least=0.05)
    for i, j in outlined:
        axis.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, fill=False, ec=COLOURS[3], lw=2))
    axis.tick_params(axis="x", rotation=90)
    axis.set(xlabel=xlabel, ylabel=ylabel)
    figure.colorbar(image, ax=axis, label="%", shrink=0.8)
    return figure


@styled
def reliability_diagram(
    tables: Mapping[str, dict],
    eces: Mapping[str, float],
    xlabel: str = "predicted probability of a label",
    ylabel: str = "share of those labels that are true",
) -> Figure:
    """Frequency over predicted probability for each model; the diagonal is perfect calibration.

    ``tables`` are what ``voclab.metrics.reliability`` gives; bins of fewer than ten forecasts are left out:
    their frequency says nothing. ``eces`` are the expected calibration errors.
    """
    figure, axis = chart(5.2, 4.6)
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
    """Images (H, W, 3) uint8 with their heat maps, two abreast if there are more than three.

    Each row is an image and a list of (title, heat (H, W) in [0, 1], title colour).
    """
    pairs = 2 if len(rows) > 3 else 1
    panels = 1 + max(len(maps) for _, maps in rows)
    widths = [*[1] * panels, 0.15, *[1] * panels][: pairs * (panels + 1) - 1]  # a gap between the pairs
    side = panel_width(sum(widths))
    heights = [side * height for height in row_heights([image for image, _ in rows], pairs)]
    titles = [[fitted(title, side) for title, *_ in maps] for _, maps in rows]
    more = (0.12 + 0.15 * most_lines(title for row in titles for title in row)) * len(heights) + 0.3
    figure, axes = image_axes(heights, side * sum(widths), widths, more=more)
    for axis in axes.flat:
        axis.axis("off")
        axis.set_anchor("N")
    for k, (image, maps) in enumerate(rows):
        row = axes[k // pairs, (k % pairs) * (panels + 1) :]
        row[0].imshow(image)
        row[0].set_title("image", fontsize=9)
        for axis, (_, heat, colour), title in zip(row[1:], maps, titles[k]):
            axis.imshow(image)
            axis.imshow(heat, cmap="inferno", alpha=0.55, vmin=0, vmax=1)
            axis.set_title(title, fontsize=9, color=colour)
    return figure


@styled
def block_diagram(rows: Mapping[str, Sequence[tuple[str, bool]]]) -> Figure:
    """Networks as rows of (text, whether it is trained), drawn as boxes; trained ones are filled."""
    figure, axis = chart(10, 0.4 + 0.85 * len(rows))
    axis.axis("off")
    for y, (name, boxes) in enumerate(rows.items()):
        axis.text(-0.12, -y, name, ha="right", va="center", fontsize=10, fontweight="bold")
        for x, (text, trained) in enumerate(boxes):
            style = {"boxstyle": "round,pad=0.45", "lw": 1.2, "ec": COLOURS[0] if trained else "#777777"}
            style["fc"] = (*COLOURS[0], 0.25) if trained else "#f2f2f2"
            axis.text(x + 0.5, -y, text, ha="center", va="center", fontsize=8.5, bbox=style)
            if x:
                arrow = {"arrowstyle": "->", "color": "#777777"}
                axis.annotate("", (x + 0.11, -y), (x - 0.11, -y), arrowprops=arrow)
    widest = max(len(boxes) for boxes in rows.values())
    axis.set(xlim=(-1.3, widest), ylim=(-len(rows) + 0.5, 0.5))
    return figure


@styled
def accuracy_by_labels(table: pd.DataFrame) -> Figure:
    """Accuracy over the number of labels, a line for each kind of features, with intervals.

    ``table`` has columns ``features``, ``labels``, ``accuracy``, ``low`` and ``high``; shares in [0, 1].
    """
    figure, axis = chart(7.0, 4.0)
    kinds = table.groupby("features", sort=False)
    for k, (name, rows) in enumerate(kinds):
        shares = 100 * rows[["accuracy", "low", "high"]].to_numpy(float)
        reach = np.abs(shares[:, 1:] - shares[:, :1]).T
        beside = rows["labels"] * 1.03 ** spread(k, len(kinds), 1)  # so that no interval hides another
        axis.errorbar(beside, shares[:, 0], yerr=reach, label=name, capsize=2.5, **look(k))
    labels = sorted(set(table["labels"]))
    axis.set_xscale("log")
    axis.set_xticks(labels, [str(n) for n in labels])
    axis.set_xticks([], minor=True)
    axis.set(xlabel="labelled training images", ylabel="test accuracy (%)")
    axis.set_ylim(bottom=0)
    legend_below(figure)
    return figure
