"""Encoding, writing, merging, checking and scoring a submission, against the plain definitions."""

import gzip
import json
import re
import tracemalloc
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from voc_trees import fails, make_tree, zip_of

from voclab.cli import main
from voclab.data import VOC_CLASSES, VOID, Dataset
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
# Label maps and labels with the strings that the course's own code gives for them.
INLINE = json.loads((ROOT / "tests/data/submission_cases.json").read_text())


def label_maps(values, shapes=SHAPES):
    """Maps of large patches and of noise alike."""
    noise = hnp.arrays(np.uint8, shapes, elements=values)
    patches = hnp.arrays(np.uint8, shapes, elements=values, fill=values)
    return noise | patches


def plain_encode(array):
    """The definition, read literally: one position after the other."""
    runs, inside = [], False
    for position, value in enumerate(np.asarray(array).flatten().tolist(), 1):
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
@given(
    label_maps(st.sampled_from([0, 1, 2, 7, 19, 20, VOID])),
    st.sampled_from([np.uint8, np.uint16, np.int32, np.int64, np.uint64]),
)
def test_label_maps_of_any_integer_type_encode_as_their_stack_does_and_come_back(label_map, dtype):
    text = encode_segmentation(np.asfortranarray(label_map.astype(dtype)))
    assert text == plain_encode(plain_stack(label_map))
    decoded = decode_segmentation(text, label_map.shape)
    np.testing.assert_array_equal(decoded, np.where(label_map == VOID, 0, label_map))
    assert decoded.dtype == np.uint8


def test_every_inline_case_encodes_to_the_golden_strings_and_back():
    assert len(INLINE) >= 20
    for case in INLINE:
        label_map = np.array(case["label_map"]).reshape(case["shape"])
        assert encode_segmentation(label_map) == case["segmentation"], case["name"]
        assert encode_classification(case["labels"]) == case["classification"], case["name"]
        decoded = decode_segmentation(case["segmentation"], case["shape"])
        np.testing.assert_array_equal(decoded, label_map, case["name"])
        np.testing.assert_array_equal(rle_decode(case["classification"], (20,)), case["labels"], case["name"])


def test_nothing_set_is_the_empty_string():
    for label_map in (np.zeros((3, 4), int), np.full((3, 4), VOID), np.zeros((0, 4), int)):
        assert encode_segmentation(label_map) == ""
    assert encode_classification(np.zeros(20)) == rle_encode(np.zeros((0,))) == ""
    assert not rle_decode("", (2, 3)).any()


def test_encoding_never_needs_the_stack():
    label_map = some_maps(1, (400, 500))[0]
    tracemalloc.start()
    encode_segmentation(label_map)
    largest = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert largest < 20 * label_map.size / 5


@pytest.mark.parametrize(
    ("encode", "array", "said"),
    [
        *[(encode_segmentation, [[VOID, 0], [0, value]], f"holds {value};") for value in (21, 254, -1, 256)],
        (encode_segmentation, np.zeros((4, 5)), r"\(4, 5\) float64"),
        (encode_segmentation, np.zeros((4, 5), bool), r"\(4, 5\) bool"),
        (encode_segmentation, np.zeros((4, 5, 1), int), r"\(4, 5, 1\)"),
        *[(encode_classification, np.full(20, value), "0 and 1") for value in (0.3, -1, np.nan, 2)],
        *[(encode_classification, np.zeros(s), re.escape(str(s))) for s in ((21,), (1, 20), ())],
    ],
)
def test_what_has_no_code_is_refused(encode, array, said):
    fails(said, encode, np.array(array))


MALFORMED = [
    ("1", "the count of numbers, 1, is odd"),
    ("1 x", "number 2 is 'x'"),
    ("+1 2", "number 1 is '+1'"),
    ("1 ١", "number 2 is '١'"),
    ("1\t2", "number 1 is"),
    ("1  2", "space too many before number 2"),
    (" 1 2", "space too many before number 1"),
    (f"1 {10**15}", "number 2 is '1000000000000000'"),
    (f"1 {'9' * 5000}", "up to 15 digits"),
    ("0 2", "run 1 ('0 2') has a start or a length below 1"),
    ("1 2 3 0", "run 2 ('3 0') has a start or a length below 1"),
    ("1 3 3 1", "run 2 ('3 1') begins before run 1 ends"),
]
OUT_OF_RANGE = [
    ("1 13", "run 1 ('1 13') is out of range, as there are 12 positions"),
    ("999999999999999 999999999999999", "run 1"),
]


