"""Downloads from a local server: broken, wrong, and right; the competition's with the real client."""

import gzip
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from local_server import Server
from voc_trees import content, fails, make_tree, tar_of, zip_of

from voclab.cli import main
from voclab.data import cifar10, download, fetch, load, vocdevkit
from voclab.data import competition as kaggle
from voclab.kaggle.export import export
from voclab.kaggle.fetch import fetch_competition


@pytest.fixture
def server(monkeypatch):
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    monkeypatch.setattr(download, "WAIT", 0)
    served = Server()
    yield served
    served.close()


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


def get(server, root, *paths, say=None, data=None):
    """Fetch VOC 2009 from ``paths`` of the server; what lies in ``root`` afterwards besides the tree."""
    archive = replace(
        fetch.VOC2009,
        addresses=tuple(path if "//" in path else server.url(path) for path in paths or ("/voc.tar",)),
        md5=md5(data or server.files["/voc.tar"]),
    )
    tree = fetch.fetch(archive, root, say)
    assert tree == root / "VOCdevkit" / "VOC2009"
    assert len(vocdevkit.read(root, "train")) == 6
    assert len(vocdevkit.read(root, "val")) == 4
    return {name: data for name, data in content(root).items() if not name.startswith("VOCdevkit/VOC2009/")}


ARCHIVE = fetch.VOC2009.file
PART = f"{ARCHIVE}.voclab-part"


def starts(server):
    return [int(r.get("Range", "bytes=0-")[6:-1]) for r in server.requests]


def test_a_download_says_its_size_shows_the_time_left_and_is_not_repeated(served, tmp_path, capsys):
    assert get(served, tmp_path / "new" / "data", say=print) == {}
    out, err = capsys.readouterr()
    assert re.fullmatch("PASCAL VOC 2009: about 900 MB to download into .*, 900 MB unpacked.\n", out)
    assert "100%" in err
    before = content(tmp_path)
    get(served, tmp_path / "new" / "data", say=print)
    assert "already there; nothing was downloaded." in capsys.readouterr().out
    assert content(tmp_path) == before
    assert len(served.requests) == 1
    make_tree(tmp_path / "quiet", year=2007)  # other years are kept
    assert set(get(served, tmp_path / "quiet")) == set(content(tmp_path / "quiet")) - set(before) - {
        name for name in content(tmp_path / "quiet") if "VOC2009" in name
    }
    assert capsys.readouterr() == ("", "")


def test_a_broken_connection_is_taken_up_where_it_broke(served, tmp_path):
    served.script = [("break", 70_000), ("break", 50_000)]
    assert get(served, tmp_path) == {}
    first, second, third = starts(served)
    assert first == 0
    assert 70_000 - download.CHUNK < second <= 70_000  # what had arrived of the last piece is lost
    assert second + 50_000 - download.CHUNK < third <= second + 50_000


def test_a_later_process_resumes_what_an_earlier_one_left(served, tmp_path, voc_tar):
    served.script = [("break", 60_000), *[503] * 4]
    fails("503 Service Unavailable.*fetch again to go on", get, served, tmp_path)
    left = (tmp_path / PART).read_bytes()
    assert len(left) > 60_000 - download.CHUNK
    assert content(tmp_path) == {PART: voc_tar[: len(left)]}
    served.script, lines = [], []
    assert get(served, tmp_path, "/none", "/voc.tar", say=lines.append) == {}  # also from another address
    assert f"({len(left) // 10**6} MB of it are there)" in lines[0]
    assert lines[1] == "127.0.0.1: it answered 404 Not Found; trying the next address."
    assert starts(served)[-1] == len(left)


@pytest.mark.parametrize(
    ("left", "asked"),
    [
        (lambda tar: tar, []),  # all there: no network is needed
        (lambda tar: tar + b"longer", [None, 0]),
        (lambda tar: b"another version" * 10, [150, 0]),
        (lambda tar: tar[:100_000], [100_000]),
    ],
)
def test_what_is_there_is_used_if_it_fits(served, tmp_path, voc_tar, left, asked):
    (tmp_path / PART).write_bytes(left(voc_tar))
    assert get(served, tmp_path) == {}
    assert starts(served) == [len(voc_tar) + 6 if start is None else start for start in asked]


@pytest.mark.parametrize("habit", ["no range", "wrong range"])
def test_a_server_that_cannot_resume(served, tmp_path, habit):
    served.script = [("break", 70_000), habit]
    assert get(served, tmp_path) == {}
    assert starts(served)[1] > 0


def test_a_server_that_breaks_without_end_is_given_up(served, tmp_path):
    served.script = [("break", 70_000), *[("break", 0)] * 99]
    fails("could not be downloaded.*check the network", get, served, tmp_path)
    assert len(served.requests) == download.PATIENCE


