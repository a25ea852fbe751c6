"""The bound of a perturbation: what an attack may change, exactly, in float and after rounding to 8 bits."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from keras import ops

from voclab.errors import VoclabError

NORMS = ("linf", "l2")
_FLOAT = 1e-6  # what float32 pixels in [0, 1] are rounded by, with a margin
_GRID = 1e-4  # the same in units of 1/255


@dataclass(frozen=True)
class Budget:
    """A ball around each image, within the pixels that exist.

    Attributes:
        epsilon: its radius. L∞: the most that any pixel value may change, between 0 and 1. L2: the Euclidean
            norm of the change over all values of one image.
        norm: ``"linf"`` or ``"l2"``.

    Raises:
        VoclabError: no such norm, or a radius that is negative, not finite or larger than any change.
    """

    epsilon: float
    norm: str = "linf"

    def __post_init__(self):
        if self.norm not in NORMS:
            raise VoclabError(f"There is no norm {self.norm!r}; choose one of {', '.join(NORMS)}.")
        if not (np.isfinite(self.epsilon) and self.epsilon >= 0):
            raise VoclabError(f"Epsilon is {self.epsilon}; it must be finite and 0 or more (8/255, say).")
        if self.norm == "linf" and self.epsilon > 1:
            raise VoclabError(
                f"Epsilon is {self.epsilon}, but pixels lie in [0, 1]: divide steps of 8-bit values by 255."
            )

    @property
    def steps(self) -> int:
        """L∞: the most that an 8-bit value may change."""
        return int(np.floor(255 * self.epsilon + _GRID))

    def norms(self, perturbation: np.ndarray) -> np.ndarray:
        """(B,) size of each perturbation (B, H, W, C) in this norm."""
        flat = perturbation.reshape(len(perturbation), math.prod(perturbation.shape[1:]))
        if self.norm == "linf":
            return np.maximum(flat.max(1), -flat.min(1)).astype(np.float64)
        return np.sqrt(np.square(flat, dtype=np.float64).sum(1))

    def box(self, clean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """L∞: the least and the largest values of pixels, (B, H, W, C) float32 each."""
        return np.maximum(clean - self.epsilon, 0), np.minimum(clean + self.epsilon, 1)

    def project(self, perturbed: np.ndarray, clean: np.ndarray) -> np.ndarray:
        """The nearest images in the ball (L2: on the ray to it) and in [0, 1]; (B, H, W, C) float32."""
        if self.norm == "linf":
            return np.clip(perturbed, *self.box(clean), dtype=np.float32)
        change = np.subtract(perturbed, clean, dtype=np.float64)
        change *= np.minimum(1, self.epsilon / np.maximum(self.norms(change), 1e-12))[:, None, None, None]
        # Cutting at 0 and 1 afterwards can only shorten the change, since the clean pixels lie within.
        moved = np.clip(clean + change, 0, 1).astype(np.float32)
        # Rounding to float32 must not lengthen it: in a flat image it errs the same way at every pixel.
        longer = np.abs(np.subtract(moved, clean, dtype=np.float64)) > np.abs(change)
        return np.where(longer, np.nextafter(moved, clean, dtype=np.float32), moved)

    def random(self, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        """Perturbations (B, H, W, C) float32 drawn uniformly from the ball."""
        if self.norm == "linf":
            return rng.uniform(-self.epsilon, self.epsilon, shape).astype(np.float32)
        return self.fill(rng.normal(size=shape), rng.uniform(size=shape[0]) ** (1 / np.prod(shape[1:])))

    def fill(self, direction: np.ndarray, share: np.ndarray | float = 1.0) -> np.ndarray:
        """The perturbation of this size that goes furthest along ``direction`` (B, H, W, C): float32.

        L∞: the sign of every entry; L2: the direction itself. An all-zero direction gives no change.
        """
        if self.norm == "linf":
            size = self.epsilon * np.broadcast_to(share, len(direction))[:, None, None, None]
            return np.sign(direction).astype(np.float32, copy=False) * size.astype(np.float32)
        length = np.maximum(self.norms(direction), 1e-30)
        return (direction * (self.epsilon * share / length)[:, None, None, None]).astype(np.float32)

    def mover(self, clean: np.ndarray, share: np.ndarray) -> Callable:
        """A step from anywhere in the ball that does not leave it.

        Args:
            clean: (B, H, W, C) images that the ball is around.
            share: (B,) length of the step, relative to the ball's radius.

        Returns:
            Function of (points, directions), (B, H, W, C) float32 tensors, to points; see :meth:`fill`.
        """
        if self.norm == "linf":
            low, high = map(ops.convert_to_tensor, self.box(clean))
            size = ops.convert_to_tensor((self.epsilon * share)[:, None, None, None].astype(np.float32))
            return lambda points, directions: ops.clip(points + size * ops.sign(directions), low, high)

        def move(points, directions):
            points, directions = ops.convert_to_numpy(points), ops.convert_to_numpy(directions)
            return ops.convert_to_tensor(self.project(points + self.fill(directions, share), clean))

        return move

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
        if self.norm == "linf":
            outside = np.abs(change) > self.steps
            if outside.any():
                allowed = np.rint(255 * clean[outside]) + self.steps * np.sign(change[outside])
                perturbed[outside] = allowed / np.float32(255)
        else:
            for i in np.flatnonzero(self.norms(change) > 255 * self.epsilon + _GRID):
                perturbed[i] = self._shortened(perturbed[i], clean[i])
        self.check(perturbed, clean)
        return perturbed

    def _shortened(self, perturbed: np.ndarray, clean: np.ndarray) -> np.ndarray:
        """An image that rounding pushes out of the L2 ball, with some values one 8-bit step nearer to clean.

        Of the values that rounding moves away from clean those go first that it moves furthest. Once all of
        them have gone, the image is rounded towards clean and so within.
        """
        base = np.rint(255 * clean)
        change = np.rint(255 * perturbed) - base
        size = np.abs(change, dtype=np.float64)
        furthered = size - 255 * np.abs(np.subtract(perturbed, clean, dtype=np.float64))
        order = np.flatnonzero(size)
        order = order[np.argsort(-furthered.ravel()[order], kind="stable")]
        gained = np.cumsum(2 * size.ravel()[order] - 1)  # in squared steps
        excess = (size**2).sum() - (255 * self.epsilon + _GRID) ** 2
        moved = np.unravel_index(order[: np.searchsorted(gained, excess) + 1], size.shape)
        result = perturbed.copy()
        result[moved] = (base[moved] + change[moved] - np.sign(change[moved])) / np.float32(255)
        return result

    def check(self, perturbed: np.ndarray, clean: np.ndarray) -> None:
        """Assert that images are in [0, 1] and within the bound, as they are and rounded to 8 bits."""
        within = self.epsilon + _FLOAT * max(1.0, self.epsilon)
        assert perturbed.shape == clean.shape, f"{perturbed.shape} is not {clean.shape}"
        low, high = perturbed.min(initial=0), perturbed.max(initial=0)
        assert np.isfinite((low, high)).all(), "perturbed images are not finite"  # NaN is least and largest
        assert low >= 0, "perturbed pixels below 0"
        assert high <= 1, "perturbed pixels above 1"
        assert (self.norms(perturbed - clean) <= within).all(), f"the perturbation exceeds {self}"
        change = _in_steps(perturbed, clean)
        if self.norm == "linf":
            assert np.abs(change).max(initial=0) <= self.steps, f"the rounded perturbation exceeds {self}"
        else:
            assert (self.norms(change / 255) <= within).all(), f"the rounded perturbation exceeds {self}"


def _in_steps(perturbed: np.ndarray, clean: np.ndarray) -> np.ndarray:
    """The change of the 8-bit values that float images are saved as."""
    change, base = 255 * perturbed, 255 * clean
    np.rint(change, out=change)
    return np.subtract(change, np.rint(base, out=base), out=change)


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
