"""The Square attack: random squares, kept where the logits say that they help, without any gradient."""

from dataclasses import dataclass

import numpy as np

from voclab.attacks.budget import own_random
from voclab.attacks.gradient import Attack
from voclab.errors import VoclabError

_HALVED_AFTER = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # of 10,000 queries


@dataclass(frozen=True)
class Square(Attack):
    """The Square attack for L∞, on the margin (Andriushchenko et al., *Square Attack: a query-efficient
    black-box adversarial attack via random search*, 2020).

    It begins with vertical stripes, one pixel wide. Then squares at random places are moved to ±epsilon, each
    channel by a sign of its own, and stay if the margin grows. Candidates are 8-bit images. An image that is
    fooled is left alone, one that is wrong already stays as it is.

    Attributes:
        queries: the most that an image is shown to the network perturbed.
        share: of the pixels in the first squares (the paper's p); halved as :func:`share_at` says. 0.8 is
            RobustBench's.
        seed: of stripes and squares, which depend on the image and on nothing else in the batch.
    """

    queries: int = 5000
    share: float = 0.8
    seed: int = 0

    def perturb(self, network, images, target, budget):
        if self.queries < 1:
            raise VoclabError(f"The Square attack needs at least one query, not {self.queries}.")
        epsilon = np.float32(budget.steps / 255)
        low, high = np.maximum(images - epsilon, 0), np.minimum(images + epsilon, 1)
        best, scores = images.copy(), np.full(len(images), -np.inf)
        fooled = target.succeeded(network, network.logits(images)) == 1
        chance = list(own_random(images, self.seed))
        for query in range(self.queries):
            active = np.flatnonzero(~fooled)
            if not len(active):
                break
            share = share_at(query, self.queries, self.share) if query else None
            tried = np.stack([_changed(best[i], low[i], high[i], share, chance[i]) for i in active])
            logits, goal = network.logits(tried, len(tried)), target.of(active)
            values = goal.values(network, logits, "margin")
            hit = goal.succeeded(network, logits) == 1
            better = hit | (values > scores[active])
            best[active[better]], scores[active[better]] = tried[better], values[better]
            fooled[active[hit]] = True
        return best


def share_at(query: int, queries: int, first: float) -> float:
    """The share of the pixels in the square of a query: the paper's schedule for 10,000, scaled."""
    return first / 2 ** sum(query * 10_000 // queries > after for after in _HALVED_AFTER)


def _changed(image, low, high, share: float | None, rng: np.random.Generator) -> np.ndarray:
    """A copy of an (H, W, 3) image with a square of that share of its pixels, or without one with stripes."""
    height, width, channels = image.shape
    if share is None:
        return np.where(rng.random((1, width, channels)) < 0.5, low, high)
    side = int(np.clip(round((share * height * width) ** 0.5), 1, min(height, width)))
    y, x = rng.integers(0, (height - side + 1, width - side + 1))
    square, changed = np.s_[y : y + side, x : x + side], image.copy()
    changed[square] = np.where(rng.random(channels) < 0.5, low[square], high[square])
    return changed
