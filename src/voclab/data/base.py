"""The one dataset type, and the constants of PASCAL VOC that every room shares."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from voclab.errors import VoclabError

VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa",
    "train", "tvmonitor",
)  # fmt: skip
VOID = 255


def voc_palette() -> np.ndarray:
    """The VOC colour map, shape (256, 3), uint8 RGB (VOC devkit, ``VOClabelcolormap.m``).

    The three lowest bits of a label go to the highest bit of R, G and B, the next three to the
    second highest, and so on, which keeps neighbouring labels far apart in colour.
    """
    labels = np.arange(256)
    palette = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            palette[:, channel] |= (((labels >> (3 * bit + channel)) & 1) << (7 - bit)).astype(np.uint8)
    return palette


def refusal(path, what: str, remedy: str = "restore the file") -> VoclabError:
    """The sentence ``<path> <what>; <remedy>.`` for a file or folder that cannot be read as it is."""
    return VoclabError(f"{path} {what}; {remedy}.")


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images with labels and, where there are any, masks. Decoding is lazy; nothing is cached here.

    Attributes:
        name: the data set, e.g. ``"voc2009"``, ``"kaggle"``, ``"toyvoc"``.
        split: the list the images come from, e.g. ``"train"``.
        task: ``"multilabel"`` (independent classes, sigmoid) or ``"multiclass"`` (softmax).
        ids: one identifier an image.
        class_names: the classes, in label order. Mask value ``k + 1`` is class ``k``.
        labels: (n, classes) uint8, 0 or 1; ``None`` where the truth is not known (Kaggle's test set).
        read_image: index -> (H, W, 3) uint8 RGB.
        read_mask: index -> (H, W) uint8 label map, 0 background, 255 void; ``None`` without masks.
        source: a sentence for people: which files these are and where the labels come from.
    """

    name: str
    split: str
    task: str
    ids: tuple[str, ...]
    class_names: tuple[str, ...]
    labels: np.ndarray | None
    read_image: Callable[[int], np.ndarray]
    read_mask: Callable[[int], np.ndarray] | None
    source: str

    def __post_init__(self):
        if self.task not in ("multilabel", "multiclass"):
            raise ValueError(f"task is {self.task!r}, expected 'multilabel' or 'multiclass'")
        if self.labels is not None and self.labels.shape != (len(self.ids), len(self.class_names)):
            raise ValueError(
                f"labels have shape {self.labels.shape}, expected {(len(self.ids), len(self.class_names))}"
            )

    @property
    def has_masks(self) -> bool:
        """Whether :meth:`mask` gives masks."""
        return self.read_mask is not None

    def __len__(self) -> int:
        return len(self.ids)

    def image(self, i: int) -> np.ndarray:
        """Decode image ``i``: (H, W, 3) uint8 RGB."""
        return self.read_image(i)

    def mask(self, i: int) -> np.ndarray | None:
        """Decode mask ``i``: (H, W) uint8, 255 = void; ``None`` where this data set has no masks."""
        return None if self.read_mask is None else self.read_mask(i)

    def joined(self, other: "Dataset") -> "Dataset":
        """The images of this part and then those of ``other``, a part of the same data set."""
        n = len(self)

        def read(ours, theirs):
            return None if ours is None else (lambda i: ours(i) if i < n else theirs(i - n))

        return replace(
            self,
            split=f"{self.split}+{other.split}",
            ids=self.ids + other.ids,
            labels=None if self.labels is None else np.concatenate([self.labels, other.labels]),
            read_image=read(self.read_image, other.read_image),
            read_mask=read(self.read_mask, other.read_mask),
        )

    def subset(self, indices: Sequence[int], split: str | None = None) -> "Dataset":
        """The images at ``indices``, in that order, as a data set of their own."""
        index = np.asarray(indices, dtype=np.int64)
        return replace(
            self,
            split=self.split if split is None else split,
            ids=tuple(self.ids[i] for i in index),
            labels=None if self.labels is None else self.labels[index],
            read_image=lambda i: self.read_image(int(index[i])),
            read_mask=None if self.read_mask is None else (lambda i: self.read_mask(int(index[i]))),
        )

    def require_truth(self) -> None:
        """Refuse a split that nothing can be measured on, since its labels are not known."""
        if self.labels is None:
            raise VoclabError(f"The truth of {self.name}'s {self.split} is not known; name another split.")

    def position(self, sample: str) -> int:
        """The index of an image that is named by its id, or by its number from 0 on.

        Raises:
            VoclabError: there is no such image.
        """
        if sample in self.ids:
            return self.ids.index(sample)
        if sample.isascii() and sample.isdigit() and len(sample) < 20 and int(sample) < len(self):
            return int(sample)
        raise VoclabError(
            f"{self.name} {self.split} has no image {sample}; name an id such as {self.ids[0]}, or a number"
            f" from 0 to {len(self) - 1}."
        )

    def spread(self, n: int) -> "Dataset":
        """At most ``n`` of the images, spread evenly over the list; 0 for all."""
        if not n or n >= len(self):
            return self
        return self.subset(np.linspace(0, len(self) - 1, n).round().astype(int))
