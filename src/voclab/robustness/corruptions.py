"""The fifteen corruptions of ImageNet-C at five severities, and the errors that are counted on them.

Hendrycks & Dietterich, "Benchmarking neural network robustness to common corruptions and perturbations", ICLR
2019. The numbers are those of the authors' scripts ``make_imagenet_c.py`` and ``make_cifar_c.py`` (repository
hendrycks/robustness); the code is ours. It differs from theirs where theirs needs what we do not have:

- Frost: they add one of a few photographs of frosted panes, which are not ours to ship. Here a pane is drawn
  (:func:`voclab.robustness.textures.frosted_pane`) with the brightness and contrast of those photos.
- Motion blur, also of snow: they call ImageMagick; here an OpenCV kernel has the same weights along the same
  path.
- Zooms are about the exact middle, and photos need not be square.
- Values are rounded, not cut, to 8 bits, and nothing is saved as JPEG, which ImageNet-C does on top.

So error rates can be compared between networks measured here, not with published ones.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from PIL import Image

from voclab.errors import VoclabError
from voclab.robustness import perturbations
from voclab.robustness.perturbations import blurred, eight_bit, filtered, fogged, require_image, stretched
from voclab.robustness.textures import frosted_pane

SEVERITIES = (1, 2, 3, 4, 5)

# What the numbers of each corruption are, in their order. Lengths are pixels of the photo as it is.
MEANINGS = {
    "gaussian_noise": "standard deviation, pixels in [0, 1]",
    "shot_noise": "photons of full white",
    "impulse_noise": "share of values that turn 0 or 1, each channel for itself",
    "defocus_blur": "radius of the disc; sigma that softens it",
    "glass_blur": "sigma before and after; how far pixels move; rounds of moving",
    "motion_blur": "radius of the path; sigma along it",
    "zoom_blur": "end and step of the zoom factors, from 1 on",
    "snow": "mean, deviation, zoom and threshold of the flakes; radius and sigma of their fall; share of the"
    " photo that is not whitened",
    "frost": "share of the photo; share of the pane",
    "fog": "thickness against full white; smoothness of the cloud",
    "brightness": "added to the value of HSV, in [0, 1]",
    "contrast": "factor on the distance to the mean",
    "elastic_transform": "size of the displacements, sigma that smooths them, shift of the corners, all as"
    " shares of the shorter side",
    "pixelate": "share of the sides",
    "jpeg_compression": "quality",
}
CORRUPTIONS = tuple(MEANINGS)


def _of_244(*rows: tuple[float, ...]) -> tuple[tuple[float, ...], ...]:
    """Shares of 244, which the published script takes for the side of 224, as shares of the side."""
    return tuple(tuple(share * 244 / 224 for share in row) for row in rows)


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
        "frost": ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)),
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
        "frost": ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),
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
_CRYSTALS = {"imagenet": 1.0, "cifar": 0.2}  # the size of the frost photos against the originals
_BETWEEN = 85  # pixels: as many times larger than 32 as 224 is larger than it


def corrupted(
    image: np.ndarray,
    name: str,
    severity: int,
    seed: int | Sequence[int] | np.random.SeedSequence = 0,
    parameters: str | None = None,
) -> np.ndarray:
    """One photo under a corruption.

    Lengths are published in pixels, so corrupt photos at the size at which a network sees them.

    Args:
        image: (H, W, 3) uint8 RGB.
        name: one of :data:`CORRUPTIONS`.
        severity: 1 (mild) to 5, or 0: the photo as it is.
        seed: fixes everything random, e.g. (seed, index of the photo).
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
    severity = _severity(severity)
    if parameters is None:
        parameters = "cifar" if min(image.shape[:2]) < _BETWEEN else "imagenet"
    if parameters not in PARAMETERS:
        raise VoclabError(f"There are no parameters {parameters!r}; choose one of {', '.join(PARAMETERS)}.")
    if severity == 0:
        return image.copy()
    rng = np.random.default_rng(seed)
    chosen = PARAMETERS[parameters][name][severity - 1]
    if name == "frost":
        chosen = (*chosen, _CRYSTALS[parameters])
    return _FUNCTIONS[name](image, chosen, rng)


def _severity(severity: int) -> int:
    try:
        number = operator.index(severity)
    except TypeError:
        number = -1
    if number not in (0, *SEVERITIES):
        raise VoclabError(f"The severity is {severity}; it must be a whole number from 0 (none) to 5.")
    return number


# --- the corruptions: (image, numbers of the table, rng) -> image ---


def _gaussian_noise(image, deviation, rng):
    return perturbations.gaussian_noise(image, deviation, rng)


