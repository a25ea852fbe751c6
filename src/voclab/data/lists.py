"""Reads the lists that say which images a split has, as the devkit and other tools write them."""

import re
from collections.abc import Collection, Sequence
from pathlib import Path

from voclab.data.base import refusal
from voclab.data.decoding import SUFFIXES
from voclab.data.labelmap import read_text
from voclab.data.listing import nfc

_IMAGES = "JPEGImages"
_FLAGS = ("-1", "0", "1", "+1")
TRAINED_ON = "for an image that was trained on must not be measured on"


def read_list(path: Path, images: Collection[str]) -> tuple[str, ...]:
    """The names on a list, as the images are called.

    A line is a name, also with spaces, with its suffix or its path; -1, 0 or 1 may follow, as in Main's
    lists of a class, or the mask's path.
    """
    shorter: dict[str, str | None] = {}
    for image in images:
        base = image.rpartition("/")[2]
        shorter[base] = image if base not in shorter else None

    def known(text: str) -> str | None:
        text = nfc(text).replace("\\", "/").lstrip("/")
        text = text.partition(f"{_IMAGES}/")[2] or text.removeprefix("./")
        bare, _, suffix = text.rpartition(".")
        for form in (text, bare if f".{suffix.lower()}" in (*SUFFIXES, ".xml") else ""):
            if form in images:
                return form
            if shorter.get(form.rpartition("/")[2]):
                return shorter[form.rpartition("/")[2]]
        return None

    def named(line: str) -> list[str]:
        words = line.split()
        if ".." in re.split(r"[/\\]", line):
            raise refusal(path, f"has the entry {line!r}, which is no image name", "correct the list")
        if line.startswith("#") and not known(line):
            return []
        quoted = re.fullmatch(r'"(.+)".*', line)  # Datumaro, of names with spaces
        bare = line[: -len(words[-1])].strip() if len(words) > 1 and words[-1] in _FLAGS else line
        for form in (quoted[1] if quoted else "", line, bare):
            if form and (image := known(form)):
                return [image]
        several = list(dict.fromkeys(map(known, words)))
        return several if None not in several else [nfc(bare)]  # it is missing, which others will say

    ids: dict[str, None] = {}
    for line in filter(None, map(str.strip, read_text(path).splitlines())):
        for image in named(line):
            if image in ids:
                raise refusal(path, f"lists {image} twice", "remove the second entry")
            ids[image] = None
    if not ids:
        raise refusal(path, "is empty", "restore the list, for a split needs at least one image name")
    return tuple(ids)


def require_apart(
    where: str | Path, other: str | Path, ids: Collection[str], others: Collection[str]
) -> None:
    """Refuse two splits that share an image."""
    if both := sorted(set(ids) & set(others)):
        what = f"and {other} both have {both[0]}{more(both)}"
        raise refusal(where, what, f"take it out of one, {TRAINED_ON}")


def more(names: Sequence[str]) -> str:
    """What follows the first of several names: ``" (and 2 more)"``, or nothing."""
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""
