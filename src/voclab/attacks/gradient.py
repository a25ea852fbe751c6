"""Attacks that follow the victim's gradient: FGSM, PGD and momentum; and the control that follows nothing."""

from dataclasses import dataclass

import numpy as np
from keras import ops

from voclab.attacks.budget import Budget, require_images
from voclab.attacks.target import Target
from voclab.attacks.victim import Victim
from voclab.data.images import eight_bit
from voclab.errors import VoclabError


class Attack:
    """One call shape for all attacks: (victim, images, target, epsilon) -> images.

    Attributes:
        norm: of the bound, ``"linf"`` or ``"l2"``.
    """

    norm: str

    def __call__(
        self, victim: Victim, images: np.ndarray, target: Target | np.ndarray, epsilon: float
    ) -> np.ndarray:
        """Perturb images.

        Args:
            victim: the network under attack.
            images: (B, H, W, 3) 8-bit images in [0, 1].
            target: the goal; an array is the truth of an untargeted attack.
            epsilon: the bound, see :class:`voclab.attacks.budget.Budget`.

        Returns:
            (B, H, W, 3) float32 in [0, 1] within the bound, also after rounding to 8 bits (asserted).
            ``epsilon`` 0 gives the images unchanged.

        Raises:
            VoclabError: images, target or epsilon that make no sense, or a victim without gradients.
        """
        budget, images = Budget(epsilon, self.norm), require_images(images)
        target = target if isinstance(target, Target) else Target(np.asarray(target))
        if len(target.truth) != len(images):
            raise VoclabError(f"There are {len(images)} images but the truth of {len(target.truth)}.")
        victim.require(images, target)
        if epsilon == 0 or len(images) == 0:
            return images
        return budget.finish(self._perturb(victim, images, target, budget), images)

    def _perturb(self, victim: Victim, images: np.ndarray, target: Target, budget: Budget) -> np.ndarray:
        raise NotImplementedError


@dataclass(frozen=True)
class Noise(Attack):
    """The control: noise that knows nothing of the victim, at the full size of the bound.

    Attributes:
        kind: ``"sign"`` (every value moved by ±epsilon: the largest noise there is) or ``"uniform"``.
        seed: of the noise. The same for every batch.
        norm: of the bound.
    """

    kind: str = "sign"
    norm: str = "linf"
    seed: int = 0

    def _perturb(self, victim, images, target, budget):
        rng = np.random.default_rng(self.seed)
        if self.kind == "sign":
            return images + budget.fill(rng.choice([-1.0, 1.0], images.shape))
        if self.kind == "uniform":
            return images + budget.random(images.shape, rng)
        raise VoclabError(f"There is no noise {self.kind!r}; choose sign or uniform.")


@dataclass(frozen=True)
class FGSM(Attack):
    """One step along the sign of the gradient (Goodfellow et al. 2015); L2: along the gradient itself.

    Attributes:
        objective: ``"margin"`` or ``"cross_entropy"``.
        norm: of the bound.
    """

    objective: str = "margin"
    norm: str = "linf"

    def _perturb(self, victim, images, target, budget):
        _, gradient, logits = victim.gradient(images, target, self.objective)
        victim.refuse_vanishing(gradient, self.objective, victim.succeeded(logits, target))
        return images + budget.fill(gradient)


