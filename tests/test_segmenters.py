"""Segmenters and their encoders: sizes, skips, strides, dilation, pretrained parts, saving, learning."""

import keras
import numpy as np
import pytest

from voclab.errors import VoclabError
from voclab.losses import get_loss
from voclab.models.backbones import build_backbone
from voclab.models.encoders import dilated, skip_tensors
from voclab.models.segmenters import ENCODER, build_deeplab, build_encoder_unet, build_segmenter, build_unet
from voclab.training import load_model

SMALL = {"options": {"width": 4}}  # of backbone "cnn"
BUILDERS = {
    "scratch": lambda **options: build_unet(4, width=4, depth=3, **options),
    "without skips": lambda **options: build_unet(4, width=4, depth=3, skips=False, **options),
    "encoder": lambda **options: build_encoder_unet("cnn", 4, width=16, **SMALL, **options),
    "encoder without skips": lambda **options: build_encoder_unet(
        "cnn", 4, width=16, skips=False, **SMALL, **options
    ),
    "deeplab": lambda **options: build_deeplab("cnn", 4, width=16, **SMALL, **options),
}
STRIDES = {
    "cnn": (2, 4, 8, 16),
    "mobilenet_v2": (2, 4, 8, 16, 32),
    "resnet50": (2, 4, 8, 16, 32),
    "efficientnet_v2_b0": (2, 4, 8, 16, 32),
    "vgg16": (2, 4, 8, 16, 32),
    "densenet121": (2, 4, 8, 16, 32),
    "convnext_tiny": (4, 8, 16, 32),  # its stem is strided by 4 at once
}
SLIM = {"cnn": {"width": 4}, "mobilenet_v2": {"alpha": 0.35}}
# Where the strided kernel is centred: at the odd pixels where TensorFlow pads only behind, else at the even.
OFFSET = {"mobilenet_v2": 1, "efficientnet_v2_b0": 1, "resnet50": 0, "vgg16": 0, "densenet121": 0}


@pytest.fixture(scope="module")
def segmenters():
    keras.utils.set_random_seed(0)
    return {name: build() for name, build in BUILDERS.items()}


@pytest.fixture(scope="module")
def networks():
    """Backbones with random weights by name, each built once."""
    built = {}

    def network(name):
        if name not in built:
            keras.utils.set_random_seed(0)
            built[name] = build_backbone(name, None, **SLIM.get(name, {}))
        return built[name]

    return network


@pytest.fixture(scope="module")
def mobilenet(shared):
    """U-Net on genuine ImageNet weights."""
    path = shared / "weights" / "mobilenet_v2_0.35_224_no_top.weights.h5"
    return build_encoder_unet("mobilenet_v2", 4, weights=str(path), width=32, options={"alpha": 0.35})


def _pixels(*shape, seed=0):
    return np.random.default_rng(seed).random((*shape, 3), np.float32)


def _logits(model, pixels):
    return np.asarray(model(pixels, training=False))


def _batch(squares, n=16):
    pixels = np.stack([squares.image(i) for i in range(n)]).astype(np.float32) / 255.0
    return pixels, np.stack([squares.mask(i) for i in range(n)])


@pytest.mark.parametrize("name", BUILDERS)
def test_logits_are_as_large_as_the_image(name, segmenters):
    for height, width in [(64, 64), (96, 128), (75, 101), (33, 160)]:
        logits = segmenters[name](_pixels(2, height, width), training=False)
        assert tuple(logits.shape) == (2, height, width, 4)
        assert logits.dtype == "float32"
        assert np.isfinite(np.asarray(logits)).all()
        assert np.asarray(logits).std() > 0
    assert segmenters[name].output_shape == (None, None, None, 4)


def test_a_image_of_512_pixels_fits(segmenters):
    for name in ("scratch", "deeplab"):
        assert _logits(segmenters[name], _pixels(1, 512, 512)).shape == (1, 512, 512, 4)


