"""What both drawn data sets need: classes, colours, their error, and files that are whole or not there."""

import json
import os
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
VOID = 255
MIN_SIZE = 48
"""The smallest longest side, in pixels, at which objects can be drawn."""

TEMPORARY = ".part-toy-"  # how the names of files begin that are still being written


class ToyError(ValueError):
    """One sentence on what is asked for, or on a folder that cannot be written into."""


def encode_mask(mask: np.ndarray) -> bytes:
    """A label map (H, W) uint8 as a PNG with VOC's palette, as the devkit stores masks."""
    labels, palette = np.arange(256), np.zeros((256, 3), np.uint8)
    for bit in range(8):  # the devkit's VOClabelcolormap.m
        for channel in range(3):
            palette[:, channel] |= (((labels >> (3 * bit + channel)) & 1) << (7 - bit)).astype(np.uint8)
    image = Image.fromarray(mask)
    image.putpalette(palette.tobytes())  # of grey values it makes indices
    buffer = BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def write(path: Path, content: bytes | str) -> None:
    """Write a whole file or nothing, and the folder that it is in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{TEMPORARY}{os.getpid()}-{path.name}")
    try:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: dict) -> None:
    """Write indented JSON."""
    write(path, json.dumps(value, indent=1) + "\n")


def read_json(path: Path) -> dict | None:
    """What was written, ``None`` where there is no such file; one that is damaged is a :class:`ToyError`."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, RecursionError) as error:
        raise ToyError(f"{path} is not readable JSON ({error}); delete it to draw the data anew.") from error


def require_ours(root: Path, what: str, begun: Path | None = None) -> None:
    """Refuse a folder that holds other data; hidden files do not count, nor does ``begun`` while empty."""
    for path in sorted(root.iterdir()) if root.is_dir() else ():
        if not path.name.startswith(".") and not (path == begun and not any(path.iterdir())):
            raise ToyError(
                f"{path} was not made by {what} and is left alone; move it or name another folder."
            )
