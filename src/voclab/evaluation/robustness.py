"""Several networks under all that may happen to an image: what the pages of ``voclab robustness`` show."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from voclab.attacks import Bench, Network
from voclab.config import Profile
from voclab.corruptions import CONSISTENCY, CORRUPTIONS, SEVERITIES, corrupted, perturbed
from voclab.data.base import Dataset
from voclab.data.images import eight_bit
from voclab.errors import first_line
from voclab.evaluation import measure as evaluation
from voclab.evaluation import study as consistency
from voclab.evaluation.consistency import one_image, summary
from voclab.experiments import classification, segmentation
from voclab.files import free_name, make_folder, read_json, write_json
from voclab.models.pretrained import Weights
from voclab.models.saved import model_files
from voclab.terminal import say
from voclab.training import Parts, Run
from voclab.training.experiment import run_chain
from voclab.training.identity import (
    MADE_WITH,
    changes,
    digest,
    known_by,
    listed,
    made_elsewhere,
    weights_digest,
)

_FEW = 64  # images that attacks are measured on by default: PGD takes 40 times as long as an answer


@dataclass(frozen=True)
class Subject:
    """A network under test.

    Attributes:
        name: of its run.
        path: of its ``.keras`` file.
        victim: the network with its task.
        size: side of the images that it sees, pixels.
    """

    name: str
    path: Path
    victim: Network
    size: int

    @property
    def score(self) -> str:
        """The column of a table of conditions that says how good its answers are."""
        return "dice" if self.victim.task == "segmentation" else "accuracy"


@dataclass(frozen=True)
class Measured:
    """What :func:`measure` found of one network.

    Attributes:
        facts: model, data, task, size, seed and how many images each part was measured on.
        conditions: a row a perturbation or attack, see :class:`voclab.evaluation.measure.Evaluation`.
        reliability: condition -> what a reliability diagram shows; empty for segmenters.
        errors: corruption -> error rates at severities 1 to 5.
        clean_error: the same without corruption.
        consistency: what :func:`voclab.corruptions.summary` gives; ``None`` for segmenters.
        one_image: what a single image could have said, see :func:`voclab.corruptions.one_image`.
        kept_by_image: share of the ten answers that each image keeps; ``None`` for segmenters.
        example: index of the image whose share of kept answers is nearest to the median image's; for
            segmenters that in the middle of the list.
    """

    facts: dict
    conditions: pd.DataFrame
    reliability: dict[str, dict[str, list[float]]]
    errors: dict[str, list[float]]
    clean_error: float
    consistency: pd.DataFrame | None
    one_image: dict[str, float] | None
    kept_by_image: list[float] | None
    example: int

    @property
    def segmenter(self) -> bool:
        """Whether it gives a label to each pixel."""
        return self.facts["task"] == "segmentation"

    @property
    def scores(self) -> pd.Series:
        """Accuracy of the top class, or mean Dice, under each condition."""
        return self.conditions["dice" if self.segmenter else "accuracy"]


def subjects(
    models: Sequence[str | Path],
    dataset: Dataset,
    size: int | None = None,
    progress: Callable[[str], None] | None = None,
) -> list[Subject]:
    """Load networks; of two runs of the same name the folder above is added to the names.

    Args:
        models: folders of runs or ``.keras`` files.
        dataset: images with truth.
        size: side of the images, pixels; without it each network's own.
        progress: receives what :func:`voclab.evaluation.measure.matched` says.

    Raises:
        VoclabError: one named twice, and what :func:`voclab.evaluation.measure.opened` raises.
    """
    found = []
    for name, file in model_files(models).items():
        path, network, side = evaluation.opened(file, dataset, size, progress)
        maps = len(network.output_shape) == 4
        victim = Network(network, "segmentation" if maps else dataset.task, name)
        found.append(Subject(name, path, victim, side))
    return found


def trained(
    profile: Profile,
    weights: Weights,
    seed: int,
    data: Parts,
    folder: Path,
    *,
    progress: Callable[[str], None] = say,
) -> dict[str, list[Run]]:
    """The networks of notebooks 01 and 02 that notebook 04 measures; what is missing is trained now.

    Args:
        profile: names them.
        weights: that they are pretrained on.
        seed: of their training.
        data: that they are trained, chosen and measured on.
        folder: of the runs.
        progress: receives lines of text.

    Returns:
        ``"classifiers"`` and, where there are masks, ``"segmenters"``: complete runs, the baseline first.
    """
    options = {"cache_mb": profile.cache_mb, "progress": progress}
    kinds = [("classifiers", classification, profile.robustness.classifiers)]
    if data.fit.has_masks:
        kinds.append(("segmenters", segmentation, profile.robustness.segmenters))
    found = {}
    for kind, study, names in kinds:
        known = {e.name: e for e in study.experiments(profile, weights, seed)}
        found[kind] = [run_chain(name, known, data, folder, **options) for name in names]
    return found


def measure(
    tested: Sequence[Subject],
    dataset: Dataset,
    folder: str | Path,
    *,
    images: int = 0,
    attacked: int = _FEW,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Measured]:
    """Measure networks under perturbations, attacks and the fifteen corruptions, and how consistent they are.

    What is measured is kept in ``folder/<name>/measured.json``; the same call reads it back, and goes on
    where an earlier one was interrupted. Figures of another network, of other images, settings or code are
    measured anew, and the old ones kept in ``measured.old.json``.

    Args:
        tested: the networks; those that see images of one size see the same corrupted ones.
        dataset: images with truth.
        folder: of the report.
        images: at most so many images, spread evenly; 0 for all.
        attacked: at most so many of these for the attacks.
        seed: of what is random.
        progress: receives lines of text.
    """
    kept_images = dataset.spread(images)
    few = kept_images.spread(attacked)
    tell = progress or (lambda line: None)
    kept = {}
    for subject in tested:
        facts = {"model": subject.path.as_posix(), "weights": weights_digest(str(subject.path))}
        facts |= {
            "data": f"{kept_images.name} {kept_images.split}",
            "task": subject.victim.task,
            "size": subject.size,
        }
        masks = subject.victim.task == "segmentation"
        facts |= {
            "images": len(kept_images),
            "attacked": len(few),
            "seed": seed,
            "digest": digest(kept_images, masks),
        }
        facts |= {"classes": list(kept_images.class_names)}
        known = known_by(facts, *_MEASURE, subject.victim.model)
        kept[subject.name] = _Kept(Path(folder) / subject.name / "measured.json", known, tell)
    for size in dict.fromkeys(subject.size for subject in tested):
        group = [subject for subject in tested if subject.size == size]
        if not all(kept[subject.name].has(*_PARTS) for subject in group):
            bench, small = Bench(kept_images, size), Bench(few, size)
            for subject in group:
                _conditions(subject, bench, small, seed, kept[subject.name], tell)
                _consistent(subject, kept_images, seed, kept[subject.name], tell)
            _corruptions(group, bench, seed, kept, tell)
    return {subject.name: _read(kept[subject.name].found) for subject in tested}


class _Kept:
    """Results in a file; those of other networks, images, settings or code do not count.

    Args:
        path: of the file.
        known: what the results are known by, see :func:`voclab.training.identity.known_by`; what was asked
            for becomes their ``facts``.
        tell: receives a sentence.
    """

    def __init__(self, path: Path, known: dict, tell: Callable[[str], None]):
        self.path, self._old = path, None
        facts = {key: value for key, value in known.items() if key not in ("format", "code", MADE_WITH)}
        self.found = {"facts": facts, **{key: known[key] for key in known if key not in facts}}
        if not path.is_file():
            return
        try:
            found = read_json(path, dict)
            before = {
                **dict(found["facts"]),
                **{k: found[k] for k in ("format", "code", MADE_WITH) if k in found},
            }
            reasons = changes(before, known)
            if not reasons and self._has(found, *_PARTS):
                _read(found)  # whole, then
        except Exception as error:  # text of another kind can fail anywhere
            reasons = [f"{path} is damaged ({first_line(error)})"]
        name = path.parent.name
        if not reasons:
            self.found = found
            why = "network, images, settings and code are the same"
            tell(f"{name}: measurements read from {path}: {why}{made_elsewhere(before, known)}.")
        else:
            self._old = free_name(path.with_name("measured.old.json"))
            tell(f"{name}: measured anew, since {listed(reasons)}; the old figures are kept in {self._old}.")

    @staticmethod
    def _has(found: dict, *parts: str) -> bool:
        return all(part in found for part in parts)

    def has(self, *parts: str) -> bool:
        return self._has(self.found, *parts)

    def add(self, **parts) -> None:
        self.found |= parts
        if self._old:  # only now that there is something to put in its place
            self.path.rename(self._old)
            self._old = None
        make_folder(self.path.parent)
        write_json(self.path, self.found)


def _conditions(subject, bench, small, seed, kept, tell) -> None:
    if kept.has("conditions"):
        return

    def told(line):
        tell(f"{subject.name}: {line}")

    found = evaluation.evaluate(subject.victim, bench, attacks={}, seed=seed, progress=told)
    attacks = evaluation.attacks_at()
    after = evaluation.evaluate(subject.victim, small, {}, attacks, seed, progress=told)
    rows = pd.concat(
        [
            found.table.assign(images=len(bench)),
            after.table.drop(index=evaluation.CLEAN).assign(images=len(small)),
        ]
    )
    diagrams = found.reliability | {k: v for k, v in after.reliability.items() if k != evaluation.CLEAN}
    kept.add(conditions=_rows(rows), reliability={k: _lists(v) for k, v in diagrams.items()})


def _consistent(subject, images, seed, kept, tell) -> None:
    if kept.has("consistency"):
        return
    if subject.victim.task == "segmentation":
        kept.add(consistency=None, one_image=None, kept_by_image=None, example=typical_image(images))
        return
    network = consistency.opened(str(subject.path), images)
    result = consistency.study([network], images, seed, tell).results[network.name]
    shares = result.kept.mean(axis=1)
    example = int(np.abs(shares - np.median(shares)).argmin())
    found = {"one_image": one_image(result), "kept_by_image": shares.tolist(), "example": example}
    kept.add(consistency=_rows(summary(result)), **found)


def _corruptions(group, bench, seed, kept, tell) -> None:
    missing = [s for s in group if not kept[s.name].has("clean_error")]
    for number, name in enumerate(CORRUPTIONS, start=1):
        left = [s for s in missing if name not in kept[s.name].found.get("errors", {})]
        rates: dict[str, list[float]] = {s.name: [] for s in left}
        for severity in SEVERITIES if left else ():
            images = [corrupted(x, name, severity, (seed, k)) for k, x in enumerate(bench.images)]
            for s in left:
                rates[s.name].append(evaluation.error(s.victim, bench, np.stack(images)))
            tell(f"{number}/{len(CORRUPTIONS)} {name}, severity {severity}")
        for s in left:
            kept[s.name].add(errors=kept[s.name].found.get("errors", {}) | {name: rates[s.name]})
    for s in missing:
        kept[s.name].add(clean_error=evaluation.error(s.victim, bench, bench.images))


_PARTS = ("conditions", "clean_error", "consistency")  # of what is measured, all others come with them
_MEASURE = (_conditions, _consistent, _corruptions)


def _rows(table: pd.DataFrame) -> dict[str, dict]:
    """A table as plain values: JSON has no NaN."""
    return {
        str(k): {c: None if pd.isna(v) else v for c, v in row.items()}
        for k, row in table.astype(object).iterrows()
    }


def _lists(diagram: Mapping[str, np.ndarray]) -> dict[str, list]:
    return {k: [None if np.isnan(v) else float(v) for v in np.asarray(x, float)] for k, x in diagram.items()}


def _read(found: dict) -> Measured:
    def table(rows, name):
        return (
            None
            if rows is None
            else pd.DataFrame.from_dict(rows, orient="index").astype(float).rename_axis(name)
        )

    conditions = table(found["conditions"], "condition")
    return Measured(
        found["facts"],
        conditions.astype({"images": int}),
        {
            k: {c: np.array(v, float) for c, v in diagram.items()}
            for k, diagram in found["reliability"].items()
        },
        found["errors"],
        found["clean_error"],
        table(found["consistency"], "perturbation"),
        found["one_image"],
        found["kept_by_image"],
        found["example"],
    )


def typical_image(dataset: Dataset) -> int:
    """Index of the image in the middle of the list: any, but always the same and not chosen for its looks."""
    return len(dataset) // 2


def battery(
    victim: Network, bench: Bench, seed: int = 0, progress: Callable[[str], None] | None = None
) -> pd.Series:
    """Accuracy (mean Dice) of a network clean and under each perturbation, without attacks."""
    found = evaluation.evaluate(victim, bench, attacks={}, seed=seed, progress=progress)
    return found.table["dice" if victim.task == "segmentation" else "accuracy"]


def perturbed_answers(subject: Subject, dataset: Dataset, index: int, seed: int = 0) -> consistency.Versions:
    """One image under the ten perturbations, with a classifier's answers."""
    return consistency.versions(consistency.opened(str(subject.path), dataset), dataset, index, seed)


def perturbed_masks(
    subject: Subject, dataset: Dataset, index: int, seed: int = 0
) -> tuple[list[np.ndarray], list[str], list[np.ndarray]]:
    """One image under the perturbations, with a segmenter's labels.

    Returns:
        Images (size, size, 3) uint8, what was done to each, label maps (size, size) uint8.
    """
    clean = Bench(dataset.subset([index]), subject.size).images[0]
    images = [clean, *(perturbed(clean, *setting, (seed, index)) for setting in CONSISTENCY.values())]
    maps = subject.victim.logits(eight_bit(np.stack(images))).argmax(-1).astype(np.uint8)
    return images, ["original", *CONSISTENCY], list(maps)