def test_a_server_that_is_silent(served, tmp_path, monkeypatch):
    import threading

    monkeypatch.setattr(download, "TIMEOUT", (0.2, 0.05))
    free, answer, lines = threading.Event(), served.answer, []
    served.answer = lambda handler: free.wait(20) if handler.path == "/silent" else answer(handler)
    try:
        assert get(served, tmp_path, "/silent", "/voc.tar", say=lines.append) == {}
    finally:
        free.set()
    assert "read timeout; trying" in lines[1]


def test_a_redirect_is_followed_and_secrets_are_not_said(served, tmp_path):
    served.redirect["/old"] = served.url("/voc.tar")
    assert get(served, tmp_path / "a", "/old") == {}
    address = served.url("/none?signature=abc#token").replace("//", "//me:pass@")
    assert "(127.0.0.1: it answered 404" in fails("answered 404", get, served, tmp_path / "b", address)


def test_no_network(tmp_path, served):
    served.close()
    fails("connection error.*check the network.*--url", get, served, tmp_path)


OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
PAGE = b"<!DOCTYPE html><title>Welcome to the hotel</title>"
ODD = {
    "length of letters": OK + b"Content-Length: abc\r\n\r\nxy",
    "too much announced": OK + b"Content-Length: 1" + b"0" * 9 + b"\r\n\r\nxy",
    "nothing": OK + b"Content-Length: 0\r\n\r\n",
    "another file": OK + b"Content-Length: 2\r\n\r\nxy",
    "negative chunk": CHUNKED + b"-5\r\nabcde\r\n0\r\n\r\n",
    "web page": OK + b"Content-Type: text/html\r\n\r\n" + PAGE,
    "status of its own": b"HTTP/1.1 499 \x1b[31mred\r\n\r\n",
    "range of letters": b"HTTP/1.1 206 x\r\nContent-Range: bytes a-b/c\r\n\r\nxy",
    "nothing at all": b"",
    "redirect to nowhere": b"HTTP/1.1 302 x\r\nLocation: http://[\r\n\r\n",
    "redirect to a file": b"HTTP/1.1 302 x\r\nLocation: file:///etc/passwd\r\n\r\n",
}


@pytest.mark.parametrize("kind", ODD)
def test_an_odd_answer_is_said_and_the_next_address_tried(served, tmp_path, kind):
    served.raw["/odd"], lines = ODD[kind], []
    assert get(served, tmp_path, "/odd", "/voc.tar", say=lines.append) == {}
    assert len(lines) == 2
    assert re.fullmatch(r"127.0.0.1: .{5,99}; trying the next address\.", lines[1])
    fails("could not be downloaded", get, served, tmp_path / "b", "/odd")


def test_what_has_arrived_is_not_given_up_for_a_page(served, tmp_path, voc_tar):
    (tmp_path / PART).write_bytes(voc_tar[:100_000])
    served.raw["/odd"] = ODD["web page"]
    assert get(served, tmp_path, "/odd", "/voc.tar") == {}
    assert starts(served)[-1] == 100_000


@pytest.mark.parametrize(
    "address",
    [
        "ftp://me:secret@host/x.tar",
        "/mine/secret.tar",
        "htp://host/x?key=secret",
        "http://me:secret@",
        "http://[",
    ],
)
def test_what_is_no_address_is_refused_at_once_and_not_repeated(tmp_path, capsys, address):
    assert main(["data", "fetch", "voc2009", "--url", address, "--root", str(tmp_path)]) == 2
    said = "".join(capsys.readouterr())
    assert "An address is not http" in said
    assert "secret" not in said
    assert not list(tmp_path.iterdir())


def test_what_the_user_brought_is_used_and_kept(served, tmp_path, voc_tar):
    (tmp_path / ARCHIVE).write_bytes(voc_tar)
    assert get(served, tmp_path) == {ARCHIVE: voc_tar}
    assert served.requests == []


@pytest.mark.parametrize("kind", ["cut", "folder", "dangling link"])
def test_a_wrong_archive_of_the_user_is_left_as_it_is(served, tmp_path, voc_tar, kind):
    path = tmp_path / ARCHIVE
    if kind == "folder":
        path.mkdir()
    elif kind == "dangling link":
        path.symlink_to(tmp_path / "unplugged")
    else:
        path.write_bytes(voc_tar[:-1])
    before = content(tmp_path)
    fails(r"VOCtrainval_11-May-2009.tar is not the official archive, or not all", get, served, tmp_path)
    assert content(tmp_path) == before
    assert os.path.lexists(path)
    assert served.requests == []


