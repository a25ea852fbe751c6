"""The VOCdevkit reader on small trees, on damaged ones, and on the real images."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from voc_trees import fails, make_tree, write_annotation

from voclab.data import decoding, vocdevkit
from voclab.data.base import VOC_CLASSES


@pytest.mark.parametrize("annotations", [True, False])
def test_reads_what_was_written(tmp_path, annotations):
    tree = make_tree(tmp_path, annotations=annotations)
    data = vocdevkit.read(tmp_path, "val")
    assert list(data.ids) == tree.splits["val"]
    assert (data.name, data.split, data.task, data.class_names) == (
        "voc2009",
        "val",
        "multilabel",
        VOC_CLASSES,
    )
    assert data.labels.dtype == np.uint8
    for i, image in enumerate(data.ids):
        np.testing.assert_array_equal(data.labels[i], tree.labels[image])
        np.testing.assert_array_equal(data.mask(i), tree.masks[image])
        with Image.open(tree.folder / "JPEGImages" / f"{image}.jpg") as opened:
            np.testing.assert_array_equal(data.image(i), np.array(opened))
    assert (vocdevkit.count_objects(tmp_path, "val") is not None) == annotations
    assert ("labels from the annotations" if annotations else "labels from the masks") in data.source


def test_difficult_objects_and_body_parts_do_not_count(tmp_path):
    tree = make_tree(tmp_path, {"train": 1})
    image = tree.splits["train"][0]
    objects = [("dog", 0), ("dog", 0), ("person", 1), ("cat", 1), ("cat", 0), ("dog", 1)]
    write_annotation(tree.folder / "Annotations" / f"{image}.xml", objects)
    labels = vocdevkit.read(tmp_path, "train").labels[0]
    assert {VOC_CLASSES[k] for k in np.flatnonzero(labels)} == {"dog", "cat"}
    assert vocdevkit.count_objects(tmp_path, "train") == (6,)


@pytest.mark.parametrize("inside", [".", "VOCdevkit", "VOCdevkit/VOC2009"])
def test_finds_the_tree_from_each_level(tmp_path, inside, monkeypatch):
    tree = make_tree(tmp_path)
    assert vocdevkit.find_trees(tmp_path / inside)[""].resolve() == tree.folder.resolve()
    monkeypatch.chdir(tmp_path / inside)
    assert vocdevkit.find_trees(Path("."))[""].resolve() == tree.folder.resolve()


def test_2009_is_read_and_else_the_newest_year(tmp_path):
    for year in (2007, 2012):
        make_tree(tmp_path, year=year)
    assert vocdevkit.read(tmp_path, "train").ids[0].startswith("2012_")
    make_tree(tmp_path, year=2009)
    assert vocdevkit.read(tmp_path, "train").ids[0].startswith("2009_")


def test_no_tree_is_one_sentence(tmp_path):
    fails("holds no VOCdevkit/VOC2009.*voclab data fetch", vocdevkit.find_trees, tmp_path)
    fails("is no folder", vocdevkit.find_trees, tmp_path / "nowhere")


def test_main_lists_are_read_where_there_are_no_segmentation_lists(tmp_path):
    tree = make_tree(tmp_path, {"train": 3}, lists="Main")
    (tree.folder / "ImageSets/Main/aeroplane_train.txt").write_text("2009_000000 -1\n")
    unsegmented = tree.splits["train"][1]
    (tree.folder / "SegmentationClass" / f"{unsegmented}.png").unlink()
    data = vocdevkit.read(tmp_path, "train")
    assert data.mask(1) is None
    np.testing.assert_array_equal(data.mask(2), tree.masks[data.ids[2]])
    shutil.rmtree(tree.folder / "SegmentationClass")
    assert vocdevkit.read(tmp_path, "train").read_mask is None
    message = fails("no list val.txt", vocdevkit.read, tmp_path, "val")
    assert "aeroplane" not in message


def test_test_list_without_truth(tmp_path):
    tree = make_tree(tmp_path, {"train": 2, "test": 3})
    for image in tree.splits["test"]:
        (tree.folder / "SegmentationClass" / f"{image}.png").unlink()
        (tree.folder / "Annotations" / f"{image}.xml").unlink()
    data = vocdevkit.read(tmp_path, "test")
    assert data.labels is None
    assert data.read_mask is None
    assert data.mask(0) is None
    assert data.image(0).shape == (*tree.masks[data.ids[0]].shape, 3)


def test_toyvoc_keeps_the_truth_of_its_test_list_apart(tmp_path):
    tree = make_tree(tmp_path, {"train": 2, "test": 3})
    (tmp_path / "toyvoc.json").write_text(json.dumps({}))
    truth = tmp_path / "truth" / "VOC2009"
    for kind, suffix in (("SegmentationClass", ".png"), ("Annotations", ".xml")):
        (truth / kind).mkdir(parents=True)
        for image in tree.splits["test"]:
            (tree.folder / kind / (image + suffix)).rename(truth / kind / (image + suffix))
    data = vocdevkit.read(tmp_path, "test", name="toyvoc")
    assert data.name == "toyvoc"
    for i, image in enumerate(data.ids):
        np.testing.assert_array_equal(data.labels[i], tree.labels[image])
        np.testing.assert_array_equal(data.mask(i), tree.masks[image])
    assert sum(vocdevkit.count_objects(tmp_path, "test")) == data.labels.sum()
    shutil.rmtree(tmp_path / "truth")
    assert vocdevkit.read(tmp_path, "test").labels is None


def image_with_thumbnail(path, progressive=True):
    """A JPEG with a whole JPEG inside its header, as cameras write them."""
    Image.new("RGB", (8, 8)).save(path)
    inner = path.read_bytes()
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(pixels).save(path, progressive=progressive, exif=b"Exif\x00\x00" + inner)
    assert inner in path.read_bytes()


@pytest.mark.parametrize("kept", [0.0, 0.001, 0.3, 0.999])
@pytest.mark.parametrize("filler", [b"", b"\0"])
@pytest.mark.parametrize("progressive", [False, True])
def test_truncated_jpeg_is_named(tmp_path, kept, filler, progressive):
    path = tmp_path / "2009_000001.jpg"
    image_with_thumbnail(path, progressive)
    whole = path.read_bytes()
    decoding.decode(path)
    keep = int(len(whole) * kept)
    path.write_bytes(whole[:keep] + filler * (len(whole) - keep))  # a sparse download is filled with zeros
    fails(r"2009_000001\.jpg is (empty|a damaged image).*copy it again|save it as", decoding.decode, path)


def test_bytes_after_the_end_are_no_damage(tmp_path):
    path = tmp_path / "image.jpg"
    image_with_thumbnail(path)
    image = decoding.decode(path)
    # What phones put behind an image, such as a film, may hold the marker of a scan.
    path.write_bytes(path.read_bytes() + b"ftypmp42" + b"\xff\xda" * 9)
    np.testing.assert_array_equal(decoding.decode(path), image)


@pytest.mark.parametrize(
    ("kind", "suffix"), [("JPEGImages", ".jpg"), ("SegmentationClass", ".png"), ("Annotations", ".xml")]
)
def test_list_that_names_a_missing_file(tmp_path, kind, suffix):
    tree = make_tree(tmp_path)
    image = tree.splits["train"][2]
    (tree.folder / kind / (image + suffix)).unlink()
    message = fails(rf"names {image}, but .*{image}{suffix} is missing", vocdevkit.read, tmp_path, "train")
    assert "train.txt" in message
    vocdevkit.read(tmp_path, "val")
    listed = tree.folder / "ImageSets/Segmentation/train.txt"
    for content, pattern in (
        ("\n \n", r"train\.txt is empty"),
        ("2009_000000\n2009_000000\n", "lists 2009_000000 twice"),
        ("../../etc/passwd\n", "no image name"),
    ):
        listed.write_text(content)
        fails(pattern, vocdevkit.read, tmp_path, "train")


@pytest.mark.parametrize("split", ["nothing", "../../secret", ""])
def test_unknown_split_lists_the_known(tmp_path, split):
    make_tree(tmp_path)
    fails(r"choose from: train, val", vocdevkit.read, tmp_path, split)


def test_real_images(shared):
    sizes = {"train": 571, "val": 574}
    for split, n in sizes.items():
        data = vocdevkit.read(shared / "voc2009", split)
        assert len(data) == n
        assert "labels from the masks" in data.source
        assert data.labels.sum(1).min() >= 1
        person = data.labels[:, VOC_CLASSES.index("person")].mean()
        assert 0.25 < person < 0.35
        for i in (0, n // 2, n - 1):
            image, mask = data.image(i), data.mask(i)
            assert image.shape == (*mask.shape, 3)
            classes = set(np.unique(mask)) - {0, 255}
            assert classes == {k + 1 for k in np.flatnonzero(data.labels[i])}
