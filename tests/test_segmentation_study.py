"""What notebook 02 draws from finished runs: settings, tables, differences, chosen places."""

from dataclasses import asdict, replace
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib import pyplot as plt

from voclab import plotting
from voclab.data.base import VOID, Dataset
from voclab.experiments import segmentation as study
from voclab.experiments.common import Profile
from voclab.metrics import SegmentationMetrics, image_scores
from voclab.models.pretrained import Weights
from voclab.training import Run
from voclab.training.masks import write_masks
from voclab.training.segmentation import measure

CNN = Weights("cnn", "file", "w.weights.h5", "for the test")
MOBILENET = Weights("mobilenet_v2", "imagenet", "imagenet", "for the test")
PROFILES = [("smoke", "toyvoc"), *((n, d) for n in ("demo", "full") for d in ("toyvoc", "voc2009"))]
CLASSES = ("red", "green", "blue", "never")  # the last one occurs nowhere


def _dataset(masks) -> Dataset:
    """Images of noise with those masks."""
    rng = np.random.default_rng(5)
    images = [rng.integers(0, 256, (*mask.shape, 3)).astype(np.uint8) for mask in masks]
    return Dataset(
        name="drawn",
        split="test",
        task="multilabel",
        ids=tuple(f"drawn_{k:02d}" for k in range(len(masks))),
        class_names=CLASSES,
        labels=np.array([[k + 1 in mask for k in range(len(CLASSES))] for mask in masks], np.uint8),
        read_image=lambda i: images[i],
        read_mask=lambda i: masks[i],
        source="drawn for the test",
    )


@pytest.fixture(scope="module")
def scored() -> Dataset:
    """16 images of blocks of three classes with void between them; the last one shows nothing."""
    rng = np.random.default_rng(1)
    masks = []
    for k in range(16):
        blocks = rng.integers(0, 4, (4, 5)).astype(np.uint8) if k < 15 else np.zeros((4, 5), np.uint8)
        mask = np.kron(blocks, np.ones((6, 6 + k % 3), np.uint8))
        mask[:, 12] = VOID
        masks.append(mask)
    return _dataset(masks)


def _guesses(scored: Dataset, wrong, seed: int) -> list[np.ndarray]:
    """The truth with a share ``wrong`` (of each image) of the pixels labelled at random."""
    rng = np.random.default_rng(seed)
    guesses = []
    for i, share in enumerate(np.broadcast_to(wrong, len(scored))):
        truth = scored.mask(i)
        drawn = rng.integers(0, 4, truth.shape).astype(np.uint8)
        seen = ((truth > 0) & (truth != VOID)).any()  # where nothing is, nothing is seen
        changed = (rng.random(truth.shape) < share) | (truth == VOID)
        guesses.append(np.where(changed, drawn * seen, truth).astype(np.uint8))
    return guesses


@pytest.fixture
def save(tmp_path, scored):
    """Leaves a finished run on disk that predicted the given label maps."""

    def _save(name: str, guesses, data=scored, seconds=10.0, parameters=1234, **metrics) -> Run:
        run = Run(tmp_path / name)
        assert not run.begin({"name": name})
        write_masks(run.folder / "test_masks.zip", data.ids, guesses)
        measured, counts = measure(iter(guesses), data)
        run.save_predictions(test=counts, test_matrix=measured.matrix)
        run.finish({"test": measured.report(), "seconds": seconds, "parameters": parameters} | metrics)
        return run

    return _save


@pytest.fixture
def runs(save, scored) -> dict[str, Run]:
    """The reference of a family with two seeds, and another setting that is worse."""
    return {
        "unet-ce": save("unet-ce", _guesses(scored, 0.6, 3), parameters=4321),
        "unet-both": save("unet-both", _guesses(scored, 0.1, 1), seconds=10),
        "unet-both-seed1": save("unet-both-seed1", _guesses(scored, 0.15, 2), seconds=21),
    }


# settings


