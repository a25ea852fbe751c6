"""Adversarial training on small images, next to the same network without it (notebook 04)."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from voclab.attacks import FGSM, PGD, Bench, Network
from voclab.data.images import eight_bit
from voclab.experiments.cifar10 import Asked
from voclab.experiments.options import asked
from voclab.experiments.robustness import Settings
from voclab.metrics.statistics import wilson

STANDARD, HARDENED = "standard training", "adversarial training"
STEPS = 20  # of PGD, with which robustness is reported


def trainings(settings: Settings, data: Path, seed: int, validation: float) -> dict[str, Asked]:
    """Name of the run -> what is asked for: ``small-standard`` and ``small-hardened``.

    Args:
        settings: what is trained.
        data: folder of the small images.
        seed: of everything.
        validation: share of the training images kept for every choice.
    """
    common = {"dataset": str(data), "validation": validation, "seed": seed}
    return {
        "small-standard": asked(settings.standard | common),
        "small-hardened": asked(settings.hardened | common),
    }


def accuracy_under_attack(
    victims: Mapping[str, Network],
    bench: Bench,
    epsilons: Sequence[float],
    progress: Callable[[str], None] | None = None,
) -> pd.DataFrame:
    """Accuracy of networks under attacks that use their own gradients.

    Args:
        victims: title -> network.
        bench: images.
        epsilons: bounds in steps of 1/255.
        progress: receives lines of text.

    Returns:
        A row for each network, attack (``none``, ``FGSM``, ``PGD-20``) and bound, with ``accuracy`` and
        its 95 % Wilson interval ``low`` to ``high``.
    """
    # Both climb the margin, which harms adversarially trained networks more than cross-entropy does.
    attacks = {"FGSM": FGSM(), f"PGD-{STEPS}": PGD(steps=STEPS, step=2.5 / STEPS)}
    rows = []
    for title, victim in victims.items():
        rows.append((title, "none", 0.0, bench.effect(victim, bench.images)["accuracy"]))
        for name, attack in attacks.items():
            for epsilon in epsilons:
                images, _ = bench.attack(attack, victim, epsilon / 255)
                rows.append((title, name, float(epsilon), bench.effect(victim, images)["accuracy"]))
                if progress:
                    progress(f"{title}: {name} at {epsilon:g}/255")
    table = pd.DataFrame(rows, columns=["network", "attack", "epsilon", "accuracy"])
    n = len(bench)
    intervals = [wilson(round(share * n), n) for share in table["accuracy"]]
    return table.assign(low=[low for low, _ in intervals], high=[high for _, high in intervals])


def curves(table: pd.DataFrame) -> dict[str, dict[str, tuple[list[float], list[float]]]]:
    """The same for ``plotting.fooling_over_epsilon``: network -> attack -> (bounds, accuracies)."""
    under = table[table["attack"] != "none"]
    return {
        title: {
            attack: (list(part["epsilon"]), list(part["accuracy"]))
            for attack, part in rows.groupby("attack", sort=False)
        }
        for title, rows in under.groupby("network", sort=False)
    }


def at(table: pd.DataFrame, network: str, attack: str = "none", epsilon: float = 0.0) -> pd.Series:
    """The row of a network under an attack."""
    found = table.query("network == @network and attack == @attack and epsilon == @epsilon")
    return found.iloc[0]


def gradient_images(victim: Network, bench: Bench, indices: Sequence[int]) -> list[np.ndarray]:
    """What the loss of a network is sensitive to in some images.

    Args:
        victim: the network.
        bench: images.
        indices: which of them.

    Returns:
        (size, size, 3) uint8 each: the gradient of cross-entropy at the pixels, grey where it is zero, scaled
        so that three standard deviations reach black or white.
    """
    index = np.asarray(indices)
    target = bench.target(victim.task).of(index)
    _, gradient, _ = target.gradient(victim, eight_bit(bench.images[index]), "cross_entropy")
    spread = 3 * gradient.std(axis=(1, 2, 3), keepdims=True)
    scaled = np.divide(gradient, spread, out=np.zeros_like(gradient), where=spread > 0)
    return list(np.rint(255 * np.clip(0.5 + scaled / 2, 0, 1)).astype(np.uint8))
