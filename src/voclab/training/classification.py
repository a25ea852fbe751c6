"""Classifiers: from scratch, as a linear head on frozen features, and fine-tuned; then measured."""

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import keras
import numpy as np
from scipy.special import expit

from voclab.data.base import Dataset
from voclab.data.batches import DecodedCache, evaluation_batches
from voclab.errors import VoclabError
from voclab.files import atomic_path, read_arrays, write_json
from voclab.metrics import choose_thresholds, classification_report, mean_average_precision
from voclab.models.classifiers import (
    build_classifier,
    count_parameters,
    feature_extractor,
    predict,
    start_from_prior,
)
from voclab.terminal import say
from voclab.training.code import code_digest
from voclab.training.features import fit_linear_head, pooled_features, predict_logits
from voclab.training.identity import data_digest, digest, known_by, weights_digest
from voclab.training.loop import Recipe, train
from voclab.training.run import Run

_FILES = ("history.json", "model.keras", "predictions.npz")  # of a complete run
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
        views: augmented views of each image whose features train the head.
        test_sizes: input sides averaged at test time, each with its mirror image.
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
    dropout: float = 0.2
    options: dict = field(default_factory=dict)


def run_experiment(
    experiment: Experiment,
    fit_set: Dataset,
    validation: Dataset,
    test_set: Dataset,
    folder: Path,
    *,
    cache_mb: float = 1024,
    progress: Callable[[str], None] = say,
) -> Run:
    """Train, choose thresholds on validation data, measure on the test images; all in ``folder``.

    A complete run of the same configuration is returned as it is; an interrupted one goes on.

    Args:
        experiment: what to train.
        fit_set: images to train on.
        validation: images that every choice is made on.
        test_set: images that are only measured (or, without labels, only predicted).
        folder: parent folder of the runs.
        cache_mb: memory for decoded images.
        progress: receives lines of text.

    Returns:
        The complete :class:`Run`. Its predictions hold ``validation`` and ``test`` logits,
        (n, classes) float32 each, and ``thresholds``.
    """
    run = Run(folder / experiment.name)
    config = {
        "experiment": replace(experiment, weights=experiment.weights and Path(experiment.weights).name),
        "weights": weights_digest(experiment.weights),
        "task": "multilabel",
        "class_names": fit_set.class_names,
        "data": data_digest(fit_set, validation, test_set),
    }
    if experiment.start:
        start = Run(folder / experiment.start)
        if not start.complete:
            raise VoclabError(f"{start.folder} is not complete; run the experiment {start.name!r} first.")
        config["start"] = start.config
    config = known_by(config, run_experiment)
    figures = ("validation", "test", "seconds", "parameters", "trained_parameters")
    if run.begin(config, files=_FILES, figures=figures, progress=progress):
        return run
    cache = DecodedCache(fit_set, cache_mb)
    if experiment.phase == "head":
        model, logits, found = _fit_head(experiment, fit_set, validation, test_set, cache, run, progress)
    else:
        model, found = _fit_network(experiment, fit_set, validation, cache, run, progress)
        sizes = experiment.test_sizes or (experiment.recipe.size,)
        logits = {
            part: predict_logits(model, dataset, sizes, experiment.recipe.batch_size)
            for part, dataset in (("validation", validation), ("test", test_set))
        }
    seconds = sum(entry.get("seconds", 0.0) for entry in run.history) + found.pop("seconds_before", 0.0)
    thresholds = choose_thresholds(validation.labels, expit(logits["validation"], dtype=np.float64))
    run.save_predictions(**logits, thresholds=thresholds)
    metrics = {
        "validation": classification_report(
            validation.labels, expit(logits["validation"], dtype=np.float64), thresholds
        ),
        "test": None
        if test_set.labels is None
        else classification_report(test_set.labels, expit(logits["test"], dtype=np.float64), thresholds),
        "seconds": round(seconds, 1),
        "parameters": count_parameters(model)["total"],
        "trained_parameters": count_parameters(model)["trainable"],
        **found,
    }
    run.finish(metrics)
    progress(
        f"{experiment.name}: validation mAP {metrics['validation']['map']:.3f}, trained in {seconds:.0f} s"
    )
    return run


