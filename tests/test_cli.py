"""The command line: quick help, one sentence and status 2 for what the user can mend."""

import subprocess
import sys

import nbformat
import numpy as np
import pytest
from voc_trees import make_tree

from voclab import cli, kaggle


@pytest.mark.parametrize("arguments", [["--help"], ["data", "--help"], ["submit", "--help"]])
def test_help_does_not_load_tensorflow(arguments):
    code = (
        "import sys; from voclab.cli import main\n"
        f"try: main({arguments!r})\n"
        "except SystemExit: pass\n"
        "print([m for m in ('tensorflow', 'keras', 'albumentations', 'matplotlib') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip().endswith("[]")
    assert "usage: voclab" in out


def test_keras_starts_without_a_word():
    code = "import sys; from voclab.terminal import start_keras; start_keras(); assert 'keras' in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == done.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["data", "info", "--data", "nowhere"], "There is no folder nowhere"),
        (["submit", "check", "gone.csv"], "gone.csv"),
        (["run", "99"], "99"),
        (["run", "01", "99"], "99"),
        (["run", "01", "02", "--output", "both.ipynb"], "Several notebooks cannot be saved"),
        (["run", "all", "--output", "all.ipynb"], "Several notebooks cannot be saved"),
        (["data", "fetch", "kaggle"], "--competition"),
    ],
)
def test_what_the_user_can_mend_is_one_sentence_and_status_2(arguments, words, capsys):
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("voclab: ")
    assert words in error
    assert error.count("\n") == 1


def test_several_notebooks_run_in_the_order_in_which_they_are_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notebooks").mkdir()
    for name in ("01_a", "02_b", "03_c"):
        book = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(f"open('ran', 'a').write('{name} ')")]
        )
        (tmp_path / "notebooks" / f"{name}.ipynb").write_text(nbformat.writes(book))
    assert cli.main(["run", "03", "01"]) == 0
    assert (tmp_path / "ran").read_text().split() == ["03_c", "01_a"]
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == ["03_c", "01_a"]
    assert cli.main(["run", "02", "04"]) == 2
    assert (tmp_path / "ran").read_text().split() == ["03_c", "01_a"]  # 04 is missed before 02 is run


def test_check_merge_and_score_work_together(tmp_path, capsys):
    ids, rng = ["7", "3"], np.random.default_rng(0)
    labels = rng.integers(0, 2, (2, 20)).astype(np.uint8)
    maps = [rng.integers(0, 21, (12, 9)).astype(np.uint8) for _ in ids]
    parts = {name: str(tmp_path / f"{name}.csv") for name in ("labels", "masks", "all", "truth")}
    kaggle.write_submission(parts["labels"], ids, labels=labels)
    kaggle.write_submission(parts["masks"], ids, label_maps=maps)
    kaggle.write_submission(parts["truth"], ids, labels=labels, label_maps=maps)
    assert cli.main(["submit", "merge", parts["labels"], parts["masks"], "--to", parts["all"]]) == 0
    assert cli.main(["submit", "check", parts["all"]]) == 0
    assert cli.main(["submit", "score", parts["all"], parts["truth"], "--json"]) == 0
    assert '"mean": 1.0' in capsys.readouterr().out
    assert cli.main(["submit", "merge", parts["labels"], parts["masks"], "--to", parts["all"]]) == 0  # again
    own = tmp_path / "thesis.txt"
    own.write_text("my thesis")
    assert cli.main(["submit", "merge", parts["labels"], parts["masks"], "--to", str(own)]) == 2
    assert "thesis.txt, which is there and no submission" in capsys.readouterr().err
    assert own.read_text() == "my thesis"


def test_damaged_data_is_named_in_one_line(tmp_path, capsys):
    tree = make_tree(tmp_path / "tree", annotations=False)
    image = tree.folder / "JPEGImages" / "2009_000001.jpg"
    image.write_bytes(image.read_bytes()[:200])
    assert cli.main(["data", "export", "--data", str(tree.root), "--to", str(tmp_path / "new")]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("voclab: ")]
    assert "2009_000001.jpg" in line


def test_a_folder_that_cannot_be_written_is_named(tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    assert cli.main(["data", "make", "--root", str(tmp_path / "file" / "toy"), "--train", "2"]) == 2
    assert "file" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "in the way"
