"""Images of attacks: what was changed and what came of it, over the bound, the epochs and the victims."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

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
    show,
    spread,
    styled,
    wrapped,
)
from voclab.plotting.segmentation import mask_legend, mask_rows, masks_of, name_regions, overlay

_FOOLED, _HOLDS = COLOURS[3], COLOURS[0]  # vermilion and blue
_PERCENT = (-4, 104)  # markers at 0 and 100 are whole
_TICKS = range(0, 101, 20)
_Answer = tuple[np.ndarray, str, bool]
_NARROW = 7.4  # inches: texts of 9 points can be read in a README, and on a phone


def magnified(perturbed: np.ndarray, clean: np.ndarray, factor: float) -> np.ndarray:
    """A change of (H, W, 3) uint8 images that can be seen: 128 + factor · (perturbed - clean), clipped."""
    change = perturbed.astype(np.float64) - clean
    return np.rint(np.clip(128 + factor * change, 0, 255)).astype(np.uint8)


@styled
def attack_triptychs(
    rows: Sequence[tuple[_Answer, Mapping[str, Sequence[_Answer]]]], bounds: Sequence[float], factor: float
) -> Figure:
    """Images, and for each bound the perturbations of attacks times ``factor`` and what comes of them.

    Each row is the clean image and, by attack, what that made of it at each of ``bounds`` (steps of 1/255):
    triples of the image (H, W, 3) uint8, what a network says of it, e.g. ``"person 0.97, dog 0.31"``, and
    whether it is fooled. An image takes a line for each attack.
    """
    lines = [(name, clean, made[name], name == next(iter(made))) for clean, made in rows for name in made]
    widths = [1, *[0.08, 1, 1] * len(bounds)]  # a gap before each bound
    side = panel_width(sum(widths))
    texts = [
        [_said(f"{'fooled' if fooled else 'right'}: {answer}", side) for _, answer, fooled in answers]
        for _, _, answers, _ in lines
    ]
    heights = [side * _ratio(clean[0]) for _, clean, _, _ in lines]
    more = sum(0.12 + 0.15 * most_lines(said) for said in texts) + 0.5
    figure, axes = image_axes(heights, side * sum(widths) + 0.3, widths, more=more)
    for k, (line, (name, (image, answer, _), answers, first)) in enumerate(zip(axes, lines)):
        if first:
            show(line[0], image, "" if k else "image")
            line[0].set_xlabel(_said(answer, side), fontsize=9)
        else:
            line[0].set(xticks=[], yticks=[], frame_on=False)
        line[0].set_ylabel(name, fontsize=10)
        for j, (perturbed, _, fooled) in enumerate(answers):
            gap, change, after = line[3 * j + 1 : 3 * j + 4]
            gap.remove()
            show(change, magnified(perturbed, image, factor), "" if k else _times(factor))
            show(after, perturbed, "" if k else f"perturbed, {bounds[j]:g}/255")
            after.set_xlabel(texts[k][j], fontsize=9, color=_FOOLED if fooled else _HOLDS)
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
def adversary_curves(history: list[dict]) -> Figure:
    """Both loss terms of a trained adversary and the share of images it fools at several bounds, over epochs.

    ``history`` has entries with ``epoch`` and, where they are known, ``perturbed_loss`` (fooling),
    ``perturbation_loss`` (weighted penalty) and ``fooled_<bound>``, shares in [0, 1].
    """
    figure, axes = grid_axes(1, 3, width=3.7, height=3.1)
    fooling, penalty, fooled = axes[0]
    for axis, key in ((fooling, "perturbed_loss"), (penalty, "perturbation_loss")):
        curve(axis, history, key, **curve_look(0, history))
        axis.set_ylim(bottom=0)
    bounds = dict.fromkeys(key for entry in history for key in entry if key.startswith("fooled_"))
    for k, key in enumerate(bounds, 1):
        percent = [{"epoch": e["epoch"], key: 100 * e[key]} for e in history if key in e]
        name = f"at {key.removeprefix('fooled_')}/255"
        curve(fooled, percent, key, label=name, **curve_look(k, history))
    last = max(1, *(entry["epoch"] for entry in history))
    epochs = [e for e in MaxNLocator(integer=True).tick_values(0, last) if 0 <= e <= last]
    for axis in axes[0]:
        axis.set(xlabel="epoch", xticks=epochs, xlim=(-0.05 * last, 1.05 * last))
    fooling.set(ylabel="hinge on the margin", title="Fooling term, training")
    penalty.set(ylabel="weight · mean square", title="Penalty on the size, training")
    fooled.set(ylabel="success rate (%)", title="Success, validation")
    fooled.set(ylim=_PERCENT, yticks=_TICKS)
    legend_below(figure)
    return figure


@styled
def trade_off(curves: Mapping[str, Sequence[tuple[float, float, str]]]) -> Figure:
    """How many images are fooled over how visible the perturbation is.

    ``curves`` are name -> points as PSNR in dB, share in [0, 1] and text, e.g. ``"4/255"``, in the order
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
