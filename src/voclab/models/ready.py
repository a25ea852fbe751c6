"""The networks that come with the package: where their files are, and opening them.

One network of :func:`voclab.models.joint.build_joint` is both: a classifier called ``ready`` and a segmenter
called ``ready-segmenter``, wherever a run's folder can be named. Its kernels are kept in half precision, what
normalises in full: a running variance can be smaller than the smallest half-precision number. A generator
that was trained to fool both is kept in the same way, without its encoder, which is theirs.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from voclab.errors import VoclabError
from voclab.files import atomic_path, read_arrays, read_json, sha256, write_json

FOLDER = Path(__file__).parents[1] / "weights"
CLASSIFIER, SEGMENTER = "ready", "ready-segmenter"
NAMES = (CLASSIFIER, SEGMENTER)
ARRAYS, LITE, CARD = "ready.npz", "ready.tflite", "ready.json"
GENERATOR, SETTINGS = "adversary.npz", "adversary.json"
REMEDY = "install voclab again"  # against a file of the package that is missing or damaged


def named(model: str | Path) -> Path | None:
    """The folder, laid out as a run's, of a network that comes with the package; ``None`` for other texts.

    A folder of one's own with such a name is called by its path, ``./ready``.
    """
    return FOLDER / model if isinstance(model, str) and model in NAMES else None


def is_ready(path: str | Path) -> bool:
    """Whether a path is the ``.keras`` file that one of :data:`NAMES` would have, had it one of its own."""
    path = Path(path)
    return path.parent.parent == FOLDER and path.parent.name in NAMES


def card() -> dict:
    """What is known of the networks: how they are built, what they were trained on, what they are worth.

    Raises:
        VoclabError: it is missing or damaged.
    """
    return read_json(FOLDER / CARD, dict, REMEDY)


def load(name: str):
    """The network of that name: ``keras.Model``, (B, H, W, 3) float32 in [0, 1] -> logits.

    Args:
        name: one of :data:`NAMES`.

    Raises:
        VoclabError: its files are missing or damaged.
    """
    from voclab.models.joint import classifier_of, segmenter_of

    model = load_joint()
    return (classifier_of if name == CLASSIFIER else segmenter_of)(model)


def load_joint():
    """Both in one ``keras.Model``, see :func:`voclab.models.joint.build_joint`."""
    from voclab.models.joint import build_joint

    model = build_joint(**card()["network"])
    _assign(model.weights, FOLDER / ARRAYS)
    return model


def save_arrays(model, path: str | Path) -> None:
    """Write the weights of a network of ``build_joint`` for :func:`load_joint`.

    Raises:
        VoclabError: a kernel has values that half precision cannot hold.
    """
    _save(model.weights, path)


# --- the generator ---


def has_generator() -> bool:
    """Whether there is a generator to load."""
    return (FOLDER / GENERATOR).is_file() and (FOLDER / SETTINGS).is_file()


def generator_settings() -> dict:
    """``victims`` (names), ``classes``, ``width``, and the digest of its ``networks``.

    Raises:
        VoclabError: they are missing or damaged, or it was trained on other networks than these.
    """
    settings = read_json(FOLDER / SETTINGS, dict, REMEDY)
    if settings.get("networks") != sha256(FOLDER / ARRAYS):
        raise VoclabError(f"{FOLDER / GENERATOR} was trained on other networks than {ARRAYS}; {REMEDY}.")
    return settings


def require_victim(name: str) -> None:
    """Refuse a network that the generator was not trained on, before Keras is imported.

    Raises:
        VoclabError: ``name`` is none of :data:`NAMES`, or the generator is missing.
    """
    if name not in NAMES:
        raise VoclabError(
            f"The generator was trained to fool {' and '.join(NAMES)}, not {name}; name one of these, or"
            " another attack."
        )
    if not has_generator():
        raise VoclabError(f"{FOLDER / GENERATOR} or {SETTINGS} is missing; {REMEDY}.")
    generator_settings()


def load_generator():
    """The :class:`voclab.models.generator.Generator` that was trained to fool the networks of :data:`NAMES`.

    Raises:
        VoclabError: its files, or those of the networks, are missing or damaged.
    """
    settings = generator_settings()

    from voclab.models.generator import build_generator
    from voclab.models.joint import classifier_of, segmenter_of
    from voclab.models.network import Network

    joint = load_joint()
    both = {
        CLASSIFIER: Network(classifier_of(joint), "multilabel", CLASSIFIER),
        SEGMENTER: Network(segmenter_of(joint), "segmentation", SEGMENTER),
    }
    victims = [both[name] for name in settings["victims"]]
    generator = build_generator(victims, settings["classes"], width=settings["width"])
    _assign(_trained(generator), FOLDER / GENERATOR)
    return generator


def save_generator(generator, folder: str | Path | None = None) -> None:
    """Write a generator, trained on the networks of :data:`NAMES`, for :func:`load_generator`.

    Args:
        generator: a :class:`voclab.models.generator.Generator`.
        folder: where its two files go; without it beside the networks.

    Raises:
        VoclabError: a kernel has values that half precision cannot hold.
    """
    folder = FOLDER if folder is None else Path(folder)
    _save(_trained(generator), folder / GENERATOR)
    settings = {name: getattr(generator, name) for name in ("victims", "classes", "width")}
    settings["networks"] = sha256(FOLDER / ARRAYS)
    write_json(folder / SETTINGS, settings)


def _trained(generator) -> list:
    return [weight for part in generator.learnt for weight in part.weights]


# --- weights and files ---


def _assign(weights: Iterable, path: Path) -> None:
    """Fill weights with the arrays of a file, which holds just these."""
    arrays = read_arrays(path, REMEDY)
    for weight in weights:
        values = arrays.pop(weight.path, None)
        if values is None or values.shape != tuple(weight.shape):
            raise VoclabError(f"{path} does not hold {weight.path}; {REMEDY}.")
        weight.assign(values.astype(np.float32))
    if arrays:
        raise VoclabError(f"{path} holds {next(iter(arrays))}, which no layer takes; {REMEDY}.")


def _save(weights: Iterable, path: str | Path) -> None:
    arrays = {}
    for weight in weights:
        values = np.asarray(weight)
        halved = values.astype(np.float16) if values.ndim > 1 else values
        if not np.isfinite(halved).all():
            raise VoclabError(f"{weight.path} has values beyond half precision; train with weight decay.")
        arrays[weight.path] = halved
    with atomic_path(path) as unfinished:
        np.savez_compressed(unfinished, **arrays)
