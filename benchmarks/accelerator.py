"""Trains what profile `full` trains on images, with Keras on PyTorch: for a GPU where there is no TensorFlow.

    python benchmarks/accelerator.py STAGE VOC WEIGHTS FOLDER

STAGE is classifiers, segmenters, or after that score. VOC is a folder of a VOCdevkit, WEIGHTS a file for
MobileNetV2; runs go to FOLDER, and a killed one goes on. PyTorch is installed beside voclab for it.

Models, losses, recipes and augmentation are voclab's. What voclab asks of TensorFlow is replaced here: its
module `backend`, and `tf.data`, by threads that make the same batches. All in float32.
"""

import os
import sys
import time
import types
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

os.environ["KERAS_BACKEND"] = "torch"

import keras
import numpy as np
import torch

AHEAD = 8  # batches made ahead
WAITED = {"steps": 0, "waiting": 0.0}


def make_backend() -> types.ModuleType:
    """`voclab.backend` for one device under PyTorch."""
    module = types.ModuleType("voclab.backend")

    def tensor(x):
        return keras.ops.convert_to_tensor(np.asarray(x))

    def compiled(model):
        def forward(pixels):
            with torch.no_grad():
                return keras.ops.convert_to_numpy(model(tensor(pixels), training=False)).astype(np.float32)

        return forward

    def resize(x, height, width):
        first = torch.movedim(x, -1, 1)
        large = torch.nn.functional.interpolate(first, (int(height), int(width)), mode="bilinear")
        return torch.movedim(large, 1, -1)

    def unchanged(x):
        return x

    module.compiled, module.resize = compiled, resize
    module.use_all_gpus = module.replicas = lambda *_: 1
    module.train_as_one = lambda model: None
    module.sum_over_replicas = module.gather_over_replicas = module.share_of_mean = unchanged
    module.out_of_memory = lambda error: isinstance(error, torch.cuda.OutOfMemoryError)
    module.value_and_gradient = None  # imported for Grad-CAM, which no training asks for
    return module


class Batches:
    """What `training_batches` gives, made by threads; for labels and masks as they are."""

    def __init__(self, dataset, *, epochs, start_epoch, smoothing, mixup, failures, **options):
        assert smoothing == mixup == 0  # no training of images uses these
        from voclab.data.batches import batch_maker, steps_per_epoch

        steps = steps_per_epoch(len(dataset), options["batch_size"])
        self.steps = range(start_epoch * steps, epochs * steps)
        self.made = batch_maker(dataset, failures=failures, **options)
        self.masks = options["target"] == "masks"

    def batch(self, step: int):
        images, wanted = self.made(step)
        return images.astype(np.float32) / 255.0, wanted if self.masks else wanted.astype(np.float32)

    def stream(self):
        """A generator: Keras takes nothing else that is not its own."""
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            steps = iter(self.steps)
            ahead = deque(pool.submit(self.batch, step) for step in islice(steps, AHEAD))
            while ahead:
                started = time.perf_counter()
                ready = ahead.popleft().result()
                WAITED["waiting"] += time.perf_counter() - started
                WAITED["steps"] += 1
                ahead.extend(pool.submit(self.batch, step) for step in islice(steps, 1))
                yield ready


def install() -> None:
    """Put the replacements in place; before any other module of voclab is imported."""
    sys.modules["voclab.backend"] = make_backend()
    from voclab.data import batches

    batches.training_batches = Batches
    fit = keras.Model.fit

    def fit_batches(self, x, **options):
        WAITED.update(steps=0, waiting=0.0)
        started = time.perf_counter()
        result = fit(self, x.stream(), **options)
        seconds = time.perf_counter() - started
        print(
            f"fit: {WAITED['steps']} steps, {seconds:.0f} s with scoring, "
            f"{WAITED['waiting']:.1f} s of them waiting for batches"
        )
        return result

    keras.Model.fit = fit_batches


def parts_of(root: str):
    from voclab.data import load
    from voclab.data.splits import fit_validation
    from voclab.experiments import common
    from voclab.experiments.common import Profile

    profile = Profile("full", drawn=False)
    share = common.settings(profile).validation_fraction
    return profile, fit_validation(load("voc2009", root, "train"), share, 0)


def pretrained(weights: str):
    from voclab.models.pretrained import Weights

    return Weights("mobilenet_v2", "file", weights, f"MobileNetV2 from {Path(weights).name}")


def classifiers(root: str, weights_file: str, folder: Path) -> None:
    """The augmented head and fine-tuning from it."""
    from voclab.experiments import common
    from voclab.experiments.classification import experiments, settings
    from voclab.training import Parts
    from voclab.training.experiment import run

    profile, (fit, validation) = parts_of(root)
    cache_mb = common.settings(profile).cache_mb
    known = {e.name: e for e in experiments(settings(profile), pretrained(weights_file), 0)}
    # Nothing held out is predicted here: the validation images stand in for it.
    for name in ("head-augmented", "finetuned-augmented"):
        run(known[name], Parts(fit, validation, validation), folder, cache_mb=cache_mb)


def segmenters(root: str, weights_file: str, folder: Path) -> None:
    """DeepLabV3+ on a frozen encoder, then fine-tuned."""
    from voclab.experiments import common
    from voclab.experiments.segmentation import experiments, settings
    from voclab.training import Parts
    from voclab.training.experiment import run
    from voclab.training.segmentation import Segmentation

    Segmentation.measure = lambda self, work, model: {"validation": None, "test": None}  # see score
    profile, (fit, validation) = parts_of(root)
    cache_mb = common.settings(profile).cache_mb
    known = {e.name: e for e in experiments(settings(profile), pretrained(weights_file), 0)}
    for name in ("deeplab-frozen", "deeplab-tuned"):
        run(known[name], Parts(fit, validation, validation), folder, cache_mb=cache_mb)


def score(root: str, weights_file: str, folder: Path) -> None:
    """Measure the fine-tuned segmenter on the images held out, at their own size, as notebook 02 does."""
    from voclab.data import load
    from voclab.experiments import segmentation
    from voclab.models.network import Network
    from voclab.models.prediction import TestTime
    from voclab.training import Run
    from voclab.training.segmentation import measure

    profile, _ = parts_of(root)
    test_set = load("voc2009", root, "val")
    model = Run(folder / "deeplab-tuned").load_model()
    sizes = TestTime(segmentation.settings(profile).test_sizes)
    network = Network(model, "segmentation", test_time=sizes)
    metrics, _ = measure(network.label_maps(test_set.image(i) for i in range(len(test_set))), test_set)
    print(metrics.report())


STAGES = {"classifiers": classifiers, "segmenters": segmenters, "score": score}


def main() -> None:
    if len(sys.argv) != 5 or sys.argv[1] not in STAGES:
        sys.exit(__doc__)
    what, root, weights, folder = sys.argv[1:]
    install()
    on = torch.cuda.get_device_name() if torch.cuda.is_available() else "the CPU"
    print(f"{what}: Keras {keras.__version__} on PyTorch {torch.__version__}, {on}")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    started = time.perf_counter()
    STAGES[what](root, weights, Path(folder))
    peak = torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else 0.0
    print(f"{what}: {time.perf_counter() - started:.0f} s, at most {peak:.1f} GiB of the GPU's memory")


if __name__ == "__main__":
    main()
