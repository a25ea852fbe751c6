"""Trains what profile `full` trains on photos, with Keras on PyTorch: for a GPU where there is no TensorFlow.

    python benchmarks/accelerator.py STAGE VOC WEIGHTS FOLDER

STAGE is classifiers or segmenters, then adversary-classifier, adversary-segmenter, classifiers-all or
segmenters-all, in any order or at once, and last export. VOC is a folder of a VOCdevkit, WEIGHTS a file for
MobileNetV2; runs go to FOLDER, and a killed one goes on.
Models, losses, recipes and augmentation are voclab's. What voclab asks of TensorFlow is replaced here: its
module `backend`, and `tf.data`, by threads that make the same batches. Photos held out are not looked at;
`accelerator_score.py` measures the models on them where TensorFlow is.
"""

import os
import sys
import threading
import time
import types
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

os.environ["KERAS_BACKEND"] = "torch"

import keras
import numpy as np
import torch

AHEAD = 8  # batches made ahead
WAITED = {"steps": 0, "waiting": 0.0, "since": 0.0}


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

    def compiled_gradient(model, objective, truth_rank):
        def call(pixels, truth):
            pixels = tensor(pixels).requires_grad_()
            output = model(pixels).float()
            values = objective(output, tensor(np.asarray(truth, np.int32)))
            (gradient,) = torch.autograd.grad(values.sum(), pixels)
            return values.detach(), gradient, output.detach()

        return call

    def unchanged(x):
        return x

    module.compiled, module.resize, module.compiled_gradient = compiled, resize, compiled_gradient
    module.use_all_gpus = module.replicas = lambda *_: 1
    module.train_as_one = lambda model: None
    module.sum_over_replicas = module.gather_over_replicas = module.share_of_mean = unchanged
    module.out_of_memory = lambda error: isinstance(error, torch.cuda.OutOfMemoryError)
    module.value_and_gradient = module.input_gradient = module.own_part = None  # of no training here
    return module


