"""Names of classes, files and models are text in every medium, whatever letters they have."""

import io
import os
import subprocess
import sys
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from matplotlib.text import Text
from PIL import Image

from voclab import files, kaggle, plotting, terminal
from voclab.corruptions import CONSISTENCY
from voclab.errors import VoclabError
from voclab.evaluation.consistency import Consistency, Study, Versions
from voclab.plotting import letters
from voclab.reporting import gallery, pages, session
from voclab.reporting.page import Page
from voclab.text import from_markdown, html, markdown, plain
from voclab.training import masks

NAMES = (
    "50$ and 5$ bill", "<b onmouseover=alert(1)>x", "a_1^2", "猫", "_hidden", "\\frac{x} $\\alpha$",
    "#1 100% & ~{z}", "Кошка", "قطة", "😀 cat", "cat犬", "क्षि", "a\x1b[31mb\tc\x07", "caf\udce9",
    "x\u202egnp.exe", "a|b `c` *d*", "[l](h)",
)  # fmt: skip
CONTROLS = frozenset("\x1b\x9b\r\x07\b\u202e\u2066\u200f\udce9\x00\x7f")
HOSTILE = "\x1b[31m" + "".join(sorted(CONTROLS))


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A folder of images of classes that a file system can name so."""
    root = tmp_path_factory.mktemp("data") / "images"
    names = [name for name in NAMES if not set(name) & set("|*")]  # which Windows has not
    for number, name in enumerate(names):
        for k in range(3):
            try:
                (root / name).mkdir(parents=True, exist_ok=True)
            except (OSError, UnicodeError):
                break
            Image.fromarray(np.full((8, 8, 3), 10 * number + k, np.uint8)).save(root / name / f"{k}.png")
    return root


@pytest.mark.parametrize("text", [*NAMES, HOSTILE, "two\nlines"])
def test_what_is_printed_commands_no_terminal(text, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), "utf-8"))  # strict
    terminal.say(text)
    sys.stdout.flush()
    printed = sys.stdout.buffer.getvalue().decode()
    monkeypatch.undo()
    terminal.tell(text)
    assert capsys.readouterr().err == printed == plain(text) + "\n"
    assert not set(printed) & CONTROLS
    assert str(VoclabError(text)) == plain(text)


def test_progress_in_a_notebook_moves_the_cursor_only_to_begin(capsys):
    session.progress(HOSTILE)
    printed = capsys.readouterr().out
    assert printed.startswith("\r")
    assert not set(printed[1:]) & CONTROLS


NO_MARKS = ("# no heading", "1. no list", "- none", "3) x", "---", "===", "a  \n b", "\\", "R&D &amp;")


@pytest.mark.parametrize("text", [*NAMES, HOSTILE, *NO_MARKS])
def test_markdown_shows_names_as_they_are(text):
    from markdown_it import MarkdownIt

    made = MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(markdown(text))
    shown = " ".join(plain(text).split())
    assert made == f"<p>{html(shown).replace('&#x27;', chr(39))}</p>\n"
    assert from_markdown(markdown(text)) == shown


def _figures(names):
    n = len(names)
    rng = np.random.default_rng(0)
    shares, image = rng.random(n), np.full((40, 50, 3), 200, np.uint8)
    mask = np.repeat(np.repeat(np.arange(1, 26).reshape(5, 5), 20, 0), 24, 1).astype(np.uint8) % (n + 1)
    big = np.full((*mask.shape, 3), 90, np.uint8)
    history = [{"epoch": 1, "map": 0.1, "loss": 1.0}]
    return {
        "frequency": (plotting.class_frequency({"_a $x$": shares, "猫": shares}, names), {*names, "_a $x$"}),
        "confusion": (plotting.confusion(rng.random((n, n)), names, "x $1$", "_y"), {*names, "x $1$", "_y"}),
        "scores": (plotting.per_class_scores({"_run": shares}, names, "ap $"), {*names, "_run (mean"}),
        "grid": (plotting.image_grid([image] * n, names, 4), set(names)),
        "masks": (plotting.segmentation_samples([big], [mask], names, 1), set(names)),
        "curves": (plotting.learning_curves({"_a$b$": history, "猫": history}, {"_l": 1}), {"_a$b$", "_l"}),
        "bounds": (
            plotting.fooling_over_epsilon({"_$": {"_^": ([4, 8], [0, 1])}}, {"_$": "$"}),
            {"_$", "_^"},
        ),
        "trade-off": (plotting.trade_off({"_v$": [(30, 0.2, r"\x $")]}), {"_v$", r"\x $"}),
        "defence": (plotting.defence({"_v$": {"_a": 0.2}}, "$"), {"_v$", "_a"}),
        "versions": (plotting.perturbed_versions([image] * 2, ["a", "$b"], ["_x", "$y$ 猫"], [1, 0]), {"$b"}),
    }  # fmt: skip


def test_figures_show_names_as_they_are(tmp_path):
    with warnings.catch_warnings(), plt.rc_context(plotting.STYLE):
        warnings.simplefilter("error")  # of glyphs that are missing, and labels that are left out
        for name, (figure, wanted) in _figures(NAMES).items():
            if name == "frequency":
                plotting.save(figure, tmp_path / name, title="_T$x$ \\ 猫")
                assert figure.get_suptitle().strip("\u200b").startswith("_T$x$ \\ ")
            figure.draw_without_rendering()
            plt.close(figure)
            texts = [text for text in figure.findobj(Text) if text.get_text()]
            assert not any(text.get_parse_math() or text.get_usetex() for text in texts), name
            shown = "\n".join(text.get_text() for text in texts).replace("\u200b", "")
            missing = [one for one in wanted if letters.lettered([one])[0][0].strip("\u200b") not in shown]
            assert not missing, name


def test_long_names_leave_room_for_the_figure_and_are_kept_apart(tmp_path):
    names = ["W" * 300, "W" * 299, "cat", "Corn_(maize)___Cercospora_leaf_spot Gray_leaf_spot"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of a figure that has no room
        plotting.save(plotting.confusion(np.eye(4), names, "x", "y"), tmp_path / "long", title="")
    width, height = Image.open(tmp_path / "long.png").size
    assert max(width, height) < 2000
    drawn, _ = letters.lettered({name: k for k, name in enumerate(names)})
    assert list(drawn) == ["W" * 40 + "…", "W" * 40 + "… 2", *names[2:]]


def test_letters_that_no_font_has_are_their_code_points(monkeypatch):
    monkeypatch.setattr(letters.font_manager.fontManager, "ttflist", [])
    letters._fonts.cache_clear()
    try:
        shown, families = letters.lettered({"猫": ["cat猫犬!", "a\ufe0f猫\ufe0f", "Ж\tü"]})
    finally:
        letters._fonts.cache_clear()
    assert shown == {"U+732B": ["cat U+732B U+72AC!", "a U+732B", "Ж ü"]}
    assert families == [letters.FONT]


def voclab(*words, stdout=subprocess.PIPE, **environment):
    command = [sys.executable, "-m", "voclab", *map(str, words)]
    environment = {**os.environ, **environment}
    return subprocess.run(
        command, stdout=stdout, stderr=subprocess.PIPE, env=environment, check=False, timeout=60
    )


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_any_terminal_can_show_any_class(images, encoding):
    done = voclab("data", "info", "--data", images, PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr) == (0, b"")
    shown = done.stdout.decode(encoding)
    assert ("猫" if encoding == "utf-8" else "\\u732b") in shown
    assert "50$ and 5$ bill" in shown
    assert "\x1b" not in shown
    assert voclab("--help", PYTHONIOENCODING=encoding).returncode == 0


def test_what_was_typed_is_quoted_without_its_commands():
    for words in (["data", "info", "--data", HOSTILE.replace("\x00", "")], ["gallery", "\x1b[31m"]):
        done = voclab(*words)
        assert done.returncode == 2
        assert b"\\u001b[31m" in done.stderr
        assert not CONTROLS & set(done.stderr.decode().replace("\r\n", "\n"))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full, which Linux has")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_standard_output_ends_in_a_sentence(images, unbuffered):
    with open("/dev/full", "wb") as full:
        for command in (["data", "info", "--data", images], ["--version"], ["submit", "--help"]):
            done = voclab(*command, stdout=full, PYTHONUNBUFFERED=unbuffered)
            assert done.returncode == 2
            assert done.stderr.startswith(b"voclab: Cannot write standard output: the disk is full;")
            assert done.stderr.count(b"\n") == 1
        silent = f"{sys.executable} -m voclab gallery --figures no/figures 2>/dev/full"
        status = subprocess.run(
            silent, shell=True, env={**os.environ, "PYTHONUNBUFFERED": unbuffered}, check=False
        )
        assert status.returncode == 2


@pytest.mark.skipif(os.name == "nt", reason="needs a POSIX shell")
@pytest.mark.parametrize("closed", [">&-", ">&- 2>&- <&-", "| true"])
def test_a_closed_standard_output_ends_quietly(images, closed):
    command = f"{sys.executable} -m voclab data info --data '{images}' {closed}"
    done = subprocess.run(command, shell=True, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.skipif(os.name == "nt", reason="Windows removes no folder in use")
@pytest.mark.parametrize("words", ["data make", "data info --data .", "submit check x.csv", "gallery"])
def test_a_folder_that_is_gone_ends_in_a_sentence(tmp_path, words):
    command = f"rmdir '{tmp_path}' && {sys.executable} -m voclab {words}"
    done = subprocess.run(command, shell=True, capture_output=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (2, b"", 1)


# --- what is written ---


def test_undecodable_ids_are_kept_apart_in_every_file(tmp_path):
    ids, maps = ("a\udce9", "a\udcea", "猫"), [np.full((4, 5), k, np.uint8) for k in range(3)]
    masks.write_masks(tmp_path / "masks.zip", ids, maps)
    stored = masks.StoredMasks(tmp_path / "masks.zip")
    assert [int(stored[name].max()) for name in ids] == [0, 1, 2]
    table = tmp_path / "rows.csv"
    kaggle.write_submission(table, ids, labels=np.eye(3, 20, dtype=np.uint8), label_maps=maps)
    checked = kaggle.check_submission(table, ids=ids, shapes=dict.fromkeys(ids, (4, 5)))
    assert checked.ids == ("a\\udce9", "a\\udcea", "猫")
    files.write_json(tmp_path / "ids.json", ids)
    assert tuple(files.read_json(tmp_path / "ids.json")) == ids


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Pages of figures, tables and an answer that are full of names."""
    root = tmp_path_factory.mktemp("figures")
    for name in ("01_first", "02_caf\udce9 <i>"):
        try:
            (root / name).mkdir()
        except (OSError, UnicodeError):
            continue  # a file system of UTF-8 alone
        folder = Page(root / name)
        said = "; ".join(NAMES)
        texts = {"title": f"T {said}", "caption": f"C {said}"}
        folder.figure(plt.figure(figsize=(1, 1)), "empty", alt=f"A {said}", **texts)
        table = pd.DataFrame({"n": np.arange(len(NAMES)) / 3}, index=pd.Index(NAMES, name="_class <i>"))
        folder.table(table, "table", **texts)
        strong = ", ".join(f"**{markdown(name)}** and *{markdown(name)}*" for name in NAMES)
        folder.close({"question": said, "answer": f"Of all: {strong}.\n\n2 * 3 \\* 4", "data": said})
    gallery.write(root)
    return root / "01_first" / "README.md", root / "01_first" / "index.html"


