"""The bound: refusals, projection, what can be saved as 8 bits, and that every violation is noticed."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from voclab.attacks.budget import Budget, require_images
from voclab.data.images import eight_bit
from voclab.errors import VoclabError

SHAPE = (2, 3, 4, 3)
LARGEST = np.sqrt(np.prod(SHAPE[1:]))  # the L2 norm of a change from black to white

images = hnp.arrays(np.uint8, SHAPE, elements=st.sampled_from([0, 1, 2, 77, 128, 200, 254, 255]))
fractions = hnp.arrays(np.float32, SHAPE, elements=st.integers(-(2**16), 2**16).map(lambda k: k / 2**16))
scales = st.sampled_from([0.001, 0.003, 0.01, 0.05, 1.0, 3.0])
tenths = st.one_of(st.sampled_from([0, 4, 5, 10, 26, 30, 80, 2550]), st.integers(0, 300))
radii = st.one_of(st.sampled_from([0.0, 0.4 / 255, 1 / 255, 0.1, 0.5]), st.floats(1e-6, float(LARGEST)))
thorough = settings(max_examples=150, deadline=None)


def sizes(images, clean):
    """L2 norm of the change of each image, in float64."""
    return np.sqrt((np.subtract(images, clean, dtype=np.float64) ** 2).sum((1, 2, 3)))


def bytes_of(images):
    """What a file holds of float images, as signed numbers."""
    return np.rint(255 * images).astype(np.uint8).astype(int)


# --- which bounds there are ---


@pytest.mark.parametrize(
    ("epsilon", "norm", "words"),
    [
        (0.1, "l1", "no norm 'l1'; choose one of linf, l2"),
        (0.1, "L2", "no norm 'L2'; choose one of linf, l2"),
        (-1e-9, "linf", "0 or more"),
        (-1.0, "l2", "0 or more"),
        (float("nan"), "linf", "Epsilon is nan; it must be finite"),
        (float("nan"), "l2", "Epsilon is nan; it must be finite"),
        (float("inf"), "l2", "Epsilon is inf; it must be finite"),
        (8.0, "linf", "Epsilon is 8.0, but pixels .* divide steps of 8-bit values by 255"),
        (1.0001, "linf", "divide"),
    ],
)
def test_a_bound_that_makes_no_sense_is_refused_in_one_sentence(epsilon, norm, words):
    with pytest.raises(VoclabError, match=words) as error:
        Budget(epsilon, norm)
    assert "\n" not in str(error.value)
    assert str(error.value).endswith(".")


def test_the_largest_bounds_are_allowed_and_linf_is_the_default():
    assert Budget(1.0).norm == "linf"
    assert Budget(8.0, "l2").epsilon == 8.0


@pytest.mark.parametrize("tenth", [0, 4, 9, 10, 19, 20, 26, 30, 80, 2550])
def test_steps_are_whole_8_bit_values(tenth):
    assert Budget(tenth / 2550).steps == tenth // 10
    assert Budget(np.float32(tenth) / np.float32(2550)).steps == tenth // 10


def test_norms_by_hand():
    change = np.zeros((3, 2, 2, 3), np.float32)
    change[1, 0, 1, 2], change[1, 1, 0, 0] = -0.3, 0.4
    change[2] = 0.5
    np.testing.assert_allclose(Budget(1, "linf").norms(change), [0, 0.4, 0.5], rtol=1e-6)
    np.testing.assert_allclose(Budget(1, "l2").norms(change), [0, 0.5, np.sqrt(3)], rtol=1e-6)


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


@thorough
@given(images, fractions, scales, radii)
def test_l2_is_kept_in_float_and_in_8_bits(image, fraction, scale, epsilon):
    clean, budget = eight_bit(image), Budget(epsilon, "l2")
    perturbed = clean + np.float32(scale) * fraction
    projected, finished = budget.project(perturbed, clean), budget.finish(perturbed, clean)
    for changed in (projected, finished):
        assert changed.dtype == np.float32
        assert changed.min() >= 0
        assert changed.max() <= 1
        assert (sizes(changed, clean) <= epsilon * (1 + 1e-9)).all()
    change, wanted = bytes_of(finished) - image, bytes_of(projected) - image
    limit = (255 * epsilon + 1e-4) ** 2
    assert ((change**2).sum((1, 2, 3)) <= limit).all()
    for i in range(len(image)):
        moved = change[i] != wanted[i]
        np.testing.assert_allclose(finished[i][~moved], projected[i][~moved], atol=2**-23, rtol=0)
        if (wanted[i] ** 2).sum() <= limit:
            assert not moved.any()
            continue
        # One step towards clean, for no more values than must: one of them could not go back.
        np.testing.assert_array_equal(change[i][moved], wanted[i][moved] - np.sign(wanted[i][moved]))
        total = (change[i] ** 2).sum()
        assert (total + 2 * np.abs(wanted[i][moved]) - 1 > limit).any()


@thorough
@given(images, fractions, scales, radii)
def test_l2_projection_lies_on_the_ray_and_leaves_the_inside_alone(image, fraction, scale, epsilon):
    clean = eight_bit(image)
    inside = np.clip(clean + np.float32(scale) * fraction, 0, 1)
    projected = Budget(epsilon, "l2").project(inside, clean)
    for i, size in enumerate(sizes(inside, clean)):
        if size <= epsilon * (1 - 1e-6):
            np.testing.assert_array_equal(projected[i], inside[i])
        else:
            on_ray = clean[i] + (inside[i].astype(float) - clean[i]) * min(1, epsilon / size)
            np.testing.assert_allclose(projected[i], on_ray, atol=2**-22, rtol=0)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_epsilon_0_leaves_exactly_the_clean_images(norm):
    clean = eight_bit(np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3))
    wild = clean + np.random.default_rng(0).normal(0, 1, clean.shape).astype(np.float32)
    np.testing.assert_array_equal(Budget(0, norm).project(wild, clean), clean)
    np.testing.assert_array_equal(Budget(0, norm).finish(wild, clean), clean)
    assert not Budget(0, norm).fill(wild).any()
    assert not Budget(0, norm).random(clean.shape, np.random.default_rng(0)).any()


@pytest.mark.parametrize("epsilon", [0.1, 0.3, 1.0])
def test_l2_holds_in_flat_images_where_every_pixel_is_rounded_the_same_way(epsilon):
    signs = np.random.default_rng(0).choice([-1.0, 1.0], (1, 64, 64, 3))
    budget = Budget(epsilon, "l2")
    for value in range(0, 256, 3):
        clean = eight_bit(np.full(signs.shape, value, np.uint8))
        finished = budget.finish(clean + budget.fill(signs), clean)
        assert sizes(finished, clean)[0] <= epsilon * (1 + 1e-9)


@pytest.mark.parametrize("epsilon", [0.25, 0.3, 0.4])
def test_l2_noise_of_less_than_one_step_a_pixel_survives_being_saved(epsilon):
    rng = np.random.default_rng(0)
    image = rng.integers(10, 246, (2, 64, 64, 3)).astype(np.uint8)
    clean, budget = eight_bit(image), Budget(epsilon, "l2")
    assert 0.5 < 255 * epsilon / np.sqrt(image[0].size) < 1
    saved = eight_bit(budget.finish(clean + budget.fill(rng.choice([-1.0, 1.0], image.shape)), clean))
    assert (sizes(saved, clean) <= epsilon * (1 + 1e-6)).all()
    assert (sizes(saved, clean) >= 0.99 * epsilon).all()


def test_l2_drops_those_values_that_rounding_moves_furthest():
    clean = eight_bit(np.full((1, 1, 2, 3), 100, np.uint8))
    steps = np.array([2.5001, 2.6, 0.9, 0.55, -0.7, 0.0]).reshape(clean.shape)
    perturbed = (clean + steps / 255).astype(np.float32)
    assert (steps**2).sum() < 15.2  # so the ball holds it; rounded, the squares make 9 + 9 + 1 + 1 + 1
    finished = Budget(np.sqrt(15.2) / 255, "l2").finish(perturbed, clean)
    # going from 3 to 2 for 2.5001 leaves 16, still too much; from 1 to 0 for 0.55 as well leaves 15
    assert (bytes_of(finished) - 100).ravel().tolist() == [2, 3, 1, 0, -1, 0]


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_no_images_at_all(norm):
    none, budget = np.zeros((0, 4, 4, 3), np.float32), Budget(0.1, norm)
    assert budget.finish(none, none).shape == none.shape
    assert budget.norms(none).shape == (0,)
    assert budget.fill(none).shape == budget.random(none.shape, np.random.default_rng(0)).shape == none.shape


# --- the assertion ---


def spoilt(clean, where, value):
    images = clean.copy()
    images[where] = value
    return images


GREY = eight_bit(np.array([[0, 100, 255], [7, 128, 250]], np.uint8).reshape(1, 2, 1, 3).repeat(2, 0))
FIRST, WHITE, MIDDLE = (0, 0, 0, 0), (1, 0, 0, 2), (1, 1, 0, 1)


@pytest.mark.parametrize(
    ("norm", "epsilon", "images", "words"),
    [
        ("linf", 0.1, GREY[:1], "is not"),
        ("linf", 0.1, spoilt(GREY, FIRST, np.nan), "not finite"),
        ("l2", 0.1, spoilt(GREY, FIRST, np.inf), "not finite"),
        ("linf", 0.1, spoilt(GREY, FIRST, -1e-4), "below 0"),
        ("l2", 0.1, spoilt(GREY, FIRST, -1e-4), "below 0"),
        ("linf", 0.1, spoilt(GREY, WHITE, 1.0001), "above 1"),
        ("l2", 0.1, spoilt(GREY, WHITE, 1.0001), "above 1"),
        ("linf", 2 / 255, spoilt(GREY, MIDDLE, 130.1 / 255), "^the perturbation exceeds"),
        ("l2", 2 / 255, spoilt(GREY, MIDDLE, 130.1 / 255), "^the perturbation exceeds"),
        (
            "l2",
            2 / 255,
            GREY + np.float32(1 / 255) * np.array([1, -1, -1], np.float32),
            "perturbation exceeds",
        ),
        ("linf", 2.6 / 255, spoilt(GREY, MIDDLE, 130.58 / 255), "rounded perturbation exceeds"),
        ("l2", 2.6 / 255, spoilt(GREY, MIDDLE, 130.58 / 255), "rounded perturbation exceeds"),
    ],
)
def test_every_violation_is_noticed(norm, epsilon, images, words):
    with pytest.raises(AssertionError, match=words):
        Budget(epsilon, norm).check(images, GREY)


def test_images_at_the_very_bound_pass_the_assertion():
    for norm, steps in product(("linf", "l2"), (1, 2, 3, 5, 7)):
        Budget(steps / 255, norm).check(spoilt(GREY, MIDDLE, (128 + steps) / 255), GREY)
    Budget(2.4 / 255).check(spoilt(GREY, MIDDLE, 130.4 / 255), GREY)


# --- directions and random points ---


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_fill_goes_further_along_a_direction_than_any_point_of_the_ball(norm):
    rng, budget = np.random.default_rng(1), Budget(0.05, norm)
    direction = rng.normal(size=(4, 3, 3, 3)) * rng.uniform(0, 1, (4, 3, 3, 3))
    filled = budget.fill(direction)
    assert filled.dtype == np.float32
    np.testing.assert_allclose(budget.norms(filled), 0.05, rtol=1e-6)
    reach = (filled * direction).sum((1, 2, 3))
    for _ in range(300):
        noise = rng.normal(size=direction.shape) if norm == "l2" else rng.choice([-1.0, 1.0], direction.shape)
        for point in (noise, 0.5 * noise / np.abs(noise).max() + 0.5 * filled / np.abs(filled).max()):
            point = point * (0.05 / budget.norms(point))[:, None, None, None]
            assert ((point * direction).sum((1, 2, 3)) <= reach * (1 + 1e-6)).all()
    # The value of a linear function at its maximum over a ball is the dual norm of the function.
    dual = np.abs(direction).sum((1, 2, 3)) if norm == "linf" else sizes(direction, 0)
    np.testing.assert_allclose(reach, 0.05 * dual, rtol=1e-6)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_fill_with_a_share_for_each_image_and_without_a_direction(norm):
    budget = Budget(0.05, norm)
    direction = np.random.default_rng(2).normal(size=(3, 4, 4, 3))
    direction[1] = 0
    filled = budget.fill(direction, np.array([0.25, 0.5, 1.0]))
    np.testing.assert_allclose(budget.norms(filled), [0.0125, 0, 0.05], rtol=1e-6)
    np.testing.assert_allclose(filled[0], 0.25 * budget.fill(direction)[0], rtol=1e-6)
    np.testing.assert_allclose(budget.fill(direction, 0.5), 0.5 * budget.fill(direction), rtol=1e-6)
    np.testing.assert_array_equal(budget.fill(1e-12 * direction) != 0, direction != 0)
    np.testing.assert_allclose(budget.fill(1e-12 * direction), budget.fill(direction), rtol=1e-5)


@thorough
@given(images, fractions, fractions, radii, st.sampled_from(["linf", "l2"]))
def test_a_step_goes_along_its_direction_and_stays_in_the_ball(image, fraction, direction, epsilon, norm):
    clean, budget = eight_bit(image), Budget(min(epsilon, 1.0), norm)
    points, share = budget.project(clean + fraction, clean), np.array([0.25, 1.0], np.float32)
    moved = np.asarray(budget.mover(clean, share)(points, direction))
    expected = budget.project(points + budget.fill(direction, share), clean)
    np.testing.assert_array_equal(moved, expected)
    assert (budget.norms(np.subtract(moved, clean, dtype=np.float64)) <= budget.epsilon + 2**-23).all()


@thorough
@given(st.integers(0, 2**32), st.sampled_from(["linf", "l2"]), st.floats(1e-6, 1))
def test_random_points_lie_in_the_ball_and_depend_on_the_generator_alone(seed, norm, epsilon):
    budget = Budget(epsilon, norm)
    points = budget.random(SHAPE, np.random.default_rng(seed))
    assert points.dtype == np.float32
    assert points.shape == SHAPE
    assert (budget.norms(points) <= epsilon * (1 + 1e-6)).all()
    np.testing.assert_array_equal(points, budget.random(SHAPE, np.random.default_rng(seed)))


def test_random_points_are_uniform_in_the_ball():
    rng, n = np.random.default_rng(3), 4000
    cube = Budget(0.2, "linf").random((n, 1, 1, 3), rng).reshape(n, 3) / 0.2
    assert np.abs(cube.mean(0)).max() < 0.05
    np.testing.assert_allclose((cube**2).mean(0), 1 / 3, atol=0.02)
    ball = Budget(0.2, "l2").random((n, 1, 1, 3), rng).reshape(n, 3) / 0.2
    # Of a ball of three dimensions an eighth lies within half the radius.
    radius = np.sqrt((ball**2).sum(1))
    np.testing.assert_allclose([(radius <= r).mean() for r in (0.5, 0.8)], [0.125, 0.512], atol=0.03)
    np.testing.assert_allclose((ball**2).mean(0), 0.2, atol=0.02)
    assert np.abs(ball.mean(0)).max() < 0.05


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
