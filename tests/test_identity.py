"""What a run is known by: edited code trains anew and says what changed; code that takes no part does not."""

import ast
import importlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

import voclab
from voclab import losses
from voclab.data import batches, images
from voclab.data.splits import fit_validation
from voclab.errors import VoclabError
from voclab.models.prediction import TestTime
from voclab.training import Experiment, Parts, Recipe, Run, code, experiment, loop, segmentation
from voclab.training.code import code_digest, fingerprint
from voclab.training.identity import FORMAT, changes, digest, known_by

PACKAGE = Path(voclab.__file__).parent


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The package's source, to be edited."""
    folder = tmp_path_factory.mktemp("source") / "voclab"
    return shutil.copytree(PACKAGE, folder, ignore=shutil.ignore_patterns("weights", "__pycache__"))


@pytest.fixture
def edit(copy, monkeypatch):
    """Adds text to a module of the copy, from which digests are made, until the end of the test."""
    monkeypatch.setattr(code, "_ROOT", copy)
    whole = {}

    def edited(file, text):
        whole.setdefault(copy / file, (copy / file).read_text())
        (copy / file).write_text(whole[copy / file] + text)

    yield edited
    for path, text in whole.items():
        path.write_text(text)


def of_segmenter(*named):
    return {"format": FORMAT, "code": code_digest(experiment.run, segmentation.Segmentation, named=named)}


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("losses.py", "ALPHA = 1\n", ["voclab.losses changed"]),
        ("data/batches.py", "def more():\n    return 1\n", ["voclab.data.batches changed"]),
        ("training/loop.py", "import math\n", ["voclab.training.loop changed"]),
        ("models/segmenters.py", "if True:\n    pass\n", ["voclab.models.segmenters changed"]),
        ("losses.py", "\n\n# A comment.\n", []),
        ("cli/__init__.py", "EDITED = True\n", []),
        ("plotting/base.py", "EDITED = True\n", []),
        ("training/store.py", "EDITED = True\n", []),
        ("__init__.py", "__version__ = '0.2.0'\n", []),
    ],
)
def test_an_edit_of_a_module_that_takes_part_is_named_and_no_other(edit, file, text, said):
    before = of_segmenter()
    edit(file, text)
    assert changes(before, of_segmenter()) == said


@pytest.mark.parametrize(("text", "said"), [("def (", "cannot be read"), ("\0", "cannot be read")])
def test_a_source_that_cannot_be_read_counts_as_changed(edit, text, said):
    edit("losses.py", text)
    found = changes(of_segmenter(), of_segmenter())
    assert any(said in line for line in found)


def test_another_process_finds_the_same_code(tmp_path):
    script = "from voclab.training import segmentation\nfrom voclab.training.code import code_digest\n"
    script += "import json; print(json.dumps(code_digest(segmentation.Segmentation)))"
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": str(PACKAGE.parent)}
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, env=environment, check=True)
    assert json.loads(result.stdout) == code_digest(segmentation.Segmentation)


def test_a_digest_is_the_same_in_every_version_of_python():
    text = '''
"""Text."""
from __future__ import annotations
LIMIT: int = -1_000
@wraps(k=1)
async def f(x, /, y=2.50, *args: int, z: str = "a" "b", **kw) -> None:
    """More text."""
    if (n := len(x)) > 1e-3 and not z:  # a comment
        return f"{x!r:>{n}} {y:.2f} and {{}} {'nested'}" + rb"\\0".decode() + u"u"
    match x:
        case [1, *rest] | {"k": rest} if rest: pass
        case _: raise ValueError(x) from None
    async with a as b, c: del b
    try: return lambda q=..., *, r: [i async for i in q if i]
    except* (A, B) as e: return {**kw, "s": {1, 2}, None: x[1:2, ::3]}
class G(metaclass=M):
    """Text."""
'''
    assert code._digest(code.normalised(ast.parse(text))) == "49bb97915b731dce"


# --- code of the user ---

CELL = """
ALPHA = 0.5
def helper(x):
    return x * ALPHA
class Mine:
    "A loss."
    power = 2
    def __init__(self, gamma=1.0):
        self.gamma = gamma
    @property
    def whole(self):
        return self.gamma
    def of(self, x):
        return helper(x) ** self.power
"""


