import base64
import io
import json
import re
from html.parser import HTMLParser
from urllib.parse import unquote

import pytest
from PIL import Image

from voclab.errors import VoclabError
from voclab.reporting import gallery

HOSTILE = '<script>alert(1)</script> "quoted" & <b>bold</b> | pipe [link](http://x.test) `code`'
VOID_TAGS = {"meta", "link", "img", "br"}


class Page(HTMLParser):
    """What a page holds: tags with attributes, tables as lists of rows, visible texts; tags must match."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.tables, self.texts, self.open = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID_TAGS:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("th", "td"):
            self.tables[-1][-1].append((dict(attributes)["class"], ""))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)
        if self.open and self.open[-1] in ("th", "td"):
            kind, text = self.tables[-1][-1][-1]
            self.tables[-1][-1][-1] = (kind, text + data)

    def of(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def image(path, size=(6, 4), colour=(1, 2, 3)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


def put(path, **value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


@pytest.fixture
def figures(tmp_path):
    """Two notebooks: a complete one, hostile texts included, and one with nothing but an image."""
    root = tmp_path / "figures"
    first = root / "01_classification"
    image(first / "02_curves.png", (60, 20))
    put(first / "02_curves.json", title="Curves", caption="Loss over epochs.", alt="Two falling lines")
    (first / "02_curves.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
    image(first / "10_images.png", (30, 40))
    put(first / "10_images.json", title=HOSTILE, caption=HOSTILE, alt=HOSTILE)
    put(
        first / "03_results.table.json",
        title="Results",
        caption="On the test part.",
        columns=["model", "mAP", "parameters", "time", "note"],
        rows=[
            ["random", 0.07, 0, "0 s", None],
            ["transfer", 0.8712, 2257984, "4 min 02 s", HOSTILE],
            ["failed", float("nan"), None, "–", ""],
        ],
    )
    put(
        first / "run.json",
        question="What does transfer buy?",
        answer=HOSTILE,
        profile="demo",
        seed=0,
        data="toyvoc",
        weights=None,
        parameters={"epsilon": 0.03},
        versions={"keras": "3.15.1"},
        git="abc1234",
        run_time_s=125.2,
    )
    image(root / "02_segmentation" / "01_masks with space.png")
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "01_classification.ipynb").write_text("{}")
    (root / "empty").mkdir()
    return root


@pytest.fixture
def page(figures):
    return Page(gallery.write(figures)[1].read_text())


def test_page_is_self_contained_and_its_anchors_exist(page):
    for _, attributes in page.tags:
        for name in ("src", "href", "srcset", "action", "data"):
            assert attributes.get(name, "#").startswith(("#", "data:"))
        assert not any(name.startswith("on") for name in attributes)
    assert {"script", "iframe", "object", "b"}.isdisjoint(tag for tag, _ in page.tags)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    targets = {a["href"][1:] for a in page.of("a")}
    assert len(ids) == len(set(ids))
    assert targets
    assert targets <= set(ids)


def test_every_image_is_embedded_with_size_and_alternative_text(page, figures):
    images = page.of("img")
    assert [image["alt"] for image in images] == ["Two falling lines", HOSTILE, "Masks with space"]
    kinds, data = zip(*(image["src"].split(";base64,") for image in images))
    assert kinds == ("data:image/svg+xml", "data:image/png", "data:image/png")
    assert [(image["width"], image["height"]) for image in images] == [("60", "20"), ("30", "40"), ("6", "4")]
    assert base64.b64decode(data[0]) == (figures / "01_classification" / "02_curves.svg").read_bytes()
    assert Image.open(io.BytesIO(base64.b64decode(data[1]))).size == (30, 40)


def test_huge_vector_copy_gives_way_to_the_image(figures):
    svg = figures / "01_classification" / "02_curves.svg"
    svg.write_text(svg.read_text() + " " * 500_000)
    assert Page(gallery.write(figures)[1].read_text()).of("img")[0]["src"].startswith("data:image/png")


def test_table_keeps_its_cells_and_aligns_numbers(page):
    (table,) = page.tables
    assert [[text for _, text in row] for row in table] == [
        ["model", "mAP", "parameters", "time", "note"],
        ["random", "0.070", "0", "0 s", ""],
        ["transfer", "0.871", "2,257,984", "4 min 02 s", HOSTILE],
        ["failed", "–", "", "–", ""],
    ]
    for row in table:
        assert [kind for kind, _ in row] == ["text", "number", "number", "number", "prose"]


def test_texts_and_the_record_of_the_run_are_shown(page):
    shown = " ".join(page.texts)
    for text in (
        "What does transfer buy?",
        "Loss over epochs.",
        "On the test part.",
        "2 min 05 s",
        "abc1234",
    ):
        assert text in shown
    assert page.texts.count(HOSTILE) >= 2  # as text, in the heading and the caption
    assert "epsilon 0.03" in shown
    assert "Weights" not in shown  # not known in this record
    assert "Empty" not in shown


def test_items_are_in_the_order_of_their_numbers(page):
    headings = [text for text in page.texts if text in ("Curves", "Results", HOSTILE, "Masks with space")]
    rest = headings[headings.index("Curves") :]  # the answer above the items is hostile too
    assert rest.index("Results") < rest.index(HOSTILE)


def test_readme_links_to_files_that_exist(figures):
    text = gallery.write(figures)[0].read_text()
    targets = re.findall(r"(?<!\\)\]\(([^)]*)\)", text)
    assert len(targets) == 6  # the page, the notebook, three images, one vector copy
    for target in targets:
        assert (figures / unquote(target)).exists()


def test_readme_shows_hostile_texts_as_text(figures):
    text = gallery.write(figures)[0].read_text()
    assert "<script>" not in text
    assert "<b>" not in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert [len(re.findall(r"(?<!\\)\|", row)) for row in rows] == [6] * 5
    assert rows[1] == "| --- | ---: | ---: | ---: | --- |"


def test_same_folder_same_bytes_and_own_output_is_not_an_item(figures):
    first = [path.read_bytes() for path in gallery.write(figures)]
    assert [path.read_bytes() for path in gallery.write(figures)] == first


@pytest.mark.parametrize("folder", ["empty", "missing"])
def test_nothing_to_show_says_what_to_run(tmp_path, folder):
    (tmp_path / "empty").mkdir()
    with pytest.raises(VoclabError, match=r"holds no figures; run the notebooks first \(voclab run all\)"):
        gallery.write(tmp_path / folder)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("02_curves.png", b"GIF89a"),
        ("02_curves.png", b""),
        ("02_curves.json", b"[]"),
        ("02_curves.json", b"\xff\xfe"),
        ("run.json", b"{"),
        ("run.json", b'{"answer": 3}'),
        ("run.json", b'{"question": ["why"]}'),
        ("03_results.table.json", b'{"columns": ["a", "b"], "rows": [["1", "2"], ["3"]]}'),
        ("03_results.table.json", b'{"title": "no rows"}'),
    ],
)
def test_damaged_file_is_named_and_earlier_pages_stay(figures, name, content):
    before = [path.read_bytes() for path in gallery.write(figures)]
    (figures / "01_classification" / name).write_bytes(content)
    with pytest.raises(VoclabError, match=re.escape(name)):
        gallery.write(figures)
    assert [(figures / page).read_bytes() for page in ("README.md", "index.html")] == before


def test_a_time_that_is_none_is_shown_as_it_is(tmp_path):
    for seconds in (10**400, -1, float("nan"), "long", [3]):
        put(tmp_path / "figures" / "01_first" / "run.json", run_time_s=seconds)
        gallery.write(tmp_path / "figures")


@pytest.mark.parametrize("name", ["02_curves.png", "02_curves.svg"])
def test_a_folder_or_a_link_to_itself_in_the_place_of_a_figure_is_named(figures, name):
    place = figures / "01_classification" / name
    place.unlink()
    place.mkdir()
    with pytest.raises(VoclabError, match=re.escape(name)):
        gallery.write(figures)
    place.rmdir()
    place.symlink_to(name)
    if name.endswith(".png"):
        with pytest.raises(VoclabError, match=re.escape(name)):
            gallery.write(figures)


def test_an_answer_keeps_its_paragraphs_and_emphasis(tmp_path):
    folder = tmp_path / "figures" / "01_first"
    folder.mkdir(parents=True)
    answer = "**Why?** Because of *it*, 2 * 3 < 7.\n\nAnd more."
    (folder / "run.json").write_text(json.dumps({"question": "Why?", "answer": answer}))
    readme, index = (path.read_text() for path in gallery.write(tmp_path / "figures"))
    assert "<p><strong>Why?</strong> Because of <em>it</em>, 2 * 3 &lt; 7.</p><p>And more.</p>" in index
    assert "**Why?** Because of *it*, 2 " in readme


def test_a_chapter_is_called_as_people_write_it():
    names = ["05_cifar10", "01_classification", "two_words"]
    assert [gallery.Chapter(name, {}).title for name in names] == [
        "05 CIFAR-10",
        "01 Classification",
        "Two words",
    ]


def test_a_table_too_wide_for_a_page_is_turned(tmp_path):
    classes = [f"class {k}" for k in range(17)]
    folder = tmp_path / "figures" / "01_first"
    rows = [["net", *[0.5] * 16, 0.25], ["other", *[None] * 18][:18]]
    put(folder / "01_wide.table.json", title="Wide", columns=["model", *classes], rows=rows)
    put(folder / "02_texts.table.json", title="Texts", columns=["model", *classes], rows=[["net", *"a" * 17]])
    readme, index = (path.read_text() for path in gallery.write(tmp_path / "figures"))
    turned, kept = Page(index).tables
    assert [[text for _, text in row] for row in turned[:2]] == [
        ["model", "net", "other"],
        ["class 0", "0.500", ""],
    ]
    assert turned[-1] == [("text", "class 16"), ("number", "0.250"), ("number", "")]
    assert len(turned) == 18
    assert len(kept[0]) == 18
    assert "| model | net | other |\n| --- | ---: | ---: |\n| class 0 | 0.500 |  |" in readme


def test_a_column_of_dashes_stands_like_the_numbers_beside_it(tmp_path):
    put(
        tmp_path / "figures" / "01_first" / "01_a.table.json",
        columns=["a", "none", "empty"],
        rows=[["x", "–", ""], ["y", float("nan"), None]],
    )
    (table,) = Page(gallery.write(tmp_path / "figures")[1].read_text()).tables
    assert [kind for kind, _ in table[0]] == ["text", "number", "text"]


def test_pages_below_are_named_and_a_page_of_one_folder_has_one_heading(figures):
    put(figures / "robustness" / "net" / "run.json", question="What harms net?")
    gallery.write_page(figures / "robustness" / "net", "Robustness of net", "All of it.")
    (figures / "robustness" / "README.md").write_text("# Robustness\n")
    assert "Pages of their own: [Robustness](robustness/README.md)." in gallery.write(figures)[0].read_text()
    page = Page((figures / "robustness" / "net" / "index.html").read_text())
    assert [name for name, _ in page.tags if name in ("h1", "h2")] == ["h1"]
