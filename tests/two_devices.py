"""Trains on one CPU device, then on two that share each batch; ``two_devices.py FOLDER`` writes a report.

A process of its own, since TensorFlow divides its devices only before it has used them, and keeps a strategy.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from conftest import draw_squares
from fragile_victims import four_classes, fragile_classifier, victims

from voclab import backend
from voclab.attacks import AdversarialPerturbation, AdversarialTraining, Network
from voclab.data.base import VOID
from voclab.losses import CrossEntropy, LovaszSoftmax, SoftDice, Sum
from voclab.models import zoo
from voclab.models.classifiers import predict
from voclab.models.segmenters import build_unet
from voclab.training import Experiment, Parts, Recipe, Run, Work, train
from voclab.training.classification import Classification
from voclab.training.experiment import run
from voclab.training.segmentation import Segmentation, TestTime
from voclab.training.self_supervised import SimSiam

RECIPE = Recipe(32, "standard", 2, 0.02, batch_size=8, optimizer="sgd", seed=3)
SQUARES = draw_squares()
FIT, VALIDATION = SQUARES.subset(range(24), "fit"), SQUARES.subset(range(24, 36), "validation")
NONE = {"score": None, "progress": lambda line: None}


class Killed(BaseException):
    """Stands for a kill."""


class Steep(Sum):
    """So steep that its gradient is cut."""

    def of(self, pixels):
        return 50 * super().of(pixels)


def silent(line):
    """For runs whose progress nobody reads."""


def kill(line):
    raise Killed


def classifier(folder, **options):
    keras.utils.set_random_seed(0)
    model, run = zoo.build("small_cnn", 3, width=4), Run(folder)
    run.begin({})
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    return train(model, FIT, loss=loss, recipe=RECIPE, run=run, **NONE | options)


def segmenter(folder):
    """With batch norm; some images are nearly all void; the loss is so steep that the gradient is cut."""
    keras.utils.set_random_seed(0)
    model, run = build_unet(4, width=4, depth=1), Run(folder)
    run.begin({})
    loss = Steep([CrossEntropy(), SoftDice(), LovaszSoftmax()])
    hidden = np.arange(64) < 60
    masks = [np.where(hidden & (i % 3 == 0), VOID, FIT.mask(i)).astype(np.uint8) for i in range(len(FIT))]
    data = replace(FIT, read_mask=lambda i: masks[i])
    task = Segmentation(TestTime((32,)))
    experiment = Experiment("u", task, "unet", RECIPE, loss="cross_entropy_dice")
    score = task.scorer(Work(experiment, Parts(FIT, VALIDATION, VALIDATION), run))
    options = NONE | {"score": score, "monitor": "dice", "target": "masks"}
    return train(model, data, loss=loss, recipe=replace(RECIPE, learning_rate=1e-3), run=run, **options)


def hardened(folder, **options):
    victim = {"victim": Network(fragile_classifier(norm=False), "multilabel")}
    recipe = replace(RECIPE, augmentation="none", learning_rate=0.15)
    task = AdversarialTraining(epsilon=1 / 255, steps=2, clean=True, images=0, **options)
    experiment = Experiment(folder.name, task, "victim", recipe)
    return run(experiment, parts(), folder.parent, networks=victim, progress=silent).load_model()


def trades(folder):
    return hardened(folder, trades=6.0)


def parts():
    fit, validation = four_classes(FIT), four_classes(VALIDATION)
    return Parts(fit, validation, validation)


def adversary(folder):
    """Each image draws what is asked of it; a part of the batch is handled."""
    recipe = replace(RECIPE, augmentation="none", learning_rate=0.003)
    task = AdversarialPerturbation(("classifier", "segmenter"), weight=1.0)
    experiment = Experiment(folder.name, task, "generator", recipe, options={"width": 8})
    return run(experiment, parts(), folder.parent, networks=victims(), progress=silent).load_model()


def averaged(folder):
    """With batch norm, whose statistics the averaged weights get anew."""
    recipe = replace(RECIPE, augmentation="none", learning_rate=0.3, average=0.8)
    experiment = Experiment(folder.name, Classification(dropout=0.0), "resnet8", recipe, options={"width": 4})
    return run(experiment, parts(), folder.parent, progress=silent).load_model()


def siamese(folder):
    task = SimSiam(width=16, bottleneck=8)
    experiment = Experiment(
        folder.name, task, "resnet8", replace(RECIPE, augmentation="views"), options={"width": 4}
    )
    return run(experiment, parts(), folder.parent, progress=silent).load_model()


def half_precision(folder):
    keras.config.set_dtype_policy("mixed_float16")
    try:
        return classifier(folder)
    finally:
        keras.config.set_dtype_policy("float32")


def record(training, folder):
    model = training(folder)
    history = [{k: v for k, v in entry.items() if k != "seconds"} for entry in Run(folder).history]
    return history, [weight.tolist() for weight in model.get_weights()]


def main(folder: Path) -> None:
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    trainings = (classifier, segmenter, hardened, trades, adversary, averaged, siamese)
    one = {training.__name__: record(training, folder / f"one-{training.__name__}") for training in trainings}
    backend._SHARING = "CPU"
    assert backend.use_all_gpus(8) == backend.replicas() == 2
    two = {training.__name__: record(training, folder / training.__name__) for training in trainings}
    try:
        classifier(folder / "killed", progress=kill)
        raise AssertionError("nothing was killed")
    except Killed:
        two["resumed"] = record(classifier, folder / "killed")
    two["half_precision"] = record(half_precision, folder / "half")
    pixels = np.random.default_rng(0).random((5, 32, 32, 3), np.float32)
    network = Run(folder / "classifier").load_model()
    answers = {
        "predict": predict(network, pixels, 8).tolist(),
        "called": np.asarray(network(pixels, training=False)).tolist(),
    }
    (folder / "report.json").write_text(json.dumps({"one": one, "two": two, "answers": answers}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
