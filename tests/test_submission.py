"""Encoding, writing, merging, checking and scoring a submission, against the plain definitions."""

import bz2
import gzip
import lzma
import re
import tracemalloc
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from voc_trees import fails, make_tree, tar_of, zip_of

from voclab.cli import main
from voclab.data import VOC_CLASSES, VOID, Dataset
from voclab.errors import VoclabError
from voclab.kaggle import (
    check_submission,
    decode_segmentation,
    encode_classification,
    encode_segmentation,
    merge_submissions,
    rle_decode,
    rle_encode,
    score_submission,
    write_submission,
    write_truth,
)

SHAPES = st.tuples(st.integers(1, 12), st.integers(1, 12))


def label_maps(values, shapes=SHAPES):
    """Maps of large patches and of noise alike."""
    noise = hnp.arrays(np.uint8, shapes, elements=values)
    patches = hnp.arrays(np.uint8, shapes, elements=values, fill=values)
    return noise | patches


def plain_encode(array):
    """The definition, read literally: one position after the other."""
    runs, inside = [], False
    for position, value in enumerate(np.asarray(array).flatten(), 1):
        if value and inside:
            runs[-1][1] += 1
        elif value:
            runs.append([position, 1])
        inside = bool(value)
    return " ".join(f"{start} {length}" for start, length in runs)


def plain_stack(label_map, classes=20):
    return np.stack([label_map == k for k in range(1, classes + 1)]).astype(np.uint8)


def plain_dice(a, b):
    a, b = a.astype(bool), b.astype(bool)
    return 2 * (a & b).sum() / (a.sum() + b.sum()) if a.any() or b.any() else 1.0


def some_maps(count, shape=(15, 20), seed=0):
    """Label maps of a few rectangles each, with a void border."""
    rng = np.random.default_rng(seed)
    maps = np.zeros((count, *shape), np.uint8)
    for label_map in maps:
        for _ in range(3):
            y, x = rng.integers(0, shape[0] - 4), rng.integers(0, shape[1] - 4)
            height, width = rng.integers(2, 9, 2)
            label_map[y : y + height, x : x + width] = VOID
            label_map[y + 1 : y + height - 1, x + 1 : x + width - 1] = rng.integers(1, 21)
    return maps


def some_labels(count, seed=0):
    return (np.random.default_rng(seed).random((count, 20)) < 0.15).astype(np.uint8)


# --- run-length code ---------------------------------------------------------------------------


@settings(deadline=None)
@given(hnp.arrays(np.uint8, hnp.array_shapes(max_dims=3, max_side=9), elements=st.integers(0, 1)))
def test_arrays_encode_as_the_definition_says_and_come_back(array):
    text = rle_encode(array)
    assert text == plain_encode(array)
    np.testing.assert_array_equal(rle_decode(text, array.shape), array)


@settings(deadline=None)
@given(label_maps(st.sampled_from([0, 1, 2, 7, 19, 20, VOID])))
def test_label_maps_encode_as_their_stack_does_and_come_back(label_map):
    text = encode_segmentation(label_map)
    assert text == plain_encode(plain_stack(label_map))
    np.testing.assert_array_equal(rle_decode(text, (20, *label_map.shape)), plain_stack(label_map))
    np.testing.assert_array_equal(
        decode_segmentation(text, label_map.shape), np.where(label_map == VOID, 0, label_map)
    )


@settings(deadline=None)
@given(label_maps(st.integers(0, 3)), st.sampled_from([np.int8, np.uint16, np.int32, np.int64, np.uint64]))
def test_the_integer_type_and_memory_order_of_a_label_map_do_not_matter(label_map, dtype):
    text = plain_encode(plain_stack(label_map, 3))
    assert encode_segmentation(np.asfortranarray(label_map.astype(dtype)), classes=3) == text
    np.testing.assert_array_equal(decode_segmentation(text, label_map.shape, classes=3), label_map)


@pytest.mark.parametrize(
    ("shape", "classes", "digits"),
    [((1, 200), 20, 4), ((60, 70), 20, 5), ((3000, 2900), 20, 9), ((4700, 4700), 200, 10)],
)
def test_numbers_of_every_length_are_written_as_str_writes_them(shape, classes, digits):
    label_map = np.zeros(shape, np.uint8)
    flat = label_map.ravel()
    positions = np.unique(np.geomspace(1, flat.size, 200).astype(int) - 1)
    labels = [1, 2, 11, classes]
    for k in labels:
        flat[(positions + 3 * k) % flat.size] = k
    stacked = np.concatenate([np.flatnonzero(flat == k) + (k - 1) * flat.size for k in labels])
    runs = np.split(stacked, np.flatnonzero(np.diff(stacked) > 1) + 1)
    text = encode_segmentation(label_map, classes)
    assert text == " ".join(f"{run[0] + 1} {run.size}" for run in runs)
    assert len(runs) > 50
    assert max(map(len, text.split())) == digits


def test_nothing_set_is_the_empty_string():
    assert encode_segmentation(np.zeros((3, 4), np.uint8)) == ""
    assert encode_segmentation(np.full((3, 4), VOID, np.uint8)) == ""
    assert encode_segmentation(np.zeros((0, 4), np.uint8)) == ""
    assert encode_classification(np.zeros(20)) == ""
    assert rle_encode(np.zeros((0,))) == ""
    assert not rle_decode("", (2, 3)).any()


