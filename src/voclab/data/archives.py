"""Unpacks tar and zip archives that nobody vouches for: every member is checked before one is written."""

import errno
import gzip
import os
import re
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from voclab.errors import VoclabError
from voclab.files import make_folder, writing_error

MAX_MEMBERS = 100_000
MAX_BYTES = 16 * 2**30
_MAX_HEADER = 2**20  # bytes; the longest name, say, that a tar archive may declare
_PLAIN = (0, stat.S_IFREG, stat.S_IFDIR)  # kinds of members of a zip archive
_DAMAGE = (
    tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError,
    RuntimeError, OverflowError, ValueError, struct.error,
)  # fmt: skip


def unpack(
    archive: str | os.PathLike,
    target: str | os.PathLike,
    inside: str = "",
    max_members: int = MAX_MEMBERS,
    max_bytes: int = MAX_BYTES,
) -> None:
    """Unpack a zip, tar or tar.gz archive; its folder ``inside`` becomes ``target``.

    It is unpacked beside ``target`` and renamed, so that ``target`` appears whole or not at all. Plain files
    and folders only: no absolute path, no ``..``, no link, no device, and not more members or bytes than the
    limits.

    Raises:
        VoclabError: a hostile or damaged archive, one without ``inside``, something at ``target`` already,
            a folder that cannot be written.
    """
    archive, target = Path(archive), Path(target)
    staging = target.parent / f".extracting-{target.name}"
    for path in (target, staging):
        if path.is_symlink() or (path == target and path.exists()):
            raise VoclabError(f"{path} is in the way; move it away and unpack again.")
    try:
        with _opened(archive) as (members, extract):
            _check(archive, members, max_members, max_bytes)
            make_folder(target.parent)
            shutil.rmtree(staging, ignore_errors=True)  # what a killed process left
            staging.mkdir()
            extract(staging)
        if not (staging / inside).is_dir():
            raise VoclabError(f"{archive} holds no {inside}; use the official archive.")
        os.rename(staging / inside, target)
    except (*_DAMAGE, OSError) as error:
        # EINVAL: the list of a zip says that a file begins before the archive does.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise writing_error(target, error) from error
        raise VoclabError(f"{archive} is a damaged archive ({error}); delete it and fetch again.") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Iterable[tuple[str, int, bool]], Callable[[Path], None]]]:
    """Name and size of each member and whether it is a plain file or folder; what extracts all of them."""
    try:
        file = open(path, "rb")  # noqa: SIM115 - closed below; what the block raises is not ours
    except OSError as error:
        raise VoclabError(f"{path} cannot be read ({error.strerror}); download it first.") from error
    with file:
        magic = file.read(2)
        file.seek(0)
        if magic == b"PK":
            with zipfile.ZipFile(file) as packed:
                kinds = ((m, stat.S_IFMT(m.external_attr >> 16) in _PLAIN) for m in packed.infolist())
                yield [(m.filename, m.file_size, plain) for m, plain in kinds], packed.extractall
            return
        data = _Piecewise(gzip.GzipFile(fileobj=file) if magic == b"\x1f\x8b" else file)
        with tarfile.open(fileobj=data, mode="r:") as packed:
            yield (
                ((m.name, m.size, m.isreg() or m.isdir()) for m in packed),
                lambda folder: packed.extractall(folder, filter="data"),
            )


class _Piecewise:
    """A file read in pieces only: tarfile reads a name into memory at whatever length it declares."""

    def __init__(self, file: IO[bytes] | gzip.GzipFile):
        self._file, self.tell, self.seek = file, file.tell, file.seek

    def read(self, size: int) -> bytes:
        if size > _MAX_HEADER:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return self._file.read(size)


def _check(archive: Path, members: Iterable[tuple[str, int, bool]], max_members: int, max_bytes: int) -> None:
    """Find every member harmless, or raise."""
    count = total = 0
    for name, size, plain in members:
        count, total = count + 1, total + size
        outside = name.startswith("/") or ".." in name.split("/") or re.search(r"[\\:\0]|^$", name)
        if outside or not plain:
            raise VoclabError(
                f"{archive} has the member {name!r}, a link, a device or outside its folder; do not use it."
            )
        if count > max_members or total > max_bytes:
            raise VoclabError(
                f"{archive} would extract to more than {max_members} files or {max_bytes / 2**30:.3g} GiB;"
                " do not use this archive."
            )
    if not count:
        raise VoclabError(f"{archive} holds no files; delete it and download it again.")
