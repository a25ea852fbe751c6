"""The validation split and the statistics, on label tables and on the real images."""

import json
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from voc_trees import fails, make_tree

from voclab.data import info, vocdevkit
from voclab.data.base import VOC_CLASSES, Dataset
from voclab.data.splits import fit_validation
from voclab.errors import VoclabError


def table_of(labels, task="multilabel"):
    labels = np.asarray(labels, np.uint8)
    return Dataset(
        name="table",
        split="train",
        task=task,
        ids=tuple(str(i) for i in range(len(labels))),
        class_names=tuple(f"class{k}" for k in range(labels.shape[1])),
        labels=labels,
        read_image=lambda i: np.full((2, 2, 3), i, np.uint8),
        read_mask=None,
        source="a table",
    )


def long_tail(n=200, seed=0):
    """VOC's kind of labels: one common class, rare ones, one to three an image."""
    rng = np.random.default_rng(seed)
    labels = rng.random((n, 20)) < np.geomspace(0.3, 0.015, 20)
    labels[np.arange(n), rng.integers(0, 3, n)] = True
    return labels


@pytest.mark.parametrize("seed", range(5))
def test_parts_are_disjoint_whole_and_stratified(seed):
    data = table_of(long_tail(seed=seed))
    fit, validation = fit_validation(data, 0.2, seed)
    assert (fit.split, validation.split) == ("fit", "validation")
    assert sorted(fit.ids + validation.ids, key=int) == list(data.ids)
    assert len(validation) == 0.2 * len(data)
    totals = data.labels.sum(0)
    assert np.abs(validation.labels.sum(0) - 0.2 * totals).max() <= 3  # at random: 4.1 for one sigma
    for part in (fit, validation):
        assert list(part.ids) == sorted(part.ids, key=int)
        assert (part.labels.any(0) | (totals < 2)).all()
        i = len(part) - 1
        assert (part.image(i) == int(part.ids[i])).all()
        np.testing.assert_array_equal(part.labels[i], data.labels[int(part.ids[i])])


def test_split_depends_on_the_seed_and_nothing_else():
    data = table_of(long_tail())
    np.random.seed(1)  # noqa: NPY002 - the global state must not matter
    first = fit_validation(data, 0.2, 3)[1].ids
    np.random.seed(2)  # noqa: NPY002
    assert fit_validation(data, 0.2, 3)[1].ids == first
    assert fit_validation(data, 0.2, 4)[1].ids != first


@settings(deadline=None, max_examples=60)
@given(
    n=st.integers(2, 30),
    classes=st.integers(1, 6),
    density=st.floats(0.0, 0.6),
    fraction=st.floats(0.1, 0.9),
    seed=st.integers(0, 1000),
)
def test_any_table_is_split_without_loss(n, classes, density, fraction, seed):
    labels = np.random.default_rng(seed).random((n, classes)) < density
    if not 0 < round(n * fraction) < n:
        fraction = 0.5
    fit, validation = fit_validation(table_of(labels), fraction, seed)
    assert len(validation) == round(n * fraction)
    assert sorted(fit.ids + validation.ids, key=int) == [str(i) for i in range(n)]


def test_classes_of_few_images_are_in_both_parts_and_the_size_is_kept():
    # Iterative stratification alone puts 0 of 40, then 20 of 60, into validation.
    for each in (2, 3, 5):
        fit, validation = fit_validation(table_of(np.repeat(np.eye(20), each, axis=0)), 0.2)
        assert len(validation) == 4 * each
        assert validation.labels.sum(0).max() == 1
        assert fit.labels.any(0).all()


def test_single_label_parts_are_stratified():
    data = table_of(np.repeat(np.eye(10), 20, axis=0), "multiclass")
    fit, validation = fit_validation(data, 0.2, 1)
    assert (validation.labels.sum(0) == 4).all()
    assert (fit.labels.sum(0) == 16).all()
    assert validation.ids == fit_validation(data, 0.2, 1)[1].ids
    assert list(validation.ids) == sorted(validation.ids, key=int)


def test_impossible_splits_are_one_sentence():
    data = table_of(long_tail(10))
    for fraction in (0, 1, -0.2, 1.5, float("nan")):
        fails("leaves one part of 10 images empty", fit_validation, data, fraction)
    hidden = Dataset(
        "kaggle", "test", "multilabel", ("0", "1"), VOC_CLASSES, None, lambda i: None, None, "the test set"
    )
    with pytest.raises(VoclabError, match="kaggle test has no labels"):
        fit_validation(hidden)