@dataclass(frozen=True)
class PGD(Attack):
    """Projected gradient ascent from random starts (Madry et al. 2018), with momentum if wished (MI-FGSM,
    Dong et al. 2018).

    Attributes:
        objective: ``"margin"`` or ``"cross_entropy"``.
        steps: gradient steps a restart.
        step: size of a step as a share of epsilon; a number for each image, or one for all.
        restarts: how often to start anew. Of all restarts, an image keeps the one that reaches the goal,
            else that of the highest objective.
        random_start: whether a restart begins anywhere in the ball (else at the clean image).
        momentum: share of the earlier direction that is kept; 0 is PGD.
        early_stop: whether an image is left alone once it reaches the goal rounded to 8 bits, and of an
            image that never does the best point visited is kept. Without it a restart ends at its last step,
            as in the paper.
        seed: of the starts.
        norm: of the bound.
    """

    objective: str = "margin"
    steps: int = 20
    step: float | np.ndarray = 0.125
    restarts: int = 1
    random_start: bool = True
    momentum: float = 0.0
    early_stop: bool = True
    seed: int = 0
    norm: str = "linf"

    def _perturb(self, victim, images, target, budget):
        if self.steps < 1 or self.restarts < 1:
            raise VoclabError(f"PGD needs a step and a start, not {self.steps} and {self.restarts}.")
        step = np.broadcast_to(np.asarray(self.step, np.float32), len(images))
        rng = np.random.default_rng(self.seed)
        best, score = images.copy(), np.full(len(images), -np.inf)
        for _ in range(self.restarts):
            # Drawn for all images, so that what one image gets does not depend on the fate of others.
            start = budget.random(images.shape, rng) if self.random_start else np.zeros_like(images)
            todo = np.flatnonzero(~np.isposinf(score))
            if not len(todo):
                break
            climb = _Climb(self, victim, images[todo], target.of(todo), budget)
            found, reached = climb.run(images[todo] + start[todo], step[todo])
            better = reached > score[todo]
            best[todo[better]], score[todo[better]] = found[better], reached[better]
        return best


class _Climb:
    """One restart of PGD. A score of +inf says that the goal is reached."""

    def __init__(self, attack: PGD, victim: Victim, images: np.ndarray, target: Target, budget: Budget):
        self.attack, self.victim, self.images = attack, victim, images
        self.target, self.budget = target, budget
        self.best, self.score = images.copy(), np.full(len(images), -np.inf)

    def run(self, start: np.ndarray, step: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(images found, their scores)."""
        attack, target, active = self.attack, self.target, np.arange(len(self.images))
        # Points and directions are those of the active images and stay on the device from step to step.
        points = ops.convert_to_tensor(self.budget.project(start, self.images))
        move = self.budget.mover(self.images, step)
        momentum = ops.zeros_like(points) if attack.momentum else None
        for k in range(attack.steps):
            values, gradient, logits = self.victim.gradient_tensors(points, target, attack.objective)
            if k == 0:
                reached = self.victim.succeeded(ops.convert_to_numpy(logits), target)
                self.victim.refuse_vanishing(ops.convert_to_numpy(gradient), attack.objective, reached)
            if attack.early_stop:
                self._keep(points, values, logits, active)
                left = np.flatnonzero(~np.isposinf(self.score[active]))
                if not len(left):
                    return self.best, self.score
                if len(left) < len(active):
                    active = active[left]
                    target = self.target.of(active)
                    move = self.budget.mover(self.images[active], step[active])
                    points, gradient = ops.take(points, left, axis=0), ops.take(gradient, left, axis=0)
                    momentum = ops.take(momentum, left, axis=0) if attack.momentum else None
            if attack.momentum:
                size = ops.mean(ops.abs(gradient), axis=(1, 2, 3), keepdims=True)
                momentum = gradient = attack.momentum * momentum + gradient / ops.maximum(size, 1e-30)
            points = move(points, gradient)
        if attack.early_stop or attack.restarts > 1:
            self._keep(points, *self.victim.values(points, target, attack.objective), active)
            return self.best, self.score
        return ops.convert_to_numpy(points), np.zeros(len(points))

    def _keep(self, points, values, logits, active):
        """Remember which points are better than those before, and how good they are.

        That is the objective, and +inf where the image that can be saved reaches the goal (pixels: never).
        """
        points, logits = ops.convert_to_numpy(points), ops.convert_to_numpy(logits)
        values = ops.convert_to_numpy(values).astype(float)
        if self.victim.task != "segmentation":
            hits = np.flatnonzero(self.victim.succeeded(logits, self.target.of(active)))
            if len(hits):
                chosen = active[hits]
                saved = eight_bit(self.budget.finish(points[hits], self.images[chosen]))
                fooled = self.victim.succeeded(self.victim.logits(saved), self.target.of(chosen))
                values[hits[fooled]] = np.inf
        better = values > self.score[active]
        self.best[active[better]], self.score[active[better]] = points[better], values[better]
