"""Opening a network: a run's folder, a ``.keras`` file, or a published ImageNet classifier."""

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np

from voclab.data.base import Dataset
from voclab.errors import VoclabError
from voclab.files import read_arrays, read_json
from voclab.models.catalogue import LITE
from voclab.models.classifiers import FEATURES
from voclab.models.imagenet import (
    CLASSES,
    FEATURE_LAYERS,
    SIDE,
    build_imagenet_classifier,
    imagenet_class_names,
)
from voclab.models.network import Network
from voclab.models.prediction import TestTime
from voclab.models.saved import called, model_file, model_files, network_named, networks_named
from voclab.training import load_model

_PER_IMAGE = {"multiclass": "one class each", "multilabel": "any number of classes"}


def open_network(
    spec: str | Path,
    dataset: Dataset,
    size: int | None = None,
    *,
    match: bool = True,
    progress: Callable[[str], None] = lambda line: None,
) -> Network:
    """The network that a path or a name stands for, ready for a data set.

    Args:
        spec: a run's folder, a ``.keras`` file, or the text ``ready`` or ``ready-segmenter``; without
            ``match`` also the text ``NAME``, ``NAME=FILE``, ``NAME:ALPHA`` or ``NAME:ALPHA=FILE`` of an
            ImageNet classifier.
        dataset: the images that it will see.
        size: side of its images, pixels; without it that of the run's training.
        match: whether it is measured against the truth of ``dataset``: then its outputs come in the order of
            the classes there. Otherwise it keeps its own, and must be a classifier.
        progress: receives a sentence where classes are put in another order, or only the order is trusted.

    Raises:
        VoclabError: no such network or file, weights that cannot be had or do not fit, no size, no truth, or
            a model of another task or of other classes; the first that differs is named.
    """
    found = model_file(spec) if match else network_named(spec)
    if not isinstance(found, Path):
        return _published(*found)
    (model, config), name = _read(found), called(found)
    if _recorded(config, "task") == "features":  # as many as classes would pass for logits
        raise _neither(name)
    shape = getattr(model, "output_shape", None)  # which an adversary's generator has not
    if not match and (not isinstance(shape, tuple) or len(shape) != 2 or shape[-1] < 2):
        raise VoclabError(f"{name} is no classifier of two or more classes; name another run.")
    given, size = size, size or _trained_size(config) or (None if match else model.input_shape[1])
    if size is None:
        remedy = "add --size, in pixels" if match else "keep it beside its run's config.json"
        raise VoclabError(f"{name} does not say at what size it was trained; {remedy}.")
    if match:
        dataset.require_truth()
        model, names = _matched(model, config, dataset, name, progress), dataset.class_names
    else:
        names = _names(model, config, dataset, name, progress)
    task = "segmentation" if len(model.output_shape) == 4 else dataset.task
    opened = _network(found, model, task, size, names)
    return opened if given else replace(opened, test_time=_test_time(config))


def open_saved(spec: str | Path, size: int | None = None) -> Network:
    """A trained classifier or segmenter without a data set, as its run describes it.

    Args:
        spec: a run's folder, a ``.keras`` file, or the text ``ready`` or ``ready-segmenter``.
        size: side of the images, pixels; without it that of the run's training, or of the model's input.

    Returns:
        The network with its own order of classes; of a multi-label run with its thresholds, of a segmenter
        shown images as when it was measured, or at ``size`` where that is given.

    Raises:
        VoclabError: no such file, a network of another kind, no size, no task, or classes or thresholds
            that are not those of the model.
    """
    found = model_file(spec)
    (model, config), name = _read(found), called(found)
    maps, task = _gives_maps(model, name), _recorded(config, "task")
    if task is None and not maps:
        raise VoclabError(
            f"{name} does not say whether an image has one class or several; keep it beside its run's"
            " config.json."
        )
    if task not in (("segmentation", None) if maps else tuple(_PER_IMAGE)):
        raise _neither(name)
    given, size = size, size or _trained_size(config) or model.input_shape[1]
    if size is None:
        raise VoclabError(f"{name} does not say at what size it was trained; add --size, in pixels.")
    count = model.output_shape[-1] - maps  # without the background
    names = _recorded(config, "class_names")
    if names is not None:
        _require_names(names, count, name)
    elif count == CLASSES:
        names = imagenet_class_names()
    opened = _network(found, model, "segmentation" if maps else task, size, names or ())
    if maps:
        recorded = None if given else _test_time(config)
        return replace(opened, test_time=recorded or TestTime((size,), flip=False))
    return replace(opened, thresholds=_thresholds(found, count)) if task == "multilabel" else opened


def open_networks(
    specs: Sequence[str | Path],
    dataset: Dataset,
    size: int | None = None,
    *,
    match: bool = True,
    progress: Callable[[str], None] = lambda line: None,
) -> list[Network]:
    """:func:`open_network` of several, with names that differ: of two runs of one name with the folder above.

    Raises:
        VoclabError: one named twice, and what :func:`open_network` raises.
    """
    if match:
        files = model_files(specs)
        opened = (open_network(file, dataset, size, progress=progress) for file in files.values())
        return [replace(network, name=name) for name, network in zip(files, opened, strict=True)]
    networks_named(specs)  # before the first of them is loaded
    networks = [open_network(spec, dataset, size, match=False, progress=progress) for spec in specs]
    names = [network.name for network in networks]
    return [
        network if names.count(network.name) == 1 else replace(network, name=str(spec))
        for spec, network in zip(specs, networks, strict=True)
    ]


def _read(path: Path) -> tuple[keras.Model, dict]:
    """A saved model and the configuration of its run, empty where there is none."""
    config = path.parent / "config.json"
    config = read_json(config, dict) if config.is_file() else {}
    return load_model(path), config


