"""Exports of other tools and people's own folders of images with masks: read right, or refused by name."""

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from voc_trees import COLOURS, NAMES, coloured, content, fails, put, save_mask, write_annotation

from voclab.cli import main
from voclab.data import annotations, count_objects, find, info, labelmap, load, masks
from voclab.data.base import VOC_CLASSES, VOID, voc_palette

SIZE = (30, 20)  # width, height


def scene(k: int) -> tuple[np.ndarray, np.ndarray]:
    """An image and its mask with one or two of the three classes and a void rim."""
    rng = np.random.default_rng(k)
    mask = np.zeros(SIZE[::-1], np.uint8)
    mask[2:12, 2:12], mask[3:11, 3:11] = VOID, k % 3 + 1
    if k % 2:
        mask[12:18, 14:28] = (k + 1) % 3 + 1
    return rng.integers(0, 256, (*mask.shape, 3), np.uint8), mask


STEMS = [f"shot {k}" for k in range(10)]
SCENES = {stem: scene(k) for k, stem in enumerate(STEMS)}


def indexed(path: Path, mask: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_mask(path, mask)


def each(draw: Callable[[str, np.ndarray, np.ndarray], None]) -> None:
    for stem, (image, mask) in SCENES.items():
        draw(stem, image, mask)


def write(path: Path, text: str, encoding="utf-8") -> None:
    put(path, text.encode(encoding))


def check(root: Path, names=NAMES, parts=(8, 2), rename=lambda name: name, masked=True) -> tuple:
    """What is read from ``root`` is the scenes, each once, with labels of these classes."""
    found = find(root)
    read = [load(found.name, found.root, split) for split in ("train", "val")]
    assert tuple(map(len, read)) == parts
    seen = [rename(name) for part in read for name in part.ids]
    assert sorted(seen) == sorted(unicodedata.normalize("NFC", s) for s in SCENES)
    for part in read:
        assert part.class_names == tuple(names)
        assert (part.task, part.has_masks) == ("multilabel", masked)
        for i, name in enumerate(part.ids):
            image, mask = SCENES[rename(name)]
            assert part.image(i).shape == image.shape
            if masked:
                np.testing.assert_array_equal(part.mask(i), mask)
            wanted = [(mask == k + 1).any() for k in range(len(names))]
            np.testing.assert_array_equal(part.labels[i], wanted)
    return tuple(read)


# --- masks ---

VOC_MASK = np.array([[0, 1, 2, 20], [15, 255, 8, 0]], np.uint8)


def png(mask, mode=None):
    return lambda path: Image.fromarray(mask, mode).save(path, "PNG")


def repaletted(mask, colours):
    """A palette PNG whose indices are a program's own."""

    def save(path):
        values = np.unique(mask)
        image = Image.fromarray(np.searchsorted(values, mask).astype(np.uint8), "P")
        image.putpalette(np.array(colours, np.uint8)[values].ravel().tolist())
        image.save(path, "PNG")

    return save


def few_bits(mask, bits):
    """A greyscale PNG of 1, 2 or 4 bits, which Pillow cannot write."""
    import struct
    import zlib

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    def save(path):
        height, width = mask.shape
        rows = b""
        for row in mask:
            digits = "".join(f"{v:0{bits}b}" for v in row)
            digits += "0" * (-len(digits) % 8)
            rows += b"\0" + int(digits, 2).to_bytes(len(digits) // 8, "big")
        header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
        parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)

    return save


def array(values):
    return lambda path: np.save(path.with_suffix(".npy"), values)


PALETTE = voc_palette()
RGB = PALETTE[VOC_MASK]
SMALL = np.where(VOC_MASK > 3, 3, VOC_MASK)
SIGNED = VOC_MASK.astype(np.int32)
SIGNED[VOC_MASK == 255] = -1

READ = {
    "VOC's palette": (lambda path: save_mask(path, VOC_MASK), VOC_MASK),
    "another palette with VOC's colours": (repaletted(VOC_MASK, PALETTE), VOC_MASK),
    "palette of greys": (repaletted(np.arange(21, dtype=np.uint8)[None], [[k] * 3 for k in range(256)]),
                         np.arange(21)[None]),
    "colours": (png(RGB), VOC_MASK),
    "transparent background": (png(np.dstack([RGB, np.where(VOC_MASK, 255, 0).astype(np.uint8)])), VOC_MASK),
    "greys": (png(VOC_MASK), VOC_MASK),
    "numbers in three channels": (png(np.dstack([SMALL] * 3)), SMALL),
    "16 bits": (png(VOC_MASK.astype(np.uint16)), VOC_MASK),
    "4 bits": (few_bits(np.minimum(VOC_MASK, 15), 4), np.minimum(VOC_MASK, 15)),
    "2 bits": (few_bits(SMALL, 2), SMALL),
    "float TIFF": (lambda path: Image.fromarray(VOC_MASK.astype(np.float32)).save(path, "TIFF"), VOC_MASK),
    "bitmap": (lambda path: Image.fromarray(VOC_MASK).save(path, "BMP"), VOC_MASK),
    "int64 array": (array(VOC_MASK.astype(np.int64)), VOC_MASK),
    "array with -1 for void": (array(SIGNED), VOC_MASK),
    "int8 array": (array(SIGNED.astype(np.int8)), VOC_MASK),
    "big-endian array": (array(VOC_MASK.astype(">u2")), VOC_MASK),
    "array of colours": (array(RGB), VOC_MASK),
}  # fmt: skip


def stored_at(tmp_path, save):
    save(tmp_path / "mask.png")
    return next(tmp_path.glob("mask.*"))


@pytest.mark.parametrize("form", READ)
def test_mask_is_read_as_it_was_meant(tmp_path, form):
    save, wanted = READ[form]
    mask = masks.decode(stored_at(tmp_path, save))
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, wanted)


