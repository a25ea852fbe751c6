"""Downloads and archives against a local server: broken, wrong, hostile, and right."""

import gzip
import hashlib
import json
import os
import subprocess
import sys
import tarfile

import numpy as np
import pytest
from local_server import Server
from voc_trees import content, fails, make_tree, tar_of, zip_of

from voclab import datasets
from voclab.datasets import cifar10, fetch, kaggle, vocdevkit
from voclab.errors import VoclabError


@pytest.fixture
def server(monkeypatch):
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    served = Server()
    yield served
    served.close()


BODY = np.random.default_rng(0).bytes(200_000)


def md5(data):
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


MD5 = md5(BODY)


def get(server, path, digest=MD5, **kwargs):
    return fetch.download(server.url("/file"), path, digest, progress=False, wait=0, **kwargs)


def test_download(server, tmp_path):
    server.files["/file"] = BODY
    assert get(server, tmp_path / "new" / "file").read_bytes() == BODY
    assert content(tmp_path) == {"new/file": BODY}
    get(server, tmp_path / "new" / "file")
    assert len(server.requests) == 1  # what is there and right is not asked for again


def test_broken_connection_is_taken_up_where_it_broke(server, tmp_path):
    server.files["/file"] = BODY
    server.script = [("break", 70_000), ("break", 50_000)]
    assert get(server, tmp_path / "file").read_bytes() == BODY
    starts = [int(r.get("Range", "bytes=0-")[6:-1]) for r in server.requests]
    assert starts[0] == 0
    assert 70_000 - fetch.CHUNK < starts[1] <= 70_000  # what had arrived of the last piece is lost
    assert starts[1] + 50_000 - fetch.CHUNK < starts[2] <= starts[1] + 50_000
    assert [r.get("If-Range") for r in server.requests] == [None, '"one"', '"one"']
    assert content(tmp_path) == {"file": BODY}


def test_later_process_resumes_what_an_earlier_one_left(server, tmp_path):
    server.files["/file"] = BODY
    server.script = [("break", 60_000)]
    fails("fetch again to go on", get, server, tmp_path / "file", attempts=1)
    left = (tmp_path / "file.part").read_bytes()
    assert len(left) > 60_000 - fetch.CHUNK
    assert content(tmp_path) == {"file.part": BODY[: len(left)]}
    assert get(server, tmp_path / "file").read_bytes() == BODY
    assert server.requests[-1]["Range"] == f"bytes={len(left)}-"
    assert content(tmp_path) == {"file": BODY}


def test_part_that_is_already_whole(server, tmp_path):
    server.files["/file"] = BODY
    (tmp_path / "file.part").write_bytes(BODY)
    assert get(server, tmp_path / "file").read_bytes() == BODY


@pytest.mark.parametrize("rest", [BODY + b"longer", b"another version" * 10])
def test_part_of_another_file_does_not_survive(server, tmp_path, rest):
    server.files["/file"] = BODY
    (tmp_path / "file.part").write_bytes(rest)
    try:
        get(server, tmp_path / "file")
    except VoclabError as error:
        assert "wrong checksum" in str(error)  # noqa: PT017 - either the range or the checksum finds it
        assert content(tmp_path) == {}
        get(server, tmp_path / "file")
    assert content(tmp_path) == {"file": BODY}


def test_without_checksum_nothing_is_resumed_across_runs(server, tmp_path):
    server.files["/file"] = BODY
    (tmp_path / "file.part").write_bytes(b"of another version")
    assert get(server, tmp_path / "file", None).read_bytes() == BODY
    assert "Range" not in server.requests[0]


def test_file_that_changes_on_the_server_meanwhile(server, tmp_path):
    server.files["/file"] = BODY[::-1]
    server.script = [("break", 70_000)]
    answer = server.answer

    def changing(handler):
        answer(handler)
        server.files["/file"], server.etag = BODY, '"two"'

    server.answer = changing
    assert get(server, tmp_path / "file").read_bytes() == BODY


def test_server_that_ignores_ranges(server, tmp_path):
    server.files["/file"] = BODY
    server.script = [("break", 70_000), "no range"]
    assert get(server, tmp_path / "file").read_bytes() == BODY
    assert "Range" in server.requests[1]


def test_server_that_sends_another_range(server, tmp_path):
    server.files["/file"] = BODY
    server.script = [("break", 70_000), "wrong range"]
    assert get(server, tmp_path / "file").read_bytes() == BODY
    assert "Range" not in server.requests[2]


def test_gives_up_on_a_server_that_always_breaks(server, tmp_path):
    server.files["/file"] = BODY
    server.script = [("break", 0)] * 9
    fails("could not be downloaded.*check the network", get, server, tmp_path / "file", attempts=3)
    assert len(server.requests) == 3
    assert not (tmp_path / "file").exists()