@pytest.mark.parametrize("value", [21, 254, -1, 256])
def test_a_label_map_with_a_value_that_is_no_class_is_refused_by_value(value):
    label_map = np.zeros((4, 5), np.int64)
    label_map[0], label_map[2, 3] = VOID, value
    with pytest.raises(VoclabError, match=f"holds {value};"):
        encode_segmentation(label_map)


@pytest.mark.parametrize("label_map", [np.zeros((4, 5)), np.zeros((4, 5), bool), np.zeros((4, 5, 1), int)])
def test_what_is_no_label_map_is_refused(label_map):
    with pytest.raises(VoclabError, match=re.escape(str(label_map.shape))):
        encode_segmentation(label_map)


@pytest.mark.parametrize("labels", [np.full(20, 0.3), np.full(20, -1), np.full(20, np.nan), np.full(20, 2)])
def test_scores_and_unknown_labels_are_not_taken_for_labels(labels):
    with pytest.raises(VoclabError, match="0 and 1"):
        encode_classification(labels)


@pytest.mark.parametrize("shape", [(21,), (1, 20), ()])
def test_labels_need_one_value_for_each_class(shape):
    with pytest.raises(VoclabError, match=re.escape(str(shape))):
        encode_classification(np.zeros(shape, np.uint8))


MALFORMED = [
    ("1", "the count of numbers, 1, is odd"),
    ("1 2 5", "the count of numbers, 3, is odd"),
    ("1 x", "number 2 is 'x'"),
    ("+1 2", "number 1 is '+1'"),
    ("1 -2", "number 2 is '-2'"),
    ("1.0 2", "number 1 is '1.0'"),
    ("1e0 2", "number 1 is '1e0'"),
    ("1_0 2", "number 1 is '1_0'"),
    ("1 ١", "number 2 is '١'"),
    ("1 ²", "number 2 is '²'"),
    ("1\t2", "number 1 is"),
    ("1\xa02", "number 1 is"),
    ("1 2\x00", "number 2 is"),
    ("1  2", "space too many before number 2"),
    (" 1 2", "space too many before number 1"),
    ("1 2 ", "space too many before number 3"),
    (" ", "space too many"),
    (f"1 {10**15}", "number 2, 1000000000000000, is too large"),
    (f"1 {2**63}", "is too large"),
    (f"{2**64 + 1} 1", "number 1, 18446744073709551617, is too large"),
    (f"1 {'9' * 5000}", "is too large"),
    ("0 2", "run 1 ('0 2') starts below 1"),
    ("1 0", "run 1 ('1 0') has a length below 1"),
    ("1 2 3 0", "run 2 ('3 0') has a length below 1"),
    ("1 3 3 1", "run 2 ('3 1') overlaps run 1"),
    ("1 3 1 3", "run 2 ('1 3') overlaps run 1"),
    ("4 2 1 2", "run 2 ('1 2') begins before run 1"),
]
OUT_OF_RANGE = [
    ("1 13", "run 1 ('1 13') is out of range, as there are 12 positions"),
    ("1 2 12 2", "run 2 ('12 2') is out of range"),
    ("13 1 5 1", "run 1 ('13 1') is out of range"),
    ("999999999999999 999999999999999", "run 1"),
]


@pytest.mark.parametrize(("text", "reason"), MALFORMED + OUT_OF_RANGE)
def test_malformed_code_is_refused_with_the_first_fault(text, reason):
    with pytest.raises(VoclabError, match=re.escape(reason)):
        rle_decode(text, (3, 4))
    with pytest.raises(VoclabError, match=re.escape(reason)):
        decode_segmentation(text, (2, 2), classes=3)


@settings(deadline=None, max_examples=300)
@given(
    st.text("0123 9+", max_size=12)
    | st.lists(st.integers(0, 14), max_size=8).map(lambda n: " ".join(map(str, n)))
)
def test_code_is_accepted_exactly_when_a_plain_reading_accepts_it(text):
    numbers = (
        [int(token) if re.fullmatch("[0-9]+", token) else -1 for token in text.split(" ")] if text else []
    )
    positions = []
    for start, length in zip(numbers[::2], numbers[1::2]):
        positions += range(start, start + min(length, 50))
    sound = (
        len(numbers) % 2 == 0
        and all(number >= 1 for number in numbers)
        and all(a < b for a, b in pairwise(positions))
        and all(position <= 12 for position in positions)
    )
    if sound:
        assert (np.flatnonzero(rle_decode(text, (12,))) + 1).tolist() == positions
    else:
        with pytest.raises(VoclabError, match=r"Run-length code: .*; expected are pairs"):
            rle_decode(text, (12,))


def test_runs_that_touch_are_legal():
    assert rle_decode("1 2 3 1", (4,)).tolist() == [1, 1, 1, 0]


def test_a_pixel_of_two_classes_is_no_label_map():
    text = rle_encode(np.ones((2, 1, 3), np.uint8))
    with pytest.raises(VoclabError, match="3 pixels are given to a second class"):
        decode_segmentation(text, (1, 3), classes=2)


