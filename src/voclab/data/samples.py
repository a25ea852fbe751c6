"""What readers of images with masks or annotations share: files by name, and the Dataset of them."""

import os
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from voclab.data import annotations, masks
from voclab.data import competition as kaggle
from voclab.data.base import VOID, Dataset, require_size, too_large
from voclab.data.decoding import SUFFIXES, decode, is_whole_jpeg, read_bytes
from voclab.data.listing import SPLIT_WORDS, is_litter, shown
from voclab.errors import VoclabError

IMAGE_SUFFIXES = SUFFIXES
EVERY = 5  # without lists one image in five, drawn by a seed, is held out
_SEED = 0
# What people call the parts of a data set.
PARTS = {word: split for split, words in SPLIT_WORDS.items() for word in words}
_JPEG_START, _JPEG_SCAN, _JPEG_END = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"
_ORIENTATION = 274  # the EXIF tag: 1 upright, 5 to 8 lying on a side


@dataclass(frozen=True)
class Sample:
    """An image with what belongs to it."""

    id: str
    image: Path
    mask: Path | None = None
    annotation: Path | None = None


def nfc(name: str) -> str:
    """One form of a name: macOS writes ü as two characters, most others as one."""
    return unicodedata.normalize("NFC", name)


def subfolders(path: Path) -> list[Path]:
    """The folders directly in ``path``, by name; hidden ones are left out."""
    try:
        with os.scandir(path) as entries:
            return sorted(Path(e.path) for e in entries if not is_litter(e.name) and e.is_dir())
    except OSError as error:
        raise VoclabError(f"{path} cannot be read ({error.strerror}); check folder and disk.") from error


def files(path: Path, suffixes: Sequence[str], deep: bool = True, twins: bool = False) -> dict[str, Path]:
    """Files by their name without suffix (in ``path``'s sub-folders with these), in one form of Unicode.

    Raises:
        VoclabError: two files of a name, as nobody knows which of them is meant (``twins``: one is taken).
    """
    found: dict[str, Path] = {}
    for where, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if not is_litter(name)) if deep else []
        inside = os.path.relpath(where, path).replace(os.sep, "/") + "/"
        for name in sorted(names):
            stem, suffix = os.path.splitext(name)
            if (suffix := suffix.lower()) not in suffixes or is_litter(name):
                continue
            file, key = Path(where, name), nfc(inside.removeprefix("./") + stem)
            if (other := found.setdefault(key, file)) is not file and not twins:
                raise VoclabError(f"{file} and {other.name} are two files of one name; remove one.")
    return found


def part_named(split: str, names: Iterable[str]) -> str | None:
    """Which of ``names`` (lists, folders) is the split: itself, another word for it, or for ``val`` the test.

    Raises:
        VoclabError: two names mean it.
    """
    names = list(names)
    if split in names:
        return split
    for wanted in (split, "test") if split == "val" else (split,):
        found = [name for name in names if PARTS.get(name.casefold()) == wanted]
        if len(found) > 1:
            raise VoclabError(f"{' and '.join(found)} both mean {wanted}; rename or remove one.")
        if found:
            return found[0]
    return None


def split_by_seed(ids: Sequence[str], split: str) -> tuple[str, ...]:
    """The part ``train`` or ``val`` of images that nobody divided, in the order of ``ids``.

    Raises:
        VoclabError: fewer than two images, or another split.
    """
    if split not in ("train", "val"):
        raise VoclabError(f"There are no lists, so there is no split {split!r}; choose train or val.")
    if len(ids) < 2:
        raise VoclabError(
            f"{len(ids)} image cannot be split in train and val; 2 or more are needed, or lists of them."
        )
    order = np.random.default_rng(_SEED).permutation(len(ids))
    held = set(order[: max(1, round(len(ids) / EVERY))].tolist())
    return tuple(name for k, name in enumerate(ids) if (k in held) == (split == "val"))


SPLIT_BY_SEED = f"nobody divided them, so a seeded split keeps one image in {EVERY} for val"


def scan(samples: Sequence[Sample]) -> list[tuple[Path, str, tuple[int, ...]]]:
    """(path, kind, used) of each sample's mask, as :mod:`voclab.data.masks` wants it."""
    found = []
    for sample in samples:
        stored = masks.read(sample.mask)
        found.append((sample.mask, stored.kind, stored.used))
    return found


def labels_from(stored: Sequence[tuple[Path, str, tuple[int, ...]]], legend: masks.Legend) -> np.ndarray:
    """(n, classes) uint8: 1 where the class is in the mask."""
    table = np.zeros((len(stored), VOID + 1), np.uint8)
    for row, (path, kind, used) in zip(table, stored, strict=True):
        row[list(masks.meaning(path, kind, used, legend).values())] = 1
    return np.ascontiguousarray(table[:, 1 : len(legend.class_names) + 1])


def dataset(
    samples: Sequence[Sample],
    legend: masks.Legend | None,
    class_names: tuple[str, ...],
    labels: np.ndarray | None,
    **described: str,
) -> Dataset:
    """The Dataset of these samples; ``legend`` is ``None`` where there are no masks."""

    def read_image(i: int) -> np.ndarray:
        return decode_image(samples[i])

    def read_mask(i: int) -> np.ndarray | None:
        sample = samples[i]
        if sample.mask is None:
            return None
        mask = masks.decode(sample.mask, legend)
        image_size(sample, (mask.shape[1], mask.shape[0]))
        return mask

    return Dataset(
        task="multilabel",
        ids=tuple(shown(sample.id) for sample in samples),
        class_names=class_names,
        labels=labels,
        read_image=read_image,
        read_mask=None if legend is None else read_mask,
        **described,
    )


