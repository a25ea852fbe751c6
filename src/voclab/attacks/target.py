"""What an attack is after, and the objectives that gradient attacks raise and the adversary is trained on."""

from dataclasses import dataclass

import numpy as np
from keras import ops

from voclab.data.base import VOID
from voclab.errors import VoclabError

TASKS = ("multilabel", "multiclass", "segmentation")
OBJECTIVES = ("margin", "cross_entropy")
GOALS = ("untargeted", "appear", "vanish")
_NEVER = -1e9  # a logit that takes no part in a maximum


@dataclass(frozen=True)
class Target:
    """The goal of an attack on a batch.

    Attributes:
        truth: what is true of each image: (B, classes) 0 or 1 for ``multilabel``, (B,) class indices for
            ``multiclass``, (B, H, W) label maps with 255 = void for ``segmentation``.
        goal: ``"untargeted"``: no answer that is true; ``"appear"``: the class ``k`` everywhere;
            ``"vanish"``: the class ``k`` nowhere.
        k: that class, an index of logits (for ``segmentation`` 0 is background).
    """

    truth: np.ndarray
    goal: str = "untargeted"
    k: int | None = None

    def __post_init__(self):
        if self.goal not in GOALS:
            raise VoclabError(f"There is no goal {self.goal!r}; choose one of {', '.join(GOALS)}.")
        if (self.goal == "untargeted") != (self.k is None):
            need = "needs a class: set k" if self.k is None else "takes no class: omit k"
            raise VoclabError(f"The goal {self.goal!r} {need}.")

    def of(self, index) -> "Target":
        """The same goal for some of the images."""
        return Target(self.truth[index], self.goal, self.k)


def objective(task: str, name: str, goal: str = "untargeted", k: int | None = None):
    """What an attacker raises, image by image.

    ``margin`` (of logits, as in Carlini & Wagner 2017, with a smooth maximum over several right answers):

    - multilabel: the strongest wrong class against the strongest right one; for ``appear`` and ``vanish``
      the logit of the class, and its negative.
    - multiclass: the strongest other class against the true one (``appear``: class k against the others;
      ``vanish``: the others against k).
    - segmentation: that of multiclass for every pixel, cut off one unit behind the decision so that pixels
      that are lost already do not hide the others, averaged over the pixels concerned. Void is left out;
      ``vanish`` concerns the pixels of class k alone (where there are none, nothing).

    ``cross_entropy``: the loss that such a model is trained with (binary for multilabel); lowered for the
    class k when that shall appear.

    Args:
        task: one of :data:`TASKS`.
        name: one of :data:`OBJECTIVES`.
        goal: one of :data:`GOALS`.
        k: the class of a goal that has one.

    Returns:
        Function of (logits, truth) tensors to (B,) values; larger is worse for the victim.
    """
    if task not in TASKS:
        raise VoclabError(f"There is no task {task!r}; choose one of {', '.join(TASKS)}.")
    if name not in OBJECTIVES:
        raise VoclabError(f"There is no objective {name!r}; choose one of {', '.join(OBJECTIVES)}.")
    return {"multilabel": _multilabel, "multiclass": _multiclass, "segmentation": _segmentation}[task](
        name, goal, k
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
