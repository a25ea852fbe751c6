"""Where a classifier looks: Grad-CAM."""

import cv2
import keras
import numpy as np

from voclab.backend import finite, value_and_gradient
from voclab.data.images import resized
from voclab.models.classifiers import FEATURES, FINER


class GradCam:
    """Grad-CAM (Selvaraju et al. 2017) of a classifier of ours.

    The class' logit is differentiated with respect to the last feature map; each channel is weighed
    by the mean of its gradient, and the positive part of the weighted sum says which places speak
    for the class. Finer maps that the logit depends on too are held as they are.

    Args:
        model: from ``voclab.models.classifiers.build_classifier``, or
            ``voclab.models.joint.classifier_of``.
        size: input side in pixels that the image is resized to.
    """

    def __init__(self, model: keras.Model, size: int):
        finer = [layer.name for layer in model.layers if layer.name.startswith(FINER)]
        cut = [model.get_layer(name).output for name in (FEATURES, *finer)]
        self.size = size
        self._body = keras.Model(model.inputs, cut)
        self._head = keras.Model(cut, model.output)

    def __call__(self, image: np.ndarray, k: int) -> np.ndarray:
        """Heat map of class ``k``.

        Args:
            image: (H, W, 3) uint8 RGB.
            k: index of the class.

        Returns:
            (H, W) float32 in [0, 1]; all zero where nothing speaks for the class.
        """
        found = self._body.predict_on_batch(resized(image, self.size)[None])
        maps, *finer = found if isinstance(found, list) else [found]  # Keras unwraps a list of one
        finer = [keras.ops.convert_to_tensor(other) for other in finer]
        _, gradient = value_and_gradient(lambda x: self._head([x, *finer], training=False)[0, k], maps)
        finite(gradient, self._body.name)
        weights = gradient.mean(axis=(1, 2), keepdims=True)
        heat = np.maximum((weights * maps).sum(-1)[0], 0.0)
        if heat.max() > 0:
            heat = heat / heat.max()
        large = cv2.resize(heat, (image.shape[1], image.shape[0]), interpolation=cv2.INTER_CUBIC)
        return np.clip(large, 0.0, 1.0).astype(np.float32)
