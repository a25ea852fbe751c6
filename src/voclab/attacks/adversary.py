"""The trained adversary: its loss through frozen victims, its training, and the attack that it is then."""

from dataclasses import dataclass
from typing import ClassVar

import keras
import numpy as np
from keras import ops

from voclab.attacks.budget import Budget
from voclab.attacks.gradient import Attack
from voclab.attacks.measures import Bench
from voclab.attacks.target import objective, require_direction
from voclab.backend import compiled, share_of_mean
from voclab.data.base import VOID
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
from voclab.training import Run, Task, Work
from voclab.training.segmentation import require_masks

_PIXEL_KAPPA = 1.0  # where the objective is cut off


@dataclass(frozen=True)
class AdversarialPerturbation(Task):
    """A generator whose perturbations fool frozen networks.

    ``model`` is ``"image"`` (a perturbation for each image) or ``"universal"`` (one for all); ``backbone``
    and ``weights`` are of the frozen part of its encoder, ``options`` further arguments of
    :func:`voclab.models.generator.build_generator`. Its ``start`` has the same generator, or a universal
    one, of which the pattern is taken. What is trained is :func:`voclab.models.generator.attack_model`.

    After each epoch there are ``perturbed_loss`` (fooling) and ``perturbation_loss`` (weighted penalty),
    their ``validation_`` counterparts with ``objective``, the negative of their sum, and ``fooled``: of the
    validation images (pixels, net in each image) that were right, or did not reach the goal, the share that
    no longer is, or does; the mean over victims.

    Attributes:
        victims: names of the networks that one perturbation must fool.
        epsilon: L∞ bound that it is trained at.
        goal: ``"untargeted"``, ``"appear"`` or ``"vanish"``.
        class_index: class of the goal, an index of the data set's class names.
        kappa: width of the classifiers' hinge, see :class:`Fooling`.
        weight: of the penalty on the perturbation's size, against the fooling term.
    """

    parts: ClassVar[tuple[str, ...]] = ("validation",)
    shrink: ClassVar[int | None] = 3
    usual_loss: ClassVar[str] = "hinge on the margin"
    victims: tuple[str, ...]
    epsilon: float = 8 / 255
    goal: str = "untargeted"
    class_index: int | None = None
    kappa: float = 6.0
    weight: float = 0.0

    def require(self, experiment, data, networks):
        if self.masks(networks):
            require_masks(data.fit, data.validation)
        if not Budget(self.epsilon).epsilon:
            raise VoclabError(
                "An adversary that may change nothing learns nothing; choose an epsilon above 0."
            )

    def of(self, data):
        return "adversary"

    def needs(self, experiment):
        return self.victims

    def masks(self, networks):
        return any(networks[name].task == "segmentation" for name in self.victims)

    def files(self, parts):
        return ("history.json", "model.keras")

    def monitor(self, work):
        return "objective"

    def build(self, work):
        experiment, networks = work.experiment, [work.networks[name] for name in self.victims]
        _Validation(work, images=8).refuse_vanishing()
        keras.utils.set_random_seed(experiment.recipe.seed)
        generator = build_generator(
            mode=experiment.model,
            backbone=experiment.backbone,
            weights=experiment.weights,
            seed=experiment.recipe.seed,
            **experiment.options,
        )
        if experiment.backbone:
            _look_through(generator.get_layer(BACKBONE), networks)
        if work.start:
            begun = work.start.load_model().get_layer(GENERATOR)
            if work.start.config["experiment"]["model"] == experiment.model:
                generator.set_weights(begun.get_weights())
            else:
                start_from_universal(generator, begun)
        return attack_model(generator, self.epsilon)

    def loss(self, work):
        networks = [work.networks[name] for name in self.victims]
        fooling = Fooling(networks, self.goal, self.class_index, self.kappa)
        return {"perturbed": fooling, "perturbation": Penalty(self.epsilon, self.weight)}

    def scorer(self, work):
        return _Validation(work)

    def measure(self, work, model):
        return {"validation": max(work.run.history, key=lambda entry: entry["objective"])}

    def told(self, figures):
        return f"fooled {figures['fooled']:.1%}"


