"""The generator of perturbations: its bound, repeated patterns, what its gradient lets through, its file."""

import subprocess
import sys

import keras
import numpy as np
import pytest

from voclab.backend import value_and_gradient
from voclab.errors import VoclabError
from voclab.models.generator import (
    Tiles,
    UnitBall,
    attack_model,
    build_generator,
    start_from_universal,
)

TINY = {"width": 4, "blocks": 1, "tile": 8, "patterns": 3}
CNN = {"backbone": "cnn", "options": {"width": 4}}


def drawn(scale=0.5, **options):
    """A generator with random weights in place of those that start at zero."""
    keras.utils.set_random_seed(2)
    generator = build_generator(**(TINY | options))
    rng = np.random.default_rng(3)
    for variable in generator.trainable_variables:
        variable.assign(rng.normal(0, scale, variable.shape))
    return generator


def pixels(n=3, height=32, width=32):
    return np.random.default_rng(1).random((n, height, width, 3)).astype(np.float32)


def test_patterns_are_kept_in_bounds_by_a_constraint_as_keras_since_3_13_wants_it():
    tiles = Tiles(2, 4, seed=0)
    tiles.build([(None, None, None, 3), (None, 2)])
    constraint = tiles.patterns.constraint
    assert isinstance(constraint, keras.constraints.Constraint)
    again = keras.constraints.deserialize(keras.constraints.serialize(constraint))
    assert np.asarray(again(np.array([-1.0, 0.01, 1.0], np.float32))).tolist() == pytest.approx(
        [-0.02, 0.01, 0.02]
    )


@pytest.mark.parametrize("options", [{"mode": "universal"}, {}, CNN], ids=["universal", "image", "backbone"])
def test_whatever_its_weights_a_perturbation_is_in_the_unit_ball(options):
    for scale in (10, 1e4):
        perturbation = np.asarray(drawn(scale=scale, **options)(pixels()))
        assert perturbation.dtype == np.float32
        sizes = np.abs(perturbation).max((1, 2, 3))
        assert (sizes <= 1).all()
        assert scale == 1e4 or (sizes > 0.99).all()  # the bound is reached


def test_a_perturbation_inside_the_ball_is_left_as_it_is():
    inside = np.random.default_rng(0).uniform(-0.05, 0.05, (2, 4, 4, 3)).astype(np.float32)
    np.testing.assert_array_equal(UnitBall()(inside), inside)
    np.testing.assert_array_equal(UnitBall()(40 * inside), np.clip(40 * inside, -1, 1))


@pytest.mark.parametrize("size", [(32, 32), (36, 60), (64, 32), (100, 40)])
def test_any_size_that_4_divides(size):
    for options in ({"mode": "universal"}, {}, CNN):
        assert drawn(**options)(pixels(1, *size)).shape == (1, *size, 3)
    assert drawn()(pixels(1, 4, 8)).shape == (1, 4, 8, 3)  # without a backbone also a small one


@pytest.mark.parametrize("mode", ["universal", "image"])
def test_patterns_are_repeated(mode):
    """Of an image-dependent generator so far only they are seen: its decoder starts at zero."""
    generator = build_generator(mode=mode, **TINY)
    perturbation = np.asarray(generator(pixels(2, 36, 20)))
    np.testing.assert_allclose(perturbation[:, 8:], perturbation[:, :-8], atol=1e-6)
    np.testing.assert_allclose(perturbation[:, :, 8:], perturbation[:, :, :-8], atol=1e-6)
    for smaller in range(1, 8):
        assert np.abs(perturbation[:, smaller:] - perturbation[:, :-smaller]).max() > 0.1
        assert np.abs(perturbation[:, :, smaller:] - perturbation[:, :, :-smaller]).max() > 0.1