def test_passing_server_error_is_survived(server, tmp_path):
    server.files["/file"] = BODY
    server.script = [503, 500]
    assert get(server, tmp_path / "file").read_bytes() == BODY


def test_lasting_server_error_is_named(server, tmp_path):
    server.files["/file"] = BODY
    server.script = [503] * 9
    fails(r"127.0.0.1:\d+/file could not be downloaded.*503.*put it at", get, server, tmp_path / "file")
    assert content(tmp_path) == {}


def test_missing_file_is_asked_for_once(server, tmp_path):
    fails("the server answered 404.*check the address.*browser", get, server, tmp_path / "file")
    assert len(server.requests) == 1
    assert content(tmp_path) == {}


def test_no_network(tmp_path, server):
    server.close()
    fails("could not be downloaded.*check the network", get, server, tmp_path / "file", attempts=2)


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/file", "nonsense", "http://"])
def test_address_that_is_none(tmp_path, url):
    fails("not an http address", fetch.download, url, tmp_path / "file", progress=False, wait=0)


def test_wrong_checksum_leaves_a_clean_start(server, tmp_path):
    server.files["/file"] = b"a captive portal's page"
    fails("wrong checksum", get, server, tmp_path / "file")
    assert content(tmp_path) == {}
    server.files["/file"] = BODY
    assert get(server, tmp_path / "file").read_bytes() == BODY


def test_wrong_file_of_the_user_is_kept_aside(server, tmp_path):
    server.files["/file"] = BODY
    (tmp_path / "file").write_bytes(b"mine")
    fails("wrong checksum and is now file.wrong", get, server, tmp_path / "file")
    get(server, tmp_path / "file")
    assert content(tmp_path) == {"file": BODY, "file.wrong": b"mine"}


def test_download_to_an_unwritable_place(server, tmp_path):
    (tmp_path / "plain").write_text("")
    fails("Cannot write .*plain", get, server, tmp_path / "plain" / "file")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_download_on_a_full_disk(server, tmp_path):
    server.files["/file"] = BODY
    (tmp_path / "file.part").symlink_to("/dev/full")
    fails("disk is full", get, server, tmp_path / "file")
    assert not (tmp_path / "file").exists()


# Archives


