"""Reads the competition's tables of labels as people's programs save them: pandas, Excel, a text editor."""

import csv
import io
import itertools
import os
import re

import numpy as np

from voclab.data.base import VOC_CLASSES, refusal
from voclab.data.labelmap import read_text

HEADER = ("Id", *VOC_CLASSES)
_NAMES = {name.casefold(): name for name in HEADER}
_RESTORE = "restore the table"
_UNKNOWN = 255  # in the array of labels, while it is read
_WORDS = {"": _UNKNOWN, "nan": _UNKNOWN, "true": 1, "false": 0}
Row = tuple[int, list[str]]  # the line of the file, from 1, and its cells


def read_table(path: str | os.PathLike, unknown: bool = False) -> tuple[tuple[str, ...], np.ndarray | None]:
    """Ids and (n, 20) uint8 labels of a table ``Id,aeroplane,...,tvmonitor``.

    An index column that pandas added, a byte-order mark, semicolons or tabs for commas, floats (``1.0``,
    Ids too) and empty rows are no matter.

    Args:
        path: the CSV file.
        unknown: whether the truth may be missing: a table without the columns of the classes, filled with -1,
            with 0 throughout, or left empty. Its labels are ``None``.

    Raises:
        VoclabError: names the line of the file with the first wrong column, row or value.
    """
    header, rows = _read_rows(path)
    columns = _columns(path, header, unknown)
    if not rows:
        raise refusal(path, "has a header but no rows", "download or export the data again")
    return _ids(path, rows, columns[0]), _labels(path, rows, columns[1:], unknown)


def _read_rows(path: str | os.PathLike) -> tuple[list[str], list[Row]]:
    """The header and the rows under it, stripped, all as long as the header; empty ones are left out."""
    text = read_text(path)
    if not text.strip():
        raise refusal(path, "is empty, so it has no column 'Id'", "download or export the data again")
    text = re.sub(r"\A\s*sep=.?(?=[\r\n])", "", text, flags=re.IGNORECASE)  # Excel's first line
    first = re.split(r"[\r\n]", text.strip(), maxsplit=1)[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count), strict=True)
    rows: list[Row] = []
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if any(cells):
                rows.append((reader.line_num, cells))
    except csv.Error as error:
        remedy = "correct that line or download the table again"
        where = f"{path}, line {reader.line_num},"
        raise refusal(where, f"cannot be read as CSV ({error})", remedy) from error
    (_, header), rows = rows[0], rows[1:]
    for line, cells in rows:
        while len(cells) > len(header) and not cells[-1]:  # a delimiter at the end
            cells.pop()
        if len(cells) != len(header):
            what = f"has {len(cells)} columns, not {len(header)} as the header"
            raise refusal(f"{path}, line {line},", what, _RESTORE)
    return header, rows


def _columns(path: str | os.PathLike, header: list[str], unknown: bool) -> list[int]:
    """Where the Id and each class stand, in VOC's order."""
    remedy = "restore the header Id,aeroplane,...,tvmonitor"
    # An index without a name, as pandas writes it and reads it back.
    there = [(k, name) for k, name in enumerate(header) if not re.fullmatch(r"(Unnamed: .*|index)?", name)]
    names = [_NAMES.get(name.casefold(), name) for _, name in there]
    if unknown and names == ["Id"]:
        return [there[0][0]]
    for column in HEADER:
        if column not in names:
            raise refusal(path, f"has no column {column!r}", remedy)
    for name, wanted in itertools.zip_longest(names, HEADER, fillvalue="no more"):
        if name != wanted:
            raise refusal(path, f"has the column {name!r} where VOC's order has {wanted!r}", remedy)
    return [k for k, _ in there]


def _ids(path: str | os.PathLike, rows: list[Row], column: int) -> tuple[str, ...]:
    ids: dict[str, int] = {}
    for line, cells in rows:
        # Whole numbers that a program took for floats.
        image = re.sub(r"^(\d+)[.,]0+$", r"\1", cells[column])
        if not re.fullmatch(r"[\w-]+", image):
            what = f"has the Id {image!r}, which cannot be part of a file name"
            raise refusal(f"{path}, line {line},", what, _RESTORE)
        if image in ids:
            what = f"has the Id {image!r} twice (first in line {ids[image]})"
            raise refusal(f"{path}, line {line},", what, _RESTORE)
        ids[image] = line
    return tuple(ids)


def _labels(path: str | os.PathLike, rows: list[Row], columns: list[int], unknown: bool) -> np.ndarray | None:
    if not columns:
        return None
    labels = np.zeros((len(rows), len(columns)), np.uint8)
    for row, (line, cells) in zip(labels, rows, strict=True):
        for k, column in enumerate(columns):
            code = _code(cells[column])
            if code is None or (code == _UNKNOWN and not unknown):
                allowed = "0, 1 or -1" if unknown else "0 or 1"
                where = f"{path}, line {line}, column {VOC_CLASSES[k]},"
                raise refusal(where, f"has {cells[column]!r} instead of {allowed}", _RESTORE)
            row[k] = code
    known = labels != _UNKNOWN
    if not known.any() or (unknown and not labels.any()):  # no image of any class: nobody's truth
        return None
    if not known.all():
        line = rows[int((~known).any(1).argmax())][0]
        raise refusal(path, f"mixes labels with -1 (line {line})", "fill a test table with -1 throughout")
    return labels


def _code(cell: str) -> int | None:
    cell = cell.casefold().replace(",", ".")
    try:
        return _WORDS[cell] if cell in _WORDS else {0: 0, 1: 1, -1: _UNKNOWN}.get(float(cell))
    except ValueError:
        return None
