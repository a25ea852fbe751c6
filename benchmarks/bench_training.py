"""Training: the frozen-backbone phase against `fit` on the whole frozen model, and a frozen encoder.

With `--data` and `--weights` it measures on images, prints and records nothing.
"""

import sys
import tempfile
import time
from pathlib import Path

import common
import cv2
import keras
import numpy as np

from toyvoc.voc import make_toyvoc
from voclab.data import load
from voclab.data.batches import DecodedCache, evaluation_batches, steps_per_epoch, training_batches
from voclab.experiments import classification, segmentation
from voclab.experiments.common import Profile
from voclab.losses import get_loss
from voclab.metrics import SegmentationMetrics, mean_average_precision
from voclab.models.catalogue import BACKBONE
from voclab.models.classifiers import build_classifier, feature_extractor, predict
from voclab.models.segmenters import ENCODER, build_segmenter
from voclab.training.classification import PENALTIES
from voclab.training.features import fit_linear_head, pooled_features

BATCH = 16
RATES = (1e-3, 3e-3, 1e-2)
MOST_EPOCHS = 40  # of the other way, where it does not get as far as ours
SAME = 0.002  # mAP


class Setting:
    """Images, split in two, and the pretrained network."""

    def __init__(self, root, kind: str, weights: str | None, quick: bool):
        data = load(kind, root, "train")
        if quick:
            data = data.subset(range(4 * BATCH))
        fifth = np.arange(len(data)) % 5 == 0
        self.fit = data.subset(np.flatnonzero(~fifth).tolist(), "fit")
        self.validation = data.subset(np.flatnonzero(fifth).tolist(), "validation")
        self.profile = Profile.of("demo", kind)
        self.settings = classification.settings(self.profile)
        self.backbone = "mobilenet_v2" if weights else "efficientnet_lite0"
        self.weights = weights or "imagenet"
        self.caches = DecodedCache(self.fit), DecodedCache(self.validation)
        for cache, part in zip(self.caches, (self.fit, self.validation)):
            for i in range(len(part)):  # nobody is charged for decoding
                cache.image(i), cache.mask(i)

    def classifier(self) -> keras.Model:
        keras.utils.set_random_seed(0)
        classes = len(self.fit.class_names)
        return build_classifier(self.backbone, classes, weights=self.weights, dropout=0.0)


def head(setting: Setting) -> tuple[float, float]:
    """Seconds and validation mAP of the first phase as `voclab` runs it: features once, then the head."""
    model, size = setting.classifier(), setting.settings.transfer_size
    extractor = feature_extractor(model)
    predict(extractor, np.zeros((BATCH, size, size, 3), np.float32), BATCH)  # traces the graph
    started = time.perf_counter()
    views, held = (
        pooled_features(extractor, part, (size,), batch_size=BATCH, cache=cache)
        for part, cache in zip((setting.fit, setting.validation), setting.caches)
    )
    best = 0.0
    for penalty in PENALTIES:
        kernel, bias = fit_linear_head(views, setting.fit.labels, penalty)
        best = max(best, mean_average_precision(setting.validation.labels, held[0] @ kernel + bias))
    return time.perf_counter() - started, best


def whole(setting: Setting, learning_rate: float, wanted: float, most: int) -> tuple[float, float, int]:
    """(seconds of `fit` until the wanted validation mAP, the mAP then, epochs) on the whole frozen model.

    Scoring after each epoch is not charged, and neither is the wrong choice of a rate or an epoch.
    """
    model, size = setting.classifier(), setting.settings.transfer_size
    model.get_layer(BACKBONE).trainable = False
    steps = steps_per_epoch(len(setting.fit), BATCH)
    schedule = keras.optimizers.schedules.CosineDecay(learning_rate, most * steps)
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(schedule), loss, jit_compile=False)
    seconds, best = 0.0, 0.0
    # A call of fit for each epoch gets batches of that epoch alone, so that none is made while scoring.
    for epoch in range(-1, most):
        batches = training_batches(
            setting.fit,
            size=size,
            augmentation="none",
            batch_size=BATCH,
            seed=0,
            start_epoch=max(epoch, 0),
            epochs=max(epoch, 0) + 1,
            cache=setting.caches[0],
        )
        if epoch < 0:  # traces the graph
            before = model.get_weights()
            model.fit(batches.take(1), verbose=0)
            model.set_weights(before)
            continue
        started = time.perf_counter()
        model.fit(batches, steps_per_epoch=steps, shuffle=False, verbose=0)
        seconds += time.perf_counter() - started
        parts = evaluation_batches(setting.validation, size, BATCH, setting.caches[1])
        logits = np.concatenate([predict(model, pixels, BATCH) for pixels in parts])
        best = max(best, mean_average_precision(setting.validation.labels, logits))
        if best >= wanted - SAME:
            break
    return seconds, best, epoch + 1


