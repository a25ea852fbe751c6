"""Gets the real data: official archives and a competition's files, by downloads that resume."""

import hashlib
import itertools
import os
import re
import shutil
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlsplit

from voclab.datasets.archives import extract_tar, extract_zip
from voclab.datasets.cifar10 import BATCHES, BINARY
from voclab.datasets.kaggle import TRAIN_CSV
from voclab.errors import VoclabError
from voclab.files import lock, make_folder, unlock, writing_error
from voclab.terminal import tell

Say = Callable[[str], None] | None  # takes a line for the user; None keeps quiet and shows no progress
CHUNK = 2**14  # bytes; what has arrived of a piece is lost when the connection breaks
TIMEOUT = (10, 30)  # seconds: to connect, and without a byte
PATIENCE = 5  # failures in a row without a new byte, after which an address that worked is given up
CONNECTIONS = 100  # to one address: a server that gives a few bytes at a time must not keep us for ever
WAIT = 1.0  # seconds before the second attempt; doubled before each further one


def _voc_gap(tree: Path) -> Path | None:
    """The first file that a tree of VOC lacks of those that its own lists name."""
    kinds = [("JPEGImages", ".jpg"), ("SegmentationClass", ".png")]
    if (tree / "Annotations").is_dir():
        kinds.append(("Annotations", ".xml"))
    for split in ("train", "val"):
        listed = tree / "ImageSets" / "Segmentation" / f"{split}.txt"
        if not listed.is_file():
            return listed
        for image in listed.read_text(encoding="utf-8", errors="replace").split():
            for folder, suffix in kinds:
                if not (tree / folder / (image + suffix)).is_file():
                    return tree / folder / (image + suffix)
    return None


def _cifar_gap(tree: Path) -> Path | None:
    return next((tree / f"{n}.bin" for n in BATCHES if not (tree / f"{n}.bin").is_file()), None)


@dataclass(frozen=True)
class Archive:
    """An official archive: its checksum decides, whichever address it came from.

    Attributes:
        title: what it is called.
        file: its file name.
        tree: the folder in it that is wanted.
        size: about how many bytes it has; unpacked it takes as many again.
        md5: 32 hexadecimal digits.
        addresses: where it is looked for, in this order.
        gap: the first file that an unpacked tree lacks, else ``None``.
    """

    title: str
    file: str
    tree: str
    size: int
    md5: str
    addresses: tuple[str, ...]
    gap: Callable[[Path], Path | None]


VOC2009 = Archive(
    "PASCAL VOC 2009",
    "VOCtrainval_11-May-2009.tar",
    "VOCdevkit/VOC2009",
    900_000_000,
    # By md5sum in pytorch/vision#5423; torchvision had a wrong one until #5425.
    "a3e00b113cfcfebf17e343f59da3caa1",
    (
        # Oxford's new host. The address is by analogy with the years that were seen there.
        "https://thor.robots.ox.ac.uk/pascal/VOC/voc2009/VOCtrainval_11-May-2009.tar",
        "http://host.robots.ox.ac.uk/pascal/VOC/voc2009/VOCtrainval_11-May-2009.tar",
    ),
    _voc_gap,
)
CIFAR10 = Archive(
    "CIFAR-10",
    "cifar-10-binary.tar.gz",
    BINARY,
    170_052_171,
    "c32a1d4ab5d03f1284b67883e8d87530",
    ("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",),
    _cifar_gap,
)


def voc2009(
    base: str | Path,
    say: Say = tell,
    addresses: Sequence[str] = VOC2009.addresses,
    md5: str = VOC2009.md5,
) -> Path:
    """Download and unpack the official PASCAL VOC 2009; returns ``base/VOCdevkit/VOC2009``.

    A complete tree that is there already is left alone. An archive that somebody put into ``base`` is
    used instead of the network if its checksum is right, and never changed, renamed or removed. What is
    downloaded gathers in a file of our own beside it (``.voclab-part``), from which a later call goes on,
    and which is removed once it is unpacked. One process at a time downloads into a folder.

    Args:
        base: the data folder; made if it is not there.
        say: takes what the user should know, a line each: the size first, then every address that fails.
            A progress bar with the time left goes to standard error. ``None``: neither.
        addresses: http or https, tried in this order.
        md5: of the archive.

    Raises:
        VoclabError: no address gives the archive, a wrong archive or an incomplete tree in the way, too
            little space, another download into ``base``, a folder that cannot be written.
    """
    return _fetch(VOC2009, base, say, addresses, md5)


