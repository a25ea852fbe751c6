"""Archives: hostile ones are refused whole, damaged ones named, and a failure leaves nothing behind."""

import gzip
import io
import os
import tarfile
import zipfile

import numpy as np
import pytest
from voc_trees import content, fails, tar_of, zip_of

from voclab.data.archives import unpack

FILES = (("tree/deep/a", b"aa"), ("tree/b", b"b"), ("readme", b"c"))


def put(path, data):
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("data", [tar_of(*FILES), gzip.compress(tar_of(*FILES)), zip_of(*FILES)])
def test_an_archive_or_a_folder_in_it_appears_whole(tmp_path, data):
    path = put(tmp_path / "x", data)
    (tmp_path / ".extracting-out").mkdir()
    (tmp_path / ".extracting-out/old").write_text("what a killed process left")
    unpack(path, tmp_path / "out")
    assert content(tmp_path / "out") == dict(FILES)
    unpack(path, tmp_path / "new/VOC", "tree")
    assert content(tmp_path / "new/VOC") == {"deep/a": b"aa", "b": b"b"}
    fails("out is in the way", unpack, path, tmp_path / "out")
    fails("x holds no other; use the official", unpack, path, tmp_path / "other", "other")
    assert {p.name for p in tmp_path.iterdir()} == {"x", "out", "new"}


def test_links_are_not_followed_but_those_of_the_data_folder(tmp_path):
    path = put(tmp_path / "x.tar", tar_of(*FILES))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("out", ".extracting-out"):
        (tmp_path / name).symlink_to(elsewhere)
        fails(f"{name} is in the way", unpack, path, tmp_path / "out")
        (tmp_path / name).unlink()
    assert content(elsewhere) == {}
    (tmp_path / "data").symlink_to(elsewhere)
    unpack(path, tmp_path / "data" / "out")
    assert content(elsewhere / "out") == dict(FILES)


def zip_link():
    link = zipfile.ZipInfo("link")
    link.external_attr = 0o120777 << 16
    return link


HOSTILE = {
    "parent": tar_of(("a/../../escaped", b"x")),
    "absolute": tar_of(("/tmp/escaped", b"x")),
    "backslash": tar_of(("..\\escaped", b"x")),
    "symlink out": tar_of(("link", (tarfile.SYMTYPE, "../../.."))),
    "hard link": tar_of(("link", (tarfile.LNKTYPE, "../../escaped"))),
    "character device": tar_of(("null", (tarfile.CHRTYPE, ""))),
    "zip, parent": zip_of(("../escaped", b"x")),
    "zip, absolute": zip_of(("/tmp/escaped", b"x")),
    "zip, link": zip_of((zip_link(), b"../..")),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_is_hostile_is_refused_whole(tmp_path, kind):
    path = put(tmp_path / "x", HOSTILE[kind])
    fails("has the member .*; do not use it", unpack, path, tmp_path / "a" / "data" / "out")
    assert content(tmp_path) == {"x": HOSTILE[kind]}
    assert not (tmp_path / "a").exists()


def test_bombs(tmp_path):
    many = put(tmp_path / "x.tar", tar_of(*[(f"f{i}", b"") for i in range(11)]))
    fails("more than 10 files", unpack, many, tmp_path / "out", max_members=10)
    for data in (tar_of(("a", b"x" * 600), ("b", b"x" * 500)), zip_of(("zeros", bytes(10_000)))):
        fails(
            "would extract to more than", unpack, put(tmp_path / "x", data), tmp_path / "out", max_bytes=1000
        )
    size = (10_000).to_bytes(4, "little")
    lying = put(tmp_path / "x", zip_of(("zeros", bytes(10_000))).replace(size, (100).to_bytes(4, "little")))
    fails("damaged", unpack, lying, tmp_path / "out", max_bytes=1000)
    assert not (tmp_path / "out").exists()


def damaged():
    """What an archive looks like whose bytes are missing, emptied or wrong."""
    tar = tar_of(("tree/a", b"a" * 700), ("tree/b", b"b" * 700))
    for cut in (0, 100, 700, 1500):
        yield f"tar, cut at {cut}", tar[:cut]
    yield "tar.gz, cut", gzip.compress(tar)[:60]
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", method) as archive:
            for k, name in enumerate("abc"):
                archive.writestr(f"tree/{name}", np.random.default_rng(k).bytes(900))
        whole = buffer.getvalue()
        middle, entries, end = whole.index(b"tree/b") + 200, whole.index(b"PK\1\2"), whole.index(b"PK\5\6")
        yield "zeros", bytes(len(whole))
        yield "zip, head only", whole[:100]
        yield "zip without its list", whole[:entries]
        yield "zip without its end", whole[:end]
        yield "zip without its beginning", whole[50:]
        yield "zip with a hole", whole[:middle] + whole[middle + 100 :]
        yield "zip, one bit", whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
        yield "zip, zeros in the list", whole[: entries + 10] + bytes(60) + whole[entries + 70 :]
        yield "zip, encrypted", whole[: entries + 8] + b"\1" + whole[entries + 9 :]
        yield "zip, unknown compression", whole[: entries + 10] + b"\x63\0" + whole[entries + 12 :]


@pytest.mark.parametrize("data", [pytest.param(data, id=name) for name, data in damaged()])
def test_what_is_damaged_is_refused_whole(tmp_path, data):
    fails(r"x (is a damaged archive|holds no files)", unpack, put(tmp_path / "x", data), tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_a_missing_archive(tmp_path):
    fails("x.tar cannot be read", unpack, tmp_path / "x.tar", tmp_path / "out")


@pytest.mark.parametrize("call", ["mkdir", "rename"])
def test_a_disk_that_is_full_leaves_nothing(tmp_path, monkeypatch, call):
    path = put(tmp_path / "x.tar", tar_of(*FILES))

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, full)
    fails("disk is full", unpack, path, tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["x.tar"]