def _shot_noise(image, photons, rng):
    return perturbations.shot_noise(image, photons**-0.5, rng)


def _impulse_noise(image, share, rng):
    hit, white = rng.uniform(size=(2, *image.shape))
    return np.where(hit < share, np.where(white < 0.5, 0, 255), image).astype(np.uint8)


def _defocus_blur(image, numbers, rng):
    radius, softness = numbers
    # The size matters where the disc is so small that only the softening spreads it.
    reach, width = (8, 3) if radius <= 8 else (radius, 5)
    steps = np.arange(-reach, reach + 1)
    disc = (np.hypot(*np.meshgrid(steps, steps)) <= radius).astype(np.float64)
    return eight_bit(filtered(image / 255, cv2.GaussianBlur(disc, (width, width), softness)))


def _glass_blur(image, numbers, rng):
    sigma, reach, rounds = numbers
    moved = eight_bit(blurred(image / 255, sigma))
    for _ in range(rounds):
        moved = _copied_around(moved, rng.integers(-reach, reach, (2, *image.shape[:2])), reach)
    return eight_bit(blurred(moved / 255, sigma))


def _copied_around(image: np.ndarray, offsets: np.ndarray, reach: int) -> np.ndarray:
    """Each pixel but those near the border takes the value of another one, from the last pixel to the first.

    The published loop means to swap two pixels, but what it writes is the neighbour's value in both places.
    A neighbour that is further down or right has been written already; so values can travel far.

    Args:
        image: (H, W, 3) uint8.
        offsets: (2, H, W), down and right, of the pixel to take.
        reach: no offset is larger.

    Returns:
        (H, W, 3) uint8.
    """
    height, width = image.shape[:2]
    here = np.arange(height * width).reshape(height, width)
    inner = np.zeros((height, width), bool)
    inner[reach + 1 : height - reach + 1, reach + 1 : width - reach + 1] = True
    source = np.where(inner, here + offsets[0] * width + offsets[1], here).ravel()
    here, inner = here.ravel(), inner.ravel()
    # A pixel that copies from one already written takes what that one took: follow the chains to their ends.
    end = np.where(inner[source] & (source > here), source, here)
    while (further := end[end]).tobytes() != end.tobytes():
        end = further
    return image.reshape(-1, 3)[source[end]].reshape(image.shape)


def _motion_blur(image, numbers, rng):
    radius, sigma = numbers
    return eight_bit(_moved(image / 255, radius, sigma, rng.uniform(-45, 45)))


def _moved(values: np.ndarray, radius: int, sigma: float, degrees: float) -> np.ndarray:
    """Values smeared one way along a path, with the weights of half a Gaussian, as ImageMagick does it."""
    taps = np.arange(2 * radius + 1)
    x, y = (np.rint(taps * f(np.deg2rad(degrees))).astype(int) for f in (np.cos, np.sin))
    kernel = np.zeros((4 * radius + 1, 4 * radius + 1))
    np.add.at(kernel, (2 * radius + y, 2 * radius + x), np.exp(-(taps**2) / (2 * sigma**2)))
    return filtered(values, kernel, cv2.BORDER_REPLICATE)


def _zoomed(values: np.ndarray, factor: float) -> np.ndarray:
    """The middle of (H, W) or (H, W, C) values enlarged to all of it: float32."""
    height, width = values.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), 0, factor)
    return cv2.warpAffine(values.astype(np.float32), matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)


def _zoom_blur(image, numbers, rng):
    stop, step = numbers
    layers = [image / 255, *(_zoomed(image / 255, factor) for factor in np.arange(1, stop, step))]
    return eight_bit(np.mean(layers, axis=0))


def _snow(image, numbers, rng):
    mean, deviation, zoom, threshold, radius, sigma, kept = numbers
    flakes = _zoomed(rng.normal(mean, deviation, image.shape[:2]), zoom)
    flakes = np.where(flakes < threshold, 0, np.clip(flakes, 0, 1))
    flakes = _moved(flakes, radius, sigma, rng.uniform(-135, -45))[..., None]
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None] / 255
    photo = image / 255
    whitened = np.maximum(photo, 1.5 * grey + 0.5)
    return eight_bit(kept * photo + (1 - kept) * whitened + flakes + np.rot90(flakes, 2))


def _frost(image, numbers, rng):
    photo, pane, scale = numbers
    return eight_bit((photo * image + pane * frosted_pane(*image.shape[:2], scale, rng)) / 255)


def _fog(image, numbers, rng):
    return fogged(image, *numbers, rng)


def _brightness(image, added, rng):
    return perturbations.brightness(image, added, rng)