BINARY = np.array([[0, 255], [255, 0]], np.uint8)
NOISY = np.random.default_rng(0).integers(0, 256, (80, 80, 3), np.uint8)
REFUSED = {
    "palette of other colours": (repaletted(SMALL, COLOURS * 100), r"has the colour .*none of VOC's"),
    "one wrong colour": (png(np.where(VOC_MASK[..., None] == 8, np.uint8(7), RGB)),
                         r"colour \(7, 7, 7\)"),
    "black and white": (png(BINARY), "nothing but 0 and 255"),
    "value 21": (png(VOC_MASK + np.uint8(6)), "has the value 2[16]"),
    "JPEG": (lambda path: Image.fromarray(VOC_MASK).save(path, "JPEG"), "is a JPEG.*export the masks"),
    "JPEG in a TIFF": (lambda path: Image.fromarray(VOC_MASK).save(path, "TIFF", compression="jpeg"),
                       "compressed as jpeg"),
    "PGM": (lambda path: Image.fromarray(VOC_MASK).save(path, "PPM"), "is a PPM"),
    "an image": (png(NOISY), "more than 4096 colours"),
    "transparent classes": (png(np.dstack([RGB, np.full(VOC_MASK.shape, 9, np.uint8)])), "transparent"),
    "CMYK": (lambda path: Image.new("CMYK", (3, 3)).save(path, "TIFF"), "is a CMYK"),
    "pages": (lambda path: Image.fromarray(VOC_MASK).save(
        path, "TIFF", save_all=True, append_images=[Image.fromarray(VOC_MASK)]), "several images"),
    "NaN": (array(np.full((2, 2), np.nan)), "no whole number"),
    "negative": (array(SIGNED * 2), "has the value -2"),
    "two channels": (array(np.dstack([VOC_MASK] * 2)), r"shape \(2, 4, 2\)"),
    "pickle": (lambda path: np.save(path.with_suffix(".npy"), np.array([{}]), allow_pickle=True),
               "not a plain"),
    "no image": (lambda path: path.write_text("mask"), "damaged"),
}  # fmt: skip


@pytest.mark.parametrize("form", REFUSED)
def test_mask_without_a_certain_meaning_is_refused(tmp_path, form):
    save, pattern = REFUSED[form]
    path = stored_at(tmp_path, save)
    message = fails(pattern, masks.decode, path)
    assert path.name in message


# --- label maps ---


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("labelmap.txt", "# label:color_rgb:parts:actions\nbackground:0,0,0::\nkettle:250,50,83::\n"
                         "lamp:51,221,255:shade,foot:lit\nGießkanne:128,0,0::\n"),
        ("labelmap.txt", "Gießkanne:128,0,0\n\nbackground:0,0,0\nlamp:51, 221, 255\nkettle:250,50,83"),
        ("colors.txt", "neutral 224 224 192\nkettle 250 50 83\nlamp 51 221 255\nGießkanne 128 0 0\n"),
        ("label_colors.txt", "0 0 0 background\n250 50 83 kettle\n51 221 255 lamp\n128 0 0 Gießkanne\n"),
        ("class_dict.csv", "name,r,g,b\nkettle,250,50,83\nlamp,51,221,255\nGießkanne,128,0,0\n"),
        ("class_dict.csv", '"name","r","g",b\n"kettle",250,50,83\n"lamp",51,221,255\n"Gießkanne",128,0,0\n'),
        ("class_dict.csv", "id,name,r,g,b\n0,background,0,0,0\n1,kettle,250,50,83\n2,lamp,51,221,255\n"
                           "3,Gießkanne,128,0,0\n"),
        ("class_dict.csv", "name;id;r;g;b\nkettle;1;250;50;83\nlamp;2;51;221;255\nGießkanne;3;128;0;0\n"),
        ("meta.json", json.dumps({"classes": [
            {"title": n, "shape": "bitmap", "color": "#{:02x}{:02X}{:02x}".format(*c), "id": 7}
            for n, c in zip(NAMES, COLOURS, strict=True)], "tags": []})),
        ("obj_class_to_machine_color.json", json.dumps(dict(zip(NAMES, COLOURS, strict=True)))),
        ("dataset_meta.json", json.dumps({
            "label_map": {str(k): n for k, n in enumerate(("background", *NAMES))},
            "segmentation_colors": [(0, 0, 0), *COLOURS]})),
    ],
)  # fmt: skip
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_label_map_with_colours(tmp_path, name, text, encoding):
    write(tmp_path / name, text.replace("\n", "\r\n"), encoding)
    legend = masks.legend_of(labelmap.find([tmp_path]))
    wanted = dict(zip(NAMES, range(1, 4), strict=True))
    for colour, label in zip(COLOURS, NAMES, strict=True):
        put(tmp_path / "m.png", np.array([[colour, (0, 0, 0), (224, 224, 192)]], np.uint8))
        number = legend.class_names.index(label) + 1
        np.testing.assert_array_equal(masks.decode(tmp_path / "m.png", legend), [[number, 0, VOID]])
    assert set(legend.class_names) == set(wanted)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("class_names.txt", "_background_\nkettle\nlamp\nGießkanne"),
        ("class_names.txt", "__ignore__\n_background_\nkettle\nlamp\nGießkanne\n"),
        ("_classes.csv", "Pixel Value, Class\n0, background\n1, kettle\n2, lamp\n3, Gießkanne\n"),
        ("classes.txt", "0: background\n1: kettle\n2: lamp\n3: Gießkanne"),
        ("classes.txt", "kettle\nlamp\nGießkanne\n"),
        ("classes.json", json.dumps(["background", *NAMES])),
        ("id2label.json", json.dumps({"0": "background", "1": "kettle", "2": "lamp", "3": "Gießkanne"})),
        ("labels.json", json.dumps({"background": 0, "kettle": 1, "lamp": 2, "Gießkanne": 3})),
        ("labelmap.txt", "background:0,0,0::\nkettle:1,1,1::\nlamp:2,2,2::\nGießkanne:3,3,3::"),
        ("labelmap.txt", "".join(f"{n}:{','.join(map(str, c))}::\n" for n, c in
                                 zip(("background", *NAMES), ((0, 0, 0), *COLOURS), strict=True))),
    ],
)  # fmt: skip
def test_label_map_of_numbers(tmp_path, name, text):
    write(tmp_path / name, text)
    mask = np.array([[0, 1, 2, 3, VOID]], np.uint8)
    put(tmp_path / "m.png", mask)
    stored = masks.read(tmp_path / "m.png")
    legend = masks.fitted(
        masks.legend_of(labelmap.find([tmp_path])), [(tmp_path / "m.png", stored.kind, stored.used)]
    )
    assert legend.class_names == NAMES
    np.testing.assert_array_equal(masks.decode(tmp_path / "m.png", legend), mask)


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("background:0,0,0::\ncat:1,2::\n", "labelmap.txt has the line 'cat:1,2::'"),
        ("cat:1,2,3::\ndog:1,2,3::\n", "has the colour .* twice, for 'cat' and 'dog'"),
        ("cat:1,2,3::\ncat:1,2,4::\n", "has the name cat twice"),
        ("cat:1,2,300::\n", "colour .*300.*not three of 0–255"),
        ("background:0,0,0::\n", "names no class"),
        ("".join(f"c{k}:{k},0,1::\n" for k in range(255)), "names 255 classes"),
        ("{", "meta.json is no readable label map"),
        ('{"classes": [{"color": "#12"}]}', "meta.json is no readable label map"),
        ('{"classes": 3}', "meta.json is no readable label map"),
    ],
)
def test_bad_label_map_is_named(tmp_path, text, pattern):
    write(tmp_path / ("meta.json" if "json" in pattern else "labelmap.txt"), text)
    fails(pattern, labelmap.find, [tmp_path])


