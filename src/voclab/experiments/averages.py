"""What averages of answers buy and cost: several views of an image, several networks."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import keras
import numpy as np
import pandas as pd
from scipy.special import expit, softmax

from voclab.data.base import Dataset
from voclab.data.batches import evaluation_batches
from voclab.evaluation import open_network
from voclab.experiments import classification, segmentation
from voclab.metrics import SegmentationMetrics, mean_average_precision
from voclab.metrics.statistics import bootstrap_interval
from voclab.models.classifiers import predict
from voclab.models.network import Network
from voclab.models.prediction import TestTime
from voclab.terminal import say
from voclab.training import Run
from voclab.training.code import code_digest
from voclab.training.experiment import model_digest
from voclab.training.features import predict_logits
from voclab.training.identity import data_digest

ONE_VIEW, ALL_VIEWS = "one view, {} px", "{} px, each with its mirror image"
MIRRORED = "with its mirror image"
CHOSEN = "the best {} networks, all views"
_BATCH = 16
_CHUNK = 8  # images whose probabilities are held at the same time
_SAMPLES = 300  # of the bootstrap


@dataclass(frozen=True)
class Way:
    """One way to answer.

    Attributes:
        validation: answers to the validation images: probabilities (n, classes), or of a segmenter pixel
            counts (n, 3, labels) of :func:`voclab.training.segmentation.measure`.
        scored: the same of the images that it is scored on.
        milliseconds: an image, on this machine.
    """

    validation: np.ndarray
    scored: np.ndarray
    milliseconds: float


def ensemble(members: Sequence[np.ndarray]) -> np.ndarray:
    """Mean of the members' probabilities, (n, classes): no weights, so nothing is chosen."""
    return np.mean(members, axis=0)


def chosen_members(
    answers: Mapping[str, np.ndarray], score: Callable[[np.ndarray], float], most: int | None = None
) -> list[str]:
    """The best k networks, with the k whose average scores best; of equal ones the fewest.

    Args:
        answers: network -> (n, classes) probabilities on validation images.
        score: of such probabilities, larger is better.
        most: members at most.
    """
    order = sorted(answers, key=lambda name: -score(answers[name]))[:most]
    scores = [score(ensemble([answers[name] for name in order[:k]])) for k in range(1, len(order) + 1)]
    return order[: int(np.argmax(scores)) + 1]


def of_classifiers(
    runs: Mapping[str, Run], validation: Dataset, scored: Dataset, part: str, folder: Path
) -> dict[str, Way]:
    """Ways to answer with the multi-label classifiers of notebook 01, by title.

    One view by the best network, at that side which is best on validation images: an average must not get
    the credit of a larger image. Then more views of it, the average of the networks that are best together on
    validation images, and the average of all.

    Args:
        runs: name -> complete run.
        validation: the images that every choice is made on.
        scored: other images with labels, ``part`` of which the runs kept answers.
        part: its name, ``"test"`` or ``"validation"``.
        folder: where the answers are kept.
    """
    best = classification.best_run(runs)
    model = runs[best].load_model()
    kept, sizes = Run(folder), _sizes(runs[best])
    code = code_digest(predict_logits, predict, evaluation_batches)

    def looked(dataset: Dataset, size: int, mirrored: bool = False) -> np.ndarray:
        def compute():
            if mirrored:
                return {"logits": predict_logits(model, dataset, (size,), _BATCH)}
            batches = evaluation_batches(dataset, size, _BATCH)
            return {"logits": np.concatenate([predict(model, pixels, _BATCH) for pixels in batches])}

        key = ["views", code, model_digest(model), size, mirrored, data_digest(dataset)]
        return expit(kept.once(repr(key), compute)["logits"], dtype=np.float64)

    def precision(found: np.ndarray) -> float:
        return mean_average_precision(validation.labels, found)

    costs = {name: _cost(run) for name, run in runs.items()}
    size = max({_trained_at(runs[best]), *sizes}, key=lambda size: precision(looked(validation, size)))
    at_size = _milliseconds(model, size)
    ways = {
        title: Way(looked(validation, size, two), looked(scored, size, two), (1 + two) * at_size)
        for title, two in ((ONE_VIEW.format(size), False), (MIRRORED, True))
    }
    answers = {name: classification.probabilities(run, "validation") for name, run in runs.items()}
    others = {name: classification.probabilities(run, part) for name, run in runs.items()}
    members = chosen_members(answers, precision)
    for title, names in (
        *([(_all_views(sizes), [best])] if sizes != (size,) else []),
        *([(CHOSEN.format(len(members)), members)] if len(members) > 1 else []),
        (f"all {len(runs)} networks, all views", list(runs)),
    ):
        own, other = (ensemble([found[name] for name in names]) for found in (answers, others))
        ways[title] = Way(own, other, sum(costs[name] for name in names))
    return ways


