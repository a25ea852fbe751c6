"""Perturbations of one image, each with a strength: noise, occlusion, blur, light, JPEG, fog, turns, flips.

Every function takes an (H, W, 3) uint8 RGB image, a strength of 0 or more and a random generator, which those
that draw nothing ignore, and returns a new image of the same shape and type. Strength 0 changes nothing; what
a strength means is said at each.
"""

import math
from collections.abc import Callable, Sequence
from numbers import Real
from typing import NamedTuple

import cv2
import numpy as np

from voclab.corruptions.textures import generator, plasma, uniform
from voclab.data import images
from voclab.errors import VoclabError
from voclab.options import one_of

# --- noise ---


def gaussian_noise(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Independent Gaussian noise on every value; ``strength``: its standard deviation, pixels in [0, 1]."""
    noise = np.empty(image.shape, np.float32)
    cv2.setRNGSeed(int(rng.integers(2**31)))
    cv2.randn(noise, (0, 0, 0), (1, 1, 1))  # in a third of the time of numpy's
    return _noisy(image, noise, strength)


def shot_noise(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Poisson noise of counted photons; ``strength``: its standard deviation at full white, pixels in [0, 1].

    White is then 1 / strength² photons, and a value v has the standard deviation strength · √v.
    """
    if strength == 0:
        return image.copy()
    photons = min(max(strength, 1e-6), 1e6) ** -2  # of full white
    counted = rng.poisson(image * (photons / 255)) / photons
    return np.rint(np.minimum(255 * counted, 255)).astype(np.uint8)


def salt_and_pepper(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Pixels that turn black or white, evenly; ``strength``: their share of all pixels, 1 at most."""
    return speckled(image, strength, rng, image.shape[:2])


def uniform_noise(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Independent uniform noise on every value; ``strength``: its half width, pixels in [0, 1]."""
    return _noisy(image, uniform(rng, image.shape), strength)


def _noisy(image: np.ndarray, noise: np.ndarray, strength: float) -> np.ndarray:
    return cv2.addWeighted(image, 1, noise, 255 * min(strength, 1e6), 0, dtype=cv2.CV_8U)


# --- occlusion and blur ---


def occlusion(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """A grey square anywhere in the image; ``strength``: its side as a share of the shorter side, 1 at most.

    The square lies wholly within the image and is at least a pixel.
    """
    height, width = image.shape[:2]
    side = max(1, round(min(strength, 1) * min(height, width))) if strength else 0
    top, left = (rng.uniform(size=2) * (height - side + 1, width - side + 1)).astype(int)
    covered = image.copy()
    covered[top : top + side, left : left + side] = images.GREY
    return covered


def gaussian_blur(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Gaussian blur, mirrored at the border; ``strength``: sigma in pixels, at most the longer side."""
    return images.gaussian_blur(image, min(strength, max(image.shape[:2])))


def defocus_blur(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """The blur of a lens out of focus; ``strength``: the radius in pixels of the disc that a point becomes.

    The disc has soft edges, so that fractions of a pixel count (from 0.5 on); its radius is at most half
    the longer side.
    """
    radius = min(strength, max(image.shape[:2]) / 2)
    steps = np.arange(-math.ceil(radius), math.ceil(radius) + 1)
    disc = np.clip(radius + 0.5 - np.hypot(*np.meshgrid(steps, steps)), 0, 1)
    return cv2.convertScaleAbs(filtered(image, disc))


# --- light and compression ---


def brightness(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """More light; ``strength``: added to the value of HSV, in [0, 1], hue and saturation kept."""
    planes, levels = cv2.split(image), np.arange(256)
    value = cv2.max(cv2.max(planes[0], planes[1]), planes[2])
    # Hue and saturation stay the same where the three channels keep their ratios.
    gains = np.minimum(levels + 255 * strength, 255) / np.maximum(levels, 1)
    gain = cv2.LUT(value, gains.astype(np.float32))
    lit = cv2.merge([cv2.multiply(plane, gain, dtype=cv2.CV_8U) for plane in planes])
    lit[value == 0] = np.rint(255 * min(strength, 1))  # black has no ratios to keep
    return lit


def contrast(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """More contrast; ``strength``: by how much the factor on the distance to the mean exceeds 1."""
    return stretched(image, 1 + strength)


def jpeg(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """JPEG compression; ``strength``: 100 minus the quality, which is rounded and lies between 1 and 99.

    0 is no compression at all.
    """
    if strength == 0:
        return image.copy()
    return images.jpeg(image, 100 - max(1, round(min(strength, 99))))


def fog(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Fog of a fractal cloud, as in ImageNet-C; ``strength``: its thickness, see :func:`fogged`."""
    return fogged(image, strength, 2.0, rng)


# --- geometry ---

_QUARTERS = {90: cv2.ROTATE_90_COUNTERCLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_CLOCKWISE}  # degrees


def rotation(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Rotation about the middle of the image, counter-clockwise; ``strength``: degrees.

    The scale stays: what turns out of the frame is cut, and what the frame lacks is mirrored. A square image
    turned by 90° is exactly ``np.rot90`` of it.
    """
    height, width = image.shape[:2]
    if height == width and (turn := _QUARTERS.get(strength % 360)) is not None:
        return cv2.rotate(image, turn)
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), strength % 360, 1)
    return cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REFLECT_101)


def horizontal_flip(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Left and right exchanged; ``strength``: 0 or 1."""
    return cv2.flip(image, 1) if strength else image.copy()


def vertical_flip(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Top and bottom exchanged; ``strength``: 0 or 1."""
    return cv2.flip(image, 0) if strength else image.copy()


# --- by name ---

PERTURBATIONS: dict[str, Callable[[np.ndarray, float, np.random.Generator], np.ndarray]] = {
    function.__name__: function
    for function in (
        gaussian_noise, shot_noise, salt_and_pepper, uniform_noise, occlusion, gaussian_blur, defocus_blur,
        brightness, contrast, jpeg, fog, rotation, horizontal_flip, vertical_flip,
    )
}  # fmt: skip

_DRAWING = {"gaussian_noise", "shot_noise", "salt_and_pepper", "uniform_noise", "occlusion", "fog"}
_UNUSED = generator(0)  # for the others: to make one takes longer than a flip

NOISES = {
    "gaussian": "gaussian_noise",
    "shot": "shot_noise",
    "uniform": "uniform_noise",
    "blur": "gaussian_blur",
}
"""Short names of perturbations for the command line."""

STRENGTHS = {  # what is counted, for axis labels and messages
    "gaussian_noise": "standard deviation, pixels in [0, 1]",
    "shot_noise": "standard deviation at full white, pixels in [0, 1]",
    "salt_and_pepper": "share of pixels",
    "uniform_noise": "half width, pixels in [0, 1]",
    "occlusion": "side of the square, share of the shorter side",
    "gaussian_blur": "sigma, pixels",
    "defocus_blur": "radius of the disc, pixels",
    "brightness": "added to the value of HSV, in [0, 1]",
    "contrast": "factor less 1",
    "jpeg": "100 - quality",
    "fog": "thickness against full white",
    "rotation": "degrees",
    "horizontal_flip": "0 or 1",
    "vertical_flip": "0 or 1",
}


class Setting(NamedTuple):
    """A perturbation by name, and its strength."""

    name: str
    strength: float


# Under which a network's answer should stay the same: clearly visible, and no image is beyond recognition.
CONSISTENCY: dict[str, Setting] = {
    "more brightness": Setting("brightness", 0.2),
    "more contrast": Setting("contrast", 0.5),
    "Gaussian blur": Setting("gaussian_blur", 1.5),
    "defocus blur": Setting("defocus_blur", 2.5),
    "fog": Setting("fog", 1.0),
    "rotation by 90°": Setting("rotation", 90),
    "horizontal flip": Setting("horizontal_flip", 1),
    "vertical flip": Setting("vertical_flip", 1),
    "random noise": Setting("gaussian_noise", 0.1),
    "salt-and-pepper": Setting("salt_and_pepper", 0.05),
}


def perturbed(
    image: np.ndarray, name: str, strength: float, seed: int | Sequence[int] | np.random.SeedSequence = 0
) -> np.ndarray:
    """One image under a perturbation.

    Args:
        image: (H, W, 3) uint8 RGB.
        name: one of :data:`PERTURBATIONS`.
        strength: 0 leaves the image as it is; :data:`STRENGTHS` says what is counted.
        seed: fixes everything random, e.g. (seed, index of the image). The same seed at another strength
            gives the same noise or cloud, only stronger (but new shot noise).

    Returns:
        (H, W, 3) uint8 RGB, always a new array.

    Raises:
        VoclabError: no such perturbation or image, or a strength that :func:`require_strength` refuses.
    """
    one_of("perturbation", name, PERTURBATIONS)
    image = require_image(image)
    require_strength(name, strength)
    rng = generator(seed) if name in _DRAWING else _UNUSED
    return PERTURBATIONS[name](image, float(strength), rng)


def require_strength(name: str, strength: float) -> None:
    """``VoclabError`` for a strength that is negative, not finite or (flips) neither 0 nor 1."""
    if not (isinstance(strength, Real) and math.isfinite(strength) and strength >= 0):
        raise VoclabError(
            f"The strength of {name} ({STRENGTHS[name]}) is {strength}; it must be finite and 0 or more."
        )
    if name in ("horizontal_flip", "vertical_flip") and strength not in (0, 1):
        raise VoclabError(f"A flip is done or not: its strength is 0 or 1, not {strength:g}.")


def require_image(image: np.ndarray) -> np.ndarray:
    """The image in one piece of memory; :class:`VoclabError` if it is not (H, W, 3) uint8."""
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[2] != 3 or image.size == 0 or image.dtype != np.uint8:
        raise VoclabError(
            f"The image is {image.dtype} of shape {image.shape}, not uint8 of shape (height, width, 3): pass"
            " the images of a batch one by one, repeat a grey channel three times, and convert values in"
            " [0, 1] by np.rint(255 * image).astype(np.uint8)."
        )
    return np.ascontiguousarray(image)


# --- what corruptions share ---


def filtered(values: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """(H, W, C) uint8 or float32 values correlated with a kernel of odd sides, scaled to sum to 1: float32.

    The border is mirrored.
    """
    kernel = (kernel / kernel.sum()).astype(np.float32)
    return cv2.filter2D(values.astype(np.float32, copy=False), -1, kernel)


def speckled(image: np.ndarray, share: float, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """The uint8 image with a share, 1 at most, of its pixels or values black (0) or white (255), evenly.

    ``shape``: (H, W) for whole pixels, (H, W, 3) for each value by itself.
    """
    drawn, half = rng.integers(0, 2**32, shape, np.uint32), round(2**31 * min(share, 1))
    # The lowest draws are black and the highest white, so that a smaller share hits a part of the same ones.
    speckles = image.copy()
    speckles[drawn < half] = 0
    speckles[drawn > 2**32 - 1 - half] = 255
    return speckles


def stretched(image: np.ndarray, factor: float) -> np.ndarray:
    """The uint8 image with the distance of every value to its channel's mean multiplied by ``factor``."""
    # The mean of equal bytes is exact, of equal fractions it is not: a huge factor would show the difference.
    mean = np.array(cv2.sumElems(image)[:3]) / (image.shape[0] * image.shape[1])
    if factor > 16:  # cv2.transform computes in float32, which would not do
        table = np.rint(np.clip(mean + (np.arange(256)[:, None] - mean) * factor, 0, 255))
        return cv2.LUT(image, table.astype(np.uint8)[None])
    return cv2.transform(image, np.column_stack([factor * np.eye(3), mean * (1 - factor)]))


def fogged(image: np.ndarray, thickness: float, decay: float, rng: np.random.Generator) -> np.ndarray:
    """Fog as in ImageNet-C: ``thickness`` times a cloud is added and the brightest value of the image kept.

    ``decay`` is the cloud's, see :func:`voclab.corruptions.textures.plasma`. A black image stays black.
    """
    cloud = cv2.cvtColor(plasma(image.shape[0], image.shape[1], decay, rng), cv2.COLOR_GRAY2RGB)
    brightest = float(image.max()) / 255
    share = brightest / (brightest + thickness) if brightest else 0.0
    return cv2.addWeighted(image, share, cloud, 255 * thickness * share, 0, dtype=cv2.CV_8U)
