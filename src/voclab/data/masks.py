"""Decodes masks as tools write them: palettes, greys of any depth, colours, arrays; nothing is scaled.

A file's pixels are numbers or colours (:class:`Stored`). A :class:`Legend` says which class each is: VOC's,
that of a label map, or, where pairs of images and masks come without one, classes named by their numbers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from voclab.data.base import VOC_CLASSES, VOID, refusal, voc_palette
from voclab.data.decoding import opened, read_array
from voclab.data.labelmap import MAX_CLASSES, VOID_COLOUR, LabelMap
from voclab.errors import VoclabError

SUFFIXES = (".png", ".npy", ".bmp", ".tif", ".tiff", ".gif", ".webp", ".jpg", ".jpeg", ".pgm", ".ppm")
WHITE = "foreground"  # the class of masks that are black and white
_FORMATS = ("PNG", "BMP", "TIFF", "GIF")  # those that keep every pixel as it was
_LOSSY = ("jpeg", "tiff_jpeg", "webp")  # of TIFF
_MAX_COLOURS = 4096  # more are an image's
_PACKED = np.array([1 << 16, 1 << 8, 1], np.int32)  # (r, g, b) @ this is 0xRRGGBB
_PALETTE = voc_palette().astype(np.int32) @ _PACKED
_AGAIN = "export the masks again as PNG"
_GREY = 0x010101  # times v is the packed colour (v, v, v)


@dataclass(frozen=True)
class Stored:
    """A mask as its file has it.

    Attributes:
        kind: ``"indices"`` (numbers with VOC's palette), ``"greys"`` (numbers without one) or ``"colours"``
            (packed as 0xRRGGBB).
        pixels: (H, W) whole numbers.
        used: which of them occur, in order.
    """

    kind: str
    pixels: np.ndarray
    used: tuple[int, ...]


Used = tuple[Path, str, tuple[int, ...]]  # a mask's path, ``Stored.kind`` and ``Stored.used``


@dataclass(frozen=True)
class Legend:
    """What numbers and colours of masks mean: 0 background, ``k + 1`` class ``k``, 255 void.

    Attributes:
        class_names: the classes in their order.
        numbers: number in a file -> value of the mask.
        colours: packed colour in a file -> value of the mask.
        origin: what says so, for sentences.
        coloured: whether a palette's colours count more than its numbers, as a label map with colours wants.
        void_if_white: whether 255 is void in a mask that holds nothing but 0 and 255.
    """

    class_names: tuple[str, ...]
    numbers: Mapping[int, int]
    colours: Mapping[int, int]
    origin: str
    coloured: bool = False
    void_if_white: bool = False


def voc_legend() -> Legend:
    """VOC's twenty classes by number and by colour."""
    values = (*range(len(VOC_CLASSES) + 1), VOID)
    return Legend(VOC_CLASSES, {v: v for v in values}, {int(_PALETTE[v]): v for v in values}, "VOC")


def legend_of(found: LabelMap) -> Legend:
    """What a label map says.

    Numbers are those that it gives, else the places of its lines where the first of them is background, and
    its grey colours. Black is background and VOC's void colour void, unless it says otherwise.
    """
    if found.is_voc:
        return voc_legend()
    values, k = [], 0
    for entry in found.entries:
        k += not (entry.background or entry.void)
        values.append(0 if entry.background else VOID if entry.void else k)
    pairs = list(zip(found.entries, values, strict=True))
    colours = {_pack(e.colour): v for e, v in pairs if e.colour is not None}
    numbers = {e.value: v for e, v in pairs if e.value is not None}
    greys = {e.colour[0]: v for e, v in pairs if e.colour is not None and len(set(e.colour)) == 1}
    if not numbers and set(greys.values()) >= set(range(1, k + 1)):
        numbers = greys
    elif not numbers:
        ordered = [pair for pair in pairs if pair[0].plain != "ignore"]  # labelme gives it -1
        if ordered[0][0].background:
            numbers = {place: v for place, (_, v) in enumerate(ordered)}
        numbers |= {grey: v for grey, v in greys.items() if grey}
    if colours:
        colours = {0: 0, _pack(VOID_COLOUR): VOID} | colours
    if numbers:
        numbers = {0: 0, VOID: VOID} | numbers
    return Legend(found.class_names, numbers, colours, found.path.name, coloured=bool(colours))


def _pack(colour: Sequence[int]) -> int:
    return colour[0] << 16 | colour[1] << 8 | colour[2]


def _name(packed: int) -> str:
    return f"({packed >> 16}, {packed >> 8 & 255}, {packed & 255})"


def fitted(legend: Legend, stored: Sequence[Used]) -> Legend:
    """The legend of a label map for all masks of a data set: settles what one file cannot tell.

    Args:
        legend: see :func:`legend_of`.
        stored: of every mask.

    Raises:
        VoclabError: the map has names only and the masks do not show which number is which; or black and
            white masks where 255 could be void or a class.
    """
    numbers = {v for _, kind, used in stored if kind != "colours" for v in used}
    n = len(legend.class_names)
    if not legend.numbers and not legend.colours and numbers - {0, VOID}:
        largest = max(numbers - {VOID})
        if largest != n:
            raise refusal(
                legend.origin,
                f"names {n} classes, but the largest number in the masks is {largest}",
                "write background as its first line if 0 is background",
            )
        legend = replace(legend, numbers={0: 0, VOID: VOID} | {k: k for k in range(1, n + 1)})
    whites = [path for path, kind, used in stored if _white(kind, used)]
    if not whites or legend.numbers.get(VOID, VOID) != VOID:
        return legend
    greys = [set(used) for _, kind, used in stored if kind == "greys"]
    if n == 1 and all(used <= {0, VOID} for used in greys):
        return replace(legend, numbers={**legend.numbers, VOID: 1, 0: 0})
    if any(VOID in used and used - {0, VOID} for used in greys):
        return replace(legend, void_if_white=True)
    raise _ambiguous(whites[0])


def _white(kind: str, used: tuple[int, ...]) -> bool:
    return kind == "greys" and VOID in used and set(used) <= {0, VOID}


def _ambiguous(path: Path) -> VoclabError:
    return refusal(
        path,
        "holds nothing but 0 and 255, so 255 could be void or a class",
        "write the class's number instead, or add a labelmap.txt with the one class",
    )


def generic_legend(stored: Sequence[Used]) -> Legend:
    """A legend for masks that come without a label map: classes named by their numbers.

    Args:
        stored: of every mask.

    Raises:
        VoclabError: colours other than VOC's, or numbers that are no class numbers.
    """
    remedy = "add a labelmap.txt with name:r,g,b for each class"
    place = {int(packed): k for k, packed in reversed(list(enumerate(_PALETTE)))}
    numbers: dict[int, Path] = {}
    for path, kind, used in stored:
        for v in used:
            k = place.get(v) if kind == "colours" else v
            if k is None:
                raise refusal(path, f"has the colour {_name(v)}, and nothing says its class", remedy)
            numbers.setdefault(k, path)
    classes = sorted(set(numbers) - {0, VOID})
    if not classes:
        if any(kind == "indices" and VOID in used for _, kind, used in stored) or VOID not in numbers:
            where = stored[0][0].parent
            raise refusal(where, "holds masks of background only", "name a folder whose masks show classes")
        return Legend((WHITE,), {0: 0, VOID: 1}, {}, "the masks, which are black and white")
    # Numbers of classes begin at 1 and leave few gaps; levels of grey, compressed masks and depths do not.
    last = classes[-1]
    dense = len(classes) >= last / 2 or all(kind != "greys" for _, kind, _ in stored)
    if last > MAX_CLASSES or not (dense or last <= 40):
        what = f"has the value {last} beside {len(classes) - 1} others from {classes[0]}"
        remedy += ", and save masks without compression"
        raise refusal(numbers[last], f"{what}, which are no class numbers", remedy)
    whites = [path for path, kind, used in stored if _white(kind, used)]
    seen = any(VOID in used and set(used) & set(classes) for _, kind, used in stored)
    if whites and not seen:
        raise _ambiguous(whites[0])
    values = {0: 0, VOID: VOID} | {v: k for k, v in enumerate(classes, 1)}
    return Legend(
        tuple(f"class {v}" for v in classes),
        values,
        {int(_PALETTE[v]): k for v, k in values.items()},
        "the masks' numbers",
        void_if_white=True,
    )


def decode(path: str | Path, legend: Legend | None = None) -> np.ndarray:
    """Decode a mask: (H, W) uint8 with 0 background, ``k + 1`` class ``k``, 255 void.

    Args:
        path: see :func:`read`.
        legend: what its numbers and colours mean; without one, what VOC's do.

    Raises:
        VoclabError: see :func:`read`; or a number or colour that the legend does not have.
    """
    stored = read(path)
    table = meaning(path, stored.kind, stored.used, legend or voc_legend())
    if stored.pixels.dtype == np.uint8:  # VOC's own: looking up is faster than searching
        looked_up = np.zeros(256, np.uint8)
        looked_up[list(table)] = list(table.values())
        return cv2.LUT(stored.pixels, looked_up)
    return np.array(list(table.values()), np.uint8)[np.searchsorted(list(table), stored.pixels)]


def meaning(path: str | Path, kind: str, used: tuple[int, ...], legend: Legend) -> dict[int, int]:
    """What each number or colour of a file becomes, in the order of ``used``; errors as :func:`decode`."""
    by_colour = kind == "colours" or (kind == "indices" and legend.coloured)
    options = [(legend.colours if by_colour else legend.numbers, used)]  # (table, the file in its terms)
    if kind == "indices" and by_colour:
        options = [(legend.colours, tuple(int(_PALETTE[v]) for v in used))]
    elif kind == "colours" and all(v % _GREY == 0 for v in used):
        options.append((legend.numbers, tuple(v // _GREY for v in used)))
    for table, terms in options:
        if all(v in table for v in terms):
            greys = kind == "greys" or (kind == "colours" and table is legend.numbers)
            if greys and table.get(VOID) == VOID and _white("greys", terms) and not legend.void_if_white:
                raise _ambiguous(Path(path))
            return {v: table[term] for v, term in zip(used, terms, strict=True)}
    table, terms = options[0]
    wrong = next(v for v in terms if v not in table)
    remedy = "restore the mask or name its class in a labelmap.txt"
    if by_colour:
        raise refusal(
            path, f"has the colour {_name(wrong)}, which is none of {legend.origin}'s colours", remedy
        )
    if not table:
        unsaid = f"holds numbers, but {legend.origin} does not say which class is which number"
        raise refusal(path, unsaid, "save the masks in its colours")
    last = max(v for v in table if v != VOID)
    held = f"0–{last}" if set(range(last + 1)) <= set(table) else ", ".join(map(str, sorted(table)[:-1]))
    known = f"which is no class of {legend.origin} ({held}, and {VOID} for void)"
    raise refusal(path, f"has the value {wrong}, {known}", remedy)


def read(path: str | Path) -> Stored:
    """The numbers or colours of a mask file, exactly as they are stored.

    A palette that is not VOC's is read by its colours; 1-, 2-, 4- and 16-bit greys by their numbers; a
    ``.npy`` array of (H, W) or (H, W, 1) whole numbers, of any type, with -1 for void, or (H, W, 3) colours.

    Raises:
        VoclabError: missing, damaged, or a format, a depth or transparency that does not keep them.
    """
    path = Path(path)
    if path.suffix.lower() == ".npy":
        return _from_array(path)
    with opened(path) as (image, data):
        if image.format not in _FORMATS:
            what = f"is a {image.format}, a format that may change the numbers of a mask"
            raise refusal(path, what, _AGAIN)
        scale = _scale(path, image, data)
        if image.mode == "P":
            return _from_palette(path, image)
        pixels = np.array(image)
        if image.mode in ("RGB", "RGBA"):
            return _from_colours(path, pixels)
        if image.mode not in ("1", "L", "LA", "I", "F") and not image.mode.startswith("I;16"):
            raise refusal(path, f"is a {image.mode} image, not one of class numbers or colours", _AGAIN)
    if pixels.ndim == 3:  # grey with transparency
        _check_opaque(path, pixels[..., 1] < 255, pixels[..., 0] > 0)
        pixels = pixels[..., 0]
    pixels = whole_numbers(path, pixels)
    return _numbers(path, pixels // np.asarray(scale, pixels.dtype) if scale > 1 else pixels)


def _scale(path: Path, image: Image.Image, data: bytes) -> int:
    """By what Pillow multiplied the numbers: it spreads greys of 2 and 4 bits over 0–255."""
    if getattr(image, "n_frames", 1) > 1:
        raise refusal(path, "holds several images", "export one mask a file")
    if image.format == "PNG":
        depth, colour_type = data[24:26]
        if depth == 16 and colour_type != 0:
            raise refusal(path, "has 16 bits a channel", "export the masks again with 8 bits")
        return 255 // (2**depth - 1) if colour_type == 0 and depth in (2, 4) else 1
    if image.format == "TIFF":
        if (how := image.info.get("compression")) in _LOSSY:
            raise refusal(path, f"is a TIFF compressed as {how}, which changes the numbers of a mask", _AGAIN)
        bits = np.atleast_1d(image.tag_v2.get(258, 1))
        if image.tag_v2.get(262) == 0 or not np.isin(bits, (1, 8, 16, 32)).all():
            raise refusal(path, f"is a TIFF of {bits} bits or inverted", _AGAIN)
    return 1


def _from_palette(path: Path, image: Image.Image) -> Stored:
    palette = np.array(image.getpalette("RGB") or (), np.int32).reshape(-1, 3)
    pixels = np.array(image)
    used = _used(pixels)
    if used[-1] >= len(palette):
        raise refusal(path, f"uses colour {used[-1]}, which its palette lacks", "restore the mask")
    colours = palette @ _PACKED
    for kind, wanted in (("indices", _PALETTE[used]), ("greys", used * _GREY)):
        if np.array_equal(colours[used], wanted):
            return Stored(kind, pixels, tuple(used.tolist()))
    return _by_colours(colours[pixels])


def _from_colours(path: Path, pixels: np.ndarray) -> Stored:
    packed = pixels[..., :3].astype(np.int32) @ _PACKED
    if pixels.shape[2] == 4:
        _check_opaque(path, pixels[..., 3] < 255, pixels[..., :3].any(-1))
    stored = _by_colours(packed)
    if len(stored.used) > _MAX_COLOURS:
        what = f"has more than {_MAX_COLOURS} colours, so it is an image or a compressed mask"
        raise refusal(path, what, _AGAIN)
    return stored


def _by_colours(packed: np.ndarray) -> Stored:
    """Colours; those of an image in black and white, or in numbers stored as greys, are numbers."""
    used = np.unique(packed)
    levels = used // _GREY
    grey = (used % _GREY == 0).all()
    if grey and (levels[-1] <= len(VOC_CLASSES) or set(levels.tolist()) <= {0, VOID}):
        return Stored("greys", packed & 255, tuple(levels.tolist()))
    return Stored("colours", packed, tuple(used.tolist()))


def _check_opaque(path: Path, transparent: np.ndarray, coloured: np.ndarray) -> None:
    if (transparent & coloured).any():
        raise refusal(path, "has transparent colours", "export the masks again without transparency")


def _from_array(path: Path) -> Stored:
    array = read_array(path)
    if array.ndim == 3 and array.shape[2] == 3 and array.dtype == np.uint8:
        return _from_colours(path, array)
    pixels = whole_numbers(path, array)
    if pixels.dtype.kind == "i":
        void = VOID if pixels.dtype.itemsize > 1 else -1  # int8 has no 255
        pixels = np.where(pixels == -1, pixels.dtype.type(void), pixels)
        pixels = pixels.view(np.uint8) if pixels.dtype.itemsize == 1 else pixels
    return _numbers(path, pixels)


def whole_numbers(path: str | Path, array: np.ndarray) -> np.ndarray:
    """(H, W) integers of a mask; floats are taken where every one is whole, and true is white."""
    array = array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array
    if array.ndim != 2 or array.dtype.kind not in "buif":
        what = f"holds {array.dtype} of shape {array.shape}, not whole numbers of shape (H, W)"
        raise refusal(path, what)
    if array.dtype.kind == "b":
        return array.astype(np.uint8) * np.uint8(VOID)
    if array.dtype.kind != "f":
        return array
    with np.errstate(invalid="ignore"):
        whole = array.astype(np.int64)
    if not np.array_equal(whole, array):
        odd = array[whole != array][0]
        raise refusal(path, f"has the value {odd}, which is no whole number", "restore the mask")
    return whole


def _used(pixels: np.ndarray) -> np.ndarray:
    """The numbers in (H, W) pixels, ascending."""
    if pixels.dtype != np.uint8:
        return np.unique(pixels)
    return np.flatnonzero(cv2.calcHist([pixels], [0], None, [256], [0, 256]))  # in a fifth of the time


def _numbers(path: Path, pixels: np.ndarray) -> Stored:
    used = _used(pixels)
    for bad in (used[0], used[-1]):
        if not 0 <= bad < 1 << 16:
            raise refusal(path, f"has the value {bad}, which is no class number", "restore the mask")
    return Stored("greys", pixels.astype(np.uint16) if used[-1] > 255 else pixels, tuple(used.tolist()))
