"""The trained adversary: the attack that it is, its loss, what training draws, training by frozen victims."""

from dataclasses import replace

import keras
import numpy as np
import pytest
from fragile_victims import four_classes, fragile_classifier, fragile_segmenter, one_class_each, victims
from keras import ops

from voclab.attacks import AdversarialPerturbation, Adversary, Bench, Network, Noise, Target, adversary
from voclab.attacks.adversary import Fooling, TrainedGenerator
from voclab.backend import saved_as_jpeg, value_and_gradient
from voclab.data.base import VOID
from voclab.data.images import eight_bit, jpeg
from voclab.errors import VoclabError
from voclab.models.generator import Generator, build_generator
from voclab.training import Experiment, Parts, Recipe, Run
from voclab.training.experiment import Work, is_current, run

WIDTH = {"width": 8}


def silent(line):
    """For runs whose progress nobody reads."""


def same_weights(one, other):
    ours, theirs = one.get_weights(), other.get_weights()
    return len(ours) == len(theirs) and all(np.array_equal(a, b) for a, b in zip(ours, theirs))


# --- the attack ---


def images(n=3, height=32, width=40, low=0, high=256):
    return eight_bit(np.random.default_rng(1).integers(low, high, (n, height, width, 3)).astype(np.uint8))


def truth(n=3):
    return Target(np.eye(4, dtype=np.uint8)[np.arange(n) % 4])


def maps(changed, goal="untargeted", label=None):
    return Target(np.zeros(changed.shape[:3], np.uint8), goal, label)


@pytest.fixture(scope="module")
def networks():
    return victims()


@pytest.fixture(scope="module")
def generator(networks):
    """Its weights are moved at random, so that none is the zero that it starts at."""
    keras.utils.set_random_seed(1)
    generator = build_generator(list(networks.values()), 4, **WIDTH)
    rng = np.random.default_rng(5)
    for variable in generator.trainable_variables:
        variable.assign_add(rng.normal(0, 0.05, variable.shape))
    return generator


@pytest.fixture(scope="module")
def attack(generator):
    return Adversary(generator)


@pytest.mark.parametrize("steps", [0, 0.5, 1, 2.6, 8, 16, 20])
def test_no_8_bit_value_changes_by_more_than_the_bound(steps, attack, networks):
    changed = images()
    perturbed = attack(networks["classifier"], changed, truth(), steps / 255)
    change = np.rint(255 * perturbed) - np.rint(255 * changed)
    assert np.abs(change).max() == np.floor(steps)  # and the bound is used
    assert np.abs(perturbed - changed).max() <= steps / 255 + 1e-6
    assert perturbed.min() >= 0
    assert perturbed.max() <= 1
    if steps == 0:
        np.testing.assert_array_equal(perturbed, changed)


def test_neither_victim_nor_truth_is_looked_at(attack, networks, monkeypatch):
    changed = images()
    expected = attack(networks["classifier"], changed, truth(), 8 / 255)

    def looked_at(*args, **options):
        raise AssertionError("the adversary asked the victim")

    for method in ("logits", "gradient"):
        monkeypatch.setattr(Network, method, looked_at)
    for victim, target in (
        (networks["classifier"], Target(1 - truth().truth)),
        (networks["segmenter"], maps(changed)),
    ):
        np.testing.assert_array_equal(attack(victim, changed, target, 8 / 255), expected)


def test_bound_goal_class_and_victims_of_the_call_are_told(attack, generator, networks):
    changed, victim = images(low=60, high=190), networks["classifier"]
    found = [
        255 * (attack(victim, changed, target, epsilon / 255) - changed) / epsilon
        for target, epsilon in (
            (truth(), 8),
            (truth(), 4),
            (Target(truth().truth, "appear", 1), 8),
            (Target(truth().truth, "appear", 2), 8),
            (Target(truth().truth, "vanish", 2), 8),
        )
    ]
    one = Adversary(generator, ("segmenter",))
    found.append(255 * (one(victim, changed, truth(), 8 / 255) - changed) / 8)
    for a in range(len(found)):
        for b in range(a):
            assert np.abs(found[a] - found[b]).max() > 1e-2, (a, b)
    # Of a segmenter label 0 is background, so the third class has number 3.
    of_segmenter = attack(networks["segmenter"], changed, maps(changed, "appear", 3), 8 / 255)
    np.testing.assert_allclose(255 * (of_segmenter - changed) / 8, found[3], atol=1e-4)


