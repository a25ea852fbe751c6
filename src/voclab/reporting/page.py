"""Pages of figures, tables and texts, in Markdown and HTML: with images inside, or with links to them."""

import base64
import io
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib import figure as mpl
from PIL import Image

from voclab import plotting
from voclab.data import DRAWN
from voclab.data.decoding import read_bytes
from voclab.errors import VoclabError
from voclab.files import make_folder, read_json, write_json, write_text
from voclab.text import from_markdown, html, markdown, plain

RECORD = "run.json"
_LARGEST_SVG = 400_000  # bytes; beyond that (many thousand marks) the PNG is shown instead
_HEAVIEST = 1_400_000  # bytes of a page's images, as long as the PNGs are not larger
_LONGEST_TEXT = 32  # characters that a table cell keeps on one line
_MOST_COLUMNS = 16  # that fit on paper; with more, rows and columns are exchanged
_QUANTITY = r"[-+−<>≈~]?\d[\d.,]*(?: ?(?:%|[a-zµ]{1,3}))?"
_NUMBER_LIKE = re.compile(rf"–|{_QUANTITY}(?:(?: | ?(?:±|/|–|×) ?){_QUANTITY})*(?: \[[-\d., ]*\])?")
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
    "training_s": "Training of all networks, one by one",
}
_DATA = {"voc": "PASCAL VOC", "voc2009": "PASCAL VOC 2009", "cifar10": "CIFAR-10"}
_DATA |= {"kaggle": "the competition's files"}
_DATA |= {name: f"{title} (drawn images)" for name, title in DRAWN.items()}


@dataclass(frozen=True)
class Figure:
    """The image ``<name>.png`` with its texts; a chart has a vector copy, ``<name>.svg``, too.

    ``images``: whether it shows images of the data set; ``None`` in records of versions that did not say.
    """

    name: str
    title: str
    caption: str
    alt: str
    images: bool | None = None


@dataclass(frozen=True)
class Table:
    """A table of formatted cells; ``links`` lead from its first column to folders of pages."""

    name: str
    title: str
    caption: str
    columns: list[str]
    rows: list[list[str]]
    links: dict[str, str] = field(default_factory=dict)

    @property
    def kinds(self) -> list[str]:
        """ "number", "text" or "prose" by column."""
        return [_kind([row[k] for row in self.rows]) for k in range(len(self.columns))]

    def upright(self) -> "Table":
        """The table, rows and columns exchanged where numbers make it too wide for a page."""
        if not len(self.rows) < _MOST_COLUMNS < len(self.columns) or set(self.kinds[1:]) != {"number"}:
            return self
        first, *others = (list(line) for line in zip(self.columns, *self.rows, strict=True))
        return replace(self, columns=first, rows=others)


@dataclass(frozen=True)
class Text:
    """Paragraphs and lists in Markdown, whose only marks are ``**strong**`` and ``*emphasis*``."""

    name: str
    title: str
    markdown: str


@dataclass(frozen=True)
class Chapter:
    """What one notebook, or one report, shows: the record of its run and its items in order."""

    folder: Path  # of its images
    record: Mapping[str, Any]
    items: Sequence[Figure | Table | Text]
    title: str = ""  # none where the page has no other chapter

    @property
    def details(self) -> list[tuple[str, str]]:
        """How the results came about, as label and text, without what is not known."""
        known = {label: self.record.get(key) for key, label in _DETAILS.items()}
        if "Run time" in known:
            known["Run time"] = _duration(known["Run time"])
        return [(label, _said(value)) for label, value in known.items() if value not in (None, "", {}, [])]

    @property
    def settings(self) -> str:
        """Profile, seed and run time in a few words."""
        known = dict(self.details)
        seed = f"seed {known['Seed']}" if "Seed" in known else None
        return ", ".join(filter(None, (known.get("Profile"), seed, known.get("Run time"))))

    @property
    def data(self) -> str:
        """Name of the data set, of earlier records made from its description."""
        said = str(self.record.get("data"))
        earlier = [name for name, title in _DATA.items() if said.startswith(f"{title}:")]
        return self.record.get("dataset") or next(iter(earlier), "")

    @property
    def summary(self) -> str:
        """The answer in one or two sentences, else its first paragraph, in Markdown."""
        return self.record.get("summary") or re.split(r"\n\s*\n", self.record.get("answer", "").strip())[0]

    @property
    def main_figure(self) -> Figure | None:
        """The figure that stands for all: the one chosen, else the first chart, else the first figure."""
        figures = [item for item in self.items if isinstance(item, Figure)]
        chosen = [item for item in figures if item.name == self.record.get("main_figure")]
        return next(iter([*chosen, *filter(self.is_chart, figures), *figures]), None)

    def is_chart(self, item: Figure) -> bool:
        """Whether a figure is known to show no image of the data set; only charts have a vector copy."""
        return not item.images and (self.folder / f"{item.name}.svg").exists()


