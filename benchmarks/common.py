"""What all benchmarks share: timing ways in turn, memory, growth with the data, and the record of it all.

A script has a function ``measure(quick) -> Report`` and calls :func:`main` with it. The report goes to
``runs/benchmarks/<name>.json``, from which ``write_page.py`` makes ``docs/benchmarks.md``.
"""

import argparse
import datetime
import importlib.metadata
import json
import multiprocessing
import os
import platform
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "runs" / "benchmarks"
REPETITIONS = 5
OURS = "voclab"


@dataclass
class Case:
    """One thing done in several ways, ``voclab`` among them.

    ``seconds``: of each repetition of each way. ``items``: how many of ``unit`` one call works on.
    ``target``: how many times faster than the fastest other way it should be; ``limit``: how many seconds it
    may take. ``peak_bytes``: of each way, with ``memory_target`` as the share of the other way's that is
    allowed. ``note``: what a reader must know.
    """

    name: str
    seconds: dict[str, list[float]]
    items: int = 1
    unit: str = "call"
    target: float | None = None
    limit: float | None = None
    peak_bytes: dict[str, int] = field(default_factory=dict)
    memory_target: float | None = None
    note: str = ""


@dataclass
class Growth:
    """Seconds and peak memory (bytes above what was there before the call) at several amounts of data."""

    name: str
    unit: str
    items: list[int]
    seconds: list[float]
    peak_bytes: list[int]


@dataclass
class Report:
    """All that one script measured.

    ``what``: the set-up in a few sentences. ``packages``: whose versions are recorded. ``notes``: for the
    page, what was tried where a target is missed.
    """

    name: str
    title: str
    what: str
    cases: list[Case]
    growth: list[Growth] = field(default_factory=list)
    packages: Sequence[str] = ()
    notes: str = ""


def timed(ways: dict[str, Callable], repetitions: int = REPETITIONS) -> dict[str, list[float]]:
    """Seconds of each repetition of each way, taken in turn, after one call of each to warm up."""
    seconds = {name: [] for name in ways}
    for repetition in range(repetitions + 1):
        for name, call in ways.items():
            start = time.perf_counter()
            call()
            if repetition:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def traced_memory(call: Callable) -> int:
    """The most bytes that Python and numpy hold at a time during the call, beyond what they held before."""
    call()
    tracemalloc.start()
    call()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def _resident(key: str) -> int:
    """Bytes of memory of this process: VmRSS, now, or VmHWM, at the peak."""
    status = Path("/proc/self/status").read_text()
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith(key))


def alone(function: Callable, *arguments):
    """The result of a function of a module's top level, called in a new process."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *arguments).result()


def _grown(make: Callable, factor: int) -> tuple[int, float, int]:
    call, items = make(factor)
    seconds = []
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of making the data
    before = _resident("VmRSS")
    for _ in range(3):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    # The first call also loads what is loaded once; its peak counts, its time does not.
    return items, statistics.median(seconds[1:]), _resident("VmHWM") - before


def growth(name: str, unit: str, make: Callable, factors: Sequence[int] = (1, 2, 4)) -> Growth | None:
    """Time and memory of a call at several amounts of data, each in a new process (Linux; None elsewhere).

    ``make(factor)``: a function of a module's top level; returns the call and its number of items.
    """
    if not Path("/proc/self/clear_refs").exists():
        return None
    measured = [alone(_grown, make, factor) for factor in factors]
    items, seconds, peaks = map(list, zip(*measured))
    return Growth(name, unit, items, seconds, peaks)


def processor() -> str:
    """The model of the processor, where the system says it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next(
        (line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine()
    )


def version(package: str) -> str | None:
    """Of an installed package; None if it is not there."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def main(measure: Callable[..., Report], description: str, options: dict[str, str] | None = None) -> None:
    """Command line of a benchmark: measure, write the record, print the ratios.

    ``options``: further options with their help texts; ``measure`` gets their values by name, None without.
    The record is that of the run without any.
    """
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="little data and no growth, to try the script")
    for name, text in (options or {}).items():
        parser.add_argument(f"--{name}", help=text)
    given = vars(parser.parse_args())
    quick = given.pop("quick")
    report = measure(quick, **given)
    report.growth = [entry for entry in report.growth if entry]
    record = asdict(report)
    record["versions"] = {p: version(p) for p in ("numpy", *report.packages) if version(p)}
    record["machine"] = f"{processor()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    record["date"] = datetime.date.today().isoformat()
    for case in report.cases:
        print(f"{case.name}: {ratio(asdict(case))}")
    for entry in report.growth:
        print(f"{entry.name}: {entry.items} {entry.unit}, {entry.seconds} s, {entry.peak_bytes} bytes")
    if not quick and not any(given.values()):
        FOLDER.mkdir(parents=True, exist_ok=True)
        (FOLDER / f"{report.name}.json").write_text(json.dumps(record, indent=1) + "\n")


def ratio(case: dict) -> str:
    """Medians of a case's ways in one line, and ours against the fastest other one."""
    median = {name: statistics.median(values) for name, values in case["seconds"].items()}
    text = ", ".join(f"{name} {1000 * value:.2f} ms" for name, value in median.items())
    others = [value for name, value in median.items() if name != OURS]
    return f"{text}; {min(others) / median[OURS]:.2f} ×" if others else text


if __name__ == "__main__":
    sys.exit("This file is not a benchmark; run those that are named bench_….")
