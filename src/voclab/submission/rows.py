"""Reading a submission file, one row at a time, with the sentence for each kind of unreadable row.

No column of a sound file holds a comma, a quote or a line break, so that a line is a row: faults
are reported by line number, and rows of any length are read without the csv module's field limit.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, NamedTuple

from voclab.errors import VoclabError

COLUMNS = ("Id", "Predicted")
KINDS = ("classification", "segmentation")


class Place(NamedTuple):
    """Where a row is: its line number, from 1, and the byte offset at which it begins."""

    line: int
    offset: int


class Row(NamedTuple):
    """A row below the header: its line number, its Id column and its run-length code."""

    line: int
    name: str
    code: bytes


def row_name(image_id: str, kind: str) -> str:
    """What stands in the Id column of an image's row of this kind."""
    return f"{image_id}_{kind}"


def split_name(name: str) -> tuple[str, str] | None:
    """(image id, kind) of a row's name; ``None`` if it is the name of neither kind."""
    image_id, underscore, kind = name.rpartition("_")
    return (image_id, kind) if underscore and image_id and kind in KINDS else None


def fault(path: str | os.PathLike, line: int, column: str, reason: str) -> VoclabError:
    """The sentence for a fault at a line and column of a file."""
    return VoclabError(
        f"{path}, line {line}, column {column}: {reason}; mend that row or write the file again."
    )


@contextmanager
def opened(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """Open a submission for reading; ``VoclabError`` if it is missing, unreadable or badly headed."""
    try:
        file = open(path, "rb")  # noqa: SIM115 - closed below; errors of the block are not ours
    except FileNotFoundError as error:
        raise VoclabError(f"{path} is missing; run the notebook that writes it first.") from error
    except OSError as error:
        raise VoclabError(f"{path} cannot be read ({error.strerror}); name a submission file.") from error
    with file:
        header = [column.decode("utf-8", "backslashreplace") for column in _columns(file.readline())]
        for number, column in enumerate(COLUMNS):
            if column not in header[number : number + 1]:
                found = repr(header[number]) if number < len(header) else "missing"
                raise fault(path, 1, column, f"the heading is {found}, expected is 'Id,Predicted'")
        if len(header) > len(COLUMNS):
            raise fault(path, 1, str(len(COLUMNS) + 1), "there are columns beyond 'Id,Predicted'")
        yield file


def places(file: BinaryIO) -> Iterator[tuple[Place, list[bytes]]]:
    """Place and columns of every line from the file's position, just after the header, on."""
    offset = file.tell()
    for line, content in enumerate(file, 2):
        yield Place(line, offset), _columns(content)
        offset += len(content)


def read_row(path: str | os.PathLike, line: int, columns: list[bytes]) -> Row:
    """The row in these columns; ``VoclabError`` for a wrong count, broken quotes or foreign bytes."""
    if len(columns) < len(COLUMNS):
        found = "the line is blank" if columns == [b""] else "this column is missing"
        raise fault(path, line, COLUMNS[len(columns)] if columns != [b""] else "Id", found)
    if len(columns) > len(COLUMNS):
        raise fault(path, line, str(len(COLUMNS) + 1), f"there are {len(columns)} columns instead of 2")
    for column, content in zip(COLUMNS, columns):
        if b'"' in content:
            raise fault(path, line, column, "a quotation mark stands inside the column")
    try:
        return Row(line, columns[0].decode(), columns[1])
    except UnicodeDecodeError as error:
        raise fault(path, line, "Id", "this is not UTF-8 text") from error


def index_rows(path: str | os.PathLike) -> dict[str, Place]:
    """Row name -> place, in the order of the file. Raises ``VoclabError`` for a doubled name too."""
    index: dict[str, Place] = {}
    with opened(path) as file:
        for place, columns in places(file):
            name = read_row(path, place.line, columns).name
            if split_name(name) is None:
                raise fault(path, place.line, "Id", unknown_kind(name))
            if name in index:
                raise fault(path, place.line, "Id", doubled(name, index[name].line))
            index[name] = place
    if not index:
        raise fault(path, 2, "Id", "there are no rows below the header")
    return index


def row_at(path: str | os.PathLike, file: BinaryIO, place: Place) -> Row:
    """Read the row at a place that ``index_rows`` found."""
    file.seek(place.offset)
    return read_row(path, place.line, _columns(file.readline()))


def unknown_kind(name: str) -> str:
    """Reason: the row is of neither kind."""
    return f"row '{name}' is neither {{Id}}_classification nor {{Id}}_segmentation"


def doubled(name: str, first_line: int) -> str:
    """Reason: the row was there before."""
    return f"row '{name}' is there twice, first on line {first_line}"


def _columns(line: bytes) -> list[bytes]:
    columns = line.removesuffix(b"\n").removesuffix(b"\r").split(b",")
    return [
        content[1:-1] if len(content) >= 2 and content[:1] == content[-1:] == b'"' else content
        for content in columns
    ]
