"""`voclab uncertainty` from the command to the page, on ToyVOC and on networks whose answers are known."""

import json
import shutil
from dataclasses import replace

import keras
import numpy as np
import pytest
from fragile_victims import CLASSES, four_classes, fragile_classifier, fragile_segmenter, one_class_each
from scipy.special import expit, softmax
from voc_trees import fails

from voclab import cli, plotting
from voclab.data import load
from voclab.data.base import VOID
from voclab.data.drawn import draw
from voclab.data.images import resized
from voclab.data.splits import fit_validation
from voclab.evaluation import uncertainty, unknown
from voclab.files import write_json
from voclab.metrics import expected_calibration_error, mean_average_precision
from voclab.models.network import Network
from voclab.training.features import fit_linear_head

FEW = ("gaussian_noise",)


@pytest.fixture(scope="module")
def parts(squares):
    """Calibration and test images."""
    dataset = four_classes(squares)
    return dataset.subset(range(24), "calibration"), dataset.subset(range(24, 48), "test")


@pytest.fixture(scope="module")
def classifier():
    return Network(
        fragile_classifier(), "multilabel", "fragile", size=32, class_names=CLASSES, layer="hidden"
    )


@pytest.fixture(scope="module")
def measured(classifier, parts):
    return uncertainty.measure(classifier, *parts, FEW)


def logits_of(network, dataset):
    images = np.stack([resized(dataset.image(i), network.size) for i in range(len(dataset))])
    return network.model.predict(images, verbose=0).astype(float)


def likelihood(z, labels):
    return np.where(labels, np.logaddexp(0, -z), np.logaddexp(0, z)).mean(1)


def test_a_classifier_is_measured_before_and_after(measured, classifier, parts):
    calibration, test = parts
    z, labels = logits_of(classifier, test), test.labels
    grid = np.exp(np.linspace(np.log(0.01), np.log(100), 4001))
    y, x = calibration.labels, logits_of(classifier, calibration)
    nll = [likelihood(x / t, y).mean() for t in grid]
    assert measured.temperature == pytest.approx(grid[np.argmin(nll)], rel=0.01)
    row = measured.calibration.loc["clean"]
    for suffix, t in (("", 1.0), (" scaled", measured.temperature)):
        assert row[f"ece{suffix}"] == pytest.approx(
            expected_calibration_error(labels, expit(z / t)), abs=1e-4
        )
        assert row[f"nll{suffix}"] == pytest.approx(likelihood(z / t, labels).mean(), rel=1e-3)
    gains = likelihood(z, labels) - likelihood(z / measured.temperature, labels)
    assert row["gain"] == pytest.approx(np.mean(gains), rel=1e-3, abs=1e-6)
    assert row["low"] < row["gain"] < row["high"]
    assert row["gain"] == pytest.approx(row["nll"] - row["nll scaled"])  # images of as many labels each
    assert list(measured.calibration.index) == ["clean", "gaussian_noise"]
    assert measured.calibration.loc["gaussian_noise", "nll"] != row["nll"]


def test_promises_are_those_of_the_threshold(measured, classifier, parts):
    _, test = parts
    shares = expit(logits_of(classifier, test))
    clean = measured.promises[measured.promises["condition"] == "clean"].set_index("promised")
    assert list(clean.index) == [0.8, 0.9, 0.95]
    for row in clean.itertuples():
        named = shares >= row.threshold
        recall = (named & (test.labels > 0)).sum(1) / test.labels.sum(1)
        assert row.recall == pytest.approx(recall.mean())
        assert row.size == pytest.approx(named.sum(1).mean())
        assert row.low <= row.recall <= row.high
    assert clean["size"].is_monotonic_increasing
    json.dumps(measured.as_dict(), allow_nan=False)


