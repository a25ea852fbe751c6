"""Notebook 03: what the attacks do to the networks, measured, and what of it is shown."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

import numpy as np
import pandas as pd
from scipy.special import expit, softmax

from voclab.attacks import FGSM, Adversary, Attack, Bench, Network, Noise, handled, swapped, visibility
from voclab.attacks.measures import HANDLING
from voclab.data.base import Dataset
from voclab.data.images import eight_bit
from voclab.experiments.adversary import ADVERSARY, CLASSIFIER, SEGMENTER, Settings
from voclab.metrics import image_scores
from voclab.models.generator import Generator
from voclab.terminal import say
from voclab.training import Run
from voclab.training.code import fingerprint
from voclab.training.experiment import model_digest
from voclab.training.identity import data_digest, known_by

_ONE_PASS = (Noise, FGSM, Adversary)  # cheap enough to be measured on all images
_ON_ALL = "adversary, on both at once"
Answer = tuple[np.ndarray, str, bool]


class Measurements:
    """Every figure of the notebook, measured once and kept in the run: an interrupted measurement goes on.

    Args:
        run: folder of the measurements.
        scored: images with truth.
        victims: from :func:`voclab.experiments.adversary.victims`.
        adversary: complete run of the one that fools them.
        settings: sizes and bounds.
        further: more networks to test on, from :func:`voclab.experiments.adversary.others`; a victim among
            them is left out.
        epsilon: bound that most is measured at, steps of 1/255.
        progress: receives lines of text.
        bench: those of ``scored`` that are measured on, if they are opened already.
    """

    def __init__(
        self,
        run: Run,
        scored: Dataset,
        victims: Mapping[str, Network],
        adversary: Run,
        settings: Settings,
        further: Mapping[str, Network],
        epsilon: float = 8,
        progress: Callable[[str], None] = say,
        bench: Bench | None = None,
    ):
        attacked = {model_digest(v.model) for v in victims.values()}
        self.further = {n: v for n, v in further.items() if model_digest(v.model) not in attacked}
        self.run, self.victims, self.adversary, self.progress = run, victims, adversary, progress
        self.settings, self.epsilon = settings, epsilon
        self.bounds = sorted({*self.settings.epsilons, epsilon})
        networks = (*victims.values(), *self.further.values())
        config = {
            "data": data_digest(scored, masks="segmentation" in {v.task for v in victims.values()}),
            "settings": self.settings,
            "kinds": {name: fingerprint(type(a)) for name, a in settings.attacks.items()},
            "epsilon": epsilon,
            "networks": {v.name: model_digest(v.model) for v in networks},
            "adversary": adversary.config,
        }
        run.begin(known_by(config, Measurements, *(v.model for v in networks)), progress=progress)
        self.bench = bench or Bench(scored.spread(settings.images[0]), settings.size)
        self._parts: dict[int, Bench] = {}
        self._images: dict[tuple, tuple[np.ndarray, float]] = {}

    def attack(self, name: str, victim: str) -> Attack:
        """The attack that people call by a name of :meth:`names`, against that victim."""
        if name in self.settings.attacks:
            return self.settings.attacks[name]
        return Adversary(self._generator, tuple(self.victims) if name == _ON_ALL else (victim,))

    @cached_property
    def _generator(self) -> Generator:
        return self.adversary.load_model()

    def names(self) -> list[str]:
        """The attacks that there are here, in the order of every table and legend: the adversary first."""
        return [ADVERSARY, *self.settings.attacks]

    def gradient_attacks(self) -> list[str]:
        """Those of the settings that are not noise."""
        return [name for name, attack in self.settings.attacks.items() if not isinstance(attack, Noise)]

    def noises(self) -> list[str]:
        """The controls among the attacks of the settings; the last one is shown where one is enough."""
        return [name for name in self.settings.attacks if name not in self.gradient_attacks()]

    def on(self, name: str, victim: str, epsilon: float) -> Bench:
        """The images that an attack is measured on: PGD on a segmenter takes a second an image."""
        other = epsilon != self.epsilon
        slow = not isinstance(self.attack(name, victim), _ONE_PASS)
        if slow and self.victims[victim].task == "segmentation":
            return self._part(self.settings.pgd_images[other])
        return self._part(self.settings.images[1]) if other else self.bench

    def _part(self, n: int) -> Bench:
        """The bench of ``n`` of the images, spread over all."""
        if n in (0, len(self.bench)) or n > len(self.bench):
            return self.bench
        if n not in self._parts:
            self._parts[n] = Bench(self.bench.dataset.spread(n), self.settings.size)
        return self._parts[n]

    def few(self, name: str, victim: str) -> tuple[Bench, np.ndarray]:
        """The part of the images for transfer and handling, as the attack leaves them: none is made anew."""
        bench, images = self.on(name, victim, self.epsilon), self.perturbed(name, victim)
        part = self._part(self.settings.images[1])
        if len(bench) <= len(part) or bench is not self.bench:  # a part of a part may hold other images
            return bench, images
        return part, images[np.linspace(0, len(bench) - 1, len(part)).round().astype(int)]

    def row(self, name: str, victim: str, epsilon: float | None = None, **goal) -> dict[str, float]:
        """What an attack does to a victim, how visible it is and what it costs.

        Args:
            name: one of :meth:`names`.
            victim: ``"classifier"`` or ``"segmenter"``.
            epsilon: bound, steps of 1/255; by default the one most is measured at.
            goal: ``goal`` and ``class_index`` of the attack, see :meth:`voclab.attacks.Bench.attack`.

        Returns:
            ``Bench.effect`` and ``visibility`` together, with ``low`` and ``high``, the 95 % interval of
            ``success``, ``images`` and ``seconds`` an image.
        """
        epsilon = self.epsilon if epsilon is None else epsilon

        def measure():
            bench = self.on(name, victim, epsilon)
            images, seconds = self._perturbed(name, victim, epsilon, **goal)
            effect = self._effect(bench, victim, images, **goal)
            return effect | {"seconds": seconds} | visibility(images, bench.images)

        wanted = " ".join(str(value) for value in goal.values())
        return self.run.once(f"{name} > {victim} {epsilon:g} {wanted}", measure)

    def swapped(self, victim: str, epsilon: float) -> dict[str, float]:
        """What the adversary does to a victim if every image gets the perturbation made for another one.

        A single pattern for all images would do as much this way as the other. The figures are those of
        ``Bench.effect`` with the interval and number of images, as in :meth:`row`.
        """

        def measure():
            bench = self.on(ADVERSARY, victim, epsilon)
            images = swapped(self._perturbed(ADVERSARY, victim, epsilon)[0], bench.images)
            return self._effect(bench, victim, images)

        return self.run.once(f"{ADVERSARY} > {victim} {epsilon:g} of another image", measure)

    def _effect(self, bench: Bench, victim: str, images: np.ndarray, **goal) -> dict[str, float]:
        network = self.victims[victim]
        after = bench.answers(network, images)
        low, high = bench.interval(network, after, **goal)
        found = bench.effect_of(network, after, **goal)
        return found | {"low": low, "high": high, "images": len(bench)}

    def transferred(self, name: str, source: str, tested: str) -> float:
        """Success rate on another network of an attack made on ``source``."""
        network = {**self.victims, **self.further}[tested]

        def measure():
            bench, images = self.few(name, source)
            return bench.effect(network, images)["success"]

        return self.run.once(f"{name} > {source} tested on {tested}", measure)

    def survived(self, name: str, victim: str, how: str) -> float:
        """Success rate after handling, one of ``measures.HANDLING`` or ``""`` for none."""

        def measure():
            bench, images = self.few(name, victim)
            return bench.effect(self.victims[victim], handled(images, how) if how else images)["success"]

        return self.run.once(f"{name} > {victim} after {how}", measure)

    def against(self, victim: Network, name: str, attack: Attack) -> dict[str, float]:
        """What an attack on another network than the victims does to it, at the main bound."""

        def measure():
            images, _ = self.bench.attack(attack, victim, self.epsilon / 255, progress=self.progress)
            return self.bench.effect(victim, images)

        return self.run.once(f"{name} > {victim.name} {model_digest(victim.model)}", measure)

    def clean(self, victim: Network) -> dict[str, float]:
        """The same figures without an attack."""
        return self.run.once(
            f"clean {victim.name} {model_digest(victim.model)}",
            lambda: self.bench.effect_of(victim, self.bench.clean(victim)),
        )

    def perturbed(self, name: str, victim: str) -> np.ndarray:
        """(n, H, W, 3) uint8 images as the attack leaves them, at the main bound."""
        return self._perturbed(name, victim, self.epsilon)[0]

    def shown(self, name: str, victim: str, chosen: Sequence[int], epsilon: float) -> np.ndarray:
        """(n, H, W, 3) uint8: a few of the images as the attack leaves them at any bound."""
        network, images = self.victims[victim], eight_bit(self.bench.images[chosen])
        target = self.bench.target(network.task).of(chosen)
        perturbed = self.attack(name, victim)(network, images, target, epsilon / 255)
        return np.rint(255 * perturbed).astype(np.uint8)

    def finish(self) -> None:
        """Mark the measurements as complete."""
        self.run.finish({"measured": len(self.run.results)})

    def _perturbed(self, name: str, victim: str, epsilon: float, **goal) -> tuple[np.ndarray, float]:
        """(perturbed images, seconds an image); those at the main bound, without a goal, are kept."""
        if (name, victim) in self._images and epsilon == self.epsilon and not goal:
            return self._images[name, victim]
        result = self.on(name, victim, epsilon).attack(
            self.attack(name, victim),
            self.victims[victim],
            epsilon / 255,
            progress=lambda line: self.progress(f"{name} on the {victim}: {line}"),
            **goal,
        )
        if epsilon == self.epsilon and not goal:
            self._images[name, victim] = result
        return result


def attack_table(measured: Measurements, victim: str) -> pd.DataFrame:
    """One row an attack at the main bound: effect, visibility and cost; the clean images first."""
    segmenter = measured.victims[victim].task == "segmentation"
    titles = (
        {"dice": "Dice", "flipped": "pixels flipped"} if segmenter else {"accuracy": "top-1", "map": "mAP"}
    )
    clean = measured.clean(measured.victims[victim])
    first = {title: clean[key] for key, title in titles.items() if key in clean}
    rows = {"none": {"success": 0.0, **first, "images": len(measured.bench)}}
    for name in measured.names():
        row = measured.row(name, victim)
        rows[name] = {
            "success": row["success"],
            "95 % interval": f"{row['low']:.3f} to {row['high']:.3f}",
            **{title: row[key] for key, title in titles.items() if key in row},
            "L∞ (1/255)": row["linf"],
            "L2": row["l2"],
            "PSNR (dB)": row["psnr"],
            "SSIM": row["ssim"],
            "ΔE00": row["ciede2000"],
            "ms an image": 1000 * row["seconds"],
            "images": row["images"],
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("attack")


def over_epsilon(measured: Measurements, victim: str) -> dict[str, tuple[list[float], list[float]]]:
    """Attack -> (bounds in steps of 1/255, success rates)."""
    bounds = measured.bounds
    return {
        name: (bounds, [measured.row(name, victim, e)["success"] for e in bounds])
        for name in measured.names()
    }


def transfer(measured: Measurements) -> tuple[np.ndarray, list[str], list[str]]:
    """(success rates, rows: attacks and what they were made on, columns: networks that are tested)."""
    sources = [(name, CLASSIFIER, name) for name in measured.noises()[-1:]]
    for victim in measured.victims:
        names = (ADVERSARY, *measured.gradient_attacks())
        sources += [(name, victim, f"{name}, on the {victim}") for name in names]
    if len(measured.victims) > 1:
        sources.append((_ON_ALL, CLASSIFIER, _ON_ALL))
    columns = [*measured.victims, *measured.further]
    matrix = [[measured.transferred(name, source, c) for c in columns] for name, source, _ in sources]
    return np.array(matrix), [title for _, _, title in sources], columns


def survival(measured: Measurements, victim: str) -> dict[str, dict[str, float]]:
    """Attack -> handling -> success rate that is left."""
    return {
        name: {
            "as saved": measured.survived(name, victim, ""),
            **{how: measured.survived(name, victim, how) for how in HANDLING},
        }
        for name in measured.names()
    }


def trade_off(measured: Measurements) -> dict[str, list[tuple[float, float, str]]]:
    """Attack -> (PSNR in dB, success rate, label) of the classifier at each bound."""

    def point(name: str, epsilon: float) -> tuple[float, float, str]:
        row = measured.row(name, CLASSIFIER, epsilon)
        return row["psnr"], row["success"], f"{epsilon:g}/255" if name == ADVERSARY else ""

    return {name: [point(name, epsilon) for epsilon in measured.bounds] for name in measured.names()}


def of_another_image(measured: Measurements, victim: str) -> dict[float, dict[str, float]]:
    """Bound -> success of the adversary's perturbation on its own image and, as ``other``, on another one.

    ``share`` is the second over the first: 1 for a single pattern, what noise has if all depends on the
    image. The bounds are 4/255 and the main one.
    """
    found = {}
    for epsilon in sorted({4.0, float(measured.epsilon)}):
        own, other = measured.row(ADVERSARY, victim, epsilon), measured.swapped(victim, epsilon)
        share = other["success"] / own["success"] if own["success"] > 0 else float("nan")
        found[epsilon] = {"own": own["success"], "other": other["success"], "share": share}
    return found


def goals(measured: Measurements, class_index: int) -> pd.DataFrame:
    """Success of making a class appear where it is not, and vanish where it is: three attacks and noise."""
    others = [*measured.noises()[-1:], *(n for n in ("FGSM", "PGD") if n in measured.settings.attacks)]
    rows: dict[str, dict] = {name: {} for name in (*others, ADVERSARY)}
    for goal in ("appear", "vanish"):
        for name, row in rows.items():
            found = measured.row(name, CLASSIFIER, goal=goal, class_index=class_index)
            row |= {
                f"{goal}: success": found["success"],
                f"{goal}: 95 % interval": f"{found['low']:.3f} to {found['high']:.3f}",
                f"{goal}: PSNR (dB)": found["psnr"],
            }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("attack")


def answer_text(victim: Network, logits: np.ndarray, class_names: Sequence[str], most: int = 2) -> str:
    """The classes that a classifier says are there, with probabilities; at least its top class."""
    shares = expit(logits, dtype=np.float64) if victim.task == "multilabel" else softmax(logits)
    order = np.argsort(-shares)[:most]
    kept = [k for k in order if shares[k] >= 0.1] or [order[0]]
    return ", ".join(f"{class_names[k]} {shares[k]:.2f}" for k in kept)


def telling_images(bench: Bench, victim: Network, n: int, seed: int = 0) -> np.ndarray:
    """Images to show an attack on: the victim is right on them, each of another true class, drawn by seed.

    For a segmenter: those whose clean map is best.
    """
    clean = bench.clean(victim)
    if victim.task == "segmentation":
        truth = bench.truth(victim.task)
        both = (clean.values == truth) & (truth > 0)
        union = ((clean.values > 0) | (truth > 0)) & (truth != 255)
        quality = both.sum((1, 2)) / np.maximum(union.sum((1, 2)), 1)
        large = ((truth > 0) & (truth != 255)).mean((1, 2)) > 0.08  # a speck shows nothing
        order = np.argsort(-np.where(large, quality, -1), kind="stable")
    else:
        right = ~bench.target(victim.task).succeeded(victim, clean.values)
        order = np.random.default_rng(seed).permutation(np.flatnonzero(right))
    labels, chosen, seen = bench.dataset.labels, [], set()
    for i in order:
        classes = tuple(np.flatnonzero(labels[i]))
        if classes not in seen and len(chosen) < n:
            seen.add(classes)
            chosen.append(int(i))
    return np.array(chosen, int)


def triptychs(
    measured: Measurements, chosen: Sequence[int], class_names: Sequence[str], bounds: Sequence[float]
) -> list[tuple[Answer, dict[str, list[Answer]]]]:
    """For each chosen image: the clean one, and by attack (adversary, noise) one for each bound.

    With each (H, W, 3) uint8 image goes the classifier's answer and whether it is fooled.
    """
    bench, network = measured.bench, measured.victims[CLASSIFIER]
    target, names = bench.target(network.task).of(chosen), (ADVERSARY, *measured.noises()[-1:])

    def answered(images: np.ndarray) -> list[Answer]:
        logits = network.logits(eight_bit(images))
        texts = (answer_text(network, z, class_names) for z in logits)
        return list(zip(images, texts, target.succeeded(network, logits).tolist(), strict=True))

    clean = answered(bench.images[chosen])
    found = {n: [answered(measured.shown(n, CLASSIFIER, chosen, e)) for e in bounds] for n in names}
    return [(first, {n: [shown[k] for shown in found[n]] for n in names}) for k, first in enumerate(clean)]


def mask_rows(measured: Measurements, chosen: Sequence[int]) -> list[tuple]:
    """For each chosen image: clean, perturbed, true map, both predicted maps with their Dice."""
    bench, network = measured.bench, measured.victims[SEGMENTER]
    images = measured.perturbed(ADVERSARY, SEGMENTER)[chosen]
    after = network.logits(eight_bit(images)).argmax(-1).astype(np.uint8)
    rows, labels = [], len(bench.dataset.class_names) + 1
    for j, i in enumerate(chosen):
        truth, before = bench.truth("segmentation")[i], bench.clean(network).values[i]
        texts = [f"Dice {image_scores(truth, m, labels):.2f}" for m in (before, after[j])]
        rows.append((bench.images[i], images[j], truth, before, after[j], *texts))
    return rows


def defence(measured: Measurements, defended: Network, own: Adversary) -> dict[str, dict[str, float]]:
    """Victim -> attack -> share of images whose top class is right; the last attack knows the victim."""
    first, control = measured.attack(ADVERSARY, CLASSIFIER), measured.noises()[-1:]
    names = [*control, ADVERSARY, *measured.gradient_attacks()]
    shown = {ADVERSARY: "first adversary"}
    before = {"no attack": measured.clean(measured.victims[CLASSIFIER])["accuracy"]}
    before |= {shown.get(n, n): measured.row(n, CLASSIFIER)["accuracy"] for n in names}
    before["own adversary"] = before["first adversary"]
    after = {"no attack": measured.clean(defended)["accuracy"]}
    for name in [*names, "own adversary"]:
        attack = {ADVERSARY: first, "own adversary": own}.get(name) or measured.attack(name, CLASSIFIER)
        after[shown.get(name, name)] = measured.against(defended, shown.get(name, name), attack)["accuracy"]
    return {"as trained": before, "adversarially fine-tuned": after}
