"""Pages of figures, tables and texts: in Markdown and HTML, from what a notebook or a report left."""

import base64
import io
import json
import re
import shutil
from urllib.parse import unquote

import pandas as pd
import pytest
from bs4 import BeautifulSoup
from PIL import Image

from voclab import cli
from voclab.errors import VoclabError
from voclab.reporting import gallery
from voclab.reporting.page import Page, read, write_page
from voclab.text import markdown

HOSTILE = '<script>alert(1)</script> "quoted" & <b>bold</b> | pipe [link](http://x.test) `code`'


def cells(table):
    """Rows of (kind, text)."""
    return [
        [(*cell["class"], cell.get_text()) for cell in row.select("th, td")] for row in table.select("tr")
    ]


def image(path, size=(6, 4)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (1, 2, 3)).save(path)


def record(folder, *items, **facts):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(json.dumps({**facts, "items": items}))


def table(*rows, name="03_results", title="Results", caption="On the test part."):
    columns = ["model", "mAP", "size", "time", "note"][: len(rows[0])]
    return {"name": name, "title": title, "caption": caption, "columns": columns, "rows": rows}


def written(figures, notebook="01_classification"):
    """The page of a notebook, in Markdown and HTML; "" for the first page."""
    gallery.write(figures)
    folder = figures / notebook
    return (folder / "README.md").read_text(), BeautifulSoup(
        (folder / "index.html").read_text(), "html.parser"
    )


@pytest.fixture
def figures(tmp_path):
    """Two notebooks: a complete one, hostile texts included, and one with nothing but an image."""
    root = tmp_path / "figures"
    first = root / "01_classification"
    image(first / "02_curves.png", (60, 20))
    (first / "02_curves.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
    image(first / "10_images.png", (30, 40))
    rows = (
        ["random", "0.070", "0", "0 s", ""],
        ["transfer", "0.871", "2,257,984", "4 min 02 s", HOSTILE],
        ["failed", "–", "", "–", ""],
    )
    record(
        first,
        {"name": "02_curves", "title": "Curves", "caption": "Loss over epochs.", "alt": "Two falling lines"},
        table(*rows),
        {"name": "10_images", "title": HOSTILE, "caption": HOSTILE, "alt": HOSTILE},
        question="What does transfer buy?",
        answer=markdown(HOSTILE),
        data="toyvoc",
        weights=None,
        parameters={"epsilon": 0.03},
        git="abc1234",
        run_time_s=125.2,
    )
    image(root / "02_segmentation" / "01_masks.png")
    masks = {"name": "01_masks", "title": "Masks", "caption": "", "alt": "Masks"}
    record(root / "02_segmentation", masks)
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "01_classification.ipynb").write_text("{}")
    (root / "empty").mkdir()
    return root


def test_every_link_and_image_is_a_file_beside_the_page(figures):
    for notebook in ("", "01_classification", "02_segmentation"):
        _, page = written(figures, notebook)
        ids = [element["id"] for element in page.select("[id]")]
        assert len(ids) == len(set(ids))
        for element in page.select("[src], a"):
            target = unquote(element.get("src") or element["href"])
            assert target[1:] in ids if target[0] == "#" else (figures / notebook / target).exists()
        assert not page.select("script, iframe, object, b")
        assert not any(name.startswith("on") for e in page.find_all() for name in e.attrs)


def test_every_image_is_lazy_with_size_and_alternative_text(figures):
    svg = figures / "01_classification" / "02_curves.svg"
    _, page = written(figures)
    images = page.select("img")
    assert [image["alt"] for image in images] == ["Two falling lines", HOSTILE]
    assert [image["src"] for image in images] == ["02_curves.svg", "10_images.png"]
    assert [(image["width"], image["height"]) for image in images] == [("60", "20"), ("30", "40")]
    assert {image["loading"] for image in images} == {"lazy"}
    svg.write_text(svg.read_text() + " " * 500_000)
    assert written(figures)[1].img["src"] == "02_curves.png"  # too large to be shown


def test_vector_copies_are_shown_as_long_as_the_page_stays_light(tmp_path):
    folder, items = tmp_path / "figures" / "01_first", []
    for k in range(9):
        image(folder / f"0{k}_a.png")
        (folder / f"0{k}_a.svg").write_text("x" * (200_000 + k))
        items.append({"name": f"0{k}_a", "title": "", "caption": "", "alt": "a", "images": False})
    record(folder, *items)
    shown = [image["src"] for image in written(tmp_path / "figures", "01_first")[1].select("img")]
    assert [name[-3:] for name in shown] == ["svg"] * 6 + ["png"] * 3


def test_a_page_of_its_own_holds_its_images(figures, tmp_path):
    chapter = read(figures / "01_classification")
    _, index = write_page(tmp_path / "alone", "Alone", "All.", [chapter])
    kinds, data = zip(
        *(i["src"].split(";base64,") for i in BeautifulSoup(index.read_text(), "html.parser").select("img"))
    )
    assert kinds == ("data:image/svg+xml", "data:image/png")
    assert base64.b64decode(data[0]) == (figures / "01_classification" / "02_curves.svg").read_bytes()
    assert Image.open(io.BytesIO(base64.b64decode(data[1]))).size == (30, 40)