def head_case(setting: Setting, repetitions: int, most: int) -> common.Case:
    wanted = head(setting)[1]
    tried = {learning_rate: whole(setting, learning_rate, wanted, most) for learning_rate in RATES}
    arrived = [learning_rate for learning_rate, (_, best, _) in tried.items() if best >= wanted - SAME]
    fastest, furthest = (lambda r: tried[r][0]), (lambda r: -tried[r][1])
    learning_rate = min(arrived or tried, key=fastest if arrived else furthest)
    ours, others = [], []
    for _ in range(repetitions):
        ours.append(head(setting)[0])
        others.append(whole(setting, learning_rate, wanted, most))
    _, best, epochs = tried[learning_rate]
    reached = "as far after" if arrived else "not as far within"
    rates = ", ".join(f"{r:g}" for r in tried)
    note = (
        f"validation mAP {wanted:.3f} by ours, {best:.3f} by `fit`, which gets {reached} {epochs} epochs"
        f" at the best of the rates {rates} ({learning_rate:g}); only its steps are charged, not its"
        " scoring or the other rates. Ours includes the mirror image of each image, the features of the"
        " validation images,"
        f" and the choice among {len(PENALTIES)} penalties."
    )
    return common.Case(
        f"head on a frozen backbone, {len(setting.fit)} images at {setting.settings.transfer_size} px",
        {common.OURS: ours, "fit on the whole frozen model": [seconds for seconds, *_ in others]},
        target=5,
        note=note,
    )


WAYS = {common.OURS: (True, False), "encoder's maps kept": (True, True), "encoder fine-tuned": (False, False)}


def segmenter(setting: Setting, way: str) -> tuple[float, float]:
    """(seconds, validation Dice after) of the profile's epochs of DeepLabV3+, from the first batch on."""
    frozen, kept = WAYS[way]
    s, labels = segmentation.settings(setting.profile), len(setting.fit.class_names) + 1
    keras.utils.set_random_seed(0)
    model = build_segmenter("deeplab", setting.backbone, labels, weights=setting.weights)
    if frozen:
        model.get_layer(ENCODER).trainable = False
    maps = [model.get_layer(name).input for name in ("low_conv", "aspp_1x1_conv")]
    encoder = keras.Model(model.inputs, maps)
    decoder = keras.Model([*model.inputs, *maps], model.outputs)
    trained = decoder if kept else model
    steps = steps_per_epoch(len(setting.fit), BATCH)
    learning_rate = keras.optimizers.schedules.CosineDecay(s.deeplab_learning_rate, s.deeplab_epochs * steps)
    trained.compile(keras.optimizers.AdamW(learning_rate), get_loss("cross_entropy_dice"), jit_compile=False)

    def batches(epochs: int):
        options = {"size": s.deeplab_size, "batch_size": BATCH, "seed": 0, "target": "masks"}
        augmentation = "none" if kept else s.augmentation
        return training_batches(
            setting.fit, augmentation=augmentation, epochs=epochs, cache=setting.caches[0], **options
        )

    def with_maps():
        pixels, masks = (np.concatenate(part) for part in zip(*batches(1).as_numpy_iterator()))
        made = [encoder.predict_on_batch(pixels[k : k + BATCH]) for k in range(0, len(pixels), BATCH)]
        # Half precision, so that they take half the memory.
        return [pixels, *(np.concatenate(part).astype(np.float16) for part in zip(*made))], masks

    def run(epochs: int) -> None:
        if kept:
            trained.fit(*with_maps(), batch_size=BATCH, epochs=epochs, verbose=0)
        else:
            trained.fit(batches(epochs), steps_per_epoch=steps, epochs=epochs, shuffle=False, verbose=0)

    before = model.get_weights()
    run(1)  # traces the graph
    model.set_weights(before)
    trained.optimizer.iterations.assign(0)
    started = time.perf_counter()
    run(s.deeplab_epochs)
    return time.perf_counter() - started, dice(model, setting)


