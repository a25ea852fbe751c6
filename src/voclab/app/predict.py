"""What is in photos and where, for ``voclab predict``. Keras is imported only for runs of one's own."""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from voclab.app import litert
from voclab.data.base import refusal, voc_palette
from voclab.data.decoding import decode, opened
from voclab.data.images import resized
from voclab.data.listing import Listing, counted, list_images, nfc, shown, some
from voclab.data.overlay import overlay
from voclab.errors import VoclabError
from voclab.files import atomic_path
from voclab.models import ready
from voclab.models.prediction import resized_to, shape_at
from voclab.terminal import start_keras

LONGEST = 1024  # pixels: label maps of larger photos are computed at this side; in full they take gigabytes
_LEAST = 0.01  # share of the pixels: smaller regions are not worth a place in a line
_LONGEST_NAME = 190  # bytes: file systems take 255, of which suffixes and temporary names need some
_MARK = "voclab predict"  # in the files written, which a later prediction may replace
_SUFFIXES = (".png", "_overlay.jpg")  # of these files
_QUALITY = 92  # of overlays, as JPEG

Look = Callable[[np.ndarray], tuple[np.ndarray | None, np.ndarray | None]]


@dataclass(frozen=True, eq=False)
class Answering:
    """A network and how to read what it says.

    Attributes:
        look: (H, W, 3) uint8 -> (classes,) probabilities, and a label map (h, w) uint8, h and w at most
            :data:`LONGEST`; ``None`` for what the network does not say.
        runtime: what computes, with its version, for people.
        name: of the network.
        class_names: without the background.
        thresholds: (classes,) probabilities from which on a class counts as present; ``None`` where an image
            has one class, or where the network names only places.
        places: whether it gives label maps.
    """

    look: Look
    runtime: str
    name: str
    class_names: tuple[str, ...]
    thresholds: np.ndarray | None
    places: bool


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a network says of an image.

    Attributes:
        image: (H, W, 3) uint8 RGB, upright.
        classes: name -> probability; ``None`` of a network that names only places.
        present: the names that count as present, most probable first.
        labels: label map (h, w) uint8, not larger than ``image``, 0 background; ``None`` of a classifier.
        regions: name -> share of the pixels, largest first, without the background; ``None`` of a classifier.
    """

    image: np.ndarray
    classes: dict[str, float] | None
    present: tuple[str, ...]
    labels: np.ndarray | None
    regions: dict[str, float] | None

    @property
    def mask(self) -> np.ndarray:
        """The label map at the size of the image: (H, W) uint8."""
        height, width = self.image.shape[:2]
        return cv2.resize(self.labels, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)

    def text(self) -> str:
        """Classes and places in a line."""
        parts = []
        if self.present:
            parts.append(", ".join(f"{name} {_percent(self.classes[name])}" for name in self.present))
        elif self.classes:
            best = max(self.classes, key=self.classes.get)
            parts.append(f"unsure, perhaps {best} {_percent(self.classes[best])}")
        if self.regions is not None:
            large = [f"{name} {_percent(share)}" for name, share in self.regions.items() if share >= _LEAST]
            parts.append(f"pixels: {', '.join(large) or 'background only'}")
        return "; ".join(parts)

    def as_dict(self) -> dict:
        """The same for programs, with all classes."""
        height, width = self.image.shape[:2]
        return {
            "size": [width, height],
            "classes": self.classes and {name: round(p, 6) for name, p in self.classes.items()},
            "present": list(self.present),
            "regions": self.regions and {name: round(share, 6) for name, share in self.regions.items()},
        }


def photos(named: Sequence[str | Path]) -> tuple[list[Path], list[str]]:
    """The images named, each once, and of folders those that lie directly in them, by name.

    Returns:
        The files, and a sentence for each folder that also holds others.

    Raises:
        VoclabError: no such file or folder, or a folder without images. An image is checked when it is read.
    """
    found: dict[str, Path] = {}
    notes = []
    for path in map(Path, named):
        if not path.exists():
            raise refusal(shown(path), "is missing", "name an image or a folder of images")
        files, others = list_images(path, deep=False) if path.is_dir() else Listing((path,), Counter())
        if not files:
            raise refusal(shown(path), "holds no images itself", "name a folder that does")
        if others:
            kinds = some(sorted(others), 5)
            unread = counted(others.total(), "file")
            notes.append(f"{shown(path)}: left out {unread} that cannot be read as an image ({kinds}).")
        for file in files:
            found.setdefault(os.path.realpath(file), file)
    return list(found.values()), notes


def targets(
    files: Sequence[Path],
    folder: Path,
    named: Sequence[str | Path],
    suffixes: Sequence[str] = _SUFFIXES,
    mark: str = _MARK,
) -> list[tuple[Path, ...]]:
    """Where what is made of each image goes: ``NAME.png`` and ``NAME_overlay.jpg``.

    An image whose name another one has, but for its suffix or folder, becomes ``NAME-2`` and so on.

    Args:
        files: the images.
        folder: where the files go.
        named: what the command line names, files and folders.
        suffixes: what follows NAME; a path for each.
        mark: the command, as its files name it.

    Raises:
        VoclabError: a file would take the place of an image, or of one that this command did not write.
    """
    for path in named:
        if folder.is_dir() and os.path.isdir(path) and os.path.samefile(path, folder):
            what = "holds the images themselves, and what is written would lie among them"
            raise refusal(shown(folder), what, "name another folder with --to")
    originals = {_identity(file) for file in files}
    found, taken = [], set()
    for file in files:
        paths, number = _paths(folder, file.stem, suffixes), 2
        while taken & (keys := {nfc(path.name).casefold() for path in paths}):
            paths, number = _paths(folder, f"{file.stem}-{number}", suffixes), number + 1
        taken |= keys
        found.append(paths)
        for path in paths:
            if path.exists() and _identity(path) in originals:
                raise refusal(shown(path), "is an image that is looked at", "name another folder with --to")
            _require_not_in_the_way(path, mark)
    return found


def open_answering(model: str | None = None) -> Answering:
    """The network that answers.

    Args:
        model: a run's folder, a ``.keras`` file, or a folder of ``voclab export --to litert``; without it the
            network that comes with the package, see :mod:`voclab.models.ready`.

    Raises:
        VoclabError: there is no such network, or nothing is installed that can run it.
    """
    if model is None or ready.named(model):
        return _ready()
    if (Path(model) / litert.CARD).is_file():
        return _exported(model)
    return _of_keras(model)


def predict(answering: Answering, file: str | Path) -> Prediction:
    """What is in an image and where.

    Raises:
        VoclabError: the image cannot be read.
    """
    return of_image(answering, decode(file))


def of_image(answering: Answering, image: np.ndarray) -> Prediction:
    """What is in an (H, W, 3) uint8 RGB image and where."""
    probabilities, labels = answering.look(image)
    classes, present, regions = None, [], None
    if probabilities is not None:
        classes = {name: float(p) for name, p in zip(answering.class_names, probabilities, strict=True)}
        order = np.argsort(-probabilities, kind="stable")
        if answering.thresholds is None:
            present = order[:1]
        else:
            present = [k for k in order if probabilities[k] >= answering.thresholds[k]]
    if labels is not None:
        shares = np.bincount(labels.ravel(), minlength=1 + len(answering.class_names))[1:] / labels.size
        order_of_size = np.argsort(-shares, kind="stable")
        regions = {answering.class_names[k]: float(shares[k]) for k in order_of_size if shares[k]}
    names = tuple(answering.class_names[k] for k in present)
    return Prediction(image, classes, names, labels, regions)


def write(prediction: Prediction, pair: Sequence[Path]) -> None:
    """Write the label map, at the size of the image and in VOC's palette, and the overlay.

    Args:
        prediction: with a label map.
        pair: the two files, see :func:`targets`.

    Raises:
        VoclabError: they cannot be written.
    """
    mask = Image.fromarray(prediction.mask)
    mask.putpalette(voc_palette().tobytes())  # of grey values it makes indices
    write_png(mask, pair[0], _MARK)
    with atomic_path(pair[1]) as unfinished:
        shown_on = Image.fromarray(overlay(small(prediction.image), prediction.labels))
        shown_on.save(unfinished, "JPEG", quality=_QUALITY, comment=_MARK)


def write_png(image: Image.Image, path: Path, mark: str) -> None:
    """Write an image that says which command wrote it, for :func:`targets`.

    Raises:
        VoclabError: a file is there by now that this command did not write.
    """
    _require_not_in_the_way(path, mark)
    told = PngInfo()
    told.add_text("Software", mark)
    with atomic_path(path) as unfinished:
        image.save(unfinished, "PNG", pnginfo=told)


def _paths(folder: Path, name: str, suffixes: Sequence[str]) -> tuple[Path, ...]:
    if len(encoded := os.fsencode(name)) > _LONGEST_NAME:
        name = encoded[:_LONGEST_NAME].decode("utf-8", "ignore")
    return tuple(folder / f"{name}{suffix}" for suffix in suffixes)


def _identity(path: Path) -> tuple[int, int]:
    """The same for all names of a file."""
    status = os.stat(path)
    return status.st_dev, status.st_ino


def _require_not_in_the_way(path: Path, mark: str) -> None:
    if os.path.lexists(path) and not _written_by(mark, path):
        what = f"is in the way, and `{mark}` did not write it"
        raise refusal(shown(path), what, "move it, or name another folder with --to")


def _written_by(mark: str, path: Path) -> bool:
    """Whether a file says that this command wrote it."""
    try:
        with opened(path) as (image, _):
            return image.info.get("Software", image.info.get("comment")) in (mark, mark.encode())
    except VoclabError:
        return False


def _percent(share: float) -> str:
    rounded = round(100 * share)
    return "<1 %" if rounded < 1 else ">99 %" if rounded > 99 and share < 1 else f"{rounded} %"


def _ready() -> Answering:
    card = ready.card()
    answers, runtime = litert.interpreter(ready.FOLDER / ready.LITE, remedy=ready.REMEDY)

    def look(image):
        found = answers(resized_to(image, shape_at(image.shape[:2], card["size"]))[None])
        return _sigmoid(found["presence"][0]), _label_map(found["places"][0], image)

    thresholds = np.array(card["thresholds"])
    return Answering(look, runtime, ready.CLASSIFIER, tuple(card["class_names"]), thresholds, places=True)


def _exported(folder: str | Path) -> Answering:
    network = litert.open_exported(folder)

    def look(image):
        logits = network.logits(resized(image, network.size)[None])[0]
        return (None, _label_map(logits, image)) if places else (_PROBABILITIES[network.task](logits), None)

    places = network.task == "segmentation"
    count = network.logits(np.zeros((1, network.size, network.size, 3))).shape[-1] - places
    return _described(look, network, network.runtime, count)


def _of_keras(model: str) -> Answering:
    from voclab.models.saved import model_file

    model_file(model)  # what is missing is said before Keras is imported
    start_keras()
    import keras

    from voclab.evaluation import open_saved

    network = open_saved(model)

    def look(image):
        if network.task == "segmentation":
            return None, next(iter(network.label_maps([small(image)])))
        return _PROBABILITIES[network.task](network.logits(resized(image, network.size)[None])[0]), None

    return _described(look, network, f"Keras {keras.__version__}", network.outputs)


def _described(look: Look, network, runtime: str, count: int) -> Answering:
    """What answers, of a network that says classes or places."""
    names = network.class_names or tuple(f"class {k}" for k in range(count))
    thresholds = network.thresholds
    if network.task == "multilabel" and thresholds is None:
        thresholds = np.full(count, 0.5)
    return Answering(look, runtime, network.name, names, thresholds, network.task == "segmentation")


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return 0.5 + 0.5 * np.tanh(0.5 * logits.astype(np.float64))  # SciPy would take a third of a second more


def _softmax(logits: np.ndarray) -> np.ndarray:
    shares = np.exp(logits.astype(np.float64) - logits.max())
    return shares / shares.sum()


_PROBABILITIES = {"multilabel": _sigmoid, "multiclass": _softmax}


def _shape(image: np.ndarray) -> tuple[int, int]:
    """Height and width of its label map: its own, but at most :data:`LONGEST`."""
    scale = min(1.0, LONGEST / max(image.shape[:2]))
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    return height, width


def small(image: np.ndarray) -> np.ndarray:
    """An (H, W, 3) uint8 image, its longest side at most :data:`LONGEST`."""
    height, width = _shape(image)
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def _label_map(logits: np.ndarray, image: np.ndarray) -> np.ndarray:
    """(h, w) uint8 labels at :func:`_shape` of the image, of (s, s, classes) logits. One plane at a time."""
    height, width = _shape(image)
    labels, highest = np.zeros((height, width), np.uint8), None
    for k, plane in enumerate(np.ascontiguousarray(logits.transpose(2, 0, 1))):
        plane = cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR)
        if highest is None:
            highest = plane
        else:
            labels[plane > highest] = k
            np.maximum(highest, plane, out=highest)
    return labels
