"""Damaged files for every reader: each ends in success or in a ``VoclabError``, in bounded time and memory.

A valid input of each reader is made, one of its files (sometimes two) is changed at random, and all of it is
read in a process of its own. The same seed makes the same files: ``python fuzzing.py FILES [READER …]``.
"""

import contextlib
import gzip
import importlib
import io
import json
import multiprocessing
import os
import pickle
import re
import resource
import shutil
import signal
import struct
import sys
import tarfile
import tempfile
import time
import traceback
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from voc_trees import COLOURS, NAMES, coloured, make_tree, put, save_mask, write_annotation, write_batch

from voclab.data import cifar10, count_objects, find, folder, info, load, test_split
from voclab.data import competition as kaggle
from voclab.data.archives import unpack
from voclab.data.base import VOID, Dataset, voc_palette
from voclab.errors import VoclabError
from voclab.kaggle.export import export
from voclab.text import plain

MEMORY = 2**30  # bytes that reading one damaged input may take beyond what is in use
SECONDS = 20  # of processor time for one input
HANGS = 180  # seconds of the clock after which one that uses no processor is given up


# --- damages ---


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """``data`` with one damage, sometimes two. Half of them lie in the first kilobyte, where headers are."""
    found = bytearray(data)
    for _ in range(rng.integers(1, 3)):
        size = len(found)
        at = int(rng.integers(max(1, min(size, 1024) if rng.random() < 0.5 else size)))
        match rng.integers(7):
            case 0 | 1 | 2 if size:
                for place in (at, *rng.integers(size, size=rng.integers(3))):
                    found[place] ^= 1 << int(rng.integers(8))
            case 3:
                del found[at:]
            case 4:
                stop = at + int(rng.integers(1, 200))
                found[at:stop] = bytes(len(found[at:stop]))
            case 5:
                found[at:at] = found[at : at + int(rng.integers(1, 300))]
            case _:
                found[at : at + int(rng.integers(9))] = rng.bytes(int(rng.integers(1, 9)))
    return bytes(found)


def _swapped(data: bytes, rng) -> bytes:
    """Two blocks have changed places."""
    a, b, c = sorted(rng.integers(0, len(data) + 1, 3))
    return data[:a] + data[b:c] + data[a:b] + data[c:]


_EXTREMES = tuple(
    value.to_bytes(size, order)
    for size in (1, 2, 4, 8)
    for order in ("little", "big")
    for value in (0, 1, 2 ** (8 * size) - 1, 2 ** (8 * size - 1) - 1, 2 ** (8 * size - 1))
)


def _maxed(data: bytes, rng) -> bytes:
    """A field of a header is the largest or smallest number that it can hold."""
    value = _EXTREMES[rng.integers(len(_EXTREMES))]
    at = int(rng.integers(max(1, min(len(data), 256) if rng.random() < 0.7 else len(data))))
    return data[:at] + value + data[at + len(value) :]


_NUMBERS = (
    "0", "-1", "1e999", "NaN", "-Infinity", "9" * 25, "9" * 5000, "1.5", "0x10", "", "١", "²", "1_0", "٣.٥",
    "1000000000", "2147483648", "-9223372036854775809", "1e-400", "True", "null", "1,5", " 7", "+3",
)  # fmt: skip


def _numbered(data: bytes, rng) -> bytes:
    """A number in a text is another one, or none."""
    found = list(re.finditer(rb"[-+]?\d+(\.\d+)?", data[:200_000]))
    if not found:
        return damaged(data, rng)
    at = found[rng.integers(len(found))].span()
    return data[: at[0]] + _NUMBERS[rng.integers(len(_NUMBERS))].encode() + data[at[1] :]


_PIECES = (
    "\0", "\x1b[2J", "\u2028", "\ufeff", "\r", "\n\n", '"', "'", ",", ";", "\t", ":", "<", "&", "]]>", "{",
    "[" * 3000, '{"a":' * 3000, "\\u0000", "\ud800", "\udcff", "😀", "é", "e\u0301", "\u202e", "x" * 70_000,
    "../", "/", "\\", "%s", "<!--", "<![CDATA[", "&amp;", "&lol;", "#", "\x1a", "\x7f", "\x85", "=", "null",
    "NaN", "[]", "{}", '""',
)  # fmt: skip


def _lines(text: str, rng) -> str:
    lines = text.splitlines(keepends=True)
    a, b = (int(k) for k in rng.integers(0, max(1, len(lines)), 2))
    match rng.integers(4):
        case 0:
            lines[a:a] = lines[b : b + 1]
        case 1:
            del lines[a : a + 1 + int(rng.integers(3))]
        case 2:
            lines[a : a + 1], lines[b : b + 1] = lines[b : b + 1], lines[a : a + 1]
        case _:
            return "".join(lines).replace("\n", ("\r\n", "\r", "\n\n", " \n", "")[rng.integers(5)])
    return "".join(lines)


