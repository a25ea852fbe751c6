"""The adversary's generator: an encoder–decoder CNN from an image to a perturbation of unit size."""

import keras
import numpy as np
from keras import layers, ops

from voclab.errors import VoclabError
from voclab.models.backbones import PixelPreprocessing, build_backbone
from voclab.models.catalogue import BACKBONE, get_backbone
from voclab.models.segmenters import ResizeLike

MODES = ("image", "universal")
_TILE_GAIN = 100.0
GENERATOR = "generator"  # layer of an attack model that holds the generator


@keras.saving.register_keras_serializable("voclab")
class Within(keras.constraints.Constraint):
    """Keeps each value of a weight in [-bound, bound]."""

    def __init__(self, bound: float):
        self.bound = bound

    def __call__(self, weight):
        return ops.clip(weight, -self.bound, self.bound)

    def get_config(self):
        return {"bound": self.bound}


@keras.saving.register_keras_serializable("voclab")
class Tiles(layers.Layer):
    """Learnt patterns, mixed for each image and repeated over the image.

    Repeated rather than resized, so that their frequencies are the same for images of any size. They are kept
    as 1/100 of what is shown: one step of Adam at a rate that suits convolutions would hardly move them
    otherwise.

    Args:
        count: number of patterns.
        side: of a pattern, pixels.
        seed: of their start, uniform in [-0.5, 0.5]. They stay in [-2, 2], so that a mixture of patterns that
            disagree can still reach the bound.

    Shape: [(B, H, W, any), of which only the size is used, (B, count) shares] -> (B, H, W, 3) float32.
    """

    def __init__(self, count: int, side: int, seed: int = 0, **options):
        super().__init__(**options)
        self.count, self.side, self.seed = count, side, seed

    def build(self, input_shape):
        start = keras.initializers.RandomUniform(-0.5 / _TILE_GAIN, 0.5 / _TILE_GAIN, seed=self.seed)
        self.patterns = self.add_weight(
            shape=(self.count, self.side, self.side, 3),
            initializer=start,
            constraint=Within(2 / _TILE_GAIN),
            name="patterns",
        )

    def call(self, inputs):
        x, shares = inputs
        height, width = ops.shape(x)[1:3]
        flat = ops.reshape(self.patterns, (self.count, -1))
        mixed = ops.reshape(ops.matmul(shares, _TILE_GAIN * flat), (-1, self.side, self.side, 3))
        rows = ops.take(mixed, ops.arange(height) % self.side, axis=1)
        return ops.take(rows, ops.arange(width) % self.side, axis=2)

    def compute_output_shape(self, input_shape):
        return (*input_shape[0][:3], 3)

    def get_config(self):
        return {**super().get_config(), "count": self.count, "side": self.side, "seed": self.seed}


@keras.saving.register_keras_serializable("voclab")
class UnitBall(layers.Layer):
    """Bounds a perturbation to size 1 in L∞ by clipping.

    It passes back what would pull a value inwards, also where it is cut off, as projected gradient
    descent does. A tanh bounds as exactly, but attacks live at the bound, where it has no slope: training
    through one stood still within a hundred steps (docs/decisions.md).

    Shape: (B, H, W, 3) -> (B, H, W, 3) float32.
    """

    def call(self, x):
        return _projected(ops.cast(x, "float32"))


@ops.custom_gradient
def _projected(x):
    def gradient(*arguments, upstream=None):
        upstream = arguments[0] if upstream is None else upstream
        inward = ops.logical_or(ops.abs(x) <= 1.0, upstream * x > 0)  # a step goes against the gradient
        return ops.where(inward, upstream, 0.0)

    return ops.clip(x, -1.0, 1.0), gradient


@keras.saving.register_keras_serializable("voclab")
class Perturb(layers.Layer):
    """Adds epsilon times a perturbation of unit size and cuts at the pixels that exist.

    Shape: [(B, H, W, 3) images in [0, 1], (B, H, W, 3)] -> (B, H, W, 3) float32 in [0, 1].
    """

    def __init__(self, epsilon: float, **options):
        super().__init__(**options)
        self.epsilon = epsilon

    def call(self, inputs):
        images, unit = inputs
        return ops.clip(ops.cast(images, "float32") + self.epsilon * unit, 0.0, 1.0)

    def compute_output_shape(self, input_shape):
        return input_shape[0]

    def get_config(self):
        return {**super().get_config(), "epsilon": self.epsilon}


