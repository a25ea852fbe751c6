"""The training loop: learns, resumes exactly, keeps the best, stops clearly."""

import errno
import json
import os
import subprocess
import sys
from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from test_files import HOLDER

from voclab import files
from voclab.backend import out_of_memory
from voclab.data.images import resized
from voclab.data.splits import fit_validation
from voclab.errors import VoclabError
from voclab.metrics import mean_average_precision
from voclab.models import zoo
from voclab.training import Recipe, Run, load_model, train
from voclab.training.loop import make_optimizer

RECIPE = Recipe(
    size=32, augmentation="standard", epochs=4, learning_rate=3e-3, batch_size=8, patience=10, seed=3
)
LOSS = keras.losses.BinaryCrossentropy(from_logits=True)


def _network(dropout=0.0):
    """Small, since most of a short training is spent on compiling; it keeps statistics and may drop out."""
    inputs = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(16, 5, 2, use_bias=False)(inputs)
    x = keras.layers.Activation("relu")(keras.layers.BatchNormalization()(x))
    x = keras.layers.Dropout(dropout)(keras.layers.GlobalMaxPooling2D()(x))
    return keras.Model(inputs, keras.layers.Dense(3, name="logits")(x))


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""


@pytest.fixture(scope="module")
def parts(squares):
    return fit_validation(squares, 0.25, seed=0)


def _scorer(validation):
    pixels = np.stack([resized(validation.image(i), 32) for i in range(len(validation))])
    return lambda model: {"map": mean_average_precision(validation.labels, model.predict_on_batch(pixels))}


def _killing(score, epoch):
    """A score that ends the training like a kill in that epoch; it is called once before the first."""
    calls = []

    def killing(model):
        calls.append(1)
        if len(calls) == epoch + 1:
            raise Killed
        return score(model)

    return killing


def _killed_and_resumed(training, score, folder, epoch):
    """What ``training(folder, score)`` gives, killed while that epoch is scored and started again."""
    with pytest.raises(Killed):
        training(folder, _killing(score, epoch))
    return training(folder, None)


