"""`voclab evaluate`: one network under every condition, on networks whose answers are known."""

import itertools
import json
import unicodedata
from dataclasses import replace

import keras
import numpy as np
import pandas as pd
import pytest
from fragile_victims import CLASSES, four_classes, fragile_classifier, fragile_segmenter, one_class_each
from scipy.special import expit
from sklearn.metrics import precision_score, recall_score
from voc_trees import fails

from toyvoc import cifar as toycifar
from voclab import cli
from voclab.attacks import FGSM, Bench, Network, Noise, swapped
from voclab.attacks.worst_case import group
from voclab.cli import evaluate as command
from voclab.corruptions import Setting
from voclab.data import load
from voclab.data.base import VOID
from voclab.evaluation import conditions, open_network, open_networks
from voclab.metrics import expected_calibration_error, mean_average_precision
from voclab.models.prediction import TestTime
from voclab.training import Run
from voclab.training.segmentation import measure


@pytest.fixture(scope="module")
def bench(squares):
    return Bench(four_classes(squares).subset(range(20), "test"), 32)


@pytest.fixture(scope="module")
def victim():
    return Network(fragile_classifier(), "multilabel")


STILL = {"nothing": Setting("gaussian_noise", 0.0), "a lot": Setting("gaussian_noise", 5.0)}


def test_a_row_has_the_figures_of_its_images(bench, victim):
    found = conditions.evaluate(victim, bench, STILL, {})
    table, labels = found.table, bench.dataset.labels
    assert list(table.index) == ["clean", "nothing", "a lot"]
    shares = expit(bench.clean(victim).values, dtype=float)
    row = table.loc["clean"]
    assert row["precision"] == pytest.approx(
        precision_score(labels, shares >= 0.5, average="macro", zero_division=0)
    )
    assert row["recall"] == pytest.approx(
        recall_score(labels, shares >= 0.5, average="macro", zero_division=0)
    )
    assert row["ece"] == pytest.approx(expected_calibration_error(labels, shares))
    assert row["accuracy"] == labels[np.arange(20), shares.argmax(1)].mean()
    assert row["success"] == 0
    assert (table.loc["nothing"] == row).all()
    assert table.loc["a lot", "map"] < row["map"]
    assert set(found.reliability) == set(table.index)


def test_attacks_are_rows_and_their_success_is_counted(bench, victim):
    attacks = {"FGSM": (FGSM(), 8 / 255), "noise": (Noise(), 8 / 255)}
    table = conditions.evaluate(victim, bench, {}, attacks).table
    assert (
        table.loc["FGSM", "success"]
        == bench.effect(victim, bench.attack(FGSM(), victim, 8 / 255)[0])["success"]
    )
    assert table.loc["FGSM", "success"] > 0.8 > 0.2 > table.loc["noise", "success"]
    assert list(conditions.attacks_at((2,))) == ["FGSM 2/255", "PGD 2/255"]


def test_a_long_attack_says_how_much_time_is_left(bench, victim, monkeypatch):
    attacks, told = {"noise 4/255": (Noise(), 4 / 255)}, {}
    for seconds in (0, 10):  # that pass between two looks at the clock
        clock = itertools.count(0, seconds)
        monkeypatch.setattr(conditions.time, "monotonic", lambda clock=clock: next(clock))
        told[seconds] = []
        conditions.evaluate(victim, bench, {}, attacks, progress=told[seconds].append)
    count = len(bench)
    assert told[0] == ["1/2 clean", "2/2 noise 4/255"]
    assert told[10][-2].startswith(f"noise 4/255: {count}/{count} images attacked, ")


def plain_wilson(share, n):
    """The shares p whose distance to ``share`` is 1.96 standard errors of p: the roots of a quadratic."""
    z2 = 1.959963984540054**2
    return sorted(np.roots([n + z2, -(2 * n * share + z2), n * share**2]))