def test_an_image_is_perturbed_alone_as_in_a_batch(attack, networks):
    changed, victim = images(), networks["classifier"]
    together = attack(victim, changed, truth(), 8 / 255)
    for i in range(len(changed)):
        alone = attack(victim, changed[i : i + 1], truth().of([i]), 8 / 255)
        np.testing.assert_allclose(alone[0], together[i], atol=1e-5)


def test_what_it_does_not_know_is_refused(attack, generator, networks):
    with pytest.raises(VoclabError, match="not trained on other; it knows classifier, segmenter"):
        Adversary(generator, ("classifier", "other"))
    changed = images()
    with pytest.raises(VoclabError, match="knows 4 classes"):
        attack(networks["segmenter"], changed, maps(changed, "vanish", 0), 8 / 255)  # background
    wider = keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(7, 1)])
    with pytest.raises(VoclabError, match="knows 4 classes"):
        attack(Network(wider, "segmentation"), changed, maps(changed, "appear", 6), 8 / 255)


# --- the loss ---

CLASSES = 3
GOALS = ("untargeted", "appear", "vanish")


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


def classifier_hinge(z, right, goal, k, multilabel, kappa):
    if multilabel and goal == "untargeted" and len(right) in (0, CLASSES):
        return 0.0  # nothing is there to be mistaken, or to be mistaken for
    return max(kappa - classifier_margin(z, right, goal, k, multilabel), 0.0)


def segmenter_hinge(z, y, goal, k):
    """Of every second pixel of one label map; ``k`` counts classes from 0, so its label is k + 1."""
    total = weights = 0.0
    for i, j in np.ndindex(y.shape):
        if i % 2 or j % 2 or y[i, j] == VOID or (goal == "vanish" and y[i, j] != k + 1):
            continue
        chosen = int(y[i, j]) if goal == "untargeted" else k + 1
        margin = max(float(v) for other, v in enumerate(z[i, j]) if other != chosen) - float(z[i, j, chosen])
        weight = adversary._BACKGROUND if goal == "untargeted" and not y[i, j] else 1.0
        total += weight * max(1.0 - (-margin if goal == "appear" else margin), 0.0)
        weights += weight
    return adversary._PIXELS * total / weights if weights else 0.0


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


def loss_case(multilabel):
    """(pixels, label maps, labels (n, classes)) of images that differ in colour.

    Multi-label, the last image shows no class.
    """
    rng, n = np.random.default_rng(8), 18
    pixels = np.clip(rng.random((n, 1, 1, 3)) + rng.normal(0, 0.1, (n, 9, 8, 3)), 0, 1).astype(np.float32)
    maps, labels = np.zeros((n, 9, 8), np.uint8), np.zeros((n, CLASSES), np.uint8)
    for i in range(n - multilabel):
        shown = rng.permutation(CLASSES)[: 1 + (i % 2) * multilabel]
        labels[i, shown] = 1
        for row, k in enumerate(shown):
            maps[i, 3 * row : 3 * row + 3, :5] = k + 1
    maps[:, 7:] = VOID
    return pixels, maps, labels


def asked(n, victims=1):
    """Goals and classes, mixed in one batch."""
    goal, k = np.arange(n) % 3, np.arange(n) // 3 % CLASSES
    return np.ones((n, victims), np.float32), goal.astype(np.int32), k.astype(np.int32)


@pytest.mark.parametrize("task", ["multilabel", "multiclass"])
@pytest.mark.parametrize(("given", "kappa"), [("labels", 6.0), ("label maps", 2.5)])
def test_a_classifier_is_fooled_by_the_hinge_on_its_margin(task, given, kappa, linear):
    by_task, of_mean, _ = linear
    pixels, maps, labels = loss_case(task == "multilabel")
    wanted, goal, k = asked(len(pixels))
    expected = [
        classifier_hinge(
            (x.mean((0, 1)) - 0.5) @ of_mean, np.flatnonzero(y), GOALS[g], c, task == "multilabel", kappa
        )
        for x, y, g, c in zip(pixels, labels, goal, k, strict=True)
    ]
    assert min(expected) == 0 < max(expected)  # both sides of the hinge
    fooling = Fooling([by_task[task]], CLASSES, kappa)
    given = maps if given == "label maps" else labels.astype(np.float32)
    found = np.asarray(fooling(ops.convert_to_tensor(given), pixels, wanted, goal, k))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(fooling.present(ops.convert_to_tensor(given)), labels)


