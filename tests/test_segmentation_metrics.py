"""Segmentation metrics against scikit-learn, the competition's scorer and plain definitions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from voclab import metrics
from voclab.data.base import VOID
from voclab.kaggle import score_submission, write_submission
from voclab.metrics import (
    SegmentationMetrics,
    boundary_f1,
    image_scores,
    segmentation,
)

CLASSES = 5
SHAPES = [(17, 23), (30, 11), (1, 40), (25, 25)]


@pytest.fixture
def images():
    """Random label maps with void; class 3 is never true, class 4 in neither truth nor prediction."""
    rng = np.random.default_rng(5)
    pairs = []
    for shape in SHAPES:
        truth = rng.choice([0, 1, 2, VOID], p=[0.5, 0.2, 0.2, 0.1], size=shape).astype(np.uint8)
        guess = rng.integers(0, 4, shape)
        pairs.append((truth, np.where((rng.random(shape) < 0.6) & (truth != VOID), truth, guess)))
    return pairs


def gathered(pairs, classes=CLASSES, **options):
    result = SegmentationMetrics(classes, **options)
    for truth, predicted in pairs:
        result.update(truth, predicted)
    return result


def valid_pixels(pairs):
    keep = [truth != VOID for truth, _ in pairs]
    return [np.concatenate([pair[side][k] for pair, k in zip(pairs, keep)]) for side in (0, 1)]


def test_counts_stay_exact_in_a_image_of_more_pixels_than_float32_counts():
    truth = np.ones((4099, 4099), np.uint8)
    truth[0, 0] = VOID
    predicted = np.ones_like(truth)
    result = gathered([(truth, predicted)], 2, boundaries=False)
    np.testing.assert_array_equal(result.matrix, [[0, 0], [0, 4099**2 - 1]])


def test_matrix_iou_dice_and_accuracy_equal_scikit_learn(images):
    result = gathered(images)
    truth, predicted = valid_pixels(images)
    labels = range(CLASSES)
    np.testing.assert_array_equal(result.matrix, sk.confusion_matrix(truth, predicted, labels=labels))
    assert result.matrix.dtype == np.int64
    iou = sk.jaccard_score(truth, predicted, labels=labels, average=None, zero_division=0)
    dice = sk.f1_score(truth, predicted, labels=labels, average=None, zero_division=0)
    np.testing.assert_allclose(result.iou()[:4], iou[:4], rtol=0, atol=1e-12)
    np.testing.assert_allclose(result.dice()[:4], dice[:4], rtol=0, atol=1e-12)
    assert result.mean_iou() == pytest.approx(iou[:4].mean(), abs=1e-12)
    assert result.mean_dice() == pytest.approx(dice[1:4].mean(), abs=1e-12)
    assert result.pixel_accuracy() == pytest.approx(sk.accuracy_score(truth, predicted), abs=1e-12)


def test_a_class_only_predicted_is_0_and_one_in_neither_is_nan(images):
    result = gathered(images)
    assert result.iou()[3] == result.dice()[3] == 0.0
    assert np.isnan(result.iou()[4])
    assert np.isnan(result.dice()[4])


def test_image_dice_is_the_score_of_the_competition(images, tmp_path):
    pairs = [(np.where(truth == VOID, 0, truth), predicted) for truth, predicted in images]
    pairs.append((np.zeros((6, 7), int), np.zeros((6, 7), int)))
    pairs.append((np.zeros((6, 7), int), np.ones((6, 7), int)))
    for side, name in enumerate(("truth", "predicted")):
        write_submission(tmp_path / name, range(len(pairs)), label_maps=[pair[side] for pair in pairs])
    score = score_submission(tmp_path / "predicted", tmp_path / "truth")
    np.testing.assert_allclose([image_scores(*pair) for pair in pairs], score.dice, rtol=0, atol=1e-12)
    assert gathered(pairs).image_dice() == pytest.approx(score.segmentation, abs=1e-12)


def test_image_figures_are_means_over_the_images(images):
    result = gathered(images)
    assert result.images == len(images)
    assert result.image_dice() == pytest.approx(np.mean([image_scores(*pair) for pair in images]))
    assert result.boundary_f1() == pytest.approx(np.mean([boundary_f1(*pair) for pair in images]))


def test_the_prediction_under_void_does_not_matter(images):
    changed = [(t, np.where(t == VOID, (p + 1) % CLASSES, p)) for t, p in images]
    a, b = gathered(images), gathered(changed)
    np.testing.assert_array_equal(a.matrix, b.matrix)
    assert a.image_dice() == b.image_dice()


def test_report_holds_plain_values_and_nan_before_the_first_image(images):
    report = gathered(images).report()
    assert set(report) == {
        "mean_iou", "mean_dice", "image_dice", "boundary_f1", "pixel_accuracy", "dice", "iou", "images",
    }  # fmt: skip
    for value in report.values():
        for item in value if isinstance(value, list) else [value]:
            assert type(item) in (float, int)
    assert np.isnan(gathered(images, boundaries=False).boundary_f1())
    empty = SegmentationMetrics(CLASSES).report()
    assert empty.pop("images") == 0
    assert all(np.isnan(value).all() for value in empty.values())


@pytest.mark.parametrize(
    ("truth", "predicted", "message"),
    [
        (np.zeros((3, 4), int), np.zeros((4, 3), int), r"truth \(3, 4\) and prediction \(4, 3\)"),
        (np.zeros(4, int), np.zeros(4, int), r"not \(H, W\)"),
        (np.full((2, 2), 5), np.zeros((2, 2), int), "truth holds label 5, allowed are 0 to 4 and 255"),
        (np.zeros((2, 2), int), np.full((2, 2), VOID), "prediction holds label 255, allowed are 0 to 4"),
        (np.full((2, 2), VOID), np.full((2, 2), 5), "prediction holds label 5"),
        (np.zeros((2, 2), int), np.full((2, 2), -1), "prediction holds label -1"),
        (np.zeros((2, 2), int), np.zeros((2, 2)), "prediction has type float64"),
    ],
)
def test_maps_that_cannot_be_scored_are_refused_and_add_nothing(truth, predicted, message):
    result = SegmentationMetrics(CLASSES)
    with pytest.raises(ValueError, match=message):
        result.update(truth, predicted)
    assert result.images == 0
    assert not result.matrix.any()


def plain_boundary_f1(truth, predicted, reach):
    """Boundary F1 without void by definition: all distances between all boundary pixels."""

    def boundary(labels, k):
        height, width = labels.shape
        return np.array([
            (y, x)
            for y, x in np.argwhere(labels == k)
            for v, u in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1))
            if 0 <= v < height and 0 <= u < width and labels[v, u] != k
        ])  # fmt: skip

    scores = []
    for k in sorted({*np.unique(truth), *np.unique(predicted)} - {0}):
        # a pixel with two other neighbours stands in the list twice
        a, b = (
            np.unique(edge, axis=0) if len(edge) else edge
            for edge in (boundary(truth, k), boundary(predicted, k))
        )
        if (truth == k).any() and (predicted == k).any() and not len(a) and not len(b):
            continue
        if not len(a) or not len(b):
            scores.append(0.0)
            continue
        near = np.sqrt(((a[:, None] - b[None]) ** 2).sum(-1)) <= reach
        recall, precision = near.any(1).mean(), near.any(0).mean()
        scores.append(2 * precision * recall / (precision + recall) if near.any() else 0.0)
    return np.mean(scores) if scores else np.nan


@settings(deadline=None, max_examples=80)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.06, 0.1, 0.2]))
def test_boundary_f1_equals_the_plain_definition(seed, tolerance):
    rng = np.random.default_rng(seed)
    height, width = rng.integers(2, 30, 2)
    maps = np.zeros((2, height, width), np.uint8)
    for labels in maps:
        for _ in range(rng.integers(0, 4)):
            y, x, radius = rng.integers(0, height), rng.integers(0, width), rng.integers(1, 12)
            rows, columns = np.ogrid[:height, :width]
            labels[(rows - y) ** 2 + (columns - x) ** 2 <= radius**2] = rng.integers(1, 4)
    reach = max(1.0, tolerance * np.hypot(height, width))
    expected = plain_boundary_f1(*maps, reach)
    with pytest.MonkeyPatch.context() as patched:  # at VOC's tolerance such small maps allow one pixel
        patched.setattr(segmentation, "_TOLERANCE", tolerance)
        assert boundary_f1(*maps) == pytest.approx(expected, abs=1e-12, nan_ok=True)


def square(low, high, size=200, label=1):
    labels = np.zeros((size, size), np.uint8)
    labels[low:high, low:high] = label
    return labels


def test_boundary_f1_allows_a_shift_within_the_tolerance_only():
    truth = square(60, 140)  # 0.0075 of the diagonal of 200 x 200 is 2.1 pixels
    assert boundary_f1(truth, truth) == 1.0
    assert boundary_f1(truth, np.roll(truth, 2, axis=1)) == 1.0
    assert boundary_f1(truth, np.roll(truth, 3, axis=1)) < 1.0


def test_the_tolerance_is_never_below_one_pixel():
    truth = square(5, 15, size=20)
    assert boundary_f1(truth, np.roll(truth, 1, axis=0)) == 1.0
    assert boundary_f1(truth, np.roll(truth, 2, axis=0)) < 1.0


def test_boundary_f1_of_classes_that_are_missing_or_without_boundary():
    truth, nothing, full = square(60, 140), square(0, 0), square(0, 200)
    assert boundary_f1(truth, nothing) == boundary_f1(nothing, truth) == 0.0
    assert boundary_f1(truth, truth * 2) == 0.0
    both = truth + square(10, 30, label=2)
    assert boundary_f1(both, truth) == 0.5
    assert np.isnan(boundary_f1(nothing, nothing))
    assert np.isnan(boundary_f1(full, full))
    assert boundary_f1(full, truth) == boundary_f1(full, nothing) == 0.0
    assert np.isnan(boundary_f1(np.full((9, 9), VOID), square(2, 5, size=9)))
    assert gathered([(truth, truth), (nothing, nothing)]).boundary_f1() == 1.0  # the mean is over the others


def test_a_boundary_anywhere_in_a_void_border_is_right():
    truth = square(140, 360, size=500)
    truth[truth == 0] = np.where(square(135, 365, size=500) == 1, VOID, 0)[truth == 0]
    for grow in range(6):  # from the inner to the outer edge of the border
        predicted = square(140 - grow, 360 + grow, size=500)
        assert boundary_f1(truth, predicted) == 1.0
        assert image_scores(truth, predicted) == 1.0
    assert boundary_f1(truth, square(128, 372, size=500)) < 0.1  # 7 pixels outside it, 10 from its middle


def test_what_is_predicted_deep_in_void_or_only_in_void_is_not_judged():
    truth = square(60, 140)
    truth[150:, :] = VOID
    predicted = np.where(truth == VOID, 0, truth)
    deep = predicted.copy()
    deep[170:190, 20:60] = 1
    assert boundary_f1(truth, predicted) == boundary_f1(truth, deep) == 1.0
    deep[151:190, 100:150] = 2
    assert boundary_f1(truth, deep) == 1.0


def test_the_random_baseline_has_the_frequencies_of_the_masks_and_a_seed(images):
    truth = [pair[0] for pair in images]
    frequency = metrics.pixel_frequency(iter(truth), CLASSES)
    valid = valid_pixels(images)[0]
    np.testing.assert_allclose(frequency, [(valid == k).mean() for k in range(CLASSES)], atol=1e-12)
    drawn = metrics.random_segmentation(frequency, (300, 400), np.random.default_rng(1))
    assert drawn.shape == (300, 400)
    assert drawn.dtype == np.uint8
    np.testing.assert_allclose(metrics.pixel_frequency([drawn], CLASSES), frequency, atol=0.005)
    again = metrics.random_segmentation(frequency, (300, 400), np.random.default_rng(1))
    np.testing.assert_array_equal(drawn, again)
