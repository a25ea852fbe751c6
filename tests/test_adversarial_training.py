"""Adversarial fine-tuning: its attack in the graph, what it gains, resuming, what it leaves on disk."""

import subprocess
import sys

import keras
import numpy as np
import pytest
from fragile_victims import four_classes, fragile_classifier, fragile_segmenter, one_class_each

from voclab.attacks import PGD, AdversarialTraining, Bench, Network
from voclab.attacks.adversarial_training import AdversariallyTrained
from voclab.data.images import resized
from voclab.errors import VoclabError
from voclab.training import Experiment, Parts, Recipe
from voclab.training.experiment import run

EPSILON = 1 / 255
TASK = AdversarialTraining(epsilon=EPSILON, steps=2, clean=True, images=0)
RECIPE = Recipe(32, "none", 12, 0.15, batch_size=8, weight_decay=0.0, warmup=0.0, patience=99, seed=4)


def silent(line):
    """For runs whose progress nobody reads."""


def classifier(task="multilabel"):
    return Network(fragile_classifier(norm=False), task, "classifier")


@pytest.fixture(scope="module")
def parts(squares):
    data = four_classes(squares)
    test = data.subset(range(36, 48), "test")
    return Parts(data.subset(range(24), "fit"), data.subset(range(24, 36), "validation"), test)


EXPERIMENT = Experiment("hardened", TASK, "classifier", RECIPE)


@pytest.fixture(scope="module")
def hardened(parts, tmp_path_factory):
    """(the run, the classifier it was made from)."""
    victim, folder = classifier(), tmp_path_factory.mktemp("runs")
    return run(EXPERIMENT, parts, folder, networks={"classifier": victim}, progress=silent), victim


def same_weights(one, other):
    ours, theirs = one.get_weights(), other.get_weights()
    return len(ours) == len(theirs) and all(np.array_equal(a, b) for a, b in zip(ours, theirs))


# --- the attack in the graph ---


def armed(task="multilabel", epsilon=EPSILON, steps=3):
    plain = fragile_classifier()
    model = AdversariallyTrained(plain.inputs[0], plain.outputs[0])
    model.arm(task, epsilon, steps)
    return model


def cross_entropy(z, y, task):
    """Mean over images, in plain numpy."""
    z = np.asarray(z, float)
    if task == "multiclass":
        top = z.max(1, keepdims=True)
        return (np.log(np.exp(z - top).sum(1)) + top[:, 0] - (z * y).sum(1)).mean()
    return (np.logaddexp(0, z) - y * z).mean()


@pytest.mark.parametrize("task", ["multilabel", "multiclass"])
@pytest.mark.parametrize("steps", [1, 3])
def test_the_images_it_learns_from_are_in_the_ball_and_worse(task, steps, squares):
    data = four_classes(squares)
    data = one_class_each(data) if task == "multiclass" else data
    images = np.stack([resized(data.image(i), 32) for i in range(8)])
    images[:2] = np.round(images[:2])  # some pixels are black or white already
    truth = data.labels[:8].astype(np.float32)
    model = armed(task, steps=steps)
    perturbed = np.asarray(model._perturbed(keras.ops.convert_to_tensor(images), truth))
    assert perturbed.shape == images.shape
    assert perturbed.min() >= 0
    assert perturbed.max() <= 1
    assert np.abs(perturbed - images).max() <= EPSILON + 1e-6
    rng = np.random.default_rng(0)
    noisy = np.clip(images + EPSILON * rng.choice([-1, 1], images.shape), 0, 1).astype(np.float32)
    clean, noise, attacked = (
        cross_entropy(model(x, training=False), truth, task) for x in (images, noisy, perturbed)
    )
    assert attacked > clean + 0.3
    assert attacked > noise + 0.3


def test_more_of_a_bound_moves_images_further(squares):
    data = four_classes(squares)
    images = np.stack([resized(data.image(i), 32) for i in range(4)])
    change = [
        np.abs(
            np.asarray(armed(epsilon=e)._perturbed(images, data.labels[:4].astype("float32"))) - images
        ).max()
        for e in (0.0, EPSILON, 4 * EPSILON)
    ]
    assert change == pytest.approx([0, EPSILON, 4 * EPSILON], abs=1e-6)


