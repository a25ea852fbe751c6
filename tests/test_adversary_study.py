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
from voclab.data.base import VOID
from voclab.experiments import adversary as study
from voclab.experiments import fooling
from voclab.experiments import fooling_findings as findings
from voclab.experiments.common import Profile
from voclab.metrics import image_scores
from voclab.models.generator import attack_model, build_generator
from voclab.models.pretrained import Weights
from voclab.training import Parts, Run
from voclab.training.segmentation import Segmentation

WEIGHTS = Weights("cnn", "file", "w.weights.h5", "for the test")
MOBILENET = Weights("mobilenet_v2", "imagenet", "imagenet", "for the test")
PROFILES = [("smoke", "toyvoc"), *((n, d) for n in ("demo", "full") for d in ("toyvoc", "voc2009"))]
SMOKE = Profile("smoke", True)
SETTINGS = replace(
    study.settings(SMOKE),
    size=32,
    epsilons=(4, 8),
    images=(0, 0),
    pgd_images=(6, 3),
    penalty_weights=(0.5, 4.0),
)

GRADIENT = ("FGSM", "PGD", "momentum PGD")


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""


def silent(line):
    """For measurements whose progress nobody reads."""


# --- the plan ---


@pytest.mark.parametrize("segmenter", [True, False])
@pytest.mark.parametrize(("name", "dataset"), PROFILES)
def test_every_adversary_comes_after_the_one_it_starts_from(name, dataset, segmenter):
    settings = study.settings(Profile.of(name, dataset))
    listed = study.experiments(settings, WEIGHTS, 3, segmenter, 2, epsilon=6)
    assert len({e.name for e in listed}) == len(listed)
    before = {}
    for experiment in listed:
        assert experiment.start is None or experiment.start in before
        before[experiment.name] = experiment
    assert {e.task.epsilon for e in listed} == {6 / 255}
    assert {e.recipe.seed for e in listed} == {3}
    assert {e.recipe.size for e in listed} == {settings.size}
    assert all(e.recipe.patience > e.recipe.epochs for e in listed)  # the last epochs are the good ones
    attacked = {e.name: e.task.victims for e in listed}
    weights = [f"adversary-classifier-weight{w:g}" for w in settings.penalty_weights]
    of_classifier = [f"adversary-classifier-cycle{i}" for i in range(1, settings.cycles)]
    of_classifier += ["adversary-classifier-universal", "adversary-classifier"]
    of_classifier += ["adversary-classifier-appear", "adversary-classifier-vanish", *weights]
    expected = dict.fromkeys(of_classifier, ("classifier",))
    if segmenter:
        expected |= dict.fromkeys(["adversary-segmenter-universal", "adversary-segmenter"], ("segmenter",))
        expected["adversary-both"] = ("classifier", "segmenter")
    assert attacked == expected
    assert {e.task.kappa for e in listed} == {settings.kappa}


def flat(experiment):
    """Fields of an experiment and of its task."""
    fields = asdict(experiment)
    return fields | fields.pop("task")


def test_an_adversary_differs_from_that_of_the_classifier_in_what_its_name_says():
    listed = {e.name: e for e in study.experiments(SETTINGS, WEIGHTS, 0, True, 2)}
    reference = flat(listed["adversary-classifier"])
    allowed = {
        "adversary-classifier-appear": {"goal", "class_index", "recipe"},
        "adversary-classifier-vanish": {"goal", "class_index", "recipe"},
        "adversary-classifier-weight0.5": {"weight", "start", "recipe"},
        "adversary-classifier-weight4": {"weight", "start", "recipe"},
        "adversary-segmenter": {"victims", "start", "recipe"},
        "adversary-both": {"victims", "recipe"},
    }
    for name, changed in allowed.items():
        fields = flat(listed[name])
        recipes = fields["recipe"], reference["recipe"]
        assert {k for k in recipes[0] if recipes[0][k] != recipes[1][k]} <= {"epochs", "patience"}
        assert {k for k in fields if fields[k] != reference[k]} | {"recipe"} == changed | {"name", "recipe"}
    goals = {n: (e.task.goal, e.task.class_index) for n, e in listed.items() if e.task.goal != "untargeted"}
    assert goals == {f"adversary-classifier-{goal}": (goal, 2) for goal in ("appear", "vanish")}
    weights = {n: e.task.weight for n, e in listed.items() if e.task.weight}
    assert weights == {"adversary-classifier-weight0.5": 0.5, "adversary-classifier-weight4": 4.0}
    assert listed["adversary-classifier-weight4"].start == "adversary-classifier"
    universal = {n: e.model for n, e in listed.items() if e.model != "image"}
    assert universal == {f"adversary-{v}-universal": "universal" for v in ("classifier", "segmenter")}
    assert {e.task.epsilon for e in listed.values()} == {8 / 255}


