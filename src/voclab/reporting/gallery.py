"""The gallery: what the notebooks left in ``figures/``, as a first page and a page for each notebook."""

import os
import re
import shutil
from pathlib import Path

from voclab.data import DRAWN
from voclab.errors import VoclabError
from voclab.files import atomic_path, make_folder, write_json, write_text
from voclab.reporting.page import RECORD, Chapter, Figure, as_record, read, render

PHOTOS = {"voc2009": "VOC 2009", "cifar10": "CIFAR-10"}  # data sets whose results may be published
_PARTS = ("01", "02", "03")  # notebooks of the assignment; the others accompany them
_FIRST = 500_000  # bytes of images that the first page loads at most, where the PNGs are not larger


def write(figures_dir: str | os.PathLike = "figures") -> list[Path]:
    """Write the first page of a folder of figures and a page a notebook, in Markdown and HTML.

    The same content always gives the same bytes. Returns the paths, ``README.md`` and ``index.html`` of the
    folder first.

    Raises:
        VoclabError: nothing to show, or a file that cannot be read or written.
    """
    root = Path(figures_dir)
    chapters, photos = _chapters(root), [c for name in PHOTOS for c in _chapters(root / name)]
    if not chapters:
        raise VoclabError(f"{root} holds no figures; run the notebooks first (voclab run all).")
    texts = _first_page(root, chapters, photos)
    for chapter in (*chapters, *photos):
        texts |= _notebook_page(root, chapter, photos)
    for path, text in texts.items():
        write_text(path, text)
    return list(texts)


def publish(source: str | os.PathLike, figures_dir: str | os.PathLike = "figures") -> list[Path]:
    """Copy charts, tables and texts of runs on photos into ``<figures_dir>/<data set>/<notebook>/``.

    No figure that shows images is copied, and nothing else stays in those folders. Returns them.

    Args:
        source: the folder ``figures`` of ``voclab run --data voc2009 --out ...``.
        figures_dir: where the gallery is.

    Raises:
        VoclabError: no record there, or one of drawn or unknown images; nothing has been copied then.
    """
    chapters = _chapters(Path(source))
    if not chapters:
        raise VoclabError(f"{source} holds no {RECORD} of a notebook; name the figures folder of a run.")
    for chapter in chapters:
        data = chapter.record.get("dataset")
        if data in DRAWN:
            raise VoclabError(f"{chapter.folder} shows drawn images; only runs on photos are published.")
        if data not in PHOTOS:
            named = ", ".join(PHOTOS)
            raise VoclabError(
                f"{chapter.folder / RECORD} names no data set of {named}; run its notebook on one of them."
            )
    return [_published(chapter, Path(figures_dir)) for chapter in chapters]


def _published(chapter: Chapter, figures: Path) -> Path:
    target = make_folder(figures / chapter.record["dataset"] / chapter.folder.name)
    items = [item for item in chapter.items if not isinstance(item, Figure) or chapter.is_chart(item)]
    charts = [f"{i.name}{end}" for i in items if isinstance(i, Figure) for end in (".png", ".svg")]
    kept = {*charts, "README.md", "index.html"}
    for path in target.iterdir():
        if path.name not in kept:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    for name in charts:
        with atomic_path(target / name) as temporary:
            shutil.copyfile(chapter.folder / name, temporary)
    record = dict(chapter.record)
    if record.get("main_figure") not in {item.name for item in items}:
        record["main_figure"] = None
    write_json(target / RECORD, as_record(record, items))
    return target


def _chapters(root: Path) -> list[Chapter]:
    """Notebooks of a folder of figures, in order."""
    folders = sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    return [chapter for path in folders if (chapter := read(path, title(path.name)))]


def _first_page(root: Path, chapters: list[Chapter], photos: list[Chapter]) -> dict[Path, str]:
    drawn = {DRAWN[c.data]: None for c in chapters if c.data in DRAWN}
    others = [path for path in sorted(root.glob("*/README.md")) if not (path.parent / RECORD).exists()]
    parts = [
        {
            "chapter": chapter,
            "data": DRAWN.get(chapter.data) or PHOTOS.get(chapter.data, "here"),
            "main": chapter.folder.name[:2] in _PARTS,
            "numbers": _numbers(chapter, _counterparts(chapter, photos)),
            "notebook": _notebook(root, chapter),
            "photos": _counterparts(chapter, photos),
        }
        for chapter in chapters
    ]
    values = {
        "title": "voclab: results",
        "drawn": " and ".join(drawn),
        "parts": parts,
        "results": _existing(root.parent / "docs" / "results.md"),
        "others": {title(path.parent.name): path.parent for path in others},
        "photo_names": PHOTOS,
        "figures": [(c.folder, c.main_figure) for c in chapters if c.main_figure],
        "most": _FIRST,
    }
    return {root / name: render(f"first.{kind}", root, values) for name, kind in _FILES}


def _notebook_page(root: Path, chapter: Chapter, photos: list[Chapter]) -> dict[Path, str]:
    is_photo = chapter in photos
    pages = {"All results": root}
    if is_photo:
        if (root / chapter.folder.name / RECORD).exists():
            pages["On drawn images"] = root / chapter.folder.name
    else:
        pages |= {f"On {PHOTOS[c.data]}": c.folder for c in _counterparts(chapter, photos)}
    files = {"Notebook": _notebook(root, chapter), "docs/results.md": root.parent / "docs" / "results.md"}
    name = f"{chapter.title} on {PHOTOS[chapter.data]}" if is_photo else chapter.title
    values = {
        "title": name,
        "introduction": "",
        "chapters": [Chapter(chapter.folder, chapter.record, chapter.items)],
        "pages": pages,
        "files": {text: path for text, path in files.items() if path and path.exists()},
    }
    return {chapter.folder / file: render(f"page.{kind}", chapter.folder, values) for file, kind in _FILES}


_FILES = (("README.md", "md"), ("index.html", "html"))


def _counterparts(chapter: Chapter, photos: list[Chapter]) -> list[Chapter]:
    """The same notebook on photos."""
    return [other for other in photos if other.folder.name == chapter.folder.name]


def _numbers(chapter: Chapter, others: list[Chapter]) -> list[list[str]]:
    """Key numbers of a notebook and of its runs on photos: a row a label, then the settings."""
    columns = [chapter, *others]
    labels = dict.fromkeys(label for c in columns for label in c.record.get("key_numbers", {}))
    rows = [[label, *(c.record.get("key_numbers", {}).get(label, "–") for c in columns)] for label in labels]
    return [*rows, ["profile, seed, run time", *(c.settings or "–" for c in columns)]]


def _notebook(root: Path, chapter: Chapter) -> Path | None:
    return _existing(root.parent / "notebooks" / f"{chapter.folder.name}.ipynb")


def _existing(path: Path) -> Path | None:
    return path if path.exists() else None


def title(folder: str) -> str:
    """Heading made from the name of a notebook's folder."""
    words = folder.replace("_", " ")
    number = re.match(r"\d+ ", words)
    start = number.end() if number else 0
    words = words[:start] + words[start:].capitalize()
    return re.sub(r"\bcifar(\d+)", r"CIFAR-\1", words, flags=re.IGNORECASE)
