"""Notebook 03: who is attacked, and which adversaries are trained."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from voclab.attacks import Experiment, Network
from voclab.config import Profile
from voclab.data.base import Dataset
from voclab.errors import VoclabError
from voclab.evaluation import open_network
from voclab.experiments import classification, segmentation
from voclab.models.pretrained import Weights
from voclab.terminal import say
from voclab.training import Parts, Recipe, Run
from voclab.training.experiment import run_chain

# Side of the patterns, pixels. As large as the image they are learnt more slowly: 64 px are repeated a dozen
# times at 224 px, and each repetition is a sample of the gradient.
_TILE = 64
# Runs of notebooks 01 and 02 that no adversary is trained on, to see what transfers.
OTHER_CLASSIFIERS, OTHER_SEGMENTERS = ("scratch-augmented", "head"), ("encoder-both",)
CLASSIFIER, SEGMENTER, BOTH = "classifier", "segmenter", "both"


def victims(
    profile: Profile,
    weights: Weights,
    seed: int,
    data: Parts,
    folder: Path,
    *,
    progress: Callable[[str], None] = say,
) -> dict[str, Network]:
    """The classifier of notebook 01 and, where there are masks, the segmenter of notebook 02.

    Their runs are read back; what is missing is trained now, with the settings of those notebooks.

    Args:
        profile: names them.
        weights: that they are pretrained on.
        seed: of their training.
        data: that they are trained, chosen and measured on.
        folder: of the runs.
        progress: receives lines of text.
    """
    options = {"cache_mb": profile.cache_mb, "progress": progress}
    known = {e.name: e for e in classification.experiments(profile, weights, seed)}
    run = run_chain(profile.adversary.classifier, known, data, folder, **options)
    thresholds = run.predictions()["thresholds"]
    found = {CLASSIFIER: Network(run.load_model(), data.fit.task, CLASSIFIER, thresholds)}
    if data.fit.has_masks:
        known = {e.name: e for e in segmentation.experiments(profile, weights, seed)}
        run = run_chain(profile.adversary.segmenter, known, data, folder, **options)
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
    profile: Profile, weights: Weights, seed: int, segmenter: bool, k: int, epsilon: float = 8
) -> list[Experiment]:
    """All adversaries of notebook 03, those that others start from first.

    Args:
        profile: sizes and lengths.
        weights: what the frozen part of their encoder is pretrained on.
        seed: of all of them.
        segmenter: whether there is one.
        k: class that shall appear and vanish, an index of the class names.
        epsilon: bound that they are trained at, steps of 1/255.
    """
    p = profile.adversary
    options = {"width": p.width, "blocks": p.blocks, "patterns": p.patterns, "tile": _TILE}
    common = {"backbone": weights.backbone, "weights": weights.value, "options": options, "kappa": p.kappa}

    def recipe(epochs: int, learning_rate: float) -> Recipe:
        return Recipe(
            p.size,
            "standard",
            epochs,
            learning_rate,
            batch_size=p.batch_size,
            weight_decay=0.0,
            patience=epochs + 1,  # with a cosine to zero the last epochs are the good ones
            seed=seed,
        )

    listed = []
    for name, attacked, epochs, first_epochs in zip(
        (CLASSIFIER, SEGMENTER, BOTH),
        ((CLASSIFIER,), (SEGMENTER,), (CLASSIFIER, SEGMENTER)),
        p.epochs,
        (*p.universal_epochs, None),
        strict=True,
    ):
        if not segmenter and name != CLASSIFIER:
            continue
        if name != BOTH:
            first = recipe(first_epochs, p.universal_learning_rate)
            universal = Experiment(f"adversary-{name}-universal", attacked, first, epsilon / 255)
            listed.append(replace(universal, mode="universal", kappa=p.kappa, options={"tile": _TILE}))
        start = f"adversary-{CLASSIFIER if name == BOTH else name}-universal"
        cycles = p.cycles if name == CLASSIFIER else 1
        for cycle in range(1, cycles + 1):
            this = f"adversary-{name}" + (f"-cycle{cycle}" if cycle < cycles else "")
            # At the first rate, a later cycle would first undo what the one before has reached.
            plan = recipe(epochs, p.learning_rate if cycle == 1 else 0.3 * p.learning_rate)
            listed.append(Experiment(this, attacked, plan, epsilon / 255, start=start, **common))
            start = this
    of_classifier = next(e for e in listed if e.name == f"adversary-{CLASSIFIER}")
    for goal in ("appear", "vanish"):
        listed.append(
            replace(
                of_classifier,
                name=f"adversary-{CLASSIFIER}-{goal}",
                recipe=recipe(p.goal_epochs, p.learning_rate),
                start=f"adversary-{CLASSIFIER}-universal",
                goal=goal,
                k=k,
            )
        )
    for weight in p.penalty_weights:
        listed.append(
            replace(
                of_classifier,
                name=f"adversary-{CLASSIFIER}-weight{weight:g}",
                recipe=recipe(p.penalty_epochs, p.learning_rate),
                weight=weight,
                start=of_classifier.name,
            )
        )
    return listed


def rarest_common_class(labels: np.ndarray, least: float = 0.05) -> int:
    """The class that fewest images show, of those that at least a share ``least`` of them shows."""
    share = np.asarray(labels).mean(0)
    candidates = np.where(share >= min(least, share.max()), share, np.inf)
    return int(candidates.argmin())


def run_label(name: str) -> str:
    """What people call an adversary by the name of its run."""
    parts = name.removeprefix("adversary-").split("-", 1)
    return f"on {parts[0]}" + (f", {parts[1].replace('weight', 'weight ')}" if len(parts) > 1 else "")


def defence_recipe(profile: Profile, seed: int) -> Recipe:
    """How the classifier is fine-tuned adversarially."""
    p = profile.adversary
    return Recipe(
        p.size,
        "standard",
        p.defence_epochs,
        p.defence_learning_rate,
        batch_size=p.batch_size,
        patience=999,
        seed=seed,
    )