class Batches:
    """The batches of `voclab.pipeline.training_batches`, made by threads, for labels and masks as they are."""

    def __init__(
        self, dataset, *, size, policy, batch_size, seed, epochs, start_epoch, target, cache, **others
    ):
        assert not others["smoothing"] and not others["mixup"], "no training of photos uses these"
        self.options = dataset, size, policy, min(batch_size, len(dataset)), seed, target, cache
        self.steps = max(1, len(dataset) // batch_size)
        self.range = range(start_epoch * self.steps, epochs * self.steps)
        self.local, self.change = threading.local(), None

    def map(self, change, num_parallel_calls):
        self.change = change
        return self

    def batch(self, step: int):
        from voclab.pipeline import apply_augmentation, augmentation

        dataset, size, policy, batch_size, seed, target, cache = self.options
        if not hasattr(self.local, "compose"):
            self.local.compose = augmentation(policy, size)
        epoch, k = divmod(step, self.steps)
        order = np.random.default_rng([seed, epoch]).permutation(len(dataset))
        images, wanted = [], []
        for index in order[k * batch_size : (k + 1) * batch_size].tolist():
            mask = cache.mask(index) if target == "masks" else None
            out = apply_augmentation(self.local.compose, (seed, epoch, index), cache.image(index), mask)
            images.append(out["image"])
            wanted.append(out["mask"] if target == "masks" else dataset.labels[index])
        wanted = np.stack(wanted)
        pair = (
            np.stack(images).astype(np.float32) / 255.0,
            wanted if target == "masks" else wanted.astype("f4"),
        )
        return self.change(*pair) if self.change else pair

    def stream(self):
        """A generator: Keras takes nothing else that is not its own."""
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            ahead, steps = deque(), iter(self.range)
            for step in steps:
                ahead.append(pool.submit(self.batch, step))
                if len(ahead) == AHEAD:
                    break
            while ahead:
                started = time.perf_counter()
                ready = ahead.popleft().result()
                WAITED["waiting"] += time.perf_counter() - started
                WAITED["steps"] += 1
                following = next(steps, None)
                if following is not None:
                    ahead.append(pool.submit(self.batch, following))
                yield ready


def install() -> None:
    """Put the replacements in place; before any other module of voclab is imported."""
    sys.modules["voclab.backend"] = make_backend()
    from voclab import pipeline

    pipeline.training_batches = Batches
    fit = keras.Model.fit

    def fit_batches(self, x, **options):
        WAITED.update(steps=0, waiting=0.0, since=time.perf_counter())
        result = fit(self, x.stream(), **options)
        seconds = time.perf_counter() - WAITED["since"]
        print(
            f"fit: {WAITED['steps']} steps, {seconds:.0f} s with scoring, {WAITED['waiting']:.1f} s of them waiting"
        )
        return result

    keras.Model.fit = fit_batches


def parts_of(root: str):
    from voclab import datasets
    from voclab.datasets.splits import fit_validation
    from voclab.profiles import profile_for

    profile = profile_for("full", "voc2009")
    return profile, fit_validation(datasets.load("voc2009", root, "train"), profile.validation_fraction, 0)


def pretrained(weights: str):
    from voclab.training.source import Weights

    return Weights("mobilenet_v2", "file", weights, f"MobileNetV2 from {Path(weights).name}")


def classifiers(root: str, weights_file: str, folder: Path, again: bool = False) -> None:
    """The augmented head and fine-tuning from it; ``again``: on all training photos."""
    from voclab.studies.classification import experiments
    from voclab.training.classification import refit, run_experiment

    profile, (fit, validation) = parts_of(root)
    known = {e.name: e for e in experiments(profile, pretrained(weights_file), 0)}
    # What is held out is not here; the validation photos stand in for it and are not reported.
    parts, options = (fit, validation, validation, folder), {"cache_mb": profile.cache_mb}
    for name in ("head-augmented", "finetuned-augmented"):
        run_experiment(known[name], *parts, **options)
    if again:
        refit(known[name], known, *parts, **options)


def segmenters(root: str, weights_file: str, folder: Path, again: bool = False) -> None:
    """DeepLabV3+ on a frozen encoder, then fine-tuned; ``again``: on all training photos."""
    from voclab.studies.segmentation import experiments
    from voclab.training import segmentation

    def finish(run, model, experiment, parts, started, progress):
        run.finish({"seconds": sum(entry.get("seconds", 0.0) for entry in run.history)})

    segmentation._finish = finish  # what is held out is measured elsewhere
    profile, (fit, validation) = parts_of(root)
    known = {e.name: e for e in experiments(profile, pretrained(weights_file), 0)}
    parts, options = (fit, validation, validation, folder), {"cache_mb": profile.cache_mb}
    for name in ("deeplab-frozen", "deeplab-tuned"):
        segmentation.run_experiment(known[name], *parts, **options)
    if again:
        segmentation.refit(known[name], known, *parts, **options)


def adversary(root: str, weights_file: str, folder: Path, name: str) -> None:
    """The universal adversary of a victim that was trained before, then the one that sees the photo."""
    from voclab.attacks import Victim, run_experiment
    from voclab.studies.adversary import experiments
    from voclab.training import Run

    profile, (fit, validation) = parts_of(root)
    run, task = {
        "classifier": (Run(folder / "finetuned-augmented"), "multilabel"),
        "segmenter": (Run(folder / "deeplab-tuned"), "segmentation"),
    }[name]
    victims = {name: Victim(run.load_model(), task, name)}
    if "ADVERSARY_EPOCHS" in os.environ:
        epochs = int(os.environ["ADVERSARY_EPOCHS"])
        shorter = replace(profile.adversary, cycles=1, epochs=(epochs,) * 3)
        profile = replace(profile, adversary=shorter)
    known = {e.name: e for e in experiments(profile, pretrained(weights_file), 0, segmenter=True, k=0)}
    chain = [known[f"adversary-{name}"]]
    while chain[0].start:
        chain.insert(0, known[chain[0].start])
    for experiment in chain:
        run_experiment(experiment, victims, fit, validation, folder, cache_mb=profile.cache_mb)


STAGES = {
    "classifiers": classifiers,
    "classifiers-all": lambda *arguments: classifiers(*arguments, again=True),
    "segmenters": segmenters,
    "segmenters-all": lambda *arguments: segmenters(*arguments, again=True),
    "adversary-classifier": lambda *arguments: adversary(*arguments, "classifier"),
    "adversary-segmenter": lambda *arguments: adversary(*arguments, "segmenter"),
}


def export(folder: Path) -> None:
    """The weights of each complete run as `<run>.npz`, without the optimizer and a frozen backbone."""
    from voclab.models.backbones import BACKBONE
    from voclab.models.generator import GENERATOR
    from voclab.training import Run

    for path in sorted(folder.glob("*/metrics.json")):
        model = Run(path.parent).load_model()
        if path.parent.name.startswith("adversary"):
            model = model.get_layer(GENERATOR)
        kept = [
            w
            for layer in model.layers
            if layer.name != BACKBONE or model.name != GENERATOR
            for w in layer.weights
        ]
        np.savez(folder / f"{path.parent.name}.npz", *[np.asarray(w) for w in kept])


def main() -> None:
    what, root, weights, folder = sys.argv[1:]
    install()
    if what == "export":
        return export(Path(folder))
    on = torch.cuda.get_device_name() if torch.cuda.is_available() else "the CPU"
    print(f"{what}: Keras {keras.__version__} on PyTorch {torch.__version__}, {on}")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    started = time.perf_counter()
    STAGES[what](root, weights, Path(folder))
    peak = torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else 0.0
    print(f"{what}: {time.perf_counter() - started:.0f} s, at most {peak:.1f} GiB of the GPU's memory")


if __name__ == "__main__":
    main()
