"""A notebook with one line changed: every table and figure after it takes the change in."""

import json
import shutil
from pathlib import Path

import nbformat

from voclab.reporting import notebooks

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"


def changed(tmp_path, name: str, cell: str, line: str) -> Path:
    """Folder with a copy of the notebook in which ``line`` stands first in the cell of that id."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    path = Path(shutil.copy(NOTEBOOKS / name, folder))
    notebook = nbformat.read(path, 4)
    found = next(c for c in notebook.cells if c.id == cell)
    found.source = f"{line}\n{found.source}"
    nbformat.write(notebook, path)
    return folder


def test_another_attack_is_in_all_tables_and_figures_of_notebook_03(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line = (
        'settings.attacks = {"sign noise": attacks.Noise(), "PGD-2": attacks.PGD(steps=2)}; '
        "settings.penalty_weights = ()"
    )
    folder = changed(tmp_path, "03_adversary.ipynb", "e01", line)
    parameters = {"profile": "smoke", "data": "toyvoc", "weights": "none", "out": str(tmp_path / "out")}
    notebooks.run("03", parameters=parameters, notebooks_dir=folder, progress=False)
    record = json.loads(next((tmp_path / "out").rglob("run.json")).read_text())
    text = json.dumps(record)
    assert "PGD-2" in record["answer"]
    assert text.count("PGD-2") > 5  # tables of both victims, the list of attacks, the defence
    assert "momentum" not in record["answer"]
