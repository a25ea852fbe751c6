"""The gallery: what the notebooks left in ``figures/`` on one page, for reading without running."""

import base64
import math
import os
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from voclab.data.decoding import read_bytes
from voclab.errors import VoclabError
from voclab.files import read_json, write_text
from voclab.text import from_markdown, html, markdown

TITLE = "voclab: results and figures"
INTRODUCTION = "What each notebook asked, what it found, and every table and figure that it made."
_STYLE = Path(__file__).with_name("gallery.css").read_text(encoding="utf-8")
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"  # nothing is fetched, nothing runs
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_LARGEST_SVG = 400_000  # bytes; beyond that (many thousand marks) the PNG is embedded instead
_LONGEST_TEXT = 32  # characters that a table cell keeps on one line
_MANY_COLUMNS = 10  # of a table; with more it is printed smaller
_MOST_COLUMNS = 16  # that fit on paper; with more, rows and columns are exchanged
_WIDE = 600  # pixels; a phone shows wider images at less than their size and lets them be scrolled
_QUANTITY = r"[-+−<>≈~]?\d[\d.,]*(?: ?(?:%|[a-zµ]{1,3}))?"
_NUMBER_LIKE = re.compile(rf"{_QUANTITY}(?:(?: | ?(?:±|/|–|×) ?){_QUANTITY})*")
_DETAILS = {
    "profile": "Profile",
    "seed": "Seed",
    "data": "Data",
    "weights": "Weights",
    "model": "Model",
    "parameters": "Parameters",
    "versions": "Versions",
    "git": "Revision",
    "run_time_s": "Run time",
}


@dataclass(frozen=True)
class Figure:
    """An image with its texts; ``path`` is a PNG, ``width`` and ``height`` its size in pixels."""

    path: Path
    title: str
    caption: str
    alt: str
    width: int
    height: int

    @property
    def vector(self) -> Path | None:
        """The SVG copy, if there is one."""
        path = self.path.with_suffix(".svg")
        return path if path.exists() else None


@dataclass(frozen=True)
class Table:
    """A table of results with formatted cells; ``kinds`` are "number", "text" or "prose" by column."""

    path: Path
    title: str
    caption: str
    columns: list[str]
    rows: list[list[str]]
    kinds: list[str]


@dataclass(frozen=True)
class Chapter:
    """What one notebook left: the record of its run, and its tables and figures in order."""

    name: str
    record: dict[str, Any]
    items: list[Figure | Table] = field(default_factory=list)

    @property
    def title(self) -> str:
        """Heading made from the folder's name."""
        number, name = re.fullmatch(r"(\d*)[_-]?(.*)", self.name, re.DOTALL).groups()
        return f"{number} {_words(name)}".strip()

    @property
    def details(self) -> list[tuple[str, str]]:
        """How the results came about, as label and text, without what is not known."""
        known = [(label, self.record.get(key)) for key, label in _DETAILS.items()]
        return [
            (label, _duration(value) if label == "Run time" else _plain(value))
            for label, value in known
            if value not in (None, "", {}, [])
        ]


def write(figures_dir: str | os.PathLike = "figures") -> tuple[Path, Path]:
    """Write ``README.md`` and the self-contained ``index.html`` of a folder of figures; return both paths.

    Each notebook has a folder there with images ``<nn>_<name>.png`` (and ``.svg``), their texts
    ``<nn>_<name>.json`` (title, caption, alt), tables ``<nn>_<name>.table.json`` (title, caption,
    columns, rows) and ``run.json``, the record of the run. Texts and records may be missing. The same
    folder always gives the same bytes.

    Raises:
        VoclabError: nothing to show, or a file that cannot be read or written.
    """
    folder = Path(figures_dir)
    chapters = read(folder)
    if not chapters:
        raise VoclabError(f"{folder} holds no figures; run the notebooks first (voclab run all).")
    readme, index = folder / "README.md", folder / "index.html"
    others = sorted(path for path in folder.glob("*/README.md") if _chapter(path.parent) is None)
    write_text(readme, _markdown(chapters, folder, TITLE, INTRODUCTION, others=others))
    write_text(index, _html(chapters, TITLE, INTRODUCTION))
    return readme, index


