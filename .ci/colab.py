"""Runs the notebooks on the versions that Colab ships: `make test-colab`.

Makes `.venv-colab` of `colab-constraints.txt` on Python 3.13 or 3.12, lets the notebooks' own cell install
the package's wheel there, checks that this replaced nothing, runs all notebooks in `smoke`, and the part of
the tests that trains nothing. `--python` only prints the Python that would be taken, or fails where none is.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONSTRAINTS = ROOT / ".ci" / "colab-constraints.txt"
ENVIRONMENT = ROOT / ".venv-colab"
PYTHON = ENVIRONMENT / "bin" / "python"
BASE = ENVIRONMENT / "base.txt"  # what is installed before voclab is
VERSIONS = ("3.13", "3.12")
TOOLS = ("pytest", "pytest-xdist", "hypothesis", "foolbox", "mapie")  # for the tests; Colab has the others
# These train networks, or are about the checkout or what stands in its own environment.
LEFT_OUT = (
    "accelerators",
    "adversarial_training",
    "adversary",
    "adversary_figures",
    "adversary_study",
    "app_browser",
    "attacks_budget",
    "attacks_gradient",
    "attacks_measures",
    "attacks_worst_case",
    "averages",
    "averaging",
    "benchmarks",
    "cifar10_experiment",
    "classification",
    "colab",
    "consistency",
    "consistency_command",
    "contributing_examples",
    "evaluation",
    "gallery_browser",
    "kills",
    "machines",
    "notebooks_changed",
    "packaging",
    "push",
    "robustness_report",
    "safety",
    "segmentation_study",
    "segmentation_training",
    "self_supervised",
    "studies",
    "sweep",
    "together",
    "trades",
    "train_command",
    "training",
    "uncertainty",
    "unlabelled",
    "zoo",
)
_INSTALL = """
import sys, nbclient, nbformat
notebook = nbformat.read(sys.argv[1], as_version=4)
notebook.cells = [c for c in notebook.cells if "install" in c.metadata.get("tags", [])]
assert len(notebook.cells) == 1, "no install cell"
nbclient.NotebookClient(notebook, kernel_name="python3").execute()
print(*(output.get("text", "") for output in notebook.cells[0].outputs), end="")
"""


def main() -> int:
    """Run what the options ask for; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", action="store_true", help="print the Python that is taken, do nothing")
    asked = parser.parse_args()
    python = suitable_python()
    if python is None:
        print(f"No Python {' or '.join(VERSIONS)} that runs is on PATH or among pyenv's.", file=sys.stderr)
        return 1
    if asked.python:
        print(python)
        return 0
    make_environment(python)
    with tempfile.TemporaryDirectory() as scratch:
        install(Path(scratch))
        print("== all notebooks, smoke profile", flush=True)
        run(PYTHON.with_name("voclab"), "run", "all", "--profile", "smoke", cwd=scratch)
    test()
    return 0


def suitable_python() -> str | None:
    """The first Python of a version that Colab had, which runs and can make environments."""
    for version in VERSIONS:
        for python in candidates(version):
            code = "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"
            try:
                done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
            except (OSError, subprocess.CalledProcessError):  # e.g. a version manager's shim
                continue
            if done.stdout.strip() == version:
                return python
    return None


def candidates(version: str) -> Iterator[str]:
    """Where a Python of that version may be."""
    if os.environ.get("PYTHON"):
        yield os.environ["PYTHON"]
    for folder in os.get_exec_path():
        yield os.path.join(folder, f"python{version}")
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    yield from map(str, sorted(pyenv.glob(f"versions/{version}.*/bin/python"), reverse=True))


def make_environment(python: str) -> None:
    """Make the environment, or take out of an earlier one what was installed after Colab's list."""
    stamp, made_of = ENVIRONMENT / "made-of.txt", f"{python}\n{CONSTRAINTS.read_text()}"
    if stamp.is_file() and stamp.read_text() == made_of:
        base = BASE.read_text().splitlines()
        added = [name(line) for line in installed() if name(line) not in map(name, base)]
        if added:
            pip("uninstall", "--yes", *added)
        if installed() == base:
            return
    print(f"== {ENVIRONMENT.name}: Colab's versions on {python} (2 GB, some minutes)", flush=True)
    run(python, "-m", "venv", "--clear", ENVIRONMENT)
    pip("install", "-r", CONSTRAINTS)
    BASE.write_text("\n".join(installed()) + "\n")
    stamp.write_text(made_of)


def install(folder: Path) -> None:
    """Put notebooks and wheel into a folder, as people do on Colab, and run the notebooks' install cell.

    What it replaces of Colab's own versions is an error.
    """
    source = folder / "source"
    shutil.copytree(ROOT / "src", source / "src", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source)
    build = ("-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation")
    run(sys.executable, *build, "--wheel-dir", folder, source)
    shutil.rmtree(source)
    shutil.copytree(ROOT / "notebooks", folder / "notebooks")
    before = installed()
    for notebook in sorted((folder / "notebooks").glob("*.ipynb")):
        run(PYTHON, "-c", _INSTALL, notebook, cwd=folder)
    after = installed()
    print(f"== installed by the notebooks' cell: {', '.join(sorted(set(after) - set(before)))}", flush=True)
    if gone := sorted(set(before) - set(after)):
        sys.exit(f"Installing voclab replaced {', '.join(gone)} of what Colab ships.")
    if "voclab" not in map(name, after):
        sys.exit("The notebooks' cell did not install voclab.")


def test() -> None:
    """Run the tests that train nothing, with the installed package."""
    pins = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line
    )
    print("== the tests that train nothing", flush=True)
    pip("install", "-c", BASE, *(f"{tool}=={pins[tool]}" for tool in TOOLS))
    options = ("-n", "2", "--dist", "loadfile", "-p", "no:cacheprovider")
    run(PYTHON, "-m", "pytest", *options, *(f"--ignore=tests/test_{left}.py" for left in LEFT_OUT))


def pip(*arguments) -> None:
    """Run pip in the environment."""
    run(PYTHON, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments)


def installed() -> list[str]:
    """What is installed in the environment, a requirement each."""
    command = [PYTHON, "-m", "pip", "--disable-pip-version-check", "freeze"]
    return subprocess.run(
        command, capture_output=True, text=True, check=True, env=variables()
    ).stdout.splitlines()


def name(requirement: str) -> str:
    """Its name: of ``numpy==2.1.3`` and of ``voclab @ file:///...``."""
    return requirement.replace("=", " ").split()[0]


def run(*command, cwd: str | os.PathLike = ROOT) -> None:
    """Run a command, or end with its status."""
    status = subprocess.run(list(map(str, command)), cwd=cwd, env=variables()).returncode
    if status:
        sys.exit(status)


def variables() -> dict[str, str]:
    """The environment's variables without those that would let other packages or kernels in."""
    kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return kept | {"JUPYTER_PREFER_ENV_PATH": "1", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}


if __name__ == "__main__":
    sys.exit(main())
