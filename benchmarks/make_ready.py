"""Train the networks that come with the package on VOC 2009, and write src/voclab/weights.

    python benchmarks/make_ready.py VOC RUNS [PART…]

VOC is a folder with a VOCdevkit of VOC 2009; runs go to RUNS, and a killed one goes on. The network is
trained on four fifths of the training images; views, thresholds and the weight of the classifier's two parts
are chosen on the rest. Then it is trained once more on all of them, and shipped. A second seed, on the four
fifths, says how much chance there is in the figures. What the card says is measured here, at the end. With
PARTs (choices, shipped, spread) these are trained and nothing more is done, so that several can be trained at
the same time.
Needs `pip install "voclab[weights]"`.
"""

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import jinja2
import keras
import numpy as np
import tensorflow as tf
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from voclab.app import predict
from voclab.data import load, test_split
from voclab.data.base import Dataset
from voclab.data.splits import fit_validation
from voclab.evaluation import conditions
from voclab.files import atomic_path, make_folder, sha256, write_json
from voclab.metrics import SegmentationMetrics, choose_thresholds, mean_average_precision
from voclab.models import ready
from voclab.models.joint import PRESENCE, build_joint, classifier_of, segmenter_of
from voclab.models.network import Network
from voclab.models.prediction import TestTime
from voclab.training import Experiment, Parts, Recipe, Run
from voclab.training.experiment import run_chain
from voclab.training.joint import Joint

TRAINED = {"choices": ("fit", 0), "shipped": ("all", 0), "spread": ("fit", 1)}  # name -> images, seed
BACKBONE = "efficientnet_lite2"
SIZE = 384  # pixels: of the crops in fine-tuning, and of one view of a whole image
DECODER = {"width": 160, "finest": 4}  # what build_joint takes anyway; the card keeps it
PLACES = (0.5, 1.0, 2.0, 3.0, 5.0)  # weights tried for what places say of presence
VIEWS = ((SIZE,), (448,), (SIZE, 512), (SIZE, 448, 512))
_PREDICTED = {"mAP": "map", "Dice": "dice", "mIoU": "miou"}
ATTACKED = 64  # images, as `voclab evaluate --model ready` attacks


def experiments(seed: int) -> list[Experiment]:
    """The decoder on the frozen encoder, on smaller and easier crops; then all of it, at a lower rate."""
    joint = Joint(TestTime((SIZE,), flip=False), looked_at=SIZE)

    def of(name: str, size: int, augmentation: str, epochs: int, rate: float, **more) -> Experiment:
        given = {"batch_size": 8, "weight_decay": 1e-3, "seed": seed, "patience": epochs}
        recipe = Recipe(size, augmentation, epochs, rate, **given)
        name = f"{name}-{seed}"
        return Experiment(name, joint, "joint", recipe, backbone=BACKBONE, weights="imagenet", **more)

    frozen = of("frozen", 320, "standard", 8, 2e-3, frozen=True)
    return [frozen, of("tuned", SIZE, "advanced", 20, 1e-4, start=frozen.name)]


def main(voc: str, folder: str, *only: str) -> None:
    """Train, choose, write, measure; with names of :data:`TRAINED` train these, and nothing more."""
    train = load("voc2009", voc, "train")
    fit_set, validation = fit_validation(train, 0.2, 0)
    test = load("voc2009", voc, test_split("voc2009"))

    def trained(name: str) -> Run:
        images, seed = TRAINED[name]
        # With all images nothing is chosen on those of validation, which are among them.
        data = Parts({"fit": fit_set, "all": train}[images], validation, test)
        planned = {e.name: e for e in experiments(seed)}
        return run_chain(f"tuned-{seed}", planned, data, Path(folder) / images, cache_mb=2048)

    if only:
        for name in only:
            trained(name)
        return
    chosen, shipped = trained("choices"), trained("shipped")
    views = choose(chosen, validation)
    balance = balanced(chosen.load_model(), validation, views[ready.CLASSIFIER])
    judged = rebalanced(chosen.load_model(), *balance)
    thresholds = choose_thresholds(validation.labels, one_look(judged, validation))
    write(rebalanced(shipped.load_model(), *balance), test.class_names, views, thresholds)
    card = measured(test)
    card["minutes"] = round(shipped.metrics["seconds"] / 60, 1)
    card["recipe"] = {e.name.split("-")[0]: vars(e.recipe) for e in experiments(0)}
    card["files"] = {name: sha256(ready.FOLDER / name) for name in (ready.ARRAYS, ready.LITE)}
    card["on four fifths"] = {"seed 0": _figures(chosen)}
    write_card(card)
    card["on four fifths"]["seed 1"] = _figures(trained("spread"))
    write_card(card)


