"""Which files of a folder are images, and a count of what is left out."""

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from voclab.data.decoding import UNREAD_SUFFIXES, has_more_frames, is_image_file
from voclab.errors import VoclabError

# Words in the name of a folder that say which split it holds: Train, training_set, seg_train, testset …
SPLIT_WORDS = {
    "train": {"train", "training", "trn"},
    "val": {"val", "valid", "validation", "dev", "eval", "evaluation"},
    "test": {"test", "testing", "tst", "holdout", "heldout"},
}
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
            kinds = ", ".join(sorted(self.files)[:5]) + (", …" if len(self.files) > 5 else "")
            told.append(f"{counted(self.files.total(), 'file')} that cannot be read as an image ({kinds})")
        if self.hidden:
            told.append(
                counted(self.hidden, "hidden or system file or folder", "hidden or system files or folders")
            )
        if self.links:
            told.append(
                counted(self.links, "link to a folder or to nothing", "links to folders or to nothing")
            )
        return f"; left out: {', '.join(told)}" if told else ""


@dataclass(frozen=True)
class Listing:
    """The images in a folder and below it, by path, and what else is there."""

    images: tuple[Path, ...]
    left_out: LeftOut

    @property
    def unread(self) -> list[str]:
        """Suffixes of files that are images, but of kinds that are not read."""
        return sorted(self.left_out.files.keys() & set(UNREAD_SUFFIXES))


def counted(n: int, one: str, several: str | None = None) -> str:
    """``"1 file"``, ``"2 files"``."""
    return f"{n} {one if n == 1 else several or one + 's'}"


def shown(path: str | os.PathLike) -> str:
    """A path as text: bytes of its name that are no UTF-8 are escaped, so that it can be written anywhere."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def is_litter(name: str) -> bool:
    """Whether a file or folder is hidden or a system's."""
    return name.startswith(".") or name.casefold() in _LITTER


def list_images(folder: Path, deep: bool = True) -> Listing:
    """The images of a folder, with those of its sub-folders if ``deep``; links to folders are not followed.

    Raises:
        VoclabError: a folder cannot be listed.
    """
    images, left_out = [], LeftOut()

    def unlisted(error: OSError):
        raise VoclabError(
            f"{error.filename} cannot be listed ({error.strerror}); check that it is a folder you may read."
        ) from error

    for place, folders, files in os.walk(folder, onerror=unlisted):
        visible = [name for name in folders if not is_litter(name)]
        real = [name for name in visible if not os.path.islink(os.path.join(place, name))]
        left_out.hidden += len(folders) - len(visible)
        left_out.links += len(visible) - len(real)
        for name in files:
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


def frames_sentence(images: list[Path] | tuple[Path, ...]) -> str:
    """``"; the first frame of 2 animations or files of several pages"``, or nothing."""
    many = sum(map(has_more_frames, images))
    return (
        f"; only the first frame of {counted(many, 'animation or file', 'animations or files')} with more"
        if many
        else ""
    )
