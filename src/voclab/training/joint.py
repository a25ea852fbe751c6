"""Classifier and segmenter in one network, trained together on label maps."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import keras
import numpy as np

from voclab.backend import finite
from voclab.data.batches import evaluation_batches
from voclab.data.images import at_size
from voclab.losses import Presence, get_loss
from voclab.metrics import SegmentationMetrics, mean_average_precision
from voclab.models.classifiers import predict
from voclab.models.joint import LOGITS, PRESENCE, build_joint, classifier_of, segmenter_of
from voclab.models.segmenters import ENCODER
from voclab.training.experiment import Work
from voclab.training.segmentation import Segmentation, labels_at


@dataclass(frozen=True)
class Joint(Segmentation):
    """Which classes are in an image, and where.

    ``model`` is ``"joint"`` on a ``backbone``; ``loss`` and ``options`` are as for a segmenter on one, with
    :func:`voclab.models.joint.build_joint` as the builder. After each epoch there are ``dice`` and ``map``
    (mean average precision of the classifier) of one view of the whole image at ``looked_at``. The last epoch
    is kept: its learning rate is zero, and on a hundred images two epochs differ by chance. Predictions are
    those of a segmenter, and ``validation_logits`` and ``test_logits`` of the classifier.

    Attributes:
        looked_at: side in pixels at which the network is judged after each epoch; crops show objects larger
            than whole images do, so it is larger than that of the training (Touvron et al. 2019, *FixRes*).
        weight: of the classifier's loss.
    """

    shrink: ClassVar[int | None] = 2
    looked_at: int = 384
    weight: float = 4.0

    def monitor(self, work):
        return "epoch"

    def build(self, work: Work) -> keras.Model:
        experiment = work.experiment
        keras.utils.set_random_seed(experiment.recipe.seed)
        labels = len(work.data.fit.class_names) + 1
        model = build_joint(experiment.backbone, labels, weights=experiment.weights, **experiment.options)
        if experiment.frozen:  # never set to True: that would thaw the pretrained batch norm too
            model.get_layer(ENCODER).trainable = False
        if work.start:
            model.set_weights(work.start.load_model().get_weights())
        return model

    def loss(self, work):
        where = get_loss(work.experiment.loss or self.usual_loss)
        return {LOGITS: where, PRESENCE: Presence(self.weight)}

    def scorer(self, work: Work) -> Callable[[keras.Model], dict[str, float]]:
        validation, size, batch_size = work.data.validation, self.looked_at, work.experiment.recipe.batch_size
        pixels = np.stack([at_size(validation.image(i), size) for i in range(len(validation))])
        truth = np.stack([labels_at(validation.mask(i), size) for i in range(len(validation))])

        def score(model):
            metrics, presence = SegmentationMetrics(len(validation.class_names) + 1, boundaries=False), []
            for k in range(0, len(pixels), batch_size):
                found = model.predict_on_batch(pixels[k : k + batch_size].astype(np.float32) / 255)
                presence.append(found[PRESENCE])
                for mask, logits in zip(truth[k : k + batch_size], found[LOGITS], strict=True):
                    metrics.update(mask, logits.argmax(-1).astype(np.uint8))
            logits = finite(np.concatenate(presence), work.run.name)
            return {"dice": metrics.mean_dice(), "map": mean_average_precision(validation.labels, logits)}

        return score

    def measure(self, work, model):
        classifier, batch_size = classifier_of(model), work.experiment.recipe.batch_size
        logits = {}
        for part, data in work.measured.items():
            batches = evaluation_batches(data, self.looked_at, batch_size)
            logits[part] = np.concatenate([predict(classifier, x, batch_size) for x in batches])
        more = {f"{part}_logits": values for part, values in logits.items()}
        reports = self.measured(work, segmenter_of(model), more)
        for part, report in reports.items():
            if report is not None:
                report["map"] = mean_average_precision(work.measured[part].labels, logits[part])
        return reports

    def told(self, figures):
        return f"{super().told(figures)}, mAP {figures['map']:.3f}"
