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


def out_of_memory(error: BaseException) -> bool:
    """Whether TensorFlow, or Python code that it called, failed for lack of memory."""
    if isinstance(error, (MemoryError, tf.errors.ResourceExhaustedError)):
        return True
    # tf.data turns what its Python functions raise into an error of its own that quotes it; some kernels of
    # cuDNN and XLA report a failed allocation as an internal error.
    quoted = ("MemoryError", "ResourceExhaustedError", "RESOURCE_EXHAUSTED", "out of memory")
    return isinstance(error, tf.errors.OpError) and any(words in str(error) for words in quoted)


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


def compiled_gradient(model: Callable, objective: Callable, truth_rank: int):
    """The value of an objective of a model's output, image by image, and its gradient at the images.

    Args:
        model: pixels (B, H, W, 3) tensor -> output tensor.
        objective: (output, truth) tensors -> (B,) values; those of one image depend on that image alone.
        truth_rank: number of axes of the truth.

    Returns:
        (pixels, truth) arrays -> (values (B,), gradients (B, H, W, 3), output), float32; one graph for all
        batch and image sizes.
    """
    signature = [
        tf.TensorSpec((None, None, None, 3), tf.float32),
        tf.TensorSpec((None,) * truth_rank, tf.int32),
    ]

    @tf.function(input_signature=signature)
    def graph(pixels, truth):
        with tf.GradientTape() as tape:
            tape.watch(pixels)
            output = tf.cast(model(pixels), tf.float32)
            values = objective(output, truth)
        # An output that does not depend on the pixels at all has no gradient: zero says the same.
        gradient = tape.gradient(values, pixels, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return values, gradient, output

    def call(pixels: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        results = graph(
            tf.convert_to_tensor(pixels, tf.float32), tf.convert_to_tensor(np.asarray(truth, np.int32))
        )
        return tuple(result.numpy() for result in results)

    return call


def input_gradient(function: Callable, x):
    """Gradient of a sum of values with respect to the input, inside a graph.

    Args:
        function: tensor -> tensor of any shape.
        x: floating-point tensor.

    Returns:
        Tensor of the shape of ``x``.
    """
    with tf.GradientTape() as tape:
        tape.watch(x)
        values = function(x)
    return tape.gradient(values, x)
