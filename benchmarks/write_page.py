"""Write docs/benchmarks.md and its plot from what the benchmarks recorded in runs/benchmarks/."""

import json
import statistics
import sys
from pathlib import Path

from common import FOLDER, OURS, processor

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"
PLOT = ROOT / "docs" / "benchmarks_growth.svg"
ORDER = (
    "submission", "metrics", "attacks", "adversary", "export", "perturbations", "input", "training", "torch",
    "start",
)  # fmt: skip


def scaled(seconds: float) -> str:
    """A time in the unit in which it has one to three digits before the point."""
    units = (("s", 1), ("ms", 1e3), ("µs", 1e6))
    unit, factor = next((pair for pair in units if seconds * pair[1] >= 0.9995), units[-1])
    return f"{seconds * factor:.3g} {unit}"


def spread(seconds: list[float], items: int) -> str:
    """Median for one item, and in brackets the range over the repetitions."""
    low, middle, high = (scaled(f(seconds) / items) for f in (min, statistics.median, max))
    return f"{middle} ({low} to {high})"


def verdict(case: dict) -> tuple[str, str]:
    """(how many times faster than the fastest other way, what was asked for)."""
    median = {name: statistics.median(values) for name, values in case["seconds"].items()}
    others = [value for name, value in median.items() if name != OURS]
    if case["limit"]:
        met = median[OURS] <= case["limit"]
        return f"{scaled(median[OURS])}", f"≤ {case['limit']:g} s, {'met' if met else '**missed**'}"
    if not others or OURS not in median:
        return "–", "–"
    ratio = min(others) / median[OURS]
    asked = (
        f"≥ {case['target']:g} ×, {'met' if ratio >= case['target'] else '**missed**'}"
        if case["target"]
        else "–"
    )
    return f"{ratio:.1f} ×" if ratio >= 2 else f"{ratio:.2f} ×", asked


def table(cases: list[dict]) -> list[str]:
    """One row a case; ways that only some cases have get a column of their own all the same."""
    ways = list(dict.fromkeys(name for case in cases for name in case["seconds"]))
    lines = [
        "| | " + " | ".join(ways) + " | faster | asked for |",
        "| --- |" + " ---: |" * (len(ways) + 2),
    ]
    for case in cases:
        times = [
            spread(case["seconds"][way], case["items"]) if way in case["seconds"] else "–" for way in ways
        ]
        name = case["name"] + (f", for each {case['unit']}" if case["items"] > 1 else "")
        lines.append(f"| {' | '.join([name, *times, *verdict(case)])} |")
    return lines


def memory(cases: list[dict]) -> list[str]:
    """A sentence for each case whose memory was measured."""
    lines = []
    for case in cases:
        peak = {way: f"{value / 1e6:.2f} MB" for way, value in case["peak_bytes"].items()}
        if not peak:
            continue
        text = f"Peak memory of *{case['name']}*: " + ", ".join(f"{way} {size}" for way, size in peak.items())
        others = [value for way, value in case["peak_bytes"].items() if way != OURS]
        if others and OURS in case["peak_bytes"]:
            share = case["peak_bytes"][OURS] / min(others)
            text += f", a share of {share:.3f}"
            if case["memory_target"]:
                met = "met" if share <= case["memory_target"] else "**missed**"
                text += f" (asked for ≤ {case['memory_target']:g}, {met})"
        lines.append(f"- {text}.")
    return lines


def section(record: dict) -> list[str]:
    versions = ", ".join(f"{name} {number}" for name, number in record["versions"].items())
    lines = [
        f"## {record['title']}",
        "",
        f"    python benchmarks/bench_{record['name']}.py",
        "",
        record["what"],
        "",
    ]
    lines += [*table(record["cases"]), ""]
    notes = [f"- {case['name']}: {case['note']}" for case in record["cases"] if case["note"]]
    extra = memory(record["cases"]) + notes
    lines += [*extra, ""] if extra else []
    lines += [record["notes"], ""] if record["notes"] else []
    return [*lines, f"{record['machine']}; {versions}; {record['date']}.", ""]


def plot(records: list[dict]) -> bool:
    """Time and peak memory of each thing at several amounts of data, each relative to the smallest."""
    entries = [entry for record in records for entry in record["growth"]]
    if not entries:
        return False
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 2.4 * -(-len(entries) // 3)), layout="constrained")
    axes = figure.subplots(-(-len(entries) // 3), 3, squeeze=False).ravel()
    for axis, entry in zip(axes, entries):
        factors = [count / entry["items"][0] for count in entry["items"]]
        axis.plot(factors, factors, color="0.75", linewidth=1, linestyle="--")
        axis.plot(factors, entry["seconds"], "o-", color="#0072b2", label="seconds")
        axis.set_title(entry["name"], fontsize=9)
        axis.set_xticks(factors, [f"{count:,}" for count in entry["items"]], fontsize=8)
        axis.set_xlabel(entry["unit"], fontsize=8)
        axis.set_ylabel("seconds", color="#0072b2", fontsize=8)
        axis.tick_params(labelsize=8)
        axis.set_ylim(0, 1.1 * max(entry["seconds"]))
        axis.lines[0].set_ydata([entry["seconds"][0] * factor for factor in factors])
        right = axis.twinx()
        megabytes = [peak / 1e6 for peak in entry["peak_bytes"]]
        right.plot(factors, megabytes, "s--", color="#d55e00")
        right.set_ylabel("peak memory, MB", color="#d55e00", fontsize=8)
        right.set_ylim(0, max(1.0, 1.3 * max(megabytes)))
        right.tick_params(labelsize=8)
    for axis in axes[len(entries) :]:
        axis.remove()
    figure.savefig(PLOT, metadata={"Date": None})
    return True


def main() -> None:
    records = {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}
    unknown = sorted(set(records) - set(ORDER))
    if not records or unknown:
        sys.exit(
            f"{FOLDER} holds {unknown or 'no records'}; run the benchmarks first, and name new ones in ORDER."
        )
    listed = [records[name] for name in ORDER if name in records]
    lines = [
        "# Benchmarks",
        "",
        "Written by `make bench` from what it measured. In each comparison all ways get the same inputs and",
        "threads, repetition by repetition in turn, after a call to warm up, in one process unless the",
        "section says otherwise; times are medians with the range in brackets. *Faster* is against the",
        "fastest other way. Paragraphs on what was tried have their figures from measurements by hand.",
        "",
    ]
    for record in listed:
        lines += section(record)
    if plot(listed):
        lines += [
            "## Growth",
            "",
            "Seconds (blue, left; the dashed grey line is proportional growth) and peak memory beyond the",
            "data (orange, right) at one, two and four times the data, each in a process of its own.",
            "",
            f"![Time and memory against the amount of data]({PLOT.name})",
            "",
        ]
    PAGE.write_text("\n".join(lines))
    print(f"{PAGE.relative_to(ROOT)} is written, of {len(listed)} records; processor {processor()}")


if __name__ == "__main__":
    main()