# --- annotations ---

OBJECT = "<object><name>Dog</name><difficult>{}</difficult><part><name>head</name></part></object>"


@pytest.mark.parametrize(
    ("difficult", "wanted"),
    [("0", 0), ("1", 1), ("True", 1), ("yes", 1), ("FALSE", 0), ("no", 0), (" 1\n", 1), ("", 0)],
)
def test_difficult_in_every_spelling(tmp_path, difficult, wanted):
    write(tmp_path / "a.xml", f"<annotation>{OBJECT.format(difficult)}</annotation>")
    assert annotations.read_objects(tmp_path / "a.xml") == [annotations.Object("Dog", bool(wanted))]
    write(tmp_path / "a.xml", "<annotation><filename/><size/></annotation>")  # of background only
    assert annotations.read_objects(tmp_path / "a.xml") == []


@pytest.mark.parametrize(
    "text",
    [
        '<a:annotation xmlns:a="urn:voc"><a:object><a:name>Gießkanne</a:name></a:object></a:annotation>',
        '<annotation xmlns="http://example.org/voc"><object><name>Gießkanne</name></object></annotation>',
        "<Annotation><OBJECT><Name> Gießkanne\n</Name></OBJECT></Annotation>",
        "<annotation><!-- seen --><object><pose/><name>Gießkanne</name></object></annotation>",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1", "cp1252", "gb18030"])
def test_annotations_in_every_form(tmp_path, text, encoding):
    declared = "utf-8" if encoding == "utf-8-sig" else encoding
    write(tmp_path / "a.xml", f'<?xml version="1.0" encoding="{declared}"?>\n{text}', encoding)
    assert annotations.read_objects(tmp_path / "a.xml") == [annotations.Object("Gießkanne", False)]


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("<annotation/>", "no <object>"),
        ("<annotation><size/><item><name>dog</name></item></annotation>", "no <object>"),
        ("<annotations><image><box label='dog'/></image></annotations>", "no <object>"),
        ("<html><object><name>dog</name></object></html>", "no <object>"),
        ("<annotation><object/></annotation>", "object without a name"),
        (f"<annotation>{OBJECT.format('perhaps')}</annotation>", "difficult 'perhaps'"),
        ('<!DOCTYPE a [<!ENTITY e "x">]><annotation>&e;</annotation>', "no readable annotation"),
        ('<?xml version="1.0" encoding="klingon"?><annotation/>', "no readable annotation"),
        ('<?xml version="1.0" encoding="utf-16"?><annotation/>', "no readable annotation"),
        ("", "no readable annotation"),
    ],
)
def test_annotation_that_says_nothing_is_named(tmp_path, text, pattern):
    write(tmp_path / "a.xml", text)
    assert "a.xml" in fails(pattern, annotations.read_objects, tmp_path / "a.xml")


# --- what trees and folders of each layout are read as ---