def test_named_attacks_have_intervals_and_those_of_one_gradient_run_on_all(bench, victim, squares):
    quick, slow, afterwards = conditions.named_attacks(("pgd2", "noise", "fgsm"), (2, 8), "runs/a")
    assert list(quick) == ["noise 2/255", "noise 8/255", "FGSM 2/255", "FGSM 8/255"]
    assert (list(slow), afterwards) == (["PGD-2 2/255", "PGD-2 8/255"], {})
    table = conditions.evaluate(victim, bench, {}, {"a": quick["FGSM 8/255"]}, intervals=True).table
    row, answers = table.loc["a"], bench.answers(victim, bench.attack(FGSM(), victim, 8 / 255)[0])
    assert (row["low"], row["high"]) == pytest.approx(bench.interval(victim, answers))
    assert row["low"] < row["success"] <= row["high"]
    assert table.loc["clean", ["success", "low", "high", "images"]].tolist() == [0, 0, 0, 20]
    assert row["accuracy"] < table.loc["clean", "accuracy"]
    for _, row in table.iterrows():
        assert (row["accuracy_low"], row["accuracy_high"]) == pytest.approx(plain_wilson(row["accuracy"], 20))
    plain = conditions.evaluate(victim, bench, {}, {}).table
    assert not {"accuracy_low", "accuracy_high"} & set(plain.columns)
    pixels = Bench(four_classes(squares).subset(range(4)), 32)
    shown = conditions.evaluate(Network(fragile_segmenter(), "segmentation"), pixels, {}, {}, intervals=True)
    assert list(shown.table.columns) == ["dice", "miou", "success", "low", "high", "images"]


def test_what_is_done_to_attacked_images_is_a_row_of_its_own(bench, victim):
    attacks = {"a": (FGSM(), 8 / 255)}
    undone = {"a": {"b": lambda attacked, clean: clean, "c": swapped}}
    table = conditions.evaluate(victim, bench, {}, attacks, afterwards=undone).table
    assert list(table.index) == ["clean", "a", "b", "c"]
    assert table.loc["b"].equals(table.loc["clean"])
    clean = np.array([[[[0, 10, 250]]], [[[50, 60, 70]]]], np.uint8)
    attacked = clean + np.array([[[[4, -4, 4]]], [[[-4, 2, 2]]]])
    found = swapped(attacked.astype(np.uint8), clean)
    assert found.tolist() == [[[[0, 12, 252]]], [[[54, 56, 74]]]]


def test_the_same_seed_gives_the_same_numbers_and_another_does_not(bench, victim):
    settings = {"noise": Setting("gaussian_noise", 0.3)}
    one, same, other = (
        conditions.evaluate(victim, bench, settings, {}, seed=s).table["ece"] for s in (0, 0, 1)
    )
    assert one.equals(same)
    assert one["noise"] != other["noise"]


def test_one_answer_a_image_is_calibrated_by_its_own_confidence(squares):
    data = one_class_each(four_classes(squares))
    victim, bench = Network(fragile_classifier(), "multiclass"), Bench(data, 32)
    row = conditions.evaluate(victim, bench, {}, {}).table.loc["clean"]
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
    victim = Network(fragile_segmenter(), "segmentation")
    found = conditions.evaluate(victim, bench, STILL, {})
    assert list(found.table.columns) == ["dice", "miou", "success"]
    assert found.table.loc["a lot", "dice"] < found.table.loc["clean", "dice"]
    assert not found.reliability


def test_an_error_is_that_of_the_images_given(bench, victim):
    noisy = conditions.corrupted_images(bench, "gaussian_noise", 5)
    assert conditions.error(victim, bench) == 1 - bench.effect(victim, bench.images)["accuracy"]
    assert conditions.error(victim, bench, noisy) == 1 - bench.effect(victim, noisy)["accuracy"]
    alone = Bench(bench.dataset.subset(range(4)), 32)
    same = conditions.corrupted_images(alone, "gaussian_noise", 5)
    np.testing.assert_array_equal(same, noisy[:4])  # each image has its own seed


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


def test_attacks_that_are_named_on_the_command_line(run, data, capsys):
    base = ["evaluate", "--model", str(run), "--dataset", str(data), "--images", "6"]
    given = ["--attacks", "fgsm", "pgd", "--epsilons", "4", "--attacked", "2", "--json"]
    assert cli.main([*base, *given]) == 0
    rows = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)["conditions"]
    assert [rows[title]["images"] for title in ("FGSM 4/255", "PGD 4/255")] == [6, 2]
    assert {"success", "low", "high"} <= set(rows["PGD 4/255"])
    assert "FGSM 2/255" not in rows
    for more, words in (
        (
            ["--attacks", "cw"],
            "There is no attack 'cw'; choose one of generator, noise, fgsm, pgd2, pgd, worst.",
        ),
        (
            ["--attacks", "generator"],
            f"The generator was trained to fool ready and ready-segmenter, not {run};",
        ),
        (["--attacks", "worst", "--model", "ready-segmenter"], "worst case over attacks is for classifiers"),
        (["--attacks", "fgsm", "--no-attacks"], "not allowed with"),
        (
            ["--attacks", "fgsm", "--noise", "gaussian", "--level", "1"],
            "With --noise nothing is attacked; leave it or --attacks out",
        ),
        (
            ["--epsilons", "2", "--no-attacks"],
            "With --no-attacks nothing is attacked; leave it or --epsilons",
        ),
        (["--epsilons", "0.5"], "--epsilons is 0.5; choose a number, 1 or more"),
    ):
        assert cli.main([*base, *more]) == 2
        assert words in capsys.readouterr().err
    assert set(command.ATTACKS) == {conditions.GENERATOR, *conditions.ATTACKS}