@pytest.mark.parametrize(("text", "reason"), MALFORMED + OUT_OF_RANGE)
def test_malformed_code_is_refused_with_the_first_fault(text, reason):
    for decode, shape in ((rle_decode, (3, 4)), (partial(decode_segmentation, classes=3), (2, 2))):
        fails(re.escape(reason), decode, text, shape)


@settings(deadline=None, max_examples=300)
@given(
    st.text("0123 9+", max_size=12)
    | st.lists(st.integers(0, 14), max_size=8).map(lambda n: " ".join(map(str, n)))
)
def test_code_is_accepted_exactly_when_a_plain_reading_accepts_it(text):
    tokens = text.split(" ") if text else []
    numbers = [int(token) if re.fullmatch("[0-9]+", token) else -1 for token in tokens]
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
        fails("Run-length code: .*; expected are pairs", rle_decode, text, (12,))


def test_a_pixel_of_two_classes_is_no_label_map():
    text = rle_encode(np.ones((2, 1, 3), np.uint8))
    fails("gives 3 pixels more than one class", decode_segmentation, text, (1, 3), classes=2)


# --- golden files of real masks ----------------------------------------------------------------


@pytest.fixture(scope="module")
def real(shared):
    """Masks of VOC 2009, known by their ids, with the strings that the course's own code gives."""
    return json.loads((shared / "golden/submission_cases.json").read_text())["real"]


@pytest.fixture(scope="module")
def real_mask(shared):
    folder = shared / "voc2009/VOCdevkit/VOC2009/SegmentationClass"
    return lambda image_id: np.array(Image.open(folder / f"{image_id}.png"))


def test_every_real_mask_encodes_to_the_golden_strings_with_void_as_background(real, real_mask):
    assert len(real) >= 10
    for case in real:
        mask = real_mask(case["id"])
        assert (mask == VOID).any(), case["id"]
        assert encode_segmentation(mask) == case["segmentation"], case["id"]
        assert encode_classification(case["labels"]) == case["classification"], case["id"]


def test_a_file_and_the_truth_of_real_masks_are_the_golden_file(shared, real, real_mask, tmp_path):
    golden = shared / "golden/submission_6_real.csv"
    names = (shared / "golden/submission_6_real.csv.ids").read_text().split()
    labels = {case["id"]: case["labels"] for case in real}
    table = np.array([labels[name] for name in names], np.uint8)
    masks = dict(enumerate(map(real_mask, names)))
    write_submission(tmp_path / "submission.csv", range(6), table, masks.values())
    ids = tuple("012345")
    data = Dataset("real", "val", "multilabel", ids, VOC_CLASSES, table, None, masks.get, "real")
    write_truth(tmp_path / "truth.csv", data)
    for name in ("submission.csv", "truth.csv"):
        assert (tmp_path / name).read_bytes() == golden.read_bytes()
    report = check_submission(golden, range(6), {i: mask.shape for i, mask in masks.items()})
    assert (report.rows, report.ids, report.kinds) == (12, ids, ("classification", "segmentation"))


# --- writing and merging -----------------------------------------------------------------------


def test_a_submission_has_two_rows_for_each_id_in_order(tmp_path):
    label_map = np.array([[0, 2], [2, 1]])
    label_vectors = np.zeros((2, 20), int)
    label_vectors[0, :2] = label_vectors[1, 19] = 1
    report = write_submission(tmp_path / "s.csv", ["b", 7], label_vectors, [label_map, label_map * 0])
    assert (tmp_path / "s.csv").read_bytes() == (
        b"Id,Predicted\nb_classification,1 2\nb_segmentation,4 1 6 2\n"
        b"7_classification,20 1\n7_segmentation,\n"
    )
    assert report == check_submission(tmp_path / "s.csv")
    assert (report.rows, report.ids, report.kinds) == (4, ("b", "7"), ("classification", "segmentation"))