def _trained_at(run: Run) -> int:
    return run.config["experiment"]["recipe"]["size"]


def _sizes(run: Run) -> tuple[int, ...]:
    """The sides, in pixels, at which a classifier was measured."""
    return tuple(run.config["experiment"]["task"].get("test_sizes") or (_trained_at(run),))


def _all_views(sizes: Sequence[int]) -> str:
    return ALL_VIEWS.format(" and ".join(map(str, sizes)))


def _cost(run: Run) -> float:
    """Milliseconds an image, at all sizes a run was measured at, each with its mirror image."""
    model = run.load_model()
    return sum(2 * _milliseconds(model, size) for size in _sizes(run))


def _milliseconds(model: keras.Model, size: int, times: int = 3) -> float:
    """Of one view of that side in a batch, the median of some."""
    batch, seconds = np.zeros((_BATCH, size, size, 3), np.float32), []
    predict(model, batch, _BATCH)  # traces the graph
    for _ in range(times):
        started = time.perf_counter()
        predict(model, batch, _BATCH)
        seconds.append(time.perf_counter() - started)
    return 1000 * float(np.median(seconds)) / _BATCH


def of_segmenters(
    runs: Mapping[str, Run],
    validation: Dataset,
    scored: Dataset,
    part: str,
    folder: Path,
    most: int = 3,
    progress: Callable[[str], None] = say,
) -> dict[str, Way]:
    """The same of the segmenters of notebook 02: averages of probabilities at each image's own size.

    Args:
        runs: name -> complete run.
        validation: the images that every choice is made on.
        scored: other images with masks, ``part`` of the runs.
        part: its name.
        folder: where the counts are kept.
        most: networks that are averaged at most: the best on validation images, one seed of each setting.
        progress: receives lines of text.
    """
    first = {name: run for name, run in runs.items() if "-seed" not in name}
    order = sorted(first, key=lambda name: -first[name].metrics["validation"]["mean_dice"])[:most]
    members = [open_network(runs[name].folder, validation) for name in order]
    sizes = members[0].test_time.sizes

    def view(size: int) -> list[Network]:
        look = TestTime((size,), flip=False)
        return [Network(members[0].model, "segmentation", f"{order[0]}, {size} px", test_time=look)]

    def counted(networks: Sequence[Network], dataset: Dataset) -> dict[str, np.ndarray]:
        told = [(model_digest(network.model), network.test_time) for network in networks]
        key = ["averages", code_digest(_counted), told, data_digest(dataset, masks=True)]
        return Run(folder).once(repr(key), lambda: _counted(networks, dataset, progress))

    alone = {
        size: counted(view(size), validation)["averages"][0]
        for size in sorted({_trained_at(runs[order[0]]), *sizes})
    }
    size = max(alone, key=lambda size: segmentation.mean_dice(alone[size]))
    once, own, others = counted(view(size), scored), counted(members, validation), counted(members, scored)
    costs = others["milliseconds"]
    dices = [segmentation.mean_dice(counts) for counts in own["averages"]]
    chosen = int(np.argmax(dices)) + 1
    titles = {1: _all_views(sizes), len(members): f"the {len(members)} best settings, all views"}
    titles[chosen] = titles[1] if chosen == 1 else CHOSEN.format(chosen)
    ways = {ONE_VIEW.format(size): Way(alone[size], once["averages"][0], float(once["milliseconds"][0]))}
    for k in sorted(titles):
        cost = float(costs[:k].sum())
        ways[titles[k]] = Way(own["averages"][k - 1], others["averages"][k - 1], cost)
    return ways


