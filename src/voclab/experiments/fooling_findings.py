"""Notebook 03: what its measurements say, in sentences; a conclusion only where the intervals support it."""

from collections.abc import Mapping, Sequence

import numpy as np

from voclab.experiments.adversary import CLASSIFIER, SEGMENTER
from voclab.experiments.fooling import Measurements, trade_off
from voclab.metrics import Chance, accuracy_low, dice_low


def said(row: Mapping[str, float]) -> str:
    """A success rate with its 95 % interval and the number of images."""
    return f"{row['success']:.1%} ({row['low']:.1%} to {row['high']:.1%}; {row['images']:.0f} images)"


def clearly_more(a: Mapping[str, float], b: Mapping[str, float]) -> bool:
    """Whether the interval of ``a`` lies above that of ``b``."""
    return bool(a["low"] > b["high"])


def compared(a: Mapping[str, float], b: Mapping[str, float], names: tuple[str, str]) -> str:
    """Which of two attacks succeeds more often, or that the experiment does not decide it."""
    first, second = (name[0].upper() + name[1:] for name in names)
    if clearly_more(a, b):
        return f"{first} succeeds more often than {names[1]}: the intervals do not overlap."
    if clearly_more(b, a):
        return f"{second} succeeds more often than {names[0]}: the intervals do not overlap."
    return f"The intervals of {names[0]} and {names[1]} overlap: this does not decide which is stronger."


def effect(m: Measurements, victim: str) -> str:
    """Success of the adversary and of all other attacks on a victim."""
    row = m.row("image", victim)
    what = "of its mean Dice is lost" if victim == SEGMENTER else "of the images it had right are fooled"
    first = (
        f"**The {victim}**, at most {m.epsilon:g}/255 per pixel value (PSNR {row['psnr']:.1f} dB,"
        f" SSIM {row['ssim']:.2f}), one forward pass of the adversary: {said(row)} {what}. Others:"
    )
    others = {**{name: name for name in m.settings.attacks}, "universal": "one pattern for all images"}
    listed = "\n".join(f"- {title}: {said(m.row(name, victim))}" for name, title in others.items())
    verdicts = [compared(row, m.row(n, victim), ("the adversary", n)) for n in m.noises()[-1:]]
    verdicts.append(compared(row, m.row("universal", victim), ("the adversary", "the one pattern")))
    return f"{first}\n\n{listed}\n\n{' '.join(verdicts)}"


def summary(m: Measurements) -> str:
    """The answer in one sentence, for the first page."""
    of = {
        SEGMENTER: "of the segmenter's mean Dice is lost",
        CLASSIFIER: "of what the classifier had right is fooled",
    }
    noise, parts = m.noises()[-1:], []
    for victim in m.victims:
        shares = [f"{m.row(name, victim)['success']:.0%}" for name in ("image", *noise)]
        parts.append(f"{shares[0]} {of[victim]}" + (f" ({noise[0]}: {shares[1]})" if noise else ""))
    return f"Within {m.epsilon:g}/255, by one forward pass of the adversary, {' and '.join(parts)}."


def visibility(m: Measurements, handling: Mapping[str, Mapping[str, float]]) -> str:
    """The curve of the penalty, and what handling leaves."""
    curve = trade_off(m)["adversary, penalty on L2"]
    points = "; ".join(f"{title}: {x:.1f} dB, {y:.1%}" for x, y, title in curve)
    left = "; ".join(f"{how} {share:.0%}" for how, share in handling["adversary, image-dependent"].items())
    return (
        "**Less visible, and after handling.**\n\n"
        f"- PSNR and fooling rate by the weight of the L2 penalty: {points}.\n"
        f"- Fooled by the adversary after handling: {left}."
    )


def above_chance(m: Measurements) -> dict[str, bool]:
    """Network -> whether it is clearly better than guessing on the clean images."""
    found = {}
    for name, network in {**m.victims, **m.further}.items():
        clean = m.bench.clean(network)
        if network.task == "segmentation":
            truth = m.bench.truth(network.task)
            pixels = np.bincount(truth[truth != 255], minlength=network.outputs)
            found[name] = Chance.dice(pixels).beaten(dice_low(clean.counts))
        else:
            low = accuracy_low(m.clean(network)["accuracy"], len(m.bench))
            found[name] = Chance.accuracy(m.bench.dataset.labels).beaten(low)
    return found


def transfers(matrix: np.ndarray, sources: Sequence[str], tested: Sequence[str]) -> str:
    """What the classifier's adversary does to networks that it was not trained on."""
    row = sources.index(f"adversary, on the {CLASSIFIER}")
    parts = [f"{name} {matrix[row, c]:.0%}" for c, name in enumerate(tested) if name != CLASSIFIER]
    found = "; ".join(parts) or "there is no other network"
    return f"**Transfer** of the classifier's adversary, success rate on other networks: {found}."


def goal(table, name: str) -> str:
    """Whether a class of choice can be made to appear and to vanish."""
    rows = "\n".join(
        f"- {attack}: appears in a share of {row['appear: success']:.3f} ({row['appear: 95 % interval']}),"
        f" vanishes in {row['vanish: success']:.3f} ({row['vanish: 95 % interval']})"
        for attack, row in table.iterrows()
    )
    return f"**A chosen class**, *{name}*, made to appear and to vanish (95 % intervals):\n\n{rows}"


def defence(table: Mapping[str, Mapping[str, float]], n: int) -> str:
    """Accuracy before and after adversarial fine-tuning, under every attack."""
    before, after = table.values()
    parts = "\n".join(f"- {name}: {before[name]:.1%} before, {after[name]:.1%} after" for name in before)
    return f"**Defence.** Top class right on {n} images, before and after adversarial fine-tuning:\n\n{parts}"


def key_numbers(m: Measurements) -> dict[str, str]:
    """For the first page: what one forward pass does, beside noise of the same size."""
    titles = {CLASSIFIER: "classifier fooled at", SEGMENTER: "segmenter's Dice lost at"}
    found = {}
    for victim in m.victims:
        noise = [f"{name} {m.row(name, victim)['success']:.1%}" for name in m.noises()[-1:]]
        text = [said(m.row("image", victim)), f"{m.settings.size} px", *noise]
        found[f"{titles[victim]} {m.epsilon:g}/255"] = ", ".join(text)
    return found