class Page:
    """Figures, tables and texts in the order in which they are added, with their files in a folder.

    ``source``, the data and weights that the page is about, ends every caption. With ``numbered`` names of
    files begin with the number of the item.
    """

    def __init__(self, folder: str | os.PathLike, source: str = "", *, numbered: bool = True):
        self.folder, self.source = Path(folder), source
        self.items: list[Figure | Table | Text] = []
        self._numbered = numbered

    def figure(
        self, figure: mpl.Figure, name: str, *, title: str, caption: str, alt: str, **options
    ) -> Figure:
        """Save and add a figure; ``options`` are those of :func:`voclab.plotting.save`."""
        colour = any(np.ndim(i.get_array()) == 3 for axis in figure.axes for i in axis.images)
        images = bool(options.get("images")) or colour  # also of whoever forgot to say so
        item = Figure(self._name(name), title, self._caption(caption), alt, images)
        plotting.save(figure, self.folder / item.name, title=title, **options)
        return self._added(item)

    def table(
        self, frame: pd.DataFrame, name: str, *, title: str, caption: str, links: Mapping[str, str] = {}
    ) -> Table:
        """Add a table, whose index and columns have names for people; floats are shown with three decimals.

        ``links`` lead from an entry of the first column to the folder of a page.
        """
        flat = frame.reset_index()
        columns = [plain(column) for column in flat.columns]
        rows = [[_cell(value) for value in row] for row in flat.itertuples(index=False)]
        return self._added(Table(self._name(name), title, self._caption(caption), columns, rows, dict(links)))

    def text(self, title: str, text: str) -> Text:
        """Add a heading and the text below it."""
        return self._added(Text(self._name(f"text-{len(self.items) + 1}"), title, text))

    def chapter(self, record: Mapping[str, Any]) -> Chapter:
        """All of it, for :func:`write_page`."""
        return Chapter(self.folder, record, self.items)

    def close(self, record: Mapping[str, Any]) -> None:
        """Write the record of the run, and drop figures of an earlier one that were not drawn again."""
        make_folder(self.folder)
        write_json(self.folder / RECORD, as_record(record, self.items))
        names = {item.name for item in self.items if isinstance(item, Figure)}
        for file in self.folder.iterdir():
            drawn = re.fullmatch(r"(\d\d_.*)\.(png|svg|json)", file.name)
            if drawn and (drawn[1] not in names or drawn[2] == "json"):
                file.unlink()

    @property
    def images(self) -> list[Path]:
        """The PNGs of its figures."""
        return [self.folder / f"{item.name}.png" for item in self.items if isinstance(item, Figure)]

    def named(self, name: str) -> Figure:
        """The figure that was added under this name.

        Raises:
            VoclabError: there is none.
        """
        figures = [item for item in self.items if isinstance(item, Figure)]
        found = [item for item in figures if name in (item.name, re.sub(r"^\d\d_", "", item.name))]
        if not found:
            known = ", ".join(re.sub(r"^\d\d_", "", item.name) for item in figures) or "none"
            raise VoclabError(f"There is no figure {name}; the figures so far: {known}.")
        return found[-1]

    def _name(self, name: str) -> str:
        return f"{len(self.items) + 1:02d}_{name}" if self._numbered else name

    def _caption(self, caption: str) -> str:
        return " ".join(filter(None, (caption, self.source)))

    def _added(self, item):
        self.items.append(item)
        return item