def test_cycles_of_the_classifiers_adversary_follow_one_another():
    settings = replace(SETTINGS, cycles=3)
    listed = {e.name: e for e in study.experiments(settings, WEIGHTS, 0, True, 2)}
    chain = ["adversary-classifier"]
    while listed[chain[-1]].start:
        chain.append(listed[chain[-1]].start)
    prefix = "adversary-classifier"
    assert chain == [prefix, f"{prefix}-cycle2", f"{prefix}-cycle1", f"{prefix}-universal"]
    for name in ("adversary-both", f"{prefix}-appear", f"{prefix}-vanish"):
        assert listed[name].start == f"{prefix}-universal"
    assert listed["adversary-segmenter"].start == "adversary-segmenter-universal"
    assert listed[f"{prefix}-weight4"].start == prefix


@pytest.mark.parametrize("weights", [WEIGHTS, MOBILENET], ids=["cnn", "mobilenet"])
def test_the_encoder_is_pretrained_like_the_victims(weights):
    for experiment in study.experiments(SETTINGS, weights, 0, True, 0):
        if experiment.model == "image":
            assert (experiment.backbone, experiment.weights) == (weights.backbone, weights.value)
        else:
            assert (experiment.backbone, experiment.weights) == (None, None)
    tiles = {e.options["tile"] for e in study.experiments(SETTINGS, weights, 0, True, 0)}
    assert len(tiles) == 1  # otherwise none could start from a universal one


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("adversary-classifier", "on classifier"),
        ("adversary-both", "on both"),
        ("adversary-segmenter-universal", "on segmenter, universal"),
        ("adversary-classifier-weight0.5", "on classifier, weight 0.5"),
    ],
)
def test_a_run_has_a_name_for_people(name, label):
    assert study.run_label(name) == label


def test_the_defence_is_trained_as_the_settings_say():
    hardened = study.defended(SETTINGS, seed=5, epsilon=4)
    recipe, task = hardened.recipe, hardened.task
    assert (recipe.size, recipe.epochs, recipe.seed) == (32, SETTINGS.defence_epochs, 5)
    assert (recipe.learning_rate, task.epsilon) == (SETTINGS.defence_learning_rate, 4 / 255)
    assert (task.steps, task.clean) == (SETTINGS.defence_steps, True)
    listed = study.experiments(SETTINGS, WEIGHTS, 5, True, 2)
    adaptive = study.adaptive(SETTINGS, listed)
    first = next(e for e in listed if e.name == "adversary-classifier")
    assert (adaptive.start, adaptive.model) == (first.start, first.model)
    assert adaptive.task.victims == ("defended",)


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


def perturbing(seed: int, share: float = 1.0):
    """An adversary that adds a pattern of its own: what it fools does not matter here."""
    generator = build_generator(mode="universal", tile=8)
    (start,) = generator.get_weights()
    signs = np.random.default_rng(seed).choice([-1, 1], start.shape)
    generator.set_weights([(0.01 * share * signs).astype(np.float32)])
    return attack_model(generator, 8 / 255)


def checkerboard():
    """A perturbation that makes every image blue for the fragile classifier."""
    generator = build_generator(mode="universal", tile=8)
    (start,) = generator.get_weights()
    signs = (-1.0) ** np.add.outer(np.arange(8), np.arange(8))
    pattern = np.zeros(start.shape, np.float32)
    pattern[..., 2] = 0.01 * signs
    generator.set_weights([pattern])
    return attack_model(generator, 8 / 255)