def build_generator(
    *,
    mode: str = "image",
    width: int = 32,
    blocks: int = 4,
    tile: int = 64,
    patterns: int = 8,
    backbone: str | None = None,
    weights: str | None = None,
    options: dict | None = None,
    seed: int = 0,
) -> keras.Model:
    """A generator of adversarial perturbations in one forward pass (Poursaeed et al. 2018).

    ``image``: two strided convolutions, residual blocks at a quarter of the resolution, two transposed
    convolutions back, as in the paper, with separable blocks, which are cheap on a CPU. Two things are added
    so that hundreds of updates are enough: the encoder also sees the deepest map of a frozen pretrained
    backbone, if there is one, and so knows what is in the image; and it mixes a few learnt :class:`Tiles`, to
    which the decoder's output is added. The mixture starts as the first of them, the universal perturbation.
    ``universal``: that pattern alone, one perturbation for all images.

    Args:
        mode: ``"image"`` or ``"universal"``.
        width: channels after the first convolution; twice as many follow.
        blocks: number of residual blocks.
        tile: side of a pattern, pixels.
        patterns: how many there are to mix.
        backbone: key of ``voclab.models.catalogue.BACKBONES`` for the frozen part of the encoder.
        weights: of the backbone, see :func:`voclab.models.backbones.build_backbone`.
        options: further arguments of the backbone's builder.
        seed: of the patterns; the other weights follow Keras' global seed.

    Returns:
        ``keras.Model``: (B, H, W, 3) float32 in [0, 1] -> (B, H, W, 3) float32 in [-1, 1]; H and W are
        multiples of 4, and at least 32 with a backbone.
    """
    if mode not in MODES:
        raise VoclabError(f"There is no mode {mode!r}; choose one of {', '.join(MODES)}.")
    inputs = keras.Input((None, None, 3), name="pixels")
    if mode == "universal":
        total = Tiles(1, tile, seed, name="tiles", dtype="float32")([inputs, _one(inputs)])
    else:
        frozen = (backbone, weights, options or {})
        total = image_dependent(inputs, width, blocks, patterns, tile, seed, frozen)
    outputs = UnitBall(name="unit", dtype="float32")(total)
    return keras.Model(inputs, outputs, name=GENERATOR)


def image_dependent(inputs, width: int, blocks: int, patterns: int, tile: int, seed: int, frozen: tuple):
    """Encoder, residual blocks, decoder; plus a mixture of patterns that the encoder chooses."""
    x, seen = encoder(inputs, width, frozen)
    shares = layers.Dense(patterns, activation="softmax", name="shares", dtype="float32")(pooled(seen))
    mixture = Tiles(patterns, tile, seed, name="tiles", dtype="float32")([inputs, shares])
    for k in range(1, blocks + 1):
        x = _residual(x, 2 * width, f"block{k}")
    return layers.Add(name="total", dtype="float32")([decoder(x, width), mixture])


def encoder(inputs, width: int, frozen: tuple):
    """(B, H/4, W/4, 2 width) features of the pixels, and the map that the patterns are chosen by."""
    x = PixelPreprocessing("tf", name="preprocessing")(inputs)
    x = layers.Conv2D(width, 5, 2, "same", activation="relu", name="down1")(x)
    x = layers.Conv2D(2 * width, 3, 2, "same", activation="relu", name="down2")(x)
    backbone, weights, options = frozen
    if not backbone:
        return x, x
    seen = _pretrained(inputs, backbone, weights, options)
    known = layers.Conv2D(2 * width, 1, name="known")(seen)
    return layers.Add(name="informed")([x, ResizeLike(name="known_everywhere")([known, x])]), seen


def decoder(x, width: int):
    """(B, H, W, 3) from a quarter of the resolution; zero before training."""
    x = layers.Conv2DTranspose(width, 4, 2, "same", activation="relu", name="up1")(x)
    last = {"kernel_initializer": "zeros", "name": "up2", "dtype": "float32"}
    return layers.Conv2DTranspose(3, 4, 2, "same", **last)(x)


def pooled(x):
    """(B, C) means of a map, standardised: so different images mix differently from the start."""
    x = layers.GlobalAveragePooling2D(name="whole", dtype="float32")(x)
    options = {"center": False, "scale": False, "name": "standardised", "dtype": "float32"}
    return layers.BatchNormalization(momentum=0.9, **options)(x)


def _one(inputs):
    """(B, 1) shares of the only pattern there is."""
    return layers.GlobalAveragePooling2D(name="whole", dtype="float32")(ops.ones_like(inputs[..., :1]))


def start_from_universal(generator: keras.Model, universal: keras.Model) -> None:
    """Let every pattern of an image-dependent generator start near the one of a universal generator."""
    tiles = generator.get_layer("tiles")
    (patterns,), (first,) = tiles.get_weights(), universal.get_layer("tiles").get_weights()
    tiles.set_weights([np.clip(first + 0.2 * patterns, -2 / _TILE_GAIN, 2 / _TILE_GAIN)])


def _pretrained(inputs, backbone: str, weights: str | None, options: dict):
    """The deepest map of a frozen backbone."""
    network = build_backbone(backbone, weights, **options)
    network.trainable = False
    network.name = BACKBONE
    x = PixelPreprocessing(get_backbone(backbone).mode, name="backbone_preprocessing")(inputs)
    return network(x, training=False)


def _residual(x, channels: int, name: str):
    y = layers.DepthwiseConv2D(5, padding="same", name=f"{name}_depthwise")(x)
    y = layers.Conv2D(channels, 1, activation="relu", name=f"{name}_1")(y)
    y = layers.Conv2D(channels, 1, name=f"{name}_2")(y)
    return layers.Add(name=f"{name}_add")([x, y])


def attack_model(generator: keras.Model, epsilon: float) -> keras.Model:
    """The generator with its bound, as it is trained.

    Returns:
        ``keras.Model``: images (B, H, W, 3) -> {"perturbed": images, "perturbation": their difference}.
    """
    inputs = keras.Input((None, None, 3), name="images")
    perturbed = Perturb(epsilon, name="perturbed", dtype="float32")([inputs, generator(inputs)])
    difference = layers.Subtract(name="perturbation", dtype="float32")([perturbed, inputs])
    return keras.Model(inputs, {"perturbed": perturbed, "perturbation": difference}, name="attack")
