"""Notebook 03: who is attacked, and how the adversary and the defence are trained."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from voclab.attacks import FGSM, PGD, AdversarialPerturbation, AdversarialTraining, Attack, Network, Noise
from voclab.attacks.adversary import MODEL
from voclab.data.base import Dataset
from voclab.errors import VoclabError
from voclab.evaluation import open_network
from voclab.experiments import classification, segmentation
from voclab.experiments.common import Profile, Sets
from voclab.models.pretrained import Weights
from voclab.terminal import say
from voclab.training import Experiment, Parts, Recipe, Run
from voclab.training.experiment import run_chain

# Runs of notebooks 01 and 02 that no adversary is trained on, to see what transfers.
OTHER_CLASSIFIERS, OTHER_SEGMENTERS = ("scratch-augmented", "head"), ("encoder-both",)
CLASSIFIER, SEGMENTER, DEFENDED = "classifier", "segmenter", "defended"
ADVERSARY = "adversary"


def _attacks() -> dict[str, Attack]:
    return {
        "sign noise": Noise(),
        "FGSM": FGSM(),
        "PGD, 2 steps": PGD(steps=2, step=0.5, random_start=False),
        "PGD": PGD(),
        # It is meant for transfer, so it does not stop at its first success.
        "momentum PGD": PGD(steps=10, step=0.25, momentum=1.0, random_start=False, early_stop=False),
    }


@dataclass(slots=True)
class Settings:
    """Sizes and lengths of notebook 03.

    Attributes:
        classifier: run of notebook 01 that is attacked.
        segmenter: run of notebook 02 that is attacked.
        size: side of the images that are attacked, pixels.
        trained_size: of those that the adversary is trained on; small ones allow more steps.
        width: channels of the generator's decoders at their coarsest.
        batch_size: images a step.
        epochs: training of the adversary.
        learning_rate: its peak learning rate.
        kappa: width of the classifier's hinge, logits.
        aimed: share of the training images for which a class shall appear or vanish.
        handled: share of the perturbed training images that are handled before the victims see them.
        weight: of the penalty on the size of the perturbation.
        epsilons: bounds that attacks are measured at, steps of 1/255; that of the notebook joins them.
        attacks: name -> noise or gradient attack that is measured; every table and figure has them all.
        images: test images that attacks are measured on, and the part of them for other bounds, transfer and
            handling; 0 for all.
        pgd_images: images that attacks of several steps on a segmenter are measured on, at the bound of the
            notebook and at others; 0 for all.
        defence_epochs: adversarial fine-tuning of the classifier.
        defence_learning_rate: its peak learning rate.
        defence_steps: PGD steps inside it.
    """

    classifier: str = "finetuned-augmented"
    segmenter: str = "deeplab-tuned"
    size: int = 96
    trained_size: int = 64
    width: int = 64
    batch_size: int = 8
    epochs: int = 8
    learning_rate: float = 3e-3
    kappa: float = 6.0
    aimed: float = 0.25
    handled: float = 0.5
    weight: float = 0.01
    epsilons: tuple[float, ...] = (1, 2, 4, 8, 16)
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
    trained_size=224,
    width=128,
    epochs=30,
    images=(0, 0),
    pgd_images=(144, 48),
    defence_epochs=10,
    defence_learning_rate=1e-4,
)
_SETS = Sets(
    smoke=replace(
        _DRAWN,
        size=48,
        trained_size=48,
        width=16,
        epochs=1,
        epsilons=(2, 4, 8),
        images=(16, 16),
        pgd_images=(8, 8),
        defence_epochs=1,
    ),
    demo=(_DRAWN, _PHOTOGRAPHS),
    full=(
        replace(
            _DRAWN,
            size=128,
            trained_size=128,
            width=128,
            batch_size=16,
            epochs=40,
            images=(0, 0),
            pgd_images=(0, 96),
            defence_epochs=15,
            defence_steps=4,
        ),
        replace(
            _PHOTOGRAPHS,
            classifier="finetuned-augmented",
            batch_size=16,
            epochs=60,
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


def generator(settings: Settings, seed: int, victims: Iterable[str]) -> Experiment:
    """The one adversary of notebook 03: for every bound, goal and victim.

    Args:
        settings: sizes and lengths.
        seed: of its training.
        victims: names of the networks to fool.
    """
    s = settings
    task = AdversarialPerturbation(
        tuple(victims), aimed=s.aimed, handled=s.handled, kappa=s.kappa, weight=s.weight, looked_at=s.size
    )
    recipe = Recipe(
        s.trained_size,
        "standard",
        s.epochs,
        s.learning_rate,
        batch_size=s.batch_size,
        weight_decay=0.0,
        warmup=0.5,
        patience=s.epochs + 1,  # with a cosine to zero the last epochs are the good ones
        seed=seed,
    )
    return Experiment(ADVERSARY, task, MODEL, recipe, options={"width": s.width})


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


def adaptive(settings: Settings, seed: int) -> Experiment:
    """The same adversary, trained anew on the network :data:`DEFENDED` and with its encoder, as long."""
    return replace(generator(settings, seed, (DEFENDED,)), name=f"{ADVERSARY}-{DEFENDED}")


def rarest_common_class(labels: np.ndarray, least: float = 0.05) -> int:
    """The class that fewest images show, of those that at least a share ``least`` of them shows."""
    share = np.asarray(labels).mean(0)
    candidates = np.where(share >= min(least, share.max()), share, np.inf)
    return int(candidates.argmin())