def on_photos(figures, folder, dataset="voc2009"):
    """A run on photos made of the notebook in ``figures``."""
    target = folder / "01_classification"
    shutil.copytree(figures / "01_classification", target)
    found = json.loads((target / "run.json").read_text())
    for item, images in zip((found["items"][0], found["items"][2]), (False, True)):
        item["images"] = images
    found |= {"dataset": dataset, "main_figure": "10_images", "key_numbers": {"mAP": "0.87 (574 photos)"}}
    (target / "run.json").write_text(json.dumps(found))
    return folder


def test_results_on_photos_are_published_without_a_photo(figures, tmp_path):
    real, target = on_photos(figures, tmp_path / "real"), figures / "voc2009" / "01_classification"
    image(target / "10_images.png")  # from before
    assert cli.main(["gallery", "--figures", str(figures), "--real", str(real)]) == 0
    names = {"02_curves.png", "02_curves.svg", "run.json", "README.md", "index.html"}
    assert {path.name for path in target.rglob("*")} == names
    assert "10_images" not in (target / "run.json").read_text()
    _, first = written(figures, "")
    row = first.table.select("tr")[1]
    assert [cell.get_text() for cell in row.select("th, td")] == ["mAP", "–", "0.87 (574 photos)"]
    assert first.select('a[href="voc2009/01_classification/index.html"]')


def test_drawn_or_unknown_images_are_not_published(figures, tmp_path):
    for data, said in (("toyvoc", "drawn images"), ("pairs", "names no data set"), ("", "names no data set")):
        real = on_photos(figures, tmp_path / f"real-{data}", data)
        with pytest.raises(VoclabError, match=said):
            gallery.publish(real, figures)
    with pytest.raises(VoclabError, match=r"holds no run\.json"):
        gallery.publish(tmp_path / "nothing", figures)
    assert not (figures / "voc2009").exists()


def test_a_table_keeps_its_cells_and_aligns_numbers(figures):
    readme, page = written(figures)
    (found,) = map(cells, page.select("table"))
    assert [[text for _, text in row] for row in found] == [
        ["model", "mAP", "size", "time", "note"],
        ["random", "0.070", "0", "0 s", ""],
        ["transfer", "0.871", "2,257,984", "4 min 02 s", HOSTILE],
        ["failed", "–", "", "–", ""],
    ]
    for row in found:
        assert [kind for kind, _ in row] == ["text", "number", "number", "number", "prose"]
    rows = [line for line in readme.splitlines() if line.startswith("| ")]
    assert [len(re.findall(r"(?<!\\)\|", row)) for row in rows] == [6] * 5
    assert rows[1] == "| --- | ---: | ---: | ---: | --- |"


def test_texts_and_the_record_of_the_run_are_shown_in_order(figures):
    _, page = written(figures)
    texts = list(page.strings)
    shown = " ".join(texts)
    for text in ("What does transfer buy?", "Loss over epochs.", "2 min 05 s", "abc1234", "epsilon 0.03"):
        assert text in shown
    assert texts.count(HOSTILE) >= 3  # as text: in the answer, the heading and the caption
    assert "Weights" not in shown  # not known in this record
    assert "Empty" not in shown
    headings = [text for text in texts if text in ("Curves", "Results")]
    assert headings == ["Curves", "Results"] * 2  # the list of items, then they


def test_the_readme_links_to_files_that_exist_and_shows_texts_as_text(figures):
    readme, _ = written(figures)
    targets = re.findall(r"(?<!\\)\]\(([^)]*)\)", readme)
    assert len(targets) == 5  # the first page, the notebook, two images, one vector copy
    for target in targets:
        assert (figures / "01_classification" / unquote(target)).exists()
    assert not {"<script>", "<b>"} & set(re.findall(r"<\w+>", readme))


def test_the_same_folder_gives_the_same_bytes(figures):
    first = [path.read_bytes() for path in gallery.write(figures)]
    assert [path.read_bytes() for path in gallery.write(figures)] == first


def test_nothing_to_show_says_what_to_run(tmp_path):
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(
            VoclabError, match=r"holds no figures; run the notebooks first \(voclab run all\)"
        ):
            gallery.write(folder)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("02_curves.png", "GIF89a"),
        ("run.json", "{"),
        ("run.json", '{"answer": 3}'),
        ("run.json", '{"key_numbers": ["mAP"]}'),
        ("run.json", '{"key_numbers": {"mAP": 0.5}}'),
        ("run.json", '{"main_figure": 3}'),
        ("run.json", '{"items": [3]}'),
        ("run.json", '{"items": [{"name": "x", "title": "", "caption": "", "alt": "", "images": "no"}]}'),
        ("run.json", '{"items": [{"name": "../x", "title": "", "caption": "", "alt": ""}]}'),
        ("run.json", json.dumps({"items": [table(["a", "b"], ["c"])]})),
        ("run.json", json.dumps({"items": [table(["a", 3])]})),
        ("run.json", '{"items": [{"name": "x", "title": "no rows"}]}'),
    ],
)
def test_a_damaged_file_is_named_and_earlier_pages_stay(figures, name, content):
    pages = gallery.write(figures)
    before = [path.read_bytes() for path in pages]
    (figures / "01_classification" / name).write_text(content)
    with pytest.raises(VoclabError, match=re.escape(name)):
        gallery.write(figures)
    assert [path.read_bytes() for path in pages] == before