@pytest.mark.parametrize(
    ("ids", "vectors", "maps", "reason"),
    [
        (["a", "b"], some_labels(1), None, "not as many labels or label maps as ids"),
        (["a", "b"], some_labels(2), some_maps(1), "not as many labels or label maps as ids"),
        (["a", "b"], None, [np.zeros((2, 2), int), np.full((2, 2), 33)], "id b: A label map holds 33"),
        (["a", "b"], some_labels(2) * 0.5, None, "id a: .*0 and 1"),
        *[(["a", name], some_labels(2), None, "an id is empty") for name in ("a", "b,c", "b\n", "", 'b"')],
        ([], some_labels(0), None, "there are no ids"),
        (["a", "b"], None, None, "neither labels nor label maps"),
    ],
)
def test_what_cannot_be_written_leaves_the_earlier_file(tmp_path, ids, vectors, maps, reason):
    path = tmp_path / "s.csv"
    path.write_text("earlier")
    fails(f"s.csv was not written: .*{reason}", write_submission, path, ids, vectors, maps)
    assert path.read_text() == "earlier"
    assert list(tmp_path.iterdir()) == [path]


def test_one_kind_can_be_written_alone_and_the_two_files_merged(tmp_path):
    ids, vectors, maps = ["a", "b", "c"], some_labels(3), some_maps(3)
    write_submission(tmp_path / "both.csv", ids, vectors, maps)
    assert write_submission(tmp_path / "c.csv", ids, labels=vectors).kinds == ("classification",)
    # The other notebook's order does not matter: the first part leads. The result may replace a part.
    assert write_submission(tmp_path / "s.csv", ids[::-1], label_maps=maps[::-1]).kinds == ("segmentation",)
    report = merge_submissions(tmp_path / "s.csv", tmp_path / "c.csv", tmp_path / "s.csv")
    assert (tmp_path / "s.csv").read_bytes() == (tmp_path / "both.csv").read_bytes()
    assert report == check_submission(tmp_path / "both.csv")


def two_files(tmp_path, first, second):
    (tmp_path / "one.csv").write_text("Id,Predicted\n" + first)
    (tmp_path / "two.csv").write_text("Id,Predicted\n" + second)
    return tmp_path / "one.csv", tmp_path / "two.csv"


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ("a_classification,\nb_classification,\n", "a_segmentation,\n", "row 'b_segmentation' is missing in"),
        ("a_classification,\n", "a_classification,\na_segmentation,\n", "two.csv, line 2 repeats row 'a_cl"),
        ("a_classification,\n", "a_segmentation,1\n", r"two.csv, line 2, column Predicted: .* is odd"),
        ("", "a_segmentation,\n", r"one.csv, line 2, column Id: there are no rows"),
    ],
)
def test_parts_that_do_not_make_a_whole_are_not_merged(tmp_path, first, second, message):
    path = tmp_path / "merged.csv"
    path.write_text("earlier")
    fails(message, merge_submissions, path, *two_files(tmp_path, first, second))
    assert path.read_text() == "earlier"
    assert len(list(tmp_path.iterdir())) == 3


def test_halves_of_the_ids_can_be_merged(tmp_path):
    parts = two_files(tmp_path, "a_segmentation,1 1\n", "b_segmentation,2 2\n")
    assert merge_submissions(tmp_path / "m.csv", *parts).ids == ("a", "b")
    assert (tmp_path / "m.csv").read_text() == "Id,Predicted\na_segmentation,1 1\nb_segmentation,2 2\n"
    fails("nothing to merge", merge_submissions, tmp_path / "m.csv")


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
    quoted = [",".join(f'"{column}"' for column in line.split(",")) for line in SOUND]
    for content in ("\n".join(SOUND) + "\n", "\r\n".join(SOUND), "\n".join(quoted)):
        path = tmp_path / "submission.csv"
        path.write_bytes(content.encode())
        report = check_submission(path, ids, shapes)
        assert (report.rows, report.ids) == (6, ("a", "b", "c"))
        assert report.kinds == ("classification", "segmentation")


def test_a_row_longer_than_the_csv_modules_limit_is_read(tmp_path):
    checkerboard = np.indices((300, 200)).sum(0) % 2
    write_submission(tmp_path / "s.csv", ["a"], label_maps=[checkerboard])
    assert (tmp_path / "s.csv").stat().st_size > 200_000
    assert check_submission(tmp_path / "s.csv", ["a"], {"a": (300, 200)}).rows == 1


