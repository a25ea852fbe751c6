"""Objectives, victims and gradient attacks against plain definitions, numeric gradients and foolbox."""

import keras
import numpy as np
import pytest
from keras import ops

from voclab.attacks.apgd import APGD, TargetedAPGD
from voclab.attacks.gradient import FGSM, PGD, Noise
from voclab.attacks.square import Square
from voclab.attacks.target import GOALS, OBJECTIVES, TASKS, Target, objective
from voclab.data.base import VOID
from voclab.data.images import eight_bit
from voclab.errors import VoclabError
from voclab.models.network import Network

CLASSES = 5
N, SIZE = 10, 16


# --- objectives, one image and one pixel at a time ---


def log_sum_exp(values):
    values = [float(v) for v in values]
    return max(values) + np.log(sum(np.exp(v - max(values)) for v in values))


def others(z, k):
    return max(float(v) for j, v in enumerate(z) if j != k)


def slow_multilabel(z, y, name, goal, k):
    z = [float(v) for v in z]
    if goal != "untargeted":
        wanted = z[k] if goal == "appear" else -z[k]
        return wanted if name == "margin" else np.log(1 / (1 + np.exp(-wanted)))
    if name == "margin":
        right = [v for v, true in zip(z, y) if true]
        return log_sum_exp([v for v, true in zip(z, y) if not true]) - log_sum_exp(right)
    probabilities = [1 / (1 + np.exp(-v)) for v in z]
    return np.mean([-np.log(p if true else 1 - p) for p, true in zip(probabilities, y)])


def slow_multiclass(z, y, name, goal, k):
    if goal == "appear":
        return float(z[k]) - others(z, k) if name == "margin" else float(z[k]) - log_sum_exp(z)
    away = k if goal == "vanish" else y
    return others(z, away) - float(z[away]) if name == "margin" else log_sum_exp(z) - float(z[away])


def slow_segmentation(z, y, name, goal, k):
    pixels = []
    for i, j in np.ndindex(y.shape):
        if (goal == "vanish" and y[i, j] == k) or (goal != "vanish" and y[i, j] != VOID):
            value = slow_multiclass(z[i, j], int(y[i, j]), name, goal, k)
            pixels.append(min(value, 1.0) if name == "margin" else value)
    return np.mean(pixels) if pixels else 0.0


SLOW = {"multilabel": slow_multilabel, "multiclass": slow_multiclass, "segmentation": slow_segmentation}


def random_case(task, seed=0, n=6):
    """(logits, truth) of n images; of segmentation the first image has no pixel of class 2."""
    rng = np.random.default_rng(seed)
    if task == "segmentation":
        z, y = rng.normal(0, 2, (n, 6, 7, CLASSES)), rng.integers(0, CLASSES, (n, 6, 7))
        y[rng.random(y.shape) < 0.3] = VOID
        y[0][y[0] == 2] = 0
        return z.astype(np.float32), y.astype(np.uint8)
    z = rng.normal(0, 2, (n, CLASSES)).astype(np.float32)
    if task == "multiclass":
        return z, rng.integers(0, CLASSES, n)
    y = (rng.random((n, CLASSES)) < 0.4).astype(np.uint8)
    y[:, 0], y[:, 1] = 1, 0
    return z, y


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("goal", GOALS)
def test_objective_is_the_definition(task, name, goal):
    z, y = random_case(task)
    k = None if goal == "untargeted" else 2
    values = objective(task, name, goal, k)(
        ops.convert_to_tensor(z), ops.convert_to_tensor(y.astype("int32"))
    )
    expected = [SLOW[task](z[i], y[i], name, goal, k) for i in range(len(z))]
    assert len(set(np.round(expected, 6))) == len(z)
    np.testing.assert_allclose(ops.convert_to_numpy(values), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("goal", GOALS)
def test_void_pixels_have_no_say(name, goal):
    z, y = random_case("segmentation")
    f = objective("segmentation", name, goal, None if goal == "untargeted" else 2)
    elsewhere = np.where((y == VOID)[..., None], np.random.default_rng(1).normal(0, 50, z.shape), z)
    np.testing.assert_allclose(f(elsewhere.astype(np.float32), y), f(z, y), atol=1e-6)
    assert (np.asarray(f(z, np.full_like(y, VOID))) == 0).all()


@pytest.mark.parametrize("name", OBJECTIVES)
def test_nothing_vanishes_where_there_is_no_pixel_of_the_class(name):
    z, y = random_case("segmentation")
    values = np.asarray(objective("segmentation", name, "vanish", 2)(z, y))
    assert values[0] == 0
    assert (values[1:] != 0).all()


def test_the_margin_of_lost_pixels_is_cut_off_so_that_they_do_not_hide_the_others():
    y = np.zeros((1, 1, 2), np.uint8)
    z = np.array([[[[0.0, 9.0], [4.0, 1.0]]]], np.float32)  # the first pixel is lost by far
    assert float(objective("segmentation", "margin")(z, y)[0]) == pytest.approx((1 - 3) / 2)


def logits_themselves(labels):
    """A network for tests that pass logits on: what it does to pixels does not matter."""
    return keras.Sequential([keras.Input((None, None, labels)), keras.layers.Activation("linear")])


def test_the_sign_of_a_margin_is_success():
    z, y = random_case("multiclass", seed=4, n=40)
    model = logits_themselves(CLASSES)
    for goal, k in (("untargeted", None), ("appear", 2), ("vanish", 2)):
        margin = np.asarray(objective("multiclass", "margin", goal, k)(z, y))
        reached = Target(y, goal, k).succeeded(Network(model, "multiclass"), z)
        assert 0 < reached.mean() < 1
        np.testing.assert_array_equal(margin > 0, reached)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: objective("detection", "margin"), "no task 'detection'; choose one of multilabel"),
        (lambda: objective("multiclass", "loss"), "no objective 'loss'; choose one of margin"),
        (lambda: Target(np.zeros(2), "confuse"), "no goal 'confuse'; choose one of untargeted"),
        (lambda: Target(np.zeros(2), "appear"), "'appear' needs a class: set class_index"),
        (lambda: Target(np.zeros(2), "vanish"), "'vanish' needs a class: set class_index"),
        (lambda: Target(np.zeros(2), "untargeted", 3), "'untargeted' takes no class: omit class_index"),
        (lambda: Target(np.zeros(2), class_index=0), "'untargeted' takes no class: omit class_index"),
        (lambda: Network(None, "detection"), "no task 'detection'; choose one of"),
    ],
)
def test_unknown_names_are_refused_in_one_sentence(call, words):
    with pytest.raises(VoclabError, match=words) as error:
        call()
    assert "\n" not in str(error.value)


