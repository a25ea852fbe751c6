"""`voclab sweep`: what may be searched, and that trials are ordinary runs that processes share."""

import shutil
import subprocess
import sys
from datetime import timedelta
from importlib import util

import numpy as np
import optuna
import pandas as pd
import pytest
from PIL import Image

from voclab import cli
from voclab.data import batches
from voclab.data.drawn import draw
from voclab.errors import VoclabError
from voclab.experiments import sweep as sweeping
from voclab.experiments.search import Plan, Range, plan
from voclab.experiments.sweep import sweep
from voclab.models.saved import load_model
from voclab.training import Run

TYPED = {"model": "small_cnn", "width": 4, "epochs": 1, "batch_size": 8}
SEARCH = ["learning_rate=1e-4:1e-1:log", "dropout=0:0.5", "optimizer=adam,sgd"]


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    """Forty small noisy images of two colours, in a folder of images by class."""
    root, rng = tmp_path_factory.mktemp("data") / "colours", np.random.default_rng(0)
    for name, colour in {"blue": (60, 70, 190), "red": (200, 70, 60)}.items():
        (root / name).mkdir(parents=True)
        for k in range(20):
            pixels = np.clip(rng.normal(colour, 60, (16, 16, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{k:02d}.png")
    return root


@pytest.fixture(scope="module")
def planned(colours):
    return plan({**TYPED, "dataset": str(colours)}, SEARCH)


@pytest.fixture(scope="module")
def done(colours, tmp_path_factory):
    """Folder of the runs after a sweep of three trials, and what it said."""
    runs = tmp_path_factory.mktemp("runs")
    typed = [f"--{name.replace('_', '-')}={value}" for name, value in TYPED.items()]
    command = ["sweep", "--dataset", str(colours), *typed, "--search", *SEARCH, "--trials", "3"]
    assert cli.main([*command, "--name", "s", "--runs", str(runs)]) == 0
    return runs


def silent(line):
    """For trials whose progress nobody reads."""


def interrupted(*_):
    """For a training that is stopped."""
    raise KeyboardInterrupt


@pytest.fixture
def quick(monkeypatch):
    """Trials that train nothing; gives the list of what was asked for, in order."""
    asked_for = []

    def trained(asked, name, runs, progress, data):
        asked_for.append((name, asked))
        if asked["optimizer"] == "sgd":
            raise VoclabError("The loss is nan; lower the learning rate.")
        return Run(runs / name)

    monkeypatch.setattr(sweeping, "trained", trained)
    monkeypatch.setattr(
        sweeping, "validation_score", lambda asked, data, run: ("accuracy", asked.get("dropout", 0))
    )
    return asked_for


def test_trials_are_runs_scored_on_validation_images(done):
    table = pd.read_csv(done / "s" / "trials.csv", index_col="trial")
    assert list(table.columns) == ["score", "state", "learning_rate", "dropout", "optimizer", "why"]
    assert list(table.state) == ["complete"] * 3
    for number, row in table.iterrows():
        run = Run(done / "s" / f"trial-{number}")
        assert run.complete
        assert row.score == max(entry["accuracy"] for entry in run.history)
        recipe = run.config["experiment"]["recipe"]
        assert (recipe["learning_rate"], recipe["optimizer"]) == (row.learning_rate, row.optimizer)
        assert run.config["asked"]["dropout"] == row.dropout
    assert len(set(table.learning_rate)) == 3


def test_the_page_has_the_trials_and_both_figures(done):
    text = (done / "s" / "README.md").read_text()
    assert "3 trials of learning\\_rate, dropout, optimizer: 3 complete" in text
    assert "validation accuracy" in text
    for name in ("score.png", "score.svg", "settings.png", "settings.svg", "index.html"):
        assert (done / "s" / name).stat().st_size > 1000


def test_the_same_seed_tries_the_same_settings_and_another_one_others(planned, quick, tmp_path):
    sweep(planned, "a", tmp_path, 4, progress=silent)
    first = [options["learning_rate"] for _, options in quick]
    quick.clear()
    for trials in (1, 2, 3, 4):  # a process for each
        sweep(planned, "b", tmp_path, trials, progress=silent)
    assert [options["learning_rate"] for _, options in quick] == first
    quick.clear()
    sweep(plan({**planned.typed, "seed": 1}, SEARCH), "c", tmp_path, 4, progress=silent)
    assert {options["learning_rate"] for _, options in quick}.isdisjoint(first)


def test_trials_are_counted_in_all_and_failed_ones_reported(planned, quick, tmp_path):
    table, score = sweep(planned, "s", tmp_path, 8, progress=silent)
    assert score == "accuracy"
    failed = table.optimizer == "sgd"
    assert set(failed) == {True, False}
    assert list(table.state) == ["failed" if each else "complete" for each in failed]
    assert list(table.why) == ["The loss is nan; lower the learning rate." if each else "" for each in failed]
    assert table.score[~failed].tolist() == table.dropout[~failed].tolist()
    assert table.score[failed].isna().all()
    quick.clear()
    again, _ = sweep(planned, "s", tmp_path, 8, progress=silent)
    assert quick == []
    pd.testing.assert_frame_equal(again, table)


def test_a_sweep_whose_first_trials_all_fail_stops(colours, quick, tmp_path):
    hopeless = plan({**TYPED, "dataset": str(colours), "optimizer": "sgd"}, SEARCH[:1])
    with pytest.raises(VoclabError, match="The first 3 trials failed, so the sweep stops: The loss is nan"):
        sweep(hopeless, "s", tmp_path, 20, progress=silent)
    assert len(quick) == 3


def test_an_interrupted_trial_is_gone_on_with(planned, quick, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(sweeping, "trained", interrupted)
        with pytest.raises(KeyboardInterrupt):
            sweep(planned, "s", tmp_path, 3, progress=silent)
    table, _ = sweep(planned, "s", tmp_path, 3, progress=silent)
    assert [name for name, _ in quick] == ["s/trial-0", "s/trial-1", "s/trial-2"]
    assert "running" not in set(table.state)


@pytest.mark.parametrize(
    "chosen", [{}, {"learning_rate": optuna.distributions.FloatDistribution(1e-4, 1e-1, log=True)}]
)
def test_a_trial_that_was_killed_while_it_was_chosen_gets_the_values_it_lacks(
    planned, quick, tmp_path, chosen
):
    sweep(planned, "whole", tmp_path, 2, progress=silent)
    expected = {name: quick[1][1][name] for name in planned.searched}
    sweep(planned, "s", tmp_path, 1, progress=silent)
    journal = optuna.storages.journal.JournalFileBackend(str(tmp_path / "s" / "journal.log"))
    study = optuna.load_study(study_name="s", storage=optuna.storages.JournalStorage(journal))
    begun = study.ask(chosen).params
    quick.clear()
    table, _ = sweep(planned, "s", tmp_path, 2, progress=silent)
    [(name, options)] = quick
    assert name == "s/trial-1"
    assert {each: options[each] for each in planned.searched} == dict(table.loc[1, list(planned.searched)])
    assert {each: options[each] for each in begun} == begun
    if not chosen:
        assert {each: options[each] for each in planned.searched} == expected


def test_where_there_are_no_locks_a_trial_that_may_still_run_is_left_alone(
    planned, quick, tmp_path, monkeypatch
):
    def unsupported(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("voclab.files.fcntl.flock", unsupported)
    with monkeypatch.context() as patch:
        patch.setattr(sweeping, "trained", interrupted)
        with pytest.raises(KeyboardInterrupt):
            sweep(planned, "s", tmp_path, 3, progress=silent)
    table, _ = sweep(planned, "s", tmp_path, 3, progress=silent)
    assert [name for name, _ in quick] == ["s/trial-1", "s/trial-2"]
    assert table.state[0] == "running"


WAITING = """
import pathlib, sys
from voclab.experiments import sweep as sweeping
from voclab.experiments.search import plan
def waits(asked, name, *_):
    print(name, asked["learning_rate"], flush=True)
    sys.stdin.read()
    raise SystemExit
sweeping.trained = waits
searched = plan({typed!r}, {search!r})
sweeping.sweep(searched, "s", pathlib.Path({runs!r}), 3, progress=lambda line: None)
"""


def test_two_processes_take_different_trials_and_one_that_ended_is_replaced(planned, quick, tmp_path):
    script = WAITING.format(typed=dict(planned.typed), search=SEARCH, runs=str(tmp_path))
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", script], **pipes) as other:
        theirs, rate = other.stdout.readline().split()
        sweep(planned, "s", tmp_path, 3, progress=silent)
        assert [name for name, _ in quick] == ["s/trial-1", "s/trial-2"]
        other.kill()
    assert theirs == "s/trial-0"
    quick.clear()
    sweep(planned, "s", tmp_path, 3, progress=silent)
    assert [(name, options["learning_rate"]) for name, options in quick] == [(theirs, float(rate))]


def test_a_sweep_on_a_database_is_shared_by_its_address(planned, quick, tmp_path):
    address = f"sqlite:///{tmp_path / 'trials.db'}"
    sweep(planned, "s", tmp_path / "one", 2, address, silent)
    table, _ = sweep(planned, "s", tmp_path / "other", 3, address, silent)
    assert len(table) == 3
    assert [name for name, _ in quick] == ["s/trial-0", "s/trial-1", "s/trial-2"]
    assert len(optuna.load_study(study_name="s", storage=address).trials) == 3
    assert not (tmp_path / "one" / "s" / "journal.log").exists()


def test_machines_that_ask_at_the_same_time_train_different_trials(planned, quick, tmp_path, monkeypatch):
    address, ask, theirs = f"sqlite:///{tmp_path / 'trials.db'}", optuna.Study.ask, []

    def stopped(asked, name, *_):
        theirs.append((name, asked["learning_rate"]))
        raise KeyboardInterrupt

    def after_the_other(study, *arguments):
        monkeypatch.setattr(optuna.Study, "ask", ask)
        with monkeypatch.context() as patch:
            patch.setattr(sweeping, "trained", stopped)
            with pytest.raises(KeyboardInterrupt):
                sweep(planned, "s", tmp_path / "other", 3, address, silent)
        return ask(study, *arguments)

    monkeypatch.setattr(optuna.Study, "ask", after_the_other)
    table, _ = sweep(planned, "s", tmp_path / "one", 3, address, silent)
    assert [name for name, _ in theirs] == ["s/trial-0"]
    assert [name for name, _ in quick] == ["s/trial-1", "s/trial-2"]
    assert table.state[0] == "running"
    assert len(set(table.learning_rate)) == 3
    quick.clear()
    with monkeypatch.context() as patch:
        patch.setattr("socket.gethostname", lambda: "another-machine")
        sweep(planned, "s", tmp_path / "other", 3, address, silent)
    assert quick == []
    sweep(planned, "s", tmp_path / "other", 3, address, silent)
    assert [(name, options["learning_rate"]) for name, options in quick] == theirs


def test_a_trial_that_nobody_began_is_taken_after_a_while(planned, quick, tmp_path, monkeypatch):
    address = f"sqlite:///{tmp_path / 'trials.db'}"
    sweep(planned, "s", tmp_path, 1, address, silent)
    optuna.load_study(study_name="s", storage=address).ask()
    sweep(planned, "s", tmp_path, 3, address, silent)
    assert [name for name, _ in quick] == ["s/trial-0", "s/trial-2"]
    monkeypatch.setattr(sweeping, "_ASKING", timedelta(0))
    table, _ = sweep(planned, "s", tmp_path, 3, address, silent)
    assert [name for name, _ in quick] == ["s/trial-0", "s/trial-2", "s/trial-1"]
    assert "running" not in set(table.state)


@pytest.mark.parametrize("fails", [False, True])
def test_a_trial_whose_end_was_told_elsewhere_stays_so(planned, quick, tmp_path, monkeypatch, fails):
    address = f"sqlite:///{tmp_path / 'trials.db'}"

    def trained(asked, name, runs, *_):
        optuna.load_study(study_name="s", storage=address).tell(0, 0.25)
        if fails:
            raise VoclabError("The loss is nan.")
        return Run(runs / name)

    monkeypatch.setattr(sweeping, "trained", trained)
    table, _ = sweep(planned, "s", tmp_path, 1, address, silent)
    assert (table.state[0], table.score[0]) == ("complete", 0.25)


def test_a_storage_that_cannot_be_used_is_one_sentence(planned, tmp_path):
    with pytest.raises(VoclabError, match=r"The trials in nonsense cannot be read .*check the address"):
        sweep(planned, "s", tmp_path, 2, "nonsense", silent)


def test_other_settings_need_another_name(planned, quick, tmp_path):
    sweep(planned, "s", tmp_path, 1, progress=silent)
    for other in (Plan({**planned.typed, "epochs": 2}, planned.searched), plan(planned.typed, SEARCH[1:])):
        with pytest.raises(
            VoclabError, match=r"begun with other settings.* \(.*(epochs|searched).*another --name"
        ):
            sweep(other, "s", tmp_path, 2, progress=silent)
    assert len(quick) == 1


def test_edited_code_needs_another_name(planned, quick, tmp_path, monkeypatch):
    sweep(planned, "s", tmp_path, 1, progress=silent)
    monkeypatch.setattr(batches, "augmenter", lambda *_: None)
    with pytest.raises(VoclabError, match=r"\(voclab\.data\.batches changed.*another --name"):
        sweep(planned, "s", tmp_path, 2, progress=silent)


def test_another_victim_needs_another_name_and_a_moved_one_none(colours, done, quick, tmp_path):
    def attacking(victim):
        typed = {"task": "adversary", "dataset": str(colours), "victim": str(victim), "epochs": 1}
        return plan(typed, SEARCH[:1])

    shutil.copytree(done / "s" / "trial-0", tmp_path / "victim")
    sweep(attacking(tmp_path / "victim"), "a", tmp_path, 1, progress=silent)
    sweep(attacking(done / "s" / "trial-0"), "a", tmp_path, 2, progress=silent)
    assert len(quick) == 2
    network = load_model(tmp_path / "victim" / "model.keras")
    network.set_weights([weight + 0.01 for weight in network.get_weights()])
    network.save(tmp_path / "victim" / "model.keras")
    with pytest.raises(VoclabError, match=r"\(victim changed\)"):
        sweep(attacking(tmp_path / "victim"), "a", tmp_path, 3, progress=silent)


def test_other_masks_need_another_name(quick, tmp_path):
    draw("toyvoc", tmp_path / "toy", train=8, val=2, test=1, size=48, progress=False)
    typed = {"task": "segmentation", "dataset": str(tmp_path / "toy"), "model": "unet", "validation": 0.5}
    segmenters = plan(typed, SEARCH[:1])
    sweep(segmenters, "s", tmp_path, 1, progress=silent)
    for file in (tmp_path / "toy").rglob("SegmentationClass/*.png"):
        mask = Image.open(file)
        mask.putpixel((0, 0), 1 if mask.getpixel((0, 0)) != 1 else 2)
        mask.save(file)
    with pytest.raises(VoclabError, match=r"the data changed \("):
        sweep(segmenters, "s", tmp_path, 2, progress=silent)
    assert len(quick) == 1


@pytest.mark.parametrize(
    ("typed", "widths", "expected"),
    [
        ({"model": "small_cnn"}, "8:64:log", Range(8, 64, log=True, whole=True)),
        ({"model": "mobilenet_v2"}, "1:4", Range(1, 4)),
        ({"model": "unet", "task": "segmentation"}, "8:64", Range(8, 64, whole=True)),
        ({"victim": "v", "task": "adversary"}, "8:64", Range(8, 64, whole=True)),
    ],
)
def test_a_width_is_whole_where_it_counts_channels(typed, widths, expected):
    assert plan({**typed, "dataset": "x"}, [f"width={widths}"]).searched["width"] == expected


def test_numbers_inside_a_range_are_checked_with_every_choice():
    with pytest.raises(VoclabError, match=r"'small_cnn' is 5.77\d*; it is a number of channels"):
        plan({"dataset": "x"}, ["model=mobilenet_v2,small_cnn", "width=1:16"])


def test_what_is_searched():
    found = plan(
        {**TYPED, "dataset": "x"}, [*SEARCH, "patience=2:9", "label-smoothing=0,0.1", "size=32:64:log"]
    )
    assert found.searched == {
        "learning_rate": Range(1e-4, 1e-1, log=True),
        "dropout": Range(0, 0.5),
        "optimizer": ("adam", "sgd"),
        "patience": Range(2, 9, whole=True),
        "smoothing": (0.0, 0.1),
        "size": Range(32, 64, log=True, whole=True),
    }
    assert found.first()["learning_rate"] == 1e-4
    assert found.first()["epochs"] == 1


@pytest.mark.parametrize(
    ("searches", "words"),
    [
        (["learning_rate"], "searches nothing; name one of model"),
        (["colour=1:2"], "searches nothing"),
        (["seed=1,2"], "searches nothing"),  # another seed has other validation images
        (["validation=0.1:0.2"], "searches nothing"),
        (["dropout=0.1"], "is one value"),
        (["dropout=0.5:0.1"], "let it end above its beginning"),
        (["dropout=0:0.5:log"], "on a log scale is above 0"),
        (["dropout=0:0.5:cubic"], "is no range"),
        (["optimizer=adam:sgd"], "is no range"),
        (["optimizer=adam,adagrad"], "There is no optimizer"),
        (["dropout=0:7"], "--dropout is 7"),
        (["epochs=1,2"], "--epochs is named twice"),
        (["dropout=0:0.5", "dropout=0:0.4"], "--dropout is named twice"),
        (["augmentation=none,adversarial"], "in its own sweep"),
        (["loss=dice,focal"], "--loss is for segmentation"),
    ],
)
def test_what_cannot_be_searched_is_one_sentence(searches, words):
    with pytest.raises(VoclabError) as raised:
        plan({**TYPED, "dataset": "x"}, searches)
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


def test_without_optuna_it_says_how_to_install_it(colours, monkeypatch, capsys):
    found = util.find_spec
    monkeypatch.setattr("voclab.cli.sweep.find_spec", lambda name: None if name == "optuna" else found(name))
    command = [
        "sweep",
        "--dataset",
        str(colours),
        "--model",
        "small_cnn",
        "--search",
        "dropout=0:0.5",
        "--name",
        "s",
    ]
    assert cli.main(command) == 2
    assert 'pip install "voclab[sweep]"' in capsys.readouterr().err
