"""What `voclab train` is asked for: one table of options, checked before Keras is imported."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from voclab import options
from voclab.errors import VoclabError
from voclab.files import read_json
from voclab.models.catalogue import BACKBONES, ZOO, require_weights, require_width, trainable

TASKS = ("classification", "segmentation", "adversary", "simsiam")
AUGMENTATIONS = ("none", "standard", "advanced", "adversarial")
SEGMENTERS = ("unet", "deeplab")
LOSSES = ("cross_entropy", "dice", "cross_entropy_dice", "focal", "lovasz")


@dataclass(frozen=True)
class Option:
    """One option of a training.

    Attributes:
        check: converts what was typed, or a value of a file; called with the name and the value.
        help: for people.
        default: its value where nothing is typed; one for each task where they differ, ``None`` where it
            follows from the data.
        tasks: which it is for.
    """

    check: Callable[[str, Any], Any]
    help: str
    default: Any = None
    tasks: tuple[str, ...] = TASKS

    def usual(self, task: str) -> Any:
        """Its default for a task."""
        return self.default[task] if isinstance(self.default, dict) else self.default


_LABELS, _MASKS, _ATTACK, _VIEWS = ((task,) for task in TASKS)
OPTIONS: dict[str, Option] = {
    "task": Option(partial(options.one_of, allowed=TASKS), ", ".join(TASKS), "classification"),
    "dataset": Option(options.text, "a name, or a folder, also of images by class"),
    "model": Option(
        lambda name, value: value if value in SEGMENTERS else trainable(name, value),
        f"a classifier, e.g. resnet8, vgg or mobilenet_v2; of segmenters {' or '.join(SEGMENTERS)}",
        tasks=_LABELS + _MASKS + _VIEWS,
    ),
    "backbone": Option(
        partial(options.one_of, allowed=BACKBONES),
        "network that a segmenter is built on (default: none)",
        tasks=_MASKS,
    ),
    "loss": Option(
        partial(options.one_of, allowed=LOSSES),
        f"of segmenters: {', '.join(LOSSES)} (default: cross_entropy_dice)",
        "cross_entropy_dice",
        _MASKS,
    ),
    "victim": Option(options.text, "run whose network an adversary attacks", tasks=_ATTACK),
    "augmentation": Option(
        partial(options.one_of, allowed=AUGMENTATIONS),
        f"{', '.join(AUGMENTATIONS)}: PGD against the network in training (default: standard)",
        "standard",
        _LABELS + _MASKS + _ATTACK,
    ),
    "epochs": Option(partial(options.whole, high=100_000), "longest training (default: 20)", 20),
    "learning_rate": Option(
        partial(options.positive, high=1000),
        "its peak (default: 0.1 with SGD; 1e-4 for classifiers with weights; else 1e-3)",
    ),
    "batch_size": Option(
        partial(options.whole, low=1, high=65_536),
        "images a step (default: 64, of simsiam 128, else 16)",
        {"classification": 64, "segmentation": 16, "adversary": 16, "simsiam": 128},
    ),
    "size": Option(
        options.side,
        "side of the images in pixels (default: the victim's; else their own up to 64, or 128)",
    ),
    "optimizer": Option(
        partial(options.one_of, allowed=("adam", "sgd")),
        "adam, or sgd (default: adam, of simsiam sgd)",
        {"classification": "adam", "segmentation": "adam", "adversary": "adam", "simsiam": "sgd"},
    ),
    "momentum": Option(partial(options.number, high=0.9999), "of SGD (default: 0.9)", 0.9),
    "weight_decay": Option(
        partial(options.number, high=1000),
        "on kernels, times the learning rate (default: 1e-4; of an adversary 0, of simsiam 5e-3)",
        {"classification": 1e-4, "segmentation": 1e-4, "adversary": 0.0, "simsiam": 5e-3},
    ),
    "dropout": Option(
        partial(options.number, high=0.99), "before the last layer (default: 0.2)", 0.2, _LABELS
    ),
    "smoothing": Option(partial(options.number, high=1), "from 0 (default) to 1", 0.0, _LABELS),
    "mixup": Option(partial(options.number, high=100), "alpha of mixup (default: 0, none)", 0.0, _LABELS),
    "weights": Option(
        options.text, "imagenet, or a file with the backbone's weights", tasks=_LABELS + _MASKS + _VIEWS
    ),
    "width": Option(
        partial(options.positive, high=4096),
        "of the network (default: as published; of an adversary's decoder 128)",
    ),
    "epsilon": Option(
        partial(options.number, high=255),
        "bound of adversarial training, in steps of 1/255 (default: 8)",
        8.0,
        _LABELS,
    ),
    "steps": Option(
        partial(options.whole, low=1, high=1000),
        "PGD steps inside adversarial training (default: 4)",
        4,
        _LABELS,
    ),
    "trades": Option(
        partial(options.number, high=1000),
        "beta of TRADES in place of PGD training, e.g. 6 (default: 0, PGD training)",
        0.0,
        _LABELS,
    ),
    "ema": Option(
        partial(options.number, high=0.99999),
        "momentum of a moving average of the weights, which is scored and kept, e.g. 0.99 (default: 0, none)",
        0.0,
        _LABELS + _MASKS + _VIEWS,
    ),
    "patience": Option(
        partial(options.whole, low=1, high=100_000),
        "epochs without a better score before it stops (default: 15)",
        15,
        _LABELS + _MASKS + _ATTACK,
    ),
    "validation": Option(
        partial(options.number, low=0.001, high=0.9),
        "share of the training images that epochs are chosen on (default: 0.1)",
        0.1,
    ),
    "seed": Option(options.seed, "of everything (default: 0)", 0),
}


def option(name: str) -> str:
    """An option as it is typed."""
    return "--label-smoothing" if name == "smoothing" else f"--{name.replace('_', '-')}"


def asked(typed: Mapping[str, Any], config: str | Path | None = None) -> dict[str, Any]:
    """Every option of a training: what a file says, changed by what was typed, and defaults for the rest.

    Args:
        typed: name of an option -> value, ``None`` where nothing was typed.
        config: ``config.json`` of a run of `voclab train`, or ``None``.

    Raises:
        VoclabError: something that must be named is missing, or a value makes no sense, alone, for the task
            or together with another.
    """
    typed = {name: value for name, value in typed.items() if value is not None}
    found = (_read(config) if config is not None else {}) | {
        name: OPTIONS[name].check(option(name), value) for name, value in typed.items()
    }
    task = found.get("task", OPTIONS["task"].default)
    needed = ("dataset", "victim" if task == "adversary" else "model")
    if missing := [option(name) for name in needed if name not in found]:
        raise VoclabError(f"{' and '.join(missing)} must be named, or a run's file with --config.")
    for name in found:
        if task not in OPTIONS[name].tasks:
            *most, last = OPTIONS[name].tasks
            known = " and ".join(filter(None, (", ".join(most), last)))
            raise VoclabError(f"{option(name)} is for {known}, not for {task}.")
    found = {name: o.usual(task) for name, o in OPTIONS.items() if task in o.tasks} | found
    changed = {name for name in typed if found[name] != OPTIONS[name].usual(task)}
    if "momentum" in changed and found["optimizer"] != "sgd":
        raise VoclabError(f"--momentum is of SGD, not of {found['optimizer']}; add --optimizer sgd.")
    for name in ("epsilon", "steps"):
        if name in changed and found["augmentation"] != "adversarial":
            raise VoclabError(f"--{name} is of adversarial training; add --augmentation adversarial.")
    if found.get("augmentation") == "adversarial" and task != "classification":
        raise VoclabError(f"--augmentation adversarial is for classification, not for {task}.")
    if found.get("trades") and found["augmentation"] != "adversarial":
        raise VoclabError("--trades is a kind of adversarial training; add --augmentation adversarial.")
    complete = {"segmentation": _segmenter, "adversary": _of_channels}.get(task, _classifier)
    return complete(found)


def _classifier(found: dict[str, Any]) -> dict[str, Any]:
    model = trainable("model", found["model"])
    found["width"] = require_width(model, found["width"])
    require_weights(ZOO[model].backbone if model in ZOO else model, found["weights"])
    return found


def _segmenter(found: dict[str, Any]) -> dict[str, Any]:
    options.one_of("model", found["model"], SEGMENTERS)
    if found["backbone"] is None and (found["model"] != "unet" or found["weights"] is not None):
        raise VoclabError("--backbone must be named, for deeplab and for weights.")
    return _on_backbone(found)


def _of_channels(found: dict[str, Any]) -> dict[str, Any]:
    if found["width"] is not None:
        found["width"] = options.whole("--width", found["width"], 1, 4096)
    return found


def _on_backbone(found: dict[str, Any]) -> dict[str, Any]:
    found = _of_channels(found)
    if found["backbone"] is not None:
        require_weights(found["backbone"], found["weights"])
    elif found["weights"] is not None:
        raise VoclabError("--weights are of a backbone; name it with --backbone.")
    return found


def _read(path: str | Path) -> dict[str, Any]:
    """The options in a run's ``config.json``."""
    config = read_json(path)
    found = config.get("asked") if isinstance(config, dict) else None
    if not isinstance(found, dict) or "dataset" not in found:
        raise VoclabError(f"{path} is not of a run of `voclab train`; name one that is.")
    if unknown := sorted(set(found) - set(OPTIONS)):
        raise VoclabError(
            f"{path} has the option {options.shown(unknown[0])}, which `voclab train` does not know; it knows"
            f" {', '.join(OPTIONS)}."
        )
    return {
        name: OPTIONS[name].check(f"{name} in {path}", value)
        for name, value in found.items()
        if value is not None or OPTIONS[name].default is not None
    }


def usual_name(found: Mapping[str, Any]) -> str:
    """Folder of a run that was given no name."""
    if found["task"] == "adversary":
        return f"{Path(found['victim']).name}-adversary-seed{found['seed']}"
    kind = found["task"] if found["task"] == "simsiam" else found["augmentation"]
    what = "-".join(filter(None, (found["model"], found.get("backbone"), kind)))
    return f"{Path(found['dataset']).name}-{what}-seed{found['seed']}"
