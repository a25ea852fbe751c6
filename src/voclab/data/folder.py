"""People's own images: one sub-folder a class, as ImageNet lays out its images."""

import os
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from voclab.data import pairs
from voclab.data.base import Dataset, refusal
from voclab.data.decoding import SUFFIXES, UNREAD_SUFFIXES, decode, is_image_file
from voclab.data.listing import (
    SPLIT_WORDS,
    Listing,
    counted,
    list_images,
    nfc,
    shown,
    some,
    subfolders,
    walk,
)
from voclab.errors import VoclabError

_EVERY = 5  # without folders for training and validation, every fifth image of a class is held out


def recognise(root: Path) -> tuple[Path, str] | None:
    """``root`` and what it holds, in words; ``None`` where it has no two classes of images.

    Raises:
        VoclabError: there are such folders, but which are classes and which are splits is not clear, or they
            hold masks.
    """
    layout = _layout(root)
    if len(layout.classes) < 2:
        return None
    pairs.require_images(root, (layout.base, *layout.held.values()))
    return root, "a sub-folder of images for each class"


def read(root: str | Path, split: str) -> Dataset:
    """Images by class.

    ``root`` holds a sub-folder a class with images at any depth; or a folder to train on and one or two to
    measure on, each with those. Their names say which is which, in any case: ``train``, ``Training``,
    ``training_set``, ``seg_train``; ``val``, ``valid``, ``dev``, ``eval``; ``test``, ``Testing``. Where both
    of the latter are there, ``"val"`` is the one that is measured on. Where neither is, every fifth image of
    a class, by name, is ``"val"`` (of two to four images the last one). ``Dataset.source`` says what was
    taken for what, and counts what was left out.

    Args:
        root: the folder; what archives wrap around it (a folder that holds one folder) is no matter.
        split: ``"train"``, ``"val"`` or, where there is such a folder, ``"test"``.

    Raises:
        VoclabError: no such split, fewer than two classes, a class to measure on that is not trained on,
            classes whose names are the same text, images that none can read, or a layout that has several
            readings. An image is checked when it is read.
    """
    root = Path(root)
    layout = _layout(root)
    if split not in ("train", "val") and not (split == "test" and "test" in layout.held):
        choices = "train, val or test" if "test" in layout.held else "train or val"
        raise VoclabError(f"Images in {root} have no split {split!r}; choose {choices}.")
    if len(layout.classes) < 2:
        what = f"holds images of {len(layout.classes)} classes"
        remedy = "add a sub-folder with images for each of two classes or more"
        raise refusal(layout.base, what, remedy)
    if layout.trained and split != "train" and not layout.held:
        raise refusal(*_lonely(layout), f"add one of them, or name {layout.base} to hold out a fifth of it")
    top, names = layout.base, tuple(layout.classes)
    found, left_out = layout.classes, layout.left_out
    if split != "train" and layout.held:
        top = layout.held["test"] if split == "test" else layout.measured
        found, left_out = _class_folders(top)
        found = _matched(found, names, layout.base, top)
    if not layout.trained:
        found = {name: _part(images, split == "val") for name, images in found.items()}
    files = [path for name in names for path in found.get(name, ())]
    targets = [k for k, name in enumerate(names) for _ in found.get(name, ())]
    if not files:
        what = f"holds no images for {split}: of every class with two images or more, one in five is held out"
        raise refusal(root, what, "add some until a class has two")
    return _dataset(
        "folder",
        split,
        files,
        [path.relative_to(top).as_posix() for path in files],
        f"{shown(top)}, labels from the names of its {len(names)} sub-folders"
        + "".join(f"; {remark}" for remark in layout.remarks),
        left_out,
        class_names=names,
        labels=np.eye(len(names), dtype=np.uint8)[targets],
    )


def images(path: str | Path) -> Dataset:
    """One image, or those that lie directly in a folder, by name; without labels, classes and splits.

    Raises:
        VoclabError: no such file or folder, or no images in it. An image is checked when it is read.
    """
    path = Path(path)
    if not os.path.exists(path):
        raise refusal(path, "is missing", "name an image or a folder of images")
    files, others = list_images(path, deep=False) if path.is_dir() else Listing((path,), Counter())
    if not files:
        raise refusal(path, f"holds no images ({', '.join(SUFFIXES)}) itself", "name a folder that does")
    name = shown(path.resolve().stem if path.is_file() else path.resolve().name)
    return _dataset(name, "", files, [f.name for f in files], shown(path), _unread(others))


def _unread(others: Counter) -> list[str]:
    """What to say of files that are no images."""
    kinds = some(sorted(others), 5)
    return [f"{counted(others.total(), 'file')} that cannot be read as an image ({kinds})"] if others else []


