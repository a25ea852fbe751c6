"""Segmenters in pixel space: U-Nets from scratch and on a pretrained encoder, and DeepLabV3+."""

from collections.abc import Callable

import keras
from keras import layers

from voclab.backend import resize
from voclab.errors import VoclabError
from voclab.models.backbones import PixelPreprocessing, build_backbone
from voclab.models.catalogue import get_backbone
from voclab.models.classifiers import freeze_batch_norm
from voclab.models.encoders import dilated, skip_tensors

ENCODER = "encoder"  # layer that holds the pretrained part


@keras.saving.register_keras_serializable("voclab")
class ResizeLike(keras.layers.Layer):
    """Bilinear resizing of a feature map to the height and width of another tensor.

    Unlike doubling, it fits whatever size a strided convolution left, so a network made with it takes
    images of any size.

    Shape: [(B, h, w, C), (B, H, W, any)] -> (B, H, W, C).
    """

    def call(self, inputs):
        x, reference = inputs
        shape = keras.ops.shape(reference)
        return resize(x, shape[1], shape[2])

    def compute_output_shape(self, input_shape):
        x, reference = input_shape
        return (x[0], reference[1], reference[2], x[3])


def build_unet(
    classes: int,
    *,
    width: int = 24,
    depth: int = 3,
    dropout: float = 0.0,
    skips: bool = True,
) -> keras.Model:
    """A U-Net (Ronneberger et al. 2015) with random weights, for RGB pixels in [0, 1] of any size.

    Differences from the paper, all usual today: padding, so that the output is as large as the input;
    normalisation; bilinear upsampling instead of transposed convolution, which leaves no checkerboard. A stem
    halves the image first, which makes every step four times cheaper; each block is residual (He et al.
    2016), and the mean of the deepest map is added to it (Liu et al. 2015, *ParseNet*). On drawn images these
    three took the Dice after half a minute of training from 0.01 to 0.2 (docs/results.md).

    Without ``skips`` the decoder gets nothing but the bottleneck. The decoder is then made wider, so
    that the network has as many parameters as the one with skips: what differs is the connection.

    Args:
        classes: labels including background.
        width: channels after the stem; each level doubles them.
        depth: number of times the resolution is halved after the stem.
        dropout: share of bottleneck channels dropped in training.
        skips: whether encoder maps are joined to the decoder's.

    Returns:
        ``keras.Model``: (B, H, W, 3) float32 -> (B, H, W, classes) float32 logits.
    """
    if depth < 1 or width < 1:
        raise VoclabError(f"A U-Net needs width and depth of at least 1, not {width} and {depth}.")
    encoder = [width * 2**level for level in range(depth + 1)]
    if skips:
        return _unet(classes, encoder, encoder, dropout, joined=True)

    def built(sixteenths: int, joined: bool = False) -> keras.Model:
        return _unet(classes, encoder, [_wider(c, sixteenths) for c in encoder], dropout, joined)

    return _of_equal_size(built, built(0, joined=True).count_params())


def _unet(classes, encoder, decoder, dropout, joined: bool) -> keras.Model:
    inputs = keras.Input((None, None, 3), name="pixels")
    x = PixelPreprocessing("tf", name="preprocessing")(inputs)
    x = conv_norm_relu(x, encoder[0], strides=2, name="stem")
    kept = []
    for level, channels in enumerate(encoder):
        if level:
            x = layers.MaxPooling2D(2, padding="same", name=f"down{level}")(x)
        x = residual_block(x, channels, name=f"encoder{level}")
        kept.append(x)
    x = layers.SpatialDropout2D(dropout, name="dropout")(with_context(x, x))
    for level in reversed(range(len(encoder) - 1)):
        # Without skips the encoder's map still says how large the result must be, and nothing more.
        x = conv_norm_relu(x, decoder[level], kernel=1, name=f"narrow{level}")
        x = ResizeLike(name=f"up{level}")([x, kept[level]])
        if joined:
            x = layers.Concatenate(name=f"skip{level}")([x, kept[level]])
        x = residual_block(x, decoder[level], name=f"decoder{level}")
    return _with_logits(inputs, x, classes, "unet" if joined else "unet_without_skips")


