"""From a data set to batches: augmentation, a bounded cache, a reproducible `tf.data` stream."""

import os
import random
import threading
from collections.abc import Callable
from functools import lru_cache

import albumentations as A
import cv2
import numpy as np

from voclab.data.base import VOID, Dataset
from voclab.data.images import GREY, resized
from voclab.errors import VoclabError


def augmenter(augmentation: str, size: int) -> A.Compose:
    """The augmentation of that name; image and mask come out as ``size`` × ``size``.

    ``none`` only resizes. ``standard`` adds a random crop at random scale and aspect, a horizontal
    flip and colour jitter. ``advanced`` adds rotation, noise, blur and cut-out. Whatever comes in
    from outside the image is grey in the image and void in the mask. ``crops`` only crops and flips, at the
    scale of an image of twice the ``size``.

    Images as small as CIFAR-10's lose too much to a crop at random scale. ``cifar`` shifts them instead, by
    at most an eighth of the side (4 of 32 pixels; He et al. 2016, section 4.2), and flips them;
    ``cifar-advanced`` adds rotation and colour jitter. There, what comes in from outside is the reflected
    image, and its mask. ``views`` are those of SimSiam on small images (Chen & He 2021, appendix D): a crop
    of a fifth of the area or more, a flip, strong colour jitter, and one in five without colour; no blur.
    """
    # Shrinking without averaging would show aliased pixels to the augmented models alone.
    resize = A.Resize(size, size, area_for_downscale="image")
    larger = A.Resize(2 * size, 2 * size, area_for_downscale="image")
    crop = A.RandomResizedCrop(
        (size, size), scale=(0.35, 1.0), ratio=(0.75, 4 / 3), area_for_downscale="image"
    )
    flip = A.HorizontalFlip(p=0.5)
    colour = A.ColorJitter(brightness=0.25, contrast=0.25, saturation=0.25, hue=0.04, p=0.8)
    rotate = A.Rotate(15, border_mode=cv2.BORDER_CONSTANT, fill=GREY, fill_mask=VOID, p=0.5)
    coarse = A.OneOf([A.GaussNoise(std_range=(0.02, 0.08)), A.GaussianBlur(blur_limit=(3, 5))], p=0.3)
    cut_out = A.CoarseDropout(
        num_holes_range=(1, 3),
        hole_height_range=(0.1, 0.3),
        hole_width_range=(0.1, 0.3),
        fill=GREY,
        fill_mask=VOID,
        p=0.5,
    )
    shift = [A.Pad(size // 8, border_mode=cv2.BORDER_REFLECT_101), A.RandomCrop(size, size)]
    turn = A.Rotate(15, border_mode=cv2.BORDER_REFLECT_101, p=0.5)
    part = A.RandomResizedCrop((size, size), scale=(0.2, 1.0), area_for_downscale="image")
    strong = A.ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, p=0.8)
    transforms = {
        "none": [resize],
        "crops": [larger, A.RandomCrop(size, size), flip],
        "standard": [crop, flip, colour],
        "advanced": [rotate, crop, flip, colour, coarse, cut_out],
        "cifar": [resize, *shift, flip],
        "cifar-advanced": [resize, turn, *shift, flip, colour],
        "views": [part, flip, strong, A.ToGray(p=0.2)],
    }
    if augmentation not in transforms:
        raise ValueError(f"augmentation {augmentation!r} is not one of {', '.join(transforms)}")
    return A.Compose(transforms[augmentation])


def apply_augmentation(compose: A.Compose, seed: tuple[int, ...], image, mask=None) -> dict:
    """Augment one sample with the random state that ``seed`` alone fixes.

    Seeding the ``Compose`` itself would make all its transforms draw the same numbers
    (albumentations 2.0.8), so the state is set for every sample.

    Args:
        compose: what :func:`augmenter` returned.
        seed: integers, e.g. (seed, epoch, index).
        image: (H, W, 3) uint8.
        mask: (H, W) uint8 or ``None``.

    Returns:
        ``{"image": …, "mask": …}`` (``mask`` only if one was given).
    """
    sequence = np.random.SeedSequence(seed)
    compose.set_random_state(
        np.random.default_rng(sequence), random.Random(int(sequence.generate_state(1)[0]))
    )
    return compose(image=image) if mask is None else compose(image=image, mask=mask)


class DecodedCache:
    """Keeps decoded images and masks in memory up to a budget; what does not fit is decoded again.

    Args:
        dataset: where images and masks come from.
        budget_mb: the most memory the cache may hold, in MiB. VOC images take 0.54 MiB each, their
            masks 0.18 MiB.
        longest_side: shrink images (area) and masks (nearest) to at most this many pixels first.
    """

    def __init__(self, dataset: Dataset, budget_mb: float = 1024, longest_side: int | None = None):
        self.dataset = dataset
        self.budget = int(budget_mb * 2**20)
        self.longest_side = longest_side
        self.used = 0
        self._kept: dict[tuple[str, int], np.ndarray] = {}
        self._lock = threading.Lock()

    def image(self, i: int) -> np.ndarray:
        """(H, W, 3) uint8."""
        return self._get("image", i, self.dataset.image, cv2.INTER_AREA)

    def mask(self, i: int) -> np.ndarray:
        """(H, W) uint8, 255 = void."""
        return self._get("mask", i, self.dataset.mask, cv2.INTER_NEAREST)

    def _get(self, kind: str, i: int, decode: Callable[[int], np.ndarray], interpolation: int) -> np.ndarray:
        kept = self._kept.get((kind, i))
        if kept is not None:
            return kept
        array = decode(i)
        scale = 1.0 if self.longest_side is None else self.longest_side / max(array.shape[:2])
        if scale < 1:
            height, width = (max(1, round(side * scale)) for side in array.shape[:2])
            array = cv2.resize(array, (width, height), interpolation=interpolation)
        with self._lock:
            if (kind, i) not in self._kept and self.used + array.nbytes <= self.budget:
                self._kept[kind, i] = array
                self.used += array.nbytes
        return array


def batch_maker(
    dataset: Dataset,
    *,
    size: int,
    augmentation: str,
    batch_size: int,
    seed: int,
    target: str = "labels",
    cache: DecodedCache | None = None,
    failures: list[VoclabError] | None = None,
    rows: slice = slice(None),
) -> Callable[[int], tuple[np.ndarray, np.ndarray]]:
    """Shuffled, augmented batches one by one, for any number of threads.

    Order and augmentation of a sample depend only on (seed, epoch, index).

    Args:
        dataset: with labels, and with masks when ``target`` is ``"masks"``.
        size: side of the square images, pixels.
        augmentation: see :func:`augmenter`.
        batch_size: samples a batch; a data set smaller than that gives one batch an epoch.
        seed: any integer ≥ 0.
        target: ``"labels"``, ``"masks"``, or ``"views"``: each image under other draws of the augmentation.
        cache: decoded images to reuse; by default a new one with the default budget.
        failures: receives the ``VoclabError`` of a damaged file, which TensorFlow would replace by an
            error of its own.
        rows: which rows of each batch to make.

    Returns:
        Function of a step, counted from the first epoch on, to its images (B, size, size, 3) and targets,
        (B, classes) labels, (B, size, size) masks with 255 = void, or further images, all uint8.
    """
    cache = cache or DecodedCache(dataset)
    steps, batch_size = steps_per_epoch(len(dataset), batch_size), min(batch_size, len(dataset))
    local = threading.local()

    @lru_cache(maxsize=2)
    def order(epoch):
        return np.random.default_rng([seed, epoch]).permutation(len(dataset))

    def sample(epoch, index):
        if failures:  # the training ends with them
            raise failures[0]
        image, mask = cache.image(index), cache.mask(index) if target == "masks" else None
        out = apply_augmentation(local.compose, (seed, epoch, index), image, mask)
        if target == "views":
            return out["image"], apply_augmentation(local.compose, (seed, epoch, index, 1), image)["image"]
        return out["image"], out["mask"] if target == "masks" else dataset.labels[index]

    def batch(step):
        if not hasattr(local, "compose"):
            local.compose = augmenter(augmentation, size)
        epoch, k = divmod(int(step), steps)
        chosen = order(epoch)[k * batch_size : (k + 1) * batch_size][rows].tolist()
        try:
            images, wanted = zip(*(sample(epoch, index) for index in chosen), strict=True)
        except VoclabError as error:
            if failures is not None:
                failures.append(error)
            raise
        return np.stack(images), np.stack(wanted)

    return batch


def training_batches(
    dataset: Dataset,
    *,
    size: int,
    batch_size: int,
    seed: int,
    epochs: int,
    start_epoch: int = 0,
    target: str = "labels",
    smoothing: float = 0.0,
    mixup: float = 0.0,
    part: tuple[int, int] | None = None,
    **options,
):
    """A stream of the batches of :func:`batch_maker` for ``fit(steps_per_epoch=…)``, as floats.

    It is the same for any number of cores, and a run resumed at ``start_epoch`` sees what an unbroken one
    sees. The last, incomplete batch of an epoch is left out; see :func:`steps_per_epoch`.

    Args:
        dataset: see :func:`batch_maker`.
        size: see there.
        batch_size: see there.
        seed: see there.
        epochs: how many epochs the stream lasts, counted from epoch 0.
        start_epoch: first epoch to deliver.
        target: see there.
        smoothing: label smoothing, see :func:`smoothed`. For labels only.
        mixup: alpha of mixup (Zhang et al. 2018): each batch becomes weight × batch + (1 - weight) × the
            batch in another order, pixels and labels alike, the weight drawn from Beta(alpha, alpha) once a
            batch as in the authors' code. 0 mixes nothing. For labels only.
        part: (k, n) for the k-th of n equal parts of each batch, row for row; ``None`` for all of it.
        **options: ``augmentation``, ``cache`` and ``failures`` of :func:`batch_maker`.

    Returns:
        ``tf.data.Dataset`` of (images (B, size, size, 3) float32 in [0, 1], targets), the targets
        (B, classes) float32, (B, size, size) uint8 with 255 = void, or images.
    """
    import tensorflow as tf

    if target != "labels" and (smoothing or mixup):
        raise ValueError(f"label smoothing and mixup are for labels, not for {target}")
    steps, shown = steps_per_epoch(len(dataset), batch_size), min(batch_size, len(dataset))
    k, n = part or (0, 1)
    if shown % n:
        raise VoclabError(f"{shown} images a step cannot be shared evenly by {n} machines; name more images.")
    rows = slice(k * shown // n, (k + 1) * shown // n)
    made = slice(None) if mixup else rows  # an image may be mixed with one of another part
    height = len(range(shown)[made])
    shapes = {"labels": (len(dataset.class_names),), "masks": (size, size), "views": (size, size, 3)}
    options |= {"target": target, "rows": made}
    batch = batch_maker(dataset, size=size, batch_size=batch_size, seed=seed, **options)

    def load(step):
        images, wanted = tf.numpy_function(batch, (step,), (tf.uint8, tf.uint8), stateful=False)
        wanted = tf.ensure_shape(wanted, (height, *shapes[target]))
        return tf.ensure_shape(images, (height, size, size, 3)), wanted

    def to_float(images, wanted):
        images = tf.cast(images, tf.float32) / 255.0
        if target == "masks":
            return images, wanted
        if target == "views":
            return images, tf.cast(wanted, tf.float32) / 255.0
        wanted = tf.cast(wanted, tf.float32)
        return images, smoothed(wanted, smoothing, dataset.task) if smoothing else wanted

    def partners(step):
        # The spawn key keeps these draws apart from those of order and augmentation.
        rng = np.random.default_rng(np.random.SeedSequence((seed, int(step)), spawn_key=(1,)))
        return np.float32(rng.beta(mixup, mixup)), rng.permutation(shown)

    def mix(step, batch):
        weight, other = tf.numpy_function(partners, (step,), (tf.float32, tf.int64), stateful=False)
        weight, other = tf.ensure_shape(weight, ()), tf.ensure_shape(other, (shown,))
        return tuple(mixed(values, weight, other)[rows] for values in batch)

    # One call of Python a batch: a generator of indices and a call a sample took as long as the augmentation.
    stream = tf.data.Dataset.range(start_epoch * steps, epochs * steps)
    stream = stream.map(load, num_parallel_calls=os.cpu_count() or 1, deterministic=True)
    stream = stream.map(to_float, num_parallel_calls=1)
    if mixup:
        stream = stream.enumerate(start_epoch * steps).map(mix, num_parallel_calls=1)
    fixed = tf.data.Options()
    fixed.autotune.enabled = False  # its thread delays the end of an iterator by seconds on small machines
    fixed.deterministic = True
    return stream.prefetch(2).with_options(fixed)


def mixed(part, weight, other):
    """Mixup (Zhang et al. 2018) of a batch's images or labels with those at the indices ``other``."""
    import tensorflow as tf

    return weight * part + (1.0 - weight) * tf.gather(part, other)


def smoothed(labels, smoothing: float, task: str):
    """Label smoothing (Szegedy et al. 2016): labels drawn by ``smoothing`` towards knowing nothing.

    That is every class alike for ``"multiclass"`` and one half for each class of ``"multilabel"``, as in
    Keras' categorical and binary cross-entropy.

    Args:
        labels: (B, classes) float tensor or array.
        smoothing: from 0 (none) to 1.
        task: of the data set.

    Returns:
        The same shape and type.
    """
    unknown = 0.5 if task == "multilabel" else 1.0 / labels.shape[-1]
    return labels * (1.0 - smoothing) + smoothing * unknown


def steps_per_epoch(samples: int, batch_size: int) -> int:
    """Batches an epoch of :func:`training_batches` has."""
    return max(1, samples // batch_size)


def evaluation_batches(dataset: Dataset, size: int, batch_size: int, cache: DecodedCache | None = None):
    """Yield (B, size, size, 3) float32 batches in data set order, the last one possibly shorter."""
    source = cache or dataset
    for start in range(0, len(dataset), batch_size):
        stop = min(start + batch_size, len(dataset))
        yield np.stack([resized(source.image(i), size) for i in range(start, stop)])
