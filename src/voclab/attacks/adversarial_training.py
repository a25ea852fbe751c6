"""Adversarial training: a classifier that learns from the attacks that it meets (Madry et al. 2018)."""

from dataclasses import dataclass
from functools import cache

import keras
from keras import ops

from voclab.attacks.gradient import PGD
from voclab.attacks.measures import Bench
from voclab.attacks.target import VanishingGradientError, objective
from voclab.backend import input_gradient, own_part, replicas
from voclab.errors import VoclabError
from voclab.models.catalogue import TRAINABLE
from voclab.models.network import Network
from voclab.training.classification import Classification


@dataclass(frozen=True)
class AdversarialTraining(Classification):
    """A classifier trained on images that PGD perturbs against its current weights.

    ``model`` is one that :class:`Classification` builds, or the name of a network, of which a copy is
    fine-tuned. After each epoch there is also ``robust``, the accuracy under PGD with 5 steps on validation
    images, which chooses the epoch; it is 0 where the gradient vanishes at every image (of a multi-label
    classifier before training, say), since an attack without a direction shows no robustness.

    Attributes:
        epsilon: L∞ bound of the attacks.
        steps: of PGD in training.
        clean: whether each batch is learnt from twice, as it is and perturbed (Kurakin et al. 2017): on
            attacks alone, short fine-tuning forgets the classes. Else perturbed only.
        images: validation images that are attacked after each epoch, 0 for all.
    """

    epsilon: float = 8 / 255
    steps: int = 4
    clean: bool = False
    images: int = 256

    def require(self, experiment, data, networks):
        super().require(experiment, data, networks)
        for name in self.needs(experiment):
            if networks[name].task == "segmentation":
                raise VoclabError("Adversarial fine-tuning here is for classifiers; a segmenter was given.")

    def needs(self, experiment):
        return () if experiment.model in TRAINABLE else (experiment.model,)

    def monitor(self, work):
        return "robust"

    def build(self, work):
        if not self.needs(work.experiment):
            return super().build(work)
        original = work.networks[work.experiment.model].model
        keras.utils.set_random_seed(work.experiment.recipe.seed)
        copy = keras.models.clone_model(original)
        copy.set_weights(original.get_weights())
        return copy

    def trained(self, work, model):
        trained = AdversariallyTrained(model.inputs[0], model.outputs[0], name=model.name)
        trained.arm(work.data.fit.task, self.epsilon, self.steps, self.clean)
        return trained

    def scorer(self, work):
        figures, task = super().scorer(work), work.data.validation.task
        bench = Bench(work.data.validation.spread(self.images), work.experiment.recipe.size)
        network = cache(lambda model: Network(model, task, work.run.name))  # compiled once

        def score(model):
            attack, truth = PGD(objective="cross_entropy", steps=5, step=0.3), bench.target(task)
            try:
                images, _ = bench.attack(attack, network(model), self.epsilon)
            except VanishingGradientError:
                return {**figures(model), "robust": 0.0}
            fooled = truth.succeeded(network(model), bench.answers(network(model), images).values)
            return {**figures(model), "robust": float(1 - fooled.mean())}

        return score

    def told(self, figures):
        robust = f", {figures['robust']:.1%} right under PGD" if "robust" in figures else ""
        return super().told(figures) + robust


@keras.saving.register_keras_serializable("voclab")
class AdversariallyTrained(keras.Model):
    """A classifier trained on images that PGD perturbs against its current weights.

    In use it is the network it was made from; only ``fit`` differs.
    """

    def arm(self, task: str, epsilon: float, steps: int, clean: bool = True) -> None:
        """Choose the attack: PGD on the loss, from a random start, in steps of 1.25 epsilon / steps.

        ``clean``: whether each batch is learnt from twice, as it is and perturbed; else perturbed only.
        """
        self._attack = (objective(task, "cross_entropy"), task, epsilon, steps)
        self._clean = clean
        self._start = keras.random.SeedGenerator(0)

    def train_step(self, data):
        images, truth = data
        perturbed = ops.stop_gradient(self._perturbed(images, truth))
        if not self._clean:
            return super().train_step((perturbed, truth))
        return super().train_step((ops.concatenate([images, perturbed]), ops.concatenate([truth, truth])))

    def _perturbed(self, images, truth):
        of_logits, task, epsilon, steps = self._attack
        target = ops.argmax(truth, axis=-1) if task == "multiclass" else truth

        def value(pixels):
            return of_logits(ops.cast(self(pixels, training=False), "float32"), target)

        size, *shape = ops.shape(images)
        noise = keras.random.uniform((replicas() * size, *shape), -epsilon, epsilon, seed=self._start)
        perturbed = ops.clip(images + own_part(noise, size), 0.0, 1.0)
        for _ in range(steps):
            moved = perturbed + 1.25 * epsilon / steps * ops.sign(input_gradient(value, perturbed))
            perturbed = ops.clip(ops.clip(moved, images - epsilon, images + epsilon), 0.0, 1.0)
        return perturbed