@pytest.mark.parametrize(
    "options",
    [
        {"dropout": 0.5},
        {"depth": 1, "width": 1},
        {"depth": 5, "width": 2},
    ],
)
def test_every_variant_of_the_network_from_scratch_gives_logits(options):
    model = build_unet(5, **{"width": 4, "depth": 2, **options})
    logits = _logits(model, _pixels(1, 50, 70))
    assert logits.shape == (1, 50, 70, 5)
    assert np.isfinite(logits).all()
    kinds = [type(layer).__name__ for layer in model.layers]
    assert kinds.count("MaxPooling2D") == options.get("depth", 2)


def test_dropout_acts_in_training_only():
    model, pixels = build_unet(3, width=4, depth=2, dropout=0.5), _pixels(1, 32, 32)
    np.testing.assert_array_equal(_logits(model, pixels), _logits(model, pixels))
    assert not np.array_equal(model(pixels, training=True), model(pixels, training=True))


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: build_unet(3, width=0), "width and depth of at least 1, not 0 and 3"),
        (lambda: build_unet(3, depth=0), "width and depth of at least 1, not 24 and 0"),
        (
            lambda: build_segmenter("fcn", "cnn", 3),
            "There is no segmenter 'fcn'; choose one of unet, deeplab",
        ),
        (lambda: build_segmenter("unet", "resnet", 3), "There is no backbone 'resnet'"),
    ],
)
def test_what_there_is_not_is_one_sentence(build, sentence):
    with pytest.raises(VoclabError, match=sentence) as raised:
        build()
    assert "\n" not in str(raised.value)


def test_a_segmenter_is_built_by_name():
    assert build_segmenter("unet", "cnn", 3, width=8, **SMALL).name == "cnn_unet"
    assert build_segmenter("deeplab", "cnn", 3, width=8, **SMALL).name == "cnn_deeplab"


@pytest.mark.parametrize(
    ("width", "depth"),
    [(4, 3), (8, 1), (8, 3), (16, 2), (8, 4)],
)
def test_without_skips_the_network_from_scratch_has_as_many_parameters(width, depth):
    ours, theirs = (
        build_unet(21, width=width, depth=depth, skips=skips).count_params() for skips in (False, True)
    )
    assert ours == pytest.approx(theirs, rel=0.02)
    assert ours != theirs


@pytest.mark.parametrize("width", [16, 64])
def test_without_skips_the_decoder_of_an_encoder_has_as_many_parameters(width):
    def decoder(skips):
        model = build_encoder_unet("cnn", 21, width=width, skips=skips, **SMALL)
        return model.count_params() - model.get_layer(ENCODER).count_params()

    assert decoder(False) == pytest.approx(decoder(True), rel=0.1)


@pytest.mark.parametrize(
    ("name", "silenced"),
    [
        ("scratch", ["encoder3_2_bn", "encoder3_shortcut"]),
        ("without skips", ["encoder3_2_bn", "encoder3_shortcut"]),
        ("encoder", ["stage4_2_bn", "stage4_shortcut_bn"]),
        ("encoder without skips", ["stage4_2_bn", "stage4_shortcut_bn"]),
    ],
)
def test_without_skips_nothing_passes_by_the_bottleneck(name, silenced):
    """Where the deepest map is silenced, only skips can tell one image from another."""
    model = BUILDERS[name]()
    holder = model if name in ("scratch", "without skips") else model.get_layer(ENCODER)
    one, other = (_logits(model, _pixels(1, 64, 64, seed=seed)) for seed in (1, 2))
    assert np.abs(one - other).max() > 1e-3
    for layer in map(holder.get_layer, silenced):
        for weight in layer.trainable_weights:
            weight.assign(weight * 0)
    one, other = (_logits(model, _pixels(1, 64, 64, seed=seed)) for seed in (1, 2))
    if "without" in name:
        np.testing.assert_allclose(one, other, atol=1e-6)
    else:
        assert np.abs(one - other).max() > 1e-3


