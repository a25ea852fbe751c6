"""The folder of one training: what was asked for, how it went, the model, the figures."""

import dataclasses
import shutil
from pathlib import Path

import keras
import numpy as np

from voclab.errors import VoclabError
from voclab.files import TEMPORARY, atomic_path, lock, make_folder, read_arrays, read_json, unlock, write_json


class Run:
    """The folder of one training: configuration, history, metrics, model. Everything in it is whole.

    ``config.json`` says what was asked for, ``history.json`` holds one entry an epoch,
    ``model.keras`` the best model so far, ``metrics.json`` is written last, so its presence means
    that the run is complete. ``resume/`` and the lock file exist only while a training is under way.
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
        return read_json(self.folder / "config.json", dict)

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
        return read_json(self.folder / "metrics.json", dict)

    def load_model(self) -> keras.Model:
        """The best model. Nothing in the file can execute code (Keras' safe mode)."""
        return load_model(self.folder / "model.keras")

    @property
    def has_history(self) -> bool:
        """Whether anything was written to the history yet."""
        return (self.folder / "history.json").is_file()

    def save_history(self, entries: list[dict]) -> None:
        """Replace the history, atomically."""
        write_json(self.folder / "history.json", _plain(entries))

    def save_model(self, model: keras.Model) -> None:
        """Replace ``model.keras``, atomically."""
        with atomic_path(self.folder / "model.keras") as temporary:
            model.save(temporary)

    def begin(self, config: dict) -> bool:
        """Start or resume the run that ``config`` describes; ``True`` if it is complete already.

        The name stands for what is asked for now: a complete run of another configuration is moved
        aside to ``<name>.old``, an incomplete one is dropped. Until the run is finished, or this process
        ends, no other process can begin in its folder.

        Raises:
            VoclabError: another process has begun there, or the folder cannot be read or written.
        """
        make_folder(self.folder)
        path = self.folder / "config.json"
        config = _plain(config)
        if self.complete and path.is_file() and read_json(path) == config:
            return True
        self._lock()
        if path.is_file() and read_json(path) == config:
            for leftover in self.folder.rglob(f"{TEMPORARY}*"):  # what a killed process was writing
                leftover.unlink(missing_ok=True)
            return self.complete
        if self.complete:
            old = self.folder.with_name(self.folder.name + ".old")
            shutil.rmtree(old, ignore_errors=True)
            self._unlock()
            self.folder.rename(old)
            self._lock()
        for leftover in ("config.json", "metrics.json", "history.json", "model.keras", "predictions.npz"):
            (self.folder / leftover).unlink(missing_ok=True)
        for pattern in ("*_masks.zip", f"{TEMPORARY}*"):
            for leftover in self.folder.glob(pattern):
                leftover.unlink(missing_ok=True)
        for leftover in ("resume", "resume.new"):
            shutil.rmtree(self.folder / leftover, ignore_errors=True)
        write_json(path, config)
        return False

    def finish(self, metrics: dict) -> None:
        """Write the metrics, which completes the run, and drop what only resuming needs."""
        write_json(self.folder / "metrics.json", _plain(metrics))
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


def load_model(path: str | Path) -> keras.Model:
    """Load a ``.keras`` file in safe mode; one that is missing, damaged or of a kind without it is an error.

    Raises:
        VoclabError: one sentence with the remedy.
    """
    import voclab.models.generator
    import voclab.models.segmenters  # noqa: F401  (both register our layers)

    if Path(path).suffix != ".keras":  # older formats can hold code, whatever the mode
        raise VoclabError(f"Model file {path} is no .keras file; save the model as one with Keras 3.")
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # zip, HDF5 and Keras each have their own errors for a damaged file
        raise VoclabError(
            f"Model file {path} cannot be loaded ({first_line(error)}); train it again."
        ) from error


def first_line(error: Exception) -> str:
    """What an error of another library says, short enough for a sentence of ours."""
    return (str(error).splitlines() or [type(error).__name__])[0][:160]


def added_later(default):
    """An option that came after the first runs: written only where it is used, so that they stay valid."""
    return dataclasses.field(default=default, metadata={"later": True})


def _unused(value, option: dataclasses.Field) -> bool:
    return "later" in option.metadata and getattr(value, option.name) == option.default


def _plain(value):
    """Dataclasses, tuples, paths and numpy numbers as what JSON gives back."""
    if dataclasses.is_dataclass(value):
        kept = {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if not _unused(value, f)}
        return _plain(kept)
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        return value.item()
    return str(value) if isinstance(value, Path) else value
