"""How sure a number is: bootstrap intervals over images, and intervals of a share."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest, bootstrap


def bootstrap_interval(
    statistic: Callable[..., float | np.ndarray], n: int | Sequence[int], samples: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """95 % interval of a statistic of n images: the percentile bootstrap (Efron 1979).

    Images are drawn by index, so a statistic that compares two networks on the same images is paired.

    Args:
        statistic: (n,) indices of images -> a number, or an array of numbers that each get an interval.
        n: number of images; a single one has no interval, so both ends are NaN. Of several independent sets
            of images their numbers: ``statistic`` is then given indices of each.
        samples: resamplings.
        seed: of the resampling.

    Returns:
        Lower and upper ends, float64, each of the shape of the statistic.
    """
    every = tuple(np.arange(count) for count in ((n,) if isinstance(n, int) else n))
    if min(map(len, every)) < 2:
        nothing = np.full(np.shape(statistic(*every)), np.nan)
        return nothing, nothing
    found = bootstrap(
        every,
        statistic,
        n_resamples=samples,
        method="percentile",
        vectorized=False,
        rng=np.random.default_rng(seed),
    )
    return tuple(found.confidence_interval)


def wilson(successes: int, n: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson, *Probable inference*, 1927), also near 0 and 1."""
    interval = binomtest(successes, n).proportion_ci(method="wilson")
    return interval.low, interval.high


@dataclass(frozen=True)
class Difference:
    """How much better one setting is than another, against two yardsticks: images and seeds.

    Attributes:
        value: difference of the score, averaged over seeds.
        low: lower end of the 95 % interval of a paired bootstrap over images.
        high: its upper end.
        spread: range of the score over the seeds of one setting, the larger of the two; NaN for one seed.
        measure: name of the score.
    """

    value: float
    low: float
    high: float
    spread: float
    measure: str

    @property
    def clear(self) -> bool:
        """Whether its interval leaves zero out and it is larger than the spread over seeds, if known."""
        beyond_seeds = math.isnan(self.spread) or abs(self.value) > self.spread
        return beyond_seeds and (self.low > 0 or self.high < 0)

    def __str__(self) -> str:
        interval = f"95 % interval over images {self.low:+.3f} to {self.high:+.3f}"
        seeds = "one seed" if math.isnan(self.spread) else f"range over seeds {self.spread:.3f}"
        verdict = "" if self.clear else ": not decided by this experiment"
        return f"{self.value:+.3f} {self.measure} ({interval}; {seeds}){verdict}"