@pytest.mark.parametrize(("name", "dataset"), PROFILES)
def test_every_setting_is_trained_with_the_seeds_of_the_profile_and_after_what_it_starts_from(name, dataset):
    profile = study.settings(Profile.of(name, dataset))
    listed = study.experiments(profile, CNN, seed=4)
    grouped = study.by_setting({e.name: e for e in listed})
    assert sum(len(group) for group in grouped.values()) == len(listed)  # names are unique
    left_out = set(study.LABELS) - set(grouped)
    assert not left_out or (name != "full" and all(setting.startswith("encoder-") for setting in left_out))
    for setting, group in grouped.items():
        wanted = 1 if setting.startswith("deeplab") else profile.seeds
        assert [e.recipe.seed for e in group] == [4 + k for k in range(wanted)]
    assert profile.seeds > 1 or name == "smoke"  # one seed alone has no spread
    before = set()
    for experiment in listed:
        assert experiment.start is None or experiment.start in before
        before.add(experiment.name)


@pytest.mark.parametrize(("name", "dataset"), PROFILES)
@pytest.mark.parametrize("weights", [CNN, MOBILENET], ids=["cnn", "mobilenet"])
def test_within_a_family_one_thing_differs_from_the_reference(name, dataset, weights):
    listed = {
        e.name: e for e in study.experiments(study.settings(Profile.of(name, dataset)), weights, seed=4)
    }
    for family, reference in (("unet", study.SCRATCH), ("encoder", study.PRETRAINED)):
        for member in (n for n in listed if n.startswith(family + "-")):
            same_seed = next(
                e
                for e in listed.values()
                if e.name.split("-seed")[0] == reference and e.recipe.seed == listed[member].recipe.seed
            )
            changed = _changed(listed[member], same_seed)
            kind = member.split("-")[1]
            if kind == "both":
                assert changed == {}
                assert set(_changed(listed[member], listed[reference])) <= {"recipe.seed"}
            elif kind == "noskip":
                assert changed == {"options.skips": False}
            else:
                assert changed == {"loss": {"ce": "cross_entropy", "dice": "dice"}[kind]}


def _changed(one, other) -> dict:
    """Fields of ``one``, its name aside, that ``other`` has not or has otherwise; those of parts by path."""

    def flat(value, path=""):
        if not isinstance(value, dict):
            return {path: value}
        return {k: v for key in value for k, v in flat(value[key], f"{path}.{key}".strip(".")).items()}

    ours, theirs = flat(asdict(one)), flat(asdict(other))
    assert theirs.keys() <= ours.keys()
    return {k: v for k, v in ours.items() if k != "name" and (k not in theirs or theirs[k] != v)}


@pytest.mark.parametrize("weights", [CNN, MOBILENET], ids=["cnn", "mobilenet"])
def test_only_the_last_network_changes_pretrained_weights(weights):
    listed = {e.name: e for e in study.experiments(study.settings(Profile("demo", False)), weights, seed=0)}
    for name, experiment in listed.items():
        if name.startswith("unet-"):
            assert (experiment.backbone, experiment.weights, experiment.frozen) == (None, None, False)
        else:
            assert (experiment.backbone, experiment.weights) == (weights.backbone, weights.value)
            assert experiment.frozen == (name != study.TUNED)
    tuned, frozen = listed[study.TUNED], listed["deeplab-frozen"]
    assert tuned.start == "deeplab-frozen"
    assert {k.split(".")[0] for k in _changed(tuned, frozen)} == {"recipe", "frozen", "start"}
    assert tuned.recipe.size == frozen.recipe.size


def test_a_fourth_loss_is_trained_and_has_a_row_of_its_own(save, scored):
    settings = study.settings(Profile.of("smoke", "toyvoc"))
    settings.losses = (*settings.losses, "focal")
    listed = {e.name: e for e in study.experiments(settings, CNN, seed=0)}
    assert listed["unet-focal"].loss == "focal"
    run = save("unet-focal", _guesses(scored, 0.2, 9))
    assert list(study.dice_table({run.name: run}, "test", CLASSES).index) == ["U-Net, focal"]
    table = study.results_table({run.name: run}, "test", study.Baseline.of(scored, scored, seed=0))
    assert "U-Net, focal" in table.index