# --- writing -----------------------------------------------------------------------------------


def test_a_submission_has_two_rows_for_each_id_in_order(tmp_path):
    label_map = np.array([[0, 2], [2, 1]])
    label_vectors = np.zeros((2, 20), int)
    label_vectors[0, :2] = label_vectors[1, 19] = 1
    report = write_submission(tmp_path / "s.csv", ["b", 7], label_vectors, [label_map, label_map * 0])
    assert (tmp_path / "s.csv").read_bytes() == (
        b"Id,Predicted\nb_classification,1 2\nb_segmentation,4 1 6 2\n"
        b"7_classification,20 1\n7_segmentation,\n"
    )
    assert (report.rows, report.ids, report.kinds) == (4, ("b", "7"), ("classification", "segmentation"))


def test_one_kind_can_be_written_alone_and_the_two_files_merged(tmp_path):
    ids, vectors, maps = ["a", "b", "c"], some_labels(3), some_maps(3)
    write_submission(tmp_path / "both.csv", ids, vectors, maps)
    assert write_submission(tmp_path / "c.csv", ids, labels=vectors).kinds == ("classification",)
    # The other notebook's order does not matter: the first part leads.
    assert write_submission(tmp_path / "s.csv", ids[::-1], label_maps=maps[::-1]).kinds == ("segmentation",)
    report = merge_submissions(tmp_path / "merged.csv", tmp_path / "c.csv", tmp_path / "s.csv")
    assert (tmp_path / "merged.csv").read_bytes() == (tmp_path / "both.csv").read_bytes()
    assert report == check_submission(tmp_path / "both.csv")


def test_the_result_of_a_merge_may_replace_one_of_its_parts(tmp_path):
    write_submission(tmp_path / "both.csv", "ab", some_labels(2), some_maps(2))
    write_submission(tmp_path / "c.csv", "ab", some_labels(2))
    write_submission(tmp_path / "s.csv", "ab", label_maps=some_maps(2))
    merge_submissions(tmp_path / "s.csv", tmp_path / "c.csv", tmp_path / "s.csv")
    assert (tmp_path / "s.csv").read_bytes() == (tmp_path / "both.csv").read_bytes()


def failing_maps():
    yield np.zeros((2, 2), int)
    raise FileNotFoundError(2, "No such file", "mask.png")


@pytest.mark.parametrize(
    ("ids", "vectors", "maps", "reason"),
    [
        (["a", "b"], some_labels(1), None, "labels for only 1 of 2 ids"),
        (["a", "b"], some_labels(3), None, "more labels than the 2 ids"),
        (["a", "b"], some_labels(2), some_maps(1), "label maps for only 1 of 2 ids"),
        (["a", "b"], some_labels(2), some_maps(3), "more label maps than the 2 ids"),
        (["a", "b"], None, [np.zeros((2, 2), int), np.full((2, 2), 33)], "id b: A label map holds 33"),
        (["a", "b"], some_labels(2) * 0.5, None, "id a: .*0 and 1"),
        (["a", "b"], None, failing_maps(), r"id b cannot be read \(.*mask.png"),
        (["a", "a"], some_labels(2), None, "id a is there twice"),
        (["a", "b,c"], some_labels(2), None, "id 'b,c'"),
        (["a", "b\n"], some_labels(2), None, "line break"),
        (["a", ""], some_labels(2), None, "id '' is empty"),
        ([], some_labels(0), None, "there are no ids"),
        (["a", "b"], None, None, "neither labels nor label maps"),
    ],
)
def test_what_cannot_be_written_leaves_the_earlier_file(tmp_path, ids, vectors, maps, reason):
    path = tmp_path / "s.csv"
    path.write_text("earlier")
    with pytest.raises(VoclabError, match=f"s.csv was not written: .*{reason}"):
        write_submission(path, ids, vectors, maps)
    assert path.read_text() == "earlier"
    assert list(tmp_path.iterdir()) == [path]


def test_memory_does_not_grow_with_the_number_of_images(tmp_path):
    noise = np.random.default_rng(0).integers(0, 21, (60, 80)).astype(np.uint8)

    def peak(count):
        tracemalloc.start()
        write_submission(tmp_path / "s.csv", range(count), label_maps=(noise.copy() for _ in range(count)))
        size, largest = (tmp_path / "s.csv").stat().st_size, tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size, largest

    peak(1)  # fills the digit tables
    (few_size, few), (many_size, many) = peak(10), peak(40)
    assert many_size > 3.9 * few_size
    assert many < few + 0.05 * (many_size - few_size)


def test_encoding_never_needs_the_stack():
    label_map = some_maps(1, (400, 500))[0]
    encode_segmentation(label_map)
    tracemalloc.start()
    encode_segmentation(label_map)
    largest = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert largest < 20 * label_map.size / 10


# --- merging -----------------------------------------------------------------------------------