def _assert_same(ours, theirs):
    """Two trainings, each (run, network), agree in every figure but the seconds, and in every weight."""
    a, b = (
        [{k: v for k, v in entry.items() if k != "seconds"} for entry in run.history]
        for run, _ in (ours, theirs)
    )
    assert a == b
    for a, b in zip(ours[1].get_weights(), theirs[1].get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def _train(folder, parts, recipe=RECIPE, score=None, model=None, progress=lambda line: None):
    fit_set, validation = parts
    run = Run(folder)
    run.begin({"recipe": recipe})
    if model is None:
        keras.utils.set_random_seed(recipe.seed)
        model = _network(dropout=0.3)
    score = score or _scorer(validation)
    train(model, fit_set, loss=LOSS, recipe=recipe, run=run, score=score, monitor="map", progress=progress)
    return run, model


@pytest.fixture(scope="module")
def unbroken(parts, tmp_path_factory):
    return _train(tmp_path_factory.mktemp("unbroken") / "run", parts)


def test_training_learns_and_leaves_the_best_model(unbroken, parts):
    run, model = unbroken
    history = run.history
    assert [e["epoch"] for e in history] == [0, 1, 2, 3, 4]
    assert history[-1]["loss"] < 0.9 * history[1]["loss"]
    best = max(e["map"] for e in history)
    assert best > history[0]["map"]
    score = _scorer(parts[1])
    assert score(model)["map"] == pytest.approx(best)
    assert score(run.load_model())["map"] == pytest.approx(best)


@pytest.mark.parametrize("killed_after", [1, 3])
def test_a_killed_training_resumes_to_the_same_numbers(killed_after, unbroken, parts, tmp_path):
    def training(folder, score):
        if score:
            return _train(folder, parts, score=score)
        keras.utils.set_random_seed(99)  # a resumed run must not depend on the new process' random state
        model = _network(dropout=0.3)
        return _train(folder, parts, model=model)

    resumed = _killed_and_resumed(training, _scorer(parts[1]), tmp_path / "run", killed_after + 1)
    _assert_same(resumed, unbroken)


def test_sgd_with_mixed_and_smoothed_labels_learns_and_resumes_alike(parts, tmp_path):
    options = {"optimizer": "sgd", "learning_rate": 0.05, "momentum": 0.8, "mixup": 0.3, "smoothing": 0.1}
    recipe = replace(RECIPE, augmentation="cifar", epochs=3, **options)

    def run(folder, score=None, recipe=recipe):
        keras.utils.set_random_seed(recipe.seed)
        return _train(folder, parts, recipe, score, zoo.build("small_cnn", 3, width=4, dropout=0.2))

    unbroken, model = run(tmp_path / "unbroken")
    assert unbroken.history[-1]["loss"] < unbroken.history[1]["loss"]
    for option in ("mixup", "smoothing"):  # each is used
        other, _ = run(tmp_path / option, recipe=replace(recipe, epochs=1, **{option: 0.0}))
        assert other.history[1]["loss"] != unbroken.history[1]["loss"]
    resumed = _killed_and_resumed(run, _scorer(parts[1]), tmp_path / "killed", 2)
    _assert_same(resumed, (unbroken, model))


def test_steps_of_sgd_are_those_computed_by_hand():
    recipe = Recipe(32, "none", 2, 0.1, weight_decay=0.5, warmup=0.0, optimizer="sgd", momentum=0.8)
    optimizer = make_optimizer(recipe, steps=2)
    kernel, bias = keras.Variable([1.0, -2.0], name="kernel"), keras.Variable([3.0], name="bias")
    optimizer.build([kernel, bias])
    gradients = [np.float32([0.3, 0.4]), np.float32([2.0])]
    optimizer.apply(gradients)
    # rate 0.1; the kernel decays by 0.5 × 0.1 of itself, the bias does not
    np.testing.assert_allclose(kernel, [0.95 - 0.03, -1.9 - 0.04], rtol=1e-6)
    np.testing.assert_allclose(bias, [3.0 - 0.2], rtol=1e-6)
    optimizer.apply(gradients)
    learning_rate = 0.1 * (1 + np.cos(np.pi / 4)) / 2  # the cosine after one of four steps
    velocity = 0.8 * np.array([-0.03, -0.04]) - learning_rate * gradients[0]
    np.testing.assert_allclose(
        kernel, np.array([0.92, -1.94]) * (1 - 0.5 * learning_rate) + velocity, rtol=1e-6
    )
    np.testing.assert_allclose(bias, [2.8 + 0.8 * -0.2 - learning_rate * 2.0], rtol=1e-6)
    kernel.assign([0.0, 0.0])
    before = np.array(optimizer.momentums[0])
    optimizer.apply([np.float32([300.0, 400.0]), np.float32([0.0])])
    step = np.array(kernel) - 0.8 * before
    np.testing.assert_allclose(step / np.linalg.norm(step), [-0.6, -0.8], rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(step), 5.0 * 0.1 / 2, rtol=1e-5)  # cut to norm 5


def test_an_unknown_optimizer_is_refused():
    with pytest.raises(ValueError, match="adam, sgd"):
        make_optimizer(replace(RECIPE, optimizer="lion"), 3)


def _train_two(folder, parts, score=None):
    """A network of two outputs, each with a loss of its own: (run, network)."""
    run = Run(folder)
    run.begin({"recipe": RECIPE})
    keras.utils.set_random_seed(RECIPE.seed)
    inputs = keras.Input((None, None, 3))
    x = keras.layers.Dropout(0.2)(keras.layers.Conv2D(4, 3, 2, activation="relu")(inputs))
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, {name: keras.layers.Dense(3, name=name)(x) for name in ("one", "other")})
    losses = {"one": LOSS, "other": keras.losses.MeanSquaredError()}
    score = score or _score_of_one(parts[1])
    quiet = {"progress": lambda line: None}
    train(model, parts[0], loss=losses, recipe=replace(RECIPE, epochs=2), run=run, score=score, **quiet)
    return run, model


def _score_of_one(validation):
    pixels = np.stack([resized(validation.image(i), 32) for i in range(len(validation))])
    return lambda model: {
        "map": mean_average_precision(validation.labels, model.predict_on_batch(pixels)["one"])
    }


def test_losses_of_several_outputs_are_kept_apart_and_resumed_alike(unbroken, parts, tmp_path):
    run, model = _train_two(tmp_path / "unbroken", parts)
    for entry in run.history[1:]:
        assert set(entry) == {"epoch", "loss", "one_loss", "other_loss", "map", "seconds"}
        assert entry["loss"] == pytest.approx(entry["one_loss"] + entry["other_loss"], rel=1e-5)
        assert entry["one_loss"] != pytest.approx(entry["other_loss"], rel=0.05)
    assert not any(key.endswith("_loss") for entry in unbroken[0].history for key in entry)

    def training(folder, score):
        return _train_two(folder, parts, score)

    resumed = _killed_and_resumed(training, _score_of_one(parts[1]), tmp_path / "killed", 2)
    _assert_same(resumed, (run, model))


@pytest.mark.parametrize("half_deleted", [False, True])
def test_a_kill_while_the_state_is_exchanged_loses_nothing(half_deleted, parts, tmp_path):
    short = replace(RECIPE, epochs=1)
    _train(tmp_path / "run", parts, short)
    folder = tmp_path / "run"
    (folder / "resume").rename(folder / "resume.new")
    if half_deleted:
        (folder / "resume").mkdir()
        (folder / "resume" / "last.weights.h5").write_bytes(b"old")
    lines = []
    _train(folder, parts, short, progress=lines.append)
    assert lines == []  # nothing was left to train


