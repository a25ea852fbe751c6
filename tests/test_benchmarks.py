"""The benchmarks run, time what they say, and their page tells a target that is met from a missed one."""

import importlib
import subprocess
import sys
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from colour_networks import SIZE, colour_classifier, colour_segmenter, painted
from PIL import Image

from toyvoc.cifar import make_toycifar
from voclab.app.demo import Answers
from voclab.data.images import at_size
from voclab.experiments.cifar10 import small
from voclab.training import Run

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def module(monkeypatch):
    """Imports a module of benchmarks/, which is a folder of scripts, and forgets it afterwards."""
    monkeypatch.syspath_prepend(str(FOLDER))

    def load(name):
        monkeypatch.delitem(sys.modules, name, raising=False)
        loaded = importlib.import_module(name)
        monkeypatch.setitem(sys.modules, name, loaded)
        return loaded

    return load


# Not bench_training: it compiles five large networks, which takes a minute whatever the data.
@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        *("submission", "metrics", "attacks", "adversary", "export", "start"),
        # Not importorskip: after TensorFlow, which is there already, the import crashes.
        pytest.param("torch", marks=pytest.mark.skipif(not find_spec("torch"), reason="needs PyTorch")),
    ],
)
def test_a_benchmark_runs_on_little_data_and_leaves_the_record_alone(name):
    records = FOLDER.parent / "runs" / "benchmarks" / f"{name}.json"
    before = records.read_bytes() if records.exists() else None
    command = [sys.executable, str(FOLDER / f"bench_{name}.py"), "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    assert "voclab" in done.stdout
    assert (records.read_bytes() if records.exists() else None) == before


def test_the_picture_of_readme_says_what_the_networks_say_of_the_bytes(module, tmp_path):
    script = module("ready_picture")
    answers, photo = Answers(colour_classifier(), colour_segmenter()), painted("red")
    before, _, text, after = script.row(answers, photo)
    done = answers.attack(photo, "PGD", script.EPSILON)
    change = done.image.astype(int) - at_size(photo, SIZE)
    assert np.abs(change).max() == script.EPSILON
    psnr = 10 * np.log10(255**2 / np.mean(change**2))
    assert text == f"at most 4 of 255\nPSNR {psnr:.0f} dB"
    assert (before.classes, after.classes) == (answers.look(photo).classes, answers.look(done.image).classes)
    assert before.present == {"red"}
    assert before.image.shape == after.image.shape == (*before.labels.shape, 3)
    drawn = script.draw(answers, [photo], tmp_path)
    assert drawn == tmp_path / "ready.png"
    with Image.open(drawn) as picture:
        assert picture.width > 1500


def test_ways_are_timed_in_turn_after_a_call_of_each_that_is_not_counted(module):
    calls = []
    seconds = module("common").timed(
        {"voclab": lambda: calls.append("a"), "other": lambda: calls.append("b")}, 3
    )
    assert calls == ["a", "b"] * 4
    assert [len(values) for values in seconds.values()] == [3, 3]


def test_traced_memory_is_the_peak_and_not_what_is_left(module):
    def allocate():
        np.ones(10**6)

    assert 8e6 <= module("common").traced_memory(allocate) < 9e6


@pytest.mark.parametrize(
    ("ours", "limits", "expected"),
    [
        (1.0, {"target": 2.0}, ("3.0 ×", "≥ 2 ×, met")),
        (1.0, {"target": 5.0}, ("3.0 ×", "≥ 5 ×, **missed**")),
        (1.0, {"limit": 2.0}, ("1 s", "≤ 2 s, met")),
        (4.0, {"limit": 2.0}, ("4 s", "≤ 2 s, **missed**")),
        (6.0, {}, ("0.50 ×", "–")),
    ],
)
def test_the_page_compares_with_the_fastest_other_way(module, ours, limits, expected):
    case = module("common").Case("x", {"voclab": [ours] * 3, "slow": [9.0] * 3, "fast": [3.0] * 3}, **limits)
    assert module("write_page").verdict(asdict(case)) == expected


def test_times_are_written_for_one_item_in_a_unit_that_suits_them(module):
    page = module("write_page")
    assert page.spread([0.2, 0.1, 0.4], 100) == "2 ms (1 ms to 4 ms)"
    assert page.scaled(2.5) == "2.5 s"
    assert page.scaled(3e-7) == "0.3 µs"


@pytest.mark.parametrize("other", [0, 1])
def test_the_page_of_reliability_counts_what_is_no_error_of_ours(
    module, tmp_path, monkeypatch, capsys, other
):
    script = module("reliability")
    fault = {"number": 3, "kind": "other", "damage": "a.png: cut", "text": "IndexError"}
    found = {
        "files": 4,
        "read": 1,
        "refused": 3 - other,
        "other": other,
        "faults": [fault] * other,
        "noise": {},
    }
    monkeypatch.setattr("fuzzing.run", lambda files, seed, progress: {"images": found, "masks": found})
    lines, sound = script.fuzz(8, 0)
    assert sound == (not other)
    assert lines[-1] == f"| **all** | 8 | 2 | {6 - 2 * other} | {2 * other} |"
    assert ("a.png: cut" in capsys.readouterr().err) == bool(other)
    page = tmp_path / "page.md"
    page.write_text("# A\n\n<!-- fuzz -->\nold\n<!-- /fuzz -->\n\nrest\n")
    for _ in range(2):  # what stands between the marks is replaced, and nothing else
        script.write("fuzz", "python it", lines, page)
    text = page.read_text()
    assert text.startswith("# A\n\n<!-- fuzz -->\n\n    python it\n\n| input |")
    assert text.endswith(".\n<!-- /fuzz -->\n\nrest\n")
    assert "old" not in text
    assert text.count("python it") == 1


def test_the_page_of_reliability_counts_kills(module, monkeypatch):
    script = module("reliability")
    sound = {"kills": 20, "faults": [], "unbroken": {"a": "1"}, "resumed": [{"a": "1"}] * 5}
    reports = {
        "pushing": {**sound, "sent": {"x": 1, "y": 2}},
        "writing": {**sound, "resumed": [{"a": "1"}, {}]},
    }
    monkeypatch.setattr("killing.killed", lambda kind, *_: reports.get(kind, sound))
    monkeypatch.setattr("killing.killed_push", lambda *_: reports["pushing"])
    monkeypatch.setattr("killing.killed_fetch", lambda *_: sound)
    lines, ended_well = script.kill(100, 0)
    assert not ended_well
    rows = {line.split(" | ")[0]: line.split(" | ")[1:] for line in lines[2:]}
    assert rows["| " + script.KILLS["pushing"][0]] == ["20", "5", "0 |"]
    assert rows["| " + script.KILLS["writing"][0]] == ["20", "2", "1 |"]
    assert rows["| " + script.KILLS["making"][0]] == ["20", "5", "5 |"]


def test_robust_trainings_are_measured_on_all_test_images_and_read_back(
    module, tmp_path, monkeypatch, capsys
):
    script, runs = module("real_cifar"), tmp_path / "runs"
    root = make_toycifar(tmp_path / "toy", train=60, test=20, progress=False)
    options = small("small_cnn", "adversarial", 1, 0.05, width=4, steps=1, batch_size=16, trades=1.0)
    monkeypatch.setattr(script.hardening, "ROBUST", {"tiny": options})
    monkeypatch.setattr(script, "WORST", {"steps": 3, "targets": 2, "queries": 3})
    table = script.robust(str(root), str(runs))
    found = {title: float(text.split()[0]) for title, text in table.loc["tiny"].items() if "[" in str(text)}
    assert found["clean"] == Run(runs / "tiny").metrics["test"]["accuracy"]
    assert found["PGD either"] <= min(found["PGD cross-entropy"], found["PGD margin"]) <= found["clean"]
    assert found["worst case"] <= found["clean"]
    capsys.readouterr()
    assert script.robust(str(root), str(runs)).equals(table)
    assert capsys.readouterr().out.count("complete, read from") == 2
