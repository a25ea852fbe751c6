"""The same U-Net in PyTorch: inference, a step of training, PGD, and the Dice after equal time."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import tempfile
import time

import common
import numpy as np

BATCH, WIDTH, DEPTH, LABELS = 16, 24, 3, 21
RATE = 3e-3
EPSILON, STEPS, STEP = 8 / 255, 20, 0.125
SECONDS = 150  # of training, for the Dice after equal time
IMAGES = (800, 200)  # drawn images to train on, and to score
SIZE = 64


def drawn(train: int, test: int, size: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """((n, size, size, 3) uint8, (n, size, size) uint8 label maps) of drawn images."""
    from toyvoc.voc import make_toyvoc
    from voclab.data import load
    from voclab.data.images import at_size
    from voclab.training.segmentation import labels_at

    with tempfile.TemporaryDirectory() as folder:
        root = make_toyvoc(folder, train=train, val=test, test=1, progress=False)
        parts = [load("toyvoc", root, split) for split in ("train", "val")]
        return [
            (
                np.stack([at_size(part.image(i), size) for i in range(len(part))]),
                np.stack([labels_at(part.mask(i), size) for i in range(len(part))]),
            )
            for part in parts
        ]


def ours():
    """Our network, compiled as ``voclab`` does for training."""
    import keras

    from voclab.losses import get_loss
    from voclab.models.segmenters import build_unet

    keras.utils.set_random_seed(0)
    model = build_unet(LABELS, width=WIDTH, depth=DEPTH)
    optimizer = keras.optimizers.AdamW(RATE, weight_decay=1e-3, clipnorm=5.0)
    model.compile(optimizer, get_loss("cross_entropy_dice"), jit_compile=False)
    return model


def weights_of(keras_model) -> dict[str, list[np.ndarray]]:
    """Those of all layers, by name."""
    return {layer.name: layer.get_weights() for layer in keras_model.layers}


def theirs(weights: dict[str, list[np.ndarray]]):
    """The same in PyTorch, ready to train."""
    import torch
    import unet_in_torch

    torch.set_num_threads(os.cpu_count())
    model = unet_in_torch.with_weights(weights, LABELS, WIDTH, DEPTH)
    return model, torch.optim.AdamW(model.parameters(), RATE, weight_decay=1e-3)


def step_of(model, optimizer):
    """A function of (B, 3, H, W) pixels and (B, H, W) maps: one step of training in PyTorch."""
    import torch
    import unet_in_torch

    def step(pixels, maps):
        model.train()
        optimizer.zero_grad(set_to_none=True)
        loss = unet_in_torch.loss(model(pixels), maps)
        loss.backward()
        for parameter in model.parameters():  # each tensor's own, as Keras' clipnorm does
            torch.nn.utils.clip_grad_norm_(parameter, 5.0)
        optimizer.step()
        return float(loss.detach())

    return step


def cases(size: int, images: np.ndarray, maps: np.ndarray, repetitions: int) -> list[common.Case]:
    """Inference, a step, and PGD on a batch of one size."""
    import torch
    import unet_in_torch

    from voclab.attacks import PGD, Network

    keras_model = ours()
    model, optimizer = theirs(weights_of(keras_model))
    pixels, truth = images[:BATCH].astype(np.float32) / 255, maps[:BATCH]
    tensor, labels = torch.from_numpy(pixels).movedim(-1, 1).contiguous(), torch.from_numpy(truth).long()
    network = Network(keras_model, "segmentation")
    attack = PGD(steps=STEPS, step=STEP, random_start=False, early_stop=False)

    @torch.no_grad()
    def forward():
        return model.eval()(tensor).numpy()

    def attacked():
        return unet_in_torch.pgd(model.eval(), tensor, labels, EPSILON, STEPS, STEP)

    apart = float(np.abs(network.logits(pixels) - np.moveaxis(forward(), 1, -1)).max())
    if apart > 1e-3:
        raise SystemExit(f"The two networks are not the same: logits differ by {apart}.")
    moved = [attack(network, pixels, truth, EPSILON), np.moveaxis(attacked().numpy(), 1, -1)]
    wrong = [float((network.logits(x).argmax(-1) != truth)[truth != 255].mean()) for x in moved]
    step, made = step_of(model, optimizer), {}
    made["inference"] = {common.OURS: lambda: network.logits(pixels), "PyTorch": forward}
    made["PGD-20"] = {common.OURS: lambda: attack(network, pixels, truth, EPSILON), "PyTorch": attacked}
    made["step of training"] = {
        common.OURS: lambda: keras_model.train_on_batch(pixels, truth),
        "PyTorch": lambda: step(tensor, labels),
    }
    notes = {
        "inference": f"Logits differ by at most {apart:.1e}.",
        "PGD-20": f"Pixels wrong after ours {wrong[0]:.1%}, after theirs {wrong[1]:.1%}.",
    }
    return [
        common.Case(
            f"{name}, {size} px",
            common.timed(ways, repetitions),
            items=BATCH,
            unit="image",
            note=notes.get(name, ""),
        )
        for name, ways in made.items()
    ]


def trained(way: str, seconds: float, parts, weights) -> dict[str, float]:
    """Images a second, peak memory and Dice of so many seconds of training, in a process of its own."""
    from voclab.metrics import SegmentationMetrics

    (images, maps), (others, truth) = parts
    rng, taken = np.random.default_rng(0), 0
    if way == common.OURS:
        keras_model = ours()

        def step(chosen):
            keras_model.train_on_batch(images[chosen].astype(np.float32) / 255, maps[chosen])

        def answers(batch):
            return keras_model.predict_on_batch(batch)
    else:  # without TensorFlow in the process
        import torch

        model, optimizer = theirs(weights)
        one = step_of(model, optimizer)

        def step(chosen):
            pixels = torch.from_numpy(images[chosen].astype(np.float32) / 255).movedim(-1, 1).contiguous()
            one(pixels, torch.from_numpy(maps[chosen]).long())

        @torch.no_grad()
        def answers(batch):
            return np.moveaxis(model.eval()(torch.from_numpy(batch).movedim(-1, 1)).numpy(), 1, -1)

    step(np.arange(BATCH))  # traces our graph; not counted
    started = time.perf_counter()
    while time.perf_counter() - started < seconds:
        order = rng.permutation(len(images))
        for start in range(0, len(order) - BATCH + 1, BATCH):
            step(order[start : start + BATCH])
            taken += BATCH
            if time.perf_counter() - started >= seconds:
                break
    took = time.perf_counter() - started
    metrics = SegmentationMetrics(LABELS, boundaries=False)
    for start in range(0, len(others), BATCH):
        batch = others[start : start + BATCH].astype(np.float32) / 255
        for mask, found in zip(truth[start : start + BATCH], answers(batch).argmax(-1)):
            metrics.update(mask, found.astype(np.uint8))
    return {"rate": taken / took, "memory": common._resident("VmHWM"), "dice": metrics.mean_dice()}


def measure(quick: bool) -> common.Report:
    """Time all of it."""
    import torch._dynamo  # noqa: F401  (torch.optim does later: after TensorFlow it crashes, 2.14.1 and 2.21)

    parts = drawn(*((64, 16) if quick else IMAGES), SIZE)
    found = cases(SIZE, *parts[0], 2 if quick else common.REPETITIONS)
    large = drawn(BATCH, 1, 128)[0]
    found += cases(128, *large, 2 if quick else common.REPETITIONS)
    seconds = 5 if quick else SECONDS
    weights = weights_of(ours())
    after = {way: common.alone(trained, way, seconds, parts, weights) for way in (common.OURS, "PyTorch")}
    told = "; ".join(
        f"{way} {x['rate']:.0f} images a second, Dice {x['dice']:.3f}, {x['memory'] / 2**20:.0f} MiB at most"
        for way, x in after.items()
    )
    return common.Report(
        "torch",
        "The same U-Net in PyTorch",
        f"U-Net of width {WIDTH} and depth {DEPTH}, cross-entropy plus Dice, AdamW, batches of {BATCH}, the"
        " same weights at the start. PyTorch runs eagerly, as most of its users do, with as many threads as"
        " cores. Both get arrays that are there already.",
        found,
        packages=("tensorflow", "keras", "torch"),
        notes=f"After {seconds} s of training each, in a process of its own, on {len(parts[0][0])} drawn"
        f" images of {SIZE} px at a constant rate of {RATE:g}, on {len(parts[1][0])} others: {told}.",
    )


if __name__ == "__main__":
    common.main(measure, __doc__)
