"""What notebook 03 plans, measures once and draws from its measurements."""

from dataclasses import asdict, replace
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from fragile_victims import CLASSES, four_classes, fragile_classifier, fragile_segmenter
from fragile_victims import victims as fragile

from voclab.attacks import (
    HANDLING,
    PGD,
    Adversary,
    Attack,
    Bench,
    Network,
    Noise,
    eight_bit,
    handled,
    visibility,
)
from voclab.attacks.adversary import SCORED_AT
from voclab.data.base import VOID
from voclab.experiments import adversary as study
from voclab.experiments import fooling
from voclab.experiments import fooling_findings as findings
from voclab.experiments.common import Profile
from voclab.metrics import image_scores
from voclab.models.generator import BOUNDS
from voclab.models.pretrained import Weights
from voclab.training import Parts, Run
from voclab.training.segmentation import Segmentation

WEIGHTS = Weights("cnn", "file", "w.weights.h5", "for the test")
PROFILES = [("smoke", "toyvoc"), *((n, d) for n in ("demo", "full") for d in ("toyvoc", "voc2009"))]
SMOKE = Profile("smoke", True)
SETTINGS = replace(
    study.settings(SMOKE),
    size=32,
    epsilons=(4, 8),
    images=(0, 0),
    pgd_images=(6, 3),
)

GRADIENT = ("FGSM", "PGD, 2 steps", "PGD", "momentum PGD")


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""


def silent(line):
    """For measurements whose progress nobody reads."""


# --- the plan ---


@pytest.mark.parametrize("victims", [("classifier",), ("classifier", "segmenter")])
@pytest.mark.parametrize(("name", "dataset"), PROFILES)
def test_one_adversary_is_planned_as_the_settings_say(name, dataset, victims):
    settings = study.settings(Profile.of(name, dataset))
    planned = study.generator(settings, 3, victims)
    assert (planned.name, planned.model, planned.start) == ("adversary", "generator", None)
    assert planned.options == {"width": settings.width}
    assert planned.task.victims == victims
    for key in ("aimed", "handled", "kappa", "weight"):
        assert getattr(planned.task, key) == getattr(settings, key)
    recipe = planned.recipe
    assert recipe.patience > recipe.epochs == settings.epochs  # the last epochs are the good ones
    sizes = recipe.size, planned.task.looked_at, recipe.batch_size
    assert sizes == (settings.trained_size, settings.size, settings.batch_size)
    assert (recipe.learning_rate, recipe.weight_decay, recipe.seed) == (settings.learning_rate, 0, 3)


@pytest.mark.parametrize(("name", "dataset"), PROFILES)
def test_every_bound_is_one_that_a_generator_knows(name, dataset):
    bounds = study.settings(Profile.of(name, dataset)).epsilons
    assert set(SCORED_AT) <= set(bounds)
    assert min(bounds) >= BOUNDS[0]
    assert max(bounds) <= BOUNDS[1]


def flat(experiment):
    """Fields of an experiment, of its task and of its recipe."""
    fields = asdict(experiment)
    return fields.pop("task") | fields.pop("recipe") | fields


def test_the_defence_is_trained_as_the_settings_say():
    hardened = study.defended(SETTINGS, seed=5, epsilon=4)
    recipe, task = hardened.recipe, hardened.task
    assert (recipe.size, recipe.epochs, recipe.seed) == (32, SETTINGS.defence_epochs, 5)
    assert (recipe.learning_rate, task.epsilon) == (SETTINGS.defence_learning_rate, 4 / 255)
    assert (task.steps, task.clean) == (SETTINGS.defence_steps, True)


def test_the_adaptive_adversary_is_the_same_against_another_victim():
    first, own = flat(study.generator(SETTINGS, 5, ("classifier",))), flat(study.adaptive(SETTINGS, 5))
    changed = {key: own[key] for key in own if own[key] != first[key]}
    assert changed == {"name": "adversary-defended", "victims": ("defended",)}


# --- the networks ---


@pytest.fixture
def trained(monkeypatch):
    """Names of what notebooks 01 and 02 would train, which is not trained but drawn by hand."""
    names = []

    def run(experiment, data, folder, *, progress):
        run = Run(folder / experiment.name)
        if run.begin({"experiment": experiment}):
            return run
        names.append(experiment.name)
        segmented = isinstance(experiment.task, Segmentation)
        run.save_model(fragile_segmenter() if segmented else fragile_classifier())
        run.save_predictions(thresholds=np.array([0.5, 0.9, 0.1, 0.5]))
        run.finish({})
        return run

    monkeypatch.setattr("voclab.training.experiment.run", run)
    return names