def residual_block(x, channels: int, *, separable: bool = False, name: str):
    """Two times convolution, normalisation, ReLU, and the input added to the result (He et al. 2016).

    Where the number of channels changes, a 1 × 1 convolution fits the input to it.
    """
    shortcut = x
    if x.shape[-1] != channels:
        shortcut = layers.Conv2D(channels, 1, use_bias=False, name=f"{name}_shortcut")(x)
    for k in (1, 2):
        x = conv_norm_relu(x, channels, separable=separable, name=f"{name}_{k}")
    return layers.Add(name=f"{name}_add")([x, shortcut])


def with_context(x, deepest):
    """A map plus the mean of the deepest one everywhere: what is in the image says what its parts can be."""
    whole = layers.GlobalAveragePooling2D(keepdims=True, name="whole")(deepest)
    return layers.Add(name="context")([x, layers.Conv2D(x.shape[-1], 1, name="whole_projected")(whole)])


def _wider(channels: int, sixteenths: int) -> int:
    return channels + (max(1, round(channels * sixteenths / 16)) if sixteenths else 0)


def _of_equal_size(built: Callable[[int], keras.Model], wanted: int) -> keras.Model:
    """The network whose number of parameters is nearest to ``wanted``, its decoder widened in steps."""
    models = [built(0)]
    while models[-1].count_params() < wanted:
        models.append(built(len(models)))
    return min(models[-2:], key=lambda model: abs(model.count_params() - wanted))


def conv_norm_relu(
    x,
    channels: int,
    *,
    kernel: int = 3,
    strides: int = 1,
    dilation: int = 1,
    separable: bool = False,
    name: str,
):
    """Convolution, batch normalisation and ReLU."""
    options = {"padding": "same", "use_bias": False, "strides": strides, "dilation_rate": dilation}
    options["name"] = f"{name}_conv"
    if separable:
        start = {"depthwise_initializer": "he_normal", "pointwise_initializer": "he_normal"}
        x = layers.SeparableConv2D(channels, kernel, **start, **options)(x)
    else:
        x = layers.Conv2D(channels, kernel, kernel_initializer="he_normal", **options)(x)
    x = layers.BatchNormalization(momentum=0.9, name=f"{name}_bn")(x)
    return layers.Activation("relu", name=f"{name}_relu")(x)


def build_encoder_unet(
    backbone: str,
    classes: int,
    *,
    weights: str | None = None,
    width: int = 128,
    dropout: float = 0.1,
    skips: bool = True,
    options: dict | None = None,
) -> keras.Model:
    """A U-Net whose encoder is a backbone, with a small separable decoder on its skip tensors.

    Each skip tensor is projected by a 1 × 1 convolution before it is joined, so a wide backbone does not
    make a wide decoder. The mean of the deepest map is added to the bottleneck (Liu et al. 2015,
    *ParseNet*), and the decoder's blocks are residual: without that sum it learnt half as much in four epochs
    on a frozen encoder (docs/results.md). The last join is at the
    encoder's finest stride; logits are resized bilinearly from there.

    Args:
        backbone: key of ``voclab.models.catalogue.BACKBONES``.
        classes: labels including background.
        weights: ``None`` (random), ``"imagenet"`` or a file; see :func:`build_backbone`. Pretrained
            batch norm stays in inference mode for good.
        width: channels of the decoder at its coarsest; they shrink towards the finest, to ``width`` / 4.
        dropout: share of bottleneck channels dropped in training.
        skips: whether skip tensors are joined; without them the decoder is widened to as many parameters.
        options: further arguments of the backbone's builder.

    Returns:
        ``keras.Model``: (B, H, W, 3) float32 -> (B, H, W, classes) float32 logits; H, W ≥ 32.
    """
    inputs, maps = encoded(backbone, weights, options or {}, output_stride=None)

    def built(sixteenths: int, joined: bool = False) -> keras.Model:
        x = decoded(maps, _wider(width, sixteenths), dropout, joined)
        return _with_logits(inputs, x, classes, f"{backbone}_unet")

    with_skips = built(0, joined=True)
    return with_skips if skips else _of_equal_size(built, with_skips.count_params())


