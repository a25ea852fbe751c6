"""Small VOCdevkit trees of random images, archives, and what the tests of the data readers share."""

import io
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from voclab.data.base import VOC_CLASSES, VOID, voc_palette
from voclab.errors import VoclabError

NAMES = ("kettle", "lamp", "Gießkanne")
COLOURS = ((250, 50, 83), (51, 221, 255), (128, 0, 0))  # the last one is VOC's for aeroplane


def put(path: Path, content) -> None:
    """Write text, bytes, an array or the pixels of an image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, str):
        path.write_text(content, encoding="utf-8")
    elif isinstance(content, bytes):
        path.write_bytes(content)
    elif path.suffix == ".npy":
        np.save(path, content)
    else:
        Image.fromarray(content).save(path)


def coloured(mask: np.ndarray, colours=COLOURS, void=(224, 224, 192)) -> np.ndarray:
    """(H, W, 3): a label map in colours."""
    table = np.zeros((256, 3), np.uint8)
    table[1 : len(colours) + 1], table[VOID] = colours, void
    return table[mask]


@dataclass(frozen=True)
class Tree:
    root: Path
    folder: Path  # VOCdevkit/VOC20xx
    masks: dict[str, np.ndarray]
    labels: dict[str, np.ndarray]
    splits: dict[str, list[str]]


def make_tree(root, splits=None, year=2009, annotations=True, lists="Segmentation", seed=0) -> Tree:
    """A tree with two or three objects an image; ``splits`` maps a list's name to its length."""
    rng = np.random.default_rng(seed)
    folder = Path(root) / "VOCdevkit" / f"VOC{year}"
    for name in ("JPEGImages", "SegmentationClass", f"ImageSets/{lists}"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    masks, labels, written, number = {}, {}, {}, 0
    for split, count in (splits or {"train": 6, "val": 4}).items():
        written[split] = []
        for _ in range(count):
            image = f"{year}_{number:06d}"
            number += 1
            written[split].append(image)
            classes = rng.choice(len(VOC_CLASSES), int(rng.integers(2, 4)), replace=False)
            masks[image] = _mask(rng, classes)
            labels[image] = np.isin(np.arange(len(VOC_CLASSES)), classes).astype(np.uint8)
            opened = rng.integers(0, 256, (*masks[image].shape, 3), np.uint8)
            Image.fromarray(opened).save(folder / "JPEGImages" / f"{image}.jpg", quality=90)
            save_mask(folder / "SegmentationClass" / f"{image}.png", masks[image])
            if annotations:
                write_annotation(
                    folder / "Annotations" / f"{image}.xml", [(VOC_CLASSES[k], 0) for k in classes]
                )
        listed = "".join(f"{image}\n" for image in written[split])
        (folder / "ImageSets" / lists / f"{split}.txt").write_text(listed)
    return Tree(Path(root), folder, masks, labels, written)


def _mask(rng, classes) -> np.ndarray:
    height, width = (int(n) for n in rng.integers(24, 48, 2))
    mask = np.zeros((height, width), np.uint8)
    for slot, k in enumerate(classes):
        left = slot * 8
        mask[2:20, left : left + 7] = VOID
        mask[3:19, left + 1 : left + 6] = k + 1
    return mask


def save_mask(path: Path, mask: np.ndarray) -> None:
    image = Image.fromarray(mask).convert("L")
    image.putpalette(voc_palette().ravel().tolist())
    image.save(path)


def write_annotation(path: Path, objects) -> None:
    """``objects``: (class name, difficult) pairs; every object also has a body part, as VOC's people do."""
    path.parent.mkdir(parents=True, exist_ok=True)
    written = "".join(
        f"<object><name>{name}</name><difficult>{difficult}</difficult><part><name>head</name></part></object>"
        for name, difficult in objects
    )
    path.write_text(f"<annotation><filename>{path.stem}.jpg</filename>{written}</annotation>")


def write_batch(path: Path, images: np.ndarray, labels: np.ndarray) -> Path:
    """(n, 32, 32, 3) uint8 images and labels from 0 to 9 in the binary format of CIFAR-10."""
    path.parent.mkdir(parents=True, exist_ok=True)
    planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    path.write_bytes(np.hstack([np.asarray(labels, np.uint8)[:, None], planes]).tobytes())
    return path


def fails(pattern, call, *args, **kwargs) -> str:
    """The call raises one sentence that matches ``pattern`` and ends with a full stop; returns it."""
    with pytest.raises(VoclabError, match=pattern) as caught:
        call(*args, **kwargs)
    message = str(caught.value)
    assert message.endswith(".")
    assert "\n" not in message
    return message


def content(folder):
    """Every file below ``folder`` by its relative path."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def tar_of(*members, base=None) -> bytes:
    """A tar of ``base``'s files and of (name, what) members: bytes, or (type, link target)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        if base is not None:
            archive.add(base, "VOCdevkit")
        for name, what in members:
            member = tarfile.TarInfo(name)
            if isinstance(what, bytes):
                member.size = len(what)
                archive.addfile(member, io.BytesIO(what))
            else:
                member.type, member.linkname = what
                archive.addfile(member)
    return buffer.getvalue()


def zip_of(*members) -> bytes:
    """A zip of (name, bytes) members."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return buffer.getvalue()