def write_page(folder: str | os.PathLike, title: str, introduction: str) -> tuple[Path, Path]:
    """The same two files in a folder of figures itself, about what is in it; returns both paths.

    Args:
        folder: with images, tables and ``run.json`` as :func:`write` wants them of a notebook.
        title: heading of the page.
        introduction: sentences below it.

    Raises:
        VoclabError: nothing to show, or a file that cannot be read or written.
    """
    folder = Path(folder)
    chapter = _chapter(folder)
    if chapter is None:
        raise VoclabError(f"{folder} holds no figures; make them first.")
    readme, index = folder / "README.md", folder / "index.html"
    write_text(readme, _markdown([chapter], folder, title, introduction, headings=False))
    write_text(index, _html([chapter], title, introduction, headings=False))
    return readme, index


def read(figures_dir: str | os.PathLike) -> list[Chapter]:
    """The chapters of a folder of figures, by name; a folder without any files of ours is none."""
    folder = Path(figures_dir)
    found = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    return [chapter for path in found if (chapter := _chapter(path)) is not None]


def _chapter(path: Path) -> Chapter | None:
    record = path / "run.json"
    tables = [_table(entry) for entry in path.glob("*.table.json")]
    items = [*tables, *(_figure(entry) for entry in path.glob("*.png"))]
    if not items and not record.exists():
        return None
    items.sort(key=lambda item: item.path.name)
    return Chapter(path.name, _record(record) if record.exists() else {}, items)


def _record(path: Path) -> dict[str, Any]:
    record = _object(path)
    for name in ("question", "answer"):
        if not isinstance(record.get(name, ""), str):
            raise VoclabError(f"{path} has no text as its {name}; delete it and run its notebook again.")
    return record


def _object(path: Path) -> dict[str, Any]:
    value = read_json(path)
    if not isinstance(value, dict):
        raise VoclabError(f"{path} does not hold a JSON object; delete it and run its notebook again.")
    return value


def _default_title(path: Path) -> str:
    return _words(re.sub(r"^\d+[_-]", "", path.name.split(".")[0]))


def _words(name: str) -> str:
    words = name.replace("_", " ").capitalize()
    return re.sub(r"\bcifar(\d+)", r"CIFAR-\1", words, flags=re.IGNORECASE)


def _figure(path: Path) -> Figure:
    texts = _object(path.with_suffix(".json")) if path.with_suffix(".json").exists() else {}
    head = read_bytes(path)[:24]
    if len(head) < 24 or not head.startswith(_PNG_SIGNATURE):
        raise VoclabError(f"{path} is not a PNG image; delete it and run its notebook again.")
    width, height = struct.unpack(">II", head[16:24])
    title = _plain(texts.get("title")) or _default_title(path)
    return Figure(path, title, _plain(texts.get("caption")), _plain(texts.get("alt")) or title, width, height)


def _table(path: Path) -> Table:
    texts = _object(path)
    columns, rows = texts.get("columns"), texts.get("rows")
    whole = (
        isinstance(columns, list) and isinstance(rows, list) and all(isinstance(row, list) for row in rows)
    )
    if not whole or any(len(row) != len(columns) for row in rows):
        raise VoclabError(
            f"{path} has rows that do not fit its columns; delete it and run its notebook again."
        )
    formatted = [_column([row[index] for row in rows]) for index in range(len(columns))]
    return Table(
        path,
        _plain(texts.get("title")) or _default_title(path),
        _plain(texts.get("caption")),
        *_upright(
            [_plain(column) for column in columns],
            [list(cells) for cells in zip(*(cells for cells, _ in formatted), strict=True)],
            [kind for _, kind in formatted],
        ),
    )


def _upright(
    columns: list[str], rows: list[list[str]], kinds: list[str]
) -> tuple[list[str], list[list[str]], list[str]]:
    """Columns, rows and kinds of a table, exchanged where numbers make it too wide for a page."""
    if not len(rows) < _MOST_COLUMNS < len(columns) or set(kinds[1:]) != {"number"}:
        return columns, rows, kinds
    turned = [list(line) for line in zip(columns, *rows, strict=True)]
    return turned[0], turned[1:], ["text", *["number"] * len(rows)]


