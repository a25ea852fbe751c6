"""People's own images, a sub-folder a class."""

import os
import unicodedata

import numpy as np
import pytest
from PIL import Image
from voc_trees import fails

from voclab.data import find, folder, load


def image(path, colour, mode="RGB", size=(20, 12), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path, **options)


@pytest.fixture
def pets(tmp_path):
    """Seven cats, three dogs and a fish, with other files among them."""
    for k in range(7):
        image(tmp_path / "pets" / "cat" / f"{k}.png", (k, 0, 0))
    for k in range(3):
        image(tmp_path / "pets" / "dog" / "deep" / f"{k}.JPG", (0, 200, 0))
    image(tmp_path / "pets" / "fish" / "one.webp", (0, 0, 200))
    (tmp_path / "pets" / "empty").mkdir()
    (tmp_path / "pets" / ".hidden").mkdir()
    image(tmp_path / "pets" / ".hidden" / "a.png", 0, "L")
    (tmp_path / "pets" / "cat" / "notes.txt").write_text("no image")
    return tmp_path / "pets"


def test_a_fifth_of_each_class_is_held_out(pets):
    train, val = (load("folder", pets, split) for split in ("train", "val"))
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
            image(tmp_path / name / f"{k}.png", (10 * k, 0, 0))
    train, val = (folder.read(tmp_path, split) for split in ("train", "val"))
    assert (train.class_names, len(train), len(val)) == (("a", "b"), 5, 3)
    assert val.ids == ("a/0.png", "b/0.png", "b/1.png")
    image(tmp_path / "val" / "c" / "0.png", 0, "L")
    fails("class 'c'.*lacks", folder.read, tmp_path, "val")
    (tmp_path / "val").rename(tmp_path / "other")
    fails("no val or test beside it", folder.read, tmp_path, "val")
    (tmp_path / "other").rename(tmp_path / "test")
    (tmp_path / "test" / "c").rename(tmp_path / "test" / "a" / "more")
    assert len(folder.read(tmp_path, "val")) == 4


def test_what_is_no_data_set_is_one_sentence(pets, tmp_path):
    fails("no split 'test'", folder.read, pets, "test")
    fails("images of 0 classes", folder.read, pets / "cat", "train")
    fails("cat is no folder with", find, pets / "cat")
    fails("folder is a layout, not a data set; name the folder", find, "folder", base=tmp_path)
    image(tmp_path / "lone" / "cat" / "0.png", 0, "L")
    fails("images of 1 classes", folder.read, tmp_path / "lone", "train")
    image(tmp_path / "lone" / "dog" / "0.png", 0, "L")
    fails("no images for val", folder.read, tmp_path / "lone", "val")


# --- splits ---


def spread(root, *folders, images=5):
    """A few images in each folder, all different."""
    for name in folders:
        for k in range(images):
            image(root / name / f"{k}.png", (7 * k, len(name), 0))
    return root


@pytest.mark.parametrize(
    ("train", "held"),
    [
        ("train", "val"),
        ("Train", "Test"),
        ("Training", "Testing"),
        ("training", "validation"),
        ("TrainingSet", "TestSet"),
        ("train", "dev"),
        ("train2017", "val2017"),
        ("asl_alphabet_train", "asl_alphabet_test"),
        ("seg_train/seg_train", "seg_test/seg_test"),
        ("archive/data/Training", "archive/data/Testing"),
    ],
)
def test_folders_of_splits_under_the_names_people_use(tmp_path, train, held):
    spread(tmp_path, f"{train}/cat", f"{train}/owl", f"{held}/cat", f"{held}/owl", images=2)
    (tmp_path / "__MACOSX" / "train").mkdir(parents=True)
    assert find(tmp_path).name == "folder"
    for split, name in (("train", train), ("val", held)):
        data = folder.read(tmp_path, split)
        assert data.class_names == ("cat", "owl")
        assert data.ids == ("cat/0.png", "cat/1.png", "owl/0.png", "owl/1.png")
        assert f"4 images in {tmp_path / name}, " in data.source
        for role, part in (("train", train), ("val", held)):
            assert f"{part.split('data/')[-1]} is {role}" in data.source


def test_of_three_splits_it_is_said_which_is_measured(tmp_path):
    spread(tmp_path, *(f"{part}/{name}" for part in ("train", "valid", "test") for name in ("cat", "owl")))
    image(tmp_path / "test/owl/more.png", (0, 0, 0))
    assert [len(folder.read(tmp_path, split)) for split in ("train", "val", "test")] == [10, 10, 11]
    source = folder.read(tmp_path, "train").source
    assert "train is train, valid is val, which is measured on, test is test, which is read by that" in source
    fails("no split 'dev'; choose train, val or test", folder.read, tmp_path, "dev")


