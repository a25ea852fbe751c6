"""Figures of masks: colours where they belong, legends that name what is shown, errors told apart."""

import warnings
from itertools import combinations

import numpy as np
import pytest
from matplotlib import pyplot as plt
from PIL import Image

from voclab import plotting
from voclab.data.base import VOC_CLASSES, VOID, voc_palette

RNG = np.random.default_rng(0)
SIZES = ((48, 64), (64, 40), (50, 50))
IMAGES = [RNG.integers(0, 256, (*size, 3)).astype(np.uint8) for size in SIZES]


def _mask(size, *labels):
    """Blocks of labels from left to right, void around each, background above and below."""
    mask = np.zeros(size, np.uint8)
    width = size[1] // len(labels)
    for k, label in enumerate(labels):
        mask[10:-10, k * width : (k + 1) * width] = VOID
        mask[12:-12, k * width + 2 : (k + 1) * width - 2] = label
    return mask


TRUTHS = [_mask(size, *labels) for size, labels in zip(SIZES, ((1, 15), (8,), (15, 20)))]
GUESSES = [np.where(mask == VOID, 0, np.roll(mask, 3, 0)).astype(np.uint8) for mask in TRUTHS]
GUESSES[1][GUESSES[1] == 8] = 12
NOTHING = [np.zeros(size, np.uint8) for size in SIZES]
BOXES = ((5, 25, 0, 30), (4, 40, 2, 30), (0, 8, 0, 50))  # in the last one there is background alone
DICE = {f"model {k}": RNG.random(20) for k in range(4)}
for values in DICE.values():
    values[4] = np.nan
DICE["model 0"][7] = np.nan
COUNTS = RNG.integers(0, 100, (21, 21))
COUNTS[5] = 0
LEVELS = [("64 channels\nstride 2", "64 channels"), ("128 channels\nstride 4", "128"), ("256, stride 8", "")]
CURVE = [{"epoch": 0, "dice": 0.0}] + [{"epoch": e, "loss": 1 / e, "dice": e / 9} for e in range(1, 9)]

# name -> (figure, panels with images, what the legend names)
MAKERS = {
    "segmentation_samples": (
        lambda: plotting.segmentation_samples(IMAGES, TRUTHS, VOC_CLASSES, 2),
        6,
        {"aeroplane", "cat", "person", "tvmonitor", "void"},
    ),
    "prediction_rows": (
        lambda: plotting.prediction_rows(
            [
                (title, IMAGES[k], TRUTHS[k], [("a", GUESSES[k], "Dice 0.83"), ("b", NOTHING[k], "Dice 0")])
                for k, title in enumerate(("best", "median", "worst"))
            ],
            VOC_CLASSES,
        ),
        12,
        {"aeroplane", "cat", "dog", "person", "tvmonitor", "void"},
    ),
    "error_maps": (
        lambda: plotting.error_maps(
            [(IMAGES[k], TRUTHS[k], GUESSES[k], "Dice 0.5") for k in range(2)], VOC_CLASSES
        ),
        8,
        {"aeroplane", "cat", "dog", "person", "void", *plotting.ERROR_KINDS[1:]},
    ),
    "edge_closeups": (
        lambda: plotting.edge_closeups(
            [(IMAGES[k], TRUTHS[k], [("a", GUESSES[k]), ("b", NOTHING[k])], BOXES[k]) for k in range(3)],
            VOC_CLASSES,
        ),
        15,
        {"aeroplane", "cat", "dog", "void"},
    ),
    "all background": (lambda: plotting.segmentation_samples(IMAGES, NOTHING, VOC_CLASSES, 4), 6, set()),
    "pixel_confusion": (lambda: plotting.pixel_confusion(COUNTS, VOC_CLASSES), 1, set()),
    "architecture": (
        lambda: plotting.architecture(LEVELS),
        0,
        {"trained from scratch", "skip connection"},
    ),
    "learning_curves": (
        lambda: plotting.learning_curves(
            {f"run {k}": CURVE for k in range(7)}, metric="dice", metric_label="Dice", loss_label="loss"
        ),
        0,
        {f"run {k}" for k in range(7)},
    ),
}


@pytest.mark.parametrize("name", MAKERS)
def test_figures_have_all_panels_and_name_what_they_show(name, tmp_path):
    make, images, named = MAKERS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = make()
        assert sum(bool(axis.images) for axis in figure.axes) == images
        if images > 1:
            assert all(axis.images for axis in figure.axes)
        texts = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
        assert sorted(texts) == sorted(named)
        plotting.save(figure, tmp_path / "x", title="A title", images=images > 1)


