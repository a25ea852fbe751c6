"""What networks learn from label maps: cross-entropy, soft Dice, focal, Lovász, presence of classes."""

from collections.abc import Callable, Sequence
from functools import cached_property

import keras
from keras import ops

from voclab.backend import gather_over_replicas, share_of_mean, sum_over_replicas
from voclab.data.base import VOID
from voclab.errors import VoclabError


class Pixels:
    """Every pixel of a batch in one row, and what several losses need of it, computed once.

    Args:
        y_true: (B, H, W) label map of any dtype, 255 = void.
        y_pred: (B, H, W, C) logits of any float dtype; all that follows is float32.
    """

    def __init__(self, y_true, y_pred):
        self.classes = y_pred.shape[-1]
        labels = ops.reshape(ops.cast(y_true, "int32"), (-1,))
        # one_hot leaves the row of label -1 empty, which is all the masking that most terms need
        self.labels = ops.where(labels == VOID, -1, labels)
        self.logits = ops.cast(ops.reshape(y_pred, (-1, self.classes)), "float32")

    @cached_property
    def valid(self):
        """(N,) 1 where the truth is known, 0 at void."""
        return ops.cast(self.labels >= 0, "float32")

    @cached_property
    def truth(self):
        """(N, C) one-hot, all zero at void."""
        return ops.one_hot(self.labels, self.classes, dtype="float32")

    @cached_property
    def log_probabilities(self):
        """(N, C) log-softmax."""
        return ops.log_softmax(self.logits)

    @cached_property
    def probabilities(self):
        """(N, C) softmax."""
        return ops.exp(self.log_probabilities)

    @cached_property
    def surprise(self):
        """(N,) -log p of the true class, 0 at void."""
        return -ops.sum(self.truth * self.log_probabilities, axis=1)


class SegmentationLoss(keras.losses.Loss):
    """A loss of label maps (B, H, W), 255 = void, and logits (B, H, W, C): a float32 scalar.

    Void pixels add nothing to value or gradient; a batch of void alone gives 0 and a zero gradient. Where
    several devices share a batch, sums run over the pixels of all: their parts differ in void and classes.
    """

    def call(self, y_true, y_pred):
        return share_of_mean(self.of(Pixels(y_true, y_pred)))

    def of(self, pixels: Pixels):
        """The loss of pixels already prepared: a float32 scalar."""
        raise NotImplementedError


class CrossEntropy(SegmentationLoss):
    """Cross-entropy, averaged over the valid pixels of the batch."""

    def of(self, pixels):
        return _mean(pixels.surprise, pixels.valid)


class SoftDice(SegmentationLoss):
    """Soft Dice: 1 - 2 sum(p g) / (sum(p) + sum(g)), averaged over the classes in the batch's truth.

    Sums run over all valid pixels of the batch. The fraction is that of Drozdzal et al. 2016, without
    the squares that V-Net (Milletari et al. 2016) puts in the denominator, and without the class
    weights of the generalised Dice (Sudre et al. 2017). They treat one foreground class; the plain
    mean over the present classes, background among them, is the usual extension. An absent class
    does not count: its Dice would be 0 however small its probability.
    """

    def of(self, pixels):
        common = sum_over_replicas(ops.sum(pixels.probabilities * pixels.truth, axis=0))
        predicted = sum_over_replicas(ops.matmul(pixels.valid, pixels.probabilities))
        there = sum_over_replicas(ops.sum(pixels.truth, axis=0))
        dice = 2 * common / ops.where(there > 0, predicted + there, 1.0)
        present = ops.cast(there > 0, "float32")
        return _ratio(ops.sum((1 - dice) * present), ops.sum(present))


class Focal(SegmentationLoss):
    """Focal loss (Lin et al. 2017) without alpha: (1 - p)^gamma * ce, averaged over the valid pixels.

    Args:
        gamma: not negative; 0 is the cross-entropy.
    """

    def __init__(self, gamma: float = 2.0):
        super().__init__()
        self.gamma = gamma

    def of(self, pixels):
        # the floor keeps the power's derivative finite at p = 1, where gamma < 1 has a pole
        doubt = ops.maximum(-ops.expm1(-pixels.surprise), 1e-7)
        return _mean(ops.power(doubt, self.gamma) * pixels.surprise, pixels.valid)


