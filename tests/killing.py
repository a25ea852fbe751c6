"""Does work in processes that are killed at random moments, until it is done: ``python killing.py KIND …``.

A program of its own, since it forks: TensorFlow is imported here but has not run anything yet. The moments
are counted in file operations and in items read, not in seconds: the same seed kills at the same places.
"""

import contextlib
import csv
import dataclasses
import hashlib
import io
import json
import os
import random
import signal
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import nbformat
import numpy as np
from PIL import Image

from voclab.files import TEMPORARY

_OPERATIONS = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.chmod", "os.truncate"}


class Moments:
    """Counts down to the kill; whoever does something that a kill may fall into calls :meth:`pass_one`."""

    def __init__(self, left: int | None, folder: Path):
        self.left, self._lock, self._folder = left, threading.Lock(), str(folder)
        self._here = os.getcwd()

    def pass_one(self) -> None:
        if self.left is not None:
            with self._lock:
                self.left -= 1
                if self.left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)

    def hook(self, event: str, arguments: tuple) -> None:
        """Of ``sys.addaudithook``: every file operation below the folder is a moment, before it is done."""
        if event in _OPERATIONS and isinstance(arguments[0], str | bytes | os.PathLike):
            path = os.path.join(self._here, os.fsdecode(arguments[0]))
            if path.startswith(self._folder):
                self.pass_one()


def survived(work: Callable[[Path, Moments], None], folder: Path, moment: int | None) -> bool:
    """Whether a process that does ``work`` ends well; it is killed at that moment, if it gets there."""
    process = os.fork()
    if not process:
        status = 1
        try:
            os.chdir(folder)  # a run's configuration holds paths as they were given
            moments = Moments(moment, folder)
            sys.addaudithook(moments.hook)
            work(folder, moments)
            status = 0
        finally:
            sys.stderr.flush()
            os._exit(status)
    _, status = os.waitpid(process, 0)
    if os.WIFEXITED(status):
        assert os.WEXITSTATUS(status) == 0, "the work failed; see above"
        return True
    assert os.WTERMSIG(status) == signal.SIGKILL
    return False


def halves(folder: Path) -> list[str]:
    """Files that are not whole, by their paths; those still being written have names that say so."""
    found = []
    for path in folder.rglob("*"):
        working = any(part.startswith((TEMPORARY, ".extracting-")) for part in path.parts)
        if path.is_file() and not working and not path.name.endswith((".part", ".lock")):
            try:
                _CHECKS.get(path.suffix, lambda data: None)(path.read_bytes())
            except Exception as error:
                found.append(f"{path}: {error!r}")
    return found


def _check_zip(data: bytes) -> None:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None


def _arrays(data: bytes) -> list[bytes]:
    """The content of every array of an HDF5 file."""
    import h5py

    found = []

    def visit(name, item):
        if isinstance(item, h5py.Dataset):
            found.append(np.asarray(item).tobytes())

    with h5py.File(io.BytesIO(data)) as file:
        file.visititems(visit)
    return found


def _check_rows(data: bytes) -> None:
    lines = data.decode().split("\n")
    assert lines[-1] == "", "the last line has no end"
    assert len({line.count(",") for line in lines[:-1]}) == 1


_CHECKS = {
    ".json": json.loads,
    ".ipynb": lambda data: nbformat.validate(json.loads(data)),
    ".keras": _check_zip,
    ".npz": _check_zip,
    ".zip": _check_zip,
    ".h5": _arrays,
    ".npy": lambda data: np.load(io.BytesIO(data), allow_pickle=False),
    ".csv": _check_rows,
}


# --- kinds of work: each does, or goes on with, something in a folder ---


