"""Reading a submission file: its rows, and a sentence for what cannot be read.

No column of a sound file holds a comma, a quote or a line break, so that a line is a row: faults are
reported by line number, and rows of any length are read without the csv module's field limit.
"""

import os
from pathlib import Path
from typing import NamedTuple

from voclab.errors import VoclabError

HEADER = "Id,Predicted"
KINDS = ("classification", "segmentation")


class Row(NamedTuple):
    """A row below the header: its line number, from 1, its Id column and its run-length code."""

    line: int
    name: str
    code: str

    @property
    def image_id(self) -> str:
        return self.name.rpartition("_")[0]

    @property
    def kind(self) -> str:
        return self.name.rpartition("_")[2]


def row_name(image_id: str, kind: str) -> str:
    """What stands in the Id column of an image's row of this kind."""
    return f"{image_id}_{kind}"


def fault(path: str | os.PathLike, line: int, column: str, reason: str) -> VoclabError:
    """The sentence for a fault at a line and column of a file."""
    return VoclabError(
        f"{path}, line {line}, column {column}: {reason}; correct that row or write the file again."
    )


def read_rows(path: str | os.PathLike) -> dict[str, Row]:
    """The rows of a submission by their names, in the order of the file; their code is not looked at.

    Raises:
        VoclabError: with the line of the first fault.
    """
    lines = _read_lines(path)
    if [column.strip('"') for column in lines[0].split(",")] != HEADER.split(","):
        raise VoclabError(
            f"{path}, line 1: the header is {lines[0][:40]!r}, expected is {HEADER!r}{_remedy(lines[0])}."
        )
    rows: dict[str, Row] = {}
    for number, line in enumerate(lines[1:], 2):
        columns = [column[1:-1] if column[:1] == column[-1:] == '"' else column for column in line.split(",")]
        if len(columns) != 2:
            raise fault(path, number, "Id", f"{line[:40]!r} is not two columns separated by a comma")
        row = Row(number, *columns)
        if not row.image_id or row.kind not in KINDS:
            kinds = "{Id}_classification nor {Id}_segmentation"
            raise fault(path, number, "Id", f"row {row.name!r} is neither {kinds}")
        if row.name in rows:
            first = rows[row.name].line
            raise fault(path, number, "Id", f"row '{row.name}' is there twice, first on line {first}")
        rows[row.name] = row
    if not rows:
        raise fault(path, 2, "Id", "there are no rows below the header")
    return rows


def _remedy(header: str) -> str:
    """What to do about a header that another program wrote."""
    if header.startswith("\ufeff"):
        return " without a byte order mark; save the table as CSV without it (in Excel CSV, not CSV UTF-8)"
    if ";" in header or "\t" in header:
        return ", separated by a comma; replace the separators by commas, in an editor of text"
    return "; name a submission, save the table as CSV in UTF-8, or unpack it"


def _read_lines(path: str | os.PathLike) -> list[str]:
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError as error:
        raise VoclabError(f"{path} is missing; run the notebook that writes it first.") from error
    except OSError as error:
        raise VoclabError(f"{path} cannot be read ({error.strerror}); name a submission file.") from error
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise VoclabError(
            f"{path}, line {line}: this is not UTF-8 text; save the table as CSV in UTF-8, or unpack the"
            " file if it is packed."
        ) from error
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]
