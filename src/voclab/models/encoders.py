"""A backbone as an encoder: its feature maps by stride, and its last stride turned into dilation."""

import keras
from keras import layers

_PROBE = 256  # input side, pixels, at which strides are read off; a multiple of every stride


def skip_tensors(network: keras.Model) -> dict[int, keras.KerasTensor]:
    """The last feature map at each stride of a backbone, found by shape rather than by layer name.

    Args:
        network: backbone without top, of any input size.

    Returns:
        stride -> symbolic tensor (B, H / stride, W / stride, C), finest first; the last is the network's
        output. Stride 1 is left out: such maps cost more than they tell.
    """
    found = maps_of(network)
    deepest = max(found)
    return {**{s: found[s] for s in sorted(found) if 1 < s < deepest}, deepest: network.outputs[0]}


def maps_of(network: keras.Model) -> dict[int, keras.KerasTensor]:
    """Stride -> the last feature map that any layer gives at it, in no order."""
    return {stride: layer.output for layer, stride in _strides(network)}


def _strides(network: keras.Model) -> list[tuple[keras.layers.Layer, int]]:
    """(layer, stride) of the layers that give one feature map whose size divides the input's."""
    single = [layer for layer in network.layers if _is_map(layer)]
    probe = keras.Model(network.inputs, [layer.output for layer in single])
    specs = probe.compute_output_spec(keras.KerasTensor((1, _PROBE, _PROBE, 3)))
    return [
        (layer, _PROBE // spec.shape[1])
        for layer, spec in zip(single, specs, strict=True)
        if spec.shape[1] == spec.shape[2] and spec.shape[1] > 1 and _PROBE % spec.shape[1] == 0
    ]


def _is_map(layer: keras.layers.Layer) -> bool:
    return isinstance(getattr(layer, "output", None), keras.KerasTensor) and len(layer.output.shape) == 4


def dilated(network: keras.Model, output_stride: int = 16) -> keras.Model:
    """The same network, weights included, that stops shrinking at ``output_stride`` (Chen et al. 2018).

    Beyond it, strides become 1 and later kernels are spread (dilated) by what was left out, so that each
    still sees what it was trained to see.

    Args:
        network: functional backbone without top.
        output_stride: the largest stride that is kept.

    Returns:
        The dilated network; the given one, unchanged, where its strides sit inside nested layers. Where
        nothing averages over the whole map, its output at every (32 / ``output_stride``)-th position is
        that of the given network. Pooling cannot be spread, so a network that shrinks by pooling
        (``vgg16``, ``densenet121``) keeps that for one stride left out, not for two.
    """
    stride = {layer.name: s for layer, s in _strides(network)}
    deep = {name for name, s in stride.items() if s > output_stride}
    shrinking = [layer for layer in network.layers if layer.name in deep and _step(layer) > 1]
    if not shrinking:
        return network
    padded = [_source(layer) for layer in shrinking]
    pads = {layer.name for layer in padded if isinstance(layer, layers.ZeroPadding2D)}

    def clone(layer):
        config = layer.get_config()
        if layer.name in pads:
            config["padding"] = ((0, 0), (0, 0))
        elif layer.name in deep and "strides" in config:
            step = _step(layer)
            if step > 1:
                config["strides"], config["padding"] = (1, 1), "same"
            if "dilation_rate" in config and max(layer.kernel_size) > 1:
                # What was left out before this layer: the stride of its input over the one that is kept.
                config["dilation_rate"] = (stride[layer.name] // step // output_stride,) * 2
        return layer.__class__.from_config(config)

    spread = keras.models.clone_model(network, clone_function=clone)
    spread.set_weights(network.get_weights())
    return spread


def _step(layer: keras.layers.Layer) -> int:
    return max(getattr(layer, "strides", (1,)) or (1,))


def _source(layer: keras.layers.Layer) -> keras.layers.Layer:
    return layer.input._keras_history.operation
