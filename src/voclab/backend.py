"""What must know which backend Keras runs on (here TensorFlow): gradients, inference, resizing."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf


def value_and_gradient(function: Callable, x: np.ndarray):
    """Value of a scalar function and its gradient with respect to its input.

    Args:
        function: tensor of the shape of ``x`` -> scalar tensor.
        x: float array.

    Returns:
        (value as a float, gradient as a float32 array of the shape of ``x``).
    """
    x = tf.convert_to_tensor(x, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = function(x)
    return float(value), tape.gradient(value, x).numpy()


def compiled(model: Callable) -> Callable[[np.ndarray], np.ndarray]:
    """Inference of a model of pixels as one graph for all batch and image sizes.

    ``predict_on_batch`` traces a graph for every size, which takes longer than most photos.

    Args:
        model: called as ``model(pixels, training=False)``.

    Returns:
        (B, H, W, 3) float32 -> float32 array.
    """
    signature = [tf.TensorSpec((None, None, None, 3), tf.float32)]
    graph = tf.function(lambda x: model(x, training=False), input_signature=signature)

    def forward(pixels: np.ndarray) -> np.ndarray:
        return graph(tf.convert_to_tensor(pixels, tf.float32)).numpy().astype(np.float32, copy=False)

    return forward


def resize(x, height, width):
    """Bilinear resizing to a size that may be known only when the graph runs.

    ``keras.ops.image.resize`` insists on numbers, and so fails once a model has met a second image size.

    Args:
        x: (B, h, w, C) floating-point tensor.
        height: integer or scalar tensor.
        width: integer or scalar tensor.

    Returns:
        (B, height, width, C) of the same dtype.
    """
    return tf.cast(tf.image.resize(x, (height, width), method="bilinear"), x.dtype)
