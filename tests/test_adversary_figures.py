"""Figures of attacks: perturbations exact, every value where it belongs, no text upon another."""

import warnings
from itertools import combinations

import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex
from matplotlib.text import Text

from voclab import plotting
from voclab.data.base import VOC_CLASSES, VOID, voc_palette

RNG = np.random.default_rng(0)
CLEAN = [RNG.integers(0, 256, (*size, 3)).astype(np.uint8) for size in ((48, 64), (64, 40)) * 3]
PERTURBED = [np.clip(p + RNG.integers(-8, 9, p.shape), 0, 255).astype(np.uint8) for p in CLEAN]
BEFORE, AFTER = "person 0.97, dog 0.31", "diningtable 0.71, pottedplant 0.42, cat 0.1"
VERMILION = to_hex(plotting.COLOURS[3])
EPSILONS = [2.0, 4.0, 8.0, 16.0]
PANELS = {
    "classifier": {
        "noise of the same size": (EPSILONS, [0.0, 0.01, 0.02, 0.05]),
        "PGD": (EPSILONS, [0.5, 0.75, 1.0, 1.0]),
        "trained adversary": (EPSILONS, [0.25, 0.4, 0.8, 0.99]),
    },
    "segmenter": {"trained adversary": ([2.0, 8.0], [0.1, float("nan")]), "PGD": ([2.0, 8.0], [0.3, 0.6])},
}
YLABELS = {"classifier": "images fooled (%)", "segmenter": "Dice lost (%)"}
HISTORY = [{"epoch": 0, "fooled_2": 0.05, "fooled_8": 0.1, "fooled": 0.07}]
for e in range(1, 5):
    losses = {"perturbed_loss": 5 / e, "perturbation_loss": 0.1 * e}
    HISTORY.append({"epoch": e, **losses, "fooled_2": 0.1 * e, "fooled_8": 0.2 * e, "fooled": 0.15 * e})
CURVES = {
    name: [
        (33.6 + 0.2 * j + 0.1 * k, 0.9 - 0.06 * j - 0.02 * k, f"weight {w}") for j, w in enumerate((0, 1, 2))
    ]
    for k, name in enumerate(("against the classifier", "against the segmenter"))
} | {"PGD": [(34.0, 1.0, "8/255")], "noise": [(31.5, 0.0, "8/255"), (float("inf"), 0.0, "none")]}
MATRIX = np.array([[0.97, 0.1, np.nan], [0.0, 1.0, 0.5]])
NETWORKS = ("MobileNetV2, fine-tuned", "CNN from scratch", "U-Net on a frozen MobileNetV2")
SHARES = {
    "FGSM": {"as saved": 0.66, "JPEG, quality 50": 0.5, "half size and back": 0.1},
    "PGD, 20 steps": {"as saved": 1.0, "half size and back": 0.25},
    "trained adversary": {"as saved": 0.9, "blur, sigma 1": 0.3, "half size and back": float("nan")},
}
DEFENCE = {
    "as trained": {"FGSM": 0.664, "PGD, 20 steps": 1.0, "adversary trained on the defended victim": 0.0},
    "adversarially fine-tuned": {"FGSM": 0.2, "PGD, 20 steps": float("nan")},
}


def _mask(image, label):
    mask = np.zeros(image.shape[:2], np.uint8)
    mask[8:-8, 8:-8] = VOID
    mask[10:-10, 10:-10] = label
    return mask


BOUNDS = [2, 8]