def training(folder: Path, moments: Moments) -> None:
    """A run of six epochs with dropout and augmentation, its predictions and its metrics."""
    import keras

    from voclab.data.base import Dataset
    from voclab.training import Recipe, Run, train

    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (12, 16, 16, 3), np.uint8), rng.integers(0, 2, (12, 2), np.uint8)

    def read(i):
        moments.pass_one()
        return images[i]

    names = tuple("abcdefghijkl")
    data = Dataset("drawn", "train", "multilabel", names, ("x", "y"), labels, read, None, "drawn")
    recipe = Recipe(size=16, augmentation="standard", epochs=6, learning_rate=0.05, batch_size=4, seed=1)
    run = Run(folder / "run")
    if run.begin({"recipe": recipe}):
        return
    start = keras.initializers.GlorotUniform(1)  # all else is random in a new process
    inputs = keras.Input((None, None, 3))
    x = keras.layers.GlobalAveragePooling2D()(inputs)
    x = keras.layers.Dropout(0.3)(keras.layers.Dense(8, "relu", kernel_initializer=start)(x))
    model = keras.Model(inputs, keras.layers.Dense(2, kernel_initializer=start)(x))
    pixels = images.astype(np.float32) / 255.0

    def score(model):
        moments.pass_one()
        return {"map": -float(np.abs(model(pixels).numpy() - labels).mean())}

    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    train(model, data, loss=loss, recipe=recipe, run=run, score=score, progress=lambda line: None)
    run.save_predictions(logits=model(pixels).numpy())
    run.finish({"best": max(entry["map"] for entry in run.history)})


def writing(folder: Path, moments: Moments) -> None:
    """Two halves of a submission and the whole."""
    from voclab.kaggle import merge_submissions, write_submission

    ids = range(20)

    def items(shape, top):
        for k in ids:
            moments.pass_one()
            yield np.random.default_rng(k).integers(0, top, shape)

    write_submission(folder / "classes.csv", ids, labels=items((20,), 2))
    write_submission(folder / "masks.csv", ids, label_maps=items((40, 50), 21))
    merge_submissions(folder / "submission.csv", folder / "classes.csv", folder / "masks.csv")


def exporting(folder: Path, moments: Moments) -> None:
    """A data set in the competition's layout."""
    from voclab.data.base import VOC_CLASSES, Dataset
    from voclab.kaggle.export import export

    def reader(shape, top):
        def decode(i):
            moments.pass_one()
            return np.random.default_rng(i).integers(0, top, shape, np.uint8)

        return decode

    labels = np.random.default_rng(0).integers(0, 2, (5, 20), np.uint8)
    readers = reader((12, 10, 3), 256), reader((12, 10), 21)
    data = Dataset("drawn", "train", "multilabel", tuple("abcde"), VOC_CLASSES, labels, *readers, "drawn")
    export(data, data, folder / "out", folder / "truth", progress=False)


def fetching(folder: Path, moments: Moments) -> None:
    """An archive downloaded from the address in the environment, and extracted."""
    from tqdm import tqdm

    from voclab.data import download, fetch

    update, download.CHUNK = tqdm.update, 2**11

    def arrived(bar, size=1):  # every piece that was received is a moment
        moments.pass_one()
        return update(bar, size)

    tqdm.update = arrived
    address, md5 = os.environ["KILLING_URL"], os.environ["KILLING_MD5"]
    archive = dataclasses.replace(fetch.VOC2009, addresses=(address,), md5=md5)
    fetch.fetch(archive, folder / "data", None)


def executing(folder: Path, moments: Moments) -> None:
    """A notebook in its place. A cell kills the process that runs it, or a file operation after the cells."""
    from voclab.reporting import notebooks

    os.environ["KILLING_CELL"] = str(moments.left)
    if moments.left is not None:
        moments.left = moments.left - CELLS if moments.left >= CELLS else None
    notebooks.run("01", parameters={}, notebooks_dir=folder / "notebooks", in_place=True, progress=False)


CELLS = 3


def pushing(folder: Path, moments: Moments) -> None:
    """A submission sent to the server in the environment, and its score awaited."""
    import socket

    from voclab.kaggle import push, push_submission

    def counted(name: str) -> None:
        real = getattr(socket.socket, name)

        def call(*arguments):
            moments.pass_one()
            done = real(*arguments)
            moments.pass_one()
            return done

        setattr(socket.socket, name, call)

    for name in ("sendall", "recv_into"):  # every piece that was sent, every answer
        counted(name)
    push._UNCERTAIN, push._PAUSE = 0.3, 0  # this server answers at once
    with contextlib.redirect_stdout(io.StringIO()):
        push_submission(folder / FILE, COMPETITION, wait=True, log=folder / "submissions/log.csv")


