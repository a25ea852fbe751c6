"""Classifiers: of any data by one look at each image; multi-label ones by several, with thresholds."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import keras
import numpy as np
from scipy.special import expit

from voclab.data.base import Dataset
from voclab.data.batches import DecodedCache, evaluation_batches
from voclab.errors import VoclabError
from voclab.metrics import (
    choose_thresholds,
    classification_report,
    mean_average_precision,
    single_label_report,
)
from voclab.models import zoo
from voclab.models.catalogue import BACKBONES, ZOO, require_width
from voclab.models.classifiers import build_classifier, feature_extractor, predict, start_from_prior
from voclab.training.code import code_digest
from voclab.training.experiment import Experiment, Task, Work
from voclab.training.features import fit_linear_head, pooled_features, predict_logits
from voclab.training.identity import digest, weights_digest
from voclab.training.store import Run

PENALTIES = (10.0, 3.0, 1.0, 0.3, 0.1, 0.03)  # strengths tried for the linear head
SMALL = 64  # pixels: images up to this side are enlarged for a network made for larger ones
_ENLARGED = 96  # pixels: what they become


@dataclass(frozen=True)
class Classification(Task):
    """One class an image or several, whichever the data have, measured by one look at each whole image.

    ``model`` is one of ``voclab.models.catalogue.TRAINABLE``, ``options`` may hold its ``width``. After each
    epoch there are ``accuracy`` (of the top class), ``map`` or macro ``precision``, ``recall`` and ``f1``,
    ``validation_loss``, and ``training_accuracy`` on some of the training images, whole and clean.
    Predictions are the logits of both parts.

    Attributes:
        dropout: before the last layer, while training.
    """

    shrink: ClassVar[int | None] = 3
    usual_loss: ClassVar[str] = "cross-entropy"
    dropout: float = 0.2

    def require(self, experiment, data, networks):
        if data.fit.labels is None:
            raise VoclabError(
                f"{data.fit.name} has no labels to train on ({data.fit.source}); name other data."
            )

    def monitor(self, work):
        return "map" if work.data.fit.task == "multilabel" else "accuracy"

    def build(self, work: Work) -> keras.Model:
        keras.utils.set_random_seed(work.experiment.recipe.seed)
        model = self.network(work.experiment, len(work.data.fit.class_names))
        if work.start:
            model.set_weights(work.start.load_model().get_weights())
        elif work.data.fit.task == "multilabel":
            start_from_prior(model, work.training.labels)
        return model

    def network(self, experiment: Experiment, classes: int) -> keras.Model:
        """The untrained classifier.

        Raises:
            VoclabError: a width where there is none to choose, or weights that cannot be had.
        """
        name, width = experiment.model, experiment.options.get("width")
        options: dict[str, Any] = {"weights": experiment.weights, "dropout": self.dropout}
        small = experiment.recipe.size <= SMALL
        if name in ZOO:
            size = None if small else experiment.recipe.size
            return zoo.build(name, classes, width=width, resize=size, **options)
        require_width(name, width)
        enlarged = small and BACKBONES[name].min_size > 1
        return build_classifier(name, classes, resize=_ENLARGED if enlarged else None, **options)

    def loss(self, work):
        if work.experiment.loss is not None:
            raise VoclabError("A classifier has the loss of its task; leave the experiment's loss out.")
        losses = keras.losses
        several = work.data.fit.task == "multilabel"
        return (losses.BinaryCrossentropy if several else losses.CategoricalCrossentropy)(from_logits=True)

    def scorer(self, work: Work) -> Callable[[keras.Model], dict[str, float]]:
        recipe, validation = work.experiment.recipe, work.data.validation
        seen = work.data.fit.spread(len(validation))
        kept = {part: DecodedCache(part, longest_side=2 * recipe.size) for part in (validation, seen)}

        def score(model):
            found = {part: _figures(_one_look(model, recipe, part, kept[part]), part) for part in kept}
            figures = found[validation]
            figures["validation_loss"] = figures.pop("loss")
            return {**figures, "training_accuracy": found[seen]["accuracy"]}

        return score

    def measure(self, work, model):
        recipe, monitor, found = work.experiment.recipe, self.monitor(work), {}
        logits = {part: _one_look(model, recipe, data) for part, data in work.measured.items()}
        work.run.save_predictions(**logits)
        for part, data in work.measured.items():
            found[part] = None if data.labels is None else _figures(logits[part], data)
        if work.chosen is None:
            found["validation"] = max(work.run.history, key=lambda entry: entry[monitor])
        return found

    def told(self, figures):
        return ", ".join(f"{name} {figures[name]:.3f}" for name in ("accuracy", "map") if name in figures)


def _one_look(model, recipe, dataset: Dataset, kept: DecodedCache | None = None) -> np.ndarray:
    """(n, classes) logits of one look at each whole image."""
    batches = evaluation_batches(dataset, recipe.size, recipe.batch_size, kept)
    return np.concatenate([predict(model, pixels, recipe.batch_size) for pixels in batches])


def _figures(logits: np.ndarray, dataset: Dataset) -> dict[str, float]:
    """Loss, accuracy and what else the data's task has."""
    z, labels = logits.astype(np.float64), dataset.labels
    top = z.argmax(1)
    if dataset.task == "multilabel":
        return {
            "loss": float((np.logaddexp(0, z) - labels * z).mean()),
            "accuracy": float((labels[np.arange(len(z)), top] > 0).mean()),
            "map": mean_average_precision(labels, logits),
        }
    loss = (np.logaddexp.reduce(z, axis=1) - z[labels > 0]).mean()
    report = single_label_report(labels.argmax(1), top, labels.shape[1])
    macro = {key: report[f"{key}_macro"] for key in ("precision", "recall", "f1")}
    return {"loss": float(loss), "accuracy": report["accuracy"], **macro}


