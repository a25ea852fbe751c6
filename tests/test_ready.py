"""The networks that come with the package: their files, their card, and what opens them."""

import json
import re
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import keras
import numpy as np
import pytest
from voc_trees import fails

from voclab.app.demo import Answers
from voclab.data.base import VOC_CLASSES
from voclab.data.images import at_size
from voclab.errors import VoclabError
from voclab.evaluation import conditions, open_network, open_networks, open_saved
from voclab.files import read_arrays, sha256, write_json
from voclab.models import ready
from voclab.models.generator import build_generator, condition
from voclab.models.joint import build_joint, classifier_of, segmenter_of
from voclab.models.network import Network
from voclab.models.saved import folder_beside, load_model, model_file, model_files, network_named


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A folder of small networks in the place of those that come with the package."""
    network = {"backbone": "cnn", "classes": 4, "width": 8, "finest": 8, "options": {"width": 4}}
    keras.utils.set_random_seed(0)
    model = build_joint(**network)
    (tmp_path / ready.CARD).write_text(json.dumps({"network": network}))
    ready.save_arrays(model, tmp_path / ready.ARRAYS)
    described = {"class_names": ["red", "green", "blue"], "recipe": {"size": 32}}
    for name, task in ((ready.CLASSIFIER, "multilabel"), (ready.SEGMENTER, "segmentation")):
        write_json(tmp_path / name / "config.json", {**described, "task": task})
    monkeypatch.setattr(ready, "FOLDER", tmp_path)
    return model


def test_what_is_kept_in_half_precision_answers_nearly_as_before(own):
    images = np.random.default_rng(0).random((2, 48, 64, 3), dtype=np.float32)
    expected = own.predict_on_batch(images)
    classifier, segmenter = (ready.load(name) for name in ready.NAMES)
    np.testing.assert_allclose(classifier.predict_on_batch(images), expected["presence"], atol=0.02)
    np.testing.assert_allclose(segmenter.predict_on_batch(images), expected["logits"], atol=0.02)
    kept = read_arrays(ready.FOLDER / ready.ARRAYS)
    assert {values.dtype for values in kept.values() if values.ndim > 1} == {np.dtype("f2")}
    assert {values.dtype for values in kept.values() if values.ndim == 1} == {np.dtype("f4")}


@pytest.mark.parametrize("damage", ["missing", "more", "shape", "cut"])
def test_damaged_files_are_a_sentence(damage, own):
    path = ready.FOLDER / ready.ARRAYS
    arrays = read_arrays(path)
    first = next(iter(arrays))
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:100])
    else:
        if damage == "missing":
            del arrays[first]
        elif damage == "more":
            arrays["another"] = np.zeros(1)
        else:
            arrays[first] = arrays[first][..., :1]
        np.savez(path, **arrays)
    words = {"cut": "npz file", "more": "another"}.get(damage, first)
    said = fails(re.escape(words), ready.load, ready.CLASSIFIER)
    assert str(path) in said
    assert said.endswith("; install voclab again.")


def test_files_that_are_not_there_are_a_sentence(own):
    for name, read in ((ready.ARRAYS, ready.load_joint), (ready.CARD, ready.card)):
        (ready.FOLDER / name).unlink()
        fails(f"{name} is missing; install voclab again", read)


def test_weights_beyond_half_precision_are_refused_and_nothing_is_written(own, tmp_path):
    kernel = next(weight for weight in own.weights if len(weight.shape) > 1)
    kernel.assign(kernel * 0 + 1e6)
    fails(f"{re.escape(kernel.path)}.*half precision", ready.save_arrays, own, tmp_path / "new.npz")
    assert not (tmp_path / "new.npz").exists()


# --- the generator that was trained to fool them ---


@pytest.fixture
def generator(own):
    """A generator with random weights against the small networks, saved beside them."""
    both = {ready.CLASSIFIER: classifier_of, ready.SEGMENTER: segmenter_of}
    victims = [Network(part(own), "multilabel", name) for name, part in both.items()]
    generator, rng = build_generator(victims, 3, width=8), np.random.default_rng(0)
    for weight in generator.trainable_variables:
        weight.assign_add(rng.normal(0, 0.1, weight.shape))
    ready.save_generator(generator)
    return generator


def test_a_generator_comes_back_with_its_victims_encoder(generator):
    found = ready.load_generator()
    assert (found.victims, found.classes, found.width) == (ready.NAMES, 3, 8)
    for part in ("decoders", "encoders"):
        (ours,), (theirs,) = getattr(found, part), getattr(generator, part)
        for a, b in zip(ours.weights, theirs.weights, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6)
    images = np.random.default_rng(1).random((2, 64, 96, 3), dtype=np.float32)
    wanted = condition([4.0, 8.0], np.eye(2), [0, 1], [0, 2], 3)
    a, b = (np.asarray(g([images, wanted])) for g in (found, generator))
    assert np.abs(b).max() > 0.5
    assert np.abs(a - b).mean() < 0.02  # kernels in half precision


def test_a_generator_that_is_missing_or_damaged_is_a_sentence(generator):
    path = ready.FOLDER / ready.GENERATOR
    arrays = read_arrays(path)
    first = next(iter(arrays))
    del arrays[first]
    np.savez(path, **arrays)
    fails(rf"adversary.npz does not hold {re.escape(first)}; install voclab again", ready.load_generator)
    path.unlink()
    assert not ready.has_generator()
    missing = "adversary.npz or adversary.json is missing; install voclab again"
    fails("adversary.npz is missing; install voclab again", ready.load_generator)
    fails(missing, ready.require_victim, "ready")
    path.touch()
    (ready.FOLDER / ready.SETTINGS).unlink()
    assert not ready.has_generator()
    fails("adversary.json is missing; install voclab again", ready.load_generator)
    fails(missing, ready.require_victim, "ready")
    fails("trained to fool ready and ready-segmenter, not runs/a; name one", ready.require_victim, "runs/a")


def test_a_generator_of_other_networks_is_refused(generator, own):
    first = own.weights[0]
    first.assign(first + 1)
    ready.save_arrays(own, ready.FOLDER / ready.ARRAYS)
    words = "adversary.npz was trained on other networks than ready.npz; install voclab again"
    for call in (ready.load_generator, partial(ready.require_victim, "ready")):
        fails(words, call)


def test_the_page_and_evaluate_have_the_generator_for_its_victims(generator, squares):
    classifier, segmenter = map(open_saved, ready.NAMES)
    answers = Answers(classifier, segmenter)
    assert answers.attacks[0] == "generator"
    photo = squares.image(0)
    done = [answers.attack(photo, "generator", 4, victim).image.astype(int) for victim in answers.victims]
    assert all(0 < np.abs(image - at_size(photo, 32)).max() <= 4 for image in done)
    assert (done[0] != done[1]).any()  # it is told whom to fool
    other = replace(classifier, weights="runs/mine")
    assert "generator" not in Answers(other, segmenter).attacks

    few = squares.subset(range(6), "test")
    attacks = {"attacks": ("generator", "noise", "pgd"), "epsilons": (4, 8), "attacked": 2}
    for name in ready.NAMES:
        table = conditions.report(name, few, settings={}, **attacks).evaluation.table
        assert list(table.index) == [
            "clean",
            "generator 4/255",
            "generator 4/255 of another image",
            "generator 8/255",
            "generator 8/255, JPEG, quality 75",
            "noise 4/255",
            "noise 8/255",
            "clean, the 2 attacked",
            "PGD 4/255",
            "PGD 8/255",
        ]
        assert list(table["images"]) == [6] * 7 + [2] * 3
    fails("not runs/a", conditions.named_attacks, ["generator"], (2,), "runs/a")
    fails("up to 16/255, not 32/255", conditions.named_attacks, ["generator"], (2, 32), "ready")
    alone = conditions.report("ready", few.subset([0], "test"), settings={}, **attacks)
    assert "generator 4/255 of another image" not in alone.evaluation.table.index


def test_the_generator_that_is_shipped_is_small_and_knows_both():
    assert (ready.FOLDER / ready.GENERATOR).stat().st_size <= 8e6
    generator = ready.load_generator()
    assert (generator.victims, generator.classes) == (ready.NAMES, len(VOC_CLASSES))


# --- names ---


def test_their_names_stand_for_them_and_a_path_for_ones_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ready.NAMES:
        assert ready.is_ready(model_file(name))
        assert model_file(model_file(name)) == model_file(name)
        assert open_saved(name).name == name
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)]).save("own.keras")
    (tmp_path / "ready").mkdir()
    shutil.move("own.keras", "ready/model.keras")
    assert load_model(model_file("./ready")).output_shape == (None, 3)
    for path in ("./ready", "ready/", Path("ready"), tmp_path / "ready"):
        assert network_named(path).samefile("ready/model.keras")
        assert folder_beside(network_named(path)).samefile("ready")
    assert folder_beside(model_file("ready")) == Path("runs", "ready")  # not into the package
    assert len(model_files(["ready", "./ready"])) == 2
    with pytest.raises(VoclabError, match="ready"):
        model_file("reddy")


def test_sentences_and_pages_call_them_by_name(own, squares):
    one_each = replace(squares, task="multiclass")
    fails("^ready was trained to give any number of classes", open_network, "ready", one_each)
    other = replace(squares, class_names=("red", "green", "cyan"))
    fails("^ready has the class blue, which squares has not", open_network, "ready", other)
    fails("^ready-segmenter is no classifier", open_network, "ready-segmenter", squares, match=False)
    fails("^ready is named twice", open_networks, ["ready", "ready"], squares)
    found = [(network.name, network.weights) for network in open_networks(ready.NAMES, squares)]
    assert found == [(name, name) for name in ready.NAMES]


def test_they_are_small_and_their_card_is_of_these_files():
    sizes = [path.stat().st_size for path in ready.FOLDER.rglob("*") if path.is_file()]
    assert sum(sizes) <= 25e6
    card = ready.card()
    assert card["files"] == {name: sha256(ready.FOLDER / name) for name in (ready.ARRAYS, ready.LITE)}
    assert tuple(card["class_names"]) == VOC_CLASSES
    text = (ready.FOLDER / "README.md").read_text(encoding="utf-8")
    for name, figure in (("ready", "map"), ("ready-segmenter", "dice")):
        assert f"| {card['test'][name]['all views'][figure]:.3f} |" in text


def test_they_open_with_their_classes_thresholds_and_views():
    classifier, segmenter = map(open_saved, ready.NAMES)
    assert classifier.class_names == segmenter.class_names == VOC_CLASSES
    assert (classifier.task, segmenter.task) == ("multilabel", "segmentation")
    assert classifier.thresholds.tolist() == ready.card()["thresholds"]
    assert classifier.size == segmenter.size == ready.card()["size"]
    assert list(segmenter.test_time.sizes) == ready.card()["test"]["ready-segmenter"]["all views"]["sizes"]


def test_the_readme_says_what_the_card_says():
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    card = ready.card()
    classifier, segmenter = (card["test"][name] for name in ready.NAMES)
    found = [
        ("all views", classifier["all views"]["map"], *_dice(segmenter["all views"])),
        ("`voclab predict`", card["predict"]["map"], *_dice(card["predict"])),
    ]
    for row in ("FGSM 2/255", "PGD 2/255", "FGSM 8/255", "PGD 8/255"):
        figures = classifier["conditions"][row]["map"], *_dice(segmenter["conditions"][row])
        found.append((f"… {row}", *figures))
    for row, *figures in found:
        numbers = " | ".join(f"{value:.3f}" for value in figures)
        assert re.search(rf"^\| {re.escape(row)}.* \| {numbers} \|$", readme, re.MULTILINE), row


def _dice(figures):
    return figures["dice"], figures["miou"]
