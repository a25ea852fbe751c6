"""The gallery as a browser shows it: headless Chromium at a phone's width and a desk's."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from voclab import gallery

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FIGURES = Path(__file__).resolve().parents[1] / "figures"
PHONE, DESK = 390, 1280

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (Debian: apt install chromium)")

# Frames have the widths, as a window cannot be as narrow as a phone.
WRAPPER = """<!doctype html><meta charset="utf-8"><body>
%s
<script>
addEventListener("load", () => {
  const found = [...document.querySelectorAll("iframe")].map(frame => {
    const page = frame.contentDocument, pictures = [...page.images];
    const entries = frame.contentWindow.performance.getEntriesByType("resource");
    return {
      asked: frame.clientWidth,
      width: page.documentElement.scrollWidth,
      pictures: pictures.length,
      broken: pictures.filter(picture => !picture.naturalWidth).map(picture => picture.alt),
      unnamed: pictures.filter(picture => !picture.alt).length,
      fetched: entries.map(entry => entry.name).filter(name => !name.startsWith("data:")),
    };
  });
  const result = document.createElement("pre");
  result.id = "found";
  result.textContent = JSON.stringify(found);
  document.body.append(result);
});
</script>"""


def shown(page: Path, folder: Path) -> tuple[dict[int, dict], list[str]]:
    """What Chromium makes of a page at both widths, and what it complains of."""
    frames = [
        f'<iframe src="{page.as_uri()}" style="border:0;width:{w}px;height:900px"></iframe>'
        for w in (PHONE, DESK)
    ]
    wrapper = folder / "wrapper.html"
    wrapper.write_text(WRAPPER % "\n".join(frames))
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
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    result = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.S)
    assert result, f"Chromium shows nothing: {done.stderr[-2000:]}"
    found = {entry["asked"]: entry for entry in json.loads(html.unescape(result.group(1)))}
    return found, [line for line in done.stderr.splitlines() if ":CONSOLE" in line]


def pages() -> list[Path]:
    robustness = sorted((FIGURES / "robustness").glob("*/index.html"))
    return [FIGURES / "index.html", *robustness[:1]]


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.parent.name)
def test_a_committed_page_fits_a_phone_and_loads_all_its_pictures(page, tmp_path):
    found, complaints = shown(page, tmp_path)
    assert complaints == []
    for width, entry in found.items():
        assert entry["width"] <= width
        assert entry["pictures"] >= 3
        assert (entry["broken"], entry["unnamed"], entry["fetched"]) == ([], 0, [])
    assert set(found) == {PHONE, DESK}


def test_a_wide_table_and_long_words_scroll_within_the_page(tmp_path):
    figure = tmp_path / "figures" / "01_a" / "01_wide.png"
    figure.parent.mkdir(parents=True)
    Image.new("RGB", (3000, 200), (0, 90, 180)).save(figure)
    described = {"title": "W" * 200, "caption": "c" * 300, "alt": "A wide blue field"}
    figure.with_suffix(".json").write_text(json.dumps(described))
    table = {"title": "T", "caption": "", "columns": [f"column {i}" for i in range(40)], "rows": [[1.5] * 40]}
    (figure.parent / "02_table.table.json").write_text(json.dumps(table))
    _, page = gallery.write(tmp_path / "figures")
    found, complaints = shown(page, tmp_path)
    assert complaints == []
    assert {width: entry["width"] <= width for width, entry in found.items()} == {PHONE: True, DESK: True}
    assert found[PHONE]["pictures"] == 1
    assert found[PHONE]["broken"] == []


def test_what_is_wrong_with_a_page_is_noticed(tmp_path):
    page = tmp_path / "bad.html"
    page.write_text(
        '<!doctype html><title>x</title><img src="missing.png" alt="gone"><img src="http://host.test/a.png">'
        '<div style="width:2000px">wide</div><script>absent();</script>'
    )
    found, complaints = shown(page, tmp_path)
    assert any("absent is not defined" in line for line in complaints)
    assert "gone" in found[PHONE]["broken"]
    assert found[PHONE]["unnamed"] == 1
    assert found[DESK]["width"] >= 2000
    assert any("host.test" in name for name in found[PHONE]["fetched"])
