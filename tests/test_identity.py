"""What a run is known by: edited code trains anew and says what changed; code that takes no part does not."""

import ast
import importlib.util
import json
import re
import shutil
import sys
import types
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

import voclab
from voclab import losses
from voclab.data.splits import fit_validation
from voclab.errors import VoclabError
from voclab.models.prediction import TestTime
from voclab.training import Experiment, Parts, Recipe, Run, code, experiment, segmentation
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
    """Edits a file of the copy, from which digests are made, until the end of the test."""
    monkeypatch.setattr(code, "_ROOT", copy)
    whole = {}

    def edited(file, old, new):
        path = copy / file
        whole.setdefault(path, path.read_text())
        text = path.read_text()
        assert text.count(old) >= 1, f"{file} has no {old!r}"
        path.write_text(text.replace(old, new))

    yield edited
    for path, text in whole.items():
        path.write_text(text)


def of_segmenter(named=("unet", "dice", "standard")):
    return {"format": FORMAT, "code": code_digest(experiment.run, segmentation.Segmentation, named=named)}


_NORMALISED = "voclab.models.segmenters.conv_norm_relu"
TAKES_PART = [
    ("losses.py", "2 * common", "3 * common", "voclab.losses.SoftDice"),
    ("losses.py", "ops.where(total > 0, total, 1.0)", "ops.maximum(total, 1.0)", "voclab.losses._ratio"),
    ("losses.py", "y_true, y_pred):", "y_true, y_pred, more=None):", "voclab.losses.Pixels"),
    ("losses.py", "def _mean(", "SoftDice.of = CrossEntropy.of\n\n\ndef _mean(", "voclab.losses(on import)"),
    ("losses.py", '"dice": SoftDice', '"dice": Focal', "voclab.losses.LOSSES"),
    (
        "backend.py",
        "def share_of_mean(loss):",
        "def share_of_mean(loss, n=1):",
        "voclab.backend.share_of_mean",
    ),
    ("data/images.py", "GREY = 124", "GREY = 125", "voclab.data.images.GREY"),
    ("data/batches.py", "scale=(0.35, 1.0)", "scale=(0.5, 1.0)", "voclab.data.batches.augmenter"),
    ("training/loop.py", "5.0 / replicas()", "1.0 / replicas()", "voclab.training.loop.make_optimizer"),
    ("training/loop.py", "self.model.stop_training = True", "pass", "voclab.training.loop._Keeper"),
    ("training/loop.py", "warmup: float = 1.0", "warmup: float = 2.0", "voclab.training.loop.Recipe"),
    (
        "models/segmenters.py",
        '"padding": "same"',
        '"padding": "valid"',
        "voclab.models.segmenters.conv_norm_relu",
    ),
    ("models/prediction.py", "_MULTIPLE = 32", "_MULTIPLE = 16", "voclab.models.prediction._MULTIPLE"),
]


@pytest.mark.parametrize(("file", "old", "new", "name"), TAKES_PART, ids=[row[-1] for row in TAKES_PART])
def test_an_edit_of_what_takes_part_is_named(edit, file, old, new, name):
    before = of_segmenter()
    edit(file, old, new)
    assert any(f"{name} changed" == said for said in changes(before, of_segmenter()))


def test_what_takes_no_part_may_be_edited(edit):
    before = of_segmenter()
    for file in (
        "cli.py",
        "commands.py",
        "report.py",
        "gallery.py",
        "figures/base.py",
        "submission/score.py",
    ):
        path = code._ROOT / file
        edit(file, path.read_text(), path.read_text() + "\nEDITED = True\n")
    edit("losses.py", "# one_hot leaves", "# One_hot  leaves")
    edit("losses.py", '"""Soft Dice: 1', '"""Soft  Dice: 1')
    edit("losses.py", "return part / ops", "return (  # laid out otherwise\n        part) / ops")
    edit("losses.py", "gamma: float = 2.0", "gamma: float = 3.0")  # another loss
    edit("losses.py", "def _mean(", "def unused():\n    return 1\n\n\ndef _mean(")
    edit("training/run.py", "begun anew", "started anew")  # keeps and tells
    edit("__init__.py", '__version__ = "0.1.0"', '__version__ = "0.2.0"')
    assert of_segmenter() == before
    edit("losses.py", "gamma: float = 3.0", "gamma: float = 4.0")
    assert of_segmenter(("unet", "focal")) != of_segmenter(("unet", "dice"))


