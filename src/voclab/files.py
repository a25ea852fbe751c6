"""Writing files so that a killed process leaves the old content or the new, never half of it."""

import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from voclab.errors import VoclabError

_REMEDIES = {
    errno.ENOSPC: "the disk is full; free some space or name a folder on another disk",
    errno.EDQUOT: "the disk quota is used up; free some space or name a folder on another disk",
    errno.EACCES: "permission denied; name a folder that you may write to",
    errno.EPERM: "permission denied; name a folder that you may write to",
    errno.EROFS: "the file system is read-only; name a folder that can be written",
    errno.ENOTDIR: "a part of that path is a file, not a folder; name another folder",
    errno.EEXIST: "a file of that name is in the way; move it or name another folder",
}


def writing_error(path: str | os.PathLike, error: OSError) -> VoclabError:
    """The clear sentence for an ``OSError`` met while ``path`` was being written."""
    reason = _REMEDIES.get(error.errno, f"{error.strerror or error}; check the path")
    return VoclabError(f"Cannot write {path}: {reason}.")


def make_folder(path: str | os.PathLike) -> Path:
    """Create a folder and its parents; returns it. Raises ``VoclabError`` if that is impossible."""
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise writing_error(path, error) from error
    return path


@contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; move it over ``path`` when the block succeeds.

    The temporary name keeps the suffixes of ``path`` (Keras chooses its format by them). When the
    block raises, the temporary file is removed and ``path`` stays as it was. ``OSError`` from the
    block (a full disk, a folder that cannot be written) becomes a ``VoclabError`` naming ``path``.
    """
    path = Path(path)
    make_folder(path.parent)
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".part-", suffix="-" + path.name)
        os.close(handle)
        yield Path(temporary)
        with open(temporary, "rb") as written:  # a crash of the machine must not leave an empty file
            os.fsync(written.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
        temporary = None
    except OSError as error:
        raise writing_error(path, error) from error
    finally:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically."""
    write_text(path, json.dumps(value, indent=1, allow_nan=True) + "\n")


def read_json(path: str | os.PathLike) -> Any:
    """Read a JSON file; a damaged one is a ``VoclabError`` that names it."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise VoclabError(f"{path} is missing; run the step that writes it first.") from error
    except (ValueError, UnicodeDecodeError) as error:
        raise VoclabError(f"{path} is not readable JSON ({error}); delete it and run again.") from error


def sha256(path: str | os.PathLike) -> str:
    """SHA-256 of a file, 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
