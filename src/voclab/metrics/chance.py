"""Whether a network is clearly better than guessing: one that is not is listed, but not ranked."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from voclab.metrics.statistics import bootstrap_interval, wilson


@dataclass(frozen=True)
class Chance:
    """What guessing scores on the images that networks are measured on.

    The rule, for every task: the lower end of the 95 % interval of a network's own score on clean images must
    lie above ``bar``. The reason: a network at chance gives most images the same answer, whatever they show.
    No corruption and no attack changes that answer, so it would win every comparison of robustness; and a
    loss or an architecture cannot be judged by networks that have not learnt.

    Attributes:
        measure: name of the score.
        bar: what the lower end must exceed.
        how: the guess that reaches ``bar``, as words.
    """

    measure: str
    bar: float
    how: str

    @classmethod
    def accuracy(cls, labels: np.ndarray) -> "Chance":
        """Of (n, classes) 0/1 labels, where an answer is right if it is a true one: the best constant."""
        return cls("accuracy", float(np.mean(labels, axis=0).max()), "giving every image the commonest class")

    @classmethod
    def average_precision(cls, labels: np.ndarray) -> "Chance":
        """Of (n, classes) 0/1 labels: the mean prevalence, which scores at random reach in the mean."""
        shares = np.mean(labels, axis=0)
        return cls("mAP", float(shares[shares > 0].mean()), "scores at random")

    @classmethod
    def dice(cls, pixels: np.ndarray) -> "Chance":
        """Of (labels,) counts of the valid pixels, background first: twice the Dice of labels at random.

        Labels drawn by their frequency p have Dice 2 p² / (p + p) = p. Twice, since one label a whole image,
        or one region always in the middle, does somewhat better without having seen the image.
        """
        shares = np.asarray(pixels, float) / np.sum(pixels)
        foreground = shares[1:][shares[1:] > 0]
        bar = 2 * float(foreground.mean()) if foreground.size else float("nan")
        return cls("mean Dice", bar, "twice what labels at random reach")

    def beaten(self, low: float) -> bool:
        """Whether a score whose 95 % interval begins at ``low`` is clearly above chance; NaN is not."""
        return bool(low > self.bar)

    def note(self, lows: Mapping[str, float]) -> str:
        """A sentence on the networks that are not above chance; empty where all are.

        Args:
            lows: network -> lower end of the 95 % interval of its score on clean images.
        """
        found = [f"{name} (from {low:.3f})" for name, low in lows.items() if not self.beaten(low)]
        if not found:
            return ""
        names = " and ".join([", ".join(found[:-1]), found[-1]]) if found[:-1] else found[0]
        return (
            f"Not ranked, because not clearly better than chance: {names}. The 95 % interval of the"
            f" {self.measure} on clean images must lie above {self.bar:.3f} ({self.how}). A network at"
            " chance can give most images the same answer, which nothing changes."
        )


def accuracy_low(accuracy: float, n: int) -> float:
    """Lower end of the 95 % interval of a share of n images (Wilson)."""
    return wilson(round(accuracy * n), n)[0]


def dice_low(counts: np.ndarray, samples: int = 500, seed: int = 0) -> float:
    """Lower end of the 95 % bootstrap interval over images of the mean foreground Dice.

    Args:
        counts: (n, 3, labels) pixels of each image: hits, predicted, true; background first. The mean is over
            the classes that occur.
        samples: resamplings.
        seed: of the resampling.
    """

    def dice(drawn):
        hits, predicted, true = counts[drawn].sum(0)[:, 1:].astype(float)
        either = predicted + true
        return np.mean(2 * hits[either > 0] / either[either > 0]) if either.any() else np.nan

    return float(bootstrap_interval(dice, len(counts), samples, seed)[0])
