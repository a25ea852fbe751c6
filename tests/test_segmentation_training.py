"""Segmentation runs: what they leave, resuming, phases, refit, measuring, stored masks."""

import shutil
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from voclab.data.masks import decode as decode_mask
from voclab.data.splits import fit_validation
from voclab.data.vocdevkit import encode_mask
from voclab.errors import VoclabError
from voclab.files import write_json
from voclab.metrics import SegmentationMetrics
from voclab.models.network import Network
from voclab.models.prediction import TestTime
from voclab.models.segmenters import ENCODER
from voclab.training import Experiment, Parts, Recipe, Run, Work
from voclab.training.experiment import refit, run
from voclab.training.masks import StoredMasks, write_masks
from voclab.training.segmentation import Segmentation, build, measure, predicted_masks

RECIPE = Recipe(size=32, augmentation="standard", epochs=3, learning_rate=1e-2, batch_size=8, warmup=0.0)
TASK = Segmentation(TestTime((64,)))
SCRATCH = Experiment(
    "scratch", TASK, "unet", RECIPE, loss="cross_entropy_dice", options={"width": 4, "depth": 2}
)
CNN = {"width": 8, "options": {"width": 4}}
DECODER = replace(RECIPE, epochs=2, learning_rate=3e-2, seed=1)
FROZEN = replace(SCRATCH, name="frozen", recipe=DECODER, backbone="cnn", frozen=True, options=CNN)
TUNED = replace(FROZEN, name="tuned", recipe=replace(RECIPE, epochs=1), frozen=False, start="frozen")


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""


def quiet(line):
    """For runs whose progress nobody reads."""


@pytest.fixture(scope="module")
def parts(squares):
    fit_set, validation = fit_validation(squares.subset(range(36)), 0.3, seed=0)
    return Parts(fit_set, validation, squares.subset(range(36, 48), "test"))


@pytest.fixture(scope="module")
def scratch(parts, tmp_path_factory):
    return run(SCRATCH, parts, tmp_path_factory.mktemp("runs"), progress=quiet)


@pytest.fixture(scope="module")
def phases(parts, tmp_path_factory):
    """A frozen run and the fine-tuning that goes on from it."""
    folder = tmp_path_factory.mktemp("phases")
    return [run(e, parts, folder, progress=quiet) for e in (FROZEN, TUNED)]


def _without_seconds(history):
    return [{k: v for k, v in entry.items() if k != "seconds"} for entry in history]


def _all_masks(run, dataset, part="test"):
    stored = predicted_masks(run, part)
    return [stored[name] for name in dataset.ids]


def _noting(dataset, read):
    """The same data set, which notes the ids of the images that are read."""

    def image(i):
        read.append(dataset.ids[i])
        return dataset.image(i)

    return replace(dataset, read_image=image)


def test_a_run_leaves_everything_that_figures_need(scratch, parts):
    names = {path.name for path in scratch.folder.iterdir()}
    assert names == {
        "config.json",
        "history.json",
        "metrics.json",
        "model.keras",
        "predictions.npz",
        "validation_masks.zip",
        "test_masks.zip",
    }
    assert scratch.complete
    assert [entry["epoch"] for entry in scratch.history] == [0, 1, 2, 3]
    assert scratch.history[-1]["loss"] < scratch.history[1]["loss"]
    assert {"validation_loss", "dice"} <= set(scratch.history[0])
    assert scratch.config["experiment"]["options"] == {"width": 4, "depth": 2}
    assert scratch.config["data"]["test"]["images"] == len(parts.test) == 12
    metrics = scratch.metrics
    assert metrics["parameters"] > metrics["trained_parameters"] > 0
    assert metrics["seconds"] == pytest.approx(sum(e.get("seconds", 0) for e in scratch.history), abs=0.1)


