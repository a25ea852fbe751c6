"""The worst case over attacks of different kinds, image by image, as RobustBench reports it."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from voclab.attacks.apgd import APGD, TargetedAPGD
from voclab.attacks.gradient import Attack
from voclab.attacks.measures import Bench
from voclab.attacks.square import Square
from voclab.attacks.target import VanishingGradientError
from voclab.errors import VoclabError
from voclab.metrics.statistics import wilson
from voclab.models.network import Network

CLEAN, SQUARE = "clean", "Square"
Group = dict[str, Attack]  # name -> attack, in the order in which they run


def group(steps: int = 100, targets: int = 9, queries: int = 5000, seed: int = 0) -> Group:
    """APGD-CE, APGD-T and Square, by default with RobustBench's numbers of steps, classes and queries.

    It is not AutoAttack, which has a fourth attack, FAB-T.

    Args:
        steps: gradients an image (of APGD-T: and class).
        targets: classes that APGD-T aims at.
        queries: of Square.
        seed: of all three.
    """
    return {
        "APGD-CE": APGD(steps=steps, seed=seed),
        "APGD-T": TargetedAPGD(targets, steps, seed),
        SQUARE: Square(queries, seed=seed),
    }


@dataclass(frozen=True)
class WorstCase:
    """What a group of attacks did to the images of a bench.

    Attributes:
        images: row -> (n, size, size, 3) uint8: ``clean``, what each attack made, and last the worst case,
            called ``APGD-CE + APGD-T + Square``.
        right: row -> (n,) bool: whether the top class is among the true ones.
        by_square_alone: how many images Square fools and no attack with gradients does. More than a few
            hint at masked gradients (Athalye et al. 2018).
    """

    images: dict[str, np.ndarray]
    right: dict[str, np.ndarray]
    by_square_alone: int

    @property
    def worst(self) -> str:
        """The name of the last row."""
        return list(self.right)[-1]

    def table(self) -> pd.DataFrame:
        """A row a condition: ``accuracy``, its 95 % Wilson interval ``low`` to ``high``, and ``n``."""
        rows = {
            row: (right.mean(), *wilson(int(right.sum()), len(right)), len(right))
            for row, right in self.right.items()
        }
        columns = ["accuracy", "low", "high", "n"]
        return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("condition")


def require_classifier(network: Network) -> None:
    """Refuse a segmenter: of its images there is no right or wrong.

    Raises:
        VoclabError: one sentence with the remedy.
    """
    if network.task == "segmentation":
        raise VoclabError(
            f"The worst case counts images that stay right, so it is for classifiers; {network.name} is a"
            " segmenter: attack it with PGD instead."
        )


def worst_case(
    bench: Bench,
    network: Network,
    attacks: Mapping[str, Attack],
    epsilon: float,
    progress: Callable[[str], None] = lambda line: None,
    *,
    on_all: Collection[str] = (SQUARE,),
    batch_size: int | None = None,
) -> WorstCase:
    """Attack the images of a bench with several attacks, and count those that stay right under all of them.

    Images that are wrong as they are count as wrong everywhere and are not attacked. By default an attack
    with gradients sees what those before it left right, which saves most of the time, and Square sees all:
    that shows what a black box alone can do, and whether gradients hide what it finds. An attack that saw
    all has a row of its name; another has a row such as ``APGD-CE + APGD-T``, since only what is right
    after both is known. Everything is counted on 8-bit images.

    Args:
        bench: images with truth.
        network: a classifier.
        attacks: name -> attack, as from :func:`group`.
        epsilon: the L∞ bound in pixels of [0, 1].
        progress: receives lines of text.
        on_all: names of the attacks that see all images that are right when clean; ``()`` is the cheapest,
            ``attacks`` gives the accuracy under each alone.
        batch_size: images attacked at a time; by default 16 at 128 px, more of smaller ones, at most 256.

    Raises:
        VoclabError: a segmenter, or arguments that the attacks refuse.
    """
    require_classifier(network)
    names = sorted(attacks, key=lambda name: isinstance(attacks[name], Square))  # those with gradients first
    batch_size = batch_size or int(np.clip(16 * (128 / bench.size) ** 2, 16, 256))
    clean = _right(bench, network, bench.images)
    images, right = {CLEAN: bench.images}, {CLEAN: clean}
    worst, left, by_square_alone = bench.images.copy(), clean.copy(), 0
    for number, name in enumerate(names):
        alone = number == 0 or name in on_all
        made, still = (bench.images.copy(), clean.copy()) if alone else (worst.copy(), left.copy())
        seen = np.flatnonzero(still)
        if len(seen):
            part = bench.subset(seen)
            say = lambda line, name=name: progress(f"{name}: {line}")  # noqa: E731
            try:
                made[seen], _ = part.attack(
                    attacks[name], network, epsilon, batch_size=batch_size, progress=say
                )
            except VanishingGradientError as error:  # this attack fools nothing; the others may
                say(str(error))
            still[seen] = _right(part, network, made[seen])
        row = name if alone else " + ".join(names[: number + 1])
        images[row], right[row] = made, still
        new = left & ~still
        by_square_alone += int(new.sum()) if isinstance(attacks[name], Square) else 0
        worst[new], left = made[new], left & still
    images[" + ".join(names)], right[" + ".join(names)] = worst, left
    return WorstCase(images, right, by_square_alone)


def _right(bench: Bench, network: Network, images: np.ndarray) -> np.ndarray:
    return ~bench.target(network.task).succeeded(network, bench.answers(network, images).values)
