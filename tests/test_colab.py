"""Notebooks opened where there is no checkout: the badges, the install cell, and whole runs as there.

The package comes from a wheel into an environment that has everything but it, and each notebook lies alone.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import nbformat
import numpy as np
import pytest
from IPython.core.interactiveshell import InteractiveShell
from test_packaging import committed

from toyvoc.voc import make_toyvoc
from voclab.cli import main
from voclab.data import competition as kaggle
from voclab.data import load
from voclab.errors import VoclabError
from voclab.kaggle import check_submission, write_submission
from voclab.kaggle.export import export
from voclab.reporting import badges, notebooks
from voclab.reporting.session import Session

ROOT = Path(__file__).resolve().parents[1]
REVISION = "0123456789abcdef0123456789abcdef01234567"
README = "# Title\n\nbefore\n\n<!-- badges -->\n<!-- /badges -->\n\nafter\n"


@pytest.fixture
def project(tmp_path):
    """README and one executed notebook, not in git."""
    output = nbformat.v4.new_output("stream", name="stdout", text="one\rtwo ü\n")
    cells = [
        nbformat.v4.new_markdown_cell("# Title\n\nThe cell below holds the settings."),
        nbformat.v4.new_code_cell("seed = 0", metadata={"tags": ["parameters"]}, execution_count=1),
        nbformat.v4.new_code_cell("print(seed)", execution_count=2, outputs=[output]),
    ]
    (tmp_path / "notebooks").mkdir()
    text = nbformat.writes(nbformat.v4.new_notebook(cells=cells, metadata={"voclab": {"parameters": {}}}))
    (tmp_path / "notebooks" / "01_first.ipynb").write_text(text + "\n")
    (tmp_path / "README.md").write_text(README)
    return tmp_path


def contents(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def cells(project: Path) -> list[nbformat.NotebookNode]:
    return nbformat.read(project / "notebooks" / "01_first.ipynb", as_version=4).cells


def test_badges_open_the_branch_and_the_notebook_installs_the_revision(project):
    changed = badges.write_badges("some-one/lab.1", REVISION, branch="trunk", root=project)
    assert [path.name for path in changed] == ["README.md", "01_first.ipynb"]
    title, parameters, install, last = cells(project)
    link = "colab.research.google.com/github/some-one/lab.1/blob/trunk/notebooks/01_first.ipynb)"
    assert title.source.startswith("# Title\n\n[![Open in Colab]")
    assert title.source.endswith("\n\nThe cell below holds the settings.")
    assert link in title.source
    assert link in (project / "README.md").read_text()
    assert parameters.metadata.tags == ["parameters"]
    assert install.metadata.tags == ["install"]
    assert 'repository = "https://github.com/some-one/lab.1"' in install.source
    assert f'revision = "{REVISION}"' in install.source
    assert last.outputs[0].text == "one\rtwo ü\n"


def test_what_was_written_before_is_replaced_and_nothing_else_changes(project):
    badges.write_badges(root=project)
    unknown = contents(project)
    assert badges.write_badges(root=project) == []
    badges.write_badges("a/b", REVISION, root=project)
    known = contents(project)
    assert known != unknown
    assert badges.write_badges("a/b", REVISION, root=project) == []
    assert badges.write_badges("c/d", "v1", root=project)
    badges.write_badges("a/b", REVISION, root=project)
    assert contents(project) == known
    badges.write_badges(root=project)
    assert contents(project) == unknown
    text = (project / "README.md").read_text()
    assert text.startswith("# Title\n\nbefore\n\n<!-- badges -->\n")
    assert text.endswith("\n<!-- /badges -->\n\nafter\n")
    assert "by upload" in text


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_the_committed_notebooks_change_in_title_and_install_cell_only(path, project):
    copy = project / "notebooks" / path.name
    shutil.copy(path, copy)
    badges.write_badges("a/b", REVISION, root=project)
    badges.write_badges(root=project)
    now, before = (json.loads(f.read_text()) for f in (copy, path))
    for notebook in (now, before):
        notebook["cells"] = [c for c in notebook["cells"] if "install" not in c["metadata"].get("tags", [])]
    before["cells"][0]["source"] = [s for s in before["cells"][0]["source"] if "Open in Colab" not in s]
    assert now == before


def test_a_damaged_readme_is_named(project):
    (project / "README.md").write_bytes(README.encode("utf-16"))
    with pytest.raises(VoclabError, match=r"README\.md is no readable text of UTF-8"):
        badges.write_badges(root=project)


def test_badges_survive_a_run_and_a_new_install_cell_counts_as_not_run(project):
    badges.write_badges("a/b", REVISION, root=project)
    assert [c.execution_count for c in cells(project)[1:]] == [1, None, 2]
    options = {"notebooks_dir": project / "notebooks", "in_place": True, "progress": False}
    notebooks.run("01", parameters={"seed": 5}, **options)
    assert [c.execution_count for c in cells(project)[1:]] == [1, 2, 3]
    assert cells(project)[3].outputs[0].text == "5\n"
    assert badges.write_badges("a/b", REVISION, root=project) == []
    badges.write_badges("c/d", REVISION, root=project)
    assert [c.execution_count for c in cells(project)[1:]] == [1, None, 3]


@pytest.mark.parametrize(
    "repo", ["name", "a/b/c", "a/", "/b", "a b/c", "https://github.com/a/b", "a/b.git", "ä/b"]
)
def test_a_wrong_address_is_refused_in_one_sentence(project, repo, monkeypatch, capsys):
    monkeypatch.chdir(project)
    before = contents(project)
    assert main(["badges", "--repo", repo, "--revision", REVISION]) == 2
    assert capsys.readouterr().err == f"voclab: {repo!r} is no repository; name it as OWNER/NAME.\n"
    assert contents(project) == before


def test_what_is_missing_is_named_before_anything_is_written(project):
    before = contents(project)
    for revision, reason in (
        ("a b", "'a b' is no revision"),
        (None, "not known to git; name one with --rev"),
    ):
        with pytest.raises(VoclabError, match=reason):
            badges.write_badges("a/b", revision, root=project)
    assert contents(project) == before
    (project / "README.md").write_text("# Title\n")
    with pytest.raises(VoclabError, match="has no lines <!-- badges --> and"):
        badges.write_badges(root=project)
    assert len(cells(project)) == 3


def _installed(source: str, monkeypatch) -> str:
    """The command that the install cell gives to the shell where voclab is missing."""
    commands = []
    shell = InteractiveShell()
    monkeypatch.setattr(shell, "system", commands.append)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "voclab" else name)
    monkeypatch.setattr("importlib.metadata.version", lambda name: f"9.{len(name)}")
    shell.run_cell(source).raise_error()
    return commands[0].partition(" -m pip ")[2]


def test_installing_takes_the_pinned_revision_and_leaves_tensorflow_as_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kept = "tensorflow==9.10 keras==9.5 numpy==9.5"
    cell = badges.install_cell("a/b", REVISION)
    assert _installed(cell, monkeypatch) == (
        f'install -q "voclab[weights] @ git+https://github.com/a/b@{REVISION}" {kept}'
    )
    Path("voclab-0.1.0-py3-none-any.whl").touch()
    beside = f'install -q "voclab-0.1.0-py3-none-any.whl[weights]" {kept}'
    assert _installed(cell, monkeypatch) == beside
    assert _installed(badges.install_cell(), monkeypatch) == beside


def test_without_an_address_and_a_wheel_the_notebook_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ModuleNotFoundError, match=r"voclab is missing: put its wheel .* beside this notebook"
    ):
        _installed(badges.install_cell(), monkeypatch)


def test_on_kaggle_the_rows_of_both_notebooks_come_together(tmp_path, monkeypatch):
    for folder in ("working", "tmp"):
        (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path / "working")
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Interactive")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    tree = make_toyvoc(tmp_path / "toyvoc", train=40, val=3, test=4, size=64, progress=False)

    def hand_in(name, *kinds):
        """A session that writes these rows of each test image: its first class, in a map of it only."""
        session = Session(name, question="Why?", profile="smoke", data=str(tree))
        ids = session.test_set.ids
        rows = {
            "classification": {"labels": [np.eye(20, dtype=np.uint8)[0]] * len(ids)},
            "segmentation": {"label_maps": [np.ones((2, 2), np.uint8)] * len(ids)},
        }
        for kind in kinds:
            write_submission(session.submissions / f"{kind}.csv", ids, **rows[kind])
        if "segmentation" in kinds:
            write_submission(
                session.submissions / "submission.csv", ids, **rows["classification"], **rows["segmentation"]
            )
        session.close("Because.")
        return [line.partition(",")[2] for line in Path("submission.csv").read_text().splitlines()[1:3]]

    Session("03_other", question="Why?", profile="smoke", data=str(tree)).close("Because.")
    assert contents(Path()) == {}
    assert hand_in("01_first", "classification") == ["1 1", ""]
    assert hand_in("02_second", "segmentation") == ["1 1", "1 4"]
    assert hand_in("01_first", "classification") == ["1 1", "1 4"]
    assert set(contents(Path())) == {"submission.csv"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The package as a wheel, built from a copy because building leaves files."""
    folder = tmp_path_factory.mktemp("build")
    ignored = shutil.ignore_patterns("*.egg-info", "__pycache__")
    shutil.copytree(ROOT / "src", folder / "src", ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "-w", folder / "index", folder], check=True)
    return next((folder / "index").glob("voclab-*.whl"))