def test_links_in_the_folder_are_not_followed(served, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/mine").write_text("mine")
    for k, name in enumerate((PART, ".fetching.lock")):
        link = tmp_path / f"data{k}" / name
        link.parent.mkdir()
        for target in ("elsewhere", "elsewhere/mine", "elsewhere/nothing"):
            link.symlink_to(tmp_path / target)
            fails("is a link, which|not a plain file", get, served, link.parent)
            link.unlink()
    os.mkfifo(tmp_path / PART)
    fails("is not a plain file", get, served, tmp_path)
    assert content(tmp_path / "elsewhere") == {"mine": b"mine"}


def test_a_second_download_into_a_folder_is_refused(served, tmp_path):
    code = "import sys; from voclab.cli import main; sys.exit(main(sys.argv[1:]))"
    answer, seen = served.answer, []

    def answering(handler):  # another process comes while the download is under way, and this one again
        fails("is in use", fetch.fetch, fetch.CIFAR10, tmp_path, None)
        command = ["data", "fetch", "voc2009", "--root", str(tmp_path), "--url", served.url("/other")]
        seen.append(subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True))
        answer(handler)

    served.answer = answering
    assert get(served, tmp_path) == {}
    assert [done.returncode for done in seen] == [2]
    assert seen[0].stderr.count("\n") == 1
    assert "in use by another process" in seen[0].stderr


def test_a_place_without_rights_or_space(served, tmp_path, monkeypatch):
    (tmp_path / "plain").write_text("")
    fails("Cannot write .*plain", get, served, tmp_path / "plain" / "data")
    usage = shutil.disk_usage(tmp_path)._replace(free=1_700_000_000)
    monkeypatch.setattr(fetch.shutil, "disk_usage", lambda path: usage)
    fails("needs about 1.8 GB in .*, where 1.7 GB are free", get, served, tmp_path)
    assert served.requests == []


def test_a_disk_that_fills_while_downloading(served, tmp_path):
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
    ],
)
def test_options_that_do_not_fit_are_refused_at_once(tmp_path, capsys, options, words):
    assert main(["data", "fetch", *options, "--root", str(tmp_path)]) == 2
    assert words in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_official_addresses_and_checksums():
    path = "pascal/VOC/voc2009/VOCtrainval_11-May-2009.tar"
    assert fetch.VOC2009.addresses == (
        f"https://thor.robots.ox.ac.uk/{path}",
        f"http://host.robots.ox.ac.uk/{path}",
    )
    assert fetch.VOC2009.md5 == "a3e00b113cfcfebf17e343f59da3caa1"
    assert fetch.CIFAR10.addresses == ("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",)
    assert fetch.CIFAR10.md5 == "c32a1d4ab5d03f1284b67883e8d87530"


def test_the_command_tries_the_official_addresses_then_those_named(served, tmp_path, monkeypatch, capsys):
    addresses = (served.url("/new"), served.url("/old"))
    archive = replace(fetch.VOC2009, addresses=addresses, md5=md5(served.files["/voc.tar"]))
    monkeypatch.setitem(fetch.ARCHIVES, "voc2009", archive)
    command = ["data", "fetch", "voc2009", "--root", str(tmp_path)]
    assert main([*command, "--url", served.url("/none"), "--url", served.url("/voc.tar")]) == 0
    out, err = capsys.readouterr()
    assert [r["path"] for r in served.requests] == ["/new", "/old", "/none", "/voc.tar"]
    assert err.count("answered 404 Not Found; trying the next address.\n") == 3
    assert out == f"PASCAL VOC 2009 is in {tmp_path / 'VOCdevkit' / 'VOC2009'}\n"


def test_a_hostile_or_wrong_archive_leaves_nothing(server, tmp_path):
    server.files["/voc.tar"] = tar_of(("VOCdevkit/VOC2009/first", b"harmless"), ("../escaped", b"x"))
    fails(r"has the member .*do not use", get, server, tmp_path / "a")
    server.files["/voc.tar"] = tar_of(("readme", b"hello"))
    fails("holds no VOCdevkit/VOC2009; use the official archive", get, server, tmp_path / "b")
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {PART}


def test_cifar10_from_a_gzipped_archive_that_is_announced_as_compressed(server, tmp_path):
    """As some servers announce every .gz file: what counts is the bytes of the file itself."""
    names = ["batches.meta.txt", *(f"{name}.bin" for name in cifar10.BATCHES)]
    text, record = "\n".join(cifar10.CIFAR10_CLASSES).encode(), bytes([3]) + bytes(3072)
    members = [(f"{cifar10.BINARY}/{name}", text if name.endswith("txt") else record) for name in names]
    packed = gzip.compress(tar_of(*members))
    server.raw["/x"] = OK + b"Content-Encoding: x-gzip\r\nContent-Length: %d\r\n\r\n" % len(packed) + packed
    archive = replace(fetch.CIFAR10, addresses=(server.url("/x"),), md5=md5(packed))
    assert fetch.fetch(archive, tmp_path, None) == tmp_path / cifar10.BINARY
    assert [p.name for p in tmp_path.iterdir()] == [cifar10.BINARY]
    assert load("cifar10", tmp_path, "train").labels.argmax(1).tolist() == [3] * 5


