"""Classifiers in pixel space: a backbone, pooled features, one linear head."""

import math

import keras
from keras import layers

from voclab.models.backbones import PixelPreprocessing, build_backbone, get_backbone

FEATURES = "features"  # layer whose output is the last feature map: what Grad-CAM looks at
POOLED = "pooled"  # layer whose output is the vector that the linear head sees


def build_classifier(
    backbone: str,
    classes: int,
    *,
    weights: str | None = None,
    dropout: float = 0.2,
    frozen_below: str | None = None,
    options: dict | None = None,
) -> keras.Model:
    """A classifier of RGB pixels in [0, 1], of any size ≥ 32, that returns logits.

    The feature map is pooled by average and by maximum, both concatenated: the average says how
    much of a class there is, the maximum finds the small object. A network with pretrained weights
    keeps its batch norm in inference mode for good, since a small data set would ruin its
    statistics.

    Args:
        backbone: key of ``voclab.models.backbones.BACKBONES``.
        classes: number of logits.
        weights: ``None`` (random), ``"imagenet"`` or a file; see :func:`build_backbone`.
        dropout: share of the pooled features dropped while training.
        frozen_below: layers of the backbone before this one are never trained; ``None`` trains all.
        options: further arguments of the backbone's builder.

    Returns:
        ``keras.Model``: (batch, H, W, 3) float32 -> (batch, classes) float32 logits.
    """
    mode = get_backbone(backbone).mode
    network = build_backbone(backbone, weights, **(options or {}))
    network.name = "backbone"
    if weights is not None:
        freeze(network, frozen_below)
    inputs = keras.Input((None, None, 3), name="pixels")
    x = PixelPreprocessing(mode, name="preprocessing")(inputs)
    x = network(x, training=False) if weights is not None else network(x)
    x = layers.Activation("linear", name=FEATURES)(x)
    average = layers.GlobalAveragePooling2D(name="average", dtype="float32")(x)
    maximum = layers.GlobalMaxPooling2D(name="maximum", dtype="float32")(x)
    x = layers.Concatenate(name=POOLED, dtype="float32")([average, maximum])
    x = layers.Dropout(dropout, name="dropout", dtype="float32")(x)
    outputs = layers.Dense(classes, name="logits", dtype="float32")(x)
    return keras.Model(inputs, outputs, name=f"{backbone}_classifier")


def freeze(network: keras.Model, below: str | None) -> None:
    """Freeze batch norm everywhere and every layer before the one called ``below``."""
    names = [layer.name for layer in network.layers]
    if below is not None and below not in names:
        raise ValueError(f"{network.name} has no layer {below!r}")
    start = 0 if below is None else names.index(below)
    for k, layer in enumerate(network.layers):
        layer.trainable = k >= start and not isinstance(layer, layers.BatchNormalization)


def feature_extractor(model: keras.Model) -> keras.Model:
    """The part of a classifier up to the pooled features: pixels -> (batch, features) float32."""
    return keras.Model(model.inputs, model.get_layer(POOLED).output, name="feature_extractor")


def count_parameters(model: keras.Model) -> dict[str, int]:
    """``{"total": …, "trainable": …}``."""
    trainable = sum(math.prod(w.shape) for w in model.trainable_weights)
    return {"total": int(model.count_params()), "trainable": trainable}
