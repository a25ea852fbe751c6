"""Prediction consistency and feature similarity, on networks whose answers can be worked out."""

import keras
import numpy as np
import pytest
from keras import layers
from scipy.spatial.distance import cosine
from voc_trees import fails

from voclab.corruptions import CONSISTENCY, Setting
from voclab.data.images import eight_bit
from voclab.evaluation.consistency import (
    ALL,
    Consistency,
    consistency,
    feature_similarity,
    one_image,
    summary,
)
from voclab.models.network import Network


def colours():
    """A network whose features are the mean colour and whose answer is the strongest of them."""
    inputs = keras.Input((None, None, 3))
    maps = layers.Activation("linear", name="maps")(inputs)
    deeper = layers.Rescaling(2.0, name="deeper")(maps)
    return keras.Model(inputs, layers.GlobalAveragePooling2D()(deeper), name="colours")


def corner():
    """A network that looks at the upper left quarter only."""
    inputs = keras.Input((16, 16, 3))
    maps = layers.Cropping2D(((0, 8), (0, 8)), name="maps")(inputs)
    return keras.Model(inputs, layers.GlobalAveragePooling2D()(maps))


def network(model, layer=None):
    return Network(model, "multiclass", model.name, size=16, layer=layer)


def test_a_network_gives_features_and_answers():
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 10, 3)).astype(np.uint8)
    mean, images = images.mean((1, 2)) / 255, eight_bit(images)
    features, answers = network(colours(), "maps").features(images)
    np.testing.assert_allclose(features, mean, rtol=1e-5)
    np.testing.assert_allclose(answers, 2 * mean, rtol=1e-5)
    assert (features.dtype, answers.dtype) == (np.float32, np.float32)
    assert network(colours()).feature_layer == "deeper"
    np.testing.assert_allclose(network(colours()).features(images)[0], 2 * mean, rtol=1e-5)


def test_a_layer_that_is_not_there_is_one_sentence():
    fails("no layer nowhere; choose one of maps, deeper", lambda: network(colours(), "nowhere").feature_layer)
    flat = keras.Sequential([keras.Input((4,)), layers.Dense(2)])
    fails("no layer that gives a map", lambda: network(flat).feature_layer)


def test_similarities_are_those_of_their_definitions():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(2, 5, 7))
    found = feature_similarity(a, b)
    np.testing.assert_allclose(found["cosine"], [1 - cosine(x, y) for x, y in zip(a, b, strict=True)])
    distances = [np.sqrt(((x - y) ** 2).sum() / (x**2).sum()) for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(found["euclidean"], 1 / (1 + np.array(distances)))
    same = feature_similarity(a, a)
    np.testing.assert_allclose([same["cosine"], same["euclidean"]], 1)
    np.testing.assert_allclose(feature_similarity(a, -a)["cosine"], -1)
    np.testing.assert_allclose(feature_similarity(a, 2 * a)["euclidean"], 0.5)
    zero = np.zeros((1, 3))
    assert {k: float(v[0]) for k, v in feature_similarity(zero, zero).items()} == {
        "cosine": 1,
        "euclidean": 1,
    }
    assert {k: float(v[0]) for k, v in feature_similarity(zero, zero + 1).items()} == {
        "cosine": 0,
        "euclidean": 0,
    }


def test_what_a_network_cannot_see_it_keeps(squares):
    """Mean colour does not notice where things are; a corner does."""
    data = squares.subset(range(10))
    turns = {k: CONSISTENCY[k] for k in CONSISTENCY if CONSISTENCY[k].name in ("rotation", "horizontal_flip")}
    assert len(turns) == 2
    blind = consistency(network(colours()), data, turns)
    assert blind.kept.all()
    np.testing.assert_allclose(blind.cosine, 1, atol=1e-6)
    np.testing.assert_allclose(blind.euclidean, 1, atol=1e-5)
    seeing = consistency(network(corner()), data, turns)
    assert not seeing.kept.all()
    assert seeing.cosine.min() < 0.99


def test_all_ten_on_some_images(squares):
    lines = []
    data = squares.subset(range(7))
    found = consistency(network(colours()), data, batch_size=4, progress=lines.append)
    assert found.titles == tuple(CONSISTENCY)
    assert found.kept.shape == found.cosine.shape == found.euclidean.shape == (7, 10)
    assert lines[-1].endswith("7/7 images")
    whole = consistency(network(colours()), data, batch_size=7)
    np.testing.assert_array_equal(found.kept, whole.kept)
    np.testing.assert_allclose(found.euclidean, whole.euclidean, rtol=1e-4)
    other = consistency(network(colours()), data, seed=1)
    random = [k for k, title in enumerate(CONSISTENCY) if "noise" in CONSISTENCY[title].name]
    assert (found.euclidean[:, random] != other.euclidean[:, random]).any()


def test_nothing_changes_at_strength_zero(squares):
    still = {title: Setting(setting.name, 0) for title, setting in CONSISTENCY.items()}
    found = consistency(network(colours()), squares.subset(range(4)), still)
    assert found.kept.all()
    np.testing.assert_allclose(found.euclidean, 1, atol=1e-5)


def test_no_images_is_one_sentence(squares):
    fails("holds no images", consistency, network(colours()), squares.subset([]))


def made(kept):
    kept = np.array(kept, bool)
    return Consistency("n", ("a", "b"), np.zeros(len(kept), int), kept, kept * 0.5, kept * 0.25)


def test_a_summary_has_means_and_intervals_over_images():
    rng = np.random.default_rng(0)
    result = made(rng.random((200, 2)) < [0.9, 0.3])
    table = summary(result)
    assert list(table.index) == ["a", "b", ALL]
    np.testing.assert_allclose(table["kept"], [*result.kept.mean(0), result.kept.mean()])
    np.testing.assert_allclose(table["cosine"], table["kept"] / 2)
    width = 1.96 * result.kept[:, 1].std() / np.sqrt(200)  # of the normal approximation
    assert table.loc["b", "kept high"] - table.loc["b", "kept"] == pytest.approx(width, rel=0.15)
    assert table.loc["b", "kept"] - table.loc["b", "kept low"] == pytest.approx(width, rel=0.15)
    assert summary(result).equals(table)


def test_a_single_image_can_say_anything():
    found = one_image(made([[1, 1]] * 6 + [[0, 0]] * 2 + [[1, 0]] * 2))
    assert found == {"mean": 0.7, "low": 0.0, "high": 1.0, "all": 0.6, "none": 0.2}
