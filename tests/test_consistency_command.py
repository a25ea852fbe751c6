"""`voclab consistency`: which answers of which networks stay, on images and networks made here."""

import json
from dataclasses import replace
from functools import partial

import keras
import numpy as np
import pytest
from perturbed_images import scene
from PIL import Image
from voc_trees import fails

from toyvoc import cifar as toycifar
from voclab import cli, plotting
from voclab.corruptions import CONSISTENCY
from voclab.data import folder, load
from voclab.evaluation import consistency, open_network, open_networks
from voclab.evaluation.consistency import ALL, CONTROL, Consistency, summary
from voclab.models import backbones, imagenet

opened = partial(open_network, match=False)
opened_all = partial(open_networks, match=False)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A flat folder of five images of several sizes and formats, and a file that is none."""
    root = tmp_path_factory.mktemp("holidays")
    for k, (height, width) in enumerate([(40, 60), (60, 40), (32, 32), (90, 30), (50, 50)]):
        image = np.roll(scene(height, width), k, axis=2)
        Image.fromarray(image).save(root / f"{k}.{'png' if k % 2 else 'jpg'}")
    (root / "notes.txt").write_text("sunny")
    return root


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return toycifar.make_toycifar(tmp_path_factory.mktemp("toy"), train=20, test=12, progress=False)


def small(classes=10):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((None, None, 3))
    maps = keras.layers.Conv2D(8, 3, 2, activation="relu", name="features")(inputs)
    pooled = keras.layers.GlobalAveragePooling2D()(maps)
    return keras.Model(inputs, keras.layers.Dense(classes)(pooled))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run of ten classes at 32 pixels."""
    root = tmp_path_factory.mktemp("runs") / "net"
    root.mkdir()
    small().save(root / "model.keras")
    (root / "config.json").write_text(json.dumps({"recipe": {"size": 32}}))
    return root


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file for the smallest MobileNet, top included, as people have them from training."""
    keras.utils.set_random_seed(0)
    path = tmp_path_factory.mktemp("weights") / "tiny.weights.h5"
    keras.applications.MobileNet(alpha=0.25, weights=None).save_weights(path)
    return path


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """Neither a cache of Keras nor the internet."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setattr(backbones, "_answers", lambda address, timeout: False)
    return tmp_path / "keras" / "models"


# --- networks ---


def test_a_classifier_of_imagenet_sees_pixels_and_returns_logits(weights):
    model = imagenet.build_imagenet_classifier("mobilenet", weights, alpha=0.25)
    pixels = np.random.default_rng(0).random((2, 224, 224, 3)).astype(np.float32)
    theirs = keras.applications.MobileNet(alpha=0.25, weights=None)
    theirs.load_weights(weights)
    expected = theirs.predict_on_batch(keras.applications.mobilenet.preprocess_input(255 * pixels))
    logits = model.predict_on_batch(pixels).astype(np.float64)
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(shares, expected, rtol=1e-3)
    assert imagenet.FEATURE_LAYERS["mobilenet"] in [layer.name for layer in model.layers]


def test_no_network_has_random_weights(weights, offline, tmp_path, squares):
    for name in ("vgg16", "resnet50", "densenet121", "efficientnet_b0", "mobilenet:0.25"):
        fails("neither cached nor reachable", opened, name, squares)
    fails("does not exist", opened, "mobilenet:0.25=gone.h5", squares)
    fails("of width 0.5 with its top", opened, f"mobilenet:0.5={weights}", squares)
    fails("input scaling", opened, f"efficientnet_b0={weights}", squares)
    headless = tmp_path / "no_top.weights.h5"
    keras.applications.MobileNet(
        input_shape=(224, 224, 3), alpha=0.25, weights=None, include_top=False
    ).save_weights(headless)
    fails("with its top .it lacks layers", opened, f"mobilenet:0.25={headless}", squares)


def test_a_download_that_breaks_is_one_sentence(monkeypatch, squares):
    monkeypatch.setattr(backbones, "imagenet_available", lambda name, top: True)

    def broken(**options):
        raise Exception("URL fetch failure\nmore")

    entry = replace(backbones.BACKBONES["vgg16"], build=broken)
    monkeypatch.setitem(backbones.BACKBONES, "vgg16", entry)
    fails("could not be downloaded .URL fetch failure", opened, "vgg16", squares)


