"""Classifiers in pixel space: a backbone, pooled features, one linear head."""

import math
from collections.abc import Sequence

import keras
import numpy as np
from keras import layers

from voclab.backend import finite
from voclab.models.backbones import PixelPreprocessing, ResizePixels, build_backbone
from voclab.models.catalogue import BACKBONE, get_backbone

FEATURES = "features"  # layer whose output is the last feature map: what Grad-CAM looks at
FINER = f"{FEATURES}_at_stride_"  # begins the names of layers that hold finer maps, if a head sees them
POOLED = "pooled"  # layer whose output is the vector that the linear head sees
_POOLS = {"average": layers.GlobalAveragePooling2D, "maximum": layers.GlobalMaxPooling2D}


def build_classifier(
    backbone: str,
    classes: int,
    *,
    weights: str | None = None,
    dropout: float = 0.2,
    options: dict | None = None,
    resize: int | None = None,
    pooling: Sequence[str] = tuple(_POOLS),
) -> keras.Model:
    """A classifier of RGB pixels in [0, 1], of any size that its backbone takes, that returns logits.

    The feature map is pooled by average and by maximum, both concatenated: the average says how
    much of a class there is, the maximum finds the small object. A network with pretrained weights
    keeps its batch norm in inference mode for good, since a small data set would ruin its
    statistics.

    Args:
        backbone: key of ``voclab.models.catalogue.BACKBONES``.
        classes: number of logits.
        weights: ``None`` (random), ``"imagenet"`` or a file; see :func:`build_backbone`.
        dropout: share of the pooled features dropped while training.
        options: further arguments of the backbone's builder.
        resize: side in pixels of the square that images are resized to first, bilinear; meant for
            enlarging, since nothing is averaged where it shrinks. ``None`` leaves them as they are.
        pooling: ``"average"``, ``"maximum"`` or both, in the order of the concatenation.

    Returns:
        ``keras.Model``: (batch, H, W, 3) float32 -> (batch, classes) float32 logits.
    """
    mode = get_backbone(backbone).mode
    network = build_backbone(backbone, weights, **(options or {}))
    network.name = BACKBONE
    if weights is not None:
        freeze_batch_norm(network)
    inputs = keras.Input((None, None, 3), name="pixels")
    x = inputs
    if resize is not None:
        x = ResizePixels(resize, name="resize", dtype="float32")(x)
    x = PixelPreprocessing(mode, name="preprocessing")(x)
    x = network(x, training=False) if weights is not None else network(x)
    x = layers.Activation("linear", name=FEATURES)(x)
    pooled = [_POOLS[kind](name=kind, dtype="float32")(x) for kind in pooling]
    x = layers.Concatenate(name=POOLED, dtype="float32")(pooled)
    x = layers.Dropout(dropout, name="dropout", dtype="float32")(x)
    outputs = layers.Dense(classes, name="logits", dtype="float32")(x)
    return keras.Model(inputs, outputs, name=f"{backbone}_classifier")


def start_from_prior(model: keras.Model, labels: np.ndarray) -> None:
    """Let an untrained classifier answer with the class frequencies, whatever it sees.

    Otherwise the first epochs are spent on learning that most classes are absent from most images
    (Lin et al. 2017, section 4.1, for the same reason).

    Args:
        model: from :func:`build_classifier`; its head is replaced.
        labels: (n, classes), 0 or 1, of the training images.
    """
    head = model.get_layer("logits")
    kernel, _ = head.get_weights()
    frequency = np.clip(np.asarray(labels).mean(0), 1e-3, 1 - 1e-3)
    head.set_weights([np.zeros_like(kernel), np.log(frequency / (1 - frequency))])


def freeze_batch_norm(network: keras.Model) -> None:
    """Keep the scale and shift of every batch norm as they were pretrained."""
    for layer in network.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.trainable = False


def feature_extractor(model: keras.Model) -> keras.Model:
    """The part of a classifier up to the pooled features: pixels -> (batch, features) float32."""
    return keras.Model(model.inputs, model.get_layer(POOLED).output, name="feature_extractor")


def predict(model: keras.Model, pixels: np.ndarray, batch_size: int, name: str | None = None) -> np.ndarray:
    """One step of inference on at most ``batch_size`` images.

    Fewer are padded and cut again: a graph is traced for each shape, which takes longer than the
    images themselves.

    Args:
        model: any model of pixels.
        pixels: (n ≤ batch_size, H, W, 3) float32 in [0, 1].
        batch_size: images a step.
        name: what people call the model; without one, its own.

    Returns:
        (n, …) float32.

    Raises:
        VoclabError: the model answers NaN or infinity.
    """
    n = len(pixels)
    if n > batch_size:
        raise ValueError(f"{n} images do not fit a batch of {batch_size}")
    if n < batch_size:
        pixels = np.concatenate([pixels, np.zeros((batch_size - n, *pixels.shape[1:]), pixels.dtype)])
    return finite(np.asarray(model.predict_on_batch(pixels), np.float32)[:n], name or model.name)


def count_parameters(model: keras.Model) -> dict[str, int]:
    """``{"total": …, "trainable": …}``."""
    trainable = sum(math.prod(w.shape) for w in model.trainable_weights)
    return {"total": int(model.count_params()), "trainable": trainable}
