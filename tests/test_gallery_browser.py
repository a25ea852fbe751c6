"""The gallery as a browser shows it: headless Chromium at the width of a phone, a desk and paper."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from voclab import plotting
from voclab.reporting import gallery
from voclab.reporting.page import Page, read, write_page

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
PHONE, DESK, PAPER = 390, 1280, 680  # CSS pixels; A4 within margins of 15 mm is 180 mm or 680 wide

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (Debian: apt install chromium)")

# Frames have the widths, as a window cannot be as narrow as a phone.
WRAPPER = """<!doctype html><meta charset="utf-8"><body>
%s
<script>
const scrolls = element => ["auto", "scroll"].includes(getComputedStyle(element).overflowX);
addEventListener("load", async () => {
  for (const frame of document.querySelectorAll("iframe"))
    for (const image of frame.contentDocument.images) {
      image.loading = "eager";
      // Not decode(): virtual time waits for files that are fetched, but not for images being decoded.
      if (!image.complete) await new Promise(done => { image.onload = image.onerror = done; });
    }
  const found = [...document.querySelectorAll("iframe")].map(frame => {
    const page = frame.contentDocument, images = [...page.images];
    const entries = frame.contentWindow.performance.getEntriesByType("resource");
    return {
      page: frame.title,
      asked: frame.clientWidth,
      width: page.documentElement.scrollWidth,
      images: images.length,
      broken: images.filter(image => !image.naturalWidth).map(image => image.alt),
      narrowest: Math.min(...images.map(image => image.clientWidth / image.getAttribute("width"))),
      unnamed: images.filter(image => !image.alt.trim()).length,
      tables: page.querySelectorAll("table").length,
      loose: [...page.querySelectorAll("table")].filter(table => !scrolls(table.parentElement)).length,
      scrolled: [...page.querySelectorAll(".table .scroll")].filter(e => e.scrollWidth > e.clientWidth)
        .length,
      fetched: entries.map(entry => entry.name).filter(name => !/^(data|file):/.test(name)),
    };
  });
  const result = document.createElement("pre");
  result.id = "found";
  result.textContent = JSON.stringify(found);
  document.body.append(result);
});
</script>"""


def shown(pages: dict[Path, tuple[int, ...]], folder: Path) -> tuple[dict[tuple[str, int], dict], list[str]]:
    """What Chromium makes of pages at these widths, by file name and width, and what it complains of."""
    frames = [
        f'<iframe title="{page.name}" src="{page.as_uri()}" style="border:0;width:{w}px"></iframe>'
        for page, widths in pages.items()
        for w in widths
    ]
    wrapper = folder / "wrapper.html"
    wrapper.write_text(WRAPPER % "\n".join(frames), encoding="utf-8")
    command = [
        CHROMIUM,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--allow-file-access-from-files",  # or the wrapper may not look into the frames
        "--host-resolver-rules=MAP * ~NOTFOUND",  # a page that needs the network must fail
        f"--user-data-dir={folder / 'profile'}",
        "--enable-logging=stderr",
        "--virtual-time-budget=60000",
        "--dump-dom",
        wrapper.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=120)
    result = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.S)
    assert result, f"Chromium shows nothing: {done.stderr[-2000:]}"
    found = {(entry["page"], entry["asked"]): entry for entry in json.loads(html.unescape(result.group(1)))}
    assert len(found) == len(frames)
    return found, [line for line in done.stderr.splitlines() if ":CONSOLE" in line]


def faults(entry: dict) -> set[str]:
    """What is wrong with a page at one width."""
    wrong = {
        "too wide": entry["width"] > entry["asked"],
        "image broken": bool(entry["broken"]),
        "image without text": bool(entry["unnamed"]),
        "asks the network": bool(entry["fetched"]),
        "table moves the page": entry["asked"] != PAPER and entry["loose"] > 0,
    }
    return {fault for fault, is_so in wrong.items() if is_so}


def on_paper(page: Path, folder: Path) -> Path:
    """The page with its rules for print on the screen, whose width stands for the paper's."""
    text = page.read_text(encoding="utf-8")
    assert text.count("@media print") == 1
    path = folder / f"paper-{page.parent.name}.html"
    path.write_text(text.replace("@media print", "@media all"), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> tuple[Path, Path]:
    """A gallery made here, and a page of one folder: figures, long words, tables wider than any screen."""
    root = tmp_path_factory.mktemp("gallery") / "figures"
    folder = Page(root / "01_first")
    texts = {"caption": "c" * 300, "alt": "Lines"}
    boxes = plotting.block_diagram({"net": [("box", True)] * 6})
    folder.figure(boxes, "net", title="A title of many words " * 9, **texts)
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3)).astype(np.uint8)
    grid = plotting.image_grid([image] * 8, ["an image"] * 8, 8)
    folder.figure(grid, "images", title="Images", caption="Noise.", alt="Grid of noise", images=True)
    classes = [f"class {k}, rare" for k in range(20)]
    scores = pd.DataFrame(0.123, [f"a network, {k}" for k in range(10)], classes).rename_axis("network")
    folder.table(scores, "classes", title="More columns than a page is wide", caption="")
    folder.table(scores.iloc[:, :14], "many", title="As many as fit", caption="")
    folder.table(scores.T.assign(note="long words " * 9), "prose", title="Sentences", caption="")
    record = {"question": "Why? " * 20, "answer": "Because " + "x" * 200, "model": "folder/" * 40}
    folder.close(record | {"versions": dict.fromkeys(classes, "1.2.3"), "run_time_s": 61})
    (root / "02_second").mkdir()
    (root / "02_second" / "run.json").write_text(json.dumps({"question": "And now?"}))
    gallery.write(root)
    page = root / "01_first" / "index.html"
    (root / "alone").mkdir()
    _, alone = write_page(root / "alone", "One folder", "All that is in it.", [read(root / "01_first")])
    return page, alone


def test_new_pages_fit_a_phone_a_desk_and_paper(written, tmp_path):
    pages = {}
    for k, page in enumerate(written):
        copy = page.with_name(f"{k}.html")
        shutil.copy(page, copy)
        pages |= {copy: (PHONE, DESK), on_paper(page, page.parent): (PAPER,)}
    found, complaints = shown(pages, tmp_path)
    assert complaints == []
    for key, entry in found.items():
        assert faults(entry) == set(), key
        assert (entry["images"], entry["tables"]) == (2, 3)
        assert entry["narrowest"] > 0.55, key  # of their size: texts of 9 pt can be read
    assert found["0.html", PHONE]["scrolled"] == 3
    assert found["paper-01_first.html", PAPER]["scrolled"] == 0
