"""What an attack did: how far the network falls, how visible the perturbation is, what survives handling."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from skimage.color import deltaE_ciede2000, rgb2lab
from skimage.metrics import structural_similarity

from voclab.attacks.gradient import Attack
from voclab.attacks.target import Target, VanishingGradientError
from voclab.data.base import VOID, Dataset
from voclab.data.images import at_size, eight_bit, gaussian_blur, jpeg
from voclab.metrics import SegmentationMetrics, mean_average_precision
from voclab.metrics.statistics import bootstrap_interval, wilson
from voclab.models.network import Network

HANDLING = ("JPEG, quality 90", "JPEG, quality 75", "JPEG, quality 50", "blur, sigma 1", "half size and back")
_COLOURS_OF = 48  # images whose colour differences are computed: slower than all else together


def swapped(attacked: np.ndarray, clean: np.ndarray) -> np.ndarray:
    """(n, H, W, 3) uint8 images, each with the perturbation that was made for the one half a list away.

    Neighbours in a list are often of one class.
    """
    change = np.roll(attacked.astype(np.int16) - clean, max(1, len(clean) // 2), axis=0)
    return np.clip(clean + change, 0, 255).astype(np.uint8)


class Bench:
    """Images of one size as 8-bit images with their truth: what networks and attacks are measured on.

    Args:
        dataset: images with labels (and masks, for segmenters).
        size: side in pixels that images and the label maps for attacks are resized to; the Dice is measured
            at each image's own size.
    """

    def __init__(self, dataset: Dataset, size: int):
        self.dataset, self.size = dataset, size
        self._targets: dict = {}
        self._clean: dict = {}

    def __len__(self) -> int:
        return len(self.dataset)

    @cached_property
    def images(self) -> np.ndarray:
        """(n, size, size, 3) uint8; read when first needed."""
        return np.stack([at_size(self.dataset.image(i), self.size) for i in range(len(self))])

    def subset(self, indices: np.ndarray) -> "Bench":
        """A bench of the images at ``indices``, which are not read again."""
        part = Bench(self.dataset.subset(indices), self.size)
        part.images = self.images[indices]
        return part

    def changed(self, change: Callable[[np.ndarray, int], np.ndarray]) -> np.ndarray:
        """(n, size, size, 3) uint8: ``change(image, index)`` of every image."""
        return np.stack([change(image, k) for k, image in enumerate(self.images)])

    def truth(self, task: str) -> np.ndarray:
        """The truth as :class:`voclab.attacks.target.Target` wants it."""
        if task not in self._targets:
            self._targets[task] = self._read(task)
        return self._targets[task]

    def _read(self, task: str) -> np.ndarray:
        labels, size = self.dataset.labels, (self.size, self.size)
        if task != "segmentation":
            return labels if task == "multilabel" else labels.argmax(1)
        masks = (self.dataset.mask(i) for i in range(len(self)))
        return np.stack([cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST) for mask in masks])

    def target(self, task: str, goal: str = "untargeted", class_index: int | None = None) -> Target:
        """The goal for all images; ``class_index`` is one of the data set's class names."""
        if class_index is not None and task == "segmentation":
            class_index += 1  # label 0 is background
        return Target(self.truth(task), goal, class_index)

    def attack(
        self,
        attack: Attack,
        network: Network,
        epsilon: float,
        *,
        goal: str = "untargeted",
        class_index: int | None = None,
        batch_size: int = 16,
        progress: Callable[[str], None] | None = None,
    ) -> tuple[np.ndarray, float]:
        """Perturb all images; a batch in which the gradient vanishes at every image stays as it is.

        Returns:
            ((n, size, size, 3) uint8: what can be saved, seconds an image without the first batch, which
            includes tracing).

        Raises:
            VanishingGradientError: the gradient vanishes at every image of every batch.
        """
        target, saved, seconds = self.target(network.task, goal, class_index), [], []
        vanished, others = None, []
        for start in range(0, len(self), batch_size):
            part = slice(start, start + batch_size)
            images, goals = eight_bit(self.images[part]), target.of(part)
            started = time.perf_counter()
            try:
                perturbed = attack(network, images, goals, epsilon)
                others.append(part)
            except VanishingGradientError as error:
                perturbed, vanished = images, error
            seconds.append((time.perf_counter() - started) / len(images))
            saved.append(np.rint(255 * perturbed).astype(np.uint8))
            if progress:
                left = np.median(seconds) * max(0, len(self) - start - batch_size)
                done = min(start + batch_size, len(self))
                progress(f"{done}/{len(self)} images attacked, {left:.0f} s left")
        if vanished and not any(self._something_to_gain(network, target, part) for part in others):
            raise vanished
        return np.concatenate(saved), float(np.median(seconds[1:] or seconds))

    def _something_to_gain(self, network: Network, target: Target, part: slice) -> bool:
        reached = target.of(part).succeeded(network, network.logits(eight_bit(self.images[part])))
        return bool((reached < 1).any())  # NaN, where no pixel is concerned, is not

    def clean(self, network: Network) -> "Answers":
        """The network's answers to the images as they are; computed once."""
        if network not in self._clean:
            self._clean[network] = self.answers(network, self.images)
        return self._clean[network]

    def answers(self, network: Network, images: np.ndarray) -> "Answers":
        """The network's answers to (n, H, W, 3) uint8 versions of the images."""
        values, counts, metrics = [], [], None
        if network.task == "segmentation":
            metrics = SegmentationMetrics(len(self.dataset.class_names) + 1, boundaries=False)
        for start in range(0, len(images), 16):
            logits = network.logits(eight_bit(images[start : start + 16]))
            if metrics is None:
                values.append(logits)
                continue
            values.append(logits.argmax(-1).astype(np.uint8))
            for i, maps in enumerate(logits, start):
                truth = self.dataset.mask(i)
                large = cv2.resize(maps, truth.shape[::-1], interpolation=cv2.INTER_LINEAR)
                before = metrics.matrix.copy()
                metrics.update(truth, large.argmax(-1).astype(np.uint8))
                own = metrics.matrix - before
                counts.append([np.diag(own), own.sum(0), own.sum(1)])
        return Answers(np.concatenate(values), metrics, np.array(counts) if metrics else None)

    def effect(
        self,
        network: Network,
        images: np.ndarray,
        *,
        goal: str = "untargeted",
        class_index: int | None = None,
    ) -> dict[str, float]:
        """How a network does on perturbed versions of the images.

        Args:
            network: any with this task's truth.
            images: (n, H, W, 3) uint8.
            goal: of the attack.
            class_index: its class, one of the data set's class names.

        Returns:
            ``success``: the attack success rate (of an adversary the fooling rate). With a goal, it is the
            share of the images (pixels) not at the goal when clean that reach it. Without, of a classifier's
            images whose clean top class is right, the share whose top class is none of the true ones; of a
            segmenter's Dice, the share that is lost. Classifiers also have ``accuracy`` (top class among the
            true ones) and ``map`` (multilabel), segmenters ``dice`` and ``flipped`` (pixels whose label is
            not the clean one).
        """
        return self.effect_of(network, self.answers(network, images), goal=goal, class_index=class_index)

    def effect_of(
        self,
        network: Network,
        after: "Answers",
        *,
        goal: str = "untargeted",
        class_index: int | None = None,
    ) -> dict[str, float]:
        """The same from answers that are there already."""
        before, hits = self.clean(network), self._hits(network, after, goal, class_index)
        success = _share(hits) if hits is not None else float("nan")
        if network.task == "segmentation":
            dice, clean_dice = after.metrics.mean_dice(), before.metrics.mean_dice()
            if hits is None and clean_dice > 0:
                success = max(0.0, 1 - dice / clean_dice)  # a better map than the clean one is no success
            figures = {"dice": dice, "flipped": float((before.values != after.values).mean())}
        else:
            is_wrong = self.target(network.task).succeeded(network, after.values)
            figures = {"accuracy": float(1 - is_wrong.mean())}
            if network.task == "multilabel":
                figures["map"] = mean_average_precision(self.dataset.labels, after.values)
        return {"success": success, **figures}

    def interval(
        self,
        network: Network,
        after: "Answers",
        *,
        goal: str = "untargeted",
        class_index: int | None = None,
    ) -> tuple[float, float]:
        """95 % interval of ``success``: Wilson's for a share of images; for a segmenter's Dice, the paired
        bootstrap over images (500 samples); NaN for a share of pixels, which are not independent."""
        hits = self._hits(network, after, goal, class_index)
        if hits is None:
            before = self.clean(network).counts
            if not _dice(before) > 0:
                return float("nan"), float("nan")

            def lost(drawn):
                clean = _dice(before[drawn])
                return max(0.0, 1 - _dice(after.counts[drawn]) / clean) if clean > 0 else 0.0

            low, high = bootstrap_interval(lost, len(self), 500)
            return float(low), float(high)
        if network.task == "segmentation" or not hits.size:
            return float("nan"), float("nan")
        return wilson(int(hits.sum()), hits.size)

    def _hits(self, network: Network, after: "Answers", goal: str, class_index: int | None):
        """Of what the attack can win, what it did win, bool; ``None`` for a segmenter's Dice."""
        before = self.clean(network)
        if goal != "untargeted":
            return _reached(network, before, after, self.target(network.task, goal, class_index))
        if network.task == "segmentation":
            return None
        target = self.target(network.task)
        was_wrong, is_wrong = (target.succeeded(network, a.values) for a in (before, after))
        return is_wrong[~was_wrong]