def test_runs_are_called_by_their_setting_and_a_refit_says_so():
    assert study.label("unet-both") == study.label("unet-both-seed2") == "U-Net, both"
    assert study.label("deeplab-tuned-all") == "DeepLabV3+, fine-tuned, all training images"
    assert study.label("encoder-both-seed1-all") == "U-Net on frozen encoder, both, all training images"
    assert study.label("another") == "another"
    names = [study.label(name) for name in study.LABELS]
    assert len(set(names)) == len(names)


def test_seeds_of_a_setting_are_grouped_but_a_refit_never_joins_them():
    names = ("unet-both", "unet-ce", "unet-both-seed1", "unet-both-seed1-all")
    grouped = study.by_setting({name: name for name in names})
    assert grouped == {
        "unet-both": ["unet-both", "unet-both-seed1"],
        "unet-ce": ["unet-ce"],
        "unet-both-all": ["unet-both-seed1-all"],
    }


# figures of a run


def test_labels_at_random_are_worth_their_frequency(squares):
    train, other = squares.subset(range(32)), squares.subset(range(32, 48))
    baseline = study.Baseline.of(train, other, seed=0)
    pixels = np.concatenate([train.mask(i).ravel() for i in range(32)])
    counts = np.bincount(pixels[pixels != VOID], minlength=4)
    np.testing.assert_allclose(baseline.frequency, counts / counts.sum())
    assert baseline.report["images"] == 16
    # A class of share p in the truth, drawn with frequency q: 2pq / (p + q).
    pixels = np.concatenate([other.mask(i).ravel() for i in range(16)])
    p = np.bincount(pixels[pixels != VOID], minlength=4) / (pixels != VOID).sum()
    expected = 2 * p * baseline.frequency / (p + baseline.frequency)
    np.testing.assert_allclose(baseline.report["dice"], expected, atol=0.01)
    assert study.Baseline.of(train, other, seed=0).report == baseline.report
    assert study.Baseline.of(train, other, seed=1).report != baseline.report


def test_the_results_are_means_over_seeds_below_the_random_baseline(runs, save, scored):
    baseline = study.Baseline.of(scored, scored, seed=0)
    unmeasured = save("encoder-ce", _guesses(scored, 0.2, 9), test=None)
    table = study.results_table(runs | {"encoder-ce": unmeasured}, "test", baseline)
    assert list(table.index) == ["random labels", "U-Net, cross-entropy", "U-Net, both"]
    assert table.index.name == "model"
    keys = {"mIoU": "mean_iou", "Dice": "mean_dice", "competition Dice": "image_dice"}
    keys |= {"boundary F1": "boundary_f1", "pixel accuracy": "pixel_accuracy"}
    both = [runs[name].metrics["test"] for name in ("unet-both", "unet-both-seed1")]
    for title, key in keys.items():
        assert table.loc["random labels", title] == baseline.report[key]
        assert table.loc["U-Net, cross-entropy", title] == runs["unet-ce"].metrics["test"][key]
        assert table.loc["U-Net, both", title] == pytest.approx((both[0][key] + both[1][key]) / 2)
    assert table["Dice"].is_monotonic_increasing
    assert list(table["seeds"]) == [1, 1, 2]
    assert list(table["training (s)"]) == [0, 10, 16]
    assert list(table["parameters"]) == ["0", "4,321", "1,234"]
    empty = study.results_table(runs, "validation", baseline)  # nobody was measured on that part
    assert list(empty.index) == ["random labels"]


def test_the_refit_of_a_repeated_seed_has_a_row_of_its_own(runs, save, scored):
    baseline = study.Baseline.of(scored, scored, seed=0)
    refitted = save("unet-both-seed1-all", _guesses(scored, 0.0, 4))
    table = study.results_table(runs | {refitted.name: refitted}, "test", baseline)
    assert table.loc["U-Net, both", "seeds"] == 2
    assert table.loc["U-Net, both", "Dice"] < 1.0
    assert table.loc["U-Net, both, all training images", "Dice"] == 1.0


