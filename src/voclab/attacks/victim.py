"""The network under attack: its answers, the gradient of an objective at its input, and what fools it."""

import keras
import numpy as np
from keras import ops

from voclab.attacks.target import TASKS, Target, objective
from voclab.backend import compiled, compiled_gradient
from voclab.errors import VoclabError


class Victim:
    """A frozen network of pixels, as attacks see it.

    Args:
        model: (B, H, W, 3) float32 in [0, 1] -> (B, classes) logits, or (B, H, W, labels) for segmentation.
        task: ``"multilabel"``, ``"multiclass"`` or ``"segmentation"``.
        name: for messages and tables.
        thresholds: (classes,) probabilities above which a ``multilabel`` class counts as present; 0.5 else.
    """

    def __init__(self, model: keras.Model, task: str, name: str = "victim", thresholds=None):
        if task not in TASKS:
            raise VoclabError(f"There is no task {task!r}; choose one of {', '.join(TASKS)}.")
        self.model, self.task, self.name = model, task, name
        share = np.full(model.output_shape[-1], 0.5) if thresholds is None else np.asarray(thresholds, float)
        self._cut = np.log(share / (1 - share))  # in logits
        self._forward = compiled(model, name)
        self._gradients: dict = {}

    def logits(self, images, batch_size: int = 16) -> np.ndarray:
        """(B, …) float32 logits of (B, H, W, 3) images in [0, 1], an array or a tensor."""
        parts = [self._forward(images[k : k + batch_size]) for k in range(0, len(images), batch_size)]
        return np.concatenate(parts)

    def gradient(self, images: np.ndarray, target: Target, name: str):
        """An objective and its gradient at the images.

        Args:
            images: (B, H, W, 3) float32.
            target: the goal.
            name: ``"margin"`` or ``"cross_entropy"``, see :func:`voclab.attacks.target.objective`.

        Returns:
            ((B,) values, (B, H, W, 3) gradients, logits), float32.

        Raises:
            VoclabError: the gradient is not finite.
        """
        return tuple(map(ops.convert_to_numpy, self.gradient_tensors(images, target, name)))

    def gradient_tensors(self, images, target: Target, name: str):
        """:meth:`gradient` of an array or a tensor, left on the device that computes it."""
        key = (name, target.goal, target.k)
        if key not in self._gradients:
            of_logits = objective(self.task, *key)
            forward = lambda x: self.model(x, training=False)  # noqa: E731
            self._gradients[key] = compiled_gradient(forward, of_logits, np.ndim(target.truth))
        values, gradient, logits = self._gradients[key](images, target.truth)
        if not ops.all(ops.isfinite(gradient)):
            raise VoclabError(
                f"The gradient of {self.name} is not finite, so there is no direction to attack along; "
                "look for a division by zero or an overflow in its layers."
            )
        return values, gradient, logits

    def values(self, images, target: Target, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Objective and logits, as :meth:`gradient` gives them, where no gradient is needed."""
        logits = self.logits(images, batch_size=len(images))
        values = objective(self.task, name, target.goal, target.k)(logits, target.truth)
        return ops.convert_to_numpy(values), logits

    def require(self, images: np.ndarray, target: Target) -> None:
        """Refuse a goal that makes no sense for these (B, H, W, 3) images.

        Raises:
            VoclabError: a truth of another shape than the task's, or a class that the network does not know.
        """
        labels, truth = self.model.output_shape[-1], np.shape(target.truth)
        shapes = {"multilabel": (len(images), labels), "multiclass": images.shape[:1]}
        expected = shapes.get(self.task, images.shape[:3])
        if truth != expected:
            raise VoclabError(
                f"The truth has shape {truth}, but {self.name} ({self.task}) needs {expected}; "
                "see voclab.attacks.Target."
            )
        if target.k is not None and not 0 <= target.k < labels:
            raise VoclabError(
                f"The goal's class is {target.k}, but {self.name} knows {labels}; choose one from 0 to "
                f"{labels - 1}."
            )

    def refuse_vanishing(self, gradient: np.ndarray, name: str, reached: np.ndarray | None = None) -> None:
        """One sentence where the gradient is zero for every image, so that it shows no direction.

        Args:
            gradient: (B, H, W, 3).
            name: of the objective.
            reached: what :meth:`succeeded` says; images that leave nothing to gain do not count.
        """
        if reached is not None:
            gradient = gradient[reached < 1]  # NaN, where no pixel is concerned, is not
        if len(gradient) and not np.any(gradient):
            remedy = (
                "attack the margin of the logits instead (objective='margin')"
                if name == "cross_entropy"
                else "attack a smooth copy of it, or transfer an attack from another victim"
            )
            raise VoclabError(
                f"The gradient of {self.name} vanishes at every image, which hides the way but does not make "
                f"it robust; {remedy}."
            )

    def succeeded(self, logits: np.ndarray, target: Target) -> np.ndarray:
        """Whether the goal is reached, (B,) bool; for segmentation the share of pixels, (B,) float.

        Untargeted, a classifier is fooled if its top class is none of the true ones, a pixel if its label is
        wrong. A ``multilabel`` class has appeared if its probability exceeds its threshold. Pixels that are
        void, and for ``vanish`` those that are not of class k, do not count (NaN if none is left).
        """
        truth, k = target.truth, target.k
        if self.task == "segmentation":
            return self._pixels(logits.argmax(-1), truth, target)
        top = logits.argmax(1)
        if target.goal == "untargeted":
            right = truth[np.arange(len(top)), top] > 0 if self.task == "multilabel" else truth == top
            return ~right
        there = logits[:, k] > self._cut[k] if self.task == "multilabel" else top == k
        return there if target.goal == "appear" else ~there

    @staticmethod
    def _pixels(labels: np.ndarray, truth: np.ndarray, target: Target) -> np.ndarray:
        concerned = truth == target.k if target.goal == "vanish" else truth != 255
        reached = labels == target.k if target.goal == "appear" else labels != truth
        counts = concerned.sum((1, 2)).astype(float)
        share = (reached & concerned).sum((1, 2)) / np.maximum(counts, 1)
        return np.where(counts > 0, share, np.nan)
