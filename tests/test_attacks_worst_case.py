"""APGD, APGD-T, Square and the worst case over them, against plain definitions and another implementation."""

from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import ceil, sqrt

import keras
import numpy as np
import pytest
from fragile_victims import four_classes, fragile_classifier
from keras import ops

from toyvoc import cifar as toycifar
from voclab.attacks import APGD, PGD, Attack, Bench, Budget, Network, Square, Target, TargetedAPGD, apgd
from voclab.attacks.budget import own_random
from voclab.attacks.square import share_at
from voclab.attacks.target import VanishingGradientError, aimed
from voclab.attacks.worst_case import group, worst_case
from voclab.data import load
from voclab.data.base import Dataset
from voclab.data.images import eight_bit
from voclab.errors import VoclabError
from voclab.experiments import hardening

N, EPSILON = 100, 3 / 255


@pytest.fixture(scope="module")
def victim(tmp_path_factory):
    """(network, images, labels): trained for a moment on noisy copies of 100 images; it gets all right."""
    root = toycifar.make_toycifar(tmp_path_factory.mktemp("toy"), train=N, test=1, progress=False)
    data = load("toycifar", root, "train")
    images, labels = eight_bit(np.stack([data.image(i) for i in range(N)])), data.labels.argmax(1)
    rng = np.random.default_rng(0)
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            keras.layers.Conv2D(16, 3, strides=2, activation="relu"),
            keras.layers.Conv2D(16, 3, strides=2, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(10),
        ]
    )
    model.compile(keras.optimizers.Adam(3e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    noisy = np.clip(np.concatenate([images] * 8) + rng.normal(0, 0.1, (8 * N, 32, 32, 3)), 0, 1)
    model.fit(noisy, np.tile(labels, 8), batch_size=40, epochs=12, verbose=0)
    network = Network(model, "multiclass")
    right = network.logits(images).argmax(1) == labels
    assert right.all()
    return network, images, labels


def survivors(network, images, labels):
    """How many images are still right once they are saved in 8 bits."""
    return int((network.logits(eight_bit(images)).argmax(1) == labels).sum())


# --- against the Adversarial Robustness Toolbox, which shares no code with this ---


@pytest.mark.parametrize("kind", ["APGD-CE", "APGD-T", "Square"])
def test_as_many_images_survive_as_under_another_implementation(victim, kind):
    evasion = pytest.importorskip("art.attacks.evasion")
    from art.estimators.classification import TensorFlowV2Classifier

    network, images, labels = victim
    theirs = TensorFlowV2Classifier(
        network.model,
        nb_classes=10,
        input_shape=(32, 32, 3),
        loss_object=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        clip_values=(0, 1),
    )
    epsilon = 16 / 255 if kind == "Square" else EPSILON
    given = {"eps": epsilon, "batch_size": N, "verbose": False}
    auto = {"eps_step": 2 * epsilon, "max_iter": 15, "nb_random_init": 1, **given}
    np.random.seed(0)  # noqa: NPY002  (theirs)
    if kind == "Square":
        ours = Square(queries=100)
        found = [evasion.SquareAttack(theirs, max_iter=100, p_init=0.8, **given).generate(images, labels)]
    elif kind == "APGD-CE":
        ours = APGD(steps=15)
        attack = evasion.AutoProjectedGradientDescent(theirs, loss_type="cross_entropy", **auto)
        found = [attack.generate(images, labels)]
    else:
        ours, loss = TargetedAPGD(targets=2, steps=15), "difference_logits_ratio"
        attack = evasion.AutoProjectedGradientDescent(theirs, loss_type=loss, targeted=True, **auto)
        ranked = network.logits(images).argsort(1)
        found = [attack.generate(images, ranked[:, -rank]) for rank in (2, 3)]
    by_them = sum(np.all([network.logits(eight_bit(x)).argmax(1) == labels for x in found], axis=0))
    by_us = survivors(network, ours(network, images, labels, epsilon), labels)
    assert 10 <= by_them <= 90
    assert abs(by_us - by_them) <= 5


# --- APGD ---


@pytest.mark.parametrize("steps", [1, 7, 10, 20, 100, 250])
def test_step_sizes_are_looked_at_where_the_paper_says(steps):
    p = [Fraction(0), Fraction(22, 100)]
    while p[-1] <= 1:
        p.append(p[-1] + max(p[-1] - p[-2] - Fraction(3, 100), Fraction(6, 100)))
    assert apgd.checkpoints(steps) == [ceil(x * steps) for x in p if x < 1]
    if steps == 100:
        assert apgd.checkpoints(steps) == [0, 22, 41, 57, 70, 80, 87, 93, 99]


def slow_apgd(network, image, label, epsilon, steps, start):
    """Algorithm 1 for one image, on what is not fooled: its best value, the step sizes on the way."""

    def at(x):
        target = Target(np.array([label]))
        value, gradient, _ = target.gradient(network, x[None].astype(np.float32), "cross_entropy")
        return float(value[0]), gradient[0].astype(float)

    def project(x):
        return np.clip(np.clip(x, image - epsilon, image + epsilon), 0, 1)

    checks, eta, etas = apgd.checkpoints(steps), 2 * epsilon, []
    x, f = [project(start)], []
    best = before = (-np.inf, None, None)  # value, point, gradient
    for k in range(steps):
        value, gradient = at(x[k])
        f.append(value)
        if value > best[0]:
            best = value, x[k], gradient
        if k in checks[1:]:
            begin = checks[checks.index(k) - 1]
            rises = sum(f[i + 1] > f[i] for i in range(begin, k))
            same = len(etas) > 0 and etas[-1] == eta and before[0] == best[0]
            same |= not etas and best[0] == f[0]
            etas.append(eta)
            if rises < 0.75 * (k - begin) or same:
                eta, x[k], gradient = eta / 2, best[1], best[2]
            before = best
        z = project(x[k] + eta * np.sign(gradient))
        x.append(z if k == 0 else project(x[k] + 0.75 * (z - x[k]) + 0.25 * (x[k] - x[k - 1])))
    return max(best[0], at(x[steps])[0]), eta


def test_apgd_is_the_papers_algorithm():
    rng, n, epsilon, steps = np.random.default_rng(3), 6, 16 / 255, 30
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten()])
    model.add(keras.layers.Dense(16, activation=ops.sin))  # many hills, so that the way matters
    model.add(keras.layers.Dense(3))
    kernels = rng.normal(0, 1, (192, 16)), rng.normal(0, 0.3, (16, 3))
    model.set_weights([kernels[0], np.zeros(16), kernels[1], np.array([8, 0, 0])])  # no image is fooled
    network, labels = Network(model, "multiclass"), np.zeros(n, int)
    images = eight_bit(rng.uniform(0, 1, (n, 8, 8, 3)))
    perturbed = APGD(steps=steps)(network, images, labels, epsilon)
    values = Target(labels).values(network, network.logits(perturbed), "cross_entropy")
    starts = [x + Budget(epsilon).random(x.shape, r) for x, r in zip(images, own_random(images, 0))]
    slow = [slow_apgd(network, x.astype(float), 0, epsilon, steps, s) for x, s in zip(images, starts)]
    np.testing.assert_allclose(values, [value for value, _ in slow], rtol=1e-3)
    assert {round(2 * epsilon / eta) for _, eta in slow} & {4, 8, 16, 32, 64}  # halved at least twice


