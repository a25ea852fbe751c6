"""`voclab evaluate`: one network under every condition, on networks whose answers are known."""

import json

import keras
import numpy as np
import pytest
from fragile_victims import four_classes, fragile_classifier, fragile_segmenter, one_class_each
from sklearn.metrics import precision_score, recall_score
from voc_trees import fails

from voclab import cli
from voclab.attacks import FGSM, Bench, Noise, Victim
from voclab.datasets import toycifar
from voclab.metrics import expected_calibration_error, sigmoid
from voclab.robustness import CORRUPTIONS, Setting
from voclab.studies import evaluation


@pytest.fixture(scope="module")
def bench(squares):
    return Bench(four_classes(squares).subset(range(20), "heldout"), 32)


@pytest.fixture(scope="module")
def victim():
    return Victim(fragile_classifier(), "multilabel")


STILL = {"nothing": Setting("gaussian_noise", 0.0), "a lot": Setting("gaussian_noise", 5.0)}


def test_a_row_has_the_figures_of_its_photos(bench, victim):
    found = evaluation.evaluate(victim, bench, STILL, {})
    table, labels = found.table, bench.dataset.labels
    assert list(table.index) == ["clean", "nothing", "a lot"]
    shares = sigmoid(bench.clean(victim).values)
    row = table.loc["clean"]
    assert row["precision"] == pytest.approx(
        precision_score(labels, shares >= 0.5, average="macro", zero_division=0)
    )
    assert row["recall"] == pytest.approx(
        recall_score(labels, shares >= 0.5, average="macro", zero_division=0)
    )
    assert row["ece"] == pytest.approx(expected_calibration_error(labels, shares))
    assert row["accuracy"] == labels[np.arange(20), shares.argmax(1)].mean()
    assert row["fooled"] == 0
    assert (table.loc["nothing"] == row).all()
    assert table.loc["a lot", "map"] < row["map"]
    assert set(found.reliability) == set(table.index)


def test_attacks_are_rows_and_their_success_is_counted(bench, victim):
    attacks = {"FGSM": (FGSM(), 8 / 255), "noise": (Noise(), 8 / 255)}
    table = evaluation.evaluate(victim, bench, {}, attacks).table
    assert (
        table.loc["FGSM", "fooled"]
        == bench.effect(victim, bench.attack(FGSM(), victim, 8 / 255)[0])["fooled"]
    )
    assert table.loc["FGSM", "fooled"] > 0.8 > 0.2 > table.loc["noise", "fooled"]
    assert list(evaluation.attacks_at((2,))) == ["FGSM 2/255", "PGD 2/255"]


def test_the_same_seed_gives_the_same_numbers_and_another_does_not(bench, victim):
    settings = {"noise": Setting("gaussian_noise", 0.3)}
    one, same, other = (
        evaluation.evaluate(victim, bench, settings, {}, seed=s).table["ece"] for s in (0, 0, 1)
    )
    assert one.equals(same)
    assert one["noise"] != other["noise"]


def test_one_answer_a_photo_is_calibrated_by_its_own_confidence(squares):
    data = one_class_each(four_classes(squares))
    victim, bench = Victim(fragile_classifier(), "multiclass"), Bench(data, 32)
    row = evaluation.evaluate(victim, bench, {}, {}).table.loc["clean"]
    logits = bench.clean(victim).values.astype(np.float64)
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    right = data.labels[np.arange(len(data)), shares.argmax(1)]
    assert row["accuracy"] == right.mean()
    bins = np.minimum((shares.max(1) * 15).astype(int), 14)
    gaps = [
        abs(right[bins == b].mean() - shares.max(1)[bins == b].mean()) * (bins == b).mean() for b in set(bins)
    ]
    assert row["ece"] == pytest.approx(sum(gaps), abs=1e-6)
    assert "map" not in row


def test_a_segmenter_has_dice_and_no_calibration(squares):
    bench = Bench(four_classes(squares).subset(range(6)), 32)
    victim = Victim(fragile_segmenter(), "segmentation")
    found = evaluation.evaluate(victim, bench, STILL, {})
    assert list(found.table.columns) == ["dice", "miou", "fooled"]
    assert found.table.loc["a lot", "dice"] < found.table.loc["clean", "dice"]
    assert not found.reliability


def test_corruptions_have_five_errors_each(bench, victim):
    few = bench.dataset.subset(range(4))
    lines = []
    errors = evaluation.severities(victim, Bench(few, 32), CORRUPTIONS[:2], progress=lines.append)
    assert list(errors) == list(CORRUPTIONS[:2])
    assert all(len(row) == 5 and all(0 <= e <= 1 for e in row) for row in errors.values())
    assert len(lines) == 2
    accuracy = Bench(few, 32).effect(victim, Bench(few, 32).images)["accuracy"]
    assert evaluation.error(victim, bench, bench.images) == 1 - accuracy


# --- the command ---


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return toycifar.make_toycifar(tmp_path_factory.mktemp("toy"), train=20, test=12, progress=False)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run of ten classes."""
    folder = tmp_path_factory.mktemp("runs") / "net"
    folder.mkdir()
    inputs = keras.Input((None, None, 3))
    keras.utils.set_random_seed(0)
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(8, 3, 2, activation="relu")(inputs))
    keras.Model(inputs, keras.layers.Dense(10)(pooled)).save(folder / "model.keras")
    (folder / "config.json").write_text(json.dumps({"experiment": {"recipe": {"size": 32}}}))
    return folder


def test_the_command_as_people_type_it(run, data, tmp_path, capsys):
    base = ["evaluate", "--model", str(run), "--dataset", str(data)]
    figure = tmp_path / "calibration.png"
    assert cli.main([*base, "--noise", "gaussian", "--level", "0.1", "--figure", str(figure)]) == 0
    out = capsys.readouterr().out
    for words in (
        "toycifar test",
        "size      32",
        "multiclass",
        "gaussian 0.1",
        "accuracy",
        "ece",
    ):
        assert words in out
    assert "PGD" not in out
    assert "salt" not in out
    assert figure.stat().st_size > 1000
    assert cli.main([*base, "--no-attacks", "--images", "5", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found["conditions"]) == ["clean", *evaluation.BATTERY]
    assert (found["photos"], found["size"], found["seed"]) == (5, 32, 0)
    assert set(found["reliability"]["clean"]) == {"count", "confidence", "frequency"}


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--noise", "gaussian"], "belong together"),
        (["--noise", "rain", "--level", "1"], "no perturbation 'rain'"),
        (["--noise", "gaussian", "--level", "-1"], "0 or more"),
        (["--split", "val"], "no split 'val'"),
        (["--model", "nowhere"], "nowhere is missing"),
    ],
)
def test_a_slip_is_one_sentence(more, words, run, data, capsys):
    arguments = ["evaluate", "--model", str(run), "--dataset", str(data), "--no-attacks", *more]
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.splitlines()[-1].startswith("voclab: ")
    assert words in error


def test_a_model_that_does_not_fit_is_one_sentence(run, squares, tmp_path):
    fails("tells 10 classes apart, squares has 3", evaluation.report, run, squares)
    bare = tmp_path / "bare.keras"
    bare.write_bytes((run / "model.keras").read_bytes())
    fails("does not say at what size", evaluation.report, bare, squares)
