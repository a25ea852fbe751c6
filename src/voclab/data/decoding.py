"""Decodes an image of any kind that people keep to RGB of 8 bits, or says in one sentence why it cannot.

Only the formats named here are tried: Pillow knows more, some of which start other programs (EPS).
"""

import functools
import os
import re
from io import BytesIO

import numpy as np
from PIL import Image, UnidentifiedImageError, features

from voclab.data.base import MAX_DECODED, require_size, too_large
from voclab.errors import VoclabError

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
_NO_IMAGE = (".bak", ".crdownload", ".download", ".old", ".orig", ".part", ".thm", ".tmp")  # copies, rests
_FORMATS = ("JPEG", "MPO", "PNG", "BMP", "DIB", "WEBP", "GIF", "TIFF", "PPM", "AVIF")

# How a file begins; only kinds that nothing else begins like.
_BEGINNINGS = re.compile(rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|GIF8[79]a|RIFF....WEBP|....ftypavi[fs]", re.DOTALL)
_FOREIGN = (  # what is found under the names of images that are none
    (rb"version https://git-lfs", "is a pointer of Git LFS and not the image itself; run `git lfs pull`"),
    (rb"\s*<(!doctype html|html)", "is a web page and not an image; download the image again"),
    (rb"\s*<(\?xml|svg)", "is a drawing (SVG) or other XML and no image; save it as PNG"),
    (rb"....ftyp(hei|hev|mif1|msf1)", "is a HEIC image, which cannot be read here; save it as JPEG or PNG"),
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
    if not os.path.isfile(path):
        return False
    if suffix in SUFFIXES:
        return True
    if suffix in _NO_IMAGE or suffix.endswith("~"):
        return False
    try:
        with open(path, "rb") as file:
            return _BEGINNINGS.match(file.read(16)) is not None
    except OSError:
        return False


def has_more_frames(path: str | os.PathLike) -> bool:
    """Whether a file holds more than one image (an animation, pages); reads little more than its header."""
    suffix = os.path.splitext(path)[1].lower()
    try:
        if suffix in (".png", ".apng"):
            with open(path, "rb") as file:  # five times as fast as Pillow, and most files are PNG or JPEG
                return b"acTL" in file.read(4096).partition(b"IDAT")[0]
        if suffix in (".gif", ".webp", ".tif", ".tiff", ".avif"):
            with Image.open(path, formats=_formats()) as image:
                return getattr(image, "is_animated", False)
    except Exception:  # a damaged file has its sentence when it is decoded
        return False
    return False


def decode(path: str | os.PathLike) -> np.ndarray:
    """Decode an image: (H, W, 3) uint8 RGB, turned as its EXIF says, transparent parts on white.

    Of an animation or a file of several pages it is the first. 16-bit samples are scaled to 8 bits; floats
    and 32-bit numbers are read by :func:`to_uint8`.

    Raises:
        VoclabError: missing, damaged, no image, of a kind that cannot be read or scaled without guessing, or
            more than ``MAX_DECODED`` bytes.
    """
    # All at once: a file that shrinks while Pillow or libtiff has it mapped would end the process.
    data = read_bytes(path)
    try:
        with Image.open(BytesIO(data), formats=_formats()) as image:
            deep = _is_deep(image)
            require_size(path, image.size, _pixel_bytes(image, deep))
            _refuse_misread_tiff(path, image, deep)
            image.load()
            # libjpeg fills what is missing with grey where a broken copy left zeros, without a word.
            if image.format in ("JPEG", "MPO") and not is_whole_jpeg(data):
                raise OSError("its end is missing")
            return np.ascontiguousarray(_turned(image, _to_rgb(path, image, deep)))
    except VoclabError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise too_large(path) from error
    except UnidentifiedImageError as error:
        raise VoclabError(f"{path} {_foreign(data)}.") from error
    except Exception as error:  # a damaged file can raise anything
        reason = str(error).split("\n")[0] or type(error).__name__
        raise VoclabError(
            f"{path} is a damaged image, or of a kind that cannot be read ({reason}); copy it again, save"
            " it as JPEG or PNG, or remove it."
        ) from error


def read_bytes(path: str | os.PathLike) -> bytes:
    """The content of a file; one that is missing, too large or cannot be read is a ``VoclabError``."""
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > MAX_DECODED:
                raise VoclabError(
                    f"{path} has {size // 10**6} million bytes, more than {MAX_DECODED // 10**6}; shrink or"
                    " remove it."
                )
            return file.read()
    except FileNotFoundError as error:
        raise VoclabError(f"{path} is missing; restore the file.") from error
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        reason = getattr(error, "strerror", None) or error
        raise VoclabError(f"{path} cannot be read ({reason}); check file and disk.") from error


def to_uint8(path: str | os.PathLike, values: np.ndarray) -> np.ndarray:
    """Numbers of any type as uint8: whole ones from 0 to 255 as they are, floats from 0 to 1 times 255.

    Raises:
        VoclabError: neither is the case, so that nobody can tell what is black and what is white.
    """
    if values.dtype == np.uint8:
        return values
    if values.dtype.kind not in "iuf":
        raise VoclabError(f"{path} holds {values.dtype} and no numbers; save it with 8 bits, from 0 to 255.")
    whole = values.dtype.kind != "f"
    if values.size and not (values.min() >= 0 and values.max() <= 255):  # NaN is refused too
        raise VoclabError(
            f"{path} holds {values.dtype} from {values.min():g} to {values.max():g}, so its black and white"
            " are not known; save it with 8 bits, from 0 to 255."
        )
    if not whole and values.size and values.max() <= 1:
        return np.rint(values * 255).astype(np.uint8)
    if not whole and (values != np.rint(values)).any():
        raise VoclabError(
            f"{path} holds {values.dtype} up to {values.max():g} that are no whole numbers, so its black and"
            " white are not known; save it with 8 bits, or scale it to 0 … 1."
        )
    return values.astype(np.uint8)


@functools.cache
def _formats() -> tuple[str, ...]:
    Image.init()  # AVIF is a format of newer Pillows, and may be left out of them
    there = tuple(name for name in _FORMATS if name in Image.OPEN)
    return there if "AVIF" not in there or features.check("avif") else there[:-1]


def _foreign(data: bytes) -> str:
    if not data:
        return "is empty; copy it again or remove it"
    if data[4:12] in (b"ftypavif", b"ftypavis") and "AVIF" not in _formats():
        return "is an AVIF image; update Pillow to 11.3 or later, which can read it, or save it as JPEG"
    for beginning, words in _FOREIGN:
        if re.match(beginning, data, re.DOTALL | re.IGNORECASE):
            return words
    return "is a damaged image, or none that can be read here; save it as JPEG or PNG, or remove it"


def _is_deep(image: Image.Image) -> bool:
    """Whether samples have 16 bits in the file; of colours Pillow keeps the upper 8."""
    return image.mode.startswith("I;16") or ";16" in str(image.tile[:1])


def _pixel_bytes(image: Image.Image, deep: bool) -> int:
    sample = 2 if deep else 4 if image.mode in ("I", "F") else 1
    return sample * len(image.getbands())


def _refuse_misread_tiff(path: str | os.PathLike, image: Image.Image, deep: bool) -> None:
    """Pillow takes 16-bit planes that lie one after the other for 8-bit ones, and signed for unsigned."""
    tags = getattr(image, "tag_v2", {})
    bits, signed = max(tags.get(_BITS_PER_SAMPLE, (8,))), _SIGNED in tags.get(_SAMPLE_FORMAT, ())
    if image.mode not in ("I", "F") and ((bits > 8 and not deep) or (bits == 8 and signed)):
        what = "signed 8-bit samples" if signed else f"planes of {bits} bits"
        raise VoclabError(f"{path} holds {what}, which cannot be read here; save it as PNG.")


def is_whole_jpeg(data: bytes) -> bool:
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
    try:
        palette = original.palette.mode if original.mode == "P" and original.palette else ""
        if {"A", "a"} & {*original.getbands(), *palette} or "transparency" in original.info:
            original = original.convert("RGBA")
            original = Image.alpha_composite(Image.new("RGBA", original.size, "white"), original)
        image = np.array(original.convert("RGB"))
    except ValueError as error:
        raise VoclabError(
            f"{path} has the colours {image.mode}, which cannot be converted; save it as RGB."
        ) from error
    if deep and image.max() < 16:  # Pillow has kept the upper 8 bits: nothing may be left of the rest
        raise _too_dark(path)
    return image


def _grey(path: str | os.PathLike, image: Image.Image) -> np.ndarray:
    """(H, W) uint8 of 16-bit, 32-bit and float samples."""
    values, tags = np.asarray(image), getattr(image, "tag_v2", {})
    # Pillows before 11 give 16-bit PNG as 32-bit numbers.
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
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
    return VoclabError(
        f"{path} uses only the lowest 12 of its 16 bits, so it would be read as black; save it with 8 bits."
    )


def _turned(original: Image.Image, image: np.ndarray) -> np.ndarray:
    if original.format == "TIFF":  # Pillow has turned it, and not every Pillow forgets the tag then
        return image
    try:
        turn = _TURNS.get(original.getexif().get(_ORIENTATION))
    except Exception:  # EXIF that cannot be read turns nothing, in viewers as well
        return image
    return image if turn is None else np.asarray(Image.fromarray(image).transpose(turn))