@pytest.fixture(scope="module")
def scored(squares):
    return four_classes(squares).subset(range(12), "test")


def test_missing_victims_are_trained_and_then_read_back(trained, scored, tmp_path):
    parts = Parts(scored, scored, scored)
    found = study.victims(SETTINGS, SMOKE, WEIGHTS, 0, parts, tmp_path, progress=silent)
    expected = ["head-augmented", "finetuned-augmented", "deeplab-frozen", "deeplab-tuned"]
    assert trained == expected  # each after what it starts from, and nothing else
    again = study.victims(SETTINGS, SMOKE, WEIGHTS, 0, parts, tmp_path, progress=silent)
    assert trained == expected
    for victims in (found, again):
        assert {n: (v.name, v.task) for n, v in victims.items()} == {
            "classifier": ("classifier", "multilabel"),
            "segmenter": ("segmenter", "segmentation"),
        }
    np.testing.assert_array_equal(
        found["classifier"].model.get_weights()[-1], fragile_classifier().get_weights()[-1]
    )


def test_the_classifier_decides_by_its_own_thresholds(trained, scored, tmp_path):
    data = Parts(scored, scored, scored)
    found = study.victims(SETTINGS, SMOKE, WEIGHTS, 0, data, tmp_path, progress=silent)
    logits = np.zeros((1, 4), np.float32)  # probability 0.5 each: below 0.9, above 0.1
    there = [
        bool(
            Bench(scored, 32)
            .target("multilabel", "appear", k)
            .of([0])
            .succeeded(found["classifier"], logits)[0]
        )
        for k in (1, 2)
    ]
    assert there == [False, True]


def test_without_masks_there_is_no_segmenter(trained, scored, tmp_path):
    blind = replace(scored, read_mask=None)
    found = study.victims(SETTINGS, SMOKE, WEIGHTS, 0, Parts(blind, blind, blind), tmp_path, progress=silent)
    assert list(found) == ["classifier"]
    assert not any("deeplab" in name for name in trained)


def test_further_networks_are_the_complete_runs_of_other_notebooks(scored, tmp_path):
    for name in (*study.OTHER_CLASSIFIERS, *study.OTHER_SEGMENTERS):
        run = Run(tmp_path / name)
        run.begin({"class_names": scored.class_names, "recipe": {"size": 32}})
        run.save_model(fragile_segmenter() if name in study.OTHER_SEGMENTERS else fragile_classifier())
        if name != study.OTHER_CLASSIFIERS[0]:
            run.finish({})
    found = study.others(tmp_path, replace(scored, task="multiclass"))
    assert {title: v.task for title, v in found.items()} == {
        "transfer, linear head": "multiclass",
        "U-Net on frozen encoder, both": "segmentation",
    }
    assert study.others(tmp_path / "nowhere", scored) == {}
    lines = []
    strange = replace(scored, class_names=("red", "green", "blue", "cat"))
    assert study.others(tmp_path, strange, lines.append) == {}
    assert len(lines) == 2
    assert all("left out" in line and "never" in line for line in lines)


# --- measuring ---


class Drawn:
    """What the study asks of a generator, with patterns drawn by hand in its place.

    Told of the classifier alone, a checkerboard that makes every image blue for it; told of another goal or
    victim, signs of their own.
    """

    victims, classes = ("classifier", "segmenter"), 4

    def in_use(self, images, wanted):
        return np.stack([self.pattern(image, told) for image, told in zip(images, wanted, strict=True)])

    def pattern(self, image, told):
        if tuple(told[1:5]) == (1, 0, 0, 0):
            checks = (-1.0) ** np.add.outer(np.arange(32), np.arange(32))
            return np.stack([0 * checks, 0 * checks, checks], -1)
        seed = int(np.dot(told[1:] > 0, 2 ** np.arange(len(told) - 1)))
        return np.random.default_rng(seed).choice([-1.0, 1.0], image.shape)


class ByImage(Drawn):
    """Signs that every image has of its own."""

    def pattern(self, image, told):
        return super().pattern(image, told) if image.sum() % 2 < 1 else 0 * image


