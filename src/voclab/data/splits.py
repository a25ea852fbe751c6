"""Seeded, stratified splits of the training images: what is chosen is chosen on the validation part."""

import numpy as np

from voclab.data.base import Dataset
from voclab.errors import VoclabError


def fit_validation(dataset: Dataset, fraction: float = 0.2, seed: int = 0) -> tuple[Dataset, Dataset]:
    """Split training images into the parts ``"fit"`` and ``"validation"``, in the order of the list.

    It depends on the labels, the fraction and the seed only, so classification and segmentation get the
    same parts. Multi-label data is split by iterative stratification (Sechidis et al., *On the
    stratification of multi-label data*, 2011). Its sizes are then made exact, and a class that has two
    images or more but is absent from one part gets one there by a swap, where that costs no other class
    its last one. Single-label data is split class by class.

    Args:
        dataset: images with labels.
        fraction: share of the images that goes to validation, between 0 and 1; rounded to whole images.
        seed: fixes the split.

    Raises:
        VoclabError: no labels, a fraction that is not between 0 and 1, or too few images: a part would be
            empty or, of single-label data, would lack a class.
    """
    _require_enough(dataset, fraction)
    labels, held = dataset.labels, round(len(dataset) * fraction)
    if dataset.task == "multiclass":
        in_validation = _shuffle_split(labels, held, seed)
    else:
        in_validation = _multilabel_split(labels, held, seed)
        _to_size(labels, in_validation, held, seed)
        _represent_classes(labels, in_validation)
    return (
        dataset.subset(np.flatnonzero(~in_validation), "fit"),
        dataset.subset(np.flatnonzero(in_validation), "validation"),
    )


def _require_enough(dataset: Dataset, fraction: float) -> None:
    """Refuse images that cannot be split, or not with every class in both parts."""
    if dataset.labels is None:
        raise VoclabError(
            f"{dataset.name} {dataset.split} has no labels to split by; use the training images."
        )
    n, classes, lack = len(dataset), 1, "empty"
    if dataset.task == "multiclass":
        counts = dataset.labels.sum(0, dtype=int)
        if 1 in counts:
            name = dataset.class_names[int((counts == 1).argmax())]
            raise VoclabError(
                f"The class {name!r} of {dataset.name} {dataset.split} has 1 image, but 2 are needed, one to"
                " fit on and one to validate on; take more images of it, or leave the class out."
            )
        classes, lack = max(1, int((counts > 0).sum())), "without one of each class"

    if not (0 < fraction < 1 and classes <= round(n * fraction) <= n - classes):  # NaN too
        raise VoclabError(
            f"A validation fraction of {fraction} leaves one part of {n} images {lack}; take more images or"
            " another fraction between 0 and 1."
        )


def _shuffle_split(labels: np.ndarray, held: int, seed: int) -> np.ndarray:
    from sklearn.model_selection import StratifiedShuffleSplit

    splitter = StratifiedShuffleSplit(1, test_size=held, random_state=seed)
    _, validation = next(splitter.split(np.zeros(len(labels)), labels.argmax(1)))
    return _as_mask(validation, len(labels))


def _multilabel_split(labels: np.ndarray, held: int, seed: int) -> np.ndarray:
    from iterstrat.ml_stratifiers import MultilabelStratifiedShuffleSplit

    if labels.shape[1] == 1:  # the splitter takes one column for a single-label task
        labels = np.hstack([labels, 1 - labels])
    splitter = MultilabelStratifiedShuffleSplit(1, test_size=held, random_state=seed)
    _, validation = next(splitter.split(np.zeros(len(labels)), labels))
    return _as_mask(validation, len(labels))


def _as_mask(indices: np.ndarray, n: int) -> np.ndarray:
    mask = np.zeros(n, bool)
    mask[indices] = True
    return mask


def _to_size(labels: np.ndarray, in_validation: np.ndarray, held: int, seed: int) -> None:
    """Bring validation to ``held`` images; iterative stratification misses it, with few images by far.

    Moves the image whose classes its part has most too many of.
    """
    order = np.random.default_rng(seed).permutation(len(labels))  # settles ties
    while (excess := in_validation.sum() - held) != 0:
        crowded = in_validation if excess > 0 else ~in_validation
        share = held / len(labels) if excess > 0 else 1 - held / len(labels)
        surplus = labels[crowded].sum(0, dtype=int) - share * labels.sum(0, dtype=int)
        candidates = order[crowded[order]]
        moved = candidates[(labels[candidates] @ surplus).argmax()]
        in_validation[moved] = excess < 0


def _represent_classes(labels: np.ndarray, in_validation: np.ndarray) -> None:
    """Swap images, rarest class first, until both parts have every class where that is possible."""
    totals = labels.sum(0, dtype=int)
    for k in np.argsort(totals, kind="stable"):
        for part in (True, False):
            here = in_validation == part
            candidates = np.flatnonzero(_spare(labels, ~here) & (labels[:, k] > 0))
            if totals[k] < 2 or labels[here, k].any() or not candidates.size:
                continue
            moved = candidates[labels[candidates].sum(1, dtype=int).argmin()]
            in_validation[moved] = part
            back = _spare(labels, in_validation == part)
            back[moved] = False
            candidates = np.flatnonzero(back)
            if candidates.size:  # the image of the commonest classes
                rarest = np.where(labels[candidates] > 0, totals, totals.max() + 1).min(1)
                moved = candidates[rarest.argmax()]
            in_validation[moved] = not part


def _spare(labels: np.ndarray, part: np.ndarray) -> np.ndarray:
    """(n,) bool: images of ``part`` without which every one of their classes is still in the part."""
    counts = labels[part].sum(0, dtype=int)
    return part & ((labels == 0) | (counts >= 2)).all(1) & (part.sum() > 1)
