"""What will be trained, as a table: made from the experiments themselves."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import pandas as pd

from voclab.training import Experiment, Run


def setting(name: str) -> str:
    """The name of a run without its seed: runs that differ in their seed alone are ``<name>-seed<k>``.

    A refit, ``<name>-all``, is a setting of its own.
    """
    chosen = name.removesuffix("-all")
    return chosen.split("-seed")[0] + name[len(chosen) :]


def by_setting(runs: Mapping[str, Run]) -> dict[str, list[Run]]:
    """Runs that differ in their seed alone, together under the name of the first."""
    grouped: dict[str, list[Run]] = {}
    for name, run in runs.items():
        grouped.setdefault(setting(name), []).append(run)
    return grouped


def repeated(experiments: Iterable[Experiment], seeds: int) -> list[Experiment]:
    """Each experiment with that many seeds, its own and those after it; a start is the one of that seed."""
    listed = list(experiments)
    known = {e.name for e in listed}
    for k in range(1, seeds):
        for e in listed[: len(known)]:
            start = f"{e.start}-seed{k}" if e.start in known else e.start
            seeded = replace(e.recipe, seed=e.recipe.seed + k)
            listed.append(replace(e, name=f"{e.name}-seed{k}", recipe=seeded, start=start))
    return listed


def runs_table(experiments: Iterable[Experiment]) -> pd.DataFrame:
    """What will be trained, one row a setting; runs that differ in their seed alone share a row.

    Args:
        experiments: as they will be run; the table says what they say.

    Returns:
        Columns architecture, loss, optimizer, learning rate, epochs, image size (pixels), batch size,
        augmentation, seeds and starts from; indexed by the name of the setting, ``run``.
    """
    grouped: dict[str, list[Experiment]] = {}
    for experiment in experiments:
        grouped.setdefault(setting(experiment.name), []).append(experiment)
    rows = {name: _row(members) for name, members in grouped.items()}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("run")


def _row(members: list[Experiment]) -> dict[str, str]:
    first, recipe = members[0], members[0].recipe
    steps = first.task.epochs(first)
    return {
        "architecture": architecture(first),
        "loss": first.task.loss_name(first),
        "optimizer": first.task.optimizer(first),
        "learning rate": f"{recipe.learning_rate:g}" if steps else "",
        "epochs": f"{recipe.epochs}" if steps else "",
        "image size": f"{recipe.size}",
        "batch size": f"{recipe.batch_size}" if steps else "",
        "augmentation": recipe.augmentation,
        "seeds": ", ".join(f"{e.recipe.seed}" for e in members),
        "starts from": setting(first.start) if first.start else "",
    }


def architecture(experiment: Experiment) -> str:
    """The network of an experiment in a few words: model, backbone, weights and options."""
    e = experiment
    words = [e.model if e.backbone in (None, e.model) else f"{e.model} on {e.backbone}"]
    if e.weights:
        words.append("frozen" if e.frozen else "pretrained")
    words += [f"{name} {value}" for name, value in e.options.items()]
    return ", ".join(words)


def recipe_line(experiments: Iterable[Experiment]) -> str:
    """The hyper-parameters of a table's runs in one sentence, for its caption."""
    table = runs_table(experiments)
    trained = table[table["epochs"] != ""]
    parts = [
        f"{', '.join(group.index)}: {size} px, {epochs} epochs at {rate}, batch {batch}, augmentation {how}"
        for (size, epochs, rate, batch, how), group in trained.groupby(
            ["image size", "epochs", "learning rate", "batch size", "augmentation"], sort=False
        )
    ]
    optimizers = ", ".join(dict.fromkeys(table["optimizer"]))
    return f"Hyper-parameters ({optimizers}): {'; '.join(parts)}." if parts else f"Fitted by {optimizers}."
