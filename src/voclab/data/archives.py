"""Extracts tar and zip archives that nobody vouches for: every member is checked before one is written."""

import contextlib
import filecmp
import gzip
import os
import re
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from voclab.errors import VoclabError
from voclab.files import make_folder, writing_error

MAX_MEMBERS = 100_000
MAX_BYTES = 16 * 2**30
_CHUNK = 2**18
_MAX_HEADER = 2**20  # bytes; the longest name, say, that a tar archive may declare
_DAMAGE = (
    tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError, NotImplementedError,
    RuntimeError, OverflowError, ValueError, struct.error,
)  # fmt: skip


@dataclass(frozen=True)
class _Member:
    """A file or folder of an archive, as the archive declares it."""

    name: str
    size: int
    folder: bool
    plain: bool
    open: Callable[[], IO[bytes]]


def extract_tar(
    path: str | Path, root: str | Path, max_members: int = MAX_MEMBERS, max_bytes: int = MAX_BYTES
) -> bool:
    """Extract a tar archive, plain or gzipped, into ``root``, where it appears whole or not at all.

    Every member is checked before the first is written: plain files and folders only, no absolute path,
    no ``..``, no link, no device, and not more members or bytes than the limits. Existing files are
    never overwritten, and no link below ``root`` is followed.

    Returns:
        False if all files were there already, in the right size; True if they were extracted.

    Raises:
        VoclabError: a hostile or damaged archive, a file in the way, a folder that cannot be written.
    """

    def members(archive: tarfile.TarFile) -> Iterable[_Member]:
        for m in archive:
            yield _Member(
                m.name, m.size, m.isdir(), m.isreg() or m.isdir(), lambda m=m: archive.extractfile(m)
            )

    with (
        _readable(path),
        _unpacked(path) as file,
        tarfile.open(fileobj=_Piecewise(file), mode="r:") as archive,
    ):
        return _extract(Path(path), members(archive), Path(root), max_members, max_bytes)


