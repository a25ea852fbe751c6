"""The log of what was sent to Kaggle, a CSV file with one row a submission, the newest last.

A row is there before its file is sent, and the file is replaced whole: a killed process loses nothing.
"""

import csv
import io
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

from voclab.errors import VoclabError
from voclab.files import make_folder, write_text, writing_error

SENDING, PENDING, COMPLETE, ERROR, FAILED = "sending", "pending", "complete", "error", "failed"


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
        status: ``sending`` (whether it arrived is not known), ``pending`` (not yet scored), ``complete``,
            ``error`` (Kaggle could not score it) or ``failed`` (it did not arrive and used nothing up).
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
        return datetime.fromisoformat(self.time)


_COLUMNS = [field.name for field in fields(Entry)]


def now() -> str:
    """The present time as a log writes it; to the microsecond, which tells two entries apart."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def read(path: str | os.PathLike) -> list[Entry]:
    """The entries of a log; none if there is no file. A damaged one is a ``VoclabError``."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return []
    except UnicodeDecodeError as error:
        raise _damaged(path, "it is not UTF-8 text") from error
    rows = list(csv.reader(io.StringIO(text, newline="")))
    if not rows or rows[0] != _COLUMNS:
        raise _damaged(path, f"its first line is not {','.join(_COLUMNS)}")
    entries = []
    for number, row in enumerate(rows[1:], 2):
        if len(row) != len(_COLUMNS):
            raise _damaged(path, f"row {number} has {len(row)} columns instead of {len(_COLUMNS)}")
        entry = Entry(*row)
        try:
            aware = entry.when.tzinfo is not None
        except ValueError:
            aware = False
        if not aware:
            raise _damaged(path, f"row {number} has the time {row[0]!r}, not one like {now()}")
        entries.append(entry)
    return entries


def write(path: str | os.PathLike, entries: Sequence[Entry]) -> None:
    """Replace a log by these entries, atomically; the caller has it ``locked`` and read it there."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(map(asdict, entries))
    write_text(path, text.getvalue())


@contextmanager
def locked(path: str | os.PathLike, patience: float = 0.0) -> Iterator[None]:
    """Keep other processes from sending and from writing the log meanwhile.

    Raises ``VoclabError`` if another one is still at it after ``patience`` seconds.
    """
    lock = Path(f"{path}.lock")
    make_folder(lock.parent)
    until = time.monotonic() + patience
    while True:
        try:
            os.close(os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            break
        except FileExistsError as error:
            if time.monotonic() >= until:
                raise VoclabError(
                    f"{lock} says that another submission is just being sent; wait for it, or delete that"
                    " file if none is."
                ) from error
            time.sleep(0.1)
        except OSError as error:
            raise writing_error(lock, error) from error
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)


def _damaged(path: str | os.PathLike, why: str) -> VoclabError:
    return VoclabError(f"{path} is not a log of submissions: {why}; mend it, or move it away.")
