"""How often a network keeps its answer, and its features, when an image changes and its content does not."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
import pandas as pd

from voclab.corruptions.perturbations import CONSISTENCY, Setting, perturbed
from voclab.data.base import Dataset
from voclab.data.images import at_size, eight_bit
from voclab.errors import VoclabError
from voclab.metrics.statistics import bootstrap_interval
from voclab.models.network import Network

ALL, CONTROL = "all of them", "another image (control)"  # rows of a summary
# Share of its answers that each kept in a published table, made on one image with other strengths.
# A classifier that gives two different images the same answer more often than this hardly looks at them: of
# two classes that are equally common, an answer without an error does so in half of all pairs.
_SAME = 0.75
PUBLISHED = {"densenet121": 0.9, "vgg16": 0.4, "efficientnet_b0": 0.2, "resnet50": 0.0}
MEASURES = {
    "kept": "top-1 kept",
    "cosine": "cosine similarity of features",
    "euclidean": "Euclidean similarity of features",
}


@dataclass(frozen=True)
class Consistency:
    """What :func:`consistency` measured; rows are images, columns perturbations.

    Attributes:
        network: its name.
        titles: names of the perturbations.
        top: (n,) the clean image's top class.
        kept: (n, perturbations) whether the top class is the same.
        cosine: cosine similarity a·b / (‖a‖ ‖b‖) of the features a of the clean and b of the perturbed image;
            1 for the same direction.
        euclidean: 1 / (1 + ‖a − b‖ / ‖a‖): 1 for the same features, 1/2 where they differ by their own
            length, so that networks with features of any size compare.
        control: the same three, (n,) each, of every clean image and another one, half the data set away: what
            is left when nothing of the image is. Features after a ReLU are never negative, so their cosine
            similarity is far from 0 even then. Empty for a single image.
    """

    network: str
    titles: tuple[str, ...]
    top: np.ndarray
    kept: np.ndarray
    cosine: np.ndarray
    euclidean: np.ndarray
    control: dict[str, np.ndarray] = field(default_factory=dict)


def consistency(
    network: Network,
    dataset: Dataset,
    perturbations: Mapping[str, Setting] = CONSISTENCY,
    seed: int = 0,
    batch_size: int = 16,
    progress: Callable[[str], None] = lambda line: None,
) -> Consistency:
    """Answers and features of a classifier for every image of a data set, clean and perturbed.

    Images are resized to the network's size first and perturbed then, image k with the seed (seed, k), so
    that all networks see the same images.

    Args:
        network: the classifier.
        dataset: any; its labels are not used.
        perturbations: title -> (name, strength).
        seed: of what is random in them.
        batch_size: images at once; each is seen with all its perturbed versions.
        progress: receives a line after each batch.
    """
    if not len(dataset):
        raise VoclabError(f"{dataset.name} holds no images in {dataset.split}; name another split.")
    rows, features = [], []
    for start in range(0, len(dataset), batch_size):
        index = range(start, min(start + batch_size, len(dataset)))
        clean = np.stack([at_size(dataset.image(i), network.size) for i in index])
        before, answers = network.features(eight_bit(clean))
        features.append(before)
        columns = []
        for setting in perturbations.values():
            changed = np.stack([perturbed(x, *setting, (seed, i)) for x, i in zip(clean, index, strict=True)])
            after, others = network.features(eight_bit(changed))
            columns.append(
                (answers.argmax(-1) == others.argmax(-1), *feature_similarity(before, after).values())
            )
        rows.append((answers.argmax(-1), *(np.stack(part, axis=1) for part in zip(*columns, strict=True))))
        progress(f"{network.name}: {index[-1] + 1}/{len(dataset)} images")
    top, kept, cosine, euclidean = (np.concatenate(part) for part in zip(*rows, strict=True))
    control = _control(np.concatenate(features), top) if len(dataset) > 1 else {}
    return Consistency(network.name, tuple(perturbations), top, kept, cosine, euclidean, control)


def _control(features: np.ndarray, top: np.ndarray) -> dict[str, np.ndarray]:
    # Half the data set away: neighbours are often of the same class.
    away = np.roll(np.arange(len(top)), len(top) // 2)
    return {"kept": top == top[away], **feature_similarity(features, features[away])}


def feature_similarity(before: np.ndarray, after: np.ndarray) -> dict[str, np.ndarray]:
    """``cosine`` and ``euclidean`` similarity of two (n, F) arrays row by row, see :class:`Consistency`.

    Features that are all zero have no direction; two such rows count as the same, one such row as unlike.
    """
    before, after = np.asarray(before, np.float64), np.asarray(after, np.float64)
    a, b = np.linalg.norm(before, axis=-1), np.linalg.norm(after, axis=-1)
    lengths = a * b
    cosine = np.divide((before * after).sum(-1), lengths, out=np.zeros_like(lengths), where=lengths > 0)
    distance = np.linalg.norm(before - after, axis=-1)
    relative = np.divide(distance, a, out=np.where(distance > 0, np.inf, 0.0), where=a > 0)
    return {"cosine": np.where((a == 0) & (b == 0), 1.0, cosine), "euclidean": 1 / (1 + relative)}


def summary(result: Consistency, draws: int = 2000, seed: int = 0) -> pd.DataFrame:
    """One row a perturbation, one for all and, where known, one for the control: means over images.

    Columns: ``kept``, ``cosine`` and ``euclidean``, each with ``… low`` and ``… high``, the ends of a 95 %
    bootstrap interval. Images are drawn, not pairs of image and perturbation, since the versions of one image
    are alike. One image alone has no interval: ``low`` and ``high`` are NaN.
    """
    table = {}
    for measure in ("kept", "cosine", "euclidean"):
        values = np.asarray(getattr(result, measure), float)
        columns = [values, values.mean(axis=1, keepdims=True)]
        if result.control:
            columns.append(np.asarray(result.control[measure], float)[:, None])
        values = np.concatenate(columns, axis=1)
        table[measure] = values.mean(axis=0)
        table[f"{measure} low"], table[f"{measure} high"] = bootstrap_interval(
            lambda drawn, values=values: values[drawn].mean(axis=0), len(values), draws, seed
        )
    rows = [*result.titles, ALL, *[CONTROL] * bool(result.control)]
    return pd.DataFrame(table, index=pd.Index(rows, name="perturbation"))


def one_image(result: Consistency) -> dict[str, float]:
    """What a study of a single image could have reported: the share of perturbations that it keeps.

    Returns:
        ``mean`` over images; ``low`` and ``high``, between which nine of ten images lie; ``all`` and
        ``none``: the shares of images that keep every, or no, answer.
    """
    kept = result.kept.mean(axis=1)
    low, high = np.quantile(kept, (0.05, 0.95), method="nearest")
    return {
        "mean": float(kept.mean()),
        "low": float(low),
        "high": float(high),
        "all": float((kept == 1).mean()),
        "none": float((kept == 0).mean()),
    }


def typical_image(results: Sequence[Consistency]) -> int:
    """Index of the image whose share of kept answers, on average, is nearest to the median image's."""
    shares = np.mean([result.kept.mean(axis=1) for result in results], axis=0)
    return int(np.abs(shares - np.median(shares)).argmin())


