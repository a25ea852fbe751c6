"""Downloads and archives against a local server: broken, wrong, hostile, and right."""

import gzip
import hashlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tarfile
import threading
from contextlib import suppress
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from local_server import Server
from voc_trees import content, fails, make_tree, tar_of, zip_of

from voclab.cli import main
from voclab.data import cifar10, download, fetch, find, load, vocdevkit
from voclab.data import competition as kaggle
from voclab.errors import VoclabError


@pytest.fixture
def server(monkeypatch):
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    served = Server()
    yield served
    served.close()


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(download, "WAIT", 0)


def md5(data):
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


@pytest.fixture(scope="module")
def voc_tar(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source")
    padding = make_tree(folder).folder / "padding"
    padding.write_bytes(np.random.default_rng(0).bytes(200_000))
    return tar_of(base=folder / "VOCdevkit")


@pytest.fixture
def served(server, voc_tar):
    server.files["/voc.tar"] = voc_tar
    return server


def get(server, root, *paths, digest=None, say=None):
    """Fetch VOC 2009 from ``paths`` of the server; what lies in ``root`` afterwards besides the tree."""
    addresses = [path if "//" in path else server.url(path) for path in paths or ("/voc.tar",)]
    tree = fetch.voc2009(root, say, addresses, digest or md5(server.files["/voc.tar"]))
    assert tree == root / "VOCdevkit" / "VOC2009"
    assert len(vocdevkit.read(root, "train")) == 6
    assert len(vocdevkit.read(root, "val")) == 4
    return {name: data for name, data in content(root).items() if not name.startswith("VOCdevkit/VOC2009/")}


ARCHIVE = fetch.VOC2009.file
PART = f"{ARCHIVE}.voclab-part"


def starts(server):
    return [int(r.get("Range", "bytes=0-")[6:-1]) for r in server.requests]


def test_download(served, tmp_path):
    lines = []
    assert get(served, tmp_path / "new" / "data", say=lines.append) == {}
    assert len(lines) == 1
    assert lines[0].startswith("PASCAL VOC 2009: about 900 MB to download into ")
    before = content(tmp_path)
    get(served, tmp_path / "new" / "data", say=lines.append)  # what is there is not asked for again
    assert lines[1].endswith("already there; nothing was downloaded.")
    assert content(tmp_path) == before
    assert len(served.requests) == 1


def test_progress_shows_size_and_time_left(served, tmp_path, capsys):
    get(served, tmp_path, say=print)
    out, err = capsys.readouterr()
    assert "about 900 MB" in out
    assert "100%" in err
    get(served, tmp_path / "quiet")
    assert capsys.readouterr() == ("", "")


def test_broken_connection_is_taken_up_where_it_broke(served, tmp_path):
    served.script = [("break", 70_000), ("break", 50_000)]
    assert get(served, tmp_path) == {}
    first, second, third = starts(served)
    assert first == 0
    assert 70_000 - download.CHUNK < second <= 70_000  # what had arrived of the last piece is lost
    assert second + 50_000 - download.CHUNK < third <= second + 50_000
    assert [r.get("If-Range") for r in served.requests] == [None, '"one"', '"one"']


def test_later_process_resumes_what_an_earlier_one_left(served, tmp_path, voc_tar):
    served.script = [("break", 60_000), *[503] * 4]
    fails("503 Service Unavailable.*fetch again to go on", get, served, tmp_path)
    left = (tmp_path / PART).read_bytes()
    assert len(left) > 60_000 - download.CHUNK
    assert content(tmp_path) == {PART: voc_tar[: len(left)]}
    lines = []
    assert get(served, tmp_path, say=lines.append) == {}
    assert f"({len(left) // 10**6} MB of it are there)" in lines[0]
    assert served.requests[-1]["Range"] == f"bytes={len(left)}-"


def test_part_is_resumed_from_the_next_address(served, tmp_path, voc_tar):
    served.raw["/first"] = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(voc_tar) + voc_tar[:100_000]
    assert get(served, tmp_path, "/first", "/voc.tar") == {}
    assert starts(served)[-1] > 100_000 - download.CHUNK


def test_part_that_is_already_whole_needs_no_network(served, tmp_path, voc_tar):
    (tmp_path / PART).write_bytes(voc_tar)
    assert get(served, tmp_path) == {}
    assert served.requests == []


@pytest.mark.parametrize("extra", [b"longer", None])
def test_part_of_another_file_does_not_survive(served, tmp_path, voc_tar, extra):
    (tmp_path / PART).write_bytes(voc_tar + extra if extra else b"another version" * 10)
    assert get(served, tmp_path) == {}
    assert starts(served)[-1] == 0


def test_file_that_changes_on_the_server_meanwhile(served, tmp_path, voc_tar):
    served.files["/voc.tar"] = voc_tar[::-1]
    served.script = [("break", 70_000)]
    answer = served.answer

    def changing(handler):
        answer(handler)
        served.files["/voc.tar"], served.etag = voc_tar, '"two"'

    served.answer = changing
    assert get(served, tmp_path, digest=md5(voc_tar)) == {}


@pytest.mark.parametrize("habit", ["no range", "wrong range"])
def test_server_that_cannot_resume(served, tmp_path, habit):
    served.script = [("break", 70_000), habit]
    assert get(served, tmp_path) == {}
    assert starts(served)[1] > 0


def test_server_that_breaks_without_end(served, tmp_path):
    served.script = [("break", 70_000), *[("break", 0)] * 99]
    fails("could not be downloaded.*incomplete|broken|error.*check the network", get, served, tmp_path)
    assert len(served.requests) == download.PATIENCE
    served.requests.clear()
    fails("could not be downloaded", get, served, tmp_path / "b")  # nothing ever came: given up sooner
    assert len(served.requests) == 2


def test_server_that_gives_a_little_at_a_time(served, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "CONNECTIONS", 4)
    monkeypatch.setattr(download, "CHUNK", 100)
    served.script = [("break", 1000)] * 99
    fails("the connection broke 4 times", get, served, tmp_path)


def test_passing_server_error_is_survived(served, tmp_path):
    served.script = [503]
    assert get(served, tmp_path) == {}


def test_missing_file_is_asked_for_once(served, tmp_path):
    fails("it answered 404 Not Found.*--url.*browser and put it at", get, served, tmp_path, "/none")
    assert len(served.requests) == 1
    assert content(tmp_path) == {}


def test_no_network(tmp_path, served):
    served.close()
    fails("connection error.*check the network", get, served, tmp_path)


OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
PAGE = b"<!DOCTYPE html><title>Welcome to the hotel</title>"
ODD = {
    "length of letters": (OK + b"Content-Length: abc\r\n\r\nxy", "Content-Length of 'abc'"),
    "negative length": (OK + b"Content-Length: -5\r\n\r\nxy", "Content-Length of '-5'"),
    "two lengths": (OK + b"Content-Length: 1, 2\r\n\r\nxy", "invalid header"),
    "the same length twice": (OK + b"Content-Length: 2, 2\r\n\r\nxy", "Content-Length of '2, 2'"),
    "two length headers": (OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxy", "invalid header"),
    "length with a sign": (OK + b"Content-Length: +2\r\n\r\nxy", "Content-Length of '\\+2'"),
    "fractional length": (OK + b"Content-Length: 2.5\r\n\r\nxy", "Content-Length of '2.5'"),
    "empty length": (OK + b"Content-Length: \r\n\r\nxy", "Content-Length of ''"),
    "absurd length": (
        OK + b"Content-Length: 1" + b"0" * 18 + b"\r\n\r\nxy",
        "announces 1000000000000000000 b",
    ),
    "length beyond numbers": (OK + b"Content-Length: " + b"9" * 6000 + b"\r\n\r\nxy", "is no number"),
    "too much announced": (OK + b"Content-Length: 1" + b"0" * 9 + b"\r\n\r\nxy", "proper HTTP"),
    "nothing": (OK + b"Content-Length: 0\r\n\r\n", "it gives an empty file"),
    "another file": (OK + b"Content-Length: 2\r\n\r\nxy", "wrong checksum and was removed"),
    "no length": (OK + b"\r\nxy", "wrong checksum and was removed"),
    "negative chunk": (CHUNKED + b"-5\r\nabcde\r\n0\r\n\r\n", "proper HTTP"),
    "chunk of minus one": (CHUNKED + b"-1\r\nabcde\r\n0\r\n\r\n", "proper HTTP"),
    "chunk of letters": (CHUNKED + b"xyz\r\nabcde\r\n0\r\n\r\n", "proper HTTP"),
    "absurd chunk": (CHUNKED + b"f" * 16 + b"\r\nabcde\r\n0\r\n\r\n", "proper HTTP"),
    "chunk without end": (CHUNKED + b"1" * 100_000, "proper HTTP"),
    "web page": (OK + b"Content-Type: text/html\r\n\r\n" + PAGE, "a web page instead"),
    "web page without a type": (OK + b"Content-Length: 52\r\n\r\n\r\n" + PAGE, "a web page instead"),
    "web page with a byte order mark": (OK + b"\r\n\xef\xbb\xbf" + PAGE, "a web page instead"),
    "message": (OK + b"Content-Type: application/json; charset=utf-8\r\n\r\n{}", "a web page instead"),
    "compressed": (OK + b"Content-Encoding: gzip\r\n\r\nxy", "Content-Encoding 'gzip'"),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", "answered 204 No Content"),
    "status of its own": (b"HTTP/1.1 499 \x1b[31mred\r\n\r\n", "answered 499"),
    "busy": (b"HTTP/1.1 503 Busy\r\n\r\n", "answered 503 Service Unavailable"),
    "range not asked for": (
        b"HTTP/1.1 206 x\r\nContent-Range: bytes 5-6/7\r\n\r\nxy",
        "another part of the file",
    ),
    "range of letters": (
        b"HTTP/1.1 206 x\r\nContent-Range: bytes a-b/c\r\n\r\nxy",
        "another part of the file",
    ),
    "no range": (b"HTTP/1.1 206 x\r\n\r\nxy", "another part of the file"),
    "absurd range": (
        b"HTTP/1.1 206 x\r\nContent-Range: bytes 0-1/1" + b"0" * 18 + b"\r\n\r\nxy",
        "announces 1000000000000000000 b",
    ),
    "short range": (b"HTTP/1.1 206 x\r\nContent-Range: bytes 0-1/1\r\n\r\nxy", "more bytes than the archive"),
    "no status": (b"hello\r\n\r\n", "error"),
    "nothing at all": (b"", "connection error"),
    "noise": (bytes(range(256)), "error"),
    "too many headers": (OK + b"a: b\r\n" * 200 + b"\r\nxy", "error"),
    "redirect to nowhere": (b"HTTP/1.1 302 x\r\nLocation: http://[\r\n\r\n", "invalid url|proper HTTP"),
    "redirect to a file": (b"HTTP/1.1 302 x\r\nLocation: file:///etc/passwd\r\n\r\n", "invalid schema"),
    "redirect without address": (b"HTTP/1.1 302 Found\r\n\r\n", "answered 302 Found"),
}


@pytest.mark.parametrize("kind", ODD)
def test_odd_answer_is_said_and_the_next_address_tried(served, tmp_path, kind):
    served.raw["/odd"], words = ODD[kind]
    lines = []
    assert get(served, tmp_path, "/odd", "/voc.tar", say=lines.append) == {}
    assert len(lines) == 2
    assert re.fullmatch(rf"http://127.0.0.1:\d+/odd: .*({words}).*; trying the next address\.", lines[1])
    assert lines[1].isprintable()
    assert starts(served)[-1] == 0  # nothing of the odd answer is gone on from
    fails(words, get, served, tmp_path / "b", "/odd")


@pytest.mark.parametrize(
    "kind", ["nothing", "web page", "web page with a byte order mark", "message", "busy"]
)
def test_what_has_arrived_is_not_given_up_for_a_page(served, tmp_path, voc_tar, kind):
    (tmp_path / PART).write_bytes(voc_tar[:100_000])
    served.raw["/odd"] = ODD[kind][0]
    assert get(served, tmp_path, "/odd", "/voc.tar") == {}
    assert starts(served)[-1] == 100_000


def test_answers_changed_at_random_end_in_the_tree_or_a_sentence(served, tmp_path, voc_tar):
    n, half = len(voc_tar), 100_000
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(c), c) for c in (voc_tar[:half], voc_tar[half:], b""))
    rest = b"HTTP/1.1 206 x\r\nContent-Range: bytes %d-%d/%d\r\n\r\n" % (half, n - 1, n)
    answers = [OK + b"Content-Length: %d\r\n\r\n" % n + voc_tar, CHUNKED + chunks, rest + voc_tar[half:]]
    rng = random.Random(0)
    for turn in range(45):
        answer = bytearray(answers[turn % 3])
        for _ in range(rng.randint(1, 2)):
            at = rng.randrange(rng.choice([answer.find(b"\r\n\r\n") + 8, len(answer)]))
            new = rng.choice([bytes([rng.randrange(256)]), b"-", b"9" * 20, b"\r\n", b""])
            answer[at : at + rng.randint(0, 3)] = new
        served.raw["/odd"] = bytes(answer)
        root = tmp_path / str(turn)
        if turn % 3 == 2:
            root.mkdir()
            (root / PART).write_bytes(voc_tar[:half])
        with suppress(VoclabError):
            fetch.voc2009(root, None, [served.url("/odd")], md5(voc_tar))
        fetch.voc2009(root, None, [served.url("/voc.tar")], md5(voc_tar))  # mends what the first leaves
        assert [entry.name for entry in root.iterdir()] == ["VOCdevkit"]


