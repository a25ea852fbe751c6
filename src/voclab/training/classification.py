"""Classifiers: from scratch, as a linear head on frozen features, and fine-tuned; then measured."""

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import keras
import numpy as np

from voclab.datasets.base import Dataset
from voclab.errors import VoclabError
from voclab.files import atomic_path, write_json
from voclab.metrics import choose_thresholds, classification_report, mean_average_precision, sigmoid
from voclab.models.classifiers import build_classifier, count_parameters, feature_extractor
from voclab.pipeline import DecodedCache, apply_augmentation, augmentation, evaluation_batches, resized
from voclab.training.loop import Recipe, Run, train

PENALTIES = (10.0, 3.0, 1.0, 0.3, 0.1, 0.03)  # strengths tried for the linear head


@dataclass(frozen=True)
class Experiment:
    """One classifier: what it is and how it is trained.

    Attributes:
        name: folder of the run.
        phase: ``"scratch"``, ``"head"`` (frozen backbone, linear head) or ``"finetune"``.
        backbone: key of ``BACKBONES``.
        recipe: size, policy, epochs and so on; the head uses size, policy and seed of it.
        weights: ``None``, ``"imagenet"`` or a weights file; for ``"finetune"`` the weights of ``start``.
        start: name of the head run that fine-tuning starts from.
        views: augmented views of each photo whose features train the head.
        test_sizes: input sides averaged at test time, each with its mirror image.
        frozen_below: first layer of the backbone that fine-tuning may change.
        dropout: before the head, while training.
        options: further arguments of the backbone's builder.
    """

    name: str
    phase: str
    backbone: str
    recipe: Recipe
    weights: str | None = None
    start: str | None = None
    views: int = 0
    test_sizes: tuple[int, ...] = ()
    frozen_below: str | None = None
    dropout: float = 0.2
    options: dict = field(default_factory=dict)


def run_experiment(
    experiment: Experiment,
    fit_set: Dataset,
    validation: Dataset,
    heldout: Dataset,
    folder,
    *,
    cache_mb: float = 1024,
    progress: Callable[[str], None] = print,
) -> Run:
    """Train, choose thresholds on validation data, measure on the held-out photos; all in ``folder``.

    A complete run of the same configuration is returned as it is; an interrupted one goes on.

    Args:
        experiment: what to train.
        fit_set: photos to train on.
        validation: photos that every choice is made on.
        heldout: photos that are only measured (or, without labels, only predicted).
        folder: parent folder of the runs.
        cache_mb: memory for decoded images.
        progress: receives lines of text.

    Returns:
        The complete :class:`Run`. Its predictions hold ``validation`` and ``heldout`` logits,
        (n, classes) float32 each, and ``thresholds``.
    """
    run = Run(folder / experiment.name)
    data = {
        d.split: {"name": d.name, "images": len(d), "first": d.ids[0], "last": d.ids[-1]}
        for d in (fit_set, validation, heldout)
    }
    if run.begin({"experiment": experiment, "data": data}):
        progress(f"{experiment.name}: complete, read from {run.folder}")
        return run
    cache = DecodedCache(fit_set, cache_mb)
    if experiment.phase == "head":
        model, logits, found = _fit_head(experiment, fit_set, validation, heldout, cache, run, progress)
    else:
        model, found = _fit_network(experiment, fit_set, validation, cache, run, progress)
        sizes = experiment.test_sizes or (experiment.recipe.size,)
        logits = {
            part: predict_logits(model, dataset, sizes, experiment.recipe.batch_size)
            for part, dataset in (("validation", validation), ("heldout", heldout))
        }
    seconds = sum(entry.get("seconds", 0.0) for entry in run.history) + found.pop("seconds_before", 0.0)
    thresholds = choose_thresholds(validation.labels, sigmoid(logits["validation"]))
    run.save_predictions(**logits, thresholds=thresholds)
    metrics = {
        "validation": classification_report(validation.labels, sigmoid(logits["validation"]), thresholds),
        "heldout": None
        if heldout.labels is None
        else classification_report(heldout.labels, sigmoid(logits["heldout"]), thresholds),
        "seconds": round(seconds, 1),
        "parameters": count_parameters(model),
        **found,
    }
    run.finish(metrics)
    progress(
        f"{experiment.name}: validation mAP {metrics['validation']['map']:.3f}, trained in {seconds:.0f} s"
    )
    return run


