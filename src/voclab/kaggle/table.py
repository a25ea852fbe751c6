"""The submission file: write it row by row, join the two notebooks' halves, find its first fault.

A file has the header ``Id,Predicted`` and for each id, in order, the rows ``{Id}_classification`` and
``{Id}_segmentation``, or only one of the two kinds. Rows are taken one at a time: memory grows with
the number of rows, but not with what stands in them.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np

from voclab.data.base import VOC_CLASSES, Dataset
from voclab.errors import VoclabError
from voclab.files import atomic_path
from voclab.kaggle import rows
from voclab.kaggle.codec import encode_classification, encode_segmentation, parse_runs
from voclab.kaggle.rows import KINDS, row_name, split_name
from voclab.text import plain

_HEADER = (",".join(rows.COLUMNS) + "\n").encode()
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
        VoclabError: nothing to write, an id that is doubled or unfit for a CSV file, fewer or more
            labels or maps than ids, a map that cannot be encoded. The file stays as it was.
    """
    ids = _checked_ids(path, ids)
    given = (
        ("classification", "labels", encode_classification, labels),
        ("segmentation", "label maps", encode_segmentation, label_maps),
    )
    sources = [
        (kind, noun, encode, iter(values)) for kind, noun, encode, values in given if values is not None
    ]
    if not sources:
        raise _not_written(path, "neither labels nor label maps were given")
    said = set()  # kinds with a row that is not empty
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        file.write(_HEADER)
        for done, image_id in enumerate(ids):
            for kind, noun, encode, values in sources:
                value = _next(path, image_id, values)
                if value is _END:
                    raise _not_written(path, f"there are {noun} for only {done} of {len(ids)} ids")
                try:
                    code = encode(value)
                except VoclabError as error:
                    raise _not_written(path, f"id {image_id}: {error}") from error
                file.write(f"{row_name(image_id, kind)},{code}\n".encode())
                if code:
                    said.add(kind)
        for _, noun, _, values in sources:
            if _next(path, "beyond the last", values) is not _END:
                raise _not_written(path, f"there are more {noun} than the {len(ids)} ids")
    kinds = tuple(kind for kind, *_ in sources)
    return Report(len(ids) * len(kinds), ids, kinds, tuple(kind for kind in kinds if kind not in said))


def write_truth(path: str | os.PathLike, dataset: Dataset) -> Report:
    """Write the truth of a data set as a submission, for ``score_submission`` to score others against.

    Args:
        path: the CSV file.
        dataset: VOC's twenty classes in any order, with labels. Void counts as background. Without masks
            there are no segmentation rows.

    Raises:
        VoclabError: other classes, no labels, an image without its mask. The file stays as it was.
    """
    source = f"{dataset.name} {dataset.split}"
    if set(dataset.class_names) != set(VOC_CLASSES):
        raise _not_written(
            path,
            f"the competition has VOC's {len(VOC_CLASSES)} classes, and {source} has others; name other data",
        )
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

    return write_submission(
        path, dataset.ids, dataset.labels[:, order], label_maps() if dataset.has_masks else None
    )


def merge_submissions(path: str | os.PathLike, *parts: str | os.PathLike) -> Report:
    """Join submission files that each hold some of the rows, such as one kind each, into one.

    Every part is checked first. Ids come in the order of the first part; those that only later
    parts have follow. ``path`` may be one of the parts.

    Raises:
        VoclabError: no or a faulty part, a row that two parts have, an id without a row of one of
            the kinds. The file stays as it was.
    """
    if not parts:
        raise _not_written(path, "there is nothing to merge; name the files to join")
    reports = [check_submission(part) for part in parts]
    kinds = tuple(kind for kind in KINDS if any(kind in report.kinds for report in reports))
    ids = tuple(dict.fromkeys(image_id for report in reports for image_id in report.ids))
    where: dict[str, tuple[int, rows.Place]] = {}  # row name -> number of its part, place in there
    for number, part in enumerate(parts):
        for name, place in rows.index_rows(part).items():
            if name in where:
                first = parts[where[name][0]]
                raise _not_written(
                    path, f"{part}, line {place.line} repeats row '{name}' of {first}; remove one"
                )
            where[name] = number, place
    wanted = [row_name(image_id, kind) for image_id in ids for kind in kinds]
    for name in wanted:
        if name not in where:
            raise _not_written(path, f"row '{name}' is missing in {' and '.join(map(str, parts))}; add it")
    with ExitStack() as stack:
        files = [stack.enter_context(rows.opened(part)) for part in parts]
        file = open(stack.enter_context(atomic_path(path)), "wb")  # noqa: SIM115 - on the stack next
        stack.enter_context(file)
        file.write(_HEADER)
        for name in wanted:
            number, place = where[name]
            file.write(b"%s,%s\n" % (name.encode(), rows.row_at(parts[number], files[number], place).code))
    said = {kind for report in reports for kind in report.kinds if kind not in report.empty}
    return Report(len(wanted), ids, kinds, tuple(kind for kind in kinds if kind not in said))


