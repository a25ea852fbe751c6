"""ToyVOC: what is on disk, how often each class occurs, and that generation is repeatable and careful."""

import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from toyvoc import voc as toyvoc
from toyvoc.base import ToyError
from toyvoc.scene import void_border
from toyvoc.voc import make_toyvoc, toyvoc_scene
from voclab.data.base import VOC_CLASSES, VOID, voc_palette
from voclab.data.drawn import draw
from voclab.errors import VoclabError

COUNTS = {"train": 420, "val": 160, "test": 60}
SMALL = {"train": 6, "val": 3, "test": 2, "size": 64, "progress": False}
TREE, TRUTH = Path("VOCdevkit/VOC2009"), Path("truth/VOC2009")


def _files(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def _ids(tree: Path, split: str, kind: str = "Segmentation") -> list[str]:
    return (tree / "ImageSets" / kind / f"{split}.txt").read_text().split()


def _truth_of(root: Path, split: str) -> Path:
    return root / (TRUTH if split == "test" else TREE)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return make_toyvoc(tmp_path_factory.mktemp("toyvoc"), seed=3, **COUNTS, progress=False)


@pytest.fixture(scope="module")
def samples(root) -> list[dict]:
    """Every image of the tree, read back from its files."""
    result = []
    for split in COUNTS:
        truth = _truth_of(root, split)
        for name in _ids(root / TREE, split):
            annotation = ElementTree.parse(truth / "Annotations" / f"{name}.xml").getroot()
            result.append(
                {
                    "id": name,
                    "image": np.asarray(Image.open(root / TREE / "JPEGImages" / f"{name}.jpg")),
                    "mask": np.asarray(Image.open(truth / "SegmentationClass" / f"{name}.png")),
                    "annotation": annotation,
                    "objects": annotation.findall("object"),
                    "classes": {o.findtext("name") for o in annotation.findall("object")},
                }
            )
    return result


def test_tree_has_the_layout_and_lists_of_a_vocdevkit(root):
    tree = root / TREE
    for kind in ("Segmentation", "Main"):
        ids = {split: _ids(tree, split, kind) for split in ("train", "val", "trainval", "test")}
        assert {split: len(ids[split]) for split in COUNTS} == COUNTS
        assert ids["trainval"] == ids["train"] + ids["val"]
        everything = ids["trainval"] + ids["test"]
        assert len(set(everything)) == len(everything)
        assert {p.stem for p in (tree / "JPEGImages").iterdir()} == set(everything)


def test_the_truth_of_the_test_split_is_kept_apart(root):
    held_out = set(_ids(root / TREE, "test"))
    for folder in ("SegmentationClass", "Annotations"):
        assert {p.stem for p in (root / TREE / folder).iterdir()} == set(_ids(root / TREE, "trainval"))
        assert {p.stem for p in (root / TRUTH / folder).iterdir()} == held_out
    assert not (root / TRUTH / "JPEGImages").exists()


def test_masks_are_palette_pngs_that_agree_with_image_and_annotation(root, samples):
    with Image.open(root / TREE / "SegmentationClass" / f"{samples[0]['id']}.png") as image:
        assert image.mode == "P"
        assert image.getpalette() == voc_palette().ravel().tolist()
    for sample in samples:
        mask, size = sample["mask"], sample["annotation"].find("size")
        assert mask.shape == sample["image"].shape[:2]
        assert mask.shape == (int(size.findtext("height")), int(size.findtext("width")))
        in_mask = {VOC_CLASSES[v - 1] for v in np.unique(mask) if v not in (0, VOID)}
        assert in_mask == sample["classes"]
        assert sample["annotation"].findtext("filename") == f"{sample['id']}.jpg"


def test_boxes_enclose_exactly_the_pixels_of_their_class(samples):
    """Void takes the outermost pixel of a contour, so a box may be one pixel wider than the labels."""
    for sample in samples:
        for name in sample["classes"]:
            boxes = np.array(
                [
                    [int(o.find("bndbox").findtext(k)) for k in ("xmin", "ymin", "xmax", "ymax")]
                    for o in sample["objects"]
                    if o.findtext("name") == name
                ]
            )
            rows, columns = np.nonzero(sample["mask"] == VOC_CLASSES.index(name) + 1)
            low = np.array([columns.min() + 1, rows.min() + 1])
            high = np.array([columns.max() + 1, rows.max() + 1])
            assert np.all(boxes[:, :2].min(axis=0) <= low)
            assert np.all(boxes[:, :2].min(axis=0) >= low - 1)
            assert np.all(boxes[:, 2:].max(axis=0) >= high)
            assert np.all(boxes[:, 2:].max(axis=0) <= high + 1)


def test_void_is_a_border_of_two_pixels_and_spares_thin_parts():
    instances = np.zeros((60, 60), np.uint8)
    instances[10:40, 10:40] = 1
    instances[20:50, 30:55] = 2  # in front of the first
    instances[54:56, 5:50] = 3  # two pixels thin
    instances[44:46, 34:52] = 1  # and again, in front of the second
    void = void_border(instances)
    assert void[9:11, 12:38].all()
    assert not void[8, 12:38].any()
    assert not void[11:19, 12:28].any()
    assert void[25:35, 29:31].all()  # between the two objects as well
    assert not void[32:38, 32:53].any()
    assert not void[44:46, 35:51].any()
    assert void[43, 35:51].all()
    assert not void[54:56, 6:49].any()
    assert void[53, 6:49].all()
    assert void[56, 6:49].all()


def test_class_frequencies_follow_voc2009(samples):
    """The recipes are walked in golden-ratio steps, so shares are within about one point of the targets."""
    frequency = Counter(name for sample in samples for name in sample["classes"])
    share = {name: frequency[name] / len(samples) for name in VOC_CLASSES}
    assert share["person"] == pytest.approx(0.28, abs=0.02)
    for name in ("cow", "sheep"):
        assert 0.027 <= share[name] <= 0.045
    for name in set(VOC_CLASSES) - {"person", "cow", "sheep"}:
        assert 0.035 <= share[name] <= 0.11
    classes = np.array([len(sample["classes"]) for sample in samples])
    assert classes.min() == 1
    assert classes.max() == 3
    assert classes.mean() == pytest.approx(1.41, abs=0.06)
    assert np.mean(classes == 1) > 0.6


def test_even_a_small_split_has_nearly_every_class(samples):
    assert len(set().union(*(sample["classes"] for sample in samples[:60]))) >= 18


def test_three_quarters_of_the_pixels_are_background(samples):
    """One image deviates by 0.12, so the mean of 640 by 0.005; real VOC2009 has 0.750."""
    share = [np.mean(s["mask"][s["mask"] != VOID] == 0) for s in samples]
    assert np.mean(share) == pytest.approx(0.75, abs=0.03)
    assert np.std(share) > 0.08  # and images differ
    assert 0.02 < np.mean([np.mean(s["mask"] == VOID) for s in samples]) < 0.12


def test_objects_vary_in_size_number_occlusion_and_truncation(samples):
    alone = [s for s in samples if len(s["objects"]) == 1]
    area = [np.mean((s["mask"] != 0) & (s["mask"] != VOID)) for s in alone]
    assert np.percentile(area, 5) < 0.09
    assert np.percentile(area, 95) > 0.35
    objects = [o for s in samples for o in s["objects"]]
    assert 0.15 < np.mean([o.findtext("truncated") == "1" for o in objects]) < 0.6
    assert 0.1 < np.mean([o.findtext("occluded") == "1" for o in objects]) < 0.5
    assert {o.findtext("difficult") for o in objects} == {"0"}
    assert 0.1 < np.mean([len(s["objects"]) > len(s["classes"]) for s in samples]) < 0.4


def test_classes_meet_as_they_do_in_life(samples):
    def met(name: str, other: str) -> float:
        having = [s for s in samples if name in s["classes"]]
        return np.mean([other in s["classes"] for s in having])

    everyone = np.mean(["person" in s["classes"] for s in samples])
    assert met("horse", "person") > everyone
    assert met("bicycle", "person") > everyone
    assert met("diningtable", "chair") > 2 * np.mean(["chair" in s["classes"] for s in samples])
    assert met("aeroplane", "sofa") == 0


def test_images_have_vocs_shapes(samples):
    shapes = [s["image"].shape for s in samples]
    assert all(max(shape[:2]) == 160 for shape in shapes)
    assert all(shape[2] == 3 for shape in shapes)
    landscape = np.mean([shape[0] < shape[1] for shape in shapes])
    assert 0.6 < landscape < 0.9
    assert len(set(shapes)) >= 5


def test_colour_alone_does_not_tell_the_classes(samples):
    """The nearest mean object colour, told on the other half of the images: chance is about 0.08."""
    alone = [s for s in samples if len(s["classes"]) == 1]
    colours = np.array([s["image"][(s["mask"] != 0) & (s["mask"] != VOID)].mean(axis=0) for s in alone])
    labels = np.array([VOC_CLASSES.index(*s["classes"]) for s in alone])
    centres = np.array([colours[::2][labels[::2] == c].mean(axis=0) for c in range(20)])
    nearest = np.argmin(np.linalg.norm(colours[1::2, None] - centres, axis=2), axis=1)
    assert np.mean(nearest == labels[1::2]) < 0.25


def test_background_alone_does_not_tell_the_classes(samples):
    """Images without their objects: the mean colours of a 3 x 3 grid of the background, nearest centre."""
    alone = [s for s in samples if len(s["classes"]) == 1]

    def grid(sample: dict) -> np.ndarray:
        image, clear = sample["image"].astype(float), sample["mask"] == 0
        fallback = image[clear].mean(axis=0)
        cells = [
            cell[free].mean(axis=0) if free.any() else fallback
            for rows, open_rows in zip(np.array_split(image, 3), np.array_split(clear, 3))
            for cell, free in zip(np.array_split(rows, 3, axis=1), np.array_split(open_rows, 3, axis=1))
        ]
        return np.concatenate(cells)

    features = np.array([grid(s) for s in alone])
    labels = np.array([VOC_CLASSES.index(*s["classes"]) for s in alone])
    centres = np.array([features[::2][labels[::2] == c].mean(axis=0) for c in range(20)])
    nearest = np.argmin(np.linalg.norm(features[1::2, None] - centres, axis=2), axis=1)
    assert np.mean(nearest == labels[1::2]) < 0.25


def test_the_same_arguments_give_the_same_bytes_and_another_seed_others(tmp_path):
    first = _files(make_toyvoc(tmp_path / "a", seed=5, **SMALL))
    assert _files(make_toyvoc(tmp_path / "b", seed=5, **SMALL)) == first
    other = _files(make_toyvoc(tmp_path / "c", seed=6, **SMALL))
    images = [name for name in first if name.endswith(".jpg")]
    assert len(images) == 11
    assert len({first[name] for name in images}) == 11
    assert all(first[name] != other[name] for name in images)


def test_an_image_depends_on_seed_split_and_number_only(tmp_path):
    make_toyvoc(tmp_path / "a", **SMALL)
    make_toyvoc(tmp_path / "b", **{**SMALL, "train": 2})
    one = (tmp_path / "a" / TREE / "JPEGImages" / f"{_ids(tmp_path / 'a' / TREE, 'val')[1]}.jpg").read_bytes()
    two = (tmp_path / "b" / TREE / "JPEGImages" / f"{_ids(tmp_path / 'b' / TREE, 'val')[1]}.jpg").read_bytes()
    assert one == two


def test_an_interrupted_call_is_taken_up_and_ends_the_same(tmp_path, monkeypatch):
    whole = _files(make_toyvoc(tmp_path / "whole", **SMALL))
    genuine, calls = toyvoc.encode_mask, []

    def killed_at_the_fifth(mask):
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return genuine(mask)

    with monkeypatch.context() as patch:
        patch.setattr(toyvoc, "encode_mask", killed_at_the_fifth)
        with pytest.raises(KeyboardInterrupt):
            make_toyvoc(tmp_path / "part", **SMALL)
    assert not (tmp_path / "part" / "toyvoc.json").exists()
    images = sorted((tmp_path / "part" / TREE / "JPEGImages").iterdir())
    written = [p.stat().st_mtime_ns for p in images[:4]]
    make_toyvoc(tmp_path / "part", **SMALL)
    assert _files(tmp_path / "part") == whole
    assert [p.stat().st_mtime_ns for p in images[:4]] == written


def test_a_complete_tree_is_left_as_it_is(tmp_path):
    make_toyvoc(tmp_path, **SMALL)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    make_toyvoc(tmp_path, **SMALL)
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before


def test_other_arguments_make_the_tree_anew(tmp_path):
    make_toyvoc(tmp_path / "a", **SMALL)
    changed = {**SMALL, "train": 3, "size": 48}
    make_toyvoc(tmp_path / "a", **changed)
    assert _files(tmp_path / "a") == _files(make_toyvoc(tmp_path / "b", **changed))


def test_a_kill_between_two_sets_of_arguments_leaves_a_tree_that_is_still_ours(tmp_path, monkeypatch):
    make_toyvoc(tmp_path / "a", **SMALL)
    changed = {**SMALL, "size": 48}

    def killed(folder):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(toyvoc.shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            make_toyvoc(tmp_path / "a", **changed)
    make_toyvoc(tmp_path / "a", **changed)
    assert _files(tmp_path / "a") == _files(make_toyvoc(tmp_path / "b", **changed))


def test_data_of_the_user_are_never_overwritten(tmp_path):
    image = tmp_path / TREE / "JPEGImages" / "2009_000001.jpg"
    image.parent.mkdir(parents=True)
    image.write_bytes(b"a real image")
    with pytest.raises(ToyError, match="VOCdevkit was not made by ToyVOC"):
        make_toyvoc(tmp_path, **SMALL)
    assert _files(tmp_path) == {str(image.relative_to(tmp_path)): b"a real image"}


def test_images_unpacked_over_an_older_toyvoc_are_not_deleted(tmp_path):
    make_toyvoc(tmp_path, **SMALL)
    image = tmp_path / TREE / "JPEGImages" / "2007_000032.jpg"
    image.write_bytes(b"a real image")
    before = _files(tmp_path)
    with pytest.raises(ToyError, match="images that are not ToyVOC's"):
        make_toyvoc(tmp_path, **{**SMALL, "size": 48})
    assert _files(tmp_path) == before


def test_a_root_that_cannot_be_a_folder_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(VoclabError, match=r"Cannot write .* is a file"):
        draw("toyvoc", tmp_path / "file", **SMALL)


def test_a_size_too_small_to_draw_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ToyError, match="size is 20"):
        make_toyvoc(tmp_path, **{**SMALL, "size": 20})
    assert list(tmp_path.iterdir()) == []


def test_scenes_are_those_that_are_written(root):
    scene = toyvoc_scene(3, "val", 7)
    mask = np.asarray(Image.open(root / TREE / "SegmentationClass" / f"{_ids(root / TREE, 'val')[7]}.png"))
    np.testing.assert_array_equal(scene.mask, mask)


@pytest.mark.parametrize("name", ["toyvoc", "toycifar"])
def test_a_folder_of_somebodys_own_is_left_alone(tmp_path, name):
    (tmp_path / "cat").mkdir()
    with pytest.raises(VoclabError, match=r"cat was not made by Toy(VOC|CIFAR) and is left alone"):
        draw(name, tmp_path, train=2, test=2, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["cat"]
