"""Writing files so that a killed process leaves the old content or the new, never half of it."""

import errno
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
import time
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from voclab.errors import VoclabError, first_line

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None
    import msvcrt

TEMPORARY = ".part-"  # how the names of files begin that are still being written
# What numpy, which reads the header of an array as Python, and zipfile raise for a damaged file.
ARRAY_DAMAGE = (
    AttributeError, EOFError, KeyError, MemoryError, NotImplementedError, OSError, OverflowError,
    RuntimeError, SyntaxError, TypeError, ValueError, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip

_REMEDIES = {
    errno.ENOSPC: "the disk is full; free some space or name a folder on another disk",
    errno.EFBIG: "the file would be larger than this disk or account allows; name a folder on another disk",
    errno.EDQUOT: "the disk quota is used up; free some space or name a folder on another disk",
    errno.EACCES: "permission denied; name a folder that you may write to",
    errno.EPERM: "permission denied; name a folder that you may write to",
    errno.EROFS: "the file system is read-only; name a folder that can be written",
    errno.ENOTDIR: "a part of that path is a file, not a folder; name another folder",
    errno.EEXIST: "a file of that name is in the way; move it or name another folder",
}
_FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)


def writing_error(path: str | os.PathLike, error: Exception) -> VoclabError:
    """The clear sentence for an error of the system met while ``path`` was being written."""
    number = getattr(error, "errno", None) or _full(error)
    told = getattr(error, "strerror", None) or first_line(error)
    reason = _REMEDIES.get(number, f"{told}; check the path")
    return VoclabError(f"Cannot write {path}: {reason}.")


def _full(error: BaseException | None) -> int | None:
    """The number of the error that says that a disk is full, perhaps in the words of another library.

    HDF5 hands errors on as text, and what is closed after them may fail for reasons of its own.
    """
    while error is not None:
        number = getattr(error, "errno", None)
        if number is None and (told := re.search(r"[Ee]rrno(?: =)? (\d+)", str(error))):
            number = int(told[1])
        if number in _FULL:
            return number
        error = error.__cause__ or error.__context__
    return None


def make_folder(path: str | os.PathLike) -> Path:
    """Create a folder and its parents; returns it. Raises ``VoclabError`` if that is impossible."""
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise writing_error(path, error) from error
    return path


def free_name(path: Path) -> Path:
    """``path``, or where that is taken the first free one of ``path-2``, ``path-3`` and so on."""
    suffix = "" if path.suffix == ".old" else path.suffix
    found, k = path, 2
    while os.path.lexists(found):
        found, k = path.with_name(f"{path.name.removesuffix(suffix)}-{k}{suffix}"), k + 1
    return found


_swept: set[str] = set()  # folders that this process has written into
_WRITE_FIRST = "check the path, or run the step that writes it first"
_RESTORE = "restore it, or delete it if voclab wrote it"
_DAY = 86_400  # seconds, after which nobody is still writing a file


def _sweep(folder: Path) -> None:
    """Remove what killed processes were writing in a folder, once a process."""
    if os.path.abspath(folder) not in _swept:
        _swept.add(os.path.abspath(folder))
        for path in folder.glob(f"{TEMPORARY}*"):
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > _DAY:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()


@contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; move it over ``path`` when the block succeeds.

    The temporary name keeps the suffixes of ``path`` (Keras chooses its format by them). When the
    block raises, ``path`` stays as it was; ``OSError``, and what h5py and Keras make of a full disk, becomes
    a ``VoclabError`` naming ``path``. What a process killed days ago was writing there is removed.
    """
    path = Path(path)
    make_folder(path.parent)
    temporary = None
    try:
        _sweep(path.parent)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=TEMPORARY, suffix="-" + path.name)
        os.close(handle)
        yield Path(temporary)
        with open(temporary, "rb") as written:  # or a crash of the machine may leave an empty file
            os.fsync(written.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except VoclabError:
        raise
    except Exception as error:
        if not isinstance(error, OSError) and not _full(error):
            raise
        raise writing_error(path, error) from error
    finally:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)


@contextmanager
def atomic_folder(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a new folder beside ``path``; put it in the place of ``path`` when the block succeeds.

    When the block raises, ``path`` stays as it was; ``OSError`` becomes a ``VoclabError`` naming ``path``. A
    process killed after the old folder was moved away leaves nothing at ``path``, never a part.
    """
    path = Path(path)
    make_folder(path.parent)
    _sweep(path.parent)
    temporary = None
    try:
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=TEMPORARY, suffix="-" + path.name))
        new, old = temporary / "new", temporary / "old"
        new.mkdir()
        yield new
        for file in new.rglob("*"):
            if file.is_file():
                with open(file, "rb") as written:
                    os.fsync(written.fileno())
        if path.exists():
            path.rename(old)
        try:
            new.rename(path)
        except OSError:
            if old.exists():
                old.rename(path)
            raise
    except OSError as error:
        raise writing_error(path, error) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write UTF-8 text atomically; undecodable bytes of file names become ``\\udc80`` to ``\\udcff``."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically."""
    write_text(path, json.dumps(value, indent=1, allow_nan=True) + "\n")


