"""Perturbations of one photo, each with a strength: noise, occlusion, blur, light, JPEG, fog, turns, flips.

Every function takes an (H, W, 3) uint8 RGB image, a strength of 0 or more and a random generator, and returns
a new image of the same shape and type. Strength 0 changes nothing; what a strength means is said at each.
"""

import math
from collections.abc import Callable, Sequence
from numbers import Real
from typing import NamedTuple

import cv2
import numpy as np

from voclab.errors import VoclabError
from voclab.robustness.textures import plasma

GREY = 124  # the mean of ImageNet's pixels: what is covered with it says "nothing here"

# --- noise ---


def gaussian_noise(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Independent Gaussian noise on every value; ``strength``: its standard deviation, pixels in [0, 1]."""
    return eight_bit(image / 255 + strength * rng.normal(size=image.shape))


def shot_noise(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Poisson noise of counted photons; ``strength``: its standard deviation at full white, pixels in [0, 1].

    White is then 1 / strength² photons, and a value v has the standard deviation strength · √v.
    """
    photons = float(np.clip(strength, 1e-6, 1e6)) ** -2
    return eight_bit(rng.poisson(image / 255 * photons) / photons)


def salt_and_pepper(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Pixels that turn black or white, evenly; ``strength``: their share of all pixels, 1 at most."""
    hit, white = rng.uniform(size=(2, *image.shape[:2], 1))
    return np.where(hit < strength, np.where(white < 0.5, 0, 255), image).astype(np.uint8)


def uniform_noise(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Independent uniform noise on every value; ``strength``: its half width, pixels in [0, 1]."""
    return eight_bit(image / 255 + strength * rng.uniform(-1, 1, image.shape))


# --- occlusion and blur ---


def occlusion(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """A grey square anywhere in the photo; ``strength``: its side as a share of the shorter side, 1 at most.

    The square lies wholly within the photo and is at least a pixel.
    """
    height, width = image.shape[:2]
    side = max(1, round(min(strength, 1) * min(height, width))) if strength else 0
    top, left = (rng.uniform(size=2) * (height - side + 1, width - side + 1)).astype(int)
    covered = image.copy()
    covered[top : top + side, left : left + side] = GREY
    return covered


def gaussian_blur(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Gaussian blur, mirrored at the border; ``strength``: sigma in pixels, at most the longer side."""
    return eight_bit(blurred(image / 255, min(strength, max(image.shape[:2]))))


def defocus_blur(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """The blur of a lens out of focus; ``strength``: the radius in pixels of the disc that a point becomes.

    The disc has soft edges, so that fractions of a pixel count (from 0.5 on); its radius is at most half
    the longer side.
    """
    radius = min(strength, max(image.shape[:2]) / 2)
    steps = np.arange(-math.ceil(radius), math.ceil(radius) + 1)
    disc = np.clip(radius + 0.5 - np.hypot(*np.meshgrid(steps, steps)), 0, 1)
    return eight_bit(filtered(image / 255, disc))


# --- light and compression ---


def brightness(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """More light; ``strength``: added to the value of HSV, in [0, 1], hue and saturation kept."""
    value = image.max(2, keepdims=True) / 255
    # Hue and saturation stay the same where the three channels keep their ratios; black has none to keep.
    gain = np.minimum(value + strength, 1) / np.where(value > 0, value, 1)
    return eight_bit(np.where(value > 0, image / 255, 1) * gain)


def contrast(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """More contrast; ``strength``: by how much the factor on the distance to the mean exceeds 1."""
    return stretched(image, 1 + strength)


def jpeg(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """JPEG compression; ``strength``: 100 minus the quality, which is rounded and lies between 1 and 99.

    0 is no compression at all.
    """
    if strength == 0:
        return image.copy()
    quality = 100 - max(1, round(min(strength, 99)))
    _, data = cv2.imencode(
        ".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    return cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def fog(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Fog of a fractal cloud, as in ImageNet-C; ``strength``: its thickness, see :func:`fogged`."""
    return fogged(image, strength, 2.0, rng)


# --- geometry ---


def rotation(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Rotation about the middle of the photo, counter-clockwise; ``strength``: degrees.

    The scale stays: what turns out of the frame is cut, and what the frame lacks is mirrored. So a square
    photo turned by 90° is exactly ``np.rot90`` of it, and another one the central part of that, mirrored on
    at its short sides, without interpolation. Nothing is lost if photos are made square first.
    """
    height, width = image.shape[:2]
    degrees = strength % 360
    if degrees % 90 == 0:
        turned = np.rot90(image, int(degrees // 90))
        rows, columns = (_centred(n, wanted) for n, wanted in zip(turned.shape, (height, width)))
        return np.ascontiguousarray(turned[np.ix_(rows, columns)])
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1)
    return cv2.warpAffine(
        image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )


def horizontal_flip(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Left and right exchanged; ``strength``: 0 or 1."""
    return _flipped(image, strength, 1)


def vertical_flip(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Top and bottom exchanged; ``strength``: 0 or 1."""
    return _flipped(image, strength, 0)


# --- by name ---

PERTURBATIONS: dict[str, Callable[[np.ndarray, float, np.random.Generator], np.ndarray]] = {
    function.__name__: function
    for function in (
        gaussian_noise, shot_noise, salt_and_pepper, uniform_noise, occlusion, gaussian_blur, defocus_blur,
        brightness, contrast, jpeg, fog, rotation, horizontal_flip, vertical_flip,
    )
}  # fmt: skip

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


# Under which a network's answer should stay the same: clearly visible, and no photo is beyond recognition.
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
    """One photo under a perturbation.

    Args:
        image: (H, W, 3) uint8 RGB.
        name: one of :data:`PERTURBATIONS`.
        strength: 0 leaves the photo as it is; :data:`STRENGTHS` says what is counted.
        seed: fixes everything random, e.g. (seed, index of the photo). The same seed at another strength
            gives the same noise or cloud, only stronger (but new shot noise).

    Returns:
        (H, W, 3) uint8 RGB, always a new array.

    Raises:
        VoclabError: no such perturbation, a strength that is negative, not finite or (flips) neither 0 nor 1,
            or no such image.
    """
    if name not in PERTURBATIONS:
        raise VoclabError(f"There is no perturbation {name!r}; choose one of {', '.join(PERTURBATIONS)}.")
    image = require_image(image)
    if not (isinstance(strength, Real) and math.isfinite(strength) and strength >= 0):
        raise VoclabError(
            f"The strength of {name} ({STRENGTHS[name]}) is {strength}; it must be finite and 0 or more."
        )
    return PERTURBATIONS[name](image, float(strength), np.random.default_rng(seed))


def require_image(image: np.ndarray) -> np.ndarray:
    """The image in one piece of memory.

    Raises:
        VoclabError: it is not (H, W, 3) uint8, with the remedy.
    """
    image = np.asarray(image)
    if image.ndim == 4:
        raise VoclabError(f"The image has shape {image.shape}, a batch; perturb its photos one by one.")
    if image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 1):
        raise VoclabError(
            f"The image has shape {image.shape}, so it is grey; repeat the channel three times, last axis."
        )
    if image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise VoclabError(f"The image has shape {image.shape}; it must be (height, width, 3), RGB.")
    if image.dtype != np.uint8:
        raise VoclabError(
            f"The image is {image.dtype}, not uint8; if it lies in [0, 1], pass"
            " np.rint(255 * image).astype(np.uint8)."
        )
    return np.ascontiguousarray(image)


# --- what corruptions share ---


def eight_bit(values: np.ndarray) -> np.ndarray:
    """Values in [0, 1] as uint8: cut at both ends, then rounded."""
    return np.rint(255 * np.clip(values, 0, 1)).astype(np.uint8)


def blurred(values: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur of (H, W) or (H, W, C) values, ``sigma`` in pixels: float32."""
    values = values.astype(np.float32)  # OpenCV rounds the weights for 8-bit images to 1/256
    return cv2.GaussianBlur(values, (0, 0), sigma) if sigma > 0 else values


def filtered(values: np.ndarray, kernel: np.ndarray, border: int = cv2.BORDER_REFLECT_101) -> np.ndarray:
    """(H, W) or (H, W, C) values correlated with a kernel of odd sides, scaled to sum to 1: float32."""
    return cv2.filter2D(values.astype(np.float32), -1, kernel / kernel.sum(), borderType=border)


def stretched(image: np.ndarray, factor: float) -> np.ndarray:
    """The uint8 image with the distance of every value to its channel's mean multiplied by ``factor``."""
    mean = image.mean((0, 1), dtype=np.float64)
    # The mean of equal bytes is exact, of equal fractions it is not: a huge factor would show the difference.
    return eight_bit((mean + (image - mean) * factor) / 255)


def fogged(image: np.ndarray, thickness: float, decay: float, rng: np.random.Generator) -> np.ndarray:
    """Fog as in ImageNet-C: ``thickness`` times a cloud is added and the brightest value of the photo kept.

    Args:
        image: (H, W, 3) uint8 RGB.
        thickness: of the cloud against full white.
        decay: its smoothness, see :func:`voclab.robustness.textures.plasma`.
        rng: source of the cloud.

    Returns:
        (H, W, 3) uint8. A black photo stays black.
    """
    cloud = plasma(*image.shape[:2], decay, rng)[..., None]
    brightest = image.max() / 255
    share = brightest / (brightest + thickness) if brightest else 0.0
    return eight_bit(image / 255 * share + cloud * (thickness * share))


def _centred(length: int, wanted: int) -> np.ndarray:
    """Indices of the ``wanted`` central ones of ``length``, mirrored beyond the ends."""
    period = max(1, 2 * (length - 1))
    indices = (np.arange(wanted) - (wanted - length) // 2) % period
    return np.where(indices < length, indices, period - indices)


def _flipped(image: np.ndarray, strength: float, axis: int) -> np.ndarray:
    if strength not in (0, 1):
        raise VoclabError(f"A flip is done or not: its strength is 0 or 1, not {strength:g}.")
    return np.flip(image, axis).copy() if strength else image.copy()
