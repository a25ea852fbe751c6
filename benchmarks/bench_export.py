"""One image through a network: Keras, its compiled graph, and what `voclab export` writes, with sizes."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import common
import keras
import numpy as np
import tensorflow as tf

from voclab.app import litert
from voclab.app.export import FORMATS, export
from voclab.files import write_json
from voclab.models.classifiers import build_classifier
from voclab.models.network import Network
from voclab.models.segmenters import build_encoder_unet, build_unet

SIZE = 224


def networks(quick: bool) -> dict[str, tuple[keras.Model, str]]:
    """Name -> model and task. Pretrained, or hardly anything would be left of the logits to compare."""
    if quick:
        return {"U-Net": (build_unet(5, width=4, depth=1), "segmentation")}
    backbone = "efficientnet_lite0"
    return {
        "EfficientNet-Lite0 classifier": (build_classifier(backbone, 20, weights="imagenet"), "multilabel"),
        "U-Net on EfficientNet-Lite0": (build_encoder_unet(backbone, 21, weights="imagenet"), "segmentation"),
    }


def run(model: keras.Model, task: str, size: int, folder: Path) -> Path:
    """The network saved as training saves it."""
    classes = model.output_shape[-1] - (task == "segmentation")
    names = [f"class {k}" for k in range(classes)]
    write_json(folder / "config.json", {"task": task, "class_names": names, "recipe": {"size": size}})
    model.save(folder / "model.keras")
    return folder


def ways(model: keras.Model, task: str, folder: Path, size: int) -> tuple[dict[str, Callable], str]:
    """Ways to compute one image, and a sentence on their sizes and how far their logits are apart."""
    pixels = np.random.default_rng(1).random((1, size, size, 3), dtype=np.float32)
    network = Network(model, task)
    found = {
        "Keras predict": lambda: model.predict(pixels, verbose=0),
        common.OURS: lambda: network.logits(pixels),
    }
    told = [f"model.keras {(folder / 'model.keras').stat().st_size / 1e6:.1f} MB"]
    for name in FORMATS:
        if name == "onnx" and not (find_spec("tf2onnx") and find_spec("onnxruntime")):
            continue
        done = export(folder, name)
        told.append(f"{name} {done.megabytes:.1f} MB (logits within {done.difference:.1g} of Keras')")
        found |= opened(name, done.folder / FORMATS[name], pixels)
    return found, f"{', '.join(told)}."


def opened(name: str, path: Path, pixels: np.ndarray) -> dict[str, Callable]:
    """The runtimes of a format on an image."""
    if name == "savedmodel":
        serve = tf.saved_model.load(str(path)).signatures["serving_default"]
        return {"SavedModel": lambda: serve(pixels=tf.constant(pixels))["output_0"].numpy()}
    if name == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        return {"ONNX Runtime": lambda: session.run(None, {"pixels": pixels})}
    found = {}
    for threads in sorted({1, os.cpu_count()}):
        answer, _ = litert.interpreter(path, threads)
        found[f"LiteRT, {threads} thread{'s' * (threads > 1)}"] = lambda answer=answer: answer(pixels)
    return found


def processor_time(call: Callable, repetitions: int) -> float:
    """Seconds of all cores together for one call, the median: what a busy machine has to give for it."""
    seconds = []
    for _ in range(repetitions):
        start = time.process_time()
        call()
        seconds.append(time.process_time() - start)
    return statistics.median(seconds)


def measure(quick: bool) -> common.Report:
    keras.utils.set_random_seed(0)
    size, repetitions = (32, 1) if quick else (SIZE, 20)
    cases = []
    for name, (model, task) in networks(quick).items():
        with tempfile.TemporaryDirectory() as folder:
            timed, sizes = ways(model, task, run(model, task, size, Path(folder)), size)
            seconds = common.timed(timed, repetitions)
            work = {name: processor_time(call, repetitions) for name, call in timed.items()}
        spent = ", ".join(f"{name} {1000 * value:.0f} ms" for name, value in work.items())
        cases.append(common.Case(name, seconds, note=f"Processor time of one image: {spent}. {sizes}"))
    return common.Report(
        "export",
        "Exported networks",
        "*voclab* is `Network.logits`, one `tf.function` for all sizes; the others are what `voclab export`"
        f" writes, each in its own runtime. One image at {size} × {size}; ImageNet weights under a new head."
        " Runtimes choose their number of threads, except for LiteRT.",
        cases,
        packages=("tensorflow", "keras", "onnxruntime", "tf2onnx", "ai-edge-litert"),
    )


if __name__ == "__main__":
    sys.exit(common.main(measure, __doc__))
