"""One classifier by name on one data set: what ``voclab train`` does."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import keras
import numpy as np

from voclab import __version__, datasets
from voclab.attacks import PGD, Bench, Victim
from voclab.attacks.defence import AdversariallyTrained
from voclab.datasets.base import Dataset
from voclab.datasets.splits import fit_validation
from voclab.errors import VoclabError
from voclab.files import read_json
from voclab.metrics import mean_average_precision, single_label_report
from voclab.models import zoo
from voclab.models.backbones import BACKBONES
from voclab.models.classifiers import build_classifier, predict, start_from_prior
from voclab.pipeline import DecodedCache, evaluation_batches
from voclab.terminal import say
from voclab.training import Recipe, Run, train
from voclab.training.identity import digest, weights_digest

AUGMENTATIONS = ("none", "standard", "advanced", "adversarial")
SMALL = 64  # pixels: pictures up to this side are shifted and flipped, larger ones cropped at random scale
_ENLARGED = 96  # pixels: what small pictures become for a backbone of photos
_ROBUST_PHOTOS = 256  # validation photos that adversarial training is scored on after each epoch


@dataclass(frozen=True)
class Plan:
    """Everything that decides a training; ``config.json`` of its run keeps it.

    Attributes:
        dataset: name or folder, as for :func:`voclab.datasets.find`.
        model: key of ``voclab.models.zoo.ZOO`` or of ``voclab.models.backbones.BACKBONES``.
        augmentations: one of :data:`AUGMENTATIONS`; ``adversarial`` is PGD adversarial training (Madry et al.
            2018) on standard augmentation.
        epochs: longest training.
        rate: peak learning rate; without it 1e-3 (AdamW), 1e-4 (AdamW from pretrained weights) or 0.1 (SGD).
        batch_size: images a step.
        size: side of the pictures, pixels; without it their own up to :data:`SMALL`, else 128.
        optimizer: ``"adam"`` or ``"sgd"``.
        momentum: of SGD.
        weight_decay: see :class:`voclab.training.Recipe`.
        dropout: before the last layer.
        smoothing: label smoothing.
        mixup: alpha of mixup, 0 for none.
        weights: ``None``, ``"imagenet"`` or a file with weights of the backbone.
        width: of the network, see :func:`voclab.models.zoo.build`.
        epsilon: L∞ bound of adversarial training, steps of 1/255.
        steps: PGD steps inside it.
        patience: epochs without a better validation score before training stops.
        validation: share of the training pictures that epochs are chosen on.
        seed: of everything.
    """

    dataset: str
    model: str
    augmentations: str = "standard"
    epochs: int = 20
    rate: float | None = None
    batch_size: int = 64
    size: int | None = None
    optimizer: str = "adam"
    momentum: float = 0.9
    weight_decay: float = 1e-4
    dropout: float = 0.2
    smoothing: float = 0.0
    mixup: float = 0.0
    weights: str | None = None
    width: float | None = None
    epsilon: float = 8.0
    steps: int = 4
    patience: int = 15
    validation: float = 0.1
    seed: int = 0

    @classmethod
    def read(cls, path: str | Path) -> "Plan":
        """The plan in a run's ``config.json``.

        Raises:
            VoclabError: no such file, or of another kind of run.
        """
        config = read_json(path)
        plan = config.get("plan") if isinstance(config, dict) else None
        known = {field.name for field in fields(cls)}
        if not isinstance(plan, dict) or not {"dataset", "model"} <= set(plan) <= known:
            raise VoclabError(f"{path} is not of a run of `voclab train`; name one that is.")
        return cls(**plan)


def train_classifier(plan: Plan, name: str, runs: Path, progress: Callable[[str], None] = say) -> Run:
    """Train as planned; the epoch that is best on validation pictures is kept and scored on held-out ones.

    A complete run of the same plan on the same data is returned as it is; an interrupted one goes on.

    Args:
        plan: what to train.
        name: folder of the run.
        runs: parent folder of the runs.
        progress: receives lines of text.

    Returns:
        The complete :class:`Run`. An entry of its history has ``loss``, ``validation_loss``, ``accuracy`` (of
        the top class), ``training_accuracy`` (of some training pictures, whole and clean) and ``map``
        (multi-label) or ``robust`` (adversarial training: accuracy under PGD); its metrics ``validation``
        and ``heldout`` figures, ``seconds`` and ``parameters``; its predictions are the logits of both parts.

    Raises:
        VoclabError: an option without sense, data or weights that cannot be had.
    """
    _check(plan)
    found = datasets.find(plan.dataset)
    whole = datasets.load(found.name, found.root, "train")
    heldout = datasets.load(found.name, found.root, datasets.heldout_split(found.name))
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
        "version": __version__,
        "data": {d.split: {"images": len(d), "digest": digest(d)} for d in (fit_set, validation, heldout)},
    }
    if run.begin(config):
        progress(f"{name}: complete, read from {run.folder}")
        return run
    model = _build(plan, recipe, fit_set)
    multilabel = whole.task == "multilabel"
    losses = keras.losses.BinaryCrossentropy if multilabel else keras.losses.CategoricalCrossentropy
    adversarial = plan.augmentations == "adversarial"
    trained = model
    if adversarial:
        trained = AdversariallyTrained(model.inputs[0], model.outputs[0], name=model.name)
        trained.arm(whole.task, plan.epsilon / 255, plan.steps, clean=False)
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
    logits = {"validation": _answers(model, recipe, validation), "heldout": _answers(model, recipe, heldout)}
    run.save_predictions(**logits)
    if heldout.labels is not None:
        figures["heldout"] = _figures(logits["heldout"], heldout)
    seconds = sum(entry.get("seconds", 0.0) for entry in run.history)
    run.finish({**figures, "seconds": round(seconds, 1), "parameters": int(model.count_params())})
    shown = figures.get("heldout", figures["validation"])
    told = ", ".join(f"{k} {v:.3f}" for k, v in shown.items() if k in ("accuracy", "map"))
    progress(f"{name}: {told} on {heldout.split if 'heldout' in figures else 'validation'}, {seconds:.0f} s")
    return run


def _check(plan: Plan) -> None:
    for option, value, allowed in (
        ("augmentations", plan.augmentations, AUGMENTATIONS),
        ("optimizer", plan.optimizer, ("adam", "sgd")),
        ("model", plan.model, (*zoo.ZOO, *(name for name in BACKBONES if name not in zoo.ZOO))),
    ):
        if value not in allowed:
            raise VoclabError(f"There is no {option} {value!r}; choose one of {', '.join(allowed)}.")
    for option, value, low, high in (
        ("epochs", plan.epochs, 0, np.inf),
        ("rate", 1e-3 if plan.rate is None else plan.rate, np.finfo(float).tiny, np.inf),
        ("batch-size", plan.batch_size, 1, np.inf),
        ("patience", plan.patience, 1, np.inf),
        ("label-smoothing", plan.smoothing, 0, 1),
        ("mixup", plan.mixup, 0, np.inf),
        ("dropout", plan.dropout, 0, 0.99),
        ("weight-decay", plan.weight_decay, 0, np.inf),
        ("epsilon", plan.epsilon, 0, 255),
        ("steps", plan.steps, 1, np.inf),
        ("size", 1 if plan.size is None else plan.size, 1, np.inf),
    ):
        if not low <= value <= high:
            raise VoclabError(f"--{option} is {value}; choose one from {low} to {high}.")


def recipe_of(plan: Plan, fit_set: Dataset) -> Recipe:
    """The recipe of a plan; size, rate and policy follow the pictures where the plan leaves them open."""
    side = max(fit_set.image(0).shape[:2])
    size = plan.size or (side if side <= SMALL else 128)
    policy = "standard" if plan.augmentations == "adversarial" else plan.augmentations
    if size <= SMALL and policy != "none":
        policy = {"standard": "cifar", "advanced": "cifar-advanced"}[policy]
    usual = 0.1 if plan.optimizer == "sgd" else 1e-4 if plan.weights else 1e-3
    return Recipe(
        size,
        policy,
        plan.epochs,
        plan.rate or usual,
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
        size: side of the pictures, pixels.
        classes: number of logits.

    Raises:
        VoclabError: a width where there is none to choose, or weights that cannot be had.
    """
    options = {"weights": plan.weights, "dropout": plan.dropout}
    # Photos are large enough as they are; only small pictures are enlarged for a network made for photos.
    small = size <= SMALL
    if plan.model in zoo.ZOO:
        return zoo.build(plan.model, classes, width=plan.width, resize=None if small else size, **options)
    if plan.width is not None:
        raise VoclabError(f"--width is for {', '.join(zoo.ZOO)}; leave it out for {plan.model}.")
    enlarged = small and BACKBONES[plan.model].min_size > 1
    return build_classifier(plan.model, classes, resize=_ENLARGED if enlarged else None, **options)


