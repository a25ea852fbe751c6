"""The fifteen corruptions of ImageNet-C at five severities, and the errors that are counted on them.

Hendrycks & Dietterich, "Benchmarking neural network robustness to common corruptions and perturbations", ICLR
2019. The numbers are those of the authors' scripts ``make_imagenet_c.py`` and ``make_cifar_c.py`` (repository
hendrycks/robustness); the code is ours. It differs from theirs where theirs needs what we do not have:

- Frost: they cut it from five photographs of frosted panes, which are not ours to ship. Here it is cut from
  five drawings (:func:`voclab.corruptions.textures.frosted_pane`) with the brightness and contrast of those.
- Motion blur, also of snow: they call ImageMagick; here pixels have the same weights along the same path.
- Zooms are about the exact middle, and images need not be square.
- Values are rounded, not cut, to 8 bits, and nothing is saved as JPEG, which ImageNet-C does on top.

So error rates can be compared between networks measured here, not with published ones.
"""

from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
from PIL import Image

from voclab.corruptions import perturbations
from voclab.corruptions.perturbations import filtered, fogged, require_image, speckled, stretched
from voclab.corruptions.textures import frosted_pane, generator, uniform
from voclab.data.images import gaussian_blur, jpeg
from voclab.errors import VoclabError

SEVERITIES = (1, 2, 3, 4, 5)


def _of_244(*rows: tuple[float, ...]) -> tuple[tuple[float, ...], ...]:
    """Shares of 244, which the published script takes for the side of 224, as shares of the side."""
    return tuple(tuple(share * 244 / 224 for share in row) for row in rows)