def measured(test: Dataset) -> dict:
    """The card with the figures of the test images."""
    reports = {
        name: conditions.report(name, test, settings={}, attacked=ATTACKED, progress=print)
        for name in ready.NAMES
    }
    found = {name: report.as_dict() for name, report in reports.items()}
    for figures in found.values():
        del figures["reliability"]
    return {**ready.card(), "test": found, "predict": predicted(test)}


def _figures(run: Run) -> dict[str, dict[str, float]]:
    keys = ("map", "mean_dice", "mean_iou")
    return {part: {key: run.metrics[part][key] for key in keys} for part in ("validation", "test")}


def choose(run: Run, validation: Dataset) -> dict[str, TestTime]:
    """For each of the two networks the views with the highest Dice, or mAP, on the validation images."""
    model, chosen = run.load_model(), {}
    for name, part, task, key in (
        (ready.CLASSIFIER, classifier_of, "multilabel", "map"),
        (ready.SEGMENTER, segmenter_of, "segmentation", "dice"),
    ):
        network, found = Network(part(model), task, name), {}
        for views in map(TestTime, VIEWS):
            found[views] = conditions.all_views(replace(network, test_time=views), validation, print)[key]
            print(f"{name}, {views}: validation {key} {found[views]:.4f}", flush=True)
        chosen[name] = max(found, key=found.__getitem__)
    return chosen


def balanced(model: keras.Model, validation: Dataset, views: TestTime) -> tuple[float, float, float]:
    """How much places shall say of presence, and slope and intercept that make logits of probabilities again.

    The weight is the one with the highest mAP on validation images: while training, the head on the whole
    image soon knows all images by heart, so that the two are never weighed on images they have not seen.
    """
    whole = keras.Model(model.inputs, model.get_layer("presence_of_whole").output)
    images = [validation.image(i) for i in range(len(validation))]
    direct, both = (
        np.stack(list(Network(part, "multilabel", test_time=views).all_views(images)))
        for part in (whole, classifier_of(model))
    )
    found = {
        weight: mean_average_precision(validation.labels, direct + weight * (both - direct))
        for weight in PLACES
    }
    print(f"validation mAP by weight of places: {found}", flush=True)
    weight = max(found, key=found.__getitem__)
    logits = (direct + weight * (both - direct)).reshape(-1, 1)
    fitted = LogisticRegression(C=1e6).fit(logits, validation.labels.ravel())
    return weight, float(fitted.coef_[0, 0]), float(fitted.intercept_[0])


def rebalanced(model: keras.Model, weight: float, slope: float, intercept: float) -> keras.Model:
    """The same network with logits of presence ``slope`` (whole + ``weight`` places) + ``intercept``."""
    whole, places = model.get_layer("presence_of_whole"), model.get_layer("presence_of_places")
    kernel, bias = whole.get_weights()
    whole.set_weights([slope * kernel, slope * bias + intercept])
    places.set_weights([slope * weight * values for values in places.get_weights()])
    return model


def one_look(model: keras.Model, dataset: Dataset) -> np.ndarray:
    """(n, classes) probabilities as ``voclab predict`` looks: once, with the photo's aspect."""
    network = Network(classifier_of(model), "multilabel", test_time=TestTime((SIZE,), flip=False))
    images = (dataset.image(i) for i in range(len(dataset)))
    return expit(np.stack(list(network.all_views(images))), dtype=np.float64)