@pytest.fixture
def voc_tar(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source")
    make_tree(folder)
    return tar_of(base=folder / "VOCdevkit")


def fetch_voc(server, root, archive):
    server.files["/voc.tar"] = archive
    return fetch.fetch_voc2009(root, server.url("/voc.tar"), md5(archive), progress=False)


def test_fetch_voc2009(server, tmp_path, voc_tar, capsys):
    tree = fetch_voc(server, tmp_path / "data", voc_tar)
    assert tree == tmp_path / "data/VOCdevkit/VOC2009"
    data = vocdevkit.read(tmp_path / "data", "train")
    assert data.mask(0).shape == data.image(0).shape[:2]
    assert {p.name for p in (tmp_path / "data").iterdir()} == {"VOCdevkit"}

    before = content(tmp_path)
    fetch.fetch_voc2009(tmp_path / "data", server.url("/voc.tar"), "0" * 32)
    assert "already there" in capsys.readouterr().err
    assert content(tmp_path) == before
    assert len(server.requests) == 1


def test_fetch_keeps_other_years(server, tmp_path, voc_tar):
    make_tree(tmp_path, year=2007)
    before = content(tmp_path)
    fetch_voc(server, tmp_path, voc_tar)
    after = content(tmp_path)
    assert {k: after[k] for k in before} == before
    assert vocdevkit.find_tree(tmp_path).name == "VOC2009"


def test_archive_brought_by_hand_is_used_and_kept(server, tmp_path, voc_tar):
    (tmp_path / fetch.VOC2009_ARCHIVE).write_bytes(voc_tar)
    fetch.fetch_voc2009(tmp_path, server.url("/none"), md5(voc_tar), progress=False)
    assert server.requests == []
    assert (tmp_path / fetch.VOC2009_ARCHIVE).exists()
    assert len(vocdevkit.read(tmp_path, "val")) == 4


def test_official_address_and_checksum():
    assert fetch.VOC2009_URL == ("http://host.robots.ox.ac.uk/pascal/VOC/voc2009/VOCtrainval_11-May-2009.tar")
    assert fetch.VOC2009_MD5 == "59065e4b189728180974ef6572f6a212"


def test_incomplete_tree_in_the_way(server, tmp_path, voc_tar):
    (tmp_path / "VOCdevkit/VOC2009/JPEGImages").mkdir(parents=True)
    fails("in the way but incomplete", fetch_voc, server, tmp_path, voc_tar)


def test_archive_of_something_else(server, tmp_path):
    fails("holds no VOCdevkit/VOC2009", fetch_voc, server, tmp_path, tar_of(("readme", b"hello")))


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
def test_hostile_tar_is_refused_whole(server, tmp_path, voc_tar, kind):
    root = tmp_path / "a" / "b" / "data"
    make_tree(root, year=2007)
    before = content(tmp_path)
    archive = tar_of(("VOCdevkit/VOC2009/first", b"harmless"), HOSTILE[kind])
    fails(r"has the member .*do not use", fetch_voc, server, root, archive)
    (root / fetch.VOC2009_ARCHIVE).unlink()
    assert content(tmp_path) == before
    assert {p.name for p in root.iterdir()} == {"VOCdevkit"}


# The kaggle client: the real one, in a process of its own, with the local server as its proxy

SLUG = "kul-computer-vision-ga-2-2026"
DOWNLOAD = "/api/v1/competitions.CompetitionApiService/DownloadDataFiles"
RUN = """
import sys
from voclab.datasets import fetch
from voclab.errors import VoclabError
try:
    print("GOT", fetch.fetch_kaggle(sys.argv[1], sys.argv[2], progress=False))
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


def test_fetch_kaggle_with_the_real_client(server, tmp_path, competition_zip):
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


def test_fetch_kaggle_refused_by_the_server(server, tmp_path):
    server.files[DOWNLOAD] = json.dumps({}).encode()
    server.script = [403] * 9
    said = run_kaggle(server, tmp_path, **KEY)
    assert said.startswith("REFUSED")
    assert f"Kaggle answered 403 for https://www.kaggle.com/competitions/{SLUG}" in said
    assert "accept the rules" in said


def test_fetch_kaggle_without_credentials(server, tmp_path):
    said = run_kaggle(server, tmp_path)
    assert said.startswith("REFUSED The kaggle client found no credentials")
    for way in ("~/.kaggle/kaggle.json", "KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_API_TOKEN"):
        assert way in said
    assert not (tmp_path / "data").exists()


def test_fetch_kaggle_hostile_archive(server, tmp_path):
    server.redirect[DOWNLOAD] = f"http://localhost/files/{SLUG}.zip"
    server.files[f"/files/{SLUG}.zip"] = zip_of(("train/train_set.csv", b"Id"), ("../../escaped", b"x"))
    said = run_kaggle(server, tmp_path, **KEY)
    assert "leads outside its folder" in said
    assert not (tmp_path / "data" / SLUG).exists()
    assert not (tmp_path / "escaped").exists()


@pytest.mark.parametrize("slug", ["../x", "", "A b", "https://www.kaggle.com/competitions/x"])
def test_competition_name_is_checked(tmp_path, slug):
    fails("is no competition; name the last part", fetch.fetch_kaggle, slug, tmp_path)
    assert not list(tmp_path.iterdir())


def test_fetch_cifar10_from_a_gzipped_archive(server, tmp_path, capsys):
    names = ["batches.meta.txt", *(f"{name}.bin" for name in cifar10.BATCHES)]
    record = bytes([3]) + bytes(3072)
    text = "\n".join(cifar10.CIFAR10_CLASSES).encode()
    members = [(f"cifar-10-batches-bin/{name}", text if name.endswith("txt") else record) for name in names]
    archive = gzip.compress(tar_of(*members))
    server.files["/cifar.tar.gz"] = archive
    address = server.url("/cifar.tar.gz")
    tree = fetch.fetch_cifar10(tmp_path / "data", address, md5(archive), progress=False)
    assert tree == tmp_path / "data" / "cifar-10-batches-bin"
    assert not (tmp_path / "data" / fetch.CIFAR10_ARCHIVE).exists()
    assert (
        datasets.load("cifar10", tmp_path / "data", "train").labels.tolist() == [[0] * 3 + [1] + [0] * 6] * 5
    )
    fetch.fetch_cifar10(tmp_path / "data", server.url("/none"))
    assert "already there" in capsys.readouterr().err
    (tree / "data_batch_3.bin").unlink()
    fails("in the way but incomplete", fetch.fetch_cifar10, tmp_path / "data", address)
    server.files["/cifar.tar.gz"] = archive = gzip.compress(tar_of(members[0]))
    fails("or not all of it", fetch.fetch_cifar10, tmp_path / "b", address, md5(archive), progress=False)
    server.files["/cifar.tar.gz"] = archive = gzip.compress(tar_of(("../out", b"x")))
    fails("leads outside", fetch.fetch_cifar10, tmp_path / "c", address, md5(archive), progress=False)
    server.files["/cifar.tar.gz"] = archive = gzip.compress(tar_of(*members))[:150]
    fails(
        "damaged|cannot be read", fetch.fetch_cifar10, tmp_path / "d", address, md5(archive), progress=False
    )
