"""A model with what must be known to use it: task, input size, classes, thresholds."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

import keras
import numpy as np
from keras import ops

from voclab.backend import compiled, compiled_gradient
from voclab.errors import VoclabError
from voclab.models.prediction import TestTime, full_size_logits

TASKS = ("multilabel", "multiclass", "segmentation")


@dataclass(frozen=True, eq=False)
class Network:
    """A frozen model of pixels. What is compiled, is compiled once a network.

    Attributes:
        model: (B, H, W, 3) float32 in [0, 1] -> (B, classes) logits, or for segmentation
            (B, H, W, classes + 1), background first.
        task: one of :data:`TASKS`.
        name: for messages and tables.
        thresholds: (classes,) probabilities above which a ``multilabel`` class counts as present; without
            them 0.5.
        size: side of its input in pixels.
        class_names: without the background; empty where they are not known.
        test_time: how images of any size are shown to it, see :meth:`label_maps` and :meth:`all_views`.
        weights: where its weights come from, for people.
        layer: whose output :meth:`features` gives; without it the last one that gives a map.
    """

    model: keras.Model
    task: str
    name: str = "network"
    thresholds: np.ndarray | None = None
    size: int | None = None
    class_names: tuple[str, ...] = ()
    test_time: TestTime | None = None
    weights: str = ""
    layer: str | None = None
    _gradients: dict = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self):
        if self.task not in TASKS:
            raise VoclabError(f"There is no task {self.task!r}; choose one of {', '.join(TASKS)}.")

    @property
    def outputs(self) -> int:
        """How many logits there are for an image, or for a pixel."""
        return int(self.model.output_shape[-1])

    def said(self, class_index: int) -> str:
        """The name of a class, or its number."""
        return self.class_names[class_index] if self.class_names else f"class {class_index}"

    def logits(self, images, batch_size: int = 16) -> np.ndarray:
        """(B, …) float32 logits of (B, H, W, 3) images in [0, 1], an array or a tensor."""
        parts = [self._forward(images[k : k + batch_size]) for k in range(0, len(images), batch_size)]
        return np.concatenate(parts)

    def features(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of (B, H, W, 3) images in [0, 1]: (B, F) features, averaged over places, and (B, classes) logits.

        Raises:
            VoclabError: no such layer, or no layer that gives a map.
        """
        both = self._features(images)
        return both[:, : -self.outputs], both[:, -self.outputs :]

    def label_maps(self, images: Iterable[np.ndarray], batch_size: int = 8) -> Iterator[np.ndarray]:
        """(H, W) uint8 label map at the size of each (H, W, 3) uint8 image, in order, lazily."""
        for logits in self.all_views(images, batch_size):
            yield logits.argmax(-1).astype(np.uint8)

    def all_views(self, images: Iterable[np.ndarray], batch_size: int = 8) -> Iterator[np.ndarray]:
        """Logits of (H, W, 3) uint8 images, in order, lazily: (H, W, classes), of a classifier (classes,)."""
        return full_size_logits(self._forward, images, self.test_time, batch_size)

    def gradient(self, images, truth: np.ndarray, objective: Callable):
        """An objective of the logits and its gradient at the images.

        Args:
            images: (B, H, W, 3) float32 array or tensor.
            truth: (B, …) integers.
            objective: (logits, truth) tensors -> (B,) values. One graph is kept for each objective, so pass
                the same function again.

        Returns:
            ((B,) values, (B, H, W, 3) gradients, logits), float32 tensors on the device that computes them.

        Raises:
            VoclabError: the gradient is not finite.
        """
        if objective not in self._gradients:
            forward = lambda x: self.model(x, training=False)  # noqa: E731
            self._gradients[objective] = compiled_gradient(forward, objective, np.ndim(truth))
        values, gradient, logits = self._gradients[objective](images, truth)
        if not ops.all(ops.isfinite(gradient)):
            raise VoclabError(
                f"The gradient of {self.name} is not finite, so there is no direction to attack along; "
                "look for a division by zero or an overflow in its layers."
            )
        return values, gradient, logits

    @cached_property
    def feature_layer(self) -> str:
        """The name of the layer whose output the features are."""
        maps = [layer.name for layer in self.model.layers if _gives_map(layer)]
        if not maps or (self.layer is not None and self.layer not in [x.name for x in self.model.layers]):
            raise VoclabError(
                f"The network {self.name} has no layer {self.layer or 'that gives a map'}; choose one of"
                f" {', '.join(maps[-8:]) or 'another network'}."
            )
        return self.layer or maps[-1]

    @cached_property
    def _forward(self) -> Callable:
        return compiled(self.model, self.name)

    @cached_property
    def _features(self) -> Callable:
        layer = self.model.get_layer(self.feature_layer)
        both = keras.Model(self.model.inputs, [layer.output, self.model.outputs[0]])

        def run(x, training):
            features, answer = both(x, training=training)
            if len(features.shape) == 4:
                features = ops.mean(features, axis=(1, 2))
            return ops.concatenate([ops.cast(features, "float32"), ops.cast(answer, "float32")], axis=-1)

        return compiled(run, self.name)


def _gives_map(layer: keras.Layer) -> bool:
    output = getattr(layer, "output", None)
    is_input = isinstance(layer, keras.layers.InputLayer)
    return not is_input and not isinstance(output, list | dict | None) and len(output.shape) == 4
