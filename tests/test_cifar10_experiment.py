"""Notebook 05's study: what is trained, how sure a share is, what several networks get together."""

from pathlib import Path

import numpy as np
import pytest

from toyvoc.cifar import make_toycifar
from voclab import plotting
from voclab.data import load
from voclab.data.base import Dataset
from voclab.experiments import cifar10 as study
from voclab.experiments import hardening, robustness
from voclab.experiments.common import PROFILES, Profile
from voclab.experiments.train import planned, trained
from voclab.models.pretrained import Weights

CNN = Weights("cnn", "none", None, "for the test")


def asked(name="demo", data="cifar10", weights=CNN, root=Path("x"), seed=0):
    """Options of each classifier of notebook 05."""
    return study.trainings(study.settings(Profile.of(name, data)), root, weights, seed, 0.2)


def network(options):
    """The classifier of some options for ten classes of small images."""
    side = np.zeros((1, 32, 32, 3), np.uint8)
    small = Dataset("x", "fit", "multiclass", ("a",), ("c",) * 10, None, lambda i: side[i], None, "")
    experiment = planned(options, "name", small)
    return experiment.task.network(experiment, 10)


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize("data", ["toycifar", "cifar10"])
def test_every_planned_network_can_be_built(name, data):
    settings = robustness.settings(Profile.of(name, data))
    for options in (
        *asked(name, data, seed=3).values(),
        *hardening.trainings(settings, Path("x"), 3, 0.2).values(),
    ):
        assert (options["seed"], options["validation"]) == (3, 0.2)
        assert network(options).output_shape == (None, 10)


def test_the_transfer_model_is_the_one_that_weights_are_for(tmp_path):
    file = tmp_path / "w.weights.h5"
    file.touch()
    own = asked(weights=Weights("cnn", "file", str(file), "for the test"))["transfer"]
    assert (own["model"], own["weights"]) == ("residual_cnn", str(file))
    assert study.label("transfer", own) == "residual CNN, transfer"
    other = asked(weights=Weights("mobilenet_v2", "none", None, "none"))["transfer"]
    assert (other["model"], other["width"], other["weights"]) == ("mobilenet_v2", None, None)
    assert study.label("transfer", other) == "MobileNetV2, random weights"


def test_images_of_a_published_backbone_are_enlarged_inside():
    options = asked(weights=Weights("densenet121", "none", None, ""))["transfer"]
    assert network(options).get_layer("resize").side == 96


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
def runs_of(tmp_path_factory):
    """Two runs of the smoke profile on drawn images."""
    root = make_toycifar(tmp_path_factory.mktemp("toy"), train=60, test=30, progress=False)
    options = asked("smoke", "toycifar", root=root)
    names = ("cnn-augmented", "vgg")
    runs = tmp_path_factory.mktemp("runs")
    return (
        {n: trained(options[n], n, runs, lambda _: None) for n in names},
        {n: options[n] for n in names},
        load("toycifar", root, "test"),
    )


def test_the_table_has_every_network_and_all_together(runs_of):
    runs, options, scored = runs_of
    titles = {n: study.label(n, o) for n, o in options.items()}
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


def test_settings_are_a_copy_and_a_change_reaches_what_is_trained():
    profile = Profile.of("demo", "toycifar")
    settings = study.settings(profile)
    settings.trainings["vgg"]["mixup"] = 0.3
    settings.trainings["densenet"] = study.small("densenet", "none", 2, 0.1)
    found = study.trainings(settings, Path("x"), CNN, 0, 0.2)
    assert found["vgg"]["mixup"] == 0.3
    table = study.settings_table(found)
    assert list(table.index) == [*study.settings(profile).trainings, "densenet"]
    assert list(table.loc["densenet", ["network", "augmentation", "epochs"]]) == ["densenet", "none", "2"]
    assert table.loc["vgg", "mixup"] == "0.3"
    assert study.settings(profile).trainings["vgg"].get("mixup", 0) == 0


class Told:
    """A run of which only the answers to the test images and the accuracy on validation are known."""

    def __init__(self, right: np.ndarray, truth: np.ndarray, validation: float):
        logits = np.eye(10)[np.where(right, truth, (truth + 1) % 10)] * 5
        self.metrics = {"validation": {"accuracy": validation}}
        self.predictions = lambda: {"test": logits}


def test_conclusions_follow_the_numbers():
    truth, rng = np.arange(400) % 10, np.random.default_rng(0)
    labels = np.eye(10, dtype=np.uint8)[truth]
    names = tuple(f"class {k}" for k in range(10))
    scored = Dataset("x", "test", "multiclass", tuple(map(str, truth)), names, labels, None, None, "")
    shares = {"cnn": 0.5, "cnn-augmented": 0.52, "vgg": 0.7, "guess": 0.1, "transfer": 0.9}
    runs = {name: Told(rng.random(400) < share, truth, share) for name, share in shares.items()}
    titles = {name: name.upper() for name in runs}
    text = study.conclusion(runs, titles, ["transfer"], scored, 1000)
    first, transfer, confused, together, note = text.split("\n\n")
    assert "VGG against CNN-AUGMENTED: +" in first
    assert first.count("does not decide") == 1  # augmentation
    assert "GUESS" not in first
    assert "TRANSFER against VGG: +" in transfer
    assert "does not decide" not in transfer
    assert "predicted as" in confused
    assert "no average of several networks was right more often than TRANSFER alone" in together
    assert note.startswith("Not ranked, because not clearly better than chance: GUESS")
    both = study.conclusion(runs, titles, ["transfer", "vgg"], scored, 1000)
    assert f"{study.CHOSEN} against TRANSFER" in both
    only = study.conclusion({"guess": runs["guess"]}, titles, ["guess"], scored, 1000)
    assert only.startswith("Not ranked")


def test_training_is_watched_on_images_that_it_has_seen(runs_of):
    runs, _, _ = runs_of
    for run in runs.values():
        assert run.config["experiment"]["recipe"]["size"] == 32
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