def as_record(record: Mapping[str, Any], items: Sequence[Figure | Table | Text]) -> dict[str, Any]:
    """What :func:`read` reads."""
    return {**record, "items": [asdict(item) for item in items]}


def read(folder: Path, title: str = "") -> Chapter | None:
    """What :meth:`Page.close` left in a folder, ``None`` if nothing; ``VoclabError`` for a damaged record."""
    path = folder / RECORD
    if not path.exists():
        return None
    record = read_json(path, dict)
    try:
        items = [_item(entry) for entry in record.pop("items", [])]
        texts = [record.get(name, "") for name in ("question", "answer", "summary", "dataset")]
        for label, value in record.get("key_numbers", {}).items():
            texts += [label, value]
        if not all(isinstance(text, str) for text in (*texts, record.get("main_figure") or "")):
            raise TypeError("question, answer and numbers are texts")
    except (AttributeError, TypeError, ValueError) as error:
        raise VoclabError(
            f"{path} is no record of figures and tables; delete it and run its notebook again."
        ) from error
    return Chapter(folder, record, items, title)


def _item(entry: dict) -> Figure | Table | Text:
    """An item of a record; ``TypeError`` or ``ValueError`` if it is none."""
    item = (Table if "rows" in entry else Text if "markdown" in entry else Figure)(**entry)
    texts = [value for key, value in vars(item).items() if key not in ("images", "columns", "rows", "links")]
    if isinstance(item, Figure) and item.images not in (None, True, False):
        raise TypeError("images is true or false")
    if isinstance(item, Table):
        texts += [cell for row in (item.columns, *item.rows) for cell in row] + [*item.links.values()]
        if any(len(row) != len(item.columns) for row in item.rows):
            raise ValueError("rows do not fit the columns")
    if not all(isinstance(text, str) for text in texts) or not re.fullmatch(r"[\w-]+", item.name):
        raise ValueError("not a text")
    return item


def write_page(
    folder: str | os.PathLike,
    title: str,
    introduction: str,
    chapters: Sequence[Chapter],
    *,
    names: tuple[str, str] = ("README.md", "index.html"),
) -> tuple[Path, Path]:
    """Write a page in Markdown and, with its images inside, in HTML; returns both paths.

    The same content always gives the same bytes. ``names`` are of the two files.

    Raises:
        VoclabError: an image that cannot be read, or a file that cannot be written.
    """
    folder, values = Path(folder), {"title": title, "introduction": introduction, "chapters": chapters}
    values |= {"whole": names[1], "pages": {}, "files": {}}
    texts = [render(template, folder, values) for template in ("page.md", "page.html")]
    paths = (folder / names[0], folder / names[1])
    for path, text in zip(paths, texts):
        write_text(path, text)
    return paths


def text_of(page: Page) -> str:
    """The items of a page in Markdown."""
    return render("items.md", page.folder, {"chapter": page.chapter({}), "level": 2})


def data_title(name: str) -> str:
    """What people call a data set; of drawn ones it says that they are."""
    return _DATA.get(name, name)


def render(template: str, folder: Path, values: Mapping[str, Any]) -> str:
    """A template with all values escaped for its medium, unless they are marked as markup.

    With ``whole``, the name of the HTML file, among the values it holds its images; else it links to them.
    Charts of ``chapters``, or among the ``figures`` (folder, figure), are shown as SVG as long as that
    keeps the images below ``most`` bytes.
    """
    is_html = template.endswith(".html")
    escaped = plain if is_html else lambda value: Markup(markdown(value))
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("voclab.reporting"),
        autoescape=is_html,
        finalize=lambda value: value if isinstance(value, Markup) else escaped(value),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    values = {"whole": None, **values}
    figures = values.get("figures") or [
        (c.folder, item) for c in values.get("chapters", ()) for item in c.items if isinstance(item, Figure)
    ]
    vectors = _vectors(figures, values.get("most", _HEAVIEST)) if is_html else set()

    def link(path: Path) -> Markup:
        return Markup(quote(os.fsencode(os.path.relpath(path, folder).replace(os.sep, "/"))))

    def picture(item: Figure, place: Path) -> dict[str, Any]:
        png, svg = (place / f"{item.name}{end}" for end in (".png", ".svg"))
        file = svg if svg in vectors else png
        width, height = _size(png)
        return {
            "width": width,
            "height": height,
            "source": _embedded(file) if values["whole"] else link(file),
        }

    environment.filters |= {
        "prose": _prose if is_html else lambda text: Markup("\n\n".join(map("\n".join, _blocks(text)))),
        "link": link,
        "anchor": lambda name: re.sub(r"[^\w-]", "-", name),
        "kind": lambda item: type(item).__name__,
        "picture": picture,
    }
    text = environment.get_template(template).render(values)
    return text if is_html else re.sub(r"\n{3,}", "\n\n", text.strip()) + "\n"


