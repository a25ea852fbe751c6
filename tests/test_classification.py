"""The linear head, features, test-time augmentation and whole experiments."""

from dataclasses import replace

import keras
import numpy as np
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from voclab import kaggle
from voclab.data import load
from voclab.data.batches import evaluation_batches
from voclab.data.splits import fit_validation
from voclab.errors import VoclabError
from voclab.metrics import mean_average_precision
from voclab.models.backbones import build_backbone
from voclab.models.classifiers import build_classifier, feature_extractor
from voclab.training import Experiment, Parts, Recipe
from voclab.training.classification import MultiLabelClassification
from voclab.training.experiment import refit, run
from voclab.training.features import fit_linear_head, pooled_features, predict_logits

RECIPE = Recipe(size=32, augmentation="standard", epochs=2, learning_rate=2e-3, batch_size=8)
OPTIONS = {"width": 4}


def quiet(line):
    """For runs whose progress nobody reads."""


def head_of(weights, views=0, **changes):
    task = MultiLabelClassification(views=views)
    experiment = Experiment("head", task, "cnn", RECIPE, weights=weights, frozen=True, options=OPTIONS)
    return replace(experiment, **changes)


def tuned_of(weights, name="tuned"):
    return head_of(weights, name=name, frozen=False, start="head")


@pytest.fixture(scope="module")
def parts(squares):
    train = squares.subset(range(36))
    return Parts(*fit_validation(train, 0.3, seed=0), squares.subset(range(36, 48), "test"))


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "cnn.weights.h5"
    keras.utils.set_random_seed(0)
    build_backbone("cnn", None, **OPTIONS).save_weights(path)
    return str(path)


