"""Running LiteRT files, such as ``voclab export`` writes, without Keras and its seconds of import."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from voclab.errors import VoclabError, first_line
from voclab.files import read_json
from voclab.terminal import quiet

FILE = "network.tflite"
CARD = "network.json"


@dataclass(frozen=True, eq=False)
class LiteNetwork:
    """What :class:`voclab.models.network.Network` is to Keras: a model of pixels and how to read its answers.

    Attributes:
        answer: (1, size, size, 3) float32 in [0, 1] -> (1, …) float32 logits.
        runtime: what computes, with its version, for people.
        name: of the run.
        task: ``multilabel``, ``multiclass`` or ``segmentation``.
        class_names: without the background; empty where they are not known.
        thresholds: (classes,) probabilities above which a ``multilabel`` class counts as present; without
            them 0.5.
        size: side of its input in pixels.
    """

    answer: Callable[[np.ndarray], np.ndarray]
    runtime: str
    name: str
    task: str
    class_names: tuple[str, ...]
    thresholds: np.ndarray | None
    size: int

    def logits(self, images: np.ndarray) -> np.ndarray:
        """(B, …) float32 logits of (B, size, size, 3) images in [0, 1].

        Raises:
            VoclabError: images of another shape.
        """
        images = np.asarray(images, np.float32)
        if images.ndim != 4 or images.shape[1:] != (self.size, self.size, 3) or not len(images):
            raise VoclabError(
                f"{self.name} takes images of shape (B, {self.size}, {self.size}, 3), not {images.shape};"
                " resize them."
            )
        return np.concatenate([self.answer(image[None]) for image in images])


def open_exported(folder: str | Path, threads: int | None = None) -> LiteNetwork:
    """A network exported for LiteRT.

    Args:
        folder: with ``network.tflite`` and ``network.json``.
        threads: that compute; without it one a core.

    Raises:
        VoclabError: a file is missing or damaged, or nothing is installed that can run it.
    """
    folder = Path(folder)
    card = read_json(folder / CARD, dict)
    if card.get("format", "litert") != "litert":
        raise VoclabError(f"{folder} is an export to {card['format']}; name one made with --to litert.")
    answers, runtime = interpreter(folder / FILE, threads)
    try:
        return LiteNetwork(
            lambda pixels: only(answers(pixels)),
            runtime,
            name=card["name"],
            task=card["task"],
            class_names=tuple(card["class_names"]),
            thresholds=card["thresholds"] and np.asarray(card["thresholds"], np.float64),
            size=int(card["size"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise VoclabError(
            f"{folder / CARD} does not describe a network ({first_line(error)}); export it again."
        ) from error


def interpreter(
    path: str | Path, threads: int | None = None, remedy: str = "export it again"
) -> tuple[Callable[[np.ndarray], dict[str, np.ndarray]], str]:
    """What runs a ``.tflite`` file of one input, and the name of what computes.

    ``ai_edge_litert`` where it is installed, else TensorFlow's interpreter, whose import takes seconds.

    Args:
        path: the file; its signature names its outputs.
        threads: that compute; without it one a core.
        remedy: what to do about a file that is missing or damaged.

    Returns:
        (array of the input's shape -> name of an output -> array, name of the runtime).

    Raises:
        VoclabError: as :func:`open_exported`.
    """
    path = Path(path)
    if not path.is_file():
        raise VoclabError(f"{path} is missing; {remedy}.")
    try:
        with quiet():
            Interpreter, runtime = _runtime()
            model = Interpreter(model_path=str(path), num_threads=threads or os.cpu_count())
            model.allocate_tensors()
            serve = model.get_signature_runner()
        (taken,) = serve.get_input_details()
    except (RuntimeError, ValueError) as error:
        raise VoclabError(f"{path} cannot be loaded ({first_line(error)}); {remedy}.") from error
    return lambda pixels: serve(**{taken: np.asarray(pixels, np.float32)}), runtime


def only(answers: dict[str, np.ndarray]) -> np.ndarray:
    """The answer of a network that has one."""
    (answer,) = answers.values()
    return answer


def _runtime() -> tuple[type, str]:
    """The class of interpreters, and its name with the version."""
    if find_spec("ai_edge_litert"):
        import ai_edge_litert
        from ai_edge_litert.interpreter import Interpreter

        return Interpreter, f"LiteRT {ai_edge_litert.__version__}"
    if find_spec("tensorflow"):
        import tensorflow as tf

        return tf.lite.Interpreter, f"TensorFlow {tf.__version__}"
    raise VoclabError("Nothing here can run LiteRT files; install ai-edge-litert, or TensorFlow.")
