"""Killed at random moments and started again, all work ends in what an unbroken run leaves."""

import os

import killing
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")]


def same(report, kills):
    """What holds of every kind of work: no kill left a half, and it ended in what an unbroken run leaves."""
    assert report["kills"] >= kills
    assert report["faults"] == []
    assert report["unbroken"]
    for files in report["resumed"]:
        assert files == report["unbroken"]
    return report


def test_a_training_killed_anywhere_ends_with_the_same_files(tmp_path):
    report = same(killing.killed("training", tmp_path / "work", 8), 8)
    names = {f"run/{name}" for name in ("config.json", "history.json", "metrics.json")}
    assert set(report["unbroken"]) == names | {"run/model.keras", "run/predictions.npz"}


@pytest.mark.parametrize(
    ("kind", "kills"),
    [("writing", 25), ("exporting", 15), ("making", 6), ("extracting", 20), ("showing", 8)],
)
def test_writing_killed_anywhere_ends_with_the_same_files(tmp_path, kind, kills):
    same(killing.killed(kind, tmp_path / "work", kills), kills)


def test_a_download_killed_anywhere_ends_with_the_same_files(tmp_path):
    report = same(killing.killed_fetch(tmp_path / "work", 20), 20)
    assert any(name.endswith("train.txt") for name in report["unbroken"])
    assert any("Range" in request for request in report["asked"])  # some went on where a kill had cut them


def test_a_notebook_killed_anywhere_is_the_old_one_or_the_new(tmp_path):
    same(killing.killed("executing", tmp_path / "work", 4), 4)


def test_a_push_killed_anywhere_sends_its_file_once(tmp_path):
    report = same(killing.killed_push(tmp_path / "work", 12), 12)
    assert set(report["unbroken"]) == {"submissions/log.csv"}  # one row, with the score
    assert len(report["sent"]) == 1 + len(report["resumed"])
    assert set(report["sent"].values()) == {1}