def test_a_segmenter_is_fooled_pixel_by_pixel_void_left_out(linear):
    by_task, _, of_pixel = linear
    pixels, maps, _ = loss_case(multilabel=True)
    wanted, goal, k = asked(len(pixels))
    expected = [
        segmenter_hinge((x - 0.5) @ of_pixel, y, GOALS[g], c) for x, y, g, c in zip(pixels, maps, goal, k)
    ]
    fooling = Fooling([by_task["segmentation"]], CLASSES, kappa=9.0)  # which is that of classifiers
    given = ops.convert_to_tensor(maps)
    np.testing.assert_allclose(fooling(given, pixels, wanted, goal, k), expected, rtol=1e-3, atol=1e-3)
    elsewhere = np.where((maps == VOID)[..., None], 1 - pixels, pixels)
    np.testing.assert_allclose(fooling(given, elsewhere, wanted, goal, k), expected, rtol=1e-3, atol=1e-3)


def test_the_fooling_of_several_victims_is_the_sum_over_those_that_are_wanted(linear):
    pixels, maps, _ = loss_case(multilabel=True)
    both, given = [linear[0]["multilabel"], linear[0]["segmentation"]], ops.convert_to_tensor(maps)
    wanted, goal, k = asked(len(pixels), victims=2)
    wanted[::2, 0] = wanted[1::3, 1] = 0
    single = [
        np.asarray(Fooling([victim], CLASSES)(given, pixels, *asked(len(pixels)))) * wanted[:, n]
        for n, victim in enumerate(both)
    ]
    found = Fooling(both, CLASSES)(given, pixels, wanted, goal, k)
    np.testing.assert_allclose(found, single[0] + single[1], rtol=1e-5, atol=1e-5)
    assert (np.asarray(found)[::2] > 0).any()


# --- what training draws ---


@pytest.fixture
def armed(networks):
    """A generator that would be trained: (aimed, handled) -> it."""

    def make(aimed=0.25, handled=0.5):
        model = build_generator(list(networks.values()), 4, kind=TrainedGenerator, **WIDTH)
        model.arm(Fooling(list(networks.values()), 4), aimed, handled, 0.0)
        return model

    return make


def test_each_image_draws_a_bound_victims_and_sometimes_a_goal(armed):
    rng, n = np.random.default_rng(0), 8000
    present = (rng.random((n, 4)) < 0.4).astype(np.float32)
    present[0], present[1] = 0, 1
    drawn = armed(aimed=0.4)._drawn(ops.convert_to_tensor(present))
    epsilon, victims, goal, k = map(np.asarray, drawn)
    assert set(epsilon.tolist()) == set(range(1, 17))  # whole steps
    below = [(epsilon <= steps).mean() for steps in (1, 2, 4, 8)]  # log-uniformly, but for the rounding
    np.testing.assert_allclose(below, np.log([1.5, 2.5, 4.5, 8.5]) / np.log(16), atol=0.02)
    both, first, second = (np.all(victims == v, axis=1).mean() for v in ([1, 1], [1, 0], [0, 1]))
    np.testing.assert_allclose([both, first, second], [0.5, 0.25, 0.25], atol=0.025)
    assert (goal > 0).mean() == pytest.approx(0.4, abs=0.025)
    there = present[np.arange(n), k]
    assert (there[goal == 2] == 1).all()  # only what is there vanishes
    assert (there[goal == 1] == 0).all()  # only what is not there appears
    some, all_of_them = present.max(1) > 0, present.min(1) > 0
    assert not (goal[~some] == 2).any()
    assert not (goal[all_of_them] == 1).any()
    either = some & ~all_of_them & (goal > 0)
    assert (goal[either] == 2).mean() == pytest.approx(0.5, abs=0.03)
    assert np.bincount(k[goal > 0], minlength=4).min() > 0.2 * (goal > 0).sum()  # every class


def test_each_step_draws_anew_and_the_seed_decides(armed):
    model, present = armed(), ops.ones((16, 4))
    first, second = (np.asarray(model._drawn(present)[0]) for _ in range(2))
    assert (first != second).any()
    model._draws.state.assign(np.zeros(2, np.uint32))
    again = np.asarray(model._drawn(present)[0])
    other = armed()
    other._draws.state.assign(np.zeros(2, np.uint32))
    np.testing.assert_array_equal(np.asarray(other._drawn(present)[0]), again)


