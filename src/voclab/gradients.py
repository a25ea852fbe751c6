"""Gradients with respect to inputs, which Keras leaves to its backend; here TensorFlow."""

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
