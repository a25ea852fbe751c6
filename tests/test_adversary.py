"""The trained adversary: the attack that it is, both terms of its loss, training through frozen victims."""

import shutil
from dataclasses import replace

import keras
import numpy as np
import pytest
from fragile_victims import four_classes, fragile_classifier, fragile_segmenter, one_class_each, victims

from voclab.attacks import AdversarialPerturbation, Adversary, Bench, Network, Noise, Target
from voclab.attacks.adversary import Fooling, Penalty, _Validation
from voclab.data.base import VOID
from voclab.data.images import eight_bit
from voclab.errors import VoclabError
from voclab.models.backbones import build_backbone
from voclab.models.classifiers import build_classifier
from voclab.models.generator import GENERATOR, attack_model, build_generator
from voclab.training import Experiment, Parts, Recipe, Run, Work
from voclab.training.experiment import run

TINY = {"width": 4, "blocks": 1, "tile": 16, "patterns": 2}


def silent(line):
    """For runs whose progress nobody reads."""


# --- the attack ---


def random_generator(scale=3.0, mode="image"):
    """A generator whose weights are drawn, large enough for many values at the bound."""
    generator = build_generator(mode=mode, **TINY)
    rng = np.random.default_rng(5)
    for variable in generator.trainable_variables:
        variable.assign(rng.normal(0, scale, variable.shape))
    return generator


def images(n=3, height=16, width=20, low=0, high=256):
    return eight_bit(np.random.default_rng(1).integers(low, high, (n, height, width, 3)).astype(np.uint8))


@pytest.fixture(scope="module")
def victim():
    return Network(fragile_classifier(), "multilabel")


@pytest.fixture(scope="module")
def attack():
    return Adversary(random_generator())


def truth(n=3):
    return Target(np.eye(4, dtype=np.uint8)[np.arange(n) % 4])


@pytest.mark.parametrize("steps", [0, 0.5, 2.6, 8, 16])
def test_no_8_bit_value_changes_by_more_than_the_bound(steps, attack, victim):
    changed = images()
    perturbed = attack(victim, changed, truth(), steps / 255)
    change = np.rint(255 * perturbed) - np.rint(255 * changed)
    assert np.abs(change).max() == np.floor(steps)  # and the bound is used
    assert np.abs(perturbed - changed).max() <= steps / 255 + 1e-6
    assert perturbed.min() >= 0
    assert perturbed.max() <= 1
    if steps == 0:
        np.testing.assert_array_equal(perturbed, changed)


def test_neither_victim_nor_truth_is_looked_at(attack, victim, monkeypatch):
    changed = images()
    expected = attack(victim, changed, truth(), 8 / 255)
    other = Network(
        keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(6, 1)]), "segmentation"
    )

    def looked_at(*args, **options):
        raise AssertionError("the adversary asked the victim")

    for method in ("logits", "gradient"):
        monkeypatch.setattr(Network, method, looked_at)
    for asked, goal in (
        (victim, Target(1 - truth().truth)),
        (victim, Target(truth().truth, "appear", 2)),
        (other, Target(np.zeros(changed.shape[:3], np.uint8))),
    ):
        np.testing.assert_array_equal(attack(asked, changed, goal, 8 / 255), expected)


def test_an_image_is_perturbed_alone_as_in_a_batch(attack, victim):
    changed = images()
    together = attack(victim, changed, truth(), 8 / 255)
    assert not np.allclose(together[0] - changed[0], together[1] - changed[1])
    for i in range(len(changed)):
        alone = attack(victim, changed[i : i + 1], truth().of([i]), 8 / 255)
        np.testing.assert_allclose(alone[0], together[i], atol=1e-5)


def test_another_epsilon_scales_the_perturbation(attack, victim):
    changed = images(low=60, high=190)
    once, twice = (attack(victim, changed, truth(), e / 255) - changed for e in (8, 16))
    assert np.abs(once).max() > 0.01
    np.testing.assert_allclose(twice, 2 * once, atol=1e-6)


@pytest.mark.parametrize("size", [(30, 37), (33, 16), (5, 4), (1, 1)])
def test_images_of_any_size_are_perturbed_within_the_bound(size, attack, victim):
    changed = images(2, *size)
    perturbed = attack(victim, changed, truth(2), 8 / 255)
    assert perturbed.shape == changed.shape
    assert 1e-4 < np.abs(eight_bit(perturbed) - changed).max() <= 8 / 255 + 1e-6


