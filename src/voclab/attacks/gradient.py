"""Gradient attacks (FGSM, PGD, momentum) and the control: noise that knows nothing of the network."""

from collections.abc import Iterator
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
        return budget.finish(self.perturb(network, images, target, budget), images)

    def perturb(self, network: Network, images: np.ndarray, target: Target, budget: Budget) -> np.ndarray:
        """The attack's own part, which a new attack overrides: images within about the bound.

        Call the attack itself, which checks the arguments, then projects and rounds what this returns.

        Args:
            network: the one under attack.
            images: (B, H, W, 3) float32 8-bit images in [0, 1].
            target: the goal for these images.
            budget: the bound, with the steps that attacks take in it.

        Returns:
            (B, H, W, 3) float32.
        """
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

    def perturb(self, network, images, target, budget):
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

    def perturb(self, network, images, target, budget):
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

    def perturb(self, network, images, target, budget):
        if self.steps < 1:
            raise VoclabError(f"PGD needs at least one step, not {self.steps}.")
        search = Search(network, images, target, budget, self.objective, self.early_stop)
        size, direction = np.float32(budget.epsilon * np.float32(self.step)), 0.0
        points = search.project(images + self._start(images, budget))
        for _ in search.rounds(self.steps):
            gradient = search.gradient(points)
            direction = self._direction(gradient, direction)
            points, direction = search.unfinished(points, direction)
            points = search.project(points + size * ops.sign(direction))
        return search.result(points)

    def _start(self, images, budget):
        return budget.random(images.shape, np.random.default_rng(self.seed)) if self.random_start else 0

    def _direction(self, gradient, before):
        if not self.momentum:
            return gradient
        size = ops.mean(ops.abs(gradient), axis=(1, 2, 3), keepdims=True)
        return self.momentum * before + gradient / ops.maximum(size, 1e-30)


class Search:
    """What PGD and APGD keep beside their points: which images are still attacked, and the best of each.

    Points and directions stay on the device from step to step. With ``keep_best``, an image that has reached
    the goal leaves the batch; its score is +inf (for segmentation that never happens).

    Attributes:
        active: indices of the images that are still attacked.
        values: (n,) the objective at each image's latest point.
        images: (n, H, W, 3) float32, the best point of each image.
        scores: (n,) the objective there.
    """

    def __init__(self, network: Network, images: np.ndarray, target: Target, budget: Budget, objective: str,
                 keep_best: bool):  # fmt: skip
        self.network, self.clean, self.target, self.budget = network, images, target, budget
        self.name, self.keep_best = objective, keep_best
        self.images, self.scores = images.copy(), np.full(len(images), -np.inf)
        self.values = self.scores.copy()
        self.active, self.checked = np.arange(len(images)), False
        self.low, self.high = map(ops.convert_to_tensor, budget.box(images))

    def rounds(self, most: int) -> Iterator[int]:
        """The steps that there are to take: at most so many, and none once no image is left."""
        for number in range(most):
            if len(self.active):
                yield number

    def project(self, points):
        """The nearest points in the ball and in [0, 1]."""
        return ops.clip(ops.cast(points, "float32"), self.low, self.high)

    def gradient(self, points):
        """The objective's gradient at the points, (B, H, W, 3); they are kept where better than before."""
        goal = self.target.of(self.active)
        values, gradient, logits = goal.ascent(self.network, points, self.name)
        if not self.checked:
            reached = goal.succeeded(self.network, ops.convert_to_numpy(logits))
            require_direction(self.network, ops.convert_to_numpy(gradient), self.name, reached)
            self.checked = True
        values = ops.convert_to_numpy(values).astype(float)
        self.values[self.active] = values
        if self.keep_best:
            self._keep(points, values, logits)
        return gradient

    def unfinished(self, *tensors):
        """The part of each (B, …) tensor that belongs to images which have not reached the goal."""
        kept = np.flatnonzero(~np.isposinf(self.scores[self.active]))
        if len(kept) == len(self.active):
            return tensors
        self.active = self.active[kept]
        self.low, self.high, *tensors = (ops.take(x, kept, axis=0) for x in (self.low, self.high, *tensors))
        return tensors

    def result(self, points) -> np.ndarray:
        """(B, H, W, 3) float32: the best points, or the last ones."""
        if not self.keep_best:
            return ops.convert_to_numpy(points)
        if len(self.active):
            logits = self.network.logits(points, len(points))
            values = self.target.of(self.active).values(self.network, logits, self.name)
            self._keep(points, values.astype(float), logits)
        return self.images

    def _keep(self, points, values, logits) -> None:
        points, logits = ops.convert_to_numpy(points), ops.convert_to_numpy(logits)
        if self.network.task != "segmentation":
            hits = np.flatnonzero(self.target.of(self.active).succeeded(self.network, logits))
            if len(hits):
                chosen = self.active[hits]
                saved = eight_bit(self.budget.finish(points[hits], self.clean[chosen]))
                succeeded = self.target.of(chosen).succeeded(self.network, self.network.logits(saved))
                values[hits[succeeded]] = np.inf
        better = values > self.scores[self.active]
        chosen = self.active[better]
        self.images[chosen], self.scores[chosen] = points[better], values[better]
