"""Averages over looks and networks: what the rows hold, how members are chosen, what is said."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, softmax
from sklearn.metrics import average_precision_score

from voclab.data.images import resized
from voclab.experiments import averages
from voclab.metrics import SegmentationMetrics
from voclab.models.prediction import TestTime
from voclab.training import Experiment, Parts, Recipe, run
from voclab.training.classification import MultiLabelClassification
from voclab.training.segmentation import Segmentation


@pytest.fixture(scope="module")
def parts(squares) -> Parts:
    """The squares as images to fit, choose and measure on."""
    return Parts(*(squares.subset(range(k, 48, 3), name) for k, name in enumerate(("fit", "val", "test"))))


@pytest.fixture(scope="module")
def classifiers(parts, tmp_path_factory):
    """Two small classifiers that are measured at two sizes."""
    task = MultiLabelClassification(test_sizes=(24, 32))
    recipe = Recipe(32, "none", 2, 3e-3, batch_size=8)
    made = {}
    for name, width in (("narrow", 4), ("wide", 8)):
        experiment = Experiment(name, task, "cnn", recipe, options={"width": width})
        made[name] = run(experiment, parts, tmp_path_factory.mktemp("runs"), progress=lambda _: None)
    return made


@pytest.fixture(scope="module")
def segmenters(parts, tmp_path_factory):
    """Two small segmenters, one of which looks twice."""
    recipe = Recipe(32, "none", 3, 1e-2, batch_size=8)
    first = Experiment(
        "one",
        Segmentation(TestTime((64,), flip=False)),
        "unet",
        recipe,
        loss="cross_entropy_dice",
        options={"width": 8, "depth": 2},
    )
    second = replace(
        first, name="two", task=Segmentation(TestTime((64, 96))), options={"width": 4, "depth": 2}
    )
    folder = tmp_path_factory.mktemp("runs")
    return {e.name: run(e, parts, folder, progress=lambda _: None) for e in (first, second)}


def test_rows_of_classifiers_hold_what_their_titles_say(classifiers, parts, tmp_path):
    ways = averages.of_classifiers(classifiers, parts.validation, parts.test, "test", tmp_path)
    best = max(classifiers, key=lambda name: classifiers[name].metrics["validation"]["map"])
    model = classifiers[best].load_model()

    def at(part, size):
        return np.stack([resized(part.image(i), size) for i in range(len(part))])

    known = parts.validation.labels
    precision = {
        size: average_precision_score(known, model.predict_on_batch(at(parts.validation, size)))
        for size in (24, 32)
    }
    title, *rest = ways  # the first is of the side that is best on validation images
    assert title == f"one view, {max(precision, key=precision.get)} px"
    assert rest[1] == "24 and 32 px, each with its mirror image"
    pixels = at(parts.test, max(precision, key=precision.get))
    plain, mirrored = model.predict_on_batch(pixels), model.predict_on_batch(pixels[:, :, ::-1])
    assert ways[title].scored == pytest.approx(expit(plain), abs=1e-4)
    assert ways[averages.MIRRORED].scored == pytest.approx(expit((plain + mirrored) / 2), abs=1e-4)
    assert ways[rest[1]].scored == pytest.approx(expit(classifiers[best].predictions()["test"]))
    everyone = np.mean([expit(done.predictions()["test"]) for done in classifiers.values()], axis=0)
    assert ways["all 2 networks, all views"].scored == pytest.approx(everyone)
    assert ways[averages.MIRRORED].milliseconds == 2 * ways[title].milliseconds


def test_what_was_counted_is_read_back(segmenters, parts, tmp_path):
    lines = []
    given = (segmenters, parts.validation, parts.test, "test", tmp_path, 2, lines.append)
    first = averages.of_segmenters(*given)
    counted = len(lines)
    again = averages.of_segmenters(*given)
    assert len(lines) == counted > 0
    assert list(again) == list(first)
    assert all(np.array_equal(again[title].scored, way.scored) for title, way in first.items())


def test_the_view_that_averages_are_compared_with_has_the_best_side(segmenters, parts, tmp_path):
    ways = averages.of_segmenters(
        segmenters, parts.validation, parts.test, "test", tmp_path, 2, lambda _: None
    )
    best = max(segmenters, key=lambda name: segmenters[name].metrics["validation"]["mean_dice"])
    network = averages.open_network(segmenters[best].folder, parts.test)
    dices = {}
    for size in {32, *network.test_time.sizes}:  # that of training, and those of measuring
        looks = replace(network, test_time=TestTime((size,), flip=False))
        counts = averages._counted([looks], parts.validation, lambda _: None)["averages"][0]
        dices[f"one view, {size} px"] = averages.dice(counts, slice(None))
    assert len(set(dices.values())) > 1
    assert next(iter(ways)) == max(dices, key=dices.get)


def test_averages_of_segmenters_are_those_of_probabilities(segmenters, parts):
    order = sorted(segmenters, key=lambda n: -segmenters[n].metrics["validation"]["mean_dice"])
    members = [averages.open_network(segmenters[name].folder, parts.test) for name in order]
    found = averages._counted(members, parts.test, lambda _: None)
    # Of one member it is what training measured, image by image.
    assert np.array_equal(found["averages"][0], segmenters[order[0]].predictions()["test"])
    images = [parts.test.image(i) for i in range(len(parts.test))]
    shares = [[softmax(z, axis=-1) for z in member.all_views(images)] for member in members]
    metrics = SegmentationMetrics(4, boundaries=False)
    for i, (one, two) in enumerate(zip(*shares, strict=True)):
        metrics.update(parts.test.mask(i), ((one + two) / 2).argmax(-1).astype(np.uint8))
    counts = found["averages"][1].sum(0)
    assert np.array_equal(counts[0], np.diag(metrics.matrix))
    assert np.array_equal(counts[2], metrics.matrix.sum(1))


def test_members_are_those_that_are_best_together():
    truth = np.array([[1, 0], [0, 1], [1, 0], [0, 1]])
    good = np.array([[0.9, 0.2], [0.3, 0.8], [0.2, 0.4], [0.1, 0.7]])
    other = np.array([[0.3, 0.2], [0.6, 0.5], [0.9, 0.1], [0.3, 0.2]])
    bad = 1 - truth.astype(float)

    def score(answers):
        return (answers.argmax(1) == truth.argmax(1)).mean()

    answers = {"bad": bad, "other": other, "good": good}
    assert averages.chosen_members(answers, score) == ["good", "other"]
    assert averages.chosen_members(answers, score, most=1) == ["good"]
    assert averages.chosen_members({"good": good, "same": good}, score) == ["good"]


def test_the_table_compares_with_the_first_row_and_the_finding_follows_validation():
    rng = np.random.default_rng(0)
    right = rng.random(200) < 0.6
    better = right | (rng.random(200) < 0.5)
    ways = {
        "first": averages.Way(right[:100], right[100:], 10.0),
        "second": averages.Way(better[:100], better[100:], 30.0),
        "same": averages.Way(right[:100], right[100:], 30.0),
    }
    found = averages.table(ways, *[lambda answers, index: float(answers.mean())] * 2, "accuracy")
    assert found.loc["second", "difference"] == pytest.approx(better[100:].mean() - right[100:].mean())
    assert 0 < found.loc["second", "low"] < found.loc["second", "difference"] < found.loc["second", "high"]
    assert found.loc["same", ["difference", "low", "high"]].tolist() == [0, 0, 0]
    assert "*second*" in averages.finding(found, "accuracy")
    assert "3.0 times" in averages.finding(found, "accuracy")
    assert "decide" not in averages.finding(found, "accuracy")
    undecided = found.assign(low=-0.1, high=0.2)
    assert "does not decide" in averages.finding(undecided, "accuracy")
    alone = pd.DataFrame(found.loc[["first", "same"]])
    assert "no average" in averages.finding(alone, "accuracy")
