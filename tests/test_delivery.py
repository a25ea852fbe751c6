"""What is handed in: no secret, no folder of the machine it was made on, no link that leads nowhere."""

import base64
import json
import re
import shlex
from pathlib import Path
from urllib.parse import unquote

import pytest
from conftest import ROOT
from PIL import Image
from test_packaging import committed

from voclab import cli

SHOWN = {".ipynb", ".json", ".svg", ".html", ".md", ".txt", ".log", ".csv", ".yml", ".toml", ".png"}
_FOLDERS = ("root", "home", "work", "tmp", "Users", "mnt")
# Written in pieces, so that this file does not hold what it looks for.
LEAKS = {
    "folder of a machine": rf"(?<![\w.~])/(?:{'|'.join(_FOLDERS)})/[\w.-]",
    "folder of a Windows machine": r"\b[A-Z]:\\+Us" + r"ers\\",
    "Kaggle key": r"KAGGLE_(?:KEY|API_TOKEN)[\"']?\s*[=:]\s*[\"']?\w{8}",
    "Kaggle file": r"\"key\"\s*:\s*\"[0-9a-f]{32}",
    "token": r"\b(?:KGAT_|ghp_|gho_|github_pat_|hf_|glpat-|xox[bp]-)\w{10}|\bAKIA[0-9A-Z]{16}\b|\bsk-\w{20}",
    "private key": r"-----BEGIN [A-Z ]*PRIVATE KEY",
    "password in an address": r"https?://[^\s/@\"'<>]+:[^\s/@\"'<>]+@",
}
_EMBEDDED = re.compile(r"data:image/([\w+]+);base64,([\w+/=]+)")


def texts(path: Path) -> str:
    """All that can be read in a file: of embedded images those that are text; quotes without backslash."""
    text = path.read_bytes().decode("utf-8", errors="replace").replace('\\"', '"')
    if path.suffix == ".ipynb":
        text = re.sub(r'"image/(?:png|jpeg)": "[^"]*"', "", text)
    drawn = [base64.b64decode(data).decode() for kind, data in _EMBEDDED.findall(text) if kind == "svg+xml"]
    return "\n".join([_EMBEDDED.sub("", text), *drawn])


def leaks(text: str) -> dict[str, str]:
    """What should not be there, by what it is."""
    found = {what: re.search(pattern, text) for what, pattern in LEAKS.items()}
    return {what: match.group() for what, match in found.items() if match}


def test_nothing_committed_holds_a_secret_or_a_folder_of_a_machine():
    paths = [path for path in committed() if path.suffix in SHOWN or path.name == "Makefile"]
    paths += [path for path in committed() if path.suffix == ".py" and path.parent.name != "tests"]
    assert {".ipynb", ".json", ".svg", ".html", ".md", ".png", ".py"} <= {path.suffix for path in paths}
    assert {str(p.relative_to(ROOT)): found for p in paths if (found := leaks(texts(p)))} == {}


def test_images_carry_no_texts():
    images = [path for path in committed() if path.suffix == ".png"]
    assert len(images) > 50
    said = {path.name: Image.open(path).info for path in images}
    assert [
        name for name, info in said.items() if any(isinstance(v, str | bytes) for v in info.values())
    ] == []


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("File \"/ro" + "ot/project/x.py\", line 3", "folder of a machine"),
        ("saved to /ho" + "me/somebody/runs", "folder of a machine"),
        ('"path": "/wo' + 'rk/main/data"', "folder of a machine"),
        ("C:\\\\Us" + "ers\\\\somebody", "folder of a Windows machine"),
        ('"KAGGLE_' + 'KEY": "0123456789abcdef"', "Kaggle key"),
        ('{"username":"a","ke' + 'y":"0123456789abcdef0123456789abcdef"}', "Kaggle file"),
        ("KG" + "AT_0123456789abcdef", "token"),
        ("-----BEGIN RSA PRI" + "VATE KEY-----", "private key"),
        ("https://user:pass" + "word@host.test/x", "password in an address"),
    ],
)  # fmt: skip
def test_a_leak_is_seen_in_a_notebook_and_in_an_embedded_drawing(tmp_path, text, what):
    notebook, page, drawing = (tmp_path / name for name in ("a.ipynb", "a.html", "a.svg"))
    output = {"output_type": "stream", "text": [text]}
    notebook.write_text(json.dumps({"cells": [{"outputs": [output]}]}))
    drawing.write_text(f"<svg><!-- {text} --></svg>")
    data = base64.b64encode(drawing.read_bytes()).decode()
    page.write_text(f'<img src="data:image/svg+xml;base64,{data}">')
    assert [list(leaks(texts(path))) for path in (page, drawing)] == [[what]] * 2
    assert what in leaks(texts(notebook))


# --- links of Markdown pages ---


def links(path: Path) -> list[str]:
    """Targets of links and images outside of code."""
    text = re.sub(r"^(```|~~~).*?^\1", "", path.read_text(encoding="utf-8"), flags=re.S | re.M)
    text = re.sub(r"(?<!`)`[^`\n]+`(?!`)", "", text)
    return re.findall(r"(?<!\\)\]\(<?([^)>\s]+)>?(?: \"[^\"]*\")?\)", text)


def headings(path: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    lines = re.findall(r"^#+ +(.+?) *$", path.read_text(encoding="utf-8"), flags=re.M)
    plain = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", line) for line in lines)
    return {re.sub(r"[^\w\- ]", "", line).strip().lower().replace(" ", "-") for line in plain}


def dead(path: Path) -> list[str]:
    """Links of a page that lead to no file or to no heading of one."""
    found = []
    for target in links(path):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = unquote(target).partition("#")
        there = path.parent / file if file else path
        if not there.exists() or (anchor and there.suffix == ".md" and anchor not in headings(there)):
            found.append(target)
    return found


def test_links_of_all_pages_lead_somewhere():
    pages = [path for path in committed() if path.suffix == ".md"]
    assert ROOT / "README.md" in pages
    assert sum(len(links(page)) for page in pages) > 80
    assert {str(page.relative_to(ROOT)): dead(page) for page in pages if dead(page)} == {}


# --- commands of Markdown pages ---


def commands(text: str) -> list[str]:
    """What a page tells a reader to type of ``voclab``, in blocks of code and between the words."""
    blocks = re.findall(r"^```sh\n((?:(?!```).*\n)*)|^ {4}(voclab (?:.*\\\n)*.*)", text, flags=re.M)
    lines = re.findall(r"^voclab .*", "\n".join(map("".join, blocks)).replace("\\\n", ""), flags=re.M)
    return lines + re.findall(r"`(voclab [^`…]+ --[^`…]+)`", text)


@pytest.mark.parametrize(
    "page",
    ["README.md", "docs/using.md", "docs/faq.md", "docs/results.md", "docs/decisions.md", "docs/serving.md"],
)
def test_the_command_line_knows_all_commands_of_a_page(page, capsys):
    typed = commands((ROOT / page).read_text(encoding="utf-8"))
    assert len(typed) >= {"README.md": 14, "docs/using.md": 20, "docs/results.md": 6}.get(page, 0)
    for command in typed:
        try:
            cli.parser().parse_args(shlex.split(command, comments=True)[1:])
        except SystemExit:
            pytest.fail(f"{command}: {capsys.readouterr().err}")