def merge_parts(tmp_path, first, second):
    (tmp_path / "one.csv").write_text("Id,Predicted\n" + first)
    (tmp_path / "two.csv").write_text("Id,Predicted\n" + second)
    return tmp_path / "one.csv", tmp_path / "two.csv"


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (
            "a_classification,\nb_classification,\n",
            "a_segmentation,\n",
            r"row 'b_segmentation' is missing in .*one.csv and .*two.csv",
        ),
        (
            "a_classification,\n",
            "a_segmentation,\nb_segmentation,\n",
            r"row 'b_classification' is missing in .*one.csv and .*two.csv",
        ),
        (
            "a_classification,\n",
            "a_classification,\na_segmentation,\n",
            r"two.csv, line 2 repeats row 'a_classification' of .*one.csv",
        ),
        ("a_classification,\n", "a_segmentation,1\n", r"two.csv, line 2, column Predicted: .* is odd"),
        (
            "a_classification,\na_classification,\n",
            "a_segmentation,\n",
            r"one.csv, line 3, column Id: .* twice",
        ),
        ("", "a_segmentation,\n", r"one.csv, line 2, column Id: there are no rows"),
    ],
)
def test_parts_that_do_not_make_a_whole_are_not_merged(tmp_path, first, second, message):
    parts = merge_parts(tmp_path, first, second)
    path = tmp_path / "merged.csv"
    path.write_text("earlier")
    with pytest.raises(VoclabError, match=message):
        merge_submissions(path, *parts)
    assert path.read_text() == "earlier"
    assert len(list(tmp_path.iterdir())) == 3


def test_halves_of_the_ids_can_be_merged(tmp_path):
    parts = merge_parts(tmp_path, "a_segmentation,1 1\n", "b_segmentation,2 2\n")
    assert merge_submissions(tmp_path / "m.csv", *parts).ids == ("a", "b")
    assert (tmp_path / "m.csv").read_text() == "Id,Predicted\na_segmentation,1 1\nb_segmentation,2 2\n"


def test_merging_nothing_is_refused(tmp_path):
    with pytest.raises(VoclabError, match="nothing to merge"):
        merge_submissions(tmp_path / "m.csv")


# --- checking ----------------------------------------------------------------------------------

SOUND = [
    "Id,Predicted",
    "a_classification,1 2 20 1",
    "a_segmentation,1 3 240 1",
    "b_classification,",
    "b_segmentation,7 2",
    "c_classification,3 1",
    "c_segmentation,",
]
SIZES = {"a": (3, 4), "b": (3, 4), "c": (3, 4)}


def write_lines(tmp_path, lines, end="\n"):
    path = tmp_path / "submission.csv"
    path.write_bytes("".join(line + end for line in lines).encode())
    return path


def changed(line, content):
    """The sound file with another line ``line`` (from 1); no line if ``content`` is None."""
    return SOUND[: line - 1] + ([] if content is None else [content]) + SOUND[line:]


@pytest.mark.parametrize("ids", [None, "abc", np.array(["a", "b", "c"])])
@pytest.mark.parametrize("shapes", [None, SIZES])
def test_a_sound_file_is_reported(tmp_path, ids, shapes):
    report = check_submission(write_lines(tmp_path, SOUND), ids, shapes)
    assert report.rows == 6
    assert report.ids == ("a", "b", "c")
    assert report.kinds == ("classification", "segmentation")


def test_windows_line_ends_quotes_and_a_missing_last_newline_are_sound(tmp_path):
    quoted = [",".join(f'"{column}"' for column in line.split(",")) for line in SOUND]
    for content in ("\r\n".join(SOUND), "\n".join(quoted), "\r\n".join(quoted) + "\r\n"):
        path = tmp_path / "submission.csv"
        path.write_bytes(content.encode())
        assert check_submission(path, "abc", SIZES).rows == 6


def test_a_row_longer_than_the_csv_modules_limit_is_read(tmp_path):
    checkerboard = np.indices((300, 200)).sum(0) % 2
    write_submission(tmp_path / "s.csv", ["a"], label_maps=[checkerboard])
    assert (tmp_path / "s.csv").stat().st_size > 200_000
    assert check_submission(tmp_path / "s.csv", ["a"], {"a": (300, 200)}).rows == 1


