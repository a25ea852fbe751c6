"""What a segmenter is worth: IoU, Dice, pixel accuracy, boundary F1; void is ignored by all of them."""

from collections.abc import Iterable

import cv2
import numpy as np

from voclab.data.base import VOC_CLASSES, VOID

_TOLERANCE = 0.0075  # of the boundary F1: a share of the image's diagonal


class SegmentationMetrics:
    """The figures of a data set, gathered image by image in one confusion matrix and a few sums.

    Memory does not grow with the number of images. Every figure is NaN as long as nothing defines it.

    Args:
        classes: number of labels, background (0) included; 21 for VOC.
        boundaries: compute the boundary F1, the costliest figure; without, it is NaN.

    Attributes:
        matrix: (classes, classes) int64, pixels by true label (rows) and predicted label (columns).
        images: number of images so far.
    """

    def __init__(self, classes: int = len(VOC_CLASSES) + 1, boundaries: bool = True):
        self.classes = classes
        self.boundaries = boundaries
        self.matrix = np.zeros((classes, classes), np.int64)
        self.images = 0
        self._dice_sum = 0.0
        self._boundary_sum = 0.0
        self._boundary_images = 0

    def update(self, truth: np.ndarray, predicted: np.ndarray) -> None:
        """Add one image, at its original resolution; a ``ValueError`` leaves everything as it was.

        Args:
            truth: (H, W), any integer type, 0 to ``classes`` - 1, 255 void.
            predicted: (H, W), any integer type, 0 to ``classes`` - 1.
        """
        matrix = _confusion(truth, predicted, self.classes)
        if self.boundaries:
            boundary = boundary_f1(truth, predicted)
            if not np.isnan(boundary):
                self._boundary_sum += boundary
                self._boundary_images += 1
        self.matrix += matrix
        self._dice_sum += _foreground_dice(matrix)
        self.images += 1

    def iou(self) -> np.ndarray:
        """Intersection over union of every label, tp / (tp + fp + fn) (VOC devkit, ``VOCevalseg.m``).

        (classes,) float64; NaN for a label in neither truth nor prediction.
        """
        hits, either = self._hits_and_sizes()
        return _share(hits, either - hits)

    def mean_iou(self) -> float:
        """Mean of :meth:`iou` over the labels that occur, background included, as VOC reports it."""
        return _mean(self.iou())

    def dice(self) -> np.ndarray:
        """Dice of every label over all images, 2 tp / (2 tp + fp + fn): (classes,), NaN as in :meth:`iou`."""
        hits, either = self._hits_and_sizes()
        return _share(2 * hits, either)

    def mean_dice(self) -> float:
        """Mean of :meth:`dice` over the foreground classes that occur."""
        return _mean(self.dice()[1:])

    def pixel_accuracy(self) -> float:
        """Share of the valid pixels, background included, whose label is right."""
        return float(_share(np.trace(self.matrix), self.matrix.sum()))

    def image_dice(self) -> float:
        """Mean over the images of :func:`image_scores`, the competition's figure for the masks."""
        return float(_share(self._dice_sum, self.images))

    def boundary_f1(self) -> float:
        """Mean of :func:`boundary_f1` over the images that have a boundary in truth or prediction."""
        return float(_share(self._boundary_sum, self._boundary_images))

    def report(self) -> dict[str, float | int | list[float]]:
        """All figures as plain Python values; ``dice`` and ``iou`` are lists with one value a label."""
        return {
            "mean_iou": self.mean_iou(),
            "mean_dice": self.mean_dice(),
            "image_dice": self.image_dice(),
            "boundary_f1": self.boundary_f1(),
            "pixel_accuracy": self.pixel_accuracy(),
            "dice": self.dice().tolist(),
            "iou": self.iou().tolist(),
            "images": self.images,
        }

    def _hits_and_sizes(self) -> tuple[np.ndarray, np.ndarray]:
        return np.diag(self.matrix), self.matrix.sum(0) + self.matrix.sum(1)


def image_scores(truth: np.ndarray, predicted: np.ndarray, classes: int = len(VOC_CLASSES) + 1) -> float:
    """The competition's Dice of one image: 2·|A∩B| / (|A|+|B|) over the stack of foreground masks.

    1 where both are empty. Void is left out of both; a submission file knows no void, so in one that
    holds the truth it is background, and what is predicted there counts as wrong.

    Args:
        truth: (H, W) integer label map, 255 void.
        predicted: (H, W) integer label map.
        classes: number of labels, background included.
    """
    return _foreground_dice(_confusion(truth, predicted, classes))


def boundary_f1(truth: np.ndarray, predicted: np.ndarray) -> float:
    """How well the outlines of one image agree, mean over its foreground classes.

    Follows Csurka et al. 2013, "What is a good evaluation measure for semantic segmentation?" A
    boundary pixel of a class has a 4-neighbour inside the image with another label. Precision is
    the share of the predicted boundary pixels that have a true one of the same class within the
    tolerance, 0.75 % of the image's diagonal and at least a pixel; recall the share of the true ones
    that have a predicted one; F1 is their harmonic mean, 0 where only one side has the class or a
    boundary of it. The result is the mean over the foreground classes that either side shows in a
    valid pixel; a class that fills the image on both sides has no boundary and is left out.

    VOC draws void some 5 pixels wide around objects; the true boundary is put in the middle of it,
    since each void pixel gets the label of the nearest valid one. Boundary pixels that lie deeper in
    void than the tolerance count neither as true nor as predicted.

    Truth and prediction are (H, W) integer label maps; NaN if there is no foreground class to compare.
    """
    truth, predicted = _label_maps(truth, predicted, VOID)
    reach = max(1.0, _TOLERANCE * float(np.hypot(*truth.shape)))
    valid = truth != VOID
    shown, claimed = (set(np.flatnonzero(np.bincount(labels[valid]))) - {0} for labels in (truth, predicted))
    if not shown | claimed:
        return float("nan")
    filled, depth = _fill_void(truth.astype(np.uint8))
    counts = depth <= reach
    true_edges, predicted_edges = _edges(filled) & counts, _edges(predicted) & counts
    scores = []
    for k in sorted(shown | claimed):
        if k not in shown or k not in claimed:
            scores.append(0.0)
            continue
        score = _f1_of_edges(true_edges & (filled == k), predicted_edges & (predicted == k), reach)
        if score is not None:
            scores.append(score)
    return float(np.mean(scores)) if scores else float("nan")


