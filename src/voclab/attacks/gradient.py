"""Gradient attacks (FGSM, PGD, momentum) and the control: noise that knows nothing of the network."""

from dataclasses import dataclass

import numpy as np
from keras import ops

from voclab.attacks.budget import Budget, require_images
from voclab.attacks.target import Target, require_direction
from voclab.data.images import eight_bit
from voclab.errors import VoclabError
from voclab.models.network import Network


class Attack:
    """One call shape for all attacks: (network, images, target, epsilon) -> images."""

    def __call__(
        self, network: Network, images: np.ndarray, target: Target | np.ndarray, epsilon: float
    ) -> np.ndarray:
        """Perturb images.

        Args:
            network: the one under attack.
            images: (B, H, W, 3) 8-bit images in [0, 1].
            target: the goal; an array is the truth of an untargeted attack.
            epsilon: the L∞ bound, see :class:`voclab.attacks.budget.Budget`.

        Returns:
            (B, H, W, 3) float32 in [0, 1] within the bound, also after rounding to 8 bits (asserted).
            ``epsilon`` 0 gives the images unchanged.

        Raises:
            VoclabError: images, target or epsilon that make no sense.
            VanishingGradientError: a gradient that is zero at every image.
        """
        budget, images = Budget(float(epsilon)), require_images(images)
        target = target if isinstance(target, Target) else Target(np.asarray(target))
        if len(target.truth) != len(images):
            raise VoclabError(f"There are {len(images)} images but the truth of {len(target.truth)}.")
        target.require(network, images)
        if epsilon == 0 or len(images) == 0:
            return images
        return budget.finish(self._perturb(network, images, target, budget), images)

    def _perturb(self, network: Network, images: np.ndarray, target: Target, budget: Budget) -> np.ndarray:
        raise NotImplementedError


@dataclass(frozen=True)
class Noise(Attack):
    """The control: noise that knows nothing of the network, at the full size of the bound.

    Attributes:
        kind: ``"sign"`` (every value moved by ±epsilon: the largest noise there is) or ``"uniform"``.
        seed: of the noise. The same for every batch.
    """

    kind: str = "sign"
    seed: int = 0

    def _perturb(self, network, images, target, budget):
        rng = np.random.default_rng(self.seed)
        if self.kind == "sign":
            return images + budget.fill(rng.choice([-1.0, 1.0], images.shape))
        if self.kind == "uniform":
            return images + budget.random(images.shape, rng)
        raise VoclabError(f"There is no noise {self.kind!r}; choose sign or uniform.")


@dataclass(frozen=True)
class FGSM(Attack):
    """One step along the sign of the gradient (Goodfellow et al. 2015).

    Attributes:
        objective: ``"margin"`` or ``"cross_entropy"``.
    """

    objective: str = "margin"

    def _perturb(self, network, images, target, budget):
        _, gradient, logits = target.gradient(network, images, self.objective)
        require_direction(network, gradient, self.objective, target.succeeded(network, logits))
        return images + budget.fill(gradient)


@dataclass(frozen=True)
class PGD(Attack):
    """Projected gradient ascent from a random start (Madry et al. 2018), with momentum if wished (MI-FGSM,
    Dong et al. 2018).

    Attributes:
        objective: ``"margin"`` or ``"cross_entropy"``.
        steps: gradient steps.
        step: size of a step as a share of epsilon.
        random_start: whether it begins anywhere in the ball (else at the clean image).
        momentum: share of the earlier direction that is kept; 0 is PGD.
        early_stop: whether an image is left alone once it reaches the goal rounded to 8 bits, and of an
            image that never does the best point visited is kept. Without it the attack ends at its last step,
            as in the paper.
        seed: of the start.
    """

    objective: str = "margin"
    steps: int = 20
    step: float = 0.125
    random_start: bool = True
    momentum: float = 0.0
    early_stop: bool = True
    seed: int = 0

    def _perturb(self, network, images, target, budget):
        if self.steps < 1:
            raise VoclabError(f"PGD needs at least one step, not {self.steps}.")
        noise = budget.random(images.shape, np.random.default_rng(self.seed)) if self.random_start else 0
        size = np.float32(budget.epsilon * np.float32(self.step))
        objective = target.objective(network, self.objective)
        best, active, goal = _Best(network, images, target, budget), np.arange(len(images)), target
        low, high = map(ops.convert_to_tensor, budget.box(images))
        # Points and directions stay on the device from step to step.
        points, direction = ops.convert_to_tensor(budget.project(images + noise, images)), 0.0
        for number in range(self.steps):
            values, gradient, logits = network.gradient(points, goal.truth, objective)
            if number == 0:
                reached = goal.succeeded(network, ops.convert_to_numpy(logits))
                require_direction(network, ops.convert_to_numpy(gradient), self.objective, reached)
            direction = self._direction(gradient, direction)
            if self.early_stop:
                best.keep(points, values, logits, active)
                kept = np.flatnonzero(~np.isposinf(best.scores[active]))
                if not len(kept):
                    return best.images
                if len(kept) < len(active):
                    points, direction, low, high = (
                        ops.take(x, kept, axis=0) for x in (points, direction, low, high)
                    )
                    active = active[kept]
                    goal = target.of(active)
            points = ops.clip(points + size * ops.sign(direction), low, high)
        if not self.early_stop:
            return ops.convert_to_numpy(points)
        logits = network.logits(points, len(points))
        best.keep(points, goal.values(network, logits, self.objective), logits, active)
        return best.images

    def _direction(self, gradient, before):
        if not self.momentum:
            return gradient
        size = ops.mean(ops.abs(gradient), axis=(1, 2, 3), keepdims=True)
        return self.momentum * before + gradient / ops.maximum(size, 1e-30)


class _Best:
    """The best points found so far. A score of +inf says that the attack on that image has succeeded."""

    def __init__(self, network: Network, images: np.ndarray, target: Target, budget: Budget):
        self.network, self.clean, self.target, self.budget = network, images, target, budget
        self.images, self.scores = images.copy(), np.full(len(images), -np.inf)

    def keep(self, points, values, logits, active: np.ndarray) -> None:
        """Remember which points are better than those before, and how good they are.

        That is the objective, and +inf where the image that can be saved reaches the goal (pixels: never).
        """
        points, logits = ops.convert_to_numpy(points), ops.convert_to_numpy(logits)
        values = ops.convert_to_numpy(values).astype(float)
        if self.network.task != "segmentation":
            hits = np.flatnonzero(self.target.of(active).succeeded(self.network, logits))
            if len(hits):
                chosen = active[hits]
                saved = eight_bit(self.budget.finish(points[hits], self.clean[chosen]))
                succeeded = self.target.of(chosen).succeeded(self.network, self.network.logits(saved))
                values[hits[succeeded]] = np.inf
        better = values > self.scores[active]
        self.images[active[better]], self.scores[active[better]] = points[better], values[better]