def _column(values: list[Any]) -> tuple[list[str], str]:
    """Cells of a column as texts, floats all with the same number of decimals, and the column's kind."""
    floats = [abs(value) for value in values if isinstance(value, float) and math.isfinite(value)]
    decimals = 3 if not floats or max(floats) < 10 else 1 if max(floats) < 1000 else 0
    cells = [
        f"{value:,.{decimals}f}" if isinstance(value, float) and math.isfinite(value) else _plain(value)
        for value in values
    ]
    filled = [cell for cell in cells if cell not in ("", "–")]
    if (filled or "–" in cells) and all(map(_NUMBER_LIKE.fullmatch, filled)):
        return cells, "number"
    return cells, "prose" if any(len(cell) > _LONGEST_TEXT for cell in cells) else "text"


def _plain(value: Any) -> str:
    """Any JSON value as a readable text."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–" if value is not None else ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(entry)}".strip() for key, entry in value.items())
    if isinstance(value, list):
        return ", ".join(_plain(entry) for entry in value)
    return str(value)


def _duration(seconds: Any) -> str:
    if not isinstance(seconds, int | float) or not 0 <= seconds < 1e9:
        return _plain(seconds)
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def _markdown(
    chapters: list[Chapter],
    folder: Path,
    title: str,
    introduction: str,
    headings: bool = True,
    others: Sequence[Path] = (),
) -> str:
    same = "[index.html](index.html) is the same page in one file."
    parts = [f"# {markdown(title)}", f"{markdown(introduction)} {same}"]
    if others:
        links = (f"[{markdown(_words(path.parent.name))}]({_link(path, folder)})" for path in others)
        parts.append(f"Pages of their own: {', '.join(links)}.")
    for chapter in chapters:
        if headings:
            parts.append(f"## {markdown(chapter.title)}")
        notebook = folder.parent / "notebooks" / f"{chapter.name}.ipynb"
        if notebook.exists():
            parts.append(f"Notebook: [{markdown(notebook.name)}]({_link(notebook, folder)})")
        if chapter.record.get("question"):
            parts.append(f"**Question.** {markdown(_plain(chapter.record['question']))}")
        for spans in _paragraphs(chapter.record.get("answer")):
            parts.append("".join(f"{mark}{_md_span(text)}{mark}" for mark, text in spans))
        for item in chapter.items:
            parts.append(f"### {markdown(item.title)}")
            if isinstance(item, Table):
                parts.append(_markdown_table(item))
            else:
                parts.append(f"![{markdown(item.alt)}]({_link(item.path, folder)})")
            vector = item.vector if isinstance(item, Figure) else None
            copy = f"[Vector copy]({_link(vector, folder)})" if vector else ""
            parts.append(" ".join(filter(None, (markdown(item.caption), copy))))
        if chapter.details:
            parts.append("\n".join(f"- {label}: {markdown(text)}" for label, text in chapter.details))
    return "\n\n".join(filter(None, parts)) + "\n"


def _link(path: Path, folder: Path) -> str:
    return quote(os.fsencode(os.path.relpath(path, folder).replace(os.sep, "/")))


def _markdown_table(table: Table) -> str:
    rule = ["---:" if kind == "number" else "---" for kind in table.kinds]
    lines = [
        [markdown(column) for column in table.columns],
        rule,
        *([markdown(cell) for cell in row] for row in table.rows),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _html(chapters: list[Chapter], title: str, introduction: str, headings: bool = True) -> str:
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<link rel="icon" href="data:,">
<title>{html(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<header>
<h1>{html(title)}</h1>
<p>{html(introduction)}</p>
</header>
{_html_contents(chapters) if len(chapters) > 1 else ""}<main>
{"".join(_html_chapter(chapter, headings) for chapter in chapters)}</main>
</body>
</html>
"""


def _html_contents(chapters: list[Chapter]) -> str:
    return f"""<nav aria-label="Contents">
<h2>Contents</h2>
<ul>
{"".join(_html_entry(chapter) for chapter in chapters)}</ul>
</nav>
"""


def _html_entry(chapter: Chapter) -> str:
    question = chapter.record.get("question")
    said = f"<br>{html(_plain(question))}" if question else ""
    return f'<li><a href="#{_anchor(chapter)}">{html(chapter.title)}</a>{said}</li>\n'


