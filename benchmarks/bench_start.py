"""Start: seconds until the command line answers, as a process of its own."""

import subprocess
import sys
import tempfile
from pathlib import Path

import common
from masks import label_maps

ROWS = 1500


def voclab(*arguments: str) -> None:
    """The command, run by the same Python as this benchmark."""
    command = [sys.executable, "-c", "import sys; from voclab.cli import main; sys.exit(main())", *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def measure(quick: bool) -> common.Report:
    import numpy as np

    from voclab.kaggle import write_submission

    masks = label_maps(10 if quick else ROWS // 2)
    labels = np.array([np.isin(np.arange(1, 21), mask) for mask in masks]).astype(np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "submission.csv"
        write_submission(file, range(len(masks)), labels, masks)
        bare = [sys.executable, "-c", "pass"]
        starts = common.timed(
            {"voclab": lambda: voclab("--help"), "python alone": lambda: subprocess.run(bare, check=True)}
        )
        checks = common.timed({"voclab": lambda: voclab("submit", "check", str(file))})
    cases = [
        common.Case("voclab --help", starts, limit=0.5),
        common.Case(f"voclab submit check, {2 * len(masks)} rows", checks, limit=2.0),
    ]
    return common.Report("start", "Start of the command line", "Each call is a new process.", cases)


if __name__ == "__main__":
    sys.exit(common.main(measure, __doc__))
