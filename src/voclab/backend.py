"""What must know which backend Keras runs on (here TensorFlow): gradients, inference, resizing, devices."""

import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from voclab.errors import VoclabError, first_line
from voclab.processes import Cluster

# Gradients at pixels are computed this many times as large and divided again: those of a mean over pixels
# fall below what float16 holds. A power of two changes nothing in float32.
_SCALE = 2.0**6
_SHARING = "GPU"  # the kind of device that shares batches
# See use_machines.
_machines: tf.distribute.MultiWorkerMirroredStrategy | None = None
_cluster: Cluster | None = None


@contextlib.contextmanager
def _tape(x):
    """Records what is needed for gradients with respect to ``x`` and, unlike by default, to no weight."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(x)
        yield tape


def value_and_gradient(function: Callable, x: np.ndarray):
    """Value (float) of a scalar function of a tensor, and its gradient (float32 array) at the array ``x``."""
    x = tf.convert_to_tensor(x, tf.float32)
    with _tape(x) as tape:
        value = function(x)
    return float(value), tape.gradient(value, x).numpy()


def use_all_gpus(batch_size: int) -> int:
    """Let all networks made from now on train on every visible GPU, each on its part of the batch.

    Args:
        batch_size: images a step, of all GPUs together.

    Returns:
        How many GPUs are used: the most that divide the batch evenly; 0 or 1 change nothing.
    """
    devices = [device.name for device in tf.config.list_logical_devices(_SHARING)]
    if tf.distribute.has_strategy():  # TensorFlow's devices cannot share messages under a second one
        return replicas()
    used = max((n for n in range(1, len(devices) + 1) if batch_size % n == 0), default=0)
    if used > 1:
        tf.distribute.experimental_set_strategy(tf.distribute.MirroredStrategy(devices[:used]))
    return used


def use_machines(cluster: Cluster, batch_size: int) -> None:
    """Let several machines train each network together, each on its part of the batch.

    All of them must do the same from now on, since they wait for one another. Must come before TensorFlow is
    used; returns once all of them have.

    Args:
        cluster: what ``TF_CONFIG`` says, which TensorFlow reads again.
        batch_size: images a step, of all machines together.

    Raises:
        VoclabError: the others cannot be reached, or the devices of all do not divide the batch evenly.
    """
    global _machines, _cluster
    try:
        _machines, _cluster = tf.distribute.MultiWorkerMirroredStrategy(), cluster
    except (tf.errors.OpError, RuntimeError) as error:
        raise VoclabError(
            f"Worker {cluster.index} of {cluster.workers} cannot reach the others ({first_line(error)});"
            " check the addresses in TF_CONFIG and that the same command runs on each machine."
        ) from error
    devices = _machines.num_replicas_in_sync
    if batch_size % devices:
        raise VoclabError(
            f"Batches of {batch_size} images cannot be shared evenly by {devices} devices; choose a multiple"
            f" of {devices} as --batch-size."
        )


def several_machines() -> bool:
    """Whether :func:`use_machines` was called."""
    return _machines is not None


def is_chief() -> bool:
    """Whether this process writes the run's folder: everywhere but on the other workers of a cluster."""
    return _cluster is None or _cluster.index == 0


@contextlib.contextmanager
def on_all_machines() -> Iterator[None]:
    """Within, networks are built, trained, saved and loaded by all machines together; else by each alone.

    Raises:
        VoclabError: another machine cannot be reached any more.
    """
    with _machines.scope() if _machines else contextlib.nullcontext(), _reachable():
        yield


@contextlib.contextmanager
def _reachable() -> Iterator[None]:
    """Turn TensorFlow's error after another worker ended into a sentence with the remedy."""
    try:
        yield
    except (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.DeadlineExceededError) as error:
        if _machines is None:
            raise
        raise VoclabError(
            "Another worker of TF_CONFIG has ended or cannot be reached; see what it said, and start the same"
            " command on every machine again: the training goes on after its last epoch."
        ) from error


def sum_over_machines(x: np.ndarray) -> np.ndarray:
    """The sum of every machine's float32 array of one shape; ``x`` itself where there is one machine."""
    if _machines is None:
        return x

    def value(context):  # the other devices of a machine add nothing
        return tf.constant(x if context.replica_id_in_sync_group % local == 0 else 0 * x, tf.float32)

    local = len(_machines.extended.worker_devices)
    with _reachable():
        values = _machines.experimental_distribute_values_from_function(value)
        return _machines.reduce("SUM", values, axis=None).numpy()