def test_redirects(served, tmp_path):
    served.redirect["/old"] = served.url("/voc.tar")
    assert get(served, tmp_path / "a", "/old") == {}
    served.redirect["/a"], served.redirect["/b"] = served.url("/b"), served.url("/a")
    fails("it redirects in a circle", get, served, tmp_path / "b", "/a")
    served.redirect["/tls"] = f"https://127.0.0.1:{served.port}/voc.tar"
    fails("ssl error", get, served, tmp_path / "b", "/tls")


def test_server_that_is_silent(served, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT", (0.2, 0.05))
    free = threading.Event()
    answer = served.answer
    served.answer = lambda handler: free.wait(20) if handler.path == "/silent" else answer(handler)
    lines = []
    try:
        assert get(served, tmp_path, "/silent", "/voc.tar", say=lines.append) == {}
    finally:
        free.set()
    assert "/silent: read timeout; trying" in lines[1]


@pytest.mark.parametrize(
    "address", ["ftp://127.0.0.1/file", "//nonsense", "http://", "file:///etc/passwd", "http://["]
)
def test_address_that_is_none(server, tmp_path, address):
    fails("is not an http address", fetch.voc2009, tmp_path, None, [server.url("/first"), address])
    assert server.requests == []


@pytest.mark.parametrize("password", ["pass", "p@ss@word", "p%2Fss", "p:ss"])
def test_secrets_in_an_address_are_not_said(server, tmp_path, password):
    address = server.url("/none?signature=abc#token").replace("//", f"//me:{password}@")
    said = fails("answered 404", fetch.voc2009, tmp_path, None, [address])
    assert f"({server.url('/none')}: it answered" in said


@pytest.mark.parametrize(
    "address",
    ["ftp://me:secret@host/x.tar", "http://me:sec/secret@host/x", "http://me:sec?secret@host/x#secret",
     "htp://host/x?key=secret", "http://me:secret@", "http://me:secret@[::1/x", "http://host:70000000/#secret"],
)  # fmt: skip
def test_secrets_in_what_is_no_address_are_not_said(tmp_path, capsys, address):
    assert main(["data", "fetch", "voc2009", "--url", address, "--root", str(tmp_path)]) == 2
    said = "".join(capsys.readouterr())
    assert "is not an http address" in said
    assert "sec" not in said.split(" is not ")[0]
    assert "to download" not in said


def test_what_the_user_brought_is_used_and_kept(served, tmp_path, voc_tar):
    (tmp_path / ARCHIVE).write_bytes(voc_tar)
    assert get(served, tmp_path) == {ARCHIVE: voc_tar}
    assert served.requests == []


@pytest.mark.parametrize("kind", ["another", "cut", "empty", "folder", "dangling link"])
def test_wrong_archive_of_the_user_is_left_as_it_is(served, tmp_path, voc_tar, kind):
    path = tmp_path / ARCHIVE
    if kind == "folder":
        path.mkdir()
    elif kind == "dangling link":
        path.symlink_to(tmp_path / "unplugged")
    else:
        path.write_bytes({"another": b"mine", "cut": voc_tar[:-1], "empty": b""}[kind])
    before = content(tmp_path)
    fails(r"VOCtrainval_11-May-2009.tar is not the official archive, or not all", get, served, tmp_path)
    assert content(tmp_path) == before
    assert os.path.lexists(path)
    assert served.requests == []


def test_links_in_the_folder_are_not_followed(served, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "mine").write_text("mine")
    for k, name in enumerate(
        (PART, ".fetching.lock", "VOCdevkit", f".extracting-{PART}", "VOCdevkit/VOC2009")
    ):
        link = tmp_path / f"data{k}" / name
        link.parent.mkdir(parents=True)
        for target in (elsewhere, elsewhere / "mine", elsewhere / "nothing"):
            link.symlink_to(target)
            fails(
                "is a link, which|in the way|not a plain file",
                get,
                served,
                tmp_path / f"data{k}",
            )
            assert link.is_symlink()
            link.unlink()
    assert content(elsewhere) == {"mine": b"mine"}


def test_data_folder_may_be_a_link(served, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "data").symlink_to(tmp_path / "disk")
    assert get(served, tmp_path / "data") == {}


def test_part_that_is_no_file(served, tmp_path):
    os.mkfifo(tmp_path / PART)
    fails("is not a plain file", get, served, tmp_path)


def test_second_download_into_a_folder_is_refused(served, tmp_path):
    code = (
        "import sys; from voclab.cli import main;"
        "sys.exit(main(['data', 'fetch', sys.argv[1], '--root', sys.argv[2], '--url', sys.argv[3]]))"
    )
    answer, seen = served.answer, []

    def answering(handler):  # another process comes while the download is under way, and this one again
        fails("is in use", fetch.cifar10, tmp_path, None)
        command = [sys.executable, "-c", code, "voc2009", str(tmp_path), served.url("/other")]
        seen.append(subprocess.run(command, capture_output=True, text=True))
        answer(handler)

    served.answer = answering
    assert get(served, tmp_path) == {}
    assert len(seen) == 1
    assert seen[0].returncode == 2
    assert seen[0].stderr.count("\n") == 1
    assert "in use by another process" in seen[0].stderr


def test_download_to_an_unwritable_place(served, tmp_path):
    (tmp_path / "plain").write_text("")
    fails("Cannot write .*plain", get, served, tmp_path / "plain" / "data")


def test_too_little_space_is_said_before_anything_is_asked(served, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1_700_000_000)
    monkeypatch.setattr(fetch.shutil, "disk_usage", lambda path: usage)
    fails("needs about 1.8 GB in .*, where 1.7 GB are free", get, served, tmp_path)
    assert served.requests == []


def test_disk_that_fills_while_downloading(served, tmp_path):
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        fails("Cannot write .*voclab-part: the file would be larger", get, served, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert get(served, tmp_path) == {}
    assert 0 < starts(served)[-1] <= 100_000


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["voc2009", "--competition", "x"], "--competition does not go with voc2009"),
        (["kaggle", "--competition", "x", "--url", "https://h/x.tar"], "--url does not go with kaggle"),
        (["voc2009", "--url", "/mine/x.tar"], "'/mine/x.tar' is not an http address"),
    ],
)
def test_options_that_do_not_fit_are_refused_at_once(tmp_path, capsys, options, words):
    assert main(["data", "fetch", *options, "--root", str(tmp_path)]) == 2
    assert words in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_what_a_process_left_that_was_killed_just_before_its_end_is_removed(served, tmp_path, voc_tar):
    get(served, tmp_path)
    (tmp_path / PART).write_bytes(voc_tar)
    assert get(served, tmp_path) == {}