# The kaggle client: the real one, in a process of its own, with the local server as its proxy

SLUG = "kul-computer-vision-ga-2-2026"
DOWNLOAD = "/api/v1/competitions.CompetitionApiService/DownloadDataFiles"
RUN = """
import sys
from voclab.kaggle.fetch import fetch_competition
from voclab.errors import VoclabError
try:
    print("GOT", fetch_competition(sys.argv[1], sys.argv[2], None))
except VoclabError as error:
    print("REFUSED", error)
"""
KEY = {"KAGGLE_USERNAME": "somebody", "KAGGLE_KEY": "0123456789abcdef"}


def run_kaggle(server, root, **credentials):
    keep = {k: v for k, v in os.environ.items() if "proxy" not in k.lower() and not k.startswith("KAGGLE")}
    environment = {
        **keep,
        "HOME": str(root),  # nobody's own credentials
        "http_proxy": f"http://127.0.0.1:{server.port}",
        "KAGGLE_API_ENVIRONMENT": "LOCALHOST",
        **credentials,
    }
    command = [sys.executable, "-c", RUN, SLUG, str(root / "data")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def competition_server(server, tmp_path):
    make_tree(tmp_path / "voc")
    parts = (vocdevkit.read(tmp_path / "voc", split) for split in ("train", "val"))
    out = export(*parts, tmp_path / "layout", progress=False)
    (out / "export.json").unlink()
    files = [(str(p.relative_to(out)), p.read_bytes()) for p in sorted(out.rglob("*")) if p.is_file()]
    server.redirect[DOWNLOAD] = f"http://localhost/files/{SLUG}.zip"
    server.files[f"/files/{SLUG}.zip"] = zip_of(*files)
    return server


def test_fetch_competition_with_the_real_client(competition_server, tmp_path):
    half = tmp_path / "data" / f".extracting-{SLUG}" / "train"  # of a killed process: no data
    half.mkdir(parents=True)
    (half / kaggle.TRAIN_CSV).write_text("Id")
    said = run_kaggle(competition_server, tmp_path, **KEY)
    assert said.splitlines()[-1] == f"GOT {tmp_path / 'data' / SLUG}"
    assert competition_server.requests[0]["path"] == DOWNLOAD
    assert len(kaggle.read(tmp_path / "data" / SLUG, "train")) == 6
    assert len(kaggle.read(tmp_path / "data" / SLUG, "test")) == 4
    assert [p.name for p in (tmp_path / "data").iterdir()] == [SLUG]

    asked = len(competition_server.requests)
    assert run_kaggle(competition_server, tmp_path).splitlines()[-1].startswith("GOT")  # needs no credentials
    assert len(competition_server.requests) == asked


def test_fetch_competition_refused_by_the_server(server, tmp_path):
    server.files[DOWNLOAD] = json.dumps({}).encode()
    server.script = [403] * 9
    said = run_kaggle(server, tmp_path, **KEY)
    assert f"REFUSED Kaggle answered 403 for https://www.kaggle.com/competitions/{SLUG}" in said
    assert "accept its rules" in said


def test_fetch_competition_without_credentials(server, tmp_path):
    said = run_kaggle(server, tmp_path)
    assert said.startswith("REFUSED The kaggle client found no credentials")
    for way in ("~/.kaggle/kaggle.json", "KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_API_TOKEN"):
        assert way in said
    assert not (tmp_path / "data").exists()


def test_fetch_competition_hostile_archive_and_links(competition_server, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "data" / f".download-{SLUG}" / f"{SLUG}.zip"
    link.parent.mkdir(parents=True)
    link.symlink_to(tmp_path / "elsewhere")
    assert "link, which is not followed" in run_kaggle(competition_server, tmp_path, **KEY)
    shutil.rmtree(tmp_path / "data")
    assert content(tmp_path / "elsewhere") == {}
    hostile = zip_of(("train/train_set.csv", b"Id"), ("../../escaped", b"x"))
    competition_server.files[f"/files/{SLUG}.zip"] = hostile
    assert "outside its folder" in run_kaggle(competition_server, tmp_path, **KEY)
    assert not (tmp_path / "data" / SLUG).exists()
    assert not (tmp_path / "escaped").exists()


@pytest.mark.parametrize("slug", ["../x", "", "A b", "https://www.kaggle.com/competitions/x"])
def test_the_competitions_name_is_checked(tmp_path, slug):
    fails("is no competition; name the last part", fetch_competition, slug, tmp_path)
    assert not list(tmp_path.iterdir())
