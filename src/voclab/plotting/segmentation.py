"""Images of masks and segmenters: overlays, errors, edges, scores of classes, the U-Net's shape."""

import textwrap
from collections.abc import Iterable, Sequence

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyBboxPatch, Patch, Rectangle
from matplotlib.patheffects import withStroke

from voclab.data.base import VOID, voc_palette
from voclab.data.overlay import greyed, overlay
from voclab.plotting.base import (
    COLOURS,
    chart,
    image_axes,
    panel_width,
    remove_empty,
    row_heights,
    show,
    styled,
)
from voclab.plotting.classification import confusion

ERROR_KINDS = ("right", "missed object", "invented object", "wrong class", "void (not scored)")
"""What the codes of :func:`error_kinds` mean."""

RIGHT, MISSED, INVENTED, WRONG_CLASS, NOT_SCORED = range(5)
# Okabe and Ito's blue, vermilion and yellow differ in lightness too; void is a flat grey.
ERROR_COLOURS = np.array([(0, 0, 0), (0, 114, 178), (213, 94, 0), (240, 228, 66), (150, 150, 150)], np.uint8)

_PALETTE = voc_palette()


def error_kinds(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """(H, W) uint8 codes, indices of :data:`ERROR_KINDS`, of two label maps (H, W) uint8."""
    wrong = truth != predicted
    kinds = np.full(truth.shape, RIGHT, np.uint8)
    kinds[wrong] = WRONG_CLASS
    kinds[wrong & (predicted == 0)] = MISSED
    kinds[wrong & (truth == 0)] = INVENTED
    kinds[truth == VOID] = NOT_SCORED
    return kinds


@styled
def mask_legend(
    figure: Figure, masks: Iterable[np.ndarray], class_names: Sequence[str], loc: str = "outside lower center"
) -> None:
    """Name the colours of the masks that a figure shows, below it; the figure grows by the legend's height.

    Background needs no name. No other legend must lie at the same place.
    """
    labels = sorted({int(label) for mask in masks for label in np.unique(mask)} - {0})
    if not labels:
        return
    centred = loc.endswith("center")
    room = int((figure.get_figwidth() - (0 if centred else 2)) / 1.25)
    wanted = len(labels) if centred else -(-len(labels) // 4)  # four rows high, as error kinds beside it
    columns = max(1, min(wanted, room))
    handles = [_patch(_PALETTE[label], _name(label, class_names)) for label in labels]
    figure.legend(handles=handles, loc=loc, ncols=columns, **_LEGEND)
    figure.set_figheight(figure.get_figheight() + 0.2 * -(-len(labels) // columns))


@styled
def name_regions(axis: Axes, mask: np.ndarray, class_names: Sequence[str]) -> None:
    """Write the name of each class where its region is widest: not everybody can tell VOC's colours apart.

    ``axis`` shows the image of the label map (H, W) uint8; scraps and thin regions get no name.
    """
    height, width = mask.shape
    columns = axis.get_subplotspec().get_gridspec().ncols
    pixels = columns * max(height, width) / axis.figure.get_figwidth()  # of the image, an inch of the figure
    areas = np.bincount(mask.ravel(), minlength=256)
    named = []
    for label in np.argsort(-areas, kind="stable"):
        if label in (0, VOID) or areas[label] < 0.01 * mask.size:
            continue
        # The place that is furthest from any other label; outside of the image counts as another.
        depth = cv2.distanceTransform(np.pad((mask == label).astype(np.uint8), 1), cv2.DIST_L2, 5)[1:-1, 1:-1]
        if depth.max() < 0.03 * max(height, width):
            continue
        y, x = np.unravel_index(depth.argmax(), depth.shape)
        name = _name(int(label), class_names)
        half = min(0.034 * len(name) * pixels, width / 2)
        x, y = np.clip(x, half, width - half), np.clip(y, 0.07 * pixels, height - 0.07 * pixels)
        if any(abs(y - b) < 0.13 * pixels and abs(x - a) < half + other for a, b, other in named):
            continue  # it would lie upon another name
        named.append((x, y, half))
        text = axis.text(x, y, name, ha="center", va="center", fontsize=8, color="white")
        text.set_path_effects([withStroke(linewidth=2, foreground="black")])


@styled
def segmentation_samples(
    images: Sequence[np.ndarray], masks: Sequence[np.ndarray], class_names: Sequence[str], columns: int
) -> Figure:
    """Images (H, W, 3) uint8, ``columns`` in a row, and under each the same with its mask (H, W) uint8."""
    side = panel_width(min(columns, len(images)))
    heights = [side * height for height in row_heights(images, columns) for _ in range(2)]
    figure, axes = _mask_axes(heights, min(columns, len(images)))
    for k, (image, mask) in enumerate(zip(images, masks)):
        row, column = divmod(k, columns)
        show(axes[2 * row, column], image)
        show(axes[2 * row + 1, column], overlay(image, mask))
        name_regions(axes[2 * row + 1, column], mask, class_names)
    remove_empty(axes)
    mask_legend(figure, masks, class_names)
    return figure


@styled
def prediction_rows(
    rows: Sequence[tuple[str, np.ndarray, np.ndarray, Sequence[tuple[str, np.ndarray, str]]]],
    class_names: Sequence[str],
) -> Figure:
    """Images, their true masks and those of several models.

    Each row is a title, e.g. ``"worst"``, an image (H, W, 3) uint8, its label map (H, W) uint8 and, for each
    model, name, predicted label map and score, e.g. ``"Dice 0.83"``. All rows have the same models.
    """
    names = ("image", "truth", *(name for name, *_ in rows[0][3]))
    panels = [
        [(image, None, ""), (image, truth, ""), *((image, found, score) for _, found, score in models)]
        for _, image, truth, models in rows
    ]
    figure, _ = mask_rows(panels, names, class_names, titles=[row[0] for row in rows])
    mask_legend(figure, masks_of(panels), class_names)
    return figure


@styled
def error_maps(
    rows: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray, str]], class_names: Sequence[str]
) -> Figure:
    """Images, true and predicted masks, and where and how they differ.

    Each row is an image (H, W, 3) uint8, its label map (H, W) uint8, the predicted one, and a title.
    """
    panels, seen = [], set()
    for image, truth, predicted, _ in rows:
        kinds = error_kinds(truth, predicted)
        seen |= set(np.unique(kinds).tolist())
        errors = 0.7 * greyed(image, 1.0) + 0.3 * 255
        weight = np.where(kinds == RIGHT, 0.0, 0.85)[..., None]
        errors += weight * (ERROR_COLOURS[kinds] - errors)
        shown = (image, None), (image, truth), (image, predicted), (np.rint(errors).astype(np.uint8), None)
        panels.append([(*panel, "") for panel in shown])
    names = ("image", "truth", "prediction", "errors")
    figure, _ = mask_rows(panels, names, class_names, titles=[row[3] for row in rows])
    mask_legend(figure, masks_of(panels), class_names, loc="outside lower left")
    keys = [_patch(ERROR_COLOURS[k], ERROR_KINDS[k]) for k in sorted(seen - {RIGHT})]
    if keys:
        figure.legend(handles=keys, loc="outside lower right", **_LEGEND)
    return figure


@styled
def edge_closeups(
    rows: Sequence[
        tuple[np.ndarray, np.ndarray, Sequence[tuple[str, np.ndarray]], tuple[int, int, int, int]]
    ],
    class_names: Sequence[str],
) -> Figure:
    """Images with a box, and what lies in it: the image, the true mask, and those of several models.

    A white line is the true outline of the objects. Each row is an image (H, W, 3) uint8, its label map
    (H, W) uint8, name and predicted label map of each model, and a box (y0, y1, x0, x1) in pixels. All rows
    have the same models.
    """
    columns = 3 + len(rows[0][2])
    ratios = [max(row_heights([image, _crop(image, box)], 1)) for image, _, _, box in rows]
    figure, axes = _mask_axes([panel_width(columns) * ratio for ratio in ratios], columns)
    shown = []
    for k, (image, truth, models, box) in enumerate(rows):
        line = axes[k]
        y0, y1, x0, x1 = box
        masks = [truth, *(predicted for _, predicted in models)]
        names = ("image", "close-up", "truth", *(name for name, _ in models))
        images = [_crop(overlay(image, mask, contour=False), box) for mask in masks]
        for axis, name, original in zip(line, names, [image, _crop(image, box), *images]):
            show(axis, original, "" if k else name)
            axis.set_anchor("N")  # a box may be less high than its image, and titles stand in one line
        corner, size = (x0 - 0.5, y0 - 0.5), (x1 - x0, y1 - y0)
        outline = _outline(_crop(truth, box))
        for colour, width in (("black", 2.6), ("white", 1.2)):  # white alone is lost on white ground
            line[0].add_patch(Rectangle(corner, *size, fill=False, ec=colour, lw=width))
            for axis in line[2:]:
                lines = LineCollection(outline, colors=colour, linewidths=width, capstyle="projecting")
                axis.add_collection(lines, autolim=False)
        shown += [_crop(mask, box) for mask in masks]
    mask_legend(figure, shown, class_names)
    return figure


def pixel_confusion(matrix: np.ndarray, class_names: Sequence[str]) -> Figure:
    """Share of each label's pixels given each label; counts (true, predicted), background first."""
    matrix = np.asarray(matrix, np.float64)
    names = ("background", *class_names)
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    rows = [name if total else f"{name} (none)" for name, total in zip(names, matrix.sum(1))]
    return confusion(shares, names, "predicted label", "true label of the pixel", rows)


@styled
def architecture(levels: Sequence[tuple[str, str]]) -> Figure:
    """A U-Net that is trained from scratch: the encoder down on the left, the decoder up on the right.

    ``levels`` are texts of the encoder's and the decoder's box at each resolution, the finest first; the last
    is the bottleneck, whose second text is empty.
    """
    depth = len(levels) - 1
    figure, axis = chart(9, 0.4 + 0.85 * len(levels))
    axis.axis("off")
    wide, high, side = 2.1, 0.56, 2.3
    filled = {"ec": COLOURS[0], "fc": (*COLOURS[0], 0.25)}

    def box(x, y, text):
        corner = (x - wide / 2, -y - high / 2)
        shape = "round,pad=0,rounding_size=0.08"
        axis.add_patch(FancyBboxPatch(corner, wide, high, boxstyle=shape, lw=1.2, **filled))
        axis.text(x, -y, text, ha="center", va="center", fontsize=9)

    def arrow(start, end, **style):
        style = {"arrowstyle": "->", "color": "#555555", "lw": 1.2, "shrinkA": 1, "shrinkB": 1, **style}
        axis.annotate("", end, start, arrowprops=style)

    for y, (encoder, decoder) in enumerate(levels[:-1]):
        box(-side, y, encoder)
        box(side, y, decoder)
        if y:
            arrow((-side, -y + 1 - high / 2), (-side, -y + high / 2))
            arrow((side, -y + high / 2), (side, -y + 1 - high / 2))
        arrow((-side + wide / 2, -y), (side - wide / 2, -y), ls="--", color="#777777")
    box(0, depth, levels[-1][0])
    down, up = ("angle,angleA=90,angleB=0,rad=0", "angle,angleA=0,angleB=90,rad=0")
    arrow((-side, 1 - depth - high / 2), (-wide / 2, -depth), connectionstyle=down)
    arrow((wide / 2, -depth), (side, 1 - depth - high / 2), connectionstyle=up)
    outer, edge = side + wide / 2, side + wide / 2 + 0.4
    axis.text(-edge - 0.06, 0, "image", ha="right", va="center", fontsize=9)
    axis.text(edge + 0.06, 0, "logits", ha="left", va="center", fontsize=9)
    arrow((-edge, 0), (-outer, 0))
    arrow((outer, 0), (edge, 0))
    room = 0.095 * len("logits")
    axis.set(xlim=(-edge - room, edge + room), ylim=(-depth - 0.45, 0.45))
    keys = [
        Patch(label="trained from scratch", **filled),
        Line2D([], [], color="#777777", ls="--", lw=1.2, label="skip connection"),
    ]
    figure.legend(handles=keys, loc="outside lower center", ncols=len(keys))
    return figure


_LEGEND = {"handlelength": 1.2, "handletextpad": 0.5, "columnspacing": 1.2}


def _outline(truth: np.ndarray) -> list[list[tuple[float, float]]]:
    """Line segments (x, y) along the sides of pixels where an object ends, in pixels."""
    solid = np.where(truth == VOID, 0, truth)
    across = np.argwhere(solid[:, 1:] != solid[:, :-1])
    down = np.argwhere(solid[1:] != solid[:-1])
    return [[(x + 0.5, y - 0.5), (x + 0.5, y + 0.5)] for y, x in across] + [
        [(x - 0.5, y + 0.5), (x + 0.5, y + 0.5)] for y, x in down
    ]


def _crop(image: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
    y0, y1, x0, x1 = box
    return image[y0:y1, x0:x1]


def masks_of(panels: Sequence[Sequence[tuple]]) -> list[np.ndarray]:
    """The masks of what :func:`mask_rows` draws."""
    return [mask for row in panels for _, mask, _ in row if mask is not None]


def _name(label: int, class_names: Sequence[str]) -> str:
    return {0: "background", VOID: "void"}.get(label) or class_names[label - 1]


def _patch(colour: np.ndarray, name: str) -> Patch:
    return Patch(fc=colour / 255, ec="#777777", lw=0.6, label=name)


def mask_rows(
    panels: Sequence[Sequence[tuple[np.ndarray, np.ndarray | None, str]]],
    names: Sequence[str],
    class_names: Sequence[str],
    *,
    titles: Sequence[str] = (),
    below: float = 0.0,
) -> tuple[Figure, np.ndarray]:
    """Rows of images (H, W, 3) uint8, masks (H, W) uint8 or ``None`` over them, and texts below.

    ``names`` are of the columns, ``titles`` of the rows; ``below`` is inches for texts of more than a line.
    """
    side = panel_width(len(names))
    heights = [side * height for height in row_heights([row[0][0] for row in panels], 1)]
    figure, axes = _mask_axes(heights, len(names), below)
    for k, row in enumerate(panels):
        for axis, (image, mask, text), name in zip(axes[k], row, names):
            show(axis, image if mask is None else overlay(image, mask), "" if k else name)
            axis.set_xlabel(text, fontsize=9)
            if mask is not None:
                name_regions(axis, mask, class_names)
    for axis, title in zip(axes[:, 0], titles):
        axis.set_ylabel(textwrap.fill(title, 16), fontsize=10, fontweight="bold")
    return figure, axes


def _mask_axes(heights: Sequence[float], columns: int, below: float = 0.0) -> tuple[Figure, np.ndarray]:
    width = panel_width(columns) * columns + 0.3
    return image_axes(heights, width, columns, more=(0.25 + below) * len(heights) + 0.6)
