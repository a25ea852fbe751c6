"""The submission encoder against what the course's own code writes, byte for byte."""

import json

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

from voclab.data import VOC_CLASSES, VOID, Dataset
from voclab.kaggle import (
    check_submission,
    decode_segmentation,
    encode_classification,
    encode_segmentation,
    rle_decode,
    write_submission,
    write_truth,
)

# Label maps and labels with the strings that the course's own code gives for them.
INLINE = json.loads((ROOT / "tests/data/submission_cases.json").read_text())


@pytest.fixture(scope="module")
def real(shared):
    """The same for masks of VOC 2009, which are known by their ids only."""
    return json.loads((shared / "golden/submission_cases.json").read_text())["real"]


@pytest.fixture(scope="module")
def real_mask(shared):
    folder = shared / "voc2009/VOCdevkit/VOC2009/SegmentationClass"
    return lambda image_id: np.array(Image.open(folder / f"{image_id}.png"))


def test_every_inline_case_encodes_to_the_golden_strings():
    assert len(INLINE) >= 20
    for case in INLINE:
        label_map = np.array(case["label_map"]).reshape(case["shape"])
        for dtype in (np.uint8, np.int64):
            assert encode_segmentation(label_map.astype(dtype)) == case["segmentation"], case["name"]
        assert encode_classification(case["labels"]) == case["classification"], case["name"]


def test_every_golden_string_decodes_to_its_map_and_labels():
    for case in INLINE:
        decoded = decode_segmentation(case["segmentation"], case["shape"])
        np.testing.assert_array_equal(decoded.ravel(), case["label_map"], case["name"])
        np.testing.assert_array_equal(rle_decode(case["classification"], (20,)), case["labels"], case["name"])


def test_every_real_mask_encodes_to_the_golden_strings_with_void_as_background(real, real_mask):
    assert len(real) >= 10
    for case in real:
        mask = real_mask(case["id"])
        assert (mask == VOID).any(), case["id"]
        assert encode_segmentation(mask) == case["segmentation"], case["id"]
        assert encode_classification(case["labels"]) == case["classification"], case["id"]
        decoded = decode_segmentation(case["segmentation"], case["shape"])
        np.testing.assert_array_equal(decoded, np.where(mask == VOID, 0, mask), case["id"])


def test_the_whole_file_is_the_golden_file(shared, real, real_mask, tmp_path):
    golden = shared / "golden/submission_6_real.csv"
    names = (shared / "golden/submission_6_real.csv.ids").read_text().split()
    labels = {case["id"]: case["labels"] for case in real}
    path = tmp_path / "submission.csv"
    write_submission(path, range(6), [labels[name] for name in names], map(real_mask, names))
    assert path.read_bytes() == golden.read_bytes()


def test_the_truth_of_the_same_images_is_the_golden_file(shared, real, real_mask, tmp_path):
    names = (shared / "golden/submission_6_real.csv.ids").read_text().split()
    labels = {case["id"]: case["labels"] for case in real}
    table = np.array([labels[name] for name in names], np.uint8)
    ids = tuple(map(str, range(6)))
    masks = {i: real_mask(name) for i, name in enumerate(names)}
    data = Dataset("real", "val", "multilabel", ids, VOC_CLASSES, table, None, masks.get, "real")
    write_truth(tmp_path / "truth.csv", data)
    assert (tmp_path / "truth.csv").read_bytes() == (shared / "golden/submission_6_real.csv").read_bytes()


def test_the_golden_file_passes_the_check(shared, real_mask):
    names = (shared / "golden/submission_6_real.csv.ids").read_text().split()
    shapes = {i: real_mask(name).shape for i, name in enumerate(names)}
    report = check_submission(shared / "golden/submission_6_real.csv", ids=range(6), shapes=shapes)
    assert report.rows == 12
    assert report.ids == tuple("012345")
    assert report.kinds == ("classification", "segmentation")
