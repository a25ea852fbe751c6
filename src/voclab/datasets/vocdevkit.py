"""Reads the PASCAL VOC devkit's layout, 2007 to 2012: lists, JPEG photos, palette masks, annotations.

Layout and meaning of the files follow the devkit's documentation (VOC 2009 development kit, sections
2 and 3). The segmentation lists are used, since they are the assignment's photos; a tree without them
is read by its ``Main`` lists.
"""

import re
import xml.etree.ElementTree as ElementTree  # only its exception; parsing goes through defusedxml
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import cv2
import defusedxml
import defusedxml.ElementTree
import numpy as np
from PIL import Image, UnidentifiedImageError

from voclab.datasets.base import VOC_CLASSES, VOID, Dataset, require_size, voc_palette
from voclab.errors import VoclabError

YEARS = tuple(range(2007, 2013))
PREFERRED_YEAR = 2009
_CLASS_INDEX = {name: k for k, name in enumerate(VOC_CLASSES)}
_PALETTE = voc_palette().tobytes()
_JPEG_SCAN, _JPEG_END = b"\xff\xda", b"\xff\xd9"


def find_tree(root: str | Path, year: int | str | None = None) -> Path:
    """The folder ``VOC20xx`` in ``root``.

    Args:
        root: a folder that is ``VOC20xx``, or holds ``VOC20xx`` or ``VOCdevkit/VOC20xx``.
        year: 2007 to 2012; without it 2009 is preferred, then the newest that is there.

    Raises:
        VoclabError: there is no such tree, or not of that year.
    """
    root = Path(root)
    if not root.is_dir():
        raise VoclabError(f"{root} is no folder; name the folder that holds VOCdevkit/VOC{PREFERRED_YEAR}.")
    trees = _trees(root)
    if year is not None:
        if not str(year).isdigit() or int(year) not in YEARS:
            raise VoclabError(f"VOC year {year} is not supported; choose one of {YEARS[0]} to {YEARS[-1]}.")
        if int(year) in trees:
            return trees[int(year)]
    elif trees:
        return trees.get(PREFERRED_YEAR) or trees[max(trees)]
    wanted = f"VOC{PREFERRED_YEAR if year is None else year}"
    there = ", ".join(f"VOC{y}" for y in sorted(trees))
    raise VoclabError(
        f"{root} holds no VOCdevkit/{wanted} with JPEGImages and ImageSets"
        + (f" (only {there})" if there else "")
        + "; name the folder the VOC archive was extracted into, or run `voclab data fetch voc2009`."
    )


def has_tree(root: str | Path) -> bool:
    """Whether :func:`find_tree` would find a tree of some year in ``root``."""
    return bool(_trees(Path(root)))


def _trees(root: Path) -> dict[int, Path]:
    trees: dict[int, Path] = {}
    absolute = root.resolve()
    for folder in (root, *(root / p / f"VOC{y}" for p in ("", "VOCdevkit") for y in YEARS)):
        # The real name, so that "." inside VOC2009 is recognised too.
        year = re.fullmatch(r"VOC(20\d\d)", absolute.name if folder == root else folder.name)
        complete = (folder / "JPEGImages").is_dir() and (folder / "ImageSets").is_dir()
        if year and int(year[1]) in YEARS and complete:
            trees.setdefault(int(year[1]), folder)
    return trees


def read(root: str | Path, split: str, year: int | str | None = None, name: str = "voc2009") -> Dataset:
    """The photos of one list, with labels and masks.

    Labels come from ``Annotations`` (objects marked ``difficult`` do not count) or, where the tree has
    none, from the masks; ``Dataset.source`` says which. A test list whose truth is not in the tree has
    ``labels`` and ``read_mask`` ``None``. ToyVOC (``toyvoc.json``) keeps that truth in ``truth/VOC2009``.
    In a tree that has ``Main`` lists only, ``mask(i)`` is ``None`` for a photo that nobody segmented.

    Args:
        root: see :func:`find_tree`.
        split: the name of a list, e.g. ``"train"``, ``"val"``, ``"trainval"``, ``"test"``.
        year: see :func:`find_tree`.
        name: what the data set is called in results.

    Raises:
        VoclabError: no such tree or list, an empty list, a file that the list names is missing, a
            damaged annotation. Photos and masks are checked when they are decoded.
    """
    tree = find_tree(root, year)
    list_path = _list_path(tree, split)
    ids = _read_list(list_path)
    segmented = list_path.parent.name == "Segmentation"

    photos = _existing(tree / "JPEGImages", ids, ".jpg")
    if len(photos) < len(ids):
        _missing(list_path, tree / "JPEGImages", ids, photos, ".jpg")
    truth = _truth_folder(tree, split)
    mask_folder, xml_folder = truth / "SegmentationClass", truth / "Annotations"
    masks = _existing(mask_folder, ids, ".png")
    if segmented and len(masks) < len(ids) and (masks or split != "test"):
        _missing(list_path, mask_folder, ids, masks, ".png")
    xmls = _existing(xml_folder, ids, ".xml")
    if len(xmls) < len(ids) and (xmls or (xml_folder.is_dir() and split != "test")):
        _missing(list_path, xml_folder, ids, xmls, ".xml")

    def read_image(i: int) -> np.ndarray:
        return decode_jpeg(tree / "JPEGImages" / f"{ids[i]}.jpg")

    def read_mask(i: int) -> np.ndarray | None:
        if ids[i] not in masks:
            return None
        mask_path = mask_folder / f"{ids[i]}.png"
        mask = decode_mask(mask_path)
        _check_size(mask_path, mask, tree / "JPEGImages" / f"{ids[i]}.jpg")
        return mask

    if xmls:
        labels = labels_from_annotations(xml_folder, ids)
        origin = "labels from Annotations, without difficult objects"
    elif len(masks) == len(ids):
        labels = np.stack([_classes_in(read_mask(i)) for i in range(len(ids))])
        origin = "labels from the masks, because there are no Annotations"
    elif split == "test":
        labels, origin = None, "without truth"
    else:
        raise VoclabError(
            f"{tree} has neither Annotations nor a mask of every photo in {list_path.name}, so there are no"
            " labels; extract the whole VOC archive there."
        )
    where = "VOCdevkit/" + "/".join(list_path.parts[-4:])
    return Dataset(
        name=name,
        split=split,
        task="multilabel",
        ids=ids,
        class_names=VOC_CLASSES,
        labels=labels,
        read_image=read_image,
        read_mask=read_mask if masks else None,
        source=f"{len(ids)} photos of {where}; {origin}",
    )


