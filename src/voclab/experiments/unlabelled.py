"""How many labels a classifier needs: features learnt with and without labels, compared by linear probes."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path

import keras
import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from voclab.data.base import Dataset
from voclab.data.batches import evaluation_batches
from voclab.experiments.cifar10 import Asked, small
from voclab.experiments.common import Profile, Sets
from voclab.experiments.options import asked
from voclab.experiments.train import planned
from voclab.metrics import Chance
from voclab.metrics.statistics import bootstrap_interval
from voclab.models.classifiers import build_classifier, feature_extractor, predict
from voclab.models.pretrained import Weights
from voclab.terminal import say
from voclab.training import Experiment, Parts, Run
from voclab.training.experiment import model_digest, run
from voclab.training.identity import data_digest, known_by

RANDOM, LEARNT, SUPERVISED = "random weights", "SimSiam", "supervised, same labels"
STRENGTHS = (0.001, 0.03, 1.0)  # of scikit-learn's C, tried for each probe
ALL = 0  # in place of a number of labels


@dataclass(slots=True)
class Settings:
    """What the study of labels trains and measures.

    Attributes:
        simsiam: options of `voclab train --task simsiam`; random weights have the same network.
        supervised: options of the classifier that learns from the labels alone.
        per_class: numbers of labelled images of each class; :data:`ALL` for all.
        draws: how often labelled images are drawn for each number.
        least: images that an epoch of a supervised training has at least: fewer are shown several times.
        side: pixels that images are enlarged to for the pretrained network.
    """

    simsiam: Asked
    supervised: Asked
    per_class: tuple[int, ...]
    draws: int
    least: int
    side: int


_NETWORK: Asked = {"model": "resnet8", "width": 8}
_SIMSIAM: Asked = _NETWORK | {"task": "simsiam", "epochs": 10, "batch_size": 64, "learning_rate": 0.1}
_DRAWN = Settings(
    simsiam=_SIMSIAM,
    supervised=small(augmentation="standard", epochs=10, learning_rate=0.1, dropout=0.0, **_NETWORK),
    per_class=(10, 100, ALL),
    draws=2,
    least=640,
    side=64,
)
_PHOTOGRAPHS = replace(
    _DRAWN,
    simsiam=_SIMSIAM | {"width": 16, "epochs": 100},
    supervised=_DRAWN.supervised | {"width": 16, "epochs": 40},
    per_class=(10, 30, 100, 300, ALL),
    draws=3,
    least=1280,
    side=96,
)
_FULL = replace(
    _PHOTOGRAPHS,
    simsiam=_SIMSIAM | {"model": "resnet18", "width": 64, "epochs": 400},
    supervised=_DRAWN.supervised | {"model": "resnet18", "width": 64, "epochs": 60},
    draws=5,
    least=4000,
)
_SETS = Sets(
    smoke=replace(
        _DRAWN,
        simsiam=_SIMSIAM | {"width": 4, "epochs": 1, "batch_size": 32},
        supervised=_DRAWN.supervised | {"width": 4, "epochs": 1},
        per_class=(2, ALL),
        least=16,
        side=32,
    ),
    demo=(_DRAWN, _PHOTOGRAPHS),
    full=(_FULL, _FULL),
)


def settings(profile: Profile) -> Settings:
    """The settings of a profile: a copy, to be changed as one likes."""
    return deepcopy(_SETS.of(profile))


def labelled(labels: np.ndarray, per_class: int, draw: int) -> np.ndarray:
    """Which images have a label: the same number of each class, drawn by the number of the draw.

    Args:
        labels: (n, classes), 0 or 1, one class an image.
        per_class: how many of each class, of a smaller class all; :data:`ALL` for every image.
        draw: another one draws others. A smaller number of the same draw is a part of a larger one.

    Returns:
        Sorted indices.
    """
    truth = labels.argmax(1)
    order = np.random.default_rng(draw).permutation(len(truth))
    members = (order[truth[order] == k] for k in range(labels.shape[1]))
    return np.sort(np.concatenate([found[: per_class or None] for found in members]))


def draws(settings: Settings) -> list[tuple[int, int]]:
    """(labels of each class, draw) of everything that is measured; all labels are drawn once."""
    return [(n, k) for n in settings.per_class for k in range(settings.draws if n != ALL else 1)]


def pretraining(settings: Settings, data: Parts, dataset: str | Path, seed: int) -> Experiment:
    """The training without labels, called ``simsiam``."""
    found = asked(settings.simsiam | {"dataset": str(dataset), "seed": seed})
    return planned(found, "simsiam", data.fit)


def supervised(
    settings: Settings, data: Parts, dataset: str | Path, seed: int
) -> dict[tuple[int, int], tuple[Experiment, Parts]]:
    """(labels of each class, draw) -> the training from random weights on just those labels, and its data."""
    found = {}
    for n, draw in draws(settings):
        options = settings.supervised | {"dataset": str(dataset), "seed": seed + draw}
        chosen = labelled(data.fit.labels, n, draw)
        part = data.fit.subset(np.tile(chosen, -(-settings.least // len(chosen))))
        experiment = planned(asked(options), f"supervised-{n or 'all'}-{draw}", data.fit)
        found[n, draw] = experiment, replace(data, fit=part)
    return found


def features(extractor: keras.Model, dataset: Dataset, size: int, batch_size: int = 64) -> np.ndarray:
    """(n, d) float32 features of whole images at a size in pixels."""
    batches = evaluation_batches(dataset, size, batch_size)
    return np.concatenate([predict(extractor, pixels, batch_size) for pixels in batches])


@threadpool_limits.wrap(limits=1, user_api="blas")  # as voclab.training.features.fit_linear_head
def probe(
    known: Mapping[str, np.ndarray], truth: Mapping[str, np.ndarray], chosen: np.ndarray
) -> tuple[np.ndarray, float]:
    """A linear classifier of features, trained on some of the images (Alain & Bengio 2017).

    Logistic regression with an L2 penalty, on features that are standardised by the training images; of
    :data:`STRENGTHS` the C that is right most often on validation images, of equal ones the smallest.

    Args:
        known: ``"fit"``, ``"validation"`` and ``"test"`` -> (n, d) features.
        truth: likewise -> (n,) classes.
        chosen: indices of the ``"fit"`` images whose labels are used.

    Returns:
        (n,) bool, which test images are right, and C.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(known["fit"])  # the images without a label are there too
    scaled = {part: scaler.transform(found) for part, found in known.items()}
    found = {
        c: LogisticRegression(C=c, tol=1e-3, max_iter=1000).fit(scaled["fit"][chosen], truth["fit"][chosen])
        for c in STRENGTHS
    }
    best = max(found, key=lambda c: (found[c].predict(scaled["validation"]) == truth["validation"]).mean())
    return found[best].predict(scaled["test"]) == truth["test"], best