def _network(path: Path, model, task: str, size: int, names: Sequence[str]) -> Network:
    return Network(
        model,
        task,
        path.resolve().parent.name if path.name == "model.keras" else path.stem,
        size=size,
        class_names=tuple(names),
        # Pages are passed on; where a user keeps runs is nobody's business.
        weights="/".join(Path(called(path)).parts[-3:]),
        layer=FEATURES if FEATURES in [layer.name for layer in model.layers] else None,
    )


def _thresholds(path: Path, count: int) -> np.ndarray | None:
    """The (classes,) thresholds that a multi-label run chose; ``None`` if it chose none."""
    file = path.parent / "predictions.npz"
    found = read_arrays(file).get("thresholds") if file.is_file() else None
    if found is not None and found.shape != (count,):
        raise VoclabError(
            f"{file} has thresholds of shape {found.shape}, and the model tells {count} classes apart; keep a"
            " run's files together."
        )
    return found


def _test_time(config: dict) -> TestTime | None:
    """How a network was shown the images that it was measured on; ``None`` if its run does not say."""
    found = _recorded(config, "test_time")
    sizes = found.get("sizes") if isinstance(found, dict) else None
    if not isinstance(sizes, list) or not sizes or not all(isinstance(side, int) for side in sizes):
        return None
    return TestTime(tuple(sizes), bool(found.get("flip", True)))


def _published(name: str, alpha: float | None, file: str | None) -> Network:
    source = "its package" if name in LITE else "Keras"
    return Network(
        build_imagenet_classifier(name, file, alpha),
        "multiclass",
        name if alpha is None else f"{name}:{alpha:g}",
        size=SIDE,
        class_names=imagenet_class_names() or (),
        weights=f"ImageNet weights of {source}" if file is None else Path(file).name,
        layer=FEATURE_LAYERS.get(name),
    )


def _names(model: keras.Model, config: dict, dataset: Dataset, path: str, progress) -> Sequence[str]:
    """What a classifier's own outputs are called; nothing where that is not known."""
    count, names = model.output_shape[-1], _recorded(config, "class_names") or ()
    if len(names) == count:
        return names
    if count == CLASSES:
        return imagenet_class_names() or ()
    if len(dataset.class_names) != count:
        return ()
    progress(f"{path} does not name its classes: they are called as those of {dataset.name} are.")
    return dataset.class_names


def _matched(model: keras.Model, config: dict, dataset: Dataset, path: str, progress) -> keras.Model:
    """A model of the same layers whose outputs are the classes of a data set in that order."""
    maps, ours = _gives_maps(model, path), dataset.class_names
    if maps and not dataset.has_masks:
        raise VoclabError(f"{path} is a segmenter, and {dataset.name} has no masks; name other data.")
    task, theirs = _recorded(config, "task"), _recorded(config, "class_names")
    if not maps and task in _PER_IMAGE and task != dataset.task:
        raise VoclabError(
            f"{path} was trained to give {_PER_IMAGE[task]}, and images of {dataset.name} have"
            f" {_PER_IMAGE[dataset.task]}; name data of its kind."
        )
    count = model.output_shape[-1] - maps  # without the background
    if count != len(ours):
        raise VoclabError(
            f"{path} tells {count} classes apart, {dataset.name} has {len(ours)}; name the data it was"
            " trained on."
        )
    if theirs is None:
        progress(
            f"{path} does not name its classes: they are taken to be those of {dataset.name}, in its order."
        )
        return model
    _require_names(theirs, count, path)
    # One letter with an accent is two code points on one system and one on another.
    theirs, ours = ([unicodedata.normalize("NFC", str(name)) for name in names] for names in (theirs, ours))
    if theirs == ours:
        return model
    for names, others, owner, other in (
        (theirs, ours, path, dataset.name),
        (ours, theirs, dataset.name, path),
    ):
        for name in names:
            if names.count(name) != others.count(name):
                raise VoclabError(
                    f"{owner} has the class {name}, which {other} has not; name the data that it was trained"
                    " on, or a model of these classes."
                )
    progress(f"{path} has the classes of {dataset.name} in another order; they are matched by name.")
    order = [0] * maps + [maps + theirs.index(name) for name in ours]
    return keras.Model(model.inputs, keras.ops.take(model.outputs[0], order, axis=-1), name=model.name)


def _gives_maps(model: keras.Model, path: str) -> bool:
    """Whether a model answers for each pixel, rather than for each image."""
    shape = getattr(model, "output_shape", None)
    if not isinstance(shape, tuple) or len(shape) not in (2, 4):
        raise _neither(path)
    return len(shape) == 4


def _neither(path: str) -> VoclabError:
    return VoclabError(f"{path} is neither a classifier nor a segmenter; name one of their runs.")


def _require_names(names, count: int, path: str) -> None:
    if not isinstance(names, list | tuple) or len(names) != count:
        many = f"{len(names)} classes" if isinstance(names, list | tuple) else "no list of classes"
        raise VoclabError(
            f"The config.json of {path} names {many}, and the model tells {count} apart; keep a run's files"
            " together."
        )


def _recorded(config: dict, key: str):
    """An entry of a run's configuration, wherever it keeps it, the outermost of several; ``None`` without."""
    layer = [config]
    while layer:
        for part in layer:
            if key in part:
                return part[key]
        layer = [value for part in layer for value in part.values() if isinstance(value, dict)]
    return None


def _trained_size(config: dict) -> int | None:
    recipe = _recorded(config, "recipe")
    size = recipe.get("size") if isinstance(recipe, dict) else None
    return size if isinstance(size, int) and size > 0 else None