def test_overlay_paints_masks_in_voc_colours_over_a_background_that_can_be_made_out():
    image, mask = IMAGES[0], _mask((48, 64), 4)
    painted = plotting.overlay(image, mask)
    assert (painted.shape, painted.dtype) == (image.shape, np.uint8)
    palette = voc_palette()
    rgb = painted.astype(float)
    assert np.abs(rgb[mask == 4].mean(0) - palette[4]).max() < 75
    assert np.abs(rgb[mask == VOID].mean(0) - palette[VOID]).max() < 60
    np.testing.assert_array_equal(painted[12, 2:-2], np.tile(palette[4], (60, 1)))  # the region's edge
    assert np.corrcoef(image.mean(2)[:9].ravel(), rgb.mean(2)[:9].ravel())[0, 1] > 0.9


def test_error_kinds_are_told_apart():
    truth = np.array([[0, 0, 3, 3, 3, VOID, VOID, 20]], np.uint8)
    predicted = np.array([[0, 7, 0, 7, 3, 0, 3, 20]], np.uint8)
    kinds = plotting.error_kinds(truth, predicted)
    assert kinds.dtype == np.uint8
    assert kinds.tolist() == [[0, 2, 1, 3, 0, 4, 4, 0]]


def test_error_maps_leave_right_pixels_grey_and_paint_wrong_ones():
    truth, predicted = np.zeros((2, 40, 60), np.uint8)
    predicted[10:20, 10:20] = 5
    image = RNG.integers(0, 256, (40, 60, 3)).astype(np.uint8)
    figure = plotting.error_maps([(image, truth, predicted, "x")], VOC_CLASSES)
    errors = np.asarray(figure.axes[3].images[0].get_array()).astype(int)
    plt.close(figure)
    painted = np.ptp(errors, axis=2) > 60
    np.testing.assert_array_equal(painted, predicted > 0)
    assert np.ptp(errors[predicted == 0], axis=1).max() <= 1


def test_the_outline_of_close_ups_runs_along_pixels_of_objects():
    truth = np.zeros((20, 20), np.uint8)
    truth[5:10, 6:12] = 3
    truth[4, 6:12] = VOID
    figure = plotting.edge_closeups([(IMAGES[0][:20, :20], truth, [], (0, 20, 0, 20))], VOC_CLASSES)
    points = np.concatenate(figure.axes[2].collections[0].get_segments())
    plt.close(figure)
    assert points.min(0).tolist() == [5.5, 4.5]
    assert points.max(0).tolist() == [11.5, 9.5]


def test_regions_are_named_where_they_are_and_names_cover_no_other():
    mask = np.zeros((60, 80), np.uint8)
    mask[:50, :70], mask[10:16, 5:75] = 1, 20
    mask[58, 78], mask[20:22, 5:70] = 3, 6  # too small and too thin for a name
    mask[52:, 72:] = 12
    mask[:4] = VOID
    figure, axis = plt.subplots(figsize=(2.05, 1.54))
    axis.set_position((0, 0, 1, 1))
    axis.imshow(mask)
    plotting.name_regions(axis, mask, VOC_CLASSES)
    figure.draw_without_rendering()
    boxes = {text.get_text(): text.get_window_extent() for text in axis.texts}
    where = {text.get_text(): text.get_position() for text in axis.texts}
    plt.close(figure)
    assert list(where) == ["aeroplane", "tvmonitor", "dog"]  # by area
    for name, label in (("aeroplane", 1), ("tvmonitor", 20)):
        x, y = where[name]
        assert mask[round(y), round(x)] == label
    for box in boxes.values():
        assert (axis.bbox.min <= box.min).all()
        assert (box.max <= axis.bbox.max).all()
    for one, other in combinations(boxes.values(), 2):
        assert not one.overlaps(other)


def test_rare_colours_of_a_legend_survive_the_reduction_to_256(tmp_path):
    png = plotting.save(MAKERS["prediction_rows"][0](), tmp_path / "x", title="t", images=True)
    image = np.asarray(Image.open(png).convert("RGB")).reshape(-1, 3)
    shown = {tuple(colour) for colour in image.tolist()}
    assert {tuple(voc_palette()[k].tolist()) for k in (1, 8, 12, 15, 20, VOID)} | {(255, 255, 255)} <= shown


def test_classes_stand_in_the_order_that_is_asked_for_with_their_notes():
    notes = [f"{k} %" for k in range(20)]
    figure = plotting.per_class_scores(DICE, VOC_CLASSES, "Dice", order=[19, 4, 0], notes=notes)
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    texts = [text.get_text() for text in figure.axes[0].texts]
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    plt.close(figure)
    assert labels == ["tvmonitor (19 %)", "bottle (4 %)", "aeroplane (0 %)"]
    assert texts == ["does not occur"]
    means = {name: np.nanmean(np.take(values, [19, 4, 0])) for name, values in DICE.items()}
    assert legend == [f"{name} (mean {mean:.2f})" for name, mean in means.items()]


def test_confusion_of_pixels_is_normalised_by_row():
    figure = plotting.pixel_confusion(COUNTS, VOC_CLASSES)
    sums = np.asarray(figure.axes[0].images[0].get_array()).sum(1)
    plt.close(figure)
    assert sums[5] == 0
    np.testing.assert_allclose(np.delete(sums, 5), 100)