def test_the_worst_case_over_attacks_on_the_command_line(run, data, squares, capsys, monkeypatch):
    monkeypatch.setitem(conditions.ATTACKS, "worst", ("worst case", group(steps=2, targets=1, queries=3)))
    reports, report = [], conditions.report
    monkeypatch.setattr(conditions, "report", lambda *a, **k: reports.append(report(*a, **k)) or reports[-1])
    base = ["evaluate", "--model", str(run), "--dataset", str(data), "--attacks", "noise", "worst"]
    assert cli.main([*base, "--epsilons", "8", "--attacked", "7", "--json"]) == 0
    found = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    rows = found["conditions"]
    names = ["APGD-CE", "APGD-CE + APGD-T", "Square", "APGD-CE + APGD-T + Square"]
    named = [f"{name} 8/255" for name in names]
    assert list(rows)[-5:] == ["clean, the 7 attacked", *named]
    of = {name: rows[title] for name, title in zip(names, named)}
    assert {row["images"] for row in of.values()} == {7}
    worst, clean = of[names[-1]], rows["clean, the 7 attacked"]["accuracy"]
    assert worst["accuracy"] == pytest.approx((1 - worst["success"]) * clean)
    assert worst["accuracy"] <= min(row["accuracy"] for row in of.values())
    assert worst["low"] <= worst["success"] <= worst["high"]
    for row in rows.values():  # of 12 images or of 7
        interval = plain_wilson(row["accuracy"], row["images"])
        assert [row["accuracy_low"], row["accuracy_high"]] == pytest.approx(interval)
    lost = (of[names[1]]["accuracy"] - worst["accuracy"]) * 7
    assert found["by_square_alone"] == {named[-1]: round(lost)}
    assert (
        f"{named[-1]}: {round(lost)} found by Square alone" in reports[0].text()
    )  # what is printed without --json
    printed = next(line for line in reports[0].text().splitlines() if line.startswith(named[-1]))
    shown = [f"{worst[key]:.3f}" for key in ("accuracy", "accuracy_low", "accuracy_high")]
    assert printed.removeprefix(named[-1]).split()[:3] == shown


@pytest.mark.parametrize("noise", ["rotation", "horizontal_flip", "vertical_flip"])
def test_what_turns_the_image_and_not_its_mask_is_refused(noise, squares, tmp_path):
    data = four_classes(squares)
    folder = saved(fragile_segmenter(), tmp_path / "pixels", {"class_names": list(CLASSES), "size": 32})
    words = f"{noise} moves what is in the image"
    fails(words, conditions.report, folder, data, noise=noise, level=1.0)


def test_segmenters_have_no_worst_case(squares, tmp_path):
    data = four_classes(squares)
    folder = saved(fragile_segmenter(), tmp_path / "pixels", {"class_names": list(CLASSES)})
    fails("is for classifiers;", conditions.report, folder, data, attacks=["worst"])


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
    assert list(found["conditions"]) == ["clean", *conditions.BATTERY]
    assert (found["images"], found["size"], found["seed"]) == (5, 32, 0)
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
    fails("tells 10 classes apart, squares has 3", conditions.report, run, squares)
    bare = tmp_path / "bare.keras"
    bare.write_bytes((run / "model.keras").read_bytes())
    fails("does not say at what size", conditions.report, bare, squares)


# --- classes are matched by name ---


def saved(model, folder, config):
    """A run's folder with that network and configuration."""
    folder.mkdir()
    model.save(folder / "model.keras")
    (folder / "config.json").write_text(json.dumps({"recipe": {"size": 32}, **config}))
    return folder


def renamed(data, order):
    """The same images and truth with the classes in another order."""
    new = np.zeros(256, np.uint8)
    new[[0, VOID, *(1 + k for k in order)]] = [0, VOID, *range(1, len(order) + 1)]
    return replace(
        data,
        class_names=tuple(data.class_names[k] for k in order),
        labels=data.labels[:, order],
        read_mask=lambda i: new[data.mask(i)],
    )


