"""The adversary's generator: from an image, and what is wanted of it, to a perturbation of unit size."""

from collections.abc import Callable, Sequence
from functools import cached_property

import keras
import numpy as np
from keras import layers, ops

from voclab.backend import compiled, pulled_back
from voclab.models.catalogue import BACKBONE
from voclab.models.encoders import maps_of, skip_tensors
from voclab.models.segmenters import ENCODER, ResizeLike, conv_norm_relu

GOALS = ("untargeted", "appear", "vanish")
BOUNDS = (1.0, 16.0)  # steps of 1/255 between which a generator is told its bound
_LARGEST = 8.0  # of a direction, in units of its mean size
_FINEST = 4  # stride of the finest map that a decoder proposes changes of
_GAIN = "last_gain"
_PROPOSED = 0.1  # mean size of proposed changes: in the middle of what half precision holds


def condition(epsilon, victims, goal, class_index, classes: int):
    """What is wanted, as the generator takes it.

    Args:
        epsilon: (B,) float32, bounds in steps of 1/255. Beyond :data:`BOUNDS` the nearest of them is told.
        victims: (B, K) float32, 1 for each network that shall be fooled.
        goal: (B,) indices of :data:`GOALS`.
        class_index: (B,) the class of a goal that has one, an index of the class names.
        classes: how many class names there are.

    Returns:
        (B, K + 3 + classes) float32 tensor.
    """
    epsilon = ops.clip(ops.cast(epsilon, "float32"), *BOUNDS)
    bound = ops.log(epsilon)[:, None] / float(np.log(BOUNDS[1]))
    goal = ops.cast(goal, "int32")
    aimed = ops.one_hot(goal, len(GOALS))[:, 1:]
    of_class = ops.one_hot(ops.cast(class_index, "int32"), classes) * ops.sum(aimed, axis=1, keepdims=True)
    return ops.concatenate([bound, ops.cast(victims, "float32"), aimed, of_class], axis=1)


@keras.saving.register_keras_serializable("voclab")
class Generator(keras.Model):
    """A generator of adversarial perturbations that sees what its victims see, in one pass.

    After Poursaeed et al. 2018, with the victims' own frozen encoders in the place of one that is learnt. A
    small U-Net decoder on an encoder's maps proposes, at each stride, how these maps should change. Which
    pixels change them so is the business of the transposed encoder: its kernels transposed, times the slopes
    of the activations that this image causes: one backward pass (Simonyan et al. 2014). Nothing of it is
    learnt. A few convolutions turn that direction, and the pixels, into the perturbation. How large it may
    be, whom it shall fool and what for scales and shifts the decoder's channels (Perez et al. 2018).

    Args:
        encoders: one for each victim that has its own: pixels (B, H, W, 3) in [0, 1] -> maps, finest first;
            see :func:`encoder_of`. They stay as they are.
        victims: names of the networks that it can be asked to fool.
        classes: how many class names there are.
        width: channels of a decoder at its coarsest.

    Shape: [(B, H, W, 3) float32 in [0, 1], (B, len(victims) + 3 + classes) of :func:`condition`] ->
    (B, H, W, 3) float32 in [-1, 1].
    """

    def __init__(
        self, encoders: Sequence[keras.Model], victims: Sequence[str], classes: int, width: int = 128,
        **options,
    ):  # fmt: skip
        super().__init__(autocast=False, **options)  # half precision is too coarse for pixels
        self.victims, self.classes, self.width = tuple(victims), classes, width
        self.encoders = list(encoders)
        for encoder in self.encoders:
            encoder.trainable = False
        size = len(self.victims) + len(GOALS) + classes
        self.decoders = [
            decoder_for([x.shape[-1] for x in encoder.outputs], _strides(encoder), size, width, f"decoder{k}")
            for k, encoder in enumerate(self.encoders)
        ]
        channels = [decoder.outputs[-1].shape[-1] for decoder in self.decoders]
        self.last = _last(channels, size)
        self.built = True

    def grow(self, factor: float) -> None:
        """Multiply what comes out by a factor, before it is cut off at 1."""
        self.last.get_layer(_GAIN).bias.assign_add([np.log(factor)])

    @property
    def learnt(self) -> list[keras.Model]:
        """All parts but the encoders."""
        return [*self.decoders, self.last]

    def build(self, input_shape):
        """Everything was made with the layers."""

    def call(self, inputs, training=False):
        pixels, wanted = inputs
        pixels, directions, finest = ops.cast(pixels, "float32"), [], []
        for encoder, decoder in zip(self.encoders, self.decoders, strict=True):
            seen = []

            def proposed(maps, decoder=decoder, seen=seen):
                used = maps[1 - len(decoder.inputs) :]
                *changes, last = decoder([*used, wanted], training=training)
                seen.append(last)
                # The direction is scaled below, so only their proportions matter.
                size = sum(ops.mean(ops.abs(x), axis=(1, 2, 3), keepdims=True) for x in changes)
                changes = [x * (_PROPOSED / (size + 1e-20)) for x in changes]
                return [None] * (len(maps) - len(changes)) + changes

            direction = pulled_back(lambda x, encoder=encoder: encoder(x, training=False), pixels, proposed)
            size = ops.mean(ops.abs(direction), axis=(1, 2, 3), keepdims=True)
            directions.append(ops.clip(direction / (size + 1e-20), -_LARGEST, _LARGEST))
            finest += seen
        return self.last([pixels, *directions, *finest, wanted], training=training)

    @cached_property
    def in_use(self) -> Callable[..., np.ndarray]:
        """:func:`voclab.backend.compiled`: arrays of pixels and condition -> array. All attacks share it."""
        return compiled(self, told=len(self.victims) + len(GOALS) + self.classes)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape[0])

    def get_config(self):
        return {
            **super().get_config(),
            "encoders": [keras.saving.serialize_keras_object(encoder) for encoder in self.encoders],
            "victims": list(self.victims),
            "classes": self.classes,
            "width": self.width,
        }

    @classmethod
    def from_config(cls, config):
        encoders = [keras.saving.deserialize_keras_object(encoder) for encoder in config["encoders"]]
        return cls(**{**config, "encoders": encoders})


