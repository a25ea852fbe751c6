"""Segmentation losses against slow definitions, and against their own numeric gradients."""

import keras
import numpy as np
import pytest

from voclab.backend import value_and_gradient
from voclab.data.base import VOID
from voclab.errors import VoclabError
from voclab.losses import (
    LOSSES,
    CrossEntropy,
    Focal,
    LovaszSoftmax,
    SoftDice,
    Sum,
    get_loss,
)

CLASSES = 5


def known(y, logits):
    """[(true class, probabilities)] of the valid pixels, in float64."""
    pairs = []
    for label, z in zip(np.asarray(y).ravel(), np.asarray(logits, np.float64).reshape(-1, logits.shape[-1])):
        if label != VOID:
            e = np.exp(z - z.max())
            pairs.append((int(label), e / e.sum()))
    return pairs


def slow_cross_entropy(y, logits):
    return np.mean([-np.log(p[k]) for k, p in known(y, logits)])


def slow_focal(y, logits, gamma=2.0):
    return np.mean([-((1 - p[k]) ** gamma) * np.log(p[k]) for k, p in known(y, logits)])


def slow_dice(y, logits):
    pairs = known(y, logits)
    terms = []
    for c in sorted({k for k, _ in pairs}):
        common = sum(p[c] for k, p in pairs if k == c)
        terms.append(1 - 2 * common / sum(p[c] + (k == c) for k, p in pairs))
    return np.mean(terms)


def slow_lovasz(y, logits):
    """The Lovász extension of the set function |wrong| / |truth or wrong|, from its definition."""
    pairs = known(y, logits)
    terms = []
    for c in sorted({k for k, _ in pairs}):
        truth = {i for i, (k, _) in enumerate(pairs) if k == c}
        errors = [abs((k == c) - p[c]) for k, p in pairs]
        wrong, before, term = set(), 0.0, 0.0
        for i in sorted(range(len(pairs)), key=lambda i: -errors[i]):
            wrong.add(i)
            jaccard = len(wrong) / len(truth | wrong)
            term += errors[i] * (jaccard - before)
            before = jaccard
        terms.append(term)
    return np.mean(terms)


TABLE = {
    "cross_entropy": (CrossEntropy(), slow_cross_entropy),
    "dice": (SoftDice(), slow_dice),
    "focal": (Focal(), slow_focal),
    "focal_half": (Focal(0.5), lambda y, z: slow_focal(y, z, 0.5)),
    "lovasz": (LovaszSoftmax(), slow_lovasz),
    "cross_entropy_dice": (
        get_loss("cross_entropy_dice"),
        lambda y, z: slow_cross_entropy(y, z) + slow_dice(y, z),
    ),
    "sum": (
        Sum([Focal(1.0), Sum([LovaszSoftmax(), CrossEntropy()])]),
        lambda y, z: slow_focal(y, z, 1.0) + slow_lovasz(y, z) + slow_cross_entropy(y, z),
    ),
}
every_loss = pytest.mark.parametrize(("loss", "slow"), TABLE.values(), ids=TABLE.keys())


def random_case(seed, shape=(2, 3, 4), void=0.3, classes=(0, 2, 3)):
    """Truth with void and without classes 1 and 4, and logits: (uint8, float32)."""
    rng = np.random.default_rng(seed)
    y = rng.choice(classes, shape).astype(np.uint8)
    y[rng.random(shape) < void] = VOID
    y[0, 0, 0], y[-1, -1, -1] = 2, VOID
    return y, rng.normal(0, 2, (*shape, CLASSES)).astype(np.float32)


CASES = {
    "some": random_case(0),
    "no_background": random_case(1, classes=(2, 3)),
    "one_class": random_case(2, classes=(2,)),
    "nearly_all_void": random_case(3, void=0.95),
    "all_classes": random_case(4, shape=(3, 4, 4), void=0.1, classes=range(CLASSES)),
}
every_case = pytest.mark.parametrize(("y", "logits"), CASES.values(), ids=CASES.keys())


def test_every_named_loss_is_in_the_table():
    assert set(LOSSES) <= set(TABLE)
    for name in LOSSES:
        assert type(get_loss(name)) is type(TABLE[name][0])
        assert get_loss(name) is not get_loss(name)


