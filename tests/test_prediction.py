"""From images to label maps: sizes, order, views, laziness."""

import cv2
import keras
import numpy as np
import pytest
from keras import layers

from voclab.backend import compiled
from voclab.errors import VoclabError
from voclab.models.network import Network
from voclab.models.prediction import TestTime, full_size_logits

PLAIN = TestTime((64,), flip=False)
SHAPES = [(37, 53), (64, 64), (100, 300), (53, 37), (37, 53), (80, 64), (64, 64)]


def _images(shapes, seed=0):
    rng = np.random.default_rng(seed)
    # smooth, so that resizing keeps what is in them
    return [cv2.resize(rng.integers(0, 256, (5, 6, 3), np.uint8), shape[::-1]) for shape in shapes]


def _convolution(kernel, classes=3, seed=0):
    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, layers.Conv2D(classes, kernel, padding="same")(inputs))
    rng = np.random.default_rng(seed)
    model.set_weights([rng.normal(size=w.shape).astype(np.float32) for w in model.get_weights()])
    return model


def _logits(model, test_time, images, batch_size=8):
    return full_size_logits(compiled(model), images, test_time, batch_size)


@pytest.fixture(scope="module")
def local():
    """Logits of a pixel that depend on that pixel alone."""
    return _convolution(1)


@pytest.fixture(scope="module")
def wide():
    """Logits that depend on the surroundings, left and right differently."""
    return _convolution(5)


@pytest.mark.parametrize("test_time", [PLAIN, TestTime((64, 96))], ids=["plain", "scales"])
def test_logits_and_masks_have_the_size_of_their_image(test_time, wide):
    images = _images(SHAPES)
    logits = list(_logits(wide, test_time, images, 3))
    masks = list(Network(wide, "segmentation", test_time=test_time).label_maps(images, 3))
    assert [x.shape for x in logits] == [(*shape, 3) for shape in SHAPES]
    assert all(x.dtype == np.float32 for x in logits)
    assert all(m.dtype == np.uint8 for m in masks)
    for x, m in zip(logits, masks, strict=True):
        np.testing.assert_array_equal(m, x.argmax(-1))


def test_a_single_class_keeps_its_axis():
    (logits,) = _logits(_convolution(1, classes=1), PLAIN, _images([(37, 53)]))
    assert logits.shape == (37, 53, 1)


def test_no_image_gives_no_mask(wide):
    assert list(Network(wide, "segmentation", test_time=PLAIN).label_maps([])) == []


def test_a_image_is_scaled_to_the_range_of_pixels(local):
    """The model of pixels in [0, 1] sees a grey image as its grey / 255."""
    kernel, bias = local.get_weights()
    for grey in (0, 51, 255):
        (logits,) = _logits(local, PLAIN, [np.full((40, 50, 3), grey, np.uint8)])
        expected = kernel[0, 0].sum(0) * grey / 255 + bias
        np.testing.assert_allclose(logits, np.broadcast_to(expected, (40, 50, 3)), atol=1e-5)


def test_images_of_mixed_shapes_come_out_in_order(local):
    """Every image has a grey of its own, so a swap would show."""
    kernel, bias = local.get_weights()
    images = [np.full((*shape, 3), 30 * k, np.uint8) for k, shape in enumerate(SHAPES)]
    logits = list(_logits(local, TestTime((64,)), images, 4))
    for k, (shape, x) in enumerate(zip(SHAPES, logits, strict=True)):
        assert x.shape[:2] == shape
        np.testing.assert_allclose(x[0, 0], kernel[0, 0].sum(0) * 30 * k / 255 + bias, atol=1e-5)


@pytest.mark.parametrize("batch_size", [2, 3, 50])
def test_the_batch_size_changes_nothing(batch_size, wide):
    images, test_time = _images(SHAPES), TestTime((64, 96))
    ours, theirs = (_logits(wide, test_time, images, size) for size in (batch_size, 1))
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


def test_a_mirrored_image_gives_mirrored_logits(wide):
    images = _images([(64, 96), (45, 101)])
    mirrored = [image[:, ::-1].copy() for image in images]

    def difference(flip):
        test_time = TestTime((96,), flip=flip)
        pairs = zip(*(_logits(wide, test_time, x) for x in (images, mirrored)), strict=True)
        return max(float(np.abs(a - b[:, ::-1]).max()) for a, b in pairs)

    assert difference(flip=True) < 0.1  # an image is rounded to bytes when it is resized
    assert difference(flip=False) > 1.0