def test_of_a_network_that_gives_one_answer_its_confidence_counts(classifier, parts):
    calibration, test = (one_class_each(part) for part in parts)
    network = replace(classifier, task="multiclass")
    found = uncertainty.measure(network, calibration, test, (), promised=(0.6,))
    z, truth = logits_of(network, test), test.labels.argmax(1)
    shares, t = softmax(z, axis=1), found.temperature
    right, confidence = (z.argmax(1) == truth)[:, None], shares.max(1, keepdims=True)
    assert found.calibration.loc["clean", "ece"] == pytest.approx(
        expected_calibration_error(right, confidence), abs=1e-4
    )
    nll = -np.log(softmax(z / t, axis=1)[np.arange(len(z)), truth]).mean()
    assert found.calibration.loc["clean", "nll scaled"] == pytest.approx(nll, rel=1e-3, abs=1e-5)
    row = found.promises.iloc[0]
    named = shares >= row["threshold"] - 1e-7
    assert (row["recall"], row["size"]) == (named[np.arange(len(z)), truth].mean(), named.sum(1).mean())
    scores = unknown.measure(network, calibration, test, {})[unknown.NOISE].separations
    assert set(scores) == {"largest probability", "largest logit", "energy", "nearest neighbours"}


def test_a_single_image_has_no_interval_and_is_still_json(classifier, parts):
    calibration, test = parts
    found = uncertainty.measure(classifier, calibration, test.subset([0]), ()).as_dict()
    assert found["calibration"]["clean"]["low"] is None
    json.dumps(found, allow_nan=False)


def test_a_promise_that_24_images_cannot_make_names_all_classes(classifier, parts):
    found = uncertainty.measure(classifier, *parts, (), promised=(0.97,))
    assert found.promises["threshold"].item() == -np.inf
    assert found.promises["size"].item() == len(CLASSES)
    assert found.as_dict()["promises"][0]["threshold"] is None


def test_a_segmenter_is_measured_on_foreground_pixels_without_void(parts):
    calibration, test = (part.spread(12) for part in parts)
    network = Network(fragile_segmenter(), "segmentation", "pixels", size=64, class_names=CLASSES)
    # Masks of the size that the network sees: nothing is resized, so what is counted here is exact.
    tall = [replace(part, read_mask=square(part.read_mask)) for part in (calibration, test)]
    found = uncertainty.measure(network, *tall, ())
    z, masks = logits_of(network, test), [tall[1].mask(i) for i in range(12)]
    foreground = 1 - softmax(z, axis=-1)[..., 0]
    for row in found.promises.itertuples():
        named = foreground >= row.threshold - 1e-7
        recall = [named[k][(m > 0) & (m != VOID)].mean() for k, m in enumerate(masks)]
        assert row.recall == pytest.approx(np.mean(recall), abs=1e-3)
        assert row.size == pytest.approx(
            np.mean([named[k][m != VOID].mean() for k, m in enumerate(masks)]), abs=1e-3
        )
        assert row.recall > row.promised - 0.2
    valid = np.concatenate([z[k][m != VOID] for k, m in enumerate(masks)])
    truth = np.concatenate([m[m != VOID] for m in masks])
    nll = np.logaddexp.reduce(valid, axis=1) - valid[np.arange(len(valid)), truth]
    # 400 of the pixels of each image: the mean of a sample
    error = 4 * nll.std() / np.sqrt(12 * 400)
    assert found.calibration.loc["clean", "nll"] == pytest.approx(nll.mean(), abs=error)


def square(read):
    return lambda i: np.pad(read(i), ((0, 16), (0, 0)), constant_values=VOID)


# --- which images calibrate ---


def test_other_networks_are_calibrated_on_a_random_part_of_the_test_images(parts, tmp_path):
    _, test = parts
    model = tmp_path / "model.keras"
    fragile_classifier().save(model)
    first, second, told = uncertainty.calibration_images(model, test, never, 0.25, seed=1)
    assert (len(first), len(second)) == (6, 18)
    assert set(first.ids) | set(second.ids) == set(test.ids)
    assert "Calibrated on 6 of 24 images" in told
    again, _, _ = uncertainty.calibration_images(model, test, never, 0.25, seed=1)
    other, _, _ = uncertainty.calibration_images(model, test, never, 0.25, seed=2)
    assert again.ids == first.ids != other.ids
    assert len(uncertainty.calibration_images(model, test, never)[0]) == 12
    fails("leaves one part empty", uncertainty.calibration_images, model, test.spread(2), never, 0.01)


def never():
    raise AssertionError("training images are not needed")


# --- unknown images ---


