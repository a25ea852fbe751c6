"""Images of attacks: what was changed and what came of it, over the bound, the epochs and the victims."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Bbox

from voclab.data.base import voc_palette
from voclab.plotting.base import (
    COLOURS,
    chart,
    curve,
    curve_look,
    grid_axes,
    heat_map,
    image_axes,
    legend_below,
    look,
    most_lines,
    panel_width,
    remove_empty,
    row_heights,
    show,
    spread,
    styled,
    wrapped,
)
from voclab.plotting.segmentation import mask_legend, mask_rows, masks_of, name_regions, overlay

_FOOLED, _HOLDS = COLOURS[3], COLOURS[0]  # vermilion and blue
_PERCENT = (-4, 104)  # markers at 0 and 100 are whole
_TICKS = range(0, 101, 20)
_NARROW = 7.4  # inches: texts of 9 points can be read in a README, and on a phone


def magnified(perturbed: np.ndarray, clean: np.ndarray, factor: float) -> np.ndarray:
    """A change of (H, W, 3) uint8 images that can be seen: 128 + factor · (perturbed - clean), clipped."""
    change = perturbed.astype(np.float64) - clean
    return np.rint(np.clip(128 + factor * change, 0, 255)).astype(np.uint8)


@styled
def attack_triptychs(rows: Sequence[tuple[np.ndarray, np.ndarray, str, str, bool]], factor: float) -> Figure:
    """Images, their perturbations times ``factor``, and what a network says before and after.

    Each row is an image (H, W, 3) uint8, the same perturbed, what is said of either, e.g. ``"person 0.97, dog
    0.31"``, and whether the network is fooled. More than three rows are put two abreast.
    """
    pairs = 2 if len(rows) > 3 else 1
    side = panel_width(3.15 * pairs)
    texts = [
        (_said(before, side), _said(f"{'fooled' if fooled else 'holds'}: {after}", side))
        for _, _, before, after, fooled in rows
    ]
    heights = [side * height for height in row_heights([row[0] for row in rows], pairs)]
    more = (0.15 + 0.15 * most_lines(text for pair in texts for text in pair)) * len(heights) + 0.6
    widths = [1, 1, 1, 0.15, 1, 1, 1][: 4 * pairs - 1]  # a gap between the pairs
    figure, axes = image_axes(heights, 3.15 * side * pairs, widths, more=more)
    names = ("image", _times(factor), "perturbed image")
    for k, ((clean, perturbed, _, _, fooled), (before, after)) in enumerate(zip(rows, texts)):
        row, pair = divmod(k, pairs)
        line = axes[row, 4 * pair : 4 * pair + 3]
        for axis, image, name in zip(line, (clean, magnified(perturbed, clean, factor), perturbed), names):
            show(axis, image, "" if row else name)
            axis.set_anchor("N")  # beside a portrait, others stay below their titles
        line[0].set_xlabel(before, fontsize=9)
        line[2].set_xlabel(after, fontsize=9, color=_FOOLED if fooled else _HOLDS)
    remove_empty(axes)
    return figure


@styled
def attack_mask_rows(
    rows: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray, np.ndarray, str, str]],
    class_names: Sequence[str],
    factor: float,
) -> Figure:
    """Images, their perturbations times ``factor``, and the masks that a network gives before and after.

    Each row is an image (H, W, 3) uint8, the same perturbed, its true label map (H, W) uint8 or ``None``, the
    maps predicted before and after, and a text for either, e.g. ``"Dice 0.83"``.
    """
    known = any(row[2] is not None for row in rows)
    names = ("image", _times(factor), "perturbed image", *["truth"] * known, "mask before", "mask after")
    texts = [tuple(_said(text, panel_width(len(names))) for text in row[5:7]) for row in rows]
    panels = []
    for (clean, perturbed, truth, before, after, *_), said in zip(rows, texts):
        blank = clean if truth is not None else np.full_like(clean, 255)
        first = [(image, None, "") for image in (clean, magnified(perturbed, clean, factor), perturbed)]
        last = [(clean, before, said[0]), (perturbed, after, said[1])]
        panels.append([*first, *[(blank, truth, "")] * known, *last])
    below = 0.15 * most_lines(text for pair in texts for text in pair) - 0.1  # one line has room as it is
    figure, axes = mask_rows(panels, names, class_names, below=below)
    for axis, row in zip(axes[:, 3], rows):
        if known and row[2] is None:
            axis.text(0.5, 0.5, "not known", transform=axis.transAxes, ha="center", va="center")
    mask_legend(figure, masks_of(panels), class_names)
    return figure


@dataclass(frozen=True)
class Answered:
    """An image with what networks say of it: classes, and places.

    Attributes:
        image: (H, W, 3) uint8.
        labels: (H, W) uint8 label map.
        classes: class -> probability.
        present: the classes that count as present.
    """

    image: np.ndarray
    labels: np.ndarray
    classes: Mapping[str, float]
    present: Collection[str]


@styled
def fooled_photos(
    rows: Sequence[tuple[Answered, np.ndarray, str, Answered]], class_names: Sequence[str], factor: float
) -> Figure:
    """Photos with what is in them and where, the perturbation of an attack, and both answers to the result.

    Each row is the photo, the perturbation times ``factor`` (H, W, 3) uint8, a text on its size, and the
    attacked photo. Bars are the probabilities of three classes, in the colours of the label maps; what counts
    as present is printed in bold. After the attack, the top class of before is one of the three.
    """
    side = _NARROW / 5
    heights = [height for before, *_ in rows for height in (side * _ratio(before.image), 0.56)]
    figure = plt.figure(figsize=(_NARROW, sum(heights) + 0.3))
    grid = figure.add_gridspec(len(heights), 5, height_ratios=heights)
    for k, (before, change, text, after) in enumerate(rows):
        images, bars = 2 * k, 2 * k + 1
        kept = max(before.classes, key=before.classes.__getitem__)
        for column, name, answered in ((0, "photo", before), (3, "attacked photo", after)):
            show(figure.add_subplot(grid[images, column]), answered.image, "" if k else name)
            where = figure.add_subplot(grid[images, column + 1])
            show(where, overlay(answered.image, answered.labels), "" if k else "where")
            name_regions(where, answered.labels, class_names)
            _bars(figure.add_subplot(grid[bars, column : column + 2]), answered, kept, class_names)
        middle = figure.add_subplot(grid[images, 2])
        show(middle, change, "" if k else _times(factor))
        style = {"textcoords": "offset points", "ha": "center", "va": "top", "fontsize": 9}
        said = middle.annotate(text, (0.5, 0), (0, -10), xycoords="axes fraction", **style)
        said.set_in_layout(False)  # it lies between the bars, which would make room for it
    return figure


@styled
def fooling_over_epsilon(
    panels: Mapping[str, Mapping[str, tuple[Sequence[float], Sequence[float]]]], ylabels: Mapping[str, str]
) -> Figure:
    """What attacks do at several bounds, one panel a victim.

    ``panels`` are title -> attack -> bounds in steps of 1/255, over 0, and a share in [0, 1] for each;
    ``ylabels`` are title -> label of the axis, in percent, e.g. ``"images fooled (%)"``.
    """
    figure, axes = grid_axes(1, len(panels), width=3.9, height=3.3)
    attacks = list(dict.fromkeys(attack for curves in panels.values() for attack in curves))
    for axis, (title, curves) in zip(axes[0], panels.items()):
        for attack, (epsilons, values) in curves.items():
            axis.plot(epsilons, 100 * np.asarray(values), label=attack, **look(attacks.index(attack)))
        # 255 · (8 / 255) is not always 8: two ticks must not stand on each other.
        ticks = sorted({round(float(e), 4) for epsilons, _ in curves.values() for e in epsilons})
        axis.set_xscale("log", base=2)
        axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axis.set(xlabel="epsilon (steps of 1/255)", ylabel=ylabels[title], title=title)
        axis.sharey(axes[0, 0])
    axes[0, 0].set(ylim=_PERCENT, yticks=_TICKS)
    legend_below(figure)
    return figure


@styled
def adversary_curves(histories: Mapping[str, list[dict]]) -> Figure:
    """Both loss terms of trained adversaries and the share of images they fool, over epochs.

    ``histories`` are run -> entries with ``epoch`` and, where they are known, ``perturbed_loss`` (fooling),
    ``perturbation_loss`` (weighted penalty), both with ``validation_`` before them too, and ``fooled``.
    """
    figure, axes = grid_axes(1, 3, width=3.7, height=3.4)
    fooling, penalty, fooled = axes[0]
    for k, (name, history) in enumerate(histories.items()):
        style = curve_look(k, history)
        for axis, key in ((fooling, "perturbed_loss"), (penalty, "perturbation_loss")):
            curve(axis, history, key, **style)
            curve(axis, history, f"validation_{key}", **style, ls="--", lw=1.2)
        percent = [{"epoch": e["epoch"], "fooled": 100 * e["fooled"]} for e in history if "fooled" in e]
        curve(fooled, percent, "fooled", label=name, **style)
    for axis in axes[0]:
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axis.set_xlabel("epoch")
    dashes = "\ntraining (solid), validation (dashed)"
    fooling.set(ylabel="fooling term", title=f"Fooling term{dashes}")
    penalty.set(ylabel="weight · penalty", title=f"Penalty on the perturbation{dashes}")
    fooled.set(ylabel="images fooled (%)", title="Fooled validation images")
    fooled.set(ylim=_PERCENT, yticks=_TICKS)
    legend_below(figure)
    return figure


@styled
def trade_off(curves: Mapping[str, Sequence[tuple[float, float, str]]]) -> Figure:
    """How many images are fooled over how visible the perturbation is.

    ``curves`` are name -> points as PSNR in dB, share in [0, 1] and text, e.g. ``"weight 0.5"``, in the order
    in which a line joins them. A point that is not finite is left out.
    """
    figure, axis = chart(7.2, 4.6)
    texts = []
    for k, (name, points) in enumerate(curves.items()):
        points = [point for point in points if np.isfinite(point[:2]).all()]
        joined = "-" if len(points) > 1 else ""
        axis.plot([p[0] for p in points], [100 * p[1] for p in points], ls=joined, label=name, **look(k))
        texts += [(psnr, 100 * share, text) for psnr, share, text in points if text]
    axis.set(
        xlabel="PSNR (dB) (right: less visible)", ylabel="success rate (%)", ylim=(-10, 110), yticks=_TICKS
    )
    axis.margins(x=0.12)
    legend_below(figure)
    _annotate(axis, texts)
    return figure


@styled
def transfer_matrix(
    matrix: np.ndarray, row_names: Sequence[str], column_names: Sequence[str], label: str
) -> Figure:
    """Shares (sources, targets) in [0, 1] of what attacks on one network do to others; NaN is no value."""
    rows, columns = np.shape(matrix)
    row_names = [wrapped(name, 22) for name in row_names]
    column_names = [wrapped(name, 12) for name in column_names]
    width = 1.6 + _longest(row_names) + columns * max(0.7, 0.15 + _longest(column_names))
    figure, axis = chart(width, max(2.8, 1.3 + 0.62 * rows))
    image = heat_map(axis, matrix, row_names, column_names, aspect="auto")
    axis.set(xlabel="tested on", ylabel="trained on / computed on")
    figure.colorbar(image, ax=axis, label=label)
    return figure


@styled
def survival(shares: Mapping[str, Mapping[str, float]], label: str) -> Figure:
    """What is left of attacks after the perturbed images were handled, as dots on a band a handling.

    ``shares`` are attack -> handling -> share in [0, 1]. The first handling is at the top.
    """
    handlings = list(dict.fromkeys(how for values in shares.values() for how in values))
    figure, axis = chart(7.2, 1.3 + len(handlings) * max(0.3, 0.13 * len(shares)))
    for row in range(0, len(handlings), 2):
        axis.axhspan(row - 0.5, row + 0.5, color="#f3f3f3", lw=0, zorder=0)
    for k, (attack, values) in enumerate(shares.items()):
        y = [handlings.index(how) + spread(k, len(shares), 0.8 / len(shares)) for how in values]
        axis.plot([100 * share for share in values.values()], y, ls="", label=attack, **look(k))
    axis.set_yticks(range(len(handlings)), handlings)
    axis.set(xlabel=label, ylabel="handling", xlim=_PERCENT, ylim=(len(handlings) - 0.5, -0.5))
    axis.grid(axis="y", visible=False)
    legend_below(figure)
    return figure


@styled
def defence(shares: Mapping[str, Mapping[str, float]], label: str) -> Figure:
    """What attacks do to a victim before and after it was defended, a bar each.

    ``shares`` are victim, e.g. ``"as trained"``, -> attack -> share in [0, 1]; NaN is written as "–".
    """
    attacks = list(dict.fromkeys(attack for values in shares.values() for attack in values))
    names = [wrapped(attack, 14) for attack in attacks]
    group = max(0.25 + 0.38 * len(shares), 0.15 + _longest(names))
    figure, axis = chart(max(4.0, 1.0 + group * len(attacks)), 3.6)
    width = 0.8 / len(shares)
    for k, (victim, values) in enumerate(shares.items()):
        x = np.arange(len(attacks)) + spread(k, len(shares), width)
        heights = np.array([100 * values.get(attack, np.nan) for attack in attacks])
        axis.bar(x, heights, width, label=victim, color=COLOURS[k], ec="white")
        for at, height in zip(x, heights):
            text, top = (f"{height:.0f}", height) if np.isfinite(height) else ("–", 0)
            axis.annotate(text, (at, top), (0, 2), textcoords="offset points", ha="center", fontsize=9)
    axis.set_xticks(range(len(attacks)), names)
    axis.set(xlabel="attack", ylabel=label, ylim=(0, 110), yticks=_TICKS)
    axis.set_xlim(-0.6, len(attacks) - 0.4)
    axis.grid(axis="x", visible=False)
    legend_below(figure)
    return figure


@styled
def patterns(images: Mapping[str, np.ndarray]) -> Figure:
    """Perturbations (H, W, 3) uint8 by title, and under each which spatial frequencies it uses.

    All are :func:`magnified` by the same factor, for their spectra share one scale of colours.
    """
    shown = list(images.values())
    columns = -(-len(shown) // -(-len(shown) // 5))  # 3 + 3 rather than 5 + 1
    side = panel_width(columns)
    ratios = row_heights(shown, columns)
    heights = [0.85 * side * height for ratio in ratios for height in (ratio, 1)]
    widths = [*[1] * columns, 0.06]
    figure, axes = image_axes(heights, side * columns + 1.4, widths, more=0.9 * len(ratios) + 0.3)
    spectra = [_spectrum(image) for image in shown]
    limits = {"vmin": min(s.min() for s in spectra), "vmax": max(s.max() for s in spectra)}
    for k, (title, image) in enumerate(images.items()):
        row, column = divmod(k, columns)
        show(axes[2 * row, column], image)
        axes[2 * row, column].set_title(wrapped(title, 22), fontsize=10)
        axis = axes[2 * row + 1, column]
        x, y = (np.fft.fftshift(np.fft.fftfreq(size)) for size in (image.shape[1], image.shape[0]))
        half = 0.5 / x.size, 0.5 / y.size
        # Downwards as in the image, so that stripes and their peaks have the same direction.
        extent = (x[0] - half[0], x[-1] + half[0], y[-1] + half[1], y[0] - half[1])
        spectrum = axis.imshow(spectra[k], cmap="magma", extent=extent, aspect="equal", **limits)
        axis.set(xlim=(-0.5, 0.5), ylim=(0.5, -0.5), xticks=(-0.5, 0, 0.5), yticks=(-0.5, 0, 0.5))
        axis.grid(visible=False)
        axis.set_xlabel("cycles per pixel, across", fontsize=9)
        if column == 0:
            axis.set_ylabel("cycles per pixel, down", fontsize=9)
            figure.colorbar(spectrum, cax=axes[2 * row + 1, -1], label="power (dB)")
        else:
            axis.tick_params(labelleft=False)
    remove_empty(axes)
    return figure


def _ratio(image: np.ndarray) -> float:
    return image.shape[0] / image.shape[1]


def _bars(axis: Axes, answered: Answered, kept: str, class_names: Sequence[str]) -> None:
    """The three most probable classes, ``kept`` among them, as bars with name and percentage."""
    shares = answered.classes
    shown = sorted(shares, key=shares.__getitem__, reverse=True)[:3]
    if kept not in shown:
        shown[-1] = kept
    for y, name in enumerate(shown):
        colour = voc_palette()[1 + list(class_names).index(name)] / 255
        weight = "bold" if name in answered.present else "normal"
        axis.barh(y, 1, 0.62, color="#eeeeee")
        axis.barh(y, shares[name], 0.62, color=colour)
        style = {"va": "center", "fontsize": 9, "fontweight": weight}
        axis.text(-0.03, y, name, ha="right", **style)
        axis.text(1.03, y, f"{100 * shares[name]:.0f} %", ha="left", **style)
    axis.set(xlim=(-1.1, 1.5), ylim=(2.6, -0.6))
    axis.axis("off")


def _spectrum(image: np.ndarray) -> np.ndarray:
    """(H, W) power in dB of the luminance's deviation from its mean, frequency 0 in the middle."""
    luma = image @ np.array([0.299, 0.587, 0.114])
    # Without a window the jump from one border to the other would draw a cross of frequencies.
    window = cv2.createHanningWindow(luma.shape[::-1], cv2.CV_64F)
    power = np.abs(np.fft.fft2((luma - luma.mean()) * window)) ** 2 / (window**2).sum()
    return 10 * np.log10(np.fft.fftshift(power) + 1 / 12)  # as much as rounding to 8 bits has anyway


