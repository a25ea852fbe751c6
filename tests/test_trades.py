"""TRADES: its loss and its attack against plain numpy, and training with it."""

import json

import keras
import numpy as np
import pytest
from fragile_victims import four_classes, fragile_classifier, one_class_each
from scipy.special import expit, log_softmax, softmax

from toyvoc.cifar import make_toycifar
from voclab import cli
from voclab.attacks.adversarial_training import AdversariallyTrained, divergence
from voclab.data.images import resized
from voclab.errors import VoclabError
from voclab.experiments.options import asked
from voclab.training import load_model

EPSILON, BETA = 2 / 255, 6.0
TASKS = pytest.mark.parametrize("task", ["multiclass", "multilabel"])


def kl(task, p, q):
    """(n,) KL(p || q) of logits by its definition, in float64."""
    p, q = np.asarray(p, np.float64), np.asarray(q, np.float64)
    if task == "multiclass":
        return (softmax(p, 1) * (log_softmax(p, 1) - log_softmax(q, 1))).sum(1)
    a, b = expit(p), expit(q)
    return (a * np.log(a / b) + (1 - a) * np.log((1 - a) / (1 - b))).mean(1)


def cross_entropy(task, z, y):
    z = np.asarray(z, np.float64)
    if task == "multiclass":
        return -(log_softmax(z, 1) * y).sum(1)
    return (np.logaddexp(0, z) - y * z).mean(1)


def armed(task, epsilon=EPSILON, trades=BETA, steps=3):
    plain = fragile_classifier()
    model = AdversariallyTrained(plain.inputs[0], plain.outputs[0])
    model.arm(task, epsilon, steps, clean=False, trades=trades)
    return model


def batch(task, squares, n=7):
    data = one_class_each(four_classes(squares)) if task == "multiclass" else four_classes(squares)
    return np.stack([resized(data.image(i), 32) for i in range(n)]), data.labels[:n].astype(np.float32)


@TASKS
def test_the_divergence_is_that_of_its_definition(task):
    clean, perturbed = np.random.default_rng(0).normal(0, 3, (2, 5, 4)).astype(np.float32)
    np.testing.assert_allclose(divergence(task, clean, perturbed), kl(task, clean, perturbed), rtol=1e-4)
    np.testing.assert_allclose(divergence(task, clean, clean), 0, atol=1e-6)
    far = np.array([[60.0, -60.0, 0.0, 0.0]], np.float32)  # where exp of a logit would overflow
    assert np.isfinite(divergence(task, far, -far)).all()


@TASKS
def test_a_step_has_the_loss_of_the_paper(task, squares, monkeypatch):
    """Cross-entropy of the clean images plus beta times the divergence; seven images, so no even halves."""
    images, truth = batch(task, squares)
    other = np.clip(images + 0.02, 0, 1)
    shifted = keras.ops.convert_to_tensor(other)
    monkeypatch.setattr(AdversariallyTrained, "_perturbed", lambda self, x, y: shifted)
    model = armed(task)
    kinds = {"multiclass": "CategoricalCrossentropy", "multilabel": "BinaryCrossentropy"}
    model.compile("sgd", getattr(keras.losses, kinds[task])(from_logits=True))
    both = np.asarray(model(np.concatenate([images, other]), training=True))
    clean, perturbed = both[:7], both[7:]
    expected = (cross_entropy(task, clean, truth) + BETA * kl(task, clean, perturbed)).mean()
    assert BETA * kl(task, clean, perturbed).mean() > 0.01 * expected  # both terms count
    told = model.fit(images, truth, batch_size=7, epochs=1, shuffle=False, verbose=0).history["loss"]
    assert told == pytest.approx([expected], rel=1e-3)


@TASKS
def test_the_attack_raises_the_divergence_within_the_bound_without_labels(task, squares):
    images, truth = batch(task, squares)
    found = []
    for labels in (truth, np.roll(truth, 1, axis=1)):
        model = armed(task)
        found.append(np.asarray(model._perturbed(keras.ops.convert_to_tensor(images), labels)))
    np.testing.assert_array_equal(*found)
    perturbed = found[0]
    assert np.abs(perturbed - images).max() == pytest.approx(EPSILON, rel=1e-3)
    assert 0 <= perturbed.min() <= perturbed.max() <= 1
    noise = EPSILON * np.random.default_rng(0).choice([-1, 1], images.shape)
    noisy = np.clip(images + noise, 0, 1).astype(np.float32)
    clean, attacked, random = (model(x, training=False) for x in (images, perturbed, noisy))
    assert kl(task, clean, attacked).mean() > 5 * kl(task, clean, random).mean()


@pytest.fixture(scope="module")
def toycifar(tmp_path_factory):
    return make_toycifar(tmp_path_factory.mktemp("toy"), train=120, test=30, progress=False)


def test_the_command_trains_with_trades_and_averaged_weights(toycifar, tmp_path):
    text = f"train --dataset {toycifar} --model small_cnn --width 4 --epochs 2 --batch-size 16"
    text += " --learning-rate 0.01"
    text += f" --augmentation adversarial --steps 1 --trades 6 --ema 0.9 --name t --runs {tmp_path}"
    assert cli.main(text.split()) == 0
    config = json.loads((tmp_path / "t" / "config.json").read_text())["experiment"]
    assert config["task"]["trades"] == 6
    assert config["recipe"]["average"] == 0.9
    history = json.loads((tmp_path / "t" / "history.json").read_text())
    assert all(0 <= entry["robust"] <= 1 for entry in history)
    assert type(load_model(tmp_path / "t" / "model.keras")).__name__ == "Functional"


def test_trades_without_adversarial_training_is_refused():
    with pytest.raises(VoclabError, match="add --augmentation adversarial"):
        asked({"dataset": "toycifar", "model": "small_cnn", "trades": 6})