def run_of(generator, **config):
    """A complete run of it."""
    return SimpleNamespace(config={"drawn": type(generator).__name__} | config, load_model=lambda: generator)


@pytest.fixture(scope="module")
def adversary():
    return run_of(Drawn())


def asked(victims=("classifier",)):
    """The drawn adversary, as an attack."""
    return Adversary(Drawn(), victims)


def moved_classifier(bias=0.2):
    """Another classifier than the victim."""
    model = fragile_classifier()
    model.get_layer("logits").bias.assign([0, 0, 0, -0.5 - bias])
    return model


@pytest.fixture(scope="module")
def networks():
    return fragile()


@pytest.fixture(scope="module")
def further():
    return {"another": Network(moved_classifier(), "multilabel", "another")}


@pytest.fixture
def opened(adversary, networks, further, scored, tmp_path, lines):
    """Measurements in a folder of the test's own."""

    def _opened(**changes):
        options = {"scored": scored, "victims": networks, "adversary": adversary, "settings": SETTINGS}
        options |= {"further": further, "epsilon": 8, "progress": lines.append}
        return fooling.Measurements(Run(tmp_path / "attacks"), **(options | changes))

    return _opened


@pytest.fixture
def lines():
    """What was told; a line an attack says how many images it has attacked."""
    return []


def attacks_in(lines):
    return sum("images attacked" in line for line in lines)


@pytest.fixture(scope="module")
def measured(adversary, networks, further, scored, tmp_path_factory):
    """Measurements that the tests below share: none of them changes a figure."""
    run = Run(tmp_path_factory.mktemp("shared") / "attacks")
    return fooling.Measurements(run, scored, networks, adversary, SETTINGS, further, progress=silent)


def test_a_row_says_what_was_fooled_how_visibly_and_at_what_cost(measured, networks, scored):
    bench, victim = Bench(scored, 32), networks["classifier"]
    images, _ = bench.attack(Noise(), victim, 8 / 255)
    row = measured.row("sign noise", "classifier")
    expected = bench.effect(victim, images) | visibility(images, bench.images) | {"images": 12}
    low, high = row.pop("low"), row.pop("high")
    assert 0 <= low <= row["success"] <= high <= 1
    assert {k: v for k, v in row.items() if k != "seconds"} == pytest.approx(expected)
    assert row["seconds"] > 0
    np.testing.assert_array_equal(measured.perturbed("sign noise", "classifier"), images)
    assert measured.row("adversary", "classifier")["success"] > 0.5
    half = measured.row("sign noise", "classifier", 4)
    assert half["linf"] == 4
    assert half["psnr"] > row["psnr"]


@pytest.mark.parametrize("victim", ["classifier", "segmenter"])
def test_the_adversary_is_told_the_victim_and_the_bound(measured, victim, adversary):
    seen = []

    class Told(Drawn):
        def in_use(self, images, wanted):
            seen.append(wanted)
            return super().in_use(images, wanted)

    attack = Adversary(Told(), (victim,))
    expected, _ = measured.bench.attack(attack, measured.victims[victim], 4 / 255)
    assert {tuple(told[1:3]) for told in np.concatenate(seen)} == {
        (float(victim == "classifier"), float(victim == "segmenter"))
    }
    chosen = [5, 2]
    np.testing.assert_array_equal(measured.shown("adversary", victim, chosen, 4), expected[chosen])


def everything(measured):
    """All that the notebook asks of its measurements, but for the defence."""
    return [
        [measured.row(n, v) for n in ("sign noise", "adversary") for v in measured.victims],
        measured.row("adversary", "classifier", goal="appear", class_index=1),
        measured.swapped("classifier", 4),
        measured.transferred("adversary", "classifier", "another"),
        measured.survived("adversary", "classifier", HANDLING[1]),
        measured.clean(measured.victims["segmenter"]),
        measured.against(measured.further["another"], "noise", Noise()),
    ]


def test_what_was_measured_is_not_measured_again(opened, lines):
    first = opened()
    figures = everything(first)
    done = attacks_in(lines)
    assert done
    assert everything(first) == figures
    first.finish()
    again = opened()
    assert everything(again) == figures
    assert attacks_in(lines) == done
    assert again.run.complete


def test_no_attack_is_computed_twice_within_a_session(opened, lines):
    measured = opened()
    measured.row("adversary", "classifier")
    measured.transferred("adversary", "classifier", "another")
    measured.swapped("classifier", 8)
    for how in HANDLING:
        measured.survived("adversary", "classifier", how)
    measured.perturbed("adversary", "classifier")
    assert attacks_in(lines) == 1


