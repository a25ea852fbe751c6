"""Adversarial fine-tuning: its attack in the graph, what it gains, resuming, what it leaves on disk."""

import shutil
import subprocess
import sys
from dataclasses import replace

import keras
import numpy as np
import pytest
from fragile_victims import four_classes, fragile_classifier, fragile_segmenter, one_class_each

from voclab.attacks import PGD, Bench, Network, defence
from voclab.attacks.defence import AdversariallyTrained, harden
from voclab.data.images import resized
from voclab.errors import VoclabError
from voclab.training import Recipe, Run

EPSILON = 1 / 255
RECIPE = Recipe(32, "none", 12, 0.15, batch_size=8, weight_decay=0.0, warmup=0.0, patience=99, seed=4)


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""


def silent(line):
    """For runs whose progress nobody reads."""


def classifier(task="multilabel"):
    return Network(fragile_classifier(norm=False), task, "classifier")


@pytest.fixture(scope="module")
def parts(squares):
    data = four_classes(squares)
    return data.subset(range(24), "fit"), data.subset(range(24, 36), "validation")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def hardened(parts, folder):
    """(the run, the classifier it was made from)."""
    victim = classifier()
    run = harden("hardened", victim, *parts, folder, recipe=RECIPE, epsilon=EPSILON, progress=silent)
    return run, victim


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


def test_the_hardened_classifier_withstands_what_fools_the_first(hardened, squares):
    run, victim = hardened
    bench = Bench(four_classes(squares).subset(range(36, 48), "test"), 32)
    defended = Network(run.load_model(), "multilabel", "defended")
    assert accuracy_under_pgd(victim, bench) < 0.2
    assert accuracy_under_pgd(defended, bench) > 0.6
    assert bench.effect(defended, bench.images)["accuracy"] > 0.8


def test_hardening_leaves_the_first_classifier_alone(hardened):
    run, victim = hardened
    assert same_weights(victim.model, fragile_classifier(norm=False))
    assert victim.model.trainable
    assert not same_weights(victim.model, run.load_model())


def test_the_history_says_how_it_stands_with_and_without_an_attack(hardened, parts):
    run, _ = hardened
    first, *epochs = run.history
    assert set(first) == {"epoch", "accuracy", "robust"}
    assert all(set(entry) == {"epoch", "accuracy", "robust", "loss", "seconds"} for entry in epochs)
    assert first["robust"] < 0.2
    assert first["accuracy"] == 1.0
    best = max(run.history, key=lambda entry: entry["robust"])
    assert best["epoch"] > 0
    assert run.metrics["validation"] == best
    bench = Bench(parts[1], 32)
    defended = Network(run.load_model(), "multilabel")
    images, _ = bench.attack(PGD("cross_entropy", steps=5, step=0.3), defended, EPSILON)
    assert bench.effect(defended, bench.images)["accuracy"] == pytest.approx(best["accuracy"])
    assert bench.effect(defended, images)["accuracy"] == pytest.approx(best["robust"])


def test_the_stored_model_is_a_plain_network(hardened, parts, tmp_path):
    """A process that never heard of this defence loads it, in safe mode, and gets the same answers."""
    run, _ = hardened
    pixels = np.stack([resized(parts[1].image(i), 32) for i in range(4)])
    np.save(tmp_path / "pixels.npy", pixels)
    code = f"""
import sys
import numpy as np
from voclab.training import load_model
model = load_model({str(run.folder / "model.keras")!r})
assert not any(name.startswith("voclab.attacks") for name in sys.modules)
np.save({str(tmp_path / "logits.npy")!r}, model(np.load({str(tmp_path / "pixels.npy")!r}), training=False))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    expected = np.asarray(run.load_model()(pixels, training=False))
    np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), expected, atol=1e-4)


def test_a_killed_hardening_resumes_to_the_same_network(hardened, parts, tmp_path):
    def kill(line):
        raise Killed

    options = {"recipe": RECIPE, "epsilon": EPSILON}
    with pytest.raises(Killed):
        harden("hardened", classifier(), *parts, tmp_path, progress=kill, **options)
    assert not Run(tmp_path / "hardened").complete
    keras.utils.set_random_seed(99)
    lines = []
    resumed = harden("hardened", classifier(), *parts, tmp_path, progress=lines.append, **options)
    assert sum(": epoch " in line for line in lines) == RECIPE.epochs - 1
    ours, theirs = (
        [{k: v for k, v in entry.items() if k != "seconds"} for entry in run.history]
        for run in (resumed, hardened[0])
    )
    assert ours == theirs
    assert same_weights(resumed.load_model(), hardened[0].load_model())


CHANGES = [
    {},
    {"epsilon": 2 * EPSILON},
    {"steps": 5},
    {"recipe": replace(RECIPE, learning_rate=1.0)},
    {"victim": None},
]


@pytest.mark.parametrize("changes", CHANGES, ids=lambda changes: next(iter(changes), "nothing"))
def test_a_complete_hardening_is_read_unless_something_else_is_asked_for(
    changes, hardened, parts, folder, tmp_path, monkeypatch
):
    def training(*args, **options):
        raise Killed

    shutil.copytree(folder / "hardened", tmp_path / "hardened")
    monkeypatch.setattr(defence, "train", training)
    lines, victim = [], classifier()
    options = {"recipe": RECIPE, "epsilon": EPSILON, "progress": lines.append} | changes
    if "victim" in options:
        del options["victim"]
        victim.model.get_layer("logits").bias.assign([0, 0, 0, 1])
    if changes:
        with pytest.raises(Killed):
            harden("hardened", victim, *parts, tmp_path, **options)
    else:
        harden("hardened", victim, *parts, tmp_path, **options)
        assert len(lines) == 1
        assert "hardened: complete, read from" in lines[0]


def test_data_of_one_class_each(squares, tmp_path):
    data = one_class_each(four_classes(squares))
    fit_set, validation = data.subset(range(16), "fit"), data.subset(range(16, len(data)), "validation")
    victim = classifier("multiclass")
    run = harden("m", victim, fit_set, validation, tmp_path, recipe=RECIPE, epsilon=EPSILON, progress=silent)
    assert run.history[0]["robust"] < 0.2
    assert run.metrics["validation"]["robust"] > 0.6


def test_a_segmenter_is_refused(parts, tmp_path):
    segmenter = Network(fragile_segmenter(), "segmentation")
    with pytest.raises(VoclabError, match="is for classifiers; a segmenter was given"):
        harden("h", segmenter, *parts, tmp_path, recipe=RECIPE)
    assert list(tmp_path.iterdir()) == []