@pytest.mark.parametrize(
    ("task", "classes", "fraction", "needed"),
    [
        ("multilabel", 2, 0.2, 3),
        ("multilabel", 2, 0.9, 5),
        ("multiclass", 10, 0.2, 48),
        ("multiclass", 7, 0.95, 131),
    ],
)
def test_too_few_images_are_refused(task, classes, fraction, needed):
    def split(n):
        return fit_validation(table_of(np.eye(classes)[np.arange(n) % classes], task), fraction)

    fails(rf"one part of {needed - 1} images .*; take more images", split, needed - 1)
    assert task == "multilabel" or all(part.labels.any(0).all() for part in split(needed))
    assert min(map(len, split(needed))) > 0


def test_a_class_of_one_image_is_named():
    data = table_of([[1, 0, 0], [1, 0, 0], [0, 0, 1], *[[1, 0, 0]] * 20], "multiclass")
    fails("The class 'class2' of table train has 1 image, but 2 are needed", fit_validation, data, 0.2)
    fit, validation = fit_validation(table_of(np.tile([[1, 0], [1, 0]], (5, 1)), "multiclass"), 0.2)
    assert (len(fit), len(validation)) == (8, 2)  # a class without images asks for none


def test_real_images_are_stratified(shared):
    data = vocdevkit.read(shared / "voc2009", "train")
    fit, validation = fit_validation(data, 0.2, 0)
    assert set(fit.ids) | set(validation.ids) == set(data.ids)
    assert len(fit) + len(validation) == 571
    assert len(validation) == 114
    assert np.abs(validation.labels.sum(0) - 0.2 * data.labels.sum(0)).max() < 2
    i = len(validation) // 2
    np.testing.assert_array_equal(validation.mask(i), data.mask(data.ids.index(validation.ids[i])))


def test_description_counts_what_was_drawn(tmp_path):
    tree = make_tree(tmp_path, {"train": 5})
    data = vocdevkit.read(tmp_path, "train")
    found = info.describe(data, vocdevkit.count_objects(tmp_path, "train"))
    masks = [tree.masks[image] for image in data.ids]
    drawn = [len(set(np.unique(mask)) - {0, 255}) for mask in masks]
    pixels = np.concatenate([mask.ravel() for mask in masks])
    widths = sorted(mask.shape[1] for mask in masks)
    assert found["images"] == found["masks"] == 5
    assert found["width"] == {"min": widths[0], "median": widths[2], "max": widths[-1]}
    assert found["classes_per_image"] == {"min": min(drawn), "mean": np.mean(drawn), "max": max(drawn)}
    assert found["objects_per_image"] == found["classes_per_image"]  # one object a class in these trees
    assert found["background_share"] == pytest.approx((pixels == 0).mean())
    assert found["void_share"] == pytest.approx((pixels == 255).mean())
    for k, name in enumerate(VOC_CLASSES):
        assert found["classes"][name] == sum((mask == k + 1).any() for mask in masks)
    assert json.loads(json.dumps(found)) == found
    text = info.table(found)
    rows = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line}
    for name, n in found["classes"].items():
        assert rows[name] == [str(n), f"{n / 5:.1%}"]
    assert f"{found['background_share']:.1%} of the pixels" in text
    assert found["source"] in text


def test_description_without_truth_says_so():
    data = table_of(np.eye(3))
    blind = Dataset(
        "kaggle",
        "test",
        "multilabel",
        data.ids,
        data.class_names,
        None,
        data.read_image,
        None,
        "the test set",
    )
    found = info.describe(blind)
    for fact in ("classes", "classes_per_image", "objects_per_image", "background_share", "void_share"):
        assert found[fact] is None
    assert found["width"] == {"min": 2, "median": 2, "max": 2}
    assert info.table(found).count("not known") == 4


def test_reading_data_does_not_import_the_heavy_libraries():
    import subprocess

    code = (
        "import sys, voclab.data, voclab.data.splits, voclab.data.info, voclab.data.fetch;"
        "heavy = {'tensorflow', 'keras', 'albumentations', 'matplotlib', 'sklearn', 'kaggle', 'requests'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
