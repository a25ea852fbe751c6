"""The competition's layout: export, reading back, resuming, and what damaged files say."""

import csv
import errno
import io
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
from voc_trees import content, fails, make_tree

from voclab import files
from voclab.data import competition as kaggle
from voclab.data import vocdevkit
from voclab.data.base import VOC_CLASSES
from voclab.kaggle.export import export


@pytest.fixture
def voc(tmp_path):
    make_tree(tmp_path / "voc")
    return vocdevkit.read(tmp_path / "voc", "train"), vocdevkit.read(tmp_path / "voc", "val")


@pytest.fixture
def exported(tmp_path, voc):
    return export(*voc, tmp_path / "out", tmp_path / "truth", progress=False)


def assert_same(written, read):
    assert read.ids == tuple(str(i) for i in range(len(written)))
    assert (read.name, read.task, read.class_names) == ("kaggle", "multilabel", VOC_CLASSES)
    np.testing.assert_array_equal(read.labels, written.labels)
    for i in range(len(written)):
        np.testing.assert_array_equal(read.image(i), written.image(i))
        mask = written.mask(i)
        np.testing.assert_array_equal(read.mask(i), np.where(mask == 255, 0, mask))
        assert read.mask(i).dtype == read.image(i).dtype == np.uint8


def test_export_reads_back_equal(tmp_path, voc, exported):
    train, test = voc
    assert_same(train, kaggle.read(exported, "train"))
    assert_same(test, kaggle.read(exported, "test", tmp_path / "truth"))


def test_test_set_gives_no_truth_away(voc, exported):
    data = kaggle.read(exported, "test")
    assert data.labels is None
    assert data.read_mask is None
    np.testing.assert_array_equal(data.image(1), voc[1].image(1))
    assert not (exported / "test" / "seg").exists()


def test_layout_is_the_competitions(exported, voc):
    assert {p.name for p in exported.iterdir()} == {"train", "test", "export.json"}
    for split, n, value in (("train", len(voc[0]), None), ("test", len(voc[1]), "-1")):
        with open(exported / split / f"{split}_set.csv", newline="") as file:
            header, *rows = csv.reader(file)
        assert header == ["Id", *VOC_CLASSES]
        assert [row[0] for row in rows] == [str(i) for i in range(n)]
        assert {v for row in rows for v in row[1:]} == ({"0", "1"} if value is None else {value})
        assert {p.name for p in (exported / split / "img").iterdir()} == {
            f"{split}_{i}.npy" for i in range(n)
        }
    image = np.load(exported / "train/img/train_0.npy", allow_pickle=False)
    mask = np.load(exported / "train/seg/train_0.npy", allow_pickle=False)
    assert image.shape == (*mask.shape, 3)
    assert mask.max() <= 20


def test_full_disk_keeps_what_is_there_and_the_next_run_goes_on(tmp_path, voc, monkeypatch):
    whole = export(*voc, tmp_path / "whole", progress=False)
    left = 5

    def fsync(_):
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", fsync)
    fails("disk is full; free some space", export, *voc, tmp_path / "out", progress=False)
    monkeypatch.undo()
    before = content(tmp_path / "out")
    assert len(before) == 5  # the manifest and four arrays, no half of anything
    assert all(not name.endswith(".csv") for name in before)
    export(*voc, tmp_path / "out", progress=False)
    assert content(tmp_path / "out") == content(whole)


def test_a_killed_export_goes_on_and_what_is_whole_is_not_written_again(tmp_path, voc, exported):
    before = content(exported)
    os.utime(exported / "train/img/train_0.npy", (1, 1))
    (exported / "train/img/train_3.npy").unlink()
    export(*voc, exported, tmp_path / "truth", progress=False)
    assert content(exported) == before
    assert (exported / "train/img/train_0.npy").stat().st_mtime == 1


def test_a_folder_of_something_else_is_refused(tmp_path, voc):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/holiday.jpg").write_text("mine")
    fails("out is not empty, and holds no export; name an empty", export, *voc, tmp_path / "out")
    assert content(tmp_path / "out") == {"holiday.jpg": b"mine"}


