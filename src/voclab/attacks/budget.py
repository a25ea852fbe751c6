"""The bound of a perturbation: what an attack may change, exactly, in float and after rounding to 8 bits."""

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from voclab.errors import VoclabError

_FLOAT = 1e-6  # what float32 pixels in [0, 1] are rounded by, with a margin
_GRID = 1e-4  # the same in units of 1/255


@dataclass(frozen=True)
class Budget:
    """An L∞ ball around each image, within the pixels that exist.

    Attributes:
        epsilon: its radius, the most that any pixel value may change, between 0 and 1.

    Raises:
        VoclabError: a radius that is negative, not finite or larger than any change.
    """

    epsilon: float

    def __post_init__(self):
        if not (np.isfinite(self.epsilon) and self.epsilon >= 0):
            raise VoclabError(f"Epsilon is {self.epsilon}; it must be finite and 0 or more (8/255, say).")
        if self.epsilon > 1:
            raise VoclabError(
                f"Epsilon is {self.epsilon}, but pixels lie in [0, 1]: divide steps of 8-bit values by 255."
            )

    @property
    def steps(self) -> int:
        """The most that an 8-bit value may change."""
        return int(np.floor(255 * self.epsilon + _GRID))

    def box(self, clean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The least and the largest values of pixels, (B, H, W, C) float32 each."""
        return np.maximum(clean - self.epsilon, 0), np.minimum(clean + self.epsilon, 1)

    def project(self, perturbed: np.ndarray, clean: np.ndarray) -> np.ndarray:
        """The nearest images in the ball and in [0, 1]; (B, H, W, C) float32."""
        return np.clip(perturbed, *self.box(clean), dtype=np.float32)

    def random(self, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        """Perturbations (B, H, W, C) float32 drawn uniformly from the ball."""
        return rng.uniform(-self.epsilon, self.epsilon, shape).astype(np.float32)

    def fill(self, direction: np.ndarray) -> np.ndarray:
        """The perturbation that goes furthest along ``direction`` (B, H, W, C): float32.

        That is epsilon times the sign of every entry; zero entries give no change.
        """
        return np.sign(direction).astype(np.float32, copy=False) * np.float32(self.epsilon)

    def finish(self, perturbed: np.ndarray, clean: np.ndarray) -> np.ndarray:
        """What an attack returns: in the ball as it is, and still in it once rounded to 8 bits.

        Only what rounding would push out of the ball is moved, to the nearest 8-bit value within.

        Args:
            perturbed: (B, H, W, C) float32.
            clean: the 8-bit images it comes from, in [0, 1].

        Returns:
            (B, H, W, C) float32 in [0, 1]. The bound is asserted.
        """
        perturbed = self.project(perturbed, clean)
        change = _in_steps(perturbed, clean)
        outside = np.abs(change) > self.steps
        if outside.any():
            allowed = np.rint(255 * clean[outside]) + self.steps * np.sign(change[outside])
            perturbed[outside] = allowed / np.float32(255)
        self.check(perturbed, clean)
        return perturbed

    def check(self, perturbed: np.ndarray, clean: np.ndarray) -> None:
        """Assert that images are in [0, 1] and within the bound, as they are and rounded to 8 bits."""
        assert perturbed.shape == clean.shape, f"{perturbed.shape} is not {clean.shape}"
        low, high = perturbed.min(initial=0), perturbed.max(initial=0)
        assert np.isfinite((low, high)).all(), "perturbed images are not finite"  # NaN is least and largest
        assert low >= 0, "perturbed pixels below 0"
        assert high <= 1, "perturbed pixels above 1"
        largest = float(np.abs(perturbed - clean).max(initial=0))
        assert largest <= self.epsilon + _FLOAT, f"the perturbation exceeds {self}"
        change = _in_steps(perturbed, clean)
        assert np.abs(change).max(initial=0) <= self.steps, f"the rounded perturbation exceeds {self}"


def _in_steps(perturbed: np.ndarray, clean: np.ndarray) -> np.ndarray:
    """The change of the 8-bit values that float images are saved as."""
    change, base = 255 * perturbed, 255 * clean
    np.rint(change, out=change)
    return np.subtract(change, np.rint(base, out=base), out=change)


def own_random(images: Iterable[np.ndarray], seed: int) -> Iterator[np.random.Generator]:
    """A random generator for each (H, W, C) image, from the seed and its pixels: the same in any batch."""
    for image in images:
        yield np.random.default_rng([seed, zlib.crc32(np.ascontiguousarray(image))])


def require_images(images: np.ndarray) -> np.ndarray:
    """Refuse what no attack can keep a bound on; otherwise the images as float32.

    Args:
        images: (B, H, W, 3), multiples of 1/255 in [0, 1].

    Raises:
        VoclabError: one sentence with the remedy.
    """
    images = np.asarray(images)
    if images.ndim == 3 and images.shape[-1] == 3:
        raise VoclabError(f"Images have shape {images.shape}; one image is a batch too: pass images[None].")
    if images.ndim == 3 or (images.ndim == 4 and images.shape[-1] == 1):
        raise VoclabError(
            f"Images have shape {images.shape}, so they are grey; models here see RGB: repeat the channel "
            "three times along a last axis."
        )
    if images.ndim != 4 or images.shape[-1] != 3:
        raise VoclabError(f"Images have shape {images.shape}, expected (batch, height, width, 3).")
    if images.dtype == np.uint8:
        raise VoclabError("Images are uint8; attacks work on floats: pass voclab.attacks.eight_bit(images).")
    if not (np.isfinite(images).all() and images.min(initial=0) >= 0 and images.max(initial=0) <= 1):
        raise VoclabError(
            f"Images reach from {images.min():.3g} to {images.max():.3g}, expected finite values in [0, 1]: "
            "divide 8-bit images by 255."
        )
    images = images.astype(np.float32)
    steps = 255 * images
    if np.abs(steps - np.rint(steps)).max(initial=0) > _GRID:
        raise VoclabError(
            "Images are not multiples of 1/255, so no file holds them and a bound after rounding means "
            "nothing: pass voclab.attacks.eight_bit(images)."
        )
    return images
