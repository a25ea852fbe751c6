"""The small inputs of ../shared/cases that were once misread: each is read right or refused."""

import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from voclab import cli, plotting
from voclab.data import SOURCES, VOC_CLASSES, VOID, find, folder, load


@pytest.fixture(scope="session")
def cases(shared, tmp_path_factory) -> Path:
    """Every case in a folder of its own."""
    if not (shared / "cases" / "make.py").is_file():
        pytest.skip(f"needs cases/make.py in {shared.name}/ beside the repository (or VOCLAB_SHARED)")
    target = tmp_path_factory.mktemp("cases")
    subprocess.run([sys.executable, shared / "cases" / "make.py", target], check=True, capture_output=True)
    return target


def opened(root: Path) -> tuple:
    """The training and the test images of what ``--data root`` would open."""
    found = find(root)
    return tuple(load(found.name, found.root, split) for split in ("train", SOURCES[found.name].test_split))


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
    image = folder.images(cases / "grey16").image(0)
    assert image.mean() == pytest.approx(127.5, abs=0.5)


def test_names(cases, capsys):
    train, _ = opened(cases / "names")
    assert set(train.class_names) == {"50$ and 5$ bill", "<b onmouseover=alert(1)>x", "a_1^2", "猫"}
    assert cli.main(["data", "info", "--data", str(cases / "names")]) == 0
    told = capsys.readouterr().out
    assert all(name in told for name in train.class_names)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of mathematics that is none, and of letters that no font has
        figure = plotting.class_frequency({"train": train.labels.mean(0)}, train.class_names)
        figure.canvas.draw()
    drawn = {label.get_text() for label in figure.axes[0].get_xticklabels()}
    assert {"50$ and 5$ bill", "<b onmouseover=alert(1)>x", "a_1^2"} <= drawn


def test_renamed(cases):
    sides = [opened(cases / "renamed" / side)[0] for side in "ab"]
    assert sides[0].class_names == sides[1].class_names == tuple(f"class_{k}" for k in "abcd")
    named = [
        {part.image(i).tobytes(): part.class_names[part.labels[i].argmax()] for i in range(len(part))}
        for part in sides
    ]
    # The same images bear the names in reverse order: to be right by position is to be wrong here.
    for image, name in named[0].items():
        assert named[1][image] == f"class_{'dcba'['abcd'.index(name[-1])]}"


def test_every_case_has_a_test(cases):
    tested = {name.removeprefix("test_").replace("_", "-") for name in globals() if name.startswith("test_")}
    assert {path.name for path in cases.iterdir()} <= tested


@pytest.fixture(scope="module")
def voc2009(shared):
    """Id -> (mask, names of the classes) of a real image."""
    whole = load("voc2009", shared / "voc2009", "trainval")
    place, labels = {name: i for i, name in enumerate(whole.ids)}, labels_by_id(whole)
    return lambda name: (whole.mask(place[name]), labels[name])


def check_read_as_voc2009(root, voc2009):
    parts = opened(root)
    assert [len(part) for part in parts] == [8, 4]
    for part in parts:
        assert part.class_names == VOC_CLASSES
        for i, (name, labels) in enumerate(labels_by_id(part).items()):
            mask, names = voc2009(name)
            np.testing.assert_array_equal(part.mask(i), mask)
            assert part.image(i).shape[:2] == mask.shape
            assert labels == names
    return parts


def test_cvat_export(cases, voc2009):
    train, _ = check_read_as_voc2009(cases / "cvat-export", voc2009)
    assert "labelmap.txt" in train.source


def test_resaved_masks(cases, voc2009):
    check_read_as_voc2009(cases / "resaved-masks", voc2009)


def test_own_classes(cases, voc2009):
    for part in opened(cases / "own-classes"):
        assert part.class_names == ("kettle", "lamp")
        for i, name in enumerate(part.ids):
            old, _ = voc2009(name)
            wanted = np.where((old > 0) & (old < 10), 1, np.where((old >= 10) & (old < 255), 2, 0))
            np.testing.assert_array_equal(part.mask(i), wanted)
            np.testing.assert_array_equal(part.labels[i], [(wanted == k).any() for k in (1, 2)])


def test_images_masks(cases, voc2009):
    train, val = opened(cases / "images-masks")
    assert len(train) + len(val) == 8
    assert not set(train.ids) & set(val.ids)
    assert "seeded split" in train.source
    assert "no label map names" in train.source
    for part in (train, val):
        numbers = np.array([0, *(int(name.removeprefix("class ")) for name in part.class_names)])
        for i, name in enumerate(part.ids):
            mask = part.mask(i)
            stored = np.where(mask == VOID, VOID, numbers[np.minimum(mask, len(numbers) - 1)])
            np.testing.assert_array_equal(stored, voc2009(name)[0])


def test_namespace(cases):
    for names in labels_by_id(*opened(cases / "namespace")).values():
        assert names == {"dog"}