def _fill_void(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each void pixel with the label of the nearest valid one, (H, W) uint8, and its distance in pixels."""
    void = mask == VOID
    if not void.any():
        return mask, np.zeros(mask.shape, np.float32)
    depth, nearest = cv2.distanceTransformWithLabels(
        void.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    label_of = np.zeros(nearest.max() + 1, np.uint8)
    label_of[nearest[~void]] = mask[~void]
    return label_of[nearest], depth


def pixel_frequency(masks: Iterable[np.ndarray], classes: int = len(VOC_CLASSES) + 1) -> np.ndarray:
    """Share of each label in the valid pixels of all masks together: (classes,) float64, sums to 1."""
    total = np.zeros(classes, np.int64)
    for mask in masks:
        total += np.bincount(mask[mask != VOID], minlength=classes)
    return total / total.sum()


def random_segmentation(
    frequency: np.ndarray, shape: tuple[int, int], rng: np.random.Generator
) -> np.ndarray:
    """The random baseline: every pixel's label drawn by its ``frequency``; (H, W) uint8."""
    below = np.cumsum(frequency)
    return np.searchsorted(below / below[-1], rng.random(shape), side="right").astype(np.uint8)


def _label_maps(truth, predicted, classes: int) -> tuple[np.ndarray, np.ndarray]:
    truth, predicted = np.asarray(truth), np.asarray(predicted)
    if truth.ndim != 2 or truth.shape != predicted.shape:
        raise ValueError(
            f"truth {truth.shape} and prediction {predicted.shape} differ in shape or are not (H, W)"
        )
    for name, labels, void in (("truth", truth, VOID), ("prediction", predicted, 0)):
        if labels.dtype.kind not in "iu":
            raise ValueError(f"{name} has type {labels.dtype}, expected integer labels")
        wrong = ((labels < 0) | (labels >= classes)) & (labels != void)
        if wrong.any():
            also = f" and {VOID} for void" if void else ""
            raise ValueError(f"{name} holds label {labels[wrong][0]}, allowed are 0 to {classes - 1}{also}")
    return truth, predicted


def _confusion(truth, predicted, classes: int) -> np.ndarray:
    """Confusion matrix of one image, (classes, classes) int64, rows truth; void left out."""
    truth, predicted = (labels.astype(np.uint8) for labels in _label_maps(truth, predicted, classes))
    matrix = np.zeros((classes, classes), np.int64)
    # OpenCV's histogram of pairs counts in one pass and leaves out what is out of range, as void is; it
    # counts in float32, which is exact up to 2**24, so larger images go in strips.
    rows = max(1, 2**24 // max(1, truth.shape[1]))
    for top in range(0, len(truth) if truth.size else 0, rows):
        pair = [np.ascontiguousarray(labels[top : top + rows]) for labels in (truth, predicted)]
        matrix += cv2.calcHist(pair, [0, 1], None, [classes] * 2, [0, classes] * 2).astype(np.int64)
    return matrix


def _foreground_dice(matrix: np.ndarray) -> float:
    hits, sizes = np.trace(matrix[1:, 1:]), matrix[1:].sum() + matrix[:, 1:].sum()
    return float(2 * hits / sizes) if sizes else 1.0


def _edges(labels: np.ndarray) -> np.ndarray:
    """(H, W) bool, where a 4-neighbour inside the image has another label."""
    edges = np.zeros(labels.shape, bool)
    rows, columns = labels[1:] != labels[:-1], labels[:, 1:] != labels[:, :-1]
    edges[1:] |= rows
    edges[:-1] |= rows
    edges[:, 1:] |= columns
    edges[:, :-1] |= columns
    return edges


def _f1_of_edges(true: np.ndarray, predicted: np.ndarray, reach: float) -> float | None:
    """F1 of two sets of pixels, (H, W) bool; ``None`` if both are empty."""
    x, y, width, height = cv2.boundingRect((true | predicted).view(np.uint8))
    if not width:
        return None
    box = slice(y, y + height), slice(x, x + width)  # distances matter between pixels in it only
    true, predicted = true[box], predicted[box]
    if not true.any() or not predicted.any():
        return 0.0
    precision = (_distance(true)[predicted] <= reach).mean()
    recall = (_distance(predicted)[true] <= reach).mean()
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0


def _distance(pixels: np.ndarray) -> np.ndarray:
    """Distance in pixels, (H, W) float32, to the nearest true one."""
    return cv2.distanceTransform((~pixels).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)


def _share(part, whole) -> np.ndarray:
    """Quotient, float64; NaN where ``whole`` is 0."""
    part, whole = np.asarray(part, dtype=np.float64), np.asarray(whole, dtype=np.float64)
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)


def _mean(values: np.ndarray) -> float:
    """Mean of the values that are not NaN; NaN if there are none."""
    values = values[~np.isnan(values)]
    return float(values.mean()) if values.size else float("nan")
