"""Reads label maps: which colour or value of a mask is which class, as other tools write it down.

Known are CVAT's and Datumaro's ``labelmap.txt`` (``name:r,g,b:parts:actions``), labelme's
``class_names.txt``, Roboflow's ``_classes.csv``, Supervisely's ``meta.json``,
``obj_class_to_machine_color.json`` and ``colors.txt``, and the plain lists that people write.
"""

import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from voclab.data.base import VOC_CLASSES, VOID, refusal, voc_palette
from voclab.data.decoding import SUFFIXES, read_bytes

# In this order: what has colours or values comes before lists of names.
FILES = (
    "labelmap.txt", "label_map.txt", "obj_class_to_machine_color.json", "dataset_meta.json", "meta.json",
    "_classes.csv", "class_dict.csv", "classes.csv", "labels.csv", "colors.txt", "label_colors.txt",
    "colormap.txt", "class_names.txt", "classes.txt", "labels.txt", "label_names.txt", "names.txt",
    "classes.json", "labels.json", "id2label.json", "label_map.json", "labelmap.json", "class_names.json",
)  # fmt: skip
_BACKGROUND = {"background", "bg"}
_VOID = {"void", "ignore", "ignored", "unlabeled", "unlabelled"}
VOID_COLOUR = tuple(int(c) for c in voc_palette()[VOID])
MAX_CLASSES = VOID - 1

_NUMBER = r"\s*\d{1,3}\s*"
_TRIPLE = rf"(?P<rgb>{_NUMBER}[,;\s]{_NUMBER}[,;\s]{_NUMBER})"
_COLONS = re.compile(rf"(?P<name>.+?):{_TRIPLE}(:[^:]*){{0,2}}")  # CVAT, Datumaro
_COLOURLESS = re.compile(r"(?P<name>[^:]+):(:[^:]*){1,2}")  # the same without a colour
_LINES = tuple(
    re.compile(pattern)
    for pattern in (
        rf"{_TRIPLE}[,;:\s]\s*(?P<name>.*\D.*)",  # CamVid
        rf"(?P<value>\d{{1,5}})\s*[,;\t]\s*(?P<name>.*\D.*?)\s*[,;\t]{_TRIPLE}",
        rf"(?P<name>.*\D.*?)\s*[,;\t]\s*(?P<value>\d{{1,5}})\s*[,;\t]{_TRIPLE}",
        rf"(?P<name>.*\D.*?)[,;:\s]{_TRIPLE}",  # Supervisely, class_dict.csv
        r"(?P<value>\d{1,5})\s*[,;:\s]\s*(?P<name>.*\D.*)",  # Roboflow
        r"(?P<name>.*\D.*?)\s*[,;:]\s*(?P<value>\d{1,5})",
    )
)


@dataclass(frozen=True)
class Entry:
    """A line of a label map."""

    name: str
    colour: tuple[int, int, int] | None = None
    value: int | None = None

    @property
    def plain(self) -> str:
        """The name without case and the underscores that labelme puts round names with a meaning."""
        return self.name.strip("_").casefold()

    @property
    def background(self) -> bool:
        return self.plain in _BACKGROUND

    @property
    def void(self) -> bool:
        return self.plain in _VOID or (self.plain == "neutral" and self.colour == VOID_COLOUR)


@dataclass(frozen=True)
class LabelMap:
    """The entries of a label map, in its order, and where they were read."""

    path: Path
    entries: tuple[Entry, ...]

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes: neither background nor void."""
        return tuple(e.name for e in self.entries if not (e.background or e.void))

    @property
    def is_voc(self) -> bool:
        """Whether the classes are VOC's, in VOC's colours or, without colours, in VOC's order."""
        index = {name: k + 1 for k, name in enumerate(VOC_CLASSES)}
        mine = [e for e in self.entries if not (e.background or e.void)]
        if all(e.colour is None for e in mine):
            numbers = [(e.name.casefold(), e.value or k) for k, e in enumerate(mine, 1)]
            return numbers == list(index.items())
        palette = voc_palette()
        return all(
            e.name.casefold() in index and e.colour == tuple(palette[index[e.name.casefold()]].tolist())
            for e in mine
        )


def find(folders: Iterable[Path]) -> LabelMap | None:
    """The first label map in these folders, looked through one after the other.

    Raises:
        VoclabError: it is damaged, names a class or a colour twice, or has too many classes.
    """
    for folder in folders:
        there = {entry.name.casefold(): entry for entry in folder.iterdir()} if folder.is_dir() else {}
        for name in FILES:
            entries = _entries(there[name]) if name in there and there[name].is_file() else ()
            # A table or list of files, as image,label, is no map of classes.
            if entries and not all(e.name.lower().endswith(SUFFIXES) for e in entries):
                return _checked(LabelMap(there[name], entries))
    return None


