"""The page of `voclab app` as people use it: headless Chromium at the width of a desk and a phone."""

from urllib.parse import urlsplit

import pytest
from colour_networks import colour_classifier, colour_segmenter, painted
from devtools import CHROMIUM, Browser
from PIL import Image

from voclab.app.demo import Answers

pytest.importorskip("gradio", reason='needs Gradio (pip install "voclab[app]")')
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (Debian: apt install chromium)")

PHONE, DESK = 390, 1280  # CSS pixels


@pytest.fixture(scope="module")
def address():
    from voclab.app import page

    with page.served(Answers(colour_classifier(), colour_segmenter())) as url:
        yield url


@pytest.fixture
def browser(tmp_path):
    with Browser(tmp_path) as browser:
        yield browser


def text(element: str) -> str:
    return f"(document.querySelector('#{element}')?.innerText ?? '')"


def tab(title: str) -> str:
    return f"[...document.querySelectorAll('button[role=tab]')].find(b => b.innerText.includes('{title}'))"


CLEAR = "document.querySelector('#photo .icon-button')"
EXAMPLES = "document.querySelectorAll('.gallery-item')"


def test_an_example_an_attack_and_its_strength_change_the_answers(browser, address):
    browser.open(address, DESK)
    first = browser.until(f"/%/.test({text('classes')}) && {text('classes')}")
    assert browser.run(f"{EXAMPLES}.length") == 5
    browser.click(f"{EXAMPLES}[3]")
    browser.until(f"/%/.test({text('classes')}) && {text('classes')} !== {first!r}")
    browser.click(tab("Attack"))
    browser.until(f"/PSNR/.test({text('verdict')})")
    slider = "document.querySelector('#epsilon input[type=range]')"
    browser.run(f"{slider}.focus()")
    browser.press("Home")
    browser.until(f"/Nothing was changed/.test({text('verdict')})")
    browser.press("ArrowRight", 3)
    browser.until(f"/more than 3 of 255/.test({text('verdict')})")
    before, after, _ = browser.until(
        "(l => l.length === 3 && l.every(t => t.includes('%')) && l)"
        "([...document.querySelectorAll('.seen')].map(e => e.innerText))"
    )
    assert before != after
    browser.click(tab("Perturbations"))
    browser.until("document.querySelectorAll('#perturbed img').length === 10")
    assert {urlsplit(url).hostname for url in browser.requests if url.startswith("http")} == {"127.0.0.1"}
    assert browser.complaints == []


def test_an_upload_is_answered_and_a_bad_one_gets_a_sentence(browser, address, tmp_path):
    Image.fromarray(painted("green")).convert("CMYK").save(tmp_path / "green.tif")
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing more")
    browser.open(address, DESK)
    browser.until(f"/%/.test({text('classes')})")
    browser.click(CLEAR)
    browser.until("document.querySelector('input[type=file]')")
    browser.upload("input[type=file]", tmp_path / "green.tif")
    browser.until(f"/^Classes\\s+green/.test({text('classes')})")
    browser.until(f"/green \\d+ %/.test({text('legend')})")
    browser.until("document.querySelector('#photo img')?.naturalWidth > 0")  # no browser shows a TIFF itself
    browser.click(CLEAR)
    browser.until("document.querySelector('input[type=file]')")
    browser.upload("input[type=file]", tmp_path / "broken.jpg")
    browser.until(f"/^broken.jpg is a damaged image/.test({text('notice')})")
    browser.until(f"!/%/.test({text('classes')})")
    assert browser.run("document.querySelector('#photo img')") is None
    browser.click(f"{EXAMPLES}[3]")
    browser.until(f"/%/.test({text('classes')}) && {text('notice')}.trim() === ''")
    assert browser.complaints == []


def test_a_phone_shows_the_whole_page(browser, address):
    browser.open(address, PHONE, 844)
    browser.until(f"/%/.test({text('classes')})")
    for title in ("What and where", "Attack", "Perturbations"):
        browser.click(tab(title))
        browser.until(f"{tab(title)}.getAttribute('aria-selected') === 'true'")
        assert browser.run("document.documentElement.scrollWidth") <= PHONE
    assert browser.complaints == []
