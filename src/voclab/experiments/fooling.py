"""Notebook 03: what the attacks do to the networks, measured, and what of it is shown."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.special import expit, softmax

from voclab.attacks import FGSM, Adversary, Attack, Bench, Network, Noise, handled, visibility
from voclab.attacks.measures import HANDLING
from voclab.data.base import Dataset
from voclab.data.images import eight_bit
from voclab.experiments.adversary import BOTH, CLASSIFIER, SEGMENTER, Settings
from voclab.metrics import image_scores
from voclab.terminal import say
from voclab.training import Run
from voclab.training.code import fingerprint
from voclab.training.experiment import model_digest
from voclab.training.identity import data_digest, known_by

LABELS = {
    "universal": "adversary, universal",
    "image": "adversary, image-dependent",
    "both": "adversary, both victims at once",
}
_ONE_PASS = (Noise, FGSM, Adversary)  # cheap enough to be measured on all images


def label(name: str) -> str:
    """What people call an attack; those of ``settings.attacks`` are called by their keys."""
    return LABELS.get(name, name)


class Measurements:
    """Every figure of the notebook, measured once and kept in the run: an interrupted measurement goes on.

    Args:
        run: folder of the measurements.
        scored: images with truth.
        victims: from :func:`voclab.experiments.adversary.victims`.
        adversaries: complete runs by name.
        settings: sizes and bounds.
        further: more networks to test on, from :func:`voclab.experiments.adversary.others`; a victim among
            them is left out.
        epsilon: bound that the adversaries were trained at and that most is measured at, steps of 1/255.
        progress: receives lines of text.
        bench: those of ``scored`` that are measured on, if they are opened already.
    """

    def __init__(
        self,
        run: Run,
        scored: Dataset,
        victims: Mapping[str, Network],
        adversaries: Mapping[str, Run],
        settings: Settings,
        further: Mapping[str, Network],
        epsilon: float = 8,
        progress: Callable[[str], None] = say,
        bench: Bench | None = None,
    ):
        attacked = {model_digest(v.model) for v in victims.values()}
        self.further = {n: v for n, v in further.items() if model_digest(v.model) not in attacked}
        self.run, self.victims, self.adversaries, self.progress = run, victims, adversaries, progress
        self.settings, self.epsilon = settings, epsilon
        self.bounds = sorted({*self.settings.epsilons, epsilon})
        networks = (*victims.values(), *self.further.values())
        config = {
            "data": data_digest(scored, masks="segmentation" in {v.task for v in victims.values()}),
            "settings": self.settings,
            "kinds": {name: fingerprint(type(a)) for name, a in settings.attacks.items()},
            "epsilon": epsilon,
            "networks": {v.name: model_digest(v.model) for v in networks},
            "adversaries": {name: run.config for name, run in adversaries.items()},
        }
        run.begin(known_by(config, Measurements, *(v.model for v in networks)), progress=progress)
        self.bench = bench or Bench(scored.spread(settings.images[0]), settings.size)
        self._parts: dict[int, Bench] = {}
        self._images: dict[tuple, tuple[np.ndarray, float]] = {}
        self._loaded: dict[str, Adversary] = {}

    def attack(self, name: str, victim: str) -> Attack:
        """The attack that people call by a name of :meth:`names`, against that victim."""
        if name in self.settings.attacks:
            return self.settings.attacks[name]
        runs = {"universal": f"{victim}-universal", "image": victim, "both": BOTH}
        run = f"adversary-{runs[name]}" if name in runs else name
        if run not in self._loaded:
            self._loaded[run] = Adversary.of(self.adversaries[run])
        return self._loaded[run]

    def names(self) -> list[str]:
        """The attacks that there are here: those of the settings, then the adversaries."""
        own = [name for name in LABELS if name != "both" or f"adversary-{BOTH}" in self.adversaries]
        return [*self.settings.attacks, *own]

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
        if len(bench) <= len(part):
            return bench, images
        return part, images[np.linspace(0, len(bench) - 1, len(part)).round().astype(int)]

    def row(self, name: str, victim: str, epsilon: float | None = None, **goal) -> dict[str, float]:
        """What an attack does to a victim, how visible it is and what it costs.

        Args:
            name: one of :meth:`names`, or the name of an adversary's run.
            victim: ``"classifier"`` or ``"segmenter"``.
            epsilon: bound, steps of 1/255; by default the one trained at.
            goal: ``goal`` and ``class_index`` of the attack, see :meth:`voclab.attacks.Bench.attack`.

        Returns:
            ``Bench.effect`` and ``visibility`` together, with ``low`` and ``high``, the 95 % interval of
            ``success``, ``images`` and ``seconds`` an image.
        """
        epsilon = self.epsilon if epsilon is None else epsilon

        def measure():
            bench = self.on(name, victim, epsilon)
            images, seconds = self._perturbed(name, victim, epsilon, **goal)
            after = bench.answers(self.victims[victim], images)
            effect = bench.effect_of(self.victims[victim], after, **goal)
            low, high = bench.interval(self.victims[victim], after, **goal)
            effect |= {"low": low, "high": high, "images": len(bench), "seconds": seconds}
            return effect | visibility(images, bench.images)

        wanted = " ".join(str(value) for value in goal.values())
        return self.run.once(f"{name} > {victim} {epsilon:g} {wanted}", measure)

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
        """What an attack on another network than the victims does to it, at the bound trained at."""

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
        """(n, H, W, 3) uint8 images as the attack leaves them, at the bound trained at."""
        return self._perturbed(name, victim, self.epsilon)[0]

    def finish(self) -> None:
        """Mark the measurements as complete."""
        self.run.finish({"measured": len(self.run.results)})

    def _perturbed(self, name: str, victim: str, epsilon: float, **goal) -> tuple[np.ndarray, float]:
        """(perturbed images, seconds an image); those at the bound trained at, without a goal, are kept."""
        if (name, victim) in self._images and epsilon == self.epsilon and not goal:
            return self._images[name, victim]
        result = self.on(name, victim, epsilon).attack(
            self.attack(name, victim),
            self.victims[victim],
            epsilon / 255,
            progress=lambda line: self.progress(f"{label(name)} on the {victim}: {line}"),
            **goal,
        )
        if epsilon == self.epsilon and not goal:
            self._images[name, victim] = result
        return result


def attack_table(measured: Measurements, victim: str) -> pd.DataFrame:
    """One row an attack at the bound trained at: effect, visibility and cost; the clean images first."""
    segmenter = measured.victims[victim].task == "segmentation"
    titles = (
        {"dice": "Dice", "flipped": "pixels flipped"} if segmenter else {"accuracy": "top-1", "map": "mAP"}
    )
    clean = measured.clean(measured.victims[victim])
    first = {title: clean[key] for key, title in titles.items() if key in clean}
    rows = {"none": {"success": 0.0, **first, "images": len(measured.bench)}}
    for name in measured.names():
        row = measured.row(name, victim)
        rows[label(name)] = {
            "success": row["success"],
            "95 % interval": f"{row['low']:.3f} to {row['high']:.3f}",
            **{title: row[key] for key, title in titles.items() if key in row},
            "L∞ (1/255)": row["linf"],
            "L2": row["l2"],
            "PSNR (dB)": row["psnr"],
            "SSIM": row["ssim"],
            "ms an image": 1000 * row["seconds"],
            "images": row["images"],
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("attack")


def over_epsilon(measured: Measurements, victim: str) -> dict[str, tuple[list[float], list[float]]]:
    """Attack -> (bounds in steps of 1/255, success rates)."""
    bounds = measured.bounds
    return {
        label(name): (bounds, [measured.row(name, victim, e)["success"] for e in bounds])
        for name in measured.names()
    }


def transfer(measured: Measurements) -> tuple[np.ndarray, list[str], list[str]]:
    """(success rates, rows: attacks and what they were made on, columns: networks that are tested)."""
    sources = [(name, CLASSIFIER, name) for name in measured.noises()[-1:]]
    for victim in measured.victims:
        sources.append(("image", victim, f"adversary, on the {victim}"))
        sources += [(name, victim, f"{name}, on the {victim}") for name in measured.gradient_attacks()]
    if "both" in measured.names():
        sources.append(("both", CLASSIFIER, "adversary, on both"))
    columns = [*measured.victims, *measured.further]
    matrix = [[measured.transferred(name, source, c) for c in columns] for name, source, _ in sources]
    return np.array(matrix), [title for _, _, title in sources], columns


def same_answer(measured: Measurements) -> dict[str, float]:
    """Classifier -> share of the clean images whose top class is the one that it gives most often."""
    shares = {}
    for name, network in {**measured.victims, **measured.further}.items():
        if network.task != "segmentation":
            top = measured.bench.clean(network).values.argmax(-1)
            shares[name] = float(np.bincount(top).max() / len(top))
    return shares


def survival(measured: Measurements, victim: str) -> dict[str, dict[str, float]]:
    """Attack -> handling -> success rate that is left."""
    return {
        label(name): {
            "as saved": measured.survived(name, victim, ""),
            **{how: measured.survived(name, victim, how) for how in HANDLING},
        }
        for name in (*measured.gradient_attacks(), "universal", "image")
    }


def trade_off(measured: Measurements) -> dict[str, list[tuple[float, float, str]]]:
    """Name -> (PSNR in dB, success rate, label): the adversary at each weight, others to compare."""

    def point(name: str, label: str = "") -> tuple[float, float, str]:
        row = measured.row(name, CLASSIFIER)
        return row["psnr"], row["success"], label

    weights = measured.settings.penalty_weights
    curve = [point(f"adversary-{CLASSIFIER}-weight{w:g}", f"weight {w:g}") for w in weights]
    others = (*measured.noises()[-1:], *measured.gradient_attacks(), "universal")
    return {
        "adversary, penalty on L2": [point("image", "weight 0"), *curve],
        **{label(name): [point(name)] for name in others},
    }


def goals(measured: Measurements, class_index: int) -> pd.DataFrame:
    """Success of making a class appear where it is not, and vanish where it is: noise, PGD, adversary."""
    others = [*measured.noises()[-1:], *(n for n in ("PGD",) if n in measured.settings.attacks)]
    rows: dict[str, dict] = {name: {} for name in (*others, "adversary")}
    for goal in ("appear", "vanish"):
        names = (*others, f"adversary-{CLASSIFIER}-{goal}")
        for name, row in zip(names, rows.values(), strict=True):
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
    measured: Measurements, victim: str, chosen: Sequence[int], class_names: Sequence[str]
) -> list[tuple]:
    """For each chosen image: clean, perturbed by the adversary, both answers, and whether that succeeded."""
    bench, network = measured.bench, measured.victims[victim]
    images = measured.perturbed("image", victim)[chosen]
    before, after = bench.clean(network).values[chosen], network.logits(eight_bit(images))
    succeeded = bench.target(network.task).of(chosen).succeeded(network, after)
    answers = ([answer_text(network, z, class_names) for z in logits] for logits in (before, after))
    return list(zip(bench.images[chosen], images, *answers, succeeded.tolist(), strict=True))


def mask_rows(measured: Measurements, chosen: Sequence[int]) -> list[tuple]:
    """For each chosen image: clean, perturbed, true map, both predicted maps with their Dice."""
    bench, network = measured.bench, measured.victims[SEGMENTER]
    images = measured.perturbed("image", SEGMENTER)[chosen]
    after = network.logits(eight_bit(images)).argmax(-1).astype(np.uint8)
    rows, labels = [], len(bench.dataset.class_names) + 1
    for j, i in enumerate(chosen):
        truth, before = bench.truth("segmentation")[i], bench.clean(network).values[i]
        texts = [f"Dice {image_scores(truth, m, labels):.2f}" for m in (before, after[j])]
        rows.append((bench.images[i], images[j], truth, before, after[j], *texts))
    return rows


def on_one_image(measured: Measurements, index: int) -> dict[str, np.ndarray]:
    """Attack -> an image as it leaves it, (H, W, 3) uint8: to look at perturbations side by side."""
    noise, one_step = measured.noises()[-1:], [n for n in ("FGSM",) if n in measured.settings.attacks]
    shown = {name: measured.perturbed(name, CLASSIFIER)[index] for name in noise}
    named = [(name, victim) for victim in measured.victims for name in ("universal", "image")]
    for name, victim in [*((name, CLASSIFIER) for name in one_step), *named]:
        shown[f"{label(name)}\n(on the {victim})"] = measured.perturbed(name, victim)[index]
    return shown


def defence(measured: Measurements, defended: Network, own: Adversary) -> dict[str, dict[str, float]]:
    """Victim -> attack -> share of images whose top class is right; the last attack knows the victim."""
    first, control = measured.attack("image", CLASSIFIER), measured.noises()[-1:]
    names = [*control, "image", *measured.gradient_attacks()]
    shown = {"image": "first adversary"}
    before = {"no attack": measured.clean(measured.victims[CLASSIFIER])["accuracy"]}
    before |= {shown.get(n, n): measured.row(n, CLASSIFIER)["accuracy"] for n in names}
    before["own adversary"] = before["first adversary"]
    after = {"no attack": measured.clean(defended)["accuracy"]}
    for name in [*names, "own adversary"]:
        attack = {"image": first, "own adversary": own}.get(name) or measured.attack(name, CLASSIFIER)
        after[shown.get(name, name)] = measured.against(defended, shown.get(name, name), attack)["accuracy"]
    return {"as trained": before, "adversarially fine-tuned": after}