def dice(model: keras.Model, setting: Setting) -> float:
    """Of the validation images, at the training size."""
    size, done = segmentation.settings(setting.profile).deeplab_size, 0
    metrics = SegmentationMetrics(len(setting.fit.class_names) + 1, boundaries=False)
    for pixels in evaluation_batches(setting.validation, size, BATCH, setting.caches[1]):
        for answer in predict(model, pixels, BATCH).argmax(-1).astype(np.uint8):
            truth = cv2.resize(setting.caches[1].mask(done), (size, size), interpolation=cv2.INTER_NEAREST)
            metrics.update(truth, answer)
            done += 1
    return metrics.mean_dice()


def segmenter_case(setting: Setting, repetitions: int) -> common.Case:
    found = [{way: segmenter(setting, way) for way in WAYS} for _ in range(repetitions)]
    s = segmentation.settings(setting.profile)
    reached = ", ".join(f"{found[0][way][1]:.3f} {way}" for way in WAYS)
    return common.Case(
        f"{s.deeplab_epochs} epochs of DeepLabV3+, {len(setting.fit)} images at {s.deeplab_size} px",
        {way: [both[way][0] for both in found] for way in WAYS},
        note=f"validation Dice {reached}. Ours freezes the encoder and runs it in every step, so that images"
        f" can be augmented (here: policy `{s.augmentation}`). With kept maps the decoder trains on what the"
        " encoder said of each image once, in float16; computing that is charged.",
    )


def grown(factor: int):
    folder = tempfile.TemporaryDirectory()
    make_toyvoc(Path(folder.name), train=200 * factor, val=1, test=1, progress=False)
    setting = Setting(folder.name, "toyvoc", None, quick=False)

    def call(folder=folder):  # the folder lives as long as what reads from it
        head(setting)

    return call, len(setting.fit)


def measure(quick: bool, data: str | None = None, weights: str | None = None) -> common.Report:
    with tempfile.TemporaryDirectory() as folder:
        root, kind = data, "voc2009"
        if root is None:
            root, kind = Path(folder, "toyvoc"), "toyvoc"
            make_toyvoc(root, train=4 * BATCH if quick else 500, val=1, test=1, progress=False)
        setting = Setting(root, kind, weights, quick)
        cases = [
            head_case(setting, 1 if quick else common.REPETITIONS, 1 if quick else MOST_EPOCHS),
            segmenter_case(setting, 1 if quick else common.REPETITIONS),
        ]
    return common.Report(
        "training",
        "Training on a frozen network",
        "Drawn images (ToyVOC, 160 px), EfficientNet-Lite 0 with ImageNet weights, decoded images in memory,"
        f" batches of {BATCH}; seconds of the whole phase, graphs traced before. `fit` gets the batches of"
        " `training_batches`, without augmentation, with Adam and cosine decay.",
        cases,
        [] if quick or data else [common.growth("training: head on a frozen backbone", "images", grown)],
        ("tensorflow-cpu", "tensorflow", "keras", "scipy"),
    )


OPTIONS = {"data": "folder of a VOCdevkit to take instead", "weights": "weights file of MobileNetV2 for it"}

if __name__ == "__main__":
    sys.exit(common.main(measure, __doc__, OPTIONS))
