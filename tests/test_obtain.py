"""The data of a notebook: downloaded where real data has to be had, drawn where none was asked for."""

import hashlib
import io
import socket
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from local_server import Server
from voc_trees import make_tree, tar_of, write_batch

from voclab.cli import main
from voclab.data import cifar10, download, fetch
from voclab.data.obtain import obtain
from voclab.errors import VoclabError
from voclab.files import locked
from voclab.reporting import notebooks
from voclab.reporting.session import Session, on_colab


def cifar_tar(folder) -> bytes:
    """The binary distribution with two images a batch."""
    images = np.zeros((2, 32, 32, 3), np.uint8)
    batches = folder / cifar10.BINARY
    batches.mkdir()
    for name in cifar10.BATCHES:
        write_batch(batches / f"{name}.bin", images, np.array([0, 1]))
    (batches / "batches.meta.txt").write_text("\n".join(cifar10.CIFAR10_CLASSES))
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        tar.add(batches, cifar10.BINARY)
    return packed.getvalue()


@pytest.fixture
def server(monkeypatch, tmp_path):
    """A server with both archives, which the package takes for the official ones."""
    (tmp_path / "source").mkdir()
    served = Server()
    served.files["/voc"] = tar_of(base=make_tree(tmp_path / "source").folder.parent)
    served.files["/cifar"] = cifar_tar(tmp_path / "source")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    monkeypatch.setattr(download, "WAIT", 0)
    for path, name in (("/voc", "voc2009"), ("/cifar", "cifar10")):
        md5 = hashlib.md5(served.files[path], usedforsecurity=False).hexdigest()
        archive = replace(fetch.ARCHIVES[name], addresses=(served.url(path),), md5=md5)
        monkeypatch.setitem(fetch.ARCHIVES, name, archive)
    yield served
    served.close()


@pytest.mark.parametrize(
    ("data", "options", "name", "downloaded"),
    [
        ("voc2009", {}, "voc2009", True),
        (None, {"unasked": True}, "voc2009", True),
        (None, {}, "toyvoc", False),
        ("embedded", {"unasked": True}, "toyvoc", False),
        (None, {"single_label": True, "unasked": True}, "cifar10", True),
        ("toycifar", {"single_label": True, "unasked": True}, "toycifar", False),
    ],
)
def test_what_is_downloaded_and_when(server, tmp_path, data, options, name, downloaded):
    lines = []
    found = obtain(data, tmp_path / "data", say=lines.append, **options)
    assert (found.name, bool(server.requests)) == (name, downloaded)
    assert bool(lines) == downloaded
    if downloaded:
        assert "to download into" in lines[0]  # the size comes first
        assert found.why == f"{data or 'no data'} was named, and {found.root} holds what was downloaded"
        again = obtain(data, tmp_path / "data", say=lines.append, **options)
        assert (again.name, again.root, len(server.requests)) == (name, found.root, 1)


@pytest.mark.parametrize(
    ("data", "single_label"), [("cifar10", False), ("voc2009", True), ("nowhere", False)]
)
def test_what_the_notebook_is_not_about_is_never_downloaded(server, tmp_path, data, single_label):
    with pytest.raises(VoclabError, match=data):
        obtain(data, tmp_path / "data", single_label=single_label, unasked=True)
    assert not server.requests


@pytest.mark.parametrize(("single_label", "drawn"), [(False, "ToyVOC"), (True, "ToyCIFAR")])
def test_where_no_address_answers_drawn_data_is_taken_only_if_none_was_named(
    server, tmp_path, single_label, drawn
):
    server.files.clear()
    lines = []
    found = obtain(None, tmp_path / "data", single_label=single_label, unasked=True, say=lines.append)
    assert found.name == drawn.lower()
    assert lines[-1].startswith(f"Going on with the drawn images of {drawn}: ")
    assert "404" in lines[-1]
    with pytest.raises(VoclabError, match="could not be downloaded"):
        obtain(
            "cifar10" if single_label else "voc2009", tmp_path / "data", single_label=single_label, say=None
        )


def test_what_is_wrong_here_never_ends_in_drawn_data_by_accident(server, tmp_path):
    base = tmp_path / "data"
    base.mkdir()
    brought = base / fetch.VOC2009.file
    brought.write_bytes(b"half of it")
    with pytest.raises(VoclabError, match="is not the official archive, or not all of it"):
        obtain(None, base, unasked=True)
    brought.unlink()
    with locked(base / ".fetching.lock", "data"), pytest.raises(VoclabError, match="in use by another"):
        obtain(None, base, unasked=True)
    assert not server.requests


def test_drawn_data_that_is_named_opens_no_connection(tmp_path, monkeypatch):
    def refused(*_):
        raise AssertionError("a connection was opened")

    monkeypatch.setenv("COLAB_RELEASE_TAG", "release-colab_2026")
    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)
    for data in ("toyvoc", "embedded"):
        assert obtain(data, tmp_path, unasked=True).name == "toyvoc"
    assert obtain("toycifar", tmp_path, single_label=True, unasked=True).name == "toycifar"


def test_all_notebooks_about_data_that_is_still_to_be_downloaded_are_run(tmp_path, monkeypatch):
    ran = []
    monkeypatch.setattr(notebooks, "run", lambda which, **options: ran.append(which) or tmp_path)
    folder = str(Path(__file__).resolve().parents[1] / "notebooks")
    monkeypatch.chdir(tmp_path)
    for data in ("voc2009", "cifar10"):
        assert main(["run", "all", "--data", data, "--notebooks", folder]) == 0
    assert [name[:2] for name in ran] == ["01", "02", "03", "04", "05"]


def test_a_notebook_on_colab_takes_real_images_unless_told_otherwise(server, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release-colab_2026")
    session = Session("01_test", question="Why?", profile="smoke")
    assert session.train.name == "voc2009"
    assert session.root == tmp_path / "data"
    assert "PASCAL VOC 2009: about" in capsys.readouterr().out
    assert Session("01_test", question="Why?", profile="smoke", data="toyvoc").train.name == "toyvoc"


@pytest.mark.parametrize(
    ("variables", "module", "there"),
    [
        ({}, False, False),
        ({"COLAB_RELEASE_TAG": "release-colab_2026"}, False, True),
        ({}, True, True),
        ({"COLAB_RELEASE_TAG": "x", "KAGGLE_KERNEL_RUN_TYPE": "Batch"}, True, False),
    ],
)
def test_colab_is_known_by_its_package_or_its_variable_and_kaggle_is_not_colab(
    tmp_path, monkeypatch, variables, module, there
):
    for name in ("COLAB_RELEASE_TAG", "KAGGLE_KERNEL_RUN_TYPE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    if module:
        monkeypatch.setitem(sys.modules, "google", type(sys)("google"))
        sys.modules["google"].__path__ = [str(tmp_path)]
        (tmp_path / "colab.py").touch()
    assert on_colab() is there
