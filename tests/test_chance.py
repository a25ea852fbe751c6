"""The rule that keeps networks at chance out of every comparison."""

import numpy as np
import pytest

from voclab.metrics import Chance, accuracy_low, dice_low, mean_average_precision

RNG = np.random.default_rng(0)
LABELS = (RNG.random((400, 5)) < (0.6, 0.2, 0.1, 0.1, 0.05)).astype(np.uint8)


def test_a_constant_answer_and_one_that_is_little_better_are_not_above_chance():
    chance = Chance.accuracy(LABELS)
    constant = LABELS[:, 0].mean()
    assert chance.bar == pytest.approx(constant)
    assert not chance.beaten(accuracy_low(constant, 400))
    assert not chance.beaten(accuracy_low(constant + 0.03, 400))
    assert chance.beaten(accuracy_low(constant + 0.1, 400))
    assert not chance.beaten(accuracy_low(constant + 0.1, 40))  # so few images do not tell


def test_scores_at_random_are_at_chance():
    chance = Chance.average_precision(LABELS)
    drawn = [mean_average_precision(LABELS, RNG.random(LABELS.shape)) for _ in range(20)]
    assert np.mean(drawn) == pytest.approx(chance.bar, abs=0.02)
    unseen = Chance.average_precision(np.column_stack([LABELS, np.zeros(400)]))
    assert unseen.bar == chance.bar  # a class that does not occur has no precision


def test_labels_at_random_have_half_the_dice_that_is_asked_for():
    truth = RNG.choice(3, (30, 40, 40), p=(0.8, 0.15, 0.05))
    drawn = RNG.choice(3, truth.shape, p=(0.8, 0.15, 0.05))
    labels = range(3)
    parts = [(truth == drawn) & (truth == k) for k in labels], [drawn == k for k in labels]
    counts = np.stack([np.stack(part) for part in (*parts, [truth == k for k in labels])])
    counts = counts.sum((3, 4)).transpose(2, 0, 1)  # images, (hits, predicted, true), labels
    chance = Chance.dice(counts[:, 2].sum(0))
    low = dice_low(counts)
    assert 0.4 < low / chance.bar < 0.55
    assert not chance.beaten(low)
    perfect = counts[:, [2, 2, 2]]
    assert dice_low(perfect) == 1
    assert chance.beaten(dice_low(perfect))


def test_the_reader_is_told_which_networks_are_left_out_and_why():
    chance = Chance("accuracy", 0.5, "giving every image the commonest class")
    assert chance.note({"a": 0.6, "b": 0.51}) == ""
    said = chance.note({"a": 0.6, "b": 0.5, "c": float("nan"), "d": 0.1})
    assert "not clearly better than chance: b (from 0.500), c (from nan) and d (from 0.100)." in said
    assert "must lie above 0.500 (giving every image the commonest class)" in said
    assert "chance: b (from 0.500). The" in chance.note({"b": 0.5})