def _texted(data: bytes, rng) -> bytes:
    """A text in another encoding, with other separators, with foreign characters or lines in other places."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    at = int(rng.integers(len(text) + 1))
    match rng.integers(6):
        case 0:
            encoding = ("utf-16", "utf-16-le", "utf-32", "utf-8-sig", "latin-1", "cp037", "utf-7")[
                rng.integers(7)
            ]
            return text.encode(encoding, "replace")
        case 1:
            old, new = (",;:\t \"'<>=-_/."[k] for k in rng.integers(0, 14, 2))
            text = text.replace(old, new, -1 if rng.random() < 0.5 else 1)
        case 2 | 3:
            piece = _PIECES[rng.integers(len(_PIECES))]
            text = text[:at] + piece + text[at + int(rng.integers(4)) :]
        case 4:
            words = list(re.finditer(r"\w+", text))
            if words:
                a, b = (words[k] for k in rng.integers(0, len(words), 2))
                text = text[: a.start()] + (b[0], b[0].upper(), "")[rng.integers(3)] + text[a.end() :]
        case _:
            text = _lines(text, rng)
    return text.encode("utf-8", "surrogatepass")


_VALUES = (
    None, True, False, 0, -1, 1, 0.5, 1e308, float("nan"), float("inf"), 10**40, "", "x", "\0", "é" * 300,
    "\ud800", [], {}, [None], [[]], [1, 2, 3], {"": 0}, {"a": {"b": []}}, "<b>", "1", [{}], ["", 1],
)  # fmt: skip


def _json(data: bytes, rng) -> bytes:
    """A value of a JSON text is of another kind, or missing."""
    try:
        value = json.loads(data)
    except ValueError:
        return _texted(data, rng)
    places: list[tuple[Any, Any]] = []

    def visit(node):
        for key in (
            list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
        ):
            places.append((node, key))
            visit(node[key])

    visit(value)
    odd = _VALUES[rng.integers(len(_VALUES))]
    if not places or rng.random() < 0.03:
        value = odd
    else:
        node, key = places[rng.integers(len(places))]
        other = places[rng.integers(len(places))]
        match rng.integers(4):
            case 0:
                del node[key]
            case 1:
                with contextlib.suppress(KeyError, IndexError):
                    node[key] = json.loads(json.dumps(other[0][other[1]]))
            case _:
                node[key] = odd
    return json.dumps(value).encode("utf-8", "surrogatepass")


def _inside(data: bytes, rng) -> bytes:
    """What is packed is damaged and packed again, so that its checksums are right."""
    try:
        if data.startswith(b"PK"):
            out = io.BytesIO()
            with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
                members = [(m, old.read(m)) for m in old.infolist()]
                chosen = rng.integers(len(members))
                for k, (member, content) in enumerate(members):
                    new.writestr(member.filename, mutated(content, rng)[0] if k == chosen else content)
            return out.getvalue()
        if data.startswith(b"\x1f\x8b"):
            return gzip.compress(mutated(gzip.decompress(data), rng)[0], mtime=0)
        if data.startswith(b"\x89PNG"):
            return _png(data, rng)
    except (OSError, ValueError, struct.error, zipfile.BadZipFile, zlib.error, EOFError):
        pass
    return damaged(data, rng)


def _png(data: bytes, rng) -> bytes:
    chunks, at = [], 8
    while at < len(data):
        (size,) = struct.unpack(">I", data[at : at + 4])
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + size]))
        at += 12 + size
    k = int(rng.integers(len(chunks)))
    kind, content = chunks[k]
    if kind == b"IDAT" and rng.random() < 0.5:
        content = zlib.compress(damaged(zlib.decompress(content), rng))
    else:
        content = (_maxed if rng.random() < 0.5 else damaged)(content, rng)
    chunks[k] = kind, content
    if rng.random() < 0.2:
        chunks.insert(int(rng.integers(1, len(chunks))), chunks[rng.integers(len(chunks))])
    return data[:8] + b"".join(
        struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in chunks
    )


def mutated(data: bytes, rng: np.random.Generator) -> tuple[bytes, str]:
    """``data`` changed in one way that suits it, and the name of that way."""
    ways = [damaged, damaged, _swapped, _maxed, _maxed]
    head = data[:512]
    if b"\0" not in head and not head.startswith((b"\x89", b"\xff\xd8", b"\x1f\x8b", b"PK", b"GIF", b"BM")):
        ways += [_numbered, _numbered, _texted, _texted, _texted]
        if head.lstrip()[:1] in (b"{", b"["):
            ways += [_json] * 5
    elif head.startswith((b"\x89PNG", b"\x1f\x8b", b"PK")):
        ways += [_inside] * 5
    elif head.startswith(b"\x93NUMPY"):
        ways += [_numbered] * 3
    way = ways[rng.integers(len(ways))]
    return way(data, rng), way.__name__.strip("_")


_NAMES = (
    "a\x1b[31mb", "a\nb", "-rf", "a b", "ü", "u\u0308", "a" * 200, "con", "a,b", "$(x)", "<b>", "é\udcff",
    "%00", "a'\"b",
)  # fmt: skip
_SUFFIXES = (
    ".jpg", ".png", ".npy", ".xml", ".json", ".csv", ".txt", ".gif", ".tiff", ".JPG", ".bin", "", ".jpg.png",
)  # fmt: skip


def misplaced(path: Path, files: list[Path], rng: np.random.Generator) -> str:
    """Change what a path is: another kind of file, a folder, a link, nothing; returns what was done."""
    other = files[rng.integers(len(files))]
    match rng.integers(9):
        case 0:
            path.write_bytes(b"")
            return "empty"
        case 1:
            path.unlink()
            return "missing"
        case 2:
            path.unlink()
            path.mkdir()
            return "a folder"
        case 3 | 4:
            path.write_bytes(other.read_bytes())
            return f"the content of {other.name}"
        case 5:
            suffix = _SUFFIXES[rng.integers(len(_SUFFIXES))]
            path.rename(path.with_name(path.stem + suffix))
            return f"renamed to {suffix}"
        case 6:
            name = _NAMES[rng.integers(len(_NAMES))]
            path.rename(path.with_name(name + path.suffix))
            return f"renamed to {name!r}"
        case 7:
            path.unlink()
            path.symlink_to(path.name if rng.random() < 0.5 else "nowhere")
            return "a link to nothing or itself"
        case _:
            copy = path.with_name(f"{path.stem} (1){path.suffix}")
            shutil.copy(path, copy)
            return "there twice"


def mutate(where: Path, rng: np.random.Generator) -> str:
    """Damage one file below a folder, sometimes two; returns what was done."""
    done = []
    for _ in range(1 if rng.random() < 0.8 else 2):
        files = sorted(path for path in where.rglob("*") if path.is_file() and not path.is_symlink())
        if not files:
            break
        kinds = sorted({path.suffix for path in files})  # each kind of file as often as the others
        suffix = kinds[rng.integers(len(kinds))]
        files_of_kind = [path for path in files if path.suffix == suffix]
        path = files_of_kind[rng.integers(len(files_of_kind))]
        if rng.random() < 0.15:
            how = misplaced(path, files, rng)
        else:
            data, how = mutated(path.read_bytes(), rng)
            path.write_bytes(data)
        done.append(f"{path.relative_to(where)}: {how}")
    return "; ".join(done)


# --- readers: what makes a valid input, and what reads all of it ---


class Reader(NamedTuple):
    """A kind of input.

    Attributes:
        make: writes a valid one into an empty folder.
        read: reads all of it.
        cost: of reading one, in that of others; the more, the fewer are read.
        imports: modules that it needs, imported once.
    """

    make: Callable[[Path], None]
    read: Callable[[Path], object]
    cost: float = 1
    imports: tuple[str, ...] = ()


RNG = partial(np.random.default_rng, 0)


def read_data(root: Path) -> None:
    """Everything that can be read of a data set in a folder."""
    found = find(root)
    for split in ("train", test_split(found.name)):
        read_all(load(found.name, found.root, split))
        count_objects(found.name, found.root, split)


def read_all(dataset: Dataset) -> None:
    for i in range(len(dataset)):
        image, mask = dataset.image(i), dataset.mask(i)
        assert image.dtype == np.uint8
        assert image.ndim == 3
        if mask is not None:
            assert mask.dtype == np.uint8
            assert mask.shape == image.shape[:2]
            assert set(np.unique(mask)) <= {*range(len(dataset.class_names) + 1), VOID}
    if dataset.labels is not None:
        assert set(np.unique(dataset.labels)) <= {0, 1}
    info.table(info.describe(dataset))


def _scenes(n: int = 5):
    for k in range(n):
        mask = np.zeros((14, 18), np.uint8)
        mask[1:8, 1:8], mask[2:7, 2:7] = VOID, k % 3 + 1
        mask[8:12, 9:16] = (k + 1) % 3 + 1
        yield f"shot {k}", np.random.default_rng(k).integers(0, 256, (*mask.shape, 3), np.uint8), mask


def voc_tree(root: Path) -> None:
    make_tree(root, {"train": 3, "val": 2})


def voc_main(root: Path) -> None:
    """As in VOC 2007: ``Main`` lists, one a class too, and not every image with a mask."""
    tree = make_tree(root, {"train": 3, "val": 2}, year=2007, lists="Main")
    (tree.folder / "SegmentationClass" / f"{tree.splits['train'][1]}.png").unlink()
    listed = "".join(f"{name} {k % 3 - 1:2d}\n" for k, name in enumerate(tree.splits["train"]))
    put(tree.folder / "ImageSets/Main/person_train.txt", listed)


def cvat(root: Path) -> None:
    for name, image, mask in _scenes():
        put(root / "JPEGImages" / f"{name}.png", image)
        put(root / "SegmentationClass" / f"{name}.png", coloured(mask))
    put(root / "ImageSets/Segmentation/default.txt", "".join(f"shot {k}\n" for k in range(5)))
    lines = [f"{n}:{','.join(map(str, c))}::" for n, c in zip(NAMES, COLOURS, strict=True)]
    put(
        root / "labelmap.txt",
        "\n".join(["# label:color_rgb:parts:actions", "background:0,0,0::", *lines]) + "\n",
    )


def labelme(root: Path) -> None:
    for name, image, mask in _scenes():
        put(root / "JPEGImages" / f"{name}.jpg", image)
        put(root / "SegmentationClass" / f"{name}.npy", np.where(mask == VOID, -1, mask).astype(np.int32))
    put(root / "class_names.txt", "\n".join(("__ignore__", "_background_", *NAMES)) + "\n")


def supervisely(root: Path) -> None:
    for name, image, mask in _scenes():
        put(root / "JPEGImages" / f"{name}.jpg", image)
        put(root / "SegmentationClass" / f"{name}.png", coloured(mask))
    classes = [
        {"title": n, "shape": "bitmap", "color": f"#{bytes(c).hex()}"}
        for n, c in zip(NAMES, COLOURS, strict=True)
    ]
    put(root / "meta.json", json.dumps({"classes": classes, "tags": [], "projectType": "images"}))
    put(
        root / "colors.txt",
        "".join(f"{n} {r} {g} {b}\n" for n, (r, g, b) in zip(NAMES, COLOURS, strict=True)),
    )


def roboflow(root: Path) -> None:
    for part in ("train", "valid"):
        for name, image, mask in _scenes(3):
            put(root / part / f"{part} {name}.jpg", image)
            put(root / part / f"{part} {name}_mask.png", np.where(mask == VOID, 0, mask).astype(np.uint8))
        put(root / part / "_classes.csv", "Pixel Value, Class\n0, background\n" + "".join(
            f"{k}, {n}\n" for k, n in enumerate(NAMES, 1)))  # fmt: skip


def annotated(root: Path) -> None:
    """Boxes of classes of one's own, in several encodings, and no masks."""
    encodings = ("utf-8", "utf-16", "latin-1", "utf-8-sig", "cp1252")
    for (name, image, _), encoding in zip(_scenes(), encodings, strict=True):
        put(root / "JPEGImages" / f"{name}.jpeg", image)
        xml = '<annotation xmlns="urn:voc"><size><width>18</width></size><object>'
        xml += f"<name>{NAMES[len(name) % 3]}</name><difficult>No</difficult></object></annotation>"
        declared = "utf-8" if encoding == "utf-8-sig" else encoding
        put(
            root / "Annotations" / f"{name}.xml",
            f'<?xml version="1.0" encoding="{declared}"?>{xml}'.encode(encoding),
        )
    put(root / "ImageSets/Main/train.txt", "shot 0\nshot 1 1\nshot 2.jpg\n")
    put(root / "ImageSets/Main/val.txt", "\ufeffshot 3\r\nshot 4\r\n")