@pytest.mark.parametrize("name", STRIDES)
def test_skip_tensors_have_the_size_that_their_stride_says(name, networks):
    network = networks(name)
    skips = skip_tensors(network)
    assert tuple(skips) == STRIDES[name]
    assert skips[max(skips)] is network.outputs[0]
    encoder = keras.Model(network.inputs, list(skips.values()))
    for height, width in [(128, 192), (96, 32)]:
        specs = encoder.compute_output_spec(keras.KerasTensor((1, height, width, 3)))
        sizes = [spec.shape[1:3] for spec in specs]
        assert sizes == [(height // stride, width // stride) for stride in skips]


def test_a_skip_tensor_is_the_last_of_its_stride(networks):
    names = {s: t._keras_history.operation.name for s, t in skip_tensors(networks("resnet50")).items()}
    assert names == {
        2: "conv1_relu",
        4: "conv2_block3_out",
        8: "conv3_block4_out",
        16: "conv4_block6_out",
        32: "conv5_block3_out",
    }


@pytest.mark.parametrize("name", OFFSET)
def test_a_dilated_network_sees_what_the_original_sees_and_twice_as_dense(name, networks):
    """Every second pixel of its map is the original's map, so it needs no new training."""
    network = networks(name)
    for layer in network.layers:
        if "se_expand" in layer.name:  # a mean over the map would see the other pixels too
            layer.set_weights([0 * w for w in layer.get_weights()])
    spread = dilated(network, 16)
    for ours, theirs in zip(spread.get_weights(), network.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert max(skip_tensors(spread)) == 16
    pixels = np.random.default_rng(0).normal(size=(1, 64, 96, 3)).astype(np.float32)
    original, dense = _logits(network, pixels), _logits(spread, pixels)
    assert original.shape[1:3] == (2, 3)
    assert dense.shape[1:3] == (4, 6)
    k = OFFSET[name]
    assert original.std() > 0
    scale = original.std()
    np.testing.assert_allclose(dense[:, k::2, k::2] / scale, original / scale, atol=1e-3)
    assert np.abs(dense[:, 1 - k :: 2, 1 - k :: 2] / scale - original / scale).max() > 0.1


def test_two_strides_can_be_left_out_where_convolutions_make_them(networks):
    network = networks("mobilenet_v2")
    pixels = np.random.default_rng(0).normal(size=(1, 96, 96, 3)).astype(np.float32)
    original, dense = _logits(network, pixels), _logits(dilated(network, 8), pixels)
    assert dense.shape[1:3] == (12, 12)
    scale = original.std()
    np.testing.assert_allclose(dense[:, 3::4, 3::4] / scale, original / scale, atol=1e-3)


@pytest.mark.parametrize("name", ["cnn", "convnext_tiny"])  # nothing to leave out; strides in nested layers
def test_a_network_that_cannot_be_dilated_is_given_back(name, networks):
    assert dilated(networks(name), 16) is networks(name)


def _rates(model):
    return sorted(
        layer.dilation_rate[0]
        for layer in model.layers
        if layer.name.startswith("aspp_rate") and isinstance(layer, keras.layers.SeparableConv2D)
    )


def test_the_pyramid_reaches_as_far_whatever_the_stride(monkeypatch, networks, segmenters):
    """Rates are those of the paper at 1/16, and half of them where a network stays at 1/32."""
    from voclab.models import segmenters as module

    assert _rates(segmenters["deeplab"]) == [6, 12, 18]
    monkeypatch.setattr(module, "build_backbone", lambda name, weights, **options: networks(name))
    for name, rates in [("mobilenet_v2", [6, 12, 18]), ("convnext_tiny", [3, 6, 9])]:
        model = build_deeplab(name, 3, width=8)
        assert _rates(model) == rates
        assert _logits(model, _pixels(1, 75, 101)).shape == (1, 75, 101, 3)


def test_pretrained_batch_norm_stays_as_it_was(mobilenet, squares):
    encoder = mobilenet.get_layer(ENCODER)
    before = {w.path: w.numpy().copy() for w in encoder.weights}
    kernels = [path for path in before if path.endswith("kernel")]
    norms = [path for path in before if path.split("/")[-1] in ("gamma", "beta", "moving_mean")]
    norms += [path for path in before if path.endswith("moving_variance")]
    assert len(kernels) + len(norms) == len(before)
    outside = mobilenet.get_layer("decoder2_1_bn").moving_mean
    start = outside.numpy().copy()
    pixels, masks = _batch(squares, 2)
    mobilenet.compile(keras.optimizers.Adam(1e-3), get_loss("cross_entropy"), run_eagerly=True)
    mobilenet.train_on_batch(pixels, masks)
    after = {w.path: w.numpy() for w in encoder.weights}
    for path in norms:
        np.testing.assert_array_equal(after[path], before[path])
    assert all(np.abs(after[path] - before[path]).max() > 0 for path in kernels)  # it is trained otherwise
    assert np.abs(outside.numpy() - start).max() > 0  # as is the decoder's batch norm


def test_a_frozen_encoder_keeps_its_weights(squares):
    model = BUILDERS["encoder"]()
    encoder = model.get_layer(ENCODER)
    encoder.trainable = False
    before = [w.numpy().copy() for w in encoder.weights]
    head = model.get_layer("coarse_logits").get_weights()[0]
    model.compile(keras.optimizers.Adam(1e-2), get_loss("cross_entropy"), run_eagerly=True)
    model.train_on_batch(*_batch(squares, 2))
    for old, new in zip(before, encoder.weights, strict=True):
        np.testing.assert_array_equal(old, new.numpy())
    assert np.abs(model.get_layer("coarse_logits").get_weights()[0] - head).max() > 1e-3


def test_the_encoder_sees_pixels_as_its_weights_were_trained_on(shared):
    """Its deepest map is that of keras.applications on its own preprocessing."""
    path = str(shared / "weights" / "mobilenet_v2_0.35_224_no_top.weights.h5")
    model = build_deeplab("mobilenet_v2", 4, weights=path, width=8, options={"alpha": 0.35})
    pixels = _pixels(1, 64, 96)
    theirs = keras.applications.MobileNetV2(
        input_shape=(64, 96, 3), alpha=0.35, include_top=False, weights=path
    )(keras.applications.mobilenet_v2.preprocess_input(pixels * 255.0), training=False)
    ours = model.get_layer(ENCODER)(model.get_layer("preprocessing")(pixels), training=False)[-1]
    np.testing.assert_allclose(ours[:, 1::2, 1::2], theirs, atol=1e-3)  # dilated: twice as dense


@pytest.mark.parametrize("name", ["scratch", "without skips", "encoder", "deeplab"])
def test_a_saved_segmenter_loads_in_safe_mode_and_gives_the_same_logits(name, segmenters, tmp_path):
    segmenters[name].save(tmp_path / "model.keras")
    loaded, pixels = load_model(tmp_path / "model.keras"), _pixels(1, 75, 101)
    np.testing.assert_allclose(_logits(loaded, pixels), _logits(segmenters[name], pixels), atol=1e-5)


@pytest.mark.parametrize("name", ["scratch", "encoder", "deeplab"])
def test_a_few_steps_of_training_lower_the_loss(name, squares):
    keras.utils.set_random_seed(0)
    model, (pixels, masks) = BUILDERS[name](), _batch(squares, 8)
    model.compile(keras.optimizers.Adam(1e-2), get_loss("cross_entropy"), run_eagerly=True)
    losses = [float(model.train_on_batch(pixels, masks)) for _ in range(6)]
    # train_on_batch gives the mean of the steps so far, so the last step's loss is lower still
    assert losses[-1] < 0.8 * losses[0]


def test_mixed_precision_gives_float32_logits():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        built = {name: BUILDERS[name]() for name in ("scratch", "encoder", "deeplab")}
    finally:
        keras.config.set_dtype_policy("float32")
    for name, model in built.items():
        inner = model if name == "scratch" else model.get_layer(ENCODER)
        assert {layer.compute_dtype for layer in inner.layers if "conv" in layer.name} == {"float16"}
        heads = [layer for layer in model.layers if "logits" in layer.name]  # float16 would be too coarse
        assert {layer.compute_dtype for layer in heads} == {"float32"}
        logits = model(_pixels(1, 64, 64), training=False)
        assert logits.dtype == "float32"
        assert np.isfinite(np.asarray(logits)).all()