def _list_path(tree: Path, split: str) -> Path:
    folders = [tree / "ImageSets" / kind for kind in ("Segmentation", "Main")]
    folder = next((f for f in folders if f.is_dir()), None)
    if folder is None:
        raise VoclabError(f"{tree}/ImageSets has no Segmentation or Main lists; extract the archive again.")
    path = folder / f"{split}.txt"
    if not re.fullmatch(r"\w+", split) or not path.is_file():
        # Main also has one list a class (aeroplane_train.txt); those are not splits.
        names = sorted(p.stem for p in folder.glob("*.txt"))
        there = [n for n in names if "_" not in n or n.split("_")[0] not in _CLASS_INDEX]
        raise VoclabError(f"{folder} has no list {split}.txt; choose from: {', '.join(there) or 'none'}.")
    return path


def _read_list(path: Path) -> tuple[str, ...]:
    try:
        ids = tuple(path.read_text(encoding="utf-8").split())
    except UnicodeDecodeError as error:
        raise VoclabError(f"{path} is not a text list of photo names; extract it again.") from error
    if not ids:
        raise VoclabError(f"{path} is empty; a split needs at least one photo name, so restore the list.")
    seen = set()
    for photo in ids:
        if not re.fullmatch(r"[\w-]+", photo):
            raise VoclabError(f"{path} has the entry {photo!r}, which is no photo name; correct the list.")
        if photo in seen:
            raise VoclabError(f"{path} lists {photo} twice; remove the second entry.")
        seen.add(photo)
    return ids


def _existing(folder: Path, ids: Sequence[str], suffix: str) -> set[str]:
    if not folder.is_dir():
        return set()
    names = {entry.name for entry in folder.iterdir()}
    return {photo for photo in ids if photo + suffix in names}


def _missing(list_path: Path, folder: Path, ids: Sequence[str], there: set[str], suffix: str) -> None:
    absent = [photo for photo in ids if photo not in there]
    more = f" (and {len(absent) - 1} more)" if len(absent) > 1 else ""
    raise VoclabError(
        f"{list_path} names {absent[0]}, but {folder / (absent[0] + suffix)} is missing{more};"
        " restore the file or take it off the list."
    )


def _truth_folder(tree: Path, split: str) -> Path:
    for root in (tree.parent, tree.parent.parent):
        if split == "test" and (root / "toyvoc.json").is_file():
            return root / "truth" / tree.name
    return tree


def decode_jpeg(path: str | Path) -> np.ndarray:
    """Decode a photo: (H, W, 3) uint8 RGB; greyscale is repeated in three channels.

    OpenCV takes 1.7 ms of processor time for a VOC photo, Pillow 2.4 ms, with the same pixels. But OpenCV
    fills missing rows with grey: up to 4.11 in every truncated file, since then in those that a broken
    copy left filled with zeros (26 of 30 photos). So the end marker is checked here.

    Raises:
        VoclabError: the file is missing, truncated or no JPEG, or declares more pixels than ``MAX_PIXELS``.
    """
    path = Path(path)
    data = _read_bytes(path)
    # Inside a scan 0xFF is always escaped, so an end marker behind the last scan's start is the end.
    if data.rfind(_JPEG_END) <= data.rfind(_JPEG_SCAN):
        raise VoclabError(f"{path} is a truncated or damaged JPEG; copy or extract it again.")
    _header_size(path, BytesIO(data))
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION  # masks lie in the stored orientation
    try:
        bgr = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        bgr = None
    if bgr is None:
        raise VoclabError(f"{path} is a truncated or damaged JPEG; copy or extract it again.")
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)