@pytest.mark.parametrize("handled", [0.0, 0.5, 1.0])
def test_a_share_of_the_images_is_handled_and_gradients_pass(handled, armed):
    model = armed(handled=handled)
    changed = images(60, 16, 20)
    weights = np.random.default_rng(4).normal(0, 1, changed.shape).astype(np.float32)
    found = []

    def weighed(x):
        found.append(model._on_their_way(x))
        return ops.sum(weights * found[0])

    _, gradient = value_and_gradient(weighed, changed)
    moved = np.abs(np.asarray(found[0]) - changed).max((1, 2, 3)) > 1e-3
    assert moved.mean() == pytest.approx(handled, abs=0.2 if handled == 0.5 else 0)
    np.testing.assert_allclose(gradient[~moved], weights[~moved], atol=1e-6)
    assert np.abs(gradient).max((1, 2, 3)).min() > 0.1
    straight = np.abs(gradient - weights).max((1, 2, 3)) < 1e-6
    assert (straight & moved).mean() == pytest.approx(0.8 * handled, abs=0.15)  # JPEG
    assert np.asarray(found[0]).min() >= -1e-6
    assert np.asarray(found[0]).max() <= 1 + 1e-6


def test_jpeg_in_training_is_that_of_files():
    rng = np.random.default_rng(9)
    smooth = rng.integers(0, 256, (3, 4, 5, 3)).astype(np.uint8)
    given = np.stack([np.kron(x, np.ones((8, 8, 1))) for x in smooth])
    given = np.clip(given + rng.normal(0, 8, given.shape), 0, 255).astype(np.uint8)
    qualities = [50, 75, 95]
    found = 255 * np.asarray(saved_as_jpeg(ops.convert_to_tensor(eight_bit(given)), ops.array(qualities)))
    for image, quality, ours in zip(given, qualities, found, strict=True):
        theirs = jpeg(image, quality).astype(float)
        # Decoders differ in how they enlarge the colours; the loss of the quality itself is the same.
        assert np.abs(ours - theirs).mean() < 0.5 * np.abs(ours - image).mean()
        assert np.abs(ours - image).mean() == pytest.approx(np.abs(theirs - image).mean(), rel=0.2)


def test_a_blur_keeps_the_mean_and_is_a_gaussian():
    spot = np.zeros((1, 15, 15, 3), np.float32)
    spot[0, 7, 7] = 1
    found = np.asarray(adversary._blurred(spot, 1.0))[0, :, :, 0]
    assert found.sum() == pytest.approx(1, abs=1e-5)
    assert found[7, 8] / found[7, 7] == pytest.approx(np.exp(-0.5), rel=1e-5)
    assert found[9, 6] / found[7, 7] == pytest.approx(np.exp(-2.5), rel=1e-5)


def test_a_step_does_not_depend_on_the_loss_scale_of_half_precision(networks):
    """What the loss is multiplied by, the optimizer divides the gradients by again."""
    given = images(4, 32, 32), np.array([[1, 0, 0, 0], [0, 1, 1, 0], [0, 0, 1, 0], [1, 1, 0, 0]], np.float32)
    found = []
    for scaled in (False, True):
        keras.utils.set_random_seed(3)
        victim = networks["classifier"]
        model = build_generator([victim], 4, kind=TrainedGenerator, **WIDTH)
        model.arm(Fooling([victim], 4), 0.25, 0.0, 1.0)
        start = model.get_weights()
        optimizer = keras.optimizers.SGD(1.0)
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer) if scaled else optimizer
        model.compile(optimizer, jit_compile=False)
        model.train_on_batch(*given)
        found.append([a - b for a, b in zip(model.get_weights(), start, strict=True)])
    moved = [np.abs(change).max() for change in found[0]]
    assert max(moved) > 1e-4
    for plain, scaled in zip(*found, strict=True):
        np.testing.assert_allclose(scaled, plain, atol=1e-3 * max(moved))


# --- training ---

RECIPE = Recipe(32, "standard", 2, 3e-3, batch_size=8, weight_decay=0.0, warmup=0.5, patience=9, seed=1)
TASK = AdversarialPerturbation(("classifier",))
EXPERIMENT = Experiment("adversary", TASK, "generator", RECIPE, options={"width": 16})


