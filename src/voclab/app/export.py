"""A network as files for other programs: SavedModel, ONNX, LiteRT. What is written is compared with Keras."""

import contextlib
import json
import os
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from voclab import __version__
from voclab.app import litert
from voclab.app.litert import CARD
from voclab.errors import VoclabError, first_line
from voclab.files import atomic_folder, read_json, write_json
from voclab.models.saved import folder_beside, model_file
from voclab.terminal import quiet, start_keras

TOLERANCE = 1e-4  # of a logit, against Keras
# Format -> what is written beside the card; SavedModel as TensorFlow Serving looks for it, by version.
FORMATS = {"savedmodel": "1", "onnx": "network.onnx", "litert": litert.FILE}
_NEEDED = {"onnx": ("tf2onnx", "onnxruntime")}


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        folder: that holds the model and its card, ``network.json``.
        megabytes: size of the model, 1e6 bytes.
        difference: the largest difference of a logit from Keras'.
    """

    folder: Path
    megabytes: float
    difference: float


def export(model: str | Path, to: str, folder: str | Path | None = None, size: int | None = None) -> Exported:
    """Write a trained network in another format, if it answers there as it does in Keras.

    It goes into a folder named after the format, whole or not at all, with ``network.json``: task, classes in
    order, thresholds and size. The network takes (B, H, W, 3) float32 RGB in [0, 1] and gives logits, as all
    of ours do; one that was trained in mixed precision is written in float32.

    Args:
        model: a run's folder, a ``.keras`` file, ``ready`` or ``ready-segmenter``.
        to: one of :data:`FORMATS`.
        folder: where the folder of the format goes; without it ``export`` beside the model, for ``ready`` in
            ``runs/ready``.
        size: side of the images, pixels; without it that of the run's training. SavedModel and ONNX take
            images of other sizes all the same, LiteRT one image of this size.

    Raises:
        VoclabError: no such model, no size, a package that is missing, something else of the name of the
            format's folder, a converter that fails, or a logit that differs by more than :data:`TOLERANCE`.
    """
    missing = [name for name in _NEEDED.get(to, ()) if find_spec(name) is None]
    if missing:
        raise VoclabError(f'{to} needs {" and ".join(missing)}; install "voclab[export]".')
    file = model_file(model)
    target = Path(folder or folder_beside(file) / "export") / to
    _require_ours(target, to)

    start_keras()
    from voclab.evaluation import open_saved  # imports Keras

    network = open_saved(file, size)
    network = replace(network, model=_in_float32(network.model))
    with atomic_folder(target) as unfinished:
        written = unfinished / FORMATS[to]
        try:
            with quiet():
                answer = _WRITERS[to](network, written)
                difference = _difference(network, answer)
        except (VoclabError, OSError):
            raise
        except Exception as error:  # each converter has errors of its own
            raise VoclabError(
                f"{network.name} cannot be written as {to} ({first_line(error)}); choose another format."
            ) from error
        if not difference <= TOLERANCE:
            raise VoclabError(
                f"As {to}, {network.name} answers otherwise than in Keras: a logit differs by"
                f" {difference:.2g}; choose another format."
            )
        write_json(unfinished / CARD, _card(network, to))
    return Exported(target, _megabytes(target / FORMATS[to]), difference)


def _require_ours(target: Path, to: str) -> None:
    """Refuse to replace what is no export of ours."""
    if not os.path.lexists(target):
        return
    ours = False
    if target.is_dir() and not target.is_symlink():
        there = {path.name for path in target.iterdir()}
        with contextlib.suppress(VoclabError):
            ours = not there or (
                there <= {FORMATS[to], CARD} and read_json(target / CARD, dict).get("format") == to
            )
    if not ours:
        raise VoclabError(
            f"{target} is in the way, and voclab did not write it; move it away or name another folder."
        )


def _in_float32(model):
    """The same network without mixed precision, which is made for GPUs and unknown to LiteRT."""
    import keras

    described = json.dumps(keras.saving.serialize_keras_object(model))
    if '"mixed_' not in described:
        return model
    described = re.sub('"mixed_b?float16"', '"float32"', described)
    again = keras.saving.deserialize_keras_object(json.loads(described))
    again.set_weights(model.get_weights())
    return again


def _savedmodel(network, path: Path) -> Callable[[np.ndarray], np.ndarray]:
    import tensorflow as tf

    _save(network, path, (None, None, None, 3))
    serve = tf.saved_model.load(str(path)).signatures["serving_default"]  # what TensorFlow Serving calls
    return lambda images: serve(pixels=tf.constant(images))["output_0"].numpy()


def _onnx(network, path: Path) -> Callable[[np.ndarray], np.ndarray]:
    import onnxruntime
    import tf2onnx

    serve = _graph(network, (None, None, None, 3))
    tf2onnx.convert.from_function(serve, serve.input_signature, output_path=str(path))
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: session.run(["output_0"], {"pixels": images})[0]


def _litert(network, path: Path) -> Callable[[np.ndarray], np.ndarray]:
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as saved:
        _save(network, Path(saved), (1, network.size, network.size, 3))
        path.write_bytes(tf.lite.TFLiteConverter.from_saved_model(saved).convert())
    answers, _ = litert.interpreter(path)
    return lambda images: np.concatenate([litert.only(answers(image[None])) for image in images])


_WRITERS = {"savedmodel": _savedmodel, "onnx": _onnx, "litert": _litert}


def _graph(network, shape: tuple):
    """The ``tf.function`` of a network, for images of that shape."""
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.float32, "pixels")])
    def serve(pixels):
        return {"output_0": tf.cast(network.model(pixels, training=False), tf.float32)}

    return serve


def _save(network, path: Path, shape: tuple) -> None:
    """Write a SavedModel. Keras' own exporter (3.15) writes every weight twice."""
    import tensorflow as tf

    module = tf.Module()
    module.serve, module.weights = _graph(network, shape), [v.value for v in network.model.variables]
    tf.saved_model.save(module, str(path), signatures=module.serve)


def _difference(network, answer: Callable[[np.ndarray], np.ndarray]) -> float:
    """Largest difference of a logit over three images: noise, a gradient of colours, coloured blocks."""
    size, rng = network.size, np.random.default_rng(0)
    side = np.linspace(0, 1, size, dtype=np.float32)
    gradient = np.stack([*np.meshgrid(side, side), np.full((size, size), 0.5, np.float32)], -1)
    blocks = rng.random((8, 8, 3), dtype=np.float32)[np.ix_(*[np.arange(size) * 8 // size] * 2)]
    images = np.stack([rng.random(gradient.shape, dtype=np.float32), gradient, blocks])
    return float(np.abs(network.logits(images) - answer(images)).max())


def _card(network, to: str) -> dict:
    thresholds = None if network.thresholds is None else [float(t) for t in network.thresholds]
    maps = network.task == "segmentation"
    shape = "(B, H, W, classes + 1), background first" if maps else "(B, classes)"
    return {
        "voclab": __version__,
        "format": to,
        "name": network.name,
        "task": network.task,
        "class_names": list(network.class_names),
        "thresholds": thresholds,
        "size": network.size,
        "input": "(B, H, W, 3) float32 RGB in [0, 1]",
        "output": f"logits {shape}",
    }


def _megabytes(path: Path) -> float:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file()) / 1e6
