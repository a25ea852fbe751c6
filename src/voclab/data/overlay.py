"""A mask over its image, as figures, pages and ``voclab predict`` show it. No matplotlib."""

import cv2
import numpy as np

from voclab.data.base import VOID, voc_palette

_PALETTE = voc_palette()


def overlay(image: np.ndarray, mask: np.ndarray, *, contour: bool = True) -> np.ndarray:
    """A mask (H, W) in VOC's colours over its image (H, W, 3) uint8, whose background is made paler.

    With ``contour`` regions get an opaque edge in their colour, and objects a dark line around them.
    """
    original = 0.8 * greyed(image, 0.6) + 0.2 * 255
    weight = np.where(mask > 0, 0.55, 0.0)[..., None]
    if contour:
        edge, objects = _boundary(mask), (mask > 0) & (mask != VOID)
        weight[edge & (mask > 0)] = 1.0
        # VOC's car is grey and its cat nearly black: a dark line parts them from any background.
        near = cv2.dilate(objects.astype(np.uint8), _brush(mask)) > 0
        original[near & (mask == 0)] *= 0.35
    original += weight * (_PALETTE[mask] - original)
    return np.rint(original).astype(np.uint8)


def greyed(image: np.ndarray, share: float) -> np.ndarray:
    """(H, W, 3) float with that share of its colour taken away."""
    luma = image @ np.array([0.299, 0.587, 0.114])
    return (1 - share) * image + share * luma[..., None]


def _boundary(mask: np.ndarray) -> np.ndarray:
    """(H, W) bool, true where another label is near: next to it, in large images a bit further."""
    return cv2.dilate(mask, _brush(mask)) != cv2.erode(mask, _brush(mask))


def _brush(mask: np.ndarray) -> np.ndarray:
    size = 2 * max(1, round(max(mask.shape) / 300)) + 1
    return np.ones((size, size), np.uint8)
