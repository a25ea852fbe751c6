"""The study of labels: who has a label, what a probe is, and the whole on a few drawn images."""

import numpy as np
import pandas as pd
import pytest

from toyvoc.cifar import make_toycifar
from voclab import plotting
from voclab.data import load
from voclab.data.splits import fit_validation
from voclab.experiments import unlabelled as study
from voclab.experiments.common import PROFILES, Profile
from voclab.metrics import Chance
from voclab.models.pretrained import Weights
from voclab.training import Parts

NOTHING = Weights("resnet8", "none", None, "for the test")


def test_labels_are_drawn_class_by_class_and_fewer_are_a_part_of_more():
    truth = np.random.default_rng(0).permutation(np.repeat(np.arange(3), (40, 30, 5)))
    labels = np.eye(3, dtype=np.uint8)[truth]
    few, many, other = (study.labelled(labels, n, draw) for n, draw in ((4, 0), (10, 0), (4, 1)))
    assert list(np.bincount(truth[few])) == [4, 4, 4]
    assert list(np.bincount(truth[many])) == [10, 10, 5]  # there are no more of the last
    assert set(few) < set(many)
    assert set(few) != set(other)
    assert list(study.labelled(labels, study.ALL, 0)) == list(range(75))


@pytest.fixture
def clusters():
    """Features and classes of three parts; the first axis tells two classes apart, 29 are noise."""
    rng, sizes = np.random.default_rng(1), {"fit": 200, "validation": 80, "test": 300}
    truth = {part: rng.integers(0, 2, n) for part, n in sizes.items()}
    known = {part: rng.normal(size=(n, 30)).astype(np.float32) for part, n in sizes.items()}
    for part, found in known.items():
        found[:, 0] += 3.0 * truth[part]
    return known, truth


def test_a_probe_finds_what_is_linear_and_is_stronger_with_more_labels(clusters):
    known, truth = clusters
    few, _ = study.probe(known, truth, np.arange(20))
    many, _ = study.probe(known, truth, np.arange(200))
    assert many.shape == (300,)
    assert many.mean() > 0.85
    assert 0.5 < few.mean() < many.mean()
    wrong = truth | {"fit": 1 - truth["fit"]}  # it is the labels of these images that it learns from
    assert study.probe(known, wrong, np.arange(200))[0].mean() < 0.4


def test_a_probe_does_not_depend_on_the_scale_of_features(clusters):
    known, truth = clusters
    scaled = {part: found * 1e4 + 7 for part, found in known.items()}
    right, strength = study.probe(known, truth, np.arange(60))
    again, same = study.probe(scaled, truth, np.arange(60))
    assert strength == same
    assert (right == again).mean() > 0.99


def test_the_strength_is_chosen_on_validation_images(clusters):
    """Where the validation images say the opposite of the others, the weakest probe is right most often."""
    known, truth = clusters
    _, usual = study.probe(known, truth, np.arange(40))
    right = {}
    for c in study.STRENGTHS:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(study, "STRENGTHS", (c,))
            moved = known | {"test": known["validation"]}, truth | {"test": truth["validation"]}
            right[c] = study.probe(*moved, np.arange(40))[0].mean()
    assert right[usual] == max(right.values()) > min(right.values())


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("drawn", [True, False])
def test_settings_are_copies_whose_trainings_can_be_planned(profile, drawn, toy):
    settings = study.settings(Profile(profile, drawn))
    settings.per_class = (2, study.ALL)
    plans = study.supervised(settings, toy[0], toy[1], 5)
    assert len(plans) == settings.draws + 1
    assert len({experiment.recipe.seed for experiment, _ in plans.values()}) == settings.draws
    experiment, part = plans[2, 0]
    assert len(part.fit) >= settings.least
    assert len(set(part.fit.ids)) == 20
    assert study.pretraining(settings, toy[0], toy[1], 5).model == experiment.model
    assert study.settings(Profile(profile, drawn)).per_class != (2, study.ALL) or profile == "smoke"


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """(parts, folder) of a few drawn images."""
    root = make_toycifar(tmp_path_factory.mktemp("toy"), train=100, test=40, progress=False)
    train, test = (load("toycifar", root, split) for split in ("train", "test"))
    return Parts(*fit_validation(train, 0.2, 0), test), root


def test_the_study_is_measured_and_read_back(toy, tmp_path):
    settings = study.settings(Profile("smoke", True))
    settings.draws = 1
    lines = []
    how = settings, *toy, NOTHING, 0, tmp_path, lines.append
    found = study.study(*how)
    table = found.table()
    assert list(table["features"].unique()) == [study.RANDOM, study.LEARNT, study.SUPERVISED]
    assert list(table["labels"]) == [20, 80] * 3
    for row in table.itertuples():
        assert 0 <= row.low <= row.accuracy <= row.high <= 1
    last = found.runs["supervised-all-0"].metrics["test"]["accuracy"]
    assert table.iloc[-1]["accuracy"] == pytest.approx(last)
    lines.clear()
    pd.testing.assert_frame_equal(study.study(*how).table(), table)
    assert all("complete, read from" in line for line in lines)  # nothing was computed again
    assert study.shown(table).shape == (3, 2)
    figure = plotting.accuracy_by_labels(table)
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == ["20", "80"]


def test_conclusions_follow_the_intervals():
    shares = {
        study.RANDOM: (0.2, 0.3),
        study.LEARNT: (0.4, 0.5),
        study.SUPERVISED: (0.38, 0.8),
        "Y": (0.7, 0.9),
    }
    rows = [
        (name, n, share, share - 0.03, share + 0.03)
        for name, pair in shares.items()
        for n, share in zip((100, 4000), pair)
    ]
    table = pd.DataFrame(rows, columns=["features", "labels", "accuracy", "low", "high"])
    labels = np.eye(10, dtype=np.uint8)[np.arange(200) % 10]
    text = study.conclusion(table, Chance.accuracy(labels))
    assert "SimSiam 40.0%, random weights 20.0%: it is better." in text
    assert "SimSiam 40.0%, supervised, same labels 38.0%, whose intervals overlap." in text
    assert "SimSiam 50.0%, supervised, same labels 80.0%: it is worse." in text
    assert "Y 70.0%, SimSiam 40.0%: it is better." in text
