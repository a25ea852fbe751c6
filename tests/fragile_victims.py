"""Networks that see squares by their colour, and a faint pattern that people do not: made by hand, so right
on clean images, hardly moved by noise and wide open to whoever finds the pattern."""

from dataclasses import replace

import keras
import numpy as np
from keras import layers

from voclab.data.base import Dataset
from voclab.models.network import Network

CLASSES = ("red", "green", "blue", "never")  # the last one occurs in no image


def four_classes(squares: Dataset) -> Dataset:
    """The squares with a class that no image shows."""
    labels = np.pad(squares.labels, ((0, 0), (0, 1)))
    return replace(squares, class_names=CLASSES, labels=labels)


def one_class_each(dataset: Dataset) -> Dataset:
    """The images of a single square, as data of which each image has one class."""
    single = dataset.subset(np.flatnonzero(dataset.labels.sum(1) == 1))
    return replace(single, task="multiclass")


def fragile_classifier(norm: bool = True) -> keras.Model:
    """Mean colour, plus a large share of a checkerboard (of stripes, for ``never``) that nature lacks.

    With ``norm`` it starts with a batch norm, which a victim must not use in training mode.
    """
    inputs = keras.Input((None, None, 3))
    x = layers.BatchNormalization(name="norm")(inputs) if norm else inputs
    colour = layers.Rescaling(40.0)(layers.GlobalAveragePooling2D()(x))
    hidden = layers.Conv2D(4, 2, 2, use_bias=False, trainable=False, name="hidden")(x)
    hidden = layers.Rescaling(100.0)(layers.GlobalAveragePooling2D()(hidden))
    logits = layers.Dense(4, name="logits")(layers.Concatenate()([colour, hidden]))
    model = keras.Model(inputs, logits)
    kernel = np.zeros((2, 2, 3, 4), np.float32)
    for k in range(3):
        kernel[:, :, k, k] = [[1, -1], [-1, 1]]
    kernel[:, :, :, 3] = np.array([[1, -1], [1, -1]])[..., None] / 3
    model.get_layer("hidden").set_weights([kernel])
    weights = np.zeros((7, 4), np.float32)
    weights[:3, :3] = np.eye(3) - 1 / 3
    weights[3:] = np.eye(4)
    model.get_layer("logits").set_weights([weights, np.array([0, 0, 0, -0.5], np.float32)])
    return model


def fragile_segmenter() -> keras.Model:
    """Each pixel by the mean colour around it, with thresholds just above the grey of the background."""
    inputs = keras.Input((None, None, 3))
    logits = layers.Conv2D(5, 3, padding="same", name="logits")(inputs)
    model = keras.Model(inputs, logits)
    kernel = np.zeros((3, 3, 3, 5), np.float32)
    for k in range(3):
        kernel[:, :, k, k + 1] = 100 / 9
    model.get_layer("logits").set_weights([kernel, np.array([0, -47, -47, -47, -9], np.float32)])
    return model


def victims() -> dict[str, Network]:
    """Both, by the names of the study."""
    return {
        "classifier": Network(fragile_classifier(), "multilabel", "classifier"),
        "segmenter": Network(fragile_segmenter(), "segmentation", "segmenter"),
    }