def _contrast(image, factor, rng):
    return stretched(image, factor)


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
    x, y = (size * blurred(rng.uniform(-1, 1, (height, width)), sigma) for _ in range(2))
    x, y = x + np.arange(width), y + np.arange(height)[:, None]
    maps = (x.astype(np.float32), y.astype(np.float32))
    return eight_bit(cv2.remap(sheared, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT) / 255)


def _pixelate(image, share, rng):
    height, width = image.shape[:2]
    small = (max(1, int(width * share)), max(1, int(height * share)))
    return np.array(Image.fromarray(image).resize(small, Image.BOX).resize((width, height), Image.BOX))


def _jpeg_compression(image, quality, rng):
    return perturbations.jpeg(image, 100 - quality, rng)


_FUNCTIONS: dict[str, Callable[[np.ndarray, Any, np.random.Generator], np.ndarray]] = {
    "gaussian_noise": _gaussian_noise,
    "shot_noise": _shot_noise,
    "impulse_noise": _impulse_noise,
    "defocus_blur": _defocus_blur,
    "glass_blur": _glass_blur,
    "motion_blur": _motion_blur,
    "zoom_blur": _zoom_blur,
    "snow": _snow,
    "frost": _frost,
    "fog": _fog,
    "brightness": _brightness,
    "contrast": _contrast,
    "elastic_transform": _elastic_transform,
    "pixelate": _pixelate,
    "jpeg_compression": _jpeg_compression,
}


# --- errors over corruptions ---


def mean_corruption_error(
    errors: Mapping[str, Sequence[float]], baseline: Mapping[str, Sequence[float]]
) -> float:
    """mCE: how often a network errs on corrupted photos against a baseline network, in percent.

    Args:
        errors: for each corruption the error rate at severities 1 to 5, in [0, 1].
        baseline: the same of the baseline network (AlexNet in the paper).

    Returns:
        The mean over corruptions of 100 · Σ errors / Σ baseline errors; 100 is as good as the baseline.

    Raises:
        VoclabError: other corruptions in one than in the other or none, not five rates, or a baseline that
            never errs.
    """
    ours, theirs = _rates(errors, "network"), _rates(baseline, "baseline")
    return _mean_ratio(ours, theirs, "errs")


def relative_mce(
    errors: Mapping[str, Sequence[float]],
    clean: float,
    baseline: Mapping[str, Sequence[float]],
    baseline_clean: float,
) -> float:
    """Relative mCE: how much a network's error rises on corrupted photos against a baseline's, in percent.

    Args:
        errors: for each corruption the error rate at severities 1 to 5, in [0, 1].
        clean: the error rate on clean photos.
        baseline: the errors of the baseline network.
        baseline_clean: its error rate on clean photos.

    Returns:
        The mean over corruptions of 100 · Σ (errors - clean) / Σ (baseline errors - its clean ones).

    Raises:
        VoclabError: as for :func:`mean_corruption_error`, or a baseline that a corruption does not harm.
    """
    ours, theirs = _rates(errors, "network"), _rates(baseline, "baseline")
    for value, whose in ((clean, "network"), (baseline_clean, "baseline")):
        _require_rates(np.array([value], float), f"clean photos of the {whose}")
    ours = {name: rates - clean for name, rates in ours.items()}
    return _mean_ratio(ours, {name: rates - baseline_clean for name, rates in theirs.items()}, "loses")


def _rates(errors: Mapping[str, Sequence[float]], whose: str) -> dict[str, np.ndarray]:
    rates = {name: np.asarray(values, float) for name, values in errors.items()}
    for name, values in rates.items():
        if values.shape != (len(SEVERITIES),):
            raise VoclabError(
                f"The {whose} has errors of shape {values.shape} for {name}; give five, one a severity."
            )
        _require_rates(values, f"{name} of the {whose}")
    return rates


def _require_rates(values: np.ndarray, what: str) -> None:
    if not ((values >= 0) & (values <= 1)).all():  # false for NaN too
        raise VoclabError(
            f"The error rates for {what} are {', '.join(f'{v:g}' for v in values)}; they must lie in [0, 1]:"
            " divide percent by 100."
        )


def _mean_ratio(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray], verb: str) -> float:
    if not ours or ours.keys() != theirs.keys():
        raise VoclabError(
            f"The network has errors for {', '.join(ours) or 'nothing'}, the baseline for"
            f" {', '.join(theirs) or 'nothing'}; measure both on the same corruptions."
        )
    for name, rates in theirs.items():
        if rates.sum() <= 0:
            raise VoclabError(
                f"The baseline never {verb} anything under {name}, so nothing can be measured against it;"
                " choose another baseline."
            )
    return float(100 * np.mean([ours[name].sum() / theirs[name].sum() for name in ours]))
