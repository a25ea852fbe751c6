"""The folder of one piece of work: what was asked for, how it went, the model, the figures."""

import hashlib
import re
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import keras
import numpy as np

from voclab.backend import bytes_of_chief, is_chief, several_machines
from voclab.errors import VoclabError, first_line
from voclab.files import (
    TEMPORARY,
    atomic_path,
    free_name,
    lock,
    make_folder,
    read_arrays,
    read_json,
    unlock,
    write_json,
)
from voclab.models.saved import load_model
from voclab.training.identity import changes, listed, made_elsewhere, plain

LOGS = "logs"  # for TensorBoard
_NEVER = "nothing was begun there"
_STATE = ("last.weights.h5", "state.json")
_TO_RESUME = ("model.keras", *(f"{folder}/{name}" for folder in ("resume.new", "resume") for name in _STATE))
_FILES = ("config.json", "metrics.json", "history.json", "results.json", "model.keras", "predictions.npz")
_PARTS_OF_A_MODEL = {"metadata.json", "config.json", "model.weights.h5"}


class Run:
    """A folder of results, all of them whole, that stands for one configuration.

    ``config.json`` says what was asked for, ``history.json`` holds one entry an epoch, ``model.keras`` the
    best model so far, ``results.json`` and ``arrays/`` what :meth:`once` kept. ``metrics.json`` is written
    last: it means that the run is complete. ``resume/`` and ``.lock`` are there while work is under way.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.folder.name

    @property
    def complete(self) -> bool:
        """Whether the run was finished."""
        return (self.folder / "metrics.json").is_file()

    @property
    def config(self) -> dict:
        """What was asked for."""
        return _Figures.of(self.folder / "config.json")

    @property
    def history(self) -> list[dict]:
        """One dict an epoch: epoch, loss, seconds, and the validation score."""
        path = self.folder / "history.json"
        entries = read_json(path, list)
        if not all(isinstance(entry, dict) for entry in entries):
            raise VoclabError(f"{path} does not hold the figures of epochs; delete it and run again.")
        return entries

    @property
    def metrics(self) -> dict:
        """What the finished run was measured at."""
        return _Figures.of(self.folder / "metrics.json")

    def load_model(self) -> keras.Model:
        """The best model. Nothing in the file can execute code (Keras' safe mode)."""
        return load_model(self.folder / "model.keras")

    @property
    def has_history(self) -> bool:
        """Whether anything was written to the history yet."""
        return (self.folder / "history.json").is_file()

    def save_history(self, entries: list[dict]) -> None:
        """Replace the history, atomically."""
        write_json(self.folder / "history.json", plain(entries))

    def once(self, key: str, compute: Callable[[], Any]) -> Any:
        """What ``compute()`` gives; computed once, kept in the folder, and read back from then on.

        Works at any time after :meth:`begin`, also in a complete run. Without :meth:`begin` the folder is a
        cache of arrays that processes may share, whose keys have to say all that a result depends on.

        Args:
            key: names the result within the run.
            compute: gives a dict of arrays (kept as ``arrays/<key>.npz``) or a value that JSON can hold
                (kept in ``results.json``).

        Returns:
            The result as it is read back: of tuples lists, of numpy's numbers Python's, floats in a dict of
            arrays as arrays without dimensions.
        """
        name = key if re.fullmatch(r"[\w.-]{1,80}", key) else hashlib.sha256(key.encode()).hexdigest()[:16]
        path = self.folder / "arrays" / f"{name}.npz"
        with suppress(VoclabError):  # missing; or damaged, then it is computed again
            return read_arrays(path)
        results = self.results
        if key in results:
            return results[key]
        found = compute()
        if isinstance(found, dict) and any(isinstance(value, np.ndarray) for value in found.values()):
            with atomic_path(path) as temporary:
                np.savez(temporary, **found)
            return {name: np.asarray(value) for name, value in found.items()}
        found = plain(found)
        write_json(self.folder / "results.json", {**results, key: found})
        return found

    @property
    def results(self) -> dict[str, Any]:
        """What :meth:`once` kept as JSON, by key."""
        path = self.folder / "results.json"
        return read_json(path, dict) if path.is_file() else {}

    def save_model(self, model: keras.Model) -> None:
        """Replace ``model.keras``, atomically."""
        with atomic_path(self.folder / "model.keras") as temporary:
            model.save(temporary)

    def begin(
        self,
        config: dict,
        *,
        files: Sequence[str] = (),
        figures: Sequence[str] = (),
        progress: Callable[[str], None] = lambda line: None,
    ) -> bool:
        """Start or resume the run that ``config`` describes; ``True`` if it is complete already.

        The name stands for what is asked for now. A run of another configuration or of other code, and one
        whose files are damaged, is moved aside to ``<name>.old`` (then ``<name>.old-2`` and so on: none is
        ever removed), unless no epoch of it was finished. Until the run is finished, or this process ends,
        no other process can begin in its folder.

        Args:
            config: what :func:`voclab.training.identity.known_by` gives.
            files: what the folder of the finished run holds beside its texts.
            figures: what its metrics hold.
            progress: receives a sentence: why the run is read back, or what has changed since.

        Raises:
            VoclabError: another process has begun there, or the folder cannot be read or written.
        """
        make_folder(self.folder)
        config = plain(config)
        if self.complete and not self._reasons(config, files, figures):
            return self._read_back(config, progress)
        self._lock()
        reasons = self._reasons(config, files, figures)  # whoever held the lock may have finished the run
        if self.complete and not reasons:
            self._unlock()
            return self._read_back(config, progress)
        if reasons == [_NEVER]:
            self._clear()
        elif reasons:
            kept = self._set_aside()
            progress(f"{self.name}: begun anew, since {listed(reasons)}{kept}.")
        else:
            for leftover in self.folder.rglob(f"{TEMPORARY}*"):  # what a killed process was writing
                leftover.unlink(missing_ok=True)
            return False
        write_json(self.folder / "config.json", config)
        return False

    def holds(self, config: dict, files: Sequence[str] = (), figures: Sequence[str] = ()) -> bool:
        """Whether :meth:`begin` with the same arguments would find the run complete."""
        return self.complete and not self._reasons(plain(config), files, figures)

    def _read_back(self, config: dict, progress: Callable[[str], None]) -> bool:
        shutil.rmtree(self.folder / "resume", ignore_errors=True)  # of a process killed as it finished
        why = "settings, data, weights and code" if "code" in config else "settings"
        made = made_elsewhere(self.config, config)
        progress(f"{self.name}: complete, read from {self.folder}: {why} are the same{made}.")
        return True

    def _reasons(self, config: dict, files: Sequence[str], figures: Sequence[str]) -> list[str]:
        """Why what is in the folder cannot be read back or gone on with; nothing if it can."""
        if not (self.folder / "config.json").exists():
            return ["its config.json is missing"] if self.complete else [_NEVER]
        try:
            found = changes(self.config, config)
            if self.complete:
                missing = [name for name in figures if name not in self.metrics]
                found = found or [f"its metrics.json has no {name}" for name in missing]
            if self.has_history:
                self.history  # noqa: B018 - reading it checks it
            self.results  # noqa: B018
        except VoclabError as error:
            return [f"a file of it is damaged: {str(error).partition(';')[0]}"]
        resuming = (self.folder / "resume").exists()
        wanted = files if self.complete else ("model.keras",) if resuming else ()
        return found or [damage for name in wanted if (damage := _damage(self.folder / name))]

    def _set_aside(self) -> str:
        """Make room for another run; returns where the one that lay there is kept, as the end of a phrase."""
        if not self.complete and not self._trained:
            self._clear()
            return ""
        old = free_name(self.folder.with_name(f"{self.name}.old"))
        self._unlock()
        try:
            self.folder.rename(old)
        except OSError as error:
            raise VoclabError(
                f"{self.folder} cannot be moved to {old.name} ({error.strerror}); close what has files of it "
                "open, or name another folder."
            ) from error
        make_folder(self.folder)
        self._lock()
        return f"; the old run is kept in {old}"

    @property
    def _trained(self) -> bool:
        """Whether anything was finished that took time: an epoch, a measurement."""
        if any((self.folder / name).exists() for name in ("history.json", "results.json", "arrays")):
            return True
        with suppress(VoclabError, KeyError, TypeError):
            return len(read_json(self.folder / "resume" / "state.json", dict)["history"]) > 1
        return (self.folder / "resume").exists()

    def _clear(self) -> None:
        for pattern in (*_FILES, "*_masks.zip", f"{TEMPORARY}*"):
            for path in self.folder.glob(pattern):
                path.unlink(missing_ok=True)
        for name in ("resume", "resume.new", "arrays", LOGS):
            shutil.rmtree(self.folder / name, ignore_errors=True)

    def finish(self, metrics: dict) -> None:
        """Write the metrics, which completes the run, and drop what only resuming needs."""
        write_json(self.folder / "metrics.json", plain(metrics))
        shutil.rmtree(self.folder / "resume", ignore_errors=True)
        self._unlock()

    def _lock(self) -> None:
        lock(self.folder / ".lock", f"The run folder {self.folder}")

    def _unlock(self) -> None:
        unlock(self.folder / ".lock")

    def save_predictions(self, **arrays: np.ndarray) -> None:
        """Keep arrays (logits, say) from which figures are drawn, in ``predictions.npz``."""
        with atomic_path(self.folder / "predictions.npz") as temporary:
            np.savez_compressed(temporary, **arrays)

    def predictions(self) -> dict[str, np.ndarray]:
        """What :meth:`save_predictions` kept."""
        path = self.folder / "predictions.npz"
        if not path.is_file():
            raise VoclabError(f"{path} is missing; delete {self.folder} and run again.")
        arrays = read_arrays(path)
        for name, values in arrays.items():
            if values.dtype.kind == "f" and not np.isfinite(values).all():
                raise VoclabError(
                    f"{path} holds NaN or infinity in {name}, so its network diverged; delete {self.folder}"
                    " and train again with a lower learning rate."
                )
        return arrays


@contextmanager
def own_folder(run: Run) -> Iterator[Run]:
    """The begun run itself; on the other machines of a cluster a copy, in a temporary folder, to go on from.

    All machines save what they train, since they read the weights together; only the chief's files are kept.
    """
    sent = {name: _of_chief(run.folder / name) for name in _TO_RESUME} if several_machines() else {}
    if is_chief():
        yield run
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Run(Path(folder) / run.name)
        for name, data in sent.items():
            if data:
                with atomic_path(copy.folder / name) as temporary:
                    Path(temporary).write_bytes(data)
        make_folder(copy.folder)
        yield copy


def _of_chief(path: Path) -> bytes:
    return bytes_of_chief(path.read_bytes() if is_chief() and path.is_file() else b"")


class _Figures(dict):
    """What a file of a run holds; a missing entry is an error that names the file."""

    path: Path

    @classmethod
    def of(cls, path: Path) -> "_Figures":
        found = cls(read_json(path, dict))
        found.path = path
        return found

    def __missing__(self, key):
        raise VoclabError(f"{self.path} has no {key!r}; delete {self.path.parent} and run again.")


def _damage(path: Path) -> str | None:
    """What is wrong with a file of a run, for people: archives hold checksums; others are only opened."""
    if not path.is_file():
        return f"its {path.name} is missing"
    try:
        if path.suffix == ".json":
            return None  # was read before
        if path.suffix == ".h5":
            import h5py

            with h5py.File(path) as file:
                file.visit(lambda name: None)
            return None
        with zipfile.ZipFile(path) as archive:
            cut = archive.testzip()
            if path.suffix == ".keras":
                cut = cut or next(iter(_PARTS_OF_A_MODEL - set(archive.namelist())), None)
        return f"its {path.name} is damaged ({cut})" if cut else None
    except Exception as error:  # zip and HDF5 each have their own errors for a damaged file
        return f"its {path.name} is damaged ({first_line(error)})"
