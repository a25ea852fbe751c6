import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NEEDED = PROJECT["dependencies"]
EVERYTHING = NEEDED + [text for extra in PROJECT["optional-dependencies"].values() for text in extra]
ENVIRONMENT = (ROOT / "environment.yml").read_text()

# What Colab has installed (2026); an installation there must leave it as it is.
COLAB = {
    "tensorflow": "2.20.0",
    "keras": "3.13.2",
    "numpy": "2.1.3",
    "pandas": "2.2.3",
    "scikit-learn": "1.6.1",
    "matplotlib": "3.10.0",
    "seaborn": "0.13.2",
    "pillow": "11.3.0",
    "opencv-python-headless": "4.13.0.92",
    "albumentations": "2.0.8",
    "defusedxml": "0.7.1",
    "tqdm": "4.67.3",
    "requests": "2.32.4",
    "kaggle": "2.0.2",
    "nbformat": "5.10.4",
    "nbclient": "0.10.4",
    "ipykernel": "6.17.1",
    "ipython": "7.34.0",
    "scikit-image": "0.25.2",
    "scipy": "1.15.2",  # of 2025; it has not gone back since
}


def pins() -> dict[str, str]:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    return dict(line.split("==") for line in lines)


def conda() -> tuple[list[str], list[str]]:
    """Requirements of environment.yml: those of conda and those of pip."""
    dependencies = yaml.safe_load(ENVIRONMENT)["dependencies"]
    return [entry for entry in dependencies if isinstance(entry, str)], dependencies[-1]["pip"]


def test_environment_lists_what_pyproject_lists():
    of_conda, of_pip = conda()
    assert of_pip[0] == "-c constraints.txt"
    assert of_pip[-1] == "-e ."
    assert sorted(of_pip[1:-1]) == sorted(EVERYTHING)
    python, pip = of_conda
    assert pip == "pip"
    assert SpecifierSet(python.removeprefix("python")) == SpecifierSet(PROJECT["requires-python"])


def test_environment_says_what_each_dependency_is_for():
    entries = [line for line in ENVIRONMENT.splitlines() if re.match(r"\s+- (?!pip:|conda-forge)", line)]
    assert len(entries) == len(EVERYTHING) + 4  # python, pip, the constraints, voclab
    for line in entries:
        assert re.search(r"  # \S.{7,}", line), f"no purpose given: {line}"


@pytest.mark.parametrize("text", EVERYTHING)
def test_constraints_pin_every_dependency_within_its_bounds(text):
    requirement = Requirement(text)
    assert requirement.specifier.contains(pins()[canonicalize_name(requirement.name)])


def test_constraints_are_plain_pins_in_order():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    lines = [line for line in lines if not line.startswith("#")]
    for line in lines:
        name, version = re.fullmatch(r"([a-z0-9-]+)==([0-9][0-9a-z.]*)", line).groups()
        assert name == canonicalize_name(name)
        assert SpecifierSet(f"=={version}")
    assert lines == sorted(set(lines))


def test_constraints_pin_what_the_dependencies_need_in_turn():
    pinned, seen, waiting = pins(), set(), [Requirement(text) for text in EVERYTHING]
    while waiting:
        requirement = waiting.pop()
        key = (canonicalize_name(requirement.name), tuple(sorted(requirement.extras)))
        if key in seen:
            continue
        seen.add(key)
        assert key[0] in pinned
        try:
            inner = importlib.metadata.requires(key[0]) or []
        except importlib.metadata.PackageNotFoundError:  # of an extra that is not installed here
            continue
        for needed in map(Requirement, inner):
            extras = ["", *requirement.extras]
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append(needed)
    assert len(seen) > 60


@pytest.mark.parametrize("text", NEEDED)
def test_colab_keeps_its_versions(text):
    requirement = Requirement(text)
    if requirement.name == "iterative-stratification":  # pure Python and not there
        assert requirement.name not in COLAB
        return
    assert requirement.specifier.contains(COLAB[requirement.name])


@pytest.mark.parametrize("version", ["3.11.7", "3.12.12", "3.13.5"])
def test_python_of_colab_and_of_the_classifiers_is_admitted(version):
    assert SpecifierSet(PROJECT["requires-python"]).contains(version)
    assert not SpecifierSet(PROJECT["requires-python"]).contains("3.10.14")


def test_albumentations_stays_on_its_mit_line():
    (requirement,) = [Requirement(text) for text in NEEDED if text.startswith("albumentations")]
    assert not requirement.specifier.contains("2.1.0")
    names = {canonicalize_name(Requirement(text).name) for text in EVERYTHING} | set(pins())
    assert "albumentationsx" not in names
    assert "albumentationsx" not in ENVIRONMENT
    with pytest.raises(importlib.metadata.PackageNotFoundError):
        importlib.metadata.version("albumentationsx")


def test_licence_is_what_pyproject_says():
    assert PROJECT["license"] == "MIT"
    for name in PROJECT["license-files"]:
        assert (ROOT / name).read_text().startswith("MIT License\n\nCopyright (c) 2026 voclab contributors\n")