def test_folders_beside_the_splits_are_left_out_and_said(tmp_path):
    spread(tmp_path, "seg_train/seg_train/sea", "seg_train/seg_train/ice", "seg_test/seg_test/sea")
    spread(tmp_path, "seg_pred/seg_pred", "seg_train/seg_train", images=3)
    train, val = (folder.read(tmp_path, split) for split in ("train", "val"))
    assert (train.class_names, len(train), len(val)) == (("ice", "sea"), 10, 5)
    assert "3 images in seg_pred not used" in train.source
    assert "left out: 3 images beside the class folders" in train.source


def test_an_unlabelled_test_folder_is_not_measured_on(tmp_path):
    spread(tmp_path, "train/cat", "train/owl", "test")
    assert len(folder.read(tmp_path, "train")) == 10
    words = r"train but no val or test beside it that holds class folders; add one of them, or name .*train"
    fails(words, folder.read, tmp_path, "val")
    spread(tmp_path, "val/cat")
    assert folder.read(tmp_path, "val").ids[0] == "cat/0.png"
    assert "5 images in test not used" in folder.read(tmp_path, "val").source


def test_train_may_be_a_class(tmp_path):
    data = folder.read(spread(tmp_path / "a", "bus", "car", "train"), "train")
    assert data.class_names == ("bus", "car", "train")
    assert folder.recognise(spread(tmp_path / "other", "blood test", "skin test"))
    spread(tmp_path / "a", "train/more")
    assert len(folder.read(tmp_path / "a", "train")) + len(folder.read(tmp_path / "a", "val")) == 20
    spread(tmp_path / "a", "train/steam")
    fails("train but no val or test beside it.*and also bus", folder.read, tmp_path / "a", "train")


@pytest.mark.parametrize(
    ("folders", "words"),
    [
        (["train", "test"], "(train and test|test and train), by name a split.*sort the images"),
        (["cat", "dog", "test"], "holds test, by name a split.*or rename"),
        (["test/cat", "test/owl", "val/cat"], "by name a split, but no folder train"),
        (["train/a", "train/b", "Training/a", "Training/b", "test/a"], "two folders of a train split"),
        (["train/a", "train/b", "dev/a", "eval/a"], "two folders of a val split, dev and eval"),
        (["cat/train", "cat/test", "owl/train", "owl/test"], "the splits inside the classes .cat/train"),
        (["fold1/a", "fold1/b", "fold2/a", "fold2/b"], "fold1 and fold2, which both hold a and b"),
        (
            ["Trainingsdaten/a", "Trainingsdaten/b", "Testdaten/a", "Testdaten/b"],
            "either could be the classes",
        ),
        (["train/a", "train/b", "train/val/a", "test/a"], "val is by name a split inside"),
        (["images", "masks"], "images and masks, which are no classes"),
        (["train/Images", "train/Labels", "test/Images"], "Images and Labels, which are no classes"),
    ],
)
def test_what_has_several_readings_is_refused(tmp_path, folders, words):
    spread(tmp_path, *folders)
    for split in ("train", "val"):
        fails(words, folder.read, tmp_path, split)


# --- what is in the folders ---

LITTER = (
    ".DS_Store", "._0.png", "Thumbs.db", "desktop.ini", ".ipynb_checkpoints/0-checkpoint.png", ".git/a.png",
    "__MACOSX/cat/._0.png", "@eaDir/0.png/SYNOPHOTO.jpg", "$RECYCLE.BIN/0.png", ".thumbnails/0.png",
)  # fmt: skip


def test_images_are_known_by_what_they_hold(tmp_path):
    spread(tmp_path, "cat", "owl")
    for k, name in enumerate(("0001", "2.heic", "4.png?w=300", "5.jfif")):
        (tmp_path / "owl" / f"{k}.png").unlink()
        image(tmp_path / "owl" / name, (10 * k, 0, 0), format="PNG")
    train = folder.read(tmp_path, "train")
    assert sum(name.startswith("owl") for name in train.ids) == 4
    assert train.image(len(train) - 1).shape == (12, 20, 3)
    assert "left out" not in train.source


def test_what_is_no_image_is_counted_and_said(tmp_path):
    spread(tmp_path, "cat", "owl")
    for name in ("a.txt", "b.TXT", "notes", "image.heic", "0.jpg.bak", "0.png~"):
        (tmp_path / "cat" / name).write_bytes((tmp_path / "cat/0.png").read_bytes() if "0" in name else b"x")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "cat.csv").write_text("0")
    for name in LITTER:
        image(tmp_path / "cat/deep" / name, (0, 0, 0), format="PNG")
    source = folder.read(tmp_path, "train").source
    assert "1 sub-folder without images (labels), 7 files that cannot be read as an image" in source
    assert "(.bak, .csv, .heic, .png~, .txt, …)" in source
    assert len(folder.read(tmp_path, "train")) == 8
    fails("holds no images", folder.images, tmp_path)


