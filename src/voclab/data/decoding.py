"""Decodes an image of any kind that people keep to RGB of 8 bits, or says in one sentence why it cannot.

Only the formats named here are tried: Pillow knows more, some of which start other programs (EPS).
"""

import io
import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image, UnidentifiedImageError

from voclab.data.base import refusal
from voclab.errors import VoclabError
from voclab.files import ARRAY_DAMAGE

SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm",
    ".pgm", ".pbm", ".pnm", ".avif",
)  # fmt: skip
# Images too, but none that Pillow reads, or reads as they are meant (of raw images it takes the thumbnail).
UNREAD_SUFFIXES = (
    ".arw", ".cr2", ".cr3", ".dcm", ".dng", ".exr", ".hdr", ".heic", ".heics", ".heif", ".hif", ".ico",
    ".j2k", ".jp2", ".jpx", ".jxl", ".nef", ".npy", ".npz", ".orf", ".psd", ".raf", ".raw", ".rw2", ".svg",
    ".tga",
)  # fmt: skip
MAX_DECODED = 3 * 2**27  # bytes of a decoded image: 134 million pixels of RGB, more than cameras give
_NO_IMAGE = (".bak", ".crdownload", ".download", ".old", ".orig", ".part", ".thm", ".tmp")  # copies, rests
_FORMATS = ("JPEG", "PNG", "BMP", "DIB", "WEBP", "GIF", "TIFF", "PPM", "AVIF")

# How a file begins; only kinds that nothing else begins like.
_BEGINNINGS = re.compile(rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|GIF8[79]a|RIFF....WEBP|....ftypavi[fs]", re.DOTALL)
_FOREIGN = (  # what is found under the names of images that are none
    (rb"$", "is empty", "copy it again or remove it"),
    (rb"version https://git-lfs", "is a pointer of Git LFS and not the image itself", "run `git lfs pull`"),
    (rb"\s*<(!doctype html|html)", "is a web page and not an image", "download the image again"),
    (rb"\s*<(\?xml|svg)", "is a drawing (SVG) or other XML and no image", "save it as PNG"),
    (rb"....ftyp(hei|hev|mif1|msf1)", "is a HEIC image, which cannot be read here", "save it as JPEG or PNG"),
    (rb"", "is a damaged image, or none that can be read here", "save it as JPEG or PNG, or remove it"),
)
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)  # none of these inside coded pixels
_JPEG_END = 0xD9
_ORIENTATION = 0x0112  # of EXIF, and the turns that undo it
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip
_BITS_PER_SAMPLE, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339  # tags of TIFF, and values of the latter two
_WHITE_IS_ZERO, _SIGNED = 0, 2


def is_image_file(path: str | os.PathLike) -> bool:
    """Whether a file is an image by its suffix or, under any other name, by how it begins."""
    suffix = os.path.splitext(path)[1].lower()
    if not os.path.isfile(path) or suffix in _NO_IMAGE or suffix.endswith("~"):
        return False
    if suffix in SUFFIXES:
        return True
    try:
        with open(path, "rb") as file:
            return _BEGINNINGS.match(file.read(16)) is not None
    except OSError:
        return False


def decode(path: str | os.PathLike, upright: bool = True) -> np.ndarray:
    """Decode an image: (H, W, 3) uint8 RGB, turned as its EXIF says, transparent parts on white.

    Of an animation or a file of several pages it is the first. 16-bit samples are scaled to 8 bits; floats
    and 32-bit numbers are read by :func:`to_uint8`.

    Args:
        path: the file.
        upright: ``False`` leaves the pixels as they are stored, whatever the EXIF says.

    Raises:
        VoclabError: missing, damaged, no image, of a kind that cannot be read or scaled without guessing, or
            more than ``MAX_DECODED`` bytes.
    """
    with opened(path) as (image, data):
        deep = _is_deep(image)
        sample = 2 if deep else 4 if image.mode in ("I", "F") else 1
        _require_size(path, image.size, sample * len(image.getbands()))
        _refuse_misread_tiff(path, image, deep)
        image.load()
        # libjpeg fills what is missing with grey where a broken copy left zeros, without a word.
        if image.format in ("JPEG", "MPO") and not _is_whole_jpeg(data):
            raise OSError("its end is missing")
        pixels = _to_rgb(path, image, deep)
        turn = _TURNS.get(_orientation(image)) if upright else None
        return np.ascontiguousarray(
            pixels if turn is None else np.asarray(Image.fromarray(pixels).transpose(turn))
        )


