"""How well a classifier notices images of a kind that it does not know: left-out classes, other data, noise.

*Far*: images from elsewhere, and uniform noise, are unknown; the test images are known. They may well show
classes of the same name: unknown means of another kind than the training images.

*Near*: some classes are left out. A linear head is fitted on frozen features of the calibration images that
show none of them. Known are the test images that show none of them, unknown those that show nothing else;
what shows both is not measured. The features may have been trained with these classes, the head was not.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from voclab.attacks import Bench
from voclab.data.base import Dataset
from voclab.data.images import eight_bit
from voclab.errors import VoclabError
from voclab.metrics import mean_average_precision
from voclab.metrics.outliers import Separation, nearness, roc, scores_of, separation
from voclab.models.network import Network
from voclab.training.features import fit_linear_head

NOISE = "uniform noise"
NEIGHBOURS = "nearest neighbours"
FEWEST = 5  # images of a kind; of fewer nothing can be said
_PENALTY = 1.0  # of the linear head
_BATCH = 16


@dataclass(frozen=True)
class Unknown:
    """What :func:`measure` found of one set of unknown images.

    Attributes:
        known: number of known images.
        unknown: number of unknown ones.
        separations: score -> AUROC and false positive rate.
        curves: score -> ROC curve, (share of unknown, share of known images at or above a score).
        told: for near sets, a sentence on the head that answered; else empty.
    """

    known: int
    unknown: int
    separations: dict[str, Separation]
    curves: dict[str, tuple[np.ndarray, np.ndarray]]
    told: str = ""


def lone_classes(labels: np.ndarray, names: Sequence[str]) -> list[str]:
    """Two classes to leave out that make many images unknown and cost few: the default.

    Those shown alone most often, images that show them beside others counted against them; labels are
    (n, classes), 0 or 1.
    """
    alone = labels[labels.sum(1) == 1].sum(0, dtype=int)
    order = np.argsort(labels.sum(0, dtype=int) - 2 * alone, kind="stable")
    return [names[k] for k in order[:2]]


def measure(
    network: Network,
    calibration: Dataset,
    test: Dataset,
    far: Mapping[str, Dataset],
    left_out: Sequence[str] = (),
    *,
    seed: int = 0,
    progress: Callable[[str], None] = lambda line: None,
) -> dict[str, Unknown]:
    """Measure every score on uniform noise, on each data set of ``far``, and with classes left out.

    Args:
        network: a classifier whose classes are those of the data.
        calibration: images with truth: the neighbours of known images, and what the head is fitted on.
        test: images with truth, none of them in ``calibration``.
        far: title -> images from elsewhere; at most as many as test images are seen, spread evenly.
        left_out: names of classes of the data; none for no near set.
        seed: of noise and bootstrap.
        progress: receives a line a set.

    Raises:
        VoclabError: a segmenter, or too few images of any kind.
    """
    if network.task == "segmentation":
        raise VoclabError(
            f"{network.name} is a segmenter, and unknown images are told by a classifier; name one."
        )
    for part in (calibration, test, *far.values()):
        if len(part) < FEWEST:
            raise VoclabError(
                f"{part.name} {part.split} has {len(part)} images; to tell unknown images from known ones,"
                f" {FEWEST} or more of each are needed."
            )
    parts = _parts(calibration, test, left_out) if left_out else None  # refused before anything is computed
    progress(f"features of {len(calibration)} + {len(test)} known images")
    reference, _ = _seen(network, Bench(calibration, network.size).images)
    features, logits = _seen(network, Bench(test, network.size).images)
    found = {}
    if parts:
        title = f"{' and '.join(left_out)} left out"
        progress(title)
        found[title] = _near(calibration, test, reference, features, parts, seed)
    size, rng = network.size, np.random.default_rng(seed)
    sets = {title: Bench(data.spread(len(test)), size) for title, data in far.items()}
    for title in (*sets, NOISE):
        progress(title)
        if title == NOISE:
            images = rng.integers(0, 256, (len(test), size, size, 3), np.uint8)
        else:
            images = sets[title].images
        others, answers = _seen(network, images)
        known, unknown = ((scores_of(z, network.task), x) for z, x in ((logits, features), (answers, others)))
        found[title] = _compared(reference, known, unknown, seed)
    return found


def _seen(network: Network, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features (n, d) and logits (n, classes) of (n, H, W, 3) uint8 images."""
    parts = [network.features(eight_bit(images[k : k + _BATCH])) for k in range(0, len(images), _BATCH)]
    features, logits = (np.concatenate(found) for found in zip(*parts))
    return features, logits


def enough(calibration: Dataset, test: Dataset, left_out: Sequence[str]) -> bool:
    """Whether there are images enough of each kind to leave these classes out."""
    return min(part.sum() for part in _split(calibration, test, left_out)[1:]) >= FEWEST


def _split(calibration: Dataset, test: Dataset, left_out: Sequence[str]) -> tuple[np.ndarray, ...]:
    """Which classes are kept, which images fit the head, and which test images are known and unknown."""
    kept = np.ones(len(test.class_names), bool)
    kept[[test.class_names.index(name) for name in left_out]] = False
    fitted = ~calibration.labels[:, ~kept].any(1)
    known = ~test.labels[:, ~kept].any(1)
    return kept, fitted, known, ~known & ~test.labels[:, kept].any(1)


def _parts(calibration: Dataset, test: Dataset, left_out: Sequence[str]) -> tuple[np.ndarray, ...]:
    """:func:`_split`, where there are enough images of each kind."""
    kept, fitted, known, unknown = _split(calibration, test, left_out)
    if min(fitted.sum(), known.sum(), unknown.sum()) < FEWEST:
        raise VoclabError(
            f"Without {' and '.join(left_out)} there are {fitted.sum()} images to fit on and {known.sum()}"
            f" known ones, and {unknown.sum()} images show nothing else; at least {FEWEST} of each are"
            " needed: leave out other classes or name more images."
        )
    return kept, fitted, known, unknown


def _near(calibration, test, reference, features, parts, seed) -> Unknown:
    kept, fitted, known, unknown = parts
    labels = calibration.labels[fitted][:, kept]
    kernel, bias = fit_linear_head(reference[fitted][None], labels, _PENALTY)
    logits = features @ kernel + bias
    score = mean_average_precision(test.labels[known][:, kept], logits[known])
    told = (
        f"A linear head for the other {kept.sum()} classes was fitted on frozen features of"
        f" {fitted.sum()} images; its mAP on the known test images is {score:.3f}."
    )
    # One binary regression a class, so its logits are those of independent labels, whatever the data's task.
    ours, others = ((scores_of(logits[part], "multilabel"), features[part]) for part in (known, unknown))
    return _compared(reference[fitted], ours, others, seed, told)


def _compared(reference, known, unknown, seed: int, told: str = "") -> Unknown:
    """Both sides are (scores by title, features)."""
    known, unknown = ({**scores, NEIGHBOURS: nearness(reference, x)} for scores, x in (known, unknown))
    pairs = {title: (known[title], unknown[title]) for title in known}
    count, others = (len(scores) for scores in pairs[NEIGHBOURS])
    return Unknown(
        count,
        others,
        {title: separation(*pair, seed=seed) for title, pair in pairs.items()},
        {title: roc(*pair) for title, pair in pairs.items()},
        told,
    )
