"""One recipe for every training: warm-up and cosine, early stopping, best weights, resume after a kill."""

import math
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import keras
import numpy as np

from voclab.backend import (
    by_chief,
    out_of_memory,
    replicas,
    several_machines,
    shared_batches,
    train_as_one,
)
from voclab.data.base import Dataset
from voclab.data.batches import DecodedCache, steps_per_epoch, training_batches
from voclab.errors import VoclabError, first_line
from voclab.files import atomic_path, make_folder, read_json, write_json
from voclab.terminal import say
from voclab.training.store import LOGS, Run

_STATISTICS = 8  # batches that batch norm's statistics of averaged weights are taken from
_READERS_END = 1.0  # seconds in which an image that is being read is


@dataclass(frozen=True)
class Recipe:
    """How a network is trained. What makes one training differ from another is in the run's ``config.json``.

    Attributes:
        size: side of the square training images, pixels.
        augmentation: augmentation policy, see ``voclab.data.batches.augmentation``.
        epochs: the longest training; 0 only evaluates the start.
        learning_rate: peak learning rate.
        batch_size: images a step.
        weight_decay: on kernels only and apart from the gradient, times the learning rate (Loshchilov &
            Hutter 2019), for both optimizers. An L2 penalty goes through the momentum instead: to decay as
            much as a published SGD with 5e-4 and momentum 0.9, take 5e-3.
        warmup: epochs of linear warm-up from 0 to ``learning_rate``; cosine to 0 follows.
        patience: epochs without a better validation score before training stops.
        seed: fixes order, augmentation and dropout.
        optimizer: ``"adam"`` (AdamW) or ``"sgd"``, see :func:`make_optimizer`.
        momentum: of SGD.
        smoothing: label smoothing from 0 to 1, see ``voclab.data.batches.smoothed``. For labels only.
        mixup: alpha of mixup, see ``voclab.data.batches.training_batches``; 0 mixes nothing. For labels only.
        average: momentum of an exponential moving average of the weights, updated every step (Polyak &
            Juditsky 1992); the average is scored after each epoch and kept. 0: the weights themselves are.
    """

    size: int
    augmentation: str
    epochs: int
    learning_rate: float
    batch_size: int = 16
    weight_decay: float = 1e-4
    warmup: float = 1.0
    patience: int = 10
    seed: int = 0
    optimizer: str = "adam"
    momentum: float = 0.9
    smoothing: float = 0.0
    mixup: float = 0.0
    average: float = 0.0


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
    progress: Callable[[str], None] = say,
    tensorboard: bool = False,
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
        target: ``"labels"``, ``"masks"`` or ``"views"``.
        cache: decoded images of ``fit_set``.
        progress: receives one line an epoch.
        tensorboard: whether Keras also writes loss, learning rate and validation figures for TensorBoard,
            into ``logs`` of the run. A resumed training adds to them.

    Raises:
        VoclabError: the loss is not finite, memory is too small for the batch, or the state of an
            interrupted training is damaged. The best weights so far stay in the run.
    """
    if score is None:
        score, monitor = (lambda model: {}), "epoch"
    shown = min(recipe.batch_size, len(fit_set))
    if several_machines() and shown % replicas():
        raise VoclabError(
            f"{shown} images a step cannot be shared evenly by {replicas()} devices; name another batch size."
        )
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
            history = [{"epoch": 0, **_finite(_agreed(score(model)), monitor, run)}]
        run.save_model(model)
        _keep(run, model, history)
    best = max(range(len(history)), key=lambda k: history[k][monitor])
    failures: list[VoclabError] = []
    stream = partial(
        training_batches,
        fit_set,
        size=recipe.size,
        augmentation=recipe.augmentation,
        batch_size=recipe.batch_size,
        seed=recipe.seed,
        epochs=epochs,
        target=target,
        cache=cache,
        smoothing=recipe.smoothing,
        mixup=recipe.mixup,
        failures=failures,
    )
    keeper = _Keeper(run, history, best, monitor, score, recipe, epochs, progress, stream)
    done = len(history) - 1
    if done < epochs and done - best < recipe.patience:

        def batches(part):
            found = stream(start_epoch=done, part=part)
            if not isinstance(loss, dict):
                return found
            return found.map(lambda x, y: (x, {name: y for name in loss}), num_parallel_calls=1)

        boards = [keras.callbacks.TensorBoard(run.folder / LOGS, write_graph=False)] if tensorboard else []
        try:
            with _enough_memory(run, recipe):
                model.fit(
                    shared_batches(batches),
                    initial_epoch=done,
                    epochs=epochs,
                    steps_per_epoch=steps,
                    callbacks=[keeper, *boards],
                    shuffle=False,
                    verbose=0,
                )
        except BaseException:
            wrong = failures[:1]  # tf.data hides what a reader raised behind an error of its own
            # Freed with Python's lock held, the iterator waits for its readers, and for one that waits for
            # the lock it does so for ever. So let them end first, each at its next image.
            failures.append(VoclabError("The training has ended."))
            time.sleep(_READERS_END)
            if wrong:
                raise wrong[0] from None
            raise
    write_json(run.folder / "history.json", history)
    best_model = run.load_model()
    model.set_weights(best_model.get_weights())
    return model


def make_optimizer(recipe: Recipe, steps: int) -> keras.optimizers.Optimizer:
    """AdamW or SGD with linear warm-up and cosine decay to zero over ``recipe.epochs``.

    SGD keeps a velocity v, which becomes momentum × v - learning rate × gradient and is added to the weights.
    The gradient of each weight tensor is cut to norm 5 for both.
    """
    warmup = min(round(recipe.warmup * steps), max(1, recipe.epochs * steps // 2))
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0,
        decay_steps=max(1, recipe.epochs * steps - warmup),
        warmup_target=recipe.learning_rate,
        warmup_steps=warmup,
    )
    options = {"weight_decay": recipe.weight_decay, "clipnorm": 5.0 / replicas()}  # see train_as_one
    if recipe.average:
        options |= {"use_ema": True, "ema_momentum": recipe.average}
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

    def __init__(self, run, history, best, monitor, score, recipe, epochs, progress, stream):
        super().__init__()
        self.kept, self.history, self.best, self.monitor = run, history, best, monitor
        self.score, self.recipe, self.epochs, self.report = score, recipe, epochs, progress
        self.stream = stream

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
                f"{self.kept.folder}; lower the learning rate (now at most {self.recipe.learning_rate:g}). "
                "The best weights so far are kept in model.keras."
            )

    def on_epoch_end(self, epoch, logs=None):
        entry = {"epoch": epoch + 1, "loss": float(logs["loss"])}
        entry |= {name: float(value) for name, value in logs.items() if name.endswith("_loss")}
        with self._averaged(epoch):
            figures = _finite(_agreed(self.score(self.model)), self.monitor, self.kept)
            entry |= figures
            entry["seconds"] = round(time.perf_counter() - self.started, 2)
            self.history.append(entry)
            if entry[self.monitor] > self.history[self.best][self.monitor]:
                self.best = len(self.history) - 1
                self.kept.save_model(self.model)
        # Callbacks that follow see the validation figures under the names that Keras gives them.
        logs.update({f"val_{name.removeprefix('validation_')}": value for name, value in figures.items()})
        _keep(self.kept, self.model, self.history)
        timed = [e["seconds"] for e in self.history if "seconds" in e]
        left = np.median(timed) * (self.epochs - epoch - 1)
        if self.monitor in figures:
            best = self.history[self.best][self.monitor]
            said = f"validation {self.monitor} {entry[self.monitor]:.3f} (best {best:.3f})  "
        else:  # the last epoch is kept, whatever its figures
            said = "".join(f"validation {name} {value:.3f}  " for name, value in figures.items())
        self.report(
            f"{self.kept.name}: epoch {epoch + 1}/{self.epochs}  loss {entry['loss']:.3f}  {said}"
            f"{entry['seconds']:.0f} s, at most {left / 60:.1f} min left"
        )
        if len(self.history) - 1 - self.best >= self.recipe.patience:
            self.model.stop_training = True

    @contextmanager
    def _averaged(self, epoch: int) -> Iterator[None]:
        """The model with the average of its weights, where the recipe has one; afterwards as it was."""
        if not self.recipe.average:
            yield
            return
        current = self.model.get_weights()
        self.model.optimizer.finalize_variable_values(self.model.trainable_variables)
        fit_batch_norm(self.model, self.stream(start_epoch=epoch).take(_STATISTICS))
        yield
        self.model.set_weights(current)


def fit_batch_norm(model: keras.Model, batches: Iterable) -> None:
    """Replace the moving statistics of batch norm by their means over some batches (Izmailov et al. 2018).

    The moving ones belong to the latest weights: with momentum 0.9 they remember about ten steps.

    Args:
        model: a model whose ``seen(images, truth)``, if it has one, gives what it is trained on.
        batches: of (images, truth).
    """
    norms = [e for e in model._flatten_layers() if isinstance(e, keras.layers.BatchNormalization)]
    found = [layer for layer in norms if layer.trainable]  # others keep what they were pretrained with
    momenta = [layer.momentum for layer in found]
    for k, (images, truth) in enumerate(batches if found else ()):
        images = model.seen(images, truth) if hasattr(model, "seen") else images
        for layer in found:
            layer.momentum = k / (k + 1)
        model(images, training=True)
    for layer, momentum in zip(found, momenta):
        layer.momentum = momentum


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
            f"The interrupted training in {state} cannot be resumed ({first_line(error)}); delete that "
            "folder, and it starts again."
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
        remedy = f"batch size {batch // 2}" if batch > 1 else f"images of less than {size} pixels"
        raise VoclabError(
            f"Memory is too small to train run {run.folder} with batches of {batch} images of {size} × "
            f"{size} pixels; train with {remedy}, or a smaller model."
        ) from error


def _finite(figures: dict[str, float], monitor: str, run: Run) -> dict[str, float]:
    if not math.isfinite(figures.get(monitor, 0.0)):
        raise VoclabError(
            f"The validation {monitor} of run {run.folder} is {figures[monitor]}: either no validation image "
            "shows any class, then take more images, or the network diverged, then lower the learning rate."
        )
    return figures


def _agreed(figures: dict[str, float]) -> dict[str, float]:
    """The chief's figures: machines that differ in the last digit must not choose different epochs."""
    return by_chief(lambda: figures)


def _seed_generators(model: keras.Model) -> list:
    found = []
    for layer in model._flatten_layers():
        for value in vars(layer).values():
            if isinstance(value, keras.random.SeedGenerator) and value not in found:
                found.append(value)
    return found
