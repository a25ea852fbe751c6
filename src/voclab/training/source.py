"""Weights to transfer from: ImageNet where it can be had, otherwise a procedural source task."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from voclab.config import Profile
from voclab.data.base import Dataset
from voclab.errors import VoclabError
from voclab.files import atomic_path
from voclab.metrics import mean_average_precision
from voclab.models.backbones import build_backbone, imagenet_available
from voclab.models.catalogue import BACKBONE
from voclab.models.classifiers import build_classifier, predict, start_from_prior
from voclab.terminal import say
from voclab.training.identity import known_by
from voclab.training.loop import Recipe, train
from voclab.training.run import Run

# `voclab pretrain` made this file; docs/decisions.md says how and what it scores.
SHIPPED = Path(__file__).resolve().parents[1] / "weights" / "source_cnn.weights.h5"
CNN_OPTIONS = {"width": 24}  # the network in that file


@dataclass(frozen=True)
class Weights:
    """What the transfer models start from.

    Attributes:
        backbone: key of ``BACKBONES``.
        kind: ``"imagenet"``, ``"source"``, ``"none"`` or ``"file"``.
        value: what ``build_backbone`` takes: ``None``, ``"imagenet"`` or a path.
        why: a sentence for people.
    """

    backbone: str
    kind: str
    value: str | None
    why: str


def resolve_weights(
    requested: str,
    profile: Profile,
    folder: Path,
    *,
    backbone: str | None = None,
    seed: int = 0,
    progress: Callable[[str], None] = say,
) -> Weights:
    """Turn ``auto``, ``imagenet``, ``source``, ``none`` or a path into weights that are there.

    ``auto`` takes ImageNet if it is cached or reachable and otherwise pretrains on the source task.

    Args:
        requested: ``auto``, ``imagenet``, ``source``, ``none`` or the path of a weights file.
        profile: names the backbone and the length of source pretraining.
        folder: where the source run is kept.
        backbone: another backbone than the profile's.
        seed: of source pretraining.
        progress: receives lines of text.
    """
    wanted = backbone or profile.backbone
    if requested == "auto":
        reason = "no ImageNet weights are cached or reachable"
        if imagenet_available(wanted):
            try:
                build_backbone(wanted, "imagenet")
                return Weights(
                    wanted, "imagenet", "imagenet", f"{wanted} with ImageNet weights, at hand here"
                )
            except VoclabError as error:
                reason = str(error)
        return _source_weights(backbone or "cnn", profile, folder, reason, seed, progress)
    if requested == "source":
        return _source_weights(backbone or "cnn", profile, folder, "as asked for", seed, progress)
    value = None if requested == "none" else str(requested)
    build_backbone(wanted, value)  # what does not fit is refused now, not after the first training
    if requested == "none":
        return Weights(
            wanted, "none", None, f"{wanted} with random weights, as asked for: nothing is transferred"
        )
    if requested == "imagenet":
        return Weights(wanted, "imagenet", "imagenet", f"{wanted} with ImageNet weights, as asked for")
    return Weights(wanted, "file", value, f"{wanted} with the weights in {Path(value).name}")


def _source_weights(name, profile, folder, reason, seed, progress) -> Weights:
    path = SHIPPED
    if name != "cnn":
        path = pretrain_source(
            name,
            folder,
            images=profile.source_images,
            epochs=profile.source_epochs,
            size=profile.cnn_size,
            seed=seed,
            progress=progress,
        )
    why = f"{name} pretrained on the procedural source task of other silhouettes ({reason})"
    return Weights(name, "source", str(path), why)


def source_dataset(images: int, size: int, split: str, seed: int) -> Dataset:
    """The procedural source task in memory: silhouettes of things that are no VOC class."""
    from toyvoc.voc import SOURCE_CLASSES, source_arrays

    drawn, labels, masks = source_arrays(seed=seed, n=images, size=size, split=split)
    return Dataset(
        name="source",
        split=split,
        task="multilabel",
        ids=tuple(f"source_{split}_{k:05d}" for k in range(images)),
        class_names=tuple(SOURCE_CLASSES),
        labels=labels,
        read_image=lambda i: drawn[i],
        read_mask=lambda i: masks[i],
        source=f"procedural source task, {images} images of {size} × {size}, seed {seed}",
    )


def pretrain_source(
    backbone: str,
    folder: Path,
    *,
    images: int,
    epochs: int,
    size: int = 96,
    learning_rate: float = 2e-3,
    batch_size: int = 32,
    seed: int = 0,
    progress: Callable[[str], None] = say,
) -> Path:
    """Train ``backbone`` on the source task, or go on where that stopped.

    Args:
        backbone: key of ``BACKBONES``.
        folder: where the run ``source-<backbone>`` is kept.
        images: images to draw and train on.
        epochs: passes over them.
        size: their side, pixels.
        learning_rate: peak learning rate.
        batch_size: images a step.
        seed: of images, initialisation and order.
        progress: receives lines of text.

    Returns:
        The file with the weights of the backbone, without the head.
    """
    run = Run(folder / f"source-{backbone}")
    recipe = Recipe(
        size=size,
        augmentation="standard",
        epochs=epochs,
        learning_rate=learning_rate,
        batch_size=batch_size,
        weight_decay=5e-3,
        patience=epochs,
        seed=seed,
    )
    options = CNN_OPTIONS if backbone == "cnn" else {}
    path = run.folder / "backbone.weights.h5"
    settings = {"backbone": backbone, "options": options, "recipe": recipe, "images": images}
    config = known_by(settings, pretrain_source)
    if run.begin(config, files=(path.name,), figures=("map", "seconds"), progress=progress):
        return path
    progress(f"{run.name}: drawing {images} images of the source task")
    fit_set = source_dataset(images, size, "train", seed)
    held = source_dataset(max(16, images // 10), size, "val", seed)
    keras.utils.set_random_seed(seed)
    model = build_classifier(backbone, len(fit_set.class_names), options=options)
    start_from_prior(model, fit_set.labels)
    pixels = np.stack([held.image(i) for i in range(len(held))]).astype(np.float32) / 255.0

    def score(current):
        chunks = [predict(current, pixels[k : k + 32], 32) for k in range(0, len(pixels), 32)]
        return {"map": mean_average_precision(held.labels, np.concatenate(chunks))}

    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    train(model, fit_set, loss=loss, recipe=recipe, run=run, score=score, monitor="map", progress=progress)
    with atomic_path(path) as temporary:
        model.get_layer(BACKBONE).save_weights(temporary)
    best = max(entry["map"] for entry in run.history)
    run.finish({"map": best, "seconds": sum(e.get("seconds", 0.0) for e in run.history)})
    return path
