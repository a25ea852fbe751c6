"""What a training by name is asked for: ``voclab train``'s options, checked before Keras is imported."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

from voclab import options
from voclab.errors import VoclabError
from voclab.files import read_json
from voclab.models.catalogue import ZOO, require_weights, require_width, trainable

AUGMENTATIONS = ("none", "standard", "advanced", "adversarial")
OPTIMIZERS = ("adam", "sgd")


@dataclass(frozen=True)
class Plan:
    """Everything that decides a training; ``config.json`` of its run keeps it.

    Attributes:
        dataset: name or folder, as for :func:`voclab.data.find`.
        model: one of ``voclab.models.catalogue.TRAINABLE``.
        augmentation: one of :data:`AUGMENTATIONS`; ``adversarial`` is PGD adversarial training (Madry et al.
            2018) on standard augmentation.
        epochs: longest training.
        learning_rate: its peak; without it 1e-3 (AdamW), 1e-4 (AdamW from pretrained weights) or 0.1 (SGD).
        batch_size: images a step.
        size: side of the images, pixels; without it their own up to 64, else 128.
        optimizer: one of :data:`OPTIMIZERS`.
        momentum: of SGD.
        weight_decay: see :class:`voclab.training.Recipe`.
        dropout: before the last layer.
        smoothing: label smoothing.
        mixup: alpha of mixup, 0 for none.
        weights: ``None``, ``"imagenet"`` or a file with weights of the backbone.
        width: of the network, see :func:`voclab.models.zoo.build`.
        epsilon: L∞ bound of adversarial training, steps of 1/255.
        steps: PGD steps inside it.
        patience: epochs without a better validation score before training stops.
        validation: share of the training images that epochs are chosen on.
        seed: of everything.
    """

    dataset: str
    model: str
    augmentation: str = "standard"
    epochs: int = 20
    learning_rate: float | None = None
    batch_size: int = 64
    size: int | None = None
    optimizer: str = "adam"
    momentum: float = 0.9
    weight_decay: float = 1e-4
    dropout: float = 0.2
    smoothing: float = 0.0
    mixup: float = 0.0
    weights: str | None = None
    width: float | None = None
    epsilon: float = 8.0
    steps: int = 4
    patience: int = 15
    validation: float = 0.1
    seed: int = 0

    @classmethod
    def read(cls, path: str | Path) -> "Plan":
        """The plan in a run's ``config.json``.

        Raises:
            VoclabError: no such file, one of another kind of run, or a value that makes no sense.
        """
        config = read_json(path)
        plan = config.get("plan") if isinstance(config, dict) else None
        if not isinstance(plan, dict) or not {"dataset", "model"} <= set(plan):
            raise VoclabError(f"{path} is not of a run of `voclab train`; name one that is.")
        unknown = sorted(set(plan) - set(CHECKS))
        if unknown:
            raise VoclabError(
                f"{path} has the option {options.shown(unknown[0])}, which `voclab train` does not know; it"
                f" knows {', '.join(CHECKS)}."
            )
        return cls(**{name: _checked(f"{name} in {path}", name, value) for name, value in plan.items()})


# Field of a plan -> what it may be.
CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "dataset": options.text,
    "model": trainable,
    "augmentation": partial(options.one_of, allowed=AUGMENTATIONS),
    "epochs": partial(options.whole, low=0, high=100_000),
    "learning_rate": partial(options.positive, high=1000),
    "batch_size": partial(options.whole, low=1, high=65_536),
    "size": options.side,
    "optimizer": partial(options.one_of, allowed=OPTIMIZERS),
    "momentum": partial(options.number, high=0.9999),
    "weight_decay": partial(options.number, high=1000),
    "dropout": partial(options.number, high=0.99),
    "smoothing": partial(options.number, high=1),
    "mixup": partial(options.number, high=100),
    "weights": options.text,
    "width": partial(options.positive, high=4096),
    "epsilon": partial(options.number, high=255),
    "steps": partial(options.whole, low=1, high=1000),
    "patience": partial(options.whole, low=1, high=100_000),
    "validation": partial(options.number, low=0.001, high=0.9),
    "seed": options.seed,
}
_OPEN = {field.name for field in fields(Plan) if field.default is None}  # decided later where it is None
_SPELT = {"smoothing": "--label-smoothing"}


def option(name: str) -> str:
    """A field of a plan as it is typed."""
    return _SPELT.get(name, f"--{name.replace('_', '-')}")


def _checked(name: str, field: str, value: Any) -> Any:
    return None if value is None and field in _OPEN else CHECKS[field](name, value)


def checked(plan: Plan) -> Plan:
    """The plan with every value as it is used.

    Raises:
        VoclabError: one that makes no sense, also together with another.
    """
    plan = Plan(**{name: _checked(option(name), name, value) for name, value in asdict(plan).items()})
    require_width(plan.model, plan.width)
    require_weights(ZOO[plan.model].backbone if plan.model in ZOO else plan.model, plan.weights)
    return plan


def plan_from(typed: Mapping[str, Any], config: str | Path | None) -> Plan:
    """The plan of a command line: what a file says, changed by what was typed.

    Args:
        typed: field of :class:`Plan` -> value, ``None`` where nothing was typed.
        config: ``config.json`` of a run, or ``None``.

    Raises:
        VoclabError: neither a file nor both data and model are named, or a value that makes no sense.
    """
    typed = {key: value for key, value in typed.items() if value is not None}
    if config is not None:
        return checked(Plan(**asdict(Plan.read(config)) | typed))
    missing = [option(key) for key in ("dataset", "model") if key not in typed]
    if missing:
        raise VoclabError(f"{' and '.join(missing)} must be named, or a run's file with --config.")
    return checked(Plan(**typed))


def usual_name(plan: Plan) -> str:
    """Folder of a run that was given no name."""
    return f"{Path(plan.dataset).name}-{plan.model}-{plan.augmentation}-seed{plan.seed}"