@pytest.mark.parametrize("changed", ["victim", "further", "adversary", "settings", "epsilon", "images"])
def test_measurements_fall_when_what_they_are_of_changes(changed, opened, lines, adversary, scored, networks):
    opened().transferred("sign noise", "classifier", "another")
    done = attacks_in(lines)
    changes = {
        "victim": {
            "victims": networks | {"classifier": Network(moved_classifier(0.4), "multilabel", "classifier")}
        },
        "further": {"further": {"another": Network(moved_classifier(0.3), "multilabel", "another")}},
        "adversary": {"adversary": run_of(Drawn(), seed=1)},
        "settings": {"settings": replace(SETTINGS, pgd_images=(5, 3))},
        "epsilon": {"epsilon": 6},
        "images": {"scored": scored.subset(range(1, 12))},
    }[changed]
    opened().transferred("sign noise", "classifier", "another")
    assert attacks_in(lines) == done
    opened(**changes).transferred("sign noise", "classifier", "another")
    assert attacks_in(lines) > done


def test_an_interrupted_measurement_goes_on(opened, lines):
    names = ("sign noise", "PGD", "adversary")

    def dying(line):
        lines.append(line)
        if attacks_in(lines) == 3:
            raise Killed

    first = opened(progress=dying)
    with pytest.raises(Killed):
        [first.row(name, "classifier") for name in names]
    lines.clear()
    second = opened()
    rows = [second.row(name, "classifier") for name in names]
    assert attacks_in(lines) == 1  # the third alone
    assert len({row["psnr"] for row in rows}) == 3
    assert [key.split(" > ")[0] for key in second.run.results] == list(names)


def test_networks_of_one_name_are_told_apart_by_their_weights(opened):
    measured = opened()
    first, second = (Network(moved_classifier(bias), "multilabel", "defended") for bias in (0.0, -9.0))
    for figures in (measured.clean, lambda victim: measured.against(victim, "noise", Noise())):
        assert figures(first)["accuracy"] == 1
        assert figures(second)["accuracy"] == 0  # it always answers "never"


def test_a_bound_is_the_same_however_it_is_written(opened, lines):
    whole = opened()
    row = whole.row("sign noise", "classifier")
    done = attacks_in(lines)
    written = opened(epsilon=8.0)
    assert written.bounds == [4, 8]
    assert written.row("sign noise", "classifier") == row
    assert written.row("sign noise", "classifier", 8) == row
    assert attacks_in(lines) == done


def test_a_bound_of_the_notebook_joins_those_of_the_settings(opened):
    assert opened(epsilon=6).bounds == [4, 6, 8]


def test_a_victim_is_not_its_own_further_network(opened, further):
    """On images the classifier that is attacked is a run of notebook 01 that transfer would be tried on."""
    twin = {"transfer, linear head": Network(fragile_classifier(), "multilabel", "twin")}
    assert list(opened(further=further | twin).further) == ["another"]


def test_pgd_on_a_segmenter_is_measured_on_fewer_images(measured, scored):
    whole = measured.on("PGD", "classifier", 8)
    assert len(whole) == len(scored)
    for name in ("PGD, 2 steps", "PGD", "momentum PGD"):
        assert [len(measured.on(name, "segmenter", e)) for e in (4, 8)] == [3, 6]
    assert measured.on("adversary", "segmenter", 4) is whole
    assert measured.on("FGSM", "segmenter", 8) is whole
    few = measured.on("PGD", "segmenter", 4)
    assert [scored.ids.index(name) for name in few.dataset.ids] == [0, 6, 11]  # spread over all
    assert measured.row("PGD", "segmenter")["images"] == 6


def test_all_images_may_be_asked_for(opened):
    all_of_them = replace(SETTINGS, pgd_images=(0, 99))
    measured = opened(settings=all_of_them)
    assert measured.on("PGD", "segmenter", 8) is measured.bench
    assert len(measured.on("PGD", "segmenter", 4)) == 12


# --- tables ---


