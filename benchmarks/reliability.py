"""Reliability: work that is killed at random moments and given again ends as if nothing had happened."""

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
import killing


def kill_push(seed: int, kills: int) -> dict[str, int]:
    """Kill `voclab submit push` that often, against a local server that speaks the Kaggle client's protocol.

    Returns:
        ``kills``, ``pushes`` that were finished after them, and of these those ``not_sent``, ``sent_twice``,
        or with ``other_results`` than an unbroken push.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = killing.killed_push(Path(folder) / "work", kills, seed)
    times = list(report["sent"].values())
    other = sum(files != report["unbroken"] for files in report["resumed"])
    return {
        "kills": report["kills"],
        "pushes": len(report["resumed"]),
        "not_sent": times.count(0),
        "sent_twice": sum(n > 1 for n in times),
        "other_results": other + len(report["faults"]),
    }


if __name__ == "__main__":
    print(kill_push(*map(int, sys.argv[1:3] or (0, 100))))