def test_dice_of_each_class_is_the_mean_over_seeds_and_unknown_where_undefined(runs):
    table = study.dice_table(runs, "test", CLASSES)
    assert list(table.columns) == list(CLASSES)
    assert list(table.index) == ["U-Net, cross-entropy", "U-Net, both"]
    assert table["never"].isna().all()
    seeds = [runs[name] for name in ("unet-both", "unet-both-seed1")]
    expected = np.mean([run.metrics["test"]["dice"][1:4] for run in seeds], axis=0)
    np.testing.assert_allclose(table.loc["U-Net, both", list(CLASSES[:3])], expected)
    np.testing.assert_array_equal(study.dice_by_class(seeds, "test"), table.loc["U-Net, both"])


def test_stored_pixel_counts_give_the_figures_of_the_metrics(runs, scored):
    for run in runs.values():
        stored = run.predictions()
        assert study.mean_dice(stored["test"]) == pytest.approx(run.metrics["test"]["mean_dice"])
        metrics = SegmentationMetrics(len(CLASSES) + 1, boundaries=False)
        masks = study.predicted_masks(run, "test")
        for i in (4, 4, 7):  # a resampling: the image drawn twice counts twice
            metrics.update(scored.mask(i), masks[scored.ids[i]])
        assert study.mean_dice(stored["test"][[4, 4, 7]]) == pytest.approx(metrics.mean_dice())
        assert study.pixel_matrix(run, "test").sum() == stored["test"][:, 2].sum()
        np.testing.assert_array_equal(study.pixel_matrix(run, "test").diagonal(), stored["test"][:, 0].sum(0))


def test_images_score_from_counts_what_the_competition_gives_them(runs, scored):
    run = runs["unet-ce"]
    masks = study.predicted_masks(run, "test")
    expected = [
        image_scores(scored.mask(i), masks[name], len(CLASSES) + 1) for i, name in enumerate(scored.ids)
    ]
    np.testing.assert_allclose(study.image_dice(run, "test"), expected)
    assert expected[-1] == 1.0  # nothing there, nothing predicted
    assert len({round(e, 6) for e in expected}) > 10


# differences


def test_a_setting_does_not_differ_from_itself(runs):
    same = study.difference([runs["unet-ce"]], [runs["unet-ce"]], "test", spread=0.0)
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)
    assert not same.clear
    assert "not decided by this experiment" in str(same)


def test_a_better_setting_is_clearly_better_and_the_other_way_round(runs):
    good, poor = [runs["unet-both"], runs["unet-both-seed1"]], [runs["unet-ce"]]
    spread = study.seed_spread(good, "test")
    found = study.difference(good, poor, "test", spread)
    figures_of = [run.metrics["test"]["mean_dice"] for run in (*good, *poor)]
    assert found.value == pytest.approx((figures_of[0] + figures_of[1]) / 2 - figures_of[2])
    assert 0 < found.low < found.value < found.high
    assert found.clear
    assert "not decided" not in str(found)
    assert str(found).startswith(f"+{found.value:.3f} Dice")
    turned = study.difference(poor, good, "test", spread)
    assert turned.clear
    assert (turned.value, turned.high) == pytest.approx((-found.value, -found.low), abs=1e-12)


def test_a_difference_within_the_seeds_or_within_the_images_is_not_clear(runs, save, scored):
    good, poor = runs["unet-both"], runs["unet-ce"]
    seeds = study.difference([good], [poor], "test", spread=0.9)
    assert seeds.low > 0
    assert not seeds.clear
    assert "range over seeds 0.900): not decided" in str(seeds)
    turns = ([0.2, 0.5] * 8, [0.5, 0.2] * 8)  # each is the better one in every other image
    alike = [save(f"encoder-ce-seed{k}", _guesses(scored, turn, k)) for k, turn in enumerate(turns)]
    images = study.difference(alike[:1], alike[1:], "test", spread=0.0)
    assert images.low < 0 < images.high
    assert images.value != 0
    assert not images.clear


