"""Images that perturbations and corruptions are tested on."""

import cv2
import numpy as np


def scene(height: int = 48, width: int = 64) -> np.ndarray:
    """An image with an edge, a texture and a gradient in several colours."""
    y, x = np.mgrid[:height, :width] / max(height, width)
    image = np.stack([40 + 150 * x, 60 + 90 * y, 90 + 40 * np.sin(40 * x)], 2)
    image[height // 4 : height // 2, width // 4 : width // 2] = (220, 60, 30)
    cv2.circle(image, (2 * width // 3, 2 * height // 3), max(1, height // 6), (20, 70, 200), -1)
    return np.clip(image + 12 * (np.indices((height, width)).sum(0) % 2)[..., None], 0, 255).astype(np.uint8)


def images() -> dict[str, np.ndarray]:
    """What any perturbation must cope with: small, grey, black, white, not in one piece, read-only."""
    locked = scene(20, 30)
    locked.flags.writeable = False
    return {
        "scene": scene(),
        "as in CIFAR-10": scene(32, 32),
        "upright": scene(50, 37),
        "grey": np.repeat(scene(32, 40)[..., :1], 3, 2),
        "black": np.zeros((24, 32, 3), np.uint8),
        "white": np.full((24, 32, 3), 255, np.uint8),
        "mirrored": scene(24, 32)[:, ::-1],
        "read-only": locked,
        "a stripe": scene(3, 40),
        "a pixel": scene(1, 1),
    }


def damage(image: np.ndarray, clean: np.ndarray) -> float:
    """Mean squared error in squared 8-bit steps."""
    return float(np.mean((image.astype(float) - clean) ** 2))