def tree(root, mask=lambda path, mask: put(path, coloured(mask)), suffix=".jpg", classes=True):
    """A tree in VOC's layout with masks in the colours of a labelmap.txt."""

    def draw(stem, image, truth):
        put(root / "JPEGImages" / f"{stem}{suffix}", image)
        mask(root / "SegmentationClass" / f"{stem}.png", truth)

    each(draw)
    if classes:
        write(root / "labelmap.txt", "background:0,0,0::\n" + "".join(
            f"{n}:{r},{g},{b}::\n" for n, (r, g, b) in zip(NAMES, COLOURS, strict=True)))  # fmt: skip
    return root


def lists(root, train=STEMS[:8], val=STEMS[8:], kind="Segmentation", names=("train", "val"), line="{}"):
    for name, stems in zip(names, (train, val), strict=True):
        write(root / "ImageSets" / kind / f"{name}.txt", "".join(f"{line.format(s)}\n" for s in stems))
    return root


def annotated(root, names=NAMES, images="JPEGImages", xmls="Annotations", suffix=".jpg", stems=STEMS):
    for stem in stems:
        image, mask = SCENES[stem]
        put(root / images / f"{stem}{suffix}", image)
        there = [(names[k], 0) for k in range(3) if (mask == k + 1).any()]
        write_annotation(root / xmls / f"{stem}.xml", there)
    return root


def pairs(root, images="images", truth="masks", stems=STEMS, draw=None, image="{}.jpg", mask="{}.png"):
    for stem in stems:
        original, labels = SCENES[stem]
        put(root / images / image.format(stem), original)
        (draw or put)(root / truth / mask.format(stem), labels)
    return root


def parts_of_trees(root):
    for k, part in enumerate(("train", "valid")):
        tree(root / part)
        for j, stem in enumerate(STEMS):
            if (j < 8) != (k == 0):
                (root / part / "JPEGImages" / f"{stem}.jpg").unlink()


def labelme(root, arrays="SegmentationClass", images="SegmentationClassPNG"):
    """Arrays in one folder, images in VOC's palette in another, and drawings of both."""

    def draw(stem, image, mask):
        put(root / "JPEGImages" / f"{stem}.jpg", image)
        if arrays:
            put(root / arrays / f"{stem}.npy", np.where(mask == VOID, -1, mask).astype(np.int32))
        if images:
            indexed(root / images / f"{stem}.png", mask)
        put(root / "SegmentationClassVisualization" / f"{stem}.jpg", image)

    each(draw)
    write(root / "class_names.txt", "\n".join(("_background_", *NAMES)))


def class_lists(root):
    tree(root)
    for split, stems in (("train", STEMS[:8]), ("val", STEMS[8:])):
        for name in ("kettle", "lamp"):
            write(root / f"ImageSets/Main/{name}_{split}.txt", "".join(f"{s} -1\n" for s in stems))


def datumaro(root):
    lists(tree(root))
    quoted = (f'"{s}" 1\n' if k % 2 else f'"{s}"\n' for k, s in enumerate(STEMS[:8]))
    write(root / "ImageSets/Segmentation/train.txt", "# made by Datumaro\n" + "".join(quoted))


def masks_and_annotations(root):
    annotated(root)
    each(lambda stem, _, mask: indexed(root / "SegmentationClass" / f"{stem}.png", mask))
    write(root / "class_names.txt", "\n".join(("_background_", *NAMES)))


TREES = {
    **{f"in {inside}": lambda root, inside=inside: tree(root / inside)
       for inside in ("", "export", "a/my tree", "a/b/VOC", "VOCdevkit/VOC2012")},
    **{f"images {s}": lambda root, s=s: tree(root, suffix=s) for s in (".jpeg", ".JPG", ".png")},
    "lists": lambda root: lists(tree(root)),
    "lists in Main": lambda root: lists(tree(root), kind="Main", names=("Train", "Validation")),
    "lists in ImageSets": lambda root: lists(tree(root), kind=".", names=("training", "test")),
    "a list of all": lambda root: lists(tree(root), STEMS, [], names=("default", "nothing")) and (
        root / "ImageSets/Segmentation/nothing.txt").unlink(),
    "lists of classes": class_lists,
    "Datumaro's lists": datumaro,
    "a tree a part": parts_of_trees,
    "labelme": labelme,
    "labelme, arrays": lambda root: labelme(root, images=None),
    "labelme 5": lambda root: labelme(root, "SegmentationClassNpy", None),
    "masks and annotations": masks_and_annotations,
}  # fmt: skip


@pytest.mark.parametrize("form", TREES)
def test_trees_in_vocs_layout(tmp_path, form):
    TREES[form](tmp_path)
    train, val = check(tmp_path)
    assert train.name == "voc"
    if "list" in form and form != "a list of all":
        assert list(train.ids) == STEMS[:8]
        assert ".txt" in val.source


ROLES = [
    ("images", "masks"), ("img", "ann"), ("img", "seg"), ("imgs", "labels"), ("Images", "Segmentation_Masks"),
    ("image", "gt"), ("JPEGImages", "masks"), ("images", "annotations"), ("input", "target"),
    ("data", "ground_truth"), ("original_images", "label_images"), ("images", "annotations/trimaps"),
    ("images/images", "annotations/annotations/trimaps"), ("images", "SegmentationClassNpy"),
    ("img", "masks_human"), ("images", "1st_manual"),
]  # fmt: skip
PART_ROLES = [
    ("{part}/images", "{part}/masks"), ("images/{part}", "masks/{part}"), ("{part}_images", "{part}_masks"),
    ("images_{part}", "annotations_{part}"), ("{part}", "{part}_masks"), ("{part}", "{part}annot"),
    ("{part}/img", "{part}/ann"),
]  # fmt: skip
FILE_NAMES = [
    ("{}.jpg", "{}_mask.png"), ("{}.jpg", "{}_seg.png"), ("{}.png", "{}_L.png"), ("{}.jpg", "{}.jpg.png"),
    ("image_{}.jpg", "mask_{}.png"), ("{}_sat.jpg", "{}_mask.png"), ("{}.JPEG", "{}-mask.bmp"),
    ("{}_image.png", "{}_label.tif"), ("{}.jpg", "{}.npy"), ("{}.npy", "{}.npy"),
]  # fmt: skip


