"""Classification metrics against scikit-learn and against plain definitions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk
from voc_trees import fails

from voclab import metrics
from voclab.metrics.statistics import bootstrap_interval, wilson


@pytest.fixture
def case():
    rng = np.random.default_rng(3)
    truth = (rng.random((120, 6)) < [0.5, 0.3, 0.1, 0.05, 0.2, 0.02]).astype(np.uint8)
    scores = np.clip(0.4 * truth + rng.random(truth.shape) * 0.6, 0, 1)
    return truth, scores


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.integers(2, 40), st.sampled_from([0, 1, 2]))
def test_average_precision_equals_scikit_learn_also_with_ties(seed, n, decimals):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, (n, 3))
    truth[0] = 1
    scores = np.round(rng.random((n, 3)), decimals)
    expected = [sk.average_precision_score(truth[:, k], scores[:, k]) for k in range(3)]
    np.testing.assert_allclose(metrics.average_precision(truth, scores), expected, atol=1e-12)


def test_a_class_without_positives_does_not_enter_the_mean():
    truth = np.array([[1, 0], [0, 0]])
    scores = np.array([[0.9, 0.5], [0.1, 0.4]])
    assert np.isnan(metrics.average_precision(truth, scores)[1])
    assert metrics.mean_average_precision(truth, scores) == 1.0


def test_precision_recall_f1_equal_scikit_learn(case):
    truth, scores = case
    predicted = (scores > 0.5).astype(int)
    predicted[:, 3] = 0  # a class never predicted
    ours = metrics.precision_recall_f1(truth, predicted)
    for average in ("micro", "macro"):
        expected = sk.precision_recall_fscore_support(truth, predicted, average=average, zero_division=0)
        got = [ours[f"{name}_{average}"] for name in ("precision", "recall", "f1")]
        np.testing.assert_allclose(got, expected[:3])


def test_decisions_report_exact_match_and_hamming_like_scikit_learn(case):
    truth, scores = case
    predicted = (scores > 0.5).astype(int)
    report = metrics.decision_report(truth, predicted)
    assert report["exact_match"] == pytest.approx(sk.accuracy_score(truth, predicted))
    assert report["hamming"] == pytest.approx(1 - sk.hamming_loss(truth, predicted))


def test_label_dice_is_the_set_definition(case):
    truth, scores = case
    predicted = (scores > 0.6).astype(int)
    for row, (t, p) in enumerate(zip(truth, predicted)):
        a, b = set(np.flatnonzero(t)), set(np.flatnonzero(p))
        expected = 1.0 if not a and not b else 2 * len(a & b) / (len(a) + len(b))
        assert metrics.label_dice(truth, predicted)[row] == pytest.approx(expected)


SINGLE = np.array([0, 0, 0, 0, 1, 1, 2, 2]), np.array([0, 0, 1, 2, 1, 0, 1, 1])  # class 3 never occurs


def test_a_single_label_report_is_the_hand_count():
    report = metrics.single_label_report(*SINGLE, 4)
    assert report["accuracy"] == 3 / 8
    np.testing.assert_allclose(report["precision"], [2 / 3, 1 / 4, 0, 0])
    np.testing.assert_allclose(report["recall"], [1 / 2, 1 / 2, 0, 0])
    np.testing.assert_allclose(report["f1"], [4 / 7, 1 / 3, 0, 0])
    np.testing.assert_array_equal(report["support"], [4, 2, 2, 0])
    for name in ("precision", "recall", "f1"):
        assert report[f"{name}_macro"] == pytest.approx(report[name].mean())


def test_the_commonest_mistakes_are_named_with_their_direction():
    matrix = metrics.confusion_matrix(*SINGLE, 4)
    np.testing.assert_array_equal(matrix, [[2, 1, 1, 0], [1, 1, 0, 0], [0, 2, 0, 0], [0, 0, 0, 0]])
    assert matrix.dtype == np.int64
    names = ("cat", "dog", "deer", "ship")
    mistakes = metrics.most_confused(matrix, names, 10)
    assert mistakes[0] == ("deer", "dog", 2, 1.0)
    assert mistakes[1:] == [("cat", "dog", 1, 0.25), ("cat", "deer", 1, 0.25), ("dog", "cat", 1, 0.5)]
    assert metrics.most_confused(matrix, names, 2) == mistakes[:2]
    assert metrics.most_confused(np.diag([3, 1]), ("cat", "dog")) == []


def test_calibration_error_counts_each_bin_by_its_weight():
    truth = np.array([[1], [0], [1], [1]])
    probabilities = np.array([[0.1], [0.1], [0.9], [0.9]])
    # two forecasts of 0.1 come true half the time, two of 0.9 always
    assert metrics.expected_calibration_error(truth, probabilities) == pytest.approx(0.5 * 0.4 + 0.5 * 0.1)
    assert metrics.expected_calibration_error(truth, truth.astype(float)) == 0.0


def test_thresholds_beat_one_half_and_those_of_rare_classes_stay_close_to_the_common_one(monkeypatch, case):
    truth, scores = case
    spread = []
    for shrinkage in (0.1, 20.0, 1e9):
        monkeypatch.setattr(metrics.classification, "_SHRINKAGE", shrinkage)
        spread.append(np.ptp(metrics.choose_thresholds(truth, scores)))
        chosen = metrics.choose_thresholds(truth, scores)
        assert (
            metrics.label_dice(truth, scores >= chosen).mean()
            > metrics.label_dice(truth, scores >= 0.5).mean()
        )
    assert spread[0] > spread[1] > spread[2]
    assert spread[2] < 1e-6
    monkeypatch.undo()
    truth, scores = np.array([[1, 0], [0, 0]]), np.array([[0.9, 0.1], [0.2, 0.3]])
    assert np.isfinite(metrics.choose_thresholds(truth, scores)).all()  # no positive at all


def test_confusion_names_the_class_predicted_instead():
    truth = np.array([[1, 0, 0], [1, 0, 0], [0, 1, 0]])
    predicted = np.array([[0, 1, 0], [1, 0, 0], [0, 1, 0]])
    matrix = metrics.confused_instead(truth, predicted)
    assert matrix[0, 1] == 1.0  # the one missed image of class 0 was called class 1
    assert matrix[0, 0] == 0.5
    assert matrix[1, 1] == 1.0


def test_the_random_baseline_has_the_class_frequencies_and_chance_map():
    rng = np.random.default_rng(0)
    train = (rng.random((2000, 4)) < [0.4, 0.2, 0.1, 0.05]).astype(int)
    labels, scores = metrics.random_labels(train, 5000, seed=1)
    np.testing.assert_allclose(labels.mean(0), train.mean(0), atol=0.03)
    assert metrics.mean_average_precision(labels, scores) == pytest.approx(labels.mean(), abs=0.03)


TRUTH = np.array([[1, 0], [0, 1], [1, 1]])
FINE = np.array([[0.9, 0.2], [0.1, 0.8], [0.6, 0.7]])


def _with(value, values=FINE):
    changed = values.astype(float)
    changed[1, 0] = value
    return changed


@pytest.mark.parametrize(
    ("metric", "truth", "other", "words"),
    [
        (metrics.average_precision, TRUTH, _with(np.nan), "1 of 6 scores are NaN"),
        (metrics.average_precision, _with(0.5, TRUTH), FINE, "true labels hold 0.5, expected 0 and 1"),
        (metrics.average_precision, TRUTH, FINE[:2], "shapes"),
        (metrics.choose_thresholds, TRUTH, _with(3.5), r"from 0.2 to 3.5, expected \[0, 1\]; pass no logits"),
        (metrics.choose_thresholds, TRUTH[:0], FINE[:0], "empty"),
        (metrics.expected_calibration_error, TRUTH, _with(np.nan), "nan"),
        (metrics.decision_report, TRUTH, _with(0.5, TRUTH), "decisions hold 0.5"),
    ],
)
def test_what_gives_no_figure_is_refused(metric, truth, other, words):
    with pytest.raises(ValueError, match=words):
        metric(truth, other)


def test_what_only_rounding_took_out_of_range_is_a_probability():
    slightly = _with(1 + 1e-7)
    assert metrics.expected_calibration_error(TRUTH, slightly) == pytest.approx(
        metrics.expected_calibration_error(TRUTH, _with(1.0)), abs=1e-6
    )
    assert metrics.average_precision(TRUTH, _with(-np.inf))[0] == 1.0  # never, which is a rank


def test_a_bootstrap_interval_is_that_of_resampled_images():
    values = np.random.default_rng(1).normal(size=(40, 3))
    low, high = bootstrap_interval(lambda index: values[index].mean(0), 40, samples=500, seed=7)
    rng = np.random.default_rng(7)
    means = [values[rng.integers(0, 40, 40)].mean(0) for _ in range(500)]
    np.testing.assert_allclose((low, high), np.percentile(means, [2.5, 97.5], axis=0))


def test_one_image_alone_has_no_interval():
    assert np.isnan(bootstrap_interval(lambda index: float(len(index)), 1, samples=10)).all()
    assert np.isnan(bootstrap_interval(lambda index: np.ones(3), 1, samples=10)).all()


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (10, 10), (3, 17), (700, 1017), (1, 1)])
def test_wilson_intervals_follow_the_formula(successes, n):
    z, share = 1.959964, successes / n
    centre, half = share + z**2 / (2 * n), z * np.sqrt(share * (1 - share) / n + (z / (2 * n)) ** 2)
    expected = ((centre - half) / (1 + z**2 / n), (centre + half) / (1 + z**2 / n))
    assert wilson(successes, n) == pytest.approx(expected, abs=1e-6)


ERRORS = {"fog": [0.1, 0.2, 0.3, 0.4, 0.5], "snow": [0.2, 0.2, 0.2, 0.2, 0.2]}
BASELINE = {"snow": [0.4, 0.4, 0.4, 0.4, 0.4], "fog": [0.2, 0.4, 0.6, 0.8, 1.0]}


def test_mean_corruption_error_is_relative_to_the_baseline():
    mce = metrics.mean_corruption_error
    assert mce(ERRORS, BASELINE) == pytest.approx(50)
    assert mce(BASELINE, BASELINE) == pytest.approx(100)
    uneven, other = {"fog": [0.1] * 5, "snow": [0.2] * 5}, {"fog": [0.4] * 5, "snow": [0.2] * 5}
    assert mce(uneven, other) == pytest.approx((25 + 100) / 2)  # not the ratio of sums
    assert mce({"fog": np.zeros(5)}, {"fog": [0, 0, 0, 0, 0.5]}) == 0


def test_relative_mce_counts_what_corruption_adds():
    mce = metrics.mean_corruption_error
    # Fog: 1.5 - 5 · 0.1 of 3 - 5 · 0.2; snow: 1 - 0.5 of 2 - 1.
    assert mce(ERRORS, BASELINE, 0.1, 0.2) == pytest.approx(50)
    assert mce(ERRORS, BASELINE, 0.2, 0.2) == pytest.approx(100 * np.mean([0.5 / 2, 0]))
    assert mce({"fog": [0.1] * 5}, {"fog": [0.3] * 5}, 0.2, 0.2) == pytest.approx(-100)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (({"fog": [0.1] * 5}, {"snow": [0.1] * 5}), "network has errors for fog, the baseline for snow"),
        (({}, {}), "for nothing"),
        (({"fog": [0.1] * 4}, {"fog": [0.1] * 5}), "give five rates in"),
        (({"fog": [10] * 5}, {"fog": [0.1] * 5}), r"fog are \[10"),
        (({"fog": [0.1] * 5}, {"fog": [0.1] * 5}, 0.1, 7), "clean 0.1 and 7"),
        (({"fog": [0.0] * 5}, {"fog": [0.0] * 5}), "baseline loses nothing under fog"),
    ],
)
def test_errors_without_a_meaning_are_one_sentence(arguments, words):
    fails(words, metrics.mean_corruption_error, *arguments)