FAULTS = [
    # lines of the file, line number, reason
    (changed(1, "id,Predicted"), 1, "the header is 'id,Predicted'"),
    (changed(1, "\ufeffId,Predicted"), 1, r"the header is '\ufeffId.*without a byte order mark"),
    (
        [line.replace(",", ";") for line in SOUND],
        1,
        "the header is 'Id;Predicted'.*replace the separators by commas",
    ),
    ([], 1, "the header is ''"),
    (SOUND[:1], 2, "no rows below the header"),
    (changed(3, "a_segmentation"), 3, "'a_segmentation' is not two columns"),
    (changed(4, ""), 4, "'' is not two columns"),
    (changed(5, 'b_segmentation,"7 2'), 5, "number 1 is '\"7'"),
    (changed(4, None), 4, "row 'b_segmentation' stands where 'b_classification' belongs, which is missing"),
    (changed(7, None), 7, "the file ends where row 'c_segmentation' belongs"),
    (changed(5, SOUND[3]), 5, "row 'b_classification' is there twice, first on line 4"),
    ([SOUND[0], SOUND[2], SOUND[1], *SOUND[3:]], 2, "'a_classification' belongs, which comes on line 3"),
    (changed(6, "c_classes,3 1"), 6, "row 'c_classes' is neither"),
    (changed(2, "a_classification,1 2 20 2"), 2, "out of range, as there are 20 positions"),
    (changed(5, "b_segmentation,1  2"), 5, "space too many before number 2"),
]


@pytest.mark.parametrize("ids", [None, "abc"])
@pytest.mark.parametrize(("lines", "line", "reason"), FAULTS)
def test_a_fault_is_named_with_its_line(tmp_path, lines, line, reason, ids):
    reason = reason if ".*" in reason and "(" not in reason else re.escape(reason)
    reason = reason.replace("\\ufeff", r"\\ufeff")
    fails(f"submission.csv, line {line}.*: .*{reason}", check_submission, write_lines(tmp_path, lines), ids)


CSV = "\n".join([*SOUND, ""])


@pytest.mark.parametrize(
    "content",
    [gzip.compress(CSV.encode()), zip_of(("s.csv", CSV.encode())), CSV.encode("utf-16"), bytes(range(256)),
     b'{"Id": 1}', b"x" * 10**6],
    ids=["gzip", "zip", "utf-16", "bytes", "json", "long"],
)  # fmt: skip
def test_what_is_no_csv_file_is_refused_and_says_what_to_do(tmp_path, content):
    path = tmp_path / "submission.csv"
    path.write_bytes(content)
    for read in (
        check_submission,
        partial(score_submission, truth_path=path),
        partial(merge_submissions, tmp_path / "m.csv"),
    ):
        message = fails("submission.csv, line [12]: .*save the table as CSV in UTF-8, or unpack", read, path)
        assert len(message) < 400


def test_files_that_cannot_be_read_are_named(tmp_path):
    for call in (check_submission, lambda path: score_submission(path, path)):
        fails("nowhere.csv is missing", call, tmp_path / "nowhere.csv")
    fails("cannot be read", check_submission, tmp_path)
    (tmp_path / "s.csv").write_bytes(b"Id,Predicted\na\xff_classification,\n")
    fails("s.csv, line 2: this is not UTF-8 text", check_submission, tmp_path / "s.csv")


def test_rows_follow_the_given_ids(tmp_path):
    path = write_lines(tmp_path, SOUND)
    fails("line 2, .*'a_classification' stands where 'b_class.* line 4", check_submission, path, "bac")
    fails("line 6, .*'c_classification' is of none of the 2 expected ids", check_submission, path, "ab")
    fails("line 8, .*the file ends where row 'd_classification' belongs", check_submission, path, "abcd")


def test_the_size_of_the_image_bounds_the_runs(tmp_path):
    path = write_lines(tmp_path, changed(5, "b_segmentation,7 2 240 2"))
    assert check_submission(path).rows == 6
    said = r"line 5, column Predicted: run 2 \('240 2'\) is out of range, as there are 240 positions"
    fails(said, check_submission, path, shapes=SIZES)
    fails("line 5, column Id: the image size of id b is not", check_submission, path, shapes={"a": (3, 4)})


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


