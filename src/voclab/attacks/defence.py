"""The defence: a classifier fine-tuned on the attacks that it meets (Madry et al. 2018).

Half of each batch stays clean (Kurakin et al. 2017): on attacks alone, short fine-tuning forgot the classes.
"""

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
from keras import ops

from voclab.attacks.adversary import model_digest
from voclab.attacks.gradient import PGD
from voclab.attacks.measures import Bench
from voclab.attacks.target import objective
from voclab.backend import input_gradient, own_part, replicas
from voclab.data.base import Dataset
from voclab.data.batches import DecodedCache
from voclab.errors import VoclabError
from voclab.models.network import Network
from voclab.terminal import say
from voclab.training import Recipe, Run, train
from voclab.training.identity import data_digest, known_by


@keras.saving.register_keras_serializable("voclab")
class AdversariallyTrained(keras.Model):
    """A classifier trained on images that PGD perturbs against its current weights.

    In use it is the network it was made from; only ``fit`` differs. Set up by :func:`harden`.
    """

    def arm(self, task: str, epsilon: float, steps: int, clean: bool = True) -> None:
        """Choose the attack: PGD on the loss, from a random start, in steps of 1.25 epsilon / steps.

        ``clean``: whether each batch is learnt from twice, as it is and perturbed; else perturbed only.
        """
        self._attack = (objective(task, "cross_entropy"), task, epsilon, steps)
        self._clean = clean
        self._start = keras.random.SeedGenerator(0)

    def train_step(self, data):
        images, truth = data
        perturbed = ops.stop_gradient(self._perturbed(images, truth))
        if not self._clean:
            return super().train_step((perturbed, truth))
        return super().train_step((ops.concatenate([images, perturbed]), ops.concatenate([truth, truth])))

    def _perturbed(self, images, truth):
        of_logits, task, epsilon, steps = self._attack
        target = ops.argmax(truth, axis=-1) if task == "multiclass" else truth

        def value(pixels):
            return of_logits(ops.cast(self(pixels, training=False), "float32"), target)

        size, *shape = ops.shape(images)
        noise = keras.random.uniform((replicas() * size, *shape), -epsilon, epsilon, seed=self._start)
        perturbed = ops.clip(images + own_part(noise, size), 0.0, 1.0)
        for _ in range(steps):
            moved = perturbed + 1.25 * epsilon / steps * ops.sign(input_gradient(value, perturbed))
            perturbed = ops.clip(ops.clip(moved, images - epsilon, images + epsilon), 0.0, 1.0)
        return perturbed


def harden(
    name: str,
    victim: Network,
    fit_set: Dataset,
    validation: Dataset,
    folder: Path,
    *,
    recipe: Recipe,
    epsilon: float = 8 / 255,
    steps: int = 2,
    cache_mb: float = 1024,
    progress: Callable[[str], None] = say,
) -> Run:
    """Fine-tune a classifier adversarially; the epoch that withstands PGD best on validation images is kept.

    A complete run of the same configuration is returned as it is; an interrupted one goes on.

    Args:
        name: folder of the run.
        victim: the classifier; it stays as it is.
        fit_set: images to train on.
        validation: images to choose the epoch on.
        folder: parent folder of the runs.
        recipe: size, policy, epochs and so on.
        epsilon: L∞ bound of the attacks in training.
        steps: PGD steps of these attacks.
        cache_mb: memory for decoded images.
        progress: receives lines of text.

    Returns:
        The complete :class:`Run`; an entry of its history has ``robust`` (accuracy of the top class under
        PGD with 5 steps) and ``accuracy`` (without an attack) of the validation images.
    """
    if victim.task == "segmentation":
        raise VoclabError("Adversarial fine-tuning here is for classifiers; a segmenter was given.")
    run = Run(folder / name)
    config = {
        "hardened": model_digest(victim.model),
        "recipe": recipe,
        "epsilon": epsilon,
        "steps": steps,
        "task": victim.task,
        "class_names": fit_set.class_names,
        "data": data_digest(fit_set, validation),
    }
    config = known_by(config, harden, victim.model)
    files, figures = ("history.json", "model.keras"), ("validation", "seconds")
    if run.begin(config, files=files, figures=figures, progress=progress):
        return run
    keras.utils.set_random_seed(recipe.seed)
    copy = keras.models.clone_model(victim.model)
    copy.set_weights(victim.model.get_weights())
    model = AdversariallyTrained(copy.inputs[0], copy.outputs[0], name=victim.model.name)
    model.arm(victim.task, epsilon, steps)
    bench = Bench(validation, recipe.size)

    def score(current) -> dict[str, float]:
        present = Network(current, victim.task, name)
        truth = bench.target(victim.task)
        attacked, _ = bench.attack(PGD(objective="cross_entropy", steps=5, step=0.3), present, epsilon)
        wrong = [
            truth.succeeded(present, bench.answers(present, images).values)
            for images in (bench.images, attacked)
        ]
        clean, robust = (float(1 - np.mean(w)) for w in wrong)
        return {"accuracy": clean, "robust": robust}

    multilabel = victim.task == "multilabel"
    losses = keras.losses.BinaryCrossentropy if multilabel else keras.losses.CategoricalCrossentropy
    train(
        model,
        fit_set,
        loss=losses(from_logits=True),
        recipe=recipe,
        run=run,
        score=score,
        monitor="robust",
        cache=DecodedCache(fit_set, cache_mb, longest_side=3 * recipe.size),
        progress=progress,
    )
    run.save_model(copy)  # shares its layers, so that loading the file takes none of this module
    best = max(run.history, key=lambda entry: entry["robust"])
    seconds = sum(entry.get("seconds", 0.0) for entry in run.history)
    run.finish({"validation": best, "seconds": round(seconds, 1)})
    progress(f"{name}: {best['robust']:.1%} right under PGD, trained in {seconds:.0f} s")
    return run
