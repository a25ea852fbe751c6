"""Downloads one file, known by its checksum, through broken connections and over restarts."""

import hashlib
import re
import time
from http.client import HTTPException
from pathlib import Path

from voclab.errors import VoclabError
from voclab.files import writing_error

CHUNK = 2**14  # bytes; what has arrived of a piece is lost when the connection breaks
TIMEOUT = (10, 30)  # seconds: to connect, and without a byte
PATIENCE = 3  # failures in a row without a new byte, after which an address is given up
WAIT = 1.0  # seconds before the second attempt; doubled before each further one


def download(address: str, part: Path, md5: str, limit: int, progress: bool) -> str:
    """Fill ``part`` from an address; says why that was impossible, or nothing.

    What is there is gone on from, whichever process and address it came from: only the checksum tells
    whether the two fit. If they do not, the file is fetched once more from its start.

    Args:
        address: http or https.
        part: our own file; what came with a wrong checksum is removed.
        md5: 32 hexadecimal digits.
        limit: bytes; more are not taken.
        progress: show a bar with the time left.

    Raises:
        VoclabError: ``part`` cannot be written.
    """
    import requests
    import urllib3

    failures, whole = 0, False
    while True:
        had = size(part)
        whole = whole or not had
        try:
            _receive(address, part, limit, progress)
            if checksum_is(part, md5):
                return ""
            part.unlink(missing_ok=True)
            if whole:
                return "what came has a wrong checksum and was removed"
        except (requests.RequestException, urllib3.exceptions.HTTPError, HTTPException, ValueError) as error:
            failures = 1 if size(part) > had else failures + 1
            status = getattr(getattr(error, "response", None), "status_code", 500)
            # ValueError: an address or an answer that will not get better.
            if failures == PATIENCE or status in range(400, 500) or isinstance(error, ValueError):
                return reason(error)
            time.sleep(WAIT * 2 ** (failures - 1))
        except OSError as error:
            raise writing_error(part, error) from error


def checksum_is(path: Path, md5: str) -> bool:
    """Whether ``path`` is a file with this MD5."""
    if not path.is_file():
        return False
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest() == md5
    except OSError as error:
        raise VoclabError(f"{path} cannot be read ({error.strerror}); check file and disk.") from error


def size(path: Path) -> int:
    """Bytes of a file of our own, 0 if it is not there; what is no plain file in its place is refused."""
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise VoclabError(f"{path} is not a plain file; remove it and fetch again.")
    return path.stat().st_size if path.exists() else 0


def reason(error: Exception) -> str:
    """One short phrase for an error of a request: the status, or its name in words."""
    response = getattr(error, "response", None)
    if response is not None:
        return f"it answered {response.status_code} {response.reason}"
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(error).__name__).lower()
    return str(error) if type(error) is ValueError else words  # another's text may repeat the address


def _receive(address: str, part: Path, limit: int, progress: bool) -> None:
    """Append what one connection gives."""
    import requests
    from tqdm import tqdm

    start = size(part)
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    with requests.get(address, headers=headers, stream=True, timeout=TIMEOUT) as response:
        if response.status_code == 416:  # nothing is left to send
            return
        response.raise_for_status()
        # What has arrived of the archive is not given up for a page, as the login of a network gives one.
        if response.status_code not in (200, 206) or "html" in response.headers.get("Content-Type", ""):
            raise ValueError("it gives a web page instead of the archive")
        if response.status_code == 200:
            start = 0  # it cannot go on and sends the whole
        elif not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            part.unlink(missing_ok=True)
            raise requests.ConnectionError("it sends another part than was asked for")
        length = response.headers.get("Content-Length")
        total = start + int(length) if length else None
        if (total or 0) > limit:
            raise ValueError(f"it announces {total} bytes, far more than the archive has")
        bar = tqdm(
            desc=part.stem, total=total, initial=start, unit="B", unit_scale=True, disable=not progress
        )
        with bar, open(part, "ab" if start else "wb") as file:
            # Undecoded: some servers announce any .gz file as compressed, and the checksum is of the file.
            for piece in response.raw.stream(CHUNK, decode_content=False):
                file.write(piece)
                bar.update(len(piece))
                if file.tell() > limit:
                    raise ValueError("it gives more bytes than the archive has")