def test_an_answer_keeps_its_paragraphs_lists_and_emphasis(tmp_path):
    answer = "**Why?** Because of *it*, 2 * 3 < 7.\n\n- one \\*\n- *two*"
    record(tmp_path / "figures" / "01_first", question="Why?", answer=answer)
    gallery.write(tmp_path / "figures")
    readme, index = (
        (tmp_path / "figures/01_first" / name).read_text() for name in ("README.md", "index.html")
    )
    assert "<p><strong>Why?</strong> Because of <em>it</em>, 2 * 3 &lt; 7.</p>" in index
    assert "<ul><li>one *</li><li><em>two</em></li></ul>" in index
    assert answer in readme


@pytest.mark.parametrize(
    ("folder", "title"),
    [("05_cifar10", "05 CIFAR-10"), ("01_classification", "01 Classification"), ("two_words", "Two words")],
)
def test_a_chapter_is_called_as_people_write_it(folder, title):
    assert gallery.title(folder) == title


def test_a_table_too_wide_for_a_page_is_turned(tmp_path):
    classes = [f"class {k}" for k in range(17)]
    scores = pd.DataFrame([[0.5] * 16 + [0.25], [float("nan")] * 17], ["net", "other"], classes)
    page = Page(tmp_path / "figures" / "01_first")
    page.table(scores.rename_axis("model"), "wide", title="Wide", caption="")
    texts = pd.DataFrame([["a"] * 17], ["net"], classes).rename_axis("model")
    page.table(texts, "texts", title="Texts", caption="")
    page.close({})
    readme, index = written(tmp_path / "figures", "01_first")
    turned, kept = map(cells, index.select("table"))
    assert [[text for _, text in row] for row in turned[:2]] == [
        ["model", "net", "other"],
        ["class 0", "0.500", "–"],
    ]
    assert turned[-1] == [("text", "class 16"), ("number", "0.250"), ("number", "–")]
    assert (len(turned), len(kept[0])) == (18, 18)
    assert "| model | net | other |\n| --- | ---: | ---: |\n| class 0 | 0.500 | – |" in readme


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["–", ""], "number"),
        (["1.0 %", "43.2 % [41.0, 45.1]"], "number"),
        (["0.5 ± 0.1", "3 / 4", "1,234"], "number"),
        (["1.0", "word"], "text"),
        (["", ""], "text"),
        (["a word " * 6], "prose"),
    ],
)
def test_a_column_is_of_numbers_texts_or_prose(tmp_path, cells, kind):
    page = Page(tmp_path)
    frame = pd.DataFrame({"a": cells}, index=pd.Index(range(len(cells)), name="row"))
    assert page.table(frame, "t", title="", caption="").kinds[1] == kind


def test_figures_of_an_earlier_page_go_when_the_new_one_is_complete(tmp_path):
    for name in ("01_old.png", "01_old.svg", "01_old.json", "02_t.table.json", "notes.png"):
        (tmp_path / name).touch()
    page = Page(tmp_path)
    assert len(list(tmp_path.iterdir())) == 5
    page.close({"seed": 0})
    assert {path.name for path in tmp_path.iterdir()} == {"notes.png", "run.json"}


def test_a_page_of_its_own_leads_to_others_and_is_named_by_the_gallery(figures):
    folder = figures / "robustness"
    page = Page(folder, "Data: ToyVOC.")
    frame = pd.DataFrame({"mCE": ["100 %"]}, index=pd.Index(["a net"], name="network"))
    page.table(frame, "all", title="All", caption="Errors.", links={"a net": "a net"})
    page.text("Note", "- one *thing*")
    readme, index = write_page(folder, "Robustness", "All of it.", [page.chapter({"seed": 1})])
    assert "| [a net](a%20net/README.md) | 100 % |" in readme.read_text()
    assert "Errors. Data: ToyVOC.\n\n## Note\n\n- one *thing*\n\n- Seed: 1\n" in readme.read_text()
    found = BeautifulSoup(index.read_text(), "html.parser")
    assert found.select('a[href="a%20net/index.html"]')
    assert [heading.name for heading in found.find_all(re.compile("h[1-6]"))] == ["h1", "h2", "h2", "h2"]
    assert "Other pages: [Robustness](robustness/README.md)." in written(figures, "")[0]
