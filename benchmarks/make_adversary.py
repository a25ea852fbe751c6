"""Train the adversary that comes with the package, against the networks that come with it.

    python benchmarks/make_adversary.py VOC RUNS [PART…]

VOC is a folder with a VOCdevkit of VOC 2009; runs go to RUNS, where those of make_ready.py are, and a killed
one goes on. What was chosen was chosen by `choices`: the network that make_ready.py trained on four fifths of
the training images is the victim, and the fifth that neither it nor the generator has seen says which epoch
is best. Then `shipped` trains once more, on all training images, against the networks that are shipped; there
are no unseen images left then, so 16 of those that it is trained on say which epoch is kept. Both train
on crops, twice, from nothing and on from there, and then on whole images. The card of the networks gets the
figures on the test images. With PARTs only these are trained and nothing is written.
"""

import sys
from dataclasses import replace
from pathlib import Path

import make_ready

from voclab.attacks import AdversarialPerturbation
from voclab.data import load, test_split
from voclab.data.base import Dataset
from voclab.data.splits import fit_validation
from voclab.evaluation import conditions
from voclab.models import ready
from voclab.models.joint import classifier_of, segmenter_of
from voclab.models.network import Network
from voclab.training import Experiment, Parts, Recipe, Run
from voclab.training.experiment import run

SIZE = 192  # pixels, of the crops: half of what the networks look at
EPOCHS, FILLING, WHOLE = 60, 30, 16
JUDGED = 16  # validation images after each epoch: the rate falls to zero, so the last ones are the best
OPTIONS = {"width": 160}
ATTACKS = ("generator", "noise", "fgsm", "pgd2", "pgd")
EPSILONS = (2, 4, 8)  # bounds of the card's figures, steps of 1/255


def experiment(name: str) -> Experiment:
    """One generator against the classifier and the segmenter."""
    task = AdversarialPerturbation(ready.NAMES, images=JUDGED, looked_at=make_ready.SIZE)
    recipe = Recipe(
        SIZE, "crops", EPOCHS, 3e-3, batch_size=8, weight_decay=0.0, patience=EPOCHS, warmup=0.5, seed=0
    )
    return Experiment(f"adversary-{name}", task, "generator", recipe, options=OPTIONS)


def filling(first: Experiment) -> Experiment:
    """The same, trained on from there; it begins as large as validation images say, and fills the bounds."""
    recipe = replace(first.recipe, epochs=FILLING, learning_rate=1.5e-3, patience=FILLING)
    return replace(first, name=f"{first.name}-filling", recipe=recipe, start=first.name)


def whole(second: Experiment) -> Experiment:
    """The same, trained on from there on images as the networks look at them."""
    size = make_ready.SIZE
    recipe = replace(second.recipe, size=size, augmentation="none", batch_size=4, learning_rate=1e-3)
    recipe = replace(recipe, epochs=WHOLE, patience=WHOLE)
    return replace(second, name=f"{second.name}-whole", recipe=recipe, start=second.name)


def victims(joint) -> dict[str, Network]:
    """The classifier and the segmenter in a network of ``build_joint``."""
    parts = (classifier_of, "multilabel"), (segmenter_of, "segmentation")
    return {
        name: Network(part(joint), task, name, size=make_ready.SIZE)
        for name, (part, task) in zip(ready.NAMES, parts, strict=True)
    }


def of_choices(folder: Path):
    """The network that make_ready.py trained on four fifths, with its two parts weighed as in the shipped."""
    trained, shipped = Run(folder / "fit" / "tuned-0").load_model(), ready.load_joint()
    of_all = Run(folder / "all" / "tuned-0").load_model()
    for name in ("presence_of_whole", "presence_of_places"):
        before, after = of_all.get_layer(name).get_weights(), shipped.get_layer(name).get_weights()
        # Slope and intercept that turned one into the other; the bias takes the intercept.
        factor = float((before[0] * after[0]).sum() / (before[0] ** 2).sum())
        values = [factor * x for x in trained.get_layer(name).get_weights()]
        if name == "presence_of_whole":
            values[1] = values[1] + float((after[1] - factor * before[1]).mean())
        trained.get_layer(name).set_weights(values)
    return trained


def main(voc: str, folder: str, *only: str) -> None:
    """Train, and write what is shipped."""
    training, test = load("voc2009", voc, "train"), load("voc2009", voc, test_split("voc2009"))
    fit_set, validation = fit_validation(training, 0.2, 0)
    if "choices" in only or not only:
        data = Parts(fit_set, validation, test)
        trained("choices", data, Path(folder), victims(of_choices(Path(folder))))
    if "shipped" in only or not only:
        data = Parts(training, validation, test)
        done = trained("shipped", data, Path(folder), victims(ready.load_joint()))
        if not only:
            ready.save_generator(done.load_model())
            card = {**ready.card(), "attacks": measured(test)}
            card["minutes of the generator"] = round(done.metrics["seconds"] / 60, 1)  # of all parts
            make_ready.write_card(card)


def trained(name: str, data: Parts, folder: Path, networks: dict[str, Network]) -> Run:
    """The run of the third experiment, after the other two."""
    first = experiment(name)
    second = filling(first)
    for part in (first, second, whole(second)):
        done = run(part, data, folder, networks=networks)
    return done


def measured(test: Dataset) -> dict[str, dict]:
    """What `voclab evaluate --model ready --attacks` says of both networks, by condition."""
    given = {"settings": {}, "attacks": ATTACKS, "epsilons": EPSILONS, "attacked": make_ready.ATTACKED}
    return {
        name: conditions.report(name, test, **given, progress=print).as_dict()["conditions"]
        for name in ready.NAMES
    }


if __name__ == "__main__":
    if len(sys.argv) < 3 or not set(sys.argv[3:]) <= {"choices", "shipped"}:
        raise SystemExit(__doc__)
    main(*sys.argv[1:])