def test_patterns_are_mixed_by_the_shares_of_each_image():
    tiles = Tiles(2, 4, seed=0)
    one, other, half = (np.asarray(tiles([pixels(1, 6, 6), np.array([s], np.float32)]))[0] for s in (
        [1, 0], [0, 1], [0.5, 0.5],
    ))  # fmt: skip
    assert np.abs(one - other).max() > 0.1
    np.testing.assert_allclose(half, (one + other) / 2, atol=1e-6)
    both = np.asarray(tiles([pixels(2, 6, 6), np.array([[0, 1], [1, 0]], np.float32)]))
    np.testing.assert_allclose(both, [other, one], atol=1e-6)


def test_one_perturbation_for_all_images_or_one_for_each():
    images = pixels()
    universal = np.asarray(drawn(mode="universal")(images))
    np.testing.assert_array_equal(universal, np.broadcast_to(universal[:1], universal.shape))
    for options in ({}, CNN):
        generator = drawn(**options)
        own = np.asarray(generator(images))
        for a, b in ((0, 1), (1, 2), (0, 2)):
            assert np.abs(own[a] - own[b]).max() > 0.05
        np.testing.assert_allclose(np.asarray(generator(images[::-1]))[::-1], own, atol=1e-5)


def _pull(generator, target, rate=0.05, steps=30):
    """Train towards a perturbation of that value everywhere."""
    generator.compile(keras.optimizers.Adam(rate), "mse", jit_compile=False)
    x = pixels(2, 16, 16)
    for _ in range(steps):
        generator.train_on_batch(x, np.full_like(x, target))
    return np.asarray(generator(x))


def test_patterns_stay_in_bounds_while_they_learn_and_come_back_at_once():
    generator = build_generator(mode="universal", **TINY)
    (start,) = generator.get_weights()
    assert np.abs(100 * start).max() <= 0.5
    generator.compile(keras.optimizers.SGD(1e3), "mse", jit_compile=False)
    x = pixels(2, 16, 16)
    for _ in range(3):
        generator.train_on_batch(x, np.full_like(x, 5.0))  # out of reach
    (weights,) = generator.get_weights()
    assert 100 * weights.min() == pytest.approx(2)
    assert 100 * weights.max() <= 2 + 1e-6
    np.testing.assert_allclose(generator(x), 1, atol=1e-6)
    assert np.abs(_pull(generator, -0.25, rate=2e-3) + 0.25).max() < 0.3


def test_what_is_cut_off_far_outside_can_come_back():
    """A plain clip would have no slope there, and training would stand still for good."""
    generator = drawn(scale=0.01)
    bias = generator.get_layer("up2").bias
    bias.assign([3.0, -3.0, 3.0])
    assert np.abs(np.asarray(generator(pixels(2, 16, 16)))).min() == 1
    assert np.abs(_pull(generator, 0.0, rate=0.1, steps=60)).max() < 0.6


@pytest.mark.parametrize("x", [-3.0, -1.5, -0.5, 0.0, 0.9, 1.5, 3.0])
@pytest.mark.parametrize("slope", [-2.0, 2.0])
def test_only_what_would_go_further_out_has_no_gradient(x, slope):
    """A step goes against the gradient: beyond 1 one of a positive slope leads back, beyond -1 a negative."""
    ball = UnitBall()
    value, gradient = value_and_gradient(
        lambda v: keras.ops.sum(slope * ball(v)), np.full((1, 1, 1, 3), x, np.float32)
    )
    assert value == pytest.approx(3 * slope * np.clip(x, -1, 1))
    outwards = abs(x) > 1 and slope * x < 0
    np.testing.assert_allclose(gradient, 0 if outwards else slope)


def test_an_attack_model_adds_a_share_of_the_bound_and_keeps_to_pixels_that_exist():
    generator, epsilon, images = drawn(), 8 / 255, pixels()
    images[0, :, :16] = np.round(images[0, :, :16])  # black and white: half of the change is cut off
    out = attack_model(generator, epsilon)(images)
    unit = np.asarray(generator(images))
    np.testing.assert_allclose(out["perturbed"], np.clip(images + epsilon * unit, 0, 1), atol=1e-6)
    np.testing.assert_allclose(out["perturbation"], np.asarray(out["perturbed"]) - images, atol=1e-6)
    assert 0 < np.abs(out["perturbation"]).max() <= epsilon + 1e-6
    assert set(out) == {"perturbed", "perturbation"}