@dataclass(frozen=True)
class MultiLabelClassification(Classification):
    """Any number of classes an image, measured by several looks, with a threshold for each class.

    ``model`` is a key of ``BACKBONES``, ``options`` are its builder's. A ``frozen`` backbone gets a linear
    head by L-BFGS on features that are computed once; its penalty is the best on validation images. Anything
    else is trained by gradient steps, and scored after each epoch by ``map`` and ``validation_loss``.
    Predictions are the logits of the parts, (n, classes) float32 each, and ``thresholds``.

    Attributes:
        views: augmented views of each image whose features train a linear head.
        test_sizes: input sides averaged when it is measured, each with its mirror image; empty for the size
            of training alone.
    """

    shrink: ClassVar[int | None] = None
    usual_loss: ClassVar[str] = "binary cross-entropy"
    views: int = 0
    test_sizes: tuple[int, ...] = ()

    def monitor(self, work):
        return "map"

    def network(self, experiment, classes):
        return build_classifier(
            experiment.model,
            classes,
            weights=experiment.weights,
            dropout=self.dropout,
            options=experiment.options,
        )

    def scorer(self, work):
        recipe, validation = work.experiment.recipe, work.data.validation
        kept = DecodedCache(validation, longest_side=2 * recipe.size)

        def score(model):
            figures = _figures(_one_look(model, recipe, validation, kept), validation)
            return {"validation_loss": figures["loss"], "map": figures["map"]}

        return score

    def optimizer(self, experiment):
        return "L-BFGS" if experiment.frozen else super().optimizer(experiment)

    def epochs(self, experiment):
        return 0 if experiment.frozen else super().epochs(experiment)

    def fit(self, work):
        return self._fit_head(work) if work.experiment.frozen else super().fit(work)

    def _fit_head(self, work: Work) -> tuple[keras.Model, dict]:
        keras.utils.set_random_seed(work.experiment.recipe.seed)
        data, recipe = work.data, work.experiment.recipe
        model = self.network(work.experiment, len(data.fit.class_names))
        extractor = feature_extractor(model)
        parts = [data.fit] if work.chosen is None else [data.fit, data.validation]
        found = [self._features(work, extractor, part, self.views) for part in parts]
        views = np.concatenate([features for features, _ in found], axis=1)
        labels = np.concatenate([part.labels for part in parts])
        seconds = sum(took for _, took in found)
        if work.chosen is None:
            held, _ = self._features(work, extractor, data.validation)
            started = time.perf_counter()
            kernel, bias, more = _best_head(views, labels, held, data.validation.labels)
            # One view at the training size is what fine-tuning is scored on after each of its epochs.
            sizes = self.test_sizes or (recipe.size,)
            single = held[2 * sizes.index(recipe.size)] if recipe.size in sizes else held[0]
            start = {"map": mean_average_precision(data.validation.labels, single @ kernel + bias)}
        else:
            started = time.perf_counter()
            kernel, bias = fit_linear_head(views, labels, work.chosen.metrics["penalty"])
            start, more = {}, {}
        seconds += time.perf_counter() - started
        model.get_layer("logits").set_weights([kernel, bias])
        work.run.save_model(model)
        work.run.save_history([{"epoch": 0, **start, "seconds": round(seconds, 2)}])
        return model, {**more, "trained_parameters": int(kernel.size + bias.size)}

    def _features(self, work: Work, extractor, part: Dataset, views: int = 0):
        """:func:`pooled_features`, kept beside the runs: those on the same frozen backbone share them.

        Returns:
            (features, the seconds that computing them took, whenever that was).
        """
        experiment, recipe = work.experiment, work.experiment.recipe
        sizes = self.test_sizes or (recipe.size,)
        options = {}
        if views:  # the plain views are shared with the runs without augmentation
            plain, before = self._features(work, extractor, part)
            sizes = (recipe.size,)
            options = {"plain": False, "views": views, "augmentation": recipe.augmentation}
            options["seed"] = recipe.seed
        key = [
            code_digest(pooled_features, build_classifier, feature_extractor),
            experiment.model,
            experiment.options,
            weights_digest(experiment.weights) or recipe.seed,
            sizes,
            options,
            part.split,
            digest(part),
        ]

        def compute():
            started = time.perf_counter()
            cache = DecodedCache(part, work.cache_mb)
            features = pooled_features(
                extractor,
                part,
                sizes,
                **options,
                batch_size=recipe.batch_size,
                cache=cache,
                progress=work.progress,
            )
            return {"features": features, "seconds": np.array(time.perf_counter() - started)}

        found = Run(work.run.folder.parent / "features").once(repr(key), compute)
        features, seconds = found["features"], float(found["seconds"])
        return (np.concatenate([plain, features]), before + seconds) if views else (features, seconds)

    def measure(self, work, model):
        recipe, validation = work.experiment.recipe, work.data.validation
        if work.experiment.frozen and work.chosen is None:  # its features are there already
            kernel, bias = model.get_layer("logits").get_weights()
            extractor = feature_extractor(model)
            logits = {
                part: (self._features(work, extractor, data)[0] @ kernel + bias).mean(0)
                for part, data in work.measured.items()
            }
        else:
            sizes = self.test_sizes or (recipe.size,)
            logits = {
                part: predict_logits(model, data, sizes, recipe.batch_size)
                for part, data in work.measured.items()
            }
        if work.chosen is None:
            thresholds = choose_thresholds(validation.labels, expit(logits["validation"], dtype=np.float64))
        else:
            thresholds = work.chosen.predictions()["thresholds"]
        work.run.save_predictions(**logits, thresholds=thresholds)
        return {
            part: None
            if data.labels is None
            else classification_report(data.labels, expit(logits[part], dtype=np.float64), thresholds)
            for part, data in work.measured.items()
        }

    def told(self, figures):
        return f"mAP {figures['map']:.3f}"


def _best_head(views, labels, held, truth) -> tuple[np.ndarray, np.ndarray, dict]:
    """(kernel, bias, what was tried) of the linear head whose penalty is best on validation images."""
    tried, best = [], None
    for penalty in PENALTIES:
        kernel, bias = fit_linear_head(views, labels, penalty)
        score = mean_average_precision(truth, (held @ kernel + bias).mean(0))
        tried.append({"penalty": penalty, "map": score})
        if best is None or score > best[0]:
            best = score, kernel, bias, penalty
        elif score < best[0] - 0.02:
            break  # ever weaker penalties only overfit more
    _, kernel, bias, penalty = best
    return kernel, bias, {"penalty": penalty, "penalties": tried}
