"""Notebook 03: what its measurements say, in sentences; a conclusion only where the intervals support it."""

from collections.abc import Mapping, Sequence

import numpy as np

from voclab.experiments.adversary import ADVERSARY, CLASSIFIER, SEGMENTER
from voclab.experiments.fooling import Measurements
from voclab.metrics import Chance, accuracy_low, dice_low

_OF_LIKE_COST = ("FGSM", "PGD, 2 steps")  # as the adversary's
_JUST_SEEN = 1.0  # mean CIEDE2000
_IMPERCEPTIBLE = 4  # the largest bound of which the word is used, steps of 1/255


def said(row: Mapping[str, float]) -> str:
    """A success rate with its 95 % interval and the number of images."""
    if not np.isfinite(row["success"]):
        return "undefined, nothing was right without an attack"
    return f"{row['success']:.1%} ({row['low']:.1%} to {row['high']:.1%}; {row['images']:.0f} images)"


def clearly_more(a: Mapping[str, float], b: Mapping[str, float]) -> bool:
    """Whether the interval of ``a`` lies above that of ``b``."""
    return bool(a["low"] > b["high"])


def compared(a: Mapping[str, float], b: Mapping[str, float], names: tuple[str, str]) -> str:
    """Which of two attacks succeeds more often, or that the experiment does not decide it."""
    first, second = (name[0].upper() + name[1:] for name in names)
    if not np.isfinite([a["low"], a["high"], b["low"], b["high"]]).all():
        return f"{first} and {names[1]} cannot be compared: there is no interval."
    if clearly_more(a, b):
        return f"{first} succeeds more often than {names[1]}: the intervals do not overlap."
    if clearly_more(b, a):
        return f"{second} succeeds more often than {names[0]}: the intervals do not overlap."
    return (
        f"The intervals of {names[0]} and {names[1]} overlap: these images do not settle which is stronger."
    )


def effect(m: Measurements, victim: str) -> str:
    """Success of the adversary and of all other attacks on a victim, and of its own at other bounds."""
    row = m.row(ADVERSARY, victim)
    what = (
        "Share of its mean Dice that is lost"
        if victim == SEGMENTER
        else "Success rate, of the images that it has right without an attack"
    )
    first = (
        f"**The {victim}**, at most {m.epsilon:g}/255 per pixel value (PSNR {row['psnr']:.1f} dB,"
        f" SSIM {row['ssim']:.2f}, ΔE00 {row['ciede2000']:.1f}). {what}: adversary {said(row)}."
        " Other attacks:"
    )
    listed = "\n".join(f"- {name}: {said(m.row(name, victim))}" for name in m.settings.attacks)
    against = [*m.noises()[-1:], *(name for name in m.gradient_attacks() if name in _OF_LIKE_COST)]
    verdicts = [compared(row, m.row(name, victim), ("the adversary", name)) for name in against]
    shares = "; ".join(f"{e:g}/255 {m.row(ADVERSARY, victim, e)['success']:.0%}" for e in m.bounds)
    verdicts.append(f"The same generator at every bound measured: {shares}.")
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
        f"- {e:g}/255: {_change(row)}; success rate {row['success']:.1%}" for e, row in rows.items()
    )
    unseen = [e for e, row in rows.items() if row["ciede2000"] < _JUST_SEEN and e <= _IMPERCEPTIBLE]
    holds = f"It is below 1 up to {max(unseen):g}/255" if unseen else "It is below 1 at none of these bounds"
    return (
        "**Visibility.** Two plain patches side by side can be told apart from a colour difference"
        " (CIEDE2000, Sharma et al. 2005) of about 1 on. For changes from pixel to pixel, which the eye"
        " partly averages, that is strict; and a mean says nothing of the worst places. Only where the mean"
        f" over pixels is below 1, and at {_IMPERCEPTIBLE}/255 at most, a perturbation is called"
        f" imperceptible here. {holds}. No viewers were asked.\n\n{points}"
    )


def _change(row: Mapping[str, float]) -> str:
    if not row["linf"]:
        return "nothing was changed"
    return f"PSNR {row['psnr']:.1f} dB, SSIM {row['ssim']:.3f}, ΔE00 {row['ciede2000']:.2f}"