def write(
    trained: keras.Model, class_names: Sequence[str], views: dict[str, TestTime], thresholds: np.ndarray
) -> None:
    """Everything below src/voclab/weights but the card's figures."""
    network = {"backbone": BACKBONE, "classes": len(class_names) + 1, **DECODER}
    model = build_joint(**network)
    model.set_weights(trained.get_weights())
    names = list(class_names)
    ready.save_arrays(model, ready.FOLDER / ready.ARRAYS)
    card = {"network": network, "size": SIZE, "class_names": names}
    card["thresholds"] = [float(t) for t in thresholds]
    write_json(ready.FOLDER / ready.CARD, card)
    described = {"class_names": names, "recipe": {"size": SIZE}}
    for name, task in ((ready.CLASSIFIER, "multilabel"), (ready.SEGMENTER, "segmentation")):
        more = {"task": task, "test_time": vars(views[name])}
        write_json(ready.FOLDER / name / "config.json", {**described, **more})
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


def predicted(test: Dataset) -> dict[str, float]:
    """Figures of what ``voclab predict`` says of the test images."""
    answering, metrics, said = predict.open_answering(), SegmentationMetrics(21, boundaries=False), []
    for i in range(len(test)):
        probabilities, labels = answering.look(test.image(i))
        said.append(probabilities)
        metrics.update(test.mask(i), labels)
    return {
        "runtime": answering.runtime,
        "map": mean_average_precision(test.labels, np.stack(said)),
        "dice": metrics.mean_dice(),
        "miou": metrics.mean_iou(),
    }


def write_card(card: dict) -> None:
    """Write the card for programs, and for people."""
    write_json(ready.FOLDER / ready.CARD, card)
    (ready.FOLDER / "README.md").write_text(text(card), encoding="utf-8")


def text(card: dict) -> str:
    """The card for people: ``ready_card.md`` with the figures of the card for programs."""
    of = {name: card["test"][name]["conditions"] for name in ready.NAMES}
    classifier, segmenter = of[ready.CLASSIFIER], of[ready.SEGMENTER]
    views, found = {name: card["test"][name]["all views"] for name in ready.NAMES}, card["predict"]
    rows = [
        ("mAP, one view", classifier["clean"]["map"]),
        ("share of images whose top class is there, one view", classifier["clean"]["accuracy"]),
        ("mAP, all views", views[ready.CLASSIFIER]["map"]),
        ("Dice, one view", segmenter["clean"]["dice"]),
        ("Dice, all views", views[ready.SEGMENTER]["dice"]),
        ("mIoU, all views", views[ready.SEGMENTER]["miou"]),
        *((f"`voclab predict`: {name}", found[key]) for name, key in _PREDICTED.items()),
        *(
            (f"top class is there, {row}", classifier[row]["accuracy"])
            for row in classifier
            if row != "clean"
        ),
        *((f"Dice, {row}", segmenter[row]["dice"]) for row in segmenter if row != "clean"),
    ]
    files = [*card["files"], *([ready.GENERATOR] if ready.has_generator() else [])]
    source = Path(__file__).with_name("ready_card.md").read_text(encoding="utf-8")
    template = jinja2.Template(source, keep_trailing_newline=True)
    return template.render(
        **card,
        card=card,
        rows=rows,
        sizes={name: f"{(ready.FOLDER / name).stat().st_size / 1e6:.1f}" for name in files},
        images=card["test"][ready.CLASSIFIER]["images"],
        attacked=ATTACKED,
        views={name: " + ".join(map(str, seen["sizes"])) for name, seen in views.items()},
        seeds=card.get("on four fifths"),
    )


if __name__ == "__main__":
    if len(sys.argv) < 3 or not set(sys.argv[3:]) <= set(TRAINED):
        raise SystemExit(__doc__)
    main(*sys.argv[1:])