def test_the_bootstrap_is_paired(save, scored):
    """Images from easy to hopeless: only a comparison image by image sees a small gain in each of them."""
    theirs = _guesses(scored, np.linspace(0, 0.95, len(scored)), 6)
    rng, ours = np.random.default_rng(7), []
    for i, guess in enumerate(theirs):
        truth = scored.mask(i)
        mended = (rng.random(guess.shape) < 0.1) & (truth != VOID)
        ours.append(np.where(mended, truth, guess).astype(np.uint8))
    found = study.difference([save("unet-dice", ours)], [save("unet-ce", theirs)], "test", spread=0.0)
    assert 0 < found.low < found.high < 0.15
    assert found.clear


def test_the_bootstrap_is_seeded(runs):
    sides = [runs["unet-both"]], [runs["unet-ce"]]
    first, again, other = (study.difference(*sides, "test", 0.0, 50, seed=s) for s in (3, 3, 4))
    assert first == again
    assert first.value == other.value
    assert (first.low, first.high) != (other.low, other.high)


def test_named_settings_are_measured_against_the_seeds_of_their_own_family(runs):
    both = [runs["unet-both"], runs["unet-both-seed1"]]
    grouped = {"unet-both": both, "unet-ce": [runs["unet-ce"]], "encoder-both": [runs["unet-both"]]}
    within = study.compare(grouped, "unet-both", "unet-ce", "test")
    assert within == study.difference(both, [runs["unet-ce"]], "test", study.seed_spread(both, "test"))
    across = study.compare(grouped, "encoder-both", "unet-both", "test")
    assert across.spread == study.seed_spread(both, "test") > 0


def test_the_seeds_spread_from_the_least_to_the_most():
    seeds = [
        SimpleNamespace(metrics={"test": {"mean_dice": value}, "validation": {"mean_dice": 0.0}})
        for value in (0.4, 0.55, 0.5)
    ]
    assert study.seed_spread(seeds, "test") == pytest.approx(0.15)
    assert study.seed_spread(seeds, "validation") == 0
    assert np.isnan(study.seed_spread(seeds[:1], "test"))  # one seed says nothing of their spread


# who gains


def test_a_gain_in_rare_classes_is_seen_whatever_their_order():
    share = np.array([0.01, 0.3, 0.02, 0.2, 0.1, 0.15])
    gain = np.array([0.3, 0.0, 0.1, -0.02, 0.02, 0.01])
    found = study.rarity_effect(gain, share)
    assert found.rare == pytest.approx(0.2)
    assert found.common == pytest.approx(-0.01)
    assert found.correlation < -0.8
    assert found.p_value < 0.05
    turned = study.rarity_effect(-gain, share)
    assert turned.correlation == pytest.approx(-found.correlation)


def test_classes_without_a_gain_are_left_out():
    share, gain = np.array([0.01, 0.02, 0.1, 0.3]), np.array([0.4, 0.2, 0.1, 0.0])
    known = study.rarity_effect(gain, share)
    padded = study.rarity_effect(np.append(gain, [np.nan] * 3), np.append(share, [0.0, 0.001, 0.5]))
    assert padded == known
    assert (known.rare, known.common) == (0.4, 0.0)


def test_the_same_gain_everywhere_has_no_tie_to_rarity():
    found = study.rarity_effect(np.array([0.1, np.nan, 0.1, 0.1]), np.array([0.1, 0.2, 0.3, 0.4]))
    assert (found.rare, found.common) == pytest.approx((0.1, 0.1))
    assert (found.correlation, found.p_value) == (0.0, 1.0)