def test_part_of_a_target_has_the_same_goal():
    part = Target(np.arange(5), "appear", 3).of(np.array([4, 1]))
    assert part.truth.tolist() == [4, 1]
    assert (part.goal, part.class_index) == ("appear", 3)


# --- victims ---


def smooth_network(task):
    """Small, without kinks, and sure enough of itself that its classes differ from image to image."""
    keras.utils.set_random_seed(3)
    layers = [
        keras.Input((None, None, 3)),
        keras.layers.Conv2D(8, 3, padding="same", activation="tanh", kernel_initializer="random_normal"),
        keras.layers.BatchNormalization(),
        keras.layers.Conv2D(8, 3, padding="same", activation="tanh"),
    ]
    if task != "segmentation":
        layers.append(keras.layers.GlobalAveragePooling2D())
    network = keras.Sequential([*layers, keras.layers.Dense(CLASSES)])
    first, last = network.layers[0], network.layers[-1]
    first.set_weights([20 * first.get_weights()[0], np.random.default_rng(0).normal(0, 1, 8)])
    # Centre and scale the logits, so that no class wins everywhere.
    logits = np.asarray(network(IMAGES)).reshape(-1, CLASSES)
    kernel, _ = last.get_weights()
    last.set_weights([2 * kernel / logits.std(0), -2 * logits.mean(0) / logits.std(0)])
    return network


