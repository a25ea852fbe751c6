"""Input: images a second that reach `fit`, against a plain PyDataset and tf.data; how long training waits.

All ways augment with the very same albumentations policy. Each is measured in processes of its own, in turn,
because what one leaves behind in the memory allocator can slow down the next. Waiting is the time between
asking for a batch and having it, in trainings of the notebooks' networks at the demo profile's sizes.
"""

import multiprocessing
import sys
import tempfile
import time
from pathlib import Path

import common
import numpy as np

from toyvoc.voc import make_toyvoc
from voclab.data import load
from voclab.data.batches import DecodedCache, augmenter, training_batches
from voclab.experiments import classification, segmentation
from voclab.experiments.common import Profile

IMAGES = 400
BATCH = 16
LATER = 2  # epochs after the first
TASKS = {"labels": 224, "masks": 256}  # side of the training images, pixels
POLICY = "standard"


NOTES = """\
In the first epoch tf.data is ahead: ours checks that a JPEG is whole, turns it as its EXIF says, checks each
label of a mask, and keeps what it decoded. On one core (other work beside) a drawn image took 0.8 ms to
decode (0.6 by OpenCV, unchecked), a mask of VOC 0.45 ms (0.32 by Pillow alone), and the fresh memory that
keeps them 0.2 and 0.1 ms. From the second epoch on they are in memory. Without effect were: one thread for
OpenCV, other numbers of batches at a time, a shorter switch interval of Python. The checks stay."""


def paths_of(data, root: Path) -> tuple[list[str], list[str]]:
    tree = root / "VOCdevkit" / "VOC2009"
    images = [str(tree / "JPEGImages" / f"{name}.jpg") for name in data.ids]
    return images, [str(tree / "SegmentationClass" / f"{name}.png") for name in data.ids]


class Plain:
    """What people write: read a file with OpenCV and Pillow, augment it with albumentations."""

    def __init__(self, data, root: Path, task: str):
        self.images, self.masks = paths_of(data, root)
        self.labels = data.labels
        self.task = task
        self.size = TASKS[task]
        self.compose = augmenter(POLICY, self.size)

    def decoded(self, i: int) -> tuple:
        import cv2
        from PIL import Image

        image = cv2.cvtColor(cv2.imread(self.images[i]), cv2.COLOR_BGR2RGB)
        return image, np.array(Image.open(self.masks[i])) if self.task == "masks" else self.labels[i]

    def augmented(self, image, wanted) -> tuple:
        if self.task == "labels":
            return self.compose(image=image)["image"], wanted
        out = self.compose(image=image, mask=wanted)
        return out["image"], out["mask"]


def py_dataset(plain: Plain, cached: bool, processes: bool):
    import keras

    class Batches(keras.utils.PyDataset):
        def __init__(self):
            super().__init__(workers=2, use_multiprocessing=processes, max_queue_size=10)
            self.rng = np.random.default_rng(0)
            self.kept = {}
            self.on_epoch_end()

        def __len__(self):
            return len(plain.images) // BATCH

        def on_epoch_end(self):
            self.order = self.rng.permutation(len(plain.images))

        def decoded(self, i):
            if not cached:
                return plain.decoded(i)
            if i not in self.kept:
                self.kept[i] = plain.decoded(i)
            return self.kept[i]

        def __getitem__(self, k):
            chosen = self.order[k * BATCH : (k + 1) * BATCH]
            images, wanted = zip(*(plain.augmented(*self.decoded(int(i))) for i in chosen))
            wanted = np.stack(wanted)
            return np.stack(images).astype(np.float32) / 255.0, (
                wanted if plain.task == "masks" else wanted.astype(np.float32)
            )

    return Batches()


def tf_data(plain: Plain, cached: bool):
    import tensorflow as tf

    auto = tf.data.AUTOTUNE
    count, side = len(plain.images), plain.size
    shape = (side, side) if plain.task == "masks" else plain.labels.shape[1:]
    types = (tf.uint8, tf.uint8)

    def decode(i):
        return tf.numpy_function(plain.decoded, (i,), types)

    def augment(image, wanted):
        return tf.numpy_function(plain.augmented, (image, wanted), types)

    def both(i):
        return tf.numpy_function(lambda i: plain.augmented(*plain.decoded(i)), (i,), types)

    def known(image, wanted):
        image.set_shape((side, side, 3))
        wanted.set_shape(shape)
        return image, wanted

    def to_float(images, wanted):
        images = tf.cast(images, tf.float32) / 255.0
        return images, wanted if plain.task == "masks" else tf.cast(wanted, tf.float32)

    stream = tf.data.Dataset.range(count)
    if cached:
        stream = stream.map(decode, num_parallel_calls=auto).cache().shuffle(count)
        stream = stream.map(lambda *pair: known(*augment(*pair)), num_parallel_calls=auto)
    else:
        stream = stream.shuffle(count).map(lambda i: known(*both(i)), num_parallel_calls=auto)
    return stream.batch(BATCH, drop_remainder=True).map(to_float, num_parallel_calls=auto).prefetch(auto)