@pytest.mark.parametrize("maps", [False, True])
def test_another_order_of_the_classes_changes_no_score(maps, squares, tmp_path):
    model = fragile_segmenter() if maps else fragile_classifier()
    own = {"class_names": CLASSES, "task": "segmentation" if maps else "multilabel"}
    run = saved(model, tmp_path / "run", {"refit": {"start": {"class_names": ["other"]}, **own}})
    data = four_classes(squares).subset(range(8))
    options = {"noise": "gaussian", "level": 0.2}
    straight = conditions.report(run, data, **options)
    turned = conditions.report(run, renamed(data, [2, 0, 3, 1]), **options)
    assert straight.evaluation.table.loc["clean", "dice" if maps else "map"] > 0.5
    np.testing.assert_allclose(straight.evaluation.table, turned.evaluation.table, atol=1e-6)
    assert straight.facts["classes"] == "matched by name"
    assert "in another order; they are matched by name" in turned.facts["classes"]


@pytest.mark.parametrize("maps", [False, True])
def test_a_network_is_also_measured_by_all_views_of_its_run(maps, squares, tmp_path):
    model = fragile_segmenter() if maps else fragile_classifier()
    config = {"class_names": CLASSES, "task": "segmentation" if maps else "multilabel"}
    run = saved(model, tmp_path / "run", {**config, "test_time": {"sizes": [32, 64], "flip": True}})
    data = four_classes(squares).subset(range(8))
    views = conditions.report(run, data, attacks=(), settings={}).facts["all views"]
    network = Network(model, config["task"], test_time=TestTime((32, 64)))
    images = [data.image(i) for i in range(8)]
    if maps:
        metrics, _ = measure(network.label_maps(images), data, boundaries=False)
        assert (views["dice"], views["miou"]) == (metrics.mean_dice(), metrics.mean_iou())
    else:
        assert views["map"] == mean_average_precision(data.labels, np.stack(list(network.all_views(images))))
    given = conditions.report(run, data, attacks=(), settings={}, size=32).facts
    assert "all views" not in given  # a size of one's own is looked at, and nothing else


def test_attacks_on_some_of_the_images_say_on_how_many(squares, tmp_path):
    run = saved(fragile_classifier(), tmp_path / "run", {"class_names": CLASSES, "task": "multilabel"})
    data = four_classes(squares).subset(range(8))
    table = conditions.report(run, data, settings={}, attacked=3).evaluation.table
    few = conditions.report(run, data.spread(3), settings={}).evaluation.table
    assert list(table.index[:2]) == ["clean", "clean, the 3 attacked"]
    np.testing.assert_allclose(table.iloc[1:], few, atol=1e-6)


def test_clean_images_are_no_condition_that_harms_calibration():
    table = pd.DataFrame({"ece": {"clean": 0.1, "clean, the 3 attacked": 0.9, "FGSM 2/255": 0.5}})
    diagrams = {condition: {} for condition in table.index}
    found = conditions.Report({}, conditions.Evaluation(table, diagrams), {}, None)
    assert conditions.calibration(found)[1] == {"clean": 0.1, "FGSM 2/255": 0.5}
    table = table.iloc[:1]
    found = conditions.Report({}, conditions.Evaluation(table, diagrams), {}, None)
    assert conditions.calibration(found)[1] == {"clean": 0.1}


def test_accented_names_are_the_same_in_either_unicode_form(squares, tmp_path):
    names = ("Bär", "b", "c", "d")
    run = saved(fragile_classifier(), tmp_path / "run", {"class_names": names})
    data = replace(four_classes(squares), class_names=tuple(unicodedata.normalize("NFD", n) for n in names))
    assert conditions.report(run, data, images=4, attacks=()).facts["classes"] == "matched by name"


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"class_names": ["red", "cat", "blue", "dog"]}, "model.keras has the class cat, which squares"),
        ({"class_names": ["red", "red", "blue", "green"]}, "has the class red, which"),
        ({"class_names": ["red", "green", "blue"]}, "names 3 classes, and the model tells 4 apart"),
        ({"class_names": "abcd"}, "names no list of classes, and"),
        ({"class_names": CLASSES, "task": "multiclass"}, "one class each, and images of squares"),
        ({"experiment": {"class_names": [*CLASSES[:3], "\x1b[31m"]}}, r"has the class \\u001b\[31m, which"),
    ],
)  # fmt: skip
def test_other_classes_or_another_task_are_refused(config, words, squares, tmp_path):
    run = saved(fragile_classifier(), tmp_path / "run", config)
    fails(words, conditions.report, run, four_classes(squares))


