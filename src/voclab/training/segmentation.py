"""Segmenters: from scratch, on a frozen encoder, and fine-tuned; then measured at original resolution."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import keras
import numpy as np

from voclab.data.base import Dataset
from voclab.data.batches import DecodedCache
from voclab.data.images import at_size
from voclab.errors import VoclabError
from voclab.losses import get_loss
from voclab.metrics import SegmentationMetrics
from voclab.models.classifiers import count_parameters, predict
from voclab.models.prediction import Segmenter, TestTime
from voclab.models.segmenters import ENCODER, build_segmenter, build_unet
from voclab.terminal import say
from voclab.training.identity import data_digest, known_by, weights_digest
from voclab.training.loop import Recipe, train
from voclab.training.masks import StoredMasks, write_masks
from voclab.training.run import Run

_FILES = ("history.json", "model.keras", "predictions.npz")  # of a complete run, with masks and these figures
_FIGURES = ("test", "seconds", "parameters", "trained_parameters")


@dataclass(frozen=True)
class Experiment:
    """One segmenter: what it is and how it is trained.

    Attributes:
        name: folder of the run.
        architecture: ``"scratch"`` (U-Net with random weights), ``"unet"`` or ``"deeplab"`` (on a backbone).
        recipe: size, policy, epochs and so on.
        test_time: how an image is shown to the model when it is measured.
        loss: key of ``voclab.losses.LOSSES``.
        backbone: key of ``BACKBONES``; ``None`` from scratch.
        weights: ``None``, ``"imagenet"`` or a weights file.
        frozen: whether the encoder keeps its weights.
        start: name of the run that this one goes on from.
        options: further arguments of the model's builder.
    """

    name: str
    architecture: str
    recipe: Recipe
    test_time: TestTime
    loss: str = "cross_entropy_dice"
    backbone: str | None = None
    weights: str | None = None
    frozen: bool = False
    start: str | None = None
    options: dict = field(default_factory=dict)


def build(experiment: Experiment, labels: int) -> keras.Model:
    """The untrained model of an experiment; ``labels`` includes background."""
    keras.utils.set_random_seed(experiment.recipe.seed)
    if experiment.architecture == "scratch":
        return build_unet(labels, **experiment.options)
    model = build_segmenter(
        experiment.architecture,
        experiment.backbone,
        labels,
        weights=experiment.weights,
        **experiment.options,
    )
    if experiment.frozen:  # never set to True: that would thaw the pretrained batch norm too
        model.get_layer(ENCODER).trainable = False
    return model


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
    """Train with the best epoch chosen on validation data, measure at original resolution.

    A complete run of the same configuration is returned as it is; an interrupted one goes on.

    Args:
        experiment: what to train.
        fit_set: images with masks to train on.
        validation: images with masks that every choice is made on.
        test_set: images that are only measured (or, without masks, only predicted).
        folder: parent folder of the runs.
        cache_mb: memory for decoded images and masks.
        progress: receives lines of text.

    Returns:
        The complete :class:`Run`: ``metrics["validation"]`` and ``metrics["test"]`` as
        ``SegmentationMetrics.report`` gives them, ``predictions()`` with the pixel counts of every image
        (see :func:`measure`), and the label maps in :func:`predicted_masks`.
    """
    require_masks(fit_set, validation)
    run = Run(folder / experiment.name)
    config = {
        "experiment": replace(experiment, weights=experiment.weights and Path(experiment.weights).name),
        "weights": weights_digest(experiment.weights),
        "task": "segmentation",
        "class_names": fit_set.class_names,
        "data": data_digest(fit_set, validation, test_set, masks=True),
    }
    started = _start(experiment, folder)
    if started:
        config["start"] = started.config
    config = known_by(config, run_experiment)
    files = (*_FILES, "validation_masks.zip", "test_masks.zip")
    if run.begin(config, files=files, figures=("validation", *_FIGURES), progress=progress):
        return run
    model = build(experiment, len(fit_set.class_names) + 1)
    if started:
        model.set_weights(started.load_model().get_weights())
    train(
        model,
        fit_set,
        loss=get_loss(experiment.loss),
        recipe=experiment.recipe,
        run=run,
        score=_scorer(experiment, validation),
        monitor="dice",
        target="masks",
        cache=DecodedCache(fit_set, cache_mb),
        progress=progress,
    )
    _finish(run, model, experiment, {"validation": validation, "test": test_set}, started, progress)
    return run


def require_masks(*parts: Dataset) -> None:
    """Refuse data that cannot teach segmentation, with one sentence."""
    for part in parts:
        if not part.has_masks:
            raise VoclabError(
                f"{part.name} {part.split} has no masks to learn from ({part.source}); use data with "
                "SegmentationClass or train/seg."
            )


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
    """Train the chosen segmenter once more, on fit and validation images together.

    The number of epochs is the one that the complete run of ``experiment`` chose; nothing is chosen here.

    Args:
        experiment: the chosen one; its run, and that of its ``start``, are complete.
        experiments: all of them by name, to find ``start``.
        fit_set: images that the chosen run was trained on.
        validation: images that it was chosen on.
        test_set: images to predict.
        folder: parent folder of the runs.
        cache_mb: memory for decoded images and masks.
        progress: receives lines of text.

    Returns:
        The run ``<name>-all``, measured on ``test`` alone.
    """
    chosen, run = Run(folder / experiment.name), Run(folder / f"{experiment.name}-all")
    config = known_by({"refit": chosen.config}, refit)
    files = (*_FILES, "test_masks.zip")
    if run.begin(config, files=files, figures=_FIGURES, progress=progress):
        return run
    together = fit_set.joined(validation)
    model = build(experiment, len(fit_set.class_names) + 1)
    begun = None
    if experiment.start:
        parts = (fit_set, validation, test_set, folder)
        others = {"cache_mb": cache_mb, "progress": progress}
        begun = refit(experiments[experiment.start], experiments, *parts, **others)
        model.set_weights(begun.load_model().get_weights())
    train(
        model,
        together,
        loss=get_loss(experiment.loss),
        recipe=experiment.recipe,
        run=run,
        score=None,
        stop_after=max(chosen.history, key=lambda entry: entry["dice"])["epoch"],
        target="masks",
        cache=DecodedCache(together, cache_mb),
        progress=progress,
    )
    _finish(run, model, experiment, {"test": test_set}, begun, progress)
    return run


def predicted_masks(run: Run, part: str = "test") -> StoredMasks:
    """The label maps that a complete run predicted, by id of the image."""
    return StoredMasks(run.folder / f"{part}_masks.zip")


def measure(
    masks: Iterator[np.ndarray], dataset: Dataset, boundaries: bool = True
) -> tuple[SegmentationMetrics, np.ndarray]:
    """Score predicted label maps against the truth of a data set.

    Args:
        masks: one (H, W) label map an image, in the data set's order.
        dataset: images with masks.
        boundaries: whether to compute the boundary F1.

    Returns:
        (metrics over all images, pixel counts (n, 3, labels) int64 of each image: right, predicted and true
        pixels of each label, void left out).
    """
    labels = len(dataset.class_names) + 1
    metrics, counts = SegmentationMetrics(labels, boundaries=boundaries), []
    before = metrics.matrix.copy()
    for i, predicted in enumerate(masks):
        metrics.update(dataset.mask(i), predicted)
        own = metrics.matrix - before
        counts.append([np.diag(own), own.sum(0), own.sum(1)])
        before = metrics.matrix.copy()
    return metrics, np.array(counts, np.int64).reshape(-1, 3, labels)


def _start(experiment: Experiment, folder: Path) -> Run | None:
    if experiment.start is None:
        return None
    start = Run(folder / experiment.start)
    if not start.complete:
        raise VoclabError(f"{start.folder} is not complete; run the experiment {start.name!r} first.")
    return start


def _scorer(experiment: Experiment, validation: Dataset) -> Callable[[keras.Model], dict[str, float]]:
    """Validation loss and mean foreground Dice at the training size, one view an image."""
    size, batch_size = experiment.recipe.size, experiment.recipe.batch_size
    loss = get_loss(experiment.loss)
    labels = len(validation.class_names) + 1
    pixels = np.stack([at_size(validation.image(i), size) for i in range(len(validation))])
    truth = np.stack([_labels_at(validation.mask(i), size) for i in range(len(validation))])

    def score(model):
        metrics, losses = SegmentationMetrics(labels, boundaries=False), []
        for k in range(0, len(pixels), batch_size):
            batch, masks = pixels[k : k + batch_size], truth[k : k + batch_size]
            logits = predict(model, batch.astype(np.float32) / 255.0, batch_size)
            losses += [float(loss(masks, logits))] * len(batch)
            for mask, predicted in zip(masks, logits.argmax(-1)):
                metrics.update(mask, predicted.astype(np.uint8))
        return {"validation_loss": float(np.mean(losses)), "dice": metrics.mean_dice()}

    return score


def _labels_at(mask: np.ndarray, size: int) -> np.ndarray:
    return cv2.resize(mask, (size, size), interpolation=cv2.INTER_NEAREST)


def _finish(run, model, experiment, parts: Mapping[str, Dataset], started: Run | None, progress) -> None:
    seconds = sum(entry.get("seconds", 0.0) for entry in run.history)
    segmenter = Segmenter(model, experiment.test_time, experiment.recipe.batch_size)
    reports, counts = {}, {}
    for part, dataset in parts.items():
        # Written first and read back: what is measured is what figures and the submission show.
        write_masks(
            run.folder / f"{part}_masks.zip", dataset.ids, _predicted(segmenter, dataset, run, progress)
        )
        reports[part] = None
        if dataset.has_masks:
            stored = predicted_masks(run, part)
            metrics, counts[part] = measure((stored[name] for name in dataset.ids), dataset)
            reports[part] = metrics.report()
            counts[f"{part}_matrix"] = metrics.matrix
    run.save_predictions(**counts)
    parameters = count_parameters(model)
    run.finish(
        {
            **reports,
            "seconds": round(seconds + (started.metrics["seconds"] if started else 0.0), 1),
            "parameters": parameters["total"],
            "trained_parameters": parameters["trainable"],
        }
    )
    shown = next(report for report in (*reports.values(), None) if report or report is None)
    figure = f"{next(iter(parts))} Dice {shown['mean_dice']:.3f}, " if shown else ""
    progress(f"{run.name}: {figure}trained in {seconds:.0f} s")


def _predicted(segmenter: Segmenter, dataset: Dataset, run: Run, progress) -> Iterator[np.ndarray]:
    started = last = time.perf_counter()
    images = (dataset.image(i) for i in range(len(dataset)))
    for given, mask in enumerate(segmenter.masks(images)):
        yield mask
        now = time.perf_counter()
        if now - last > 5:
            # Images are computed a batch at a time, ahead of those that were given out.
            done = min((given // segmenter.batch_size + 1) * segmenter.batch_size, len(dataset))
            last, left = now, (now - started) / done * (len(dataset) - done)
            progress(f"{run.name}: {done}/{len(dataset)} images predicted, {left / 60:.1f} min left")