@pytest.fixture(scope="module")
def adversaries(tmp_path_factory):
    """A complete run for each planned adversary, without training: patterns, some of which fool."""
    folder, runs = tmp_path_factory.mktemp("adversaries"), {}
    for seed, experiment in enumerate(study.experiments(SETTINGS, WEIGHTS, 0, True, 3)):
        runs[experiment.name] = run = Run(folder / experiment.name)
        run.begin({"experiment": replace(experiment, options={})})
        fools = experiment.name in (
            "adversary-classifier",
            "adversary-both",
            "adversary-classifier-weight0.5",
        )
        run.save_model(checkerboard() if fools else perturbing(seed))
        run.finish({"seconds": 1.0})
    return runs


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
def opened(adversaries, networks, further, scored, tmp_path, lines):
    """Measurements in a folder of the test's own."""

    def _opened(**changes):
        options = {"scored": scored, "victims": networks, "adversaries": adversaries, "settings": SETTINGS}
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
def measured(adversaries, networks, further, scored, tmp_path_factory):
    """Measurements that the tests below share: none of them changes a figure."""
    run = Run(tmp_path_factory.mktemp("shared") / "attacks")
    return fooling.Measurements(run, scored, networks, adversaries, SETTINGS, further, progress=silent)


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
    assert measured.row("image", "classifier")["success"] > 0.5
    half = measured.row("sign noise", "classifier", 4)
    assert half["linf"] == 4
    assert half["psnr"] > row["psnr"]


def test_names_stand_for_the_adversary_of_that_victim(measured, adversaries):
    for name, victim, run in (
        ("universal", "classifier", "adversary-classifier-universal"),
        ("universal", "segmenter", "adversary-segmenter-universal"),
        ("image", "segmenter", "adversary-segmenter"),
        ("both", "segmenter", "adversary-both"),
        ("adversary-classifier-vanish", "classifier", "adversary-classifier-vanish"),
    ):
        images, _ = measured.bench.attack(
            Adversary.of(adversaries[run]), measured.victims["classifier"], 8 / 255
        )
        found, _ = measured.bench.attack(
            measured.attack(name, victim), measured.victims["classifier"], 8 / 255
        )
        np.testing.assert_array_equal(found, images)


def everything(measured):
    """All that the notebook asks of its measurements, but for the defence."""
    return [
        [measured.row(n, v) for n in ("sign noise", "image") for v in measured.victims],
        measured.row("adversary-classifier-appear", "classifier", goal="appear", class_index=1),
        measured.transferred("image", "classifier", "another"),
        measured.survived("image", "classifier", HANDLING[1]),
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
    measured.row("image", "classifier")
    measured.transferred("image", "classifier", "another")
    for how in HANDLING:
        measured.survived("image", "classifier", how)
    measured.perturbed("image", "classifier")
    assert attacks_in(lines) == 1


@pytest.mark.parametrize("changed", ["victim", "further", "adversary", "settings", "epsilon", "images"])
def test_measurements_fall_when_what_they_are_of_changes(
    changed, opened, lines, adversaries, scored, networks
):
    opened().transferred("sign noise", "classifier", "another")
    done = attacks_in(lines)
    changes = {
        "victim": {
            "victims": networks | {"classifier": Network(moved_classifier(0.4), "multilabel", "classifier")}
        },
        "further": {"further": {"another": Network(moved_classifier(0.3), "multilabel", "another")}},
        "adversary": {"adversaries": adversaries | {"adversary-classifier": adversaries["adversary-both"]}},
        "settings": {"settings": replace(SETTINGS, pgd_images=(5, 3))},
        "epsilon": {"epsilon": 6},
        "images": {"scored": scored.subset(range(1, 12))},
    }[changed]
    opened().transferred("sign noise", "classifier", "another")
    assert attacks_in(lines) == done
    opened(**changes).transferred("sign noise", "classifier", "another")
    assert attacks_in(lines) > done


def test_an_interrupted_measurement_goes_on(opened, lines):
    names = ("sign noise", "uniform noise", "image")

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
    for name in ("PGD", "momentum PGD"):
        assert [len(measured.on(name, "segmenter", e)) for e in (4, 8)] == [3, 6]
    assert measured.on("image", "segmenter", 4) is whole
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
    names = ["none", *SETTINGS.attacks, *fooling.LABELS.values()]
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
    row = measured.row("image", "classifier")
    ours = tables["classifier"].loc["adversary, image-dependent"]
    assert ours["success"] == row["success"] > 0.5
    assert ours["ms an image"] == pytest.approx(1000 * row["seconds"])
    assert ours["L2"] == row["l2"]
    assert ours["SSIM"] == row["ssim"]


def test_without_an_adversary_of_both_there_is_no_row_of_it(opened, adversaries, networks):
    alone = {"classifier": networks["classifier"]}
    runs = {name: run for name, run in adversaries.items() if "classifier" in name}
    measured = opened(victims=alone, adversaries=runs)
    assert "both" not in measured.names()
    assert list(fooling.attack_table(measured, "classifier").index)[-1] == "adversary, image-dependent"
    assert not any("both" in title for title in fooling.transfer(measured)[1])
    assert not any("segmenter" in title for title in fooling.on_one_image(measured, 0))


def test_fooling_over_epsilon_has_all_bounds(measured):
    lines = fooling.over_epsilon(measured, "classifier")
    assert list(lines) == [*SETTINGS.attacks, *fooling.LABELS.values()]
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
                *(n + ", on the {}" for n in ("FGSM", "PGD", "momentum PGD")),
            )
        ),
        "adversary, on both",
    ]
    assert tested == ["classifier", "segmenter", "another"]
    assert matrix.shape == (10, 3)
    ours = sources.index("adversary, on the classifier")
    images = measured.perturbed("image", "classifier")
    for column, network in enumerate((networks["classifier"], networks["segmenter"], further["another"])):
        assert matrix[ours, column] == pytest.approx(measured.bench.effect(network, images)["success"])
    assert matrix[ours, 0] == measured.row("image", "classifier")["success"] > 0.5
    pgd = sources.index("PGD, on the segmenter")  # on the images that PGD perturbed, which are fewer
    few = measured.on("PGD", "segmenter", 8)
    images, _ = few.attack(PGD(), networks["segmenter"], 8 / 255)
    assert matrix[pgd, 2] == pytest.approx(few.effect(further["another"], images)["success"])