def test_half_an_archive_that_a_killed_process_left_is_no_data(served, tmp_path, competition_zip):
    base, half = tmp_path / "data", f".extracting-{PART}"
    make_tree(base / half)
    record = base / half / "cifar-10-batches-bin"
    record.mkdir()
    (record / "data_batch_1.bin").write_bytes(bytes(3073))
    for folder in (base, base / SLUG):
        (folder / f".extracting-{SLUG}.zip" / "train").mkdir(parents=True)
        (folder / f".extracting-{SLUG}.zip" / "train" / kaggle.TRAIN_CSV).write_text("Id")
    places = {"base": base, "kaggle_input": tmp_path / "none"}
    assert find(None, **places).name == "toyvoc"
    assert find(None, single_label=True, **places).name == "toycifar"
    for name in ("voc2009", "cifar10", "kaggle"):
        fails(f"{name} was named, but it is not in", find, name, **places)
    served.redirect[DOWNLOAD] = f"http://localhost/files/{SLUG}.zip"
    served.files[f"/files/{SLUG}.zip"] = competition_zip
    assert run_kaggle(served, tmp_path, **KEY).startswith("GOT")
    assert len(kaggle.read(base / SLUG, "train")) == 6
    get(served, base)
    assert not (base / half).exists()


def test_fetch_keeps_other_years(served, tmp_path):
    make_tree(tmp_path, year=2007)
    before = content(tmp_path)
    after = get(served, tmp_path)
    assert after == before
    assert vocdevkit.find_trees(tmp_path)[""].name == "VOC2009"