def committed() -> list[Path]:
    """Files that are committed or would be."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"needs a git checkout: {error}")
    paths = [ROOT / name for name in done.stdout.split("\0") if name]
    assert ROOT / "pyproject.toml" in paths
    return [path for path in paths if path.is_file()]


def test_no_committed_file_names_a_package_registry_or_a_lock_address():
    # Written in pieces so that this file does not hold what it looks for.
    hosts = [
        "pypi" + r"\.org",
        "python" + r"hosted\.org",
        "ana" + r"conda\.(?:org|com)",
        "/simple" + "/[a-z]",
    ]
    options = ["--" + "(?:extra-)?index-url", "--" + "find-links", "--hash=" + "sha256"]
    pattern = re.compile("|".join(hosts + options).encode())
    found = {str(p.relative_to(ROOT)): pattern.search(p.read_bytes()) for p in committed()}
    assert {name: match.group() for name, match in found.items() if match} == {}


def test_no_committed_file_is_data_or_an_environment():
    for path in committed():
        top = path.relative_to(ROOT).parts[0]
        assert top not in (".venv", "runs")
        assert top not in ("data", "submissions") or path.name == "README.md"


@pytest.fixture
def checkout(tmp_path):
    """The Makefile in a folder with a space, and a PATH on which no Python is suitable."""
    folder = tmp_path / "a checkout"
    folder.mkdir()
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("sh", "make", "awk", "touch", "rm", "mkdir", "dirname", "cat"):
        if shutil.which(name):
            (tools / name).symlink_to(shutil.which(name))
    return folder, tools


def make(checkout, *arguments, **environment):
    folder, tools = checkout
    return subprocess.run(
        ["make", *arguments],
        cwd=folder,
        env={"PATH": str(tools), **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


def script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


needs_make = pytest.mark.skipif(shutil.which("make") is None or os.name == "nt", reason="needs make")


@needs_make
def test_make_help_names_every_target(checkout):
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.M).group(1).split()
    shown = make(checkout).stdout
    assert re.findall(r"^make (\w+)", shown, re.M) == phony


@needs_make
def test_make_says_which_python_is_needed_when_there_is_none(checkout):
    script(checkout[1] / "python3", "exit 1")  # too old, or without venv
    done = make(checkout, "install")
    assert done.returncode != 0
    assert "Python 3.11, 3.12 or 3.13" in done.stderr
    assert not (checkout[0] / ".venv").exists()


@needs_make
def test_make_passes_over_unusable_pythons_and_installs_once(checkout):
    folder, tools = checkout
    script(tools / "python3.13", "exit 127")  # as a version manager's shim without that version does
    # Stands in for `python -m venv`: a suitable Python whose environment notes down what pip is asked for.
    inner = '#!/bin/sh\necho "$*" >> pip.log\n'
    script(
        tools / "python3.12",
        f"case \"$*\" in *venv*--clear*) mkdir -p .venv/bin; printf '%s' '{inner}' > .venv/bin/python;"
        ' chmod="$(command -v chmod || echo /bin/chmod)"; "$chmod" +x .venv/bin/python;; esac',
    )
    assert make(checkout, "install").returncode == 0
    (first,) = (folder / "pip.log").read_text().splitlines()
    assert first.endswith("-c constraints.txt -e .")
    assert make(checkout, "install").returncode == 0
    assert len((folder / "pip.log").read_text().splitlines()) == 1
    os.utime(folder / "constraints.txt", (2**31, 2**31))
    assert make(checkout, "install").returncode == 0
    assert len((folder / "pip.log").read_text().splitlines()) == 2


@needs_make
def test_make_takes_the_python_that_is_named(checkout):
    checkout[1].joinpath("python3").symlink_to(sys.executable)
    named = checkout[0].parent / "my python"
    script(named, "exit 1")
    done = make(checkout, "install", f"PYTHON={named}")
    assert done.returncode != 0
    assert str(named) in done.stderr


@needs_make
def test_make_clean_leaves_what_is_yours(checkout):
    folder, _ = checkout
    for name in ("data/VOCdevkit", "submissions", "figures", ".venv/bin", "runs/a"):
        (folder / name).mkdir(parents=True)
        (folder / name / "file").touch()
    assert make(checkout, "clean").returncode == 0
    left = {path.relative_to(folder).as_posix() for path in folder.rglob("file")}
    assert left == {"data/VOCdevkit/file", "submissions/file", "figures/file", "runs/a/file"}


def test_readme_has_no_placeholder_left():
    assert not re.search(r"\b[A-Z]+_(TIME|TABLE|NOTE)\b", (ROOT / "README.md").read_text())


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_committed_notebooks_were_executed_on_the_embedded_data_and_show_their_pictures(path):
    notebook = json.loads(path.read_text())
    code = [c for c in notebook["cells"] if c["cell_type"] == "code" and "".join(c["source"]).strip()]
    outputs = [output for cell in code for output in cell["outputs"]]
    for position, cell in enumerate(code, start=1):
        written_anew = "install" in cell["metadata"].get("tags", []) and cell["execution_count"] is None
        assert written_anew or cell["execution_count"] == position
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 5
    assert not any(output["output_type"] == "error" for output in outputs)
    assert notebook["metadata"]["voclab"]["parameters"]["data"] in ("embedded", "toyvoc")
    title = "".join(notebook["cells"][0]["source"])
    assert re.search(r"^\*\*The saved outputs show\*\* Toy(VOC|CIFAR) \(drawn images\)", title, re.MULTILINE)