@pytest.fixture(scope="module")
def parts(squares):
    data = four_classes(squares)
    test = data.subset(range(36, 48), "test")
    return Parts(data.subset(range(24), "fit"), data.subset(range(24, 36), "validation"), test)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def trained(parts, folder):
    return run(EXPERIMENT, parts, folder, networks=victims(), progress=silent)


def test_the_adversary_fools_where_noise_of_the_same_size_does_not(trained, networks, parts):
    victim, bench, attack = networks["classifier"], Bench(parts.test, 32), Adversary.of(trained)
    for steps in (4, 8):
        perturbed = [bench.attack(a, victim, steps / 255)[0] for a in (Noise(), attack)]
        noise, ours = (bench.effect(victim, changed)["success"] for changed in perturbed)
        assert noise < 0.1
        assert ours > 0.8


def test_what_is_saved_is_the_plain_generator_and_the_victim_is_as_it_was(trained, parts):
    model = trained.load_model()
    assert type(model) is Generator  # which loads without the code that trained it
    assert model.victims == ("classifier",)
    assert trained.metrics["parameters"] == model.count_params()
    attacked = victims()["classifier"]
    _ = Adversary(model)(attacked, images(), truth(), 8 / 255)
    assert same_weights(attacked.model, fragile_classifier())


def test_the_history_has_both_terms_of_the_loss_and_success_at_three_bounds(trained):
    first, *epochs = trained.history
    scores = {"fooled", "fooled_2", "fooled_4", "fooled_8", "size"}
    assert set(first) == {"epoch"} | scores
    assert [entry["epoch"] for entry in epochs] == [1, 2]
    for entry in epochs:
        assert set(entry) == {"epoch", "loss", "perturbed_loss", "perturbation_loss", "seconds"} | scores
        assert entry["loss"] == pytest.approx(entry["perturbed_loss"] + entry["perturbation_loss"], abs=1e-4)
        assert entry["perturbation_loss"] == 0  # its weight
    for entry in trained.history:
        assert entry["fooled"] == pytest.approx(np.mean([entry[f"fooled_{s}"] for s in (2, 4, 8)]))
    assert epochs[-1]["fooled"] > first["fooled"]


def test_the_metrics_are_those_of_the_stored_adversary_as_an_attack(trained, networks, parts):
    victim, held = networks["classifier"], Bench(parts.validation, 32)
    found, _ = held.attack(Adversary.of(trained), victim, 2 / 255)
    metrics = trained.metrics["validation"]
    assert metrics["fooled_2"] == pytest.approx(held.effect(victim, found)["success"])
    assert metrics["fooled"] >= max(entry["fooled"] for entry in trained.history)


def test_after_training_perturbations_grow_if_that_pays(trained, parts, tmp_path):
    """A penalty so heavy that the smallest pays; without one, what fools most."""
    work = Work(EXPERIMENT, parts, Run(tmp_path), networks=victims())
    sizes = []
    for weight in (0.0, 100.0):
        found = replace(TASK, weight=weight).measure(work, trained.load_model())["validation"]
        sizes.append(found["size"])
        stored = Run(tmp_path).load_model()
        bench = Bench(parts.validation, 32)
        images, _ = bench.attack(Adversary(stored), work.networks["classifier"], 8 / 255)
        success = bench.effect(work.networks["classifier"], images)["success"]
        assert success == pytest.approx(found["fooled_8"])
    assert found["times"] == 1
    assert 0 < sizes[1] <= sizes[0] <= 1


class Killed(BaseException):
    """Stands for a kill."""


def test_a_killed_training_goes_on_to_the_same_numbers(trained, parts, tmp_path):
    def kill(line):
        if "epoch 1/" in line:
            raise Killed

    with pytest.raises(Killed):
        run(EXPERIMENT, parts, tmp_path, networks=victims(), progress=kill)
    resumed = run(EXPERIMENT, parts, tmp_path, networks=victims(), progress=silent)
    assert [e["epoch"] for e in resumed.history] == [0, 1, 2]
    for ours, theirs in zip(resumed.history, trained.history, strict=True):
        assert ours | {"seconds": 0} == pytest.approx(theirs | {"seconds": 0})
    assert same_weights(resumed.load_model(), trained.load_model())