def test_a_class_of_unreadable_images_is_not_dropped(tmp_path):
    spread(tmp_path, "cat", "owl")
    (tmp_path / "fox").mkdir()
    (tmp_path / "fox" / "a.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    fails(
        r"fox holds only images that cannot be read \(.heic\); save them as JPEG",
        folder.read,
        tmp_path,
        "train",
    )
    fails("fox holds only images", find, tmp_path)


def test_links_lead_nowhere_twice(tmp_path):
    spread(tmp_path / "real", "cat", "owl")
    root = tmp_path / "data"
    root.mkdir()
    (root / "cat").symlink_to(tmp_path / "real/cat")
    (root / "round").symlink_to(root)
    spread(root, "owl")
    (root / "owl/up").symlink_to(root)
    (root / "owl/5.png").symlink_to(root / "owl/0.png")
    (root / "owl/lost.png").symlink_to(root / "gone.png")
    (root / "owl/self.png").symlink_to(root / "owl/self.png")
    train, val = (folder.read(root, split) for split in ("train", "val"))
    assert len(train) + len(val) == 11
    assert train.class_names == ("cat", "owl")
    assert "3 files that cannot be read as an image (link)" in train.source
    (root / "kitten").symlink_to(root / "cat")
    fails("kitten and .*cat are the same class.*or the same folder", folder.read, root, "train")


def test_a_folder_that_cannot_be_listed_is_one_sentence(tmp_path, monkeypatch):
    spread(tmp_path, "cat", "owl")
    walk = os.walk

    def denied(top, *given, onerror=None, **options):
        if onerror and os.path.basename(top) == "owl":
            onerror(PermissionError(13, "Permission denied", str(top)))
        return walk(top, *given, onerror=onerror, **options)

    monkeypatch.setattr(os, "walk", denied)
    fails(r"owl cannot be listed \(Permission denied\)", folder.read, tmp_path, "train")
    fails("gone is no folder", folder.read, tmp_path / "gone", "train")


# --- names ---


def test_names_of_classes_are_compared_as_text(tmp_path):
    name = "Käse"
    for part, form in (("train", "NFD"), ("val", "NFC")):
        spread(tmp_path / "splits" / part, unicodedata.normalize(form, name), "Öl")
    train, val = (folder.read(tmp_path / "splits", split) for split in ("train", "val"))
    assert train.class_names == val.class_names == ("Käse", "Öl")
    assert len(val) == 10
    spread(tmp_path / "both", unicodedata.normalize("NFD", name), name, "Öl")
    fails("are the same class by their names", folder.read, tmp_path / "both", "train")
    spread(tmp_path / "space", "cat", "cat ", "owl")
    fails("are the same class by their names", folder.read, tmp_path / "space", "train")


def test_classes_that_differ_in_case(tmp_path):
    spread(tmp_path / "splits", "train/Cat", "train/owl", "test/cat", "test/OWL")
    val = folder.read(tmp_path / "splits", "val")
    assert (val.class_names, len(val)) == (("Cat", "owl"), 10)
    letters = folder.read(spread(tmp_path / "letters", "A", "a", "b"), "train")
    assert letters.class_names == ("A", "a", "b")
    spread(tmp_path / "unclear", "train/A", "train/a", "train/b", "test/a")
    assert folder.read(tmp_path / "unclear", "val").labels.argmax(1).tolist() == [1] * 5
    spread(tmp_path / "more", "train/cat", "train/owl", "test/cat", "test/Cat")
    fails("has the class 'Cat', which .* lacks", folder.read, tmp_path / "more", "val")


def test_names_in_other_encodings_are_text(tmp_path):
    root = os.fsencode(tmp_path)
    for name in (b"caf\xe9", b"owl"):
        os.mkdir(os.path.join(root, name))
        for k in range(2):
            with open(os.path.join(root, name, b"%d-\xff.png" % k), "wb") as file:
                Image.new("L", (4, 4), 9).save(file, "PNG")
    train = folder.read(tmp_path, "train")
    assert train.class_names == ("caf\\xe9", "owl")
    assert train.ids == ("caf\\xe9/0-\\xff.png", "owl/0-\\xff.png")
    assert train.image(1)[0, 0].tolist() == [9, 9, 9]
    for text in (*train.ids, *train.class_names, train.source, folder.images(tmp_path / "owl").source):
        text.encode()


def test_folders_without_images_are_no_matter_to_what_is_wrapped(tmp_path):
    """CUB: the classes are in images, beside folders of tables."""
    spread(tmp_path, "CUB/images/001.Auk", "CUB/images/002.Jay")
    (tmp_path / "CUB/parts").mkdir()
    (tmp_path / "CUB/parts/locations.txt").write_text("1 2 3")
    assert folder.read(tmp_path, "train").class_names == ("001.Auk", "002.Jay")
