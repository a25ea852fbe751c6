"""Procedural textures that perturbations lay over an image: a fractal cloud and a frosted pane."""

import itertools
import math
from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np

_SHADES = (60, 255)  # of the ice crystals; the film of ice between them has up to 70
_LEVELS = (120, 205)  # of a frosted pane on average; those of the five images of ImageNet-C are 131 to 207
_CONTRAST = 25  # standard deviation of the same images, averaged over crops of 224 pixels
_TINT = np.array([-19.0, 3.0, 16.0])  # their red, green and blue against their grey
_LONGEST = 60  # of the crystals, in pixels of those images
_PANES = 5  # that frost is cut from


def generator(seed: int | Sequence[int] | np.random.SeedSequence) -> np.random.Generator:
    """The generator of everything random in this package: numpy's fastest."""
    return np.random.Generator(np.random.SFC64(seed))


def uniform(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Independent draws from -1 to 1: ``shape``, float32."""
    drawn = rng.integers(0, 2**32, shape, np.uint32).view(np.int32)
    return np.multiply(drawn, 2**-31, dtype=np.float32)


def plasma(height: int, width: int, decay: float, rng: np.random.Generator) -> np.ndarray:
    """A fractal cloud by the diamond-square algorithm (Fournier, Fussell & Carpenter 1982) on a torus.

    Halving the distance divides the random offsets by ``decay`` squared, as in ImageNet-C, whose generator
    names it ``wibbledecay``.

    Returns:
        (height, width) float32: the corner of a square cloud that reaches from 0 to 1, its side the next
        power of two.
    """
    side = _power(max(height, width))
    offsets = uniform(rng, (side * side,))  # around n × n points, three times as many are new
    cloud, spread = np.zeros((1, 1), np.float32), 1.0
    while (points := len(cloud)) < side:
        new = offsets[points**2 : 4 * points**2].reshape(3, points, points) * np.float32(spread)
        cloud, spread = _refined(cloud, new), spread / decay**2
    cloud -= cloud.min()
    return cloud[:height, :width] / cloud.max()


def _power(length: int) -> int:
    """The next power of two, at least 2."""
    return 2 ** max(1, math.ceil(math.log2(length)))


def _refined(corners: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Twice as many points a side: each new one is the mean of the four around it and an offset.

    Corners are (n, n), offsets (3, n, n): for centres of squares and the middles of upper and left sides.
    """
    corners = cv2.copyMakeBorder(corners, 0, 1, 0, 1, cv2.BORDER_WRAP)
    across = corners[:, :-1] + corners[:, 1:]
    centres = (across[:-1] + across[1:]) * np.float32(0.25) + offsets[0]
    centres = cv2.copyMakeBorder(centres, 1, 0, 1, 0, cv2.BORDER_WRAP)
    inner, before, above = centres[1:, 1:], centres[1:, :-1], centres[:-1, 1:]
    side = 2 * offsets.shape[1]
    fine = np.empty((side, side), np.float32)
    fine[::2, ::2] = corners[:-1, :-1]
    fine[1::2, 1::2] = inner
    fine[::2, 1::2] = (across[:-1] + inner + above) * np.float32(0.25) + offsets[1]
    fine[1::2, ::2] = (corners[:-1, :-1] + corners[1:, :-1] + inner + before) * np.float32(0.25) + offsets[2]
    return fine


def frosted_pane(height: int, width: int, scale: float, rng: np.random.Generator) -> np.ndarray:
    """A part of a window pane with ice flowers: feathers with barbs at 60° on a cloudy film of ice, bluish.

    As ImageNet-C cuts its frost from five images, so here it is cut from five drawings, anywhere and mirrored
    at random. Brightness, contrast and tint are set so that they match those images, on average; the shapes
    are ours.

    ``scale`` is the size of the crystals against those images, 0.2 in CIFAR-10-C.

    Returns:
        (height, width, 3) float32 RGB, mostly between 0 and 255.
    """
    rows, columns = math.ceil(height / scale), math.ceil(width / scale)
    number, mirrored, across = rng.integers((_PANES, 2, 2))
    ice = _ice(max(256, _power(max(rows, columns))), int(number))
    ice = np.roll(ice, rng.integers(len(ice), size=2), (0, 1))[:rows, :columns]
    ice = cv2.flip(ice, int(across)) if mirrored else ice
    if ice.shape != (height, width):
        ice = cv2.resize(ice, (width, height), interpolation=cv2.INTER_AREA)
    mean, deviation = (float(found[0, 0]) for found in cv2.meanStdDev(ice))
    gain = _CONTRAST / deviation if deviation else 0.0
    shade = np.multiply(ice, np.float32(gain))
    offsets = (rng.uniform(*_LEVELS) - gain * mean + _TINT).astype(np.float32)
    return cv2.merge([shade + offset for offset in offsets])


@lru_cache(maxsize=4 * _PANES)  # of four sizes
def _ice(side: int, number: int) -> np.ndarray:
    """Drawing ``number`` of ice: (side, side) uint8, which goes on at the opposite sides."""
    rng = generator((side, number))
    ice = np.rint(70 * plasma(side, side, 1.6, rng)).astype(np.uint8)
    for shade in np.sort(rng.uniform(*_SHADES, side * side // 250)):
        _draw_feather(ice, shade, rng)
    ice.flags.writeable = False
    return ice


def _draw_feather(ice: np.ndarray, shade: float, rng: np.random.Generator) -> None:
    root, angle = rng.uniform((0, 0), ice.shape), rng.uniform(0, 2 * np.pi)
    share = np.arange(0.1, 1, 2.5 / (length := _LONGEST * rng.uniform(0.2, 1)))
    stem = root + np.outer(share * length, _direction(angle))
    reach = 0.4 * length * (1 - share) * rng.uniform(0.4, 1, (2, len(share)))
    barbs = [
        np.stack([stem, stem + np.outer(far, _direction(angle + side * np.pi / 3))], 1)
        for side, far in zip((-1, 1), reach)
    ]
    leaf = np.concatenate([barbs[0][:, 1], barbs[1][::-1, 1]])
    # OpenCV takes whole numbers; the last four bits are fractions of a pixel.
    shapes = [np.rint(16 * shape).astype(np.int32) for shape in (leaf[None], *barbs, stem[None])]
    for shift in 16 * _repeats(np.concatenate([leaf, stem]), len(ice)):
        cv2.fillPoly(ice, shapes[0] + shift, 0.6 * shade, cv2.LINE_AA, 4)
        for lines in shapes[1:]:
            cv2.polylines(ice, lines + shift, False, shade, 1, cv2.LINE_AA, 4)


def _repeats(points: np.ndarray, side: int) -> np.ndarray:
    """(n, 2) whole shifts, multiples of ``side``, with which a shape reaches into the square."""
    low, high = points.min(0) - 2, points.max(0) + 2  # with the width of a soft line
    steps = [
        [k * side for k in (-1, 0, 1) if a + k * side < side and b + k * side > 0] for a, b in zip(low, high)
    ]
    return np.array(list(itertools.product(*steps)))


def _direction(angle: float) -> np.ndarray:
    return np.array([np.cos(angle), np.sin(angle)])
