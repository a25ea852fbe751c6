"""An experiment of any kind: a network, how it is trained and where it starts; `run` and `refit` train it."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import keras
import numpy as np

from voclab.backend import by_chief, on_all_machines, several_machines, sum_over_machines
from voclab.data.base import Dataset
from voclab.data.batches import DecodedCache
from voclab.errors import VoclabError
from voclab.models.classifiers import count_parameters
from voclab.models.network import Network
from voclab.terminal import say
from voclab.training.identity import ASKED, changes, data_digest, known_by, listed, plain, weights_digest
from voclab.training.loop import Recipe, train
from voclab.training.store import Run, own_folder


@dataclass(frozen=True)
class Parts:
    """The parts of a data set: images to fit on, to make every choice on, and to measure on at the end."""

    fit: Dataset
    validation: Dataset
    test: Dataset


@dataclass(frozen=True)
class Experiment:
    """One network and how it is trained.

    Attributes:
        name: folder of the run.
        task: what it is trained for, with the settings that only such networks have, e.g.
            :class:`voclab.training.classification.Classification`.
        model: the architecture, a name that the task knows.
        recipe: size, augmentation, epochs and so on.
        loss: a name that the task knows, or a loss of your own; ``None`` for its usual one.
        backbone: key of ``BACKBONES`` for a model that is built on one.
        weights: of the backbone: ``None`` (random), ``"imagenet"`` or a weights file.
        frozen: whether the backbone keeps its weights.
        start: name of the run whose weights this one starts from.
        options: further arguments of the model's builder.
    """

    name: str
    task: Any  # a Task: Any, because each kind has settings of its own
    model: str
    recipe: Recipe
    loss: Any = None
    backbone: str | None = None
    weights: str | None = None
    frozen: bool = False
    start: str | None = None
    options: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Work:
    """A training under way: what a :class:`Task` may look at.

    Attributes:
        experiment: what was asked for.
        data: all parts; :attr:`training` is what is trained on.
        run: its folder, begun.
        start: the complete run that it starts from.
        chosen: for a refit, the run whose choices are repeated on all training images.
        networks: networks that the task names, see :func:`run`.
        cache_mb: memory for decoded training images.
        progress: receives lines of text.
        tensorboard: whether the curves are written for TensorBoard too, below the run's folder.
    """

    experiment: Experiment
    data: Parts
    run: Run
    start: Run | None = None
    chosen: Run | None = None
    networks: Mapping[str, Network] = field(default_factory=dict)
    cache_mb: float = 1024
    progress: Callable[[str], None] = say
    tensorboard: bool = False

    @property
    def training(self) -> Dataset:
        """The images to train on: in a refit those of validation too."""
        return self.data.fit if self.chosen is None else self.data.fit.joined(self.data.validation)

    @property
    def measured(self) -> dict[str, Dataset]:
        """Name -> the parts that the finished network is measured on."""
        parts = self.experiment.task.parts if self.chosen is None else ("test",)
        return {part: getattr(self.data, part) for part in parts}


class Task:
    """The steps of :func:`run` that differ between kinds of networks, each a frozen dataclass of settings.

    Attributes:
        parts: names of the parts that are measured at the end.
        shrink: decoded training images are kept at this many times the training size; ``None`` as they are.
        usual_loss: what people call the loss of an experiment that names none.
        target: what it learns from, see ``voclab.data.batches.batch_maker``; masks if :meth:`masks` says so.
    """

    parts: ClassVar[tuple[str, ...]] = ("validation", "test")
    shrink: ClassVar[int | None] = None
    usual_loss: ClassVar[str] = ""
    target: ClassVar[str] = "labels"

    def require(self, experiment: Experiment, data: Parts, networks: Mapping[str, Network]) -> None:
        """Refuse with one sentence what cannot be trained, before anything is begun."""

    def of(self, data: Parts) -> str:
        """What the run's configuration calls the task."""
        return data.fit.task

    def needs(self, experiment: Experiment) -> tuple[str, ...]:
        """Names of the networks that take part beside the one that is trained."""
        return ()

    def masks(self, networks: Mapping[str, Network]) -> bool:
        """Whether it learns from label maps; else from labels."""
        return False

    def files(self, parts: Iterable[str]) -> tuple[str, ...]:
        """What a complete run that measured these parts holds beside its texts."""
        return ("history.json", "model.keras", "predictions.npz")

    def monitor(self, work: Work) -> str:
        """Which figure of :meth:`scorer` chooses the epoch."""
        raise NotImplementedError

    def build(self, work: Work) -> keras.Model:
        """The model before its first epoch, seeded, with the weights of its start."""
        raise NotImplementedError

    def loss(self, work: Work) -> keras.losses.Loss | dict[str, keras.losses.Loss]:
        """From logits to the loss."""
        raise NotImplementedError

    def scorer(self, work: Work) -> Callable[[keras.Model], dict[str, float]]:
        """What is computed on validation images after each epoch."""
        raise NotImplementedError

    def trained(self, work: Work, model: keras.Model) -> keras.Model:
        """The model as ``fit`` sees it, sharing the layers of the one that is kept."""
        return model

    def fit(self, work: Work) -> tuple[keras.Model, dict]:
        """Train in epochs; returns the model and further metrics."""
        model, recipe, chosen = self.build(work), work.experiment.recipe, work.chosen
        monitor, training = self.monitor(work), work.training
        trained = self.trained(work, model)
        train(
            trained,
            training,
            loss=self.loss(work),
            recipe=recipe,
            run=work.run,
            score=self.scorer(work) if chosen is None else None,
            monitor=monitor,
            stop_after=max(chosen.history, key=lambda e: e[monitor])["epoch"] if chosen else None,
            target="masks" if self.masks(work.networks) else self.target,
            cache=DecodedCache(training, work.cache_mb, self.shrink and self.shrink * recipe.size),
            progress=work.progress,
            tensorboard=work.tensorboard,
        )
        if trained is not model:
            work.run.save_model(model)
        return model, {}

    def measure(self, work: Work, model: keras.Model) -> dict:
        """Keep what the model predicts, and return the figures of each part, ``None`` without truth."""
        raise NotImplementedError

    def optimizer(self, experiment: Experiment) -> str:
        """What people call the optimizer."""
        return {"adam": "AdamW", "sgd": "SGD"}[experiment.recipe.optimizer]

    def epochs(self, experiment: Experiment) -> int:
        """The longest training in epochs; 0 for one that has none."""
        return experiment.recipe.epochs

    def loss_name(self, experiment: Experiment) -> str:
        """What people call the loss."""
        loss = experiment.loss
        if loss is None:
            return self.usual_loss
        return loss if isinstance(loss, str) else getattr(loss, "__name__", type(loss).__name__)

    def told(self, figures: Mapping[str, Any]) -> str:
        """The main figure of a part, for people."""
        raise NotImplementedError