def refit(
    experiment: Experiment,
    experiments: Mapping[str, Experiment],
    fit_set: Dataset,
    validation: Dataset,
    test_set: Dataset,
    folder: Path,
    *,
    cache_mb: float = 1024,
    progress: Callable[[str], None] = say,
) -> Run:
    """Train the chosen classifier once more, on fit and validation images together.

    Penalty, number of epochs and thresholds are those that the complete run of ``experiment`` chose;
    nothing is chosen here, and nothing is left to score on but the test images.

    Args:
        experiment: the chosen one; its run, and that of its ``start``, are complete.
        experiments: all of them by name, to find ``start``.
        fit_set: images that the chosen run was trained on.
        validation: images that it was chosen on.
        test_set: images to predict.
        folder: parent folder of the runs.
        cache_mb: memory for decoded images.
        progress: receives lines of text.

    Returns:
        The run ``<name>-all``. Its predictions hold ``test`` logits and ``thresholds``.
    """
    chosen = Run(folder / experiment.name)
    run = Run(folder / f"{experiment.name}-all")
    config = known_by({"refit": chosen.config}, refit)
    if run.begin(config, files=_FILES, figures=("test", "seconds"), progress=progress):
        return run
    sizes = experiment.test_sizes or (experiment.recipe.size,)
    if experiment.phase == "head":
        model, seconds = _refit_head(experiment, chosen, (fit_set, validation), cache_mb, progress)
        run.save_model(model)
    else:
        best = max(chosen.history, key=lambda entry: entry["map"])["epoch"]
        model, seconds = _build(experiment, len(fit_set.class_names)), 0.0
        if experiment.start:
            others = {"cache_mb": cache_mb, "progress": progress}
            start = experiments[experiment.start]
            begun = refit(start, experiments, fit_set, validation, test_set, folder, **others)
            model.set_weights(begun.load_model().get_weights())
            seconds = begun.metrics["seconds"]
        else:
            start_from_prior(model, np.concatenate([fit_set.labels, validation.labels]))
        together = fit_set.joined(validation)
        train(
            model,
            together,
            loss=keras.losses.BinaryCrossentropy(from_logits=True),
            recipe=experiment.recipe,
            run=run,
            score=None,
            stop_after=best,
            cache=DecodedCache(together, cache_mb),
            progress=progress,
        )
        seconds += sum(entry.get("seconds", 0.0) for entry in run.history)
    logits = predict_logits(model, test_set, sizes, experiment.recipe.batch_size)
    thresholds = chosen.predictions()["thresholds"]
    run.save_predictions(test=logits, thresholds=thresholds)
    known = test_set.labels is not None
    parameters = ("parameters", "trained_parameters")
    run.finish(
        {
            "test": classification_report(test_set.labels, expit(logits, dtype=np.float64), thresholds)
            if known
            else None,
            "seconds": round(seconds, 1),
            **{name: chosen.metrics[name] for name in parameters},
        }
    )
    return run


def _refit_head(experiment, chosen, parts, cache_mb, progress):
    recipe = experiment.recipe
    model = _build(experiment, len(parts[0].class_names))
    extractor = feature_extractor(model)
    views, seconds = [], 0.0
    for part in parts:
        found, took = _features_once(
            chosen.folder.parent / "features",
            experiment,
            extractor,
            part,
            experiment.test_sizes or (recipe.size,),
            experiment.views,
            batch_size=recipe.batch_size,
            cache=DecodedCache(part, cache_mb),
            progress=progress,
        )
        views.append(found)
        seconds += took
    started = time.perf_counter()
    labels = np.concatenate([part.labels for part in parts])
    head = fit_linear_head(np.concatenate(views, axis=1), labels, chosen.metrics["penalty"])
    model.get_layer("logits").set_weights(head)
    return model, seconds + time.perf_counter() - started


