"""The trained adversary: its loss through frozen victims, its training, and the attack that it is then."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import keras
import numpy as np
from keras import ops

from voclab.attacks.budget import Budget
from voclab.attacks.gradient import Attack
from voclab.attacks.measures import Bench
from voclab.attacks.target import objective, require_direction
from voclab.backend import compiled, share_of_mean
from voclab.data.base import VOID, Dataset
from voclab.data.batches import DecodedCache
from voclab.data.images import eight_bit
from voclab.errors import VoclabError
from voclab.models.catalogue import BACKBONE
from voclab.models.generator import (
    GENERATOR,
    Perturb,
    attack_model,
    build_generator,
    start_from_universal,
)
from voclab.models.network import Network
from voclab.terminal import say
from voclab.training import Recipe, Run, train
from voclab.training.identity import data_digest, known_by, weights_digest
from voclab.training.segmentation import require_masks

PENALTIES = ("l2", "linf")
_PIXEL_KAPPA = 1.0  # where the objective is cut off


@dataclass(frozen=True)
class Experiment:
    """One adversary: whom it attacks, to what end and how it is trained.

    Attributes:
        name: folder of the run.
        victims: names of the networks that one perturbation must fool.
        recipe: size, policy, epochs and so on.
        epsilon: bound that it is trained at.
        norm: of the bound, ``"linf"`` or ``"l2"``.
        mode: ``"image"`` or ``"universal"``.
        goal: ``"untargeted"``, ``"appear"`` or ``"vanish"``.
        k: class of the goal, an index of the data set's class names.
        kappa: width of the classifiers' hinge, see :class:`Fooling`.
        weight: of the penalty on the perturbation's size, against the fooling term.
        penalty: ``"l2"`` or ``"linf"``, see :class:`Penalty`.
        start: name of the run that this one goes on from: same generator, or a universal one, of which the
            pattern is taken.
        backbone: key of ``BACKBONES`` for the frozen part of the encoder.
        weights: of that backbone: ``"imagenet"`` or a file.
        options: further arguments of :func:`voclab.models.generator.build_generator`.
    """

    name: str
    victims: tuple[str, ...]
    recipe: Recipe
    epsilon: float = 8 / 255
    norm: str = "linf"
    mode: str = "image"
    goal: str = "untargeted"
    k: int | None = None
    kappa: float = 6.0
    weight: float = 0.0
    penalty: str = "l2"
    start: str | None = None
    backbone: str | None = None
    weights: str | None = None
    options: dict = field(default_factory=dict)


class Fooling(keras.losses.Loss):
    """How far the victims are from being fooled: a hinge on the margin, summed over victims.

    An image (or pixel) that is fooled by more than the hinge's width adds nothing, so that training goes on
    with those that are not.

    Args:
        victims: frozen networks; a classifier's truth is taken from the label map where a segmenter is among
            them.
        goal: see :class:`voclab.attacks.target.Target`.
        k: class of the goal, an index of the data set's class names.
        kappa: width of the hinge for classifiers, in logits; for pixels it is 1.
    """

    def __init__(
        self, victims: list[Network], goal: str = "untargeted", k: int | None = None, kappa: float = 6.0
    ):
        super().__init__(name="fooling")
        self.goal, self.k, self.kappa = goal, k, kappa
        self._victims = [(victim, *self._objective(victim)) for victim in victims]

    def _objective(self, victim):
        k = self.k + 1 if self.k is not None and victim.task == "segmentation" else self.k
        return objective(victim.task, "margin", self.goal, k), self.width(victim)

    def width(self, victim: Network) -> float:
        """The hinge's width for that victim."""
        return _PIXEL_KAPPA if victim.task == "segmentation" else self.kappa

    def call(self, y_true, y_pred):
        total = 0.0
        for victim, value, kappa in self._victims:
            logits = victim.model(y_pred, training=False)
            margin = value(ops.cast(logits, "float32"), _truth(y_true, victim.task, logits.shape[-1]))
            total = total + ops.mean(ops.relu(kappa - margin))
        return share_of_mean(total)


def _truth(y, task: str, classes: int):
    """What ``task`` calls true: y is (B, H, W) label maps or (B, classes) labels."""
    if task == "segmentation":
        return y
    if len(y.shape) == 3:
        present = ops.one_hot(ops.where(y == VOID, 0, ops.cast(y, "int32")), classes + 1)
        y = ops.max(present, axis=(1, 2))[:, 1:]
    return ops.argmax(y, axis=-1) if task == "multiclass" else y