def ours(data, task: str, cache: DecodedCache, start: int, stop: int):
    options = {
        "size": TASKS[task],
        "augmentation": POLICY,
        "batch_size": BATCH,
        "target": task,
        "cache": cache,
    }
    return training_batches(data, seed=0, start_epoch=start, epochs=stop, **options)


OTHERS = {
    "tf.data": lambda plain: tf_data(plain, cached=False),
    "tf.data, cache": lambda plain: tf_data(plain, cached=True),
    "PyDataset, 2 threads, cache": lambda plain: py_dataset(plain, cached=True, processes=False),
    "PyDataset, 2 processes": lambda plain: py_dataset(plain, cached=False, processes=True),
}


def delivered(way: str, root: Path, later: int) -> dict[str, tuple[float, float]]:
    """Task -> seconds of the first epoch, and of each of ``later`` ones, in `fit` of a tiny network."""
    import keras

    def loss(wanted, answer):
        return keras.ops.mean(answer) * keras.ops.mean(keras.ops.cast(wanted, "float32"))

    def fit(task, data) -> tuple[float, float]:
        cache = DecodedCache(data)
        batches = None if way == common.OURS else OTHERS[way](Plain(data, root, task))
        seconds = []
        # Two calls, so that no batch of the later epochs is made ahead on the first one's time.
        for start, stop in ((0, 1), (1, 1 + later)):
            stream = ours(data, task, cache, start, stop) if batches is None else batches
            steps = len(data) // BATCH if batches is None else None
            started = time.perf_counter()
            model.fit(stream, epochs=stop - start, steps_per_epoch=steps, shuffle=False, verbose=0)
            seconds.append((time.perf_counter() - started) / (stop - start))
        return tuple(seconds)

    # As in a process that a user starts; in this one, itself spawned, PyDataset would spawn its workers.
    multiprocessing.set_start_method("fork", force=True)
    data, seconds = load("toyvoc", root, "train"), {}
    for task in TASKS:
        model = keras.Sequential([keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(1)])
        model.compile("sgd", loss, jit_compile=False)
        fit(task, data.subset(range(2 * BATCH)))  # traces the graph
        seconds[task] = fit(task, data)
    return seconds


def small_cnn(profile):
    import keras

    from voclab.models.classifiers import build_classifier

    model = build_classifier("cnn", 20, options={"width": classification.settings(profile).cnn_width})
    options = {
        "size": classification.settings(profile).cnn_size,
        "augmentation": classification.settings(profile).augmentation,
        "batch_size": classification.settings(profile).batch_size,
    }
    return model, keras.losses.BinaryCrossentropy(from_logits=True), options


def tuned_mobilenet(profile):
    """All of MobileNetV2, its batch norm as it was pretrained: what the weights are does not matter here."""
    import keras

    from voclab.models.classifiers import build_classifier

    with tempfile.TemporaryDirectory() as folder:
        weights = str(Path(folder) / "random.weights.h5")
        keras.applications.MobileNetV2(weights=None, include_top=False).save_weights(weights)
        model = build_classifier("mobilenet_v2", 20, weights=weights)
    options = {
        "size": classification.settings(profile).transfer_size,
        "augmentation": classification.settings(profile).augmentation,
        "batch_size": classification.settings(profile).batch_size,
    }
    return model, keras.losses.BinaryCrossentropy(from_logits=True), options


def small_unet(profile):
    from voclab.losses import get_loss
    from voclab.models.segmenters import build_unet

    p = segmentation.settings(profile)
    model = build_unet(21, width=p.width, depth=p.depth)
    options = {"size": p.size, "augmentation": p.augmentation, "batch_size": p.batch_size, "target": "masks"}
    return model, get_loss("cross_entropy_dice"), options