def run(
    experiment: Experiment,
    data: Parts,
    folder: Path,
    *,
    networks: Mapping[str, Network] | None = None,
    asked: Mapping[str, Any] | None = None,
    cache_mb: float = 1024,
    progress: Callable[[str], None] = say,
    tensorboard: bool = False,
) -> Run:
    """Train an experiment with every choice made on validation images, then measure it; all in ``folder``.

    A complete run of the same configuration is returned as it is; an interrupted one goes on.

    Args:
        experiment: what to train.
        data: to train, choose and measure on. Parts without truth are only predicted.
        folder: parent folder of the runs.
        networks: those that the task names, e.g. whom an adversary attacks.
        asked: what somebody typed to get this experiment; the run keeps it, so that it can be repeated.
        cache_mb: memory for decoded training images, MiB.
        progress: receives lines of text.
        tensorboard: write the curves for TensorBoard too, into ``logs`` of the run; makes no other run.

    Returns:
        The complete :class:`Run`. Its metrics have the figures of each part, ``seconds`` with those of the
        runs that it starts from, ``parameters`` and ``trained_parameters``.

    Raises:
        VoclabError: data that cannot teach the task, or a start that is not complete.
    """
    networks = networks or {}
    experiment.task.require(experiment, data, networks)
    config, start = _identity(experiment, data, folder, networks, asked)
    kept, how = Run(folder / experiment.name), (networks, cache_mb, progress, tensorboard)
    return _carried_out(Work(experiment, data, kept, start, None, *how), config)


def is_current(
    experiment: Experiment,
    data: Parts,
    folder: Path,
    networks: Mapping[str, Network] | None = None,
    asked: Mapping[str, Any] | None = None,
) -> bool:
    """Whether :func:`run` would return the run that is there, without training anything."""
    kept = Run(folder / experiment.name)
    if not kept.complete:
        return False
    networks = networks or {}
    config, start = _identity(experiment, data, folder, networks, asked)
    work = Work(experiment, data, kept, start, None, networks)
    return kept.holds(config, *_expected(work))