# Lengths are pixels of the image as it is.
#
# gaussian_noise     standard deviation, pixels in [0, 1]
# shot_noise         photons of full white
# impulse_noise      share of values that turn 0 or 1, each channel for itself
# defocus_blur       radius of the disc; sigma that softens it
# glass_blur         sigma before and after; how far pixels move; rounds of moving
# motion_blur        radius of the path; sigma along it
# zoom_blur          end and step of the zoom factors, from 1 on
# snow               mean, deviation, zoom and threshold of the flakes; radius and sigma of their fall;
#                    share of the image that is not whitened
# frost              share of the image; share of the pane; size of its crystals
# fog                thickness against full white; smoothness of the cloud
# brightness         added to the value of HSV, in [0, 1]
# contrast           factor on the distance to the mean
# elastic_transform  size of the displacements, sigma that smooths them, shift of the corners: shares of the
#                    shorter side
# pixelate           share of the sides
# jpeg_compression   quality
PARAMETERS: dict[str, dict[str, tuple[Any, ...]]] = {
    "imagenet": {  # for 224 × 224
        "gaussian_noise": (0.08, 0.12, 0.18, 0.26, 0.38),
        "shot_noise": (60, 25, 12, 5, 3),
        "impulse_noise": (0.03, 0.06, 0.09, 0.17, 0.27),
        "defocus_blur": ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
        "glass_blur": ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
        "motion_blur": ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
        "zoom_blur": ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)),
        "snow": (
            (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
            (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
            (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ),
        "frost": ((1, 0.4, 1.0), (0.8, 0.6, 1.0), (0.7, 0.7, 1.0), (0.65, 0.7, 1.0), (0.6, 0.75, 1.0)),
        "fog": ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
        "brightness": (0.1, 0.2, 0.3, 0.4, 0.5),
        "contrast": (0.4, 0.3, 0.2, 0.1, 0.05),
        "elastic_transform": _of_244(
            (2, 0.7, 0.1), (2, 0.08, 0.2), (0.05, 0.01, 0.02), (0.07, 0.01, 0.02), (0.12, 0.01, 0.02)
        ),
        "pixelate": (0.6, 0.5, 0.4, 0.3, 0.25),
        "jpeg_compression": (25, 18, 15, 10, 7),
    },
    "cifar": {  # for 32 × 32
        "gaussian_noise": (0.04, 0.06, 0.08, 0.09, 0.10),
        "shot_noise": (500, 250, 100, 75, 50),
        "impulse_noise": (0.01, 0.02, 0.03, 0.05, 0.07),
        "defocus_blur": ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
        "glass_blur": ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
        "motion_blur": ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
        "zoom_blur": ((1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)),
        "snow": (
            (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
            (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
        ),
        "frost": ((1, 0.2, 0.2), (1, 0.3, 0.2), (0.9, 0.4, 0.2), (0.85, 0.4, 0.2), (0.75, 0.45, 0.2)),
        "fog": ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
        "brightness": (0.05, 0.1, 0.15, 0.2, 0.3),
        "contrast": (0.75, 0.5, 0.4, 0.3, 0.15),
        "elastic_transform": (
            (0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)
        ),
        "pixelate": (0.95, 0.9, 0.85, 0.75, 0.65),
        "jpeg_compression": (80, 65, 58, 50, 40),
    },
}  # fmt: skip
CORRUPTIONS = tuple(PARAMETERS["imagenet"])
_BETWEEN = 85  # pixels: as many times larger than 32 as 224 is larger than it


def corrupted(
    image: np.ndarray,
    name: str,
    severity: int,
    seed: int | Sequence[int] | np.random.SeedSequence = 0,
    parameters: str | None = None,
) -> np.ndarray:
    """One image under a corruption.

    Lengths are published in pixels, so corrupt images at the size at which a network sees them.

    Args:
        image: (H, W, 3) uint8 RGB.
        name: one of :data:`CORRUPTIONS`.
        severity: 1 (mild) to 5, or 0: the image as it is.
        seed: fixes everything random, e.g. (seed, index of the image).
        parameters: ``"imagenet"`` (for about 224 pixels) or ``"cifar"`` (for about 32). By default that one
            whose size is nearer in proportion: CIFAR's for a shorter side below 85 pixels.

    Returns:
        (H, W, 3) uint8 RGB, always a new array.

    Raises:
        VoclabError: no such corruption, severity or parameters, or no such image.
    """
    if name not in CORRUPTIONS:
        raise VoclabError(f"There is no corruption {name!r}; choose one of {', '.join(CORRUPTIONS)}.")
    image = require_image(image)
    if severity not in (0, *SEVERITIES):
        raise VoclabError(f"The severity is {severity}; it must be a whole number from 0 (none) to 5.")
    if parameters is None:
        parameters = "cifar" if min(image.shape[:2]) < _BETWEEN else "imagenet"
    if parameters not in PARAMETERS:
        raise VoclabError(f"There are no parameters {parameters!r}; choose one of {', '.join(PARAMETERS)}.")
    if severity == 0:
        return image.copy()
    numbers = PARAMETERS[parameters][name][int(severity) - 1]
    return _FUNCTIONS[name](image, numbers, generator(seed))


# --- the corruptions: (image, numbers of the table, rng) -> image ---


def _defocus_blur(image, numbers, rng):
    radius, softness = numbers
    # The size matters where the softened disc is cut, as in the published script.
    reach, width = (8, 3) if radius <= 8 else (radius, 5)
    steps = np.arange(-reach, reach + 1)
    disc = (np.hypot(*np.meshgrid(steps, steps)) <= radius).astype(np.float64)
    return cv2.convertScaleAbs(filtered(image, cv2.GaussianBlur(disc, (width, width), softness)))


def _glass_blur(image, numbers, rng):
    sigma, reach, rounds = numbers
    moved = gaussian_blur(image, sigma)
    for _ in range(rounds):
        moved = _copied_around(moved, rng.integers(-reach, reach, (2, *image.shape[:2]), np.int8), reach)
    return gaussian_blur(moved, sigma)


def _copied_around(image: np.ndarray, offsets: np.ndarray, reach: int) -> np.ndarray:
    """Each pixel but those near the border takes the value of another one, from the last pixel to the first.

    The published loop means to swap two pixels, but what it writes is the neighbour's value in both places.
    A neighbour that is further down or right has been written already; so values can travel far.

    ``offsets``: (2, H, W) signed whole numbers up to ``reach``, down and right, of the pixel to take.
    """
    height, width = image.shape[:2]
    here = np.arange(height * width)
    inner = np.zeros((height, width), bool)
    inner[reach + 1 : height - reach + 1, reach + 1 : width - reach + 1] = True
    source = here + (inner * (offsets[0] * np.intp(width) + offsets[1])).ravel()
    # A pixel that copies from one already written takes what that one took: follow the chains to their ends.
    end = np.where((source > here) & inner.ravel()[source], source, here)
    while not np.array_equal(further := end[end], end):
        end = further
    return image.reshape(-1, 3)[source[end]].reshape(image.shape)


def _motion_blur(image, numbers, rng):
    radius, sigma = numbers
    return cv2.convertScaleAbs(_moved(image, radius, sigma, rng.uniform(-45, 45)))


def _moved(values: np.ndarray, radius: int, sigma: float, degrees: float) -> np.ndarray:
    """Values smeared one way along a path, with the weights of half a Gaussian, as ImageMagick does it.

    (H, W) or (H, W, C), uint8 or float32, becomes float32.
    """
    taps = np.arange(2 * radius + 1)
    x, y = (np.rint(taps * f(np.deg2rad(degrees))).astype(int) for f in (np.cos, np.sin))
    weights = np.exp(-(taps**2) / (2 * sigma**2))
    top, left = max(0, -y.min()), max(0, -x.min())
    wide = cv2.copyMakeBorder(values, top, max(0, y.max()), left, max(0, x.max()), cv2.BORDER_REPLICATE)
    height, width = values.shape[:2]
    smeared = np.zeros(values.shape, np.float32)
    # Each share is that of all weights so far, so that they sum to 1 in the end. A filter would also spend
    # time on the many places beside the path.
    for row, column, share in zip(y + top, x + left, weights / weights.cumsum()):
        cv2.accumulateWeighted(wide[row : row + height, column : column + width], smeared, share)
    return smeared


def _zoomed(values: np.ndarray, factor: float) -> np.ndarray:
    """The middle of (H, W) or (H, W, C) float32 values enlarged to all of it."""
    height, width = values.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), 0, factor)
    return cv2.warpAffine(values, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)


def _zoom_blur(image, numbers, rng):
    stop, step = numbers
    original, factors = image.astype(np.float32), np.arange(1, stop, step)
    total = original.copy()
    for factor in factors:
        total += _zoomed(original, factor)
    return cv2.convertScaleAbs(total, alpha=1 / (len(factors) + 1))


def _snow(image, numbers, rng):
    mean, deviation, zoom, threshold, radius, sigma, kept = numbers
    flakes = rng.standard_normal(image.shape[:2], np.float32) * np.float32(deviation) + np.float32(mean)
    flakes = _zoomed(flakes, zoom)
    flakes = np.where(flakes < threshold, np.float32(0), np.minimum(flakes, 1))
    flakes = 255 * _moved(flakes, radius, sigma, rng.uniform(-135, -45))
    flakes = flakes + np.rot90(flakes, 2)
    whitened = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) * np.float32(1.5) + np.float32(127.5)
    whitened = cv2.max(cv2.cvtColor(whitened, cv2.COLOR_GRAY2RGB), image.astype(np.float32))
    whitened = cv2.addWeighted(image, kept, whitened, 1 - kept, 0, dtype=cv2.CV_32F)
    return cv2.add(whitened, cv2.cvtColor(flakes, cv2.COLOR_GRAY2RGB), dtype=cv2.CV_8U)


