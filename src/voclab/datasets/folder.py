"""People's own pictures: one sub-folder a class, as ImageNet lays out its images."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from voclab.datasets.base import Dataset, require_size
from voclab.errors import VoclabError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm")
_TRAIN, _HELDOUT = ("train", "training"), ("val", "valid", "validation", "test")
_EVERY = 5  # without folders for training and validation, every fifth picture of a class is held out


def is_folder(root: str | Path) -> bool:
    """Whether ``root`` holds at least two classes with pictures, directly or in ``train``."""
    base = _part(Path(root), _TRAIN) or Path(root)
    return len(_classes(base)) >= 2


def read(root: str | Path, split: str) -> Dataset:
    """Pictures by class.

    Args:
        root: holds a sub-folder a class with JPEG, PNG … pictures at any depth; or ``train`` and ``val`` (or
            ``test``), each with those. Without the latter, every fifth picture of a class, by name, is
            ``val`` (of two to four pictures the last one).
        split: ``"train"`` or ``"val"``.

    Raises:
        VoclabError: no such split, fewer than two classes, a class of ``val`` that ``train`` lacks, or no
            pictures. A picture is checked when it is read.
    """
    root = Path(root)
    if split not in ("train", "val"):
        raise VoclabError(f"Pictures in {root} have no split {split!r}; choose train or val.")
    trained, held = _part(root, _TRAIN), _part(root, _HELDOUT)
    if trained and split == "val" and not held:
        raise VoclabError(f"{root} has {trained.name} but no val or test beside it; add one of them.")
    base = trained or root
    classes = _classes(base)
    if len(classes) < 2:
        raise VoclabError(
            f"{base} holds pictures of {len(classes)} classes; it needs a sub-folder with pictures for each"
            " of two classes or more."
        )
    here = _classes(held) if trained and split == "val" else classes
    unknown = sorted(set(here) - set(classes))
    if unknown:
        raise VoclabError(
            f"{held} has the class {unknown[0]!r}, which {trained} lacks; name its folder like one there."
        )
    names = tuple(classes)
    files, labels = [], []
    for k, name in enumerate(names):
        found = here.get(name, [])
        if not trained:
            every = min(_EVERY, max(2, len(found)))  # a single picture is trained on
            held_out = np.arange(len(found)) % every == every - 1
            found = [path for path, out in zip(found, held_out, strict=True) if out == (split == "val")]
        files += found
        labels += [k] * len(found)
    if not files:
        raise VoclabError(f"{root} holds no pictures for {split}; add some.")
    top = (held if trained and split == "val" else base) or root
    return Dataset(
        name="folder",
        split=split,
        task="multiclass",
        ids=tuple(path.relative_to(top).as_posix() for path in files),
        class_names=names,
        labels=np.eye(len(names), dtype=np.uint8)[labels],
        read_image=lambda i: decode(files[i]),
        read_mask=None,
        source=f"pictures in {top}, labels from the names of its {len(names)} sub-folders",
    )


def pictures(path: str | Path) -> Dataset:
    """One picture, or those that lie directly in a folder, by name; without labels, classes and splits.

    Raises:
        VoclabError: no such file or folder, or no pictures in it. A picture is checked when it is read.
    """
    path = Path(path)
    if not path.exists():
        raise VoclabError(f"{path} is missing; name a picture or a folder of pictures.")
    files = [path]
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file())
    if not files:
        raise VoclabError(
            f"{path} holds no pictures ({', '.join(SUFFIXES)}) itself; name a folder that does."
        )
    return Dataset(
        name=path.resolve().stem if path.is_file() else path.resolve().name,
        split="",
        task="multiclass",
        ids=tuple(file.name for file in files),
        class_names=(),
        labels=None,
        read_image=lambda i: decode(files[i]),
        read_mask=None,
        source=f"{len(files)} pictures of {path}",
    )


def decode(path: str | Path) -> np.ndarray:
    """Decode a picture: (H, W, 3) uint8 RGB, turned as its EXIF says, transparent parts on white.

    Raises:
        VoclabError: missing, damaged, no picture, or one that declares more pixels than ``MAX_PIXELS``.
    """
    try:
        with Image.open(path) as picture:
            require_size(path, picture.size)
            picture = ImageOps.exif_transpose(picture)
            if "A" in picture.getbands() or "transparency" in picture.info:
                picture = picture.convert("RGBA")
                white = Image.new("RGBA", picture.size, "white")
                picture = Image.alpha_composite(white, picture)
            return np.array(picture.convert("RGB"))
    except FileNotFoundError as error:
        raise VoclabError(f"{path} is missing; restore the file.") from error
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise VoclabError(f"{path} is a damaged picture, or none; remove it or copy it again.") from error


def _part(root: Path, names: tuple[str, ...]) -> Path | None:
    return next((root / name for name in names if (root / name).is_dir()), None)


def _classes(base: Path) -> dict[str, list[Path]]:
    """Class -> its pictures, both in the order of their names; folders without pictures are left out."""
    if not base.is_dir():
        return {}
    found = {}
    for folder in sorted(path for path in base.iterdir() if path.is_dir() and not path.name.startswith(".")):
        pictures = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        if pictures:
            found[folder.name] = pictures
    return found
