"""Which files a folder holds, and what their names mean."""

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from voclab.data.base import refusal
from voclab.data.decoding import is_image_file
from voclab.errors import VoclabError

# Words in the name of a folder or list that say which split it holds: Train, training_set, testset …
SPLIT_WORDS = {
    "train": {"train", "training", "trn"},
    "val": {"val", "valid", "validation", "dev", "eval", "evaluation"},
    "test": {"test", "testing", "tst", "holdout", "heldout"},
}
PARTS = {word: split for split, words in SPLIT_WORDS.items() for word in words}
# What systems and programs leave in people's folders, besides names that begin with a dot.
_LITTER = {
    "__macosx", "__pycache__", "$recycle.bin", "recycler", "system volume information", "lost+found",
    "thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "icon\r", "#recycle", "#snapshot",
    "@eadir", "@recycle", "@recently-snapshot", "@tmp",
}  # fmt: skip


class Listing(NamedTuple):
    """Images, sorted, and how many other files there are of each suffix."""

    images: tuple[Path, ...]
    others: Counter


def counted(n: int, noun: str) -> str:
    """``"1 file"``, ``"2 files"``."""
    return f"{n} {noun}{'' if n == 1 else 's'}"


def some(names: Sequence[str], n: int) -> str:
    """The first ``n`` of these names, with ``…`` where there are more."""
    return ", ".join(names[:n]) + (", …" if len(names) > n else "")


def shown(path: str | os.PathLike) -> str:
    """A path as text: bytes of its name that are no UTF-8 are escaped, so that it can be written anywhere."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def nfc(name: str) -> str:
    """One form of a name: macOS writes ü as two characters, most others as one."""
    return unicodedata.normalize("NFC", name)


def is_litter(name: str) -> bool:
    """Whether a file or folder is hidden or a system's."""
    return name.startswith(".") or name.casefold() in _LITTER


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder, by name, but hidden ones and links to a folder that holds it.

    Raises:
        VoclabError: it cannot be listed.
    """
    here = folder.resolve()
    around = {here, *here.parents}
    try:
        with os.scandir(folder) as entries:
            found = sorted(Path(e.path) for e in entries if not is_litter(e.name) and e.is_dir())
    except OSError as error:
        raise _unlisted(folder, error) from error
    return [inside for inside in found if not inside.is_symlink() or inside.resolve() not in around]


def _unlisted(folder: str | os.PathLike, error: OSError) -> VoclabError:
    return refusal(folder, f"cannot be listed ({error.strerror})", "check that it is a folder you may read")


def walk(folder: str | os.PathLike, deep: bool = True) -> Iterator[tuple[str, str]]:
    """(place, name) of the files in a folder and, if ``deep``, in its sub-folders, but hidden ones.

    Links to folders are not followed, for they may lead round in circles, and come as if they were files.

    Raises:
        VoclabError: a folder cannot be listed.
    """

    def unlisted(error: OSError):
        raise _unlisted(error.filename, error) from error

    for place, folders, names in os.walk(os.fspath(folder), onerror=unlisted):
        folders[:] = sorted(name for name in folders if deep and not is_litter(name))
        links = [name for name in folders if os.path.islink(os.path.join(place, name))]
        yield from ((place, name) for name in sorted(names + links) if not is_litter(name))


def files(folder: Path, suffixes: Sequence[str], deep: bool = True, twins: bool = False) -> dict[str, Path]:
    """Files by their name without suffix (in sub-folders with these), in one form of Unicode.

    Raises:
        VoclabError: two files of a name, as nobody knows which of them is meant (``twins``: one is taken).
    """
    found: dict[str, Path] = {}
    for place, name in walk(folder, deep) if folder.is_dir() else ():
        stem, suffix = os.path.splitext(name)
        if suffix.lower() not in suffixes:
            continue
        inside = os.path.relpath(place, folder).replace(os.sep, "/") + "/"
        file, key = Path(place, name), nfc(inside.removeprefix("./") + stem)
        if (other := found.setdefault(key, file)) is not file and not twins:
            raise refusal(file, f"and {other.name} are two files of one name", "remove one")
    return found


def list_images(folder: Path, deep: bool = True) -> Listing:
    """The images of a folder, with those of its sub-folders if ``deep``; see :func:`walk`."""
    images, others = [], Counter()
    for place, name in walk(folder, deep):
        path = Path(place, name)
        if is_image_file(path):
            images.append(path)
        else:
            suffix = os.path.splitext(shown(name))[1].lower()
            others["link" if path.is_symlink() else suffix or "no suffix"] += 1
    return Listing(tuple(sorted(images)), others)


def part_named(split: str, names: Iterable[str]) -> str | None:
    """Which of ``names`` (lists, folders) is the split: itself, another word for it, or for ``val`` the test.

    Raises:
        VoclabError: two names mean it.
    """
    names = list(names)
    if split in names:
        return split
    for wanted in (split, "test") if split == "val" else (split,):
        found = [name for name in names if PARTS.get(name.casefold()) == wanted]
        if len(found) > 1:
            raise refusal(" and ".join(found), f"both mean {wanted}", "rename or remove one")
        if found:
            return found[0]
    return None