def soft_images():
    """Smooth colours with detail, black and white corners, (N, SIZE, SIZE, 3) 8-bit values."""
    rng = np.random.default_rng(7)
    coarse = rng.uniform(0, 1, (N, 4, 4, 3)).repeat(SIZE // 4, 1).repeat(SIZE // 4, 2)
    images = np.clip(coarse + rng.normal(0, 0.1, coarse.shape), 0, 1)
    images[:, 0, 0], images[:, -1, -1] = 0, 1
    return eight_bit(images)


IMAGES = soft_images()


def believed(victim, images):
    """What the victim says of the images, as the truth."""
    logits = victim.logits(images)
    if victim.task == "multilabel":
        rank = logits.argsort(1).argsort(1)
        return ((rank == CLASSES - 1) | (logits > 0) & (rank > 0)).astype(np.uint8)
    labels = logits.argmax(-1)
    if victim.task == "segmentation":
        labels[:, :2] = VOID
    return labels


@pytest.fixture(scope="module")
def victims():
    """A victim of every task; what it says of the images counts as true."""
    return {task: Network(smooth_network(task), task) for task in TASKS}


@pytest.fixture(scope="module")
def truths(victims):
    truths = {task: believed(victim, IMAGES) for task, victim in victims.items()}
    assert len(set(truths["multiclass"].tolist())) > 2
    return truths


every_task = pytest.mark.parametrize("task", TASKS)


def score(victim, images, target, name="margin"):
    values = objective(victim.task, name, target.goal, target.class_index)(
        victim.logits(images), target.truth
    )
    return np.asarray(values)


@pytest.mark.parametrize(
    ("task", "name", "goal", "k"),
    [
        ("multilabel", "margin", "untargeted", None),
        ("multilabel", "cross_entropy", "appear", 1),
        ("multiclass", "margin", "vanish", 1),
        ("multiclass", "cross_entropy", "untargeted", None),
        ("segmentation", "cross_entropy", "appear", 1),
        ("segmentation", "cross_entropy", "vanish", 1),
    ],
)
def test_gradient_is_the_numeric_gradient(victims, truths, task, name, goal, k):
    victim, images = victims[task], IMAGES[:2, 4:8, 4:8]
    truth = truths[task][:2]
    if task == "segmentation":
        truth = truth[:, 4:8, 4:8].copy()
        truth[:, 1] = 1  # so that there is something to vanish
    elif goal == "vanish":
        truth = np.full(2, k)
    target = Target(truth, goal, k)
    values, gradient, logits = target.gradient(victim, images, name)
    np.testing.assert_allclose(logits, victim.logits(images), atol=1e-5)
    np.testing.assert_allclose(values, score(victim, images, target, name), atol=1e-5)
    # Every value of every image a little more and a little less, all in one batch.
    steps = 1e-2 * np.eye(images[0].size, dtype=np.float32).reshape(-1, 1, *images.shape[1:])
    repeated = target.of(np.tile([0, 1], len(steps)))
    up, down = (
        score(victim, (images + s * steps).reshape(-1, *images.shape[1:]), repeated, name) for s in (1, -1)
    )
    numeric = ((up - down) / 2e-2).reshape(-1, 2).T.reshape(images.shape)
    scale = np.abs(numeric).max()
    assert scale > 5e-3
    np.testing.assert_allclose(gradient, numeric, atol=0.02 * scale)


@every_task
@pytest.mark.parametrize("name", OBJECTIVES)
def test_values_without_a_gradient_are_those_with_one(victims, truths, task, name):
    victim, target = victims[task], Target(truths[task])
    logits = victim.logits(IMAGES)
    values = target.values(victim, logits, name)
    expected, _, expected_logits = target.gradient(victim, IMAGES, name)
    np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(logits, expected_logits, rtol=1e-5, atol=1e-5)


@every_task
def test_an_image_gets_the_same_in_every_batch(victims, truths, task):
    victim, target = victims[task], Target(truths[task])
    values, gradient, logits = target.gradient(victim, IMAGES, "margin")
    for index in ([3], [9, 3, 0], [3, 3]):
        index = np.array(index)
        v, g, z = target.of(index).gradient(victim, IMAGES[index], "margin")
        np.testing.assert_allclose(v, values[index], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(z, logits[index], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(g, gradient[index], rtol=1e-3, atol=1e-4 * np.abs(gradient).max())
    np.testing.assert_allclose(victim.logits(IMAGES, batch_size=3), logits, rtol=1e-4, atol=1e-5)


def test_success_of_classifiers_by_hand():
    model = logits_themselves(3)
    z = np.array([[3.0, 1.0, -1.0], [0.5, 2.0, 1.0], [-3.0, -2.0, -1.0]])
    labels = np.array([[1, 0, 0], [1, 0, 1], [0, 1, 0]])
    multilabel, multiclass = Network(model, "multilabel"), Network(model, "multiclass")
    assert Target(labels).succeeded(multilabel, z).tolist() == [False, True, True]
    assert Target(labels, "appear", 2).succeeded(multilabel, z).tolist() == [False, True, False]
    assert Target(labels, "vanish", 2).succeeded(multilabel, z).tolist() == [True, False, True]
    truth = np.array([0, 2, 2])
    assert Target(truth).succeeded(multiclass, z).tolist() == [False, True, False]
    assert Target(truth, "appear", 1).succeeded(multiclass, z).tolist() == [False, True, False]
    assert Target(truth, "vanish", 1).succeeded(multiclass, z).tolist() == [True, False, True]


def test_thresholds_are_probabilities_above_which_a_class_is_there():
    model = logits_themselves(3)
    victim = Network(model, "multilabel", thresholds=(0.5, 0.9, 0.1))
    probabilities = np.array([[0.51, 0.89, 0.09], [0.49, 0.91, 0.11]])
    z, labels = np.log(probabilities / (1 - probabilities)), np.zeros((2, 3), int)
    for k, there in enumerate([[True, False], [False, True], [False, True]]):
        assert Target(labels, "appear", k).succeeded(victim, z).tolist() == there
        assert Target(labels, "vanish", k).succeeded(victim, z).tolist() == [not t for t in there]
    # which class is on top does not depend on thresholds
    assert Target(np.array([[0, 1, 0], [1, 0, 0]])).succeeded(victim, z).tolist() == [False, True]


def test_success_of_segmenters_is_a_share_of_the_pixels_concerned():
    victim = Network(logits_themselves(3), "segmentation")
    truth = np.array([[[0, 1, 2], [1, VOID, VOID]], [[0, 0, VOID], [0, 0, 0]], [[VOID] * 3] * 2])
    said = np.array([[[0, 2, 2], [1, 2, 2]], [[1, 0, 2], [2, 2, 0]], [[0, 1, 2]] * 2])
    z = np.eye(3)[said]
    nan = np.nan
    np.testing.assert_allclose(Target(truth).succeeded(victim, z), [1 / 4, 3 / 5, nan])
    np.testing.assert_allclose(Target(truth, "appear", 2).succeeded(victim, z), [2 / 4, 2 / 5, nan])
    np.testing.assert_allclose(Target(truth, "vanish", 1).succeeded(victim, z), [1 / 2, nan, nan])
    np.testing.assert_allclose(Target(truth, "vanish", 0).succeeded(victim, z), [0, 3 / 5, nan])


# --- victims that show no way ---


def classifier_of(layer):
    keras.utils.set_random_seed(0)
    pooled = keras.layers.GlobalAveragePooling2D()
    return keras.Sequential([keras.Input((None, None, 3)), layer, pooled, keras.layers.Dense(3)])


def hidden_classifier(kind):
    if kind == "stopped":
        return classifier_of(keras.layers.Lambda(ops.stop_gradient))
    model = classifier_of(keras.layers.Conv2D(4, 3))
    model.layers[-1].set_weights([np.zeros((4, 3)), np.array([2.0, 1.0, 0.0])])
    return model


@pytest.mark.parametrize("kind", ["stopped", "constant"])
@pytest.mark.parametrize(
    ("name", "remedy"), [("margin", "transfer"), ("cross_entropy", "objective='margin'")]
)
def test_a_victim_without_gradients_is_refused_in_one_sentence(kind, name, remedy):
    victim = Network(hidden_classifier(kind), "multiclass", "a masked net")
    truth = victim.logits(IMAGES[:3]).argmax(1)
    for attack in (FGSM(objective=name), PGD(objective=name)):
        with pytest.raises(VoclabError, match="gradient of a masked net vanishes at every image") as error:
            attack(victim, IMAGES[:3], truth, 8 / 255)
        assert remedy in str(error.value)
        assert "\n" not in str(error.value)


def test_a_saturated_loss_is_refused_and_the_remedy_works():
    model = classifier_of(keras.layers.Conv2D(4, 3))
    kernel, bias = model.layers[-1].get_weights()
    model.layers[-1].set_weights([1e7 * kernel, bias])
    victim = Network(model, "multiclass")
    truth = victim.logits(IMAGES).argmax(1)
    with pytest.raises(VoclabError, match=r"objective='margin'"):
        FGSM(objective="cross_entropy")(victim, IMAGES, truth, 8 / 255)
    perturbed = FGSM(objective="margin")(victim, IMAGES, truth, 8 / 255)
    assert (score(victim, perturbed, Target(truth)) > score(victim, IMAGES, Target(truth))).all()


@pytest.mark.parametrize(("goal", "k"), [("untargeted", None), ("vanish", 1)])
def test_cross_entropy_of_a_sure_victim_shows_the_way_and_not_rounding_noise(goal, k):
    rng = np.random.default_rng(2)
    kernel, bias = rng.normal(0, 1, (3, 4)), np.array([0.0, 27.0, 0.0, 3.0])
    model = keras.Sequential([keras.Input((None, None, 3)), keras.layers.GlobalAveragePooling2D()])
    model.add(keras.layers.Dense(4))
    model.layers[-1].set_weights([kernel, bias])
    target = Target(np.ones(N, int), goal, k)
    _, gradient, logits = target.gradient(Network(model, "multiclass"), IMAGES, "cross_entropy")
    z = IMAGES.astype(np.float64).mean((1, 2)) @ kernel + bias
    np.testing.assert_allclose(logits, z, rtol=1e-5, atol=1e-5)
    e = np.exp(z - z[:, 1:2])
    e[:, 1] = 0  # the probability of class 1 less one, without cancellation
    p = e / (1 + e.sum(1, keepdims=True))
    p[:, 1] = -p.sum(1)
    assert p.max() < 1e-7
    expected = (p @ kernel.T)[:, None, None] / SIZE**2
    np.testing.assert_allclose(gradient, np.broadcast_to(expected, IMAGES.shape), rtol=1e-3)


def test_a_gradient_that_is_not_finite_is_refused():
    victim = Network(
        classifier_of(keras.layers.Lambda(lambda x: ops.sqrt(ops.relu(x - 2)))), "multiclass", "nn"
    )
    assert np.isfinite(victim.logits(IMAGES[:2])).all()
    for attack in (FGSM(), PGD(steps=1)):
        with pytest.raises(VoclabError, match="gradient of nn is not finite"):
            attack(victim, IMAGES[:2], np.zeros(2, int), 8 / 255)


def test_images_that_leave_nothing_to_gain_are_not_taken_for_a_victim_without_gradients(victims, truths):
    victim, truth = victims["segmentation"], truths["segmentation"].copy()
    truth[truth == 2] = VOID
    sure = pixel_classifier([0.0, 50.0, 0.0])
    hidden = pixel_classifier([0.0, 0.0, 0.0], keras.layers.Lambda(ops.stop_gradient))
    for attack in (FGSM(), PGD(steps=2)):
        attack(victim, IMAGES, Target(truth, "vanish", 2), 4 / 255)  # no pixel of the class
        attack(victim, IMAGES, np.full_like(truth, VOID), 4 / 255)
        attack(sure, IMAGES, np.zeros_like(truth), 4 / 255)  # lost by far, everywhere
        with pytest.raises(VoclabError, match="vanishes"):
            attack(hidden, IMAGES, np.zeros_like(truth), 4 / 255)


def pixel_classifier(bias, *before):
    """The strongest of red, green and blue."""
    model = keras.Sequential([keras.Input((None, None, 3)), *before, keras.layers.Conv2D(3, 1)])
    model.layers[-1].set_weights([np.eye(3).reshape(1, 1, 3, 3), np.array(bias)])
    return Network(model, "segmentation")


# --- attacks against plain re-implementations ---


def slow_path(victim, target, epsilon, steps, share, momentum=0.0, name="margin"):
    """All points that gradient ascent from the clean images visits, float64 where that is possible."""
    x = IMAGES.astype(np.float64)
    path, point, velocity = [x], x, np.zeros_like(x)
    for _ in range(steps):
        _, gradient, _ = target.gradient(victim, point.astype(np.float32), name)
        gradient = gradient.astype(np.float64)
        if momentum:
            velocity = momentum * velocity + gradient / np.abs(gradient).mean((1, 2, 3), keepdims=True)
            gradient = velocity
        moved = point + epsilon * share * np.sign(gradient)
        point = np.clip(x + np.clip(moved - x, -epsilon, epsilon), 0, 1)
        path.append(point)
    return path


def mostly_equal(a, b, share=0.99):
    """Equal but for a few pixels where float32 cannot tell the sign of the gradient."""
    return (np.abs(a - b) < 1e-5).mean() >= share


@every_task
@pytest.mark.parametrize("name", OBJECTIVES)
def test_fgsm_is_one_step_along_the_sign_of_the_gradient(victims, truths, task, name):
    victim, target = victims[task], Target(truths[task])
    _, gradient, _ = target.gradient(victim, IMAGES, name)
    perturbed = FGSM(objective=name)(victim, IMAGES, truths[task], 6 / 255)
    expected = np.clip(IMAGES + 6 / 255 * np.sign(gradient), 0, 1)
    np.testing.assert_allclose(perturbed, expected, atol=1e-6)
    assert perturbed.dtype == np.float32
    assert score(victim, perturbed, target, name).mean() > score(victim, IMAGES, target, name).mean()


PATHS = [
    ("multiclass", 0.0, "margin"),
    ("multiclass", 0.9, "margin"),
    ("multilabel", 0.0, "cross_entropy"),
    ("segmentation", 0.7, "margin"),
    ("segmentation", 0.0, "cross_entropy"),
]


@pytest.mark.parametrize(("task", "momentum", "name"), PATHS)
def test_pgd_without_early_stop_ends_at_the_last_step(victims, truths, task, momentum, name):
    victim, target = victims[task], Target(truths[task])
    last = slow_path(victim, target, 4 / 255, 4, 0.3, momentum, name)[-1]
    attack = PGD(name, steps=4, step=0.3, random_start=False, momentum=momentum, early_stop=False)
    assert mostly_equal(attack(victim, IMAGES, target, 4 / 255), last)


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_pgd_with_early_stop_keeps_the_best_point_of_the_path(victims, truths, momentum):
    victim, target = victims["segmentation"], Target(truths["segmentation"])
    # Steps beyond the bound, so that the path is not a climb all the way.
    path = slow_path(victim, target, 6 / 255, 6, 2.0, momentum=momentum)
    values = np.stack([score(victim, point.astype(np.float32), target) for point in path])
    assert len(set(values.argmax(0).tolist())) > 1
    attack = PGD(steps=6, step=2.0, random_start=False, momentum=momentum)
    perturbed = attack(victim, IMAGES, target, 6 / 255)
    np.testing.assert_allclose(score(victim, perturbed, target), values.max(0), atol=2e-3)
    best = np.stack([path[k][i] for i, k in enumerate(values.argmax(0))])
    assert mostly_equal(perturbed, best, 0.97)


@pytest.mark.parametrize("task", ["multilabel", "multiclass"])
def test_pgd_with_early_stop_ends_at_the_first_point_that_fools(victims, truths, task):
    victim, target, epsilon = victims[task], Target(truths[task]), 6 / 255
    path = slow_path(victim, target, epsilon, 6, 1 / 6)
    fooled = np.stack(
        [target.succeeded(victim, victim.logits(eight_bit(p))) for p in path]
    )  # steps of 1/255, so that rounding changes nothing
    assert not fooled[0].any()
    first = np.where(fooled.any(0), fooled.argmax(0), 6)
    assert len(set(first.tolist())) > 1
    perturbed = PGD(steps=6, step=1 / 6, random_start=False)(victim, IMAGES, target, epsilon)
    assert mostly_equal(perturbed, np.stack([path[k][i] for i, k in enumerate(first)]), 0.98)


@pytest.mark.parametrize("task", ["multilabel", "multiclass"])
def test_what_is_fooled_already_is_left_alone(victims, truths, task):
    victim, truth = victims[task], truths[task].copy()
    truth[:4] = 1 - truth[:4] if task == "multilabel" else (truth[:4] + 1) % CLASSES
    perturbed = PGD(steps=3, random_start=False)(victim, IMAGES, truth, 8 / 255)
    np.testing.assert_array_equal(perturbed[:4], IMAGES[:4])
    assert (perturbed[4:] != IMAGES[4:]).any((1, 2, 3)).all()
    perturbed = PGD(steps=3, random_start=False, early_stop=False)(victim, IMAGES, truth, 8 / 255)
    assert (perturbed != IMAGES).any((1, 2, 3)).all()


def test_early_stop_goes_by_the_image_that_can_be_saved():
    # Class 1 as soon as the mean is above a half of a step more than that of the image.
    model = keras.Sequential([keras.Input((None, None, 3)), keras.layers.GlobalAveragePooling2D()])
    model.add(keras.layers.Dense(2))
    image = eight_bit(np.full((1, 4, 4, 3), 100, np.uint8))
    weights = np.array([[0.0, 100.0]] * 3)
    model.layers[-1].set_weights([weights, np.array([0.0, -300 * 100.05 / 255])])
    victim = Network(model, "multiclass")
    attack = PGD(steps=10, step=0.15, random_start=False)
    below = attack(victim, image, np.array([0]), 0.4 / 255)
    assert Target(np.array([0])).succeeded(victim, victim.logits(below)).all()
    np.testing.assert_array_equal(eight_bit(below), image)  # the file is the image, so nothing is won,
    np.testing.assert_allclose(below - image, 0.4 / 255, atol=1e-6)  # and PGD went on to the bound
    above = attack(victim, image, np.array([0]), 2.6 / 255)
    np.testing.assert_allclose(above - image, 2 * 0.15 * 2.6 / 255, atol=1e-6)  # the second step rounds to 1
    assert Target(np.array([0])).succeeded(victim, victim.logits(eight_bit(above))).all()


@pytest.mark.parametrize(("early_stop", "looks"), [(False, 0), (True, 1)])
def test_pgd_asks_for_no_more_gradients_than_steps(victims, truths, monkeypatch, early_stop, looks):
    asked = {"gradient": 0, "values": 0}
    for name, owner in (("gradient", Network), ("values", Target)):
        method = getattr(owner, name)

        def counted(self, *arguments, name=name, method=method):
            asked[name] += 1
            return method(self, *arguments)

        monkeypatch.setattr(owner, name, counted)
    attack = PGD(steps=3, early_stop=early_stop)
    attack(victims["segmentation"], IMAGES, truths["segmentation"], 4 / 255)
    assert asked == {"gradient": 3, "values": looks}


@every_task
@pytest.mark.parametrize("momentum", [0.0, 1.0])
def test_pgd_never_falls_below_its_start(victims, truths, task, momentum):
    victim, target = victims[task], Target(truths[task])
    before = score(victim, IMAGES, target)
    for share in (0.3, 4.0):
        attack = PGD(steps=3, step=share, random_start=False, momentum=momentum)
        after = score(victim, attack(victim, IMAGES, target, 3 / 255), target)
        assert (after >= before - 1e-5).all()
        assert after.mean() > before.mean() + 0.01


# --- goals ---


@every_task
@pytest.mark.parametrize("goal", ["appear", "vanish"])
@pytest.mark.parametrize("attack", [FGSM(), PGD(steps=8), PGD(steps=8, momentum=0.9)])
def test_a_goal_is_reached_more_often_than_in_clean_images(victims, truths, task, goal, attack):
    victim = victims[task]
    target = Target(truths[task], goal, 1 if task == "multilabel" else 2)
    perturbed = attack(victim, IMAGES, target, 20 / 255)
    before, after = (target.succeeded(victim, victim.logits(x)) for x in (IMAGES, eight_bit(perturbed)))
    assert np.nanmean(before) < 1
    assert np.nanmean(after) - np.nanmean(before) > 0.1 * (1 - np.nanmean(before))


@every_task
def test_untargeted_attacks_fool_more_than_noise_does(victims, truths, task):
    victim, target = victims[task], Target(truths[task])
    attacks = [Noise(), FGSM(), PGD(steps=10)]
    success = [
        target.succeeded(victim, victim.logits(eight_bit(a(victim, IMAGES, target, 8 / 255)))).mean()
        for a in attacks
    ]
    assert success[0] < min(success[1:])


# --- one call shape ---

ATTACKS = {
    "fgsm": FGSM(),
    "pgd": PGD(steps=2),
    "momentum": PGD(steps=2, momentum=0.9),
    "all_steps": PGD(steps=2, early_stop=False),
    "apgd": APGD(steps=3),
    "apgd_t": TargetedAPGD(targets=2, steps=2),
    "square": Square(queries=8),
    "sign": Noise(),
    "uniform": Noise(kind="uniform"),
}
every_attack = pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS.keys())


@every_attack
def test_epsilon_0_returns_the_images(victims, truths, attack):
    given_ = IMAGES.copy()
    perturbed = attack(victims["multiclass"], given_, truths["multiclass"], 0)
    np.testing.assert_array_equal(perturbed, IMAGES)
    assert perturbed.dtype == np.float32


@every_attack
def test_an_attack_keeps_the_bound_is_repeatable_and_leaves_its_input_alone(victims, truths, attack):
    victim, truth = victims["multiclass"], truths["multiclass"]
    for tenth in (4, 26, 80):
        epsilon = np.float64(tenth) / 2550  # of NumPy's type, as a loop over an array gives it
        given_ = IMAGES.copy()
        perturbed = attack(victim, given_, truth, epsilon)
        np.testing.assert_array_equal(given_, IMAGES)
        assert perturbed.shape == IMAGES.shape
        assert perturbed.dtype == np.float32
        assert perturbed.min() >= 0
        assert perturbed.max() <= 1
        moves = tenth >= 10 or not isinstance(attack, Square)  # which tries 8-bit images only
        assert (perturbed != IMAGES).any((1, 2, 3)).all() == moves
        change = np.rint(255 * perturbed) - np.rint(255 * IMAGES)
        for amount in (perturbed.astype(np.float64) - IMAGES, change / 255):
            assert np.abs(amount).max() <= epsilon + 1e-6
        np.testing.assert_array_equal(perturbed, attack(victim, IMAGES, truth, epsilon))


@every_attack
def test_one_image_and_none_are_batches(victims, truths, attack):
    victim, truth = victims["multiclass"], truths["multiclass"]
    one = attack(victim, IMAGES[:1], truth[:1], 4 / 255)
    assert one.shape == (1, SIZE, SIZE, 3)
    assert (one != IMAGES[:1]).any()
    assert attack(victim, IMAGES[:0], truth[:0], 4 / 255).shape == (0, SIZE, SIZE, 3)


@every_attack
def test_arguments_that_make_no_sense_are_refused_in_one_sentence(victims, truths, attack):
    victim, truth = victims["multiclass"], truths["multiclass"]
    grey = IMAGES[..., :1]
    for images, goal, epsilon, words in [
        (IMAGES, truth[:3], 4 / 255, "There are 10 images but the truth of 3"),
        (IMAGES[:1], truth, 4 / 255, "There are 1 images but the truth of 10"),
        (
            IMAGES,
            np.eye(CLASSES)[truth],
            4 / 255,
            r"shape \(10, 5\), but network \(multiclass\) needs \(10,\)",
        ),
        (
            IMAGES,
            Target(truth, "appear", CLASSES),
            4 / 255,
            "class is 5, but network knows 5; choose one from 0",
        ),
        (IMAGES, Target(truth, "vanish", -1), 4 / 255, "class is -1"),
        (IMAGES, truth, -4 / 255, "0 or more"),
        (IMAGES, truth, float("nan"), "finite"),
        (grey, truth, 4 / 255, "grey"),
        (np.rint(255 * IMAGES).astype(np.uint8), truth, 4 / 255, "uint8"),
    ]:
        with pytest.raises(VoclabError, match=words) as error:
            attack(victim, images, goal, epsilon)
        assert "\n" not in str(error.value)


def test_truth_of_the_wrong_shape_is_refused_for_every_task(victims, truths):
    for task, truth in (
        ("multilabel", truths["multiclass"]),
        ("multilabel", truths["multilabel"][:, :4]),
        ("segmentation", truths["multiclass"]),
        ("segmentation", truths["segmentation"][:, ::2, ::2]),
    ):
        with pytest.raises(VoclabError, match="The truth has shape"):
            FGSM()(victims[task], IMAGES, truth, 4 / 255)


@pytest.mark.parametrize(
    ("attack", "words"),
    [
        (PGD(steps=0), "needs at least one step, not 0"),
        (Noise(kind="pink"), "no noise 'pink'; choose sign or uniform"),
        (FGSM(objective="hinge"), "no objective 'hinge'"),
        (PGD(objective="hinge"), "no objective 'hinge'"),
    ],
)
def test_options_that_make_no_sense_are_refused(victims, truths, attack, words):
    with pytest.raises(VoclabError, match=words):
        attack(victims["multiclass"], IMAGES, truths["multiclass"], 4 / 255)


def test_the_seed_decides_the_starts_and_nothing_else_does(victims, truths):
    victim, truth = victims["segmentation"], truths["segmentation"]
    runs = [PGD(steps=1, step=0.1, seed=seed)(victim, IMAGES, truth, 8 / 255) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(runs[0], runs[1])
    assert (runs[0] != runs[2]).mean() > 0.9
    # The start of the first image is the same, whatever comes after it.
    alone = PGD(steps=1, step=0.1)(victim, IMAGES[:1], truth[:1], 8 / 255)
    assert mostly_equal(alone[0], runs[0][0])
    still = [PGD(steps=1, step=0.1, seed=s, random_start=False)(victim, IMAGES, truth, 0.1) for s in (0, 1)]
    np.testing.assert_array_equal(*still)


# --- the control ---


def test_sign_noise_has_the_full_size_wherever_the_pixel_allows(victims, truths):
    perturbed = Noise()(victims["multiclass"], IMAGES, truths["multiclass"], 8 / 255)
    change = np.rint(255 * (perturbed - IMAGES))
    free = (IMAGES >= 8 / 255) & (IMAGES <= 1 - 8 / 255)
    assert (np.abs(change[free]) == 8).all()
    assert 0.45 < (change[free] > 0).mean() < 0.55
    assert (change[IMAGES == 0] >= 0).all()
    assert set(np.unique(change[IMAGES == 1])) == {-8, 0}


def test_uniform_noise_fills_the_ball(victims, truths):
    perturbed = Noise(kind="uniform")(victims["multiclass"], IMAGES, truths["multiclass"], 8 / 255)
    change = 255 * (perturbed - IMAGES)[(IMAGES >= 8 / 255) & (IMAGES <= 1 - 8 / 255)] / 8
    assert np.abs(change).max() <= 1 + 1e-5
    assert (change**2).mean() == pytest.approx(1 / 3, abs=0.02)
    assert abs(change.mean()) < 0.03


@pytest.mark.parametrize("kind", ["sign", "uniform"])
def test_noise_depends_on_its_seed_alone(victims, truths, kind):
    a, again, other = (
        Noise(kind=kind, seed=seed)(victims[task], IMAGES, truths[task], 8 / 255)
        for task, seed in (("multiclass", 0), ("segmentation", 0), ("multiclass", 1))
    )
    np.testing.assert_array_equal(a, again)
    assert (a != other).mean() > 0.3


# --- against foolbox, which shares no code with this ---

TEN, SIDE = 10, 16


@pytest.fixture(scope="module")
def digits():
    """A softmax network of ten classes trained for a moment, and images of which it gets most right."""
    keras.utils.set_random_seed(11)
    rng = np.random.default_rng(11)
    patterns = rng.uniform(0.4, 0.6, (TEN, 4, 4, 3)).repeat(SIDE // 4, 1).repeat(SIDE // 4, 2)

    def draw(n):
        labels = rng.integers(0, TEN, n)
        return eight_bit(np.clip(patterns[labels] + rng.normal(0, 0.15, (n, SIDE, SIDE, 3)), 0, 1)), labels

    model = keras.Sequential(
        [
            keras.Input((SIDE, SIDE, 3)),
            keras.layers.Conv2D(12, 3, strides=2, activation="relu"),
            keras.layers.Conv2D(16, 3, strides=2, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(TEN),
        ]
    )
    model.compile(keras.optimizers.Adam(5e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(*draw(640), batch_size=64, epochs=4, verbose=0)
    images, labels = draw(48)
    return Network(model, "multiclass"), images, labels


def from_foolbox(foolbox, kind, epsilon):
    """The attack that ours shall equal, with 5 steps of a quarter of epsilon each."""
    if kind == "fgsm":
        return foolbox.attacks.LinfFastGradientAttack(random_start=False)
    pgd = foolbox.attacks.LinfProjectedGradientDescentAttack
    return pgd(abs_stepsize=0.25 * epsilon, steps=5, random_start=False)


@pytest.mark.parametrize(
    ("kind", "goal"),
    [("fgsm", "untargeted"), ("pgd", "untargeted"), ("pgd", "appear")],  # foolbox's FGSM knows no targets
)
def test_same_images_and_success_as_foolbox(digits, kind, goal):
    foolbox = pytest.importorskip("foolbox")
    victim, images, labels = digits
    wanted = 3 if goal == "appear" else None
    chosen = labels != wanted
    images, labels = images[chosen], labels[chosen].astype(np.int64)  # foolbox compares with an int64 argmax
    target = Target(labels, goal, wanted)
    criterion = (
        foolbox.criteria.Misclassification(ops.convert_to_tensor(labels))
        if wanted is None
        else foolbox.criteria.TargetedMisclassification(ops.convert_to_tensor(np.full_like(labels, wanted)))
    )
    theirs_of = foolbox.TensorFlowModel(victim.model, bounds=(0, 1))
    ours = PGD("cross_entropy", steps=5, step=0.25, random_start=False, early_stop=False)
    if kind == "fgsm":
        ours = FGSM(objective="cross_entropy")
    rates = []
    for epsilon in (2 / 255, 4 / 255, 8 / 255):
        attack = from_foolbox(foolbox, kind, epsilon)
        found, _, reported = attack(theirs_of, ops.convert_to_tensor(images), criterion, epsilons=epsilon)
        found, reported = found.numpy(), reported.numpy()
        perturbed = ours(victim, images, target, epsilon)
        assert mostly_equal(perturbed, found, 0.995)
        by_us, by_them = (target.succeeded(victim, victim.logits(x)) for x in (perturbed, found))
        # An image on the very boundary may fall to either side of it by the order of additions.
        clear = np.abs(score(victim, found, target)) > 1e-2
        assert clear.mean() > 0.9
        np.testing.assert_array_equal(by_us[clear], by_them[clear])
        np.testing.assert_array_equal(by_us[clear], reported[clear])
        rates.append(by_us.mean())
    assert rates == sorted(rates)
    assert any(0.1 < rate < 0.9 for rate in rates)
    assert rates[-1] > rates[0]