def test_the_table_of_attacks_begins_with_the_clean_images(measured, networks):
    tables = {name: fooling.attack_table(measured, name) for name in networks}
    names = ["none", "adversary", *SETTINGS.attacks]
    for name, table in tables.items():
        assert list(table.index) == names
        clean = measured.bench.effect(networks[name], measured.bench.images)
        assert table.loc["none", "success"] == 0
        assert np.isnan(table.loc["none", "PSNR (dB)"])
        assert (table["L∞ (1/255)"].iloc[1:] <= 8).all()
        if name == "segmenter":
            assert table.loc["none", "Dice"] == pytest.approx(clean["dice"])
            assert table.loc["PGD", "images"] == 6
        else:
            assert table.loc["none", "top-1"] == pytest.approx(clean["accuracy"])
            assert table.loc["none", "mAP"] == pytest.approx(clean["map"])
            assert (table["images"] == 12).all()
    row = measured.row("adversary", "classifier")
    ours = tables["classifier"].loc["adversary"]
    assert ours["success"] == row["success"] > 0.5
    assert ours["ms an image"] == pytest.approx(1000 * row["seconds"])
    assert ours["L2"] == row["l2"]
    assert ours["SSIM"] == row["ssim"]
    assert ours["ΔE00"] == row["ciede2000"]


def test_without_a_segmenter_nothing_is_said_of_both(opened, networks):
    measured = opened(victims={"classifier": networks["classifier"]})
    assert list(fooling.attack_table(measured, "classifier").index)[1] == "adversary"
    assert not any("both" in title or "segmenter" in title for title in fooling.transfer(measured)[1])


def test_fooling_over_epsilon_has_all_bounds(measured):
    lines = fooling.over_epsilon(measured, "classifier")
    assert list(lines) == ["adversary", *SETTINGS.attacks]
    for bounds, shares in lines.values():
        assert bounds == [4, 8]
        assert len(shares) == 2
    assert lines["PGD"][1][1] == measured.row("PGD", "classifier", 8)["success"]
    assert lines["PGD"][1][0] == measured.row("PGD", "classifier", 4)["success"]


def test_transfer_tries_each_attack_on_each_network(measured, networks, further):
    matrix, sources, tested = fooling.transfer(measured)
    assert sources == [
        "sign noise",
        *(
            title.format(v)
            for v in ("classifier", "segmenter")
            for title in (
                "adversary, on the {}",
                *(n + ", on the {}" for n in GRADIENT),
            )
        ),
        "adversary, on both at once",
    ]
    assert tested == ["classifier", "segmenter", "another"]
    assert matrix.shape == (12, 3)
    ours = sources.index("adversary, on the classifier")
    images = measured.perturbed("adversary", "classifier")
    for column, network in enumerate((networks["classifier"], networks["segmenter"], further["another"])):
        assert matrix[ours, column] == pytest.approx(measured.bench.effect(network, images)["success"])
    assert matrix[ours, 0] == measured.row("adversary", "classifier")["success"] > 0.5
    images, _ = measured.bench.attack(asked(()), networks["classifier"], 8 / 255)  # of all that it knows
    both = measured.bench.effect(networks["segmenter"], images)["success"]
    assert matrix[-1, 1] == pytest.approx(both)
    pgd = sources.index("PGD, on the segmenter")  # on the images that PGD perturbed, which are fewer
    few = measured.on("PGD", "segmenter", 8)
    images, _ = few.attack(PGD(), networks["segmenter"], 8 / 255)
    assert matrix[pgd, 2] == pytest.approx(few.effect(further["another"], images)["success"])


def test_survival_is_measured_after_each_handling(measured, networks):
    table = fooling.survival(measured, "classifier")
    assert list(table) == ["adversary", *SETTINGS.attacks]
    for row in table.values():
        assert list(row) == ["as saved", *HANDLING]
    ours, images = table["adversary"], measured.perturbed("adversary", "classifier")
    assert ours["as saved"] == measured.row("adversary", "classifier")["success"]
    for how in HANDLING:
        after = measured.bench.effect(networks["classifier"], handled(images, how))
        assert ours[how] == pytest.approx(after["success"])
    assert ours["half size and back"] < ours["as saved"]  # a checkerboard does not survive that


def test_the_trade_off_follows_the_bounds(measured):
    curves = fooling.trade_off(measured)
    assert list(curves) == ["adversary", *SETTINGS.attacks]
    for name, points in curves.items():
        rows = [measured.row(name, "classifier", e) for e in (4, 8)]
        assert [point[:2] for point in points] == [(row["psnr"], row["success"]) for row in rows]
        texts = ["4/255", "8/255"] if name == "adversary" else ["", ""]
        assert [point[2] for point in points] == texts