def test_the_wheel_holds_every_file_of_the_package(wheel):
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    files = (path.relative_to(ROOT / "src") for path in committed() if path.is_relative_to(ROOT / "src"))
    assert held == {path.as_posix() for path in files}
    assert "voclab/weights/ready.tflite" in held


@pytest.fixture
def elsewhere(tmp_path) -> Path:
    """The interpreter of an environment that has everything this one has, but not voclab."""
    folder = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    bin_folder, packages = (
        Path(sysconfig.get_path(kind, "venv", {"base": str(folder), "platbase": str(folder)}))
        for kind in ("scripts", "purelib")
    )
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if "voclab" not in entry.name:
            (packages / entry.name).symlink_to(entry)
    return bin_folder / "python"


_EXECUTE = """
import sys, nbclient, nbformat
notebook = nbformat.read(sys.argv[1], as_version=4)
nbclient.NotebookClient(notebook, kernel_name="python3").execute()
nbformat.write(notebook, sys.argv[2])
"""


def execute(name: str, python: Path, work: Path, mounted: Path, result: Path, **environment: str):
    """Run a committed notebook in smoke as someone who opened it in ``work`` would; return it executed.

    ``mounted`` takes the place of Kaggle's input folder, in the install cell and for the package.
    """
    source = work / f"{name}.ipynb"
    notebook = nbformat.read(ROOT / "notebooks" / source.name, as_version=4)
    notebook.cells = [c for c in notebook.cells if "install" not in c.metadata.get("tags", [])]
    parameters = next(c for c in notebook.cells if "parameters" in c.metadata.get("tags", []))
    parameters.source += '\nprofile = "smoke"'
    first = (
        badges.install_cell().replace("/kaggle/input", str(mounted)),
        "import functools\nimport voclab.data\nprint(voclab.__file__)\n"
        f"find = functools.partial(voclab.data.find, kaggle_input={str(mounted)!r})\n"
        "voclab.data.find = find",
    )
    below = notebook.cells.index(parameters) + 1
    notebook.cells[below:below] = [nbformat.v4.new_code_cell(text) for text in first]
    nbformat.write(notebook, source)
    own = {"PYTHONPATH", "PYTEST_CURRENT_TEST", "MPLBACKEND", "JUPYTER_PATH"}
    inherited = {key: value for key, value in os.environ.items() if key not in own}
    variables = inherited | {"PIP_NO_INDEX": "1", "JUPYTER_NO_CONFIG": "1"} | environment
    command = [python, "-c", _EXECUTE, source.name, result]
    done = subprocess.run(command, cwd=work, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    executed = nbformat.read(result, as_version=4)
    where = Path(executed.cells[below + 1].outputs[0].text.strip())
    assert where.is_relative_to(python.parents[1])  # not a checkout's package
    return executed


@pytest.mark.slow
def test_a_notebook_alone_on_colab_installs_the_package_and_runs(wheel, elsewhere, tmp_path):
    work = tmp_path / "content"
    work.mkdir()
    shutil.copy(wheel, work)
    execute("05_cifar10", elsewhere, work, tmp_path / "none", tmp_path / "done.ipynb")
    assert {entry.name for entry in work.iterdir()} == {"05_cifar10.ipynb", wheel.name, "data", "runs"}


@pytest.mark.slow
def test_a_notebook_on_kaggle_leaves_one_submission_and_few_files(wheel, elsewhere, tmp_path):
    tree = make_toyvoc(tmp_path / "toyvoc", train=60, val=12, test=4, size=64, progress=False)
    train, test_set = (load("toyvoc", tree, split) for split in ("train", "val"))
    mounted, work = tmp_path / "input", tmp_path / "working"
    export(train, test_set, mounted / "some-competition", progress=False)
    (mounted / "package").mkdir()
    shutil.copy(wheel, mounted / "package")
    before = contents(mounted)
    folders = [mounted, *(path for path in mounted.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    for folder in (work, tmp_path / "tmp"):
        folder.mkdir()
    temporary = {"TMPDIR": str(tmp_path / "tmp"), "KAGGLE_KERNEL_RUN_TYPE": "Batch"}
    executed = execute("01_classification", elsewhere, work, mounted, tmp_path / "done.ipynb", **temporary)
    for folder in folders:
        folder.chmod(0o755)
    assert contents(mounted) == before
    assert set(contents(work)) == {"01_classification.ipynb", "submission.csv"}
    report = check_submission(
        work / "submission.csv", ids=kaggle.read(mounted / "some-competition", "test").ids
    )
    assert report.kinds == ("classification", "segmentation")
    assert "segmentation rows are empty" in nbformat.writes(executed)