def in_parts(root, images, truth, words=("train", "val"), **options):
    for part, stems in zip(words, (STEMS[:7], STEMS[7:]), strict=True):
        pairs(root, images.format(part=part), truth.format(part=part), stems, **options)


def drive(root):
    """The masks that people drew, and beside them the field of view of every image."""
    for part, stems in (("training", STEMS[:7]), ("test", STEMS[7:])):
        fov = {
            "mask": f"{{}}_{part}_mask.png",
            "draw": lambda path, mask: put(path, mask * 0 + np.uint8(255)),
        }
        pairs(root / part, "images", "mask", stems, image=f"{{}}_{part}.png", **fov)
        pairs(root / part, "images", "1st_manual", stems, image=f"{{}}_{part}.png", mask="{}_manual1.png")


TWO = (7, 3)
PAIRS = {
    **{f"{i} and {t}": (lambda root, i=i, t=t: pairs(root / "data set", i, t), {}) for i, t in ROLES},
    **{f"{i}, {t}, {words}": (lambda root, i=i, t=t, words=words: in_parts(root, i, t, words), {"parts": TWO})
       for i, t in PART_ROLES for words in (("train", "val"), ("Train", "Test"))},
    **{f"{i} and {m}": (lambda root, i=i, m=m: pairs(root, image=i, mask=m), {}) for i, m in FILE_NAMES},
    "one folder": (lambda root: pairs(root, "train", "train", image="{}_sat.jpg", mask="{}_mask.png"), {}),
    "masks for people stand back": (
        lambda root: (pairs(root, "ds0/img", "ds0/masks_machine"), pairs(
            root, "ds0/img", "ds0/masks_human", draw=lambda path, mask: put(path, coloured(mask)))), {}),
    "a table of files": (
        lambda root: write(pairs(root) / "labels.csv", "".join(f"{s}.jpg,1\n" for s in ("image", *STEMS))),
        {}),
    "DRIVE": (drive, {"parts": TWO}),
}  # fmt: skip


@pytest.mark.parametrize("form", PAIRS)
def test_images_and_masks(tmp_path, form):
    build, options = PAIRS[form]
    build(tmp_path)
    stem = {s[-1]: s for s in STEMS}
    train, _ = check(
        tmp_path,
        ("class 1", "class 2", "class 3"),
        rename=lambda name: stem[next(c for c in name if c.isdigit())],
        **options,
    )
    assert find(tmp_path).name == "pairs"
    assert "no label map names" in train.source


def roboflow(root):
    for k, (stem, (image, mask)) in enumerate(SCENES.items()):
        name = root / ("train" if k < 7 else "valid") / f"{stem}_jpg.rf.0a{k}"
        put(name.with_name(f"{name.name}.jpg"), image)
        put(name.with_name(f"{name.name}_mask.png"), mask)
    for part in ("train", "valid"):
        lines = "".join(f"{k}, {n}\n" for k, n in enumerate(("background", *NAMES)))
        write(root / part / "_classes.csv", f"Pixel Value, Class\n{lines}")


def supervisely(root, colours):
    """A project: meta.json above its data sets, JSON beside the masks that somebody asked for."""
    in_parts(root, "{part}/img", "{part}/masks_machine", ("train", "test"), mask="{}.jpg.png",
             draw=lambda path, mask: put(path, coloured(mask, colours)))  # fmt: skip
    for stem in STEMS:
        write(root / "train/ann" / f"{stem}.jpg.json", "{}")
    titles = zip(NAMES, COLOURS, strict=True)
    classes = [{"title": n, "color": "#{:02X}{:02X}{:02X}".format(*c)} for n, c in titles]
    write(root / "meta.json", json.dumps({"classes": classes}))
    if colours != COLOURS:
        machine = dict(zip(NAMES, colours, strict=True))
        write(root / "obj_class_to_machine_color.json", json.dumps(machine))


@pytest.mark.parametrize(
    "build",
    [
        roboflow,
        lambda root: supervisely(root, COLOURS),
        lambda root: supervisely(root, tuple((k, k, k) for k in (1, 2, 3))),
    ],
)
def test_pairs_with_a_label_map(tmp_path, build):
    build(tmp_path)
    check(tmp_path, parts=(7, 3), rename=lambda name: name.split("_jpg")[0])


@pytest.mark.parametrize("layout", ["one folder", "parts", "two folders"])
def test_annotations_beside_images(tmp_path, layout):
    for part, stems in (("train", STEMS[:8]), ("valid", STEMS[8:])):
        folder = {"one folder": ".", "parts": part, "two folders": "images"}[layout]
        xmls = "annotations" if layout == "two folders" else folder
        annotated(tmp_path, images=folder, xmls=xmls, suffix=".png", stems=stems)
    write(tmp_path / "labelmap.txt", "\n".join(f"{n}:::" for n in NAMES))
    train, _ = check(tmp_path, masked=False)
    assert sum(count_objects("pairs", tmp_path, "train")) == train.labels.sum()


