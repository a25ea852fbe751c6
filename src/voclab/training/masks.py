"""Predicted label maps of a data set in one file: a ZIP of palette PNGs that any viewer shows."""

import zipfile
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from voclab.data.vocdevkit import encode_mask
from voclab.errors import VoclabError
from voclab.files import atomic_path
from voclab.text import plain


def write_masks(path: str | Path, ids: Iterable[str], masks: Iterable[np.ndarray]) -> None:
    """Write label maps (H, W) uint8, one at a time, as ``<id>.png``; atomically."""
    with (
        atomic_path(path) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive,  # a PNG is compressed already
    ):
        for name, mask in zip(ids, masks, strict=True):
            # Without a date: the same masks are the same bytes, whatever the clock says.
            archive.writestr(zipfile.ZipInfo(f"{plain(name)}.png"), encode_mask(mask))


class StoredMasks:
    """What :func:`write_masks` wrote, decoded one by one.

    Args:
        path: the ZIP file.

    Raises:
        VoclabError: missing or damaged.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)

    def __getitem__(self, name: str) -> np.ndarray:
        """Label map (H, W) uint8 of the image with that id."""
        try:
            with zipfile.ZipFile(self.path) as archive:
                data = archive.read(f"{plain(name)}.png")
            with Image.open(BytesIO(data)) as image:
                return np.array(image)
        except Exception as error:  # zipfile and Pillow raise what they like for a damaged file
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise VoclabError(
                f"{self.path} does not give the mask of {name} ({reason}); "
                f"delete {self.path.parent} and run again."
            ) from error