def pairs_of_masks(root: Path) -> None:
    for k, (name, image, mask) in enumerate(_scenes()):
        put(root / "images" / f"{name}{('.jpg', '.png', '.webp', '.bmp', '.tif')[k]}", image)
        path = root / "masks" / f"{name}{('.png', '.tif', '.bmp', '.gif', '.png')[k]}"
        put(path, mask)
    put(root / "classes.txt", "\n".join(("background", *NAMES)) + "\n")


def pairs_of_arrays(root: Path) -> None:
    for k, (name, image, mask) in enumerate(_scenes()):
        put(root / "img" / f"{name}.npy", image)
        kinds = (np.uint8, np.int64, np.float32, ">u2", np.uint8)
        put(
            root / "seg" / f"{name}.npy", mask.astype(kinds[k])[..., None] if k % 2 else mask.astype(kinds[k])
        )


def pairs_of_annotations(root: Path) -> None:
    for name, image, _ in _scenes():
        put(root / "images" / f"{name}.jpg", image)
        write_annotation(root / "annotations" / f"{name}.xml", [(NAMES[len(name) % 3], 0), ("lamp", 1)])


def pairs_of_depths(root: Path) -> None:
    """Masks of palettes, colours, 16 bits, black and white, each with its image."""
    for k, (name, image, mask) in enumerate(_scenes()):
        path = root / "masks" / f"{name}.png"
        put(root / "images" / f"{name}.jpg", image)
        if k == 0:
            path.parent.mkdir(exist_ok=True)
            save_mask(path, mask)
        else:
            put(path, mask.astype(np.uint16) if k == 1 else voc_palette()[mask] if k == 2 else mask)


