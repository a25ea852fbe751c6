"""Gets the real data: official archives, by downloads that resume."""

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from voclab.data.archives import unpack
from voclab.data.cifar10 import BINARY
from voclab.data.download import checksum_is, download, size
from voclab.errors import VoclabError
from voclab.files import locked
from voclab.terminal import tell


class NoAddressAnswers(VoclabError):
    """No address gives the archive: nothing that is wrong here."""


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
    """

    title: str
    file: str
    tree: str
    size: int
    md5: str
    addresses: tuple[str, ...]


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
)
CIFAR10 = Archive(
    "CIFAR-10",
    "cifar-10-binary.tar.gz",
    BINARY,
    170_052_171,
    "c32a1d4ab5d03f1284b67883e8d87530",
    ("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",),
)
ARCHIVES = {"voc2009": VOC2009, "cifar10": CIFAR10}


def fetch(
    archive: Archive, base: str | Path, say: Callable[[str], None] | None = tell, mirrors: Sequence[str] = ()
) -> Path:
    """Download and unpack an official archive; returns its tree in ``base``.

    A tree that is there already is left alone. An archive that somebody put into ``base`` is used instead of
    the network if its checksum is right, and never changed. What is downloaded gathers in a file of our own
    beside it (``.voclab-part``), from which a later call goes on, and which is removed once it is unpacked.
    One process at a time downloads into a folder.

    Args:
        archive: ``VOC2009`` or ``CIFAR10``.
        base: the data folder; made if it is not there.
        say: takes what the user should know, a line each: the size first, then every address that fails.
            A progress bar with the time left goes to standard error. ``None``: neither.
        mirrors: more addresses, http or https, tried after the official ones.

    Raises:
        NoAddressAnswers: no address gives the archive.
        VoclabError: a wrong archive in the way, too little space, another download into ``base``, a folder
            that cannot be written.
    """
    base, progress, say = Path(base), say is not None, say or (lambda line: None)
    tree, brought = base / archive.tree, base / archive.file
    part = base / f"{archive.file}.voclab-part"
    if tree.is_dir():
        part.unlink(missing_ok=True)  # of a process killed just before its end
        say(f"{tree} is already there; nothing was downloaded. To fetch it again, move it away.")
        return tree
    addresses = (*archive.addresses, *mirrors)
    hosts = [_host(address) for address in addresses]
    with locked(base / ".fetching.lock", f"{base} (for a download)"):
        if os.path.lexists(brought):
            if not checksum_is(brought, archive.md5):
                raise VoclabError(
                    f"{brought} is not the official archive, or not all of it (its MD5 is not {archive.md5}),"
                    " and was left as it is; replace it, or move it away and fetch again to download it."
                )
            unpack(brought, tree, archive.tree)
            return tree
        if not checksum_is(part, archive.md5):
            _require_space(archive, part, say)
            failed = []
            for host, address in zip(hosts, addresses):
                if failed:
                    say(f"{failed[-1]}; trying the next address.")
                why = download(address, part, archive.md5, 2 * archive.size, progress)
                if not why:
                    break
                failed.append(f"{host}: {why}")
            else:
                raise NoAddressAnswers(
                    f"{archive.title} could not be downloaded ({'; '.join(failed)}); check the network and"
                    f" fetch again to go on, name another address with --url, or put it at {brought}."
                )
        unpack(part, tree, archive.tree)
        part.unlink()
    return tree


def _host(address: str) -> str:
    """What can be shown of an address, which may hold a password or a token."""
    try:
        parts = urlsplit(address)
        if parts.scheme in ("http", "https") and parts.hostname:
            return parts.hostname
    except ValueError:
        pass
    raise VoclabError("An address is not http; name one that begins with http:// or https:// and a host.")


def _require_space(archive: Archive, part: Path, say: Callable[[str], None]) -> None:
    """Say how much there is to download, and raise if there is no space for it."""
    there, base = size(part), part.parent
    left = max(0, archive.size - there)
    known = f" ({_bytes(there)} of it are there)" if there else ""
    say(
        f"{archive.title}: about {_bytes(left)} to download into {base}{known},"
        f" {_bytes(archive.size)} unpacked."
    )
    free = shutil.disk_usage(base).free
    if free < left + archive.size:
        raise VoclabError(
            f"{archive.title} needs about {_bytes(left + archive.size)} in {base}, where {_bytes(free)} are"
            " free; free some space or name a folder on another disk."
        )


def _bytes(n: int) -> str:
    return f"{n / 1e9:.1f} GB" if n >= 1e9 else f"{n / 1e6:.0f} MB"
