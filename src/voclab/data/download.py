"""Downloads one file, known by its checksum, from the first of several addresses that gives it."""

import codecs
import hashlib
import itertools
import os
import re
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlsplit

from voclab.errors import VoclabError
from voclab.files import writing_error

Say = Callable[[str], None] | None  # takes a line for the user; None keeps quiet and shows no progress
CHUNK = 2**14  # bytes; what has arrived of a piece is lost when the connection breaks
TIMEOUT = (10, 30)  # seconds: to connect, and without a byte
PATIENCE = 5  # failures in a row without a new byte, after which an address that worked is given up
CONNECTIONS = 100  # to one address: a server that gives a few bytes at a time must not keep us for ever
WAIT = 1.0  # seconds before the second attempt; doubled before each further one


def download(part: Path, addresses: Sequence[str], md5: str, limit: int, say: Say) -> str | None:
    """Fill ``part`` from the first address that gives what has this checksum, going on from what is there.

    A broken connection is taken up where it broke, guarded by the file's tag. So is what an earlier process
    or another address left: only the checksum tells whether the two fit; if they do not, the file is
    fetched once more from its start. Whatever else a server answers is a reason to try the next address.

    Args:
        part: our own file; what came with a wrong checksum is removed.
        addresses: tried in this order; see :func:`require_addresses`.
        md5: 32 hexadecimal digits.
        limit: bytes; more are not taken.
        say: takes one line for every address that fails, but the last.

    Returns:
        ``None``, or why each address failed.

    Raises:
        VoclabError: ``part`` cannot be written, or is no plain file.
    """
    if checksum_is(part, md5):  # it was all there when an earlier process was stopped
        return None
    failed = []
    for address in addresses:
        if failed and say:
            say(f"{failed[-1]}; trying the next address.")
        reason = _take(address, part, md5, limit, say)
        if reason is None:
            return None
        failed.append(f"{_shown(address)}: {reason}")
    return "; ".join(failed) or "there is no address"


def require_addresses(addresses: Sequence[str], file: Path) -> None:
    """Raise ``VoclabError`` for what is no http or https address, where one's own archive is a remedy."""
    for address in addresses:
        if not _is_http(address):
            raise VoclabError(
                f"{_shown(re.sub('//.*@', '//', address))!r} is not an http address; name one such as"
                f" https://host/{file.name}, or put a file of yours at {file}."
            )


def size(path: Path) -> int:
    """Bytes of a file of our own, 0 if it is not there; what is no plain file in its place is refused."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return 0
    if not stat.S_ISREG(found.st_mode):
        raise VoclabError(f"{path} is not a plain file; remove it and fetch again.")
    return found.st_size


def checksum_is(path: Path, md5: str) -> bool:
    """Whether ``path`` is a file with this MD5."""
    if not path.is_file():
        return False
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest() == md5
    except OSError as error:
        raise VoclabError(
            f"{path} cannot be read ({error.strerror or error}); check file and disk."
        ) from error


class _Refused(Exception):
    """The server's answer will not get better by asking again."""


class _Broken(Exception):
    """The connection ended early; ``tag`` identifies the version whose bytes arrived."""

    def __init__(self, message: str, tag: str | None = None):
        super().__init__(message)
        self.tag = tag


def _take(address: str, part: Path, md5: str, limit: int, say: Say) -> str | None:
    """Fill ``part`` from one address; why that is impossible, or ``None``."""
    while True:
        had = size(part)
        reason = _receive(address, part, limit, say)
        # Even of a broken connection: the server may have announced more than the file has.
        if (reason is None or size(part) != had) and checksum_is(part, md5):
            return None
        if reason is not None:
            return reason
        part.unlink(missing_ok=True)
        if not had:
            return "what came has a wrong checksum and was removed"


def _receive(address: str, part: Path, limit: int, say: Say) -> str | None:
    """Append what is missing from one address, through broken connections; why it failed, or ``None``."""
    failures, patience, furthest, tag = 0, 2, size(part), None
    for _ in range(CONNECTIONS):
        try:
            _connect(address, part, tag, limit, say)
            return None
        except _Refused as refusal:
            return str(refusal)
        except _Broken as broken:
            tag = broken.tag
            if size(part) > furthest:
                failures, patience, furthest = 0, PATIENCE, size(part)
            failures += 1
            if failures >= patience:
                return str(broken)
            time.sleep(WAIT * 2 ** (failures - 1))
        except OSError as error:
            raise writing_error(part, error) from error
    return f"the connection broke {CONNECTIONS} times"


