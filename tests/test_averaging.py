"""Averaged weights: the average of a calculation by hand, batch norm that fits it, resuming."""

from dataclasses import replace
from itertools import count

import keras
import numpy as np
import pytest
from test_training import RECIPE, _assert_same, _killed_and_resumed, _scorer, _train
from test_training import parts as parts  # a fixture

from voclab.data.batches import batch_maker
from voclab.models.classifiers import build_classifier
from voclab.training import loop

MOMENTUM = 0.8
HOW = {"augmentation": "cifar", "optimizer": "sgd", "learning_rate": 0.1}
AVERAGED = replace(RECIPE, epochs=2, average=MOMENTUM, **HOW)


def network(dropout=0.0):
    keras.utils.set_random_seed(AVERAGED.seed)
    return build_classifier("resnet8", 3, dropout=dropout, options={"width": 4})


def ever_better():
    """A score by which the last epoch is the best."""
    calls = count()
    return lambda model: {"map": float(next(calls))}


@pytest.fixture(scope="module")
def averaged(parts, tmp_path_factory):
    """(the run, its weights after every step) of two epochs."""
    seen, usual = [], loop._Keeper.on_train_batch_end

    def watching(keeper, batch, logs=None):
        usual(keeper, batch, logs)
        seen.append([w.numpy() for w in keeper.model.trainable_variables])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop._Keeper, "on_train_batch_end", watching)
        run, _ = _train(tmp_path_factory.mktemp("a") / "run", parts, AVERAGED, ever_better(), network())
    return run, seen


def test_what_is_kept_is_the_moving_average_of_the_weights(averaged):
    run, seen = averaged
    expected = seen[0]
    for step in seen[1:]:
        expected = [MOMENTUM * a + (1 - MOMENTUM) * w for a, w in zip(expected, step)]
    kept = [w.numpy() for w in run.load_model().trainable_variables]
    for ours, theirs, last in zip(kept, expected, seen[-1], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
        assert np.abs(ours - last).max() > 1e-4


def test_an_average_leaves_the_training_alone(averaged, parts, tmp_path):
    _, seen = averaged
    plain = replace(AVERAGED, average=0.0)
    _, model = _train(tmp_path / "run", parts, plain, ever_better(), network())
    for ours, theirs in zip(model.trainable_variables, seen[-1], strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs)


def test_batch_norm_has_the_statistics_of_the_averaged_weights(averaged, parts):
    """Those of the first layer are computed here: mean and variance of its convolution, batch by batch."""
    run, _ = averaged
    backbone = run.load_model().get_layer("backbone")
    stem = keras.Model(backbone.inputs, backbone.get_layer("stem_conv").output)
    batch = batch_maker(parts[0], size=32, augmentation="cifar", batch_size=8, seed=AVERAGED.seed)
    steps = len(parts[0]) // 8
    found = [np.asarray(stem(2.0 * batch(steps + k)[0] / 255.0 - 1.0), np.float64) for k in range(steps)]
    norm = backbone.get_layer("stem_bn")
    mean, variance = ([getattr(x, how)((0, 1, 2)) for x in found] for how in ("mean", "var"))
    np.testing.assert_allclose(norm.moving_mean, np.mean(mean, 0), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(norm.moving_variance, np.mean(variance, 0), rtol=1e-3, atol=1e-4)
    assert norm.momentum == 0.9


def test_a_killed_training_with_an_average_resumes_to_the_same_numbers(parts, tmp_path):
    def training(folder, score=None):
        return _train(folder, parts, AVERAGED, score, network(dropout=0.2))

    unbroken = training(tmp_path / "unbroken")
    resumed = _killed_and_resumed(training, _scorer(parts[1]), tmp_path / "killed", 2)
    _assert_same(resumed, unbroken)
