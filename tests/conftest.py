"""Shared fixtures."""

import gc
import os
import sys
from pathlib import Path

import numpy as np
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

from voclab.data.base import VOID, Dataset

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module", autouse=True)
def _left_behind():
    """Nothing of a file's tests is left for the next: no open figure, no garbage to look through.

    What a process imports and keeps is looked through by every later collection, which Keras asks for at each
    of its ``clear_session``: without the freezing that is an eighth of the time of all tests.
    """
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real images, weights and golden files beside the repository."""
    folder = Path(os.environ.get("VOCLAB_SHARED", ROOT.parent / "shared"))
    if not (folder / "voc2009").is_dir():
        pytest.skip(f"needs the real data in {folder.name}/ beside the repository (or VOCLAB_SHARED)")
    return folder


@pytest.fixture(scope="session")
def squares() -> Dataset:
    """48 images of coloured squares in memory: three classes, one to two an image, with masks."""
    return draw_squares()


def draw_squares() -> Dataset:
    """What the fixture gives, for another process."""
    rng = np.random.default_rng(0)
    colours = np.array([[220, 40, 40], [40, 200, 60], [50, 60, 230]])
    images, masks, labels = [], [], []
    for _ in range(48):
        image = rng.integers(90, 130, (48, 64, 3)).astype(np.uint8)
        mask = np.zeros((48, 64), np.uint8)
        row = np.zeros(3, np.uint8)
        for k in rng.permutation(3)[: rng.integers(1, 3)]:
            y, x = rng.integers(2, 28), rng.integers(2, 44)
            mask[y - 1 : y + 17, x - 1 : x + 17] = VOID
            mask[y : y + 16, x : x + 16] = k + 1
            image[y : y + 16, x : x + 16] = colours[k]
            row[k] = 1
        images.append(image)
        masks.append(mask)
        labels.append(row)
    return Dataset(
        name="squares",
        split="train",
        task="multilabel",
        ids=tuple(f"square_{k:02d}" for k in range(48)),
        class_names=("red", "green", "blue"),
        labels=np.stack(labels),
        read_image=lambda i: images[i],
        read_mask=lambda i: masks[i],
        source="squares drawn for the tests",
    )
