"""Reliability: damaged files end in success or in one sentence, and killed work as if nothing had happened.

``reliability.py fuzz`` and ``reliability.py kills`` write their numbers into docs/reliability.md. What they
do stands in tests/fuzzing.py and tests/killing.py, of which the tests run a small part.
"""

import argparse
import datetime
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

from common import processor, version

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))
PAGE = ROOT / "docs" / "reliability.md"
KILLS = {  # kind of work in killing.py -> its words, and its share of the kills
    "pushing": ("`voclab submit push` to a server that speaks Kaggle's protocol", 20),
    "fetching": ("`voclab data fetch voc2009` from a server, and extraction", 15),
    "extracting": ("extraction of a tar and a zip", 10),
    "making": ("`voclab data make`", 10),
    "exporting": ("`voclab data export`", 10),
    "writing": ("submissions: two halves and `voclab submit merge`", 10),
    "showing": ("`voclab gallery`", 5),
    "training": ("a training with its predictions and metrics", 10),
    "commanding": ("`voclab train`", 5),
    "executing": ("`voclab run` of a notebook, in its place", 5),
}


def tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def fuzz(files: int, seed: int) -> tuple[list[str], bool]:
    """Read that many damaged files; returns the lines of the page, and whether all ended as they must."""
    import fuzzing

    report = fuzzing.run(files, seed, progress=tell)
    kinds = ("files", "read", "refused", "other")
    lines = ["| input | files | read | refused | other |", "| --- | ---: | ---: | ---: | ---: |"]
    total = {kind: sum(found[kind] for found in report.values()) for kind in kinds}
    for name, found in (*report.items(), ("**all**", total)):
        lines.append(f"| {' | '.join([name, *(str(found[kind]) for kind in kinds)])} |")
    for name, found in report.items():
        for fault in found["faults"]:
            tell(f"{name}, number {fault['number']}, {fault['damage']}\n{fault['text']}")
    noise = {line for found in report.values() for line in found["noise"]}
    tell("On standard error, with numbers and names as …:\n" + "\n".join(sorted(noise)))
    return lines, not total["other"]


def kill(times: int, seed: int) -> tuple[list[str], bool]:
    """Kill work that many times in all; returns the lines of the page, and whether all ended as they must."""
    import killing

    lines = ["| work | kills | ended | identical |", "| --- | ---: | ---: | ---: |"]
    parts = sum(share for _, share in KILLS.values())
    totals, begun = [0, 0, 0], time.monotonic()
    for kind, (words, share) in KILLS.items():
        wanted = -(-times * share // parts)
        own = {"pushing": killing.killed_push, "fetching": killing.killed_fetch}.get(kind)
        with tempfile.TemporaryDirectory() as folder:
            work = Path(folder) / "work"
            report = own(work, wanted, seed) if own else killing.killed(kind, work, wanted, seed)
        bad = [files for files in report["resumed"] if files != report["unbroken"]]
        counts = [report["kills"], len(report["resumed"]), len(report["resumed"]) - len(bad)]
        sent = set(report.get("sent", {"": 1}).values())
        if report["faults"] or sent != {1}:
            counts[2] = 0  # a half was left, or a file was sent twice or never
        for files in bad:
            differing = sorted(set(files.items()) ^ set(report["unbroken"].items()))
            tell(f"{kind}: other files: {', '.join(sorted({name for name, _ in differing}))}")
        for fault in report["faults"]:
            tell(fault)
        totals = [a + b for a, b in zip(totals, counts, strict=True)]
        lines.append(f"| {' | '.join([words, *map(str, counts)])} |")
        left = (time.monotonic() - begun) / max(1, totals[0]) * (times - totals[0])
        tell(f"{totals[0]} of {times} kills ({kind}); about {max(0, left) / 60:.0f} min left")
    lines.append(f"| {' | '.join(['**all**', *map(str, totals)])} |")
    return lines, totals[1] == totals[2]


def write(part: str, command: str, lines: list[str], page: Path = PAGE) -> None:
    """Replace what stands between the marks of a part of the page."""
    packages = ("numpy", "pillow", "opencv-python-headless", "nbformat", "keras", "tensorflow", "kaggle")
    versions = ", ".join(f"{name} {number}" for name in packages if (number := version(name)))
    machine = (
        f"{processor()}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"
    )
    text, begin, end = page.read_text(encoding="utf-8"), f"<!-- {part} -->\n", f"<!-- /{part} -->\n"
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    said = ["", f"    {command}", "", *lines, "", f"{machine}; {versions}; {datetime.date.today()}.", ""]
    page.write_text(before + begin + "\n".join(said) + end + after, encoding="utf-8")


def main() -> int:
    """Returns the exit status, 1 if anything ended as it must not."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    group = parser.add_subparsers(dest="part", required=True)
    for name, option, default in (("fuzz", "--files", 10_000), ("kills", "--times", 100)):
        command = group.add_parser(name)
        command.add_argument(option, type=int, default=default, dest="amount")
        command.add_argument("--seed", type=int, default=0)
        command.add_argument("--try", action="store_true", dest="dry", help="print, leave the page as it is")
    given = parser.parse_args()
    lines, sound = (fuzz if given.part == "fuzz" else kill)(given.amount, given.seed)
    option = "--files" if given.part == "fuzz" else "--times"
    command = f"python benchmarks/reliability.py {given.part} {option} {given.amount} --seed {given.seed}"
    if given.dry:
        print(json.dumps(lines, indent=1, ensure_ascii=False))
    else:
        write(given.part, command, lines)
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
