"""Archives: hostile ones are refused whole, damaged ones named, and a failure leaves nothing behind."""

import errno
import os
import zipfile

import pytest
from voc_trees import content, fails, tar_of, zip_of

from voclab.datasets import archives


def test_symlink_in_the_target_is_not_followed(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "data/VOCdevkit").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "x.tar").write_bytes(tar_of(("VOCdevkit/file", b"x")))
    fails("in the way", archives.extract_tar, tmp_path / "x.tar", tmp_path / "data")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_tar_bombs(tmp_path):
    path = tmp_path / "x.tar"
    path.write_bytes(tar_of(*[(f"f{i}", b"") for i in range(11)]))
    fails("more than 10 files", archives.extract_tar, path, tmp_path / "out", max_members=10)
    path.write_bytes(tar_of(("a", b"x" * 600), ("b", b"x" * 500)))
    fails("would extract to more than", archives.extract_tar, path, tmp_path / "out", max_bytes=1000)
    assert not (tmp_path / "out").exists()
    assert archives.extract_tar(path, tmp_path / "out", max_members=2, max_bytes=1100)


def test_extraction_is_not_repeated_and_overwrites_nothing(tmp_path):
    path, out = tmp_path / "x.tar", tmp_path / "out"
    path.write_bytes(tar_of(("tree/a", b"aa"), ("tree/b", b"bb")))
    assert archives.extract_tar(path, out)
    (out / "tree/a").write_bytes(b"me")  # as large: taken for the same
    assert not archives.extract_tar(path, out)
    (out / "tree/a").write_bytes(b"mine")
    before = content(out)
    fails(r"tree/a is in the way and was not overwritten", archives.extract_tar, path, out)
    assert content(out) == before
    assert {p.name for p in out.iterdir()} == {"tree"}


@pytest.mark.parametrize("cut", [0, 100, 700, 1500])
def test_truncated_tar_leaves_nothing(tmp_path, cut):
    path = tmp_path / "x.tar"
    path.write_bytes(tar_of(("tree/a", b"a" * 700), ("tree/b", b"b" * 700))[:cut])
    fails(r"x\.tar is a damaged archive", archives.extract_tar, path, tmp_path / "out")
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_missing_archive(tmp_path):
    fails(r"x\.tar is missing", archives.extract_tar, tmp_path / "x.tar", tmp_path / "out")


def test_full_disk_while_extracting_leaves_nothing(tmp_path, monkeypatch):
    path, out = tmp_path / "x.tar", tmp_path / "out"
    path.write_bytes(tar_of(("tree/a", b"aa"), ("tree/b", b"bb")))

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(archives.shutil, "copyfileobj", full)
    fails("disk is full", archives.extract_tar, path, out)
    assert list(out.iterdir()) == []


def test_move_that_fails_half_way_is_taken_back(tmp_path, monkeypatch):
    path, out = tmp_path / "x.tar", tmp_path / "out"
    path.write_bytes(tar_of(("a", b"aa"), ("b", b"bb"), ("c", b"cc")))
    rename, calls = os.rename, []

    def failing(source, target):
        calls.append(target)
        if len(calls) == 2:
            raise OSError(errno.EACCES, "no")
        rename(source, target)

    monkeypatch.setattr(archives.os, "rename", failing)
    fails("permission denied", archives.extract_tar, path, out)
    assert list(out.iterdir()) == []


def test_rest_of_a_killed_extraction_is_replaced(tmp_path):
    path, out = tmp_path / "x.tar", tmp_path / "out"
    path.write_bytes(tar_of(("a", b"aa")))
    (out / ".extracting-x.tar").mkdir(parents=True)
    (out / ".extracting-x.tar/old").write_text("half")
    archives.extract_tar(path, out)
    assert content(out) == {"a": b"aa"}


def zip_link():
    link = zipfile.ZipInfo("link")
    link.external_attr = 0o120777 << 16
    return link


@pytest.mark.parametrize("member", ["../escaped", "/tmp/escaped", "a/../../escaped", zip_link()])
def test_hostile_zip_is_refused_whole(tmp_path, member):
    path = tmp_path / "x.zip"
    path.write_bytes(zip_of(("first", b"harmless"), (member, b"../..")))
    fails("do not use", archives.extract_zip, path, tmp_path / "data" / "out")
    assert content(tmp_path) == {"x.zip": path.read_bytes()}


def test_zip_bombs(tmp_path):
    path, out = tmp_path / "x.zip", tmp_path / "out"
    bomb = zip_of(("zeros", bytes(10_000_000)))
    assert len(bomb) < 20_000
    path.write_bytes(bomb)
    fails("would extract to more than", archives.extract_zip, path, out, max_bytes=1_000_000)
    size = (10_000_000).to_bytes(4, "little")
    assert bomb.count(size) == 2
    path.write_bytes(bomb.replace(size, (100).to_bytes(4, "little")))  # it lies about its size
    fails("damaged", archives.extract_zip, path, out, max_bytes=1_000_000)
    assert not content(out)


def test_encrypted_and_damaged_zips(tmp_path):
    path = tmp_path / "x.zip"
    whole = bytearray(zip_of(("a", b"aa")))
    whole[whole.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(whole)
    fails("damaged archive.*encrypted", archives.extract_zip, path, tmp_path / "out")
    path.write_bytes(zip_of(("a", b"aa"))[:-10])
    fails("damaged archive", archives.extract_zip, path, tmp_path / "out")