def annotated(samples: Sequence[Sample]) -> list[tuple[Path, list[annotations.Object]]]:
    """(path, objects) of each sample's annotation."""
    return [(sample.annotation, annotations.read_objects(sample.annotation)) for sample in samples]


def count_objects(samples: Sequence[Sample]) -> tuple[int, ...] | None:
    """Objects in each image, difficult ones included; ``None`` where an image has no annotation."""
    if any(sample.annotation is None for sample in samples):
        return None
    return tuple(len(found) for _, found in annotated(samples))


def decode_image(sample: Sample) -> np.ndarray:
    """Decode an image as its mask lies: (H, W, 3) uint8 RGB.

    A JPEG that EXIF turns is turned unless its mask lies as the file is stored.

    Raises:
        VoclabError: missing or damaged; or a mask of another size, or of one that fits both ways.
    """
    path = sample.image
    if path.suffix.lower() == ".npy":
        return kaggle.load_image(path)
    data = read_bytes(path)
    named = path.suffix.lower() in (".jpg", ".jpeg") and not data.startswith(_OTHERS)
    if not (named or data.startswith(_JPEG_START)):
        return decode(path)
    image = decode_jpeg(path, data)
    orientation = _header(path, BytesIO(data))[1]
    if orientation == 1:
        return image
    if sample.mask is not None and image_size(sample, _mask_size(sample.mask)) == image.shape[1::-1]:
        return image
    return _turned(image, orientation)


_OTHERS = (b"\x89PNG", b"GIF8", b"BM", b"RIFF", b"II*\0", b"MM\0*")  # PNG, GIF, BMP, WebP, TIFF
_TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a.swapaxes(0, 1)[:, ::-1],
    7: lambda a: a.swapaxes(0, 1)[::-1, ::-1],
    8: lambda a: a.swapaxes(0, 1)[::-1],
}


def _turned(image: np.ndarray, orientation: int) -> np.ndarray:
    return np.ascontiguousarray(_TURNS[orientation](image))


def _mask_size(path: Path) -> tuple[int, int]:
    if path.suffix.lower() == ".npy":
        height, width = masks.read(path).pixels.shape
        return width, height
    return _header(path, path)[0]


def image_size(sample: Sample, mask_size: tuple[int, int]) -> tuple[int, int]:
    """(width, height) of the image as its mask lies.

    Args:
        sample: image and mask.
        mask_size: (width, height) of the mask.

    Raises:
        VoclabError: the mask has another size; or the image is to be turned and the mask fits both ways.
    """
    path = sample.image
    if path.suffix.lower() == ".npy":
        stored, orientation = kaggle.load_image(path).shape[1::-1], 1
    else:
        stored, orientation = _header(path, path)
    upright = stored[::-1] if orientation >= 5 else stored
    jpeg = _is_jpeg(path) if orientation > 1 else False
    if mask_size not in ((stored, upright) if jpeg else (upright,)):
        raise VoclabError(
            f"{sample.mask} is {mask_size[0]} × {mask_size[1]} pixels, but its image {path.name} is"
            f" {upright[0]} × {upright[1]}; restore the mask that belongs to the image."
        )
    if orientation > 1 and stored == upright:
        raise VoclabError(
            f"{path} is to be turned (EXIF orientation {orientation}), and its mask does not show whether it"
            " was drawn before or after; save the image upright, without that tag."
        )
    return mask_size


def _is_jpeg(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(2) == _JPEG_START


def decode_jpeg(path: str | Path, data: bytes | None = None) -> np.ndarray:
    """Decode an image as it is stored: (H, W, 3) uint8 RGB; greyscale is repeated in three channels.

    OpenCV takes 1.7 ms of processor time for a VOC image, Pillow 2.4 ms, with the same pixels. But OpenCV
    fills missing rows with grey: up to 4.11 in every truncated file, since then in those that a broken
    copy left filled with zeros (26 of 30 images). So the end marker is checked here.

    Raises:
        VoclabError: the file is missing, truncated or no JPEG, or more than ``MAX_DECODED`` bytes.
    """
    path = Path(path)
    data = read_bytes(path) if data is None else data
    # Inside a scan 0xFF is always escaped, so an end marker behind the last scan's start is the end.
    # Only what lies behind the image, such as the film of a phone, may hold another start.
    if data.rfind(_JPEG_END) <= data.rfind(_JPEG_SCAN) and not is_whole_jpeg(data):
        raise VoclabError(f"{path} is a truncated or damaged JPEG; copy or extract it again.")
    _header(path, BytesIO(data))
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        bgr = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        bgr = None
    if bgr is None:
        raise VoclabError(f"{path} is a truncated or damaged JPEG; copy or extract it again.")
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)


def _header(path: Path, source: Path | BytesIO) -> tuple[tuple[int, int], int]:
    """((width, height), EXIF orientation) without decoding (0.1 ms)."""
    try:
        with Image.open(source) as image:
            require_size(path, image.size)
            return image.size, _orientation(image)
    except FileNotFoundError as error:
        raise VoclabError(f"{path} is missing; restore the file.") from error
    except VoclabError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise too_large(path) from error
    except Exception as error:  # a damaged file can raise anything
        raise VoclabError(f"{path} is a truncated or damaged JPEG; copy or extract it again.") from error


def _orientation(image: Image.Image) -> int:
    try:
        orientation = image.getexif().get(_ORIENTATION)
        return orientation if orientation in _TURNS else 1
    except Exception:  # Pillow raises what it likes for damaged EXIF data, which say nothing then
        return 1
