"""The style of every image, how it is saved, and the images that several tasks share."""

import io
import textwrap
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from PIL import Image

from voclab.files import atomic_path, make_folder
from voclab.plotting.letters import FONT, lettered

COLOURS = sns.color_palette("colorblind")
# Without its yellow and pale pink, which are lost on white ground.
_SERIES = [
    *(COLOURS[k] for k in (0, 1, 2, 3, 4)),
    (0.1, 0.1, 0.1),
    COLOURS[9],
    COLOURS[5],
    (0.33, 0.2, 0.6),
    COLOURS[7],
]
# Of the same weight for the eye: matplotlib's stars and crosses of a size are smaller than its squares.
_MARKERS = {"o": 1.0, "s": 0.95, "D": 0.85, "^": 1.15, "v": 1.15, "P": 1.2, "X": 1.2, "*": 1.6}
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
    "font.family": [FONT],
    "text.parse_math": False,  # a $ or ^ in the name of a class is what it is
    "text.usetex": False,
}


def styled(draw: Callable) -> Callable:
    """A function that draws in our style, which holds inside of it alone, and with letters that there are.

    The names of classes, models and files that it is given become texts that can be drawn.
    """

    @wraps(draw)
    def drawn(*arguments, **options):
        (arguments, options), families = lettered((arguments, options))
        with mpl.rc_context(STYLE | {"font.family": families}):
            return draw(*arguments, **options)

    return drawn


def look(k: int, size: float = 6) -> dict:
    """Colour and marker of the k-th of several series, which differ in both; ``size`` is in points."""
    marker = list(_MARKERS)[k % len(_MARKERS)]
    style = {"color": _SERIES[k % len(_SERIES)], "marker": marker, "ms": size * _MARKERS[marker]}
    return style | {"mec": "white", "mew": 0.5}


def abreast(k: int, count: int) -> float:
    """How far above its line the k-th of ``count`` dots stands, in lines, so that equal ones hide none."""
    return ((count - 1) / 2 - k) * min(0.18, 0.66 / count)


def names_below(figure: Figure, axis: Axes) -> None:
    """A legend of what an axis shows, below its figure."""
    handles, labels = axis.get_legend_handles_labels()
    columns = 2 if len(labels) == 4 else min(3, len(labels))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns)


def save(
    figure: Figure,
    path: str | Path,
    *,
    title: str,
    images: bool = False,
    dither: bool = False,
) -> Path:
    """Write a figure as PNG, and close it.

    Images of images are reduced to 256 colours, those of the legend among them, which keeps
    notebooks small; all others get a vector copy (SVG) for print.

    Args:
        figure: what to write.
        path: file name without suffix.
        title: printed above the figure.
        images: whether it consists of images.
        dither: of images, whether smooth areas must show no bands; the file is larger.

    Returns:
        Path of the PNG.
    """
    path = Path(path)
    make_folder(path.parent)
    png = path.with_name(path.name + ".png")
    _entitle(figure, title)
    with mpl.rc_context(STYLE):
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
        with atomic_path(png) as temporary:
            if images:
                image = _few_colours(
                    Image.open(buffer).convert("RGB"), [_WHITE, *_legend_colours(figure)], dither
                )
                image.save(temporary, format="png", optimize=True)
            else:
                temporary.write_bytes(buffer.getvalue())
        if not images:
            with atomic_path(path.with_name(path.name + ".svg")) as temporary:
                figure.savefig(temporary, format="svg", metadata={"Date": None, "Creator": None})
    plt.close(figure)
    return png


@styled
def _entitle(figure: Figure, title: str) -> None:
    """Title a figure; suptitles collide with axes titles unless the layout engine knows them."""
    lines = textwrap.fill(title, max(20, int(figure.get_figwidth() / 0.11)))  # a letter is 0.11 inches wide
    figure.suptitle(lines, fontsize=12, fontweight="bold")


_WHITE = (255, 255, 255)


def _legend_colours(figure: Figure) -> list[tuple[int, ...]]:
    """Colours of the patches in a figure's legends: (R, G, B) in 0..255."""
    patches = [p for legend in figure.legends for p in legend.get_patches()]
    return sorted({tuple(round(255 * c) for c in p.get_facecolor()[:3]) for p in patches})