def _dataset(name, split, files, ids, where, left_out, class_names=(), labels=None) -> Dataset:
    return Dataset(
        name=name,
        split=split,
        task="multiclass",
        ids=tuple(map(shown, ids)),
        class_names=class_names,
        labels=labels,
        read_image=lambda i: decode(files[i]),
        read_mask=None,
        source=f"{counted(len(files), 'image')} in {where}"
        + (f"; left out: {', '.join(left_out)}" if left_out else ""),
    )


@dataclass(frozen=True)
class _Layout:
    """What lies where.

    Attributes:
        base: the folder whose sub-folders are the classes to train on.
        classes: their images, by name.
        trained: whether ``base`` is a folder to train on only, so that nothing of it is held out.
        held: ``"val"`` and ``"test"`` -> the folder of that split.
        left_out: what lies in ``base`` and is not read.
        remarks: for the sentence about the data.
    """

    base: Path
    classes: dict[str, tuple[Path, ...]]
    trained: bool
    held: dict[str, Path]
    left_out: list[str]
    remarks: tuple[str, ...] = ()

    @property
    def measured(self) -> Path | None:
        """The folder that plays ``"val"``."""
        return self.held.get("val") or self.held.get("test")


def _layout(root: Path) -> _Layout:
    if not root.is_dir():
        raise refusal(root, "is no folder", "name one with a sub-folder of images for each class")
    root = _unwrapped(root)
    parts, others = _parts(root)
    base = parts.pop("train", None)
    if base is None:
        return _flat(root, parts)
    classes, left_out = _class_folders(base)
    others = {folder: n for folder in others if (n := len(list_images(folder).images))}
    foreign = [folder for folder in others if _split_of(folder.name) is None]
    if foreign and not parts and len(classes) < 2:
        return _flat(root, parts)  # train is also the name of a class of VOC
    _refuse_masks(base, classes)
    odd = [name for name in classes if _split_of(name, alone=True) in ("val", "test")]
    if odd and not any((part / odd[0]).is_dir() for part in parts.values()):
        what = "is by name a split inside the one to train on"
        raise refusal(base / odd[0], what, f"move it beside {base.name}, or rename it if it is a class")
    layout = _Layout(base, classes, True, parts, left_out)
    if foreign and not parts:
        path, what = _lonely(layout)
        what += f", and also {_below(foreign[0], root)} with images"
        raise refusal(path, what, "name the folder of the classes, or name the splits train and val")
    roles = [f"{_below(base, root)} is train"]
    if parts:
        roles.append(f"{_below(layout.measured, root)} is val, which is measured on")
    if len(parts) == 2:
        roles.append(f"{_below(parts['test'], root)} is test, which is read by that name only")
    unused = [f"{counted(n, 'image')} in {_below(folder, root)} not used" for folder, n in others.items()]
    return replace(layout, remarks=(", ".join(roles), *unused))


def _parts(root: Path) -> tuple[dict[str, Path], list[Path]]:
    """Split -> the folder of its classes, and the folders of ``root`` that are none of these."""
    parts, others = {}, []
    for folder in subfolders(root):
        split = _split_of(folder.name)
        inner = _unwrapped(folder, split) if split else folder
        if split is None or not any(list_images(sub).images for sub in subfolders(inner)):
            others.append(folder)
        elif split in parts:
            both = f"{_below(parts[split], root)} and {_below(inner, root)}"
            raise refusal(root, f"has two folders of a {split} split, {both}", "leave one of them there")
        else:
            parts[split] = inner
    return parts, others


def _flat(root: Path, held: dict[str, Path]) -> _Layout:
    """The sub-folders of ``root`` are classes, or it is refused."""
    classes, left_out = _class_folders(root)
    named = [name for name in classes if _split_of(name)]
    splits = {_split_of(name) for name in named}
    if held or len(splits) > 1 or any(_split_of(name, alone=True) in ("val", "test") for name in named):
        what = f"holds {' and '.join(named[:2])}, by name a split, but no folder train with a sub-folder"
        remedy = "sort the images of each split by class, or rename what is a class"
        raise refusal(root, f"{what} for each class", remedy)
    _refuse_masks(root, classes)
    _refuse_nested(root, classes)
    return _Layout(root, classes, False, {}, left_out)