def making(folder: Path, moments: Moments) -> None:
    """ToyVOC, by ``voclab data make``."""
    _command("data", "make", "--root=toyvoc", "--train=3", "--val=2", "--test=1", "--size=64")


def extracting(folder: Path, moments: Moments) -> None:
    """A tar and a zip archive of several files and folders."""
    from voclab.data.archives import unpack

    for name in ("a.tar.gz", "b.zip"):
        if not (folder / "data" / name).exists():  # as whoever fetches looks first
            unpack(folder / name, folder / "data" / name)


def showing(folder: Path, moments: Moments) -> None:
    """The gallery of a folder of figures, by ``voclab gallery``."""
    _command("gallery")


def commanding(folder: Path, moments: Moments) -> None:
    """A small network trained on images by class, by ``voclab train``."""
    from voclab.data import folder as images

    decode = images.decode

    def counted(path):
        moments.pass_one()
        return decode(path)

    images.decode = counted
    options = ["--size=32", "--width=4", "--epochs=3", "--batch-size=8", "--name=run"]
    _command("train", "--data=images", "--model=small_cnn", *options)


def _command(*arguments: str) -> None:
    """A command of ``voclab``; what it says is of no interest, unless it fails."""
    from voclab.cli import main

    with contextlib.redirect_stdout(io.StringIO()):
        assert main(list(arguments)) == 0


COMPETITION, FILE = "killed", "submission.csv"


def _submission(folder: Path) -> None:
    from voclab.kaggle import write_submission

    rng = np.random.default_rng(
        list(folder.name.encode())
    )  # another file in each folder: all go to one server
    maps = rng.integers(0, 21, (2, 60, 50))
    write_submission(folder / FILE, range(2), rng.integers(0, 2, (2, 20)), maps)


def _archives(folder: Path) -> None:
    names = [f"{top}/{part}/{k}" for top in ("one", "two") for part in "ab" for k in range(2)]
    with tarfile.open(folder / "a.tar.gz", "w:gz") as archive:
        for name in (*names, "readme.txt"):
            member = tarfile.TarInfo(name)
            member.size = 3
            archive.addfile(member, io.BytesIO(b"abc"))
    with zipfile.ZipFile(folder / "b.zip", "w") as archive:
        for name in (*names, "other.txt"):
            archive.writestr(f"zipped {name}", b"abc")


def _figures(folder: Path) -> None:
    for name in ("01_first", "02_second"):
        place = folder / "figures" / name
        place.mkdir(parents=True)
        Image.new("RGB", (6, 4)).save(place / "01_curves.png")
        items = [{"name": "01_curves", "title": "Curves", "caption": "c", "alt": "a"}]
        (place / "run.json").write_text(json.dumps({"question": "Why?", "answer": "**So.**", "items": items}))


def _images(folder: Path) -> None:
    for k in range(20):
        place = folder / "images" / ("cat", "dog")[k % 2] / f"{k}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(k).integers(0, 256, (32, 32, 3), np.uint8)).save(place)


def _notebook(folder: Path) -> None:
    kill = "import os, signal\nif os.environ['KILLING_CELL'] == '{0}': os.kill(os.getppid(), signal.SIGKILL)"
    cells = [nbformat.v4.new_code_cell(f"{kill.format(k)}\nprint({k})", id=f"c{k}") for k in range(CELLS)]
    (folder / "notebooks").mkdir()
    nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / "notebooks" / "01_first.ipynb")


KINDS = {  # work, what it finds, the farthest moment, after how many kills it is left alone
    "training": (training, None, 70, 99),
    "writing": (writing, None, 70, 3),
    "exporting": (exporting, None, 70, 3),
    "fetching": (fetching, None, 120, 3),
    "executing": (executing, _notebook, 8, 99),
    "pushing": (pushing, _submission, 90, 3),
    "making": (making, None, 90, 3),
    "extracting": (extracting, _archives, 70, 3),
    "showing": (showing, _figures, 9, 3),
    "commanding": (commanding, _images, 120, 99),
}


