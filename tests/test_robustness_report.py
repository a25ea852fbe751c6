"""`voclab robustness`: a page for each network, on images and networks made here."""

import json
from dataclasses import replace

import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from voc_trees import fails

from voclab import cli, plotting
from voclab.attacks import Bench
from voclab.corruptions import CORRUPTIONS
from voclab.data import load
from voclab.evaluation import conditions, open_networks, robustness
from voclab.evaluation.consistency import ALL, versions
from voclab.experiments import hardening
from voclab.experiments import robustness as comparison
from voclab.metrics import Chance, mean_corruption_error
from voclab.metrics.statistics import wilson
from voclab.reporting import pages

COLOURS = {"blue": (60, 70, 190), "green": (70, 180, 80), "red": (200, 70, 60)}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A user's own images: a sub-folder of twelve for each of three colours."""
    root, rng = tmp_path_factory.mktemp("own") / "colours", np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (root / name).mkdir(parents=True)
        for k in range(12):
            pixels = np.clip(rng.normal(colour, 40, (20, 24, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{k:02d}.png")
    return root


@pytest.fixture(scope="module")
def runs(images, tmp_path_factory):
    """Folder with two classifiers of these images, made by the command: one trained, one hardly."""
    folder = tmp_path_factory.mktemp("runs")
    common = ["train", "--dataset", str(images), "--model", "small_cnn", "--width", "4", "--batch-size", "12"]
    for name, epochs in (("trained", "4"), ("hardly", "0")):
        options = ["--learning-rate", "0.02", "--epochs", epochs, "--name", name, "--runs", str(folder)]
        assert cli.main([*common, *options]) == 0
    return folder


@pytest.fixture(scope="module")
def written(runs, images, tmp_path_factory):
    """The report of both, as it is typed."""
    to = tmp_path_factory.mktemp("report")
    models = [str(runs / "hardly"), str(runs / "trained")]
    command = [
        "robustness",
        "--model",
        *models,
        "--dataset",
        str(images),
        "--attacked",
        "3",
        "--to",
        str(to),
    ]
    assert cli.main(command) == 0
    return to, command


def test_ones_own_images_go_all_the_way(written, runs, images, tmp_path, capsys):
    model = ["--model", str(runs / "trained"), "--dataset", str(images)]
    assert cli.main(["evaluate", *model, "--noise", "gaussian", "--level", "0.1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["conditions"]["clean"]["accuracy"] > 0.8
    assert cli.main(["visualize", *model, "--sample-id", "0", "--to", str(tmp_path)]) == 0
    assert (tmp_path / "grad_cam.png").is_file()
    to, _ = written
    for name in ("hardly", "trained"):
        page = (to / name / "README.md").read_text()
        images_shown = [line for line in page.splitlines() if line.startswith("![")]
        assert len(images_shown) == 6
        assert all((to / name / line.split("(")[-1].rstrip(")")).is_file() for line in images_shown)
        assert "PGD at 8/255" in page
        assert "with the top class: green the original's, red another. A typical image" in page
        assert "| condition | accuracy | precision | recall | F1 | ECE | attack success | images |" in page
        whole = (to / name / "index.html").read_text()
        assert whole.count("data:image/") >= 6
        assert "http" not in whole.split("</style>")[1].replace("http://www.w3.org", "")


def test_networks_are_compared_on_one_page(written):
    table = [line for line in (written[0] / "README.md").read_text().splitlines() if line.startswith("| [")]
    assert [line.split("]")[0] for line in table] == ["| [hardly", "| [trained"]
    assert "(trained/README.md)" in table[1]
    # The baseline is the first network that is above chance.
    assert "relative to trained (" in (written[0] / "README.md").read_text()


def test_a_network_at_chance_is_listed_but_not_ranked_and_the_pages_say_why(written, runs, images):
    to, _ = written
    table = [line for line in (to / "README.md").read_text().splitlines() if line.startswith("| [hardly")]
    assert table[0].count("–") == table[0].count("|") - 3  # all but its name and its accuracy
    why = "Not ranked, because not clearly better than chance: hardly (from 0."
    assert why in (to / "README.md").read_text()
    assert why in (to / "hardly" / "README.md").read_text()
    assert "chance" not in (to / "trained" / "README.md").read_text()
    dataset = load("folder", images, "val")
    notes = [conditions.report(runs / n, dataset, attacks=()).note for n in ("hardly", "trained")]
    assert notes[0].startswith(why.partition(" (")[0])
    assert notes[1] == ""


def test_what_was_measured_is_read_back(written, runs, images, capsys):
    to, command = written
    kept = to / "measured" / "trained" / "results.json"
    before = kept.read_bytes()
    capsys.readouterr()
    assert cli.main([*command, "--baseline", "trained"]) == 0
    told = capsys.readouterr().err
    assert "trained: complete, read from" in told
    assert "severity" not in told
    assert kept.read_bytes() == before


def test_an_interrupted_measurement_goes_on_and_ends_the_same(written, runs, images, tmp_path):
    dataset = load("folder", images, "val")
    tested, told = open_networks([runs / "trained"], dataset), []

    def interrupted(line):
        told.append(line)
        if len(told) == 40:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        robustness.measure(tested, dataset, tmp_path, attacked=3, progress=interrupted)
    robustness.measure(tested, dataset, tmp_path, attacked=3, progress=told.append)
    assert sum("severity" in line for line in told) == 15 * 5 + 1  # the one that was interrupted twice
    whole = json.loads((written[0] / "measured" / "trained" / "results.json").read_text())
    assert json.loads((tmp_path / "measured" / "trained" / "results.json").read_text()) == whole
    told.clear()
    with pytest.raises(IndexError):  # other noise is another measurement
        robustness.measure(tested, dataset, tmp_path, attacked=3, seed=1, progress=lambda line: [][1])


def test_the_numbers_are_those_of_their_own_functions(runs, images, tmp_path):
    dataset = load("folder", images, "val")
    tested = open_networks([runs / "hardly", runs / "trained"], dataset)
    measured = robustness.measure(tested, dataset, tmp_path, images=4, attacked=2)
    hardly, trained = measured["hardly"], measured["trained"]
    assert (trained.facts["images"], trained.facts["attacked"]) == (4, 2)
    assert list(trained.errors) == list(CORRUPTIONS)
    alone = conditions.report(runs / "trained", dataset, images=4, attacks=(), corruptions=True)
    assert trained.errors == alone.corruptions
    assert (
        trained.scores["Gaussian noise 0.2"] == alone.evaluation.table.loc["Gaussian noise 0.2", "accuracy"]
    )
    assert list(comparison.ranked(measured)) == ["trained"]
    assert comparison.overview(measured).baseline == "trained"
    table = comparison.overview(measured, "hardly").table
    assert table.loc["trained", "mCE (%)"] == mean_corruption_error(trained.errors, hardly.errors)
    assert table.loc["trained", "answers kept"] == trained.consistency.loc[ALL, "kept"]
    panel = comparison.severity_panels(measured)["noise"]["trained"]
    noise = [trained.errors[c][4] for c in ("gaussian_noise", "shot_noise", "impulse_noise")]
    assert panel == pytest.approx([trained.clean_error, *panel[1:5], np.mean(noise)])


def test_a_baseline_that_never_errs_leaves_mce_out_and_says_so(runs, images, tmp_path):
    dataset = load("folder", images, "val")
    measured = robustness.measure(
        open_networks([runs / "trained"], dataset), dataset, tmp_path, images=3, attacked=1
    )
    perfect = {c: [0.0] * 5 for c in CORRUPTIONS}
    faultless = robustness.Measured(**{**vars(measured["trained"]), "errors": perfect})
    found = comparison.overview({"faultless": replace(faultless, low=1.0)})
    assert np.isnan(found.table.loc["faultless", "mCE (%)"])
    assert any("mCE (%) is left out" in note for note in found.notes)


@pytest.fixture
def segmenter(squares, tmp_path):
    """A run of a network that labels pixels by colour, more or less, and its images."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((None, None, 3))
    maps = keras.layers.Conv2D(4, 1, name="logits")(inputs)
    model = keras.Model(inputs, maps)
    kernel = np.array([[0, 9, -5, -5], [0, -5, 9, -5], [0, -5, -5, 9]], np.float32)[None, None]
    model.get_layer("logits").set_weights([kernel, np.array([1, 0, 0, 0], np.float32)])
    folder = tmp_path / "colour-labels"
    folder.mkdir()
    model.save(folder / "model.keras")
    (folder / "config.json").write_text(json.dumps({"recipe": {"size": 32}}))
    return folder, squares.subset(range(6))


def test_a_segmenter_has_a_page_of_its_own_with_masks(segmenter, tmp_path):
    run, images = segmenter
    tested = open_networks([run], images)
    measured = robustness.measure(tested, images, tmp_path / "report", attacked=2)
    found = measured["colour-labels"]
    assert found.segmenter
    assert found.above_chance
    assert 2 * found.chance.bar < found.low <= found.scores["clean"]
    assert found.scores["clean"] > 0.5 > found.scores["Gaussian noise 0.2"]
    pages.robustness_report(measured, tested, images, tmp_path / "report")
    page = (tmp_path / "report" / "colour-labels" / "README.md").read_text()
    assert "mean foreground Dice" in page
    assert len([line for line in page.splitlines() if line.startswith("![")]) == 3
    found = versions(tested[0], images, 0)
    assert len(found.images) == len(found.titles) == len(found.maps) == 11
    assert found.maps[0].shape == found.images[0].shape[:2]


def test_slips_are_one_sentence(runs, images, segmenter, tmp_path):
    dataset = load("folder", images, "val")
    fails("is named twice", open_networks, [runs / "trained", runs / "trained"], dataset)
    fails("is missing", open_networks, [runs / "nothing"], dataset)
    tested = open_networks([runs / "trained"], dataset)
    measured = robustness.measure(tested, dataset, tmp_path, images=3, attacked=1)
    fails("baseline alexnet", pages.robustness_report, measured, tested, dataset, tmp_path, "alexnet")
    fails("baseline alexnet", comparison.overview, measured, "alexnet")
    run, images = segmenter
    masks = robustness.measure(open_networks([run], images), images, tmp_path / "s", images=2, attacked=1)
    fails("compare them apart", comparison.overview, measured | masks)


def test_runs_of_one_name_are_told_apart(runs, images, tmp_path):
    copy = tmp_path / "others" / "trained"
    copy.mkdir(parents=True)
    for file in ("model.keras", "config.json"):
        (copy / file).write_bytes((runs / "trained" / file).read_bytes())
    dataset = load("folder", images, "val")
    names = [s.name for s in open_networks([runs / "trained", copy], dataset)]
    assert names == [f"{runs.name}-trained", "others-trained"]


@pytest.fixture(scope="module")
def bench_and_victims(runs, images):
    dataset = load("folder", images, "val")
    tested = open_networks([runs / "hardly", runs / "trained"], dataset)
    return Bench(dataset, tested[0].size), {n.name: n for n in tested}


def test_accuracy_falls_as_attacks_may_change_more(bench_and_victims):
    bench, victims = bench_and_victims
    table = hardening.accuracy_under_attack(victims, bench, (1, 64))
    clean = hardening.at(table, "trained")
    assert clean["accuracy"] == bench.effect(victims["trained"], bench.images)["accuracy"]
    assert clean["low"] < clean["accuracy"] <= clean["high"] <= 1
    weak, strong = (hardening.at(table, "trained", "PGD-20", e)["accuracy"] for e in (1.0, 64.0))
    assert strong < weak <= clean["accuracy"]
    drawn = hardening.curves(table)
    assert drawn["trained"]["PGD-20"] == ([1.0, 64.0], [weak, strong])
    assert list(drawn) == ["hardly", "trained"]
    assert list(drawn["hardly"]) == ["FGSM", "PGD-20"]


def share(value, n=100):
    low, high = wilson(round(value * n), n)
    return {"accuracy": value, "low": low, "high": high}


@pytest.mark.parametrize(
    ("clean", "attacked", "says"),
    [
        ((0.9, 0.6), (0.1, 0.4), ("more robust", "that is its cost")),
        ((0.9, 0.85), (0.3, 0.35), ("does not decide whether it helps", "does not decide whether it costs")),
        ((0.9, 0.2), (0.3, 0.8), ("Not ranked", "adversarial training (from 0.1")),
    ],
)
def test_adversarial_training_is_judged_where_the_intervals_decide(clean, attacked, says):
    names = hardening.STANDARD, hardening.HARDENED
    rows = [
        {"network": name, "attack": attack, "epsilon": epsilon, **share(value)}
        for attack, epsilon, values in (("none", 0.0, clean), ("PGD-20", 4.0, attacked))
        for name, value in zip(names, values)
    ]
    under, chance = pd.DataFrame(rows), Chance("accuracy", 0.2, "a constant")
    worst = pd.DataFrame({"network": names, "worst": 0.25, "low": 0.2, "high": 0.3, "n": 40})
    given = under, chance, 4.0, dict.fromkeys(names, 9.0), dict.fromkeys(names, 0.5)
    texts = [hardening.conclusion(*given, worst.assign(**{"found by Square alone": k})) for k in (0, (0, 3))]
    text = texts[0]
    assert all(part in text for part in says)
    if "Not ranked" not in text:
        assert "on 40 of the images: 25.0% (95 % interval 20.0% to 30.0%) and 25.0%" in text
        assert "nothing hints at masked gradients" in text
        assert "0 and 3 images are fooled by Square alone" in texts[1]
    table = hardening.under_attack_table(under)
    assert list(table.index) == ["none", "PGD-20 4/255"]
    assert list(table.columns) == list(names)
    assert table.iloc[0, 0] == "0.900 [0.826, 0.945]"


def test_conclusions_follow_the_numbers(written, runs, images, tmp_path):
    dataset = load("folder", images, "val")
    found = robustness.measure(open_networks([runs / "trained"], dataset), dataset, tmp_path, attacked=3)
    m = found["trained"]
    text = comparison.conclusions({"classifiers": found})
    assert (
        "On clean images the top class of trained is right in 100.0% (95 % interval 61.0% to 100.0%)" in text
    )
    assert "do not decide whether any of them hurts" in text  # six images
    many = m.conditions.assign(images=1000)
    many.loc["Gaussian noise 0.2", "accuracy"] = 0.5
    m = replace(m, conditions=many)
    steady = m.consistency.copy()
    steady.loc[ALL, ["kept", "kept low", "kept high"]] = 0.4, 0.35, 0.45
    weak = replace(m, consistency=steady)
    text = comparison.conclusions({"classifiers": {"net": m, "net-augmented": weak}})
    assert "least often under Gaussian noise 0.2: 50.0%" in text
    assert "Whether augmentation helps net under noise is not decided" in text
    assert "net keeps more than net-augmented" in text
    chance = replace(m, low=0.1)
    text = comparison.conclusions({"classifiers": {"net": chance}})
    assert text.startswith("**Which corruptions and attacks hurt?** Not ranked")
    assert "keep" not in text.replace("keeping", "")
    assert "calibrat" not in text


def test_gradient_images_are_grey_where_nothing_matters(bench_and_victims):
    bench, victims = bench_and_victims
    shown = hardening.gradient_images(victims["trained"], bench, [0, 2])
    assert [p.shape for p in shown] == [bench.images[0].shape] * 2
    assert np.std(shown[0]) > 5
    blind = keras.Sequential([keras.Input((None, None, 3)), keras.layers.GlobalAveragePooling2D()])
    blind.add(keras.layers.Dense(3, kernel_initializer="zeros"))
    victim = type(victims["trained"])(blind, "multiclass")
    assert (hardening.gradient_images(victim, bench, [0])[0] == 128).all()


def test_panels_share_or_part_their_legends():
    lines = {"a": [0.1, 0.2, 0.4], "b": [0.2, 0.3, 0.9]}
    shared = plotting.severity_panels({"noise": lines, "blur": lines, "digital": lines}, "error")
    assert [axis.get_title() for axis in shared.axes] == ["noise", "blur", "digital"]
    assert all(axis.get_legend() is None for axis in shared.axes)
    parted = plotting.severity_panels({"noise": lines, "blur": {"c": [0, 0, 1]}}, "error")
    texts = [[t.get_text() for t in axis.get_legend().get_texts()] for axis in parted.axes]
    assert texts == [["a", "b"], ["c"]]
