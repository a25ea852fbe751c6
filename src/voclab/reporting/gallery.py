"""The gallery: what the notebooks left in ``figures/`` on one page, for reading without running."""

import os
import re
from pathlib import Path

from voclab.errors import VoclabError
from voclab.reporting.page import read, write_page

_TITLE = "voclab: results and figures"
_INTRODUCTION = "What each notebook asked, what it found, and every table and figure that it made."


def write(figures_dir: str | os.PathLike = "figures") -> tuple[Path, Path]:
    """Write ``README.md`` and the self-contained ``index.html`` of a folder of figures; return both paths.

    Raises:
        VoclabError: nothing to show, or a file that cannot be read or written.
    """
    root = Path(figures_dir)
    folders = sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    found = {path: read(path, title(path.name)) for path in folders}
    chapters = [chapter for chapter in found.values() if chapter is not None]
    if not chapters:
        raise VoclabError(f"{root} holds no figures; run the notebooks first (voclab run all).")
    pages = [path / "README.md" for path, chapter in found.items() if chapter is None]
    others = {title(page.parent.name): page for page in pages if page.exists()}
    return write_page(root, _TITLE, _INTRODUCTION, chapters, others=others)


def title(folder: str) -> str:
    """Heading made from the name of a notebook's folder."""
    words = folder.replace("_", " ")
    number = re.match(r"\d+ ", words)
    start = number.end() if number else 0
    words = words[:start] + words[start:].capitalize()
    return re.sub(r"\bcifar(\d+)", r"CIFAR-\1", words, flags=re.IGNORECASE)