def test_one_pattern_has_all_of_its_effect_on_other_images_too(opened):
    for generator, least, most in ((Drawn(), 0.99, 1.01), (ByImage(), 0, 0.9)):
        measured = opened(adversary=run_of(generator))
        found = fooling.of_another_image(measured, "classifier")
        assert list(found) == [4, 8]
        for epsilon, row in found.items():
            assert row["own"] == measured.row("adversary", "classifier", epsilon)["success"] > 0
            assert row["share"] == pytest.approx(row["other"] / row["own"])
            assert least <= row["share"] <= most


def test_swapped_perturbations_are_those_of_the_image_before(opened):
    measured = opened(adversary=run_of(ByImage()))
    change = measured.perturbed("adversary", "classifier").astype(int) - measured.bench.images
    expected = np.stack([image + change[k - 1] for k, image in enumerate(measured.bench.images)])
    expected = np.clip(expected, 0, 255).astype(np.uint8)
    effect = measured.bench.effect(measured.victims["classifier"], expected)
    found = measured.swapped("classifier", 8)
    assert found["success"] == pytest.approx(effect["success"])
    assert found["low"] <= found["success"] <= found["high"]


def test_goals_are_measured_by_what_they_wanted(measured, networks):
    table = fooling.goals(measured, 2)
    assert list(table.index) == ["sign noise", "FGSM", "PGD", "adversary"]
    assert set(table.columns) == {
        f"{goal}: {what}"
        for goal in ("appear", "vanish")
        for what in ("success", "95 % interval", "PSNR (dB)")
    }
    victim = networks["classifier"]
    for goal in ("appear", "vanish"):
        images, _ = measured.bench.attack(asked(), victim, 8 / 255, goal=goal, class_index=2)
        effect = measured.bench.effect(victim, images, goal=goal, class_index=2)
        assert table.loc["adversary", f"{goal}: success"] == pytest.approx(effect["success"])
        assert table.loc["PGD", f"{goal}: success"] == 1
        assert table.loc["sign noise", f"{goal}: success"] < 0.5


def test_the_defence_is_compared_attack_by_attack(measured, networks):
    defended = Network(moved_classifier(1.0), "multilabel", "defended")
    own = asked(("segmenter",))
    table = fooling.defence(measured, defended, own)
    assert list(table) == ["as trained", "adversarially fine-tuned"]
    before, after = table.values()
    attacks = ["no attack", "sign noise", "first adversary", *GRADIENT, "own adversary"]
    assert list(before) == list(after) == attacks
    assert before["own adversary"] == before["first adversary"] < 0.5  # its own is the first one
    images, _ = measured.bench.attack(own, defended, 8 / 255)
    assert after["own adversary"] == pytest.approx(measured.bench.effect(defended, images)["accuracy"])
    images = measured.perturbed("adversary", "classifier")
    assert after["first adversary"] == pytest.approx(measured.bench.effect(defended, images)["accuracy"])
    assert (
        before["no attack"]
        == measured.bench.effect(networks["classifier"], measured.bench.images)["accuracy"]
    )


# --- images ---


def test_an_attack_is_shown_on_images_that_are_understood(measured, scored):
    """Here the classifier mistakes some on purpose."""
    model = fragile_classifier()
    model.get_layer("logits").bias.assign([-1.5, 0, 2.5, -9])
    victim = Network(model, "multilabel")
    logits = victim.logits(eight_bit(measured.bench.images))
    wrong = {i for i in range(12) if not scored.labels[i, logits[i].argmax()]}
    assert 0 < len(wrong) < 8
    for seed in range(4):
        chosen = fooling.telling_images(measured.bench, victim, 12, seed)
        assert not wrong & set(chosen)
        shown = [tuple(scored.labels[i]) for i in chosen]
        assert len(set(shown)) == len(shown)
        assert set(shown) == {tuple(scored.labels[i]) for i in range(12) if i not in wrong}
        np.testing.assert_array_equal(chosen, fooling.telling_images(measured.bench, victim, 12, seed))
        assert list(fooling.telling_images(measured.bench, victim, 2, seed)) == list(chosen[:2])
    drawn = {tuple(fooling.telling_images(measured.bench, victim, 3, seed)) for seed in range(6)}
    assert len(drawn) > 1


