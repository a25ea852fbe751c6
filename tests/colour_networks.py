"""Networks that know red, green and blue: made by hand, so right on plain photos and easily fooled."""

import keras
import numpy as np
from keras import layers

from voclab.models.network import Network

COLOURS = ("red", "green", "blue")
SIZE = 32


def colour_classifier() -> Network:
    """Says which colour is there most, and can be fooled by a pattern that nobody sees.

    The last feature map holds the mean colour of 2 × 2 pixels, and how much of a checkerboard they hold.
    """
    inputs = keras.Input((None, None, 3))
    x = layers.Conv2D(6, 2, 2, use_bias=False, name="convolution")(inputs)
    x = layers.Activation("linear", name="features")(x)
    model = keras.Model(inputs, layers.Dense(3, name="logits")(layers.GlobalAveragePooling2D()(x)))
    kernel = np.zeros((2, 2, 3, 6), np.float32)
    for k in range(3):
        kernel[:, :, k, k] = 0.25
        kernel[:, :, k, 3 + k] = [[80, -80], [-80, 80]]
    model.get_layer("convolution").set_weights([kernel])
    head = np.concatenate([20 * np.eye(3) - 20 / 3, np.eye(3)]).astype(np.float32)
    model.get_layer("logits").set_weights([head, np.full(3, -2, np.float32)])
    return Network(model, "multilabel", "colours", size=SIZE, class_names=COLOURS, layer="features")


def colour_segmenter() -> Network:
    """Each pixel by its own colour; grey is background."""
    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, layers.Conv2D(4, 1, name="logits")(inputs))
    kernel = np.zeros((1, 1, 3, 4), np.float32)
    kernel[0, 0, :, 1:] = 10 * np.eye(3) - 10 / 3
    model.get_layer("logits").set_weights([kernel, np.array([0.5, 0, 0, 0], np.float32)])
    return Network(model, "segmentation", "pixels", size=SIZE, class_names=COLOURS)


def painted(name: str, shape=(60, 90)) -> np.ndarray:
    """Grey, with a square of the colour in the upper left quarter."""
    image = np.full((*shape, 3), 90, np.uint8)
    image[: shape[0] // 2, : shape[1] // 2, COLOURS.index(name)] = 255
    return image