def cifar10(
    base: str | Path,
    say: Say = tell,
    addresses: Sequence[str] = CIFAR10.addresses,
    md5: str = CIFAR10.md5,
) -> Path:
    """Download and unpack the official binary CIFAR-10; returns ``base/cifar-10-batches-bin``.

    As :func:`voc2009` in everything.
    """
    return _fetch(CIFAR10, base, say, addresses, md5)


def competition(slug: str, base: str | Path, say: Say = tell) -> Path:
    """Download and unpack a competition's data with the kaggle client; returns ``base/<slug>``.

    A competition that is there already is left alone. An interrupted download is taken up again.

    Raises:
        VoclabError: no credentials, rules not accepted, no network, a hostile or damaged archive, another
            download into ``base``, a folder that cannot be written.
    """
    import requests

    from voclab import kaggle_client

    address = kaggle_client.check_competition(slug)
    base, target = Path(base), Path(base) / slug
    if any(target.glob(f"**/train/{TRAIN_CSV}")):
        _say(say, f"{target} is already there; nothing was downloaded.")
        return target
    api = kaggle_client.kaggle_api()
    with _alone(base):
        staging = base / f".download-{slug}"
        _refuse_links(staging, target)
        make_folder(staging)
        try:
            api.competition_download_files(slug, path=str(staging), quiet=say is None)
        except requests.HTTPError as error:
            raise kaggle_client.refusal(error, slug) from error
        except (
            requests.RequestException,
            ValueError,
        ) as error:  # ValueError: an odd answer, or too few bytes
            raise VoclabError(
                f"{address} could not be downloaded ({kaggle_client.reason(error)}); check the network and"
                f" fetch again, or download it in a browser and extract it into {target}."
            ) from error
        except OSError as error:
            raise writing_error(staging, error) from error
        extract_zip(staging / f"{slug}.zip", target)
        shutil.rmtree(staging)
    return target


def _fetch(archive: Archive, base: str | Path, say: Say, addresses: Sequence[str], md5: str) -> Path:
    base = Path(base)
    tree, brought = base / archive.tree, base / archive.file
    part = base / f"{archive.file}.voclab-part"
    if tree.is_dir() and archive.gap(tree) is None:
        _say(say, f"{tree} is already there; nothing was downloaded.")
        return tree
    with _alone(base):
        if os.path.lexists(tree):
            if tree.is_dir() and (gap := archive.gap(tree)) is None:
                return tree  # by the process that held the folder before
            missing = f" ({gap} is missing)" if tree.is_dir() else ""
            raise VoclabError(f"{tree} is in the way but incomplete{missing}; move it away and fetch again.")
        _refuse_links(part, *(p for p in tree.parents if base in p.parents))
        if os.path.lexists(brought):
            if not brought.is_file() or _md5(brought) != md5:
                raise VoclabError(
                    f"{brought} is not the official archive, or not all of it (its MD5 is not {md5}), and"
                    " was left as it is; replace it, or move it away and fetch again to download it."
                )
            _say(say, f"{brought} is the official archive, so nothing is downloaded.")
        else:
            _download(archive, addresses, md5, part, say)
        unpacked = brought if os.path.lexists(brought) else part
        extract_tar(unpacked, base)
        if not tree.is_dir() or (gap := archive.gap(tree)):
            lacks = gap if tree.is_dir() else archive.tree
            raise VoclabError(f"{unpacked} holds no {lacks}; use the official archive of {archive.title}.")
        part.unlink(missing_ok=True)
    return tree


@contextmanager
def _alone(base: Path) -> Iterator[None]:
    """Keep other downloads out of a folder."""
    path = base / ".fetching.lock"
    lock(path, f"{base} (for a download)")
    try:
        yield
    finally:
        unlock(path)


def _refuse_links(*paths: Path) -> None:
    """What we are going to write to must not lead elsewhere."""
    for path in paths:
        if path.is_symlink():
            raise VoclabError(f"{path} is a link, which is not followed; remove it and fetch again.")