def test_a_damaged_image_stops_training_with_its_own_sentence(parts, tmp_path):
    fit_set, validation = parts

    def read(i):
        if i == 3:
            raise VoclabError("JPEGImages/square_03.jpg is cut off; copy it again.")
        return fit_set.image(i)

    with pytest.raises(VoclabError, match=r"square_03\.jpg is cut off"):
        _train(tmp_path / "run", (replace(fit_set, read_image=read), validation))


def test_a_validation_score_that_is_no_number_stops_training(parts, tmp_path):
    with pytest.raises(VoclabError, match="no validation image shows any class"):
        _train(tmp_path / "run", parts, score=lambda model: {"map": float("nan")})


def test_the_same_training_twice_gives_the_same_numbers(unbroken, parts, tmp_path):
    _assert_same(_train(tmp_path / "run", parts), unbroken)


def test_fine_tuning_that_only_harms_changes_nothing(parts, tmp_path):
    keras.utils.set_random_seed(0)
    model = _network()
    before = [w.copy() for w in model.get_weights()]
    values = iter([0.9, 0.1, 0.2])
    run, model = _train(
        tmp_path / "run", parts, replace(RECIPE, epochs=2), score=lambda m: {"map": next(values)}, model=model
    )
    for ours, theirs in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert [e["map"] for e in run.history] == [0.9, 0.1, 0.2]


def test_training_stops_when_patience_is_used_up(parts, tmp_path):
    values = iter([0.1, 0.5, 0.4, 0.3, 0.2, 0.1])
    run, _ = _train(
        tmp_path / "run", parts, replace(RECIPE, epochs=5, patience=2), score=lambda m: {"map": next(values)}
    )
    assert [e["epoch"] for e in run.history] == [0, 1, 2, 3]


def test_a_loss_that_is_not_finite_stops_with_the_batch_named(parts, tmp_path):
    keras.utils.set_random_seed(0)
    model = _network()
    dense = model.get_layer("logits")
    dense.set_weights([dense.get_weights()[0] * np.nan, dense.get_weights()[1]])
    with pytest.raises(VoclabError, match=r"loss is nan at batch 1 of epoch 1 .* lower the learning rate"):
        _train(tmp_path / "run", parts, model=model, score=lambda m: {"map": 0.0})
    assert (tmp_path / "run" / "model.keras").is_file()


def test_good_weights_outlive_a_loss_that_is_not_finite(unbroken, parts, tmp_path):
    keras.utils.set_random_seed(RECIPE.seed)
    model = _network(dropout=0.3)

    def poison(line):  # the report of an epoch, after its state was kept
        model.set_weights([np.full_like(weight, np.nan) for weight in model.get_weights()])

    with pytest.raises(VoclabError, match=r"loss is nan at batch 1 of epoch 2 .* kept in model\.keras"):
        _train(tmp_path / "run", parts, model=model, progress=poison)
    assert all(np.isfinite(w).all() for w in Run(tmp_path / "run").load_model().get_weights())
    _assert_same(_train(tmp_path / "run", parts), unbroken)  # and training goes on from there


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 3.1 GiB for an array"),
        tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor with shape[16,64,512,512]"),
    ],
)
def test_too_little_memory_names_a_batch_size_that_takes_less(error, parts, tmp_path):
    fit_set, validation = parts

    def read(i):
        raise error

    def score(model):
        raise error

    words = "Memory is too small .* batches of {} images of 32 × 32 pixels; train with {}"
    with pytest.raises(VoclabError, match=words.format(8, "batch size 4")):
        _train(tmp_path / "step", (replace(fit_set, read_image=read), validation))
    with pytest.raises(VoclabError, match=words.format(1, "images of less than 32 pixels")):
        _train(tmp_path / "score", parts, replace(RECIPE, batch_size=1), score)


def test_a_failed_allocation_is_recognised_by_what_it_says():
    for words in ("RESOURCE_EXHAUSTED: 2.1GiB", "Failed to allocate: out of memory"):
        assert out_of_memory(tf.errors.InternalError(None, None, words))
    assert not out_of_memory(tf.errors.InternalError(None, None, "cuDNN version mismatch"))
    assert not out_of_memory(ValueError("out of memory"))


def test_a_clock_that_went_back_changes_nothing(unbroken, parts, tmp_path):
    def training(folder, score):
        for path in folder.rglob("*"):  # written in the year 2100, by the clock
            os.utime(path, (4102444800, 4102444800))
        return _train(folder, parts, score=score)

    resumed = _killed_and_resumed(training, _scorer(parts[1]), tmp_path / "run", 2)
    _assert_same(resumed, unbroken)


