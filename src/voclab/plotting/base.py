"""The style of every figure, how it is saved, and the layouts and legends that several share."""

import io
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from voclab.files import atomic_path, make_folder
from voclab.plotting.letters import FONT, lettered

COLOURS = sns.color_palette("colorblind")
RIGHT, WRONG = "#1b7837", "#b2182b"  # of titles: green and red of unlike lightness
# Without its yellow and pale pink, which are lost on white ground.
_SERIES = [*COLOURS[:5], (0.1, 0.1, 0.1), COLOURS[9], COLOURS[5], (0.33, 0.2, 0.6), COLOURS[7]]
_WHITE = (255, 255, 255)
# Of the same weight for the eye: matplotlib's stars and crosses of a size are smaller than its squares.
_MARKERS = {"o": 1.0, "s": 0.95, "D": 0.85, "^": 1.15, "v": 1.15, "P": 1.2, "X": 1.2, "*": 1.6}
STYLE = {
    "figure.dpi": 100,
    "figure.constrained_layout.use": True,
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
    """Make a function draw in our style, with every text it is given in letters that some font here has."""

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


# --- saving ---


def save(
    figure: Figure,
    path: str | Path,
    *,
    title: str,
    images: bool = False,
    dither: bool = False,
    dpi: int = 110,
) -> Path:
    """Write a figure as ``<path>.png``, reduced to 256 colours, close it and return that path.

    A chart gets a vector copy, ``<path>.svg``, too. Of ``images`` the colours of legend and bars are kept as
    they are; with ``dither`` smooth areas show no bands, and the file is larger. Without ``title`` there is
    none.
    """
    path = Path(path)
    make_folder(path.parent)
    png = path.with_name(path.name + ".png")
    if title:
        _entitle(figure, title)
    with mpl.rc_context(STYLE):
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=dpi)
        image = Image.open(buffer).convert("RGB")
        if images:
            image = _few_colours(image, [_WHITE, *_solid_colours(figure)], dither)
        else:  # of a chart, thin lines too keep their colours
            image = image.quantize(256, method=Image.Quantize.MAXCOVERAGE)
        with atomic_path(png) as temporary:
            image.save(temporary, format="png", optimize=True)
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


def _solid_colours(figure: Figure) -> list[tuple[int, ...]]:
    """Colours of the patches in a figure's legends, and of its bars: (R, G, B) in 0..255."""
    patches = [p for legend in figure.legends for p in legend.get_patches()]
    patches += [bar for axis in figure.axes for bars in axis.containers for bar in bars.get_children()]
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


# --- layouts ---


