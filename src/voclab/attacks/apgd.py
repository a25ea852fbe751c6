"""APGD: gradient ascent that chooses its own step sizes, untargeted or towards several wrong classes."""

from dataclasses import dataclass

import numpy as np
from keras import ops

from voclab.attacks.budget import Budget, own_random
from voclab.attacks.gradient import Attack, Search
from voclab.attacks.target import Aimed, VanishingGradientError
from voclab.errors import VoclabError

_MOMENTUM = 0.75  # the paper's alpha: share of the new step, the rest goes on as before
_RISES = 0.75  # the paper's rho: the share of steps that must raise the objective


@dataclass(frozen=True)
class APGD(Attack):
    """Auto-PGD (Croce & Hein, *Reliable evaluation of adversarial robustness with an ensemble of diverse
    parameter-free attacks*, 2020), from one random start.

    An image begins with steps of 2 epsilon. At :func:`checkpoints` its step is halved, and it goes back to
    its best point, if the objective rose in fewer than three quarters of the steps since the last one, or if
    neither step nor best value has changed since then. Images that are fooled once rounded to 8 bits are left
    alone.

    Attributes:
        objective: ``"cross_entropy"`` (as APGD-CE) or ``"margin"``.
        steps: gradients an image.
        seed: of the start, which depends on the image and on nothing else in the batch.
    """

    objective: str = "cross_entropy"
    steps: int = 100
    seed: int = 0

    def perturb(self, network, images, target, budget):
        search = Search(network, images, target, budget, self.objective, keep_best=True)
        return ascend(search, self.steps, self.seed)


@dataclass(frozen=True)
class TargetedAPGD(Attack):
    """APGD-T: the same towards each of an image's most probable wrong classes in turn, for classifiers.

    The classes are ranked by the logits of the clean image; of a multi-label image they are those that it
    does not show. What is raised is :func:`voclab.attacks.target.aimed`. An image that is never fooled gets
    the point with the largest margin.

    Attributes:
        targets: how many classes; images with fewer wrong ones have all of them.
        steps: gradients an image and class.
        seed: of the starts, see :class:`APGD`; each class has its own.
    """

    targets: int = 9
    steps: int = 100
    seed: int = 0

    def perturb(self, network, images, target, budget):
        if network.task == "segmentation" or target.goal != "untargeted":
            raise VoclabError(
                "APGD-T aims at wrong classes of a classifier's images; for segmenters and goals take APGD."
            )
        if self.targets < 1:
            raise VoclabError(f"APGD-T needs at least one class to aim at, not {self.targets}.")
        logits = network.logits(images)
        wrong = target.truth == 0 if network.task == "multilabel" else _others(target.truth, logits.shape[1])
        order = np.where(wrong, -logits, np.inf).argsort(1, kind="stable")
        found, scores, vanished = images.copy(), np.full(len(images), -np.inf), None
        for rank in range(min(self.targets, int(wrong.sum(1).max()))):
            left = np.flatnonzero((scores < np.inf) & (wrong.sum(1) > rank))
            if not len(left):
                break
            goal = Aimed(target.truth[left], aims=order[left, rank])
            search = Search(network, images[left], goal, budget, "aimed", keep_best=True)
            try:
                points = ascend(search, self.steps, self.seed + rank)
            except VanishingGradientError as error:  # towards this class; perhaps not towards the others
                vanished = error
                continue
            margins = target.of(left).values(network, network.logits(points, len(left)), "margin")
            margins = np.where(np.isposinf(search.scores), np.inf, margins)
            better = margins > scores[left]
            found[left[better]], scores[left[better]] = points[better], margins[better]
        if vanished and np.isneginf(scores).all():
            raise vanished
        return found


def checkpoints(steps: int) -> list[int]:
    """The steps, 0 among them, after which APGD looks at its step size: ceil(p_j · steps) of the paper."""
    percent = [0, 22]  # whole numbers, which no rounding moves across the next step
    while percent[-1] < 100:
        percent.append(percent[-1] + max(percent[-1] - percent[-2] - 3, 6))
    return [-(-p * steps // 100) for p in percent if p < 100]


def ascend(search: Search, steps: int, seed: int) -> np.ndarray:
    """Auto-PGD on what a search keeps; (B, H, W, 3) float32, the best point of each image.

    Raises:
        VoclabError: fewer than one step.
    """
    if steps < 1:
        raise VoclabError(f"APGD needs at least one step, not {steps}.")
    n, checks, last = len(search.images), checkpoints(steps), 0
    step = np.full((n, 1, 1, 1), 2 * search.budget.epsilon, np.float32)
    rises, halved, best = np.zeros(n), np.zeros(n, bool), np.full(n, -np.inf)
    points = before = search.project(search.clean + _starts(search.clean, search.budget, seed))
    at_best = ops.zeros_like(points)  # the gradient at the best point
    for k in search.rounds(steps):
        values, scores = search.values.copy(), search.scores.copy()
        gradient = search.gradient(points)
        rises += search.values > values
        at_best = ops.where(_each(search.scores > scores, search), gradient, at_best)
        points, before, gradient, at_best = search.unfinished(points, before, gradient, at_best)
        if k in checks:
            stuck = (rises < _RISES * (k - last)) | (~halved & (search.scores <= best))
            step[stuck] /= 2
            points = ops.where(_each(stuck, search), search.images[search.active], points)
            gradient = ops.where(_each(stuck, search), at_best, gradient)
            rises, halved, best, last = np.zeros(n), stuck, search.scores.copy(), k
        moved = search.project(points + step[search.active] * ops.sign(gradient))
        if k > 0:
            moved = points + _MOMENTUM * (moved - points) + (1 - _MOMENTUM) * (points - before)
        points, before = search.project(moved), points
    return search.result(points)


def _each(chosen: np.ndarray, search: Search) -> np.ndarray:
    """What is chosen of all images, for the pixels of those that are still attacked."""
    return chosen[search.active][:, None, None, None]


def _starts(images: np.ndarray, budget: Budget, seed: int) -> np.ndarray:
    return np.stack([budget.random(image.shape, rng) for image, rng in zip(images, own_random(images, seed))])


def _others(truth: np.ndarray, classes: int) -> np.ndarray:
    return truth[:, None] != np.arange(classes)
