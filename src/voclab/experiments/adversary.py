"""Notebook 03: who is attacked, and which adversaries are trained."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from voclab.attacks import FGSM, PGD, AdversarialPerturbation, AdversarialTraining, Attack, Network, Noise
from voclab.data.base import Dataset
from voclab.errors import VoclabError
from voclab.evaluation import open_network
from voclab.experiments import classification, segmentation
from voclab.experiments.common import Profile, Sets
from voclab.models.pretrained import Weights
from voclab.terminal import say
from voclab.training import Experiment, Parts, Recipe, Run
from voclab.training.experiment import run_chain

# Side of the patterns, pixels. As large as the image they are learnt more slowly: 64 px are repeated a dozen
# times at 224 px, and each repetition is a sample of the gradient.
_TILE = 64
# Runs of notebooks 01 and 02 that no adversary is trained on, to see what transfers.
OTHER_CLASSIFIERS, OTHER_SEGMENTERS = ("scratch-augmented", "head"), ("encoder-both",)
CLASSIFIER, SEGMENTER, BOTH, DEFENDED = "classifier", "segmenter", "both", "defended"


def _attacks() -> dict[str, Attack]:
    return {
        "uniform noise": Noise(kind="uniform"),
        "sign noise": Noise(),
        "FGSM": FGSM(),
        "PGD": PGD(),
        "momentum PGD": PGD(momentum=1.0, random_start=False),
    }


@dataclass(slots=True)
class Settings:
    """Sizes and lengths of notebook 03.

    Attributes:
        classifier: run of notebook 01 that is attacked.
        segmenter: run of notebook 02 that is attacked.
        size: side of the images that are attacked, pixels.
        width: channels of the generator's first convolution.
        blocks: its residual blocks.
        patterns: learnt patterns that it mixes.
        batch_size: images a step.
        universal_epochs: training of the universal perturbations, from which the others start, one number a
            classifier, segmenter.
        universal_learning_rate: their peak learning rate.
        epochs: training of the image-dependent adversaries, one number a classifier, segmenter, both.
        cycles: how often in a row the classifier's one is trained, each time with a cosine of its own;
            after the first at 0.3 of the rate.
        learning_rate: their peak learning rate.
        kappa: width of the classifiers' hinge, logits.
        goal_epochs: training of those that make a class appear or vanish.
        penalty_weights: weights of the L2 penalty for the trade-off curve, beside 0.
        penalty_epochs: training at each weight, from the adversary without penalty.
        epsilons: bounds that attacks are measured at, steps of 1/255; 8, the one trained at, is among them.
        attacks: name -> noise or gradient attack that is measured; every table and figure has them all.
        images: test images that attacks are measured on, and the part of them for other bounds, transfer and
            handling; 0 for all.
        pgd_images: images that attacks of several steps on a segmenter are measured on, at the bound trained
            at and at other bounds; 0 for all.
        defence_epochs: adversarial fine-tuning of the classifier.
        defence_learning_rate: its peak learning rate.
        defence_steps: PGD steps inside it.
    """

    classifier: str = "finetuned-augmented"
    segmenter: str = "deeplab-tuned"
    size: int = 96
    width: int = 24
    blocks: int = 3
    patterns: int = 8
    batch_size: int = 16
    universal_epochs: tuple[int, int] = (6, 5)
    universal_learning_rate: float = 1e-2
    epochs: tuple[int, int, int] = (6, 3, 3)
    cycles: int = 1
    learning_rate: float = 1e-3
    kappa: float = 15.0
    goal_epochs: int = 2
    penalty_weights: tuple[float, ...] = (4.0, 16.0)
    penalty_epochs: int = 1
    epsilons: tuple[int, ...] = (2, 4, 8, 16)
    attacks: dict[str, Attack] = field(default_factory=_attacks)
    images: tuple[int, int] = (200, 100)
    pgd_images: tuple[int, int] = (32, 16)
    defence_epochs: int = 3
    defence_learning_rate: float = 3e-4
    defence_steps: int = 2


_DRAWN = Settings()
_PHOTOGRAPHS = Settings(
    classifier="head",
    size=224,
    width=32,
    blocks=4,
    universal_epochs=(40, 16),
    universal_learning_rate=3e-3,
    epochs=(20, 6, 6),
    cycles=2,
    kappa=6.0,
    goal_epochs=6,
    penalty_epochs=4,
    penalty_weights=(1.0, 4.0, 16.0),
    images=(0, 0),
    pgd_images=(144, 48),
    defence_learning_rate=1e-4,
)
_SETS = Sets(
    smoke=replace(
        _DRAWN,
        size=48,
        width=8,
        blocks=1,
        universal_epochs=(1, 1),
        epochs=(1, 1, 1),
        goal_epochs=1,
        penalty_weights=(4.0,),
        penalty_epochs=1,
        epsilons=(4, 8),
        images=(16, 16),
        pgd_images=(8, 8),
        defence_epochs=1,
    ),
    demo=(_DRAWN, _PHOTOGRAPHS),
    full=(
        replace(
            _DRAWN,
            size=128,
            width=32,
            universal_epochs=(20, 20),
            epochs=(30, 20, 20),
            goal_epochs=8,
            penalty_epochs=5,
            penalty_weights=(1.0, 4.0, 16.0),
            images=(0, 0),
            pgd_images=(0, 96),
            defence_epochs=15,
            defence_steps=4,
        ),
        replace(
            _PHOTOGRAPHS,
            classifier="finetuned-augmented",
            epochs=(120, 80, 80),
            goal_epochs=40,
            penalty_epochs=20,
            defence_epochs=20,
            defence_steps=4,
        ),
    ),
)


def settings(profile: Profile) -> Settings:
    """The settings of a profile: a copy, to be changed (``settings.epochs = 20``)."""
    chosen = _SETS.of(profile)
    return replace(chosen, attacks=dict(chosen.attacks))


def victims(
    settings: Settings,
    profile: Profile,
    weights: Weights,
    seed: int,
    data: Parts,
    folder: Path,
    **options,
) -> dict[str, Network]:
    """The classifier of notebook 01 and, where there are masks, the segmenter of notebook 02.

    Their runs are read back; what is missing is trained now, with the settings of those notebooks.

    Args:
        settings: name them.
        profile: of those notebooks.
        weights: that they are pretrained on.
        seed: of their training.
        data: that they are trained, chosen and measured on.
        folder: of the runs.
        options: ``cache_mb`` and ``progress``, see :func:`voclab.training.experiment.run`.
    """
    known = {e.name: e for e in classification.experiments(classification.settings(profile), weights, seed)}
    run = run_chain(settings.classifier, known, data, folder, **options)
    thresholds = run.predictions()["thresholds"]
    found = {CLASSIFIER: Network(run.load_model(), data.fit.task, CLASSIFIER, thresholds)}
    if data.fit.has_masks:
        known = {e.name: e for e in segmentation.experiments(segmentation.settings(profile), weights, seed)}
        run = run_chain(settings.segmenter, known, data, folder, **options)
        found[SEGMENTER] = Network(run.load_model(), "segmentation", SEGMENTER)
    return found


def others(folder: Path, dataset: Dataset, progress: Callable[[str], None] = say) -> dict[str, Network]:
    """Further networks that notebooks 01 and 02 left in ``folder``, by what people call them.

    Args:
        folder: of the runs.
        dataset: has the classes that a network must have; one of others is left out, and progress says why.
        progress: receives lines of text.
    """
    found = {}
    for module, names in ((classification, OTHER_CLASSIFIERS), (segmentation, OTHER_SEGMENTERS)):
        for name in names:
            run = Run(folder / name)
            if not run.complete:
                continue
            title = module.label(name)
            try:
                network = open_network(run.folder, dataset, progress=progress)
            except VoclabError as error:
                progress(f"{title} is left out: {error}")
            else:
                found[title] = replace(network, name=title)
    return found


def experiments(
    settings: Settings, weights: Weights, seed: int, segmenter: bool, class_index: int, epsilon: float = 8
) -> list[Experiment]:
    """All adversaries of notebook 03, those that others start from first.

    Args:
        settings: sizes and lengths.
        weights: what the frozen part of their encoder is pretrained on.
        seed: of all of them.
        segmenter: whether there is one.
        class_index: class that shall appear and vanish, an index of the class names.
        epsilon: bound that they are trained at, steps of 1/255.
    """
    s = settings

    def recipe(epochs: int, learning_rate: float) -> Recipe:
        return Recipe(
            s.size,
            "standard",
            epochs,
            learning_rate,
            batch_size=s.batch_size,
            weight_decay=0.0,
            patience=epochs + 1,  # with a cosine to zero the last epochs are the good ones
            seed=seed,
        )

    universal = Experiment(
        f"adversary-{CLASSIFIER}-universal",
        AdversarialPerturbation((CLASSIFIER,), epsilon / 255, kappa=s.kappa),
        "universal",
        recipe(s.universal_epochs[0], s.universal_learning_rate),
        options={"tile": _TILE},
    )
    image = replace(
        universal,
        model="image",
        backbone=weights.backbone,
        weights=weights.value,
        options={
            "width": s.width,
            "blocks": s.blocks,
            "patterns": s.patterns,
            "tile": _TILE,
        },
    )
    listed = [universal]
    start = universal.name
    for cycle in range(1, s.cycles + 1):
        name = f"adversary-{CLASSIFIER}" + (f"-cycle{cycle}" if cycle < s.cycles else "")
        # At the first rate, a later cycle would first undo what the one before has reached.
        rate = s.learning_rate if cycle == 1 else 0.3 * s.learning_rate
        listed.append(replace(image, name=name, recipe=recipe(s.epochs[0], rate), start=start))
        start = name
    of_classifier = listed[-1]
    if segmenter:
        first = replace(
            universal,
            name=f"adversary-{SEGMENTER}-universal",
            task=replace(universal.task, victims=(SEGMENTER,)),
            recipe=recipe(s.universal_epochs[1], s.universal_learning_rate),
        )
        listed += [
            first,
            replace(
                image,
                name=f"adversary-{SEGMENTER}",
                task=first.task,
                recipe=recipe(s.epochs[1], s.learning_rate),
                start=first.name,
            ),
            replace(
                image,
                name=f"adversary-{BOTH}",
                task=replace(image.task, victims=(CLASSIFIER, SEGMENTER)),
                recipe=recipe(s.epochs[2], s.learning_rate),
                start=universal.name,
            ),
        ]
    for goal in ("appear", "vanish"):
        listed.append(
            replace(
                image,
                name=f"adversary-{CLASSIFIER}-{goal}",
                task=replace(image.task, goal=goal, class_index=class_index),
                recipe=recipe(s.goal_epochs, s.learning_rate),
                start=universal.name,
            )
        )
    for weight in s.penalty_weights:
        listed.append(
            replace(
                image,
                name=f"adversary-{CLASSIFIER}-weight{weight:g}",
                task=replace(image.task, weight=weight),
                recipe=recipe(s.penalty_epochs, s.learning_rate),
                start=of_classifier.name,
            )
        )
    return listed


def defended(settings: Settings, seed: int, epsilon: float = 8) -> Experiment:
    """The classifier fine-tuned adversarially, at a bound in steps of 1/255."""
    s = settings
    task = AdversarialTraining(epsilon=epsilon / 255, steps=s.defence_steps, clean=True, images=0)
    recipe = Recipe(
        s.size,
        "standard",
        s.defence_epochs,
        s.defence_learning_rate,
        batch_size=s.batch_size,
        patience=999,
        seed=seed,
    )
    return Experiment("hardened", task, CLASSIFIER, recipe)


def adaptive(settings: Settings, adversaries: Sequence[Experiment]) -> Experiment:
    """The adversary of the classifier, trained through the network :data:`DEFENDED` from the same start."""
    first = next(e for e in adversaries if e.name == f"adversary-{CLASSIFIER}")
    return replace(
        first,
        name=f"adversary-{DEFENDED}",
        task=replace(first.task, victims=(DEFENDED,)),
        recipe=replace(first.recipe, epochs=settings.goal_epochs),
    )


def rarest_common_class(labels: np.ndarray, least: float = 0.05) -> int:
    """The class that fewest images show, of those that at least a share ``least`` of them shows."""
    share = np.asarray(labels).mean(0)
    candidates = np.where(share >= min(least, share.max()), share, np.inf)
    return int(candidates.argmin())


def run_label(name: str) -> str:
    """What people call an adversary by the name of its run."""
    parts = name.removeprefix("adversary-").split("-", 1)
    return f"on {parts[0]}" + (f", {parts[1].replace('weight', 'weight ')}" if len(parts) > 1 else "")