@dataclass(frozen=True)
class Study:
    """What was measured.

    Attributes:
        right: (features, labels of each class) -> (draws, n) bool, which test images are right.
        labels: labels of each class -> labels in all.
        runs: name of a run -> complete run.
        strengths: (features, labels of each class) -> the C of each draw, of probes.
    """

    right: dict[tuple[str, int], np.ndarray]
    labels: dict[int, int]
    runs: dict[str, Run]
    strengths: dict[tuple[str, int], list[float]]

    def table(self) -> pd.DataFrame:
        """A row for each kind of features and number of labels, the accuracy averaged over the draws.

        Columns: ``features``, ``per class``, ``labels``, ``accuracy``, its 95 % interval ``low`` to ``high``
        (bootstrap over the test images), and the accuracies of the worst and the best draw.
        """
        rows = []
        for (name, n), right in self.right.items():
            low, high = _interval(right.mean(0))
            of_draw = right.mean(1)
            shares = map(float, (right.mean(), low, high, of_draw.min(), of_draw.max()))
            rows.append((name, n, self.labels[n], *shares))
        columns = ["features", "per class", "labels", "accuracy", "low", "high", "worst draw", "best draw"]
        return pd.DataFrame(rows, columns=columns)


def study(
    settings: Settings,
    data: Parts,
    dataset: str | Path,
    weights: Weights,
    seed: int,
    folder: Path,
    progress: Callable[[str], None] = say,
) -> Study:
    """Train what the study compares and probe it, or read it back.

    Choices (C, the epoch of a supervised training) are made on all validation images, also where few images
    have a label. SimSiam and the scale of the features use all training images without their labels.

    Args:
        settings: what is trained.
        data: images of one class each.
        dataset: its folder, for the configuration of the runs.
        weights: of the pretrained network, the upper line; with random weights there is none.
        seed: of everything but the draws.
        folder: parent folder of the runs.
        progress: receives lines of text.
    """
    start = pretraining(settings, data, dataset, seed)
    simsiam = run(start, data, folder, progress=progress)
    runs = {"simsiam": simsiam}
    plans = supervised(settings, data, dataset, seed)
    for experiment, part in plans.values():
        runs[experiment.name] = run(experiment, part, folder, progress=progress)

    size = start.recipe.size
    networks = {RANDOM: start.task.encoder(start), LEARNT: simsiam.load_model()}
    if weights.value is not None:
        pretrained = build_classifier(
            weights.backbone, 2, weights=weights.value, resize=settings.side, pooling=("average",)
        )
        networks[f"{weights.title}, {settings.side} px"] = feature_extractor(pretrained)
    kept = Run(folder / "probes")
    parts = {"fit": data.fit, "validation": data.validation, "test": data.test}
    config = {
        "data": data_digest(*parts.values()),
        "networks": {name: model_digest(model) for name, model in networks.items()},
        "per_class": settings.per_class,
        "draws": settings.draws,
        "size": size,
    }
    complete = kept.begin(known_by(config, features, probe), progress=progress)
    truth = {part: found.labels.argmax(1) for part, found in parts.items()}
    right, strengths = {}, {}
    for name, model in networks.items():

        def measure(name=name, model=model):
            known = {part: features(model, found, size) for part, found in parts.items()}
            progress(f"probes of {name}: {known['fit'].shape[1]} features")
            found = [probe(known, truth, labelled(data.fit.labels, *which)) for which in draws(settings)]
            return {"right": np.stack([r for r, _ in found]), "c": np.array([c for _, c in found])}

        found = kept.once(name, measure)
        for n in settings.per_class:
            rows = [k for k, (m, _) in enumerate(draws(settings)) if m == n]
            right[name, n], strengths[name, n] = found["right"][rows], [float(c) for c in found["c"][rows]]
    for n in settings.per_class:
        logits = [runs[e.name].predictions()["test"] for (m, _), (e, _) in plans.items() if m == n]
        right[SUPERVISED, n] = np.stack([found.argmax(1) == truth["test"] for found in logits])
    if not complete:
        kept.finish({})
    labels = {n: len(labelled(data.fit.labels, n, 0)) for n in settings.per_class}
    return Study(right, labels, runs, strengths)