# --- what has no certain meaning is refused ---


def exif_images(root, orientation=6, size=(20, 20)):
    exif = Image.Exif()
    exif[274] = orientation
    (root / "images").mkdir()
    for name in "ab":
        Image.new("RGB", size).save(root / "images" / f"{name}.jpg", exif=exif)
        put(root / "masks" / f"{name}.png", np.ones(size[::-1], np.uint8))


def two_names(root):
    pairs(root)
    put(root / "images/shot 0.png", SCENES["shot 1"][0])


def in_class_folders(root):
    for name in ("benign", "malignant"):
        pairs(root, name, name, mask="{}_mask.png")


def patients(root):
    """PH²: a folder a patient, with a folder for the image and one for the mask."""
    for stem in STEMS:
        name = stem.replace("shot ", "IMD00")
        pairs(root, f"{name}/{name}_Dermoscopic_Image", f"{name}/{name}_lesion", [stem], mask="{}_lesion.png")


def superpixels(root):
    pairs(root, "ISIC_Data", "ISIC_Part1_Truth", mask="{}_segmentation.png")
    for stem in STEMS:
        put(root / "ISIC_Data" / f"{stem}_superpixels.png", SCENES[stem][0])


def labelme_json(root):
    """What labelme_json_to_dataset writes."""
    for stem, (image, mask) in SCENES.items():
        put(root / f"{stem}_json" / "img.png", image)
        put(root / f"{stem}_json" / "label.png", mask)


def label_maps_of_parts(root):
    in_parts(root, "{part}/images", "{part}/masks")
    for part, names in (("train", NAMES), ("val", NAMES[::-1])):
        write(root / part / "class_names.txt", "\n".join(("_background_", *names)))


def drawn(draw, **options):
    return lambda root: pairs(root, draw=draw, **options)


def one_black_and_white(root):
    pairs(root, draw=lambda path, mask: put(path, mask % VOID))  # no void anywhere
    put(root / "masks/shot 3.png", np.where(SCENES["shot 3"][1], 255, 0).astype(np.uint8))


LOOKS = "looks like masks of the images"
REFUSED_TREES = {
    "several trees": (lambda root: [tree(root / name) for name in ("mine", "yours")],
                      r"several trees in VOC's layout \(mine, yours\)"),
    "an image in both lists": (lambda root: lists(tree(root), train=STEMS, val=STEMS[7:]),
                               r"both have shot 7 \(and 2 more\)"),
    "labelme's drawings only": (lambda root: labelme(root, None, None), "not images by class"),
    "own classes beside masks": (
        lambda root: (masks_and_annotations(root), (root / "class_names.txt").unlink()),
        "unknown class .*labelmap.txt"),
    "names in two cases": (
        lambda root: write_annotation(annotated(root) / "Annotations/shot 0.xml", [("Kettle", 0)]),
        "class '(K|k)ettle'.*write both alike"),
    "levels of grey": (drawn(lambda path, mask: put(path, (mask % VOID) * np.uint8(80))), "no class numbers"),
    "colours without a label map": (drawn(lambda path, mask: put(path, coloured(mask))), "nothing says its"),
    "JPEG": (drawn(lambda path, mask: put(path.with_suffix(".jpg"), mask)), "is a JPEG"),
    "a compressed copy": (drawn(lambda path, mask: put(path, np.random.default_rng(0).choice(
        np.uint8([0, 1, 2, 5, 9, 240, 250, 255]), mask.shape))), "no class numbers"),
    "images for masks": (drawn(lambda path, mask: put(path, NOISY)), "more than 4096 colours"),
    "background": (drawn(lambda path, mask: put(path, mask * np.uint8(0))), "background only"),
    "JSON": (drawn(lambda path, mask: write(path.with_suffix(".json"), "{}")), "is no folder with"),
    "other names": (drawn(lambda path, mask: put(path.with_name(f"t{path.stem[::-1]}.png"), mask)),
                    "of no image"),
    "masks of another size": (drawn(lambda path, mask: put(path, mask.T)),
                              "is 20 × 30 pixels, but its image .* is 30 × 20"),
    "one of another kind": (one_black_and_white, "shot 3.png holds nothing but 0 and 255"),
    "turned by EXIF, square": (exif_images, "EXIF orientation 6"),
    "turned by EXIF, half round": (lambda root: exif_images(root, 3, (30, 20)), "EXIF orientation 3"),
    "an image in both parts": (
        lambda root: (pairs(root / "train", stems=STEMS[:5]), pairs(root / "val", stems=STEMS[4:])),
        "shot 4.jpg also lies in val"),
    "label maps of the parts": (label_maps_of_parts, "train.class_names.txt and .*val.* name different"),
    "two files of a name": (two_names, "two files of one name"),
    "masks in class folders": (in_class_folders, "several folders of images with masks|looks like the mask"),
    "a folder a patient": (patients, "IMD000 and IMD001, which both hold _Dermos.* and _lesion.*masks"),
    "half of the files": (superpixels, LOOKS),
    "labelme's folders": (labelme_json, "holds an image and its mask, img.png and label.png"),
    **{f"{a} and {b}": (lambda root, a=a, b=b, end=end: pairs(root, a, b, mask=f"{{}}{end}.png"), LOOKS)
       for a, b, end in (("images of pots", "truth of pots", ""), ("a", "a_painted", ""),
                         ("cam", "masks2", ""),
                         ("ISIC_Task1-2_Input", "ISIC_Task1_Truth", "_segmentation"),
                         ("export/a", "export/b", ""))},
}  # fmt: skip


