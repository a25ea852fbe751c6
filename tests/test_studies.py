"""What notebook 01 draws from finished runs."""

from dataclasses import asdict, replace

import numpy as np
import pytest

from voclab.errors import VoclabError
from voclab.experiments import adversary, cifar10, common, robustness, segmentation
from voclab.experiments import classification as study
from voclab.experiments.common import PROFILES, Profile
from voclab.experiments.overview import setting
from voclab.models.pretrained import Weights

WEIGHTS = Weights("cnn", "file", "w.weights.h5", "for the test")


def test_the_experiments_differ_in_nothing_but_what_is_compared():
    listed = {e.name: e for e in study.experiments(study.settings(Profile("demo", True)), WEIGHTS, seed=4)}
    assert list(dict.fromkeys(setting(name) for name in listed)) == list(study.LABELS)
    for name in ("scratch", "head"):
        plain, augmented = vars(listed[name].recipe), vars(listed[name + "-augmented"].recipe)
        assert {k for k in plain if plain[k] != augmented[k]} == {"augmentation"}
        assert plain["seed"] == 4
    assert listed["scratch-seed1"].recipe.seed == 5
    assert listed["finetuned-augmented-seed1"].start == "head-augmented"
    assert listed["scratch"].weights is None


def test_a_setting_of_ones_own_is_called_by_its_name():
    assert study.label("scratch-seed1") == "CNN from scratch"
    assert study.label("head-lite2-seed1-all") == "head-lite2, all training images"


def test_a_clear_difference_is_called_clear_and_noise_is_not():
    rng = np.random.default_rng(0)
    truth = (rng.random((150, 5)) < 0.3).astype(int)
    good = truth + rng.normal(0, 0.3, truth.shape)
    noise = rng.normal(size=truth.shape)
    clear = study.difference(truth, [good], [noise])
    assert clear.clear
    assert clear.low < clear.value < clear.high
    nothing = study.difference(truth, [noise], [rng.normal(size=truth.shape)])
    assert not nothing.clear
    assert "not decided" in str(nothing)
    assert "not decided" not in str(clear)
    assert not study.difference(truth, [good, noise], [noise]).clear  # seeds differ by more


def test_confident_mistakes_are_the_surest_wrong_decisions_one_an_image():
    truth = np.array([[1, 0], [0, 1], [1, 1]])
    probability = np.array([[0.9, 0.8], [0.95, 0.02], [0.99, 0.6]])
    predicted = (probability > 0.7).astype(int)
    found = study.confident_mistakes(truth, probability, predicted, 4)
    assert [(m.image, m.k, m.present) for m in found] == [(1, 0, False), (0, 1, False), (2, 1, True)]
    assert len(study.confident_mistakes(truth, probability, predicted, 1)) == 2
    assert study.confident_mistakes(truth, probability, truth, 4) == []  # no wrong decision, no mistake


def test_the_commonest_swap_counts_images():
    truth = np.array([[1, 0, 0], [1, 0, 0], [1, 0, 0], [0, 1, 0]])
    predicted = np.array([[0, 0, 1], [0, 0, 1], [1, 0, 0], [1, 0, 0]])
    assert study.commonest_swap(truth, predicted) == study.Swap(missed=0, instead=2, times=2, misses=2)
    assert study.commonest_swap(truth, truth) is None


def test_recall_by_size_follows_the_masks(squares):
    table = study.recall_by_size(squares, np.ones_like(squares.labels))
    assert {n: r for n, (r, _) in table.items()} == dict.fromkeys(table, 1.0)
    assert sum(count for _, count in table.values()) == squares.labels.sum()
    assert set(table) == {"under 5 %", "5 to 20 %"}  # a square covers 8 % of the image, less where hidden
    assert study.recall_by_size(replace(squares, read_mask=None), squares.labels) is None


def test_right_and_wrong_examples_are_what_they_say():
    rng = np.random.default_rng(1)
    truth = (rng.random((40, 4)) < 0.4).astype(int)
    chosen = study.right_and_wrong(truth, rng.random((40, 4)), 3, seed=0)
    assert [truth[i, k] for i, k in chosen] == [1, 1, 1, 0, 0, 0]


def test_profiles_by_name():
    assert Profile.of("auto", "toyvoc") == Profile.of("demo", "toyvoc") == Profile("demo", True)
    assert Profile.of("full", "kaggle") == Profile("full", False)
    with pytest.raises(VoclabError, match="smoke, demo, full"):
        Profile.of("fast", "toyvoc")


@pytest.mark.parametrize("module", [study, segmentation, adversary, cifar10, robustness, common])
def test_every_experiment_has_its_settings_for_every_profile(module):
    both = (True, False)
    sets = {(name, drawn): module.settings(Profile(name, drawn)) for name in PROFILES for drawn in both}
    assert sets["smoke", True] == sets["smoke", False]
    assert sets["demo", True] != sets["smoke", True]
    for profile, settings in sets.items():
        shared = common.settings(Profile(*profile)).batch
        batches = [v for k, v in asdict(settings).items() if k.endswith("batch_size")]
        assert all(size % shared == 0 for size in batches)  # GPUs share every batch evenly


def test_sample_images_show_each_class_once():
    labels = np.array([[1, 1, 0], [1, 0, 0], [0, 1, 1], [0, 0, 0], [0, 1, 1]])
    chosen = study.one_image_per_class(labels, seed=0)
    assert chosen[0] == 1  # the image that shows nothing else
    assert all(labels[i, k] for k, i in enumerate(chosen))
    assert len(set(chosen)) == 3