def _triptychs(rows):
    found = []
    for k in range(rows):
        clean, perturbed = CLEAN[2 * k], PERTURBED[2 * k]
        half = ((clean.astype(int) + perturbed) // 2).astype(np.uint8)
        found.append(
            (
                (clean, BEFORE, False),
                {
                    "adversary": [(half, AFTER, False), (perturbed, AFTER, k % 2 == 0)],
                    "sign noise": [(perturbed, BEFORE, False), (half, BEFORE, False)],
                },
            )
        )
    return found


def _masks(rows, truth=True):
    return [
        (
            CLEAN[k],
            PERTURBED[k],
            _mask(CLEAN[k], 15) if truth and k != 1 else None,
            _mask(CLEAN[k], 12),
            _mask(CLEAN[k], k + 1),
            "Dice 0.83",
            f"Dice 0.12, {k} % of pixels flipped",
        )
        for k in range(rows)
    ]


def _photos(rows):
    said = (
        {"cat": 0.876, "dog": 0.3, "person": 0.02, "bird": 0.01},
        {"bird": 1, "dog": 0.4, "cow": 0.2, "cat": 0},
    )
    found = []
    for k in range(rows):
        before = plotting.Answered(CLEAN[k], _mask(CLEAN[k], 8), said[0], {"cat"})
        after = plotting.Answered(PERTURBED[k], _mask(CLEAN[k], 16), said[1], {"bird", "dog"})
        change = plotting.magnified(PERTURBED[k], CLEAN[k], 15)
        found.append((before, change, "at most 8 of 255\nPSNR 34 dB", after))
    return found


# name -> (figure, axes with images, what the legend names)
MAKERS = {
    "attack_triptychs, 3 rows": (lambda: plotting.attack_triptychs(_triptychs(3), BOUNDS, 16), 27, []),
    "attack_mask_rows, 6 rows": (
        lambda: plotting.attack_mask_rows(_masks(6), VOC_CLASSES, 16),
        36,
        [*VOC_CLASSES[:6], "dog", "person", "void"],
    ),
    "fooled_photos, 3 rows": (lambda: plotting.fooled_photos(_photos(3), VOC_CLASSES, 15), 15, []),
    "fooling_over_epsilon": (
        lambda: plotting.fooling_over_epsilon(PANELS, YLABELS),
        0,
        ["noise of the same size", "PGD", "trained adversary"],
    ),
    "adversary_curves": (lambda: plotting.adversary_curves(HISTORY), 0, ["at 2/255", "at 8/255"]),
    "trade_off": (lambda: plotting.trade_off(CURVES), 0, list(CURVES)),
    "transfer_matrix": (
        lambda: plotting.transfer_matrix(MATRIX, NETWORKS[:2], NETWORKS, "images fooled (%)"),
        1,
        [],
    ),
    "survival": (lambda: plotting.survival(SHARES, "images still fooled (%)"), 0, list(SHARES)),
    "defence": (lambda: plotting.defence(DEFENCE, "images fooled (%)"), 0, list(DEFENCE)),
}


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def _shown_texts(figure):
    """What is written and where, in pixels."""
    figure.draw_without_rendering()
    texts = []
    for text in figure.findobj(Text):
        box = text.get_window_extent()
        if text.get_visible() and text.get_text().strip() and figure.bbox.fully_overlaps(box):
            texts.append((" ".join(text.get_text().split()), box))
    return texts


@pytest.mark.parametrize("name", MAKERS)
def test_figures_have_all_panels_and_no_text_upon_another(name, tmp_path):
    make, images, named = MAKERS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = make()
        assert sum(bool(axis.images) for axis in figure.axes) == images
        assert all(axis.has_data() or axis.get_ylabel() for axis in figure.axes)
        assert [t.get_text() for legend in figure.legends for t in legend.get_texts()] == named
        figure.suptitle("A title", fontsize=12, fontweight="bold")
        texts = _shown_texts(figure)
        assert "A title" in [text for text, _ in texts]
        for (one, box), (other, second) in combinations(texts, 2):
            assert not box.padded(-0.5).overlaps(second), f"{one!r} is upon {other!r}"
        for legend in figure.legends:
            assert all(edge >= 0 for edge in legend.get_window_extent().min)
            assert all(legend.get_window_extent().max <= figure.bbox.max)
        plotting.save(figure, tmp_path / "x", title="A title", images=images > 1)


def test_magnified_is_exact_and_clips_without_wrapping():
    clean = np.array([[[0, 100, 250], [255, 8, 100]]], np.uint8)
    perturbed = np.array([[[8, 97, 242], [0, 9, 100]]], np.uint8)
    assert plotting.magnified(perturbed, clean, 16).tolist() == [[[255, 80, 0], [0, 144, 128]]]
    assert plotting.magnified(perturbed, clean, 0.5)[0, 0].tolist() == [132, 126, 124]


def test_triptychs_show_image_change_and_answers_at_each_bound():
    rows = _triptychs(2)
    figure = plotting.attack_triptychs(rows, BOUNDS, 8)
    titles = [axis.get_title() for axis in figure.axes if axis.get_title()]
    assert titles == ["image", *(t for e in (2, 8) for t in ("perturbation × 8", f"perturbed, {e}/255"))]
    lines = [figure.axes[k : k + 5] for k in range(0, 20, 5)]
    assert [line[0].get_ylabel() for line in lines] == ["adversary", "sign noise"] * 2
    for k, ((clean, answer, _), attacked) in enumerate(rows):
        first = lines[2 * k][0]
        np.testing.assert_array_equal(first.images[0].get_array(), clean)
        assert " ".join(first.get_xlabel().split()) == answer
        assert not lines[2 * k + 1][0].images
        for line, shown in zip(lines[2 * k : 2 * k + 2], attacked.values()):
            for (image, said, fooled), change, after in zip(shown, line[1::2], line[2::2]):
                np.testing.assert_array_equal(
                    change.images[0].get_array(), plotting.magnified(image, clean, 8)
                )
                np.testing.assert_array_equal(after.images[0].get_array(), image)
                word = "fooled" if fooled else "right"
                assert " ".join(after.get_xlabel().split()) == f"{word}: {said}"
                assert (to_hex(after.xaxis.label.get_color()) == VERMILION) == fooled


def test_photos_show_both_answers_with_the_first_one_kept():
    (row,) = _photos(1)
    figure = plotting.fooled_photos([row], VOC_CLASSES, 15)
    before, change, _, after = row
    photo, where, bars, attacked, now, bars_now, middle = figure.axes
    assert [axis.get_title() for axis in (photo, where, middle, attacked, now)] == [
        "photo", "where", "perturbation × 15", "attacked photo", "where",
    ]  # fmt: skip
    for axis, image in (
        (photo, before.image),
        (where, plotting.overlay(before.image, before.labels)),
        (attacked, after.image),
        (now, plotting.overlay(after.image, after.labels)),
        (middle, change),
    ):
        np.testing.assert_array_equal(axis.images[0].get_array(), image)
    assert [text.get_text() for text in middle.texts] == [row[2]]
    texts = [[(text.get_text(), text.get_fontweight()) for text in axis.texts] for axis in (bars, bars_now)]
    assert texts[0] == [
        *(("cat", "bold"), ("88 %", "bold")),
        *(("dog", "normal"), ("30 %", "normal")),
        *(("person", "normal"), ("2 %", "normal")),
    ]
    assert texts[1] == [
        *(("bird", "bold"), ("100 %", "bold")),
        *(("dog", "bold"), ("40 %", "bold")),
        *(("cat", "normal"), ("0 %", "normal")),  # not the cow: what was there before is more telling
    ]
    wide = [
        (bar.get_width(), to_hex(bar.get_facecolor())) for group in bars.containers[1::2] for bar in group
    ]
    assert wide == [
        (before.classes[name], to_hex(voc_palette()[1 + VOC_CLASSES.index(name)] / 255))
        for name in ("cat", "dog", "person")
    ]


def test_mask_rows_lay_the_masks_over_the_images_they_were_predicted_on():
    rows = _masks(2)
    figure = plotting.attack_mask_rows(rows, VOC_CLASSES, 4)
    clean, perturbed, truth, before, after, *texts = rows[0]
    wanted = (
        clean,
        plotting.magnified(perturbed, clean, 4),
        perturbed,
        plotting.overlay(clean, truth),
        plotting.overlay(clean, before),
        plotting.overlay(perturbed, after),
    )
    for axis, image in zip(figure.axes, wanted):
        np.testing.assert_array_equal(axis.images[0].get_array(), image)
    assert [" ".join(axis.get_xlabel().split()) for axis in figure.axes[4:6]] == texts
    assert [text.get_text() for text in figure.axes[6 + 3].texts] == ["not known"]
    written = [[text.get_text() for text in axis.texts] for axis in figure.axes[3:6]]
    assert written == [["person"], ["dog"], ["aeroplane"]]


def test_bounds_have_a_tick_each_and_values_are_percent():
    figure = plotting.fooling_over_epsilon(PANELS, YLABELS)
    first, second = figure.axes
    assert [t.get_text() for t in first.get_xticklabels()] == ["2", "4", "8", "16"]
    assert first.get_xticks().tolist() == EPSILONS
    assert [t.get_text() for t in second.get_xticklabels()] == ["2", "8"]
    at = first.transData.transform([(e, 0) for e in EPSILONS])[:, 0]
    np.testing.assert_allclose(np.diff(at), np.diff(at)[0])  # doublings are equally far apart
    assert first.lines[1].get_ydata().tolist() == [50, 75, 100, 100]
    assert second.get_ylim() == first.get_ylim()


def test_adversary_curves_skip_what_epoch_0_has_not():
    figure = plotting.adversary_curves(HISTORY)
    fooling, penalty, fooled = figure.axes
    for axis, key in ((fooling, "perturbed_loss"), (penalty, "perturbation_loss")):
        (line,) = axis.lines
        assert line.get_xdata().tolist() == [1, 2, 3, 4]
        assert line.get_ydata().tolist() == [e[key] for e in HISTORY[1:]]
    assert [line.get_label() for line in fooled.lines] == ["at 2/255", "at 8/255"]  # not their mean
    np.testing.assert_allclose(fooled.lines[1].get_ydata(), [10, 20, 40, 60, 80])


def test_trade_off_labels_every_point_near_it_and_joins_those_of_a_name():
    figure = plotting.trade_off(CURVES)
    axis = figure.axes[0]
    points = [p for curve in CURVES.values() for p in curve if np.isfinite(p[0])]
    assert len(axis.texts) == len(points)
    figure.draw_without_rendering()
    for (psnr, share, text), note in zip(points, axis.texts):
        point, box = axis.transData.transform((psnr, 100 * share)), note.get_window_extent()
        assert note.get_text() == text
        away = np.maximum(0, np.maximum(box.min - point, point - box.max))
        assert 0 < np.hypot(*away) < 30
        assert axis.bbox.contains(*box.min)
        assert axis.bbox.contains(*box.max)
    assert [line.get_linestyle() for line in axis.lines] == ["-", "-", "None", "None"]


def test_transfer_writes_every_cell_in_a_colour_that_can_be_read():
    figure = plotting.transfer_matrix(MATRIX, NETWORKS[:2], NETWORKS, "images fooled (%)")
    axis = figure.axes[0]
    cells = {text.get_position(): text for text in axis.texts}
    written = [[cells[(j, i)].get_text() for j in range(3)] for i in range(2)]
    assert written == [["97", "10", "–"], ["0", "100", "50"]]
    image = axis.images[0]
    drawn = image.to_rgba(image.get_array())
    for i, j in np.ndindex(2, 3):
        dark = np.dot(drawn[i, j, :3], (0.299, 0.587, 0.114)) < 0.5
        assert cells[(j, i)].get_color() == ("white" if dark else "black")
    names = [" ".join(text.get_text().split()) for text in axis.get_yticklabels() + axis.get_xticklabels()]
    assert names == [*NETWORKS[:2], *NETWORKS]


def test_survival_puts_each_dot_on_the_band_of_its_handling():
    figure = plotting.survival(SHARES, "images still fooled (%)")
    axis = figure.axes[0]
    handlings = [text.get_text() for text in axis.get_yticklabels()]
    assert handlings == ["as saved", "JPEG, quality 50", "half size and back", "blur, sigma 1"]
    low, high = axis.get_ylim()
    assert low > high  # the first is at the top
    for line, values in zip(axis.lines, SHARES.values()):
        assert [handlings[int(y)] for y in np.rint(line.get_ydata())] == list(values)
        np.testing.assert_allclose(line.get_xdata(), [100 * share for share in values.values()])
    first = {round(float(line.get_ydata()[0]), 6) for line in axis.lines}
    assert len(first) == 3  # equal shares do not hide each other


def test_defence_writes_values_above_the_bars_and_marks_gaps():
    figure = plotting.defence(DEFENCE, "images fooled (%)")
    axis = figure.axes[0]
    attacks = [" ".join(text.get_text().split()) for text in axis.get_xticklabels()]
    assert attacks == list(DEFENCE["as trained"])
    assert [note.get_text() for note in axis.texts] == ["66", "100", "0", "20", "–", "–"]
    for bar, note in zip(axis.patches, axis.texts):
        x, y = note.xy
        assert x == pytest.approx(bar.get_x() + bar.get_width() / 2)
        assert y == pytest.approx(np.nan_to_num(bar.get_height()))