def test_survival_is_measured_after_each_handling(measured, networks):
    table = fooling.survival(measured, "classifier")
    assert list(table) == [
        "FGSM",
        "PGD",
        "momentum PGD",
        "adversary, universal",
        "adversary, image-dependent",
    ]
    for row in table.values():
        assert list(row) == ["as saved", *HANDLING]
    ours, images = table["adversary, image-dependent"], measured.perturbed("image", "classifier")
    assert ours["as saved"] == measured.row("image", "classifier")["success"]
    for how in HANDLING:
        after = measured.bench.effect(networks["classifier"], handled(images, how))
        assert ours[how] == pytest.approx(after["success"])
    assert ours["half size and back"] < ours["as saved"]  # a checkerboard does not survive that


def test_the_trade_off_follows_the_weights(measured):
    curves = fooling.trade_off(measured)
    assert list(curves) == ["adversary, penalty on L2", "sign noise", *GRADIENT, "adversary, universal"]
    curve = curves["adversary, penalty on L2"]
    assert [label for _, _, label in curve] == ["weight 0", "weight 0.5", "weight 4"]
    for (psnr, fooled, _), name in zip(
        curve, ("image", "adversary-classifier-weight0.5", "adversary-classifier-weight4")
    ):
        row = measured.row(name, "classifier")
        assert (psnr, fooled) == (row["psnr"], row["success"])
    assert [len(points) for points in curves.values()] == [3, 1, 1, 1, 1, 1]


def test_goals_are_measured_by_what_they_wanted(measured, networks, adversaries):
    table = fooling.goals(measured, 2)
    assert list(table.index) == ["sign noise", "PGD", "adversary"]
    assert set(table.columns) == {
        f"{goal}: {what}"
        for goal in ("appear", "vanish")
        for what in ("success", "95 % interval", "PSNR (dB)")
    }
    victim = networks["classifier"]
    for goal in ("appear", "vanish"):
        attack = Adversary.of(adversaries[f"adversary-classifier-{goal}"])
        images, _ = measured.bench.attack(attack, victim, 8 / 255, goal=goal, class_index=2)
        effect = measured.bench.effect(victim, images, goal=goal, class_index=2)
        assert table.loc["adversary", f"{goal}: success"] == pytest.approx(effect["success"])
        assert table.loc["PGD", f"{goal}: success"] == 1
        assert table.loc["sign noise", f"{goal}: success"] < 0.5