def test_export_of_other_images_is_refused(tmp_path, voc, exported):
    before = content(exported)
    train, test = voc
    fails("holds the export of other images", export, train.subset([1, 0]), test, exported)
    make_tree(tmp_path / "other", seed=1)
    other = vocdevkit.read(tmp_path / "other", "train")
    assert other.ids == train.ids
    relit = replace(train, read_image=lambda i: 255 - train.image(i))
    fails("holds the export of other images", export, relit, test, exported)
    fails("holds the export of other images", export, other, test, exported)
    assert content(exported) == before


def test_truth_must_lie_apart(tmp_path, voc):
    fails("apart from the images", export, *voc, tmp_path / "out", tmp_path / "out")


def test_unwritable_target_is_named(tmp_path, voc):
    (tmp_path / "file").write_text("")
    fails(r"Cannot write .*file.*a file", export, *voc, tmp_path / "file/out")
    fails(r"Cannot write .*file", export, *voc, tmp_path / "file")


def test_export_needs_truth(tmp_path, voc, exported):
    fails("no labels or no masks", export, kaggle.read(exported, "test"), voc[1], tmp_path / "x")
    hidden = kaggle.read(exported, "test")
    fails("no labels or no masks", export, voc[0], hidden, tmp_path / "x", tmp_path / "y")
    assert not (tmp_path / "x").exists()
    export(voc[0], hidden, tmp_path / "x", progress=False)
    np.testing.assert_array_equal(kaggle.read(tmp_path / "x", "test").image(2), hidden.image(2))


def header_without(name):
    return ["Id", *(c for c in VOC_CLASSES if c != name)]


def swapped(a, b):
    header = ["Id", *VOC_CLASSES]
    i, j = header.index(a), header.index(b)
    header[i], header[j] = b, a
    return header


@pytest.mark.parametrize(
    ("header", "pattern"),
    [
        (header_without("cow"), "no column 'cow'"),
        (list(VOC_CLASSES), "no column 'Id'"),
        (swapped("dog", "cat"), "column 'dog' where VOC's order has 'cat'"),
        (["Id", *VOC_CLASSES, "unicorn"], "column 'unicorn' where VOC's order has 'no more'"),
        (["Id", *VOC_CLASSES, "cow"], "column 'cow' where VOC's order has 'no more'"),
    ],
)
@pytest.mark.parametrize("split", ["train", "test"])
def test_wrong_header_is_named(exported, header, pattern, split):
    path = exported / split / f"{split}_set.csv"
    path.write_text(",".join(header) + "\n" + ",".join(["0"] * len(header)) + "\n")
    fails(rf"{split}_set\.csv has .*{pattern}.*restore the header", kaggle.read, exported, split)


@pytest.mark.parametrize(
    ("row", "pattern"),
    [
        (["0", *["0"] * 19, "-1"], "line 2, column tvmonitor, has '-1' instead of 0 or 1"),
        (["0", *["0"] * 19, ""], "column tvmonitor, has ''"),
        (["../0", *["0"] * 20], "line 2, has the Id '../0'"),
        (["99", *["0"] * 20], "names the Id 99, but .*train_99.npy is missing"),
    ],
)
def test_wrong_row_is_named(exported, row, pattern):
    path = exported / "train/train_set.csv"
    path.write_text(",".join(["Id", *VOC_CLASSES]) + "\n" + ",".join(row) + "\n")
    fails(pattern, kaggle.read, exported, "train")


def test_missing_and_empty_tables(exported):
    path = exported / "train/train_set.csv"
    path.write_text(path.read_text().splitlines()[0] + "\n")
    fails(r"train_set\.csv has a header but no rows", kaggle.read, exported, "train")
    path.write_text("")
    fails("no column 'Id'", kaggle.read, exported, "train")
    test = exported / "test/test_set.csv"
    test.write_text(test.read_text().replace("-1", "1", 1))
    fails("mixes labels with -1", kaggle.read, exported, "test")
    path.unlink()
    fails(r"train_set\.csv is missing", kaggle.read, exported, "train")
    fails("no split 'val'; choose train or test", kaggle.read, exported, "val")