def test_several_sizes_are_averaged(wide):
    images = _images([(60, 90), (33, 47)])
    both, small, large = (
        list(_logits(wide, TestTime(sizes), images)) for sizes in ((64, 128), (64,), (128,))
    )
    for a, b, c in zip(both, small, large, strict=True):
        np.testing.assert_allclose(a, (b + c) / 2, atol=1e-4)
        assert np.abs(b - c).max() > 0.01


def test_logits_are_resized_not_labels():
    """A boundary between two coarse pixels lies where the logits say, not at the coarse pixels' rim."""
    ramp = np.broadcast_to(np.arange(256, dtype=np.uint8)[None, :, None], (256, 256, 3)).copy()
    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, layers.Conv2D(2, 1)(inputs))
    for boundary in (99, 100, 101, 102):
        weights = np.zeros((1, 1, 3, 2), np.float32)
        weights[0, 0, 0, 1] = 1.0
        model.set_weights([weights, np.array([0, -boundary / 255], np.float32)])
        (mask,) = Network(model, "segmentation", test_time=PLAIN).label_maps(
            [ramp]
        )  # a coarse pixel is 4 pixels wide
        found = mask.argmax(1)
        assert abs(found - boundary).max() <= 1
        assert len(np.unique(found)) == 1


def test_images_are_read_no_sooner_than_needed(local):
    read = []

    def images():
        for k in range(10):
            read.append(k)
            yield np.zeros((32, 32, 3), np.uint8)

    logits = _logits(local, PLAIN, images(), 3)
    assert read == []
    for done, _ in enumerate(logits, 1):
        assert len(read) == min(10, -(-done // 3) * 3)


@pytest.mark.parametrize(
    ("sizes", "sentence"),
    [
        ((), r"Test sizes \(\) must be one or more sides of 32 px or more"),
        ((64, 16), r"Test sizes \(64, 16\) must be"),
    ],
)
def test_a_way_of_testing_that_cannot_be_is_one_sentence(sizes, sentence):
    with pytest.raises(VoclabError, match=sentence):
        TestTime(sizes)


def test_a_model_is_traced_once_whatever_the_batch_and_the_size():
    traced = []

    def model(pixels, training):
        assert training is False
        traced.append(tuple(pixels.shape))
        return pixels * 2

    forward = compiled(model)
    for shape in [(1, 32, 32), (5, 32, 32), (2, 32, 64), (7, 32, 64), (1, 32, 32)]:
        pixels = np.random.default_rng(0).random((*shape, 3), np.float32)
        result = forward(pixels)
        assert isinstance(result, np.ndarray)
        np.testing.assert_array_equal(result, pixels * 2)
    assert traced == [(None, None, None, 3)]


def test_a_compiled_model_follows_its_weights(local):
    model = keras.models.clone_model(local)
    forward, pixels = compiled(model), np.ones((1, 32, 32, 3), np.float32)
    before = forward(pixels)
    model.set_weights([w + 1 for w in model.get_weights()])
    np.testing.assert_allclose(forward(pixels), before + 4, atol=1e-5)


def test_a_classifier_sees_all_views_and_its_logits_are_averaged():
    inputs = keras.Input((None, None, 3))
    x = layers.Conv2D(4, 5, padding="same", activation="relu")(inputs)  # left and right differ
    model = keras.Model(inputs, layers.GlobalMaxPooling2D()(x))
    (image,) = _images([(64, 128)])
    half = cv2.resize(image, (64, 32), interpolation=cv2.INTER_AREA)
    views = np.asarray(image, np.float32) / 255, np.asarray(half, np.float32) / 255
    each = [np.asarray(model(seen[None]))[0] for view in views for seen in (view, view[:, ::-1])]
    (found,) = Network(model, "multilabel", test_time=TestTime((128, 64))).all_views([image])
    np.testing.assert_allclose(found, np.mean(each, axis=0), atol=1e-5)
    assert np.abs(each[0] - each[1]).max() > 0.01