def test_the_defence_is_compared_attack_by_attack(measured, networks, adversaries):
    defended = Network(moved_classifier(1.0), "multilabel", "defended")
    own = Adversary.of(adversaries["adversary-classifier-universal"])
    table = fooling.defence(measured, defended, own)
    assert list(table) == ["as trained", "adversarially fine-tuned"]
    before, after = table.values()
    attacks = ["no attack", "sign noise", "first adversary", *GRADIENT, "own adversary"]
    assert list(before) == list(after) == attacks
    assert before["own adversary"] == before["first adversary"] < 0.5  # its own is the first one
    images, _ = measured.bench.attack(own, defended, 8 / 255)
    assert after["own adversary"] == pytest.approx(measured.bench.effect(defended, images)["accuracy"])
    images = measured.perturbed("image", "classifier")
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


def test_triptychs_show_what_the_adversary_did(measured, networks, scored):
    victim, chosen = networks["classifier"], [3, 0, 7]
    rows = fooling.triptychs(measured, "classifier", chosen, CLASSES)
    images = measured.perturbed("image", "classifier")
    before, after = (victim.logits(eight_bit(x)) for x in (measured.bench.images, images))
    assert len(rows) == 3
    for i, (clean, perturbed, answer, attacked, fooled) in zip(chosen, rows):
        np.testing.assert_array_equal(clean, measured.bench.images[i])
        np.testing.assert_array_equal(perturbed, images[i])
        assert answer == fooling.answer_text(victim, before[i], CLASSES)
        assert attacked == fooling.answer_text(victim, after[i], CLASSES)
        assert fooled is (not scored.labels[i, after[i].argmax()])
    assert any(row[-1] for row in rows)


def test_masks_are_shown_with_the_dice_of_each_map(measured, networks):
    rows = fooling.mask_rows(measured, [5, 2])
    images = measured.perturbed("image", "segmenter")
    truth = measured.bench.truth("segmentation")
    for i, (clean, perturbed, true, before, after, *texts) in zip([5, 2], rows):
        np.testing.assert_array_equal(clean, measured.bench.images[i])
        np.testing.assert_array_equal(perturbed, images[i])
        np.testing.assert_array_equal(true, truth[i])
        for shown, image, text in ((before, clean, texts[0]), (after, perturbed, texts[1])):
            found = networks["segmenter"].logits(eight_bit(image[None]))[0].argmax(-1)
            np.testing.assert_array_equal(shown, found)
            assert text == f"Dice {image_scores(true, shown, 5):.2f}"


def test_one_image_is_shown_after_each_attack(measured):
    images = fooling.on_one_image(measured, 4)
    assert list(images) == [
        "sign noise",
        "FGSM\n(on the classifier)",
        *(
            f"adversary, {kind}\n(on the {victim})"
            for victim in ("classifier", "segmenter")
            for kind in ("universal", "image-dependent")
        ),
    ]
    clean = measured.bench.images[4].astype(int)
    assert all(p.dtype == np.uint8 and 0 < np.abs(p - clean).max() <= 8 for p in images.values())
    for victim in ("classifier", "segmenter"):
        shown = images[f"adversary, image-dependent\n(on the {victim})"]
        np.testing.assert_array_equal(shown, measured.perturbed("image", victim)[4])


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
    assert len(measured.few("image", "classifier")[0]) == 5
    assert findings.key_numbers(measured)["classifier fooled at 8/255"].endswith("sign noise 0.0%")


def test_attacks_are_compared_by_their_intervals():
    strong, weak, between = (dict(low=a, high=b) for a, b in ((0.8, 0.9), (0.1, 0.2), (0.15, 0.85)))
    assert findings.compared(strong, weak, ("A", "B")).startswith("A succeeds more often than B")
    assert findings.compared(weak, strong, ("A", "B")).startswith("B succeeds more often than A")
    assert "does not decide" in findings.compared(strong, between, ("A", "B"))


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