@every_loss
@every_case
def test_value_is_the_definition(loss, slow, y, logits):
    value = keras.ops.convert_to_numpy(loss(y, logits))
    assert value.shape == ()
    assert value.dtype == np.float32
    assert value == pytest.approx(slow(y, logits), rel=1e-5, abs=1e-6)


@every_loss
@pytest.mark.parametrize("case", ["some", "all_classes"])
def test_gradient_is_the_numeric_gradient_of_the_definition(loss, slow, case):
    y, logits = CASES[case]
    _, gradient = value_and_gradient(lambda z: loss(y, z), logits)
    numeric = np.zeros(logits.shape)
    for index in np.ndindex(logits.shape):
        step = np.zeros(logits.shape)
        step[index] = 1e-6
        numeric[index] = (slow(y, logits + step) - slow(y, logits - step)) / 2e-6
    assert np.abs(numeric).max() > 1e-3
    np.testing.assert_allclose(gradient, numeric, rtol=1e-3, atol=1e-6)


@every_loss
@every_case
def test_void_pixels_have_no_gradient_and_no_say(loss, slow, y, logits):
    value, gradient = value_and_gradient(lambda z: loss(y, z), logits)
    assert (gradient[y == VOID] == 0).all()
    assert (gradient[y != VOID] != 0).any()
    elsewhere = logits.copy()
    elsewhere[y == VOID] = np.random.default_rng(9).normal(0, 30, elsewhere[y == VOID].shape)
    changed, same_gradient = value_and_gradient(lambda z: loss(y, z), elsewhere)
    assert changed == pytest.approx(value, abs=1e-6)
    np.testing.assert_allclose(same_gradient, gradient, atol=1e-7)


@every_loss
def test_a_batch_of_void_gives_zero_and_a_zero_gradient(loss, slow):
    y, logits = CASES["some"]
    value, gradient = value_and_gradient(lambda z: loss(np.full_like(y, VOID), z), logits)
    assert value == 0
    assert (gradient == 0).all()


@every_loss
@pytest.mark.parametrize("certainty", [30, 300])
@every_case
def test_perfect_prediction_costs_nothing_and_the_opposite_does(loss, slow, y, logits, certainty):
    perfect = certainty * np.eye(CLASSES, dtype=np.float32)[np.where(y == VOID, 0, y)]
    value, gradient = value_and_gradient(lambda z: loss(y, z), perfect)
    assert value == pytest.approx(0, abs=1e-5)
    np.testing.assert_allclose(gradient, 0, atol=1e-5)
    wrong, gradient = value_and_gradient(lambda z: loss(y, z), -perfect)
    assert wrong > 0.1
    assert np.isfinite(gradient).all()


@every_loss
def test_half_precision_logits_give_a_float32_value(loss, slow):
    y, logits = CASES["some"]
    half = logits.astype(np.float16)
    value = keras.ops.convert_to_numpy(loss(y, half))
    assert value.dtype == np.float32
    assert value == pytest.approx(slow(y, half), rel=1e-5)


@every_loss
def test_keras_trains_with_it_where_the_image_size_is_unknown(loss, slow):
    y, logits = CASES["some"]
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((None, None, CLASSES)), keras.layers.Conv2D(CLASSES, 1)])
    model.compile(keras.optimizers.SGD(0.1), loss=loss)
    before = slow(y, keras.ops.convert_to_numpy(model(logits)))
    assert model.train_on_batch(logits, y) == pytest.approx(before, rel=1e-4)
    assert slow(y, keras.ops.convert_to_numpy(model(logits))) < before


def test_focal_without_focus_is_cross_entropy():
    y, logits = CASES["some"]
    assert float(Focal(0.0)(y, logits)) == pytest.approx(float(CrossEntropy()(y, logits)))


def test_an_absent_class_does_not_enter_dice_or_lovasz():
    y, logits = CASES["one_class"]
    only = [p[2] for _, p in known(y, logits)]
    assert float(SoftDice()(y, logits)) == pytest.approx(1 - 2 * np.sum(only) / (np.sum(only) + len(only)))
    # every pixel is of the class, so the union never grows and the extension is the mean error
    assert float(LovaszSoftmax()(y, logits)) == pytest.approx(1 - np.mean(only), rel=1e-5)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(VoclabError) as error:
        get_loss("jaccard")
    message = str(error.value)
    assert "'jaccard'" in message
    assert all(name in message for name in LOSSES)
    assert "\n" not in message
