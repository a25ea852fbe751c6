"""Several experiments, on CPUs some of them at the same time."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from voclab.backend import accelerated
from voclab.models.network import Network
from voclab.processes import Workers, cores
from voclab.terminal import say
from voclab.training.experiment import Experiment, Parts, is_current, run
from voclab.training.store import Run

_AT_ONCE = 4  # processes: each holds TensorFlow, a network and its images


def run_all(
    experiments: Iterable[Experiment],
    data: Parts,
    folder: Path,
    *,
    networks: Mapping[str, Network] | None = None,
    asked: Mapping[str, Mapping[str, Any]] | None = None,
    cache_mb: float = 1024,
    progress: Callable[[str], None] = say,
    processes: int | None = None,
) -> dict[str, Run]:
    """:func:`run` of several experiments; each is begun as soon as the one that it starts from is complete.

    A small network gains little from a second core (on two, a step takes 0.7 of the time on one). Where there
    is no GPU, experiments are therefore trained at the same time, each in a process with its share of the
    cores. A loss of your own is trained in this process: another one does not know its source.

    Args:
        experiments: what to train; a start that is not among them must be complete.
        data: as for :func:`run`, and so are those not named here.
        folder: parent folder of the runs.
        networks: those that the tasks name.
        asked: name -> what somebody typed to get that experiment, see :func:`run`.
        cache_mb: memory for decoded training images of all processes, MiB.
        progress: receives lines of text.
        processes: how many at the same time; without it one for a core, on more than two for two cores.

    Returns:
        Name -> complete run, in the order of the experiments.

    Raises:
        VoclabError: as :func:`run`; the others are stopped, and go on where they were when called again.
    """
    experiments, done = list(experiments), {}
    order = [experiment.name for experiment in experiments]
    # Those with the longest chain behind them first, so that none is left alone at the end.
    waiting = sorted(experiments, key=lambda experiment: -_followers(experiment, experiments))
    networks, asked = networks or {}, asked or {}

    def ready(experiment: Experiment) -> bool:
        return experiment.start not in order or experiment.start in done

    def here(experiment: Experiment) -> None:
        waiting.remove(experiment)
        typed = asked.get(experiment.name)
        how: dict[str, Any] = {"cache_mb": cache_mb, "progress": progress}
        done[experiment.name] = run(experiment, data, folder, networks=networks, asked=typed, **how)

    for experiment in [*waiting]:  # what is read back needs no process
        if ready(experiment) and is_current(experiment, data, folder, networks, asked.get(experiment.name)):
            here(experiment)
    apart = [experiment for experiment in waiting if not _own(experiment)]
    n = min(processes or _usual(), len(apart))
    if n > 1:
        given: dict[str, Any] = {"networks": {name: replace(network) for name, network in networks.items()}}
        progress(f"{n} networks are trained at the same time, each with its share of the cores.")
        with Workers(n, progress) as workers:
            while True:
                for experiment in [e for e in waiting if ready(e) and not _own(e)]:
                    if workers.free:
                        waiting.remove(experiment)
                        given |= {"asked": asked.get(experiment.name), "cache_mb": cache_mb / n}
                        workers.begin(experiment.name, run, experiment, data, folder, **given)
                if not workers.busy:
                    break
                name = workers.ended()
                done[name] = Run(folder / name)
    while waiting:
        here(next(experiment for experiment in waiting if ready(experiment)))
    return {name: done[name] for name in order}


def _followers(experiment: Experiment, among: Sequence[Experiment]) -> int:
    """How many must follow one another after an experiment."""
    next_ones = [other for other in among if other.start == experiment.name]
    return max((1 + _followers(other, among) for other in next_ones), default=0)


def _own(experiment: Experiment) -> bool:
    """Whether its loss is one that only this process knows."""
    return not isinstance(experiment.loss, str | None)


def _usual() -> int:
    if accelerated():
        return 1
    return cores() if cores() <= 2 else min(_AT_ONCE, cores() // 2)
