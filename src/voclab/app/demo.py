"""What the page of ``voclab app`` says of a photo: classes, places, attacks, perturbations. No Gradio."""

import importlib.resources
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
from scipy.special import expit, softmax

from toyvoc.voc import toyvoc_scene
from voclab.app.attack import ATTACKS, GENERATOR, size_of_change
from voclab.app.predict import LONGEST, small
from voclab.attacks import Adversary, Attack, Target, visibility
from voclab.corruptions import CONSISTENCY, perturbed
from voclab.data.base import voc_palette
from voclab.data.decoding import decode
from voclab.data.images import at_size, eight_bit, jpeg
from voclab.errors import VoclabError
from voclab.evaluation.explain import GradCam
from voclab.models import ready
from voclab.models.classifiers import FEATURES
from voclab.models.network import Network
from voclab.models.prediction import TestTime
from voclab.plotting import magnified, overlay

MOST = 16  # the largest epsilon, steps of an 8-bit value
_AS_IT_IS = ("rotation", "horizontal_flip", "vertical_flip")  # done or not, so their strength is not scaled
_DRAWN = (10, 16)  # which scenes of ToyVOC's test set are examples
_HEAT = 0.55  # opacity of a heat map, as in the figures
_PALETTE = voc_palette()


@dataclass(frozen=True)
class Regions:
    """What a segmenter finds in an image.

    Attributes:
        labels: (H, W) uint8 label map.
        overlay: (H, W, 3) uint8: the image, paler, under the colours of the classes.
        legend: name, colour (R, G, B) and share of the pixels of each class that is there, largest first.
    """

    labels: np.ndarray
    overlay: np.ndarray
    legend: tuple[tuple[str, tuple[int, int, int], float], ...]


@dataclass(frozen=True)
class Seen:
    """What the networks say of an image: class -> probability, and regions where there is a segmenter."""

    classes: dict[str, float]
    regions: Regions | None

    @property
    def top(self) -> str:
        """The class with the highest probability."""
        return max(self.classes, key=self.classes.__getitem__)

    def said(self) -> str:
        """The top class with its probability, for people."""
        return f"{self.top} {100 * self.classes[self.top]:.0f}\N{NO-BREAK SPACE}%"


@dataclass(frozen=True)
class Attacked:
    """An attack on a photo.

    Attributes:
        image: (size, size, 3) uint8: what the network under attack sees, to the last bit.
        shown: (H, W, 3) uint8: the same in the photo's proportions.
        perturbation: (H, W, 3) uint8: the change times ``factor`` around grey.
        factor: that makes the change visible.
        before: what is said of the photo at the same size.
        after: what is said of ``image``.
        verdict: a sentence on what the attack did.
    """

    image: np.ndarray
    shown: np.ndarray
    perturbation: np.ndarray
    factor: int
    before: Seen
    after: Seen
    verdict: str