def _download(archive: Archive, addresses: Sequence[str], md5: str, part: Path, say: Say) -> None:
    """Fill ``part`` from the first address that gives the archive with this checksum."""
    if _is(part, md5):  # it was all there when an earlier process was stopped
        return
    base, there = part.parent, _size(part)
    left = max(0, archive.size - there)
    known = f" ({_bytes(there)} are there)" if there else ""
    _say(
        say,
        f"{archive.title}: about {_bytes(left)} to download into {base}{known}, and {_bytes(archive.size)}"
        " unpacked.",
    )
    free = shutil.disk_usage(base).free
    if free < left + archive.size:
        raise VoclabError(
            f"{archive.title} needs about {_bytes(left + archive.size)} in {base}, where {_bytes(free)} are"
            " free; free some space or name a folder on another disk."
        )
    failed = []
    for k, address in enumerate(addresses, start=1):
        reason = _take(address, archive, md5, part, say)
        if reason is None:
            return
        failed.append(f"{_shown(address)}: {reason}")
        if k < len(addresses):
            _say(say, f"{failed[-1]}; trying the next address.")
    raise VoclabError(
        f"{archive.title} could not be downloaded ({'; '.join(failed) or 'no address'}); check the network"
        " and fetch again to go on, name another address with --url, or download it in a browser and put it"
        f" at {base / archive.file}."
    )


def _take(address: str, archive: Archive, md5: str, part: Path, say: Say) -> str | None:
    """Fill ``part`` from one address; why that is impossible, or ``None``."""
    while True:
        had = _size(part)
        reason = _receive(address, archive, part, say)
        if _size(part) and (reason is None or _size(part) != had) and _is(part, md5):
            return None
        if reason is not None:
            return reason
        part.unlink(missing_ok=True)
        if not had:
            return "what came has a wrong checksum and was removed"
        # The bytes of an earlier download were of another file: once more, from the start.


def _receive(address: str, archive: Archive, part: Path, say: Say) -> str | None:
    """Append what is missing from one address, through broken connections; why it failed, or ``None``."""
    failures, limit, furthest, tag = 0, 2, _size(part), None
    for _ in range(CONNECTIONS):
        try:
            _receive_once(address, archive, part, tag, say)
            return None
        except _Refused as refusal:
            return str(refusal)
        except _Broken as broken:
            tag = broken.tag
            if _size(part) > furthest:
                failures, limit, furthest = 0, PATIENCE, _size(part)
            failures += 1
            if failures >= limit:
                return str(broken)
            time.sleep(WAIT * 2 ** (failures - 1))
        except OSError as error:
            raise writing_error(part, error) from error
    return f"the connection broke {CONNECTIONS} times"


class _Refused(Exception):
    """The server's answer will not get better by asking again."""


class _Broken(Exception):
    """The connection ended early; ``tag`` identifies the version whose bytes arrived."""

    def __init__(self, message: str, tag: str | None = None):
        super().__init__(message)
        self.tag = tag