def _counted(
    members: Sequence[Network], dataset: Dataset, progress: Callable[[str], None]
) -> dict[str, np.ndarray]:
    """Pixel counts (members, n, 3, labels) of the first 1, 2, … networks averaged.

    Also milliseconds an image of each.
    """
    labels = len(dataset.class_names) + 1
    counts = np.zeros((len(members), len(dataset), 3, labels), np.int64)
    seconds, started = np.zeros(len(members)), time.perf_counter()
    for start in range(0, len(dataset), _CHUNK):
        part = range(start, min(start + _CHUNK, len(dataset)))
        images, total = [dataset.image(i) for i in part], [0.0] * len(part)
        for k, network in enumerate(members):
            began = time.perf_counter()
            logits = list(network.all_views(images, len(images)))
            if start or len(dataset) <= _CHUNK:  # the first chunk traces the graph
                seconds[k] += time.perf_counter() - began
            for at, found in enumerate(logits):
                total[at] = shares = total[at] + softmax(found, axis=-1)
                metrics = SegmentationMetrics(labels, boundaries=False)
                metrics.update(dataset.mask(part[at]), shares.argmax(-1).astype(np.uint8))
                matrix = metrics.matrix
                counts[k, part[at]] = np.diag(matrix), matrix.sum(0), matrix.sum(1)
        left = (time.perf_counter() - started) / part.stop * (len(dataset) - part.stop)
        done = f"{part.stop}/{len(dataset)} images, {left:.0f} s left"
        progress(f"{' + '.join(network.name for network in members)}: {done}")
    timed = len(dataset) - (_CHUNK if len(dataset) > _CHUNK else 0)
    return {"averages": counts, "milliseconds": 1000 * seconds / timed}


Score = Callable[[np.ndarray, np.ndarray | slice], float]  # of answers to the images of an index


def average_precision(dataset: Dataset) -> Score:
    """Mean average precision of (n, classes) probabilities for the images of a data set."""
    return lambda answers, index: mean_average_precision(dataset.labels[index], answers)


def dice(counts: np.ndarray, index: np.ndarray | slice) -> float:
    """Mean foreground Dice of pixel counts that are chosen already."""
    return segmentation.mean_dice(counts)


def table(ways: Mapping[str, Way], validation: Score, scored: Score, measure: str) -> pd.DataFrame:
    """One row a way, with its difference to the first on the scored images (paired bootstrap over images).

    Args:
        ways: title -> way.
        validation: score of answers to validation images.
        scored: score of answers to the others.
        measure: what the score is called.
    """
    rows, first = {}, next(iter(ways.values()))
    for title, way in ways.items():
        gap = partial(_gap, scored, way.scored, first.scored)
        row = {
            "validation": validation(way.validation, slice(None)),
            measure: scored(way.scored, slice(None)),
        }
        row |= {"difference": gap(slice(None)), "low": np.nan, "high": np.nan}
        if way is not first:
            row["low"], row["high"] = map(float, bootstrap_interval(gap, len(way.scored), _SAMPLES))
        rows[title] = {**row, "ms an image": way.milliseconds}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("averaged")


def _gap(score: Score, ours: np.ndarray, theirs: np.ndarray, index) -> float:
    return score(ours[index], index) - score(theirs[index], index)


def finding(found: pd.DataFrame, measure: str) -> str:
    """What the table says, in sentences: which way validation chooses, what it brings and costs."""
    best = str(found["validation"].idxmax())
    first = found.iloc[0]
    if best == found.index[0]:
        return f"On validation images no average has a higher {measure} than one view of the best network."
    row = found.loc[best]
    decided = "" if row["low"] > 0 or row["high"] < 0 else ", which does not decide whether it helps"
    return (
        f"Best on validation images: *{best}* ({measure} {row['validation']:.3f}; one view"
        f" {first['validation']:.3f}). Against one view, on the scored images:"
        f" {row['difference']:+.3f} (95 % interval {row['low']:+.3f} to {row['high']:+.3f}{decided}) for"
        f" {row['ms an image'] / first['ms an image']:.1f} times the computation."
    )
