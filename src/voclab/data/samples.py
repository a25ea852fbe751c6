"""What readers of images with masks or annotations share: classes, labels, and the Dataset of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from voclab.data import annotations, masks
from voclab.data.base import VOC_CLASSES, VOID, Dataset, refusal
from voclab.data.decoding import decode, load_image, read_array, sizes
from voclab.data.labelmap import LabelMap
from voclab.data.listing import shown
from voclab.errors import VoclabError

EVERY = 5  # without lists one image in five, drawn by a seed, is held out
SPLIT_BY_SEED = f"nobody divided them, so a seeded split keeps one image in {EVERY} for val"
_SEED = 0


@dataclass(frozen=True)
class Sample:
    """An image with what belongs to it."""

    id: str
    image: Path
    mask: Path | None = None
    annotation: Path | None = None


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


def scan(samples: Sequence[Sample]) -> list[masks.Used]:
    """Which numbers or colours each sample's mask uses."""
    read = ((sample.mask, masks.read(sample.mask)) for sample in samples)
    return [(path, stored.kind, stored.used) for path, stored in read]


def labelled(
    here: Sequence[Sample], others: Sequence[Sample], found: LabelMap | None, voc: bool, **described: str
) -> Dataset:
    """The Dataset of the samples of a split.

    Labels are from the annotations (without objects marked ``difficult``) where every image has one, else
    from the masks, else unknown. The classes are those of the label map; else, of masks, VOC's or the
    numbers in them; else, those that the annotations name.

    Args:
        here: the samples of the split.
        others: those of the other splits, which decide about the classes as well, so that all agree.
        found: the label map, if there is one.
        voc: whether masks that no label map explains are VOC's.
        described: ``name``, ``split`` and ``source``, to which is added where classes and labels come from.
    """
    every = [*here, *others]
    marked = [sample.annotation for sample in every if sample.annotation]
    objects = [(path, annotations.read_objects(path)) for path in marked]
    legend, names, words = _classes([s for s in every if s.mask], objects, found, voc)
    labels, origin = None, "without truth"
    if all(sample.annotation for sample in here):
        labels = annotations.labels(objects, names)[: len(here)]
        origin = "labels from the annotations, without difficult objects"
    elif all(sample.mask for sample in here):
        labels, origin = _labels_of_masks(scan(here), legend), "labels from the masks"

    def read_mask(i: int) -> np.ndarray | None:
        sample = here[i]
        if sample.mask is None:
            return None
        mask = masks.decode(sample.mask, legend)
        _require_size(sample, (mask.shape[1], mask.shape[0]))
        return mask

    described["source"] += "".join(f"; {said}" for said in (origin, words) if said)
    return Dataset(
        task="multilabel",
        ids=tuple(shown(sample.id) for sample in here),
        class_names=names,
        labels=labels,
        read_image=lambda i: decode_image(here[i]),
        read_mask=read_mask if any(sample.mask for sample in here) else None,
        **described,
    )


def _classes(
    masked: Sequence[Sample],
    objects: Sequence[tuple[Path, Sequence[annotations.Object]]],
    found: LabelMap | None,
    voc: bool,
) -> tuple[masks.Legend | None, tuple[str, ...], str]:
    """What the masks mean (``None`` without masks), the classes, and who says so."""
    legend = None
    if masked and found:
        legend = masks.legend_of(found)
        legend = legend if found.is_voc else masks.fitted(legend, scan(masked))
    elif masked:
        legend = masks.voc_legend() if voc else masks.generic_legend(scan(masked))
    if found and found.is_voc:
        return legend, VOC_CLASSES, f"VOC's classes, as in {found.path.name}"
    if found:
        return legend, found.class_names, f"classes from {found.path.name}"
    if legend:
        words = "" if voc else f"classes from {legend.origin}, for no label map names them"
        return legend, legend.class_names, words
    names = annotations.class_names(objects)
    return None, names, "" if names == VOC_CLASSES else "classes from the annotations"


def _labels_of_masks(stored: Sequence[masks.Used], legend: masks.Legend) -> np.ndarray:
    """(n, classes) uint8: 1 where the class is in the mask."""
    table = np.zeros((len(stored), VOID + 1), np.uint8)
    for row, (path, kind, used) in zip(table, stored, strict=True):
        row[list(masks.meaning(path, kind, used, legend).values())] = 1
    return np.ascontiguousarray(table[:, 1 : len(legend.class_names) + 1])


def count_objects(samples: Sequence[Sample]) -> tuple[int, ...] | None:
    """Objects in each image, difficult ones included; ``None`` where an image has no annotation."""
    if any(sample.annotation is None for sample in samples):
        return None
    return tuple(len(annotations.read_objects(sample.annotation)) for sample in samples)


def decode_image(sample: Sample) -> np.ndarray:
    """Decode an image as its mask lies: (H, W, 3) uint8 RGB.

    An image that EXIF turns is turned unless its mask lies as the file is stored.

    Raises:
        VoclabError: missing or damaged; or, of one that is to be turned, a mask that fits both ways or none.
    """
    if sample.image.suffix.lower() == ".npy":
        return load_image(sample.image)
    upright = True
    if sample.mask is not None and (found := sizes(sample.image))[1] > 1:
        mask_size, _ = _stored(sample.mask)
        _require_size(sample, mask_size)
        upright = mask_size != found[0]
    return decode(sample.image, upright)


def _stored(path: Path) -> tuple[tuple[int, int], int]:
    """((width, height), EXIF orientation) of an image or a mask, as the file has them."""
    return (read_array(path).shape[1::-1], 1) if path.suffix.lower() == ".npy" else sizes(path)


def _require_size(sample: Sample, mask_size: tuple[int, int]) -> None:
    """Refuse a mask of another (width, height) than its image's, or of one that is the same turned or not."""
    path = sample.image
    stored, orientation = _stored(path)
    turned = stored[::-1] if orientation >= 5 else stored
    if mask_size not in (stored, turned):
        what = f"is {mask_size[0]} × {mask_size[1]} pixels, but its image {path.name} is"
        remedy = "restore the mask that belongs to the image"
        raise refusal(sample.mask, f"{what} {turned[0]} × {turned[1]}", remedy)
    if orientation > 1 and stored == turned:
        raise refusal(
            path,
            f"is to be turned (EXIF orientation {orientation}), and its mask does not show whether it was"
            " drawn before or after",
            "save the image upright, without that tag",
        )