def decoded(maps: dict, width: int, dropout: float, joined: bool):
    """The decoder of :func:`build_encoder_unet` on feature maps by stride: a map at the finest stride."""
    strides = sorted(maps, reverse=True)
    deepest = maps[strides[0]]
    x = conv_norm_relu(deepest, width, kernel=1, name="bottleneck")
    x = layers.SpatialDropout2D(dropout, name="dropout")(with_context(x, deepest))
    for step, stride in enumerate(strides[1:], 1):
        channels = max(width // 4, width * 3 // (3 + step))
        # Without skips the encoder's map still says how large the result must be, and nothing more.
        x = ResizeLike(name=f"up{stride}")([x, maps[stride]])
        if joined:
            skip = conv_norm_relu(maps[stride], channels // 2, kernel=1, name=f"skip{stride}")
            x = layers.Concatenate(name=f"join{stride}")([x, skip])
        x = residual_block(x, channels, separable=True, name=f"decoder{stride}")
    return x


def build_deeplab(
    backbone: str,
    classes: int,
    *,
    weights: str | None = None,
    width: int = 128,
    dropout: float = 0.1,
    options: dict | None = None,
) -> keras.Model:
    """DeepLabV3+ (Chen et al. 2018): atrous spatial pyramid pooling, and one join at stride 4.

    The encoder's last stride is replaced by dilation, which keeps its map at 1/16 of the input (where
    the backbone's graph allows that; otherwise it stays at 1/32 and the pyramid's rates are halved).

    Args:
        backbone: as for :func:`build_encoder_unet`, and so are those not named here.
        classes: labels including background.
        weights: ``None`` (random), ``"imagenet"`` or a file.
        width: channels of each branch of the pyramid and of the decoder.
        dropout: share of the pyramid's channels dropped in training.
        options: further arguments of the backbone's builder.

    Returns:
        ``keras.Model``: (B, H, W, 3) float32 -> (B, H, W, classes) float32 logits; H, W ≥ 32.
    """
    inputs, skips = encoded(backbone, weights, options or {}, output_stride=16)
    stride = max(skips)
    features = skips[stride]
    branches = [conv_norm_relu(features, width, kernel=1, name="aspp_1x1")]
    for rate in (6, 12, 18):
        rate = rate * 16 // stride
        branches.append(
            conv_norm_relu(features, width, dilation=rate, separable=True, name=f"aspp_rate{rate}")
        )
    whole = layers.GlobalAveragePooling2D(keepdims=True, name="whole")(features)
    whole = layers.Conv2D(width, 1, activation="relu", name="whole_projected")(whole)
    branches.append(ResizeLike(name="whole_everywhere")([whole, features]))
    x = layers.Concatenate(name="aspp")(branches)
    x = conv_norm_relu(x, width, kernel=1, name="aspp_projected")
    x = layers.SpatialDropout2D(dropout, name="dropout")(x)
    low = conv_norm_relu(skips[min(s for s in skips if s >= 4)], 48, kernel=1, name="low")
    x = layers.Concatenate(name="join")([ResizeLike(name="up")([x, low]), low])
    x = residual_block(x, width, separable=True, name="decoder")
    return _with_logits(inputs, x, classes, f"{backbone}_deeplab")


def encoded(backbone: str, weights: str | None, options: dict, output_stride: int | None):
    """Input tensor, and stride -> feature map of the (pretrained) encoder."""
    network = build_backbone(backbone, weights, **options)
    if output_stride:
        network = dilated(network, output_stride)
    tensors = skip_tensors(network)
    encoder = keras.Model(network.inputs, list(tensors.values()), name=ENCODER)
    if weights is not None:
        freeze_batch_norm(encoder)
    inputs = keras.Input((None, None, 3), name="pixels")
    x = PixelPreprocessing(get_backbone(backbone).mode, name="preprocessing")(inputs)
    outputs = encoder(x, training=False) if weights is not None else encoder(x)
    return inputs, dict(zip(tensors, outputs, strict=True))


def _with_logits(inputs, x, classes: int, name: str) -> keras.Model:
    return keras.Model(inputs, enlarged(coarse_logits(x, classes), inputs), name=name)


def coarse_logits(x, classes: int):
    """Logits at the size of the decoder's map."""
    return layers.Conv2D(classes, 1, name="coarse_logits", dtype="float32")(x)


def enlarged(logits, inputs):
    """Logits at the size of the image."""
    return ResizeLike(name="logits", dtype="float32")([logits, inputs])


SEGMENTERS = {"unet": build_encoder_unet, "deeplab": build_deeplab}


def build_segmenter(architecture: str, backbone: str, classes: int, **options) -> keras.Model:
    """A segmenter on a pretrained encoder by name: ``"unet"`` or ``"deeplab"``."""
    if architecture not in SEGMENTERS:
        known = ", ".join(SEGMENTERS)
        raise VoclabError(f"There is no segmenter {architecture!r}; choose one of {known}.")
    return SEGMENTERS[architecture](backbone, classes, **options)