def test_what_4_does_not_divide_is_completed_by_its_last_pixels(attack, victim):
    part = images(2, 30, 37, 60, 190)
    whole = np.concatenate([part, np.repeat(part[:, :, -1:], 3, axis=2)], axis=2)
    whole = np.concatenate([whole, np.repeat(whole[:, -1:], 2, axis=1)], axis=1)
    assert whole.shape[1:3] == (32, 40)
    of_whole, of_part = (attack(victim, x, truth(2), 8 / 255) for x in (whole, part))
    np.testing.assert_allclose(of_part, of_whole[:, :30, :37], atol=1e-6)


def test_an_attack_model_attacks_like_the_generator_in_it(attack, victim):
    generator = random_generator()
    changed = images()
    whole = Adversary(attack_model(generator, 4 / 255))(victim, changed, truth(), 8 / 255)
    np.testing.assert_array_equal(whole, attack(victim, changed, truth(), 8 / 255))


# --- the loss ---

CLASSES = 3


def log_sum_exp(values):
    return max(values) + np.log(sum(np.exp(v - max(values)) for v in values))


def classifier_margin(z, right, goal, k, multilabel):
    """Of one image: ``right`` are the indices of its true classes."""
    z = [float(v) for v in z]
    if multilabel:
        if goal != "untargeted":
            return z[k] if goal == "appear" else -z[k]
        return log_sum_exp([v for j, v in enumerate(z) if j not in right]) - log_sum_exp(
            [v for j, v in enumerate(z) if j in right]
        )
    chosen = right[0] if goal == "untargeted" else k
    margin = max(v for j, v in enumerate(z) if j != chosen) - z[chosen]
    return -margin if goal == "appear" else margin


def segmenter_margin(z, y, goal, k):
    """Of one label map; ``k`` counts classes from 0, so its label is k + 1."""
    pixels = []
    for i, j in np.ndindex(y.shape):
        if y[i, j] == VOID or (goal == "vanish" and y[i, j] != k + 1):
            continue
        chosen = int(y[i, j]) if goal == "untargeted" else k + 1
        margin = max(float(v) for j_, v in enumerate(z[i, j]) if j_ != chosen) - float(z[i, j, chosen])
        pixels.append(min(-margin if goal == "appear" else margin, 1.0))
    return np.mean(pixels) if pixels else 0.0


@pytest.fixture(scope="module")
def linear():
    """A classifier of mean colours and a segmenter of pixels with drawn weights: (victims by task, weights).

    Their logits are the weights times what exceeds grey.
    """
    rng = np.random.default_rng(3)
    of_mean, of_pixel = (rng.normal(0, 40, (3, n)).astype(np.float32) for n in (CLASSES, CLASSES + 1))
    pooled = [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(CLASSES)]
    classifier = keras.Sequential([keras.Input((None, None, 3)), *pooled])
    classifier.set_weights([of_mean, -of_mean.sum(0) / 2])
    segmenter = keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(CLASSES + 1, 1)])
    segmenter.set_weights([of_pixel[None, None], -of_pixel.sum(0) / 2])
    models = {"multilabel": classifier, "multiclass": classifier, "segmentation": segmenter}
    return {task: Network(model, task) for task, model in models.items()}, of_mean, of_pixel


def loss_case(multilabel, with_void=True):
    """(pixels, label maps, labels (n, classes)) of images that differ in colour; the last shows no class."""
    rng = np.random.default_rng(8)
    pixels = np.clip(rng.random((9, 1, 1, 3)) + rng.normal(0, 0.1, (9, 5, 6, 3)), 0, 1).astype(np.float32)
    maps, labels = np.zeros((9, 5, 6), np.uint8), np.zeros((9, CLASSES), np.uint8)
    for i in range(9 - multilabel):
        shown = rng.permutation(CLASSES)[: 1 + (i % 2) * multilabel]
        labels[i, shown] = 1
        for row, k in enumerate(shown):
            maps[i, 2 * row : 2 * row + 2, :3] = k + 1
    if with_void:
        maps[:, 4] = VOID
    return pixels, maps, labels


GOALS = [("untargeted", None), ("appear", 1), ("vanish", 1)]


