"""The log of what was sent to Kaggle, a CSV file with one row a submission, the newest last.

A row is there before its file is sent, and the file is replaced whole: a killed process loses nothing.
"""

import csv
import io
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import astuple, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

from voclab import files
from voclab.errors import VoclabError

SENDING, PENDING, COMPLETE, ERROR, FAILED = "sending", "pending", "complete", "error", "failed"


@dataclass(frozen=True)
class Entry:
    """A submission.

    Attributes:
        time: when it was sent, UTC, ISO 8601, to the microsecond, which tells two entries apart.
        competition: the competition's slug.
        file: path of the file, as it was given.
        sha256: its checksum.
        message: its description on Kaggle, without the checksum.
        run: the notebook's run that wrote the file, empty if that is not known.
        git: revision of the package that sent it.
        ref: its number on Kaggle, empty as long as that is not known.
        status: ``sending`` (whether it arrived is not known), ``pending`` (not yet scored), ``complete``,
            ``error`` (Kaggle could not score it), ``failed`` (it did not arrive and used nothing up), or
            what else Kaggle calls it.
        public_score: as Kaggle writes it, empty as long as there is none.
    """

    time: str
    competition: str
    file: str
    sha256: str
    message: str
    run: str
    git: str
    ref: str = ""
    status: str = SENDING
    public_score: str = ""

    def is_of(self, competition: str, sha256: str) -> bool:
        """Whether it is a submission of this file to this competition."""
        return (self.competition, self.sha256) == (competition, sha256)


_COLUMNS = [field.name for field in fields(Entry)]


def now() -> str:
    """The present time as a log writes it."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def read(path: str | os.PathLike) -> list[Entry]:
    """The entries of a log; none if there is no file. A damaged one is a ``VoclabError``, and stays."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
        header, *rows = [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row]
        if header != _COLUMNS or any(len(row) != len(_COLUMNS) for row in rows):
            raise ValueError(f"its columns are not {','.join(_COLUMNS)}")
    except FileNotFoundError:
        return []
    except (OSError, ValueError, csv.Error) as error:
        raise VoclabError(
            f"{path} is not a log of submissions ({error}); correct it, or move it away."
        ) from error
    return [Entry(*row) for row in rows]


def write(path: str | os.PathLike, entries: Sequence[Entry]) -> None:
    """Replace a log by these entries, atomically; the caller has it ``locked`` and read it there."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([_COLUMNS, *map(astuple, entries)])
    files.write_text(path, text.getvalue())


def locked(path: str | os.PathLike, patience: float = 0.0) -> AbstractContextManager[None]:
    """Keep other processes from sending and writing the log; ``patience``: seconds to wait for them."""
    return files.locked(f"{path}.lock", f"The log {path}", patience)
