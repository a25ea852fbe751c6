import importlib.metadata
import importlib.util
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
from nbconvert import HTMLExporter
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT, BUILD = PYPROJECT["project"], PYPROJECT["build-system"]["requires"]
NEEDED = PROJECT["dependencies"]
EXTRAS = PROJECT["optional-dependencies"].values()
EVERYTHING = [
    *dict.fromkeys(NEEDED + [text for extra in EXTRAS for text in extra])
]  # tests need some of them
ENVIRONMENT = (ROOT / "environment.yml").read_text()


def pins(file: str = "constraints.txt") -> dict[str, str]:
    lines = [line for line in (ROOT / file).read_text().splitlines() if not line.startswith("#")]
    found = dict(line.split("==") for line in lines)
    return {canonicalize_name(name): version for name, version in found.items()}


COLAB = pins(".ci/colab-constraints.txt")  # what `make test-colab` runs on


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


@pytest.mark.parametrize("text", EVERYTHING + BUILD)
def test_what_is_allowed_at_least_is_what_is_run(text):
    """Colab's version, where an installation then leaves it as it is, else the pinned one."""
    requirement = Requirement(text)
    name = canonicalize_name(requirement.name)
    (least,) = [one.version for one in requirement.specifier if one.operator == ">="]
    assert least == COLAB.get(name, pins()[name])
    assert requirement.specifier.contains(least)


def test_only_two_packages_come_with_voclab_on_colab():
    missing = {canonicalize_name(Requirement(text).name) for text in NEEDED} - set(COLAB)
    assert missing == {"iterative-stratification", "ai-edge-litert"}


def test_the_workflow_does_what_ci_run_does_on_every_python():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    (job,) = workflow["jobs"].values()
    admitted = SpecifierSet(PROJECT["requires-python"])
    versions = [f"3.{minor}" for minor in range(5, 30) if admitted.contains(f"3.{minor}.5")]
    assert job["strategy"]["matrix"]["python"] == versions == ["3.11", "3.12", "3.13"]
    assert [step["run"] for step in job["steps"] if "run" in step] == ["bash .ci/run"]
    assert job["env"] == {"PYTHON": "python"}  # which make and .ci/colab.py then take


@pytest.fixture
def colab(monkeypatch):
    """The script behind `make test-colab`, on a machine without any Python that it could take."""
    spec = importlib.util.spec_from_file_location("colab", ROOT / ".ci" / "colab.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in ("PYTHON", "PYENV_ROOT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", os.devnull)
    monkeypatch.setenv("PATH", os.devnull)
    return module


def test_the_tests_that_are_left_out_on_colab_exist(colab):
    assert [name for name in colab.LEFT_OUT if not (ROOT / "tests" / f"test_{name}.py").is_file()] == []


@pytest.mark.skipif(os.name == "nt", reason="stands in for Python with shell scripts")
def test_a_python_for_colab_is_one_that_runs(colab, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["colab.py", "--python"])
    assert colab.main() == 1
    assert "No Python 3.13 or 3.12 that runs" in capsys.readouterr().err
    for folder in ("bin", "versions/3.12.1/bin", "versions/3.13.0/bin"):
        (tmp_path / folder).mkdir(parents=True)
    script(tmp_path / "bin" / "python3.13", "exit 127")  # as a version manager's shim without that version
    script(tmp_path / "bin" / "python3.12", "echo 3.12")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert colab.suitable_python() == str(tmp_path / "bin" / "python3.12")
    script(tmp_path / "versions/3.13.0/bin/python", "echo 3.13")
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    assert colab.main() == 0
    assert capsys.readouterr().out == f"{tmp_path}/versions/3.13.0/bin/python\n"
    script(tmp_path / "named", "echo 3.11")
    monkeypatch.setenv("PYTHON", str(tmp_path / "named"))  # of another version: passed over
    assert colab.suitable_python() == f"{tmp_path}/versions/3.13.0/bin/python"


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
        assert top not in (".venv", ".venv-colab", "runs")
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
    assert re.findall(r"^make ([\w-]+)", shown, re.M) == phony


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
    assert first.endswith("-c constraints.txt -e .[weights]")
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


NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_committed_notebooks_were_executed_on_the_embedded_data_and_show_their_images(path):
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


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_all_images_of_committed_notebooks_keep_their_alternative_text_as_html(path):
    html, _ = HTMLExporter().from_filename(str(path))
    alternatives = re.findall(r'<img [^>]*?alt="([^"]*)"', html)
    assert len(alternatives) == html.count("<img ") >= 5
    assert all(len(text) > 15 and "No description" not in text for text in alternatives)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_captions_of_committed_notebooks_say_which_images_are_drawn(path):
    outputs = [output for cell in json.loads(path.read_text())["cells"] for output in cell.get("outputs", [])]
    shown = ["".join(output.get("data", {}).get("text/markdown", "")) for output in outputs]
    captions = [text for text in shown if re.fullmatch(r"\*[^*].*[^*]\*", text)]
    assert len(captions) >= 10
    about = [text for text in captions if re.search("image|image|image", text, re.IGNORECASE)]
    assert len(about) >= 5
    assert [text for text in about if not re.search(r"ToyVOC|ToyCIFAR", text)] == []