@pytest.mark.parametrize(("goal", "k"), GOALS)
@pytest.mark.parametrize("task", ["multilabel", "multiclass"])
@pytest.mark.parametrize(("given", "kappa"), [("labels", 6.0), ("label maps", 6.0), ("labels", 2.5)])
def test_a_classifier_is_fooled_by_the_hinge_on_its_margin(task, given, kappa, goal, k, linear):
    by_task, of_mean, _ = linear
    pixels, maps, labels = loss_case(task == "multilabel")
    if given == "labels" and task == "multilabel":
        pixels, labels = pixels[:-1], labels[:-1]
    expected = []
    for x, y in zip(pixels, labels):
        right = list(np.flatnonzero(y))
        if not right and goal == "untargeted":
            expected.append(0.0)  # nothing is there to be mistaken
            continue
        margin = classifier_margin((x.mean((0, 1)) - 0.5) @ of_mean, right, goal, k, task == "multilabel")
        expected.append(max(kappa - margin, 0.0))
    assert min(expected) == 0 < max(expected)  # both sides of the hinge
    loss = Fooling([by_task[task]], goal, k, kappa)(maps if given == "label maps" else labels, pixels)
    assert float(loss) == pytest.approx(np.mean(expected), rel=1e-4)


@pytest.mark.parametrize(("goal", "k"), GOALS)
def test_a_segmenter_is_fooled_pixel_by_pixel_void_left_out(goal, k, linear):
    by_task, _, of_pixel = linear
    pixels, maps, _ = loss_case(multilabel=True)
    margins = [segmenter_margin((x - 0.5) @ of_pixel, y, goal, k) for x, y in zip(pixels, maps)]
    expected = np.mean([max(1.0 - m, 0.0) for m in margins])
    fooling = Fooling([by_task["segmentation"]], goal, k, kappa=9.0)  # which is that of classifiers
    assert float(fooling(maps, pixels)) == pytest.approx(expected, rel=1e-4)
    elsewhere = np.where((maps == VOID)[..., None], 1 - pixels, pixels)
    assert float(fooling(maps, elsewhere)) == pytest.approx(expected, rel=1e-4)
    _, without, _ = loss_case(multilabel=True, with_void=False)
    assert goal == "vanish" or float(fooling(without, pixels)) != pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("goal", "k"), GOALS)
def test_the_fooling_of_several_victims_is_their_sum(goal, k, linear):
    pixels, maps, _ = loss_case(multilabel=True)
    by_task = linear[0]
    both = [by_task["multilabel"], by_task["segmentation"]]
    single = [float(Fooling([victim], goal, k)(maps, pixels)) for victim in both]
    assert float(Fooling(both, goal, k)(maps, pixels)) == pytest.approx(sum(single), rel=1e-6)
    assert min(single) > 0


def test_the_penalty_is_the_share_of_the_bound_that_is_used():
    change = np.zeros((2, 2, 2, 3), np.float32)
    change[0] = 0.1  # everywhere at the bound of 0.1, half of the values below
    change[1, 0] = -0.05
    penalty, expected = Penalty(0.1, 4.0), (1 + 0.125) / 2  # mean squares 0.01 and 0.00125, of 0.01
    assert float(penalty.size(change)) == pytest.approx(expected, rel=1e-5)
    assert float(penalty(np.zeros((2, 3)), change)) == pytest.approx(4 * expected, rel=1e-5)


# --- training ---

RECIPE = Recipe(32, "standard", 2, 3e-3, batch_size=8, weight_decay=0.0, warmup=0.5, patience=9, seed=1)
TASK = AdversarialPerturbation(("classifier",))
UNIVERSAL = Experiment("universal", TASK, "universal", RECIPE, options={"tile": 16})
IMAGE = Experiment("image", TASK, "image", RECIPE, start="universal", options=TINY)
SHORT = replace(RECIPE, epochs=0)


@pytest.fixture(scope="module")
def parts(squares):
    data = four_classes(squares)
    test = data.subset(range(36, 48), "test")
    return Parts(data.subset(range(24), "fit"), data.subset(range(24, 36), "validation"), test)


@pytest.fixture(scope="module")
def bench(parts):
    return Bench(parts.test, 32)


@pytest.fixture(scope="module")
def networks():
    return victims()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def universal(parts, networks, folder):
    return run(UNIVERSAL, parts, folder, networks=networks, progress=silent)


@pytest.fixture(scope="module")
def image(universal, parts, networks, folder):
    return run(IMAGE, parts, folder, networks=networks, progress=silent)


def same_weights(one, other):
    ours, theirs = one.get_weights(), other.get_weights()
    return len(ours) == len(theirs) and all(np.array_equal(a, b) for a, b in zip(ours, theirs))