def results(folder: Path) -> dict[str, str]:
    """Digest of every file below, by its path.

    Of a run's history and metrics without the seconds, of weights alone, of a log without names and times.
    """
    found = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        if path.name.startswith(TEMPORARY):  # what a kill leaves half-written is removed a day later
            continue
        data = path.read_bytes()
        if path.name in ("history.json", "metrics.json"):
            data = json.dumps(_untimed(json.loads(data))).encode()
        elif path.name == "log.csv":
            rows = list(csv.DictReader(io.StringIO(data.decode())))
            data = json.dumps(
                [[row["competition"], row["status"], row["public_score"]] for row in rows]
            ).encode()
        elif path.suffix == ".keras":  # the archive holds a date
            with zipfile.ZipFile(path) as archive:
                data = b"".join(_arrays(archive.read("model.weights.h5")))
        found[str(path.relative_to(folder))] = hashlib.sha256(data).hexdigest()
    return found


def _untimed(value):
    """A value of JSON without what says how long something took."""
    if isinstance(value, list):
        return [_untimed(entry) for entry in value]
    if isinstance(value, dict):
        return {key: _untimed(entry) for key, entry in value.items() if not key.startswith("seconds")}
    return value


def main(kind: str, root: str, seed: str, kills: str) -> dict:
    """Do the work once unbroken, then again and again with kills until there were so many.

    Returns:
        ``kills``, ``faults`` (files that a kill left half-written), ``unbroken`` and ``resumed`` results,
        without files that were there before and stayed as they were.
    """
    work, prepare, farthest, most = KINDS[kind]
    rng, count = random.Random(int(seed)), 0
    report = {"kills": 0, "faults": [], "resumed": []}

    def fresh(name: str):
        folder = Path(root) / name
        folder.mkdir()
        if prepare:
            prepare(folder)
        return folder, results(folder).items()

    first, found = fresh("unbroken")
    survived(work, first, None)
    report["unbroken"] = dict(results(first).items() - found)
    while report["kills"] < int(kills):
        (folder, found), count = fresh(f"killed{count}"), count + 1
        done, here = False, 0
        while not done:
            more = report["kills"] < int(kills) and here < most
            done = survived(work, folder, rng.randrange(farthest) if more else None)
            here += not done
            report["kills"] += not done
            report["faults"] += halves(folder)
        report["resumed"].append(dict(results(folder).items() - found))
    return report


def killed(
    kind: str, folder: Path, kills: int, seed: int = 0, environment: Mapping[str, str] | None = None
) -> dict:
    """What :func:`main` reports, from a process of its own; ``AssertionError`` if the work failed once."""
    folder.mkdir()
    command = [sys.executable, __file__, kind, str(folder), str(seed), str(kills)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def killed_fetch(folder: Path, kills: int, seed: int = 0) -> dict:
    """:func:`killed` for downloads from a server of their own; ``asked``: the headers of all requests."""
    from local_server import Server
    from voc_trees import make_tree, tar_of

    archive = tar_of(base=make_tree(folder.with_name("source")).folder.parent)
    server = Server()
    server.files["/voc.tar"] = archive
    environment = {
        **os.environ,
        "KILLING_URL": server.url("/voc.tar"),
        "KILLING_MD5": hashlib.md5(archive, usedforsecurity=False).hexdigest(),
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }
    try:
        report = killed("fetching", folder, kills, seed, environment)
    finally:
        server.close()
    return {**report, "asked": server.requests}


def killed_push(folder: Path, kills: int, seed: int = 0) -> dict:
    """:func:`killed` for pushes to a server of their own; ``sent``: how often each folder's file arrived."""
    from local_server import Kaggle

    server = Kaggle(COMPETITION)
    server.daily = 10**6
    try:
        report = killed("pushing", folder, kills, seed, server.environment(folder.with_name("home")))
    finally:
        server.close()
    arrived = [server.stored[facts["token"]] for facts in server.submissions]
    report["sent"] = {
        work.name: arrived.count((work / FILE).read_bytes()) for work in sorted(folder.iterdir())
    }
    return report


if __name__ == "__main__":
    if sys.argv[1] == "training":
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
        import keras  # noqa: F401 - before the fork, not in every process

    elif sys.argv[1] == "commanding":
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    elif sys.argv[1] == "executing":
        import nbclient  # noqa: F401
        from ipykernel import kernelspec  # noqa: F401
    elif sys.argv[1] == "pushing":
        import kaggle  # noqa: F401
    json.dump(main(*sys.argv[1:]), sys.stdout)