def test_a_segmenter_needs_masks(squares, tmp_path):
    run = saved(fragile_segmenter(), tmp_path / "run", {"class_names": CLASSES})
    fails("has no masks", conditions.report, run, replace(four_classes(squares), read_mask=None))


def test_the_order_of_a_file_without_names_is_trusted_and_that_is_said(squares, tmp_path):
    fragile_classifier().save(tmp_path / "bare.keras")
    found = conditions.report(tmp_path / "bare.keras", four_classes(squares), size=32, images=4, attacks=())
    assert "does not name its classes" in found.facts["classes"]
    assert "does not name its classes" in found.text()


def test_every_command_that_opens_a_model_matches_it(data, tmp_path, capsys):
    """The classes of ToyCIFAR in reverse order: visualize, robustness and consistency find their names."""
    names = toycifar.CLASSES[::-1]
    inputs = keras.Input((None, None, 3))
    found = keras.layers.Conv2D(8, 3, 2, activation="relu", name="features")(inputs)
    logits = keras.layers.Dense(10, bias_initializer=keras.initializers.Constant(np.eye(10)[0] * 99))
    model = keras.Model(inputs, logits(keras.layers.GlobalAveragePooling2D()(found)))
    config = {"class_names": names, "task": "multiclass", "recipe": {"size": 16}}
    run = saved(model, tmp_path / "run", config)
    held = load("toycifar", data, "test")
    black = np.zeros((1, 16, 16, 3), np.float32)
    for network in (open_network(run, held), open_networks([run], held)[0]):
        assert held.class_names[network.logits(black).argmax()] == names[0]
    own = open_network(run, held, match=False)
    assert own.said(int(own.features(black)[1].argmax())) == names[0]
    command = [
        "visualize",
        "--model",
        str(run),
        "--dataset",
        str(data),
        "--sample-id",
        "0",
        "--to",
        str(tmp_path / "to"),
    ]
    assert cli.main(command) == 0
    assert "they are matched by name" in capsys.readouterr().err
    assert names[0] in (tmp_path / "to" / "README.md").read_text()


@pytest.fixture(scope="module")
def broken(run, tmp_path_factory):
    """The network of ``run`` after one weight became NaN, as after a training that diverged."""
    model = keras.models.load_model(run / "model.keras")
    kernel, bias = model.layers[-1].get_weights()
    model.layers[-1].set_weights([kernel, np.where(np.arange(10) == 3, np.nan, bias)])
    folder = tmp_path_factory.mktemp("runs") / "diverged"
    folder.mkdir()
    model.save(folder / "model.keras")
    (folder / "config.json").write_text((run / "config.json").read_text())
    return folder


@pytest.mark.parametrize("command", ["evaluate", "consistency", "robustness"])
def test_a_network_that_answers_nan_is_named(command, broken, data, tmp_path, capsys):
    rest = [] if command == "evaluate" else ["--to", str(tmp_path)]
    assert cli.main([command, "--model", str(broken), "--data", str(data), *rest]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("voclab: The network ")
    assert "answers NaN or infinity for" in line
    assert "diverged" in line


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_answers_that_are_no_numbers_are_not_measured(value, squares):
    inputs = keras.Input((None, None, 3))
    outputs = keras.layers.Conv2D(4, 1)(inputs)
    model = keras.Model(inputs, outputs, name="spoilt")
    model.layers[-1].set_weights([np.zeros((1, 1, 3, 4)), np.array([0, 0, value, 0])])
    images = [squares.image(k) for k in range(2)]
    fails(
        "network spoilt answers NaN or infinity for 2 of 2",
        lambda: list(Network(model, "segmentation", "spoilt", test_time=TestTime((32,))).label_maps(images)),
    )
    bench = Bench(squares.subset(range(3)), 32)
    victim = Network(model, "segmentation", "mine")
    fails("network mine answers NaN or infinity for 3 of 3", conditions.evaluate, victim, bench, {}, {})


def test_stored_answers_that_are_no_numbers_are_named(tmp_path):
    run = Run(tmp_path / "run")
    run.save_predictions(validation=np.zeros((2, 3), np.float32), ids=np.array(["a", "b"]))
    assert set(run.predictions()) == {"validation", "ids"}
    run.save_predictions(test=np.array([[0.0, np.nan]]))
    fails("predictions.npz holds NaN or infinity in test", run.predictions)