def handling(left: Mapping[str, Mapping[str, float]]) -> str:
    """What is left of the adversary's success, and of every other attack's, after handling."""
    rows = []
    for name, shares in left.items():
        (_, first), *others = shares.items()
        kept = [
            f"{how}: {share:.0%}" + (f" ({share / first:.0%} kept)" if first > 0 else "")
            for how, share in others
        ]
        rows.append(f"- {name}: {first:.0%} as saved; {'; '.join(kept)}")
    return (
        "**After JPEG, blur and resizing**, success rates on the classifier, and the share of the success as"
        " saved that is kept:\n\n" + "\n".join(rows)
    )


def one_pattern(found: Mapping[float, Mapping[str, float]], victim: str) -> str:
    """How much of the adversary's effect a perturbation has that was made for another image."""
    parts = [
        f"at {epsilon:g}/255 {row['other']:.1%}, with its own {row['own']:.1%}"
        + (f" (a share of {row['share']:.2f})" if row["own"] > 0 else "")
        for epsilon, row in found.items()
    ]
    return (
        f"**How much depends on the image.** Success on the {victim} if each image gets the perturbation that"
        f" was made for another one: {'; '.join(parts)}. One universal pattern (Moosavi-Dezfooli et al. 2017)"
        " would lose nothing by that; noise of this size would have a little as well."
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
    unseen = [
        c for c, n in enumerate(tested) if n not in (CLASSIFIER, SEGMENTER) and np.isfinite(matrix[row, c])
    ]
    found = "; ".join(f"{tested[c]} {matrix[row, c]:.0%}" for c in unseen) or "there is no such network"
    text = f"**Transfer.** Told to fool the classifier, on networks that it was not trained on: {found}."
    if SEGMENTER in tested and np.isfinite(value := matrix[row, tested.index(SEGMENTER)]):
        text += f" The segmenter ({value:.0%}) is no such network: it was trained on that one too."
    return text + " What shares its pretrained backbone with a victim says little of other families."


def goal(table, name: str) -> str:
    """Whether a class of choice can be made to appear and to vanish."""
    rows = "\n".join(
        f"- {attack}: appears in a share of {_share(row, 'appear')}, vanishes in {_share(row, 'vanish')}"
        for attack, row in table.iterrows()
    )
    return f"**A chosen class**, *{name}*, made to appear and to vanish (95 % intervals):\n\n{rows}"


def _share(row, goal: str) -> str:
    success = row[f"{goal}: success"]
    if not np.isfinite(success):
        return "no image, since there was none to try"
    return f"{success:.3f} ({row[f'{goal}: 95 % interval']})"


def defence(table: Mapping[str, Mapping[str, float]], n: int) -> str:
    """Accuracy before and after adversarial fine-tuning, under every attack, and what that amounts to."""
    before, after = table.values()
    parts = "\n".join(f"- {name}: {before[name]:.1%} before, {after[name]:.1%} after" for name in before)
    attacked = {name: share for name, share in after.items() if name != "no attack"}
    worst = min(attacked, key=lambda name: attacked[name])
    change = 100 * (after["no attack"] - before["no attack"])
    end = (
        f"Without an attack that is {change:+.1f} points. Of the attacks measured, {worst} leaves least right"
        f" after the defence: {after[worst]:.1%}, before it {before[worst]:.1%}."
    )
    if attacked[worst] < 0.1 * after["no attack"]:
        end += " Such a classifier is not robust."
    first = f"**Defence.** Top class right on {n} images, before and after adversarial fine-tuning:"
    return f"{first}\n\n{parts}\n\n{end}"


def key_numbers(m: Measurements) -> dict[str, str]:
    """For the first page: what the adversary does, beside noise of the same size."""
    titles = {CLASSIFIER: "success on the classifier at", SEGMENTER: "segmenter's Dice lost at"}
    found = {}
    for victim in m.victims:
        noise = [f"{name} {m.row(name, victim)['success']:.1%}" for name in m.noises()[-1:]]
        text = [said(m.row(ADVERSARY, victim)), f"{m.settings.size} px", *noise]
        found[f"{titles[victim]} {m.epsilon:g}/255"] = ", ".join(text)
    return found