def cell(text, name="__main__"):
    """What a notebook has after a cell was run."""
    names = {"__name__": name}
    exec(compile(text, "<ipython-input-1>", "exec"), names)
    return names


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("", "", True),
        ("ALPHA = 0.5", "ALPHA = 0.6", False),
        ("x * ALPHA", "x + ALPHA", False),
        ("power = 2", "power = 3", False),
        ("gamma=1.0", "gamma=2.0", False),
        ("** self.power", "** self.gamma", False),
        ("class Mine:", "class Mine(dict):", False),
        ("A loss.", "A better loss.", True),
        ("def helper(x):", "# a comment\n\ndef helper(x):", True),
        ("ALPHA = 0.5", "ALPHA = 0.5\nunused = 3", True),
    ],
)
def test_an_edited_cell_is_another_loss(monkeypatch, old, new, same):
    found = []
    for text in (CELL, CELL.replace(old, new)):
        mine = cell(text)["Mine"]
        monkeypatch.setitem(losses.LOSSES, "mine", mine)
        found.append((of_segmenter("mine"), fingerprint(mine), fingerprint(mine()), code_digest(mine)))
    assert [a == b for a, b in zip(*found)] == [same] * 4
    assert changes(found[0][0], found[1][0]) == [] if same else ["voclab.losses.LOSSES['mine'] changed"]


def test_a_registered_loss_takes_part_only_where_it_is_named(monkeypatch):
    before = of_segmenter("dice")
    monkeypatch.setitem(losses.LOSSES, "mine", cell(CELL)["Mine"])
    assert of_segmenter("dice") == before
    monkeypatch.setitem(losses.LOSSES, "dice", losses.Focal)
    assert changes(before, of_segmenter("dice")) == ["voclab.losses changed"]


@pytest.mark.parametrize(
    ("target", "name", "value", "said"),
    [
        (batches, "augmenter", cell("def augmenter(*a): return None")["augmenter"], "data.batches.augmenter"),
        (losses.SoftDice, "of", cell("def of(self, pixels): return 0.0")["of"], "losses.SoftDice.of"),
        (experiment, "train", cell("def train(*a): return a")["train"], "training.experiment.train"),
        (experiment, "train", cell("def train(*a): return a", "own")["train"], "training.experiment.train"),
        (losses, "SoftDice", losses.Focal, "losses"),
        (images, "GREY", 0, "data.images"),
        (loop.Recipe, "patience", 3, "training.loop"),
    ],
)
def test_what_a_cell_replaces_in_the_package_takes_part(monkeypatch, target, name, value, said):
    before = of_segmenter()
    monkeypatch.setattr(target, name, value)
    assert f"voclab.{said} changed" in changes(before, of_segmenter())
    monkeypatch.undo()
    assert of_segmenter() == before


def test_code_that_refers_to_what_cannot_be_read_is_never_the_same(monkeypatch):
    mine = cell("handle = (n for n in ())\nmine = lambda: handle")["mine"]
    monkeypatch.setitem(losses.LOSSES, "mine", mine)
    said = "the code of voclab.losses.LOSSES['mine'] cannot be read, so it may have changed"
    assert changes(of_segmenter("mine"), of_segmenter("mine")) == [said]


def test_a_network_of_the_users_own_layers_is_known_by_their_code():
    found = []
    for rate in (2, 2, 3):
        text = "import keras\nclass Scale(keras.layers.Layer):\n"
        text += f"    def call(self, x):\n        return {rate} * x"
        inputs = keras.Input((4,))
        found.append(code_digest(keras.Model(inputs, cell(text)["Scale"]()(inputs))))
    assert found[0] == found[1] != found[2]
    assert list(found[0]) == ["__main__.Scale"]


def test_what_was_installed_is_a_library_and_the_users_own_module_is_read(tmp_path, monkeypatch):
    (tmp_path / "target" / "bought-1.0.dist-info").mkdir(parents=True)
    (tmp_path / "target" / "bought.py").write_text("def work(): return 1\n")
    (tmp_path / "own.py").write_text("import helper\nRATE = 1\ndef work(): return RATE\n")
    (tmp_path / "helper.py").write_text("def work(): return 1\n")
    for folder in (tmp_path / "target", tmp_path):
        monkeypatch.syspath_prepend(folder)
    bought, own = importlib.import_module("bought"), importlib.import_module("own")
    before = fingerprint(own), fingerprint(own.work)
    assert [code._is_users(module.__name__) for module in (bought, own, np, json, keras)] == [
        *(False, True, False, False, False)
    ]
    own.RATE = 2
    assert fingerprint(own.work) != before[1]
    (tmp_path / "helper.py").write_text("def work(): return 2\n")
    assert fingerprint(own) != before[0]
    for name in ("bought", "own", "helper"):
        monkeypatch.delitem(sys.modules, name)


