"""People's own pictures, a sub-folder a class."""

import numpy as np
import pytest
from PIL import Image
from voc_trees import fails

from voclab import datasets
from voclab.datasets import folder


def picture(path, colour, mode="RGB", size=(20, 12), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path, **options)


@pytest.fixture
def pets(tmp_path):
    """Seven cats, three dogs and a fish, with other files among them."""
    for k in range(7):
        picture(tmp_path / "pets" / "cat" / f"{k}.png", (k, 0, 0))
    for k in range(3):
        picture(tmp_path / "pets" / "dog" / "deep" / f"{k}.JPG", (0, 200, 0))
    picture(tmp_path / "pets" / "fish" / "one.webp", (0, 0, 200))
    (tmp_path / "pets" / "empty").mkdir()
    (tmp_path / "pets" / ".hidden").mkdir()
    picture(tmp_path / "pets" / ".hidden" / "a.png", 0, "L")
    (tmp_path / "pets" / "cat" / "notes.txt").write_text("no picture")
    return tmp_path / "pets"


def test_a_fifth_of_each_class_is_held_out(pets):
    train, val = (datasets.load("folder", pets, split) for split in ("train", "val"))
    assert train.class_names == val.class_names == ("cat", "dog", "fish")
    assert val.ids == ("cat/4.png", "dog/deep/2.JPG")
    assert train.labels.sum(0).tolist() == [6, 2, 1]
    assert val.labels.sum(0).tolist() == [1, 1, 0]
    assert not set(train.ids) & set(val.ids)
    assert train.task == "multiclass"
    assert val.image(0).tolist() == np.full((12, 20, 3), [4, 0, 0]).tolist()
    assert val.image(0).dtype == np.uint8


def test_folders_for_training_and_validation_are_taken_as_they_are(tmp_path):
    for name, n in (("train/b", 2), ("train/a", 3), ("val/a", 1), ("val/b", 2)):
        for k in range(n):
            picture(tmp_path / name / f"{k}.png", (10 * k, 0, 0))
    train, val = (folder.read(tmp_path, split) for split in ("train", "val"))
    assert (train.class_names, len(train), len(val)) == (("a", "b"), 5, 3)
    assert val.ids == ("a/0.png", "b/0.png", "b/1.png")
    picture(tmp_path / "val" / "c" / "0.png", 0, "L")
    fails("class 'c'.*lacks", folder.read, tmp_path, "val")
    (tmp_path / "val").rename(tmp_path / "other")
    fails("no val or test beside it", folder.read, tmp_path, "val")
    (tmp_path / "other").rename(tmp_path / "test")
    (tmp_path / "test" / "c").rename(tmp_path / "test" / "a" / "more")
    assert len(folder.read(tmp_path, "val")) == 4


def test_it_is_found_by_its_path(pets, tmp_path):
    places = {"base": tmp_path / "data", "kaggle_input": tmp_path / "none"}
    found = datasets.find(pets, **places)
    assert (found.name, found.root) == ("folder", pets)
    assert datasets.heldout_split("folder") == "val"
    fails("named by its path", datasets.find, "folder", **places)
    fails("neither one of", datasets.find, pets / "cat", **places)


def test_what_is_no_data_set_is_one_sentence(pets, tmp_path):
    fails("no split 'test'", folder.read, pets, "test")
    fails("pictures of 0 classes", folder.read, pets / "cat", "train")
    picture(tmp_path / "lone" / "cat" / "0.png", 0, "L")
    fails("pictures of 1 classes", folder.read, tmp_path / "lone", "train")
    picture(tmp_path / "lone" / "dog" / "0.png", 0, "L")
    fails("no pictures for val", folder.read, tmp_path / "lone", "val")


def test_pictures_of_every_kind(tmp_path):
    picture(tmp_path / "grey.png", 77, "L")
    assert folder.decode(tmp_path / "grey.png")[0, 0].tolist() == [77, 77, 77]
    picture(tmp_path / "clear.png", (200, 0, 0, 0), "RGBA")
    assert folder.decode(tmp_path / "clear.png")[0, 0].tolist() == [255, 255, 255]
    picture(tmp_path / "half.png", (200, 0, 0, 255), "RGBA")
    assert folder.decode(tmp_path / "half.png")[0, 0].tolist() == [200, 0, 0]
    picture(tmp_path / "palette.gif", 3, "P")
    picture(tmp_path / "print.jpg", (0, 255, 255, 0), "CMYK")
    picture(tmp_path / "black.bmp", 1, "1")
    for name in ("palette.gif", "print.jpg", "black.bmp"):
        found = folder.decode(tmp_path / name)
        assert (found.shape, found.dtype) == ((12, 20, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # a camera held upright
    picture(tmp_path / "turned.jpg", (9, 9, 9), exif=exif)
    assert folder.decode(tmp_path / "turned.jpg").shape == (20, 12, 3)


def test_a_damaged_picture_is_one_sentence(pets):
    fails("gone.png is missing", folder.decode, pets / "gone.png")
    (pets / "cat" / "4.png").write_bytes((pets / "cat" / "5.png").read_bytes()[:40])
    fails("4.png is a damaged picture", datasets.load("folder", pets, "val").image, 0)
    (pets / "cat" / "4.png").write_text("hello")
    fails("4.png is a damaged picture", datasets.load("folder", pets, "val").image, 0)