def _frost(image, numbers, rng):
    original, pane, scale = numbers
    pane_drawn = frosted_pane(*image.shape[:2], scale, rng)
    return cv2.addWeighted(image, original, pane_drawn, pane, 0, dtype=cv2.CV_8U)


def _elastic_transform(image, numbers, rng):
    height, width = image.shape[:2]
    size, sigma, shift = min(height, width) * np.array(numbers)
    middle, third = np.array([width // 2, height // 2]), max(1, min(height, width) // 3)
    corners = middle + third * np.array([[1, 1], [1, -1], [-1, -1]])
    shifted = corners + rng.uniform(-shift, shift, corners.shape)
    matrix = cv2.getAffineTransform(corners.astype(np.float32), shifted.astype(np.float32))
    sheared = cv2.warpAffine(
        image.astype(np.float32), matrix, (width, height), borderMode=cv2.BORDER_REFLECT_101
    )
    x, y = (np.float32(size) * gaussian_blur(uniform(rng, (height, width)), sigma) for _ in range(2))
    x += np.arange(width, dtype=np.float32)
    y += np.arange(height, dtype=np.float32)[:, None]
    return cv2.convertScaleAbs(cv2.remap(sheared, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT))


def _pixelate(image, share, rng):
    height, width = image.shape[:2]
    small = max(1, int(width * share)), max(1, int(height * share))
    pixels = Image.fromarray(image).resize(small, Image.Resampling.BOX)
    return np.array(pixels.resize((width, height), Image.Resampling.NEAREST))


_FUNCTIONS: dict[str, Callable[[np.ndarray, Any, np.random.Generator], np.ndarray]] = {
    "gaussian_noise": perturbations.gaussian_noise,
    "shot_noise": lambda image, photons, rng: perturbations.shot_noise(image, photons**-0.5, rng),
    "impulse_noise": lambda image, share, rng: speckled(image, share, rng, image.shape),
    "defocus_blur": _defocus_blur,
    "glass_blur": _glass_blur,
    "motion_blur": _motion_blur,
    "zoom_blur": _zoom_blur,
    "snow": _snow,
    "frost": _frost,
    "fog": lambda image, numbers, rng: fogged(image, numbers[0], numbers[1], rng),
    "brightness": perturbations.brightness,
    "contrast": lambda image, factor, rng: stretched(image, factor),
    "elastic_transform": _elastic_transform,
    "pixelate": _pixelate,
    "jpeg_compression": lambda image, quality, rng: jpeg(image, quality),
}