def test_every_kind_of_run_reaches_what_computes_it():
    from voclab.attacks import adversary, defence
    from voclab.evaluation import robustness
    from voclab.experiments import fooling, training
    from voclab.training import classification, experiment, source

    for work, names in (
        (experiment.run, ("training.loop",)),
        (
            classification.MultiLabelClassification,
            ("data.batches", "training.features", "models.classifiers", "models.cnn", "training.loop"),
        ),
        (segmentation.Segmentation, ("losses", "training.loop", "metrics.segmentation")),
        (source.pretrain_source, ("training.loop", "models.cnn")),
        (adversary.run_experiment, ("attacks.target", "attacks.budget", "models.generator", "training.loop")),
        (defence.harden, ("attacks.gradient", "attacks.target", "training.loop", "data.batches")),
        (training._fit, ("models.zoo", "models.small", "data.batches", "attacks.gradient", "training.loop")),
        (
            fooling.Measurements,
            ("attacks.gradient", "attacks.measures", "attacks.budget", "metrics.segmentation"),
        ),
        (robustness._conditions, ("attacks.gradient", "corruptions.perturbations", "corruptions.textures")),
        (robustness._corruptions, ("corruptions.imagenet_c", "corruptions.textures", "attacks.measures")),
        (robustness._consistent, ("evaluation.consistency", "corruptions.perturbations")),
    ):
        found = code_digest(work)
        assert {f"voclab.{name}" for name in names} <= found.keys(), work
        rooms = {module.split(".")[1] for module in found}
        assert not rooms & {"plotting", "cli", "reporting"}, work


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
    assert code._digest(code.normalised(ast.parse(text))) == "49bb9791"


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
    def of(self, x):
        return helper(x) ** self.power