def test_a_segmenter_is_shown_on_its_best_maps(measured, networks, scored):
    chosen = fooling.telling_images(measured.bench, networks["segmenter"], 4)
    truth = measured.bench.truth("segmentation")
    maps = networks["segmenter"].logits(eight_bit(measured.bench.images)).argmax(-1)
    quality = np.zeros(12)
    for i in range(12):
        seen = truth[i] != VOID
        found, true = (maps[i] > 0) & seen, (truth[i] > 0) & seen
        quality[i] = ((maps[i] == truth[i]) & true).sum() / (found | true).sum()
        quality[i] *= true.mean() > 0.08
    assert all(a >= b for a, b in pairwise(quality[chosen]))
    best_of = {}
    for i in np.argsort(-quality, kind="stable"):
        best_of.setdefault(tuple(scored.labels[i]), i)
    assert list(chosen) == [i for i in best_of.values() if quality[i] > 0][:4]


def test_specks_are_not_shown_however_well_they_are_segmented():
    truth = np.zeros((2, 10, 10), np.uint8)
    truth[0, :2, :4] = truth[1, :5, :4] = 1  # 8 % of the pixels and 20 %
    maps = truth.copy()
    maps[1, 0] = 0
    bench = SimpleNamespace(
        clean=lambda victim: SimpleNamespace(values=maps),
        truth=lambda task: truth,
        dataset=SimpleNamespace(labels=np.array([[1], [1]])),
    )
    assert list(fooling.telling_images(bench, SimpleNamespace(task="segmentation"), 1)) == [1]


def test_an_answer_names_the_surest_classes():
    multilabel, multiclass = (Network(fragile_classifier(), task) for task in ("multilabel", "multiclass"))
    logits = np.log(np.array([0.9, 0.8, 0.6, 0.05]) / (1 - np.array([0.9, 0.8, 0.6, 0.05])))
    assert fooling.answer_text(multilabel, logits, CLASSES) == "red 0.90, green 0.80"
    assert fooling.answer_text(multilabel, logits, CLASSES, most=3) == "red 0.90, green 0.80, blue 0.60"
    assert fooling.answer_text(multilabel, np.array([-3.0, -4, -5, -9]), CLASSES) == "red 0.05"
    shares = np.log([0.02, 0.25, 0.68, 0.05]) + 100  # softmax does not mind
    assert fooling.answer_text(multiclass, shares, CLASSES) == "blue 0.68, green 0.25"
    assert fooling.answer_text(multiclass, np.array([0.0, 9, 0, 0]), CLASSES) == "green 1.00"


def test_the_rarest_class_that_is_common_enough():
    labels = np.zeros((100, 4), np.uint8)
    for k, count in enumerate((8, 50, 20, 3)):
        labels[:count, k] = 1
    assert study.rarest_common_class(labels) == 0
    assert study.rarest_common_class(labels, least=0.02) == 3
    assert study.rarest_common_class(labels, least=0.9) == 1  # no class is as common: the commonest


def test_triptychs_show_what_attacks_did_at_each_bound(measured, networks, scored):
    victim, chosen = networks["classifier"], [3, 0, 7]
    rows = fooling.triptychs(measured, chosen, CLASSES, [2, 8])
    assert len(rows) == 3
    for i, ((clean, answer, fooled), attacked) in zip(chosen, rows):
        np.testing.assert_array_equal(clean, measured.bench.images[i])
        assert answer == fooling.answer_text(victim, victim.logits(eight_bit(clean[None]))[0], CLASSES)
        assert not fooled
        assert list(attacked) == ["adversary", "sign noise"]
        for shown in attacked.values():
            for bound, (image, answer, fooled) in zip([2, 8], shown, strict=True):
                assert np.abs(image.astype(int) - clean).max() == bound
                logits = victim.logits(eight_bit(image[None]))[0]
                assert answer == fooling.answer_text(victim, logits, CLASSES)
                assert fooled is (not scored.labels[i, logits.argmax()])
        ours = attacked["adversary"][1][0]
        np.testing.assert_array_equal(ours, measured.perturbed("adversary", "classifier")[i])
    assert any(attacked["adversary"][1][2] for _, attacked in rows)