FAULTS = [
    # lines of the file, line number, column, reason
    (changed(1, "id,Predicted"), 1, "Id", "the heading is 'id'"),
    (changed(1, "\ufeffId,Predicted"), 1, "Id", r"the heading is '\ufeffId'"),
    (changed(1, "Id,Prediction"), 1, "Predicted", "the heading is 'Prediction'"),
    (changed(1, "Predicted,Id"), 1, "Id", "the heading is 'Predicted'"),
    (changed(1, "Id"), 1, "Predicted", "the heading is missing"),
    (changed(1, "Id,Predicted,Usage"), 1, "3", "beyond 'Id,Predicted'"),
    (SOUND[1:], 1, "Id", "the heading is 'a_classification'"),
    ([], 1, "Id", "the heading is ''"),
    (SOUND[:1], 2, "Id", "no rows below the header"),
    (changed(3, "a_segmentation"), 3, "Predicted", "missing"),
    (changed(3, "a_segmentation,1 3,"), 3, "3", "3 columns instead of 2"),
    (changed(3, "a_segmentation,1,3"), 3, "3", "3 columns instead of 2"),
    (changed(4, ""), 4, "Id", "the line is blank"),
    ([*SOUND, ""], 8, "Id", "the line is blank"),
    (changed(5, 'b_segmentation,"7 2'), 5, "Predicted", "quotation mark"),
    (changed(4, None), 4, "Id", "row 'b_classification' is missing before row 'b_segmentation'"),
    (changed(7, None), 7, "Id", "the file ends where row 'c_segmentation' belongs"),
    (changed(5, SOUND[3]), 5, "Id", "row 'b_classification' is there twice, first on line 4"),
    ([*SOUND, SOUND[2]], 8, "Id", "row 'a_segmentation' is there twice, first on line 3"),
    ([SOUND[0], SOUND[2], SOUND[1], *SOUND[3:]], 2, "Id", "which comes on line 3"),
    (changed(6, "c_classes,3 1"), 6, "Id", "row 'c_classes' is neither"),
    (changed(6, "c,3 1"), 6, "Id", "row 'c' is neither"),
    (changed(6, "_classification,3 1"), 6, "Id", "row '_classification' is neither"),
    (changed(2, "a_classification,1 2 20 2"), 2, "Predicted", "out of range, as there are 20 positions"),
    (changed(2, "a_classification,21 1"), 2, "Predicted", "out of range, as there are 20 positions"),
    *[(changed(5, f"b_segmentation,{text}"), 5, "Predicted", reason) for text, reason in MALFORMED],
]


CSV = "\n".join([*SOUND, ""])
FORMATS = {  # content -> what is said
    "zip": (
        zip_of(("s.csv", CSV.encode()), ("__MACOSX/._s.csv", b"x")),
        "a zip archive.*name the CSV file in it, s.csv",
    ),
    "zip of two": (zip_of(("a.csv", b""), ("b.csv", b"")), "a zip archive.*name the CSV file in it$"),
    "cut zip": (zip_of(("s.csv", CSV.encode()))[:40], "a zip archive"),
    "empty zip": (zip_of(), "a zip archive"),
    "xlsx": (
        zip_of(("[Content_Types].xml", b"<x/>"), ("xl/workbook.xml", b"")),
        "a spreadsheet.*save it as CSV",
    ),
    "ods": (zip_of(("mimetype", b"application/vnd.oasis.opendocument.spreadsheet")), "a spreadsheet"),
    "xls": (bytes.fromhex("d0cf11e0a1b11ae1"), "an Excel file"),
    "gzip": (gzip.compress(CSV.encode()), "a gzip file.*unpack it"),
    "bz2": (bz2.compress(CSV.encode()), "a bzip2 file.*unpack it"),
    "xz": (lzma.compress(CSV.encode()), "an xz file.*unpack it"),
    "tar": (tar_of(("s.csv", CSV.encode())), "no text"),
    "parquet": (b"PAR1\x15\x04\x15", "a Parquet file.*save the table as CSV"),
    "npy": (b"\x93NUMPY\x01\x00v\x00", "a NumPy array"),
    "json": (b'{"Id": 1}', "JSON"),
    "html": (b"<!DOCTYPE html>\n<html>", "HTML"),
    "utf-16": (CSV.encode("utf-16"), "UTF-16 text; save it as UTF-8"),
    "utf-16 without mark": (CSV.encode("utf-16-be"), "UTF-16 text; save it as UTF-8"),
    "bytes": (bytes(range(256)), "no text"),
    "semicolons": (CSV.replace(",", ";").encode(), "separated by semicolons; save it with commas"),
    "quoted tabs": (b'"Id"\t"Predicted"\r\n', "separated by tabs"),
    "bom and semicolons": (CSV.replace(",", ";").encode("utf-8-sig"), "separated by semicolons"),
    "bom": (CSV.encode("utf-8-sig"), r"line 1, column Id: .*byte order mark"),
    "long line": (b"x" * 10**6, "line 1, column Id: the heading is 'xxx"),
}


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_no_csv_file_is_called_by_its_name(tmp_path, name):
    path, (content, said) = tmp_path / "submission.csv", FORMATS[name]
    path.write_bytes(content)
    for read in (
        check_submission,
        partial(score_submission, truth_path=path),
        partial(merge_submissions, tmp_path / "m.csv"),
    ):
        message = fails(said.replace("$", r"\.$"), read, path)
        assert str(path) in message
        assert len(message) < 400


def test_a_folder_is_called_one(tmp_path):
    fails("cannot be read, it is a folder; name the CSV file in it", check_submission, tmp_path)


@pytest.mark.parametrize("kind", ["classification", "segmentation"])
def test_rows_that_are_all_empty_are_remarked(tmp_path, kind, capsys):
    lines = [f"{line.partition(',')[0]}," if f"_{kind}" in line else line for line in SOUND]
    path = write_lines(tmp_path, lines)
    assert check_submission(path).empty == (kind,)
    assert merge_submissions(tmp_path / "m.csv", path).empty == (kind,)
    assert main(["submit", "check", str(path)]) == 0
    assert f"All its {kind} rows are empty" in capsys.readouterr().out
    assert main(["submit", "check", str(write_lines(tmp_path, SOUND))]) == 0
    assert "rows are empty" not in capsys.readouterr().out