def chart(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure of that size in inches and its one axis."""
    figure, axes = grid_axes(1, 1, width=width, height=height)
    return figure, axes[0, 0]


def grid_axes(rows: int, columns: int, *, width: float, height: float) -> tuple[Figure, np.ndarray]:
    """A figure and its (rows, columns) axes, each about ``width`` x ``height`` inches."""
    return plt.subplots(rows, columns, figsize=(width * columns, height * rows), squeeze=False)


def image_axes(
    heights: Sequence[float], width: float, columns: int | Sequence[float], *, more: float
) -> tuple[Figure, np.ndarray]:
    """A figure of ``width`` inches and its (rows, columns) axes for images, ``heights`` inches high.

    ``columns`` are their number, or their widths in any unit; ``more`` is inches for titles and labels.
    """
    widths = [1] * columns if isinstance(columns, int) else columns
    return plt.subplots(
        len(heights),
        len(widths),
        figsize=(width, sum(heights) + more),
        height_ratios=heights,
        width_ratios=widths,
        squeeze=False,
    )


def panel_width(columns: float) -> float:
    """Inches that an image in a grid may take: no grid is so wide that a page must make its texts small."""
    return min(2.05, 10.4 / columns)


def row_heights(images: Sequence[np.ndarray], columns: int) -> list[float]:
    """Height over width of each row of images; a portrait is made as small as what stands beside it."""
    heights = []
    for start in range(0, len(images), columns):
        ratios = [p.shape[0] / p.shape[1] for p in images[start : start + columns]]
        narrow = min(ratios) > 1
        heights.append(1.0 if narrow else max(0.75 if ratio > 1 else ratio for ratio in ratios))
    return heights


def show(axis: Axes, image: np.ndarray, title: str = "") -> None:
    """Show an image without frame and ticks, at the top of its place: titles of a row stand in one line."""
    axis.imshow(image, interpolation="nearest" if max(image.shape[:2]) < 200 else "antialiased")
    axis.set(xticks=[], yticks=[])
    axis.set_title(textwrap.fill(title, 26), fontsize=10)
    axis.grid(visible=False)
    axis.spines[:].set_visible(False)


def remove_empty(axes: np.ndarray) -> None:
    """Remove what shows nothing."""
    for axis in axes.flat:
        if not axis.has_data():
            axis.remove()


# --- texts and legends ---


def fitted(title: str, inches: float, points: int = 9) -> str:
    """A title in lines for which an image of that width has room, three at most for each of its own."""
    room = max(4, int(124 * inches / points))
    lines = [textwrap.wrap(line, room, max_lines=3, placeholder="…") for line in title.split("\n")]
    return "\n".join("\n".join(line) for line in lines)


def wrapped(text: str, width: int) -> str:
    """A text in lines of that many letters; words stay whole."""
    return textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False)


def most_lines(texts: Iterable[str]) -> int:
    """Lines of the text that has most."""
    return max((text.count("\n") + 1 for text in texts), default=1)


def legend_below(figure: Figure, handles: Sequence[Artist] | None = None) -> None:
    """A legend of ``handles``, else of all that is labelled; the figure grows by its height."""
    if handles is None:
        named = {}
        for handle in (handle for axis in figure.axes for handle in axis.get_legend_handles_labels()[0]):
            named.setdefault(handle.get_label(), handle)
        handles = list(named.values())
    widest = 0.5 + 0.08 * max(len(handle.get_label()) for handle in handles)  # inches
    columns = max(1, min(len(handles), int(figure.get_figwidth() / widest)))
    rows = -(-len(handles) // columns)
    columns = -(-len(handles) // rows)  # 3 + 3 rather than 5 + 1
    figure.legend(handles=handles, loc="outside lower center", ncols=columns)
    figure.set_figheight(figure.get_figheight() + 0.2 * rows)


# --- charts ---


def spread(k: int, count: int, width: float) -> float:
    """Where the middle of the k-th of ``count`` bars or dots side by side lies, each ``width`` wide."""
    return (k - (count - 1) / 2) * width


def dots(axis: Axes, rows: Sequence[str], series: Mapping[str, np.ndarray], size: float = 6) -> None:
    """A line a row, from top to bottom, with a dot for each series; NaN is left out, no dot hides another."""
    y = np.arange(len(rows))[::-1]
    for k, (name, values) in enumerate(series.items()):
        at = y + dot_height(k, len(series))
        axis.plot(np.asarray(values), at, ls="", label=name, **look(k, size))
    axis.set_yticks(y, rows)
    axis.set(xlim=(-0.02, 1.02), ylim=(-0.7, len(rows) - 0.3))


def dot_height(k: int, count: int) -> float:
    """How far above its line the k-th of ``count`` dots stands, in lines, so that equal ones hide none."""
    return -spread(k, count, min(0.18, 0.66 / count))


def curve(axis: Axes, history: list[dict], key: str, **style) -> None:
    """A value over epochs, where it is known."""
    known = [e for e in history if key in e]
    if known:
        axis.plot([e["epoch"] for e in known], [e[key] for e in known], **style)


def curve_look(k: int, history: list[dict], size: float = 6) -> dict:
    """Of the k-th curve: six markers or so, not where those of others are."""
    step = max(1, len(history) // 6)
    return {**look(k, size), "markevery": (k % step, step)}


def heat_map(
    axis: Axes,
    shares: np.ndarray,
    row_names: Sequence[str],
    column_names: Sequence[str],
    *,
    least: float = 0.0,
    **options,
):
    """Draw (rows, columns) shares in [0, 1] as colours from 0 to 100 %; return what a colour bar is made of.

    Values from ``least`` on are written in a colour that can be read; NaN is grey and written as "–".
    """
    percent = 100 * np.asarray(shares, np.float64)
    colours = mpl.colormaps["cividis"].with_extremes(bad="#cccccc")
    image = axis.imshow(np.ma.masked_invalid(percent), cmap=colours, vmin=0, vmax=100, **options)
    for (i, j), value in np.ndenumerate(percent):
        if value < 100 * least:
            continue
        known = np.isfinite(value)
        luma = np.dot(colours(value / 100)[:3], (0.299, 0.587, 0.114)) if known else 1
        style = {"color": "black" if luma > 0.5 else "white", "fontsize": 8 if least else 10}
        axis.text(j, i, f"{value:.0f}" if known else "–", ha="center", va="center", **style)
    axis.set_xticks(range(percent.shape[1]), column_names)
    axis.set_yticks(range(percent.shape[0]), row_names)
    axis.grid(visible=False)
    return image