def test_a_file_edited_while_it_is_in_use_is_refused(copy, monkeypatch):
    monkeypatch.setattr(code, "_ROOT", copy)
    path = copy / "fresh.py"
    path.write_text(
        "def work(n=1):\n    return n + 1\n\n\nclass Kind:\n    def call(self):\n        return 2\n"
    )
    spec = importlib.util.spec_from_file_location("voclab.fresh", path)
    fresh = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "voclab.fresh", fresh)
    spec.loader.exec_module(fresh)
    before, text = code_digest(fresh.work), path.read_text()
    for old, new in (("n + 1", "n - 1"), ("return 2", "return 3")):
        path.write_text(text.replace(old, new))
        with pytest.raises(VoclabError, match=r"fresh\.py was edited \([\w.]+\) .* restart the kernel"):
            code_digest(fresh.work)
    path.write_text(text + "# A comment.\n")
    assert code_digest(fresh.work) == before
    path.write_text(text.replace("n + 1", "n - 1"))
    exec(compile(path.read_bytes(), str(path), "exec"), vars(fresh))  # reloaded
    assert code_digest(fresh.work) != before


# --- the data ---


def test_an_edited_image_mask_or_class_name_is_other_data(squares):
    def edited(read, i):
        def other(k):
            array = read(k).copy()
            array[0, 0] += k == i
            return array

        return other

    found = {digest(squares, masks=True)}
    for other in (
        replace(squares, read_image=edited(squares.read_image, 47)),
        replace(squares, read_mask=edited(squares.read_mask, 30)),
        replace(squares, read_mask=None),
        replace(squares, class_names=("red", "green", "cyan")),
        replace(squares, labels=1 - squares.labels),
    ):
        found.add(digest(other, masks=True))
    assert len(found) == 6
    assert digest(replace(squares), masks=True) in found
    assert digest(replace(squares, read_mask=None)) == digest(squares)  # of no account for a classifier


# --- runs ---

