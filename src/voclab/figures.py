"""Every picture: one style, colours that colour-blind readers can tell apart, one function a figure.

Each function returns a matplotlib figure; :func:`save` writes it with its title, caption and
alternative text for the gallery.
"""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from voclab.files import atomic_path, make_folder, write_json

COLOURS = sns.color_palette("colorblind")
STYLE = {
    "figure.dpi": 100,
    "savefig.bbox": "tight",
    "savefig.pad_inches": 0.1,
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.labelsize": 10,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "svg.hashsalt": "voclab",
    "svg.fonttype": "path",
}
_styled = mpl.rc_context(STYLE)  # as a decorator: the style holds inside the function alone


def save(
    figure: Figure,
    path: str | Path,
    *,
    title: str,
    caption: str,
    alt: str,
    photos: bool = False,
    dither: bool = False,
) -> Path:
    """Write a figure as PNG with a sidecar that says what it shows, and close it.

    Pictures of photos are reduced to 256 colours, which keeps notebooks small; all others get a
    vector copy (SVG) for print.

    Args:
        figure: what to write.
        path: file name without suffix.
        title: printed above the figure.
        caption: what to see in it.
        alt: text for people who cannot see it.
        photos: whether it consists of photos.
        dither: of photos, whether smooth areas must show no bands; the file is larger.

    Returns:
        Path of the PNG.
    """
    path = Path(path)
    make_folder(path.parent)
    png = path.with_name(path.name + ".png")
    # Suptitles collide with axes titles unless the layout engine knows them.
    figure.suptitle(title, fontsize=12, fontweight="bold")
    with mpl.rc_context(STYLE):
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
        with atomic_path(png) as temporary:
            if photos:
                full = Image.open(buffer).convert("RGB")
                picture = full.quantize(256)
                if dither:
                    picture = full.quantize(palette=picture, dither=Image.Dither.FLOYDSTEINBERG)
                picture.save(temporary, format="png", optimize=True)
            else:
                temporary.write_bytes(buffer.getvalue())
        if not photos:
            with atomic_path(path.with_name(path.name + ".svg")) as temporary:
                figure.savefig(temporary, format="svg", metadata={"Date": None, "Creator": None})
    plt.close(figure)
    write_json(path.with_name(path.name + ".json"), {"title": title, "caption": caption, "alt": alt})
    return png


@_styled
def image_grid(
    images: Sequence[np.ndarray], titles: Sequence[str], columns: int, colours: Sequence[str] | None = None
) -> Figure:
    """Pictures (H, W, 3) uint8 in rows, each with a title, in its own colour if given."""
    rows = -(-len(images) // columns)
    figure, axes = _axes(rows, columns, width=2.05, height=1.95)
    for k, axis in enumerate(axes.flat):
        axis.axis("off")
        if k < len(images):
            axis.imshow(images[k])
            axis.set_title(titles[k], fontsize=9, color="black" if colours is None else colours[k])
    return figure


@_styled
def class_frequency(counts: Mapping[str, np.ndarray], class_names: Sequence[str]) -> Figure:
    """Share of images that show each class, one bar a split.

    Args:
        counts: split -> (classes,) shares in [0, 1].
        class_names: the classes.
    """
    figure, axes = _axes(1, 1, width=9, height=3.6)
    axis = axes[0, 0]
    order = np.argsort(-next(iter(counts.values())))
    width = 0.8 / len(counts)
    for k, (split, share) in enumerate(counts.items()):
        x = np.arange(len(order)) + (k - (len(counts) - 1) / 2) * width
        axis.bar(x, 100 * share[order], width, label=split, color=COLOURS[k])
    axis.set_xticks(range(len(order)), [class_names[k] for k in order], rotation=45, ha="right")
    axis.set(ylabel="images with the class (%)", xlabel="class")
    axis.grid(axis="x", visible=False)
    axis.legend()
    return figure


@_styled
def learning_curves(histories: Mapping[str, list[dict]], levels: Mapping[str, float]) -> Figure:
    """Loss and validation mAP of all runs over epochs; runs without epochs as horizontal lines.

    Args:
        histories: run -> entries with ``epoch``, ``loss``, ``validation_loss``, ``map``.
        levels: run -> validation mAP of a model that has no epochs.
    """
    figure, axes = _axes(1, 2, width=4.9, height=3.7)
    left, right = axes[0]
    for k, (name, history) in enumerate(histories.items()):
        trained = [e for e in history if "loss" in e]
        epochs = [e["epoch"] for e in trained]
        left.plot(epochs, [e["loss"] for e in trained], color=COLOURS[k], label=name)
        left.plot(epochs, [e["validation_loss"] for e in trained], color=COLOURS[k], ls="--", lw=1.2)
        right.plot([e["epoch"] for e in history], [e["map"] for e in history], color=COLOURS[k], label=name)
        best = max(history, key=lambda e: e["map"])
        right.plot(best["epoch"], best["map"], "o", color=COLOURS[k], ms=5)
    for k, (name, level) in enumerate(levels.items(), start=len(histories)):
        right.axhline(level, color=COLOURS[k], ls=":", lw=1.8, label=name)
    for axis in (left, right):
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    left.set(
        xlabel="epoch", ylabel="binary cross-entropy", title="Loss: training (solid), validation (dashed)"
    )
    right.set(xlabel="epoch", ylabel="mAP", title="Validation mAP, best epoch marked", ylim=(0, 1))
    handles, labels = right.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(3, len(labels)))
    return figure


