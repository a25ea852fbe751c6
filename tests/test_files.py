"""Files are written whole or not at all, and a lock is held by one process and by none that is dead."""

import contextlib
import errno
import os
import resource
import signal
import subprocess
import sys
import time
import zipfile

import h5py
import numpy as np
import pytest
from voc_trees import content, fails

from voclab.errors import VoclabError
from voclab.files import (
    TEMPORARY,
    atomic_folder,
    atomic_path,
    lock,
    locked,
    read_arrays,
    read_json,
    unlock,
    write_json,
    write_text,
)
from voclab.kaggle import write_submission
from voclab.training.masks import write_masks


@contextlib.contextmanager
def largest_file(size):
    """Within, no file can grow beyond so many bytes: the system refuses as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def _arrays(path, values):
    with atomic_path(path) as temporary:
        np.savez(temporary, values)


RANDOM = np.random.default_rng(0)
WRITERS = {
    "a.txt": lambda path, n: write_text(path, "x" * n),
    "a.json": lambda path, n: write_json(path, ["x" * 9] * n),
    "a.npz": lambda path, n: _arrays(path, RANDOM.random(n)),
    "a.csv": lambda path, n: write_submission(path, range(n), RANDOM.integers(0, 2, (n, 20))),
    "a.zip": lambda path, n: write_masks(path, map(str, range(n)), np.zeros((n, 9, 9), np.uint8)),
}


@pytest.mark.parametrize("name", WRITERS)
def test_what_the_disk_cannot_take_leaves_the_old_file(tmp_path, name):
    path = tmp_path / "results" / name
    WRITERS[name](path, 3)
    before = content(tmp_path)
    with largest_file(20_000):
        message = fails("Cannot write .*name a folder on another disk", WRITERS[name], path, 30_000)
    assert str(path) in message
    assert content(tmp_path) == before


def test_a_folder_is_replaced_as_a_whole_or_not_at_all(tmp_path):
    path = tmp_path / "deep" / "folder"
    for text in ("one", "two"):
        with atomic_folder(path) as new:
            (new / "inner").mkdir()
            (new / "inner" / text).write_text(text)
        assert content(tmp_path) == {f"deep/folder/inner/{text}": text.encode()}

    def broken(error):
        with atomic_folder(path) as new:
            (new / "half").write_text("h")
            raise error

    with pytest.raises(KeyError):
        broken(KeyError())
    fails("Cannot write .*folder: the disk is full", broken, OSError(errno.ENOSPC, "no space"))
    assert content(tmp_path) == {"deep/folder/inner/two": b"two"}
    assert [entry.name for entry in path.parent.iterdir()] == ["folder"]


def test_what_was_left_of_a_folder_days_ago_is_removed(tmp_path):
    left = tmp_path / f"{TEMPORARY}x-folder"
    (left / "new").mkdir(parents=True)
    os.utime(left, (0, 0))
    with atomic_folder(tmp_path / "folder"):
        assert not left.exists()


def test_masks_are_the_same_bytes_whatever_the_clock_says(tmp_path, monkeypatch):
    write_masks(tmp_path / "a.zip", ["x"], [np.zeros((4, 4), np.uint8)])
    # A board without a battery starts in 1970, which the ZIP format does not know.
    monkeypatch.setattr(zipfile.time, "localtime", lambda *_: (1970, 1, 1, 0, 0, 0, 3, 1, 0))
    write_masks(tmp_path / "b.zip", ["x"], [np.zeros((4, 4), np.uint8)])
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_what_cannot_be_read_is_named(tmp_path):
    fails(r"a\.json is missing", read_json, tmp_path / "a.json")
    fails(r"a\.npz is missing", read_arrays, tmp_path / "a.npz")
    fails("cannot be read", read_json, tmp_path)
    write_json(tmp_path / "a.json", [1])
    fails(r"a\.json .*holds no dict", read_json, tmp_path / "a.json", dict)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("logits.npy", b"no array")
    fails(r"a\.npz .*its part logits is no array", read_arrays, tmp_path / "a.npz")


# --- locks ---

HOLDER = """
import sys
from voclab.files import lock, unlock
from voclab.errors import VoclabError
try:
    lock(sys.argv[1], "The folder")
except VoclabError as error:
    print(error, flush=True)
else:
    print("held", flush=True)
    sys.stdin.readline()
    unlock(sys.argv[1])