def sizes(path: str | os.PathLike) -> tuple[tuple[int, int], int]:
    """((width, height) as it is stored, EXIF orientation) of an image, without decoding it."""
    with opened(path) as (image, _):
        return image.size, _orientation(image)


@contextmanager
def opened(path: str | os.PathLike) -> Iterator[tuple[Image.Image, bytes]]:
    """Pillow's image of a file, not yet decoded, and the file's bytes; what Pillow raises is one sentence.

    The file is read at once: one that shrinks while Pillow or libtiff has it mapped would end the process.
    """
    data = read_bytes(path)
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            _require_size(path, image.size)
            yield image, data
    except VoclabError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(path, "a size") from error
    except UnidentifiedImageError as error:
        kinds = (kind[1:] for kind in _FOREIGN if re.match(kind[0], data, re.DOTALL | re.IGNORECASE))
        raise refusal(path, *next(kinds)) from error
    except Exception as error:  # a damaged file can raise anything
        reason = str(error).split("\n")[0] or type(error).__name__
        raise refusal(
            path,
            f"is a damaged image, or of a kind that cannot be read ({reason})",
            "copy it again, save it as JPEG or PNG, or remove it",
        ) from error


def read_bytes(path: str | os.PathLike) -> bytes:
    """The content of a file; one that is missing, too large or cannot be read is a ``VoclabError``."""
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > MAX_DECODED:
                what = f"has {size // 10**6} million bytes, more than {MAX_DECODED // 10**6}"
                raise refusal(path, what, "shrink or remove it")
            return file.read()
    except FileNotFoundError as error:
        raise refusal(path, "is missing") from error
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        reason = getattr(error, "strerror", None) or error
        raise refusal(path, f"cannot be read ({reason})", "check file and disk") from error


def read_array(path: str | os.PathLike) -> np.ndarray:
    """A .npy file, read-only: the header is checked against the file's size, and nothing is ever unpickled.

    Not mapped: a file that shrinks while it is mapped would end the process.
    """
    data = read_bytes(path)
    try:
        file = io.BytesIO(data)
        version = np.lib.format.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"version {version}")
        one, two = np.lib.format.read_array_header_1_0, np.lib.format.read_array_header_2_0
        header = one if version == (1, 0) else two
        shape, by_columns, dtype = header(file)
        count = math.prod(shape)
        if dtype.hasobject or min(shape) < 1 or count * dtype.itemsize != len(data) - file.tell():
            raise ValueError("its size is not that of its header")
        return np.frombuffer(data, dtype, count, file.tell()).reshape(shape, order="F" if by_columns else "C")
    except ARRAY_DAMAGE as error:
        raise refusal(
            path, "is not a plain .npy array (pickled, truncated or damaged)", "download or export it again"
        ) from error


def load_image(path: str | os.PathLike) -> np.ndarray:
    """An image of a .npy file: (H, W, 3) uint8 RGB; the numbers are read by :func:`to_uint8`."""
    array = read_array(path)
    if array.ndim != 3 or array.shape[2] != 3:
        raise refusal(path, f"holds {array.dtype} of shape {array.shape}, not uint8 of shape (H, W, 3)")
    return np.array(to_uint8(path, array), order="C")


def to_uint8(path: str | os.PathLike, values: np.ndarray) -> np.ndarray:
    """Numbers of any type as uint8: whole ones from 0 to 255 as they are, floats from 0 to 1 times 255.

    Raises:
        VoclabError: neither is the case, so that nobody can tell what is black and what is white.
    """
    if values.dtype == np.uint8:
        return values
    remedy = "save it with 8 bits, from 0 to 255"
    if values.dtype.kind not in "iuf":
        raise refusal(path, f"holds {values.dtype} and no numbers", remedy)
    unknown = "so its black and white are not known"
    if values.size and not (values.min() >= 0 and values.max() <= 255):  # NaN is refused too
        held = f"holds {values.dtype} from {values.min():g} to {values.max():g}"
        raise refusal(path, f"{held}, {unknown}", remedy)
    if values.dtype.kind == "f" and values.size and values.max() <= 1:
        return np.rint(values * 255).astype(np.uint8)
    if values.dtype.kind == "f" and (values != np.rint(values)).any():
        held = f"holds {values.dtype} up to {values.max():g} that are no whole numbers"
        raise refusal(path, f"{held}, {unknown}", f"{remedy}, or scale it to 0 … 1")
    return values.astype(np.uint8)