class Answers:
    """A classifier and, if wished, a segmenter, ready to answer about photos.

    Args:
        classifier: a network of the task ``multilabel`` or ``multiclass`` that knows its size and classes.
        segmenter: a network of the task ``segmentation`` that does.

    Raises:
        VoclabError: a network of another task, or without names of classes.
    """

    def __init__(self, classifier: Network, segmenter: Network | None = None):
        for network, segments in ((classifier, False), (segmenter, True)):
            if network is None:
                continue
            if (network.task == "segmentation") != segments:
                wanted, option = ("segmenter", "--model") if segments else ("classifier", "--segmenter")
                raise VoclabError(f"{network.weights or network.name} is no {wanted}; name it with {option}.")
            if not network.class_names:
                raise VoclabError(
                    f"{network.weights or network.name} does not name its classes; keep it beside its run's"
                    " config.json."
                )
        self.classifier, self.segmenter = classifier, segmenter
        if segmenter is not None:
            # One view of a photo: all that it is measured with, sizes and mirror images, would take seconds.
            side = max(32, round(segmenter.size / 32) * 32)
            self.segmenter = replace(segmenter, size=side, test_time=TestTime((side,), flip=False))

    @property
    def victims(self) -> dict[str, Network]:
        """The networks that can be attacked, by what the page calls them."""
        found = {"classifier": self.classifier, "segmenter": self.segmenter}
        return {name: network for name, network in found.items() if network is not None}

    @cached_property
    def attacks(self) -> tuple[str, ...]:
        """What the page calls the attacks; the generator is the first, if it knows these networks."""
        known = all(network.weights in ready.NAMES for network in self.victims.values())
        return (GENERATOR, *ATTACKS) if known and ready.has_generator() else tuple(ATTACKS)

    @cached_property
    def _generators(self) -> dict[str, Attack]:
        """The generator against each of the victims."""
        generator = ready.load_generator()
        return {name: Adversary(generator, (network.weights,)) for name, network in self.victims.items()}

    @property
    def explains(self) -> bool:
        """Whether there is Grad-CAM: the classifier has the layer that it looks at."""
        return self.classifier.layer == FEATURES

    @cached_property
    def _cam(self) -> GradCam:
        return GradCam(self.classifier.model, self.classifier.size)

    def warm_up(self) -> None:
        """Compile everything that is needed, so that the first photo is answered as fast as the others."""
        grey = np.full((64, 64, 3), 128, np.uint8)
        self.look(grey)
        if self.explains:
            self.heat(grey, self.classifier.class_names[0])
        for victim in self.victims:
            for attack in dict.fromkeys(("FGSM", self.attacks[0])):
                self.attack(grey, attack, 1, victim)

    # --- a photo ---

    def look(self, photo: np.ndarray) -> Seen:
        """What is in an (H, W, 3) uint8 RGB image, and where."""
        regions = None
        if self.segmenter is not None:
            regions = self._regions(photo, next(self.segmenter.label_maps([photo])))
        return Seen(self._classes(photo), regions)

    def heat(self, photo: np.ndarray, name: str) -> np.ndarray:
        """Grad-CAM of the class of that name over an (H, W, 3) uint8 RGB image, which it returns as such.

        Raises:
            VoclabError: no such class, or a classifier without the layer that Grad-CAM looks at.
        """
        names = self.classifier.class_names
        if name not in names:
            raise VoclabError(f"The network knows no class {name!r}; choose one of {', '.join(names)}.")
        if not self.explains:
            raise VoclabError(
                f"{self.classifier.name} has no layer {FEATURES!r} for Grad-CAM; name a classifier that"
                " voclab trained."
            )
        heat = np.rint(255 * self._cam(photo, names.index(name))).astype(np.uint8)
        colours = cv2.applyColorMap(heat, cv2.COLORMAP_INFERNO)[..., ::-1]
        return cv2.addWeighted(photo, 1 - _HEAT, np.ascontiguousarray(colours), _HEAT, 0)

    # --- attacks ---

    def attack(self, photo: np.ndarray, attack: str, epsilon: int, victim: str = "classifier") -> Attacked:
        """Perturb a photo so that a network no longer says what it says now.

        Args:
            photo: (H, W, 3) uint8 RGB. It is attacked at the size at which the network sees it.
            attack: one of :attr:`attacks`.
            epsilon: the most that a pixel value may change, in steps of an 8-bit value.
            victim: key of :attr:`victims`.

        Raises:
            VoclabError: no such attack or victim, an epsilon that is not allowed, or a gradient that shows no
                direction.
        """
        if attack not in self.attacks or victim not in self.victims or not 0 <= epsilon <= MOST:
            raise VoclabError(
                f"There is no attack {attack} on a {victim} with epsilon {epsilon:g}; choose one of"
                f" {', '.join(self.attacks)}, {' or '.join(self.victims)}, and 0 to {MOST}."
            )
        network = self.victims[victim]
        clean = at_size(photo, network.size)
        pixels = eight_bit(clean[None])
        target = _own_answer(network, network.logits(pixels))
        run = self._generators[victim] if attack == GENERATOR else ATTACKS[attack]
        found = run(network, pixels, target, epsilon / 255)
        image = np.rint(255 * found[0]).astype(np.uint8)
        before, after = self._look_at_square(clean, photo), self._look_at_square(image, photo)
        reached = float(target.succeeded(network, network.logits(eight_bit(image[None])))[0])
        factor, visible = 127 // max(int(epsilon), 1), visibility(image[None], clean[None])
        return Attacked(
            image,
            _proportioned(image, photo),
            _proportioned(magnified(image, clean, factor), photo),
            factor,
            before,
            after,
            f"{_verdict(network, before, after, reached)} {size_of_change(visible)}",
        )

    def compressed(self, photo: np.ndarray, image: np.ndarray, quality: int) -> Seen:
        """What is said of an attacked image once it was saved as JPEG.

        Args:
            photo: (H, W, 3) uint8 RGB, for the proportions of the overlay.
            image: what :attr:`Attacked.image` is.
            quality: of the JPEG, 1 to 100.
        """
        return self._look_at_square(jpeg(image, int(quality)), photo)

    # --- perturbations ---

    def perturbations(self, photo: np.ndarray, scale: float) -> list[tuple[np.ndarray, str]]:
        """The ten perturbations of :data:`voclab.corruptions.CONSISTENCY`, and what is said of each.

        Args:
            photo: (H, W, 3) uint8 RGB. It is perturbed at the size at which the classifier sees it.
            scale: the strengths are multiplied by it; rotation and flips are done as they are.

        Returns:
            The (H, W, 3) uint8 RGB images in the photo's proportions, each with a caption: name, strength,
            top class.
        """
        square, found = at_size(photo, self.classifier.size), []
        for title, (name, strength) in CONSISTENCY.items():
            strength = strength if name in _AS_IT_IS else strength * scale
            image = perturbed(square, name, strength)
            turned = name == "rotation" and strength % 180 == 90
            shape = photo.transpose(1, 0, 2) if turned else photo
            amount = "" if name in _AS_IT_IS else f" {strength:.3g}"
            said = Seen(self._classes(image), None).said()
            found.append((_proportioned(image, shape), f"{title}{amount}: {said}"))
        return found

    # --- how ---

    def _classes(self, image: np.ndarray) -> dict[str, float]:
        network = self.classifier
        logits = network.logits(eight_bit(at_size(image, network.size)[None]))[0].astype(np.float64)
        shares = expit(logits) if network.task == "multilabel" else softmax(logits)
        return {name: float(share) for name, share in zip(network.class_names, shares, strict=True)}

    def _look_at_square(self, image: np.ndarray, photo: np.ndarray) -> Seen:
        """What is said of a (size, size, 3) uint8 image as it is, shown in the photo's proportions."""
        regions, shown = None, _proportioned(image, photo)
        if self.segmenter is not None:
            logits = self.segmenter.logits(eight_bit(at_size(image, self.segmenter.size)[None]))[0]
            large = cv2.resize(logits, shown.shape[1::-1], interpolation=cv2.INTER_LINEAR)
            regions = self._regions(shown, large.argmax(-1).astype(np.uint8))
        return Seen(self._classes(image), regions)

    def _regions(self, image: np.ndarray, labels: np.ndarray) -> Regions:
        shares = np.bincount(labels.ravel(), minlength=256) / labels.size
        there = [k for k in np.argsort(-shares, kind="stable") if k and shares[k] > 0]
        legend = [
            (self.segmenter.class_names[k - 1], tuple(_PALETTE[k].tolist()), float(shares[k])) for k in there
        ]
        return Regions(labels, overlay(image, labels), tuple(legend))