def _features_once(folder: Path, experiment: Experiment, extractor, dataset, sizes, views: int, **options):
    """:func:`pooled_features`, kept in ``folder`` so that runs on the same frozen backbone share them.

    Returns:
        (features, the seconds that computing them took, whenever that was).
    """
    recipe = experiment.recipe
    plain, seconds = None, 0.0
    if views:  # the plain views are shared with the runs without augmentation
        plain, seconds = _features_once(folder, experiment, extractor, dataset, sizes, 0, **options)
        sizes = (recipe.size,)
        options |= {"plain": False, "augmentation": recipe.augmentation, "views": views, "seed": recipe.seed}
    key = [
        code_digest(pooled_features, build_classifier, feature_extractor),
        experiment.backbone,
        experiment.options,
        weights_digest(experiment.weights) or recipe.seed,
        sizes,
        [recipe.augmentation, views, recipe.seed] if views else [],
        digest(dataset),
    ]
    name = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]
    path = folder / f"{dataset.split}-{name}.npz"
    try:
        stored = read_arrays(path)
        features, seconds = stored["features"], seconds + float(stored["seconds"])
    except (VoclabError, KeyError, TypeError):  # missing or damaged: it is a cache
        started = time.perf_counter()
        features = pooled_features(extractor, dataset, sizes, **options)
        took = time.perf_counter() - started
        with atomic_path(path) as temporary:
            np.savez(temporary, features=features, seconds=took)
        seconds += took
    return (features if plain is None else np.concatenate([plain, features])), seconds


def _fit_head(experiment, fit_set, validation, test_set, cache, run, progress):
    """Phase one: features once, then the linear head whose penalty is best on validation data."""
    recipe = experiment.recipe
    model = _build(experiment, len(fit_set.class_names))
    sizes = experiment.test_sizes or (recipe.size,)
    common = {"batch_size": recipe.batch_size, "progress": progress}
    shared = run.folder.parent / "features"
    extractor = feature_extractor(model)

    def features(dataset, views=0, **options):
        return _features_once(shared, experiment, extractor, dataset, sizes, views, **options, **common)

    views, seconds = features(fit_set, experiment.views, cache=cache)
    held, _ = features(validation)
    started = time.perf_counter()
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
    seconds += time.perf_counter() - started
    # One view at the training size is what fine-tuning is scored on after each of its epochs.
    single = held[2 * sizes.index(recipe.size)] if recipe.size in sizes else held[0]
    start = mean_average_precision(validation.labels, single @ best[1] + best[2])
    write_json(run.folder / "history.json", [{"epoch": 0, "map": start, "seconds": round(seconds, 2)}])
    logits = {
        "validation": (held @ best[1] + best[2]).mean(0),
        "test": (features(test_set)[0] @ best[1] + best[2]).mean(0),
    }
    trainable = int(best[1].size + best[2].size)
    return model, logits, {"penalty": best[3], "penalties": tried, "trained_parameters": trainable}


def _fit_network(experiment, fit_set, validation, cache, run, progress):
    """Training by gradient steps: from random weights, or from a head run (phase two)."""
    recipe = experiment.recipe
    before = 0.0
    if experiment.phase == "finetune":
        start = Run(run.folder.parent / experiment.start)
        model = _build(experiment, len(fit_set.class_names))
        model.set_weights(start.load_model().get_weights())
        before = start.metrics["seconds"]
    else:
        model = _build(experiment, len(fit_set.class_names))
        start_from_prior(model, fit_set.labels)
    kept = DecodedCache(validation, longest_side=2 * recipe.size)
    loss = keras.losses.BinaryCrossentropy(from_logits=True)

    def score(current):
        logits = np.concatenate(
            [
                predict(current, pixels, recipe.batch_size)
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
        options=experiment.options,
    )