@dataclass(frozen=True)
class Versions:
    """One image and its perturbed versions as a network saw them.

    Attributes:
        image: its id.
        titles: ``"original"`` and the perturbations.
        images: (size, size, 3) uint8 each.
        said: a classifier's top class of each.
        kept: whether that is the original's.
        maps: a segmenter's (size, size) uint8 label map of each.
    """

    image: str
    titles: tuple[str, ...]
    images: tuple[np.ndarray, ...]
    said: tuple[str, ...] = ()
    kept: tuple[bool, ...] = ()
    maps: tuple[np.ndarray, ...] = ()


def versions(network: Network, dataset: Dataset, index: int, seed: int = 0) -> Versions:
    """One image of a data set under the ten perturbations, and what a network says of each version."""
    clean = at_size(dataset.image(index), network.size)
    images = [clean, *(perturbed(clean, *setting, (seed, index)) for setting in CONSISTENCY.values())]
    shown = dataset.ids[index], ("original", *CONSISTENCY), tuple(images)
    if network.task == "segmentation":
        maps = network.logits(eight_bit(np.stack(images))).argmax(-1).astype(np.uint8)
        return Versions(*shown, maps=tuple(maps))
    top = network.features(eight_bit(np.stack(images)))[1].argmax(-1)
    said = tuple(network.said(int(k)) for k in top)
    return Versions(*shown, said, tuple(bool(k == top[0]) for k in top))