def _connect(address: str, part: Path, tag: str | None, limit: int, say: Say) -> None:
    """Append what one connection gives."""
    from tqdm import tqdm

    start = size(part)
    headers = {"Accept-Encoding": "identity"}
    if start:
        headers |= {"Range": f"bytes={start}-"} | ({"If-Range": tag} if tag else {})
    with _open(address, headers, tag) as response:
        served, encoding = response.headers.get("Content-Range"), response.headers.get("Content-Encoding")
        if response.status_code == 416 and served == f"bytes */{start}":  # it is all there
            return
        resumed, total = _announced(response, start, tag)
        if resumed is None:  # the server cannot go on, or what is there is of another file
            part.unlink(missing_ok=True)
            raise _Broken("it gives another part of the file than was asked for")
        if total is not None and total > limit:
            raise _Refused(f"it announces {total} bytes, far more than the archive has")
        if encoding not in (None, "identity") and not part.stem.endswith("gz"):
            raise _Refused(f"it answered with Content-Encoding {encoding[:40]!r}, which was not asked for")
        # A weak tag (W/"...") must not guard a range (RFC 9110, 13.1.5).
        etag = response.headers.get("ETag", "")
        tag = etag if etag.startswith('"') else response.headers.get("Last-Modified")
        pieces = _pieces(response, tag)
        first = next(pieces, b"")
        if not resumed and _is_page(response.headers.get("Content-Type", ""), first):
            raise _Refused("it gives a web page instead of the archive, as the login of a network does")
        start = start if resumed else 0
        bar = tqdm(desc=part.stem, total=total, initial=start, unit="B", unit_scale=True, disable=not say)
        with bar, open(part, "ab" if resumed else "wb") as file:
            for piece in itertools.chain([first], pieces):
                file.write(piece)
                bar.update(len(piece))
                if file.tell() > (total or limit):
                    raise _Refused("it gives more bytes than the archive has")
    if total is not None and size(part) != total:
        raise _Broken(f"{size(part)} of {total} bytes arrived", tag)


def _announced(response, start: int, tag: str | None) -> tuple[bool | None, int | None]:
    """Whether the answer goes on from ``start`` (``None``: from elsewhere), and the file's length if told."""
    status, headers = response.status_code, response.headers
    if status == 416:
        return None, None
    said = f"it answered {status}" + (f" {HTTPStatus(status).phrase}" if status in set(HTTPStatus) else "")
    if status in (408, 429) or status >= 500:
        raise _Broken(said, tag)
    if status not in (200, 206):
        raise _Refused(said)
    length = headers.get("Content-Length")
    if length is not None and not re.fullmatch("[0-9]{1,30}", length):
        raise _Refused(f"it announces a Content-Length of {length[:40]!r}, which is no number")
    total = None if length is None or headers.get("Transfer-Encoding") else int(length)
    if status == 200 and total == 0:
        raise _Refused("it gives an empty file")
    if status == 200:
        return False, total
    number = "([0-9]{1,30})"
    served = re.fullmatch(rf"bytes {number}-{number}/(?:{number}|\*)", headers.get("Content-Range", ""))
    if served is None or int(served[1]) != start:
        return None, None
    return start > 0, int(served[3]) if served[3] else None if total is None else start + total


def _is_page(kind: str, first: bytes) -> bool:
    """Whether an answer is a page or a message: what has arrived of the archive is not given up for it."""
    begins = first.removeprefix(codecs.BOM_UTF8).lstrip()[:1]
    return begins == b"<" or kind.strip().casefold().startswith(("text/html", "application/json"))


@contextmanager
def _open(address: str, headers: dict[str, str], tag: str | None):
    import requests

    with _network(tag):
        response = requests.get(address, headers=headers, stream=True, timeout=TIMEOUT)
    with response:
        yield response


def _pieces(response, tag: str | None) -> Iterator[bytes]:
    with _network(tag):
        # Undecoded: some servers announce any .gz file as compressed, and the checksum is of the file.
        yield from response.raw.stream(CHUNK, decode_content=False)


@contextmanager
def _network(tag: str | None) -> Iterator[None]:
    """Whatever the libraries raise for a broken connection or an odd answer becomes one of our two."""
    import requests
    import urllib3

    from voclab.kaggle.client import reason

    try:
        yield
    except requests.TooManyRedirects as error:
        raise _Refused("it redirects in a circle") from error
    except requests.RequestException as error:
        raise _Broken(reason(error), tag) from error
    except (urllib3.exceptions.HTTPError, HTTPException, OSError, ValueError) as error:
        # ValueError: numbers, addresses and names that are none.
        raise _Broken(f"its answer broke off or is no proper HTTP ({reason(error)})", tag) from error


def _is_http(address: str) -> bool:
    try:
        parts = urlsplit(address)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # also a port that is none, as after a password with a slash in it
        return False


def _shown(address: str) -> str:
    """An address without what may be secret in it: user, password, query, fragment."""
    return re.split(r"[?#]", re.sub(r"//[^/?#]*@", "//", address))[0]
