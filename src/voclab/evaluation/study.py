"""Prediction consistency of several networks on the same images: what ``voclab consistency`` reports."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from voclab.corruptions import CONSISTENCY, perturbed
from voclab.data.base import Dataset
from voclab.data.images import at_size
from voclab.errors import VoclabError
from voclab.evaluation.consistency import ALL, Consistency, Probe, consistency, one_image, summary
from voclab.evaluation.measure import located, recorded, trained_size
from voclab.models.classifiers import FEATURES
from voclab.models.imagenet import (
    CLASSES,
    FEATURE_LAYERS,
    SIDE,
    build_imagenet_classifier,
    imagenet_class_names,
)
from voclab.models.saved import network_named, networks_named
from voclab.training import load_model

# Share of its answers that each kept in a published table, made on one image with other strengths.
PUBLISHED = {"densenet121": 0.9, "vgg16": 0.4, "efficientnet_b0": 0.2, "resnet50": 0.0}
MEASURES = {
    "kept": "top-1 kept",
    "cosine": "cosine similarity of features",
    "euclidean": "Euclidean similarity of features",
}


@dataclass(frozen=True)
class Network:
    """A network whose consistency is measured.

    Attributes:
        name: what people call it.
        weights: where its weights come from, for people.
        probe: its answers and features.
        size: side of its images, pixels.
        classes: how many it tells apart.
        class_names: their names; empty where they are not known.
    """

    name: str
    weights: str
    probe: Probe
    size: int
    classes: int
    class_names: tuple[str, ...]

    def said(self, k: int) -> str:
        """The name of class ``k``, or its number."""
        return self.class_names[k] if self.class_names else f"class {k}"


@dataclass(frozen=True)
class Versions:
    """One image and its perturbed versions as a network saw them.

    Attributes:
        image: its id.
        titles: ``"original"`` and the perturbations.
        images: (size, size, 3) uint8 each.
        said: the top class of each.
        kept: whether that is the original's.
    """

    image: str
    titles: tuple[str, ...]
    images: tuple[np.ndarray, ...]
    said: tuple[str, ...]
    kept: tuple[bool, ...]


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
        """Network -> what :func:`voclab.corruptions.summary` gives."""
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
            lines += [
                _ranked(*pair, shares)
                for pair in combinations(shares, 2)
                if len({self.networks[name]["classes"] for name in pair}) == 1
            ]
        return lines

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


def _ranked(one: str, other: str, shares: dict[str, np.ndarray]) -> str:
    better, worse = sorted((one, other), key=lambda name: -shares[name].mean())
    wrong, equal = (shares[worse] > shares[better]).mean(), (shares[worse] == shares[better]).mean()
    return (
        f"{better} keeps more answers than {worse} on average, but {_percent(wrong)} of the images alone"
        f" would rank them the other way and {_percent(equal)} would not tell them apart."
    )


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def opened(text: str, dataset: Dataset, progress: Callable[[str], None] | None = None) -> Network:
    """The network that a text of the command line names.

    Args:
        text: ``NAME`` of an ImageNet classifier, ``NAME=FILE``, ``NAME:ALPHA``, ``NAME:ALPHA=FILE``, or the
            path of a run's folder or a ``.keras`` file.
        dataset: whose class names a network has that tells as many classes apart and does not name them.
        progress: receives a sentence where that is so.

    Raises:
        VoclabError: no such network or file, weights that cannot be had or do not fit, a network that is no
            classifier or does not say at what size it was trained.
    """
    found = network_named(text)
    return _ours(found, dataset, progress) if isinstance(found, Path) else _published(*found)


def _published(name: str, alpha: float | None, file: str | None) -> Network:
    title = name if alpha is None else f"{name}:{alpha:g}"
    model = build_imagenet_classifier(name, file, alpha)
    weights = "ImageNet weights of Keras" if file is None else Path(file).name
    probe = Probe(model, FEATURE_LAYERS.get(name), title)
    return Network(title, weights, probe, SIDE, CLASSES, imagenet_class_names() or ())


def _ours(model: Path, dataset: Dataset, progress: Callable[[str], None] | None) -> Network:
    path, config = located(model)
    network = load_model(path)
    shape = network.output_shape
    if not isinstance(shape, tuple) or len(shape) != 2 or shape[-1] < 2:
        raise VoclabError(f"{path} is no classifier of two or more classes; name another run.")
    size = trained_size(config) or network.input_shape[1]
    if size is None:
        raise VoclabError(
            f"{path} does not say at what size it was trained; keep it beside its run's config.json."
        )
    layers = [layer.name for layer in network.layers]
    title = path.resolve().parent.name if path.name == "model.keras" else path.stem
    probe = Probe(network, FEATURES if FEATURES in layers else None, title)
    weights = "/".join(path.parts[-3:])  # pages are passed on; where a user keeps runs is nobody's business
    names = recorded(config, "class_names") or ()
    if len(names) != shape[-1] and shape[-1] == CLASSES:
        names = imagenet_class_names() or ()
    elif len(names) != shape[-1]:
        names = dataset.class_names if len(dataset.class_names) == shape[-1] else ()
        if names and progress:
            progress(f"{path} does not name its classes: they are called as those of {dataset.name} are.")
    return Network(title, weights, probe, size, shape[-1], tuple(names))


def opened_all(
    texts: Sequence[str], dataset: Dataset, progress: Callable[[str], None] | None = None
) -> list[Network]:
    """All networks, with names that differ: of two runs of the same name also the folders above.

    Raises:
        VoclabError: a network that is named twice, and what :func:`opened` raises.
    """
    networks_named(texts)  # before the first of them is loaded
    networks = [opened(text, dataset, progress) for text in texts]
    names = [network.name for network in networks]
    return [
        network if names.count(network.name) == 1 else replace(network, name=text)
        for text, network in zip(texts, networks, strict=True)
    ]


def study(
    networks: Sequence[Network],
    dataset: Dataset,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> Study:
    """Measure several networks on the same images under the ten perturbations.

    Args:
        networks: from :func:`opened_all`.
        dataset: images; their labels are not used.
        seed: of what is random in the perturbations.
        progress: receives lines of text.
    """
    results = {n.name: consistency(n.probe, dataset, n.size, seed=seed, progress=progress) for n in networks}
    shares = np.mean([result.kept.mean(axis=1) for result in results.values()], axis=0)
    example = int(np.abs(shares - np.median(shares)).argmin())
    described = {
        n.name: {"weights": n.weights, "classes": n.classes, "size": n.size, "features": n.probe.layer}
        for n in networks
    }
    facts = {"data": dataset.name, "split": dataset.split, "images": len(dataset), "seed": seed}
    examples = {n.name: versions(n, dataset, example, seed) for n in networks}
    return Study(facts, dataset.ids, described, results, examples)


def versions(network: Network, dataset: Dataset, index: int, seed: int = 0) -> Versions:
    """One image of a data set under the ten perturbations, as :func:`study` shows it to a network."""
    clean = at_size(dataset.image(index), network.size)
    images = [clean, *(perturbed(clean, *setting, (seed, index)) for setting in CONSISTENCY.values())]
    top = network.probe(np.stack(images))[1].argmax(-1)
    return Versions(
        dataset.ids[index],
        ("original", *CONSISTENCY),
        tuple(images),
        tuple(network.said(int(k)) for k in top),
        tuple(bool(k == top[0]) for k in top),
    )