def test_a_page_of_markdown_shows_names_as_they_are(written):
    from markdown_it import MarkdownIt

    made = MarkdownIt("commonmark").enable(["table"]).render(written[0].read_text(encoding="utf-8"))
    page = BeautifulSoup(made, "html.parser")
    names = {" ".join(plain(name).split()) for name in NAMES}
    for tag in ("td", "strong", "em"):
        assert names <= {element.get_text() for element in page.select(tag)}, tag
    assert {element.name for element in page.find_all()} <= {
        "h1", "h2", "h3", "p", "a", "img", "strong", "em",
        "table", "thead", "tbody", "tr", "th", "td", "ul", "li",
    }  # fmt: skip
    assert "2 * 3 * 4" in page.get_text()
    assert all(plain(name).replace("\t", " ") in page.img["alt"] for name in NAMES)


def test_the_pages_of_a_study_show_names_as_they_are(tmp_path):
    from markdown_it import MarkdownIt

    name, original = '<b onmouseover="alert(1)">|x', "[p](h)*`$1$_<img src=x>"
    kept = np.ones((2, len(CONSISTENCY)), bool)
    part = Consistency(name, tuple(CONSISTENCY), np.zeros(2, int), kept, kept * 1.0, kept * 1.0, {})
    image = np.zeros((8, 8, 3), np.uint8)
    shown = Versions(original, ("original", "fog"), (image, image), (name, name), (True, True))
    facts = {"data": original, "split": "val", "images": 2, "seed": 0}
    network = {"weights": name, "classes": 2, "size": 8, "features": name}
    study = Study(facts, (original, "other"), {name: network}, {name: part}, {name: shown})
    page = pages.consistency_report(study, tmp_path)[0].read_text(encoding="utf-8")
    shown = BeautifulSoup(MarkdownIt("commonmark").enable(["table"]).render(page), "html.parser")
    assert name in [cell.get_text() for cell in shown.select("th, td")]
    assert f"{name} on {original}: 1 of 1 answers kept" in shown.get_text()
    assert f"2 images of {original} val" in shown.get_text()
    assert not shown.select("b, em, [onmouseover]")