def test_the_adversary_fools_where_noise_of_the_same_size_does_not(universal, image, networks, bench):
    victim = networks["classifier"]
    fooled = {
        name: bench.effect(victim, bench.attack(attack, victim, 8 / 255)[0])["success"]
        for name, attack in {
            "noise": Noise(),
            "untrained": Adversary(build_generator(mode="universal", tile=16)),
            "universal": Adversary.of(universal),
            "image": Adversary.of(image),
        }.items()
    }
    assert fooled["noise"] < 0.1
    assert fooled["untrained"] < 0.1
    assert fooled["universal"] > 0.8
    assert fooled["image"] > 0.8


def test_training_leaves_the_victim_as_it_was(universal, image, networks):
    """Its batch norm included: all of it was made by hand, so a new one is what it was."""
    assert same_weights(networks["classifier"].model, fragile_classifier())
    trained = image.load_model()
    assert trained.count_params() == trained.get_layer(GENERATOR).count_params()
    assert image.metrics["parameters"] == trained.count_params()


def test_the_history_has_both_terms_of_the_loss(universal):
    first, *epochs = universal.history
    scores = {"validation_perturbed_loss", "validation_perturbation_loss", "fooled", "objective"}
    assert set(first) == {"epoch"} | scores
    assert [entry["epoch"] for entry in epochs] == [1, 2]
    for entry in epochs:
        assert set(entry) == set(first) | {"loss", "perturbed_loss", "perturbation_loss", "seconds"}
        assert entry["loss"] == pytest.approx(entry["perturbed_loss"] + entry["perturbation_loss"], abs=1e-5)
        assert entry["perturbation_loss"] == 0  # its weight
    for entry in universal.history:
        terms = entry["validation_perturbed_loss"] + entry["validation_perturbation_loss"]
        assert entry["objective"] == pytest.approx(-terms)
    assert epochs[-1]["validation_perturbed_loss"] < 0.5 * first["validation_perturbed_loss"]


def test_the_metrics_are_those_of_the_stored_adversary_as_an_attack(universal, networks, parts):
    victim, held = networks["classifier"], Bench(parts.validation, 32)
    images, _ = held.attack(Adversary.of(universal), victim, 8 / 255)
    metrics = universal.metrics["validation"]
    assert metrics["fooled"] == pytest.approx(held.effect(victim, images)["success"])
    loss = Fooling([victim])(held.truth("multilabel"), eight_bit(images))
    assert metrics["validation_perturbed_loss"] == pytest.approx(float(loss), abs=1e-4)
    assert metrics["objective"] == max(entry["objective"] for entry in universal.history)


def test_the_same_seed_gives_the_same_adversary_and_another_does_not(universal, parts, networks, tmp_path):
    again = run(UNIVERSAL, parts, tmp_path, networks=networks, progress=silent)
    assert same_weights(again.load_model(), universal.load_model())
    short = replace(UNIVERSAL, name="other", recipe=replace(SHORT, seed=2))
    other = run(short, parts, tmp_path, networks=networks, progress=silent)
    assert other.history[0]["objective"] != universal.history[0]["objective"]


def test_training_goes_on_from_the_universal_pattern(universal, image):
    """Before its first step the image-dependent adversary does nearly what the universal one does."""
    untrained, start = universal.history[0], image.history[0]
    assert untrained["fooled"] < 0.2
    assert start["fooled"] > 0.8
    assert start["validation_perturbed_loss"] < 0.2 * untrained["validation_perturbed_loss"]
    assert image.config["start"] == universal.config
    own = sum(entry.get("seconds", 0) for entry in image.history)
    assert image.metrics["seconds"] == pytest.approx(universal.metrics["seconds"] + own, abs=0.11)


@pytest.fixture(scope="module")
def small(image, parts, networks, folder):
    """The image-dependent adversary trained on with a heavy penalty."""
    heavy = replace(IMAGE, name="heavy", start="image", task=replace(TASK, weight=30.0))
    return run(heavy, parts, folder, networks=networks, progress=silent)


def test_training_goes_on_from_the_same_generator(small, image):
    best = max(image.history, key=lambda entry: entry["objective"])
    for key in ("fooled", "validation_perturbed_loss"):
        assert small.history[0][key] == pytest.approx(best[key], abs=1e-5)


