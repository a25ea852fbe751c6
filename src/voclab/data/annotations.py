"""Reads VOC annotations: which objects an image shows, as labelImg, CVAT, Roboflow and VOC write them."""

import codecs
import re
import xml.etree.ElementTree as ElementTree  # only its exception; parsing goes through defusedxml
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import defusedxml
import defusedxml.ElementTree
import numpy as np

from voclab.data.base import VOC_CLASSES, refusal
from voclab.data.decoding import read_bytes

_BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_DECLARED = re.compile(rb"""^\s*<\?xml[^>]{0,200}?encoding\s*=\s*["']([\w.:-]{1,40})["']""")
_YES, _NO = {"1", "true", "yes", "y", "t"}, {"0", "false", "no", "n", "f", "", "unspecified"}
# What VOC's files have beside their objects. One without objects but with a size is an image of background.
_HEADER = {"folder", "filename", "path", "source", "owner", "size", "segmented", "database", "verified"}


@dataclass(frozen=True)
class Object:
    """One object of an annotation: its class as it is written there, and whether it is ``difficult``."""

    name: str
    difficult: bool


def read_objects(path: str | Path) -> list[Object]:
    """Every object of an annotation; body parts are not objects.

    Namespaces and the case of tags do not matter, and the file is decoded as it declares. An image of
    nothing but background, with a ``size`` and no ``object``, has none.

    Raises:
        VoclabError: the file is missing or damaged, is no VOC annotation, has entities, or an object in it
            has no name or a ``difficult`` that is neither yes nor no.
    """
    path = Path(path)
    data = read_bytes(path)
    try:
        root = defusedxml.ElementTree.fromstring(_decoded(data), forbid_dtd=True)
    except (ElementTree.ParseError, defusedxml.DefusedXmlException, LookupError, ValueError) as error:
        raise refusal(path, f"is no readable annotation ({error})", "extract the file again") from error
    found = [child for child in root if _tag(child) == "object"] if _tag(root) == "annotation" else []
    if not found:
        tags = {_tag(child) for child in root}
        if _tag(root) != "annotation" or "size" not in tags or tags - _HEADER:
            what = "has no <object> inside an <annotation>, so it says nothing about its image"
            raise refusal(path, what, "restore it or take its image out")
    return [_object(path, element) for element in found]


def _object(path: Path, element) -> Object:
    name = _text(element, "name")
    if not name:
        raise refusal(path, "has an object without a name", "correct the file")
    difficult = _text(element, "difficult").lower()
    if difficult not in _YES | _NO:
        what = f"has an object that is difficult {difficult!r}, neither 0 nor 1"
        raise refusal(path, what, "correct the file")
    return Object(name, difficult in _YES)


def _tag(element) -> str:
    """The name without its namespace, in small letters; empty for comments and instructions."""
    return element.tag.rpartition("}")[2].lower() if isinstance(element.tag, str) else ""


def _text(element, name: str) -> str:
    return next((" ".join((child.text or "").split()) for child in element if _tag(child) == name), "")


def _decoded(data: bytes) -> bytes | str:
    """Text in the encoding that a mark or the declaration names; expat itself knows only a few."""
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            return data.decode(encoding)
    declared = _DECLARED.match(data)
    return data.decode(declared[1].decode("ascii")) if declared else data


def class_names(objects: Iterable[tuple[Path, Sequence[Object]]]) -> tuple[str, ...]:
    """The classes of annotated images: VOC's twenty where they name no other, else theirs by name.

    Raises:
        VoclabError: two names differ in their case only.
    """
    names: dict[str, tuple[str, Path]] = {}
    voc = set(VOC_CLASSES)
    if {_plain(item.name) for _, found in objects for item in found} <= voc:
        return VOC_CLASSES
    for path, found in objects:
        for item in found:
            first, where = names.setdefault(item.name.casefold(), (item.name, path))
            if first != item.name and item.name.casefold() not in voc:
                what = f"has the class {item.name!r}, and {where.name} has {first!r}"
                raise refusal(path, what, "write both alike")
    return tuple(sorted(first if key not in voc else key for key, (first, _) in names.items()))


def _plain(name: str) -> str:
    """As VOC writes its names: ``TV/Monitor``, ``tv monitor`` and ``tv-monitor`` are ``tvmonitor``."""
    return re.sub(r"[\s_/-]", "", name.casefold())


def labels(objects: Sequence[tuple[Path, Sequence[Object]]], names: Sequence[str]) -> np.ndarray:
    """(n, classes) uint8: 1 where an image has an object of the class that is not ``difficult``.

    Raises:
        VoclabError: an object's class is not among ``names``, whatever its case and, of VOC's, its spaces.
    """
    index = {name.casefold(): k for k, name in enumerate(names)}
    voc = tuple(names) == VOC_CLASSES
    table = np.zeros((len(objects), len(names)), np.uint8)
    for row, (path, found) in zip(table, objects, strict=True):
        for item in found:
            k = index.get(_plain(item.name) if voc else item.name.casefold())
            if k is None:
                known = ", ".join(names[:20]) + (" …" if len(names) > 20 else "")
                what = f"has an object of unknown class {item.name!r}, not one of {known}"
                raise refusal(path, what, "correct the file or name the class in a labelmap.txt")
            row[k] |= not item.difficult
    return table