def test_official_addresses_and_checksums():
    path = "pascal/VOC/voc2009/VOCtrainval_11-May-2009.tar"
    assert fetch.VOC2009.addresses == (
        f"https://thor.robots.ox.ac.uk/{path}",
        f"http://host.robots.ox.ac.uk/{path}",
    )
    assert fetch.VOC2009.md5 == "a3e00b113cfcfebf17e343f59da3caa1"
    assert fetch.CIFAR10.addresses == ("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",)
    assert fetch.CIFAR10.md5 == "c32a1d4ab5d03f1284b67883e8d87530"


def test_command_tries_the_official_addresses_then_those_named(served, tmp_path, monkeypatch, capsys):
    archive = replace(fetch.VOC2009, addresses=(served.url("/new"), served.url("/old")))
    monkeypatch.setattr(fetch, "VOC2009", archive)
    monkeypatch.setattr(fetch, "voc2009", partial(fetch.voc2009, md5=md5(served.files["/voc.tar"])))
    command = ["data", "fetch", "voc2009", "--root", str(tmp_path)]
    assert main([*command, "--url", served.url("/none"), "--url", served.url("/voc.tar")]) == 0
    out, err = capsys.readouterr()
    assert [r["path"] for r in served.requests] == ["/new", "/old", "/none", "/voc.tar"]
    assert err.count("answered 404 Not Found; trying the next address.\n") == 3
    assert out == f"PASCAL VOC 2009 is in {tmp_path / 'VOCdevkit' / 'VOC2009'}\n"