def test_left_out_classes_are_told_by_a_head_that_never_saw_them(classifier, squares):
    dataset = replace(squares, class_names=CLASSES[:3])
    calibration, test = dataset.subset(range(0, 48, 2)), dataset.subset(range(1, 48, 2))
    network = replace(classifier, class_names=dataset.class_names)
    found = unknown.measure(network, calibration, test, {}, ["red"])
    assert list(found) == ["red left out", unknown.NOISE]
    near = found["red left out"]
    fitted, known = calibration.labels[:, 0] == 0, test.labels[:, 0] == 0
    only = (test.labels == [1, 0, 0]).all(1)
    assert (near.known, near.unknown) == (known.sum(), only.sum())
    seen = [
        network.features(np.stack([resized(d.image(i), 32) for i in range(24)]))[0]
        for d in (calibration, test)
    ]
    kernel, bias = fit_linear_head(seen[0][fitted][None], calibration.labels[fitted][:, 1:], 1.0)
    z = seen[1] @ kernel + bias
    assert f"{fitted.sum()} images" in near.told
    assert f"{mean_average_precision(test.labels[known][:, 1:], z[known]):.3f}" in near.told
    pairs = z[known].max(1)[:, None] > z[only].max(1)
    assert near.separations["largest logit"].auroc[0] == pytest.approx(pairs.mean(), abs=0.02)
    noise = found[unknown.NOISE]
    assert (noise.known, noise.unknown) == (24, 24)
    assert set(noise.separations) == {
        "largest logit",
        "joint energy",
        "nearest neighbours",
    }


def test_what_cannot_be_measured_is_refused(classifier, parts):
    calibration, test = parts
    fails(
        "3 images show nothing else|at least 5 of each",
        unknown.measure,
        classifier,
        calibration,
        test,
        {},
        ["never"],
    )
    segmenter = Network(fragile_segmenter(), "segmentation", "pixels", size=32)
    fails("has 4 images", unknown.measure, classifier, calibration.spread(4), test, {})
    fails("has 3 images", unknown.measure, classifier, calibration, test, {"other": test.spread(3)})
    fails("pixels is a segmenter", unknown.measure, segmenter, calibration, test, {})


def test_the_classes_left_out_by_default_are_shown_alone_and_seldom_beside_others():
    labels = np.array([[1, 0, 0, 0]] * 3 + [[1, 1, 0, 0]] * 4 + [[0, 0, 1, 0]] * 2 + [[0, 0, 0, 1]])
    assert unknown.lone_classes(labels, "abcd") == ["c", "d"]  # a is shown alone most often, and beside b


# --- the command ---


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """A tiny ToyVOC, and another one."""
    folder = tmp_path_factory.mktemp("toys")
    for name, seed in (("toy", 0), ("other", 1)):
        draw("toyvoc", folder / name, seed=seed, train=48, val=96, test=2, size=48, progress=False)
    shutil.copytree(folder / "other", folder / "again")
    return folder


@pytest.fixture(scope="module")
def runs(toy):
    """A classifier of `voclab train`, and a segmenter as another program would leave it."""
    common = ["train", "--model", "small_cnn", "--width", "4", "--epochs", "0", "--size", "32"]
    split = ["--validation", "0.5", "--seed", "3"]
    where = ["--dataset", str(toy / "toy"), "--name", "classifier", "--runs", str(toy)]
    assert cli.main([*common, *split, *where]) == 0
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(21, 1)])
    (toy / "segmenter").mkdir()
    model.save(toy / "segmenter" / "model.keras")
    write_json(toy / "segmenter" / "config.json", {"recipe": {"size": 32}, "task": "segmentation"})
    return toy


@pytest.fixture(scope="module")
def written(runs, tmp_path_factory):
    to = tmp_path_factory.mktemp("report")
    models = [str(runs / "classifier"), str(runs / "segmenter")]
    command = ["uncertainty", "--model", *models, "--data", str(runs / "toy"), "--to", str(to)]
    assert cli.main([*command, "--unknown", str(runs / "other"), str(runs / "again"), "--leave-out"]) == 0
    return to


def test_data_of_one_title_are_told_apart_without_a_whole_path(written, runs):
    found = json.loads((written / "uncertainty.json").read_text())
    assert list(found["classifier"]["unknown"])[1:3] == ["ToyVOC (drawn images)", f"{runs.name}/again"]
    assert str(runs) not in (written / "README.md").read_text()