def test_apgd_finds_what_pgd_does_in_as_many_steps(victim):
    network, images, labels = victim
    for objective in ("cross_entropy", "margin"):
        ours = APGD(objective, steps=20)(network, images, labels, EPSILON)
        plain = PGD(objective, steps=20)(network, images, labels, EPSILON)
        few, more = (survivors(network, x, labels) for x in (ours, plain))
        assert few <= more + 1 < N


def test_an_objective_towards_a_class_is_its_definition():
    rng = np.random.default_rng(0)
    for classes in (2, 3, 4, 10):
        z = rng.normal(0, 2, (6, classes)).astype(np.float32)
        y, t = np.zeros(6, int), rng.integers(1, classes, 6)
        expected = []
        for row, aim in zip(z.astype(float), t):
            down = np.sort(row)[::-1]
            lower = down[0] - 1 if classes == 2 else down[2:4].mean()
            expected.append((row[aim] - row[0]) / (down[0] - lower))
        found = aimed("multiclass")(ops.convert_to_tensor(z), np.column_stack([y, t]))
        np.testing.assert_allclose(ops.convert_to_numpy(found), expected, rtol=1e-4)
    right = np.array([[1, 1, 0, 0], [0, 1, 0, 0]])
    z, t = rng.normal(0, 2, (2, 4)).astype(np.float32), np.array([2, 0])
    found = ops.convert_to_numpy(aimed("multilabel")(z, np.column_stack([right, t])))
    expected = [z[0, 2] - np.log(np.exp(z[0, 0]) + np.exp(z[0, 1])), z[1, 0] - z[1, 1]]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_the_most_probable_wrong_classes_are_aimed_at_in_turn(victim, task, monkeypatch):
    network, images, labels = victim
    images, labels = images[:12], labels[:12]
    logits = network.logits(images)
    if task == "multilabel":
        network = Network(network.model, task)
        truth = np.eye(10, dtype=np.uint8)[labels]
        truth[:, 3], truth[0] = 1, [1] * 8 + [0, 0]  # the first image lacks two classes only
    else:
        truth = labels
    wrong = np.eye(10)[labels] == 0 if task == "multiclass" else truth == 0
    seen, plain = [], apgd.Aimed
    monkeypatch.setattr(apgd, "Aimed", lambda truth, aims: seen.append(aims) or plain(truth, aims=aims))
    TargetedAPGD(targets=3, steps=1)(network, images, truth, 1e-3)  # no 8-bit value may change
    ranked = [sorted(np.flatnonzero(w), key=lambda k, z=z: -z[k]) for w, z in zip(wrong, logits)]
    expected = [[r[rank] for r in ranked if rank < len(r)] for rank in range(3)]
    assert [aims.tolist() for aims in seen] == expected


