"""Segmenters: from scratch, on a frozen backbone, or fine-tuned; measured at the images' own size."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import cv2
import keras
import numpy as np

from voclab.data.base import Dataset
from voclab.data.images import at_size
from voclab.errors import VoclabError
from voclab.losses import get_loss
from voclab.metrics import SegmentationMetrics
from voclab.models.classifiers import predict
from voclab.models.network import Network
from voclab.models.prediction import TestTime
from voclab.models.segmenters import ENCODER, build_segmenter, build_unet
from voclab.training.experiment import Experiment, Task, Work
from voclab.training.masks import StoredMasks, write_masks
from voclab.training.store import Run


@dataclass(frozen=True)
class Segmentation(Task):
    """A label for each pixel, background among them.

    ``model`` is ``"unet"`` or ``"deeplab"`` on a ``backbone``, or ``"unet"`` alone, with random weights;
    ``loss`` a key of ``voclab.losses.LOSSES``; ``options`` go to the model's builder. After each epoch there
    are ``dice`` (mean over the classes) and ``validation_loss`` at the training size. The figures of a part
    are those of ``SegmentationMetrics.report``; predictions are the pixel counts of every image (see
    :func:`measure`) and the matrix of each part; the label maps are :func:`predicted_masks`.

    Attributes:
        test_time: how an image is shown to the model when it is measured.
    """

    usual_loss: ClassVar[str] = "cross_entropy_dice"
    test_time: TestTime

    def require(self, experiment, data, networks):
        require_masks(data.fit, data.validation)

    def of(self, data):
        return "segmentation"

    def masks(self, networks):
        return True

    def files(self, parts):
        return (*super().files(parts), *(f"{part}_masks.zip" for part in parts))

    def monitor(self, work):
        return "dice"

    def build(self, work: Work) -> keras.Model:
        model = build(work.experiment, len(work.data.fit.class_names) + 1)
        if work.start:
            model.set_weights(work.start.load_model().get_weights())
        return model

    def loss(self, work):
        return get_loss(work.experiment.loss or self.usual_loss)

    def scorer(self, work: Work) -> Callable[[keras.Model], dict[str, float]]:
        recipe, validation = work.experiment.recipe, work.data.validation
        size, batch_size, loss = recipe.size, recipe.batch_size, self.loss(work)
        labels = len(validation.class_names) + 1
        pixels = np.stack([at_size(validation.image(i), size) for i in range(len(validation))])
        truth = np.stack([labels_at(validation.mask(i), size) for i in range(len(validation))])

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

    def measure(self, work, model):
        return self.measured(work, model, {})

    def measured(self, work: Work, model: keras.Model, more: dict[str, np.ndarray]) -> dict:
        """:meth:`measure` of a segmenter; ``more`` is kept with its predictions."""
        network = Network(model, "segmentation", work.run.name, test_time=self.test_time)
        reports: dict = {}
        counts: dict = {}
        for part, dataset in work.measured.items():
            # Written first and read back: what is measured is what figures and the submission show.
            predicted = _predicted(network, dataset, work)
            write_masks(work.run.folder / f"{part}_masks.zip", dataset.ids, predicted)
            reports[part] = None
            if dataset.has_masks:
                stored = predicted_masks(work.run, part)
                metrics, counts[part] = measure((stored[name] for name in dataset.ids), dataset)
                reports[part] = metrics.report()
                counts[f"{part}_matrix"] = metrics.matrix
        work.run.save_predictions(**counts, **more)
        return reports

    def told(self, figures):
        return f"Dice {figures['mean_dice']:.3f}"


def build(experiment: Experiment, labels: int) -> keras.Model:
    """The untrained segmenter of an experiment; ``labels`` includes background."""
    keras.utils.set_random_seed(experiment.recipe.seed)
    if experiment.backbone is None:
        return build_unet(labels, **experiment.options)
    model = build_segmenter(
        experiment.model, experiment.backbone, labels, weights=experiment.weights, **experiment.options
    )
    if experiment.frozen:  # never set to True: that would thaw the pretrained batch norm too
        model.get_layer(ENCODER).trainable = False
    return model


def require_masks(*parts: Dataset) -> None:
    """Refuse data that cannot teach segmentation, with one sentence."""
    for part in parts:
        if not part.has_masks:
            raise VoclabError(
                f"{part.name} {part.split} has no masks to learn from ({part.source}); use data with "
                "SegmentationClass or train/seg."
            )


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


def labels_at(mask: np.ndarray, size: int) -> np.ndarray:
    """An (H, W) label map at ``size`` × ``size``, nearest neighbour."""
    return cv2.resize(mask, (size, size), interpolation=cv2.INTER_NEAREST)


def _predicted(network: Network, dataset: Dataset, work: Work) -> Iterator[np.ndarray]:
    """Label maps one by one, with a line of progress now and then."""
    started = last = time.perf_counter()
    images = (dataset.image(i) for i in range(len(dataset)))
    batch_size = work.experiment.recipe.batch_size
    for given, mask in enumerate(network.label_maps(images, batch_size)):
        yield mask
        now = time.perf_counter()
        if now - last > 5:
            # Images are computed a batch at a time, ahead of those that were given out.
            done = min((given // batch_size + 1) * batch_size, len(dataset))
            last, left = now, (now - started) / done * (len(dataset) - done)
            done = f"{done}/{len(dataset)} images predicted"
            work.progress(f"{work.run.name}: {done}, {left / 60:.1f} min left")