def check_submission(
    path: str | os.PathLike,
    ids: Iterable[Any] | None = None,
    shapes: Mapping[Any, tuple[int, int]] | None = None,
    classes: int = len(VOC_CLASSES),
) -> Report:
    """Read a submission as Kaggle would; the first fault is a ``VoclabError`` with line and column.

    Runs that touch without being merged are legal, see ``codec.parse_runs``. A file with one kind of
    rows only is sound (the notebooks write such files); ``Report.kinds`` tells.

    Args:
        path: the CSV file.
        ids: the test ids, which the rows must follow exactly; ``None`` accepts any ids, if each has
            the same kinds of rows, next to each other.
        shapes: id -> (H, W), to find runs that reach beyond the last class; ``None`` leaves the upper
            end of segmentation rows unchecked.
        classes: number of foreground classes.

    Raises:
        VoclabError: at the first line with a wrong header or count of columns, a row that is doubled,
            missing, unknown or out of order, or run-length code that ``codec.parse_runs`` refuses.
    """
    with rows.opened(path) as file:
        names = [columns[0].decode("utf-8", "backslashreplace") for _, columns in rows.places(file)]
    kinds = tuple(kind for kind in KINDS if any(name.endswith(f"_{kind}") for name in names))
    if ids is None:
        ids = dict.fromkeys(parts[0] for parts in map(split_name, names) if parts)
    ids = tuple(map(plain, ids))
    layout = _layout_fault(names, ids, kinds)
    sizes = (
        None if shapes is None else {plain(key): height * width for key, (height, width) in shapes.items()}
    )
    said = set()  # kinds with a row that is not empty
    with rows.opened(path) as file:
        for place, columns in rows.places(file):
            row = rows.read_row(path, place.line, columns)
            if layout and place.line == layout[0]:
                break
            image_id, kind = split_name(row.name)
            if kind == "classification":
                size = classes
            elif sizes is None:
                size = None
            elif image_id in sizes:
                size = classes * sizes[image_id]
            else:
                raise rows.fault(path, place.line, "Id", f"the image size of id {image_id} is not known")
            parse_runs(row.code, f"{path}, line {place.line}, column Predicted", size)
            if row.code:
                said.add(kind)
    if layout:
        raise rows.fault(path, layout[0], "Id", layout[1])
    return Report(len(names), ids, kinds, tuple(kind for kind in kinds if kind not in said))


def _layout_fault(names: list[str], ids: tuple[str, ...], kinds: tuple[str, ...]) -> tuple[int, str] | None:
    """Line and reason of the first row that is not the one that belongs there."""
    if not names:
        return 2, "there are no rows below the header"
    wanted = [row_name(image_id, kind) for image_id in ids for kind in kinds]
    index = next(
        (i for i, pair in enumerate(zip(names, wanted)) if pair[0] != pair[1]), min(len(names), len(wanted))
    )
    line = index + 2
    if index == len(names):
        return None if index == len(wanted) else (line, f"the file ends where row '{wanted[index]}' belongs")
    found = names[index]
    if found in names[:index]:
        return line, rows.doubled(found, names.index(found) + 2)
    if split_name(found) is None:
        return line, rows.unknown_kind(found)
    if split_name(found)[0] not in ids:
        return line, f"row '{found}' is of none of the {len(ids)} expected ids"
    if wanted[index] in names:
        later = names.index(wanted[index]) + 2
        return line, f"row '{found}' stands where '{wanted[index]}' belongs, which comes on line {later}"
    return line, f"row '{wanted[index]}' is missing before row '{found}'"


def _checked_ids(path: str | os.PathLike, ids: Iterable[Any]) -> tuple[str, ...]:
    ids = tuple(map(plain, ids))
    if not ids:
        raise _not_written(path, "there are no ids")
    seen = set()
    for image_id in ids:
        if not image_id or any(character in image_id for character in ',"\r\n'):
            raise _not_written(path, f"id {image_id!r} is empty or holds a comma, quote or line break")
        if image_id in seen:
            raise _not_written(path, f"id {image_id} is there twice; give each image once")
        seen.add(image_id)
    return ids


def _next(path: str | os.PathLike, image_id: str, values: Iterator[np.ndarray]) -> Any:
    try:
        return next(values, _END)
    except OSError as error:  # a source that cannot be read is not a file that cannot be written
        raise _not_written(path, f"what to write for id {image_id} cannot be read ({error})") from error


def _not_written(path: str | os.PathLike, reason: str) -> VoclabError:
    return VoclabError(f"{path} was not written: {reason.removesuffix('.')}.")