def bytes_of_chief(data: bytes) -> bytes:
    """The bytes that the chief has, on every machine; what others give is ignored."""
    if _machines is None:
        return data
    own = data if is_chief() else b""
    # Three bytes each, which a float32 holds exactly; NCCL and gRPC both add those up. A length first.
    high, low = sum_over_machines(np.array(divmod(len(own), 2**20), np.float32)).astype(int)
    length = int(high * 2**20 + low)
    numbers = np.zeros(-(-length // 3), np.float32)
    if is_chief():
        padded = np.frombuffer(own.ljust(3 * len(numbers), b"\0"), np.uint8).reshape(-1, 3)
        numbers = (padded @ np.array([1, 2**8, 2**16])).astype(np.float32)
    found = sum_over_machines(numbers).astype(np.uint32) if length else numbers.astype(np.uint32)
    return found.astype("<u4").view(np.uint8).reshape(-1, 4)[:, :3].tobytes()[:length]


def by_chief(compute: Callable[[], Any]) -> Any:
    """What ``compute()`` gives on the chief, which JSON can hold; it runs there alone.

    Raises:
        VoclabError: that of the chief, on every machine.
    """
    if _machines is None:
        return compute()
    told: dict[str, Any] = {}
    if is_chief():
        try:
            told = {"found": compute()}
        except VoclabError as error:
            told = {"error": str(error)}
        except BaseException as error:
            bytes_of_chief(json.dumps({"error": f"The chief failed: {first_line(error)}"}).encode())
            raise
    told = json.loads(bytes_of_chief(json.dumps(told).encode()))
    if "error" in told:
        raise VoclabError(told["error"])
    return told["found"]


def shared_batches(stream: Callable[[tuple[int, int] | None], tf.data.Dataset]):
    """The batches that ``fit`` takes, of which each machine makes its own part only.

    Args:
        stream: called with (k, n) for the k-th of n equal parts of each batch, or ``None`` for whole batches.
    """
    if _machines is None:
        return stream(None)
    local = len(_machines.extended.worker_devices)

    def of_devices(part):  # each device takes the next element
        return tf.reshape(part, (local, -1, *part.shape[1:]))

    def own(context):
        part = stream((context.input_pipeline_id, context.num_input_pipelines))
        return part.map(lambda *one: tf.nest.map_structure(of_devices, one)).unbatch() if local > 1 else part

    return _machines.distribute_datasets_from_function(own)


def accelerated() -> bool:
    """Whether there is anything faster than the CPU."""
    return any(device.device_type != "CPU" for device in tf.config.list_logical_devices())


def replicas() -> int:
    """Devices that share each batch of a training."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def _shared_step():
    """The context of a training step that several devices share; ``None`` elsewhere."""
    context = tf.distribute.get_replica_context()
    return context if context is not None and context.num_replicas_in_sync > 1 else None


def sum_over_replicas(x):
    """The sum of what each device has of its part of the batch, in a training step; ``x`` elsewhere."""
    context = _shared_step()
    return context.all_reduce(tf.distribute.ReduceOp.SUM, x) if context else x


def gather_over_replicas(x):
    """What each device has, joined along the first axis, in a training step; ``x`` elsewhere."""
    context = _shared_step()
    return context.all_gather(x, axis=0) if context else x


def share_of_mean(loss):
    """A scalar loss as what this device adds to the mean over all, in a training step; ``loss`` elsewhere.

    Keras divides the losses of single images so, whose mean it takes, but not one that is a scalar already.
    """
    return loss / replicas() if _shared_step() else loss


def own_part(x, size):
    """The part of this device in a tensor for the whole batch, :func:`replicas` × ``size`` long."""
    context = _shared_step()
    rank = context.replica_id_in_sync_group if context else 0
    return x[rank * size : (rank + 1) * size]


def train_as_one(model: keras.Model) -> None:
    """Let a compiled model that several devices train take the steps that one would.

    By itself Keras normalises by the statistics of each device's part, cuts the gradient of each part, and
    looks for overflow in the first. The optimizer gets the mean of the parts' gradients instead, and adds
    these equal shares up itself: a norm to cut at must be divided by :func:`replicas`.
    """
    if replicas() == 1:
        return
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True
    apply = model.optimizer.apply

    def apply_mean(gradients, trainable_variables=None):
        shares = [None if g is None else sum_over_replicas(g) / replicas() for g in gradients]
        apply(shares, trainable_variables)

    model.optimizer.apply = apply_mean
    if several_machines():
        _report_means(model)


def _report_means(model: keras.Model) -> None:
    """Let ``fit`` on several machines report the mean of all, which Keras 3.15 does not do for numbers.

    It takes means along the first axis of what each device reports; and before the first step it would
    average images over machines to build a model that is built already, which fails.
    """
    result = model.get_metrics_result

    def vectors():
        figures = result()
        return {k: keras.ops.reshape(v, (1,)) for k, v in figures.items()} if _shared_step() else figures

    model.get_metrics_result = vectors
    model._maybe_symbolic_build = lambda **_: None


def out_of_memory(error: BaseException) -> bool:
    """Whether TensorFlow, or Python code that it called, failed for lack of memory."""
    if isinstance(error, (MemoryError, tf.errors.ResourceExhaustedError)):
        return True
    # tf.data turns what its Python functions raise into an error of its own that quotes it; some kernels of
    # cuDNN and XLA report a failed allocation as an internal error.
    quoted = ("MemoryError", "ResourceExhaustedError", "RESOURCE_EXHAUSTED", "out of memory")
    return isinstance(error, tf.errors.OpError) and any(words in str(error) for words in quoted)


def finite(answers: np.ndarray, name: str) -> np.ndarray:
    """The answers (n, …) of a network, as they are.

    Raises:
        VoclabError: some are NaN or infinite: whatever is computed from these is a number without meaning.
    """
    wrong = ~np.isfinite(answers).all(axis=tuple(range(1, np.ndim(answers))))
    if wrong.any():
        raise VoclabError(
            f"The network {name} answers NaN or infinity for {int(wrong.sum())} of {len(wrong)} images; train"
            " it again with a lower learning rate, or look for an overflow in its layers."
        )
    return answers


def compiled(model: Callable, name: str | None = None, told: int = 0) -> Callable[..., np.ndarray]:
    """Inference of a model of pixels as one graph for all batch and image sizes.

    ``predict_on_batch`` traces a graph for every size, which takes longer than most images.

    Args:
        model: called as ``model(pixels, training=False)``.
        name: what people call it; without one, the model's own.
        told: numbers an image that the model is told beside the pixels; it is called with both in a list.

    Returns:
        (B, H, W, 3) float32, and (B, told) float32 if there are any -> float32 array, which :func:`finite`
        has seen.
    """
    title = name or getattr(model, "name", "in use")
    signature = [tf.TensorSpec((None, None, None, 3), tf.float32)]
    if told:
        signature.append(tf.TensorSpec((None, told), tf.float32))
    graph = tf.function(
        lambda x, *more: model([x, *more] if more else x, training=False), input_signature=signature
    )

    def forward(*given: np.ndarray) -> np.ndarray:
        answers = graph(*(tf.convert_to_tensor(x, tf.float32) for x in given)).numpy()
        return finite(answers.astype(np.float32, copy=False), title)

    return forward


def resize(x, height, width):
    """Bilinear resizing of (B, h, w, C) to a size that may be known only when the graph runs, same dtype.

    ``keras.ops.image.resize`` insists on numbers, and so fails once a model has met a second image size.
    """
    return tf.cast(tf.image.resize(x, (height, width), method="bilinear"), x.dtype)


def compiled_gradient(model: Callable, objective: Callable, truth_rank: int):
    """The value of an objective of a model's output, image by image, and its gradient at the images.

    Args:
        model: pixels (B, H, W, 3) tensor -> output tensor.
        objective: (output, truth) tensors -> (B,) values; those of one image depend on that image alone.
        truth_rank: number of axes of the truth.

    Returns:
        (pixels, truth) arrays or tensors -> (values (B,), gradients (B, H, W, 3), output), float32 tensors;
        one graph for all batch and image sizes.
    """
    signature = [
        tf.TensorSpec((None, None, None, 3), tf.float32),
        tf.TensorSpec((None,) * truth_rank, tf.int32),
    ]

    @tf.function(input_signature=signature)
    def graph(pixels, truth):
        with _tape(pixels) as tape:
            output = tf.cast(model(pixels), tf.float32)
            values = objective(output, truth)
            scaled = values * _SCALE
        # An output that does not depend on the pixels at all has no gradient: zero says the same.
        gradient = tape.gradient(scaled, pixels, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return values, gradient / _SCALE, output

    def call(pixels, truth):
        return graph(
            tf.convert_to_tensor(pixels, tf.float32), tf.convert_to_tensor(np.asarray(truth, np.int32))
        )

    return call


def input_gradient(function: Callable, x):
    """Gradient of the sum of ``function(x)`` at a floating-point tensor ``x``, inside a graph."""
    with _tape(x) as tape:
        values = function(x) * _SCALE
    return tape.gradient(values, x) / _SCALE


def pulled_back(function: Callable, x, proposed: Callable):
    """Which change of a tensor brings about proposed changes of what a function makes of it.

    That is the transposed Jacobian of the function times the proposals, inside a graph. Gradients flow to
    what the proposals depend on, not through ``x``.

    Args:
        function: a floating-point tensor -> one tensor or a list of them.
        x: (B, …) tensor.
        proposed: the list of tensors, cut off from ``x`` -> for each, a tensor of its shape or ``None``.

    Returns:
        A tensor like ``x``.
    """
    x = tf.stop_gradient(x)
    with _tape(x) as tape:
        found = function(x)
        found = list(found) if isinstance(found, (list, tuple)) else [found]
        changes = proposed([tf.stop_gradient(y) for y in found])
        pairs = [(y, change) for y, change in zip(found, changes, strict=True) if change is not None]
        total = sum(tf.reduce_sum(tf.cast(y, tf.float32) * change) for y, change in pairs) * _SCALE
    return tape.gradient(total, x) / _SCALE


def saved_as_jpeg(images, quality):
    """(B, H, W, 3) float32 images in [0, 1] after JPEG of a quality, (B,) int32; gradients pass unchanged."""

    def saved(one):
        return tf.image.adjust_jpeg_quality(one[0], one[1])

    found = tf.map_fn(saved, (images, quality), fn_output_signature=tf.float32)
    return images + tf.stop_gradient(tf.ensure_shape(found, images.shape) - images)
