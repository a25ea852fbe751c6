"""Backbones by name: what a network expects of its pixels, and where its weights come from."""

import os
import re
import warnings
from functools import partial
from pathlib import Path

import keras

from voclab.errors import VoclabError, first_line
from voclab.models.catalogue import (
    APPLICATIONS,
    BACKBONES,
    IMAGENET_CLASSIFIERS,
    LITE,
    get_backbone,
    require_weights,
)

WEIGHTS_HOST = "https://storage.googleapis.com"  # where keras.applications downloads from
_IMAGENET_BGR_MEAN = (103.939, 116.779, 123.68)
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)


@keras.saving.register_keras_serializable("voclab")
class PixelPreprocessing(keras.layers.Layer):
    """RGB in [0, 1] to what a published network was trained on, so that every model takes pixels.

    Modes (``keras.applications.imagenet_utils``): ``"tf"`` scales to [-1, 1]; ``"caffe"`` turns
    RGB into BGR in [0, 255] less the ImageNet mean; ``"torch"`` standardises by ImageNet's mean
    and deviation; ``"raw"`` scales to [0, 255] for networks that normalise inside; ``"lite"`` is that of
    EfficientNet-Lite, (255 x - 127) / 128.

    Shape: (batch, H, W, 3) in and out.
    """

    def __init__(self, mode: str, **kwargs):
        super().__init__(**kwargs)
        if mode not in ("tf", "caffe", "torch", "raw", "lite"):
            raise ValueError(f"preprocessing mode {mode!r} is not one of tf, caffe, torch, raw, lite")
        self.mode = mode

    def call(self, inputs):
        ops = keras.ops
        if self.mode == "tf":
            return inputs * 2.0 - 1.0
        if self.mode == "raw":
            return inputs * 255.0
        if self.mode == "lite":
            return (inputs * 255.0 - 127.0) / 128.0
        if self.mode == "caffe":
            mean = ops.convert_to_tensor(_IMAGENET_BGR_MEAN, dtype=inputs.dtype)
            return ops.flip(inputs, axis=-1) * 255.0 - mean
        mean = ops.convert_to_tensor(_IMAGENET_MEAN, dtype=inputs.dtype)
        std = ops.convert_to_tensor(_IMAGENET_STD, dtype=inputs.dtype)
        return (inputs - mean) / std

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "mode": self.mode}


@keras.saving.register_keras_serializable("voclab")
class ResizePixels(keras.layers.Layer):
    """Images of any size to a square, bilinear; nothing is averaged where that shrinks them.

    Not ``keras.layers.Resizing``, whose own default of ``training=True`` spreads to the batch norm behind it
    whenever a model is called without saying whether it trains (Keras 3.15).

    Args:
        side: of the square, pixels.

    Shape: (batch, H, W, 3) -> (batch, side, side, 3).
    """

    def __init__(self, side: int, **kwargs):
        super().__init__(**kwargs)
        self.side = side

    def call(self, inputs):
        return keras.ops.image.resize(inputs, (self.side, self.side))

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.side, self.side, input_shape[3])

    def get_config(self):
        return {**super().get_config(), "side": self.side}


def imagenet_available(name: str, timeout: float = 4.0, top: bool = False) -> bool:
    """Whether ImageNet weights of this backbone are installed or cached, or can probably be downloaded.

    Their host is only asked whether it answers; nothing is downloaded here. ``top``: those with the last
    layers, which tell the 1000 classes apart.
    """
    get_backbone(name)
    if name in LITE:
        return LITE[name].path is not None
    if name not in IMAGENET_CLASSIFIERS:
        return False
    return _cached(name, top) or _answers(WEIGHTS_HOST, timeout)


def _answers(address: str, timeout: float) -> bool:
    import requests

    try:
        requests.head(address, timeout=timeout)
    except requests.RequestException:
        return False
    return True


def keras_cache() -> Path:
    """The folder in which Keras keeps what it downloads for its applications."""
    return Path(os.environ.get("KERAS_HOME", Path.home() / ".keras")) / "models"


def _cached(name: str, top: bool = False) -> bool:
    """Whether Keras' cache has the ImageNet weights with or without top, e.g. ``efficientnetv2-b0_notop.h5``.

    Those of MobileNet (2017) are named by alpha and size, ``mobilenet_1_0_224_tf_no_top.h5``.
    """
    ours = re.compile(APPLICATIONS[name][0].lower() + r"(weights|notop|\.h5|\d+tf)")
    files = [file.name.lower().replace("_", "").replace("-", "") for file in keras_cache().glob("*.h5")]
    return any(ours.match(file) and ("notop" in file) != top for file in files)


def build_backbone(name: str, weights: str | None, **options) -> keras.Model:
    """A backbone that maps preprocessed pixels to a feature map, at any input size from its smallest on.

    Args:
        name: key of ``voclab.models.catalogue.BACKBONES``.
        weights: ``None`` (random), ``"imagenet"`` or the path of a weights file.
        options: further arguments of the builder (``alpha``, ``width``, …).

    Raises:
        VoclabError: weights that cannot be had or that do not fit.
    """
    require_weights(name, weights)
    return with_weights(name, weights, top=False, input_shape=(None, None, 3), **options)


def with_weights(name: str, weights: str | Path | None, *, top: bool, **options) -> keras.Model:
    """A network of the catalogue with or without its top, and with weights as for :func:`build_backbone`."""
    build = partial(BACKBONES[name].build, include_top=top, **options)
    if weights is None or (weights == "imagenet" and name in LITE):  # which names the package that it lacks
        return build(weights=weights)
    if weights == "imagenet":
        if not imagenet_available(name, top=top):
            raise VoclabError(
                f"ImageNet weights for {name!r} are neither cached nor reachable; connect to the internet or"
                f" name a weights file{f' with its top, {name}=FILE' if top else ''}."
            )
        try:
            return build(weights="imagenet")
        except Exception as error:  # the download raises plain Exception
            raise VoclabError(
                f"ImageNet weights for {name!r} could not be downloaded ({first_line(error)}); try again, or"
                f" name a weights file{f' with its top, {name}=FILE' if top else ''}."
            ) from error
    try:
        model = build(weights=None)
        with warnings.catch_warnings():
            # Keras only warns of layers that stay random because the file lacks them.
            warnings.filterwarnings("error", message="Skipping nested container")
            model.load_weights(str(weights))
    except Exception as error:  # Keras and h5py raise many types for a file or a width that does not fit
        reason = "it lacks layers" if isinstance(error, UserWarning) else first_line(error)
        width = f" of width {options['alpha']:g}" if top and "alpha" in options else ""
        kind = f"{name!r}{width} with its top" if top else f"backbone {name!r} without its top"
        raise VoclabError(
            f"Weights file {weights} does not fit {kind} ({reason}); name the file made for it."
        ) from error
    return model
