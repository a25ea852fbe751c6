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
PLAIN, LAST = "PyTorch", "PyTorch, channels last"  # channels last is what CPUs convolve fastest
CHECKED = 5  # steps of training whose losses must agree
NOTES = """\
Where ours is slower here, a part is PyTorch's threads, which wait busily for a while after each call. By
itself, in a process without PyTorch, `Network.logits` took 1.05 ms an image at 64 px and 3.0 at 128 (here
1.17 and 3.7), of which the graph 0.76 and 2.6, and to look for NaN and to join the parts 1 to 3 %;
trainings in processes of their own are above. A graph for this size alone, or with constants for weights,
was no faster."""
APART = {"logits": 1e-3, "losses": 5e-3}  # how far the networks may differ


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


def theirs(weights: dict[str, list[np.ndarray]], way: str = PLAIN):
    """The same in PyTorch, ready to train; ``way`` says how tensors lie in memory."""
    import torch
    import unet_in_torch

    torch.set_num_threads(_cores())
    model = unet_in_torch.with_weights(weights, LABELS, WIDTH, DEPTH).to(memory_format=_order(way))
    return model, torch.optim.AdamW(model.parameters(), RATE, weight_decay=1e-3, fused=True)


def _cores() -> int:
    """Those that this process may use: with more threads they would wait for each other."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _order(way: str):
    import torch

    return torch.channels_last if way == LAST else torch.contiguous_format


def tensor_of(pixels: np.ndarray, way: str):
    """(B, 3, H, W) tensor of (B, H, W, 3) pixels in [0, 1]."""
    import torch

    return torch.from_numpy(pixels).movedim(-1, 1).contiguous(memory_format=_order(way))


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


def require_close(what: str, ours, theirs) -> float:
    """The largest difference.

    Raises:
        SystemExit: it is larger than rounding explains, so that the comparison would be of two networks.
    """
    apart = float(np.abs(np.asarray(ours) - np.asarray(theirs)).max())
    if not apart <= APART[what]:
        raise SystemExit(f"The two networks are not the same: {what} differ by {apart}.")
    return apart


def cases(size: int, images: np.ndarray, maps: np.ndarray, repetitions: int) -> list[common.Case]:
    """Inference, a step, and PGD on a batch of one size."""
    import torch
    import unet_in_torch

    from voclab.attacks import PGD, Network

    keras_model = ours()
    weights = weights_of(keras_model)
    pixels, truth = images[:BATCH].astype(np.float32) / 255, maps[:BATCH]
    labels = torch.from_numpy(truth).long()
    network = Network(keras_model, "segmentation")
    attack = PGD(steps=STEPS, step=STEP, random_start=False, early_stop=False)
    wrong = {common.OURS: _wrong(network, attack(network, pixels, truth, EPSILON), truth)}
    made = {
        "inference": {common.OURS: lambda: network.logits(pixels)},
        "PGD-20": {common.OURS: lambda: attack(network, pixels, truth, EPSILON)},
        "step of training": {common.OURS: lambda: keras_model.train_on_batch(pixels, truth)},
    }
    apart: dict[str, list[float]] = {"logits": [], "losses": []}
    steps = {}
    for way in (PLAIN, LAST):
        model, optimizer = theirs(weights, way)
        tensor, step = tensor_of(pixels, way), step_of(model, optimizer)

        @torch.no_grad()
        def forward(model=model, tensor=tensor):
            return model.eval()(tensor).numpy()

        def attacked(model=model, tensor=tensor):
            return unet_in_torch.pgd(model.eval(), tensor, labels, EPSILON, STEPS, STEP)

        apart["logits"].append(require_close("logits", network.logits(pixels), np.moveaxis(forward(), 1, -1)))
        wrong[way] = _wrong(network, np.moveaxis(attacked().numpy(), 1, -1), truth)
        made["inference"][way], made["PGD-20"][way] = forward, attacked
        steps[way] = made["step of training"][way] = lambda step=step, tensor=tensor: step(tensor, labels)
    # After all else, since it changes the weights. What is timed then goes on from the trained ones.
    losses = [keras_model.train_on_batch(pixels, truth) for _ in range(CHECKED)]
    for step in steps.values():
        apart["losses"].append(require_close("losses", losses, [step() for _ in range(CHECKED)]))
    shares = ", ".join(f"{way} {share:.1%}" for way, share in wrong.items())
    notes = {
        "inference": f"Logits differ by at most {max(apart['logits']):.1e}.",
        "PGD-20": f"Pixels wrong after {shares}.",
        "step of training": f"The losses of {CHECKED} steps, from the same weights on the same batch, fall"
        f" from {losses[0]:.2f} to {losses[-1]:.2f} and differ by at most {max(apart['losses']):.1e}.",
    }
    return [
        common.Case(
            f"{name}, {size} px",
            common.timed(ways, repetitions),
            items=BATCH,
            unit="image",
            note=notes[name],
        )
        for name, ways in made.items()
    ]


def _wrong(network, pixels: np.ndarray, truth: np.ndarray) -> float:
    """Share of the pixels that are not void that get a wrong label."""
    return float((network.logits(pixels).argmax(-1) != truth)[truth != 255].mean())


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

        model, optimizer = theirs(weights, way)
        one = step_of(model, optimizer)

        def step(chosen):
            pixels = tensor_of(images[chosen].astype(np.float32) / 255, way)
            one(pixels, torch.from_numpy(maps[chosen]).long())

        @torch.no_grad()
        def answers(batch):
            return np.moveaxis(model.eval()(tensor_of(batch, way)).numpy(), 1, -1)

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

    parts = drawn(*((32, 8) if quick else IMAGES), SIZE)
    found = cases(SIZE, *parts[0], 1 if quick else common.REPETITIONS)
    if not quick:
        found += cases(128, *drawn(BATCH, 1, 128)[0], common.REPETITIONS)
    seconds = 2 if quick else SECONDS
    weights = weights_of(ours())
    ways = (common.OURS, PLAIN, LAST)
    after = {way: common.alone(trained, way, seconds, parts, weights) for way in ways}
    told = "; ".join(
        f"{way} {x['rate']:.0f} images a second, Dice {x['dice']:.3f}, {x['memory'] / 2**20:.0f} MiB at most"
        for way, x in after.items()
    )
    return common.Report(
        "torch",
        "The same U-Net in PyTorch",
        f"U-Net of width {WIDTH} and depth {DEPTH}, cross-entropy plus Dice, AdamW, batches of {BATCH}, the"
        " same weights at the start. PyTorch runs eagerly, since torch.compile needs a C++ compiler, with as"
        " many threads as cores, and with tensors in either order in memory. All get arrays that are there"
        " already.",
        found,
        packages=("tensorflow", "keras", "torch"),
        notes=f"After {seconds} s of training each, in a process of its own, on {len(parts[0][0])} drawn"
        f" images of {SIZE} px at a constant rate of {RATE:g}, on {len(parts[1][0])} others: {told}.\n\n"
        + NOTES,
    )


if __name__ == "__main__":
    common.main(measure, __doc__)
