"""`voclab train` and `voclab visualize`: a classifier by name, again from its own file, and what it sees."""

import json
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorflow.core.util import event_pb2

from voclab import cli
from voclab.app import visual
from voclab.data import load
from voclab.experiments.options import asked
from voclab.experiments.train import trained
from voclab.models.joint import build_joint, classifier_of
from voclab.training import Run, load_model
from voclab.training.identity import weights_digest

COLOURS = {"blue": (60, 70, 190), "green": (70, 180, 80), "red": (200, 70, 60)}
QUICK = {"batch_size": 16, "width": 4, "dropout": 0.0}


def train(folder, name, dataset, model="small_cnn", **typed):
    """A quick run without a line of progress."""
    options = asked({"dataset": str(dataset), "model": model} | QUICK | typed)
    return trained(options, name, folder, lambda line: None)


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    """Forty images of 24 × 20 pixels of each of three colours, in a folder of images by class."""
    root, rng = tmp_path_factory.mktemp("images") / "colours", np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (root / name).mkdir(parents=True)
        for k in range(40):
            pixels = np.clip(rng.normal(colour, 40, (20, 24, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{k:02d}.png")
    return root


@pytest.fixture(scope="module")
def typed(colours):
    """What is typed for a quick run."""
    text = f"train --dataset {colours} --model small_cnn --width 4 --epochs 4"
    text += " --batch-size 16 --learning-rate 0.01"
    return text.split()


@pytest.fixture(scope="module")
def first(typed, tmp_path_factory):
    """Folder of the runs after a quick one."""
    runs = tmp_path_factory.mktemp("runs")
    assert cli.main([*typed, "--runs", str(runs)]) == 0
    return runs


def figures(folder):
    """History and metrics without times."""
    history = json.loads((folder / "history.json").read_text())
    metrics = json.loads((folder / "metrics.json").read_text())
    kept = [{k: v for k, v in entry.items() if k != "seconds"} for entry in history]
    return kept, {k: v for k, v in metrics["test"].items() if k != "seconds"}


def test_it_learns_and_says_how_well(first):
    run = first / "colours-small_cnn-standard-seed0"
    history, test_set = figures(run)
    assert [entry["epoch"] for entry in history] == [0, 1, 2, 3, 4]  # the start first
    assert history[-1]["loss"] < history[1]["loss"]
    assert test_set["accuracy"] > 0.9
    assert {"loss", "precision", "recall", "f1"} <= set(test_set)
    assert load_model(run / "model.keras").output_shape == (None, 3)


def test_a_run_is_repeated_from_its_own_file(first, capsys):
    config = str(first / "colours-small_cnn-standard-seed0" / "config.json")
    assert cli.main(["train", "--config", config, "--name", "again", "--runs", str(first)]) == 0
    assert figures(first / "again") == figures(first / "colours-small_cnn-standard-seed0")
    # What is typed changes what the file says, and a complete run is not trained anew.
    other = ["train", "--config", config, "--name", "other", "--seed", "1", "--runs", str(first)]
    assert cli.main(other) == 0
    assert figures(first / "other") != figures(first / "again")
    capsys.readouterr()
    assert cli.main(other) == 0
    assert "complete" in capsys.readouterr().out


def test_a_trained_run_is_evaluated(first, colours, capsys):
    command = [
        "evaluate",
        "--model",
        str(first / "colours-small_cnn-standard-seed0"),
        "--dataset",
        str(colours),
    ]
    assert cli.main([*command, "--no-attacks", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["conditions"]
    _, test_set = figures(first / "colours-small_cnn-standard-seed0")
    assert rows["clean"]["accuracy"] == pytest.approx(test_set["accuracy"])


def curves(run):
    """Of the event files for TensorBoard: (training or validation, name) -> its values by epoch."""
    found = {}
    for path in sorted((run / "logs").rglob("events*")):
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            event = event_pb2.Event.FromString(record)
            for value in event.summary.value:
                number = float(tf.make_ndarray(value.tensor)) if value.HasField("tensor") else np.nan
                found.setdefault((path.parent.name, value.tag), {})[event.step] = number
    return found


def test_curves_are_written_for_tensorboard_and_change_nothing(typed, first, tmp_path, capsys):
    command = [*typed, "--runs", str(tmp_path), "--name", "curves"]
    assert cli.main([*command, "--tensorboard"]) == 0
    history, _ = found = figures(tmp_path / "curves")
    assert found == figures(first / "colours-small_cnn-standard-seed0")
    written = curves(tmp_path / "curves")
    for key, name in {("train", "epoch_loss"): "loss", ("validation", "epoch_accuracy"): "accuracy"}.items():
        assert written[key] == pytest.approx({e["epoch"] - 1: e[name] for e in history[1:]}, rel=1e-6)
    assert written["validation", "epoch_loss"][3] == pytest.approx(history[4]["validation_loss"])
    capsys.readouterr()
    assert cli.main(command) == 0  # the same run without it
    assert "complete" in capsys.readouterr().out


def test_a_resumed_training_adds_to_the_curves(colours, tmp_path):
    def interrupt(line):
        if "epoch 2/4" in line:
            raise KeyboardInterrupt

    options = asked({"dataset": str(colours), "model": "small_cnn", "epochs": 4, **QUICK})
    with pytest.raises(KeyboardInterrupt):
        trained(options, "run", tmp_path, interrupt, tensorboard=True)
    run = trained(options, "run", tmp_path, lambda line: None, tensorboard=True)
    losses = {e["epoch"] - 1: e["loss"] for e in run.history[1:]}
    del losses[1]  # that epoch was kept, but ended before its curves were written
    assert curves(run.folder)["train", "epoch_loss"] == pytest.approx(losses, rel=1e-6)


def test_without_tensorboard_it_says_how_to_install_it(typed, monkeypatch, capsys):
    monkeypatch.setattr("voclab.cli.train.find_spec", lambda name: None)
    assert cli.main([*typed, "--tensorboard"]) == 2
    assert 'pip install "voclab[tensorboard]"' in capsys.readouterr().err


def test_adversarial_training_is_scored_under_attack(colours, tmp_path):
    attack = {"augmentation": "adversarial", "epsilon": 16}
    run = train(tmp_path, "hard", colours, epochs=4, learning_rate=0.01, **attack)
    robust = [entry["robust"] for entry in run.history]
    assert run.metrics["validation"]["robust"] == max(robust) > 0.5  # the epoch that was kept
    # What is saved is the plain network, which loads without the attack that trained it.
    assert type(load_model(run.folder / "model.keras")).__name__ == "Functional"


def test_a_voc_data_set_is_trained_with_independent_outputs(tmp_path):
    from toyvoc.voc import make_toyvoc

    root = make_toyvoc(tmp_path / "toyvoc", train=40, val=16, test=4, size=64)
    run = train(tmp_path, "voc", root, epochs=1, size=32)
    assert json.loads((run.folder / "config.json").read_text())["task"] == "multilabel"
    assert 0 < run.metrics["test"]["map"] < 1
    # Its head starts at zero, so that an attack before the first epoch finds no direction.
    hard = train(tmp_path, "hard", root, epochs=1, size=32, augmentation="adversarial", steps=1)
    assert hard.history[0]["robust"] == 0
    assert len(hard.history) == 2


def test_options_reach_the_recipe(colours, tmp_path):
    typed = {"augmentation": "advanced", "optimizer": "sgd", "smoothing": 0.1, "mixup": 0.2}
    recipe = train(tmp_path, "options", colours, epochs=1, **typed).config["experiment"]["recipe"]
    expected = typed | {"augmentation": "cifar-advanced", "learning_rate": 0.1}
    assert {name: recipe[name] for name in expected} == expected


def test_cifar_10_learns_in_two_epochs(shared, tmp_path):
    options = asked(
        {"dataset": str(shared / "cifar10"), "model": "small_cnn", "epochs": 2, "learning_rate": 3e-3}
    )
    run = trained(asked(options), "cifar", tmp_path, lambda _: None)
    assert run.metrics["test"]["accuracy"] > 0.25  # a tenth by chance


def test_a_pretrained_backbone_is_transferred_to_ones_own_images(shared, colours, tmp_path):
    weights = shared / "weights" / "mobilenet_v2_0.35_224_no_top.weights.h5"
    data = ["--dataset", str(colours), "--epochs", "1", "--batch-size", "16", "--learning-rate", "0.001"]
    model = ["--model", "mobilenet_v2", "--width", "0.35", "--weights", str(weights)]
    assert cli.main(["train", *data, *model, "--name", "transfer", "--runs", str(tmp_path)]) == 0
    config = json.loads((tmp_path / "transfer" / "config.json").read_text())
    assert config["weights"] == weights_digest(str(weights))
    model = load_model(tmp_path / "transfer" / "model.keras")
    assert model.get_layer("resize").side == 96
    # Batch norm stays as it was pretrained: what the file says is still in the network.
    with h5py.File(weights) as file:
        stored = file["layers/batch_normalization/vars/2"][:]
    assert np.array_equal(model.get_layer("backbone").get_layer("bn_Conv1").moving_mean, stored)


@pytest.fixture(scope="module")
def toyvoc(tmp_path_factory):
    """A few small drawn images with masks, and the folder of their runs."""
    from toyvoc.voc import make_toyvoc

    folder = tmp_path_factory.mktemp("toyvoc")
    return make_toyvoc(folder / "data", train=24, val=8, test=4, size=64), folder / "runs"


@pytest.fixture(scope="module")
def segmenter(toyvoc):
    """Folder of a quick segmenter's run."""
    root, runs = toyvoc
    command = f"train --task segmentation --model unet --loss dice --width 4 --epochs 1 --data {root}"
    assert cli.main([*command.split(), "--size", "32", "--batch-size", "8", "--runs", str(runs)]) == 0
    return runs / "data-unet-standard-seed0"


def test_a_segmenter_is_trained_measured_and_repeated(segmenter, toyvoc, capsys):
    metrics = json.loads((segmenter / "metrics.json").read_text())
    assert 0 <= metrics["test"]["mean_dice"] <= 1
    assert (segmenter / "test_masks.zip").is_file()
    again = ["train", "--config", str(segmenter / "config.json"), "--runs", str(toyvoc[1])]
    capsys.readouterr()
    assert cli.main(again) == 0
    assert "complete" in capsys.readouterr().out
    assert cli.main([*again, "--name", "again"]) == 0
    repeated = json.loads((toyvoc[1] / "again" / "metrics.json").read_text())
    assert repeated["test"] == metrics["test"]


def test_an_adversary_is_trained_through_a_run(segmenter, toyvoc):
    root, runs = toyvoc
    command = f"train --task adversary --victim {segmenter} --width 8 --epochs 1 --data {root}"
    assert cli.main([*command.split(), "--batch-size", "8", "--runs", str(runs)]) == 0
    run = Run(runs / "data-unet-standard-seed0-adversary-seed0")
    assert run.config["experiment"]["recipe"]["size"] == 32  # the victim's
    assert run.load_model().width == 8
    assert 0 <= run.metrics["validation"]["fooled"] <= 1


@pytest.fixture
def shown(first, colours, tmp_path, capsys):
    """Images of the quick run, by name."""
    model = str(first / "colours-small_cnn-standard-seed0")
    command = ["visualize", "--model", model, "--dataset", str(colours), "--to", str(tmp_path)]

    def run(*more):
        capsys.readouterr()
        code = cli.main([*command, *more])
        said = capsys.readouterr()
        return code, {path.stem: path for path in map(Path, said.out.split())}, said.err

    return run


def test_feature_maps_and_attention_are_images(shown, first, colours):
    code, images, _ = shown("--sample-id", "5")
    assert code == 0
    assert {"feature_maps", "grad_cam"} <= set(images)
    assert all(Image.open(images[name]).size[0] > 300 for name in ("feature_maps", "grad_cam"))
    dataset = load("folder", colours, "val")
    assert f"## Grad-CAM of {dataset.ids[5]}\n" in images["README"].read_text()
    code, again, _ = shown("--sample-id", dataset.ids[5], "--layers", "conv2")
    assert code == 0
    assert "of the layers conv2](feature_maps.png)" in again["README"].read_text()


def test_maps_of_features_are_the_layers_own(first):
    model = load_model(first / "colours-small_cnn-standard-seed0" / "model.keras")
    images = np.random.default_rng(0).random((2, 24, 24, 3)).astype(np.float32)
    maps = visual.feature_maps(model, images, ["conv1", "relu1"])
    kernel, bias = model.get_layer("backbone").get_layer("conv1").get_weights()
    patches = np.pad(2 * images - 1, ((0, 0), (1, 1), (1, 1), (0, 0)))[:, 9:12, 4:7]
    assert maps["conv1"][:, 9, 4] == pytest.approx(np.tensordot(patches, kernel, 3) + bias, abs=1e-4)
    assert np.array_equal(maps["relu1"], np.maximum(maps["conv1"], 0))


def test_maps_of_a_network_with_two_heads_are_those_of_its_encoder():
    model = classifier_of(build_joint("cnn", 4, width=16, options={"width": 4}))
    encoder = model.get_layer("encoder")
    images = np.random.default_rng(0).random((1, 32, 32, 3)).astype(np.float32)
    name = encoder.layers[-1].name
    maps = visual.feature_maps(model, images, [name])
    assert np.array_equal(maps[name], encoder.predict_on_batch(2 * images - 1)[-1])


def test_mistakes_are_shown_and_counted(first, colours, tmp_path):
    path = first / "colours-small_cnn-standard-seed0" / "model.keras"
    dataset = load("folder", colours, "val")
    swapped = replace(dataset, labels=dataset.labels[:, [1, 0, 2]])  # blue is called green, green blue
    saved = visual.visualize(path, swapped, "0", tmp_path)
    assert [file.stem for file in saved] == ["feature_maps", "grad_cam", "misclassified", "README", "index"]
    assert "## 16 of 24 images" in saved[3].read_text()
    saved = visual.visualize(path, dataset, "0", tmp_path)
    assert "misclassified" not in [file.stem for file in saved]  # every answer is right


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--sample-id", "999"), "no image 999; name an id such as"),
        (("--sample-id", "cat"), "no image cat"),
        (("--sample-id", "0", "--layers", "conv9"), "no layer conv9 that gives a map; choose one of"),
    ],
)
def test_what_cannot_be_shown_is_one_sentence(shown, more, words):
    code, _, said = shown(*more)
    assert code != 0
    assert words in said
    assert "Traceback" not in said
