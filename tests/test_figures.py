"""Figures: files, sidecars, nothing empty, nothing that needs a screen."""

import json

import numpy as np
import pytest
from PIL import Image

from voclab import figures

RNG = np.random.default_rng(0)
NAMES = ("aeroplane", "bicycle", "diningtable", "pottedplant")
PHOTOS = [RNG.integers(0, 256, (30, 40, 3)).astype(np.uint8) for _ in range(6)]
HISTORY = [
    {"epoch": 0, "map": 0.1, "validation_loss": 0.7},
    {"epoch": 1, "map": 0.3, "loss": 0.6, "validation_loss": 0.5},
    {"epoch": 2, "map": 0.2, "loss": 0.4, "validation_loss": 0.6},
]
RELIABILITY = {"confidence": [0.1, 0.5, 0.8], "frequency": [0.2, 1.0, 0.7], "count": [90, 2, 40]}
MAKERS = {
    "image_grid": lambda: figures.image_grid(PHOTOS, [f"photo {k}" for k in range(6)], 4),
    "class_frequency": lambda: figures.class_frequency({"train": RNG.random(4), "val": RNG.random(4)}, NAMES),
    "learning_curves": lambda: figures.learning_curves({"a": HISTORY, "b": HISTORY}, {"head": 0.4}),
    "per_class_scores": lambda: figures.per_class_scores(
        {"a": RNG.random(4), "b": np.array([0.1, np.nan, 0.5, 1.0])}, NAMES, "AP"
    ),
    "confusion": lambda: figures.confusion(RNG.random((4, 4)), NAMES, "said", "missed"),
    "reliability_diagram": lambda: figures.reliability_diagram(
        {"a": {k: np.array(v) for k, v in RELIABILITY.items()}}, {"a": 0.1}
    ),
    "heat_maps": lambda: figures.heat_maps(
        [(p, [("says x", RNG.random((30, 40)), "green")]) for p in PHOTOS]
    ),
    "block_diagram": lambda: figures.block_diagram({"net": [("pixels", False), ("stem", True)]}),
}


@pytest.mark.parametrize("name", MAKERS)
def test_every_figure_is_saved_with_what_it_shows(name, tmp_path):
    png = figures.save(
        MAKERS[name](), tmp_path / f"01_{name}", title="A title", caption="What to see.", alt="A picture"
    )
    assert png == tmp_path / f"01_{name}.png"
    picture = np.asarray(Image.open(png).convert("RGB"))
    assert min(picture.shape[:2]) > 80
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 8  # not an empty canvas
    assert json.loads((tmp_path / f"01_{name}.json").read_text())["caption"] == "What to see."
    assert (tmp_path / f"01_{name}.svg").read_text().lstrip().startswith("<?xml")


def test_photos_are_small_files_without_a_vector_copy(tmp_path):
    args = {"title": "t", "caption": "c", "alt": "a"}
    plain = figures.save(MAKERS["image_grid"](), tmp_path / "plain", **args)
    photos = figures.save(MAKERS["image_grid"](), tmp_path / "photos", **args, photos=True)
    assert Image.open(photos).mode == "P"
    assert photos.stat().st_size < plain.stat().st_size
    assert not (tmp_path / "photos.svg").exists()


def test_the_same_figure_gives_the_same_bytes(tmp_path):
    args = {"title": "t", "caption": "c", "alt": "a"}
    first, second = (figures.save(MAKERS["learning_curves"](), tmp_path / n, **args) for n in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()
    assert first.with_suffix(".svg").read_bytes() == second.with_suffix(".svg").read_bytes()


def test_all_panels_of_a_grid_show_their_picture():
    figure = MAKERS["image_grid"]()
    shown = [len(axis.images) for axis in figure.axes]
    assert shown == [1] * 6 + [0] * 2
