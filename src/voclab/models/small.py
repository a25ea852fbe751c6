"""Networks with random weights: for small images such as CIFAR-10's, and one for images."""

import keras
from keras import layers


def build_network(
    name: str, kind: str, include_top: bool = False, weights=None, input_shape=(None, None, 3), **options
):
    """A network of :data:`voclab.models.catalogue.SMALL` without top, called as ``keras.applications`` are.

    Args:
        name: of the model.
        kind: one of the functions below.
        include_top: only ``False``.
        weights: only ``None``; a file is loaded by the caller.
        input_shape: (H, W, 3), sides may be ``None``.
        options: of the function, such as ``width``.

    Returns:
        ``keras.Model`` (batch, H, W, 3) in [-1, 1] -> (batch, H / stride, W / stride, channels), at
        any size.
    """
    if include_top or weights is not None:
        raise ValueError("build_network gives the network without top and with random weights")
    inputs = keras.Input(input_shape)
    return keras.Model(inputs, _KINDS[kind](inputs, **options), name=name)


def strided(x, width: int):
    """A small residual network of basic blocks (He et al. 2016), one a stage, for images.

    A strided stem, then four stages of ``width`` × (1, 2, 4, 8) channels; the first stage keeps the
    stem's resolution, each later one halves it: the feature map is 1/16 of the input.
    """
    x = layers.Activation("relu", name="stem_relu")(conv_bn(x, width, strides=2, name="stem"))
    for stage in range(4):
        x = residual(x, width * 2**stage, 2 if stage > 0 else 1, f"stage{stage + 1}")
    return x


def plain(x, width: int):
    """What a first attempt looks like: three convolutions of ``width`` × (1, 2, 4) channels, no batch norm.

    Pooling lies between them, so the feature map is 1/4 of the input.
    """
    for stage in range(3):
        if stage:
            x = layers.MaxPooling2D(2, padding="same", name=f"pool{stage}")(x)
        x = layers.Conv2D(
            width * 2**stage, 3, padding="same", kernel_initializer="he_normal", name=f"conv{stage + 1}"
        )(x)
        x = layers.Activation("relu", name=f"relu{stage + 1}")(x)
    return x


def resnet(x, blocks: tuple[int, ...], width: int):
    """ResNet with the activation after the sum (He et al. 2016, CVPR), not the later pre-activation.

    The stem is one 3 × 3 convolution of stride 1 without pooling, as in their section 4.2 on CIFAR-10. Where
    the shape changes, the shortcut is a 1 × 1 convolution (their option B), also in the 6n + 2 layers of that
    section, which have a shortcut without parameters there.

    Args:
        x: (batch, H, W, 3).
        blocks: basic blocks a stage; each stage after the first halves the resolution.
        width: channels of the first stage; each later one doubles them.
    """
    x = layers.Activation("relu", name="stem_relu")(conv_bn(x, width, name="stem"))
    for stage, count in enumerate(blocks):
        for block in range(count):
            strides = 2 if stage > 0 and block == 0 else 1
            x = residual(x, width * 2**stage, strides, f"stage{stage + 1}_block{block + 1}")
    return x


def vgg(x, width: int):
    """VGG with 11 layers (configuration A of Simonyan & Zisserman 2015), batch norm after each convolution.

    Eight convolutions of ``width`` × (1, 2, 4, 4, 8, 8, 8, 8) channels. The last pooling and the three dense
    layers are left to the head, so the feature map is 1/16 of the input.
    """
    for stage, (factor, count) in enumerate(((1, 1), (2, 1), (4, 2), (8, 2), (8, 2)), start=1):
        if stage > 1:
            x = layers.MaxPooling2D(2, padding="same", name=f"pool{stage - 1}")(x)
        for k in range(1, count + 1):
            x = conv_bn(x, width * factor, name=f"stage{stage}_{k}")
            x = layers.Activation("relu", name=f"stage{stage}_{k}_relu")(x)
    return x


def densenet(x, width: int, depth: int):
    """DenseNet-BC (Huang et al. 2017): bottlenecks of 4 × ``width`` channels, compression 0.5.

    Three dense blocks; the feature map is 1/4 of the input.

    Args:
        x: (batch, H, W, 3).
        width: the growth rate k: channels that each layer adds.
        depth: layers, the head included; 6n + 4.
    """
    layers_a_block, rest = divmod(depth - 4, 6)
    if rest or layers_a_block < 1:
        raise ValueError(f"depth is {depth}, expected 6n + 4")
    x = _conv(x, 2 * width, 3, "stem")
    for block in range(1, 4):
        if block > 1:
            x = _bn_relu_conv(x, x.shape[-1] // 2, 1, f"transition{block - 1}")
            x = layers.AveragePooling2D(2, padding="same", name=f"transition{block - 1}_pool")(x)
        for k in range(1, layers_a_block + 1):
            name = f"block{block}_layer{k}"
            new = _bn_relu_conv(x, 4 * width, 1, f"{name}_1")
            new = _bn_relu_conv(new, width, 3, f"{name}_2")
            x = layers.Concatenate(name=f"{name}_join")([x, new])
    return _bn_relu(x, "last")


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


def _conv(x, filters: int, kernel: int, name: str):
    return layers.Conv2D(
        filters, kernel, padding="same", use_bias=False, kernel_initializer="he_normal", name=f"{name}_conv"
    )(x)


def _bn_relu(x, name: str):
    x = layers.BatchNormalization(momentum=0.9, name=f"{name}_bn")(x)
    return layers.Activation("relu", name=f"{name}_relu")(x)


def _bn_relu_conv(x, filters: int, kernel: int, name: str):
    return _conv(_bn_relu(x, name), filters, kernel, name)


_KINDS = {network.__name__: network for network in (strided, plain, resnet, vgg, densenet)}