class LovaszSoftmax(SegmentationLoss):
    """Lovász-Softmax (Berman et al. 2018), a surrogate of 1 - mIoU, over the batch's present classes.

    For each class the errors |g - p| are sorted, largest first, and weighted by what each pixel adds
    to the Jaccard loss of the set of pixels before it. With I true pixels still right and union U after
    a pixel, that is 1 / U for a true pixel and I / (U (U - 1)) for a false one. The reference takes
    differences of the Jaccard losses instead, which float32 cancels on a batch of a million pixels.
    """

    def of(self, pixels):
        classes = ops.arange(pixels.classes, dtype="int32")[:, None]
        # void pixels have error 0, so they sort last: nothing that weighs comes after them
        errors = ops.abs(pixels.truth - pixels.probabilities) * pixels.valid[:, None]
        errors = ops.transpose(gather_over_replicas(errors))
        count = ops.shape(errors)[1]
        errors, order = ops.top_k(errors, k=count)
        hit = ops.take(gather_over_replicas(pixels.labels), order) == classes
        total = sum_over_replicas(ops.sum(pixels.truth, axis=0))[:, None]
        hits = ops.cumsum(ops.cast(hit, "float32"), axis=1)
        union = total + ops.arange(1, count + 1, dtype="float32") - hits
        weight = ops.where(hit, 1 / union, (total - hits) / (union * ops.maximum(union - 1, 1.0)))
        present = ops.cast(total[:, 0] > 0, "float32")
        return _ratio(ops.sum(ops.sum(errors * weight, axis=1) * present), ops.sum(present))


class Sum(SegmentationLoss):
    """Sum of losses, which share what they have in common."""

    def __init__(self, losses: Sequence[SegmentationLoss]):
        super().__init__()
        self.losses = tuple(losses)

    def of(self, pixels):
        return sum(loss.of(pixels) for loss in self.losses)


class Presence(keras.losses.Loss):
    """Cross-entropy of which classes are in a label map, for a classifier that is trained on crops.

    Of (B, H, W) label maps, 255 = void, and (B, C) logits of the labels 1 to C: a float32 scalar, the mean
    over images and classes of the binary cross-entropy. A class is there if it covers 0.2 % of the pixels:
    a sliver at a crop's edge can be told by nobody.

    Args:
        weight: factor on it.
        share: of the pixels, from which on a class is there.
    """

    def __init__(self, weight: float = 1.0, share: float = 0.002):
        super().__init__()
        self.weight, self.share = weight, share

    def call(self, y_true, y_pred):
        labels = ops.cast(y_true, "int32")
        there = [
            ops.mean(ops.cast(labels == k, "float32"), axis=(1, 2)) > self.share
            for k in range(1, y_pred.shape[-1] + 1)
        ]
        truth = ops.cast(ops.stack(there, axis=-1), "float32")
        loss = keras.losses.binary_crossentropy(truth, ops.cast(y_pred, "float32"), from_logits=True)
        return self.weight * share_of_mean(ops.mean(loss))


LOSSES = {
    "cross_entropy": CrossEntropy,
    "dice": SoftDice,
    "cross_entropy_dice": lambda: Sum([CrossEntropy(), SoftDice()]),
    "focal": Focal,
    "lovasz": LovaszSoftmax,
}


def get_loss(name: str | keras.losses.Loss | Callable) -> keras.losses.Loss | Callable:
    """The loss of that name with its default settings; :class:`VoclabError` for an unknown name.

    A loss of your own is taken as it is: an instance, a class without arguments, or a function of label maps
    and logits.
    """
    if not isinstance(name, str):
        return name() if isinstance(name, type) else name
    if name not in LOSSES:
        raise VoclabError(f"There is no segmentation loss {name!r}; choose one of {', '.join(LOSSES)}.")
    return LOSSES[name]()


def _mean(values, valid):
    """Mean over the valid pixels of a batch, 0 elsewhere; 0, with a zero gradient, where none is valid."""
    return _ratio(sum_over_replicas(ops.sum(values * valid)), sum_over_replicas(ops.sum(valid)))


def _ratio(part, total):
    return part / ops.where(total > 0, total, 1.0)