def _dice(counts: np.ndarray) -> float:
    """Mean foreground Dice of (n, 3, labels) counts: hits, predicted and true pixels."""
    hits, predicted, true = counts.sum(0)[:, 1:].astype(float)
    either = predicted + true
    return float(np.mean(2 * hits[either > 0] / either[either > 0])) if either.any() else float("nan")


def _reached(network: Network, before: "Answers", after: "Answers", target: Target) -> np.ndarray:
    """Of the images (pixels) that did not reach a goal clean, which do, bool."""
    truth, wanted = target.truth, target.class_index
    if network.task == "segmentation":
        concerned = truth == wanted if target.goal == "vanish" else truth != VOID
        was, now = ((a.values == wanted) ^ (target.goal == "vanish") for a in (before, after))
        return now[concerned & ~was]
    was, now = (target.succeeded(network, a.values) for a in (before, after))
    if target.goal == "vanish":  # a class that is called present but is not there is no prize
        was = was | ~(truth[:, wanted] > 0 if network.task == "multilabel" else truth == wanted)
    return now[~was]


def _share(hits: np.ndarray) -> float:
    return float(hits.mean()) if hits.size else float("nan")


@dataclass(frozen=True)
class Answers:
    """A network's answers to all images.

    Attributes:
        values: (n, classes) float32 logits, or (n, H, W) uint8 label maps at the size of the attack.
        metrics: of a segmenter, over all images at their own size.
        counts: (n, 3, labels) int64, right, predicted and true pixels of each image of a segmenter.
    """

    values: np.ndarray
    metrics: SegmentationMetrics | None
    counts: np.ndarray | None = None