def read_json(path: str | os.PathLike, kind: type = object, remedy: str | None = None) -> Any:
    """Read a JSON file; one that is damaged, or holds no ``kind``, is a ``VoclabError`` that names it.

    ``remedy`` is what to do about a file that is missing or damaged, if nothing here writes it.
    """
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
        if not isinstance(value, kind):
            raise ValueError(f"it holds no {kind.__name__}")
        return value
    except FileNotFoundError as error:
        raise VoclabError(f"{path} is missing; {remedy or _WRITE_FIRST}.") from error
    except OSError as error:
        raise VoclabError(f"{path} cannot be read ({error.strerror}); check file and disk.") from error
    except (ValueError, RecursionError) as error:
        raise VoclabError(f"{path} is not readable JSON ({error}); {remedy or _RESTORE}.") from error


def sha256(path: str | os.PathLike) -> str:
    """SHA-256 of a file, 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_arrays(path: str | os.PathLike, remedy: str | None = None) -> dict[str, np.ndarray]:
    """Every array of an ``.npz`` file; nothing is unpickled, and a damaged file is a ``VoclabError``.

    ``remedy`` is as for :func:`read_json`.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        for name, values in arrays.items():
            if not isinstance(values, np.ndarray):  # numpy gives other members as bytes
                raise ValueError(f"its part {name} is no array")
        return arrays
    except FileNotFoundError as error:
        raise VoclabError(f"{path} is missing; {remedy or _WRITE_FIRST}.") from error
    except ARRAY_DAMAGE as error:
        raise VoclabError(
            f"{path} is no readable .npz file ({first_line(error)}); {remedy or 'delete it and run again'}."
        ) from error


_held: dict[Path, int] = {}  # lock files of this process by path, and their open descriptors


def lock(path: str | os.PathLike, what: str) -> bool:
    """Hold ``path`` as a lock of this process until :func:`unlock`, or until the process ends.

    The operating system keeps the lock, so that a killed process leaves none; the number in the file
    is only shown. Locking twice is no error.

    Returns:
        Whether it is held: on a file system without locks nothing is, by nobody.

    Raises:
        VoclabError: another process holds it (the sentence begins with ``what`` it guards), ``path`` is a
            link or somebody's file, or cannot be written.
    """
    path = Path(os.path.abspath(path))
    if path in _held and _is_open_at(_held[path], path):
        return True
    unlock(path)
    descriptor = _acquire(path, what)
    if descriptor is not None:
        _held[path] = descriptor
    return descriptor is not None


def unlock(path: str | os.PathLike) -> None:
    """Give a lock of this process back and remove its file; if none is held, nothing happens."""
    path = Path(os.path.abspath(path))
    _release(path, _held.pop(path, None))


@contextmanager
def locked(path: str | os.PathLike, what: str, patience: float = 0.0) -> Iterator[None]:
    """Hold ``path`` as a lock for the length of the block, also against others of this process.

    ``what`` is as in :func:`lock`; ``patience``: seconds to wait for another holder.
    """
    path = Path(os.path.abspath(path))
    descriptor = _acquire(path, what, patience)
    try:
        yield
    finally:
        _release(path, descriptor)


def _acquire(path: Path, what: str, patience: float = 0.0) -> int | None:
    """The descriptor that holds the lock; ``None`` on a file system without locks."""
    make_folder(path.parent)
    until = time.monotonic() + patience
    while True:
        descriptor = _open_lock(path)
        try:
            _lock_descriptor(descriptor)
        except OSError as error:
            holder = os.read(descriptor, _LONGEST_NUMBER).decode("ascii", "replace").strip()
            os.close(descriptor)
            if error.errno not in (errno.EAGAIN, errno.EACCES, errno.EDEADLK):
                with suppress(OSError):
                    path.unlink()
                return None  # as some network disks are
            if time.monotonic() >= until:
                number = f" (number {holder})" if holder.isdecimal() else ""
                raise VoclabError(
                    f"{what} is in use by another process{number}; wait until that ends, or stop it."
                ) from None
            time.sleep(0.1)
            continue
        # Whoever held it before may have removed the file between our opening and locking it.
        if _is_open_at(descriptor, path):
            with suppress(OSError):  # a full disk: others' sentences lack the number, no more
                os.ftruncate(descriptor, 0)
                os.write(descriptor, str(os.getpid()).encode())
            return descriptor
        os.close(descriptor)


def _release(path: Path, descriptor: int | None) -> None:
    if descriptor is not None:
        if _is_open_at(descriptor, path):
            with suppress(OSError):  # Windows removes no open file
                path.unlink()
        os.close(descriptor)


_LONGEST_NUMBER = 20  # bytes: what a lock file holds is the number of a process


def _open_lock(path: Path) -> int:
    """Open or make the lock file; a link would lead to a file of somebody else's, to be emptied."""
    try:
        if path.is_symlink():
            raise VoclabError(f"{path} is a link, which no lock follows; remove it.")
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
    except OSError as error:
        raise writing_error(path, error) from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1 or status.st_size > _LONGEST_NUMBER:
        os.close(descriptor)
        raise VoclabError(f"{path} is not a lock file of voclab; move it away.")
    return descriptor


def _is_open_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except OSError:
        return False


def _lock_descriptor(descriptor: int) -> None:
    if fcntl:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    else:
        os.lseek(descriptor, 1024, os.SEEK_SET)  # beyond the number of the process, which others may read
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        finally:
            os.lseek(descriptor, 0, os.SEEK_SET)