def test_the_page_shows_what_was_measured(written, runs):
    page = (written / "README.md").read_text()
    found = json.loads((written / "uncertainty.json").read_text())
    assert set(found) == {"classifier", "segmenter"}
    _, validation = fit_validation(load("toyvoc", runs / "toy", "train"), 0.5, 3)
    assert found["classifier"]["facts"]["calibration images"] == len(validation) == 24
    assert "24 training images that the run chose its epoch on" in page
    assert found["classifier"]["facts"]["images"] == 96
    assert "Calibrated on 48 of 96 images" in page
    assert found["segmenter"]["facts"]["images"] == 48
    assert found["segmenter"]["unknown"] == {}
    shown = [line for line in page.splitlines() if line.startswith("![")]
    assert len(shown) == 3 + 2
    assert all((written / line.split("(")[-1].rstrip(")")).is_file() for line in shown)
    sets = found["classifier"]["unknown"]
    assert len(sets) == 4
    for title, figures in sets.items():
        assert title in page
        assert figures["scores"]["joint energy"]["auroc"][0] <= 1
    assert page.count("data:image/") == 0
    assert (written / "index.html").read_text().count("data:image/") >= 5


def test_the_command_says_the_same_as_json(written, runs, tmp_path, capsys):
    command = [
        "uncertainty",
        "--model",
        str(runs / "segmenter"),
        "--data",
        str(runs / "toy"),
        "--images",
        "40",
    ]
    capsys.readouterr()
    assert cli.main([*command, "--calibration-share", "0.25", "--to", str(tmp_path), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said == json.loads((tmp_path / "uncertainty.json").read_text())
    assert said["segmenter"]["facts"]["calibration images"] == 10


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--model", "gone", "--data", "{toy}/toy"], "gone"),
        (["--model", "{toy}/segmenter", "--data", "{toy}/nowhere"], "There is no folder"),
        (["--model", "{toy}/segmenter", "--data", "{toy}/toy", "--split", "none"], "none"),
        (
            ["--model", "{toy}/segmenter", "--data", "{toy}/toy", "--leave-out", "unicorn"],
            "no class 'unicorn'",
        ),
        (
            ["--model", "{toy}/segmenter", "--data", "{toy}/toy", "--unknown", "{toy}/toy"],
            "the data that is known",
        ),
        (
            ["--model", "{toy}/classifier", "--data", "{toy}/toy", "--unknown", "{toy}/other", "{toy}/other"],
            "or named twice",
        ),
        (
            ["--model", "{toy}/segmenter", "--data", "{toy}/toy", "--unknown", "{toy}/gone"],
            "There is no folder",
        ),
        (
            ["--model", "{toy}/segmenter", "--data", "{toy}/toy", "--leave-out"],
            "name one beside the segmenter",
        ),
        (
            ["--model", "{toy}/segmenter", "--data", "{toy}/toy", "--calibration-share", "1"],
            "choose a number",
        ),
        (
            ["--model", "{toy}/classifier", "--data", "{toy}/toy", "--images", "12", "--leave-out"],
            "at least 5 of each",
        ),
    ],
)
def test_bad_input_is_one_sentence(options, says, runs, tmp_path, capsys):
    options = [option.format(toy=runs) for option in options]
    capsys.readouterr()
    assert cli.main(["uncertainty", *options, "--to", str(tmp_path / "to")]) == 2
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("voclab: ")]
    assert says in line
    assert not (tmp_path / "to").exists()


# --- figures ---


def test_figures_show_every_condition_and_set(measured):
    figure = plotting.promised_recall(measured.promises, "classes")
    recall, size = figure.axes
    assert [line.get_label() for line in size.get_lines()] == ["clean", "gaussian noise"]
    drawn = size.get_lines()[1].get_ydata()
    rows = measured.promises[measured.promises["condition"] == "gaussian_noise"]
    assert drawn.tolist() == rows["size"].tolist()
    assert recall.get_lines()[0].get_xdata().tolist() == pytest.approx([80, 95])
    curve = np.array([0, 0.2, 1]), np.array([0, 0.9, 1])
    panels = {"far": {"energy": curve}, "near": {"energy": curve}}
    figure = plotting.known_and_unknown(panels)
    assert [axis.get_title() for axis in figure.axes] == ["far", "near"]
    (line,) = [x for x in figure.axes[1].get_lines() if x.get_label() == "energy"]
    assert line.get_ydata().tolist() == [0, 0.9, 1]