def visibility(perturbed: np.ndarray, clean: np.ndarray) -> dict[str, float]:
    """How large and how visible perturbations are.

    Args:
        perturbed: (n, H, W, 3) uint8.
        clean: the same images before.

    Returns:
        ``linf``: the largest change of all, in steps of an 8-bit value; ``l2``: mean Euclidean norm of the
        change of an image in [0, 1]; ``psnr``: mean peak signal-to-noise ratio in dB of the images that
        changed, infinite if none did; ``ssim``: mean structural similarity (Wang et al. 2004, Gaussian
        window); ``ciede2000``: mean colour difference over pixels (CIE DE2000, Sharma et al. 2005), of at
        most 48 images spread evenly.

    The colour difference is here for its unit: a difference of 1 is about the least that is seen between
    two plain patches side by side; noise in textures hides larger ones. A learnt distance such as LPIPS has
    no such threshold, and its weights would have to be downloaded.
    """
    change = perturbed.astype(np.float64) - clean
    squares = (change**2).reshape(len(change), -1)
    errors = squares.mean(1)
    psnr = 10 * np.log10(255.0**2 / errors[errors > 0])
    options = {"channel_axis": -1, "gaussian_weights": True, "use_sample_covariance": False, "sigma": 1.5}
    ssim = [structural_similarity(a, b, data_range=255, **options) for a, b in zip(perturbed, clean)]
    return {
        "linf": float(np.abs(change).max(initial=0)),
        "l2": float((np.sqrt(squares.sum(1)) / 255).mean()),
        "psnr": float(psnr.mean()) if len(psnr) else float("inf"),
        "ssim": float(np.mean(ssim)),
        "ciede2000": _colour_difference(perturbed, clean),
    }


def _colour_difference(perturbed: np.ndarray, clean: np.ndarray) -> float:
    """Mean CIEDE2000 over the pixels of some of the images, spread evenly."""
    chosen = np.unique(np.linspace(0, len(clean) - 1, min(len(clean), _COLOURS_OF)).round().astype(int))
    lab = ((rgb2lab(clean[i]), rgb2lab(perturbed[i])) for i in chosen)  # one by one: they are float64
    return float(np.mean([deltaE_ciede2000(*both).mean() for both in lab]))


def handled(images: np.ndarray, how: str) -> np.ndarray:
    """Images after what happens to images on their way: one of :data:`HANDLING`.

    Args:
        images: (n, H, W, 3) uint8 RGB.
        how: JPEG re-compression, Gaussian blur, or shrinking to half and enlarging again.

    Returns:
        (n, H, W, 3) uint8.
    """
    if how not in HANDLING:
        raise ValueError(f"{how!r} is not one of {', '.join(HANDLING)}")
    return np.stack([_handled(image, how) for image in images])


def _handled(image: np.ndarray, how: str) -> np.ndarray:
    if how.startswith("JPEG"):
        return jpeg(image, int(how.rsplit(maxsplit=1)[-1]))
    if how == "blur, sigma 1":
        return gaussian_blur(image, 1)
    height, width = image.shape[:2]  # half size and back
    small = cv2.resize(image, (max(1, width // 2), max(1, height // 2)), interpolation=cv2.INTER_AREA)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
