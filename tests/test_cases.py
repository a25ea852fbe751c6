"""The small inputs of ../shared/cases that were once misread: each is read right or refused."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from voclab import datasets
from voclab.datasets import folder

# Where else a case is tested; the others are tested here.
ELSEWHERE = {"names", "renamed"}


@pytest.fixture(scope="session")
def cases(shared, tmp_path_factory) -> Path:
    """Every case in a folder of its own."""
    if not (shared / "cases" / "make.py").is_file():
        pytest.skip(f"needs cases/make.py in {shared.name}/ beside the repository (or VOCLAB_SHARED)")
    target = tmp_path_factory.mktemp("cases")
    subprocess.run([sys.executable, shared / "cases" / "make.py", target], check=True, capture_output=True)
    return target


def opened(root: Path) -> tuple:
    """The training and the held-out images of what ``--data root`` would open."""
    found = datasets.find(root)
    return tuple(
        datasets.load(found.name, found.root, split)
        for split in ("train", datasets.heldout_split(found.name))
    )


def labels_by_id(*parts) -> dict[str, set[str]]:
    """Image -> the names of its classes."""
    return {
        name: {part.class_names[k] for k in np.flatnonzero(row)}
        for part in parts
        for name, row in zip(part.ids, part.labels, strict=True)
    }


def test_training_testing(cases):
    train, val = opened(cases / "training-testing")
    assert train.class_names == val.class_names == ("cat", "dog", "owl")
    assert train.labels.sum(0).tolist() == val.labels.sum(0).tolist() == [6, 6, 6]
    assert "Training is train, Testing is val" in train.source


def test_checkpoints(cases):
    train, val = opened(cases / "checkpoints")
    assert (len(train), len(val)) == (16, 4)
    assert not any("checkpoint" in name for name in train.ids + val.ids)


def test_jfif(cases):
    train, val = opened(cases / "jfif")
    assert train.class_names == ("cat", "dog", "owl")
    assert (train.labels.sum(0) + val.labels.sum(0)).tolist() == [6, 6, 6]
    assert train.image(len(train) - 1).shape == (40, 48, 3)


def test_grey16(cases):
    image = folder.pictures(cases / "grey16").image(0)
    assert image.mean() == pytest.approx(127.5, abs=0.5)


def test_every_case_has_a_test(cases):
    tested = {name.removeprefix("test_").replace("_", "-") for name in globals() if name.startswith("test_")}
    assert {path.name for path in cases.iterdir()} <= tested | ELSEWHERE | PENDING


# Taken off this list as they are tested.
PENDING = {
    "cvat-export", "own-classes", "resaved-masks", "images-masks", "namespace",
}  # fmt: skip