@pytest.mark.parametrize("form", REFUSED_TREES)
def test_what_has_no_certain_meaning_is_refused(tmp_path, form):
    build, pattern = REFUSED_TREES[form]
    build(tmp_path)

    def whole():
        found = find(tmp_path)
        data = load(found.name, found.root, "train")
        for i in range(len(data)):
            data.image(i), data.mask(i)

    fails(pattern, whole)


# --- lists and names ---


@pytest.mark.parametrize(
    "line",
    [
        "{}", "{}.jpg", "JPEGImages/{}.jpg", "/JPEGImages/{}.jpg /SegmentationClass/{}.png", "{}  1", "{} -1",
        "./JPEGImages/{}.JPG", "C:\\data\\JPEGImages\\{}.jpg", "\n{}\n", "  {}\t",
    ],
)  # fmt: skip
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_lines_of_lists(tmp_path, line, encoding):
    lists(tree(tmp_path))
    listed = "\r\n".join(line.replace("{}", stem) for stem in STEMS[:8])
    write(tmp_path / "ImageSets/Segmentation/train.txt", listed, encoding)
    assert list(load("voc2009", tmp_path, "train").ids) == STEMS[:8]


def test_a_list_of_a_class_is_read_without_its_column(tmp_path):
    lists(annotated(tmp_path, VOC_CLASSES), kind="Main")
    write(tmp_path / "ImageSets/Main/person_train.txt", "shot 0 -1\nshot 1  1\nshot 2  0\n")
    assert load("voc2009", tmp_path, "person_train").ids == ("shot 0", "shot 1", "shot 2")
    assert len(load("voc2009", tmp_path, "train")) == 8


@pytest.mark.parametrize("listed", ["NFC", "NFD"])
@pytest.mark.parametrize("stem", ["Müller", "a.b.c", "a+b (1)", "50%", "[x] {y}", "café.rf.0a1b", "image 1"])
def test_names_in_either_form_of_unicode(tmp_path, stem, listed):
    on_disk = "NFD" if listed == "NFC" else "NFC"
    for k, name in enumerate((stem, "other")):
        put(tmp_path / "JPEGImages" / f"{unicodedata.normalize(on_disk, name)}.jpg", scene(k)[0])
        indexed(tmp_path / "SegmentationClass" / f"{unicodedata.normalize(listed, name)}.png", scene(k)[1])
    lists(tmp_path, [unicodedata.normalize(listed, stem)], ["other"])
    data = load("voc2009", tmp_path, "train")
    assert data.ids == (unicodedata.normalize("NFC", stem),)
    np.testing.assert_array_equal(data.mask(0), scene(0)[1])
    assert data.image(0).shape == scene(0)[0].shape


def test_lists_beside_images_and_masks_divide_them(tmp_path):
    pairs(tmp_path)
    fails("val", load, "pairs", tmp_path, "test")
    lists_of = {"train": STEMS[:6], "valid": STEMS[6:]}
    for name, stems in lists_of.items():
        write(tmp_path / f"splits/{name}.txt", "\n".join(f"images/{s}.jpg" for s in stems))
    data = {split: load("pairs", tmp_path, split) for split in ("train", "val")}
    assert (data["train"].ids, data["val"].ids) == tuple(map(tuple, lists_of.values()))
    assert "splits/train.txt" in data["train"].source
    write(tmp_path / "splits/valid.txt", "\n".join(STEMS[5:]))
    fails("both have shot 5", load, "pairs", tmp_path, "train")
    write(tmp_path / "splits/valid.txt", "shot 6\nshot 77")
    fails("names shot 77", load, "pairs", tmp_path, "val")
    (tmp_path / "splits/train.txt").rename(tmp_path / "splits/test.txt")
    (tmp_path / "splits/valid.txt").unlink()
    write(tmp_path / "splits/trainval.txt", "\n".join(STEMS[6:]))
    assert load("pairs", tmp_path, "train").ids == tuple(STEMS[6:])
    assert load("pairs", tmp_path, "val").ids == tuple(STEMS[:6])


# --- what the sentence about the data says ---


def test_what_is_used_and_what_is_left_out_is_said(tmp_path):
    for year in (2007, 2012):
        lists(tree(tmp_path / f"voc/VOCdevkit/VOC{year}"))
    assert "VOC2012 (and VOC2007, not used)" in find(tmp_path / "voc").why
    pairs(tmp_path / "pairs")
    (tmp_path / "pairs/masks/shot 0.png").unlink()
    (tmp_path / "pairs/images/shot 9.jpg").unlink()
    put(tmp_path / "pairs/images/.ipynb_checkpoints/shot 1-checkpoint.jpg", SCENES["shot 1"][0])
    source = load("pairs", tmp_path / "pairs", "train").source
    assert "1 without mask left out" in source
    assert "1 masks without an image left out" in source
    pairs(tmp_path / "part/train")
    each(lambda stem, image, _: put(tmp_path / "part/test/images" / f"{stem}.jpg", image))
    assert "test left out, for it has no masks" in load("pairs", tmp_path / "part", "train").source
    # Oxford pets: masks of all, annotations of some; the masks are the truth of all.
    pairs(tmp_path / "pets", truth="annotations/trimaps")
    for stem in STEMS[:4]:
        write_annotation(tmp_path / "pets/annotations/xmls" / f"{stem}.xml", [("cat", 0)])
    assert "annotations of only 4 images left out" in load("pairs", tmp_path / "pets", "train").source