def test_recall_by_area_counts_each_object_once(save):
    truth, guess = np.zeros((2, 20, 20), np.uint8), np.zeros((2, 20, 20), np.uint8)
    truth[0, 0, :4], guess[0, 0, :1] = 1, 1  # 1 %, a quarter found
    truth[0, 2, :], guess[0, 2, :] = 2, 2  # 5 %, all found
    truth[0, 5:9], guess[0, 5:7], guess[0, 7:9] = 3, 3, 1  # 20 %, half found; the rest taken for another
    truth[1, :10], guess[1, :10], guess[1, 15:] = (
        1,
        1,
        2,
    )  # 50 %, found; what is invented is no matter of recall
    data = _dataset(list(truth))
    run = save("unet-both", list(guess), data)
    found = study.recall_by_area(run, "test")
    assert found == {"under 2 %": (0.25, 1), "2 to 10 %": (1.0, 1), "over 10 %": (0.75, 2)}
    one = data.subset([1])
    large = save("unet-ce", [guess[1]], one)
    assert study.recall_by_area(large, "test") == {"over 10 %": (1.0, 1)}


# what is shown


def test_best_median_and_worst_images_are_different_ones_in_order():
    scores = np.array([0.5, 0.9, 0.1, 0.7, 0.3, 0.8, 0.2, 0.6, 0.4])
    assert study.best_median_worst(scores, 1) == [("best", 1), ("median", 0), ("worst", 2)]
    three = study.best_median_worst(scores, 3)
    assert [title for title, _ in three] == ["best"] * 3 + ["median"] * 3 + ["worst"] * 3
    assert [i for _, i in three] == [1, 5, 3, 7, 0, 8, 4, 6, 2]
    for n in range(6, 12):
        assert len({i for _, i in study.best_median_worst(np.random.default_rng(n).random(n), 2)}) == 6


def test_the_finest_detail_is_the_box_with_the_longest_outline(scored):
    blind = replace(scored, read_image=None)  # the truth alone decides: no image is ever looked at
    places = study.fine_details(blind, len(scored))
    lengths = []
    for i, (y0, y1, x0, x1) in places:
        mask = scored.mask(i)
        height, width = mask.shape
        assert 0 <= y0 < y1 <= height
        assert 0 <= x0 < x1 <= width
        side = y1 - y0
        assert side == x1 - x0 == max(8, round(0.55 * min(mask.shape)))
        inside = (mask > 0) & (mask != VOID)
        changes = np.zeros(mask.shape, int)
        for y, x in np.ndindex(mask.shape):
            changes[y, x] += x > 0 and inside[y, x] != inside[y, x - 1]
            changes[y, x] += y > 0 and inside[y, x] != inside[y - 1, x]
        corners = np.ndindex(height - side + 1, width - side + 1)
        longest = max(changes[y : y + side, x : x + side].sum() for y, x in corners)
        assert changes[y0:y1, x0:x1].sum() == longest
        lengths.append(longest / side)
    assert lengths == sorted(lengths, reverse=True)
    shown = [tuple(scored.labels[i]) for i, _ in places]
    assert len(set(shown)) == len(shown) == len({tuple(row) for row in scored.labels})


def test_thin_parts_come_before_plain_ones_and_each_kind_once():
    plain, comb, bars = np.zeros((3, 40, 60), np.uint8)
    plain[5:35, 5:35] = 1
    comb[20:36, 40:58:2] = 2
    comb[2:16, 2:16] = 2
    bars[4:36, 4:50:6] = 2
    data = _dataset([plain, bars, comb])
    places = study.fine_details(data, 3, window=0.35)
    assert [i for i, _ in places] == [2, 0]  # the bars show the same classes as the comb, less finely
    y0, y1, x0, x1 = places[0][1]
    assert y0 >= 18
    assert x0 >= 38
    assert (y1 - y0, x1 - x0) == (14, 14)
    assert study.fine_details(data, 1, window=0.35) == places[:1]