def test_a_step_learns_from_clean_and_perturbed_images_alike(squares, monkeypatch):
    """The attack itself moves no weight; here it is replaced by one that paints images black."""
    data = four_classes(squares)
    images = np.stack([resized(data.image(i), 32) for i in range(8)])
    truth, given = data.labels[:8].astype(np.float32), []
    model = armed()
    before = [w.copy() for w in model.get_weights()]
    model._perturbed(images, truth)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights()))
    monkeypatch.setattr(AdversariallyTrained, "_perturbed", lambda self, x, y: given.append(1) or 0.0 * x)
    model.compile("sgd", keras.losses.BinaryCrossentropy(from_logits=True), run_eagerly=True)
    both = model(np.concatenate([images, 0 * images]), training=True)
    parts = [cross_entropy(logits, truth, "multilabel") for logits in (both[:8], both[8:])]
    assert abs(parts[0] - parts[1]) > 0.1
    history = model.fit(images, truth, batch_size=8, epochs=1, verbose=0).history
    assert given == [1]
    assert history["loss"][0] == pytest.approx(np.mean(parts), rel=1e-4)


# --- the training ---


def accuracy_under_pgd(victim, bench):
    images, _ = bench.attack(PGD(), victim, EPSILON)
    return bench.effect(victim, images)["accuracy"]


def test_the_hardened_classifier_withstands_what_fools_the_first(hardened, parts):
    made, victim = hardened
    bench = Bench(parts.test, 32)
    defended = Network(made.load_model(), "multilabel", "defended")
    assert accuracy_under_pgd(victim, bench) < 0.2
    assert accuracy_under_pgd(defended, bench) > 0.6
    assert bench.effect(defended, bench.images)["accuracy"] > 0.8


def test_hardening_leaves_the_first_classifier_alone(hardened):
    made, victim = hardened
    assert same_weights(victim.model, fragile_classifier(norm=False))
    assert victim.model.trainable
    assert not same_weights(victim.model, made.load_model())


def test_the_history_says_how_it_stands_with_and_without_an_attack(hardened, parts):
    made, _ = hardened
    first = made.history[0]
    assert first["robust"] < 0.2
    assert first["accuracy"] == 1.0
    best = max(made.history, key=lambda entry: entry["robust"])
    assert best["epoch"] > 0
    assert made.metrics["validation"] == best
    bench = Bench(parts.validation, 32)
    defended = Network(made.load_model(), "multilabel")
    images, _ = bench.attack(PGD("cross_entropy", steps=5, step=0.3), defended, EPSILON)
    assert bench.effect(defended, bench.images)["accuracy"] == pytest.approx(best["accuracy"])
    assert bench.effect(defended, images)["accuracy"] == pytest.approx(best["robust"])


def test_the_stored_model_is_a_plain_network(hardened, parts, tmp_path):
    """A process that never heard of this defence loads it, in safe mode, and gets the same answers."""
    made, _ = hardened
    pixels = np.stack([resized(parts.validation.image(i), 32) for i in range(4)])
    np.save(tmp_path / "pixels.npy", pixels)
    code = f"""
import sys
import numpy as np
from voclab.training import load_model
model = load_model({str(made.folder / "model.keras")!r})
assert not any(name.startswith("voclab.attacks") for name in sys.modules)
np.save({str(tmp_path / "logits.npy")!r}, model(np.load({str(tmp_path / "pixels.npy")!r}), training=False))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    expected = np.asarray(made.load_model()(pixels, training=False))
    np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), expected, atol=1e-4)


def test_data_of_one_class_each(squares, tmp_path):
    data = one_class_each(four_classes(squares))
    validation = data.subset(range(16, len(data)), "validation")
    parts = Parts(data.subset(range(16), "fit"), validation, validation)
    networks = {"classifier": classifier("multiclass")}
    made = run(EXPERIMENT, parts, tmp_path, networks=networks, progress=silent)
    assert made.history[0]["robust"] < 0.2
    assert made.metrics["validation"]["robust"] > 0.6


def test_a_segmenter_is_refused(parts, tmp_path):
    networks = {"classifier": Network(fragile_segmenter(), "segmentation")}
    with pytest.raises(VoclabError, match="is for classifiers; a segmenter was given"):
        run(EXPERIMENT, parts, tmp_path, networks=networks)
    assert list(tmp_path.iterdir()) == []
