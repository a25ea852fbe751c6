"""Notebook 03: what its measurements say, in sentences; a conclusion only where the intervals support it."""

from collections.abc import Mapping, Sequence

import numpy as np

from voclab.experiments.adversary import ADVERSARY, CLASSIFIER, SEGMENTER
from voclab.experiments.fooling import Measurements
from voclab.metrics import Chance, accuracy_low, dice_low

_JUST_SEEN = 1.0  # mean CIEDE2000
_IMPERCEPTIBLE = 4  # the largest bound of which the word is used, steps of 1/255


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
    """Success of the adversary and of all other attacks on a victim, and of its own at other bounds."""
    row = m.row(ADVERSARY, victim)
    what = "of its mean Dice is lost" if victim == SEGMENTER else "of the images it had right are fooled"
    first = (
        f"**The {victim}**, at most {m.epsilon:g}/255 per pixel value (PSNR {row['psnr']:.1f} dB,"
        f" SSIM {row['ssim']:.2f}, ΔE00 {row['ciede2000']:.1f}): {said(row)} {what} by the adversary. Others:"
    )
    listed = "\n".join(f"- {name}: {said(m.row(name, victim))}" for name in m.settings.attacks)
    against = [*m.noises()[-1:], *(name for name in m.gradient_attacks() if name == "FGSM")]
    verdicts = [compared(row, m.row(name, victim), ("the adversary", name)) for name in against]
    shares = "; ".join(f"{e:g}/255 {m.row(ADVERSARY, victim, e)['success']:.0%}" for e in m.bounds)
    verdicts.append(f"The same generator, told other bounds: {shares}.")
    return f"{first}\n\n{listed}\n\n{' '.join(verdicts)}"


def summary(m: Measurements) -> str:
    """The answer in one sentence, for the first page."""
    of = {
        SEGMENTER: "of the segmenter's mean Dice is lost",
        CLASSIFIER: "of what the classifier had right is fooled",
    }
    noise, parts = m.noises()[-1:], []
    for victim in m.victims:
        shares = [f"{m.row(name, victim)['success']:.0%}" for name in (ADVERSARY, *noise)]
        parts.append(f"{shares[0]} {of[victim]}" + (f" ({noise[0]}: {shares[1]})" if noise else ""))
    return f"Within {m.epsilon:g}/255, by one generator for all bounds, {' and '.join(parts)}."


def visibility(m: Measurements) -> str:
    """How visible the adversary's changes of the classifier's images are, bound by bound."""
    rows = {e: m.row(ADVERSARY, CLASSIFIER, e) for e in m.bounds}
    points = "\n".join(
        f"- {e:g}/255: PSNR {row['psnr']:.1f} dB, SSIM {row['ssim']:.3f}, ΔE00 {row['ciede2000']:.2f}:"
        f" {row['success']:.1%} fooled"
        for e, row in rows.items()
    )
    unseen = [e for e, row in rows.items() if row["ciede2000"] < _JUST_SEEN and e <= _IMPERCEPTIBLE]
    holds = f"up to {max(unseen):g}/255" if unseen else "at none of these bounds"
    return (
        "**How visible.** Two plain patches side by side are told apart from a colour difference (ΔE00) of"
        f" about 1 on, so a mean below 1 is called imperceptible: that holds {holds}. Above, texture hides a"
        f" change and smooth areas show it.\n\n{points}"
    )


def handling(left: Mapping[str, Mapping[str, float]]) -> str:
    """What is left of the adversary's success, and of every other attack's, after handling."""
    rows = []
    for name, shares in left.items():
        (_, first), *others = shares.items()
        kept = [f"{how} {share:.0%}" for how, share in others]
        rows.append(f"- {name}: {first:.0%} as saved; {'; '.join(kept)}")
    return "**After handling**, success rates on the classifier:\n\n" + "\n".join(rows)


def one_pattern(found: Mapping[float, Mapping[str, float]], victim: str) -> str:
    """How much of the adversary's effect a perturbation has that was made for another image."""
    parts = [
        f"at {epsilon:g}/255 {row['share']:.0%} ({row['other']:.1%} against {row['own']:.1%})"
        if row["own"] > 0
        else f"at {epsilon:g}/255 there is no effect to share"
        for epsilon, row in found.items()
    ]
    return (
        f"**How much depends on the image.** The share of the effect on the {victim} that the perturbation"
        f" of another image has: {', '.join(parts)}. One pattern for all images would have all of it."
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
    return f"**Transfer** of the adversary told of the classifier, success rate on other networks: {found}."


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
    """For the first page: what the adversary does, beside noise of the same size."""
    titles = {CLASSIFIER: "classifier fooled at", SEGMENTER: "segmenter's Dice lost at"}
    found = {}
    for victim in m.victims:
        noise = [f"{name} {m.row(name, victim)['success']:.1%}" for name in m.noises()[-1:]]
        text = [said(m.row(ADVERSARY, victim)), f"{m.settings.size} px", *noise]
        found[f"{titles[victim]} {m.epsilon:g}/255"] = ", ".join(text)
    return found