TRAININGS = {
    "small CNN, ToyVOC": (small_cnn, "toyvoc"),
    "small CNN, images": (small_cnn, "voc2009"),
    "MobileNetV2 fine-tuned, ToyVOC": (tuned_mobilenet, "toyvoc"),
    "U-Net, ToyVOC": (small_unet, "toyvoc"),
    "U-Net, images": (small_unet, "voc2009"),
}


def waiting(training: str, root: Path, rounds: int, steps: int) -> tuple[list[float], float, str]:
    """(share of each round of steps spent waiting, median seconds of a step, what was trained).

    All steps are of the first epoch, which decodes.
    """
    import keras

    build, kind = TRAININGS[training]
    data = load("toyvoc", root, "train")
    model, loss, options = build(Profile.of("demo", kind))
    model.compile(keras.optimizers.AdamW(1e-3), loss, jit_compile=False)
    batches = iter(training_batches(data, seed=0, epochs=1, **options))
    waited, stepped = [], []
    for _ in range(1 + rounds * steps):
        started = time.perf_counter()
        pair = next(batches)
        arrived = time.perf_counter()
        model.train_on_batch(*pair)
        waited.append(arrived - started)
        stepped.append(time.perf_counter() - arrived)
    # The first step traces the graph.
    waited, stepped = (np.reshape(v[1:], (rounds, steps)) for v in (waited, stepped))
    shares = waited.sum(1) / (waited.sum(1) + stepped.sum(1))
    what = f"{options['size']} px, policy {options['augmentation']}, batches of {options['batch_size']}"
    return shares.tolist(), float(np.median(stepped)), what


def waiting_case(training: str, root: Path, rounds: int, steps: int) -> common.Case:
    shares, step, what = common.alone(waiting, training, root, rounds, steps)
    return common.Case(
        f"waiting in a second of training, {training}",
        {common.OURS: shares},
        limit=0.05,
        note=f"{what}; a step takes {1000 * step:.0f} ms.",
    )


def speed_cases(root: Path, ways: list[str], later: int, repetitions: int) -> list[common.Case]:
    measured = [{way: common.alone(delivered, way, root, later) for way in ways} for _ in range(repetitions)]
    cases, count = [], len(load("toyvoc", root, "train")) // BATCH * BATCH
    for task, size in TASKS.items():
        for k, name in enumerate(("first epoch", "later epochs")):
            seconds = {way: [found[way][task][k] for found in measured] for way in ways}
            title = f"{name}, images with {task} at {size} px"
            cases.append(common.Case(title, seconds, count, "image", target=1))
    return cases


def grown(factor: int):
    folder = tempfile.TemporaryDirectory()
    make_toyvoc(Path(folder.name), train=100 * factor, val=1, test=1, size=500, progress=False)
    data = load("toyvoc", folder.name, "train")

    def call(folder=folder):  # the folder lives as long as what reads from it
        for _ in ours(data, "labels", DecodedCache(data), 0, 1):
            pass

    return call, len(data)


def measure(quick: bool) -> common.Report:
    with tempfile.TemporaryDirectory() as folder:
        images, toys = Path(folder, "images"), Path(folder, "toys")
        count = 3 * BATCH if quick else IMAGES
        make_toyvoc(images, train=count, val=1, test=1, size=500, progress=False)
        make_toyvoc(toys, train=count, val=1, test=1, progress=False)
        ways = [common.OURS, *([next(iter(OTHERS))] if quick else OTHERS)]
        cases = speed_cases(images, ways, 1 if quick else LATER, 1 if quick else common.REPETITIONS)
        for training in list(TRAININGS)[: 1 if quick else None]:
            root = toys if TRAININGS[training][1] == "toyvoc" else images
            cases.append(waiting_case(training, root, 1 if quick else 3, 2 if quick else 8))
    return common.Report(
        "input",
        "Input",
        f"{count} drawn images of 500 pixels as JPEG (ToyVOC), batches of {BATCH}, policy `{POLICY}`, to the"
        " `fit` of a network that does next to nothing, from the file system's cache. Each way has a new"
        " process for each repetition. *cache*: decoded images are kept in memory, which voclab always does."
        " Waiting is measured in the first epoch of trainings as in the notebooks' demo profile.",
        cases,
        [] if quick else [common.growth("input: an epoch from files", "images", grown)],
        ("tensorflow-cpu", "tensorflow", "keras", "albumentations", "opencv-python-headless"),
        NOTES,
    )


if __name__ == "__main__":
    sys.exit(common.main(measure, __doc__))
