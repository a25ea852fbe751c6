"""ToyVOC: a procedural VOCdevkit tree with VOC's twenty classes."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

import cv2
import numpy as np
from tqdm import tqdm

from toyvoc.base import (
    MIN_SIZE,
    TEMPORARY,
    VOC_CLASSES,
    ToyError,
    encode_mask,
    read_json,
    require_ours,
    write,
    write_json,
)
from toyvoc.scene import Scene, compose, voc_classes_of
from toyvoc.silhouettes import VOC_DRAWINGS

GENERATOR_VERSION = 1
"""Part of the manifest: a tree of another version is made anew."""

MANIFEST, MARKER = "toyvoc.json", ".toyvoc-in-progress.json"
_SPLITS, _TRUTH = ("train", "val", "test"), ("SegmentationClass", "Annotations")
_ASPECTS = (  # short side over long side, whether the image is a portrait
    (0.75, False), (0.75, True), (0.665, False), (0.665, True), (0.563, False), (1.0, False), (0.85, False),
)  # fmt: skip
_ASPECT_SHARES = (0.56, 0.16, 0.12, 0.04, 0.04, 0.04, 0.04)


def toyvoc_scene(seed: int, split: str, index: int, size: int = 160) -> Scene:
    """Scene ``index`` of a split (``train``, ``val`` or ``test``), with its longest side ``size`` pixels."""
    number = _SPLITS.index(split)
    rng = np.random.default_rng(np.random.SeedSequence([seed, number, index]))
    ratio, portrait = _ASPECTS[rng.choice(len(_ASPECTS), p=_ASPECT_SHARES)]
    short = round(size * ratio)
    width, height = (short, size) if portrait else (size, short)
    return compose(rng, VOC_DRAWINGS, voc_classes_of(seed, number, index), width, height)


def make_toyvoc(
    root: str | os.PathLike,
    seed: int = 0,
    train: int = 1000,
    val: int = 400,
    test: int = 200,
    size: int = 160,
    progress: bool = True,
) -> Path:
    """Write ToyVOC as a VOCdevkit tree under ``root/VOCdevkit/VOC2009``; returns ``root``.

    The tree has JPEGImages, SegmentationClass (palette PNG: 0 background, 1..20 classes, 255 void),
    Annotations and ImageSets/{Segmentation,Main}. Of the test split it has the images and the list only;
    the truth of these lies in the same layout under ``root/truth/VOC2009``. ``root/toyvoc.json`` is
    written last: it says with which arguments the complete tree was made, and the same call returns
    at once when it is there. An interrupted call is taken up where it stopped.

    Image k depends on (seed, split, k) alone. ``size`` is the longest side in pixels.

    Raises:
        ToyError: ``root`` holds what this function did not write, or ``size`` is below ``MIN_SIZE``.
        OSError: ``root`` cannot be written.
    """
    root = Path(root)
    if size < MIN_SIZE:
        raise ToyError(f"ToyVOC's size is {size}; objects need images of at least {MIN_SIZE} pixels.")
    wanted = {"generator_version": GENERATOR_VERSION, "seed": seed, "train": train, "val": val, "test": test}
    wanted["size"] = size
    made = read_json(root / MANIFEST)
    if made is not None and all(made.get(key) == value for key, value in wanted.items()):
        return root
    _make_room(root, wanted)
    plan = [(split, k) for split in _SPLITS for k in range(wanted[split])]
    jobs = [_Job(split, k, f"2009_{number:06d}") for number, (split, k) in enumerate(plan, start=1)]
    tree = root / "VOCdevkit" / "VOC2009"
    truth = root / "truth" / "VOC2009"
    for folder in (tree / "JPEGImages", *(base / sub for base in (tree, truth) for sub in _TRUTH)):
        folder.mkdir(parents=True, exist_ok=True)
    for job in tqdm(jobs, "ToyVOC", unit="image", mininterval=1.0, leave=False, disable=not progress):
        _write_job(tree, tree if job.split != "test" else truth, job, seed, size)
    _write_lists(tree, truth, jobs)
    write_json(root / MANIFEST, {**wanted, "classes": list(VOC_CLASSES)})
    (root / MARKER).unlink(missing_ok=True)
    return root


@dataclass(frozen=True)
class _Job:
    split: str
    index: int
    name: str


def _make_room(root: Path, wanted: dict) -> None:
    """Leave ``root`` empty, or with the beginning of the tree that is wanted; never touch other data."""
    tree, marker = root / "VOCdevkit" / "VOC2009", root / MARKER
    if not ((root / MANIFEST).is_file() or marker.is_file()):
        require_ours(root, "ToyVOC")
    images = os.listdir(tree / "JPEGImages") if (tree / "JPEGImages").is_dir() else []
    if any(not name.startswith(("2009_", ".")) for name in images):
        raise ToyError(
            f"{tree} holds images that are not ToyVOC's and is left alone; name another folder for ToyVOC."
        )
    if read_json(marker) == wanted:
        for unfinished in root.rglob(f"{TEMPORARY}*"):
            unfinished.unlink(missing_ok=True)
        return
    write_json(marker, {})  # from here to the next marker the folders are ours to clear, also after a kill
    (root / MANIFEST).unlink(missing_ok=True)
    for folder in (tree, root / "truth" / "VOC2009"):
        if folder.exists():
            shutil.rmtree(folder)
    write_json(marker, wanted)


def _write_job(tree: Path, truth: Path, job: _Job, seed: int, size: int) -> None:
    """Write image, mask and annotation of one image, the annotation last; does nothing if it is there."""
    annotation = truth / "Annotations" / f"{job.name}.xml"
    if annotation.exists():
        return
    scene = toyvoc_scene(seed, job.split, job.index, size)
    write(tree / "JPEGImages" / f"{job.name}.jpg", _jpeg(scene.image))
    write(truth / "SegmentationClass" / f"{job.name}.png", encode_mask(scene.mask))
    write(annotation, _annotation(job.name, scene))


def _jpeg(image: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()


def _annotation(name: str, scene: Scene) -> str:
    height, width = scene.mask.shape
    objects = "".join(
        f"<object>\n\t\t<name>{escape(VOC_CLASSES[o.label])}</name>\n\t\t<pose>Unspecified</pose>\n"
        f"\t\t<truncated>{int(o.truncated)}</truncated>\n\t\t<occluded>{int(o.occluded)}</occluded>\n"
        f"\t\t<bndbox>\n\t\t\t<xmin>{o.box[0] + 1}</xmin>\n\t\t\t<ymin>{o.box[1] + 1}</ymin>\n"
        f"\t\t\t<xmax>{o.box[2]}</xmax>\n\t\t\t<ymax>{o.box[3]}</ymax>\n\t\t</bndbox>\n"
        f"\t\t<difficult>0</difficult>\n\t</object>\n\t"
        for o in scene.objects
    )
    return (
        f"<annotation>\n\t<folder>VOC2009</folder>\n\t<filename>{name}.jpg</filename>\n"
        f"\t<source>\n\t\t<database>ToyVOC</database>\n\t\t<annotation>generated</annotation>\n\t</source>\n"
        f"\t<size>\n\t\t<width>{width}</width>\n\t\t<height>{height}</height>\n\t\t<depth>3</depth>\n\t</size>\n"
        f"\t<segmented>1</segmented>\n\t{objects.rstrip()}\n</annotation>\n"
    )


def _write_lists(tree: Path, truth: Path, jobs: list[_Job]) -> None:
    ids = {split: [job.name for job in jobs if job.split == split] for split in _SPLITS}
    ids["trainval"] = ids["train"] + ids["val"]
    for kind in ("Segmentation", "Main"):
        for split, names in ids.items():
            text = "".join(f"{name}\n" for name in names)
            write(tree / "ImageSets" / kind / f"{split}.txt", text)
            if split == "test":
                write(truth / "ImageSets" / kind / "test.txt", text)
