"""One recipe for every training: warm-up and cosine, early stopping, best weights, resume after a kill."""

import dataclasses
import math
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import keras
import numpy as np

from voclab.backend import out_of_memory, replicas, train_as_one
from voclab.datasets.base import Dataset
from voclab.errors import VoclabError
from voclab.files import TEMPORARY, atomic_path, lock, make_folder, read_arrays, read_json, unlock, write_json
from voclab.pipeline import DecodedCache, steps_per_epoch, training_batches


def _later(default):
    """An option that came after the first runs: written only where it is used, so that they stay valid."""
    return field(default=default, metadata={"later": True})


@dataclass(frozen=True)
class Recipe:
    """How a network is trained. What makes one training differ from another is in the run's ``config.json``.

    Attributes:
        size: side of the square training images, pixels.
        policy: augmentation policy, see ``voclab.pipeline.augmentation``.
        epochs: the longest training; 0 only evaluates the start.
        rate: peak learning rate.
        batch_size: images a step.
        weight_decay: on kernels only and apart from the gradient, times the learning rate (Loshchilov &
            Hutter 2019), for both optimizers. An L2 penalty goes through the momentum instead: to decay as
            much as a published SGD with 5e-4 and momentum 0.9, take 5e-3.
        warmup: epochs of linear warm-up from 0 to ``rate``; cosine to 0 follows.
        patience: epochs without a better validation score before training stops.
        seed: fixes order, augmentation and dropout.
        optimizer: ``"adam"`` (AdamW) or ``"sgd"``, see :func:`make_optimizer`.
        momentum: of SGD.
        smoothing: label smoothing from 0 to 1, see ``voclab.pipeline.smoothed``. For labels only.
        mixup: alpha of mixup, see ``voclab.pipeline.training_batches``; 0 mixes nothing. For labels only.
    """

    size: int
    policy: str
    epochs: int
    rate: float
    batch_size: int = 16
    weight_decay: float = 1e-4
    warmup: float = 1.0
    patience: int = 10
    seed: int = 0
    optimizer: str = _later("adam")
    momentum: float = _later(0.9)
    smoothing: float = _later(0.0)
    mixup: float = _later(0.0)


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
        return read_arrays(path)


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
        raise VoclabError(f"Model file {path} cannot be loaded ({_short(error)}); train it again.") from error


def _short(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:160]


