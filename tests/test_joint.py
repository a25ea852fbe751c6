"""One network that classifies and segments: its heads, its loss, its training."""

from dataclasses import replace

import keras
import numpy as np
import pytest
from scipy.special import log_softmax
from sklearn.metrics import log_loss

from voclab.data.splits import fit_validation
from voclab.losses import Presence
from voclab.metrics import mean_average_precision
from voclab.models.joint import Evidence, build_joint, classifier_of, segmenter_of
from voclab.models.prediction import TestTime
from voclab.models.segmenters import ENCODER
from voclab.training import Experiment, Parts, Recipe
from voclab.training.experiment import refit, run
from voclab.training.joint import Joint
from voclab.training.segmentation import measure, predicted_masks

SMALL = {"width": 8, "finest": 8, "options": {"width": 4}}
RECIPE = Recipe(size=32, augmentation="standard", epochs=2, learning_rate=1e-2, batch_size=8, warmup=0.0)
TASK = Joint(TestTime((64,)), looked_at=48)
FROZEN = Experiment("frozen", TASK, "joint", RECIPE, backbone="cnn", frozen=True, options=SMALL)
TUNED = replace(FROZEN, name="tuned", frozen=False, start="frozen")


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return build_joint("cnn", 5, **SMALL)


def _images(n, height, width):
    return np.random.default_rng(0).random((n, height, width, 3), dtype=np.float32)


@pytest.mark.parametrize("shape", [(32, 32), (50, 75)])
def test_every_image_gets_classes_and_a_map_of_its_own_size(model, shape):
    found = model.predict_on_batch(_images(2, *shape))
    assert found["presence"].shape == (2, 4)
    assert found["logits"].shape == (2, *shape, 5)


def test_the_parts_answer_as_the_whole(model):
    images = _images(2, 48, 64)
    found = model.predict_on_batch(images)
    np.testing.assert_allclose(classifier_of(model).predict_on_batch(images), found["presence"], atol=1e-6)
    np.testing.assert_allclose(segmenter_of(model).predict_on_batch(images), found["logits"], atol=1e-6)


def test_what_is_sure_at_one_place_speaks_for_the_class():
    logits = np.random.default_rng(1).normal(0, 3, (2, 4, 5, 3)).astype(np.float32)
    layer = Evidence()
    layer.build(logits.shape)
    layer.scale.assign([2.0, 0.5])
    layer.shift.assign([0.25, -1.0])
    expected = np.array([2.0, 0.5]) * log_softmax(logits, axis=-1)[..., 1:].max((1, 2)) + [0.25, -1.0]
    np.testing.assert_allclose(layer(logits), expected, rtol=1e-5)


def test_presence_is_the_cross_entropy_of_the_classes_that_cover_enough():
    masks = np.zeros((2, 20, 20), np.uint8)
    masks[0, :10] = 1
    masks[0, 10:, :2] = 255  # void is no class
    masks[1, 0, 0] = 2  # 1 of 400 pixels is 0.25 %
    masks[1, :, 5:] = 3
    logits = np.random.default_rng(2).normal(0, 2, (2, 3))
    truth = np.array([[1, 0, 0], [0, 1, 1]])
    expected = log_loss(truth.ravel(), 1 / (1 + np.exp(-logits.ravel())))
    assert float(Presence(3.0)(masks, logits)) == pytest.approx(3 * expected, rel=1e-5)
    truth[1, 1] = 0
    expected = log_loss(truth.ravel(), 1 / (1 + np.exp(-logits.ravel())))
    assert float(Presence(share=0.01)(masks, logits)) == pytest.approx(expected, rel=1e-5)


@pytest.fixture(scope="module")
def parts(squares):
    """Whole batches only: another shape is another graph, which costs more than the training."""
    fit_set, validation = fit_validation(squares.subset(range(32)), 0.25, seed=0)
    assert (len(fit_set), len(validation)) == (24, 8)
    return Parts(fit_set, validation, squares.subset(range(32, 40), "test"))


@pytest.fixture(scope="module")
def trained(parts, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return folder, [run(e, parts, folder, progress=lambda line: None) for e in (FROZEN, TUNED)]


def test_both_heads_learn_and_both_are_measured(trained, parts):
    _, (_, tuned) = trained
    assert all({"dice", "map"} <= set(entry) for entry in tuned.history)
    assert {"presence_loss", "logits_loss"} <= set(tuned.history[1])
    logits = tuned.predictions()["test_logits"]
    assert tuned.metrics["test"]["map"] == mean_average_precision(parts.test.labels, logits)
    metrics, _ = measure((predicted_masks(tuned, "test")[name] for name in parts.test.ids), parts.test)
    assert tuned.metrics["test"]["mean_dice"] == pytest.approx(metrics.mean_dice())


def test_a_frozen_encoder_stays_and_the_next_run_goes_on_from_it(trained):
    _, (frozen, tuned) = trained

    def encoder(of):
        return of.load_model().get_layer(ENCODER).get_weights()

    keras.utils.set_random_seed(RECIPE.seed)
    fresh = build_joint("cnn", 4, **SMALL).get_layer(ENCODER).get_weights()
    trainable = [w.ndim > 1 for w in fresh]
    assert all((a == b).all() for a, b, k in zip(fresh, encoder(frozen), trainable, strict=True) if k)
    assert tuned.history[0]["map"] == frozen.history[-1]["map"]


def test_a_refit_trains_the_chosen_number_of_epochs_on_all_images(trained, parts):
    folder, _ = trained
    again = refit(FROZEN, {FROZEN.name: FROZEN}, parts, folder, progress=lambda line: None)
    assert again.history[-1]["epoch"] == RECIPE.epochs
    assert 0 <= again.metrics["test"]["map"] <= 1
