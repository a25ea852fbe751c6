"""Photos changed so that the ready networks answer otherwise: what ``voclab attack`` does and says."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from voclab.app import predict as predicting
from voclab.app.predict import Answering, Prediction
from voclab.attacks import FGSM, PGD, Adversary, Attack, Noise, Target, visibility
from voclab.data.decoding import decode
from voclab.data.listing import shown
from voclab.errors import VoclabError
from voclab.evaluation import open_saved
from voclab.models import ready
from voclab.models.network import Network
from voclab.models.prediction import resized_to, shape_at

# What people call an attack -> the attack. PGD goes on after its first success: a sure answer shows more.
ATTACKS: dict[str, Attack] = {
    "FGSM": FGSM(),
    "PGD": PGD(steps=10, step=0.25, early_stop=False),
    "noise": Noise(),
}
GENERATOR = "generator"  # the attack that the package has a trained network for
VICTIMS = {"classifier": (ready.CLASSIFIER,), "segmenter": (ready.SEGMENTER,), "both": ready.NAMES}
_SEEN = 0.01  # share of the pixels from which on a class counts as seen by the segmenter


@dataclass(frozen=True, eq=False)
class Outcome:
    """A photo before and after an attack.

    Attributes:
        clean: (H, W, 3) uint8: the photo as ``voclab predict`` shows it to the network.
        image: (H, W, 3) uint8: the same, attacked.
        before: what is seen in ``clean``.
        after: what is seen in ``image``.
        fooled: whether the classifier gives the answer that was wanted; ``None`` where it was no victim, or
            where what shall vanish was nothing that it saw.
    """

    clean: np.ndarray
    image: np.ndarray
    before: Prediction
    after: Prediction
    fooled: bool | None

    @property
    def changed(self) -> float:
        """Share of the pixels whose label is another one."""
        return float((self.before.labels != self.after.labels).mean())

    @cached_property
    def visible(self) -> dict[str, float]:
        """How large the change is, see :func:`voclab.attacks.visibility`."""
        return visibility(self.image[None], self.clean[None])

    def text(self) -> str:
        """What was seen, what is seen, and what was changed, in a line."""
        verdict = {True: "Classifier fooled; ", False: "Classifier not fooled; ", None: ""}[self.fooled]
        share = f"{100 * self.changed:.0f} % of the pixels"
        return (
            f"before {self.before.text()}. After {self.after.text()}. {verdict}{share} get another label."
            f" {size_of_change(self.visible)}"
        )

    def as_dict(self) -> dict:
        """The same for programs, with all classes."""
        return {
            "before": self.before.as_dict(),
            "after": self.after.as_dict(),
            "fooled": self.fooled,
            "changed": round(self.changed, 6),
            "largest_change": int(self.visible["linf"]),
            "psnr": round(self.visible["psnr"], 3) if self.visible["linf"] else None,
            "ciede2000": round(self.visible["ciede2000"], 3),
        }


@dataclass(frozen=True, eq=False)
class Attacking:
    """An attack on the ready networks, ready to be run on photos.

    What ``voclab predict`` says of a photo counts as true, and what it says of the changed one is what was
    reached: it runs the network that is attacked, in another format.

    Attributes:
        attack: what changes the pixels.
        victims: the networks to fool, names of :data:`voclab.models.ready.NAMES`.
        network: the first of them.
        answering: ``voclab predict``, of the same networks.
        epsilon: the most that a pixel value may change, in steps of an 8-bit value.
        goal: one of ``voclab.attacks.target.GOALS``.
        class_name: of a goal that has one.
    """

    attack: Attack
    victims: Sequence[str]
    network: Network
    answering: Answering
    epsilon: float
    goal: str = "untargeted"
    class_name: str | None = None

    def __call__(self, file: str | Path) -> Outcome:
        """Attack a photo.

        Raises:
            VoclabError: it cannot be read, the goal is reached without an attack, or a gradient shows no
                direction.
        """
        photo = decode(file)
        pixels = resized_to(photo, shape_at(photo.shape[:2], self.network.size))
        clean = np.rint(255 * pixels).astype(np.uint8)
        before = predicting.of_image(self.answering, clean)
        self._require_something_to_do(before, file)
        found = self.attack(self.network, pixels[None], self._target(before), self.epsilon / 255)
        image = np.rint(255 * found[0]).astype(np.uint8)
        after = predicting.of_image(self.answering, image)
        return Outcome(clean, image, before, after, self._fooled(before, after))

    @property
    def _classifies(self) -> bool:
        return ready.CLASSIFIER in self.victims

    @property
    def _segments(self) -> bool:
        return ready.SEGMENTER in self.victims

    def _require_something_to_do(self, before: Prediction, file: str | Path) -> None:
        named = self._classifies and self.class_name in before.present
        placed = self._segments and before.regions.get(self.class_name, 0) >= _SEEN
        if self.goal == "vanish" and not (named or placed):
            raise VoclabError(f"In {shown(file)} there is no {self.class_name} seen that could vanish.")
        if self.goal == "appear" and named:
            raise VoclabError(f"In {shown(file)} a {self.class_name} is seen already, without an attack.")

    def _target(self, before: Prediction) -> Target:
        """The goal where nobody knows the truth: not what is said now, or a class there or not there."""
        names = self.answering.class_names
        k = None if self.class_name is None else names.index(self.class_name)
        if self.network.task == "segmentation":  # label 0 is background
            return Target(before.labels[None], self.goal, k if k is None else k + 1)
        held = _held(before)
        return Target(np.array([[name in held for name in names]], np.uint8), self.goal, k)

    def _fooled(self, before: Prediction, after: Prediction) -> bool | None:
        if not self._classifies:
            return None
        if self.goal == "untargeted":
            return _top(after) not in _held(before)
        if self.goal == "vanish" and self.class_name not in before.present:
            return None  # only the segmenter saw it
        return (self.class_name in after.present) == (self.goal == "appear")


def open_attacking(
    method: str, victim: str, epsilon: float, goal: str = "untargeted", class_name: str | None = None
) -> Attacking:
    """Load what is needed to attack photos.

    Args:
        method: :data:`GENERATOR` or a key of :data:`ATTACKS`, in small letters.
        victim: key of :data:`VICTIMS`; one network where ``method`` follows a gradient.
        epsilon: the most that a pixel value may change, in steps of an 8-bit value.
        goal: ``"untargeted"``, or with ``class_name`` ``"appear"`` or ``"vanish"``.
        class_name: a class that the networks know.

    Raises:
        VoclabError: files of the package are missing or damaged, or nothing is installed that can run them.
    """
    victims, answering = VICTIMS[victim], predicting.open_answering()
    if method == GENERATOR:
        attack: Attack = Adversary(ready.load_generator(), victims)
    else:
        attack = next(attack for name, attack in ATTACKS.items() if name.lower() == method)
    return Attacking(attack, victims, open_saved(victims[0]), answering, epsilon, goal, class_name)


def write(outcome: Outcome, path: Path, mark: str) -> None:
    """Write the attacked photo without loss, so that ``voclab predict`` sees it to the last bit.

    Args:
        outcome: with the photo.
        path: the file, a PNG.
        mark: the command that writes it, as for :func:`voclab.app.predict.targets`.

    Raises:
        VoclabError: it cannot be written.
    """
    predicting.write_png(Image.fromarray(outcome.image), path, mark)


def size_of_change(visible: dict[str, float]) -> str:
    """A sentence on what :func:`voclab.attacks.visibility` found."""
    if not visible["linf"]:
        return "Nothing was changed."
    return f"No value changes by more than {visible['linf']:.0f} of 255 (PSNR {visible['psnr']:.0f} dB)."


def _top(prediction: Prediction) -> str:
    return max(prediction.classes, key=prediction.classes.__getitem__)


def _held(prediction: Prediction) -> set[str]:
    """The classes that an untargeted attack must get away from."""
    return {*prediction.present, _top(prediction)}
