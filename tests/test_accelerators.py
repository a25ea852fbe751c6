"""What a GPU changes, as far as a CPU can tell: several devices take the steps of one; float16 trains."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from conftest import draw_squares
from fragile_victims import four_classes, fragile_classifier, fragile_segmenter

from voclab import backend
from voclab.attacks import (
    AdversarialPerturbation,
    AdversarialTraining,
    Adversary,
    Bench,
    Network,
    Target,
)
from voclab.losses import get_loss
from voclab.models import zoo
from voclab.models.segmenters import build_unet
from voclab.training import Experiment, Parts, Recipe, Run, load_model, train
from voclab.training.classification import Classification
from voclab.training.experiment import run
from voclab.training.self_supervised import SimSiam

TRAININGS = ("classifier", "segmenter", "hardened", "trades", "adversary", "averaged", "siamese")
RECIPE = Recipe(32, "none", 1, 0.01, batch_size=8, optimizer="sgd", seed=3)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """What ``two_devices.py`` says of the same trainings on one device and on two."""
    folder = tmp_path_factory.mktemp("devices")
    script = Path(__file__).with_name("two_devices.py")
    done = subprocess.run([sys.executable, str(script), str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((folder / "report.json").read_text())


def _assert_alike(ours, theirs, relative):
    for a, b in zip(ours[0], theirs[0], strict=True):
        assert a == pytest.approx(b, rel=relative, abs=1e-5)
    for a, b in zip(ours[1], theirs[1], strict=True):
        np.testing.assert_allclose(a, b, rtol=relative, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAININGS)
def test_two_devices_take_the_steps_of_one(name, report):
    one, two = report["one"][name], report["two"][name]
    assert one[0][-1]["loss"] != one[0][-2].get("loss")
    _assert_alike(two, one, relative=1e-3)


@pytest.mark.slow
def test_a_killed_training_on_two_devices_resumes_to_the_same_network(report):
    _assert_alike(report["two"]["resumed"], report["two"]["classifier"], relative=1e-6)


@pytest.mark.slow
def test_two_devices_train_in_half_precision(report):
    half, whole = report["two"]["half_precision"][0], report["two"]["classifier"][0]
    assert [e["loss"] for e in half[1:]] == pytest.approx([e["loss"] for e in whole[1:]], rel=1e-2)


@pytest.mark.slow
def test_each_image_is_answered_once_on_two_devices(report):
    answers = report["answers"]
    assert np.shape(answers["predict"]) == (5, 3)
    np.testing.assert_allclose(answers["predict"], answers["called"], atol=1e-5)


@pytest.mark.parametrize(
    ("gpus", "batch_size", "used"), [(0, 8, 0), (1, 8, 1), (2, 8, 2), (3, 8, 2), (3, 9, 3)]
)
def test_as_many_gpus_are_used_as_divide_the_batch(gpus, batch_size, used, monkeypatch):
    asked = []
    monkeypatch.setattr(backend.tf.distribute, "MirroredStrategy", lambda devices: devices)
    monkeypatch.setattr(backend.tf.distribute, "experimental_set_strategy", asked.append)
    devices = [SimpleNamespace(name=f"/device:GPU:{k}") for k in range(gpus)]
    monkeypatch.setattr(backend.tf.config, "list_logical_devices", lambda kind: devices)
    assert backend.use_all_gpus(batch_size) == used
    assert asked == ([[device.name for device in devices[:used]]] if used > 1 else [])


# --- float16 ---


@pytest.fixture
def half():
    keras.config.set_dtype_policy("mixed_float16")
    yield
    keras.config.set_dtype_policy("float32")


@pytest.fixture(scope="module")
def parts():
    data = four_classes(draw_squares())
    return data.subset(range(24), "fit"), data.subset(range(24, 32), "validation")


def _assert_sound(run, model=None):
    """Losses are finite, and the saved network answers in float32 what the trained one does."""
    assert all(np.isfinite(e["loss"]) for e in run.history[1:])
    assert len(run.history) > 1
    pixels = np.random.default_rng(0).random((2, 32, 32, 3), np.float32)
    loaded = keras.tree.flatten(load_model(run.folder / "model.keras")(pixels, training=False))
    assert all(out.dtype == "float32" and np.isfinite(out).all() for out in loaded)
    if model is not None:
        np.testing.assert_allclose(loaded[0], model(pixels, training=False), atol=1e-3)
    return load_model(run.folder / "model.keras")


def _halves(model):
    return {layer.compute_dtype for layer in model._flatten_layers() if "conv" in layer.name}


@pytest.mark.parametrize("target", ["labels", "masks"])
def test_a_network_trains_in_half_precision(target, half, parts, tmp_path):
    if target == "labels":
        model, loss = zoo.build("small_cnn", 4, width=4), keras.losses.BinaryCrossentropy(from_logits=True)
    else:
        model, loss = build_unet(5, width=4, depth=1), get_loss("cross_entropy_dice")
    made = Run(tmp_path / target)
    made.begin({})
    options = {"score": None, "target": target, "progress": lambda line: None}
    train(model, parts[0], loss=loss, recipe=RECIPE, run=made, **options)
    assert "float16" in _halves(_assert_sound(made, model))


def test_the_adversary_trains_in_half_precision(half, parts, tmp_path):
    victims = {"classifier": Network(fragile_classifier(norm=False), "multilabel")}
    task = AdversarialPerturbation(("classifier",), weight=1.0)
    experiment = Experiment("a", task, "generator", RECIPE, options={"width": 8})
    data = Parts(*parts, parts[1])
    made = run(experiment, data, tmp_path, networks=victims, progress=lambda line: None)
    assert all(np.isfinite(entry["loss"]) for entry in made.history[1:])
    bench = Bench(parts[1], 32)
    images, _ = bench.attack(Adversary.of(made), victims["classifier"], 8 / 255)
    assert 0 < np.abs(images.astype(float) - bench.images).max() <= 8


@pytest.mark.parametrize("trades", [0.0, 6.0])
def test_the_defence_trains_in_half_precision(trades, half, parts, tmp_path):
    victim = Network(zoo.build("small_cnn", 4, width=4), "multilabel")
    task, data = AdversarialTraining(clean=True, trades=trades), Parts(*parts, parts[1])
    experiment = Experiment("h", task, "v", RECIPE)
    made = run(experiment, data, tmp_path, networks={"v": victim}, progress=lambda line: None)
    assert "float16" in _halves(_assert_sound(made))


def test_features_are_learnt_in_half_precision(half, parts, tmp_path):
    recipe, options = replace(RECIPE, augmentation="views"), {"width": 4}
    experiment = Experiment("s", SimSiam(width=16, bottleneck=8), "resnet8", recipe, options=options)
    made = run(experiment, Parts(*parts, parts[1]), tmp_path, progress=lambda line: None)
    assert "float16" in _halves(_assert_sound(made))


def test_weights_are_averaged_in_half_precision(half, parts, tmp_path):
    """With a momentum of nearly 0 the average is the latest weights."""
    kept = []
    for average in (0.0, 1e-6):
        recipe = replace(RECIPE, average=average)
        experiment = Experiment(f"a{average}", Classification(), "small_cnn", recipe, options={"width": 4})
        made = run(experiment, Parts(*parts, parts[1]), tmp_path, progress=lambda line: None)
        kept.append([w.numpy() for w in _assert_sound(made).trainable_variables])
    for plain, averaged in zip(*kept, strict=True):
        np.testing.assert_allclose(averaged, plain, atol=1e-4)


def test_half_precision_keeps_the_direction_of_an_attack_on_many_pixels(half, parts):
    """The gradient of a mean over pixels is smaller than what float16 holds."""
    pixels = np.stack([np.tile(parts[0].image(i), (6, 5, 1)) for i in range(2)]).astype(np.float32) / 255
    truth = np.stack([np.tile(parts[0].mask(i), (6, 5)) for i in range(2)])
    coarse = fragile_segmenter()
    keras.config.set_dtype_policy("float32")
    whole = fragile_segmenter()
    for model in (whole, coarse):
        kernel, bias = model.get_layer("logits").get_weights()
        model.get_layer("logits").set_weights([kernel / 4000, bias / 4000])
    gradients = [
        Target(truth).gradient(Network(model, "segmentation"), pixels, "cross_entropy")[1]
        for model in (whole, coarse)
    ]
    a, b = (gradient.ravel() / np.linalg.norm(gradient) for gradient in gradients)
    assert a @ b > 0.99
