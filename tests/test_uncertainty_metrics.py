"""Temperature, conformal thresholds and scores of unknown images, each beside an independent computation."""

from types import SimpleNamespace

import numpy as np
import pytest
from mapie.classification import SplitConformalClassifier
from mapie.risk_control import MultiLabelClassificationController, SemanticSegmentationController
from scipy.special import expit, log_softmax, softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import log_loss, roc_auc_score
from voc_trees import fails

from voclab.data.base import VOID
from voclab.metrics import (
    conformal,
    expected_calibration_error,
    fit_temperature,
    forecasts,
    negative_log_likelihood,
    outliers,
    probabilities,
)
from voclab.metrics.statistics import bootstrap_interval

TASKS = "multilabel", "multiclass"


def sample(task, n=400, classes=5, sharpness=1.0, seed=0):
    """Labels that follow the probabilities of some logits, and these logits, made too sure or too unsure."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(-1, 1.5, (n, classes)).astype(np.float32)
    if task == "multilabel":
        labels = rng.random((n, classes)) < expit(logits)
        labels[~labels.any(1), 0] = True
    else:
        chosen = [rng.choice(classes, p=p) for p in softmax(logits.astype(float), axis=1)]
        labels = np.eye(classes)[chosen]
    return labels.astype(np.uint8), logits * np.float32(sharpness)


# --- temperature ---


@pytest.mark.parametrize("task", TASKS)
def test_the_nll_is_that_of_scikit_learn(task):
    labels, logits = sample(task)
    shares = probabilities(logits, task, 2.0)
    if task == "multilabel":
        expected = log_loss(labels.ravel(), shares.ravel())
    else:
        expected = log_loss(labels.argmax(1), shares, labels=range(5))
    assert negative_log_likelihood(labels, logits, task, 2.0) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("sharpness", [0.4, 3.0])
def test_the_temperature_is_the_best_of_a_grid(task, sharpness):
    labels, logits = sample(task, sharpness=sharpness)
    grid = np.exp(np.linspace(np.log(0.1), np.log(10), 2001))
    z = logits.astype(float)[None] / grid[:, None, None]
    if task == "multilabel":
        nll = -np.where(labels, np.log(expit(z)), np.log(expit(-z))).mean((1, 2))
    else:
        nll = -(log_softmax(z, axis=2) * labels).sum(2).mean(1)
    found = fit_temperature(labels, logits, task)
    assert found == pytest.approx(grid[nll.argmin()], rel=0.004)  # two steps of the grid
    assert found == pytest.approx(sharpness, rel=0.25)


@pytest.mark.parametrize("task", TASKS)
def test_the_temperature_undoes_what_made_a_network_too_sure(task):
    labels, logits = sample(task, n=2000, sharpness=3.0)
    temperature = fit_temperature(*sample(task, n=2000, sharpness=3.0, seed=1), task)
    before, after = (
        expected_calibration_error(*forecasts(labels, logits, task, t)) for t in (1, temperature)
    )
    assert after < 0.03 < before


def test_of_a_single_answer_its_confidence_is_the_forecast():
    labels, logits = np.eye(3, dtype=np.uint8)[[0, 1]], np.array([[2.0, 0, 0], [1, 0, 0]], np.float32)
    right, confidence = forecasts(labels, logits, "multiclass")
    assert right.tolist() == [[1], [0]]
    e = np.exp([2.0, 1.0])
    np.testing.assert_allclose(confidence[:, 0], e / (e + 2), rtol=1e-6)


# --- conformal sets ---


def slow_threshold(true_scores, promised):
    """The largest score of any true class at which the corrected mean risk is small enough."""
    n = len(true_scores)
    allowed = [
        t
        for t in np.unique(np.concatenate(true_scores))
        if (sum(np.mean(s < t) for s in true_scores) + 1) / (n + 1) <= 1 - promised + 1e-12
    ]
    return max(allowed, default=-np.inf)


@pytest.mark.parametrize("promised", [0.5, 0.8, 0.9, 0.95])
@pytest.mark.parametrize("n", [1, 4, 9, 60])
def test_the_threshold_is_that_of_trying_all(n, promised):
    rng = np.random.default_rng(n)
    for _ in range(5):
        # Rounded, so that scores are equal within and between images.
        true = [rng.random(rng.integers(1, 5)).round(1) for _ in range(n)]
        assert conformal.threshold(true, promised) == slow_threshold(true, promised)


def test_too_few_images_to_promise_anything_name_every_class():
    true = [np.array([0.9])] * 8
    assert conformal.threshold(true, 0.9) == -np.inf
    assert conformal.threshold(true + true[:1], 0.9) == 0.9  # nine are promised / (1 - promised)
    assert conformal.recalls([np.array([0.0])], -np.inf) == [1]


def test_images_that_show_nothing_have_no_recall_and_do_not_count():
    true = [np.array([0.2, 0.8]), np.array([]), np.array([0.5])]
    assert conformal.threshold(true, 0.5) == conformal.threshold([true[0], true[2]], 0.5)
    np.testing.assert_array_equal(conformal.recalls(true, 0.5), [0.5, np.nan, 1])
    assert conformal.sizes([np.array([0.1, 0.5, 0.9]), np.array([])], 0.5).tolist() == [2, 0]


def test_bad_promises_are_refused():
    for wrong in (0.0, 1.0, float("nan")):
        fails("cannot be promised", conformal.threshold, [np.array([0.5])], wrong)
    fails("shows any class", conformal.threshold, [np.array([])], 0.9)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("promised", [0.8, 0.9])
def test_the_promise_is_kept_on_average_over_many_splits(task, promised):
    labels, logits = sample(task, n=600)
    scores, rng, kept = probabilities(logits, task), np.random.default_rng(0), []
    for _ in range(150):
        order = rng.permutation(len(scores))
        first, second = (conformal.of_what_is_there(labels[k], scores[k]) for k in np.split(order, [80]))
        kept.append(conformal.recalls(second, conformal.threshold(first, promised)).mean())
    error = np.std(kept) / np.sqrt(len(kept))
    assert np.mean(kept) > promised - 3 * error  # what is proved
    assert np.mean(kept) < promised + 2 / 81 + 3 * error  # not by naming everything


class Prefit(ClassifierMixin, BaseEstimator):
    """A classifier whose probabilities are its input."""

    def __init__(self, classes=5):
        self.classes = classes
        self.classes_ = np.arange(classes)

    def fit(self, x, y):
        return self

    def predict_proba(self, x):
        return x

    def predict(self, x):
        return x.argmax(1)

    def __sklearn_is_fitted__(self):
        return True


@pytest.mark.parametrize("promised", [0.7, 0.9, 0.95])
def test_single_label_sets_are_those_of_mapie(promised):
    labels, logits = sample("multiclass", n=150)
    scores = softmax(logits.astype(float), axis=1)
    first, second = slice(100), slice(100, None)
    theirs = SplitConformalClassifier(Prefit(), confidence_level=promised, conformity_score="lac")
    theirs.conformalize(scores[first], labels[first].argmax(1))
    _, sets = theirs.predict_set(scores[second])
    ours = conformal.threshold(conformal.of_what_is_there(labels[first], scores[first]), promised)
    np.testing.assert_array_equal(scores[second] >= ours, sets[:, :, 0])


@pytest.mark.parametrize("promised", [0.7, 0.9, 0.95])
def test_multi_label_sets_are_those_of_mapie(promised):
    labels, logits = sample("multilabel", n=150)
    scores = expit(logits.astype(float)).round(3)
    grid = (
        np.arange(0, 1001) / 1000 - 5e-4
    )  # between all scores: theirs name what is above, ours what reaches
    theirs = MultiLabelClassificationController(
        lambda x: x, risk="recall", method="crc", target_level=promised, predict_params=grid
    )
    theirs.calibrate(scores[:100], labels[:100])
    ours = conformal.threshold(conformal.of_what_is_there(labels[:100], scores[:100]), promised)
    np.testing.assert_array_equal(scores[100:] >= ours, theirs.predict(scores[100:])[:, :, 0])


def label_maps(n, size=12, classes=3, seed=0):
    """Maps with one rectangle each, void around it, some without any, and logits that see them unsharply."""
    rng = np.random.default_rng(seed)
    maps = np.zeros((n, size, size), np.uint8)
    for k, label_map in enumerate(maps):
        if k % 7 != 3:  # these show background only
            top, left = rng.integers(1, size - 4, 2)
            height, width = rng.integers(2, 9, 2)
            rectangle = np.s_[top : min(top + height, size - 1), left : min(left + width, size - 1)]
            around = np.s_[top - 1 : rectangle[0].stop + 1, left - 1 : rectangle[1].stop + 1]
            label_map[around] = VOID
            label_map[rectangle] = rng.integers(1, classes + 1)
    hints = np.eye(classes + 1)[np.where(maps == VOID, 0, maps)]
    sharpness = rng.uniform(0.3, 3, (n, 1, 1, 1))  # of some images little is found
    return maps, sharpness * hints + rng.normal(0, 1, hints.shape)


@pytest.mark.parametrize("promised", [0.7, 0.9, 0.95])
def test_pixel_sets_are_those_of_mapie(promised):
    maps, logits = label_maps(90)
    scores = (1 - softmax(logits, axis=-1)[..., 0]).round(3)
    known, foreground = maps != VOID, (maps > 0) & (maps != VOID)
    first, second = slice(60), slice(60, None)
    true = [s[there] for s, there in zip(scores[first], foreground[first])]
    ours = conformal.threshold(true, promised)
    grid = np.arange(0, 1001) / 1000 - 5e-4  # as above
    theirs = SemanticSegmentationController(
        lambda x: x, risk="recall", method="crc", target_level=promised, predict_params=grid
    )
    # Theirs refuse images that show nothing, which ours leaves out. Void is no foreground for them, and what
    # they name there does not count.
    shown = foreground[first].any((1, 2))
    assert 0 < shown.sum() < 60
    theirs.calibrate(scores[first][shown][:, None], foreground[first][shown].reshape(shown.sum(), -1))
    named = theirs.predict(scores[second][:, None])[:, 0]
    np.testing.assert_array_equal((scores[second] >= ours)[known[second]], named[known[second]])
    recalls = [named[k][there].mean() for k, there in enumerate(foreground[second]) if there.any()]
    found = conformal.recalls([s[there] for s, there in zip(scores[second], foreground[second])], ours)
    np.testing.assert_allclose(found[~np.isnan(found)], recalls)
    sizes = conformal.sizes([s[there] for s, there in zip(scores[second], known[second])], ours)
    assert sizes.tolist() == (named & known[second]).sum((1, 2)).tolist()
    # An image counts once, however large what it shows: all pixels in one heap give other sets.
    heap = np.quantile(np.concatenate(true), 1 - promised)
    assert ((scores[second] >= heap) != named)[known[second]].any()


# --- unknown images ---


def test_scores_are_those_of_the_papers():
    z = np.random.default_rng(0).normal(0, 2, (6, 4))
    single, several = (outliers.scores_of(z, task) for task in ("multiclass", "multilabel"))
    np.testing.assert_allclose(single["energy"], np.log(np.exp(z).sum(1)))
    np.testing.assert_allclose(several["joint energy"], np.log(1 + np.exp(z)).sum(1))
    np.testing.assert_allclose(single["largest probability"], (np.exp(z) / np.exp(z).sum(1)[:, None]).max(1))
    largest = (1 / (1 + np.exp(-z))).max(1)
    assert (largest.argsort() == several["largest logit"].argsort()).all()  # so there is no score of its own
    assert single["largest logit"].tolist() == several["largest logit"].tolist() == z.max(1).tolist()


def test_nearness_is_the_distance_to_the_kth_neighbour_of_directions():
    rng = np.random.default_rng(0)
    known, features = rng.normal(size=(30, 7)), rng.normal(size=(5, 7))
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (known, features)]
    distances = np.sort(np.linalg.norm(unit[1][:, None] - unit[0], axis=2), axis=1)
    np.testing.assert_allclose(outliers.nearness(known, features, k=3), -distances[:, 2])
    np.testing.assert_allclose(outliers.nearness(known[:2], 9 * features), -distances_of(unit, 2))


def distances_of(unit, k):
    return np.linalg.norm(unit[1][:, None] - unit[0][:k], axis=2).max(1)


def test_separation_is_counted_over_pairs():
    rng = np.random.default_rng(0)
    known, unknown = rng.normal(1, 1, 60).round(1), rng.normal(0, 1, 45).round(1)
    found = outliers.separation(known, unknown, samples=200)
    pairs = (known[:, None] > unknown) + 0.5 * (known[:, None] == unknown)
    assert found.auroc[0] == pytest.approx(pairs.mean())
    reached = max(t for t in known if np.mean(known >= t) >= 0.95)
    assert found.fpr[0] == np.mean(unknown >= reached)
    for value, low, high in (found.auroc, found.fpr):
        assert 0 <= low < value < high <= 1
    shares, passing = outliers.roc(known, unknown)
    assert np.trapezoid(passing, shares) == pytest.approx(pairs.mean())


def test_the_interval_of_the_auroc_is_about_that_of_its_standard_error():
    rng = np.random.default_rng(1)
    known, unknown = rng.normal(1, 1, 200), rng.normal(0, 1, 150)
    value, low, high = outliers.separation(known, unknown, samples=500).auroc
    # Hanley & McNeil 1982
    q1, q2 = value / (2 - value), 2 * value**2 / (1 + value)
    spread = value * (1 - value) + 199 * (q1 - value**2) + 149 * (q2 - value**2)
    assert (high - low) / 2 == pytest.approx(1.96 * np.sqrt(spread / (200 * 150)), rel=0.25)
    assert roc_auc_score(np.repeat([1, 0], [200, 150]), np.concatenate([known, unknown])) == pytest.approx(
        value
    )


def test_two_sets_are_resampled_apart():
    seen = SimpleNamespace(sizes=set())

    def statistic(first, second):
        seen.sizes.add((len(first), len(second), first.max() < 7, second.max() < 3))
        return float(first.mean() - second.mean())

    bootstrap_interval(statistic, (7, 3), 20)
    assert seen.sizes == {(7, 3, True, True)}
    assert np.isnan(bootstrap_interval(statistic, (7, 1), 20)).all()
