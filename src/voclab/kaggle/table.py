"""The submission file: write it row by row, join the two notebooks' halves, find its first fault.

A file has the header ``Id,Predicted`` and for each id, in order, the rows ``{Id}_classification`` and
``{Id}_segmentation``, or only one of the two kinds.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np

from voclab.data.base import VOC_CLASSES, Dataset
from voclab.errors import VoclabError
from voclab.files import atomic_path
from voclab.kaggle.codec import encode_classification, encode_segmentation, parse_runs
from voclab.kaggle.rows import HEADER, KINDS, Row, fault, read_rows, row_name
from voclab.text import plain

_END = object()


@dataclass(frozen=True)
class Report:
    """What a sound submission file holds.

    Attributes:
        rows: number of rows below the header.
        ids: the image ids, in the order of the file.
        kinds: ``("classification", "segmentation")`` or one of them. Kaggle wants both.
        empty: those of the kinds that say nothing, as all their rows are empty.
    """

    rows: int
    ids: tuple[str, ...]
    kinds: tuple[str, ...]
    empty: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.rows} rows, {len(self.ids)} images, {' and '.join(self.kinds)}"

    def remarks(self) -> list[str]:
        """What is worth a sentence in a file that is sound."""
        lacking = [
            f"It has no {kind} rows, and Kaggle wants both: join two files with `voclab submit merge`."
            for kind in KINDS
            if kind not in self.kinds
        ]
        return lacking + [
            f"All its {kind} rows are empty, as if no image showed anything: it scores next to nothing there."
            for kind in self.empty
        ]


def write_submission(
    path: str | os.PathLike,
    ids: Iterable[Any],
    labels: Iterable[np.ndarray] | None = None,
    label_maps: Iterable[np.ndarray] | None = None,
) -> Report:
    """Write a submission, atomically, its rows in the order of ``ids``.

    Args:
        path: the CSV file.
        ids: the test ids, in the order of ``test_set.csv``.
        labels: for each id (20,) 0 or 1; ``None`` leaves the classification rows out.
        label_maps: for each id an (H, W) integer label map, see ``encode_segmentation``; ``None``
            leaves the segmentation rows out. A generator is consumed one map at a time.

    Raises:
        VoclabError: ids unfit for a CSV file, fewer or more labels or maps than ids, a map that cannot be
            encoded. The file stays as it was.
    """
    ids = tuple(map(plain, ids))
    if len(set(ids)) < len(ids) or not all(ids) or any(mark in name for name in ids for mark in ',"\r\n'):
        raise _not_written(path, "an id is empty, there twice, or holds a comma, quote or line break")
    given = {"classification": labels, "segmentation": label_maps}
    given = {kind: values for kind, values in given.items() if values is not None}
    encode: dict[str, Callable] = dict(zip(KINDS, (encode_classification, encode_segmentation)))
    if not ids or not given:
        raise _not_written(path, "there are no ids, or neither labels nor label maps")

    def coded() -> Iterator[tuple[str, str, str]]:
        for image_id, *values in zip_longest(ids, *given.values(), fillvalue=_END):
            if image_id is _END or any(value is _END for value in values):
                raise _not_written(path, "there are not as many labels or label maps as ids")
            for kind, value in zip(given, values):
                try:
                    yield image_id, kind, encode[kind](value)
                except VoclabError as error:
                    raise _not_written(path, f"id {image_id}: {error}") from error

    return _write(path, coded())


def write_truth(path: str | os.PathLike, dataset: Dataset) -> Report:
    """Write the truth of a data set as a submission, for ``score_submission`` to score others against.

    The data set has VOC's twenty classes, in any order, and labels. Void counts as background. Without masks
    there are no segmentation rows.

    Raises:
        VoclabError: other classes, no labels, an image without its mask. The file stays as it was.
    """
    source = f"{dataset.name} {dataset.split}"
    if set(dataset.class_names) != set(VOC_CLASSES):
        said = f"the competition has VOC's {len(VOC_CLASSES)} classes, and {source} has others"
        raise _not_written(path, f"{said}; name other data")
    if dataset.labels is None:
        raise _not_written(path, f"{source} has no truth; name data or a --split that has")
    order = [dataset.class_names.index(name) for name in VOC_CLASSES]
    values = np.arange(256, dtype=np.uint8)  # value in the data set's masks -> in the competition's
    values[np.array(order) + 1] = np.arange(len(VOC_CLASSES)) + 1

    def label_maps() -> Iterator[np.ndarray]:
        for i, image_id in enumerate(dataset.ids):
            mask = dataset.mask(i)
            if mask is None:
                raise _not_written(path, f"{source} has no mask of {image_id}; name a --split with masks")
            yield values[mask]

    masks = label_maps() if dataset.has_masks else None
    return write_submission(path, dataset.ids, dataset.labels[:, order], masks)


def merge_submissions(path: str | os.PathLike, *parts: str | os.PathLike) -> Report:
    """Join submission files that each hold some of the rows, such as one kind each, into one.

    Every part is checked first. Ids come in the order of the first part; those that only later
    parts have follow. ``path`` may be one of the parts.

    Raises:
        VoclabError: a faulty part, a row that two parts have or none has. The file stays as it was.
    """
    merged: dict[str, Row] = {}
    for part in parts:
        for name, row in _checked(part).items():
            if name in merged:
                said = f"{part}, line {row.line} repeats row '{name}' of another part; remove one"
                raise _not_written(path, said)
            merged[name] = row
    if not merged:
        raise _not_written(path, "there is nothing to merge; name the files to join")
    kinds = [kind for kind in KINDS if any(row.kind == kind for row in merged.values())]
    ids = dict.fromkeys(row.image_id for row in merged.values())
    wanted = [(image_id, kind) for image_id in ids for kind in kinds]
    lacking = [row_name(*row) for row in wanted if row_name(*row) not in merged]
    if lacking:
        raise _not_written(path, f"row '{lacking[0]}' is missing in {' and '.join(map(str, parts))}")
    return _write(path, [(*row, merged[row_name(*row)].code) for row in wanted])


def check_submission(
    path: str | os.PathLike,
    ids: Iterable[Any] | None = None,
    shapes: Mapping[Any, tuple[int, int]] | None = None,
) -> Report:
    """Read a submission as Kaggle would; the first fault is a ``VoclabError`` with its line and column.

    Runs that touch without being merged are legal, see ``codec.parse_runs``. A file with one kind of
    rows only is sound (the notebooks write such files); ``Report.kinds`` tells.

    Args:
        path: the CSV file.
        ids: the test ids, which the rows must follow exactly; ``None`` accepts any ids, if each has
            the same kinds of rows, next to each other.
        shapes: id -> (H, W), to find runs that reach beyond the last class; ``None`` leaves the upper
            end of segmentation rows unchecked.
    """
    return _report((row.image_id, row.kind, row.code) for row in _checked(path, ids, shapes).values())


def _checked(
    path: str | os.PathLike,
    ids: Iterable[Any] | None = None,
    shapes: Mapping[Any, tuple[int, int]] | None = None,
) -> dict[str, Row]:
    """The rows of a sound file by their names; see :func:`check_submission`."""
    rows = read_rows(path)
    kinds = [kind for kind in KINDS if any(row.kind == kind for row in rows.values())]
    found = dict.fromkeys(row.image_id for row in rows.values())
    ids = dict.fromkeys(found if ids is None else map(plain, ids))
    wanted = (row_name(image_id, kind) for image_id in ids for kind in kinds)
    for row, name in zip_longest(rows.values(), wanted):
        if row is None:
            raise fault(path, len(rows) + 2, "Id", f"the file ends where row '{name}' belongs")
        if row.image_id not in ids:
            raise fault(path, row.line, "Id", f"row '{row.name}' is of none of the {len(ids)} expected ids")
        if row.name != name:
            where = f"comes on line {rows[name].line}" if name in rows else "is missing"
            said = f"row '{row.name}' stands where '{name}' belongs, which {where}"
            raise fault(path, row.line, "Id", said)
    classes = len(VOC_CLASSES)
    sizes = None if shapes is None else {plain(key): classes * h * w for key, (h, w) in shapes.items()}
    for row in rows.values():
        size = classes if row.kind == "classification" else None
        if size is None and sizes is not None:
            if row.image_id not in sizes:
                raise fault(path, row.line, "Id", f"the image size of id {row.image_id} is not known")
            size = sizes[row.image_id]
        parse_runs(row.code, f"{path}, line {row.line}, column Predicted", size)
    return rows


def _write(path: str | os.PathLike, rows: Iterable[tuple[str, str, str]]) -> Report:
    """Write (image id, kind, code) rows atomically, one at a time."""

    def written() -> Iterator[tuple[str, str, str]]:
        for image_id, kind, code in rows:
            file.write(f"{row_name(image_id, kind)},{code}\n")
            yield image_id, kind, code

    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as file:
        file.write(f"{HEADER}\n")
        return _report(written())


def _report(rows: Iterable[tuple[str, str, str]]) -> Report:
    count, ids, said = 0, {}, {}
    for image_id, kind, code in rows:
        count += 1
        ids[image_id] = None
        said[kind] = said.get(kind, False) or bool(code)
    kinds = tuple(kind for kind in KINDS if kind in said)
    return Report(count, tuple(ids), kinds, tuple(kind for kind in kinds if not said[kind]))


def _not_written(path: str | os.PathLike, reason: str) -> VoclabError:
    return VoclabError(f"{path} was not written: {reason.removesuffix('.')}.")