@dataclass(frozen=True)
class Study:
    """What :func:`study` found.

    Attributes:
        facts: data, number of images, seed.
        ids: of the images.
        networks: name -> where its weights come from, number of classes, side of its images, layer of its
            features.
        results: name -> what was measured.
        examples: name -> one image, the same for all networks: that whose share of kept answers, on average
            over networks, is nearest to the median image's.
    """

    facts: dict
    ids: tuple[str, ...]
    networks: dict[str, dict]
    results: dict[str, Consistency]
    examples: dict[str, Versions]

    def tables(self) -> dict[str, pd.DataFrame]:
        """Network -> what :func:`summary` gives."""
        return {name: summary(result) for name, result in self.results.items()}

    def kept_shares(self) -> dict[str, np.ndarray]:
        """Network -> (images,) share of perturbations under which each image's answer stays."""
        return {name: result.kept.mean(axis=1) for name, result in self.results.items()}

    def misleading(self) -> list[str]:
        """Sentences on what a study of one image could have said.

        One a network and, since an answer out of fewer is kept more easily, one a pair of networks with as
        many classes.
        """
        shares = self.kept_shares()
        lines = [self._alone(name, shares[name]) for name in shares]
        if len(self.ids) > 1:
            constant = self.constant()
            lines += [
                f"{name} is not ranked: it gives two different images the same answer in {_percent(share)} of"
                " all cases, so that keeping its answer says nothing about robustness."
                for name, share in constant.items()
            ]
            lines += [
                _ranked(*pair, shares)
                for pair in combinations([name for name in shares if name not in constant], 2)
                if len({self.networks[name]["classes"] for name in pair}) == 1
            ]
        return lines

    def constant(self) -> dict[str, float]:
        """Networks whose answer hardly depends on the image -> how often two images get the same."""
        same = {name: r.control["kept"] for name, r in self.results.items() if r.control}
        return {name: float(np.mean(kept)) for name, kept in same.items() if np.mean(kept) > _SAME}

    def _alone(self, name: str, shares: np.ndarray) -> str:
        count = self.results[name].kept.shape[1]
        if len(shares) == 1:
            return (
                f"{name} keeps {round(count * shares[0])} of {count} answers on this one image, which says"
                " little about others: measure a folder or a data set."
            )
        found, all_row = one_image(self.results[name]), summary(self.results[name]).loc[ALL]
        lowest, highest = self.ids[shares.argmin()], self.ids[shares.argmax()]
        return (
            f"{name} keeps {_percent(found['mean'])} of its answers (95 % interval"
            f" {_percent(all_row['kept low'])} to {_percent(all_row['kept high'])}), but one image could"
            f" have said anything from {_percent(found['low'])} to {_percent(found['high'])}, between which"
            f" nine images of ten lie. {_percent(found['all'])} of the images keep every answer and"
            f" {_percent(found['none'])} none; {highest} alone says {_percent(shares.max())},"
            f" {lowest} {_percent(shares.min())}."
        )

    def as_dict(self) -> dict:
        """Everything but images as plain values for JSON; what is not known is ``None``."""
        found = {}
        for name, table in self.tables().items():
            rows = {
                title: {key: None if np.isnan(value) else float(value) for key, value in row.items()}
                for title, row in table.iterrows()
            }
            found[name] = {
                **self.networks[name],
                "perturbations": rows,
                "one_image": one_image(self.results[name]),
                "kept_by_image": self.results[name].kept.mean(axis=1).tolist(),
            }
        return {**self.facts, "networks": found, "misleading": self.misleading(), "ids": list(self.ids)}


def study(
    networks: Sequence[Network],
    dataset: Dataset,
    seed: int = 0,
    progress: Callable[[str], None] = lambda line: None,
) -> Study:
    """Measure several classifiers on the same images under the ten perturbations.

    Args:
        networks: from :func:`voclab.evaluation.open_networks`, with names that differ.
        dataset: images; their labels are not used.
        seed: of what is random in the perturbations.
        progress: receives lines of text.
    """
    results = {n.name: consistency(n, dataset, seed=seed, progress=progress) for n in networks}
    example = typical_image(list(results.values()))
    described = {
        n.name: {"weights": n.weights, "classes": n.outputs, "size": n.size, "features": n.feature_layer}
        for n in networks
    }
    facts = {"data": dataset.name, "split": dataset.split, "images": len(dataset), "seed": seed}
    examples = {n.name: versions(n, dataset, example, seed) for n in networks}
    return Study(facts, dataset.ids, described, results, examples)


def _ranked(one: str, other: str, shares: dict[str, np.ndarray]) -> str:
    better, worse = sorted((one, other), key=lambda name: -shares[name].mean())
    wrong, equal = (shares[worse] > shares[better]).mean(), (shares[worse] == shares[better]).mean()
    return (
        f"{better} keeps more answers than {worse} on average, but {_percent(wrong)} of the images alone"
        f" would rank them the other way and {_percent(equal)} would not tell them apart."
    )


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
