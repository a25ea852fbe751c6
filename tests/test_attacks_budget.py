"""The bound: refusals, projection, what can be saved as 8 bits, and that every violation is noticed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from voclab.attacks.budget import Budget, require_images
from voclab.data.images import eight_bit
from voclab.errors import VoclabError

SHAPE = (2, 3, 4, 3)

images = hnp.arrays(np.uint8, SHAPE, elements=st.sampled_from([0, 1, 2, 77, 128, 200, 254, 255]))
fractions = hnp.arrays(np.float32, SHAPE, elements=st.integers(-(2**16), 2**16).map(lambda k: k / 2**16))
scales = st.sampled_from([0.001, 0.003, 0.01, 0.05, 1.0, 3.0])
tenths = st.one_of(st.sampled_from([0, 4, 5, 10, 26, 30, 80, 2550]), st.integers(0, 300))
thorough = settings(max_examples=150, deadline=None)


def bytes_of(images):
    """What a file holds of float images, as signed numbers."""
    return np.rint(255 * images).astype(np.uint8).astype(int)


# --- which bounds there are ---


@pytest.mark.parametrize(
    ("epsilon", "words"),
    [
        (-1e-9, "0 or more"),
        (-1.0, "0 or more"),
        (float("nan"), "Epsilon is nan; it must be finite"),
        (float("inf"), "Epsilon is inf; it must be finite"),
        (8.0, "Epsilon is 8.0, but pixels .* divide steps of 8-bit values by 255"),
        (1.0001, "divide"),
    ],
)
def test_a_bound_that_makes_no_sense_is_refused_in_one_sentence(epsilon, words):
    with pytest.raises(VoclabError, match=words) as error:
        Budget(epsilon)
    assert "\n" not in str(error.value)
    assert str(error.value).endswith(".")


def test_the_largest_bound_is_allowed():
    assert Budget(1.0).steps == 255


@pytest.mark.parametrize("tenth", [0, 4, 9, 10, 19, 20, 26, 30, 80, 2550])
def test_steps_are_whole_8_bit_values(tenth):
    assert Budget(tenth / 2550).steps == tenth // 10
    assert Budget(np.float32(tenth) / np.float32(2550)).steps == tenth // 10


# --- projection and what can be saved ---


@thorough
@given(images, fractions, scales, tenths)
def test_linf_is_kept_in_float_and_in_8_bits(image, fraction, scale, tenth):
    clean, budget = eight_bit(image), Budget(tenth / 2550)
    perturbed = clean + np.float32(scale) * fraction
    projected, finished = budget.project(perturbed, clean), budget.finish(perturbed, clean)
    for changed in (projected, finished):
        assert changed.dtype == np.float32
        assert changed.min() >= 0
        assert changed.max() <= 1
        assert np.abs(np.subtract(changed, clean, dtype=np.float64)).max() <= tenth / 2550 + 2**-23
    low = np.maximum(clean.astype(float) - tenth / 2550, 0)
    high = np.minimum(clean.astype(float) + tenth / 2550, 1)
    np.testing.assert_allclose(projected, np.minimum(np.maximum(perturbed, low), high), atol=2**-23, rtol=0)

    change, wanted = bytes_of(finished) - image, bytes_of(projected) - image
    assert np.abs(change).max() <= tenth // 10
    # Nothing moves but what rounding pushed out of the ball, and that by one 8-bit value.
    needs_moving = np.abs(wanted) > tenth // 10
    np.testing.assert_array_equal(finished[~needs_moving], projected[~needs_moving])
    np.testing.assert_array_equal(change[needs_moving], np.sign(wanted[needs_moving]) * (tenth // 10))


def test_epsilon_0_leaves_exactly_the_clean_images():
    clean = eight_bit(np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3))
    wild = clean + np.random.default_rng(0).normal(0, 1, clean.shape).astype(np.float32)
    np.testing.assert_array_equal(Budget(0).project(wild, clean), clean)
    np.testing.assert_array_equal(Budget(0).finish(wild, clean), clean)
    assert not Budget(0).fill(wild).any()
    assert not Budget(0).random(clean.shape, np.random.default_rng(0)).any()


def test_no_images_at_all():
    none, budget = np.zeros((0, 4, 4, 3), np.float32), Budget(0.1)
    assert budget.finish(none, none).shape == none.shape
    assert budget.fill(none).shape == budget.random(none.shape, np.random.default_rng(0)).shape == none.shape


# --- the assertion ---


def spoilt(clean, where, value):
    images = clean.copy()
    images[where] = value
    return images


GREY = eight_bit(np.array([[0, 100, 255], [7, 128, 250]], np.uint8).reshape(1, 2, 1, 3).repeat(2, 0))
FIRST, WHITE, MIDDLE = (0, 0, 0, 0), (1, 0, 0, 2), (1, 1, 0, 1)


@pytest.mark.parametrize(
    ("epsilon", "images", "words"),
    [
        (0.1, GREY[:1], "is not"),
        (0.1, spoilt(GREY, FIRST, np.nan), "not finite"),
        (0.1, spoilt(GREY, FIRST, np.inf), "not finite"),
        (0.1, spoilt(GREY, FIRST, -1e-4), "below 0"),
        (0.1, spoilt(GREY, WHITE, 1.0001), "above 1"),
        (2 / 255, spoilt(GREY, MIDDLE, 130.1 / 255), "^the perturbation exceeds"),
        (2.6 / 255, spoilt(GREY, MIDDLE, 130.58 / 255), "rounded perturbation exceeds"),
    ],
)
def test_every_violation_is_noticed(epsilon, images, words):
    with pytest.raises(AssertionError, match=words):
        Budget(epsilon).check(images, GREY)


def test_images_at_the_very_bound_pass_the_assertion():
    for steps in (1, 2, 3, 5, 7):
        Budget(steps / 255).check(spoilt(GREY, MIDDLE, (128 + steps) / 255), GREY)
    Budget(2.4 / 255).check(spoilt(GREY, MIDDLE, 130.4 / 255), GREY)


# --- directions and random points ---


def test_fill_goes_further_along_a_direction_than_any_point_of_the_ball():
    rng, budget = np.random.default_rng(1), Budget(0.05)
    direction = rng.normal(size=(4, 3, 3, 3)) * rng.uniform(0, 1, (4, 3, 3, 3))
    direction[1] = 0
    filled = budget.fill(direction)
    assert filled.dtype == np.float32
    # The value of a linear function at its maximum over a ball is the dual norm of the function.
    reach = (filled * direction).sum((1, 2, 3))
    np.testing.assert_allclose(reach, 0.05 * np.abs(direction).sum((1, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(np.abs(filled).max((1, 2, 3)), [0.05, 0, 0.05, 0.05], rtol=1e-6)
    np.testing.assert_array_equal(budget.fill(1e-12 * direction), filled)


@thorough
@given(st.integers(0, 2**32), st.floats(1e-6, 1))
def test_random_points_lie_in_the_ball_and_depend_on_the_generator_alone(seed, epsilon):
    budget = Budget(epsilon)
    points = budget.random(SHAPE, np.random.default_rng(seed))
    assert points.dtype == np.float32
    assert points.shape == SHAPE
    assert np.abs(points).max() <= epsilon * (1 + 1e-6)
    np.testing.assert_array_equal(points, budget.random(SHAPE, np.random.default_rng(seed)))


def test_random_points_are_uniform_in_the_ball():
    rng, n = np.random.default_rng(3), 4000
    cube = Budget(0.2).random((n, 1, 1, 3), rng).reshape(n, 3) / 0.2
    assert np.abs(cube.mean(0)).max() < 0.05
    np.testing.assert_allclose((cube**2).mean(0), 1 / 3, atol=0.02)


# --- images ---


def test_eight_bit_is_what_a_file_keeps():
    values = np.arange(256, dtype=np.uint8)
    kept = eight_bit(values)
    assert kept.dtype == np.float32
    np.testing.assert_array_equal(bytes_of(kept), values)
    np.testing.assert_array_equal(eight_bit(kept), kept)
    assert kept[0] == 0
    assert kept[255] == 1
    floats = np.random.default_rng(0).uniform(0, 1, 1000)
    rounded = eight_bit(floats)
    assert rounded.dtype == np.float32
    assert np.isin(rounded, kept).all()
    assert np.abs(rounded - floats).max() <= 0.5 / 255 + 1e-6


def good(*shape):
    return eight_bit(np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8))


@pytest.mark.parametrize("shape", [(3, 5, 4, 3), (1, 5, 4, 3), (0, 5, 4, 3), (2, 3, 3, 3)])
def test_8_bit_images_pass_unchanged(shape):
    images = good(*shape)
    for given_ in (images, images.astype(np.float64)):
        passed = require_images(given_)
        assert passed.dtype == np.float32
        np.testing.assert_array_equal(passed, images)


def test_other_ways_to_divide_by_255_pass():
    values = np.arange(256).repeat(3).reshape(1, 16, 16, 3)
    for images in (values / 255, np.float32(1 / 255) * values.astype(np.float32), values / 127.5 / 2):
        np.testing.assert_allclose(require_images(images), values / 255, atol=1e-6)
        # what passes here passes the assertion at the bound as well
        budget, clean = Budget(1 / 255), require_images(images)
        for sign in (-1, 1):
            budget.finish(clean + np.float32(sign), clean)


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (np.zeros((2, 4, 4, 3), np.uint8), r"uint8; .*pass voclab\.attacks\.eight_bit\(images\)"),
        (255 * good(2, 4, 4, 3), "to 255, expected .*divide 8-bit images by 255"),
        (good(2, 4, 4, 3) - 0.5, r"from -0\.5 to .*\[0, 1\]"),
        (spoilt(good(2, 4, 4, 3), FIRST, np.nan), "finite values"),
        (spoilt(good(2, 4, 4, 3), FIRST, np.inf), "finite values"),
        (good(2, 5, 4), r"grey; models here see RGB: repeat the channel"),
        (good(2, 5, 4, 1), r"grey; models here see RGB: repeat the channel"),
        (good(5, 4, 3), r"pass images\[None\]"),
        (good(2, 5, 4, 4), r"expected \(batch, height, width, 3\)"),
        (good(5, 4), r"expected \(batch, height, width, 3\)"),
        (good(2, 2, 5, 4, 3), r"expected \(batch, height, width, 3\)"),
        (np.full((1, 4, 4, 3), 0.5, np.float32), r"not multiples of 1/255.*eight_bit\(images\)"),
        (spoilt(good(2, 4, 4, 3), FIRST, 100.001 / 255), "not multiples of 1/255"),
    ],
)
def test_images_that_no_bound_can_be_kept_on_are_refused_in_one_sentence(images, words):
    with pytest.raises(VoclabError, match=words) as error:
        require_images(images)
    assert "\n" not in str(error.value)
    assert str(error.value).endswith(".")


def test_the_remedy_for_images_between_8_bit_values_works():
    images = np.random.default_rng(0).uniform(0, 1, (2, 4, 4, 3))
    with pytest.raises(VoclabError, match="eight_bit"):
        require_images(images)
    assert np.abs(require_images(eight_bit(images)) - images).max() <= 0.5 / 255 + 1e-6
