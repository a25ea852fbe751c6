"""Answers and features of many images at several sizes, and the linear head on frozen features."""

import time
from collections.abc import Callable

import keras
import numpy as np
from scipy.optimize import minimize
from scipy.special import expit
from threadpoolctl import threadpool_limits

from voclab.data.base import Dataset
from voclab.data.batches import DecodedCache, apply_augmentation, augmenter
from voclab.data.images import resized
from voclab.models.classifiers import predict


def predict_logits(model: keras.Model, dataset: Dataset, sizes, batch_size: int = 16) -> np.ndarray:
    """Logits averaged over input sizes and mirror images (test-time augmentation).

    Args:
        model: pixels in [0, 1] -> logits.
        dataset: images, decoded once.
        sizes: input sides in pixels.
        batch_size: images a step.

    Returns:
        (n, classes) float32.
    """
    total = []
    for start in range(0, len(dataset), batch_size):
        images = [dataset.image(i) for i in range(start, min(start + batch_size, len(dataset)))]
        chunk = 0
        for size in sizes:
            pixels = np.stack([resized(image, size) for image in images])
            for view in (pixels, pixels[:, :, ::-1]):
                chunk = chunk + predict(model, view, batch_size)
        total.append(chunk / (2 * len(sizes)))
    return np.concatenate(total).astype(np.float32)


def pooled_features(
    extractor: keras.Model,
    dataset: Dataset,
    sizes,
    *,
    augmentation: str = "none",
    views: int = 0,
    plain: bool = True,
    seed: int = 0,
    batch_size: int = 16,
    cache: DecodedCache | None = None,
    progress: Callable[[str], None] | None = None,
) -> np.ndarray:
    """Pooled features of every view of every image, computed once so that a head can train on them.

    The views are the whole image and its mirror image at each size (unless ``plain`` is false), then
    ``views`` augmented ones at the first size.

    Args:
        extractor: what :func:`voclab.models.classifiers.feature_extractor` gives.
        dataset: images.
        sizes: input sides in pixels.
        augmentation: augmentation of the further views.
        views: how many of those.
        plain: whether to deliver the views that are not augmented.
        seed: fixes them.
        batch_size: images a step.
        cache: decoded images of ``dataset``.
        progress: receives a line now and then.

    Returns:
        (2 × len(sizes) × plain + views, n, features) float32.
    """
    source = cache or dataset
    compose = augmenter(augmentation, sizes[0])
    result, started = None, time.perf_counter()
    for start in range(0, len(dataset), batch_size):
        index = range(start, min(start + batch_size, len(dataset)))
        images = [source.image(i) for i in index]
        batches = []
        for size in sizes if plain else ():
            pixels = np.stack([resized(image, size) for image in images])
            batches += [pixels, pixels[:, :, ::-1]]
        for view in range(views):
            augmented = [
                apply_augmentation(compose, (seed, view, i), image)["image"]
                for i, image in zip(index, images)
            ]
            batches.append(np.stack(augmented).astype(np.float32) / 255.0)
        for view, pixels in enumerate(batches):
            features = predict(extractor, pixels, batch_size)
            if result is None:
                result = np.empty((len(batches), len(dataset), features.shape[1]), np.float32)
            result[view, index.start : index.stop] = features
        if progress and (start // batch_size) % 8 == 7:
            seconds = time.perf_counter() - started
            left = seconds / index.stop * (len(dataset) - index.stop)
            progress(f"features of {index.stop}/{len(dataset)} images, {left / 60:.1f} min left")
    return result


# NumPy's threads and SciPy's own wait for each other: on two cores 3 to 6 times slower than one of each.
@threadpool_limits.wrap(limits=1, user_api="blas")
def fit_linear_head(features: np.ndarray, labels: np.ndarray, penalty: float, max_iter: int = 200):
    """Logistic regression with an L2 penalty for every class, by L-BFGS to a tight tolerance.

    Features are standardised for the fit and the scaling is folded into the result, so it acts on
    raw features. The problem is convex, so the result depends on no learning rate and no seed. The
    classes are independent but are solved together, because they share every matrix product.

    Args:
        features: (views, n, d); each view is a sample of its image.
        labels: (n, classes), 0 or 1.
        penalty: strength relative to the mean loss; scikit-learn's C is 1 / (penalty × views × n).
        max_iter: the most iterations of L-BFGS.

    Returns:
        (kernel (d, classes) float32, bias (classes,) float32).
    """
    views, n, d = features.shape
    x = features.reshape(views * n, d)
    mean, deviation = x.mean(0), x.std(0) + 1e-6
    x = (x - mean) / deviation
    basis = None
    if len(x) < d:  # the optimum lies in the span of the samples: search there, it is smaller
        basis, x = np.linalg.qr(x.T)
        x, d = x.T, x.shape[0]
    y = np.tile(labels, (views, 1)).astype(np.float32)
    classes = labels.shape[1]

    def objective(flat):
        kernel, bias = flat[: d * classes].reshape(d, classes), flat[d * classes :]
        z = x @ kernel.astype(np.float32) + bias.astype(np.float32)
        loss = (np.logaddexp(0, z) - y * z).sum() / len(x) + 0.5 * penalty * np.sum(kernel**2)
        residual = (expit(z) - y) / len(x)
        gradient = np.concatenate([(x.T @ residual + penalty * kernel).ravel(), residual.sum(0)])
        return float(loss), gradient.astype(np.float64)

    start = np.zeros((d + 1) * classes)
    flat = minimize(
        objective,
        start,
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": max_iter, "ftol": 1e-8},
    ).x
    kernel = flat[: d * classes].reshape(d, classes)
    kernel = (kernel if basis is None else basis @ kernel) / deviation[:, None]
    bias = flat[d * classes :] - mean @ kernel
    return kernel.astype(np.float32), bias.astype(np.float32)