def open_photo(path: str | Path) -> np.ndarray:
    """A photo as the page uses it: (H, W, 3) uint8 RGB, upright, its longest side at most :data:`LONGEST`.

    Raises:
        VoclabError: no image, or none that can be read; the file is called by its name, wherever it lies.
    """
    try:
        return small(decode(path))
    except VoclabError as error:
        raise VoclabError(str(error).replace(str(path), Path(path).name)) from error


def write_examples(folder: str | Path) -> list[Path]:
    """Write the examples of the page into a folder; returns their files.

    Three photos come with scikit-image: Chelsea the cat (Stefan van der Walt, CC0), the astronaut Eileen
    Collins (NASA, public domain) and a cup of coffee (Rachel Michetti, CC0). Two scenes are drawn.
    """
    found = []
    for name in ("chelsea.png", "astronaut.png", "coffee.png"):
        found.append(Path(folder) / name)
        found[-1].write_bytes((importlib.resources.files("skimage.data") / name).read_bytes())
    for index in _DRAWN:
        found.append(Path(folder) / f"drawn-{index}.png")
        cv2.imwrite(str(found[-1]), toyvoc_scene(0, "test", index, size=480).image[..., ::-1])
    return found


def _own_answer(network: Network, logits: np.ndarray) -> Target:
    """The goal of an attack when nobody knows the truth: not what the network says now."""
    if network.task != "multilabel":
        return Target(logits.argmax(-1))
    thresholds = 0.5 if network.thresholds is None else network.thresholds
    present = expit(logits, dtype=np.float64) >= thresholds
    present[np.arange(len(logits)), logits.argmax(1)] = True
    return Target(present.astype(np.uint8))


def _verdict(network: Network, before: Seen, after: Seen, reached: float) -> str:
    if network.task == "segmentation":
        return f"{100 * reached:.0f} % of the pixels change their label."
    if reached:
        return f"Fooled: {before.said()} became {after.said()}."
    return f"Not fooled: {before.said()} before, {after.said()} after."


def _proportioned(image: np.ndarray, photo: np.ndarray) -> np.ndarray:
    """A square image in the proportions of a photo, its shorter side as long unless that is a strip."""
    height, width = photo.shape[:2]
    scale = min(len(image) / min(height, width), LONGEST / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