"""


def cell(text):
    """What a notebook has after a cell was run."""
    names = {"__name__": "__main__"}
    exec(compile(text, "<ipython-input-1>", "exec"), names)
    return names


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
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
        found.append((of_segmenter(("unet", "mine")), fingerprint(mine), fingerprint(mine())))
    assert [a == b for a, b in zip(*found)] == [same] * 3
    if not same:
        assert changes(found[0][0], found[1][0]) == ["voclab.losses.LOSSES changed"]


def test_a_registered_loss_takes_part_only_where_it_is_named(monkeypatch):
    before = of_segmenter()
    monkeypatch.setitem(losses.LOSSES, "mine", cell(CELL)["Mine"])
    assert of_segmenter() == before
    monkeypatch.setitem(losses.LOSSES, "dice", losses.Focal)
    assert changes(before, of_segmenter())[0].startswith("voclab.losses.")


def test_what_a_cell_replaces_in_the_package_takes_part(monkeypatch):
    from voclab.data import batches
    from voclab.training import loop

    before = of_segmenter()
    mine = cell("def train(*a, **k): return a[0]")["train"]
    for target, name, value, said in (
        (
            batches,
            "augmentation",
            cell("def augmentation(policy, size): return None")["augmentation"],
            "data.batches",
        ),
        (batches, "GREY", 0, "batches.GREY"),
        (losses.SoftDice, "of", cell("def of(self, pixels): return 0.0")["of"], "losses.SoftDice"),
        (
            loop.train,
            "__kwdefaults__",
            {**loop.train.__kwdefaults__, "monitor": "dice"},
            "training.loop.train",
        ),
        (loop.Recipe, "patience", 3, "training.loop.Recipe"),
        (
            experiment,
            "train",
            mine,
            "training.experiment.train",
        ),
    ):
        with monkeypatch.context() as patched:
            patched.setattr(target, name, value)
            assert any(f"voclab.{said}" in line for line in changes(before, of_segmenter())), name
        assert of_segmenter() == before


def test_code_that_cannot_be_read_is_never_the_same(monkeypatch):
    monkeypatch.setitem(
        losses.LOSSES, "mine", cell(f"handle = open({str(__file__)!r})\nmine = lambda: handle")["mine"]
    )
    found = changes(of_segmenter(("unet", "mine")), of_segmenter(("unet", "mine")))
    assert found == ["the code of voclab.losses.LOSSES cannot be read, so it may have changed"]


def test_what_was_installed_anywhere_is_a_library_and_what_lies_beside_it_is_not(tmp_path, monkeypatch):
    (tmp_path / "bought-1.0.dist-info").mkdir()
    (tmp_path / "bought-1.0.dist-info" / "RECORD").write_text("bought/__init__.py,,\n")
    (tmp_path / "bought").mkdir()
    files = tmp_path / "bought" / "__init__.py", tmp_path / "own.py"
    for file in files:
        file.write_text("def work(): return 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("bought", "own"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    bought, own = importlib.import_module("bought"), importlib.import_module("own")
    assert [code._is_users(value) for value in (bought, bought.work, own, own.work)] == [False] * 2 + [
        True
    ] * 2
    for name in ("bought", "own"):
        monkeypatch.delitem(sys.modules, name)


def test_a_compiled_module_of_the_user_is_known_by_its_bytes(tmp_path, monkeypatch):
    module = types.ModuleType("compiled_by_the_user")
    module.__file__ = str(tmp_path / "compiled_by_the_user.so")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    found = []
    for content in (b"\x7fELF\0one", b"\x7fELF\0one", b"\x7fELF\0two"):
        Path(module.__file__).write_bytes(content)
        found.append(fingerprint(module))
    assert found[0] == found[1] != found[2]


def test_a_file_edited_while_it_is_in_use_is_refused(copy, monkeypatch):
    monkeypatch.setattr(code, "_ROOT", copy)
    path = copy / "fresh.py"
    path.write_text("RATE = 1\n\n\ndef work(n=1):\n    return n + RATE\n\n\nclass Kind:\n    k = 1\n")
    spec = importlib.util.spec_from_file_location("voclab.fresh", path)
    fresh = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "voclab.fresh", fresh)
    spec.loader.exec_module(fresh)
    parts = fresh.work, fresh.Kind
    before = code_digest(*parts)
    for old, new in (("n + RATE", "n - RATE"), ("RATE = 1", "RATE = 2"), ("n=1", "n=2"), ("k = 1", "k = 2")):
        text = path.read_text()
        path.write_text(text.replace(old, new))
        with pytest.raises(VoclabError, match=r"fresh\.py was edited \(\w+\) .* restart the kernel"):
            code_digest(*parts)
        path.write_text(text)
    assert code_digest(*parts) == before
    path.write_text(path.read_text().replace("n + RATE", "n - RATE"))
    exec(compile(path.read_bytes(), str(path), "exec"), vars(fresh))  # reloaded
    assert code_digest(fresh.work, fresh.Kind) != before


def test_a_module_without_its_source_is_known_by_what_was_compiled(copy, monkeypatch):
    monkeypatch.setattr(code, "_ROOT", copy)
    (copy / "compiled.pyc").write_bytes(bytes(16) + b"code")
    module = types.ModuleType("voclab.compiled")
    exec("def work(): pass", vars(module))
    before = code_digest(module.work)
    assert list(before) == ["voclab.compiled"]
    (copy / "compiled.pyc").write_bytes(bytes(16) + b"other code")
    assert code_digest(module.work) != before


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
        ({"code": {"voclab.losses": "get_loss 00000000"}}, r"changed, .* and \d+ more"),
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


def test_a_run_of_an_earlier_version_is_kept_aside(finished, tmp_path):
    folder = shutil.copytree(finished[0], tmp_path / "run")
    (folder / "config.json").write_text(json.dumps({"recipe": {"rate": 0.5}, "version": "0.1.0"}))
    complete, line = begun(folder, finished[1])
    assert not complete
    assert "since it was made before runs kept the code that makes them; the old run is kept" in line


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
    assert line == f"mine: begun anew, since voclab.losses.LOSSES changed; the old run is kept in {kept}."
    assert Run(kept).history[-1]["loss"] == first


def test_code_that_ends_in_an_error_when_it_is_read_is_never_the_same(monkeypatch):
    def broken(self, part):
        raise RecursionError("too deep, and deeper")

    monkeypatch.setattr(code._Tracer, "start", broken)
    first, second = (known_by({}, len) for _ in range(2))
    (said,) = changes(first, second)
    assert "RecursionError: too deep; and deeper" in said
    assert "cannot be read, so it may have changed" in said