def test_rows_of_predictions_make_a_figure_and_carry_the_dice_of_each_map(runs, scored):
    chosen = study.best_median_worst(study.image_dice(runs["unet-both"], "test"), 1)
    compared = {name: runs[name] for name in ("unet-ce", "unet-both")}
    rows = study.prediction_rows(compared, "test", scored, chosen)
    assert [row[0] for row in rows] == ["best", "median", "worst"]
    for (_, i), (_, image, truth, models) in zip(chosen, rows, strict=True):
        np.testing.assert_array_equal(image, scored.image(i))
        np.testing.assert_array_equal(truth, scored.mask(i))
        assert [name for name, _, _ in models] == ["U-Net, cross-entropy", "U-Net, both"]
        for run, (_, predicted, score) in zip(compared.values(), models, strict=True):
            dice = study.image_dice(run, "test")[i]
            assert score == f"Dice {dice:.2f}"
            np.testing.assert_array_equal(predicted, study.predicted_masks(run, "test")[scored.ids[i]])
    figure = plotting.prediction_rows(rows, CLASSES)
    assert sum(len(axis.images) for axis in figure.axes) == 3 * 4
    plt.close(figure)


def test_rows_of_close_ups_make_a_figure(runs, scored):
    places = study.fine_details(scored, 2)
    compared = {name: runs[name] for name in ("unet-both", "unet-ce")}
    rows = study.closeup_rows(compared, "test", scored, places)
    assert len(rows) == 2
    for (i, place), (image, truth, models, box) in zip(places, rows, strict=True):
        assert box == place
        np.testing.assert_array_equal(image, scored.image(i))
        np.testing.assert_array_equal(truth, scored.mask(i))
        assert [name for name, _ in models] == ["U-Net, both", "U-Net, cross-entropy"]
        for run, (_, predicted) in zip(compared.values(), models, strict=True):
            np.testing.assert_array_equal(predicted, study.predicted_masks(run, "test")[scored.ids[i]])
    figure = plotting.edge_closeups(rows, CLASSES)
    assert sum(len(axis.images) for axis in figure.axes) == 2 * 5
    plt.close(figure)


# mistakes and choices


def test_the_commonest_confusion_is_of_two_objects():
    matrix = np.array(
        [
            [500, 90, 90, 90],
            [80, 10, 0, 10],  # mostly missed, 10 % taken for the third class
            [0, 300, 700, 0],  # 30 % of a common class
            [1, 0, 4, 5],  # 40 % of a rare one
        ]
    )
    kept = matrix.copy()
    assert study.commonest_confusion(matrix) == study.Confusion(true=2, predicted=1, share=0.4)
    np.testing.assert_array_equal(matrix, kept)
    matrix[3, 0] += 10  # what is missed belongs to the class too
    assert study.commonest_confusion(matrix) == study.Confusion(true=1, predicted=0, share=0.3)


def test_without_objects_taken_for_others_there_is_no_confusion():
    matrix = np.diag([50, 10, 20, 0])
    matrix[0, 1:] = matrix[1:3, 0] = 30
    assert study.commonest_confusion(matrix) is None


def test_a_class_is_shown_where_enough_pixels_are_its():
    first, second = np.zeros((2, 10, 10), np.uint8)
    first[0, :5], first[1, :4] = 1, 3
    second[:] = 2
    for least, rows in ((0.05, [[1, 0, 0], [0, 1, 0]]), (0.04, [[1, 0, 1], [0, 1, 0]])):
        labels = study.labels_from_masks(iter([first, second]), 2, 3, least)
        assert labels.dtype == np.uint8
        np.testing.assert_array_equal(labels, rows)
    with pytest.raises(ValueError, match="shorter"):
        study.labels_from_masks(iter([first]), 2, 3, 0.05)


def test_the_best_run_is_chosen_on_validation_data_alone(save, scored):
    guesses = [_guesses(scored, wrong, 8) for wrong in (0.0, 0.5, 0.3)]
    dice = (0.3, 0.6, 0.5)
    names = ("unet-ce", "unet-dice", "unet-both")
    listed = {n: save(n, g, validation={"mean_dice": d}) for n, g, d in zip(names, guesses, dice)}
    assert max(names, key=lambda n: listed[n].metrics["test"]["mean_dice"]) == "unet-ce"
    assert study.best_run(listed) == "unet-dice"
    secret = save("unet-noskip", guesses[1], test=None, validation={"mean_dice": 0.7})
    assert study.best_run(listed | {"unet-noskip": secret}) == "unet-noskip"
