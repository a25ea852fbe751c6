"""Label maps for the benchmarks that need many of them at VOC's size."""

import cv2
import numpy as np

SHAPE = (375, 500)


def label_maps(count: int, shape: tuple[int, int] = SHAPE, seed: int = 0) -> list[np.ndarray]:
    """Like VOC's, (H, W) uint8: one to four ragged blobs of random classes, each with a void border."""
    rng = np.random.default_rng(seed)
    angles = np.linspace(0, 2 * np.pi, 90, endpoint=False)
    masks = []
    for _ in range(count):
        mask = np.zeros(shape, np.uint8)
        for _ in range(rng.integers(1, 5)):
            waves = sum(
                rng.normal(0, 0.25 / k) * np.cos(k * angles + rng.uniform(0, 6.3)) for k in range(1, 12)
            )
            radius = rng.uniform(30, 130) * np.clip(1 + waves, 0.15, None)
            centre = rng.uniform(0.15, 0.85, 2) * shape[::-1]
            outline = np.stack((radius * np.cos(angles), radius * np.sin(angles)), 1) + centre
            points = [outline.round().astype(np.int32)]
            cv2.fillPoly(mask, points, int(rng.integers(1, 21)))
            cv2.polylines(mask, points, isClosed=True, color=255, thickness=5)
        masks.append(mask)
    return masks


def shifted(masks: list[np.ndarray], seed: int = 1) -> list[np.ndarray]:
    """Predictions for them: each moved by up to 15 pixels; void stays."""
    rng = np.random.default_rng(seed)
    return [np.roll(mask, tuple(rng.integers(-15, 16, 2)), (0, 1)) for mask in masks]