@pytest.fixture(scope="module")
def head(parts, weights, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return run(head_of(weights, views=2), parts, folder, progress=quiet)


@pytest.mark.parametrize(("n", "d"), [(60, 8), (20, 90)])  # more samples than features, and fewer
def test_the_linear_head_is_the_optimum_that_scikit_learn_finds(n, d):
    rng = np.random.default_rng(0)
    raw = rng.normal(size=(2, n, d)).astype(np.float32)
    labels = (raw.mean(0) @ rng.normal(size=(d, 3)) > 0).astype(np.uint8)
    features = raw * rng.uniform(0.1, 5, d).astype(np.float32) + 3
    kernel, bias = fit_linear_head(features, labels, penalty=0.02)
    x = features.reshape(2 * n, d)
    x = (x - x.mean(0)) / (x.std(0) + 1e-6)
    y = np.tile(labels, (2, 1))
    for k in range(3):
        theirs = LogisticRegression(C=1 / (0.02 * 2 * n), tol=1e-8, max_iter=1000).fit(x, y[:, k])
        ours = (features.reshape(2 * n, d) @ kernel + bias)[:, k]
        np.testing.assert_allclose(ours, theirs.decision_function(x), atol=0.02)


def test_features_are_those_of_each_view(parts, weights):
    model = feature_extractor(build_classifier("cnn", 3, weights=weights, options=OPTIONS))
    views = pooled_features(model, parts.fit, (32, 48), augmentation="standard", views=1, batch_size=7)
    assert views.shape == (5, len(parts.fit), 64)
    np.testing.assert_allclose(
        views,
        pooled_features(model, parts.fit, (32, 48), augmentation="standard", views=1, batch_size=20),
        atol=1e-5,
    )
    assert not np.allclose(views[0], views[1])  # a mirror image
    assert not np.allclose(views[0], views[2])  # another size


def test_logits_of_a_mirrored_image_are_the_same(squares):
    model = build_classifier("cnn", 3, options=OPTIONS)
    mirrored = replace(squares, read_image=lambda i: squares.image(i)[:, ::-1].copy())
    ours, theirs = (predict_logits(model, d.subset(range(5)), (32, 40), 2) for d in (squares, mirrored))
    assert ours.shape == (5, 3)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_a_head_experiment_measures_what_its_model_predicts(head, parts):
    logits = head.predictions()
    assert set(logits) == {"validation", "test", "thresholds"}
    again = predict_logits(head.load_model(), parts.test, (32,), 5)
    np.testing.assert_allclose(logits["test"], again, atol=1e-4)
    expected = mean_average_precision(parts.test.labels, expit(again, dtype=float))
    assert head.metrics["test"]["map"] == pytest.approx(expected)
    assert head.metrics["test"]["map"] > parts.test.labels.mean() + 0.1  # better than chance
    assert head.metrics["trained_parameters"] == 64 * 3 + 3 < head.metrics["parameters"]
    assert head.metrics["seconds"] > 0


def test_the_penalty_is_the_best_one_on_validation_data(head):
    tried = {t["penalty"]: t["map"] for t in head.metrics["penalties"]}
    assert tried[head.metrics["penalty"]] == max(tried.values())
    assert len(tried) >= 2


def test_fine_tuning_starts_from_the_head_and_is_never_worse_on_validation_data(head, parts, weights):
    lines = []
    tuned = run(tuned_of(weights), parts, head.folder.parent, progress=lines.append)
    history = tuned.history
    (pixels,) = evaluation_batches(parts.validation, 32, 20)
    started_from = mean_average_precision(parts.validation.labels, head.load_model().predict_on_batch(pixels))
    assert history[0]["map"] == pytest.approx(started_from)
    assert max(e["map"] for e in history) >= history[0]["map"]
    assert tuned.metrics["seconds"] > head.metrics["seconds"]  # both phases count
    assert any("min left" in line for line in lines)
    again = run(tuned_of(weights), parts, head.folder.parent, progress=lines.append)
    assert "complete" in lines[-1]
    assert again.metrics == tuned.metrics


def test_the_chosen_model_is_refitted_on_all_images_with_nothing_chosen_anew(head, parts, weights):
    tuned, started = tuned_of(weights, "tuned2"), head_of(weights, views=2)
    folder = head.folder.parent
    chosen = run(tuned, parts, folder, progress=quiet)
    final = refit(tuned, {"head": started}, parts, folder, progress=quiet)
    epochs = max(chosen.history, key=lambda e: e["map"])["epoch"]
    assert final.history[-1]["epoch"] == epochs
    np.testing.assert_array_equal(final.predictions()["thresholds"], chosen.predictions()["thresholds"])
    assert final.metrics["seconds"] > 0
    assert "validation" not in final.metrics
    expected = predict_logits(final.load_model(), parts.test, (32,), 5)
    np.testing.assert_allclose(final.predictions()["test"], expected, atol=1e-4)

    # its head is the optimum on both parts together at the penalty chosen before
    model = refit(started, {}, parts, folder, progress=quiet).load_model()
    extractor = feature_extractor(model)
    views = [
        pooled_features(extractor, part, (32,), augmentation="standard", views=2)
        for part in (parts.fit, parts.validation)
    ]
    labels = np.concatenate([parts.fit.labels, parts.validation.labels])
    kernel, _ = fit_linear_head(np.concatenate(views, axis=1), labels, head.metrics["penalty"])
    np.testing.assert_allclose(model.get_layer("logits").get_weights()[0], kernel, atol=1e-3)


def test_fine_tuning_without_its_start_says_what_to_run(parts, weights, tmp_path):
    with pytest.raises(VoclabError, match="run the experiment 'head' first"):
        run(tuned_of(weights), parts, tmp_path, progress=quiet)


def test_a_held_out_set_without_truth_is_predicted_not_measured(parts, weights, tmp_path):
    unknown = replace(parts, test=replace(parts.test, labels=None))
    found = run(head_of(weights), unknown, tmp_path, progress=quiet)
    assert found.metrics["test"] is None
    assert found.predictions()["test"].shape == (12, 3)


def test_the_written_rows_score_what_the_metrics_say(head, parts, tmp_path):
    logits = head.predictions()
    predicted = (expit(logits["test"], dtype=float) >= logits["thresholds"]).astype(np.uint8)
    pad = ((0, 0), (0, 17))  # the competition has twenty classes
    kaggle.write_submission(tmp_path / "p.csv", parts.test.ids, labels=np.pad(predicted, pad))
    kaggle.write_submission(tmp_path / "t.csv", parts.test.ids, labels=np.pad(parts.test.labels, pad))
    score = kaggle.score_submission(tmp_path / "p.csv", tmp_path / "t.csv")
    assert score.classification == pytest.approx(head.metrics["test"]["dice"], abs=1e-12)


def test_real_images_score_as_an_independent_computation_says(shared, tmp_path):
    """Predictions for real test images, scored by the scorer and by the definition on sets."""
    train = load("voc2009", shared / "voc2009", "train").subset(range(0, 571, 6))
    test_set = load("voc2009", shared / "voc2009", "val").subset(range(0, 574, 12), "test")
    fit_set, validation = fit_validation(train, 0.3, seed=0)
    weights = str(shared / "weights" / "mobilenet_v2_1.0_224_no_top.weights.h5")
    recipe = Recipe(size=128, augmentation="none", epochs=0, learning_rate=0.0)
    experiment = head_of(weights, model="mobilenet_v2", recipe=recipe, options={})
    found = run(experiment, Parts(fit_set, validation, test_set), tmp_path, progress=quiet)
    assert found.metrics["test"]["map"] > 0.35  # a random order gives about 0.1

    logits = found.predictions()
    labels = (expit(logits["test"], dtype=float) >= logits["thresholds"]).astype(np.uint8)
    maps = [test_set.mask(i) for i in range(len(test_set))]
    guesses = [np.roll(m, 5, axis=1) for m in maps]
    kaggle.write_submission(tmp_path / "p.csv", test_set.ids, labels=labels, label_maps=guesses)
    kaggle.write_submission(tmp_path / "t.csv", test_set.ids, labels=test_set.labels, label_maps=maps)
    score = kaggle.score_submission(tmp_path / "p.csv", tmp_path / "t.csv")

    def dice(a, b) -> float:
        return 2 * len(np.intersect1d(a, b)) / (len(a) + len(b)) if len(a) + len(b) else 1.0

    def positions(label_map):  # in the stack of twenty masks, in C order
        where = np.flatnonzero((label_map > 0) & (label_map <= 20))
        return (label_map.ravel()[where].astype(np.int64) - 1) * label_map.size + where

    by_labels = [dice(np.flatnonzero(p), np.flatnonzero(t)) for p, t in zip(labels, test_set.labels)]
    by_pixels = [dice(positions(p), positions(t)) for p, t in zip(guesses, maps)]
    assert score.classification == pytest.approx(np.mean(by_labels), abs=1e-12)
    assert score.segmentation == pytest.approx(np.mean(by_pixels), abs=1e-12)
    assert score.mean == pytest.approx(np.mean(by_labels + by_pixels), abs=1e-12)