class Fooling(keras.losses.Loss):
    """How far the victims are from being fooled: a hinge on the margin, summed over victims.

    An image (or pixel) that is fooled by more than the hinge's width adds nothing, so that training goes on
    with those that are not.

    Args:
        victims: frozen networks; a classifier's truth is taken from the label map where a segmenter is among
            them.
        goal: see :class:`voclab.attacks.target.Target`.
        class_index: class of the goal, an index of the data set's class names.
        kappa: width of the hinge for classifiers, in logits; for pixels it is 1.
    """

    def __init__(
        self,
        victims: list[Network],
        goal: str = "untargeted",
        class_index: int | None = None,
        kappa: float = 6.0,
    ):
        super().__init__(name="fooling")
        self.kappa, self._victims = kappa, []
        for victim in victims:
            background = class_index is not None and victim.task == "segmentation"
            logit = class_index + 1 if background else class_index
            value = objective(victim.task, "margin", goal, logit)
            self._victims.append((victim, value, self.width(victim)))

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
    """Mean square of the perturbation over all values, as a share of epsilon squared, times a weight.

    Without the weight it is 1 for a perturbation that is everywhere at its L∞ bound.
    """

    def __init__(self, epsilon: float, weight: float):
        super().__init__(name="penalty")
        self.epsilon, self.weight = epsilon, weight

    def call(self, y_true, y_pred):
        return share_of_mean(self.weight * self.size(y_pred))

    def size(self, perturbation):
        """The penalty without its weight."""
        return ops.mean(ops.mean(ops.square(perturbation), axis=(1, 2, 3))) / self.epsilon**2


class Adversary(Attack):
    """The trained generator as an attack: one forward pass, which asks the victim nothing and needs no truth.

    Another epsilon than that of the training scales the perturbation.

    Args:
        generator: what :func:`voclab.models.generator.build_generator` gives, or the attack model of a run.
    """

    def __init__(self, generator: keras.Model):
        if generator.name != GENERATOR:
            generator = generator.get_layer(GENERATOR)
        self._unit = compiled(generator)

    @classmethod
    def of(cls, run: Run) -> "Adversary":
        """The adversary of a complete run."""
        return cls(run.load_model())

    def perturb(self, victim, images, target, budget):
        height, width = images.shape[1:3]
        # The encoder halves twice; what 4 does not divide is completed by its last pixels and cut off again.
        padded = np.pad(images, ((0, 0), (0, -height % 4), (0, -width % 4), (0, 0)), mode="edge")
        return images + budget.epsilon * self._unit(padded)[:, :height, :width]


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

    def __init__(self, work: Work, images: int = 0):
        self.task, self.batch_size = work.experiment.task, work.experiment.recipe.batch_size
        dataset = work.data.validation
        some = dataset.subset(range(min(images, len(dataset)))) if images else dataset
        bench = Bench(some, work.experiment.recipe.size)
        losses = self.task.loss(work)
        self.fooling, self.penalty = losses["perturbed"], losses["perturbation"]
        self.victims = [work.networks[name] for name in self.task.victims]
        self.images = bench.images
        self.targets = {v: bench.target(v.task, self.task.goal, self.task.class_index) for v in self.victims}
        self.clean: dict[Network, np.ndarray] = {}

    def refuse_vanishing(self) -> None:
        for victim in self.victims:
            target = self.targets[victim]
            _, gradient, logits = target.gradient(victim, eight_bit(self.images), "margin")
            concerned = ~np.isnan(target.succeeded(victim, logits).astype(float))
            require_direction(victim, gradient[concerned], "margin")

    def __call__(self, model: keras.Model) -> dict[str, float]:
        generator = model.get_layer(GENERATOR)
        perturb = Perturb(self.task.epsilon, dtype="float32")
        budget = Budget(self.task.epsilon)
        fooling, sizes, n = [], [], self.batch_size
        reached = {victim: [] for victim in self.victims}
        forward = compiled(lambda x, training: perturb([x, generator(x)]))
        for k in range(0, len(self.images), n):
            clean = eight_bit(self.images[k : k + n])
            saved = eight_bit(budget.finish(forward(clean), clean))
            sizes += [float(self.penalty.size(saved - clean))] * len(clean)
            losses = np.zeros(len(clean), np.float32)
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
            "validation_perturbation_loss": self.task.weight * float(np.mean(sizes)),
            "fooled": float(np.mean(fooled)),
        }
        total = figures["validation_perturbed_loss"] + figures["validation_perturbation_loss"]
        return {**figures, "objective": -total}

    def _fooled(self, victim: Network, reached: np.ndarray) -> float:
        """Share of the images (pixels) that reach the goal now, of those that did not when clean."""
        if victim not in self.clean:
            target, n = self.targets[victim], self.batch_size
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