def test_truth_of_another_test_set_is_refused(tmp_path, voc, exported):
    export(*voc[::-1], tmp_path / "other", tmp_path / "other_truth", progress=False)
    fails("other Ids than", kaggle.read, exported, "test", tmp_path / "other_truth")


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "pattern"),
    [
        (npy(np.full((4, 4, 3), 2.5, np.float32)), "holds float32 up to 2.5 that are no whole numbers"),
        (npy(np.full((4, 4, 3), 256)), "holds int64 from 256 to 256"),
        (npy(np.zeros((4, 4, 3), bool)), "holds bool and no numbers"),
        (npy(np.zeros((4, 4, 1), np.uint8)), r"shape \(4, 4, 1\), not uint8"),
        (npy(np.zeros((4, 0, 3), np.uint8)), "not a plain .npy array"),
        (npy(np.zeros((4, 4, 3), np.uint8))[:-1], "not a plain .npy array"),
        (b"", "not a plain .npy array"),
    ],
)
def test_wrong_image_file_is_named(exported, data, pattern):
    (exported / "train/img/train_2.npy").write_bytes(data)
    images = kaggle.read(exported, "train")
    fails(rf"train_2\.npy .*{pattern}", images.image, 2)
    images.image(1)


@pytest.mark.parametrize(
    ("change", "pattern"),
    [
        (lambda mask: mask + 0.5, "no whole number"),
        (lambda mask: mask > 0, "has the value 255"),
        (lambda mask: np.repeat(mask[..., None], 3, 2), "shape"),
        (lambda mask: np.full_like(mask, 21), "has the value 21"),
        (lambda mask: np.full(mask.shape, -1), "has the value -1"),
        (lambda mask: mask[1:], "but its image is"),
    ],
)
def test_wrong_mask_file_is_named(exported, change, pattern):
    path = exported / "train/seg/train_2.npy"
    path.write_bytes(npy(change(np.load(path))))
    fails(rf"train_2\.npy .*{pattern}", kaggle.read(exported, "train").mask, 2)


@pytest.mark.parametrize("dtype", [np.int64, ">i4", np.float32])
@pytest.mark.parametrize("channels", [(), (1,)])
def test_masks_of_any_whole_number_type_are_read(exported, dtype, channels):
    path = exported / "train/seg/train_2.npy"
    mask = np.load(path)
    np.save(path, np.asfortranarray(mask.astype(dtype)).reshape(*mask.shape, *channels))
    read = kaggle.read(exported, "train").mask(2)
    np.testing.assert_array_equal(read, mask)
    assert read.dtype == np.uint8
    assert read.flags.c_contiguous


@pytest.mark.parametrize("change", [np.int64, ">u2", np.float32, lambda image: image / 255])
def test_images_of_other_numbers_are_read(exported, change):
    path = exported / "train/img/train_2.npy"
    image = np.load(path)
    np.save(path, change(image) if callable(change) else image.astype(change))
    read = kaggle.read(exported, "train").image(2)
    np.testing.assert_array_equal(read, image)
    assert read.dtype == np.uint8


def test_an_array_that_is_cut_while_it_is_in_use_is_one_sentence(exported):
    path = exported / "train/img/train_2.npy"
    data = kaggle.read(exported, "train")
    image = data.image(2)
    os.truncate(path, 200)  # of a mapped file, the next look would end the process
    assert image.sum() == image.astype(int).sum()
    fails("train_2.npy is not a plain .npy array", data.image, 2)
    fails("train_2.npy is not a plain .npy array", data.mask, 2)


# --- tables as programs save them ---