def test_the_disk_filling_up_leaves_what_there_was(parts, tmp_path, monkeypatch):
    run, model = _train(tmp_path / "run", parts, replace(RECIPE, epochs=1))
    before = {p: p.read_bytes() for p in run.folder.rglob("*") if p.is_file()}

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    for write in (
        lambda: run.save_model(model),
        lambda: run.save_history([]),
        lambda: run.save_predictions(a=np.zeros(3)),
        lambda: run.finish({}),
    ):
        with pytest.raises(VoclabError, match=r"Cannot write .*run/.*: the disk is full; free some space"):
            write()
        assert {p: p.read_bytes() for p in run.folder.rglob("*") if p.is_file()} == before


def test_another_configuration_in_the_same_folder_starts_anew(tmp_path):
    run = Run(tmp_path / "run")
    assert not run.begin({"learning_rate": 1})
    run.finish({"map": 0.5})
    assert run.begin({"learning_rate": 1})
    assert not run.begin({"learning_rate": 2})
    assert not run.complete
    assert Run(tmp_path / "run.old").metrics == {"map": 0.5}  # a finished result is not lost


def test_a_run_folder_belongs_to_one_process_at_a_time(tmp_path):
    run = Run(tmp_path / "run")
    command = [sys.executable, "-c", HOLDER, str(run.folder / ".lock")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(VoclabError, match=rf"run folder .*run is in use by .*{other.pid}\); wait until"):
            run.begin({"learning_rate": 1})
        assert not (run.folder / "config.json").exists()
        other.kill()  # it leaves the lock's file, but not the lock
    assert (run.folder / ".lock").exists()
    assert not run.begin({"learning_rate": 1})
    with subprocess.Popen(command, **pipes) as other:
        assert f"number {os.getpid()}" in other.stdout.readline()
    run.finish({"map": 0.5})
    assert {p.name for p in run.folder.iterdir()} == {"config.json", "metrics.json"}
    with subprocess.Popen(command, **pipes) as other:
        assert other.stdout.readline() == "held\n"
        assert run.begin({"learning_rate": 1})  # a complete run is read, whoever is there
        other.kill()


def test_damaged_files_of_a_run_are_named(tmp_path):
    run = Run(tmp_path / "run")
    run.begin({"learning_rate": 1})
    (run.folder / "model.keras").write_bytes(b"no zip")
    with pytest.raises(VoclabError, match=r"model\.keras cannot be loaded .* train it again"):
        load_model(run.folder / "model.keras")
    (run.folder / "config.json").write_text('{"rate": ')
    lines = []
    assert not run.begin({"learning_rate": 1}, progress=lines.append)
    assert "begun anew, since a file of it is damaged" in lines[0]
    with pytest.raises(VoclabError, match=r"predictions\.npz is missing"):
        run.predictions()


def test_predictions_are_read_without_executing_anything(tmp_path):
    run = Run(tmp_path / "run")
    run.begin({})
    run.save_predictions(validation=np.arange(6, dtype=np.float32).reshape(2, 3))
    np.testing.assert_array_equal(run.predictions()["validation"], [[0, 1, 2], [3, 4, 5]])
    assert json.loads((run.folder / "config.json").read_text()) == {}


def test_a_result_is_computed_once_and_kept_while_the_run_is_the_same(tmp_path):
    calls = []

    def computed(value):
        def compute():
            calls.append(value)
            return value

        return compute

    run = Run(tmp_path / "run")
    run.begin({"seed": 1})
    arrays = {"a": np.eye(2, dtype=np.float32), "seconds": 1.5}
    for _ in range(2):
        assert run.once("a > b 8", computed({"map": np.float32(0.5), "n": (1, 2)})) == {
            "map": 0.5,
            "n": [1, 2],
        }
        assert run.once("empty", computed({})) == {}
        for key in ("features", "images of > b"):
            kept = run.once(key, computed(arrays))
            np.testing.assert_array_equal(kept["a"], arrays["a"])
            assert kept["a"].dtype == np.float32
            assert float(kept["seconds"]) == 1.5
        run = Run(tmp_path / "run")  # as in another process
        run.begin({"seed": 1})
    assert len(calls) == 4
    (run.folder / "arrays" / "features.npz").write_bytes(b"cut")
    run.once("features", computed(arrays))
    assert len(calls) == 5
    lines = []
    run.begin({"seed": 2}, progress=lines.append)
    assert "seed is 2 and was 1; the old run is kept in" in lines[0]
    assert run.once("empty", computed({"other": 1})) == {"other": 1}