def test_a_penalty_makes_the_perturbation_smaller(small, image, networks, bench):
    size = [
        np.square(
            bench.attack(Adversary.of(run), networks["classifier"], 8 / 255)[0] - bench.images.astype(float)
        )
        for run in (image, small)
    ]
    assert size[1].mean() < 0.7 * size[0].mean()
    terms = [entry["validation_perturbation_loss"] for entry in small.history]
    assert min(terms[1:]) < 0.7 * terms[0]
    assert all(entry["perturbation_loss"] > 0 for entry in small.history[1:])


def scores(task, networks, parts, model):
    """What is computed after each epoch."""
    return task.scorer(Work(replace(UNIVERSAL, task=task), parts, Run("unused"), networks=networks))(model)


def test_validation_stays_within_a_bound_between_two_8_bit_steps(networks, parts):
    """A perturbation of 2.6 steps, rounded, would be one of 3."""
    task = replace(TASK, epsilon=2.6 / 255, weight=1.0)
    generator = build_generator(mode="universal", tile=16)
    generator.set_weights([np.full_like(w, 0.01) for w in generator.get_weights()])
    found = scores(task, networks, parts, attack_model(generator, task.epsilon))
    assert found["validation_perturbation_loss"] == pytest.approx((2 / 2.6) ** 2, rel=1e-2)


def test_the_width_of_the_hinge_is_that_of_the_experiment(networks, parts):
    """Where nothing is fooled yet, a hinge that is wider by 3 logits loses 3 more."""
    model = attack_model(build_generator(mode="universal", tile=16), 8 / 255)
    losses = [scores(replace(TASK, kappa=kappa), networks, parts, model) for kappa in (6.0, 9.0)]
    wider = losses[1]["validation_perturbed_loss"] - losses[0]["validation_perturbed_loss"]
    assert wider == pytest.approx(3, abs=1e-4)


@pytest.mark.parametrize("changed", ["victim", "epsilon", "nothing"])
def test_another_victim_or_bound_is_another_run(changed, universal, parts, networks, tmp_path):
    shutil.copytree(universal.folder, tmp_path / "universal")
    experiment, lines = UNIVERSAL, []
    if changed == "victim":
        model = fragile_classifier()
        model.get_layer("logits").bias.assign([0, 0, 0.1, 0])
        networks = {"classifier": Network(model, "multilabel", "classifier")}
    elif changed == "epsilon":
        experiment = replace(UNIVERSAL, task=replace(TASK, epsilon=4 / 255))
    run(experiment, parts, tmp_path, networks=networks, progress=lines.append)
    assert ("complete, read from" in lines[0]) == (changed == "nothing")


@pytest.mark.parametrize("width", [4, 6])
def test_the_encoder_looks_through_the_backbone_of_a_victim_built_on_the_same_network(width, parts, tmp_path):
    keras.utils.set_random_seed(0)
    pretrained = build_backbone("cnn", None, width=4)
    pretrained.save_weights(tmp_path / "cnn.weights.h5")
    keras.utils.set_random_seed(1)
    seen = build_classifier("cnn", 4, options={"width": width})
    before = seen.get_weights()
    experiment = replace(
        IMAGE,
        task=replace(TASK, victims=("first", "classifier")),
        start=None,
        backbone="cnn",
        weights=str(tmp_path / "cnn.weights.h5"),
        recipe=SHORT,
        options=TINY | {"options": {"width": 4}},
    )
    attacked = victims() | {"first": Network(seen, "multilabel")}
    made = run(experiment, parts, tmp_path, networks=attacked, progress=silent)
    frozen = made.load_model().get_layer(GENERATOR).get_layer("backbone")
    assert same_weights(frozen, seen.get_layer("backbone") if width == 4 else pretrained)
    assert all(np.array_equal(a, b) for a, b in zip(before, seen.get_weights(), strict=True))


def blind_classifier():
    """Right answers by its bias, and no gradient: all it sees of pixels is what exceeds white."""
    layers = [keras.layers.Rescaling(1.0, offset=-2.0), keras.layers.ReLU()]
    layers += [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(4)]
    return keras.Sequential([keras.Input((None, None, 3)), *layers])


def test_a_victim_without_gradient_is_refused_before_training(parts, tmp_path):
    networks = {"classifier": Network(blind_classifier(), "multilabel", "the blind one")}
    with pytest.raises(VoclabError, match="gradient of the blind one vanishes at every image"):
        run(UNIVERSAL, parts, tmp_path, networks=networks, progress=silent)
    assert not (tmp_path / "universal" / "model.keras").exists()