def test_masks_are_shown_with_the_dice_of_each_map(measured, networks):
    rows = fooling.mask_rows(measured, [5, 2])
    images = measured.perturbed("adversary", "segmenter")
    truth = measured.bench.truth("segmentation")
    for i, (clean, perturbed, true, before, after, *texts) in zip([5, 2], rows):
        np.testing.assert_array_equal(clean, measured.bench.images[i])
        np.testing.assert_array_equal(perturbed, images[i])
        np.testing.assert_array_equal(true, truth[i])
        for shown, image, text in ((before, clean, texts[0]), (after, perturbed, texts[1])):
            found = networks["segmenter"].logits(eight_bit(image[None]))[0].argmax(-1)
            np.testing.assert_array_equal(shown, found)
            assert text == f"Dice {image_scores(true, shown, 5):.2f}"


# --- changed settings and sentences ---


class Half(Attack):
    """An attack as a notebook defines it."""

    def perturb(self, network, images, target, budget):
        return images + 0.5 * budget.epsilon


def test_an_attack_added_in_one_line_is_in_every_table_and_sentence(opened):
    settings = study.settings(SMOKE)
    settings.size, settings.images, settings.pgd_images = 32, (0, 5), (6, 3)
    settings.attacks["half"] = Half()
    assert "half" not in study.settings(SMOKE).attacks
    measured = opened(settings=settings)
    assert "half" in fooling.attack_table(measured, "classifier").index
    assert "half" in fooling.over_epsilon(measured, "segmenter")
    assert {"half, on the classifier", "half, on the segmenter"} <= set(fooling.transfer(measured)[1])
    assert "half" in fooling.survival(measured, "classifier")
    assert "half" in findings.effect(measured, "classifier")
    assert len(measured.few("adversary", "classifier")[0]) == 5
    assert "half" in fooling.trade_off(measured)
    assert findings.key_numbers(measured)["success on the classifier at 8/255"].endswith("sign noise 0.0%")


def test_attacks_are_compared_by_their_intervals():
    strong, weak, between = (dict(low=a, high=b) for a, b in ((0.8, 0.9), (0.1, 0.2), (0.15, 0.85)))
    assert findings.compared(strong, weak, ("A", "B")).startswith("A succeeds more often than B")
    assert findings.compared(weak, strong, ("A", "B")).startswith("B succeeds more often than A")
    assert "do not settle" in findings.compared(strong, between, ("A", "B"))


@pytest.mark.parametrize(
    ("differences", "said"),
    [
        ({4: 0.4, 8: 0.6}, "below 1 up to 4/255."),  # never of 8/255
        ({4: 1.4, 8: 2.6}, "below 1 at none of these bounds."),
    ],
)
def test_imperceptible_is_said_only_where_it_holds(differences, said):
    row = {"psnr": 30.0, "ssim": 0.9, "success": 0.5}
    rows = {e: {**row, "ciede2000": d, "linf": e} for e, d in differences.items()}
    measured = SimpleNamespace(bounds=[4, 8], row=lambda name, victim, e: rows[e])
    text = findings.visibility(measured)
    assert said in text
    assert all(f"ΔE00 {d:.2f}" in text for d in differences.values())


def test_sentences_give_what_was_measured(measured):
    row = measured.row("adversary", "classifier")
    text = findings.effect(measured, "classifier")
    assert f"{row['success']:.1%}" in text
    assert f"8/255 {row['success']:.0%}" in text
    left = fooling.survival(measured, "classifier")
    assert f"{HANDLING[1]}: {left['adversary'][HANDLING[1]]:.0%}" in findings.handling(left)
    found = fooling.of_another_image(measured, "classifier")
    both = f"at 4/255 {found[4]['other']:.1%}, with its own {found[4]['own']:.1%}"
    assert both in findings.one_pattern(found, "classifier")
    nothing = {4: {"own": 0.0, "other": 0.0, "share": float("nan")}}
    assert "nan" not in findings.one_pattern(nothing, "classifier")


def test_a_network_at_chance_is_told_from_one_that_has_learnt(opened):
    blind = Network(moved_classifier(-9.0), "multilabel", "blind")  # always answers "never"
    found = findings.above_chance(opened(further={"blind": blind}))
    assert found["segmenter"]
    assert not found["blind"]


def test_a_segmenter_that_finds_nothing_has_no_interval(measured, scored):
    model = fragile_segmenter()
    model.get_layer("logits").bias.assign([1e4, 0, 0, 0, 0])
    bench, victim = Bench(scored, 32), Network(model, "segmentation", "blind")
    assert np.isnan(bench.interval(victim, bench.clean(victim))).all()