def test_data_of_other_classes_has_no_submission(tmp_path, capsys):
    for name in ("cats", "dogs"):
        for split in ("train", "val"):
            (tmp_path / "pets" / split / name).mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(tmp_path / "pets" / split / name / f"{split}.png")
    path = write_lines(tmp_path, SOUND)
    assert main(["submit", "check", str(path), "--data", str(tmp_path / "pets")]) == 2
    assert "other classes than the competition's twenty" in capsys.readouterr().err
    assert main(["submit", "truth", "--data", str(tmp_path / "pets"), "--to", str(tmp_path / "t.csv")]) == 2
    assert "VOC's 20 classes, and" in capsys.readouterr().err


# --- the truth ---------------------------------------------------------------------------------


def _truth(names=VOC_CLASSES, labels=True, masks=True):
    rng = np.random.default_rng(0)
    maps = rng.choice([0, *range(1, len(names) + 1), 255], (3, 5, 4)).astype(np.uint8)
    table = rng.integers(0, 2, (3, len(names))).astype(np.uint8)
    return Dataset(
        "drawn", "val", "multilabel", ("a", "b", "c"), tuple(names), table if labels else None, None,
        (lambda i: maps[i]) if masks else None, "drawn",
    )  # fmt: skip


def test_the_truth_is_what_its_labels_and_masks_encode_to(tmp_path):
    data = _truth()
    report = write_truth(tmp_path / "truth.csv", data)
    maps = [data.mask(i) for i in range(3)]
    write_submission(tmp_path / "s.csv", data.ids, data.labels, [np.where(m == 255, 0, m) for m in maps])
    assert (tmp_path / "truth.csv").read_bytes() == (tmp_path / "s.csv").read_bytes()
    assert report == check_submission(tmp_path / "truth.csv", data.ids, {name: (5, 4) for name in data.ids})
    assert score_submission(tmp_path / "s.csv", tmp_path / "truth.csv").mean == 1.0


def test_the_truth_of_classes_in_another_order_is_the_same(tmp_path):
    data, order = _truth(), np.random.default_rng(1).permutation(20)
    values = np.arange(256)
    values[order + 1] = np.arange(1, 21)
    other = replace(
        data,
        class_names=tuple(VOC_CLASSES[k] for k in order),
        labels=data.labels[:, order],
        read_mask=lambda i: values[data.mask(i)].astype(np.uint8),
    )
    for name, dataset in (("a.csv", data), ("b.csv", other)):
        write_truth(tmp_path / name, dataset)
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_the_truth_without_masks_has_no_segmentation_rows(tmp_path):
    assert write_truth(tmp_path / "truth.csv", _truth(masks=False)).kinds == ("classification",)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (_truth(labels=False), "drawn val has no truth; name data or a --split that has"),
        (_truth(VOC_CLASSES[:19]), "VOC's 20 classes, and drawn val has others"),
        (_truth([*VOC_CLASSES[:19], "unicorn"]), "VOC's 20 classes"),
        (replace(_truth(), read_mask=lambda i: None), "no mask of a; name a --split with masks"),
        (replace(_truth(), read_mask=lambda i: np.full((2, 2), 30, np.uint8)), "id a: A label map holds 30"),
    ],
)
def test_no_truth_is_made_of_what_has_none(tmp_path, data, said):
    fails(f"truth.csv was not written: .*{said}", write_truth, tmp_path / "truth.csv", data)
    assert list(tmp_path.iterdir()) == []


def test_the_command_writes_the_truth_of_trees_and_of_the_competitions_layout(tmp_path, capsys):
    tree = make_tree(tmp_path / "voc")
    names = tree.splits["val"]
    truth, other = str(tmp_path / "truth.csv"), str(tmp_path / "other.csv")
    assert main(["submit", "truth", "--data", str(tmp_path / "voc"), "--to", truth]) == 0
    assert "8 rows, 4 images" in capsys.readouterr().out
    write_submission(other, names, [tree.labels[n] for n in names], [tree.masks[n] for n in names])
    assert Path(truth).read_bytes() == Path(other).read_bytes()
    layout, apart = str(tmp_path / "layout"), str(tmp_path / "apart")
    assert main(["data", "export", "--data", str(tmp_path / "voc"), "--to", layout, "--truth", apart]) == 0
    assert main(["submit", "truth", "--data", layout, "--to", truth]) == 2
    assert "has no truth" in capsys.readouterr().err
    assert main(["submit", "truth", "--data", layout, "--truth", apart, "--to", truth]) == 0
    write_submission(other, range(4), [tree.labels[n] for n in names], [tree.masks[n] for n in names])
    assert Path(truth).read_bytes() == Path(other).read_bytes()
    assert main(["submit", "truth", "--data", str(tmp_path / "voc"), "--truth", apart, "--to", truth]) == 2
    assert "brings its own truth" in capsys.readouterr().err


@pytest.mark.parametrize("ids", [None, "abc"])
@pytest.mark.parametrize(("lines", "line", "column", "reason"), FAULTS)
def test_the_first_fault_is_named_with_line_and_column(tmp_path, lines, line, column, reason, ids):
    path = write_lines(tmp_path, lines)
    message = f"submission.csv, line {line}, column {column}: .*{re.escape(reason)}"
    with pytest.raises(VoclabError, match=message) as error:
        check_submission(path, ids)
    assert "\n" not in str(error.value)


