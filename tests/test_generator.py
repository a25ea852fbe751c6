"""The generator of perturbations: its bound, what it is told, the transposed encoder, its file."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from voclab.backend import compiled, pulled_back, value_and_gradient
from voclab.models.classifiers import build_classifier
from voclab.models.encoders import dilated, skip_tensors
from voclab.models.generator import (
    UnitBall,
    build_generator,
    condition,
    encoder_of,
    perturbed,
)
from voclab.models.joint import build_joint, classifier_of, segmenter_of
from voclab.models.network import Network
from voclab.models.segmenters import build_unet

CLASSES = 4


def separate():
    """A classifier and a segmenter from scratch, each with an encoder of its own."""
    keras.utils.set_random_seed(0)
    return [
        Network(build_classifier("cnn", CLASSES, options={"width": 4}), "multilabel", "classifier"),
        Network(build_unet(CLASSES + 1, width=4, depth=2), "segmentation", "segmenter"),
    ]


def of_one_network():
    """A classifier and a segmenter that share an encoder."""
    keras.utils.set_random_seed(0)
    joint = build_joint("cnn", CLASSES + 1, width=16, options={"width": 4})
    return [
        Network(classifier_of(joint), "multilabel", "classifier"),
        Network(segmenter_of(joint), "segmentation", "segmenter"),
    ]


def drawn(networks, scale=0.05):
    """A generator whose weights are moved at random, so that none is the zero that it starts at."""
    keras.utils.set_random_seed(1)
    generator = build_generator(networks, CLASSES, width=16)
    rng = np.random.default_rng(2)
    for variable in generator.trainable_variables:
        variable.assign_add(rng.normal(0, scale, variable.shape))
    return generator


def in_use(generator):
    """As attacks use it: one graph. (Op by op, gradients of frozen kernels would be computed as well.)"""
    return compiled(generator, told=len(generator.victims) + 3 + CLASSES)


@pytest.fixture(scope="module")
def networks():
    return separate()


@pytest.fixture(scope="module")
def generator(networks):
    return drawn(networks)


@pytest.fixture(scope="module")
def unit(generator):
    """(pixels, condition) -> perturbation."""
    return in_use(generator)


def pixels(n=2, height=32, width=32):
    return np.random.default_rng(1).random((n, height, width, 3)).astype(np.float32)


def wanted(n=2, epsilon=8.0, victims=(1, 1), goal=0, class_index=0):
    asked = np.full(n, epsilon), np.tile(victims, (n, 1)), [goal] * n, [class_index] * n
    return np.asarray(condition(*asked, CLASSES))


# --- what it gives ---


def require_unit_ball(unit):
    for size in ((32, 32), (33, 47), (64, 40)):
        found = unit(pixels(2, *size), wanted())
        assert found.shape == (2, *size, 3)
        assert np.abs(found).max() == 1  # the bound is reached, and kept
        assert 0 < (np.abs(found) < 1).mean() < 1


def test_a_perturbation_of_an_image_of_any_size_is_in_the_unit_ball(generator, unit):
    assert len(generator.encoders) == len(generator.decoders) == 2
    require_unit_ball(unit)


def test_networks_that_share_an_encoder_are_looked_through_once():
    generator = drawn(of_one_network())
    assert len(generator.encoders) == len(generator.decoders) == 1
    assert generator.victims == ("classifier", "segmenter")
    require_unit_ball(in_use(generator))


def test_every_part_of_what_is_wanted_changes_the_perturbation(unit):
    image = pixels(1)
    asked = [
        wanted(1),
        wanted(1, epsilon=2.0),
        wanted(1, victims=(1, 0)),
        wanted(1, victims=(0, 1)),
        wanted(1, goal=1, class_index=2),
        wanted(1, goal=2, class_index=2),
        wanted(1, goal=1, class_index=3),
    ]
    found = np.concatenate([unit(image, one) for one in asked])
    for a in range(len(asked)):
        for b in range(a):
            assert np.abs(found[a] - found[b]).max() > 1e-3, (a, b)
    # In a batch each image gets what is wanted of it.
    together = unit(np.repeat(image, len(asked), 0), np.concatenate(asked))
    np.testing.assert_allclose(together, found, atol=1e-4)


def test_the_perturbation_depends_on_the_image(unit):
    images = pixels(3)
    own = unit(images, wanted(3))
    assert all(np.abs(own[a] - own[b]).mean() > 0.1 for a, b in ((0, 1), (1, 2), (0, 2)))
    np.testing.assert_allclose(unit(images[::-1], wanted(3))[::-1], own, atol=1e-4)


def test_before_training_it_is_the_direction_through_the_encoders(networks):
    """The last convolution starts at zero, so what is left is their sum, cut at 1."""
    generator, images, asked = build_generator(networks, CLASSES, width=16), pixels(), wanted()

    @tf.function
    def direction(encoder, decoder, asked):
        with tf.GradientTape() as tape:
            x = tf.constant(images)
            tape.watch(x)
            maps = encoder(x, training=False)
            used = maps[1 - len(decoder.inputs) :]  # from stride 4 on
            *changes, _ = decoder([*map(tf.stop_gradient, used), asked])
            total = sum(ops.sum(y * change) for y, change in zip(used, changes, strict=True))
        return tape.gradient(total, x)

    expected = 0
    for encoder, decoder in zip(generator.encoders, generator.decoders, strict=True):
        gradient = direction(encoder, decoder, tf.constant(asked)).numpy()
        expected = expected + np.clip(gradient / np.abs(gradient).mean((1, 2, 3), keepdims=True), -8, 8)
    found = in_use(generator)(images, asked)
    np.testing.assert_allclose(found, np.clip(expected, -1, 1), atol=1e-4)
    generator.grow(3)
    np.testing.assert_allclose(in_use(generator)(images, asked), np.clip(3 * expected, -1, 1), atol=1e-4)


def test_half_precision_inside_leaves_the_bound_exact():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        generator = drawn(of_one_network())
    finally:
        keras.config.set_dtype_policy("float32")
    found = in_use(generator)(pixels(), wanted())
    assert np.isfinite(found).all()
    assert np.abs(found).max() == 1


def test_perturbed_pixels_exist_and_are_within_each_images_bound():
    images, unit = pixels(3), np.sign(pixels(3) - 0.5)
    images[0, :, :16] = np.round(images[0, :, :16])  # black and white
    epsilon = np.array([1, 4, 16], np.float32) / 255
    found = np.asarray(perturbed(images, unit, epsilon))
    expected = np.clip(images + epsilon[:, None, None, None] * unit, 0, 1)
    np.testing.assert_allclose(found, expected, atol=1e-7)
    np.testing.assert_allclose(perturbed(images, unit, epsilon[1]), np.clip(images + epsilon[1] * unit, 0, 1))


# --- what it is told ---


def test_a_condition_is_bound_victims_goal_and_class():
    found = np.asarray(
        condition(
            np.array([1.0, 4.0, 16.0, 0.1, 99.0]),
            np.array([[1, 0], [0, 1], [1, 1], [1, 1], [1, 1]]),
            np.array([0, 1, 2, 0, 0]),
            np.array([3, 0, 2, 0, 0]),
            CLASSES,
        )
    )
    expected = [
        # log of the bound; victims; appear, vanish; class, only where there is a goal
        [0.0, 1, 0, 0, 0, 0, 0, 0, 0],
        [0.5, 0, 1, 1, 0, 1, 0, 0, 0],
        [1.0, 1, 1, 0, 1, 0, 0, 1, 0],
        [0.0, 1, 1, 0, 0, 0, 0, 0, 0],  # the nearest bound that it knows
        [1.0, 1, 1, 0, 0, 0, 0, 0, 0],
    ]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-6)


# --- the encoders ---


def test_an_encoder_gives_the_maps_of_the_network_it_comes_from():
    classifier, segmenter = of_one_network()
    images = pixels()
    inner = segmenter.model.get_layer("encoder")
    expected = inner(segmenter.model.get_layer("preprocessing")(images), training=False)
    for network in (classifier, segmenter):
        encoder = encoder_of(network.model)
        found = encoder(images, training=False)
        assert [x.shape[1] for x in found] == sorted((x.shape[1] for x in found), reverse=True)
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-6)
        assert encoder.trainable_variables == []


def test_of_a_network_from_scratch_the_deepest_map_counts_not_its_answer(networks):
    model = networks[1].model
    found = encoder_of(model)(pixels(), training=False)
    assert [x.shape[1] for x in found] == [16, 8, 4]  # strides 2, 4 and 8; logits have stride 1
    names = {layer.name for layer in encoder_of(model).layers}
    assert names < {layer.name for layer in model.layers}
    assert not {name for name in names if "logits" in name or name.startswith("narrow0")}
    last = model.get_layer("narrow1_relu").output  # the last layer before the map is enlarged again
    deepest = keras.Model(model.inputs, last)(pixels(), training=False)
    np.testing.assert_allclose(found[-1], deepest, atol=1e-6)


def test_a_dilated_encoder_is_another_one_though_its_weights_are_the_same():
    backbone = keras.applications.MobileNetV2((None, None, 3), alpha=0.35, include_top=False, weights=None)
    first, second = (
        keras.Model(network.inputs, list(skip_tensors(network).values()), name="encoder")
        for network in (backbone, dilated(backbone))
    )
    for a, b in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    victims = []
    for name, encoder in (("first", first), ("second", second)):
        inputs = keras.Input((None, None, 3))
        pooled = keras.layers.GlobalAveragePooling2D()(encoder(inputs)[-1])
        model = keras.Model(inputs, keras.layers.Dense(CLASSES)(pooled))
        victims.append(Network(model, "multilabel", name))
    assert len(build_generator(victims, CLASSES, width=8).encoders) == 2


@pytest.mark.parametrize("scale", [1e-4, 1e4])
def test_half_precision_holds_proposals_of_any_size(scale):
    keras.config.set_dtype_policy("mixed_float16")
    try:
        generator = drawn(of_one_network())
        before = in_use(generator)(pixels(), wanted())
        for decoder in generator.decoders:
            for layer in decoder.layers:
                if layer.name.endswith("_change"):
                    layer.set_weights([scale * values for values in layer.get_weights()])
        np.testing.assert_allclose(in_use(generator)(pixels(), wanted()), before, atol=0.05)
    finally:
        keras.config.set_dtype_policy("float32")


def test_training_moves_every_weight_of_the_generator_and_none_of_its_victims(networks):
    generator = drawn(networks)
    victims = [network.model.get_weights() for network in networks]
    encoders = [encoder.get_weights() for encoder in generator.encoders]
    trained = [variable.numpy() for variable in generator.trainable_variables]
    generator.compile(keras.optimizers.Adam(1e-2), "mse", jit_compile=False)
    target = np.random.default_rng(3).uniform(-1, 1, (3, 32, 32, 3))
    generator.train_on_batch([pixels(3), wanted(3, goal=1, class_index=1)], target)
    for variable, before in zip(generator.trainable_variables, trained, strict=True):
        assert (variable.numpy() != before).any(), variable.path
    now = [network.model.get_weights() for network in networks]
    now += [encoder.get_weights() for encoder in generator.encoders]
    for ours, theirs in zip(now, victims + encoders, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


# --- the transposed encoder ---

MATRIX = np.random.default_rng(4).normal(0, 1, (6, 5)).astype(np.float32)


def two_maps(x):
    """(B, 6) -> (B, 5) and (B, 6)."""
    return [ops.tanh(x @ MATRIX), ops.sin(x) * x]


def test_pulled_back_is_the_transposed_jacobian_times_the_proposals():
    rng = np.random.default_rng(5)
    x, first, second = (rng.normal(0, 1, shape).astype(np.float32) for shape in ((2, 6), (2, 5), (2, 6)))
    found = pulled_back(two_maps, tf.constant(x), lambda maps: [first, second])
    step, expected = 1e-2, np.zeros_like(x)
    for j in range(6):
        moved = np.eye(6, dtype=np.float32)[j] * step
        low, high = ([np.asarray(y) for y in two_maps(at)] for at in (x - moved, x + moved))
        slopes = [(b - a) / (2 * step) for a, b in zip(low, high, strict=True)]
        expected[:, j] = (slopes[0] * first).sum(1) + (slopes[1] * second).sum(1)
    np.testing.assert_allclose(found, expected, atol=5e-3)
    with tf.GradientTape() as tape:
        point = tf.constant(x)
        tape.watch(point)
        maps = two_maps(point)
        total = ops.sum(maps[0] * first) + ops.sum(maps[1] * second)
    np.testing.assert_allclose(found, tape.gradient(total, point), atol=1e-5)


def test_pulled_back_leaves_out_maps_without_a_proposal_and_takes_a_single_one():
    x = tf.constant(np.random.default_rng(6).normal(0, 1, (2, 6)).astype(np.float32))
    one = pulled_back(two_maps, x, lambda maps: [None, maps[1]])
    alone = pulled_back(lambda x: two_maps(x)[1], x, lambda maps: maps)
    expected = (np.sin(x) + x * np.cos(x)) * np.sin(x) * x
    np.testing.assert_allclose(one, expected, atol=1e-5)
    np.testing.assert_allclose(alone, expected, atol=1e-5)


def test_gradients_of_what_is_pulled_back_reach_what_proposes_and_not_the_pixels():
    """Of sum(w · Jᵀ c) with respect to c the gradient is J w."""
    rng = np.random.default_rng(7)
    x, w = (tf.constant(rng.normal(0, 1, (1, 6)).astype(np.float32)) for _ in range(2))
    change = tf.Variable(rng.normal(0, 1, (1, 5)).astype(np.float32))
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = ops.sum(w * pulled_back(two_maps, x, lambda maps: [change, None]))
    of_change, of_pixels = tape.gradient(value, [change, x])
    slope = 1 - np.tanh(x.numpy() @ MATRIX) ** 2
    np.testing.assert_allclose(of_change, slope * (w.numpy() @ MATRIX), atol=1e-5)
    assert of_pixels is None


# --- gradients by hand ---


def test_a_perturbation_inside_the_ball_is_left_as_it_is():
    inside = np.random.default_rng(0).uniform(-0.05, 0.05, (2, 4, 4, 3)).astype(np.float32)
    np.testing.assert_array_equal(UnitBall()(inside), inside)
    np.testing.assert_array_equal(UnitBall()(40 * inside), np.clip(40 * inside, -1, 1))


@pytest.mark.parametrize("x", [-3.0, -1.5, -0.5, 0.0, 0.9, 1.5, 3.0])
@pytest.mark.parametrize("slope", [-2.0, 2.0])
def test_only_what_would_go_further_out_has_no_gradient(x, slope):
    """A step goes against the gradient: beyond 1 one of a positive slope leads back, beyond -1 a negative."""
    ball = UnitBall()
    value, gradient = value_and_gradient(
        lambda v: ops.sum(slope * ball(v)), np.full((1, 1, 1, 3), x, np.float32)
    )
    assert value == pytest.approx(3 * slope * np.clip(x, -1, 1))
    outwards = abs(x) > 1 and slope * x < 0
    np.testing.assert_allclose(gradient, 0 if outwards else slope)


# --- its file ---


def test_a_file_loads_safely_where_nothing_of_ours_was_imported_before(generator, unit, tmp_path):
    images, asked = pixels(), wanted(victims=(1, 0), goal=2, class_index=1)
    np.savez(tmp_path / "given.npz", images=images, asked=asked)
    generator.save(tmp_path / "model.keras")
    code = f"""
import sys
from pathlib import Path
import numpy as np
from voclab.backend import compiled
from voclab.models.saved import load_model
assert "voclab.models.generator" not in sys.modules and "voclab.attacks" not in sys.modules
folder = Path({str(tmp_path)!r})
given = np.load(folder / "given.npz")
model = load_model(folder / "model.keras")
assert (model.victims, model.classes, model.width) == (("classifier", "segmenter"), {CLASSES}, 16)
found = compiled(model, told=given["asked"].shape[1])(given["images"], given["asked"])
np.save(folder / "found.npy", found)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    np.testing.assert_allclose(np.load(tmp_path / "found.npy"), unit(images, asked), atol=1e-4)