def test_training_leaves_the_backbone_alone():
    generator = build_generator(**TINY, **CNN)
    frozen = generator.get_layer("backbone")
    before, all_before = frozen.get_weights(), generator.get_weights()
    generator.compile("adam", "mse", jit_compile=False)
    generator.train_on_batch(pixels(), np.zeros((3, 32, 32, 3)))
    for ours, theirs in zip(frozen.get_weights(), before, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert any((a != b).any() for a, b in zip(generator.get_weights(), all_before))
    trained = {id(v) for v in generator.trainable_variables}
    assert not trained & {id(v) for v in frozen.variables}


def test_an_image_dependent_generator_starts_near_the_universal_one():
    universal = drawn(scale=0.004, mode="universal")
    for options in ({}, CNN):
        keras.utils.set_random_seed(0)
        generator = build_generator(**TINY, **options)
        images = pixels()
        before, goal = generator(images), np.asarray(universal(images))
        start_from_universal(generator, universal)
        after = np.asarray(generator(images))
        assert np.abs(after - goal).max() <= 0.1 + 1e-5  # patterns apart, so that they can part further
        assert np.abs(before - goal).max() > 0.5
        (patterns,) = generator.get_layer("tiles").get_weights()
        assert np.abs(patterns).max() <= 0.02
        assert np.abs(patterns[0] - patterns[1]).max() > 1e-4


def test_the_seed_fixes_the_patterns():
    def patterns(seed):
        return build_generator(mode="universal", seed=seed, **TINY).get_weights()[0]

    keras.utils.set_random_seed(1)
    first = patterns(0)
    keras.utils.set_random_seed(2)
    np.testing.assert_array_equal(patterns(0), first)
    assert (patterns(1) != first).any()


def test_half_precision_inside_leaves_the_bound_exact():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        generator = drawn(scale=0.3, **CNN)
    finally:
        keras.config.set_dtype_policy("float32")
    out = attack_model(generator, 2 / 255)(pixels())
    assert all(np.asarray(value).dtype == np.float32 for value in out.values())
    assert np.isfinite(out["perturbed"]).all()
    assert 1.9 / 255 < np.abs(out["perturbation"]).max() <= 2 / 255 + 1e-6


def test_a_mode_that_does_not_exist_is_refused():
    with pytest.raises(VoclabError, match="no mode 'both'; choose one of image, universal"):
        build_generator(mode="both")


def test_files_load_safely_where_nothing_of_ours_was_imported_before(tmp_path):
    images = pixels()
    np.save(tmp_path / "images.npy", images)
    models = {
        "universal": drawn(mode="universal"),
        "image": drawn(),
        "backbone": drawn(**CNN),
        "attack": attack_model(drawn(**CNN), 8 / 255),
    }
    for name, model in models.items():
        model.save(tmp_path / f"{name}.keras")
    code = f"""
import sys
from pathlib import Path
import numpy as np
from voclab.training import load_model
assert "voclab.models.generator" not in sys.modules and "voclab.attacks" not in sys.modules
folder = Path({str(tmp_path)!r})
images = np.load(folder / "images.npy")
for name in {list(models)!r}:
    out = load_model(folder / (name + ".keras"))(images, training=False)
    np.save(folder / (name + ".npy"), out["perturbed"] if name == "attack" else out)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    for name, model in models.items():
        out = model(images, training=False)
        expected = np.asarray(out["perturbed"] if name == "attack" else out)
        np.testing.assert_allclose(np.load(tmp_path / f"{name}.npy"), expected, atol=1e-5)
