"""Killed at random moments and started again, all work ends in what an unbroken run leaves."""

import hashlib
import os
from pathlib import Path

import killing
import pytest
from local_server import Server
from voc_trees import make_tree, tar_of

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def killed(kind, folder, kills, **environment):
    """The report of ``killing.py``, after what holds for every kind was checked."""
    report = killing.killed(kind, folder, kills, environment={**os.environ, **environment})
    assert report["kills"] >= kills
    assert report["faults"] == []
    return report


def without_working_files(files):
    """Names of what a killed process was writing begin with ``.part-``: nobody takes them for results."""
    return {name: digest for name, digest in files.items() if not Path(name).name.startswith(".part-")}


def test_a_training_killed_anywhere_ends_with_the_same_files(tmp_path):
    report = killed("training", tmp_path / "work", 8)
    names = {f"run/{name}" for name in ("config.json", "history.json", "metrics.json")}
    assert set(report["unbroken"]) == names | {"run/model.keras", "run/predictions.npz"}
    for files in report["resumed"]:
        assert files == report["unbroken"]  # what the kills left half-written is gone too


@pytest.mark.parametrize(("kind", "kills"), [("writing", 25), ("exporting", 15)])
def test_writing_killed_anywhere_ends_with_the_same_files(tmp_path, kind, kills):
    report = killed(kind, tmp_path / "work", kills)
    for files in report["resumed"]:
        assert without_working_files(files) == report["unbroken"]


def test_a_download_killed_anywhere_ends_with_the_same_files(tmp_path, monkeypatch):
    make_tree(tmp_path / "source")
    archive = tar_of(base=tmp_path / "source" / "VOCdevkit")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    server = Server()
    server.files["/voc.tar"] = archive
    try:
        digest = hashlib.md5(archive, usedforsecurity=False).hexdigest()
        address = {"KILLING_URL": server.url("/voc.tar"), "KILLING_MD5": digest}
        report = killed("fetching", tmp_path / "work", 20, **address)
    finally:
        server.close()
    assert any(name.endswith("train.txt") for name in report["unbroken"])
    for files in report["resumed"]:
        assert files == report["unbroken"]
    assert any("Range" in request for request in server.requests)  # some went on where a kill had cut them


def test_a_notebook_killed_anywhere_is_the_old_one_or_the_new(tmp_path):
    (tmp_path / "temporary").mkdir()
    report = killed("executing", tmp_path / "work", 4, TMPDIR=str(tmp_path / "temporary"))
    assert list((tmp_path / "temporary").iterdir()) == []  # nor does a kill leave litter elsewhere
    for files in report["resumed"]:
        assert without_working_files(files) == report["unbroken"]


def test_a_push_killed_anywhere_sends_its_file_once(tmp_path):
    report = killing.killed_push(tmp_path / "work", 12)
    assert report["kills"] >= 12
    assert report["faults"] == []
    assert set(report["unbroken"]) == {"submissions/log.csv"}
    for files in report["resumed"]:
        assert files == report["unbroken"]  # one row, with the score
    assert len(report["sent"]) == 1 + len(report["resumed"])
    assert set(report["sent"].values()) == {1}