def _checked(found: LabelMap) -> LabelMap:
    path = found.path
    if not found.class_names:
        raise refusal(path, "names no class beside background", "add one a line")
    if (n := len(found.class_names)) > MAX_CLASSES:
        held = f"names {n} classes, more than the {MAX_CLASSES} that a mask of 8 bits can hold"
        raise refusal(path, held, "leave some out")
    seen: dict = {}
    for entry in found.entries:
        for what, key in (("name", entry.name), ("colour", entry.colour), ("value", entry.value)):
            if key is not None and seen.setdefault((what, key), entry) is not entry:
                both = f"for {seen[what, key].name!r} and {entry.name!r}"
                raise refusal(path, f"has the {what} {key} twice, {both}", "correct the file")
    return found


def _entries(path: Path) -> tuple[Entry, ...]:
    text = read_text(path)
    if path.suffix.lower() != ".json":
        return _from_lines(path, text)
    try:
        return tuple(_from_json(path.name.lower(), json.loads(text)))
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError) as error:
        raise refusal(path, f"is no readable label map ({error})") from error


def read_text(path: str | os.PathLike) -> str:
    """A text file: UTF-8 with or without a mark, or UTF-16 with one.

    Raises:
        VoclabError: missing, unreadable or in another encoding.
    """
    try:
        data = read_bytes(path)
        return data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise refusal(path, f"is not a text of UTF-8 ({error.reason})", "save it as UTF-8") from error


def _from_lines(path: Path, text: str) -> tuple[Entry, ...]:
    text = text.replace('"', "") if path.suffix.lower() == ".csv" else text
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    if any(len(line) > 300 for line in lines):
        return ()  # no list of classes
    with_colons = [_COLONS.fullmatch(line) or _COLOURLESS.fullmatch(line) for line in lines]
    if any(with_colons):
        if None in with_colons:
            wrong = lines[with_colons.index(None)]
            raise refusal(path, f"has the line {wrong!r}, not name:r,g,b:parts:actions", "correct it")
        return tuple(_entry(path, match.groupdict()) for match in with_colons)
    # A table may have a header: it is what does not look like the other lines.
    for skip in (0, 1):
        body = lines[skip:]
        for pattern in _LINES:
            matches = [pattern.fullmatch(line) for line in body]
            if body and all(matches):
                return tuple(_entry(path, match.groupdict()) for match in matches)
    if any(re.search(r"\d+[\s,;]+\d+[\s,;]+\d+", line) for line in lines):
        raise refusal(path, "has lines of different forms", "write name:r,g,b in each")
    if path.suffix.lower() == ".csv" and any("," in line for line in lines):
        return ()  # some other table
    return tuple(_entry(path, {"name": line}) for line in lines)


def _entry(path: Path, parts: dict) -> Entry:
    colour = tuple(int(n) for n in re.findall(r"\d+", parts["rgb"])) if parts.get("rgb") else None
    return _make(path, parts["name"].strip().strip("\"'"), colour, parts.get("value"))


def _make(path: Path | str, name: str, colour=None, value=None) -> Entry:
    if colour is not None:
        colour = tuple(int(c) for c in colour)
        if len(colour) != 3 or not all(0 <= c <= 255 for c in colour):
            raise refusal(path, f"gives {name!r} the colour {colour}, not three of 0–255", "correct it")
    return Entry(str(name), colour, None if value is None else int(value))


def _from_json(name: str, content) -> Iterable[Entry]:
    if not isinstance(content, dict):
        yield from (Entry(str(item)) for item in content)
    elif isinstance(content.get("label_map"), dict):  # Datumaro
        colours = content.get("segmentation_colors") or []
        for number, title in sorted((int(k), v) for k, v in content["label_map"].items()):
            yield _make(name, title, colours[number] if number < len(colours) else None, number)
    elif "classes" in content:
        for item in content["classes"]:
            if isinstance(item, str):
                yield Entry(item)
            else:  # Supervisely
                colour = item.get("color")
                colour = bytes.fromhex(colour.lstrip("#")) if isinstance(colour, str) else colour
                yield _make(name, item["title"] if "title" in item else item["name"], colour)
    elif name != "meta.json":  # that would be another tool's
        for key, value in content.items():
            if isinstance(value, list):
                yield _make(name, key, value)
            elif isinstance(value, str):
                yield _make(name, value, None, int(key))
            else:
                yield _make(name, key, None, int(value))
