"""The network that is trained from scratch: a small residual CNN."""

import keras
from keras import layers


def build_cnn(include_top: bool = False, weights=None, input_shape=(None, None, 3), width: int = 32):
    """A small residual network of basic blocks (He et al. 2016), one a stage.

    A strided stem, then four stages of ``width`` × (1, 2, 4, 8) channels; the first stage keeps the
    stem's resolution, each later one halves it: the feature map is 1/16 of the input.

    Args:
        include_top: only ``False``; there for the call shape of ``keras.applications``.
        weights: only ``None``; a file is loaded by the caller.
        input_shape: (H, W, 3), sides may be ``None``.
        width: channels of the first stage.

    Returns:
        ``keras.Model`` (batch, H, W, 3) in [-1, 1] -> (batch, H/16, W/16, 8 × width).
    """
    if include_top or weights is not None:
        raise ValueError("build_cnn gives the network without top and with random weights")
    inputs = keras.Input(input_shape)
    x = conv_bn(inputs, width, strides=2, name="stem")
    x = layers.Activation("relu", name="stem_relu")(x)
    for stage in range(4):
        x = residual(x, width * 2**stage, 2 if stage > 0 else 1, f"stage{stage + 1}")
    return keras.Model(inputs, x, name="cnn")


def conv_bn(x, filters: int, *, strides: int = 1, kernel: int = 3, name: str):
    """A convolution without bias and its batch norm, layers ``<name>_conv`` and ``<name>_bn``."""
    x = layers.Conv2D(
        filters, kernel, strides, "same", use_bias=False, kernel_initializer="he_normal", name=f"{name}_conv"
    )(x)
    return layers.BatchNormalization(momentum=0.9, name=f"{name}_bn")(x)


def residual(x, filters: int, strides: int, name: str):
    """A basic block with the activation after the sum; 1 × 1 convolution where the shape changes."""
    shortcut = x
    if strides > 1 or x.shape[-1] != filters:
        shortcut = conv_bn(x, filters, strides=strides, kernel=1, name=f"{name}_shortcut")
    x = layers.Activation("relu", name=f"{name}_relu1")(
        conv_bn(x, filters, strides=strides, name=f"{name}_1")
    )
    x = conv_bn(x, filters, name=f"{name}_2")
    return layers.Activation("relu", name=f"{name}_out")(layers.Add(name=f"{name}_add")([x, shortcut]))