def voc_class_pairs(root: Path) -> None:
    for name, image, mask in _scenes():
        put(root / "train/images" / f"{name}.jpg", image)
        (root / "train/labels").mkdir(parents=True, exist_ok=True)
        save_mask(root / "train/labels" / f"{name}.png", mask)
        put(root / "val/images" / f"v{name}.jpg", image)
        (root / "val/labels").mkdir(parents=True, exist_ok=True)
        save_mask(root / "val/labels" / f"v{name}.png", mask)


def images(root: Path) -> None:
    """An image of every format and depth that is read, in two folders by class."""
    colour = Image.fromarray(RNG().integers(0, 256, (12, 16, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a title"
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
    at = root / "cat"
    colour.save(at / "a.jpg", exif=exif)
    colour.save(at / "b.jpeg", progressive=True)
    colour.convert("CMYK").save(at / "c.jfif", "JPEG")
    colour.save(at / "d.png", exif=exif)
    colour.quantize(16).save(at / "e.png", transparency=3)
    colour.convert("1").save(at / "f.png")
    Image.fromarray(np.linspace(0, 65535, 192).reshape(12, 16).astype(np.uint16)).save(at / "g.png")
    colour.convert("LA").save(at / "h.png", optimize=True)
    colour.save(at / "i.webp", exif=exif)
    colour.save(at / "j.webp", lossless=True, save_all=True, append_images=[colour.rotate(180)])
    at = root / "dog"
    frames = {"save_all": True, "append_images": [colour.rotate(180)]}
    colour.save(at / "a.gif", **frames, duration=50, loop=0)
    colour.save(at / "b.tif", **frames)
    for k, packed in enumerate(("tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits")):
        colour.save(at / f"c{k}.tiff", compression=packed)
    Image.fromarray(RNG().random((12, 16), np.float32)).save(at / "d.tiff")
    Image.fromarray(np.linspace(0, 65535, 192).reshape(12, 16).astype(np.uint16)).save(at / "e.tif")
    colour.save(at / "f.bmp")
    colour.quantize(8).save(at / "g.bmp")
    colour.save(at / "h.ppm")
    colour.convert("L").save(at / "i.pgm")
    colour.convert("1").save(at / "j.pbm")
    (at / "k.pgm").write_bytes(b"P2\n# grey\n3 2\n255\n0 10 20\n30 40 255\n")
    colour.save(at / "l.apng", "PNG", save_all=True, append_images=[colour.rotate(180)])
    if ".avif" in Image.registered_extensions():
        with contextlib.suppress(KeyError, OSError):
            colour.save(at / "m.avif")


def read_images(root: Path) -> None:
    """As one image each, and as classes: one that cannot be read must not hide the others."""
    refused = []
    for path in sorted(root.rglob("*")):
        if path.is_file():
            try:
                read_all(folder.images(path))
            except VoclabError as error:
                refused.append(error)
    read_data(root)
    if refused:
        raise refused[0]


def splits_of_images(root: Path) -> None:
    for part in ("Training", "Testing"):
        for name in ("cat", "dog", "owl"):
            for k in range(2):
                path = root / part / name / f"{k}{('.jpg', '.png')[k]}"
                put(path, np.random.default_rng(k).integers(0, 256, (6, 7, 3), np.uint8))


def competition(root: Path) -> None:
    with tempfile.TemporaryDirectory() as made:
        make_tree(made, {"train": 3, "val": 2})
        parts = (load("voc2009", made, split) for split in ("train", "val"))
        export(*parts, root / "data", root / "truth", progress=False)


def read_competition(root: Path) -> None:
    read_data(root / "data")
    read_all(kaggle.read(root / "data", "test", truth_root=root / "truth"))


def manifest(root: Path) -> None:
    competition(root / "competition")
    make_tree(root / "voc", {"train": 3, "val": 2})


def read_manifest(root: Path) -> None:
    """An export that is given again goes on with what is there."""
    parts = (load("voc2009", root / "voc", split) for split in ("train", "val"))
    export(*parts, root / "competition/data", root / "competition/truth", progress=False)


def cifar_records(root: Path) -> None:
    rng = RNG()
    for k in range(1, 6):
        images, labels = rng.integers(0, 256, (2, 32, 32, 3), np.uint8), rng.integers(0, 10, 2)
        write_batch(root / f"data_batch_{k}.bin", images, labels)
    write_batch(root / "test_batch.bin", images, labels)
    (root / "batches.meta.txt").write_text("\n".join(cifar10.CIFAR10_CLASSES))


def cifar_pickles(root: Path) -> None:
    rng = RNG()
    for k in range(5):
        planes, labels = rng.integers(0, 256, (2, 3072), np.uint8), rng.integers(0, 10, 2)
        content = {
            b"data": planes,
            b"labels": labels if k == 3 else labels.tolist(),
            b"filenames": [b"a.png"] * 2,
        }
        if k == 4:
            content = {key.decode(): value for key, value in content.items()}
        packed = pickle.dumps(content, (2, 0, 4, 5, 3)[k]).replace(b"numpy._core", b"numpy.core")
        put(root / f"data_batch_{k + 1}", packed if k < 2 else pickle.dumps(content, (2, 0, 4, 5, 3)[k]))
    put(root / "test_batch", packed)
    put(
        root / "batches.meta",
        pickle.dumps({b"label_names": [n.encode() for n in cifar10.CIFAR10_CLASSES]}, 2),
    )


def toys(root: Path) -> None:
    from toyvoc.cifar import make_toycifar
    from toyvoc.voc import make_toyvoc

    make_toyvoc(root / "toyvoc", train=2, val=2, test=2, size=64)
    make_toycifar(root / "toycifar", train=20, test=20)


def read_toys(root: Path) -> None:
    read_data(root / "toyvoc")
    read_data(root / "toycifar")


def submissions(root: Path) -> None:
    from voclab.kaggle import write_submission

    rng = RNG()
    ids = [f"{k}" for k in range(4)]
    labels, maps = rng.integers(0, 2, (4, 20)), rng.choice([0, 0, 3, 20], (4, 5, 6))
    write_submission(root / "a.csv", ids, labels, maps)
    write_submission(root / "classes.csv", ids, labels)
    write_submission(root / "masks.csv", ids, label_maps=maps)
    write_submission(root / "truth.csv", ids, labels[::-1], maps[::-1])


def read_submissions(root: Path) -> None:
    from voclab import kaggle

    refused = []
    ids = [f"{k}" for k in range(4)]
    shapes = dict.fromkeys(ids, (5, 6))
    for work in (
        lambda: kaggle.check_submission(root / "a.csv").remarks(),
        lambda: kaggle.check_submission(root / "a.csv", ids, shapes),
        lambda: kaggle.score_submission(root / "a.csv", root / "truth.csv"),
        lambda: kaggle.merge_submissions(root / "whole.csv", root / "classes.csv", root / "masks.csv"),
        lambda: _decode_rows(root / "masks.csv"),
    ):
        try:
            work()
        except VoclabError as error:
            refused.append(error)
    if refused:
        raise refused[0]


def _decode_rows(path: Path) -> None:
    """What a person does with a file: takes the second column and decodes it."""
    from voclab import kaggle

    with contextlib.suppress(OSError):
        for line in path.read_bytes().decode("utf-8", "surrogateescape").splitlines()[1:]:
            kaggle.decode_segmentation(line.partition(",")[2], (5, 6))


def sent_log(root: Path) -> None:
    from voclab.kaggle import log

    entry = log.Entry(
        log.now(), "a-competition", "a.csv", "0" * 64, "hello, “there”", "01, profile demo", "abc"
    )
    log.write(root / "log.csv", [entry, log.Entry(*[*entry.__dict__.values()][:7], "123", "complete", "0.5")])


def read_log(root: Path) -> None:
    from voclab.kaggle import log

    log.write(root / "log.csv", log.read(root / "log.csv"))


def run_texts(root: Path) -> None:
    found = {"dataset": "toycifar", "model": "small_cnn", "epochs": 2, "learning_rate": 0.1, "weights": None}
    put(root / "run/config.json", json.dumps({"asked": found, "experiment": {"recipe": {"size": 32}}}))
    put(
        root / "run/history.json",
        json.dumps([{"epoch": 0, "map": 0.1, "loss": 1.5}, {"epoch": 1, "map": 0.2}]),
    )
    put(root / "run/metrics.json", json.dumps({"map": 0.5, "parts": [1, 2], "per_class": {"cat": 0.3}}))
    rng = RNG()
    np.savez_compressed(
        root / "run/predictions.npz", test=rng.random((4, 3), np.float32), thresholds=rng.random(3)
    )
    with zipfile.ZipFile(root / "run/model.keras", "w") as model:
        layers = [{"config": {"name": name}} for name in ("input", "conv", "dense")]
        model.writestr("config.json", json.dumps({"config": {"layers": layers}}))
        model.writestr("model.weights.h5", bytes(64))


def read_run_texts(root: Path) -> None:
    """What is read of a run without TensorFlow."""
    from voclab.experiments.options import asked
    from voclab.files import read_arrays, read_json
    from voclab.models.saved import model_files, require_layers

    refused = []
    for work in (
        lambda: asked({}, root / "run/config.json"),
        lambda: read_json(root / "run/history.json", list),
        lambda: read_json(root / "run/metrics.json", dict),
        lambda: read_arrays(root / "run/predictions.npz"),
        lambda: [require_layers(path, ["conv"]) for path in model_files([root / "run"]).values()],
    ):
        try:
            work()
        except VoclabError as error:
            refused.append(error)
    if refused:
        raise refused[0]


def run_folder(root: Path) -> None:
    from voclab.training import Run
    from voclab.training.masks import write_masks

    run = Run(root / "run")
    run.begin({"recipe": {"size": 32, "rate": 0.5}, "weights": None})
    run.save_history([{"epoch": 0, "map": 0.1}, {"epoch": 1, "loss": 0.7, "map": 0.2}])
    run.save_predictions(logits=RNG().random((4, 3), np.float32))
    write_masks(run.folder / "val_masks.zip", ["a", "b"], [np.zeros((9, 8), np.uint8)] * 2)
    run.finish({"map": 0.5})


def read_run_folder(root: Path) -> None:
    from voclab.training import Run
    from voclab.training.masks import StoredMasks

    run, refused = Run(root / "run"), []
    for work in (
        lambda: run.config,
        lambda: run.history,
        lambda: run.metrics,
        run.predictions,
        lambda: [StoredMasks(run.folder / "val_masks.zip")[name] for name in "ab"],
        lambda: run.begin({"recipe": {"size": 32, "rate": 0.5}, "weights": None}) or run.finish({}),
    ):
        try:
            work()
        except VoclabError as error:
            refused.append(error)
    if refused:
        raise refused[0]


def saved_model(root: Path) -> None:
    from voclab.models.classifiers import build_classifier

    build_classifier("cnn", 3, options={"width": 2}).save(root / "model.keras")


def read_model(root: Path) -> None:
    from voclab.training import load_model

    load_model(root / "model.keras")


def weights(root: Path) -> None:
    from voclab.models.backbones import build_backbone

    build_backbone("cnn", None, width=16).save_weights(root / "backbone.weights.h5")


def read_weights(root: Path) -> None:
    from voclab.models.backbones import build_backbone

    build_backbone("cnn", str(root / "backbone.weights.h5"), width=16)


def tars(root: Path) -> None:
    for name, mode, form in (("a.tar", "w", tarfile.GNU_FORMAT), ("b.tar.gz", "w:gz", tarfile.PAX_FORMAT)):
        with tarfile.open(root / name, mode, format=form) as archive:
            for k in range(3):
                member = tarfile.TarInfo(f"tree/{'long' * 40}/é{k}")
                member.size = 900
                archive.addfile(member, io.BytesIO(bytes(900)))


def zips(root: Path) -> None:
    with zipfile.ZipFile(root / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for k in range(3):
            archive.writestr(f"tree/é{k}", bytes(900))


def read_archives(root: Path) -> None:
    refused = []
    for path in sorted(root.iterdir()):
        out = root / f"of {path.name}"
        try:
            unpack(path, out, max_bytes=10**7)
        except VoclabError as error:
            assert not out.exists(), "a half of an archive"
            refused.append(error)
    if refused:
        raise refused[0]


def notebooks(root: Path) -> None:
    import nbformat

    cells = [
        nbformat.v4.new_markdown_cell("# A title\n\nText", id="a"),
        nbformat.v4.new_code_cell("seed = 1\ndata: str = None", id="b", metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell("print(1)", id="c", outputs=[nbformat.v4.new_output("stream", text="1\n")]),
    ]
    book = nbformat.v4.new_notebook(cells=cells, metadata={"voclab": {"images": False}})
    put(root / "notebooks/01_first.ipynb", nbformat.writes(book) + "\n")
    put(root / "README.md", "# A\n\n<!-- badges -->\nnone\n<!-- /badges -->\n")


def read_notebooks(root: Path) -> None:
    """As ``voclab run`` reads them, up to the kernel: an unknown parameter ends those that could be read."""
    from voclab.reporting import badges
    from voclab.reporting import notebooks as books

    with contextlib.suppress(VoclabError):
        badges.write_badges("owner/name", "0" * 40, root=root)
    books.suits("01", "voc2009", root / "notebooks")
    try:
        books.run("01", parameters={"unknown": 1}, notebooks_dir=root / "notebooks", progress=False)
    except VoclabError as error:
        if 'has no parameter "unknown"' not in str(error):
            raise


def figures(root: Path) -> None:
    at = root / "figures/01_classification"
    put(at / "02_curves.png", np.zeros((6, 9, 3), np.uint8))
    put(at / "02_curves.svg", '<svg xmlns="http://www.w3.org/2000/svg"/>')
    curves = {"name": "02_curves", "title": "Curves", "caption": "Loss.", "alt": "Falling lines"}
    rows = [["random", "0.070", "0", "–"], ["transfer", "0.870", "2257984", "4 min"]]
    table = {"name": "03_results", "title": "Results", "caption": "c", "rows": rows,
             "columns": ["model", "mAP", "parameters", "time"]}  # fmt: skip
    record = {"question": "Which?", "answer": "**This**, *not that*.\n\nWell.", "profile": "demo", "seed": 0,
              "data": "ToyVOC", "versions": {"keras": "3"}, "git": "abc", "run_time_s": 83.4,
              "submissions": {"submissions/a.csv": "0" * 64}, "parameters": [1, 2],
              "items": [curves, table]}  # fmt: skip
    put(at / "run.json", json.dumps(record))


def read_figures(root: Path) -> None:
    from voclab.kaggle import push
    from voclab.reporting import gallery

    push._run_of(root / "submissions/a.csv", "0" * 64)
    gallery.write(root / "figures")


def credentials(root: Path) -> None:
    put(root / "kaggle.json", json.dumps({"username": "somebody", "key": "0123456789abcdef-secret"}))


def read_credentials(root: Path) -> None:
    from voclab.kaggle.client import clean, kaggle_api

    os.environ["KAGGLE_CONFIG_DIR"], os.environ["HOME"] = str(root), str(root)
    for name in ("KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_API_TOKEN"):
        os.environ.pop(name, None)
    for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        os.environ[name] = "http://127.0.0.1:9"  # nobody listens there
    clean("what Kaggle says")
    kaggle_api()


_DATA = ("cv2", "defusedxml.ElementTree")
READERS = {
    "VOC tree": Reader(voc_tree, read_data),
    "VOC tree, Main lists": Reader(voc_main, read_data),
    "CVAT or Datumaro export": Reader(cvat, read_data),
    "labelme export": Reader(labelme, read_data),
    "Supervisely export": Reader(supervisely, read_data),
    "Roboflow export": Reader(roboflow, read_data),
    "VOC annotations, own classes": Reader(annotated, read_data),
    "pairs, masks": Reader(pairs_of_masks, read_data),
    "pairs, masks of every depth": Reader(pairs_of_depths, read_data),
    "pairs, arrays": Reader(pairs_of_arrays, read_data),
    "pairs, annotations": Reader(pairs_of_annotations, read_data),
    "pairs, splits": Reader(voc_class_pairs, read_data),
    "images of every format": Reader(images, read_images, 0.5),
    "images by class": Reader(splits_of_images, read_data),
    "competition": Reader(competition, read_competition),
    "export.json": Reader(manifest, read_manifest, 2),
    "CIFAR-10, binary": Reader(cifar_records, read_data),
    "CIFAR-10, pickles": Reader(cifar_pickles, read_data),
    "ToyVOC and ToyCIFAR": Reader(toys, read_toys, 6),
    "submissions": Reader(submissions, read_submissions, 1, ("voclab.kaggle",)),
    "log.csv": Reader(sent_log, read_log, 2),
    "run, without TensorFlow": Reader(run_texts, read_run_texts),
    "run folder": Reader(run_folder, read_run_folder, 3, ("voclab.training",)),
    "model.keras": Reader(saved_model, read_model, 15, ("voclab.training", "voclab.models.classifiers")),
    "weights.h5": Reader(weights, read_weights, 15, ("voclab.training", "voclab.models.classifiers")),
    "tar and tar.gz": Reader(tars, read_archives),
    "zip": Reader(zips, read_archives),
    "notebooks": Reader(
        notebooks, read_notebooks, 1, ("voclab.reporting.notebooks", "voclab.reporting.badges")
    ),
    "figures": Reader(figures, read_figures),
    "kaggle.json": Reader(credentials, read_credentials, 4),
}


# --- running them ---


class Overtime(BaseException):
    """An input took too long; no reader catches this."""


class Outcome(NamedTuple):
    """Of one damaged input: ``"read"``, ``"refused"`` or ``"other"``; what was done, and the error."""

    number: int
    kind: str
    damage: str
    text: str = ""


def one(name: str, number: int, seed: int, valid: Path, work: Path) -> Outcome:
    """Damage the input that ``valid`` holds, in ``work``, and read it."""
    rng = np.random.default_rng([seed, zlib.crc32(name.encode()), number])
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(valid, work)
    damage = mutate(work, rng)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        with bounded_memory():
            READERS[name].read(work)
    except VoclabError as error:
        text = str(error)
        whole = text.strip() and "\n" not in text.replace(_NAMES[1], "") and plain(text) == text
        return Outcome(number, "refused" if whole else "other", damage, text)
    except (Exception, Overtime, SystemExit):
        return Outcome(number, "other", damage, traceback.format_exc())
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return Outcome(number, "read", damage)


@contextlib.contextmanager
def bounded_memory():
    """Within, memory beyond ``MEMORY`` cannot be had: taking more than that is a ``MemoryError``."""
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def _overtime(*_):
    raise Overtime(f"more than {SECONDS} s of processor time")


def _worker(name: str, numbers: range, seed: int, root: Path, pipe) -> None:
    with open(root / "stderr.txt", "ab") as noise, open(os.devnull) as nothing:
        os.dup2(noise.fileno(), 1)
        os.dup2(noise.fileno(), 2)
        os.dup2(nothing.fileno(), 0)
    signal.signal(signal.SIGPROF, _overtime)
    for module in READERS[name].imports:
        with contextlib.suppress(BaseException):  # a reader that needs it says so
            importlib.import_module(module)
    valid = root / "valid"
    if not valid.exists():
        valid.mkdir()
        READERS[name].make(valid)
        shutil.copytree(valid, root / "work")
        try:
            READERS[name].read(
                root / "work"
            )  # the valid input is read; of credentials that nobody knows, not
        except VoclabError as error:
            if name != "kaggle.json":
                raise AssertionError(f"the valid input of {name} was refused: {error}") from error
    for number in numbers:
        pipe.send(number)
        pipe.send(one(name, number, seed, valid, root / "work"))
    pipe.close()


def fuzz(
    name: str, count: int, seed: int, root: Path, first: int = 0, told=lambda outcome: None
) -> list[Outcome]:
    """Outcomes of ``count`` damaged inputs of a reader; one that ends or hangs its process is ``"other"``."""
    context, found, at = multiprocessing.get_context("fork"), [], first
    root.mkdir(parents=True)
    while at < first + count:
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_worker, args=(name, range(at, first + count), seed, root, theirs))
        process.start()
        theirs.close()
        begun = None
        try:
            while True:
                if not ours.poll(HANGS):
                    process.kill()
                message = ours.recv()
                if isinstance(message, int):
                    begun = message
                    continue
                found.append(message)
                told(message)
                at, begun = message.number + 1, None
        except EOFError:
            process.join()
        if begun is None and at < first + count:
            raise AssertionError((root / "stderr.txt").read_text(errors="replace")[-3000:])
        if begun is not None:
            outcome = Outcome(begun, "other", "?", f"the process ended with {process.exitcode}, or hung")
            found.append(outcome)
            told(outcome)
            at = begun + 1
    return found


def shares(files: int, names=tuple(READERS)) -> dict[str, int]:
    """How many of so many files each reader gets: fewer where reading one takes long, but some."""
    parts = {name: 1 / READERS[name].cost for name in names}
    return {name: max(2, -int(-files * part // sum(parts.values()))) for name, part in parts.items()}


def run(files: int, seed: int = 0, names=tuple(READERS), progress=lambda line: None) -> dict[str, dict]:
    """Fuzz these readers.

    Returns:
        Name -> counts of ``files``, ``read``, ``refused`` and ``other``, the ``faults`` (outcomes that are
        ``other``), and ``noise`` on the standard error.
    """
    report, begun, done = {}, time.monotonic(), 0
    wanted = shares(files, names)
    total, bad = sum(wanted.values()), 0

    def told(outcome):
        nonlocal done, bad
        done, bad = done + 1, bad + (outcome.kind == "other")
        if done % 100 == 0 or outcome.kind == "other":
            left = (time.monotonic() - begun) / done * (total - done)
            progress(f"{done} of {total} files, {bad} other; about {left / 60:.0f} min left ({name})")

    with tempfile.TemporaryDirectory() as folder:
        for name, count in wanted.items():
            root = Path(folder) / re.sub(r"\W+", "-", name)
            outcomes = fuzz(name, count, seed, root, told=told)
            kinds = Counter(outcome.kind for outcome in outcomes)
            report[name] = {"files": count, **{kind: kinds[kind] for kind in ("read", "refused", "other")}}
            report[name]["faults"] = [outcome._asdict() for outcome in outcomes if outcome.kind == "other"]
            report[name]["noise"] = _noise(root / "stderr.txt")
            shutil.rmtree(root)
    return report


def _noise(path: Path) -> dict[str, int]:
    """What was written on stderr, by its form, with how often."""
    lines = path.read_text(errors="replace").splitlines()
    forms = Counter(re.sub(r"\d+|0x\w+|/\S+|'[^']*'", "…", line)[:120] for line in lines if line.strip())
    return dict(forms.most_common(8))


if __name__ == "__main__":
    chosen = tuple(sys.argv[2:]) or tuple(READERS)
    found = run(int(sys.argv[1]), names=chosen, progress=lambda line: print(line, file=sys.stderr))
    json.dump(found, sys.stdout, indent=1)