@pytest.mark.parametrize("part", ["validation", "test"])
def test_the_metrics_are_those_of_the_stored_masks(part, scratch, parts):
    dataset = getattr(parts, part)
    masks = _all_masks(scratch, dataset, part)
    expected = SegmentationMetrics(4)
    for i, mask in enumerate(masks):
        expected.update(dataset.mask(i), mask)
    stored = scratch.predictions()
    np.testing.assert_array_equal(stored[f"{part}_matrix"], expected.matrix)
    assert scratch.metrics[part]["mean_dice"] == pytest.approx(expected.mean_dice())
    assert scratch.metrics[part].keys() == expected.report().keys()
    assert stored[part].shape == (len(dataset), 3, 4)
    hits, predicted, true = stored[part].sum(0)
    np.testing.assert_array_equal(hits, np.diag(expected.matrix))
    np.testing.assert_array_equal(predicted, expected.matrix.sum(0))
    np.testing.assert_array_equal(true, expected.matrix.sum(1))


def test_the_stored_masks_are_those_of_the_stored_model(scratch, parts):
    images = [parts.test.image(i) for i in range(len(parts.test))]
    network = Network(scratch.load_model(), "segmentation", test_time=TASK.test_time)
    again = list(network.label_maps(images, 5))
    same = np.mean([a == b for a, b in zip(again, _all_masks(scratch, parts.test), strict=True)])
    assert same > 0.999
    assert len(np.unique(again)) > 1


def test_the_model_is_that_of_the_best_epoch(scratch, parts):
    """Measured as after each epoch: at the training size, one view."""
    best = max(entry["dice"] for entry in scratch.history)
    assert best > scratch.history[0]["dice"]
    score = TASK.scorer(Work(SCRATCH, parts, scratch))
    assert score(scratch.load_model())["dice"] == pytest.approx(best, abs=1e-3)


def test_a_complete_run_is_read_not_trained_again(scratch, parts):
    lines, read, before = [], [], scratch.history
    noting = Parts(*(_noting(part, read) for part in vars(parts).values()))
    again = run(SCRATCH, noting, scratch.folder.parent, progress=lines.append)
    assert len(lines) == 1
    assert "complete, read from" in lines[0]
    assert len(read) == 6  # the first and last image of each part, which its digest looks at
    assert again.history == before


@pytest.mark.parametrize("when", ["after an epoch", "while predicting"])
def test_a_killed_run_resumes_to_the_same_masks(when, scratch, parts, tmp_path):
    lines = []

    def killing(line):
        lines.append(line)
        if when == "after an epoch" and len(lines) == 2:
            raise Killed

    def image(i):
        if when == "while predicting" and i == 9:
            raise Killed
        return parts.test.image(i)

    dying = replace(parts, test=replace(parts.test, read_image=image))
    with pytest.raises(Killed):
        run(SCRATCH, dying, tmp_path, progress=killing)
    assert len(lines) == (2 if when == "after an epoch" else 3)
    assert not (tmp_path / "scratch" / "metrics.json").exists()
    assert not (tmp_path / "scratch" / "test_masks.zip").exists()
    resumed = []
    again = run(SCRATCH, parts, tmp_path, progress=resumed.append)
    assert sum(": epoch " in line for line in resumed) == 3 - len(lines)
    assert _without_seconds(again.history) == _without_seconds(scratch.history)
    for part in ("validation", "test"):
        both = (_all_masks(each, getattr(parts, part), part) for each in (again, scratch))
        for ours, theirs in zip(*both, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert again.metrics["test"] == scratch.metrics["test"]


def test_a_frozen_encoder_comes_out_as_it_went_in(phases):
    model, start = phases[0].load_model(), build(FROZEN, 4)
    ours, theirs = (m.get_layer(ENCODER).get_weights() for m in (model, start))
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)
    metrics = phases[0].metrics
    assert metrics["trained_parameters"] < metrics["parameters"] - model.get_layer(ENCODER).count_params() + 1
    assert metrics["trained_parameters"] < phases[1].metrics["trained_parameters"]