@_styled
def per_class_scores(scores: Mapping[str, np.ndarray], class_names: Sequence[str], label: str) -> Figure:
    """One score a class and model, as dots on a line a class; classes sorted by the best model.

    Args:
        scores: model -> (classes,); NaN is left out.
        class_names: the classes.
        label: of the axis, e.g. ``"average precision"``.
    """
    figure, axes = _axes(1, 1, width=7.6, height=6.2)
    axis = axes[0, 0]
    best = max(scores, key=lambda name: np.nanmean(scores[name]))
    order = np.argsort(np.nan_to_num(scores[best], nan=-1))
    stacked = np.stack(list(scores.values()))[:, order]
    y = np.arange(len(order))
    axis.hlines(y, np.nanmin(stacked, 0), np.nanmax(stacked, 0), color="#bbbbbb", lw=1.5)
    markers = "osD^vP*X"
    for k, (name, values) in enumerate(scores.items()):
        mean = np.nanmean(values)
        axis.plot(values[order], y, markers[k % 8], color=COLOURS[k], ms=6, label=f"{name} (mean {mean:.2f})")
    axis.set_yticks(y, [class_names[k] for k in order])
    axis.set(xlabel=label, xlim=(0, 1.02))
    figure.legend(loc="outside lower center", ncols=2)
    return figure


@_styled
def confusion(
    matrix: np.ndarray,
    class_names: Sequence[str],
    xlabel: str,
    ylabel: str,
    row_names: Sequence[str] | None = None,
) -> Figure:
    """A (classes, classes) matrix of shares as a heat map, entries over 5 % written out."""
    figure, axes = _axes(1, 1, width=8.4, height=7.2)
    axis = axes[0, 0]
    filled = np.nan_to_num(matrix)
    picture = axis.imshow(100 * filled, cmap="cividis", vmin=0, vmax=100)
    for i, j in np.argwhere(filled >= 0.05):
        colour = "black" if filled[i, j] > 0.55 else "white"
        axis.text(j, i, f"{100 * filled[i, j]:.0f}", ha="center", va="center", fontsize=7, color=colour)
    axis.set_xticks(range(len(class_names)), class_names, rotation=90)
    axis.set_yticks(range(len(class_names)), row_names or class_names)
    axis.set(xlabel=xlabel, ylabel=ylabel)
    axis.grid(visible=False)
    figure.colorbar(picture, ax=axis, label="%", shrink=0.8)
    return figure


@_styled
def reliability_diagram(tables: Mapping[str, dict], eces: Mapping[str, float]) -> Figure:
    """Frequency over predicted probability for each model; the diagonal is perfect calibration.

    Bins with fewer than ten forecasts are left out: their frequency says nothing.
    """
    figure, axes = _axes(1, 1, width=5.2, height=4.6)
    axis = axes[0, 0]
    axis.plot([0, 1], [0, 1], color="#888888", lw=1, label="perfect calibration")
    for k, (name, table) in enumerate(tables.items()):
        label = f"{name} (ECE {eces[name]:.3f})"
        filled = np.asarray(table["count"]) >= 10
        axis.plot(
            table["confidence"][filled], table["frequency"][filled], "o-", color=COLOURS[k], ms=4, label=label
        )
    axis.set(xlabel="predicted probability of a label", ylabel="share of those labels that are true")
    axis.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    figure.legend(loc="outside lower center", ncols=1)
    return figure


@_styled
def heat_maps(rows: Sequence[tuple[np.ndarray, Sequence[tuple[str, np.ndarray, str]]]]) -> Figure:
    """Photos with heat maps over them.

    Args:
        rows: a photo (H, W, 3) uint8 and a list of (title, heat (H, W) in [0, 1], title colour).
    """
    pairs = 2 if len(rows) > 3 else 1
    panels = 1 + max(len(maps) for _, maps in rows)
    figure, axes = _axes(-(-len(rows) // pairs), panels * pairs, width=1.9, height=1.8)
    for axis in axes.flat:
        axis.axis("off")
    for k, (photo, maps) in enumerate(rows):
        row = axes[k // pairs, (k % pairs) * panels : (k % pairs + 1) * panels]
        row[0].imshow(photo)
        row[0].set_title("photo", fontsize=9)
        for axis, (title, heat, colour) in zip(row[1:], maps):
            axis.imshow(photo)
            axis.imshow(heat, cmap="inferno", alpha=0.55, vmin=0, vmax=1)
            axis.set_title(title, fontsize=9, color=colour)
    return figure


@_styled
def block_diagram(rows: Mapping[str, Sequence[tuple[str, bool]]]) -> Figure:
    """Networks as rows of boxes joined by arrows; boxes that are trained are filled.

    Args:
        rows: name -> boxes as (text, trained).
    """
    figure, axes = _axes(1, 1, width=10, height=0.3 + 1.05 * len(rows))
    axis = axes[0, 0]
    axis.axis("off")
    widest = max(len(boxes) for boxes in rows.values())
    for y, (name, boxes) in enumerate(rows.items()):
        axis.text(-0.12, -y, name, ha="right", va="center", fontsize=10, fontweight="bold")
        for x, (text, trained) in enumerate(boxes):
            style = {"boxstyle": "round,pad=0.45", "lw": 1.2, "ec": COLOURS[0] if trained else "#777777"}
            style["fc"] = (*COLOURS[0], 0.25) if trained else "#f2f2f2"
            axis.text(x + 0.5, -y, text, ha="center", va="center", fontsize=8.5, bbox=style)
            if x:
                arrow = {"arrowstyle": "->", "color": "#777777"}
                axis.annotate("", (x + 0.11, -y), (x - 0.11, -y), arrowprops=arrow)
    axis.set(xlim=(-1.3, widest), ylim=(-len(rows) + 0.4, 0.6))
    return figure


def _axes(rows: int, columns: int, *, width: float, height: float):
    return plt.subplots(
        rows, columns, figsize=(width * columns, height * rows), squeeze=False, layout="constrained"
    )
