"""Images of any size shown to a network: at several scales, mirrored, label maps at the original size."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import cv2
import numpy as np

from voclab.errors import VoclabError

_MULTIPLE = 32  # sides that every encoder divides evenly; also keeps the number of shapes small


@dataclass(frozen=True)
class TestTime:
    """How a segmenter, or a classifier, is shown an image.

    Attributes:
        sizes: longest sides in pixels that the image is resized to; logits are averaged over them.
        flip: also average over the mirror image.
    """

    sizes: tuple[int, ...]
    flip: bool = True

    __test__ = False  # not a test, whatever pytest makes of the name

    def __post_init__(self):
        if not self.sizes or min(self.sizes) < _MULTIPLE:
            raise VoclabError(f"Test sizes {self.sizes} must be one or more sides of {_MULTIPLE} px or more.")


def full_size_logits(
    forward: Callable, images: Iterable[np.ndarray], test_time: TestTime, batch_size: int = 8
) -> Iterator[np.ndarray]:
    """(H, W, classes) float32 logits at the size of each (H, W, 3) uint8 image, in order, lazily.

    Of a classifier they are (classes,) logits, averaged over the views.

    Args:
        forward: (B, H, W, 3) float32 in [0, 1] -> (B, H, W, classes) or (B, classes) logits, for any H and W.
        images: of any sizes.
        test_time: scales and mirror images.
        batch_size: images a step. Images of equal size after resizing are computed together.
    """
    images = iter(images)
    while chunk := list(islice(images, batch_size)):
        yield from _chunk(forward, chunk, test_time)


def _chunk(forward, images: Sequence[np.ndarray], test_time: TestTime) -> list[np.ndarray]:
    total: list = [0.0] * len(images)
    for size in test_time.sizes:
        groups: dict[tuple[int, int], list[int]] = {}
        for i, image in enumerate(images):
            groups.setdefault(shape_at(image.shape[:2], size), []).append(i)
        for shape, members in groups.items():
            pixels = np.stack([resized_to(images[i], shape) for i in members])
            for i, logits in zip(members, _views(forward, pixels, test_time)):
                total[i] = total[i] + _resized_logits(logits, images[i].shape[:2])
    return [logits / len(test_time.sizes) for logits in total]


def _views(forward, pixels: np.ndarray, test_time: TestTime) -> np.ndarray:
    logits = forward(pixels)
    if test_time.flip:
        mirrored = forward(pixels[:, :, ::-1])
        logits = (logits + (mirrored[:, :, ::-1] if mirrored.ndim == 4 else mirrored)) / 2
    return logits


def shape_at(shape: tuple[int, int], longest: int) -> tuple[int, int]:
    """Height and width of an image resized to a longest side: multiples of 32, aspect kept as nearly."""
    scale = longest / max(shape)
    height, width = (max(1, round(side * scale / _MULTIPLE)) * _MULTIPLE for side in shape)
    return height, width


def resized_to(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """An (H, W, 3) uint8 image at that height and width, float32 in [0, 1]."""
    shrinks = image.shape[0] * image.shape[1] > shape[0] * shape[1]
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(image, shape[::-1], interpolation=interpolation).astype(np.float32) / 255.0


def _resized_logits(logits: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    if logits.ndim == 1:  # of the whole image
        return logits
    large = cv2.resize(np.ascontiguousarray(logits), shape[::-1], interpolation=cv2.INTER_LINEAR)
    return large.reshape(*shape, -1)  # OpenCV drops the channel axis of a single class