def resaved(text: str, kind: str) -> bytes:
    """A table as pandas, Excel or an editor saves it again."""
    header, *rows = ([*line.split(",")] for line in text.splitlines())
    match kind:
        case "index":  # DataFrame.to_csv
            header, rows = ["", *header], [[str(k), *row] for k, row in enumerate(rows)]
        case "floats":
            rows = [[f"{value}.0" for value in row] for row in rows]
        case "bool":
            rows = [[row[0], *(str(value == "1") for value in row[1:])] for row in rows]
        case "quoted":
            header, rows = [f'"{name}"' for name in header], [[f'"{v}"' for v in row] for row in rows]
        case "spaces":
            header, rows = [f" {name} " for name in header], [[f" {v}" for v in row] for row in rows]
        case "decimal commas":
            rows = [[row[0], *(f"{value},0" for value in row[1:])] for row in rows]
    semicolons = ("semicolons that Excel says", "decimal commas")
    delimiter = ";" if kind in semicolons else "\t" if kind == "utf-16" else ","
    lines = [delimiter.join(row) for row in (header, *rows)]
    if kind == "semicolons that Excel says":
        lines = ["sep=;", *lines]
    if kind == "blank rows":
        lines = ["", lines[0], "", *lines[1:], "," * 20, ""]
    end = "\r\n" if kind == "windows" else "\n"
    encoding = {"windows": "utf-8-sig", "utf-16": "utf-16"}.get(kind, "utf-8")
    return (end.join(lines) + end).encode(encoding)


@pytest.mark.parametrize(
    "kind",
    ["index", "floats", "bool", "quoted", "spaces", "decimal commas", "semicolons that Excel says", "utf-16",
     "blank rows", "windows"],
)  # fmt: skip
def test_tables_saved_again_by_other_programs_are_the_same(exported, voc, kind):
    path = exported / "train/train_set.csv"
    path.write_bytes(resaved(path.read_text(), kind))
    assert_same(voc[0], kaggle.read(exported, "train"))


@pytest.mark.parametrize("value", ["0", "-1.0", "", "nan"])
@pytest.mark.parametrize("kind", ["plain", "index"])
def test_a_test_table_without_truth_has_no_labels(exported, value, kind):
    path = exported / "test/test_set.csv"
    path.write_bytes(resaved(path.read_text().replace("-1", value), kind))
    data = kaggle.read(exported, "test")
    assert data.labels is None
    assert len(data) == 4
    assert "without truth" in data.source


def test_a_test_table_may_hold_ids_only_or_the_truth(exported, voc):
    path = exported / "test/test_set.csv"
    whole = path.read_text()
    path.write_text("".join(line.split(",")[0] + "\n" for line in whole.splitlines()))
    assert kaggle.read(exported, "test").labels is None
    (exported / "train/train_set.csv").write_text("Id\n0\n")
    fails("no column 'aeroplane'", kaggle.read, exported, "train")
    shutil.copy(exported.parent / "truth/truth_set.csv", path)
    np.testing.assert_array_equal(kaggle.read(exported, "test").labels, voc[1].labels)


def test_faults_of_a_table_are_named_by_the_line_of_the_file(exported):
    path = exported / "train/train_set.csv"
    header, *rows = path.read_text().splitlines()

    def wrong(*lines, encoding="utf-8"):
        path.write_bytes("\n".join(lines).encode(encoding))
        return (kaggle.read, exported, "train")

    fails("line 4, column aeroplane, has '7'", *wrong(header, "", rows[0], "1,7" + ",0" * 19))
    fails("line 5, has the Id '0' twice .first in line 2", *wrong(header, rows[0], "", "", rows[0]))
    fails("line 3, has 22 columns, not 21", *wrong(header, rows[0], rows[1] + ",1"))
    fails("line 3, cannot be read as CSV", *wrong(header, rows[0], '"1"x' + ",0" * 20))
    fails("line 4, cannot be read as CSV", *wrong(header, rows[0], '"1' + ",0" * 20, rows[2]))
    fails("train_set.csv is not a text of UTF-8", *wrong(header, rows[0], "é", encoding="latin1"))
    path.unlink()
    path.mkdir()
    fails("train_set.csv cannot be read", kaggle.read, exported, "train")