def test_towards_several_classes_no_fewer_are_fooled_than_towards_one(victim):
    network, images, labels = victim
    one, three = (TargetedAPGD(targets=k, steps=5)(network, images, labels, EPSILON) for k in (1, 3))
    assert survivors(network, three, labels) <= survivors(network, one, labels) < N


# --- Square ---


def test_squares_shrink_as_the_paper_says():
    times = [
        0,
        10,
        11,
        50,
        51,
        200,
        201,
        500,
        501,
        1000,
        1001,
        2000,
        2001,
        4000,
        4001,
        6000,
        6001,
        8000,
        8001,
    ]
    halved = [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9]
    assert [share_at(k, 10_000, 0.8) for k in times] == [0.8 / 2**h for h in halved]
    assert [share_at(k, 5_000, 0.8) for k in (5, 6, 4000, 4001)] == [0.8, 0.4, 0.8 / 2**8, 0.8 / 2**9]


def test_square_moves_every_pixel_by_the_bound_in_stripes_and_squares(victim):
    network, images, labels = victim
    steps, margins = 6, []
    for queries in (1, 30):
        perturbed = Square(queries)(network, images[:10], labels[:10], (steps + 0.4) / 255)
        before, after = (np.rint(255 * x).astype(int) for x in (images[:10], perturbed))
        up, down = np.minimum(before + steps, 255), np.maximum(before - steps, 0)
        assert ((after == up) | (after == down)).all()
        upright = [(after == bound).all(axis=1) for bound in (up, down)]  # all the way down a column
        assert (upright[0] | upright[1]).all() == (queries == 1)
        margins.append(Target(labels[:10]).values(network, network.logits(perturbed), "margin"))
    assert (margins[1] >= margins[0]).all()
    assert (margins[1] > margins[0]).mean() > 0.8


# --- all of them ---

EVERY = {"APGD": APGD(steps=6), "APGD-T": TargetedAPGD(2, 4), "Square": Square(25)}
every = pytest.mark.parametrize("attack", EVERY.values(), ids=EVERY.keys())


@every
def test_an_image_gets_the_same_in_every_batch(victim, attack):
    network, images, labels = victim
    all_ = attack(network, images[:12], labels[:12], EPSILON)
    for index in ([5], [9, 0, 5], [5, 5]):
        some = attack(network, images[index], labels[index], EPSILON)
        assert (np.abs(some - all_[index]) < 1e-5).mean() > 0.99
    changed = replace(attack, seed=1)(network, images[:12], labels[:12], EPSILON)
    assert (np.abs(changed - all_) > 1e-5).mean() > 0.03


