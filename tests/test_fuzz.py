"""Whole inputs of every reader with one file damaged: a few hundred here, ten thousand by reliability.py."""

import json
import os
import subprocess
import sys
import time

import fuzzing
import pytest

from voclab.errors import VoclabError

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs Linux' /proc")


def test_damaged_inputs_are_read_or_refused():
    names = [name for name, reader in fuzzing.READERS.items() if reader.cost <= 6 and name != "run folder"]
    command = [sys.executable, fuzzing.__file__, "450", *names]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(done.stdout)
    assert [fault for found in report.values() for fault in found["faults"]] == []
    for name, found in report.items():
        assert found["files"] == found["read"] + found["refused"]
        assert found["refused"], f"no damage of {name} was noticed"


def read(root):
    """Does with each damaged input what its first byte, drawn at random, says."""
    match (root / "a.bin").read_bytes()[:1]:
        case b"\0":
            raise VoclabError("a.bin is damaged; restore it.")
        case b"\1":
            raise ValueError("what no reader may raise")
        case b"\2":
            raise VoclabError("a.bin is damaged:\nand this goes on.")
        case b"\3":
            os._exit(0)
        case b"\4":
            while True:
                time.process_time()
        case b"\5":
            return bytes(2 * fuzzing.MEMORY)


def test_whatever_is_no_error_of_ours_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(fuzzing, "SECONDS", 0.1)
    monkeypatch.setattr(
        fuzzing, "mutate", lambda root, rng: (root / "a.bin").write_bytes(bytes([next(turns)]))
    )
    turns = iter((0, 1, 2, 3))
    monkeypatch.setitem(fuzzing.READERS, "drawn", fuzzing.Reader(lambda root: (root / "a.bin").touch(), read))
    before = fuzzing.fuzz("drawn", 4, 0, tmp_path / "first")
    turns = iter((4, 5, 9))
    after = fuzzing.fuzz("drawn", 3, 0, tmp_path / "second")
    assert [outcome.number for outcome in (*before, *after)] == [0, 1, 2, 3, 0, 1, 2]
    kinds = ["refused", *["other"] * 5, "read"]
    assert [outcome.kind for outcome in (*before, *after)] == kinds
    words = ("is damaged", "ValueError", "goes on", "ended with 0", "Overtime", "MemoryError", "")
    for outcome, word in zip((*before, *after), words, strict=True):
        assert word in outcome.text


def test_the_same_seed_draws_the_same_damages(tmp_path):
    fuzzing.voc_tree(tmp_path / "valid")
    drawn = [fuzzing.one("VOC tree", 3, seed, tmp_path / "valid", tmp_path / "work") for seed in (5, 5, 6)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_every_reader_gets_its_share():
    wanted = fuzzing.shares(10_000)
    assert set(wanted) == set(fuzzing.READERS)
    assert min(wanted.values()) >= 2
    assert sum(wanted.values()) >= 10_000