FILES = ("model.keras", "predictions.npz", "test_masks.zip", "history.json")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A complete run of a tiny network, and its configuration."""
    run = Run(tmp_path_factory.mktemp("finished") / "run")
    config = known_by({"recipe": {"rate": 0.5}, "data": {"train": {"digest": "a"}}}, losses.get_loss)
    assert not run.begin(config, files=FILES, figures=("seconds",))
    inputs = keras.Input((2,))
    run.save_model(keras.Model(inputs, keras.layers.Dense(2)(inputs)))
    run.save_history([{"epoch": 0, "map": 0.1}])
    run.save_predictions(a=np.arange(1000.0))
    shutil.copy(run.folder / "predictions.npz", run.folder / "test_masks.zip")
    run.finish({"map": 0.5, "seconds": 1.0})
    return run.folder, config


def begun(folder, config):
    """(whether it was complete, what was said) of the run in a folder."""
    lines = []
    run = Run(folder)
    complete = run.begin(config, files=FILES, figures=("seconds",), progress=lines.append)
    if not complete:
        run._unlock()
    return complete, " ".join(lines)


def test_a_run_that_is_read_back_says_why(finished, tmp_path):
    folder, config = finished
    assert begun(folder, config) == (
        True,
        f"run: complete, read from {folder}: settings, data, weights and code are the same.",
    )
    made = {**config["made_with"], "keras": "3.99.0"}
    complete, said = begun(folder, {**config, "made_with": made})
    assert complete
    assert said.endswith(f"(made with keras {config['made_with']['keras']}; here 3.99.0).")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"recipe": {"rate": 0.25}}, "recipe.rate is 0.25 and was 0.5"),
        ({"data": {"train": {"digest": "b"}}}, r"the data changed \(train\)"),
        ({"weights": "0123456789abcdef"}, "weights"),
        ({"format": FORMAT + 1}, f"the format of run folders is {FORMAT + 1} and was {FORMAT}"),
        ({"code": {k: "0" for k in "abcdef"}}, r"a changed, .* and \d+ more"),
        ({"recipe": {"rate": 0.5, "mixup": 0.1}}, "recipe.mixup is new"),
    ],
)
def test_a_run_begun_anew_says_what_changed_and_keeps_the_old_one(finished, tmp_path, change, said):
    folder, config = shutil.copytree(finished[0], tmp_path / "run"), finished[1]
    (tmp_path / "run.old").mkdir()  # of an earlier change: it stays, too
    complete, line = begun(folder, config | change)
    assert not complete
    assert re.search(rf"^run: begun anew, since .*{said}.*; the old run is kept in .*run\.old-2\.$", line)
    assert Run(tmp_path / "run.old-2").metrics == {"map": 0.5, "seconds": 1.0}
    assert {p.name for p in folder.iterdir()} == {"config.json"}
    assert list((tmp_path / "run.old").iterdir()) == []


def cut(path):
    path.write_bytes(path.read_bytes()[:-40])


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [cut, flip, Path.unlink, lambda path: path.write_bytes(b"")])
@pytest.mark.parametrize("name", ["model.keras", "predictions.npz", "test_masks.zip"])
def test_a_complete_run_with_a_damaged_file_is_trained_again(finished, tmp_path, name, damage):
    folder = shutil.copytree(finished[0], tmp_path / "run")
    damage(folder / name)
    complete, line = begun(folder, finished[1])
    assert not complete
    assert f"begun anew, since its {name} is" in line
    assert (tmp_path / "run.old" / "metrics.json").is_file()


@pytest.mark.parametrize("text", ["{", "[]", "3", "null", "{}", '{"map": 0.5}', "[" * 100_000, "\0"])
@pytest.mark.parametrize("name", ["metrics.json", "config.json", "history.json"])
def test_a_complete_run_with_a_damaged_text_is_trained_again(finished, tmp_path, name, text):
    if (name, text) == ("history.json", "[]"):
        return  # a run of no epochs
    folder = shutil.copytree(finished[0], tmp_path / "run")
    (folder / name).write_text(text)
    complete, line = begun(folder, finished[1])
    assert not complete
    assert "begun anew, since" in line
    assert "\n" not in line
    assert (tmp_path / "run.old" / "model.keras").is_file()


def test_a_training_whose_best_model_is_damaged_does_not_go_on_with_it(finished, tmp_path):
    folder = shutil.copytree(finished[0], tmp_path / "run")
    (folder / "metrics.json").unlink()
    (folder / "resume").mkdir()
    (folder / "resume" / "state.json").write_text(json.dumps({"history": [{"epoch": 0}, {"epoch": 1}]}))
    assert begun(folder, finished[1]) == (False, "")  # goes on
    cut(folder / "model.keras")
    complete, line = begun(folder, finished[1])
    assert not complete
    assert "since its model.keras is damaged" in line


def test_a_missing_figure_is_a_sentence(finished):
    with pytest.raises(VoclabError, match=r"metrics\.json has no 'dice'; delete .* and run again"):
        Run(finished[0]).metrics["dice"]


def test_an_edited_loss_trains_anew(squares, tmp_path, monkeypatch):
    parts = Parts(*fit_validation(squares, 0.25, seed=0), squares.subset(range(4), "test"))
    mine = Experiment(
        "mine",
        segmentation.Segmentation(TestTime((32,))),
        "unet",
        Recipe(32, "standard", 1, 1e-3, batch_size=36),
        loss="mine",
        options={"width": 2, "depth": 1},
    )
    text = "import keras\nclass Mine(keras.losses.Loss):\n    def call(self, y, z):\n"
    text += "        return keras.ops.mean(z * 2.0)"

    def trained(text):
        lines = []
        monkeypatch.setitem(losses.LOSSES, "mine", cell(text)["Mine"])
        run = experiment.run(mine, parts, tmp_path, progress=lines.append)
        return run.history[-1]["loss"], lines[0]

    first, _ = trained(text)
    again, line = trained(text)
    assert again == first
    assert line.endswith("settings, data, weights and code are the same.")
    other, line = trained(text.replace("2.0", "20.0"))
    assert abs(other) > 2 * abs(first)
    kept = tmp_path / "mine.old"
    assert (
        line
        == f"mine: begun anew, since voclab.losses.LOSSES['mine'] changed; the old run is kept in {kept}."
    )
    assert Run(kept).history[-1]["loss"] == first
