"""One classifier by name on one data set: what ``voclab train`` does."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import keras
import numpy as np

from voclab.attacks import PGD, Bench, Network
from voclab.attacks.defence import AdversariallyTrained
from voclab.data import find, load, test_split
from voclab.data.base import Dataset
from voclab.data.batches import DecodedCache, evaluation_batches
from voclab.data.splits import fit_validation
from voclab.errors import VoclabError
from voclab.experiments.plan import Plan, checked
from voclab.metrics import mean_average_precision, single_label_report
from voclab.models import zoo
from voclab.models.catalogue import BACKBONES, ZOO, require_width
from voclab.models.classifiers import build_classifier, predict, start_from_prior
from voclab.terminal import say
from voclab.training import Recipe, Run, train
from voclab.training.identity import data_digest, known_by, weights_digest

SMALL = 64  # pixels: images up to this side are shifted and flipped, larger ones cropped at random scale
_ENLARGED = 96  # pixels: what small images become for a backbone of images
_ROBUST_IMAGES = 256  # validation images that adversarial training is scored on after each epoch


def train_classifier(plan: Plan, name: str, runs: Path, progress: Callable[[str], None] = say) -> Run:
    """Train as planned; the epoch that is best on validation images is kept and measured on the test set.

    A complete run of the same plan on the same data is returned as it is; an interrupted one goes on.

    Args:
        plan: what to train.
        name: folder of the run.
        runs: parent folder of the runs.
        progress: receives lines of text.

    Returns:
        The complete :class:`Run`. An entry of its history has ``loss``, ``validation_loss``, ``accuracy`` (of
        the top class), ``training_accuracy`` (of some training images, whole and clean) and ``map``
        (multi-label) or ``robust`` (adversarial training: accuracy under PGD); its metrics ``validation``
        and ``test`` figures, ``seconds`` and ``parameters``; its predictions are the logits of both parts.

    Raises:
        VoclabError: an option without sense, data or weights that cannot be had.
    """
    plan = checked(plan)
    found = find(plan.dataset)
    whole = load(found.name, found.root, "train")
    test_set = load(found.name, found.root, test_split(found.name))
    if whole.labels is None:
        raise VoclabError(f"{found.name} in {found.root} has no labels to train on; name other data.")
    fit_set, validation = fit_validation(whole, plan.validation, plan.seed)
    recipe = recipe_of(plan, fit_set)
    run = Run(runs / name)
    config = {
        "plan": asdict(plan),
        "recipe": recipe,
        "task": whole.task,
        "class_names": whole.class_names,
        "weights": weights_digest(plan.weights),
        "data": data_digest(fit_set, validation, test_set),
    }
    files, figures = (
        ("history.json", "model.keras", "predictions.npz"),
        ("validation", "seconds", "parameters"),
    )
    if not run.begin(known_by(config, _fit), files=files, figures=figures, progress=progress):
        _fit(plan, recipe, fit_set, validation, test_set, run, progress)
    return run


def _fit(plan: Plan, recipe: Recipe, fit_set, validation, test_set, run: Run, progress) -> None:
    """Train, then score on the test images: what a run consists of, once its data are read."""
    name = run.name
    model = _build(plan, recipe, fit_set)
    multilabel = fit_set.task == "multilabel"
    losses = keras.losses.BinaryCrossentropy if multilabel else keras.losses.CategoricalCrossentropy
    adversarial = plan.augmentation == "adversarial"
    trained = model
    if adversarial:
        trained = AdversariallyTrained(model.inputs[0], model.outputs[0], name=model.name)
        trained.arm(fit_set.task, plan.epsilon / 255, plan.steps, clean=False)
    monitor = "robust" if adversarial else "map" if multilabel else "accuracy"
    train(
        trained,
        fit_set,
        loss=losses(from_logits=True),
        recipe=recipe,
        run=run,
        score=_Score(plan, recipe, fit_set, validation, robust=adversarial),
        monitor=monitor,
        cache=DecodedCache(fit_set, longest_side=3 * recipe.size),
        progress=progress,
    )
    if adversarial:
        run.save_model(model)  # shares the layers, so that loading it takes no attack
    figures = {"validation": max(run.history, key=lambda entry: entry[monitor])}
    logits = {"validation": _answers(model, recipe, validation), "test": _answers(model, recipe, test_set)}
    run.save_predictions(**logits)
    if test_set.labels is not None:
        figures["test"] = _figures(logits["test"], test_set)
    seconds = sum(entry.get("seconds", 0.0) for entry in run.history)
    run.finish({**figures, "seconds": round(seconds, 1), "parameters": int(model.count_params())})
    shown = figures.get("test", figures["validation"])
    told = ", ".join(f"{k} {v:.3f}" for k, v in shown.items() if k in ("accuracy", "map"))
    progress(f"{name}: {told} on {test_set.split if 'test' in figures else 'validation'}, {seconds:.0f} s")


def recipe_of(plan: Plan, fit_set: Dataset) -> Recipe:
    """The recipe of a plan; size, rate and policy follow the images where the plan leaves them open."""
    side = max(fit_set.image(0).shape[:2])
    size = plan.size or (side if side <= SMALL else 128)
    augmentation = "standard" if plan.augmentation == "adversarial" else plan.augmentation
    if size <= SMALL and augmentation != "none":
        augmentation = {"standard": "cifar", "advanced": "cifar-advanced"}[augmentation]
    usual = 0.1 if plan.optimizer == "sgd" else 1e-4 if plan.weights else 1e-3
    return Recipe(
        size,
        augmentation,
        plan.epochs,
        plan.learning_rate or usual,
        batch_size=plan.batch_size,
        weight_decay=plan.weight_decay,
        patience=plan.patience,
        seed=plan.seed,
        optimizer=plan.optimizer,
        momentum=plan.momentum,
        smoothing=plan.smoothing,
        mixup=plan.mixup,
    )


def _build(plan: Plan, recipe: Recipe, fit_set: Dataset) -> keras.Model:
    keras.utils.set_random_seed(recipe.seed)
    model = network(plan, recipe.size, len(fit_set.class_names))
    if fit_set.task == "multilabel":
        start_from_prior(model, fit_set.labels)
    return model


def network(plan: Plan, size: int, classes: int) -> keras.Model:
    """The classifier of a plan before training.

    Args:
        plan: names the model, its width, its weights and its dropout.
        size: side of the images, pixels.
        classes: number of logits.

    Raises:
        VoclabError: a width where there is none to choose, or weights that cannot be had.
    """
    options = {"weights": plan.weights, "dropout": plan.dropout}
    # Images are large enough as they are; only small images are enlarged for a network made for images.
    small = size <= SMALL
    if plan.model in ZOO:
        return zoo.build(plan.model, classes, width=plan.width, resize=None if small else size, **options)
    require_width(plan.model, plan.width)
    enlarged = small and BACKBONES[plan.model].min_size > 1
    return build_classifier(plan.model, classes, resize=_ENLARGED if enlarged else None, **options)


class _Score:
    """Figures on the validation images after each epoch, and on some of those it is trained on."""

    def __init__(self, plan: Plan, recipe: Recipe, fit_set: Dataset, validation: Dataset, robust: bool):
        self.plan, self.recipe, self.validation = plan, recipe, validation
        self.seen = fit_set.spread(len(validation))
        self.kept = {
            part: DecodedCache(part, longest_side=2 * recipe.size) for part in (validation, self.seen)
        }
        self.bench = Bench(validation.spread(_ROBUST_IMAGES), recipe.size) if robust else None

    def __call__(self, model: keras.Model) -> dict[str, float]:
        answers = {part: _answers(model, self.recipe, part, kept) for part, kept in self.kept.items()}
        figures = _figures(answers[self.validation], self.validation)
        figures["validation_loss"] = figures.pop("loss")
        figures["training_accuracy"] = _figures(answers[self.seen], self.seen)["accuracy"]
        if self.bench is not None:
            victim = Network(model, self.validation.task, "the network in training")
            attack = PGD(objective="cross_entropy", steps=5, step=0.3)
            images, _ = self.bench.attack(attack, victim, self.plan.epsilon / 255)
            figures["robust"] = self.bench.effect(victim, images)["accuracy"]
        return figures


def _answers(model, recipe: Recipe, dataset: Dataset, kept: DecodedCache | None = None) -> np.ndarray:
    """(n, classes) logits of one look at each whole image."""
    batches = evaluation_batches(dataset, recipe.size, recipe.batch_size, kept)
    return np.concatenate([predict(model, pixels, recipe.batch_size) for pixels in batches])


def _figures(logits: np.ndarray, dataset: Dataset) -> dict[str, float]:
    """Loss, accuracy and what else the task has."""
    z, labels = logits.astype(np.float64), dataset.labels
    top = z.argmax(1)
    right = labels[np.arange(len(z)), top] > 0
    if dataset.task == "multilabel":
        loss = (np.logaddexp(0, z) - labels * z).mean()
        return {"loss": float(loss), "accuracy": float(right.mean())} | {
            "map": mean_average_precision(labels, logits)
        }
    loss = (np.logaddexp.reduce(z, axis=1) - z[labels > 0]).mean()
    report = single_label_report(labels.argmax(1), top, labels.shape[1])
    macro = {key: report[f"{key}_macro"] for key in ("precision", "recall", "f1")}
    return {"loss": float(loss), "accuracy": report["accuracy"], **macro}