def test_images_without_the_class_that_shall_vanish_do_not_count_as_vanishing_gradients(networks, parts):
    without = parts.validation.subset(np.flatnonzero(parts.validation.labels[:, 0] == 0))
    experiment = replace(
        UNIVERSAL, task=AdversarialPerturbation(("segmenter",), goal="vanish", class_index=0)
    )
    work = Work(experiment, replace(parts, validation=without), Run("unused"), networks=networks)
    _Validation(work, images=8).refuse_vanishing()


@pytest.mark.parametrize(
    ("task", "words"),
    [
        (replace(TASK, epsilon=0.0), "learns nothing; choose an epsilon above 0"),
        (replace(TASK, epsilon=-0.1), "must be finite and 0 or more"),
        (AdversarialPerturbation(("segmenter",)), "has no masks to learn from"),
    ],
)
def test_what_makes_no_sense_leaves_no_folder(task, words, parts, networks, tmp_path):
    blind = replace(parts, fit=replace(parts.fit, read_mask=None))
    with pytest.raises(VoclabError, match=words):
        run(replace(UNIVERSAL, task=task), blind, tmp_path, networks=networks)
    assert list(tmp_path.iterdir()) == []


def test_data_of_one_class_each(squares, tmp_path):
    data = one_class_each(four_classes(squares))
    validation = data.subset(range(16, len(data)), "validation")
    parts = Parts(data.subset(range(16), "fit"), validation, validation)
    networks = {"classifier": Network(fragile_classifier(), "multiclass", "classifier")}
    made = run(UNIVERSAL, parts, tmp_path, networks=networks, progress=silent)
    assert made.history[0]["fooled"] < 0.2
    assert made.metrics["validation"]["fooled"] > 0.8


def test_a_segmenter_and_a_classifier_at_once(parts, tmp_path):
    """Two networks of the same name, which are told apart by what the experiment calls them."""
    networks = {
        "classifier": Network(fragile_classifier(), "multilabel"),
        "segmenter": Network(fragile_segmenter(), "segmentation"),
    }
    experiment = replace(UNIVERSAL, name="both", task=AdversarialPerturbation(("classifier", "segmenter")))
    made = run(experiment, parts, tmp_path, networks=networks, progress=silent)
    assert list(made.config["networks"]) == ["classifier", "segmenter"]
    held = Bench(parts.validation, 32)
    fooled = []
    for name, victim in networks.items():
        images, _ = held.attack(Adversary.of(made), victim, 8 / 255)
        target = held.target(victim.task)
        clean, attacked = (
            target.succeeded(victim, victim.logits(eight_bit(x))).astype(float) for x in (held.images, images)
        )
        fooled.append(np.maximum(attacked - clean, 0).mean() / (1 - clean).mean())
        fresh = {"classifier": fragile_classifier, "segmenter": fragile_segmenter}[name]()
        assert same_weights(victim.model, fresh)
    assert made.metrics["validation"]["fooled"] == pytest.approx(np.mean(fooled), abs=1e-6)
    assert fooled[0] > 0.5
    first, last = made.history[0], made.history[-1]
    assert last["validation_perturbed_loss"] < first["validation_perturbed_loss"] - 4


def test_a_segmenter_alone_loses_pixels(parts, networks, tmp_path):
    task, recipe = AdversarialPerturbation(("segmenter",)), replace(RECIPE, learning_rate=1e-2)
    made = run(
        replace(UNIVERSAL, task=task, recipe=recipe), parts, tmp_path, networks=networks, progress=silent
    )
    assert made.history[0]["fooled"] < 0.02
    assert made.metrics["validation"]["fooled"] > 0.1


def test_a_class_is_made_to_appear(parts, networks, bench, tmp_path):
    experiment = replace(UNIVERSAL, task=replace(TASK, goal="appear", class_index=3))
    made = run(experiment, parts, tmp_path, networks=networks, progress=silent)
    attack, victim = Adversary.of(made), networks["classifier"]
    success = []
    for where in (bench, Bench(parts.validation, 32)):
        images, _ = where.attack(attack, victim, 8 / 255, goal="appear", class_index=3)
        success.append(where.effect(victim, images, goal="appear", class_index=3)["success"])
    assert success[0] > 0.8
    assert made.metrics["validation"]["fooled"] == pytest.approx(success[1])
    assert made.history[0]["fooled"] < 0.2