def _html_chapter(chapter: Chapter, heading: bool) -> str:
    parts = [f'<section id="{_anchor(chapter)}">']
    if heading:
        parts.append(f"<h2>{html(chapter.title)}</h2>")
    if chapter.record.get("question"):
        text = html(_plain(chapter.record["question"]))
        parts.append(f'<p class="question"><strong>Question.</strong> {text}</p>')
    answer = [_html_spans(spans) for spans in _paragraphs(chapter.record.get("answer"))]
    if answer:
        parts.append('<div class="answer">' + "".join(f"<p>{text}</p>" for text in answer) + "</div>")
    if len(chapter.items) > 1:
        links = (
            f'<li><a href="#{_anchor(chapter, item)}">{html(item.title)}</a></li>' for item in chapter.items
        )
        parts.append(f'<ul class="items">\n{"".join(links)}\n</ul>')
    for item in chapter.items:
        draw = _html_table if isinstance(item, Table) else _html_figure
        parts.append(draw(item, _anchor(chapter, item)))
    if chapter.details:
        terms = "".join(
            f"<div><dt>{html(label)}</dt><dd>{html(text)}</dd></div>\n" for label, text in chapter.details
        )
        parts.append(f'<h3>How this was made</h3>\n<dl class="details">\n{terms}</dl>')
    return "\n".join([*parts, "</section>\n"])


def _html_figure(figure: Figure, anchor: str) -> str:
    vector = figure.vector
    sharp = vector is not None and vector.stat().st_size <= _LARGEST_SVG
    kind, source = ("svg+xml", vector) if sharp else ("png", figure.path)
    data = base64.b64encode(read_bytes(source)).decode("ascii")
    size = f'width="{figure.width}" height="{figure.height}" style="--natural: {figure.width}px"'
    return f"""<figure id="{anchor}" class="image{" wide" if figure.width > _WIDE else ""}">
<h3>{html(figure.title)}</h3>
<div class="scroll">
<img alt="{html(figure.alt)}" {size} src="data:image/{kind};base64,{data}">
</div>
<figcaption>{html(figure.caption)}</figcaption>
</figure>"""


def _html_table(table: Table, anchor: str) -> str:
    head = "".join(_cell("th", "col", kind, text) for kind, text in zip(table.kinds, table.columns))
    rows = []
    for row in table.rows:
        tags = [("th", "row"), *[("td", "")] * (len(row) - 1)]
        rows.append("".join(_cell(*tag, kind, text) for tag, kind, text in zip(tags, table.kinds, row)))
    body = "\n".join(f"<tr>{row}</tr>" for row in rows)
    return f"""<figure id="{anchor}" class="table{" many" if len(table.columns) > _MANY_COLUMNS else ""}">
<h3>{html(table.title)}</h3>
<div class="scroll" tabindex="0" role="region" aria-label="{html(table.title)}">
<table>
<thead><tr>{head}</tr></thead>
<tbody>
{body}
</tbody>
</table>
</div>
<figcaption>{html(table.caption)}</figcaption>
</figure>"""


def _cell(tag: str, scope: str, kind: str, text: str) -> str:
    attributes = f' scope="{scope}"' if scope else ""
    return f'<{tag}{attributes} class="{kind}">{html(text)}</{tag}>'


def _anchor(chapter: Chapter, item: Figure | Table | None = None) -> str:
    name = chapter.name if item is None else f"{chapter.name}-{item.path.name.removesuffix('.png')}"
    return re.sub(r"[^\w-]", "-", name)


# An answer is Markdown: strong, emphasis, or text in which names are escaped.
_SPAN = re.compile(r"(\*\*|\*)((?:\\.|[^\\*])+)\1|((?:\\.|[^\\*])+|.)", re.DOTALL)


def _paragraphs(answer: str | None) -> list[list[tuple[str, str]]]:
    """Paragraphs of an answer as (mark, text) spans; its Markdown is ``**strong**`` and ``*emphasis*``."""
    blocks = re.split(r"\n\s*\n", _plain(answer) if answer else "")
    spans = [[(m[1] or "", from_markdown(m[2] or m[3])) for m in _SPAN.finditer(block)] for block in blocks]
    return [paragraph for paragraph in spans if any(text for _, text in paragraph)]


def _md_span(text: str) -> str:
    """Escaped like other text, with the spaces that separate it from its neighbours."""
    before, after = text[: len(text) - len(text.lstrip())], text[len(text.rstrip()) :]
    return f"{before}{markdown(text)}{after}" if text.strip() else text


def _html_spans(spans: list[tuple[str, str]]) -> str:
    tags = {"": ("", ""), "*": ("<em>", "</em>"), "**": ("<strong>", "</strong>")}
    return "".join(f"{tags[mark][0]}{html(text)}{tags[mark][1]}" for mark, text in spans)