@pytest.mark.parametrize(
    ("name", "whole", "headless"),
    [
        ("vgg16", "vgg16_weights_tf_kernels.h5", "vgg16_weights_tf_kernels_notop.h5"),
        ("efficientnet_b0", "efficientnetb0.h5", "efficientnetb0_notop.h5"),
        ("mobilenet", "mobilenet_1_0_224_tf.h5", "mobilenet_1_0_224_tf_no_top.h5"),
        ("mobilenet_v2", "mobilenet_v2_weights_1.0_224.h5", "mobilenet_v2_weights_1.0_224_no_top.h5"),
    ],
)
def test_weights_in_the_cache_are_known_by_their_names(name, whole, headless, offline):
    offline.mkdir(parents=True)
    (offline / headless).touch()
    assert backbones.imagenet_available(name)
    assert not backbones.imagenet_available(name, top=True)
    (offline / headless).rename(offline / whole)
    assert backbones.imagenet_available(name, top=True)
    assert not backbones.imagenet_available(name)


def test_names_of_imagenet_are_those_of_keras_if_they_are_there(weights, offline, squares):
    network = opened(f"mobilenet:0.25={weights}", squares)
    assert (network.name, network.size, network.outputs) == ("mobilenet:0.25", 224, 1000)
    assert network.said(207) == "class 207"
    offline.mkdir(parents=True)
    index = {str(k): [f"n{k}", f"golden_retriever_{k}"] for k in range(1000)}
    (offline / "imagenet_class_index.json").write_text(json.dumps(index))
    assert opened(f"mobilenet:0.25={weights}", squares).said(207) == "golden retriever 207"
    for damaged in ("{}", "[]", '{"0": 3}'):
        (offline / "imagenet_class_index.json").write_text(damaged)
        fails("imagenet_class_index.json", imagenet.imagenet_class_names)


def test_names_of_our_classes_come_from_the_run_or_from_the_data(run, data, squares, tmp_path):
    cifar = folder.images(__file__)  # without names
    assert opened(str(run), cifar).said(3) == "class 3"
    named = tmp_path / "named"
    named.mkdir()
    small(3).save(named / "model.keras")
    (named / "config.json").write_text(json.dumps({"recipe": {"size": 16}}))
    assert opened(str(named), squares).said(2) == "blue"
    config = {"recipe": {"size": 16}, "class_names": ["x", "y", "z"]}
    (named / "config.json").write_text(json.dumps(config))
    network = opened(str(named / "model.keras"), squares)
    assert (network.said(2), network.size, network.feature_layer, network.name) == (
        "z",
        16,
        "features",
        "named",
    )


def test_a_network_that_does_not_fit_is_one_sentence(run, squares, tmp_path):
    fails("nowhere is missing; name a run's folder", opened, "nowhere", squares)
    fails("no ImageNet classifier 'resnet51'", opened, "resnet51=file.h5", squares)
    fails("one width", opened, "vgg16:0.5", squares)
    fails("is no number", opened, "mobilenet:half", squares)
    fails("named twice", opened_all, [str(run), str(run)], squares)
    bare = tmp_path / "bare.keras"
    bare.write_bytes((run / "model.keras").read_bytes())
    fails("does not say at what size", opened, str(bare), squares)
    inputs = keras.Input((16, 16, 3))
    keras.Model(inputs, keras.layers.Conv2D(2, 1)(inputs)).save(tmp_path / "maps.keras")
    fails("no classifier", opened, str(tmp_path / "maps.keras"), squares)


def test_runs_of_the_same_name_are_told_apart(run, squares, tmp_path):
    other = tmp_path / "net"
    other.mkdir()
    for name in ("model.keras", "config.json"):
        (other / name).write_bytes((run / name).read_bytes())
    assert [n.name for n in opened_all([str(run), str(other)], squares)] == [str(run), str(other)]


# --- the study ---