@pytest.fixture
def at_8(monkeypatch):
    """Epochs are judged at one bound only."""
    monkeypatch.setattr(adversary, "SCORED_AT", (8,))


def test_training_goes_on_from_another_run_with_a_penalty_on_the_size(trained, parts, folder, at_8):
    task, recipe = replace(TASK, weight=2.0), replace(RECIPE, epochs=1)
    further = replace(EXPERIMENT, name="further", start="adversary", task=task, recipe=recipe)
    made = run(further, parts, folder, networks=victims(), progress=silent)
    assert made.history[0]["fooled_8"] == trained.metrics["validation"]["fooled_8"]
    last = made.history[1]
    assert 0 < last["perturbation_loss"] < 2  # twice the mean square of what is at most 1
    assert last["loss"] == pytest.approx(last["perturbed_loss"] + last["perturbation_loss"], abs=1e-4)


def test_data_of_one_class_each(squares, tmp_path, at_8):
    data = one_class_each(four_classes(squares))
    validation = data.subset(range(16, len(data)), "validation")
    parts = Parts(data.subset(range(16), "fit"), validation, validation)
    networks = {"classifier": Network(fragile_classifier(), "multiclass", "classifier")}
    longer = replace(EXPERIMENT, recipe=replace(RECIPE, epochs=4))
    made = run(longer, parts, tmp_path, networks=networks, progress=silent)
    assert made.metrics["validation"]["fooled"] > 0.8


def test_a_segmenter_and_a_classifier_at_once(parts, tmp_path, at_8):
    """Two networks of the same name, which are told apart by what the experiment calls them."""
    networks = {
        "classifier": Network(fragile_classifier(), "multilabel"),
        "segmenter": Network(fragile_segmenter(), "segmentation"),
    }
    task = AdversarialPerturbation(("classifier", "segmenter"))
    longer = replace(EXPERIMENT, task=task, recipe=replace(RECIPE, epochs=10))
    made = run(longer, parts, tmp_path, networks=networks, progress=silent)
    assert list(made.config["networks"]) == ["classifier", "segmenter"]
    model, held = made.load_model(), Bench(parts.validation, 32)
    assert model.victims == ("classifier", "segmenter")
    found, _ = held.attack(Adversary(model), networks["classifier"], 8 / 255)
    effects = [held.effect(victim, found) for victim in networks.values()]
    success = [effect["success"] for effect in effects]
    assert made.metrics["validation"]["fooled_8"] == pytest.approx(np.mean(success), abs=1e-6)
    assert success[0] > 0.5
    assert effects[1]["flipped"] > 0.01
    assert same_weights(networks["segmenter"].model, fragile_segmenter())


def blind_classifier():
    """Right answers by its bias, and no gradient: all it sees of pixels is what exceeds white."""
    layers = [keras.layers.Rescaling(1.0, offset=-2.0), keras.layers.ReLU()]
    layers += [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(4)]
    return keras.Sequential([keras.Input((None, None, 3)), *layers])


def test_a_victim_without_gradient_is_refused_before_training(parts, tmp_path):
    networks = {"classifier": Network(blind_classifier(), "multilabel", "the blind one")}
    with pytest.raises(VoclabError, match="gradient of the blind one vanishes at every image"):
        run(EXPERIMENT, parts, tmp_path, networks=networks, progress=silent)
    assert not (tmp_path / "adversary" / "model.keras").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": "image"}, "no adversary 'image'; it is a generator"),
        ({"task": AdversarialPerturbation(("segmenter",))}, "has no masks to learn from"),
    ],
)
def test_what_makes_no_sense_leaves_no_folder(change, words, parts, networks, tmp_path):
    blind = replace(parts, fit=replace(parts.fit, read_mask=None))
    with pytest.raises(VoclabError, match=words):
        run(replace(EXPERIMENT, **change), blind, tmp_path, networks=networks)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("changed", ["victim", "task", "nothing"])
def test_another_victim_or_task_is_another_run(changed, trained, parts):
    experiment, networks = EXPERIMENT, victims()
    if changed == "victim":
        model = fragile_classifier()
        model.get_layer("logits").bias.assign([0, 0, 0.1, 0])
        networks = {"classifier": Network(model, "multilabel", "classifier")}
    elif changed == "task":
        experiment = replace(EXPERIMENT, task=replace(TASK, handled=0.1))
    assert is_current(experiment, parts, trained.folder.parent, networks) == (changed == "nothing")
