"""The trained adversary: its loss through frozen victims, its training, and the attack that it is then."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import keras
import numpy as np
from keras import ops

from voclab.attacks.gradient import Attack
from voclab.attacks.measures import Bench
from voclab.attacks.target import objective, require_direction
from voclab.backend import own_part, replicas, resize, saved_as_jpeg, share_of_mean
from voclab.data.base import VOID
from voclab.data.images import eight_bit
from voclab.errors import VoclabError
from voclab.models.generator import (
    BOUNDS,
    GOALS,
    Generator,
    build_generator,
    condition,
    perturbed,
)
from voclab.models.network import Network
from voclab.training import Run, Task
from voclab.training.segmentation import require_masks

MODEL = "generator"  # the architecture of such an experiment
SCORED_AT = (2, 4, 8)  # bounds at which an epoch is judged, steps of 1/255
_TIMES = (1.0, 2.0, 4.0)  # factors that are tried after training, which ends at about half of the bound
_PIXEL_KAPPA = 1.0  # width of a pixel's hinge, logits
_PIXELS = 3.0  # what the hinge over pixels counts for, beside that of a classifier
_BACKGROUND = 0.2  # what a pixel of the background counts for, beside one of an object
_NEVER = -1e9
_QUALITIES = (50, 95)  # of the JPEG that a handled image may go through
_BLUR = (0.5, 1.5)  # standard deviation of its blur, pixels
_BLUR_RADIUS = 5  # pixels


@dataclass(frozen=True)
class AdversarialPerturbation(Task):
    """A generator whose perturbations fool frozen networks, at every bound and for every goal.

    Each training image draws a bound, log-uniformly from 1 to 16 steps of 1/255, the victims to fool, and
    sometimes a goal; the generator is told. Its ``start`` has the same generator. ``options`` of the
    experiment are further arguments of :func:`voclab.models.generator.build_generator`.

    After each epoch there are ``perturbed_loss`` (fooling) and ``perturbation_loss`` (weighted penalty), and
    on validation images ``fooled_2``, ``fooled_4`` and ``fooled_8`` (success at these bounds in 1/255, the
    mean over victims, of perturbations for all of them) with their mean ``fooled``, which chooses the epoch.

    Attributes:
        victims: names of the networks that can be fooled.
        aimed: share of the images with a goal, ``"appear"`` or ``"vanish"``.
        handled: share of the perturbed images that go through JPEG, blur or half size and back before the
            victims see them (expectation over transformations, Athalye et al. 2018).
        kappa: width of the classifiers' hinge, see :class:`Fooling`.
        weight: of the penalty on the perturbation's size, against the fooling term.
        images: validation images that an epoch is judged on, spread evenly; 0 for all.
        looked_at: side in pixels of the whole images that an epoch is judged on; by default that of the
            training, which sees parts of such images if its augmentation is ``"crops"``.
    """

    parts: ClassVar[tuple[str, ...]] = ("validation",)
    shrink: ClassVar[int | None] = 3
    usual_loss: ClassVar[str] = "hinge on the margin"
    victims: tuple[str, ...]
    aimed: float = 0.25
    handled: float = 0.5
    kappa: float = 6.0
    weight: float = 0.0
    images: int = 48
    looked_at: int | None = None

    def require(self, experiment, data, networks):
        if experiment.model != MODEL:
            raise VoclabError(f"There is no adversary {experiment.model!r}; it is a {MODEL}.")
        if experiment.recipe.average:
            raise VoclabError("An adversary's weights are not averaged; leave its recipe's average at 0.")
        for name in ("aimed", "handled"):
            if not 0 <= getattr(self, name) <= 1:
                raise VoclabError(
                    f"{name} is {getattr(self, name)}; it is a share of the images, from 0 to 1."
                )
        classes = len(data.fit.class_names)
        for name in self.victims:
            known = networks[name].outputs - (networks[name].task == "segmentation")
            if known != classes:
                raise VoclabError(
                    f"{name} knows {known} classes, but the data has {classes}; choose another."
                )
        if self.masks(networks):
            require_masks(data.fit, data.validation)

    def of(self, data):
        return "adversary"

    def needs(self, experiment):
        return self.victims

    def masks(self, networks):
        return any(networks[name].task == "segmentation" for name in self.victims)

    def files(self, parts):
        return ("history.json", "model.keras")

    def monitor(self, work):
        return "fooled"

    def build(self, work):
        experiment, networks = work.experiment, [work.networks[name] for name in self.victims]
        bench = Bench(work.data.validation.spread(8), experiment.recipe.size)
        for network in networks:
            _refuse_vanishing(network, bench)
        keras.utils.set_random_seed(experiment.recipe.seed)
        classes = len(work.data.fit.class_names)
        named = [Network(network.model, network.task, name) for name, network in zip(self.victims, networks)]
        model = build_generator(named, classes, kind=TrainedGenerator, **experiment.options)
        if work.start:
            begun = work.start.load_model()  # perhaps against others, whose encoders it has
            for mine, theirs in zip(model.learnt, begun.learnt, strict=True):
                mine.set_weights(theirs.get_weights())
        model.arm(Fooling(networks, classes, self.kappa), self.aimed, self.handled, self.weight)
        return model

    def loss(self, work):
        return None  # TrainedGenerator has its own

    def fit(self, work):
        trained, figures = super().fit(work)
        model = Generator.from_config(trained.get_config())  # which loads without this module
        model.set_weights(trained.get_weights())
        work.run.save_model(model)
        return model, figures

    def measure(self, work, model):
        """Make perturbations, before they are cut off, as much larger as pays on validation images.

        What pays is fooling, less the weighted mean square of the perturbation as a share of the bound.
        """
        score = self.scorer(work)

        def scored(factor: float) -> dict[str, float]:
            model.grow(factor)
            found = score(model)
            model.grow(1 / factor)
            return {**found, "times": factor}

        best = max(map(scored, _TIMES), key=lambda found: found["fooled"] - self.weight * found["size"])
        model.grow(best["times"])
        work.run.save_model(model)
        return {"validation": best}

    def scorer(self, work):
        side = self.looked_at or work.experiment.recipe.size
        bench = Bench(work.data.validation.spread(self.images), side)
        attack = cache(Adversary)  # compiled once

        def score(model):
            found, sizes = {}, []
            for steps in SCORED_AT:
                networks = [work.networks[name] for name in self.victims]
                images, _ = bench.attack(attack(model), networks[0], steps / 255)
                shares = [bench.effect(network, images)["success"] for network in networks]
                found[f"fooled_{steps}"] = float(np.mean(np.nan_to_num(shares)))
                sizes.append(np.square((images.astype(np.float32) - bench.images) / steps).mean())
            return {**found, "fooled": float(np.mean(list(found.values()))), "size": float(np.mean(sizes))}

        return score

    def told(self, figures):
        shares = ", ".join(f"{figures[f'fooled_{steps}']:.1%} at {steps}/255" for steps in SCORED_AT)
        return f"fooled {shares}"


def _refuse_vanishing(network: Network, bench: Bench) -> None:
    target = bench.target(network.task)
    _, gradient, logits = target.gradient(network, eight_bit(bench.images), "margin")
    concerned = ~np.isnan(target.succeeded(network, logits).astype(float))
    require_direction(network, gradient[concerned], "margin")


class Fooling:
    """How far victims are from being fooled: a hinge on the margin, image by image.

    An image (or pixel) that is fooled by more than the hinge's width adds nothing, so that training goes on
    with those that are not. Over pixels the hinge is averaged; pixels of objects count more.

    Args:
        victims: frozen networks; a classifier's truth is taken from the label map where that is given.
        classes: how many class names there are.
        kappa: width of the hinge for classifiers, in logits; for pixels it is 1.
    """

    def __init__(self, victims: Sequence[Network], classes: int, kappa: float = 6.0):
        self.classes, self.kappa, self.victims = classes, kappa, list(victims)
        self._answers = _in_one(victims)

    def present(self, truth):
        """(B, classes) float32, 1 where a class is there; ``truth`` as for :meth:`__call__`."""
        return ops.cast(_labels(truth, self.classes), "float32")

    def __call__(self, truth, images, wanted, goal, class_index):
        """(B,) float32 hinges, summed over the victims that are wanted.

        Args:
            truth: (B, H, W) label maps, or (B, classes) labels.
            images: (B, H, W, 3) in [0, 1], perturbed.
            wanted: (B, victims) 0 or 1.
            goal: (B,) int32, indices of ``GOALS``.
            class_index: (B,) int32, the class of a goal that has one, an index of the class names.
        """
        total = 0.0
        for k, (victim, logits) in enumerate(zip(self.victims, self._answers(images), strict=True)):
            logits = ops.cast(logits, "float32")
            if victim.task == "segmentation":
                hinge = _PIXELS * self._of_pixels(logits, truth, goal, class_index)
            else:
                hinge = self._of_images(logits, truth, victim.task, goal, class_index)
            total = total + wanted[:, k] * hinge
        return total

    def _of_images(self, logits, truth, task, goal, k):
        labels = _labels(truth, self.classes)
        truth = ops.argmax(labels, axis=-1) if task == "multiclass" else labels
        chosen = ops.one_hot(k, self.classes)
        said = ops.sum(chosen * logits, axis=-1)  # for the class
        if task == "multiclass":
            said = said - ops.max(ops.where(chosen > 0, _NEVER, logits), axis=-1)
        margin = objective(task, "margin")(logits, truth)
        margin = ops.where(goal == 0, margin, ops.where(goal == 1, said, -said))
        hinge = ops.relu(self.kappa - margin)
        return ops.where(ops.abs(margin) < -_NEVER / 2, hinge, 0.0)  # else no class is wrong, or none right

    def _of_pixels(self, logits, maps, goal, k):
        # Every second pixel: logits are enlarged from a quarter of the resolution.
        logits, maps = logits[:, ::2, ::2], ops.cast(maps[:, ::2, ::2], "int32")
        goal, aim = goal[:, None, None], (k + 1)[:, None, None]  # label 0 is background
        true = ops.where(maps == VOID, 0, maps)
        label = ops.where(goal == 0, true, ops.broadcast_to(aim, ops.shape(maps)))
        chosen = ops.one_hot(label, self.classes + 1)
        said = ops.sum(chosen * logits, axis=-1) - ops.max(ops.where(chosen > 0, _NEVER, logits), axis=-1)
        margin = ops.where(goal == 1, said, -said)
        concerned = ops.where(goal == 2, maps == aim, maps != VOID)
        weight = ops.where((maps == 0) & (goal == 0), _BACKGROUND, 1.0) * ops.cast(concerned, "float32")
        hinges = ops.relu(_PIXEL_KAPPA - margin) * weight
        return ops.sum(hinges, axis=(1, 2)) / ops.maximum(ops.sum(weight, axis=(1, 2)), 1.0)


def _in_one(victims: Sequence[Network]):
    """A function of images: the list of all logits; parts of one network are computed together."""
    groups: dict[int, list[int]] = {}
    for k, victim in enumerate(victims):
        groups.setdefault(id(victim.model.inputs[0]), []).append(k)
    models = [
        (
            members,
            keras.Model(victims[members[0]].model.inputs, [victims[k].model.outputs[0] for k in members]),
        )
        for members in groups.values()
    ]

    def answers(images) -> list:
        found: dict[int, object] = {}
        for members, model in models:
            given = model(images, training=False)
            found |= dict(zip(members, given if isinstance(given, list | tuple) else [given], strict=True))
        return [found[k] for k in range(len(victims))]

    return answers


def _labels(truth, classes: int):
    """(B, classes) labels from labels or from (B, H, W) label maps."""
    if len(truth.shape) == 2:
        return truth
    present = ops.one_hot(ops.where(truth == VOID, 0, ops.cast(truth, "int32")), classes + 1, dtype="int32")
    return ops.max(present, axis=(1, 2))[:, 1:]


@keras.saving.register_keras_serializable("voclab")
class TrainedGenerator(Generator):
    """A generator with its training: in use it is the generator, only ``fit`` differs."""

    def arm(self, fooling: Fooling, aimed: float, handled: float, weight: float) -> None:
        """Choose the loss, the shares of images with a goal and of those that are handled, the penalty."""
        self._fooling, self._aimed, self._handled, self._weight = fooling, aimed, handled, weight
        self._draws = keras.random.SeedGenerator(0)
        self._terms = {
            name: keras.metrics.Mean(name=f"{name}_loss") for name in ("perturbed", "perturbation")
        }

    @property
    def metrics(self):
        return [*super().metrics, *getattr(self, "_terms", {}).values()]

    def train_step(self, data):
        images, truth, _ = keras.utils.unpack_x_y_sample_weight(data)
        asked = self._drawn(self._fooling.present(truth))
        wanted = condition(*asked, self.classes)
        return super().train_step(((images, wanted), (truth, *asked)))

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        images, (truth, epsilon, victims, goal, k) = x[0], y
        changed = self._on_their_way(_rounded(perturbed(images, y_pred, epsilon / 255)))
        fooling = ops.mean(self._fooling(truth, changed, victims, goal, k))
        penalty = self._weight * ops.mean(ops.square(y_pred))
        self._terms["perturbed"].update_state(fooling)
        self._terms["perturbation"].update_state(penalty)
        return share_of_mean(fooling + penalty)

    def _drawn(self, present):
        """(bounds in steps of 1/255, victims, goals, classes) for each image."""
        size, count = ops.shape(present)[0], len(self.victims)
        uniform = keras.random.uniform((replicas() * size, 5 + self.classes), seed=self._draws)
        uniform = own_part(uniform, size)
        low, high = np.log(BOUNDS)
        epsilon = ops.round(ops.exp(low + (high - low) * uniform[:, 0]))  # 8-bit images know whole steps
        # Half of the time all of them, else one.
        one = ops.one_hot(ops.cast(uniform[:, 1] * count, "int32"), count)
        victims = ops.where(uniform[:, 2:3] < 0.5, 1.0, one) if count > 1 else ops.ones((size, 1))
        some, all_of_them = ops.max(present, axis=1) > 0, ops.min(present, axis=1) > 0
        vanish = ((uniform[:, 3] < 0.5) | all_of_them) & some
        goal = ops.where(uniform[:, 4] < self._aimed, ops.where(vanish, 2, 1), 0)
        among = ops.where(vanish[:, None], present, 1.0 - present)
        return epsilon, victims, goal, ops.argmax(uniform[:, 5:] + among, axis=1)

    def _on_their_way(self, images):
        """A share of the images after JPEG, blur, or half size and back; the others as they are."""
        if not self._handled:
            return images
        size, height, width = ops.shape(images)[:3]
        everyones = keras.random.uniform((replicas() * size, 4), seed=self._draws)
        uniform = own_part(everyones, size)
        low, high = _QUALITIES
        quality = low + ops.cast(uniform[:, 0] * (high - low + 1), "int32")
        half = resize(resize(images, height // 2, width // 2), height, width)
        sigma = _BLUR[0] + (_BLUR[1] - _BLUR[0]) * everyones[0, 1]  # one for the batch
        blurred = _blurred(images, sigma)
        way = uniform[:, 2]  # four times of five JPEG, which is what most images meet
        found = ops.where(_column(way < 0.9), half, blurred)
        found = ops.where(_column(way < 0.8), saved_as_jpeg(images, quality), found)
        return ops.where(_column(uniform[:, 3] < self._handled), found, images)


def _column(x):
    return x[:, None, None, None]


def _rounded(images):
    """To 8 bits; gradients pass unchanged."""
    return images + ops.stop_gradient(ops.round(255.0 * images) / 255.0 - images)


def _blurred(images, sigma):
    """(B, H, W, 3) under a Gaussian of that standard deviation; the image goes on mirrored at its edges."""
    at = ops.arange(-_BLUR_RADIUS, _BLUR_RADIUS + 1, dtype="float32")
    line = ops.exp(-(at**2) / (2 * sigma**2))
    line = line / ops.sum(line)
    kernel = ops.tile((line[:, None] * line[None, :])[:, :, None, None], (1, 1, 3, 1))
    around = (_BLUR_RADIUS, _BLUR_RADIUS)
    wider = ops.pad(images, ((0, 0), around, around, (0, 0)), mode="reflect")
    return ops.depthwise_conv(wider, kernel, padding="valid")


class Adversary(Attack):
    """The trained generator as an attack, which asks the victim nothing and needs no truth.

    It costs one forward and one backward pass through each of its encoders, and a decoder: to be compared
    with FGSM, which takes one gradient of the whole victim.

    Args:
        generator: a :class:`voclab.models.generator.Generator`.
        victims: names of the networks to fool; all that it knows by default.

    Raises:
        VoclabError: it was not trained on such a network.
    """

    def __init__(self, generator: Generator, victims: Sequence[str] = ()):
        unknown = set(victims) - set(generator.victims)
        if unknown:
            raise VoclabError(
                f"This adversary was not trained on {', '.join(sorted(unknown))}; it knows"
                f" {', '.join(generator.victims)}."
            )
        wanted = victims or generator.victims
        self._wanted = [float(name in wanted) for name in generator.victims]
        self._classes = generator.classes
        self._unit = generator.in_use

    @classmethod
    def of(cls, run: Run, victims: Sequence[str] = ()) -> "Adversary":
        """The adversary of a complete run."""
        return cls(run.load_model(), victims)

    def perturb(self, victim, images, target, budget):
        n, goal, k = len(images), GOALS.index(target.goal), target.class_index or 0
        if victim.task == "segmentation" and goal:
            k -= 1  # label 0 is background
        if goal and not 0 <= k < self._classes:
            raise VoclabError(
                f"This adversary knows {self._classes} classes; class {target.class_index} is none of them."
            )
        asked = np.full(n, 255 * budget.epsilon), np.tile(self._wanted, (n, 1)), [goal] * n, [k] * n
        wanted = condition(*asked, self._classes)
        return images + budget.epsilon * self._unit(images, np.asarray(wanted))
