"""Archives: hostile ones are refused whole, damaged ones named, and a failure leaves nothing behind."""

import errno
import io
import os
import shutil
import zipfile

import numpy as np
import pytest
from voc_trees import content, fails, tar_of, zip_of

from voclab.data import archives


@pytest.mark.parametrize("kind", ["tar", "zip"])
@pytest.mark.parametrize(
    "link", ["tree", "tree/deep", "tree/deep/file", ".extracting-x.tar", ".extracting-x.zip"]
)
@pytest.mark.parametrize("target", ["folder", "folder/mine", "nothing"])
def test_links_in_the_target_are_not_followed(tmp_path, kind, link, target):
    elsewhere, out = tmp_path / "elsewhere", tmp_path / "out"
    (elsewhere / "folder").mkdir(parents=True)
    (elsewhere / "folder/mine").write_text("mine")
    (out / link).parent.mkdir(parents=True)
    (out / link).symlink_to(elsewhere / target)
    path = tmp_path / f"x.{kind}"
    path.write_bytes(
        (tar_of if kind == "tar" else zip_of)(("tree/deep/file", b"new"), ("tree/other", b"new"))
    )
    extract = archives.extract_tar if kind == "tar" else archives.extract_zip
    if link in ("tree", "tree/deep", "tree/deep/file", f".extracting-x.{kind}"):
        fails("in the way|is a link, which is not followed", extract, path, out)
        assert [p.name for p in out.rglob("*") if not p.is_symlink()] == ["tree", "deep"][: link.count("/")]
    else:  # of no concern
        assert extract(path, out)
    assert (out / link).is_symlink()
    assert content(elsewhere) == {"folder/mine": b"mine"}


def test_target_may_itself_be_a_link(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "data").symlink_to(tmp_path / "disk")
    (tmp_path / "x.tar").write_bytes(tar_of(("tree/file", b"x")))
    assert archives.extract_tar(tmp_path / "x.tar", tmp_path / "data")
    assert content(tmp_path / "disk") == {"tree/file": b"x"}


@pytest.mark.parametrize("moved", [("one",), ("one/a", "two"), ("one", "two")])
def test_extraction_goes_on_where_a_kill_ended_it(tmp_path, moved):
    path, out = tmp_path / "x.tar", tmp_path / "out"
    path.write_bytes(tar_of(("one/a", b"a"), ("one/b", b"b"), ("two", b"c")))
    archives.extract_tar(path, tmp_path / "whole")
    out.mkdir()
    shutil.copytree(tmp_path / "whole", out / ".extracting-x.tar")
    for name in moved:
        (out / name).parent.mkdir(exist_ok=True)
        (out / ".extracting-x.tar" / name).rename(out / name)
    archives.extract_tar(path, out)
    assert content(out) == content(tmp_path / "whole")
    assert not (out / ".extracting-x.tar").exists()
    (out / "two").write_bytes(b"d")  # of the same size, but not the archive's
    (out / "one/b").unlink()
    fails("two is in the way", archives.extract_tar, path, out)


def test_too_little_space_is_said_before_anything_is_written(tmp_path, monkeypatch):
    path = tmp_path / "x.zip"
    path.write_bytes(zip_of(("file", bytes(3_000_000))))
    usage = shutil.disk_usage(tmp_path)._replace(free=2_000_000)
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda path: usage)
    fails("x.zip needs 3 MB in .*, where 2 MB are free", archives.extract_zip, path, tmp_path / "out")
    assert not content(tmp_path / "out")


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


def lies(whole, name, offset, value, old=None):
    """A zip whose list of files says something else about ``name``; ``offset`` is within its entry."""
    entry = whole.index(b"PK\x01\x02", whole.rindex(name) - 46 - 1)
    assert whole[entry + 46 :].startswith(name)
    assert old is None or whole[entry + offset : entry + offset + len(value)] == old
    return whole[: entry + offset] + value + whole[entry + offset + len(value) :]


def cut(whole, start, length):
    return whole[:start] + whole[start + length :]


def damaged_zips():
    """What a zip looks like whose bytes are missing, emptied or wrong; stored and deflated."""
    names = b"tree/a", b"tree/b", b"tree/c"
    data = [np.random.default_rng(k).bytes(900) for k in range(3)]
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", method) as archive:
            for name, value in zip(names, data, strict=True):
                archive.writestr(name.decode(), value)
        whole, size = buffer.getvalue(), (900).to_bytes(4, "little")
        middle, entries, end = whole.index(names[1]) + 200, whole.index(b"PK\1\2"), whole.index(b"PK\5\6")
        yield "empty", b""
        yield "zeros", bytes(len(whole))
        yield "head only", whole[:100]
        yield "without its list", whole[:entries]
        yield "without its end", whole[:end]
        yield "end only", whole[end:]
        yield "without its beginning", whole[50:]
        yield "a hole", cut(whole, middle, 100)
        yield "zeros in a file", whole[:middle] + bytes(100) + whole[middle + 100 :]
        yield "one bit", whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
        yield "zeros in the list", whole[: entries + 10] + bytes(60) + whole[entries + 70 :]
        yield "list cut short", whole[: end + 12] + (52).to_bytes(4, "little") + whole[end + 16 :]
        yield "list beyond the end", whole[: end + 16] + b"\xff\xff\xff\x7f" + whole[end + 20 :]
        yield "fewer listed than counted", whole[: end + 8] + b"\4\0\4\0" + whole[end + 12 :]
        yield "no file listed", whole[: end + 8] + bytes(12) + whole[end + 20 :]
        yield "file beyond the end", lies(whole, names[2], 42, b"\xff\xff\xff\x7f")
        yield "larger than it is", lies(whole, names[1], 24, (901).to_bytes(4, "little"), size)
        yield "smaller than it is", lies(whole, names[1], 24, (899).to_bytes(4, "little"), size)
        yield "said to be empty", lies(whole, names[1], 24, bytes(4), size)
        yield "twice the same name", whole.replace(names[1], names[0])
        yield "encrypted", lies(whole, names[1], 8, b"\1")
        yield "unknown compression", lies(whole, names[1], 10, b"\x63\0")
        swapped = b"\0\0\6\0"  # the name's six bytes become an extra field
        nameless = lies(whole, names[0], 28, swapped, b"\6\0\0\0")
        yield "no name", nameless[:26] + swapped + nameless[30:]
        yield "name with a zero", whole.replace(names[1], b"tree\0b")


@pytest.mark.parametrize("data", [pytest.param(data, id=name) for name, data in damaged_zips()])
def test_damaged_zip_is_refused_whole(tmp_path, data):
    path, out = tmp_path / "x.zip", tmp_path / "out"
    path.write_bytes(data)
    fails(r"x\.zip (is a damaged archive|holds no files|has the member)", archives.extract_zip, path, out)
    assert not out.exists() or not list(out.iterdir())