def test_another_image_is_the_control():
    kept = np.ones((4, 2), bool)
    control = {"kept": np.array([1, 0, 0, 0]), "cosine": np.full(4, 0.3), "euclidean": np.full(4, 0.4)}
    table = summary(Consistency("n", ("a", "b"), np.zeros(4), kept, kept * 1.0, kept * 1.0, control))
    assert list(table.index) == ["a", "b", ALL, CONTROL]
    assert table.loc[CONTROL, ["kept", "cosine", "euclidean"]].tolist() == pytest.approx([0.25, 0.3, 0.4])


def test_a_study_measures_all_networks_on_the_same_images(run, squares, tmp_path):
    images = squares.subset(range(9))
    network = opened(str(run), images)
    lines = []
    found = consistency.study([network], images, seed=1, progress=lines.append)
    assert lines[-1] == "net: 9/9 images"
    result, seen = found.results["net"], found.examples["net"]
    index = images.ids.index(seen.image)
    np.testing.assert_array_equal(seen.kept[1:], result.kept[index])
    shares = result.kept.mean(1)
    assert abs(shares[index] - np.median(shares)) == np.abs(shares - np.median(shares)).min()
    pairs = [[k, (k - 4) % 9] for k in range(9)]
    same = [len(set(result.top[pair])) == 1 for pair in pairs]
    np.testing.assert_array_equal(result.control["kept"], same)


def made(**kept):
    """A study of networks of which only the kept answers are known."""
    results = {}
    for name, rows in kept.items():
        rows = np.array(rows, bool)
        values = rows * 0.5
        results[name] = Consistency(
            name, tuple(CONSISTENCY)[: rows.shape[1]], np.zeros(len(rows)), rows, values, values
        )
    count = len(rows)
    networks = {name: {"classes": 20, "weights": "w", "size": 8, "features": "f"} for name in kept}
    ids = tuple(f"image {k}" for k in range(count))
    return consistency.Study({"images": count}, ids, networks, results, {})


def test_it_says_where_one_image_misleads():
    good, bad = [[1, 1]] * 6 + [[0, 0]] * 2 + [[1, 0]] * 2, [[1, 1]] * 3 + [[0, 0]] * 4 + [[1, 1]] * 3
    lines = made(good=good, bad=bad).misleading()
    assert "good keeps 70 % of its answers" in lines[0]
    assert "anything from 0 % to 100 %" in lines[0]
    assert "60 % of the images keep every answer and 20 % none" in lines[0]
    assert "image 0 alone says 100 %, image 6 0 %" in lines[0]
    assert lines[2].startswith("good keeps more answers than bad on average, but 30 % of the images alone")
    assert "40 % would not tell them apart" in lines[2]
    few = made(good=good, bad=bad)
    few.networks["bad"]["classes"] = 1000
    assert len(few.misleading()) == 2  # of unlike tasks there is no better


def test_a_network_that_answers_the_same_to_everything_is_not_ranked():
    study = made(good=[[1, 1]] * 6 + [[0, 0]] * 4, constant=[[1, 1]] * 10)
    for name, same in (("good", 2), ("constant", 9)):
        kept = np.arange(10) < same  # whether two different images get one answer
        study.results[name].control.update(kept=kept, cosine=kept, euclidean=kept)
    *_, last = lines = study.misleading()
    assert last.startswith("constant is not ranked: it gives two different images the same answer in 90 %")
    assert len(lines) == 3


def test_one_image_has_no_interval():
    alone = made(net=[[1, 0]])
    assert "keeps 1 of 2 answers on this one image" in alone.misleading()[0]
    assert summary(alone.results["net"])["kept low"].isna().all()
    row = json.loads(json.dumps(alone.as_dict(), allow_nan=False))["networks"]["net"]["perturbations"][ALL]
    assert (row["kept"], row["kept low"]) == (0.5, None)


# --- figures ---


def test_dots_and_bars_stand_where_the_numbers_are():
    kept = np.random.default_rng(0).random((30, 10)) < 0.7
    study = made(one=kept, two=kept[::-1])
    tables = study.tables()
    drawn = plotting.dots_with_intervals(tables, {"kept": "share"}, apart=1, percent=True)
    dots = [line for line in drawn.axes[0].containers[0].lines if hasattr(line, "get_xdata")]
    np.testing.assert_allclose(dots[0].get_xdata(), 100 * tables["one"]["kept"])
    assert [text.get_text() for text in drawn.axes[0].get_yticklabels()] == [*CONSISTENCY, ALL]
    bars = plotting.share_distribution(study.kept_shares(), 10, {"one": 0.4}).axes[0]
    counts = np.bincount(kept.sum(1), minlength=11)
    np.testing.assert_allclose([bar.get_height() for bar in bars.patches], 100 * counts / 30)
    assert "published 40 %" in bars.get_title()