def test_ids_that_are_not_utf8_are_named(tmp_path):
    path = tmp_path / "s.csv"
    path.write_bytes(b"Id,Predicted\na\xff_classification,\n")
    with pytest.raises(VoclabError, match=r"line 2, column Id: this is not UTF-8"):
        check_submission(path)


def test_rows_follow_the_given_ids(tmp_path):
    path = write_lines(tmp_path, SOUND)
    with pytest.raises(
        VoclabError, match=r"line 2, column Id: row 'a_classification' stands where 'b_class.* line 4"
    ):
        check_submission(path, "bac")
    with pytest.raises(
        VoclabError, match=r"line 6, column Id: row 'c_classification' is of none of the 2 exp"
    ):
        check_submission(path, "ab")
    with pytest.raises(
        VoclabError, match=r"line 8, column Id: the file ends where row 'd_classification' belongs"
    ):
        check_submission(path, "abcd")
    with pytest.raises(VoclabError, match=r"line 4, column Id: row 'bb_classification' is missing before"):
        check_submission(path, ["a", "bb", "b", "c"])


def test_ids_that_are_not_next_to_each_other_are_out_of_order(tmp_path):
    path = write_lines(tmp_path, [SOUND[i] for i in (0, 1, 3, 5, 2, 4, 6)])
    with pytest.raises(
        VoclabError, match=r"line 3, column Id: .* 'a_segmentation' belongs, which comes on line 5"
    ):
        check_submission(path)


def test_the_size_of_the_image_bounds_the_runs(tmp_path):
    path = write_lines(tmp_path, changed(5, "b_segmentation,7 2 240 2"))
    assert check_submission(path).rows == 6
    with pytest.raises(
        VoclabError, match=r"line 5, column Predicted: run 2 \('240 2'\) is out of range, .* 240 pos"
    ):
        check_submission(path, shapes=SIZES)
    with pytest.raises(VoclabError, match=r"line 5, column Id: the image size of id b is not known"):
        check_submission(path, shapes={"a": (3, 4)})
    with pytest.raises(VoclabError, match=r"line 2, column Predicted: .* as there are 5 positions"):
        check_submission(path, classes=5)


def test_the_earliest_of_several_faults_is_the_one_named(tmp_path):
    lines = list(SOUND)
    lines[6] = "no columns"
    lines[5] = "b_classification,"
    lines[4] = "b_segmentation,7 x"
    path = write_lines(tmp_path, lines)
    with pytest.raises(VoclabError, match="line 5, column Predicted"):
        check_submission(path)
    lines[4] = SOUND[4]
    with pytest.raises(VoclabError, match=r"line 6, column Id: .* twice"):
        check_submission(write_lines(tmp_path, lines))
    lines[5] = SOUND[5]
    with pytest.raises(VoclabError, match=r"line 7, column Predicted: this column is missing"):
        check_submission(write_lines(tmp_path, lines))


def test_a_missing_file_is_named(tmp_path):
    for call in (check_submission, lambda path: score_submission(path, path)):
        with pytest.raises(VoclabError, match=r"nowhere.csv is missing"):
            call(tmp_path / "nowhere.csv")
    with pytest.raises(VoclabError, match="cannot be read"):
        check_submission(tmp_path)


# --- scoring -----------------------------------------------------------------------------------


def score_of(folder, ids, predicted, truth):
    for name, (vectors, maps) in {"pred.csv": predicted, "truth.csv": truth}.items():
        write_submission(folder / name, ids, vectors, maps)
    return score_submission(folder / "pred.csv", folder / "truth.csv")


@settings(deadline=None, max_examples=60)
@given(st.data(), SHAPES)
def test_the_score_is_the_dice_of_the_decoded_arrays(tmp_path_factory, data, shape):
    folder = tmp_path_factory.mktemp("score")
    maps = [data.draw(label_maps(st.sampled_from([0, 1, 2, 20]), st.just(shape))) for _ in range(4)]
    vectors = [data.draw(hnp.arrays(np.uint8, 20, elements=st.integers(0, 1))) for _ in range(4)]
    score = score_of(folder, "ab", (vectors[:2], maps[:2]), (vectors[2:], maps[2:]))
    classification = [plain_dice(vectors[i], vectors[i + 2]) for i in range(2)]
    segmentation = [plain_dice(plain_stack(maps[i]), plain_stack(maps[i + 2])) for i in range(2)]
    np.testing.assert_allclose(score.dice[::2], classification, rtol=0, atol=1e-15)
    np.testing.assert_allclose(score.dice[1::2], segmentation, rtol=0, atol=1e-15)
    assert score.mean == pytest.approx(np.mean(classification + segmentation), abs=1e-15)
    assert score.classification == pytest.approx(np.mean(classification), abs=1e-15)
    assert score.segmentation == pytest.approx(np.mean(segmentation), abs=1e-15)


