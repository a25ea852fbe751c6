"""Which files a folder holds, what their names mean, and a count of what is left out."""

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from voclab.data.base import refusal
from voclab.data.decoding import UNREAD_SUFFIXES, has_more_frames, is_image_file
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


@dataclass
class LeftOut:
    """What a reader did not take, for its sentence.

    Attributes:
        files: files that are no images that can be read, counted by suffix.
        hidden: hidden or system files and folders; what is in the folders is not counted.
        links: links to folders (they may lead round in circles) and links that lead nowhere.
        more: further phrases.
    """

    files: Counter = field(default_factory=Counter)
    hidden: int = 0
    links: int = 0
    more: list[str] = field(default_factory=list)

    def add(self, other: "LeftOut") -> None:
        self.files += other.files
        self.hidden += other.hidden
        self.links += other.links
        self.more += other.more

    def sentence(self) -> str:
        """``"; left out: 3 files that are no readable images (.txt)"``, or nothing."""
        told = list(self.more)
        if self.files:
            kinds = some(sorted(self.files), 5)
            told.append(f"{counted(self.files.total(), 'file')} that cannot be read as an image ({kinds})")
        if self.hidden:
            files = "hidden or system file or folder", "hidden or system files or folders"
            told.append(counted(self.hidden, *files))
        if self.links:
            told.append(
                counted(self.links, "link to a folder or to nothing", "links to folders or to nothing")
            )
        return f"; left out: {', '.join(told)}" if told else ""


@dataclass(frozen=True)
class Listing:
    """Images, sorted, and what else there is."""

    images: tuple[Path, ...]
    left_out: LeftOut

    @property
    def unread(self) -> list[str]:
        """The suffixes of images that are not read."""
        return sorted(self.left_out.files.keys() & set(UNREAD_SUFFIXES))


def counted(n: int, one: str, several: str | None = None) -> str:
    """``"1 file"``, ``"2 files"``."""
    return f"{n} {one if n == 1 else several or one + 's'}"


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


def files(folder: Path, suffixes: Sequence[str], deep: bool = True, twins: bool = False) -> dict[str, Path]:
    """Files by their name without suffix (in sub-folders with these), in one form of Unicode.

    Raises:
        VoclabError: two files of a name, as nobody knows which of them is meant (``twins``: one is taken).
    """
    found: dict[str, Path] = {}
    for where, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not is_litter(name)) if deep else []
        inside = os.path.relpath(where, folder).replace(os.sep, "/") + "/"
        for name in sorted(names):
            stem, suffix = os.path.splitext(name)
            if suffix.lower() not in suffixes or is_litter(name):
                continue
            file, key = Path(where, name), nfc(inside.removeprefix("./") + stem)
            if (other := found.setdefault(key, file)) is not file and not twins:
                raise refusal(file, f"and {other.name} are two files of one name", "remove one")
    return found


def list_images(folder: Path, deep: bool = True) -> Listing:
    """The images of a folder, with those of its sub-folders if ``deep``; links to folders are not followed.

    Raises:
        VoclabError: a folder cannot be listed.
    """
    images, left_out = [], LeftOut()

    def unlisted(error: OSError):
        raise _unlisted(error.filename, error) from error

    for place, folders, names in os.walk(folder, onerror=unlisted):
        visible = [name for name in folders if not is_litter(name)]
        real = [name for name in visible if not os.path.islink(os.path.join(place, name))]
        left_out.hidden += len(folders) - len(visible)
        left_out.links += len(visible) - len(real)
        for name in names:
            path = os.path.join(place, name)
            if is_litter(name):
                left_out.hidden += 1
            elif is_image_file(path):
                images.append(Path(path))
            elif not os.path.exists(path):
                left_out.links += 1
            else:
                left_out.files[os.path.splitext(shown(name))[1].lower() or "no suffix"] += 1
        folders[:] = real if deep else []
    return Listing(tuple(sorted(images)), left_out)


def frames_sentence(images: Sequence[Path]) -> str:
    """``"; only the first frame of 2 animations or files with more"``, or nothing."""
    many = sum(map(has_more_frames, images))
    kinds = counted(many, "animation or file", "animations or files")
    return f"; only the first frame of {kinds} with more" if many else ""


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
