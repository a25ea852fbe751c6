"""Procedural textures that perturbations lay over a photo: a fractal cloud and a frosted pane."""

import cv2
import numpy as np

_SHADES = (60, 255)  # of the ice crystals; the film of ice between them has up to 70
_LEVELS = (120, 205)  # of a frosted pane on average; those of the five photos of ImageNet-C are 131 to 207
_CONTRAST = 25  # standard deviation of the same photos, averaged over crops of 224 pixels
_TINT = np.array([-19.0, 3.0, 16.0])  # their red, green and blue against their grey
_LONGEST = 60  # of the crystals, in pixels of those photos


def plasma(height: int, width: int, decay: float, rng: np.random.Generator) -> np.ndarray:
    """A fractal cloud by the diamond-square algorithm (Fournier, Fussell & Carpenter 1982) on a torus.

    Args:
        height: in pixels.
        width: in pixels.
        decay: how smooth the cloud is: halving the distance divides the random offsets by ``decay`` squared,
            as in ImageNet-C, whose generator names it ``wibbledecay``.
        rng: source of the offsets.

    Returns:
        (height, width) float64: the corner of a square cloud that reaches from 0 to 1, its side the next
        power of two.
    """
    side = 2 ** max(1, int(np.ceil(np.log2(max(height, width)))))
    cloud, step, spread = np.zeros((side, side)), side, 1.0
    while step > 1:
        half = step // 2

        def offsets(spread=spread, points=side // step):
            return rng.uniform(-spread, spread, (points, points))

        corners = cloud[::step, ::step]
        right, below = np.roll(corners, -1, 1), np.roll(corners, -1, 0)
        centres = (corners + right + below + np.roll(right, -1, 0)) / 4 + offsets()
        cloud[half::step, half::step] = centres
        cloud[::step, half::step] = (corners + right + centres + np.roll(centres, 1, 0)) / 4 + offsets()
        cloud[half::step, ::step] = (corners + below + centres + np.roll(centres, 1, 1)) / 4 + offsets()
        step, spread = half, spread / decay**2
    cloud -= cloud.min()
    return (cloud / cloud.max())[:height, :width]


def frosted_pane(height: int, width: int, scale: float, rng: np.random.Generator) -> np.ndarray:
    """A window pane with ice flowers: feathers with barbs at 60° on a cloudy film of ice, bluish.

    Brightness, contrast and tint are drawn so that they match the photos that ImageNet-C uses, on average;
    the shapes are ours.

    Args:
        height: in pixels.
        width: in pixels.
        scale: size of the crystals against those photos; 0.2 in CIFAR-10-C.
        rng: source of the shapes, and of how thick the ice is.

    Returns:
        (height, width, 3) float64 RGB, mostly between 0 and 255.
    """
    rows, columns = int(np.ceil(height / scale)), int(np.ceil(width / scale))
    ice = np.rint(70 * plasma(rows, columns, 1.6, rng)).astype(np.uint8)
    for shade in np.sort(rng.uniform(*_SHADES, max(12, rows * columns // 250))):
        _draw_feather(ice, shade, rng)
    ice = cv2.resize(ice, (width, height), interpolation=cv2.INTER_AREA).astype(np.float64)
    ice = (ice - ice.mean()) / max(ice.std(), 1e-6)
    return (rng.uniform(*_LEVELS) + _CONTRAST * ice)[..., None] + _TINT


def _draw_feather(ice: np.ndarray, shade: float, rng: np.random.Generator) -> None:
    root, angle = rng.uniform((0, 0), ice.shape[::-1]), rng.uniform(0, 2 * np.pi)
    share = np.arange(0.1, 1, 2.5 / (length := _LONGEST * rng.uniform(0.2, 1)))
    stem = root + np.outer(share * length, _direction(angle))
    reach = 0.4 * length * (1 - share) * rng.uniform(0.4, 1, (2, len(share)))
    barbs = [
        np.stack([stem, stem + np.outer(far, _direction(angle + side * np.pi / 3))], 1)
        for side, far in zip((-1, 1), reach)
    ]
    leaf = np.concatenate([barbs[0][:, 1], barbs[1][::-1, 1]])
    # OpenCV takes whole numbers; the last four bits are fractions of a pixel.
    points = [np.rint(16 * shape).astype(np.int32) for shape in (leaf[None], *barbs, stem[None])]
    cv2.fillPoly(ice, points[0], 0.6 * shade, cv2.LINE_AA, 4)
    for lines in points[1:]:
        cv2.polylines(ice, lines, False, shade, 1, cv2.LINE_AA, 4)


def _direction(angle: float) -> np.ndarray:
    return np.array([np.cos(angle), np.sin(angle)])