def extract_zip(
    path: str | Path, root: str | Path, max_members: int = MAX_MEMBERS, max_bytes: int = MAX_BYTES
) -> bool:
    """Extract a zip archive into ``root``; as :func:`extract_tar` in everything."""

    def members(archive: zipfile.ZipFile) -> Iterable[_Member]:
        if len(set(archive.namelist())) < len(archive.namelist()):
            raise zipfile.BadZipFile("it lists a file twice")
        for m in archive.infolist():
            if m.flag_bits & 1:
                raise zipfile.BadZipFile(f"{m.filename!r} is encrypted")
            if not m.filename or "\0" in m.orig_filename:  # zipfile cuts a name at its first zero
                raise zipfile.BadZipFile(f"{m.orig_filename!r} is no name")
            kind = stat.S_IFMT(m.external_attr >> 16)
            plain = kind in (0, stat.S_IFREG, stat.S_IFDIR)
            yield _Member(m.filename, m.file_size, m.is_dir(), plain, lambda m=m: opened(archive, m))

    def opened(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> IO[bytes]:
        try:
            return archive.open(member)
        except OSError as error:  # it begins before the file does
            raise zipfile.BadZipFile(f"{member.filename!r}: {error.strerror}") from error

    with _readable(path), zipfile.ZipFile(path) as archive:
        _check_count(archive)
        return _extract(Path(path), members(archive), Path(root), max_members, max_bytes)


def _unpacked(path: str | Path) -> IO[bytes]:
    with open(path, "rb") as file:
        gzipped = file.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if gzipped else open(path, "rb")


def _check_count(archive: zipfile.ZipFile) -> None:
    """Compare the members with the number that the archive's end gives: zipfile stops early in silence."""
    archive.fp.seek(-22 - len(archive.comment), os.SEEK_END)
    mark, _, declared = struct.unpack("<4s6sH", archive.fp.read(12))
    found = len(archive.infolist())
    if mark == b"PK\5\6" and declared not in (found & 0xFFFF, 0xFFFF):  # 65535: it stands elsewhere
        raise zipfile.BadZipFile(f"it lists {found} of {declared} files")


class _Piecewise:
    """A file read in pieces only: tarfile reads a name into memory at whatever length it declares."""

    def __init__(self, file: IO[bytes]):
        self._file, self.tell, self.seek = file, file.tell, file.seek

    def read(self, size: int) -> bytes:
        if size > _MAX_HEADER:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return self._file.read(size)


@contextlib.contextmanager
def _readable(path: str | Path):
    try:
        yield
    except FileNotFoundError as error:
        raise VoclabError(f"{path} is missing; download it first.") from error
    except _DAMAGE as error:
        raise VoclabError(f"{path} is a damaged archive ({error}); delete it and fetch it again.") from error
    except OSError as error:
        raise VoclabError(
            f"{path} cannot be read ({error.strerror or error}); check file and disk."
        ) from error


def _extract(archive: Path, members: Iterable[_Member], root: Path, max_members: int, max_bytes: int) -> bool:
    files = _checked(archive, members, max_members, max_bytes)
    total = sum(member.size for member in files.values())
    targets = {name: root / name for name in files}
    staging = root / f".extracting-{archive.name}"
    if not staging.is_symlink():
        shutil.rmtree(staging, ignore_errors=True)  # what a killed run left
    if all(targets[n].is_file() and targets[n].stat().st_size == m.size for n, m in files.items()):
        return False
    free = shutil.disk_usage(make_folder(root)).free
    if total > free:
        raise VoclabError(
            f"{archive} needs {total / 1e6:.0f} MB in {root}, where {free / 1e6:.0f} MB are free; free some"
            " space or name a folder on another disk."
        )
    if staging.is_symlink():
        raise VoclabError(f"{staging} is a link, which is not followed; remove it and extract again.")
    try:
        staging.mkdir()
        for name, member in files.items():
            (staging / name).parent.mkdir(parents=True, exist_ok=True)
            with member.open() as source, open(staging / name, "xb") as target:
                shutil.copyfileobj(source, target, _CHUNK)  # both readers stop at the declared size
                if target.tell() != member.size:
                    raise EOFError(f"{name!r} has {target.tell()} of {member.size} bytes")
        _move_into_place(staging, root)
    except gzip.BadGzipFile:  # an OSError, but of the archive
        raise
    except OSError as error:
        raise writing_error(root, error) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return True


def _checked(
    archive: Path, members: Iterable[_Member], max_members: int, max_bytes: int
) -> dict[str, _Member]:
    """The files by their path, after every member was found harmless."""
    files: dict[str, _Member] = {}
    total = 0
    for count, member in enumerate(members, start=1):
        parts = [p for p in member.name.split("/") if p not in ("", ".")]
        outside = member.name.startswith("/") or ".." in parts or re.search(r"[\\:\0]", member.name)
        outside = outside or not (parts or member.folder)
        total += member.size
        if outside or not member.plain:
            what = "leads outside its folder" if outside else "is a link or a device"
            raise VoclabError(f"{archive} has the member {member.name!r}, which {what}; do not use it.")
        if count > max_members or total > max_bytes:
            raise VoclabError(
                f"{archive} would extract to more than {max_members} files or {max_bytes / 2**30:.3g} GiB;"
                " do not use this archive."
            )
        if not member.folder and parts:
            files["/".join(parts)] = member
    if not files:
        raise VoclabError(f"{archive} holds no files; delete it and download it again.")
    return files


def _same(one: Path, two: Path) -> bool:
    """Whether both are plain files of the same content."""
    plain = all(stat.S_ISREG(os.lstat(path).st_mode) for path in (one, two))
    return plain and filecmp.cmp(one, two, shallow=False)


def _move_into_place(staging: Path, root: Path) -> None:
    """Move the extracted tree to ``root`` by renaming whole folders; all of it or nothing.

    Files that are there already with the same content stay.
    """
    moves: list[tuple[Path, Path]] = []

    def plan(source: Path, target: Path) -> None:
        for entry in sorted(source.iterdir()):
            there = target / entry.name
            if not os.path.lexists(there):
                moves.append((entry, there))
            elif entry.is_dir() and there.is_dir() and not there.is_symlink():
                plan(entry, there)
            elif not _same(entry, there):  # a killed run may have moved some
                raise VoclabError(
                    f"{there} is in the way and was not overwritten; move it and extract again."
                )

    plan(staging, root)
    done: list[tuple[Path, Path]] = []
    try:
        for source, target in moves:
            os.rename(source, target)
            done.append((source, target))
    except OSError:
        for source, target in reversed(done):
            os.rename(target, source)
        raise
