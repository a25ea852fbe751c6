"""Adversarial training on small images, next to the same network without it (notebook 04)."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from voclab.attacks import FGSM, PGD, Bench, Network
from voclab.attacks.worst_case import Group, group, worst_case
from voclab.data.images import eight_bit
from voclab.experiments.cifar10 import Asked, small
from voclab.experiments.options import asked
from voclab.experiments.robustness import Settings
from voclab.metrics import Chance
from voclab.metrics.statistics import wilson

STANDARD, HARDENED = "standard training", "adversarial training"
STEPS = 20  # of PGD, with which robustness is reported

# Adversarial trainings of small photographs, see benchmarks/real_cifar.py: each should take at most 40
# minutes on two quiet cores for the 4,068 images that are left of CIFAR-10's 5,085 when a fifth validates.
_HOW: Asked = {"steps": 2, "epsilon": 8.0, "width": 32, "dropout": 0.0, "patience": 1000}
_TRADES = small("resnet10", "adversarial", 45, 0.1, trades=6.0, **_HOW)
ROBUST: dict[str, Asked] = {
    "pgd": small("resnet10", "adversarial", 70, 0.1, **_HOW),
    "trades": _TRADES,
    "trades-averaged": _TRADES | {"ema": 0.995},
}


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


def robust_trainings(data: Path, seed: int, validation: float = 0.2) -> dict[str, Asked]:
    """Name of the run -> what is asked for, of :data:`ROBUST`; arguments as for :func:`trainings`."""
    common = {"dataset": str(data), "validation": validation, "seed": seed}
    return {name: asked(options | common) for name, options in ROBUST.items()}


def robust_accuracy(victim: Network, bench: Bench, epsilon: float) -> dict[str, float]:
    """Accuracy of a network, clean and under PGD with 20 steps on either objective, one random start each.

    Args:
        victim: the network.
        bench: images.
        epsilon: bound in steps of 1/255.

    Returns:
        ``clean``, ``PGD cross-entropy``, ``PGD margin``, and ``PGD either``: images that withstand both.
    """
    target = bench.target(victim.task)
    right = {"clean": ~target.succeeded(victim, bench.clean(victim).values).astype(bool)}
    for title, name in (("PGD cross-entropy", "cross_entropy"), ("PGD margin", "margin")):
        attack = PGD(objective=name, steps=STEPS, step=2.5 / STEPS)
        images, _ = bench.attack(attack, victim, epsilon / 255)
        fooled = target.succeeded(victim, bench.answers(victim, images).values).astype(bool)
        right[title] = ~fooled & right["clean"]
    right["PGD either"] = right["PGD cross-entropy"] & right["PGD margin"]
    return {title: float(found.mean()) for title, found in right.items()}


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


def worst_cases(
    victims: Mapping[str, Network],
    bench: Bench,
    epsilon: float,
    attacks: Group | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> pd.DataFrame:
    """Accuracy of classifiers in the worst case over attacks, see :mod:`voclab.attacks.worst_case`.

    Args:
        victims: title -> network.
        bench: images.
        epsilon: bound in steps of 1/255.
        attacks: from :func:`voclab.attacks.worst_case.group`; by default its numbers of steps and queries.
        progress: receives lines of text.

    Returns:
        A row for each ``network``: accuracy ``clean`` and after each attack, that in the ``worst`` case with
        its 95 % Wilson interval ``low`` to ``high``, ``n`` images, and how many of them were ``found by
        Square alone``.
    """
    rows = {}
    for title, victim in victims.items():
        say = lambda line, title=title: progress(f"{title}: {line}")  # noqa: E731
        found = worst_case(bench, victim, attacks or group(), epsilon / 255, say)
        table = found.table()
        *each, worst = table["accuracy"].items()
        interval = table.loc[worst[0], ["low", "high", "n"]]
        rows[title] = {
            **dict(each),
            "worst": worst[1],
            **interval,
            "found by Square alone": found.by_square_alone,
        }
    found = pd.DataFrame.from_dict(rows, orient="index").rename_axis("network")
    return found.astype({"n": int}).reset_index()


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


def under_attack_table(under: pd.DataFrame) -> pd.DataFrame:
    """Accuracy with its interval: a row an attack and bound, a column a network."""
    named = under.assign(
        condition=[a if a == "none" else f"{a} {e:g}/255" for a, e in zip(under["attack"], under["epsilon"])],
        text=[
            f"{a:.3f} [{b:.3f}, {c:.3f}]" for a, b, c in zip(under["accuracy"], under["low"], under["high"])
        ],
    )
    wide = named.pivot(index="condition", columns="network", values="text")
    return wide.loc[named["condition"].unique(), list(named["network"].unique())]


def conclusion(
    under: pd.DataFrame,
    chance: Chance,
    bound: float,
    seconds: Mapping[str, float],
    noisy: Mapping[str, float],
    worst: pd.DataFrame,
) -> str:
    """What adversarial training gains and costs, in Markdown, where the 95 % intervals decide it.

    Args:
        under: from :func:`accuracy_under_attack`, of :data:`STANDARD` and :data:`HARDENED`.
        chance: accuracy of a constant answer on these images.
        bound: epsilon of the training and of the attack that is compared, steps of 1/255.
        seconds: network -> time of its training.
        noisy: network -> mean accuracy under random noise.
        worst: from :func:`worst_cases`, at the same bound.
    """
    title, attack = "**What does adversarial training gain?** ", f"PGD-{STEPS}"
    lows = {name: at(under, name)["low"] for name in (STANDARD, HARDENED)}
    if note := chance.note(lows):
        return title + note
    clean, attacked = ([at(under, name, *how) for name in lows] for how in ((), (attack, bound)))
    text = f"With standard training {_written(attacked[0])} of the images are right under {attack} at"
    text += f" {bound:g}/255, with adversarial training {_written(attacked[1])}"
    text += {
        1: ": it makes the network more robust.",
        -1: ": here it makes the network less robust.",
        0: ". The intervals overlap, so that this does not decide whether it helps.",
    }[_order(*attacked)]
    text += f" On clean images: {_written(clean[0])} and {_written(clean[1])}"
    text += {1: ", a gain.", -1: ": that is its cost.", 0: ", which does not decide whether it costs any."}[
        _order(*clean)
    ]
    return (
        f"{title}{text} Training took {seconds[STANDARD]:.0f} s and {seconds[HARDENED]:.0f} s. Under random"
        f" noise {noisy[STANDARD]:.1%} and {noisy[HARDENED]:.1%} are right.{_in_the_worst_case(worst)}"
    )


def _in_the_worst_case(worst: pd.DataFrame) -> str:
    """What :func:`worst_cases` says, and whether Square finds what attacks with gradients do not."""
    rows = worst.rename(columns={"worst": "accuracy"}).set_index("network").loc[[STANDARD, HARDENED]]
    shares = " and ".join(_written(row) for _, row in rows.iterrows())
    text = f" In the worst case over {', '.join(group())}, on {rows['n'].iloc[0]} of the images: {shares}."
    alone = rows["found by Square alone"]
    if not alone.any():
        text += " Square, which needs no gradient, finds none that the others miss: nothing hints at masked"
        return f"{text} gradients."
    text += f" {' and '.join(map(str, alone))} images are fooled by Square alone: attacks with gradients"
    return f"{text} overstate what stands."


def _written(row: pd.Series) -> str:
    return f"{row['accuracy']:.1%} (95 % interval {row['low']:.1%} to {row['high']:.1%})"


def _order(first: pd.Series, second: pd.Series) -> int:
    """1 where the second is clearly larger, -1 where it is clearly smaller, else 0."""
    return int(second["low"] > first["high"]) - int(second["high"] < first["low"])