def _vectors(figures: Sequence[tuple[Path, Figure]], most: int) -> set[Path]:
    """The vector copies to show: the smallest first, as long as all images stay below ``most`` bytes."""
    pngs = [folder / f"{item.name}.png" for folder, item in figures]
    total, chosen, more = sum(map(_weight, pngs)), set(), []
    for png in pngs:
        svg = png.with_name(f"{png.stem}.svg")
        if svg.exists() and _weight(svg) <= _LARGEST_SVG:
            more.append((_weight(svg) - _weight(png), str(svg), svg))
    for extra, _, svg in sorted(more):
        if extra <= 0 or total + extra <= most:
            total += extra
            chosen.add(svg)
    return chosen


def _weight(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _size(png: Path) -> tuple[int, int]:
    """Width and height in pixels."""
    try:
        return Image.open(io.BytesIO(read_bytes(png)), formats=["PNG"]).size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise VoclabError(f"{png} is not a PNG image; delete it and run its notebook again.") from error


def _embedded(file: Path) -> str:
    kind = "svg+xml" if file.suffix == ".svg" else "png"
    return f"data:image/{kind};base64,{base64.b64encode(read_bytes(file)).decode('ascii')}"


# Strong, emphasis, or text in which names are escaped.
_SPAN = re.compile(r"(\*\*|\*)((?:\\.|[^\\*])+)\1|((?:\\.|[^\\*])+|.)", re.DOTALL)
_TAGS = {None: ("", ""), "*": ("<em>", "</em>"), "**": ("<strong>", "</strong>")}


def _prose(text: str) -> Markup:
    """HTML of the Markdown that :class:`Text` knows."""
    parts = []
    for lines in _blocks(text):
        if lines[0].startswith("- "):
            parts.append(f"<ul>{''.join(f'<li>{_spans(line[2:])}</li>' for line in lines)}</ul>")
        else:
            parts.append(f"<p>{_spans(lines[0])}</p>")
    return Markup("".join(parts))


def _blocks(text: str) -> list[list[str]]:
    """Paragraphs of one line each, and lists of a line an entry."""
    blocks = [block.split("\n") for block in re.split(r"\n\s*\n", text.strip()) if block]
    is_list = [all(line.startswith("- ") for line in lines) for lines in blocks]
    return [
        lines if listed else [" ".join(" ".join(lines).split())] for lines, listed in zip(blocks, is_list)
    ]


def _spans(text: str) -> str:
    found = ((_TAGS[m[1]], html(from_markdown(m[2] or m[3]))) for m in _SPAN.finditer(text))
    return "".join(f"{begin}{inner}{end}" for (begin, end), inner in found)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "–" if math.isnan(value) else f"{value:.3f}"
    return plain(value)


def _kind(cells: Sequence[str]) -> str:
    filled = [cell for cell in cells if cell]
    if filled and all(map(_NUMBER_LIKE.fullmatch, filled)):
        return "number"
    return "prose" if any(len(cell) > _LONGEST_TEXT for cell in cells) else "text"


def _said(value: Any) -> str:
    """A JSON value as people write it."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {_said(entry)}" for key, entry in value.items())
    if isinstance(value, list):
        return ", ".join(map(_said, value))
    return value if isinstance(value, str) else json.dumps(value)


def _duration(seconds: Any) -> Any:
    if not isinstance(seconds, int | float) or not 0 <= seconds < 1e9:
        return seconds
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
