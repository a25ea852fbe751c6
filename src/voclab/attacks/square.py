"""The Square attack: random squares, kept where the logits say that they help, without any gradient."""

from dataclasses import dataclass

import numpy as np

from voclab.attacks.budget import own_random
from voclab.attacks.gradient import Attack
from voclab.errors import VoclabError

_HALVED_AFTER = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # of 10,000 queries


@dataclass(frozen=True)
class Square(Attack):
    """The Square attack for L∞ (Andriushchenko et al., *Square Attack: a query-efficient black-box adversarial
    attack via random search*, 2020), on the margin.

    It begins with vertical stripes, one pixel wide, and then moves a square of random place and colour to ±epsilon,
    which stays if the margin grows. Candidates are 8-bit images. An image that is fooled is left alone, one
    that is wrong already stays as it is.

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
        n, height, width, channels = images.shape
        epsilon = np.float32(budget.steps / 255)
        low, high = np.maximum(images - epsilon, 0), np.minimum(images + epsilon, 1)
        best, scores = images.copy(), np.full(n, -np.inf)
        reached = target.succeeded(network, network.logits(images)) == 1
        chance = list(own_random(images, self.seed))
        stripes = np.stack([rng.random((1, width, channels)) < 0.5 for rng in chance])
        candidates = np.where(stripes, high, low)
        for query in range(self.queries):
            active = np.flatnonzero(~reached)
            if not len(active):
                break
            if query:
                side = _side(share_at(query, self.queries, self.share), height, width)
                draws = np.stack([chance[i].random(2 + channels) for i in active])
                inside = (
                    _inside(draws[:, 0], height, side)[:, :, None]
                    & _inside(draws[:, 1], width, side)[:, None]
                )
                colours = np.where(draws[:, None, None, 2:] < 0.5, high[active], low[active])
                candidates = np.where(inside[..., None], colours, best[active])
            else:
                candidates = candidates[active]
            logits, goal = network.logits(candidates, len(active)), target.of(active)
            values = goal.values(network, logits, "margin")
            hit = goal.succeeded(network, logits) == 1
            better = hit | (values > scores[active])
            best[active[better]], scores[active[better]] = candidates[better], values[better]
            reached[active[hit]] = True
        return best


def share_at(query: int, queries: int, first: float) -> float:
    """The share of the pixels in the square of a query, by the paper's schedule for 10,000, stretched to ``queries``."""
    return first / 2 ** sum(query * 10_000 // queries > after for after in _HALVED_AFTER)


def _side(share: float, height: int, width: int) -> int:
    return int(np.clip(round((share * height * width) ** 0.5), 1, min(height, width)))


def _inside(draw: np.ndarray, length: int, side: int) -> np.ndarray:
    """(B, length) bool: which rows (columns) lie in squares that begin anywhere, by draws in [0, 1)."""
    begin = (draw * (length - side + 1)).astype(int)[:, None]
    place = np.arange(length)
    return (begin <= place) & (place < begin + side)
