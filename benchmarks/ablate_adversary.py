"""What parts of the adversary's training buy: short trainings that differ in one of them.

    python benchmarks/ablate_adversary.py VOC RUNS [NAME…]

VOC is a folder with a VOCdevkit of VOC 2009; runs go to RUNS, and a killed one goes on. Victims are the
networks that come with the package; every training has 6 passes over four fifths of the training images (342
steps of eight crops of 192 px). Counted on 48 images of the other fifth, at 384 px, on 8 bits. The generator
has not seen them, its victims have, so only differences between rows mean something. NAMEs choose rows:

    base          as the package trains it
    evenly        each image's gradient is brought to the same size before it reaches the generator
    no-handling   no JPEG, blur or half size on the way to the victims
    warm-start    the first 2 of the 6 passes regress on the signs of PGD's perturbation (3 steps)
    middle        also raises the change of a middle map, which needs no labels (Nakka & Salzmann 2021)
"""

import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import keras
import make_adversary
import pandas as pd
from keras import ops

from voclab.attacks import AdversarialPerturbation, Adversary, Bench, adversary, handled
from voclab.backend import input_gradient, share_of_mean
from voclab.data import load, test_split
from voclab.data.splits import fit_validation
from voclab.models import ready
from voclab.models.generator import encoder_of, perturbed
from voclab.training import Experiment, Parts, Run
from voclab.training.experiment import run

EPOCHS, WARM = 6, 2
JUDGED = 8  # validation images that say which epoch and which size is kept
BOUNDS = (2, 4, 8)
COUNTED = 48  # validation images
STEPS, STEP = 3, 0.5  # of PGD that is regressed on; a step as a share of the bound
MIDDLE_WEIGHT = 1.0  # of the logarithm of the middle map's change


@ops.custom_gradient
def evenly(x):
    """(B, …) as it is; each image's part of the gradient then adds up to 1 / B in absolute values."""

    def gradient(*arguments, upstream=None):
        upstream = arguments[0] if upstream is None else upstream
        size = ops.sum(ops.abs(upstream), axis=tuple(range(1, len(x.shape))), keepdims=True)
        part = upstream / ops.maximum(size, 1e-20) / ops.cast(ops.shape(x)[0], upstream.dtype)
        return ops.where(size > 1e-20, part, 0.0)

    return x, gradient


@keras.saving.register_keras_serializable("voclab")
class Warm(adversary.TrainedGenerator):
    """Trained on the signs of the perturbation that PGD finds for the same image, bound, victims and goal."""

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        images, (truth, epsilon, *wanted) = x[0], y
        epsilon = adversary._column(epsilon) / 255
        moved = images
        for _ in range(STEPS):
            slope = input_gradient(lambda pixels: -self._fooling(truth, pixels, *wanted), moved)
            moved = ops.clip(moved + STEP * epsilon * ops.sign(slope), images - epsilon, images + epsilon)
            moved = ops.clip(moved, 0.0, 1.0)
        missed = ops.mean(ops.square(y_pred - ops.stop_gradient(ops.sign(moved - images))))
        self._terms["perturbed"].update_state(missed)
        return share_of_mean(missed)


@keras.saving.register_keras_serializable("voclab")
class Middle(adversary.TrainedGenerator):
    """Trained on the usual loss, and to change the map of the victims' encoder at stride 16."""

    def arm(self, fooling, aimed, handled, weight):
        super().arm(fooling, aimed, handled, weight)
        encoder = encoder_of(fooling.victims[0].model)  # not an attribute: it would become one of the layers

        def with_change(truth, changed, victims, goal, k):
            clean, now = (encoder(x, training=False)[-2] for x in (self._clean, changed))
            change = ops.mean(ops.square(now - clean), axis=(1, 2, 3))
            ratio = change / ops.mean(ops.square(clean), axis=(1, 2, 3))
            return fooling(truth, changed, victims, goal, k) - MIDDLE_WEIGHT * ops.log(ratio + 1e-3)

        with_change.present = fooling.present
        self._fooling = with_change

    def train_step(self, data):
        self._clean = data[0]
        return super().train_step(data)


def experiment(name: str, **task) -> Experiment:
    """The package's training, shorter."""
    usual = make_adversary.experiment(name)
    recipe = replace(usual.recipe, epochs=EPOCHS, patience=EPOCHS)
    return replace(usual, task=replace(usual.task, images=JUDGED, **task), recipe=recipe)


def trained(name: str, data: Parts, folder: Path) -> Run:
    """The run of a row."""
    networks = make_adversary.victims(ready.load_joint())
    found = experiment(name, handled=0.0) if name == "no-handling" else experiment(name)
    with ExitStack() as changed:
        if name == "evenly":
            even = lambda images, unit, epsilon: perturbed(images, evenly(unit), epsilon)  # noqa: E731
            changed.enter_context(patch.object(adversary, "perturbed", even))
        if name == "middle":
            changed.enter_context(patch.object(adversary, "TrainedGenerator", Middle))
        if name == "warm-start":
            first = experiment("warm")
            first = replace(first, recipe=replace(first.recipe, epochs=WARM, patience=WARM))
            last = patch.object(AdversarialPerturbation, "monitor", lambda task, work: "epoch")  # is kept
            with patch.object(adversary, "TrainedGenerator", Warm), last:
                run(first, data, folder, networks=networks)
            recipe = replace(found.recipe, epochs=EPOCHS - WARM, patience=EPOCHS)
            found = replace(found, recipe=recipe, start=first.name)
        return run(found, data, folder, networks=networks)


def main(voc: str, folder: str, *names: str) -> None:
    """Train and count."""
    fit_set, validation = fit_validation(load("voc2009", voc, "train"), 0.2, 0)
    data = Parts(fit_set, validation, load("voc2009", voc, test_split("voc2009")))
    bench = Bench(validation.spread(COUNTED), make_adversary.make_ready.SIZE)
    victims, rows = make_adversary.victims(ready.load_joint()), {}
    for name in names or ("base", "evenly", "no-handling", "warm-start", "middle"):
        done = trained(name, data, Path(folder))
        attack = Adversary(done.load_model(), ready.NAMES)
        rows[name] = {"times": done.metrics["validation"]["times"], "seconds": done.metrics["seconds"]}
        for steps in BOUNDS:
            images, _ = bench.attack(attack, victims[ready.CLASSIFIER], steps / 255)
            for of, network in victims.items():
                rows[name][f"{of} {steps}"] = bench.effect(network, images)["success"]
                if steps == BOUNDS[-1]:
                    after = handled(images, "JPEG, quality 75")
                    rows[name][f"{of} {steps} JPEG 75"] = bench.effect(network, after)["success"]
        print(name, {key: round(value, 3) for key, value in rows[name].items()}, flush=True)
    print(pd.DataFrame.from_dict(rows, orient="index").round(3).to_string())


if __name__ == "__main__":
    if len(sys.argv) < 3:
        raise SystemExit(__doc__)
    main(*sys.argv[1:])