def test_the_truth_is_what_its_labels_and_masks_encode_to_in_any_order_of_classes(tmp_path):
    data, order = _truth(), np.random.default_rng(1).permutation(20)
    values = np.arange(256)
    values[order + 1] = np.arange(1, 21)
    other = replace(
        data,
        class_names=tuple(VOC_CLASSES[k] for k in order),
        labels=data.labels[:, order],
        read_mask=lambda i: values[data.mask(i)].astype(np.uint8),
    )
    write_submission(tmp_path / "s.csv", data.ids, data.labels, map(data.mask, range(3)))
    for name, dataset in (("a.csv", data), ("b.csv", other)):
        report = write_truth(tmp_path / name, dataset)
        assert (tmp_path / name).read_bytes() == (tmp_path / "s.csv").read_bytes()
    assert report == check_submission(tmp_path / "a.csv", data.ids, {name: (5, 4) for name in data.ids})
    assert write_truth(tmp_path / "a.csv", _truth(masks=False)).kinds == ("classification",)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (_truth(labels=False), "drawn val has no truth; name data or a --split that has"),
        (_truth(VOC_CLASSES[:19]), "VOC's 20 classes, and drawn val has others"),
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


# --- scoring -----------------------------------------------------------------------------------


def score_of(folder, ids, predicted, truth):
    for name, (vectors, maps) in {"pred.csv": predicted, "truth.csv": truth}.items():
        write_submission(folder / name, ids, vectors, maps)
    return score_submission(folder / "pred.csv", folder / "truth.csv")


def test_the_score_is_the_dice_of_the_decoded_arrays(tmp_path):
    shapes = [(12 + i % 7, 14 + i) for i in range(50)]
    truth = [some_maps(1, shape, seed=i)[0] for i, shape in enumerate(shapes)]
    predicted = [np.roll(label_map, 1) * (i % 5 > 0) for i, label_map in enumerate(truth)]
    truth[5] = truth[5] * 0
    vectors, guesses = some_labels(50), some_labels(50, seed=1)
    score = score_of(tmp_path, range(50), (guesses, predicted), (vectors, truth))
    classes = [plain_dice(a, b) for a, b in zip(guesses, vectors)]
    masks = [plain_dice(plain_stack(a), plain_stack(b)) for a, b in zip(predicted, truth)]
    assert len(set(masks)) > 25
    assert {0, 1} < set(masks)  # one empty, both empty
    np.testing.assert_allclose(score.dice[::2], classes, rtol=0, atol=1e-15)
    np.testing.assert_allclose(score.dice[1::2], masks, rtol=0, atol=1e-15)
    means = (np.mean(classes + masks), np.mean(classes), np.mean(masks))
    assert (score.mean, score.classification, score.segmentation) == pytest.approx(means, abs=1e-14)
    assert score.rows[:3] == ("0_classification", "0_segmentation", "1_classification")


def test_rows_are_matched_by_name_and_touching_runs_count_as_merged_ones(tmp_path):
    pred, truth = two_files(
        tmp_path, "a_segmentation,1 2 3 2 9 1\nb_segmentation,\n", "b_segmentation,\na_segmentation,2 3 5 1\n"
    )
    score = score_submission(pred, truth)
    assert score.rows == ("b_segmentation", "a_segmentation")
    assert score.dice.tolist() == [1, 2 * 3 / (5 + 4)]


@pytest.mark.parametrize(
    ("predicted", "truth", "message"),
    [
        ("a_segmentation,\n", "a_segmentation,\nb_segmentation,\n", "one.csv lacks row 'b_segmentation' of"),
        ("a_segmentation,\nb_segmentation,\n", "a_segmentation,\n", "one.csv, line 3, .*not in .*two.csv"),
        ("a_segmentation,\na_segmentation,\n", "a_segmentation,\n", "one.csv, line 3, column Id: .*twice"),
        ("a_segmentation,\n", "a_segmentation,1\n", "two.csv, line 2, column Predicted: .*odd"),
    ],
)
def test_files_that_do_not_match_have_no_score(tmp_path, predicted, truth, message):
    fails(message, score_submission, *two_files(tmp_path, predicted, truth))
