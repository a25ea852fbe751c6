"""The command line: quick help, one sentence and status 2 for what the user can mend."""

import subprocess
import sys

import numpy as np
import pytest

from voclab import cli, submission


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


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["data", "info", "--data", "nowhere"], "nowhere is neither"),
        (["submit", "check", "gone.csv"], "gone.csv"),
        (["run", "99"], "99"),
        (["data", "fetch", "kaggle"], "--competition"),
    ],
)
def test_what_the_user_can_mend_is_one_sentence_and_status_2(arguments, words, capsys):
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("voclab: ")
    assert words in error
    assert error.count("\n") == 1


def test_check_merge_and_score_work_together(tmp_path, capsys):
    ids, rng = ["7", "3"], np.random.default_rng(0)
    labels = rng.integers(0, 2, (2, 20)).astype(np.uint8)
    maps = [rng.integers(0, 21, (12, 9)).astype(np.uint8) for _ in ids]
    parts = {name: str(tmp_path / f"{name}.csv") for name in ("labels", "masks", "all", "truth")}
    submission.write_submission(parts["labels"], ids, labels=labels)
    submission.write_submission(parts["masks"], ids, label_maps=maps)
    submission.write_submission(parts["truth"], ids, labels=labels, label_maps=maps)
    assert cli.main(["submit", "merge", parts["labels"], parts["masks"], "--to", parts["all"]]) == 0
    assert cli.main(["submit", "check", parts["all"]]) == 0
    assert cli.main(["submit", "score", parts["all"], parts["truth"], "--json"]) == 0
    assert '"mean": 1.0' in capsys.readouterr().out