def _few_colours(image: Image.Image, kept: list[tuple[int, ...]], dither: bool) -> Image.Image:
    """An image with 256 colours; those kept are among them, however few pixels have them."""
    free = 256 - len(kept)
    few = image.quantize(free)
    palette = few.getpalette()[: 3 * free]
    if dither:
        few = image.quantize(palette=few, dither=Image.Dither.FLOYDSTEINBERG)
    indices, pixels = np.array(few), np.asarray(image)
    for k, colour in enumerate(kept, start=free):
        indices[(pixels == colour).all(-1)] = k
    reduced = Image.fromarray(indices)
    reduced.putpalette(palette + [0] * (3 * free - len(palette)) + [c for colour in kept for c in colour])
    return reduced


def grid_axes(rows: int, columns: int, *, width: float, height: float):
    """A figure and its (rows, columns) axes, each about ``width`` x ``height`` inches."""
    return plt.subplots(
        rows, columns, figsize=(width * columns, height * rows), squeeze=False, layout="constrained"
    )


def panel_width(columns: float) -> float:
    """Inches that an image in a grid may take: no grid is so wide that a page must make its texts small."""
    return min(2.05, 10.4 / columns)


def fitted(title: str, inches: float, points: int = 9) -> str:
    """A title in lines for which an image of that width has room, three at most for each of its own."""
    room = max(4, int(124 * inches / points))
    lines = [textwrap.wrap(line, room, max_lines=3, placeholder="…") for line in title.split("\n")]
    return "\n".join("\n".join(line) for line in lines)


def row_height(images: Sequence[np.ndarray]) -> float:
    """Height over width that a row of these needs; a portrait is made as small as what stands beside it."""
    ratios = [p.shape[0] / p.shape[1] for p in images]
    if min(ratios) > 1:
        return 1.0
    return max(0.75 if ratio > 1 else ratio for ratio in ratios)