def _class_folders(base: Path) -> tuple[dict[str, tuple[Path, ...]], list[str]]:
    """Class -> its images, both in the order of their names, and what else there is, in words."""
    loose, others = list_images(base, deep=False)
    found, seen, empty = {}, {}, []
    for folder in subfolders(base):
        images, unread = list_images(folder)
        others += unread
        name = nfc(shown(folder.name).strip())
        if not images:
            if kinds := sorted(unread.keys() & set(UNREAD_SUFFIXES)):
                what = f"holds only images that cannot be read ({', '.join(kinds)})"
                raise refusal(folder, what, "save them as JPEG or PNG, or move the folder away")
            empty.append(name)
            continue
        for key in (name, folder.resolve()):
            if (twin := seen.setdefault(key, folder)) != folder:
                what = f"and {twin} are the same class by their names, or the same folder"
                raise refusal(folder, what, "rename or remove one")
        found[name] = images
    left_out = [f"{counted(len(loose), 'image')} beside the class folders"] if loose else []
    if empty:
        left_out.append(f"{counted(len(empty), 'sub-folder')} without images ({some(empty, 3)})")
    return dict(sorted(found.items())), left_out + _unread(others)


def _unwrapped(folder: Path, split: str | None = None) -> Path:
    """Below the folders that hold nothing but one folder of folders with images, as archives often do."""
    for _ in range(4):
        inner = [inside for inside in subfolders(folder) if _holds_image(inside)]
        if len(inner) != 1 or _split_of(inner[0].name) not in (None, split):
            break
        same = split is not None and _split_of(inner[0].name) == split
        loose = any(list_images(p, deep=False).images for p in (folder, inner[0]))
        if not subfolders(inner[0]) or (loose and not same):
            break
        folder = inner[0]
    return folder


def _holds_image(folder: Path) -> bool:
    return any(is_image_file(os.path.join(place, name)) for place, name in walk(folder))


def _split_of(name: str, alone: bool = False) -> str | None:
    """``"train"``, ``"val"`` or ``"test"`` where a name has such a word (``alone``: and no other)."""
    words = re.findall("[a-z]+", re.sub("([a-z])([A-Z])", r"\1 \2", name).casefold())
    words = {re.sub("(set|data|images)$", "", word) for word in words} - {""}
    found = [split for split, names in SPLIT_WORDS.items() if names & words]
    return found[0] if len(found) == 1 and not (alone and len(words) > 1) else None


def _matched(found: dict, names: tuple, base: Path, top: Path) -> dict[str, tuple[Path, ...]]:
    """The classes of a part under the names they have in ``base``, which may differ in case."""
    matched = {}
    for name, images in found.items():
        alike = [n for n in names if n.casefold() == name.casefold() and n not in found]
        if name not in names and len(alike) != 1:
            what = f"has the class {name!r}, which {base} lacks"
            raise refusal(top, what, "name its folder like one there")
        matched[name if name in names else alike[0]] = images
    return matched


def _part(files: tuple[Path, ...], held: bool) -> tuple[Path, ...]:
    every = min(_EVERY, max(2, len(files)))  # a single image is trained on
    return tuple(path for k, path in enumerate(files) if (k % every == every - 1) == held)


def _refuse_masks(base: Path, classes: Iterable[str]) -> None:
    if words := pairs.names_pairs(classes):
        what = f"holds {words[0]} and {words[1]}, which are no classes, and their files are no pairs of image"
        remedy = "give each pair one name, or name a folder with a sub-folder a class"
        raise refusal(base, f"{what} and mask", remedy)


def _refuse_nested(base: Path, classes: dict[str, tuple[Path, ...]]) -> None:
    """Refuse sub-folders that are hardly classes, for they all hold the same folders."""
    inside = []  # of each class the folders with images, without the name of the class
    for name, images in classes.items():
        below = {path.relative_to(base).parts[1:-1] for path in images}
        below = sorted({parts[0] for parts in below if parts})
        splits = {_split_of(folder): folder for folder in below}
        if "train" in splits and {"val", "test"} & set(splits):
            what = f"has the splits inside the classes ({name}/{splits['train']})"
            raise refusal(base, what, "turn the folders round, so that each split holds its classes")
        inside.append({folder.removeprefix(name) for folder in below})
    shared = sorted(set.intersection(*inside)) if len(inside) > 1 else []
    if len(shared) > 1:
        first, second, *_ = classes
        raise refusal(
            base,
            f"holds {first} and {second}, which both hold {shared[0]} and {shared[1]}, so either could be the"
            " classes",
            "call the outer folders train and val if they are splits, put the images of a class directly into"
            " its folder, or images and their masks into folders images and masks",
        )


def _lonely(layout: _Layout) -> tuple[Path, str]:
    folder = layout.base.parent
    return folder, f"has {layout.base.name} but no val or test beside it that holds class folders"


def _below(path: Path, root: Path) -> str:
    return shown(path.relative_to(root).as_posix())
