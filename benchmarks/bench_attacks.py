"""Attacks: FGSM and PGD-20 against foolbox and the Adversarial Robustness Toolbox, on the same networks.

Each library gets the network as its documentation says (run eagerly by both), and once more compiled by
`tf.function`, as somebody would who looks for speed.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import functools
import sys
import tempfile
from collections.abc import Callable

import common
import keras
import numpy as np
import tensorflow as tf

from voclab.attacks import FGSM, PGD, Victim
from voclab.datasets import cifar10
from voclab.datasets.toycifar import make_toycifar
from voclab.models import zoo
from voclab.training.source import CNN_OPTIONS, SHIPPED

EPSILON = 8 / 255
STEPS, STEP = 20, 0.125  # the step as a share of epsilon
BATCH = 64
CLASSES = 10
NETWORKS = {  # and how many pictures are attacked: at 64 × 64 each costs ten times as much
    "plain CNN": (functools.partial(zoo.build, "cnn"), 256),
    "residual CNN, pretrained": (
        functools.partial(zoo.build, "residual_cnn", weights=str(SHIPPED), width=CNN_OPTIONS["width"]),
        64,
    ),
}


def pictures(train: int, test: int) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """Drawn pictures of 32 × 32 in [0, 1] and their classes, to train on and to attack."""
    with tempfile.TemporaryDirectory() as folder:
        root = make_toycifar(folder, train=train, test=test, progress=False)
        parts = [cifar10.read(root, split) for split in ("train", "test")]
        photos = [np.stack([part.image(i) for i in range(len(part))]) for part in parts]
        return tuple((x.astype(np.float32) / 255, part.labels.argmax(1)) for x, part in zip(photos, parts))


def trained(build: Callable, images: np.ndarray, labels: np.ndarray, epochs: int) -> keras.Model:
    """A network that is right often enough for an attack to mean something."""
    keras.utils.set_random_seed(0)
    model = build(CLASSES)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(2e-3), loss, jit_compile=False)
    rng = np.random.default_rng(0)
    for _ in range(epochs):
        order = rng.permutation(len(images))
        for start in range(0, len(order) - BATCH + 1, BATCH):
            chosen = order[start : start + BATCH]
            model.train_on_batch(images[chosen], labels[chosen])
    return model


def ours(attack, model: keras.Model, images: np.ndarray, labels: np.ndarray) -> Callable[[], np.ndarray]:
    victim = Victim(model, "multiclass")

    def call():
        parts = [slice(k, k + BATCH) for k in range(0, len(images), BATCH)]
        return np.concatenate([attack(victim, images[p], labels[p], EPSILON) for p in parts])

    return call


def foolboxes(steps: int, network, images: np.ndarray, labels: np.ndarray) -> Callable[[], np.ndarray]:
    import foolbox

    model = foolbox.TensorFlowModel(network, bounds=(0, 1))
    if steps == 1:
        attack = foolbox.attacks.LinfFastGradientAttack(random_start=False)
    else:
        attack = foolbox.attacks.LinfProjectedGradientDescentAttack(
            abs_stepsize=STEP * EPSILON, steps=steps, random_start=True
        )

    def call():
        found = []
        for k in range(0, len(images), BATCH):
            x, y = (tf.convert_to_tensor(a[k : k + BATCH]) for a in (images, labels.astype(np.int64)))
            found.append(attack(model, x, y, epsilons=EPSILON)[1].numpy())
        return np.concatenate(found)

    return call


def toolboxes(steps: int, network, images: np.ndarray, labels: np.ndarray) -> Callable[[], np.ndarray]:
    from art.attacks.evasion import FastGradientMethod, ProjectedGradientDescentTensorFlowV2
    from art.estimators.classification import TensorFlowV2Classifier

    classifier = TensorFlowV2Classifier(
        model=network,
        nb_classes=CLASSES,
        input_shape=images.shape[1:],
        loss_object=tf.keras.losses.CategoricalCrossentropy(from_logits=True),
        clip_values=(0.0, 1.0),
    )
    if steps == 1:
        attack = FastGradientMethod(classifier, eps=EPSILON, batch_size=BATCH)
    else:
        attack = ProjectedGradientDescentTensorFlowV2(
            classifier,
            eps=EPSILON,
            eps_step=STEP * EPSILON,
            max_iter=steps,
            num_random_init=1,
            batch_size=BATCH,
            verbose=False,
        )
    return lambda: attack.generate(images, y=np.eye(CLASSES, dtype=np.float32)[labels])


def compiled(model: keras.Model) -> Callable:
    """The network as one graph, with what both libraries ask of a model."""
    function = tf.function(lambda x, training=False: model(x, training=False), reduce_retracing=True)
    return lambda x, training=False: function(x)


def success(model: keras.Model, images: np.ndarray, labels: np.ndarray) -> float:
    logits = [model(images[k : k + BATCH], training=False).numpy() for k in range(0, len(images), BATCH)]
    return float((np.concatenate(logits).argmax(1) != labels).mean())


def growing(factor: int):
    (images, labels), _ = pictures(640, 10)
    model = trained(NETWORKS["plain CNN"][0], images, labels, 1)
    n = 160 * factor
    attack = PGD("cross_entropy", steps=STEPS, step=STEP)
    return ours(attack, model, images[:n], labels[:n]), n


def measure(quick: bool) -> common.Report:
    train, every = pictures(640 if quick else 3000, 256)
    libraries = {"foolbox": foolboxes, "adversarial-robustness-toolbox": toolboxes}
    libraries = {name: make for name, make in libraries.items() if common.version(name)}
    cases = []
    for title, (build, count) in list(NETWORKS.items())[: 1 if quick else None]:
        test = tuple(part[:count] for part in every)
        model = trained(build, *train, epochs=1 if quick else 8)
        clean = success(model, *test)
        for name, steps in (("FGSM", 1), (f"PGD-{STEPS}", STEPS)):
            full = PGD("cross_entropy", steps=STEPS, step=STEP, early_stop=False)
            attack = full if steps > 1 else FGSM("cross_entropy")
            ways = {"voclab": ours(attack, model, *test)}
            if steps > 1:
                default = ours(PGD("cross_entropy", steps=STEPS, step=STEP), model, *test)
                ways = {"voclab": default, "voclab, all steps": ways["voclab"]}
            for library, make in libraries.items():
                ways[library] = make(steps, model, *test)
                ways[f"{library}, compiled"] = make(steps, compiled(model), *test)
            rates = {way: success(model, call(), test[1]) for way, call in ways.items()}
            assert rates["voclab"] >= max(rates.values()) - 0.02, rates  # speed must not cost success
            text = ", ".join(f"{way} {rate:.1%}" for way, rate in rates.items())
            cases.append(
                common.Case(
                    f"{name}, {title}",
                    common.timed(ways, 1 if quick else common.REPETITIONS),
                    items=len(test[0]),
                    unit="picture",
                    target=1.5,
                    note=f"Wrong before {clean:.1%}, and after: {text}.",
                )
            )
    return common.Report(
        "attacks",
        "Gradient attacks",
        "Drawn pictures of 32 × 32 in batches of {BATCH}, L∞ 8/255, cross-entropy; PGD with a"
        f" random start and {STEPS} steps of an eighth. The pretrained network sees them enlarged to 64 × 64."
        " Ours also asserts the bound after rounding to 8 bits. Both libraries run a network as it is given;"
        " *compiled* hands them the same one as a graph. By default our PGD leaves a picture alone once it is"
        " fooled.",
        cases,
        [] if quick else [common.growth("attacks: PGD-20, plain CNN", "pictures", growing)],
        ("tensorflow", "keras", "foolbox", "adversarial-robustness-toolbox"),
    )


if __name__ == "__main__":
    sys.exit(common.main(measure, __doc__))