def predict_logits(model: keras.Model, dataset: Dataset, sizes, batch_size: int = 16) -> np.ndarray:
    """Logits averaged over input sizes and mirror images (test-time augmentation).

    Args:
        model: pixels in [0, 1] -> logits.
        dataset: photos, decoded once.
        sizes: input sides in pixels.
        batch_size: photos a step.

    Returns:
        (n, classes) float32.
    """
    total = []
    for start in range(0, len(dataset), batch_size):
        photos = [dataset.image(i) for i in range(start, min(start + batch_size, len(dataset)))]
        chunk = 0
        for size in sizes:
            pixels = np.stack([resized(photo, size) for photo in photos])
            for view in (pixels, pixels[:, :, ::-1]):
                chunk = chunk + model.predict_on_batch(view)
        total.append(chunk / (2 * len(sizes)))
    return np.concatenate(total).astype(np.float32)


def pooled_features(
    model: keras.Model,
    dataset: Dataset,
    sizes,
    *,
    policy: str = "none",
    views: int = 0,
    plain: bool = True,
    seed: int = 0,
    batch_size: int = 16,
    cache: DecodedCache | None = None,
    progress: Callable[[str], None] | None = None,
) -> np.ndarray:
    """Pooled features of every view of every photo, computed once so that a head can train on them.

    The views are the whole photo and its mirror image at each size (unless ``plain`` is false), then
    ``views`` augmented ones at the first size.

    Args:
        model: a classifier of ours.
        dataset: photos.
        sizes: input sides in pixels.
        policy: augmentation of the further views.
        views: how many of those.
        plain: whether to deliver the views that are not augmented.
        seed: fixes them.
        batch_size: photos a step.
        cache: decoded photos of ``dataset``.
        progress: receives a line now and then.

    Returns:
        (2 × len(sizes) × plain + views, n, features) float32.
    """
    extractor = feature_extractor(model)
    source = cache or dataset
    compose = augmentation(policy, sizes[0])
    result, started = None, time.perf_counter()
    for start in range(0, len(dataset), batch_size):
        index = range(start, min(start + batch_size, len(dataset)))
        photos = [source.image(i) for i in index]
        batches = []
        for size in sizes if plain else ():
            pixels = np.stack([resized(photo, size) for photo in photos])
            batches += [pixels, pixels[:, :, ::-1]]
        for view in range(views):
            augmented = [
                apply_augmentation(compose, (seed, view, i), photo)["image"]
                for i, photo in zip(index, photos)
            ]
            batches.append(np.stack(augmented).astype(np.float32) / 255.0)
        for view, pixels in enumerate(batches):
            features = extractor.predict_on_batch(pixels)
            if result is None:
                result = np.empty((len(batches), len(dataset), features.shape[1]), np.float32)
            result[view, index.start : index.stop] = features
        if progress and (start // batch_size) % 8 == 7:
            seconds = time.perf_counter() - started
            left = seconds / index.stop * (len(dataset) - index.stop)
            progress(f"features of {index.stop}/{len(dataset)} photos, {left / 60:.1f} min left")
    return result


def _features_once(folder: Path, experiment: Experiment, model, dataset, sizes, views: int, **options):
    """:func:`pooled_features`, kept in ``folder`` so that runs on the same frozen backbone share them."""
    recipe = experiment.recipe
    policy = recipe.policy if views else "none"
    asked = {
        "backbone": experiment.backbone,
        "weights": experiment.weights,
        "options": experiment.options,
        "sizes": list(sizes),
        "views": [policy, views, recipe.seed] if views else [],
        "data": [dataset.name, dataset.split, list(dataset.ids)],
    }
    text = json.dumps(asked, sort_keys=True, default=str)
    path = folder / f"{dataset.split}-{hashlib.sha256(text.encode()).hexdigest()[:12]}.npy"
    if path.is_file():
        return np.load(path, allow_pickle=False)
    if views:  # the plain views are shared with the runs without augmentation
        plain = _features_once(folder, experiment, model, dataset, sizes, 0, **options)
        augmented = pooled_features(
            model, dataset, sizes[:1], policy=policy, views=views, plain=False, seed=recipe.seed, **options
        )
        features = np.concatenate([plain, augmented])
    else:
        features = pooled_features(model, dataset, sizes, **options)
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.save(file, features, allow_pickle=False)
    return features


def fit_linear_head(features: np.ndarray, labels: np.ndarray, penalty: float, max_iter: int = 200):
    """Logistic regression with an L2 penalty, one independent problem a class, solved by L-BFGS.

    Features are standardised for the fit and the scaling is folded into the result, so it acts on
    raw features. The problem is convex: no learning rate, no epochs, no seed.

    Args:
        features: (views, n, d); each view is a sample of its photo.
        labels: (n, classes), 0 or 1.
        penalty: strength relative to the mean loss; scikit-learn's C is 1 / (penalty × views × n).
        max_iter: iterations of L-BFGS a class.

    Returns:
        (kernel (d, classes) float32, bias (classes,) float32).
    """
    from scipy.optimize import minimize

    views, n, d = features.shape
    x = features.reshape(views * n, d)
    mean, deviation = x.mean(0), x.std(0) + 1e-6
    x = (x - mean) / deviation
    y = np.tile(labels, (views, 1)).astype(np.float32)
    classes = labels.shape[1]

    def objective(flat):
        kernel, bias = flat[: d * classes].reshape(d, classes), flat[d * classes :]
        z = x @ kernel.astype(np.float32) + bias.astype(np.float32)
        loss = (np.logaddexp(0, z) - y * z).sum() / len(x) + 0.5 * penalty * np.sum(kernel**2)
        residual = (1.0 / (1.0 + np.exp(-z)) - y) / len(x)
        gradient = np.concatenate([(x.T @ residual + penalty * kernel).ravel(), residual.sum(0)])
        return float(loss), gradient.astype(np.float64)

    start = np.zeros((d + 1) * classes)
    flat = minimize(
        objective,
        start,
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": max_iter, "ftol": 1e-10, "gtol": 1e-6},
    ).x
    kernel = flat[: d * classes].reshape(d, classes) / deviation[:, None]
    bias = flat[d * classes :] - mean @ kernel
    return kernel.astype(np.float32), bias.astype(np.float32)


def _fit_head(experiment, fit_set, validation, heldout, cache, run, progress):
    """Phase one: features once, then the linear head whose penalty is best on validation data."""
    recipe = experiment.recipe
    started = time.perf_counter()
    model = _build(experiment, len(fit_set.class_names))
    sizes = experiment.test_sizes or (recipe.size,)
    common = {"batch_size": recipe.batch_size, "progress": progress}
    shared = run.folder.parent / "features"

    def features(dataset, views=0, **options):
        return _features_once(shared, experiment, model, dataset, sizes, views, **options, **common)

    views = features(fit_set, experiment.views, cache=cache)
    held = features(validation)
    tried, best = [], None
    for penalty in PENALTIES:
        kernel, bias = fit_linear_head(views, fit_set.labels, penalty)
        score = mean_average_precision(validation.labels, (held @ kernel + bias).mean(0))
        tried.append({"penalty": penalty, "map": score})
        if best is None or score > best[0]:
            best = score, kernel, bias, penalty
        elif score < best[0] - 0.02:
            break  # ever weaker penalties only overfit more
    model.get_layer("logits").set_weights([best[1], best[2]])
    run.save_model(model)
    seconds = round(time.perf_counter() - started, 2)
    write_json(run.folder / "history.json", [{"epoch": 0, "map": best[0], "seconds": seconds}])
    logits = {
        "validation": (held @ best[1] + best[2]).mean(0),
        "heldout": (features(heldout) @ best[1] + best[2]).mean(0),
    }
    return model, logits, {"penalty": best[3], "penalties": tried}


def _fit_network(experiment, fit_set, validation, cache, run, progress):
    """Training by gradient steps: from random weights, or from a head run (phase two)."""
    recipe = experiment.recipe
    before = 0.0
    if experiment.phase == "finetune":
        if experiment.start is None:
            raise ValueError(f"experiment {experiment.name} fine-tunes but names no run to start from")
        start = Run(run.folder.parent / experiment.start)
        if not start.complete:
            raise VoclabError(f"{start.folder} is not complete; run the experiment {start.name!r} first.")
        model = _build(experiment, len(fit_set.class_names))
        model.set_weights(start.load_model().get_weights())
        before = start.metrics["seconds"]
    else:
        model = _build(experiment, len(fit_set.class_names))
    kept = DecodedCache(validation, longest_side=2 * recipe.size)
    loss = keras.losses.BinaryCrossentropy(from_logits=True)

    def score(current):
        logits = np.concatenate(
            [
                current.predict_on_batch(pixels)
                for pixels in evaluation_batches(validation, recipe.size, recipe.batch_size, kept)
            ]
        )
        z = logits.astype(np.float64)
        losses = np.logaddexp(0, z) - validation.labels * z
        return {
            "validation_loss": float(losses.mean()),
            "map": mean_average_precision(validation.labels, logits),
        }

    train(
        model,
        fit_set,
        loss=loss,
        recipe=recipe,
        run=run,
        score=score,
        monitor="map",
        cache=cache,
        progress=progress,
    )
    return model, {"seconds_before": before}


def _build(experiment: Experiment, classes: int) -> keras.Model:
    keras.utils.set_random_seed(experiment.recipe.seed)
    return build_classifier(
        experiment.backbone,
        classes,
        weights=experiment.weights,
        dropout=experiment.dropout,
        frozen_below=experiment.frozen_below,
        options=experiment.options,
    )
