"""From a data set to batches: augmentation policies, a bounded cache, a reproducible `tf.data` stream."""

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

POLICIES = ("none", "standard", "advanced", "cifar", "cifar-advanced")


def augmenter(augmentation: str, size: int) -> A.Compose:
    """The augmentation policy of that name; image and mask come out as ``size`` × ``size``.

    ``none`` only resizes. ``standard`` adds a random crop at random scale and aspect, a horizontal
    flip and colour jitter. ``advanced`` adds rotation, noise, blur and cut-out. Whatever comes in
    from outside the image is grey in the image and void in the mask.

    Images as small as CIFAR-10's lose too much to a crop at random scale. ``cifar`` shifts them instead, by
    at most an eighth of the side (4 of 32 pixels; He et al. 2016, section 4.2), and flips them;
    ``cifar-advanced`` adds rotation and colour jitter. There, what comes in from outside is the reflected
    image, and its mask.
    """
    if augmentation == "none":
        return A.Compose([A.Resize(size, size, area_for_downscale="image")])
    # Shrinking without averaging would show aliased pixels to the augmented models alone.
    crop = A.RandomResizedCrop(
        (size, size), scale=(0.35, 1.0), ratio=(0.75, 4 / 3), area_for_downscale="image"
    )
    flip = A.HorizontalFlip(p=0.5)
    colour = A.ColorJitter(brightness=0.25, contrast=0.25, saturation=0.25, hue=0.04, p=0.8)
    if augmentation == "standard":
        return A.Compose([crop, flip, colour])
    if augmentation == "advanced":
        return A.Compose(
            [
                A.Rotate(15, border_mode=cv2.BORDER_CONSTANT, fill=GREY, fill_mask=VOID, p=0.5),
                crop,
                flip,
                colour,
                A.OneOf([A.GaussNoise(std_range=(0.02, 0.08)), A.GaussianBlur(blur_limit=(3, 5))], p=0.3),
                A.CoarseDropout(
                    num_holes_range=(1, 3),
                    hole_height_range=(0.1, 0.3),
                    hole_width_range=(0.1, 0.3),
                    fill=GREY,
                    fill_mask=VOID,
                    p=0.5,
                ),
            ]
        )
    resize = A.Resize(size, size, area_for_downscale="image")
    pad = A.Pad(size // 8, border_mode=cv2.BORDER_REFLECT_101)
    if augmentation == "cifar":
        return A.Compose([resize, pad, A.RandomCrop(size, size), flip])
    if augmentation == "cifar-advanced":
        rotate = A.Rotate(15, border_mode=cv2.BORDER_REFLECT_101, p=0.5)
        return A.Compose([resize, rotate, pad, A.RandomCrop(size, size), flip, colour])
    raise ValueError(f"augmentation policy {augmentation!r} is not one of {', '.join(POLICIES)}")


def apply_augmentation(compose: A.Compose, seed: tuple[int, ...], image, mask=None) -> dict:
    """Augment one sample with the random state that ``seed`` alone fixes.

    Seeding the ``Compose`` itself would make all its transforms draw the same numbers
    (albumentations 2.0.8), so the state is set for every sample.

    Args:
        compose: what :func:`augmentation` returned.
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
) -> Callable[[int], tuple[np.ndarray, np.ndarray]]:
    """The batches of :func:`training_batches` one by one, for any number of threads; see there.

    Returns:
        Function of a step, counted from the first epoch on, to its images (B, size, size, 3) and targets
        (B, classes) or (B, size, size), all uint8.
    """
    cache = cache or DecodedCache(dataset)
    steps, batch_size = steps_per_epoch(len(dataset), batch_size), min(batch_size, len(dataset))
    shape = (size, size) if target == "masks" else (len(dataset.class_names),)
    local = threading.local()

    @lru_cache(maxsize=2)
    def order(epoch):
        return np.random.default_rng([seed, epoch]).permutation(len(dataset))

    def batch(step):
        if not hasattr(local, "compose"):
            local.compose = augmenter(augmentation, size)
        epoch, k = divmod(int(step), steps)
        images = np.empty((batch_size, size, size, 3), np.uint8)
        wanted = np.empty((batch_size, *shape), np.uint8)
        for row, index in enumerate(order(epoch)[k * batch_size : (k + 1) * batch_size].tolist()):
            try:
                image, mask = cache.image(index), cache.mask(index) if target == "masks" else None
            except VoclabError as error:
                if failures is not None:
                    failures.append(error)
                raise
            out = apply_augmentation(local.compose, (seed, epoch, index), image, mask)
            images[row] = out["image"]
            wanted[row] = out["mask"] if target == "masks" else dataset.labels[index]
        return images, wanted

    return batch


def training_batches(
    dataset: Dataset,
    *,
    size: int,
    augmentation: str,
    batch_size: int,
    seed: int,
    epochs: int,
    start_epoch: int = 0,
    target: str = "labels",
    cache: DecodedCache | None = None,
    smoothing: float = 0.0,
    mixup: float = 0.0,
    workers: int | None = None,
    failures: list[VoclabError] | None = None,
):
    """An endless-enough stream of shuffled, augmented batches for ``fit(steps_per_epoch=…)``.

    Order and augmentation of a sample depend only on (seed, epoch, index): the stream is the same
    for any number of workers, and a run resumed at ``start_epoch`` sees what an unbroken one sees.
    The last, incomplete batch of an epoch is left out; see :func:`steps_per_epoch`.

    Args:
        dataset: with labels, and with masks when ``target`` is ``"masks"``.
        size: side of the square images, pixels.
        augmentation: name of the augmentation policy.
        batch_size: samples a batch; a data set smaller than that gives one batch an epoch.
        seed: any integer ≥ 0.
        epochs: how many epochs the stream lasts, counted from epoch 0.
        start_epoch: first epoch to deliver.
        target: ``"labels"`` or ``"masks"``.
        cache: decoded images to reuse; by default a new one with the default budget.
        smoothing: label smoothing, see :func:`smoothed`.
        mixup: alpha of mixup (Zhang et al. 2018): each batch becomes weight × batch + (1 - weight) × the
            batch in another order, pixels and labels alike, the weight drawn from Beta(alpha, alpha) once a
            batch as in the authors' code. 0 mixes nothing.
        workers: parallel decoding threads; one a core by default.
        failures: receives the ``VoclabError`` of a damaged file, which TensorFlow would replace by an
            error of its own.

    Returns:
        ``tf.data.Dataset`` of (images (B, size, size, 3) float32 in [0, 1], targets), the targets
        (B, classes) float32 or (B, size, size) uint8 with 255 = void.
    """
    import tensorflow as tf

    if target not in ("labels", "masks"):
        raise ValueError(f"target is {target!r}, expected 'labels' or 'masks'")
    if target == "masks" and (smoothing or mixup):
        raise ValueError("label smoothing and mixup are for labels, not for masks")
    if not 0 <= smoothing <= 1 or mixup < 0:
        raise ValueError(f"smoothing is {smoothing} and mixup {mixup}, expected 0 to 1 and at least 0")
    steps, batch_size = steps_per_epoch(len(dataset), batch_size), min(batch_size, len(dataset))
    shape = (size, size) if target == "masks" else (len(dataset.class_names),)
    batch = batch_maker(
        dataset,
        size=size,
        augmentation=augmentation,
        batch_size=batch_size,
        seed=seed,
        target=target,
        cache=cache,
        failures=failures,
    )

    def load(step):
        images, wanted = tf.numpy_function(batch, (step,), (tf.uint8, tf.uint8), stateful=False)
        images.set_shape((batch_size, size, size, 3))
        wanted.set_shape((batch_size, *shape))
        return images, wanted

    def to_float(images, wanted):
        images = tf.cast(images, tf.float32) / 255.0
        if target == "masks":
            return images, wanted
        wanted = tf.cast(wanted, tf.float32)
        return images, smoothed(wanted, smoothing, dataset.task) if smoothing else wanted

    def partners(step):
        # The spawn key keeps these draws apart from those of order and augmentation.
        rng = np.random.default_rng(np.random.SeedSequence((seed, int(step)), spawn_key=(1,)))
        return np.float32(rng.beta(mixup, mixup)), rng.permutation(batch_size)

    def mix(step, batch):
        weight, other = tf.numpy_function(partners, (step,), (tf.float32, tf.int64), stateful=False)
        weight.set_shape(())
        other.set_shape((batch_size,))
        return tuple(weight * part + (1.0 - weight) * tf.gather(part, other) for part in batch)

    # One call of Python a batch: a generator of indices and a call a sample took as long as the augmentation.
    stream = tf.data.Dataset.range(start_epoch * steps, epochs * steps)
    stream = stream.map(load, num_parallel_calls=workers or os.cpu_count() or 1, deterministic=True)
    stream = stream.map(to_float, num_parallel_calls=1)
    if mixup:
        stream = stream.enumerate(start_epoch * steps).map(mix, num_parallel_calls=1)
    return stream.prefetch(2).with_options(_no_autotune())


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


def _no_autotune():
    """Autotune's thread delays the end of an iterator by seconds on small machines."""
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    options.deterministic = True
    return options


def steps_per_epoch(samples: int, batch_size: int) -> int:
    """Batches an epoch of :func:`training_batches` has."""
    return max(1, samples // batch_size)


def evaluation_batches(dataset: Dataset, size: int, batch_size: int, cache: DecodedCache | None = None):
    """Yield (B, size, size, 3) float32 batches in data set order, the last one possibly shorter."""
    source = cache or dataset
    for start in range(0, len(dataset), batch_size):
        stop = min(start + batch_size, len(dataset))
        yield np.stack([resized(source.image(i), size) for i in range(start, stop)])