def _receive_once(address: str, archive: Archive, part: Path, tag: str | None, say: Say) -> None:
    from tqdm import tqdm

    start = _size(part)
    headers = {"Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
        if tag:
            headers["If-Range"] = tag
    with _network(tag):
        response = _open(address, headers)
    with response:
        if response.status_code == 416:  # the part is as long as the file, or longer
            if response.headers.get("Content-Range") == f"bytes */{start}":
                return
            part.unlink(missing_ok=True)
            raise _Broken("the part left by an earlier download was of another file")
        start, total = _announced(response, start, tag, archive, part)
        # A weak tag (W/"...") must not guard a range (RFC 9110, 13.1.5).
        etag = response.headers.get("ETag", "")
        tag = etag if etag.startswith('"') else response.headers.get("Last-Modified")
        pieces = _pieces(response, tag)
        first = next(pieces, b"")
        if not start and first.lstrip()[:1] == b"<":
            raise _Refused("it gives a web page instead of the archive, as the login of a network does")
        bar = tqdm(
            desc=archive.file, total=total, initial=start, unit="B", unit_scale=True, disable=say is None
        )
        with bar, open(part, "ab" if start else "wb", opener=_never_through_a_link) as file:
            for piece in itertools.chain([first], pieces):
                file.write(piece)
                bar.update(len(piece))
                if file.tell() > (total or 2 * archive.size):
                    raise _Refused("it gives more bytes than the archive has")
    if total is not None and _size(part) != total:
        raise _Broken(f"{_size(part)} of {total} bytes arrived", tag)


def _open(address: str, headers: dict[str, str]):
    import requests

    try:
        proper = urlsplit(address).scheme in ("http", "https") and urlsplit(address).hostname
    except ValueError:
        proper = False
    if not proper:
        raise _Refused("it is not an http address")
    try:
        return requests.get(address, headers=headers, stream=True, timeout=TIMEOUT)
    except requests.TooManyRedirects as error:
        raise _Refused("it redirects in a circle") from error


def _pieces(response, tag: str | None) -> Iterator[bytes]:
    with _network(tag):
        # Undecoded: with Content-Encoding the checksum is still of the file's own bytes for a .gz archive.
        yield from response.raw.stream(CHUNK, decode_content=False)


@contextmanager
def _network(tag: str | None) -> Iterator[None]:
    """Whatever the libraries raise for a broken connection or an odd answer becomes :class:`_Broken`."""
    import requests
    import urllib3

    from voclab.kaggle_client import reason

    try:
        yield
    except requests.RequestException as error:
        raise _Broken(reason(error), tag) from error
    except (urllib3.exceptions.HTTPError, HTTPException, OSError, ValueError) as error:
        # ValueError: numbers, addresses and names that are none.
        raise _Broken(f"its answer broke off or is no proper HTTP ({reason(error)})", tag) from error


def _announced(response, start: int, tag: str | None, archive: Archive, part: Path) -> tuple[int, int | None]:
    """Where the answer begins in the file, and the file's length if it is told."""
    status, headers = response.status_code, response.headers
    said = f"it answered {status}" + (f" {HTTPStatus(status).phrase}" if status in set(HTTPStatus) else "")
    if status in (408, 429) or status >= 500:
        raise _Broken(said, tag)
    if status not in (200, 206):
        raise _Refused(said)
    encoding = headers.get("Content-Encoding", "identity").strip().lower()
    if encoding != "identity" and not archive.file.endswith("gz"):
        raise _Refused(f"it answered with Content-Encoding {encoding[:40]!r}, which was not asked for")
    length = headers.get("Content-Length")
    if length is not None and not re.fullmatch("[0-9]{1,30}", length):
        raise _Refused(f"it announces a Content-Length of {length[:40]!r}, which is no number")
    total = None if length is None or headers.get("Transfer-Encoding") else int(length)
    if status == 206:
        served = re.fullmatch(
            r"bytes ([0-9]{1,30})-[0-9]{1,30}/([0-9]{1,30}|\*)", headers.get("Content-Range", "")
        )
        if served is None or int(served[1]) != start:
            part.unlink(missing_ok=True)
            raise _Broken("it gives another range than was asked for")
        total = int(served[2]) if served[2] != "*" else None if total is None else start + total
    else:
        start = 0
    if total is not None and total > 2 * archive.size:
        raise _Refused(f"it announces {total} bytes, where {archive.title} has about {_bytes(archive.size)}")
    return start, total


def _never_through_a_link(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


def _say(say: Say, line: str) -> None:
    if say is not None:
        say(line)


def _shown(address: str) -> str:
    """An address without what may be secret in it: user, password, query; escape sequences made visible."""
    return re.sub(r"//[^/@]*@", "//", address.split("?")[0]).encode("unicode_escape").decode()


def _bytes(n: int) -> str:
    return f"{n / 1e9:.1f} GB" if n >= 1e9 else f"{n / 1e6:.0f} MB"


def _size(path: Path) -> int:
    """Bytes of our own file; what is no plain file in its place is refused."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return 0
    if not stat.S_ISREG(found.st_mode):
        raise VoclabError(f"{path} is not a plain file; remove it and fetch again.")
    return found.st_size


def _is(path: Path, md5: str) -> bool:
    return _size(path) > 0 and _md5(path) == md5


def _md5(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except OSError as error:
        raise VoclabError(
            f"{path} cannot be read ({error.strerror or error}); check file and disk."
        ) from error
