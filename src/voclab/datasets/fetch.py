"""Gets the real data: the official archive and the competition, by downloads that resume."""

import hashlib
import os
import re
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

from voclab.datasets import cifar10, vocdevkit
from voclab.datasets.archives import extract_tar, extract_zip
from voclab.datasets.kaggle import TRAIN_CSV
from voclab.errors import VoclabError
from voclab.files import make_folder, writing_error

VOC2009_ARCHIVE = "VOCtrainval_11-May-2009.tar"
VOC2009_URL = f"http://host.robots.ox.ac.uk/pascal/VOC/voc2009/{VOC2009_ARCHIVE}"
VOC2009_MD5 = "59065e4b189728180974ef6572f6a212"
CIFAR10_ARCHIVE = "cifar-10-binary.tar.gz"
CIFAR10_URL = f"https://www.cs.toronto.edu/~kriz/{CIFAR10_ARCHIVE}"
CIFAR10_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
CHUNK = 2**14  # bytes; what has arrived of a piece is lost when the connection breaks


def fetch_voc2009(
    root: str | Path, url: str = VOC2009_URL, md5: str = VOC2009_MD5, progress: bool = True
) -> Path:
    """Download and extract the official PASCAL VOC 2009 archive; returns ``root/VOCdevkit/VOC2009``.

    A tree that is there already is left alone. An archive that somebody put into ``root`` is used
    instead of the network, after its checksum was compared, and is kept; a downloaded one is removed
    once it is extracted.

    Raises:
        VoclabError: no network, wrong checksum, a hostile archive, a folder that cannot be written, an
            incomplete tree in the way.
    """
    tree = Path(root) / "VOCdevkit" / "VOC2009"
    return _fetch_tar(tree, Path(root) / VOC2009_ARCHIVE, url, md5, vocdevkit.has_tree, progress)


def fetch_cifar10(
    root: str | Path, url: str = CIFAR10_URL, md5: str = CIFAR10_MD5, progress: bool = True
) -> Path:
    """Download and extract the official binary CIFAR-10; returns ``root/cifar-10-batches-bin``.

    As :func:`fetch_voc2009` in everything.
    """

    def complete(tree: Path) -> bool:
        return all((tree / f"{name}.bin").is_file() for name in cifar10.BATCHES)

    tree = Path(root) / cifar10.BINARY
    return _fetch_tar(tree, Path(root) / CIFAR10_ARCHIVE, url, md5, complete, progress)


def _fetch_tar(
    tree: Path, archive: Path, url: str, md5: str, complete: Callable[[Path], bool], progress: bool
) -> Path:
    if tree.exists():
        if complete(tree):
            if progress:
                print(f"{tree} is already there; nothing was downloaded.", file=sys.stderr)
            return tree
        raise VoclabError(f"{tree} is in the way but incomplete; move it away and fetch again.")
    brought = archive.exists()
    download(url, archive, md5, progress)
    extract_tar(archive, archive.parent)
    if not complete(tree):
        raise VoclabError(
            f"{archive} holds no {tree.relative_to(archive.parent)}, or not all of it; use the official"
            f" archive from {url}."
        )
    if not brought:
        archive.unlink()
    return tree


def fetch_kaggle(competition: str, root: str | Path, progress: bool = True) -> Path:
    """Download and extract a competition's data with the kaggle client; returns ``root/<competition>``.

    A competition that is there already is left alone. An interrupted download is taken up again.

    Raises:
        VoclabError: no credentials, rules not accepted, no network, a hostile archive, a folder that
            cannot be written.
    """
    import requests

    from voclab import kaggle_client

    address = kaggle_client.check_competition(competition)
    target = Path(root) / competition
    if any(target.glob(f"**/train/{TRAIN_CSV}")):
        if progress:
            print(f"{target} is already there; nothing was downloaded.", file=sys.stderr)
        return target
    api = kaggle_client.kaggle_api()
    staging = make_folder(Path(root) / f".download-{competition}")
    try:
        api.competition_download_files(competition, path=str(staging), quiet=not progress)
    except requests.HTTPError as error:
        raise kaggle_client.refusal(error, competition) from error
    except (requests.RequestException, ValueError) as error:  # ValueError: the client got too few bytes
        raise VoclabError(
            f"{address} could not be downloaded ({_reason(error)}); check the network and fetch again, or"
            f" download it in a browser and extract it into {target}."
        ) from error
    except OSError as error:
        raise writing_error(staging, error) from error
    extract_zip(staging / f"{competition}.zip", target)
    shutil.rmtree(staging)
    return target


