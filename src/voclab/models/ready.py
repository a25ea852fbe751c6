"""The networks that come with the package: where their files are, and opening them.

One network of :func:`voclab.models.joint.build_joint` is both: a classifier called ``ready`` and a segmenter
called ``ready-segmenter``, wherever a run's folder can be named. Its kernels are kept in half precision, what
normalises in full: a running variance can be smaller than the smallest half-precision number.
"""

from pathlib import Path

import numpy as np

from voclab.errors import VoclabError
from voclab.files import atomic_path, read_arrays, read_json

FOLDER = Path(__file__).parents[1] / "weights"
CLASSIFIER, SEGMENTER = "ready", "ready-segmenter"
NAMES = (CLASSIFIER, SEGMENTER)
ARRAYS, LITE, CARD = "ready.npz", "ready.tflite", "ready.json"
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

    model, path = build_joint(**card()["network"]), FOLDER / ARRAYS
    arrays = read_arrays(path, REMEDY)
    for weight in model.weights:
        values = arrays.pop(weight.path, None)
        if values is None or values.shape != tuple(weight.shape):
            raise VoclabError(f"{path} does not hold {weight.path}; {REMEDY}.")
        weight.assign(values.astype(np.float32))
    if arrays:
        raise VoclabError(f"{path} holds {next(iter(arrays))}, which no layer takes; {REMEDY}.")
    return model


def save_arrays(model, path: str | Path) -> None:
    """Write the weights of a network of ``build_joint`` for :func:`load_joint`.

    Raises:
        VoclabError: a kernel has values that half precision cannot hold.
    """
    arrays = {}
    for weight in model.weights:
        values = np.asarray(weight)
        halved = values.astype(np.float16) if values.ndim > 1 else values
        if not np.isfinite(halved).all():
            raise VoclabError(f"{weight.path} has values beyond half precision; train with weight decay.")
        arrays[weight.path] = halved
    with atomic_path(path) as unfinished:
        np.savez_compressed(unfinished, **arrays)
