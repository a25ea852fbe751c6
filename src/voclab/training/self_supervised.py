"""Features learnt from images without labels: SimSiam (Chen & He 2021)."""

from dataclasses import dataclass
from typing import ClassVar

import keras
import numpy as np
from keras import layers, ops

from voclab.backend import share_of_mean
from voclab.data.batches import batch_maker, steps_per_epoch
from voclab.errors import VoclabError
from voclab.models.classifiers import feature_extractor
from voclab.training.classification import Classification
from voclab.training.experiment import Experiment, Task

TASK = "features"  # what the configuration of such a run calls it


@dataclass(frozen=True)
class SimSiam(Task):
    """An encoder that gives two views of an image alike features; no labels, negatives or large batches.

    ``model`` and ``options`` are those of a classifier, which is taken without its last layer. Three layers
    with batch norm project its pooled features, two predict from the projection of one view that of the
    other, and no gradient flows into what is predicted. What is kept is the encoder: pixels -> (B, d).

    The last epoch is kept, as in the paper: the loss chooses none, since it is lowest where all features are
    the same. After each epoch there are ``validation_loss``, from 1 to -1, and the :func:`spread` of the
    projections, both of two fixed views of the validation images.

    Attributes:
        width: of the projections.
        bottleneck: of the predictor.
    """

    parts: ClassVar[tuple[str, ...]] = ("validation",)
    usual_loss: ClassVar[str] = "negative cosine"
    target: ClassVar[str] = "views"
    width: int = 256
    bottleneck: int = 64

    def require(self, experiment, data, networks):
        if experiment.recipe.augmentation != "views":
            raise VoclabError("SimSiam compares two views of an image; its recipe's augmentation is 'views'.")

    def of(self, data):
        return TASK

    def files(self, parts):
        return ("history.json", "model.keras")

    def monitor(self, work):
        return "epoch"

    def build(self, work):
        return self.encoder(work.experiment)

    def encoder(self, experiment: Experiment) -> keras.Model:
        """The encoder before its first epoch."""
        keras.utils.set_random_seed(experiment.recipe.seed)
        return feature_extractor(Classification(dropout=0.0).network(experiment, 2))

    def trained(self, work, model):
        projected = model.outputs[0]
        for k in range(3):
            projected = layers.Dense(self.width, use_bias=False, name=f"projector{k + 1}")(projected)
            # The last one has no scale and shift, as in the authors' code.
            free = {"center": k < 2, "scale": k < 2}
            norm = layers.BatchNormalization(momentum=0.9, name=f"projector{k + 1}_bn", **free)
            projected = norm(projected)
            if k < 2:
                projected = layers.Activation("relu", name=f"projector{k + 1}_relu")(projected)
        predicted = layers.Dense(self.bottleneck, use_bias=False, name="predictor1")(projected)
        predicted = layers.BatchNormalization(momentum=0.9, name="predictor1_bn")(predicted)
        predicted = layers.Activation("relu", name="predictor1_relu")(predicted)
        predicted = layers.Dense(self.width, name="predictor2")(predicted)
        return Siamese(model.inputs, [projected, predicted], name="siamese")

    def loss(self, work):
        return None  # Siamese has its own

    def scorer(self, work):
        part, recipe = work.data.validation, work.experiment.recipe
        size = min(recipe.batch_size, len(part))
        how = {"size": recipe.size, "augmentation": "views", "batch_size": size, "target": "views"}
        batch = batch_maker(part, seed=recipe.seed, **how)
        batches = [np.concatenate(batch(k)) for k in range(steps_per_epoch(len(part), size))]

        def score(model):
            found = [_both(model, views.astype(np.float32) / 255.0) for views in batches]
            loss = np.mean([symmetric_loss(*answers) for answers in found])
            return {
                "validation_loss": float(loss),
                "spread": spread(np.concatenate([projected[:size] for projected, _ in found])),
            }

        return score

    def measure(self, work, model):
        return {"validation": work.run.history[-1]}

    def told(self, figures):
        return f"loss {figures['validation_loss']:.3f}, spread {figures['spread']:.2f}"


def _both(model: keras.Model, views: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Projections and predictions of (n, H, W, 3) views; several devices each give those of all views."""
    projected, predicted = model.predict_on_batch(views)
    return projected[: len(views)], predicted[: len(views)]


def symmetric_loss(projected, predicted):
    """The negative cosine of each view's prediction to the other's projection, averaged (Chen & He, eq. 4).

    Args:
        projected: (2 × B, d), the first views and then the others; no gradient flows into it.
        predicted: likewise.

    Returns:
        A scalar from 1 to -1.
    """
    first, second = ops.split(ops.stop_gradient(ops.cast(projected, "float32")), 2)
    aims = ops.normalize(ops.concatenate([second, first]), axis=-1)
    return -ops.mean(ops.sum(ops.normalize(ops.cast(predicted, "float32"), axis=-1) * aims, axis=-1))


def spread(features: np.ndarray) -> float:
    """How far (n, d) features are from being all the same: 0 if they are, about 1 for random directions.

    It is the standard deviation of each component of the normalised features, averaged, times the square root
    of d (Chen & He 2021, section 4.1).
    """
    unit = features / np.linalg.norm(features, axis=1, keepdims=True).clip(1e-12)
    return float(unit.std(axis=0, dtype=np.float64).mean() * np.sqrt(features.shape[1]))


@keras.saving.register_keras_serializable("voclab")
class Siamese(keras.Model):
    """Encoder, projector and predictor: pixels -> projections and predictions; ``fit`` takes pairs of views.

    Both views of a batch are shown together, so that batch norm sees them as one batch.
    """

    def train_step(self, data):
        views = self.seen(*data)
        return super().train_step((views, views))

    def seen(self, views, others):
        """The images of a step."""
        return ops.concatenate([views, others])

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return share_of_mean(symmetric_loss(*y_pred))