def download(
    url: str,
    path: str | Path,
    md5: str | None = None,
    progress: bool = True,
    attempts: int = 5,
    wait: float = 1.0,
) -> Path:
    """Download ``url`` to ``path``, which appears only when it is whole and its checksum is right.

    The bytes gather in ``path`` + ``.part``. A broken connection is taken up where it broke (HTTP range
    request, guarded by the file's tag); so is the part that an earlier process left, where an MD5 will
    tell in the end whether the two fit. A server that ignores ranges is read from the start.

    Args:
        url: http or https.
        path: the file to write.
        md5: its checksum, 32 hexadecimal digits.
        progress: show a bar.
        attempts: failures in a row, without a new byte, after which to give up.
        wait: seconds before the second attempt; doubled before each further one.

    Returns:
        ``path``.

    Raises:
        VoclabError: names the URL or the file and what to do.
    """
    import requests

    path = Path(path)
    part = path.with_name(path.name + ".part")
    make_folder(path.parent)
    if path.exists():
        if md5 is None or _md5(path) == md5:
            return path
        aside = path.with_name(path.name + ".wrong")
        _rename(path, aside)
        raise VoclabError(f"{path} has a wrong checksum and is now {aside.name}; fetch again.")
    if md5 is None:
        part.unlink(missing_ok=True)
    failures, furthest, tag = 0, _size(part), None
    while True:
        try:
            tag = _receive(requests, url, part, tag, progress)
            break
        except _Refused as refusal:
            raise VoclabError(
                f"{url} could not be downloaded ({refusal}); check the address, or download it in a browser"
                f" and put it at {path}."
            ) from refusal
        except (requests.RequestException, _Broken) as error:
            tag = getattr(error, "tag", tag)
            failures = 1 if _size(part) > furthest else failures + 1
            furthest = max(furthest, _size(part))
            if failures >= attempts:
                raise VoclabError(
                    f"{url} could not be downloaded ({_reason(error)}); check the network and fetch again to"
                    f" go on, or download it in a browser and put it at {path}."
                ) from error
            time.sleep(wait * 2 ** (failures - 1))
        except OSError as error:
            raise writing_error(part, error) from error
    if md5 is not None and _md5(part) != md5:
        part.unlink()
        raise VoclabError(f"{url} came with a wrong checksum and was removed; fetch again, or elsewhere.")
    _rename(part, path)
    return path


def _rename(source: Path, target: Path) -> None:
    try:
        os.replace(source, target)
    except OSError as error:
        raise writing_error(target, error) from error


class _Refused(Exception):
    """The server's answer will not get better by asking again."""


class _Broken(Exception):
    """The connection ended early; ``tag`` identifies the version whose bytes arrived."""

    def __init__(self, message: str, tag: str | None):
        super().__init__(message)
        self.tag = tag


def _receive(requests, url: str, part: Path, tag: str | None, progress: bool) -> str | None:
    """Append what is missing of ``url`` to ``part``; returns the version's tag."""
    from tqdm import tqdm

    start = _size(part)
    headers = {"Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
        if tag:
            headers["If-Range"] = tag
    try:
        response = requests.get(url, headers=headers, stream=True, timeout=(20, 60))
    except ValueError as error:  # what requests raises for a malformed or foreign address, besides its own
        raise _Refused(f"not an http address: {error}") from error
    with response:
        status = response.status_code
        if status == 416:  # the part is as long as the file, or longer: the checksum or a new start will tell
            if response.headers.get("Content-Range") == f"bytes */{start}":
                return tag
            part.unlink(missing_ok=True)
            raise _Broken("the part left by an earlier download was of another file", None)
        if 400 <= status < 500 and status not in (408, 429):
            raise _Refused(f"the server answered {status} {response.reason}")
        if status not in (200, 206):
            raise _Broken(f"the server answered {status} {response.reason}", tag)
        total = int(response.headers["Content-Length"]) if "Content-Length" in response.headers else None
        if status == 206:
            served = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
            if served is None or int(served[1]) != start:
                part.unlink(missing_ok=True)
                raise _Broken("the server sent another range than was asked for", None)
            total = None if total is None else start + total
        else:
            start = 0
        # A weak tag (W/"...") must not guard a range (RFC 9110, 13.1.5).
        etag = response.headers.get("ETag", "")
        tag = etag if etag.startswith('"') else response.headers.get("Last-Modified")
        bar = tqdm(
            desc=part.stem, total=total, initial=start, unit="B", unit_scale=True, disable=not progress
        )
        try:
            with bar, open(part, "ab" if start else "wb") as file:
                for chunk in response.iter_content(CHUNK):
                    file.write(chunk)
                    bar.update(len(chunk))
        except requests.RequestException as error:
            raise _Broken(_reason(error), tag) from error
    if total is not None and _size(part) != total:
        raise _Broken(f"{_size(part)} of {total} bytes arrived", tag)
    return tag


def _reason(error: Exception) -> str:
    from voclab.kaggle_client import reason

    return str(error) if isinstance(error, _Broken) else reason(error)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _md5(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
