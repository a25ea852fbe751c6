"""Reading a submission file, one row at a time, with the sentence for each kind of unreadable row.

No column of a sound file holds a comma, a quote or a line break, so that a line is a row: faults
are reported by line number, and rows of any length are read without the csv module's field limit.
"""

import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO, NamedTuple

from voclab.errors import VoclabError
from voclab.files import ARRAY_DAMAGE

COLUMNS = ("Id", "Predicted")
KINDS = ("classification", "segmentation")
_LONGEST_HEADER = 1000  # bytes
_PACKED = ("a gzip file", "a bzip2 file", "an xz file", "a Zstandard file", "a 7z archive", "a RAR archive")
_FORMATS = {
    b"\x1f\x8b": _PACKED[0],
    b"BZh": _PACKED[1],
    b"\xfd7zXZ": _PACKED[2],
    b"\x28\xb5\x2f\xfd": _PACKED[3],
    b"7z\xbc\xaf\x27\x1c": _PACKED[4],
    b"Rar!": _PACKED[5],
    b"\xd0\xcf\x11\xe0": "an Excel file",
    b"PAR1": "a Parquet file",
    b"ARROW1": "an Arrow (Feather) file",
    b"\x93NUMPY": "a NumPy array",
    b"\x89HDF": "an HDF5 file",
    b"SQLite format": "a SQLite database",
    b"\x89PNG": "an image",
    b"\xff\xd8\xff": "an image",
    b"%PDF": "a PDF",
    b"{": "JSON",
    b"<": "HTML or XML",
}  # by their first bytes
_UNPACK = "unpack it and name the CSV file in it"
_WRITE = "name the file that the notebook writes, or save the table as CSV"


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
    """Open a submission for reading; ``VoclabError`` if it is missing, unreadable, no CSV or badly headed."""
    try:
        file = open(path, "rb")  # noqa: SIM115 - closed below; errors of the block are not ours
    except FileNotFoundError as error:
        raise VoclabError(f"{path} is missing; run the notebook that writes it first.") from error
    except IsADirectoryError as error:
        raise VoclabError(f"{path} cannot be read, it is a folder; name the CSV file in it.") from error
    except OSError as error:
        raise VoclabError(f"{path} cannot be read ({error.strerror}); name a submission file.") from error
    with file:
        line = file.readline(_LONGEST_HEADER)
        what = _other_format(path, line)
        if what:
            raise VoclabError(f"{path} is {what}.")
        header = [column.decode("utf-8", "backslashreplace") for column in _columns(line)]
        for number, column in enumerate(COLUMNS):
            if column not in header[number : number + 1]:
                found = repr(header[number][:40]) if number < len(header) else "missing"
                found += " (with a byte order mark, BOM)" if header[number:][:1] == ["\ufeffId"] else ""
                raise fault(path, 1, column, f"the heading is {found}, expected is 'Id,Predicted'")
        if len(header) > len(COLUMNS):
            raise fault(path, 1, str(len(COLUMNS) + 1), "there are columns beyond 'Id,Predicted'")
        yield file


def _other_format(path: str | os.PathLike, line: bytes) -> str:
    """What a file is instead of a CSV file, by its first line, with the remedy; empty if it may be one."""
    for magic, what in _FORMATS.items():
        if line.startswith(magic):
            return f"{what}, not a CSV file; {_UNPACK if what in _PACKED else _WRITE}"
    if line.startswith((b"PK\3\4", b"PK\5\6")):
        return _inside_zip(path)
    if b"\0" in line or line.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = line.translate(None, b"\0\xff\xfe")
        coded = text.startswith(COLUMNS[0].encode())
        return "UTF-16 text; save it as UTF-8" if coded else f"no text, so not a CSV file; {_WRITE}"
    for sign, name in ((b";", "semicolons"), (b"\t", "tabs"), (b"|", "bars")):
        if line.translate(None, b'"\xef\xbb\xbf').strip() == sign.join(column.encode() for column in COLUMNS):
            return f"separated by {name}; save it with commas, as 'Id,Predicted'"
    return ""


def _inside_zip(path: str | os.PathLike) -> str:
    names = []
    with suppress(*ARRAY_DAMAGE), zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if "[Content_Types].xml" in names or "mimetype" in names:
        return "a spreadsheet (an Excel or OpenDocument file), not a CSV file; save it as CSV, with commas"
    tables = [name for name in names if name.endswith(".csv") and not name.startswith("__MACOSX")]
    return f"a zip archive, not a CSV file; {_UNPACK}{f', {tables[0]}' if len(tables) == 1 else ''}"


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
