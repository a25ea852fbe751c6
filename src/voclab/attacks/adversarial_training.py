"""Adversarial training: a classifier that learns from attacks on itself (Madry et al. 2018), and TRADES."""

from dataclasses import dataclass
from functools import cache

import keras
from keras import ops

from voclab.attacks.gradient import PGD
from voclab.attacks.measures import Bench
from voclab.attacks.target import VanishingGradientError, objective
from voclab.backend import input_gradient, own_part, replicas, share_of_mean
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

    With ``trades`` it is TRADES (Zhang et al. 2019) instead: the loss is that on clean images plus ``trades``
    times the divergence KL(p(clean) || p(perturbed)), and the perturbation raises that divergence rather than
    the loss, so that no label takes part in it.

    Attributes:
        epsilon: L∞ bound of the attacks.
        steps: of PGD in training.
        clean: whether each batch is learnt from twice, as it is and perturbed (Kurakin et al. 2017): on
            attacks alone, short fine-tuning forgets the classes. Else perturbed only. TRADES does anyway.
        trades: beta, the weight of the divergence (the paper takes 6); 0 for PGD training.
        images: validation images that are attacked after each epoch, 0 for all.
    """

    epsilon: float = 8 / 255
    steps: int = 4
    clean: bool = False
    trades: float = 0.0
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
        trained.arm(work.data.fit.task, self.epsilon, self.steps, self.clean, self.trades)
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


def divergence(task: str, clean, perturbed):
    """KL(p(clean) || p(perturbed)) of the probabilities that logits stand for, image by image.

    Args:
        task: ``"multiclass"``: of the distribution over the classes; ``"multilabel"``: of the Bernoulli
            distribution of each class, averaged over the classes as the cross-entropy is.
        clean: (B, classes) logits.
        perturbed: likewise.

    Returns:
        (B,).
    """
    if task == "multiclass":
        logs = ops.log_softmax(clean), ops.log_softmax(perturbed)
        return ops.sum(ops.exp(logs[0]) * (logs[0] - logs[1]), axis=-1)
    found = 0.0
    for sign in (1.0, -1.0):  # the class is there, it is not
        logs = ops.log_sigmoid(sign * clean), ops.log_sigmoid(sign * perturbed)
        found = found + ops.exp(logs[0]) * (logs[0] - logs[1])
    return ops.mean(found, axis=-1)


@keras.saving.register_keras_serializable("voclab")
class AdversariallyTrained(keras.Model):
    """A classifier trained on images that are perturbed against its current weights.

    In use it is the network it was made from; only ``fit`` differs.
    """

    def arm(self, task: str, epsilon: float, steps: int, clean: bool = True, trades: float = 0.0) -> None:
        """Choose the attack, in steps of 1.25 epsilon / steps: PGD on the loss, from a random start.

        ``clean``: whether each batch is learnt from twice, as it is and perturbed; else perturbed only.
        ``trades``: if above 0, TRADES with that beta; its attack starts from noise of deviation 0.001.
        """
        self._task, self._epsilon, self._steps = task, epsilon, steps
        self._clean, self._trades = clean, trades
        self._start = keras.random.SeedGenerator(0)

    def train_step(self, data):
        images, truth = data
        twice = self._clean or self._trades
        return super().train_step(
            (self.seen(images, truth), ops.concatenate([truth, truth]) if twice else truth)
        )

    def seen(self, images, truth):
        """The images of a step: perturbed ones, after the clean ones where these are learnt from too."""
        perturbed = ops.stop_gradient(self._perturbed(images, truth))
        return ops.concatenate([images, perturbed]) if self._clean or self._trades else perturbed

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        if not self._trades:
            return super().compute_loss(x, y, y_pred, sample_weight, training)
        (clean, perturbed), (truth, _) = ops.split(y_pred, 2), ops.split(y, 2)
        apart = ops.mean(divergence(self._task, clean, perturbed))
        return super().compute_loss(x, truth, clean, None, training) + self._trades * share_of_mean(apart)

    def _perturbed(self, images, truth):
        size, *shape = ops.shape(images)
        everyones = (replicas() * size, *shape)
        if self._trades:
            usual = ops.stop_gradient(self._logits(images))

            def value(logits):
                return divergence(self._task, usual, logits)

            noise = keras.random.normal(everyones, stddev=0.001, seed=self._start)
        else:
            target = ops.argmax(truth, axis=-1) if self._task == "multiclass" else truth
            of_logits = objective(self._task, "cross_entropy")

            def value(logits):
                return of_logits(logits, target)

            noise = keras.random.uniform(everyones, -self._epsilon, self._epsilon, seed=self._start)
        perturbed = ops.clip(images + own_part(noise, size), 0.0, 1.0)
        low, high = ops.maximum(images - self._epsilon, 0.0), ops.minimum(images + self._epsilon, 1.0)
        step = 1.25 * self._epsilon / self._steps
        for _ in range(self._steps):
            gradient = input_gradient(lambda pixels: value(self._logits(pixels)), perturbed)
            perturbed = ops.clip(perturbed + step * ops.sign(gradient), low, high)
        return perturbed

    def _logits(self, pixels):
        return ops.cast(self(pixels, training=False), "float32")