def _identity(
    experiment: Experiment,
    data: Parts,
    folder: Path,
    networks: Mapping[str, Network],
    asked: Mapping[str, Any] | None,
) -> tuple[dict, Run | None]:
    """The configuration that a run is known by, and the run that it starts from."""
    task = experiment.task
    needed = {name: networks[name].model for name in task.needs(experiment)}
    parts = [data.fit, *(getattr(data, part) for part in task.parts)]
    config = {
        "experiment": replace(experiment, weights=experiment.weights and Path(experiment.weights).name),
        "task": task.of(data),
        "class_names": data.fit.class_names,
        "weights": weights_digest(experiment.weights),
        "data": data_digest(*parts, masks=task.masks(networks)),
    }
    if asked:
        config[ASKED] = asked
    if needed:
        config["networks"] = {name: model_digest(model) for name, model in needed.items()}
    start = None
    if experiment.start:
        start = Run(folder / experiment.start)
        if not start.complete:
            raise VoclabError(f"{start.folder} is not complete; run the experiment {start.name!r} first.")
        config["start"] = start.config
    return known_by(config, run, type(task), *needed.values()), start


def refit(
    experiment: Experiment,
    known: Mapping[str, Experiment],
    data: Parts,
    folder: Path,
    *,
    cache_mb: float = 1024,
    progress: Callable[[str], None] = say,
) -> Run:
    """Train the chosen experiment once more, on fit and validation images together.

    Number of epochs, penalty and thresholds are those that its complete run chose; nothing is chosen here,
    and nothing is left to measure on but the test images.

    Args:
        experiment: the chosen one; its run, and that of its ``start``, are complete.
        known: experiments by name, to find ``start``.
        data: that the run was trained, chosen and measured on.
        folder: parent folder of the runs.
        cache_mb: memory for decoded training images, MiB.
        progress: receives lines of text.

    Returns:
        The run ``<name>-all``, measured on ``test`` alone.
    """
    chosen, again = Run(folder / experiment.name), Run(folder / f"{experiment.name}-all")
    config = known_by({"refit": chosen.config}, refit, type(experiment.task))
    work = Work(experiment, data, again, None, chosen, {}, cache_mb, progress)
    how: dict[str, Any] = {"cache_mb": cache_mb, "progress": progress}
    first = partial(refit, known[experiment.start], known, data, folder, **how) if experiment.start else None
    return _carried_out(work, config, first)


def run_chain(name: str, known: Mapping[str, Experiment], data: Parts, folder: Path, **options) -> Run:
    """The run of that name, read back or trained, after those that it starts from; options as for `run`."""
    if known[name].start:
        run_chain(known[name].start, known, data, folder, **options)
    return run(known[name], data, folder, **options)


def _carried_out(work: Work, config: dict, first: Callable[[], Run] | None = None) -> Run:
    """Begin, train, measure, finish; ``first`` gives the start, where it is trained only now."""
    task, kept = work.experiment.task, work.run
    files, figures = _expected(work)
    _require_same(config)
    if by_chief(lambda: kept.begin(config, files=files, figures=figures, progress=work.progress)):
        return kept
    if first:
        work = replace(work, start=first())
    with own_folder(kept) as own, on_all_machines():
        here = replace(work, run=own, progress=work.progress if own is kept else lambda line: None)
        model, more = task.fit(here)
    by_chief(lambda: _completed(work, kept.load_model() if several_machines() else model, more))
    return kept


def _require_same(config: dict) -> None:
    """Refuse machines that would train different networks together, with one sentence on each."""
    if not several_machines():
        return
    found = changes(by_chief(lambda: plain(config)), plain(config))
    if sum_over_machines(np.array([len(found)], np.float32)).any():
        why = f": here {listed(found)}" if found else ""
        raise VoclabError(
            "The machines of TF_CONFIG were not asked for the same training"
            f"{why}; give each the same command, data and version."
        )


def _completed(work: Work, model: keras.Model, more: Mapping[str, Any]) -> None:
    """Measure the trained network and finish its run."""
    task, kept = work.experiment.task, work.run
    found = task.measure(work, model)
    seconds = sum(entry.get("seconds", 0.0) for entry in kept.history)
    parameters = count_parameters(model)
    kept.finish(
        {
            **found,
            "seconds": round(seconds + (work.start.metrics["seconds"] if work.start else 0.0), 1),
            "parameters": parameters["total"],
            "trained_parameters": parameters["trainable"],
            **more,
        }
    )
    part = next((part for part in work.measured if found.get(part)), None)
    told = f"{part} {task.told(found[part])}, " if part else ""
    work.progress(f"{kept.name}: {told}trained in {seconds:.0f} s")


def _expected(work: Work) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Files and figures that the complete run has."""
    measured = work.measured
    return work.experiment.task.files(measured), (*measured, "seconds", "parameters", "trained_parameters")


def model_digest(model: keras.Model) -> str:
    """What identifies a network: its weights."""
    state = hashlib.sha256()
    for weight in model.get_weights():
        state.update(np.ascontiguousarray(weight).tobytes())
    return state.hexdigest()[:16]
