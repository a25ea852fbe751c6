"""Gets the real data: official archives and a competition's files, by downloads that resume."""

import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

from voclab.data.archives import extract_tar, extract_zip
from voclab.data.cifar10 import BATCHES, BINARY
from voclab.data.competition import TRAIN_CSV
from voclab.data.download import Say, checksum_is, download, require_addresses, size
from voclab.errors import VoclabError
from voclab.files import locked, make_folder, writing_error
from voclab.terminal import tell


class NoAddressAnswers(VoclabError):
    """No address gives the archive: nothing that is wrong here."""


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
        NoAddressAnswers: no address gives the archive.
        VoclabError: a wrong archive or an incomplete tree in the way, too
            little space, another download into ``base``, a folder that cannot be written.
    """
    return _fetch(replace(VOC2009, addresses=tuple(addresses), md5=md5), Path(base), say)


def cifar10(
    base: str | Path,
    say: Say = tell,
    addresses: Sequence[str] = CIFAR10.addresses,
    md5: str = CIFAR10.md5,
) -> Path:
    """Download and unpack the official binary CIFAR-10; returns ``base/cifar-10-batches-bin``.

    As :func:`voc2009` in everything.
    """
    return _fetch(replace(CIFAR10, addresses=tuple(addresses), md5=md5), Path(base), say)


def competition(slug: str, base: str | Path, say: Say = tell) -> Path:
    """Download and unpack a competition's data with the kaggle client; returns ``base/<slug>``.

    A competition that is there already is left alone. An interrupted download is taken up again.

    Raises:
        VoclabError: no credentials, rules not accepted, no network, a hostile or damaged archive, another
            download into ``base``, a folder that cannot be written.
    """
    import requests

    from voclab.kaggle import client as kaggle_client

    address = kaggle_client.check_competition(slug)
    base, target = Path(base), Path(base) / slug
    staging = base / f".download-{slug}"
    # Not below a hidden folder: a killed process leaves half an archive in one.
    if any(target.glob(f"train/{TRAIN_CSV}")) or any(target.glob(f"[!.]*/train/{TRAIN_CSV}")):
        shutil.rmtree(staging, ignore_errors=True)  # of a process killed just before its end
        return _already(target, say)
    api = kaggle_client.kaggle_api()
    with _alone(base):
        archive = staging / f"{slug}.zip"
        _refuse_links(staging, archive, target)
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
        extract_zip(archive, target)
        shutil.rmtree(staging)
    return target


def _fetch(archive: Archive, base: Path, say: Say) -> Path:
    tree, brought = base / archive.tree, base / archive.file
    part = base / f"{archive.file}.voclab-part"
    if tree.is_dir() and archive.gap(tree) is None:
        part.unlink(missing_ok=True)  # of a process killed just before its end
        return _already(tree, say)
    with _alone(base):
        if os.path.lexists(tree):
            missing = f" ({archive.gap(tree)} is missing)" if tree.is_dir() else ""
            raise VoclabError(f"{tree} is in the way but incomplete{missing}; move it away and fetch again.")
        _refuse_links(*(parent for parent in tree.parents if base in parent.parents))
        if os.path.lexists(brought):
            if not checksum_is(brought, archive.md5):
                raise VoclabError(
                    f"{brought} is not the official archive, or not all of it (its MD5 is not {archive.md5}),"
                    " and was left as it is; replace it, or move it away and fetch again to download it."
                )
            extract_tar(brought, base)
        else:
            _download(archive, part, say)
            extract_tar(part, base)
            part.unlink(missing_ok=True)
        if not tree.is_dir() or archive.gap(tree):
            lacks = archive.gap(tree) if tree.is_dir() else archive.tree
            raise VoclabError(f"{archive.file} gave no {lacks}; use the official archive of {archive.title}.")
    return tree


def _already(tree: Path, say: Say) -> Path:
    if say:
        say(f"{tree} is already there; nothing was downloaded.")
    return tree


def _alone(base: Path) -> AbstractContextManager[None]:
    """Keep other downloads out of a folder."""
    return locked(base / ".fetching.lock", f"{base} (for a download)")


def _refuse_links(*paths: Path) -> None:
    """What we are going to write to must not lead elsewhere."""
    for path in paths:
        if path.is_symlink():
            raise VoclabError(f"{path} is a link, which is not followed; remove it and fetch again.")


def _download(archive: Archive, part: Path, say: Say) -> None:
    """Say how much it is, look whether there is space for it, download it."""
    there, base = size(part), part.parent
    require_addresses(archive.addresses, base / archive.file)
    left = max(0, archive.size - there)
    if say:
        known = f" ({_bytes(there)} of it are there)" if there else ""
        unpacked = f"{_bytes(archive.size)} unpacked"
        say(f"{archive.title}: about {_bytes(left)} to download into {base}{known}, {unpacked}.")
    free = shutil.disk_usage(base).free
    if free < left + archive.size:
        raise VoclabError(
            f"{archive.title} needs about {_bytes(left + archive.size)} in {base}, where {_bytes(free)} are"
            " free; free some space or name a folder on another disk."
        )
    failed = download(part, archive.addresses, archive.md5, 2 * archive.size, say)
    if failed:
        raise NoAddressAnswers(
            f"{archive.title} could not be downloaded ({failed}); check the network and fetch again to go on,"
            " name another address with --url, or download it in a browser and put it at"
            f" {base / archive.file}."
        )


def _bytes(n: int) -> str:
    return f"{n / 1e9:.1f} GB" if n >= 1e9 else f"{n / 1e6:.0f} MB"