def test_fine_tuning_goes_on_from_the_frozen_run(phases):
    frozen, tuned = phases
    best = max(entry["dice"] for entry in frozen.history)
    assert best > frozen.history[0]["dice"]  # otherwise an untrained start would look the same
    assert tuned.history[0]["dice"] == pytest.approx(best, abs=1e-6)
    assert max(entry["dice"] for entry in tuned.history) >= best
    assert tuned.config["start"] == frozen.config
    own = sum(entry.get("seconds", 0.0) for entry in tuned.history)
    assert tuned.metrics["seconds"] == pytest.approx(frozen.metrics["seconds"] + own, abs=0.1)


def test_fine_tuning_without_its_start_is_one_sentence(parts, tmp_path):
    with pytest.raises(VoclabError, match="is not complete; run the experiment 'frozen' first"):
        run(TUNED, parts, tmp_path)


@pytest.fixture(scope="module")
def refitted(parts, scratch, tmp_path_factory):
    """Two phases refitted, the ids that were read of each part, and what was said when it was done again.

    The first phase was best after epoch 2 of 3, the second before its first.
    """
    folder, read, lines = tmp_path_factory.mktemp("refitted"), [[], [], []], []
    for name, dice in (("scratch", [0.1, 0.2, 0.9, 0.3]), ("more", [0.9, 0.1, 0.2, 0.3])):
        chosen = Run(shutil.copytree(scratch.folder, folder / name))
        history = [{**entry, "dice": d} for entry, d in zip(chosen.history, dice, strict=True)]
        write_json(chosen.folder / "history.json", history)
    more = replace(SCRATCH, name="more", start="scratch")
    noting = Parts(*(_noting(part, ids) for part, ids in zip(vars(parts).values(), read, strict=True)))
    again = refit(more, {"scratch": SCRATCH}, noting, folder, progress=quiet)
    refit(more, {"scratch": SCRATCH}, parts, folder, progress=lines.append)
    return Run(folder / "scratch-all"), again, read, lines


def test_a_refit_trains_on_all_images_for_as_long_as_was_best(refitted, parts):
    run, _, read, _ = refitted
    assert [entry["epoch"] for entry in run.history] == [0, 1, 2]
    assert not any("dice" in entry for entry in run.history)  # nothing is chosen any more
    together = len(parts.fit) + len(parts.validation)
    assert len(set(read[0] + read[1])) >= together // 8 * 8  # an incomplete batch is left out
    assert set(read[1]) - {parts.validation.ids[0], parts.validation.ids[-1]}


def test_a_refit_is_measured_on_test_images_alone(refitted, parts):
    for again in refitted[:2]:
        assert "validation" not in again.metrics
        assert set(again.predictions()) == {"test", "test_matrix"}
        assert not (again.folder / "validation_masks.zip").exists()
        metrics, _ = measure(iter(_all_masks(again, parts.test)), parts.test)
        assert again.metrics["test"]["mean_dice"] == pytest.approx(metrics.mean_dice())


def test_a_refit_goes_on_from_the_refit_of_its_start(refitted, scratch):
    start, run, _, lines = refitted
    assert run.name == "more-all"
    assert [entry["epoch"] for entry in run.history] == [0]
    ours, theirs, chosen = (r.load_model().get_weights() for r in (run, start, scratch))
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)
    assert any(not np.array_equal(a, c) for a, c in zip(ours, chosen, strict=True))
    assert run.metrics["seconds"] == pytest.approx(start.metrics["seconds"], abs=0.1)
    assert len(lines) == 1
    assert "more-all: complete" in lines[0]


def test_images_without_truth_are_predicted_and_not_measured(parts, tmp_path):
    blind = replace(parts, test=replace(parts.test, read_mask=None, labels=None))
    found = run(replace(SCRATCH, recipe=replace(RECIPE, epochs=0)), blind, tmp_path, progress=quiet)
    assert found.metrics["test"] is None
    assert found.metrics["validation"]["mean_dice"] >= 0
    assert set(found.predictions()) == {"validation", "validation_matrix"}
    assert [mask.shape for mask in _all_masks(found, parts.test)] == [(48, 64)] * 12


