"""Notebook 03: what the attacks do to the networks, measured, and what of it is shown."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.special import expit, softmax

from voclab.attacks import FGSM, PGD, Adversary, Attack, Bench, Network, Noise, handled, visibility
from voclab.attacks.measures import HANDLING
from voclab.data.base import Dataset
from voclab.data.images import eight_bit
from voclab.experiments.adversary import BOTH, CLASSIFIER, SEGMENTER, Settings
from voclab.metrics import image_scores
from voclab.terminal import say
from voclab.training import Run
from voclab.training.experiment import model_digest
from voclab.training.identity import data_digest, known_by

LABELS = {
    "uniform noise": "uniform noise",
    "sign noise": "sign noise",
    "fgsm": "FGSM",
    "pgd": "PGD",
    "momentum": "momentum PGD",
    "universal": "adversary, universal",
    "image": "adversary, image-dependent",
    "both": "adversary, both victims at once",
}
_SIMPLE = {
    "uniform noise": Noise(kind="uniform"),
    "sign noise": Noise(),
    "fgsm": FGSM(),
    "pgd": PGD(),
    "momentum": PGD(momentum=1.0, random_start=False),
}


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
            "epsilon": epsilon,
            "networks": {v.name: model_digest(v.model) for v in networks},
            "adversaries": {name: run.config for name, run in adversaries.items()},
        }
        run.begin(known_by(config, Measurements, *(v.model for v in networks)), progress=progress)
        self.bench = Bench(scored, self.settings.size)
        self._few = {
            n: self.bench if n in (0, len(scored)) else Bench(scored.spread(n), self.settings.size)
            for n in set(self.settings.pgd_images)
        }
        self._images: dict[tuple, tuple[np.ndarray, float]] = {}
        self._loaded: dict[str, Adversary] = {}

    def attack(self, name: str, victim: str) -> Attack:
        """The attack that people call by a key of :data:`LABELS`, against that victim."""
        if name in _SIMPLE:
            return _SIMPLE[name]
        runs = {"universal": f"{victim}-universal", "image": victim, "both": BOTH}
        run = f"adversary-{runs[name]}" if name in runs else name
        if run not in self._loaded:
            self._loaded[run] = Adversary.of(self.adversaries[run])
        return self._loaded[run]

    def names(self) -> list[str]:
        """The attacks that there are here, weakest first."""
        return [name for name in LABELS if name != "both" or f"adversary-{BOTH}" in self.adversaries]

    def on(self, name: str, victim: str, epsilon: float) -> Bench:
        """The images that an attack is measured on: PGD on a segmenter takes a second an image."""
        if name in ("pgd", "momentum") and self.victims[victim].task == "segmentation":
            return self._few[self.settings.pgd_images[epsilon != self.epsilon]]
        return self.bench

    def row(self, name: str, victim: str, epsilon: float | None = None, **goal) -> dict[str, float]:
        """What an attack does to a victim, how visible it is and what it costs.

        Args:
            name: key of :data:`LABELS`, or the name of an adversary's run.
            victim: ``"classifier"`` or ``"segmenter"``.
            epsilon: bound, steps of 1/255; by default the one trained at.
            goal: ``goal`` and ``class_index`` of the attack, see :meth:`voclab.attacks.Bench.attack`.

        Returns:
            ``Bench.effect`` and ``visibility`` together, with ``images`` and ``seconds`` an image.
        """
        epsilon = self.epsilon if epsilon is None else epsilon

        def measure():
            bench = self.on(name, victim, epsilon)
            images, seconds = self._perturbed(name, victim, epsilon, **goal)
            effect = bench.effect(self.victims[victim], images, **goal)
            return {**effect, **visibility(images, bench.images), "images": len(bench), "seconds": seconds}

        wanted = " ".join(str(value) for value in goal.values())
        return self.run.once(f"{name} > {victim} {epsilon:g} {wanted}", measure)

    def transferred(self, name: str, source: str, tested: str) -> float:
        """Success rate on another network of an attack made on ``source``."""
        network = {**self.victims, **self.further}[tested]

        def measure():
            return self.on(name, source, self.epsilon).effect(network, self.perturbed(name, source))[
                "success"
            ]

        return self.run.once(f"{name} > {source} tested on {tested}", measure)

    def survived(self, name: str, victim: str, how: str) -> float:
        """Success rate after what happens to images on their way, see ``measures.HANDLING``."""

        def measure():
            bench, images = self.on(name, victim, self.epsilon), self.perturbed(name, victim)
            return bench.effect(self.victims[victim], handled(images, how))["success"]

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
            lambda: self.bench.effect(victim, self.bench.images),
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
            progress=lambda line: self.progress(f"{LABELS.get(name, name)} on the {victim}: {line}"),
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
        rows[LABELS[name]] = {
            "success": row["success"],
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
    """Attack -> (bounds in steps of 1/255, success rates); momentum is left out, it follows PGD."""
    bounds = measured.bounds
    return {
        LABELS[name]: (bounds, [measured.row(name, victim, e)["success"] for e in bounds])
        for name in measured.names()
        if name != "momentum"
    }


def transfer(measured: Measurements) -> tuple[np.ndarray, list[str], list[str]]:
    """(success rates, rows: attacks and what they were made on, columns: networks that are tested)."""
    sources = [("sign noise", CLASSIFIER, "sign noise")]
    for victim in measured.victims:
        sources += [
            ("image", victim, f"adversary, on the {victim}"),
            ("pgd", victim, f"PGD, on the {victim}"),
            ("momentum", victim, f"momentum PGD, on the {victim}"),
        ]
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
        LABELS[name]: {
            "as saved": measured.row(name, victim)["success"],
            **{how: measured.survived(name, victim, how) for how in HANDLING},
        }
        for name in ("fgsm", "pgd", "universal", "image")
    }


def trade_off(measured: Measurements) -> dict[str, list[tuple[float, float, str]]]:
    """Name -> (PSNR in dB, success rate, label): the adversary at each weight, others to compare."""

    def point(name: str, label: str = "") -> tuple[float, float, str]:
        row = measured.row(name, CLASSIFIER)
        return row["psnr"], row["success"], label

    weights = measured.settings.penalty_weights
    curve = [point(f"adversary-{CLASSIFIER}-weight{w:g}", f"weight {w:g}") for w in weights]
    others = ("sign noise", "fgsm", "pgd", "universal")
    return {
        "adversary, penalty on L2": [point("image", "weight 0"), *curve],
        **{LABELS[name]: [point(name)] for name in others},
    }


def goals(measured: Measurements, class_index: int) -> pd.DataFrame:
    """Success of making a class appear where it is not, and vanish where it is: noise, PGD, adversary."""
    rows: dict[str, dict] = {LABELS["sign noise"]: {}, LABELS["pgd"]: {}, "adversary": {}}
    for goal in ("appear", "vanish"):
        names = ("sign noise", "pgd", f"adversary-{CLASSIFIER}-{goal}")
        for name, row in zip(names, rows.values(), strict=True):
            found = measured.row(name, CLASSIFIER, goal=goal, class_index=class_index)
            row |= {f"{goal}: success": found["success"], f"{goal}: PSNR (dB)": found["psnr"]}
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
    shown = {LABELS["sign noise"]: measured.perturbed("sign noise", CLASSIFIER)[index]}
    named = [(name, victim) for victim in measured.victims for name in ("universal", "image")]
    for name, victim in [("fgsm", CLASSIFIER), *named]:
        shown[f"{LABELS[name]}\n(on the {victim})"] = measured.perturbed(name, victim)[index]
    return shown


def defence(measured: Measurements, defended: Network, own: Adversary) -> dict[str, dict[str, float]]:
    """Victim -> attack -> share of images whose top class is right; the last attack knows the victim."""
    before, first = measured.victims[CLASSIFIER], measured.attack("image", CLASSIFIER)
    result = {}
    for title, victim, adversary in (
        ("as trained", before, first),
        ("adversarially fine-tuned", defended, own),
    ):
        attacks = {"sign noise": Noise(), "first adversary": first, "own adversary": adversary}
        attacks |= {"FGSM": FGSM(), "PGD": PGD()}
        under = {n: measured.against(victim, n, attack)["accuracy"] for n, attack in attacks.items()}
        result[title] = {"no attack": measured.clean(victim)["accuracy"], **under}
    return result
