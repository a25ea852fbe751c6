"""`voclab sweep`: what may be searched, and that trials are ordinary runs that processes share."""

import subprocess
import sys
from importlib import util

import numpy as np
import optuna
import pandas as pd
import pytest
from PIL import Image

from voclab import cli
from voclab.errors import VoclabError
from voclab.experiments import sweep as sweeping
from voclab.experiments.search import Plan, Range, plan
from voclab.experiments.sweep import sweep
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
    monkeypatch.setattr(sweeping, "validation_score", lambda asked, data, run: ("accuracy", asked["dropout"]))
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
    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sweeping, "trained", interrupted)
        with pytest.raises(KeyboardInterrupt):
            sweep(planned, "s", tmp_path, 3, progress=silent)
    table, _ = sweep(planned, "s", tmp_path, 3, progress=silent)
    assert [name for name, _ in quick] == ["s/trial-0", "s/trial-1", "s/trial-2"]
    assert "running" not in set(table.state)


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


def test_a_storage_that_cannot_be_used_is_one_sentence(planned, tmp_path):
    with pytest.raises(VoclabError, match=r"The trials in nonsense cannot be read .*check the address"):
        sweep(planned, "s", tmp_path, 2, "nonsense", silent)


def test_other_settings_need_another_name(planned, quick, tmp_path):
    sweep(planned, "s", tmp_path, 1, progress=silent)
    for other in (Plan({**planned.typed, "epochs": 2}, planned.searched), plan(planned.typed, SEARCH[1:])):
        with pytest.raises(
            VoclabError, match=r"begun with other settings \(.*(epochs|searched).*another --name"
        ):
            sweep(other, "s", tmp_path, 2, progress=silent)
    assert len(quick) == 1


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