class _Score:
    """Figures on the validation pictures after each epoch, and on some of those it is trained on."""

    def __init__(self, plan: Plan, recipe: Recipe, fit_set: Dataset, validation: Dataset, robust: bool):
        self.plan, self.recipe, self.validation = plan, recipe, validation
        self.seen = fit_set.spread(len(validation))
        self.kept = {
            part: DecodedCache(part, longest_side=2 * recipe.size) for part in (validation, self.seen)
        }
        self.bench = Bench(validation.spread(_ROBUST_PHOTOS), recipe.size) if robust else None

    def __call__(self, model: keras.Model) -> dict[str, float]:
        answers = {part: _answers(model, self.recipe, part, kept) for part, kept in self.kept.items()}
        figures = _figures(answers[self.validation], self.validation)
        figures["validation_loss"] = figures.pop("loss")
        figures["training_accuracy"] = _figures(answers[self.seen], self.seen)["accuracy"]
        if self.bench is not None:
            victim = Victim(model, self.validation.task, "the network in training")
            attack = PGD(objective="cross_entropy", steps=5, step=0.3)
            images, _ = self.bench.attack(attack, victim, self.plan.epsilon / 255)
            figures["robust"] = self.bench.effect(victim, images)["accuracy"]
        return figures


def _answers(model, recipe: Recipe, dataset: Dataset, kept: DecodedCache | None = None) -> np.ndarray:
    """(n, classes) logits of one look at each whole picture."""
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


def plan_from(options: dict, config: str | Path | None) -> Plan:
    """The plan of a command line: what a file says, changed by what was typed.

    Args:
        options: field of :class:`Plan` -> value, ``None`` where nothing was typed.
        config: ``config.json`` of a run, or ``None``.

    Raises:
        VoclabError: neither a file nor both data and model are named.
    """
    typed = {key: value for key, value in options.items() if value is not None}
    if config is not None:
        return replace(Plan.read(config), **typed)
    missing = [f"--{key}" for key in ("dataset", "model") if key not in typed]
    if missing:
        raise VoclabError(f"{' and '.join(missing)} must be named, or a run's file with --config.")
    return Plan(**typed)


def usual_name(plan: Plan) -> str:
    """Folder of a run that was given no name."""
    return f"{Path(plan.dataset).name}-{plan.model}-{plan.augmentations}-seed{plan.seed}"