def test_real_masks_score_as_their_decoded_arrays_do(shared, tmp_path):
    root = shared / "voc2009/VOCdevkit/VOC2009"
    ids = (root / "ImageSets/Segmentation/val.txt").read_text().split()[:60:4]
    truth = [np.array(Image.open(root / "SegmentationClass" / f"{name}.png")) for name in ids]
    predicted = [np.roll(label_map, (7, -11), (0, 1)) for label_map in truth]
    predicted[3] = np.where(predicted[3] > 0, 15, 0)
    write_submission(tmp_path / "pred.csv", ids, label_maps=predicted)
    write_submission(tmp_path / "truth.csv", ids, label_maps=truth)
    score = score_submission(tmp_path / "pred.csv", tmp_path / "truth.csv")
    expected = [plain_dice(plain_stack(a), plain_stack(b)) for a, b in zip(predicted, truth)]
    assert 0.3 < np.mean(expected) < 0.97
    np.testing.assert_allclose(score.dice, expected, rtol=0, atol=1e-15)
    assert score.rows == tuple(f"{name}_segmentation" for name in ids)
    assert score.mean == score.segmentation == pytest.approx(np.mean(expected), abs=1e-14)
    assert score.classification is None


def test_many_rows_of_many_sizes_score_as_their_decoded_arrays_do(tmp_path):
    shapes = [(12 + i % 7, 14 + i) for i in range(50)]
    truth = [some_maps(1, shape, seed=i)[0] for i, shape in enumerate(shapes)]
    predicted = [np.roll(label_map, 1) * (i % 5 > 0) for i, label_map in enumerate(truth)]
    vectors, guesses = some_labels(50), some_labels(50, seed=1)
    score = score_of(tmp_path, range(50), (guesses, predicted), (vectors, truth))
    expected = [
        dice
        for i in range(50)
        for dice in (
            plain_dice(guesses[i], vectors[i]),
            plain_dice(plain_stack(predicted[i]), plain_stack(truth[i])),
        )
    ]
    assert len(set(expected)) > 25
    np.testing.assert_allclose(score.dice, expected, rtol=0, atol=1e-15)


def test_a_faulty_row_among_many_is_named(tmp_path):
    write_submission(tmp_path / "truth.csv", range(50), some_labels(50), some_maps(50))
    lines = (tmp_path / "truth.csv").read_text().splitlines()
    for line in (1 + 1, 1 + 64, 1 + 100):
        wrong = [*lines[: line - 1], lines[line - 1].split(",")[0] + ",1 2 0 3 4", *lines[line:]]
        (tmp_path / "pred.csv").write_text("\n".join(wrong))
        with pytest.raises(VoclabError, match=rf"pred.csv, line {line}, column Predicted: .*5, is odd"):
            score_submission(tmp_path / "pred.csv", tmp_path / "truth.csv")


def test_two_empty_rows_agree_and_one_empty_row_does_not(tmp_path):
    empty, full = np.zeros((2, 2), int), np.ones((2, 2), int)
    score = score_of(tmp_path, "abc", (None, [empty, full, empty]), (None, [empty, empty, full]))
    assert score.dice.tolist() == [1, 0, 0]


def test_rows_are_matched_by_name_not_by_place(tmp_path):
    vectors, maps = some_labels(5), some_maps(5)
    write_submission(tmp_path / "truth.csv", "abcde", vectors, maps)
    write_submission(tmp_path / "pred.csv", "edcba", vectors[::-1], maps[::-1])
    score = score_submission(tmp_path / "pred.csv", tmp_path / "truth.csv")
    assert score.mean == 1
    assert score.rows[:2] == ("a_classification", "a_segmentation")


def test_touching_runs_score_like_merged_ones(tmp_path):
    for name, code in (("pred.csv", "1 2 3 2 9 1"), ("truth.csv", "2 3 5 1")):
        (tmp_path / name).write_text(f"Id,Predicted\na_segmentation,{code}\n")
    assert score_submission(tmp_path / "pred.csv", tmp_path / "truth.csv").mean == 2 * 3 / (5 + 4)


@pytest.mark.parametrize(
    ("predicted", "truth", "message"),
    [
        (
            "a_segmentation,\n",
            "a_segmentation,\nb_segmentation,\n",
            "pred.csv lacks row 'b_segmentation' of .*truth.csv",
        ),
        (
            "a_segmentation,\nb_segmentation,\n",
            "a_segmentation,\n",
            "pred.csv, line 3, column Id: .*not in .*truth",
        ),
        ("a_segmentation,\na_segmentation,\n", "a_segmentation,\n", "pred.csv, line 3, column Id: .*twice"),
        ("a_segmentation,2 1 1 1\n", "a_segmentation,\n", "pred.csv, line 2, column Predicted: run 2"),
        ("a_segmentation,\n", "a_segmentation,1\n", "truth.csv, line 2, column Predicted: .*odd"),
        ("a_masks,\n", "a_masks,\n", "pred.csv, line 2, column Id: row 'a_masks' is neither"),
        ("", "", "pred.csv, line 2, column Id: there are no rows"),
    ],
)
def test_files_that_do_not_match_have_no_score(tmp_path, predicted, truth, message):
    (tmp_path / "pred.csv").write_text("Id,Predicted\n" + predicted)
    (tmp_path / "truth.csv").write_text("Id,Predicted\n" + truth)
    with pytest.raises(VoclabError, match=message):
        score_submission(tmp_path / "pred.csv", tmp_path / "truth.csv")