def _said(text: str, inches: float) -> str:
    """A text to stand below an image of that width; a class and its probability stay on one line."""
    return wrapped(re.sub(r" (?=\d)", "\u00a0", text), int(14.7 * inches)).replace("\u00a0", " ")


def _longest(texts: Iterable[str]) -> float:
    """Width in inches of the longest line."""
    return 0.082 * max(len(line) for text in texts for line in text.split("\n"))


def _times(factor: float) -> str:
    return f"perturbation × {factor:g}"


def _annotate(axis: Axes, points: Sequence[tuple[float, float, str]]) -> None:
    """Write (x, y, text) beside each point, where it covers no marker, no other text and few lines."""
    axis.figure.draw_without_rendering()  # places are in pixels, which the layout decides
    scale = axis.figure.dpi / 72
    gap = 5 * scale
    lines = [axis.transData.transform(line.get_xydata()) for line in axis.lines if len(line.get_xydata())]
    ways = [a + np.linspace(0, 1, 50)[:, None] * (b - a) for xy in lines for a, b in pairwise(xy)]
    ways = np.concatenate([*ways, np.empty((0, 2))])
    taken = [Bbox([x - gap, x + gap]) for xy in lines for x in xy]
    for x, y, text in points:
        note = axis.annotate(text, (x, y), (0, 0), textcoords="offset points", ha="center", va="center")
        note.set(fontsize=8, path_effects=[withStroke(linewidth=2, foreground="white")])
        size, point = note.get_window_extent().size, axis.transData.transform((x, y))
        best = None
        for rank, (dx, dy, far) in enumerate(_SIDES):
            offset = np.array([dx, dy]) * (size / 2 + far * gap)
            box = Bbox([point + offset - size / 2, point + offset + size / 2])
            crossed = ((box.min <= ways) & (ways <= box.max)).all(1).sum()
            outside = not (axis.bbox.contains(*box.min) and axis.bbox.contains(*box.max))
            cost = 100 * (box.padded(1).count_overlaps(taken) + outside) + 0.2 * crossed + 0.1 * rank
            if best is None or cost < best[0]:
                best = cost, offset, box
        note.set_position(best[1] / scale)
        taken.append(best[2])


# Where a label may stand: direction across and up, and how many gaps away.
_SIDES = [
    (dx, dy, far)
    for far in (1.3, 3)
    for dx, dy in ((0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, -1), (1, -1), (-1, 1))
]