def _interval(of_image: np.ndarray) -> tuple[float, float]:
    return bootstrap_interval(lambda drawn: of_image[drawn].mean(), len(of_image), 2000)


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """A row a kind of features, a column a number of labels, with intervals."""
    text = [f"{a:.3f} [{b:.3f}, {c:.3f}]" for a, b, c in zip(table["accuracy"], table["low"], table["high"])]
    wide = table.assign(text=text).pivot(index="features", columns="labels", values="text")
    return wide.loc[list(dict.fromkeys(table["features"]))]


def conclusion(table: pd.DataFrame, chance: Chance) -> str:
    """What the study finds, in Markdown, where the 95 % intervals decide it.

    Args:
        table: from :meth:`Study.table`.
        chance: accuracy of a constant answer on these images.
    """
    few, most = table["labels"].min(), table["labels"].max()

    def at(name: str, labels: int) -> pd.Series:
        return table.query("features == @name and labels == @labels").iloc[0]

    def better(name: str, other: str, labels: int) -> str:
        one, two = at(name, labels), at(other, labels)
        if not (chance.beaten(one["low"]) and chance.beaten(two["low"])):
            return f"{name} and {other} are not compared, since not both are clearly better than chance."
        verb = "is better" if one["low"] > two["high"] else "is worse" if one["high"] < two["low"] else ""
        found = f"{name} {one['accuracy']:.1%}, {other} {two['accuracy']:.1%}"
        return f"{found}: it {verb}." if verb else f"{found}, whose intervals overlap."

    lows = {f"{row.features} with {row.labels} labels": row.low for row in table.itertuples()}
    parts = [
        f"**Do features help that were learnt without labels?** With {few} labels: "
        f"{better(LEARNT, RANDOM, few)} Against learning from these labels alone: "
        f"{better(LEARNT, SUPERVISED, few)} With all {most}: {better(LEARNT, SUPERVISED, most)}"
    ]
    if upper := [name for name in table["features"].unique() if name not in (RANDOM, LEARNT, SUPERVISED)]:
        parts.append(
            f"**And features pretrained on ImageNet?** With {few} labels: {better(upper[0], LEARNT, few)}"
        )
    note = chance.note(lows)
    return "\n\n".join([*parts, note] if note else parts)
