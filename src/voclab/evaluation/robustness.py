"""Several networks under all that may happen to an image: what the pages of ``voclab robustness`` show."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from voclab.attacks import Bench
from voclab.corruptions import CORRUPTIONS, SEVERITIES
from voclab.data.base import Dataset
from voclab.evaluation.conditions import CLEAN, corrupted_images, error, evaluate, score_of, standing
from voclab.evaluation.consistency import consistency, one_image, summary, typical_image
from voclab.metrics import Chance
from voclab.models.network import Network
from voclab.training import Run
from voclab.training.experiment import model_digest
from voclab.training.identity import digest, known_by

_FEW = 64  # images that attacks are measured on by default: PGD takes 40 times as long as an answer


@dataclass(frozen=True)
class Measured:
    """What :func:`measure` found of one network.

    Attributes:
        facts: model, data, task, size, seed and how many images each part was measured on.
        conditions: a row a perturbation or attack, see :class:`voclab.evaluation.conditions.Evaluation`.
        reliability: condition -> what a reliability diagram shows; empty for segmenters.
        errors: corruption -> error rates at severities 1 to 5.
        clean_error: the same without corruption.
        chance: what guessing scores on the same images.
        low: where the 95 % interval of the network's score on clean images begins.
        consistency: what :func:`voclab.evaluation.consistency.summary` gives; ``None`` for segmenters.
        one_image: what a single image could have said, see :func:`voclab.evaluation.consistency.one_image`.
        kept_by_image: share of the ten answers that each image keeps; ``None`` for segmenters.
        example: index of the image whose share of kept answers is nearest to the median image's; for
            segmenters that in the middle of the list.
    """

    facts: dict
    conditions: pd.DataFrame
    reliability: dict[str, dict[str, list[float]]]
    errors: dict[str, list[float]]
    clean_error: float
    chance: Chance
    low: float
    consistency: pd.DataFrame | None
    one_image: dict[str, float] | None
    kept_by_image: list[float] | None
    example: int

    @property
    def segmenter(self) -> bool:
        """Whether it gives a label to each pixel."""
        return self.facts["task"] == "segmentation"

    @property
    def above_chance(self) -> bool:
        """Whether it is clearly better than chance; only then it is compared with others."""
        return self.chance.beaten(self.low)

    @property
    def scores(self) -> pd.Series:
        """Accuracy of the top class, or mean Dice, under each condition."""
        return self.conditions[score_of(self.facts["task"])]


def measure(
    networks: Sequence[Network],
    dataset: Dataset,
    folder: str | Path,
    *,
    images: int = 0,
    attacked: int = _FEW,
    seed: int = 0,
    progress: Callable[[str], None] = lambda line: None,
) -> dict[str, Measured]:
    """Measure networks under perturbations, attacks and the fifteen corruptions, and how consistent they are.

    What is measured is kept in the run ``folder/measured/<name>``: the same call reads it back, and goes on
    where an earlier one was interrupted. What belongs to another network, other images, settings or code is
    measured anew, and the old run kept beside it.

    Args:
        networks: from :func:`voclab.evaluation.open_networks`; those that see images of one size see the
            same corrupted ones.
        dataset: images with truth.
        folder: of the report.
        images: at most so many images, spread evenly; 0 for all.
        attacked: at most so many of these for the attacks.
        seed: of what is random.
        progress: receives lines of text.
    """
    dataset = dataset.spread(images)
    few = dataset.spread(attacked)
    runs = {n.name: Run(Path(folder) / "measured" / n.name) for n in networks}
    facts = {n.name: _facts(n, dataset, few, seed) for n in networks}
    found: dict[str, Measured] = {}
    for size in dict.fromkeys(network.size for network in networks):
        group = [network for network in networks if network.size == size]
        bench, small = Bench(dataset, size), Bench(few, size)
        for network in group:
            run, name = runs[network.name], network.name
            run.begin(known_by(facts[name], measure, network.model), progress=progress)
            tell = partial(_tell, progress, name)
            conditions = run.once("conditions", partial(_conditions, network, bench, small, seed, tell))
            consistent = run.once("consistency", partial(_consistent, network, dataset, seed, tell))
            clean = run.once("clean", partial(_clean, network, bench))
            found[name] = _measured(facts[name], conditions, consistent, clean)
        for corruption, severity in product(CORRUPTIONS, SEVERITIES):
            corrupt = cache(partial(corrupted_images, bench, corruption, severity, seed))
            for network in group:
                rate = partial(
                    _error, network, bench, corrupt, f"{corruption}, severity {severity}", progress
                )
                errors = found[network.name].errors.setdefault(corruption, [])
                errors.append(runs[network.name].once(f"{corruption} {severity}", rate))
        for network in group:
            if not runs[network.name].complete:
                runs[network.name].finish({"clean_error": found[network.name].clean_error})
    return {network.name: found[network.name] for network in networks}


def _facts(network: Network, dataset: Dataset, few: Dataset, seed: int) -> dict:
    return {
        "model": network.weights,
        "weights": model_digest(network.model),
        "data": f"{dataset.name} {dataset.split}",
        "task": network.task,
        "size": network.size,
        "images": len(dataset),
        "attacked": len(few),
        "seed": seed,
        "digest": digest(dataset, masks=network.task == "segmentation"),
        "classes": list(dataset.class_names),
    }


def _clean(network: Network, bench: Bench) -> dict:
    chance, low = standing(network, bench)
    return {
        "error": error(network, bench),
        "chance": asdict(chance),
        "low": None if np.isnan(low) else low,  # of a segmenter on one image
    }


def _tell(progress: Callable[[str], None], name: str, line: str) -> None:
    progress(f"{name}: {line}")


def _conditions(network: Network, bench: Bench, small: Bench, seed: int, progress) -> dict:
    found = evaluate(network, bench, attacks={}, seed=seed, progress=progress)
    attacked = evaluate(network, small, {}, seed=seed, progress=progress)
    rows = [found.table.assign(images=len(bench)), attacked.table.drop(index=CLEAN).assign(images=len(small))]
    diagrams = found.reliability | {k: v for k, v in attacked.reliability.items() if k != CLEAN}
    return {"table": pd.concat(rows).to_dict("index"), "reliability": diagrams}


def _consistent(network: Network, dataset: Dataset, seed: int, progress) -> dict:
    if network.task == "segmentation":
        return {"table": None, "one_image": None, "kept_by_image": None, "example": len(dataset) // 2}
    result = consistency(network, dataset, seed=seed, progress=progress)
    return {
        "table": summary(result).to_dict("index"),
        "one_image": one_image(result),
        "kept_by_image": result.kept.mean(axis=1).tolist(),
        "example": typical_image([result]),
    }


def _error(network: Network, bench: Bench, images: Callable, what: str, progress) -> float:
    found = error(network, bench, images())
    progress(f"{network.name}: {what}")
    return found


def _measured(facts: dict, conditions: dict, consistent: dict, clean: dict) -> Measured:
    def table(rows, name):
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis(name)

    return Measured(
        facts,
        table(conditions["table"], "condition"),
        {
            condition: {key: np.array(values) for key, values in diagram.items()}
            for condition, diagram in conditions["reliability"].items()
        },
        {},
        clean["error"],
        Chance(**clean["chance"]),
        np.nan if clean["low"] is None else clean["low"],
        consistent["table"] and table(consistent["table"], "perturbation"),
        consistent["one_image"],
        consistent["kept_by_image"],
        consistent["example"],
    )