def _require_size(path: str | os.PathLike, size: tuple[int, int], pixel_bytes: int = 3) -> None:
    """Refuse a header that declares more bytes than memory should be spent on.

    RGB is the least that is counted, because every image ends as RGB.
    """
    if size[0] * size[1] * max(3, pixel_bytes) > MAX_DECODED:
        raise _too_large(path, f"{size[0]} × {size[1]} pixels of {max(3, pixel_bytes)} bytes")


def _too_large(path: str | os.PathLike, what: str) -> VoclabError:
    limit = f"more than {MAX_DECODED // 10**6} million bytes when it is decoded"
    return refusal(path, f"declares {what}, {limit}", "shrink or remove it")


def _orientation(image: Image.Image) -> int:
    if image.format == "TIFF":  # Pillow turns it itself, and not every Pillow forgets the tag then
        return 1
    try:
        orientation = image.getexif().get(_ORIENTATION)
        return orientation if orientation in _TURNS else 1
    except Exception:  # EXIF that cannot be read turns nothing, in viewers as well
        return 1


def _is_deep(image: Image.Image) -> bool:
    """Whether samples have 16 bits in the file; of colours Pillow keeps the upper 8."""
    return image.mode.startswith("I;16") or ";16" in str(image.tile[:1])


def _refuse_misread_tiff(path: str | os.PathLike, image: Image.Image, deep: bool) -> None:
    """Pillow takes 16-bit planes that lie one after the other for 8-bit ones, and signed for unsigned."""
    tags = getattr(image, "tag_v2", {})
    bits, signed = max(tags.get(_BITS_PER_SAMPLE, (8,))), _SIGNED in tags.get(_SAMPLE_FORMAT, ())
    if image.mode not in ("I", "F") and ((bits > 8 and not deep) or (bits == 8 and signed)):
        what = "signed 8-bit samples" if signed else f"planes of {bits} bits"
        raise refusal(path, f"holds {what}, which cannot be read here", "save it as PNG")


def _is_whole_jpeg(data: bytes) -> bool:
    """Whether the (first) image in the file has its end marker."""
    at = 2
    while found := _JPEG_MARKER.search(data, at):
        at = found.end()
        if data[at - 1] == _JPEG_END:
            return True
        at += int.from_bytes(data[at : at + 2], "big")
    return False


def _to_rgb(path: str | os.PathLike, original: Image.Image, deep: bool) -> np.ndarray:
    """(H, W, 3) uint8 in the stored orientation."""
    if original.mode in ("I", "F") or original.mode.startswith("I;16"):
        return np.repeat(_grey(path, original)[..., None], 3, axis=2)
    mode = original.mode
    try:
        palette = original.palette.mode if mode == "P" and original.palette else ""
        if {"A", "a"} & {*original.getbands(), *palette} or "transparency" in original.info:
            original = original.convert("RGBA")
            original = Image.alpha_composite(Image.new("RGBA", original.size, "white"), original)
        pixels = np.array(original if original.mode == "RGB" else original.convert("RGB"))  # which would copy
    except ValueError as error:
        raise refusal(path, f"has the colours {mode}, which cannot be converted", "save it as RGB") from error
    if deep and pixels.max() < 16:  # Pillow has kept the upper 8 bits: nothing may be left of the rest
        raise _too_dark(path)
    return pixels


def _grey(path: str | os.PathLike, image: Image.Image) -> np.ndarray:
    """(H, W) uint8 of 16-bit, 32-bit and float samples."""
    values, tags = np.asarray(image), getattr(image, "tag_v2", {})
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        white = 2 ** tags.get(_BITS_PER_SAMPLE, (16,))[0] - 1
        if 0 < values.max() <= white // 16:
            raise _too_dark(path)
        grey = np.rint(values.astype(np.float32) * (255 / white)).astype(np.uint8)
        if "transparency" in image.info:
            grey[values == image.info["transparency"]] = 255
    else:
        grey = to_uint8(path, values)
    inverted = tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO  # Pillow turns those of 8 bits only
    return 255 - grey if inverted else grey


def _too_dark(path: str | os.PathLike) -> VoclabError:
    """Cameras and microscopes keep 10 or 12 bits in files of 16, whose white then is not the file's."""
    what = "uses only the lowest 12 of its 16 bits, so it would be read as black"
    return refusal(path, what, "save it with 8 bits")