@styled
def image_grid(
    images: Sequence[np.ndarray], titles: Sequence[str], columns: int, colours: Sequence[str] | None = None
) -> Figure:
    """Images (H, W, 3) uint8 in rows, each with a title, in its own colour if given."""
    side = panel_width(columns)
    size = 9 if side > 1.6 else 8
    titles = [fitted(title, side, size) for title in titles]
    starts = range(0, len(images), columns)
    heights = [side * row_height(images[k : k + columns]) for k in starts]
    titled = sum(0.17 * max(t.count("\n") + 1.5 for t in titles[k : k + columns]) for k in starts)
    figure, axes = plt.subplots(
        len(heights),
        columns,
        figsize=(side * columns, sum(heights) + titled + 0.3),
        height_ratios=heights,
        squeeze=False,
        layout="constrained",
    )
    for k, axis in enumerate(axes.flat):
        axis.axis("off")
        axis.set_anchor("N")  # titles of a row stand in one line
        if k < len(images):
            axis.imshow(images[k])
            axis.set_title(titles[k], fontsize=size, color="black" if colours is None else colours[k])
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

    Args:
        histories: run -> entries with ``epoch``, the metric on validation data and, where they are known,
            ``loss``, ``validation_loss`` and ``training_`` + the metric.
        levels: run -> validation metric of a model that has no epochs.
        metric: key of the metric, higher is better.
        metric_label: its name for people.
        loss_label: of the axis of the losses.
    """
    figure, axes = grid_axes(1, 2, width=4.9, height=3.7)
    left, right = axes[0]
    seen = f"training_{metric}"
    trained = any(seen in e for history in histories.values() for e in history)
    validation = {"ls": "--", "lw": 1.2} if trained else {}  # dashes mean validation wherever both are drawn
    for k, (name, history) in enumerate(histories.items()):
        # Dashes mean validation, so that markers must tell apart what colours alone do not.
        step = max(1, len(history) // 6)
        style = {**look(k, 4.5), "markevery": (k % step, step)}
        _curve(left, history, "loss", **style)
        _curve(left, history, "validation_loss", ls="--", lw=1.2, **style)
        _curve(right, history, seen, **style)
        _curve(right, history, metric, label=name, **style, **validation)
        best = max((e for e in history if metric in e), key=lambda e: e[metric])
        outlined = {**look(k, 8), "mec": "black", "mew": 1, "zorder": 3}
        right.plot(best["epoch"], best[metric], **outlined)
    for k, (name, level) in enumerate((levels or {}).items(), start=len(histories)):
        right.axhline(level, color=look(k)["color"], ls=":", lw=1.8, label=name)
    for axis in (left, right):
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    validated = any("validation_loss" in e for history in histories.values() for e in history)
    title = "Loss: training (solid), validation (dashed)" if validated else "Training loss"
    left.set(xlabel="epoch", ylabel=loss_label, title=title)
    title = f"{metric_label[0].upper()}{metric_label[1:]}: training (solid), validation (dashed)"
    right.set(xlabel="epoch", ylabel=metric_label, title=title)
    if not trained:
        right.set_title(f"Validation {metric_label}, best epoch outlined")
    right.set_ylim(bottom=0)
    figure.set_figheight(
        figure.get_figheight() + 0.2 * max(0, -(-len(right.get_legend_handles_labels()[1]) // 3) - 2)
    )
    names_below(figure, right)
    return figure


def _curve(axis: Axes, history: list[dict], key: str, **style) -> None:
    known = [e for e in history if key in e]
    if known:
        axis.plot([e["epoch"] for e in known], [e[key] for e in known], **style)


@styled
def per_class_scores(
    scores: Mapping[str, np.ndarray],
    class_names: Sequence[str],
    label: str,
    *,
    order: Sequence[int] | None = None,
    notes: Sequence[str] | None = None,
) -> Figure:
    """One score a class and model, as dots on a line a class.

    Args:
        scores: model -> (classes,); NaN is left out.
        class_names: the classes.
        label: of the axis, e.g. ``"average precision"``.
        order: the classes from top to bottom; else the best model's classes from best to worst.
        notes: written behind the name of each class.
    """
    figure, axes = grid_axes(1, 1, width=7.6, height=6.2)
    axis = axes[0, 0]
    if order is None:
        best = max(scores, key=lambda name: np.nanmean(scores[name]))
        upwards = np.argsort(np.nan_to_num(scores[best], nan=-1))
    else:
        upwards = np.asarray(order)[::-1]
    stacked = np.stack(list(scores.values()))[:, upwards]
    known = ~np.isnan(stacked).all(0)
    y = np.arange(len(upwards))
    span = np.nanmin(stacked[:, known], 0), np.nanmax(stacked[:, known], 0)
    axis.hlines(y[known], *span, color="#bbbbbb", lw=1.5)
    for row in y[~known]:
        axis.text(0.01, row, "does not occur", color="#767676", fontsize=8, va="center")
    for k, (name, values) in enumerate(zip(scores, stacked)):
        key = f"{name} (mean {np.nanmean(values):.2f})"
        axis.plot(values, y + abreast(k, len(scores)), ls="", label=key, **look(k))
    names = class_names if notes is None else [f"{n} ({note})" for n, note in zip(class_names, notes)]
    axis.set_yticks(y, [names[k] for k in upwards])
    axis.set(xlabel=label, xlim=(-0.02, 1.02), ylim=(-0.7, len(upwards) - 0.3))
    figure.legend(loc="outside lower center", ncols=2)
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
    """A (classes, classes) matrix of shares as a heat map, entries over 5 % written out.

    Args:
        matrix: shares in [0, 1]; NaN counts as 0.
        class_names: of the columns.
        xlabel: of the columns.
        ylabel: of the rows.
        row_names: of the rows, if others.
        outlined: (row, column) of entries that the text speaks of.
    """
    figure, axes = grid_axes(1, 1, width=8.4, height=7.2)
    axis = axes[0, 0]
    filled = np.nan_to_num(matrix)
    image = axis.imshow(100 * filled, cmap="cividis", vmin=0, vmax=100)
    for i, j in np.argwhere(filled >= 0.05):
        colour = "black" if filled[i, j] > 0.55 else "white"
        axis.text(j, i, f"{100 * filled[i, j]:.0f}", ha="center", va="center", fontsize=8, color=colour)
    for i, j in outlined:
        axis.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, fill=False, ec=COLOURS[3], lw=2))
    axis.set_xticks(range(len(class_names)), class_names, rotation=90)
    axis.set_yticks(range(len(class_names)), row_names or class_names)
    axis.set(xlabel=xlabel, ylabel=ylabel)
    axis.grid(visible=False)
    figure.colorbar(image, ax=axis, label="%", shrink=0.8)
    return figure


@styled
def block_diagram(rows: Mapping[str, Sequence[tuple[str, bool]]]) -> Figure:
    """Networks as rows of boxes joined by arrows; boxes that are trained are filled.

    Args:
        rows: name -> boxes as (text, trained).
    """
    figure, axes = grid_axes(1, 1, width=10, height=0.4 + 0.85 * len(rows))
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
    axis.set(xlim=(-1.3, widest), ylim=(-len(rows) + 0.5, 0.5))
    return figure