class Penalty(keras.losses.Loss):
    """Size of the perturbation, as a share of what the bound allows, times a weight.

    ``l2``: mean square over all values, of epsilon squared; ``linf``: the largest value of each image, of
    epsilon. Both are 1 for an L∞ perturbation that is everywhere at its bound.

    Args:
        kind: ``"l2"`` or ``"linf"``.
        epsilon: the bound.
        weight: factor.
        norm: of the bound. For ``"l2"`` the penalty ``l2`` is relative to that norm.
    """

    def __init__(self, kind: str, epsilon: float, weight: float, norm: str = "linf"):
        if kind not in PENALTIES:
            raise VoclabError(f"There is no penalty {kind!r}; choose one of {', '.join(PENALTIES)}.")
        super().__init__(name="penalty")
        self.kind, self.epsilon, self.weight, self.norm = kind, epsilon, weight, norm

    def call(self, y_true, y_pred):
        return share_of_mean(self.weight * self.size(y_pred))

    def size(self, perturbation):
        """The penalty without its weight."""
        if self.kind == "linf":
            return ops.mean(ops.max(ops.abs(perturbation), axis=(1, 2, 3))) / self.epsilon
        reduce = ops.mean if self.norm == "linf" else ops.sum
        return ops.mean(reduce(ops.square(perturbation), axis=(1, 2, 3))) / self.epsilon**2


class Adversary(Attack):
    """The trained generator as an attack: one forward pass, which asks the victim nothing and needs no truth.

    Args:
        generator: what :func:`voclab.models.generator.build_generator` gives, or the attack model of a run.
        norm: of the ball that it was trained in. Another epsilon than that of the training scales the
            perturbation.
    """

    def __init__(self, generator: keras.Model, norm: str = "linf"):
        if generator.name != GENERATOR:
            generator = generator.get_layer(GENERATOR)
        self.norm = norm
        self._unit = compiled(generator)

    @classmethod
    def of(cls, run: Run) -> "Adversary":
        """The adversary of a complete run."""
        return cls(run.load_model(), run.config["experiment"]["norm"])

    def _perturb(self, victim, images, target, budget):
        height, width = images.shape[1:3]
        # The encoder halves twice; what 4 does not divide is completed by its last pixels and cut off again.
        padded = np.pad(images, ((0, 0), (0, -height % 4), (0, -width % 4), (0, 0)), mode="edge")
        return images + budget.epsilon * self._unit(padded)[:, :height, :width]


def run_experiment(
    experiment: Experiment,
    victims: Mapping[str, Network],
    fit_set: Dataset,
    validation: Dataset,
    folder: Path,
    *,
    cache_mb: float = 1024,
    progress: Callable[[str], None] = say,
) -> Run:
    """Train an adversary through frozen victims; the best epoch is that of the lowest validation loss.

    A complete run of the same configuration is returned as it is; an interrupted one goes on.

    Args:
        experiment: what to train.
        victims: the networks by name.
        fit_set: images to train on, with masks if a segmenter is among the victims.
        validation: images to choose the epoch on.
        folder: parent folder of the runs.
        cache_mb: memory for decoded images.
        progress: receives lines of text.

    Returns:
        The complete :class:`Run`. Its model is that of :func:`voclab.models.generator.attack_model`; an
        entry of its history has the losses ``perturbed_loss`` (fooling) and ``perturbation_loss`` (weighted
        penalty), their ``validation_`` counterparts with ``objective``, the negative of their sum, and
        ``fooled``: of the validation images (pixels, net in each image) that were right, or did not reach
        the goal, the share that no longer is, or does; the mean over victims.

    Raises:
        VoclabError: a bound of 0 or that makes no sense, no masks for a segmenter, a start that is not
            complete, or a victim whose gradient vanishes.
    """
    attacked = [victims[name] for name in experiment.victims]
    segmented = any(victim.task == "segmentation" for victim in attacked)
    if segmented:
        require_masks(fit_set, validation)
    if not Budget(experiment.epsilon, experiment.norm).epsilon:
        raise VoclabError("An adversary that may change nothing learns nothing; choose an epsilon above 0.")
    run = Run(folder / experiment.name)
    config = {
        "experiment": replace(experiment, weights=experiment.weights and Path(experiment.weights).name),
        "weights": weights_digest(experiment.weights),
        "victims": {name: model_digest(victims[name].model) for name in experiment.victims},
        "data": data_digest(fit_set, validation, masks=segmented),
    }
    start = Run(folder / experiment.start) if experiment.start else None
    if start:
        if not start.complete:
            raise VoclabError(f"{start.folder} is not complete; run the experiment {start.name!r} first.")
        config["start"] = start.config
    config = known_by(config, run_experiment, *(victim.model for victim in attacked))
    files, figures = ("history.json", "model.keras"), ("validation", "seconds", "parameters")
    if run.begin(config, files=files, figures=figures, progress=progress):
        return run
    size, recipe = experiment.recipe.size, experiment.recipe
    checks = _Validation(experiment, attacked, validation)
    checks.refuse_vanishing()
    model = _build(experiment, attacked, start)
    train(
        model,
        fit_set,
        loss={"perturbed": checks.fooling, "perturbation": checks.penalty},
        recipe=recipe,
        run=run,
        score=checks,
        monitor="objective",
        target="masks" if segmented else "labels",
        cache=DecodedCache(fit_set, cache_mb, longest_side=3 * size),
        progress=progress,
    )
    seconds = sum(entry.get("seconds", 0.0) for entry in run.history)
    run.finish(
        {
            "validation": checks(model),
            "seconds": round(seconds + (start.metrics["seconds"] if start else 0.0), 1),
            "parameters": int(model.get_layer(GENERATOR).count_params()),
        }
    )
    progress(f"{run.name}: fools {run.metrics['validation']['fooled']:.1%}, trained in {seconds:.0f} s")
    return run