def build_generator(networks: Sequence, classes: int, *, width: int = 128, kind: type = Generator):
    """A :class:`Generator` (or ``kind`` of it) against networks, with copies of their encoders.

    Args:
        networks: :class:`voclab.models.network.Network`, one or more.
        classes: how many class names there are.
        width: channels of a decoder at its coarsest.
        kind: :class:`Generator`, or a class derived from it.
    """
    encoders: list[keras.Model] = []
    for network in networks:
        encoder = encoder_of(network.model)
        if not any(_same(encoder, other) for other in encoders):
            encoders.append(encoder)
    return kind(encoders, [network.name for network in networks], classes, width, name="generator")


def encoder_of(model: keras.Model) -> keras.Model:
    """A frozen copy of what a network sees an image with: pixels -> its last map at each stride above 1.

    It is the pretrained part, where there is one; else all that comes before the deepest map, and this. A
    network that never shrinks the image has its last map only.

    Args:
        model: a network of pixels.
    """
    inner = next((layer for layer in model.layers if layer.name in (ENCODER, BACKBONE)), None)
    if inner is None:
        maps = maps_of(model)
        maps = maps_of(keras.Model(model.inputs, maps[max(maps)]))  # without what comes after: the answer
        found = keras.Model(model.inputs, [maps[s] for s in sorted(maps) if s > 1 or len(maps) == 1])
    else:
        maps = inner.outputs if len(inner.outputs) > 1 else list(skip_tensors(inner).values())
        inputs = inner._inbound_nodes[-1].input_tensors  # of the last call: the one in this model
        found = keras.Model(model.inputs, keras.Model(inner.inputs, maps, name=ENCODER)(inputs[0]))
    copy = keras.models.clone_model(found)
    copy.set_weights(found.get_weights())
    copy.trainable = False
    return copy


def _same(a: keras.Model, b: keras.Model) -> bool:
    if _strides(a) != _strides(b):  # one of them dilated
        return False
    mine, others = a.get_weights(), b.get_weights()
    return len(mine) == len(others) and all(np.array_equal(x, y) for x, y in zip(mine, others, strict=True))