def decode_mask(path: str | Path) -> np.ndarray:
    """Decode a class mask: (H, W) uint8 with 0 background, 1–20 classes, 255 void.

    Raises:
        VoclabError: the file is missing, damaged, not a palette or greyscale PNG, or has a value of
            21–254.
    """
    path = Path(path)
    try:
        with Image.open(path) as picture:
            if picture.mode not in ("P", "L"):
                raise VoclabError(
                    f"{path} is a {picture.mode} picture, not a palette PNG of class numbers; use the"
                    " original masks of SegmentationClass."
                )
            require_size(path, picture.size)
            mask = np.array(picture)
    except FileNotFoundError as error:
        raise VoclabError(f"{path} is missing; restore the file.") from error
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise VoclabError(f"{path} is a truncated or damaged PNG; copy or extract it again.") from error
    first, count = len(VOC_CLASSES) + 1, VOID - len(VOC_CLASSES) - 1
    wrong = (mask - np.uint8(first)) < count  # unsigned: 0–20 and 255 wrap round to the top
    if wrong.any():
        raise VoclabError(
            f"{path} has the value {mask[wrong][0]}, but a VOC mask holds 0–{first - 1} and {VOID} (void);"
            " restore the original mask."
        )
    return mask


def encode_mask(mask: np.ndarray) -> bytes:
    """A label map (H, W) uint8 as a PNG with VOC's palette, as the devkit stores masks."""
    picture = Image.fromarray(mask, mode="P")
    picture.putpalette(_PALETTE)
    buffer = BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def _check_size(mask_path: Path, mask: np.ndarray, photo_path: Path) -> None:
    width, height = jpeg_size(photo_path)
    if mask.shape != (height, width):
        raise VoclabError(
            f"{mask_path} is {mask.shape[1]} × {mask.shape[0]} pixels, but its photo {photo_path.name} is"
            f" {width} × {height}; restore the mask that belongs to the photo."
        )


def jpeg_size(path: str | Path) -> tuple[int, int]:
    """(width, height) in pixels from the file's header, without decoding (0.1 ms)."""
    return _header_size(path, path)


def _header_size(path: str | Path, source: str | Path | BytesIO) -> tuple[int, int]:
    try:
        with Image.open(source) as picture:
            require_size(path, picture.size)
            return picture.size
    except FileNotFoundError as error:
        raise VoclabError(f"{path} is missing; restore the file.") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise VoclabError(f"{path} is a truncated or damaged JPEG; copy or extract it again.") from error


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise VoclabError(f"{path} is missing; restore the file.") from error
    except OSError as error:
        raise VoclabError(f"{path} cannot be read ({error.strerror}); check file and disk.") from error


def _classes_in(mask: np.ndarray) -> np.ndarray:
    counts = np.bincount(mask.ravel(), minlength=VOID + 1)
    return (counts[1 : len(VOC_CLASSES) + 1] > 0).astype(np.uint8)


def labels_from_annotations(folder: str | Path, ids: Sequence[str]) -> np.ndarray:
    """(n, 20) uint8: 1 where ``folder/{id}.xml`` has an object of the class that is not ``difficult``."""
    labels = np.zeros((len(ids), len(VOC_CLASSES)), np.uint8)
    for row, photo in zip(labels, ids, strict=True):
        for k, difficult in read_objects(Path(folder) / f"{photo}.xml"):
            row[k] |= not difficult
    return labels


def count_objects(root: str | Path, split: str, year: int | str | None = None) -> tuple[int, ...] | None:
    """Objects in each photo of a split, difficult ones included; ``None`` without Annotations."""
    tree = find_tree(root, year)
    ids = _read_list(_list_path(tree, split))
    folder = _truth_folder(tree, split) / "Annotations"
    if len(_existing(folder, ids, ".xml")) < len(ids):
        return None
    return tuple(len(read_objects(folder / f"{photo}.xml")) for photo in ids)


def read_objects(path: str | Path) -> list[tuple[int, bool]]:
    """(class index, difficult) of every object in an annotation; body parts are not objects.

    Raises:
        VoclabError: the file is missing or damaged, or names a class that VOC does not have.
    """
    path = Path(path)
    data = _read_bytes(path)
    try:
        annotation = defusedxml.ElementTree.fromstring(data, forbid_dtd=True)
    except (ElementTree.ParseError, defusedxml.DefusedXmlException, LookupError, ValueError) as error:
        raise VoclabError(f"{path} is no readable annotation ({error}); extract the file again.") from error
    objects = []
    for found in annotation.findall("object"):
        name = (found.findtext("name") or "").strip()
        if name not in _CLASS_INDEX:
            raise VoclabError(f"{path} has an object of unknown class {name!r}; correct the file.")
        objects.append((_CLASS_INDEX[name], (found.findtext("difficult") or "0").strip() == "1"))
    return objects