def model_digest(model: keras.Model) -> str:
    """What identifies a network: its weights."""
    state = hashlib.sha256()
    for weight in model.get_weights():
        state.update(np.ascontiguousarray(weight).tobytes())
    return state.hexdigest()[:16]


def _build(experiment: Experiment, victims: list[Network], start: Run | None) -> keras.Model:
    keras.utils.set_random_seed(experiment.recipe.seed)
    generator = build_generator(
        mode=experiment.mode,
        norm=experiment.norm,
        backbone=experiment.backbone,
        weights=experiment.weights,
        seed=experiment.recipe.seed,
        **experiment.options,
    )
    if experiment.backbone:
        _look_through(generator.get_layer(BACKBONE), victims)
    if start:
        begun = start.load_model().get_layer(GENERATOR)
        if start.config["experiment"]["mode"] == experiment.mode:
            generator.set_weights(begun.get_weights())
        else:
            start_from_universal(generator, begun)
    return attack_model(generator, experiment.epsilon)


def _look_through(backbone: keras.Model, victims: list[Network]) -> None:
    """Give the frozen part of the encoder the weights of the first classifier built on the same network.

    White-box as the whole training is: fine-tuned, those weights tell the classes apart that the pretrained
    ones only hint at.
    """
    shapes = [weight.shape for weight in backbone.get_weights()]
    for victim in victims:
        for layer in victim.model.layers:
            if layer.name == BACKBONE and [w.shape for w in layer.get_weights()] == shapes:
                backbone.set_weights(layer.get_weights())
                return


class _Validation:
    """Both loss terms and the share of fooled validation images, all on 8-bit images at the training size."""

    def __init__(self, experiment: Experiment, victims: list[Network], dataset: Dataset):
        self.fooling = Fooling(victims, experiment.goal, experiment.k, experiment.kappa)
        self.penalty = Penalty(experiment.penalty, experiment.epsilon, experiment.weight, experiment.norm)
        self.experiment, self.victims = experiment, victims
        bench = Bench(dataset, experiment.recipe.size)
        self.images = bench.images
        self.targets = {v: bench.target(v.task, experiment.goal, experiment.k) for v in victims}
        self.clean: dict[Network, np.ndarray] = {}

    def refuse_vanishing(self) -> None:
        for victim in self.victims:
            index = np.arange(min(8, len(self.images)))
            target = self.targets[victim].of(index)
            _, gradient, logits = target.gradient(victim, eight_bit(self.images[index]), "margin")
            concerned = ~np.isnan(target.succeeded(victim, logits).astype(float))
            require_direction(victim, gradient[concerned], "margin")

    def __call__(self, model: keras.Model) -> dict[str, float]:
        generator = model.get_layer(GENERATOR)
        perturb = Perturb(self.experiment.epsilon, dtype="float32")
        budget = Budget(self.experiment.epsilon, self.experiment.norm)
        fooling, sizes, n = [], [], self.experiment.recipe.batch_size
        reached = {victim: [] for victim in self.victims}
        forward = compiled(lambda x, training: perturb([x, generator(x)]))
        for k in range(0, len(self.images), n):
            clean = eight_bit(self.images[k : k + n])
            saved = eight_bit(budget.finish(forward(clean), clean))
            sizes += [float(self.penalty.size(saved - clean))] * len(clean)
            losses = 0.0
            for victim in self.victims:
                target = self.targets[victim].of(slice(k, k + n))
                logits = victim.logits(saved)
                reached[victim].append(target.succeeded(victim, logits))
                value = target.values(victim, logits, "margin")
                losses = losses + np.maximum(self.fooling.width(victim) - value, 0)
            fooling += list(losses)
        fooled = [self._fooled(victim, np.concatenate(reached[victim])) for victim in self.victims]
        figures = {
            "validation_perturbed_loss": float(np.mean(fooling)),
            "validation_perturbation_loss": self.experiment.weight * float(np.mean(sizes)),
            "fooled": float(np.mean(fooled)),
        }
        total = figures["validation_perturbed_loss"] + figures["validation_perturbation_loss"]
        return {**figures, "objective": -total}

    def _fooled(self, victim: Network, reached: np.ndarray) -> float:
        """Share of the images (pixels) that reach the goal now, of those that did not when clean."""
        if victim not in self.clean:
            target, n = self.targets[victim], self.experiment.recipe.batch_size
            self.clean[victim] = np.concatenate(
                [
                    target.of(slice(k, k + n)).succeeded(
                        victim, victim.logits(eight_bit(self.images[k : k + n]))
                    )
                    for k in range(0, len(self.images), n)
                ]
            )
        before = self.clean[victim].astype(float)
        with np.errstate(invalid="ignore"):
            gained = np.nanmean(np.maximum(reached - before, 0)) / np.nanmean(1 - before)
        return float(np.nan_to_num(gained))