"""


@pytest.fixture
def other(tmp_path):
    """Starts other processes that lock the same file; what each said is its ``said``."""
    started = []

    def start():
        command = [sys.executable, "-c", HOLDER, str(tmp_path / "lock")]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        process.said = process.stdout.readline().strip()
        return process

    yield start
    unlock(tmp_path / "lock")
    for process in started:
        process.communicate()


def test_a_lock_is_held_by_one_process(tmp_path, other):
    holder = other()
    assert holder.said == "held"
    message = fails("The folder is in use by another process", lock, tmp_path / "lock", "The folder")
    assert f"(number {holder.pid}); wait until that ends, or stop it" in message
    holder.communicate("give back\n")
    assert not (tmp_path / "lock").exists()
    lock(tmp_path / "lock", "The folder")
    lock(tmp_path / "lock", "The folder")  # it is ours already
    assert f"number {os.getpid()}" in other().said
    unlock(tmp_path / "lock")
    unlock(tmp_path / "lock")
    assert other().said == "held"


def test_a_dead_process_holds_no_lock(tmp_path, other):
    holder = other()
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    assert (tmp_path / "lock").read_text() == str(holder.pid)
    lock(tmp_path / "lock", "The folder")


def test_a_lock_file_that_was_taken_away_is_made_again(tmp_path, other):
    lock(tmp_path / "lock", "The folder")
    (tmp_path / "lock").unlink()
    lock(tmp_path / "lock", "The folder")
    assert "in use" in other().said


def test_a_folder_without_locks_is_used_without(tmp_path, monkeypatch, other):
    def unsupported(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("voclab.files.fcntl.flock", unsupported)
    assert not lock(tmp_path / "lock", "The folder")
    with locked(tmp_path / "other", "The log"):
        pass
    assert content(tmp_path) == {}
    monkeypatch.undo()
    assert lock(tmp_path / "lock", "The folder")
    unlock(tmp_path / "lock")


def test_a_block_holds_its_lock_against_everybody(tmp_path, other):
    with locked(tmp_path / "lock", "The log"):
        assert "The folder is in use by another process" in other().said
        with pytest.raises(VoclabError, match="The log is in use"), locked(tmp_path / "lock", "The log"):
            pass
    assert content(tmp_path) == {}
    holder = other()
    holder.stdin.write("give back\n")
    holder.stdin.flush()
    with locked(tmp_path / "lock", "The log", patience=60):
        pass


FOREIGN = {
    "link": lambda path, victim: path.symlink_to(victim),
    "hard link": lambda path, victim: path.hardlink_to(victim),
    "pipe": lambda path, victim: os.mkfifo(path),
    "folder": lambda path, victim: path.mkdir(),
    "text": lambda path, victim: path.write_text("what somebody wrote into a file of that name"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_no_lock_is_made_of_what_is_somebody_elses(tmp_path, kind):
    victim, path = tmp_path / "victim", tmp_path / "lock"
    victim.write_text("mine")
    FOREIGN[kind](path, victim)
    before = {p.name: p.read_bytes() for p in (path, victim) if p.is_file()}
    message = fails("lock", lock, path, "The folder")
    assert str(path) in message
    assert {p.name: p.read_bytes() for p in (path, victim) if p.is_file()} == before
    assert os.path.lexists(path)


def test_a_lock_in_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    def refuse(path, *_):
        raise OSError(30, "Read-only file system", str(path))

    monkeypatch.setattr("voclab.files.os.open", refuse)
    fails("Cannot write .*lock: the file system is read-only", lock, tmp_path / "lock", "The folder")


def test_a_full_disk_keeps_nobody_from_locking(tmp_path, other, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("voclab.files.os.write", full)
    with locked(tmp_path / "lock", "The folder"):
        monkeypatch.undo()
        assert other().said == "The folder is in use by another process; wait until that ends, or stop it."


def test_a_disk_that_fills_while_hdf5_writes_is_named(tmp_path, monkeypatch):
    # What h5py cannot write it tries to write again as the object goes, and can only complain then.
    monkeypatch.setattr(sys, "unraisablehook", lambda raised: None)

    def write():
        with atomic_path(tmp_path / "a.h5") as temporary, h5py.File(temporary, "w") as file:
            file["a"] = np.zeros(10_000)

    with largest_file(20_000):
        fails(r"Cannot write .*a\.h5: the file would be larger than this disk", write)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError("[Errno 28] Unable to flush\n, errno = 28"), "the disk is full"),
        (OSError("Unable to flush\nfile"), "Unable to flush; check the path"),
    ],
)
def test_a_full_disk_in_the_words_of_another_library(tmp_path, error, said):
    def write():
        with atomic_path(tmp_path / "a"):
            raise error

    fails(f"Cannot write .*a: {said}", write)


def test_an_error_that_is_none_of_the_disk_is_passed_on(tmp_path):
    with pytest.raises(RuntimeError, match="else"), atomic_path(tmp_path / "a"):
        raise RuntimeError("something else")


def test_what_a_killed_process_was_writing_is_removed_after_a_day(tmp_path):
    for name, age in ((".part-old-a.csv", 2 * 86_400), (".part-new-a.csv", 60), ("b.csv", 2 * 86_400)):
        (tmp_path / name).write_text("half")
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    write_text(tmp_path / "a.csv", "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".part-new-a.csv", "a.csv", "b.csv"]