@pytest.mark.parametrize(
    ("attack", "words"),
    [
        (APGD(steps=0), "APGD needs at least one step, not 0"),
        (TargetedAPGD(targets=0), "at least one class to aim at, not 0"),
        (Square(queries=0), "at least one query, not 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(victim, attack, words):
    network, images, labels = victim
    with pytest.raises(VoclabError, match=words):
        attack(network, images[:2], labels[:2], EPSILON)


def test_apgd_t_is_for_classifiers_without_a_goal(victim):
    network, images, labels = victim
    with pytest.raises(VoclabError, match="for segmenters and goals take APGD"):
        TargetedAPGD()(network, images[:2], Target(labels[:2], "appear", 3), EPSILON)


# --- the worst case ---


@dataclass(frozen=True)
class Blackens(Attack):
    """Fools the images of which the corner has one of these values, and notes what it saw."""

    codes: tuple
    seen: list = field(default_factory=list)

    def perturb(self, network, images, target, budget):
        codes = np.rint(255 * images[:, 0, 0, 0]).astype(int)
        self.seen.extend(codes.tolist())
        return np.where(np.isin(codes, self.codes)[:, None, None, None], 0, images).astype(np.float32)


class BlackSquare(Blackens, Square):
    """The same as a black box."""


def by_brightness():
    """Class 1 where the image is bright: black images are of class 0."""
    model = keras.Sequential([keras.Input((None, None, 3)), keras.layers.GlobalAveragePooling2D()])
    model.add(keras.layers.Dense(2))
    model.layers[-1].set_weights([np.array([[-1, 1]] * 3, np.float32), np.array([0.6, -0.6], np.float32)])
    return Network(model, "multiclass", "bright")


@pytest.fixture
def ten():
    """Ten bright images, told apart by their corner, of which the network is wrong of the last."""
    images = np.full((10, 8, 8, 3), 200, np.uint8)
    images[:, 0, 0] = np.arange(100, 110)[:, None]
    labels = np.eye(2, dtype=np.uint8)[[1] * 9 + [0]]
    ids = tuple(f"{k}" for k in range(10))
    return Bench(
        Dataset("x", "test", "multiclass", ids, ("a", "b"), labels, lambda i: images[i], None, ""), 8
    )


def attacks():
    return {
        "Square": BlackSquare((102, 103, 104)),
        "A": Blackens((100, 101)),
        "B": Blackens((101, 102, 109)),
    }


def test_the_worst_case_counts_each_image_once(ten):
    found = worst_case(ten, by_brightness(), given := attacks(), 1.0)
    rows = {row: right.tolist() for row, right in found.right.items()}
    right = lambda *fooled: [k not in fooled for k in range(9)] + [False]  # noqa: E731
    assert rows == {
        "clean": right(),
        "A": right(0, 1),
        "A + B": right(0, 1, 2),
        "Square": right(2, 3, 4),
        "A + B + Square": right(0, 1, 2, 3, 4),
    }
    assert (found.by_square_alone, found.worst) == (2, "A + B + Square")
    assert sorted(given["A"].seen) == sorted(given["Square"].seen) == list(range(100, 109))
    assert sorted(given["B"].seen) == list(range(102, 109))  # what A left
    row, z, n, p = found.table().loc["A + B + Square"], 1.959964, 10, 0.4
    middle, half = p + z * z / (2 * n), z * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert row.tolist() == pytest.approx([p, *((middle + s * half) / (1 + z * z / n) for s in (-1, 1)), n])
    for row, made in found.images.items():
        answers = ten.answers(by_brightness(), made).values.argmax(1)
        assert (answers == ten.truth("multiclass")).tolist() == rows[row]


def test_attacks_see_all_images_or_what_is_left(ten):
    alone = worst_case(ten, by_brightness(), given := attacks(), 1.0, on_all=given)
    assert list(alone.right) == ["clean", "A", "B", "Square", "A + B + Square"]
    assert alone.right["B"].sum() == 7
    cheap = worst_case(ten, by_brightness(), given := attacks(), 1.0, on_all=())
    assert list(cheap.right) == ["clean", "A", "A + B", "A + B + Square"]
    assert sorted(given["Square"].seen) == list(range(103, 109))
    assert cheap.by_square_alone == alone.by_square_alone == 2
    assert cheap.right[cheap.worst].tolist() == alone.right[alone.worst].tolist()


def paler(squares):
    """Squares from hardly to fully coloured; every sixth image is labelled with what it does not show."""
    images = [squares.image(k).astype(float) for k in range(24)]
    images = [np.rint(110 + share * (x - 110)) for x, share in zip(images, np.geomspace(0.07, 1, 24))]
    data = four_classes(squares).subset(np.arange(24))
    labels = data.labels.copy()
    labels[::6, :3] = 1 - labels[::6, :3]
    return replace(data, labels=labels, read_image=lambda k: images[k].astype(np.uint8))


def coloured(hidden):
    """The fragile classifier, less open to its pattern; ``hidden`` gives it no gradient."""
    model = fragile_classifier()
    weights, bias = model.get_layer("logits").get_weights()
    weights[3:] *= 0.05
    model.get_layer("logits").set_weights([weights, bias])
    inputs = keras.Input((32, 32, 3))
    answers = model(keras.layers.Lambda(ops.stop_gradient)(inputs) if hidden else inputs)
    return Network(keras.Model(inputs, answers), "multilabel")


@pytest.mark.parametrize("hidden", [False, True])
def test_an_image_of_several_classes_is_right_while_its_top_class_is_one_of_them(squares, hidden):
    data, network = paler(squares), coloured(hidden)
    bench, steps = Bench(data, 32), 5
    attacks = group(steps=2, targets=1, queries=40)
    found = worst_case(bench, network, attacks, (steps + 0.4) / 255, on_all=attacks)
    assert list(found.images) == ["clean", "APGD-CE", "APGD-T", "Square", "APGD-CE + APGD-T + Square"]

    right = {}
    for row, made in found.images.items():
        logits = network.logits(made.astype(np.float32) / 255)
        right[row] = [data.labels[k, z.argmax()] == 1 for k, z in enumerate(logits)]
        assert made.dtype == np.uint8
        assert np.abs(made.astype(int) - bench.images).max() <= steps  # also after rounding
        assert found.right[row].tolist() == right[row]
    clean, *alone, worst = map(np.array, right.values())
    assert clean.tolist() == [k % 6 > 0 for k in range(24)]
    for row, made in found.images.items():  # wrong already: not attacked, and wrong everywhere
        assert not found.right[row][~clean].any()
        np.testing.assert_array_equal(made[~clean], bench.images[~clean])
    under_all = [all(rows) for rows in zip(clean, *alone)]
    assert worst.tolist() == under_all
    assert found.table()["accuracy"].tolist() == pytest.approx([sum(r) / 24 for r in right.values()])
    assert found.table()["accuracy"].iloc[-1] <= found.table()["accuracy"].min()
    *gradients, square = alone
    assert found.by_square_alone == sum(a and b and not c for a, b, c in zip(*gradients, square))
    if hidden:
        assert found.by_square_alone > 2
        assert all(np.array_equal(row, clean) for row in gradients)
        before, after = (network.logits(found.images[row] / 255).argmax(1) for row in ("clean", "Square"))
        assert (square & (before != after)).any()  # another true class on top is right as well
    else:
        assert 2 < worst.sum() < clean.sum() - 2
        assert worst.sum() < square.sum() < clean.sum()


def test_square_shows_what_hidden_gradients_hide(victim):
    open_, images, labels = victim
    inputs = keras.Input((32, 32, 3))
    hidden = Network(
        keras.Model(inputs, open_.model(keras.layers.Lambda(ops.stop_gradient)(inputs))), "multiclass"
    )
    chosen, lines = slice(0, 20), []
    with pytest.raises(VanishingGradientError):
        APGD(steps=2)(hidden, images[chosen], labels[chosen], EPSILON)
    pixels, truth = np.rint(255 * images[chosen]).astype(np.uint8), np.eye(10, dtype=np.uint8)[labels[chosen]]
    names = tuple("abcdefghij")
    data = Dataset("x", "test", "multiclass", names * 2, names, truth, lambda i: pixels[i], None, "")
    found = worst_case(Bench(data, 32), hidden, group(3, 2, 100), 16 / 255, lines.append)
    assert found.right["APGD-CE + APGD-T"].all()
    assert found.by_square_alone == 20 - found.right["Square"].sum() > 2
    assert any("APGD-CE: The gradient of network vanishes" in line for line in lines)
    table = hardening.worst_cases({"a": hidden, "b": open_}, Bench(data, 32), 16.0, group(3, 1, 20))
    assert table.columns.tolist() == [
        *("network", "clean", "APGD-CE", "APGD-CE + APGD-T", "Square"),
        *("worst", "low", "high", "n", "found by Square alone"),
    ]
    assert table["network"].tolist() == ["a", "b"]
    assert table["n"].tolist() == [20, 20]
    assert table["APGD-CE"][1] < table["APGD-CE"][0] == table["clean"][0] == 1
    assert (table["worst"] <= table[["APGD-CE + APGD-T", "Square"]].min(axis=1)).all()
