"""One training by name, as `voclab train` is asked for it: options and data in, a run out."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from voclab.attacks import AdversarialPerturbation, AdversarialTraining
from voclab.attacks.adversary import MODEL
from voclab.data import find, load, test_split
from voclab.data.base import Dataset
from voclab.data.splits import fit_validation
from voclab.evaluation import open_network
from voclab.models.network import Network
from voclab.models.prediction import TestTime
from voclab.terminal import say
from voclab.training import Experiment, Parts, Recipe, Run, run_all
from voclab.training.classification import SMALL, Classification
from voclab.training.experiment import Work, run
from voclab.training.segmentation import Segmentation
from voclab.training.self_supervised import SimSiam

VICTIM = "victim"
_SMALL_IMAGES = {"standard": "cifar", "advanced": "cifar-advanced"}


def trained(
    asked: Mapping[str, Any],
    name: str,
    runs: Path,
    progress: Callable[[str], None] = say,
    data: Parts | None = None,
    *,
    tensorboard: bool = False,
) -> Run:
    """Train what was asked for; the epoch that is best on validation images is measured on the test set.

    A complete run of the same experiment on the same data is returned as it is; an interrupted one goes on.

    Args:
        asked: what :func:`voclab.experiments.options.asked` gives.
        name: folder of the run.
        runs: parent folder of the runs.
        progress: receives lines of text.
        data: what :func:`parts` gives; without it, it is read.
        tensorboard: see :func:`voclab.training.experiment.run`.

    Raises:
        VoclabError: data, weights or a victim that cannot be had, or data that cannot teach the task.
    """
    data = data or parts(asked)
    networks = victims(asked, data, progress)
    experiment = planned(asked, name, data.fit, networks.get(VICTIM))
    how: dict[str, Any] = {"asked": asked, "progress": progress, "tensorboard": tensorboard}
    return run(experiment, data, runs, networks=networks, **how)


def validation_score(asked: Mapping[str, Any], data: Parts, run: Run) -> tuple[str, float]:
    """Name and best value of the validation figure that chose the epoch of a complete run."""
    experiment = planned(asked, run.name, data.fit)
    monitor = experiment.task.monitor(Work(experiment, data, run))
    return monitor, max(entry[monitor] for entry in run.history)


def trained_together(
    asked: Mapping[str, Mapping[str, Any]], runs: Path, progress: Callable[[str], None] = say
) -> dict[str, Run]:
    """:func:`trained` of several classifiers of the same data, see :func:`voclab.training.run_all`."""
    data = parts(next(iter(asked.values())))
    experiments = [planned(options, name, data.fit) for name, options in asked.items()]
    return run_all(experiments, data, runs, asked=asked, progress=progress)


def parts(asked: Mapping[str, Any]) -> Parts:
    """The data that was asked for; a part of its training images is kept for every choice."""
    found = find(asked["dataset"])
    training = load(found.name, found.root, "train")
    test = load(found.name, found.root, test_split(found.name))
    return Parts(*fit_validation(training, asked["validation"], asked["seed"]), test)


def victims(
    asked: Mapping[str, Any], data: Parts, progress: Callable[[str], None] = lambda line: None
) -> dict[str, Network]:
    """The network that an adversary attacks, under the name by which its task knows it; else nothing."""
    if asked["task"] != "adversary":
        return {}
    return {VICTIM: open_network(asked["victim"], data.fit, progress=progress)}


def planned(
    asked: Mapping[str, Any], name: str, fit_set: Dataset, victim: Network | None = None
) -> Experiment:
    """The experiment of some options; size, rate and augmentation follow the images where left open."""
    recipe = _recipe(asked, fit_set, victim)
    width = {} if asked["width"] is None else {"width": asked["width"]}
    if asked["task"] == "segmentation":
        task = Segmentation(TestTime((max(32, recipe.size),)))
        built_on = {"backbone": asked["backbone"], "weights": asked["weights"]}
        return Experiment(name, task, asked["model"], recipe, asked["loss"], **built_on, options=width)
    if asked["task"] == "adversary":
        return Experiment(name, AdversarialPerturbation((VICTIM,)), MODEL, recipe, options=width)
    if asked["task"] == "simsiam":
        return Experiment(name, SimSiam(), asked["model"], recipe, weights=asked["weights"], options=width)
    if asked["augmentation"] == "adversarial":
        task = AdversarialTraining(
            asked["dropout"], asked["epsilon"] / 255, asked["steps"], trades=asked["trades"]
        )
    else:
        task = Classification(asked["dropout"])
    return Experiment(name, task, asked["model"], recipe, weights=asked["weights"], options=width)


def _recipe(asked: Mapping[str, Any], fit_set: Dataset, victim: Network | None) -> Recipe:
    side = max(fit_set.image(0).shape[:2])
    size = asked["size"] or (victim and victim.size) or (side if side <= SMALL else 128)
    augmentation = asked.get("augmentation", "views")
    if augmentation == "adversarial":
        augmentation = "standard"
    if size <= SMALL:
        augmentation = _SMALL_IMAGES.get(augmentation, augmentation)
    pretrained = asked["task"] == "classification" and asked["weights"]
    usual = 0.1 if asked["optimizer"] == "sgd" else 1e-4 if pretrained else 1e-3
    kept = ("epochs", "batch_size", "weight_decay", "seed", "optimizer", "momentum")
    return Recipe(
        size,
        augmentation,
        learning_rate=asked["learning_rate"] or usual,
        smoothing=asked.get("smoothing", 0.0),
        mixup=asked.get("mixup", 0.0),
        average=asked.get("ema", 0.0),
        **{name: asked[name] for name in (*kept, "patience") if name in asked},
    )
