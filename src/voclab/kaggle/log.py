"""The log of what was sent to Kaggle, a CSV file with one row a submission, the newest last.

A row is there before its file is sent, and the file is replaced whole: a killed process loses nothing.
"""

import csv
import io
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

from voclab import files
from voclab.errors import VoclabError

SENDING, SUBMITTING, PENDING = "sending", "submitting", "pending"
COMPLETE, ERROR, FAILED = "complete", "error", "failed"


@dataclass(frozen=True)
class Entry:
    """A submission.

    Attributes:
        time: when it was sent, UTC, ISO 8601.
        competition: the competition's slug.
        file: path of the file, as it was given.
        sha256: its checksum.
        message: its description on Kaggle, without the checksum.
        run: the notebook's run that wrote the file, empty if that is not known.
        git: revision of the package that sent it.
        ref: its number on Kaggle, empty as long as that is not known.
        status: ``sending`` (the file is being uploaded: no submission yet), ``submitting`` (it is
            becoming one: whether it did is not known), ``pending`` (not yet scored), ``complete``,
            ``error`` (Kaggle could not score it), ``failed`` (it became none and used nothing up), or
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

    @property
    def when(self) -> datetime:
        """Its time, aware, UTC."""
        return datetime.fromisoformat(self.time).astimezone(UTC)


_COLUMNS = [field.name for field in fields(Entry)]
_FORMS = {  # what spreadsheets make something else of
    "time": re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)"),
    "sha256": re.compile(r"[0-9a-f]{64}"),
    "ref": re.compile(r"(?!\d+[.,]).*"),  # 1.23E+07
}


def now() -> str:
    """The present time as a log writes it; to the microsecond, which tells two entries apart."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def read(path: str | os.PathLike) -> list[Entry]:
    """The entries of a log; none if there is no file. A damaged one is a ``VoclabError``, and stays."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row]
    except FileNotFoundError:
        return []
    except UnicodeDecodeError as error:
        raise _damaged(path, "it is not UTF-8 text") from error
    except OSError as error:
        raise _damaged(path, f"it cannot be read ({error.strerror})") from error
    except csv.Error as error:
        raise _damaged(path, f"it is no CSV table ({error})") from error
    if not rows or rows[0] != _COLUMNS:
        raise _damaged(path, f"its first line is not {','.join(_COLUMNS)}")
    entries = []
    for number, row in enumerate(rows[1:], 2):
        if len(row) != len(_COLUMNS):
            raise _damaged(path, f"row {number} has {len(row)} columns instead of {len(_COLUMNS)}")
        entry = Entry(*row)
        for name, form in _FORMS.items():
            if not form.fullmatch(getattr(entry, name)):
                raise _damaged(path, f"row {number} has the {name} {getattr(entry, name)[:40]!r}")
        try:
            _ = entry.when
        except (ValueError, OverflowError) as error:
            raise _damaged(path, f"row {number} has the time {entry.time!r}") from error
        entries.append(entry)
    return entries


def write(path: str | os.PathLike, entries: Sequence[Entry]) -> None:
    """Replace a log by these entries, atomically; the caller has it ``locked`` and read it there."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(map(asdict, entries))
    files.write_text(path, text.getvalue())


@contextmanager
def locked(path: str | os.PathLike, patience: float = 0.0) -> Iterator[None]:
    """Keep other processes from sending and from writing the log meanwhile.

    Raises ``VoclabError`` if another one is still at it after ``patience`` seconds.
    """
    path = Path(path)
    with files.locked(f"{path}.lock", f"The log {path}", patience):
        for leftover in path.parent.glob(f"{files.TEMPORARY}*-{path.name}"):  # of a killed process
            leftover.unlink(missing_ok=True)
        yield


def _damaged(path: str | os.PathLike, why: str) -> VoclabError:
    return VoclabError(f"{path} is not a log of submissions: {why}; mend it, or move it away.")