def test_incomplete_tree_in_the_way(served, tmp_path):
    get(served, tmp_path)
    for name in (
        "JPEGImages/2009_000003.jpg",
        "Annotations/2009_000009.xml",
        "ImageSets/Segmentation/val.txt",
    ):
        path = tmp_path / "VOCdevkit/VOC2009" / name
        data = path.read_bytes()
        path.unlink()
        fails(f"in the way but incomplete .*{name} is missing.; move it away", get, served, tmp_path)
        path.write_bytes(data)
    assert get(served, tmp_path) == {}


def test_archive_that_lacks_a_file(server, tmp_path):
    tree = make_tree(tmp_path / "source")
    (tree.folder / "SegmentationClass/2009_000004.png").unlink()
    server.files["/voc.tar"] = tar_of(base=tree.folder.parent)
    fails("gave no .*2009_000004.png; use the official archive", get, server, tmp_path)
    server.files["/voc.tar"] = tar_of(("readme", b"hello"))
    fails("gave no VOCdevkit/VOC2009", get, server, tmp_path / "b")


HOSTILE = {
    "parent": ("VOCdevkit/../../escaped", b"x"),
    "only parent": ("..", (tarfile.DIRTYPE, "")),
    "absolute": ("/tmp/escaped", b"x"),
    "backslash": ("..\\escaped", b"x"),
    "drive": ("C:escaped", b"x"),
    "symlink out": ("VOCdevkit/link", (tarfile.SYMTYPE, "../../..")),
    "symlink to absolute": ("VOCdevkit/link", (tarfile.SYMTYPE, "/etc")),
    "hard link": ("VOCdevkit/link", (tarfile.LNKTYPE, "../../escaped")),
    "character device": ("VOCdevkit/null", (tarfile.CHRTYPE, "")),
    "block device": ("VOCdevkit/disk", (tarfile.BLKTYPE, "")),
    "fifo": ("VOCdevkit/pipe", (tarfile.FIFOTYPE, "")),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_tar_is_refused_whole(server, tmp_path, kind):
    root = tmp_path / "a" / "b" / "data"
    make_tree(root, year=2007)
    before = content(tmp_path)
    server.files["/voc.tar"] = tar_of(("VOCdevkit/VOC2009/first", b"harmless"), HOSTILE[kind])
    fails(r"has the member .*do not use", get, server, root)
    (root / PART).unlink()
    assert content(tmp_path) == before
    assert {p.name for p in root.iterdir()} == {"VOCdevkit"}


# The kaggle client: the real one, in a process of its own, with the local server as its proxy

SLUG = "kul-computer-vision-ga-2-2026"
DOWNLOAD = "/api/v1/competitions.CompetitionApiService/DownloadDataFiles"
RUN = """
import sys
from voclab.data import fetch
from voclab.errors import VoclabError
try:
    print("GOT", fetch.competition(sys.argv[1], sys.argv[2], None))
except VoclabError as error:
    print("REFUSED", error)
"""


def run_kaggle(server, root, slug=SLUG, **credentials):
    keep = {k: v for k, v in os.environ.items() if "proxy" not in k.lower() and not k.startswith("KAGGLE")}
    environment = {
        **keep,
        "HOME": str(root),  # nobody's own credentials
        "http_proxy": f"http://127.0.0.1:{server.port}",
        "KAGGLE_API_ENVIRONMENT": "LOCALHOST",
        **credentials,
    }
    done = subprocess.run(
        [sys.executable, "-c", RUN, slug, str(root / "data")], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


KEY = {"KAGGLE_USERNAME": "somebody", "KAGGLE_KEY": "0123456789abcdef"}


@pytest.fixture
def competition_zip(tmp_path):
    make_tree(tmp_path / "voc")
    out = tmp_path / "layout"
    kaggle.export(
        vocdevkit.read(tmp_path / "voc", "train"),
        vocdevkit.read(tmp_path / "voc", "val"),
        out,
        progress=False,
    )
    (out / "export.json").unlink()
    return zip_of(*((str(p.relative_to(out)), p.read_bytes()) for p in sorted(out.rglob("*")) if p.is_file()))


def test_fetch_competition_with_the_real_client(server, tmp_path, competition_zip):
    server.redirect[DOWNLOAD] = f"http://localhost/files/{SLUG}.zip"
    server.files[f"/files/{SLUG}.zip"] = competition_zip
    said = run_kaggle(server, tmp_path, **KEY)
    assert said.splitlines()[-1] == f"GOT {tmp_path / 'data' / SLUG}"
    assert server.requests[0]["path"] == DOWNLOAD
    assert len(kaggle.read(tmp_path / "data" / SLUG, "train")) == 6
    assert len(kaggle.read(tmp_path / "data" / SLUG, "test")) == 4
    assert [p.name for p in (tmp_path / "data").iterdir()] == [SLUG]

    asked = len(server.requests)
    assert run_kaggle(server, tmp_path).splitlines()[-1].startswith("GOT")  # there: needs no credentials
    assert len(server.requests) == asked


def test_fetch_competition_refused_by_the_server(server, tmp_path):
    server.files[DOWNLOAD] = json.dumps({}).encode()
    server.script = [403] * 9
    said = run_kaggle(server, tmp_path, **KEY)
    assert said.startswith("REFUSED")
    assert f"Kaggle answered 403 for https://www.kaggle.com/competitions/{SLUG}" in said
    assert "accept the rules" in said


def test_fetch_competition_without_credentials(server, tmp_path):
    said = run_kaggle(server, tmp_path)
    assert said.startswith("REFUSED The kaggle client found no credentials")
    for way in ("~/.kaggle/kaggle.json", "KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_API_TOKEN"):
        assert way in said
    assert not (tmp_path / "data").exists()


def test_fetch_competition_hostile_archive(server, tmp_path):
    server.redirect[DOWNLOAD] = f"http://localhost/files/{SLUG}.zip"
    server.files[f"/files/{SLUG}.zip"] = zip_of(("train/train_set.csv", b"Id"), ("../../escaped", b"x"))
    said = run_kaggle(server, tmp_path, **KEY)
    assert "leads outside its folder" in said
    assert not (tmp_path / "data" / SLUG).exists()
    assert not (tmp_path / "escaped").exists()


def test_fetch_competition_follows_no_links(server, tmp_path, competition_zip):
    server.redirect[DOWNLOAD] = f"http://localhost/files/{SLUG}.zip"
    server.files[f"/files/{SLUG}.zip"] = competition_zip
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in (SLUG, f".download-{SLUG}/{SLUG}.zip"):
        link = tmp_path / "data" / name
        link.parent.mkdir(parents=True)
        link.symlink_to(elsewhere)
        said = run_kaggle(server, tmp_path, **KEY)
        assert "is a link, which is not followed" in said
        assert link.is_symlink()
        shutil.rmtree(tmp_path / "data")
    assert content(elsewhere) == {}


@pytest.mark.parametrize("slug", ["../x", "", "A b", "https://www.kaggle.com/competitions/x"])
def test_competition_name_is_checked(tmp_path, slug):
    fails("is no competition; name the last part", fetch.competition, slug, tmp_path)
    assert not list(tmp_path.iterdir())


def test_fetch_cifar10_from_a_gzipped_archive(server, tmp_path, capsys):
    names = ["batches.meta.txt", *(f"{name}.bin" for name in cifar10.BATCHES)]
    record = bytes([3]) + bytes(3072)
    text = "\n".join(cifar10.CIFAR10_CLASSES).encode()
    members = [(f"cifar-10-batches-bin/{name}", text if name.endswith("txt") else record) for name in names]

    def get_cifar(name, *members, cut=None):
        server.files["/cifar.tar.gz"] = archive = gzip.compress(tar_of(*members))[:cut]
        return fetch.cifar10(tmp_path / name, None, [server.url("/cifar.tar.gz")], md5(archive))

    tree = get_cifar("data", *members)
    assert tree == tmp_path / "data" / "cifar-10-batches-bin"
    assert [p.name for p in (tmp_path / "data").iterdir()] == ["cifar-10-batches-bin"]
    labels = load("cifar10", tmp_path / "data", "train").labels
    assert labels.tolist() == [[0] * 3 + [1] + [0] * 6] * 5
    fetch.cifar10(tmp_path / "data", addresses=[])
    assert "already there" in capsys.readouterr().err
    (tree / "data_batch_3.bin").unlink()
    fails("in the way but incomplete .*data_batch_3.bin is missing", get_cifar, "data", *members)
    fails("gave no .*data_batch_1.bin", get_cifar, "b", members[0])
    fails("leads outside", get_cifar, "c", ("../out", b"x"))
    fails("damaged|cannot be read", get_cifar, "d", *members, cut=150)


def test_gzipped_archive_that_is_announced_as_compressed(server, tmp_path):
    """As some servers announce every .gz file: what counts is the bytes of the file itself."""
    record = bytes([3]) + bytes(3072)
    archive = gzip.compress(
        tar_of(*((f"cifar-10-batches-bin/{name}.bin", record) for name in cifar10.BATCHES))
    )
    server.raw["/x"] = OK + b"Content-Encoding: x-gzip\r\nContent-Length: %d\r\n\r\n" % len(archive) + archive
    assert fetch.cifar10(tmp_path, None, [server.url("/x")], md5(archive)).is_dir()