def test_versions_say_what_was_kept_in_words_and_colours():
    images = [scene(20, 20)] * 3
    axes = plotting.perturbed_versions(
        images, ["original", "fog", "blur"], ["dog", "dog", "cat"], [True, True, False]
    ).axes
    assert [axis.get_title() for axis in axes] == ["original\ndog", "fog\nkept: dog", "blur\nnow: cat"]
    assert len({axis.title.get_color() for axis in axes}) == 3


# --- the command ---


def test_one_image(run, images, tmp_path, capsys):
    arguments = ["consistency", "--model", str(run), "--image", str(images / "0.jpg")]
    assert cli.main([*arguments, "--to", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "Measured on one image, 0.jpg under" in out
    assert "on this one image" in out
    assert "[" not in out.split("## What was measured")[0]  # no interval
    names = {path.name for path in tmp_path.iterdir() if path.suffix == ".png"}
    assert names == {"consistency_kept.png", "consistency_features.png", "consistency_versions_1_net.png"}


def test_a_folder_of_images_goes_where_nothing_is_committed(run, images, weights, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    models = ["--model", str(run), f"mobilenet:0.25={weights}"]
    assert cli.main(["consistency", *models, "--image", str(images), "--images", "3"]) == 0
    to = tmp_path / "runs" / "robustness" / images.name
    found = json.loads((to / "consistency.json").read_text())
    assert found["ids"] == ["0.jpg", "2.jpg", "4.jpg"]
    assert [entry["size"] for entry in found["networks"].values()] == [32, 224]
    page = (to / "consistency.md").read_text()
    for words in ("## Where one image misleads", "too narrow for so few", *CONSISTENCY, "mobilenet:0.25"):
        assert words in page
    for name in ("kept", "features", "images", "versions_1_net", "versions_2_mobilenet-0-25"):
        assert f"](consistency_{name}.png)" in page
        assert (to / f"consistency_{name}.png").stat().st_size > 1000


def test_a_data_set_as_json(run, data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["consistency", "--model", str(run), "--data", str(data), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["data"], found["split"], found["images"]) == ("toycifar", "test", 12)
    rows = found["networks"]["net"]["perturbations"]
    assert list(rows) == [*CONSISTENCY, ALL, CONTROL]
    for row in rows.values():
        assert row["kept low"] <= row["kept"] <= row["kept high"]
    shares = found["networks"]["net"]["kept_by_image"]
    assert rows[ALL]["kept"] == pytest.approx(np.mean(shares))
    assert found == json.loads((tmp_path / "figures" / "robustness" / "consistency.json").read_text())


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--image", "gone.jpg"], "gone.jpg is missing"),
        (["--image", "."], "holds no images"),
        (["--image", __file__], "is a damaged image, or none"),
        (["--image", "x.jpg", "--split", "val"], "have no splits"),
        (["--data", "nowhere"], "There is no folder nowhere"),
        (["--data", "toycifar", "--images", "0"], "--images is 0"),
    ],
)
def test_a_slip_is_one_sentence(more, words, run, data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    more = [str(data) if word == "toycifar" else word for word in more]
    assert cli.main(["consistency", "--model", str(run), *more]) == 2
    error = capsys.readouterr().err
    assert error.splitlines()[-1].startswith("voclab: ")
    assert words in error
    assert not list(tmp_path.iterdir())


def test_a_published_network_on_real_images(shared):
    images = load("voc2009", shared / "voc2009", "val").subset(range(0, 60, 10))
    file = shared / "weights" / "mobilenet_0.25_224.weights.h5"
    network = opened(f"mobilenet:0.25={file}", images)
    table = consistency.study([network], images).tables()["mobilenet:0.25"]
    similar = table["cosine"]
    assert similar["horizontal flip"] > similar["rotation by 90°"] > similar[CONTROL]
    assert table.loc[ALL, "kept"] > table.loc[CONTROL, "kept"]
