"""Figures: files, nothing empty, series that can be told apart, titles in line."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from voclab import plotting

RNG = np.random.default_rng(0)
NAMES = ("aeroplane", "bicycle", "diningtable", "pottedplant")
IMAGES = [RNG.integers(0, 256, (30, 40, 3)).astype(np.uint8) for _ in range(6)]
HISTORY = [
    {"epoch": 0, "map": 0.1, "validation_loss": 0.7},
    {"epoch": 1, "map": 0.3, "loss": 0.6, "validation_loss": 0.5},
    {"epoch": 2, "map": 0.2, "loss": 0.4, "validation_loss": 0.6},
]
RELIABILITY = {"confidence": [0.1, 0.5, 0.8], "frequency": [0.2, 1.0, 0.7], "count": [90, 2, 40]}
MAKERS = {
    "image_grid": lambda: plotting.image_grid(IMAGES, [f"image {k}" for k in range(6)], 4),
    "class_frequency": lambda: plotting.class_frequency(
        {"train": RNG.random(4), "val": RNG.random(4)}, NAMES
    ),
    "learning_curves": lambda: plotting.learning_curves({"a": HISTORY, "b": HISTORY}, {"head": 0.4}),
    "per_class_scores": lambda: plotting.per_class_scores(
        {"a": RNG.random(4), "b": np.array([0.1, np.nan, 0.5, 1.0])}, NAMES, "AP"
    ),
    "confusion": lambda: plotting.confusion(RNG.random((4, 4)), NAMES, "said", "missed"),
    "reliability_diagram": lambda: plotting.reliability_diagram(
        {"a": {k: np.array(v) for k, v in RELIABILITY.items()}}, {"a": 0.1}
    ),
    "heat_maps": lambda: plotting.heat_maps(
        [(p, [("says x", RNG.random((30, 40)), "green")]) for p in IMAGES]
    ),
    "block_diagram": lambda: plotting.block_diagram({"net": [("pixels", False), ("stem", True)]}),
}


@pytest.mark.parametrize("name", MAKERS)
def test_every_figure_is_saved_with_what_it_shows(name, tmp_path):
    png = plotting.save(MAKERS[name](), tmp_path / f"01_{name}", title="A title")
    assert png == tmp_path / f"01_{name}.png"
    image = np.asarray(Image.open(png).convert("RGB"))
    assert min(image.shape[:2]) > 80
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 8  # not an empty canvas
    assert (tmp_path / f"01_{name}.svg").read_text().lstrip().startswith("<?xml")


def test_files_are_small_and_grids_of_images_have_no_vector_copy(tmp_path):
    images = plotting.save(MAKERS["image_grid"](), tmp_path / "images", title="t", images=True)
    chart = plotting.save(MAKERS["learning_curves"](), tmp_path / "chart", title="t")
    assert Image.open(images).mode == Image.open(chart).mode == "P"
    assert [path.name for path in tmp_path.glob("*.svg")] == ["chart.svg"]
    blue = 255 * np.array(plotting.look(0)["color"])
    assert np.abs(np.asarray(Image.open(chart).convert("RGB")) - blue).max(-1).min() < 8


def test_the_same_figure_gives_the_same_bytes(tmp_path):
    args = {"title": "t"}
    first, second = (plotting.save(MAKERS["learning_curves"](), tmp_path / n, **args) for n in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()
    assert first.with_suffix(".svg").read_bytes() == second.with_suffix(".svg").read_bytes()


def test_series_differ_and_can_be_seen_on_white():
    looks = [plotting.look(k) for k in range(10)]
    assert (
        len({(look["color"], look["marker"]) for look in looks})
        == len({look["color"] for look in looks})
        == 10
    )
    for look in looks:
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in look["color"]]
        assert 1.05 / (np.dot(linear, (0.2126, 0.7152, 0.0722)) + 0.05) > 2.2  # contrast as WCAG defines it


@pytest.mark.parametrize("count", [2, 4, 7])
def test_equal_scores_hide_no_dot(count):
    per_class = plotting.per_class_scores({f"n{k}": np.full(4, 0.5) for k in range(count)}, NAMES, "AP")
    conditions = pd.Series([0.9, 0.5, 0.5], ["clean", "noise", "blur"])
    under = plotting.condition_scores({f"n{k}": conditions for k in range(count)}, "right")
    for figure in (per_class, under):
        dots = [line.get_ydata() for line in figure.axes[0].lines if line.get_linestyle() == "None"]
        assert len({round(float(y[0]), 6) for y in dots}) == len(dots) == count
        assert np.ptp([y[0] for y in dots]) < 0.8  # none stands on a neighbour's line


def test_titles_of_a_row_stand_in_one_line_and_many_columns_are_no_wider():
    mixed = [np.zeros((60, 40, 3), np.uint8), np.zeros((30, 40, 3), np.uint8), *IMAGES]
    for columns in (2, 8):
        figure = plotting.image_grid(mixed, ["an image"] * 8, columns)
        figure.suptitle("A title")
        figure.draw_without_rendering()
        assert figure.get_figwidth() < 10.5
        heights = [axis.title.get_window_extent().y0 for axis in figure.axes[:columns]]
        assert max(heights) - min(heights) < 1