def train(
    model: keras.Model,
    fit_set: Dataset,
    *,
    loss: keras.losses.Loss | dict[str, keras.losses.Loss],
    recipe: Recipe,
    run: Run,
    score: Callable[[keras.Model], dict[str, float]] | None,
    monitor: str = "map",
    stop_after: int | None = None,
    target: str = "labels",
    cache: DecodedCache | None = None,
    progress: Callable[[str], None] = print,
) -> keras.Model:
    """Train ``model`` and return it with the weights of its best epoch.

    After every epoch ``score(model)`` is computed on validation data; the epoch with the highest
    ``monitor`` wins, the start (epoch 0) included: a fine-tuning that only harms changes nothing.
    The state is kept in ``run`` after each epoch, so that a killed training called again with the
    same arguments goes on where it was, and ends with the same numbers on a CPU.

    Args:
        model: maps (B, H, W, 3) float32 in [0, 1] to logits.
        fit_set: what to train on.
        loss: from logits; or one for each named output of the model, all of which get the same target.
        recipe: see :class:`Recipe`.
        run: folder of the run; :meth:`Run.begin` was called.
        score: model -> validation figures; ``None`` where no data is left to choose on: the last epoch
            is kept then.
        monitor: the key of ``score``'s result to maximise.
        stop_after: stop after that many epochs of the schedule, which stays that of ``recipe.epochs``.
        target: ``"labels"`` or ``"masks"``.
        cache: decoded images of ``fit_set``.
        progress: receives one line an epoch.

    Raises:
        VoclabError: the loss is not finite, memory is too small for the batch, or the state of an
            interrupted training is damaged. The best weights so far stay in the run.
    """
    if score is None:
        score, monitor = (lambda model: {}), "epoch"
    epochs = recipe.epochs if stop_after is None else min(stop_after, recipe.epochs)
    steps = steps_per_epoch(len(fit_set), recipe.batch_size)
    model.compile(optimizer=make_optimizer(recipe, steps), loss=loss, jit_compile=False)
    model.optimizer.build(model.trainable_variables)
    train_as_one(model)
    state = run.folder / "resume"
    _recover(run)
    if (state / "state.json").is_file() and (state / "last.weights.h5").is_file():
        history = _resume(model, state, monitor)
    else:
        with _enough_memory(run, recipe):
            history = [{"epoch": 0, **_finite(score(model), monitor, run)}]
        run.save_model(model)
        _keep(run, model, history)
    best = max(range(len(history)), key=lambda k: history[k][monitor])
    keeper = _Keeper(run, history, best, monitor, score, recipe, progress)
    done = len(history) - 1
    if done < epochs and done - best < recipe.patience:
        failures: list[VoclabError] = []
        batches = training_batches(
            fit_set,
            size=recipe.size,
            policy=recipe.policy,
            batch_size=recipe.batch_size,
            seed=recipe.seed,
            epochs=epochs,
            start_epoch=done,
            target=target,
            cache=cache,
            smoothing=recipe.smoothing,
            mixup=recipe.mixup,
            failures=failures,
        )
        if isinstance(loss, dict):
            batches = batches.map(lambda x, y: (x, {name: y for name in loss}), num_parallel_calls=1)
        try:
            with _enough_memory(run, recipe):
                model.fit(
                    batches,
                    initial_epoch=done,
                    epochs=epochs,
                    steps_per_epoch=steps,
                    callbacks=[keeper],
                    shuffle=False,
                    verbose=0,
                )
        except Exception:
            if failures:  # tf.data hides what a reader raised behind an error of its own
                raise failures[0] from None
            raise
    write_json(run.folder / "history.json", history)
    best_model = run.load_model()
    model.set_weights(best_model.get_weights())
    return model