def test_data_without_masks_cannot_be_learned_from(parts, tmp_path):
    for part in ("fit", "validation"):
        blind = replace(parts, **{part: replace(getattr(parts, part), read_mask=None)})
        with pytest.raises(VoclabError, match=rf"squares {part} has no masks to learn from"):
            run(SCRATCH, blind, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_measuring_counts_the_pixels_of_every_image(squares):
    """Truth against a prediction of nothing but label 1, counted by hand."""
    dataset = squares.subset(range(3))
    masks = [np.full((48, 64), 1, np.uint8) for _ in range(3)]
    metrics, counts = measure(iter(masks), dataset, boundaries=False)
    assert metrics.images == 3
    assert counts.shape == (3, 3, 4)
    assert counts.dtype == np.int64
    for i, (hits, predicted, true) in enumerate(counts):
        truth = dataset.mask(i)
        sizes = [(truth == k).sum() for k in range(4)]
        np.testing.assert_array_equal(true, sizes)
        np.testing.assert_array_equal(predicted, [0, sum(sizes), 0, 0])
        np.testing.assert_array_equal(hits, [0, sizes[1], 0, 0])
    np.testing.assert_array_equal(counts.sum(0)[2], metrics.matrix.sum(1))


def _some_masks(n=3):
    rng = np.random.default_rng(0)
    return [rng.integers(0, 21, (5 + k, 8)).astype(np.uint8) for k in range(n)]


def test_masks_are_stored_as_they_are(tmp_path):
    path, masks = tmp_path / "masks.zip", _some_masks()
    write_masks(path, ["a", "b", "c"], iter(masks))
    stored = StoredMasks(path)
    for name, mask in zip("cab", (masks[2], masks[0], masks[1]), strict=True):
        assert stored[name].dtype == np.uint8
        np.testing.assert_array_equal(stored[name], mask)
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["a.png", "b.png", "c.png"]
        (tmp_path / "a.png").write_bytes(archive.read("a.png"))
    np.testing.assert_array_equal(decode_mask(tmp_path / "a.png"), masks[0])


def _broken():
    yield from _some_masks(1)
    raise RuntimeError("image 2 is damaged")


@pytest.mark.parametrize(
    ("masks", "error"),
    [(_broken(), RuntimeError), (_some_masks(2), ValueError), (_some_masks(4), ValueError)],
    ids=["broken", "too few", "too many"],
)
def test_masks_that_cannot_all_be_written_leave_the_old_file(masks, error, tmp_path):
    path = tmp_path / "masks.zip"
    write_masks(path, ["old"], [np.full((2, 2), 7, np.uint8)])
    before = path.read_bytes()
    with pytest.raises(error):
        write_masks(path, ["a", "b", "c"], masks)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["masks.zip"]


def test_a_damaged_file_of_masks_is_named(tmp_path):
    """Whichever byte is wrong, a mask is either right or refused in one sentence."""
    path, masks = tmp_path / "masks.zip", _some_masks(1)
    with pytest.raises(VoclabError, match=r"masks\.zip does not give the mask of a .* run again"):
        StoredMasks(path)["a"]
    write_masks(path, ["a"], masks)
    whole = path.read_bytes()
    with pytest.raises(VoclabError, match=r"does not give the mask of b"):
        StoredMasks(path)["b"]
    refused = 0
    for damaged in (
        *(whole[:k] for k in range(0, len(whole), 31)),
        *(
            whole[:k] + bytes([whole[k] ^ flip]) + whole[k + 1 :]
            for k in range(len(whole))
            for flip in (1, 255)
        ),
    ):
        path.write_bytes(damaged)
        try:
            np.testing.assert_array_equal(StoredMasks(path)["a"], masks[0])
        except VoclabError:
            refused += 1
    assert refused > len(whole) / 2


@pytest.mark.parametrize("shape", [(1, 1), (37, 53), (300, 2)])
def test_a_mask_is_the_same_after_encoding_and_decoding(shape, tmp_path):
    mask = np.random.default_rng(0).choice([*range(21), 255], shape).astype(np.uint8)
    path = tmp_path / "mask.png"
    path.write_bytes(encode_mask(mask))
    np.testing.assert_array_equal(decode_mask(path), mask)