def test_annotations_with_classes_of_their_own(tmp_path):
    annotated(tmp_path)
    data = load("voc2009", tmp_path, "train")
    assert data.class_names == tuple(sorted(NAMES))
    assert not data.has_masks
    whole = load("voc2009", tmp_path, "val").joined(data)
    for name, row in zip(whole.ids, whole.labels, strict=True):
        there = {data.class_names[k] for k in np.flatnonzero(row)}
        assert there == {NAMES[k] for k in range(3) if (SCENES[name][1] == k + 1).any()}
    assert sum(count_objects("voc2009", tmp_path, "train")) == data.labels.sum()
    write(tmp_path / "labelmap.txt", "".join(f"{n}:::\n" for n in ("background", *NAMES, "vase")))
    assert load("voc2009", tmp_path, "train").class_names == (*NAMES, "vase")


@pytest.mark.parametrize("names", [("Dog", "CAT", "TVmonitor"), ("dog", "cat", "TV/Monitor"),
                                   ("dog", "cat", "tv monitor"), ("dog", "cat", "tv-monitor")])  # fmt: skip
def test_annotations_in_another_spelling_are_vocs(tmp_path, names):
    data = load("voc2009", annotated(tmp_path, names), "train")
    assert data.class_names == VOC_CLASSES
    assert {VOC_CLASSES[k] for k in np.flatnonzero(data.labels.sum(0))} == {"dog", "cat", "tvmonitor"}


def test_numbers_in_a_tree_that_nothing_names_are_no_classes_of_voc(tmp_path):
    tree(tmp_path / "pots", mask=put, classes=False)
    train, _ = check(tmp_path, ("class 1", "class 2", "class 3"))
    assert "no label map names them" in train.source
    lists(tmp_path / "pots")
    (tmp_path / "pots").rename(tmp_path / "VOC2012")
    assert load("voc2009", tmp_path, "train").class_names == VOC_CLASSES


def test_black_and_white_masks_are_one_class(tmp_path):
    pairs(tmp_path, draw=lambda path, mask: put(path, np.where(mask % VOID, 255, 0).astype(np.uint8)))
    for names, label_map in ((("foreground",), ""), (("kettle",), "background:0,0,0::\nkettle:250,50,83::")):
        if label_map:
            write(tmp_path / "labelmap.txt", label_map)
        data = load("pairs", tmp_path, "train")
        assert data.class_names == names
        for i, name in enumerate(data.ids):
            np.testing.assert_array_equal(data.mask(i), (SCENES[name][1] % VOID > 0).astype(np.uint8))


@pytest.mark.parametrize(
    ("orientation", "size", "turned"),
    [(6, SIZE[::-1], True), (6, SIZE, False), (8, SIZE[::-1], True), (1, SIZE, False)],
)
def test_a_turned_image_lies_as_its_mask(tmp_path, orientation, size, turned):
    image = np.zeros((*SIZE[::-1], 3), np.uint8)
    image[:, : SIZE[0] // 2] = 255
    exif = Image.Exif()
    exif[274] = orientation
    (tmp_path / "images").mkdir()
    for name in "ab":
        Image.fromarray(image).save(tmp_path / "images" / f"{name}.jpg", exif=exif, quality=95)
        mask = np.zeros(size[::-1], np.uint8)
        mask[:5] = 1
        put(tmp_path / "masks" / f"{name}.png", mask)
    data = load("pairs", tmp_path, "train")
    read = data.image(0)
    assert read.shape[:2] == data.mask(0).shape == size[::-1]
    across, down = (read.mean(axis) for axis in (0, 1))
    assert (np.ptp(down[:, 0]) > 200) == turned
    assert (np.ptp(across[:, 0]) > 200) != turned


# --- classes whose folders have the names of images and masks ---


@pytest.mark.parametrize("names", ["WXYZ", "xo", ("raw", "ripe"), ("cat", "mask", "dog")])
def test_letters_and_other_words_are_classes(tmp_path, names):
    for k, name in enumerate(names):
        for j in range(3):
            pixels = np.random.default_rng(9 * k + j).integers(0, 256, (20, 30, 3), np.uint8)
            put(tmp_path / name / f"{j}.png", pixels)
    found = find(tmp_path)
    assert load(found.name, found.root, "train").class_names == tuple(sorted(names))


def test_a_test_image_of_each_letter_is_no_pair(tmp_path):
    for part, end in (("asl_train", ""), ("asl_test", "_test")):
        for k, name in enumerate("WXYZ"):
            for j in range(3 if part == "asl_train" else 1):
                rng = np.random.default_rng(9 * k + j)
                folder = tmp_path / part / part / name if part == "asl_train" else tmp_path / part / part
                put(folder / f"{name}{j or ''}{end}.png", rng.integers(0, 256, (20, 30, 3), np.uint8))
    assert load("folder", find(tmp_path).root, "train").class_names == tuple("WXYZ")


@pytest.mark.parametrize("make", [tree, pairs, annotated])
def test_info_answers_for_each(tmp_path, make, capsys):
    make(tmp_path)
    before = content(tmp_path)
    assert main(["data", "info", "--data", str(tmp_path)]) in (0, None)
    told = capsys.readouterr().out
    found = find(tmp_path)
    data = load(found.name, found.root, "train")
    assert all(name in told for name in data.class_names)
    assert data.source.split(";")[-1] in told
    described = info.describe(data, count_objects(found.name, found.root, "train"))
    assert described["masks"] == (8 if data.has_masks else 0)
    assert (described["objects_per_image"] is None) == data.has_masks
    assert content(tmp_path) == before
