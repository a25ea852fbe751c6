"""SimSiam: its loss, what it may not learn from, that it learns and does not collapse, resuming."""

import json
from dataclasses import replace

import keras
import numpy as np
import pytest
from test_training import Killed, _assert_same

from toyvoc.cifar import make_toycifar
from voclab import cli
from voclab.data import load
from voclab.data.batches import batch_maker
from voclab.data.splits import fit_validation
from voclab.errors import VoclabError
from voclab.evaluation import open_network
from voclab.training import Experiment, Parts, Recipe
from voclab.training.experiment import run
from voclab.training.self_supervised import SimSiam, spread, symmetric_loss

RECIPE = Recipe(32, "views", 2, 0.1, batch_size=32, optimizer="sgd", weight_decay=5e-3, patience=99, seed=1)
EXPERIMENT = Experiment("s", SimSiam(width=32, bottleneck=8), "resnet8", RECIPE, options={"width": 4})


@pytest.fixture(scope="module")
def toycifar(tmp_path_factory):
    return make_toycifar(tmp_path_factory.mktemp("toy"), train=160, test=30, progress=False)


@pytest.fixture(scope="module")
def parts(toycifar):
    train, test = (load("toycifar", toycifar, split) for split in ("train", "test"))
    return Parts(*fit_validation(train, 0.2, 0), test)


def cosine(a, b):
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def test_the_loss_is_that_of_the_paper_and_symmetric():
    z1, z2, p1, p2 = np.random.default_rng(0).normal(size=(4, 5, 7)).astype(np.float32)
    expected = -(cosine(p1, z2).mean() + cosine(p2, z1).mean()) / 2
    found = float(symmetric_loss(np.concatenate([z1, z2]), np.concatenate([p1, p2])))
    swapped = float(symmetric_loss(np.concatenate([z2, z1]), np.concatenate([p2, p1])))
    assert found == pytest.approx(expected, rel=1e-4)
    assert swapped == pytest.approx(found, rel=1e-5)


def test_no_gradient_flows_into_what_is_predicted():
    import tensorflow as tf

    z, p = (tf.Variable(x) for x in np.random.default_rng(0).normal(size=(2, 6, 4)).astype(np.float32))
    with tf.GradientTape() as tape:
        loss = symmetric_loss(2.0 * z, 3.0 * p)
    into_z, into_p = tape.gradient(loss, [z, p])
    assert into_z is None
    assert np.abs(into_p).max() > 0


def test_spread_tells_random_directions_from_collapse():
    rng = np.random.default_rng(0)
    assert spread(rng.normal(size=(500, 64))) == pytest.approx(1, abs=0.05)
    assert spread(np.ones((500, 64)) * rng.uniform(1, 2, (500, 1))) < 1e-6


def test_the_two_views_of_an_image_differ_and_are_drawn_by_seed(parts):
    how = {"size": 32, "augmentation": "views", "batch_size": 8, "target": "views"}
    one, other = batch_maker(parts.fit, seed=3, **how)(0)
    assert one.shape == other.shape == (8, 32, 32, 3)
    assert (np.abs(one.astype(int) - other).mean((1, 2, 3)) > 2).all()
    again = batch_maker(parts.fit, seed=3, **how)(0)
    assert np.array_equal(one, again[0])
    assert np.array_equal(other, again[1])


@pytest.fixture(scope="module")
def unbroken(parts, tmp_path_factory):
    return run(EXPERIMENT, parts, tmp_path_factory.mktemp("runs"), progress=lambda line: None)


def test_an_encoder_is_kept_that_has_not_collapsed(unbroken, parts):
    history = unbroken.history
    assert history[-1]["loss"] < history[1]["loss"]
    assert history[-1]["spread"] > 0.2
    assert unbroken.metrics["validation"]["epoch"] == 2
    model = unbroken.load_model()
    assert model.output_shape == (None, 16)
    assert not any("projector" in layer.name for layer in model.layers)
    with pytest.raises(VoclabError):
        open_network(unbroken.folder, parts.test)  # an encoder answers with no class


def test_labels_take_no_part(unbroken, parts, tmp_path):
    shuffled = replace(parts.fit, labels=np.roll(parts.fit.labels, 1, axis=1))
    other = run(EXPERIMENT, replace(parts, fit=shuffled), tmp_path, progress=lambda line: None)
    _assert_same((other, other.load_model()), (unbroken, unbroken.load_model()))


def test_a_killed_training_resumes_to_the_same_numbers(unbroken, parts, tmp_path):
    def kill(line):
        raise Killed

    with pytest.raises(Killed):
        run(EXPERIMENT, parts, tmp_path, progress=kill)  # when the first epoch is reported
    keras.utils.set_random_seed(99)
    resumed = run(EXPERIMENT, parts, tmp_path, progress=lambda line: None)
    _assert_same((resumed, resumed.load_model()), (unbroken, unbroken.load_model()))


def test_the_command_trains_an_encoder(toycifar, tmp_path):
    text = f"train --task simsiam --dataset {toycifar} --model resnet8 --width 4 --epochs 1 --batch-size 32"
    assert cli.main([*text.split(), "--runs", str(tmp_path)]) == 0
    (folder,) = tmp_path.iterdir()
    assert folder.name == f"{toycifar.name}-resnet8-simsiam-seed0"
    config = json.loads((folder / "config.json").read_text())
    recipe = config["experiment"]["recipe"]
    assert (recipe["augmentation"], recipe["optimizer"], recipe["learning_rate"]) == ("views", "sgd", 0.1)
    assert cli.main(f"train --task simsiam --dataset {toycifar} --model resnet8 --dropout 0.1".split()) == 2