def make_optimizer(recipe: Recipe, steps: int) -> keras.optimizers.Optimizer:
    """AdamW or SGD with linear warm-up and cosine decay to zero over ``recipe.epochs``.

    SGD keeps a velocity v, which becomes momentum × v - rate × gradient and is added to the weights. The
    gradient of each weight tensor is cut to norm 5 for both.
    """
    warmup = min(round(recipe.warmup * steps), max(1, recipe.epochs * steps // 2))
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0,
        decay_steps=max(1, recipe.epochs * steps - warmup),
        warmup_target=recipe.rate,
        warmup_steps=warmup,
    )
    options = {"weight_decay": recipe.weight_decay, "clipnorm": 5.0 / replicas()}  # see train_as_one
    if recipe.optimizer == "adam":
        optimizer = keras.optimizers.AdamW(schedule, **options)
    elif recipe.optimizer == "sgd":
        optimizer = keras.optimizers.SGD(schedule, momentum=recipe.momentum, **options)
    else:
        raise ValueError(f"optimizer {recipe.optimizer!r} is not one of adam, sgd")
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


class _Keeper(keras.callbacks.Callback):
    """Scores, reports and keeps the state at the end of every epoch; stops when nothing improves."""

    def __init__(self, run, history, best, monitor, score, recipe, progress):
        super().__init__()
        self.kept, self.history, self.best, self.monitor = run, history, best, monitor
        self.score, self.recipe, self.report = score, recipe, progress

    def on_epoch_begin(self, epoch, logs=None):
        self.started = time.perf_counter()
        # Dropout draws from generators that checkpoints do not hold: set by epoch, a resumed
        # training draws what an unbroken one would.
        for k, generator in enumerate(_seed_generators(self.model)):
            seed = np.random.SeedSequence([self.recipe.seed, epoch, k]).generate_state(2)
            generator.state.assign(seed.astype("uint32"))

    def on_train_batch_end(self, batch, logs=None):
        if logs and not math.isfinite(logs["loss"]):
            raise VoclabError(
                f"The loss is {logs['loss']} at batch {batch + 1} of epoch {len(self.history)} of run "
                f"{self.kept.folder}; lower the learning rate (now at most {self.recipe.rate:g}). "
                "The best weights so far are kept in model.keras."
            )

    def on_epoch_end(self, epoch, logs=None):
        entry = {"epoch": epoch + 1, "loss": float(logs["loss"])}
        entry |= {name: float(value) for name, value in logs.items() if name.endswith("_loss")}
        entry |= _finite(self.score(self.model), self.monitor, self.kept)
        entry["seconds"] = round(time.perf_counter() - self.started, 2)
        self.history.append(entry)
        if entry[self.monitor] > self.history[self.best][self.monitor]:
            self.best = len(self.history) - 1
            self.kept.save_model(self.model)
        _keep(self.kept, self.model, self.history)
        timed = [e["seconds"] for e in self.history if "seconds" in e]
        left = np.median(timed) * (self.recipe.epochs - epoch - 1)
        best = self.history[self.best][self.monitor]
        self.report(
            f"{self.kept.name}: epoch {epoch + 1}/{self.recipe.epochs}  loss {entry['loss']:.3f}  "
            f"validation {self.monitor} {entry[self.monitor]:.3f} (best {best:.3f})  "
            f"{entry['seconds']:.0f} s, at most {left / 60:.1f} min left"
        )
        if len(self.history) - 1 - self.best >= self.recipe.patience:
            self.model.stop_training = True


def _keep(run: Run, model: keras.Model, history: list[dict]) -> None:
    """Write the state to resume from; weights and history are exchanged together, see ``_recover``."""
    new, old = run.folder / "resume.new", run.folder / "resume"
    shutil.rmtree(new, ignore_errors=True)
    make_folder(new)
    with atomic_path(new / "last.weights.h5") as temporary:
        model.save_weights(temporary)
    write_json(new / "state.json", {"history": history})
    shutil.rmtree(old, ignore_errors=True)
    new.rename(old)


def _recover(run: Run) -> None:
    """Finish the exchange that a kill interrupted: a new state with its last file is whole, and newer."""
    new, old = run.folder / "resume.new", run.folder / "resume"
    if (new / "state.json").is_file():
        shutil.rmtree(old, ignore_errors=True)
        new.rename(old)


def _resume(model: keras.Model, state: Path, monitor: str) -> list[dict]:
    """Load the weights of the last epoch into ``model``; returns the history up to it."""
    try:
        history = read_json(state / "state.json", dict)["history"]
        sound = [e["epoch"] for e in history] == list(range(len(history))) and len(history) > 0
        if not sound or not all(isinstance(e[monitor], (int, float)) for e in history):
            raise ValueError("its state.json does not hold the figures of every epoch")
        model.load_weights(state / "last.weights.h5")
    except VoclabError:
        raise
    except Exception as error:  # HDF5 and Keras each have their own errors for a damaged file
        raise VoclabError(
            f"The interrupted training in {state} cannot be resumed ({_short(error)}); delete that folder, "
            "and it starts again."
        ) from error
    return history


@contextmanager
def _enough_memory(run: Run, recipe: Recipe) -> Iterator[None]:
    """Turn a lack of memory into a sentence with the remedy."""
    try:
        yield
    except Exception as error:
        if not out_of_memory(error):
            raise
        batch, size = recipe.batch_size, recipe.size
        remedy = f"batch size {batch // 2}" if batch > 1 else f"pictures of less than {size} pixels"
        raise VoclabError(
            f"Memory is too small to train run {run.folder} with batches of {batch} pictures of {size} × "
            f"{size} pixels; train with {remedy}, or a smaller model."
        ) from error


def _finite(figures: dict[str, float], monitor: str, run: Run) -> dict[str, float]:
    if not math.isfinite(figures.get(monitor, 0.0)):
        raise VoclabError(
            f"The validation {monitor} of run {run.folder} is {figures[monitor]}: either no validation image "
            "shows any class, then take more images, or the network diverged, then lower the learning rate."
        )
    return figures


def _seed_generators(model: keras.Model) -> list:
    found = []
    for layer in model._flatten_layers():
        for value in vars(layer).values():
            if isinstance(value, keras.random.SeedGenerator) and value not in found:
                found.append(value)
    return found


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