def _strides(encoder: keras.Model) -> list[int]:
    """Of its outputs, from the shapes that they have for an image of 256 px."""
    maps = encoder.compute_output_spec(keras.KerasTensor((1, 256, 256, 3)))
    return [256 // x.shape[1] for x in (maps if isinstance(maps, list | tuple) else [maps])]


def decoder_for(
    channels: list[int], strides: list[int], condition: int, width: int, name: str
) -> keras.Model:
    """[maps at stride 4 and more…, finest first, condition] -> [their changes…, finest first, map]."""
    maps = [layers.Input((None, None, c), name=f"{name}_map{s}") for c, s in zip(channels, strides)]
    wanted = layers.Input((condition,), name=f"{name}_condition")
    told = layers.Dense(64, activation="relu", name=f"{name}_told")(wanted)
    deepest = maps[-1]
    pools = layers.GlobalAveragePooling2D(keepdims=True), layers.GlobalMaxPooling2D(keepdims=True)
    whole = layers.Concatenate(name=f"{name}_whole")([pool(deepest) for pool in pools])
    whole = layers.Dense(width, activation="relu", name=f"{name}_whole_1")(whole)
    x = conv_norm_relu(deepest, width, kernel=1, name=f"{name}_bottleneck")
    x = layers.Add(name=f"{name}_context")([x, layers.Dense(width, name=f"{name}_whole_2")(whole)])
    changes, first = [], next((k for k, s in enumerate(strides) if s >= _FINEST), len(maps) - 1)
    for step, k in enumerate(reversed(range(first, len(maps)))):
        at = f"{name}_{strides[k]}"
        if step:
            narrow = max(width // 4, width * 3 // (3 + step))
            x = ResizeLike(name=f"{at}_up")([layers.Conv2D(narrow, 1, name=f"{at}_narrow")(x), maps[k]])
        x = scaled_and_shifted(x, told, f"{at}_told")
        for n in range(1 if step else 2):
            x = gated_block(x, maps[k], f"{at}_{n}")
        active = layers.Activation("relu", name=f"{at}_relu")(x)
        small = keras.initializers.RandomNormal(stddev=0.01)
        # Float32, as all that a gradient is computed from.
        changes.append(
            layers.Conv2D(channels[k], 1, kernel_initializer=small, name=f"{at}_change", dtype="float32")(
                active
            )
        )
    return keras.Model([*maps[first:], wanted], [*changes[::-1], x], name=name)


def gated_block(x, seen, name: str):
    """A residual block whose channels are multiplied by gates that the encoder's map opens.

    A backward pass multiplies by the slopes of the activations that the image causes; products are what
    a decoder needs to follow it.
    """
    channels = x.shape[-1]
    gates = layers.Conv2D(channels, 1, activation="sigmoid", name=f"{name}_gates")(seen)
    y = layers.Activation("relu", name=f"{name}_relu")(x)
    y = layers.SeparableConv2D(channels, 3, padding="same", name=f"{name}_conv1")(y)
    y = layers.Multiply(name=f"{name}_gated")([y, gates])
    y = layers.BatchNormalization(momentum=0.9, name=f"{name}_bn1")(y)
    y = layers.SeparableConv2D(channels, 3, padding="same", name=f"{name}_conv2")(y)
    y = layers.BatchNormalization(momentum=0.9, name=f"{name}_bn2")(y)
    return layers.Add(name=f"{name}_add")([x, y])


def scaled_and_shifted(x, told, name: str):
    """Each channel of (B, h, w, C) times a number, plus another, that (B, D) decides (Perez et al. 2018)."""
    channels = x.shape[-1]
    small = keras.initializers.RandomNormal(stddev=0.02)
    both = layers.Dense(2 * channels, kernel_initializer=small, name=name)(told)
    both = layers.Reshape((1, 1, 2 * channels), name=f"{name}_map")(both)
    return x * (1 + both[..., :channels]) + both[..., channels:]


def _last(channels: list[int], condition: int, width: int = 12) -> keras.Model:
    """[pixels, a direction for each encoder…, its decoder's finest map…, condition] -> unit perturbation."""
    pixels = layers.Input((None, None, 3), name="last_pixels")
    directions = [layers.Input((None, None, 3), name=f"last_direction{k}") for k in range(len(channels))]
    maps = [layers.Input((None, None, c), name=f"last_map{k}") for k, c in enumerate(channels)]
    wanted = layers.Input((condition,), name="last_condition")
    told = layers.Dense(64, activation="relu", name="last_told")(wanted)
    known = [layers.Conv2D(width, 1, name=f"last_known{k}")(x) for k, x in enumerate(maps)]
    known = [ResizeLike(name=f"last_up{k}")([x, pixels]) for k, x in enumerate(known)]
    x = known[0] if len(known) == 1 else layers.Add(name="last_all")(known)
    x = scaled_and_shifted(x, told, "last_film")
    x = layers.Concatenate(name="last_in")([x, pixels, *directions])
    x = layers.Conv2D(width, 3, padding="same", activation="relu", name="last_conv1")(x)
    x = layers.DepthwiseConv2D(5, padding="same", activation="relu", name="last_conv2")(x)
    x = layers.Conv2D(width, 1, activation="relu", name="last_conv3")(x)
    x = layers.Concatenate(name="last_out")([x, *directions])
    options = {"padding": "same", "kernel_initializer": "zeros", "dtype": "float32"}
    x = layers.Conv2D(3, 3, name="last_conv4", **options)(x)
    total = layers.Add(name="total", dtype="float32")([x, *directions])
    # A small bound is best filled to the brim, of a large one less is enough: the condition decides.
    options = {"kernel_initializer": "zeros", "dtype": "float32"}
    gain = layers.Dense(1, activation="exponential", name=_GAIN, **options)(told)
    gain = layers.Reshape((1, 1, 1), dtype="float32")(gain)
    total = layers.Multiply(name="scaled", dtype="float32")([total, gain])
    return keras.Model(
        [pixels, *directions, *maps, wanted], UnitBall(name="unit", dtype="float32")(total), name="last"
    )


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


def perturbed(images, unit, epsilon):
    """Images plus epsilon times a unit perturbation, within the pixels that exist.

    Args:
        images: (B, H, W, 3) float32 in [0, 1].
        unit: (B, H, W, 3) in [-1, 1].
        epsilon: (B,) or a number, in [0, 1].
    """
    epsilon = ops.reshape(ops.cast(epsilon, "float32"), (-1, 1, 1, 1))
    return ops.clip(ops.cast(images, "float32") + epsilon * unit, 0.0, 1.0)
