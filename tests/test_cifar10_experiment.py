"""Notebook 05's study: what is trained, how sure a share is, what several networks get together."""

from pathlib import Path

import numpy as np
import pytest

from toyvoc.cifar import make_toycifar
from voclab import plotting
from voclab.data import load
from voclab.experiments import cifar10 as study
from voclab.experiments import hardening
from voclab.experiments.training import network, recipe_of, train_classifier
from voclab.models.pretrained import Weights
from voclab.profiles import PROFILES, profile_for

CNN = Weights("cnn", "none", None, "for the test")


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize("data", ["toycifar", "cifar10"])
def test_every_planned_network_can_be_built(name, data):
    profile = profile_for(name, data)
    for plan in (
        *study.plans(profile, Path("x"), CNN, 3).values(),
        *hardening.plans(profile, Path("x"), 3).values(),
    ):
        assert plan.seed == 3
        assert network(plan, 32, 10).output_shape == (None, 10)


def test_the_transfer_model_is_the_one_that_weights_are_for():
    profile = profile_for("demo", "cifar10")
    own = Weights("cnn", "file", "w.weights.h5", "for the test")
    drawn = study.plans(profile, Path("x"), own, 0)["transfer"]
    assert (drawn.model, drawn.weights) == ("residual_cnn", "w.weights.h5")
    assert study.label("transfer", drawn) == "residual CNN, transfer"
    other = study.plans(profile, Path("x"), Weights("mobilenet_v2", "none", None, "none"), 0)["transfer"]
    assert (other.model, other.width, other.weights) == ("mobilenet_v2", None, None)
    assert study.label("transfer", other) == "MobileNetV2, random weights"


def test_images_of_a_published_backbone_are_enlarged_inside():
    plan = study.plans(profile_for("demo", "cifar10"), Path("x"), Weights("densenet121", "none", None, ""), 0)
    assert network(plan["transfer"], 32, 10).get_layer("resize").side == 96


def test_an_ensemble_wins_where_its_members_err_apart():
    truth = np.array([0, 1, 2, 0])
    members = {
        "a": np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.6, 0.0, 0.4], [0.3, 0.4, 0.3]]),
        "b": np.array([[0.3, 0.4, 0.3], [0.2, 0.6, 0.2], [0.1, 0.1, 0.8], [0.3, 0.4, 0.3]]),
    }
    together = study.ensemble(list(members.values()))
    assert list(together.argmax(1)) == [0, 1, 2, 1]
    assert study.agreement(members, truth) == {"all": 0.25, "some": 0.5, "none": 0.25}
    assert study.surest_mistakes(truth, members["a"], 5) == [2, 3]
    assert study.surest_mistakes(truth, members["a"], 1) == [2]


def test_members_are_chosen_best_first_and_no_more_than_help():
    truth = np.array([0, 1, 0, 1])
    strong = np.array([[0.9, 0.1], [0.2, 0.8], [0.8, 0.2], [0.55, 0.45]])
    helpful = np.array([[0.6, 0.4], [0.7, 0.3], [0.45, 0.55], [0.1, 0.9]])
    wrong = 1 - np.eye(2)[truth]
    answers = {"wrong": wrong, "helpful": helpful, "strong": strong}
    assert study.chosen_members(answers, truth) == ["strong", "helpful"]
    assert study.chosen_members({"strong": strong, "same": strong}, truth) == ["strong"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two runs of the smoke profile on drawn images."""
    root = make_toycifar(tmp_path_factory.mktemp("toy"), train=60, test=30, progress=False)
    planned = study.plans(profile_for("smoke", "toycifar"), root, CNN, 0)
    names = ("cnn-augmented", "vgg")
    runs = tmp_path_factory.mktemp("runs")
    return (
        {n: train_classifier(planned[n], n, runs, lambda _: None) for n in names},
        {n: planned[n] for n in names},
        load("toycifar", root, "test"),
    )


def test_the_table_has_every_network_and_all_together(trained):
    runs, planned, scored = trained
    titles = {n: study.label(n, p) for n, p in planned.items()}
    answers = {n: study.probabilities(run) for n, run in runs.items()}
    for shares in answers.values():
        assert shares.shape == (30, 10)
        assert shares.sum(1) == pytest.approx(1)
    everything = answers | {study.ENSEMBLE: study.ensemble(list(answers.values()))}
    table = study.results_table(runs, titles, everything, scored)
    assert list(table.index) == ["plain CNN", "VGG-11", study.ENSEMBLE]
    for name, run in runs.items():
        assert table.loc[titles[name], "accuracy"] == pytest.approx(run.metrics["test"]["accuracy"])
    assert table.loc[study.ENSEMBLE, "training (s)"] == "–"
    classes = study.per_class_table(scored.labels.argmax(1), answers["vgg"].argmax(1), scored.class_names)
    assert list(classes.index) == list(scored.class_names)
    assert classes["images"].sum() == 30


def test_training_is_watched_on_images_that_it_has_seen(trained):
    runs, planned, _ = trained
    for name, run in runs.items():
        assert recipe_of(planned[name], load("toycifar", planned[name].dataset, "train")).size == 32
        assert all(
            {"training_accuracy", "accuracy", "validation_loss"} <= set(entry) for entry in run.history
        )
    figure = plotting.learning_curves(
        {n: run.history for n, run in runs.items()}, metric="accuracy", metric_label="accuracy"
    )
    right = figure.axes[1]
    assert right.get_title() == "Accuracy: training (solid), validation (dashed)"
    styles = [line.get_linestyle() for line in right.lines if len(line.get_xdata()) > 1]
    assert styles == ["-", "--"] * 2
