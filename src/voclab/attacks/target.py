"""What an attack is after, and the objectives that gradient attacks raise and the adversary is trained on."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from keras import ops

from voclab.data.base import VOID
from voclab.errors import VoclabError
from voclab.models.generator import GOALS
from voclab.models.network import TASKS, Network

OBJECTIVES = ("margin", "cross_entropy")
_NEVER = -1e9  # a logit that takes no part in a maximum


class VanishingGradientError(VoclabError):
    """A gradient is zero at every image of a batch, so that it shows no direction."""


@dataclass(frozen=True)
class Target:
    """The goal of an attack on a batch.

    Attributes:
        truth: what is true of each image: (B, classes) 0 or 1 for ``multilabel``, (B,) class indices for
            ``multiclass``, (B, H, W) label maps with 255 = void for ``segmentation``.
        goal: ``"untargeted"``: no answer that is true; ``"appear"``: the class everywhere; ``"vanish"``: the
            class nowhere.
        class_index: that class, an index of logits (for ``segmentation`` 0 is background).
    """

    truth: np.ndarray
    goal: str = "untargeted"
    class_index: int | None = None

    def __post_init__(self):
        if self.goal not in GOALS:
            raise VoclabError(f"There is no goal {self.goal!r}; choose one of {', '.join(GOALS)}.")
        if (self.goal == "untargeted") != (self.class_index is None):
            need = "needs a class: set" if self.class_index is None else "takes no class: omit"
            raise VoclabError(f"The goal {self.goal!r} {need} class_index.")

    def of(self, index) -> "Target":
        """The same goal for some of the images."""
        return Target(self.truth[index], self.goal, self.class_index)

    def require(self, network: Network, images: np.ndarray) -> None:
        """Refuse a goal that makes no sense for these (B, H, W, 3) images.

        Raises:
            VoclabError: a truth of another shape than the task's, or a class that the network does not know.
        """
        truth = np.shape(self.truth)
        shapes = {"multilabel": (len(images), network.outputs), "multiclass": images.shape[:1]}
        expected = shapes.get(network.task, images.shape[:3])
        if truth != expected:
            raise VoclabError(
                f"The truth has shape {truth}, but {network.name} ({network.task}) needs {expected}; "
                "see voclab.attacks.Target."
            )
        if self.class_index is not None and not 0 <= self.class_index < network.outputs:
            raise VoclabError(
                f"The goal's class is {self.class_index}, but {network.name} knows {network.outputs}; choose"
                f" one from 0 to {network.outputs - 1}."
            )

    @property
    def told(self) -> np.ndarray:
        """(B, …) integers that the objective is told of each image."""
        return self.truth

    def ascent(self, network: Network, images, name: str):
        """:meth:`Network.gradient` of the objective of that name."""
        return network.gradient(images, self.told, self.objective(network, name))

    def gradient(self, network: Network, images: np.ndarray, name: str) -> tuple[np.ndarray, ...]:
        """The same as arrays."""
        return tuple(map(ops.convert_to_numpy, self.ascent(network, images, name)))

    def values(self, network: Network, logits: np.ndarray, name: str) -> np.ndarray:
        """(B,) float32: the objective of that name for logits that are there already."""
        return ops.convert_to_numpy(self.objective(network, name)(logits, self.told))

    def objective(self, network: Network, name: str):
        """What the attack raises, see :func:`objective`."""
        return objective(network.task, name, self.goal, self.class_index)

    def succeeded(self, network: Network, logits: np.ndarray) -> np.ndarray:
        """Whether the attack succeeded, (B,) bool; for segmentation the share of pixels, (B,) float.

        Untargeted, a classifier's top class is none of the true ones, a pixel's label is wrong. A
        ``multilabel`` class has appeared if its probability exceeds the network's threshold. Pixels that are
        void, and for ``vanish`` those that are not of the class, do not count (NaN if none is left).
        """
        truth, c = self.truth, self.class_index
        if network.task == "segmentation":
            return self._pixels(logits.argmax(-1))
        top = logits.argmax(1)
        if self.goal == "untargeted":
            right = truth[np.arange(len(top)), top] > 0 if network.task == "multilabel" else truth == top
            return ~right
        if network.task == "multilabel":
            threshold = 0.5 if network.thresholds is None else float(network.thresholds[c])
            present = logits[:, c] > np.log(threshold / (1 - threshold))
        else:
            present = top == c
        return present if self.goal == "appear" else ~present

    def _pixels(self, labels: np.ndarray) -> np.ndarray:
        truth, c = self.truth, self.class_index
        concerned = truth == c if self.goal == "vanish" else truth != VOID
        reached = labels == c if self.goal == "appear" else labels != truth
        counts = concerned.sum((1, 2)).astype(float)
        share = (reached & concerned).sum((1, 2)) / np.maximum(counts, 1)
        return np.where(counts > 0, share, np.nan)


@dataclass(frozen=True, kw_only=True)
class Aimed(Target):
    """An untargeted goal that is sought by way of one wrong class of each image; any wrong answer is success.

    Its only objective is :func:`aimed`.

    Attributes:
        aims: (B,) that class, an index of logits.
    """

    aims: np.ndarray

    @property
    def told(self):
        return np.column_stack([self.truth, self.aims])

    def of(self, index):
        return Aimed(self.truth[index], aims=self.aims[index])

    def objective(self, network, name):
        return aimed(network.task)


def require_direction(
    network: Network, gradient: np.ndarray, name: str, reached: np.ndarray | None = None
) -> None:
    """Refuse a gradient that is zero for every image, so that it shows no direction.

    Args:
        network: whose gradient it is.
        gradient: (B, H, W, 3).
        name: of the objective.
        reached: what :meth:`Target.succeeded` says; images that leave nothing to gain do not count.

    Raises:
        VanishingGradientError: one sentence with the remedy.
    """
    if reached is not None:
        gradient = gradient[reached < 1]  # NaN, where no pixel is concerned, is not
    if len(gradient) and not np.any(gradient):
        remedy = (
            "attack the margin of the logits instead (objective='margin')"
            if name == "cross_entropy"
            else "attack a smooth copy of it, or transfer an attack from another network"
        )
        raise VanishingGradientError(
            f"The gradient of {network.name} vanishes at every image, which hides the way but does not make "
            f"it robust; {remedy}."
        )


@cache
def objective(task: str, name: str, goal: str = "untargeted", class_index: int | None = None):
    """What an attacker raises, image by image.

    ``margin`` (of logits, as in Carlini & Wagner 2017, with a smooth maximum over several right answers):

    - multilabel: the strongest wrong class against the strongest right one; for ``appear`` and ``vanish``
      the logit of the class, and its negative.
    - multiclass: the strongest other class against the true one (``appear``: the class against the
      others; ``vanish``: the others against it).
    - segmentation: that of multiclass for every pixel, cut off one unit behind the decision so that pixels
      that are lost already do not hide the others, averaged over the pixels concerned. Void is left out;
      ``vanish`` concerns the pixels of the class alone (where there are none, nothing).

    ``cross_entropy``: the loss that such a model is trained with (binary for multilabel); lowered for the
    class when that shall appear.

    Args:
        task: one of :data:`TASKS`.
        name: one of :data:`OBJECTIVES`.
        goal: one of :data:`GOALS`.
        class_index: the class of a goal that has one.

    Returns:
        Function of (logits, truth) tensors to (B,) values; larger is worse for the network.
    """
    if task not in TASKS:
        raise VoclabError(f"There is no task {task!r}; choose one of {', '.join(TASKS)}.")
    if name not in OBJECTIVES:
        raise VoclabError(f"There is no objective {name!r}; choose one of {', '.join(OBJECTIVES)}.")
    return {"multilabel": _multilabel, "multiclass": _multiclass, "segmentation": _segmentation}[task](
        name, goal, class_index
    )


def _multilabel(name, goal, k):
    if goal != "untargeted":
        sign = 1.0 if goal == "appear" else -1.0
        if name == "margin":
            return lambda z, y: sign * z[:, k]
        return lambda z, y: -ops.softplus(-sign * z[:, k])

    def margin(z, y):
        right = y > 0
        wrong = ops.logsumexp(ops.where(right, _NEVER, z), axis=1)
        return wrong - ops.logsumexp(ops.where(right, z, _NEVER), axis=1)

    def cross_entropy(z, y):
        return ops.mean(ops.softplus(z) - ops.cast(y, z.dtype) * z, axis=1)

    return margin if name == "margin" else cross_entropy


def _single(z, y, name, goal, k):
    """Of (…, classes) logits and (…) indices: (…) values."""
    chosen = ops.one_hot(y if goal == "untargeted" else ops.full_like(y, k), z.shape[-1], dtype=z.dtype)
    of_chosen = ops.sum(chosen * z, axis=-1)
    others = ops.where(chosen > 0, _NEVER, z)
    if name == "margin":
        value = ops.max(others, axis=-1) - of_chosen
    else:
        # The logsumexp of all less the chosen one, where a sure victim's gradient would be rounding noise.
        value = ops.softplus(ops.logsumexp(others, axis=-1) - of_chosen)
    return -value if goal == "appear" else value


def _multiclass(name, goal, k):
    return lambda z, y: _single(z, ops.cast(y, "int32"), name, goal, k)


def _segmentation(name, goal, k):
    def value(z, y):
        y = ops.cast(y, "int32")
        concerned = y == k if goal == "vanish" else y != VOID
        concerned = ops.cast(concerned, z.dtype)
        pixels = _single(z, ops.where(y == VOID, 0, y), name, goal, k)
        if name == "margin":
            pixels = ops.minimum(pixels, 1.0)
        return ops.sum(pixels * concerned, axis=(1, 2)) / ops.maximum(ops.sum(concerned, axis=(1, 2)), 1.0)

    return value


@cache
def aimed(task: str):
    """What an attacker raises who aims at one wrong class of each image.

    - multiclass: the targeted DLR (difference of logits ratio, Croce & Hein 2020): the class aimed at less
      the true one, divided by the largest logit less the mean of the third and fourth largest, so that no
      scale of the logits hides it. Of three classes the third alone counts; of two there is no divisor.
    - multilabel: DLR is defined for one true class, so here it is the margin: the class aimed at against
      the strongest right one, as in :func:`objective`.

    Args:
        task: ``"multiclass"`` or ``"multilabel"``.

    Returns:
        Function of (B, classes) logits and (B, …) :attr:`Aimed.told` to (B,) values.
    """
    return _targeted_dlr if task == "multiclass" else _aimed_margin


def _of_class(z, k):
    return ops.sum(ops.one_hot(ops.cast(k, "int32"), z.shape[-1], dtype=z.dtype) * z, axis=-1)


def _targeted_dlr(z, told):
    difference = _of_class(z, told[:, 1]) - _of_class(z, told[:, 0])
    if z.shape[-1] < 3:
        return difference
    largest, _ = ops.top_k(z, min(4, z.shape[-1]))
    return difference / (largest[:, 0] - ops.mean(largest[:, 2:], axis=-1) + 1e-12)


def _aimed_margin(z, told):
    right = ops.logsumexp(ops.where(told[:, :-1] > 0, z, _NEVER), axis=1)
    return _of_class(z, told[:, -1]) - right
